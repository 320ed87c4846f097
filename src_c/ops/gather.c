/* SPDX-License-Identifier: Apache-2.0
 *
 * Elements chosen by indices that the network computes: GATHER, GATHER_ND, SCATTER_ND,
 * UPDATE_SLICE, TOP_K. An index outside of its axis counts as the nearest one inside: whatever the
 * network computes, no memory outside of the tensors is touched. */
#include <string.h>

#include "ops/ops.h"

static eq_status check_indices(const eq_node *node, const char *what, const eq_file_tensor *t)
{
    return t->dtype == EQ_DT_INT32 ? EQ_OK : eq_check_dtype(node, what, t, EQ_DT_INT64);
}

static eq_status check_movable(const eq_node *node, const eq_file_tensor *x)
{
    if (eq_dtype_size(x->dtype) == 0)
        return eq_node_error(node, "elements of dtype %u cannot be moved", (uint32_t)x->dtype);
    return eq_check_dtype(node, "output", eq_out(node), x->dtype);
}

/* Element i of an index tensor, within [0, size). */
static size_t index_at(const eq_file_tensor *t, const void *data, size_t i, size_t size)
{
    int32_t narrow;
    int64_t wide;
    if (t->dtype == EQ_DT_INT64) {
        memcpy(&wide, (const uint8_t *)data + i * sizeof wide, sizeof wide);
    } else {
        memcpy(&narrow, (const uint8_t *)data + i * sizeof narrow, sizeof narrow);
        wide = narrow;
    }
    return wide < 0 ? 0 : wide >= (int64_t)size ? size - 1 : (size_t)wide;
}

/* ---- GATHER: y = x[batch..., outer..., indices, inner...] */

static eq_status validate_gather(const eq_node *node)
{
    const eq_gather_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *indices = eq_arg(node, 1), *y = eq_out(node);
    EQ_TRY(check_movable(node, x));
    EQ_TRY(check_indices(node, "indices", indices));
    if (p->axis >= x->rank || p->batch_dims > p->axis || p->batch_dims > indices->rank)
        return eq_node_error(node, "axis %u and %u batch axes, of ranks %u and %u", p->axis,
                             p->batch_dims, (uint32_t)x->rank, (uint32_t)indices->rank);
    EQ_TRY(eq_check_rank(node, "output", y, x->rank + indices->rank - p->batch_dims - 1u));
    for (uint32_t a = 0; a < p->batch_dims; a++)
        EQ_TRY(eq_check_dim(node, "indices", indices, a, x->dims[a]));
    uint32_t to = 0;
    for (uint32_t a = 0; a < p->axis; a++)
        EQ_TRY(eq_check_dim(node, "output", y, to++, x->dims[a]));
    for (uint32_t a = p->batch_dims; a < indices->rank; a++)
        EQ_TRY(eq_check_dim(node, "output", y, to++, indices->dims[a]));
    for (uint32_t a = p->axis + 1; a < x->rank; a++)
        EQ_TRY(eq_check_dim(node, "output", y, to++, x->dims[a]));
    return EQ_OK;
}

static void run_gather(const eq_node *node)
{
    const eq_gather_params *p = node->params;
    const eq_file_tensor *xt = eq_arg(node, 0), *it = eq_arg(node, 1);
    const size_t bytes = eq_count(xt, p->axis + 1, xt->rank) * eq_dtype_size(xt->dtype);
    const size_t batches = eq_count(xt, 0, p->batch_dims), size = (size_t)xt->dims[p->axis];
    const size_t outer = eq_count(xt, p->batch_dims, p->axis);
    const size_t n = eq_count(it, p->batch_dims, it->rank);
    const uint8_t *x = eq_arg_data(node, 0);
    const void *indices = eq_arg_data(node, 1);
    uint8_t *y = eq_out_data(node);
    for (size_t b = 0; b < batches; b++)
        for (size_t o = 0; o < outer; o++, x += size * bytes)
            for (size_t i = 0; i < n; i++, y += bytes)
                memcpy(y, x + index_at(it, indices, b * n + i, size) * bytes, bytes);
}

const eq_op_def eq_op_gather = {
    .min_inputs = 2,
    .max_inputs = 2,
    .validate = validate_gather,
    .run = run_gather,
    .why = "copies blocks by their indices",
};

/* ---- GATHER_ND, SCATTER_ND: the last axis of the indices holds one index an axis */

/* Where element `row` of the indices points to, in blocks of the axes behind the indexed ones. */
static size_t block_at(const eq_file_tensor *it, const void *indices, size_t row,
                       const eq_file_tensor *t)
{
    const size_t depth = (size_t)it->dims[it->rank - 1];
    size_t block = 0;
    for (size_t k = 0; k < depth; k++) {
        const size_t size = (size_t)t->dims[k];
        block = block * size + index_at(it, indices, row * depth + k, size);
    }
    return block;
}

/* `blocks`: what is moved, of the indices' shape but for the last axis, then that of what is left
 * of `t`, which is indexed. */
static eq_status check_blocks(const eq_node *node, const eq_file_tensor *indices,
                              const eq_file_tensor *t, const char *what,
                              const eq_file_tensor *blocks)
{
    EQ_TRY(check_indices(node, "indices", indices));
    if (indices->rank == 0 || indices->dims[indices->rank - 1] > t->rank)
        return eq_node_error(node, "indices of rank %u into a tensor of rank %u",
                             (uint32_t)indices->rank, (uint32_t)t->rank);
    const uint32_t depth = (uint32_t)indices->dims[indices->rank - 1];
    EQ_TRY(eq_check_rank(node, what, blocks, indices->rank - 1u + t->rank - depth));
    uint32_t to = 0;
    for (uint32_t a = 0; a + 1 < indices->rank; a++)
        EQ_TRY(eq_check_dim(node, what, blocks, to++, indices->dims[a]));
    for (uint32_t a = depth; a < t->rank; a++)
        EQ_TRY(eq_check_dim(node, what, blocks, to++, t->dims[a]));
    return EQ_OK;
}

static eq_status validate_gather_nd(const eq_node *node)
{
    const eq_file_tensor *x = eq_arg(node, 0);
    EQ_TRY(check_movable(node, x));
    return check_blocks(node, eq_arg(node, 1), x, "output", eq_out(node));
}

static void run_gather_nd(const eq_node *node)
{
    const eq_file_tensor *xt = eq_arg(node, 0), *it = eq_arg(node, 1);
    const uint32_t depth = (uint32_t)it->dims[it->rank - 1];
    const size_t bytes = eq_count(xt, depth, xt->rank) * eq_dtype_size(xt->dtype);
    const size_t rows = eq_count(it, 0, it->rank - 1u);
    const uint8_t *x = eq_arg_data(node, 0);
    const void *indices = eq_arg_data(node, 1);
    uint8_t *y = eq_out_data(node);
    for (size_t r = 0; r < rows; r++, y += bytes)
        memcpy(y, x + block_at(it, indices, r, xt) * bytes, bytes);
}

const eq_op_def eq_op_gather_nd = {
    .min_inputs = 2,
    .max_inputs = 2,
    .validate = validate_gather_nd,
    .run = run_gather_nd,
    .why = "copies blocks by their indices",
};

static eq_status validate_scatter_nd(const eq_node *node)
{
    const eq_file_tensor *updates = eq_arg(node, 1);
    EQ_TRY(check_movable(node, updates));
    if (updates->dtype != EQ_DT_INT8 && updates->dtype != EQ_DT_INT32
        && updates->dtype != EQ_DT_INT64)
        return eq_node_error(node, "updates is %s, which cannot be added",
                             eq_dtype_name((eq_dtype)updates->dtype));
    return check_blocks(node, eq_arg(node, 0), eq_out(node), "updates", updates);
}

/* y[i] += x[i], i < n, modulo the type's range. */
static void add_block(size_t n, size_t size, const uint8_t *x, uint8_t *y)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t a = 0, b = 0;
        memcpy(&a, x + i * size, size); /* little-endian */
        memcpy(&b, y + i * size, size);
        a += b;
        memcpy(y + i * size, &a, size);
    }
}

static void run_scatter_nd(const eq_node *node)
{
    const eq_file_tensor *it = eq_arg(node, 0), *yt = eq_out(node);
    const uint32_t depth = (uint32_t)it->dims[it->rank - 1];
    const size_t size = eq_dtype_size(yt->dtype), n = eq_count(yt, depth, yt->rank);
    const size_t rows = eq_count(it, 0, it->rank - 1u);
    const void *indices = eq_arg_data(node, 0);
    const uint8_t *x = eq_arg_data(node, 1);
    uint8_t *y = eq_out_data(node);
    memset(y, 0, eq_elements(yt) * size);
    for (size_t r = 0; r < rows; r++, x += n * size)
        add_block(n, size, x, y + block_at(it, indices, r, yt) * n * size);
}

const eq_op_def eq_op_scatter_nd = {
    .min_inputs = 2,
    .max_inputs = 2,
    .validate = validate_scatter_nd,
    .run = run_scatter_nd,
    .why = "adds blocks by their indices",
};

/* ---- UPDATE_SLICE: x with `update` written over it */

static eq_status validate_update_slice(const eq_node *node)
{
    const eq_file_tensor *x = eq_arg(node, 0), *update = eq_arg(node, 1), *begin = eq_arg(node, 2);
    EQ_TRY(check_movable(node, x));
    EQ_TRY(eq_check_dtype(node, "update", update, x->dtype));
    EQ_TRY(check_indices(node, "begin", begin));
    EQ_TRY(eq_check_same_shape(node, x, eq_out(node)));
    EQ_TRY(eq_check_rank(node, "update", update, x->rank));
    EQ_TRY(eq_check_rank(node, "begin", begin, 1));
    EQ_TRY(eq_check_dim(node, "begin", begin, 0, x->rank));
    for (uint32_t a = 0; a < x->rank; a++)
        if (update->dims[a] > x->dims[a])
            return eq_node_error(node, "dimension %u of update is %d, of the input %d", a,
                                 update->dims[a], x->dims[a]);
    return EQ_OK;
}

/* The update is moved so far that it lies inside. */
static void run_update_slice(const eq_node *node)
{
    const eq_file_tensor *xt = eq_arg(node, 0), *ut = eq_arg(node, 1), *bt = eq_arg(node, 2);
    const size_t size = eq_dtype_size(xt->dtype);
    const uint8_t *x = eq_arg_data(node, 0), *update = eq_arg_data(node, 1);
    uint8_t *y = eq_out_data(node);
    size_t index[EQ_MAX_RANK] = {0}, begin[EQ_MAX_RANK];
    memcpy(y, x, eq_elements(xt) * size);
    for (uint32_t a = 0; a < xt->rank; a++)
        begin[a] =
            index_at(bt, eq_arg_data(node, 2), a, (size_t)xt->dims[a] - (size_t)ut->dims[a] + 1);
    const uint32_t outer = xt->rank - 1u;
    const size_t row = (size_t)ut->dims[outer] * size, rows = eq_count(ut, 0, outer);
    for (size_t r = 0; r < rows; r++, update += row) {
        size_t at = 0;
        for (uint32_t a = 0; a < xt->rank; a++)
            at = at * (size_t)xt->dims[a] + begin[a] + index[a];
        memcpy(y + at * size, update, row);
        for (uint32_t a = outer; a-- > 0;) {
            if (++index[a] < (size_t)ut->dims[a])
                break;
            index[a] = 0;
        }
    }
}

const eq_op_def eq_op_update_slice = {
    .min_inputs = 3,
    .max_inputs = 3,
    .validate = validate_update_slice,
    .run = run_update_slice,
    .why = "copies rows",
};

/* ---- TOP_K: the indices of the k greatest of each row, the first of equals first */

static eq_status validate_top_k(const eq_node *node)
{
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    if (x->dtype != EQ_DT_INT8 && x->dtype != EQ_DT_INT64)
        EQ_TRY(eq_check_dtype(node, "input", x, EQ_DT_INT32));
    EQ_TRY(eq_check_dtype(node, "output", y, EQ_DT_INT32));
    EQ_TRY(eq_check_rank(node, "output", y, x->rank));
    if (x->rank == 0 || y->dims[x->rank - 1] > x->dims[x->rank - 1])
        return eq_node_error(node, "more elements are wanted than a row has");
    for (uint32_t a = 0; a + 1 < x->rank; a++)
        EQ_TRY(eq_check_dim(node, "output", y, a, x->dims[a]));
    return EQ_OK;
}

static int64_t value_at(const void *x, uint8_t dtype, size_t i)
{
    return dtype == EQ_DT_INT8    ? ((const int8_t *)x)[i]
           : dtype == EQ_DT_INT32 ? ((const int32_t *)x)[i]
                                  : ((const int64_t *)x)[i];
}

/* Of x[first ... first + n), by insertion. */
static void top_k(size_t n, size_t k, const void *x, uint8_t dtype, size_t first, int32_t *y)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        const int64_t value = value_at(x, dtype, first + i);
        size_t place = count;
        if (count == k && value <= value_at(x, dtype, first + (size_t)y[k - 1]))
            continue;
        count += count < k;
        place = place < count ? place : count - 1;
        for (; place > 0 && value > value_at(x, dtype, first + (size_t)y[place - 1]); place--)
            y[place] = y[place - 1];
        y[place] = (int32_t)i;
    }
}

static void run_top_k(const eq_node *node)
{
    const eq_file_tensor *xt = eq_arg(node, 0), *yt = eq_out(node);
    const size_t n = (size_t)xt->dims[xt->rank - 1], k = (size_t)yt->dims[yt->rank - 1];
    const size_t rows = eq_count(xt, 0, xt->rank - 1u);
    int32_t *y = eq_out_data(node);
    for (size_t r = 0; r < rows; r++, y += k)
        top_k(n, k, eq_arg_data(node, 0), xt->dtype, r * n, y);
}

const eq_op_def eq_op_top_k = {
    .min_inputs = 1,
    .max_inputs = 1,
    .validate = validate_top_k,
    .run = run_top_k,
    .why = "insertion into a sorted list",
};
