/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/avx512vnni/avx512vnni.h"

#if defined(__x86_64__)
void eq_kernels_fill_avx512vnni(eq_kernels *kernels, uint32_t features)
{
    eq_kernels_fill_avx512vnni_gemm(kernels);
    eq_kernels_fill_avx512vnni_depthwise(kernels);
    eq_kernels_fill_avx512vnni_gemm16(kernels);
    eq_kernels_fill_avx512vnni_elementwise(kernels, features);
}
#endif
