/* SPDX-License-Identifier: Apache-2.0
 *
 * CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, TRANSPOSE_CONV for the gemm and depthwise slots:
 * rows in place, or lists of pointers to input pixels (indirection). Shapes: core/format.h. */
#include <string.h>

#include "core/numerics.h"
#include "ops/ops.h"

extern const eq_op_def eq_op_transpose_conv;

enum { TILE = 24 };          /* output pixels whose pointers are listed at a time */
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

/* ---- layers as matrix multiplications: CONV_2D, TRANSPOSE_CONV, FULLY_CONNECTED */

/* How the layer's windows are read. */
typedef struct matrix {
    size_t pixels, groups, in_depth, out_channels;
    bool dense;      /* a window is one input pixel, the p-th for the p-th output pixel */
    bool transposed; /* TRANSPOSE_CONV */
    size_t row_taps; /* taps of a run where a window lies inside from left to right */
    window v;        /* unless FULLY_CONNECTED */
} matrix;

static matrix matrix_of(const eq_node *node)
{
    const eq_conv_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *w = eq_arg(node, 1), *y = eq_out(node);
    matrix m = {.groups = p->groups, .out_channels = (size_t)w->dims[0], .row_taps = 1};
    m.pixels = eq_elements(y) / m.out_channels;
    if (w->rank == 2) {
        m.in_depth = (size_t)w->dims[1];
        m.dense = true;
        return m;
    }
    m.v = window_of(node);
    m.in_depth = m.v.depth;
    m.transposed = node->def == &eq_op_transpose_conv;
    if (m.transposed)
        return m;
    m.dense = m.v.kernel_h == 1 && m.v.kernel_w == 1 && m.v.stride_h == 1 && m.v.stride_w == 1
              && m.v.pad_top == 0 && m.v.pad_left == 0 && x->dims[1] == y->dims[1]
              && x->dims[2] == y->dims[2];
    if (m.groups == 1 && m.v.dilation_w == 1)
        m.row_taps = (size_t)m.v.kernel_w;
    return m;
}

static eq_gemm gemm_of(const eq_node *node, const matrix *m, size_t group, int64_t bound)
{
    const eq_file_tensor *w = eq_arg(node, 1);
    const size_t channels = m->out_channels / m->groups, filter = eq_count(w, 1, w->rank);
    const size_t depth = (size_t)w->dims[w->rank - 1];
    return (eq_gemm){
        .channels = channels,
        .runs = filter / depth / m->row_taps,
        .length = depth * m->row_taps,
        .w = (const int8_t *)eq_arg_data(node, 1) + group * channels * filter,
        .params = channel_params(node, group * channels, bound),
    };
}

static size_t matrix_pack(const eq_node *node, void *packed)
{
    const matrix m = matrix_of(node);
    const filters f = filters_of(node);
    const int64_t bound = packed == NULL ? 0 : largest_bound(node, &f);
    size_t bytes = 0;
    for (size_t g = 0; g < m.groups; g++) {
        const eq_gemm gemm = gemm_of(node, &m, g, bound);
        const size_t size = node->kernels->gemm_pack(&gemm, packed);
        if (packed == NULL) /* all groups are alike */
            return size * m.groups;
        packed = (uint8_t *)packed + size;
        bytes += size;
    }
    return bytes;
}

/* Scratch: the kernel's own, a run of padding, then the pointers of a tile. */
typedef struct layout {
    size_t padding, pointers, size;
} layout;

static layout layout_of(const eq_node *node, const matrix *m, const eq_gemm *g)
{
    const size_t pixels = m->pixels < TILE ? m->pixels : TILE;
    layout at;
    at.padding = node->kernels->gemm_scratch(g, pixels);
    at.pointers = at.padding + (m->dense ? 0 : (g->length + 15) / 16 * 16);
    at.size =
        at.pointers + (m->dense ? 0 : pixels * g->runs * m->row_taps * sizeof(const int8_t *));
    return at;
}

static size_t matrix_scratch(const eq_node *node)
{
    const matrix m = matrix_of(node);
    const eq_gemm g = gemm_of(node, &m, 0, 0);
    return layout_of(node, &m, &g).size;
}

/* Pointers to the taps under the window of output pixel (oy, ox): kernel_h rows of `columns`,
 * which is kernel_w, or 1 where a row is one run. */
static const int8_t **gather(const window *v, const int8_t *x, int32_t oy, int32_t ox,
                             int32_t columns, const int8_t *padding, const int8_t **taps)
{
    const int64_t top = (int64_t)oy * v->stride_h - v->pad_top;
    const int64_t left = (int64_t)ox * v->stride_w - v->pad_left;
    for (int32_t ky = 0; ky < v->kernel_h; ky++) {
        const int64_t iy = top + (int64_t)ky * v->dilation_h;
        const bool inside_y = iy >= 0 && iy < v->height;
        for (int32_t kx = 0; kx < columns; kx++) {
            const int64_t ix = left + (int64_t)kx * v->dilation_w;
            const bool inside = inside_y && ix >= 0 && ix < v->width;
            *taps++ =
                inside ? x + ((size_t)iy * (size_t)v->width + (size_t)ix) * v->depth : padding;
        }
    }
    return taps;
}

/* Tap (ky, kx) of (oy, ox) is the input whose window reaches it: iy * stride + ky - pad = oy. */
static const int8_t **gather_transposed(const window *v, const int8_t *x, int32_t oy, int32_t ox,
                                        const int8_t *padding, const int8_t **taps)
{
    for (int32_t ky = 0; ky < v->kernel_h; ky++) {
        const int64_t y = (int64_t)oy + v->pad_top - ky;
        for (int32_t kx = 0; kx < v->kernel_w; kx++) {
            const int64_t c = (int64_t)ox + v->pad_left - kx;
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

/* The same for `count` pixels of an output row whose windows lie inside from left to right, a
 * pointer a row of the window. */
static void gather_runs(const window *v, const int8_t *x, int32_t oy, int32_t ox, size_t count,
                        const int8_t *padding, const int8_t **taps)
{
    const size_t step = (size_t)v->stride_w * v->depth, rows = (size_t)v->kernel_h;
    gather(v, x, oy, ox, 1, padding, taps);
    for (size_t ky = 0; ky < rows; ky++) {
        const int8_t *tap = taps[ky];
        const size_t move = tap == padding ? 0 : step;
        for (size_t i = 1; i < count; i++)
            taps[i * rows + ky] = tap += move;
    }
}

/* Output columns [*first, *end) whose windows lie inside the input from left to right. */
static void inner_columns(const window *v, int32_t *first, int32_t *end)
{
    const int64_t span = (int64_t)(v->kernel_w - 1) * v->dilation_w + 1;
    const int64_t last = v->width - span + v->pad_left; /* of the leftmost tap, padding included */
    const int64_t low = (v->pad_left + v->stride_w - 1) / v->stride_w;
    const int64_t high = last < 0 ? 0 : last / v->stride_w + 1;
    *first = (int32_t)(low < v->out_width ? low : v->out_width);
    *end = (int32_t)(high < *first ? *first : high < v->out_width ? high : v->out_width);
}

/* The windows of output pixels [p, p + count), in raster order, as a list of pointers. */
static eq_windows list_windows(const matrix *m, const int8_t *x, size_t p, size_t count,
                               const int8_t *padding, const int8_t **taps)
{
    const window *v = &m->v;
    const size_t image = (size_t)v->out_height * (size_t)v->out_width;
    const size_t in_image = (size_t)v->height * (size_t)v->width * v->depth;
    int32_t ox = (int32_t)(p % (size_t)v->out_width), inner, inner_end;
    int32_t oy = (int32_t)(p % image / (size_t)v->out_width);
    const eq_windows list = {(const int8_t *const *)taps, 0, 1};
    eq_windows in_pieces = list;

    inner_columns(v, &inner, &inner_end);
    const bool runs = m->row_taps > 1 && ox >= inner && ox + (int32_t)count <= inner_end;
    in_pieces.pieces = runs ? 1 : m->row_taps;
    x += p / image * in_image;
    if (runs) {
        gather_runs(v, x, oy, ox, count, padding, taps);
        return in_pieces;
    }
    for (size_t i = 0; i < count; i++) {
        taps = m->transposed ? gather_transposed(v, x, oy, ox, padding, taps)
                             : gather(v, x, oy, ox, v->kernel_w, padding, taps);
        if (++ox == v->out_width) {
            ox = 0;
            if (++oy == v->out_height) {
                oy = 0;
                x += in_image;
            }
        }
    }
    return in_pieces;
}

/* Pixels are split where there are some, else channels. */
static bool split_by_channels(const matrix *m)
{
    return m->pixels <= TILE && m->groups == 1;
}

static size_t matrix_units(const eq_node *node)
{
    const matrix m = matrix_of(node);
    return split_by_channels(&m) ? (m.out_channels + EQ_CHANNEL_BLOCK - 1) / EQ_CHANNEL_BLOCK
                                 : (m.pixels + TILE - 1) / TILE;
}

/* Output pixels [first, end) of channels [low, high) of a group; x and y are the group's. */
static void run_group(const eq_node *node, const matrix *m, const eq_gemm *g, const layout *at,
                      const int8_t *x, int8_t *y, size_t first, size_t end, size_t low, size_t high)
{
    const int8_t *padding = (const int8_t *)node->scratch + at->padding;
    const int8_t **taps = (const int8_t **)(void *)(node->scratch + at->pointers);

    for (size_t count; first < end; first += count) {
        const int8_t *dense = x + first * m->in_depth;
        eq_windows windows = {&dense, m->in_depth, 1};
        count = end - first < TILE ? end - first : TILE;
        if (!m->dense)
            windows = list_windows(m, x, first, count, padding, taps);
        node->kernels->gemm(g, count, low, high, &windows, y + first * m->out_channels,
                            m->out_channels, node->scratch);
    }
}

static void matrix_run(const eq_node *node, size_t first, size_t end)
{
    const eq_conv_params *p = node->params;
    const matrix m = matrix_of(node);
    const bool by_channels = split_by_channels(&m);
    const int8_t *x = eq_arg_data(node, 0);
    int8_t *y = eq_out_data(node);
    eq_gemm g = gemm_of(node, &m, 0, 0);
    const layout at = layout_of(node, &m, &g);
    const size_t channels = g.channels, size = node->kernels->gemm_pack(&g, NULL);
    const size_t unit = by_channels ? EQ_CHANNEL_BLOCK : TILE;
    const size_t limit = by_channels ? channels : m.pixels;
    const size_t begin = first * unit, stop = end * unit < limit ? end * unit : limit;

    memset(node->scratch + at.padding, p->x_zero, at.pointers - at.padding);
    for (size_t k = 0; k < m.groups; k++) {
        if (k > 0)
            g = gemm_of(node, &m, k, 0);
        g.packed = size == 0 ? NULL : (const uint8_t *)node->packed + k * size;
        run_group(node, &m, &g, &at, x + k * (m.in_depth / m.groups), y + k * channels,
                  by_channels ? 0 : begin, by_channels ? m.pixels : stop, by_channels ? begin : 0,
                  by_channels ? stop : channels);
    }
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
        .packed = node->packed,
        .params = channel_params(node, 0, bound),
    };
}

static size_t depthwise_pack(const eq_node *node, void *packed)
{
    const filters f = depthwise_filters_of(node);
    const eq_depthwise d = depthwise_of(node, packed == NULL ? 0 : largest_bound(node, &f));
    return node->kernels->depthwise_pack(&d, packed);
}

/* The kernel's own, then a pointer a row of the window. */
static size_t depthwise_scratch(const eq_node *node)
{
    const eq_depthwise d = depthwise_of(node, 0);
    return node->kernels->depthwise_scratch(&d) + d.kernel_h * sizeof(const int8_t *);
}

/* A unit is an output row. */
static size_t depthwise_units(const eq_node *node)
{
    return eq_count(eq_out(node), 0, 2);
}

static void depthwise_run(const eq_node *node, size_t first, size_t end)
{
    const eq_conv_params *p = node->params;
    const eq_depthwise d = depthwise_of(node, 0);
    const window v = window_of(node);
    const size_t row = d.width * v.depth, pixels = (size_t)v.out_width;
    const int8_t **rows =
        (const int8_t **)(void *)(node->scratch + node->kernels->depthwise_scratch(&d));
    const int8_t *x = eq_arg_data(node, 0);
    int8_t *y = (int8_t *)eq_out_data(node) + first * pixels * d.channels;

    for (; first < end; first++, y += pixels * d.channels) {
        const int8_t *image = x + first / (size_t)v.out_height * (size_t)v.height * row;
        const int64_t oy = (int64_t)(first % (size_t)v.out_height);
        const int64_t top = oy * v.stride_h - v.pad_top;
        for (size_t i = 0; i < d.kernel_h; i++) {
            const int64_t iy = top + (int64_t)i * p->dilation_h;
            rows[i] = iy >= 0 && iy < v.height ? image + (size_t)iy * row : NULL;
        }
        node->kernels->depthwise(&d, pixels, rows, -(ptrdiff_t)v.pad_left, y, node->scratch);
    }
}

#define MATRIX_OP(check) \
    { \
        .min_inputs = 2, \
        .max_inputs = 2, \
        .validate = check, \
        .scratch = matrix_scratch, \
        .units = matrix_units, \
        .run_units = matrix_run, \
        .pack = matrix_pack, \
        .slot = EQ_SLOT(gemm), \
    }

const eq_op_def eq_op_conv_2d = MATRIX_OP(conv_validate);
const eq_op_def eq_op_fully_connected = MATRIX_OP(fully_connected_validate);
const eq_op_def eq_op_transpose_conv = MATRIX_OP(transpose_conv_validate);
const eq_op_def eq_op_depthwise_conv_2d = {
    .min_inputs = 2,
    .max_inputs = 2,
    .validate = depthwise_validate,
    .scratch = depthwise_scratch,
    .units = depthwise_units,
    .run_units = depthwise_run,
    .pack = depthwise_pack,
    .slot = EQ_SLOT(depthwise),
};
