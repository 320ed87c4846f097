/* SPDX-License-Identifier: Apache-2.0
 *
 * What an operator is to the rest of the library: three functions and a sentence on memory. */
#ifndef EQ_OPS_H
#define EQ_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/format.h"
#include "edgeq.h"
#include "kernels/kernels.h"

/* One op of a model, resolved. `arena` and `scratch` are NULL while validating and sizing. */
typedef struct eq_node {
    const eq_file_op *op;
    const void *params;            /* of the op's own struct; size was checked */
    const eq_file_tensor *tensors; /* the model's tensor table */
    const uint32_t *args;          /* this op's inputs, then outputs, all indices checked */
    const uint8_t *data;           /* the DATA section */
    size_t data_size;
    const eq_kernels *kernels;
    const struct eq_op_def *def;
    size_t units;       /* of def->run_units; 0 while validating */
    uint64_t work;      /* about so many nanoseconds in one thread; 0 while validating */
    const void *packed; /* what pack() wrote; aligned to EQ_PACK_ALIGN */
    uint8_t *arena;
    uint8_t *scratch; /* aligned to EQ_PACK_ALIGN, as many bytes as scratch() said */
    const char *name; /* for errors */
    uint32_t index;
} eq_node;

typedef struct eq_op_def {
    uint16_t min_inputs, max_inputs; /* outputs: always 1 */
    bool inplace; /* may overwrite an input of the output's shape and element size */
    /* Recomputes and checks all that the file claims about this op: shapes, dtypes, parameter
     * ranges, refs. Tensor records were checked (rank, dims >= 1, bytes < 2^31, offsets). What it
     * accepts, run() must execute without touching memory outside of its tensors. */
    eq_status (*validate)(const eq_node *node);
    size_t (*scratch)(const eq_node *node); /* bytes of working memory a thread; NULL: none */
    void (*run)(const eq_node *node);       /* the whole op; NULL where units() is there */

    /* Ops whose work can be split: the outputs are `units` independent parts. */
    size_t (*units)(const eq_node *node);
    void (*run_units)(const eq_node *node, size_t first, size_t end);
    /* What is computed once a model, weights for the machine at hand among it: returns the bytes,
     * a multiple of EQ_PACK_ALIGN; with packed = NULL it only counts. NULL: nothing to pack. */
    size_t (*pack)(const eq_node *node, void *packed);
    size_t slot; /* EQ_SLOT of the kernel that does the work; EQ_NO_SLOT: none does */
    /* For people: how the work reaches the kernel, or what is done without one. path() says which
     * of several ways this node takes, and sets *slot where that is another one; `why` is what is
     * always so. */
    const char *why;
    const char *(*path)(const eq_node *node, size_t *slot);
} eq_op_def;

#define EQ_SLOT(name) (offsetof(eq_kernels, name) / sizeof(void (*)(void)) + 1)
#define EQ_NO_SLOT ((size_t)0)

/* NULL for an unknown opcode. */
const eq_op_def *eq_op_find(uint32_t opcode, const char **name, size_t *params_size);

/* ---- accessors: argument i is input i, or output i - input_count */
static inline const eq_file_tensor *eq_arg(const eq_node *node, uint32_t i)
{
    return &node->tensors[node->args[i]];
}
static inline const eq_file_tensor *eq_out(const eq_node *node)
{
    return eq_arg(node, node->op->input_count);
}
static inline const void *eq_arg_data(const eq_node *node, uint32_t i)
{
    const eq_file_tensor *t = eq_arg(node, i);
    const eq_file_tensor *owner = &node->tensors[t->storage];
    return (owner->kind == EQ_KIND_CONST ? node->data : node->arena) + t->offset;
}
static inline void *eq_out_data(const eq_node *node)
{
    return node->arena + eq_out(node)->offset;
}
static inline const void *eq_ref_data(const eq_node *node, uint32_t ref)
{
    return ref == EQ_NONE ? NULL : node->data + ref;
}
size_t eq_dtype_size(uint8_t dtype); /* bytes; 0: not a whole number or unknown */

/* Number of elements of dims [from, to). */
static inline size_t eq_count(const eq_file_tensor *t, uint32_t from, uint32_t to)
{
    size_t n = 1;
    for (uint32_t i = from; i < to; i++)
        n *= (size_t)t->dims[i];
    return n;
}
static inline size_t eq_elements(const eq_file_tensor *t)
{
    return eq_count(t, 0, t->rank);
}

/* ---- checks: each returns EQ_OK or sets the error "op 7 CONV_2D 'name': ..." and returns
 * EQ_ERR_INVALID */
/* Formats: %s %d %u %z (size_t). */
eq_status eq_node_error(const eq_node *node, const char *format, ...);
eq_status eq_check_ref(const eq_node *node, const char *what, uint32_t ref, size_t count,
                       size_t size);
eq_status eq_check_range(const eq_node *node, const char *what, int64_t value, int64_t low,
                         int64_t high);
eq_status eq_check_multiplier(const eq_node *node, const char *what, int32_t m, int32_t e);
eq_status eq_check_dtype(const eq_node *node, const char *what, const eq_file_tensor *t,
                         uint8_t dtype);
/* int8 or int16 */
eq_status eq_check_quantized(const eq_node *node, const char *what, const eq_file_tensor *t);
/* A zero point of t, int8 or int16; and bounds of an activation. */
eq_status eq_check_zero(const eq_node *node, const char *what, const eq_file_tensor *t,
                        int32_t zero);
eq_status eq_check_activation(const eq_node *node, const eq_file_tensor *t, int32_t act_min,
                              int32_t act_max);
eq_status eq_check_rank(const eq_node *node, const char *what, const eq_file_tensor *t,
                        uint32_t rank);
eq_status eq_check_dim(const eq_node *node, const char *what, const eq_file_tensor *t,
                       uint32_t axis, int64_t expected);
eq_status eq_check_same_shape(const eq_node *node, const eq_file_tensor *a,
                              const eq_file_tensor *b);

#define EQ_TRY(call) \
    do { \
        const eq_status eq_try_status_ = (call); \
        if (eq_try_status_ != EQ_OK) \
            return eq_try_status_; \
    } while (0)

#endif
