/* SPDX-License-Identifier: Apache-2.0
 *
 * gemm: whole layers, packed, sized and run as src_c/ops/conv.c does it. */
#include "kernelcheck.h"

#include <string.h>

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
    if (c->index % 4 == 3)
        return real_gemms[c->index / 4 % real];
    if (c->index % 4 == 2)
        return (gemm_shape){1 + kc_log_below(rng, 300), 1 + kc_log_below(rng, 12),
                            1 + kc_log_below(rng, 150), 1 + kc_log_below(rng, 60)};
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
    const size_t length = t->g.length, taps = t->g.runs;
    const bool even = rng->usual || kc_chance(rng, 40);
    const size_t padding_percent = rng->usual || kc_chance(rng, 50) ? 0 : kc_below(rng, 60);
    const size_t move = rng->usual ? length : kc_below(rng, 2 * length + 1);
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
    t->windows = (eq_windows){(const int8_t *const *)list, 0};
    kc_describe(c, " listed%s, %zu%% padding", even ? " evenly" : "", padding_percent);
}

/* sum of (x - x_zero) * (w - w_zero) of a window */
static int32_t window_sum(const kc_gemm_case *t, size_t p, size_t n)
{
    const eq_gemm *g = &t->g;
    const size_t length = g->length, taps = g->runs;
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

static void choose_part(kc_case *c, kc_gemm_case *t)
{
    kc_rng *rng = &c->rng;
    const size_t channels = t->g.channels;
    const size_t blocks = (channels + EQ_CHANNEL_BLOCK - 1) / EQ_CHANNEL_BLOCK;
    const size_t a = kc_below(rng, blocks), b = a + 1 + kc_below(rng, blocks - a);
    const bool part = !rng->usual && kc_chance(rng, 40);
    t->first = part ? a * EQ_CHANNEL_BLOCK : 0;
    t->end = part ? least(b * EQ_CHANNEL_BLOCK, channels) : channels;
    t->y_stride = channels;
    if (!rng->usual && kc_chance(rng, 30))
        t->y_stride += kc_below(rng, 100);
    kc_describe(c, " channels %zu..%zu y_stride %zu", t->first, t->end, t->y_stride);
}

static void make_gemm(kc_case *c, kc_gemm_case *t)
{
    kc_rng *rng = &c->rng;
    gemm_shape s = choose_gemm(c);
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
    choose_part(c, t);
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

/* The layer as the slots see it at their different times; *g is an input of its own. */
static eq_gemm *gemm_view(kc_case *c, const kc_gemm_case *t, const void *packed, int64_t bound)
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

bool kc_run_gemm(kc_case *c, const eq_kernels *k, const char *who, const kc_gemm_case *t, int8_t *y)
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

    if (!pack_gemm(c, k, who, count, NULL, &size) || !kc_check_size(c, "gemm_pack", size))
        return false;
    void *packed = size == 0 ? NULL : kc_output(c, "packed", size, EQ_PACK_ALIGN);
    if (size > 0 && !pack_gemm(c, k, who, pack, packed, &again))
        return false;
    if (again != size)
        return kc_fail(c, "gemm_pack counted %zu bytes, then returned %zu", size, again);
    kc_freeze(c, packed);
    eq_gemm *run = gemm_view(c, t, packed, bound);
    if (!size_gemm(c, k, who, run, t->pixels + more, &scratch_size)
        || !kc_check_size(c, "gemm_scratch", scratch_size))
        return false;
    void *scratch = kc_output(c, "scratch", scratch_size, EQ_PACK_ALIGN);
    kc_seal(c);
    return KC_TIMED(c, who,
                    k->gemm(run, t->pixels, t->first, t->end, windows, y, t->y_stride, scratch))
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
