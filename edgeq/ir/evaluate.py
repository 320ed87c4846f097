# SPDX-License-Identifier: Apache-2.0
"""Ops on constants, computed exactly where numpy can."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .graph import Array, Node, QParams, Tensor
from .named import clamp, expression_of


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


# ---- float32 only


def _is_float(node: Node) -> bool:
    return all(
        t.dtype == "float32" and t.qparams is None
        for t in [*node.inputs, *node.outputs]
        if t is not None
    )


def _unary(node: Node) -> list[Array] | None:
    expression = expression_of(node)
    if expression is None or not _is_float(node):
        return None
    with np.errstate(all="ignore"):
        return [expression(_data(node)).astype(np.float32)]


def _arithmetic(f: Callable[[Array, Array], Array]) -> Callable[[Node], list[Array] | None]:
    def run(node: Node) -> list[Array] | None:
        if not _is_float(node):
            return None
        with np.errstate(all="ignore"):
            y = f(_data(node, 0), _data(node, 1))
        return [clamp(getattr(node.attrs, "activation", "NONE"))(y).astype(np.float32)]

    return run


def _reduction(f: Callable[..., Array]) -> Callable[[Node], list[Array] | None]:
    def run(node: Node) -> list[Array] | None:
        if not _is_float(node):
            return None
        a, x = node.attrs, _data(node).astype(np.float64)
        with np.errstate(all="ignore"):
            return [np.asarray(f(x, axis=a.axes, keepdims=a.keep_dims), np.float32)]

    return run


def _batch_matmul(node: Node) -> list[Array] | None:
    if not _is_float(node):
        return None
    x, y = _data(node, 0).astype(np.float64), _data(node, 1).astype(np.float64)
    x = x.swapaxes(-1, -2) if node.attrs.transpose_x else x
    y = y.swapaxes(-1, -2) if node.attrs.transpose_y else y
    with np.errstate(all="ignore"):
        return [np.matmul(x, y).astype(np.float32)]


def _gather(node: Node) -> list[Array]:
    return [np.take(_data(node, 0), _data(node, 1), node.attrs.axis)]


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
    "ADD": _arithmetic(np.add),
    "SUB": _arithmetic(np.subtract),
    "MUL": _arithmetic(np.multiply),
    "DIV": _arithmetic(np.divide),
    "MAXIMUM": _arithmetic(np.maximum),
    "MINIMUM": _arithmetic(np.minimum),
    **dict.fromkeys(("UNARY", "LEAKY_RELU", "LOGISTIC", "TANH", "HARD_SWISH"), _unary),
    **dict.fromkeys(("RELU", "RELU6", "RELU_N1_TO_1"), _unary),
    "MEAN": _reduction(np.mean),
    "SUM": _reduction(np.sum),
    "REDUCE_MAX": _reduction(np.max),
    "REDUCE_MIN": _reduction(np.min),
    "BATCH_MATMUL": _batch_matmul,
    "GATHER": _gather,
    "QUANTIZE": _quantize,
    "DEQUANTIZE": _dequantize,
}
