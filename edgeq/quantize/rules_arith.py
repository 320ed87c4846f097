# SPDX-License-Identifier: Apache-2.0
"""Lowering of element-wise arithmetic, pools, reductions and softmax."""

from __future__ import annotations

import math

import numpy as np

from ..ir.graph import Node, Tensor
from ..ir.ops import Arithmetic, Pool, Reduce, Softmax
from . import tables, tables16
from .context import (
    BYTE_OR_WORD,
    Lowering,
    Refused,
    Rule,
    from_uint8,
    new_value,
    quantized,
    quantized_alike,
    view,
)
from .multiplier import (
    INT32_MAX,
    activation_range,
    mean_multiplier,
    quantize_multiplier,
    ratio_float32,
    ratio_float64,
    triple_float32,
)
from .tables16 import near_power_of_two

_SIZES = {"int8": 1 << 8, "int16": 1 << 15}  # what |x - zero point| does not exceed


def add(ctx: Lowering, node: Node) -> None:
    """ADD and SUB of int8 and int16.

    Both inputs on twice the larger one's scale, with 20 bits below the point, of int16 15.
    """
    a: Arithmetic = node.attrs
    x1, x2, y = node.input(0), node.input(1), node.output
    q1, q2, qy = (quantized(t, *BYTE_OR_WORD) for t in (x1, x2, y))
    bits = 15 if "int16" in (x1.dtype, x2.dtype) else 20
    twice = np.float64(np.float32(2) * max(q1.scale, q2.scale))
    m1, e1 = quantize_multiplier(float(np.float64(q1.scale) / twice))
    m2, e2 = quantize_multiplier(float(np.float64(q2.scale) / twice))
    my, ey = quantize_multiplier(float(twice / np.float64(np.float32(1 << bits) * qy.scale)))
    if ctx.arithmetic == "exact" and {x1.dtype, x2.dtype, y.dtype} == {"int16"}:
        shifts = _shifts(q1.scale, q2.scale, qy.scale)
        if shifts is not None:
            m1 = m2 = my = 1 << 30
            e1, e2, ey = -14 - shifts[0], -14 - shifts[1], 1
    low, high = activation_range(a.activation, qy.scale, qy.zero_point, y.dtype)
    params = {"x1_zero": q1.zero_point, "x2_zero": q2.zero_point, "y_zero": qy.zero_point}
    params |= {"left_shift": bits, "m1": m1, "e1": e1, "m2": m2, "e2": e2, "my": my, "ey": ey}
    params |= {"act_min": low, "act_max": high, "sign2": -1 if node.op == "SUB" else 1}
    ctx.run(node, "ADD", x1, x2, **params)


def _shifts(x1: np.float32, x2: np.float32, y: np.float32) -> tuple[int, int] | None:
    """How far the reference shifts int16 operands to the right where all scales are powers of two.

    It rounds the shifted one half away from zero, and knows no other cases.
    """
    exponents = [near_power_of_two(scale) for scale in (x1, x2, y)]
    if None in exponents:
        return None
    e1, e2, ey = (e for e in exponents if e is not None)
    shifts = (ey - e1, ey - e2)
    return shifts if min(shifts) == 0 and max(shifts) <= 15 else None


def mul(ctx: Lowering, node: Node) -> None:
    a: Arithmetic = node.attrs
    x1, x2, y = node.input(0), node.input(1), node.output
    q1, q2, qy = (quantized(t, *BYTE_OR_WORD) for t in (x1, x2, y))
    m, e = quantize_multiplier(triple_float32(q1.scale, q2.scale, qy.scale))
    low, high = activation_range(a.activation, qy.scale, qy.zero_point, y.dtype)
    params = {"x1_zero": q1.zero_point, "x2_zero": q2.zero_point, "y_zero": qy.zero_point}
    ctx.run(node, "MUL", x1, x2, **params, m=m, e=e, act_min=low, act_max=high)


def extremum(ctx: Lowering, node: Node) -> None:
    """MAXIMUM and MINIMUM compare the stored integers, whatever the scales are."""
    for t in (node.input(0), node.input(1)):
        quantized_alike(t, node.output)
    ctx.run(node, node.op, node.input(0), node.input(1))


def prelu(ctx: Lowering, node: Node) -> None:
    x, alpha = node.input(0), node.input(1)
    qx, qa, qy = (quantized(t, *BYTE_OR_WORD) for t in (x, alpha, node.output))
    m1, e1 = quantize_multiplier(ratio_float32(qx.scale, qy.scale))
    m2, e2 = quantize_multiplier(triple_float32(qx.scale, qa.scale, qy.scale))
    params = {"x_zero": qx.zero_point, "alpha_zero": qa.zero_point, "y_zero": qy.zero_point}
    ctx.run(node, "PRELU", x, alpha, **params, m1=m1, e1=e1, m2=m2, e2=e2)


# Pools and reductions


def pool(ctx: Lowering, node: Node) -> None:
    a: Pool = node.attrs
    x = node.input(0)
    _, qy = quantized_alike(x, node.output)
    if not all(1 <= n < 2**16 for n in (*a.kernel, *a.stride)):
        raise Refused(f"a window of {a.kernel} with strides {a.stride} is out of range")
    low, high = activation_range(a.activation, qy.scale, qy.zero_point, node.output.dtype)
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
    if node.op == "REDUCE_MAX":
        quantized_alike(x, y)
    else:
        qx, qy = quantized(x, *BYTE_OR_WORD), quantized(y, *BYTE_OR_WORD)
        count = math.prod(x.shape[i] for i in a.axes)
        if count > INT32_MAX // _SIZES[x.dtype]:
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
    x, y = node.input(0), node.output
    if "int16" in (x.dtype, y.dtype):
        q = quantized_alike(x, y)[1]
        if abs(float(q.scale) - 1 / 32768) > 0.001 / 32768:
            raise Refused(f"its scale is {q.scale:g}, 1/32768 is needed", y)
        if x.shape[-1] > 1 << 16:
            raise Refused(f"rows of {x.shape[-1]} elements, {1 << 16} at most", x)
        wide = tables16.softmax16_tables(a.beta, quantized(x, "int16").scale)
        ctx.run(node, "SOFTMAX16", x, **vars(wide))
        return
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
    "AVERAGE_POOL_2D": pool,
    "MAX_POOL_2D": pool,
    "MEAN": reduce,
    "SUM": reduce,
    "REDUCE_MAX": reduce,
    "SOFTMAX": softmax,
    "LOG_SOFTMAX": log_softmax,
}
