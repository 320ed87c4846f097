# SPDX-License-Identifier: Apache-2.0
"""TFLite's operators that are taken on float32 only; the quantizer makes integers of them."""

from __future__ import annotations

import math
import struct

import numpy as np

from ..ir.expression import Expression, Step
from ..ir.graph import Tensor
from ..ir.ops import (
    Arithmetic,
    Axis,
    CumSum,
    Gather,
    NoAttrs,
    Norm,
    TransposeConv,
    Unary,
)
from .tflite_context import OpContext, Refused, Shape
from .tflite_ops import SAME, VALID, Rule, arithmetic, bias, broadcast, reduce, weights, windows
from .tflite_real import batch_matmul

MAX_COPIES = 16  # of a TILE by concatenation; beyond, by indices
L2_EPSILON = 1e-6

SQUARE = Expression.of("mul", 0, 0)
_GELU_TANH = Expression(
    (
        Step("mul", (0, 0)),
        Step("mul", (1, 0.044715)),
        Step("add", (2, 1.0)),
        Step("mul", (3, 0)),
        Step("mul", (4, math.sqrt(2 / math.pi))),
        Step("tanh", (5,)),
        Step("add", (6, 1.0)),
        Step("mul", (7, 0)),
        Step("mul", (8, 0.5)),
    )
)
_GELU_ERF = Expression(
    (
        Step("mul", (0, math.sqrt(0.5))),
        Step("erf", (1,)),
        Step("add", (2, 1.0)),
        Step("mul", (3, 0)),
        Step("mul", (4, 0.5)),
    )
)
_EXPRESSIONS: dict[str, Expression] = {
    "EXP": Expression.of("exp"),
    "LOG": Expression.of("log"),
    "SQRT": Expression.of("sqrt"),
    "RSQRT": Expression((Step("sqrt", (0,)), Step("div", (1.0, 1)))),
    "ABS": Expression.of("abs"),
    "NEG": Expression.of("neg"),
    "SQUARE": SQUARE,
    "SIN": Expression.of("sin"),
    "COS": Expression.of("cos"),
    "FLOOR": Expression.of("floor"),
    "CEIL": Expression.of("ceil"),
    "ROUND": Expression.of("round"),
    "SIGN": Expression.of("sign"),
    "RELU_0_TO_1": Expression((Step("max", (0, 0.0)), Step("min", (1, 1.0)))),
    # max(x, 0) + (exp(min(x, 0)) - 1)
    "ELU": Expression(
        (
            Step("min", (0, 0.0)),
            Step("exp", (1,)),
            Step("sub", (2, 1.0)),
            Step("max", (0, 0.0)),
            Step("add", (3, 4)),
        )
    ),
}


def _unary(op: OpContext) -> None:
    op.expect(1)
    x = op.tensor(0)
    op.emit("UNARY", [x], Unary(_EXPRESSIONS[op.record.name]), x.shape)


def _gelu(op: OpContext) -> None:
    op.expect(1)
    x = op.tensor(0)
    op.emit("UNARY", [x], Unary(_GELU_TANH if op.option("Approximate") else _GELU_ERF), x.shape)


def _pow(op: OpContext) -> None:
    op.expect(2)
    x, data = op.tensor(0), op.constant(1, "exponent")
    if data.size != 1 or data.dtype != np.float32:
        raise Refused("exponents other than one float32 number are not supported")
    shape = broadcast(op, x.shape, data.shape)
    exponent = float(data.reshape(())[()])
    if shape == x.shape:
        op.emit("UNARY", [x], Unary(Expression.of("pow", 0, exponent)), shape)
        return
    wide = op.hidden(x, shape, "/wide")
    op.add("RESHAPE", [x], [wide], NoAttrs())
    op.emit("UNARY", [wide], Unary(Expression.of("pow", 0, exponent)), shape)


def _squared_difference(op: OpContext) -> None:
    op.expect(2)
    a, b = op.tensor(0), op.tensor(1)
    shape = broadcast(op, a.shape, b.shape)
    difference = op.hidden(a, shape, "/difference")
    op.add("SUB", [a, b], [difference], Arithmetic())
    op.emit("UNARY", [difference], Unary(SQUARE), shape)


def _gather(op: OpContext) -> None:
    op.expect(2)
    x, indices = op.tensor(0), op.tensor(1)
    if op.option("BatchDims") != 0:
        raise Refused("batch dimensions are not supported")
    axis = op.axis(op.option("Axis"), len(x.shape))
    if indices.data is not None:
        data = indices.data
        if data.dtype.kind != "i" or ((data < 0) | (data >= x.shape[axis])).any():
            raise op.wrong(f"indices outside of dimension {axis} of {x.shape}")
        indices = Tensor(indices.name, indices.shape, "int32", data=data.astype(np.int32))
    elif indices.dtype != "int32":
        raise Refused(f"indices of type {indices.dtype} are not supported, only int32")
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    op.emit("GATHER", [x, indices], Gather(axis), shape)


def _tile(op: OpContext) -> None:
    op.expect(2)
    x, copies = op.tensor(0), op.integers(1, "multiples")
    if len(copies) != len(x.shape) or min(copies, default=1) < 1:
        raise op.wrong(f"multiples {copies} of {x.shape}")
    _repeat(op, x, copies)


def _broadcast_to(op: OpContext) -> None:
    op.expect(2)
    x, shape = op.tensor(0), op.integers(1, "shape")
    if len(shape) > 16 or broadcast(op, x.shape, shape) != tuple(shape):
        raise op.wrong(f"{x.shape} as {shape}")
    wide = (1,) * (len(shape) - len(x.shape)) + x.shape
    if wide != x.shape:
        t = op.hidden(x, wide, "/wide")
        op.add("RESHAPE", [x], [t], NoAttrs())
        x = t
    _repeat(op, x, tuple(n // d for n, d in zip(shape, wide)))


def _repeat(op: OpContext, x: Tensor, copies: Shape) -> None:
    """x beside itself, `copies` times on each axis."""
    y = op.result(n * d for n, d in zip(copies, x.shape))
    axes = [i for i, n in enumerate(copies) if n > 1]
    if not axes:
        op.add("RESHAPE", [x], [y], NoAttrs())
    for axis in axes:
        n, shape = copies[axis], list(x.shape)
        shape[axis] *= n
        t = y if axis == axes[-1] else op.hidden(x, shape, f"/repeat{axis}")
        if n <= MAX_COPIES:
            op.add("CONCATENATION", [x] * n, [t], Axis(axis))
        else:
            op.builder.afford(4 * shape[axis])
            rows = (np.arange(shape[axis]) % x.shape[axis]).astype(np.int32)
            indices = Tensor("indices", rows.shape, "int32", data=rows)
            op.add("GATHER", [x, indices], [t], Gather(axis))
        x = t


def _cumsum(op: OpContext) -> None:
    op.expect(2)
    x, axes = op.tensor(0), op.integers(1, "axis")
    if len(axes) != 1:
        raise op.wrong(f"axis {axes}")
    attrs = CumSum(
        op.axis(axes[0], len(x.shape)), bool(op.option("Exclusive")), bool(op.option("Reverse"))
    )
    op.emit("CUMSUM", [x], attrs, x.shape)


def _l2_normalization(op: OpContext) -> None:
    """x / max(sqrt(sum(x * x)), 1e-6), which is x / sqrt(sum(x * x) + 1e-12) where it matters."""
    op.expect(1)
    x = op.tensor(0)
    if op.activation() != "NONE":
        raise Refused("a fused activation function is not supported here")
    if not x.shape:
        raise op.wrong("of a scalar")
    n = x.shape[-1]
    gamma = np.full(1, 1 / math.sqrt(n), np.float32)
    attrs = Norm((len(x.shape) - 1,), L2_EPSILON**2 / n, centred=False)
    op.emit("LAYER_NORM", [x, Tensor("gamma", (1,), "float32", data=gamma), None], attrs, x.shape)


def _transpose_conv_bias(op: OpContext) -> None:
    """MediaPipe's transposed convolution with a bias; padding and strides are C ints."""
    op.expect(3)
    raw = op.record.custom_options
    if len(raw) < 12:
        raise op.wrong(f"{len(raw)} bytes of options")
    padding, stride_w, stride_h = struct.unpack_from("<3i", raw)
    # TfLitePadding: 1 same, 2 valid
    if padding not in (1, 2) or not (1 <= stride_w <= 65535 and 1 <= stride_h <= 65535):
        raise op.wrong(f"padding {padding}, strides {stride_h} and {stride_w}")
    x, w = op.ranked(0, 4), op.ranked(1, 4)
    channels, kh, kw, depth = w.shape
    if depth != x.shape[3]:
        raise op.wrong(f"weights {w.shape} do not fit to x {x.shape}")
    stride = (stride_h, stride_w)
    size = [
        n * s if padding == 1 else (n - 1) * s + k
        for n, s, k in zip(x.shape[1:3], stride, (kh, kw))
    ]
    shape = (x.shape[0], *size, channels)
    back, pads = windows(op, shape, (kh, kw), stride, (1, 1), SAME if padding == 1 else VALID)
    if back != x.shape[1:3]:
        raise op.wrong(f"{x.shape} cannot become {shape}")
    inputs = [x, weights(op, 1, 0), bias(op, 2, channels)]
    op.emit("TRANSPOSE_CONV", inputs, TransposeConv(stride, *pads), shape)


def _densify(op: OpContext) -> None:
    """Sparse constants are read densely already."""
    op.expect(1)
    x = op.tensor(0)
    op.constant(0, "sparse tensor")
    y = op.result(x.shape)
    if y.dtype != x.dtype:
        raise op.wrong(f"{x.dtype} becomes {y.dtype}")
    y.data = x.data
    y.qparams = x.qparams


RULES: dict[str, Rule] = {
    **dict.fromkeys(_EXPRESSIONS, Rule(_unary, types="float")),
    "GELU": Rule(_gelu, types="float"),
    "POW": Rule(_pow, types="float"),
    "DIV": Rule(arithmetic, (0, 1), types="float"),
    "SQUARED_DIFFERENCE": Rule(_squared_difference, (0, 1), types="float"),
    "BATCH_MATMUL": Rule(batch_matmul, (0, 1), types="float"),
    "REDUCE_MIN": Rule(reduce, types="float"),
    "GATHER": Rule(_gather, types="float"),
    "TILE": Rule(_tile, types="float"),
    "BROADCAST_TO": Rule(_broadcast_to, types="float"),
    "CUMSUM": Rule(_cumsum, types="float"),
    "L2_NORMALIZATION": Rule(_l2_normalization, types="float"),
    "DENSIFY": Rule(_densify, types="edge"),
}
CUSTOM_RULES: dict[str, Rule] = {
    "Convolution2DTransposeBias": Rule(_transpose_conv_bias, (0, 1), types="float"),
}
