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
    VECTORS = 4,
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

INLINE vector load_bytes(const uint8_t *p)
{
    return load_ymm(p);
}

INLINE void store_flipped(const int8_t *x, uint8_t *out)
{
    store_ymm(out, _mm256_xor_si256(load_ymm(x), _mm256_set1_epi8(-128)));
}

/* By lanes of 16 bytes: four dwords of each lane in each vector, as channel_of says. */
INLINE void interleave(const __m256i r[4], __m256i out[4])
{
    const __m256i a = _mm256_unpacklo_epi8(r[0], r[1]), b = _mm256_unpackhi_epi8(r[0], r[1]);
    const __m256i c = _mm256_unpacklo_epi8(r[2], r[3]), d = _mm256_unpackhi_epi8(r[2], r[3]);
    out[0] = _mm256_unpacklo_epi16(a, c);
    out[1] = _mm256_unpackhi_epi16(a, c);
    out[2] = _mm256_unpacklo_epi16(b, d);
    out[3] = _mm256_unpackhi_epi16(b, d);
}

/* `count` channels n ... of a pixel, each read by `multiplier` channels of the output. Of a pixel
 * before `end` 32 bytes lie in the row. */
INLINE __m256i load_values(const int8_t *pixel, const int8_t *end, size_t multiplier, size_t n,
                           size_t count)
{
    const __m256i flip = _mm256_set1_epi8(-128);
    int8_t values[32] = {0};
    if (multiplier == 1 && (count == 32 || pixel < end))
        return _mm256_xor_si256(load_ymm(pixel + n), flip);
    if (multiplier == 1)
        memcpy(values, pixel + n, count);
    else
        for (size_t i = 0; i < count; i++)
            values[i] = pixel[(n + i) / multiplier];
    return _mm256_xor_si256(load_ymm(values), flip);
}

/* Rows of the padding, and those that fill the last group up, whose weights are 0, are x_zero. */
INLINE void fill_columns_of(const size_t height, const size_t multiplier, const size_t count,
                            const eq_depthwise *d, const int8_t *const *rows, ptrdiff_t place,
                            size_t columns, size_t n, uint8_t *out)
{
    const __m256i padding = _mm256_set1_epi8((char)(d->params.x_zero + 128));
    const size_t depth = d->channels / multiplier, bytes = d->width * depth;
    const size_t whole = bytes < n + 32 ? 0 : bytes - n - 31; /* pixels before it: load_values */

    for (; columns > 0; columns--, place += (ptrdiff_t)d->dilation) {
        const bool inside = place >= 0 && place < (ptrdiff_t)d->width;
        const size_t at = (size_t)place * depth;
        for (size_t i = 0; i < height; i += ROWS, out += 128) {
            __m256i r[ROWS], dwords[4];
#pragma GCC unroll 4
            for (size_t k = 0; k < ROWS; k++) {
                const int8_t *row = inside && i + k < height ? rows[i + k] : NULL;
                r[k] = row ? load_values(row + at, row + whole, multiplier, n, count) : padding;
            }
            interleave(r, dwords);
#pragma GCC unroll 4
            for (size_t k = 0; k < 4; k++)
                store_ymm(out + 32 * k, dwords[k]);
        }
    }
}

static TARGET void fill_columns(const eq_depthwise *d, const int8_t *const *rows, ptrdiff_t place,
                                size_t columns, size_t n, size_t count, uint8_t *out)
{
    if (d->kernel_h == 3 && d->multiplier == 1 && count == 32)
        fill_columns_of(3, 1, 32, d, rows, place, columns, n, out);
    else if (d->kernel_h == 3 && d->multiplier == 1)
        fill_columns_of(3, 1, count, d, rows, place, columns, n, out);
    else
        fill_columns_of(d->kernel_h, d->multiplier, count, d, rows, place, columns, n, out);
}

#define NARROW_GROUPS
#include "kernels/x86/depthwise.h"

#endif
