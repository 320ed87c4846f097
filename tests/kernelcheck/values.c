/* SPDX-License-Identifier: Apache-2.0
 *
 * Weights, activations and requantization parameters as the loader lets them through
 * (src_c/ops/conv_check.c), from those of real networks to the ends of their ranges. */
#include "kernelcheck.h"

#include <string.h>

#include "core/numerics.h"

enum kc_fill kc_any_fill(kc_rng *rng)
{
    return rng->usual || kc_chance(rng, 40) ? KC_UNIFORM : (enum kc_fill)kc_below(rng, KC_EXTREME);
}

const char *kc_fill_name(enum kc_fill fill)
{
    static const char *const names[KC_FILLS] = {"uniform", "lowest", "highest", "alternating",
                                                "pairs",   "sparse", "ramp",    "extreme"};
    return names[fill];
}

static int8_t any_s8(kc_rng *rng)
{
    return (int8_t)(kc_next(rng) >> 24);
}

void kc_fill_s8(kc_rng *rng, enum kc_fill fill, int32_t zero, size_t n, int8_t *x)
{
    const int start = any_s8(rng), slope = kc_between(rng, 1, 5);
    int8_t last = 0;
    for (size_t i = 0; i < n; i++)
        switch (fill) {
        case KC_LOWEST: x[i] = -128; break;
        case KC_HIGHEST: x[i] = 127; break;
        case KC_ALTERNATING: x[i] = (i + (size_t)start) & 1 ? 127 : -128; break;
        case KC_PAIRS:
            if (i % 2 == 0)
                last = (int8_t)KC_ONE_OF(rng, 127, 127, 127, 126, -128, -128, -127);
            x[i] = last;
            break;
        case KC_SPARSE: x[i] = kc_chance(rng, 90) ? (int8_t)zero : any_s8(rng); break;
        case KC_RAMP: x[i] = (int8_t)(uint8_t)(start + (int)(i & 0xFFFFF) * slope); break;
        case KC_EXTREME: x[i] = zero < 0 ? 127 : -128; break;
        default: x[i] = any_s8(rng); break;
        }
}

int32_t kc_zero(kc_rng *rng)
{
    return rng->usual || kc_chance(rng, 50) ? kc_between(rng, -128, 127)
                                            : KC_ONE_OF(rng, -128, 0, 127);
}

void kc_activation(kc_rng *rng, int32_t *low, int32_t *high)
{
    *low = -128;
    *high = 127;
    if (!rng->usual && kc_chance(rng, 30))
        *low = kc_between(rng, -128, 127);
    if (!rng->usual && kc_chance(rng, 30))
        *high = kc_between(rng, *low, 127);
}

/* Those with few bits meet ties: a * m is an odd multiple of 2^30. */
int32_t kc_multiplier(kc_rng *rng)
{
    const size_t way = rng->usual ? 0 : kc_below(rng, 20);
    if (way < 12)
        return kc_between(rng, 1 << 30, INT32_MAX);
    if (way < 16)
        return (int32_t)(((uint32_t)1 << 30) + ((uint32_t)kc_below(rng, 64) << 24));
    return way == 16   ? 1 << 30
           : way == 17 ? INT32_MAX
           : way == 18 ? 0
                       : INT32_MAX - (int32_t)kc_below(rng, 16);
}

/* R31 gives x * m / 2^31 * 2^e, about x * 2^(e - 1/2). */
int32_t kc_exponent(kc_rng *rng, int64_t magnitude)
{
    const int bits = eq_bit_length((uint64_t)magnitude);
    const size_t way = rng->usual ? 0 : kc_below(rng, 20);
    if (way < 16)
        return eq_clamp(8 - bits + kc_between(rng, -3, 2), -31, 30);
    return way < 19 ? kc_between(rng, -31, 30) : KC_ONE_OF(rng, -31, 0, 1, 30);
}

/* ---- layers */

static int64_t input_reach(const eq_channel_params *p)
{
    return p->x_zero < 0 ? 127 - p->x_zero : 128 + p->x_zero;
}

int64_t kc_reach(const eq_channel_params *p, const kc_filters *f, size_t n)
{
    int64_t sum = 0, half = 0;
    for (size_t k = 0; k < f->weights; k++) {
        const int32_t d = f->w[n * f->channel_stride + k * f->weight_stride] - p->w_zero;
        sum += d < 0 ? -d : d;
    }
    if (p->arithmetic == EQ_ARITH_R15)
        half = ((int64_t)1 << -p->exponent[n * p->step]) >> 1;
    return sum * input_reach(p) + half;
}

int64_t kc_bound(const eq_channel_params *p, const kc_filters *f)
{
    int64_t largest = 0;
    for (size_t n = 0; n < f->channels; n++) {
        const int64_t bias = p->bias == NULL ? 0 : p->bias[n];
        const int64_t bound = kc_reach(p, f, n) + (bias < 0 ? -bias : bias);
        largest = bound > largest ? bound : largest;
    }
    return largest;
}

/* Channel n's weights all on one side of the zero point where possible, even channels above. */
static void one_sided(const kc_filters *f, int32_t zero)
{
    for (size_t n = 0; n < f->channels; n++)
        for (size_t k = 0; k < f->weights; k++)
            f->w[n * f->channel_stride + k * f->weight_stride] = (int8_t)(n & 1         ? -128
                                                                          : zero == 127 ? -128
                                                                                        : 127);
}

/* One factor of R31 or R15 for sums up to `reach`, about int8 unless `manner` is ODD. */
void kc_factor(kc_rng *rng, const eq_channel_params *p, enum kc_manner manner, int64_t reach,
               int32_t *m, int8_t *e)
{
    const bool r15 = p->arithmetic == EQ_ARITH_R15;
    const int fit = 8 + p->fraction - eq_bit_length((uint64_t)reach) + kc_between(rng, -3, 2);
    const int highest = r15 || manner != KC_ODD ? 0 : 30;
    *e = (int8_t)(manner == KC_ODD && kc_chance(rng, 50) ? kc_between(rng, -31, highest)
                                                         : eq_clamp(fit, -31, highest));
    if (manner == KC_ODD && kc_chance(rng, 10))
        *e = 0;
    if (r15)
        *m = manner != KC_PLAIN && kc_chance(rng, 3)    ? 0
             : manner != KC_PLAIN && kc_chance(rng, 15) ? KC_ONE_OF(rng, 1 << 14, 32767)
                                                        : kc_between(rng, 1 << 14, 32767);
    else
        *m = manner == KC_PLAIN ? kc_between(rng, 1 << 30, INT32_MAX) : kc_multiplier(rng);
}

/* A kernel may take a slower way for a whole layer because of one odd channel. */
enum kc_manner kc_any_manner(kc_rng *rng)
{
    const size_t way = rng->usual ? 0 : kc_below(rng, 10);
    return way < 4 ? KC_PLAIN : way < 8 ? KC_SPECIAL : KC_ODD;
}

static void choose_requantization(kc_case *c, const kc_filters *f, eq_channel_params *p)
{
    kc_rng *rng = &c->rng;
    const enum kc_manner manner = kc_any_manner(rng);
    const size_t step = rng->usual || kc_chance(rng, 75), count = step ? f->channels : 1;
    const bool r15 = rng->usual ? c->bench->r15 : kc_chance(rng, 35);
    const int level = kc_between(rng, 0, 4); /* how little of its reach a sum uses, log2 */
    int32_t *m = kc_input(c, "multiplier", count * sizeof *m, sizeof *m);
    int8_t *e = kc_input(c, "exponent", count, 1);

    p->multiplier = m;
    p->exponent = e;
    p->step = step;
    p->fraction = r15 ? kc_between(rng, 0, 6) : 0;
    p->arithmetic = r15 ? EQ_ARITH_R15 : EQ_ARITH_R31;
    memset(e, 0, count);
    for (size_t n = 0; n < count; n++)
        kc_factor(rng, p, manner, kc_reach(p, f, n) >> level, &m[n], &e[n]);
}

static void choose_bias(kc_case *c, const kc_filters *f, eq_channel_params *p, bool extreme)
{
    kc_rng *rng = &c->rng;
    const size_t way = rng->usual ? 1 : kc_below(rng, 10);
    p->bias = NULL;
    if (way == 0 && !extreme)
        return;
    int32_t *bias = kc_input(c, "bias", f->channels * sizeof *bias, sizeof *bias);
    for (size_t n = 0; n < f->channels; n++) {
        const int64_t reach = kc_reach(p, f, n), room = INT32_MAX - reach;
        const int64_t usual = way < 8 ? reach / 2 + 100 : room >> kc_below(rng, 31);
        const int32_t most = (int32_t)(usual < room ? usual : room);
        /* in the direction of products with KC_EXTREME's inputs */
        const bool down = (n & 1) != (p->x_zero >= 0);
        bias[n] = extreme ? (int32_t)(down ? -room : room) : kc_between(rng, -most, most);
    }
    p->bias = bias;
}

void kc_layer(kc_case *c, kc_filters *f, eq_channel_params *p, bool *extreme)
{
    kc_rng *rng = &c->rng;
    const enum kc_fill fill = !rng->usual && kc_chance(rng, 5) ? KC_EXTREME : kc_any_fill(rng);
    f->w = kc_input(c, "w", f->channels * f->weights, 1);
    memset(p, 0, sizeof *p);
    p->x_zero = kc_zero(rng);
    p->w_zero = rng->usual || kc_chance(rng, 60) ? 0 : kc_zero(rng);
    p->y_zero = kc_zero(rng);
    kc_activation(rng, &p->act_min, &p->act_max);
    *extreme = fill == KC_EXTREME;
    if (*extreme)
        one_sided(f, p->w_zero);
    else
        kc_fill_s8(rng, fill, p->w_zero, f->channels * f->weights, f->w);
    choose_requantization(c, f, p);
    choose_bias(c, f, p, *extreme && kc_chance(rng, 50));
    kc_describe(c, " x_zero %d w_zero %d y_zero %d act %d..%d %s F%d step %zu w %s bias %s",
                p->x_zero, p->w_zero, p->y_zero, p->act_min, p->act_max,
                p->arithmetic == EQ_ARITH_R15 ? "R15" : "R31", p->fraction, p->step,
                kc_fill_name(fill), p->bias == NULL ? "none" : "given");
}

/* ---- thresholds of requantization */

static bool reaches(const eq_channel_params *p, size_t n, int32_t acc, int32_t q)
{
    const int32_t m = p->multiplier[n * p->step];
    const int e = p->exponent[n * p->step];
    if (p->arithmetic == EQ_ARITH_R15)
        return eq_requant_r15(acc, m, e, p->fraction, p->y_zero) >= q;
    return (int64_t)eq_requant_r31(acc, m, e) + p->y_zero >= q;
}

/* Both arithmetics are monotone where a left shift does not wrap and R15's half has room. */
int32_t kc_threshold(const eq_channel_params *p, size_t n, int32_t q)
{
    const int e = p->exponent[n * p->step];
    int64_t limit = INT32_MAX;
    if (p->arithmetic == EQ_ARITH_R15)
        limit -= ((int64_t)1 << -e) >> 1;
    else if (e > 0)
        limit >>= e;
    int64_t low = -limit, high = limit;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (reaches(p, n, (int32_t)middle, q))
            high = middle;
        else
            low = middle + 1;
    }
    return (int32_t)low;
}

/* A bias for which channel n's accumulator at pixel p lies on a rounding threshold or next to it.
 */
void kc_tie(kc_case *c, const kc_filters *f, const eq_channel_params *p, size_t n, int32_t sum)
{
    const int32_t q = kc_between(&c->rng, p->act_min, p->act_max + 1);
    const int64_t acc = (int64_t)kc_threshold(p, n, q) + kc_between(&c->rng, -2, 2);
    const int64_t bias = acc - sum, room = INT32_MAX - kc_reach(p, f, n);
    if (bias >= -room && bias <= room)
        ((int32_t *)(uintptr_t)p->bias)[n] = (int32_t)bias;
}

bool kc_check_size(kc_case *c, const char *what, size_t size)
{
    if (size % EQ_PACK_ALIGN == 0)
        return true;
    return kc_fail(c, "%s returned %zu, which is no multiple of %d", what, size,
                   (int)EQ_PACK_ALIGN);
}
