# SPDX-License-Identifier: Apache-2.0
"""Handlers of quantized ONNX: QuantizeLinear and DequantizeLinear, and ops on integers.

An op on integers is imported as DEQUANTIZE, the op on real numbers, QUANTIZE; passes/qdq.py makes
one integer op of the three. Constants keep their integers and scales beside their real values
(Builder.stored). uint8 becomes int8 with all numbers 128 lower.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..ir.evaluate import dequantize
from ..ir.graph import Array, QParams, Tensor
from ..ir.ops import LeakyRelu, NoAttrs
from . import onnx_axes, onnx_ops
from .onnx_context import OpContext
from .tflite_context import Refused, short_name

_INTEGERS = ("int8", "uint8")
_TYPES = {2: "uint8", 3: "int8"}


def _parameters(op: OpContext, scale: int, zero: int, what: str) -> tuple[Array, Array, str]:
    """Scales, zero points (of the numbers as they are in the file) and their type, "" if absent."""
    scales = op.constant(scale, "scale").astype(np.float32).reshape(-1)
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        raise op.wrong(f"a scale of {what} is not a positive number")
    if not op.has(zero):
        return scales, np.zeros(scales.shape, np.int64), ""
    data = op.constant(zero, "zero point")
    if data.dtype.kind not in "iu":
        raise Refused(f"{data.dtype.name} is not supported")
    zeros = np.broadcast_to(data.astype(np.int64).reshape(-1), scales.shape)
    return scales, zeros, data.dtype.name


def _axis(op: OpContext, t: Tensor, count: int) -> int:
    """The axis with `count` scales. Files from before opset 13 may not say which."""
    if "axis" in op.record.attrs or op.version >= 13:
        axis = op.axis(op.attr_int("axis", 1), len(t.shape)) if t.shape else 0
    else:
        axis = next((i for i, d in enumerate(t.shape) if d == count), 0)
    if not t.shape or t.shape[axis] != count:
        raise op.wrong(f"{count} scales for axis {axis} of {t.shape}")
    return axis


def _dequantized(op: OpContext, i: int, scale: int, zero: int, axis: int | None = None) -> Tensor:
    """The real numbers of input i; `axis`: that of its scales, None if an attribute says it."""
    x = op.raw(i)
    scales, zeros, kind = _parameters(op, scale, zero, short_name(x.name))
    if kind and x.source_dtype != kind and x.dtype != "int32":
        raise op.wrong(f"x is {x.source_dtype}, its zero point {kind}")
    if x.data is None:
        return _of_activation(op, x, scales, zeros)
    if x.dtype not in (*_INTEGERS, "int32"):
        raise Refused(f"constants of {x.dtype} are not supported")
    if op.attr_int("block_size", 0):
        raise Refused("scales for blocks are not supported")
    if len(scales) == 1:
        axis = 0
    elif axis is None:
        axis = _axis(op, x, len(scales))
    elif x.shape[axis] != len(scales):
        raise op.wrong(f"{len(scales)} scales for axis {axis} of {x.shape}")
    return constant(op, x.data, scales, zeros, axis, x.name)


def constant(
    op: OpContext, data: Array, scales: Array, zeros: Array, axis: int, name: str
) -> Tensor:
    """A constant of real numbers that remembers the integers that it is made of."""
    dtype = source = data.dtype.name
    if source == "uint8":
        data, zeros, dtype = (data.astype(np.int16) - 128).astype(np.int8), zeros - 128, "int8"
    elif source == "int8" and zeros.any():
        source = "uint8"  # the kernels of int8 networks know no zero points of weights
    q = QParams(scales, zeros.astype(np.int32), axis)
    stored = Tensor(name, data.shape, dtype, q, data, source)
    y = Tensor(name, data.shape, "float32", None, dequantize(data, q))
    op.builder.stored[y] = stored
    return y


def _of_activation(op: OpContext, x: Tensor, scales: Array, zeros: Array) -> Tensor:
    if x.source_dtype not in _INTEGERS:
        raise Refused(f"{short_name(x.name)!r} is {x.source_dtype}; int8 and uint8 are supported")
    if len(scales) != 1:
        raise Refused(f"{short_name(x.name)!r} is no constant and has a scale for each channel")
    q = _qparams(op, scales, zeros, x.source_dtype)
    if x.qparams is None:
        x.qparams = q
    elif not x.qparams.same(q):
        raise Refused(
            f"{short_name(x.name)!r} was quantized with scale {x.qparams.scale:g} and is read with"
            f" {q.scale:g}"
        )
    y = Tensor(f"{op.name}/real", x.shape, "float32")
    op.node("DEQUANTIZE", [x], [y], NoAttrs())
    return y


def _qparams(op: OpContext, scales: Array, zeros: Array, dtype: str) -> QParams:
    low = 0 if dtype == "uint8" else -128
    zero = int(zeros[0])
    if not low <= zero <= low + 255:
        raise op.wrong(f"zero point {zero} of {dtype}")
    return QParams.of(float(scales[0]), zero - (128 if dtype == "uint8" else 0))


def _quantized(op: OpContext, y: Tensor, scale: int, zero: int, dtype: str = "") -> Tensor:
    """y as integers with the scale and zero point of these inputs."""
    scales, zeros, kind = _parameters(op, scale, zero, "the output")
    kind = kind or dtype or "uint8"
    if kind not in _INTEGERS:
        raise Refused(f"activations of {kind} are not supported, only int8 and uint8")
    if len(scales) != 1:
        raise Refused("its output has a scale for each channel")
    q = Tensor(
        f"{op.name}/quantized", y.shape, "int8", _qparams(op, scales, zeros, kind), None, kind
    )
    op.node("QUANTIZE", [op.builder.real(y, op.node)], [q], NoAttrs())
    return q


def _quantize_linear(op: OpContext) -> None:
    wanted = op.attr_int("output_dtype", 0)
    if wanted and wanted not in _TYPES:
        raise Refused("only int8 and uint8 are supported")
    op.finish(_quantized(op, op.real(0), 1, 2, _TYPES.get(wanted, "")))


def _dequantize_linear(op: OpContext) -> None:
    op.finish(_dequantized(op, 0, 1, 2))


# ---- ops on integers


def _qlinear_conv(op: OpContext) -> None:
    """x, its scale and zero point, w, ..., y's; bias on the scale x * w."""
    if op.attr_int("channels_last", 0):
        raise Refused("channels_last is not supported")
    x, w = _dequantized(op, 0, 1, 2), _dequantized(op, 3, 4, 5, 0)
    bias = _product_bias(op, 8, 1, 4)
    op.finish(_quantized(op, onnx_ops.conv(op, x, w, bias), 6, 7))


def _product_bias(op: OpContext, i: int, x: int, w: int) -> Tensor | None:
    """int32 constant i on the scale that is the product of inputs x and w."""
    if not op.has(i):
        return None
    data = op.constant(i, "bias")
    if data.dtype != np.int32:
        raise op.wrong(f"bias of {data.dtype.name}")
    scale = op.constant(x, "scale").astype(np.float64).reshape(-1)
    scales = (scale * op.constant(w, "scale").astype(np.float64).reshape(-1)).astype(np.float32)
    if len(scales) not in (1, data.size):
        raise op.wrong(f"{len(scales)} scales for a bias {data.shape}")
    zeros = np.zeros(scales.shape, np.int64)
    return constant(op, data.reshape(-1), scales, zeros, 0, op.raw(i).name)


def _qlinear_matmul(op: OpContext) -> None:
    b = op.raw(3)
    y = onnx_ops.matmul(
        op, _dequantized(op, 0, 1, 2), _dequantized(op, 3, 4, 5, max(0, len(b.shape) - 1))
    )
    op.finish(_quantized(op, y, 6, 7))


def _qgemm(op: OpContext) -> None:
    """A, its scale and zero point, B, ..., C on the scale A * B, then y's, or a float32 result."""
    turned = bool(op.attr_int("transB", 0))
    a, b = _dequantized(op, 0, 1, 2), _dequantized(op, 3, 4, 5, 0 if turned else 1)
    c = _product_bias(op, 6, 1, 4)
    alpha = op.attr_float("alpha", 1.0)
    y = onnx_ops.gemm(op, a, b, c if c is None else op.scaled(c, alpha), alpha, 1.0)
    op.finish(_quantized(op, y, 7, 8) if op.has(7) else y)


def _qlinear_arithmetic(op: OpContext) -> None:
    name = {"Add": "ADD", "Mul": "MUL"}[op.record.op.rpartition("QLinear")[2]]
    y = op.binary(name, _dequantized(op, 0, 1, 2), _dequantized(op, 3, 4, 5))
    op.finish(_quantized(op, y, 6, 7))


def _of_one(compute: Callable[[OpContext, Tensor], Tensor]) -> Callable[[OpContext], None]:
    """x, its scale and zero point, y's scale and zero point."""

    def handler(op: OpContext) -> None:
        y = compute(op, _dequantized(op, 0, 1, 2))
        op.finish(_quantized(op, y, 3, 4, op.raw(0).source_dtype))

    return handler


def _leaky_relu(op: OpContext, x: Tensor) -> Tensor:
    return op.named("LEAKY_RELU", x, LeakyRelu(op.attr_float("alpha", 0.01)))


def _average_pool(op: OpContext, x: Tensor) -> Tensor:
    if op.attr_int("channels_last", 0):
        raise Refused("channels_last is not supported")
    return onnx_ops.pool(op, x, "AVERAGE_POOL_2D")


def _global_average_pool(op: OpContext, x: Tensor) -> Tensor:
    rank = len(x.shape)
    axes = range(1, rank - 1) if op.attr_int("channels_last", 0) else range(2, rank)
    return onnx_axes.reduce(op, "MEAN", x, axes, True)


def _softmax(op: OpContext, x: Tensor) -> Tensor:
    return onnx_axes.softmax(op, x, "SOFTMAX", op.attr_int("opset", 13))


def _qlinear_concat(op: OpContext) -> None:
    """y's scale and zero point, then x, scale and zero point of each input."""
    count = (len(op.record.inputs) - 2) // 3
    if count < 1 or len(op.record.inputs) != 2 + 3 * count:
        raise op.wrong(f"{len(op.record.inputs)} inputs")
    parts = [_dequantized(op, 2 + 3 * i, 3 + 3 * i, 4 + 3 * i) for i in range(count)]
    axis = op.axis(op.attr_int("axis", 1), len(parts[0].shape))
    op.finish(_quantized(op, op.concat(parts, axis), 0, 1))


RULES: dict[str, Callable[[OpContext], None]] = {
    "QuantizeLinear": _quantize_linear,
    "DequantizeLinear": _dequantize_linear,
    "com.microsoft:QuantizeLinear": _quantize_linear,
    "com.microsoft:DequantizeLinear": _dequantize_linear,
    "QLinearConv": _qlinear_conv,
    "com.microsoft:QLinearConv": _qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
    "com.microsoft:QGemm": _qgemm,
    "com.microsoft:QLinearAdd": _qlinear_arithmetic,
    "com.microsoft:QLinearMul": _qlinear_arithmetic,
    "com.microsoft:QLinearSigmoid": _of_one(lambda op, x: op.named("LOGISTIC", x)),
    "com.microsoft:QLinearLeakyRelu": _of_one(_leaky_relu),
    "com.microsoft:QLinearAveragePool": _of_one(_average_pool),
    "com.microsoft:QLinearGlobalAveragePool": _of_one(_global_average_pool),
    "com.microsoft:QLinearSoftmax": _of_one(_softmax),
    "com.microsoft:QLinearConcat": _qlinear_concat,
}
