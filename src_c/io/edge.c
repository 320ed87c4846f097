/* SPDX-License-Identifier: Apache-2.0
 * The edge: the caller's arrays against the tensors of the arena. The only floating point. */
#include <string.h>

#include "core/model.h"

/* ---- float32; all operations are single IEEE roundings, so the bytes are the same everywhere */
#ifndef EQ_NO_FLOAT

/* clamp(round_half_away(x / scale) + zero): TFLite's AffineQuantize, with NaN and infinities
 * defined. */
static int32_t quantize(float x, float scale, int32_t zero, int32_t low, int32_t high)
{
    const float q = x / scale;
    if (q != q)
        return zero;
    if (q > 1e6f)
        return high;
    if (q < -1e6f)
        return low;
    int32_t n = (int32_t)q;
    const float rest = q - (float)n;
    n += (rest >= 0.5f) - (rest <= -0.5f) + zero;
    return n < low ? low : n > high ? high : n;
}

static eq_status from_float(const eq_tensor_info *info, const float *x, void *out, size_t n)
{
    const int32_t zero = info->storage_zero_point;
    if (info->storage == EQ_INT8)
        for (size_t i = 0; i < n; i++)
            ((int8_t *)out)[i] = (int8_t)quantize(x[i], info->scale, zero, -128, 127);
    else
        for (size_t i = 0; i < n; i++)
            ((int16_t *)out)[i] = (int16_t)quantize(x[i], info->scale, zero, -32768, 32767);
    return EQ_OK;
}

static eq_status to_float(const eq_tensor_info *info, const void *in, float *x, size_t n)
{
    const int32_t zero = info->storage_zero_point;
    if (info->storage == EQ_INT8)
        for (size_t i = 0; i < n; i++)
            x[i] = info->scale * (float)(((const int8_t *)in)[i] - zero);
    else
        for (size_t i = 0; i < n; i++)
            x[i] = info->scale * (float)(((const int16_t *)in)[i] - zero);
    return EQ_OK;
}

#else

static eq_status from_float(const eq_tensor_info *info, const void *x, void *out, size_t n)
{
    (void)info, (void)x, (void)out, (void)n;
    return eq_error(EQ_ERR_UNSUPPORTED, "built with EQ_NO_FLOAT: give quantized values");
}

static eq_status to_float(const eq_tensor_info *info, const void *in, void *x, size_t n)
{
    (void)info, (void)x, (void)in, (void)n;
    return eq_error(EQ_ERR_UNSUPPORTED, "built with EQ_NO_FLOAT: take quantized values");
}

#endif

/* uint8 to int8 and back: the same flip of the top bit. */
static void flip_sign(const uint8_t *in, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = in[i] ^ 0x80;
}

typedef enum conversion { COPY, FLIP, FLOAT } conversion;

/* How `dtype` and the tensor convert into each other, if they do and `bytes` fits. */
static eq_status plan_conversion(const char *what, uint32_t index, const eq_tensor_info *info,
                                 const void *data, eq_dtype dtype, size_t bytes, size_t *elements,
                                 conversion *how)
{
    const size_t storage_size = eq_dtype_size((uint8_t)info->storage);
    const bool quantized =
        info->scale > 0 && (info->storage == EQ_INT8 || info->storage == EQ_INT16);
    size_t expected;

    *elements = info->bytes / eq_dtype_size((uint8_t)info->dtype);
    expected = *elements * storage_size;
    if (dtype == info->storage) {
        *how = COPY;
    } else if (dtype == EQ_UINT8 && info->dtype == EQ_UINT8) {
        *how = FLIP;
    } else if (dtype == EQ_FLOAT32 && quantized) {
        *how = FLOAT;
        expected = *elements * 4;
    } else {
        return eq_error(EQ_ERR_ARGUMENT, "%s %u '%s' is %s, not %s", what, index, info->name,
                        eq_dtype_name(info->dtype), eq_dtype_name(dtype));
    }
    if (data == NULL)
        return eq_error(EQ_ERR_ARGUMENT, "the data of %s %u '%s' is NULL", what, index, info->name);
    if (bytes != expected)
        return eq_error(EQ_ERR_ARGUMENT, "%s %u '%s' has %z bytes as %s, not %z", what, index,
                        info->name, expected, eq_dtype_name(dtype), bytes);
    return EQ_OK;
}

EQ_API eq_status eq_set_input(eq_session *session, uint32_t index, const void *data, eq_dtype dtype,
                              size_t bytes)
{
    void *tensor;
    size_t n;
    conversion how = COPY;
    if (session == NULL)
        return eq_error(EQ_ERR_ARGUMENT, "session is NULL");
    const eq_tensor_info *info = eq_session_port(session, false, index, &tensor);
    if (info == NULL)
        return eq_error(EQ_ERR_ARGUMENT, "no input %u", index);
    EQ_TRY(plan_conversion("input", index, info, data, dtype, bytes, &n, &how));
    if (how == FLOAT)
        return from_float(info, data, tensor, n);
    if (how == FLIP)
        flip_sign(data, tensor, n);
    else
        memcpy(tensor, data, bytes);
    return EQ_OK;
}

EQ_API eq_status eq_get_output(const eq_session *session, uint32_t index, void *data,
                               eq_dtype dtype, size_t bytes)
{
    void *tensor;
    size_t n;
    conversion how = COPY;
    if (session == NULL)
        return eq_error(EQ_ERR_ARGUMENT, "session is NULL");
    const eq_tensor_info *info = eq_session_port(session, true, index, &tensor);
    if (info == NULL)
        return eq_error(EQ_ERR_ARGUMENT, "no output %u", index);
    EQ_TRY(plan_conversion("output", index, info, data, dtype, bytes, &n, &how));
    if (how == FLOAT)
        return to_float(info, tensor, data, n);
    if (how == FLIP)
        flip_sign(tensor, data, n);
    else
        memcpy(data, tensor, bytes);
    return EQ_OK;
}
