/* SPDX-License-Identifier: Apache-2.0
 *
 * gemm and depthwise: whole layers, packed, sized and run as src_c/ops/conv.c does it. */
#include "kernelcheck.h"

#include <string.h>

enum { TIE_SPREAD = 2 }; /* accumulators land on a rounding threshold or this close to it */

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Bytes of a layout: multiples of EQ_PACK_ALIGN. */
static bool check_size(kc_case *c, const char *what, size_t size)
{
    if (size % EQ_PACK_ALIGN == 0)
        return true;
    return kc_fail(c, "%s returned %zu, which is no multiple of %d", what, size,
                   (int)EQ_PACK_ALIGN);
}

/* ---- gemm */

typedef struct gemm_case {
    kc_filters filters;
    eq_gemm g;
    eq_windows windows;
    size_t pixels, first, end, y_stride;
} gemm_case;

typedef struct gemm_shape {
    size_t channels, runs, length, pieces, pixels;
} gemm_shape;

/* Layers of real networks; pixels as conv.c lists them, at most 24. */
static const gemm_shape real_gemms[] = {
    /* MobileNetV2 */
    {32, 3, 9, 3, 24},
    {16, 1, 32, 1, 24},
    {96, 1, 16, 1, 24},
    {24, 1, 96, 1, 24},
    {144, 1, 24, 1, 24},
    {32, 1, 144, 1, 24},
    {192, 1, 32, 1, 24},
    {64, 1, 192, 1, 24},
    {384, 1, 64, 1, 24},
    {96, 1, 384, 1, 24},
    {576, 1, 96, 1, 24},
    {160, 1, 576, 1, 24},
    {960, 1, 160, 1, 24},
    {320, 1, 960, 1, 24},
    {1280, 1, 320, 1, 24},
    {1001, 1, 1280, 1, 1},
    /* MobileNetV1 0.25 */
    {8, 3, 9, 3, 24},
    {16, 1, 8, 1, 24},
    {32, 1, 16, 1, 24},
    {64, 1, 64, 1, 24},
    {128, 1, 128, 1, 24},
    {256, 1, 256, 1, 9},
    {2, 1, 256, 1, 1},
    /* ResNet8 */
    {16, 3, 9, 3, 24},
    {16, 3, 48, 3, 24},
    {32, 3, 48, 3, 24},
    {32, 1, 16, 1, 24},
    {32, 3, 96, 3, 24},
    {64, 3, 96, 3, 24},
    {64, 3, 192, 3, 24},
    {10, 1, 64, 1, 1},
    /* DS-CNN */
    {64, 10, 4, 4, 24},
    {64, 1, 64, 1, 24},
    {12, 1, 64, 1, 1},
    /* autoencoder */
    {128, 1, 640, 1, 1},
    {128, 1, 128, 1, 1},
    {8, 1, 128, 1, 1},
    {128, 1, 8, 1, 1},
    {640, 1, 128, 1, 1},
};

/* One case in four is a real layer; the others run through all tails of tiles up to 32 x 64. */
static gemm_shape choose_gemm(kc_case *c)
{
    kc_rng *rng = &c->rng;
    const size_t real = sizeof real_gemms / sizeof real_gemms[0];
    if (c->index % 4 == 3)
        return real_gemms[c->index / 4 % real];
    if (c->index % 4 == 2)
        return (gemm_shape){1 + kc_log_below(rng, 300), 1 + kc_log_below(rng, 12),
                            1 + kc_log_below(rng, 150), 1 + kc_log_below(rng, 4),
                            1 + kc_log_below(rng, 60)};
    const size_t i = c->index / 4 * 2 + c->index % 4;
    return (gemm_shape){1 + i % 131, kc_chance(rng, 70) ? 1 : 1 + kc_below(rng, 9), 1 + i * 7 % 67,
                        1, 1 + i * 5 % 33};
}

/* x: a single run a pixel, at a distance that may be shorter than the run. */
static void dense_windows(kc_case *c, gemm_case *t, enum kc_fill fill)
{
    const size_t length = t->g.length;
    size_t step = length;
    if (kc_chance(&c->rng, 30))
        step = 1 + kc_below(&c->rng, 2 * length + 8);
    const size_t size = (t->pixels - 1) * step + length;
    int8_t *x = kc_input(c, "x", size, 1);
    const int8_t **list = kc_input(c, "list of windows", sizeof *list, sizeof *list);
    kc_fill_s8(&c->rng, fill, t->g.params.x_zero, size, x);
    list[0] = x;
    t->windows = (eq_windows){(const int8_t *const *)list, step, 1};
    kc_describe(c, " dense, step %zu", step);
}

/* Pieces anywhere in x, often at its ends, or windows that move on evenly; some are padding. */
static void listed_windows(kc_case *c, gemm_case *t, size_t pieces, enum kc_fill fill)
{
    kc_rng *rng = &c->rng;
    const size_t length = t->g.length / pieces, taps = t->g.runs * pieces;
    const bool even = kc_chance(rng, 40);
    const size_t padding_percent = kc_chance(rng, 50) ? 0 : kc_below(rng, 60);
    const size_t move = kc_below(rng, 2 * length + 1);
    const size_t most = even ? (taps + t->pixels) * (move + length) + length
                             : length + kc_below(rng, 4 * taps * length + 64);
    int8_t *x = kc_input(c, "x", most, 1);
    int8_t *padding = kc_input(c, "padding", length, 1);
    const int8_t **list =
        kc_input(c, "list of windows", t->pixels * taps * sizeof *list, sizeof *list);

    kc_fill_s8(rng, fill, t->g.params.x_zero, most, x);
    memset(padding, t->g.params.x_zero, length);
    for (size_t p = 0; p < t->pixels; p++)
        for (size_t k = 0; k < taps; k++) {
            const size_t way = kc_below(rng, 10);
            size_t at = way < 2 ? 0 : way < 4 ? most - length : kc_below(rng, most - length + 1);
            if (even)
                at = least(p * move + k * length, most - length);
            list[p * taps + k] = kc_chance(rng, padding_percent) ? padding : x + at;
        }
    t->windows = (eq_windows){(const int8_t *const *)list, 0, pieces};
    kc_describe(c, " listed%s, %zu pieces, %zu%% padding", even ? " evenly" : "", pieces,
                padding_percent);
}

/* sum of (x - x_zero) * (w - w_zero) of a window */
static int32_t window_sum(const gemm_case *t, size_t p, size_t n)
{
    const eq_gemm *g = &t->g;
    const size_t length = g->length / t->windows.pieces, taps = g->runs * t->windows.pieces;
    const int8_t *w = g->w + n * g->runs * g->length;
    int32_t sum = 0;
    for (size_t k = 0; k < taps; k++) {
        const int8_t *x =
            t->windows.step ? t->windows.x[0] + p * t->windows.step : t->windows.x[p * taps + k];
        for (size_t i = 0; i < length; i++)
            sum += (x[i] - g->params.x_zero) * (*w++ - g->params.w_zero);
    }
    return sum;
}

/* A bias for which channel n's accumulator at pixel p lies on a rounding threshold or next to it.
 */
static void tie(kc_case *c, const kc_filters *f, const eq_channel_params *p, size_t n, int32_t sum)
{
    const int32_t q = kc_between(&c->rng, p->act_min, p->act_max + 1);
    const int64_t acc =
        (int64_t)kc_threshold(p, n, q) + kc_between(&c->rng, -TIE_SPREAD, TIE_SPREAD);
    const int64_t bias = acc - sum, room = INT32_MAX - kc_reach(p, f, n);
    if (bias >= -room && bias <= room)
        ((int32_t *)(uintptr_t)p->bias)[n] = (int32_t)bias;
}

static void choose_part(kc_case *c, gemm_case *t)
{
    kc_rng *rng = &c->rng;
    const size_t channels = t->g.channels;
    const size_t blocks = (channels + EQ_CHANNEL_BLOCK - 1) / EQ_CHANNEL_BLOCK;
    const size_t a = kc_below(rng, blocks), b = a + 1 + kc_below(rng, blocks - a);
    const bool part = kc_chance(rng, 40);
    t->first = part ? a * EQ_CHANNEL_BLOCK : 0;
    t->end = part ? least(b * EQ_CHANNEL_BLOCK, channels) : channels;
    t->y_stride = channels;
    if (kc_chance(rng, 30))
        t->y_stride += kc_below(rng, 100);
    kc_describe(c, " channels %zu..%zu y_stride %zu", t->first, t->end, t->y_stride);
}

static void make_gemm(kc_case *c, gemm_case *t)
{
    kc_rng *rng = &c->rng;
    gemm_shape s = choose_gemm(c);
    const enum kc_fill fill = kc_any_fill(rng);
    bool extreme;

    if (s.length % s.pieces != 0)
        s.length *= s.pieces;
    t->pixels = s.pixels;
    t->filters = (kc_filters){NULL, s.channels, s.runs * s.length, s.runs * s.length, 1};
    kc_describe(c, "channels %zu runs %zu length %zu pixels %zu", s.channels, s.runs, s.length,
                s.pixels);
    kc_layer(c, &t->filters, &t->g.params, &extreme);
    t->g.channels = s.channels;
    t->g.runs = s.runs;
    t->g.length = s.length;
    t->g.w = t->filters.w;
    kc_describe(c, " x %s", kc_fill_name(extreme ? KC_EXTREME : fill));
    if (s.runs == 1 && s.pieces == 1 && kc_chance(rng, 60))
        dense_windows(c, t, extreme ? KC_EXTREME : fill);
    else
        listed_windows(c, t, kc_chance(rng, 40) ? 1 : s.pieces, extreme ? KC_EXTREME : fill);
    choose_part(c, t);
    if (!extreme && t->g.params.bias != NULL && kc_chance(rng, 40)) {
        kc_describe(c, " ties");
        for (size_t n = t->first; n < t->end; n++)
            tie(c, &t->filters, &t->g.params, n, window_sum(t, kc_below(rng, t->pixels), n));
    }
    t->g.params.bound = kc_bound(&t->g.params, &t->filters);
    if (kc_chance(rng,
                  25)) /* that of a layer with more groups, of which this one is not the largest */
        t->g.params.bound += kc_between(rng, 0, (int32_t)(INT32_MAX - t->g.params.bound));
    kc_describe(c, " bound %lld", (long long)t->g.params.bound);
}

/* The layer as the slots see it at their different times; *g is an input of its own. */
static eq_gemm *gemm_view(kc_case *c, const gemm_case *t, const void *packed, int64_t bound)
{
    eq_gemm *g = kc_input(c, "struct eq_gemm", sizeof *g, _Alignof(eq_gemm));
    *g = t->g;
    g->packed = packed;
    g->params.bound = bound;
    return g;
}

static bool pack_gemm(kc_case *c, const eq_kernels *k, const char *who, const eq_gemm *g,
                      void *packed, size_t *size)
{
    kc_seal(c);
    return KC_CALL(c, who, *size = k->gemm_pack(g, packed)) && kc_intact(c, who);
}

static bool size_gemm(kc_case *c, const eq_kernels *k, const char *who, const eq_gemm *g,
                      size_t pixels, size_t *size)
{
    kc_seal(c);
    return KC_CALL(c, who, *size = k->gemm_scratch(g, pixels)) && kc_intact(c, who);
}

/* Packs, sizes and runs; y is that of pixel 0, channel 0. */
static bool run_gemm(kc_case *c, const eq_kernels *k, const char *who, const gemm_case *t,
                     int8_t *y)
{
    const void *nowhere = kc_input(c, "g->packed while packing", 0, 1);
    const size_t more = kc_below(&c->rng, 4);
    size_t size = 0, again = 0, scratch_size = 0;
    /* conv.c does not know the bound when it counts and when it runs */
    const int64_t bound = kc_chance(&c->rng, 50) ? 0 : t->g.params.bound;
    eq_gemm *count = gemm_view(c, t, nowhere, bound);
    eq_gemm *pack = gemm_view(c, t, nowhere, t->g.params.bound);
    eq_windows *windows = kc_input(c, "struct eq_windows", sizeof *windows, _Alignof(eq_windows));
    *windows = t->windows;

    if (!pack_gemm(c, k, who, count, NULL, &size) || !check_size(c, "gemm_pack", size))
        return false;
    void *packed = size == 0 ? NULL : kc_output(c, "packed", size, EQ_PACK_ALIGN);
    if (size > 0 && !pack_gemm(c, k, who, pack, packed, &again))
        return false;
    if (again != size)
        return kc_fail(c, "gemm_pack counted %zu bytes, then returned %zu", size, again);
    kc_freeze(c, packed);
    eq_gemm *run = gemm_view(c, t, packed, bound);
    if (!size_gemm(c, k, who, run, t->pixels + more, &scratch_size)
        || !check_size(c, "gemm_scratch", scratch_size))
        return false;
    void *scratch = kc_output(c, "scratch", scratch_size, EQ_PACK_ALIGN);
    kc_seal(c);
    return KC_CALL(c, who,
                   k->gemm(run, t->pixels, t->first, t->end, windows, y, t->y_stride, scratch))
           && kc_intact(c, who);
}

/* y of `size` bytes as both write it, the gaps included; the tested kernel's starts `skip` bytes
 * before its buffer, in the guard page. */
static bool compare_gemm(kc_case *c, const gemm_case *t)
{
    const size_t size = (t->pixels - 1) * t->y_stride + t->end - t->first;
    int8_t *y = kc_output(c, "y", size, 1), *expected = kc_plain(0, size);
    memcpy(expected, y, size);
    return run_gemm(c, c->scalar, "scalar", t, expected - t->first)
           && run_gemm(c, c->tested, "kernel", t, y - t->first)
           && kc_equal(c, "y", size, 1, t->y_stride, expected, y);
}

bool kc_gemm(kc_case *c)
{
    gemm_case t;
    memset(&t, 0, sizeof t);
    make_gemm(c, &t);
    return compare_gemm(c, &t);
}

/* ---- depthwise */

typedef struct depthwise_case {
    kc_filters filters;
    eq_depthwise d;
    const int8_t *const *rows;
    size_t pixels;
    ptrdiff_t left;
} depthwise_case;

typedef struct depthwise_shape {
    size_t channels, multiplier, kernel_h, kernel_w, stride, dilation, width;
} depthwise_shape;

static const depthwise_shape real_depthwise[] = {
    /* MobileNetV2 */
    {32, 1, 3, 3, 1, 1, 112},
    {96, 1, 3, 3, 2, 1, 112},
    {144, 1, 3, 3, 1, 1, 56},
    {144, 1, 3, 3, 2, 1, 56},
    {192, 1, 3, 3, 1, 1, 28},
    {192, 1, 3, 3, 2, 1, 28},
    {384, 1, 3, 3, 1, 1, 14},
    {576, 1, 3, 3, 2, 1, 14},
    {960, 1, 3, 3, 1, 1, 7},
    /* MobileNetV1 0.25 */
    {8, 1, 3, 3, 1, 1, 48},
    {16, 1, 3, 3, 2, 1, 48},
    {32, 1, 3, 3, 1, 1, 24},
    {64, 1, 3, 3, 2, 1, 12},
    {128, 1, 3, 3, 1, 1, 6},
    {256, 1, 3, 3, 1, 1, 3},
    /* DS-CNN, EfficientNet-like, speech commands, MobileNetV3 */
    {64, 1, 3, 3, 1, 1, 5},
    {240, 1, 5, 5, 2, 1, 28},
    {72, 1, 5, 5, 1, 1, 28},
    {8, 8, 10, 8, 2, 1, 40},
    {40, 1, 9, 1, 1, 1, 1},
    {64, 1, 1, 9, 1, 2, 40},
};

static depthwise_shape choose_depthwise(kc_case *c)
{
    kc_rng *rng = &c->rng;
    const size_t real = sizeof real_depthwise / sizeof real_depthwise[0], i = c->index;
    depthwise_shape s;
    if (i % 5 == 4)
        return real_depthwise[i / 5 % real];
    s.channels = 1 + i % 131;
    s.multiplier = 1;
    s.kernel_h = s.kernel_w = (size_t)KC_ONE_OF(rng, 3, 3, 3, 5, 5, 7, 1, 2);
    if (kc_chance(rng, 40)) {
        s.kernel_h = 1 + kc_below(rng, 7);
        s.kernel_w = kc_chance(rng, 30) ? 1 : 1 + kc_below(rng, 7);
    }
    s.stride = 1 + kc_log_below(rng, 3);
    s.dilation = kc_chance(rng, 75) ? 1 : 1 + kc_below(rng, 4);
    s.width = 1 + kc_log_below(rng, 40);
    if (kc_chance(rng, 15)) {
        s.multiplier = 1 + kc_below(rng, 9);
        s.channels = s.multiplier * (1 + kc_log_below(rng, 20));
    }
    return s;
}

/* Rows in memory of their own, or one behind the other as in an image; some lie in the padding. */
static void choose_rows(kc_case *c, depthwise_case *t, enum kc_fill fill)
{
    kc_rng *rng = &c->rng;
    const eq_depthwise *d = &t->d;
    const size_t row = d->width * (d->channels / d->multiplier);
    const size_t none_percent = kc_chance(rng, 60) ? 0 : kc_below(rng, 101);
    const bool image = kc_chance(rng, 50);
    const int8_t **rows = kc_input(c, "list of rows", d->kernel_h * sizeof *rows, sizeof *rows);
    int8_t *x = image ? kc_input(c, "x", row * d->kernel_h, 1) : NULL;
    size_t missing = 0;
    for (size_t i = 0; i < d->kernel_h; i++) {
        int8_t *at = image ? x + i * row : kc_input(c, "a row of x", row, 1);
        kc_fill_s8(rng, fill, d->params.x_zero, row, at);
        rows[i] = kc_chance(rng, none_percent) ? NULL : at;
        missing += rows[i] == NULL;
    }
    t->rows = (const int8_t *const *)rows;
    kc_describe(c, " rows %s, %zu NULL", image ? "of an image" : "apart", missing);
}

/* From a full row with its padding on both sides to any part of one. */
static void choose_columns(kc_case *c, depthwise_case *t)
{
    kc_rng *rng = &c->rng;
    const eq_depthwise *d = &t->d;
    const size_t span = (d->kernel_w - 1) * d->dilation + 1;
    const size_t reach = d->width + span + 2;
    t->left = -(ptrdiff_t)kc_below(rng, span);
    t->pixels = (d->width + span - 1) / d->stride + 1;
    if (kc_chance(rng, 40)) {
        t->left = (ptrdiff_t)kc_below(rng, reach) - (ptrdiff_t)span - 1;
        t->pixels = 1 + kc_below(rng, d->width + span);
    }
    kc_describe(c, " left %td pixels %zu", t->left, t->pixels);
}

/* sum of (x - x_zero) * (w - w_zero) of output pixel p */
static int32_t column_sum(const depthwise_case *t, size_t p, size_t n)
{
    const eq_depthwise *d = &t->d;
    const size_t depth = d->channels / d->multiplier;
    int32_t sum = 0;
    for (size_t i = 0; i < d->kernel_h; i++)
        for (size_t j = 0; j < d->kernel_w; j++) {
            const ptrdiff_t at = t->left + (ptrdiff_t)(p * d->stride + j * d->dilation);
            if (t->rows[i] == NULL || at < 0 || at >= (ptrdiff_t)d->width)
                continue;
            sum += (t->rows[i][(size_t)at * depth + n / d->multiplier] - d->params.x_zero)
                   * (d->w[(i * d->kernel_w + j) * d->channels + n] - d->params.w_zero);
        }
    return sum;
}

static void make_depthwise(kc_case *c, depthwise_case *t)
{
    kc_rng *rng = &c->rng;
    const depthwise_shape s = choose_depthwise(c);
    const enum kc_fill fill = kc_any_fill(rng);
    bool extreme;
    t->filters = (kc_filters){NULL, s.channels, s.kernel_h * s.kernel_w, 1, s.channels};
    t->d = (eq_depthwise){.channels = s.channels,
                          .multiplier = s.multiplier,
                          .kernel_h = s.kernel_h,
                          .kernel_w = s.kernel_w,
                          .stride = s.stride,
                          .dilation = s.dilation,
                          .width = s.width};
    kc_describe(c, "channels %zu multiplier %zu kernel %zux%zu stride %zu dilation %zu width %zu",
                s.channels, s.multiplier, s.kernel_h, s.kernel_w, s.stride, s.dilation, s.width);
    kc_layer(c, &t->filters, &t->d.params, &extreme);
    t->d.w = t->filters.w;
    kc_describe(c, " x %s", kc_fill_name(extreme ? KC_EXTREME : fill));
    choose_rows(c, t, extreme ? KC_EXTREME : fill);
    choose_columns(c, t);
    if (!extreme && t->d.params.bias != NULL && kc_chance(rng, 40)) {
        kc_describe(c, " ties");
        for (size_t n = 0; n < s.channels; n++)
            tie(c, &t->filters, &t->d.params, n, column_sum(t, kc_below(rng, t->pixels), n));
    }
    t->d.params.bound = kc_bound(&t->d.params, &t->filters);
    kc_describe(c, " bound %lld", (long long)t->d.params.bound);
}

static eq_depthwise *depthwise_view(kc_case *c, const depthwise_case *t, const void *packed,
                                    int64_t bound)
{
    eq_depthwise *d = kc_input(c, "struct eq_depthwise", sizeof *d, _Alignof(eq_depthwise));
    *d = t->d;
    d->packed = packed;
    d->params.bound = bound;
    return d;
}

static bool pack_depthwise(kc_case *c, const eq_kernels *k, const char *who, const eq_depthwise *d,
                           void *packed, size_t *size)
{
    kc_seal(c);
    return KC_CALL(c, who, *size = k->depthwise_pack(d, packed)) && kc_intact(c, who);
}

static bool size_depthwise(kc_case *c, const eq_kernels *k, const char *who, const eq_depthwise *d,
                           size_t *size)
{
    kc_seal(c);
    return KC_CALL(c, who, *size = k->depthwise_scratch(d)) && kc_intact(c, who);
}

static bool run_depthwise(kc_case *c, const eq_kernels *k, const char *who, const depthwise_case *t,
                          int8_t *y)
{
    const void *nowhere = kc_input(c, "d->packed while packing", 0, 1);
    const int64_t bound = kc_chance(&c->rng, 50) ? 0 : t->d.params.bound;
    size_t size = 0, again = 0, scratch_size = 0;
    eq_depthwise *count = depthwise_view(c, t, nowhere, bound);
    eq_depthwise *pack = depthwise_view(c, t, nowhere, t->d.params.bound);

    if (!pack_depthwise(c, k, who, count, NULL, &size) || !check_size(c, "depthwise_pack", size))
        return false;
    void *packed = size == 0 ? NULL : kc_output(c, "packed", size, EQ_PACK_ALIGN);
    if (size > 0 && !pack_depthwise(c, k, who, pack, packed, &again))
        return false;
    if (again != size)
        return kc_fail(c, "depthwise_pack counted %zu bytes, then returned %zu", size, again);
    kc_freeze(c, packed);
    eq_depthwise *run = depthwise_view(c, t, packed, bound);
    if (!size_depthwise(c, k, who, run, &scratch_size)
        || !check_size(c, "depthwise_scratch", scratch_size))
        return false;
    void *scratch = kc_output(c, "scratch", scratch_size, EQ_PACK_ALIGN);
    kc_seal(c);
    return KC_CALL(c, who, k->depthwise(run, t->pixels, t->rows, t->left, y, scratch))
           && kc_intact(c, who);
}

bool kc_depthwise(kc_case *c)
{
    depthwise_case t;
    memset(&t, 0, sizeof t);
    make_depthwise(c, &t);
    const size_t size = t.pixels * t.d.channels;
    int8_t *y = kc_output(c, "y", size, 1), *expected = kc_plain(0, size);
    memcpy(expected, y, size);
    return run_depthwise(c, c->scalar, "scalar", &t, expected)
           && run_depthwise(c, c->tested, "kernel", &t, y)
           && kc_equal(c, "y", size, 1, t.d.channels, expected, y);
}
