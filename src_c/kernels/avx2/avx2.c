/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/avx2/avx2.h"

#if defined(__x86_64__)
void eq_kernels_fill_avx2(eq_kernels *kernels, uint32_t features)
{
    (void)features;
    eq_kernels_fill_avx2_gemm(kernels);
    eq_kernels_fill_avx2_depthwise(kernels);
    eq_kernels_fill_avx2_layers16(kernels);
    eq_kernels_fill_avx2_elementwise16(kernels);
    eq_kernels_fill_avx2_add(kernels);
    eq_kernels_fill_avx2_elementwise(kernels);
    eq_kernels_fill_avx2_softmax(kernels);
    eq_kernels_fill_avx2_pool(kernels);
    eq_kernels_fill_avx2_move(kernels);
}
#endif
