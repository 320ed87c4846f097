/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/kernels.h"

void eq_kernels_fill_avx512vnni(eq_kernels *kernels, uint32_t features)
{
    (void)kernels, (void)features;
}
