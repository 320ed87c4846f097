/* SPDX-License-Identifier: Apache-2.0
 *
 * Pairs of int16 by vpmaddwd. */
#include "kernels/avx2/avx2.h"

#if defined(__x86_64__)
#define TARGET AVX2
#define INLINE static AVX2_INLINE

/* The sum by hand: compilers reorder sums of sums until the products are spilled. */
INLINE __m256i dot(__m256i acc, __m256i x, __m256i w)
{
    const __m256i products = _mm256_madd_epi16(x, w);
    __asm__("vpaddd %1, %0, %0" : "+x"(acc) : "x"(products));
    return acc;
}

#include "kernels/x86/ymm_gemm16.h"

#include "kernels/x86/depthwise16.h"

void eq_kernels_fill_avx2_layers16(eq_kernels *kernels)
{
    kernels->depthwise16_pack = depthwise16_pack;
    kernels->depthwise16_scratch = depthwise16_scratch;
    kernels->depthwise16 = depthwise16;
    kernels->gemm16_pack = gemm16_pack;
    kernels->gemm16_scratch = gemm16_scratch;
    kernels->gemm16 = gemm16;
    kernels->conv16_scratch = conv16_scratch;
    kernels->conv16 = conv16;
}
#endif
