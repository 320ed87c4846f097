/* SPDX-License-Identifier: Apache-2.0
 *
 * An open model: pointers into the file, whose every claim was checked by model.c. */
#ifndef EQ_CORE_MODEL_H
#define EQ_CORE_MODEL_H

#include "core/format.h"
#include "edgeq.h"
#include "kernels/kernels.h"
#include "ops/ops.h"

struct eq_model {
    const eq_file_header *header;
    const eq_file_tensor *tensors;
    const eq_file_op *ops;
    const uint32_t *args;
    const uint8_t *params;
    const eq_file_io *io;
    const eq_file_entry *entry;
    const char *strings;
    const eq_file_meta *meta;
    const eq_file_golden *golden;
    const eq_file_picture *pictures;
    const uint8_t *data;
    uint32_t tensor_count, op_count, arg_count, io_count, meta_count, golden_count;
    uint32_t picture_count;
    size_t params_size, strings_size, data_size;
    size_t scratch_size; /* the largest of any op or picture, a multiple of EQ_PACK_ALIGN */
    eq_kernel_table kernels;
    eq_node *nodes;        /* [op_count], ready to run but for arena and scratch; prepare.c */
    eq_tensor_info *ports; /* [io_count]: inputs, then outputs */
    void *map;             /* of eq_model_open_file, else NULL */
    size_t map_size;
    bool owned; /* the handle came from malloc */
};

/* Checks the whole file and fills `model`; `data` stays the caller's. */
eq_status eq_model_parse(eq_model *model, const void *data, size_t size);

/* The part of it in plan.c. */
eq_status eq_plan_check(const eq_model *model);

/* io/picture.c: the section PICT, and the working memory of eq_preprocess_rgb. */
eq_status eq_pictures_check(const eq_model *model);
size_t eq_pictures_scratch(const eq_model *model);

/* isa.c: eq_isa_chosen, and the machine's features (core/cpu.h); asking for them takes a while. */
eq_status eq_isa_choose(uint32_t *isa, uint32_t *features);

/* prepare.c: the bytes that a parsed model needs behind its struct for what is computed once
 * (nodes, packed weights), and that computation. `memory` is that many bytes, aligned to 16. */
eq_status eq_prepare_size(const eq_model *model, size_t *bytes);
void eq_prepare(eq_model *model, void *memory);

/* Bytes of a tensor; false unless in [1, 2^31). Rank and dimensions must be checked already. */
bool eq_tensor_bytes(const eq_file_tensor *tensor, uint64_t *bytes);

/* Op `index` of the model; packed, arena and scratch are NULL. */
eq_node eq_model_node(const eq_model *model, uint32_t index);

/* session.c: what eq_model_input and eq_model_output tell, and where it is; NULL: no such port */
const eq_tensor_info *eq_session_port(const eq_session *session, bool output, uint32_t index,
                                      void **tensor);

/* session.c: model->scratch_size bytes, aligned to EQ_PACK_ALIGN, that nobody uses between runs. */
uint8_t *eq_session_scratch(const eq_session *session);
const eq_model *eq_session_model(const eq_session *session);

/* Sets the calling thread's error and returns `status`. Formats: %s %d (int32_t) %u (uint32_t)
 * %z (size_t) %l (int64_t). */
eq_status eq_error(eq_status status, const char *format, ...);

uint32_t eq_crc32(const void *data, size_t size);

/* A message of which only the last part is buffered. */
typedef struct eq_sha256 {
    uint32_t state[8];
    uint64_t size;
    uint8_t block[64];
} eq_sha256;
void eq_sha256_init(eq_sha256 *hash);
void eq_sha256_add(eq_sha256 *hash, const void *data, size_t size);
void eq_sha256_end(eq_sha256 *hash, uint8_t digest[32]);

static inline bool eq_is_aligned(const void *p, size_t alignment)
{
    return ((uintptr_t)p & (alignment - 1)) == 0;
}
static inline size_t eq_align_up(size_t n, size_t alignment)
{
    return (n + alignment - 1) & ~(alignment - 1);
}

#endif
