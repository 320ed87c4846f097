/* SPDX-License-Identifier: Apache-2.0
 *
 * What the layers with weights have in common: their checks, and what kernels are told of them. */
#ifndef EQ_OPS_CONV_H
#define EQ_OPS_CONV_H

#include "ops/ops.h"

extern const eq_op_def eq_op_transpose_conv;

/* Weight k of channel n lies at w[n * channel_stride + k * weight_stride]. */
typedef struct eq_filters {
    const int8_t *w;
    size_t channels, weights, channel_stride, weight_stride;
} eq_filters;

/* Weights (O, ...), and for depthwise (1, KH, KW, O). */
eq_filters eq_filters_of(const eq_node *node);
eq_filters eq_depthwise_filters_of(const eq_node *node);
/* The largest |accumulator| of a channel for any input. */
int64_t eq_largest_bound(const eq_node *node, const eq_filters *f);

/* One image's window geometry. */
typedef struct eq_window {
    int32_t height, width, out_height, out_width;
    size_t depth; /* channels of an input pixel */
    int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
} eq_window;

eq_window eq_window_of(const eq_node *node);

/* Of channels [first, ...); `bound` is 0 while running. */
eq_channel_params eq_params_of_channels(const eq_node *node, size_t first, int64_t bound);

/* What is prepared for a layer lies before its packed weights. */
#define EQ_PACK_HEAD(type) (int)((sizeof(type) + EQ_PACK_ALIGN - 1) / EQ_PACK_ALIGN * EQ_PACK_ALIGN)

eq_status eq_conv_validate(const eq_node *node);
eq_status eq_depthwise_validate(const eq_node *node);
eq_status eq_transpose_conv_validate(const eq_node *node);
eq_status eq_fully_connected_validate(const eq_node *node);

#endif
