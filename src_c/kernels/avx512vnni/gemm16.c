/* SPDX-License-Identifier: Apache-2.0
 *
 * Two products a lane and their sum by vpdpwssd: tiles of up to 6 x 64, 12 x 32 or 12 x 16. */
#include <string.h>

#include "kernels/kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define INLINE static inline __attribute__((always_inline)) TARGET

void eq_kernels_fill_avx512vnni_gemm16(eq_kernels *kernels);

enum { LANES = 16, MAX_VECTORS = 4, MAX_ROWS = 12 };
typedef __m512i vector;

INLINE __m512i load_sums(const int32_t *p)
{
    return _mm512_loadu_si512(p);
}

INLINE void store_sums(int32_t *out, __m512i v)
{
    _mm512_storeu_si512(out, v);
}

INLINE __m512i no_sums(void)
{
    return _mm512_setzero_si512();
}

INLINE __m512i add_sums(__m512i a, __m512i b)
{
    return _mm512_add_epi32(a, b);
}

INLINE __m512i load_pairs(const int8_t *w)
{
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)w));
}

INLINE __m512i broadcast(const int16_t *values)
{
    int32_t pair;
    memcpy(&pair, values, sizeof pair);
    return _mm512_set1_epi32(pair);
}

INLINE __m512i dot(__m512i acc, __m512i x, __m512i w)
{
    __asm__("vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
    return acc;
}

INLINE void widen_values(size_t n, const int8_t *x, int32_t x_zero, int16_t *out)
{
    const __m512i zero = _mm512_set1_epi16((short)x_zero);
    for (; n >= 32; n -= 32, x += 32, out += 32)
        _mm512_storeu_si512(out, _mm512_sub_epi16(load_pairs(x), zero));
    for (size_t i = 0; i < n; i++)
        out[i] = (int16_t)(x[i] - x_zero);
}

/* (sum + bias) * factor + 1/2 rounded down, of eight channels. */
INLINE __m256i scale_eight(__m512d sum, const double *factors, const double *bias)
{
    sum = _mm512_add_pd(sum, _mm512_loadu_pd(bias));
    return _mm512_cvt_roundpd_epi32(
        _mm512_fmadd_pd(sum, _mm512_loadu_pd(factors), _mm512_set1_pd(0.5)),
        _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

/* As in ymm_gemm16.h, 16 channels at a time. */
static TARGET void scale(size_t count, const int32_t *acc, const double *wide,
                         const double *factors, const double *bias, const eq_channel_params *p,
                         void *y)
{
    const __m512i zero = _mm512_set1_epi32(p->y_zero);
    const __m512i low = _mm512_set1_epi32(p->act_min), high = _mm512_set1_epi32(p->act_max);
    for (size_t i = 0; i < count; i += 16) {
        const __m512i sums = _mm512_loadu_si512(acc + i);
        const __m512d s0 =
            wide ? _mm512_loadu_pd(wide + i) : _mm512_cvtepi32_pd(_mm512_castsi512_si256(sums));
        const __m512d s1 = wide ? _mm512_loadu_pd(wide + i + 8)
                                : _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(sums, 1));
        const __m256i v0 = scale_eight(s0, factors + i, bias + i);
        const __m256i v1 = scale_eight(s1, factors + i + 8, bias + i + 8);
        __m512i v = _mm512_inserti64x4(_mm512_castsi256_si512(v0), v1, 1);
        v = _mm512_min_epi32(_mm512_max_epi32(_mm512_add_epi32(v, zero), low), high);
        const size_t n = count - i < 16 ? count - i : 16;
        const __m256i words = _mm512_cvtepi32_epi16(v);
        const __m128i bytes = _mm512_cvtepi32_epi8(v);
        if (p->y_wide && n == 16)
            _mm256_storeu_si256((__m256i *)(void *)((int16_t *)y + i), words);
        else if (p->y_wide)
            memcpy((int16_t *)y + i, &words, n * sizeof(int16_t));
        else if (n == 16)
            _mm_storeu_si128((__m128i *)(void *)((int8_t *)y + i), bytes);
        else
            memcpy((int8_t *)y + i, &bytes, n);
    }
}

#include "kernels/x86/gemm16.h"

TILES_TO_12(1)
TILES_TO_12(2)
TILES_TO_6(4)

static tile16_function *const *tiles_of(size_t vectors, size_t *rows)
{
    static tile16_function *const tiles[3][12] = {
        {NAMES_TO_12(1)}, {NAMES_TO_12(2)}, {NAMES_TO_6(4)}};
    *rows = vectors == 4 ? 6 : 12;
    return tiles[vectors / 2];
}

void eq_kernels_fill_avx512vnni_gemm16(eq_kernels *kernels)
{
    kernels->gemm16_pack = gemm16_pack;
    kernels->gemm16_scratch = gemm16_scratch;
    kernels->gemm16 = gemm16;
    kernels->conv16_scratch = conv16_scratch;
    kernels->conv16 = conv16;
}
#endif
