/* SPDX-License-Identifier: Apache-2.0
 *
 * add16, mul16, rescale, interpolate: eight elements at a time as int32. Less than eight go through
 * buffers. A block is read before it is written, so that y may be x. */
#include "kernels/avx2/avx2.h"

#if defined(__x86_64__)

/* Elements of `bytes` bytes, by n of them; n = 8 where all are there. */
static AVX2_INLINE __m256i load_elements(const uint8_t *x, size_t bytes, size_t n)
{
    uint8_t part[32] = {0};
    if (n < 8) {
        memcpy(part, x, n * bytes);
        x = part;
    }
    if (bytes == 4)
        return _mm256_loadu_si256((const __m256i *)(const void *)x);
    if (bytes == 2)
        return _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)(const void *)x));
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)x));
}

/* v is in the range of the type. */
static AVX2_INLINE void store_elements(uint8_t *y, size_t bytes, size_t n, __m256i v)
{
    uint8_t part[32];
    uint8_t *to = n < 8 ? part : y;
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    if (bytes == 4)
        _mm256_storeu_si256((__m256i *)(void *)to, v);
    else if (bytes == 2)
        _mm_storeu_si128((__m128i *)(void *)to, words);
    else
        _mm_storel_epi64((__m128i *)(void *)to, _mm_packs_epi16(words, words));
    if (n < 8)
        memcpy(y, part, n * bytes);
}

static AVX2_INLINE __m256i clamp_32(__m256i x, int32_t low, int32_t high)
{
    return _mm256_min_epi32(_mm256_max_epi32(x, _mm256_set1_epi32(low)), _mm256_set1_epi32(high));
}

/* Element i of an operand, or its only one in every lane. */
static AVX2_INLINE __m256i operand(const uint8_t *x, size_t i, size_t step, size_t bytes, size_t n)
{
    if (step)
        return load_elements(x + i * bytes, bytes, n);
    return _mm256_broadcastd_epi32(_mm256_castsi256_si128(load_elements(x, bytes, 1)));
}

static size_t size_of(unsigned wide, unsigned which)
{
    return wide & which ? 2 : 1;
}

/* An operand times 2^shift by R31; a multiplier of exactly 1/2, that of the larger scale, is a
 * shift.
 */
static AVX2_INLINE __m256i scaled(__m256i x, __m128i shift, const r31 *r, bool halves)
{
    const __m256i v = _mm256_sll_epi32(x, shift);
    return halves ? _mm256_srai_epi32(v, 1) : requantize(v, r);
}

static AVX2 void add16(size_t count, const void *x1, size_t step1, const void *x2, size_t step2,
                       void *y, const eq_add_params *p, unsigned wide)
{
    const size_t size1 = size_of(wide, EQ_WIDE_X1), size2 = size_of(wide, EQ_WIDE_X2);
    const size_t size_y = size_of(wide, EQ_WIDE_Y);
    const r31 r1 = r31_of(p->m1, p->e1), r2 = r31_of(p->m2, p->e2), ry = r31_of(p->my, p->ey);
    const __m256i z1 = _mm256_set1_epi32(p->x1_zero), z2 = _mm256_set1_epi32(p->x2_zero);
    const __m256i zy = _mm256_set1_epi32(p->y_zero), sign = _mm256_set1_epi32(p->sign2);
    const __m128i shift = _mm_cvtsi32_si128(p->left_shift);
    const bool half1 = p->m1 == 1 << 30 && p->e1 == 0 && p->left_shift > 0;
    const bool half2 = p->m2 == 1 << 30 && p->e2 == 0 && p->left_shift > 0;
    for (size_t i = 0, n; i < count; i += n) {
        n = count - i < 8 ? count - i : 8;
        const __m256i d1 = _mm256_sub_epi32(operand(x1, i, step1, size1, n), z1);
        const __m256i d2 = _mm256_sub_epi32(operand(x2, i, step2, size2, n), z2);
        const __m256i a = scaled(d1, shift, &r1, half1);
        const __m256i b = _mm256_sign_epi32(scaled(d2, shift, &r2, half2), sign);
        const __m256i sum = _mm256_add_epi32(requantize(_mm256_add_epi32(a, b), &ry), zy);
        store_elements((uint8_t *)y + i * size_y, size_y, n, clamp_32(sum, p->act_min, p->act_max));
    }
}

static AVX2 void mul16(size_t count, const void *x1, size_t step1, const void *x2, size_t step2,
                       void *y, const eq_mul_params *p, unsigned wide)
{
    const size_t size1 = size_of(wide, EQ_WIDE_X1), size2 = size_of(wide, EQ_WIDE_X2);
    const size_t size_y = size_of(wide, EQ_WIDE_Y);
    const r31 r = r31_of(p->m, p->e);
    const __m256i z1 = _mm256_set1_epi32(p->x1_zero), z2 = _mm256_set1_epi32(p->x2_zero);
    const __m256i zy = _mm256_set1_epi32(p->y_zero);
    for (size_t i = 0, n; i < count; i += n) {
        n = count - i < 8 ? count - i : 8;
        const __m256i a = _mm256_sub_epi32(operand(x1, i, step1, size1, n), z1);
        const __m256i b = _mm256_sub_epi32(operand(x2, i, step2, size2, n), z2);
        const __m256i v = _mm256_add_epi32(requantize(_mm256_mullo_epi32(a, b), &r), zy);
        store_elements((uint8_t *)y + i * size_y, size_y, n, clamp_32(v, p->act_min, p->act_max));
    }
}

static size_t bytes_of(uint8_t dtype)
{
    return dtype == EQ_DT_INT32 ? 4 : dtype == EQ_DT_INT16 ? 2 : 1;
}

static AVX2 void rescale(size_t count, const void *x, uint8_t x_dtype, void *y, uint8_t y_dtype,
                         const eq_requantize_params *p)
{
    const size_t size_x = bytes_of(x_dtype), size_y = bytes_of(y_dtype);
    const r31 r = r31_of(p->m, p->e);
    const __m256i zx = _mm256_set1_epi32(p->x_zero), zy = _mm256_set1_epi32(p->y_zero);
    for (size_t i = 0, n; i < count; i += n) {
        n = count - i < 8 ? count - i : 8;
        const __m256i v = load_elements((const uint8_t *)x + i * size_x, size_x, n);
        const __m256i sum = _mm256_add_epi32(requantize(_mm256_sub_epi32(v, zx), &r), zy);
        store_elements((uint8_t *)y + i * size_y, size_y, n, clamp_32(sum, p->act_min, p->act_max));
    }
}

/* (t0 * (128 - part) + t1 * part + 64) >> 7 is t0 + (((t1 - t0) * part + 64) >> 7). */
static AVX2 void interpolate(size_t count, const int16_t *x, int16_t *y, const int16_t table[513])
{
    const __m256i full = _mm256_set1_epi32(128);
    for (size_t i = 0, n; i < count; i += n) {
        n = count - i < 8 ? count - i : 8;
        const __m256i v = load_elements((const uint8_t *)(x + i), 2, n);
        const __m256i index = _mm256_add_epi32(_mm256_srai_epi32(v, 7), _mm256_set1_epi32(256));
        const __m256i part = _mm256_and_si256(v, _mm256_set1_epi32(127));
        const __m256i weights =
            _mm256_or_si256(_mm256_slli_epi32(part, 16), _mm256_sub_epi32(full, part));
        const __m256i pair = _mm256_i32gather_epi32((const int *)(const void *)table, index, 2);
        const __m256i sum =
            _mm256_add_epi32(_mm256_madd_epi16(pair, weights), _mm256_set1_epi32(64));
        store_elements((uint8_t *)(y + i), 2, n, _mm256_srai_epi32(sum, 7));
    }
}

void eq_kernels_fill_avx2_elementwise16(eq_kernels *kernels)
{
    kernels->add16 = add16;
    kernels->mul16 = mul16;
    kernels->rescale = rescale;
    kernels->interpolate = interpolate;
}
#endif
