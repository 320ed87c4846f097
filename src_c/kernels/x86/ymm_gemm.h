/* SPDX-License-Identifier: Apache-2.0
 *
 * gemm by 256-bit vectors in tiles of up to 6 x 16 accumulators: 12 of 16 registers. Around what
 * the including file defines: `value`, STEP, SLACK, copy_values, sum_values (see gemm.h), and
 *
 *     load_weights(w)      STEP weights of 8 channels
 *     WEIGHT_BYTES         of these
 *     broadcast(panel)     STEP values in every lane
 *     dot(acc, values, weights) */
#ifndef EQ_KERNELS_X86_YMM_GEMM_H
#define EQ_KERNELS_X86_YMM_GEMM_H

#include "kernels/x86/ymm.h"

enum { MAX_VECTORS = 2, MAX_ROWS = 6, MAX_TILE = 16 };

INLINE void tile(const size_t vectors, const size_t rows, size_t steps, const value *panel,
                 size_t stride, const int8_t *w, const int32_t *constants, const int32_t *start,
                 int32_t *out)
{
    __m256i acc[MAX_ROWS][MAX_VECTORS];
#pragma GCC unroll 6
    for (size_t r = 0; r < rows; r++) {
        const __m256i s = _mm256_set1_epi32(start ? start[r] : 0);
#pragma GCC unroll 2
        for (size_t j = 0; j < vectors; j++)
            acc[r][j] = _mm256_add_epi32(s, load_ymm(constants + (CONSTANTS * j + BIAS) * LANES));
    }
    for (; steps > 0; steps--, panel += STEP, w += vectors * WEIGHT_BYTES) {
        __m256i weights[MAX_VECTORS];
#pragma GCC unroll 2
        for (size_t j = 0; j < vectors; j++)
            weights[j] = load_weights(w + j * WEIGHT_BYTES);
#pragma GCC unroll 6
        for (size_t r = 0; r < rows; r++) {
            const __m256i x = broadcast(panel + r * stride);
#pragma GCC unroll 2
            for (size_t j = 0; j < vectors; j++)
                acc[r][j] = dot(acc[r][j], x, weights[j]);
        }
    }
#pragma GCC unroll 6
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (size_t j = 0; j < vectors; j++)
            store_ymm(out + (r * vectors + j) * LANES, acc[r][j]);
}

typedef void tile_function(size_t steps, const value *panel, size_t stride, const int8_t *w,
                           const int32_t *constants, const int32_t *start, int32_t *out);

#define TILE(v, r) \
    static TARGET void tile_##v##_##r(size_t steps, const value *panel, size_t stride, \
                                      const int8_t *w, const int32_t *constants, \
                                      const int32_t *start, int32_t *out) \
    { \
        tile(v, r, steps, panel, stride, w, constants, start, out); \
    }
#define TILES(v) TILE(v, 1) TILE(v, 2) TILE(v, 3) TILE(v, 4) TILE(v, 5) TILE(v, 6)
TILES(2)
TILES(1)
#define NAMES(v) tile_##v##_1, tile_##v##_2, tile_##v##_3, tile_##v##_4, tile_##v##_5, tile_##v##_6

static size_t tile_rows(size_t vectors)
{
    (void)vectors;
    return MAX_ROWS;
}

static void multiply(size_t vectors, size_t rows, size_t steps, const value *panel, size_t stride,
                     const int8_t *w, const int32_t *constants, const int32_t *start, int32_t *acc)
{
    static tile_function *const tiles[2][MAX_ROWS] = {{NAMES(1)}, {NAMES(2)}};
    tiles[vectors - 1][rows - 1](steps, panel, stride, w, constants, start, acc);
}

static TARGET void finish(size_t vectors, size_t rows, int32_t path, const eq_channel_params *p,
                          size_t channel, const int32_t *constants, const int32_t *acc, int8_t *y,
                          size_t y_stride, size_t count)
{
    if (vectors == 2)
        finish_rows(2, rows, path, p, channel, constants, acc, y, y_stride, count);
    else
        finish_rows(1, rows, path, p, channel, constants, acc, y, y_stride, count);
}

static TARGET void copy_runs(size_t runs, size_t n, const int8_t *const *x, int32_t x_zero,
                             value *out, size_t stride)
{
    for (; runs > 0; runs--, x++, out += stride) {
        copy_values(n, *x, x_zero, out);
        for (size_t k = n; k < stride; k++)
            out[k] = 0;
    }
}

#include "kernels/x86/gemm.h"

#endif
