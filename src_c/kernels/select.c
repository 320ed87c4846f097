/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/kernels.h"

void eq_kernels_select(eq_kernels *kernels)
{
    eq_kernels_fill_scalar(kernels);
}
