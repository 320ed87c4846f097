/* SPDX-License-Identifier: Apache-2.0
 *
 * add16, mul16, rescale, interpolate: elementwise kernels of int16, or of int16 and int8. */
#include "kernelcheck.h"

#include <string.h>

#include "core/numerics.h"

static size_t choose_length(kc_case *c)
{
    if (c->bench != NULL)
        return c->bench->size[0];
    return c->index % 3 == 0 ? 1 + kc_log_below(&c->rng, 5000) : c->index % 200;
}

static void fill(kc_rng *rng, size_t bytes, size_t n, void *x)
{
    const size_t way = rng->usual ? 3 : kc_below(rng, 6);
    for (size_t i = 0; i < n; i++) {
        int32_t v = (int32_t)(kc_next(rng) >> 24);
        if (way == 0) /* both ends */
            v = v & 1 ? INT32_MAX : INT32_MIN;
        if (way == 1) /* around 0 */
            v = (int32_t)(v & 15) - 8;
        if (bytes == 4)
            ((int32_t *)x)[i] = way > 2 ? v >> (v & 15) : v;
        else if (bytes == 2)
            ((int16_t *)x)[i] = (int16_t)(way == 0 ? v >> 16 : v);
        else
            ((int8_t *)x)[i] = (int8_t)(way == 0 ? v >> 24 : v);
    }
}

static void *operand(kc_case *c, const char *name, size_t bytes, size_t n, bool changes)
{
    void *x = (changes ? kc_output : kc_input)(c, name, n * bytes, bytes);
    fill(&c->rng, bytes, n, x);
    return x;
}

static void activation(kc_rng *rng, bool wide, int32_t *low, int32_t *high)
{
    kc_activation(rng, low, high);
    if (wide) {
        *low = *low == -128 ? INT16_MIN : *low * 256;
        *high = *high == 127 ? INT16_MAX : *high * 256;
    }
}

/* ---- two operands */

typedef struct pair {
    size_t n, step1, step2, bytes;
    const void *x1, *x2;
    void *y, *expected;
    unsigned wide;
} pair;

static bool is_wide(const pair *t, unsigned which)
{
    return (t->wide & which) != 0;
}

static void make_pair(kc_case *c, pair *t)
{
    kc_rng *rng = &c->rng;
    t->wide = rng->usual ? 7 : 1 + (unsigned)kc_below(rng, 7);
    t->n = choose_length(c);
    t->step1 = rng->usual || kc_chance(rng, 80);
    t->step2 = rng->usual || !t->step1 || kc_chance(rng, 80);
    const size_t size1 = is_wide(t, EQ_WIDE_X1) ? 2 : 1, size2 = is_wide(t, EQ_WIDE_X2) ? 2 : 1;
    t->bytes = is_wide(t, EQ_WIDE_Y) ? 2 : 1;
    const size_t way = rng->usual ? 0 : kc_below(rng, 4);
    const bool on1 = way == 1 && t->step1 && size1 == t->bytes;
    const bool on2 = way == 2 && t->step2 && size2 == t->bytes;
    void *x1 = operand(c, "x1", size1, t->step1 ? t->n : t->n > 0, on1);
    void *x2 = operand(c, "x2", size2, t->step2 ? t->n : t->n > 0, on2);
    t->x1 = x1;
    t->x2 = x2;
    t->y = on1 ? x1 : on2 ? x2 : kc_output(c, "y", t->n * t->bytes, t->bytes);
    t->expected = kc_plain(0, t->n * t->bytes + 2);
    kc_describe(c, "n %zu steps %zu %zu wide %u y is %s", t->n, t->step1, t->step2, t->wide,
                on1   ? "x1"
                : on2 ? "x2"
                      : "apart");
}

static int32_t zero(kc_rng *rng, bool wide)
{
    return wide ? 0 : kc_zero(rng);
}

bool kc_add16(kc_case *c)
{
    kc_rng *rng = &c->rng;
    eq_add_params *p = kc_input(c, "params", sizeof *p, _Alignof(eq_add_params));
    const bool usual = rng->usual || kc_chance(rng, 80);
    pair t;
    make_pair(c, &t);
    const bool wide = is_wide(&t, EQ_WIDE_X1) || is_wide(&t, EQ_WIDE_X2);
    *p = (eq_add_params){
        .x1_zero = zero(rng, is_wide(&t, EQ_WIDE_X1)),
        .x2_zero = zero(rng, is_wide(&t, EQ_WIDE_X2)),
        .y_zero = zero(rng, is_wide(&t, EQ_WIDE_Y)),
        .left_shift =
            wide ? (usual ? 15 : kc_between(rng, 0, 15)) : (usual ? 20 : kc_between(rng, 0, 24)),
        .m1 = kc_multiplier(rng),
        .m2 = kc_multiplier(rng),
        .my = kc_multiplier(rng),
        .e1 = usual ? kc_between(rng, -6, 0) : kc_between(rng, -31, 30),
        .e2 = usual ? kc_between(rng, -6, 0) : kc_between(rng, -31, 30),
        .ey = usual ? kc_between(rng, -18, -10) : kc_between(rng, -31, 30),
        .sign2 = KC_ONE_OF(rng, 1, -1),
    };
    if (usual && kc_chance(rng, 60)) { /* one of the scales is the larger one: factor 1/2 */
        p->m1 = 1 << 30;
        p->e1 = 0;
    }
    activation(rng, is_wide(&t, EQ_WIDE_Y), &p->act_min, &p->act_max);
    kc_describe(c, " zeros %d %d %d shift %d m %d %d %d e %d %d %d act %d..%d sign %d", p->x1_zero,
                p->x2_zero, p->y_zero, p->left_shift, p->m1, p->m2, p->my, p->e1, p->e2, p->ey,
                p->act_min, p->act_max, p->sign2);
    kc_seal(c);
    return KC_TIMED(c, "scalar",
                    c->scalar->add16(t.n, t.x1, t.step1, t.x2, t.step2, t.expected, p, t.wide))
           && KC_TIMED(c, "kernel",
                       c->tested->add16(t.n, t.x1, t.step1, t.x2, t.step2, t.y, p, t.wide))
           && kc_intact(c, "kernel") && kc_equal(c, "y", t.n, t.bytes, t.n + 1, t.expected, t.y);
}

bool kc_mul16(kc_case *c)
{
    kc_rng *rng = &c->rng;
    eq_mul_params *p = kc_input(c, "params", sizeof *p, _Alignof(eq_mul_params));
    pair t;
    make_pair(c, &t);
    *p = (eq_mul_params){
        .x1_zero = zero(rng, is_wide(&t, EQ_WIDE_X1)),
        .x2_zero = zero(rng, is_wide(&t, EQ_WIDE_X2)),
        .y_zero = zero(rng, is_wide(&t, EQ_WIDE_Y)),
        .m = kc_multiplier(rng),
        .e = rng->usual || kc_chance(rng, 80) ? kc_between(rng, -22, -8) : kc_between(rng, -31, 30),
    };
    activation(rng, is_wide(&t, EQ_WIDE_Y), &p->act_min, &p->act_max);
    kc_describe(c, " zeros %d %d %d m %d e %d act %d..%d", p->x1_zero, p->x2_zero, p->y_zero, p->m,
                p->e, p->act_min, p->act_max);
    kc_seal(c);
    return KC_TIMED(c, "scalar",
                    c->scalar->mul16(t.n, t.x1, t.step1, t.x2, t.step2, t.expected, p, t.wide))
           && KC_TIMED(c, "kernel",
                       c->tested->mul16(t.n, t.x1, t.step1, t.x2, t.step2, t.y, p, t.wide))
           && kc_intact(c, "kernel") && kc_equal(c, "y", t.n, t.bytes, t.n + 1, t.expected, t.y);
}

/* ---- one operand */

static size_t bytes_of(uint8_t dtype)
{
    return dtype == EQ_DT_INT32 ? 4 : dtype == EQ_DT_INT16 ? 2 : 1;
}

bool kc_rescale(kc_case *c)
{
    kc_rng *rng = &c->rng;
    static const uint8_t types[] = {EQ_DT_INT16, EQ_DT_INT8, EQ_DT_INT32};
    const uint8_t from = types[rng->usual ? 0 : kc_below(rng, 3)];
    const uint8_t to = types[rng->usual ? 1 : kc_below(rng, 3)];
    const size_t n = choose_length(c), bytes = bytes_of(to);
    const bool in_place = bytes == bytes_of(from) && !rng->usual && kc_chance(rng, 40);
    eq_requantize_params *p = kc_input(c, "params", sizeof *p, _Alignof(eq_requantize_params));
    *p = (eq_requantize_params){
        .x_zero = from == EQ_DT_INT8 ? kc_zero(rng) : 0,
        .y_zero = to == EQ_DT_INT8 ? kc_zero(rng) : 0,
        .m = kc_multiplier(rng),
        .e = rng->usual || kc_chance(rng, 70) ? kc_between(rng, -10, 4) : kc_between(rng, -31, 30),
        .act_min = INT32_MIN,
        .act_max = INT32_MAX,
    };
    if (to != EQ_DT_INT32)
        activation(rng, to == EQ_DT_INT16, &p->act_min, &p->act_max);
    kc_describe(c, "n %zu dtypes %d to %d%s zeros %d %d m %d e %d act %d..%d", n, from, to,
                in_place ? " in place" : "", p->x_zero, p->y_zero, p->m, p->e, p->act_min,
                p->act_max);
    void *x = operand(c, "x", bytes_of(from), n, in_place);
    void *y = in_place ? x : kc_output(c, "y", n * bytes, bytes);
    void *expected = kc_plain(0, n * bytes + 4);
    kc_seal(c);
    return KC_TIMED(c, "scalar", c->scalar->rescale(n, x, from, expected, to, p))
           && KC_TIMED(c, "kernel", c->tested->rescale(n, x, from, y, to, p))
           && kc_intact(c, "kernel") && kc_equal(c, "y", n, bytes, n + 1, expected, y);
}

static bool check_interpolate(kc_case *c, size_t n, const int16_t *x, int16_t *y,
                              const int16_t *table)
{
    int16_t *expected = kc_plain(0, (n + 1) * sizeof *expected);
    kc_seal(c);
    return KC_TIMED(c, "scalar", c->scalar->interpolate(n, x, expected, table))
           && KC_TIMED(c, "kernel", c->tested->interpolate(n, x, y, table))
           && kc_intact(c, "kernel") && kc_equal(c, "y", n, sizeof *y, n + 1, expected, y);
}

bool kc_interpolate(kc_case *c)
{
    kc_rng *rng = &c->rng;
    const size_t n = choose_length(c);
    const bool in_place = !rng->usual && kc_chance(rng, 40);
    int16_t *table = kc_input(c, "table", 513 * sizeof *table, sizeof *table);
    fill(rng, sizeof *table, 513, table);
    kc_describe(c, "n %zu y is %s", n, in_place ? "x" : "apart");
    int16_t *x = operand(c, "x", sizeof *x, n, in_place);
    return check_interpolate(c, n, x, in_place ? x : kc_output(c, "y", n * sizeof *x, sizeof *x),
                             table);
}
