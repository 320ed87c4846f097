/* SPDX-License-Identifier: Apache-2.0
 *
 * What is computed once for a model on this machine: its nodes, the descriptions of inputs and
 * outputs, the weights in the layout of the kernels. Memory: in that order; the packed weights of
 * each op are aligned to EQ_PACK_ALIGN. */
#include "core/model.h"

#include <string.h>

/* Packing pads channels to a vector. Without a limit many ops that share one array of weights could
 * ask for any amount of memory. */
enum { GROWTH = 64 };

static uint32_t port_count(const eq_model *m)
{
    return m->entry->input_count + m->entry->output_count;
}

static size_t ports_offset(const eq_model *m)
{
    return eq_align_up(m->op_count * sizeof(eq_node), 16);
}

static size_t packed_offset(const eq_model *m)
{
    return ports_offset(m) + eq_align_up(port_count(m) * sizeof(eq_tensor_info), 16);
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
    *bytes = packed_offset(m) + (size_t)packed + EQ_PACK_ALIGN;
    return EQ_OK;
}

static eq_tensor_info describe_port(const eq_model *m, uint32_t port)
{
    const eq_file_io *io = &m->io[m->entry->io + port];
    const eq_file_tensor *t = &m->tensors[io->tensor];
    eq_tensor_info info = {0};
    info.name = m->strings + io->name;
    info.dtype = (eq_dtype)io->dtype;
    info.rank = t->rank;
    memcpy(info.shape, t->dims, sizeof info.shape);
    info.bytes = eq_elements(t) * eq_dtype_size(io->dtype);
    memcpy(&info.scale, &io->scale, sizeof io->scale);
    info.zero_point = io->zero_point;
    info.storage = (eq_dtype)t->dtype;
    info.storage_zero_point =
        io->zero_point - (info.dtype == EQ_UINT8 && info.storage == EQ_INT8 ? 128 : 0);
    info.labels = m->strings + io->labels;
    return info;
}

/* What splitting an op is decided by: right within a factor of two or three. Layers with weights:
 * multiply-accumulates, plus about 32 of them for an output and 8 to fetch a weight. Tuned on one
 * core of a desktop processor; the ratio of a split's cost to that is alike elsewhere. */
static uint64_t estimate_work(const eq_model *m, const eq_node *node)
{
    size_t slot = node->def->slot;
    if (node->def->path != NULL)
        node->def->path(node, &slot);
    const uint32_t isa = slot == EQ_NO_SLOT ? 0 : m->kernels.isa_of[slot - 1];
    const uint64_t x = eq_elements(eq_arg(node, 0)), y = eq_elements(eq_out(node));
    if (node->def->pack == NULL)
        return isa == EQ_ISA_scalar ? (x > y ? x : y) * 2 : (x > y ? x : y) / 8;
    const eq_file_tensor *w = eq_arg(node, 1);
    const uint64_t weights = eq_elements(w);
    const bool depthwise = slot == EQ_SLOT(depthwise) || slot == EQ_SLOT(depthwise16);
    const uint64_t window = depthwise ? eq_count(w, 1, 3) * 8 : eq_count(w, 1, w->rank);
    return (y * (window + 32) + weights * 8) / eq_isa_speed(isa);
}

void eq_prepare(eq_model *m, void *memory)
{
    uint8_t *packed = (uint8_t *)memory + packed_offset(m);
    packed += -(uintptr_t)packed % EQ_PACK_ALIGN;
    m->nodes = memory;
    m->ports = (eq_tensor_info *)(void *)((uint8_t *)memory + ports_offset(m));
    for (uint32_t i = 0; i < port_count(m); i++)
        m->ports[i] = describe_port(m, i);
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
        node->work = estimate_work(m, node);
    }
}
