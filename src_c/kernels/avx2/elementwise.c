/* SPDX-License-Identifier: Apache-2.0
 *
 * MUL, PRELU, MAXIMUM, MINIMUM, tables. */
#include "kernels/avx2/avx2.h"

#if defined(__x86_64__)

/* ---- R31 of products of two differences of bytes, e <= 0. With n = -e >= 1 and |x| <= 2^16 it is
 *
 *     (high32(2x * m + 2^31 + 2^(n + 31)) - (x < 0)) >> n
 *
 * since high32(2x * m + 2^31) is high(x, m), and rounding a negative number half away from zero is
 * adding a half less one unit. Where high(x, m) is 0 for a negative x both are 0. For n = 0 neither
 * the half nor the sign counts. Nothing wraps: |high(x, m)| <= 2^16. */

typedef struct small_r31 {
    __m256i m, round;
    __m128i sign, right; /* counts of shifts: by 32 no sign is left */
} small_r31;

static AVX2_INLINE small_r31 small_r31_of(int32_t m, int32_t e)
{
    const int n = -e;
    const int64_t half = n > 0 ? (int64_t)1 << (n + 31) : 0;
    return (small_r31){_mm256_set1_epi32(m), _mm256_set1_epi64x(half + ((int64_t)1 << 31)),
                       _mm_cvtsi32_si128(n > 0 ? 31 : 32), _mm_cvtsi32_si128(n)};
}

static AVX2_INLINE __m256i requantize_small(__m256i twice_x, const small_r31 *r)
{
    const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(twice_x, r->m), r->round);
    const __m256i odd =
        _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(twice_x, 32), r->m), r->round);
    const __m256i high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
    return _mm256_sra_epi32(_mm256_sub_epi32(high, _mm256_srl_epi32(twice_x, r->sign)), r->right);
}

/* ---- MUL */

typedef struct mul_constants {
    __m256i x1_zero, x2_zero; /* int16, the first 2^7 or 2^8 times */
    __m256i y_zero, low, high;
    small_r31 small;
    r31 exact;
} mul_constants;

/* 2 * (x1 - z1) * (x2 - z2) if `doubled`, as int32 in the order of `widen`. */
static AVX2_INLINE void products(__m256i x1, __m256i x2, __m256i x1_zero, __m256i x2_zero,
                                 bool doubled, __m256i out[4])
{
    const __m256i zero = _mm256_setzero_si256();
    const __m256i a[2] = {_mm256_unpacklo_epi8(zero, x1), _mm256_unpackhi_epi8(zero, x1)};
    const __m256i b[2] = {_mm256_unpacklo_epi8(zero, x2), _mm256_unpackhi_epi8(zero, x2)};
    for (int i = 0; i < 2; i++) {
        const __m256i a16 = _mm256_srai_epi16(a[i], 8), b16 = _mm256_srai_epi16(b[i], 8);
        const __m256i d = _mm256_sub_epi16(a16, x1_zero);
        const __m256i first = doubled ? _mm256_add_epi16(d, d) : d;
        const __m256i second = _mm256_sub_epi16(b16, x2_zero);
        const __m256i low = _mm256_mullo_epi16(first, second);
        const __m256i high = _mm256_mulhi_epi16(first, second);
        out[2 * i] = _mm256_unpacklo_epi16(low, high);
        out[2 * i + 1] = _mm256_unpackhi_epi16(low, high);
    }
}

static AVX2_INLINE __m256i mul_small(__m256i x1, __m256i x2, const void *params)
{
    const mul_constants *k = params;
    __m256i y[4];
    products(x1, x2, k->x1_zero, k->x2_zero, true, y);
    for (int i = 0; i < 4; i++)
        y[i] = _mm256_add_epi32(requantize_small(y[i], &k->small), k->y_zero);
    return clamp_8(narrow(y), k->low, k->high);
}

static AVX2_INLINE __m256i mul_exactly(__m256i x1, __m256i x2, const void *params)
{
    const mul_constants *k = params;
    __m256i y[4];
    products(x1, x2, k->x1_zero, k->x2_zero, false, y);
    for (int i = 0; i < 4; i++)
        y[i] = _mm256_add_epi32(requantize(y[i], &k->exact), k->y_zero);
    return clamp_8(narrow(y), k->low, k->high);
}

static AVX2 void mul(size_t n, const int8_t *x1, size_t step1, const int8_t *x2, size_t step2,
                     int8_t *y, const eq_mul_params *p)
{
    mul_constants k = {
        .x1_zero = _mm256_set1_epi16((int16_t)p->x1_zero),
        .x2_zero = _mm256_set1_epi16((int16_t)p->x2_zero),
        .y_zero = _mm256_set1_epi32(p->y_zero),
        .low = _mm256_set1_epi8((char)p->act_min),
        .high = _mm256_set1_epi8((char)p->act_max),
    };
    if (p->e <= 0) {
        k.small = small_r31_of(p->m, p->e);
        walk_binary(n, x1, step1, x2, step2, y, mul_small, &k);
    } else {
        k.exact = r31_of(p->m, p->e);
        walk_binary(n, x1, step1, x2, step2, y, mul_exactly, &k);
    }
}

/* ---- PRELU */

typedef struct prelu_constants {
    __m256i x_zero, alpha_zero, y_zero;
    r31 positive, negative;
} prelu_constants;

static AVX2_INLINE __m256i prelu_step(__m256i x, __m256i alpha, const void *params)
{
    const prelu_constants *k = params;
    __m256i v[4], a[4];
    widen(x, v);
    widen(alpha, a);
    for (int i = 0; i < 4; i++) {
        const __m256i difference = _mm256_sub_epi32(v[i], k->x_zero);
        /* The products of 16 bits: the upper halves of the first are made 0. */
        const __m256i low = _mm256_and_si256(difference, _mm256_set1_epi32(0xFFFF));
        const __m256i product = _mm256_madd_epi16(low, _mm256_sub_epi32(a[i], k->alpha_zero));
        const __m256i positive = requantize(difference, &k->positive);
        const __m256i negative = requantize(product, &k->negative);
        const __m256i chosen =
            _mm256_blendv_epi8(positive, negative, _mm256_srai_epi32(difference, 31));
        v[i] = _mm256_add_epi32(chosen, k->y_zero);
    }
    return narrow(v);
}

static AVX2 void prelu(size_t n, const int8_t *x, size_t step1, const int8_t *alpha, size_t step2,
                       int8_t *y, const eq_prelu_params *p)
{
    const prelu_constants k = {
        .x_zero = _mm256_set1_epi32(p->x_zero),
        .alpha_zero = _mm256_set1_epi32(p->alpha_zero),
        .y_zero = _mm256_set1_epi32(p->y_zero),
        .positive = r31_of(p->m1, p->e1),
        .negative = r31_of(p->m2, p->e2),
    };
    walk_binary(n, x, step1, alpha, step2, y, prelu_step, &k);
}

/* ---- MAXIMUM, MINIMUM */

static AVX2_INLINE __m256i maximum_step(__m256i x1, __m256i x2, const void *k)
{
    (void)k;
    return _mm256_max_epi8(x1, x2);
}

static AVX2_INLINE __m256i minimum_step(__m256i x1, __m256i x2, const void *k)
{
    (void)k;
    return _mm256_min_epi8(x1, x2);
}

static AVX2 void maximum(size_t n, const int8_t *x1, size_t step1, const int8_t *x2, size_t step2,
                         int8_t *y)
{
    walk_binary(n, x1, step1, x2, step2, y, maximum_step, NULL);
}

static AVX2 void minimum(size_t n, const int8_t *x1, size_t step1, const int8_t *x2, size_t step2,
                         int8_t *y)
{
    walk_binary(n, x1, step1, x2, step2, y, minimum_step, NULL);
}

/* ---- tables */

static AVX2_INLINE __m256i lut_step(__m256i x, const void *table)
{
    return lookup(x, table);
}

static AVX2 void lut(size_t n, const int8_t *x, int8_t *y, const int8_t table[256])
{
    if (n < 32) {
        for (size_t i = 0; i < n; i++)
            y[i] = table[x[i] + 128];
        return;
    }
    table_256 t;
    load_table(table, &t);
    walk_unary(n, x, y, lut_step, &t);
}

void eq_kernels_fill_avx2_elementwise(eq_kernels *kernels)
{
    kernels->mul = mul;
    kernels->maximum = maximum;
    kernels->minimum = minimum;
    kernels->prelu = prelu;
    kernels->lut = lut;
}
#endif
