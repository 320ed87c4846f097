/* SPDX-License-Identifier: Apache-2.0
 *
 * depthwise by 256-bit vpdpbusd: four rows of a column interleaved to a dword a channel. The
 * including file defines TARGET, DOT (the instruction) and DOT_REGISTER. */
#ifndef EQ_KERNELS_X86_YMM_DEPTHWISE_H
#define EQ_KERNELS_X86_YMM_DEPTHWISE_H

#include "kernels/x86/ymm.h"

typedef int8_t weight;
typedef __m256i vector;
enum {
    VECTORS = 2,
    CHUNK = 32,
    ROWS = 4,
    VALUE_OFFSET = 128, /* bytes are x + 128 */
    WEIGHT_MIN = -128,
    WEIGHT_MAX = 127
};

INLINE vector load_vector(const void *p)
{
    return load_ymm(p);
}

INLINE __m256i dot(__m256i acc, __m256i u, __m256i s)
{
    __asm__(DOT : "+" DOT_REGISTER(acc) : DOT_REGISTER(u), DOT_REGISTER(s));
    return acc;
}

/* Swapping the middle quarters of the rows lets the unpacks end in groups of 16 channels, ordered
 * as channel_of says. */
INLINE __m256i swap_middle(__m256i row)
{
    return _mm256_permute4x64_epi64(row, 0xD8);
}

/* Stores the second half only where more than 16 channels are there. */
INLINE void interleave(__m256i r0, __m256i r1, __m256i r2, __m256i r3, size_t count, uint8_t *out)
{
    const __m256i a = _mm256_unpacklo_epi8(r0, r1), b = _mm256_unpackhi_epi8(r0, r1);
    const __m256i c = _mm256_unpacklo_epi8(r2, r3), d = _mm256_unpackhi_epi8(r2, r3);
    store_ymm(out, _mm256_unpacklo_epi16(a, c));
    store_ymm(out + 32, _mm256_unpackhi_epi16(a, c));
    if (count > 16) {
        store_ymm(out + 64, _mm256_unpacklo_epi16(b, d));
        store_ymm(out + 96, _mm256_unpackhi_epi16(b, d));
    }
}

/* `count` channels n ... of a pixel, each read by `multiplier` channels of the output. */
INLINE __m256i load_values(const int8_t *pixel, size_t multiplier, size_t n, size_t count)
{
    const __m256i flip = _mm256_set1_epi8(-128);
    int8_t values[CHUNK] = {0};
    if (multiplier == 1 && count == CHUNK)
        return swap_middle(_mm256_xor_si256(load_ymm(pixel + n), flip));
    if (multiplier == 1 && count == 16) {
        const __m128i half = _mm_loadu_si128((const __m128i *)(const void *)(pixel + n));
        return swap_middle(_mm256_xor_si256(_mm256_castsi128_si256(half), flip));
    }
    if (multiplier == 1 && count == 8) {
        const __m128i half = _mm_loadl_epi64((const __m128i *)(const void *)(pixel + n));
        return swap_middle(_mm256_xor_si256(_mm256_castsi128_si256(half), flip));
    }
    if (multiplier == 1)
        memcpy(values, pixel + n, count);
    else
        for (size_t i = 0; i < count; i++)
            values[i] = pixel[(n + i) / multiplier];
    return swap_middle(_mm256_xor_si256(load_ymm(values), flip));
}

/* Rows of the padding, and those that fill the last group up, whose weights are 0, are x_zero. */
INLINE void fill_columns_of(const size_t height, const size_t multiplier, const size_t count,
                            const eq_depthwise *d, const int8_t *const *rows, ptrdiff_t place,
                            size_t columns, size_t n, uint8_t *out)
{
    const __m256i padding = _mm256_set1_epi8((char)(d->params.x_zero + 128));
    const size_t depth = d->channels / multiplier;

    for (; columns > 0; columns--, place += (ptrdiff_t)d->dilation) {
        const bool inside = place >= 0 && place < (ptrdiff_t)d->width;
        const size_t at = (size_t)place * depth;
        for (size_t i = 0; i < height; i += ROWS, out += CHUNK * ROWS) {
            __m256i r[ROWS];
#pragma GCC unroll 4
            for (size_t k = 0; k < ROWS; k++) {
                const int8_t *row = inside && i + k < height ? rows[i + k] : NULL;
                r[k] = row ? load_values(row + at, multiplier, n, count) : padding;
            }
            interleave(r[0], r[1], r[2], r[3], count, out);
        }
    }
}

static TARGET void fill_columns(const eq_depthwise *d, const int8_t *const *rows, ptrdiff_t place,
                                size_t columns, size_t n, size_t count, uint8_t *out)
{
    if (d->kernel_h == 3 && d->multiplier == 1 && count == CHUNK)
        fill_columns_of(3, 1, CHUNK, d, rows, place, columns, n, out);
    else if (d->kernel_h == 3 && d->multiplier == 1 && count == CHUNK / 2)
        fill_columns_of(3, 1, CHUNK / 2, d, rows, place, columns, n, out);
    else if (d->kernel_h == 3 && d->multiplier == 1 && count == 8)
        fill_columns_of(3, 1, 8, d, rows, place, columns, n, out);
    else
        fill_columns_of(d->kernel_h, d->multiplier, count, d, rows, place, columns, n, out);
}

#include "kernels/x86/depthwise.h"

#endif
