/* SPDX-License-Identifier: Apache-2.0
 *
 * depthwise of the x86 folders, around what the including file defines:
 *
 *     vector, VECTORS, LANES   a group is VECTORS vectors of int32 accumulators, 2 or 4
 *     ROWS        rows of the window that a dot product takes together
 *     weight, WEIGHT_MIN, WEIGHT_MAX, VALUE_OFFSET (value = x + VALUE_OFFSET)
 *     fill_columns(d, rows, place, columns, n, count, out)
 *                 the values of `columns` columns of the window, ROWS rows interleaved, for `count`
 *                 channels from n on: [columns][row groups][GROUP][ROWS]. The first lies at `place`
 *                 in its row, which may be outside, the others d->dilation further
 *     load_vector, dot, finish_quad, finish_pair, join_halves, rows_in_order, store_rows,
 *     decide, load_constants
 *
 * Weights are packed [set][kernel_w][row group][vector][lane][ROWS]. */
#ifndef EQ_KERNELS_X86_DEPTHWISE_H
#define EQ_KERNELS_X86_DEPTHWISE_H

#include "kernels/x86/pack.h"

enum {
    BLOCK = 16, /* output pixels whose columns are interleaved at a time */
    GROUP = VECTORS * LANES,
    PIXELS = 4, /* computed together */
    VECTOR_BYTES = LANES * 4,
    COLUMN_BYTES = GROUP * 4 /* of a row group's columns: a dword a channel */
};

static size_t row_groups(const eq_depthwise *d)
{
    return (d->kernel_h + ROWS - 1) / ROWS;
}

/* Whether neighbouring windows share columns. */
static bool shares_columns(const eq_depthwise *d)
{
    return d->dilation == 1 && d->kernel_w <= 16 && d->stride <= 4;
}

/* ---- packing */

#ifdef NARROW_GROUPS
static size_t group_width(const eq_depthwise *d, size_t left);
#else
static size_t group_width(const eq_depthwise *d, size_t left)
{
    (void)d, (void)left;
    return GROUP;
}
#endif

static size_t set_size(const eq_depthwise *d)
{
    return d->kernel_w * row_groups(d) * GROUP * ROWS * sizeof(weight);
}

static size_t depthwise_group_size(const eq_depthwise *d, size_t sets)
{
    return round_up(GROUP * CONSTANTS * sizeof(int32_t) + sets * set_size(d), EQ_PACK_ALIGN);
}

/* w - w_zero as a sum of parts that fit: part `set` of it. */
static int32_t weight_part(int32_t w, size_t set)
{
    int32_t part = eq_clamp(w, WEIGHT_MIN, WEIGHT_MAX);
    for (; set > 0; set--) {
        w -= part;
        part = eq_clamp(w, WEIGHT_MIN, WEIGHT_MAX);
    }
    return part;
}

/* How many parts the weights of channels [first, end) need. */
static size_t weight_sets(const eq_depthwise *d, size_t first, size_t end)
{
    const size_t taps = d->kernel_h * d->kernel_w;
    size_t sets = 1;
    for (size_t t = 0; t < taps; t++)
        for (size_t n = first; n < end; n++)
            while (weight_part(d->w[t * d->channels + n] - d->params.w_zero, sets) != 0)
                sets++;
    return sets;
}

/* Header, how many parts each group needs (a byte), the path of each group (a byte), groups. */
static size_t groups_offset(size_t groups)
{
    return sizeof(packed_header) + round_up(2 * groups, EQ_PACK_ALIGN);
}

/* Lines of a group's channels, if all have one. */
static bool group_lines(const eq_depthwise *d, int32_t path, size_t first, size_t end,
                        line_fit *lines)
{
    const size_t taps = d->kernel_h * d->kernel_w;
    int64_t high[GROUP];
    if ((path != PATH_R31 && path != PATH_R31_WIDE) || d->params.act_min < d->params.y_zero)
        return false;
    for (size_t n = first; n < end; n++) {
        int64_t sum = 0, positive = 0;
        for (size_t t = 0; t < taps; t++) {
            const int32_t v = d->w[t * d->channels + n] - d->params.w_zero;
            sum += v;
            positive += v > 0 ? v : 0;
        }
        high[n - first] = largest_sum(&d->params, n, positive, sum - positive);
    }
    return find_lines(&d->params, first, end - first, high, lines);
}

static void pack_channel(const eq_depthwise *d, size_t n, size_t sets, weight *out, int32_t *sum)
{
    const size_t groups = row_groups(d), set = set_size(d) / sizeof(weight);
    for (size_t i = 0; i < d->kernel_h; i++)
        for (size_t j = 0; j < d->kernel_w; j++) {
            const int32_t w = d->w[(i * d->kernel_w + j) * d->channels + n] - d->params.w_zero;
            weight *at = out + (j * groups + i / ROWS) * GROUP * ROWS + i % ROWS;
            *sum += w;
            for (size_t s = 0; s < sets; s++)
                at[s * set] = (weight)weight_part(w, s);
        }
}

static void pack_depthwise_group(const eq_depthwise *d, size_t first, size_t sets,
                                 const line_fit *lines, uint8_t *packed)
{
    const eq_channel_params *p = &d->params;
    int32_t *constants = (int32_t *)(void *)packed;
    weight *weights = (weight *)(void *)(constants + GROUP * CONSTANTS);
    const size_t width = group_width(d, d->channels - first);

    for (size_t j = 0; j < VECTORS; j++)
        for (size_t lane = 0; lane < LANES; lane++) {
            const size_t n = first + channel_of(VECTORS, j, lane) % width;
            uint32_t bias = 0;
            if (n < d->channels) {
                int32_t sum = 0;
                pack_channel(d, n, sets, weights + (j * LANES + lane) * ROWS, &sum);
                bias = (p->bias ? (uint32_t)p->bias[n] : 0)
                       - (uint32_t)(VALUE_OFFSET + p->x_zero) * (uint32_t)sum;
            }
            pack_constants(p, d->channels, n, (int32_t)bias, lines ? lines + (n - first) : NULL,
                           LANES, constants + j * CONSTANTS * LANES + lane);
        }
}

static size_t depthwise_pack(const eq_depthwise *d, void *packed)
{
    const size_t sets = weight_sets(d, 0, d->channels), size = depthwise_group_size(d, sets);
    const size_t groups = (d->channels + GROUP - 1) / GROUP, offset = groups_offset(groups);
    if (packed != NULL) {
        packed_header *header = packed;
        uint8_t *used = (uint8_t *)(header + 1);
        memset(packed, 0, offset + groups * size);
        header->path = requant_path(&d->params, d->channels);
        header->sets = (int32_t)sets;
        for (size_t g = 0; g < groups; g++) {
            const size_t first = g * GROUP, left = d->channels - first;
            const size_t end = first + (left < GROUP ? left : GROUP);
            line_fit lines[GROUP];
            const bool found = group_lines(d, header->path, first, end, lines);
            used[g] = (uint8_t)weight_sets(d, first, end);
            used[groups + g] = (uint8_t)(found ? PATH_LINE : header->path);
            pack_depthwise_group(d, first, sets, found ? lines : NULL,
                                 (uint8_t *)packed + offset + g * size);
        }
    }
    return offset + groups * size;
}

/* Makes a compiler load again what it loaded through the pointer before. It would carry weights,
 * constants and columns from pixel to pixel in more registers than there are: in spills. */
#define FORGET(pointer) __asm__("" : "+r"(pointer))

#ifdef NARROW_GROUPS
#include "kernels/x86/narrow.h"
#endif

/* ---- running */

static size_t depthwise_scratch(const eq_depthwise *d)
{
    const size_t columns = shares_columns(d) ? (BLOCK - 1) * d->stride + d->kernel_w : d->kernel_w;
    const size_t bytes = columns * row_groups(d) * COLUMN_BYTES;
#ifdef NARROW_GROUPS
    const size_t narrow = narrow_scratch(d);
    return narrow > bytes ? narrow : bytes;
#else
    return bytes;
#endif
}

/* What the pixels of a group are computed from. */
typedef struct group_job {
    const eq_channel_params *p;
    const uint8_t *columns; /* of the group */
    size_t stride;          /* bytes of columns between pixels */
    size_t products, sets;  /* row groups of columns a window, parts of the weights */
    const int32_t *constants;
    size_t channel, count, y_stride;
    int32_t path;
} group_job;

/* Sums of PIXELS pixels of a vector of channels; they share its weights and, with a stride that is
 * a constant for the compiler, the columns that their windows have in common. */
INLINE void sum_vector(const size_t count, const size_t products, const size_t sets,
                       const size_t stride, const uint8_t *columns, const uint8_t *w, vector bias,
                       vector acc[PIXELS])
{
#pragma GCC unroll 4
    for (size_t i = 0; i < count; i++)
        acc[i] = bias;
    for (size_t s = 0; s < sets; s++)
#pragma GCC unroll 6
        for (size_t k = 0; k < products; k++, w += VECTORS * VECTOR_BYTES) {
            const vector weights = load_vector(w);
#pragma GCC unroll 4
            for (size_t i = 0; i < count; i++)
                acc[i] = dot(acc[i], load_vector(columns + i * stride + k * COLUMN_BYTES), weights);
        }
}

/* `count` pixels' outputs, of which `some` are there. What lies behind them is computed from
 * whatever is there, and not stored. */
INLINE void run_sure(const size_t count, const size_t products, const size_t sets,
                     const size_t stride, const bool line, const group_job *job, const finisher *f,
                     const uint8_t *columns, size_t some, int8_t *y)
{
    const uint8_t *w = (const uint8_t *)(job->constants + GROUP * CONSTANTS);
    vector halves[PIXELS][2];
#pragma GCC unroll 2
    for (size_t j = 0; j < VECTORS; j += 2) {
        const int32_t *at = job->constants + j * CONSTANTS * LANES;
        FORGET(columns);
        FORGET(w);
        FORGET(at);
        vector a[PIXELS], b[PIXELS];
        sum_vector(count, products, sets, stride, columns + j * VECTOR_BYTES, w + j * VECTOR_BYTES,
                   load_vector(at + BIAS * LANES), a);
        sum_vector(count, products, sets, stride, columns + (j + 1) * VECTOR_BYTES,
                   w + (j + 1) * VECTOR_BYTES, load_vector(at + (CONSTANTS + BIAS) * LANES), b);
        const vector factor[2] = {load_vector(at + FACTOR * LANES),
                                  load_vector(at + (CONSTANTS + FACTOR) * LANES)};
        const vector half[2] = {load_vector(at + HALF * LANES),
                                load_vector(at + (CONSTANTS + HALF) * LANES)};
#pragma GCC unroll 4
        for (size_t i = 0; i < count; i++)
            halves[i][j / 2] = finish_pair(f, line, a[i], b[i], factor, half);
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < count; i += 4 / VECTORS) {
        const size_t next = i + 1 < count ? i + 1 : i;
        const vector out =
            join_halves(f, halves[i][0], VECTORS == 4 ? halves[i][1] : halves[next][0]);
        if (i < some)
            store_rows(VECTORS, some - i < 4 / VECTORS ? some - i : 4 / VECTORS, job->count,
                       rows_in_order(VECTORS, out), y + i * job->y_stride, job->y_stride);
    }
}

/* The same by paths that may be undecided: sums go through memory. */
INLINE void run_unsure(const size_t products, const size_t sets, const size_t stride,
                       const group_job *job, const finisher *f, const uint8_t *columns, size_t some,
                       int8_t *y)
{
    const uint8_t *w = (const uint8_t *)(job->constants + GROUP * CONSTANTS);
    const quad_constants c = load_constants(VECTORS, job->constants);
    int32_t sums[PIXELS * GROUP];
#pragma GCC unroll 4
    for (size_t j = 0; j < VECTORS; j++) {
        const int32_t *at = job->constants + j * CONSTANTS * LANES;
        vector acc[PIXELS];
        FORGET(columns);
        FORGET(w);
        sum_vector(PIXELS, products, sets, stride, columns + j * VECTOR_BYTES, w + j * VECTOR_BYTES,
                   load_vector(at + BIAS * LANES), acc);
#pragma GCC unroll 4
        for (size_t i = 0; i < PIXELS; i++)
            memcpy(sums + i * GROUP + j * LANES, &acc[i], VECTOR_BYTES);
    }
    for (size_t i = 0; i < some; i += 4 / VECTORS) {
        const size_t rows = some - i < 4 / VECTORS ? some - i : 4 / VECTORS;
        undecided_mask undecided;
        vector acc[4];
        memcpy(acc, sums + i * GROUP, sizeof acc);
        const vector out = rows_in_order(VECTORS, finish_quad(f, acc, &c, &undecided));
        store_rows(VECTORS, rows, job->count, out, y + i * job->y_stride, job->y_stride);
        if (undecided != 0)
            decide(undecided, VECTORS, rows, job->p, job->channel, job->count, sums + i * GROUP,
                   y + i * job->y_stride, job->y_stride);
    }
}

INLINE void run_group(const size_t products, const size_t sets, const size_t stride,
                      const group_job *job, size_t pixels, int8_t *y)
{
    const finisher f = make_finisher(job->path, job->p);
    const uint8_t *columns = job->columns;

    for (size_t p = 0; p < pixels;
         p += PIXELS, columns += PIXELS * stride, y += PIXELS * job->y_stride) {
        const size_t some = pixels - p < PIXELS ? pixels - p : PIXELS;
        if (!is_sure(f.path))
            run_unsure(products, sets, stride, job, &f, columns, some, y);
        else if (f.path == PATH_R15)
            run_sure(PIXELS, products, sets, stride, false, job, &f, columns, some, y);
        else
            run_sure(PIXELS, products, sets, stride, true, job, &f, columns, some, y);
    }
}

/* Row groups of a column of a 3 x 3 window, and its products. */
enum { COLUMN_3 = (3 + ROWS - 1) / ROWS, PRODUCTS_3 = 3 * COLUMN_3 };

static TARGET void run_pixels(const group_job *job, size_t pixels, int8_t *y)
{
    const bool usual = job->products == PRODUCTS_3;
    /* with 32 registers compilers do worse by a constant 1 */
    const bool one = job->sets == 1 && LANES == 8;
    if (usual && one && job->stride == COLUMN_3 * COLUMN_BYTES) {
        run_group(PRODUCTS_3, 1, COLUMN_3 * COLUMN_BYTES, job, pixels, y);
        return;
    }
    if (usual && job->stride == COLUMN_3 * COLUMN_BYTES)
        run_group(PRODUCTS_3, job->sets, COLUMN_3 * COLUMN_BYTES, job, pixels, y);
    else if (usual && job->stride == 2 * COLUMN_3 * COLUMN_BYTES)
        run_group(PRODUCTS_3, job->sets, 2 * COLUMN_3 * COLUMN_BYTES, job, pixels, y);
    else
        run_group(job->products, job->sets, job->stride, job, pixels, y);
}

/* `pixels` outputs of channels n ... n + count from their columns. */
static TARGET void run_columns(const eq_depthwise *d, size_t pixels, size_t n, size_t count,
                               const uint8_t *columns, int8_t *y)
{
    const packed_header *header = d->packed;
    const size_t sets = (size_t)header->sets, size = depthwise_group_size(d, sets);
    const size_t groups = (d->channels + GROUP - 1) / GROUP;
    const uint8_t *used = (const uint8_t *)(header + 1) + n / GROUP;
    const uint8_t *group = (const uint8_t *)header + groups_offset(groups) + n / GROUP * size;
    const group_job job = {
        .p = &d->params,
        .columns = columns,
        .stride = (shares_columns(d) ? d->stride : 0) * row_groups(d) * COLUMN_BYTES,
        .products = d->kernel_w * row_groups(d),
        .sets = used[0], /* a constant 1 keeps compilers from hoisting what they then spill */
        .constants = (const int32_t *)(const void *)group,
        .channel = n,
        .count = count,
        .y_stride = d->channels,
        .path = used[groups],
    };
    run_pixels(&job, pixels, y);
}

static TARGET void depthwise(const eq_depthwise *d, size_t pixels, const int8_t *const *rows,
                             ptrdiff_t left, int8_t *y, void *scratch)
{
    const size_t size = row_groups(d) * COLUMN_BYTES, step = d->stride;
    const bool shares = shares_columns(d);
    const size_t block = shares ? BLOCK : 1;
    uint8_t *columns = scratch;

    for (size_t n = 0; n < d->channels; n += GROUP) {
        const size_t count = d->channels - n < GROUP ? d->channels - n : GROUP;
        size_t ready = 0;
#ifdef NARROW_GROUPS
        if (group_width(d, count) < GROUP) {
            depthwise_narrow(d, pixels, rows, left, n, y, scratch);
            return;
        }
#endif
        for (size_t p = 0, some; p < pixels; p += some) {
            some = pixels - p < block ? pixels - p : block;
            const size_t needed = (some - 1) * step + d->kernel_w;
            const ptrdiff_t at = left + (ptrdiff_t)(p * step);
            fill_columns(d, rows, at + (ptrdiff_t)(ready * d->dilation), needed - ready, n, count,
                         columns + ready * size);
            run_columns(d, some, n, count, columns, y + p * d->channels + n);
            ready = shares && needed > some * step ? needed - some * step : 0;
            if (ready > 0)
                memmove(columns, columns + some * step * size, ready * size);
        }
    }
}

#endif
