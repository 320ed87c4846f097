# SPDX-License-Identifier: Apache-2.0
"""Ops on constants, computed exactly where numpy can."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .graph import Array, Node, QParams, Tensor


def evaluate(node: Node) -> list[Array] | None:
    """The outputs of `node`, or None where an input is not constant or the op is not known here."""
    inputs = [t for t in node.inputs if t is not None]
    if node.op not in _EVALUATORS or len(inputs) != len(node.inputs):
        return None
    if not all(t.is_const for t in inputs):
        return None
    return _EVALUATORS[node.op](node)


def quantize(x: Array, q: QParams, axis_rank: int, dtype: str = "int8") -> Array:
    """Of float32 values: round_half_away(x / scale) + zero_point, the quotient in float32."""
    limits = np.iinfo(dtype)
    scales, zeros = _broadcast(q, axis_rank)
    t = (x.astype(np.float32) / scales).astype(np.float64)
    rounded = np.copysign(np.floor(np.abs(t) + 0.5), t)
    return np.clip(np.nan_to_num(rounded) + zeros, limits.min, limits.max).astype(dtype)


def dequantize(x: Array, q: QParams) -> Array:
    """float32 of scale * (x - zero_point)."""
    scales, zeros = _broadcast(q, x.ndim)
    with np.errstate(over="ignore"):
        return (scales.astype(np.float64) * (x.astype(np.int64) - zeros)).astype(np.float32)


def _broadcast(q: QParams, rank: int) -> tuple[Array, Array]:
    if not q.per_channel:
        return q.scales[0], q.zero_points[0]
    shape = [1] * rank
    shape[q.axis] = len(q.scales)
    return q.scales.reshape(shape), q.zero_points.reshape(shape)


def _data(node: Node, i: int = 0) -> Array:
    data = node.input(i).data
    assert data is not None
    return data


def _same_meaning(a: Tensor, b: Tensor) -> bool:
    if a.qparams is None or b.qparams is None:
        return a.qparams is b.qparams and a.dtype == b.dtype
    return a.qparams.same(b.qparams)


def _reshape(node: Node) -> list[Array]:
    return [_data(node).reshape(node.output.shape)]


def _transpose(node: Node) -> list[Array]:
    return [np.ascontiguousarray(np.transpose(_data(node), node.attrs.perm))]


def _slice(node: Node) -> list[Array]:
    a, x = node.attrs, _data(node)
    if x.ndim == 0:
        return [x]
    indices = [b + s * np.arange(n) for b, s, n in zip(a.begin, a.stride, node.output.shape)]
    return [x[np.ix_(*indices)]]


def _pad(node: Node) -> list[Array]:
    a = node.attrs
    widths = list(zip(a.before, a.after))
    return [np.pad(_data(node), widths, constant_values=a.value) if widths else _data(node)]


def _mirror_pad(node: Node) -> list[Array]:
    a = node.attrs
    widths = list(zip(a.before, a.after))
    if a.reflect:
        return [np.pad(_data(node), widths, mode="reflect")]
    return [np.pad(_data(node), widths, mode="symmetric")]


def _concatenation(node: Node) -> list[Array] | None:
    if not all(_same_meaning(node.input(i), node.output) for i in range(len(node.inputs))):
        return None
    return [np.concatenate([_data(node, i) for i in range(len(node.inputs))], node.attrs.axis)]


def _split(node: Node) -> list[Array]:
    ends = np.cumsum([t.shape[node.attrs.axis] for t in node.outputs])[:-1]
    return [np.ascontiguousarray(a) for a in np.split(_data(node), ends, node.attrs.axis)]


def _pack(node: Node) -> list[Array]:
    return [np.stack([_data(node, i) for i in range(len(node.inputs))], node.attrs.axis)]


def _unpack(node: Node) -> list[Array]:
    x = np.moveaxis(_data(node), node.attrs.axis, 0)
    return [np.array(x[i]) for i in range(len(node.outputs))]


def _copy(node: Node) -> list[Array]:
    return [_data(node)]


def _quantize(node: Node) -> list[Array] | None:
    x, y = node.input(0), node.output
    if y.qparams is None or y.dtype not in ("int8", "int16"):
        return None
    if x.dtype == "float32":
        return [quantize(_data(node), y.qparams, len(x.shape), y.dtype)]
    if x.dtype == y.dtype and _same_meaning(x, y):
        return [_data(node)]
    return None


def _dequantize(node: Node) -> list[Array] | None:
    x = node.input(0)
    if x.dtype == "float16":
        return [_data(node).astype(np.float32)]
    if x.dtype in ("int8", "int16") and x.qparams is not None:
        return [dequantize(_data(node), x.qparams)]
    return None


_EVALUATORS: dict[str, Callable[[Node], list[Array] | None]] = {
    "RESHAPE": _reshape,
    "TRANSPOSE": _transpose,
    "SLICE": _slice,
    "PAD": _pad,
    "MIRROR_PAD": _mirror_pad,
    "CONCATENATION": _concatenation,
    "SPLIT": _split,
    "PACK": _pack,
    "UNPACK": _unpack,
    "COPY": _copy,
    "QUANTIZE": _quantize,
    "DEQUANTIZE": _dequantize,
}
