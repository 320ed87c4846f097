/* SPDX-License-Identifier: Apache-2.0
 *
 * gemm of the x86 folders, around what the including file defines:
 *
 *     LANES       int32 lanes of a vector
 *     STEP        window elements that a step of the inner loop takes
 *     TARGET      the target attribute
 *     value       an element of the panel: uint8_t (x + 128) or int16_t (x - x_zero)
 *     copy_values(n, x, x_zero, out)          n elements into the panel; what lies behind them up
 *                 to SLACK elements may be overwritten with anything
 *     copy_runs(runs, n, x, x_zero, out, stride)
 *                 n elements of each of the runs x[0], x[1], ... to every stride-th place, and
 *                 zeros behind them up to the next one; SLACK as above
 *     SLACK
 *     sum_values(n, values)                   their sum
 *     multiply(vectors, rows, steps, panel, stride, w, start, acc)
 *                 acc[r][j] = start[r] + the products of row r of the panel and w
 *     finish(vectors, rows, layer, channel, constants, acc, y, y_stride, count)
 *                 requantizes them into `count` channels of `rows` pixels
 *
 * The panel holds the windows of the pixels at hand as rows of values, runs padded with zeros to
 * steps. Weights are packed [step][vector][lane][STEP] int8. */
#ifndef EQ_KERNELS_X86_GEMM_H
#define EQ_KERNELS_X86_GEMM_H

#include "kernels/x86/pack.h"

/* Window elements of a row, padding included. */
static size_t row_values(const eq_gemm *g)
{
    return g->runs * round_up(g->length, STEP);
}

/* Vectors of the group that begins where `left` channels are left. */
static size_t group_vectors(size_t left)
{
    const size_t vectors = (left + LANES - 1) / LANES;
    return vectors >= MAX_VECTORS ? MAX_VECTORS : vectors >= 2 ? 2 : 1;
}

static size_t group_size(const eq_gemm *g, size_t vectors)
{
    return vectors * LANES * (CONSTANTS * sizeof(int32_t) + row_values(g));
}

/* The value of an input of 0, and of one equal to x_zero, in the panel. */
static int32_t value_offset(const eq_channel_params *p)
{
    return sizeof(value) == 1 ? 128 : -p->x_zero;
}

/* Filter n: its steps of STEP weights go to out + step * stride. The sum of the weights. */
static int32_t pack_filter(const eq_gemm *g, size_t n, int8_t *out, size_t stride)
{
    const int8_t *w = g->w + n * g->runs * g->length;
    int32_t sum = 0;
    for (size_t r = 0; r < g->runs; r++, w += g->length)
        for (size_t k = 0; k < g->length; k += STEP, out += stride) {
            const size_t count = g->length - k < STEP ? g->length - k : STEP;
            int8_t step[STEP] = {0};
            memcpy(step, w + k, count);
            memcpy(out, step, STEP);
            for (size_t i = 0; i < STEP; i++)
                sum += step[i];
        }
    return sum;
}

/* bias' = bias + offset * (what every value of the panel is too large by): then acc is bias' plus
 * the products of panel and weights, minus w_zero * (sum of x - x_zero). */
static void pack_group(const eq_gemm *g, size_t first, size_t vectors, uint8_t *packed)
{
    const eq_channel_params *p = &g->params;
    int32_t *constants = (int32_t *)(void *)packed;
    int8_t *weights = (int8_t *)packed + vectors * LANES * CONSTANTS * sizeof(int32_t);
    const uint32_t excess = (uint32_t)(value_offset(p) + p->x_zero);

    for (size_t j = 0; j < vectors; j++, constants += CONSTANTS * LANES)
        for (size_t lane = 0; lane < LANES; lane++) {
            const size_t n = first + channel_of(vectors, j, lane);
            uint32_t bias = 0;
            if (n < g->channels) {
                const int32_t sum =
                    pack_filter(g, n, weights + (j * LANES + lane) * STEP, vectors * LANES * STEP);
                bias = (p->bias ? (uint32_t)p->bias[n] : 0) - excess * (uint32_t)sum;
                bias += excess * (uint32_t)p->w_zero * (uint32_t)(g->runs * g->length);
            }
            pack_constants(p, g->channels, n, (int32_t)bias, LANES, constants + lane);
        }
}

static size_t gemm_pack(const eq_gemm *g, void *packed)
{
    size_t bytes = sizeof(packed_header);
    if (packed != NULL) {
        packed_header *header = packed;
        memset(header, 0, sizeof *header);
        header->path = requant_path(&g->params, g->channels);
        header->row_sums = g->params.w_zero != 0;
    }
    for (size_t n = 0, vectors; n < g->channels; n += vectors * LANES) {
        vectors = group_vectors(g->channels - n);
        if (packed != NULL) {
            memset((uint8_t *)packed + bytes, 0, group_size(g, vectors));
            pack_group(g, n, vectors, (uint8_t *)packed + bytes);
        }
        bytes += group_size(g, vectors);
    }
    return round_up(bytes, EQ_PACK_ALIGN);
}

/* Accumulators of a tile, the panel, the sums of its rows. */
enum { TILE_ACCUMULATORS = MAX_TILE * LANES };

static size_t panel_size(const eq_gemm *g, size_t pixels)
{
    return round_up((pixels * row_values(g) + SLACK) * sizeof(value), EQ_PACK_ALIGN);
}

static size_t gemm_scratch(const eq_gemm *g, size_t pixels)
{
    return TILE_ACCUMULATORS * sizeof(int32_t) + panel_size(g, pixels)
           + round_up(pixels * sizeof(int32_t), EQ_PACK_ALIGN);
}

static TARGET void fill_panel(const eq_gemm *g, size_t pixels, const eq_windows *x, value *panel)
{
    const int32_t x_zero = g->params.x_zero;
    const size_t padded = round_up(g->length, STEP);

    if (x->step != 0) {
        const int8_t *in = x->x[0];
        if (x->step == padded && g->length == padded) {
            copy_values(pixels * padded, in, x_zero, panel);
            return;
        }
        for (size_t p = 0; p < pixels; p++, in += x->step, panel += padded) {
            copy_values(g->length, in, x_zero, panel);
            for (size_t k = g->length; k < padded; k++)
                panel[k] = 0;
        }
        return;
    }
    const int8_t *const *pieces = x->x;
    if (x->pieces == 1) {
        copy_runs(pixels * g->runs, g->length, pieces, x_zero, panel, padded);
        return;
    }
    const size_t length = g->length / x->pieces;
    if (g->length == padded) {
        copy_runs(pixels * g->runs * x->pieces, length, pieces, x_zero, panel, length);
        return;
    }
    for (size_t r = 0; r < pixels * g->runs; r++, panel += padded, pieces += x->pieces) {
        copy_runs(x->pieces, length, pieces, x_zero, panel, length);
        for (size_t k = g->length; k < padded; k++)
            panel[k] = 0;
    }
}

/* What the accumulators of each pixel begin with: -w_zero * (sum of x - x_zero), of which the part
 * that does not depend on x is in the bias. */
static TARGET void sum_rows(const eq_gemm *g, size_t pixels, size_t row, const value *panel,
                            int32_t *start)
{
    for (size_t p = 0; p < pixels; p++, panel += row)
        start[p] = (int32_t)(0u - (uint32_t)g->params.w_zero * (uint32_t)sum_values(row, panel));
}

static TARGET void gemm(const eq_gemm *g, size_t pixels, size_t first, size_t end,
                        const eq_windows *x, int8_t *y, size_t y_stride, void *scratch)
{
    const packed_header *header = g->packed;
    const size_t row = row_values(g), steps = row / STEP;
    int32_t *acc = scratch;
    value *panel = (value *)(void *)(acc + TILE_ACCUMULATORS);
    int32_t *start = (int32_t *)(void *)((uint8_t *)panel + panel_size(g, pixels));
    const uint8_t *group = g->packed;

    fill_panel(g, pixels, x, panel);
    if (header->row_sums)
        sum_rows(g, pixels, row, panel, start);
    group += sizeof *header + first / (MAX_VECTORS * LANES) * group_size(g, MAX_VECTORS);
    for (size_t n = first, vectors; n < end; n += vectors * LANES) {
        vectors = group_vectors(g->channels - n);
        const size_t most = tile_rows(vectors), tiles = (pixels + most - 1) / most;
        const int32_t *constants = (const int32_t *)(const void *)group;
        const int8_t *w = (const int8_t *)group + vectors * LANES * CONSTANTS * sizeof(int32_t);
        const size_t left = g->channels - n;
        const size_t count = left < vectors * LANES ? left : vectors * LANES;

        for (size_t p = 0, t = tiles, rows; p < pixels; p += rows, t--) {
            rows = (pixels - p + t - 1) / t;
            multiply(vectors, rows, steps, panel + p * row, row, w, constants,
                     header->row_sums ? start + p : NULL, acc);
            finish(vectors, rows, header->path, &g->params, n, constants, acc, y + p * y_stride + n,
                   y_stride, count);
        }
        group += group_size(g, vectors);
    }
}

#endif
