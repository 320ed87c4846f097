/* SPDX-License-Identifier: Apache-2.0
 *
 * Functions of one element: LUT, LUT16, INTERPOLATE, SIGMOID, REQUANTIZE. */
#include "core/numerics.h"
#include "ops/ops.h"

/* So many elements are worth a thread of their own. */
enum { UNIT = 4096, PART = 256 };

static size_t element_units(const eq_node *node)
{
    return (eq_elements(eq_out(node)) + UNIT - 1) / UNIT;
}

/* The elements of units [first, end): where x and y begin, and how many there are. */
typedef struct stretch {
    size_t n;
    const void *x;
    void *y;
} stretch;

static stretch stretch_of(const eq_node *node, size_t first, size_t end)
{
    const size_t count = eq_elements(eq_out(node)), at = first * UNIT;
    const size_t stop = end * UNIT < count ? end * UNIT : count;
    return (stretch){
        stop - at,
        (const uint8_t *)eq_arg_data(node, 0) + at * eq_dtype_size(eq_arg(node, 0)->dtype),
        (uint8_t *)eq_out_data(node) + at * eq_dtype_size(eq_out(node)->dtype),
    };
}

static eq_status check_types(const eq_node *node, uint8_t x_dtype, uint8_t y_dtype)
{
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    EQ_TRY(eq_check_dtype(node, "input", x, x_dtype));
    EQ_TRY(eq_check_dtype(node, "output", y, y_dtype));
    return eq_check_same_shape(node, x, y);
}

/* ---- LUT */

static eq_status validate_lut(const eq_node *node)
{
    const eq_lut_params *p = node->params;
    EQ_TRY(check_types(node, EQ_DT_INT8, EQ_DT_INT8));
    return eq_check_ref(node, "table", p->table, 256, 1);
}

static void run_lut(const eq_node *node, size_t first, size_t end)
{
    const eq_lut_params *p = node->params;
    const stretch s = stretch_of(node, first, end);
    node->kernels->lut(s.n, s.x, s.y, eq_ref_data(node, p->table));
}

const eq_op_def eq_op_lut = {
    .min_inputs = 1,
    .max_inputs = 1,
    .inplace = true,
    .validate = validate_lut,
    .units = element_units,
    .run_units = run_lut,
    .why = "all elements in one call",
    .slot = EQ_SLOT(lut),
};

/* ---- LUT16 */

static eq_status validate_lut16(const eq_node *node)
{
    const eq_lut16_params *p = node->params;
    EQ_TRY(check_types(node, EQ_DT_INT8, EQ_DT_INT16));
    return eq_check_ref(node, "table", p->table, 256, 2);
}

static void run_lut16(const eq_node *node, size_t first, size_t end)
{
    const eq_lut16_params *p = node->params;
    const stretch s = stretch_of(node, first, end);
    const int16_t *table = eq_ref_data(node, p->table);
    const int8_t *x = s.x;
    int16_t *y = s.y;
    for (size_t i = 0; i < s.n; i++)
        y[i] = table[x[i] + 128];
}

const eq_op_def eq_op_lut16 = {
    .min_inputs = 1,
    .max_inputs = 1,
    .validate = validate_lut16,
    .units = element_units,
    .run_units = run_lut16,
    .why = "a loop over a table of 256 int16",
};

/* ---- INTERPOLATE */

static eq_status validate_interpolate(const eq_node *node)
{
    const eq_interpolate_params *p = node->params;
    EQ_TRY(eq_check_quantized(node, "output", eq_out(node)));
    EQ_TRY(check_types(node, EQ_DT_INT16, eq_out(node)->dtype));
    return eq_check_ref(node, "table", p->table, 513, 2);
}

static void run_interpolate(const eq_node *node, size_t first, size_t end)
{
    const eq_interpolate_params *p = node->params;
    const stretch s = stretch_of(node, first, end);
    const int16_t *table = eq_ref_data(node, p->table), *x = s.x;
    if (eq_out(node)->dtype == EQ_DT_INT16) {
        node->kernels->interpolate(s.n, x, s.y, table);
        return;
    }
    int16_t part[PART];
    int8_t *y = s.y;
    for (size_t i = 0, n; i < s.n; i += n) {
        n = s.n - i < PART ? s.n - i : PART;
        node->kernels->interpolate(n, x + i, part, table);
        for (size_t k = 0; k < n; k++)
            y[i + k] = (int8_t)eq_clamp((part[k] + 128) >> 8, INT8_MIN, INT8_MAX);
    }
}

const eq_op_def eq_op_interpolate = {
    .min_inputs = 1,
    .max_inputs = 1,
    .inplace = true,
    .validate = validate_interpolate,
    .units = element_units,
    .run_units = run_interpolate,
    .why = "all elements in one call; int8 outputs in parts",
    .slot = EQ_SLOT(interpolate),
};

/* ---- SIGMOID: the logistic function of |x|, symmetric around 0. Source: logistic.h and tanh.h of
 * TFLite's reference kernels for int16. tanh(x) = 2 * logistic(2 * x) - 1. */

static eq_status validate_sigmoid(const eq_node *node)
{
    const eq_sigmoid_params *p = node->params;
    EQ_TRY(check_types(node, EQ_DT_INT16, EQ_DT_INT16));
    EQ_TRY(eq_check_range(node, "m", p->m, 0, INT16_MAX));
    EQ_TRY(eq_check_range(node, "shift", p->shift, 0, 30));
    EQ_TRY(eq_check_range(node, "tanh", p->tanh, 0, 1));
    EQ_TRY(eq_check_ref(node, "table", p->table, 256, 2));
    const uint16_t *table = eq_ref_data(node, p->table);
    for (int i = 1; i < 256; i++)
        if (table[i] < table[i - 1])
            return eq_node_error(node, "table[%d] is %d, less than the entry before it", i,
                                 (int32_t)table[i]);
    return eq_check_range(node, "table[254]", table[254], 0, 65534);
}

/* x times m / 2^shift, ties up: |x * m| + 2^29 < 2^31. */
static int32_t sigmoid_argument(int16_t x, const eq_sigmoid_params *p)
{
    return (x * p->m + (p->shift > 0 ? 1 << (p->shift - 1) : 0)) >> p->shift;
}

/* Below 2^16, as the last entry is never met itself. Entry v / 2^bits of the table in 2^-bits steps
 * of an entry; `saturated` behind the last but one.
 */
static int32_t sigmoid_lookup(uint32_t v, int bits, const uint16_t *table, int32_t saturated)
{
    const uint32_t i = v >> bits, part = v & ((1u << bits) - 1);
    if (i >= 255)
        return saturated;
    return (int32_t)(((uint32_t)table[i] << bits) + part * (uint32_t)(table[i + 1] - table[i]));
}

static int16_t logistic_of(int32_t v, const uint16_t *table)
{
    const int32_t half = sigmoid_lookup((uint32_t)(v < 0 ? -v : v), 9, table, 0x7fff << 10);
    return (int16_t)((v >= 0 ? half + (1 << 9) : (1 << 25) - half + (1 << 9) - 1) >> 10);
}

static int16_t tanh_of(int32_t v, const uint16_t *table)
{
    const int32_t one = sigmoid_lookup((uint32_t)(v < 0 ? -v : v), 8, table, 0xffff << 8);
    const int32_t y = one - (1 << 23);
    return (int16_t)((v >= 0 ? y + (1 << 7) : -y + (1 << 7) - 1) >> 8);
}

static void run_sigmoid(const eq_node *node, size_t first, size_t end)
{
    const eq_sigmoid_params *p = node->params;
    const stretch s = stretch_of(node, first, end);
    const uint16_t *table = eq_ref_data(node, p->table);
    const int16_t *x = s.x;
    int16_t *y = s.y;
    if (p->tanh)
        for (size_t i = 0; i < s.n; i++)
            y[i] = tanh_of(sigmoid_argument(x[i], p), table);
    else
        for (size_t i = 0; i < s.n; i++)
            y[i] = logistic_of(sigmoid_argument(x[i], p), table);
}

const eq_op_def eq_op_sigmoid = {
    .min_inputs = 1,
    .max_inputs = 1,
    .inplace = true,
    .validate = validate_sigmoid,
    .units = element_units,
    .run_units = run_sigmoid,
    .why = "a loop, interpolating a table of 256 entries",
};

/* ---- REQUANTIZE */

static eq_status check_integer(const eq_node *node, const char *what, const eq_file_tensor *t,
                               int32_t zero)
{
    if (t->dtype == EQ_DT_INT32)
        return eq_check_range(node, what, zero, 0, 0);
    EQ_TRY(eq_check_quantized(node, t == eq_out(node) ? "output" : "input", t));
    return eq_check_zero(node, what, t, zero);
}

static eq_status validate_requantize(const eq_node *node)
{
    const eq_requantize_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    EQ_TRY(check_integer(node, "x_zero", x, p->x_zero));
    EQ_TRY(check_integer(node, "y_zero", y, p->y_zero));
    EQ_TRY(eq_check_same_shape(node, x, y));
    EQ_TRY(eq_check_multiplier(node, "m", p->m, p->e));
    if (y->dtype == EQ_DT_INT32)
        return eq_check_range(node, "act_min", p->act_min, INT32_MIN, p->act_max);
    return eq_check_activation(node, y, p->act_min, p->act_max);
}

static void run_requantize(const eq_node *node, size_t first, size_t end)
{
    const stretch s = stretch_of(node, first, end);
    node->kernels->rescale(s.n, s.x, eq_arg(node, 0)->dtype, s.y, eq_out(node)->dtype,
                           node->params);
}

const eq_op_def eq_op_requantize = {
    .min_inputs = 1,
    .max_inputs = 1,
    .inplace = true,
    .validate = validate_requantize,
    .units = element_units,
    .run_units = run_requantize,
    .why = "all elements in one call",
    .slot = EQ_SLOT(rescale),
};
