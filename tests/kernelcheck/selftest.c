/* SPDX-License-Identifier: Apache-2.0
 *
 * The harness's own test: scalar kernels with one fault each, which must be found and named. */
#include "kernelcheck.h"

#include <stdio.h>
#include <string.h>

#include "core/numerics.h"

/* What the faulty kernels are made of. */
static eq_kernels good;

/* ---- gemm */

static void one_wrong_byte(const eq_gemm *g, size_t pixels, size_t first, size_t end,
                           const eq_windows *x, int8_t *y, size_t y_stride, void *scratch)
{
    good.gemm(g, pixels, first, end, x, y, y_stride, scratch);
    if (g->channels % 16 == 15 && pixels % 4 == 3) /* the last of a tail only */
        y[(pixels - 1) * y_stride + end - 1] ^= 1;
}

/* m is off by one unit in 2^31: only accumulators on a threshold can tell. */
static void inexact_factor(const eq_gemm *g, size_t pixels, size_t first, size_t end,
                           const eq_windows *x, int8_t *y, size_t y_stride, void *scratch)
{
    static int32_t m[4096];
    eq_gemm other = *g;
    const size_t count = g->params.step ? g->channels : 1;
    if (g->params.arithmetic == EQ_ARITH_R31 && count <= 4096) {
        for (size_t n = 0; n < count; n++)
            m[n] = g->params.multiplier[n] - (g->params.multiplier[n] > 1 << 30);
        other.params.multiplier = m;
    }
    good.gemm(&other, pixels, first, end, x, y, y_stride, scratch);
}

/* Accumulators of 24 bits, as in float32. */
static void inexact_bias(const eq_gemm *g, size_t pixels, size_t first, size_t end,
                         const eq_windows *x, int8_t *y, size_t y_stride, void *scratch)
{
    static int32_t bias[4096];
    eq_gemm other = *g;
    if (g->params.bias != NULL && g->channels <= 4096) {
        for (size_t n = 0; n < g->channels; n++) {
            const int32_t b = g->params.bias[n];
            const int drop = eq_bit_length((uint64_t)(b < 0 ? -(int64_t)b : b)) - 24;
            bias[n] = drop > 0 ? b >> drop << drop : b;
        }
        other.params.bias = bias;
    }
    good.gemm(&other, pixels, first, end, x, y, y_stride, scratch);
}

/* Sums of two products of (x + 128) and w saturate at int16, as with vpmaddubsw. */
static void saturated_pairs(const eq_gemm *g, size_t pixels, size_t first, size_t end,
                            const eq_windows *x, int8_t *y, size_t y_stride, void *scratch)
{
    good.gemm(g, pixels, first, end, x, y, y_stride, scratch);
    for (size_t p = 0; x->step != 0 && p < pixels; p++)
        for (size_t n = first; n < end; n++)
            for (size_t k = 0; k + 1 < g->length; k += 2) {
                const int8_t *at = x->x[0] + p * x->step + k, *w = g->w + n * g->length + k;
                const int32_t sum = (at[0] + 128) * w[0] + (at[1] + 128) * w[1];
                if (eq_saturate16(sum) != sum)
                    y[p * y_stride + n] ^= 1;
            }
}

static void reads_behind_x(const eq_gemm *g, size_t pixels, size_t first, size_t end,
                           const eq_windows *x, int8_t *y, size_t y_stride, void *scratch)
{
    const size_t last = x->step ? 0 : pixels * g->runs - 1;
    const int8_t *run = x->x[last] + (x->step ? (pixels - 1) * x->step : 0);
    (void)((const volatile int8_t *)run)[g->length];
    good.gemm(g, pixels, first, end, x, y, y_stride, scratch);
}

static void reads_before_x(const eq_gemm *g, size_t pixels, size_t first, size_t end,
                           const eq_windows *x, int8_t *y, size_t y_stride, void *scratch)
{
    (void)((const volatile int8_t *)x->x[0])[-1];
    good.gemm(g, pixels, first, end, x, y, y_stride, scratch);
}

static void writes_behind_y(const eq_gemm *g, size_t pixels, size_t first, size_t end,
                            const eq_windows *x, int8_t *y, size_t y_stride, void *scratch)
{
    good.gemm(g, pixels, first, end, x, y, y_stride, scratch);
    y[(pixels - 1) * y_stride + end] ^= 0x55;
}

static void writes_into_gaps(const eq_gemm *g, size_t pixels, size_t first, size_t end,
                             const eq_windows *x, int8_t *y, size_t y_stride, void *scratch)
{
    good.gemm(g, pixels, first, end, x, y, y_stride, scratch);
    if (pixels > 1 && y_stride > end)
        y[end] ^= 0x55;
}

static void changes_x(const eq_gemm *g, size_t pixels, size_t first, size_t end,
                      const eq_windows *x, int8_t *y, size_t y_stride, void *scratch)
{
    good.gemm(g, pixels, first, end, x, y, y_stride, scratch);
    *(int8_t *)(uintptr_t)x->x[0] ^= 1;
}

static void ignores_first(const eq_gemm *g, size_t pixels, size_t first, size_t end,
                          const eq_windows *x, int8_t *y, size_t y_stride, void *scratch)
{
    (void)first;
    good.gemm(g, pixels, 0, end, x, y, y_stride, scratch);
}

/* As if the pixels of a list were one behind the other. */
static void reads_list_as_dense(const eq_gemm *g, size_t pixels, size_t first, size_t end,
                                const eq_windows *x, int8_t *y, size_t y_stride, void *scratch)
{
    const eq_windows dense = {x->x, g->length};
    good.gemm(g, pixels, first, end, g->runs == 1 ? &dense : x, y, y_stride, scratch);
}

/* ---- packing and scratch: 64 bytes of each, used rightly by the slots that replace them */

static size_t packs(const eq_gemm *g, void *packed)
{
    (void)g;
    if (packed != NULL)
        memset(packed, 7, EQ_PACK_ALIGN);
    return EQ_PACK_ALIGN;
}

static size_t packs_more_than_counted(const eq_gemm *g, void *packed)
{
    return packs(g, packed) + (packed != NULL ? EQ_PACK_ALIGN : 0);
}

static size_t packs_too_far(const eq_gemm *g, void *packed)
{
    if (packed != NULL)
        ((uint8_t *)packed)[EQ_PACK_ALIGN] ^= 0x55;
    return packs(g, packed);
}

static size_t packs_unaligned(const eq_gemm *g, void *packed)
{
    return packs(g, packed) + 4;
}

static size_t reads_packed_while_packing(const eq_gemm *g, void *packed)
{
    (void)*(const volatile uint8_t *)g->packed;
    return packs(g, packed);
}

static void changes_packed(const eq_gemm *g, size_t pixels, size_t first, size_t end,
                           const eq_windows *x, int8_t *y, size_t y_stride, void *scratch)
{
    good.gemm(g, pixels, first, end, x, y, y_stride, scratch);
    *(uint8_t *)(uintptr_t)g->packed ^= 1;
}

static size_t scratch_64(const eq_gemm *g, size_t pixels)
{
    (void)g, (void)pixels;
    return EQ_PACK_ALIGN;
}

static void leaves_scratch(const eq_gemm *g, size_t pixels, size_t first, size_t end,
                           const eq_windows *x, int8_t *y, size_t y_stride, void *scratch)
{
    ((uint8_t *)scratch)[EQ_PACK_ALIGN] ^= 0x55;
    good.gemm(g, pixels, first, end, x, y, y_stride, scratch);
}

static void expects_zeros(const eq_gemm *g, size_t pixels, size_t first, size_t end,
                          const eq_windows *x, int8_t *y, size_t y_stride, void *scratch)
{
    good.gemm(g, pixels, first, end, x, y, y_stride, scratch);
    y[first] ^= (int8_t)(*(uint8_t *)scratch != 0);
}

/* ---- depthwise and the others */

static void illegal_instruction(const eq_depthwise *d, size_t pixels, const int8_t *const *rows,
                                ptrdiff_t left, int8_t *y, void *scratch)
{
    (void)d, (void)pixels, (void)rows, (void)left, (void)y, (void)scratch;
#if defined(__x86_64__) || defined(__i386__)
    __asm__ volatile("ud2");
#elif defined(__aarch64__)
    __asm__ volatile(".inst 0");
#elif defined(__arm__) && !defined(__thumb__)
    __asm__ volatile(".inst 0xe7f000f0");
#else
    raise(SIGILL);
#endif
}

static void reads_missing_rows(const eq_depthwise *d, size_t pixels, const int8_t *const *rows,
                               ptrdiff_t left, int8_t *y, void *scratch)
{
    (void)*(const volatile int8_t *)rows[0];
    good.depthwise(d, pixels, rows, left, y, scratch);
}

static void pads_with_zero(const eq_depthwise *d, size_t pixels, const int8_t *const *rows,
                           ptrdiff_t left, int8_t *y, void *scratch)
{
    good.depthwise(d, pixels, rows, left, y, scratch);
    if (left < 0 && d->params.x_zero != 0)
        y[0] ^= 1;
}

static void divides_by_zero(size_t n, const int8_t *x, int8_t *y, const int8_t table[256])
{
    good.lut(n, x, y, table);
    if (n == 64)
        raise(SIGFPE);
}

static void reads_behind_table(size_t n, const int8_t *x, int8_t *y, const int8_t table[256])
{
    (void)*(const volatile int8_t *)((uintptr_t)table + 256);
    good.lut(n, x, y, table);
}

static void not_in_place(size_t n, const int8_t *x1, size_t step1, const int8_t *x2, size_t step2,
                         int8_t *y, const eq_add_params *params)
{
    for (size_t i = 1; i < n; i++)
        y[i] = 0;
    good.add(n, x1, step1, x2, step2, y, params);
}

static void always_walks(size_t n, const int8_t *x1, size_t step1, const int8_t *x2, size_t step2,
                         int8_t *y, const eq_add_params *params)
{
    (void)step2;
    good.add(n, x1, step1, x2, n > 1, y, params);
}

/* Ties of the second rounding go up instead of away from zero. */
static void ties_up(size_t n, const int8_t *x1, size_t step1, const int8_t *x2, size_t step2,
                    int8_t *y, const eq_mul_params *p)
{
    for (size_t i = 0; i < n; i++) {
        const int32_t v = (x1[i * step1] - p->x1_zero) * (x2[i * step2] - p->x2_zero);
        const int32_t high = eq_requant_r31(v, p->m, p->e > 0 ? p->e : 0);
        const int down = p->e > 0 ? 0 : -p->e;
        const int64_t half = down > 0 ? (int64_t)1 << (down - 1) : 0;
        const int32_t z = (int32_t)((high + half) >> down);
        y[i] = (int8_t)eq_clamp(eq_add_wrap(z, p->y_zero), p->act_min, p->act_max);
    }
}

static void overwrites_sums(size_t rows, size_t n, const int8_t *x, size_t stride, int32_t *acc)
{
    memset(acc, 0, n * sizeof *acc);
    good.sum_rows(rows, n, x, stride, acc);
}

static int never_near(size_t channels, const int8_t *const x[4], const int32_t w[4], int8_t *y)
{
    good.bilinear_u8(channels, x, w, y);
    return 0;
}

static void wraps_long_rows(size_t n, const int8_t *x, int8_t *y, const int32_t exp_table[256])
{
    good.softmax(n, x, y, exp_table);
    if (n > 8192)
        y[0] ^= 1;
}

/* ---- the list */

typedef struct fault {
    const char *name, *family;
    const char *report; /* what it must say */
    struct {
        size_t slot; /* 1 + index, 0: none */
        void (*kernel)(void);
    } put[2];
} fault;

#define PUT(slot, kernel) {KC_SLOT(slot), (void (*)(void))kernel}

static const fault faults[] = {
    {"one_wrong_byte", "gemm", "y[", {PUT(gemm, one_wrong_byte)}},
    {"inexact_factor", "gemm", "y[", {PUT(gemm, inexact_factor)}},
    {"inexact_factor", "gemm.requant", "y[", {PUT(gemm, inexact_factor)}},
    {"inexact_bias", "gemm", "y[", {PUT(gemm, inexact_bias)}},
    {"inexact_bias", "gemm.requant", "y[", {PUT(gemm, inexact_bias)}},
    {"saturated_pairs", "gemm", "y[", {PUT(gemm, saturated_pairs)}},
    {"reads_behind_x", "gemm", "byte 1 behind 'x'", {PUT(gemm, reads_behind_x)}},
    {"reads_before_x", "gemm", "byte 1 in front of '", {PUT(gemm, reads_before_x)}},
    {"writes_behind_y", "gemm", " behind 'y'", {PUT(gemm, writes_behind_y)}},
    {"writes_into_gaps", "gemm", "y[", {PUT(gemm, writes_into_gaps)}},
    {"changes_x", "gemm", "input 'x'", {PUT(gemm, changes_x)}},
    {"ignores_first", "gemm", "in front of 'y'", {PUT(gemm, ignores_first)}},
    {"reads_list_as_dense", "gemm", "", {PUT(gemm, reads_list_as_dense)}},
    {"packs_more_than_counted", "gemm", "then returned", {PUT(gemm_pack, packs_more_than_counted)}},
    {"packs_too_far", "gemm", "behind 'packed'", {PUT(gemm_pack, packs_too_far)}},
    {"packs_unaligned", "gemm", "no multiple", {PUT(gemm_pack, packs_unaligned)}},
    {"reads_packed_while_packing",
     "gemm",
     "'g->packed while packing'",
     {PUT(gemm_pack, reads_packed_while_packing)}},
    {"changes_packed", "gemm", "'packed'", {PUT(gemm_pack, packs), PUT(gemm, changes_packed)}},
    {"leaves_scratch",
     "gemm",
     "behind 'scratch'",
     {PUT(gemm_scratch, scratch_64), PUT(gemm, leaves_scratch)}},
    {"expects_zeros", "gemm", "y[", {PUT(gemm_scratch, scratch_64), PUT(gemm, expects_zeros)}},
    {"illegal_instruction", "depthwise", "SIGILL", {PUT(depthwise, illegal_instruction)}},
    {"reads_missing_rows", "depthwise", "SIGSEGV", {PUT(depthwise, reads_missing_rows)}},
    {"pads_with_zero", "depthwise", "y[", {PUT(depthwise, pads_with_zero)}},
    {"divides_by_zero", "lut", "SIGFPE", {PUT(lut, divides_by_zero)}},
    {"reads_behind_table", "lut", "behind 'table'", {PUT(lut, reads_behind_table)}},
    {"not_in_place", "add", "y[", {PUT(add, not_in_place)}},
    {"always_walks", "add", "", {PUT(add, always_walks)}},
    {"ties_up", "mul", "y[", {PUT(mul, ties_up)}},
    {"overwrites_sums", "sum_rows", "acc[", {PUT(sum_rows, overwrites_sums)}},
    {"never_near", "bilinear_u8", "returned", {PUT(bilinear_u8, never_near)}},
    {"wraps_long_rows", "softmax", "y[", {PUT(softmax, wraps_long_rows)}},
};

static eq_kernels with_fault(const fault *f)
{
    void (*slots[EQ_SLOTS])(void);
    eq_kernels k;
    memcpy(slots, &good, sizeof slots);
    for (size_t i = 0; i < 2; i++)
        if (f->put[i].slot != 0)
            slots[f->put[i].slot - 1] = f->put[i].kernel;
    memcpy(&k, slots, sizeof k);
    return k;
}

const kc_family *kc_fault(const char *name, const eq_kernels *scalar, eq_kernels *faulty)
{
    good = *scalar;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        if (strcmp(faults[i].name, name) == 0) {
            *faulty = with_fault(&faults[i]);
            return kc_find(faults[i].family);
        }
    return NULL;
}

bool kc_self_test(uint64_t seed)
{
    static kc_case c;
    const size_t count = sizeof faults / sizeof faults[0];
    size_t missed = 0;
    eq_kernel_table table;
    eq_kernels_select(&table, 0, 0);
    good = table.slots;
    for (const fault *f = faults; f < faults + count; f++) {
        const eq_kernels faulty = with_fault(f);
        const kc_family *family = kc_find(f->family);
        const bool found = !kc_run_cases(&c, family, &good, &faulty, seed, 0, family->fast);
        const bool named = found && strstr(c.failure, f->report) != NULL;
        missed += !named;
        printf("%-28s %-14s %s", f->name, f->family, found ? "" : "MISSED\n");
        if (found)
            printf("%s in case %zu: %s\n", named ? "found" : "WRONG REPORT", c.index, c.failure);
    }
    printf("%zu of %zu faults found\n", count - missed, count);
    return missed == 0;
}
