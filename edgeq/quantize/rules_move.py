# SPDX-License-Identifier: Apache-2.0
"""Lowering of the ops that move, choose or interpolate data."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..format.program import Value
from ..format.spec import MAX_CONCAT
from ..ir.graph import Node, Tensor
from ..ir.ops import Axis, MirrorPad, Pad, Resize, Slice, Transpose
from . import tables
from .context import (
    BYTE_OR_WORD,
    Lowering,
    Refused,
    Rule,
    from_uint8,
    new_value,
    quantized,
    quantized_alike,
    six,
    view,
)
from .multiplier import Int8s, requantize, round_half_away
from .rules_arith import write_kept
from .rules_unary import rescaling

Uint32s = npt.NDArray[np.uint32]
_F32 = np.float32
_Q10 = 1 << 10
_NEXT = 1 << 31  # eq_resize_tap: the upper sample is the next one


def reshape(ctx: Lowering, node: Node) -> None:
    ctx.bind(node.output, view(node.output, ctx.value(node.input(0))))


def copy(ctx: Lowering, node: Node) -> None:
    ctx.run(node, "COPY", node.input(0))


def pad(ctx: Lowering, node: Node) -> None:
    a: Pad = node.attrs
    ctx.run(node, "PAD", node.input(0), before=six(a.before, 0), value=a.value)


def mirror_pad(ctx: Lowering, node: Node) -> None:
    a: MirrorPad = node.attrs
    ctx.run(node, "MIRROR_PAD", node.input(0), before=six(a.before, 0), reflect=int(a.reflect))


def transpose(ctx: Lowering, node: Node) -> None:
    a: Transpose = node.attrs
    perm = (*a.perm, *range(len(a.perm), 6))
    ctx.run(node, "TRANSPOSE", node.input(0), perm=perm, reserved=0)


def slice_(ctx: Lowering, node: Node) -> None:
    a: Slice = node.attrs
    ctx.run(node, "SLICE", node.input(0), begin=six(a.begin, 0), stride=six(a.stride, 1))


def arg_max(ctx: Lowering, node: Node) -> None:
    a: Axis = node.attrs
    x = node.input(0)
    quantized(x, *BYTE_OR_WORD)
    if node.output.dtype not in ("int32", "int64"):
        raise Refused(f"its type is {node.output.dtype}, int32 or int64 is needed", node.output)
    kept = tuple(1 if i == a.axis else d for i, d in enumerate(x.shape))
    write_kept(ctx, node, kept, "ARG_MAX", axis=a.axis)


# Concatenation


def concatenation(ctx: Lowering, node: Node) -> None:
    """Inputs on another scale than the output go through a table first."""
    a: Axis = node.attrs
    if a.activation != "NONE":
        raise Refused(f"a fused {a.activation} is not supported")
    if len(node.inputs) > MAX_CONCAT:
        raise Refused(f"{len(node.inputs)} inputs, {MAX_CONCAT} at most")
    y = node.output
    inputs = [_rescaled(ctx, node, node.input(i)) for i in range(len(node.inputs))]
    ctx.bind(y, ctx.emit(node, "CONCATENATION", inputs, new_value(y), axis=a.axis))


def _rescaled(ctx: Lowering, node: Node, x: Tensor) -> Value:
    y = node.output
    value = ctx.value(x)
    if x.dtype not in BYTE_OR_WORD or x.qparams is None:
        return value
    if x.dtype == y.dtype and x.qparams.same(y.qparams):
        return value
    if "int16" in (x.dtype, y.dtype):
        return _requantized(ctx, node, x, value)
    qx, qy = quantized(x), quantized(y)
    # int8 has no rescaling of its own in the reference: what QUANTIZE in front of it would do.
    make = tables.concatenation_table if from_uint8(node) else tables.quantize_table
    table = make(qx, qy)
    return _through_table(ctx, node, x, value, table)


def _requantized(ctx: Lowering, node: Node, x: Tensor, value: Value) -> Value:
    y = node.output
    qx, qy = quantized(x, *BYTE_OR_WORD), quantized(y, *BYTE_OR_WORD)
    params = rescaling(qx, qy, y.dtype)
    result = new_value(y, shape=x.shape)
    result.name = x.name
    if value.data is None:
        return ctx.emit(node, "REQUANTIZE", [value], result, **params)
    steps = requantize(value.data.astype(np.int64) - qx.zero_point, params["m"], params["e"])
    moved = np.clip(steps + qy.zero_point, params["act_min"], params["act_max"])
    result.data = moved.astype(y.dtype)
    return result


def _through_table(ctx: Lowering, node: Node, x: Tensor, value: Value, table: Int8s) -> Value:
    qy = quantized(node.output)
    result = new_value(x)
    result.scale, result.zero_point = float(qy.scale), qy.zero_point
    if value.data is not None:
        result.data = table[value.data.astype(np.int64) + 128]
        return result
    return ctx.emit(node, "LUT", [value], result, table=table)


# Resizing


def resize_bilinear(ctx: Lowering, node: Node) -> None:
    """int8 interpolates in Q10 integers, uint8 in float32 with weights made here."""
    a: Resize = node.attrs
    x, y = node.input(0), node.output
    quantized_alike(x, y)
    if a.align_corners and a.half_pixel_centers:
        raise Refused("align_corners and half_pixel_centers exclude each other")
    if from_uint8(node):
        rows = bilinear_taps(x.shape[1], y.shape[1], a)
        cols = bilinear_taps(x.shape[2], y.shape[2], a)
        ctx.run(node, "RESIZE_BILINEAR_U8", x, rows=rows, cols=cols)
        return
    scale_h = _scale_q10(x.shape[1], y.shape[1], a)
    scale_w = _scale_q10(x.shape[2], y.shape[2], a)
    half_pixel = int(a.half_pixel_centers)
    ctx.run(node, "RESIZE_BILINEAR", x, scale_h=scale_h, scale_w=scale_w, half_pixel=half_pixel)


def _scale_q10(n_in: int, n_out: int, a: Resize) -> int:
    """Q10 input steps an output step, rounded: the runtime clamps positions behind the input."""
    if a.align_corners and n_out > 1:
        n_in, n_out = n_in - 1, n_out - 1
    return (_Q10 * n_in + n_out // 2) // n_out


def _scale_float32(n_in: int, n_out: int, a: Resize) -> np.float32:
    if a.align_corners and n_out > 1:
        n_in, n_out = n_in - 1, n_out - 1
    return _F32(n_in) / _F32(n_out)


def bilinear_taps(n_in: int, n_out: int, a: Resize) -> Uint32s:
    """(n_out, 3): eq_resize_tap of each output row or column."""
    steps = np.arange(n_out).astype(np.float32)
    scale = _scale_float32(n_in, n_out, a)
    shift = _F32(0.5 if a.half_pixel_centers else 0)
    position = (steps + shift) * scale - shift
    lower = np.maximum(np.floor(position).astype(np.int64), 0)
    upper = np.minimum(np.ceil(position).astype(np.int64), n_in - 1)
    w_upper = position - lower.astype(np.float32)
    w_lower = _F32(1) - w_upper
    first = lower + np.where(upper > lower, _NEXT, 0)
    columns: list[npt.NDArray[Any]] = [
        first.astype(np.uint32),
        w_lower.view(np.uint32),
        w_upper.view(np.uint32),
    ]
    return np.ascontiguousarray(np.stack(columns, axis=1))


def resize_nearest(ctx: Lowering, node: Node) -> None:
    a: Resize = node.attrs
    x, y = node.input(0), node.output
    rows = nearest_samples(x.shape[1], y.shape[1], a)
    cols = nearest_samples(x.shape[2], y.shape[2], a)
    ctx.run(node, "RESIZE_NEAREST", x, rows=rows, cols=cols)


def nearest_samples(n_in: int, n_out: int, a: Resize) -> Uint32s:
    """(n_out,): the source row or column of each output row or column."""
    offset = _F32(0.5 if a.half_pixel_centers else 0)
    position = (np.arange(n_out).astype(np.float32) + offset) * _scale_float32(n_in, n_out, a)
    nearest = round_half_away(position) if a.align_corners else np.floor(position)
    return np.clip(nearest.astype(np.int64), 0, n_in - 1).astype(np.uint32)


RULES: dict[str, Rule] = {
    "RESHAPE": reshape,
    "COPY": copy,
    "PAD": pad,
    "MIRROR_PAD": mirror_pad,
    "TRANSPOSE": transpose,
    "SLICE": slice_,
    "ARG_MAX": arg_max,
    "CONCATENATION": concatenation,
    "RESIZE_BILINEAR": resize_bilinear,
    "RESIZE_NEAREST_NEIGHBOR": resize_nearest,
}
