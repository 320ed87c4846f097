/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/scalar/scalar.h"

void eq_kernels_fill_scalar(eq_kernels *kernels, uint32_t features)
{
    (void)features;
    *kernels = (eq_kernels){
        .gemm_pack = eq_gemm_pack_scalar,
        .gemm_scratch = eq_gemm_scratch_scalar,
        .gemm = eq_gemm_scalar,
        .conv_scratch = eq_conv_scratch_scalar,
        .conv = eq_conv_scalar,
        .depthwise_pack = eq_depthwise_pack_scalar,
        .depthwise_scratch = eq_depthwise_scratch_scalar,
        .depthwise = eq_depthwise_scalar,
        .gemm16_pack = eq_gemm16_pack_scalar,
        .gemm16_scratch = eq_gemm16_scratch_scalar,
        .gemm16 = eq_gemm16_scalar,
        .conv16_scratch = eq_conv16_scratch_scalar,
        .conv16 = eq_conv16_scalar,
        .depthwise16_pack = eq_depthwise16_pack_scalar,
        .depthwise16_scratch = eq_depthwise16_scratch_scalar,
        .depthwise16 = eq_depthwise16_scalar,
        .add16 = eq_add16_scalar,
        .mul16 = eq_mul16_scalar,
        .rescale = eq_rescale_scalar,
        .interpolate = eq_interpolate_scalar,
        .add = eq_add_scalar,
        .mul = eq_mul_scalar,
        .maximum = eq_maximum_scalar,
        .minimum = eq_minimum_scalar,
        .prelu = eq_prelu_scalar,
        .lut = eq_lut_scalar,
        .max_pool = eq_max_pool_scalar,
        .average_pool = eq_average_pool_scalar,
        .sum_rows = eq_sum_rows_scalar,
        .sum = eq_sum_scalar,
        .requantize = eq_requantize_scalar,
        .bilinear = eq_bilinear_scalar,
        .bilinear_u8 = eq_bilinear_u8_scalar,
        .transpose = eq_transpose_scalar,
        .softmax = eq_softmax_scalar,
        .log_softmax = eq_log_softmax_scalar,
    };
}
