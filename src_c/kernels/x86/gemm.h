/* SPDX-License-Identifier: Apache-2.0
 *
 * gemm and conv of the x86 folders, around what the including file defines:
 *
 *     LANES       int32 lanes of a vector
 *     STEP        window elements that a step of the inner loop takes
 *     pairs_of(g) 0, or how many vectors hold the layer's channels in pairs of steps
 *     TARGET      the target attribute
 *     value       an element of the panel: uint8_t (x + 128) or int16_t (x - x_zero)
 *     copy_values(n, x, x_zero, out)          n elements into the panel; what lies behind them up
 *                 to SLACK elements may be overwritten with anything
 *     SLACK
 *     sum_values(rows, stride, runs, count, n, sums)
 *                 sums[r] = the sum of the n values at runs[i] + r * stride, over i < count
 *     multiply(vectors, rows, source, w, constants, start, sink, out)
 *                 sum[r][j] = bias[j] + start[r] + the products of window r of the source and w,
 *                 requantized or stored as tile.h says of a sink
 *     multiply_row(from, group, size, groups, paths, p, channel, start, y)
 *                 whole groups of a single window, as many as it likes; how many. paths: a byte a
 *                 vector, of which a group's first counts
 *     finish(vectors, rows, layer, channel, constants, acc, y, y_stride, count)
 *                 requantizes them into `count` channels of `rows` pixels
 *
 * A panel holds what a call needs of the input as values: for gemm the windows of its pixels, runs
 * padded with zeros to steps; for conv the input rows with their padding, in which the windows of
 * neighbouring pixels overlap. Weights are packed [step][vector][lane][STEP] int8; in pairs of
 * steps [pair][vector][channel][2 STEP], LANES / 2 channels a vector. */
#ifndef EQ_KERNELS_X86_GEMM_H
#define EQ_KERNELS_X86_GEMM_H

#include "kernels/x86/pack.h"

static size_t step_of(const eq_gemm *g)
{
    return pairs_of(g) ? 2 * STEP : STEP;
}

/* Window elements of a row, padding included. */
static size_t row_values(const eq_gemm *g)
{
    return g->runs * round_up(g->length, step_of(g));
}

/* Vectors of the group that begins where `left` channels are left. */
static size_t group_vectors(size_t left)
{
    const size_t vectors = (left + LANES - 1) / LANES;
    return vectors >= MAX_VECTORS ? MAX_VECTORS : vectors >= 2 ? 2 : 1;
}

/* Bytes of the weights of a step. */
static size_t step_size(const eq_gemm *g, size_t vectors)
{
    const size_t pairs = pairs_of(g);
    return (pairs ? pairs : vectors) * LANES * STEP;
}

static size_t group_size(const eq_gemm *g, size_t vectors)
{
    return vectors * LANES * CONSTANTS * sizeof(int32_t)
           + row_values(g) / step_of(g) * step_size(g, vectors);
}

/* The value of an input of 0, and of one equal to x_zero, in the panel. */
static int32_t value_offset(const eq_channel_params *p)
{
    return sizeof(value) == 1 ? 128 : -p->x_zero;
}

/* Filter n: its steps go to out + step * stride. The sum of the weights. */
static int32_t pack_filter(const eq_gemm *g, size_t n, int8_t *out, size_t stride)
{
    const int8_t *w = g->w + n * g->runs * g->length;
    const size_t step = step_of(g);
    int32_t sum = 0;
    for (size_t r = 0; r < g->runs; r++, w += g->length)
        for (size_t k = 0; k < g->length; k += step, out += stride) {
            const size_t count = g->length - k < step ? g->length - k : step;
            memcpy(out, w + k, count);
            for (size_t i = 0; i < count; i++)
                sum += w[k + i];
        }
    return sum;
}

/* bias' = bias + offset * (what every value of the panel is too large by): then acc is bias' plus
 * the products of panel and weights, minus w_zero * (sum of x - x_zero). */
static void pack_group(const eq_gemm *g, size_t first, size_t vectors, const line_fit *lines,
                       uint8_t *packed)
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
                const size_t place = pairs_of(g) ? (n - first) * 2 : j * LANES + lane;
                const int32_t sum =
                    pack_filter(g, n, weights + place * STEP, step_size(g, vectors));
                bias = (p->bias ? (uint32_t)p->bias[n] : 0) - excess * (uint32_t)sum;
                bias += excess * (uint32_t)p->w_zero * (uint32_t)(g->runs * g->length);
            }
            pack_constants(p, g->channels, n, (int32_t)bias, lines ? lines + (n - first) : NULL,
                           LANES, constants + lane);
        }
}

/* Lines of a group's channels, if all have one. */
static bool group_lines(const eq_gemm *g, int32_t path, size_t first, size_t count, line_fit *lines)
{
    const size_t taps = g->runs * g->length;
    int64_t high[MAX_VECTORS * LANES];
    if ((path != PATH_R31 && path != PATH_R31_WIDE) || g->params.act_min < g->params.y_zero)
        return false;
    for (size_t i = 0; i < count && g->params.step != 0; i++) {
        const int8_t *w = g->w + (first + i) * taps;
        int32_t sum = 0, positive = 0;
        for (size_t k = 0; k < taps; k++) {
            const int32_t v = w[k] - g->params.w_zero;
            sum += v;
            positive += v > 0 ? v : 0;
        }
        high[i] = largest_sum(&g->params, first + i, positive, sum - positive);
    }
    return find_lines(&g->params, first, count, high, lines);
}

/* Behind the header, a byte for each vector of channels: the path of the group that begins there.
 */
static size_t groups_at(const eq_gemm *g)
{
    return sizeof(packed_header) + round_up((g->channels + LANES - 1) / LANES, EQ_PACK_ALIGN);
}

static size_t gemm_pack(const eq_gemm *g, void *packed)
{
    size_t bytes = groups_at(g);
    if (packed != NULL) {
        packed_header *header = packed;
        memset(header, 0, bytes);
        header->path = requant_path(&g->params, g->channels);
        header->row_sums = g->params.w_zero != 0;
    }
    for (size_t n = 0, vectors; n < g->channels; n += vectors * LANES) {
        vectors = group_vectors(g->channels - n);
        if (packed != NULL) {
            const packed_header *header = packed;
            const size_t left = g->channels - n;
            line_fit lines[MAX_VECTORS * LANES];
            const bool found = group_lines(g, header->path, n,
                                           left < vectors * LANES ? left : vectors * LANES, lines);
            ((uint8_t *)packed)[sizeof *header + n / LANES] =
                (uint8_t)(found ? PATH_LINE : header->path);
            memset((uint8_t *)packed + bytes, 0, group_size(g, vectors));
            pack_group(g, n, vectors, found ? lines : NULL, (uint8_t *)packed + bytes);
        }
        bytes += group_size(g, vectors);
    }
    return round_up(bytes, EQ_PACK_ALIGN);
}

/* Pixels whose accumulators are requantized together: a few tiles, as that takes some constants.
 * And what a quad of vectors reads behind the last. */
enum { BATCH = 24, TILE_ACCUMULATORS = (BATCH + 4) * MAX_VECTORS * LANES };

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
    const size_t padded = round_up(g->length, step_of(g));

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
    const int8_t *const *runs = x->x;
    for (size_t r = 0; r < pixels * g->runs; r++, panel += padded) {
        copy_values(g->length, *runs++, x_zero, panel);
        for (size_t k = g->length; k < padded; k++)
            panel[k] = 0;
    }
}

/* What the accumulators of each pixel begin with: -w_zero * (sum of x - x_zero), of which the part
 * that does not depend on x is in the bias. Windows as in source. */
static TARGET void start_sums(const eq_gemm *g, size_t pixels, const value *const *runs,
                              size_t count, size_t length, size_t stride, int32_t *start)
{
    sum_values(pixels, stride, runs, count, length, start);
    for (size_t p = 0; p < pixels; p++)
        start[p] = (int32_t)(0u - (uint32_t)g->params.w_zero * (uint32_t)start[p]);
}

/* Tiles of one channel group after the other. `rows` rows of `pixels` windows: those of row r begin
 * at runs + r * run_step. start[r * pixels + p]: NULL without row sums. */
static TARGET void multiply_all(const eq_gemm *g, size_t rows, size_t pixels, size_t first,
                                size_t end, const value *const *runs, size_t run_step, source from,
                                const int32_t *start, int8_t *y, size_t y_stride, size_t y_row,
                                int32_t *acc)
{
    const packed_header *header = g->packed;
    const uint8_t *paths = (const uint8_t *)(header + 1);
    const uint8_t *group = (const uint8_t *)header + groups_at(g)
                           + first / (MAX_VECTORS * LANES) * group_size(g, MAX_VECTORS);

    if (rows == 1 && pixels == 1) {
        const size_t size = group_size(g, MAX_VECTORS), channels = MAX_VECTORS * LANES;
        const size_t whole = (end - first) / channels;
        from.runs = runs;
        from.offset = 0;
        const size_t done = multiply_row(&from, group, size, whole, paths + first / LANES,
                                         &g->params, first, start ? *start : 0, y + first);
        first += done * channels;
        group += done * size;
    }
    for (size_t n = first, vectors; n < end; n += vectors * LANES) {
        vectors = group_vectors(g->channels - n);
        const size_t most = tile_rows(vectors);
        const int32_t *constants = (const int32_t *)(const void *)group;
        const int8_t *w = (const int8_t *)group + vectors * LANES * CONSTANTS * sizeof(int32_t);
        const size_t left = g->channels - n;
        const size_t count = left < vectors * LANES ? left : vectors * LANES;

        const int32_t path = paths[n / LANES];
        const sink to = {make_finisher(path, &g->params), count, y_stride, is_sure(path)};
        const size_t longest = to.requantize ? pixels : BATCH;

        for (size_t r = 0; r < rows; r++) {
            from.runs = runs + r * run_step;
            for (size_t p = 0, batch; p < pixels; p += batch) {
                batch = pixels - p < longest ? pixels - p : longest;
                size_t tiles = (batch + most - 1) / most;
                int8_t *out = y + r * y_row + p * y_stride + n;
                for (size_t done = 0, some; done < batch; done += some, tiles--) {
                    some = (batch - done + tiles - 1) / tiles;
                    from.offset = (p + done) * from.stride;
                    multiply(vectors, some, &from, w, constants,
                             start ? start + r * pixels + p + done : NULL, &to,
                             to.requantize ? (void *)(out + done * y_stride)
                                           : (void *)(acc + done * vectors * LANES));
                }
                if (!to.requantize)
                    finish(vectors, batch, path, &g->params, n, constants, acc, out, y_stride,
                           count);
            }
        }
        group += group_size(g, vectors);
    }
}

static TARGET void gemm(const eq_gemm *g, size_t pixels, size_t first, size_t end,
                        const eq_windows *x, int8_t *y, size_t y_stride, void *scratch)
{
    const packed_header *header = g->packed;
    const size_t row = row_values(g);
    int32_t *acc = scratch;
    value *panel = (value *)(void *)(acc + TILE_ACCUMULATORS);
    int32_t *start = (int32_t *)(void *)((uint8_t *)panel + panel_size(g, pixels));
    const value *run = panel;
    const source from = {
        .count = 1, .steps = row / step_of(g), .stride = row, .pairs = pairs_of(g)};

    fill_panel(g, pixels, x, panel);
    if (header->row_sums)
        start_sums(g, pixels, &run, 1, row, row, start);
    multiply_all(g, 1, pixels, first, end, &run, 0, from, header->row_sums ? start : NULL, y,
                 y_stride, 0, acc);
}

/* ---- conv */

typedef struct conv_layout {
    size_t columns, row, rows; /* pixels and values of a row of the panel, rows */
    size_t taps_at, start_at, size;
} conv_layout;

static conv_layout layout_conv(const eq_conv *c, size_t height, size_t pixels)
{
    conv_layout at;
    at.columns = (pixels - 1) * c->stride_w + (c->kernel_w - 1) * c->dilation_w + 1;
    at.row = round_up(at.columns * c->depth + step_of(&c->gemm), STEP);
    at.rows = (height - 1) * c->stride_h + (c->kernel_h - 1) * c->dilation_h + 1;
    const size_t panel = round_up((at.rows * at.row + SLACK) * sizeof(value), EQ_PACK_ALIGN);
    at.taps_at = TILE_ACCUMULATORS * sizeof(int32_t) + panel;
    at.start_at = at.taps_at + round_up(height * c->gemm.runs * sizeof(value *), EQ_PACK_ALIGN);
    at.size = at.start_at;
    if (c->gemm.params.w_zero != 0)
        at.size += round_up(height * pixels * sizeof(int32_t), EQ_PACK_ALIGN);
    return at;
}

static size_t conv_scratch(const eq_conv *c, size_t height, size_t pixels)
{
    return layout_conv(c, height, pixels).size;
}

static TARGET void fill_padding(size_t n, int32_t x_zero, value *out)
{
    const value v = (value)(sizeof(value) == 1 ? x_zero + 128 : 0);
    for (size_t i = 0; i < n; i++)
        out[i] = v;
}

/* Columns left ... of an input row with their padding. */
static TARGET void fill_row(const eq_conv *c, const conv_layout *at, const int8_t *row,
                            ptrdiff_t left, value *out)
{
    const int32_t x_zero = c->gemm.params.x_zero;
    const ptrdiff_t width = (ptrdiff_t)c->width, last = left + (ptrdiff_t)at->columns;
    const ptrdiff_t from = left < 0 ? 0 : left, to = last < width ? last : width;
    if (row == NULL || from >= to) {
        fill_padding(at->row, x_zero, out);
        return;
    }
    /* of the last pixel no more than a tap: with groups, its other channels are not ours */
    const size_t tap = c->gemm.runs * c->gemm.length / (c->kernel_h * c->kernel_w);
    const size_t before = (size_t)(from - left) * c->depth;
    const size_t inside = (size_t)(to - from - 1) * c->depth + tap;
    copy_values(inside, row + (size_t)from * c->depth, x_zero, out + before);
    fill_padding(before, x_zero, out);
    fill_padding(at->row - before - inside, x_zero, out + before + inside);
}

static TARGET void conv(const eq_conv *c, size_t height, size_t pixels, size_t first, size_t end,
                        const int8_t *const *rows, ptrdiff_t left, int8_t *y, size_t y_stride,
                        size_t y_row, void *scratch)
{
    const eq_gemm *g = &c->gemm;
    const packed_header *header = g->packed;
    const conv_layout at = layout_conv(c, height, pixels);
    int32_t *acc = scratch;
    value *panel = (value *)(void *)(acc + TILE_ACCUMULATORS);
    const value **runs = (const value **)(void *)((uint8_t *)scratch + at.taps_at);
    int32_t *start = (int32_t *)(void *)((uint8_t *)scratch + at.start_at);
    const size_t row_runs = g->runs / c->kernel_h, stride = c->stride_w * c->depth;
    const source from = {.count = g->runs,
                         .steps = (g->length + step_of(g) - 1) / step_of(g),
                         .stride = stride,
                         .pairs = pairs_of(g)};

    for (size_t i = 0; i < at.rows; i++)
        fill_row(c, &at, rows[i], left, panel + i * at.row);
    for (size_t r = 0; r < height; r++) {
        const value **run = runs + r * g->runs;
        for (size_t i = 0; i < c->kernel_h; i++)
            for (size_t j = 0; j < row_runs; j++)
                *run++ = panel + (r * c->stride_h + i * c->dilation_h) * at.row
                         + j * c->dilation_w * c->depth;
        if (header->row_sums)
            start_sums(g, pixels, runs + r * g->runs, g->runs, g->length, stride,
                       start + r * pixels);
    }
    multiply_all(g, height, pixels, first, end, runs, g->runs, from,
                 header->row_sums ? start : NULL, y, y_stride, y_row, acc);
}

#endif
