/* SPDX-License-Identifier: Apache-2.0
 *
 * Pools and sums. The last block of channels overlaps the one before it: outputs never overlap
 * inputs here. */
#include "core/numerics.h"
#include "kernels/avx2/avx2.h"

#if defined(__x86_64__)

/* ---- MAX_POOL */

/* Channels of one window: `registers` of 32. Loops of a constant length unroll. */
static AVX2_INLINE void max_window(const eq_pool *pool, size_t cols, const int8_t *x, int8_t *y,
                                   size_t registers)
{
    const __m256i high = _mm256_set1_epi8((char)pool->act_max);
    __m256i best[2];
    for (size_t i = 0; i < registers; i++)
        best[i] = _mm256_set1_epi8((char)pool->act_min);
    for (size_t row = 0; row < pool->rows; row++) {
        const int8_t *from = x + row * pool->row_stride;
        for (size_t col = 0; col < cols; col++, from += pool->channels)
            for (size_t i = 0; i < registers; i++)
                best[i] = _mm256_max_epi8(best[i], load_32(from + 32 * i));
    }
    for (size_t i = 0; i < registers; i++)
        store_32(y + 32 * i, _mm256_min_epi8(best[i], high));
}

/* Windows of at least 32 channels. */
static AVX2_INLINE void max_wide(const eq_pool *pool, size_t cols, size_t pixels, const int8_t *x,
                                 int8_t *y)
{
    const size_t channels = pool->channels;
    for (size_t p = 0; p < pixels; p++, x += pool->step, y += channels) {
        size_t c = 0;
        for (; c + 64 <= channels; c += 64)
            max_window(pool, cols, x + c, y + c, 2);
        if (c + 32 <= channels) {
            max_window(pool, cols, x + c, y + c, 1);
            c += 32;
        }
        if (c < channels)
            max_window(pool, cols, x + channels - 32, y + channels - 32, 1);
    }
}

static AVX2_INLINE void max_part(const eq_pool *pool, const int8_t *x, int8_t *y, size_t bytes)
{
    __m128i best = _mm_set1_epi8((char)pool->act_min);
    for (size_t row = 0; row < pool->rows; row++) {
        const int8_t *from = x + row * pool->row_stride;
        for (size_t col = 0; col < pool->cols; col++, from += pool->channels)
            best = _mm_max_epi8(best, load_part(from, bytes));
    }
    store_part(y, _mm_min_epi8(best, _mm_set1_epi8((char)pool->act_max)), bytes);
}

static AVX2 void max_one(const eq_pool *pool, const int8_t *x, int8_t *y)
{
    int32_t best = pool->act_min;
    for (size_t row = 0; row < pool->rows; row++) {
        const int8_t *from = x + row * pool->row_stride;
        for (size_t col = 0; col < pool->cols; col++, from += pool->channels)
            best = *from > best ? *from : best;
    }
    *y = (int8_t)(best < pool->act_max ? best : pool->act_max);
}

static AVX2_INLINE void max_parts(const eq_pool *pool, size_t pixels, const int8_t *x, int8_t *y,
                                  size_t bytes)
{
    const size_t channels = pool->channels;
    for (size_t p = 0; p < pixels; p++, x += pool->step, y += channels) {
        for (size_t c = 0; c + bytes <= channels; c += bytes)
            max_part(pool, x + c, y + c, bytes);
        if (channels % bytes != 0)
            max_part(pool, x + channels - bytes, y + channels - bytes, bytes);
    }
}

static AVX2 void max_pool(const eq_pool *pool, size_t pixels, const int8_t *x, int8_t *y)
{
    const size_t channels = pool->channels;
    if (channels < 4) {
        for (size_t p = 0; p < pixels; p++, x += pool->step, y += channels)
            for (size_t c = 0; c < channels; c++)
                max_one(pool, x + c, y + c);
    } else if (channels < 8) {
        max_parts(pool, pixels, x, y, 4);
    } else if (channels < 16) {
        max_parts(pool, pixels, x, y, 8);
    } else if (channels < 32) {
        max_parts(pool, pixels, x, y, 16);
    } else if (pool->cols == 3) {
        max_wide(pool, 3, pixels, x, y);
    } else if (pool->cols == 2) {
        max_wide(pool, 2, pixels, x, y);
    } else if (pool->cols == 1) {
        max_wide(pool, 1, pixels, x, y);
    } else {
        max_wide(pool, pool->cols, pixels, x, y);
    }
}

/* ---- sums: int16 lanes hold 255 values of a byte */

enum { MOST_IN_16 = 255 };

static AVX2_INLINE void add_to_32(__m256i sum16, __m256i sum32[2])
{
    const __m128i low = _mm256_castsi256_si128(sum16), high = _mm256_extracti128_si256(sum16, 1);
    sum32[0] = _mm256_add_epi32(sum32[0], _mm256_cvtepi16_epi32(low));
    sum32[1] = _mm256_add_epi32(sum32[1], _mm256_cvtepi16_epi32(high));
}

/* 16 columns, or 8 and zeros. */
static AVX2_INLINE void sum_columns(size_t rows, const int8_t *x, size_t stride, __m256i sum32[2],
                                    size_t bytes)
{
    for (size_t row = 0; row < rows;) {
        const size_t end = rows - row < MOST_IN_16 ? rows : row + MOST_IN_16;
        __m256i sum16 = _mm256_setzero_si256();
        for (; row < end; row++)
            sum16 =
                _mm256_add_epi16(sum16, _mm256_cvtepi8_epi16(load_part(x + row * stride, bytes)));
        add_to_32(sum16, sum32);
    }
}

static AVX2_INLINE void add_32_to(int32_t *acc, __m256i v)
{
    __m256i *at = (__m256i *)(void *)acc;
    _mm256_storeu_si256(at, _mm256_add_epi32(_mm256_loadu_si256(at), v));
}

/* 64 columns. */
static AVX2 void sum_wide(size_t rows, const int8_t *x, size_t stride, int32_t *acc)
{
    for (size_t row = 0; row < rows;) {
        const size_t end = rows - row < MOST_IN_16 ? rows : row + MOST_IN_16;
        __m256i sum16[4];
        for (size_t i = 0; i < 4; i++)
            sum16[i] = _mm256_setzero_si256();
        for (; row < end; row++)
            for (size_t i = 0; i < 4; i++)
                sum16[i] = _mm256_add_epi16(
                    sum16[i], _mm256_cvtepi8_epi16(load_part(x + row * stride + 16 * i, 16)));
        for (size_t i = 0; i < 4; i++) {
            __m256i sum32[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
            add_to_32(sum16[i], sum32);
            add_32_to(acc + 16 * i, sum32[0]);
            add_32_to(acc + 16 * i + 8, sum32[1]);
        }
    }
}

static AVX2 void sum_rows(size_t rows, size_t n, const int8_t *x, size_t stride, int32_t *acc)
{
    size_t i = 0;
    for (; i + 64 <= n; i += 64)
        sum_wide(rows, x + i, stride, acc + i);
    while (i + 8 <= n) {
        const size_t bytes = i + 16 <= n ? 16 : 8;
        __m256i sum32[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
        if (bytes == 16)
            sum_columns(rows, x + i, stride, sum32, 16);
        else
            sum_columns(rows, x + i, stride, sum32, 8);
        add_32_to(acc + i, sum32[0]);
        if (bytes == 16)
            add_32_to(acc + i + 8, sum32[1]);
        i += bytes;
    }
    if (i < n && n >= 8) { /* up to 7 columns: the last 8, of which those before i are left out */
        __m256i sum32[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
        int32_t last[8];
        sum_columns(rows, x + n - 8, stride, sum32, 8);
        _mm256_storeu_si256((__m256i *)(void *)last, sum32[0]);
        for (; i < n; i++)
            acc[i] += last[i - (n - 8)];
    }
    for (; i < n; i++)
        for (size_t row = 0; row < rows; row++)
            acc[i] += x[row * stride + i];
}

static AVX2 int32_t sum(size_t n, const int8_t *x)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i total = zero;
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const __m256i u8 = _mm256_xor_si256(load_32(x + i), _mm256_set1_epi8(-128));
        total = _mm256_add_epi64(total, _mm256_sad_epu8(u8, zero));
    }
    __m128i t = _mm_add_epi64(_mm256_castsi256_si128(total), _mm256_extracti128_si256(total, 1));
    t = _mm_add_epi64(t, _mm_unpackhi_epi64(t, t));
    int32_t acc = _mm_cvtsi128_si32(t) - 128 * (int32_t)i;
    for (; i < n; i++)
        acc += x[i];
    return acc;
}

static AVX2 void requantize_sums(size_t n, const int32_t *acc, int8_t *y, int32_t m, int32_t e,
                                 int32_t zero)
{
    const r31 r = r31_of(m, e);
    const __m256i y_zero = _mm256_set1_epi32(zero);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(acc + i));
        const __m256i v = _mm256_add_epi32(requantize(x, &r), y_zero);
        const __m256i v16 = _mm256_packs_epi32(v, v);
        const __m256i v8 = _mm256_packs_epi16(v16, v16); /* 4 bytes in each half */
        const __m128i halves =
            _mm_unpacklo_epi32(_mm256_castsi256_si128(v8), _mm256_extracti128_si256(v8, 1));
        store_part(y + i, halves, 8);
    }
    for (; i < n; i++)
        y[i] = (int8_t)eq_clamp(eq_add_wrap(eq_requant_r31(acc[i], m, e), zero), -128, 127);
}

/* ---- AVERAGE_POOL: s / t rounded half away from zero is floor((2|s| + t) / 2t) with the sign of
 * s. For D = 2t and N = 2|s| + t that is N * R >> k with R = ceil(2^k / D) if N * (R * D - 2^k) <
 * 2^k: then N * R / 2^k exceeds N / D by less than 1 / D. With the offset |s| <= 255t, so N <=
 * 511t. */

typedef struct divisor {
    uint32_t taps, reciprocal; /* reciprocal 0: divide */
    int shift;
    bool in_16; /* s, N and R fit into 16 bits, 16 <= shift < 32 */
} divisor;

static divisor divisor_of(size_t taps)
{
    const uint64_t t = taps, d = 2 * t;
    if (t <= 128) /* N <= 65408, |s| <= 32640 */
        for (int k = 31; k >= 16; k--) {
            const uint64_t power = (uint64_t)1 << k, r = (power + d - 1) / d;
            if (r <= 65535 && 511 * t * (r * d - power) < power)
                return (divisor){(uint32_t)t, (uint32_t)r, k, true};
        }
    if (t > 65536)
        return (divisor){(uint32_t)t, 0, 0, false};
    /* R * D - 2^k < D, so k with 2^k > 1022 t^2 will do: at most twice that, R <= 1022 t + 1. */
    const int k = eq_bit_length(1022 * t * t);
    return (divisor){(uint32_t)t, (uint32_t)((((uint64_t)1 << k) + d - 1) / d), k, false};
}

static AVX2_INLINE __m256i divide_16(__m256i s, const divisor *by)
{
    const __m256i a = _mm256_abs_epi16(s);
    const __m256i n =
        _mm256_add_epi16(_mm256_add_epi16(a, a), _mm256_set1_epi16((int16_t)by->taps));
    const __m256i high = _mm256_mulhi_epu16(n, _mm256_set1_epi16((int16_t)by->reciprocal));
    return _mm256_sign_epi16(_mm256_srl_epi16(high, _mm_cvtsi32_si128(by->shift - 16)), s);
}

/* Channels of one window of at most 128 pixels: `registers` of 16, or half of one. */
static AVX2_INLINE void average_window(const eq_pool *pool, const divisor *by, const int8_t *x,
                                       int8_t *y, size_t registers, size_t bytes)
{
    const __m256i offset = _mm256_set1_epi16((int16_t)pool->offset);
    const __m128i low = _mm_set1_epi8((char)pool->act_min);
    const __m128i high = _mm_set1_epi8((char)pool->act_max);
    __m256i s[4];
    for (size_t i = 0; i < registers; i++)
        s[i] = _mm256_set1_epi16((int16_t)(pool->offset * (int32_t)by->taps));
    for (size_t row = 0; row < pool->rows; row++) {
        const int8_t *from = x + row * pool->row_stride;
        for (size_t col = 0; col < pool->cols; col++, from += pool->channels)
            for (size_t i = 0; i < registers; i++)
                s[i] =
                    _mm256_add_epi16(s[i], _mm256_cvtepi8_epi16(load_part(from + 16 * i, bytes)));
    }
    for (size_t i = 0; i < registers; i++) {
        const __m256i v = _mm256_sub_epi16(divide_16(s[i], by), offset);
        const __m128i v8 =
            _mm_packs_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
        store_part(y + 16 * i, _mm_min_epi8(_mm_max_epi8(v8, low), high), bytes);
    }
}

/* Up to 64 channels of a window of any size. */
static AVX2 void average_32(const eq_pool *pool, const divisor *by, size_t n, const int8_t *x,
                            int8_t *y)
{
    int32_t acc[64];
    for (size_t c = 0; c < n; c++)
        acc[c] = pool->offset * (int32_t)by->taps;
    if (pool->row_stride == pool->cols * pool->channels)
        sum_rows(by->taps, n, x, pool->channels, acc);
    else
        for (size_t row = 0; row < pool->rows; row++)
            sum_rows(pool->cols, n, x + row * pool->row_stride, pool->channels, acc);
    for (size_t c = 0; c < n; c++) {
        const uint32_t magnitude = (uint32_t)(acc[c] < 0 ? -acc[c] : acc[c]);
        const uint32_t number = 2 * magnitude + by->taps; /* <= 511 * 2^22 < 2^31 */
        const int32_t q = by->reciprocal ? (int32_t)((uint64_t)number * by->reciprocal >> by->shift)
                                         : (int32_t)(number / (2 * by->taps));
        y[c] = (int8_t)eq_clamp((acc[c] < 0 ? -q : q) - pool->offset, pool->act_min, pool->act_max);
    }
}

/* Windows of at least `bytes` channels, 16 or 8. */
static AVX2_INLINE void average_windows(const eq_pool *pool, const divisor *by, size_t pixels,
                                        const int8_t *x, int8_t *y, size_t bytes)
{
    const size_t channels = pool->channels;
    for (size_t p = 0; p < pixels; p++, x += pool->step, y += channels) {
        size_t c = 0;
        for (; bytes == 16 && c + 64 <= channels; c += 64)
            average_window(pool, by, x + c, y + c, 4, 16);
        for (; c + bytes <= channels; c += bytes)
            average_window(pool, by, x + c, y + c, 1, bytes);
        if (c < channels)
            average_window(pool, by, x + channels - bytes, y + channels - bytes, 1, bytes);
    }
}

static AVX2 void average_pool(const eq_pool *pool, size_t pixels, const int8_t *x, int8_t *y)
{
    const divisor by = divisor_of(pool->rows * pool->cols);
    const size_t channels = pool->channels;
    if (by.in_16 && channels >= 16) {
        average_windows(pool, &by, pixels, x, y, 16);
    } else if (by.in_16 && channels >= 8) {
        average_windows(pool, &by, pixels, x, y, 8);
    } else {
        for (size_t p = 0; p < pixels; p++, x += pool->step, y += channels)
            for (size_t c = 0; c < channels; c += 64)
                average_32(pool, &by, channels - c < 64 ? channels - c : 64, x + c, y + c);
    }
}

void eq_kernels_fill_avx2_pool(eq_kernels *kernels)
{
    kernels->max_pool = max_pool;
    kernels->average_pool = average_pool;
    kernels->sum_rows = sum_rows;
    kernels->sum = sum;
    kernels->requantize = requantize_sums;
}
#endif
