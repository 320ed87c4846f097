/* SPDX-License-Identifier: Apache-2.0
 *
 * gemm by 256-bit vectors in tiles of up to 6 x 16 accumulators: 12 of 16 registers. Around what
 * the including file defines: `value`, STEP, SLACK, copy_values, (see gemm.h), and
 *
 *     SUMMED, sum_vector(v)  int32 parts of the sum of so many values
 *     load_weights(w)      STEP weights of 8 channels
 *     WEIGHT_BYTES         of these
 *     broadcast(panel)     STEP values in every lane
 *     dot(acc, values, weights) */
#ifndef EQ_KERNELS_X86_YMM_GEMM_H
#define EQ_KERNELS_X86_YMM_GEMM_H

#include "kernels/x86/ymm.h"

enum { MAX_VECTORS = 2, MAX_ROWS = 6 };
typedef __m256i vector;

INLINE vector load_sums(const int32_t *p)
{
    return load_ymm(p);
}

INLINE vector equal_sums(int32_t n)
{
    return _mm256_set1_epi32(n);
}

INLINE vector no_sums(void)
{
    return _mm256_setzero_si256();
}

INLINE vector add_sums(vector a, vector b)
{
    return _mm256_add_epi32(a, b);
}

INLINE void store_sums(int32_t *out, vector acc)
{
    store_ymm(out, acc);
}

#include "kernels/x86/tile.h"

TILES_TO_6(2)
TILES_TO_6(1)

static size_t pairs_of(const eq_gemm *g)
{
    (void)g;
    return 0;
}

static size_t tile_rows(size_t vectors)
{
    (void)vectors;
    return MAX_ROWS;
}

static void multiply(size_t vectors, size_t rows, const source *from, const int8_t *w,
                     const int32_t *constants, const int32_t *start, const sink *to, void *out)
{
    static tile_function *const tiles[2][MAX_ROWS] = {{NAMES_TO_6(1)}, {NAMES_TO_6(2)}};
    tiles[vectors - 1][rows - 1](from, w, constants, start, to, out);
}

static TARGET void finish(size_t vectors, size_t rows, int32_t path, const eq_channel_params *p,
                          size_t channel, const int32_t *constants, const int32_t *acc, int8_t *y,
                          size_t y_stride, size_t count)
{
    if (vectors == 2)
        finish_rows(2, rows, path, p, channel, constants, acc, y, y_stride, count);
    else
        finish_rows(1, rows, path, p, channel, constants, acc, y, y_stride, count);
}

/* Parts of the sum of a window: of a run whole vectors, and one of which a mask leaves the first
 * bytes; up to SLACK values behind it are read. */
INLINE __m256i partial_sums(const value *const *runs, size_t count, size_t offset, size_t length)
{
    static const int8_t masks[64] = {
        -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
        -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    };
    __m256i sum = _mm256_setzero_si256();
    for (size_t i = 0; i < count; i++) {
        const value *v = runs[i] + offset;
        size_t n = length;
        for (; n >= SUMMED; n -= SUMMED, v += SUMMED)
            sum = _mm256_add_epi32(sum, sum_vector(load_ymm(v)));
        if (n > 0) {
            const __m256i mask = load_ymm(masks + 32 - n * sizeof(value));
            sum = _mm256_add_epi32(sum, sum_vector(_mm256_and_si256(load_ymm(v), mask)));
        }
    }
    return sum;
}

static TARGET void sum_values(size_t rows, size_t stride, const value *const *runs, size_t count,
                              size_t n, int32_t *sums)
{
    for (size_t r = 0; r < rows; r += 4) {
        const size_t some = rows - r < 4 ? rows - r : 4;
        __m256i part[4];
#pragma GCC unroll 4
        for (size_t i = 0; i < 4; i++)
            part[i] =
                i < some ? partial_sums(runs, count, (r + i) * stride, n) : _mm256_setzero_si256();
        const __m256i all = _mm256_hadd_epi32(_mm256_hadd_epi32(part[0], part[1]),
                                              _mm256_hadd_epi32(part[2], part[3]));
        int32_t four[4];
        _mm_storeu_si128((__m128i *)(void *)four, _mm_add_epi32(_mm256_castsi256_si128(all),
                                                                _mm256_extracti128_si256(all, 1)));
        memcpy(sums + r, four, some * sizeof *four);
    }
}

/* Two groups of one window: four vectors, in two turns. */
INLINE void multiply_groups(const source *from, const int8_t *w0, const int8_t *w1,
                            const int32_t *c0, const int32_t *c1, int32_t start, vector acc[4])
{
    vector a[4], b[4] = {no_sums(), no_sums(), no_sums(), no_sums()};
    for (size_t j = 0; j < 2; j++) {
        const size_t bias = (CONSTANTS * j + BIAS) * LANES;
        a[j] = add_sums(load_sums(c0 + bias), equal_sums(start));
        a[2 + j] = add_sums(load_sums(c1 + bias), equal_sums(start));
    }
    for (size_t i = 0; i < from->count; i++) {
        const value *values = from->runs[i] + from->offset;
        size_t k = from->steps;
        for (; k >= 2; k -= 2, values += 2 * STEP, w0 += 4 * WEIGHT_BYTES, w1 += 4 * WEIGHT_BYTES) {
            const vector x = broadcast(values), next = broadcast(values + STEP);
            for (size_t j = 0; j < 2; j++) {
                a[j] = dot(a[j], x, load_weights(w0 + j * WEIGHT_BYTES));
                a[2 + j] = dot(a[2 + j], x, load_weights(w1 + j * WEIGHT_BYTES));
                b[j] = dot(b[j], next, load_weights(w0 + (2 + j) * WEIGHT_BYTES));
                b[2 + j] = dot(b[2 + j], next, load_weights(w1 + (2 + j) * WEIGHT_BYTES));
            }
        }
        if (k > 0) {
            const vector x = broadcast(values);
            for (size_t j = 0; j < 2; j++, w0 += WEIGHT_BYTES, w1 += WEIGHT_BYTES) {
                a[j] = dot(a[j], x, load_weights(w0));
                a[2 + j] = dot(a[2 + j], x, load_weights(w1));
            }
        }
    }
    for (size_t j = 0; j < 4; j++)
        acc[j] = add_sums(a[j], b[j]);
}

/* A single pixel, as of a fully connected layer: pairs of whole groups, `size` bytes each,
 * requantized as they are. How many groups that were. */
static TARGET size_t multiply_row(const source *from, const uint8_t *group, size_t size,
                                  size_t groups, const uint8_t *paths, const eq_channel_params *p,
                                  size_t channel, int32_t start, int8_t *y)
{
    enum { CHANNELS = 2 * LANES, CONSTANT_BYTES = CHANNELS * CONSTANTS * sizeof(int32_t) };
    size_t done = 0;
    for (; done + 2 <= groups; done += 2, group += 2 * size, y += 2 * CHANNELS) {
        const int32_t *c0 = (const int32_t *)(const void *)group;
        const int32_t *c1 = (const int32_t *)(const void *)(group + size);
        const quad_constants a = load_constants(2, c0), b = load_constants(2, c1);
        const quad_constants c = {{a.factor[0], a.factor[1], b.factor[0], b.factor[1]},
                                  {a.half[0], a.half[1], b.half[0], b.half[1]}};
        const finisher f = make_finisher(paths[2 * done], p);
        vector acc[4];
        undecided_mask undecided;
        multiply_groups(from, (const int8_t *)group + CONSTANT_BYTES,
                        (const int8_t *)group + size + CONSTANT_BYTES, c0, c1, start, acc);
        vector out = rows_in_order(2, finish_quad(&f, acc, &c, &undecided));
        if (paths[2 * done] != paths[2 * done + 2]) {
            const finisher other = make_finisher(paths[2 * done + 2], p);
            const undecided_mask first = undecided & 0xffff;
            out = _mm256_blend_epi32(
                out, rows_in_order(2, finish_quad(&other, acc, &c, &undecided)), 0xF0);
            undecided = first | (undecided & ~(undecided_mask)0xffff);
        }
        store_ymm(y, out);
        if (undecided != 0) {
            int32_t sums[4 * LANES];
            for (size_t j = 0; j < 4; j++)
                store_ymm(sums + j * LANES, acc[j]);
            for (size_t i = 0; i < 2; i++)
                decide(undecided >> (i * CHANNELS) & 0xffff, 2, 1, p,
                       channel + (done + i) * CHANNELS, CHANNELS, sums + i * CHANNELS,
                       y + i * CHANNELS, 0);
        }
    }
    return done;
}

#include "kernels/x86/gemm.h"

#endif
