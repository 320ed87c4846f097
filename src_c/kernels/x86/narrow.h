/* SPDX-License-Identifier: Apache-2.0
 *
 * Depthwise channels that would fill at most half of a group: a group's lanes hold several pixels
 * of `width` channels side by side. Included by depthwise.h; besides what that asks for, the
 * including file defines interleave(rows, out), which makes the dwords of GROUP bytes of each of
 * four rows, load_bytes, and store_flipped(x, out), GROUP bytes of x + 128.
 *
 * The input rows are copied as values, [row][column][width], padding included: then the pixels of a
 * group lie together. That is worth it where windows are neighbours (stride 1). */
#ifndef EQ_KERNELS_X86_NARROW_H
#define EQ_KERNELS_X86_NARROW_H

enum { NARROW_BLOCK = 64 /* output pixels whose rows are copied at a time */ };

/* Channels of the group that begins where `left` channels are left. Eight only where nothing is
 * between them and those of the next pixel. */
static size_t group_width(const eq_depthwise *d, size_t left)
{
    const size_t least = d->channels <= 8 ? 8 : 16;
    size_t width = GROUP;
    while (d->stride == 1 && width / 2 >= left && width > least)
        width /= 2;
    return width;
}

typedef struct narrow_layout {
    size_t row, size; /* bytes of a row, of all rows */
} narrow_layout;

static narrow_layout layout_narrow(const eq_depthwise *d, size_t width)
{
    narrow_layout at;
    at.row = (NARROW_BLOCK + (d->kernel_w - 1) * d->dilation) * width;
    /* the last group of a block may read pixels that are not there */
    at.size = round_up(at.row * d->kernel_h + GROUP, EQ_PACK_ALIGN);
    return at;
}

static size_t narrow_scratch(const eq_depthwise *d)
{
    const size_t width = group_width(d, d->channels % GROUP);
    return d->channels % GROUP == 0 || width == GROUP ? 0 : layout_narrow(d, width).size;
}

INLINE void copy_flat(size_t n, const int8_t *x, uint8_t *out)
{
    const __m128i flip = _mm_set1_epi8(-128);
    for (; n >= GROUP; n -= GROUP, x += GROUP, out += GROUP)
        store_flipped(x, out);
    for (; n >= 16; n -= 16, x += 16, out += 16) {
        const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)x);
        _mm_storeu_si128((__m128i *)(void *)out, _mm_xor_si128(v, flip));
    }
    if (n > 0) { /* eight */
        const __m128i v = _mm_loadl_epi64((const __m128i *)(const void *)x);
        _mm_storel_epi64((__m128i *)(void *)out, _mm_xor_si128(v, flip));
    }
}

/* `columns` columns of a row from `place` on; NULL is padding. */
INLINE void copy_row(const eq_depthwise *d, const int8_t *row, ptrdiff_t place, size_t columns,
                     size_t n, size_t count, const size_t width, uint8_t *out)
{
    const size_t depth = d->channels / d->multiplier;
    const ptrdiff_t last = place + (ptrdiff_t)columns, end = (ptrdiff_t)d->width;
    const ptrdiff_t from = place < 0 ? 0 : place, to = last < end ? last : end;
    const int padding = d->params.x_zero + 128;
    if (row == NULL || from >= to) {
        memset(out, padding, columns * width);
        return;
    }
    const size_t before = (size_t)(from - place), inside = (size_t)(to - from);
    const int8_t *x = row + (size_t)from * depth;
    if (before > 0)
        memset(out, padding, before * width);
    out += before * width;
    if (d->multiplier == 1 && depth == width)
        copy_flat(inside * width, x, out);
    else if (d->multiplier == 1 && count == width)
        for (size_t q = 0; q < inside; q++)
            copy_flat(width, x + q * depth + n, out + q * width);
    else
        for (size_t q = 0; q < inside; q++)
            for (size_t i = 0; i < count; i++)
                out[q * width + i] = (uint8_t)(x[q * depth + (n + i) / d->multiplier] ^ -128);
    if (last > to)
        memset(out + inside * width, padding, (size_t)(last - to) * width);
}

/* What a block is computed from. */
typedef struct narrow_job {
    const eq_depthwise *d;
    const uint8_t *group;
    size_t n, count, width, row, sets;
    int32_t path;
} narrow_job;

/* `some` pixels are there; `out` holds GROUP / width of them. */
static __attribute__((cold)) void decide_narrow(const narrow_job *j, undecided_mask undecided,
                                                const int32_t *sums, size_t some, int8_t *out)
{
    for (; undecided != 0; undecided &= undecided - 1) {
        const size_t i = (size_t)__builtin_ctzll(undecided);
        const size_t at = channel_of(VECTORS, i / LANES, i % LANES);
        if (at / j->width < some && at % j->width < j->count)
            out[at] = requant_one(&j->d->params, j->n + at % j->width, sums[i]);
    }
}

INLINE void run_narrow(const size_t kernel_h, const size_t kernel_w, const narrow_job *j,
                       size_t pixels, const uint8_t *rows, int8_t *y)
{
    const eq_depthwise *d = j->d;
    const int32_t *constants = (const int32_t *)(const void *)j->group;
    const quad_constants c = load_constants(VECTORS, constants);
    const finisher f = make_finisher(j->path, &d->params);
    const size_t set = set_size(d);
    const size_t step = d->dilation * j->width;
    const size_t side = GROUP / j->width, products = (kernel_h + ROWS - 1) / ROWS;

    for (size_t p = 0; p < pixels; p += side, rows += GROUP, y += side * d->channels) {
        const uint8_t *w = j->group + GROUP * CONSTANTS * sizeof(int32_t);
        FORGET(w);
        const size_t some = pixels - p < side ? pixels - p : side;
        undecided_mask undecided;
        vector acc[VECTORS];
#pragma GCC unroll 4
        for (size_t v = 0; v < VECTORS; v++)
            acc[v] = load_vector(constants + (v * CONSTANTS + BIAS) * LANES);
#pragma GCC unroll 3
        for (size_t k = 0; k < kernel_w; k++) {
            const uint8_t *at = rows + k * step;
#pragma GCC unroll 1
            for (size_t i = 0; i < products; i++, w += VECTORS * VECTOR_BYTES) {
                vector r[ROWS], values[VECTORS];
#pragma GCC unroll 4
                for (size_t h = 0; h < ROWS; h++) /* others have weights of 0 */
                    r[h] = i * ROWS + h < kernel_h ? load_bytes(at + (i * ROWS + h) * j->row)
                                                   : load_bytes(at);
                interleave(r, values);
                for (size_t s = 0; s < j->sets; s++)
#pragma GCC unroll 4
                    for (size_t v = 0; v < VECTORS; v++)
                        acc[v] =
                            dot(acc[v], values[v], load_vector(w + s * set + v * VECTOR_BYTES));
            }
        }
        const vector out = finish_quad(&f, acc, &c, &undecided);
        if (some == side && j->width == d->channels && undecided == 0 && j->count == j->width) {
            memcpy(y, &out, GROUP);
            continue;
        }
        int8_t bytes[GROUP];
        memcpy(bytes, &out, GROUP);
        if (undecided != 0) {
            int32_t sums[VECTORS * LANES];
            memcpy(sums, acc, sizeof sums);
            decide_narrow(j, undecided, sums, some, bytes);
        }
        for (size_t i = 0; i < some; i++) {
            int8_t *to = y + i * d->channels;
            const int8_t *from = bytes + i * j->width;
            if (j->count == 16)
                memcpy(to, from, 16);
            else if (j->count == 32)
                memcpy(to, from, 32);
            else if (j->count == 8)
                memcpy(to, from, 8);
            else
                memcpy(to, from, j->count);
        }
    }
}

static TARGET void run_narrow_block(const narrow_job *j, size_t pixels, const uint8_t *rows,
                                    int8_t *y)
{
    if (j->d->kernel_h == 3 && j->d->kernel_w == 3)
        run_narrow(3, 3, j, pixels, rows, y);
    else
        run_narrow(j->d->kernel_h, j->d->kernel_w, j, pixels, rows, y);
}

static TARGET void copy_rows(const narrow_job *j, const int8_t *const *rows, ptrdiff_t place,
                             size_t columns, uint8_t *out)
{
    for (size_t i = 0; i < j->d->kernel_h; i++, out += j->row)
        if (j->width == 16)
            copy_row(j->d, rows[i], place, columns, j->n, j->count, 16, out);
        else if (j->width == 32)
            copy_row(j->d, rows[i], place, columns, j->n, j->count, 32, out);
        else
            copy_row(j->d, rows[i], place, columns, j->n, j->count, 8, out);
}

/* The channels from n on of a part of an output row; all there are. */
static TARGET void depthwise_narrow(const eq_depthwise *d, size_t pixels, const int8_t *const *rows,
                                    ptrdiff_t left, size_t n, int8_t *y, uint8_t *scratch)
{
    const packed_header *header = d->packed;
    const size_t groups = (d->channels + GROUP - 1) / GROUP,
                 width = group_width(d, d->channels - n);
    const uint8_t *used = (const uint8_t *)(header + 1) + n / GROUP;
    const narrow_layout at = layout_narrow(d, width);
    const size_t size = depthwise_group_size(d, (size_t)header->sets);
    const narrow_job job = {
        .d = d,
        .group = (const uint8_t *)header + groups_offset(groups) + n / GROUP * size,
        .n = n,
        .count = d->channels - n,
        .width = width,
        .row = at.row,
        .sets = used[0],
        .path = used[groups],
    };
    for (size_t p = 0, some; p < pixels; p += some) {
        some = pixels - p < NARROW_BLOCK ? pixels - p : NARROW_BLOCK;
        copy_rows(&job, rows, left + (ptrdiff_t)p, some + (d->kernel_w - 1) * d->dilation, scratch);
        run_narrow_block(&job, some, scratch, y + p * d->channels + n);
    }
}

#endif
