# SPDX-License-Identifier: Apache-2.0
"""Lowering of functions of one element: tables, and rescaling where there is an int16."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..format.program import Value
from ..ir.graph import Node, QParams
from ..ir.ops import LeakyRelu
from . import tables, tables16
from .context import BYTE_OR_WORD, Lowering, Refused, Rule, from_uint8, new_value, quantized
from .multiplier import (
    LIMITS,
    Int8s,
    activation_range,
    quantize_multiplier,
    ratio_float32,
    ratio_float64,
    triple_float32,
)

_TABLES: dict[str, Callable[[QParams, QParams], Int8s]] = {
    "QUANTIZE": tables.quantize_table,
    "ABS": tables.abs_table,
    "RSQRT": tables.rsqrt_table,
    "EXP": tables.exp_table,
    "ELU": tables.elu_table,
}
_RELUS = ("RELU", "RELU6", "RELU_N1_TO_1")


def unary(ctx: Lowering, node: Node) -> None:
    """int8 to int8 is a table of 256 entries, whatever the function."""
    x, y = node.input(0), node.output
    if x.dtype == "int8" and y.dtype == "int8":
        ctx.run(node, "LUT", x, table=_unary_table(node, quantized(x), quantized(y)))
    elif node.op in ("QUANTIZE", *_RELUS):
        _rescale(ctx, node)
    elif node.op == "LEAKY_RELU":
        _leaky_relu(ctx, node)
    elif node.op in (*_TABLES, "GELU"):
        raise Refused("it is supported for int8 only", x if x.dtype != "int8" else y)
    else:
        _real_function(ctx, node)


def _unary_table(node: Node, x: QParams, y: QParams) -> Int8s:
    if node.op == "UNARY":
        return tables.expression_table(node.attrs.expression, x, y, node.attrs.even)
    if node.op == "LOGISTIC":
        return tables.logistic_table(x, y)
    if node.op == "TANH":
        return tables.tanh_table(x, y)
    if node.op == "HARD_SWISH":
        return tables.hard_swish_table(x, y, from_uint8(node))
    if node.op == "LEAKY_RELU":
        a: LeakyRelu = node.attrs
        return tables.leaky_relu_table(a.alpha, x, y)
    if node.op == "GELU":
        return tables.gelu_table(node.attrs.approximate, x, y)
    if node.op in _TABLES:
        return _TABLES[node.op](x, y)
    return tables.relu_table(node.op, x, y)


def rescaling(x: QParams, y: QParams, y_dtype: str) -> dict[str, int]:
    """Parameters of REQUANTIZE to the same real number."""
    m, e = quantize_multiplier(ratio_float64(x.scale, y.scale))
    low, high = LIMITS[y_dtype]
    zeros = {"x_zero": x.zero_point, "y_zero": y.zero_point}
    return {**zeros, "m": m, "e": e, "act_min": low, "act_max": high}


def _rescale(ctx: Lowering, node: Node) -> None:
    x, y = node.input(0), node.output
    types = (*BYTE_OR_WORD, "int32") if node.op == "QUANTIZE" else BYTE_OR_WORD
    qx, qy = quantized(x, *types), quantized(y, *types)
    params = rescaling(qx, qy, y.dtype)
    if node.op in _RELUS:
        m, e = quantize_multiplier(ratio_float32(qx.scale, qy.scale))
        low, high = activation_range(node.op, qy.scale, qy.zero_point, y.dtype)
        params |= {"m": m, "e": e, "act_min": low, "act_max": high}
    ctx.run(node, "REQUANTIZE", x, **params)


def _leaky_relu(ctx: Lowering, node: Node) -> None:
    """PRELU with an alpha of 1 or -1, its size in the multiplier."""
    a: LeakyRelu = node.attrs
    x, y = node.input(0), node.output
    qx, qy = quantized(x, *BYTE_OR_WORD), quantized(y, *BYTE_OR_WORD)
    m1, e1 = quantize_multiplier(ratio_float32(qx.scale, qy.scale))
    m2, e2 = quantize_multiplier(triple_float32(qx.scale, np.float32(abs(a.alpha)), qy.scale))
    sign = np.array([1 if a.alpha >= 0 else -1], np.int8)
    alpha = Value(f"{node.name}/alpha", "int8", (1,), 1.0, 0, sign)
    params = {"x_zero": qx.zero_point, "alpha_zero": 0, "y_zero": qy.zero_point}
    params |= {"m1": m1, "e1": e1, "m2": m2, "e2": e2}
    ctx.bind(y, ctx.emit(node, "PRELU", [ctx.value(x), alpha], new_value(y), **params))


def _real_function(ctx: Lowering, node: Node) -> None:
    """LOGISTIC and TANH of int16 as the reference has them; by tables of our own otherwise."""
    x, y = node.input(0), node.output
    qx, qy = quantized(x, *BYTE_OR_WORD), quantized(y, *BYTE_OR_WORD)
    unary = node.op == "UNARY"
    function = node.attrs.expression.defined if unary else tables16.FUNCTIONS[node.op]
    if x.dtype == "int8":
        ctx.run(node, "LUT16", x, table=tables16.lut16_table(function, qx, qy))
    elif (
        node.op in ("LOGISTIC", "TANH") and y.dtype == "int16" and qy.scale == np.float32(2.0**-15)
    ):
        m, shift = tables16.sigmoid_scaling(node.op, qx.scale)
        shape = {"m": m, "shift": shift, "tanh": int(node.op == "TANH")}
        ctx.run(node, "SIGMOID", x, table=tables16.sigmoid_table(), **shape)
    else:
        table = tables16.interpolation_table(function, qx, qy, y.dtype)
        ctx.run(node, "INTERPOLATE", x, table=table)


RULES: dict[str, Rule] = {
    "LOGISTIC": unary,
    "TANH": unary,
    "RELU": unary,
    "RELU6": unary,
    "RELU_N1_TO_1": unary,
    "HARD_SWISH": unary,
    "LEAKY_RELU": unary,
    "UNARY": unary,
    **dict.fromkeys((*_TABLES, "GELU"), unary),
}
