/* SPDX-License-Identifier: Apache-2.0
 * The last error of each thread, and the sentences that checks put there. */
#include <stdarg.h>

#include "core/model.h"

#ifdef EQ_NO_THREADS
#define EQ_THREAD_LOCAL
#else
#define EQ_THREAD_LOCAL _Thread_local
#endif

typedef struct text {
    char chars[320];
    size_t length;
} text;

static EQ_THREAD_LOCAL text last_error;

static void put_char(text *t, char c)
{
    if (t->length + 1 < sizeof t->chars)
        t->chars[t->length++] = c;
    t->chars[t->length] = '\0';
}

/* Names come from files: control characters are shown as '?', and a name does not fill the
 * sentence. */
static void put_string(text *t, const char *s)
{
    for (size_t i = 0; s[i] && i < 120; i++)
        put_char(t, (unsigned char)s[i] < 32 || s[i] == 127 ? '?' : s[i]);
}

static void put_unsigned(text *t, uint64_t value)
{
    char digits[20];
    size_t n = 0;
    do
        digits[n++] = (char)('0' + value % 10);
    while (value /= 10);
    while (n)
        put_char(t, digits[--n]);
}

static void put_signed(text *t, int64_t value)
{
    if (value < 0)
        put_char(t, '-');
    put_unsigned(t, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

static void put_format(text *t, const char *format, va_list args)
{
    for (const char *f = format; *f; f++) {
        if (*f != '%') {
            put_char(t, *f);
            continue;
        }
        switch (*++f) {
        case 's': put_string(t, va_arg(args, const char *)); break;
        case 'd': put_signed(t, va_arg(args, int32_t)); break;
        case 'u': put_unsigned(t, va_arg(args, uint32_t)); break;
        case 'z': put_unsigned(t, va_arg(args, size_t)); break;
        case 'l': put_signed(t, va_arg(args, int64_t)); break;
        default: put_char(t, *f); break;
        }
    }
}

EQ_API const char *eq_last_error(void)
{
    return last_error.chars;
}

eq_status eq_error(eq_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    last_error.length = 0;
    put_format(&last_error, format, args);
    va_end(args);
    return status;
}

static void start_node_error(const eq_node *node)
{
    const char *type = "?";
    size_t size;
    eq_op_find(node->op->opcode, &type, &size);
    last_error.length = 0;
    put_string(&last_error, "op ");
    put_unsigned(&last_error, node->index);
    put_char(&last_error, ' ');
    put_string(&last_error, type);
    put_string(&last_error, " '");
    put_string(&last_error, node->name);
    put_string(&last_error, "': ");
}

eq_status eq_node_error(const eq_node *node, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    start_node_error(node);
    put_format(&last_error, format, args);
    va_end(args);
    return EQ_ERR_INVALID;
}

eq_status eq_check_ref(const eq_node *node, const char *what, uint32_t ref, size_t count,
                       size_t size)
{
    const uint64_t bytes = (uint64_t)count * size; /* counts are tensor dimensions: below 2^31 */
    if (ref == EQ_NONE)
        return eq_node_error(node, "%s is missing", what);
    if (ref % size != 0)
        return eq_node_error(node, "%s at %u is not aligned to %z", what, ref, size);
    if (ref > node->data_size || bytes > node->data_size - ref)
        return eq_node_error(node, "%s at %u, %z items of %z bytes, ends behind DATA of %z bytes",
                             what, ref, count, size, node->data_size);
    return EQ_OK;
}

eq_status eq_check_range(const eq_node *node, const char *what, int64_t value, int64_t low,
                         int64_t high)
{
    if (value < low || value > high)
        return eq_node_error(node, "%s is %l, must be in [%l, %l]", what, value, low, high);
    return EQ_OK;
}

eq_status eq_check_multiplier(const eq_node *node, const char *what, int32_t m, int32_t e)
{
    if (m != 0 && m < (1 << 30))
        return eq_node_error(node, "%s is %d, must be 0 or in [2^30, 2^31)", what, m);
    if (e < -31 || e > 30)
        return eq_node_error(node, "exponent of %s is %d, must be in [-31, 30]", what, e);
    return EQ_OK;
}

eq_status eq_check_dtype(const eq_node *node, const char *what, const eq_file_tensor *t,
                         uint8_t dtype)
{
    if (t->dtype != dtype)
        return eq_node_error(node, "%s is %s, must be %s", what, eq_dtype_name((eq_dtype)t->dtype),
                             eq_dtype_name((eq_dtype)dtype));
    return EQ_OK;
}

eq_status eq_check_quantized(const eq_node *node, const char *what, const eq_file_tensor *t)
{
    if (t->dtype != EQ_DT_INT8 && t->dtype != EQ_DT_INT16)
        return eq_node_error(node, "%s is %s, must be int8 or int16", what,
                             eq_dtype_name((eq_dtype)t->dtype));
    return EQ_OK;
}

eq_status eq_check_zero(const eq_node *node, const char *what, const eq_file_tensor *t,
                        int32_t zero)
{
    const bool wide = t->dtype == EQ_DT_INT16;
    return eq_check_range(node, what, zero, wide ? 0 : -128, wide ? 0 : 127);
}

eq_status eq_check_activation(const eq_node *node, const eq_file_tensor *t, int32_t act_min,
                              int32_t act_max)
{
    const bool wide = t->dtype == EQ_DT_INT16;
    const int32_t low = wide ? INT16_MIN : INT8_MIN, high = wide ? INT16_MAX : INT8_MAX;
    EQ_TRY(eq_check_range(node, "act_max", act_max, low, high));
    return eq_check_range(node, "act_min", act_min, low, act_max);
}

eq_status eq_check_rank(const eq_node *node, const char *what, const eq_file_tensor *t,
                        uint32_t rank)
{
    if (t->rank != rank)
        return eq_node_error(node, "%s has rank %u, must be %u", what, (uint32_t)t->rank, rank);
    return EQ_OK;
}

eq_status eq_check_dim(const eq_node *node, const char *what, const eq_file_tensor *t,
                       uint32_t axis, int64_t expected)
{
    if (t->dims[axis] != expected)
        return eq_node_error(node, "dimension %u of %s is %d, must be %l", axis, what,
                             t->dims[axis], expected);
    return EQ_OK;
}

eq_status eq_check_same_shape(const eq_node *node, const eq_file_tensor *a, const eq_file_tensor *b)
{
    EQ_TRY(eq_check_rank(node, "output", b, a->rank));
    for (uint32_t i = 0; i < a->rank; i++)
        EQ_TRY(eq_check_dim(node, "output", b, i, a->dims[i]));
    return EQ_OK;
}

EQ_API const char *eq_version(void)
{
#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
    return TEXT(EQ_VERSION_MAJOR) "." TEXT(EQ_VERSION_MINOR) "." TEXT(EQ_VERSION_PATCH);
}

EQ_API const char *eq_status_name(eq_status status)
{
    switch (status) {
    case EQ_OK: return "EQ_OK";
    case EQ_ERR_ARGUMENT: return "EQ_ERR_ARGUMENT";
    case EQ_ERR_MEMORY: return "EQ_ERR_MEMORY";
    case EQ_ERR_IO: return "EQ_ERR_IO";
    case EQ_ERR_FORMAT: return "EQ_ERR_FORMAT";
    case EQ_ERR_VERSION: return "EQ_ERR_VERSION";
    case EQ_ERR_INVALID: return "EQ_ERR_INVALID";
    case EQ_ERR_UNSUPPORTED: return "EQ_ERR_UNSUPPORTED";
    case EQ_ERR_VERIFY: return "EQ_ERR_VERIFY";
    }
    return "unknown status";
}

EQ_API const char *eq_dtype_name(eq_dtype dtype)
{
    switch (dtype) {
    case EQ_INT8: return "int8";
    case EQ_UINT8: return "uint8";
    case EQ_INT16: return "int16";
    case EQ_INT32: return "int32";
    case EQ_INT64: return "int64";
    case EQ_FLOAT32: return "float32";
    case EQ_BOOL: return "bool";
    }
    return "unknown dtype";
}
