# SPDX-License-Identifier: Apache-2.0
"""Lowering of element-wise arithmetic, tables, pools, reductions and softmax."""

from __future__ import annotations

import math

import numpy as np

from ..ir.graph import Node, QParams, Tensor
from ..ir.ops import Arithmetic, LeakyRelu, Pool, Reduce, Softmax
from . import tables
from .context import Lowering, Refused, Rule, from_uint8, new_value, quantized, view
from .multiplier import (
    INT32_MAX,
    Int8s,
    activation_range,
    mean_multiplier,
    quantize_multiplier,
    ratio_float32,
    ratio_float64,
    triple_float32,
)

_ADD_SHIFT = 20
_MAX_COUNT = INT32_MAX // 256


def add(ctx: Lowering, node: Node) -> None:
    """ADD and SUB: both inputs on twice the larger one's scale, with 20 bits below the point."""
    a: Arithmetic = node.attrs
    x1, x2 = node.input(0), node.input(1)
    q1, q2, qy = quantized(x1), quantized(x2), quantized(node.output)
    twice = np.float64(np.float32(2) * max(q1.scale, q2.scale))
    m1, e1 = quantize_multiplier(float(np.float64(q1.scale) / twice))
    m2, e2 = quantize_multiplier(float(np.float64(q2.scale) / twice))
    my, ey = quantize_multiplier(float(twice / np.float64(np.float32(1 << _ADD_SHIFT) * qy.scale)))
    low, high = activation_range(a.activation, qy.scale, qy.zero_point)
    params = {"x1_zero": q1.zero_point, "x2_zero": q2.zero_point, "y_zero": qy.zero_point}
    params |= {"left_shift": _ADD_SHIFT, "m1": m1, "e1": e1, "m2": m2, "e2": e2, "my": my, "ey": ey}
    params |= {"act_min": low, "act_max": high, "sign2": -1 if node.op == "SUB" else 1}
    ctx.run(node, "ADD", x1, x2, **params)


def mul(ctx: Lowering, node: Node) -> None:
    a: Arithmetic = node.attrs
    x1, x2 = node.input(0), node.input(1)
    q1, q2, qy = quantized(x1), quantized(x2), quantized(node.output)
    m, e = quantize_multiplier(triple_float32(q1.scale, q2.scale, qy.scale))
    low, high = activation_range(a.activation, qy.scale, qy.zero_point)
    params = {"x1_zero": q1.zero_point, "x2_zero": q2.zero_point, "y_zero": qy.zero_point}
    ctx.run(node, "MUL", x1, x2, **params, m=m, e=e, act_min=low, act_max=high)


def extremum(ctx: Lowering, node: Node) -> None:
    """MAXIMUM and MINIMUM compare the stored integers, whatever the scales are."""
    for t in (node.input(0), node.input(1), node.output):
        quantized(t)
    ctx.run(node, node.op, node.input(0), node.input(1))


def prelu(ctx: Lowering, node: Node) -> None:
    x, alpha = node.input(0), node.input(1)
    qx, qa, qy = quantized(x), quantized(alpha), quantized(node.output)
    m1, e1 = quantize_multiplier(ratio_float32(qx.scale, qy.scale))
    m2, e2 = quantize_multiplier(triple_float32(qx.scale, qa.scale, qy.scale))
    params = {"x_zero": qx.zero_point, "alpha_zero": qa.zero_point, "y_zero": qy.zero_point}
    ctx.run(node, "PRELU", x, alpha, **params, m1=m1, e1=e1, m2=m2, e2=e2)


# Tables


def _unary_table(node: Node, x: QParams, y: QParams) -> Int8s:
    if node.op == "UNARY":
        return tables.expression_table(node.attrs.expression, x, y)
    if node.op == "LOGISTIC":
        return tables.logistic_table(x, y)
    if node.op == "TANH":
        return tables.tanh_table(x, y)
    if node.op == "HARD_SWISH":
        return tables.hard_swish_table(x, y, from_uint8(node))
    if node.op == "LEAKY_RELU":
        a: LeakyRelu = node.attrs
        return tables.leaky_relu_table(a.alpha, x, y)
    if node.op == "QUANTIZE":
        return tables.quantize_table(x, y)
    return tables.relu_table(node.op, x, y)


def unary(ctx: Lowering, node: Node) -> None:
    """An int8 -> int8 function of one number: a table."""
    x = node.input(0)
    ctx.run(node, "LUT", x, table=_unary_table(node, quantized(x), quantized(node.output)))


# Pools and reductions


def pool(ctx: Lowering, node: Node) -> None:
    a: Pool = node.attrs
    x = node.input(0)
    quantized(x)
    qy = quantized(node.output)
    if not all(1 <= n < 2**16 for n in (*a.kernel, *a.stride)):
        raise Refused(f"a window of {a.kernel} with strides {a.stride} is out of range")
    low, high = activation_range(a.activation, qy.scale, qy.zero_point)
    params = {"kernel_h": a.kernel[0], "kernel_w": a.kernel[1]}
    params |= {"stride_h": a.stride[0], "stride_w": a.stride[1]}
    params |= {"pad_top": a.pad_top, "pad_left": a.pad_left, "act_min": low, "act_max": high}
    average_of_uint8 = node.op == "AVERAGE_POOL_2D" and from_uint8(node)
    ctx.run(node, node.op, x, **params, offset=128 if average_of_uint8 else 0)


def reduce(ctx: Lowering, node: Node) -> None:
    """MEAN, SUM, REDUCE_MAX; without keep_dims the output is a view."""
    a: Reduce = node.attrs
    x, y = node.input(0), node.output
    params = {"x_zero": 0, "y_zero": 0, "m": 0, "e": 0}
    qx, qy = quantized(x), quantized(y)
    if node.op != "REDUCE_MAX":
        count = math.prod(x.shape[i] for i in a.axes)
        if count > _MAX_COUNT:
            raise Refused(f"a sum of {count} elements can exceed 32 bits", x)
        real = ratio_float64(qx.scale, qy.scale)
        m, e = mean_multiplier(real, count if node.op == "MEAN" else 1)
        params = {"x_zero": qx.zero_point, "y_zero": qy.zero_point, "m": m, "e": e}
    mask = sum(1 << i for i in set(a.axes))
    kept = tuple(1 if i in a.axes else d for i, d in enumerate(x.shape))
    write_kept(ctx, node, kept, node.op, axes=mask, **params)


def write_kept(
    ctx: Lowering, node: Node, kept: tuple[int, ...], opcode: str, **params: int
) -> None:
    """Emits an op of one input with a result of shape `kept`; the output may be a view of it."""
    y = node.output
    owner = new_value(y, shape=kept)
    ctx.emit(node, opcode, [ctx.value(node.input(0))], owner, **params)
    ctx.bind(y, owner if kept == y.shape else view(y, owner))


# Softmax


def softmax(ctx: Lowering, node: Node) -> None:
    a: Softmax = node.attrs
    _check_output(node, scale=1 / 256, tolerance=0.001 / 256, zero_point=-128)
    found = tables.softmax_tables(a.beta, quantized(node.input(0)).scale)
    ctx.run(node, "SOFTMAX", node.input(0), exp_table=found.exp_table)


def log_softmax(ctx: Lowering, node: Node) -> None:
    _check_output(node, scale=1 / 16, tolerance=0, zero_point=127)
    found = tables.softmax_tables(1.0, quantized(node.input(0)).scale)
    m, e = tables.reverse_multiplier(found)
    ctx.run(
        node,
        "LOG_SOFTMAX",
        node.input(0),
        exp_table=found.exp_table,
        diff_table=found.diff_table,
        diff_min=found.diff_min,
        reverse_m=m,
        reverse_e=e,
    )


def _check_output(node: Node, scale: float, tolerance: float, zero_point: int) -> None:
    # The uint8 softmax of the reference assumes this scale without looking at the output's.
    y: Tensor = node.output
    q = quantized(y)
    if node.op == "SOFTMAX" and from_uint8(node):
        return
    if abs(float(q.scale) - scale) > tolerance or q.zero_point != zero_point:
        raise Refused(
            f"its scale and zero point are {q.scale:g} and {q.zero_point}, "
            f"{scale:g} and {zero_point} are needed",
            y,
        )


RULES: dict[str, Rule] = {
    "ADD": add,
    "SUB": add,
    "MUL": mul,
    "MAXIMUM": extremum,
    "MINIMUM": extremum,
    "PRELU": prelu,
    "LOGISTIC": unary,
    "TANH": unary,
    "RELU": unary,
    "RELU6": unary,
    "RELU_N1_TO_1": unary,
    "HARD_SWISH": unary,
    "LEAKY_RELU": unary,
    "UNARY": unary,
    "QUANTIZE": unary,
    "AVERAGE_POOL_2D": pool,
    "MAX_POOL_2D": pool,
    "MEAN": reduce,
    "SUM": reduce,
    "REDUCE_MAX": reduce,
    "SOFTMAX": softmax,
    "LOG_SOFTMAX": log_softmax,
}
