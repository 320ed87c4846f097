/* SPDX-License-Identifier: Apache-2.0
 *
 * Pairs of int16 by vpmaddwd: exact for every weight, where vpmaddubsw could saturate. Weights stay
 * int8 and are widened while they are loaded, once for six rows. */
#include "kernels/avx2/avx2.h"

#if defined(__x86_64__)
#define TARGET AVX2

#include "kernels/x86/ymm.h"

enum { STEP = 2, SLACK = 32, WEIGHT_BYTES = 16 };
typedef int16_t value; /* x - x_zero */

INLINE __m256i load_weights(const int8_t *w)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)w));
}

INLINE __m256i broadcast(const int16_t *panel)
{
    int32_t pair;
    memcpy(&pair, panel, sizeof pair);
    return _mm256_set1_epi32(pair);
}

/* The sum by hand: compilers reorder sums of sums until the products are spilled. */
INLINE __m256i dot(__m256i acc, __m256i x, __m256i w)
{
    const __m256i products = _mm256_madd_epi16(x, w);
    __asm__("vpaddd %1, %0, %0" : "+x"(acc) : "x"(products));
    return acc;
}

INLINE void copy_values(size_t n, const int8_t *x, int32_t x_zero, int16_t *out)
{
    const __m256i zero = _mm256_set1_epi16((short)x_zero);
    for (; n >= 16; n -= 16, x += 16, out += 16)
        store_ymm(out, _mm256_sub_epi16(load_weights(x), zero));
    if (n >= 8) {
        const __m128i v = _mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)x));
        _mm_storeu_si128((__m128i *)(void *)out, _mm_sub_epi16(v, _mm256_castsi256_si128(zero)));
        n -= 8, x += 8, out += 8;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = (int16_t)(x[i] - x_zero);
}

enum { SUMMED = 16 };
INLINE __m256i sum_vector(__m256i v)
{
    return _mm256_madd_epi16(v, _mm256_set1_epi16(1));
}

#include "kernels/x86/ymm_gemm.h"

void eq_kernels_fill_avx2_gemm(eq_kernels *kernels)
{
    kernels->gemm_pack = gemm_pack;
    kernels->gemm_scratch = gemm_scratch;
    kernels->gemm = gemm;
    kernels->conv_scratch = conv_scratch;
    kernels->conv = conv;
}
#endif
