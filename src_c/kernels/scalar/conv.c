/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "core/numerics.h"
#include "kernels/kernels.h"
#include "kernels/scalar/scalar.h"

/* y[n] = the requantized accumulator of channel first + n */
static void requantize(size_t count, size_t first, const int32_t *acc, const eq_channel_params *p,
                       int8_t *y)
{
    /* Copies: for the compiler, a store to y could change *p. */
    const int32_t *m = p->multiplier + first * p->step;
    const int8_t *e = p->exponent + first * p->step;
    const size_t step = p->step;
    const int32_t zero = p->y_zero, low = p->act_min, high = p->act_max, fraction = p->fraction;

    if (p->arithmetic == EQ_ARITH_R15)
        for (size_t n = 0; n < count; n++, m += step, e += step)
            y[n] = (int8_t)eq_clamp(eq_requant_r15(acc[n], *m, *e, fraction, zero), low, high);
    else
        for (size_t n = 0; n < count; n++, m += step, e += step)
            y[n] = (int8_t)eq_clamp(eq_add_wrap(eq_requant_r31(acc[n], *m, *e), zero), low, high);
}

static void start(size_t count, const int32_t *bias, size_t first, int32_t *acc)
{
    for (size_t n = 0; n < count; n++)
        acc[n] = bias ? bias[first + n] : 0;
}

/* ---- gemm: the window of a pixel is collected once, then multiplied with the filters of a block
 */

enum {
    WINDOW = 256, /* elements of a window at a time, on the stack as int16 */
    BLOCK = 64,   /* channels whose accumulators lie on the stack */
    ROWS = 4      /* channels that share a pass over the window */
};

/* Elements [first, first + count) of a window in runs of `length` elements, x - x_zero. */
static void collect(size_t first, size_t count, size_t length, const int8_t *const *x,
                    int16_t x_zero, int16_t *out)
{
    size_t run = first / length, at = first % length;
    for (size_t n; count > 0; count -= n, out += n, run++, at = 0) {
        n = length - at < count ? length - at : count;
        for (size_t i = 0; i < n; i++)
            out[i] = (int16_t)(x[run][at + i] - x_zero);
    }
}

/* acc[r] += sum of v[k] * (w[r * stride + k] - w_zero): int16 products, which compilers turn into
 * multiply-add pairs. */
static void dot_rows(size_t count, const int16_t *v, const int8_t *w, size_t stride, int16_t w_zero,
                     int32_t acc[ROWS])
{
    const int8_t *w1 = w + stride, *w2 = w1 + stride, *w3 = w2 + stride;
    int32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0;
    for (size_t k = 0; k < count; k++) {
        a0 += v[k] * (int16_t)(w[k] - w_zero);
        a1 += v[k] * (int16_t)(w1[k] - w_zero);
        a2 += v[k] * (int16_t)(w2[k] - w_zero);
        a3 += v[k] * (int16_t)(w3[k] - w_zero);
    }
    acc[0] += a0;
    acc[1] += a1;
    acc[2] += a2;
    acc[3] += a3;
}

static int32_t dot(size_t count, const int16_t *v, const int8_t *w, int16_t w_zero)
{
    int32_t acc = 0;
    for (size_t k = 0; k < count; k++)
        acc += v[k] * (int16_t)(w[k] - w_zero);
    return acc;
}

/* Short filters: vectors over channels instead, on a block of weights turned to (k, channel). */
enum { SHORT = 32, TURNED = 32 };

/* The runs of pixel p's window; `dense` is memory for the pointer of the only run. */
static const int8_t *const *window(const eq_gemm *g, const eq_windows *x, size_t p,
                                   const int8_t **dense)
{
    if (x->step == 0)
        return x->x + p * g->runs;
    *dense = x->x[0] + p * x->step;
    return dense;
}

static void gemm_short(const eq_gemm *g, size_t pixels, size_t first, size_t end,
                       const eq_windows *x, int8_t *y, size_t y_stride)
{
    const eq_channel_params *p = &g->params;
    const int16_t x_zero = (int16_t)p->x_zero, w_zero = (int16_t)p->w_zero;
    const size_t filter = g->runs * g->length, length = g->length;
    const int8_t *w = g->w + first * filter, *dense;
    int16_t turned[SHORT][TURNED];

    for (size_t count; first < end; first += count, w += count * filter, y += count) {
        count = end - first < TURNED ? end - first : TURNED;
        for (size_t n = 0; n < count; n++)
            for (size_t k = 0; k < filter; k++)
                turned[k][n] = (int16_t)(w[n * filter + k] - w_zero);
        for (size_t i = 0; i < pixels; i++) {
            int32_t acc[TURNED];
            int16_t values[SHORT];
            collect(0, filter, length, window(g, x, i, &dense), x_zero, values);
            start(count, p->bias, first, acc);
            for (size_t k = 0; k < filter; k++)
                for (size_t n = 0; n < count; n++)
                    acc[n] += values[k] * turned[k][n];
            requantize(count, first, acc, p, y + i * y_stride);
        }
    }
}

static void gemm_long(const eq_gemm *g, size_t pixels, size_t first, size_t end,
                      const eq_windows *x, int8_t *y, size_t y_stride)
{
    const eq_channel_params *p = &g->params;
    const int16_t x_zero = (int16_t)p->x_zero, w_zero = (int16_t)p->w_zero;
    const size_t filter = g->runs * g->length, length = g->length;
    const int8_t *dense;

    for (size_t i = 0; i < pixels; i++, y += y_stride)
        for (size_t at = first, count; at < end; at += count) {
            const int8_t *const *runs = window(g, x, i, &dense);
            int32_t acc[BLOCK];
            int16_t values[WINDOW];
            count = end - at < BLOCK ? end - at : BLOCK;
            start(count, p->bias, at, acc);
            for (size_t k = 0, part; k < filter; k += part) {
                const int8_t *row = g->w + at * filter + k;
                size_t n = 0;
                part = filter - k < WINDOW ? filter - k : WINDOW;
                collect(k, part, length, runs, x_zero, values);
                for (; n + ROWS <= count; n += ROWS, row += ROWS * filter)
                    dot_rows(part, values, row, filter, w_zero, acc + n);
                for (; n < count; n++, row += filter)
                    acc[n] += dot(part, values, row, w_zero);
            }
            requantize(count, at, acc, p, y + at - first);
        }
}

size_t eq_gemm_pack_scalar(const eq_gemm *g, void *packed)
{
    (void)g, (void)packed;
    return 0;
}

size_t eq_gemm_scratch_scalar(const eq_gemm *g, size_t pixels)
{
    (void)g, (void)pixels;
    return 0;
}

void eq_gemm_scalar(const eq_gemm *g, size_t pixels, size_t first, size_t end, const eq_windows *x,
                    int8_t *y, size_t y_stride, void *scratch)
{
    (void)scratch;
    if (g->runs * g->length <= SHORT && pixels > 1)
        gemm_short(g, pixels, first, end, x, y + first, y_stride);
    else
        gemm_long(g, pixels, first, end, x, y + first, y_stride);
}

/* ---- convolutions: lists of pointers to the taps of a few pixels, then gemm */

enum { LISTED = 16 }; /* pixels */

static size_t taps_of(const eq_conv *c)
{
    return c->kernel_h * c->kernel_w;
}

size_t eq_conv_scratch_scalar(const eq_conv *c, size_t height, size_t pixels)
{
    const size_t listed = pixels < LISTED ? pixels : LISTED;
    const size_t pointers = listed * taps_of(c) * sizeof(const int8_t *);
    const size_t padding = c->gemm.length * c->gemm.runs / taps_of(c);
    (void)height;
    return (pointers + padding + EQ_PACK_ALIGN - 1) / EQ_PACK_ALIGN * EQ_PACK_ALIGN;
}

static const int8_t **list_taps(const eq_conv *c, const int8_t *const *rows, ptrdiff_t left,
                                const int8_t *padding, const int8_t **taps)
{
    for (size_t i = 0; i < c->kernel_h; i++)
        for (size_t j = 0; j < c->kernel_w; j++) {
            const int8_t *row = rows[i * c->dilation_h];
            const ptrdiff_t q = left + (ptrdiff_t)(j * c->dilation_w);
            const bool inside = row != NULL && q >= 0 && q < (ptrdiff_t)c->width;
            *taps++ = inside ? row + (size_t)q * c->depth : padding;
        }
    return taps;
}

void eq_conv_scalar(const eq_conv *c, size_t height, size_t pixels, size_t first, size_t end,
                    const int8_t *const *rows, ptrdiff_t left, int8_t *y, size_t y_stride,
                    size_t y_row, void *scratch)
{
    eq_gemm g = c->gemm;
    const size_t filter = g.runs * g.length, listed = pixels < LISTED ? pixels : LISTED;
    const int8_t **taps = scratch;
    int8_t *padding = (int8_t *)(taps + listed * taps_of(c));
    const eq_windows windows = {(const int8_t *const *)taps, 0};

    g.runs = taps_of(c);
    g.length = filter / g.runs;
    memset(padding, g.params.x_zero, g.length);
    for (size_t r = 0; r < height; r++, rows += c->stride_h, y += y_row)
        for (size_t p = 0, count; p < pixels; p += count) {
            const int8_t **list = taps;
            count = pixels - p < LISTED ? pixels - p : LISTED;
            for (size_t i = 0; i < count; i++)
                list = list_taps(c, rows, left + (ptrdiff_t)((p + i) * c->stride_w), padding, list);
            eq_gemm_scalar(&g, count, first, end, &windows, y + p * y_stride, y_stride, NULL);
        }
}

/* ---- depthwise: a few channels at a time, so that their accumulators stay in registers */

enum { LANES = 8 };

size_t eq_depthwise_pack_scalar(const eq_depthwise *d, void *packed)
{
    (void)d, (void)packed;
    return 0;
}

size_t eq_depthwise_scratch_scalar(const eq_depthwise *d)
{
    (void)d;
    return 0;
}

/* Taps [first, end) of the window's columns that lie inside; column is that of tap 0. */
static void columns_inside(const eq_depthwise *d, ptrdiff_t column, size_t *first, size_t *end)
{
    const ptrdiff_t width = (ptrdiff_t)d->width, dilation = (ptrdiff_t)d->dilation;
    size_t low = 0, high = d->kernel_w;
    while (low < high && column + (ptrdiff_t)low * dilation < 0)
        low++;
    while (high > low && column + (ptrdiff_t)(high - 1) * dilation >= width)
        high--;
    *first = low;
    *end = high;
}

/* Channels [n, n + count) of one output pixel, count <= LANES. */
static void depthwise_lanes(const eq_depthwise *d, const int8_t *const *rows, ptrdiff_t column,
                            size_t first, size_t end, size_t n, size_t count, int8_t *y)
{
    const eq_channel_params *p = &d->params;
    const int16_t x_zero = (int16_t)p->x_zero, w_zero = (int16_t)p->w_zero;
    const size_t depth = d->channels / d->multiplier;
    int32_t acc[LANES];
    start(count, p->bias, n, acc);
    for (size_t i = 0; i < d->kernel_h; i++)
        for (size_t j = first; rows[i] != NULL && j < end; j++) {
            const ptrdiff_t at = column + (ptrdiff_t)(j * d->dilation);
            const int8_t *x = rows[i] + (size_t)at * depth;
            const int8_t *w = d->w + (i * d->kernel_w + j) * d->channels + n;
            if (d->multiplier == 1 && count == LANES)
                for (size_t k = 0; k < LANES; k++)
                    acc[k] += (int16_t)(x[n + k] - x_zero) * (int16_t)(w[k] - w_zero);
            else
                for (size_t k = 0; k < count; k++)
                    acc[k] += (x[(n + k) / d->multiplier] - x_zero) * (w[k] - w_zero);
        }
    requantize(count, n, acc, p, y + n);
}

void eq_depthwise_scalar(const eq_depthwise *d, size_t pixels, const int8_t *const *rows,
                         ptrdiff_t left, int8_t *y, void *scratch)
{
    (void)scratch;
    for (size_t i = 0; i < pixels; i++, left += (ptrdiff_t)d->stride, y += d->channels) {
        size_t first, end;
        columns_inside(d, left, &first, &end);
        for (size_t n = 0; n < d->channels; n += LANES)
            depthwise_lanes(d, rows, left, first, end, n,
                            d->channels - n < LANES ? d->channels - n : LANES, y);
    }
}
