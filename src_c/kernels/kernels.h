/* SPDX-License-Identifier: Apache-2.0
 *
 * THE kernel interface: one table of function pointers, one contract a slot.
 *
 * Every slot is filled by scalar/ first; an instruction set then overrides what it does better,
 * with the same bytes as a result. Sizes and strides are in elements. Kernels touch no memory
 * outside of what they are given, allocate nothing, and accept any alignment of activations.
 * Outputs overlap inputs only where a contract says so. The arithmetic is core/numerics.h.
 */
#ifndef EQ_KERNELS_H
#define EQ_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "core/format.h"

/* What a convolution does to an accumulator; arrays hold one entry a channel. */
typedef struct eq_channel_params {
    const int32_t *bias;       /* NULL: 0 */
    const int32_t *multiplier; /* [channel * step] */
    const int8_t *exponent;    /* [channel * step] */
    size_t step;               /* 0: one pair for all channels, 1: one a channel */
    int32_t x_zero, w_zero, y_zero, act_min, act_max;
} eq_channel_params;

typedef struct eq_kernels {
    const char *isa;

    /* y[p][n] = requant(bias[n] + sum_t,c (x[p*taps + t][c] - x_zero) * (w[n][t][c] - w_zero))
     * p < pixels, n < channels, t < taps, c < depth; y row stride y_stride. A null x pointer is a
     * tap in the padding and adds nothing. w: int8 [channels][taps][depth]. */
    void (*gemm)(size_t pixels, size_t channels, size_t taps, size_t depth, const int8_t *const *x,
                 const int8_t *w, int8_t *y, size_t y_stride, const eq_channel_params *params);

    /* y[n] = requant(bias[n] + sum_t (x[t][n / multiplier] - x_zero) * (w[t][n] - w_zero)), n <
     * channels for one output pixel; null x pointers as above. w: int8 [taps][channels]. */
    void (*depthwise)(size_t channels, size_t multiplier, size_t taps, const int8_t *const *x,
                      const int8_t *w, int8_t *y, const eq_channel_params *params);

    /* n elements; a step of 0 repeats the first element of that operand (broadcasting), 1 walks.
     * y may be x1 or x2 where that one's step is 1. */
    void (*add)(size_t n, const int8_t *x1, size_t step1, const int8_t *x2, size_t step2, int8_t *y,
                const eq_add_params *params);
    void (*mul)(size_t n, const int8_t *x1, size_t step1, const int8_t *x2, size_t step2, int8_t *y,
                const eq_mul_params *params);
    void (*maximum)(size_t n, const int8_t *x1, size_t step1, const int8_t *x2, size_t step2,
                    int8_t *y);
    void (*minimum)(size_t n, const int8_t *x1, size_t step1, const int8_t *x2, size_t step2,
                    int8_t *y);
    void (*prelu)(size_t n, const int8_t *x, size_t step1, const int8_t *alpha, size_t step2,
                  int8_t *y, const eq_prelu_params *params);

    /* y[i] = table[x[i] + 128], i < n; y may be x. */
    void (*lut)(size_t n, const int8_t *x, int8_t *y, const int8_t table[256]);

    /* One output pixel over the `taps` > 0 input pixels that lie inside: y[c], c < channels.
     * max: clamp(max_t x[t][c]). average: with s = sum_t (x[t][c] + offset), s / taps rounded half
     * away from zero, - offset, clamped. |s| < 2^31. */
    void (*max_pool)(size_t channels, size_t taps, const int8_t *const *x, int8_t *y,
                     const eq_pool_params *params);
    void (*average_pool)(size_t channels, size_t taps, const int8_t *const *x, int8_t *y,
                         const eq_pool_params *params);

    /* acc[i] += sum_r x[r*stride + i], r < rows, i < n; no acc leaves int32. */
    void (*sum_rows)(size_t rows, size_t n, const int8_t *x, size_t stride, int32_t *acc);
    /* The sum of n elements, n <= 2^23. */
    int32_t (*sum)(size_t n, const int8_t *x);

    /* One output pixel from four input pixels: y[c], c < channels, of s = sum_i x[i][c] * w[i].
     * bilinear: s / 2^20 rounded half away from zero. |s| <= 2^29 in whichever order of summation;
     * a weight is negative only if two pixels are the same one, so that y is between the pixels. */
    void (*bilinear)(size_t channels, const int8_t *const x[4], const int32_t w[4], int8_t *y);
    /* bilinear_u8: v = sum_i (x[i][c] + 128) * w[i] + 2^19, y = clamp(v >> 20, 0, 255) - 128;
     * sum_i |w[i]| <= 2^22 + 4. Returns 1 if any (v + 2^10) modulo 2^20 is below 2^11, else 0. */
    int (*bilinear_u8)(size_t channels, const int8_t *const x[4], const int32_t w[4], int8_t *y);

    /* y[c*y_stride + r] = x[r*x_stride + c], r < rows, c < cols. */
    void (*transpose)(size_t rows, size_t cols, const int8_t *x, size_t x_stride, int8_t *y,
                      size_t y_stride);

    /* One row of n > 0 elements; y may be x. docs/NUMERICS.md, Softmax. With d[i] = max(x) - x[i]:
     * softmax: the exponentials are summed in Q12.19, at most to 2^32 - 1 (rows of 8192 elements).
     * exp_table[0] = 2^31 - 1, the others in [0, 2^31). The reference's last shift is undefined
     * above 31, which is from a sum of 512 (2^28) on; here that quotient is below 1/2 and rounds to
     * 0. log_softmax: summed likewise, at most to 2^31 - 1. diff_table[d] in (-2^31, 0]. */
    void (*softmax)(size_t n, const int8_t *x, int8_t *y, const int32_t exp_table[256]);
    void (*log_softmax)(size_t n, const int8_t *x, int8_t *y, const int32_t exp_table[256],
                        const int32_t diff_table[256], const eq_log_softmax_params *params);
} eq_kernels;

/* Fills the table for the best instruction set that this machine has. */
void eq_kernels_select(eq_kernels *kernels);

/* One a folder. */
void eq_kernels_fill_scalar(eq_kernels *kernels);

#endif
