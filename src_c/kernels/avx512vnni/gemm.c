/* SPDX-License-Identifier: Apache-2.0
 *
 * Tiles of up to 6 x 64, 12 x 32 or 12 x 16 accumulators: 24 of 32 registers. */
#include "kernels/avx512vnni/avx512vnni.h"

#if defined(__x86_64__)
enum { STEP = 4, SLACK = 64, WEIGHT_BYTES = 64, MAX_VECTORS = 4, MAX_ROWS = 12 };
typedef uint8_t value; /* x + 128 */
typedef __m512i vector;

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

/* Eight partial sums, int64, of a window. */
INLINE __m512i partial_sums(const uint8_t *const *runs, size_t count, size_t offset, size_t length)
{
    const __m512i zero = _mm512_setzero_si512();
    __m512i sum = zero;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *v = runs[i] + offset;
        size_t n = length;
        for (; n >= 64; n -= 64, v += 64)
            sum = _mm512_add_epi64(sum, _mm512_sad_epu8(_mm512_loadu_si512(v), zero));
        if (n > 0) {
            const __mmask64 mask = ~UINT64_C(0) >> (64 - n);
            sum = _mm512_add_epi64(sum, _mm512_sad_epu8(_mm512_maskz_loadu_epi8(mask, v), zero));
        }
    }
    return sum;
}

static TARGET void sum_values(size_t rows, size_t stride, const uint8_t *const *runs, size_t count,
                              size_t n, int32_t *sums)
{
    size_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        const __m512i s0 = partial_sums(runs, count, r * stride, n);
        const __m512i s1 = partial_sums(runs, count, (r + 1) * stride, n);
        const __m512i s2 = partial_sums(runs, count, (r + 2) * stride, n);
        const __m512i s3 = partial_sums(runs, count, (r + 3) * stride, n);
        /* a sum is below 2^32: two in a qword; then four dwords in each of four lanes */
        const __m512i a = _mm512_or_si512(s0, _mm512_slli_epi64(s1, 32));
        const __m512i b = _mm512_or_si512(s2, _mm512_slli_epi64(s3, 32));
        const __m512i four =
            _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
        const __m256i half =
            _mm256_add_epi32(_mm512_castsi512_si256(four), _mm512_extracti64x4_epi64(four, 1));
        const __m128i sum =
            _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
        _mm_storeu_si128((__m128i *)(void *)(sums + r), sum);
    }
    for (; r < rows; r++)
        sums[r] = (int32_t)_mm512_reduce_add_epi64(partial_sums(runs, count, r * stride, n));
}

INLINE vector broadcast(const uint8_t *values)
{
    int32_t quad;
    memcpy(&quad, values, sizeof quad);
    return _mm512_set1_epi32(quad);
}

INLINE vector load_weights(const int8_t *w)
{
    return _mm512_load_si512(w);
}

INLINE vector load_sums(const int32_t *p)
{
    return _mm512_load_si512(p);
}

INLINE vector equal_sums(int32_t n)
{
    return _mm512_set1_epi32(n);
}

INLINE vector no_sums(void)
{
    return _mm512_setzero_si512();
}

INLINE vector add_sums(vector a, vector b)
{
    return _mm512_add_epi32(a, b);
}

INLINE void store_sums(int32_t *out, vector acc)
{
    _mm512_store_si512(out, acc);
}

static size_t tile_rows(size_t vectors)
{
    return vectors == 4 ? 6 : 12;
}

/* store_rows for any count; those of whole eights without a mask. */
static __attribute__((noinline)) TARGET void store_parts(size_t vectors, size_t rows, size_t count,
                                                         __m512i y, int8_t *out, size_t stride)
{
    int8_t bytes[64];
    if (count % 8 != 0) {
        store_rows(vectors, rows, count, y, out, stride);
        return;
    }
    _mm512_storeu_si512(bytes, y);
    for (size_t r = 0; r < rows; r++)
        for (size_t n = 0; n < count; n += 8)
            memcpy(out + r * stride + n, bytes + r * vectors * LANES + n, 8);
}

#include "kernels/x86/tile.h"

TILES_TO_6(4)
TILES_TO_12(2)
TILES_TO_12(1)

/* ---- layers of at most 16 channels: a broadcast of 8 values serves two vectors of 8 channels, of
 * which each has two lanes. Broadcasts are what such a layer waits for. */

static size_t pairs_of(const eq_gemm *g)
{
    return g->channels <= 8 ? 1 : g->channels <= 16 ? 2 : 0;
}

INLINE void multiply_pair(const size_t vectors, const size_t rows, const uint8_t *values,
                          size_t stride, const int8_t *w, vector acc[MAX_ROWS][2])
{
    const vector w0 = load_weights(w), w1 = vectors > 1 ? load_weights(w + WEIGHT_BYTES) : w0;
#pragma GCC unroll 12
    for (size_t r = 0; r < rows; r++) {
        int64_t eight;
        memcpy(&eight, values + r * stride, sizeof eight);
        const vector x = _mm512_set1_epi64(eight);
        acc[r][0] = dot(acc[r][0], x, w0);
        if (vectors > 1)
            acc[r][1] = dot(acc[r][1], x, w1);
    }
}

/* The two lanes of each channel added: channels 0 ... 7 of a, then those of b. */
INLINE vector join_pairs(vector a, vector b)
{
    const __m512i even =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    a = _mm512_add_epi32(a, _mm512_srli_epi64(a, 32));
    b = _mm512_add_epi32(b, _mm512_srli_epi64(b, 32));
    return _mm512_permutex2var_epi32(a, even, b);
}

INLINE void pair_tile(const size_t vectors, const size_t rows, const source *from, const int8_t *w,
                      const int32_t *constants, const int32_t *start, const sink *to, void *out)
{
    const size_t stride = from->stride, size = vectors * WEIGHT_BYTES;
    static const int32_t zeros[MAX_ROWS];
    const int32_t *from_start = start ? start : zeros;
    const vector bias = load_sums(constants + BIAS * LANES);
    const bool two_ways = rows <= 3;
    vector acc[MAX_ROWS][2], other[MAX_ROWS][2], sums[MAX_ROWS][MAX_VECTORS];
#pragma GCC unroll 12
    for (size_t r = 0; r < rows; r++)
        acc[r][0] = acc[r][1] = other[r][0] = other[r][1] = no_sums();
    for (size_t i = 0; i < from->count; i++) {
        const uint8_t *values = from->runs[i] + from->offset;
        size_t k = from->steps;
        for (; two_ways && k >= 2; k -= 2, values += 4 * STEP, w += 2 * size) {
            multiply_pair(vectors, rows, values, stride, w, acc);
            multiply_pair(vectors, rows, values + 2 * STEP, stride, w + size, other);
        }
        for (; k > 0; k--, values += 2 * STEP, w += size)
            multiply_pair(vectors, rows, values, stride, w, acc);
    }
#pragma GCC unroll 12
    for (size_t r = 0; r < rows; r++) {
        vector a = acc[r][0], b = acc[r][1];
        if (two_ways) {
            a = add_sums(a, other[r][0]);
            b = add_sums(b, other[r][1]);
        }
        const vector begin = add_sums(bias, equal_sums(from_start[r]));
        sums[r][0] = add_sums(begin, join_pairs(a, b));
    }
    drain_tile(1, rows, sums, constants, to, out);
}

#define PAIR_TILE(v, r) \
    static TARGET void pair_tile_##v##_##r(const source *from, const int8_t *w, \
                                           const int32_t *constants, const int32_t *start, \
                                           const sink *to, void *out) \
    { \
        pair_tile(v, r, from, w, constants, start, to, out); \
    }
#define PAIR_TILES(v) \
    PAIR_TILE(v, 1) \
    PAIR_TILE(v, 2) \
    PAIR_TILE(v, 3) \
    PAIR_TILE(v, 4) \
    PAIR_TILE(v, 5) \
    PAIR_TILE(v, 6) \
    PAIR_TILE(v, 7) \
    PAIR_TILE(v, 8) PAIR_TILE(v, 9) PAIR_TILE(v, 10) PAIR_TILE(v, 11) PAIR_TILE(v, 12)
PAIR_TILES(1)
PAIR_TILES(2)
#define PAIR_NAMES(v) \
    pair_tile_##v##_1, pair_tile_##v##_2, pair_tile_##v##_3, pair_tile_##v##_4, pair_tile_##v##_5, \
        pair_tile_##v##_6, pair_tile_##v##_7, pair_tile_##v##_8, pair_tile_##v##_9, \
        pair_tile_##v##_10, pair_tile_##v##_11, pair_tile_##v##_12

static void multiply(size_t vectors, size_t rows, const source *from, const int8_t *w,
                     const int32_t *constants, const int32_t *start, const sink *to, void *out)
{
    static tile_function *const tiles_1[] = {NAMES_TO_12(1)}, *const tiles_2[] = {NAMES_TO_12(2)},
                                *const tiles_4[] = {NAMES_TO_6(4)};
    static tile_function *const pairs[2][MAX_ROWS] = {{PAIR_NAMES(1)}, {PAIR_NAMES(2)}};
    tile_function *const *tiles = from->pairs    ? pairs[from->pairs - 1]
                                  : vectors == 4 ? tiles_4
                                  : vectors == 2 ? tiles_2
                                                 : tiles_1;
    tiles[rows - 1](from, w, constants, start, to, out);
}

INLINE void finish_rows(const size_t vectors, size_t rows, int32_t path, const eq_channel_params *p,
                        size_t channel, const int32_t *constants, const int32_t *acc, int8_t *y,
                        size_t y_stride, size_t count)
{
    const quad_constants c = load_constants(vectors, constants);
    const finisher f = make_finisher(path, p);
    const size_t group = 4 / vectors;

    for (size_t r = 0; r < rows; r += group, acc += 4 * LANES, y += group * y_stride) {
        const size_t some = rows - r < group ? rows - r : group;
        const __m512i in[4] = {_mm512_load_si512(acc), _mm512_load_si512(acc + LANES),
                               _mm512_load_si512(acc + 2 * LANES),
                               _mm512_load_si512(acc + 3 * LANES)};
        uint64_t undecided;
        const __m512i out = rows_in_order(vectors, finish_quad(&f, in, &c, &undecided));
        store_rows(vectors, some, count, out, y, y_stride);
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

/* A group is four vectors, which tiles of one row already add up in turns. */
static size_t multiply_row(const source *from, const uint8_t *group, size_t size, size_t groups,
                           const uint8_t *paths, const eq_channel_params *p, size_t channel,
                           int32_t start, int8_t *y)
{
    (void)from, (void)group, (void)size, (void)groups, (void)paths, (void)p;
    (void)channel, (void)start, (void)y;
    return 0;
}

#include "kernels/x86/gemm.h"

void eq_kernels_fill_avx512vnni_gemm(eq_kernels *kernels)
{
    kernels->gemm_pack = gemm_pack;
    kernels->gemm_scratch = gemm_scratch;
    kernels->gemm = gemm;
    kernels->conv_scratch = conv_scratch;
    kernels->conv = conv;
}
#endif
