# SPDX-License-Identifier: Apache-2.0
"""Handlers of ONNX operators that compute along axes: norms, reductions, softmax, choices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..ir.graph import Array, Tensor
from ..ir.ops import Axis, NoAttrs, NonMaxSuppression, Norm, Reduce, Softmax, TopK
from .onnx_context import OpContext
from .tflite_context import Refused

Handler = Callable[[OpContext], None]


# ---- normalization


def _channels(values: Array, rank: int) -> Array:
    """(C,) as it broadcasts against (N, C, ...)."""
    return values.reshape(-1, *(1,) * (rank - 2))


def _batch_norm(op: OpContext) -> None:
    x = op.real(0)
    if op.attr_int("training_mode", 0) or not op.attr_int("spatial", 1):
        raise Refused("only its form for inference, one mean for each channel, is supported")
    parts = [op.constant(i, "statistics").astype(np.float64) for i in range(1, 5)]
    channels = x.shape[1] if len(x.shape) > 1 else 0
    if any(p.shape != (channels,) for p in parts):
        raise op.wrong(f"statistics of {[p.shape for p in parts]} for x {x.shape}")
    gamma, beta, mean, variance = parts
    with np.errstate(all="ignore"):
        factor = gamma / np.sqrt(variance + op.attr_float("epsilon", 1e-5))
    shift = beta - mean * factor
    if not (np.isfinite(factor).all() and np.isfinite(shift).all()):
        raise op.wrong("its statistics give infinite numbers")
    y = op.binary("MUL", x, op.const(_channels(factor, len(x.shape))))
    y = op.binary("ADD", y, op.const(_channels(shift, len(x.shape))))
    op.builder.norm_statistics[y] = beta, np.square(factor) * variance
    op.finish(y)


def _norm(
    op: OpContext, x: Tensor, axes: Sequence[int], gamma: Tensor | None, beta: Tensor | None
) -> Tensor:
    attrs = Norm(tuple(axes), op.attr_float("epsilon", 1e-5))
    return op.add("LAYER_NORM", [x, gamma, beta], attrs, x.shape)


def _layer_norm(op: OpContext) -> None:
    x = op.real(0)
    axis = op.axis(op.attr_int("axis", -1), len(x.shape))
    gamma = op.real(1) if op.has(1) else None
    beta = op.real(2) if op.has(2) else None
    op.finish(_norm(op, x, range(axis, len(x.shape)), gamma, beta))


def _skip_layer_norm(op: OpContext) -> None:
    """com.microsoft: the norm of a sum."""
    x = op.binary("ADD", op.real(0), op.real(1))
    if op.has(4):
        x = op.binary("ADD", x, op.real(4))
    op.finish(_norm(op, x, [len(x.shape) - 1], op.real(2), op.real(3) if op.has(3) else None))


def _instance_norm(op: OpContext) -> None:
    x, rank = op.real(0), len(op.real(0).shape)
    parts = [op.const(_channels(op.constant(i, "factors"), rank)) for i in (1, 2)]
    op.finish(_norm(op, x, range(2, rank), *parts))


def _group_norm(op: OpContext) -> None:
    """Of opset 18 with a factor for each group, of 21 with one for each channel."""
    x, groups = op.real(0), op.attr_int("num_groups", 1)
    n, channels, *rest = x.shape
    if groups < 1 or channels % groups:
        raise op.wrong(f"{groups} groups of {channels} channels")
    split = op.reshape(x, (n, groups, channels // groups, *rest))
    y = op.reshape(_norm(op, split, range(2, len(split.shape)), None, None), x.shape)
    for i, name in ((1, "MUL"), (2, "ADD")):
        values = op.constant(i, "factors")
        if values.size == groups != channels:
            values = np.repeat(values, channels // groups)
        y = op.binary(name, y, op.const(_channels(values, len(x.shape))))
    op.finish(y)


def _mean_variance_norm(op: OpContext) -> None:
    x = op.real(0)
    axes = op.axes(op.attr_ints("axes", (0, 2, 3)) or (), len(x.shape))
    op.finish(op.add("LAYER_NORM", [x, None, None], Norm(tuple(sorted(axes)), 1e-9), x.shape))


def _lp_norm(op: OpContext) -> None:
    x, p = op.real(0), op.attr_int("p", 2)
    axis = op.axis(op.attr_int("axis", -1), len(x.shape))
    size = op.unary(x, ("mul", 0, 0)) if p == 2 else op.unary(x, ("abs",))
    total = reduce(op, "SUM", size, [axis], True)
    op.finish(op.binary("DIV", x, op.unary(total, ("sqrt",)) if p == 2 else total))


# ---- axes


def reduce(op: OpContext, name: str, x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    axes = tuple(sorted(axes))
    if not axes:
        return x
    shape = [1 if i in axes else d for i, d in enumerate(x.shape) if keep or i not in axes]
    return op.add(name, [x], Reduce(axes, keep), shape)


# Operator -> steps before, the reduction, steps behind.
_Steps = Sequence[tuple[object, ...]]
_REDUCTIONS: dict[str, tuple[_Steps, str, _Steps]] = {
    "ReduceMean": ((), "MEAN", ()),
    "ReduceSum": ((), "SUM", ()),
    "ReduceMax": ((), "REDUCE_MAX", ()),
    "ReduceMin": ((), "REDUCE_MIN", ()),
    "ReduceL1": ((("abs",),), "SUM", ()),
    "ReduceL2": ((("mul", 0, 0),), "SUM", (("sqrt",),)),
    "ReduceSumSquare": ((("mul", 0, 0),), "SUM", ()),
    "ReduceLogSum": ((), "SUM", (("log",),)),
    "ReduceLogSumExp": ((("exp",),), "SUM", (("log",),)),
}


def _reduction(op: OpContext) -> None:
    before, name, behind = _REDUCTIONS[op.record.op]
    x = op.real(0)
    axes = op.ints_from(1, "axes", 13 if op.record.op == "ReduceSum" else 18)
    if not axes:
        axes = () if op.attr_int("noop_with_empty_axes", 0) else tuple(range(len(x.shape)))
    axes = op.axes(axes, len(x.shape))
    if before:
        x = op.unary(x, *before)
    y = reduce(op, name, x, axes, bool(op.attr_int("keepdims", 1)))
    op.finish(op.unary(y, *behind) if behind else y)


def _softmax(op: OpContext) -> None:
    name = "SOFTMAX" if op.record.op == "Softmax" else "LOG_SOFTMAX"
    op.finish(softmax(op, op.real(0), name, op.version))


def softmax(op: OpContext, x: Tensor, name: str, version: int) -> Tensor:
    """Over `axis` from opset 13 on, over all axes from that one on before."""
    rank = len(x.shape)
    if not rank:
        raise op.wrong("of a scalar")
    attrs = Softmax() if name == "SOFTMAX" else NoAttrs()
    axis = op.attr_int("axis", -1 if version >= 13 else 1)
    if version < 13 and (axis == rank or math.prod(x.shape[op.axis(axis, rank) + 1 :]) != 1):
        axis = axis if axis == rank else op.axis(axis, rank)
        flat = op.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))
        return op.reshape(op.named(name, flat, attrs), x.shape)
    axis = op.axis(axis, rank)
    perm = [i for i in range(rank) if i != axis] + [axis]
    y = op.named(name, op.transpose(x, perm), attrs)
    return op.transpose(y, [perm.index(i) for i in range(rank)])


def _arg_max(op: OpContext) -> None:
    x = op.real(0)
    axis = op.axis(op.attr_int("axis", 0), len(x.shape))
    if op.attr_int("select_last_index", 0):
        raise Refused("the last of equal elements is not supported, only the first")
    if op.record.op == "ArgMin":
        x = op.unary(x, ("neg",))
    keep = [1] if op.attr_int("keepdims", 1) else []
    shape = (*x.shape[:axis], *keep, *x.shape[axis + 1 :])
    op.finish(op.add("ARG_MAX", [x], Axis(axis), shape, "int64"))


def _top_k(op: OpContext) -> None:
    """The k largest along an axis: values and int64 indices."""
    x = op.real(0)
    rank = len(x.shape)
    axis = op.axis(op.attr_int("axis", -1), rank)
    k = op.attr_int("k", 0) if op.version < 10 else int(op.number(1, "k", 0))
    if not 1 <= k <= x.shape[axis]:
        raise op.wrong(f"k is {k} of {x.shape[axis]}")
    shape = (*x.shape[:axis], k, *x.shape[axis + 1 :])
    values = Tensor(f"{op.name}/values", shape, "float32")
    indices = Tensor(f"{op.name}/indices", shape, "int64")
    largest = bool(op.attr_int("largest", 1))
    op.node("TOP_K", [op.builder.real(x, op.node)], [values, indices], TopK(axis, k, largest))
    op.finish(values, indices)


def _non_max_suppression(op: OpContext) -> None:
    """The result has a row for each box that may be chosen; what is not needed is -1."""
    boxes, scores = op.real(0), op.real(1)
    if len(boxes.shape) != 3 or len(scores.shape) != 3 or boxes.shape[2] != 4:
        raise op.wrong(f"of boxes {boxes.shape} and scores {scores.shape}")
    if boxes.shape[:2] != (scores.shape[0], scores.shape[2]):
        raise op.wrong(f"of boxes {boxes.shape} and scores {scores.shape}")
    most = int(op.number(2, "max_output_boxes_per_class", 0))
    attrs = NonMaxSuppression(
        min(most, boxes.shape[1]),
        op.number(3, "iou_threshold", 0.0),
        op.number(4, "score_threshold", -math.inf),
        bool(op.attr_int("center_point_box", 0)),
    )
    if attrs.most < 1:
        raise Refused("it chooses no boxes: max_output_boxes_per_class is 0")
    rows = scores.shape[0] * scores.shape[1] * attrs.most
    op.finish(op.add("NON_MAX_SUPPRESSION", [boxes, scores], attrs, (rows, 3), "int64"))


RULES: dict[str, Handler] = {
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "com.microsoft:LayerNormalization": _layer_norm,
    "com.microsoft:SkipLayerNormalization": _skip_layer_norm,
    "GroupNormalization": _group_norm,
    "MeanVarianceNormalization": _mean_variance_norm,
    "LpNormalization": _lp_norm,
    **dict.fromkeys(_REDUCTIONS, _reduction),
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "ArgMax": _arg_max,
    "ArgMin": _arg_max,
    "TopK": _top_k,
    "NonMaxSuppression": _non_max_suppression,
}
