/* SPDX-License-Identifier: Apache-2.0
 *
 * Four rows of a column interleaved to a dword a channel for vpdpbusd; a pixel of 64 channels. */
#include "kernels/avx512vnni/avx512vnni.h"

#if defined(__x86_64__)
typedef int8_t weight;
typedef __m512i vector;
enum {
    VECTORS = 4,
    ROWS = 4,
    VALUE_OFFSET = 128, /* bytes are x + 128 */
    WEIGHT_MIN = -128,
    WEIGHT_MAX = 127
};

INLINE vector load_vector(const void *p)
{
    return _mm512_load_si512(p);
}

INLINE vector load_bytes(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}

INLINE void store_flipped(const int8_t *x, uint8_t *out)
{
    _mm512_storeu_si512(out, _mm512_xor_si512(_mm512_loadu_si512(x), _mm512_set1_epi8(-128)));
}

/* By lanes of 16 bytes: four dwords of each lane in each vector, as channel_of says. */
INLINE void interleave(const __m512i r[4], __m512i out[4])
{
    const __m512i a = _mm512_unpacklo_epi8(r[0], r[1]), b = _mm512_unpackhi_epi8(r[0], r[1]);
    const __m512i c = _mm512_unpacklo_epi8(r[2], r[3]), d = _mm512_unpackhi_epi8(r[2], r[3]);
    out[0] = _mm512_unpacklo_epi16(a, c);
    out[1] = _mm512_unpackhi_epi16(a, c);
    out[2] = _mm512_unpacklo_epi16(b, d);
    out[3] = _mm512_unpackhi_epi16(b, d);
}

INLINE void store_column(__m512i r0, __m512i r1, __m512i r2, __m512i r3, uint8_t *out)
{
    const __m512i r[4] = {r0, r1, r2, r3};
    __m512i dwords[4];
    interleave(r, dwords);
    for (size_t i = 0; i < 4; i++)
        _mm512_store_si512(out + 64 * i, dwords[i]);
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
        for (size_t i = 0; i < d->kernel_h; i += ROWS, out += 256) {
            __m512i r[ROWS];
            for (size_t k = 0; k < ROWS; k++) {
                const int8_t *row = inside && i + k < d->kernel_h ? rows[i + k] : NULL;
                int8_t values[64];
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
            store_column(r[0], r[1], r[2], r[3], out);
        }
    }
}

/* The same for three rows: those that are outside are loaded with a mask of 0 from where a row is,
 * and are x_zero by an added constant. */
static TARGET void fill_columns(const eq_depthwise *d, const int8_t *const *rows, ptrdiff_t place,
                                size_t columns, size_t n, size_t count, uint8_t *out)
{
    const ptrdiff_t end = place + (ptrdiff_t)columns, width = (ptrdiff_t)d->width;
    if (d->multiplier != 1 || d->kernel_h != 3 || d->dilation != 1 || rows[1] == NULL) {
        fill_any_columns(d, rows, place, columns, n, count, out);
        return;
    }
    const __m512i padding = _mm512_set1_epi8((char)(d->params.x_zero + 128));
    const __m512i outside = _mm512_set1_epi8((char)d->params.x_zero);
    const __mmask64 mask = ~UINT64_C(0) >> (64 - count);
    const __mmask64 mask0 = rows[0] ? mask : 0, mask2 = rows[2] ? mask : 0;
    const __m512i add0 = rows[0] ? _mm512_setzero_si512() : outside;
    const __m512i add2 = rows[2] ? _mm512_setzero_si512() : outside;
    const size_t depth = d->channels;

    for (; place < end && place < 0; place++, out += 256)
        store_column(padding, padding, padding, padding, out);
    const ptrdiff_t inside = end < width ? end : width;
    const size_t at = (size_t)place * depth + n;
    const int8_t *r1 = rows[1] + at, *r0 = rows[0] ? rows[0] + at : r1;
    const int8_t *r2 = rows[2] ? rows[2] + at : r1;
    for (; place < inside; place++, out += 256, r0 += depth, r1 += depth, r2 += depth)
        store_column(_mm512_add_epi8(load_values(r0, mask0), add0), load_values(r1, mask),
                     _mm512_add_epi8(load_values(r2, mask2), add2), padding, out);
    for (; place < end; place++, out += 256)
        store_column(padding, padding, padding, padding, out);
}

#define NARROW_GROUPS
#include "kernels/x86/depthwise.h"

void eq_kernels_fill_avx512vnni_depthwise(eq_kernels *kernels)
{
    kernels->depthwise_pack = depthwise_pack;
    kernels->depthwise_scratch = depthwise_scratch;
    kernels->depthwise = depthwise;
}
#endif
