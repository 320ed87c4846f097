/* SPDX-License-Identifier: Apache-2.0 */
#include "core/numerics.h"
#include "kernels/scalar/scalar.h"

#define BLOCK 64 /* channels accumulated at a time */

void eq_max_pool_scalar(size_t channels, size_t taps, const int8_t *const *x, int8_t *y,
                        const eq_pool_params *params)
{
    const int8_t low = (int8_t)params->act_min, high = (int8_t)params->act_max;
    for (size_t start = 0; start < channels; start += BLOCK) {
        const size_t n = channels - start < BLOCK ? channels - start : BLOCK;
        int8_t best[BLOCK];
        for (size_t c = 0; c < n; c++)
            best[c] = low;
        for (size_t t = 0; t < taps; t++) {
            const int8_t *from = x[t] + start;
            for (size_t c = 0; c < n; c++)
                best[c] = from[c] > best[c] ? from[c] : best[c];
        }
        for (size_t c = 0; c < n; c++)
            y[start + c] = best[c] < high ? best[c] : high;
    }
}

/* s / n rounded half away from zero; |s| + n/2 < 2^31. */
static inline int32_t divide_round(int32_t s, int32_t n)
{
    return (s > 0 ? s + n / 2 : s - n / 2) / n;
}

void eq_average_pool_scalar(size_t channels, size_t taps, const int8_t *const *x, int8_t *y,
                            const eq_pool_params *params)
{
    const int32_t offset = params->offset, count = (int32_t)taps;
    for (size_t start = 0; start < channels; start += BLOCK) {
        const size_t n = channels - start < BLOCK ? channels - start : BLOCK;
        int32_t acc[BLOCK];
        for (size_t c = 0; c < n; c++)
            acc[c] = offset * count;
        for (size_t t = 0; t < taps; t++) {
            const int8_t *from = x[t] + start;
            for (size_t c = 0; c < n; c++)
                acc[c] += from[c];
        }
        for (size_t c = 0; c < n; c++)
            y[start + c] = (int8_t)eq_clamp(divide_round(acc[c], count) - offset, params->act_min,
                                            params->act_max);
    }
}

void eq_sum_rows_scalar(size_t rows, size_t n, const int8_t *x, size_t stride, int32_t *acc)
{
    for (size_t r = 0; r < rows; r++, x += stride)
        for (size_t i = 0; i < n; i++)
            acc[i] += x[i];
}

int32_t eq_sum_scalar(size_t n, const int8_t *x)
{
    int32_t acc = 0;
    for (size_t i = 0; i < n; i++)
        acc += x[i];
    return acc;
}
