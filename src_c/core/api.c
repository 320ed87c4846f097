/* SPDX-License-Identifier: Apache-2.0
 * Model handles: where they come from, and what they answer. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "core/model.h"

#include <string.h>

#ifndef EQ_NO_HEAP
#include <stdlib.h>
#endif
#ifndef EQ_NO_FILES
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

enum { HANDLE_SIZE = (sizeof(eq_model) + 15) & ~15u };

/* A parsed model, and the bytes of its handle with all that is prepared. */
static eq_status parse(const void *data, size_t size, eq_model *model, size_t *bytes)
{
    EQ_TRY(eq_model_parse(model, data, size));
    EQ_TRY(eq_prepare_size(model, bytes));
    *bytes += HANDLE_SIZE;
    return EQ_OK;
}

static eq_model *place(const eq_model *parsed, void *memory)
{
    eq_model *m = memory;
    *m = *parsed;
    eq_prepare(m, (uint8_t *)memory + HANDLE_SIZE);
    return m;
}

EQ_API eq_status eq_model_size(const void *data, size_t size, size_t *bytes)
{
    eq_model model;
    if (bytes == NULL)
        return eq_error(EQ_ERR_ARGUMENT, "bytes is NULL");
    return parse(data, size, &model, bytes);
}

EQ_API eq_status eq_model_open_in(void *memory, size_t bytes, const void *data, size_t size,
                                  eq_model **model)
{
    eq_model parsed;
    size_t needed = 0;
    if (model == NULL)
        return eq_error(EQ_ERR_ARGUMENT, "model is NULL");
    *model = NULL;
    if (memory == NULL || !eq_is_aligned(memory, 16))
        return eq_error(EQ_ERR_MEMORY,
                        "the memory for the model is NULL or not aligned to 16 bytes");
    EQ_TRY(parse(data, size, &parsed, &needed));
    if (bytes < needed)
        return eq_error(EQ_ERR_MEMORY, "%z bytes for the model, it needs %z", bytes, needed);
    *model = place(&parsed, memory);
    return EQ_OK;
}

EQ_API eq_status eq_model_open(const void *data, size_t size, eq_model **model)
{
    if (model == NULL)
        return eq_error(EQ_ERR_ARGUMENT, "model is NULL");
    *model = NULL;
#ifdef EQ_NO_HEAP
    (void)data, (void)size;
    return eq_error(EQ_ERR_UNSUPPORTED, "built without a heap: use eq_model_open_in");
#else
    eq_model parsed;
    size_t bytes = 0;
    EQ_TRY(parse(data, size, &parsed, &bytes));
    void *memory = malloc(bytes);
    if (memory == NULL)
        return eq_error(EQ_ERR_MEMORY, "no memory for a model of %z bytes", bytes);
    *model = place(&parsed, memory);
    (*model)->owned = true;
    return EQ_OK;
#endif
}

EQ_API eq_status eq_model_open_file(const char *path, eq_model **model)
{
    if (path == NULL || model == NULL)
        return eq_error(EQ_ERR_ARGUMENT, "path or model is NULL");
    *model = NULL;
#ifdef EQ_NO_FILES
    return eq_error(EQ_ERR_UNSUPPORTED, "built without files: use eq_model_open");
#else
    struct stat info;
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return eq_error(EQ_ERR_IO, "%s: %s", path, strerror(errno));
    if (fstat(file, &info) != 0 || !S_ISREG(info.st_mode)) {
        close(file);
        return eq_error(EQ_ERR_IO, "%s: not a regular file", path);
    }
    if (info.st_size < (off_t)sizeof(eq_file_header) || (uint64_t)info.st_size > PTRDIFF_MAX) {
        close(file);
        return eq_error(EQ_ERR_FORMAT, "%s: not an .eqm file: %l bytes", path,
                        (int64_t)info.st_size);
    }
    const size_t size = (size_t)info.st_size;
    void *map = mmap(NULL, size, PROT_READ, MAP_PRIVATE, file, 0);
    close(file);
    if (map == MAP_FAILED)
        return eq_error(EQ_ERR_IO, "%s: %s", path, strerror(errno));
    const eq_status status = eq_model_open(map, size, model);
    if (status != EQ_OK) {
        munmap(map, size);
        return status;
    }
    (*model)->map = map;
    (*model)->map_size = size;
    return EQ_OK;
#endif
}

EQ_API void eq_model_close(eq_model *model)
{
    if (model == NULL)
        return;
#ifndef EQ_NO_FILES
    if (model->map != NULL)
        munmap(model->map, model->map_size);
#endif
#ifndef EQ_NO_HEAP
    if (model->owned)
        free(model);
#endif
}

EQ_API uint32_t eq_model_input_count(const eq_model *model)
{
    return model->entry->input_count;
}

EQ_API uint32_t eq_model_output_count(const eq_model *model)
{
    return model->entry->output_count;
}

EQ_API eq_status eq_model_input(const eq_model *model, uint32_t index, eq_tensor_info *info)
{
    if (model == NULL || info == NULL || index >= model->entry->input_count)
        return eq_error(EQ_ERR_ARGUMENT, "no input %u", index);
    *info = model->ports[index];
    return EQ_OK;
}

EQ_API eq_status eq_model_output(const eq_model *model, uint32_t index, eq_tensor_info *info)
{
    if (model == NULL || info == NULL || index >= model->entry->output_count)
        return eq_error(EQ_ERR_ARGUMENT, "no output %u", index);
    *info = model->ports[model->entry->input_count + index];
    return EQ_OK;
}

EQ_API const char *eq_model_metadata(const eq_model *model, const char *key)
{
    for (uint32_t i = 0; i < model->meta_count; i++)
        if (strcmp(model->strings + model->meta[i].key, key) == 0)
            return model->strings + model->meta[i].value;
    return NULL;
}

EQ_API uint32_t eq_model_op_count(const eq_model *model)
{
    return model->op_count;
}

EQ_API const char *eq_model_op_name(const eq_model *model, uint32_t op)
{
    return op < model->op_count ? model->strings + model->ops[op].name : "";
}

EQ_API const char *eq_model_op_type(const eq_model *model, uint32_t op)
{
    const char *type = "";
    size_t size;
    if (op < model->op_count)
        eq_op_find(model->ops[op].opcode, &type, &size);
    return type;
}

/* How the op is done, and the slot that does it. */
static const char *path_of(const eq_model *model, uint32_t op, size_t *slot)
{
    const eq_node *node = &model->nodes[op];
    *slot = node->def->slot;
    return node->def->path != NULL ? node->def->path(node, slot) : node->def->why;
}

EQ_API const char *eq_model_op_kernel(const eq_model *model, uint32_t op)
{
    size_t slot;
    if (op >= model->op_count)
        return "";
    path_of(model, op, &slot);
    return slot == EQ_NO_SLOT ? "" : eq_isa_name(model->kernels.isa_of[slot - 1]);
}

EQ_API const char *eq_model_op_slot(const eq_model *model, uint32_t op)
{
    static const char *const names[EQ_SLOTS + 1] = {
#define SLOT(name) [EQ_SLOT(name)] = #name
        SLOT(gemm),         SLOT(conv),    SLOT(depthwise),   SLOT(add),      SLOT(mul),
        SLOT(maximum),      SLOT(minimum), SLOT(prelu),       SLOT(lut),      SLOT(max_pool),
        SLOT(average_pool), SLOT(sum),     SLOT(sum_rows),    SLOT(bilinear), SLOT(bilinear_u8),
        SLOT(transpose),    SLOT(softmax), SLOT(log_softmax), SLOT(gemm16),   SLOT(conv16),
        SLOT(depthwise16),  SLOT(add16),   SLOT(mul16),       SLOT(rescale),  SLOT(interpolate),
#undef SLOT
    };
    size_t slot = EQ_NO_SLOT;
    if (op < model->op_count)
        path_of(model, op, &slot);
    return names[slot] == NULL ? "" : names[slot];
}

EQ_API const char *eq_model_op_why(const eq_model *model, uint32_t op)
{
    size_t slot;
    return op < model->op_count ? path_of(model, op, &slot) : "";
}

EQ_API size_t eq_model_op_packed(const eq_model *model, uint32_t op)
{
    if (op >= model->op_count || model->nodes[op].def->pack == NULL)
        return 0;
    return model->nodes[op].def->pack(&model->nodes[op], NULL);
}

EQ_API const char *eq_model_isa(const eq_model *model)
{
    return eq_isa_name(model->kernels.isa);
}

EQ_API uint32_t eq_model_golden_count(const eq_model *model)
{
    return model->golden_count;
}
