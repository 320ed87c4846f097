/* SPDX-License-Identifier: Apache-2.0
 *
 * Fixed point as gemmlowp writes it: Qm is an int32 with m integer and 31 - m fraction bits. A
 * product of Qa and Qb by eq_mul_high is Q(a+b). Sources: fixedpoint.h of gemmlowp (Newton-Raphson
 * reciprocal), common.h and log_softmax.h of TFLite's reference kernels. */
#ifndef EQ_CORE_FIXED_H
#define EQ_CORE_FIXED_H

#include "core/numerics.h"

/* x * 2^n, n in [0, 31], saturating. */
static inline int32_t eq_shl_saturate(int32_t x, int n)
{
    const int64_t y = (int64_t)x * ((int64_t)1 << n);
    return y > INT32_MAX ? INT32_MAX : y < INT32_MIN ? INT32_MIN : (int32_t)y;
}

static inline int32_t eq_add_saturate(int32_t a, int32_t b)
{
    const int64_t y = (int64_t)a + b;
    return y > INT32_MAX ? INT32_MAX : y < INT32_MIN ? INT32_MIN : (int32_t)y;
}

/* (a + b) / 2 rounded half away from zero. */
static inline int32_t eq_half_sum(int32_t a, int32_t b)
{
    const int64_t sum = (int64_t)a + b;
    return (int32_t)((sum + (sum >= 0 ? 1 : -1)) / 2);
}

/* 1 / (1 + a) in Q0, a in Q0, a >= 0: three Newton-Raphson steps x += x * (1 - d * x) in Q2 for
 * d = (1 + a) / 2 in [1/2, 1], from the line 48/17 - 32/17 d. The result is x / 2. */
static inline int32_t eq_reciprocal_of_one_plus(int32_t a)
{
    const int32_t d = eq_half_sum(a, INT32_MAX);
    int32_t x = 1515870810 + eq_mul_high(d, -1010580540);
    for (int i = 0; i < 3; i++) {
        const int32_t rest = (1 << 29) - eq_mul_high(d, x);
        x += eq_shl_saturate(eq_mul_high(x, rest), 2); /* Q4 to Q2 */
    }
    return eq_shl_saturate(x, 1); /* Q1 to Q0 */
}

/* ln(z) in Q5.26 for z in Q12.19, z >= 1. z = r * 2^k by two ways whose k differ by a half; the one
 * with the smaller r is used, which keeps r near 2^(-1/4); then a rational approximation of ln(r)
 * around 2^(-1/4). Constants are in Q0. */
static inline int32_t eq_log_q5(int32_t z)
{
    const int32_t ln_2 = 1488522236, root_half = 1518500250, root4_half = 1805811301;
    const int32_t alpha_n = 117049297, alpha_d = 127690142;
    const int32_t alpha_i = 1057819769, alpha_f = 638450708;
    const int32_t quarter = 1 << 23; /* Q6 */

    const int zeros_a = 32 - eq_bit_length((uint32_t)z);
    const int32_t r_a = eq_shl_saturate(eq_mul_high(eq_shl_saturate(z, zeros_a - 1), root_half), 1);
    const int32_t power_a = eq_add_saturate(eq_shl_saturate(12 - zeros_a, 25), quarter); /* Q6 */

    const int headroom_b = 31 - eq_bit_length((uint32_t)eq_mul_high(z, root_half));
    const int32_t r_b = eq_shl_saturate(z, headroom_b);
    const int32_t power_b = eq_add_saturate(eq_shl_saturate(12 - headroom_b, 25), -quarter);

    const int32_t r = r_a < r_b ? r_a : r_b;
    const int32_t power = power_a > power_b ? power_a : power_b;

    const int32_t p = eq_half_sum(r, root4_half);
    const int32_t q = 2 * (r - root4_half); /* r in [0.70, 1): |q| < 0.32 */
    const int32_t q2 = eq_mul_high(q, q);
    const int32_t numerator = eq_mul_high(q, r) + eq_mul_high(eq_mul_high(q, q2), alpha_n);
    const int32_t denominator_minus_one =
        eq_mul_high(p, alpha_i + q + eq_mul_high(alpha_d, q2)) + eq_mul_high(alpha_f, q);
    const int32_t fraction = eq_mul_high(eq_rshift_round(numerator, 6),
                                         eq_reciprocal_of_one_plus(denominator_minus_one)); /* Q6 */
    return eq_shl_saturate(eq_mul_high(power, ln_2) + fraction, 1);
}

/* 1 / sqrt(x) = m * 2^(e - 31) for x >= 0, 0 counting as 1: five Newton-Raphson steps
 * v = 3/2 * v - x/2 * v^3 in Q3 from 1, for x * 4^k in [1/4, 1). */
static inline void eq_inverse_sqrt(int32_t x, int32_t *m, int *e)
{
    int shift = 11;
    if (x <= 1) {
        *m = INT32_MAX;
        *e = 0;
        return;
    }
    for (; x >= 1 << 29; shift++)
        x /= 4;
    const int pairs = (31 - eq_bit_length((uint32_t)x)) / 2 - 1;
    shift -= pairs;
    x = eq_shl_wrap(x, 2 * pairs);
    const int32_t half = eq_half_sum(x >> 1, 0);
    int32_t v = 1 << 28;
    for (int i = 0; i < 5; i++) {
        const int32_t cube = eq_shl_saturate(eq_mul_high(eq_mul_high(v, v), v), 6);
        v = eq_shl_saturate(eq_mul_high((1 << 28) + (1 << 27), v) - eq_mul_high(half, cube), 3);
    }
    v = eq_mul_high(v, 1518500250); /* sqrt(1/2) in Q0 */
    *m = shift < 0 ? eq_shl_wrap(v, -shift) : v;
    *e = shift < 0 ? 0 : -shift;
}

#endif
