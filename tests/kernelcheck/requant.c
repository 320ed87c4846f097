/* SPDX-License-Identifier: Apache-2.0
 *
 * Requantization in gemm and depthwise by itself: all weights equal their zero point, so that the
 * biases are the accumulators. What makes a kernel by estimates wrong lies next to the thresholds
 * between two outputs; so for many pairs (m, e) all accumulators within 2 of each threshold are
 * tried, for many more one threshold a channel, and stretches of neighbours anywhere. */
#include "kernelcheck.h"

#include <string.h>

#include "core/numerics.h"

enum { AROUND = 5, OUTPUTS = 257 }; /* thresholds into -128 ... 128, the last one clamped */
enum way { ALL_THRESHOLDS, ANY_THRESHOLDS, NEIGHBOURS, ANYWHERE };

typedef struct sweep {
    enum way way;
    size_t channels;
    int64_t limit; /* of |bias| */
    int32_t *bias, *m;
    int8_t *e;
    eq_channel_params p;
} sweep;

static int64_t half_of(const eq_channel_params *p, size_t n)
{
    return p->arithmetic == EQ_ARITH_R15 ? ((int64_t)1 << -p->exponent[n * p->step]) >> 1 : 0;
}

static int64_t accumulator(kc_rng *rng, const sweep *s, size_t n, int64_t start)
{
    const size_t q = n / AROUND;
    const int shift = kc_between(rng, 0, 30);
    switch (s->way) {
    case ALL_THRESHOLDS:
        return (int64_t)kc_threshold(&s->p, 0, (int32_t)(q % OUTPUTS) - 128) + (int64_t)(n % AROUND)
               - AROUND / 2;
    case ANY_THRESHOLDS:
        return (int64_t)kc_threshold(&s->p, n, kc_between(rng, -128, 128)) + kc_between(rng, -2, 2);
    case NEIGHBOURS: return start + (int64_t)n;
    default: /* the ends; few bits, and next to those */
        if (n % 4 == 0)
            return (n & 4 ? -1 : 1) * (s->limit - kc_between(rng, 0, 300));
        return (int64_t)(kc_between(rng, -127, 127) * ((int64_t)1 << shift))
               + kc_between(rng, -1, 1);
    }
}

/* x_zero = 0: |x - x_zero| counts for nothing where w = w_zero. */
static void make_sweep(kc_case *c, sweep *s)
{
    kc_rng *rng = &c->rng;
    const enum kc_manner manner = kc_any_manner(rng);
    const bool r15 = kc_chance(rng, 35);
    memset(s, 0, sizeof *s);
    s->way = (enum way)(c->index % 4);
    s->channels = s->way == ALL_THRESHOLDS ? AROUND * OUTPUTS : 1024 + kc_below(rng, 300);
    s->limit = ((int64_t)1 << (kc_chance(rng, 10) ? 31 : kc_between(rng, 3, 31))) - 1;
    s->p.arithmetic = r15 ? EQ_ARITH_R15 : EQ_ARITH_R31;
    s->p.fraction = r15 ? kc_between(rng, 0, 6) : 0;
    s->p.step = s->way == ANY_THRESHOLDS || kc_chance(rng, 30);
    s->p.x_zero = kc_zero(rng);
    s->p.w_zero = kc_chance(rng, 60) ? 0 : kc_zero(rng);
    s->p.y_zero = kc_zero(rng);
    kc_activation(rng, &s->p.act_min, &s->p.act_max);

    const size_t count = s->p.step ? s->channels : 1;
    s->bias = kc_input(c, "bias", s->channels * sizeof *s->bias, sizeof *s->bias);
    s->m = kc_input(c, "multiplier", count * sizeof *s->m, sizeof *s->m);
    s->e = kc_input(c, "exponent", count, 1);
    s->p.bias = s->bias;
    s->p.multiplier = s->m;
    s->p.exponent = s->e;
    for (size_t n = 0; n < count; n++)
        if (n == 0 || s->way == ANY_THRESHOLDS) {
            kc_factor(rng, &s->p, manner, s->limit, &s->m[n], &s->e[n]);
        } else {
            s->m[n] = s->m[0];
            s->e[n] = s->e[0];
        }
    if (s->way == ANYWHERE && !r15 && s->limit == INT32_MAX) { /* outputs up to int32's ends */
        s->m[0] = INT32_MAX;
        s->e[0] = 0;
    }
    const int64_t start = kc_chance(rng, 30)
                              ? -(int64_t)s->channels / 2
                              : (int64_t)(kc_next(rng) >> 2) % (2 * s->limit + 1) - s->limit;
    for (size_t n = 0; n < s->channels; n++) {
        const int64_t most =
            s->limit < INT32_MAX - half_of(&s->p, n) ? s->limit : INT32_MAX - half_of(&s->p, n);
        int64_t acc = accumulator(rng, s, n, start);
        if (acc > most || acc < -most)
            acc = kc_between(rng, (int32_t)-most, (int32_t)most);
        s->bias[n] = (int32_t)acc;
        const int64_t bound = (acc < 0 ? -acc : acc) + half_of(&s->p, n);
        s->p.bound = bound > s->p.bound ? bound : s->p.bound;
    }
    static const char *const ways[] = {"all thresholds", "any thresholds", "neighbours",
                                       "anywhere"};
    kc_describe(c,
                "%s: channels %zu below %lld %s F%d step %zu m %d e %d y_zero %d w_zero %d act "
                "%d..%d bound %lld",
                ways[s->way], s->channels, (long long)s->limit, r15 ? "R15" : "R31", s->p.fraction,
                s->p.step, s->m[0], s->e[0], s->p.y_zero, s->p.w_zero, s->p.act_min, s->p.act_max,
                (long long)s->p.bound);
}

static int8_t *equal_weights(kc_case *c, const sweep *s, size_t weights)
{
    int8_t *w = kc_input(c, "w", s->channels * weights, 1);
    memset(w, s->p.w_zero, s->channels * weights);
    return w;
}

/* The accumulator that made the wrong output, for the message. */
static bool explain(kc_case *c, const sweep *s, size_t pixels, const int8_t *y,
                    const int8_t *expected)
{
    for (size_t i = 0; i < pixels * s->channels; i++)
        if (y[i] != expected[i]) {
            const size_t n = i % s->channels;
            kc_describe(c, " | accumulator %d m %d e %d", s->bias[n], s->m[n * s->p.step],
                        s->e[n * s->p.step]);
            break;
        }
    return kc_equal(c, "y", pixels * s->channels, 1, s->channels, expected, y);
}

bool kc_gemm_requant(kc_case *c)
{
    kc_gemm_case t;
    sweep s;
    memset(&t, 0, sizeof t);
    make_sweep(c, &s);
    t.g = (eq_gemm){
        .channels = s.channels, .runs = 1, .length = 1 + kc_below(&c->rng, 3), .params = s.p};
    t.g.w = equal_weights(c, &s, t.g.length);
    t.pixels = 1 + kc_below(&c->rng, 4);
    t.end = t.y_stride = s.channels;
    const size_t size = t.pixels * s.channels;
    const int8_t **list = kc_input(c, "list of windows", sizeof *list, sizeof *list);
    int8_t *x = kc_input(c, "x", t.pixels * t.g.length, 1);
    kc_fill_s8(&c->rng, KC_UNIFORM, 0, t.pixels * t.g.length, x);
    list[0] = x;
    t.windows = (eq_windows){(const int8_t *const *)list, t.g.length};
    int8_t *y = kc_output(c, "y", size, 1), *expected = kc_plain(0, size);
    return kc_run_gemm(c, c->scalar, "scalar", &t, expected)
           && kc_run_gemm(c, c->tested, "kernel", &t, y) && explain(c, &s, t.pixels, y, expected);
}

bool kc_depthwise_requant(kc_case *c)
{
    kc_rng *rng = &c->rng;
    kc_depthwise_case t;
    sweep s;
    memset(&t, 0, sizeof t);
    make_sweep(c, &s);
    const size_t kernel = (size_t)KC_ONE_OF(rng, 1, 3, 3, 3, 5);
    t.d = (eq_depthwise){.channels = s.channels,
                         .multiplier = 1,
                         .kernel_h = kernel,
                         .kernel_w = kernel,
                         .stride = 1,
                         .dilation = 1,
                         .width = 3,
                         .params = s.p};
    t.d.w = equal_weights(c, &s, kernel * kernel);
    t.pixels = 1 + kc_below(rng, 3);
    t.left = -(ptrdiff_t)(kernel / 2);
    const size_t size = t.pixels * s.channels, row = 3 * s.channels;
    const int8_t **rows = kc_input(c, "list of rows", kernel * sizeof *rows, sizeof *rows);
    int8_t *x = kc_input(c, "x", kernel * row, 1);
    kc_fill_s8(rng, KC_UNIFORM, 0, kernel * row, x);
    for (size_t i = 0; i < kernel; i++)
        rows[i] = x + i * row;
    t.rows = (const int8_t *const *)rows;
    int8_t *y = kc_output(c, "y", size, 1), *expected = kc_plain(0, size);
    return kc_run_depthwise(c, c->scalar, "scalar", &t, expected)
           && kc_run_depthwise(c, c->tested, "kernel", &t, y)
           && explain(c, &s, t.pixels, y, expected);
}
