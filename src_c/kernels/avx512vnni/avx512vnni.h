/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of this folder share. Slots: kernels.h. Layout and paths: x86/pack.h. */
#ifndef EQ_KERNELS_AVX512VNNI_H
#define EQ_KERNELS_AVX512VNNI_H

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define INLINE static inline __attribute__((always_inline)) TARGET

#include "kernels/x86/pack.h"

void eq_kernels_fill_avx512vnni_gemm(eq_kernels *kernels);
void eq_kernels_fill_avx512vnni_depthwise(eq_kernels *kernels);
void eq_kernels_fill_avx512vnni_gemm16(eq_kernels *kernels);
void eq_kernels_fill_avx512vnni_elementwise(eq_kernels *kernels, uint32_t features);

enum { LANES = 16 };

/* acc + four products a lane: unsigned bytes of u, signed bytes of s. */
INLINE __m512i dot(__m512i acc, __m512i u, __m512i s)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(u), "v"(s));
    return acc;
}

/* ---- requantization of four vectors of accumulators to 64 bytes */

/* Of vector j: factors and halves, or multipliers and shifts. */
typedef struct quad_constants {
    __m512i factor[4], half[4];
} quad_constants;

INLINE __m512i estimate(__m512i acc, __m512i factor, __m512i half, __m512i offset, bool wide)
{
    const __m512i sign = _mm512_set1_epi32(INT32_MIN);
    const __m512 x = _mm512_cvtepi32_ps(acc);
    /* half with the sign of x */
    const __m512i signed_half = _mm512_ternarylogic_epi32(_mm512_castps_si512(x), sign, half, 0xEA);
    __m512 z = _mm512_fmadd_ps(x, _mm512_castsi512_ps(factor), _mm512_castsi512_ps(signed_half));
    if (wide) {
        z = _mm512_min_ps(z, _mm512_set1_ps(0x1p30f));
        z = _mm512_max_ps(z, _mm512_set1_ps(-0x1p30f));
    }
    return _mm512_add_epi32(_mm512_cvtps_epi32(z), offset);
}

/* 64 bytes before the activation's clamp; in `undecided` the lanes, 16 bits a vector, of which the
 * estimate does not tell the rounding. */
INLINE __m512i requant_r31(const __m512i acc[4], const quad_constants *c, __m512i offset, bool wide,
                           uint64_t *undecided)
{
    const __m512i band = _mm512_set1_epi32(UNDECIDED);
    const __m512i z0 = estimate(acc[0], c->factor[0], c->half[0], offset, wide);
    const __m512i z1 = estimate(acc[1], c->factor[1], c->half[1], offset, wide);
    const __m512i z2 = estimate(acc[2], c->factor[2], c->half[2], offset, wide);
    const __m512i z3 = estimate(acc[3], c->factor[3], c->half[3], offset, wide);
    const __mmask16 k0 = _mm512_testn_epi32_mask(z0, band), k1 = _mm512_testn_epi32_mask(z1, band);
    const __mmask16 k2 = _mm512_testn_epi32_mask(z2, band), k3 = _mm512_testn_epi32_mask(z3, band);
    const __mmask32 low = _mm512_kunpackw(k1, k0), high = _mm512_kunpackw(k3, k2);
    *undecided = (uint64_t)_mm512_kunpackd(high, low);
    const __m512i p0 =
        _mm512_packs_epi32(_mm512_srai_epi32(z0, UNIT_BITS), _mm512_srai_epi32(z1, UNIT_BITS));
    const __m512i p1 =
        _mm512_packs_epi32(_mm512_srai_epi32(z2, UNIT_BITS), _mm512_srai_epi32(z3, UNIT_BITS));
    return _mm512_packs_epi16(p0, p1);
}

typedef uint64_t undecided_mask; /* bit 16 j + i: lane i of vector j */

/* Constants of a layer for all its quads. */
typedef struct finisher {
    __m512i offset, low, high;
    __m128i fraction;
    int32_t path;
} finisher;

INLINE finisher make_finisher(int32_t path, const eq_channel_params *p)
{
    finisher f;
    f.path = path;
    f.low = _mm512_set1_epi8((char)p->act_min);
    f.high = _mm512_set1_epi8((char)p->act_max);
    f.fraction = _mm_cvtsi32_si128(p->fraction);
    f.offset =
        path == PATH_R15
            ? _mm512_set1_epi16((short)(p->y_zero * (1 << p->fraction) + ((1 << p->fraction) >> 1)))
            : _mm512_set1_epi32(estimate_offset(p));
    return f;
}

INLINE __m512i line_at(__m512i acc, __m512i factor, __m512i offset)
{
    return _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_cvtepi32_ps(acc), _mm512_castsi512_ps(factor),
                                              _mm512_castsi512_ps(offset)));
}

/* Two vectors of a path that has no undecided lanes, as int16: an output each, without clamps. With
 * `line` by factors and offsets, else by multipliers and shifts; then f->offset is y_zero * 2^F +
 * 2^(F-1). */
INLINE __m512i finish_pair(const finisher *f, const bool line, __m512i a, __m512i b,
                           const __m512i factor[2], const __m512i half[2])
{
    if (line)
        return _mm512_packs_epi32(line_at(a, factor[0], half[0]), line_at(b, factor[1], half[1]));
    const __m512i t =
        _mm512_packs_epi32(_mm512_srav_epi32(a, half[0]), _mm512_srav_epi32(b, half[1]));
    const __m512i u = _mm512_mulhrs_epi16(t, _mm512_packs_epi32(factor[0], factor[1]));
    return _mm512_sra_epi16(_mm512_adds_epi16(u, f->offset), f->fraction);
}

/* Bytes of two such pairs. */
INLINE __m512i join_halves(const finisher *f, __m512i first, __m512i second)
{
    const __m512i y = _mm512_packs_epi16(first, second);
    return _mm512_min_epi8(_mm512_max_epi8(y, f->low), f->high);
}

/* A quad of such a path. */
INLINE __m512i finish_surely(const finisher *f, const bool line, const __m512i acc[4],
                             const quad_constants *c)
{
    return join_halves(f, finish_pair(f, line, acc[0], acc[1], c->factor, c->half),
                       finish_pair(f, line, acc[2], acc[3], c->factor + 2, c->half + 2));
}

INLINE __m512i finish_quad(const finisher *f, const __m512i acc[4], const quad_constants *c,
                           uint64_t *undecided)
{
    __m512i y;
    *undecided = 0;
    if (f->path == PATH_LINE || f->path == PATH_R15)
        return finish_surely(f, f->path == PATH_LINE, acc, c);
    if (f->path == PATH_R31)
        y = requant_r31(acc, c, f->offset, false, undecided);
    else {
        y = requant_r31(acc, c, f->offset, true, undecided);
        if (f->path == PATH_R31_EXACT)
            *undecided = ~UINT64_C(0);
    }
    return _mm512_min_epi8(_mm512_max_epi8(y, f->low), f->high);
}

INLINE quad_constants load_constants(size_t vectors, const int32_t *constants)
{
    quad_constants c;
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++) {
        const int32_t *at = constants + i % vectors * CONSTANTS * LANES;
        c.factor[i] = _mm512_load_si512(at + FACTOR * LANES);
        c.half[i] = _mm512_load_si512(at + HALF * LANES);
    }
    return c;
}

/* Recomputes the marked places of a quad: bit i is accumulator i of 4 / vectors rows. */
static inline __attribute__((cold)) void decide(uint64_t marked, size_t vectors, size_t rows,
                                                const eq_channel_params *p, size_t channel,
                                                size_t count, const int32_t *acc, int8_t *y,
                                                size_t y_stride)
{
    for (; marked != 0; marked &= marked - 1) {
        const size_t i = (size_t)__builtin_ctzll(marked), row = i / (vectors * LANES);
        const size_t at = i % (vectors * LANES);
        const size_t n = channel_of(vectors, at / LANES, at % LANES);
        if (row < rows && n < count)
            y[row * y_stride + n] = requant_one(p, channel + n, acc[i]);
    }
}

/* Of four vectors, 4 / vectors rows follow each other in bytes after the narrowing packs by lanes:
 * brings them in order. */
INLINE __m512i rows_in_order(size_t vectors, __m512i y)
{
    if (vectors == 2)
        return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), y);
    if (vectors == 1)
        return _mm512_permutexvar_epi32(
            _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), y);
    return y;
}

INLINE void store_some(int8_t *out, __m128i y, size_t count)
{
    if (count == 16)
        _mm_storeu_si128((__m128i *)(void *)out, y);
    else
        _mm_mask_storeu_epi8(out, (__mmask16)(0xffffu >> (16 - count)), y);
}

/* `rows` rows of `count` bytes of those in order. Whole rows without a mask: that is cheaper. */
INLINE void store_rows(size_t vectors, size_t rows, size_t count, __m512i y, int8_t *out,
                       size_t stride)
{
    if (vectors == 4) {
        if (count == 64)
            _mm512_storeu_si512(out, y);
        else
            _mm512_mask_storeu_epi8(out, ~UINT64_C(0) >> (64 - count), y);
    } else if (vectors == 2) {
        const __m256i second = _mm512_extracti64x4_epi64(y, 1);
        if (count == 32) {
            _mm256_storeu_si256((__m256i *)(void *)out, _mm512_castsi512_si256(y));
            if (rows > 1)
                _mm256_storeu_si256((__m256i *)(void *)(out + stride), second);
        } else {
            const __mmask32 mask = ~UINT32_C(0) >> (32 - count);
            _mm256_mask_storeu_epi8(out, mask, _mm512_castsi512_si256(y));
            if (rows > 1)
                _mm256_mask_storeu_epi8(out + stride, mask, second);
        }
    } else {
        store_some(out, _mm512_castsi512_si128(y), count);
        if (rows > 1)
            store_some(out + stride, _mm512_extracti32x4_epi32(y, 1), count);
        if (rows > 2)
            store_some(out + 2 * stride, _mm512_extracti32x4_epi32(y, 2), count);
        if (rows > 3)
            store_some(out + 3 * stride, _mm512_extracti32x4_epi32(y, 3), count);
    }
}

#endif
#endif
