/* SPDX-License-Identifier: Apache-2.0
 *
 * gemm16, conv16, depthwise16: layers with an int16 input or output, packed, sized and run as
 * src_c/ops does it. */
#include "kernelcheck.h"

#include <string.h>

#include "core/numerics.h"

enum { MOST_MACS = 1 << 19 };

#define WIDE_LIMIT (((int64_t)1 << 47) - 1)

static size_t size_of(bool wide)
{
    return wide ? sizeof(int16_t) : sizeof(int8_t);
}

/* n elements of the input. `extreme`: as far from the zero point as possible, and equal. */
static void fill_input(kc_rng *rng, const eq_channel_params *p, bool extreme, size_t n, void *x)
{
    if (!p->x_wide) {
        kc_fill_s8(rng, extreme ? KC_EXTREME : kc_any_fill(rng), p->x_zero, n, x);
        return;
    }
    int16_t *y = x;
    const size_t way = extreme ? 0 : rng->usual ? 3 : kc_below(rng, 8);
    for (size_t i = 0; i < n; i++)
        y[i] = way == 0   ? INT16_MIN
               : way == 1 ? (int16_t)KC_ONE_OF(rng, INT16_MIN, INT16_MAX)
               : way == 2 ? (int16_t)(kc_chance(rng, 90) ? 0 : kc_next(rng) >> 24)
                          : (int16_t)(kc_next(rng) >> 24);
}

static int32_t element(const eq_channel_params *p, const void *x, size_t i)
{
    return p->x_wide ? ((const int16_t *)x)[i] : ((const int8_t *)x)[i] - p->x_zero;
}

/* ---- parameters */

static int64_t reach_of(const eq_channel_params *p, const kc_filters *f, size_t n)
{
    const int64_t most = p->x_wide ? 1 << 15 : p->x_zero < 0 ? 127 - p->x_zero : 128 + p->x_zero;
    int64_t sum = 0;
    for (size_t k = 0; k < f->weights; k++) {
        const int32_t w = f->w[n * f->channel_stride + k * f->weight_stride];
        sum += w < 0 ? -w : w;
    }
    return sum * most;
}

/* A multiplier of R22 for sums up to `reach`, which mostly gives the output's range. */
static void choose_factor(kc_rng *rng, const eq_channel_params *p, int64_t reach, int32_t *m,
                          int8_t *e)
{
    const int most = 62 - eq_bit_length((uint64_t)reach) - 1;
    const int bits = rng->usual ? 15 : kc_between(rng, 15, most < 22 ? most : 22);
    const int range = (p->y_wide ? 16 : 8) - (rng->usual ? 3 : kc_between(rng, 0, 4));
    const size_t way = rng->usual ? 0 : kc_below(rng, 20);
    *m = way == 1   ? 0
         : way == 2 ? 1 << (bits - 1)
                    : kc_between(rng, 1 << (bits - 1), (1 << bits) - 1);
    *e = (int8_t)eq_clamp(range - eq_bit_length((uint64_t)reach) - bits, -53, -1);
    if (way == 3)
        *e = (int8_t)kc_between(rng, -53, -1);
}

static void choose_factors(kc_case *c, const kc_filters *f, eq_channel_params *p)
{
    kc_rng *rng = &c->rng;
    p->step = rng->usual || kc_chance(rng, 70);
    const size_t count = p->step ? f->channels : 1;
    int32_t *m = kc_input(c, "multiplier", count * sizeof *m, sizeof *m);
    int8_t *e = kc_input(c, "exponent", count, 1);
    int64_t most = 1;
    for (size_t n = 0; n < f->channels; n++) {
        const int64_t reach = reach_of(p, f, n);
        most = reach > most ? reach : most;
    }
    const enum kc_manner manner = kc_any_manner(rng);
    for (size_t n = 0; n < count; n++) {
        const int64_t reach = (p->step ? reach_of(p, f, n) : most) + 1;
        if (p->arithmetic == EQ_ARITH_R31)
            kc_factor(rng, p, manner, reach >> kc_between(rng, 0, 8), &m[n], &e[n]);
        else
            choose_factor(rng, p, most, &m[n], &e[n]);
    }
    p->multiplier = m;
    p->exponent = e;
}

/* Up to the room that the proof of the loader leaves. */
static int64_t bias_room(const eq_channel_params *p, const kc_filters *f, size_t n)
{
    const int64_t m = p->multiplier[n * p->step];
    int64_t most = p->arithmetic == EQ_ARITH_R31 ? INT32_MAX : WIDE_LIMIT;
    if (p->arithmetic == EQ_ARITH_R22 && m > 0 && (((int64_t)1 << 62) - 1) / m < most)
        most = (((int64_t)1 << 62) - 1) / m;
    return most - reach_of(p, f, n);
}

static void choose_bias(kc_case *c, const kc_filters *f, eq_channel_params *p, bool extreme)
{
    kc_rng *rng = &c->rng;
    const size_t way = rng->usual ? 1 : kc_below(rng, 10);
    if (way == 0)
        return;
    int64_t *wide = NULL;
    int32_t *narrow = NULL;
    if (p->arithmetic == EQ_ARITH_R22)
        p->bias16 = wide = kc_input(c, "bias", f->channels * sizeof *wide, sizeof *wide);
    else
        p->bias = narrow = kc_input(c, "bias", f->channels * sizeof *narrow, sizeof *narrow);
    for (size_t n = 0; n < f->channels; n++) {
        const int64_t reach = reach_of(p, f, n), room = bias_room(p, f, n);
        int64_t most = way < 9 ? reach / 2 + 100 : room;
        most = most < room ? most : room;
        const int64_t b = extreme && way == 9
                              ? (n & 1 ? room : -room)
                              : (int64_t)(kc_next(rng) % (uint64_t)(2 * most + 1)) - most;
        if (wide)
            wide[n] = b;
        else
            narrow[n] = (int32_t)b;
    }
}

static int64_t bias_of(const eq_channel_params *p, size_t n)
{
    return p->bias16 ? p->bias16[n] : p->bias ? p->bias[n] : 0;
}

/* Weights and parameters but the bound. *extreme: x is to reach it. */
static void choose_layer(kc_case *c, kc_filters *f, eq_channel_params *p, bool *extreme)
{
    kc_rng *rng = &c->rng;
    const size_t types = rng->usual ? 0 : kc_below(rng, 5);
    memset(p, 0, sizeof *p);
    *extreme = !rng->usual && kc_chance(rng, 8);
    p->x_wide = types != 1;
    p->y_wide = types != 2;
    p->x_zero = p->x_wide ? 0 : kc_zero(rng);
    p->y_zero = p->y_wide ? 0 : kc_zero(rng);
    kc_activation(rng, &p->act_min, &p->act_max);
    if (p->y_wide) {
        p->act_min = p->act_min == -128 ? INT16_MIN : p->act_min * 256;
        p->act_max = p->act_max == 127 ? INT16_MAX : p->act_max * 256;
    }
    f->w = kc_input(c, "w", f->channels * f->weights, 1);
    kc_fill_s8(rng, *extreme ? KC_LOWEST : kc_any_fill(rng), 0, f->channels * f->weights, f->w);
    if (rng->usual) /* as trained weights: mostly small */
        for (size_t i = 0; i < f->channels * f->weights; i++)
            f->w[i] = (int8_t)(f->w[i] / (1 + (int)(i % 5)));
    p->arithmetic = EQ_ARITH_R22;
    if (p->x_wide && p->y_wide && !rng->usual && kc_chance(rng, 25)) {
        p->arithmetic = EQ_ARITH_R31;
        for (size_t n = 0; n < f->channels; n++)
            if (reach_of(p, f, n) > INT32_MAX)
                p->arithmetic = EQ_ARITH_R22;
    }
    choose_factors(c, f, p);
    choose_bias(c, f, p, *extreme);
    kc_describe(c, " x int%d y int%d zeros %d %d act %d..%d %s step %zu bias %s%s",
                p->x_wide ? 16 : 8, p->y_wide ? 16 : 8, p->x_zero, p->y_zero, p->act_min,
                p->act_max, p->arithmetic == EQ_ARITH_R22 ? "R22" : "R31", p->step,
                p->bias || p->bias16 ? "given" : "none", *extreme ? " extreme" : "");
}

static void choose_bound(kc_case *c, const kc_filters *f, eq_channel_params *p)
{
    for (size_t n = 0; n < f->channels; n++) {
        const int64_t bias = bias_of(p, n);
        const int64_t bound = reach_of(p, f, n) + (bias < 0 ? -bias : bias);
        p->bound = bound > p->bound ? bound : p->bound;
    }
    kc_describe(c, " bound %lld", (long long)p->bound);
}

/* A bias for which channel n's accumulator, `sum` without it, lies on a rounding threshold of R22
 * or next to it. */
static void tie(kc_case *c, const kc_filters *f, const eq_channel_params *p, size_t n, int64_t sum)
{
    const int64_t m = p->multiplier[n * p->step], room = bias_room(p, f, n);
    const int e = p->exponent[n * p->step];
    const int64_t q = kc_between(&c->rng, p->act_min, p->act_max) - p->y_zero;
    if (p->bias16 == NULL || m == 0 || e < -44)
        return;
    const int64_t bias =
        (q * ((int64_t)1 << -e) - ((int64_t)1 << (-e - 1))) / m - sum + kc_between(&c->rng, -1, 1);
    if (bias >= -room && bias <= room)
        ((int64_t *)(uintptr_t)p->bias16)[n] = bias;
}

/* ---- packing, as conv.c and depthwise.c */

static bool check_counts(kc_case *c, size_t counted, size_t written)
{
    return counted == written
           || kc_fail(c, "packing counted %zu bytes, then returned %zu", counted, written);
}

static eq_gemm *gemm_view(kc_case *c, const eq_gemm *g, const void *packed, int64_t bound)
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
    return KC_CALL(c, who, *size = k->gemm16_pack(g, packed)) && kc_intact(c, who);
}

static bool pack_gemm16(kc_case *c, const eq_kernels *k, const char *who, eq_gemm *g)
{
    const void *nowhere = kc_input(c, "g->packed while packing", 0, 1);
    const int64_t bound = g->params.bound;
    size_t size = 0, again = 0;
    if (!call_pack(c, k, who, gemm_view(c, g, nowhere, 0), NULL, &size)
        || !kc_check_size(c, "gemm16_pack", size))
        return false;
    void *packed = size == 0 ? NULL : kc_output(c, "packed", size, EQ_PACK_ALIGN);
    if (size > 0 && !call_pack(c, k, who, gemm_view(c, g, nowhere, bound), packed, &again))
        return false;
    kc_freeze(c, packed);
    g->packed = packed;
    g->params.bound = kc_chance(&c->rng, 50) ? 0 : bound; /* conv.c does not know it always */
    return check_counts(c, size, again);
}

/* ---- gemm16 */

typedef struct gemm16_case {
    kc_filters filters;
    eq_gemm g;
    eq_windows windows;
    size_t pixels, first, end, y_stride;
} gemm16_case;

static void choose_windows(kc_case *c, gemm16_case *t, bool extreme)
{
    kc_rng *rng = &c->rng;
    const eq_channel_params *p = &t->g.params;
    const size_t size = size_of(p->x_wide), runs = t->g.runs, length = t->g.length;
    const bool dense = runs == 1 && (rng->usual || kc_chance(rng, 60));
    const size_t step = length + (rng->usual || kc_chance(rng, 70) ? 0 : kc_below(rng, 20));
    const size_t n =
        dense ? (t->pixels - 1) * step + length : length + kc_below(rng, 4 * length + 64);
    int8_t *x = kc_input(c, "x", n * size, size);
    fill_input(rng, p, extreme, n, x);
    const size_t listed = dense ? 1 : t->pixels * runs;
    const int8_t **list = kc_input(c, "list of windows", listed * sizeof *list, sizeof *list);
    for (size_t i = 0; i < listed; i++)
        list[i] = x + (dense ? 0 : kc_below(rng, n - length + 1) * size);
    t->windows = (eq_windows){(const int8_t *const *)list, dense ? step : 0};
    kc_describe(c, dense ? " dense, step %zu" : " listed", step);
}

static int64_t window_sum(const gemm16_case *t, size_t p, size_t n)
{
    const eq_gemm *g = &t->g;
    const size_t size = size_of(g->params.x_wide);
    int64_t sum = 0;
    for (size_t r = 0; r < g->runs; r++) {
        const int8_t *x = t->windows.step ? t->windows.x[0] + p * t->windows.step * size
                                          : t->windows.x[p * g->runs + r];
        for (size_t i = 0; i < g->length; i++)
            sum += (int64_t)element(&g->params, x, i) * g->w[(n * g->runs + r) * g->length + i];
    }
    return sum;
}

static void make_gemm16(kc_case *c, gemm16_case *t)
{
    kc_rng *rng = &c->rng;
    size_t channels = 1 + c->index % 131, runs = kc_chance(rng, 70) ? 1 : 1 + kc_below(rng, 9);
    size_t length = 1 + c->index * 7 % 67;
    bool extreme;
    t->pixels = 1 + c->index * 5 % 33;
    if (c->index % 4 == 2) {
        channels = 1 + kc_log_below(rng, 300);
        length = 1 + kc_log_below(rng, 2000); /* sums beyond 32 bits */
    }
    if (c->bench != NULL) {
        const size_t *size = c->bench->size;
        channels = size[0], runs = size[1], length = size[2], t->pixels = size[3];
    }
    while (c->bench == NULL && channels * runs * length * t->pixels > MOST_MACS && t->pixels > 1)
        t->pixels /= 2;
    kc_describe(c, "channels %zu runs %zu length %zu pixels %zu", channels, runs, length,
                t->pixels);
    t->filters = (kc_filters){NULL, channels, runs * length, runs * length, 1};
    choose_layer(c, &t->filters, &t->g.params, &extreme);
    t->g.channels = channels;
    t->g.runs = runs;
    t->g.length = length;
    t->g.w = t->filters.w;
    choose_windows(c, t, extreme);
    kc_choose_channels(c, channels, &t->first, &t->end, &t->y_stride);
    if (!rng->usual && kc_chance(rng, 50))
        for (size_t n = t->first; n < t->end; n++)
            tie(c, &t->filters, &t->g.params, n, window_sum(t, kc_below(rng, t->pixels), n));
    choose_bound(c, &t->filters, &t->g.params);
}

static bool call_gemm_scratch(kc_case *c, const eq_kernels *k, const char *who, const eq_gemm *g,
                              size_t pixels, size_t *size)
{
    kc_seal(c);
    return KC_CALL(c, who, *size = k->gemm16_scratch(g, pixels)) && kc_intact(c, who)
           && kc_check_size(c, "gemm16_scratch", *size);
}

static bool run_gemm16(kc_case *c, const eq_kernels *k, const char *who, const gemm16_case *t,
                       void *y)
{
    eq_gemm packed = t->g;
    size_t size = 0;
    eq_windows *windows = kc_input(c, "struct eq_windows", sizeof *windows, _Alignof(eq_windows));
    *windows = t->windows;
    if (!pack_gemm16(c, k, who, &packed))
        return false;
    const eq_gemm *g = gemm_view(c, &packed, packed.packed, packed.params.bound);
    if (!call_gemm_scratch(c, k, who, g, t->pixels, &size))
        return false;
    void *scratch = kc_output(c, "scratch", size, EQ_PACK_ALIGN);
    kc_seal(c);
    return KC_TIMED(c, who,
                    k->gemm16(g, t->pixels, t->first, t->end, windows, y, t->y_stride, scratch))
           && kc_intact(c, who);
}

bool kc_gemm16(kc_case *c)
{
    gemm16_case t;
    memset(&t, 0, sizeof t);
    make_gemm16(c, &t);
    const size_t bytes = size_of(t.g.params.y_wide);
    const size_t n = (t.pixels - 1) * t.y_stride + t.end - t.first;
    int8_t *y = kc_output(c, "y", n * bytes, bytes), *expected = kc_plain(0, n * bytes);
    memcpy(expected, y, n * bytes);
    return run_gemm16(c, c->scalar, "scalar", &t, expected - t.first * bytes)
           && run_gemm16(c, c->tested, "kernel", &t, y - t.first * bytes)
           && kc_equal(c, "y", n, bytes, t.y_stride, expected, y);
}

/* ---- conv16 */

typedef struct conv16_case {
    kc_filters filters;
    eq_conv c;
    size_t in_depth, height, pixels, first, end, y_stride, y_row;
    const int8_t *const *rows;
    ptrdiff_t left;
} conv16_case;

static void choose_conv16(kc_case *c, conv16_case *t)
{
    kc_rng *rng = &c->rng;
    const bool dilated = !rng->usual && kc_chance(rng, 20);
    size_t channels = 1 + c->index % 67, kernel_h = 1 + kc_below(rng, 4),
           kernel_w = 1 + kc_below(rng, 4);
    size_t stride = 1 + kc_log_below(rng, 3), width = 1 + kc_log_below(rng, 25);
    t->in_depth = 1 + kc_log_below(rng, 60);
    t->height = 1 + kc_below(rng, 3);
    if (c->bench != NULL) {
        const size_t *size = c->bench->size;
        channels = size[0], kernel_h = size[1], kernel_w = size[2], t->in_depth = size[3];
        stride = size[4], width = size[5], t->height = size[6];
    }
    t->c = (eq_conv){.kernel_h = kernel_h,
                     .kernel_w = kernel_w,
                     .stride_h = stride,
                     .stride_w = stride,
                     .dilation_h = dilated ? 1 + kc_below(rng, 3) : 1,
                     .dilation_w = dilated ? 1 + kc_below(rng, 3) : 1,
                     .width = width,
                     .depth = t->in_depth};
    if (!rng->usual && kc_chance(rng, 15)) /* groups */
        t->c.depth += t->in_depth * kc_below(rng, 4);
    const bool together = t->c.dilation_w == 1 && t->c.depth == t->in_depth;
    t->c.gemm.channels = channels;
    t->c.gemm.runs = together ? kernel_h : kernel_h * kernel_w;
    t->c.gemm.length = together ? kernel_w * t->in_depth : t->in_depth;
    const size_t filter = kernel_h * kernel_w * t->in_depth;
    t->filters = (kc_filters){NULL, channels, filter, filter, 1};
    const size_t span = (kernel_w - 1) * t->c.dilation_w + 1;
    t->left = -(ptrdiff_t)(rng->usual ? span / 2 : kc_below(rng, span));
    t->pixels = (width - 1) / stride + 1;
    if (!rng->usual && kc_chance(rng, 40)) {
        t->left = (ptrdiff_t)kc_below(rng, width + span + 2) - (ptrdiff_t)span - 1;
        t->pixels = 1 + kc_below(rng, width + span);
    }
    kc_describe(c,
                "channels %zu kernel %zux%zu depth %zu of %zu stride %zu dilation %zux%zu width %zu"
                " height %zu left %td pixels %zu",
                channels, kernel_h, kernel_w, t->in_depth, t->c.depth, stride, t->c.dilation_h,
                t->c.dilation_w, width, t->height, t->left, t->pixels);
}

static void choose_rows16(kc_case *c, conv16_case *t, bool extreme)
{
    kc_rng *rng = &c->rng;
    const eq_conv *v = &t->c;
    const size_t bytes = size_of(v->gemm.params.x_wide);
    const size_t count = (t->height - 1) * v->stride_h + (v->kernel_h - 1) * v->dilation_h + 1;
    const size_t row = v->width * v->depth, n = count * row - (v->depth - t->in_depth);
    const size_t none_percent = rng->usual || kc_chance(rng, 60) ? 0 : kc_below(rng, 101);
    const int8_t **rows = kc_input(c, "list of rows", count * sizeof *rows, sizeof *rows);
    int8_t *x = kc_input(c, "x", n * bytes, bytes);
    fill_input(rng, &v->gemm.params, extreme, n, x);
    for (size_t i = 0; i < count; i++)
        rows[i] = kc_chance(rng, none_percent) ? NULL : x + i * row * bytes;
    t->rows = (const int8_t *const *)rows;
    kc_describe(c, " %zu%% missing", none_percent);
}

static bool call_conv_scratch(kc_case *c, const eq_kernels *k, const char *who, const eq_conv *conv,
                              size_t height, size_t pixels, size_t *size)
{
    kc_seal(c);
    return KC_CALL(c, who, *size = k->conv16_scratch(conv, height, pixels)) && kc_intact(c, who)
           && kc_check_size(c, "conv16_scratch", *size);
}

static bool run_conv16(kc_case *c, const eq_kernels *k, const char *who, const conv16_case *t,
                       void *y)
{
    eq_gemm packed = t->c.gemm;
    size_t size = 0;
    if (!pack_gemm16(c, k, who, &packed))
        return false;
    eq_conv *conv = kc_input(c, "struct eq_conv", sizeof *conv, _Alignof(eq_conv));
    *conv = t->c;
    conv->gemm = packed;
    if (!call_conv_scratch(c, k, who, conv, t->height, t->pixels, &size))
        return false;
    void *scratch = kc_output(c, "scratch", size, EQ_PACK_ALIGN);
    kc_seal(c);
    return KC_TIMED(c, who,
                    k->conv16(conv, t->height, t->pixels, t->first, t->end, t->rows, t->left, y,
                              t->y_stride, t->y_row, scratch))
           && kc_intact(c, who);
}

bool kc_conv16(kc_case *c)
{
    kc_rng *rng = &c->rng;
    conv16_case t;
    bool extreme;
    memset(&t, 0, sizeof t);
    choose_conv16(c, &t);
    choose_layer(c, &t.filters, &t.c.gemm.params, &extreme);
    t.c.gemm.w = t.filters.w;
    choose_rows16(c, &t, extreme);
    kc_choose_channels(c, t.c.gemm.channels, &t.first, &t.end, &t.y_stride);
    t.y_row = t.pixels * t.y_stride + (rng->usual || kc_chance(rng, 70) ? 0 : kc_below(rng, 99));
    choose_bound(c, &t.filters, &t.c.gemm.params);
    const size_t bytes = size_of(t.c.gemm.params.y_wide);
    const size_t n = (t.height - 1) * t.y_row + (t.pixels - 1) * t.y_stride + t.end - t.first;
    int8_t *y = kc_output(c, "y", n * bytes, bytes), *expected = kc_plain(0, n * bytes);
    memcpy(expected, y, n * bytes);
    return run_conv16(c, c->scalar, "scalar", &t, expected - t.first * bytes)
           && run_conv16(c, c->tested, "kernel", &t, y - t.first * bytes)
           && kc_equal(c, "y", n, bytes, t.y_stride, expected, y);
}

/* ---- depthwise16 */

typedef struct depthwise16_case {
    kc_filters filters;
    eq_depthwise d;
    const int8_t *const *rows;
    size_t pixels;
    ptrdiff_t left;
} depthwise16_case;

static void choose_depthwise16(kc_case *c, depthwise16_case *t)
{
    kc_rng *rng = &c->rng;
    eq_depthwise *d = &t->d;
    d->channels = 1 + c->index % 131;
    d->multiplier = 1;
    d->kernel_h = 1 + kc_below(rng, 5);
    d->kernel_w = 1 + kc_below(rng, 5);
    d->stride = 1 + kc_log_below(rng, 3);
    d->dilation = kc_chance(rng, 75) ? 1 : 1 + kc_below(rng, 4);
    d->width = 1 + kc_log_below(rng, 40);
    if (kc_chance(rng, 15)) {
        d->multiplier = 1 + kc_below(rng, 9);
        d->channels = d->multiplier * (1 + kc_log_below(rng, 20));
    }
    if (c->bench != NULL) {
        const size_t *s = c->bench->size;
        *d = (eq_depthwise){.channels = s[0],
                            .multiplier = s[1],
                            .kernel_h = s[2],
                            .kernel_w = s[3],
                            .stride = s[4],
                            .dilation = s[5],
                            .width = s[6]};
    }
    const size_t span = (d->kernel_w - 1) * d->dilation + 1;
    t->left = -(ptrdiff_t)(rng->usual ? span / 2 : kc_below(rng, span));
    t->pixels = (d->width - 1) / d->stride + 1;
    if (!rng->usual && kc_chance(rng, 60)) {
        t->left = (ptrdiff_t)kc_below(rng, d->width + span + 2) - (ptrdiff_t)span - 1;
        t->pixels = 1 + kc_below(rng, d->width + span);
    }
    t->filters = (kc_filters){NULL, d->channels, d->kernel_h * d->kernel_w, 1, d->channels};
    kc_describe(c,
                "channels %zu multiplier %zu kernel %zux%zu stride %zu dilation %zu width %zu left "
                "%td pixels %zu",
                d->channels, d->multiplier, d->kernel_h, d->kernel_w, d->stride, d->dilation,
                d->width, t->left, t->pixels);
}

static void choose_depthwise_rows(kc_case *c, depthwise16_case *t, bool extreme)
{
    kc_rng *rng = &c->rng;
    const eq_depthwise *d = &t->d;
    const size_t bytes = size_of(d->params.x_wide), row = d->width * (d->channels / d->multiplier);
    const size_t none_percent = rng->usual || kc_chance(rng, 60) ? 0 : kc_below(rng, 101);
    const bool image = rng->usual || kc_chance(rng, 50); /* as one row behind the other */
    const int8_t **rows = kc_input(c, "list of rows", d->kernel_h * sizeof *rows, sizeof *rows);
    int8_t *x = image ? kc_input(c, "x", row * d->kernel_h * bytes, bytes) : NULL;
    for (size_t i = 0; i < d->kernel_h; i++) {
        int8_t *at = image ? x + i * row * bytes : kc_input(c, "a row of x", row * bytes, bytes);
        fill_input(rng, &d->params, extreme, row, at);
        rows[i] = kc_chance(rng, none_percent) ? NULL : at;
    }
    t->rows = (const int8_t *const *)rows;
}

static eq_depthwise *depthwise_view(kc_case *c, const eq_depthwise *d, const void *packed,
                                    int64_t bound)
{
    eq_depthwise *copy = kc_input(c, "struct eq_depthwise", sizeof *copy, _Alignof(eq_depthwise));
    *copy = *d;
    copy->packed = packed;
    copy->params.bound = bound;
    return copy;
}

static bool call_depthwise_pack(kc_case *c, const eq_kernels *k, const char *who,
                                const eq_depthwise *d, void *packed, size_t *size)
{
    kc_seal(c);
    return KC_CALL(c, who, *size = k->depthwise16_pack(d, packed)) && kc_intact(c, who)
           && kc_check_size(c, "depthwise16_pack", *size);
}

static bool call_depthwise_scratch(kc_case *c, const eq_kernels *k, const char *who,
                                   const eq_depthwise *d, size_t *size)
{
    kc_seal(c);
    return KC_CALL(c, who, *size = k->depthwise16_scratch(d)) && kc_intact(c, who)
           && kc_check_size(c, "depthwise16_scratch", *size);
}

static bool run_depthwise16(kc_case *c, const eq_kernels *k, const char *who,
                            const depthwise16_case *t, void *y)
{
    const void *nowhere = kc_input(c, "d->packed while packing", 0, 1);
    const int64_t bound = t->d.params.bound;
    size_t size = 0, again = 0;
    if (!call_depthwise_pack(c, k, who, depthwise_view(c, &t->d, nowhere, 0), NULL, &size))
        return false;
    void *packed = size == 0 ? NULL : kc_output(c, "packed", size, EQ_PACK_ALIGN);
    if (size > 0
        && !call_depthwise_pack(c, k, who, depthwise_view(c, &t->d, nowhere, bound), packed,
                                &again))
        return false;
    kc_freeze(c, packed);
    const eq_depthwise *d = depthwise_view(c, &t->d, packed, kc_chance(&c->rng, 50) ? 0 : bound);
    if (!check_counts(c, size, again) || !call_depthwise_scratch(c, k, who, d, &size))
        return false;
    void *scratch = kc_output(c, "scratch", size, EQ_PACK_ALIGN);
    kc_seal(c);
    return KC_TIMED(c, who, k->depthwise16(d, t->pixels, t->rows, t->left, y, scratch))
           && kc_intact(c, who);
}

bool kc_depthwise16(kc_case *c)
{
    depthwise16_case t;
    bool extreme;
    memset(&t, 0, sizeof t);
    choose_depthwise16(c, &t);
    choose_layer(c, &t.filters, &t.d.params, &extreme);
    t.d.w = t.filters.w;
    choose_depthwise_rows(c, &t, extreme);
    choose_bound(c, &t.filters, &t.d.params);
    const size_t bytes = size_of(t.d.params.y_wide), n = t.pixels * t.d.channels;
    int8_t *y = kc_output(c, "y", n * bytes, bytes), *expected = kc_plain(0, n * bytes);
    memcpy(expected, y, n * bytes);
    return run_depthwise16(c, c->scalar, "scalar", &t, expected)
           && run_depthwise16(c, c->tested, "kernel", &t, y)
           && kc_equal(c, "y", n, bytes, t.d.channels, expected, y);
}
