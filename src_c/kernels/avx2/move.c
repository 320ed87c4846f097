/* SPDX-License-Identifier: Apache-2.0
 *
 * Resizing and transposing. */
#include "core/numerics.h"
#include "kernels/avx2/avx2.h"

#if defined(__x86_64__)

/* ---- bilinear: weights in two parts, upper * 2^11 + lower, for products of 16 bits. Sums may wrap
 * on the way, the result does not. */

typedef struct weights {
    __m256i lower01, lower23, upper01, upper23; /* of pixels 0 and 1, 2 and 3, side by side */
} weights;

static AVX2_INLINE __m256i pair_of(int32_t first, int32_t second)
{
    return _mm256_set1_epi32((int32_t)(((uint32_t)first & 0xFFFFu) | (uint32_t)second << 16));
}

static AVX2_INLINE weights weights_of(const int32_t w[4])
{
    return (weights){pair_of(w[0] & 2047, w[1] & 2047), pair_of(w[2] & 2047, w[3] & 2047),
                     pair_of(w[0] >> 11, w[1] >> 11), pair_of(w[2] >> 11, w[3] >> 11)};
}

static AVX2_INLINE __m256i weigh(__m256i x01, __m256i x23, const weights *w)
{
    const __m256i upper =
        _mm256_add_epi32(_mm256_madd_epi16(x01, w->upper01), _mm256_madd_epi16(x23, w->upper23));
    const __m256i lower =
        _mm256_add_epi32(_mm256_madd_epi16(x01, w->lower01), _mm256_madd_epi16(x23, w->lower23));
    return _mm256_add_epi32(_mm256_slli_epi32(upper, 11), lower);
}

/* The sums of 16 channels, or of 8 and zeros: s[0] has channels 0-3 and 8-11, s[1] the others. */
static AVX2_INLINE void weigh_channels(const int8_t *const x[4], size_t c, const weights *w,
                                       size_t bytes, __m256i s[2])
{
    const __m256i x0 = _mm256_cvtepi8_epi16(load_part(x[0] + c, bytes));
    const __m256i x1 = _mm256_cvtepi8_epi16(load_part(x[1] + c, bytes));
    const __m256i x2 = _mm256_cvtepi8_epi16(load_part(x[2] + c, bytes));
    const __m256i x3 = _mm256_cvtepi8_epi16(load_part(x[3] + c, bytes));
    s[0] = weigh(_mm256_unpacklo_epi16(x0, x1), _mm256_unpacklo_epi16(x2, x3), w);
    s[1] = weigh(_mm256_unpackhi_epi16(x0, x1), _mm256_unpackhi_epi16(x2, x3), w);
}

/* s / 2^20 rounded half away from zero: the shift floors, a negative half needs to stay below. */
static AVX2_INLINE __m256i round_20(__m256i s)
{
    const __m256i down = _mm256_add_epi32(s, _mm256_srai_epi32(s, 31));
    return _mm256_srai_epi32(_mm256_add_epi32(down, _mm256_set1_epi32(1 << 19)), 20);
}

static AVX2_INLINE void blend(const int8_t *const x[4], size_t c, const weights *w, size_t bytes,
                              int8_t *y)
{
    __m256i s[2];
    weigh_channels(x, c, w, bytes, s);
    const __m256i v = _mm256_packs_epi32(round_20(s[0]), round_20(s[1]));
    store_part(y + c, _mm_packs_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)),
               bytes);
}

static AVX2 void bilinear(size_t channels, const int8_t *const x[4], const int32_t w[4], int8_t *y)
{
    const weights k = weights_of(w);
    if (channels >= 16) {
        for (size_t c = 0; c + 16 <= channels; c += 16)
            blend(x, c, &k, 16, y);
        if (channels % 16 != 0)
            blend(x, channels - 16, &k, 16, y);
    } else if (channels >= 8) {
        blend(x, 0, &k, 8, y);
        blend(x, channels - 8, &k, 8, y);
    } else {
        for (size_t c = 0; c < channels; c++) {
            const int32_t s = x[0][c] * w[0] + x[1][c] * w[1] + x[2][c] * w[2] + x[3][c] * w[3];
            y[c] = (int8_t)((s + (1 << 19) - (s < 0)) >> 20);
        }
    }
}

/* Where the sum plus 2^10 modulo 2^20 is below 2^11: all ones. */
static AVX2_INLINE __m256i near_integer(__m256i v)
{
    const __m256i rest = _mm256_slli_epi32(_mm256_add_epi32(v, _mm256_set1_epi32(1024)), 12);
    const __m256i most = _mm256_set1_epi32((2048 << 12) - 1);
    return _mm256_cmpeq_epi32(_mm256_min_epu32(rest, most), rest);
}

static AVX2_INLINE __m256i blend_u8(const int8_t *const x[4], size_t c, const weights *w,
                                    int32_t base, size_t bytes, int8_t *y)
{
    __m256i s[2];
    weigh_channels(x, c, w, bytes, s);
    s[0] = _mm256_add_epi32(s[0], _mm256_set1_epi32(base));
    s[1] = _mm256_add_epi32(s[1], _mm256_set1_epi32(base));
    const __m256i v = _mm256_packs_epi32(_mm256_srai_epi32(s[0], 20), _mm256_srai_epi32(s[1], 20));
    const __m128i u8 = _mm_packus_epi16(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    store_part(y + c, _mm_xor_si128(u8, _mm_set1_epi8(-128)), bytes);
    return _mm256_or_si256(near_integer(s[0]), near_integer(s[1]));
}

static AVX2 int bilinear_u8(size_t channels, const int8_t *const x[4], const int32_t w[4],
                            int8_t *y)
{
    const int32_t base = (1 << 19) + 128 * (w[0] + w[1] + w[2] + w[3]);
    const weights k = weights_of(w);
    uint32_t near = 0;
    if (channels >= 16) {
        __m256i any = _mm256_setzero_si256();
        for (size_t c = 0; c + 16 <= channels; c += 16)
            any = _mm256_or_si256(any, blend_u8(x, c, &k, base, 16, y));
        if (channels % 16 != 0)
            any = _mm256_or_si256(any, blend_u8(x, channels - 16, &k, base, 16, y));
        near = !_mm256_testz_si256(any, any);
    } else if (channels >= 8) { /* the upper half of the registers has none of them */
        const __m256i any = _mm256_or_si256(blend_u8(x, 0, &k, base, 8, y),
                                            blend_u8(x, channels - 8, &k, base, 8, y));
        near = ((uint32_t)_mm256_movemask_epi8(any) & 0xFFFFu) != 0;
    } else {
        for (size_t c = 0; c < channels; c++) {
            const int32_t v =
                base + x[0][c] * w[0] + x[1][c] * w[1] + x[2][c] * w[2] + x[3][c] * w[3];
            near |= (((uint32_t)v + 1024u) & 0xFFFFFu) < 2048u;
            y[c] = (int8_t)(eq_clamp(v >> 20, 0, 255) - 128);
        }
    }
    return (int)near;
}

/* ---- transpose. Interleaving the bytes of two registers rotates the bits of an element's address,
 * (register, byte), by one: three times turn rows of bytes into bytes of rows. */

/* 16 by 16: rows r and r + 8 share a register. */
static AVX2_INLINE void transpose_16(const int8_t *x, size_t x_stride, int8_t *y, size_t y_stride)
{
    __m256i a[8], b[8];
    for (size_t r = 0; r < 8; r++)
        a[r] = _mm256_inserti128_si256(_mm256_castsi128_si256(load_part(x + r * x_stride, 16)),
                                       load_part(x + (r + 8) * x_stride, 16), 1);
    for (size_t i = 0; i < 4; i++) {
        b[2 * i] = _mm256_unpacklo_epi8(a[i], a[i + 4]);
        b[2 * i + 1] = _mm256_unpackhi_epi8(a[i], a[i + 4]);
    }
    for (size_t i = 0; i < 4; i++) {
        a[2 * i] = _mm256_unpacklo_epi8(b[i], b[i + 4]);
        a[2 * i + 1] = _mm256_unpackhi_epi8(b[i], b[i + 4]);
    }
    for (size_t i = 0; i < 4; i++) {
        b[2 * i] = _mm256_unpacklo_epi8(a[i], a[i + 4]);
        b[2 * i + 1] = _mm256_unpackhi_epi8(a[i], a[i + 4]);
    }
    for (size_t i = 0; i < 8; i++) {
        const __m256i v = _mm256_permute4x64_epi64(b[i], 0xD8);
        store_part(y + 2 * i * y_stride, _mm256_castsi256_si128(v), 16);
        store_part(y + (2 * i + 1) * y_stride, _mm256_extracti128_si256(v, 1), 16);
    }
}

/* 8 by 8: rows r and r + 4 are interleaved as they come. */
static AVX2_INLINE void transpose_8(const int8_t *x, size_t x_stride, int8_t *y, size_t y_stride)
{
    __m128i a[4], b[4];
    for (size_t r = 0; r < 4; r++)
        a[r] =
            _mm_unpacklo_epi8(load_part(x + r * x_stride, 8), load_part(x + (r + 4) * x_stride, 8));
    for (size_t i = 0; i < 2; i++) {
        b[2 * i] = _mm_unpacklo_epi8(a[i], a[i + 2]);
        b[2 * i + 1] = _mm_unpackhi_epi8(a[i], a[i + 2]);
    }
    for (size_t i = 0; i < 2; i++) {
        a[2 * i] = _mm_unpacklo_epi8(b[i], b[i + 2]);
        a[2 * i + 1] = _mm_unpackhi_epi8(b[i], b[i + 2]);
    }
    for (size_t i = 0; i < 4; i++) {
        store_part(y + 2 * i * y_stride, a[i], 8);
        store_part(y + (2 * i + 1) * y_stride, _mm_unpackhi_epi64(a[i], a[i]), 8);
    }
}

/* Where the next block begins; the last one ends at the end. */
static inline size_t next_block(size_t at, size_t block, size_t size)
{
    if (at + block == size)
        return size;
    return at + 2 * block <= size ? at + block : size - block;
}

/* Whole cache lines of x are read as long as they are near. */
static AVX2_INLINE void transpose_blocks(size_t rows, size_t cols, const int8_t *x, size_t x_stride,
                                         int8_t *y, size_t y_stride, size_t block)
{
    for (size_t c0 = 0; c0 < cols;) {
        size_t c = c0;
        for (size_t r = 0; r < rows; r = next_block(r, block, rows)) {
            c = c0;
            for (int i = 0; i < 4 && c < cols; i++, c = next_block(c, block, cols)) {
                if (block == 16)
                    transpose_16(x + r * x_stride + c, x_stride, y + c * y_stride + r, y_stride);
                else
                    transpose_8(x + r * x_stride + c, x_stride, y + c * y_stride + r, y_stride);
            }
        }
        c0 = c;
    }
}

/* ---- few rows or columns that lie close together: pixels to planes, shuffled channels */

/* Register 3i + r: the places in bytes 16i ... 16i + 15 of three interleaved rows that row r fills.
 */
static const int8_t to_pixels[9][16] = {
    {0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1, -1, 5},
    {-1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1, -1},
    {-1, -1, 0, -1, -1, 1, -1, -1, 2, -1, -1, 3, -1, -1, 4, -1},
    {-1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1, 10, -1},
    {5, -1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1, 10},
    {-1, 5, -1, -1, 6, -1, -1, 7, -1, -1, 8, -1, -1, 9, -1, -1},
    {-1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1, -1},
    {-1, -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15, -1},
    {10, -1, -1, 11, -1, -1, 12, -1, -1, 13, -1, -1, 14, -1, -1, 15},
};

/* Register 3r + i: where bytes 16i ... 16i + 15 of three interleaved rows go in row r. */
static const int8_t to_planes[9][16] = {
    {0, 3, 6, 9, 12, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1},
    {-1, -1, -1, -1, -1, -1, 2, 5, 8, 11, 14, -1, -1, -1, -1, -1},
    {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 1, 4, 7, 10, 13},
    {1, 4, 7, 10, 13, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1},
    {-1, -1, -1, -1, -1, 0, 3, 6, 9, 12, 15, -1, -1, -1, -1, -1},
    {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 2, 5, 8, 11, 14},
    {2, 5, 8, 11, 14, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1},
    {-1, -1, -1, -1, -1, 1, 4, 7, 10, 13, -1, -1, -1, -1, -1, -1},
    {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 3, 6, 9, 12, 15},
};

/* Three registers, each made of parts of three. */
static AVX2_INLINE void shuffle_3(const __m128i x[3], const int8_t places[9][16], __m128i y[3])
{
    for (int i = 0; i < 3; i++) {
        const __m128i a = _mm_shuffle_epi8(x[0], load_part(places[3 * i], 16));
        const __m128i b = _mm_shuffle_epi8(x[1], load_part(places[3 * i + 1], 16));
        const __m128i c = _mm_shuffle_epi8(x[2], load_part(places[3 * i + 2], 16));
        y[i] = _mm_or_si128(_mm_or_si128(a, b), c);
    }
}

/* Two rows, at least 16 columns, to columns without a gap. */
static AVX2 void interleave_2(size_t cols, const int8_t *x, size_t x_stride, int8_t *y)
{
    for (size_t c = 0; c < cols; c = next_block(c, 16, cols)) {
        const __m128i a = load_part(x + c, 16), b = load_part(x + x_stride + c, 16);
        store_part(y + 2 * c, _mm_unpacklo_epi8(a, b), 16);
        store_part(y + 2 * c + 16, _mm_unpackhi_epi8(a, b), 16);
    }
}

/* The same of three rows. */
static AVX2 void interleave_3(size_t cols, const int8_t *x, size_t x_stride, int8_t *y)
{
    for (size_t c = 0; c < cols; c = next_block(c, 16, cols)) {
        __m128i v[3], out[3];
        for (size_t r = 0; r < 3; r++)
            v[r] = load_part(x + r * x_stride + c, 16);
        shuffle_3(v, to_pixels, out);
        for (size_t i = 0; i < 3; i++)
            store_part(y + 3 * c + 16 * i, out[i], 16);
    }
}

/* At least 16 rows of three columns without a gap. */
static AVX2 void separate_3(size_t rows, const int8_t *x, int8_t *y, size_t y_stride)
{
    for (size_t r = 0; r < rows; r = next_block(r, 16, rows)) {
        __m128i v[3], out[3];
        for (size_t i = 0; i < 3; i++)
            v[i] = load_part(x + 3 * r + 16 * i, 16);
        shuffle_3(v, to_planes, out);
        for (size_t c = 0; c < 3; c++)
            store_part(y + c * y_stride + r, out[c], 16);
    }
}

static AVX2 void transpose(size_t rows, size_t cols, const int8_t *x, size_t x_stride, int8_t *y,
                           size_t y_stride)
{
    if (rows >= 16 && cols >= 16) {
        transpose_blocks(rows, cols, x, x_stride, y, y_stride, 16);
    } else if (rows >= 8 && cols >= 8) {
        transpose_blocks(rows, cols, x, x_stride, y, y_stride, 8);
    } else if (rows == 2 && cols >= 16 && y_stride == 2) {
        interleave_2(cols, x, x_stride, y);
    } else if (rows == 3 && cols >= 16 && y_stride == 3) {
        interleave_3(cols, x, x_stride, y);
    } else if (cols == 3 && rows >= 16 && x_stride == 3) {
        separate_3(rows, x, y, y_stride);
    } else {
        for (size_t c = 0; c < cols; c++)
            for (size_t r = 0; r < rows; r++)
                y[c * y_stride + r] = x[r * x_stride + c];
    }
}

void eq_kernels_fill_avx2_move(eq_kernels *kernels)
{
    kernels->bilinear = bilinear;
    kernels->bilinear_u8 = bilinear_u8;
    kernels->transpose = transpose;
}
#endif
