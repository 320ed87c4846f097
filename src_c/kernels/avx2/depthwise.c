/* SPDX-License-Identifier: Apache-2.0
 *
 * Groups of 16 channels: two rows of a column interleaved to int16 pairs for vpmaddwd. Two output
 * pixels share the weights and a quad of accumulators. */
#include "kernels/avx2/avx2.h"

#if defined(__x86_64__)
#define TARGET AVX2

#include "kernels/x86/ymm.h"

typedef int16_t weight;
enum {
    VECTORS = 2,
    CHANNELS = VECTORS * LANES,
    ROWS = 2,
    BYTES = CHANNELS * ROWS * 2,
    VALUE_OFFSET = 0, /* values are x */
    WEIGHT_MIN = -255,
    WEIGHT_MAX = 255
};

INLINE void interleave(__m256i r0, __m256i r1, uint8_t *out)
{
    store_ymm(out, _mm256_unpacklo_epi16(r0, r1));
    store_ymm(out + 32, _mm256_unpackhi_epi16(r0, r1));
}

/* `count` channels n ... of a pixel, each read by `multiplier` channels of the output. */
INLINE __m256i load_values(const int8_t *pixel, size_t multiplier, size_t n, size_t count)
{
    int8_t values[CHANNELS] = {0};
    if (count == CHANNELS && multiplier == 1)
        return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(pixel + n)));
    if (count == 8 && multiplier == 1)
        return _mm256_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)(pixel + n)));
    if (multiplier == 1)
        memcpy(values, pixel + n, count);
    else
        for (size_t i = 0; i < count; i++)
            values[i] = pixel[(n + i) / multiplier];
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)values));
}

/* Rows of the padding, and those that fill the last pair up, whose weights are 0, are x_zero. */
static TARGET void fill_columns(const eq_depthwise *d, const int8_t *const *rows, ptrdiff_t place,
                                size_t columns, size_t n, size_t count, uint8_t *out)
{
    const __m256i padding = _mm256_set1_epi16((short)d->params.x_zero);
    const size_t depth = d->channels / d->multiplier, height = d->kernel_h;

    for (; columns > 0; columns--, place += (ptrdiff_t)d->dilation) {
        const bool inside = place >= 0 && place < (ptrdiff_t)d->width;
        const size_t at = (size_t)place * depth;
        for (size_t i = 0; i < height; i += ROWS, out += BYTES) {
            const int8_t *row0 = inside ? rows[i] : NULL;
            const int8_t *row1 = inside && i + 1 < height ? rows[i + 1] : NULL;
            interleave(row0 ? load_values(row0 + at, d->multiplier, n, count) : padding,
                       row1 ? load_values(row1 + at, d->multiplier, n, count) : padding, out);
        }
    }
}

INLINE void add_products(__m256i acc[4], size_t products, const uint8_t *columns0,
                         const uint8_t *columns1, const int16_t *w)
{
#pragma GCC unroll 6
    for (size_t k = 0; k < products; k++, columns0 += BYTES, columns1 += BYTES, w += BYTES / 2) {
        const __m256i w0 = load_ymm(w), w1 = load_ymm(w + 16);
        acc[0] = _mm256_add_epi32(acc[0], _mm256_madd_epi16(load_ymm(columns0), w0));
        acc[1] = _mm256_add_epi32(acc[1], _mm256_madd_epi16(load_ymm(columns0 + 32), w1));
        acc[2] = _mm256_add_epi32(acc[2], _mm256_madd_epi16(load_ymm(columns1), w0));
        acc[3] = _mm256_add_epi32(acc[3], _mm256_madd_epi16(load_ymm(columns1 + 32), w1));
    }
}

/* `products` row groups of columns a pixel; pixels lie `stride` bytes apart in columns. */
INLINE void run_pixels(const size_t products, size_t stride, int32_t path, const eq_depthwise *d,
                       const uint8_t *columns, const int32_t *constants, size_t n, size_t count,
                       size_t pixels, int8_t *y)
{
    const quad_constants c = load_constants(VECTORS, constants);
    const finisher f = make_finisher(path, &d->params);
    const int16_t *w = (const int16_t *)(const void *)(constants + CHANNELS * CONSTANTS);

    for (size_t p = 0; p < pixels; p += 2, columns += 2 * stride, y += 2 * d->channels) {
        const size_t some = pixels - p < 2 ? 1 : 2;
        const __m256i bias0 = load_ymm(constants + BIAS * LANES);
        const __m256i bias1 = load_ymm(constants + (CONSTANTS + BIAS) * LANES);
        __m256i acc[4] = {bias0, bias1, bias0, bias1};
        uint32_t undecided;
        add_products(acc, products, columns, some == 2 ? columns + stride : columns, w);
        const __m256i out = rows_in_order(VECTORS, finish_quad(&f, acc, &c, &undecided));
        store_rows(VECTORS, some, count, out, y, d->channels);
        if (undecided != 0) {
            int32_t sums[4 * LANES];
            for (size_t j = 0; j < 4; j++)
                store_ymm(sums + j * LANES, acc[j]);
            decide(undecided, VECTORS, some, &d->params, n, count, sums, y, d->channels);
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
    (void)sets; /* one: w - w_zero fits */
    if (products == 6)
        run_pixels(6, stride, path, d, columns, constants, n, count, pixels, y);
    else
        run_pixels(products, stride, path, d, columns, constants, n, count, pixels, y);
}

#include "kernels/x86/depthwise.h"

void eq_kernels_fill_avx2_depthwise(eq_kernels *kernels)
{
    kernels->depthwise_pack = depthwise_pack;
    kernels->depthwise_scratch = depthwise_scratch;
    kernels->depthwise = depthwise;
}
#endif
