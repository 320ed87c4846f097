/* SPDX-License-Identifier: Apache-2.0
 *
 * The slots that make one output pixel of several input pixels: pools and bilinear resizing. */
#include "kernelcheck.h"

#include <string.h>

enum { BLOCK_TAIL = 2 * 64 + 1 };

static size_t choose_channels(kc_case *c)
{
    return c->index % 2 == 0 ? 1 + c->index / 2 % BLOCK_TAIL : 1 + kc_log_below(&c->rng, 1500);
}

/* `count` pixels anywhere in x, often at its ends. */
static const int8_t **choose_pixels(kc_case *c, size_t channels, size_t count)
{
    kc_rng *rng = &c->rng;
    const enum kc_fill fill = kc_any_fill(rng);
    const size_t size = channels + kc_below(rng, channels * (count < 8 ? count : 8) + 1);
    const int8_t **list = kc_input(c, "list of pixels", count * sizeof *list, sizeof *list);
    int8_t *x = kc_input(c, "x", size, 1);
    kc_fill_s8(rng, fill, 0, size, x);
    for (size_t i = 0; i < count; i++) {
        const size_t way = kc_below(rng, 4);
        list[i] = x
                  + (way == 0   ? 0
                     : way == 1 ? size - channels
                                : kc_below(rng, size - channels + 1));
    }
    kc_describe(c, "channels %zu pixels %zu x %s", channels, count, kc_fill_name(fill));
    return list;
}

/* ---- pools */

/* Up to global pools, and sums beyond 16 bits. */
static void choose_window(kc_case *c, eq_pool *p)
{
    kc_rng *rng = &c->rng;
    p->rows = p->cols = (size_t)KC_ONE_OF(rng, 1, 2, 2, 3, 3, 4, 5, 7, 8, 14);
    if (kc_chance(rng, 40)) {
        p->rows = 1 + kc_log_below(rng, c->full ? 300 : 60);
        p->cols = 1 + kc_log_below(rng, c->full ? 300 : 60);
    }
}

static const int8_t *choose_pool(kc_case *c, eq_pool *p, size_t *pixels)
{
    kc_rng *rng = &c->rng;
    const enum kc_fill fill = kc_any_fill(rng);
    const size_t limit = 1 << 20; /* of the input */
    p->channels = choose_channels(c);
    *pixels = 1 + kc_log_below(rng, 20);
    choose_window(c, p);
    if (c->bench != NULL) {
        p->channels = c->bench->size[0];
        p->rows = c->bench->size[1];
        p->cols = c->bench->size[2];
        *pixels = c->bench->size[3];
    }
    const size_t row = p->cols * p->channels, stray = kc_chance(rng, 20) ? kc_below(rng, 50) : 0;
    p->step = p->channels * (1 + kc_below(rng, 3)) + stray;
    p->row_stride = (*pixels - 1) * p->step + row + kc_below(rng, 2) * kc_below(rng, 200);
    if (*pixels == 1 && kc_chance(rng, 30))
        p->step = 0;
    if (p->rows * p->row_stride > limit)
        p->rows = 1 + limit / (p->row_stride + 1);
    const size_t size = (*pixels - 1) * p->step + (p->rows - 1) * p->row_stride + row;
    int8_t *x = kc_input(c, "x", size, 1);
    kc_fill_s8(rng, fill, 0, size, x);
    kc_describe(c, "channels %zu window %zux%zu step %zu row_stride %zu pixels %zu x %s",
                p->channels, p->rows, p->cols, p->step, p->row_stride, *pixels, kc_fill_name(fill));
    return x;
}

/* One channel for each sum that the window can have, or for those around the ties. */
static const int8_t *every_sum(kc_case *c, eq_pool *p, size_t *pixels)
{
    kc_rng *rng = &c->rng;
    const int32_t taps = 1 + (int32_t)kc_log_below(rng, 200);
    const bool all = taps <= 16;
    const size_t channels = all ? (size_t)(255 * taps + 1) : 1000;
    int8_t *x = kc_input(c, "x", (size_t)taps * channels, 1);
    for (size_t n = 0; n < channels; n++) {
        const int32_t half = taps / 2 + kc_between(rng, -1, 1);
        const int32_t sum = all ? (int32_t)n : kc_between(rng, 0, 254) * taps + half;
        for (int32_t t = 0; t < taps; t++)
            x[(size_t)t * channels + n] = (int8_t)(sum / taps + (t < sum % taps) - 128);
    }
    p->channels = channels;
    p->rows = 1;
    p->cols = (size_t)taps;
    p->row_stride = p->step = 0;
    *pixels = 1;
    kc_describe(c, "channels %zu window 1x%d x: every sum", channels, taps);
    return x;
}

static eq_pool *pool_input(kc_case *c, const eq_pool *values, bool average)
{
    eq_pool *p = kc_input(c, "struct eq_pool", sizeof *p, _Alignof(eq_pool));
    *p = *values;
    kc_activation(&c->rng, &p->act_min, &p->act_max);
    p->offset = average && !c->rng.usual && kc_chance(&c->rng, 40) ? 128 : 0;
    kc_describe(c, " act %d..%d offset %d", p->act_min, p->act_max, p->offset);
    return p;
}

bool kc_max_pool(kc_case *c)
{
    eq_pool values = {0};
    size_t pixels;
    const int8_t *x = choose_pool(c, &values, &pixels);
    const eq_pool *p = pool_input(c, &values, false);
    const size_t n = pixels * p->channels;
    int8_t *y = kc_output(c, "y", n, 1), *expected = kc_plain(0, n);
    kc_seal(c);
    return KC_TIMED(c, "scalar", c->scalar->max_pool(p, pixels, x, expected))
           && KC_TIMED(c, "kernel", c->tested->max_pool(p, pixels, x, y)) && kc_intact(c, "kernel")
           && kc_equal(c, "y", n, 1, p->channels, expected, y);
}

static bool run_average_pool(kc_case *c, const eq_pool *p, size_t pixels, const int8_t *x)
{
    const size_t n = pixels * p->channels;
    int8_t *y = kc_output(c, "y", n, 1), *expected = kc_plain(0, n);
    kc_seal(c);
    return KC_TIMED(c, "scalar", c->scalar->average_pool(p, pixels, x, expected))
           && KC_TIMED(c, "kernel", c->tested->average_pool(p, pixels, x, y))
           && kc_intact(c, "kernel") && kc_equal(c, "y", n, 1, p->channels, expected, y);
}

bool kc_average_pool(kc_case *c)
{
    eq_pool values = {0};
    size_t pixels;
    const bool sums = c->bench == NULL && c->index % 8 == 7;
    const int8_t *x = sums ? every_sum(c, &values, &pixels) : choose_pool(c, &values, &pixels);
    return run_average_pool(c, pool_input(c, &values, true), pixels, x);
}

/* ---- resizing: pixels (lower row, lower column), (upper, lower), (lower, upper), (upper, upper)
 */

/* Weights of an axis in Q10 as src_c/ops/resize.c computes them; before the first sample both are
 * that one, and one weight is negative. */
static int32_t choose_rest(kc_rng *rng)
{
    const size_t way = kc_below(rng, 8);
    return way < 4   ? kc_between(rng, 0, 1023)
           : way < 7 ? 128 * kc_between(rng, 0, 7)
                     : kc_between(rng, -512, -1);
}

bool kc_bilinear(kc_case *c)
{
    kc_rng *rng = &c->rng;
    const size_t channels = c->bench ? c->bench->size[0] : choose_channels(c);
    const int8_t **x = choose_pixels(c, channels, 4);
    int32_t *w = kc_input(c, "w", 4 * sizeof *w, sizeof *w);
    const int32_t row = choose_rest(rng), col = choose_rest(rng);
    if (row < 0) {
        x[1] = x[0];
        x[3] = x[2];
    }
    if (col < 0) {
        x[2] = x[0];
        x[3] = x[1];
    }
    for (int i = 0; i < 4; i++)
        w[i] = (i & 1 ? row : 1024 - row) * (i >> 1 ? col : 1024 - col);
    kc_describe(c, " row %d col %d", row, col);
    int8_t *y = kc_output(c, "y", channels, 1), *expected = kc_plain(0, channels);
    const int8_t *const *from = (const int8_t *const *)x;
    kc_seal(c);
    return KC_TIMED(c, "scalar", c->scalar->bilinear(channels, from, w, expected))
           && KC_TIMED(c, "kernel", c->tested->bilinear(channels, from, w, y))
           && kc_intact(c, "kernel") && kc_equal(c, "y", channels, 1, channels, expected, y);
}

/* Fractions of few bits, of many, and any weights up to the limit of their magnitudes' sum. */
static void choose_weights_u8(kc_rng *rng, int32_t w[4])
{
    const size_t way = kc_below(rng, 4);
    const int32_t row = kc_between(rng, 0, way == 0 ? 8 : 1024) * (way == 0 ? 128 : 1);
    const int32_t col = kc_between(rng, 0, way == 0 ? 8 : 1024) * (way == 0 ? 128 : 1);
    int32_t left = (1 << 22) + 4;
    for (int i = 0; i < 4; i++)
        w[i] = (i & 1 ? row : 1024 - row) * (i >> 1 ? col : 1024 - col);
    if (way == 1) /* off by the rounding of products to Q20 */
        for (int i = 0; i < 4; i++)
            w[i] += kc_between(rng, -1, 1);
    if (way == 2)
        for (int i = 0; i < 4; i++) {
            const int32_t magnitude = i == 3 ? left : kc_between(rng, 0, left);
            left -= magnitude;
            w[i] = kc_chance(rng, 30) ? -magnitude : magnitude;
        }
}

bool kc_bilinear_u8(kc_case *c)
{
    const size_t channels = c->bench ? c->bench->size[0] : choose_channels(c);
    const int8_t *const *x = (const int8_t *const *)choose_pixels(c, channels, 4);
    int32_t *w = kc_input(c, "w", 4 * sizeof *w, sizeof *w);
    choose_weights_u8(&c->rng, w);
    kc_describe(c, " w %d %d %d %d", w[0], w[1], w[2], w[3]);
    int8_t *y = kc_output(c, "y", channels, 1), *expected = kc_plain(0, channels);
    int *near = kc_plain(1, 2 * sizeof *near);
    kc_seal(c);
    if (!KC_TIMED(c, "scalar", near[0] = c->scalar->bilinear_u8(channels, x, w, expected))
        || !KC_TIMED(c, "kernel", near[1] = c->tested->bilinear_u8(channels, x, w, y))
        || !kc_intact(c, "kernel") || !kc_equal(c, "y", channels, 1, channels, expected, y))
        return false;
    return near[0] == near[1] || kc_fail(c, "returned %d, expected %d", near[1], near[0]);
}
