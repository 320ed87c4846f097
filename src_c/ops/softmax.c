/* SPDX-License-Identifier: Apache-2.0
 *
 * SOFTMAX, LOG_SOFTMAX: over the last axis, row by row. */
#include "ops/ops.h"

static eq_status check_rows(const eq_node *node)
{
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    EQ_TRY(eq_check_dtype(node, "input", x, EQ_DT_INT8));
    EQ_TRY(eq_check_dtype(node, "output", y, EQ_DT_INT8));
    if (x->rank == 0)
        return eq_node_error(node, "input has rank 0, must be at least 1");
    return eq_check_same_shape(node, x, y);
}

/* exp(0) is 1, which saturates in Q0.31: a sum is never 0 and its logarithm never negative. */
static eq_status check_exp_table(const eq_node *node, uint32_t ref)
{
    EQ_TRY(eq_check_ref(node, "exp_table", ref, 256, sizeof(int32_t)));
    const int32_t *table = eq_ref_data(node, ref);
    if (table[0] != INT32_MAX)
        return eq_node_error(node, "exp_table[0] is %d, must be %d", table[0], INT32_MAX);
    for (int i = 1; i < 256; i++)
        if (table[i] < 0)
            return eq_node_error(node, "exp_table[%d] is %d, must be at least 0", i, table[i]);
    return EQ_OK;
}

/* ---- SOFTMAX */

static eq_status validate_softmax(const eq_node *node)
{
    const eq_softmax_params *p = node->params;
    EQ_TRY(check_rows(node));
    return check_exp_table(node, p->exp_table);
}

static size_t row_units(const eq_node *node)
{
    const eq_file_tensor *shape = eq_out(node);
    return eq_count(shape, 0, shape->rank - 1u);
}

static void run_softmax(const eq_node *node, size_t first, size_t end)
{
    const eq_softmax_params *p = node->params;
    const eq_file_tensor *shape = eq_out(node);
    const int8_t *x = eq_arg_data(node, 0);
    int8_t *y = eq_out_data(node);
    const int32_t *exp_table = eq_ref_data(node, p->exp_table);
    const size_t n = (size_t)shape->dims[shape->rank - 1];
    for (size_t r = first; r < end; r++)
        node->kernels->softmax(n, x + r * n, y + r * n, exp_table);
}

const eq_op_def eq_op_softmax = {
    .min_inputs = 1,
    .max_inputs = 1,
    .inplace = true,
    .validate = validate_softmax,
    .units = row_units,
    .run_units = run_softmax,
    .why = "a call a row",
    .slot = EQ_SLOT(softmax),
};

/* ---- LOG_SOFTMAX */

static eq_status validate_log_softmax(const eq_node *node)
{
    const eq_log_softmax_params *p = node->params;
    EQ_TRY(check_rows(node));
    EQ_TRY(check_exp_table(node, p->exp_table));
    EQ_TRY(eq_check_ref(node, "diff_table", p->diff_table, 256, sizeof(int32_t)));
    const int32_t *table = eq_ref_data(node, p->diff_table);
    for (int i = 0; i < 256; i++)
        if (table[i] > 0 || table[i] == INT32_MIN)
            return eq_node_error(node, "diff_table[%d] is %d, must be in [%d, 0]", i, table[i],
                                 -INT32_MAX);
    EQ_TRY(eq_check_range(node, "diff_min", p->diff_min, -INT32_MAX, 0));
    return eq_check_multiplier(node, "reverse_m", p->reverse_m, p->reverse_e);
}

static void run_log_softmax(const eq_node *node, size_t first, size_t end)
{
    const eq_log_softmax_params *p = node->params;
    const eq_file_tensor *shape = eq_out(node);
    const int8_t *x = eq_arg_data(node, 0);
    int8_t *y = eq_out_data(node);
    const int32_t *exp_table = eq_ref_data(node, p->exp_table);
    const int32_t *diff_table = eq_ref_data(node, p->diff_table);
    const size_t n = (size_t)shape->dims[shape->rank - 1];
    for (size_t r = first; r < end; r++)
        node->kernels->log_softmax(n, x + r * n, y + r * n, exp_table, diff_table, p);
}

const eq_op_def eq_op_log_softmax = {
    .min_inputs = 1,
    .max_inputs = 1,
    .inplace = true,
    .validate = validate_log_softmax,
    .units = row_units,
    .run_units = run_log_softmax,
    .why = "a call a row",
    .slot = EQ_SLOT(log_softmax),
};
