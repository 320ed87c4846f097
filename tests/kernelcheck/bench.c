/* SPDX-License-Identifier: Apache-2.0
 *
 * Timing of the calls that the cases make, warm, on layers of known networks. */
#include "kernelcheck.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- the clock: the time stamp counter, whose rate is constant but need not be the core's */

#if defined(__x86_64__) || defined(__i386__)
#define UNIT "cycle"
static uint64_t ticks(void)
{
    return __builtin_ia32_rdtsc();
}
#else
#define UNIT "ns"
static uint64_t ticks(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
#endif

/* ---- samples */

enum { SAMPLES = 41, BATCH_TICKS = 40000, ENOUGH_TICKS = 60000000 };

typedef struct timing {
    enum { WARM_UP, CALIBRATE, SAMPLE } state;
    uint64_t begin, total;
    size_t batch, left, count;
    double samples[SAMPLES]; /* ticks a call */
} timing;

static bool timing_on;
static timing of_scalar, of_kernel;

bool kc_again(const char *who)
{
    timing *t = who[0] == 's' ? &of_scalar : &of_kernel;
    if (!timing_on || (t->left > 0 && --t->left > 0))
        return timing_on;
    const uint64_t spent = ticks() - t->begin;
    if (t->state == CALIBRATE)
        t->batch = (size_t)(BATCH_TICKS / (spent + 1)) + 1;
    if (t->state == SAMPLE) {
        t->samples[t->count++] = (double)spent / (double)t->batch;
        t->total += spent;
        if (t->count == SAMPLES || (t->count >= 5 && t->total > ENOUGH_TICKS))
            return false;
    }
    t->state = t->state == WARM_UP ? CALIBRATE : SAMPLE;
    t->left = t->state == SAMPLE ? t->batch : 1;
    t->begin = ticks();
    return true;
}

static int compare_samples(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void sort(timing *t)
{
    qsort(t->samples, t->count, sizeof t->samples[0], compare_samples);
}

/* Multiply-adds a tick in registers alone; 0: unknown. */
static double measure_peak(uint32_t isa)
{
    double best = 0;
    for (int i = 0; i < 200; i++) {
        const uint64_t begin = ticks(), macs = eq_kernels_peak(isa, 2000);
        const double rate = (double)macs / (double)(ticks() - begin);
        best = rate > best ? rate : best;
    }
    return best;
}

/* ---- the list */

/* gemm: channels, runs, length, pixels; conv: channels, kernel_h, kernel_w, depth, stride, width,
 * height; depthwise: channels, multiplier, kernel_h,
 * kernel_w, stride, dilation, width; the others as their families read them. */
static const kc_bench benches[] = {
    {"gemm", {32, 3, 9, 24}, false},
    {"gemm", {16, 1, 32, 24}, false},
    {"gemm", {96, 1, 16, 24}, false},
    {"gemm", {144, 1, 24, 24}, false},
    {"gemm", {64, 1, 64, 24}, false},
    {"gemm", {64, 1, 64, 24}, true},
    {"gemm", {64, 1, 384, 24}, false},
    {"gemm", {384, 1, 64, 24}, false},
    {"gemm", {320, 1, 960, 24}, false},
    {"gemm", {320, 1, 960, 24}, true},
    {"gemm", {16, 3, 48, 24}, false},
    {"gemm", {64, 3, 192, 24}, false},
    {"gemm", {64, 10, 4, 24}, false},
    {"gemm", {1001, 1, 1280, 1}, false},
    {"gemm", {128, 1, 640, 1}, false},
    {"gemm", {10, 1, 64, 1}, false},
    {"conv", {32, 3, 3, 3, 2, 224, 2}, false},
    {"conv", {16, 3, 3, 16, 1, 32, 4}, false},
    {"conv", {64, 3, 3, 32, 2, 16, 4}, false},
    {"conv", {64, 3, 3, 64, 1, 8, 8}, false},
    {"conv", {64, 10, 4, 1, 2, 10, 4}, false},
    {"depthwise", {32, 1, 3, 3, 1, 1, 112}, false},
    {"depthwise", {96, 1, 3, 3, 2, 1, 112}, false},
    {"depthwise", {144, 1, 3, 3, 1, 1, 56}, false},
    {"depthwise", {144, 1, 3, 3, 1, 1, 56}, true},
    {"depthwise", {384, 1, 3, 3, 1, 1, 14}, false},
    {"depthwise", {960, 1, 3, 3, 1, 1, 7}, false},
    {"depthwise", {64, 1, 3, 3, 1, 1, 5}, false},
    {"depthwise", {240, 1, 5, 5, 2, 1, 28}, false},
    {"depthwise", {8, 8, 10, 8, 2, 1, 40}, false},
    {"gemm16", {16, 1, 32, 24}, false},
    {"gemm16", {64, 1, 64, 24}, false},
    {"gemm16", {64, 1, 384, 24}, false},
    {"gemm16", {320, 1, 960, 24}, false},
    {"gemm16", {64, 3, 192, 24}, false},
    {"gemm16", {1001, 1, 1280, 1}, false},
    {"conv16", {32, 3, 3, 3, 2, 224, 2}, false},
    {"conv16", {16, 3, 3, 16, 1, 32, 4}, false},
    {"conv16", {64, 3, 3, 32, 2, 16, 4}, false},
    {"conv16", {64, 3, 3, 64, 1, 8, 8}, false},
    {"depthwise16", {32, 1, 3, 3, 1, 1, 112}, false},
    {"depthwise16", {144, 1, 3, 3, 1, 1, 56}, false},
    {"depthwise16", {384, 1, 3, 3, 1, 1, 14}, false},
    {"add16", {75264}, false},
    {"mul16", {18816}, false},
    {"rescale", {18816}, false},
    {"interpolate", {18816}, false},
    {"add", {75264}, false},
    {"add", {64}, false},
    {"mul", {18816}, false},
    {"maximum", {18816}, false},
    {"minimum", {18816}, false},
    {"prelu", {18816}, false},
    {"lut", {18816}, false},
    {"lut", {256}, false},
    {"max_pool", {64, 3, 3, 28}, false},
    {"max_pool", {16, 2, 2, 56}, false},
    {"average_pool", {1280, 7, 7, 1}, false},
    {"average_pool", {64, 8, 8, 1}, false},
    {"sum_rows", {49, 1280}, false},
    {"sum", {4096}, false},
    {"requantize", {1280}, false},
    {"bilinear", {256}, false},
    {"bilinear", {21}, false},
    {"bilinear_u8", {256}, false},
    {"transpose", {196, 64}, false},
    {"softmax", {1001}, false},
    {"softmax", {12}, false},
    {"log_softmax", {1001}, false},
};

/* Multiply-adds of a call, or elements read of the first operand. */
static double work(const kc_bench *b)
{
    const size_t *s = b->size;
    if (strncmp(b->family, "gemm", 4) == 0)
        return (double)(s[0] * s[1] * s[2] * s[3]);
    if (strncmp(b->family, "conv", 4) == 0)
        return (double)(s[0] * s[1] * s[2] * s[3] * s[6] * ((s[5] - 1) / s[4] + 1));
    if (strncmp(b->family, "depthwise", 9) == 0)
        return (double)(s[0] * s[2] * s[3] * ((s[6] - 1) / s[4] + 1));
    double product = 1;
    for (size_t i = 0; i < 7 && s[i] != 0; i++)
        product *= (double)s[i];
    return product;
}

static bool has_macs(const kc_bench *b)
{
    return strncmp(b->family, "gemm", 4) == 0 || strncmp(b->family, "conv", 4) == 0
           || strncmp(b->family, "depthwise", 9) == 0;
}

/* As in the list: 64x1x64x1x24 R15 */
static void name_shape(const kc_bench *b, char *text, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < 7 && b->size[i] != 0; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%zu", i ? "x" : "", b->size[i]);
    if (has_macs(b))
        snprintf(text + used, size - used, " %s",
                 strstr(b->family, "16") ? "R22"
                 : b->r15                ? "R15"
                                         : "R31");
}

static bool measure(const kc_bench *b, const kc_family *f, const eq_kernels *scalar,
                    const eq_kernels *tested)
{
    static kc_case c;
    for (int pass = 0; pass < 2; pass++) { /* proves, then times */
        memset(&c, 0, sizeof c);
        c.scalar = scalar;
        c.tested = tested;
        c.bench = b;
        c.rng = (kc_rng){1, true};
        timing_on = pass == 1;
        memset(&of_scalar, 0, sizeof of_scalar);
        memset(&of_kernel, 0, sizeof of_kernel);
        const bool good = f->run(&c);
        timing_on = false;
        if (!good && (pass == 0 || of_kernel.count == 0)) {
            printf("%s: %s\n", c.shape, c.failure);
            return false;
        }
    }
    sort(&of_scalar);
    sort(&of_kernel);
    return true;
}

static size_t printed;

void kc_bench_begin(bool json)
{
    printed = 0;
    if (json)
        printf("[");
    else
        printf("%-12s %-11s %-24s %11s %11s %8s %9s %6s\n", "slot", "isa", "shape", UNIT "s",
               "median", "x scalar", "per " UNIT, "peak");
}

void kc_bench_end(bool json)
{
    if (json)
        printf("\n]\n");
    else
        printf("per " UNIT ": multiply-adds of gemm, conv and depthwise, elements of the others\n");
}

bool kc_bench_table(const char *name, uint32_t isa, const char *family, const eq_kernels *scalar,
                    const eq_kernels *tested, bool json)
{
    const double peak = measure_peak(isa);
    for (size_t i = 0; i < sizeof benches / sizeof benches[0]; i++) {
        const kc_bench *b = &benches[i];
        const kc_family *f = kc_find(b->family);
        char shape[64];
        if ((family != NULL && strcmp(family, b->family) != 0)
            || (scalar != tested && kc_same(f, scalar, tested)))
            continue;
        if (!measure(b, f, scalar, tested))
            return false;
        const double least = of_kernel.samples[0], median = of_kernel.samples[of_kernel.count / 2];
        const double speedup = of_scalar.samples[of_scalar.count / 2] / median;
        const double rate = work(b) / least, share = has_macs(b) && peak > 0 ? rate / peak : 0;
        name_shape(b, shape, sizeof shape);
        if (json) {
            printf("%s\n{\"slot\": \"%s\", \"isa\": \"%s\", \"shape\": \"%s\", \"unit\": \"" UNIT
                   "\", \"min\": %.1f, \"median\": %.1f, \"x_scalar\": %.3f, \"per_unit\": %.3f, "
                   "\"peak\": %.3f}",
                   printed ? "," : "", b->family, name, shape, least, median, speedup, rate, share);
        } else {
            printf("%-12s %-11s %-24s %11.0f %11.0f %8.2f %9.2f ", b->family, name, shape, least,
                   median, speedup, rate);
            if (share > 0)
                printf("%5.1f%%", share * 100);
            printf("\n");
        }
        printed++;
        fflush(stdout);
    }
    return true;
}
