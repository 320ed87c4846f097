/* SPDX-License-Identifier: Apache-2.0
 *
 * Broadcasting of up to three operands, element by element: for ops where that is fast enough. */
#ifndef EQ_OPS_BROADCAST_H
#define EQ_OPS_BROADCAST_H

#include "ops/ops.h"

/* Strides of operand x, in elements, along the axes of y; 0 where it repeats. */
static inline void eq_broadcast_strides(const eq_file_tensor *x, const eq_file_tensor *y,
                                        size_t *stride)
{
    size_t step = 1;
    for (uint32_t a = y->rank, k = x->rank; a-- > 0;) {
        stride[a] = 0;
        if (k == 0)
            continue;
        k--;
        stride[a] = x->dims[k] == 1 ? 0 : step;
        step *= (size_t)x->dims[k];
    }
}

/* Sizes, aligned at the last axis, are equal or 1; y has the largest of each and the largest rank.
 */
static inline eq_status eq_check_broadcast(const eq_node *node, uint32_t operands)
{
    const eq_file_tensor *y = eq_out(node);
    uint32_t rank = 0;
    for (uint32_t i = 0; i < operands; i++)
        rank = eq_arg(node, i)->rank > rank ? eq_arg(node, i)->rank : rank;
    EQ_TRY(eq_check_rank(node, "output", y, rank));
    for (uint32_t a = 0; a < rank; a++) {
        int32_t size = 1;
        for (uint32_t i = 0; i < operands; i++) {
            const eq_file_tensor *x = eq_arg(node, i);
            const int32_t d = a < x->rank ? x->dims[x->rank - 1 - a] : 1;
            if (d != size && d != 1 && size != 1)
                return eq_node_error(node, "axis %u from the right: %d and %d do not broadcast", a,
                                     size, d);
            size = d == 1 ? size : d;
        }
        EQ_TRY(eq_check_dim(node, "output", y, rank - 1 - a, size));
    }
    return EQ_OK;
}

/* The index of each operand at the next element of y, in elements. */
typedef struct eq_cursor {
    size_t index[EQ_MAX_RANK], stride[3][EQ_MAX_RANK], at[3];
} eq_cursor;

static inline void eq_advance(eq_cursor *c, const eq_file_tensor *y, uint32_t operands)
{
    for (uint32_t a = y->rank; a-- > 0;) {
        const bool wraps = ++c->index[a] == (size_t)y->dims[a];
        for (uint32_t i = 0; i < operands; i++)
            c->at[i] += wraps ? -(size_t)(y->dims[a] - 1) * c->stride[i][a] : c->stride[i][a];
        if (!wraps)
            return;
        c->index[a] = 0;
    }
}

#endif
