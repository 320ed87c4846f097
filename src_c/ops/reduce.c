/* SPDX-License-Identifier: Apache-2.0
 *
 * MEAN, SUM, REDUCE_MAX over any set of axes. The outputs are walked in order, a block of the
 * innermost kept axis at a time, so that a few accumulators on the stack suffice. */
#include <string.h>

#include "ops/walk.h"

enum { BLOCK = 128 }; /* accumulators */

/* Axes of size 1 are left out, neighbours of the same kind are one axis. */
typedef struct reduction {
    eq_walk kept, reduced; /* all axes but those below; at[0] is the offset into x */
    size_t n;              /* size of the innermost axis; it is contiguous */
    bool n_is_reduced;
    size_t rows, stride; /* innermost reduced axis where n is kept */
    size_t count;        /* elements that make one output */
} reduction;

static void plan_reduction(const eq_node *node, uint32_t axes, reduction *plan)
{
    const eq_file_tensor *x = eq_arg(node, 0);
    size_t size[EQ_MAX_RANK], stride[EQ_MAX_RANK], total = 1;
    bool is_reduced[EQ_MAX_RANK];
    uint32_t groups = 0;
    *plan = (reduction){.n = 1, .rows = 1, .count = 1};
    for (uint32_t a = x->rank; a-- > 0;) {
        const size_t dim = (size_t)x->dims[a];
        const bool reduced = (axes >> a & 1) != 0;
        if (dim == 1)
            continue;
        if (groups > 0 && is_reduced[groups - 1] == reduced) {
            size[groups - 1] *= dim;
        } else {
            is_reduced[groups] = reduced;
            size[groups] = dim;
            stride[groups++] = total;
        }
        total *= dim;
        plan->count *= reduced ? dim : 1;
    }
    if (groups == 0)
        return;
    plan->n = size[0];
    plan->n_is_reduced = is_reduced[0];
    uint32_t inner = 1;
    if (!is_reduced[0] && groups > 1) { /* kinds alternate */
        plan->rows = size[1];
        plan->stride = stride[1];
        inner = 2;
    }
    for (uint32_t g = groups; g-- > inner;)
        eq_walk_add(is_reduced[g] ? &plan->reduced : &plan->kept, size[g], (ptrdiff_t)stride[g], 0);
}

static bool is_wide(const eq_file_tensor *t)
{
    return t->dtype == EQ_DT_INT16;
}

/* ---- validation */

static eq_status check_reduction(const eq_node *node)
{
    const eq_reduce_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    EQ_TRY(eq_check_quantized(node, "input", x));
    EQ_TRY(eq_check_quantized(node, "output", y));
    EQ_TRY(eq_check_rank(node, "output", y, x->rank));
    if (p->axes >> x->rank != 0)
        return eq_node_error(node, "axes are %u, an input of rank %u has fewer", p->axes,
                             (uint32_t)x->rank);
    for (uint32_t a = 0; a < x->rank; a++)
        EQ_TRY(eq_check_dim(node, "output", y, a, p->axes >> a & 1 ? 1 : x->dims[a]));
    return EQ_OK;
}

/* |sum of (x - x_zero)| <= 255 * count and |sum of x| <= 128 * count stay in int32; of int16, 2^15
 * * count. */
static eq_status check_sum(const eq_node *node)
{
    const eq_reduce_params *p = node->params;
    reduction plan;
    EQ_TRY(check_reduction(node));
    plan_reduction(node, p->axes, &plan);
    const int32_t limit = INT32_MAX / (is_wide(eq_arg(node, 0)) ? 1 << 15 : 1 << 8);
    if (plan.count > (size_t)limit)
        return eq_node_error(node, "a sum of %z elements, the limit is %d", plan.count, limit);
    EQ_TRY(eq_check_zero(node, "x_zero", eq_arg(node, 0), p->x_zero));
    return eq_check_zero(node, "y_zero", eq_out(node), p->y_zero);
}

/* The division by the count makes m any number below 2^31. */
static eq_status validate_mean(const eq_node *node)
{
    const eq_reduce_params *p = node->params;
    EQ_TRY(check_sum(node));
    EQ_TRY(eq_check_range(node, "m", p->m, 0, INT32_MAX));
    return eq_check_range(node, "e", p->e, -31, 30);
}

static eq_status validate_sum(const eq_node *node)
{
    const eq_reduce_params *p = node->params;
    EQ_TRY(check_sum(node));
    return eq_check_multiplier(node, "m", p->m, p->e);
}

static eq_status validate_reduce_max(const eq_node *node)
{
    const eq_reduce_params *p = node->params;
    EQ_TRY(check_reduction(node));
    EQ_TRY(eq_check_dtype(node, "output", eq_out(node), eq_arg(node, 0)->dtype));
    if (p->x_zero != 0 || p->y_zero != 0 || p->m != 0 || p->e != 0)
        return eq_node_error(node, "x_zero, y_zero, m and e are %d, %d, %d and %d, must be 0",
                             p->x_zero, p->y_zero, p->m, p->e);
    return EQ_OK;
}

/* ---- MEAN, SUM */

/* What a sum starts from: then it is one of (x - x_zero). */
static int32_t start(const reduction *plan, const eq_reduce_params *p)
{
    return -p->x_zero * (int32_t)plan->count;
}

/* n accumulators to y; what follows it. */
static uint8_t *store_sums(const eq_node *node, size_t n, const int32_t *acc, uint8_t *y)
{
    const eq_reduce_params *p = node->params;
    if (!is_wide(eq_out(node))) {
        node->kernels->requantize(n, acc, (int8_t *)y, p->m, p->e, p->y_zero);
        return y + n;
    }
    const eq_requantize_params r = {0, p->y_zero, p->m, p->e, INT16_MIN, INT16_MAX};
    node->kernels->rescale(n, acc, EQ_DT_INT32, y, EQ_DT_INT16, &r);
    return y + n * sizeof(int16_t);
}

/* acc[i] += the sum over the rows of element `at` + i of x, i < n. */
static void add_rows(const eq_node *node, const reduction *plan, ptrdiff_t at, size_t n,
                     int32_t *acc)
{
    if (!is_wide(eq_arg(node, 0))) {
        const int8_t *x = (const int8_t *)eq_arg_data(node, 0) + at;
        node->kernels->sum_rows(plan->rows, n, x, plan->stride, acc);
        return;
    }
    const int16_t *x = (const int16_t *)eq_arg_data(node, 0) + at;
    for (size_t r = 0; r < plan->rows; r++, x += plan->stride)
        for (size_t i = 0; i < n; i++)
            acc[i] += x[i];
}

static int32_t sum_from(const eq_node *node, size_t n, ptrdiff_t at)
{
    if (!is_wide(eq_arg(node, 0)))
        return node->kernels->sum(n, (const int8_t *)eq_arg_data(node, 0) + at);
    const int16_t *x = (const int16_t *)eq_arg_data(node, 0) + at;
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    return sum;
}

/* y over the kept innermost axis, a block of accumulators at a time. */
static void sum_blocks(const eq_node *node, reduction *plan, uint8_t *y)
{
    int32_t acc[BLOCK];
    do
        for (size_t at = 0, n; at < plan->n; at += n) {
            n = plan->n - at < BLOCK ? plan->n - at : BLOCK;
            for (size_t i = 0; i < n; i++)
                acc[i] = start(plan, node->params);
            do
                add_rows(node, plan, plan->kept.at[0] + plan->reduced.at[0] + (ptrdiff_t)at, n,
                         acc);
            while (eq_walk_next(&plan->reduced));
            y = store_sums(node, n, acc, y);
        }
    while (eq_walk_next(&plan->kept));
}

/* y over the reduced innermost axis: some sums at a time are requantized. */
static void sum_innermost(const eq_node *node, reduction *plan, uint8_t *y)
{
    int32_t acc[BLOCK];
    size_t n = 0;
    bool more;
    do {
        int32_t sum = start(plan, node->params);
        do
            sum += sum_from(node, plan->n, plan->kept.at[0] + plan->reduced.at[0]);
        while (eq_walk_next(&plan->reduced));
        acc[n++] = sum;
        more = eq_walk_next(&plan->kept);
        if (n == BLOCK || !more) {
            y = store_sums(node, n, acc, y);
            n = 0;
        }
    } while (more);
}

static void run_sum(const eq_node *node)
{
    const eq_reduce_params *p = node->params;
    reduction plan;
    plan_reduction(node, p->axes, &plan);
    (plan.n_is_reduced ? sum_innermost : sum_blocks)(node, &plan, eq_out_data(node));
}

static const char *sum_path(const eq_node *node, size_t *slot)
{
    const eq_reduce_params *p = node->params;
    reduction plan;
    plan_reduction(node, p->axes, &plan);
    if (is_wide(eq_arg(node, 0))) {
        *slot = EQ_NO_SLOT;
        return "int16: a loop adds";
    }
    if (!plan.n_is_reduced)
        return "rows are added, a block of channels at a time";
    *slot = EQ_SLOT(sum);
    return "a call a run of the innermost axis";
}

/* ---- REDUCE_MAX */

static int8_t greatest(size_t n, const int8_t *x, int8_t best)
{
    for (size_t i = 0; i < n; i++)
        best = x[i] > best ? x[i] : best;
    return best;
}

static void maximum_of_rows(const eq_node *node, reduction *plan, const int8_t *x, int8_t *y)
{
    const size_t n = plan->n_is_reduced ? 1 : plan->n;
    memset(y, INT8_MIN, n);
    do {
        const int8_t *row = x + plan->reduced.at[0];
        if (plan->n_is_reduced)
            *y = greatest(plan->n, row, *y);
        else
            for (size_t r = 0; r < plan->rows; r++)
                node->kernels->maximum(n, y, 1, row + r * plan->stride, 1, y);
    } while (eq_walk_next(&plan->reduced));
}

static void maximum_of_rows_16(reduction *plan, const int16_t *x, int16_t *y)
{
    const size_t n = plan->n_is_reduced ? 1 : plan->n,
                 rows = plan->n_is_reduced ? plan->n : plan->rows;
    const size_t stride = plan->n_is_reduced ? 1 : plan->stride;
    for (size_t i = 0; i < n; i++)
        y[i] = INT16_MIN;
    do {
        const int16_t *row = x + plan->reduced.at[0];
        for (size_t r = 0; r < rows; r++, row += stride)
            for (size_t i = 0; i < n; i++)
                y[i] = row[i] > y[i] ? row[i] : y[i];
    } while (eq_walk_next(&plan->reduced));
}

static void run_reduce_max(const eq_node *node)
{
    const eq_reduce_params *p = node->params;
    const void *x = eq_arg_data(node, 0);
    void *y = eq_out_data(node);
    size_t done = 0;
    reduction plan;
    plan_reduction(node, p->axes, &plan);
    do {
        const ptrdiff_t at = plan.kept.at[0];
        if (is_wide(eq_out(node)))
            maximum_of_rows_16(&plan, (const int16_t *)x + at, (int16_t *)y + done);
        else
            maximum_of_rows(node, &plan, (const int8_t *)x + at, (int8_t *)y + done);
        done += plan.n_is_reduced ? 1 : plan.n;
    } while (eq_walk_next(&plan.kept));
}

static const char *maximum_path(const eq_node *node, size_t *slot)
{
    const eq_reduce_params *p = node->params;
    reduction plan;
    plan_reduction(node, p->axes, &plan);
    if (!plan.n_is_reduced && !is_wide(eq_out(node)))
        return "the maximum of rows, one after another";
    *slot = EQ_NO_SLOT;
    return plan.n_is_reduced ? "a loop over the innermost axis" : "int16: a loop over rows";
}

const eq_op_def eq_op_mean = {
    .min_inputs = 1,
    .max_inputs = 1,
    .validate = validate_mean,
    .run = run_sum,
    .path = sum_path,
    .slot = EQ_SLOT(sum_rows),
};
const eq_op_def eq_op_sum = {
    .min_inputs = 1,
    .max_inputs = 1,
    .validate = validate_sum,
    .run = run_sum,
    .path = sum_path,
    .slot = EQ_SLOT(sum_rows),
};
const eq_op_def eq_op_reduce_max = {
    .min_inputs = 1,
    .max_inputs = 1,
    .validate = validate_reduce_max,
    .run = run_reduce_max,
    .path = maximum_path,
    .slot = EQ_SLOT(maximum),
};
