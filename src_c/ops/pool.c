/* SPDX-License-Identifier: Apache-2.0
 *
 * MAX_POOL_2D, AVERAGE_POOL_2D, of int8 by the pool slots, of int16 by loops. Pixels in the padding
 * do not count: a window is its part inside of the input. */
#include "core/numerics.h"
#include "ops/ops.h"

/* Of a window: 2^22 * 2^8, and 2^15 * 2^15, keep every sum in int32. */
enum { MAX_TAPS = 1 << 22, MAX_TAPS_16 = 1 << 15 };

/* The part of a window that lies inside, along one axis: [first, end). */
typedef struct span {
    int64_t first, end;
} span;

static span window(int64_t out, int64_t stride, int64_t pad, int64_t kernel, int64_t size)
{
    const int64_t start = out * stride - pad, end = start + kernel;
    return (span){start > 0 ? start : 0, end < size ? end : size};
}

static bool is_wide(const eq_node *node)
{
    return eq_arg(node, 0)->dtype == EQ_DT_INT16;
}

static size_t most_taps(const eq_node *node)
{
    const eq_pool_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0);
    const int32_t h = x->dims[1] < p->kernel_h ? x->dims[1] : p->kernel_h;
    const int32_t w = x->dims[2] < p->kernel_w ? x->dims[2] : p->kernel_w;
    return (size_t)h * (size_t)w;
}

/* ---- validation */

/* Every window has a pixel inside, and there is no room for one window more. */
static eq_status check_axis(const eq_node *node, const char *axis, int32_t size, int32_t out,
                            uint16_t kernel, uint16_t stride, int32_t pad)
{
    if (kernel == 0 || stride == 0)
        return eq_node_error(node, "%s: kernel %d and stride %d must be positive", axis, kernel,
                             stride);
    if (pad < 0 || pad >= kernel)
        return eq_node_error(node, "%s: padding is %d, must be in [0, %d)", axis, pad, kernel);
    const int64_t last = ((int64_t)out - 1) * stride - pad;
    if (last >= size)
        return eq_node_error(node, "%s: window %d starts at %l, behind the input of %d", axis,
                             out - 1, last, size);
    if (last + stride + kernel <= size)
        return eq_node_error(node, "%s: %d windows leave room for another in the input of %d", axis,
                             out, size);
    return EQ_OK;
}

static eq_status check_pool(const eq_node *node)
{
    const eq_pool_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    EQ_TRY(eq_check_quantized(node, "input", x));
    EQ_TRY(eq_check_dtype(node, "output", y, x->dtype));
    EQ_TRY(eq_check_rank(node, "input", x, 4));
    EQ_TRY(eq_check_rank(node, "output", y, 4));
    EQ_TRY(eq_check_dim(node, "output", y, 0, x->dims[0]));
    EQ_TRY(eq_check_dim(node, "output", y, 3, x->dims[3]));
    EQ_TRY(check_axis(node, "rows", x->dims[1], y->dims[1], p->kernel_h, p->stride_h, p->pad_top));
    EQ_TRY(
        check_axis(node, "columns", x->dims[2], y->dims[2], p->kernel_w, p->stride_w, p->pad_left));
    const int32_t limit = is_wide(node) ? MAX_TAPS_16 : MAX_TAPS;
    if (most_taps(node) > (size_t)limit)
        return eq_node_error(node, "a window has %z pixels, the limit is %d", most_taps(node),
                             limit);
    return eq_check_activation(node, y, p->act_min, p->act_max);
}

static eq_status validate_max_pool(const eq_node *node)
{
    const eq_pool_params *p = node->params;
    EQ_TRY(check_pool(node));
    return eq_check_range(node, "offset", p->offset, 0, 0);
}

static eq_status validate_average_pool(const eq_node *node)
{
    const eq_pool_params *p = node->params;
    EQ_TRY(check_pool(node));
    if (is_wide(node))
        return eq_check_range(node, "offset", p->offset, 0, 0);
    if (p->offset != 0 && p->offset != 128)
        return eq_node_error(node, "offset is %d, must be 0 or 128", p->offset);
    return EQ_OK;
}

/* ---- execution */

typedef void pool_kernel(const eq_pool *pool, size_t pixels, const int8_t *x, int8_t *y);

/* How many windows from output pixel ox on lie in the input with all their columns, and so are of
 * one size; 1 if this one does not. */
static size_t windows_alike(const eq_node *node, int64_t ox)
{
    const eq_pool_params *p = node->params;
    const int64_t width = eq_arg(node, 0)->dims[2], out = eq_out(node)->dims[2];
    const int64_t last = (width - p->kernel_w + p->pad_left) / p->stride_w;
    if (ox * p->stride_w < p->pad_left || p->kernel_w > width || ox > last)
        return 1;
    return (size_t)((last < out ? last + 1 : out) - ox);
}

/* A row of the output from rows of the input, `pool` being set but for what depends on columns. */
static void pool_row(const eq_node *node, eq_pool *pool, pool_kernel *kernel, const int8_t *x,
                     int8_t *y)
{
    const eq_pool_params *p = node->params;
    const int64_t width = eq_arg(node, 0)->dims[2], out = eq_out(node)->dims[2];
    size_t alike;
    for (int64_t ox = 0; ox < out; ox += (int64_t)alike, y += alike * pool->channels) {
        const span cols = window(ox, p->stride_w, p->pad_left, p->kernel_w, width);
        alike = windows_alike(node, ox);
        pool->cols = (size_t)(cols.end - cols.first);
        kernel(pool, alike, x + (size_t)cols.first * pool->channels, y);
    }
}

/* A unit is an output row. */
static size_t pool_units(const eq_node *node)
{
    return eq_count(eq_out(node), 0, 2);
}

static void run_pool(const eq_node *node, size_t first, size_t end, pool_kernel *kernel,
                     int8_t *columns)
{
    const eq_pool_params *p = node->params;
    const eq_file_tensor *xt = eq_arg(node, 0), *yt = eq_out(node);
    const size_t channels = (size_t)xt->dims[3], row = (size_t)xt->dims[2] * channels;
    const int8_t *x = eq_arg_data(node, 0);
    const size_t height = (size_t)yt->dims[1], out_row = (size_t)yt->dims[2] * channels;
    int8_t *y = (int8_t *)eq_out_data(node) + first * out_row;
    eq_pool pool = {
        .channels = channels,
        .row_stride = row,
        .step = p->stride_w * channels,
        .act_min = p->act_min,
        .act_max = p->act_max,
        .offset = p->offset,
    };
    for (; first < end; first++, y += out_row) {
        const span rows =
            window((int64_t)(first % height), p->stride_h, p->pad_top, p->kernel_h, xt->dims[1]);
        const int8_t *from = x + (first / height * (size_t)xt->dims[1] + (size_t)rows.first) * row;
        pool.rows = (size_t)(rows.end - rows.first);
        if (columns != NULL) {
            eq_pool tall = pool;
            tall.channels = row;
            tall.cols = 1;
            kernel(&tall, 1, from, columns);
            from = columns;
            pool.rows = 1;
        }
        pool_row(node, &pool, kernel, from, y);
    }
}

/* The maximum of a window is that of its columns' maxima. Where windows overlap enough, the columns
 * are pooled first, a row of the input wide. */
static bool by_columns(const eq_pool_params *p)
{
    const size_t h = p->kernel_h, w = p->kernel_w;
    return h * p->stride_w + w + 3 < h * w;
}

static size_t max_pool_scratch(const eq_node *node)
{
    return by_columns(node->params) && !is_wide(node) ? eq_count(eq_arg(node, 0), 2, 4) : 0;
}

/* ---- int16 */

/* Over the part of a window that lies inside, of one channel, `stride` elements between rows. */
typedef int32_t window_function(const eq_pool *part, const int16_t *x);

static int32_t greatest_in(const eq_pool *part, const int16_t *x)
{
    int32_t best = INT16_MIN;
    for (size_t r = 0; r < part->rows; r++)
        for (size_t c = 0; c < part->cols; c++) {
            const int32_t v = x[r * part->row_stride + c * part->channels];
            best = v > best ? v : best;
        }
    return best;
}

/* Rounded half away from zero. */
static int32_t average_in(const eq_pool *part, const int16_t *x)
{
    const int32_t count = (int32_t)(part->rows * part->cols);
    int32_t sum = 0;
    for (size_t r = 0; r < part->rows; r++)
        for (size_t c = 0; c < part->cols; c++)
            sum += x[r * part->row_stride + c * part->channels];
    return (sum > 0 ? sum + count / 2 : sum - count / 2) / count;
}

static void run_pool_16(const eq_node *node, size_t first, size_t end, window_function *of)
{
    const eq_pool_params *p = node->params;
    const eq_file_tensor *xt = eq_arg(node, 0), *yt = eq_out(node);
    const size_t channels = (size_t)xt->dims[3], row = (size_t)xt->dims[2] * channels;
    const size_t height = (size_t)yt->dims[1];
    const int16_t *x = eq_arg_data(node, 0);
    int16_t *y = (int16_t *)eq_out_data(node) + first * (size_t)yt->dims[2] * channels;
    for (; first < end; first++) {
        const span rows =
            window((int64_t)(first % height), p->stride_h, p->pad_top, p->kernel_h, xt->dims[1]);
        const int16_t *from = x + (first / height * (size_t)xt->dims[1] + (size_t)rows.first) * row;
        for (int64_t ox = 0; ox < yt->dims[2]; ox++, y += channels) {
            const span cols = window(ox, p->stride_w, p->pad_left, p->kernel_w, xt->dims[2]);
            const eq_pool part = {
                .channels = channels,
                .rows = (size_t)(rows.end - rows.first),
                .cols = (size_t)(cols.end - cols.first),
                .row_stride = row,
            };
            for (size_t c = 0; c < channels; c++)
                y[c] = (int16_t)eq_clamp(of(&part, from + (size_t)cols.first * channels + c),
                                         p->act_min, p->act_max);
        }
    }
}

static const char *pool_path(const eq_node *node, size_t *slot)
{
    if (!is_wide(node))
        return "a call an output pixel, pointers to its window";
    *slot = EQ_NO_SLOT;
    return "int16: a loop over each window";
}

static void run_max_pool(const eq_node *node, size_t first, size_t end)
{
    if (is_wide(node)) {
        run_pool_16(node, first, end, greatest_in);
        return;
    }
    run_pool(node, first, end, node->kernels->max_pool,
             by_columns(node->params) ? (int8_t *)node->scratch : NULL);
}

static void run_average_pool(const eq_node *node, size_t first, size_t end)
{
    if (is_wide(node)) {
        run_pool_16(node, first, end, average_in);
        return;
    }
    run_pool(node, first, end, node->kernels->average_pool, NULL);
}

const eq_op_def eq_op_max_pool_2d = {
    .min_inputs = 1,
    .max_inputs = 1,
    .validate = validate_max_pool,
    .scratch = max_pool_scratch,
    .units = pool_units,
    .run_units = run_max_pool,
    .path = pool_path,
    .slot = EQ_SLOT(max_pool),
};
const eq_op_def eq_op_average_pool_2d = {
    .min_inputs = 1,
    .max_inputs = 1,
    .validate = validate_average_pool,
    .units = pool_units,
    .run_units = run_average_pool,
    .path = pool_path,
    .slot = EQ_SLOT(average_pool),
};
