/* SPDX-License-Identifier: Apache-2.0
 *
 * The inner loop of gemm and conv: a tile of windows by vectors of channels, unrolled for every
 * size. Around what the including file defines: TARGET, INLINE, value, vector, STEP, LANES, and
 *
 *     MAX_ROWS, MAX_VECTORS        of a tile, not both at once
 *     WEIGHT_BYTES, load_weights   the STEP weights of LANES channels
 *     broadcast(values)            STEP values in every lane
 *     load_sums(p), equal_sums(n), no_sums(), add_sums(a, b), store_sums(out, acc)
 *     finisher, load_constants, finish_surely, rows_in_order, store_rows
 *     dot(acc, values, weights) */
#ifndef EQ_KERNELS_X86_TILE_H
#define EQ_KERNELS_X86_TILE_H

#include "kernels/x86/pack.h"

/* Where a tile's windows are: run i of window r begins at runs[i] + offset + r * stride; behind a
 * run may lie anything, its weights are 0. */
typedef struct source {
    const value *const *runs;
    size_t count, steps, offset, stride; /* steps of a run */
    size_t pairs;                        /* vectors with pairs of steps; see gemm.h */
} source;

/* What a tile does with its sums: where `requantize` is set they become `count` bytes a row,
 * y_stride apart, else they are stored, [rows][vectors][LANES]. */
typedef struct sink {
    finisher f;
    size_t count, y_stride;
    bool requantize;
} sink;

/* Rows of sums to bytes, a quad at a time. */
INLINE void finish_tile(const size_t vectors, const size_t rows, const bool line,
                        vector acc[MAX_ROWS][MAX_VECTORS], const int32_t *constants, const sink *to,
                        int8_t *y)
{
    const quad_constants c = load_constants(vectors, constants);
    const size_t group = 4 / vectors, stride = to->y_stride;
#pragma GCC unroll 12
    for (size_t r = 0; r < rows; r += group) {
        vector quad[4];
#pragma GCC unroll 4
        for (size_t i = 0; i < 4; i++) {
            const size_t row = r + i / vectors;
            quad[i] = acc[row < rows ? row : rows - 1][i % vectors];
        }
        const vector out = rows_in_order(vectors, finish_surely(&to->f, line, quad, &c));
        const size_t some = rows - r < group ? rows - r : group;
        if (__builtin_expect(to->count == vectors * LANES, 1))
            store_rows(vectors, some, vectors * LANES, out, y + r * stride, stride);
        else
            store_parts(vectors, some, to->count, out, y + r * stride, stride);
    }
}

/* out: int8_t y[], or int32_t sums[]. */
INLINE void drain_tile(const size_t vectors, const size_t rows, vector acc[MAX_ROWS][MAX_VECTORS],
                       const int32_t *constants, const sink *to, void *out)
{
    if (to->requantize && to->f.path == PATH_LINE) {
        finish_tile(vectors, rows, true, acc, constants, to, out);
        return;
    }
    if (to->requantize) {
        finish_tile(vectors, rows, false, acc, constants, to, out);
        return;
    }
#pragma GCC unroll 12
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (size_t j = 0; j < vectors; j++)
            store_sums((int32_t *)out + (r * vectors + j) * LANES, acc[r][j]);
}

/* acc += the products of a step: `rows` windows of `values` and the weights at w. */
INLINE void multiply_step(const size_t vectors, const size_t rows, const value *values,
                          size_t stride, const int8_t *w, vector acc[MAX_ROWS][MAX_VECTORS])
{
    vector weights[MAX_VECTORS];
#pragma GCC unroll 4
    for (size_t j = 0; j < vectors; j++)
        weights[j] = load_weights(w + j * WEIGHT_BYTES);
#pragma GCC unroll 12
    for (size_t r = 0; r < rows; r++) {
        const vector x = broadcast(values + r * stride);
#pragma GCC unroll 4
        for (size_t j = 0; j < vectors; j++)
            acc[r][j] = dot(acc[r][j], x, weights[j]);
    }
}

/* Small tiles add into WAYS accumulators in turns, so that products do not wait for each other. */
enum { WAYS = 4, SMALL_TILE = 4 };

INLINE void tile(const size_t vectors, const size_t rows, const source *from, const int8_t *w,
                 const int32_t *constants, const int32_t *start, const sink *to, void *out)
{
    const size_t stride = from->stride, size = vectors * WEIGHT_BYTES;
    const size_t ways = vectors * rows <= SMALL_TILE ? WAYS : 1;
    vector acc[WAYS][MAX_ROWS][MAX_VECTORS];
#pragma GCC unroll 4
    for (size_t j = 0; j < vectors; j++) {
        const vector bias = load_sums(constants + (CONSTANTS * j + BIAS) * LANES);
#pragma GCC unroll 12
        for (size_t r = 0; r < rows; r++) {
            acc[0][r][j] = bias;
#pragma GCC unroll 4
            for (size_t i = 1; i < ways; i++)
                acc[i][r][j] = no_sums();
        }
    }
    if (start != NULL)
#pragma GCC unroll 12
        for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 4
            for (size_t j = 0; j < vectors; j++)
                acc[0][r][j] = add_sums(acc[0][r][j], equal_sums(start[r]));
    for (size_t i = 0; i < from->count; i++) {
        const value *values = from->runs[i] + from->offset;
        size_t k = from->steps;
        for (; ways > 1 && k >= WAYS; k -= WAYS, values += WAYS * STEP, w += WAYS * size)
#pragma GCC unroll 4
            for (size_t way = 0; way < WAYS; way++)
                multiply_step(vectors, rows, values + way * STEP, stride, w + way * size, acc[way]);
        for (; k > 0; k--, values += STEP, w += size)
            multiply_step(vectors, rows, values, stride, w, acc[0]);
    }
#pragma GCC unroll 12
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (size_t j = 0; j < vectors; j++)
#pragma GCC unroll 4
            for (size_t i = 1; i < ways; i++)
                acc[0][r][j] = add_sums(acc[0][r][j], acc[i][r][j]);
    drain_tile(vectors, rows, acc[0], constants, to, out);
}

typedef void tile_function(const source *from, const int8_t *w, const int32_t *constants,
                           const int32_t *start, const sink *to, void *out);

#define TILE(v, r) \
    static TARGET void tile_##v##_##r(const source *from, const int8_t *w, \
                                      const int32_t *constants, const int32_t *start, \
                                      const sink *to, void *out) \
    { \
        tile(v, r, from, w, constants, start, to, out); \
    }
#define TILES_TO_6(v) TILE(v, 1) TILE(v, 2) TILE(v, 3) TILE(v, 4) TILE(v, 5) TILE(v, 6)
#define TILES_TO_12(v) \
    TILES_TO_6(v) TILE(v, 7) TILE(v, 8) TILE(v, 9) TILE(v, 10) TILE(v, 11) TILE(v, 12)
#define NAMES_TO_6(v) \
    tile_##v##_1, tile_##v##_2, tile_##v##_3, tile_##v##_4, tile_##v##_5, tile_##v##_6
#define NAMES_TO_12(v) \
    NAMES_TO_6(v), tile_##v##_7, tile_##v##_8, tile_##v##_9, tile_##v##_10, tile_##v##_11, \
        tile_##v##_12

#endif
