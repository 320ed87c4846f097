/* SPDX-License-Identifier: Apache-2.0
 *
 * conv: blocks of output rows of whole layers, packed, sized and run as src_c/ops/conv.c does it.
 */
#include "kernelcheck.h"

#include <string.h>

typedef struct conv_shape {
    size_t channels, kernel_h, kernel_w, depth, stride, width, height; /* the last: of the output */
} conv_shape;

typedef struct conv_case {
    kc_filters filters;
    eq_conv c;
    size_t in_depth; /* of a group: what a tap reads, at most c.depth */
    const int8_t *const *rows;
    size_t height, pixels, first, end, y_stride, y_row;
    ptrdiff_t left;
} conv_case;

static const conv_shape real_convs[] = {
    {32, 3, 3, 3, 2, 112, 1}, /* MobileNetV2 */
    {8, 3, 3, 3, 2, 96, 2},   /* MobileNetV1 0.25 */
    {16, 3, 3, 3, 1, 32, 2},  /* ResNet8 */
    {16, 3, 3, 16, 1, 32, 2}, {32, 3, 3, 16, 2, 32, 2}, {32, 1, 1, 16, 2, 32, 2},
    {32, 3, 3, 32, 1, 16, 2}, {64, 3, 3, 32, 2, 16, 2}, {64, 1, 1, 32, 2, 16, 2},
    {64, 3, 3, 64, 1, 8, 3},  {64, 10, 4, 1, 2, 10, 4}, /* the last: DS-CNN */
};

static conv_shape choose_shape(kc_case *c)
{
    kc_rng *rng = &c->rng;
    const size_t real = sizeof real_convs / sizeof real_convs[0];
    conv_shape s;
    if (c->bench != NULL) {
        const size_t *size = c->bench->size;
        return (conv_shape){size[0], size[1], size[2], size[3], size[4], size[5], size[6]};
    }
    if (c->index % 4 == 3)
        return real_convs[c->index / 4 % real];
    s.channels = 1 + c->index % 67;
    if (kc_chance(rng, 20))
        s.channels = 1 + kc_log_below(rng, 300);
    s.kernel_h = s.kernel_w = (size_t)KC_ONE_OF(rng, 3, 3, 3, 1, 5, 7);
    if (kc_chance(rng, 40)) {
        s.kernel_h = 1 + kc_below(rng, 6);
        s.kernel_w = 1 + kc_below(rng, 6);
    }
    s.depth = 1 + kc_log_below(rng, 70);
    s.stride = 1 + kc_log_below(rng, 3);
    s.width = 1 + kc_log_below(rng, 30);
    s.height = 1 + kc_below(rng, 4);
    return s;
}

/* A run is a row of the window, or a tap where the taps of a row do not lie together. */
static void choose_conv(kc_case *c, conv_case *t, const conv_shape *s)
{
    kc_rng *rng = &c->rng;
    const bool dilated = !rng->usual && kc_chance(rng, 20);
    t->in_depth = s->depth;
    t->height = s->height;
    t->c = (eq_conv){.kernel_h = s->kernel_h,
                     .kernel_w = s->kernel_w,
                     .stride_h = kc_chance(rng, 80) ? s->stride : 1 + kc_below(rng, 3),
                     .stride_w = s->stride,
                     .dilation_h = dilated ? 1 + kc_below(rng, 3) : 1,
                     .dilation_w = dilated ? 1 + kc_below(rng, 3) : 1,
                     .width = s->width,
                     .depth = s->depth};
    if (!rng->usual && kc_chance(rng, 15)) /* groups */
        t->c.depth += s->depth * kc_below(rng, 4);
    const bool together = t->c.dilation_w == 1 && t->c.depth == t->in_depth;
    t->c.gemm.channels = s->channels;
    t->c.gemm.runs = together ? s->kernel_h : s->kernel_h * s->kernel_w;
    t->c.gemm.length = together ? s->kernel_w * s->depth : s->depth;
    kc_describe(c,
                "channels %zu kernel %zux%zu depth %zu of %zu stride %zux%zu dilation %zux%zu "
                "width %zu height %zu",
                s->channels, s->kernel_h, s->kernel_w, s->depth, t->c.depth, t->c.stride_h,
                t->c.stride_w, t->c.dilation_h, t->c.dilation_w, s->width, s->height);
}

/* From a full row with its padding on both sides to any part of one. */
static void choose_columns(kc_case *c, conv_case *t)
{
    kc_rng *rng = &c->rng;
    const size_t span = (t->c.kernel_w - 1) * t->c.dilation_w + 1;
    t->left = -(ptrdiff_t)(rng->usual ? span / 2 : kc_below(rng, span));
    t->pixels = (t->c.width - 1) / t->c.stride_w + 1;
    if (!rng->usual && kc_chance(rng, 50)) {
        t->left = (ptrdiff_t)kc_below(rng, t->c.width + span + 2) - (ptrdiff_t)span - 1;
        t->pixels = 1 + kc_below(rng, t->c.width + span);
    }
    kc_describe(c, " left %td pixels %zu", t->left, t->pixels);
}

/* Rows one behind the other in x; those of the padding, and some others, are missing. */
static void choose_rows(kc_case *c, conv_case *t, enum kc_fill fill)
{
    kc_rng *rng = &c->rng;
    const eq_conv *v = &t->c;
    const size_t count = (t->height - 1) * v->stride_h + (v->kernel_h - 1) * v->dilation_h + 1;
    const size_t row = v->width * v->depth;
    const size_t top = rng->usual ? 0 : kc_log_below(rng, count + 1);
    const size_t none_percent = rng->usual || kc_chance(rng, 70) ? 0 : kc_below(rng, 101);
    /* a group's last tap ends before the pixel does */
    const size_t size = count * row - (v->depth - t->in_depth);
    const int8_t **rows = kc_input(c, "list of rows", count * sizeof *rows, sizeof *rows);
    int8_t *x = kc_input(c, "x", size, 1);
    kc_fill_s8(rng, fill, v->gemm.params.x_zero, size, x);
    for (size_t i = 0; i < count; i++)
        rows[i] = i < top || kc_chance(rng, none_percent) ? NULL : x + i * row;
    t->rows = (const int8_t *const *)rows;
    kc_describe(c, " %zu rows, %zu above, %zu%% missing", count, top, none_percent);
}

/* sum of (x - x_zero) * (w - w_zero) of output (r, p) */
static int32_t window_sum(const conv_case *t, size_t r, size_t p, size_t n)
{
    const eq_conv *v = &t->c;
    const eq_channel_params *params = &v->gemm.params;
    const int8_t *w = v->gemm.w + n * v->kernel_h * v->kernel_w * t->in_depth;
    int32_t sum = 0;
    for (size_t i = 0; i < v->kernel_h; i++)
        for (size_t j = 0; j < v->kernel_w; j++, w += t->in_depth) {
            const int8_t *row = t->rows[r * v->stride_h + i * v->dilation_h];
            const ptrdiff_t at = t->left + (ptrdiff_t)(p * v->stride_w + j * v->dilation_w);
            if (row == NULL || at < 0 || at >= (ptrdiff_t)v->width)
                continue;
            for (size_t k = 0; k < t->in_depth; k++)
                sum += (row[(size_t)at * v->depth + k] - params->x_zero) * (w[k] - params->w_zero);
        }
    return sum;
}

static void make_conv(kc_case *c, conv_case *t)
{
    kc_rng *rng = &c->rng;
    const conv_shape s = choose_shape(c);
    const enum kc_fill fill = kc_any_fill(rng);
    const size_t filter = s.kernel_h * s.kernel_w * s.depth;
    eq_channel_params *p = &t->c.gemm.params;
    bool extreme;
    choose_conv(c, t, &s);
    t->filters = (kc_filters){NULL, s.channels, filter, filter, 1};
    kc_layer(c, &t->filters, p, &extreme);
    t->c.gemm.w = t->filters.w;
    kc_describe(c, " x %s", kc_fill_name(extreme ? KC_EXTREME : fill));
    choose_columns(c, t);
    choose_rows(c, t, extreme ? KC_EXTREME : fill);
    kc_choose_channels(c, s.channels, &t->first, &t->end, &t->y_stride);
    t->y_row = t->pixels * t->y_stride + (rng->usual || kc_chance(rng, 70) ? 0 : kc_below(rng, 99));
    if (!extreme && p->bias != NULL && kc_chance(rng, 40)) {
        kc_describe(c, " ties");
        for (size_t n = t->first; n < t->end; n++)
            kc_tie(c, &t->filters, p, n,
                   window_sum(t, kc_below(rng, t->height), kc_below(rng, t->pixels), n));
    }
    p->bound = kc_bound(p, &t->filters);
    kc_describe(c, " bound %lld", (long long)p->bound);
}

static bool call_scratch(kc_case *c, const eq_kernels *k, const char *who, const eq_conv *conv,
                         size_t height, size_t pixels, size_t *size)
{
    kc_seal(c);
    return KC_CALL(c, who, *size = k->conv_scratch(conv, height, pixels)) && kc_intact(c, who)
           && kc_check_size(c, "conv_scratch", *size);
}

static bool run_conv(kc_case *c, const eq_kernels *k, const char *who, const conv_case *t,
                     int8_t *y)
{
    const size_t more = kc_below(&c->rng, 3);
    eq_gemm packed = t->c.gemm;
    size_t size = 0;
    if (!kc_pack_gemm(c, k, who, &packed))
        return false;
    eq_conv *conv = kc_input(c, "struct eq_conv", sizeof *conv, _Alignof(eq_conv));
    *conv = t->c;
    conv->gemm = packed;
    if (!call_scratch(c, k, who, conv, t->height + more, t->pixels, &size))
        return false;
    void *scratch = kc_output(c, "scratch", size, EQ_PACK_ALIGN);
    kc_seal(c);
    return KC_TIMED(c, who,
                    k->conv(conv, t->height, t->pixels, t->first, t->end, t->rows, t->left, y,
                            t->y_stride, t->y_row, scratch))
           && kc_intact(c, who);
}

bool kc_conv(kc_case *c)
{
    conv_case t;
    memset(&t, 0, sizeof t);
    make_conv(c, &t);
    const size_t size = (t.height - 1) * t.y_row + (t.pixels - 1) * t.y_stride + t.end - t.first;
    int8_t *y = kc_output(c, "y", size, 1), *expected = kc_plain(0, size);
    memcpy(expected, y, size);
    return run_conv(c, c->scalar, "scalar", &t, expected - t.first)
           && run_conv(c, c->tested, "kernel", &t, y - t.first)
           && kc_equal(c, "y", size, 1, t.y_stride, expected, y);
}
