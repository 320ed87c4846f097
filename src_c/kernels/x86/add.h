/* SPDX-License-Identifier: Apache-2.0
 *
 * ADD by one scale (docs/NUMERICS.md): the numbers that every width of vectors works with. */
#ifndef EQ_KERNELS_X86_ADD_H
#define EQ_KERNELS_X86_ADD_H

#include "kernels/kernels.h"

/* The factors of the two operands as one number each, in units of 2^-fraction. */
typedef struct add_factors {
    int32_t first, second, constant, bound, fraction;
} add_factors;

/* m * 2^-shift rounded, m < 2^62. */
static inline int32_t scaled(uint64_t m, int32_t shift)
{
    return shift > 63 ? 0 : (int32_t)((m + ((uint64_t)1 << (shift - 1))) >> shift);
}

/* x * m * 2^-shift rounded down; m < 2^62 is used up to 52 bits. */
static inline int32_t offset_of(int32_t x, uint64_t m, int32_t shift)
{
    return shift - 10 > 63 ? 0 : (int32_t)((x * (int64_t)(m >> 10)) >> (shift - 10));
}

/* False where something could wrap or where the estimate would be unsure too often. The numbers are
 * those of docs/NUMERICS.md. */
static inline bool plan_add(const eq_add_params *p, add_factors *f)
{
    if (p->left_shift > 21 || p->e1 > 0 || p->e2 > 0 || p->ey > 0)
        return false;
    const uint64_t m1 = (uint64_t)p->m1 * (uint64_t)p->my, m2 = (uint64_t)p->m2 * (uint64_t)p->my;
    const int32_t shift1 = 62 - p->left_shift - p->e1 - p->ey;
    const int32_t shift2 = 62 - p->left_shift - p->e2 - p->ey;
    for (int32_t fraction = 22; fraction >= 14; fraction--) {
        const int32_t s1 = shift1 - fraction, s2 = shift2 - fraction;
        if (s1 < 20 || s2 < 20 || (s1 < 63 && m1 >> s1 > 1 << 22)
            || (s2 < 63 && m2 >> s2 > 1 << 22))
            continue;
        const int32_t a = scaled(m1, s1), b = scaled(m2, s2);
        if (a + b > 1 << 22)
            continue;
        const int32_t over = fraction + p->ey;
        const int32_t bound = 132 + (over > 0 ? 5 << over : 5);
        if (bound > 1 << (fraction - 8))
            return false;
        const int32_t offset2 = offset_of(p->x2_zero, m2, s2);
        *f = (add_factors){.first = a, .second = p->sign2 < 0 ? -b : b, .bound = bound};
        f->constant = p->y_zero * (1 << fraction) + (1 << (fraction - 1)) + bound
                      - offset_of(p->x1_zero, m1, s1) - (p->sign2 < 0 ? -offset2 : offset2);
        f->fraction = fraction;
        return true;
    }
    return false;
}

/* Two factors of 16 bits for vpmaddwd. */
static inline int32_t pair_of(int32_t first, int32_t second)
{
    return (int32_t)(((uint32_t)first & 0xFFFFu) | (uint32_t)second << 16);
}

#endif
