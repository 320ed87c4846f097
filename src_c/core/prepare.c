/* SPDX-License-Identifier: Apache-2.0
 *
 * What is computed once for a model on this machine: its nodes, and the weights in the layout of
 * the kernels. Memory: nodes, then the packed weights of each op, aligned to EQ_PACK_ALIGN. */
#include "core/model.h"

/* Packing pads channels to a vector. Without a limit many ops that share one array of weights could
 * ask for any amount of memory. */
enum { GROWTH = 64 };

static size_t nodes_size(const eq_model *m)
{
    return eq_align_up(m->op_count * sizeof(eq_node), EQ_PACK_ALIGN);
}

eq_status eq_prepare_size(const eq_model *m, size_t *bytes)
{
    const uint64_t limit = m->header->file_size * GROWTH;
    uint64_t packed = 0;
    for (uint32_t k = 0; k < m->op_count; k++) {
        const eq_node node = eq_model_node(m, k);
        packed += node.def->pack == NULL ? 0 : node.def->pack(&node, NULL);
        if (packed > limit || packed > PTRDIFF_MAX / 2)
            return eq_error(EQ_ERR_INVALID,
                            "op %u: the packed weights reach %l bytes, %d times the file", k,
                            (int64_t)packed, GROWTH);
    }
    *bytes = nodes_size(m) + (size_t)packed + EQ_PACK_ALIGN;
    return EQ_OK;
}

void eq_prepare(eq_model *m, void *memory)
{
    uint8_t *packed = (uint8_t *)memory + nodes_size(m);
    packed += -(uintptr_t)packed % EQ_PACK_ALIGN;
    m->nodes = memory;
    for (uint32_t k = 0; k < m->op_count; k++) {
        eq_node *node = &m->nodes[k];
        *node = eq_model_node(m, k);
        if (node->def->pack != NULL) {
            const size_t size = node->def->pack(node, packed);
            node->packed = packed;
            packed += size;
        }
        if (node->def->units != NULL)
            node->units = node->def->units(node);
    }
}
