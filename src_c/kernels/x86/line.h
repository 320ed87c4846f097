/* SPDX-License-Identifier: Apache-2.0
 *
 * R31 by one fused multiplication, proven when a model is packed: docs/NUMERICS.md, "R31 by a
 * line". The including file defines TARGET. */
#ifndef EQ_KERNELS_X86_LINE_H
#define EQ_KERNELS_X86_LINE_H

#include <immintrin.h>

#include "core/numerics.h"
#include "kernels/kernels.h"

/* The output is float32(acc + shift) * factor + offset, rounded to an integer, clamped. */
typedef struct line_fit {
    float factor, offset;
    int32_t shift;
} line_fit;

/* Accumulators and outputs that belong to them. */
typedef struct step_list {
    size_t count;
    int32_t acc[256 + 8], out[256 + 8];
} step_list;

/* The outputs above act_min that a channel reaches: the first accumulator with each, and the last
 * one without it. */
typedef struct line_steps {
    step_list from, below;
} line_steps;

static inline void add_step(step_list *s, int64_t acc, int32_t out)
{
    s->acc[s->count] = (int32_t)acc;
    s->out[s->count++] = out;
}

/* Whole vectors: the last step is repeated. */
static inline void fill_up(step_list *s)
{
    for (size_t i = 0; s->count > 0 && i < 8; i++) {
        s->acc[s->count + i] = s->acc[s->count - 1];
        s->out[s->count + i] = s->out[s->count - 1];
    }
}

/* R31 reaches k > 0 from acc = ceil(((2 k - 1) * 2^(30 + s) - d) / m) on, s = -e; d = 2^30 for s >
 * 0, else 0. No accumulator is above `high`. */
static inline void find_steps(const eq_channel_params *p, uint64_t m, int s, int64_t high,
                              line_steps *steps)
{
    const uint64_t step = UINT64_C(1) << (31 + s), first = (step >> 1) - (s > 0 ? 1u << 30 : 0);
    uint64_t q = first / m, r = first % m;
    const uint64_t step_q = step / m, step_r = step % m;
    steps->from.count = steps->below.count = 0;
    for (int32_t y = p->y_zero + 1; y <= p->act_max; y++) {
        const int64_t acc = (int64_t)(q + (r > 0));
        if (acc > high) {
            add_step(&steps->below, high, y > p->act_min ? y : p->act_min + 1);
            break;
        }
        if (y > p->act_min) {
            add_step(&steps->below, acc - 1, y);
            add_step(&steps->from, acc, y);
        }
        q += step_q;
        r += step_r;
        q += r >= m;
        r -= r >= m ? m : 0;
    }
    fill_up(&steps->from);
    fill_up(&steps->below);
}

/* The least, or with sign = -1 the negative of the largest, out - 1/2 - acc * factor. */
static inline TARGET double least_offset(const step_list *s, double factor, double sign)
{
    const __m256d f = _mm256_set1_pd(factor), flip = _mm256_set1_pd(sign);
    __m256d least = _mm256_set1_pd(1e9);
    for (size_t i = 0; i < s->count; i += 4) {
        const __m128i acc = _mm_loadu_si128((const __m128i *)(const void *)(s->acc + i));
        const __m128i out = _mm_loadu_si128((const __m128i *)(const void *)(s->out + i));
        const __m256d middle = _mm256_sub_pd(_mm256_cvtepi32_pd(out), _mm256_set1_pd(0.5));
        const __m256d offset = _mm256_fnmadd_pd(_mm256_cvtepi32_pd(acc), f, middle);
        least = _mm256_min_pd(least, _mm256_mul_pd(offset, flip));
    }
    least = _mm256_min_pd(least, _mm256_permute4x64_pd(least, 0x4E));
    least = _mm256_min_pd(least, _mm256_permute_pd(least, 5));
    return _mm256_cvtsd_f64(least);
}

/* Whether the line gives less than the outputs (below) or not less (else). */
static inline TARGET bool line_holds(const line_fit *l, const step_list *s, bool below)
{
    const __m256 factor = _mm256_set1_ps(l->factor), offset = _mm256_set1_ps(l->offset);
    const __m256i shift = _mm256_set1_epi32(l->shift);
    for (size_t i = 0; i < s->count; i += 8) {
        const __m256i acc = _mm256_loadu_si256((const __m256i *)(const void *)(s->acc + i));
        const __m256i out = _mm256_loadu_si256((const __m256i *)(const void *)(s->out + i));
        const __m256 x = _mm256_cvtepi32_ps(_mm256_add_epi32(acc, shift));
        const __m256i y = _mm256_cvtps_epi32(_mm256_fmadd_ps(x, factor, offset));
        if (_mm256_movemask_epi8(_mm256_cmpgt_epi32(out, y)) != (below ? -1 : 0))
            return false;
    }
    return true;
}

enum { LINE_REACH = 1 << 22 }; /* of the shift: accumulators plus it stay far from 2^31 */

/* A line for channel n, whose accumulators are not above `high`. Only where the activation cuts off
 * all that R31 gives for negative accumulators, where it rounds by another offset. */
static inline TARGET bool find_line(const eq_channel_params *p, size_t n, int64_t high, line_fit *l)
{
    /* from the middle to the borders of what exact arithmetic would allow */
    static const double places[] = {0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.1, 0.9};
    static const int ulps[] = {0, 1, -1, 2, -2};
    const int32_t m = p->multiplier[n * p->step], s = -p->exponent[n * p->step];
    line_steps steps;

    *l = (line_fit){0.0f, (float)p->y_zero, 0};
    if (s < 0 || p->act_min < p->y_zero || p->bound >= 1 << 30)
        return false;
    if (m == 0)
        return true;
    find_steps(p, (uint64_t)m, s, high, &steps);
    if (steps.below.count == 0)
        return true;
    for (size_t i = 0; i < sizeof ulps / sizeof *ulps; i++) {
        const int32_t bits = float_bits((float)m * power_of_two(-s - 31)) + ulps[i];
        memcpy(&l->factor, &bits, sizeof bits);
        const double most = least_offset(&steps.below, l->factor, 1.0);
        double least = -least_offset(&steps.from, l->factor, -1.0);
        if (steps.from.count == 0)
            least = most - 0.5;
        for (size_t k = 0; least < most && k < sizeof places / sizeof *places; k++) {
            /* as much of the offset as possible by whole accumulators: a small one is exact */
            const double offset = least + places[k] * (most - least);
            const double shift = offset / (double)l->factor;
            l->shift = shift > LINE_REACH    ? LINE_REACH
                       : shift < -LINE_REACH ? -LINE_REACH
                                             : (int32_t)shift;
            l->offset = (float)(offset - (double)l->shift * (double)l->factor);
            if (line_holds(l, &steps.from, false) && line_holds(l, &steps.below, true))
                return true;
        }
    }
    return false;
}

#endif
