/* SPDX-License-Identifier: Apache-2.0
 *
 * Opens an .eqm file: checks every claim that it makes, so that all code behind it may trust the
 * model. The order is header, sections, strings, tensors, ops, ports, pictures, memory plan;
 * nothing is read before the check that allows it. */
#include "core/model.h"

#include <string.h>

#define INVALID(...) eq_error(EQ_ERR_INVALID, __VA_ARGS__)

/* False on overflow. */
static bool add_size(uint64_t a, uint64_t b, uint64_t *sum)
{
    *sum = a + b;
    return *sum >= a;
}

#define DAMAGED(...) eq_error(EQ_ERR_FORMAT, __VA_ARGS__)

/* ---- header and sections */

static eq_status check_header(const uint8_t *data, size_t size)
{
    const eq_file_header *header = (const eq_file_header *)(const void *)data;
    uint64_t table_end;

    if (size < sizeof *header)
        return DAMAGED("not an .eqm file: %z bytes, a header has 64", size);
    if (memcmp(header->magic, EQ_FILE_MAGIC, 8) != 0)
        return DAMAGED("not an .eqm file: it does not begin with the signature");
    if (header->major != EQ_FILE_MAJOR)
        return eq_error(EQ_ERR_VERSION, "file format %u.%u; this edgeq %s reads %u.x",
                        (uint32_t)header->major, (uint32_t)header->minor, eq_version(),
                        (uint32_t)EQ_FILE_MAJOR);
    if (header->file_size != size)
        return DAMAGED("truncated or extended: %z bytes, the header says %l", size,
                       (int64_t)header->file_size);
    if (header->section_count > EQ_MAX_SECTIONS)
        return DAMAGED("%u sections, at most %u", header->section_count, EQ_MAX_SECTIONS);
    table_end = sizeof *header + (uint64_t)header->section_count * sizeof(eq_file_section);
    if (table_end > size)
        return DAMAGED("the section table ends behind the file");

    const size_t crc_at = offsetof(eq_file_header, header_crc);
    uint8_t copy[sizeof *header + EQ_MAX_SECTIONS * sizeof(eq_file_section)];
    memcpy(copy, data, (size_t)table_end);
    memset(copy + crc_at, 0, sizeof header->header_crc);
    if (eq_crc32(copy, (size_t)table_end) != header->header_crc)
        return DAMAGED("the header's checksum does not match");
    for (size_t i = 0; i < sizeof header->reserved / sizeof header->reserved[0]; i++)
        if (header->minor <= EQ_FILE_MINOR && header->reserved[i] != 0)
            return INVALID("reserved header fields are not 0");
    if (header->arena_size > EQ_MAX_DIM)
        return INVALID("the arena has %l bytes, at most %d", (int64_t)header->arena_size,
                       EQ_MAX_DIM);
    return EQ_OK;
}

/* Where a section's records go. */
typedef struct section_slot {
    uint32_t type;
    const char *name;
    size_t record;  /* bytes a record */
    uint64_t limit; /* records */
    bool required;
    const void **start;
    uint64_t count;
    bool seen;
} section_slot;

static eq_status read_section(const uint8_t *data, const eq_file_section *s, section_slot *slots,
                              size_t slot_count)
{
    for (size_t i = 0; i < slot_count; i++) {
        section_slot *slot = &slots[i];
        if (s->type != slot->type)
            continue;
        if (slot->seen)
            return INVALID("two %s sections", slot->name);
        if (s->flags & ~EQ_SECTION_REQUIRED)
            return eq_error(EQ_ERR_VERSION, "section %s has unknown flags", slot->name);
        if (s->layout != 0)
            return eq_error(EQ_ERR_UNSUPPORTED, "section %s is packed in layout %u, unknown here",
                            slot->name, s->layout);
        if (s->size % slot->record != 0)
            return INVALID("section %s has %l bytes, not a multiple of %z", slot->name,
                           (int64_t)s->size, slot->record);
        slot->count = s->size / slot->record;
        if (slot->count > slot->limit)
            return INVALID("section %s has %l records, at most %l", slot->name,
                           (int64_t)slot->count, (int64_t)slot->limit);
        slot->seen = true;
        *slot->start = data + s->offset;
        return EQ_OK;
    }
    if (s->flags & EQ_SECTION_REQUIRED)
        return eq_error(EQ_ERR_VERSION, "section type %u is required, but unknown to edgeq %s",
                        s->type, eq_version());
    return EQ_OK;
}

static bool is_zero(const uint8_t *p, const uint8_t *end)
{
    while (p < end && *p == 0)
        p++;
    return p == end;
}

static eq_status read_sections(eq_model *m, const uint8_t *data, size_t size)
{
    const void *start[11] = {0};
    section_slot slots[] = {
        {EQ_SEC_TENSORS, "TENS", sizeof(eq_file_tensor), EQ_MAX_TENSORS, true, &start[0], 0, false},
        {EQ_SEC_OPS, "OPS", sizeof(eq_file_op), EQ_MAX_OPS, true, &start[1], 0, false},
        {EQ_SEC_ARGS, "ARGS", 4, 1u << 20, true, &start[2], 0, false},
        {EQ_SEC_PARAMS, "PARM", 1, 1u << 26, true, &start[3], 0, false},
        {EQ_SEC_IO, "IO", sizeof(eq_file_io), EQ_MAX_IO, true, &start[4], 0, false},
        {EQ_SEC_ENTRY, "ENTR", sizeof(eq_file_entry), 64, true, &start[5], 0, false},
        {EQ_SEC_STRINGS, "STRS", 1, 1u << 26, true, &start[6], 0, false},
        {EQ_SEC_META, "META", sizeof(eq_file_meta), 4096, false, &start[7], 0, false},
        {EQ_SEC_GOLDEN, "GOLD", sizeof(eq_file_golden), 4096, false, &start[8], 0, false},
        {EQ_SEC_DATA, "DATA", 1, EQ_NONE, true, &start[9], 0, false},
        {EQ_SEC_PICTURE, "PICT", sizeof(eq_file_picture), EQ_MAX_IO, false, &start[10], 0, false},
    };
    const size_t slot_count = sizeof slots / sizeof slots[0];
    const eq_file_section *table =
        (const eq_file_section *)(const void *)(data + sizeof *m->header);
    uint64_t previous = sizeof *m->header + m->header->section_count * sizeof *table;

    for (uint32_t i = 0; i < m->header->section_count; i++) {
        const eq_file_section *s = &table[i];
        uint64_t end;
        const uint32_t align = s->type == EQ_SEC_DATA ? EQ_DATA_ALIGN : EQ_SECTION_ALIGN;
        if (s->offset % align != 0)
            return INVALID("section %u begins at %l, not a multiple of %u", i, (int64_t)s->offset,
                           align);
        if (s->offset < previous || !add_size(s->offset, s->size, &end) || end > size)
            return INVALID("section %u overlaps another or ends behind the file", i);
        if (!is_zero(data + previous, data + s->offset))
            return INVALID("section %u: the padding ahead of it is not 0", i);
        previous = end;
        if (eq_crc32(data + s->offset, (size_t)s->size) != s->crc)
            return DAMAGED("the checksum of section %u does not match", i);
        EQ_TRY(read_section(data, s, slots, slot_count));
    }
    if (previous != size)
        return INVALID("%l bytes follow the last section", (int64_t)(size - previous));
    for (size_t i = 0; i < slot_count; i++)
        if (slots[i].required && !slots[i].seen)
            return INVALID("section %s is missing", slots[i].name);
    if (slots[5].count != 1)
        return eq_error(EQ_ERR_UNSUPPORTED, "%l entry points; this edgeq %s runs files with one",
                        (int64_t)slots[5].count, eq_version());

    m->tensors = start[0];
    m->ops = start[1];
    m->args = start[2];
    m->params = start[3];
    m->io = start[4];
    m->entry = start[5];
    m->strings = start[6];
    m->meta = start[7];
    m->golden = start[8];
    m->data = start[9];
    m->tensor_count = (uint32_t)slots[0].count;
    m->op_count = (uint32_t)slots[1].count;
    m->arg_count = (uint32_t)slots[2].count;
    m->params_size = (size_t)slots[3].count;
    m->io_count = (uint32_t)slots[4].count;
    m->strings_size = (size_t)slots[6].count;
    m->meta_count = (uint32_t)slots[7].count;
    m->golden_count = (uint32_t)slots[8].count;
    m->data_size = (size_t)slots[9].count;
    m->pictures = start[10];
    m->picture_count = (uint32_t)slots[10].count;
    return EQ_OK;
}

static eq_status check_string(const eq_model *m, const char *what, uint32_t index, uint32_t str)
{
    if (str >= m->strings_size)
        return INVALID("%s %u: its string lies at %u of %z bytes", what, index, str,
                       m->strings_size);
    return EQ_OK;
}

static eq_status check_strings(const eq_model *m)
{
    if (m->strings_size == 0 || m->strings[0] != '\0' || m->strings[m->strings_size - 1] != '\0')
        return INVALID("section STRS does not begin and end with NUL");
    for (uint32_t i = 0; i < m->meta_count; i++) {
        EQ_TRY(check_string(m, "metadata key", i, m->meta[i].key));
        EQ_TRY(check_string(m, "metadata value", i, m->meta[i].value));
    }
    for (uint32_t i = 0; i < m->golden_count; i++)
        if (m->golden[i].entry != 0 || m->golden[i].reserved != 0)
            return INVALID("golden case %u: entry %u does not exist", i, m->golden[i].entry);
    return check_string(m, "entry", 0, m->entry->name);
}

/* ---- tensors */

/* A finite positive float32, or 0. */
static bool is_scale(uint32_t bits)
{
    return bits < 0x7F800000u;
}

static eq_status check_view(const eq_model *m, uint32_t i, uint64_t bytes)
{
    const eq_file_tensor *t = &m->tensors[i];
    uint64_t owner_bytes;

    if (t->storage >= m->tensor_count || m->tensors[t->storage].kind == EQ_KIND_VIEW)
        return INVALID("tensor %u: a view of tensor %u, which owns nothing", i, t->storage);
    const eq_file_tensor *owner = &m->tensors[t->storage];
    /* The owner's own record may come later: its dimensions are used only after they were checked.
     */
    if (owner->rank > EQ_MAX_RANK)
        return INVALID("tensor %u: rank %u, at most %u", t->storage, (uint32_t)owner->rank,
                       (uint32_t)EQ_MAX_RANK);
    for (uint32_t d = 0; d < owner->rank; d++)
        if (owner->dims[d] < 1)
            return INVALID("tensor %u: dimension %u is %d", t->storage, d, owner->dims[d]);
    if (owner->dtype != t->dtype || !eq_tensor_bytes(owner, &owner_bytes) || owner_bytes != bytes)
        return INVALID("tensor %u: a view of tensor %u with another dtype or size", i, t->storage);
    if (owner->offset != t->offset || owner->first_step != t->first_step
        || owner->last_step != t->last_step)
        return INVALID("tensor %u: a view that does not repeat its owner's place and time", i);
    return EQ_OK;
}

static eq_status check_place(const eq_model *m, uint32_t i, uint64_t bytes)
{
    const eq_file_tensor *t = &m->tensors[i];
    uint64_t end;

    if (t->storage != i)
        return INVALID("tensor %u: storage %u, but it is no view", i, t->storage);
    if (t->kind == EQ_KIND_CONST) {
        if (t->offset % eq_dtype_size(t->dtype) != 0)
            return INVALID("tensor %u: constant at %l is not aligned", i, (int64_t)t->offset);
        if (!add_size(t->offset, bytes, &end) || end > m->data_size)
            return INVALID("tensor %u: constant ends behind section DATA", i);
        if (t->first_step != 0 || t->last_step != 0)
            return INVALID("tensor %u: a constant with a lifetime", i);
        return EQ_OK;
    }
    if (t->offset % EQ_ARENA_ALIGN != 0)
        return INVALID("tensor %u: arena offset %l is not a multiple of %u", i, (int64_t)t->offset,
                       EQ_ARENA_ALIGN);
    if (!add_size(t->offset, bytes, &end) || end > m->header->arena_size)
        return INVALID("tensor %u: ends behind the arena of %l bytes", i,
                       (int64_t)m->header->arena_size);
    if (t->first_step > t->last_step || t->last_step > m->op_count + 1)
        return INVALID("tensor %u: lives from step %u to %u of %u", i, t->first_step, t->last_step,
                       m->op_count + 1);
    if ((t->kind == EQ_KIND_INPUT) != (t->first_step == 0))
        return INVALID("tensor %u: written at step %u", i, t->first_step);
    return EQ_OK;
}

static eq_status check_tensors(const eq_model *m)
{
    uint32_t previous_step = 0;
    for (uint32_t i = 0; i < m->tensor_count; i++) {
        const eq_file_tensor *t = &m->tensors[i];
        uint64_t bytes;

        if (eq_dtype_size(t->dtype) == 0 || t->dtype == EQ_DT_FLOAT32)
            return eq_error(EQ_ERR_UNSUPPORTED, "tensor %u: dtype %u is unknown to edgeq %s", i,
                            (uint32_t)t->dtype, eq_version());
        if (t->kind > EQ_KIND_VIEW)
            return eq_error(EQ_ERR_UNSUPPORTED, "tensor %u: kind %u is unknown to edgeq %s", i,
                            (uint32_t)t->kind, eq_version());
        if (t->rank > EQ_MAX_RANK)
            return INVALID("tensor %u: rank %u, at most %u", i, (uint32_t)t->rank,
                           (uint32_t)EQ_MAX_RANK);
        for (uint32_t d = 0; d < EQ_MAX_RANK; d++)
            if (d < t->rank ? t->dims[d] < 1 : t->dims[d] != 1)
                return INVALID("tensor %u: dimension %u is %d", i, d, t->dims[d]);
        if (!eq_tensor_bytes(t, &bytes))
            return INVALID("tensor %u: 2^31 bytes or more", i);
        if (t->flags != 0)
            return INVALID("tensor %u: flags are not 0", i);
        if (!is_scale(t->scale))
            return INVALID("tensor %u: the scale is negative or not finite", i);
        if (t->kind == EQ_KIND_VIEW) {
            EQ_TRY(check_view(m, i, bytes));
            continue;
        }
        EQ_TRY(check_place(m, i, bytes));
        if (t->kind != EQ_KIND_CONST) {
            if (t->first_step < previous_step)
                return INVALID("tensor %u: not in order of first use", i);
            previous_step = t->first_step;
        }
    }
    return EQ_OK;
}

/* ---- ops */

eq_node eq_model_node(const eq_model *m, uint32_t index)
{
    const eq_file_op *op = &m->ops[index];
    const char *type;
    size_t params_size;
    const eq_node node = {
        .op = op,
        .def = eq_op_find(op->opcode, &type, &params_size),
        .params = m->params + op->params,
        .tensors = m->tensors,
        .args = m->args + op->args,
        .data = m->data,
        .data_size = m->data_size,
        .kernels = &m->kernels.slots,
        .name = m->strings + op->name,
        .index = index,
    };
    return node;
}

/* The record of op k, without its parameters' meaning. */
static eq_status check_op(const eq_model *m, uint32_t k, const eq_op_def **def)
{
    const eq_file_op *op = &m->ops[k];
    const char *type;
    size_t params_size;
    const uint64_t arg_end = (uint64_t)op->args + op->input_count + op->output_count;

    *def = eq_op_find(op->opcode, &type, &params_size);
    if (*def == NULL)
        return eq_error(EQ_ERR_UNSUPPORTED, "op %u: opcode %u is unknown to edgeq %s", k,
                        (uint32_t)op->opcode, eq_version());
    if (op->flags != 0)
        return INVALID("op %u %s: flags are not 0", k, type);
    if (op->input_count < (*def)->min_inputs || op->input_count > (*def)->max_inputs
        || op->output_count != 1)
        return INVALID("op %u %s: %u inputs and %u outputs", k, type, (uint32_t)op->input_count,
                       (uint32_t)op->output_count);
    if (arg_end > m->arg_count)
        return INVALID("op %u %s: its arguments end behind section ARGS", k, type);
    for (uint32_t i = 0; i < (uint32_t)op->input_count + op->output_count; i++)
        if (m->args[op->args + i] >= m->tensor_count)
            return INVALID("op %u %s: argument %u is tensor %u of %u", k, type, i,
                           m->args[op->args + i], m->tensor_count);
    if (op->params_size != params_size || op->params % 4 != 0
        || (uint64_t)op->params + op->params_size > m->params_size)
        return INVALID("op %u %s: %u bytes of parameters at %u of %z", k, type, op->params_size,
                       op->params, m->params_size);
    return check_string(m, "op", k, op->name);
}

/* ---- ports */

static eq_status check_port(const eq_model *m, uint32_t index, bool is_input)
{
    const eq_file_io *io = &m->io[index];

    EQ_TRY(check_string(m, "port", index, io->name));
    EQ_TRY(check_string(m, "port", index, io->labels));
    if (io->tensor >= m->tensor_count)
        return INVALID("port %u: tensor %u of %u", index, io->tensor, m->tensor_count);
    const eq_file_tensor *t = &m->tensors[io->tensor];
    const eq_file_tensor *owner = &m->tensors[t->storage];
    if (is_input ? t->kind != EQ_KIND_INPUT
                 : owner->kind != EQ_KIND_ACTIVATION || owner->last_step != m->op_count + 1)
        return INVALID("port %u: tensor %u is no %s", index, io->tensor,
                       is_input ? "input" : "output");
    if (!is_scale(io->scale))
        return INVALID("port %u: the scale is negative or not finite", index);
    if (io->reserved[0] | io->reserved[1] | io->reserved[2])
        return INVALID("port %u: reserved fields are not 0", index);

    const bool is_u8 = io->dtype == EQ_DT_UINT8 && t->dtype == EQ_DT_INT8;
    const bool is_float =
        io->dtype == EQ_DT_FLOAT32 && (t->dtype == EQ_DT_INT8 || t->dtype == EQ_DT_INT16);
    const int64_t shift = is_u8 ? 128 : 0;
    if (io->dtype != t->dtype && !is_u8 && !is_float)
        return INVALID("port %u: dtype %u cannot stand for tensor %u of dtype %u", index,
                       (uint32_t)io->dtype, io->tensor, (uint32_t)t->dtype);
    if (is_float && io->scale == 0)
        return INVALID("port %u: float32 without a scale", index);
    if (t->dtype == EQ_DT_INT8 && (io->zero_point - shift < -128 || io->zero_point - shift > 127))
        return INVALID("port %u: zero point %d", index, io->zero_point);
    if (t->dtype == EQ_DT_INT16 && io->zero_point != 0)
        return INVALID("port %u: zero point %d of int16", index, io->zero_point);
    return EQ_OK;
}

static eq_status check_ports(const eq_model *m)
{
    const eq_file_entry *e = m->entry;
    uint32_t inputs = 0;

    if (e->first_op != 0 || e->op_count != m->op_count)
        return INVALID("the entry runs ops %u + %u of %u", e->first_op, e->op_count, m->op_count);
    if ((uint64_t)e->io + e->input_count + e->output_count > m->io_count || e->output_count == 0)
        return INVALID("the entry has %u inputs and %u outputs of %u ports", e->input_count,
                       e->output_count, m->io_count);
    for (uint32_t i = 0; i < e->input_count + e->output_count; i++)
        EQ_TRY(check_port(m, e->io + i, i < e->input_count));
    for (uint32_t i = 0; i < e->input_count; i++)
        for (uint32_t k = 0; k < i; k++)
            if (m->io[e->io + i].tensor == m->io[e->io + k].tensor)
                return INVALID("ports %u and %u are the same input", k, i);
    for (uint32_t i = 0; i < m->tensor_count; i++)
        inputs += m->tensors[i].kind == EQ_KIND_INPUT;
    if (inputs != e->input_count)
        return INVALID("%u input tensors, %u input ports", inputs, e->input_count);
    return EQ_OK;
}

eq_status eq_model_parse(eq_model *m, const void *data, size_t size)
{
    const eq_op_def *def;
    uint64_t args = 0;
    uint32_t isa, features;

    memset(m, 0, sizeof *m);
    if (data == NULL)
        return eq_error(EQ_ERR_ARGUMENT, "the file's data is NULL");
    if (!eq_is_aligned(data, 16))
        return eq_error(EQ_ERR_ARGUMENT, "the file's data is not aligned to 16 bytes");
    const uint16_t one = 1;
    if (*(const uint8_t *)&one != 1)
        return eq_error(EQ_ERR_UNSUPPORTED, "edgeq runs on little-endian machines only");

    EQ_TRY(check_header(data, size));
    m->header = data;
    EQ_TRY(eq_isa_choose(&isa, &features));
    eq_kernels_select(&m->kernels, isa, features);
    EQ_TRY(read_sections(m, data, size));
    EQ_TRY(check_strings(m));
    EQ_TRY(check_tensors(m));
    for (uint32_t k = 0; k < m->op_count; k++)
        args += (uint64_t)m->ops[k].input_count + m->ops[k].output_count;
    if (args > m->arg_count)
        return INVALID("the ops have more arguments than section ARGS: %l of %u", (int64_t)args,
                       m->arg_count);
    for (uint32_t k = 0; k < m->op_count; k++)
        EQ_TRY(check_op(m, k, &def));
    EQ_TRY(check_ports(m));
    EQ_TRY(eq_pictures_check(m));
    EQ_TRY(eq_plan_check(m));
    for (uint32_t k = 0; k < m->op_count; k++) {
        const eq_node node = eq_model_node(m, k);
        EQ_TRY(node.def->validate(&node));
        const size_t scratch =
            node.def->scratch ? eq_align_up(node.def->scratch(&node), EQ_PACK_ALIGN) : 0;
        m->scratch_size = scratch > m->scratch_size ? scratch : m->scratch_size;
    }
    const size_t scratch = eq_align_up(eq_pictures_scratch(m), EQ_PACK_ALIGN);
    m->scratch_size = scratch > m->scratch_size ? scratch : m->scratch_size;
    return EQ_OK;
}
