/* SPDX-License-Identifier: Apache-2.0
 *
 * 256-bit vectors: what avx2, avxvnni and the narrow layers of avx512vnni share. The including file
 * defines TARGET, which must hold avx2 and fma. Layout and paths: pack.h. */
#ifndef EQ_KERNELS_X86_YMM_H
#define EQ_KERNELS_X86_YMM_H

#include <immintrin.h>

/* Halves are int32: vpsignd gives them the accumulator's sign. */
#define INTEGER_HALVES 1

#define INLINE static inline __attribute__((always_inline)) TARGET

#include "kernels/x86/pack.h"

enum { LANES = 8 };

INLINE __m256i load_ymm(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

INLINE void store_ymm(void *p, __m256i v)
{
    _mm256_storeu_si256((__m256i *)p, v);
}

/* ---- requantization of four vectors of accumulators to 32 bytes */

/* Of vector j: factors and halves, or multipliers and shifts. */
typedef struct quad_constants {
    __m256i factor[4], half[4];
} quad_constants;

typedef uint32_t undecided_mask; /* bit 8 j + i: lane i of vector j */

/* Constants of a layer for all its quads. */
typedef struct finisher {
    __m256i offset, low, high;
    __m128i fraction;
    int32_t path;
} finisher;

INLINE finisher make_finisher(int32_t path, const eq_channel_params *p)
{
    finisher f;
    f.path = path;
    f.low = _mm256_set1_epi8((char)p->act_min);
    f.high = _mm256_set1_epi8((char)p->act_max);
    f.fraction = _mm_cvtsi32_si128(p->fraction);
    f.offset =
        path == PATH_R15
            ? _mm256_set1_epi16((short)(p->y_zero * (1 << p->fraction) + ((1 << p->fraction) >> 1)))
            : _mm256_castps_si256(_mm256_set1_ps(estimate_start(p)));
    return f;
}

/* Vector i of the quad has the constants of vector i % vectors of the group. */
INLINE quad_constants load_constants(size_t vectors, const int32_t *constants)
{
    quad_constants c;
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++) {
        const int32_t *at = constants + i % vectors * CONSTANTS * LANES;
        c.factor[i] = load_ymm(at + FACTOR * LANES);
        c.half[i] = load_ymm(at + HALF * LANES);
    }
    return c;
}

INLINE __m256i estimate(__m256i acc, __m256i factor, __m256i half, __m256 offset, bool wide)
{
    const __m256 x = _mm256_cvtepi32_ps(acc);
    __m256 z = _mm256_fmadd_ps(x, _mm256_castsi256_ps(factor), offset);
    if (wide) {
        z = _mm256_min_ps(z, _mm256_set1_ps(0x1p30f));
        z = _mm256_max_ps(z, _mm256_set1_ps(-0x1p30f));
    }
    return _mm256_add_epi32(_mm256_cvtps_epi32(z), _mm256_sign_epi32(half, acc));
}

/* 32 bytes before the activation's clamp; in `undecided` the lanes, 8 bits a vector, of which the
 * estimate does not tell the rounding. */
INLINE __m256i requant_r31(const __m256i acc[4], const quad_constants *c, __m256 offset, bool wide,
                           uint32_t *undecided)
{
    const __m256i band = _mm256_set1_epi32(UNDECIDED), zero = _mm256_setzero_si256();
    const __m256i z0 = estimate(acc[0], c->factor[0], c->half[0], offset, wide);
    const __m256i z1 = estimate(acc[1], c->factor[1], c->half[1], offset, wide);
    const __m256i z2 = estimate(acc[2], c->factor[2], c->half[2], offset, wide);
    const __m256i z3 = estimate(acc[3], c->factor[3], c->half[3], offset, wide);
    const __m256i b0 = _mm256_and_si256(z0, band), b1 = _mm256_and_si256(z1, band);
    const __m256i b2 = _mm256_and_si256(z2, band), b3 = _mm256_and_si256(z3, band);
    const __m256i least = _mm256_min_epu32(_mm256_min_epu32(b0, b1), _mm256_min_epu32(b2, b3));
    *undecided = 0;
    if (__builtin_expect(_mm256_movemask_epi8(_mm256_cmpeq_epi32(least, zero)) != 0, 0)) {
        const __m256i k0 =
            _mm256_packs_epi32(_mm256_cmpeq_epi32(b0, zero), _mm256_cmpeq_epi32(b1, zero));
        const __m256i k1 =
            _mm256_packs_epi32(_mm256_cmpeq_epi32(b2, zero), _mm256_cmpeq_epi32(b3, zero));
        /* bytes: four of vector 0, 1, 2, 3, then the upper lanes: in order by dwords */
        const __m256i k = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(k0, k1),
                                                      _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        *undecided = (uint32_t)_mm256_movemask_epi8(k);
    }
    const __m256i p0 =
        _mm256_packs_epi32(_mm256_srai_epi32(z0, UNIT_BITS), _mm256_srai_epi32(z1, UNIT_BITS));
    const __m256i p1 =
        _mm256_packs_epi32(_mm256_srai_epi32(z2, UNIT_BITS), _mm256_srai_epi32(z3, UNIT_BITS));
    return _mm256_packs_epi16(p0, p1);
}

INLINE __m256i line_at(__m256i acc, __m256i factor, __m256i offset)
{
    return _mm256_cvtps_epi32(_mm256_fmadd_ps(_mm256_cvtepi32_ps(acc), _mm256_castsi256_ps(factor),
                                              _mm256_castsi256_ps(offset)));
}

/* Two vectors of a path that has no undecided lanes, as int16: an output each, without clamps. With
 * `line` by factors and offsets, else by multipliers and shifts; then f->offset is y_zero * 2^F +
 * 2^(F-1). */
INLINE __m256i finish_pair(const finisher *f, const bool line, __m256i a, __m256i b,
                           const __m256i factor[2], const __m256i half[2])
{
    if (line)
        return _mm256_packs_epi32(line_at(a, factor[0], half[0]), line_at(b, factor[1], half[1]));
    const __m256i t =
        _mm256_packs_epi32(_mm256_srav_epi32(a, half[0]), _mm256_srav_epi32(b, half[1]));
    const __m256i u = _mm256_mulhrs_epi16(t, _mm256_packs_epi32(factor[0], factor[1]));
    return _mm256_sra_epi16(_mm256_adds_epi16(u, f->offset), f->fraction);
}

/* Bytes of two such pairs. */
INLINE __m256i join_halves(const finisher *f, __m256i first, __m256i second)
{
    const __m256i y = _mm256_packs_epi16(first, second);
    return _mm256_min_epi8(_mm256_max_epi8(y, f->low), f->high);
}

/* A quad of such a path. */
INLINE __m256i finish_surely(const finisher *f, const bool line, const __m256i acc[4],
                             const quad_constants *c)
{
    return join_halves(f, finish_pair(f, line, acc[0], acc[1], c->factor, c->half),
                       finish_pair(f, line, acc[2], acc[3], c->factor + 2, c->half + 2));
}

INLINE __m256i finish_quad(const finisher *f, const __m256i acc[4], const quad_constants *c,
                           uint32_t *undecided)
{
    __m256i y;
    *undecided = 0;
    if (f->path == PATH_LINE || f->path == PATH_R15)
        return finish_surely(f, f->path == PATH_LINE, acc, c);
    if (f->path == PATH_R31)
        y = requant_r31(acc, c, _mm256_castsi256_ps(f->offset), false, undecided);
    else {
        y = requant_r31(acc, c, _mm256_castsi256_ps(f->offset), true, undecided);
        if (f->path == PATH_R31_EXACT)
            *undecided = ~UINT32_C(0);
    }
    return _mm256_min_epi8(_mm256_max_epi8(y, f->low), f->high);
}

/* Of four vectors, 4 / vectors rows follow each other in bytes after the narrowing packs by lanes:
 * brings them in order. */
INLINE __m256i rows_in_order(size_t vectors, __m256i y)
{
    if (vectors == 2)
        return _mm256_permute4x64_epi64(y, 0xD8); /* 0, 2, 1, 3 */
    if (vectors == 1)
        return _mm256_permutevar8x32_epi32(y, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    return y;
}

/* Recomputes the marked places of a quad: bit i is accumulator i of 4 / vectors rows. */
static inline __attribute__((cold)) void decide(uint32_t marked, size_t vectors, size_t rows,
                                                const eq_channel_params *p, size_t channel,
                                                size_t count, const int32_t *acc, int8_t *y,
                                                size_t y_stride)
{
    for (; marked != 0; marked &= marked - 1) {
        const size_t i = (size_t)__builtin_ctz(marked), row = i / (vectors * LANES);
        const size_t at = i % (vectors * LANES);
        const size_t n = channel_of(vectors, at / LANES, at % LANES);
        if (row < rows && n < count)
            y[row * y_stride + n] = requant_one(p, channel + n, acc[i]);
    }
}

/* `rows` rows of `count` bytes, each vectors * LANES bytes apart in y. */
static __attribute__((noinline)) TARGET void store_parts(size_t vectors, size_t rows, size_t count,
                                                         __m256i y, int8_t *out, size_t stride)
{
    int8_t bytes[32];
    store_ymm(bytes, y);
    for (size_t r = 0; r < rows; r++)
        memcpy(out + r * stride, bytes + r * vectors * LANES, count);
}

INLINE void store_half(int8_t *out, __m128i y, bool upper)
{
    const int64_t half = upper ? _mm_extract_epi64(y, 1) : _mm_cvtsi128_si64(y);
    memcpy(out, &half, sizeof half);
}

/* The same, without a loop for the usual counts. */
INLINE void store_rows(size_t vectors, size_t rows, size_t count, __m256i y, int8_t *out,
                       size_t stride)
{
    if (count == 8 && vectors == 1) {
        const __m128i low = _mm256_castsi256_si128(y), high = _mm256_extracti128_si256(y, 1);
        store_half(out, low, false);
        if (rows > 1)
            store_half(out + stride, low, true);
        if (rows > 2)
            store_half(out + 2 * stride, high, false);
        if (rows > 3)
            store_half(out + 3 * stride, high, true);
    } else if (count == 32 && vectors == 4) {
        store_ymm(out, y);
    } else if (count == 16 && vectors == 2) {
        _mm_storeu_si128((__m128i *)(void *)out, _mm256_castsi256_si128(y));
        if (rows > 1)
            _mm_storeu_si128((__m128i *)(void *)(out + stride), _mm256_extracti128_si256(y, 1));
    } else if (count == 8 && vectors == 2) {
        _mm_storel_epi64((__m128i *)(void *)out, _mm256_castsi256_si128(y));
        if (rows > 1)
            _mm_storel_epi64((__m128i *)(void *)(out + stride), _mm256_extracti128_si256(y, 1));
    } else {
        store_parts(vectors, rows, count, y, out, stride);
    }
}

/* The quads of `rows` rows of accumulators [vectors][LANES] to `count` channels of y. */
INLINE void finish_rows(const size_t vectors, size_t rows, int32_t path, const eq_channel_params *p,
                        size_t channel, const int32_t *constants, const int32_t *acc, int8_t *y,
                        size_t y_stride, size_t count)
{
    const quad_constants c = load_constants(vectors, constants);
    const finisher f = make_finisher(path, p);
    const size_t group = 4 / vectors;

    for (size_t r = 0; r < rows; r += group, acc += 4 * LANES, y += group * y_stride) {
        const size_t some = rows - r < group ? rows - r : group;
        const __m256i in[4] = {load_ymm(acc), load_ymm(acc + LANES), load_ymm(acc + 2 * LANES),
                               load_ymm(acc + 3 * LANES)};
        uint32_t undecided;
        const __m256i out = rows_in_order(vectors, finish_quad(&f, in, &c, &undecided));
        store_rows(vectors, some, count, out, y, y_stride);
        if (undecided != 0)
            decide(undecided, vectors, some, p, channel, count, acc, y, y_stride);
    }
}

#endif
