/* SPDX-License-Identifier: Apache-2.0 */
#include "core/numerics.h"
#include "kernels/scalar/scalar.h"

static inline int32_t add_operand(int8_t x, int32_t zero, int32_t left_shift, int32_t m, int32_t e)
{
    return eq_requant_r31(eq_shl_wrap(x - zero, left_shift), m, e);
}

static inline int8_t add_finish(int32_t a, int32_t b, const eq_add_params *p)
{
    const int32_t sum = eq_add_wrap(a, p->sign2 < 0 ? (int32_t)(0u - (uint32_t)b) : b);
    const int32_t y = eq_add_wrap(eq_requant_r31(sum, p->my, p->ey), p->y_zero);
    return (int8_t)eq_clamp(y, p->act_min, p->act_max);
}

void eq_add_scalar(size_t n, const int8_t *x1, size_t step1, const int8_t *x2, size_t step2,
                   int8_t *y, const eq_add_params *params)
{
    const eq_add_params p = *params;
    if (n == 0)
        return;
    int32_t a = add_operand(x1[0], p.x1_zero, p.left_shift, p.m1, p.e1);
    int32_t b = add_operand(x2[0], p.x2_zero, p.left_shift, p.m2, p.e2);
    for (size_t i = 0; i < n; i++) {
        if (step1)
            a = add_operand(x1[i], p.x1_zero, p.left_shift, p.m1, p.e1);
        if (step2)
            b = add_operand(x2[i], p.x2_zero, p.left_shift, p.m2, p.e2);
        y[i] = add_finish(a, b, &p);
    }
}

void eq_mul_scalar(size_t n, const int8_t *x1, size_t step1, const int8_t *x2, size_t step2,
                   int8_t *y, const eq_mul_params *params)
{
    const eq_mul_params p = *params;
    for (size_t i = 0; i < n; i++) {
        const int32_t product = (x1[i * step1] - p.x1_zero) * (x2[i * step2] - p.x2_zero);
        const int32_t v = eq_add_wrap(eq_requant_r31(product, p.m, p.e), p.y_zero);
        y[i] = (int8_t)eq_clamp(v, p.act_min, p.act_max);
    }
}

/* Both are symmetric, so an operand that is repeated can always be the second. */
void eq_maximum_scalar(size_t n, const int8_t *x1, size_t step1, const int8_t *x2, size_t step2,
                       int8_t *y)
{
    if (n == 0)
        return;
    const int8_t first = step1 ? x2[0] : x1[0];
    if (step1 && step2) {
        for (size_t i = 0; i < n; i++)
            y[i] = x1[i] > x2[i] ? x1[i] : x2[i];
        return;
    }
    const int8_t *x = step1 ? x1 : x2;
    const size_t step = step1 | step2;
    for (size_t i = 0; i < n; i++)
        y[i] = x[i * step] > first ? x[i * step] : first;
}

void eq_minimum_scalar(size_t n, const int8_t *x1, size_t step1, const int8_t *x2, size_t step2,
                       int8_t *y)
{
    if (n == 0)
        return;
    const int8_t first = step1 ? x2[0] : x1[0];
    if (step1 && step2) {
        for (size_t i = 0; i < n; i++)
            y[i] = x1[i] < x2[i] ? x1[i] : x2[i];
        return;
    }
    const int8_t *x = step1 ? x1 : x2;
    const size_t step = step1 | step2;
    for (size_t i = 0; i < n; i++)
        y[i] = x[i * step] < first ? x[i * step] : first;
}

void eq_prelu_scalar(size_t n, const int8_t *x, size_t step1, const int8_t *alpha, size_t step2,
                     int8_t *y, const eq_prelu_params *params)
{
    const eq_prelu_params p = *params;
    for (size_t i = 0; i < n; i++) {
        const int32_t v = x[i * step1] - p.x_zero, a = alpha[i * step2] - p.alpha_zero;
        const int32_t scaled =
            eq_requant_r31(v >= 0 ? v : v * a, v >= 0 ? p.m1 : p.m2, v >= 0 ? p.e1 : p.e2);
        y[i] = (int8_t)eq_clamp(eq_add_wrap(scaled, p.y_zero), -128, 127);
    }
}

void eq_lut_scalar(size_t n, const int8_t *x, int8_t *y, const int8_t table[256])
{
    for (size_t i = 0; i < n; i++)
        y[i] = table[x[i] + 128];
}
