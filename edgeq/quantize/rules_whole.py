# SPDX-License-Identifier: Apache-2.0
"""Lowering of whole numbers, masks and indices, and of what leads from int8 to them and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..format.program import Value
from ..format.spec import INTEGER_FUNCTIONS, MAX_BOUNDARIES, REDUCE_FUNCTIONS
from ..ir.graph import Node, Tensor
from ..ir.ops import CumSum, Gather, Lookup, Quotient, Reduce, Search, TopK
from .context import Lowering, Refused, Rule, new_value, quantized, view
from .multiplier import (
    activation_range,
    quantize_multiplier,
    requantize,
)
from .rules_arith import write_kept

WHOLE_TYPES = ("int32", "int64", "bool")
_COMPARE_SHIFT = 8
_DIFFERENCE_SHIFT = 7
_DIV_SHIFT = 20
_SATURATED = (2**31 - 1, 15 - _DIV_SHIFT)  # times 1 or more it is out of int8's range
_INTEGER = {"LOGICAL_AND": "AND", "LOGICAL_OR": "OR"}
_REDUCE = {
    "SUM": "SUM",
    "REDUCE_PROD": "PROD",
    "REDUCE_MAX": "MAX",
    "REDUCE_MIN": "MIN",
    "REDUCE_ALL": "ALL",
    "REDUCE_ANY": "ANY",
}


def is_whole(t: Tensor) -> bool:
    return t.dtype in WHOLE_TYPES


def _needs_whole(node: Node) -> None:
    for t in [*node.inputs, node.output]:
        if t is not None and not is_whole(t):
            raise Refused(f"its type is {t.dtype}, whole numbers are needed", t)


def _function(name: str) -> int:
    return INTEGER_FUNCTIONS.index(_INTEGER.get(name, name))


def integer(ctx: Lowering, node: Node) -> None:
    """Arithmetic, comparisons and logic of two whole operands."""
    _needs_whole(node)
    if getattr(node.attrs, "activation", "NONE") != "NONE":
        raise Refused(f"a fused {node.attrs.activation} of whole numbers is not supported")
    ctx.run(node, "INTEGER", node.input(0), node.input(1), function=_function(node.op))


def reduce(ctx: Lowering, node: Node) -> None:
    _needs_whole(node)
    a: Reduce = node.attrs
    x = node.input(0)
    kept = tuple(1 if i in a.axes else d for i, d in enumerate(x.shape))
    mask = sum(1 << i for i in set(a.axes))
    code = REDUCE_FUNCTIONS.index(_REDUCE[node.op])
    write_kept(ctx, node, kept, "REDUCE_INTEGER", function=code, axes=mask)


def reduce_min(ctx: Lowering, node: Node) -> None:
    """Of int8: -1 - v turns the order round."""
    a: Reduce = node.attrs
    x, y = node.input(0), node.output
    if not quantized(x).same(quantized(y)):
        raise Refused("input and output have different scales or zero points", y)
    flip = np.arange(127, -129, -1).astype(np.int8)
    kept = tuple(1 if i in a.axes else d for i, d in enumerate(x.shape))
    mask = sum(1 << i for i in set(a.axes))
    turned = ctx.emit(node, "LUT", [ctx.value(x)], new_value(x), table=flip)
    nothing = {"x_zero": 0, "y_zero": 0, "m": 0, "e": 0}
    most = ctx.emit(node, "REDUCE_MAX", [turned], new_value(y, shape=kept), axes=mask, **nothing)
    owner = ctx.emit(node, "LUT", [most], new_value(y, shape=kept), table=flip)
    ctx.bind(y, owner if kept == y.shape else view(y, owner))


def cumsum(ctx: Lowering, node: Node) -> None:
    _needs_whole(node)
    a: CumSum = node.attrs
    flags = {"exclusive": int(a.exclusive), "reverse": int(a.reverse)}
    ctx.run(node, "CUMSUM", node.input(0), axis=a.axis, **flags)


def compare(ctx: Lowering, node: Node) -> None:
    """Of int8: both sides on one scale, as the reference's kernel has them."""
    if is_whole(node.input(0)):
        integer(ctx, node)
        return
    sides = [_scaled(ctx, node, node.input(i)) for i in (0, 1)]
    output = new_value(node.output)
    ctx.bind(node.output, ctx.emit(node, "INTEGER", sides, output, function=_function(node.op)))


def _scaled(ctx: Lowering, node: Node, x: Tensor) -> Value:
    q = quantized(x)
    m, e = quantize_multiplier(float(q.scale))
    if e > 0:
        raise Refused(f"its scale is {q.scale:g}, the reference compares those below 1 only", x)
    steps = (np.arange(-128, 128) - q.zero_point) << _COMPARE_SHIFT
    return _through_table(ctx, node, x, requantize(steps, m, e))


def _through_table(ctx: Lowering, node: Node, x: Tensor, table: Any) -> Value:
    """int32 values of an int8 tensor."""
    value = ctx.value(x)
    result = Value(x.name, "int32", x.shape)
    values = np.asarray(table, np.int32)
    if value.data is not None:
        result.data = values[value.data.astype(np.int64) + 128]
        return result
    return ctx.emit(node, "TABLE", [value], result, table=values)


def squared_difference(ctx: Lowering, node: Node) -> None:
    """int8: tables bring both sides to one scale with 7 more bits; then whole numbers; SEARCH."""
    x1, x2, y = node.input(0), node.input(1), node.output
    if is_whole(x1):
        _needs_whole(node)
        sides = [ctx.value(x1), ctx.value(x2)]
        difference = ctx.emit(node, "INTEGER", sides, new_value(y), function=_function("SUB"))
        pair = [difference, difference]
        ctx.bind(y, ctx.emit(node, "INTEGER", pair, new_value(y), function=_function("MUL")))
        return
    q1, q2, qy = quantized(x1), quantized(x2), quantized(y)
    twice = np.float64(2) * max(np.float64(q1.scale), np.float64(q2.scale))
    sides = []
    for x, q in ((x1, q1), (x2, q2)):
        m, e = quantize_multiplier(float(np.float64(q.scale) / twice))
        steps = (np.arange(-128, 128) - q.zero_point) << _DIFFERENCE_SHIFT
        sides.append(_through_table(ctx, node, x, requantize(steps, m, e)))
    real = twice * twice / (np.float64(1 << _DIFFERENCE_SHIFT * 2) * np.float64(qy.scale))
    m, e = quantize_multiplier(float(real))
    difference = ctx.emit(
        node, "INTEGER", sides, Value(y.name, "int32", y.shape), function=_function("SUB")
    )
    square = ctx.emit(
        node,
        "INTEGER",
        [difference, difference],
        Value(y.name, "int32", y.shape),
        function=_function("MUL"),
    )
    last = (255 << _DIFFERENCE_SHIFT) ** 2

    def stored(v: Any) -> Any:
        return np.clip(requantize(v, m, e) + qy.zero_point, -128, 127)

    boundaries = [first_at_least(stored, 0, last, level) for level in range(-127, 128)]
    kept = sorted({b for b in boundaries if b is not None} - {0}) or [last + 1]
    values = stored(np.array([0, *kept], np.int64)).astype(np.int8)
    output = new_value(y)
    ctx.bind(y, ctx.emit(node, "SEARCH", [square], output, **_search(kept, values)))


def first_at_least(f: Any, low: int, high: int, level: int) -> int | None:
    """The least v in [low, high] with f(v) >= level, for a function that never falls."""
    if f(np.int64(high)) < level:
        return None
    while low < high:
        middle = (low + high) // 2
        if f(np.int64(middle)) >= level:
            high = middle
        else:
            low = middle + 1
    return low


def _search(boundaries: Any, values: Any) -> dict[str, Any]:
    return {
        "count": len(boundaries),
        "boundaries": np.asarray(boundaries, np.int32),
        "values": np.asarray(values, np.int8),
    }


def search(ctx: Lowering, node: Node) -> None:
    a: Search = node.attrs
    if not 1 <= len(a.boundaries) <= MAX_BOUNDARIES:
        raise Refused(f"{len(a.boundaries)} boundaries, {MAX_BOUNDARIES} at most")
    ctx.run(node, "SEARCH", node.input(0), **_search(a.boundaries, a.values))


def lookup(ctx: Lowering, node: Node) -> None:
    a: Lookup = node.attrs
    x, y = node.input(0), node.output
    if x.dtype != "int8":
        raise Refused(f"its type is {x.dtype}, int8 is needed", x)
    if y.dtype == "int8":
        ctx.run(node, "LUT", x, table=np.array(a.values, np.int8))
    else:
        ctx.run(node, "TABLE", x, table=np.array(a.values, np.int32))


def quotient(ctx: Lowering, node: Node) -> None:
    """DIV: one multiplier for each number that the divisor can be."""
    a: Quotient = node.attrs
    x1, x2 = node.input(0), node.input(1)
    q1, qy = quantized(x1), quantized(node.output)
    if x2.dtype != "int8":
        raise Refused(f"its type is {x2.dtype}, int8 is needed", x2)
    multipliers = np.zeros(256, np.int32)
    exponents = np.zeros(256, np.int8)
    for i, factor in enumerate(a.factors):
        m, e = _factor(float(factor) * float(q1.scale) / float(qy.scale))
        multipliers[i], exponents[i] = m, e
    low, high = activation_range(a.activation, qy.scale, qy.zero_point)
    params = {"x1_zero": q1.zero_point, "y_zero": qy.zero_point, "act_min": low, "act_max": high}
    ctx.run(node, "DIV", x1, x2, **params, multiplier=multipliers, exponent=exponents)


def _factor(real: float) -> tuple[int, int]:
    if np.isnan(real):
        return 0, 0
    if abs(real) >= 2.0**15:
        m, e = _SATURATED
    else:
        m, e = quantize_multiplier(abs(real) / 2.0**_DIV_SHIFT)
    return (-m if real < 0 else m), e


def div(ctx: Lowering, node: Node) -> None:
    """int8 by int8: by the reciprocals of all that the divisor can be."""
    q = quantized(node.input(1))
    steps = np.float64(q.scale) * (np.arange(-128, 128) - q.zero_point)
    with np.errstate(divide="ignore"):
        factors = tuple((1 / steps).tolist())
    activation = node.attrs.activation
    quotient(
        ctx, Node(node.op, node.inputs, node.outputs, Quotient(factors, activation), node.name)
    )


# ---- moves


def select(ctx: Lowering, node: Node) -> None:
    ctx.run(node, "SELECT", node.input(0), node.input(1), node.input(2))


def cast(ctx: Lowering, node: Node) -> None:
    for t in (node.input(0), node.output):
        if t.dtype not in (*WHOLE_TYPES, "int8"):
            raise Refused(f"its type is {t.dtype}, which is no whole number", t)
    ctx.run(node, "CAST", node.input(0))


def gather(ctx: Lowering, node: Node) -> None:
    a: Gather = node.attrs
    ctx.run(node, "GATHER", node.input(0), node.input(1), axis=a.axis, batch_dims=a.batch_dims)


def gather_nd(ctx: Lowering, node: Node) -> None:
    ctx.run(node, "GATHER_ND", node.input(0), node.input(1))


def scatter_nd(ctx: Lowering, node: Node) -> None:
    ctx.run(node, "SCATTER_ND", node.input(0), node.input(1))


def update_slice(ctx: Lowering, node: Node) -> None:
    ctx.run(node, "UPDATE_SLICE", node.input(0), node.input(1), node.input(2))


def top_k(ctx: Lowering, node: Node) -> None:
    """The indices by TOP_K, the values by GATHER; the least are the greatest of -1 - v."""
    a: TopK = node.attrs
    x, (values, indices) = node.input(0), node.outputs
    last = len(x.shape) - 1
    if a.axis != last:
        raise Refused(f"along axis {a.axis} of {last + 1}: not the last one")
    if indices.dtype not in ("int32", "int64"):
        raise Refused(f"its type is {indices.dtype}, int32 or int64 is needed", indices)
    searched = value = ctx.value(x)
    if not a.largest:
        quantized(x)
        flip = np.arange(127, -129, -1).astype(np.int8)
        searched = ctx.emit(node, "LUT", [value], new_value(x), table=flip)
    places = Value(indices.name, "int32", indices.shape)
    ctx.emit(node, "TOP_K", [searched], places)
    chosen = {"axis": last, "batch_dims": last}
    ctx.bind(values, ctx.emit(node, "GATHER", [value, places], new_value(values), **chosen))
    if indices.dtype == "int64":
        places = ctx.emit(node, "CAST", [places], new_value(indices))
    ctx.bind(indices, places)


# Ops whose inputs are whole numbers: before the rules of the same names for int8.
WHOLE: dict[str, Rule] = {
    **dict.fromkeys(("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM"), integer),
    **dict.fromkeys(("SUM", "REDUCE_MAX", "REDUCE_MIN"), reduce),
}
RULES: dict[str, Rule] = {
    **dict.fromkeys(("FLOOR_DIV", "FLOOR_MOD", "LOGICAL_AND", "LOGICAL_OR"), integer),
    **dict.fromkeys(("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL"), compare),
    **dict.fromkeys(("REDUCE_PROD", "REDUCE_ALL", "REDUCE_ANY"), reduce),
    "REDUCE_MIN": reduce_min,
    "CUMSUM": cumsum,
    "SQUARED_DIFFERENCE": squared_difference,
    "SEARCH": search,
    "LOOKUP": lookup,
    "QUOTIENT": quotient,
    "DIV": div,
    "SELECT": select,
    "CAST": cast,
    "GATHER": gather,
    "GATHER_ND": gather_nd,
    "SCATTER_ND": scatter_nd,
    "DYNAMIC_UPDATE_SLICE": update_slice,
    "TOP_K": top_k,
}
