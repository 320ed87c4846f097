/* SPDX-License-Identifier: Apache-2.0
 *
 * gemm: whole layers, packed, sized and run as src_c/ops/conv.c does it. */
#include "kernelcheck.h"

#include <string.h>

enum { MOST_MACS = 1 << 20 }; /* of a random case: scalar is slow */

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

typedef struct gemm_shape {
    size_t channels, runs, length, pixels;
} gemm_shape;

/* Layers of real networks; pixels as conv.c lists them, at most 24. */
static const gemm_shape real_gemms[] = {
    /* MobileNetV2 */
    {32, 3, 9, 24},
    {16, 1, 32, 24},
    {96, 1, 16, 24},
    {24, 1, 96, 24},
    {144, 1, 24, 24},
    {32, 1, 144, 24},
    {192, 1, 32, 24},
    {64, 1, 192, 24},
    {384, 1, 64, 24},
    {96, 1, 384, 24},
    {576, 1, 96, 24},
    {160, 1, 576, 24},
    {960, 1, 160, 24},
    {320, 1, 960, 24},
    {1280, 1, 320, 24},
    {1001, 1, 1280, 1},
    /* MobileNetV1 0.25 */
    {8, 3, 9, 24},
    {16, 1, 8, 24},
    {32, 1, 16, 24},
    {64, 1, 64, 24},
    {128, 1, 128, 24},
    {256, 1, 256, 9},
    {2, 1, 256, 1},
    /* ResNet8 */
    {16, 3, 9, 24},
    {16, 3, 48, 24},
    {32, 3, 48, 24},
    {32, 1, 16, 24},
    {32, 3, 96, 24},
    {64, 3, 96, 24},
    {64, 3, 192, 24},
    {10, 1, 64, 1},
    /* DS-CNN */
    {64, 10, 4, 24},
    {64, 1, 64, 24},
    {12, 1, 64, 1},
    /* autoencoder */
    {128, 1, 640, 1},
    {128, 1, 128, 1},
    {8, 1, 128, 1},
    {128, 1, 8, 1},
    {640, 1, 128, 1},
};

/* One case in four is a real layer; the others run through all tails of tiles up to 32 x 64. */
static gemm_shape choose_gemm(kc_case *c)
{
    kc_rng *rng = &c->rng;
    const size_t real = sizeof real_gemms / sizeof real_gemms[0];
    if (c->bench != NULL) {
        const size_t *size = c->bench->size;
        return (gemm_shape){size[0], size[1], size[2], size[3]};
    }
    if (c->index % 4 == 3) {
        gemm_shape s = real_gemms[c->index / 4 % real];
        s.pixels = kc_chance(rng, 30) ? s.pixels : 1 + kc_below(rng, s.pixels);
        return s;
    }
    if (c->index % 4 == 2) {
        gemm_shape s = {1 + kc_log_below(rng, 300), 1 + kc_log_below(rng, 25),
                        1 + kc_log_below(rng, 200), 1 + kc_log_below(rng, 60)};
        while (s.channels * s.runs * s.length * s.pixels > MOST_MACS && s.pixels > 1)
            s.pixels /= 2;
        return s;
    }
    const size_t i = c->index / 4 * 2 + c->index % 4;
    return (gemm_shape){1 + i % 131, kc_chance(rng, 70) ? 1 : 1 + kc_below(rng, 9), 1 + i * 7 % 67,
                        1 + i * 5 % 33};
}

/* x: a single run a pixel, at a distance that may be shorter than the run. */
static void dense_windows(kc_case *c, kc_gemm_case *t, enum kc_fill fill)
{
    const size_t length = t->g.length;
    size_t step = length;
    if (!c->rng.usual && kc_chance(&c->rng, 30))
        step = 1 + kc_below(&c->rng, 2 * length + 8);
    const size_t size = (t->pixels - 1) * step + length;
    int8_t *x = kc_input(c, "x", size, 1);
    const int8_t **list = kc_input(c, "list of windows", sizeof *list, sizeof *list);
    kc_fill_s8(&c->rng, fill, t->g.params.x_zero, size, x);
    list[0] = x;
    t->windows = (eq_windows){(const int8_t *const *)list, step};
    kc_describe(c, " dense, step %zu", step);
}

/* Runs anywhere in x, often at its ends, or windows that move on evenly; some are padding. */
static void listed_windows(kc_case *c, kc_gemm_case *t, enum kc_fill fill)
{
    kc_rng *rng = &c->rng;
    const size_t length = t->g.length, runs = t->g.runs;
    const bool even = rng->usual || kc_chance(rng, 40);
    const size_t padding_percent = rng->usual || kc_chance(rng, 50) ? 0 : kc_below(rng, 60);
    const size_t move = rng->usual ? length : kc_below(rng, 2 * length + 1);
    const size_t most = even ? (runs + t->pixels) * (move + length) + length
                             : length + kc_below(rng, 4 * runs * length + 64);
    int8_t *x = kc_input(c, "x", most, 1);
    int8_t *padding = kc_input(c, "padding", length, 1);
    const int8_t **list =
        kc_input(c, "list of windows", t->pixels * runs * sizeof *list, sizeof *list);

    kc_fill_s8(rng, fill, t->g.params.x_zero, most, x);
    memset(padding, t->g.params.x_zero, length);
    for (size_t p = 0; p < t->pixels; p++)
        for (size_t k = 0; k < runs; k++) {
            const size_t way = kc_below(rng, 10);
            size_t at = way < 2 ? 0 : way < 4 ? most - length : kc_below(rng, most - length + 1);
            if (even)
                at = least(p * move + k * length, most - length);
            list[p * runs + k] = kc_chance(rng, padding_percent) ? padding : x + at;
        }
    t->windows = (eq_windows){(const int8_t *const *)list, 0};
    kc_describe(c, " listed%s, %zu%% padding", even ? " evenly" : "", padding_percent);
}

/* sum of (x - x_zero) * (w - w_zero) of a window */
static int32_t window_sum(const kc_gemm_case *t, size_t p, size_t n)
{
    const eq_gemm *g = &t->g;
    const int8_t *w = g->w + n * g->runs * g->length;
    int32_t sum = 0;
    for (size_t k = 0; k < g->runs; k++) {
        const int8_t *x =
            t->windows.step ? t->windows.x[0] + p * t->windows.step : t->windows.x[p * g->runs + k];
        for (size_t i = 0; i < g->length; i++)
            sum += (x[i] - g->params.x_zero) * (*w++ - g->params.w_zero);
    }
    return sum;
}

void kc_choose_channels(kc_case *c, size_t channels, size_t *first, size_t *end, size_t *y_stride)
{
    kc_rng *rng = &c->rng;
    const size_t blocks = (channels + EQ_CHANNEL_BLOCK - 1) / EQ_CHANNEL_BLOCK;
    const size_t a = kc_below(rng, blocks), b = a + 1 + kc_below(rng, blocks - a);
    const bool part = !rng->usual && kc_chance(rng, 40);
    *first = part ? a * EQ_CHANNEL_BLOCK : 0;
    *end = part ? least(b * EQ_CHANNEL_BLOCK, channels) : channels;
    *y_stride = channels;
    if (!rng->usual && kc_chance(rng, 30))
        *y_stride += kc_below(rng, 100);
    kc_describe(c, " channels %zu..%zu y_stride %zu", *first, *end, *y_stride);
}

static void make_gemm(kc_case *c, kc_gemm_case *t)
{
    kc_rng *rng = &c->rng;
    const gemm_shape s = choose_gemm(c);
    const enum kc_fill fill = kc_any_fill(rng);
    bool extreme;

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
    if (s.runs == 1 && (rng->usual || kc_chance(rng, 60)))
        dense_windows(c, t, extreme ? KC_EXTREME : fill);
    else
        listed_windows(c, t, extreme ? KC_EXTREME : fill);
    kc_choose_channels(c, s.channels, &t->first, &t->end, &t->y_stride);
    if (!extreme && t->g.params.bias != NULL && kc_chance(rng, 40)) {
        kc_describe(c, " ties");
        for (size_t n = t->first; n < t->end; n++)
            kc_tie(c, &t->filters, &t->g.params, n, window_sum(t, kc_below(rng, t->pixels), n));
    }
    t->g.params.bound = kc_bound(&t->g.params, &t->filters);
    if (kc_chance(rng,
                  25)) /* that of a layer with more groups, of which this one is not the largest */
        t->g.params.bound += kc_between(rng, 0, (int32_t)(INT32_MAX - t->g.params.bound));
    kc_describe(c, " bound %lld", (long long)t->g.params.bound);
}

/* The layer as the slots see it at their different times, an input of its own. */
static eq_gemm *view(kc_case *c, const eq_gemm *g, const void *packed, int64_t bound)
{
    eq_gemm *copy = kc_input(c, "struct eq_gemm", sizeof *copy, _Alignof(eq_gemm));
    *copy = *g;
    copy->packed = packed;
    copy->params.bound = bound;
    return copy;
}

static bool call_pack(kc_case *c, const eq_kernels *k, const char *who, const eq_gemm *g,
                      void *packed, size_t *size)
{
    kc_seal(c);
    return KC_CALL(c, who, *size = k->gemm_pack(g, packed)) && kc_intact(c, who);
}

bool kc_pack_gemm(kc_case *c, const eq_kernels *k, const char *who, eq_gemm *g)
{
    const void *nowhere = kc_input(c, "g->packed while packing", 0, 1);
    const int64_t bound = g->params.bound;
    size_t size = 0, again = 0;
    if (kc_chance(&c->rng, 50)) /* conv.c does not know it when it counts and when it runs */
        g->params.bound = 0;
    if (!call_pack(c, k, who, view(c, g, nowhere, g->params.bound), NULL, &size)
        || !kc_check_size(c, "gemm_pack", size))
        return false;
    void *packed = size == 0 ? NULL : kc_output(c, "packed", size, EQ_PACK_ALIGN);
    if (size > 0 && !call_pack(c, k, who, view(c, g, nowhere, bound), packed, &again))
        return false;
    if (again != size)
        return kc_fail(c, "gemm_pack counted %zu bytes, then returned %zu", size, again);
    kc_freeze(c, packed);
    g->packed = packed;
    return true;
}

static bool call_scratch(kc_case *c, const eq_kernels *k, const char *who, const eq_gemm *g,
                         size_t pixels, size_t *size)
{
    kc_seal(c);
    return KC_CALL(c, who, *size = k->gemm_scratch(g, pixels)) && kc_intact(c, who)
           && kc_check_size(c, "gemm_scratch", *size);
}

bool kc_run_gemm(kc_case *c, const eq_kernels *k, const char *who, const kc_gemm_case *t, int8_t *y)
{
    const size_t more = kc_below(&c->rng, 4);
    eq_gemm packed = t->g;
    size_t size = 0;
    eq_windows *windows = kc_input(c, "struct eq_windows", sizeof *windows, _Alignof(eq_windows));
    *windows = t->windows;
    if (!kc_pack_gemm(c, k, who, &packed))
        return false;
    eq_gemm *g = view(c, &packed, packed.packed, packed.params.bound);
    if (!call_scratch(c, k, who, g, t->pixels + more, &size))
        return false;
    void *scratch = kc_output(c, "scratch", size, EQ_PACK_ALIGN);
    kc_seal(c);
    return KC_TIMED(c, who,
                    k->gemm(g, t->pixels, t->first, t->end, windows, y, t->y_stride, scratch))
           && kc_intact(c, who);
}

/* y of `size` bytes as both write it, the gaps included; the tested kernel's starts `skip` bytes
 * before its buffer, in the guard page. */
static bool compare_gemm(kc_case *c, const kc_gemm_case *t)
{
    const size_t size = (t->pixels - 1) * t->y_stride + t->end - t->first;
    int8_t *y = kc_output(c, "y", size, 1), *expected = kc_plain(0, size);
    memcpy(expected, y, size);
    return kc_run_gemm(c, c->scalar, "scalar", t, expected - t->first)
           && kc_run_gemm(c, c->tested, "kernel", t, y - t->first)
           && kc_equal(c, "y", size, 1, t->y_stride, expected, y);
}

bool kc_gemm(kc_case *c)
{
    kc_gemm_case t;
    memset(&t, 0, sizeof t);
    make_gemm(c, &t);
    return compare_gemm(c, &t);
}
