/* SPDX-License-Identifier: Apache-2.0
 *
 *     threads MODEL.eqm...
 *
 * Pools and sessions of several threads: every part is done once, the bytes are those of one
 * thread, through forks, user threads and ends at odd times. To be built with EQ_SPLIT_NS and
 * EQ_PART_MIN_NS of 1, so that small networks are split too, and under ThreadSanitizer. Prints
 * "ok". */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* fork, nanosleep, posix_memalign in C11 */
#endif
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/threads.h"
#include "edgeq.h"

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            printf("%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, eq_last_error()); \
            fflush(stdout); \
            _Exit(1); \
        } \
    } while (0)

static eq_session_options with_threads(uint32_t threads)
{
    return (eq_session_options){.threads = threads};
}

#ifdef EQ_NO_THREADS

static void test_model(const eq_model *model)
{
    eq_session *session;
    eq_session_options options = with_threads(2);
    CHECK(eq_session_create_with(model, &options, &session) == EQ_ERR_UNSUPPORTED);
    CHECK(session == NULL);
    options.threads = 1;
    CHECK(eq_session_create_with(model, &options, &session) == EQ_OK);
    CHECK(eq_run(session) == EQ_OK);
    eq_session_destroy(session);
}

static void test_pool(void)
{
}

#else

#include <pthread.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SEEDS = 3, UNITS = 200 };

static void pause_us(long us)
{
    const struct timespec t = {0, us * 1000};
    nanosleep(&t, NULL);
}

/* ---- pools */

typedef struct count {
    uint32_t threads;
    uint8_t times[UNITS]; /* that a unit was done; not atomic, so that races show */
    bool helped[EQ_THREADS_MAX];
} count;

static void count_units(void *context, uint32_t worker, size_t first, size_t end)
{
    count *c = context;
    CHECK(worker < c->threads && first < end && end <= UNITS);
    c->helped[worker] = true;
    for (; first < end; first++)
        c->times[first]++;
}

static void count_slowly(void *context, uint32_t worker, size_t first, size_t end)
{
    pause_us(10);
    count_units(context, worker, first, end);
}

static void test_pool_of(uint32_t threads)
{
    const eq_session_options options = with_threads(threads);
    eq_thread_pool *pool = eq_pool_create_in(malloc(eq_pool_size(threads)), &options);
    uint32_t random = threads;
    for (int i = 0; i < 2000; i++) {
        count c = {threads, {0}, {false}};
        random = random * 1664525 + 1013904223;
        const size_t units = 1 + (random >> 8) % UNITS;
        eq_pool_run(pool, count_units, &c, units, 1 + (random >> 20) % (uint32_t)units);
        for (size_t k = 0; k < UNITS; k++)
            CHECK(c.times[k] == (k < units));
        if (i % 500 == 0)
            pause_us(300); /* the workers sleep */
    }
    for (int tries = 0;; tries++) { /* every thread has its share in time */
        count c = {threads, {0}, {false}};
        uint32_t others = 1;
        CHECK(tries < 100000);
        eq_pool_run(pool, count_slowly, &c, UNITS, UNITS);
        for (; others < threads && c.helped[others]; others++)
            ;
        if (others == threads)
            break;
    }
    eq_pool_destroy(pool);
    free(pool);
}

static void test_pool(void)
{
    for (uint32_t threads = 2; threads <= 8; threads++)
        test_pool_of(threads);
}

/* ---- sessions */

static uint8_t expected[SEEDS][32]; /* digests of the current model's outputs, by one thread */

static void check_outputs(eq_session *session)
{
    uint8_t digest[32];
    for (int seed = 0; seed < SEEDS; seed++) {
        CHECK(eq_golden_digest(session, (uint64_t)seed, digest) == EQ_OK);
        CHECK(memcmp(digest, expected[seed], sizeof digest) == 0);
    }
}

static eq_session *create(const eq_model *model, uint32_t threads)
{
    const eq_session_options options = with_threads(threads);
    eq_session *session;
    CHECK(eq_session_create_with(model, &options, &session) == EQ_OK);
    return session;
}

static void test_counts(const eq_model *model)
{
    for (uint32_t threads = 0; threads <= 8; threads++) {
        eq_session *session = create(model, threads);
        check_outputs(session);
        eq_session_destroy(session);
    }
}

static void test_memory(const eq_model *model)
{
    const eq_session_options options = with_threads(3);
    size_t one, bytes, arena, scratch, scratch_one;
    eq_session *session;
    CHECK(eq_session_size(model, &one, &arena, &scratch_one) == EQ_OK);
    CHECK(eq_session_size_with(model, NULL, &bytes, NULL, NULL) == EQ_OK && bytes == one);
    CHECK(eq_session_size_with(model, &options, &bytes, &arena, &scratch) == EQ_OK);
    CHECK(bytes > one && scratch >= scratch_one);
    uint8_t *memory;
    CHECK(posix_memalign((void **)&memory, 64, bytes + 80) == 0);
    for (size_t shift = 0; shift < 64; shift += 16) {
        uint8_t *at = memory + shift;
        CHECK(eq_session_create_in_with(model, &options, at, bytes - 1, &session) == EQ_ERR_MEMORY);
        memset(at + bytes, 0xA5, 16);
        CHECK(eq_session_create_in_with(model, &options, at, bytes, &session) == EQ_OK);
        check_outputs(session);
        eq_session_destroy(session);
        for (size_t i = 0; i < 16; i++)
            CHECK(at[bytes + i] == 0xA5);
    }
    free(memory);
}

static void test_options(const eq_model *model)
{
    eq_session *session;
    const uint32_t cpus[] = {0}, none[] = {1u << 20};
    eq_session_options options = with_threads(EQ_THREADS_MAX + 1);
    CHECK(eq_session_create_with(model, &options, &session) == EQ_ERR_ARGUMENT && !session);
    options.threads = UINT32_MAX;
    CHECK(eq_session_create_with(model, &options, &session) == EQ_ERR_ARGUMENT);
    options = (eq_session_options){.threads = 2, .cpus = NULL, .cpu_count = 1};
    CHECK(eq_session_create_with(model, &options, &session) == EQ_ERR_ARGUMENT);
#ifdef __linux__
    options.cpus = none;
    CHECK(eq_session_create_with(model, &options, &session) == EQ_ERR_ARGUMENT);
    options.cpus = cpus;
    CHECK(eq_session_create_with(model, &options, &session) == EQ_OK);
    check_outputs(session);
    eq_session_destroy(session);
#endif
}

/* ---- user threads, each with sessions of its own */

static void *destroy(void *session)
{
    eq_session_destroy(session);
    return NULL;
}

static void *live_in_thread(void *model)
{
    for (uint32_t i = 0; i < 5; i++) {
        eq_session *session = create(model, 2 + i % 2), *idle = create(model, 4);
        check_outputs(session);
        eq_session_destroy(idle);
        check_outputs(session);
        eq_session_destroy(session);
    }
    return NULL;
}

static void test_user_threads(eq_model *model)
{
    enum { USERS = 3 };
    pthread_t users[USERS];
    for (int i = 0; i < USERS; i++)
        CHECK(pthread_create(&users[i], NULL, live_in_thread, model) == 0);
    for (int i = 0; i < USERS; i++)
        pthread_join(users[i], NULL);
}

static void test_ends(const eq_model *model)
{
    pthread_t other;
    for (int i = 0; i < 40; i++) {
        eq_session *session = create(model, 2 + (uint32_t)i % 4);
        for (int runs = i % 3; runs > 0; runs--)
            CHECK(eq_run(session) == EQ_OK);
        pause_us(i % 4 * 30); /* they spin, yield, sleep */
        if (i % 5 > 0) {
            eq_session_destroy(session);
            continue;
        }
        CHECK(pthread_create(&other, NULL, destroy, session) == 0);
        pthread_join(other, NULL);
    }
}

/* ---- forks */

static void child(const eq_model *model, eq_session *session)
{
#ifdef __SANITIZE_THREAD__
    const uint32_t threads = 1; /* its library cannot start threads in a child */
#else
    const uint32_t threads = 3;
    check_outputs(session);
#endif
    eq_session *another = create(model, threads);
    check_outputs(another);
    eq_session_destroy(another);
    eq_session_destroy(session);
    _Exit(0);
}

static void check_fork(const eq_model *model, eq_session *session, bool use)
{
    int status = -1;
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        if (use)
            child(model, session);
        eq_session_destroy(session);
        _Exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_forks(eq_model *model)
{
    eq_session *session = create(model, 3);
    pthread_t user;
    check_fork(model, session, true); /* before its threads are there */
    check_outputs(session);
    check_fork(model, session, true);
    check_outputs(session);
    pause_us(500);
    check_fork(model, session, false);
    check_outputs(session);
    CHECK(pthread_create(&user, NULL, live_in_thread, model) == 0);
    for (int i = 0; i < 5; i++)
        check_fork(model, session, true);
    pthread_join(user, NULL);
    check_outputs(session);
    eq_session_destroy(session);
}

static void test_model(eq_model *model)
{
    eq_session *one;
    CHECK(eq_session_create(model, &one) == EQ_OK);
    for (int seed = 0; seed < SEEDS; seed++)
        CHECK(eq_golden_digest(one, (uint64_t)seed, expected[seed]) == EQ_OK);
    test_counts(model);
    test_memory(model);
    test_options(model);
    test_user_threads(model);
    test_ends(model);
    test_forks(model);
    eq_session_destroy(one);
}

#endif

int main(int argc, char **files)
{
    test_pool();
    for (int i = 1; i < argc; i++) {
        eq_model *model;
        CHECK(eq_model_open_file(files[i], &model) == EQ_OK);
        test_model(model);
        eq_model_close(model);
    }
    puts("ok");
    return 0;
}
