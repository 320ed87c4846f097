# SPDX-License-Identifier: Apache-2.0
"""Operators whose inputs are known at conversion: arithmetic on shapes and other constants.

Quantized tensors take no part; their constants fold in ir/evaluate.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..ir.graph import Array
from .tflite_context import OpContext, Refused
from .tflite_file import DTYPES

_NUMBERS = ("float32", "int32", "int64", "int16", "int8", "uint8", "uint32", "bool", "float64")


def fold(op: OpContext) -> bool:
    """Stores the operator's result if all that it needs is known; False if it is for others."""
    name = op.record.name
    if name in ("SHAPE", "RANK"):
        op.expect(1)
        shape = op.tensor(0).shape
        kind = op.output_record().type
        if name == "SHAPE" and kind not in ("INT32", "INT64"):
            raise op.wrong(f"output of type {kind}")
        dtype = np.int64 if kind == "INT64" else np.int32
        op.store(np.array(shape if name == "SHAPE" else len(shape), dtype))
        return True
    if name not in _EVALUATORS or len(op.record.outputs) != 1 or not op.record.inputs:
        return False
    kind = op.output_record().type
    operands = [op.tensor(i) for i in range(len(op.record.inputs)) if op.has(i)]
    if len(operands) != len(op.record.inputs) or kind not in DTYPES:
        return False
    arrays = [t.data for t in operands if t.data is not None and t.qparams is None]
    if len(arrays) != len(operands) or len(op.output_record().scales):
        return False
    if any(a.dtype.name not in _NUMBERS for a in arrays):
        return False
    with np.errstate(all="ignore"):
        result = _EVALUATORS[name](op, arrays)
    if name != "CAST" and result.dtype.name != DTYPES[kind]:
        raise op.wrong(f"{result.dtype.name} cannot be stored as {kind.lower()}")
    op.store(result)
    return True


def _two(op: OpContext, arrays: list[Array]) -> tuple[Array, Array]:
    op.expect(2)
    a, b = arrays
    if a.dtype != b.dtype:
        raise op.wrong(f"{a.dtype.name} and {b.dtype.name}")
    try:
        shape = np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise op.wrong(f"shapes {a.shape} and {b.shape} do not fit") from None
    _check_size(op, math.prod(shape) * a.itemsize)
    return a, b


def _check_size(op: OpContext, size: int) -> None:
    if not op.builder.affordable(size):
        raise Refused("the constant that it computes is too large")


def _activate(op: OpContext, x: Array) -> Array:
    low, high = {"NONE": (None, None), "RELU": (0, None), "RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1)}[
        op.activation()
    ]
    if low is not None:
        x = np.maximum(x, x.dtype.type(low))
    if high is not None:
        x = np.minimum(x, x.dtype.type(high))
    return x


def _binary(f: Callable[[Array, Array], Array]) -> Callable[[OpContext, list[Array]], Array]:
    def evaluate(op: OpContext, arrays: list[Array]) -> Array:
        a, b = _two(op, arrays)
        return np.asarray(_activate(op, np.asarray(f(a, b), a.dtype)))

    return evaluate


def _division(op: OpContext, arrays: list[Array]) -> Array:
    a, b = _two(op, arrays)
    name = op.record.name
    integer = a.dtype.kind in "iu"
    if integer and not b.all():
        raise op.wrong("division by zero")
    if name == "FLOOR_DIV":
        result = np.floor_divide(a, b)
    elif name == "FLOOR_MOD":
        result = np.mod(a, b)
    elif integer:  # towards zero
        result = np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))
    else:
        result = np.divide(a, b)
    result = np.asarray(result, a.dtype)
    return _activate(op, result) if name == "DIV" else result


def _cast(op: OpContext, arrays: list[Array]) -> Array:
    op.expect(1)
    (x,) = arrays
    dtype = np.dtype(DTYPES[op.output_record().type])
    if x.dtype.kind == "f" and dtype.kind in "iu":
        info = np.iinfo(dtype)
        whole = np.trunc(x.astype(np.float64))
        if not (np.isfinite(whole) & (whole >= info.min) & (whole < float(info.max) + 1)).all():
            raise op.wrong(f"values out of the range of {dtype.name}")
        return whole.astype(dtype)
    return x.astype(dtype)


def _gather(op: OpContext, arrays: list[Array]) -> Array:
    op.expect(2)
    x, indices = arrays
    if op.option("BatchDims") != 0:
        raise Refused("batch dimensions are not supported")
    axis = op.axis(op.option("Axis"), x.ndim)
    if indices.dtype.kind != "i" or ((indices < 0) | (indices >= x.shape[axis])).any():
        raise op.wrong(f"indices outside of dimension {axis} of {x.shape}")
    rest = math.prod(x.shape) // max(1, x.shape[axis])
    _check_size(op, rest * indices.size * x.itemsize)
    return np.asarray(np.take(x, indices, axis))


def _fill(op: OpContext, arrays: list[Array]) -> Array:
    op.expect(2)
    dims, value = op.integers(0, "shape"), arrays[1]
    if value.size != 1 or min(dims, default=0) < 0 or len(dims) > 16:
        raise op.wrong(f"shape {dims} filled with {value.size} values")
    _check_size(op, math.prod(dims) * value.itemsize)
    return np.full(dims, value.reshape(())[()])


def _range(op: OpContext, arrays: list[Array]) -> Array:
    op.expect(3)
    if any(a.size != 1 or a.dtype != arrays[0].dtype for a in arrays):
        raise op.wrong("start, limit and delta are not three numbers of one type")
    start, limit, delta = (a.reshape(())[()] for a in arrays)
    if delta == 0 or not all(np.isfinite(v) for v in (start, limit, delta)):
        raise op.wrong(f"from {start} to {limit} in steps of {delta}")
    count = max(0, math.ceil((float(limit) - float(start)) / float(delta)))
    _check_size(op, count * arrays[0].itemsize)
    return np.asarray(start + np.arange(count).astype(arrays[0].dtype) * delta)


def _reduction(f: Callable[..., Array]) -> Callable[[OpContext, list[Array]], Array]:
    def evaluate(op: OpContext, arrays: list[Array]) -> Array:
        op.expect(2)
        x = arrays[0]
        axes = tuple({op.axis(a, x.ndim) for a in op.integers(1, "axes")})
        if x.size == 0:
            raise op.wrong("of nothing")
        return np.asarray(f(x, axis=axes, keepdims=bool(op.option("KeepDims"))), x.dtype)

    return evaluate


def _negate(op: OpContext, arrays: list[Array]) -> Array:
    op.expect(1)
    return np.asarray(np.negative(arrays[0]))


_EVALUATORS: dict[str, Callable[[OpContext, list[Array]], Array]] = {
    "ADD": _binary(np.add),
    "SUB": _binary(np.subtract),
    "MUL": _binary(np.multiply),
    "MAXIMUM": _binary(np.maximum),
    "MINIMUM": _binary(np.minimum),
    "DIV": _division,
    "FLOOR_DIV": _division,
    "FLOOR_MOD": _division,
    "NEG": _negate,
    "CAST": _cast,
    "GATHER": _gather,
    "FILL": _fill,
    "RANGE": _range,
    "REDUCE_PROD": _reduction(np.prod),
    "REDUCE_MAX": _reduction(np.max),
    "REDUCE_MIN": _reduction(np.min),
    "SUM": _reduction(np.sum),
}
FOLDABLE = frozenset(_EVALUATORS)
