# SPDX-License-Identifier: Apache-2.0
"""How qdq.py writes each op in integers: rules that get t, an op's result, and y, the integers with
a scale that t shall become; they return where these are."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..ir.expression import Expression
from ..ir.graph import Array, Node, QParams, Tensor
from ..ir.ops import DepthwiseConv2D, NoAttrs, Pool, Unary
from .qdq import FIXED, MOVES, Missing, describe, same, unary_expression

if TYPE_CHECKING:
    from .qdq import Absorption

_WEIGHTED = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "TRANSPOSE_CONV": 0, "FULLY_CONNECTED": 0}
# Written in integers as they are, from integers to integers of any scale.
_DIRECT = frozenset(["SUM", "PRELU", "BATCH_MATMUL", "LAYER_NORM", "DIV"])
_MAX_WINDOW = 1 << 16


def _weighted(a: Absorption, node: Node, t: Tensor, y: Tensor) -> Tensor:
    axis = _WEIGHTED[node.op]
    x, w = a.need(node.input(0), node), node.input(1)
    if w.data is None:
        raise Missing(f"{describe(node)}: its weights are not constant")
    if w.qparams is None:
        w = _own_weights(w, axis)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    assert x.qparams is not None and w.qparams is not None
    if bias is not None:
        scales = x.qparams.scale.astype(np.float64) * w.qparams.scales.astype(np.float64)
        bias = _bias(bias, scales)
    return a.emit(node, node.op, [x, w, bias], y, node.attrs)


def _own_weights(w: Tensor, axis: int) -> Tensor:
    """Weights that the file left as floats, symmetric with a scale for each channel."""
    assert w.data is not None
    others = tuple(i for i in range(w.data.ndim) if i != axis)
    scales = np.maximum(np.abs(w.data).max(others), 1e-30) / np.float32(127)
    shape = [-1 if i == axis else 1 for i in range(w.data.ndim)]
    data = np.rint(w.data / scales.reshape(shape)).astype(np.int8)
    q = QParams(scales.astype(np.float32), np.zeros(len(scales), np.int32), axis)
    return Tensor(w.name, w.shape, "int8", q, data)


def _bias(bias: Tensor, scales: Array) -> Tensor:
    """int32 on the scale of the accumulators."""
    assert bias.data is not None
    q, data = bias.qparams, bias.data.reshape(-1)
    if q is not None:
        given = np.broadcast_to(q.scales.astype(np.float64), data.shape)
        same = np.allclose(given, scales, rtol=1e-6, atol=0) and not q.zero_points.any()
        real = data if same else (data - q.zero_points.astype(np.float64)) * given / scales
    else:
        real = data.astype(np.float64) / scales
    limit = 2.0**31 - 1
    rounded = np.clip(np.rint(np.asarray(real, np.float64)), -limit, limit).astype(np.int32)
    made = QParams(
        np.broadcast_to(scales, data.shape).astype(np.float32), np.zeros(len(data), np.int32)
    )
    return Tensor(bias.name, data.shape, "int32", made, rounded)


def _moving(a: Absorption, node: Node, t: Tensor, y: Tensor) -> Tensor:
    """A move of what is no integer yet: the integers are made before it."""
    q = y.qparams
    assert q is not None
    x = node.input(0)
    x8 = a.integers(x, a.tensor(x, q, y.source_dtype))
    return a.moved(node, t, x8)


def _extremum(a: Absorption, node: Node, t: Tensor, y: Tensor) -> Tensor:
    made = a.function(t)
    if made is not None:
        return a.emit(node, "UNARY", [made[0]], y, Unary(made[1], even=True))
    return a.emit(node, node.op, [_operand(a, x, y) for x in node.inputs], y, node.attrs)


def _operand(a: Absorption, x: Tensor | None, y: Tensor) -> Tensor:
    """x with the scale of y."""
    assert x is not None and y.qparams is not None
    like = a.tensor(x, y.qparams, y.source_dtype)
    if x.data is None:
        return a.integers(x, like)
    steps = np.rint(x.data / y.qparams.scale) + y.qparams.zero_point
    return replace(like, data=np.clip(steps, -128, 127).astype(np.int8))


def _arithmetic(a: Absorption, node: Node, t: Tensor, y: Tensor) -> Tensor:
    made = a.function(t)
    if made is not None:
        return a.emit(node, "UNARY", [made[0]], y, Unary(made[1], even=True))
    return _direct(a, node, t, y)


def _direct(a: Absorption, node: Node, t: Tensor, y: Tensor) -> Tensor:
    inputs: list[Tensor | None] = []
    for x in node.inputs:
        if x is None or x.data is None:
            inputs.append(x if x is None else a.need(x, node))
        else:
            inputs.append(_own_constant(x))
    return a.emit(node, node.op, inputs, y, node.attrs)


def _own_constant(t: Tensor) -> Tensor:
    """A constant that the file left as floats, over its own range."""
    assert t.data is not None
    low, high = min(0.0, float(t.data.min())), max(0.0, float(t.data.max()))
    scale = max(high - low, 1e-30) / 255
    q = QParams.of(scale, int(np.clip(np.rint(-128 - low / scale), -128, 127)))
    steps = np.rint(t.data / q.scale) + q.zero_point
    return Tensor(t.name, t.shape, "int8", q, np.clip(steps, -128, 127).astype(np.int8))


def _concatenation(a: Absorption, node: Node, t: Tensor, y: Tensor) -> Tensor:
    return a.emit(node, node.op, [_operand(a, x, y) for x in node.inputs], y, node.attrs)


def _softmax(a: Absorption, node: Node, t: Tensor, y: Tensor) -> Tensor:
    """By way of int16, since that of int8 has one output scale and ends below 1."""
    x = a.need(node.input(0), node)
    assert x.qparams is not None
    wide = Tensor(f"{node.name}/wide", x.shape, "int16", QParams.of(float(x.qparams.scale)))
    a.emit(node, "QUANTIZE", [x], wide, NoAttrs())
    shares = Tensor(f"{t.name}/wide", t.shape, "int16", QParams.of(1 / 32768))
    a.emit(node, node.op, [wide], shares, node.attrs)
    return a.emit(node, "QUANTIZE", [shares], y, NoAttrs())


def _log_softmax(a: Absorption, node: Node, t: Tensor, y: Tensor) -> Tensor:
    """It has one output scale; others are rescaled from it."""
    scale, zero = FIXED[node.op]
    x = a.need(node.input(0), node)
    first = a.tensor(t, QParams.of(scale, zero), y.source_dtype)
    if same(first, y):
        return a.emit(node, node.op, [x], y, node.attrs)
    a.emit(node, node.op, [x], first, node.attrs)
    return a.rescaled(node, first, y)


def _bound(a: Absorption, node: Node, t: Tensor, y: Tensor) -> Tensor:
    """RELU and its kin, and UNARY: of integers a table, of another op's result applied to it."""
    made = a.function(t)
    if made is not None:
        return a.emit(node, "UNARY", [made[0]], y, Unary(made[1], even=True))
    x = node.input(0)
    expression = unary_expression(node)
    if expression is None or not _clamps(expression):
        before = describe(a.producers[x])
        raise Missing(f"{before}: there is no QuantizeLinear between it and {describe(node)}")
    q = y.qparams
    assert q is not None
    x8 = a.integers(x, a.tensor(x, q, y.source_dtype))
    return a.emit(node, node.op, [x8], y, node.attrs)


def _clamps(e: Expression) -> bool:
    """Whether only bounds are applied, one to the other's result."""
    return all(
        s.function in ("min", "max") and s.args[0] == i and isinstance(s.args[1], float)
        for i, s in enumerate(e.steps)
    )


def _average_pool(a: Absorption, node: Node, t: Tensor, y: Tensor) -> Tensor:
    """With another scale behind it: a sum with weights of 1, whose scale divides by their number,
    so that it rounds once."""
    x, p = a.need(node.input(0), node), node.attrs
    assert isinstance(p, Pool)
    if same(x, y):
        return a.emit(node, node.op, [x], y, p)
    before = (p.pad_top, p.pad_left)
    padded = any(before) or any(
        (y.shape[1 + i] - 1) * p.stride[i] + p.kernel[i] > x.shape[1 + i] for i in (0, 1)
    )
    if padded:  # windows of different sizes
        first = a.tensor(t, x.qparams or QParams.of(1), x.source_dtype)
        a.emit(node, node.op, [x], first, p)
        return a.rescaled(node, first, y)
    return _window_mean(a, node, x, y, p)


def _window_mean(a: Absorption, node: Node, x: Tensor, y: Tensor, p: Pool) -> Tensor:
    """A sum with equal weights, whose scale divides by their number: it rounds once. Weights of 64
    make the multiplier small, so that the first of R31's two roundings does no harm."""
    data = np.full((1, *p.kernel, x.shape[3]), 64, np.int8)
    q = QParams.of(1 / (64 * p.kernel[0] * p.kernel[1]))
    w = Tensor(f"{node.name}/ones", data.shape, "int8", q, data)
    attrs = DepthwiseConv2D(p.stride, (1, 1), 0, 0, 1, p.activation)
    return a.emit(node, "DEPTHWISE_CONV_2D", [x, w, None], y, attrs)


def _mean(a: Absorption, node: Node, t: Tensor, y: Tensor) -> Tensor:
    """Over neighbouring axes a window as high as they are together."""
    x, axes = a.need(node.input(0), node), tuple(node.attrs.axes)
    count = math.prod(x.shape[i] for i in axes)
    if axes != tuple(range(axes[0], axes[-1] + 1)) or count > _MAX_WINDOW:
        return a.emit(node, node.op, [x], y, node.attrs)
    before, behind = math.prod(x.shape[: axes[0]]), math.prod(x.shape[axes[-1] + 1 :])
    high = replace(x, name=f"{node.name}/window", shape=(before, count, 1, behind))
    a.emit(node, "RESHAPE", [x], high, NoAttrs())
    mean = replace(y, name=f"{y.name}/mean", shape=(before, 1, 1, behind))
    _window_mean(a, node, high, mean, Pool(kernel=(count, 1)))
    return a.emit(node, "RESHAPE", [mean], y, NoAttrs())


def _resize(a: Absorption, node: Node, t: Tensor, y: Tensor) -> Tensor:
    """RESIZE_BILINEAR keeps its input's scale."""
    x = a.need(node.input(0), node)
    if same(x, y):
        return a.emit(node, node.op, [x], y, node.attrs)
    assert x.qparams is not None
    first = a.tensor(t, x.qparams, x.source_dtype)
    a.emit(node, node.op, [x], first, node.attrs)
    return a.rescaled(node, first, y)


Rule = Callable[["Absorption", Node, Tensor, Tensor], Tensor]
RULES: dict[str, Rule] = {
    **dict.fromkeys(MOVES, _moving),
    **dict.fromkeys(_WEIGHTED, _weighted),
    **dict.fromkeys(_DIRECT, _direct),
    **dict.fromkeys(["ADD", "SUB", "MUL", "DIV"], _arithmetic),
    **dict.fromkeys(["MAXIMUM", "MINIMUM"], _extremum),
    **dict.fromkeys(["RELU", "RELU6", "RELU_N1_TO_1", "UNARY"], _bound),
    **dict.fromkeys(["LOGISTIC", "TANH", "HARD_SWISH", "LEAKY_RELU"], _bound),
    "SOFTMAX": _softmax,
    "LOG_SOFTMAX": _log_softmax,
    "CONCATENATION": _concatenation,
    "AVERAGE_POOL_2D": _average_pool,
    "MEAN": _mean,
    "RESIZE_BILINEAR": _resize,
}
