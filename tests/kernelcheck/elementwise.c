/* SPDX-License-Identifier: Apache-2.0
 *
 * The slots of two operands, and lut. */
#include "kernelcheck.h"

#include <string.h>

#include "core/numerics.h"

/* Every tail up to 2 * 64 + 1, then anything up to a few thousand. */
static size_t choose_length(kc_case *c)
{
    if (c->bench != NULL)
        return c->bench->size[0];
    if (c->index % 2 == 0)
        return c->index / 2 % 130;
    return kc_log_below(&c->rng, 6000);
}

typedef struct pair {
    size_t n, step1, step2;
    int8_t *x1, *x2, *y; /* y may be x1 or x2, and x2 may be x1 */
    int8_t *expected;
} pair;

/* What the tested kernel writes where it works in place is no input that has to stay. */
static int8_t *operand(kc_case *c, const char *name, size_t n, bool in_place)
{
    const enum kc_fill fill = kc_any_fill(&c->rng);
    int8_t *x = in_place ? kc_output(c, name, n, 1) : kc_input(c, name, n, 1);
    kc_fill_s8(&c->rng, fill, 0, n, x);
    kc_describe(c, " %s %s", name, kc_fill_name(fill));
    return x;
}

enum { IN_X1 = 1, IN_X2 = 2 };

/* x1 and x2 are set last in `copy1`, `copy2`: those that scalar reads where y is one of them. */
static void make_pair(kc_case *c, pair *t)
{
    kc_rng *rng = &c->rng;
    const size_t way = rng->usual ? 3 : kc_below(rng, 10);
    size_t in_place = rng->usual || kc_chance(rng, 70) ? 0 : IN_X1 + kc_below(rng, 2);
    const bool all = c->bench == NULL && way > 2 && c->index % 16 == 15;
    t->n = all ? 65536 : choose_length(c);
    t->step1 = way != 1;
    t->step2 = way != 2;
    if (way == 0)
        t->step1 = t->step2 = 0;
    if ((in_place == IN_X1 && !t->step1) || (in_place == IN_X2 && !t->step2))
        in_place = 0;
    const bool same = way > 2 && !rng->usual && kc_chance(rng, 8);
    kc_describe(c, "n %zu steps %zu, %zu y is %s", t->n, t->step1, t->step2,
                in_place == 0       ? "apart"
                : in_place == IN_X1 ? "x1"
                                    : "x2");
    t->x1 = operand(c, "x1", t->step1 ? t->n : 1, in_place == IN_X1 || (same && in_place));
    t->x2 = same ? t->x1 : operand(c, "x2", t->step2 ? t->n : 1, in_place == IN_X2);
    if (all) { /* of each with each */
        for (size_t i = 0; i < t->n; i++) {
            t->x1[i] = (int8_t)(uint8_t)(i & 255);
            if (!same)
                t->x2[i] = (int8_t)(uint8_t)(i >> 8);
        }
        kc_describe(c, " all pairs");
    }
    t->y = in_place == 0 ? kc_output(c, "y", t->n, 1) : in_place == IN_X1 ? t->x1 : t->x2;
    t->expected = kc_plain(0, t->n + 1);
    memcpy(t->expected, t->y, t->n);
}

/* Scalar writes `expected` first, from the operands as they are; then the kernel. */
#define CHECK_PAIR(c, t, slot, ...) \
    (kc_seal(c), KC_TIMED(c, "scalar", \
                          (c)->scalar->slot((t)->n, (t)->x1, (t)->step1, (t)->x2, (t)->step2, \
                                            (t)->expected __VA_ARGS__)) \
                     && KC_TIMED(c, "kernel", \
                                 (c)->tested->slot((t)->n, (t)->x1, (t)->step1, (t)->x2, \
                                                   (t)->step2, (t)->y __VA_ARGS__)) \
                     && kc_intact(c, "kernel") \
                     && kc_equal(c, "y", (t)->n, 1, (t)->n + 1, (t)->expected, (t)->y))

/* As the converter makes them: scales of the inputs relative to twice the larger one, in Q20. */
bool kc_add(kc_case *c)
{
    kc_rng *rng = &c->rng;
    eq_add_params *p = kc_input(c, "params", sizeof *p, _Alignof(eq_add_params));
    const bool usual = rng->usual || kc_chance(rng, 75);
    pair t;
    make_pair(c, &t);
    *p = (eq_add_params){
        .x1_zero = kc_zero(rng),
        .x2_zero = kc_zero(rng),
        .y_zero = kc_zero(rng),
        .left_shift = usual ? 20 : kc_between(rng, 0, 24),
        .m1 = kc_multiplier(rng),
        .e1 = usual ? kc_between(rng, -6, 0) : kc_between(rng, -31, 30),
        .m2 = kc_multiplier(rng),
        .e2 = usual ? kc_between(rng, -6, 0) : kc_between(rng, -31, 30),
        .my = kc_multiplier(rng),
        .ey = usual ? kc_between(rng, -22, -16) : kc_between(rng, -31, 30),
        .sign2 = KC_ONE_OF(rng, 1, -1),
    };
    if (usual && kc_chance(rng, 60)) { /* one of the scales is the larger one: factor 1/2 */
        p->m1 = 1 << 30;
        p->e1 = 0;
    }
    kc_activation(rng, &p->act_min, &p->act_max);
    kc_describe(c, " zeros %d %d %d shift %d m %d %d %d e %d %d %d act %d..%d sign %d", p->x1_zero,
                p->x2_zero, p->y_zero, p->left_shift, p->m1, p->m2, p->my, p->e1, p->e2, p->ey,
                p->act_min, p->act_max, p->sign2);
    return CHECK_PAIR(c, &t, add, , p);
}

bool kc_mul(kc_case *c)
{
    kc_rng *rng = &c->rng;
    eq_mul_params *p = kc_input(c, "params", sizeof *p, _Alignof(eq_mul_params));
    pair t;
    make_pair(c, &t);
    *p = (eq_mul_params){
        .x1_zero = kc_zero(rng),
        .x2_zero = kc_zero(rng),
        .y_zero = kc_zero(rng),
        .m = kc_multiplier(rng),
        .e = kc_exponent(rng, 1 << kc_between(rng, 7, 16)),
    };
    kc_activation(rng, &p->act_min, &p->act_max);
    kc_describe(c, " zeros %d %d %d m %d e %d act %d..%d", p->x1_zero, p->x2_zero, p->y_zero, p->m,
                p->e, p->act_min, p->act_max);
    return CHECK_PAIR(c, &t, mul, , p);
}

bool kc_maximum(kc_case *c)
{
    pair t;
    make_pair(c, &t);
    return CHECK_PAIR(c, &t, maximum, );
}

bool kc_minimum(kc_case *c)
{
    pair t;
    make_pair(c, &t);
    return CHECK_PAIR(c, &t, minimum, );
}

bool kc_prelu(kc_case *c)
{
    kc_rng *rng = &c->rng;
    eq_prelu_params *p = kc_input(c, "params", sizeof *p, _Alignof(eq_prelu_params));
    pair t;
    make_pair(c, &t);
    *p = (eq_prelu_params){
        .x_zero = kc_zero(rng),
        .alpha_zero = kc_zero(rng),
        .y_zero = kc_zero(rng),
        .m1 = kc_multiplier(rng),
        .e1 = kc_exponent(rng, 128),
        .m2 = kc_multiplier(rng),
        .e2 = kc_exponent(rng, 1 << kc_between(rng, 7, 16)),
    };
    kc_describe(c, " zeros %d %d %d m %d %d e %d %d", p->x_zero, p->alpha_zero, p->y_zero, p->m1,
                p->m2, p->e1, p->e2);
    return CHECK_PAIR(c, &t, prelu, , p);
}

bool kc_lut(kc_case *c)
{
    kc_rng *rng = &c->rng;
    const size_t n = choose_length(c);
    const bool in_place = !rng->usual && kc_chance(rng, 40);
    int8_t *table = kc_input(c, "table", 256, 1);
    kc_fill_s8(rng, KC_UNIFORM, 0, 256, table);
    kc_describe(c, "n %zu y is %s", n, in_place ? "x" : "apart");
    int8_t *x = operand(c, "x", n, in_place);
    if (n >= 256 && kc_chance(rng, 50)) /* every entry */
        for (size_t i = 0; i < n; i++)
            x[i] = (int8_t)(uint8_t)(i * 167);
    int8_t *y = in_place ? x : kc_output(c, "y", n, 1), *expected = kc_plain(0, n + 1);
    kc_seal(c);
    return KC_TIMED(c, "scalar", c->scalar->lut(n, x, expected, table))
           && KC_TIMED(c, "kernel", c->tested->lut(n, x, y, table)) && kc_intact(c, "kernel")
           && kc_equal(c, "y", n, 1, n + 1, expected, y);
}
