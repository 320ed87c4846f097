/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/avxvnni/avxvnni.h"

#if defined(__x86_64__)
#define DOT "%{vex%} vpdpbusd %2, %1, %0"
#define DOT_REGISTER "x"
#include "kernels/x86/ymm_depthwise.h"

void eq_kernels_fill_avxvnni_depthwise(eq_kernels *kernels)
{
    kernels->depthwise_pack = depthwise_pack;
    kernels->depthwise_scratch = depthwise_scratch;
    kernels->depthwise = depthwise;
}
#endif
