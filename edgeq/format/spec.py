# SPDX-License-Identifier: Apache-2.0
"""The binary layout of an .eqm file: the mirror of src_c/core/format.h and src_c/ops/ops.def.

docs/FORMAT.md is the specification, tests/test_format.py compares the three.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAGIC = b"\x89EQM\r\n\x1a\n"
VERSION = (1, 1)  # the newest; a file carries the lowest that says all it needs
PICTURE_VERSION = (1, 1)  # section PICT
SECTION_ALIGN = 16
DATA_ALIGN = 64  # of section DATA, and of the weights in it
ARENA_ALIGN = 16
NONE = 0xFFFFFFFF
MAX_RANK = 6
MAX_TENSORS = 16384
MAX_OPS = 16384
MAX_CONCAT = 4096  # inputs of CONCATENATION
MAX_TENSOR_BYTES = 2**31 - 1

# magic, major, minor, section_count, file_size, arena_size, header_crc, reserved
HEADER = struct.Struct("<8sHHIQQI28x")
SECTION = struct.Struct("<4sIQQII")  # type, flags, offset, size, crc, layout
# dtype, kind, rank, flags, storage, dims, first_step, last_step, offset, scale, zero_point
TENSOR = struct.Struct("<BBBBI6iIIQfi")
OP = struct.Struct(
    "<HHHHIIII"
)  # opcode, flags, input_count, output_count, args, params, params_size, name
IO = struct.Struct("<IIB3xfiI")  # name, tensor, dtype, scale, zero_point, labels
ENTRY = struct.Struct("<IIIIII")  # name, first_op, op_count, io, input_count, output_count
META = struct.Struct("<II")  # key, value
GOLDEN = struct.Struct("<QII32s")  # seed, entry, reserved, sha256
PICTURE = struct.Struct("<IBBB3s2xII")  # input, fit, order, layout, pad, crop, table

SECTIONS = ("TENS", "OPS ", "ARGS", "PARM", "IO  ", "ENTR", "STRS", "META", "GOLD", "PICT", "DATA")
SECTION_REQUIRED = 1


def section_align(kind: str) -> int:
    """What a section's offset in the file is a multiple of."""
    return DATA_ALIGN if kind == "DATA" else SECTION_ALIGN


DTYPES = {"int8": 1, "uint8": 2, "int16": 3, "int32": 4, "int64": 5, "float32": 6, "bool": 7}
ITEMSIZE = {"int8": 1, "uint8": 1, "int16": 2, "int32": 4, "int64": 8, "float32": 4, "bool": 1}
ARITH_R31, ARITH_R15, ARITH_R22 = 0, 1, 2  # of layers with weights: how they requantize
FRACTION_MAX = 6  # of R15
E_MIN_R22 = -53  # its exponents end at -1, its multipliers at 2^22 - 1
WIDE_LIMIT = 2**47 - 1  # of the accumulators of R22
FITS = {"stretch": 0, "crop": 1, "pad": 2}
ORDERS = {"rgb": 0, "bgr": 1, "gray": 2}
CROP_ONE = 1 << 16
MAX_PICTURE = 65535  # height and width of an input that takes pictures
KINDS = {"activation": 0, "input": 1, "const": 2, "view": 3, "state": 4}


@dataclass(frozen=True)
class OpLayout:
    """`fields`: (name, struct code). Code "R<i4" is a ref to an array of that numpy dtype, "6i"
    an array of six, "2I" one of two.
    """

    opcode: int
    fields: tuple[tuple[str, str], ...] = ()
    inplace: bool = False  # the output may lie on an input of its shape and element size


# The functions of INTEGER and of REDUCE_INTEGER, by their codes.
INTEGER_FUNCTIONS = (
    *("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "DIV", "FLOOR_DIV", "FLOOR_MOD"),
    *("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "AND", "OR"),
)
REDUCE_FUNCTIONS = ("SUM", "PROD", "MAX", "MIN", "ALL", "ANY")
MAX_BOUNDARIES = 65535  # of SEARCH


def _fields(text: str) -> tuple[tuple[str, str], ...]:
    pairs = (item.split(":") for item in text.split())
    return tuple((name, code) for name, code in pairs)


_CONV = _fields(
    "stride_h:H stride_w:H dilation_h:H dilation_w:H pad_top:i pad_left:i groups:I"
    " depth_multiplier:I x_zero:i w_zero:i y_zero:i act_min:i act_max:i"
    " bias:R<i4 multiplier:R<i4 exponent:R<i1"
    " requant_count:I arithmetic:H fraction:H"
)
_ADD = _fields(
    "x1_zero:i x2_zero:i y_zero:i left_shift:i m1:i e1:i m2:i e2:i my:i ey:i act_min:i"
    " act_max:i sign2:i"
)
_MUL = _fields("x1_zero:i x2_zero:i y_zero:i m:i e:i act_min:i act_max:i")
_POOL = _fields(
    "kernel_h:H kernel_w:H stride_h:H stride_w:H pad_top:i pad_left:i act_min:i act_max:i offset:i"
)
_REDUCE = _fields("axes:I x_zero:i y_zero:i m:i e:i")

OPS: dict[str, OpLayout] = {
    "CONV_2D": OpLayout(1, _CONV),
    "DEPTHWISE_CONV_2D": OpLayout(2, _CONV),
    "FULLY_CONNECTED": OpLayout(3, _CONV),
    "TRANSPOSE_CONV": OpLayout(4, _CONV),
    "ADD": OpLayout(5, _ADD, inplace=True),
    "MUL": OpLayout(6, _MUL, inplace=True),
    "MAXIMUM": OpLayout(7, inplace=True),
    "MINIMUM": OpLayout(8, inplace=True),
    "MAX_POOL_2D": OpLayout(9, _POOL),
    "AVERAGE_POOL_2D": OpLayout(10, _POOL),
    "MEAN": OpLayout(11, _REDUCE),
    "SUM": OpLayout(12, _REDUCE),
    "REDUCE_MAX": OpLayout(13, _REDUCE),
    "LUT": OpLayout(14, _fields("table:R<i1"), inplace=True),
    "SOFTMAX": OpLayout(15, _fields("exp_table:R<i4"), inplace=True),
    "LOG_SOFTMAX": OpLayout(
        16,
        _fields("exp_table:R<i4 diff_table:R<i4 diff_min:i reverse_m:i reverse_e:i"),
        inplace=True,
    ),
    "PRELU": OpLayout(
        17, _fields("x_zero:i alpha_zero:i y_zero:i m1:i e1:i m2:i e2:i"), inplace=True
    ),
    "PAD": OpLayout(18, _fields("before:6i value:i")),
    "MIRROR_PAD": OpLayout(19, _fields("before:6i reflect:i")),
    "TRANSPOSE": OpLayout(20, _fields("perm:6B reserved:H")),
    "CONCATENATION": OpLayout(21, _fields("axis:I")),
    "SLICE": OpLayout(22, _fields("begin:6i stride:6i")),
    "RESIZE_BILINEAR": OpLayout(23, _fields("scale_h:i scale_w:i half_pixel:I")),
    "RESIZE_BILINEAR_U8": OpLayout(24, _fields("rows:R<u4 cols:R<u4")),  # (OH, 3), (OW, 3)
    "RESIZE_NEAREST": OpLayout(25, _fields("rows:R<u4 cols:R<u4")),
    "ARG_MAX": OpLayout(26, _fields("axis:I")),
    "COPY": OpLayout(27, inplace=True),
    "REQUANTIZE": OpLayout(
        28, _fields("x_zero:i y_zero:i m:i e:i act_min:i act_max:i"), inplace=True
    ),
    "LUT16": OpLayout(29, _fields("table:R<i2")),
    "INTERPOLATE": OpLayout(30, _fields("table:R<i2"), inplace=True),
    "SIGMOID": OpLayout(31, _fields("table:R<u2 m:i shift:i tanh:I"), inplace=True),
    "SOFTMAX16": OpLayout(
        32, _fields("exp_table:R<i2 reciprocal_table:R<i2 m:i e:i"), inplace=True
    ),
    "INTEGER": OpLayout(64, _fields("function:I"), inplace=True),
    "SELECT": OpLayout(65, inplace=True),
    "CAST": OpLayout(66),
    "REDUCE_INTEGER": OpLayout(67, _fields("function:I axes:I")),
    "CUMSUM": OpLayout(68, _fields("axis:I exclusive:I reverse:I")),
    "TABLE": OpLayout(69, _fields("table:R<i4")),
    "SEARCH": OpLayout(70, _fields("count:I boundaries:R<i4 values:R<i1")),
    "DIV": OpLayout(
        71,
        _fields("x1_zero:i y_zero:i act_min:i act_max:i multiplier:R<i4 exponent:R<i1"),
        inplace=True,
    ),
    "GATHER": OpLayout(72, _fields("axis:I batch_dims:I")),
    "GATHER_ND": OpLayout(73),
    "SCATTER_ND": OpLayout(74),
    "UPDATE_SLICE": OpLayout(75),
    "TOP_K": OpLayout(76),
    "BATCH_MATMUL": OpLayout(77, _fields("x_zero:i w_zero:i y_zero:i m:i e:i act_min:i act_max:i")),
    "LAYER_NORM": OpLayout(
        78,
        _fields(
            "axis:I count:I fraction:I per_row:I centred:I x_zero:i gamma:R<i4 beta:R<i4 epsilon:2I"
        ),
        inplace=True,
    ),
    "L2_NORMALIZATION": OpLayout(79, _fields("x_zero:i"), inplace=True),
}


def ref_dtype(name: str, code: str, arithmetic: int) -> str:
    """The dtype of the array that field `name` refers to: R22 has biases of 64 bits."""
    return "<i8" if name == "bias" and arithmetic == ARITH_R22 else code[1:]
