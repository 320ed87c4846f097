/* SPDX-License-Identifier: Apache-2.0
 *
 * CONV_2D, FULLY_CONNECTED, TRANSPOSE_CONV for the gemm slots. FULLY_CONNECTED and CONV_2D of one
 * pixel to one pixel read their input as a matrix; other CONV_2D by rows; TRANSPOSE_CONV by lists
 * of pointers to input pixels (indirection). With an int16 input or output they take the slots that
 * end in 16; pointers to x and y are to bytes here. */
#include <string.h>

#include "core/numerics.h"
#include "ops/conv.h"

enum { TILE = 24 }; /* output pixels: the fewest that are worth a call */

enum layer_kind { MATRIX, ROWS, POINTERS };

typedef struct layer {
    enum layer_kind kind;
    size_t pixels, groups, in_depth, out_channels;
    size_t row_taps;       /* taps of a run */
    size_t x_size, y_size; /* bytes of an element */
    bool wide;             /* one of them is 2 */
    eq_window v;           /* unless FULLY_CONNECTED */
} layer;

static layer layer_of(const eq_node *node)
{
    const eq_conv_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *w = eq_arg(node, 1), *y = eq_out(node);
    layer l = {.groups = p->groups, .out_channels = (size_t)w->dims[0], .row_taps = 1};
    l.pixels = eq_elements(y) / l.out_channels;
    l.x_size = eq_dtype_size(x->dtype);
    l.y_size = eq_dtype_size(y->dtype);
    l.wide = l.x_size > 1 || l.y_size > 1;
    if (w->rank == 2) {
        l.in_depth = (size_t)w->dims[1];
        return l;
    }
    l.v = eq_window_of(node);
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
        .params = eq_params_of_channels(node, group * channels, bound),
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
    const size_t row = (size_t)l->v.width * l->in_depth * (size_t)l->v.stride_h * l->x_size;
    const size_t channel_units = (l->out_channels + EQ_CHANNEL_BLOCK - 1) / EQ_CHANNEL_BLOCK;
    tiling t = {.unit = TILE, .block = l->pixels < TILE ? l->pixels : TILE};
    if (l->kind == ROWS) {
        t.unit = 1;
        t.units = l->pixels / (size_t)l->v.out_width;
        t.block = block_of((size_t)l->v.out_height, row, 1);
    } else {
        t.units = (l->pixels + TILE - 1) / TILE;
        if (l->kind == MATRIX)
            t.block = block_of(l->pixels, g->length * l->x_size, TILE);
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

static size_t input_rows(const eq_window *v, size_t height)
{
    return (height - 1) * (size_t)v->stride_h + (size_t)(v->kernel_h - 1) * (size_t)v->dilation_h
           + 1;
}

static eq_conv conv_of(const layer *l, const eq_gemm *g)
{
    const eq_window *v = &l->v;
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
        at.pointers =
            (l->wide ? k->conv16_scratch : k->conv_scratch)(&c, block, (size_t)l->v.out_width);
        at.size = at.padding = at.pointers + input_rows(&l->v, block) * sizeof(const int8_t *);
        return at;
    }
    at.size = at.padding = at.pointers = (l->wide ? k->gemm16_scratch : k->gemm_scratch)(g, block);
    if (l->kind == POINTERS) {
        at.padding += block * g->runs * sizeof(const int8_t *);
        at.size = at.padding + g->length * l->x_size;
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

enum { PREPARED_HEAD = EQ_PACK_HEAD(prepared) };

static size_t layer_pack(const eq_node *node, void *packed)
{
    const layer l = layer_of(node);
    const eq_filters f = eq_filters_of(node);
    const int64_t bound = packed == NULL ? 0 : eq_largest_bound(node, &f);
    const eq_gemm first = gemm_of(node, &l, 0, bound);
    size_t (*const pack)(const eq_gemm *g, void *packed) =
        l.wide ? node->kernels->gemm16_pack : node->kernels->gemm_pack;
    const size_t stride = pack(&first, NULL); /* all groups are alike */
    if (packed != NULL) {
        uint8_t *weights = (uint8_t *)packed + PREPARED_HEAD;
        const tiling t = tiling_of(&l, &first);
        prepared *head = packed;
        *head = (prepared){l, t, layout_of(node, &l, &first, t.block), conv_of(&l, &first), stride};
        head->c.gemm.packed = stride == 0 ? NULL : weights;
        for (size_t g = 0; g < l.groups && stride > 0; g++) {
            const eq_gemm gemm = gemm_of(node, &l, g, bound);
            pack(&gemm, weights + g * stride);
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
    uint8_t *y;
    const int8_t **pointers;
    const int8_t *padding;
} job;

static void run_gemm(const job *j, size_t pixel, size_t count, const eq_windows *windows)
{
    const eq_kernels *k = j->node->kernels;
    const size_t channels = j->l->out_channels;
    void *y = j->y + pixel * channels * j->l->y_size;
    if (j->l->wide)
        k->gemm16(&j->c->gemm, count, j->low, j->high, windows, y, channels, j->node->scratch);
    else
        k->gemm(&j->c->gemm, count, j->low, j->high, windows, y, channels, j->node->scratch);
}

static void run_matrix(const job *j, size_t pixel, size_t count)
{
    const int8_t *x = j->x + pixel * j->l->in_depth * j->l->x_size;
    const eq_windows windows = {&x, j->l->in_depth};
    run_gemm(j, pixel, count, &windows);
}

/* Output rows [row, row + count) of all images' rows; they are of one image. */
static void run_rows(const job *j, size_t row, size_t count)
{
    const eq_window *v = &j->l->v;
    const eq_kernels *k = j->node->kernels;
    const size_t height = (size_t)v->out_height, channels = j->l->out_channels;
    const size_t in_row = j->c->width * j->c->depth * j->l->x_size, pixels = (size_t)v->out_width;
    const size_t n = row / height, first = row % height;
    const size_t rows = input_rows(v, count), out_row = pixels * channels;
    const int8_t *image = j->x + n * (size_t)v->height * in_row;
    const int64_t top = (int64_t)first * v->stride_h - v->pad_top;

    for (size_t i = 0; i < rows; i++) {
        const int64_t iy = top + (int64_t)i;
        j->pointers[i] = iy >= 0 && iy < v->height ? image + (size_t)iy * in_row : NULL;
    }
    const ptrdiff_t left = -(ptrdiff_t)v->pad_left;
    void *y = j->y + row * out_row * j->l->y_size;
    if (j->l->wide)
        k->conv16(j->c, count, pixels, j->low, j->high, j->pointers, left, y, channels, out_row,
                  j->node->scratch);
    else
        k->conv(j->c, count, pixels, j->low, j->high, j->pointers, left, y, channels, out_row,
                j->node->scratch);
}

/* Tap (ky, kx) of output (oy, ox) is the input whose window reaches it: iy * stride + ky - pad =
 * oy. */
static const int8_t **gather_transposed(const layer *l, const int8_t *x, int64_t oy, int64_t ox,
                                        const int8_t *padding, const int8_t **taps)
{
    const eq_window *v = &l->v;
    for (int32_t ky = 0; ky < v->kernel_h; ky++) {
        const int64_t y = oy + v->pad_top - ky;
        for (int32_t kx = 0; kx < v->kernel_w; kx++) {
            const int64_t c = ox + v->pad_left - kx;
            const bool inside = y >= 0 && y % v->stride_h == 0 && y / v->stride_h < v->height
                                && c >= 0 && c % v->stride_w == 0 && c / v->stride_w < v->width;
            const size_t pixel =
                inside ? (size_t)(y / v->stride_h) * (size_t)v->width + (size_t)(c / v->stride_w)
                       : 0;
            *taps++ = inside ? x + pixel * v->depth * l->x_size : padding;
        }
    }
    return taps;
}

static void run_pointers(const job *j, size_t pixel, size_t count)
{
    const eq_window *v = &j->l->v;
    const size_t width = (size_t)v->out_width, image = width * (size_t)v->out_height;
    const size_t in_image = (size_t)v->height * (size_t)v->width * v->depth * j->l->x_size;
    const eq_windows windows = {(const int8_t *const *)j->pointers, 0};
    const int8_t **taps = j->pointers;

    for (size_t p = pixel; p < pixel + count; p++)
        taps = gather_transposed(j->l, j->x + p / image * in_image, (int64_t)(p % image / width),
                                 (int64_t)(p % width), j->padding, taps);
    run_gemm(j, pixel, count, &windows);
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
        j.x += l->in_depth / l->groups * l->x_size;
        j.y += channels * l->y_size;
        run_blocks(&j, first, end);
    }
}

static const char *layer_path(const eq_node *node, size_t *slot)
{
    const layer l = layer_of(node);
    if (l.wide)
        *slot = EQ_SLOT(gemm16);
    if (eq_arg(node, 1)->rank == 2)
        return l.pixels == 1 ? "one row of inputs, in place" : "rows of inputs, in place";
    if (l.kind == MATRIX)
        return "1x1: pixels in place";
    if (l.kind == POINTERS)
        return "pointers to the input pixels that reach an output pixel";
    *slot = l.wide ? EQ_SLOT(conv16) : EQ_SLOT(conv);
    if (l.v.kernel_h == 1 && l.v.kernel_w == 1)
        return "1x1: pixels of input rows";
    if (l.groups > 1)
        return "windows of input rows, in groups of channels";
    return l.v.dilation_w > 1 ? "windows of input rows, dilated" : "windows of input rows";
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

const eq_op_def eq_op_conv_2d = LAYER_OP(eq_conv_validate);
const eq_op_def eq_op_fully_connected = LAYER_OP(eq_fully_connected_validate);
const eq_op_def eq_op_transpose_conv = LAYER_OP(eq_transpose_conv_validate);
