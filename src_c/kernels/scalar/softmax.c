/* SPDX-License-Identifier: Apache-2.0
 *
 * Sources: softmax.h and log_softmax.h of TFLite's reference kernels. */
#include "core/fixed.h"
#include "kernels/scalar/scalar.h"

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
    const int32_t scale = eq_reciprocal_of_one_plus((int32_t)((sum << zeros) - 0x80000000u));
    for (size_t i = 0; i < n; i++) {
        const int32_t product = eq_mul_high(scale, exp_table[max - x[i]]);
        const int32_t v = shift > 31 ? 0 : eq_rshift_round(product, shift); /* product < 2^31 */
        y[i] = (int8_t)eq_clamp(v - 128, -128, 127);
    }
}

void eq_log_softmax_scalar(size_t n, const int8_t *x, int8_t *y, const int32_t exp_table[256],
                           const int32_t diff_table[256], const eq_log_softmax_params *params)
{
    const int32_t max = row_max(n, x);
    const int32_t log_sum = eq_log_q5((int32_t)sum_of_exp(n, x, max, exp_table, INT32_MAX));
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
