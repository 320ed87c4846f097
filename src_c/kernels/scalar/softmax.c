/* SPDX-License-Identifier: Apache-2.0
 *
 * Fixed point as gemmlowp writes it: Qm is an int32 with m integer and 31 - m fraction bits. A
 * product of Qa and Qb by eq_mul_high is Q(a+b). Sources: fixedpoint.h of gemmlowp (Newton-Raphson
 * reciprocal), common.h, softmax.h and log_softmax.h of TFLite's reference kernels. */
#include "core/numerics.h"
#include "kernels/scalar/scalar.h"

#define Q2_ONE (1 << 29)

/* x * 2^n, n in [0, 31], saturating. */
static inline int32_t shl_saturate(int32_t x, int n)
{
    const int64_t y = (int64_t)x * ((int64_t)1 << n);
    return y > INT32_MAX ? INT32_MAX : y < INT32_MIN ? INT32_MIN : (int32_t)y;
}

static inline int32_t add_saturate(int32_t a, int32_t b)
{
    const int64_t y = (int64_t)a + b;
    return y > INT32_MAX ? INT32_MAX : y < INT32_MIN ? INT32_MIN : (int32_t)y;
}

/* (a + b) / 2 rounded half away from zero. */
static inline int32_t half_sum(int32_t a, int32_t b)
{
    const int64_t sum = (int64_t)a + b;
    return (int32_t)((sum + (sum >= 0 ? 1 : -1)) / 2);
}

/* 1 / (1 + a) in Q0, a in Q0, a >= 0: three Newton-Raphson steps x += x * (1 - d * x) in Q2 for
 * d = (1 + a) / 2 in [1/2, 1], from the line 48/17 - 32/17 d. The result is x / 2. */
static int32_t reciprocal_of_one_plus(int32_t a)
{
    const int32_t d = half_sum(a, INT32_MAX);
    int32_t x = 1515870810 + eq_mul_high(d, -1010580540);
    for (int i = 0; i < 3; i++) {
        const int32_t rest = Q2_ONE - eq_mul_high(d, x);
        x += shl_saturate(eq_mul_high(x, rest), 2); /* Q4 to Q2 */
    }
    return shl_saturate(x, 1); /* Q1 to Q0 */
}

static int32_t row_max(size_t n, const int8_t *x)
{
    int8_t best = x[0];
    for (size_t i = 1; i < n; i++)
        best = x[i] > best ? x[i] : best;
    return best;
}

/* Sum of exp(x - max) in Q12.19, at most `limit`. The maximum's own term is 2^19, the largest. */
static uint32_t sum_of_exp(size_t n, const int8_t *x, int32_t max, const int32_t exp_table[256],
                           uint32_t limit)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (uint32_t)eq_rshift_round(exp_table[max - x[i]], 12);
    return sum < limit ? (uint32_t)sum : limit;
}

void eq_softmax_scalar(size_t n, const int8_t *x, int8_t *y, const int32_t exp_table[256])
{
    const int32_t max = row_max(n, x);
    const uint32_t sum = sum_of_exp(n, x, max, exp_table, UINT32_MAX);
    /* sum = (1 + a) * 2^(12 - zeros), a in Q0: the scale is 1 / (1 + a), the rest a shift to Q8. */
    const int zeros = 32 - eq_bit_length(sum);
    const int shift = 12 - zeros + 31 - 8; /* in [23, 35] */
    const int32_t scale = reciprocal_of_one_plus((int32_t)((sum << zeros) - 0x80000000u));
    for (size_t i = 0; i < n; i++) {
        const int32_t product = eq_mul_high(scale, exp_table[max - x[i]]);
        const int32_t v = shift > 31 ? 0 : eq_rshift_round(product, shift); /* product < 2^31 */
        y[i] = (int8_t)eq_clamp(v - 128, -128, 127);
    }
}

/* ln(z) in Q5.26 for z in Q12.19, z >= 1. z = r * 2^k by two ways whose k differ by a half; the one
 * with the smaller r is used, which keeps r near 2^(-1/4); then a rational approximation of ln(r)
 * around 2^(-1/4). Constants are in Q0. */
static int32_t log_q5(int32_t z)
{
    const int32_t ln_2 = 1488522236, root_half = 1518500250, root4_half = 1805811301;
    const int32_t alpha_n = 117049297, alpha_d = 127690142;
    const int32_t alpha_i = 1057819769, alpha_f = 638450708;
    const int32_t quarter = 1 << 23; /* Q6 */

    const int zeros_a = 32 - eq_bit_length((uint32_t)z);
    const int32_t r_a = shl_saturate(eq_mul_high(shl_saturate(z, zeros_a - 1), root_half), 1);
    const int32_t power_a = add_saturate(shl_saturate(12 - zeros_a, 25), quarter); /* Q6 */

    const int headroom_b = 31 - eq_bit_length((uint32_t)eq_mul_high(z, root_half));
    const int32_t r_b = shl_saturate(z, headroom_b);
    const int32_t power_b = add_saturate(shl_saturate(12 - headroom_b, 25), -quarter);

    const int32_t r = r_a < r_b ? r_a : r_b;
    const int32_t power = power_a > power_b ? power_a : power_b;

    const int32_t p = half_sum(r, root4_half);
    const int32_t q = 2 * (r - root4_half); /* r in [0.70, 1): |q| < 0.32 */
    const int32_t q2 = eq_mul_high(q, q);
    const int32_t numerator = eq_mul_high(q, r) + eq_mul_high(eq_mul_high(q, q2), alpha_n);
    const int32_t denominator_minus_one =
        eq_mul_high(p, alpha_i + q + eq_mul_high(alpha_d, q2)) + eq_mul_high(alpha_f, q);
    const int32_t fraction = eq_mul_high(eq_rshift_round(numerator, 6),
                                         reciprocal_of_one_plus(denominator_minus_one)); /* Q6 */
    return shl_saturate(eq_mul_high(power, ln_2) + fraction, 1);
}

void eq_log_softmax_scalar(size_t n, const int8_t *x, int8_t *y, const int32_t exp_table[256],
                           const int32_t diff_table[256], const eq_log_softmax_params *params)
{
    const int32_t max = row_max(n, x);
    const int32_t log_sum = log_q5((int32_t)sum_of_exp(n, x, max, exp_table, INT32_MAX));
    /* Where diff - log_sum would leave Q5 the output is the lowest. */
    const int32_t least =
        eq_requant_r31(eq_add_wrap(log_sum, INT32_MIN), params->reverse_m, params->reverse_e);
    const int32_t bound = least > params->diff_min - 1 ? least : params->diff_min - 1;
    for (size_t i = 0; i < n; i++) {
        const int32_t diff = x[i] - max;
        int32_t v = -128;
        if (diff > bound) {
            const int32_t q5 = eq_add_wrap(diff_table[-diff], -log_sum);
            v = eq_clamp(eq_rshift_round(q5, 31 - 5 - 4) + 127, -128, 127);
        }
        y[i] = (int8_t)v;
    }
}
