/* SPDX-License-Identifier: Apache-2.0
 *
 * Elementwise kernels of int16, or of int16 and int8. */
#include "core/numerics.h"
#include "kernels/scalar/scalar.h"

static inline int32_t load(const void *x, size_t i, bool wide)
{
    return wide ? ((const int16_t *)x)[i] : ((const int8_t *)x)[i];
}

static inline void store(void *y, size_t i, bool wide, int32_t v)
{
    if (wide)
        ((int16_t *)y)[i] = (int16_t)v;
    else
        ((int8_t *)y)[i] = (int8_t)v;
}

static inline int32_t add_operand(int32_t x, int32_t zero, int32_t left_shift, int32_t m, int32_t e)
{
    return eq_requant_r31(eq_shl_wrap(x - zero, left_shift), m, e);
}

void eq_add16_scalar(size_t n, const void *x1, size_t step1, const void *x2, size_t step2, void *y,
                     const eq_add_params *params, unsigned wide)
{
    const eq_add_params p = *params;
    int32_t a = 0, b = 0;
    for (size_t i = 0; i < n; i++) {
        if (step1 || i == 0)
            a = add_operand(load(x1, i * step1, wide & EQ_WIDE_X1), p.x1_zero, p.left_shift, p.m1,
                            p.e1);
        if (step2 || i == 0)
            b = add_operand(load(x2, i * step2, wide & EQ_WIDE_X2), p.x2_zero, p.left_shift, p.m2,
                            p.e2);
        const int32_t sum = eq_add_wrap(a, p.sign2 < 0 ? (int32_t)(0u - (uint32_t)b) : b);
        const int32_t v = eq_add_wrap(eq_requant_r31(sum, p.my, p.ey), p.y_zero);
        store(y, i, wide & EQ_WIDE_Y, eq_clamp(v, p.act_min, p.act_max));
    }
}

void eq_mul16_scalar(size_t n, const void *x1, size_t step1, const void *x2, size_t step2, void *y,
                     const eq_mul_params *params, unsigned wide)
{
    const eq_mul_params p = *params;
    for (size_t i = 0; i < n; i++) {
        const int32_t a = load(x1, i * step1, wide & EQ_WIDE_X1) - p.x1_zero;
        const int32_t b = load(x2, i * step2, wide & EQ_WIDE_X2) - p.x2_zero;
        const int32_t v = eq_add_wrap(eq_requant_r31(a * b, p.m, p.e), p.y_zero);
        store(y, i, wide & EQ_WIDE_Y, eq_clamp(v, p.act_min, p.act_max));
    }
}

void eq_rescale_scalar(size_t n, const void *x, uint8_t x_dtype, void *y, uint8_t y_dtype,
                       const eq_requantize_params *params)
{
    const eq_requantize_params p = *params;
    for (size_t i = 0; i < n; i++) {
        const int32_t from = x_dtype == EQ_DT_INT32 ? ((const int32_t *)x)[i]
                                                    : load(x, i, x_dtype == EQ_DT_INT16) - p.x_zero;
        const int32_t v =
            eq_clamp(eq_add_wrap(eq_requant_r31(from, p.m, p.e), p.y_zero), p.act_min, p.act_max);
        if (y_dtype == EQ_DT_INT32)
            ((int32_t *)y)[i] = v;
        else
            store(y, i, y_dtype == EQ_DT_INT16, v);
    }
}

void eq_interpolate_scalar(size_t n, const int16_t *x, int16_t *y, const int16_t table[513])
{
    for (size_t i = 0; i < n; i++)
        y[i] = (int16_t)eq_interpolate(x[i], table);
}
