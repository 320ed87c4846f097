# SPDX-License-Identifier: Apache-2.0
"""Hand-made programs, written straight into .eqm files without a source network.

PROGRAMS has one function a program. The first three are small networks, the others hold all other
operators. eqm_evaluate computes their golden cases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeq.format.golden import golden_inputs
from edgeq.format.program import Op, Picture, Port, Program, Value
from edgeq.format.spec import INTEGER_FUNCTIONS

Shape = tuple[int, ...]

HALF = (1 << 30, 0)  # (multiplier, exponent) of 1/2


def noise(seed: int, shape: Shape, dtype: str = "int8") -> np.ndarray:
    """The same numbers everywhere."""
    return golden_inputs(seed, [(dtype, shape)])[0]


@dataclass
class Builder:
    """A program under construction."""

    ops: list[Op] = field(default_factory=list)
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)

    def input(
        self, name: str, shape: Shape, dtype: str = "int8", scale: float = 0.5, zero: int = 3
    ) -> Value:
        """An int8 tensor that the caller sees as `dtype`; or one of int16, whose `zero` is 0."""
        value = Value(name, "int16" if dtype == "int16" else "int8", shape, scale, zero)
        seen = zero + 128 if dtype == "uint8" else zero
        self.inputs.append(Port(name, value, dtype, scale, seen))
        return value

    def const(self, array: np.ndarray, scale: float = 0.25) -> Value:
        return Value("", str(array.dtype), tuple(array.shape), scale, 0, data=array)

    def view(self, value: Value, shape: Shape) -> Value:
        return Value("", value.dtype, shape, value.scale, value.zero_point, view_of=value)

    def op(
        self,
        opcode: str,
        inputs: Sequence[Value],
        shape: Shape,
        dtype: str = "int8",
        **params: Any,
    ) -> Value:
        """Appends an op, named after its place; returns its output."""
        output = Value("", dtype, shape, 0.5, 0 if dtype == "int16" else -1)
        name = f"layer{len(self.ops)}/{opcode.lower()}"
        self.ops.append(Op(opcode, name, list(inputs), output, params))
        return output

    def mac(
        self, opcode: str, x: Value, w: Value, shape: Shape, dtype: str = "int8", **params: Any
    ) -> Value:
        """A convolution with one multiplier a channel."""
        channels = shape[-1]
        window = {"stride_h": 1, "stride_w": 1, "dilation_h": 1, "dilation_w": 1}
        geometry = {"pad_top": 0, "pad_left": 0, "groups": 1, "depth_multiplier": 1}
        zeros = {"x_zero": 3, "w_zero": 0, "y_zero": -1, "act_min": -128, "act_max": 127}
        scaling = {
            "bias": 40 * np.arange(-1, channels - 1, dtype=np.int32),
            "multiplier": (1 << 30) + (noise(77, (channels,), "int32") & 0x3FFFFFFF),
            "exponent": -7 - (np.arange(channels) % 3).astype(np.int8),
            "requant_count": channels,
            "arithmetic": 0,
            "fraction": 0,
        }
        every = {**window, **geometry, **zeros, **scaling, **params}
        return self.op(opcode, [x, w], shape, dtype, **every)

    def output(self, name: str, value: Value, dtype: str = "", labels: str = "") -> None:
        dtype = dtype or value.dtype
        scale = value.scale if value.dtype in ("int8", "int16") else 0.0
        self.outputs.append(Port(name, value, dtype, scale, value.zero_point, labels))

    def program(self, **metadata: str) -> Program:
        return Program(self.ops, self.inputs, self.outputs, metadata)


def add_params(**changes: int) -> dict[str, int]:
    """y = (x1 + x2) / 2, all in the same scale."""
    m, e = HALF
    params = {"x1_zero": -1, "x2_zero": 3, "y_zero": -1, "left_shift": 20}
    params |= {"m1": m, "e1": e, "m2": m, "e2": e, "my": m, "ey": -19}
    params |= {"act_min": -128, "act_max": 127, "sign2": 1}
    return {**params, **changes}


def fully_connected() -> Program:
    b = Builder()
    x = b.input("x", (1, 8))
    y = b.mac("FULLY_CONNECTED", x, b.const(noise(1, (4, 8))), (1, 4))
    b.output("y", y, labels="north\neast\nsouth\nwest")
    return b.program(source="by hand")


def conv_add_view() -> Program:
    """A convolution, a sum in place, a view of it; uint8 outside, float32 at the end."""
    b = Builder()
    x = b.input("image", (1, 4, 4, 2), "uint8")
    w = b.const(noise(2, (2, 3, 3, 2)))
    a = b.mac("CONV_2D", x, w, (1, 4, 4, 2), pad_top=1, pad_left=1, act_min=-1)
    s = b.op("ADD", [a, x], (1, 4, 4, 2), **add_params())
    flat = b.view(s, (1, 32))
    y = b.mac("FULLY_CONNECTED", flat, b.const(noise(3, (3, 32))), (1, 3), x_zero=-1, bias=None)
    b.output("scores", y, "float32")
    return b.program()


def concat_slice() -> Program:
    """Two inputs, two outputs; the table works in place."""
    b = Builder()
    p, q = b.input("p", (1, 3, 4)), b.input("q", (1, 2, 4))
    both = b.op("CONCATENATION", [p, q], (1, 5, 4), axis=1)
    begin, stride = (0, 4, 1, 0, 0, 0), (1, -2, 1, 1, 1, 1)
    part = b.op("SLICE", [both], (1, 3, 2), begin=begin, stride=stride)
    table = np.arange(127, -129, -1).astype(np.int8)
    flipped = b.op("LUT", [both], (1, 5, 4), table=table)
    b.output("part", part)
    b.output("flipped", flipped)
    return b.program()


def elementwise() -> Program:
    b = Builder()
    m, e = HALF
    x = b.input("x", (2, 4))
    k = b.const(noise(4, (4,)))
    zeros = {"x1_zero": 3, "x2_zero": 0, "y_zero": 0}
    y = b.op("MUL", [x, k], (2, 4), **zeros, m=m, e=e - 6, act_min=-100, act_max=100)
    y = b.op("MAXIMUM", [y, k], (2, 4))
    y = b.op("MINIMUM", [y, x], (2, 4))
    zeros = {"x_zero": 0, "alpha_zero": 0, "y_zero": 0}
    y = b.op("PRELU", [y, k], (2, 4), **zeros, m1=m, e1=e + 1, m2=m, e2=e - 6)
    b.output("y", y)
    return b.program()


def windows() -> Program:
    b = Builder()
    m, e = HALF
    x = b.input("x", (1, 4, 4, 2))
    w = b.const(noise(5, (1, 3, 3, 4)))
    y = b.mac("DEPTHWISE_CONV_2D", x, w, (1, 4, 4, 4), pad_top=1, pad_left=1, depth_multiplier=2)
    window = {"kernel_h": 2, "kernel_w": 2, "stride_h": 2, "stride_w": 2}
    window |= {"pad_top": 0, "pad_left": 0, "act_min": -128, "act_max": 127, "offset": 0}
    y = b.op("MAX_POOL_2D", [y], (1, 2, 2, 4), **window)
    w = b.const(noise(6, (3, 2, 2, 4)))
    y = b.mac("TRANSPOSE_CONV", y, w, (1, 4, 4, 3), stride_h=2, stride_w=2, x_zero=-1)
    y = b.op("AVERAGE_POOL_2D", [y], (1, 2, 2, 3), **{**window, "offset": 128})
    scaling = {"x_zero": -1, "y_zero": -1, "m": m, "e": e - 1}
    b.output("mean", b.op("MEAN", [y], (1, 1, 1, 3), axes=0b0110, **scaling))
    b.output("sum", b.op("SUM", [y], (1, 2, 2, 1), axes=0b1000, **scaling))
    nothing = {"x_zero": 0, "y_zero": 0, "m": 0, "e": 0}
    b.output("max", b.op("REDUCE_MAX", [y], (1, 1, 2, 3), axes=0b0010, **nothing))
    return b.program()


def softmax() -> Program:
    """Tables of exp(-d / 4)."""
    b = Builder()
    x = b.input("x", (1, 4))
    d = np.arange(256)
    exp_table = np.minimum(2.0**31 * np.exp(-d / 4), 2.0**31 - 1).astype(np.int32)
    diff_table = (-d * 2**24).clip(-(2**31) + 1).astype(np.int32)
    b.output("p", b.op("SOFTMAX", [x], (1, 4), exp_table=exp_table))
    tables = {"exp_table": exp_table, "diff_table": diff_table, "diff_min": -124}
    log = b.op("LOG_SOFTMAX", [x], (1, 4), **tables, reverse_m=1 << 30, reverse_e=-23)
    b.output("log_p", log)
    return b.program()


def moves() -> Program:
    b = Builder()
    x = b.input("x", (1, 2, 3, 2))
    y = b.op("PAD", [x], (1, 4, 3, 2), before=(0, 1, 0, 0, 0, 0), value=-7)
    y = b.op("MIRROR_PAD", [y], (1, 4, 5, 2), before=(0, 0, 1, 0, 0, 0), reflect=1)
    y = b.op("TRANSPOSE", [y], (1, 2, 5, 4), perm=(0, 3, 2, 1, 4, 5))
    y = b.op("COPY", [y], (1, 2, 5, 4))
    index = b.op("ARG_MAX", [y], (1, 2, 5, 1), "int32", axis=3)
    more = b.const(np.arange(5, dtype=np.int32).reshape(1, 1, 5, 1), 0.0)
    b.output("indices", b.op("CONCATENATION", [index, more], (1, 3, 5, 1), "int32", axis=1))
    return b.program()


def resize() -> Program:
    b = Builder()
    x = b.input("x", (1, 2, 2, 2))
    y = b.op("RESIZE_BILINEAR", [x], (1, 4, 4, 2), scale_h=512, scale_w=512, half_pixel=1)
    one, half = 0x3F800000, 0x3F000000  # float32
    taps = np.array([[0, one, 0], [1 << 31, half, half], [3, one, 0]], np.uint32)
    y = b.op("RESIZE_BILINEAR_U8", [y], (1, 3, 3, 2), rows=taps, cols=taps)
    rows, cols = np.array([0, 2], np.uint32), np.array([0, 0, 1, 2, 2], np.uint32)
    b.output("y", b.op("RESIZE_NEAREST", [y], (1, 2, 5, 2), rows=rows, cols=cols))
    return b.program()


def native() -> Program:
    """R15 in each of its ops: fractions 5, 0, 6 and 2, one multiplier or one a channel."""
    b = Builder()

    def scaling(count: int, fraction: int, least: int) -> dict[str, Any]:
        m = (1 << 14) + (noise(78, (count,), "int32") & 0x3FFF)
        e = -least - (np.arange(count) % 3).astype(np.int8)
        every = {"multiplier": m, "exponent": e, "requant_count": count}
        return every | {"arithmetic": 1, "fraction": fraction}

    x = b.input("x", (1, 3, 3, 2))
    w = b.const(noise(8, (2, 3, 3, 2)))
    y = b.mac("CONV_2D", x, w, (1, 3, 3, 2), pad_top=1, pad_left=1, **scaling(2, 5, 3))
    w = b.const(noise(9, (1, 2, 2, 2)))
    y = b.mac("DEPTHWISE_CONV_2D", y, w, (1, 2, 2, 2), x_zero=-1, **scaling(1, 0, 7))
    w = b.const(noise(10, (3, 2, 2, 2)))
    y = b.mac(
        "TRANSPOSE_CONV", y, w, (1, 4, 4, 3), stride_h=2, stride_w=2, x_zero=-1,
        **scaling(3, 6, 0), act_min=-20,
    )  # fmt: skip
    flat = b.view(y, (1, 48))
    w = b.const(noise(11, (5, 48)))
    y = b.mac("FULLY_CONNECTED", flat, w, (1, 5), x_zero=-1, bias=None, **scaling(5, 2, 7))
    b.output("y", y)
    return b.program(arithmetic="native")


def words() -> Program:
    """R22 in each of its ops: int16 on both sides or on one, biases of 64 bits."""
    b = Builder()

    def scaling(count: int, bits: int, exponent: int, **params: Any) -> dict[str, Any]:
        m = (1 << (bits - 1)) + (noise(79, (count,), "int32") & ((1 << (bits - 1)) - 1))
        e = exponent - (np.arange(count) % 3).astype(np.int8)
        bias = (np.arange(params.pop("channels", count), dtype=np.int64) - 1) * 100_000
        every = {"bias": bias, "multiplier": m, "exponent": e.astype(np.int8)}
        every |= {"requant_count": count, "arithmetic": 2, "x_zero": 0, "y_zero": 0}
        return every | {"act_min": -(2**15), "act_max": 2**15 - 1} | params

    x = b.input("x", (1, 3, 3, 2), "int16", 1 / 1024, 0)
    w = b.const(noise(12, (2, 3, 3, 2)))
    y = b.mac("CONV_2D", x, w, (1, 3, 3, 2), "int16", pad_top=1, pad_left=1, **scaling(2, 15, -24))
    w = b.const(noise(13, (1, 2, 2, 2)))
    narrow = {"y_zero": 5, "act_min": -100, "act_max": 120}
    y = b.mac("DEPTHWISE_CONV_2D", y, w, (1, 2, 2, 2), **scaling(1, 22, -35, channels=2, **narrow))
    w = b.const(noise(14, (3, 2, 2, 2)))
    y = b.mac(
        "TRANSPOSE_CONV", y, w, (1, 4, 4, 3), "int16", stride_h=2, stride_w=2,
        **scaling(3, 22, -22, x_zero=5, act_min=0),
    )  # fmt: skip
    flat = b.view(y, (1, 48))
    w = b.const(noise(15, (5, 48)))
    b.output("y", b.mac("FULLY_CONNECTED", flat, w, (1, 5), "int16", **scaling(5, 16, -26)))
    last = b.mac("FULLY_CONNECTED", flat, w, (1, 5), **scaling(1, 15, -33, bias=None, **narrow))
    b.output("last", last)
    return b.program()


def words_elementwise() -> Program:
    """Sums, products and functions of int16 and int8."""
    b = Builder()
    m, e = HALF
    shape = (2, 4)
    x, narrow = b.input("x", shape, "int16", 1 / 1024, 0), b.input("narrow", shape)
    k = b.const(noise(16, (4,), "int16"), 1 / 1024)
    wide = {"act_min": -(2**15), "act_max": 2**15 - 1}
    zeros = {"x1_zero": 0, "x2_zero": 3, "y_zero": 0}
    y = b.op(
        "ADD", [x, narrow], shape, "int16", **add_params(**zeros, left_shift=15, ey=-14, **wide)
    )
    y = b.op("MUL", [y, k], shape, "int16", **{**zeros, "x2_zero": 0}, m=m, e=e - 12, **wide)
    y = b.op("MAXIMUM", [y, k], shape, "int16")
    y = b.op("MINIMUM", [y, x], shape, "int16")
    alpha = b.const(np.array([-1], np.int8))
    zeros = {"x_zero": 0, "alpha_zero": 0, "y_zero": 0}
    y = b.op("PRELU", [y, alpha], shape, "int16", **zeros, m1=m, e1=e + 1, m2=m, e2=e - 1)
    table = (10_000 * np.sin(np.arange(513) / 40)).astype(np.int16)
    curve = b.op("INTERPOLATE", [y], shape, "int16", table=table)
    sigmoid = np.minimum(2**16 / (1 + np.exp(-np.arange(256) / 24)), 65534).astype(np.uint16)
    half = b.op("SIGMOID", [curve], shape, "int16", table=sigmoid, m=20_000, shift=13, tanh=0)
    full = b.op("SIGMOID", [curve], shape, "int16", table=sigmoid, m=3, shift=0, tanh=1)
    d = np.arange(513)
    tables = {"exp_table": (32767 * np.exp((d - 512) / 51.2)).astype(np.int16)}
    tables |= {"reciprocal_table": (32767 / (1 + d / 512)).astype(np.int16)}
    b.output("p", b.op("SOFTMAX16", [half], shape, "int16", **tables, m=m, e=3))
    low = b.op("INTERPOLATE", [full], shape, table=table)
    lut = (noise(17, (256,), "int16") >> 1).astype(np.int16)
    up = b.op("LUT16", [low], shape, "int16", table=lut)
    scaling = {"x_zero": 0, "y_zero": -4, "m": m, "e": e - 7, "act_min": -50, "act_max": 127}
    b.output("down", b.op("REQUANTIZE", [up], shape, **scaling))
    scaling = {"x_zero": 0, "y_zero": 0, "m": m, "e": 3, "act_min": -(2**31), "act_max": 2**31 - 1}
    sums = b.op("REQUANTIZE", [up], shape, "int32", **scaling)
    scaling = {**scaling, "e": -4, **wide}
    b.output("up", b.op("REQUANTIZE", [sums], shape, "int16", **scaling))
    zeros = {"x1_zero": 0, "x2_zero": 3, "y_zero": -1}
    product = b.op("MUL", [up, narrow], shape, **zeros, m=m, e=-14, act_min=-128, act_max=127)
    b.output("product", product)
    return b.program()


def words_windows() -> Program:
    """Pools, reductions and moves of int16; float32 outside."""
    b = Builder()
    m, e = HALF
    value = Value("x", "int16", (1, 4, 4, 3), 1 / 256, 0)
    b.inputs.append(Port("x", value, "float32", 1 / 256, 0))
    window = {"kernel_h": 3, "kernel_w": 2, "stride_h": 2, "stride_w": 1, "pad_top": 1}
    window |= {"pad_left": 0, "act_min": -30_000, "act_max": 30_000, "offset": 0}
    a = b.op("MAX_POOL_2D", [value], (1, 2, 3, 3), "int16", **window)
    c = b.op("AVERAGE_POOL_2D", [value], (1, 2, 3, 3), "int16", **window)
    both = b.op("CONCATENATION", [a, c], (1, 2, 6, 3), "int16", axis=2)
    y = b.op("PAD", [both], (1, 3, 6, 3), "int16", before=(0, 1, 0, 0, 0, 0), value=-700)
    y = b.op("TRANSPOSE", [y], (1, 6, 3, 3), "int16", perm=(0, 2, 1, 3, 4, 5))
    y = b.op("RESIZE_BILINEAR", [y], (1, 4, 5, 3), "int16", scale_h=1536, scale_w=614, half_pixel=1)
    rows, cols = np.array([3, 0, 1], np.uint32), np.array([4, 2], np.uint32)
    y = b.op("RESIZE_NEAREST", [y], (1, 3, 2, 3), "int16", rows=rows, cols=cols)
    scaling = {"x_zero": 0, "y_zero": 0, "m": m, "e": e}
    b.output("mean", b.op("MEAN", [y], (1, 1, 1, 3), "int16", axes=0b0110, **scaling), "float32")
    narrow = {**scaling, "e": e - 8, "y_zero": -7}
    b.output("sum", b.op("SUM", [y], (1, 3, 2, 1), axes=0b1000, **narrow))
    nothing = {"x_zero": 0, "y_zero": 0, "m": 0, "e": 0}
    b.output("max", b.op("REDUCE_MAX", [y], (1, 1, 2, 3), "int16", axes=0b0010, **nothing))
    b.output("greatest", b.op("ARG_MAX", [y], (1, 3, 2, 1), "int32", axis=3))
    return b.program()


def picture() -> Program:
    """Two inputs from pictures: one in colours, one grey, in 16 bits and with channels first."""
    b = Builder()
    x = b.input("colours", (1, 2, 3, 3))
    y = Value("grey", "int16", (1, 1, 2, 2), 0.5, 0)
    b.inputs.append(Port("grey", y, "int16", 0.5, 0))
    b.output("x", b.op("COPY", [x], (1, 2, 3, 3)))
    b.output("y", b.op("COPY", [y], (1, 1, 2, 2), "int16"))
    b.outputs[-1].scale = 0.5
    program = b.program()
    colours, grey = noise(12, (3, 256)), noise(13, (1, 256), "int16")
    program.pictures = [
        Picture(b.inputs[1], "pad", "gray", True, 1 << 16, (1, 2, 3), grey),
        Picture(b.inputs[0], "crop", "bgr", False, 57344, (0, 0, 0), colours),
    ]
    return program


def _numbers(name: str) -> int:
    """The code of a function of INTEGER."""
    return INTEGER_FUNCTIONS.index(name)


def whole() -> Program:
    """Every function of INTEGER and of REDUCE_INTEGER, masks, types, sums."""
    b = Builder()
    x = b.input("x", (2, 3))
    table = (np.arange(-128, 128) * 20077001 % 2**31 - 2**30).astype(np.int32)
    n = b.op("TABLE", [x], (2, 3), "int32", table=table)
    k = b.const(np.array([5, -1, 0], np.int32), 0.0)
    y = n
    for name in ("ADD", "MUL", "MAXIMUM", "SUB", "MINIMUM", "DIV", "FLOOR_DIV", "FLOOR_MOD"):
        y = b.op("INTEGER", [y, k], (2, 3), "int32", function=_numbers(name))
        y = b.op("INTEGER", [y, n], (2, 3), "int32", function=_numbers("ADD"))
    b.output("y", y)
    wide = b.op("CAST", [y], (2, 3), "int64")
    one = b.const(np.array([[7]], np.int64), 0.0)
    less = b.op("INTEGER", [wide, one], (2, 3), "bool", function=_numbers("LESS"))
    most = b.op("INTEGER", [one, wide], (2, 3), "bool", function=_numbers("LESS_EQUAL"))
    same = b.op("INTEGER", [less, most], (2, 3), "bool", function=_numbers("EQUAL"))
    other = b.op("INTEGER", [n, k], (2, 3), "bool", function=_numbers("NOT_EQUAL"))
    both = b.op("INTEGER", [less, other], (2, 3), "bool", function=_numbers("AND"))
    any_ = b.op("INTEGER", [same, most], (2, 3), "bool", function=_numbers("OR"))
    b.output("chosen", b.op("SELECT", [both, n, k], (2, 3), "int32"))
    for i, source in enumerate((y, y, y, y, both, any_)):
        r = b.op("REDUCE_INTEGER", [source], (2, 1), source.dtype, function=i, axes=2)
        b.output(f"r{i}", r)
    b.output("sum", b.op("CUMSUM", [wide], (2, 3), "int64", axis=1, exclusive=1, reverse=1))
    return b.program()


def indices() -> Program:
    """Elements chosen by numbers that may lie outside; and the ways between int8 and int32."""
    b = Builder()
    x = b.input("x", (2, 4, 3))
    top = b.op("TOP_K", [x], (2, 4, 2), "int32")
    b.output("top", top)
    batch = b.op("GATHER", [x, top], (2, 4, 2), axis=2, batch_dims=2)
    outside = b.const(np.array([[0, -7], [99, 1]], np.int32), 0.0)
    rows = b.op("GATHER", [x, outside], (2, 2, 2, 3), axis=1, batch_dims=0)
    points = b.op("GATHER_ND", [x, outside], (2, 3))
    b.output("rows", b.op("MAXIMUM", [rows, points], (2, 2, 2, 3)))
    twice = b.const(np.array([[1], [1], [0]], np.int64), 0.0)
    part = b.op("SLICE", [x], (1, 3, 3), begin=(1, 1, 0, 0, 0, 0), stride=(1,) * 6)
    added = b.op("SCATTER_ND", [twice, b.view(part, (3, 3))], (2, 3))
    begin = b.const(np.array([-5, 9], np.int64), 0.0)
    corner = b.const(noise(12, (1, 2)))
    b.output("corner", b.op("UPDATE_SLICE", [added, corner, begin], (2, 3)))
    boundaries = np.array([-1, 0, 2], np.int32)
    values = np.array([-100, 3, 7, 120], np.int8)
    found = b.op("SEARCH", [top], (2, 4, 2), count=3, boundaries=boundaries, values=values)
    m = (1 << 30) + (noise(79, (256,), "int32") & 0x3FFFFFFF)
    m = np.where(np.arange(256) % 5 == 0, -m, m)
    m[::7] = 0
    e = -20 - (np.arange(256) % 8).astype(np.int8)
    zeros = {"x1_zero": 3, "y_zero": -1, "act_min": -120, "act_max": 127}
    y = b.op("DIV", [found, batch], (2, 4, 2), **zeros, multiplier=m, exponent=e)
    b.output("y", b.op("DIV", [y, b.const(noise(13, (4, 1)))], (2, 4, 2), **zeros,
                       multiplier=m, exponent=e))  # fmt: skip
    return b.program()


def products() -> Program:
    """Matrices that the network computes, and rows brought to one length."""
    b = Builder()
    m, e = HALF
    x, w = b.input("x", (2, 1, 3, 5)), b.input("w", (4, 2, 5))
    zeros = {"x_zero": 3, "w_zero": -1, "y_zero": -1}
    y = b.op("BATCH_MATMUL", [x, w], (2, 4, 3, 2), **zeros, m=m + 77, e=e - 7,
             act_min=-100, act_max=120)  # fmt: skip
    b.output("l2", b.op("L2_NORMALIZATION", [b.view(y, (4, 12))], (4, 12), x_zero=-1))
    gamma = noise(14, (6,), "int32") >> 1
    beta = noise(15, (6,), "int32") >> 13
    norm = {"count": 6, "fraction": 24, "gamma": gamma, "beta": beta, "epsilon": (5, 0)}
    norm |= {"centred": 1, "x_zero": -1}
    y = b.op("LAYER_NORM", [y], (2, 4, 3, 2), axis=2, per_row=0, **norm)
    small = {"count": 2, "gamma": gamma[:2], "beta": beta[:2], "epsilon": (1, 7)}
    small |= {"centred": 0}
    b.output("y", b.op("LAYER_NORM", [y], (2, 4, 3, 2), axis=1, per_row=1, **{**norm, **small}))
    return b.program()


PROGRAMS: dict[str, Callable[[], Program]] = {
    "fully_connected": fully_connected,
    "conv_add_view": conv_add_view,
    "concat_slice": concat_slice,
    "elementwise": elementwise,
    "windows": windows,
    "softmax": softmax,
    "moves": moves,
    "resize": resize,
    "native": native,
    "words": words,
    "words_elementwise": words_elementwise,
    "words_windows": words_windows,
    "picture": picture,
    "whole": whole,
    "indices": indices,
    "products": products,
}
