/* SPDX-License-Identifier: Apache-2.0
 *
 * Between int8 and whole numbers: TABLE goes to them, SEARCH comes back. DIV: int8 by int8. */
#include <string.h>

#include "core/numerics.h"
#include "ops/broadcast.h"

enum {
    DIV_UNIT = 4096, /* elements that are worth a thread of their own */
    DIV_SHIFT = 20 /* without it the first of the two roundings of R31 would be one to an integer */
};

/* ---- TABLE: y = table[x + 128] */

static eq_status validate_table(const eq_node *node)
{
    const eq_table_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    EQ_TRY(eq_check_dtype(node, "input", x, EQ_DT_INT8));
    if (y->dtype != EQ_DT_INT32 && y->dtype != EQ_DT_BOOL)
        EQ_TRY(eq_check_dtype(node, "output", y, EQ_DT_INT64));
    EQ_TRY(eq_check_same_shape(node, x, y));
    EQ_TRY(eq_check_ref(node, "table", p->table, 256, sizeof(int32_t)));
    const int32_t *table = eq_ref_data(node, p->table);
    for (int i = 0; y->dtype == EQ_DT_BOOL && i < 256; i++)
        if (table[i] != 0 && table[i] != 1)
            return eq_node_error(node, "table[%d] is %d, must be 0 or 1", i, table[i]);
    return EQ_OK;
}

static void run_table(const eq_node *node)
{
    const eq_table_params *p = node->params;
    const eq_file_tensor *t = eq_out(node);
    const size_t n = eq_elements(t), size = eq_dtype_size(t->dtype);
    const int32_t *table = eq_ref_data(node, p->table);
    const int8_t *x = eq_arg_data(node, 0);
    uint8_t *y = eq_out_data(node);
    for (size_t i = 0; i < n; i++) {
        const int64_t value = table[x[i] + 128];
        memcpy(y + i * size, &value, size); /* little-endian */
    }
}

const eq_op_def eq_op_table = {
    .min_inputs = 1,
    .max_inputs = 1,
    .validate = validate_table,
    .run = run_table,
    .why = "a loop over the elements",
};

/* ---- SEARCH: y = values[how many of the boundaries are at most x] */

static eq_status validate_search(const eq_node *node)
{
    const eq_search_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    if (x->dtype != EQ_DT_INT32)
        EQ_TRY(eq_check_dtype(node, "input", x, EQ_DT_INT64));
    EQ_TRY(eq_check_dtype(node, "output", y, EQ_DT_INT8));
    EQ_TRY(eq_check_same_shape(node, x, y));
    EQ_TRY(eq_check_range(node, "count", p->count, 1, EQ_MAX_BOUNDARIES));
    EQ_TRY(eq_check_ref(node, "boundaries", p->boundaries, p->count, sizeof(int32_t)));
    EQ_TRY(eq_check_ref(node, "values", p->values, (size_t)p->count + 1, 1));
    const int32_t *boundaries = eq_ref_data(node, p->boundaries);
    for (uint32_t i = 1; i < p->count; i++)
        if (boundaries[i] <= boundaries[i - 1])
            return eq_node_error(node, "boundaries[%u] is %d, not above the one before it", i,
                                 boundaries[i]);
    return EQ_OK;
}

static size_t count_up_to(int64_t x, size_t count, const int32_t *boundaries)
{
    size_t low = 0, high = count; /* boundaries[low - 1] <= x < boundaries[high] */
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (boundaries[middle] <= x)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void run_search(const eq_node *node)
{
    const eq_search_params *p = node->params;
    const eq_file_tensor *t = eq_arg(node, 0);
    const size_t n = eq_elements(t);
    const int32_t *boundaries = eq_ref_data(node, p->boundaries);
    const int8_t *values = eq_ref_data(node, p->values);
    const bool wide = t->dtype == EQ_DT_INT64;
    const void *x = eq_arg_data(node, 0);
    int8_t *y = eq_out_data(node);
    for (size_t i = 0; i < n; i++) {
        const int64_t value = wide ? ((const int64_t *)x)[i] : ((const int32_t *)x)[i];
        y[i] = values[count_up_to(value, p->count, boundaries)];
    }
}

const eq_op_def eq_op_search = {
    .min_inputs = 1,
    .max_inputs = 1,
    .validate = validate_search,
    .run = run_search,
    .why = "a binary search an element",
};

/* ---- DIV: x1 times a function of x2, which a table of 256 multipliers holds */

static eq_status validate_div(const eq_node *node)
{
    const eq_div_params *p = node->params;
    EQ_TRY(eq_check_dtype(node, "input 0", eq_arg(node, 0), EQ_DT_INT8));
    EQ_TRY(eq_check_dtype(node, "input 1", eq_arg(node, 1), EQ_DT_INT8));
    EQ_TRY(eq_check_dtype(node, "output", eq_out(node), EQ_DT_INT8));
    EQ_TRY(eq_check_broadcast(node, 2));
    EQ_TRY(eq_check_range(node, "x1_zero", p->x1_zero, -128, 127));
    EQ_TRY(eq_check_range(node, "y_zero", p->y_zero, -128, 127));
    EQ_TRY(eq_check_range(node, "act_min", p->act_min, -128, 127));
    EQ_TRY(eq_check_range(node, "act_max", p->act_max, p->act_min, 127));
    EQ_TRY(eq_check_ref(node, "multiplier", p->multiplier, 256, sizeof(int32_t)));
    EQ_TRY(eq_check_ref(node, "exponent", p->exponent, 256, 1));
    const int32_t *m = eq_ref_data(node, p->multiplier);
    const int8_t *e = eq_ref_data(node, p->exponent);
    for (int i = 0; i < 256; i++) {
        const int64_t size = m[i] < 0 ? -(int64_t)m[i] : m[i];
        if (size != 0 && (size < (1 << 30) || size > INT32_MAX))
            return eq_node_error(node, "multiplier[%d] is %d, must be 0 or of 31 bits", i, m[i]);
        /* 255 * 2^(DIV_SHIFT + 2) does not wrap. */
        if (e[i] < -31 || e[i] > 2)
            return eq_node_error(node, "exponent[%d] is %d, must be in [-31, 2]", i, e[i]);
    }
    return EQ_OK;
}

/* Rows of the innermost axis, or all at once where nothing repeats. */
static size_t div_units(const eq_node *node)
{
    const eq_file_tensor *y = eq_out(node);
    const size_t n = eq_elements(y);
    if (eq_elements(eq_arg(node, 0)) == n && eq_elements(eq_arg(node, 1)) == n)
        return (n + DIV_UNIT - 1) / DIV_UNIT;
    return 1;
}

static void div_row(const eq_node *node, size_t n, const int8_t *x1, size_t step1, const int8_t *x2,
                    size_t step2, int8_t *y)
{
    const eq_div_params *p = node->params;
    const int32_t *m = eq_ref_data(node, p->multiplier);
    const int8_t *e = eq_ref_data(node, p->exponent);
    for (size_t i = 0; i < n; i++) {
        const int k = x2[i * step2] + 128;
        const int32_t x = (x1[i * step1] - p->x1_zero) * (1 << DIV_SHIFT);
        const int32_t v = eq_requant_r31(x, m[k], e[k]);
        y[i] = (int8_t)eq_clamp(eq_add_wrap(v, p->y_zero), p->act_min, p->act_max);
    }
}

static void run_div(const eq_node *node, size_t first, size_t end)
{
    const eq_file_tensor *yt = eq_out(node);
    const int8_t *x1 = eq_arg_data(node, 0), *x2 = eq_arg_data(node, 1);
    const size_t n = eq_elements(yt);
    int8_t *y = eq_out_data(node);
    if (eq_elements(eq_arg(node, 0)) == n && eq_elements(eq_arg(node, 1)) == n) {
        const size_t at = first * DIV_UNIT, stop = end * DIV_UNIT < n ? end * DIV_UNIT : n;
        div_row(node, stop - at, x1 + at, 1, x2 + at, 1, y + at);
        return;
    }
    eq_cursor c = {.at = {0, 0, 0}};
    eq_broadcast_strides(eq_arg(node, 0), yt, c.stride[0]);
    eq_broadcast_strides(eq_arg(node, 1), yt, c.stride[1]);
    eq_file_tensor rows = *yt; /* all axes but the innermost */
    rows.rank--;
    const size_t row = (size_t)yt->dims[rows.rank];
    for (size_t at = 0; at < n; at += row, eq_advance(&c, &rows, 2))
        div_row(node, row, x1 + c.at[0], c.stride[0][rows.rank], x2 + c.at[1],
                c.stride[1][rows.rank], y + at);
}

const eq_op_def eq_op_div = {
    .min_inputs = 2,
    .max_inputs = 2,
    .inplace = true,
    .validate = validate_div,
    .units = div_units,
    .run_units = run_div,
    .why = "a loop over the elements",
};
