/* SPDX-License-Identifier: Apache-2.0
 *
 * The packed layout that the x86 folders share. Each includes this file for copies of its own.
 *
 * A vector holds LANES int32 accumulators; a group is 1, 2 or 4 vectors of channels. Accumulators
 * are narrowed by in-lane packs (two to int16, two of those to int8), so vector j, lane 4 l + i of
 * a group of v vectors is channel 4 v l + 4 j + i: then the packed bytes come out in order.
 *
 *     header, then a group: constants [vectors][3][LANES] int32, weights [...] of the family */
#ifndef EQ_KERNELS_X86_PACK_H
#define EQ_KERNELS_X86_PACK_H

#include <string.h>

#include "core/numerics.h"
#include "kernels/kernels.h"

/* How accumulators are requantized. */
enum {
    PATH_R31,       /* by a float estimate: docs/NUMERICS.md */
    PATH_R31_WIDE,  /* the same, clamped because the estimate could leave int32 */
    PATH_R31_EXACT, /* by integers, for multipliers that the estimate does not cover */
    PATH_LINE,      /* by an estimate that is proven right: line.h */
    PATH_R15
};

/* Paths that need no second look at a sum. */
static inline bool is_sure(int32_t path)
{
    return path == PATH_LINE || path == PATH_R15;
}

typedef struct packed_header {
    int32_t path;     /* of groups that have no line */
    int32_t row_sums; /* gemm: the weights have a zero point: sums of the inputs are needed */
    int32_t sets;     /* depthwise: parts whose sum the weights are */
    int32_t reserved[13];
} packed_header;
_Static_assert(sizeof(packed_header) == EQ_PACK_ALIGN, "header");

/* Constants of a vector of channels. R31: factor is float32, and half too, or int32 where the
 * including file says INTEGER_HALVES. R15: multiplier and shift. Line: factor and offset. */
#ifndef INTEGER_HALVES
#define INTEGER_HALVES 0
#endif
enum { BIAS, FACTOR, HALF, CONSTANTS };

/* 2^16 units a step of the output; R31 is estimated in them. */
enum { UNIT_BITS = 16 };

static inline size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* The channel, counted from the group's first, in lane `lane` of vector j of v. */
static inline size_t channel_of(size_t vectors, size_t j, size_t lane)
{
    return 4 * vectors * (lane / 4) + 4 * j + lane % 4;
}

/* The lane's place, counted over the vectors of the group, that holds a channel. */
static inline size_t place_of(size_t vectors, size_t lanes, size_t channel)
{
    const size_t l = channel / (4 * vectors), j = channel / 4 % vectors;
    return j * lanes + 4 * l + channel % 4;
}

static inline int32_t requant_path(const eq_channel_params *p, size_t channels)
{
    if (p->arithmetic == EQ_ARITH_R15)
        return PATH_R15;
    int32_t path = PATH_R31;
    for (size_t n = 0; n < (p->step ? channels : 1); n++) {
        const int e = p->exponent[n];
        if (e > 0)
            return PATH_R31_EXACT;
        /* bound * m * 2^(e - 31) < 2^14 keeps the estimate below 2^30 units. */
        const uint64_t reach = ((uint64_t)p->bound * (uint64_t)p->multiplier[n]) >> 31;
        /* Plus the zero point the output would leave int32, where the definition wraps. */
        if (reach >> -e >= INT32_MAX - 256)
            return PATH_R31_EXACT;
        if (reach >> -e >= (1 << 14) - 1)
            path = PATH_R31_WIDE;
    }
    return path;
}

static inline int32_t float_bits(float x)
{
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* 2^n as a float32, n in [-126, 127]. */
static inline float power_of_two(int n)
{
    const int32_t bits = (n + 127) << 23;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

#include "kernels/x86/line.h"

/* The largest accumulator of channel n by the sums of its positive and its negative weights. */
static inline int64_t largest_sum(const eq_channel_params *p, size_t n, int64_t positive,
                                  int64_t negative)
{
    return (p->bias ? p->bias[n] : 0) + positive * (127 - p->x_zero)
           + negative * (-128 - p->x_zero);
}

/* Lines of `count` channels from `first` on, if all of them have one; high[i]: largest_sum. */
static inline bool find_lines(const eq_channel_params *p, size_t first, size_t count,
                              const int64_t *high, line_fit *lines)
{
    for (size_t i = 0; i < count; i++)
        if (p->step == 0 && i > 0)
            lines[i] = lines[0];
        else if (!find_line(p, first + i, p->step == 0 ? p->bound : high[i], &lines[i]))
            return false;
    return true;
}

/* Constants of channel n (none behind `channels`: 0), bias given, at lane `at` of a vector. l: its
 * line, or NULL. */
static inline void pack_constants(const eq_channel_params *p, size_t channels, size_t n,
                                  int32_t bias, const line_fit *l, size_t lanes, int32_t *at)
{
    int32_t factor = 0, half = 0;
    if (n < channels && l != NULL) {
        factor = float_bits(l->factor);
        half = float_bits(l->offset);
        bias = (int32_t)((uint32_t)bias + (uint32_t)l->shift);
    } else if (n < channels) {
        const int32_t m = p->multiplier[n * p->step];
        const int e = p->exponent[n * p->step];
        if (p->arithmetic == EQ_ARITH_R15) {
            factor = m;
            half = -e;
            bias = (int32_t)((uint32_t)bias + ((UINT32_C(1) << -e) >> 1));
        } else if (e <= 0 && m != 0) {
            factor = float_bits((float)m * power_of_two(e - 31 + UNIT_BITS));
            if (e < 0 && INTEGER_HALVES)
                half = e < -30 ? 0 : (1 << UNIT_BITS) >> (1 - e);
            else if (e < 0)
                half = float_bits(power_of_two(e - 1 + UNIT_BITS));
        }
    } else {
        bias = 0;
    }
    at[BIAS * lanes] = bias;
    at[FACTOR * lanes] = factor;
    at[HALF * lanes] = half;
}

/* One output by the definition. */
static inline int8_t requant_one(const eq_channel_params *p, size_t n, int32_t acc)
{
    const int32_t y = eq_requant_r31(acc, p->multiplier[n * p->step], p->exponent[n * p->step]);
    return (int8_t)eq_clamp(eq_add_wrap(y, p->y_zero), p->act_min, p->act_max);
}

/* Units added to an estimate: the zero point, the half of the rounding, and 4 that lift the band in
 * which the estimate does not decide to [0, 8). */
enum { BAND = 4, UNDECIDED = 0xfff8 };
static inline int32_t estimate_offset(const eq_channel_params *p)
{
    return p->y_zero * (1 << UNIT_BITS) + (1 << (UNIT_BITS - 1)) + BAND;
}

/* The same as a factor's type; it is a whole number below 2^24. */
static inline float estimate_start(const eq_channel_params *p)
{
    return (float)estimate_offset(p);
}

#endif
