/* SPDX-License-Identifier: Apache-2.0
 *
 * The files of this folder, and what those that work element by element share. */
#ifndef EQ_KERNELS_AVX2_H
#define EQ_KERNELS_AVX2_H

#include "kernels/kernels.h"

void eq_kernels_fill_avx2_add(eq_kernels *kernels);
void eq_kernels_fill_avx2_elementwise(eq_kernels *kernels);
void eq_kernels_fill_avx2_gemm(eq_kernels *kernels);
void eq_kernels_fill_avx2_depthwise(eq_kernels *kernels);
void eq_kernels_fill_avx2_layers16(eq_kernels *kernels);
void eq_kernels_fill_avx2_elementwise16(eq_kernels *kernels);
void eq_kernels_fill_avx2_softmax(eq_kernels *kernels);
void eq_kernels_fill_avx2_pool(eq_kernels *kernels);
void eq_kernels_fill_avx2_move(eq_kernels *kernels);

#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2,fma")))
#define AVX2_INLINE inline __attribute__((always_inline, target("avx2,fma")))

static AVX2_INLINE __m256i load_32(const int8_t *x)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)x);
}

static AVX2_INLINE void store_32(int8_t *y, __m256i v)
{
    _mm256_storeu_si256((__m256i *)(void *)y, v);
}

/* ---- parts of a register: 16, 8 or 4 bytes */

static AVX2_INLINE __m128i load_part(const int8_t *x, size_t bytes)
{
    int32_t four;
    if (bytes == 16)
        return _mm_loadu_si128((const __m128i *)(const void *)x);
    if (bytes == 8)
        return _mm_loadl_epi64((const __m128i *)(const void *)x);
    memcpy(&four, x, 4);
    return _mm_cvtsi32_si128(four);
}

static AVX2_INLINE void store_part(int8_t *y, __m128i v, size_t bytes)
{
    const int32_t four = _mm_cvtsi128_si32(v);
    if (bytes == 16)
        _mm_storeu_si128((__m128i *)(void *)y, v);
    else if (bytes == 8)
        _mm_storel_epi64((__m128i *)(void *)y, v);
    else
        memcpy(y, &four, 4);
}

/* ---- walks: 32 elements at a time, whatever n is. The last block overlaps the one before it. It
 * is computed first and stored last, so that y may be x. Fewer than 32 go through buffers. */

typedef __m256i unary_step(__m256i x, const void *k);
typedef __m256i binary_step(__m256i x1, __m256i x2, const void *k);

static AVX2_INLINE void walk_unary(size_t n, const int8_t *x, int8_t *y, unary_step *step,
                                   const void *k)
{
    if (n < 32) {
        int8_t part[32] = {0};
        memcpy(part, x, n);
        store_32(part, step(load_32(part), k));
        memcpy(y, part, n);
        return;
    }
    const __m256i last = step(load_32(x + n - 32), k);
    for (size_t i = 0; i + 32 <= n; i += 32)
        store_32(y + i, step(load_32(x + i), k));
    store_32(y + n - 32, last);
}

/* An operand of step 0 is read from 32 copies of its element. */
static AVX2_INLINE void walk_binary(size_t n, const int8_t *x1, size_t step1, const int8_t *x2,
                                    size_t step2, int8_t *y, binary_step *step, const void *k)
{
    int8_t part1[32] = {0}, part2[32] = {0};
    if (n == 0)
        return;
    if (step1 == 0 || n < 32) {
        store_32(part1, _mm256_set1_epi8(x1[0]));
        memcpy(part1, x1, step1 ? n : 1);
        x1 = part1;
    }
    if (step2 == 0 || n < 32) {
        store_32(part2, _mm256_set1_epi8(x2[0]));
        memcpy(part2, x2, step2 ? n : 1);
        x2 = part2;
    }
    if (n < 32) {
        store_32(part1, step(load_32(x1), load_32(x2), k));
        memcpy(y, part1, n);
        return;
    }
    const size_t end = n - 32;
    const __m256i last = step(load_32(x1 + end * step1), load_32(x2 + end * step2), k);
    for (size_t i = 0; i + 32 <= n; i += 32)
        store_32(y + i, step(load_32(x1 + i * step1), load_32(x2 + i * step2), k));
    store_32(y + end, last);
}

/* ---- 32 bytes as int32 and back. The order is that of unpacking in each half of a register:
 * quarter q of the one holds elements 4q ... 4q+3 and 16+4q ... 16+4q+3. */

static AVX2_INLINE void widen(__m256i x, __m256i out[4])
{
    const __m256i zero = _mm256_setzero_si256();
    const __m256i low = _mm256_unpacklo_epi8(zero, x), high = _mm256_unpackhi_epi8(zero, x);
    out[0] = _mm256_srai_epi32(_mm256_unpacklo_epi16(zero, low), 24);
    out[1] = _mm256_srai_epi32(_mm256_unpackhi_epi16(zero, low), 24);
    out[2] = _mm256_srai_epi32(_mm256_unpacklo_epi16(zero, high), 24);
    out[3] = _mm256_srai_epi32(_mm256_unpackhi_epi16(zero, high), 24);
}

/* Saturates. */
static AVX2_INLINE __m256i narrow(const __m256i x[4])
{
    return _mm256_packs_epi16(_mm256_packs_epi32(x[0], x[1]), _mm256_packs_epi32(x[2], x[3]));
}

static AVX2_INLINE __m256i clamp_8(__m256i x, __m256i low, __m256i high)
{
    return _mm256_min_epi8(_mm256_max_epi8(x, low), high);
}

/* ---- R31 of 8 lanes, for every x, m and e */

typedef struct r31 {
    __m256i m, mask, half; /* of the bits that the right shift drops */
    __m128i left, right;
} r31;

static AVX2_INLINE r31 r31_of(int32_t m, int32_t e)
{
    const int left = e > 0 ? e : 0, right = e < 0 ? -e : 0;
    const int32_t mask = (int32_t)(((uint32_t)1 << right) - 1);
    return (r31){_mm256_set1_epi32(m), _mm256_set1_epi32(mask), _mm256_set1_epi32(mask >> 1),
                 _mm_cvtsi32_si128(left), _mm_cvtsi32_si128(right)};
}

static AVX2_INLINE __m256i requantize(__m256i x, const r31 *r)
{
    const __m256i one_half = _mm256_set1_epi64x((int64_t)1 << 30);
    const __m256i v = _mm256_sll_epi32(x, r->left);
    const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(v, r->m), one_half);
    const __m256i odd =
        _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(v, 32), r->m), one_half);
    const __m256i high =
        _mm256_blend_epi32(_mm256_srli_epi64(even, 31), _mm256_slli_epi64(odd, 1), 0xAA);
    const __m256i rest = _mm256_and_si256(high, r->mask);
    const __m256i threshold = _mm256_sub_epi32(r->half, _mm256_srai_epi32(high, 31));
    return _mm256_sub_epi32(_mm256_sra_epi32(high, r->right), _mm256_cmpgt_epi32(rest, threshold));
}

/* ---- tables of 256 bytes: 16 registers of 16, chosen by the upper half of the byte */

typedef struct table_256 {
    __m256i part[16]; /* by the upper half of the byte as it is stored: 0 ... 7, -8 ... -1 */
} table_256;

static AVX2_INLINE void load_table(const int8_t table[256], table_256 *t)
{
    for (int h = 0; h < 16; h++)
        t->part[h] = _mm256_broadcastsi128_si256(
            _mm_loadu_si128((const __m128i *)(const void *)(table + 16 * (h ^ 8))));
}

/* table[x + 128]. Bit 4 chooses by what vpshufb makes 0, bits 5 to 7 by blends, which look at bit 7
 * of each byte. */
static AVX2_INLINE __m256i lookup(__m256i x, const table_256 *t)
{
    const __m256i top = _mm256_set1_epi8(-128);
    const __m256i even = _mm256_or_si256(_mm256_and_si256(x, _mm256_set1_epi8(15)),
                                         _mm256_and_si256(_mm256_slli_epi16(x, 3), top));
    const __m256i odd = _mm256_xor_si256(even, top);
    const __m256i bit5 = _mm256_slli_epi16(x, 2), bit6 = _mm256_slli_epi16(x, 1);
    __m256i v[8];
    for (int i = 0; i < 8; i++)
        v[i] = _mm256_or_si256(_mm256_shuffle_epi8(t->part[2 * i], even),
                               _mm256_shuffle_epi8(t->part[2 * i + 1], odd));
    for (int i = 0; i < 4; i++)
        v[i] = _mm256_blendv_epi8(v[2 * i], v[2 * i + 1], bit5);
    for (int i = 0; i < 2; i++)
        v[i] = _mm256_blendv_epi8(v[2 * i], v[2 * i + 1], bit6);
    return _mm256_blendv_epi8(v[0], v[1], x);
}

#endif
#endif
