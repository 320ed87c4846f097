/* SPDX-License-Identifier: Apache-2.0
 *
 * CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, TRANSPOSE_CONV for the gemm and depthwise slots:
 * rows in place, or lists of pointers to input pixels (indirection). Shapes: core/format.h. */
#include <string.h>

#include "core/numerics.h"
#include "ops/ops.h"

extern const eq_op_def eq_op_transpose_conv;

enum { TILE = 24 };          /* output pixels: the fewest that are worth a call */
enum { MAX_TAPS = 1 << 16 }; /* of a window: bounds the scratch */

/* ---- validation */

/* A multiplier of R15: core/numerics.h. */
static eq_status check_r15(const eq_node *node, int32_t m, int32_t e)
{
    EQ_TRY(eq_check_range(node, "exponent", e, -31, 0));
    return m == 0 ? EQ_OK : eq_check_range(node, "multiplier", m, 1 << 14, (1 << 15) - 1);
}

static eq_status check_params(const eq_node *node, const eq_conv_params *p, uint32_t channels)
{
    const bool r15 = p->arithmetic == EQ_ARITH_R15;
    if (p->arithmetic != EQ_ARITH_R31 && !r15)
        return eq_node_error(node, "arithmetic %u is unknown", (uint32_t)p->arithmetic);
    EQ_TRY(eq_check_range(node, "fraction", p->fraction, 0, r15 ? 6 : 0));
    EQ_TRY(eq_check_range(node, "stride_h", p->stride_h, 1, 65535));
    EQ_TRY(eq_check_range(node, "stride_w", p->stride_w, 1, 65535));
    EQ_TRY(eq_check_range(node, "dilation_h", p->dilation_h, 1, 65535));
    EQ_TRY(eq_check_range(node, "dilation_w", p->dilation_w, 1, 65535));
    EQ_TRY(eq_check_range(node, "pad_top", p->pad_top, 0, 1 << 20));
    EQ_TRY(eq_check_range(node, "pad_left", p->pad_left, 0, 1 << 20));
    EQ_TRY(eq_check_range(node, "groups", p->groups, 1, EQ_MAX_DIM));
    EQ_TRY(eq_check_range(node, "depth_multiplier", p->depth_multiplier, 1, EQ_MAX_DIM));
    EQ_TRY(eq_check_range(node, "x_zero", p->x_zero, -128, 127));
    EQ_TRY(eq_check_range(node, "w_zero", p->w_zero, -128, 127));
    EQ_TRY(eq_check_range(node, "y_zero", p->y_zero, -128, 127));
    EQ_TRY(eq_check_range(node, "act_max", p->act_max, -128, 127));
    EQ_TRY(eq_check_range(node, "act_min", p->act_min, -128, p->act_max));
    if (p->requant_count != 1 && p->requant_count != channels)
        return eq_node_error(node, "%u multipliers for %u channels", p->requant_count, channels);
    EQ_TRY(eq_check_ref(node, "multiplier", p->multiplier, p->requant_count, 4));
    EQ_TRY(eq_check_ref(node, "exponent", p->exponent, p->requant_count, 1));
    const int32_t *m = eq_ref_data(node, p->multiplier);
    const int8_t *e = eq_ref_data(node, p->exponent);
    for (uint32_t i = 0; i < p->requant_count; i++)
        EQ_TRY(r15 ? check_r15(node, m[i], e[i])
                   : eq_check_multiplier(node, "multiplier", m[i], e[i]));
    if (p->bias != EQ_NONE)
        EQ_TRY(eq_check_ref(node, "bias", p->bias, channels, 4));
    return EQ_OK;
}

/* Weight k of channel n lies at w[n * channel_stride + k * weight_stride]. */
typedef struct filters {
    const int8_t *w;
    size_t channels, weights, channel_stride, weight_stride;
} filters;

/* |bias + sum of (x - x_zero) * (w - w_zero)| of channel n for every input, and the half that R15
 * adds; no order of summation and no padding exceeds it. By the number of weights alone, or by the
 * weights themselves. */
static int64_t accumulator_bound(const eq_node *node, const filters *f, size_t n, bool by_weights)
{
    const eq_conv_params *p = node->params;
    const int32_t *bias = eq_ref_data(node, p->bias);
    const int8_t *exponent = eq_ref_data(node, p->exponent);
    const int64_t x_max = p->x_zero < 0 ? 127 - p->x_zero : 128 + p->x_zero;
    const int64_t w_max = p->w_zero < 0 ? 127 - p->w_zero : 128 + p->w_zero;
    int64_t bound = bias == NULL ? 0 : bias[n] < 0 ? -(int64_t)bias[n] : bias[n];

    if (p->arithmetic == EQ_ARITH_R15)
        bound += ((int64_t)1 << -exponent[p->requant_count > 1 ? n : 0]) >> 1;
    if (!by_weights)
        return bound + (int64_t)f->weights * x_max * w_max; /* < 2^31 * 2^8 * 2^8 */
    int64_t sum = 0;
    for (size_t k = 0; k < f->weights; k++) {
        const int32_t d = f->w[n * f->channel_stride + k * f->weight_stride] - p->w_zero;
        sum += d < 0 ? -d : d;
    }
    return bound + sum * x_max;
}

static eq_status check_accumulator(const eq_node *node, const filters *f)
{
    for (size_t n = 0; n < f->channels; n++) {
        if (accumulator_bound(node, f, n, false) <= INT32_MAX)
            continue;
        const int64_t bound = accumulator_bound(node, f, n, true);
        if (bound > INT32_MAX)
            return eq_node_error(
                node, "the accumulator of channel %z can reach %l, the limit is 2^31 - 1", n,
                bound);
    }
    return EQ_OK;
}

/* Weights (O, ...), and for depthwise (1, KH, KW, O). */
static filters filters_of(const eq_node *node)
{
    const eq_file_tensor *w = eq_arg(node, 1);
    const size_t channels = (size_t)w->dims[0], weights = eq_count(w, 1, w->rank);
    return (filters){eq_arg_data(node, 1), channels, weights, weights, 1};
}

static filters depthwise_filters_of(const eq_node *node)
{
    const eq_file_tensor *w = eq_arg(node, 1);
    const size_t channels = (size_t)w->dims[3];
    return (filters){eq_arg_data(node, 1), channels, eq_count(w, 1, 3), 1, channels};
}

/* x, w and y are int8 (N,H,W,C), rank 4 weights, (N,OH,OW,O); w is constant. */
static eq_status check_window_op(const eq_node *node)
{
    const eq_file_tensor *x = eq_arg(node, 0), *w = eq_arg(node, 1), *y = eq_out(node);
    EQ_TRY(eq_check_dtype(node, "input", x, EQ_DT_INT8));
    EQ_TRY(eq_check_dtype(node, "weights", w, EQ_DT_INT8));
    EQ_TRY(eq_check_dtype(node, "output", y, EQ_DT_INT8));
    EQ_TRY(eq_check_rank(node, "input", x, 4));
    EQ_TRY(eq_check_rank(node, "weights", w, 4));
    EQ_TRY(eq_check_rank(node, "output", y, 4));
    if (node->tensors[w->storage].kind != EQ_KIND_CONST)
        return eq_node_error(node, "the weights are not constant");
    if ((int64_t)w->dims[1] * w->dims[2] > MAX_TAPS)
        return eq_node_error(node, "a window of %d x %d, at most %d", w->dims[1], w->dims[2],
                             MAX_TAPS);
    return eq_check_dim(node, "output", y, 0, x->dims[0]);
}

static eq_status conv_validate(const eq_node *node)
{
    const eq_conv_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *w = eq_arg(node, 1), *y = eq_out(node);
    EQ_TRY(check_window_op(node));
    EQ_TRY(eq_check_dim(node, "output", y, 3, w->dims[0]));
    EQ_TRY(check_params(node, p, (uint32_t)w->dims[0]));
    EQ_TRY(eq_check_range(node, "depth_multiplier", p->depth_multiplier, 1, 1));
    if ((int64_t)w->dims[3] * p->groups != x->dims[3] || (uint32_t)w->dims[0] % p->groups != 0)
        return eq_node_error(node,
                             "%d input and %d output channels, weights of depth %d, %u groups",
                             x->dims[3], w->dims[0], w->dims[3], p->groups);
    const filters f = filters_of(node);
    return check_accumulator(node, &f);
}

static eq_status depthwise_validate(const eq_node *node)
{
    const eq_conv_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *w = eq_arg(node, 1), *y = eq_out(node);
    EQ_TRY(check_window_op(node));
    EQ_TRY(eq_check_dim(node, "output", y, 3, w->dims[3]));
    EQ_TRY(eq_check_dim(node, "weights", w, 0, 1));
    EQ_TRY(check_params(node, p, (uint32_t)w->dims[3]));
    EQ_TRY(eq_check_range(node, "groups", p->groups, 1, 1));
    EQ_TRY(eq_check_dim(node, "weights", w, 3, (int64_t)x->dims[3] * p->depth_multiplier));
    const filters f = depthwise_filters_of(node);
    return check_accumulator(node, &f);
}

static eq_status transpose_conv_validate(const eq_node *node)
{
    const eq_conv_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *w = eq_arg(node, 1), *y = eq_out(node);
    EQ_TRY(check_window_op(node));
    EQ_TRY(eq_check_dim(node, "output", y, 3, w->dims[0]));
    EQ_TRY(eq_check_dim(node, "weights", w, 3, x->dims[3]));
    EQ_TRY(check_params(node, p, (uint32_t)w->dims[0]));
    if (p->groups != 1 || p->depth_multiplier != 1 || p->dilation_h != 1 || p->dilation_w != 1)
        return eq_node_error(node, "groups, depth multiplier and dilation must be 1");
    const filters f = filters_of(node);
    return check_accumulator(node, &f);
}

static eq_status fully_connected_validate(const eq_node *node)
{
    const eq_conv_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *w = eq_arg(node, 1), *y = eq_out(node);
    EQ_TRY(eq_check_dtype(node, "input", x, EQ_DT_INT8));
    EQ_TRY(eq_check_dtype(node, "weights", w, EQ_DT_INT8));
    EQ_TRY(eq_check_dtype(node, "output", y, EQ_DT_INT8));
    EQ_TRY(eq_check_rank(node, "weights", w, 2));
    if (node->tensors[w->storage].kind != EQ_KIND_CONST)
        return eq_node_error(node, "the weights are not constant");
    EQ_TRY(check_params(node, p, (uint32_t)w->dims[0]));
    if (p->stride_h != 1 || p->stride_w != 1 || p->dilation_h != 1 || p->dilation_w != 1
        || p->groups != 1 || p->depth_multiplier != 1 || p->pad_top != 0 || p->pad_left != 0)
        return eq_node_error(node, "windows, padding and groups do not apply");
    const uint64_t in = (uint64_t)w->dims[1], out = (uint64_t)w->dims[0];
    if (eq_elements(x) % in != 0 || eq_elements(x) / in * out != eq_elements(y) || y->rank == 0
        || y->dims[y->rank - 1] != w->dims[0])
        return eq_node_error(node, "%z inputs, weights (%d, %d), %z outputs", eq_elements(x),
                             w->dims[0], w->dims[1], eq_elements(y));
    const filters f = filters_of(node);
    return check_accumulator(node, &f);
}

/* ---- running */

/* Of channels [first, ...); `bound` is 0 while running. */
static eq_channel_params channel_params(const eq_node *node, size_t first, int64_t bound)
{
    const eq_conv_params *p = node->params;
    const size_t step = p->requant_count > 1;
    const int32_t *bias = eq_ref_data(node, p->bias);
    const int32_t *multiplier = eq_ref_data(node, p->multiplier);
    const int8_t *exponent = eq_ref_data(node, p->exponent);
    return (eq_channel_params){
        .bias = bias ? bias + first : NULL,
        .multiplier = multiplier + first * step,
        .exponent = exponent + first * step,
        .step = step,
        .x_zero = p->x_zero,
        .w_zero = p->w_zero,
        .y_zero = p->y_zero,
        .act_min = p->act_min,
        .act_max = p->act_max,
        .arithmetic = p->arithmetic,
        .fraction = p->fraction,
        .bound = bound,
    };
}

static int64_t largest_bound(const eq_node *node, const filters *f)
{
    int64_t largest = 0;
    for (size_t n = 0; n < f->channels; n++) {
        const int64_t bound = accumulator_bound(node, f, n, true);
        largest = bound > largest ? bound : largest;
    }
    return largest;
}

/* What is prepared for a layer lies before its packed weights. */
#define HEAD_SIZE(type) (int)((sizeof(type) + EQ_PACK_ALIGN - 1) / EQ_PACK_ALIGN * EQ_PACK_ALIGN)

/* One image's window geometry. */
typedef struct window {
    int32_t height, width, out_height, out_width;
    size_t depth; /* channels of an input pixel */
    int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
} window;

static window window_of(const eq_node *node)
{
    const eq_conv_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *w = eq_arg(node, 1), *y = eq_out(node);
    return (window){
        .height = x->dims[1],
        .width = x->dims[2],
        .out_height = y->dims[1],
        .out_width = y->dims[2],
        .depth = (size_t)x->dims[3],
        .kernel_h = w->dims[1],
        .kernel_w = w->dims[2],
        .stride_h = p->stride_h,
        .stride_w = p->stride_w,
        .dilation_h = p->dilation_h,
        .dilation_w = p->dilation_w,
        .pad_top = p->pad_top,
        .pad_left = p->pad_left,
    };
}

/* ---- layers with full filters: FULLY_CONNECTED and CONV_2D of one pixel to one pixel read their
 * input as a matrix; other CONV_2D by rows; TRANSPOSE_CONV by lists of pointers */

enum layer_kind { MATRIX, ROWS, POINTERS };

typedef struct layer {
    enum layer_kind kind;
    size_t pixels, groups, in_depth, out_channels;
    size_t row_taps; /* taps of a run */
    window v;        /* unless FULLY_CONNECTED */
} layer;

static layer layer_of(const eq_node *node)
{
    const eq_conv_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *w = eq_arg(node, 1), *y = eq_out(node);
    layer l = {.groups = p->groups, .out_channels = (size_t)w->dims[0], .row_taps = 1};
    l.pixels = eq_elements(y) / l.out_channels;
    if (w->rank == 2) {
        l.in_depth = (size_t)w->dims[1];
        return l;
    }
    l.v = window_of(node);
    l.in_depth = l.v.depth;
    if (node->def == &eq_op_transpose_conv) {
        l.kind = POINTERS;
        return l;
    }
    const bool dense = l.v.kernel_h == 1 && l.v.kernel_w == 1 && l.v.stride_h == 1
                       && l.v.stride_w == 1 && l.v.pad_top == 0 && l.v.pad_left == 0
                       && x->dims[1] == y->dims[1] && x->dims[2] == y->dims[2];
    l.kind = dense ? MATRIX : ROWS;
    if (l.groups == 1 && l.v.dilation_w == 1)
        l.row_taps = (size_t)l.v.kernel_w;
    return l;
}

static eq_gemm gemm_of(const eq_node *node, const layer *l, size_t group, int64_t bound)
{
    const eq_file_tensor *w = eq_arg(node, 1);
    const size_t channels = l->out_channels / l->groups, filter = eq_count(w, 1, w->rank);
    const size_t depth = (size_t)w->dims[w->rank - 1];
    return (eq_gemm){
        .channels = channels,
        .runs = filter / depth / l->row_taps,
        .length = depth * l->row_taps,
        .w = (const int8_t *)eq_arg_data(node, 1) + group * channels * filter,
        .params = channel_params(node, group * channels, bound),
    };
}

/* How the work is cut. A unit is EQ_CHANNEL_BLOCK channels of all pixels, or `unit` pixels, or, by
 * rows, an output row; a call of a kernel computes at most `block` pixels or rows. */
typedef struct tiling {
    bool by_channels;
    size_t units, unit, block;
} tiling;

/* Bytes of input that a call should work on: they are used once for every block of channels. */
enum { BLOCK_BYTES = 24 << 10 };

static size_t block_of(size_t count, size_t bytes, size_t least)
{
    size_t most = BLOCK_BYTES / bytes;
    most = most < least ? least : most;
    const size_t blocks = (count + most - 1) / most; /* of almost the same size */
    return (count + blocks - 1) / blocks;
}

static tiling tiling_of(const layer *l, const eq_gemm *g)
{
    const size_t row = (size_t)l->v.width * l->in_depth * (size_t)l->v.stride_h;
    const size_t channel_units = (l->out_channels + EQ_CHANNEL_BLOCK - 1) / EQ_CHANNEL_BLOCK;
    tiling t = {.unit = TILE, .block = l->pixels < TILE ? l->pixels : TILE};
    if (l->kind == ROWS) {
        t.unit = 1;
        t.units = l->pixels / (size_t)l->v.out_width;
        t.block = block_of((size_t)l->v.out_height, row, 1);
    } else {
        t.units = (l->pixels + TILE - 1) / TILE;
        if (l->kind == MATRIX)
            t.block = block_of(l->pixels, g->length, TILE);
    }
    /* Only a matrix is read at no cost by every part. */
    if (l->groups == 1 && channel_units > t.units && (l->kind == MATRIX || l->pixels <= TILE)) {
        t.by_channels = true;
        t.units = channel_units;
    }
    return t;
}

/* Scratch: the kernel's own, then pointers, then a run of padding. */
typedef struct layout {
    size_t pointers, padding, size;
} layout;

static size_t input_rows(const window *v, size_t height)
{
    return (height - 1) * (size_t)v->stride_h + (size_t)(v->kernel_h - 1) * (size_t)v->dilation_h
           + 1;
}

static eq_conv conv_of(const layer *l, const eq_gemm *g)
{
    const window *v = &l->v;
    return (eq_conv){
        .gemm = *g,
        .kernel_h = (size_t)v->kernel_h,
        .kernel_w = (size_t)v->kernel_w,
        .stride_h = (size_t)v->stride_h,
        .stride_w = (size_t)v->stride_w,
        .dilation_h = (size_t)v->dilation_h,
        .dilation_w = (size_t)v->dilation_w,
        .width = (size_t)v->width,
        .depth = v->depth,
    };
}

static layout layout_of(const eq_node *node, const layer *l, const eq_gemm *g, size_t block)
{
    const eq_kernels *k = node->kernels;
    layout at = {0};
    if (l->kind == ROWS) {
        const eq_conv c = conv_of(l, g);
        at.pointers = k->conv_scratch(&c, block, (size_t)l->v.out_width);
        at.size = at.padding = at.pointers + input_rows(&l->v, block) * sizeof(const int8_t *);
        return at;
    }
    at.size = at.padding = at.pointers = k->gemm_scratch(g, block);
    if (l->kind == POINTERS) {
        at.padding += block * g->runs * sizeof(const int8_t *);
        at.size = at.padding + g->length;
    }
    return at;
}

/* What a run needs to know, computed once a model: the head of node->packed; the groups' packed
 * weights, `stride` bytes each, follow. */
typedef struct prepared {
    layer l;
    tiling t;
    layout at;
    eq_conv c; /* of group 0; of CONV_2D by rows all of it, else its gemm */
    size_t stride;
} prepared;

enum { PREPARED_HEAD = HEAD_SIZE(prepared) };

static size_t layer_pack(const eq_node *node, void *packed)
{
    const layer l = layer_of(node);
    const filters f = filters_of(node);
    const int64_t bound = packed == NULL ? 0 : largest_bound(node, &f);
    const eq_gemm first = gemm_of(node, &l, 0, bound);
    const size_t stride = node->kernels->gemm_pack(&first, NULL); /* all groups are alike */
    if (packed != NULL) {
        uint8_t *weights = (uint8_t *)packed + PREPARED_HEAD;
        const tiling t = tiling_of(&l, &first);
        prepared *head = packed;
        *head = (prepared){l, t, layout_of(node, &l, &first, t.block), conv_of(&l, &first), stride};
        head->c.gemm.packed = stride == 0 ? NULL : weights;
        for (size_t g = 0; g < l.groups && stride > 0; g++) {
            const eq_gemm gemm = gemm_of(node, &l, g, bound);
            node->kernels->gemm_pack(&gemm, weights + g * stride);
        }
    }
    return PREPARED_HEAD + stride * l.groups;
}

static size_t layer_scratch(const eq_node *node)
{
    const layer l = layer_of(node);
    const eq_gemm g = gemm_of(node, &l, 0, 0);
    return layout_of(node, &l, &g, tiling_of(&l, &g).block).size;
}

static size_t layer_units(const eq_node *node)
{
    const layer l = layer_of(node);
    const eq_gemm g = gemm_of(node, &l, 0, 0);
    return tiling_of(&l, &g).units;
}

/* A group of a layer, and what a call for it needs. */
typedef struct job {
    const eq_node *node;
    const layer *l;
    const eq_conv *c;
    size_t block, low, high; /* channels [low, high) */
    const int8_t *x;
    int8_t *y;
    const int8_t **pointers;
    const int8_t *padding;
} job;

static void run_matrix(const job *j, size_t pixel, size_t count)
{
    const size_t channels = j->l->out_channels;
    const int8_t *x = j->x + pixel * j->l->in_depth;
    const eq_windows windows = {&x, j->l->in_depth};
    j->node->kernels->gemm(&j->c->gemm, count, j->low, j->high, &windows, j->y + pixel * channels,
                           channels, j->node->scratch);
}

/* Output rows [row, row + count) of all images' rows; they are of one image. */
static void run_rows(const job *j, size_t row, size_t count)
{
    const window *v = &j->l->v;
    const size_t height = (size_t)v->out_height, in_row = j->c->width * j->c->depth;
    const size_t n = row / height, first = row % height;
    const size_t rows = input_rows(v, count), out_row = (size_t)v->out_width * j->l->out_channels;
    const int8_t *image = j->x + n * (size_t)v->height * in_row;
    const int64_t top = (int64_t)first * v->stride_h - v->pad_top;

    for (size_t i = 0; i < rows; i++) {
        const int64_t iy = top + (int64_t)i;
        j->pointers[i] = iy >= 0 && iy < v->height ? image + (size_t)iy * in_row : NULL;
    }
    j->node->kernels->conv(j->c, count, (size_t)v->out_width, j->low, j->high, j->pointers,
                           -(ptrdiff_t)v->pad_left, j->y + row * out_row, j->l->out_channels,
                           out_row, j->node->scratch);
}

/* Tap (ky, kx) of output (oy, ox) is the input whose window reaches it: iy * stride + ky - pad =
 * oy. */
static const int8_t **gather_transposed(const window *v, const int8_t *x, int64_t oy, int64_t ox,
                                        const int8_t *padding, const int8_t **taps)
{
    for (int32_t ky = 0; ky < v->kernel_h; ky++) {
        const int64_t y = oy + v->pad_top - ky;
        for (int32_t kx = 0; kx < v->kernel_w; kx++) {
            const int64_t c = ox + v->pad_left - kx;
            const bool inside = y >= 0 && y % v->stride_h == 0 && y / v->stride_h < v->height
                                && c >= 0 && c % v->stride_w == 0 && c / v->stride_w < v->width;
            const size_t pixel =
                inside ? (size_t)(y / v->stride_h) * (size_t)v->width + (size_t)(c / v->stride_w)
                       : 0;
            *taps++ = inside ? x + pixel * v->depth : padding;
        }
    }
    return taps;
}

static void run_pointers(const job *j, size_t pixel, size_t count)
{
    const window *v = &j->l->v;
    const size_t width = (size_t)v->out_width, image = width * (size_t)v->out_height;
    const size_t in_image = (size_t)v->height * (size_t)v->width * v->depth;
    const size_t channels = j->l->out_channels;
    const eq_windows windows = {(const int8_t *const *)j->pointers, 0};
    const int8_t **taps = j->pointers;

    for (size_t p = pixel; p < pixel + count; p++)
        taps = gather_transposed(v, j->x + p / image * in_image, (int64_t)(p % image / width),
                                 (int64_t)(p % width), j->padding, taps);
    j->node->kernels->gemm(&j->c->gemm, count, j->low, j->high, &windows, j->y + pixel * channels,
                           channels, j->node->scratch);
}

/* Pixels or rows [first, end). */
static void run_blocks(const job *j, size_t first, size_t end)
{
    const size_t height = j->l->kind == ROWS ? (size_t)j->l->v.out_height : SIZE_MAX;
    const size_t calls = (end - first + j->block - 1) / j->block;
    const size_t most = j->l->kind == ROWS ? j->block : (end - first + calls - 1) / calls;
    for (size_t count; first < end; first += count) {
        const size_t left = end - first, in_image = height - first % height;
        count = left < most ? left : most;
        count = count < in_image ? count : in_image;
        if (j->l->kind == MATRIX)
            run_matrix(j, first, count);
        else if (j->l->kind == ROWS)
            run_rows(j, first, count);
        else
            run_pointers(j, first, count);
    }
}

static void layer_run(const eq_node *node, size_t first, size_t end)
{
    const prepared *head = node->packed;
    const layer *l = &head->l;
    const size_t channels = head->c.gemm.channels;
    job j = {
        .node = node,
        .l = l,
        .c = &head->c,
        .block = head->t.block,
        .high = channels,
        .x = eq_arg_data(node, 0),
        .y = eq_out_data(node),
        .pointers = (const int8_t **)(void *)(node->scratch + head->at.pointers),
        .padding = (const int8_t *)node->scratch + head->at.padding,
    };

    if (l->kind == POINTERS)
        memset(node->scratch + head->at.padding, head->c.gemm.params.x_zero,
               head->at.size - head->at.padding);
    const size_t limit = l->kind == ROWS ? l->pixels / (size_t)l->v.out_width : l->pixels;
    if (head->t.by_channels) {
        j.low = first * EQ_CHANNEL_BLOCK;
        j.high = end * EQ_CHANNEL_BLOCK < channels ? end * EQ_CHANNEL_BLOCK : channels;
        first = 0;
        end = limit;
    } else {
        first *= head->t.unit;
        end = end * head->t.unit < limit ? end * head->t.unit : limit;
    }
    run_blocks(&j, first, end);
    for (size_t k = 1; k < l->groups; k++) {
        eq_conv c = head->c;
        c.gemm = gemm_of(node, l, k, head->c.gemm.params.bound);
        if (head->stride > 0)
            c.gemm.packed = (const uint8_t *)head->c.gemm.packed + k * head->stride;
        j.c = &c;
        j.x += l->in_depth / l->groups;
        j.y += channels;
        run_blocks(&j, first, end);
    }
}

static const char *layer_path(const eq_node *node, size_t *slot)
{
    const layer l = layer_of(node);
    if (eq_arg(node, 1)->rank == 2)
        return l.pixels == 1 ? "one row of inputs, in place" : "rows of inputs, in place";
    if (l.kind == MATRIX)
        return "1x1: pixels in place";
    if (l.kind == POINTERS)
        return "pointers to the input pixels that reach an output pixel";
    *slot = EQ_SLOT(conv);
    if (l.v.kernel_h == 1 && l.v.kernel_w == 1)
        return "1x1: pixels of input rows";
    if (l.groups > 1)
        return "windows of input rows, in groups of channels";
    return l.v.dilation_w > 1 ? "windows of input rows, dilated" : "windows of input rows";
}

/* ---- DEPTHWISE_CONV_2D */

static eq_depthwise depthwise_of(const eq_node *node, int64_t bound)
{
    const eq_conv_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *w = eq_arg(node, 1);
    return (eq_depthwise){
        .channels = (size_t)w->dims[3],
        .multiplier = p->depth_multiplier,
        .kernel_h = (size_t)w->dims[1],
        .kernel_w = (size_t)w->dims[2],
        .stride = p->stride_w,
        .dilation = p->dilation_w,
        .width = (size_t)x->dims[2],
        .w = eq_arg_data(node, 1),
        .params = channel_params(node, 0, bound),
    };
}

/* The kernel's own, then a pointer a row of the window. */
static size_t depthwise_scratch(const eq_node *node)
{
    const eq_depthwise d = depthwise_of(node, 0);
    return node->kernels->depthwise_scratch(&d) + d.kernel_h * sizeof(const int8_t *);
}

/* The head of node->packed; the kernel's packed weights follow. */
typedef struct depthwise_layer {
    eq_depthwise d;
    window v;
    size_t rows; /* where in the scratch the pointers are */
} depthwise_layer;

enum { DEPTHWISE_HEAD = HEAD_SIZE(depthwise_layer) };

static size_t depthwise_pack(const eq_node *node, void *packed)
{
    const filters f = depthwise_filters_of(node);
    const eq_depthwise d = depthwise_of(node, packed == NULL ? 0 : largest_bound(node, &f));
    const size_t size = node->kernels->depthwise_pack(&d, NULL);
    if (packed != NULL) {
        void *weights = (uint8_t *)packed + DEPTHWISE_HEAD;
        depthwise_layer *head = packed;
        *head = (depthwise_layer){d, window_of(node), node->kernels->depthwise_scratch(&d)};
        head->d.packed = size == 0 ? NULL : weights;
        if (size > 0)
            node->kernels->depthwise_pack(&d, weights);
    }
    return DEPTHWISE_HEAD + size;
}

/* A unit is an output row. */
static size_t depthwise_units(const eq_node *node)
{
    return eq_count(eq_out(node), 0, 2);
}

static void depthwise_run(const eq_node *node, size_t first, size_t end)
{
    const eq_conv_params *p = node->params;
    const depthwise_layer *head = node->packed;
    const eq_depthwise *d = &head->d;
    const window *v = &head->v;
    const size_t row = d->width * v->depth, pixels = (size_t)v->out_width;
    const int8_t **rows = (const int8_t **)(void *)(node->scratch + head->rows);
    const int8_t *x = eq_arg_data(node, 0);
    int8_t *y = (int8_t *)eq_out_data(node) + first * pixels * d->channels;

    for (; first < end; first++, y += pixels * d->channels) {
        const int8_t *image = x + first / (size_t)v->out_height * (size_t)v->height * row;
        const int64_t oy = (int64_t)(first % (size_t)v->out_height);
        const int64_t top = oy * v->stride_h - v->pad_top;
        for (size_t i = 0; i < d->kernel_h; i++) {
            const int64_t iy = top + (int64_t)i * p->dilation_h;
            rows[i] = iy >= 0 && iy < v->height ? image + (size_t)iy * row : NULL;
        }
        node->kernels->depthwise(d, pixels, rows, -(ptrdiff_t)v->pad_left, y, node->scratch);
    }
}

static const char *depthwise_path(const eq_node *node, size_t *slot)
{
    const eq_conv_params *p = node->params;
    (void)slot;
    if (p->depth_multiplier > 1)
        return "an output row a call; several channels from each input channel";
    if (p->stride_w == 1 && p->dilation_w == 1)
        return "an output row a call; windows side by side";
    return "an output row a call; windows with strides or dilations";
}

#define LAYER_OP(check) \
    { \
        .min_inputs = 2, \
        .max_inputs = 2, \
        .validate = check, \
        .scratch = layer_scratch, \
        .units = layer_units, \
        .run_units = layer_run, \
        .pack = layer_pack, \
        .slot = EQ_SLOT(gemm), \
        .path = layer_path, \
    }

const eq_op_def eq_op_conv_2d = LAYER_OP(conv_validate);
const eq_op_def eq_op_fully_connected = LAYER_OP(fully_connected_validate);
const eq_op_def eq_op_transpose_conv = LAYER_OP(transpose_conv_validate);
const eq_op_def eq_op_depthwise_conv_2d = {
    .min_inputs = 2,
    .max_inputs = 2,
    .validate = depthwise_validate,
    .scratch = depthwise_scratch,
    .units = depthwise_units,
    .run_units = depthwise_run,
    .pack = depthwise_pack,
    .slot = EQ_SLOT(depthwise),
    .path = depthwise_path,
};
