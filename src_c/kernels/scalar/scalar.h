/* SPDX-License-Identifier: Apache-2.0
 *
 * The scalar kernels: what every other folder is compared with. Contracts: kernels.h. */
#ifndef EQ_KERNELS_SCALAR_H
#define EQ_KERNELS_SCALAR_H

#include "kernels/kernels.h"

/* conv.c */
size_t eq_gemm_pack_scalar(const eq_gemm *g, void *packed);
size_t eq_gemm_scratch_scalar(const eq_gemm *g, size_t pixels);
void eq_gemm_scalar(const eq_gemm *g, size_t pixels, size_t first, size_t end, const eq_windows *x,
                    int8_t *y, size_t y_stride, void *scratch);
size_t eq_conv_scratch_scalar(const eq_conv *c, size_t height, size_t pixels);
void eq_conv_scalar(const eq_conv *c, size_t height, size_t pixels, size_t first, size_t end,
                    const int8_t *const *rows, ptrdiff_t left, int8_t *y, size_t y_stride,
                    size_t y_row, void *scratch);
size_t eq_depthwise_pack_scalar(const eq_depthwise *d, void *packed);
size_t eq_depthwise_scratch_scalar(const eq_depthwise *d);
void eq_depthwise_scalar(const eq_depthwise *d, size_t pixels, const int8_t *const *rows,
                         ptrdiff_t left, int8_t *y, void *scratch);

/* conv16.c */
size_t eq_gemm16_pack_scalar(const eq_gemm *g, void *packed);
size_t eq_gemm16_scratch_scalar(const eq_gemm *g, size_t pixels);
void eq_gemm16_scalar(const eq_gemm *g, size_t pixels, size_t first, size_t end,
                      const eq_windows *x, void *y, size_t y_stride, void *scratch);
size_t eq_conv16_scratch_scalar(const eq_conv *c, size_t height, size_t pixels);
void eq_conv16_scalar(const eq_conv *c, size_t height, size_t pixels, size_t first, size_t end,
                      const int8_t *const *rows, ptrdiff_t left, void *y, size_t y_stride,
                      size_t y_row, void *scratch);
size_t eq_depthwise16_pack_scalar(const eq_depthwise *d, void *packed);
size_t eq_depthwise16_scratch_scalar(const eq_depthwise *d);
void eq_depthwise16_scalar(const eq_depthwise *d, size_t pixels, const int8_t *const *rows,
                           ptrdiff_t left, void *y, void *scratch);

/* elementwise16.c */
void eq_add16_scalar(size_t n, const void *x1, size_t step1, const void *x2, size_t step2, void *y,
                     const eq_add_params *params, unsigned wide);
void eq_mul16_scalar(size_t n, const void *x1, size_t step1, const void *x2, size_t step2, void *y,
                     const eq_mul_params *params, unsigned wide);
void eq_rescale_scalar(size_t n, const void *x, uint8_t x_dtype, void *y, uint8_t y_dtype,
                       const eq_requantize_params *params);
void eq_interpolate_scalar(size_t n, const int16_t *x, int16_t *y, const int16_t table[513]);

/* elementwise.c */
void eq_add_scalar(size_t n, const int8_t *x1, size_t step1, const int8_t *x2, size_t step2,
                   int8_t *y, const eq_add_params *params);
void eq_mul_scalar(size_t n, const int8_t *x1, size_t step1, const int8_t *x2, size_t step2,
                   int8_t *y, const eq_mul_params *params);
void eq_maximum_scalar(size_t n, const int8_t *x1, size_t step1, const int8_t *x2, size_t step2,
                       int8_t *y);
void eq_minimum_scalar(size_t n, const int8_t *x1, size_t step1, const int8_t *x2, size_t step2,
                       int8_t *y);
void eq_prelu_scalar(size_t n, const int8_t *x, size_t step1, const int8_t *alpha, size_t step2,
                     int8_t *y, const eq_prelu_params *params);
void eq_lut_scalar(size_t n, const int8_t *x, int8_t *y, const int8_t table[256]);

/* pool.c */
void eq_max_pool_scalar(const eq_pool *pool, size_t pixels, const int8_t *x, int8_t *y);
void eq_average_pool_scalar(const eq_pool *pool, size_t pixels, const int8_t *x, int8_t *y);
void eq_sum_rows_scalar(size_t rows, size_t n, const int8_t *x, size_t stride, int32_t *acc);
int32_t eq_sum_scalar(size_t n, const int8_t *x);
void eq_requantize_scalar(size_t n, const int32_t *acc, int8_t *y, int32_t m, int32_t e,
                          int32_t zero);

/* move.c */
void eq_bilinear_scalar(size_t channels, const int8_t *const x[4], const int32_t w[4], int8_t *y);
int eq_bilinear_u8_scalar(size_t channels, const int8_t *const x[4], const int32_t w[4], int8_t *y);
void eq_transpose_scalar(size_t rows, size_t cols, const int8_t *x, size_t x_stride, int8_t *y,
                         size_t y_stride);

/* softmax.c */
void eq_softmax_scalar(size_t n, const int8_t *x, int8_t *y, const int32_t exp_table[256]);
void eq_log_softmax_scalar(size_t n, const int8_t *x, int8_t *y, const int32_t exp_table[256],
                           const int32_t diff_table[256], const eq_log_softmax_params *params);

#endif
