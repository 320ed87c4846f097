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
    const int32_t zero = p->y_zero, low = p->act_min, high = p->act_max;

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

/* Elements [first, first + count) of the window, x - x_zero; 0 in the padding. */
static void collect(size_t first, size_t count, size_t depth, const int8_t *const *x,
                    int16_t x_zero, int16_t *out)
{
    size_t tap = first / depth, at = first % depth;
    for (size_t n, end; count > 0; count -= n, out += n, tap++, at = 0) {
        end = depth - at;
        n = end < count ? end : count;
        if (x[tap] == NULL)
            memset(out, 0, n * sizeof *out);
        else
            for (size_t i = 0; i < n; i++)
                out[i] = (int16_t)(x[tap][at + i] - x_zero);
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

static void gemm_short(size_t pixels, size_t channels, size_t taps, size_t depth,
                       const int8_t *const *x, const int8_t *w, int8_t *y, size_t y_stride,
                       const eq_channel_params *p)
{
    const int16_t x_zero = (int16_t)p->x_zero, w_zero = (int16_t)p->w_zero;
    const size_t filter = taps * depth;
    int16_t turned[SHORT][TURNED];

    for (size_t first = 0, count; first < channels; first += count, w += count * filter) {
        count = channels - first < TURNED ? channels - first : TURNED;
        for (size_t n = 0; n < count; n++)
            for (size_t k = 0; k < filter; k++)
                turned[k][n] = (int16_t)(w[n * filter + k] - w_zero);
        for (size_t i = 0; i < pixels; i++) {
            int32_t acc[TURNED];
            int16_t window[SHORT];
            collect(0, filter, depth, x + i * taps, x_zero, window);
            start(count, p->bias, first, acc);
            for (size_t k = 0; k < filter; k++)
                for (size_t n = 0; n < count; n++)
                    acc[n] += window[k] * turned[k][n];
            requantize(count, first, acc, p, y + i * y_stride + first);
        }
    }
}

static void gemm_long(size_t pixels, size_t channels, size_t taps, size_t depth,
                      const int8_t *const *x, const int8_t *w, int8_t *y, size_t y_stride,
                      const eq_channel_params *p)
{
    const int16_t x_zero = (int16_t)p->x_zero, w_zero = (int16_t)p->w_zero;
    const size_t filter = taps * depth;

    for (size_t i = 0; i < pixels; i++, x += taps, y += y_stride)
        for (size_t first = 0, count; first < channels; first += count) {
            int32_t acc[BLOCK];
            int16_t window[WINDOW];
            count = channels - first < BLOCK ? channels - first : BLOCK;
            start(count, p->bias, first, acc);
            for (size_t k = 0, part; k < filter; k += part) {
                const int8_t *row = w + first * filter + k;
                size_t n = 0;
                part = filter - k < WINDOW ? filter - k : WINDOW;
                collect(k, part, depth, x, x_zero, window);
                for (; n + ROWS <= count; n += ROWS, row += ROWS * filter)
                    dot_rows(part, window, row, filter, w_zero, acc + n);
                for (; n < count; n++, row += filter)
                    acc[n] += dot(part, window, row, w_zero);
            }
            requantize(count, first, acc, p, y + first);
        }
}

void eq_gemm_scalar(size_t pixels, size_t channels, size_t taps, size_t depth,
                    const int8_t *const *x, const int8_t *w, int8_t *y, size_t y_stride,
                    const eq_channel_params *p)
{
    (taps * depth <= SHORT && pixels > 1 ? gemm_short : gemm_long)(pixels, channels, taps, depth, x,
                                                                   w, y, y_stride, p);
}

/* ---- depthwise: a few channels at a time, so that their accumulators stay in registers */

enum { LANES = 8 };

/* acc[n] += sum over taps of (x[t][n] - x_zero) * (w[t * stride + n] - w_zero), n < LANES */
static void lanes(size_t taps, const int8_t *const *x, size_t first, const int8_t *w, size_t stride,
                  int16_t x_zero, int16_t w_zero, int32_t acc[LANES])
{
    for (size_t t = 0; t < taps; t++, w += stride)
        if (x[t] != NULL)
            for (int n = 0; n < LANES; n++)
                acc[n] += (int16_t)(x[t][first + (size_t)n] - x_zero) * (int16_t)(w[n] - w_zero);
}

/* The same for an input of one channel. */
static void lanes_of_one(size_t taps, const int8_t *const *x, const int8_t *w, size_t stride,
                         int16_t x_zero, int16_t w_zero, int32_t acc[LANES])
{
    for (size_t t = 0; t < taps; t++, w += stride)
        if (x[t] != NULL) {
            const int16_t v = (int16_t)(*x[t] - x_zero);
            for (int n = 0; n < LANES; n++)
                acc[n] += v * (int16_t)(w[n] - w_zero);
        }
}

void eq_depthwise_scalar(size_t channels, size_t multiplier, size_t taps, const int8_t *const *x,
                         const int8_t *w, int8_t *y, const eq_channel_params *p)
{
    const int16_t x_zero = (int16_t)p->x_zero, w_zero = (int16_t)p->w_zero;
    size_t n = 0;

    if (multiplier == 1)
        for (; n + LANES <= channels; n += LANES) {
            int32_t acc[LANES];
            start(LANES, p->bias, n, acc);
            lanes(taps, x, n, w + n, channels, x_zero, w_zero, acc);
            requantize(LANES, n, acc, p, y + n);
        }
    else if (channels == multiplier)
        for (; n + LANES <= channels; n += LANES) {
            int32_t acc[LANES];
            start(LANES, p->bias, n, acc);
            lanes_of_one(taps, x, w + n, channels, x_zero, w_zero, acc);
            requantize(LANES, n, acc, p, y + n);
        }
    for (; n < channels; n++) {
        const size_t c = n / multiplier;
        int32_t acc = p->bias ? p->bias[n] : 0;
        for (size_t t = 0; t < taps; t++)
            if (x[t] != NULL)
                acc += (x[t][c] - x_zero) * (w[t * channels + n] - w_zero);
        requantize(1, n, &acc, p, y + n);
    }
}
