/* SPDX-License-Identifier: Apache-2.0
 *
 * PAD, MIRROR_PAD: elements of 1, 2, 4 or 8 bytes. The output is written once, front to back. */
#include <string.h>

#include "ops/walk.h"

/* before[a] elements in front of axis a; what is left of y's axis comes behind. */
static int32_t after(const eq_node *node, const int32_t *before, uint32_t a)
{
    return eq_out(node)->dims[a] - eq_arg(node, 0)->dims[a] - before[a];
}

static eq_status check_pads(const eq_node *node, const int32_t before[EQ_MAX_RANK])
{
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    if (eq_dtype_size(x->dtype) == 0)
        return eq_node_error(node, "elements of dtype %u cannot be moved", (uint32_t)x->dtype);
    EQ_TRY(eq_check_dtype(node, "output", y, x->dtype));
    EQ_TRY(eq_check_rank(node, "output", y, x->rank));
    for (uint32_t a = 0; a < EQ_MAX_RANK; a++) {
        const int64_t room = a < x->rank ? (int64_t)y->dims[a] - x->dims[a] : 0;
        if (before[a] < 0 || before[a] > room)
            return eq_node_error(node, "axis %u: padding before is %d, the output is larger by %l",
                                 a, before[a], room);
    }
    return EQ_OK;
}

/* Axes behind the last padded one are taken whole. */
static uint32_t last_padded_axis(const eq_node *node)
{
    uint32_t a = eq_out(node)->rank;
    while (a > 0 && eq_out(node)->dims[a - 1] == eq_arg(node, 0)->dims[a - 1])
        a--;
    return a > 0 ? a - 1 : 0;
}

/* ---- PAD */

static eq_status validate_pad(const eq_node *node)
{
    const eq_pad_params *p = node->params;
    EQ_TRY(check_pads(node, p->before));
    switch (eq_arg(node, 0)->dtype) {
    case EQ_DT_INT8: return eq_check_range(node, "value", p->value, -128, 127);
    case EQ_DT_UINT8: return eq_check_range(node, "value", p->value, 0, 255);
    case EQ_DT_BOOL: return eq_check_range(node, "value", p->value, 0, 1);
    case EQ_DT_INT16: return eq_check_range(node, "value", p->value, -32768, 32767);
    case EQ_DT_INT32:
    case EQ_DT_INT64: return EQ_OK;
    default: return eq_check_range(node, "value", p->value, 0, 0);
    }
}

/* From y up to end: elements of `size` bytes, little-endian. */
static void fill(uint8_t *y, const uint8_t *end, int64_t value, size_t size)
{
    if (size == 1)
        memset(y, (int)value, (size_t)(end - y));
    else
        for (; y < end; y += size)
            memcpy(y, &value, size);
}

static void run_pad(const eq_node *node)
{
    const eq_pad_params *p = node->params;
    const eq_file_tensor *xt = eq_arg(node, 0), *yt = eq_out(node);
    const size_t bytes = eq_dtype_size(yt->dtype);
    const uint32_t rank = yt->rank, inner = last_padded_axis(node);
    const size_t row = eq_count(xt, inner, rank) * bytes;
    const uint8_t *x = eq_arg_data(node, 0);
    uint8_t *y = eq_out_data(node), *const end = y + eq_elements(yt) * bytes;
    uint8_t *first = y; /* where x's first element goes */
    eq_walk walk = {.rank = 0};
    for (uint32_t a = 0; a < rank; a++) {
        const size_t stride = eq_count(yt, a + 1, rank) * bytes;
        first += (size_t)p->before[a] * stride;
        if (a < inner)
            eq_walk_add(&walk, (size_t)xt->dims[a], (ptrdiff_t)stride, 0);
    }
    do {
        uint8_t *const to = first + walk.at[0];
        fill(y, to, p->value, bytes);
        memcpy(to, x, row);
        x += row;
        y = to + row;
    } while (eq_walk_next(&walk));
    fill(y, end, p->value, bytes);
}

const eq_op_def eq_op_pad = {
    .min_inputs = 1,
    .max_inputs = 1,
    .validate = validate_pad,
    .run = run_pad,
    .why = "copies rows",
};

/* ---- MIRROR_PAD */

static eq_status validate_mirror_pad(const eq_node *node)
{
    const eq_mirror_pad_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0);
    EQ_TRY(check_pads(node, p->before));
    EQ_TRY(eq_check_range(node, "reflect", p->reflect, 0, 1));
    for (uint32_t a = 0; a < x->rank; a++) {
        const int32_t limit = x->dims[a] - p->reflect;
        if (p->before[a] > limit || after(node, p->before, a) > limit)
            return eq_node_error(node, "axis %u: %d and %d elements are mirrored, there are %d", a,
                                 p->before[a], after(node, p->before, a), limit);
    }
    return EQ_OK;
}

/* The element of x that position i of y shows on axis a. */
static size_t mirrored(const eq_node *node, uint32_t a, size_t i)
{
    const eq_mirror_pad_params *p = node->params;
    const ptrdiff_t size = eq_arg(node, 0)->dims[a], at = (ptrdiff_t)i - p->before[a];
    if (at < 0)
        return (size_t)(-at - 1 + p->reflect);
    return (size_t)(at < size ? at : 2 * (size - 1) - at + 1 - p->reflect);
}

static void run_mirror_pad(const eq_node *node)
{
    const eq_mirror_pad_params *p = node->params;
    const eq_file_tensor *xt = eq_arg(node, 0), *yt = eq_out(node);
    const size_t bytes = eq_dtype_size(yt->dtype);
    const uint32_t rank = yt->rank, inner = last_padded_axis(node);
    const uint8_t *x = eq_arg_data(node, 0);
    uint8_t *y = eq_out_data(node);
    eq_walk walk = {.rank = 0}; /* over the positions of y */
    if (rank == 0) {
        memcpy(y, x, bytes);
        return;
    }
    const size_t block = eq_count(xt, inner + 1, rank) * bytes, size = (size_t)xt->dims[inner];
    const size_t front = (size_t)p->before[inner], total = (size_t)yt->dims[inner];
    for (uint32_t a = 0; a < inner; a++)
        eq_walk_add(&walk, (size_t)yt->dims[a], 0, 0);
    do {
        const uint8_t *row = x;
        for (uint32_t a = 0; a < inner; a++)
            row += mirrored(node, a, walk.index[a]) * eq_count(xt, a + 1, rank) * bytes;
        for (size_t i = 0; i < front; i++)
            memcpy(y + i * block, row + mirrored(node, inner, i) * block, block);
        memcpy(y + front * block, row, size * block);
        for (size_t i = front + size; i < total; i++)
            memcpy(y + i * block, row + mirrored(node, inner, i) * block, block);
        y += total * block;
    } while (eq_walk_next(&walk));
}

const eq_op_def eq_op_mirror_pad = {
    .min_inputs = 1,
    .max_inputs = 1,
    .validate = validate_mirror_pad,
    .run = run_mirror_pad,
    .why = "copies rows and blocks",
};
