/* SPDX-License-Identifier: Apache-2.0
 *
 * ADD, MUL, tables. The formulas are those of the files avx2/add.c and avx2/elementwise.c. */
#include "core/cpu.h"
#include "kernels/avx512vnni/avx512vnni.h"
#include "kernels/x86/add.h"

#if defined(__x86_64__)

/* ---- walks: 64 elements at a time, the rest under a mask; y may be x */

typedef __m512i binary_step(__m512i x1, __m512i x2, const void *k);

/* n < 64 */
INLINE __mmask64 first_of(size_t n)
{
    return ((__mmask64)1 << n) - 1;
}

/* An operand of step 0 is read from 64 copies of its element. */
INLINE void walk(size_t n, const int8_t *x1, size_t step1, const int8_t *x2, size_t step2,
                 int8_t *y, binary_step *step, const void *k)
{
    int8_t copies1[64], copies2[64];
    if (n == 0)
        return;
    if (step1 == 0) {
        _mm512_storeu_si512(copies1, _mm512_set1_epi8(x1[0]));
        x1 = copies1;
    }
    if (step2 == 0) {
        _mm512_storeu_si512(copies2, _mm512_set1_epi8(x2[0]));
        x2 = copies2;
    }
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        const __m512i a = _mm512_loadu_si512(x1 + i * step1);
        const __m512i b = _mm512_loadu_si512(x2 + i * step2);
        _mm512_storeu_si512(y + i, step(a, b, k));
    }
    if (i < n) {
        const __mmask64 mask = first_of(n - i);
        const __m512i a = _mm512_maskz_loadu_epi8(mask, x1 + i * step1);
        const __m512i b = _mm512_maskz_loadu_epi8(mask, x2 + i * step2);
        _mm512_mask_storeu_epi8(y + i, mask, step(a, b, k));
    }
}

/* Saturates. The order is that of unpacking in each quarter of a register. */
INLINE __m512i narrow(const __m512i x[4])
{
    return _mm512_packs_epi16(_mm512_packs_epi32(x[0], x[1]), _mm512_packs_epi32(x[2], x[3]));
}

INLINE __m512i clamp_8(__m512i x, __m512i low, __m512i high)
{
    return _mm512_min_epi8(_mm512_max_epi8(x, low), high);
}

/* The high halves of 2^32 * even and 2^32 * odd, each in its lane. */
INLINE __m512i merge_high(__m512i even, __m512i odd)
{
    return _mm512_mask_shuffle_epi32(odd, 0x5555, even, _MM_PERM_DDBB);
}

/* ---- R31 for every x, m and e */

typedef struct r31 {
    __m512i m, mask, half; /* of the bits that the right shift drops */
    __m128i left, right;
} r31;

INLINE r31 r31_of(int32_t m, int32_t e)
{
    const int left = e > 0 ? e : 0, right = e < 0 ? -e : 0;
    const int32_t mask = (int32_t)(((uint32_t)1 << right) - 1);
    return (r31){_mm512_set1_epi32(m), _mm512_set1_epi32(mask), _mm512_set1_epi32(mask >> 1),
                 _mm_cvtsi32_si128(left), _mm_cvtsi32_si128(right)};
}

INLINE __m512i requantize(__m512i x, const r31 *r)
{
    const __m512i one_half = _mm512_set1_epi64((int64_t)1 << 30);
    const __m512i v = _mm512_sll_epi32(x, r->left);
    const __m512i even = _mm512_add_epi64(_mm512_mul_epi32(v, r->m), one_half);
    const __m512i odd =
        _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(v, 32), r->m), one_half);
    const __m512i high = merge_high(_mm512_slli_epi64(even, 1), _mm512_slli_epi64(odd, 1));
    const __m512i rest = _mm512_and_si512(high, r->mask);
    const __m512i threshold = _mm512_sub_epi32(r->half, _mm512_srai_epi32(high, 31));
    const __m512i floor = _mm512_sra_epi32(high, r->right);
    return _mm512_mask_add_epi32(floor, _mm512_cmpgt_epi32_mask(rest, threshold), floor,
                                 _mm512_set1_epi32(1));
}

/* ---- ADD */

typedef struct exact_add {
    __m512i x1_zero, x2_zero, y_zero, low, high;
    __m512i sign; /* of the second operand: 0 or -1 */
    r31 r1, r2, ry;
    __m128i left_shift;
} exact_add;

typedef struct fast_add {
    __m512i upper, lower, constant, unsure, low, high;
    __m128i fraction, integer;
    const exact_add *exact;
} fast_add;

INLINE void set_exact(const eq_add_params *p, exact_add *k)
{
    k->x1_zero = _mm512_set1_epi32(p->x1_zero);
    k->x2_zero = _mm512_set1_epi32(p->x2_zero);
    k->y_zero = _mm512_set1_epi32(p->y_zero);
    k->sign = _mm512_set1_epi32(p->sign2 < 0 ? -1 : 0);
    k->low = _mm512_set1_epi8((char)p->act_min);
    k->high = _mm512_set1_epi8((char)p->act_max);
    k->r1 = r31_of(p->m1, p->e1);
    k->r2 = r31_of(p->m2, p->e2);
    k->ry = r31_of(p->my, p->ey);
    k->left_shift = _mm_cvtsi32_si128(p->left_shift);
}

INLINE void widen(__m512i x, __m512i out[4])
{
    const __m512i zero = _mm512_setzero_si512();
    const __m512i low = _mm512_unpacklo_epi8(zero, x), high = _mm512_unpackhi_epi8(zero, x);
    out[0] = _mm512_srai_epi32(_mm512_unpacklo_epi16(zero, low), 24);
    out[1] = _mm512_srai_epi32(_mm512_unpackhi_epi16(zero, low), 24);
    out[2] = _mm512_srai_epi32(_mm512_unpacklo_epi16(zero, high), 24);
    out[3] = _mm512_srai_epi32(_mm512_unpackhi_epi16(zero, high), 24);
}

INLINE __m512i add_operand(__m512i x, __m512i zero, __m128i left_shift, const r31 *r)
{
    return requantize(_mm512_sll_epi32(_mm512_sub_epi32(x, zero), left_shift), r);
}

static TARGET __attribute__((noinline)) __m512i add_exactly(__m512i x1, __m512i x2,
                                                            const void *params)
{
    const exact_add *k = params;
    __m512i a[4], b[4], y[4];
    widen(x1, a);
    widen(x2, b);
    for (int i = 0; i < 4; i++) {
        const __m512i first = add_operand(a[i], k->x1_zero, k->left_shift, &k->r1);
        const __m512i second = add_operand(b[i], k->x2_zero, k->left_shift, &k->r2);
        const __m512i sum =
            _mm512_add_epi32(first, _mm512_sub_epi32(_mm512_xor_si512(second, k->sign), k->sign));
        y[i] = _mm512_add_epi32(requantize(sum, &k->ry), k->y_zero);
    }
    return clamp_8(narrow(y), k->low, k->high);
}

INLINE __m512i add_fast(__m512i x1, __m512i x2, const void *params)
{
    const fast_add *k = params;
    const __m512i zero = _mm512_setzero_si512();
    const __m512i low = _mm512_unpacklo_epi8(x1, x2), high = _mm512_unpackhi_epi8(x1, x2);
    const __m512i pairs[4] = {_mm512_unpacklo_epi8(zero, low), _mm512_unpackhi_epi8(zero, low),
                              _mm512_unpacklo_epi8(zero, high), _mm512_unpackhi_epi8(zero, high)};
    __m512i y[4], least = _mm512_set1_epi32(-1);
    for (int i = 0; i < 4; i++) {
        const __m512i upper = _mm512_dpwssd_epi32(k->constant, pairs[i], k->upper);
        const __m512i lower = _mm512_srai_epi32(_mm512_madd_epi16(pairs[i], k->lower), 8);
        const __m512i z = _mm512_add_epi32(upper, lower);
        least = _mm512_min_epu32(least, _mm512_sll_epi32(z, k->integer));
        y[i] = _mm512_sra_epi32(z, k->fraction);
    }
    if (__builtin_expect(_mm512_cmple_epu32_mask(least, k->unsure) != 0, 0))
        return add_exactly(x1, x2, k->exact);
    return clamp_8(narrow(y), k->low, k->high);
}

static TARGET void add(size_t n, const int8_t *x1, size_t step1, const int8_t *x2, size_t step2,
                       int8_t *y, const eq_add_params *p)
{
    exact_add exact;
    add_factors f;
    set_exact(p, &exact);
    if (n < 128 || !plan_add(p, &f)) {
        walk(n, x1, step1, x2, step2, y, add_exactly, &exact);
        return;
    }
    const fast_add k = {
        .upper = _mm512_set1_epi32(pair_of(f.first >> 8, f.second >> 8)),
        .lower = _mm512_set1_epi32(pair_of(f.first & 255, f.second & 255)),
        .constant = _mm512_set1_epi32(f.constant),
        .unsure = _mm512_set1_epi32((int32_t)((uint32_t)(2 * f.bound) << (32 - f.fraction))),
        .low = exact.low,
        .high = exact.high,
        .fraction = _mm_cvtsi32_si128(f.fraction),
        .integer = _mm_cvtsi32_si128(32 - f.fraction),
        .exact = &exact,
    };
    walk(n, x1, step1, x2, step2, y, add_fast, &k);
}

/* ---- MUL */

typedef struct mul_constants {
    __m512i x1_zero, x2_zero; /* int16 */
    __m512i y_zero, low, high, m, round;
    __m128i sign, right; /* counts of shifts: by 32 no sign is left */
    r31 exact;
} mul_constants;

/* factor * (x1 - z1) * (x2 - z2), factor 1 or 2, as int32 in the order of `widen`. */
INLINE void products(__m512i x1, __m512i x2, const mul_constants *k, bool doubled, __m512i out[4])
{
    const __m512i zero = _mm512_setzero_si512();
    const __m512i a[2] = {_mm512_unpacklo_epi8(zero, x1), _mm512_unpackhi_epi8(zero, x1)};
    const __m512i b[2] = {_mm512_unpacklo_epi8(zero, x2), _mm512_unpackhi_epi8(zero, x2)};
    for (int i = 0; i < 2; i++) {
        const __m512i d = _mm512_sub_epi16(_mm512_srai_epi16(a[i], 8), k->x1_zero);
        const __m512i first = doubled ? _mm512_add_epi16(d, d) : d;
        const __m512i second = _mm512_sub_epi16(_mm512_srai_epi16(b[i], 8), k->x2_zero);
        const __m512i low = _mm512_mullo_epi16(first, second);
        const __m512i high = _mm512_mulhi_epi16(first, second);
        out[2 * i] = _mm512_unpacklo_epi16(low, high);
        out[2 * i + 1] = _mm512_unpackhi_epi16(low, high);
    }
}

INLINE __m512i mul_small(__m512i x1, __m512i x2, const void *params)
{
    const mul_constants *k = params;
    __m512i y[4];
    products(x1, x2, k, true, y);
    for (int i = 0; i < 4; i++) {
        const __m512i even = _mm512_add_epi64(_mm512_mul_epi32(y[i], k->m), k->round);
        const __m512i odd =
            _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(y[i], 32), k->m), k->round);
        const __m512i high =
            _mm512_sub_epi32(merge_high(even, odd), _mm512_srl_epi32(y[i], k->sign));
        y[i] = _mm512_add_epi32(_mm512_sra_epi32(high, k->right), k->y_zero);
    }
    return clamp_8(narrow(y), k->low, k->high);
}

INLINE __m512i mul_exactly(__m512i x1, __m512i x2, const void *params)
{
    const mul_constants *k = params;
    __m512i y[4];
    products(x1, x2, k, false, y);
    for (int i = 0; i < 4; i++)
        y[i] = _mm512_add_epi32(requantize(y[i], &k->exact), k->y_zero);
    return clamp_8(narrow(y), k->low, k->high);
}

static TARGET void mul(size_t n, const int8_t *x1, size_t step1, const int8_t *x2, size_t step2,
                       int8_t *y, const eq_mul_params *p)
{
    const int right = p->e < 0 ? -p->e : 0;
    const int64_t half = right > 0 ? (int64_t)1 << (right + 31) : 0;
    const mul_constants k = {
        .x1_zero = _mm512_set1_epi16((int16_t)p->x1_zero),
        .x2_zero = _mm512_set1_epi16((int16_t)p->x2_zero),
        .y_zero = _mm512_set1_epi32(p->y_zero),
        .low = _mm512_set1_epi8((char)p->act_min),
        .high = _mm512_set1_epi8((char)p->act_max),
        .m = _mm512_set1_epi32(p->m),
        .round = _mm512_set1_epi64(half + ((int64_t)1 << 31)),
        .sign = _mm_cvtsi32_si128(right > 0 ? 31 : 32),
        .right = _mm_cvtsi32_si128(right),
        .exact = r31_of(p->m, p->e),
    };
    if (p->e <= 0)
        walk(n, x1, step1, x2, step2, y, mul_small, &k);
    else
        walk(n, x1, step1, x2, step2, y, mul_exactly, &k);
}

/* ---- tables of 256 bytes: vpermi2b looks 128 up by the lower seven bits */

#define VBMI \
    __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")))

static inline __attribute__((always_inline)) VBMI __m512i lookup(__m512i x, const __m512i t[4])
{
    const __m512i below = _mm512_permutex2var_epi8(t[0], x, t[1]);
    const __m512i above = _mm512_permutex2var_epi8(t[2], x, t[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), above, below);
}

static VBMI void lut(size_t n, const int8_t *x, int8_t *y, const int8_t table[256])
{
    const __m512i t[4] = {_mm512_loadu_si512(table), _mm512_loadu_si512(table + 64),
                          _mm512_loadu_si512(table + 128), _mm512_loadu_si512(table + 192)};
    size_t i = 0;
    for (; i + 64 <= n; i += 64)
        _mm512_storeu_si512(y + i, lookup(_mm512_loadu_si512(x + i), t));
    if (i < n) {
        const __mmask64 mask = first_of(n - i);
        _mm512_mask_storeu_epi8(y + i, mask, lookup(_mm512_maskz_loadu_epi8(mask, x + i), t));
    }
}

void eq_kernels_fill_avx512vnni_elementwise(eq_kernels *kernels, uint32_t features)
{
    kernels->add = add;
    kernels->mul = mul;
    if (features & EQ_CPU_AVX512VBMI)
        kernels->lut = lut;
}
#endif
