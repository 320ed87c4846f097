/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory plan of a file: who writes and who reads each tensor when, and that no two tensors
 * that live at the same time share a byte. Runs when all records are checked one by one. */
#include "core/model.h"

#include <string.h>

#define INVALID(...) eq_error(EQ_ERR_INVALID, __VA_ARGS__)

bool eq_tensor_bytes(const eq_file_tensor *t, uint64_t *bytes)
{
    *bytes = eq_dtype_size(t->dtype);
    for (uint32_t i = 0; i < t->rank; i++) {
        *bytes *= (uint64_t)t->dims[i]; /* below 2^31 * 2^31 */
        if (*bytes > EQ_MAX_DIM)
            return false;
    }
    return *bytes > 0;
}

/* Every input of op k was written before, and lives until then; its output begins to live there. */
static eq_status check_op_times(const eq_model *m, const eq_node *node)
{
    const uint32_t step = node->index + 1;
    const eq_file_tensor *out = eq_out(node);

    for (uint32_t i = 0; i < node->op->input_count; i++) {
        const eq_file_tensor *owner = &m->tensors[eq_arg(node, i)->storage];
        if (owner->kind == EQ_KIND_CONST)
            continue;
        if (owner->first_step >= step)
            return eq_node_error(node, "input %u is read before it is written", i);
        if (owner->last_step < step)
            return eq_node_error(node, "input %u is read at step %u, its memory is given up at %u",
                                 i, step, owner->last_step);
    }
    if (out->kind != EQ_KIND_ACTIVATION)
        return eq_node_error(node, "the output is an input, a constant or a view");
    if (out->first_step != step)
        return eq_node_error(node, "the output is written at step %u, the plan says %u", step,
                             out->first_step);
    return EQ_OK;
}

/* The time of an activation's first write is that of the op that writes it, and its last read is
 * real. */
static eq_status check_tensor_times(const eq_model *m)
{
    for (uint32_t i = 0; i < m->tensor_count; i++) {
        const eq_file_tensor *t = &m->tensors[i];
        if (t->kind != EQ_KIND_ACTIVATION && t->kind != EQ_KIND_INPUT)
            continue;
        if (t->kind == EQ_KIND_ACTIVATION) {
            if (t->first_step > m->op_count)
                return INVALID("tensor %u: written at step %u of %u", i, t->first_step,
                               m->op_count);
            const eq_node writer = eq_model_node(m, t->first_step - 1);
            if (writer.args[writer.op->input_count] != i)
                return INVALID("tensor %u: the op of step %u does not write it", i, t->first_step);
        }
        bool found = t->last_step == t->first_step;
        if (t->last_step == m->op_count + 1)
            for (uint32_t k = 0; k < m->entry->output_count; k++)
                found |=
                    m->tensors[m->io[m->entry->io + m->entry->input_count + k].tensor].storage == i;
        else if (t->last_step > t->first_step) {
            const eq_node reader = eq_model_node(m, t->last_step - 1);
            for (uint32_t k = 0; k < reader.op->input_count; k++)
                found |= eq_arg(&reader, k)->storage == i;
        }
        if (!found)
            return INVALID("tensor %u: nothing reads it at step %u, its last", i, t->last_step);
    }
    return EQ_OK;
}

/* May the output `late` lie on `early`, tensor `index`? Only if the op works element by element and
 * this is the last time that anyone needs `early`. */
static bool is_inplace(const eq_model *m, const eq_file_tensor *early, uint32_t index,
                       const eq_file_tensor *late)
{
    if (early->last_step != late->first_step || early->offset != late->offset
        || early->rank != late->rank || memcmp(early->dims, late->dims, sizeof early->dims) != 0
        || eq_dtype_size(early->dtype) != eq_dtype_size(late->dtype))
        return false;
    const eq_node node = eq_model_node(m, late->first_step - 1);
    const char *type;
    size_t params_size;
    if (!eq_op_find(node.op->opcode, &type, &params_size)->inplace)
        return false;
    for (uint32_t i = 0; i < node.op->input_count; i++)
        if (eq_arg(&node, i)->storage == index && node.args[i] != index)
            return false; /* a view of another shape would be read after it was overwritten */
    return true;
}

/* No two tensors that live at the same time share a byte. Tensors are in order of their first step,
 * at most EQ_MAX_TENSORS of them: 2^27 cheap comparisons at worst. */
static eq_status check_overlap(const eq_model *m)
{
    for (uint32_t i = 0; i < m->tensor_count; i++) {
        const eq_file_tensor *late = &m->tensors[i];
        uint64_t late_bytes, early_bytes;
        if (late->kind == EQ_KIND_CONST || late->kind == EQ_KIND_VIEW)
            continue;
        eq_tensor_bytes(late, &late_bytes);
        for (uint32_t k = 0; k < i; k++) {
            const eq_file_tensor *early = &m->tensors[k];
            if (early->last_step < late->first_step || early->kind == EQ_KIND_CONST
                || early->kind == EQ_KIND_VIEW)
                continue;
            eq_tensor_bytes(early, &early_bytes);
            if (early->offset + early_bytes <= late->offset
                || late->offset + late_bytes <= early->offset)
                continue;
            if (late->kind == EQ_KIND_INPUT || !is_inplace(m, early, k, late))
                return INVALID("tensors %u and %u share memory at step %u", k, i, late->first_step);
        }
    }
    return EQ_OK;
}

eq_status eq_plan_check(const eq_model *m)
{
    for (uint32_t k = 0; k < m->op_count; k++) {
        const eq_node node = eq_model_node(m, k);
        EQ_TRY(check_op_times(m, &node));
    }
    EQ_TRY(check_tensor_times(m));
    return check_overlap(m);
}
