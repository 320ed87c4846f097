/* SPDX-License-Identifier: Apache-2.0
 *
 * CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, TRANSPOSE_CONV: lists of pointers to input pixels
 * (indirection, null in the padding) for the gemm and depthwise slots. Shapes: core/format.h. */
#include <string.h>

#include "core/numerics.h"
#include "ops/ops.h"

enum { TILE = 16 };          /* output pixels a gemm call */
enum { MAX_TAPS = 1 << 16 }; /* of a window: bounds the scratch */

/* ---- validation */

static eq_status check_params(const eq_node *node, const eq_conv_params *p, uint32_t channels)
{
    if (p->arithmetic != EQ_ARITH_R31)
        return eq_node_error(node, "arithmetic %u is unknown", (uint32_t)p->arithmetic);
    if (p->reserved != 0)
        return eq_node_error(node, "reserved parameters are not 0");
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
        EQ_TRY(eq_check_multiplier(node, "multiplier", m[i], e[i]));
    if (p->bias != EQ_NONE)
        EQ_TRY(eq_check_ref(node, "bias", p->bias, channels, 4));
    return EQ_OK;
}

/* |bias + sum of (x - x_zero) * (w - w_zero)| < 2^31 for every channel and every input: first by
 * the number of weights alone, then by the weights themselves. Weight k of channel n lies at w[n *
 * channel_stride + k * weight_stride]. */
static eq_status check_accumulator(const eq_node *node, const eq_conv_params *p, const int8_t *w,
                                   size_t channels, size_t weights, size_t channel_stride,
                                   size_t weight_stride)
{
    const int32_t *bias = eq_ref_data(node, p->bias);
    const int64_t x_max = p->x_zero < 0 ? 127 - p->x_zero : 128 + p->x_zero;
    const int64_t w_max = p->w_zero < 0 ? 127 - p->w_zero : 128 + p->w_zero;
    const int64_t rough = (int64_t)weights * x_max * w_max; /* < 2^31 * 2^8 * 2^8 */

    for (size_t n = 0; n < channels; n++) {
        const int64_t b = bias == NULL ? 0 : bias[n] < 0 ? -(int64_t)bias[n] : bias[n];
        if (b + rough <= INT32_MAX)
            continue;
        int64_t sum = 0;
        for (size_t k = 0; k < weights; k++) {
            const int32_t d = w[n * channel_stride + k * weight_stride] - p->w_zero;
            sum += d < 0 ? -d : d;
        }
        if (b + sum * x_max > INT32_MAX)
            return eq_node_error(
                node, "the accumulator of channel %z can reach %l, the limit is 2^31 - 1", n,
                b + sum * x_max);
    }
    return EQ_OK;
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
    const size_t weights = eq_count(w, 1, 4);
    return check_accumulator(node, p, eq_arg_data(node, 1), (size_t)w->dims[0], weights, weights,
                             1);
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
    return check_accumulator(node, p, eq_arg_data(node, 1), (size_t)w->dims[3], eq_count(w, 1, 3),
                             1, (size_t)w->dims[3]);
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
    const size_t weights = eq_count(w, 1, 4);
    return check_accumulator(node, p, eq_arg_data(node, 1), (size_t)w->dims[0], weights, weights,
                             1);
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
    return check_accumulator(node, p, eq_arg_data(node, 1), (size_t)w->dims[0], (size_t)w->dims[1],
                             (size_t)w->dims[1], 1);
}

/* ---- running */

static eq_channel_params channel_params(const eq_node *node, size_t first_channel)
{
    const eq_conv_params *p = node->params;
    const size_t step = p->requant_count > 1;
    const int32_t *bias = eq_ref_data(node, p->bias);
    const int32_t *multiplier = eq_ref_data(node, p->multiplier);
    const int8_t *exponent = eq_ref_data(node, p->exponent);
    const eq_channel_params c = {
        .bias = bias ? bias + first_channel : NULL,
        .multiplier = multiplier + first_channel * step,
        .exponent = exponent + first_channel * step,
        .step = step,
        .x_zero = p->x_zero,
        .w_zero = p->w_zero,
        .y_zero = p->y_zero,
        .act_min = p->act_min,
        .act_max = p->act_max,
    };
    return c;
}

/* One image's window geometry. */
typedef struct window {
    int32_t height, width; /* of the input */
    size_t depth;          /* channels of an input pixel */
    int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
} window;

static window window_of(const eq_node *node)
{
    const eq_conv_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *w = eq_arg(node, 1);
    const window v = {
        .height = x->dims[1],
        .width = x->dims[2],
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
    return v;
}

/* Pointers to the input pixels under the window of output pixel (oy, ox), null in the padding:
 * kernel_h rows of `columns`, which is kernel_w, or 1 where the row is read as one run. */
static void gather(const window *v, const int8_t *x, int32_t oy, int32_t ox, int32_t columns,
                   const int8_t **taps)
{
    const int64_t top = (int64_t)oy * v->stride_h - v->pad_top;
    const int64_t left = (int64_t)ox * v->stride_w - v->pad_left;
    for (int32_t ky = 0; ky < v->kernel_h; ky++) {
        const int64_t iy = top + (int64_t)ky * v->dilation_h;
        for (int32_t kx = 0; kx < columns; kx++) {
            const int64_t ix = left + (int64_t)kx * v->dilation_w;
            const bool inside = iy >= 0 && iy < v->height && ix >= 0 && ix < v->width;
            *taps++ = inside ? x + ((size_t)iy * (size_t)v->width + (size_t)ix) * v->depth : NULL;
        }
    }
}

/* Output columns [*first, *end) whose windows lie inside the input from left to right. */
static void inner_columns(const window *v, int32_t out_width, int32_t *first, int32_t *end)
{
    const int64_t span = (int64_t)(v->kernel_w - 1) * v->dilation_w + 1;
    const int64_t last = v->width - span + v->pad_left; /* of the leftmost tap, padding included */
    const int64_t low = (v->pad_left + v->stride_w - 1) / v->stride_w;
    const int64_t high = last < 0 ? 0 : last / v->stride_w + 1;
    *first = (int32_t)(low < out_width ? low : out_width);
    *end = (int32_t)(high < *first ? *first : high < out_width ? high : out_width);
}

/* Pixels [ox, ox + count) of output row oy, all groups. */
static void conv_pixels(const eq_node *node, const window *v, const int8_t *x, int8_t *y,
                        int32_t oy, int32_t ox, int32_t count, bool rows_are_runs)
{
    const eq_conv_params *p = node->params;
    const eq_file_tensor *w = eq_arg(node, 1);
    const int8_t **taps = (const int8_t **)(void *)node->scratch;
    const int32_t columns = rows_are_runs ? 1 : v->kernel_w;
    const size_t per_pixel = (size_t)v->kernel_h * (size_t)columns;
    const size_t channels = (size_t)w->dims[0] / p->groups, depth = (size_t)w->dims[3];
    const size_t filter = eq_count(w, 1, 4);

    for (int32_t i = 0; i < count; i++)
        gather(v, x, oy, ox + i, columns, taps + (size_t)i * per_pixel);
    for (size_t g = 0; g < p->groups; g++) {
        const eq_channel_params params = channel_params(node, g * channels);
        if (g > 0)
            for (size_t t = 0; t < per_pixel * (size_t)count; t++)
                taps[t] = taps[t] ? taps[t] + depth : NULL;
        node->kernels->gemm((size_t)count, channels, per_pixel,
                            rows_are_runs ? depth * (size_t)v->kernel_w : depth, taps,
                            (const int8_t *)eq_arg_data(node, 1) + g * channels * filter,
                            y + g * channels, (size_t)w->dims[0], &params);
    }
}

static void conv_run(const eq_node *node)
{
    const eq_conv_params *p = node->params;
    const eq_file_tensor *y = eq_out(node);
    const window v = window_of(node);
    const bool runs = p->groups == 1 && p->dilation_w == 1;
    const size_t image = (size_t)v.height * (size_t)v.width * v.depth, pixel = (size_t)y->dims[3];
    const int8_t *in = eq_arg_data(node, 0);
    int8_t *out = eq_out_data(node);
    int32_t inner, inner_end;

    inner_columns(&v, y->dims[2], &inner, &inner_end);
    for (int32_t n = 0; n < y->dims[0]; n++, in += image)
        for (int32_t oy = 0; oy < y->dims[1]; oy++)
            for (int32_t ox = 0, count; ox < y->dims[2];
                 ox += count, out += (size_t)count * pixel) {
                const bool inside = ox >= inner && ox < inner_end;
                const int32_t end = inside ? inner_end : ox < inner ? inner : y->dims[2];
                count = end - ox < TILE ? end - ox : TILE;
                conv_pixels(node, &v, in, out, oy, ox, count, runs && inside);
            }
}

static size_t window_scratch(const eq_node *node)
{
    return (size_t)TILE * eq_count(eq_arg(node, 1), 1, 3) * sizeof(int8_t *);
}

/* Writes one output pixel; `taps` has room for the window's pointers. */
typedef void pixel_function(const eq_node *node, const window *v, const eq_channel_params *params,
                            const int8_t *x, int32_t oy, int32_t ox, const int8_t **taps,
                            int8_t *y);

static void each_pixel(const eq_node *node, pixel_function *run)
{
    const eq_file_tensor *y = eq_out(node);
    const window v = window_of(node);
    const eq_channel_params params = channel_params(node, 0);
    const size_t image = (size_t)v.height * (size_t)v.width * v.depth, pixel = (size_t)y->dims[3];
    const int8_t **taps = (const int8_t **)(void *)node->scratch;
    const int8_t *in = eq_arg_data(node, 0);
    int8_t *out = eq_out_data(node);

    for (int32_t n = 0; n < y->dims[0]; n++, in += image)
        for (int32_t oy = 0; oy < y->dims[1]; oy++)
            for (int32_t ox = 0; ox < y->dims[2]; ox++, out += pixel)
                run(node, &v, &params, in, oy, ox, taps, out);
}

static void depthwise_pixel(const eq_node *node, const window *v, const eq_channel_params *params,
                            const int8_t *x, int32_t oy, int32_t ox, const int8_t **taps, int8_t *y)
{
    const eq_conv_params *p = node->params;
    const eq_file_tensor *w = eq_arg(node, 1);
    gather(v, x, oy, ox, v->kernel_w, taps);
    node->kernels->depthwise((size_t)w->dims[3], p->depth_multiplier, eq_count(w, 1, 3), taps,
                             eq_arg_data(node, 1), y, params);
}

static void depthwise_run(const eq_node *node)
{
    each_pixel(node, depthwise_pixel);
}

static size_t pixel_scratch(const eq_node *node)
{
    return eq_count(eq_arg(node, 1), 1, 3) * sizeof(int8_t *);
}

/* Tap (ky, kx) of (oy, ox) is the input whose window reaches it: iy * stride + ky - pad = oy. */
static void gather_transposed(const window *v, const int8_t *x, int32_t oy, int32_t ox,
                              const int8_t **taps)
{
    for (int32_t ky = 0; ky < v->kernel_h; ky++) {
        const int64_t y = (int64_t)oy + v->pad_top - ky;
        for (int32_t kx = 0; kx < v->kernel_w; kx++) {
            const int64_t c = (int64_t)ox + v->pad_left - kx;
            const bool inside = y >= 0 && y % v->stride_h == 0 && y / v->stride_h < v->height
                                && c >= 0 && c % v->stride_w == 0 && c / v->stride_w < v->width;
            *taps++ = inside ? x
                                   + ((size_t)(y / v->stride_h) * (size_t)v->width
                                      + (size_t)(c / v->stride_w))
                                         * v->depth
                             : NULL;
        }
    }
}

static void transpose_conv_pixel(const eq_node *node, const window *v,
                                 const eq_channel_params *params, const int8_t *x, int32_t oy,
                                 int32_t ox, const int8_t **taps, int8_t *y)
{
    const eq_file_tensor *w = eq_arg(node, 1);
    const size_t channels = (size_t)w->dims[0];
    gather_transposed(v, x, oy, ox, taps);
    node->kernels->gemm(1, channels, eq_count(w, 1, 3), v->depth, taps, eq_arg_data(node, 1), y,
                        channels, params);
}

static void transpose_conv_run(const eq_node *node)
{
    each_pixel(node, transpose_conv_pixel);
}

static void fully_connected_run(const eq_node *node)
{
    const eq_file_tensor *w = eq_arg(node, 1);
    const size_t depth = (size_t)w->dims[1], channels = (size_t)w->dims[0];
    const size_t rows = eq_elements(eq_arg(node, 0)) / depth;
    const eq_channel_params params = channel_params(node, 0);
    const int8_t *in = eq_arg_data(node, 0);
    int8_t *out = eq_out_data(node);

    for (size_t row = 0, count; row < rows; row += count) {
        const int8_t *taps[TILE];
        count = rows - row < TILE ? rows - row : TILE;
        for (size_t i = 0; i < count; i++)
            taps[i] = in + (row + i) * depth;
        node->kernels->gemm(count, channels, 1, depth, taps, eq_arg_data(node, 1),
                            out + row * channels, channels, &params);
    }
}

const eq_op_def eq_op_conv_2d = {2, 2, false, conv_validate, window_scratch, conv_run};
const eq_op_def eq_op_depthwise_conv_2d = {
    2, 2, false, depthwise_validate, pixel_scratch, depthwise_run};
const eq_op_def eq_op_fully_connected = {
    2, 2, false, fully_connected_validate, NULL, fully_connected_run};
const eq_op_def eq_op_transpose_conv = {
    2, 2, false, transpose_conv_validate, pixel_scratch, transpose_conv_run};
