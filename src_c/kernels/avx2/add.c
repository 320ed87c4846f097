/* SPDX-License-Identifier: Apache-2.0
 *
 * ADD. Two ways to the same bytes: R31 three times as it is written, and, where nothing wraps, an
 * estimate in fixed point that tells when it cannot be sure (docs/NUMERICS.md, ADD by one scale).
 */
#include "kernels/avx2/avx2.h"
#include "kernels/x86/add.h"

#if defined(__x86_64__)

typedef struct exact_add {
    __m256i x1_zero, x2_zero, y_zero, low, high;
    __m256i sign; /* of the second operand: 0 or -1 */
    r31 r1, r2, ry;
    __m128i left_shift;
} exact_add;

/* One unit of the estimate is 2^-fraction of an output. */
typedef struct fast_add {
    __m256i upper, lower; /* factors, the first operand's and the second's: upper * 2^8 + lower */
    __m256i constant, unsure, low, high;
    __m128i fraction, integer; /* 32 bits together */
    const exact_add *exact;
} fast_add;

static AVX2 void set_exact(const eq_add_params *p, exact_add *k)
{
    k->x1_zero = _mm256_set1_epi32(p->x1_zero);
    k->x2_zero = _mm256_set1_epi32(p->x2_zero);
    k->y_zero = _mm256_set1_epi32(p->y_zero);
    k->sign = _mm256_set1_epi32(p->sign2 < 0 ? -1 : 0);
    k->low = _mm256_set1_epi8((char)p->act_min);
    k->high = _mm256_set1_epi8((char)p->act_max);
    k->r1 = r31_of(p->m1, p->e1);
    k->r2 = r31_of(p->m2, p->e2);
    k->ry = r31_of(p->my, p->ey);
    k->left_shift = _mm_cvtsi32_si128(p->left_shift);
}

static AVX2_INLINE __m256i add_operand(__m256i x, __m256i zero, __m128i left_shift, const r31 *r)
{
    return requantize(_mm256_sll_epi32(_mm256_sub_epi32(x, zero), left_shift), r);
}

static AVX2 __attribute__((noinline)) __m256i add_exactly(__m256i x1, __m256i x2,
                                                          const void *params)
{
    const exact_add *k = params;
    __m256i a[4], b[4], y[4];
    widen(x1, a);
    widen(x2, b);
    for (int i = 0; i < 4; i++) {
        const __m256i first = add_operand(a[i], k->x1_zero, k->left_shift, &k->r1);
        const __m256i second = add_operand(b[i], k->x2_zero, k->left_shift, &k->r2);
        const __m256i sum =
            _mm256_add_epi32(first, _mm256_sub_epi32(_mm256_xor_si256(second, k->sign), k->sign));
        y[i] = _mm256_add_epi32(requantize(sum, &k->ry), k->y_zero);
    }
    return clamp_8(narrow(y), k->low, k->high);
}

/* x1 and x2 in the upper halves of 16 bits, side by side: vpmaddwd adds both products of a factor's
 * upper part at its place, those of its lower part 8 bits too high. */
static AVX2_INLINE __m256i add_fast(__m256i x1, __m256i x2, const void *params)
{
    const fast_add *k = params;
    const __m256i zero = _mm256_setzero_si256();
    const __m256i low = _mm256_unpacklo_epi8(x1, x2), high = _mm256_unpackhi_epi8(x1, x2);
    const __m256i pairs[4] = {_mm256_unpacklo_epi8(zero, low), _mm256_unpackhi_epi8(zero, low),
                              _mm256_unpacklo_epi8(zero, high), _mm256_unpackhi_epi8(zero, high)};
    __m256i y[4], least = _mm256_set1_epi32(-1);
    for (int i = 0; i < 4; i++) {
        const __m256i upper = _mm256_add_epi32(_mm256_madd_epi16(pairs[i], k->upper), k->constant);
        const __m256i lower = _mm256_srai_epi32(_mm256_madd_epi16(pairs[i], k->lower), 8);
        const __m256i z = _mm256_add_epi32(upper, lower);
        least = _mm256_min_epu32(least, _mm256_sll_epi32(z, k->integer));
        y[i] = _mm256_sra_epi32(z, k->fraction);
    }
    const __m256i unsure = _mm256_cmpeq_epi32(_mm256_min_epu32(least, k->unsure), least);
    if (__builtin_expect(!_mm256_testz_si256(unsure, unsure), 0))
        return add_exactly(x1, x2, k->exact);
    return clamp_8(narrow(y), k->low, k->high);
}

static AVX2 void add(size_t n, const int8_t *x1, size_t step1, const int8_t *x2, size_t step2,
                     int8_t *y, const eq_add_params *p)
{
    exact_add exact;
    add_factors f;
    set_exact(p, &exact);
    if (n < 64 || !plan_add(p, &f)) {
        walk_binary(n, x1, step1, x2, step2, y, add_exactly, &exact);
        return;
    }
    const fast_add k = {
        .upper = _mm256_set1_epi32(pair_of(f.first >> 8, f.second >> 8)),
        .lower = _mm256_set1_epi32(pair_of(f.first & 255, f.second & 255)),
        .constant = _mm256_set1_epi32(f.constant),
        .unsure = _mm256_set1_epi32((int32_t)((uint32_t)(2 * f.bound) << (32 - f.fraction))),
        .low = exact.low,
        .high = exact.high,
        .fraction = _mm_cvtsi32_si128(f.fraction),
        .integer = _mm_cvtsi32_si128(32 - f.fraction),
        .exact = &exact,
    };
    walk_binary(n, x1, step1, x2, step2, y, add_fast, &k);
}

void eq_kernels_fill_avx2_add(eq_kernels *kernels)
{
    kernels->add = add;
}
#endif
