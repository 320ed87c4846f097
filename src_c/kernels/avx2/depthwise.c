/* SPDX-License-Identifier: Apache-2.0
 *
 * Two rows of a column interleaved to int16 pairs for vpmaddwd; 2 pixels of 16 channels. */
#include "kernels/avx2/avx2.h"

#if defined(__x86_64__)
#define TARGET AVX2
#include "kernels/x86/ymm.h"

typedef int16_t weight;
typedef __m256i vector;
enum {
    VECTORS = 2,
    ROWS = 2,
    VALUE_OFFSET = 0, /* values are x */
    WEIGHT_MIN = -255,
    WEIGHT_MAX = 255
};

INLINE vector load_vector(const void *p)
{
    return load_ymm(p);
}

/* The sum by hand: compilers reorder sums of sums until all the products are spilled. */
INLINE __m256i dot(__m256i acc, __m256i x, __m256i w)
{
    const __m256i products = _mm256_madd_epi16(x, w);
    __asm__("vpaddd %1, %0, %0" : "+x"(acc) : "x"(products));
    return acc;
}

INLINE void interleave(__m256i r0, __m256i r1, uint8_t *out)
{
    store_ymm(out, _mm256_unpacklo_epi16(r0, r1));
    store_ymm(out + 32, _mm256_unpackhi_epi16(r0, r1));
}

/* `count` channels n ... of a pixel, each read by `multiplier` channels of the output. */
INLINE __m256i load_values(const int8_t *pixel, size_t multiplier, size_t n, size_t count)
{
    int8_t values[16] = {0};
    if (multiplier == 1 && count == 16)
        return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(pixel + n)));
    if (multiplier == 1 && count == 8)
        return _mm256_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)(pixel + n)));
    if (multiplier == 1)
        memcpy(values, pixel + n, count);
    else
        for (size_t i = 0; i < count; i++)
            values[i] = pixel[(n + i) / multiplier];
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)values));
}

/* Rows of the padding, and those that fill the last pair up, whose weights are 0, are x_zero. */
INLINE void fill_columns_of(const size_t height, const size_t multiplier, const size_t count,
                            const eq_depthwise *d, const int8_t *const *rows, ptrdiff_t place,
                            size_t columns, size_t n, uint8_t *out)
{
    const __m256i padding = _mm256_set1_epi16((short)d->params.x_zero);
    const size_t depth = d->channels / multiplier;

    for (; columns > 0; columns--, place += (ptrdiff_t)d->dilation) {
        const bool inside = place >= 0 && place < (ptrdiff_t)d->width;
        const size_t at = (size_t)place * depth;
        for (size_t i = 0; i < height; i += ROWS, out += 16 * ROWS * sizeof(int16_t)) {
            const int8_t *row0 = inside ? rows[i] : NULL;
            const int8_t *row1 = inside && i + 1 < height ? rows[i + 1] : NULL;
            interleave(row0 ? load_values(row0 + at, multiplier, n, count) : padding,
                       row1 ? load_values(row1 + at, multiplier, n, count) : padding, out);
        }
    }
}

static TARGET void fill_columns(const eq_depthwise *d, const int8_t *const *rows, ptrdiff_t place,
                                size_t columns, size_t n, size_t count, uint8_t *out)
{
    if (d->kernel_h == 3 && d->multiplier == 1 && count == 16)
        fill_columns_of(3, 1, 16, d, rows, place, columns, n, out);
    else if (d->kernel_h == 3 && d->multiplier == 1 && count == 8)
        fill_columns_of(3, 1, 8, d, rows, place, columns, n, out);
    else
        fill_columns_of(d->kernel_h, d->multiplier, count, d, rows, place, columns, n, out);
}

#include "kernels/x86/depthwise.h"

void eq_kernels_fill_avx2_depthwise(eq_kernels *kernels)
{
    kernels->depthwise_pack = depthwise_pack;
    kernels->depthwise_scratch = depthwise_scratch;
    kernels->depthwise = depthwise;
}
#endif
