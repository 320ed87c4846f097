/* SPDX-License-Identifier: Apache-2.0
 *
 * edgeq: runs quantized neural networks in integers, with the same bytes on every machine.
 *
 *     eq_model *model;
 *     eq_session *session;
 *     if (eq_model_open_file("digits.eqm", &model) || eq_session_create(model, &session))
 *         return puts(eq_last_error());
 *     eq_set_input(session, 0, pixels, EQ_FLOAT32, sizeof pixels);
 *     eq_run(session);
 *     eq_get_output(session, 0, scores, EQ_FLOAT32, sizeof scores);
 *     eq_session_destroy(session);
 *     eq_model_close(model);
 *
 * A model is immutable and may be shared by any number of sessions in any number of threads. A
 * session holds the activations of one run and belongs to one thread at a time. Functions return
 * EQ_OK or a status; eq_last_error() then has a sentence for the calling thread. The library never
 * prints, exits or aborts. eq_run() does not allocate and uses no floating point.
 *
 * Functions that return a status refuse null pointers; the others (counts, names) need a real
 * handle. Devices without a heap use eq_model_open_in() and eq_session_create_in() on memory of
 * their own.
 */
#ifndef EDGEQ_H
#define EDGEQ_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(EQ_SHARED) && defined(__GNUC__)
#define EQ_API __attribute__((visibility("default")))
#else
#define EQ_API
#endif

#define EQ_VERSION_MAJOR 0
#define EQ_VERSION_MINOR 1
#define EQ_VERSION_PATCH 0

/* Values are pinned: they never change their meaning. */
typedef enum eq_status {
    EQ_OK = 0,
    EQ_ERR_ARGUMENT = 1,    /* a null pointer, an index out of range, a wrong dtype or size */
    EQ_ERR_MEMORY = 2,      /* malloc failed, or the given memory is too small or misaligned */
    EQ_ERR_IO = 3,          /* the file cannot be opened or read */
    EQ_ERR_FORMAT = 4,      /* not an .eqm file, truncated or damaged */
    EQ_ERR_VERSION = 5,     /* made for a newer edgeq */
    EQ_ERR_INVALID = 6,     /* the file contradicts itself */
    EQ_ERR_UNSUPPORTED = 7, /* left out of this build, or impossible on this machine */
    EQ_ERR_VERIFY = 8       /* a golden case gave other bytes */
} eq_status;

typedef enum eq_dtype {
    EQ_INT8 = 1,
    EQ_UINT8 = 2,
    EQ_INT16 = 3,
    EQ_INT32 = 4,
    EQ_INT64 = 5,
    EQ_FLOAT32 = 6,
    EQ_BOOL = 7
} eq_dtype;

#define EQ_RANK_MAX 6

typedef struct eq_model eq_model;
typedef struct eq_session eq_session;

/* An input or output as the caller sees it. Strings live as long as the model. */
typedef struct eq_tensor_info {
    const char *name;
    eq_dtype dtype; /* the source network's own dtype */
    uint32_t rank;
    int32_t shape[EQ_RANK_MAX];
    size_t bytes; /* of the whole tensor in `dtype` */
    float scale;  /* real = scale * (q - zero_point); 0: not quantized */
    int32_t zero_point;
    eq_dtype storage; /* how eq_session_input/output hold it; differs from dtype where that is */
    int32_t storage_zero_point; /* uint8 (storage = value - 128) or float32 (quantized by scale) */
    const char *labels;         /* one label a line, "" if the network has none */
} eq_tensor_info;

/* ---- the library */
EQ_API const char *eq_version(void);    /* "0.1.0" */
EQ_API const char *eq_last_error(void); /* of the calling thread, never NULL */
EQ_API const char *eq_status_name(eq_status status);
EQ_API const char *eq_dtype_name(eq_dtype dtype);

/* ---- instruction sets that this build has kernels for, in rising order; 0 is "scalar" */
typedef struct eq_isa_info {
    const char *name;    /* "avx2" */
    const char *missing; /* a clause on what this machine lacks for it, "" if nothing */
} eq_isa_info;

EQ_API uint32_t eq_isa_count(void);
EQ_API eq_status eq_isa_get(uint32_t isa, eq_isa_info *info);
/* The one whose kernels a model opened now gets: the highest that this machine has, at most that
 * which the environment variable EDGEQ_ISA names; EQ_ERR_ARGUMENT if it names none. */
EQ_API eq_status eq_isa_chosen(uint32_t *isa);
/* For rooflines: multiplies int8 numbers in registers, `turns` times some hundreds, and returns how
 * many multiply-accumulates that were; the time is the caller's to take. 0: unknown for this set.
 */
EQ_API uint64_t eq_isa_peak(uint32_t isa, uint32_t turns);

/* ---- models */

/* Opens a model that stays in the caller's memory: `data` is not copied, must be aligned to 16
 * bytes and must live and stay unchanged until the model is closed. */
EQ_API eq_status eq_model_open(const void *data, size_t size, eq_model **model);

/* Maps a file. The file must not be changed in place while the model is open. */
EQ_API eq_status eq_model_open_file(const char *path, eq_model **model);

/* The same without malloc: the handle is put into `memory` (aligned to 16 bytes) of eq_model_size()
 * bytes. eq_model_close() then releases nothing. */
EQ_API eq_status eq_model_size(const void *data, size_t size, size_t *bytes);
EQ_API eq_status eq_model_open_in(void *memory, size_t bytes, const void *data, size_t size,
                                  eq_model **model);

EQ_API void eq_model_close(eq_model *model); /* NULL is fine; destroy its sessions first */

EQ_API uint32_t eq_model_input_count(const eq_model *model);
EQ_API uint32_t eq_model_output_count(const eq_model *model);
EQ_API eq_status eq_model_input(const eq_model *model, uint32_t index, eq_tensor_info *info);
EQ_API eq_status eq_model_output(const eq_model *model, uint32_t index, eq_tensor_info *info);

/* "source_format", "source_sha256", "tool", ...; NULL where the file has no such key. */
EQ_API const char *eq_model_metadata(const eq_model *model, const char *key);

EQ_API uint32_t eq_model_op_count(const eq_model *model);
EQ_API const char *eq_model_op_name(const eq_model *model,
                                    uint32_t op); /* the layer's name or "" */
EQ_API const char *eq_model_op_type(const eq_model *model, uint32_t op); /* "CONV_2D" */
EQ_API const char *eq_model_op_kernel(const eq_model *model,
                                      uint32_t op); /* ISA that runs it: "scalar" */
/* The kernel of that instruction set: "gemm", "" where none is needed; and how the op uses it, or
 * what it does without one: "1x1: pixels in place". */
EQ_API const char *eq_model_op_slot(const eq_model *model, uint32_t op);
EQ_API const char *eq_model_op_why(const eq_model *model, uint32_t op);
/* Bytes of weights in that kernel's own layout, beside those in the file. */
EQ_API size_t eq_model_op_packed(const eq_model *model, uint32_t op);
EQ_API const char *eq_model_isa(const eq_model *model);

/* ---- sessions */

/* The exact number of bytes that a session of this model needs, everything included; `arena` and
 * `scratch` (may be NULL) say how much of it is activations and kernels' working memory. */
EQ_API eq_status eq_session_size(const eq_model *model, size_t *bytes, size_t *arena,
                                 size_t *scratch);

EQ_API eq_status eq_session_create(const eq_model *model, eq_session **session); /* by malloc */

/* In the caller's memory: at least eq_session_size() bytes, aligned to 16. */
EQ_API eq_status eq_session_create_in(const eq_model *model, void *memory, size_t bytes,
                                      eq_session **session);
EQ_API void eq_session_destroy(eq_session *session); /* NULL is fine */

/* How a session runs; all 0 is what the functions without options do. */
typedef struct eq_session_options {
    uint32_t threads; /* that work on one run, the caller's among them: 1 (as 0) to 64 */
    /* The threads' CPUs (Linux), NULL: any. Thread k runs on cpus[k % cpu_count]; thread 0 is the
     * caller's and stays where the caller puts it. The array is copied. */
    const uint32_t *cpus;
    uint32_t cpu_count;
} eq_session_options;

/* The same with options (may be NULL). The outputs never depend on them. A session of several
 * threads starts its own in the first run that has work for them; eq_session_destroy() ends them,
 * also where the session lies in the caller's memory. Their stacks are the system's and not in
 * eq_session_size_with(). After a fork the child's copy starts threads of its own. Builds with
 * EQ_NO_THREADS refuse more than one thread: EQ_ERR_UNSUPPORTED. */
EQ_API eq_status eq_session_size_with(const eq_model *model, const eq_session_options *options,
                                      size_t *bytes, size_t *arena, size_t *scratch);
EQ_API eq_status eq_session_create_with(const eq_model *model, const eq_session_options *options,
                                        eq_session **session);
EQ_API eq_status eq_session_create_in_with(const eq_model *model, const eq_session_options *options,
                                           void *memory, size_t bytes, eq_session **session);

/* The tensors where they lie in the session's memory, in their storage dtype. Inputs must be
 * written before every run: their memory is reused while running. Outputs hold until the next run.
 */
EQ_API void *eq_session_input(eq_session *session, uint32_t index);
EQ_API const void *eq_session_output(const eq_session *session, uint32_t index);

EQ_API eq_status eq_run(eq_session *session);

/* Called before (begin = 1) and after (begin = 0) every op; NULL switches it off. */
typedef void (*eq_op_hook)(void *user, uint32_t op, int begin);
EQ_API void eq_session_set_hook(eq_session *session, eq_op_hook hook, void *user);

/* ---- the edge: copies with conversion between the caller's dtype and the storage dtype.
 * `dtype` is the tensor's own dtype, its storage dtype, or EQ_FLOAT32 for a quantized tensor:
 * q = clamp(round_half_away(x / scale) + zero_point), NaN gives the zero point; x = scale * (q -
 * zero_point). `bytes` is the size of the caller's array and must match exactly. EQ_NO_FLOAT builds
 * refuse EQ_FLOAT32. */
EQ_API eq_status eq_set_input(eq_session *session, uint32_t index, const void *data, eq_dtype dtype,
                              size_t bytes);
EQ_API eq_status eq_get_output(const eq_session *session, uint32_t index, void *data,
                               eq_dtype dtype, size_t bytes);

/* ---- pictures: what calibration did to its pictures, in integers and by a table a channel.
 * docs/NUMERICS.md has the arithmetic. */
typedef enum eq_fit {
    EQ_STRETCH = 0,     /* both sides to the input's */
    EQ_CENTRE_CROP = 1, /* cut to the input's shape, then resized */
    EQ_LETTERBOX = 2    /* resized as a whole, a colour around it */
} eq_fit;

typedef enum eq_order { EQ_RGB = 0, EQ_BGR = 1, EQ_GRAY = 2 } eq_order;

typedef struct eq_picture_info {
    uint32_t width, height, channels; /* of the input */
    eq_fit fit;
    eq_order order;     /* that the network wants; pictures are given as RGB */
    uint32_t crop;      /* the central part of the picture that is kept, in 65536ths */
    uint8_t pad[3];     /* the colour, RGB */
    int channels_first; /* 1: the input's shape is (1, C, H, W), 0: (1, H, W, C) */
} eq_picture_info;

/* EQ_ERR_ARGUMENT where the file says nothing about pictures for this input. */
EQ_API eq_status eq_model_picture(const eq_model *model, uint32_t index, eq_picture_info *info);

/* Writes input `index` from a picture of `width` x `height` pixels, 3 bytes each: red, green, blue.
 * `stride`: bytes between the starts of two rows, 0: 3 * width. The picture may have any size up to
 * 2^20 a side that is not shrunk beyond all measure (some 5,000 pixels to 32). Nothing is
 * allocated, no floating point is used. EQ_NO_PICTURES builds: EQ_ERR_UNSUPPORTED. */
EQ_API eq_status eq_preprocess_rgb(eq_session *session, uint32_t index, const uint8_t *rgb,
                                   uint32_t width, uint32_t height, size_t stride);

/* ---- proof: runs golden case `index` (0 ... eq_model_golden_count - 1) of the file in `session`
 * and returns EQ_ERR_VERIFY if the outputs' SHA-256 differs. `sha256` (may be NULL) receives 32
 * bytes. */
EQ_API uint32_t eq_model_golden_count(const eq_model *model);
EQ_API eq_status eq_verify(eq_session *session, uint32_t index, uint8_t *sha256);
/* The digest that a golden case with this seed has on this machine: what a writer stores. */
EQ_API eq_status eq_golden_digest(eq_session *session, uint64_t seed, uint8_t *sha256);

#ifdef __cplusplus
}
#endif
#endif
