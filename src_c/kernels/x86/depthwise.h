/* SPDX-License-Identifier: Apache-2.0
 *
 * depthwise of the x86 folders, around what the including file defines:
 *
 *     vector, VECTORS, LANES   a group is VECTORS vectors of int32 accumulators, a quad of
 *                 accumulators 4 / VECTORS pixels of a group
 *     CHUNK       channels whose columns are interleaved together, a multiple of the group's
 *     ROWS        rows of the window that a dot product takes together
 *     weight, WEIGHT_MIN, WEIGHT_MAX, VALUE_OFFSET (value = x + VALUE_OFFSET)
 *     fill_columns(d, rows, place, columns, n, count, out)
 *                 the values of `columns` columns of the window, ROWS rows interleaved, for `count`
 *                 channels from n on: [columns][row groups][CHUNK][ROWS]. The first lies at `place`
 *                 in its row, which may be outside, the others d->dilation further
 *     load_vector, dot, finish_quad, rows_in_order, store_rows, decide, load_constants
 *
 * Weights are packed [set][kernel_w][row group][vector][lane][ROWS]. */
#ifndef EQ_KERNELS_X86_DEPTHWISE_H
#define EQ_KERNELS_X86_DEPTHWISE_H

#include "kernels/x86/pack.h"

enum {
    BLOCK = 16, /* output pixels whose columns are interleaved at a time */
    GROUP = VECTORS * LANES,
    PIXELS = 4 / VECTORS, /* of a quad */
    VECTOR_BYTES = LANES * 4,
    GROUP_MASK = (1 << GROUP) - 1,
    CHUNK_BYTES = CHUNK * 4 /* of a row group's columns: a dword a channel */
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
static bool group_lines(const eq_depthwise *d, int32_t path, size_t first, size_t end, line *lines)
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
                                 const line *lines, uint8_t *packed)
{
    const eq_channel_params *p = &d->params;
    int32_t *constants = (int32_t *)(void *)packed;
    weight *weights = (weight *)(void *)(constants + GROUP * CONSTANTS);

    for (size_t j = 0; j < VECTORS; j++)
        for (size_t lane = 0; lane < LANES; lane++) {
            const size_t n = first + channel_of(VECTORS, j, lane);
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
            line lines[GROUP];
            const bool found = group_lines(d, header->path, first, end, lines);
            used[g] = (uint8_t)weight_sets(d, first, end);
            used[groups + g] = (uint8_t)(found ? PATH_LINE : header->path);
            pack_depthwise_group(d, first, sets, found ? lines : NULL,
                                 (uint8_t *)packed + offset + g * size);
        }
    }
    return offset + groups * size;
}

/* ---- running */

static size_t depthwise_scratch(const eq_depthwise *d)
{
    const size_t columns = shares_columns(d) ? (BLOCK - 1) * d->stride + d->kernel_w : d->kernel_w;
    return columns * row_groups(d) * CHUNK_BYTES;
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

/* A quad has PIXELS parts: pixels of one group, or groups of one pixel. Part i reads columns at[i]
 * and weights w[i]. */
INLINE void add_products(vector acc[4], size_t products, const uint8_t *const at[PIXELS],
                         const uint8_t *const w[PIXELS])
{
#pragma GCC unroll 6
    for (size_t k = 0; k < products; k++)
#pragma GCC unroll 4
        for (size_t j = 0; j < VECTORS; j++)
#pragma GCC unroll 4
            for (size_t i = 0; i < PIXELS; i++)
                acc[i * VECTORS + j] = dot(acc[i * VECTORS + j],
                                           load_vector(at[i] + k * CHUNK_BYTES + j * VECTOR_BYTES),
                                           load_vector(w[i] + (k * VECTORS + j) * VECTOR_BYTES));
}

/* Parts i < some of a quad of sums to rows of y that lie y_step apart. */
INLINE void finish_parts(const finisher *f, const quad_constants *c, const vector acc[4],
                         size_t some, const group_job *job, int8_t *y, size_t y_step,
                         size_t channel_step)
{
    undecided_mask undecided;
    const vector out = rows_in_order(VECTORS, finish_quad(f, acc, c, &undecided));
    store_rows(VECTORS, some, job->count, out, y, y_step);
    if (undecided == 0)
        return;
    int32_t sums[4 * LANES];
    for (size_t i = 0; i < 4; i++)
        memcpy(sums + i * LANES, &acc[i], VECTOR_BYTES);
    for (size_t i = 0; i < some; i++)
        decide(undecided >> (i * GROUP) & GROUP_MASK, VECTORS, 1, job->p,
               job->channel + i * channel_step, job->count, sums + i * GROUP, y + i * y_step, 0);
}

/* PIXELS pixels of a group share its weights and, with a stride that is a constant for the
 * compiler, the columns that their windows have in common. What lies behind the last pixel is
 * computed from whatever is there, and not stored. */
INLINE void run_group(const size_t products, const size_t sets, const size_t stride,
                      const group_job *job, size_t pixels, int8_t *y)
{
    const quad_constants c = load_constants(VECTORS, job->constants);
    const finisher f = make_finisher(job->path, job->p);
    const uint8_t *columns = job->columns;

    for (size_t p = 0; p < pixels; p += PIXELS, y += PIXELS * job->y_stride) {
        const uint8_t *w = (const uint8_t *)(job->constants + GROUP * CONSTANTS);
        vector acc[4];
#pragma GCC unroll 4
        for (size_t i = 0; i < 4; i++)
            acc[i] = load_vector(job->constants + (i % VECTORS * CONSTANTS + BIAS) * LANES);
        for (size_t s = 0; s < sets; s++)
#pragma GCC unroll 6
            for (size_t k = 0; k < products; k++)
#pragma GCC unroll 4
                for (size_t j = 0; j < VECTORS; j++, w += VECTOR_BYTES) {
                    const uint8_t *at = columns + k * CHUNK_BYTES + j * VECTOR_BYTES;
                    const vector weights = load_vector(w);
#pragma GCC unroll 4
                    for (size_t i = 0; i < PIXELS; i++)
                        acc[i * VECTORS + j] =
                            dot(acc[i * VECTORS + j], load_vector(at + i * stride), weights);
                }
        columns += PIXELS * stride;
        finish_parts(&f, &c, acc, pixels - p < PIXELS ? pixels - p : PIXELS, job, y, job->y_stride,
                     0);
    }
}

/* A whole chunk for the pixels that do not fill a quad: PIXELS groups, `size` bytes apart, at once.
 * A chunk is PIXELS groups. */
INLINE void run_groups(const size_t products, const size_t sets, const group_job *job, size_t size,
                       size_t pixels, int8_t *y)
{
    const finisher f = make_finisher(job->path, job->p);
    quad_constants c;
    const uint8_t *columns = job->columns, *group = (const uint8_t *)job->constants;
#pragma GCC unroll 4
    for (size_t i = 0; i < PIXELS; i++) {
        const quad_constants one =
            load_constants(VECTORS, (const int32_t *)(const void *)(group + i * size));
#pragma GCC unroll 4
        for (size_t j = 0; j < VECTORS; j++) {
            c.factor[i * VECTORS + j] = one.factor[j];
            c.half[i * VECTORS + j] = one.half[j];
        }
    }
    for (size_t p = 0; p < pixels; p++, y += job->y_stride, columns += job->stride) {
        const uint8_t *at[PIXELS], *w[PIXELS];
        vector acc[4];
#pragma GCC unroll 4
        for (size_t i = 0; i < PIXELS; i++) {
            const int32_t *constants = (const int32_t *)(const void *)(group + i * size);
            at[i] = columns + i * GROUP * 4;
#pragma GCC unroll 4
            for (size_t j = 0; j < VECTORS; j++)
                acc[i * VECTORS + j] = load_vector(constants + (j * CONSTANTS + BIAS) * LANES);
        }
        for (size_t s = 0; s < sets; s++) {
#pragma GCC unroll 4
            for (size_t i = 0; i < PIXELS; i++)
                w[i] = group + i * size + GROUP * CONSTANTS * sizeof(int32_t)
                       + s * products * GROUP * ROWS * sizeof(weight);
            add_products(acc, products, at, w);
        }
        finish_parts(&f, &c, acc, PIXELS, job, y, GROUP, GROUP);
    }
}

/* Row groups of a column of a 3 x 3 window, and its products. */
enum { COLUMN_3 = (3 + ROWS - 1) / ROWS, PRODUCTS_3 = 3 * COLUMN_3 };

static TARGET void run_pixels(const group_job *job, size_t pixels, int8_t *y)
{
    const bool usual = job->products == PRODUCTS_3 && job->sets == 1;
    if (usual && job->stride == COLUMN_3 * CHUNK_BYTES)
        run_group(PRODUCTS_3, 1, COLUMN_3 * CHUNK_BYTES, job, pixels, y);
    else if (usual && job->stride == 2 * COLUMN_3 * CHUNK_BYTES)
        run_group(PRODUCTS_3, 1, 2 * COLUMN_3 * CHUNK_BYTES, job, pixels, y);
    else
        run_group(job->products, job->sets, job->stride, job, pixels, y);
}

static TARGET void run_rest(const group_job *job, size_t size, size_t pixels, int8_t *y)
{
    if (job->products == PRODUCTS_3 && job->sets == 1)
        run_groups(PRODUCTS_3, 1, job, size, pixels, y);
    else
        run_groups(job->products, job->sets, job, size, pixels, y);
}

/* `pixels` outputs of channels n ... n + count from their columns. */
static TARGET void run_chunk(const eq_depthwise *d, size_t pixels, size_t n, size_t count,
                             const uint8_t *columns, int8_t *y)
{
    const packed_header *header = d->packed;
    const size_t sets = (size_t)header->sets, size = depthwise_group_size(d, sets);
    const size_t groups = (d->channels + GROUP - 1) / GROUP;
    const uint8_t *used = (const uint8_t *)(header + 1) + n / GROUP, *paths = used + groups;
    const uint8_t *group = (const uint8_t *)header + groups_offset(groups) + n / GROUP * size;
    group_job job = {
        .p = &d->params,
        .stride = (shares_columns(d) ? d->stride : 0) * row_groups(d) * CHUNK_BYTES,
        .products = d->kernel_w * row_groups(d),
        .sets = sets,
        .y_stride = d->channels,
        .path = paths[0],
    };
    size_t rest = count == CHUNK && CHUNK == PIXELS * GROUP ? pixels % PIXELS : 0;
    for (size_t i = 1; rest > 0 && i < PIXELS; i++)
        if (paths[i] != paths[0])
            rest = 0; /* groups that are not requantized alike */
    if (rest > 0) {
        const size_t done = pixels - rest;
        job.columns = columns + done * job.stride;
        job.constants = (const int32_t *)(const void *)group;
        job.channel = n;
        job.count = GROUP;
        run_rest(&job, size, rest, y + done * d->channels);
    }
    for (size_t c = 0; c < count; c += GROUP, group += size, columns += GROUP * 4) {
        job.path = *paths++;
        job.sets = *used++; /* a constant 1 keeps compilers from hoisting what they then spill */
        job.columns = columns;
        job.constants = (const int32_t *)(const void *)group;
        job.channel = n + c;
        job.count = count - c < GROUP ? count - c : GROUP;
        run_pixels(&job, pixels - rest, y + c);
    }
}

static TARGET void depthwise(const eq_depthwise *d, size_t pixels, const int8_t *const *rows,
                             ptrdiff_t left, int8_t *y, void *scratch)
{
    const size_t size = row_groups(d) * CHUNK_BYTES, step = d->stride;
    const bool shares = shares_columns(d);
    const size_t block = shares ? BLOCK : 1;
    uint8_t *columns = scratch;

    for (size_t n = 0; n < d->channels; n += CHUNK) {
        const size_t count = d->channels - n < CHUNK ? d->channels - n : CHUNK;
        size_t ready = 0;
        for (size_t p = 0, some; p < pixels; p += some) {
            some = pixels - p < block ? pixels - p : block;
            const size_t needed = (some - 1) * step + d->kernel_w;
            const ptrdiff_t at = left + (ptrdiff_t)(p * step);
            fill_columns(d, rows, at + (ptrdiff_t)(ready * d->dilation), needed - ready, n, count,
                         columns + ready * size);
            run_chunk(d, some, n, count, columns, y + p * d->channels + n);
            ready = shares && needed > some * step ? needed - some * step : 0;
            if (ready > 0)
                memmove(columns, columns + some * step * size, ready * size);
        }
    }
}

#endif
