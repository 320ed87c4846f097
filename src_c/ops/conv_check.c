/* SPDX-License-Identifier: Apache-2.0
 *
 * CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, TRANSPOSE_CONV: what a file may say of them. Shapes:
 * core/format.h. */
#include "core/numerics.h"
#include "ops/conv.h"

enum { MAX_TAPS = 1 << 16 }; /* of a window: bounds the scratch */

#define WIDE_LIMIT (((int64_t)1 << 47) - 1) /* of the accumulators of R22 */

/* A multiplier of R15: core/numerics.h. */
static eq_status check_r15(const eq_node *node, int32_t m, int32_t e)
{
    EQ_TRY(eq_check_range(node, "exponent", e, -31, 0));
    return m == 0 ? EQ_OK : eq_check_range(node, "multiplier", m, 1 << 14, (1 << 15) - 1);
}

/* A multiplier of R22: core/numerics.h. */
static eq_status check_r22(const eq_node *node, int32_t m, int32_t e)
{
    EQ_TRY(eq_check_range(node, "exponent", e, -53, -1));
    return m == 0 ? EQ_OK : eq_check_range(node, "multiplier", m, 1 << 14, (1 << 22) - 1);
}

static bool is_wide(const eq_file_tensor *t)
{
    return t->dtype == EQ_DT_INT16;
}

/* int8 on both sides: R31 or R15; int16 on both: R31 or R22; one of each: R22. */
static eq_status check_arithmetic(const eq_node *node, const eq_conv_params *p)
{
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    const bool wide = is_wide(x) || is_wide(y), mixed = is_wide(x) != is_wide(y);
    if (p->arithmetic > EQ_ARITH_R22)
        return eq_node_error(node, "arithmetic %u is unknown", (uint32_t)p->arithmetic);
    if (mixed ? p->arithmetic != EQ_ARITH_R22
              : p->arithmetic == (wide ? EQ_ARITH_R15 : EQ_ARITH_R22))
        return eq_node_error(node, "arithmetic %u with an input of %s and an output of %s",
                             (uint32_t)p->arithmetic, eq_dtype_name((eq_dtype)x->dtype),
                             eq_dtype_name((eq_dtype)y->dtype));
    return EQ_OK;
}

/* Zero points and activation, in the range of their tensors; int16 is symmetric. */
static eq_status check_ranges(const eq_node *node, const eq_conv_params *p)
{
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    const bool wide = is_wide(x) || is_wide(y);
    EQ_TRY(eq_check_zero(node, "x_zero", x, p->x_zero));
    EQ_TRY(eq_check_range(node, "w_zero", p->w_zero, wide ? 0 : -128, wide ? 0 : 127));
    EQ_TRY(eq_check_zero(node, "y_zero", y, p->y_zero));
    return eq_check_activation(node, y, p->act_min, p->act_max);
}

static eq_status check_params(const eq_node *node, const eq_conv_params *p, uint32_t channels)
{
    const bool r15 = p->arithmetic == EQ_ARITH_R15, r22 = p->arithmetic == EQ_ARITH_R22;
    EQ_TRY(check_arithmetic(node, p));
    EQ_TRY(eq_check_range(node, "fraction", p->fraction, 0, r15 ? 6 : 0));
    EQ_TRY(eq_check_range(node, "stride_h", p->stride_h, 1, 65535));
    EQ_TRY(eq_check_range(node, "stride_w", p->stride_w, 1, 65535));
    EQ_TRY(eq_check_range(node, "dilation_h", p->dilation_h, 1, 65535));
    EQ_TRY(eq_check_range(node, "dilation_w", p->dilation_w, 1, 65535));
    EQ_TRY(eq_check_range(node, "pad_top", p->pad_top, 0, 1 << 20));
    EQ_TRY(eq_check_range(node, "pad_left", p->pad_left, 0, 1 << 20));
    EQ_TRY(eq_check_range(node, "groups", p->groups, 1, EQ_MAX_DIM));
    EQ_TRY(eq_check_range(node, "depth_multiplier", p->depth_multiplier, 1, EQ_MAX_DIM));
    EQ_TRY(check_ranges(node, p));
    if (p->requant_count != 1 && p->requant_count != channels)
        return eq_node_error(node, "%u multipliers for %u channels", p->requant_count, channels);
    EQ_TRY(eq_check_ref(node, "multiplier", p->multiplier, p->requant_count, 4));
    EQ_TRY(eq_check_ref(node, "exponent", p->exponent, p->requant_count, 1));
    const int32_t *m = eq_ref_data(node, p->multiplier);
    const int8_t *e = eq_ref_data(node, p->exponent);
    for (uint32_t i = 0; i < p->requant_count; i++)
        EQ_TRY(r15   ? check_r15(node, m[i], e[i])
               : r22 ? check_r22(node, m[i], e[i])
                     : eq_check_multiplier(node, "multiplier", m[i], e[i]));
    if (p->bias == EQ_NONE)
        return EQ_OK;
    EQ_TRY(eq_check_ref(node, "bias", p->bias, channels, r22 ? 8 : 4));
    const int64_t *bias = eq_ref_data(node, p->bias);
    for (uint32_t n = 0; r22 && n < channels; n++)
        EQ_TRY(eq_check_range(node, "bias", bias[n], -WIDE_LIMIT, WIDE_LIMIT));
    return EQ_OK;
}

static int64_t bias_of(const eq_node *node, size_t n)
{
    const eq_conv_params *p = node->params;
    const void *bias = eq_ref_data(node, p->bias);
    if (bias == NULL)
        return 0;
    return p->arithmetic == EQ_ARITH_R22 ? ((const int64_t *)bias)[n] : ((const int32_t *)bias)[n];
}

/* |bias + sum of (x - x_zero) * (w - w_zero)| of channel n for every input, and the half that R15
 * adds; no order of summation and no padding exceeds it. By the number of weights alone, or by the
 * weights themselves. */
static int64_t accumulator_bound(const eq_node *node, const eq_filters *f, size_t n,
                                 bool by_weights)
{
    const eq_conv_params *p = node->params;
    const int8_t *exponent = eq_ref_data(node, p->exponent);
    const int64_t x_max = is_wide(eq_arg(node, 0)) ? 1 << 15
                          : p->x_zero < 0          ? 127 - p->x_zero
                                                   : 128 + p->x_zero;
    const int64_t w_max = p->w_zero < 0 ? 127 - p->w_zero : 128 + p->w_zero;
    const int64_t bias = bias_of(node, n);
    int64_t bound = bias < 0 ? -bias : bias;

    if (p->arithmetic == EQ_ARITH_R15)
        bound += ((int64_t)1 << -exponent[p->requant_count > 1 ? n : 0]) >> 1;
    if (!by_weights)
        return bound + (int64_t)f->weights * x_max * w_max; /* < 2^47 + 2^31 * 2^15 * 2^8 */
    int64_t sum = 0;
    for (size_t k = 0; k < f->weights; k++) {
        const int32_t d = f->w[n * f->channel_stride + k * f->weight_stride] - p->w_zero;
        sum += d < 0 ? -d : d;
    }
    return bound + sum * x_max;
}

/* Below 2^47, and times the multiplier below 2^62. */
static eq_status check_wide_accumulator(const eq_node *node, const eq_filters *f)
{
    const eq_conv_params *p = node->params;
    const int32_t *m = eq_ref_data(node, p->multiplier);
    for (size_t n = 0; n < f->channels; n++) {
        const int64_t bound = accumulator_bound(node, f, n, true);
        const int64_t multiplier = m[p->requant_count > 1 ? n : 0];
        if (bound > WIDE_LIMIT)
            return eq_node_error(
                node, "the accumulator of channel %z can reach %l, the limit is 2^47 - 1", n,
                bound);
        if (multiplier > 0 && bound > (((int64_t)1 << 62) - 1) / multiplier)
            return eq_node_error(
                node, "the accumulator of channel %z can reach %l, times %l it exceeds 2^62", n,
                bound, multiplier);
    }
    return EQ_OK;
}

static eq_status check_accumulator(const eq_node *node, const eq_filters *f)
{
    const eq_conv_params *p = node->params;
    if (p->arithmetic == EQ_ARITH_R22)
        return check_wide_accumulator(node, f);
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

eq_filters eq_filters_of(const eq_node *node)
{
    const eq_file_tensor *w = eq_arg(node, 1);
    const size_t channels = (size_t)w->dims[0], weights = eq_count(w, 1, w->rank);
    return (eq_filters){eq_arg_data(node, 1), channels, weights, weights, 1};
}

eq_filters eq_depthwise_filters_of(const eq_node *node)
{
    const eq_file_tensor *w = eq_arg(node, 1);
    const size_t channels = (size_t)w->dims[3];
    return (eq_filters){eq_arg_data(node, 1), channels, eq_count(w, 1, 3), 1, channels};
}

/* x and y are int8 or int16, (N,H,W,C) and (N,OH,OW,O); w is int8 of rank 4, and constant. */
static eq_status check_window_op(const eq_node *node)
{
    const eq_file_tensor *x = eq_arg(node, 0), *w = eq_arg(node, 1), *y = eq_out(node);
    EQ_TRY(eq_check_quantized(node, "input", x));
    EQ_TRY(eq_check_dtype(node, "weights", w, EQ_DT_INT8));
    EQ_TRY(eq_check_quantized(node, "output", y));
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

eq_status eq_conv_validate(const eq_node *node)
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
    const eq_filters f = eq_filters_of(node);
    return check_accumulator(node, &f);
}

eq_status eq_depthwise_validate(const eq_node *node)
{
    const eq_conv_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *w = eq_arg(node, 1), *y = eq_out(node);
    EQ_TRY(check_window_op(node));
    EQ_TRY(eq_check_dim(node, "output", y, 3, w->dims[3]));
    EQ_TRY(eq_check_dim(node, "weights", w, 0, 1));
    EQ_TRY(check_params(node, p, (uint32_t)w->dims[3]));
    EQ_TRY(eq_check_range(node, "groups", p->groups, 1, 1));
    EQ_TRY(eq_check_dim(node, "weights", w, 3, (int64_t)x->dims[3] * p->depth_multiplier));
    const eq_filters f = eq_depthwise_filters_of(node);
    return check_accumulator(node, &f);
}

eq_status eq_transpose_conv_validate(const eq_node *node)
{
    const eq_conv_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *w = eq_arg(node, 1), *y = eq_out(node);
    EQ_TRY(check_window_op(node));
    EQ_TRY(eq_check_dim(node, "output", y, 3, w->dims[0]));
    EQ_TRY(eq_check_dim(node, "weights", w, 3, x->dims[3]));
    EQ_TRY(check_params(node, p, (uint32_t)w->dims[0]));
    if (p->groups != 1 || p->depth_multiplier != 1 || p->dilation_h != 1 || p->dilation_w != 1)
        return eq_node_error(node, "groups, depth multiplier and dilation must be 1");
    const eq_filters f = eq_filters_of(node);
    return check_accumulator(node, &f);
}

eq_status eq_fully_connected_validate(const eq_node *node)
{
    const eq_conv_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *w = eq_arg(node, 1), *y = eq_out(node);
    EQ_TRY(eq_check_quantized(node, "input", x));
    EQ_TRY(eq_check_dtype(node, "weights", w, EQ_DT_INT8));
    EQ_TRY(eq_check_quantized(node, "output", y));
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
    const eq_filters f = eq_filters_of(node);
    return check_accumulator(node, &f);
}

int64_t eq_largest_bound(const eq_node *node, const eq_filters *f)
{
    int64_t largest = 0;
    for (size_t n = 0; n < f->channels; n++) {
        const int64_t bound = accumulator_bound(node, f, n, true);
        largest = bound > largest ? bound : largest;
    }
    return largest;
}

eq_channel_params eq_params_of_channels(const eq_node *node, size_t first, int64_t bound)
{
    const eq_conv_params *p = node->params;
    const size_t step = p->requant_count > 1;
    const bool r22 = p->arithmetic == EQ_ARITH_R22, biased = p->bias != EQ_NONE;
    const void *bias = eq_ref_data(node, p->bias);
    const int32_t *multiplier = eq_ref_data(node, p->multiplier);
    const int8_t *exponent = eq_ref_data(node, p->exponent);
    return (eq_channel_params){
        .bias = biased && !r22 ? (const int32_t *)bias + first : NULL,
        .bias16 = biased && r22 ? (const int64_t *)bias + first : NULL,
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
        .x_wide = is_wide(eq_arg(node, 0)),
        .y_wide = is_wide(eq_out(node)),
    };
}

eq_window eq_window_of(const eq_node *node)
{
    const eq_conv_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *w = eq_arg(node, 1), *y = eq_out(node);
    return (eq_window){
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
