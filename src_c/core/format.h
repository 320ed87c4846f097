/* SPDX-License-Identifier: Apache-2.0
 *
 * The .eqm file, version 1.1, as the C library reads it: in place, without a parsing pass.
 * docs/FORMAT.md is the specification; edgeq/format/spec.py is the writer's mirror of this file and
 * tests/test_format.py compares the two field by field.
 *
 *   header | section table | sections, each at a multiple of 16 bytes, DATA at one of 64
 *
 * All integers are little-endian, all structs have their natural alignment and no hidden padding.
 * A `ref` is a byte offset into the DATA section; EQ_NONE means absent.
 * A `str` is a byte offset into the STRS section, of a NUL-terminated UTF-8 string; 0 is "".
 */
#ifndef EQ_CORE_FORMAT_H
#define EQ_CORE_FORMAT_H

#include <stdint.h>

/* clang-format off */
#define EQ_FILE_MAGIC "\x89" "EQM\r\n\x1a\n" /* two literals: \x89E would be one number */
/* clang-format on */
#define EQ_FILE_MAJOR 1
#define EQ_FILE_MINOR 1 /* the newest; a file has the lowest that says all it needs */
#define EQ_SECTION_ALIGN 16u
#define EQ_DATA_ALIGN 64u  /* section DATA, and the weights in it */
#define EQ_ARENA_ALIGN 16u /* activation tensors */
#define EQ_NONE 0xFFFFFFFFu
#define EQ_MAX_RANK 6
#define EQ_MAX_TENSORS 16384u
#define EQ_MAX_OPS 16384u
#define EQ_MAX_IO 256u
#define EQ_MAX_CONCAT 4096u /* inputs of CONCATENATION, the most of any op */
#define EQ_MAX_SECTIONS 64u
#define EQ_MAX_PICTURE 65535 /* height and width of an input that takes pictures */
#define EQ_MAX_DIM 0x7FFFFFFF

#define EQ_FOURCC(a, b, c, d) \
    ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

/* Section types. A reader skips types that it does not know unless EQ_SECTION_REQUIRED is set. */
enum {
    EQ_SEC_TENSORS = EQ_FOURCC('T', 'E', 'N', 'S'), /* eq_file_tensor[] */
    EQ_SEC_OPS = EQ_FOURCC('O', 'P', 'S', ' '),     /* eq_file_op[], in execution order */
    EQ_SEC_ARGS = EQ_FOURCC('A', 'R', 'G', 'S'),    /* uint32_t[]: tensor indices */
    EQ_SEC_PARAMS = EQ_FOURCC('P', 'A', 'R', 'M'),  /* the eq_*_params structs */
    EQ_SEC_IO = EQ_FOURCC('I', 'O', ' ', ' '),      /* eq_file_io[] */
    EQ_SEC_ENTRY = EQ_FOURCC('E', 'N', 'T', 'R'),   /* eq_file_entry[] */
    EQ_SEC_STRINGS = EQ_FOURCC('S', 'T', 'R', 'S'), /* starts and ends with NUL */
    EQ_SEC_META = EQ_FOURCC('M', 'E', 'T', 'A'),    /* eq_file_meta[] */
    EQ_SEC_GOLDEN = EQ_FOURCC('G', 'O', 'L', 'D'),  /* eq_file_golden[] */
    EQ_SEC_PICTURE = EQ_FOURCC('P', 'I', 'C', 'T'), /* eq_file_picture[], since 1.1 */
    EQ_SEC_DATA = EQ_FOURCC('D', 'A', 'T', 'A')     /* weights, biases, tables */
};
#define EQ_SECTION_REQUIRED 1u

typedef struct eq_file_header { /* 64 bytes */
    uint8_t magic[8];
    uint16_t major, minor;
    uint32_t section_count;
    uint64_t file_size;
    uint64_t arena_size;  /* bytes of the activation arena */
    uint32_t header_crc;  /* CRC-32 of header (this field 0) and section table */
    uint32_t reserved[7]; /* 0 */
} eq_file_header;

typedef struct eq_file_section { /* 32 bytes */
    uint32_t type, flags;
    uint64_t offset, size; /* bytes, from the start of the file */
    uint32_t crc;          /* CRC-32 (IEEE 802.3, as zlib) of the section's bytes */
    uint32_t layout;       /* layout tag of packed data, 0: plain */
} eq_file_section;

/* Values of eq_dtype in edgeq.h; storage types of tensors inside a program. */
enum {
    EQ_DT_INT8 = 1,
    EQ_DT_UINT8 = 2,
    EQ_DT_INT16 = 3,
    EQ_DT_INT32 = 4,
    EQ_DT_INT64 = 5,
    EQ_DT_FLOAT32 = 6,
    EQ_DT_BOOL = 7,
    EQ_DT_INT4 = 8,
    EQ_DT_INT2 = 9
};

enum {
    EQ_KIND_ACTIVATION = 0, /* in the arena, written by one op */
    EQ_KIND_INPUT = 1,      /* in the arena, written by the caller */
    EQ_KIND_CONST = 2,      /* in the DATA section */
    EQ_KIND_VIEW = 3,       /* the bytes of tensor `storage`, under another shape */
    EQ_KIND_STATE = 4       /* reserved for state that survives a run */
};

/* Time: inputs are written at step 0, op k runs at step k + 1, outputs are read at step ops + 1. */
/* A view repeats the offset and the steps of its owner. Constants live from step 0 to step 0. */
typedef struct eq_file_tensor {       /* 56 bytes */
    uint8_t dtype, kind, rank, flags; /* flags: 0 */
    uint32_t storage;                 /* the tensor that owns the bytes; itself unless a view */
    int32_t dims[EQ_MAX_RANK];        /* unused ones are 1 */
    uint32_t first_step, last_step;   /* written at, last read at */
    uint64_t offset;                  /* into the arena, or into DATA for constants */
    uint32_t scale;     /* float32 bits, metadata: real = scale * (q - zero_point); 0: none */
    int32_t zero_point; /* metadata */
} eq_file_tensor;

typedef struct eq_file_op { /* 24 bytes */
    uint16_t opcode, flags; /* flags: 0 */
    uint16_t input_count, output_count;
    uint32_t args;                /* index into ARGS: inputs, then outputs */
    uint32_t params, params_size; /* into PARM, a multiple of 4 */
    uint32_t name;                /* str */
} eq_file_op;

/* The scale is that of the caller's dtype, or of the tensor where that dtype is float32. */
typedef struct eq_file_io { /* 24 bytes */
    uint32_t name;          /* str */
    uint32_t tensor;
    uint8_t dtype; /* what the caller sees: int8, uint8, int16, int32, int64, float32, bool */
    uint8_t reserved[3];
    uint32_t scale; /* float32 bits; 0: not quantized */
    int32_t zero_point;
    uint32_t labels; /* str: one label a line, or 0 */
} eq_file_io;

typedef struct eq_file_entry { /* 24 bytes: one callable program */
    uint32_t name;             /* str, "main" for the first */
    uint32_t first_op, op_count;
    uint32_t io; /* index into IO: inputs, then outputs */
    uint32_t input_count, output_count;
} eq_file_entry;

typedef struct eq_file_meta {
    uint32_t key, value;
} eq_file_meta; /* two str */

typedef struct eq_file_golden { /* 48 bytes */
    uint64_t seed;              /* of the input generator, docs/FORMAT.md */
    uint32_t entry;
    uint32_t reserved;
    uint8_t sha256[32]; /* of the output tensors' bytes in the arena, concatenated */
} eq_file_golden;

/* How a picture becomes an input: docs/FORMAT.md, PICT. */
enum { EQ_FIT_STRETCH = 0, EQ_FIT_CROP = 1, EQ_FIT_PAD = 2 };
enum { EQ_ORDER_RGB = 0, EQ_ORDER_BGR = 1, EQ_ORDER_GRAY = 2 };
enum { EQ_LAYOUT_LAST = 0, EQ_LAYOUT_FIRST = 1 }; /* of the channels: (1,H,W,C), (1,C,H,W) */
#define EQ_CROP_ONE 65536u

typedef struct eq_file_picture { /* 20 bytes */
    uint32_t input;              /* of the entry */
    uint8_t fit, order, layout;
    uint8_t pad[3]; /* red, green, blue around the picture; 0 unless fit is EQ_FIT_PAD */
    uint8_t reserved[2];
    uint32_t crop;  /* the part that is kept, of EQ_CROP_ONE */
    uint32_t table; /* ref int8 or int16, as the input's tensor: [C][256] */
} eq_file_picture;

/* ---- operators -------------------------------------------------------------------------------
 * x: input, w: weights, y: output. act_min, act_max: the fused activation, within the range of y.
 * A multiplier m with exponent e stands for m * 2^(e - 31); m is 0 or in [2^30, 2^31), e in [-31,
 * 30]. With EQ_ARITH_R15 m is 0 or in [2^14, 2^15), e in [-31, 0], and they stand for m * 2^(e - 15
 * - fraction). With EQ_ARITH_R22, for layers with an int16 input or output, m is 0 or in [2^14,
 * 2^22), e in [-53, -1], and they stand for m * 2^e. docs/NUMERICS.md defines the arithmetic.
 * Opcodes are never reused.
 *
 * Tensors are int8; `int8/16` marks those that may also be int16, whose zero point is 0. */

enum { EQ_ARITH_R31 = 0, EQ_ARITH_R15 = 1, EQ_ARITH_R22 = 2 };

/* CONV_2D            x (N,H,W,C)  w (O,KH,KW,C/groups)  y (N,OH,OW,O)
 * DEPTHWISE_CONV_2D  x (N,H,W,C)  w (1,KH,KW,C*depth_multiplier)  y (N,OH,OW,C*depth_multiplier)
 * FULLY_CONNECTED    x (...,K)    w (O,K)  y (...,O): windows, padding and groups are 1, 0 and 1
 * TRANSPOSE_CONV     x (N,H,W,C)  w (O,KH,KW,C)  y (N,OH,OW,O)
 * x and y are int8/16. */
typedef struct eq_conv_params { /* 64 bytes */
    uint16_t stride_h, stride_w, dilation_h, dilation_w;
    int32_t pad_top, pad_left; /* bottom and right follow from the shapes */
    uint32_t groups, depth_multiplier;
    int32_t x_zero, w_zero, y_zero, act_min, act_max;
    uint32_t bias;          /* ref int32[channels], of R22 int64[channels], or EQ_NONE */
    uint32_t multiplier;    /* ref int32[requant_count] */
    uint32_t exponent;      /* ref int8[requant_count] */
    uint32_t requant_count; /* 1 or channels */
    uint16_t arithmetic;    /* EQ_ARITH_... */
    uint16_t fraction;      /* of R15: F */
} eq_conv_params;

/* ADD (and SUB: sign2 = -1): broadcasting, int8/16.
 * y = R31(R31((x1-z1)<<left_shift) + sign2*R31((x2-z2)<<left_shift)) */
typedef struct eq_add_params { /* 52 bytes */
    int32_t x1_zero, x2_zero, y_zero, left_shift;
    int32_t m1, e1, m2, e2, my, ey;
    int32_t act_min, act_max, sign2;
} eq_add_params;

/* MUL: broadcasting, int8/16. y = R31((x1-z1)*(x2-z2)) */
typedef struct eq_mul_params { /* 28 bytes */
    int32_t x1_zero, x2_zero, y_zero, m, e, act_min, act_max;
} eq_mul_params;

/* MAXIMUM, MINIMUM: broadcasting, on the stored integers, all int8 or all int16; no params. */

/* MAX_POOL_2D, AVERAGE_POOL_2D: x (N,H,W,C) y (N,OH,OW,C), both int8 or both int16. The average
 * rounds half away from zero after `offset` (128 where the source was uint8, else 0) was added to
 * each value. */
typedef struct eq_pool_params { /* 28 bytes */
    uint16_t kernel_h, kernel_w, stride_h, stride_w;
    int32_t pad_top, pad_left, act_min, act_max, offset;
} eq_pool_params;

/* MEAN, SUM: y = R31(sum of (x - x_zero) over axes) + y_zero; m in [0, 2^31): 1/count is folded
 * into it; int8/16. REDUCE_MAX: only axes, the rest 0; both int8 or both int16. y has the reduced
 * axes as 1 (keep_dims); a view drops them. */
typedef struct eq_reduce_params { /* 20 bytes */
    uint32_t axes;                /* bit i: axis i */
    int32_t x_zero, y_zero, m, e;
} eq_reduce_params;

/* LUT: y = table[x + 128] */
typedef struct eq_lut_params {
    uint32_t table; /* ref int8[256] */
} eq_lut_params;

/* SOFTMAX over the last axis: exp_table[d] = exp(-d * beta * scale) in Q0.31, d = max - x; 0 where
 * negligible */
typedef struct eq_softmax_params {
    uint32_t exp_table; /* ref int32[256]: the first 2^31 - 1, none negative */
} eq_softmax_params;

/* LOG_SOFTMAX over the last axis: diff_table[d] = -d * scale in Q5.26 */
typedef struct eq_log_softmax_params { /* 20 bytes */
    uint32_t exp_table, diff_table;    /* ref int32[256] */
    int32_t diff_min, reverse_m, reverse_e;
} eq_log_softmax_params;

/* PRELU: x, alpha, broadcasting, int8/16: y = x >= 0 ? R31(x; m1, e1) : R31(x * alpha; m2, e2) */
typedef struct eq_prelu_params { /* 28 bytes */
    int32_t x_zero, alpha_zero, y_zero, m1, e1, m2, e2;
} eq_prelu_params;

/* PAD: what lies behind follows from the shapes */
typedef struct eq_pad_params {
    int32_t before[EQ_MAX_RANK], value;
} eq_pad_params;

/* MIRROR_PAD: reflect = 1 does not repeat the border element, 0 (symmetric) does */
typedef struct eq_mirror_pad_params {
    int32_t before[EQ_MAX_RANK], reflect;
} eq_mirror_pad_params;

typedef struct eq_transpose_params {
    uint8_t perm[EQ_MAX_RANK], reserved[2];
} eq_transpose_params;

/* CONCATENATION of 1 ... EQ_MAX_CONCAT inputs */
typedef struct eq_concat_params {
    uint32_t axis;
} eq_concat_params;

/* SLICE: y[i...] = x[begin + i * stride ...]; strides may be negative */
typedef struct eq_slice_params {
    int32_t begin[EQ_MAX_RANK], stride[EQ_MAX_RANK];
} eq_slice_params;

/* RESIZE_BILINEAR, both int8 or both int16: positions in Q10 as TFLite's integer kernel computes
 * them from these */
typedef struct eq_resize_params {
    int32_t scale_h, scale_w;
    uint32_t half_pixel;
} eq_resize_params;

/* RESIZE_BILINEAR_U8: the float32 kernel that TFLite uses for uint8, reproduced in integers.
 * Tables: an eq_resize_tap per output row (OH) and per output column (OW). */
typedef struct eq_resize_u8_params {
    uint32_t rows, cols;
} eq_resize_u8_params;
typedef struct eq_resize_tap {
    uint32_t lower; /* the lower sample; bit 31: the upper one is the next, else the same */
    uint32_t w_lower, w_upper; /* float32 bit patterns of the two weights */
} eq_resize_tap;

/* RESIZE_NEAREST: ref uint32[OH], uint32[OW]: the source row and column */
typedef struct eq_resize_nearest_params {
    uint32_t rows, cols;
} eq_resize_nearest_params;

/* ARG_MAX: x int8/16, y int32 or int64, the axis dropped as 1; the first maximum wins */
typedef struct eq_argmax_params {
    uint32_t axis;
} eq_argmax_params;

/* COPY: y = x, same bytes; no params */

/* REQUANTIZE: x and y int8, int16 or int32: y = R31(x - x_zero; m, e) + y_zero */
typedef struct eq_requantize_params { /* 24 bytes */
    int32_t x_zero, y_zero, m, e, act_min, act_max;
} eq_requantize_params;

/* LUT16: x int8, y int16 = table[x + 128] */
typedef struct eq_lut16_params {
    uint32_t table; /* ref int16[256] */
} eq_lut16_params;

/* INTERPOLATE: x int16, y int8/16: between the two of 513 entries, 128 inputs apart */
typedef struct eq_interpolate_params {
    uint32_t table; /* ref int16[513]; for int8 in steps of 1/256 */
} eq_interpolate_params;

/* SIGMOID: x and y int16: the logistic function or tanh as TFLite's int16 kernels interpolate them,
 * at x * m / 2^shift in steps of 1 / 12288 */
typedef struct eq_sigmoid_params { /* 16 bytes */
    uint32_t table;                /* ref uint16[256]: the logistic function of i / 24 in Q0.16 */
    int32_t m, shift;
    uint32_t tanh; /* 0 or 1 */
} eq_sigmoid_params;

/* SOFTMAX16 over the last axis: x and y int16. R31(x - max; m, e) is in steps of 10 / 65535. */
typedef struct eq_softmax16_params { /* 16 bytes */
    uint32_t exp_table;              /* ref int16[513]: exp on [-10, 0] in Q0.15 */
    uint32_t reciprocal_table;       /* ref int16[513]: 1 / (1 + t) on [0, 1] in Q0.15 */
    int32_t m, e;
} eq_softmax16_params;
/* ---- whole numbers: int32 and int64 tensors, and bool for masks. All sums and products wrap. */

enum { /* of INTEGER: int32 or int64, from EQUAL on y is bool; AND and OR: bool */
       EQ_INT_ADD = 0,
       EQ_INT_SUB = 1,
       EQ_INT_MUL = 2,
       EQ_INT_MAXIMUM = 3,
       EQ_INT_MINIMUM = 4,
       EQ_INT_DIV = 5, /* towards zero */
       EQ_INT_FLOOR_DIV = 6,
       EQ_INT_FLOOR_MOD = 7,
       EQ_INT_EQUAL = 8,
       EQ_INT_NOT_EQUAL = 9,
       EQ_INT_LESS = 10,
       EQ_INT_LESS_EQUAL = 11,
       EQ_INT_AND = 12,
       EQ_INT_OR = 13,
       EQ_INT_COUNT
};
enum { /* of REDUCE_INTEGER; ALL and ANY: bool */
       EQ_REDUCE_SUM = 0,
       EQ_REDUCE_PROD = 1,
       EQ_REDUCE_MAX = 2,
       EQ_REDUCE_MIN = 3,
       EQ_REDUCE_ALL = 4,
       EQ_REDUCE_ANY = 5,
       EQ_REDUCE_COUNT
};
#define EQ_MAX_BOUNDARIES 65535

/* INTEGER: x1, x2, broadcasting */
typedef struct eq_integer_params {
    uint32_t function; /* EQ_INT_... */
} eq_integer_params;

/* SELECT: mask (bool), x1, x2, broadcasting: y = mask ? x1 : x2; no params.
 * CAST: int8, int32, int64, bool to one of them; no params. */

/* REDUCE_INTEGER: y has the reduced axes as 1 */
typedef struct eq_reduce_integer_params {
    uint32_t function, axes; /* EQ_REDUCE_...; bit i: axis i */
} eq_reduce_integer_params;

/* CUMSUM: exclusive: without the element itself; reverse: from the end */
typedef struct eq_cumsum_params {
    uint32_t axis, exclusive, reverse;
} eq_cumsum_params;

/* TABLE: y = table[x + 128], x int8, y int32, int64 or bool */
typedef struct eq_table_params {
    uint32_t table; /* ref int32[256] */
} eq_table_params;

/* SEARCH: y = values[number of boundaries <= x], x int32 or int64, y int8 */
typedef struct eq_search_params { /* 12 bytes */
    uint32_t count;
    uint32_t boundaries; /* ref int32[count], ascending */
    uint32_t values;     /* ref int8[count + 1] */
} eq_search_params;

/* DIV: broadcasting. y = R31((x1 - x1_zero) * 2^20; multiplier[x2 + 128], exponent[x2 + 128]) +
 * y_zero; the multipliers may be negative, exponents are in [-31, 2]. */
typedef struct eq_div_params { /* 24 bytes */
    int32_t x1_zero, y_zero, act_min, act_max;
    uint32_t multiplier, exponent; /* ref int32[256], int8[256] */
} eq_div_params;

/* GATHER: x, indices: y = x[..., indices, ...] on the axis, with leading axes in common */
typedef struct eq_gather_params {
    uint32_t axis, batch_dims;
} eq_gather_params;

/* GATHER_ND: x, indices (..., depth): y = x[indices], SCATTER_ND: indices, x: y[indices] += x,
 * UPDATE_SLICE: x, update, begin (rank,): y = x but for the slice, TOP_K: indices of the greatest
 * of each row; no params. Indices are int32 or int64 and clamped to their axis. */

/* BATCH_MATMUL: x (..., M, K), w (..., N, K), y (..., M, N), leading axes broadcast:
 * y = R31(sum (x - x_zero) * (w - w_zero); m, e) + y_zero */
typedef struct eq_matmul_params { /* 28 bytes */
    int32_t x_zero, w_zero, y_zero, m, e, act_min, act_max;
} eq_matmul_params;

/* LAYER_NORM over the axes from `axis` on, n elements together. gamma[k] * 2^-fraction and
 * beta[k] * 2^-12 are in steps of y, the zero point in beta; k is the element's number in its row,
 * or with per_row the row's number, modulo count. */
#define EQ_MAX_NORM 32768
#define EQ_MAX_NORM_EPSILON ((int64_t)1 << 61)
typedef struct eq_layer_norm_params { /* 40 bytes */
    uint32_t axis, count, fraction, per_row;
    uint32_t centred; /* 1: around the mean; 0: around x_zero */
    int32_t x_zero;
    uint32_t gamma, beta; /* ref int32[count] */
    uint32_t epsilon[2];  /* low and high half: in squared steps of x, times n^2 * 2^16 */
} eq_layer_norm_params;

/* L2_NORMALIZATION over the last axis; y has a scale of 1/128 and the zero point 0 */
typedef struct eq_l2_params {
    int32_t x_zero;
} eq_l2_params;

_Static_assert(sizeof(eq_file_header) == 64, "header");
_Static_assert(sizeof(eq_file_section) == 32, "section");
_Static_assert(sizeof(eq_file_tensor) == 56, "tensor");
_Static_assert(sizeof(eq_file_op) == 24, "op");
_Static_assert(sizeof(eq_file_io) == 24, "io");
_Static_assert(sizeof(eq_file_entry) == 24, "entry");
_Static_assert(sizeof(eq_file_golden) == 48, "golden");
_Static_assert(sizeof(eq_file_picture) == 20, "picture");
_Static_assert(sizeof(eq_conv_params) == 64, "conv");
_Static_assert(sizeof(eq_add_params) == 52, "add");

#endif
