/* SPDX-License-Identifier: Apache-2.0
 *
 * BATCH_MATMUL: products of matrices that the network computes, by the gemm slot. What it packs
 * when a model is opened, for weights, is packed here for each matrix of the second operand. */
#include "ops/broadcast.h"

static size_t rows_of(const eq_file_tensor *t)
{
    return (size_t)t->dims[t->rank - 2];
}

/* The shape of all but the last two axes. */
static eq_file_tensor batch_of(const eq_file_tensor *t)
{
    eq_file_tensor batch = *t;
    batch.rank -= 2;
    return batch;
}

static int64_t span(int32_t zero)
{
    return zero < 0 ? 127 - (int64_t)zero : zero + (int64_t)128;
}

static int64_t bound_of(const eq_node *node)
{
    const eq_matmul_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0);
    return x->dims[x->rank - 1] * span(p->x_zero) * span(p->w_zero);
}

static eq_status validate_matmul(const eq_node *node)
{
    const eq_matmul_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *w = eq_arg(node, 1), *y = eq_out(node);
    EQ_TRY(eq_check_dtype(node, "input 0", x, EQ_DT_INT8));
    EQ_TRY(eq_check_dtype(node, "input 1", w, EQ_DT_INT8));
    EQ_TRY(eq_check_dtype(node, "output", y, EQ_DT_INT8));
    if (x->rank < 2 || w->rank < 2)
        return eq_node_error(node, "matrices of rank %u and %u", (uint32_t)x->rank,
                             (uint32_t)w->rank);
    EQ_TRY(eq_check_rank(node, "output", y, x->rank > w->rank ? x->rank : w->rank));
    EQ_TRY(eq_check_dim(node, "input 1", w, w->rank - 1u, x->dims[x->rank - 1]));
    EQ_TRY(eq_check_dim(node, "output", y, y->rank - 2u, x->dims[x->rank - 2]));
    EQ_TRY(eq_check_dim(node, "output", y, y->rank - 1u, w->dims[w->rank - 2]));
    for (uint32_t a = 2; a < y->rank; a++) {
        const int32_t d1 = a < x->rank ? x->dims[x->rank - 1 - a] : 1;
        const int32_t d2 = a < w->rank ? w->dims[w->rank - 1 - a] : 1;
        if (d1 != d2 && d1 != 1 && d2 != 1)
            return eq_node_error(node, "axis %u from the right: %d and %d do not broadcast", a, d1,
                                 d2);
        EQ_TRY(eq_check_dim(node, "output", y, y->rank - 1 - a, d1 == 1 ? d2 : d1));
    }
    EQ_TRY(eq_check_range(node, "x_zero", p->x_zero, -128, 127));
    EQ_TRY(eq_check_range(node, "w_zero", p->w_zero, -128, 127));
    EQ_TRY(eq_check_range(node, "y_zero", p->y_zero, -128, 127));
    EQ_TRY(eq_check_range(node, "act_min", p->act_min, -128, 127));
    EQ_TRY(eq_check_range(node, "act_max", p->act_max, p->act_min, 127));
    EQ_TRY(eq_check_multiplier(node, "m", p->m, p->e));
    if (bound_of(node) > INT32_MAX)
        return eq_node_error(node, "the accumulator can reach %l, the limit is %d", bound_of(node),
                             INT32_MAX);
    return EQ_OK;
}

/* `exponent` is the one of the parameters as the kernels want it. */
static eq_gemm gemm_of(const eq_node *node, const int8_t *w, const int8_t *exponent)
{
    const eq_matmul_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0);
    return (eq_gemm){
        .channels = rows_of(eq_arg(node, 1)),
        .runs = 1,
        .length = (size_t)x->dims[x->rank - 1],
        .w = w,
        .params =
            {
                .multiplier = &p->m,
                .exponent = exponent,
                .x_zero = p->x_zero,
                .w_zero = p->w_zero,
                .y_zero = p->y_zero,
                .act_min = p->act_min,
                .act_max = p->act_max,
                .bound = bound_of(node),
            },
    };
}

/* The packed matrix, then what the kernel asks for. */
static size_t matmul_scratch(const eq_node *node)
{
    const eq_matmul_params *p = node->params;
    const int8_t exponent = (int8_t)p->e;
    const eq_gemm g = gemm_of(node, NULL, &exponent);
    return node->kernels->gemm_pack(&g, NULL)
           + node->kernels->gemm_scratch(&g, rows_of(eq_arg(node, 0)));
}

static size_t matmul_units(const eq_node *node)
{
    const eq_file_tensor *y = eq_out(node);
    return eq_count(y, 0, y->rank - 2u);
}

static void run_matmul(const eq_node *node, size_t first, size_t end)
{
    const eq_matmul_params *p = node->params;
    const eq_file_tensor *xt = eq_arg(node, 0), *wt = eq_arg(node, 1), *yt = eq_out(node);
    const eq_file_tensor xb = batch_of(xt), wb = batch_of(wt), yb = batch_of(yt);
    const size_t m = rows_of(xt), n = rows_of(wt), k = (size_t)xt->dims[xt->rank - 1];
    const int8_t exponent = (int8_t)p->e;
    eq_cursor c = {.at = {0, 0, 0}};
    eq_broadcast_strides(&xb, &yb, c.stride[0]);
    eq_broadcast_strides(&wb, &yb, c.stride[1]);
    for (size_t b = 0; b < end; b++, eq_advance(&c, &yb, 2)) {
        if (b < first)
            continue;
        const int8_t *x = (const int8_t *)eq_arg_data(node, 0) + c.at[0] * m * k;
        const int8_t *w = (const int8_t *)eq_arg_data(node, 1) + c.at[1] * n * k;
        eq_gemm g = gemm_of(node, w, &exponent);
        const size_t packed = node->kernels->gemm_pack(&g, NULL);
        if (packed > 0)
            node->kernels->gemm_pack(&g, node->scratch);
        g.packed = node->scratch;
        const eq_windows windows = {.x = &x, .step = k};
        node->kernels->gemm(&g, m, 0, n, &windows, (int8_t *)eq_out_data(node) + b * m * n, n,
                            node->scratch + packed);
    }
}

const eq_op_def eq_op_batch_matmul = {
    .min_inputs = 2,
    .max_inputs = 2,
    .validate = validate_matmul,
    .scratch = matmul_scratch,
    .units = matmul_units,
    .run_units = run_matmul,
    .why = "packs each matrix of the second operand, then a call",
    .slot = EQ_SLOT(gemm),
};
