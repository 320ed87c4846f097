/* SPDX-License-Identifier: Apache-2.0
 *
 * A pool of threads: jobs are shared out by counters, those who wait spin, then sleep.
 *
 * Every thread has a share of a job's parts, neighbours in memory, and takes from the others' when
 * its own is done. `open` counts the parts of a share that nobody has taken yet. Who lowers it by
 * compare-and-swap has a part, and until that part is done the job's fields stay as they are: the
 * caller writes the next job only when `done` has reached `chunks`. So a thread that comes late,
 * whichever job it meant, takes a part of the job that is there, or none. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_setaffinity */
#endif
#include "core/threads.h"

#include <stdbool.h>

#include "core/model.h"

#ifdef EQ_NO_THREADS

eq_status eq_pool_check(const eq_session_options *options)
{
    (void)options;
    return eq_error(EQ_ERR_UNSUPPORTED, "built without threads");
}

size_t eq_pool_size(uint32_t threads)
{
    (void)threads;
    return 0;
}

eq_thread_pool *eq_pool_create_in(void *memory, const eq_session_options *options)
{
    (void)memory, (void)options;
    return NULL;
}

void eq_pool_destroy(eq_thread_pool *pool)
{
    (void)pool;
}

void eq_pool_run(eq_thread_pool *pool, eq_job job, void *context, size_t units, uint32_t chunks)
{
    (void)pool, (void)chunks;
    job(context, 0, 0, units);
}

#else

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

enum {
    SPIN_NS = 5000,   /* busy waiting that gives the core to nobody */
    YIELD_NS = 50000, /* then waiting that lets others run, until here; then sleep */
    /* Who waits longer for the last part, and longer than so many parts take, waits for a thread
     * that has no core. Other programs need it: the caller then works alone for so many stalls. */
    STALL_NS = 150000,
    STALL_PARTS = 4,
    STALL_REST = 16
};

/* Two lines of 64 bytes: processors fetch pairs, and some have lines of 128. */
#define EQ_OWN_LINE(name) char name[128]

typedef struct share {
    uint32_t end; /* part behind the last */
    atomic_uint open;
    EQ_OWN_LINE(gap);
} share;

/* Thread `number`; thread 0 is the caller. */
typedef struct worker {
    share share;
    eq_thread_pool *pool;
    uint32_t number;
    int32_t cpu; /* -1: any */
    pthread_t thread;
} worker;

struct eq_thread_pool {
    eq_job job;
    void *context;
    size_t units;
    uint32_t chunks;
    uint32_t threads, running; /* running: workers that exist, `threads` - 1 if the system let us */
    bool started;
    unsigned generation;  /* of the process that started them */
    uint64_t alone_until; /* 0: no stall */
    EQ_OWN_LINE(gap1);
    atomic_uint done; /* parts that are finished */
    EQ_OWN_LINE(gap2);
    atomic_uint sleepers; /* workers that wait for `wake` */
    atomic_uint waiting;  /* 1: the caller waits for `finished` */
    atomic_uint stop;
    pthread_mutex_t mutex;
    pthread_cond_t wake, finished;
    EQ_OWN_LINE(gap3);
    worker workers[]; /* [threads] */
};

/* ---- fork: the child has none of the threads, and no say in what their mutex was doing */

static atomic_uint generation;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void count_fork(void)
{
    atomic_fetch_add(&generation, 1);
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, count_fork);
}

/* ---- waiting */

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory"); /* yield is a nop on most cores */
#elif defined(__arm__)
    __asm__ volatile("yield" ::: "memory");
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Spins and yields until it is time to sleep. */
typedef struct patience {
    uint64_t begin;
    uint32_t turns;
} patience;

static bool is_patient(patience *p)
{
    relax();
    if (++p->turns % 16 != 0) /* a reading of the clock is worth some turns */
        return true;
    const uint64_t now = now_ns();
    if (p->begin == 0)
        p->begin = now;
    else if (now - p->begin > YIELD_NS)
        return false;
    if (now - p->begin > SPIN_NS)
        sched_yield();
    return true;
}

/* ---- parts */

static bool take_of(share *from, uint32_t *part)
{
    unsigned left = atomic_load_explicit(&from->open, memory_order_relaxed);
    while (left > 0)
        if (atomic_compare_exchange_weak_explicit(&from->open, &left, left - 1,
                                                  memory_order_acquire, memory_order_relaxed)) {
            *part = from->end - left;
            return true;
        }
    return false;
}

static bool take(eq_thread_pool *pool, uint32_t number, uint32_t *part)
{
    if (take_of(&pool->workers[number].share, part))
        return true;
    for (uint32_t i = 1; i <= pool->running; i++)
        if (take_of(&pool->workers[(number + i) % (pool->running + 1)].share, part))
            return true;
    return false;
}

static void work(eq_thread_pool *pool, uint32_t number, uint64_t part)
{
    const uint64_t units = pool->units, chunks = pool->chunks;
    pool->job(pool->context, number, (size_t)(units * part / chunks),
              (size_t)(units * (part + 1) / chunks));
}

static void sleep_until_work(worker *w)
{
    eq_thread_pool *pool = w->pool;
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleepers, 1); /* before it looks: publish() looks in reverse order */
    if (atomic_load(&w->share.open) == 0 && !atomic_load(&pool->stop))
        pthread_cond_wait(&pool->wake, &pool->mutex);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->mutex);
}

/* False: it is time to end. */
static bool wait_for_work(worker *w)
{
    patience p = {0, 0};
    while (atomic_load_explicit(&w->share.open, memory_order_acquire) == 0) {
        if (atomic_load_explicit(&w->pool->stop, memory_order_acquire))
            return false;
        if (!is_patient(&p)) {
            sleep_until_work(w);
            p = (patience){0, 0};
        }
    }
    return true;
}

static void pin(int32_t cpu)
{
#ifdef __linux__
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    sched_setaffinity(0, sizeof set, &set); /* this thread; refused: it runs anywhere */
#else
    (void)cpu;
#endif
}

static void *live(void *argument)
{
    worker *w = argument;
    eq_thread_pool *pool = w->pool;
    uint32_t part;

    if (w->cpu >= 0)
        pin(w->cpu);
    while (wait_for_work(w))
        while (take(pool, w->number, &part)) {
            const uint32_t chunks = pool->chunks; /* of this job, while its part is not done */
            work(pool, w->number, part);
            if (atomic_fetch_add(&pool->done, 1) + 1 == chunks && atomic_load(&pool->waiting)) {
                pthread_mutex_lock(&pool->mutex);
                pthread_cond_signal(&pool->finished);
                pthread_mutex_unlock(&pool->mutex);
            }
        }
    return NULL;
}

/* ---- the caller's side */

static void start(eq_thread_pool *pool)
{
    sigset_t all, before;
    uint32_t count = 0;
    pthread_once(&fork_once, watch_forks);
    pool->generation = atomic_load(&generation);
    pool->started = true;
    pool->alone_until = 0;
    atomic_store(&pool->sleepers, 0);
    atomic_store(&pool->waiting, 0);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->finished, NULL);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the program's own threads */
    for (uint32_t i = 0; i < pool->threads; i++)
        atomic_store(&pool->workers[i].share.open, 0);
    for (; count + 1 < pool->threads; count++) {
        worker *w = &pool->workers[count + 1];
        if (pthread_create(&w->thread, NULL, live, w) != 0)
            break; /* those that are there do it */
    }
    pool->running = count; /* they read it when they have a part */
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void publish(eq_thread_pool *pool, uint32_t chunks)
{
    const uint32_t threads = pool->running + 1;
    atomic_store_explicit(&pool->done, 0, memory_order_relaxed);
    for (uint32_t i = 0; i < threads; i++) { /* the caller has one at least */
        const uint32_t first = (chunks * i + threads - 1) / threads;
        share *s = &pool->workers[i].share;
        s->end = (chunks * (i + 1) + threads - 1) / threads;
        atomic_store(&s->open, s->end - first);
    }
    if (atomic_load(&pool->sleepers) == 0)
        return;
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

/* The caller did `mine` parts since `begin`. */
static void wait_for_parts(eq_thread_pool *pool, uint32_t chunks, unsigned mine, uint64_t begin)
{
    patience p = {0, 0};
    while (atomic_load_explicit(&pool->done, memory_order_acquire) != chunks)
        if (!is_patient(&p)) {
            pthread_mutex_lock(&pool->mutex);
            atomic_store(&pool->waiting, 1);
            while (atomic_load(&pool->done) != chunks)
                pthread_cond_wait(&pool->finished, &pool->mutex);
            atomic_store(&pool->waiting, 0);
            pthread_mutex_unlock(&pool->mutex);
            const uint64_t now = now_ns(), stall = now - p.begin;
            if (mine > 0 && stall > STALL_NS && stall > STALL_PARTS * (p.begin - begin) / mine)
                pool->alone_until = now + STALL_REST * stall;
            return;
        }
}

void eq_pool_run(eq_thread_pool *pool, eq_job job, void *context, size_t units, uint32_t chunks)
{
    uint32_t part, mine = 0;
    if (!pool->started || pool->generation != atomic_load(&generation))
        start(pool);
    if (pool->alone_until != 0 && now_ns() > pool->alone_until)
        pool->alone_until = 0;
    if (pool->alone_until != 0 || pool->running == 0 || chunks < 2) {
        job(context, 0, 0, units);
        return;
    }
    const uint64_t begin = now_ns();
    pool->job = job;
    pool->context = context;
    pool->units = units;
    pool->chunks = chunks;
    publish(pool, chunks);
    for (; take(pool, 0, &part); mine++)
        work(pool, 0, part);
    if (atomic_fetch_add(&pool->done, mine) + mine != chunks)
        wait_for_parts(pool, chunks, mine, begin);
}

/* ---- making and ending */

eq_status eq_pool_check(const eq_session_options *options)
{
    if (options->threads > EQ_THREADS_MAX)
        return eq_error(EQ_ERR_ARGUMENT, "%u threads, at most %d", options->threads,
                        (int32_t)EQ_THREADS_MAX);
    if (options->cpu_count > 0 && options->cpus == NULL)
        return eq_error(EQ_ERR_ARGUMENT, "%u CPUs, but cpus is NULL", options->cpu_count);
#ifdef __linux__
    const long count = sysconf(_SC_NPROCESSORS_CONF);
    for (uint32_t i = 0; i < options->cpu_count; i++)
        if ((long)options->cpus[i] >= count || options->cpus[i] >= CPU_SETSIZE)
            return eq_error(EQ_ERR_ARGUMENT, "no CPU %u, there are %d", options->cpus[i],
                            (int32_t)count);
#else
    if (options->cpu_count > 0)
        return eq_error(EQ_ERR_UNSUPPORTED, "threads cannot be bound to CPUs on this system");
#endif
    return EQ_OK;
}

size_t eq_pool_size(uint32_t threads)
{
    return eq_align_up(sizeof(eq_thread_pool) + threads * sizeof(worker), 16);
}

eq_thread_pool *eq_pool_create_in(void *memory, const eq_session_options *options)
{
    eq_thread_pool *pool = memory;
    pool->started = false;
    pool->threads = options->threads;
    pool->running = 0;
    atomic_init(&pool->stop, 0);
    for (uint32_t i = 0; i < options->threads; i++) {
        worker *w = &pool->workers[i];
        w->pool = pool;
        w->number = i;
        w->cpu = options->cpu_count == 0 ? -1 : (int32_t)options->cpus[i % options->cpu_count];
    }
    return pool;
}

void eq_pool_destroy(eq_thread_pool *pool)
{
    if (!pool->started || pool->generation != atomic_load(&generation))
        return;
    atomic_store(&pool->stop, 1);
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
    for (uint32_t i = 1; i <= pool->running; i++)
        pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->finished);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
}

#endif
