/* SPDX-License-Identifier: Apache-2.0
 *
 * depthwise: rows of whole layers, packed, sized and run as src_c/ops/depthwise.c does it. */
#include "kernelcheck.h"

#include <string.h>

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
    if (c->bench != NULL) {
        const size_t *size = c->bench->size;
        return (depthwise_shape){size[0], size[1], size[2], size[3], size[4], size[5], size[6]};
    }
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
static void choose_rows(kc_case *c, kc_depthwise_case *t, enum kc_fill fill)
{
    kc_rng *rng = &c->rng;
    const eq_depthwise *d = &t->d;
    const size_t row = d->width * (d->channels / d->multiplier);
    const size_t none_percent = rng->usual || kc_chance(rng, 60) ? 0 : kc_below(rng, 101);
    const bool image = rng->usual || kc_chance(rng, 50);
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
static void choose_columns(kc_case *c, kc_depthwise_case *t)
{
    kc_rng *rng = &c->rng;
    const eq_depthwise *d = &t->d;
    const size_t span = (d->kernel_w - 1) * d->dilation + 1;
    const size_t reach = d->width + span + 2;
    t->left = -(ptrdiff_t)(rng->usual ? span / 2 : kc_below(rng, span));
    t->pixels = (d->width - 1) / d->stride + 1;
    if (!rng->usual && kc_chance(rng, 60)) {
        t->left = (ptrdiff_t)kc_below(rng, reach) - (ptrdiff_t)span - 1;
        t->pixels = 1 + kc_below(rng, d->width + span);
    }
    kc_describe(c, " left %td pixels %zu", t->left, t->pixels);
}

/* sum of (x - x_zero) * (w - w_zero) of output pixel p */
static int32_t column_sum(const kc_depthwise_case *t, size_t p, size_t n)
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

static void make_depthwise(kc_case *c, kc_depthwise_case *t)
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
            kc_tie(c, &t->filters, &t->d.params, n, column_sum(t, kc_below(rng, t->pixels), n));
    }
    t->d.params.bound = kc_bound(&t->d.params, &t->filters);
    kc_describe(c, " bound %lld", (long long)t->d.params.bound);
}

static eq_depthwise *depthwise_view(kc_case *c, const kc_depthwise_case *t, const void *packed,
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

bool kc_run_depthwise(kc_case *c, const eq_kernels *k, const char *who, const kc_depthwise_case *t,
                      int8_t *y)
{
    const void *nowhere = kc_input(c, "d->packed while packing", 0, 1);
    const int64_t bound = kc_chance(&c->rng, 50) ? 0 : t->d.params.bound;
    size_t size = 0, again = 0, scratch_size = 0;
    eq_depthwise *count = depthwise_view(c, t, nowhere, bound);
    eq_depthwise *pack = depthwise_view(c, t, nowhere, t->d.params.bound);

    if (!pack_depthwise(c, k, who, count, NULL, &size) || !kc_check_size(c, "depthwise_pack", size))
        return false;
    void *packed = size == 0 ? NULL : kc_output(c, "packed", size, EQ_PACK_ALIGN);
    if (size > 0 && !pack_depthwise(c, k, who, pack, packed, &again))
        return false;
    if (again != size)
        return kc_fail(c, "depthwise_pack counted %zu bytes, then returned %zu", size, again);
    kc_freeze(c, packed);
    eq_depthwise *run = depthwise_view(c, t, packed, bound);
    if (!size_depthwise(c, k, who, run, &scratch_size)
        || !kc_check_size(c, "depthwise_scratch", scratch_size))
        return false;
    void *scratch = kc_output(c, "scratch", scratch_size, EQ_PACK_ALIGN);
    kc_seal(c);
    return KC_TIMED(c, who, k->depthwise(run, t->pixels, t->rows, t->left, y, scratch))
           && kc_intact(c, who);
}

bool kc_depthwise(kc_case *c)
{
    kc_depthwise_case t;
    memset(&t, 0, sizeof t);
    make_depthwise(c, &t);
    const size_t size = t.pixels * t.d.channels;
    int8_t *y = kc_output(c, "y", size, 1), *expected = kc_plain(0, size);
    memcpy(expected, y, size);
    return kc_run_depthwise(c, c->scalar, "scalar", &t, expected)
           && kc_run_depthwise(c, c->tested, "kernel", &t, y)
           && kc_equal(c, "y", size, 1, t.d.channels, expected, y);
}
