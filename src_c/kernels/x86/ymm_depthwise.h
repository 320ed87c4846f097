/* SPDX-License-Identifier: Apache-2.0
 *
 * depthwise by 256-bit vpdpbusd: groups of 32 channels, four rows of a column interleaved to a
 * dword a channel. The including file defines TARGET, DOT (the instruction) and DOT_REGISTER. */
#ifndef EQ_KERNELS_X86_YMM_DEPTHWISE_H
#define EQ_KERNELS_X86_YMM_DEPTHWISE_H

#include "kernels/x86/ymm.h"

typedef int8_t weight;
enum {
    VECTORS = 4,
    CHANNELS = VECTORS * LANES,
    ROWS = 4,
    BYTES = CHANNELS * ROWS,
    VALUE_OFFSET = 128, /* bytes are x + 128 */
    WEIGHT_MIN = -128,
    WEIGHT_MAX = 127
};

INLINE __m256i dot(__m256i acc, __m256i u, __m256i s)
{
    __asm__(DOT : "+" DOT_REGISTER(acc) : DOT_REGISTER(u), DOT_REGISTER(s));
    return acc;
}

INLINE void interleave(__m256i r0, __m256i r1, __m256i r2, __m256i r3, uint8_t *out)
{
    const __m256i a = _mm256_unpacklo_epi8(r0, r1), b = _mm256_unpackhi_epi8(r0, r1);
    const __m256i c = _mm256_unpacklo_epi8(r2, r3), d = _mm256_unpackhi_epi8(r2, r3);
    store_ymm(out, _mm256_unpacklo_epi16(a, c));
    store_ymm(out + 32, _mm256_unpackhi_epi16(a, c));
    store_ymm(out + 64, _mm256_unpacklo_epi16(b, d));
    store_ymm(out + 96, _mm256_unpackhi_epi16(b, d));
}

/* `count` channels n ... of a pixel, each read by `multiplier` channels of the output. */
INLINE __m256i load_values(const int8_t *pixel, size_t multiplier, size_t n, size_t count)
{
    const __m256i flip = _mm256_set1_epi8(-128);
    int8_t values[CHANNELS] = {0};
    if (count == CHANNELS && multiplier == 1)
        return _mm256_xor_si256(load_ymm(pixel + n), flip);
    if (count == 16 && multiplier == 1) {
        const __m128i half = _mm_loadu_si128((const __m128i *)(const void *)(pixel + n));
        return _mm256_xor_si256(_mm256_castsi128_si256(half), flip);
    }
    if (multiplier == 1)
        memcpy(values, pixel + n, count);
    else
        for (size_t i = 0; i < count; i++)
            values[i] = pixel[(n + i) / multiplier];
    return _mm256_xor_si256(load_ymm(values), flip);
}

/* Rows of the padding, and those that fill the last group up, whose weights are 0, are x_zero. */
static TARGET void fill_columns(const eq_depthwise *d, const int8_t *const *rows, ptrdiff_t place,
                                size_t columns, size_t n, size_t count, uint8_t *out)
{
    const __m256i padding = _mm256_set1_epi8((char)(d->params.x_zero + 128));
    const size_t depth = d->channels / d->multiplier, height = d->kernel_h;

    for (; columns > 0; columns--, place += (ptrdiff_t)d->dilation) {
        const bool inside = place >= 0 && place < (ptrdiff_t)d->width;
        const size_t at = (size_t)place * depth;
        for (size_t i = 0; i < height; i += ROWS, out += BYTES) {
            __m256i r[ROWS];
#pragma GCC unroll 4
            for (size_t k = 0; k < ROWS; k++) {
                const int8_t *row = inside && i + k < height ? rows[i + k] : NULL;
                r[k] = row ? load_values(row + at, d->multiplier, n, count) : padding;
            }
            interleave(r[0], r[1], r[2], r[3], out);
        }
    }
}

INLINE void add_products(__m256i acc[VECTORS], size_t products, const uint8_t *columns,
                         const int8_t *w)
{
#pragma GCC unroll 3
    for (size_t k = 0; k < products; k++, columns += BYTES, w += BYTES)
#pragma GCC unroll 4
        for (size_t j = 0; j < VECTORS; j++)
            acc[j] = dot(acc[j], load_ymm(columns + 32 * j), load_ymm(w + 32 * j));
}

/* `products` row groups of columns a pixel; pixels lie `stride` bytes apart in columns. */
INLINE void run_pixels(const size_t products, size_t sets, size_t stride, int32_t path,
                       const eq_depthwise *d, const uint8_t *columns, const int32_t *constants,
                       size_t n, size_t count, size_t pixels, int8_t *y)
{
    const quad_constants c = load_constants(VECTORS, constants);
    const finisher f = make_finisher(path, &d->params);
    const int8_t *w = (const int8_t *)(constants + CHANNELS * CONSTANTS);

    for (size_t p = 0; p < pixels; p++, columns += stride, y += d->channels) {
        __m256i acc[VECTORS];
        uint32_t undecided;
#pragma GCC unroll 4
        for (size_t j = 0; j < VECTORS; j++)
            acc[j] = load_ymm(constants + (CONSTANTS * j + BIAS) * LANES);
        for (size_t set = 0; set < sets; set++)
            add_products(acc, products, columns, w + set * products * BYTES);
        store_rows(VECTORS, 1, count, finish_quad(&f, acc, &c, &undecided), y, 0);
        if (undecided != 0) {
            int32_t sums[CHANNELS];
            for (size_t j = 0; j < VECTORS; j++)
                store_ymm(sums + j * LANES, acc[j]);
            decide(undecided, VECTORS, 1, &d->params, n, count, sums, y, 0);
        }
    }
}

static TARGET void depthwise_pixels(const eq_depthwise *d, const uint8_t *columns,
                                    const uint8_t *group, size_t sets, int32_t path, size_t n,
                                    size_t count, size_t pixels, int8_t *y)
{
    const int32_t *constants = (const int32_t *)(const void *)group;
    const size_t row_groups = (d->kernel_h + ROWS - 1) / ROWS;
    const size_t products = d->kernel_w * row_groups, stride = d->stride * row_groups * BYTES;
    if (products == 3 && sets == 1)
        run_pixels(3, 1, stride, path, d, columns, constants, n, count, pixels, y);
    else
        run_pixels(products, sets, stride, path, d, columns, constants, n, count, pixels, y);
}

#include "kernels/x86/depthwise.h"

#endif
