/* SPDX-License-Identifier: Apache-2.0
 *
 * ADD, MUL, MAXIMUM, MINIMUM, PRELU: two operands with broadcasting, of int8, int16 or both. LUT
 * and the other ops of one operand: unary.c. */
#include <string.h>

#include "core/numerics.h"
#include "ops/walk.h"

enum { TILE = 1024 }; /* bytes of repeated elements on the stack */

/* ---- broadcasting: axes are counted from the innermost, missing ones have size 1 */

static int32_t dim_from_right(const eq_file_tensor *t, uint32_t axis)
{
    return axis < t->rank ? t->dims[t->rank - 1 - axis] : 1;
}

/* y has the larger rank; a dim of it is that of both operands, or of one if the other has 1. */
static eq_status check_broadcast(const eq_node *node)
{
    const eq_file_tensor *x1 = eq_arg(node, 0), *x2 = eq_arg(node, 1), *y = eq_out(node);
    EQ_TRY(eq_check_quantized(node, "input 0", x1));
    EQ_TRY(eq_check_quantized(node, "input 1", x2));
    EQ_TRY(eq_check_quantized(node, "output", y));
    EQ_TRY(eq_check_rank(node, "output", y, x1->rank > x2->rank ? x1->rank : x2->rank));
    for (uint32_t a = 0; a < y->rank; a++) {
        const int32_t d1 = dim_from_right(x1, a), d2 = dim_from_right(x2, a);
        if (d1 != d2 && d1 != 1 && d2 != 1)
            return eq_node_error(node, "axis %u from the right: %d and %d do not broadcast", a, d1,
                                 d2);
        EQ_TRY(eq_check_dim(node, "output", y, y->rank - 1 - a, d1 == 1 ? d2 : d1));
    }
    return EQ_OK;
}

/* Rows of n elements on which each operand walks (step 1) or repeats its one element (step 0). */
typedef struct row_plan {
    eq_walk walk;
    size_t n, step1, step2;
    size_t size1, size2, size_y; /* bytes of an element */
} row_plan;

/* Adjacent axes on which the same operands walk are one axis. */
static void plan_rows(const eq_node *node, row_plan *plan)
{
    const eq_file_tensor *x1 = eq_arg(node, 0), *x2 = eq_arg(node, 1), *y = eq_out(node);
    size_t size[EQ_MAX_RANK], walks1[EQ_MAX_RANK], walks2[EQ_MAX_RANK];
    uint32_t groups = 0;
    for (uint32_t a = 0; a < y->rank; a++) {
        const int32_t dim = dim_from_right(y, a);
        if (dim == 1)
            continue;
        const size_t w1 = dim_from_right(x1, a) != 1, w2 = dim_from_right(x2, a) != 1;
        if (groups > 0 && walks1[groups - 1] == w1 && walks2[groups - 1] == w2) {
            size[groups - 1] *= (size_t)dim;
            continue;
        }
        size[groups] = (size_t)dim;
        walks1[groups] = w1;
        walks2[groups++] = w2;
    }
    *plan = (row_plan){.n = 1,
                       .step1 = 1,
                       .step2 = 1,
                       .size1 = eq_dtype_size(x1->dtype),
                       .size2 = eq_dtype_size(x2->dtype),
                       .size_y = eq_dtype_size(y->dtype)};
    if (groups == 0)
        return;
    plan->n = size[0];
    plan->step1 = walks1[0];
    plan->step2 = walks2[0];
    for (uint32_t g = groups; g-- > 1;) {
        ptrdiff_t stride1 = (ptrdiff_t)walks1[g], stride2 = (ptrdiff_t)walks2[g];
        for (uint32_t inner = 0; inner < g; inner++) {
            stride1 *= walks1[inner] ? (ptrdiff_t)size[inner] : 1;
            stride2 *= walks2[inner] ? (ptrdiff_t)size[inner] : 1;
        }
        eq_walk_add(&plan->walk, size[g], stride1, stride2);
    }
}

typedef void row_function(const eq_node *node, const row_plan *plan, const uint8_t *x1,
                          const uint8_t *x2, uint8_t *y);

/* n copies of an element. */
static void repeat(uint8_t *to, const uint8_t *element, size_t n, size_t size)
{
    if (size == 1)
        memset(to, *element, n);
    else
        for (size_t i = 0; i < n; i++)
            memcpy(to + i * size, element, size);
}

/* `rows` short rows, of which one operand has all elements in a row. Those of the other, `stride`
 * elements from row to row, are laid out likewise, some rows at a time, and the kernel sees one
 * long row. */
static void run_short_rows(const eq_node *node, row_plan long_row, row_function *row, size_t rows,
                           const uint8_t *dense, const uint8_t *other, ptrdiff_t stride,
                           bool dense_is_first, uint8_t *y)
{
    int16_t memory[TILE / sizeof(int16_t)];
    uint8_t *tile = (uint8_t *)memory;
    const size_t n = long_row.n, step = dense_is_first ? long_row.step2 : long_row.step1;
    const size_t size = dense_is_first ? long_row.size2 : long_row.size1;
    const size_t dense_size = dense_is_first ? long_row.size1 : long_row.size2;
    size_t count = TILE / (n * size);
    stride *= (ptrdiff_t)size;
    long_row.step1 = long_row.step2 = 1;
    for (size_t r = 0; r < rows; r += count) {
        count = rows - r < count ? rows - r : count;
        long_row.n = count * n;
        for (size_t i = 0; i < count && (r == 0 || stride != 0); i++, other += stride) {
            if (step)
                memcpy(tile + i * n * size, other, n * size);
            else
                repeat(tile + i * n * size, other, n, size);
        }
        row(node, &long_row, dense_is_first ? dense : tile, dense_is_first ? tile : dense, y);
        dense += long_row.n * dense_size;
        y += long_row.n * long_row.size_y;
    }
}

/* So many elements are worth a thread of their own. */
enum { UNIT = 4096 };

static size_t element_units(const eq_node *node)
{
    return (eq_elements(eq_out(node)) + UNIT - 1) / UNIT;
}

/* Broadcasts are not split. */
static size_t row_units(const eq_node *node)
{
    row_plan plan;
    plan_rows(node, &plan);
    return plan.walk.rank == 0 ? element_units(node) : 1;
}

static void run_rows(const eq_node *node, size_t first, size_t end, row_function *row)
{
    const uint8_t *x1 = eq_arg_data(node, 0), *x2 = eq_arg_data(node, 1);
    uint8_t *y = eq_out_data(node);
    row_plan plan;
    plan_rows(node, &plan);
    if (plan.walk.rank == 0) {
        const size_t at = first * UNIT, stop = end * UNIT < plan.n ? end * UNIT : plan.n;
        plan.n = stop - at;
        row(node, &plan, x1 + at * plan.step1 * plan.size1, x2 + at * plan.step2 * plan.size2,
            y + at * plan.size_y);
        return;
    }
    eq_walk *walk = &plan.walk;
    const ptrdiff_t size1 = (ptrdiff_t)plan.size1, size2 = (ptrdiff_t)plan.size2;
    const size_t n = plan.n, rows = walk->rank > 0 ? walk->size[walk->rank - 1] : 1;
    if (rows > 1 && n <= TILE / 4 / (plan.size1 > plan.size2 ? plan.size1 : plan.size2)) {
        const ptrdiff_t *stride = walk->step[walk->rank - 1];
        const bool dense1 = plan.step1 == 1 && stride[0] == (ptrdiff_t)n;
        if (dense1 || (plan.step2 == 1 && stride[1] == (ptrdiff_t)n)) {
            walk->rank--;
            do {
                const uint8_t *a = x1 + walk->at[0] * size1, *b = x2 + walk->at[1] * size2;
                run_short_rows(node, plan, row, rows, dense1 ? a : b, dense1 ? b : a,
                               stride[dense1], dense1, y);
                y += rows * n * plan.size_y;
            } while (eq_walk_next(walk));
            return;
        }
    }
    do {
        row(node, &plan, x1 + walk->at[0] * size1, x2 + walk->at[1] * size2, y);
        y += n * plan.size_y;
    } while (eq_walk_next(walk));
}

/* The tensors of int16, as in kernels.h; 0: all are int8. */
static unsigned wide_tensors(const row_plan *plan)
{
    return (plan->size1 > 1 ? EQ_WIDE_X1 : 0u) | (plan->size2 > 1 ? EQ_WIDE_X2 : 0u)
           | (plan->size_y > 1 ? EQ_WIDE_Y : 0u);
}

/* All but ADD and MUL work on int16 without a kernel. */
static const char *row_path(const eq_node *node, size_t *slot)
{
    row_plan plan;
    plan_rows(node, &plan);
    if (wide_tensors(&plan))
        *slot = *slot == EQ_SLOT(add)   ? EQ_SLOT(add16)
                : *slot == EQ_SLOT(mul) ? EQ_SLOT(mul16)
                                        : EQ_NO_SLOT;
    if (*slot == EQ_NO_SLOT)
        return plan.walk.rank == 0 ? "int16: a loop over all elements" : "int16: a loop a row";
    if (plan.walk.rank == 0)
        return plan.step1 && plan.step2 ? "all elements in one call"
                                        : "one call, an operand is a single element";
    return plan.step1 && plan.step2 ? "broadcast: a call a row"
                                    : "broadcast: a call a row, an operand is one element of it";
}

/* ---- ADD */

/* With int16, whose differences have 16 bits and a sign, no left shift moves a bit out of int32. */
static eq_status check_left_shift(const eq_node *node)
{
    const eq_add_params *p = node->params;
    const bool wide =
        eq_arg(node, 0)->dtype == EQ_DT_INT16 || eq_arg(node, 1)->dtype == EQ_DT_INT16;
    return eq_check_range(node, "left_shift", p->left_shift, 0, wide ? 15 : 24);
}

static eq_status validate_add(const eq_node *node)
{
    const eq_add_params *p = node->params;
    EQ_TRY(check_broadcast(node));
    EQ_TRY(eq_check_zero(node, "x1_zero", eq_arg(node, 0), p->x1_zero));
    EQ_TRY(eq_check_zero(node, "x2_zero", eq_arg(node, 1), p->x2_zero));
    EQ_TRY(eq_check_zero(node, "y_zero", eq_out(node), p->y_zero));
    EQ_TRY(check_left_shift(node));
    EQ_TRY(eq_check_multiplier(node, "m1", p->m1, p->e1));
    EQ_TRY(eq_check_multiplier(node, "m2", p->m2, p->e2));
    EQ_TRY(eq_check_multiplier(node, "my", p->my, p->ey));
    if (p->sign2 != 1 && p->sign2 != -1)
        return eq_node_error(node, "sign2 is %d, must be 1 or -1", p->sign2);
    return eq_check_activation(node, eq_out(node), p->act_min, p->act_max);
}

static void add_row(const eq_node *node, const row_plan *plan, const uint8_t *x1, const uint8_t *x2,
                    uint8_t *y)
{
    const unsigned wide = wide_tensors(plan);
    if (wide)
        node->kernels->add16(plan->n, x1, plan->step1, x2, plan->step2, y, node->params, wide);
    else
        node->kernels->add(plan->n, (const int8_t *)x1, plan->step1, (const int8_t *)x2,
                           plan->step2, (int8_t *)y, node->params);
}

static void run_add(const eq_node *node, size_t first, size_t end)
{
    run_rows(node, first, end, add_row);
}

const eq_op_def eq_op_add = {
    .min_inputs = 2,
    .max_inputs = 2,
    .inplace = true,
    .validate = validate_add,
    .units = row_units,
    .run_units = run_add,
    .path = row_path,
    .slot = EQ_SLOT(add),
};

/* ---- MUL */

static eq_status validate_mul(const eq_node *node)
{
    const eq_mul_params *p = node->params;
    EQ_TRY(check_broadcast(node));
    EQ_TRY(eq_check_zero(node, "x1_zero", eq_arg(node, 0), p->x1_zero));
    EQ_TRY(eq_check_zero(node, "x2_zero", eq_arg(node, 1), p->x2_zero));
    EQ_TRY(eq_check_zero(node, "y_zero", eq_out(node), p->y_zero));
    EQ_TRY(eq_check_multiplier(node, "m", p->m, p->e));
    return eq_check_activation(node, eq_out(node), p->act_min, p->act_max);
}

static void mul_row(const eq_node *node, const row_plan *plan, const uint8_t *x1, const uint8_t *x2,
                    uint8_t *y)
{
    const unsigned wide = wide_tensors(plan);
    if (wide)
        node->kernels->mul16(plan->n, x1, plan->step1, x2, plan->step2, y, node->params, wide);
    else
        node->kernels->mul(plan->n, (const int8_t *)x1, plan->step1, (const int8_t *)x2,
                           plan->step2, (int8_t *)y, node->params);
}

static void run_mul(const eq_node *node, size_t first, size_t end)
{
    run_rows(node, first, end, mul_row);
}

const eq_op_def eq_op_mul = {
    .min_inputs = 2,
    .max_inputs = 2,
    .inplace = true,
    .validate = validate_mul,
    .units = row_units,
    .run_units = run_mul,
    .path = row_path,
    .slot = EQ_SLOT(mul),
};

/* ---- MAXIMUM, MINIMUM: they compare stored integers, so all of them are of one type */

static eq_status validate_extremum(const eq_node *node)
{
    EQ_TRY(check_broadcast(node));
    EQ_TRY(eq_check_dtype(node, "input 0", eq_arg(node, 0), eq_out(node)->dtype));
    return eq_check_dtype(node, "input 1", eq_arg(node, 1), eq_out(node)->dtype);
}

static void maximum_row(const eq_node *node, const row_plan *plan, const uint8_t *x1,
                        const uint8_t *x2, uint8_t *y)
{
    const int16_t *a = (const int16_t *)(const void *)x1, *b = (const int16_t *)(const void *)x2;
    if (plan->size_y == 1)
        node->kernels->maximum(plan->n, (const int8_t *)x1, plan->step1, (const int8_t *)x2,
                               plan->step2, (int8_t *)y);
    else
        for (size_t i = 0; i < plan->n; i++, a += plan->step1, b += plan->step2)
            ((int16_t *)(void *)y)[i] = *a > *b ? *a : *b;
}

static void run_maximum(const eq_node *node, size_t first, size_t end)
{
    run_rows(node, first, end, maximum_row);
}

const eq_op_def eq_op_maximum = {
    .min_inputs = 2,
    .max_inputs = 2,
    .inplace = true,
    .validate = validate_extremum,
    .units = row_units,
    .run_units = run_maximum,
    .path = row_path,
    .slot = EQ_SLOT(maximum),
};

static void minimum_row(const eq_node *node, const row_plan *plan, const uint8_t *x1,
                        const uint8_t *x2, uint8_t *y)
{
    const int16_t *a = (const int16_t *)(const void *)x1, *b = (const int16_t *)(const void *)x2;
    if (plan->size_y == 1)
        node->kernels->minimum(plan->n, (const int8_t *)x1, plan->step1, (const int8_t *)x2,
                               plan->step2, (int8_t *)y);
    else
        for (size_t i = 0; i < plan->n; i++, a += plan->step1, b += plan->step2)
            ((int16_t *)(void *)y)[i] = *a < *b ? *a : *b;
}

static void run_minimum(const eq_node *node, size_t first, size_t end)
{
    run_rows(node, first, end, minimum_row);
}

const eq_op_def eq_op_minimum = {
    .min_inputs = 2,
    .max_inputs = 2,
    .inplace = true,
    .validate = validate_extremum,
    .units = row_units,
    .run_units = run_minimum,
    .path = row_path,
    .slot = EQ_SLOT(minimum),
};

/* ---- PRELU */

static eq_status validate_prelu(const eq_node *node)
{
    const eq_prelu_params *p = node->params;
    EQ_TRY(check_broadcast(node));
    EQ_TRY(eq_check_same_shape(node, eq_arg(node, 0), eq_out(node)));
    EQ_TRY(eq_check_zero(node, "x_zero", eq_arg(node, 0), p->x_zero));
    EQ_TRY(eq_check_zero(node, "alpha_zero", eq_arg(node, 1), p->alpha_zero));
    EQ_TRY(eq_check_zero(node, "y_zero", eq_out(node), p->y_zero));
    EQ_TRY(eq_check_multiplier(node, "m1", p->m1, p->e1));
    return eq_check_multiplier(node, "m2", p->m2, p->e2);
}

static int32_t element(const uint8_t *x, size_t i, size_t size)
{
    return size == 1 ? ((const int8_t *)x)[i] : ((const int16_t *)(const void *)x)[i];
}

static void prelu_wide(const eq_prelu_params *p, const row_plan *plan, const uint8_t *x,
                       const uint8_t *alpha, uint8_t *y)
{
    for (size_t i = 0; i < plan->n; i++) {
        const int32_t v = element(x, i * plan->step1, plan->size1) - p->x_zero;
        const int32_t a = element(alpha, i * plan->step2, plan->size2) - p->alpha_zero;
        const int32_t scaled =
            v >= 0 ? eq_requant_r31(v, p->m1, p->e1) : eq_requant_r31(v * a, p->m2, p->e2);
        const int32_t sum = eq_add_wrap(scaled, p->y_zero);
        if (plan->size_y == 1)
            ((int8_t *)y)[i] = (int8_t)eq_clamp(sum, INT8_MIN, INT8_MAX);
        else
            ((int16_t *)(void *)y)[i] = (int16_t)eq_clamp(sum, INT16_MIN, INT16_MAX);
    }
}

static void prelu_row(const eq_node *node, const row_plan *plan, const uint8_t *x1,
                      const uint8_t *x2, uint8_t *y)
{
    if (wide_tensors(plan))
        prelu_wide(node->params, plan, x1, x2, y);
    else
        node->kernels->prelu(plan->n, (const int8_t *)x1, plan->step1, (const int8_t *)x2,
                             plan->step2, (int8_t *)y, node->params);
}

static void run_prelu(const eq_node *node, size_t first, size_t end)
{
    run_rows(node, first, end, prelu_row);
}

const eq_op_def eq_op_prelu = {
    .min_inputs = 2,
    .max_inputs = 2,
    .inplace = true,
    .validate = validate_prelu,
    .units = row_units,
    .run_units = run_prelu,
    .path = row_path,
    .slot = EQ_SLOT(prelu),
};
