/* SPDX-License-Identifier: Apache-2.0
 *
 * gemm16 and conv16 of the x86 folders, around what the including file defines:
 *
 *     TARGET, INLINE               attributes
 *     vector, LANES                int32 lanes
 *     MAX_VECTORS, MAX_ROWS        of a tile of accumulators, not both at once
 *     load_pairs(w)                2 * LANES weights as int16
 *     broadcast(values)            two values in every lane
 *     dot(acc, values, weights)    acc + two products a lane
 *     load_sums(p), no_sums(), add_sums(a, b), store_sums(out, acc)
 *     widen_values(n, x, x_zero, out)     x - x_zero of n int8
 *     scale(count, sums, wide, factors, layer, y)
 *                                  `count` requantized outputs; see finish_row
 *
 * Windows are int16, in place or in a panel: x - x_zero, runs padded to pairs. Weights are packed
 * [group of channels][pair][vector][lane][2] int8, in front of them a factor and a bias a channel.
 *
 * Sums are int32 where the layer's bound allows it. Else a window is taken in chunks whose products
 * add up to less than 2^31, and these are added as float64, which is exact below 2^53.
 * Requantization is acc * factor + 1/2, rounded down, in float64; docs/NUMERICS.md says when that
 * is exact. */
#ifndef EQ_KERNELS_X86_GEMM16_H
#define EQ_KERNELS_X86_GEMM16_H

#include <string.h>

#include "core/numerics.h"
#include "kernels/kernels.h"

enum {
    CHUNK = 254, /* pairs: 508 * 2^7 * 2^15 < 2^31 */
    BATCH = 24,  /* pixels whose sums are requantized together */
    MAX_CHANNELS = MAX_VECTORS * LANES,
    PANEL_SLACK = 32 /* values behind a panel */
};

typedef struct packed16_header {
    int32_t wide; /* sums are float64 */
    int32_t slow; /* requantization by its definition */
    int32_t reserved[14];
} packed16_header;

/* Run i of window r begins at runs[i] + offset + r * stride. */
typedef struct source16 {
    const int16_t *const *runs;
    size_t count, steps, offset, stride; /* steps: pairs of a run */
} source16;

static size_t align_up(size_t n)
{
    return (n + EQ_PACK_ALIGN - 1) / EQ_PACK_ALIGN * EQ_PACK_ALIGN;
}

static size_t pairs_of_run(const eq_gemm *g)
{
    return (g->length + 1) / 2;
}

static size_t group_vectors(size_t left)
{
    const size_t vectors = (left + LANES - 1) / LANES;
    return vectors >= MAX_VECTORS ? MAX_VECTORS : vectors >= 2 ? 2 : 1;
}

static size_t group_size(const eq_gemm *g, size_t vectors)
{
    const size_t channels = vectors * LANES;
    const size_t weights = g->runs * pairs_of_run(g) * 2 * channels;
    return align_up(channels * 2 * sizeof(double) + weights);
}

/* ---- packing */

static int64_t bias_of(const eq_channel_params *p, size_t n)
{
    return p->bias16 ? p->bias16[n] : p->bias ? p->bias[n] : 0;
}

/* 2^e, e in [-1022, 1023]. */
static double power_of_two(int e)
{
    const uint64_t bits = (uint64_t)(e + 1023) << 52;
    double power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

/* Whether float64 is exact for this layer and no output leaves int32: docs/NUMERICS.md. */
static bool is_exact(const eq_channel_params *p, size_t channels)
{
    if (p->arithmetic != EQ_ARITH_R22)
        return false;
    for (size_t n = 0; n < (p->step ? channels : 1); n++) {
        const int64_t m = p->multiplier[n];
        const int s = -p->exponent[n];
        const int64_t half = (int64_t)1 << (s - 1);
        if (m > 0 && p->bound > (((int64_t)1 << 53) - half) / m)
            return false;
        if ((m * (p->bound + 1)) >> s > INT32_MAX - 65536)
            return false;
    }
    return true;
}

static void pack_group16(const eq_gemm *g, size_t first, size_t vectors, uint8_t *packed)
{
    const eq_channel_params *p = &g->params;
    const size_t channels = vectors * LANES, pairs = pairs_of_run(g);
    double *factors = (double *)(void *)packed, *bias = factors + channels;
    int8_t *weights = (int8_t *)(bias + channels);
    for (size_t c = 0; c < channels && first + c < g->channels; c++) {
        const size_t n = first + c;
        const int8_t *w = g->w + n * g->runs * g->length;
        factors[c] = p->multiplier[n * p->step] * power_of_two(p->exponent[n * p->step]);
        bias[c] = (double)bias_of(p, n);
        for (size_t r = 0; r < g->runs; r++, w += g->length)
            for (size_t k = 0; k < g->length; k++)
                weights[((r * pairs + k / 2) * channels + c) * 2 + k % 2] = w[k];
    }
}

static size_t gemm16_pack(const eq_gemm *g, void *packed)
{
    size_t bytes = sizeof(packed16_header);
    if (packed != NULL) {
        packed16_header *header = packed;
        memset(header, 0, sizeof *header);
        header->wide = g->params.bound > INT32_MAX;
        header->slow = !is_exact(&g->params, g->channels);
    }
    for (size_t n = 0, vectors; n < g->channels; n += vectors * LANES) {
        vectors = group_vectors(g->channels - n);
        if (packed != NULL) {
            memset((uint8_t *)packed + bytes, 0, group_size(g, vectors));
            pack_group16(g, n, vectors, (uint8_t *)packed + bytes);
        }
        bytes += group_size(g, vectors);
    }
    return align_up(bytes);
}

/* ---- tiles */

INLINE void multiply_step(const size_t vectors, const size_t rows, const int16_t *values,
                          size_t stride, const int8_t *w, vector acc[MAX_ROWS][MAX_VECTORS])
{
    vector weights[MAX_VECTORS];
#pragma GCC unroll 4
    for (size_t j = 0; j < vectors; j++)
        weights[j] = load_pairs(w + j * 2 * LANES);
#pragma GCC unroll 12
    for (size_t r = 0; r < rows; r++) {
        const vector x = broadcast(values + r * stride);
#pragma GCC unroll 4
        for (size_t j = 0; j < vectors; j++)
            acc[r][j] = dot(acc[r][j], x, weights[j]);
    }
}

/* out[r][j] = the products of window r and the weights. Small tiles add into two accumulators in
 * turns, so that products do not wait for each other. */
INLINE void tile16(const size_t vectors, const size_t rows, const source16 *from, const int8_t *w,
                   int32_t *out)
{
    const size_t stride = from->stride, size = vectors * 2 * LANES;
    const size_t ways = vectors * rows <= 4 ? 2 : 1;
    vector acc[2][MAX_ROWS][MAX_VECTORS];
#pragma GCC unroll 12
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (size_t j = 0; j < vectors; j++) {
            acc[0][r][j] = no_sums();
            if (ways > 1)
                acc[1][r][j] = no_sums();
        }
    for (size_t i = 0; i < from->count; i++) {
        const int16_t *values = from->runs[i] + from->offset;
        size_t k = from->steps;
        for (; ways > 1 && k >= 2; k -= 2, values += 4, w += 2 * size) {
            multiply_step(vectors, rows, values, stride, w, acc[0]);
            multiply_step(vectors, rows, values + 2, stride, w + size, acc[1]);
        }
        for (; k > 0; k--, values += 2, w += size)
            multiply_step(vectors, rows, values, stride, w, acc[0]);
    }
#pragma GCC unroll 12
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (size_t j = 0; j < vectors; j++)
            store_sums(out + (r * vectors + j) * LANES,
                       ways > 1 ? add_sums(acc[0][r][j], acc[1][r][j]) : acc[0][r][j]);
}

typedef void tile16_function(const source16 *from, const int8_t *w, int32_t *out);

#define TILE(v, r) \
    static TARGET void tile_##v##_##r(const source16 *from, const int8_t *w, int32_t *out) \
    { \
        tile16(v, r, from, w, out); \
    }
#define TILES_TO_6(v) TILE(v, 1) TILE(v, 2) TILE(v, 3) TILE(v, 4) TILE(v, 5) TILE(v, 6)
#define TILES_TO_12(v) \
    TILES_TO_6(v) TILE(v, 7) TILE(v, 8) TILE(v, 9) TILE(v, 10) TILE(v, 11) TILE(v, 12)
#define NAMES_TO_6(v) \
    tile_##v##_1, tile_##v##_2, tile_##v##_3, tile_##v##_4, tile_##v##_5, tile_##v##_6
#define NAMES_TO_12(v) \
    NAMES_TO_6(v), tile_##v##_7, tile_##v##_8, tile_##v##_9, tile_##v##_10, tile_##v##_11, \
        tile_##v##_12

/* By the including file: for `vectors`, the tiles of 1 ... tile_rows(vectors) rows. */
static tile16_function *const *tiles_of(size_t vectors, size_t *rows);

/* ---- a batch of windows by a group of channels */

/* Sums of `rows` windows: [rows][channels]. */
static TARGET void multiply16(size_t vectors, size_t rows, source16 from, const int8_t *w,
                              int32_t *out)
{
    size_t most;
    tile16_function *const *tiles = tiles_of(vectors, &most);
    size_t left = (rows + most - 1) / most;
    for (size_t done = 0, some; done < rows; done += some, left--) {
        some = (rows - done + left - 1) / left;
        tiles[some - 1](&from, w, out + done * vectors * LANES);
        from.offset += some * from.stride;
    }
}

/* sums[i] += acc[i] */
static TARGET void add_chunk(size_t n, const int32_t *acc, double *sums)
{
    for (size_t i = 0; i < n; i++)
        sums[i] += acc[i];
}

/* The same, chunk by chunk, in float64. */
static TARGET void multiply_wide(size_t vectors, size_t rows, source16 from, const int8_t *w,
                                 int32_t *acc, double *sums)
{
    const size_t channels = vectors * LANES, pair = 2 * channels, runs = from.count;
    const size_t steps = from.steps, offset = from.offset;
    const size_t together = steps < CHUNK ? CHUNK / steps : 1;
    const int16_t *const *first = from.runs;
    memset(sums, 0, rows * channels * sizeof *sums);
    for (size_t r = 0; r < runs; r += together)
        for (size_t k = 0; k < steps; k += CHUNK) {
            from.runs = first + r;
            from.count = runs - r < together ? runs - r : together;
            from.steps = steps - k < CHUNK ? steps - k : CHUNK;
            from.offset = offset + 2 * k;
            multiply16(vectors, rows, from, w + (r * steps + k) * pair, acc);
            add_chunk(rows * channels, acc, sums);
        }
}

/* By the definition: channels n ... n + count - 1. */
static void finish_slowly(const eq_channel_params *p, size_t n, size_t count, const int32_t *acc,
                          const double *sums, void *y)
{
    for (size_t i = 0; i < count; i++) {
        const int64_t sum = (sums ? (int64_t)sums[i] : acc[i]) + bias_of(p, n + i);
        const int32_t m = p->multiplier[(n + i) * p->step], e = p->exponent[(n + i) * p->step];
        const int32_t scaled = p->arithmetic == EQ_ARITH_R22 ? eq_requant_r22(sum, m, e)
                                                             : eq_requant_r31((int32_t)sum, m, e);
        const int32_t v = eq_clamp(eq_add_wrap(scaled, p->y_zero), p->act_min, p->act_max);
        if (p->y_wide)
            ((int16_t *)y)[i] = (int16_t)v;
        else
            ((int8_t *)y)[i] = (int8_t)v;
    }
}

/* `rows` rows of windows times `pixels`: those of row r begin at runs + r * run_step. */
static TARGET void multiply_all16(const eq_gemm *g, size_t rows, size_t pixels, size_t first,
                                  size_t end, const int16_t *const *runs, size_t run_step,
                                  source16 from, uint8_t *y, size_t y_stride, size_t y_row,
                                  void *scratch)
{
    const packed16_header *header = g->packed;
    const eq_channel_params *p = &g->params;
    const uint8_t *group =
        (const uint8_t *)(header + 1) + first / MAX_CHANNELS * group_size(g, MAX_VECTORS);
    int32_t *acc = scratch;
    double *sums = (double *)(void *)(acc + BATCH * MAX_CHANNELS);
    const size_t stride = from.stride;

    for (size_t n = first, vectors; n < end; n += vectors * LANES) {
        vectors = group_vectors(g->channels - n);
        const size_t channels = vectors * LANES;
        const size_t left = g->channels - n, count = left < channels ? left : channels;
        const double *factors = (const double *)(const void *)group, *bias = factors + channels;
        const int8_t *w = (const int8_t *)(bias + channels);
        for (size_t r = 0; r < rows; r++)
            for (size_t at = 0, batch; at < pixels; at += batch) {
                batch = pixels - at < BATCH ? pixels - at : BATCH;
                from.runs = runs + r * run_step;
                from.offset = at * stride;
                if (header->wide)
                    multiply_wide(vectors, batch, from, w, acc, sums);
                else
                    multiply16(vectors, batch, from, w, acc);
                for (size_t i = 0; i < batch; i++) {
                    const int32_t *row = acc + i * channels;
                    const double *wide = header->wide ? sums + i * channels : NULL;
                    uint8_t *to = y + ((r * y_row + (at + i) * y_stride + n) << p->y_wide);
                    if (header->slow)
                        finish_slowly(p, n, count, row, wide, to);
                    else
                        scale(count, row, wide, factors, bias, p, to);
                }
            }
        group += group_size(g, vectors);
    }
}

enum { SUMS_SIZE = BATCH * MAX_CHANNELS * (sizeof(int32_t) + sizeof(double)) };

/* ---- gemm16 */

static size_t panel_row(const eq_gemm *g)
{
    return g->runs * pairs_of_run(g) * 2;
}

static size_t gemm16_scratch(const eq_gemm *g, size_t pixels)
{
    return SUMS_SIZE + align_up((pixels * panel_row(g) + PANEL_SLACK) * sizeof(int16_t));
}

/* n elements of x as int16 into out. */
INLINE void copy_values16(const eq_channel_params *p, size_t n, const int8_t *x, int16_t *out)
{
    if (p->x_wide)
        memcpy(out, x, n * sizeof *out);
    else
        widen_values(n, x, p->x_zero, out);
}

static TARGET void fill_panel16(const eq_gemm *g, size_t pixels, const eq_windows *x,
                                int16_t *panel)
{
    const size_t padded = pairs_of_run(g) * 2, bytes = g->params.x_wide ? 2 : 1;
    for (size_t r = 0; r < pixels * g->runs; r++, panel += padded) {
        const int8_t *run = x->step == 0 ? x->x[r] : x->x[0] + r * x->step * bytes;
        copy_values16(&g->params, g->length, run, panel);
        if (padded > g->length)
            panel[g->length] = 0;
    }
}

static TARGET void gemm16(const eq_gemm *g, size_t pixels, size_t first, size_t end,
                          const eq_windows *x, void *y, size_t y_stride, void *scratch)
{
    int16_t *panel = (int16_t *)(void *)((uint8_t *)scratch + SUMS_SIZE);
    const int16_t *run = panel;
    source16 from = {.count = 1, .steps = panel_row(g) / 2, .stride = panel_row(g)};
    if (x->step != 0 && g->params.x_wide && g->length % 2 == 0) {
        run = (const int16_t *)(const void *)x->x[0];
        from.stride = x->step;
    } else {
        fill_panel16(g, pixels, x, panel);
    }
    multiply_all16(g, 1, pixels, first, end, &run, 0, from, y, y_stride, 0, scratch);
}

/* ---- conv16 */

typedef struct conv16_layout {
    size_t columns, row, rows; /* pixels and values of a row of the panel, rows */
    size_t runs_at, size;
} conv16_layout;

static conv16_layout layout_conv16(const eq_conv *c, size_t height, size_t pixels)
{
    conv16_layout at;
    at.columns = (pixels - 1) * c->stride_w + (c->kernel_w - 1) * c->dilation_w + 1;
    at.row = at.columns * c->depth + 2;
    at.rows = (height - 1) * c->stride_h + (c->kernel_h - 1) * c->dilation_h + 1;
    at.runs_at = SUMS_SIZE + align_up((at.rows * at.row + PANEL_SLACK) * sizeof(int16_t));
    at.size = at.runs_at + align_up(height * c->gemm.runs * sizeof(int16_t *));
    return at;
}

static size_t conv16_scratch(const eq_conv *c, size_t height, size_t pixels)
{
    return layout_conv16(c, height, pixels).size;
}

/* Columns left ... of an input row with their padding. */
static TARGET void fill_row16(const eq_conv *c, const conv16_layout *at, const int8_t *row,
                              ptrdiff_t left, int16_t *out)
{
    const ptrdiff_t width = (ptrdiff_t)c->width, last = left + (ptrdiff_t)at->columns;
    const ptrdiff_t from = left < 0 ? 0 : left, to = last < width ? last : width;
    const size_t bytes = c->gemm.params.x_wide ? 2 : 1;
    if (row == NULL || from >= to) {
        memset(out, 0, at->row * sizeof *out);
        return;
    }
    /* of the last pixel no more than a tap: with groups, its other channels are not ours */
    const size_t tap = c->gemm.runs * c->gemm.length / (c->kernel_h * c->kernel_w);
    const size_t before = (size_t)(from - left) * c->depth;
    const size_t inside = (size_t)(to - from - 1) * c->depth + tap;
    memset(out, 0, before * sizeof *out);
    copy_values16(&c->gemm.params, inside, row + (size_t)from * c->depth * bytes, out + before);
    memset(out + before + inside, 0, (at->row - before - inside) * sizeof *out);
}

static TARGET void conv16(const eq_conv *c, size_t height, size_t pixels, size_t first, size_t end,
                          const int8_t *const *rows, ptrdiff_t left, void *y, size_t y_stride,
                          size_t y_row, void *scratch)
{
    const eq_gemm *g = &c->gemm;
    const conv16_layout at = layout_conv16(c, height, pixels);
    int16_t *panel = (int16_t *)(void *)((uint8_t *)scratch + SUMS_SIZE);
    const int16_t **runs = (const int16_t **)(void *)((uint8_t *)scratch + at.runs_at),
                  **run = runs;
    const size_t row_runs = g->runs / c->kernel_h;
    const source16 from = {
        .count = g->runs, .steps = pairs_of_run(g), .stride = c->stride_w * c->depth};

    for (size_t i = 0; i < at.rows; i++)
        fill_row16(c, &at, rows[i], left, panel + i * at.row);
    for (size_t r = 0; r < height; r++)
        for (size_t i = 0; i < c->kernel_h; i++)
            for (size_t j = 0; j < row_runs; j++)
                *run++ = panel + (r * c->stride_h + i * c->dilation_h) * at.row
                         + j * c->dilation_w * c->depth;
    multiply_all16(g, height, pixels, first, end, runs, g->runs, from, y, y_stride, y_row, scratch);
}

#endif
