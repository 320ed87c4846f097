/* SPDX-License-Identifier: Apache-2.0
 *
 * TRANSPOSE, CONCATENATION, SLICE, COPY, ARG_MAX. All but the last move elements of 1, 2, 4 or 8
 * bytes; their offsets are in bytes. */
#include <string.h>

#include "ops/walk.h"

/* Both ends hold whole bytes of the same type. */
static eq_status check_element(const eq_node *node, const eq_file_tensor *x)
{
    const eq_file_tensor *y = eq_out(node);
    if (eq_dtype_size(x->dtype) == 0)
        return eq_node_error(node, "elements of dtype %u cannot be moved", (uint32_t)x->dtype);
    return eq_check_dtype(node, "output", y, x->dtype);
}

/* n elements of `size` bytes, `stride` bytes apart, into a dense row. */
static void gather(size_t n, size_t size, const uint8_t *x, ptrdiff_t stride, uint8_t *y)
{
    switch (size) {
    case 1:
        for (size_t i = 0; i < n; i++)
            y[i] = x[(ptrdiff_t)i * stride];
        break;
    case 2:
        for (size_t i = 0; i < n; i++)
            memcpy(y + 2 * i, x + (ptrdiff_t)i * stride, 2);
        break;
    case 4:
        for (size_t i = 0; i < n; i++)
            memcpy(y + 4 * i, x + (ptrdiff_t)i * stride, 4);
        break;
    default:
        for (size_t i = 0; i < n; i++)
            memcpy(y + 8 * i, x + (ptrdiff_t)i * stride, 8);
        break;
    }
}

/* ---- TRANSPOSE: axis i of y is axis perm[i] of x */

static eq_status validate_transpose(const eq_node *node)
{
    const eq_transpose_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    uint32_t seen = 0;
    EQ_TRY(check_element(node, x));
    EQ_TRY(eq_check_rank(node, "output", y, x->rank));
    for (uint32_t i = 0; i < EQ_MAX_RANK; i++) {
        const uint32_t from = p->perm[i];
        if (from >= EQ_MAX_RANK || (seen >> from & 1) || (i >= x->rank && from != i))
            return eq_node_error(node, "perm[%u] is %u: not a permutation of %u axes", i, from,
                                 (uint32_t)x->rank);
        seen |= 1u << from;
    }
    if (p->reserved[0] != 0 || p->reserved[1] != 0)
        return eq_node_error(node, "reserved parameters are not 0");
    for (uint32_t i = 0; i < x->rank; i++)
        EQ_TRY(eq_check_dim(node, "output", y, i, x->dims[p->perm[i]]));
    return EQ_OK;
}

/* The axes of y, outermost first, as sizes and strides into x. Axes of size 1 are left out;
 * neighbours that are neighbours in x too are one axis. */
typedef struct axes {
    uint32_t count;
    size_t size[EQ_MAX_RANK], stride[EQ_MAX_RANK];
} axes;

static axes transposed_axes(const eq_node *node)
{
    const eq_transpose_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0);
    axes out = {.count = 0};
    for (uint32_t i = 0; i < x->rank; i++) {
        const size_t size = (size_t)x->dims[p->perm[i]];
        const size_t stride = eq_count(x, p->perm[i] + 1u, x->rank);
        if (size == 1)
            continue;
        if (out.count > 0 && out.stride[out.count - 1] == size * stride) {
            out.size[out.count - 1] *= size;
            out.stride[out.count - 1] = stride;
        } else {
            out.size[out.count] = size;
            out.stride[out.count++] = stride;
        }
    }
    return out;
}

/* Elements of one byte whose innermost axes differ: a matrix of `rows` (innermost in y) by `cols`
 * (innermost in x, axis `col` of y) at every position of the other axes. */
static void transpose_bytes(const eq_node *node, const axes *a, uint32_t col)
{
    const uint32_t row = a->count - 1;
    const int8_t *x = eq_arg_data(node, 0);
    int8_t *y = eq_out_data(node);
    size_t y_stride[EQ_MAX_RANK], total = 1;
    eq_walk walk = {.rank = 0};
    for (uint32_t i = a->count; i-- > 0;) {
        y_stride[i] = total;
        total *= a->size[i];
    }
    for (uint32_t i = 0; i < row; i++)
        if (i != col)
            eq_walk_add(&walk, a->size[i], (ptrdiff_t)a->stride[i], (ptrdiff_t)y_stride[i]);
    do
        node->kernels->transpose(a->size[row], a->size[col], x + walk.at[0], a->stride[row],
                                 y + walk.at[1], y_stride[col]);
    while (eq_walk_next(&walk));
}

static void run_transpose(const eq_node *node)
{
    const size_t bytes = eq_dtype_size(eq_out(node)->dtype);
    const uint8_t *x = eq_arg_data(node, 0);
    uint8_t *y = eq_out_data(node);
    const axes a = transposed_axes(node);
    eq_walk walk = {.rank = 0};
    if (a.count == 0) {
        memcpy(y, x, bytes);
        return;
    }
    const size_t n = a.size[a.count - 1], stride = a.stride[a.count - 1];
    if (stride != 1 && bytes == 1) {
        for (uint32_t i = 0; i + 1 < a.count; i++)
            if (a.stride[i] == 1)
                transpose_bytes(node, &a, i);
        return;
    }
    for (uint32_t i = 0; i + 1 < a.count; i++)
        eq_walk_add(&walk, a.size[i], (ptrdiff_t)(a.stride[i] * bytes), 0);
    do {
        if (stride == 1)
            memcpy(y, x + walk.at[0], n * bytes);
        else
            gather(n, bytes, x + walk.at[0], (ptrdiff_t)(stride * bytes), y);
        y += n * bytes;
    } while (eq_walk_next(&walk));
}

static const char *transpose_path(const eq_node *node, size_t *slot)
{
    const axes a = transposed_axes(node);
    const bool rows = a.count == 0 || a.stride[a.count - 1] == 1;
    if (!rows && eq_dtype_size(eq_out(node)->dtype) == 1)
        return "a matrix at a time";
    *slot = EQ_NO_SLOT;
    return rows ? "the innermost axis stays: copies rows" : "gathers elements of several bytes";
}

const eq_op_def eq_op_transpose = {
    .min_inputs = 1,
    .max_inputs = 1,
    .validate = validate_transpose,
    .run = run_transpose,
    .path = transpose_path,
    .slot = EQ_SLOT(transpose),
};

/* ---- CONCATENATION */

static eq_status validate_concatenation(const eq_node *node)
{
    const eq_concat_params *p = node->params;
    const eq_file_tensor *y = eq_out(node);
    int64_t sum = 0; /* < 2^16 * 2^31 */
    if (p->axis >= y->rank)
        return eq_node_error(node, "axis is %u, the output has rank %u", p->axis,
                             (uint32_t)y->rank);
    for (uint32_t i = 0; i < node->op->input_count; i++) {
        const eq_file_tensor *x = eq_arg(node, i);
        EQ_TRY(check_element(node, x));
        EQ_TRY(eq_check_rank(node, "output", y, x->rank));
        for (uint32_t a = 0; a < y->rank; a++)
            if (a != p->axis)
                EQ_TRY(eq_check_dim(node, "output", y, a, x->dims[a]));
        sum += x->dims[p->axis];
    }
    return eq_check_dim(node, "output", y, p->axis, sum);
}

static void run_concatenation(const eq_node *node)
{
    const eq_concat_params *p = node->params;
    const eq_file_tensor *yt = eq_out(node);
    const size_t bytes = eq_dtype_size(yt->dtype), outer = eq_count(yt, 0, p->axis);
    const size_t y_block = eq_count(yt, p->axis, yt->rank) * bytes;
    uint8_t *y = eq_out_data(node);
    for (uint32_t i = 0; i < node->op->input_count; i++) {
        const eq_file_tensor *xt = eq_arg(node, i);
        const uint8_t *x = eq_arg_data(node, i);
        const size_t block = eq_count(xt, p->axis, xt->rank) * bytes;
        for (size_t o = 0; o < outer; o++)
            memcpy(y + o * y_block, x + o * block, block);
        y += block;
    }
}

const eq_op_def eq_op_concatenation = {
    .min_inputs = 1,
    .max_inputs = EQ_MAX_CONCAT,
    .validate = validate_concatenation,
    .run = run_concatenation,
    .why = "copies blocks",
};

/* ---- SLICE */

static eq_status validate_slice(const eq_node *node)
{
    const eq_slice_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    EQ_TRY(check_element(node, x));
    EQ_TRY(eq_check_rank(node, "output", y, x->rank));
    for (uint32_t a = 0; a < x->rank; a++) {
        const int64_t last = p->begin[a] + (y->dims[a] - (int64_t)1) * p->stride[a];
        if (p->stride[a] == 0)
            return eq_node_error(node, "stride of axis %u is 0", a);
        if (p->begin[a] < 0 || p->begin[a] >= x->dims[a] || last < 0 || last >= x->dims[a])
            return eq_node_error(node, "axis %u: elements %d to %l of %d", a, p->begin[a], last,
                                 x->dims[a]);
    }
    for (uint32_t a = x->rank; a < EQ_MAX_RANK; a++)
        if (p->begin[a] != 0 || p->stride[a] != 1)
            return eq_node_error(node, "axis %u of %u begins at %d with stride %d, must be 0 and 1",
                                 a, (uint32_t)x->rank, p->begin[a], p->stride[a]);
    return EQ_OK;
}

/* Axes that are taken whole join the one outside of them; what then is innermost is a row. */
static void run_slice(const eq_node *node)
{
    const eq_slice_params *p = node->params;
    const eq_file_tensor *xt = eq_arg(node, 0), *yt = eq_out(node);
    const size_t bytes = eq_dtype_size(yt->dtype);
    const uint8_t *x = eq_arg_data(node, 0);
    uint8_t *y = eq_out_data(node);
    uint32_t inner = xt->rank;
    while (inner > 0 && xt->dims[inner - 1] == yt->dims[inner - 1] && p->stride[inner - 1] == 1)
        inner--;
    size_t block = eq_count(xt, inner, xt->rank) * bytes, n = 1; /* n blocks a row */
    ptrdiff_t row_stride = 0;
    eq_walk walk = {.rank = 0};
    for (uint32_t a = 0; a < inner; a++) {
        const ptrdiff_t stride = (ptrdiff_t)(eq_count(xt, a + 1, xt->rank) * bytes);
        /* One element has no step; the file's could be too large to multiply. */
        const ptrdiff_t step = yt->dims[a] > 1 ? p->stride[a] * stride : 0;
        x += p->begin[a] * stride;
        if (a + 1 < inner) {
            eq_walk_add(&walk, (size_t)yt->dims[a], step, 0);
        } else if (p->stride[a] == 1) {
            block *= (size_t)yt->dims[a];
        } else {
            n = (size_t)yt->dims[a];
            row_stride = step;
        }
    }
    do {
        const uint8_t *row = x + walk.at[0];
        if (n > 1 && block == bytes)
            gather(n, bytes, row, row_stride, y);
        else
            for (size_t i = 0; i < n; i++)
                memcpy(y + i * block, row + (ptrdiff_t)i * row_stride, block);
        y += n * block;
    } while (eq_walk_next(&walk));
}

const eq_op_def eq_op_slice = {
    .min_inputs = 1,
    .max_inputs = 1,
    .validate = validate_slice,
    .run = run_slice,
    .why = "copies blocks, gathers where a stride is not 1",
};

/* ---- COPY */

static eq_status validate_copy(const eq_node *node)
{
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    EQ_TRY(check_element(node, x));
    if (eq_elements(x) != eq_elements(y))
        return eq_node_error(node, "%z elements are copied to %z", eq_elements(x), eq_elements(y));
    return EQ_OK;
}

static void run_copy(const eq_node *node)
{
    const eq_file_tensor *yt = eq_out(node);
    const void *x = eq_arg_data(node, 0);
    void *y = eq_out_data(node);
    if (x != y)
        memcpy(y, x, eq_elements(yt) * eq_dtype_size(yt->dtype));
}

const eq_op_def eq_op_copy = {
    .min_inputs = 1,
    .max_inputs = 1,
    .inplace = true,
    .validate = validate_copy,
    .run = run_copy,
    .why = "copies, unless in place",
};

/* ---- ARG_MAX */

static eq_status validate_arg_max(const eq_node *node)
{
    const eq_argmax_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    EQ_TRY(eq_check_quantized(node, "input", x));
    if (y->dtype != EQ_DT_INT32)
        EQ_TRY(eq_check_dtype(node, "output", y, EQ_DT_INT64));
    EQ_TRY(eq_check_rank(node, "output", y, x->rank));
    if (p->axis >= x->rank)
        return eq_node_error(node, "axis is %u, the input has rank %u", p->axis, (uint32_t)x->rank);
    for (uint32_t a = 0; a < x->rank; a++)
        EQ_TRY(eq_check_dim(node, "output", y, a, a == p->axis ? 1 : x->dims[a]));
    return EQ_OK;
}

/* The first of the greatest of n elements. */
static size_t arg_max(size_t n, const int8_t *x, size_t stride)
{
    size_t index = 0;
    int8_t best = x[0];
    if (stride != 1) {
        for (size_t i = 1; i < n; i++) {
            if (x[i * stride] > best) {
                best = x[i * stride];
                index = i;
            }
        }
        return index;
    }
    for (size_t i = 1; i < n; i++)
        best = x[i] > best ? x[i] : best;
    return (size_t)((const int8_t *)memchr(x, (uint8_t)best, n) - x);
}

static size_t arg_max_16(size_t n, const int16_t *x, size_t stride)
{
    size_t index = 0;
    for (size_t i = 1; i < n; i++)
        index = x[i * stride] > x[index * stride] ? i : index;
    return index;
}

static void run_arg_max(const eq_node *node)
{
    const eq_argmax_params *p = node->params;
    const eq_file_tensor *xt = eq_arg(node, 0), *yt = eq_out(node);
    const void *x = eq_arg_data(node, 0);
    uint8_t *y = eq_out_data(node);
    const size_t bytes = eq_dtype_size(yt->dtype), n = (size_t)xt->dims[p->axis];
    const size_t outer = eq_count(xt, 0, p->axis), inner = eq_count(xt, p->axis + 1, xt->rank);
    for (size_t o = 0; o < outer; o++) {
        for (size_t i = 0; i < inner; i++, y += bytes) {
            const size_t at = o * n * inner + i;
            const int64_t index =
                (int64_t)(xt->dtype == EQ_DT_INT16 ? arg_max_16(n, (const int16_t *)x + at, inner)
                                                   : arg_max(n, (const int8_t *)x + at, inner));
            memcpy(y, &index, bytes); /* little-endian */
        }
    }
}

const eq_op_def eq_op_arg_max = {
    .min_inputs = 1,
    .max_inputs = 1,
    .validate = validate_arg_max,
    .run = run_arg_max,
    .why = "a loop over the axis",
};
