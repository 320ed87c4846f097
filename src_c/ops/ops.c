/* SPDX-License-Identifier: Apache-2.0
 * The list of operators. */
#include "ops/ops.h"

#define EQ_OP(opcode, name, def, params_size) extern const eq_op_def def;
#include "ops/ops.def"
#undef EQ_OP

const eq_op_def *eq_op_find(uint32_t opcode, const char **name, size_t *params_size)
{
    switch (opcode) {
#define EQ_OP(code, text, def, bytes) \
    case code: \
        *name = #text; \
        *params_size = (bytes); \
        return &def;
#include "ops/ops.def"
#undef EQ_OP
    default: return NULL;
    }
}

size_t eq_dtype_size(uint8_t dtype)
{
    switch (dtype) {
    case EQ_DT_INT8:
    case EQ_DT_UINT8:
    case EQ_DT_BOOL: return 1;
    case EQ_DT_INT16: return 2;
    case EQ_DT_INT32:
    case EQ_DT_FLOAT32: return 4;
    case EQ_DT_INT64: return 8;
    default: return 0;
    }
}
