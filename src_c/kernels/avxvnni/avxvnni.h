/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EQ_KERNELS_AVXVNNI_H
#define EQ_KERNELS_AVXVNNI_H

#include "kernels/kernels.h"

#define TARGET __attribute__((target("avx2,fma")))

void eq_kernels_fill_avxvnni_gemm(eq_kernels *kernels);
void eq_kernels_fill_avxvnni_depthwise(eq_kernels *kernels);
void eq_kernels_fill_avxvnni_gemm16(eq_kernels *kernels);

#endif
