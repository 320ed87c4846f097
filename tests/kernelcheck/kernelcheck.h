/* SPDX-License-Identifier: Apache-2.0
 *
 * kernelcheck: compares every kernel slot of every instruction set with scalar, byte for byte.
 * A family is one slot, or those that belong together (packing, scratch, run). A case is one random
 * call of a family; it follows from the seed, the family's name and its number alone. */
#ifndef KERNELCHECK_H
#define KERNELCHECK_H

#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#endif
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

/* ---- random numbers: splitmix64 (Steele, Lea, Flood 2014) */

typedef struct kc_rng {
    uint64_t state;
    bool usual; /* parameters of ordinary layers only: for timing */
} kc_rng;

uint64_t kc_next(kc_rng *rng);
size_t kc_below(kc_rng *rng, size_t n);                     /* [0, n), n > 0 */
int32_t kc_between(kc_rng *rng, int32_t low, int32_t high); /* [low, high] */
bool kc_chance(kc_rng *rng, size_t percent);                /* true that often */
size_t kc_log_below(kc_rng *rng, size_t n);                 /* [0, n), small ones often */
int32_t kc_one_of(kc_rng *rng, size_t count, const int32_t *values);
#define KC_ONE_OF(rng, ...) \
    kc_one_of(rng, sizeof((int32_t[]){__VA_ARGS__}) / sizeof(int32_t), (int32_t[]){__VA_ARGS__})

/* ---- a case */

enum { KC_BUFFERS = 40 };

typedef struct kc_buffer {
    const char *name;
    uint8_t *data;
    size_t size;
    bool input; /* must be the same afterwards */
    bool sealed;
} kc_buffer;

/* A call to be timed. */
typedef struct kc_bench {
    const char *family;
    size_t size[7]; /* as the family reads them */
    bool r15;
} kc_bench;

typedef struct kc_case {
    const eq_kernels *scalar, *tested;
    kc_rng rng;
    size_t index;
    bool full;
    const kc_bench *bench; /* NULL: a random case */
    kc_buffer buffers[KC_BUFFERS];
    size_t buffer_count;
    char shape[512];   /* what the case is, for people */
    char failure[512]; /* what went wrong; the first one stays */
} kc_case;

/* Notes a failure, unless there is one; false, to be returned. */
bool kc_fail(kc_case *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
void kc_describe(kc_case *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- guarded memory (memory.c)
 *
 * Each buffer lies between two guard pages: it ends exactly at one, begins right behind one, or
 * lies at any alignment between them; what is left of its pages around it holds canaries. */

/* To be filled by the caller, then sealed; size 0 gives a pointer to a guard page. */
void *kc_input(kc_case *c, const char *name, size_t size, size_t align);
/* Filled with noise. */
void *kc_output(kc_case *c, const char *name, size_t size, size_t align);
/* An output that has been written and must stay as it is. */
void kc_freeze(kc_case *c, const void *data);
/* From here on inputs must not change: copies them, writes the canaries around all buffers. */
void kc_seal(kc_case *c);
/* Whether inputs and canaries are what they were. `who`: for the message. */
bool kc_intact(kc_case *c, const char *who);
/* n bytes that are no case's; valid until the next call for the same `which` in [0, 4). */
void *kc_plain(size_t which, size_t n);

/* y against what scalar wrote, n elements of `size` bytes in rows of `row`. */
bool kc_equal(kc_case *c, const char *what, size_t n, size_t size, size_t row, const void *expected,
              const void *got);

/* ---- calls that may crash (memory.c) */

extern sigjmp_buf kc_jump;
void kc_catch_signals(void);
void kc_arm(const char *who);
void kc_disarm(void);
bool kc_crashed(kc_case *c);    /* notes what and where; false */
bool kc_again(const char *who); /* times a call; false: enough, or nothing is being timed */
/* Evaluates `call`; false if it raised a signal. `who` is "scalar" or "kernel". */
#define KC_CALL(c, who, call) \
    (sigsetjmp(kc_jump, 0) == 0 ? (kc_arm(who), (void)(call), kc_disarm(), true) : kc_crashed(c))
/* The same, over and over while it is being timed. */
#define KC_TIMED(c, who, call) \
    __extension__({ \
        bool kc_good; \
        if (sigsetjmp(kc_jump, 0) == 0) { \
            kc_arm(who); \
            do { \
                (void)(call); \
            } while (kc_again(who)); \
            kc_disarm(); \
            kc_good = true; \
        } else { \
            kc_good = kc_crashed(c); \
        } \
        kc_good; \
    })

/* ---- values (values.c) */

enum kc_fill {
    KC_UNIFORM,
    KC_LOWEST,
    KC_HIGHEST,
    KC_ALTERNATING, /* -128, 127 */
    KC_PAIRS,       /* neighbours equal and extreme: sums of two products beyond int16 */
    KC_SPARSE,      /* mostly the zero point */
    KC_RAMP,
    KC_EXTREME, /* as far from the zero point as possible: accumulators up to their bound */
    KC_FILLS
};
enum kc_fill kc_any_fill(kc_rng *rng);
const char *kc_fill_name(enum kc_fill fill);
void kc_fill_s8(kc_rng *rng, enum kc_fill fill, int32_t zero, size_t n, int8_t *x);
int32_t kc_zero(kc_rng *rng);                        /* often -128, 0 or 127 */
int32_t kc_multiplier(kc_rng *rng);                  /* of R31: 0 or [2^30, 2^31) */
int32_t kc_exponent(kc_rng *rng, int64_t magnitude); /* of R31, mostly to give int8 from it */
void kc_activation(kc_rng *rng, int32_t *low, int32_t *high);

enum kc_manner {
    KC_PLAIN,   /* no left shifts, any multiplier */
    KC_SPECIAL, /* multipliers 0, 2^30, 2^31 - 1 and those with few bits among them */
    KC_ODD      /* any exponents too */
};
enum kc_manner kc_any_manner(kc_rng *rng);
void kc_factor(kc_rng *rng, const eq_channel_params *p, enum kc_manner manner, int64_t reach,
               int32_t *m, int8_t *e);

/* Weight k of channel n is w[n * channel_stride + k * weight_stride]. */
typedef struct kc_filters {
    int8_t *w;
    size_t channels, weights, channel_stride, weight_stride;
} kc_filters;

/* All of a layer's weights and channel parameters but the bound, as inputs of the case. *extreme:
 * x and w are to reach the bound. */
void kc_layer(kc_case *c, kc_filters *f, eq_channel_params *p, bool *extreme);
/* |accumulator| of channel n without bias for every input, and what R15 adds. */
int64_t kc_reach(const eq_channel_params *p, const kc_filters *f, size_t n);
/* The largest over channels with bias; at most 2^31 - 1. */
int64_t kc_bound(const eq_channel_params *p, const kc_filters *f);
/* The least accumulator whose output before the clamp is at least q. */
int32_t kc_threshold(const eq_channel_params *p, size_t n, int32_t q);
/* A bias for which channel n's accumulator, `sum` without it, lies on a rounding threshold or next
 * to it; stays as it is if there is none. */
void kc_tie(kc_case *c, const kc_filters *f, const eq_channel_params *p, size_t n, int32_t sum);
/* Bytes of a layout are multiples of EQ_PACK_ALIGN. */
bool kc_check_size(kc_case *c, const char *what, size_t size);

/* ---- layers (gemm.c, depthwise.c) */

typedef struct kc_gemm_case {
    kc_filters filters;
    eq_gemm g;
    eq_windows windows;
    size_t pixels, first, end, y_stride;
} kc_gemm_case;

typedef struct kc_depthwise_case {
    kc_filters filters;
    eq_depthwise d;
    const int8_t *const *rows;
    size_t pixels;
    ptrdiff_t left;
} kc_depthwise_case;

/* A range of channels as work is split, and a distance between pixels of y. */
void kc_choose_channels(kc_case *c, size_t channels, size_t *first, size_t *end, size_t *y_stride);
/* Counts and packs; sets g->packed, and g->params.bound to what a run is given. */
bool kc_pack_gemm(kc_case *c, const eq_kernels *k, const char *who, eq_gemm *g);
/* Packs, sizes and runs; y is that of pixel 0, channel 0. */
bool kc_run_gemm(kc_case *c, const eq_kernels *k, const char *who, const kc_gemm_case *t,
                 int8_t *y);
bool kc_run_depthwise(kc_case *c, const eq_kernels *k, const char *who, const kc_depthwise_case *t,
                      int8_t *y);

/* ---- families */

typedef struct kc_family {
    const char *name;
    bool (*run)(kc_case *c); /* false: c->failure says why */
    size_t fast, full;       /* cases */
    size_t slots[3];         /* 1 + index in eq_kernels, 0: none */
} kc_family;
#define KC_SLOT(name) (offsetof(eq_kernels, name) / sizeof(void (*)(void)) + 1)

extern const kc_family kc_families[];
extern const size_t kc_family_count;
const kc_family *kc_find(const char *name); /* NULL if there is none */
/* Whether a and b have the same slots of the family. */
bool kc_same(const kc_family *f, const eq_kernels *a, const eq_kernels *b);
/* Cases [first, end) until one fails; c then says which and why. */
bool kc_run_cases(kc_case *c, const kc_family *f, const eq_kernels *scalar,
                  const eq_kernels *tested, uint64_t seed, size_t first, size_t end);

/* Whether the harness finds faults put into scalar kernels (selftest.c). */
bool kc_self_test(uint64_t seed);
/* Scalar's slots with the fault of that name, and the family that finds it; NULL if there is none.
 */
const kc_family *kc_fault(const char *name, const eq_kernels *scalar, eq_kernels *faulty);
/* Times `family` (NULL: all) of one table on layers of known networks (bench.c). */
bool kc_bench_table(const char *name, uint32_t isa, const char *family, const eq_kernels *scalar,
                    const eq_kernels *tested, bool json);
void kc_bench_begin(bool json);
void kc_bench_end(bool json);

bool kc_gemm(kc_case *c);
bool kc_gemm_requant(kc_case *c);
bool kc_conv(kc_case *c);
bool kc_depthwise(kc_case *c);
bool kc_depthwise_requant(kc_case *c);
bool kc_gemm16(kc_case *c);
bool kc_conv16(kc_case *c);
bool kc_depthwise16(kc_case *c);
bool kc_add16(kc_case *c);
bool kc_mul16(kc_case *c);
bool kc_rescale(kc_case *c);
bool kc_interpolate(kc_case *c);
bool kc_add(kc_case *c);
bool kc_mul(kc_case *c);
bool kc_maximum(kc_case *c);
bool kc_minimum(kc_case *c);
bool kc_prelu(kc_case *c);
bool kc_lut(kc_case *c);
bool kc_max_pool(kc_case *c);
bool kc_average_pool(kc_case *c);
bool kc_sum_rows(kc_case *c);
bool kc_sum(kc_case *c);
bool kc_requantize(kc_case *c);
bool kc_bilinear(kc_case *c);
bool kc_bilinear_u8(kc_case *c);
bool kc_transpose(kc_case *c);
bool kc_softmax(kc_case *c);
bool kc_log_softmax(kc_case *c);

#endif
