/* SPDX-License-Identifier: Apache-2.0
 * The edge: pictures to input tensors, as docs/NUMERICS.md, "Pictures", says; integers only. */
#include <string.h>

#include "core/model.h"

/* ---- section PICT */

/* Axes of height, width and channels in the tensor's shape. */
typedef struct axes {
    uint32_t h, w, c;
} axes;

static axes axes_of(const eq_file_picture *p)
{
    return p->layout == EQ_LAYOUT_FIRST ? (axes){2, 3, 1} : (axes){1, 2, 3};
}

static const eq_file_tensor *tensor_of(const eq_model *m, const eq_file_picture *p)
{
    return &m->tensors[m->io[m->entry->io + p->input].tensor];
}

static eq_status refuse(uint32_t i, const char *what, uint32_t value)
{
    return eq_error(EQ_ERR_INVALID, "picture %u: %s %u", i, what, value);
}

/* A fit, order or layout that a later edgeq may know. */
static eq_status unknown(uint32_t i, const char *what, uint32_t value)
{
    return eq_error(EQ_ERR_UNSUPPORTED, "picture %u: %s %u is unknown to edgeq %s", i, what, value,
                    eq_version());
}

static eq_status check_picture(const eq_model *m, uint32_t i)
{
    const eq_file_picture *p = &m->pictures[i];
    const axes a = axes_of(p);

    if (p->input >= m->entry->input_count)
        return refuse(i, "there is no input", p->input);
    for (uint32_t k = 0; k < i; k++)
        if (m->pictures[k].input == p->input)
            return refuse(i, "there is another one for input", p->input);
    if (p->fit > EQ_FIT_PAD)
        return unknown(i, "fit", p->fit);
    if (p->order > EQ_ORDER_GRAY)
        return unknown(i, "order", p->order);
    if (p->layout > EQ_LAYOUT_FIRST)
        return unknown(i, "layout", p->layout);
    if (p->reserved[0] | p->reserved[1])
        return eq_error(EQ_ERR_INVALID, "picture %u: reserved fields are not 0", i);
    if (p->fit != EQ_FIT_PAD && (p->pad[0] | p->pad[1] | p->pad[2]))
        return eq_error(EQ_ERR_INVALID, "picture %u: a colour, but nothing is padded", i);
    if (p->crop == 0 || p->crop > EQ_CROP_ONE)
        return refuse(i, "the part that is kept is not in 1 ... 65536:", p->crop);

    const eq_file_tensor *t = tensor_of(m, p);
    if (t->rank != 4 || t->dims[0] != 1)
        return refuse(i, "input that is not one picture:", p->input);
    if (t->dtype != EQ_DT_INT8 && t->dtype != EQ_DT_INT16)
        return refuse(i, "input of dtype", t->dtype);
    if (t->dims[a.c] != (p->order == EQ_ORDER_GRAY ? 1 : 3))
        return refuse(i, "channels that do not fit the order:", (uint32_t)t->dims[a.c]);
    if (t->dims[a.h] > EQ_MAX_PICTURE || t->dims[a.w] > EQ_MAX_PICTURE)
        return refuse(i, "an input beyond 65535 pixels a side:", p->input);
    const size_t item = eq_dtype_size(t->dtype), bytes = (size_t)t->dims[a.c] * 256 * item;
    if (p->table == EQ_NONE || p->table % item != 0 || p->table > m->data_size
        || bytes > m->data_size - p->table)
        return refuse(i, "misplaced table at", p->table);
    return EQ_OK;
}

eq_status eq_pictures_check(const eq_model *m)
{
    for (uint32_t i = 0; i < m->picture_count; i++)
        EQ_TRY(check_picture(m, i));
    return EQ_OK;
}

static const eq_file_picture *find(const eq_model *m, uint32_t input)
{
    for (uint32_t i = 0; i < m->picture_count; i++)
        if (m->pictures[i].input == input)
            return &m->pictures[i];
    eq_error(EQ_ERR_ARGUMENT, "the file has no preprocessing of pictures for input %u", input);
    return NULL;
}

EQ_API eq_status eq_model_picture(const eq_model *model, uint32_t index, eq_picture_info *info)
{
    if (model == NULL || info == NULL)
        return eq_error(EQ_ERR_ARGUMENT, "model or info is NULL");
    const eq_file_picture *p = find(model, index);
    if (p == NULL)
        return EQ_ERR_ARGUMENT;
    const eq_file_tensor *t = tensor_of(model, p);
    const axes a = axes_of(p);
    memset(info, 0, sizeof *info);
    info->width = (uint32_t)t->dims[a.w];
    info->height = (uint32_t)t->dims[a.h];
    info->channels = (uint32_t)t->dims[a.c];
    info->fit = (eq_fit)p->fit;
    info->order = (eq_order)p->order;
    info->crop = p->crop;
    memcpy(info->pad, p->pad, sizeof info->pad);
    info->channels_first = p->layout == EQ_LAYOUT_FIRST;
    return EQ_OK;
}

#ifdef EQ_NO_PICTURES

size_t eq_pictures_scratch(const eq_model *m)
{
    (void)m;
    return 0;
}

EQ_API eq_status eq_preprocess_rgb(eq_session *session, uint32_t index, const uint8_t *rgb,
                                   uint32_t width, uint32_t height, size_t stride)
{
    (void)session, (void)index, (void)rgb, (void)width, (void)height, (void)stride;
    return eq_error(EQ_ERR_UNSUPPORTED, "built with EQ_NO_PICTURES: give the input's values");
}

#else

/* ---- resizing */

enum { MAX_SOURCE = 1 << 20, ONE = 4 }; /* rows are in quarters of a level */

/* The source along one axis: pixels [offset, offset + size), which become `out` pixels. */
typedef struct axis {
    uint32_t offset, size, out;
} axis;

typedef struct resize {
    const uint8_t *rgb;
    size_t stride;
    axis x, y;
    uint32_t channels;        /* 3, or 1: grey */
    uint32_t left, top;       /* where the picture begins in the tensor */
    uint32_t width, height;   /* of the tensor */
    uint8_t swap;             /* 2: channel c of the network is 2 - c of the picture */
    const void *table;        /* [channels][256] */
    void *tensor;             /* item: 1 int8, 2 int16 */
    size_t item, step, plane; /* elements between pixels, and between channels */
    uint32_t *sums[2];        /* [x.out * channels] */
    uint16_t *rows[2];        /* [x.out * channels] */
} resize;

/* Half of a triangle's base, in units of 1 / 2 out of a source pixel. */
static int32_t reach(const axis *a)
{
    return (int32_t)(2 * (a->size > a->out ? a->size : a->out));
}

/* Sums of weights stay below 2^21, so that 2 * 255 * ONE + 4 of them stay below 2^32. */
static bool is_feasible(const axis *a)
{
    return a->size <= a->out || (uint64_t)a->size * (a->size + a->out) < ((uint64_t)a->out << 20);
}

/* sum / weight, rounded to nearest, ties up. */
static uint32_t divide(uint32_t sum, uint32_t weight)
{
    return (2 * sum + weight) / (2 * weight);
}

static uint32_t grey(const uint8_t *p)
{
    return (p[0] * 19595u + p[1] * 38470u + p[2] * 7471u + 32768u) >> 16;
}

/* The row of source pixels `y` in the width of the output. d is twice the distance of a source
 * pixel from the output pixel, times `out`. */
static void resize_row(const resize *r, uint32_t y, uint16_t *out)
{
    const axis *a = &r->x;
    const uint8_t *row = r->rgb + (size_t)(r->y.offset + y) * r->stride + 3 * (size_t)a->offset;
    const int32_t half = reach(a), next = (int32_t)(2 * a->out);
    int32_t first_d = (int32_t)a->out - (int32_t)a->size;
    uint32_t first = 0;

    for (uint32_t i = 0; i < a->out; i++, first_d -= (int32_t)(2 * a->size)) {
        uint32_t sum[3] = {0}, weight = 0;
        while (first_d <= -half) {
            first++;
            first_d += next;
        }
        const uint8_t *p = row + 3 * (size_t)first;
        int32_t d = first_d;
        for (uint32_t x = first; x < a->size && d < half; x++, p += 3, d += next) {
            const uint32_t n = (uint32_t)(half - (d < 0 ? -d : d));
            weight += n;
            if (r->channels == 1) {
                sum[0] += n * grey(p);
                continue;
            }
            for (size_t c = 0; c < 3; c++)
                sum[c] += n * p[c];
        }
        for (uint32_t c = 0; c < r->channels; c++)
            *out++ = (uint16_t)divide(ONE * sum[c], weight);
    }
}

static void put(const resize *r, uint32_t x, uint32_t y, uint32_t channel, uint8_t value)
{
    const size_t c = channel ^ (channel == 1 ? 0 : r->swap), entry = c * 256 + value;
    const size_t at = ((size_t)y * r->width + x) * r->step + c * r->plane;
    if (r->item == 1)
        ((int8_t *)r->tensor)[at] = ((const int8_t *)r->table)[entry];
    else
        ((int16_t *)r->tensor)[at] = ((const int16_t *)r->table)[entry];
}

static void put_row(const resize *r, uint32_t y, const uint32_t *sums, uint32_t weight)
{
    for (uint32_t x = 0; x < r->x.out; x++)
        for (uint32_t c = 0; c < r->channels; c++)
            put(r, r->left + x, r->top + y, c, (uint8_t)divide(*sums++, ONE * weight));
}

static void add_row(const resize *r, uint32_t *sums, const uint16_t *row, uint32_t n)
{
    for (size_t i = 0; i < (size_t)r->x.out * r->channels; i++)
        sums[i] += n * row[i];
}

static void clear(const resize *r, uint32_t *sums)
{
    memset(sums, 0, (size_t)r->x.out * r->channels * sizeof *sums);
}

/* Fewer rows: a row of the source is part of one row of the output, or of two: with d > 0, the
 * distance from the first, its weight in the second is d. */
static void shrink(resize *r)
{
    const axis *a = &r->y;
    const int32_t half = reach(a);
    uint32_t y = 0, weight[2] = {0};
    int32_t d = (int32_t)a->out - (int32_t)a->size;

    clear(r, r->sums[0]);
    for (uint32_t j = 0; j < a->out; j++, d -= half) {
        uint32_t *now = r->sums[j & 1], *then = r->sums[~j & 1];
        clear(r, then);
        weight[~j & 1] = 0;
        for (; y < a->size && d < half; y++, d += (int32_t)(2 * a->out)) {
            const uint32_t n = (uint32_t)(half - (d < 0 ? -d : d));
            resize_row(r, y, r->rows[0]);
            add_row(r, now, r->rows[0], n);
            weight[j & 1] += n;
            if (d > 0 && j + 1 < a->out) {
                add_row(r, then, r->rows[0], (uint32_t)d);
                weight[~j & 1] += (uint32_t)d;
            }
        }
        put_row(r, j, now, weight[j & 1]);
    }
}

/* More rows: each is between two of the source, of which the last two are kept. */
static void grow(resize *r)
{
    const axis *a = &r->y;
    const int32_t half = reach(a), next = (int32_t)(2 * a->out);
    int32_t first_d = (int32_t)a->out - (int32_t)a->size;
    uint32_t first = 0, known = 0;

    for (uint32_t j = 0; j < a->out; j++, first_d -= (int32_t)(2 * a->size)) {
        uint32_t weight = 0;
        while (first_d <= -half) {
            first++;
            first_d += next;
        }
        clear(r, r->sums[0]);
        int32_t d = first_d;
        for (uint32_t y = first; y < a->size && d < half; y++, d += next) {
            const uint32_t n = (uint32_t)(half - (d < 0 ? -d : d));
            if (y >= known) {
                resize_row(r, y, r->rows[y & 1]);
                known = y + 1;
            }
            add_row(r, r->sums[0], r->rows[y & 1], n);
            weight += n;
        }
        put_row(r, j, r->sums[0], weight);
    }
}

/* ---- the frame */

/* a * b / c, rounded to nearest, ties up, at least 1. */
static uint32_t scaled(uint32_t a, uint32_t b, uint32_t c)
{
    const uint64_t value = (2 * (uint64_t)a * b + c) / (2 * (uint64_t)c);
    return value == 0 ? 1 : (uint32_t)value;
}

/* Which part of a picture of width x height goes where. */
static void frame(resize *r, const eq_file_picture *p, uint32_t width, uint32_t height)
{
    const uint32_t w = r->width, h = r->height;
    const bool wide = (uint64_t)width * h > (uint64_t)height * w;
    uint32_t box_w = width, box_h = height;
    if (p->fit == EQ_FIT_CROP && wide)
        box_w = scaled(height, w, h);
    else if (p->fit == EQ_FIT_CROP)
        box_h = scaled(width, h, w);
    box_w = scaled(box_w, p->crop, EQ_CROP_ONE);
    box_h = scaled(box_h, p->crop, EQ_CROP_ONE);
    r->x = (axis){(width - box_w) / 2, box_w, w};
    r->y = (axis){(height - box_h) / 2, box_h, h};
    if (p->fit == EQ_FIT_PAD && (uint64_t)box_w * h > (uint64_t)box_h * w)
        r->y.out = scaled(box_h, w, box_w);
    else if (p->fit == EQ_FIT_PAD)
        r->x.out = scaled(box_w, h, box_h);
    r->left = (w - r->x.out) / 2;
    r->top = (h - r->y.out) / 2;
}

static void fill(const resize *r, const uint8_t *colour)
{
    const uint8_t level = (uint8_t)grey(colour);
    if (r->x.out == r->width && r->y.out == r->height)
        return;
    for (uint32_t y = 0; y < r->height; y++)
        for (uint32_t x = 0; x < r->width; x++)
            for (uint32_t c = 0; c < r->channels; c++)
                put(r, x, y, c, r->channels == 1 ? level : colour[c]);
}

static size_t scratch_of(const eq_model *m, const eq_file_picture *p)
{
    const axes a = axes_of(p);
    const eq_file_tensor *t = tensor_of(m, p);
    return (size_t)t->dims[a.w] * (size_t)t->dims[a.c] * 2 * (sizeof(uint32_t) + sizeof(uint16_t));
}

size_t eq_pictures_scratch(const eq_model *m)
{
    size_t most = 0;
    for (uint32_t i = 0; i < m->picture_count; i++) {
        const size_t bytes = scratch_of(m, &m->pictures[i]);
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* Everything but the frame. */
static resize prepare(const eq_model *m, const eq_file_picture *p, void *tensor, uint8_t *scratch)
{
    const axes a = axes_of(p);
    const eq_file_tensor *t = tensor_of(m, p);
    const size_t pixels = (size_t)t->dims[a.h] * (size_t)t->dims[a.w];
    const size_t n = (size_t)t->dims[a.w] * (size_t)t->dims[a.c];
    const bool planes = p->layout == EQ_LAYOUT_FIRST;
    uint32_t *sums = (uint32_t *)(void *)scratch;
    uint16_t *rows = (uint16_t *)(void *)(sums + 2 * n);
    return (resize){
        .channels = (uint32_t)t->dims[a.c],
        .width = (uint32_t)t->dims[a.w],
        .height = (uint32_t)t->dims[a.h],
        .swap = p->order == EQ_ORDER_BGR ? 2 : 0,
        .table = m->data + p->table,
        .tensor = tensor,
        .item = eq_dtype_size(t->dtype),
        .step = planes ? 1 : (size_t)t->dims[a.c],
        .plane = planes ? pixels : 1,
        .sums = {sums, sums + n},
        .rows = {rows, rows + n},
    };
}

EQ_API eq_status eq_preprocess_rgb(eq_session *session, uint32_t index, const uint8_t *rgb,
                                   uint32_t width, uint32_t height, size_t stride)
{
    void *tensor;
    if (session == NULL || rgb == NULL)
        return eq_error(EQ_ERR_ARGUMENT, "session or rgb is NULL");
    if (eq_session_port(session, false, index, &tensor) == NULL)
        return eq_error(EQ_ERR_ARGUMENT, "no input %u", index);
    const eq_model *m = eq_session_model(session);
    const eq_file_picture *p = find(m, index);
    if (p == NULL)
        return EQ_ERR_ARGUMENT;
    if (width == 0 || height == 0 || width > MAX_SOURCE || height > MAX_SOURCE)
        return eq_error(EQ_ERR_ARGUMENT, "a picture of %u x %u pixels, at least 1, at most 2^20",
                        width, height);
    stride = stride == 0 ? 3 * (size_t)width : stride;
    if (stride < 3 * (size_t)width || stride > PTRDIFF_MAX / height)
        return eq_error(EQ_ERR_ARGUMENT, "a stride of %z bytes for %u pixels", stride, width);

    resize r = prepare(m, p, tensor, eq_session_scratch(session));
    r.rgb = rgb;
    r.stride = stride;
    frame(&r, p, width, height);
    if (!is_feasible(&r.x) || !is_feasible(&r.y))
        return eq_error(EQ_ERR_ARGUMENT, "%u x %u pixels cannot be shrunk to %u x %u", r.x.size,
                        r.y.size, r.x.out, r.y.out);
    fill(&r, p->pad);
    if (r.y.size > r.y.out)
        shrink(&r);
    else
        grow(&r);
    return EQ_OK;
}

#endif
