/* SPDX-License-Identifier: Apache-2.0
 *
 * Groups of 64 channels: four rows of a column interleaved to a dword a channel for vpdpbusd. */
#include "kernels/avx512vnni/avx512vnni.h"

#if defined(__x86_64__)
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

INLINE void interleave(__m512i r0, __m512i r1, __m512i r2, __m512i r3, uint8_t *out)
{
    const __m512i a = _mm512_unpacklo_epi8(r0, r1), b = _mm512_unpackhi_epi8(r0, r1);
    const __m512i c = _mm512_unpacklo_epi8(r2, r3), d = _mm512_unpackhi_epi8(r2, r3);
    _mm512_store_si512(out, _mm512_unpacklo_epi16(a, c));
    _mm512_store_si512(out + 64, _mm512_unpackhi_epi16(a, c));
    _mm512_store_si512(out + 128, _mm512_unpacklo_epi16(b, d));
    _mm512_store_si512(out + 192, _mm512_unpackhi_epi16(b, d));
}

INLINE __m512i load_values(const int8_t *x, __mmask64 mask)
{
    return _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, x), _mm512_set1_epi8(-128));
}

/* multiplier > 1: channel n + i of the output reads channel (n + i) / multiplier. */
static void spread(size_t multiplier, const int8_t *pixel, size_t n, size_t count, int8_t *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = pixel[(n + i) / multiplier];
}

/* Rows of the padding, and those that fill the last group up, whose weights are 0, are x_zero. */
static TARGET void fill_any_columns(const eq_depthwise *d, const int8_t *const *rows,
                                    ptrdiff_t place, size_t columns, size_t n, size_t count,
                                    uint8_t *out)
{
    const __m512i padding = _mm512_set1_epi8((char)(d->params.x_zero + 128));
    const __mmask64 mask = ~UINT64_C(0) >> (64 - count);
    const size_t depth = d->channels / d->multiplier;

    for (; columns > 0; columns--, place += (ptrdiff_t)d->dilation) {
        const bool inside = place >= 0 && place < (ptrdiff_t)d->width;
        for (size_t i = 0; i < d->kernel_h; i += ROWS, out += BYTES) {
            __m512i r[ROWS];
            for (size_t k = 0; k < ROWS; k++) {
                const int8_t *row = inside && i + k < d->kernel_h ? rows[i + k] : NULL;
                int8_t values[CHANNELS];
                r[k] = padding;
                if (row == NULL)
                    continue;
                row += (size_t)place * depth;
                if (d->multiplier == 1) {
                    r[k] = load_values(row + n, mask);
                } else {
                    spread(d->multiplier, row, n, count, values);
                    r[k] = load_values(values, mask);
                }
            }
            interleave(r[0], r[1], r[2], r[3], out);
        }
    }
}

static TARGET void fill_columns(const eq_depthwise *d, const int8_t *const *rows, ptrdiff_t place,
                                size_t columns, size_t n, size_t count, uint8_t *out)
{
    const ptrdiff_t end = place + (ptrdiff_t)columns;
    if (d->multiplier != 1 || d->kernel_h != 3 || d->dilation != 1 || rows[1] == NULL) {
        fill_any_columns(d, rows, place, columns, n, count, out);
        return;
    }
    const __m512i padding = _mm512_set1_epi8((char)(d->params.x_zero + 128));
    const __mmask64 mask = ~UINT64_C(0) >> (64 - count), top = rows[0] ? mask : 0;
    const __mmask64 bottom = rows[2] ? mask : 0;
    const size_t depth = d->channels;
    for (; place < end && place < 0; place++, out += BYTES)
        interleave(padding, padding, padding, padding, out);
    const ptrdiff_t inside = end < (ptrdiff_t)d->width ? end : (ptrdiff_t)d->width;
    const size_t at = (size_t)place * depth + n;
    const int8_t *r1 = rows[1] + at, *r0 = rows[0] ? rows[0] + at : r1;
    const int8_t *r2 = rows[2] ? rows[2] + at : r1;
    const __m512i above = top ? _mm512_setzero_si512() : padding;
    const __m512i below = bottom ? _mm512_setzero_si512() : padding;
    for (; place < inside; place++, out += BYTES, r0 += depth, r1 += depth, r2 += depth) {
        const __m512i flip = _mm512_set1_epi8(-128);
        const __m512i a =
            _mm512_mask_xor_epi32(above, top ? 0xffff : 0, _mm512_maskz_loadu_epi8(top, r0), flip);
        const __m512i c = _mm512_mask_xor_epi32(below, bottom ? 0xffff : 0,
                                                _mm512_maskz_loadu_epi8(bottom, r2), flip);
        interleave(a, load_values(r1, mask), c, padding, out);
    }
    for (; place < end; place++, out += BYTES)
        interleave(padding, padding, padding, padding, out);
}

INLINE void add_products(__m512i acc[VECTORS], size_t products, const uint8_t *columns,
                         const int8_t *w)
{
#pragma GCC unroll 3
    for (size_t k = 0; k < products; k++, columns += BYTES, w += BYTES)
#pragma GCC unroll 4
        for (size_t j = 0; j < VECTORS; j++)
            acc[j] =
                dot(acc[j], _mm512_load_si512(columns + 64 * j), _mm512_load_si512(w + 64 * j));
}

/* `products` row groups of columns a pixel; pixels lie `stride` bytes apart in columns. */
INLINE void run_pixels(const size_t products, size_t sets, size_t stride, int32_t path,
                       const eq_depthwise *d, const uint8_t *columns, const int32_t *constants,
                       size_t n, size_t count, size_t pixels, int8_t *y)
{
    const quad_constants c = load_constants(VECTORS, constants);
    const finisher f = make_finisher(path, &d->params);
    const __mmask64 mask = ~UINT64_C(0) >> (64 - count);
    const int8_t *w = (const int8_t *)(constants + CHANNELS * CONSTANTS);

    for (size_t p = 0; p < pixels; p++, columns += stride, y += d->channels) {
        __m512i acc[VECTORS];
        uint64_t undecided;
#pragma GCC unroll 4
        for (size_t j = 0; j < VECTORS; j++)
            acc[j] = _mm512_load_si512(constants + (CONSTANTS * j + BIAS) * LANES);
        for (size_t set = 0; set < sets; set++)
            add_products(acc, products, columns, w + set * products * BYTES);
        _mm512_mask_storeu_epi8(y, mask, finish_quad(&f, acc, &c, &undecided));
        if (undecided != 0) {
            int32_t out[CHANNELS];
            for (size_t j = 0; j < VECTORS; j++)
                _mm512_storeu_si512(out + j * LANES, acc[j]);
            decide(undecided, VECTORS, 1, &d->params, n, count, out, y, 0);
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

void eq_kernels_fill_avx512vnni_depthwise(eq_kernels *kernels)
{
    kernels->depthwise_pack = depthwise_pack;
    kernels->depthwise_scratch = depthwise_scratch;
    kernels->depthwise = depthwise;
}
#endif
