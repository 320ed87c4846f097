/* SPDX-License-Identifier: Apache-2.0
 *
 * Walks over the outer axes of an operation while its inner loop does the rest. */
#ifndef EQ_OPS_WALK_H
#define EQ_OPS_WALK_H

#include "ops/ops.h"

/* at[k] is the offset of operand k at the current position. All zero: a walk of one step. */
typedef struct eq_walk {
    uint32_t rank;
    size_t size[EQ_MAX_RANK], index[EQ_MAX_RANK]; /* outermost axis first */
    ptrdiff_t step[EQ_MAX_RANK][2];               /* between neighbours on an axis */
    ptrdiff_t at[2];
} eq_walk;

/* Adds an axis inside of those that are there. */
static inline void eq_walk_add(eq_walk *walk, size_t size, ptrdiff_t step0, ptrdiff_t step1)
{
    const uint32_t a = walk->rank++;
    walk->size[a] = size;
    walk->step[a][0] = step0;
    walk->step[a][1] = step1;
}

/* To the next position; after the last one, back to the first and false. */
static inline bool eq_walk_next(eq_walk *walk)
{
    for (uint32_t a = walk->rank; a-- > 0;) {
        const ptrdiff_t *step = walk->step[a];
        if (++walk->index[a] < walk->size[a]) {
            walk->at[0] += step[0];
            walk->at[1] += step[1];
            return true;
        }
        const ptrdiff_t back = (ptrdiff_t)(walk->size[a] - 1);
        walk->index[a] = 0;
        walk->at[0] -= back * step[0];
        walk->at[1] -= back * step[1];
    }
    return false;
}

#endif
