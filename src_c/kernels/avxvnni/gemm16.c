/* SPDX-License-Identifier: Apache-2.0
 *
 * Two products a lane and their sum by vpdpwssd. */
#include "kernels/avxvnni/avxvnni.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline)) TARGET

INLINE __m256i dot(__m256i acc, __m256i x, __m256i w)
{
    __asm__("%{vex%} vpdpwssd %2, %1, %0" : "+x"(acc) : "x"(x), "x"(w));
    return acc;
}

#include "kernels/x86/ymm_gemm16.h"

void eq_kernels_fill_avxvnni_gemm16(eq_kernels *kernels)
{
    kernels->gemm16_pack = gemm16_pack;
    kernels->gemm16_scratch = gemm16_scratch;
    kernels->gemm16 = gemm16;
    kernels->conv16_scratch = conv16_scratch;
    kernels->conv16 = conv16;
}
#endif
