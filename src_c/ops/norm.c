/* SPDX-License-Identifier: Apache-2.0
 *
 * LAYER_NORM: (x - mean) / sqrt(variance + epsilon) * gamma + beta over the last axes, in integers;
 * with 0 for the mean where it is not centred.
 * L2_NORMALIZATION: x / sqrt(sum of squares) over the last axis, as TFLite's reference does it. */
#include "core/fixed.h"
#include "ops/ops.h"

/* ---- LAYER_NORM. docs/NUMERICS.md derives the ranges. */

/* Fraction bits of the variance, of x / sigma, and of beta. */
enum { VARIANCE_BITS = 16, NORM_BITS = 20, BETA_BITS = 12 };

static int64_t epsilon_of(const eq_layer_norm_params *p)
{
    return (int64_t)((uint64_t)p->epsilon[1] << 32 | p->epsilon[0]);
}

static eq_status validate_layer_norm(const eq_node *node)
{
    const eq_layer_norm_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    EQ_TRY(eq_check_dtype(node, "input", x, EQ_DT_INT8));
    EQ_TRY(eq_check_dtype(node, "output", y, EQ_DT_INT8));
    EQ_TRY(eq_check_same_shape(node, x, y));
    if (p->axis >= x->rank)
        return eq_node_error(node, "axis is %u, the input has rank %u", p->axis, (uint32_t)x->rank);
    const size_t n = eq_count(x, p->axis, x->rank), rows = eq_count(x, 0, p->axis);
    if (n > EQ_MAX_NORM)
        return eq_node_error(node, "%z elements a row, the limit is %d", n, EQ_MAX_NORM);
    EQ_TRY(eq_check_range(node, "epsilon", epsilon_of(p), 0, EQ_MAX_NORM_EPSILON));
    EQ_TRY(eq_check_range(node, "fraction", p->fraction, 0, 30));
    EQ_TRY(eq_check_range(node, "per_row", p->per_row, 0, 1));
    EQ_TRY(eq_check_range(node, "centred", p->centred, 0, 1));
    EQ_TRY(eq_check_range(node, "x_zero", p->x_zero, -128, 127));
    if (p->count == 0 || (p->per_row ? rows : n) % p->count != 0)
        return eq_node_error(node, "%u gammas for %z rows of %z elements", p->count, rows, n);
    EQ_TRY(eq_check_ref(node, "gamma", p->gamma, p->count, sizeof(int32_t)));
    EQ_TRY(eq_check_ref(node, "beta", p->beta, p->count, sizeof(int32_t)));
    const int32_t *gamma = eq_ref_data(node, p->gamma), *beta = eq_ref_data(node, p->beta);
    for (uint32_t i = 0; i < p->count; i++) {
        if (gamma[i] < -(1 << 30) || gamma[i] > 1 << 30)
            return eq_node_error(node, "gamma[%u] is %d, beyond 2^30", i, gamma[i]);
        if (beta[i] < -(1 << 30) || beta[i] > 1 << 30)
            return eq_node_error(node, "beta[%u] is %d, beyond 2^30", i, beta[i]);
    }
    return EQ_OK;
}

/* floor(sqrt(v)), v >= 2^62: in [2^31, 2^32). */
static uint64_t square_root(uint64_t v)
{
    uint64_t root = 0;
    for (uint64_t bit = (uint64_t)1 << 31; bit > 0; bit >>= 1)
        if ((root + bit) * (root + bit) <= v)
            root += bit;
    return root;
}

/* 1 / sqrt(v) = r * 2^(-31 - half) with r in (2^30, 2^31], v in [1, 2^63), within 2^-29 of it. */
static int64_t inverse_root(uint64_t v, int *half)
{
    const int shift = (64 - eq_bit_length(v)) & ~1; /* v * 2^shift in [2^62, 2^64) */
    *half = 31 - shift / 2;
    return (int64_t)(((uint64_t)1 << 62) / square_root(v << shift));
}

/* x / 2^n rounded, ties up. */
static int64_t shift_round(int64_t x, int n)
{
    return n == 0 ? x : (x + ((int64_t)1 << (n - 1))) >> n;
}

static void norm_row(const eq_layer_norm_params *p, size_t n, const int8_t *x, const int32_t *gamma,
                     const int32_t *beta, size_t step, int8_t *y)
{
    int64_t sum = 0, squares = 0;
    int half;
    for (size_t i = 0; i < n; i++) {
        const int32_t d = x[i] - p->x_zero;
        sum += d;
        squares += d * d;
    }
    const int64_t size = (int64_t)n, offset = p->centred ? sum : 0;
    const int64_t v = (size * squares - offset * offset) * (1 << VARIANCE_BITS) + epsilon_of(p);
    const int64_t r = inverse_root(v > 0 ? (uint64_t)v : 1, &half);
    const int norm_shift = 31 + half - VARIANCE_BITS / 2 - NORM_BITS; /* half >= 0: at least 3 */
    const int shift = (int)p->fraction + NORM_BITS - BETA_BITS;
    for (size_t i = 0, k = 0; i < n; i++) {
        const int64_t t = shift_round((size * (x[i] - p->x_zero) - offset) * r, norm_shift);
        const int64_t u = shift_round(t * gamma[k], shift) + beta[k];
        const int64_t rounded = shift_round(u, BETA_BITS);
        k += step;
        k = k == p->count ? 0 : k;
        y[i] = (int8_t)(rounded < -128 ? -128 : rounded > 127 ? 127 : rounded);
    }
}

static size_t norm_units(const eq_node *node)
{
    const eq_layer_norm_params *p = node->params;
    return eq_count(eq_out(node), 0, p->axis);
}

static void run_layer_norm(const eq_node *node, size_t first, size_t end)
{
    const eq_layer_norm_params *p = node->params;
    const eq_file_tensor *t = eq_out(node);
    const size_t n = eq_count(t, p->axis, t->rank);
    const int32_t *gamma = eq_ref_data(node, p->gamma), *beta = eq_ref_data(node, p->beta);
    const int8_t *x = eq_arg_data(node, 0);
    int8_t *y = eq_out_data(node);
    for (size_t r = first; r < end; r++) {
        const size_t k = p->per_row ? r % p->count : 0;
        norm_row(p, n, x + r * n, gamma + k, beta + k, !p->per_row, y + r * n);
    }
}

const eq_op_def eq_op_layer_norm = {
    .min_inputs = 1,
    .max_inputs = 1,
    .inplace = true,
    .validate = validate_layer_norm,
    .units = norm_units,
    .run_units = run_layer_norm,
    .why = "a row at a time",
};

/* ---- L2_NORMALIZATION */

static eq_status validate_l2(const eq_node *node)
{
    const eq_l2_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    EQ_TRY(eq_check_dtype(node, "input", x, EQ_DT_INT8));
    EQ_TRY(eq_check_dtype(node, "output", y, EQ_DT_INT8));
    if (x->rank == 0)
        return eq_node_error(node, "input has rank 0, must be at least 1");
    EQ_TRY(eq_check_same_shape(node, x, y));
    /* The sum of squares stays in int32. */
    if (x->dims[x->rank - 1] > INT32_MAX / (255 * 255))
        return eq_node_error(node, "rows of %d elements, the limit is %d", x->dims[x->rank - 1],
                             INT32_MAX / (255 * 255));
    return eq_check_range(node, "x_zero", p->x_zero, -128, 127);
}

static size_t l2_units(const eq_node *node)
{
    const eq_file_tensor *t = eq_out(node);
    return eq_count(t, 0, t->rank - 1u);
}

static void run_l2(const eq_node *node, size_t first, size_t end)
{
    const eq_l2_params *p = node->params;
    const eq_file_tensor *t = eq_out(node);
    const size_t n = (size_t)t->dims[t->rank - 1];
    for (size_t r = first; r < end; r++) {
        const int8_t *x = (const int8_t *)eq_arg_data(node, 0) + r * n;
        int8_t *y = (int8_t *)eq_out_data(node) + r * n;
        int32_t sum = 0, m;
        int e;
        for (size_t i = 0; i < n; i++)
            sum += (x[i] - p->x_zero) * (x[i] - p->x_zero);
        eq_inverse_sqrt(sum, &m, &e);
        for (size_t i = 0; i < n; i++)
            y[i] = (int8_t)eq_clamp(eq_requant_r31(x[i] - p->x_zero, m, e + 7), -128, 127);
    }
}

const eq_op_def eq_op_l2_normalization = {
    .min_inputs = 1,
    .max_inputs = 1,
    .inplace = true,
    .validate = validate_l2,
    .units = l2_units,
    .run_units = run_l2,
    .why = "a row at a time",
};
