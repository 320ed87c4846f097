# SPDX-License-Identifier: Apache-2.0
"""TFLite's operators that compute: attributes, explicit padding, the shapes that follow.

A handler raises FormatError (by `op.wrong`) for what no network may say and Refused for what edgeq
does not run. Operators that only move data are in tflite_moves.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..ir.graph import QParams, Tensor
from ..ir.ops import (
    Arithmetic,
    Axis,
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    LeakyRelu,
    MatMul,
    NoAttrs,
    Pool,
    Reduce,
    Resize,
    Softmax,
    TransposeConv,
)
from .tflite_context import OpContext, Refused, Shape

SAME, VALID = 0, 1
WHOLE = ("INT32", "INT64")
_MOVABLE = ("FLOAT32", "INT32", "INT64", "BOOL", "INT8", "UINT8")


@dataclass(frozen=True)
class Rule:
    """`data`: the inputs that carry quantized data, None for all. `types`: what it works on.

    `also`: types of which all data may be instead.
    """

    handler: Callable[[OpContext], None]
    data: tuple[int, ...] | None = (0,)
    # "int8": in and out, or both float32; "in": only its inputs; "float": float32 only; "any": it
    # moves data; "bytes": it moves what is no float32; "edge"; "none": only `also`; "signed": int8
    # in and out, not uint8
    types: str = "int8"
    also: tuple[str, ...] = ()
    weights: int | None = None  # which of the inputs these are
    int16: bool = True  # whether all of these may be int16 instead; the weights stay int8


# ---- what the operands must be


def check_types(op: OpContext, rule: Rule) -> None:
    """Raises Refused unless all data operands have types that `rule` runs on.

    Operators on float32 may have int8 constants beside it ("dynamic range"): TFLite quantizes the
    activations there while it runs. Here they are the float32 that they stand for.
    """
    data = range(len(op.record.inputs)) if rule.data is None else rule.data
    if rule.types == "signed":
        if any(op.has(i) and op.input_record(i).type == "UINT8" for i in data):
            raise Refused("of uint8 is not supported, only of int8")
        rule = replace(rule, types="int8")
    inputs = [op.input_record(i) for i in data if op.has(i)]
    records = list(inputs)
    if rule.types in ("int8", "float", "any", "bytes", "none"):
        records += [op.output_record(i) for i in range(len(op.record.outputs))]
    kinds = {t.type for t in records}
    if len(kinds) == 1 and kinds <= set(rule.also) and not any(t.problem for t in records):
        return
    if rule.types in ("int8", "float", "in") and not any(t.problem for t in records):
        others = {t.type for t in records if not op.is_int8_constant(t)}
        op.is_float = others == {"FLOAT32"} and any(t.type == "FLOAT32" for t in inputs)
        if op.is_float:
            return
    for t in records:
        if t.problem:
            raise Refused(f"{t.name!r}: {t.problem}")
        if rule.types == "any" and t.type in _MOVABLE:
            continue
        if rule.types == "edge" or (rule.types == "bytes" and t.type in _MOVABLE[1:]):
            continue
        if rule.types in ("bytes", "none"):
            raise Refused(f"{t.name!r} is {t.type.lower()}, which is not supported here")
        if t.type == "INT16" and not rule.int16:
            raise Refused("int16 is not supported here; quantize this operator with int8")
        if t.type in ("INT8", "UINT8", "INT16"):
            if len(t.scales) == 0:
                raise Refused(f"{t.name!r} is {t.type.lower()} without scale and zero point")
        elif t.type == "FLOAT16":
            raise Refused(f"{t.name!r} is float16, which is supported for weights only")
        elif t.type != "FLOAT32":
            raise Refused(f"{t.name!r} is {t.type.lower()}, which is not supported here")
    kinds = {t.type for t in records}
    if rule.weights is not None and "INT16" in kinds:
        weights = op.input_record(rule.weights)
        if weights.type != "INT8":
            raise Refused(f"weights {weights.name!r} are {weights.type.lower()}, int8 is needed")
        kinds = {t.type for t in records if t is not weights}
    if rule.types in ("int8", "float") and len(kinds) > 1:
        raise Refused(f"it mixes {' and '.join(sorted(kinds)).lower()}")
    if rule.types == "float":
        raise Refused(f"of {' and '.join(sorted(kinds)).lower()} is not supported, only of float32")


def has_floats(op: OpContext, rule: Rule) -> bool:
    """Whether data that `rule` works on is float32."""
    data = range(len(op.record.inputs)) if rule.data is None else rule.data
    return any(op.has(i) and op.input_record(i).type == "FLOAT32" for i in data)


def check_activations(op: OpContext) -> None:
    """Zero points must be in range, tensors that are not constants must have one scale."""
    indices = [i for i in op.record.inputs if i >= 0] + list(op.record.outputs)
    for index in indices:
        t = op.file.tensors[index]
        if t.type == "INT16" and t.zero_points.any():
            raise op.wrong(f"{t.label}: an int16 tensor's zero point must be 0")
        if t.type == "INT16" and len(t.scales) > 1 and not op.file.has_data(t):
            raise Refused(f"{t.name!r}: activations with a scale for each channel")
        if t.type not in ("INT8", "UINT8") or not len(t.scales):
            continue
        low = 0 if t.type == "UINT8" else -128
        if t.zero_points.min() < low or t.zero_points.max() > low + 255:
            bad = t.zero_points[(t.zero_points < low) | (t.zero_points > low + 255)][0]
            raise op.wrong(f"{t.label}: zero point {bad}")
        if len(t.scales) > 1 and not op.file.has_data(t):
            raise Refused(f"{t.name!r}: activations with a scale for each channel")


def weights(op: OpContext, i: int, axis: int) -> Tensor:
    """Constant weights; int8 ones are symmetric, as the reference assumes."""
    op.constant(i, "weights")
    w, record = op.tensor(i), op.input_record(i)
    if op.is_float:
        return w
    assert w.qparams is not None
    zeros = w.qparams.zero_points
    if w.qparams.per_channel:
        if record.type == "UINT8":
            raise Refused(f"weights {w.name!r}: uint8 with a scale for each channel")
        if record.axis != axis:
            raise op.wrong(f"{record.label}: quantized_dimension is {record.axis}, not {axis}")
        if zeros.any():
            raise Refused(
                f"weights {w.name!r}: zero point {int(zeros[zeros != 0][0])}; int8 weights with a"
                " scale for each channel must have zero points of 0"
            )
    elif record.type == "INT8" and zeros[0] != 0 and op.record.name != "FULLY_CONNECTED":
        raise Refused(f"weights {w.name!r}: int8 with zero point {int(zeros[0])}, not 0")
    return w


def bias(op: OpContext, i: int, channels: int) -> Tensor | None:
    """int32 (channels,), float32 in operators on float32, with int16 ones also int64, or None."""
    if not op.has(i):
        return None
    data, t = op.constant(i, "bias"), op.tensor(i)
    if op.is_float:
        if t.dtype != "float32" or data.size != channels:
            raise op.wrong(f"bias is {t.dtype} {t.shape} for {channels} channels")
        return Tensor(t.name, (channels,), "float32", data=data.reshape(channels))
    dtypes = ("int64", "int32") if op.output_record().type == "INT16" else ("int32",)
    if t.dtype not in dtypes:
        raise Refused(f"bias {t.name!r} is {t.dtype}, not {' or '.join(dtypes)}")
    if data.size != channels:
        raise op.wrong(f"bias has {data.size} elements for {channels} channels")
    if t.qparams is not None and t.qparams.zero_points.any() and op.input_record(0).type == "INT8":
        raise Refused(f"bias {t.name!r} has a zero point")
    qparams = None if t.qparams is None else QParams(t.qparams.scales, t.qparams.zero_points)
    return Tensor(t.name, (channels,), t.dtype, qparams, data.reshape(channels))


def _same_range(op: OpContext, x: Tensor, y: Tensor) -> None:
    """The reference hands bytes through and requires equal scales, to 1e-6, and zero points."""
    assert x.qparams is not None and y.qparams is not None
    near = abs(float(x.qparams.scale) - float(y.qparams.scale)) <= 1e-6
    if not near or x.qparams.zero_point != y.qparams.zero_point:
        raise Refused("input and output have different scales or zero points")


# ---- windows


def _window(
    op: OpContext, size: int, kernel: int, stride: int, dilation: int, padding: int
) -> tuple[int, int]:
    """Output size and padding in front."""
    extent = (kernel - 1) * dilation + 1
    if padding == SAME:
        out = -(-size // stride)
    elif padding == VALID:
        out = (size + stride - extent) // stride
    else:
        raise op.wrong(f"padding {padding}")
    if out < 1:
        raise op.wrong(f"a window of {extent} does not fit into {size}")
    return out, max(0, (out - 1) * stride + extent - size) // 2


def windows(
    op: OpContext,
    shape: Shape,
    kernel: Shape,
    stride: Shape,
    dilation: Shape,
    padding: int | None = None,
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(OH, OW) and (pad_top, pad_left) for x of `shape` (N, H, W, C).

    `padding`: SAME or VALID, without it the operator's option.
    """
    padding = op.option("Padding") if padding is None else padding
    h, top = _window(op, shape[1], kernel[0], stride[0], dilation[0], padding)
    w, left = _window(op, shape[2], kernel[1], stride[1], dilation[1], padding)
    return (h, w), (top, left)


def _conv_2d(op: OpContext) -> None:
    op.expect(2, 3)
    x, w = op.ranked(0, 4), op.ranked(1, 4)
    out_channels, kh, kw, depth = w.shape
    if depth < 1 or x.shape[3] % depth or out_channels % (x.shape[3] // depth):
        raise op.wrong(f"weights {w.shape} do not fit to {x.shape[3]} channels")
    stride = (op.positive("StrideH"), op.positive("StrideW"))
    dilation = (op.positive("DilationHFactor"), op.positive("DilationWFactor"))
    size, pads = windows(op, x.shape, (kh, kw), stride, dilation)
    attrs = Conv2D(stride, dilation, *pads, x.shape[3] // depth, op.activation())
    inputs = [x, weights(op, 1, 0), bias(op, 2, out_channels)]
    op.emit("CONV_2D", inputs, attrs, (x.shape[0], *size, out_channels))


def _depthwise_conv_2d(op: OpContext) -> None:
    op.expect(2, 3)
    x, w = op.ranked(0, 4), op.ranked(1, 4)
    one, kh, kw, channels = w.shape
    if one != 1 or channels % x.shape[3]:
        raise op.wrong(f"weights {w.shape} do not fit to {x.shape[3]} channels")
    stride = (op.positive("StrideH"), op.positive("StrideW"))
    dilation = (op.positive("DilationHFactor"), op.positive("DilationWFactor"))
    size, pads = windows(op, x.shape, (kh, kw), stride, dilation)
    attrs = DepthwiseConv2D(stride, dilation, *pads, channels // x.shape[3], op.activation())
    inputs = [x, weights(op, 1, 3), bias(op, 2, channels)]
    op.emit("DEPTHWISE_CONV_2D", inputs, attrs, (x.shape[0], *size, channels))


def _transpose_conv(op: OpContext) -> None:
    op.expect(3, 4)
    shape = op.integers(0, "output shape")
    w, x = op.ranked(1, 4), op.ranked(2, 4)
    out_channels, kh, kw, depth = w.shape
    if len(shape) != 4 or min(shape) < 1 or depth != x.shape[3]:
        raise op.wrong(f"output shape {shape}, weights {w.shape} and x {x.shape} do not fit")
    if shape[0] != x.shape[0] or shape[3] != out_channels:
        raise op.wrong(f"output shape {shape} for x {x.shape} and {out_channels} channels")
    stride = (op.positive("StrideH"), op.positive("StrideW"))
    # It is the gradient of a convolution from the output to x, whose padding it takes.
    size, pads = windows(op, shape, (kh, kw), stride, (1, 1))
    if size != x.shape[1:3]:
        raise op.wrong(f"output shape {shape} does not belong to x {x.shape}")
    inputs = [x, weights(op, 1, 0), bias(op, 3, out_channels)]
    op.emit("TRANSPOSE_CONV", inputs, TransposeConv(stride, *pads, op.activation()), shape)


def _pool(op: OpContext) -> None:
    op.expect(1)
    x = op.ranked(0, 4)
    kernel = (op.positive("FilterHeight"), op.positive("FilterWidth"))
    stride = (op.positive("StrideH"), op.positive("StrideW"))
    size, pads = windows(op, x.shape, kernel, stride, (1, 1))
    attrs = Pool(kernel, stride, *pads, op.activation())
    op.emit(op.record.name, [x], attrs, (x.shape[0], *size, x.shape[3]))


def _fully_connected(op: OpContext) -> None:
    op.expect(2, 3)
    x, w = op.tensor(0), op.ranked(1, 2)
    if op.option("WeightsFormat") != 0:
        raise Refused("shuffled weights are not supported")
    rows, depth = w.shape
    if min(w.shape) < 1 or not x.shape or x.elements % depth:
        raise op.wrong(f"weights {w.shape} do not fit to x {x.shape}")
    shape: Shape = (x.elements // depth, rows)
    if op.option("KeepNumDims"):
        if x.shape[-1] != depth:
            raise op.wrong(f"weights {w.shape} do not fit to x {x.shape}")
        shape = (*x.shape[:-1], rows)
    if op.is_float and not w.is_const:
        _product(op, x, w, shape)
        return
    inputs = [weights(op, 1, 0), bias(op, 2, rows)]
    y = op.result(shape)
    if x.shape[-1] != depth:
        flat = op.hidden(x, (x.elements // depth, depth), "/flat")
        op.add("RESHAPE", [x], [flat], NoAttrs())
        x = flat
    op.add("FULLY_CONNECTED", [x, *inputs], [y], FullyConnected(op.activation()))


def _product(op: OpContext, x: Tensor, w: Tensor, shape: Shape) -> None:
    """FULLY_CONNECTED with computed weights: x @ transpose(w), and what there is behind it."""
    rows, depth = w.shape
    flat = op.hidden(x, (x.elements // depth, depth), "/flat")
    product = op.hidden(x, (x.elements // depth, rows), "/product")
    op.add("RESHAPE", [x], [flat], NoAttrs())
    op.add("BATCH_MATMUL", [flat, w], [product], MatMul(transpose_y=True))
    y, activation = op.result(shape), op.activation()
    offset = bias(op, 2, rows)
    if offset is None and activation == "NONE":
        op.add("RESHAPE", [product], [y], NoAttrs())
        return
    shifted = op.hidden(x, product.shape, "/shifted")
    if offset is None:
        op.add(activation, [product], [shifted], NoAttrs())
    else:
        op.add("ADD", [product, offset], [shifted], Arithmetic(activation))
    op.add("RESHAPE", [shifted], [y], NoAttrs())


# ---- elementwise


def broadcast(op: OpContext, a: Shape, b: Shape) -> Shape:
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    if any(m != n and m != 1 and n != 1 for m, n in zip(a, b)):
        raise op.wrong(f"shapes {a} and {b} do not fit")
    return tuple(n if m == 1 else m for m, n in zip(a, b))


def arithmetic(op: OpContext) -> None:
    op.expect(2)
    a, b = op.tensor(0), op.tensor(1)
    shape = broadcast(op, a.shape, b.shape)
    if a.dtype in ("int32", "int64") and op.activation() != "NONE":
        raise Refused(f"a fused {op.activation()} of whole numbers is not supported")
    op.emit(op.record.name, [a, b], Arithmetic(op.activation()), shape)


def _maximum(op: OpContext) -> None:
    op.expect(2)
    a, b = op.tensor(0), op.tensor(1)
    op.emit(op.record.name, [a, b], NoAttrs(), broadcast(op, a.shape, b.shape))


def _unary(op: OpContext) -> None:
    op.expect(1)
    x = op.tensor(0)
    op.emit(op.record.name, [x], NoAttrs(), x.shape)


def _fixed_output(op: OpContext, x: Tensor, scale: float, zero: int | None, slack: float) -> Tensor:
    """The output, whose scale and stored zero point the reference prescribes."""
    y = op.result(x.shape)
    if op.is_float:
        return y
    assert y.qparams is not None
    near = abs(float(y.qparams.scale) - scale) <= slack
    if not near or (zero is not None and y.qparams.zero_point != zero):
        raise Refused(
            f"its output must have scale {scale:g}"
            + ("" if zero is None else f" and zero point {zero}")
        )
    return y


def _logistic(op: OpContext) -> None:
    op.expect(1)
    x = op.tensor(0)
    scale = 1 / 32768 if op.output_record().type == "INT16" else 1 / 256
    op.add("LOGISTIC", [x], [_fixed_output(op, x, scale, None, 0.0)], NoAttrs())


def _tanh(op: OpContext) -> None:
    op.expect(1)
    x = op.tensor(0)
    if op.output_record().type == "INT16":
        op.add("TANH", [x], [_fixed_output(op, x, 1 / 32768, None, 0.001 / 32768)], NoAttrs())
    else:
        op.emit("TANH", [x], NoAttrs(), x.shape)


def _softmax(op: OpContext) -> None:
    op.expect(1)
    x = op.tensor(0)
    if not x.shape:
        raise op.wrong("of a scalar")
    if op.output_record().type == "INT8":
        y = _fixed_output(op, x, 1 / 256, -128, 0.001 / 256)
    elif op.output_record().type == "INT16":
        y = _fixed_output(op, x, 1 / 32768, 0, 0.001 / 32768)
    else:
        y = op.result(x.shape)
    op.add("SOFTMAX", [x], [y], Softmax(op.real("Beta")))


def _log_softmax(op: OpContext) -> None:
    op.expect(1)
    x = op.tensor(0)
    if not x.shape:
        raise op.wrong("of a scalar")
    op.add("LOG_SOFTMAX", [x], [_fixed_output(op, x, 16 / 256, 127, 0.0)], NoAttrs())


def _leaky_relu(op: OpContext) -> None:
    op.expect(1)
    x = op.tensor(0)
    op.emit("LEAKY_RELU", [x], LeakyRelu(op.real("Alpha")), x.shape)


def _prelu(op: OpContext) -> None:
    op.expect(2)
    x, alpha = op.tensor(0), op.tensor(1)
    if alpha.qparams is not None and alpha.qparams.per_channel:
        raise Refused("alpha has a scale for each channel")
    if broadcast(op, x.shape, alpha.shape) != x.shape:
        raise op.wrong(f"alpha {alpha.shape} does not fit to {x.shape}")
    op.emit("PRELU", [x, alpha], NoAttrs(), x.shape)


# ---- the rest


def reduce(op: OpContext) -> None:
    op.expect(2)
    x = op.tensor(0)
    rank = len(x.shape)
    axes = sorted({op.axis(a, rank) for a in op.integers(1, "axes")})
    keep = bool(op.option("KeepDims"))
    shape = [1 if i in axes else d for i, d in enumerate(x.shape) if keep or i not in axes]
    y = op.result(shape)
    if op.record.name == "REDUCE_MAX" and x.qparams is not None:
        _same_range(op, x, y)
    op.add(op.record.name, [x], [y], Reduce(tuple(axes), keep))


def _resize(op: OpContext) -> None:
    op.expect(2)
    x = op.ranked(0, 4)
    size = op.integers(1, "size")
    attrs = Resize(bool(op.option("AlignCorners")), bool(op.option("HalfPixelCenters")))
    if op.record.name == "RESIZE_BILINEAR" and attrs.align_corners and attrs.half_pixel_centers:
        raise op.wrong("align_corners and half_pixel_centers exclude each other")
    if len(size) != 2 or min(size) < 1:
        raise op.wrong(f"size {size}")
    op.emit(op.record.name, [x], attrs, (x.shape[0], *size, x.shape[3]))


def _arg_max(op: OpContext) -> None:
    op.expect(2)
    x, axes = op.tensor(0), op.integers(1, "axis")
    if len(axes) != 1:
        raise op.wrong(f"axis {axes}")
    axis = op.axis(axes[0], len(x.shape))
    if op.output_record().type not in ("INT32", "INT64"):
        raise op.wrong(f"output of type {op.output_record().type}")
    op.emit("ARG_MAX", [x], Axis(axis), x.shape[:axis] + x.shape[axis + 1 :])


# From which type QUANTIZE leads to which.
_QUANTIZED = {
    "FLOAT32": ("INT8", "UINT8", "INT16"),
    "INT8": ("INT8", "UINT8", "INT16"),
    "UINT8": ("INT8", "UINT8"),
    "INT16": ("INT8", "INT16", "INT32"),
    "INT32": ("INT8", "INT16"),
}


def _quantize(op: OpContext) -> None:
    op.expect(1)
    x, record, y = op.tensor(0), op.input_record(0), op.output_record()
    if y.type not in _QUANTIZED.get(record.type, ()) or len(y.scales) != 1:
        raise Refused(f"from {record.type.lower()} to {y.type.lower()} is not supported")
    if record.type != "FLOAT32" and x.qparams is None:
        raise Refused(f"from {record.type.lower()} without a scale is not supported")
    for t in (record, y):
        if t.type == "INT32" and t.zero_points.any():
            raise Refused(f"{t.name!r} is int32 with a zero point")
    op.emit("QUANTIZE", [x], NoAttrs(), x.shape)


def _dequantize(op: OpContext) -> None:
    op.expect(1)
    x, record = op.tensor(0), op.input_record(0)
    if op.output_record().type != "FLOAT32":
        raise op.wrong(f"to {op.output_record().type}")
    if record.type == "FLOAT16":
        if not x.is_const:
            raise Refused("from float16 is not supported")
    elif record.type not in ("INT8", "UINT8", "INT16") or x.qparams is None:
        raise Refused(f"from {record.type.lower()} is not supported")
    if op.is_int8_constant(record):
        weights, y = op.builder.float_constant(record.index), op.result(x.shape)
        y.data, y.origin = weights.data, weights.origin
        return
    op.emit("DEQUANTIZE", [x], NoAttrs(), x.shape)


RULES: dict[str, Rule] = {
    "CONV_2D": Rule(_conv_2d, (0, 1), weights=1),
    "DEPTHWISE_CONV_2D": Rule(_depthwise_conv_2d, (0, 1), weights=1),
    "TRANSPOSE_CONV": Rule(_transpose_conv, (1, 2), weights=1),
    "FULLY_CONNECTED": Rule(_fully_connected, (0, 1), weights=1),
    "AVERAGE_POOL_2D": Rule(_pool),
    "MAX_POOL_2D": Rule(_pool),
    "ADD": Rule(arithmetic, (0, 1), also=WHOLE),
    "SUB": Rule(arithmetic, (0, 1), also=WHOLE),
    "MUL": Rule(arithmetic, (0, 1), also=WHOLE),
    "MAXIMUM": Rule(_maximum, (0, 1), also=WHOLE),
    "MINIMUM": Rule(_maximum, (0, 1), also=WHOLE),
    "LOGISTIC": Rule(_logistic),
    "TANH": Rule(_tanh),
    "RELU": Rule(_unary),
    "RELU6": Rule(_unary),
    "RELU_N1_TO_1": Rule(_unary),
    "HARD_SWISH": Rule(_unary),
    "LEAKY_RELU": Rule(_leaky_relu),
    "PRELU": Rule(_prelu, (0, 1)),
    "SOFTMAX": Rule(_softmax),
    "LOG_SOFTMAX": Rule(_log_softmax, int16=False),
    "MEAN": Rule(reduce),
    "SUM": Rule(reduce, also=WHOLE),
    "REDUCE_MAX": Rule(reduce, also=WHOLE),
    "RESIZE_BILINEAR": Rule(_resize),
    "RESIZE_NEAREST_NEIGHBOR": Rule(_resize),
    "ARG_MAX": Rule(_arg_max, types="in"),
    "QUANTIZE": Rule(_quantize, types="edge"),
    "DEQUANTIZE": Rule(_dequantize, types="edge"),
}
