/* SPDX-License-Identifier: Apache-2.0 */
#include "core/numerics.h"
#include "kernels/kernels.h"
#include "kernels/scalar/scalar.h"

static int8_t requantize(int32_t acc, size_t channel, const eq_channel_params *p)
{
    const size_t i = channel * p->step;
    const int32_t y = eq_requant_r31(acc, p->multiplier[i], p->exponent[i]) + p->y_zero;
    return (int8_t)eq_clamp(y, p->act_min, p->act_max);
}

enum { ROWS = 4 }; /* channels that share a pass over x */

/* acc[r] += sum of (x[c] - x_zero) * (w[r * stride + c] - w_zero): int16 products that compilers turn
 * into multiply-add pairs. */
static void dot_rows(size_t depth, const int8_t *x, const int8_t *w, size_t stride, int16_t x_zero,
                     int16_t w_zero, int32_t acc[ROWS])
{
    const int8_t *w1 = w + stride, *w2 = w1 + stride, *w3 = w2 + stride;
    int32_t a0 = 0, a1 = 0, a2 = 0, a3 = 0;
    for (size_t c = 0; c < depth; c++) {
        const int16_t v = (int16_t)(x[c] - x_zero);
        a0 += v * (int16_t)(w[c] - w_zero);
        a1 += v * (int16_t)(w1[c] - w_zero);
        a2 += v * (int16_t)(w2[c] - w_zero);
        a3 += v * (int16_t)(w3[c] - w_zero);
    }
    acc[0] += a0;
    acc[1] += a1;
    acc[2] += a2;
    acc[3] += a3;
}

static int32_t dot(size_t depth, const int8_t *x, const int8_t *w, int16_t x_zero, int16_t w_zero)
{
    int32_t acc = 0;
    for (size_t c = 0; c < depth; c++)
        acc += (int16_t)(x[c] - x_zero) * (int16_t)(w[c] - w_zero);
    return acc;
}

void eq_gemm_scalar(size_t pixels, size_t channels, size_t taps, size_t depth, const int8_t *const *x,
                    const int8_t *w, int8_t *y, size_t y_stride, const eq_channel_params *p)
{
    const int16_t x_zero = (int16_t)p->x_zero, w_zero = (int16_t)p->w_zero;
    const size_t filter = taps * depth;
    size_t n = 0;

    for (; n + ROWS <= channels; n += ROWS, w += ROWS * filter)
        for (size_t i = 0; i < pixels; i++) {
            int32_t acc[ROWS] = { 0 };
            for (size_t t = 0; t < taps; t++)
                if (x[i * taps + t] != NULL)
                    dot_rows(depth, x[i * taps + t], w + t * depth, filter, x_zero, w_zero, acc);
            for (size_t r = 0; r < ROWS; r++)
                y[i * y_stride + n + r] = requantize(acc[r] + (p->bias ? p->bias[n + r] : 0), n + r, p);
        }
    for (; n < channels; n++, w += filter)
        for (size_t i = 0; i < pixels; i++) {
            int32_t acc = p->bias ? p->bias[n] : 0;
            for (size_t t = 0; t < taps; t++)
                if (x[i * taps + t] != NULL)
                    acc += dot(depth, x[i * taps + t], w + t * depth, x_zero, w_zero);
            y[i * y_stride + n] = requantize(acc, n, p);
        }
}

enum { BLOCK = 64 }; /* channels whose accumulators lie on the stack */

void eq_depthwise_scalar(size_t channels, size_t multiplier, size_t taps, const int8_t *const *x,
                         const int8_t *w, int8_t *y, const eq_channel_params *p)
{
    const int16_t x_zero = (int16_t)p->x_zero, w_zero = (int16_t)p->w_zero;

    for (size_t first = 0; first < channels; first += BLOCK) {
        const size_t count = channels - first < BLOCK ? channels - first : BLOCK;
        int32_t acc[BLOCK];
        for (size_t n = 0; n < count; n++)
            acc[n] = p->bias ? p->bias[first + n] : 0;
        for (size_t t = 0; t < taps; t++) {
            const int8_t *wt = w + t * channels + first;
            if (x[t] == NULL)
                continue;
            if (multiplier == 1) {
                const int8_t *xt = x[t] + first;
                for (size_t n = 0; n < count; n++)
                    acc[n] += (int16_t)(xt[n] - x_zero) * (int16_t)(wt[n] - w_zero);
                continue;
            }
            for (size_t n = 0; n < count;) {
                const size_t c = (first + n) / multiplier, end = (c + 1) * multiplier - first;
                const int16_t v = (int16_t)(x[t][c] - x_zero);
                for (const size_t stop = end < count ? end : count; n < stop; n++)
                    acc[n] += v * (int16_t)(wt[n] - w_zero);
            }
        }
        for (size_t n = 0; n < count; n++)
            y[first + n] = requantize(acc[n], first + n, p);
    }
}
