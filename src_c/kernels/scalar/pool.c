/* SPDX-License-Identifier: Apache-2.0 */
#include "core/numerics.h"
#include "kernels/scalar/scalar.h"

#define BLOCK 64 /* channels accumulated at a time */

/* One block of n <= BLOCK channels of one window. */
static void max_block(const eq_pool *pool, size_t n, const int8_t *x, int8_t *y)
{
    const int8_t low = (int8_t)pool->act_min, high = (int8_t)pool->act_max;
    int8_t best[BLOCK];
    for (size_t c = 0; c < n; c++)
        best[c] = low;
    for (size_t row = 0; row < pool->rows; row++) {
        const int8_t *from = x + row * pool->row_stride;
        for (size_t col = 0; col < pool->cols; col++, from += pool->channels)
            for (size_t c = 0; c < n; c++)
                best[c] = from[c] > best[c] ? from[c] : best[c];
    }
    for (size_t c = 0; c < n; c++)
        y[c] = best[c] < high ? best[c] : high;
}

/* s / n rounded half away from zero; |s| + n/2 < 2^31. */
static inline int32_t divide_round(int32_t s, int32_t n)
{
    return (s > 0 ? s + n / 2 : s - n / 2) / n;
}

static void average_block(const eq_pool *pool, size_t n, const int8_t *x, int8_t *y)
{
    const int32_t count = (int32_t)(pool->rows * pool->cols);
    int32_t acc[BLOCK];
    for (size_t c = 0; c < n; c++)
        acc[c] = pool->offset * count;
    for (size_t row = 0; row < pool->rows; row++) {
        const int8_t *from = x + row * pool->row_stride;
        for (size_t col = 0; col < pool->cols; col++, from += pool->channels)
            for (size_t c = 0; c < n; c++)
                acc[c] += from[c];
    }
    for (size_t c = 0; c < n; c++)
        y[c] = (int8_t)eq_clamp(divide_round(acc[c], count) - pool->offset, pool->act_min,
                                pool->act_max);
}

void eq_max_pool_scalar(const eq_pool *pool, size_t pixels, const int8_t *x, int8_t *y)
{
    const size_t channels = pool->channels;
    for (size_t p = 0; p < pixels; p++, x += pool->step, y += channels)
        for (size_t c = 0; c < channels; c += BLOCK)
            max_block(pool, channels - c < BLOCK ? channels - c : BLOCK, x + c, y + c);
}

void eq_average_pool_scalar(const eq_pool *pool, size_t pixels, const int8_t *x, int8_t *y)
{
    const size_t channels = pool->channels;
    for (size_t p = 0; p < pixels; p++, x += pool->step, y += channels)
        for (size_t c = 0; c < channels; c += BLOCK)
            average_block(pool, channels - c < BLOCK ? channels - c : BLOCK, x + c, y + c);
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

void eq_requantize_scalar(size_t n, const int32_t *acc, int8_t *y, int32_t m, int32_t e,
                          int32_t zero)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (int8_t)eq_clamp(eq_add_wrap(eq_requant_r31(acc[i], m, e), zero), -128, 127);
}
