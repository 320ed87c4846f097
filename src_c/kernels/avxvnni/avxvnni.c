/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/avxvnni/avxvnni.h"

#if defined(__x86_64__)
void eq_kernels_fill_avxvnni(eq_kernels *kernels, uint32_t features)
{
    (void)features;
    eq_kernels_fill_avxvnni_gemm(kernels);
    eq_kernels_fill_avxvnni_depthwise(kernels);
    eq_kernels_fill_avxvnni_gemm16(kernels);
}
#endif
