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

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/format.h"

/* What a layer with weights does to an accumulator; arrays hold one entry a channel. */
typedef struct eq_channel_params {
    const int32_t *bias;       /* NULL: 0 */
    const int64_t *bias16;     /* instead of it with EQ_ARITH_R22; NULL: 0 */
    const int32_t *multiplier; /* [channel * step] */
    const int8_t *exponent;    /* [channel * step] */
    size_t step;               /* 0: one pair for all channels, 1: one a channel */
    int32_t x_zero, w_zero, y_zero, act_min, act_max;
    int32_t arithmetic, fraction; /* EQ_ARITH_R31, EQ_ARITH_R15 with its F; EQ_ARITH_R22 */
    int64_t bound;                /* |accumulator| <= bound < 2^31, with EQ_ARITH_R22 < 2^47 */
    bool x_wide, y_wide;          /* int16, else int8; in the slots that end in 16 one of them is */
} eq_channel_params;

/* A layer that multiplies windows of `runs` * `length` elements with the filters of its channels.
 * A run is what lies together in memory: a row of a convolution's window, or one tap of it. */
typedef struct eq_gemm {
    size_t channels, runs, length;
    const int8_t *w;    /* [channels][runs * length] */
    const void *packed; /* what gemm_pack wrote, aligned to EQ_PACK_ALIGN */
    eq_channel_params params;
} eq_gemm;

/* Where the windows of a gemm's pixels lie. step > 0: one run a pixel, that of pixel p at x[0] + p
 * * step. step = 0: pointers [pixels][runs]; a run in the padding points to `length` elements equal
 * to x_zero. */
typedef struct eq_windows {
    const int8_t *const *x;
    size_t step;
} eq_windows;

/* A convolution. A run is a row of its window, or, where a row does not lie together (dilation,
 * groups), one tap. */
typedef struct eq_conv {
    eq_gemm gemm;
    size_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
    size_t width, depth; /* pixels of an input row, elements between two of them */
} eq_conv;

/* A depthwise layer. An input row has `width` pixels of channels / multiplier elements. */
typedef struct eq_depthwise {
    size_t channels, multiplier, kernel_h, kernel_w, stride, dilation; /* the last two: columns */
    size_t width;
    const int8_t *w;    /* [kernel_h][kernel_w][channels] */
    const void *packed; /* what depthwise_pack wrote, aligned to EQ_PACK_ALIGN */
    eq_channel_params params;
} eq_depthwise;

/* Windows of one size in a row of the output. That of pixel p has the input pixels at
 * x + p * step + r * row_stride + c * channels, r < rows, c < cols, at least one. */
typedef struct eq_pool {
    size_t channels, rows, cols, row_stride, step;
    int32_t act_min, act_max, offset;
} eq_pool;

/* Which of the tensors of add16 and mul16 are int16. */
enum { EQ_WIDE_X1 = 1, EQ_WIDE_X2 = 2, EQ_WIDE_Y = 4 };

enum {
    EQ_PACK_ALIGN = 64,
    EQ_CHANNEL_BLOCK = 64 /* work is split between channels only at multiples of this */
};

typedef struct eq_kernels {
    /* Packing: writes weights and parameters in the layout that the slot behind it reads, and
     * returns the bytes; with packed = NULL it only counts them (0: nothing is packed). Sizes are
     * multiples of EQ_PACK_ALIGN. g->packed is ignored. */
    size_t (*gemm_pack)(const eq_gemm *g, void *packed);
    /* Working memory of a call with at most so many pixels, a multiple of EQ_PACK_ALIGN. */
    size_t (*gemm_scratch)(const eq_gemm *g, size_t pixels);
    /* y[p * y_stride + n] = requant(bias[n] + sum_k (window(p)[k] - x_zero) * (w[n][k] - w_zero))
     * for p < pixels, first <= n < end; first is a multiple of EQ_CHANNEL_BLOCK, and so is end
     * unless it is g->channels. scratch is aligned to EQ_PACK_ALIGN. */
    void (*gemm)(const eq_gemm *g, size_t pixels, size_t first, size_t end, const eq_windows *x,
                 int8_t *y, size_t y_stride, void *scratch);

    /* A block of `height` * `pixels` outputs from the input rows that they need:
     * y[r * y_row + p * y_stride + n] = requant(bias[n] + sum over i < kernel_h, j < kernel_w, c of
     * (x(r*stride_h + i*dilation_h, left + p*stride_w + j*dilation_w)[c] - x_zero) *
     * (w[n][i][j][c] - w_zero)). x(i, q) is pixel q of rows[i]; it adds nothing where rows[i] is
     * NULL or q is outside of [0, width). Channels as in gemm; packed by gemm_pack. */
    size_t (*conv_scratch)(const eq_conv *c, size_t height, size_t pixels);
    void (*conv)(const eq_conv *c, size_t height, size_t pixels, size_t first, size_t end,
                 const int8_t *const *rows, ptrdiff_t left, int8_t *y, size_t y_stride,
                 size_t y_row, void *scratch);

    size_t (*depthwise_pack)(const eq_depthwise *d, void *packed);
    size_t (*depthwise_scratch)(const eq_depthwise *d);
    /* A part of an output row: y[p * channels + n] = requant(bias[n] + sum over i < kernel_h, j <
     * kernel_w of (x(i, left + p*stride + j*dilation)[n / multiplier] - x_zero) * (w[i][j][n] -
     * w_zero)), p < pixels. x(i, c) is pixel c of rows[i]; it adds nothing where rows[i] is NULL or
     * c is outside of [0, width). */
    void (*depthwise)(const eq_depthwise *d, size_t pixels, const int8_t *const *rows,
                      ptrdiff_t left, int8_t *y, void *scratch);

    /* ---- Tensors of int16, or of int16 and int8. Pointers to x are in bytes, strides and sizes in
     * elements; int16 is aligned to 2.
     *
     * The layers with weights as above. EQ_ARITH_R22: accumulators are exact in 64 bits,
     * |accumulator| * multiplier < 2^62. EQ_ARITH_R31 where both sides are int16. w_zero = 0;
     * x_zero and y_zero are 0 where that side is int16. */
    size_t (*gemm16_pack)(const eq_gemm *g, void *packed);
    size_t (*gemm16_scratch)(const eq_gemm *g, size_t pixels);
    void (*gemm16)(const eq_gemm *g, size_t pixels, size_t first, size_t end, const eq_windows *x,
                   void *y, size_t y_stride, void *scratch);
    size_t (*conv16_scratch)(const eq_conv *c, size_t height, size_t pixels);
    void (*conv16)(const eq_conv *c, size_t height, size_t pixels, size_t first, size_t end,
                   const int8_t *const *rows, ptrdiff_t left, void *y, size_t y_stride,
                   size_t y_row, void *scratch);
    size_t (*depthwise16_pack)(const eq_depthwise *d, void *packed);
    size_t (*depthwise16_scratch)(const eq_depthwise *d);
    void (*depthwise16)(const eq_depthwise *d, size_t pixels, const int8_t *const *rows,
                        ptrdiff_t left, void *y, void *scratch);

    /* add and mul of operands and results that `wide` says of whether they are int16: EQ_WIDE_...;
     * at least one is. y may be an operand of its size whose step is 1. */
    void (*add16)(size_t n, const void *x1, size_t step1, const void *x2, size_t step2, void *y,
                  const eq_add_params *params, unsigned wide);
    void (*mul16)(size_t n, const void *x1, size_t step1, const void *x2, size_t step2, void *y,
                  const eq_mul_params *params, unsigned wide);
    /* y[i] = clamp(R31(x[i] - x_zero; m, e) + y_zero), i < n; x and y are of the dtypes EQ_DT_INT8,
     * EQ_DT_INT16 or EQ_DT_INT32. y may be x where both have one size. */
    void (*rescale)(size_t n, const void *x, uint8_t x_dtype, void *y, uint8_t y_dtype,
                    const eq_requantize_params *params);
    /* y[i] = eq_interpolate(x[i], table), i < n; y may be x. */
    void (*interpolate)(size_t n, const int16_t *x, int16_t *y, const int16_t table[513]);

    /* ---- int8 again: n elements; a step of 0 repeats the first element of that operand
     * (broadcasting), 1 walks. y may be x1 or x2 where that one's step is 1. */
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

    /* y[p * channels + c], p < pixels, c < channels, over the pixels x[t] of window p:
     * max: clamp(max_t x[t][c]). average: with s = sum_t (x[t][c] + offset), s / (rows * cols)
     * rounded half away from zero, - offset, clamped. |s| < 2^31. */
    void (*max_pool)(const eq_pool *pool, size_t pixels, const int8_t *x, int8_t *y);
    void (*average_pool)(const eq_pool *pool, size_t pixels, const int8_t *x, int8_t *y);

    /* acc[i] += sum_r x[r*stride + i], r < rows, i < n; no acc leaves int32. */
    void (*sum_rows)(size_t rows, size_t n, const int8_t *x, size_t stride, int32_t *acc);
    /* The sum of n elements, n <= 2^23. */
    int32_t (*sum)(size_t n, const int8_t *x);
    /* y[i] = clamp(R31(acc[i]; m, e) + zero, -128, 127), i < n. */
    void (*requantize)(size_t n, const int32_t *acc, int8_t *y, int32_t m, int32_t e, int32_t zero);

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

/* The instruction sets of isa.def that were built, in rising order; 0 is scalar. */
enum {
#define EQ_ISA(name, needed, speed) EQ_ISA_##name,
#include "kernels/isa.def"
#undef EQ_ISA
    EQ_ISA_COUNT
};
enum { EQ_SLOTS = sizeof(eq_kernels) / sizeof(void (*)(void)) };

/* A table, and which instruction set filled each slot. */
typedef struct eq_kernel_table {
    eq_kernels slots;
    uint8_t isa_of[EQ_SLOTS];
    uint8_t isa; /* the highest that was allowed */
} eq_kernel_table;

const char *eq_isa_name(uint32_t isa); /* NULL behind the last */
uint32_t eq_isa_speed(uint32_t isa);   /* the column of isa.def */
extern const char eq_isa_names[];      /* all of them, a space before each */
/* The features of core/cpu.h without which its kernels cannot run. */
uint32_t eq_isa_needs(uint32_t isa);
/* The highest instruction set that this machine has. */
uint32_t eq_isa_best(uint32_t features);
/* EQ_ISA_COUNT if there is none of that name. */
uint32_t eq_isa_find(const char *name);
/* Fills every slot for a machine with these features: scalar, then what the instruction sets up to
 * `isa` do better, in rising order; those that the machine lacks are passed over. */
void eq_kernels_select(eq_kernel_table *table, uint32_t isa, uint32_t features);

/* peak.c: multiplies and adds as fast as that instruction set can, `turns` times a few dozen of its
 * vectors; the multiply-accumulates that were done. 0: not known for it. The machine must have it.
 */
uint64_t eq_kernels_peak(uint32_t isa, uint32_t turns);

/* One a folder: overrides slots. `features` (core/cpu.h) may hold more than the folder needs. */
#define EQ_ISA(name, needed, speed) \
    void eq_kernels_fill_##name(eq_kernels *kernels, uint32_t features);
#include "kernels/isa.def"
#undef EQ_ISA

#endif
