/* SPDX-License-Identifier: Apache-2.0
 *
 * SOFTMAX, LOG_SOFTMAX. An output is a function of the difference to the maximum: a row of more
 * than 256 elements computes all 256 of them and looks its elements up. Exponentials are fetched
 * one by one; gathering instructions are slower on many machines. */
#include "core/fixed.h"
#include "kernels/avx2/avx2.h"

#if defined(__x86_64__)

#define SHARED __attribute__((noinline)) /* one copy for both ops */

enum { DIFFERENCES = 256 };

static AVX2 SHARED int32_t row_max(size_t n, const int8_t *x)
{
    int8_t best = x[0];
    if (n < 32) {
        for (size_t i = 1; i < n; i++)
            best = x[i] > best ? x[i] : best;
        return best;
    }
    __m256i v = load_32(x + n - 32);
    for (size_t i = 0; i + 32 <= n; i += 32)
        v = _mm256_max_epi8(v, load_32(x + i));
    __m128i m = _mm_max_epi8(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    m = _mm_xor_si128(m, _mm_set1_epi8(127)); /* unsigned, the greatest becomes the least */
    m = _mm_min_epu8(m, _mm_srli_epi16(m, 8));
    return (int8_t)(_mm_cvtsi128_si32(_mm_minpos_epu16(m)) ^ 127);
}

static AVX2_INLINE __m256i load_i32(const int32_t *x)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)x);
}

/* rshift(v, 12) of 8 exponentials in Q0.31, none negative: Q12.19. */
static AVX2_INLINE __m256i to_q12(__m256i v)
{
    return _mm256_srli_epi32(_mm256_add_epi32(v, _mm256_set1_epi32(1 << 11)), 12);
}

/* Exponentials of n <= 256 elements and zeros up to a multiple of 32. */
static AVX2 SHARED size_t fetch(size_t n, const int8_t *x, int32_t max,
                                const int32_t exp_table[256], int32_t e[DIFFERENCES])
{
    const size_t end = (n + 31) & ~(size_t)31;
    for (size_t i = 0; i < n; i++)
        e[i] = exp_table[max - x[i]];
    memset(e + n, 0, (end - n) * sizeof e[0]);
    return end;
}

/* The sum of n <= 256 exponentials in Q12.19: at most 2^27. */
static AVX2 SHARED uint32_t sum_of_few(size_t n, const int32_t *e)
{
    __m256i sum = _mm256_setzero_si256();
    for (size_t i = 0; i < n; i += 8)
        sum = _mm256_add_epi32(sum, to_q12(load_i32(e + i)));
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1));
    return (uint32_t)_mm_cvtsi128_si32(s);
}

/* The sum of the exponentials of any number of elements in Q12.19, at most `limit`. */
static AVX2 SHARED uint32_t sum_of_many(size_t n, const int8_t *x, int32_t max,
                                        const int32_t exp_table[256], uint32_t limit)
{
    uint32_t q12[DIFFERENCES];
    uint64_t sum[4] = {0};
    size_t i = 0;
    for (size_t d = 0; d < DIFFERENCES; d += 8)
        _mm256_storeu_si256((__m256i *)(void *)(q12 + d), to_q12(load_i32(exp_table + d)));
    for (; i + 4 <= n; i += 4)
        for (size_t j = 0; j < 4; j++)
            sum[j] += q12[max - x[i + j]];
    for (; i < n; i++)
        sum[0] += q12[max - x[i]];
    sum[0] += sum[1] + sum[2] + sum[3];
    return sum[0] < limit ? (uint32_t)sum[0] : limit;
}

/* y[i] = by_difference[max - x[i]]. */
static AVX2 SHARED void lookup_differences(size_t n, const int8_t *x, int32_t max,
                                           const int8_t by_difference[256], int8_t *y)
{
    int8_t table[256] = {0};
    table_256 t;
    for (int32_t d = 0; d <= max + 128; d++)
        table[max + 128 - d] = by_difference[d];
    load_table(table, &t);
    const __m256i last = lookup(load_32(x + n - 32), &t);
    for (size_t i = 0; i + 32 <= n; i += 32)
        store_32(y + i, lookup(load_32(x + i), &t));
    store_32(y + n - 32, last);
}

/* clamp(rshift(high(scale, e), shift) - 128): n exponentials, a multiple of 32. scale, e >= 0, so
 * the rounded quotient is below 2^32 before the shift; from 32 on it is 0. */
static AVX2 void quotients(size_t n, const int32_t *e, int32_t scale, int shift, int8_t *y)
{
    const __m256i half = _mm256_set1_epi32(shift < 32 ? 1 << (shift - 1) : 0);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m128i count = _mm_cvtsi32_si128(shift);
    const r31 by_scale = r31_of(scale, 0);
    for (size_t i = 0; i < n; i += 32) {
        __m256i v[4];
        for (size_t q = 0; q < 4; q++) {
            const __m256i product = requantize(load_i32(e + i + 8 * q), &by_scale);
            const __m256i v32 = _mm256_srl_epi32(_mm256_add_epi32(product, half), count);
            v[q] = _mm256_sub_epi32(v32, _mm256_set1_epi32(128));
        }
        store_32(y + i, _mm256_permutevar8x32_epi32(narrow(v), order));
    }
}

static AVX2 void softmax(size_t n, const int8_t *x, int8_t *y, const int32_t exp_table[256])
{
    const int32_t max = row_max(n, x), *e = exp_table;
    int32_t few[DIFFERENCES];
    int8_t results[DIFFERENCES];
    uint32_t sum;
    size_t count = DIFFERENCES;
    if (n <= DIFFERENCES) {
        count = fetch(n, x, max, exp_table, few);
        sum = sum_of_few(count, few);
        e = few;
    } else {
        sum = sum_of_many(n, x, max, exp_table, UINT32_MAX);
    }
    /* sum = (1 + a) * 2^(12 - zeros), a in Q0: the scale is 1 / (1 + a), the rest a shift to Q8. */
    const int zeros = 32 - eq_bit_length(sum);
    const int32_t scale = eq_reciprocal_of_one_plus((int32_t)((sum << zeros) - 0x80000000u));
    quotients(count, e, scale, 12 - zeros + 31 - 8, results);
    if (n <= DIFFERENCES)
        memcpy(y, results, n);
    else
        lookup_differences(n, x, max, results, y);
}

/* One output, as the scalar kernel computes it. */
static SHARED int8_t log_quotient(int32_t d, const int32_t diff_table[256], int32_t log_sum,
                                  int32_t bound)
{
    if (-d <= bound)
        return -128;
    const int32_t q5 = eq_add_wrap(diff_table[d], -log_sum);
    return (int8_t)eq_clamp(eq_rshift_round(q5, 31 - 5 - 4) + 127, -128, 127);
}

static AVX2 void log_softmax(size_t n, const int8_t *x, int8_t *y, const int32_t exp_table[256],
                             const int32_t diff_table[256], const eq_log_softmax_params *params)
{
    const int32_t max = row_max(n, x);
    uint32_t sum;
    if (n <= DIFFERENCES) {
        int32_t few[DIFFERENCES];
        sum = sum_of_few(fetch(n, x, max, exp_table, few), few);
    } else {
        sum = sum_of_many(n, x, max, exp_table, INT32_MAX);
    }
    const int32_t log_sum = eq_log_q5((int32_t)sum);
    /* Where diff - log_sum would leave Q5 the output is the lowest. */
    const int32_t least =
        eq_requant_r31(eq_add_wrap(log_sum, INT32_MIN), params->reverse_m, params->reverse_e);
    const int32_t bound = least > params->diff_min - 1 ? least : params->diff_min - 1;
    if (n <= DIFFERENCES) {
        for (size_t i = 0; i < n; i++)
            y[i] = log_quotient(max - x[i], diff_table, log_sum, bound);
        return;
    }
    int8_t results[DIFFERENCES];
    for (int32_t d = 0; d < DIFFERENCES; d++)
        results[d] = log_quotient(d, diff_table, log_sum, bound);
    lookup_differences(n, x, max, results, y);
}

void eq_kernels_fill_avx2_softmax(eq_kernels *kernels)
{
    kernels->softmax = softmax;
    kernels->log_softmax = log_softmax;
}
#endif
