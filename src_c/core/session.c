/* SPDX-License-Identifier: Apache-2.0
 * A session: the handle, the arena and the kernels' scratch in one piece of memory. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200112L /* posix_memalign */
#endif
#include "core/model.h"
#include "core/threads.h"

#include <string.h>

#ifndef EQ_NO_HEAP
#include <stdlib.h>
#endif

struct eq_session {
    const eq_model *model;
    uint8_t *arena;
    uint8_t *scratch; /* one of model->scratch_size bytes a thread */
    uint32_t threads;
    eq_thread_pool *pool; /* NULL: one thread */
    eq_op_hook hook;
    void *hook_user;
    bool owned; /* came from malloc */
};

/* A session's memory: the handle, the pool, the arena, the threads' scratch. */
enum { HANDLE_SIZE = (sizeof(struct eq_session) + 15) & ~15u };

static uint32_t thread_count(const eq_session_options *options)
{
    return options == NULL || options->threads == 0 ? 1 : options->threads;
}

/* Scratch is aligned within the memory, which is aligned to 16. */
static size_t scratch_bytes(const eq_model *model, uint32_t threads)
{
    return model->scratch_size == 0 ? 0 : model->scratch_size * threads + EQ_PACK_ALIGN - 16;
}

EQ_API eq_status eq_session_size_with(const eq_model *model, const eq_session_options *options,
                                      size_t *bytes, size_t *arena, size_t *scratch)
{
    const uint32_t threads = thread_count(options);
    if (model == NULL || bytes == NULL)
        return eq_error(EQ_ERR_ARGUMENT, "model or bytes is NULL");
    if (threads > 1)
        EQ_TRY(eq_pool_check(options));
    const size_t arena_size = eq_align_up((size_t)model->header->arena_size, 16);
    if (model->scratch_size > (PTRDIFF_MAX - arena_size) / 2 / threads)
        return eq_error(EQ_ERR_MEMORY, "%z bytes of scratch for each of %u threads",
                        model->scratch_size, threads);
    *bytes = HANDLE_SIZE + (threads > 1 ? eq_pool_size(threads) : 0) + arena_size
             + scratch_bytes(model, threads);
    if (arena != NULL)
        *arena = arena_size;
    if (scratch != NULL)
        *scratch = scratch_bytes(model, threads);
    return EQ_OK;
}

EQ_API eq_status eq_session_create_in_with(const eq_model *model, const eq_session_options *options,
                                           void *memory, size_t bytes, eq_session **session)
{
    const uint32_t threads = thread_count(options);
    size_t needed = 0, arena_size = 0;
    if (session == NULL)
        return eq_error(EQ_ERR_ARGUMENT, "session is NULL");
    *session = NULL;
    EQ_TRY(eq_session_size_with(model, options, &needed, &arena_size, NULL));
    if (memory == NULL || !eq_is_aligned(memory, 16))
        return eq_error(EQ_ERR_MEMORY,
                        "the memory for the session is NULL or not aligned to 16 bytes");
    if (bytes < needed)
        return eq_error(EQ_ERR_MEMORY, "%z bytes for the session, it needs %z", bytes, needed);
    eq_session *s = memory;
    memset(s, 0, sizeof *s);
    s->model = model;
    s->threads = threads;
    s->arena = (uint8_t *)memory + HANDLE_SIZE;
    if (threads > 1) {
        s->pool = eq_pool_create_in(s->arena, options);
        s->arena += eq_pool_size(threads);
    }
    s->scratch = s->arena + arena_size;
    s->scratch += -(uintptr_t)s->scratch % EQ_PACK_ALIGN;
    memset(s->arena, 0, arena_size);
    *session = s;
    return EQ_OK;
}

EQ_API eq_status eq_session_create_with(const eq_model *model, const eq_session_options *options,
                                        eq_session **session)
{
    if (session == NULL)
        return eq_error(EQ_ERR_ARGUMENT, "session is NULL");
    *session = NULL;
#ifdef EQ_NO_HEAP
    (void)model, (void)options;
    return eq_error(EQ_ERR_UNSUPPORTED, "built without a heap: use eq_session_create_in");
#else
    size_t bytes = 0;
    EQ_TRY(eq_session_size_with(model, options, &bytes, NULL, NULL));
    void *memory = NULL;
    if (posix_memalign(&memory, 64, bytes) != 0)
        return eq_error(EQ_ERR_MEMORY, "no memory for a session of %z bytes", bytes);
    const eq_status status = eq_session_create_in_with(model, options, memory, bytes, session);
    if (status != EQ_OK)
        free(memory);
    else
        (*session)->owned = true;
    return status;
#endif
}

EQ_API eq_status eq_session_size(const eq_model *model, size_t *bytes, size_t *arena,
                                 size_t *scratch)
{
    return eq_session_size_with(model, NULL, bytes, arena, scratch);
}

EQ_API eq_status eq_session_create_in(const eq_model *model, void *memory, size_t bytes,
                                      eq_session **session)
{
    return eq_session_create_in_with(model, NULL, memory, bytes, session);
}

EQ_API eq_status eq_session_create(const eq_model *model, eq_session **session)
{
    return eq_session_create_with(model, NULL, session);
}

EQ_API void eq_session_destroy(eq_session *session)
{
    if (session == NULL)
        return;
    if (session->pool != NULL)
        eq_pool_destroy(session->pool);
#ifndef EQ_NO_HEAP
    if (session->owned)
        free(session);
#endif
}

const eq_tensor_info *eq_session_port(const eq_session *session, bool output, uint32_t index,
                                      void **tensor)
{
    const eq_model *m = session->model;
    *tensor = NULL;
    if (index >= (output ? m->entry->output_count : m->entry->input_count))
        return NULL;
    index += output ? m->entry->input_count : 0;
    *tensor = session->arena + m->tensors[m->io[m->entry->io + index].tensor].offset;
    return &m->ports[index];
}

uint8_t *eq_session_scratch(const eq_session *session)
{
    return session->scratch;
}

const eq_model *eq_session_model(const eq_session *session)
{
    return session->model;
}

EQ_API void *eq_session_input(eq_session *session, uint32_t index)
{
    void *tensor;
    eq_session_port(session, false, index, &tensor);
    return tensor;
}

EQ_API const void *eq_session_output(const eq_session *session, uint32_t index)
{
    void *tensor;
    eq_session_port(session, true, index, &tensor);
    return tensor;
}

EQ_API void eq_session_set_hook(eq_session *session, eq_op_hook hook, void *user)
{
    session->hook = hook;
    session->hook_user = user;
}

/* Work of less than this is not split; a part takes at least, and if it can at most, so long.
 * Nanoseconds, by the estimate of prepare.c. A split costs 1000, and some when threads slept. */
#ifndef EQ_SPLIT_NS
#define EQ_SPLIT_NS 8000
#define EQ_PART_MIN_NS 3000
#endif
enum { PART_MAX_NS = 40000, PARTS_PER_THREAD = 4 };

/* In how many parts an op is done; 1: by the caller alone. */
static uint32_t part_count(const eq_node *node, uint32_t threads)
{
    if (node->work < EQ_SPLIT_NS)
        return 1;
    const uint64_t most = node->work / EQ_PART_MIN_NS;
    uint64_t parts = (uint64_t)threads * PARTS_PER_THREAD;
    parts = parts < node->work / PART_MAX_NS ? node->work / PART_MAX_NS : parts;
    parts = parts < most ? parts : most;
    return (uint32_t)(parts < node->units ? parts : node->units);
}

typedef struct run {
    const eq_session *session;
    const eq_node *node;
} run;

static void run_part(void *context, uint32_t thread, size_t first, size_t end)
{
    const run *r = context;
    eq_node node = *r->node;
    node.arena = r->session->arena;
    node.scratch = r->session->scratch + thread * r->session->model->scratch_size;
    if (node.def->units != NULL)
        node.def->run_units(&node, first, end);
    else
        node.def->run(&node);
}

EQ_API eq_status eq_run(eq_session *session)
{
    if (session == NULL)
        return eq_error(EQ_ERR_ARGUMENT, "session is NULL");
    const eq_model *m = session->model;
    for (uint32_t k = 0; k < m->op_count; k++) {
        run r = {session, &m->nodes[k]};
        const uint32_t parts = session->pool == NULL ? 1 : part_count(r.node, session->threads);
        if (session->hook != NULL)
            session->hook(session->hook_user, k, 1);
        if (parts > 1)
            eq_pool_run(session->pool, run_part, &r, r.node->units, parts);
        else
            run_part(&r, 0, 0, r.node->units);
        if (session->hook != NULL)
            session->hook(session->hook_user, k, 0);
    }
    return EQ_OK;
}

/* ---- golden cases */

/* splitmix64 over the bytes of all inputs, docs/FORMAT.md. */
static void fill_inputs(eq_session *session, uint64_t seed)
{
    const eq_model *m = session->model;
    uint64_t state = seed;
    for (uint32_t i = 0; i < m->entry->input_count; i++) {
        const eq_file_tensor *t = &m->tensors[m->io[m->entry->io + i].tensor];
        const size_t bytes = eq_elements(t) * eq_dtype_size(t->dtype);
        uint8_t *p = eq_session_input(session, i);
        for (size_t at = 0; at < bytes; at += 8) {
            uint64_t z = state += 0x9E3779B97F4A7C15u;
            z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
            z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
            z ^= z >> 31;
            for (size_t k = at; k < bytes && k < at + 8; k++, z >>= 8)
                p[k] = (uint8_t)(t->dtype == EQ_DT_BOOL ? z & 1 : z);
        }
    }
}

EQ_API eq_status eq_golden_digest(eq_session *session, uint64_t seed, uint8_t *sha256)
{
    eq_sha256 hash;
    if (session == NULL || sha256 == NULL)
        return eq_error(EQ_ERR_ARGUMENT, "session or sha256 is NULL");
    fill_inputs(session, seed);
    EQ_TRY(eq_run(session));
    eq_sha256_init(&hash);
    const eq_model *m = session->model;
    for (uint32_t i = 0; i < m->entry->output_count; i++) {
        const eq_file_tensor *t =
            &m->tensors[m->io[m->entry->io + m->entry->input_count + i].tensor];
        eq_sha256_add(&hash, eq_session_output(session, i),
                      eq_elements(t) * eq_dtype_size(t->dtype));
    }
    eq_sha256_end(&hash, sha256);
    return EQ_OK;
}

EQ_API eq_status eq_verify(eq_session *session, uint32_t index, uint8_t *sha256)
{
    uint8_t digest[32];
    if (session == NULL || index >= session->model->golden_count)
        return eq_error(EQ_ERR_ARGUMENT, "no golden case %u", index);
    const eq_file_golden *golden = &session->model->golden[index];
    EQ_TRY(eq_golden_digest(session, golden->seed, digest));
    if (sha256 != NULL)
        memcpy(sha256, digest, sizeof digest);
    if (memcmp(digest, golden->sha256, sizeof digest) != 0)
        return eq_error(EQ_ERR_VERIFY,
                        "golden case %u (seed %l) gives other bytes on this machine (%s)", index,
                        (int64_t)golden->seed, eq_model_isa(session->model));
    return EQ_OK;
}
