/* SPDX-License-Identifier: Apache-2.0
 *
 * Layers with weights whose input or output is int16: sums in 64 bits, then R22 or R31. */
#include <string.h>

#include "core/numerics.h"
#include "kernels/scalar/scalar.h"

enum {
    WINDOW = 256, /* window elements whose products add up to at most 2^30: 2^8 * 2^15 * 2^7 */
    BLOCK = 64,   /* channels whose accumulators lie on the stack */
    LISTED = 16   /* pixels of a convolution whose taps are listed at a time */
};

static size_t size_of(bool wide)
{
    return wide ? sizeof(int16_t) : sizeof(int8_t);
}

static void start(size_t count, const eq_channel_params *p, size_t first, int64_t *acc)
{
    for (size_t n = 0; n < count; n++)
        acc[n] = p->bias16 ? p->bias16[first + n] : p->bias ? p->bias[first + n] : 0;
}

/* Element i of an output row = the requantized accumulator of channel first + i. */
static void requantize(size_t count, size_t first, const int64_t *acc, const eq_channel_params *p,
                       void *y, size_t at)
{
    const int32_t *m = p->multiplier + first * p->step;
    const int8_t *e = p->exponent + first * p->step;
    for (size_t i = 0; i < count; i++) {
        const int32_t mi = m[i * p->step], ei = e[i * p->step];
        const int32_t scaled = p->arithmetic == EQ_ARITH_R22
                                   ? eq_requant_r22(acc[i], mi, ei)
                                   : eq_requant_r31((int32_t)acc[i], mi, ei);
        const int32_t v = eq_clamp(eq_add_wrap(scaled, p->y_zero), p->act_min, p->act_max);
        if (p->y_wide)
            ((int16_t *)y)[at + i] = (int16_t)v;
        else
            ((int8_t *)y)[at + i] = (int8_t)v;
    }
}

/* ---- gemm */

/* Elements [first, first + count) of a window in runs of `length` elements, x - x_zero. */
static void collect(size_t first, size_t count, size_t length, const int8_t *const *x,
                    const eq_channel_params *p, int16_t *out)
{
    size_t run = first / length, at = first % length;
    for (size_t n; count > 0; count -= n, out += n, run++, at = 0) {
        n = length - at < count ? length - at : count;
        if (p->x_wide)
            memcpy(out, x[run] + at * sizeof *out, n * sizeof *out);
        else
            for (size_t i = 0; i < n; i++)
                out[i] = (int16_t)(x[run][at + i] - p->x_zero);
    }
}

static int32_t dot(size_t n, const int16_t *x, const int8_t *w)
{
    int32_t sum = 0;
    for (size_t k = 0; k < n; k++)
        sum += x[k] * (int16_t)w[k];
    return sum;
}

size_t eq_gemm16_pack_scalar(const eq_gemm *g, void *packed)
{
    (void)g, (void)packed;
    return 0;
}

size_t eq_gemm16_scratch_scalar(const eq_gemm *g, size_t pixels)
{
    (void)g, (void)pixels;
    return 0;
}

void eq_gemm16_scalar(const eq_gemm *g, size_t pixels, size_t first, size_t end,
                      const eq_windows *x, void *y, size_t y_stride, void *scratch)
{
    const eq_channel_params *p = &g->params;
    const size_t filter = g->runs * g->length;
    (void)scratch;
    for (size_t i = 0; i < pixels; i++) {
        const int8_t *dense = x->x[0] + i * x->step * size_of(p->x_wide);
        const int8_t *const *runs = x->step == 0 ? x->x + i * g->runs : &dense;
        for (size_t at = first, count; at < end; at += count) {
            int64_t acc[BLOCK];
            int16_t values[WINDOW];
            count = end - at < BLOCK ? end - at : BLOCK;
            start(count, p, at, acc);
            for (size_t k = 0, part; k < filter; k += part) {
                part = filter - k < WINDOW ? filter - k : WINDOW;
                collect(k, part, g->length, runs, p, values);
                for (size_t n = 0; n < count; n++)
                    acc[n] += dot(part, values, g->w + (at + n) * filter + k);
            }
            requantize(count, at, acc, p, y, i * y_stride + at);
        }
    }
}

/* ---- convolutions: lists of pointers to the taps of a few pixels, then gemm */

static size_t taps_of(const eq_conv *c)
{
    return c->kernel_h * c->kernel_w;
}

size_t eq_conv16_scratch_scalar(const eq_conv *c, size_t height, size_t pixels)
{
    const size_t listed = pixels < LISTED ? pixels : LISTED;
    const size_t pointers = listed * taps_of(c) * sizeof(const int8_t *);
    const size_t tap = c->gemm.length * c->gemm.runs / taps_of(c);
    const size_t padding = tap * size_of(c->gemm.params.x_wide);
    (void)height;
    return (pointers + padding + EQ_PACK_ALIGN - 1) / EQ_PACK_ALIGN * EQ_PACK_ALIGN;
}

static const int8_t **list_taps(const eq_conv *c, const int8_t *const *rows, ptrdiff_t left,
                                const int8_t *padding, const int8_t **taps)
{
    const size_t pixel = c->depth * size_of(c->gemm.params.x_wide);
    for (size_t i = 0; i < c->kernel_h; i++)
        for (size_t j = 0; j < c->kernel_w; j++) {
            const int8_t *row = rows[i * c->dilation_h];
            const ptrdiff_t q = left + (ptrdiff_t)(j * c->dilation_w);
            const bool inside = row != NULL && q >= 0 && q < (ptrdiff_t)c->width;
            *taps++ = inside ? row + (size_t)q * pixel : padding;
        }
    return taps;
}

void eq_conv16_scalar(const eq_conv *c, size_t height, size_t pixels, size_t first, size_t end,
                      const int8_t *const *rows, ptrdiff_t left, void *y, size_t y_stride,
                      size_t y_row, void *scratch)
{
    eq_gemm g = c->gemm;
    const size_t filter = g.runs * g.length, listed = pixels < LISTED ? pixels : LISTED;
    const int8_t **taps = scratch;
    int8_t *padding = (int8_t *)(taps + listed * taps_of(c));
    const eq_windows windows = {(const int8_t *const *)taps, 0};

    g.runs = taps_of(c);
    g.length = filter / g.runs;
    memset(padding, g.params.x_zero, g.length * size_of(g.params.x_wide)); /* x_zero is 0 if wide */
    for (size_t r = 0; r < height; r++, rows += c->stride_h)
        for (size_t p = 0, count; p < pixels; p += count) {
            const int8_t **list = taps;
            const size_t at = (r * y_row + p * y_stride) * size_of(g.params.y_wide);
            count = pixels - p < LISTED ? pixels - p : LISTED;
            for (size_t i = 0; i < count; i++)
                list = list_taps(c, rows, left + (ptrdiff_t)((p + i) * c->stride_w), padding, list);
            eq_gemm16_scalar(&g, count, first, end, &windows, (int8_t *)y + at, y_stride, NULL);
        }
}

/* ---- depthwise */

size_t eq_depthwise16_pack_scalar(const eq_depthwise *d, void *packed)
{
    (void)d, (void)packed;
    return 0;
}

size_t eq_depthwise16_scratch_scalar(const eq_depthwise *d)
{
    (void)d;
    return 0;
}

/* acc[i] += the product of tap (row, column) with channel n + i. */
static void add_tap(const eq_depthwise *d, const int8_t *row, size_t column, const int8_t *w,
                    size_t n, size_t count, int64_t *acc)
{
    const size_t pixel = column * (d->channels / d->multiplier);
    const int16_t *wide = (const int16_t *)(const void *)row;
    for (size_t i = 0; i < count; i++) {
        const size_t at = pixel + (n + i) / d->multiplier;
        acc[i] += (d->params.x_wide ? wide[at] : row[at] - d->params.x_zero) * w[i];
    }
}

void eq_depthwise16_scalar(const eq_depthwise *d, size_t pixels, const int8_t *const *rows,
                           ptrdiff_t left, void *y, void *scratch)
{
    (void)scratch;
    for (size_t p = 0; p < pixels; p++, left += (ptrdiff_t)d->stride)
        for (size_t n = 0, count; n < d->channels; n += count) {
            int64_t acc[BLOCK];
            count = d->channels - n < BLOCK ? d->channels - n : BLOCK;
            start(count, &d->params, n, acc);
            for (size_t i = 0; i < d->kernel_h; i++)
                for (size_t j = 0; rows[i] != NULL && j < d->kernel_w; j++) {
                    const ptrdiff_t column = left + (ptrdiff_t)(j * d->dilation);
                    const int8_t *w = d->w + (i * d->kernel_w + j) * d->channels + n;
                    if (column >= 0 && column < (ptrdiff_t)d->width)
                        add_tap(d, rows[i], (size_t)column, w, n, count, acc);
                }
            requantize(count, n, acc, &d->params, y, p * d->channels + n);
        }
}
