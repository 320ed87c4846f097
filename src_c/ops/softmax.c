/* SPDX-License-Identifier: Apache-2.0
 *
 * SOFTMAX, SOFTMAX16, LOG_SOFTMAX: over the last axis, row by row. */
#include "core/numerics.h"
#include "ops/ops.h"

static eq_status check_rows(const eq_node *node, uint8_t dtype)
{
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    EQ_TRY(eq_check_dtype(node, "input", x, dtype));
    EQ_TRY(eq_check_dtype(node, "output", y, dtype));
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
    EQ_TRY(check_rows(node, EQ_DT_INT8));
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
    EQ_TRY(check_rows(node, EQ_DT_INT8));
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

/* ---- SOFTMAX16. Source: softmax.h of TFLite's reference kernels for int16. */

enum { MAX_ROW_16 = 1 << 16 }; /* of at most 2^15 - 1 each: sums stay in int32 */

static eq_status check_table(const eq_node *node, const char *what, uint32_t ref)
{
    EQ_TRY(eq_check_ref(node, what, ref, 513, sizeof(int16_t)));
    const int16_t *table = eq_ref_data(node, ref);
    for (int i = 0; i < 513; i++)
        if (table[i] < 0)
            return eq_node_error(node, "%s[%d] is %d, must be at least 0", what, i,
                                 (int32_t)table[i]);
    return EQ_OK;
}

/* exp(0) is 1/2 at least, so that a sum has 15 bits or more. */
static eq_status validate_softmax16(const eq_node *node)
{
    const eq_softmax16_params *p = node->params;
    EQ_TRY(check_rows(node, EQ_DT_INT16));
    EQ_TRY(check_table(node, "exp_table", p->exp_table));
    EQ_TRY(check_table(node, "reciprocal_table", p->reciprocal_table));
    const int16_t *table = eq_ref_data(node, p->exp_table);
    EQ_TRY(eq_check_range(node, "exp_table[511]", table[511], 1 << 14, INT16_MAX));
    EQ_TRY(eq_check_range(node, "exp_table[512]", table[512], 1 << 14, INT16_MAX));
    const eq_file_tensor *x = eq_arg(node, 0);
    EQ_TRY(eq_check_range(node, "the size of a row", x->dims[x->rank - 1], 1, MAX_ROW_16));
    return eq_check_multiplier(node, "m", p->m, p->e);
}

/* y may be x: an element's exponential takes its place. */
static void softmax_row_16(size_t n, const int16_t *x, int16_t *y, const eq_softmax16_params *p,
                           const int16_t *exp_table, const int16_t *reciprocal_table)
{
    int32_t max = x[0], sum = 0; /* Q16.15 */
    for (size_t i = 1; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (size_t i = 0; i < n; i++) {
        const int32_t steps = eq_add_wrap(eq_requant_r31(x[i] - max, p->m, p->e), INT16_MAX);
        y[i] = (int16_t)eq_interpolate((int16_t)eq_saturate16(steps), exp_table);
        sum += y[i];
    }
    /* sum = (1 + t) * 2^bits; t in Q0.16 minus 2^15 is the argument of the table. */
    const int bits = eq_bit_length((uint64_t)sum) - 1;
    const int32_t scaled = (int32_t)((((int64_t)sum << (30 - bits)) + (1 << 13)) >> 14);
    const int32_t t = eq_saturate16(scaled - (1 << 16) - (1 << 15));
    const int32_t scale = eq_interpolate((int16_t)t, reciprocal_table);
    for (size_t i = 0; i < n; i++)
        y[i] = (int16_t)eq_clamp((y[i] * scale + (1 << (bits - 1))) >> bits, 0, INT16_MAX);
}

static void run_softmax16(const eq_node *node, size_t first, size_t end)
{
    const eq_softmax16_params *p = node->params;
    const eq_file_tensor *shape = eq_out(node);
    const int16_t *x = eq_arg_data(node, 0);
    int16_t *y = eq_out_data(node);
    const size_t n = (size_t)shape->dims[shape->rank - 1];
    for (size_t r = first; r < end; r++)
        softmax_row_16(n, x + r * n, y + r * n, p, eq_ref_data(node, p->exp_table),
                       eq_ref_data(node, p->reciprocal_table));
}

const eq_op_def eq_op_softmax16 = {
    .min_inputs = 1,
    .max_inputs = 1,
    .inplace = true,
    .validate = validate_softmax16,
    .units = row_units,
    .run_units = run_softmax16,
    .why = "a loop over each row, interpolating two tables",
};
