/* SPDX-License-Identifier: Apache-2.0
 *
 * The arithmetic of docs/NUMERICS.md in C. Every kernel equals it byte for byte. */
#ifndef EQ_CORE_NUMERICS_H
#define EQ_CORE_NUMERICS_H

#include <stdint.h>

static inline int32_t eq_clamp(int32_t x, int32_t low, int32_t high)
{
    return x < low ? low : x > high ? high : x;
}

/* a * 2^n modulo 2^32, n in [0, 31]: what the reference's int32 shift does on every machine. */
static inline int32_t eq_shl_wrap(int32_t a, int n)
{
    return (int32_t)((uint32_t)a << n);
}

/* a + b modulo 2^32, as the reference's int32 addition. */
static inline int32_t eq_add_wrap(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a + (uint32_t)b);
}

/* Number of bits up to the highest 1: 0 for 0, n + 1 for 2^n. */
static inline int eq_bit_length(uint64_t x)
{
#ifdef __GNUC__
    return x == 0 ? 0 : 64 - __builtin_clzll(x);
#else
    int n = 0;
    for (; x != 0; x >>= 1)
        n++;
    return n;
#endif
}

/* High half of 2ab, rounded: (a*b + 2^30) >> 31; saturates at a = b = -2^31 (gemmlowp's SRDHM). */
static inline int32_t eq_mul_high(int32_t a, int32_t b)
{
    if (a == INT32_MIN && b == INT32_MIN)
        return INT32_MAX;
    return (int32_t)(((int64_t)a * b + ((int64_t)1 << 30)) >> 31);
}

/* x / 2^n, n in [0, 31], ties away from zero (gemmlowp's RoundingDivideByPOT). */
static inline int32_t eq_rshift_round(int32_t x, int n)
{
    const int32_t mask = (int32_t)(((uint32_t)1 << n) - 1);
    const int32_t rest = x & mask;
    const int32_t threshold = (mask >> 1) + (x < 0);
    return (x >> n) + (rest > threshold);
}

/* R31: x * m * 2^(e - 31), |m| < 2^31, e in [-31, 30]. The product cannot saturate. */
static inline int32_t eq_requant_r31(int32_t x, int32_t m, int e)
{
    const int32_t left = eq_shl_wrap(x, e > 0 ? e : 0);
    const int32_t high = (int32_t)(((int64_t)left * m + ((int64_t)1 << 30)) >> 31);
    return eq_rshift_round(high, e > 0 ? 0 : -e);
}

static inline int32_t eq_saturate16(int32_t x)
{
    return eq_clamp(x, INT16_MIN, INT16_MAX);
}

/* R15, before the activation's clamp: acc * m * 2^(e - 15 - fraction) + zero, m in [0, 2^15), e in
 * [-31, 0], fraction in [0, 6], |acc| + 2^(-e - 1) < 2^31. */
static inline int32_t eq_requant_r15(int32_t acc, int32_t m, int e, int fraction, int32_t zero)
{
    const int32_t half = fraction > 0 ? 1 << (fraction - 1) : 0;
    const int32_t t = eq_saturate16((acc + (e < 0 ? 1 << (-e - 1) : 0)) >> -e);
    const int32_t u = eq_saturate16((t * m + (1 << 14)) >> 15);
    return eq_saturate16(u + zero * (1 << fraction) + half) >> fraction;
}

/* R22, before the zero point and the clamp: acc * m * 2^e, ties up, modulo 2^32. m in [0, 2^22), e
 * in [-53, -1], |acc| * m < 2^62. */
static inline int32_t eq_requant_r22(int64_t acc, int32_t m, int e)
{
    return (int32_t)((acc * m + ((int64_t)1 << (-e - 1))) >> -e);
}

/* Between two entries of a table that lie 128 inputs apart: ties up. */
static inline int32_t eq_interpolate(int16_t x, const int16_t table[513])
{
    const int32_t i = (x >> 7) + 256, part = x & 127;
    return table[i] + (((table[i + 1] - table[i]) * part + 64) >> 7);
}

#endif
