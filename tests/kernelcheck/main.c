/* SPDX-License-Identifier: Apache-2.0
 *
 * Options, the list of families, the runs and what they print. */
#include "kernelcheck.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/cpu.h"

#define ONE(slot, fast, full) \
    { \
        #slot, kc_##slot, fast, full, \
        { \
            KC_SLOT(slot) \
        } \
    }
#define GEMM {KC_SLOT(gemm_pack), KC_SLOT(gemm_scratch), KC_SLOT(gemm)}
#define DEPTHWISE {KC_SLOT(depthwise_pack), KC_SLOT(depthwise_scratch), KC_SLOT(depthwise)}

const kc_family kc_families[] = {
    {"gemm", kc_gemm, 4000, 200000, GEMM},
    {"gemm.requant", kc_gemm_requant, 6000, 400000, GEMM},
    {"depthwise", kc_depthwise, 8000, 200000, DEPTHWISE},
    {"depthwise.requant", kc_depthwise_requant, 4000, 200000, DEPTHWISE},
    ONE(add, 6000, 200000),
    ONE(mul, 6000, 200000),
    ONE(maximum, 3000, 50000),
    ONE(minimum, 3000, 50000),
    ONE(prelu, 6000, 200000),
    ONE(lut, 3000, 50000),
    ONE(max_pool, 3000, 50000),
    ONE(average_pool, 3000, 100000),
    ONE(sum_rows, 3000, 50000),
    ONE(sum, 2000, 20000),
    ONE(bilinear, 4000, 100000),
    ONE(bilinear_u8, 4000, 100000),
    ONE(transpose, 9000, 100000),
    ONE(softmax, 3000, 50000),
    ONE(log_softmax, 3000, 50000),
};
const size_t kc_family_count = sizeof kc_families / sizeof kc_families[0];

static const char help[] =
    "kernelcheck: every kernel slot against scalar, byte for byte\n"
    "\n"
    "  --isa NAME     this instruction set only\n"
    "  --slot NAME    this family of slots only, as the output calls it\n"
    "  --seed N       other random cases (1)\n"
    "  --cases N      so many of each family\n"
    "  --case K       the K-th case only\n"
    "  --full         many more cases\n"
    "\n"
    "kernelcheck                                      all, in some seconds\n"
    "kernelcheck --isa avx2 --slot gemm --cases 50000\n"
    "kernelcheck --isa avx2 --slot gemm --case 1234   what a failure tells to repeat\n";

typedef struct options {
    const char *isa, *slot;
    uint64_t seed;
    size_t cases, only;
    bool full, has_only;
} options;

typedef void (*slot)(void);

static slot slot_of(const eq_kernels *k, size_t number)
{
    slot all[EQ_SLOTS];
    memcpy(all, k, sizeof all);
    return all[number - 1];
}

static bool same(const kc_family *f, const eq_kernels *a, const eq_kernels *b)
{
    for (size_t i = 0; i < 3; i++)
        if (f->slots[i] != 0 && slot_of(a, f->slots[i]) != slot_of(b, f->slots[i]))
            return false;
    return true;
}

static uint64_t start_of(uint64_t seed, const char *name, size_t index)
{
    uint64_t h = seed * UINT64_C(0x9E3779B97F4A7C15) + UINT64_C(0xCBF29CE484222325);
    for (; *name != '\0'; name++)
        h = (h ^ (uint8_t)*name) * UINT64_C(0x100000001B3);
    return h + index * UINT64_C(0xD1342543DE82EF95);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Runs cases until the first failure. */
static bool run_family(const kc_family *f, const char *isa, const eq_kernels *scalar,
                       const eq_kernels *tested, const options *o)
{
    static kc_case c;
    const double begin = seconds();
    const size_t cases = o->cases ? o->cases : o->full ? f->full : f->fast;
    const size_t first = o->has_only ? o->only : 0, end = o->has_only ? first + 1 : cases;
    bool good = true;
    size_t k = first;
    for (; k < end && good; k++) {
        c.scalar = scalar;
        c.tested = tested;
        c.isa = isa;
        c.index = k;
        c.full = o->full;
        c.bench = NULL;
        c.rng.usual = false;
        c.rng.state = start_of(o->seed, f->name, k);
        c.buffer_count = 0;
        c.shape[0] = c.failure[0] = '\0';
        good = f->run(&c);
    }
    printf("%-11s %-18s %7zu cases  %s %6.2f s\n", isa, f->name, k - first, good ? "PASS" : "FAIL",
           seconds() - begin);
    if (!good)
        printf("    %s\n    case: %s\n    again: kernelcheck --seed %llu --isa %s --slot %s --case "
               "%zu\n",
               c.failure, c.shape, (unsigned long long)o->seed, isa, f->name, k - 1);
    fflush(stdout);
    return good;
}

static bool wanted(const char *name, const char *given)
{
    return given == NULL || strcmp(name, given) == 0;
}

/* Each instruction set's table; a family whose slots were proven as a lower one's is passed over.
 */
static bool run_all(const options *o)
{
    const uint32_t features = eq_cpu_features();
    eq_kernel_table tables[EQ_ISA_COUNT];
    bool done[EQ_ISA_COUNT] = {false}, good = true;
    for (uint32_t isa = 0; isa < EQ_ISA_COUNT; isa++) {
        eq_kernels_select(&tables[isa], isa, features);
        if (!wanted(eq_isa_name(isa), o->isa))
            continue;
        if (tables[isa].isa != isa) {
            printf("%-11s not on this machine\n", eq_isa_name(isa));
            continue;
        }
        done[isa] = true;
        for (size_t i = 0; i < kc_family_count; i++) {
            const kc_family *f = &kc_families[i];
            bool proven = isa != 0 && same(f, &tables[0].slots, &tables[isa].slots);
            for (uint32_t lower = 0; lower < isa && !proven; lower++)
                proven = done[lower] && same(f, &tables[lower].slots, &tables[isa].slots);
            if (!proven && wanted(f->name, o->slot))
                good &= run_family(f, eq_isa_name(isa), &tables[0].slots, &tables[isa].slots, o);
        }
    }
    return good;
}

int main(int argc, char **argv)
{
    options o = {.seed = 1};
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(name, "--help") == 0) {
            fputs(help, stdout);
            return 0;
        }
        if (strcmp(name, "--full") == 0) {
            o.full = true;
            continue;
        }
        if (value == NULL) {
            fprintf(stderr, "kernelcheck: %s: see --help\n", name);
            return 2;
        }
        i++;
        if (strcmp(name, "--isa") == 0)
            o.isa = value;
        else if (strcmp(name, "--slot") == 0)
            o.slot = value;
        else if (strcmp(name, "--seed") == 0)
            o.seed = strtoull(value, NULL, 0);
        else if (strcmp(name, "--cases") == 0)
            o.cases = strtoull(value, NULL, 0);
        else if (strcmp(name, "--case") == 0)
            o.has_only = true, o.only = strtoull(value, NULL, 0);
        else {
            fprintf(stderr, "kernelcheck: unknown option %s: see --help\n", name);
            return 2;
        }
    }
    kc_catch_signals();
    return run_all(&o) ? 0 : 1;
}
