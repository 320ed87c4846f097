/* SPDX-License-Identifier: Apache-2.0
 *
 * Whole numbers: indices, masks, counts. INTEGER: arithmetic, comparisons and logic of two operands
 * with broadcasting. SELECT: of two by a mask. CAST. Elements are read as int64 and written with as
 * many bytes as y has, so that everything wraps as the type does; these tensors are small. */
#include <string.h>

#include "ops/broadcast.h"

static int64_t load(const uint8_t *p, uint8_t dtype)
{
    int32_t i32;
    int64_t i64;
    switch (dtype) {
    case EQ_DT_INT32: memcpy(&i32, p, sizeof i32); return i32;
    case EQ_DT_INT64: memcpy(&i64, p, sizeof i64); return i64;
    case EQ_DT_INT8: return (int8_t)*p;
    default: return *p; /* bool */
    }
}

static void store(uint8_t *p, uint8_t dtype, int64_t value)
{
    memcpy(p, &value, eq_dtype_size(dtype)); /* little-endian */
}

static bool is_whole(uint8_t dtype)
{
    return dtype == EQ_DT_INT32 || dtype == EQ_DT_INT64;
}

/* ---- INTEGER */

/* Division rounds down; by 0 it gives 0, as does the remainder. */
static int64_t floor_div(int64_t a, int64_t b)
{
    if (b == 0)
        return 0;
    if (b == -1)
        return (int64_t)(0 - (uint64_t)a);
    const int64_t q = a / b;
    return q - (a % b != 0 && (a < 0) != (b < 0));
}

static int64_t compute(uint32_t function, int64_t a, int64_t b)
{
    const uint64_t u = (uint64_t)a, v = (uint64_t)b;
    switch (function) {
    case EQ_INT_ADD: return (int64_t)(u + v);
    case EQ_INT_SUB: return (int64_t)(u - v);
    case EQ_INT_MUL: return (int64_t)(u * v);
    case EQ_INT_MAXIMUM: return a > b ? a : b;
    case EQ_INT_MINIMUM: return a < b ? a : b;
    case EQ_INT_DIV: return b == 0 ? 0 : b == -1 ? (int64_t)(0 - u) : a / b;
    case EQ_INT_FLOOR_DIV: return floor_div(a, b);
    case EQ_INT_FLOOR_MOD: return b == 0 ? 0 : (int64_t)(u - (uint64_t)floor_div(a, b) * v);
    case EQ_INT_EQUAL: return a == b;
    case EQ_INT_NOT_EQUAL: return a != b;
    case EQ_INT_LESS: return a < b;
    case EQ_INT_LESS_EQUAL: return a <= b;
    case EQ_INT_AND: return a & b;
    default: return a | b; /* EQ_INT_OR */
    }
}

static eq_status validate_integer(const eq_node *node)
{
    const eq_integer_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    const uint32_t f = p->function;
    if (f >= EQ_INT_COUNT)
        return eq_node_error(node, "function %u is unknown", f);
    const bool logic = f == EQ_INT_AND || f == EQ_INT_OR;
    const bool mask =
        x->dtype == EQ_DT_BOOL && (logic || f == EQ_INT_EQUAL || f == EQ_INT_NOT_EQUAL);
    if (!mask && (!is_whole(x->dtype) || logic))
        return eq_node_error(node, "input 0 is %s, which function %u does not take",
                             eq_dtype_name((eq_dtype)x->dtype), f);
    EQ_TRY(eq_check_dtype(node, "input 1", eq_arg(node, 1), x->dtype));
    EQ_TRY(eq_check_dtype(node, "output", y, f >= EQ_INT_EQUAL ? EQ_DT_BOOL : x->dtype));
    return eq_check_broadcast(node, 2);
}

static void run_integer(const eq_node *node)
{
    const eq_integer_params *p = node->params;
    const eq_file_tensor *y = eq_out(node);
    const uint8_t from = eq_arg(node, 0)->dtype;
    const size_t size = eq_dtype_size(from), y_size = eq_dtype_size(y->dtype), n = eq_elements(y);
    const uint8_t *x1 = eq_arg_data(node, 0), *x2 = eq_arg_data(node, 1);
    uint8_t *out = eq_out_data(node);
    eq_cursor c = {.at = {0, 0, 0}};
    eq_broadcast_strides(eq_arg(node, 0), y, c.stride[0]);
    eq_broadcast_strides(eq_arg(node, 1), y, c.stride[1]);
    for (size_t i = 0; i < n; i++, eq_advance(&c, y, 2))
        store(
            out + i * y_size, y->dtype,
            compute(p->function, load(x1 + c.at[0] * size, from), load(x2 + c.at[1] * size, from)));
}

const eq_op_def eq_op_integer = {
    .min_inputs = 2,
    .max_inputs = 2,
    .inplace = true,
    .validate = validate_integer,
    .run = run_integer,
    .why = "a loop over whole numbers",
};

/* ---- SELECT */

static eq_status validate_select(const eq_node *node)
{
    const eq_file_tensor *y = eq_out(node);
    EQ_TRY(eq_check_dtype(node, "mask", eq_arg(node, 0), EQ_DT_BOOL));
    if (eq_dtype_size(y->dtype) == 0)
        return eq_node_error(node, "elements of dtype %u cannot be moved", (uint32_t)y->dtype);
    EQ_TRY(eq_check_dtype(node, "input 1", eq_arg(node, 1), y->dtype));
    EQ_TRY(eq_check_dtype(node, "input 2", eq_arg(node, 2), y->dtype));
    return eq_check_broadcast(node, 3);
}

static void run_select(const eq_node *node)
{
    const eq_file_tensor *y = eq_out(node);
    const size_t size = eq_dtype_size(y->dtype), n = eq_elements(y);
    const uint8_t *mask = eq_arg_data(node, 0), *x1 = eq_arg_data(node, 1);
    const uint8_t *x2 = eq_arg_data(node, 2);
    uint8_t *out = eq_out_data(node);
    eq_cursor c = {.at = {0, 0, 0}};
    for (uint32_t i = 0; i < 3; i++)
        eq_broadcast_strides(eq_arg(node, i), y, c.stride[i]);
    for (size_t i = 0; i < n; i++, eq_advance(&c, y, 3))
        memmove(out + i * size, mask[c.at[0]] ? x1 + c.at[1] * size : x2 + c.at[2] * size, size);
}

const eq_op_def eq_op_select = {
    .min_inputs = 3,
    .max_inputs = 3,
    .inplace = true,
    .validate = validate_select,
    .run = run_select,
    .why = "a loop over the mask",
};

/* ---- CAST */

static eq_status validate_cast(const eq_node *node)
{
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    for (uint32_t i = 0; i < 2; i++) {
        const uint8_t dtype = i == 0 ? x->dtype : y->dtype;
        if (!is_whole(dtype) && dtype != EQ_DT_BOOL && dtype != EQ_DT_INT8)
            return eq_node_error(node, "%s of %s", i == 0 ? "input" : "output",
                                 eq_dtype_name((eq_dtype)dtype));
    }
    return eq_check_same_shape(node, x, y);
}

static void run_cast(const eq_node *node)
{
    const eq_file_tensor *xt = eq_arg(node, 0), *yt = eq_out(node);
    const size_t size = eq_dtype_size(xt->dtype), y_size = eq_dtype_size(yt->dtype);
    const size_t n = eq_elements(yt);
    const uint8_t *x = eq_arg_data(node, 0);
    uint8_t *y = eq_out_data(node);
    for (size_t i = 0; i < n; i++) {
        const int64_t value = load(x + i * size, xt->dtype);
        store(y + i * y_size, yt->dtype, yt->dtype == EQ_DT_BOOL ? value != 0 : value);
    }
}

const eq_op_def eq_op_cast = {
    .min_inputs = 1,
    .max_inputs = 1,
    .validate = validate_cast,
    .run = run_cast,
    .why = "a loop over whole numbers",
};

/* ---- REDUCE, CUMSUM: over the axes of x, each element of y in turn */

static int64_t combine(uint32_t function, int64_t a, int64_t b)
{
    static const uint8_t functions[EQ_REDUCE_COUNT] = {EQ_INT_ADD,     EQ_INT_MUL, EQ_INT_MAXIMUM,
                                                       EQ_INT_MINIMUM, EQ_INT_AND, EQ_INT_OR};
    return compute(functions[function], a, b);
}

static eq_status validate_reduce(const eq_node *node)
{
    const eq_reduce_integer_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    if (p->function >= EQ_REDUCE_COUNT)
        return eq_node_error(node, "function %u is unknown", p->function);
    if (p->function >= EQ_REDUCE_ALL)
        EQ_TRY(eq_check_dtype(node, "input", x, EQ_DT_BOOL));
    else if (!is_whole(x->dtype))
        return eq_node_error(node, "input is %s, must be int32 or int64",
                             eq_dtype_name((eq_dtype)x->dtype));
    EQ_TRY(eq_check_dtype(node, "output", y, x->dtype));
    EQ_TRY(eq_check_rank(node, "output", y, x->rank));
    if (p->axes >> x->rank != 0)
        return eq_node_error(node, "axes are %u, an input of rank %u has fewer", p->axes,
                             (uint32_t)x->rank);
    for (uint32_t a = 0; a < x->rank; a++)
        EQ_TRY(eq_check_dim(node, "output", y, a, p->axes >> a & 1 ? 1 : x->dims[a]));
    return EQ_OK;
}

/* y is a broadcast operand of x: each element of x goes into its own of y. */
static void run_reduce(const eq_node *node)
{
    const eq_reduce_integer_params *p = node->params;
    const eq_file_tensor *xt = eq_arg(node, 0), *yt = eq_out(node);
    const size_t size = eq_dtype_size(xt->dtype), n = eq_elements(xt);
    const uint8_t *x = eq_arg_data(node, 0);
    uint8_t *y = eq_out_data(node);
    eq_cursor c = {.at = {0, 0, 0}};
    eq_broadcast_strides(yt, xt, c.stride[0]);
    for (size_t i = 0; i < n; i++, eq_advance(&c, xt, 1)) {
        bool first = true; /* all reduced axes at 0: nothing is there yet */
        for (uint32_t a = 0; a < xt->rank; a++)
            first = first && (!(p->axes >> a & 1) || c.index[a] == 0);
        uint8_t *to = y + c.at[0] * size;
        const int64_t value = load(x + i * size, xt->dtype);
        store(to, xt->dtype, first ? value : combine(p->function, load(to, xt->dtype), value));
    }
}

const eq_op_def eq_op_reduce_integer = {
    .min_inputs = 1,
    .max_inputs = 1,
    .validate = validate_reduce,
    .run = run_reduce,
    .why = "a loop over whole numbers",
};

static eq_status validate_cumsum(const eq_node *node)
{
    const eq_cumsum_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    if (!is_whole(x->dtype))
        return eq_node_error(node, "input is %s, must be int32 or int64",
                             eq_dtype_name((eq_dtype)x->dtype));
    EQ_TRY(eq_check_dtype(node, "output", y, x->dtype));
    if (p->axis >= x->rank)
        return eq_node_error(node, "axis is %u, the input has rank %u", p->axis, (uint32_t)x->rank);
    EQ_TRY(eq_check_range(node, "exclusive", p->exclusive, 0, 1));
    EQ_TRY(eq_check_range(node, "reverse", p->reverse, 0, 1));
    return eq_check_same_shape(node, x, y);
}

static void run_cumsum(const eq_node *node)
{
    const eq_cumsum_params *p = node->params;
    const eq_file_tensor *t = eq_out(node);
    const size_t size = eq_dtype_size(t->dtype), n = (size_t)t->dims[p->axis];
    const size_t outer = eq_count(t, 0, p->axis), inner = eq_count(t, p->axis + 1, t->rank);
    const uint8_t *x = eq_arg_data(node, 0);
    uint8_t *y = eq_out_data(node);
    for (size_t o = 0; o < outer; o++) {
        for (size_t i = 0; i < inner; i++) {
            int64_t sum = 0;
            for (size_t k = 0; k < n; k++) {
                const size_t at = ((o * n + (p->reverse ? n - 1 - k : k)) * inner + i) * size;
                const int64_t value = load(x + at, t->dtype);
                const int64_t next = compute(EQ_INT_ADD, sum, value);
                store(y + at, t->dtype, p->exclusive ? sum : next);
                sum = next;
            }
        }
    }
}

const eq_op_def eq_op_cumsum = {
    .min_inputs = 1,
    .max_inputs = 1,
    .validate = validate_cumsum,
    .run = run_cumsum,
    .why = "a loop over whole numbers",
};
