/* SPDX-License-Identifier: Apache-2.0
 *
 * depthwise of the x86 folders, around what the including file defines:
 *
 *     TARGET      the target attribute
 *     CHANNELS    channels of a group: VECTORS vectors of LANES int32 accumulators
 *     ROWS        rows of the window that a dot product takes together, 2 or 4
 *     BYTES       of such a product's inputs for a group
 *     fill_columns(d, rows, place, columns, n, count, out)
 *                 the values of `columns` columns of the window, rows of ROWS interleaved, for
 *                 `count` channels from n on: [columns][row groups][BYTES]. The first lies at
 *                 `place` in its row, which may be outside, the others d->dilation further
 *     pixels_of(d, columns, step, packed group, n, count, pixels, y)
 *                 output pixels from columns [pixels - 1) * step + kernel_w]
 *
 * Weights are packed [set][kernel_w][row group][vector][lane][ROWS]. */
#ifndef EQ_KERNELS_X86_DEPTHWISE_H
#define EQ_KERNELS_X86_DEPTHWISE_H

#include "kernels/x86/pack.h"

/* Output pixels whose columns are interleaved at a time. */
enum { BLOCK = 8 };

static size_t row_groups(const eq_depthwise *d)
{
    return (d->kernel_h + ROWS - 1) / ROWS;
}

/* Whether neighbouring windows share columns. */
static bool shares_columns(const eq_depthwise *d)
{
    return d->dilation == 1 && d->kernel_w <= 16 && d->stride <= 4;
}

static size_t weights_size(const eq_depthwise *d)
{
    return d->kernel_w * row_groups(d) * CHANNELS * ROWS * sizeof(weight);
}

static size_t depthwise_group_size(const eq_depthwise *d, size_t sets)
{
    return CHANNELS * CONSTANTS * sizeof(int32_t) + sets * weights_size(d);
}

/* w - w_zero as a sum of int8 parts: part `set` of it. */
static int32_t weight_part(int32_t w, size_t set)
{
    int32_t part = eq_clamp(w, WEIGHT_MIN, WEIGHT_MAX);
    for (; set > 0; set--) {
        w -= part;
        part = eq_clamp(w, WEIGHT_MIN, WEIGHT_MAX);
    }
    return part;
}

/* How many parts the weights need. */
static size_t weight_sets(const eq_depthwise *d)
{
    const size_t count = d->kernel_h * d->kernel_w * d->channels;
    size_t sets = 1;
    for (size_t i = 0; i < count; i++)
        while (weight_part(d->w[i] - d->params.w_zero, sets) != 0)
            sets++;
    return sets;
}

static void pack_channel(const eq_depthwise *d, size_t n, size_t sets, weight *out, int32_t *sum)
{
    const size_t groups = row_groups(d), set_size = weights_size(d) / sizeof(weight);
    for (size_t i = 0; i < d->kernel_h; i++)
        for (size_t j = 0; j < d->kernel_w; j++) {
            const int32_t w = d->w[(i * d->kernel_w + j) * d->channels + n] - d->params.w_zero;
            weight *at = out + (j * groups + i / ROWS) * CHANNELS * ROWS + i % ROWS;
            *sum += w;
            for (size_t set = 0; set < sets; set++)
                at[set * set_size] = (weight)weight_part(w, set);
        }
}

static void pack_depthwise_group(const eq_depthwise *d, size_t first, size_t sets, uint8_t *packed)
{
    const eq_channel_params *p = &d->params;
    int32_t *constants = (int32_t *)(void *)packed;
    weight *weights = (weight *)(void *)(constants + CHANNELS * CONSTANTS);

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
            pack_constants(p, d->channels, n, (int32_t)bias, LANES,
                           constants + j * CONSTANTS * LANES + lane);
        }
}

static size_t depthwise_pack(const eq_depthwise *d, void *packed)
{
    const size_t sets = weight_sets(d), size = depthwise_group_size(d, sets);
    const size_t groups = (d->channels + CHANNELS - 1) / CHANNELS;
    if (packed != NULL) {
        packed_header *header = packed;
        memset(packed, 0, sizeof *header + groups * size);
        header->path = requant_path(&d->params, d->channels);
        header->sets = (int32_t)sets;
        for (size_t g = 0; g < groups; g++)
            pack_depthwise_group(d, g * CHANNELS, sets, (uint8_t *)(header + 1) + g * size);
    }
    return round_up(sizeof(packed_header) + groups * size, EQ_PACK_ALIGN);
}

/* Columns that lie in scratch. */
static size_t column_count(const eq_depthwise *d)
{
    return shares_columns(d) ? (BLOCK - 1) * d->stride + d->kernel_w : d->kernel_w;
}

static size_t depthwise_scratch(const eq_depthwise *d)
{
    return column_count(d) * row_groups(d) * BYTES;
}

static TARGET void depthwise_group(const eq_depthwise *d, size_t pixels, const int8_t *const *rows,
                                   ptrdiff_t left, size_t n, const uint8_t *group, size_t sets,
                                   int32_t path, int8_t *y, uint8_t *columns)
{
    const size_t size = row_groups(d) * BYTES, step = d->stride;
    const size_t count = d->channels - n < CHANNELS ? d->channels - n : CHANNELS;
    const bool shares = shares_columns(d);
    const size_t block = shares ? BLOCK : 1;
    size_t ready = 0;

    for (size_t p = 0, some; p < pixels; p += some) {
        some = pixels - p < block ? pixels - p : block;
        const size_t needed = (some - 1) * step + d->kernel_w;
        const ptrdiff_t at = left + (ptrdiff_t)(p * step);
        fill_columns(d, rows, at + (ptrdiff_t)(ready * d->dilation), needed - ready, n, count,
                     columns + ready * size);
        depthwise_pixels(d, columns, group, sets, path, n, count, some, y + p * d->channels + n);
        ready = shares && needed > some * step ? needed - some * step : 0;
        if (ready > 0)
            memmove(columns, columns + some * step * size, ready * size);
    }
}

static TARGET void depthwise(const eq_depthwise *d, size_t pixels, const int8_t *const *rows,
                             ptrdiff_t left, int8_t *y, void *scratch)
{
    const packed_header *header = d->packed;
    const size_t sets = (size_t)header->sets, size = depthwise_group_size(d, sets);
    const uint8_t *group = (const uint8_t *)(header + 1);
    for (size_t n = 0; n < d->channels; n += CHANNELS, group += size)
        depthwise_group(d, pixels, rows, left, n, group, sets, header->path, y, scratch);
}

#endif
