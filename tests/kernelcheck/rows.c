/* SPDX-License-Identifier: Apache-2.0
 *
 * Sums, transposition, softmax. */
#include "kernelcheck.h"

#include <string.h>

#include "core/numerics.h"

enum { LENGTHS = 2 * 64 + 1 };

/* ---- sums */

bool kc_sum_rows(kc_case *c)
{
    kc_rng *rng = &c->rng;
    const size_t n = c->bench            ? c->bench->size[1]
                     : c->index % 2 == 0 ? c->index / 2 % (LENGTHS + 1)
                                         : kc_log_below(rng, 600);
    const size_t rows = c->bench ? c->bench->size[0] : kc_log_below(rng, 2000) + (n == 0);
    const size_t stride = rows == 1 && kc_chance(rng, 50) ? 0
                          : rng->usual                    ? n
                          : kc_chance(rng, 50)            ? n
                                                          : n + kc_below(rng, 70);
    const size_t size = rows == 0 ? 0 : (rows - 1) * stride + n;
    const enum kc_fill fill = kc_any_fill(rng);
    int8_t *x = kc_input(c, "x", size, 1);
    int32_t *acc = kc_output(c, "acc", n * sizeof *acc, sizeof *acc);
    int32_t *expected = kc_plain(0, n * sizeof *acc + 1);
    const int32_t room = c->bench ? 0 : INT32_MAX - 128 * (int32_t)rows;
    kc_fill_s8(rng, fill, 0, size, x);
    for (size_t i = 0; i < n; i++)
        acc[i] = kc_between(rng, -room, room);
    memcpy(expected, acc, n * sizeof *acc);
    kc_describe(c, "rows %zu n %zu stride %zu x %s", rows, n, stride, kc_fill_name(fill));
    kc_seal(c);
    return KC_TIMED(c, "scalar", c->scalar->sum_rows(rows, n, x, stride, expected))
           && KC_TIMED(c, "kernel", c->tested->sum_rows(rows, n, x, stride, acc))
           && kc_intact(c, "kernel") && kc_equal(c, "acc", n, sizeof *acc, n + 1, expected, acc);
}

/* Now and then the longest: 2^23 elements, whose sum may reach -2^30. */
bool kc_sum(kc_case *c)
{
    kc_rng *rng = &c->rng;
    const enum kc_fill fill = kc_any_fill(rng);
    const size_t n = c->bench                 ? c->bench->size[0]
                     : c->index % 1000 == 999 ? (size_t)1 << 23
                     : c->index % 2 == 0      ? c->index / 2 % (LENGTHS + 1)
                                              : kc_log_below(rng, 50000);
    int8_t *x = kc_input(c, "x", n, 1);
    int32_t *sum = kc_plain(0, 2 * sizeof *sum);
    kc_fill_s8(rng, fill, 0, n, x);
    kc_describe(c, "n %zu x %s", n, kc_fill_name(fill));
    kc_seal(c);
    return KC_TIMED(c, "scalar", sum[0] = c->scalar->sum(n, x))
           && KC_TIMED(c, "kernel", sum[1] = c->tested->sum(n, x)) && kc_intact(c, "kernel")
           && kc_equal(c, "sum", 1, sizeof *sum, 1, &sum[0], &sum[1]);
}

/* ---- requantization of sums */

/* Accumulators on thresholds between outputs and next to them, neighbours, few bits, and any. */
static int32_t any_sum(kc_rng *rng, const eq_channel_params *p, size_t way, int64_t start, size_t i)
{
    const int64_t near = kc_between(rng, -2, 2);
    int64_t sum = kc_between(rng, -INT32_MAX, INT32_MAX) >> kc_below(rng, 24);
    if (way == 0)
        sum = kc_threshold(p, 0, kc_between(rng, -128, 128)) + near;
    else if (way == 1)
        sum = start + (int64_t)i;
    else if (way == 2)
        sum = kc_between(rng, -127, 127) * ((int64_t)1 << kc_below(rng, 25)) + near;
    return (int32_t)(sum > INT32_MAX ? INT32_MAX : sum < -INT32_MAX ? -INT32_MAX : sum);
}

/* MEAN divides by the factor: any m below 2^31. */
bool kc_requantize(kc_case *c)
{
    kc_rng *rng = &c->rng;
    const size_t n = c->bench            ? c->bench->size[0]
                     : c->index % 2 == 0 ? c->index / 2 % (LENGTHS + 1)
                                         : kc_log_below(rng, 3000);
    const size_t way = kc_below(rng, 4);
    const int64_t start = kc_between(rng, -(1 << 20), 1 << 20);
    const int32_t zero = kc_zero(rng);
    const bool mean = !rng->usual && kc_chance(rng, 40);
    const int32_t m =
        mean ? (int32_t)(kc_next(rng) >> kc_between(rng, 33, 60)) : kc_multiplier(rng);
    const int8_t e = (int8_t)kc_exponent(rng, (int64_t)1 << kc_between(rng, 7, 30));
    const eq_channel_params p = {.multiplier = &m, .exponent = &e, .y_zero = zero};
    int32_t *acc = kc_input(c, "acc", n * sizeof *acc, sizeof *acc);
    int8_t *y = kc_output(c, "y", n, 1), *expected = kc_plain(0, n + 1);
    for (size_t i = 0; i < n; i++)
        acc[i] = any_sum(rng, &p, way, start, i);
    kc_describe(c, "n %zu m %d e %d zero %d way %zu", n, m, e, zero, way);
    kc_seal(c);
    return KC_TIMED(c, "scalar", c->scalar->requantize(n, acc, expected, m, e, zero))
           && KC_TIMED(c, "kernel", c->tested->requantize(n, acc, y, m, e, zero))
           && kc_intact(c, "kernel") && kc_equal(c, "y", n, 1, n + 1, expected, y);
}

/* ---- transposition */

bool kc_transpose(kc_case *c)
{
    kc_rng *rng = &c->rng;
    const size_t rows = c->bench            ? c->bench->size[0]
                        : c->index % 2 == 0 ? 1 + c->index / 2 % 67
                                            : 1 + kc_log_below(rng, 200);
    const size_t cols = c->bench            ? c->bench->size[1]
                        : c->index % 2 == 0 ? 1 + c->index / 134 % 67
                                            : 1 + kc_log_below(rng, 200);
    const size_t x_stride = cols + (kc_chance(rng, 50) ? 0 : kc_below(rng, 40));
    const size_t y_stride = rows + (kc_chance(rng, 50) ? 0 : kc_below(rng, 40));
    const size_t x_size = (rows - 1) * x_stride + cols, size = (cols - 1) * y_stride + rows;
    int8_t *x = kc_input(c, "x", x_size, 1);
    int8_t *y = kc_output(c, "y", size, 1), *expected = kc_plain(0, size);
    kc_fill_s8(rng, KC_UNIFORM, 0, x_size, x);
    memcpy(expected, y, size);
    kc_describe(c, "rows %zu cols %zu x_stride %zu y_stride %zu", rows, cols, x_stride, y_stride);
    kc_seal(c);
    return KC_TIMED(c, "scalar", c->scalar->transpose(rows, cols, x, x_stride, expected, y_stride))
           && KC_TIMED(c, "kernel", c->tested->transpose(rows, cols, x, x_stride, y, y_stride))
           && kc_intact(c, "kernel") && kc_equal(c, "y", size, 1, y_stride, expected, y);
}

/* ---- softmax */

/* exp(-d * s) in Q0.31 for a random s, or anything that the loader lets through. */
static const int32_t *exp_table(kc_case *c)
{
    kc_rng *rng = &c->rng;
    const size_t way = rng->usual ? 0 : kc_below(rng, 10);
    const int32_t factor = INT32_MAX - (int32_t)(kc_next(rng) >> kc_between(rng, 33, 45));
    int32_t *table = kc_input(c, "exp_table", 256 * sizeof *table, sizeof *table);
    table[0] = INT32_MAX;
    for (int d = 1; d < 256; d++)
        table[d] = way < 7    ? eq_mul_high(table[d - 1], factor)
                   : way == 7 ? INT32_MAX
                   : way == 8 ? 0
                              : kc_between(rng, 0, INT32_MAX);
    if (way < 7)
        kc_describe(c, " factor %d", factor);
    else
        kc_describe(c, " table %s", way == 7 ? "of ones" : way == 8 ? "of zeros" : "random");
    return table;
}

/* Rows up to those whose sums of exponentials leave their range. */
static size_t row_length(kc_case *c)
{
    kc_rng *rng = &c->rng;
    if (c->bench != NULL)
        return c->bench->size[0];
    if (c->index % 2 == 0)
        return 1 + c->index / 2 % LENGTHS;
    return c->index % 16 == 15 ? 1 + kc_below(rng, 9000)
                               : (size_t)KC_ONE_OF(rng, 2, 10, 12, 100, 512, 1000, 1001, 4096);
}

typedef struct row {
    size_t n;
    const int8_t *x;
    int8_t *y, *expected;
    const int32_t *table;
} row;

static void make_row(kc_case *c, row *t)
{
    kc_rng *rng = &c->rng;
    const enum kc_fill fill = kc_any_fill(rng);
    const bool in_place = !rng->usual && kc_chance(rng, 40);
    t->n = row_length(c);
    int8_t *x = in_place ? kc_output(c, "x", t->n, 1) : kc_input(c, "x", t->n, 1);
    kc_fill_s8(rng, fill, 0, t->n, x);
    t->x = x;
    t->y = in_place ? x : kc_output(c, "y", t->n, 1);
    t->expected = kc_plain(0, t->n);
    kc_describe(c, "n %zu x %s y is %s", t->n, kc_fill_name(fill), in_place ? "x" : "apart");
    t->table = exp_table(c);
}

bool kc_softmax(kc_case *c)
{
    row t;
    make_row(c, &t);
    kc_seal(c);
    return KC_TIMED(c, "scalar", c->scalar->softmax(t.n, t.x, t.expected, t.table))
           && KC_TIMED(c, "kernel", c->tested->softmax(t.n, t.x, t.y, t.table))
           && kc_intact(c, "kernel") && kc_equal(c, "y", t.n, 1, t.n, t.expected, t.y);
}

bool kc_log_softmax(kc_case *c)
{
    kc_rng *rng = &c->rng;
    const bool usual = rng->usual || kc_chance(rng, 75);
    eq_log_softmax_params *p = kc_input(c, "params", sizeof *p, _Alignof(eq_log_softmax_params));
    int32_t *diff = kc_input(c, "diff_table", 256 * sizeof *diff, sizeof *diff);
    const int32_t scale = kc_between(rng, 1, (1 << kc_between(rng, 10, 23)) - 1); /* Q5.26 */
    row t;
    make_row(c, &t);
    for (int d = 0; d < 256; d++)
        diff[d] = usual ? -d * scale : kc_between(rng, -INT32_MAX, 0);
    memset(p, 0, sizeof *p);
    p->diff_min = usual ? -kc_between(rng, 0, 260) : kc_between(rng, -INT32_MAX, 0);
    p->reverse_m = kc_multiplier(rng);
    p->reverse_e = usual ? kc_between(rng, -31, -20) : kc_between(rng, -31, 30);
    kc_describe(c, " scale %d diff_min %d reverse %d %d", scale, p->diff_min, p->reverse_m,
                p->reverse_e);
    kc_seal(c);
    return KC_TIMED(c, "scalar", c->scalar->log_softmax(t.n, t.x, t.expected, t.table, diff, p))
           && KC_TIMED(c, "kernel", c->tested->log_softmax(t.n, t.x, t.y, t.table, diff, p))
           && kc_intact(c, "kernel") && kc_equal(c, "y", t.n, 1, t.n, t.expected, t.y);
}
