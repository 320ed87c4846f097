/* SPDX-License-Identifier: Apache-2.0
 *
 * The threads that work on one session's runs, in memory of the session. */
#ifndef EQ_CORE_THREADS_H
#define EQ_CORE_THREADS_H

#include <stddef.h>
#include <stdint.h>

#include "edgeq.h"

enum { EQ_THREADS_MAX = 64 };

typedef struct eq_thread_pool eq_thread_pool;

/* Does units [first, end) of a job; `worker` < threads is the number of the thread that does. */
typedef void (*eq_job)(void *context, uint32_t worker, size_t first, size_t end);

/* EQ_OK, or why a pool of these options cannot be. */
eq_status eq_pool_check(const eq_session_options *options);

/* A pool for options->threads >= 2 threads, the caller of eq_pool_run() among them. `memory` is
 * eq_pool_size() bytes, a multiple of 16 and aligned to 16. Threads start when there is work. */
size_t eq_pool_size(uint32_t threads);
eq_thread_pool *eq_pool_create_in(void *memory, const eq_session_options *options);
void eq_pool_destroy(eq_thread_pool *pool); /* ends the threads; not while eq_pool_run() is in another */

/* Does units [0, units) in `chunks` <= units parts, each once, in no order, in any of the threads,
 * and returns when all are done. The caller takes parts as long as there are any: a thread that
 * gets no time to run delays nothing but a part that it has begun. */
void eq_pool_run(eq_thread_pool *pool, eq_job job, void *context, size_t units, uint32_t chunks);

#endif
