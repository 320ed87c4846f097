/* SPDX-License-Identifier: Apache-2.0
 *
 * gemm16 on 256-bit vectors, around TARGET, INLINE and dot. */
#ifndef EQ_KERNELS_X86_YMM_GEMM16_H
#define EQ_KERNELS_X86_YMM_GEMM16_H

#include <immintrin.h>
#include <string.h>

#include "kernels/kernels.h"

enum { LANES = 8, MAX_VECTORS = 2, MAX_ROWS = 6 };
typedef __m256i vector;

INLINE __m256i load_sums(const int32_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

INLINE void store_sums(int32_t *out, __m256i v)
{
    _mm256_storeu_si256((__m256i *)(void *)out, v);
}

INLINE __m256i no_sums(void)
{
    return _mm256_setzero_si256();
}

INLINE __m256i add_sums(__m256i a, __m256i b)
{
    return _mm256_add_epi32(a, b);
}

INLINE __m256i load_pairs(const int8_t *w)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)w));
}

INLINE __m256i broadcast(const int16_t *values)
{
    int32_t pair;
    memcpy(&pair, values, sizeof pair);
    return _mm256_set1_epi32(pair);
}

INLINE void widen_values(size_t n, const int8_t *x, int32_t x_zero, int16_t *out)
{
    const __m256i zero = _mm256_set1_epi16((short)x_zero);
    for (; n >= 16; n -= 16, x += 16, out += 16)
        _mm256_storeu_si256((__m256i *)(void *)out, _mm256_sub_epi16(load_pairs(x), zero));
    for (size_t i = 0; i < n; i++)
        out[i] = (int16_t)(x[i] - x_zero);
}

/* sum * factor + 1/2 rounded down, of four channels. */
INLINE __m128i scale_four(__m256d sum, const double *factors, const double *bias)
{
    const __m256d half = _mm256_set1_pd(0.5);
    sum = _mm256_add_pd(sum, _mm256_loadu_pd(bias));
    return _mm256_cvttpd_epi32(
        _mm256_floor_pd(_mm256_fmadd_pd(sum, _mm256_loadu_pd(factors), half)));
}

/* Eight channels of a row. */
INLINE __m128i scale_eight(const int32_t *acc, const double *wide, const double *factors,
                           const double *bias, __m128i zero, __m128i low, __m128i high)
{
    const __m256d s0 =
        wide ? _mm256_loadu_pd(wide)
             : _mm256_cvtepi32_pd(_mm_loadu_si128((const __m128i *)(const void *)acc));
    const __m256d s1 =
        wide ? _mm256_loadu_pd(wide + 4)
             : _mm256_cvtepi32_pd(_mm_loadu_si128((const __m128i *)(const void *)(acc + 4)));
    const __m128i v0 = _mm_add_epi32(scale_four(s0, factors, bias), zero);
    const __m128i v1 = _mm_add_epi32(scale_four(s1, factors + 4, bias + 4), zero);
    return _mm_min_epi16(_mm_max_epi16(_mm_packs_epi32(v0, v1), low), high);
}

/* `count` outputs of a window: clamp(floor((sum + bias) * factor + 1/2) + y_zero). Sums, factors
 * and biases are there for whole vectors. */
static TARGET void scale(size_t count, const int32_t *acc, const double *wide,
                         const double *factors, const double *bias, const eq_channel_params *p,
                         void *y)
{
    const __m128i zero = _mm_set1_epi32(p->y_zero);
    const __m128i low = _mm_set1_epi16((short)p->act_min), high = _mm_set1_epi16((short)p->act_max);
    for (size_t i = 0; i < count; i += 8) {
        const __m128i v =
            scale_eight(acc + i, wide ? wide + i : NULL, factors + i, bias + i, zero, low, high);
        const __m128i bytes = _mm_packs_epi16(v, v);
        const size_t n = count - i < 8 ? count - i : 8;
        if (p->y_wide && n == 8)
            _mm_storeu_si128((__m128i *)(void *)((int16_t *)y + i), v);
        else if (p->y_wide)
            memcpy((int16_t *)y + i, &v, n * sizeof(int16_t));
        else if (n == 8)
            _mm_storel_epi64((__m128i *)(void *)((int8_t *)y + i), bytes);
        else
            memcpy((int8_t *)y + i, &bytes, n);
    }
}

#include "kernels/x86/gemm16.h"

TILES_TO_6(1)
TILES_TO_6(2)

static tile16_function *const *tiles_of(size_t vectors, size_t *rows)
{
    static tile16_function *const tiles[2][6] = {{NAMES_TO_6(1)}, {NAMES_TO_6(2)}};
    *rows = 6;
    return tiles[vectors - 1];
}

#endif
