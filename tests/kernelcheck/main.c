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
#define CONV {KC_SLOT(gemm_pack), KC_SLOT(conv_scratch), KC_SLOT(conv)}
#define DEPTHWISE {KC_SLOT(depthwise_pack), KC_SLOT(depthwise_scratch), KC_SLOT(depthwise)}
#define GEMM16 {KC_SLOT(gemm16_pack), KC_SLOT(gemm16_scratch), KC_SLOT(gemm16)}
#define CONV16 {KC_SLOT(gemm16_pack), KC_SLOT(conv16_scratch), KC_SLOT(conv16)}
#define DEPTHWISE16 {KC_SLOT(depthwise16_pack), KC_SLOT(depthwise16_scratch), KC_SLOT(depthwise16)}

const kc_family kc_families[] = {
    {"gemm", kc_gemm, 3000, 200000, GEMM},
    {"gemm.requant", kc_gemm_requant, 4000, 400000, GEMM},
    {"conv", kc_conv, 2000, 100000, CONV},
    {"depthwise", kc_depthwise, 8000, 200000, DEPTHWISE},
    {"depthwise.requant", kc_depthwise_requant, 3000, 200000, DEPTHWISE},
    {"gemm16", kc_gemm16, 3000, 200000, GEMM16},
    {"conv16", kc_conv16, 2000, 100000, CONV16},
    {"depthwise16", kc_depthwise16, 4000, 200000, DEPTHWISE16},
    ONE(add16, 4000, 200000),
    ONE(mul16, 4000, 200000),
    ONE(rescale, 4000, 200000),
    ONE(interpolate, 2000, 50000),
    ONE(add, 6000, 200000),
    ONE(mul, 6000, 200000),
    ONE(maximum, 3000, 50000),
    ONE(minimum, 3000, 50000),
    ONE(prelu, 6000, 200000),
    ONE(lut, 3000, 50000),
    ONE(max_pool, 2000, 50000),
    ONE(average_pool, 2000, 100000),
    ONE(sum_rows, 2000, 50000),
    ONE(sum, 2000, 20000),
    ONE(requantize, 8000, 100000),
    ONE(bilinear, 4000, 100000),
    ONE(bilinear_u8, 4000, 100000),
    ONE(transpose, 9000, 100000),
    ONE(softmax, 3000, 50000),
    ONE(log_softmax, 3000, 50000),
};
const size_t kc_family_count = sizeof kc_families / sizeof kc_families[0];

static const char help[] =
    "kernelcheck: every kernel slot of every instruction set against scalar, byte for byte\n"
    "\n"
    "  --isa NAME     this instruction set only; NAME- is it on a machine with nothing beyond it\n"
    "  --slot NAME    this family of slots only, as the output calls it\n"
    "  --seed N       other random cases (1)\n"
    "  --cases N      so many of each family\n"
    "  --case K       the K-th case only\n"
    "  --full         many more cases: an hour\n"
    "  --list         the instruction sets, and what fills which slots\n"
    "  --self-test    whether faults put into kernels are found\n"
    "  --break NAME   checks a kernel with that fault of the self-test\n"
    "  --bench        times instead, on layers of known networks; % of the measured peak of the\n"
    "                 instruction set's multiply-add\n"
    "  --json         for programs, with --bench\n"
    "\n"
    "kernelcheck                                      all, in half a minute\n"
    "kernelcheck --isa avx2 --slot gemm --cases 50000\n"
    "kernelcheck --isa avx2 --slot gemm --case 1234   what a failure tells to repeat\n"
    "kernelcheck --bench --isa avx2 --slot depthwise\n"
    "\n"
    "Exit code 1: a slot differs, touches what is not its own, or crashes.\n";

typedef struct options {
    const char *isa, *slot, *fault;
    uint64_t seed;
    size_t cases, only;
    bool full, has_only, list, bench, json, self_test;
} options;

/* ---- families */

typedef void (*slot)(void);

static slot slot_of(const eq_kernels *k, size_t number)
{
    slot all[EQ_SLOTS];
    memcpy(all, k, sizeof all);
    return all[number - 1];
}

const kc_family *kc_find(const char *name)
{
    for (size_t i = 0; i < kc_family_count; i++)
        if (strcmp(kc_families[i].name, name) == 0)
            return &kc_families[i];
    return NULL;
}

bool kc_same(const kc_family *f, const eq_kernels *a, const eq_kernels *b)
{
    for (size_t i = 0; i < 3; i++)
        if (f->slots[i] != 0 && slot_of(a, f->slots[i]) != slot_of(b, f->slots[i]))
            return false;
    return true;
}

/* A slot without a family would never be compared. */
static bool all_slots_listed(void)
{
    bool listed[EQ_SLOTS] = {false}, good = true;
    for (size_t i = 0; i < kc_family_count; i++)
        for (size_t k = 0; k < 3; k++)
            if (kc_families[i].slots[k] != 0)
                listed[kc_families[i].slots[k] - 1] = true;
    for (size_t s = 0; s < EQ_SLOTS; s++)
        if (!listed[s]) {
            printf("slot %zu of eq_kernels has no family in kernelcheck: FAIL\n", s);
            good = false;
        }
    return good;
}

static uint64_t start_of(uint64_t seed, const char *name, size_t index)
{
    uint64_t h = seed * UINT64_C(0x9E3779B97F4A7C15) + UINT64_C(0xCBF29CE484222325);
    for (; *name != '\0'; name++)
        h = (h ^ (uint8_t)*name) * UINT64_C(0x100000001B3);
    return h + index * UINT64_C(0xD1342543DE82EF95);
}

bool kc_run_cases(kc_case *c, const kc_family *f, const eq_kernels *scalar,
                  const eq_kernels *tested, uint64_t seed, size_t first, size_t end)
{
    c->scalar = scalar;
    c->tested = tested;
    c->bench = NULL;
    for (size_t k = first; k < end; k++) {
        c->index = k;
        c->rng = (kc_rng){start_of(seed, f->name, k), false};
        c->buffer_count = 0;
        c->shape[0] = c->failure[0] = '\0';
        if (!f->run(c))
            return false;
    }
    return true;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool check_family(const kc_family *f, const char *isa, const eq_kernels *scalar,
                         const eq_kernels *tested, const options *o)
{
    static kc_case c;
    const double begin = seconds();
    const size_t cases = o->cases ? o->cases : o->full ? f->full : f->fast;
    const size_t first = o->has_only ? o->only : 0, end = o->has_only ? first + 1 : cases;
    c.full = o->full;
    const bool good = kc_run_cases(&c, f, scalar, tested, o->seed, first, end);
    printf("%-11s %-18s %7zu cases  %s %6.2f s\n", isa, f->name,
           good ? end - first : c.index + 1 - first, good ? "PASS" : "FAIL", seconds() - begin);
    if (!good)
        printf("    %s\n    case: %s\n    again: kernelcheck --seed %llu --isa %s --slot %s --case "
               "%zu%s\n",
               c.failure, c.shape, (unsigned long long)o->seed, isa, f->name, c.index,
               o->full ? " --full" : "");
    fflush(stdout);
    return good;
}

/* ---- tables: of each instruction set, with all features of the machine and with what it needs */

typedef struct table {
    char name[32];
    bool supported;
    eq_kernel_table t;
} table;

static size_t make_tables(table tables[2 * EQ_ISA_COUNT])
{
    const uint32_t features = eq_cpu_features();
    size_t count = 0;
    for (uint32_t isa = 0; isa < EQ_ISA_COUNT; isa++) {
        table *a = &tables[count++];
        eq_kernels_select(&a->t, isa, features);
        snprintf(a->name, sizeof a->name, "%s", eq_isa_name(isa));
        a->supported = a->t.isa == isa;
        if (isa == 0 || !a->supported || eq_isa_needs(isa) == features)
            continue;
        table *b = &tables[count++];
        eq_kernels_select(&b->t, isa, eq_isa_needs(isa));
        snprintf(b->name, sizeof b->name, "%s-", eq_isa_name(isa));
        b->supported = true;
    }
    return count;
}

static bool wanted(const char *name, const char *given)
{
    return given == NULL || strcmp(name, given) == 0;
}

/* A family whose slots were proven in a table before is passed over. */
static bool check_tables(const table *tables, size_t count, const options *o)
{
    bool good = all_slots_listed();
    size_t checked = 0;
    for (size_t t = 0; t < count; t++) {
        if (!wanted(tables[t].name, o->isa))
            continue;
        if (!tables[t].supported) {
            printf("%-11s not on this machine\n", tables[t].name);
            checked += o->isa == NULL;
            continue;
        }
        checked++;
        for (size_t i = 0; i < kc_family_count; i++) {
            const kc_family *f = &kc_families[i];
            const eq_kernels *scalar = &tables[0].t.slots, *tested = &tables[t].t.slots;
            bool proven = t != 0 && kc_same(f, scalar, tested);
            for (size_t lower = 0; lower < t && !proven; lower++)
                proven = wanted(tables[lower].name, o->isa) && tables[lower].supported
                         && kc_same(f, &tables[lower].t.slots, tested);
            if (!proven && wanted(f->name, o->slot))
                good &= check_family(f, tables[t].name, scalar, tested, o);
        }
    }
    if (checked == 0)
        printf("nothing was checked: no instruction set %s here\n", o->isa);
    return good && checked > 0;
}

static bool check_fault(const eq_kernels *scalar, const options *o)
{
    eq_kernels faulty;
    const kc_family *f = kc_fault(o->fault, scalar, &faulty);
    if (f == NULL)
        printf("no fault %s\n", o->fault);
    return f == NULL || check_family(f, "broken", scalar, &faulty, o);
}

static bool bench_tables(const table *tables, size_t count, const options *o)
{
    bool good = true;
    kc_bench_begin(o->json);
    for (size_t t = 0; t < count; t++)
        if (wanted(tables[t].name, o->isa) && tables[t].supported
            && (o->isa != NULL || strchr(tables[t].name, '-') == NULL))
            good &= kc_bench_table(tables[t].name, tables[t].t.isa, o->slot, &tables[0].t.slots,
                                   &tables[t].t.slots, o->json);
    kc_bench_end(o->json);
    return good;
}

static size_t last_slot(const kc_family *f)
{
    return f->slots[2] ? f->slots[2] : f->slots[0];
}

static void list_tables(const table *tables, size_t count)
{
    for (size_t t = 0; t < count; t++) {
        printf("%-11s%s", tables[t].name, tables[t].supported ? "" : " not on this machine");
        for (size_t i = 0; i < kc_family_count && tables[t].supported; i++) {
            const uint8_t isa = tables[t].t.isa_of[last_slot(&kc_families[i]) - 1];
            if (strchr(kc_families[i].name, '.') == NULL && (isa != 0 || t == 0))
                printf(" %s:%s", kc_families[i].name, eq_isa_name(isa));
        }
        printf("\n");
    }
}

/* ---- options */

static bool parse(int argc, char **argv, options *o)
{
    const struct {
        const char *name;
        bool *flag;
    } flags[] = {{"--full", &o->full},
                 {"--list", &o->list},
                 {"--bench", &o->bench},
                 {"--json", &o->json},
                 {"--self-test", &o->self_test}};
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        bool found = false;
        for (size_t k = 0; k < sizeof flags / sizeof flags[0]; k++)
            if (strcmp(name, flags[k].name) == 0)
                found = *flags[k].flag = true;
        if (found)
            continue;
        if (i + 1 == argc)
            return false;
        const char *value = argv[++i];
        if (strcmp(name, "--isa") == 0)
            o->isa = value;
        else if (strcmp(name, "--slot") == 0)
            o->slot = value;
        else if (strcmp(name, "--break") == 0)
            o->fault = value;
        else if (strcmp(name, "--seed") == 0)
            o->seed = strtoull(value, NULL, 0);
        else if (strcmp(name, "--cases") == 0)
            o->cases = (size_t)strtoull(value, NULL, 0);
        else if (strcmp(name, "--case") == 0)
            o->has_only = true, o->only = (size_t)strtoull(value, NULL, 0);
        else
            return false;
    }
    return o->slot == NULL || kc_find(o->slot) != NULL;
}

int main(int argc, char **argv)
{
    static table tables[2 * EQ_ISA_COUNT];
    options o = {.seed = 1};
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        fputs(help, stdout);
        return 0;
    }
    if (!parse(argc, argv, &o)) {
        fputs(help, stderr);
        return 2;
    }
    const size_t count = make_tables(tables);
    kc_catch_signals();
    if (o.list) {
        list_tables(tables, count);
        return 0;
    }
    if (o.self_test)
        return kc_self_test(o.seed) ? 0 : 1;
    if (o.fault != NULL)
        return check_fault(&tables[0].t.slots, &o) ? 0 : 1;
    return (o.bench ? bench_tables(tables, count, &o) : check_tables(tables, count, &o)) ? 0 : 1;
}
