/* SPDX-License-Identifier: Apache-2.0
 *
 * Tiles of up to 6 x 64, 12 x 32 or 12 x 16 accumulators: 24 of 32 registers. */
#include "kernels/avx512vnni/avx512vnni.h"

#if defined(__x86_64__)
enum { STEP = 4, SLACK = 64, MAX_VECTORS = 4, MAX_TILE = 24 };
typedef uint8_t value;

INLINE void copy_values(size_t n, const int8_t *x, int32_t x_zero, uint8_t *out)
{
    const __m512i flip = _mm512_set1_epi8(-128);
    (void)x_zero;
    for (; n >= 64; n -= 64, x += 64, out += 64)
        _mm512_storeu_si512(out, _mm512_xor_si512(_mm512_loadu_si512(x), flip));
    if (n > 0) {
        const __mmask64 mask = ~UINT64_C(0) >> (64 - n);
        _mm512_storeu_si512(out, _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, x), flip));
    }
}

static TARGET void copy_runs(size_t runs, size_t n, const int8_t *const *x, int32_t x_zero,
                             uint8_t *out, size_t stride)
{
    if (n > 64) {
        for (; runs > 0; runs--, x++, out += stride) {
            copy_values(n, *x, x_zero, out);
            for (size_t k = n; k < stride; k++)
                out[k] = 0;
        }
        return;
    }
    const __mmask64 mask = ~UINT64_C(0) >> (64 - n);
    for (; runs > 0; runs--, x++, out += stride)
        _mm512_storeu_si512(out, _mm512_sub_epi8(_mm512_maskz_loadu_epi8(mask, *x),
                                                 _mm512_maskz_set1_epi8(mask, -128)));
}

static TARGET int32_t sum_values(size_t n, const uint8_t *v)
{
    const __m512i zero = _mm512_setzero_si512();
    __m512i sum = zero;
    for (; n >= 64; n -= 64, v += 64)
        sum = _mm512_add_epi64(sum, _mm512_sad_epu8(_mm512_loadu_si512(v), zero));
    if (n > 0) {
        const __mmask64 mask = ~UINT64_C(0) >> (64 - n);
        sum = _mm512_add_epi64(sum, _mm512_sad_epu8(_mm512_maskz_loadu_epi8(mask, v), zero));
    }
    return (int32_t)_mm512_reduce_add_epi64(sum);
}

INLINE void tile(const size_t vectors, const size_t rows, size_t steps, const uint8_t *panel,
                 size_t stride, const int8_t *w, const int32_t *constants, const int32_t *start,
                 int32_t *out)
{
    __m512i acc[12][4];
#pragma GCC unroll 12
    for (size_t r = 0; r < rows; r++) {
        const __m512i s = _mm512_set1_epi32(start ? start[r] : 0);
#pragma GCC unroll 4
        for (size_t j = 0; j < vectors; j++)
            acc[r][j] =
                _mm512_add_epi32(s, _mm512_load_si512(constants + (CONSTANTS * j + BIAS) * LANES));
    }
    for (; steps > 0; steps--, panel += STEP, w += vectors * LANES * STEP) {
        __m512i weights[4];
#pragma GCC unroll 4
        for (size_t j = 0; j < vectors; j++)
            weights[j] = _mm512_load_si512(w + j * LANES * STEP);
#pragma GCC unroll 12
        for (size_t r = 0; r < rows; r++) {
            int32_t quad;
            memcpy(&quad, panel + r * stride, sizeof quad);
            const __m512i x = _mm512_set1_epi32(quad);
#pragma GCC unroll 4
            for (size_t j = 0; j < vectors; j++)
                acc[r][j] = dot(acc[r][j], x, weights[j]);
        }
    }
#pragma GCC unroll 12
    for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (size_t j = 0; j < vectors; j++)
            _mm512_store_si512(out + (r * vectors + j) * LANES, acc[r][j]);
}

typedef void tile_function(size_t steps, const uint8_t *panel, size_t stride, const int8_t *w,
                           const int32_t *constants, const int32_t *start, int32_t *out);

#define TILE(v, r) \
    static TARGET void tile_##v##_##r(size_t steps, const uint8_t *panel, size_t stride, \
                                      const int8_t *w, const int32_t *constants, \
                                      const int32_t *start, int32_t *out) \
    { \
        tile(v, r, steps, panel, stride, w, constants, start, out); \
    }
#define TILES_TO_6(v) TILE(v, 1) TILE(v, 2) TILE(v, 3) TILE(v, 4) TILE(v, 5) TILE(v, 6)
#define TILES_TO_12(v) \
    TILES_TO_6(v) TILE(v, 7) TILE(v, 8) TILE(v, 9) TILE(v, 10) TILE(v, 11) TILE(v, 12)
TILES_TO_6(4)
TILES_TO_12(2)
TILES_TO_12(1)

#define NAMES_TO_6(v) \
    tile_##v##_1, tile_##v##_2, tile_##v##_3, tile_##v##_4, tile_##v##_5, tile_##v##_6
#define NAMES_TO_12(v) \
    NAMES_TO_6(v), tile_##v##_7, tile_##v##_8, tile_##v##_9, tile_##v##_10, tile_##v##_11, \
        tile_##v##_12

static size_t tile_rows(size_t vectors)
{
    return vectors == 4 ? 6 : 12;
}

static void multiply(size_t vectors, size_t rows, size_t steps, const uint8_t *panel, size_t stride,
                     const int8_t *w, const int32_t *constants, const int32_t *start, int32_t *acc)
{
    static tile_function *const tiles_1[] = {NAMES_TO_12(1)}, *const tiles_2[] = {NAMES_TO_12(2)},
                                *const tiles_4[] = {NAMES_TO_6(4)};
    tile_function *const *tiles = vectors == 4 ? tiles_4 : vectors == 2 ? tiles_2 : tiles_1;
    tiles[rows - 1](steps, panel, stride, w, constants, start, acc);
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

INLINE void finish_rows(const size_t vectors, size_t rows, int32_t path, const eq_channel_params *p,
                        size_t channel, const int32_t *constants, const int32_t *acc, int8_t *y,
                        size_t y_stride, size_t count)
{
    const quad_constants c = load_constants(vectors, constants);
    const finisher f = make_finisher(path, p);
    const __mmask64 mask = ~UINT64_C(0) >> (64 - count);
    const size_t group = 4 / vectors;

    for (size_t r = 0; r < rows; r += group, acc += 4 * LANES, y += group * y_stride) {
        const size_t some = rows - r < group ? rows - r : group;
        const __m512i in[4] = {_mm512_load_si512(acc), _mm512_load_si512(acc + LANES),
                               _mm512_load_si512(acc + 2 * LANES),
                               _mm512_load_si512(acc + 3 * LANES)};
        uint64_t undecided;
        const __m512i out = rows_in_order(vectors, finish_quad(&f, in, &c, &undecided));
        _mm512_mask_storeu_epi8(y, mask, out);
        if (vectors == 2 && some > 1)
            _mm256_mask_storeu_epi8(y + y_stride, (__mmask32)mask,
                                    _mm512_extracti64x4_epi64(out, 1));
        if (vectors == 1) {
            if (some > 1)
                _mm_mask_storeu_epi8(y + y_stride, (__mmask16)mask,
                                     _mm512_extracti32x4_epi32(out, 1));
            if (some > 2)
                _mm_mask_storeu_epi8(y + 2 * y_stride, (__mmask16)mask,
                                     _mm512_extracti32x4_epi32(out, 2));
            if (some > 3)
                _mm_mask_storeu_epi8(y + 3 * y_stride, (__mmask16)mask,
                                     _mm512_extracti32x4_epi32(out, 3));
        }
        if (undecided != 0)
            decide(undecided, vectors, some, p, channel, count, acc, y, y_stride);
    }
}

static TARGET void finish(size_t vectors, size_t rows, int32_t path, const eq_channel_params *p,
                          size_t channel, const int32_t *constants, const int32_t *acc, int8_t *y,
                          size_t y_stride, size_t count)
{
    if (vectors == 4)
        finish_rows(4, rows, path, p, channel, constants, acc, y, y_stride, count);
    else if (vectors == 2)
        finish_rows(2, rows, path, p, channel, constants, acc, y, y_stride, count);
    else
        finish_rows(1, rows, path, p, channel, constants, acc, y, y_stride, count);
}

#include "kernels/x86/gemm.h"

void eq_kernels_fill_avx512vnni_gemm(eq_kernels *kernels)
{
    kernels->gemm_pack = gemm_pack;
    kernels->gemm_scratch = gemm_scratch;
    kernels->gemm = gemm;
}
#endif
