/* SPDX-License-Identifier: Apache-2.0
 *
 * Guarded memory, signals, random numbers. */
#include "kernelcheck.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

/* ---- random numbers */

uint64_t kc_next(kc_rng *rng)
{
    uint64_t z = rng->state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

size_t kc_below(kc_rng *rng, size_t n)
{
    return (size_t)((kc_next(rng) >> 11) % n);
}

int32_t kc_between(kc_rng *rng, int32_t low, int32_t high)
{
    const uint64_t span = (uint64_t)((int64_t)high - low) + 1;
    return (int32_t)(low + (int64_t)((kc_next(rng) >> 11) % span));
}

bool kc_chance(kc_rng *rng, size_t percent)
{
    return kc_below(rng, 100) < percent;
}

size_t kc_log_below(kc_rng *rng, size_t n)
{
    size_t limit = n;
    while (limit > 1 && kc_chance(rng, 50))
        limit = (limit + 1) / 2;
    return kc_below(rng, limit);
}

int32_t kc_one_of(kc_rng *rng, size_t count, const int32_t *values)
{
    return values[kc_below(rng, count)];
}

/* ---- messages */

bool kc_fail(kc_case *c, const char *format, ...)
{
    va_list list;
    if (c->failure[0] != '\0')
        return false;
    va_start(list, format);
    vsnprintf(c->failure, sizeof c->failure, format, list);
    va_end(list);
    return false;
}

void kc_describe(kc_case *c, const char *format, ...)
{
    const size_t used = strlen(c->shape);
    va_list list;
    va_start(list, format);
    vsnprintf(c->shape + used, sizeof c->shape - used, format, list);
    va_end(list);
}

/* ---- regions: [guard][capacity][guard], one for each buffer of a case, kept between cases */

enum { GUARD = 1 << 16, CANARY = 256 };

typedef struct region {
    uint8_t *base; /* of the capacity */
    uint8_t *copy; /* of an input */
    size_t capacity;
} region;

static region regions[KC_BUFFERS];

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static size_t page_round(size_t n)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (n + page - 1) / page * page;
}

static void reserve(region *r, size_t size)
{
    const size_t guard = page_round(GUARD);
    size_t capacity = page_round(1 << 14);
    while (capacity < size)
        capacity *= 2;
    if (r->capacity >= size)
        return;
    if (r->base != NULL)
        munmap(r->base - guard, r->capacity + 2 * guard);
    free(r->copy);
    uint8_t *whole =
        mmap(NULL, capacity + 2 * guard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (whole == MAP_FAILED)
        die("mmap");
    r->base = whole + guard;
    r->capacity = capacity;
    r->copy = malloc(capacity);
    if (mprotect(r->base, capacity, PROT_READ | PROT_WRITE) != 0)
        die("mprotect");
    if (r->copy == NULL)
        die("malloc");
}

/* Ends at the guard page behind, begins behind the one in front, or lies anywhere. */
static uint8_t *place(kc_rng *rng, const region *r, size_t size, size_t align)
{
    const size_t way = kc_below(rng, 4);
    if (rng->usual) /* for timing: not all at the same place of a page */
        return r->base + (size_t)(r - regions) * 5 % 64 * 64;
    if (way <= 1)
        return r->base + (r->capacity - size) / align * align;
    if (way == 2)
        return r->base;
    return r->base + kc_below(rng, 160) / align * align;
}

static void *allocate(kc_case *c, const char *name, size_t size, size_t align, bool input)
{
    if (c->buffer_count == KC_BUFFERS) {
        fprintf(stderr, "kernelcheck: more than %d buffers in a case\n", (int)KC_BUFFERS);
        exit(2);
    }
    region *r = &regions[c->buffer_count];
    kc_buffer *b = &c->buffers[c->buffer_count++];
    reserve(r, size + CANARY + (c->rng.usual ? 4096 : 0));
    uint8_t *data = size == 0 ? r->base + r->capacity : place(&c->rng, r, size, align);
    *b = (kc_buffer){name, data, size, input, false};
    return data;
}

void *kc_input(kc_case *c, const char *name, size_t size, size_t align)
{
    return allocate(c, name, size, align, true);
}

void *kc_output(kc_case *c, const char *name, size_t size, size_t align)
{
    uint8_t *data = allocate(c, name, size, align, false);
    uint64_t noise = kc_next(&c->rng);
    for (size_t i = 0; i < size; i++, noise = noise << 7 | noise >> 57)
        data[i] = (uint8_t)(noise + i * 29);
    return data;
}

void kc_freeze(kc_case *c, const void *data)
{
    for (size_t i = 0; i < c->buffer_count; i++)
        if (c->buffers[i].data == data && c->buffers[i].size > 0) {
            c->buffers[i].input = true;
            c->buffers[i].sealed = false;
        }
}

static uint8_t canary(const uint8_t *at)
{
    return (uint8_t)(((uintptr_t)at * 37) ^ 0xC5);
}

/* What lies around a buffer in its region, at most CANARY bytes on each side. */
static void around(const kc_buffer *b, const region *r, const uint8_t **low, const uint8_t **high)
{
    const uint8_t *const end = b->data + b->size, *const region_end = r->base + r->capacity;
    *low = b->data - r->base > CANARY ? b->data - CANARY : r->base;
    *high = region_end - end > CANARY ? end + CANARY : region_end;
}

void kc_seal(kc_case *c)
{
    for (size_t i = 0; i < c->buffer_count; i++) {
        kc_buffer *b = &c->buffers[i];
        const uint8_t *low, *high;
        if (b->sealed)
            continue;
        b->sealed = true;
        if (b->input)
            memcpy(regions[i].copy, b->data, b->size);
        around(b, &regions[i], &low, &high);
        for (uint8_t *at = (uint8_t *)(uintptr_t)low; at < high; at++)
            if (at < b->data || at >= b->data + b->size)
                *at = canary(at);
    }
}

bool kc_intact(kc_case *c, const char *who)
{
    for (size_t i = 0; i < c->buffer_count; i++) {
        const kc_buffer *b = &c->buffers[i];
        const uint8_t *low, *high;
        if (!b->sealed)
            continue;
        around(b, &regions[i], &low, &high);
        for (const uint8_t *at = low; at < b->data; at++)
            if (*at != canary(at))
                return kc_fail(c, "%s wrote %td bytes in front of '%s'", who, b->data - at,
                               b->name);
        for (const uint8_t *at = b->data + b->size; at < high; at++)
            if (*at != canary(at))
                return kc_fail(c, "%s wrote %td bytes behind '%s' of %zu bytes", who,
                               at - (b->data + b->size) + 1, b->name, b->size);
        if (b->input && memcmp(regions[i].copy, b->data, b->size) != 0) {
            size_t at = 0;
            while (regions[i].copy[at] == b->data[at])
                at++;
            return kc_fail(c, "%s changed byte %zu of the input '%s'", who, at, b->name);
        }
    }
    return true;
}

void *kc_plain(size_t which, size_t n)
{
    static void *memory[4];
    static size_t size[4];
    if (n > size[which]) {
        free(memory[which]);
        memory[which] = malloc(n);
        size[which] = n;
        if (memory[which] == NULL)
            die("malloc");
    }
    return memory[which];
}

static int64_t element(const uint8_t *from, size_t size)
{
    int32_t word;
    if (size == 1)
        return (int8_t)*from;
    memcpy(&word, from, sizeof word);
    return word;
}

bool kc_equal(kc_case *c, const char *what, size_t n, size_t size, size_t row, const void *expected,
              const void *got)
{
    const uint8_t *a = expected, *b = got;
    size_t wrong = 0, first = 0;
    if (memcmp(expected, got, n * size) == 0)
        return true;
    for (size_t i = n; i-- > 0;)
        if (memcmp(a + i * size, b + i * size, size) != 0) {
            first = i;
            wrong++;
        }
    return kc_fail(c, "%s[%zu] (row %zu, column %zu): expected %lld, got %lld; %zu of %zu differ",
                   what, first, first / row, first % row,
                   (long long)element(a + first * size, size),
                   (long long)element(b + first * size, size), wrong, n);
}

/* ---- signals */

sigjmp_buf kc_jump;
static volatile sig_atomic_t armed;
static const char *volatile caller;
static volatile sig_atomic_t caught;
static void *volatile caught_at;

enum { SECONDS = 120 }; /* a call that takes longer hangs */

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (!armed) { /* the harness itself */
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    armed = 0;
    caught = number;
    caught_at = number == SIGALRM ? NULL : info->si_addr;
    siglongjmp(kc_jump, 1);
}

void kc_catch_signals(void)
{
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGALRM};
    static uint8_t stack[1 << 16];
    const stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action;
    sigaltstack(&other, NULL);
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        sigaction(numbers[i], &action, NULL);
}

void kc_arm(const char *who)
{
    caller = who;
    armed = 1;
    alarm(SECONDS);
}

void kc_disarm(void)
{
    armed = 0;
}

static const char *signal_name(int number)
{
    switch (number) {
    case SIGSEGV: return "SIGSEGV";
    case SIGBUS: return "SIGBUS";
    case SIGILL: return "SIGILL: an illegal instruction";
    case SIGFPE: return "SIGFPE";
    case SIGTRAP: return "SIGTRAP";
    case SIGABRT: return "SIGABRT";
    default: return "SIGALRM: it does not return";
    }
}

/* The buffer whose guard pages hold the address. */
bool kc_crashed(kc_case *c)
{
    const uint8_t *at = caught_at;
    const char *who = caller;
    const size_t guard = page_round(GUARD);
    if (caught == SIGSEGV || caught == SIGBUS)
        for (size_t i = 0; i < c->buffer_count; i++) {
            const kc_buffer *b = &c->buffers[i];
            const region *r = &regions[i];
            const uint8_t *end = b->data + b->size;
            if (at >= r->base + r->capacity && at < r->base + r->capacity + guard)
                return kc_fail(c, "%s: %s: touched byte %td behind '%s' of %zu bytes", who,
                               signal_name(caught), at - end + 1, b->name, b->size);
            if (at < r->base && at >= r->base - guard)
                return kc_fail(c, "%s: %s: touched byte %td in front of '%s'", who,
                               signal_name(caught), b->data - at, b->name);
        }
    return kc_fail(c, "%s: %s at address %p", who, signal_name(caught), (const void *)at);
}
