/* SPDX-License-Identifier: Apache-2.0
 *
 * RESIZE_BILINEAR, RESIZE_BILINEAR_U8, RESIZE_NEAREST: x (N,H,W,C) to y (N,OH,OW,C). */
#include <string.h>

#include "core/numerics.h"
#include "ops/ops.h"

static eq_status check_resize(const eq_node *node)
{
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    EQ_TRY(eq_check_rank(node, "input", x, 4));
    EQ_TRY(eq_check_rank(node, "output", y, 4));
    EQ_TRY(eq_check_dim(node, "output", y, 0, x->dims[0]));
    EQ_TRY(eq_check_dim(node, "output", y, 3, x->dims[3]));
    return eq_check_dtype(node, "output", y, x->dtype);
}

/* The four pixels between which an output pixel lies, in the order of the bilinear slots:
 * (lower row, lower column), (upper, lower), (lower, upper), (upper, upper). */
static void corners(const int8_t *image, size_t width, size_t channels, const size_t row[2],
                    const size_t col[2], const int8_t *pixels[4])
{
    for (size_t i = 0; i < 4; i++)
        pixels[i] = image + (row[i & 1] * width + col[i >> 1]) * channels;
}

/* ---- RESIZE_BILINEAR */

/* Positions in Q10, clamped to the last sample. Before the first one is negative, -512 at least:
 * both samples are then the first one and the weights 1024 - p and p, which add up to 1024 as
 * always. */
typedef struct sample {
    size_t index[2];
    int32_t weight[2]; /* Q10, |w0| + |w1| <= 2048 */
} sample;

static int64_t position(int64_t out, int32_t scale, uint32_t half_pixel)
{
    return out * scale + (half_pixel ? scale / 2 - 512 : 0);
}

static sample sample_at(int32_t out, int32_t scale, uint32_t half_pixel, int32_t size)
{
    const int64_t at = position(out, scale, half_pixel), last = ((int64_t)size - 1) * 1024;
    const int32_t p = (int32_t)(at < last ? at : last);
    const int32_t lower = p > 0 ? p / 1024 : 0, next = (p + 1023) / 1024;
    const int32_t upper = next < size - 1 ? next : size - 1;
    const int32_t rest = p - 1024 * lower;
    return (sample){{(size_t)lower, (size_t)upper}, {1024 - rest, rest}};
}

/* Positions grow with the output, so the last one is the greatest. A scale is rounded, which adds
 * up to half a unit an output: the last ones may come out behind the input, where its end is taken.
 */
static eq_status check_scale(const eq_node *node, const char *what, int32_t scale, int32_t size,
                             int32_t out)
{
    const eq_resize_params *p = node->params;
    EQ_TRY(eq_check_range(node, what, scale, 0, INT32_MAX));
    const int64_t last = position((int64_t)out - 1, scale, p->half_pixel);
    if (last > INT32_MAX - 1023 || last - out / 2 >= (int64_t)size * 1024)
        return eq_node_error(node, "%s is %d: output %d lies at %l / 1024 of %d", what, scale,
                             out - 1, last, size);
    return EQ_OK;
}

static eq_status validate_bilinear(const eq_node *node)
{
    const eq_resize_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    EQ_TRY(eq_check_quantized(node, "input", x));
    EQ_TRY(check_resize(node));
    EQ_TRY(eq_check_range(node, "half_pixel", p->half_pixel, 0, 1));
    EQ_TRY(check_scale(node, "scale_h", p->scale_h, x->dims[1], y->dims[1]));
    return check_scale(node, "scale_w", p->scale_w, x->dims[2], y->dims[2]);
}

/* A unit is an output row. */
static size_t resize_units(const eq_node *node)
{
    return eq_count(eq_out(node), 0, 2);
}

/* The bilinear slot for int16: sums in 64 bits. */
static void bilinear_16(size_t channels, const int8_t *const pixels[4], const int32_t w[4],
                        int16_t *y)
{
    const int16_t *x[4];
    for (size_t i = 0; i < 4; i++)
        x[i] = (const int16_t *)(const void *)pixels[i];
    for (size_t c = 0; c < channels; c++) {
        int64_t sum = 0;
        for (size_t i = 0; i < 4; i++)
            sum += (int64_t)x[i][c] * w[i];
        y[c] = (int16_t)((sum + (sum > 0 ? 1 << 19 : -(1 << 19))) / (1 << 20));
    }
}

static void run_bilinear(const eq_node *node, size_t first, size_t end)
{
    const eq_resize_params *p = node->params;
    const eq_file_tensor *xt = eq_arg(node, 0), *yt = eq_out(node);
    const bool wide = xt->dtype == EQ_DT_INT16;
    const size_t width = (size_t)xt->dims[2], channels = (size_t)xt->dims[3];
    const int8_t *x = eq_arg_data(node, 0);
    const size_t height = (size_t)yt->dims[1], image = eq_count(xt, 1, 4) << wide;
    int8_t *y = (int8_t *)eq_out_data(node) + (first * eq_count(yt, 2, 4) << wide);
    for (; first < end; first++) {
        const int32_t oy = (int32_t)(first % height);
        const sample row = sample_at(oy, p->scale_h, p->half_pixel, xt->dims[1]);
        for (int32_t ox = 0; ox < yt->dims[2]; ox++, y += channels << wide) {
            const sample col = sample_at(ox, p->scale_w, p->half_pixel, xt->dims[2]);
            const int8_t *pixels[4];
            int32_t w[4];
            corners(x + first / height * image, width, channels << wide, row.index, col.index,
                    pixels);
            for (size_t i = 0; i < 4; i++)
                w[i] = row.weight[i & 1] * col.weight[i >> 1];
            if (wide)
                bilinear_16(channels, pixels, w, (int16_t *)(void *)y);
            else
                node->kernels->bilinear(channels, pixels, w, y);
        }
    }
}

static const char *bilinear_path(const eq_node *node, size_t *slot)
{
    if (eq_out(node)->dtype == EQ_DT_INT8)
        return "a call an output pixel, from four input pixels";
    *slot = EQ_NO_SLOT;
    return "int16: a loop over four input pixels";
}

const eq_op_def eq_op_resize_bilinear = {
    .min_inputs = 1,
    .max_inputs = 1,
    .validate = validate_bilinear,
    .units = resize_units,
    .run_units = run_bilinear,
    .path = bilinear_path,
    .slot = EQ_SLOT(bilinear),
};

/* ---- RESIZE_BILINEAR_U8: y + 128 = trunc(s), where with u = x + 128
 *
 *     s = ((u0*r0)*c0 + (u1*r1)*c0 + (u2*r0)*c1 + (u3*r1)*c1) + 1/2
 *
 * in IEEE binary32 for row weights r and column weights c: each product and each sum, from left to
 * right, rounded to nearest even. The bilinear_u8 slot computes S, the same with the four products
 * r*c rounded to Q20 and nothing else rounded. Where S is not close to an integer, both have the
 * same floor:
 *   Per axis |w0| + |w1| <= 2 + 2^-29, so the magnitudes of the exact terms u*r*c sum to less than
 *   1020.01. Two roundings of each: relative 2^-23 + 2^-48, in total below 2^-13. Four sums below
 *   1024 in magnitude: 2^-15 each, 2^-13 in total. So s is within 2^-12 of the exact value.
 *   S: four weights off by 2^-21 at most, times 255: within 1020 * 2^-21 < 2^-11 of it.
 *   Together |s - S| < 2^-10, the distance to an integer that the slot reports.
 * Where it is close, s is computed step by step. That is not needed if r and c have fr and fc
 * fraction bits and fr + fc <= 14: then all values are multiples of 2^-14 below 2^10, 24 bits, so
 * s and S are exact. Magnifying by powers of two is of this kind and often ends on integers. */

/* A binary32 number m * 2^e; m is 0 or 2^23 <= |m| < 2^24. */
typedef struct binary32 {
    int32_t m, e;
} binary32;

/* m * 2^e rounded to nearest even; |m| < 2^63. */
static binary32 round_binary32(int64_t m, int32_t e)
{
    const uint64_t a = m < 0 ? 0 - (uint64_t)m : (uint64_t)m;
    int drop = eq_bit_length(a) - 24;
    uint32_t q;
    if (a == 0)
        return (binary32){0, 0};
    if (drop <= 0) {
        q = (uint32_t)(a << -drop);
    } else {
        const uint64_t rest = a & (((uint64_t)1 << drop) - 1), half = (uint64_t)1 << (drop - 1);
        q = (uint32_t)(a >> drop);
        q += rest > half || (rest == half && (q & 1));
        if (q >> 24) {
            q >>= 1;
            drop++;
        }
    }
    return (binary32){m < 0 ? -(int32_t)q : (int32_t)q, e + drop};
}

static binary32 multiply(binary32 a, binary32 b)
{
    return round_binary32((int64_t)a.m * b.m, a.e + b.e);
}

static binary32 add(binary32 a, binary32 b)
{
    if (a.m == 0 || b.m == 0)
        return a.m == 0 ? b : a;
    if (a.e < b.e)
        return add(b, a);
    const int32_t apart = a.e - b.e;
    if (apart > 38) /* b is below a quarter of a's last bit */
        return a;
    return round_binary32((int64_t)a.m * ((int64_t)1 << apart) + b.m, b.e);
}

/* The exact s of one channel, truncated and clamped to a byte. */
static int32_t blend_exactly(const int8_t *const pixels[4], size_t channel, const binary32 row[2],
                             const binary32 col[2])
{
    binary32 s = {0, 0};
    for (size_t i = 0; i < 4; i++) {
        const binary32 u = round_binary32(pixels[i][channel] + 128, 0);
        s = add(s, multiply(multiply(u, row[i & 1]), col[i >> 1]));
    }
    s = add(s, (binary32){1 << 23, -24});
    if (s.m <= 0 || s.e <= -24)
        return 0;
    return s.e > -16 ? 255 : eq_clamp(s.m >> -s.e, 0, 255);
}

/* One axis at one output position. */
typedef struct blend {
    size_t index[2];
    binary32 weight[2];
    int fraction; /* bits behind the point, as many as both weights need */
} blend;

static binary32 decode(uint32_t bits)
{
    if (bits << 1 == 0)
        return (binary32){0, 0};
    const int32_t m = (int32_t)((bits & 0x7FFFFFu) | 0x800000u);
    return (binary32){bits >> 31 ? -m : m, (int32_t)(bits >> 23 & 255) - 150};
}

static int fraction_bits(binary32 w)
{
    const uint32_t lowest = (uint32_t)w.m & (0u - (uint32_t)w.m);
    return w.m == 0 ? 0 : 1 - w.e - eq_bit_length(lowest);
}

static blend blend_at(const eq_resize_tap *tap)
{
    const size_t lower = tap->lower & 0x7FFFFFFFu;
    const binary32 w0 = decode(tap->w_lower), w1 = decode(tap->w_upper);
    const int f0 = fraction_bits(w0), f1 = fraction_bits(w1);
    return (blend){{lower, lower + (tap->lower >> 31)}, {w0, w1}, f0 > f1 ? f0 : f1};
}

/* r * c in Q20; |w| <= 2 makes e <= -22 and the shift 24 at least. */
static int32_t weight_q20(binary32 r, binary32 c)
{
    const int shift = -r.e - c.e - 20;
    if (r.m == 0 || c.m == 0 || shift > 62)
        return 0;
    return (int32_t)(((int64_t)r.m * c.m + ((int64_t)1 << (shift - 1))) >> shift);
}

static eq_status check_weight(const eq_node *node, const char *what, uint32_t i, uint32_t bits)
{
    const uint32_t magnitude = bits & 0x7FFFFFFFu; /* 87: 2^-40, 128: 2 */
    if (magnitude != 0 && (magnitude < 87u << 23 || magnitude > 128u << 23))
        return eq_node_error(node, "%s[%u]: weight bits %u, must be 0 or a magnitude in [2^-40, 2]",
                             what, i, bits);
    return EQ_OK;
}

/* |w| in Q30, truncated. */
static int64_t magnitude_q30(uint32_t bits)
{
    const binary32 w = decode(bits & 0x7FFFFFFFu);
    const int32_t shift = w.e + 30; /* in [-33, 8] */
    return shift >= 0 ? (int64_t)w.m << shift : (int64_t)w.m >> -shift;
}

static eq_status check_taps(const eq_node *node, const char *what, uint32_t ref, int32_t size,
                            int32_t out)
{
    if ((size_t)out > node->data_size / sizeof(eq_resize_tap))
        return eq_node_error(node, "%s: %d entries do not fit into DATA", what, out);
    EQ_TRY(eq_check_ref(node, what, ref, 3 * (size_t)out, sizeof(uint32_t)));
    const eq_resize_tap *taps = eq_ref_data(node, ref);
    for (uint32_t i = 0; i < (uint32_t)out; i++) {
        const uint32_t lower = taps[i].lower & 0x7FFFFFFFu, upper = lower + (taps[i].lower >> 31);
        if (upper >= (uint32_t)size)
            return eq_node_error(node, "%s[%u]: sample %u of %d", what, i, upper, size);
        EQ_TRY(check_weight(node, what, i, taps[i].w_lower));
        EQ_TRY(check_weight(node, what, i, taps[i].w_upper));
        if (magnitude_q30(taps[i].w_lower) + magnitude_q30(taps[i].w_upper) > (int64_t)1 << 31)
            return eq_node_error(node, "%s[%u]: the weights' magnitudes add up to more than 2",
                                 what, i);
    }
    return EQ_OK;
}

static eq_status validate_bilinear_u8(const eq_node *node)
{
    const eq_resize_u8_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    EQ_TRY(eq_check_dtype(node, "input", x, EQ_DT_INT8));
    EQ_TRY(check_resize(node));
    EQ_TRY(check_taps(node, "rows", p->rows, x->dims[1], y->dims[1]));
    return check_taps(node, "cols", p->cols, x->dims[2], y->dims[2]);
}

static void blend_pixel(const eq_kernels *kernels, size_t channels, const int8_t *const pixels[4],
                        const blend *row, const blend *col, int8_t *y)
{
    int32_t w[4];
    for (size_t i = 0; i < 4; i++)
        w[i] = weight_q20(row->weight[i & 1], col->weight[i >> 1]);
    if (!kernels->bilinear_u8(channels, pixels, w, y) || row->fraction + col->fraction <= 14)
        return;
    for (size_t c = 0; c < channels; c++) {
        int32_t v = 1 << 19;
        for (size_t i = 0; i < 4; i++)
            v += (pixels[i][c] + 128) * w[i];
        if ((((uint32_t)v + 1024u) & 0xFFFFFu) < 2048u)
            y[c] = (int8_t)(blend_exactly(pixels, c, row->weight, col->weight) - 128);
    }
}

static void run_bilinear_u8(const eq_node *node, size_t first, size_t end)
{
    const eq_resize_u8_params *p = node->params;
    const eq_file_tensor *xt = eq_arg(node, 0), *yt = eq_out(node);
    const eq_resize_tap *rows = eq_ref_data(node, p->rows), *cols = eq_ref_data(node, p->cols);
    const size_t width = (size_t)xt->dims[2], channels = (size_t)xt->dims[3];
    const int8_t *x = eq_arg_data(node, 0);
    const size_t height = (size_t)yt->dims[1], image = eq_count(xt, 1, 4);
    int8_t *y = (int8_t *)eq_out_data(node) + first * eq_count(yt, 2, 4);
    for (; first < end; first++) {
        const blend row = blend_at(&rows[first % height]);
        for (int32_t ox = 0; ox < yt->dims[2]; ox++, y += channels) {
            const blend col = blend_at(&cols[ox]);
            const int8_t *pixels[4];
            corners(x + first / height * image, width, channels, row.index, col.index, pixels);
            blend_pixel(node->kernels, channels, pixels, &row, &col, y);
        }
    }
}

const eq_op_def eq_op_resize_bilinear_u8 = {
    .min_inputs = 1,
    .max_inputs = 1,
    .validate = validate_bilinear_u8,
    .units = resize_units,
    .run_units = run_bilinear_u8,
    .why = "a call an output pixel; unsure ones again by exact float32 steps",
    .slot = EQ_SLOT(bilinear_u8),
};

/* ---- RESIZE_NEAREST: elements of 1, 2, 4 or 8 bytes */

static eq_status check_indices(const eq_node *node, const char *what, uint32_t ref, int32_t size,
                               int32_t out)
{
    EQ_TRY(eq_check_ref(node, what, ref, (size_t)out, sizeof(uint32_t)));
    const uint32_t *index = eq_ref_data(node, ref);
    for (uint32_t i = 0; i < (uint32_t)out; i++)
        if (index[i] >= (uint32_t)size)
            return eq_node_error(node, "%s[%u] is %u, the input has %d", what, i, index[i], size);
    return EQ_OK;
}

static eq_status validate_nearest(const eq_node *node)
{
    const eq_resize_nearest_params *p = node->params;
    const eq_file_tensor *x = eq_arg(node, 0), *y = eq_out(node);
    if (eq_dtype_size(x->dtype) == 0)
        return eq_node_error(node, "elements of dtype %u cannot be moved", (uint32_t)x->dtype);
    EQ_TRY(check_resize(node));
    EQ_TRY(check_indices(node, "rows", p->rows, x->dims[1], y->dims[1]));
    return check_indices(node, "cols", p->cols, x->dims[2], y->dims[2]);
}

static void run_nearest(const eq_node *node, size_t first, size_t end)
{
    const eq_resize_nearest_params *p = node->params;
    const eq_file_tensor *xt = eq_arg(node, 0), *yt = eq_out(node);
    const uint32_t *rows = eq_ref_data(node, p->rows), *cols = eq_ref_data(node, p->cols);
    const size_t pixel = (size_t)xt->dims[3] * eq_dtype_size(xt->dtype);
    const size_t row_bytes = (size_t)xt->dims[2] * pixel, out_bytes = (size_t)yt->dims[2] * pixel;
    const uint8_t *x = eq_arg_data(node, 0);
    const size_t height = (size_t)yt->dims[1], image = (size_t)xt->dims[1] * row_bytes;
    uint8_t *y = (uint8_t *)eq_out_data(node) + first * out_bytes;
    for (size_t r = first; r < end; r++, y += out_bytes) {
        const size_t oy = r % height;
        if (oy > 0 && r > first && rows[oy] == rows[oy - 1]) {
            memcpy(y, y - out_bytes, out_bytes);
            continue;
        }
        const uint8_t *row = x + r / height * image + rows[oy] * row_bytes;
        for (size_t ox = 0; ox < (size_t)yt->dims[2]; ox++)
            memcpy(y + ox * pixel, row + cols[ox] * pixel, pixel);
    }
}

const eq_op_def eq_op_resize_nearest = {
    .min_inputs = 1,
    .max_inputs = 1,
    .validate = validate_nearest,
    .units = resize_units,
    .run_units = run_nearest,
    .why = "copies pixels",
};
