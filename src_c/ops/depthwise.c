/* SPDX-License-Identifier: Apache-2.0
 *
 * DEPTHWISE_CONV_2D for the depthwise slots; with an int16 input or output depthwise16. Pointers to
 * x and y are to bytes here. */
#include "ops/conv.h"

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
        .params = eq_params_of_channels(node, 0, bound),
    };
}

static bool is_wide(const eq_depthwise *d)
{
    return d->params.x_wide || d->params.y_wide;
}

static size_t kernel_scratch(const eq_node *node, const eq_depthwise *d)
{
    const eq_kernels *k = node->kernels;
    return (is_wide(d) ? k->depthwise16_scratch : k->depthwise_scratch)(d);
}

/* The kernel's own, then a pointer a row of the window. */
static size_t depthwise_scratch(const eq_node *node)
{
    const eq_depthwise d = depthwise_of(node, 0);
    return kernel_scratch(node, &d) + d.kernel_h * sizeof(const int8_t *);
}

/* The head of node->packed; the kernel's packed weights follow. */
typedef struct depthwise_layer {
    eq_depthwise d;
    eq_window v;
    size_t rows; /* where in the scratch the pointers are */
} depthwise_layer;

enum { DEPTHWISE_HEAD = EQ_PACK_HEAD(depthwise_layer) };

static size_t depthwise_pack(const eq_node *node, void *packed)
{
    const eq_filters f = eq_depthwise_filters_of(node);
    const eq_depthwise d = depthwise_of(node, packed == NULL ? 0 : eq_largest_bound(node, &f));
    size_t (*const pack)(const eq_depthwise *d, void *packed) =
        is_wide(&d) ? node->kernels->depthwise16_pack : node->kernels->depthwise_pack;
    const size_t size = pack(&d, NULL);
    if (packed != NULL) {
        void *weights = (uint8_t *)packed + DEPTHWISE_HEAD;
        depthwise_layer *head = packed;
        *head = (depthwise_layer){d, eq_window_of(node), kernel_scratch(node, &d)};
        head->d.packed = size == 0 ? NULL : weights;
        if (size > 0)
            pack(&d, weights);
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
    const eq_window *v = &head->v;
    const bool x_wide = d->params.x_wide, y_wide = d->params.y_wide;
    const size_t row = d->width * v->depth << x_wide, pixels = (size_t)v->out_width;
    const size_t out_row = pixels * d->channels << y_wide;
    const int8_t **rows = (const int8_t **)(void *)(node->scratch + head->rows);
    const int8_t *x = eq_arg_data(node, 0);
    uint8_t *y = (uint8_t *)eq_out_data(node) + first * out_row;

    for (; first < end; first++, y += out_row) {
        const int8_t *image = x + first / (size_t)v->out_height * (size_t)v->height * row;
        const int64_t oy = (int64_t)(first % (size_t)v->out_height);
        const int64_t top = oy * v->stride_h - v->pad_top;
        for (size_t i = 0; i < d->kernel_h; i++) {
            const int64_t iy = top + (int64_t)i * p->dilation_h;
            rows[i] = iy >= 0 && iy < v->height ? image + (size_t)iy * row : NULL;
        }
        if (x_wide || y_wide)
            node->kernels->depthwise16(d, pixels, rows, -(ptrdiff_t)v->pad_left, y, node->scratch);
        else
            node->kernels->depthwise(d, pixels, rows, -(ptrdiff_t)v->pad_left, (int8_t *)y,
                                     node->scratch);
    }
}

static const char *depthwise_path(const eq_node *node, size_t *slot)
{
    const eq_conv_params *p = node->params;
    const eq_depthwise d = depthwise_of(node, 0);
    if (is_wide(&d))
        *slot = EQ_SLOT(depthwise16);
    if (p->depth_multiplier > 1)
        return "an output row a call; several channels from each input channel";
    if (p->stride_w == 1 && p->dilation_w == 1)
        return "an output row a call; windows side by side";
    return "an output row a call; windows with strides or dilations";
}

const eq_op_def eq_op_depthwise_conv_2d = {
    .min_inputs = 2,
    .max_inputs = 2,
    .validate = eq_depthwise_validate,
    .scratch = depthwise_scratch,
    .units = depthwise_units,
    .run_units = depthwise_run,
    .pack = depthwise_pack,
    .slot = EQ_SLOT(depthwise),
    .path = depthwise_path,
};
