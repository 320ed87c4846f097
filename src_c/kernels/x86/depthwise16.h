/* SPDX-License-Identifier: Apache-2.0
 *
 * depthwise16 on 256-bit vectors, behind ymm_gemm16.h: 16 channels at a time, two taps a product.
 *
 * Where x is int16 with as many channels as y, at least 16, it is read in place, and the last block
 * of channels overlaps the one before it. Otherwise the rows of a window go into a panel of int16
 * first, a pixel padded to whole blocks. Packed: a block's factors, biases, then its weights as
 * int16 in the order in which vpunpcklwd and vpunpckhwd bring two taps of 16 channels together. */
#ifndef EQ_KERNELS_X86_DEPTHWISE16_H
#define EQ_KERNELS_X86_DEPTHWISE16_H

enum { BLOCK16 = 16, TAPS_TOGETHER = 508 }; /* 508 * 2^7 * 2^15 < 2^31 */

static bool reads_in_place(const eq_depthwise *d)
{
    return d->params.x_wide && d->multiplier == 1 && d->channels >= BLOCK16;
}

static size_t blocks_of(const eq_depthwise *d)
{
    return (d->channels + BLOCK16 - 1) / BLOCK16;
}

static size_t block_start(const eq_depthwise *d, size_t b)
{
    const size_t last = d->channels - BLOCK16;
    return reads_in_place(d) && b * BLOCK16 > last ? last : b * BLOCK16;
}

static size_t tap_pairs(const eq_depthwise *d)
{
    return (d->kernel_h * d->kernel_w + 1) / 2;
}

static size_t block_size(const eq_depthwise *d)
{
    return align_up(2 * BLOCK16 * sizeof(double) + tap_pairs(d) * 2 * BLOCK16 * sizeof(int16_t));
}

/* Where channel c of a block lies in the 32 weights of two taps. */
static size_t weight_place(size_t c)
{
    const size_t quarter = c / 4; /* 0 and 2 in the lower products, 1 and 3 in the upper ones */
    return (quarter & 1) * 16 + (quarter >> 1) * 8 + c % 4 * 2;
}

static size_t depthwise16_pack(const eq_depthwise *d, void *packed)
{
    const eq_channel_params *p = &d->params;
    const size_t size = sizeof(packed16_header) + blocks_of(d) * block_size(d);
    if (packed == NULL)
        return align_up(size);
    packed16_header *header = packed;
    memset(packed, 0, align_up(size));
    header->slow = !is_exact(p, d->channels);
    for (size_t b = 0; b < blocks_of(d); b++) {
        uint8_t *block = (uint8_t *)(header + 1) + b * block_size(d);
        double *factors = (double *)(void *)block, *bias = factors + BLOCK16;
        int16_t *weights = (int16_t *)(void *)(bias + BLOCK16);
        for (size_t c = 0; c < BLOCK16 && block_start(d, b) + c < d->channels; c++) {
            const size_t n = block_start(d, b) + c;
            factors[c] = p->multiplier[n * p->step] * power_of_two(p->exponent[n * p->step]);
            bias[c] = (double)bias_of(p, n);
            for (size_t t = 0; t < d->kernel_h * d->kernel_w; t++)
                weights[t / 2 * 2 * BLOCK16 + weight_place(c) + t % 2] = d->w[t * d->channels + n];
        }
    }
    return align_up(size);
}

/* Values of a pixel as the inner loop reads it. */
static size_t pixel_values(const eq_depthwise *d)
{
    return reads_in_place(d) ? d->channels : blocks_of(d) * BLOCK16;
}

/* Pointers to the taps of a pixel, the rows of the window, a pixel of zeros, the panel. */
typedef struct depthwise16_layout {
    size_t rows_at, zeros_at, panel_at, size;
} depthwise16_layout;

static depthwise16_layout layout_depthwise16(const eq_depthwise *d)
{
    depthwise16_layout at;
    at.rows_at = align_up(2 * tap_pairs(d) * sizeof(int16_t *));
    at.zeros_at = at.rows_at + align_up(d->kernel_h * sizeof(int16_t *));
    at.panel_at = at.zeros_at + align_up(pixel_values(d) * sizeof(int16_t));
    at.size = at.panel_at;
    if (!reads_in_place(d))
        at.size += align_up(d->kernel_h * d->width * pixel_values(d) * sizeof(int16_t));
    return at;
}

static size_t depthwise16_scratch(const eq_depthwise *d)
{
    return layout_depthwise16(d).size;
}

/* A row of the input as pixels of whole blocks, each channel repeated for its outputs. */
static TARGET void fill_pixels(const eq_depthwise *d, const int8_t *row, int16_t *out)
{
    const size_t depth = d->channels / d->multiplier, values = pixel_values(d);
    const size_t bytes = d->params.x_wide ? 2 : 1;
    for (size_t i = 0; i < d->width; i++, row += depth * bytes, out += values) {
        if (d->multiplier == 1) {
            copy_values16(&d->params, depth, row, out);
        } else {
            const int16_t *wide = (const int16_t *)(const void *)row;
            for (size_t n = 0, k = 0; k < depth; k++)
                for (size_t j = 0; j < d->multiplier; j++)
                    out[n++] = d->params.x_wide ? wide[k] : (int16_t)(row[k] - d->params.x_zero);
        }
        memset(out + d->channels, 0, (values - d->channels) * sizeof *out);
    }
}

/* acc = the products of `pairs` pairs of taps and the weights, channels c ... c + 15. */
static TARGET void multiply_taps(size_t pairs, const int16_t *const *taps, size_t c,
                                 const int16_t *weights, int32_t *acc)
{
    const __m256i *w = (const __m256i *)(const void *)weights;
    __m256i low = _mm256_setzero_si256(), high = low;
    for (size_t t = 0; t < pairs; t++, w += 2) {
        const __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)(taps[2 * t] + c));
        const __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(taps[2 * t + 1] + c));
        low = _mm256_add_epi32(
            low, _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), _mm256_loadu_si256(w)));
        high = _mm256_add_epi32(
            high, _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), _mm256_loadu_si256(w + 1)));
    }
    store_sums(acc, _mm256_permute2x128_si256(low, high, 0x20));
    store_sums(acc + 8, _mm256_permute2x128_si256(low, high, 0x31));
}

/* One output pixel, from pointers to its taps. */
static TARGET void depthwise_pixel(const eq_depthwise *d, const int16_t *const *taps, uint8_t *y)
{
    const packed16_header *header = d->packed;
    const eq_channel_params *p = &d->params;
    const uint8_t *block = (const uint8_t *)(header + 1);
    const size_t pairs = tap_pairs(d), together = TAPS_TOGETHER / 2;
    for (size_t b = 0; b < blocks_of(d); b++, block += block_size(d)) {
        const double *factors = (const double *)(const void *)block, *bias = factors + BLOCK16;
        const int16_t *weights = (const int16_t *)(const void *)(bias + BLOCK16);
        const size_t c = block_start(d, b), left = d->channels - c;
        const size_t count = left < BLOCK16 ? left : BLOCK16;
        int32_t acc[BLOCK16];
        double sums[BLOCK16];
        multiply_taps(pairs < together ? pairs : together, taps, c, weights, acc);
        if (pairs > together) {
            memset(sums, 0, sizeof sums);
            add_chunk(BLOCK16, acc, sums);
            for (size_t t = together; t < pairs; t += together) {
                multiply_taps(pairs - t < together ? pairs - t : together, taps + 2 * t, c,
                              weights + t * 2 * BLOCK16, acc);
                add_chunk(BLOCK16, acc, sums);
            }
        }
        const double *wide = pairs > together ? sums : NULL;
        if (header->slow)
            finish_slowly(p, c, count, acc, wide, y + (c << p->y_wide));
        else
            scale(count, acc, wide, factors, bias, p, y + (c << p->y_wide));
    }
}

static TARGET void depthwise16(const eq_depthwise *d, size_t pixels, const int8_t *const *rows,
                               ptrdiff_t left, void *y, void *scratch)
{
    const depthwise16_layout at = layout_depthwise16(d);
    const size_t values = pixel_values(d), taps_count = d->kernel_h * d->kernel_w;
    const int16_t **taps = scratch;
    const int16_t **wide = (const int16_t **)(void *)((uint8_t *)scratch + at.rows_at);
    int16_t *zeros = (int16_t *)(void *)((uint8_t *)scratch + at.zeros_at);
    int16_t *panel = (int16_t *)(void *)((uint8_t *)scratch + at.panel_at);
    uint8_t *to = y;

    memset(zeros, 0, values * sizeof *zeros);
    for (size_t i = 0; i < d->kernel_h; i++, panel += d->width * values) {
        wide[i] = (const int16_t *)(const void *)rows[i];
        if (rows[i] != NULL && !reads_in_place(d)) {
            fill_pixels(d, rows[i], panel);
            wide[i] = panel;
        }
    }
    taps[2 * tap_pairs(d) - 1] = zeros; /* of an odd number of taps */
    for (size_t p = 0; p < pixels; p++, left += (ptrdiff_t)d->stride) {
        for (size_t t = 0; t < taps_count; t++) {
            const ptrdiff_t column = left + (ptrdiff_t)(t % d->kernel_w * d->dilation);
            const int16_t *row = wide[t / d->kernel_w];
            const bool inside = row != NULL && column >= 0 && column < (ptrdiff_t)d->width;
            taps[t] = inside ? row + (size_t)column * values : zeros;
        }
        depthwise_pixel(d, taps, to);
        to += d->channels << d->params.y_wide;
    }
}

#endif
