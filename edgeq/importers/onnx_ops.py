# SPDX-License-Identifier: Apache-2.0
"""Handlers of ONNX operators that compute over windows, rows and axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..ir.graph import Array, Tensor
from ..ir.ops import (
    Conv2D,
    DepthwiseConv2D,
    FullyConnected,
    MatMul,
    Pad,
    Pool,
    TransposeConv,
)
from . import onnx_axes
from .onnx_context import OpContext
from .onnx_elementwise import activation
from .tflite_context import Refused

Handler = Callable[[OpContext], None]
Ints = tuple[int, ...]
_MAX_WEIGHTS = 2**26

# What has no place in a network of integers: why, and the way out.
REFUSED = {
    "LRN": "local response normalization is not supported; train with batch normalization instead",
    "Loop": "loops are not supported; unroll it in the export",
    "Scan": "loops are not supported; unroll it in the export",
    "DynamicQuantizeLinear": "it takes scales from each input as it comes; convert the float"
    " network instead, and calibrate it",
    "MatMulInteger": "it belongs to dynamic quantization; convert the float network instead",
    "ConvInteger": "it belongs to dynamic quantization; convert the float network instead",
    "com.microsoft:DynamicQuantizeLSTM": "it is quantized dynamically; convert the float network",
    "com.microsoft:DynamicQuantizeMatMul": "it is quantized dynamically; convert the float network",
    "com.microsoft:MatMulIntegerToFloat": "it is quantized dynamically; convert the float network",
}


# ---- windows


def windows(
    op: OpContext, sizes: Ints, kernel: Ints, stride: Ints, dilation: Ints
) -> tuple[list[tuple[int, int]], Ints]:
    """Padding (before, after) and output size of each spatial axis."""
    rank = len(sizes)
    auto = op.attr_str("auto_pad", "NOTSET")
    given = op.attr_ints("pads", (0,) * (2 * rank))
    if given is None or len(given) != 2 * rank or min(given) < 0:
        raise op.wrong(f"pads {given}")
    ceil = op.attr_int("ceil_mode", 0)
    pads, out = [], []
    for i in range(rank):
        extent = (kernel[i] - 1) * dilation[i] + 1
        before, after = given[i], given[rank + i]
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            n = -(-sizes[i] // stride[i])
            total = max(0, (n - 1) * stride[i] + extent - sizes[i])
            before = total // 2 if auto == "SAME_UPPER" else total - total // 2
            after = total - before
        elif auto == "VALID":
            before = after = 0
        elif auto != "NOTSET":
            raise op.wrong(f"auto_pad {auto!r}")
        span = sizes[i] + before + after - extent
        if span < 0:
            raise op.wrong(f"a window of {extent} does not fit into {sizes[i]}")
        n = span // stride[i] + 1
        if ceil and auto == "NOTSET" and span % stride[i]:
            n += n * stride[i] < sizes[i] + before  # not a window that starts in the padding
        pads.append((before, after))
        out.append(n)
    return pads, tuple(out)


def _spatial(op: OpContext, name: str, rank: int) -> Ints:
    values = op.attr_ints(name, (1,) * rank)
    if values is None or len(values) != rank or not all(1 <= v <= 65535 for v in values):
        raise op.wrong(f"attribute {name} is {values}")
    return values


def two(values: Sequence[int], fill: int) -> tuple[int, int]:
    """Values of one or two spatial axes as those of two: a line is a picture one pixel high."""
    a, b = values if len(values) == 2 else (fill, *values)
    return a, b


def _conv(op: OpContext) -> None:
    op.finish(conv(op, op.real(0), weights(op, 1), _bias(op, 2)))


def conv(op: OpContext, x: Tensor, w: Tensor, bias: Tensor | None, fused: str = "NONE") -> Tensor:
    """Conv of x (N, C, ...) by w (O, C / group, ...), in ONNX's layout."""
    rank = len(x.shape)
    if rank not in (3, 4) or len(w.shape) != rank:
        raise Refused(
            f"x has shape {x.shape}, weights {w.shape}; one and two spatial dimensions are possible"
        )
    groups = op.attr_int("group", 1)
    channels, outputs, kernel = x.shape[1], w.shape[0], w.shape[2:]
    if groups < 1 or channels != w.shape[1] * groups or outputs % groups:
        raise op.wrong(f"weights {w.shape} in {groups} groups for {channels} channels")
    if tuple(op.attr_ints("kernel_shape", kernel) or ()) != kernel:
        raise op.wrong(f"kernel_shape for weights {w.shape}")
    stride, dilation = _spatial(op, "strides", rank - 2), _spatial(op, "dilations", rank - 2)
    pads, size = windows(op, x.shape[2:], kernel, stride, dilation)
    top, left = two([p[0] for p in pads], 0)
    if rank == 3:
        w = op.reshape(w, (*w.shape[:2], 1, w.shape[2]))
    strides, dilations, (height, width) = two(stride, 1), two(dilation, 1), two(size, 1)
    last = op.to_last(x)
    shape = (x.shape[0], height, width, outputs)
    if groups == channels and groups > 1:
        attrs: DepthwiseConv2D | Conv2D = DepthwiseConv2D(
            strides, dilations, top, left, outputs // groups, fused
        )
        w = op.transpose(w, (1, 2, 3, 0))
        name = "DEPTHWISE_CONV_2D"
    else:
        attrs = Conv2D(strides, dilations, top, left, groups, fused)
        w = op.transpose(w, (0, 2, 3, 1))
        name = "CONV_2D"
    y = op.add_weighted(name, last, w, bias, attrs, shape)
    return op.to_first(y, rank)


def weights(op: OpContext, i: int) -> Tensor:
    w = op.real(i)
    if w.data is None:
        raise Refused("its weights are not constant")
    return w


def _bias(op: OpContext, i: int) -> Tensor | None:
    if not op.has(i):
        return None
    bias = op.real(i)
    if bias.data is None:
        raise Refused("its bias is not constant")
    return bias


def _conv_transpose(op: OpContext) -> None:
    """Weights (C, O / group, ...); groups become zeros in weights for all channels."""
    x, w, bias = op.real(0), weights(op, 1), _bias(op, 2)
    rank = len(x.shape)
    if rank not in (3, 4) or len(w.shape) != rank:
        raise Refused(
            f"x has shape {x.shape}, weights {w.shape}; one and two spatial dimensions are possible"
        )
    if rank == 3:
        w = op.reshape(w, (*w.shape[:2], 1, w.shape[2]))
    groups = op.attr_int("group", 1)
    if groups < 1 or w.shape[0] != x.shape[1] or w.shape[0] % groups:
        raise op.wrong(f"weights {w.shape} in {groups} groups for {x.shape[1]} channels")
    spatial = rank - 2
    stride, dilation = _spatial(op, "strides", spatial), _spatial(op, "dilations", spatial)
    w = op.rebuilt(
        w, lambda a, zero: _dense(a, zero, groups, two(dilation, 1)), 1 if groups == 1 else None
    )
    pads, size = _transposed_windows(op, x.shape[2:], w.shape[4 - spatial :], stride)
    top, left = two([p[0] for p in pads], 0)
    attrs = TransposeConv(two(stride, 1), top, left)
    last = op.to_last(x)
    shape = (x.shape[0], *two(size, 1), w.shape[1])
    w = op.transpose(w, (1, 2, 3, 0))
    op.finish(op.to_first(op.add_weighted("TRANSPOSE_CONV", last, w, bias, attrs, shape), rank))


def _dense(w: Array, zero: int, groups: int, dilation: tuple[int, int]) -> Array:
    """(C, O / groups, KH, KW) as (C, O, KH', KW') without groups and dilation."""
    c, o, kh, kw = w.shape
    kh, kw = (kh - 1) * dilation[0] + 1, (kw - 1) * dilation[1] + 1
    if c * o * groups * kh * kw > _MAX_WEIGHTS:
        raise Refused(f"weights {w.shape} in {groups} groups are too large without groups")
    full = np.full((c, o * groups, kh, kw), zero, w.dtype)
    each = c // groups
    for g in range(groups):
        rows, columns = slice(g * each, (g + 1) * each), slice(g * o, (g + 1) * o)
        full[rows, columns, :: dilation[0], :: dilation[1]] = w[rows]
    return full


def _transposed_windows(
    op: OpContext, sizes: Ints, kernel: Ints, stride: Ints
) -> tuple[list[tuple[int, int]], Ints]:
    rank = len(sizes)
    extra = op.attr_ints("output_padding", (0,) * rank) or (0,) * rank
    given = op.attr_ints("pads", (0,) * (2 * rank)) or (0,) * (2 * rank)
    auto = op.attr_str("auto_pad", "NOTSET")
    wanted = op.attr_ints("output_shape")
    wanted = None if wanted is None else wanted[-rank:]
    if len(extra) != rank or len(given) != 2 * rank or min(extra) < 0:
        raise op.wrong(f"pads {given}, output_padding {extra}")
    pads, out = [], []
    for i in range(rank):
        whole = (sizes[i] - 1) * stride[i] + kernel[i] + extra[i]
        before, after = given[i], given[rank + i]
        if auto == "VALID":
            before = after = 0
        if wanted is not None or auto.startswith("SAME"):
            n = sizes[i] * stride[i] if wanted is None else wanted[i]
            total = max(0, whole - n)
            before = total // 2 if auto == "SAME_UPPER" else total - total // 2
            after = total - before
            n = whole - total
        else:
            n = whole - before - after
        if n < 1 or min(before, after) < 0:
            raise op.wrong(f"pads {given} for an output of {n}")
        pads.append((before, after))
        out.append(n)
    return pads, tuple(out)


def _fused_conv(op: OpContext) -> None:
    """com.microsoft's Conv with an activation; a fourth input is added before it."""
    kind = op.attr_str("activation", "")
    params = [float(v) for v in op.record.attrs.get("activation_params") or []]
    fused = {"Relu": "RELU"}.get(kind, "NONE") if not op.has(3) else "NONE"
    if kind == "Clip" and params == [0.0, 6.0] and not op.has(3):
        fused = "RELU6"
    y = conv(op, op.real(0), weights(op, 1), _bias(op, 2), fused)
    if op.has(3):
        y = op.binary("ADD", y, op.real(3))
    op.finish(activation(op, y, kind, params) if kind and fused == "NONE" else y)


# ---- pools


def _pool(op: OpContext) -> None:
    if op.record.op == "MaxPool":
        op.finish(pool(op, op.tensor(0), "MAX_POOL_2D"))
    else:
        op.finish(pool(op, op.real(0), "AVERAGE_POOL_2D"))


def pool(op: OpContext, x: Tensor, name: str) -> Tensor:
    rank = len(x.shape)
    if rank not in (3, 4):
        raise Refused(f"x has shape {x.shape}; one and two spatial dimensions are supported")
    kernel = op.attr_ints("kernel_shape")
    if kernel is None or len(kernel) != rank - 2 or min(kernel) < 1:
        raise op.wrong(f"kernel_shape {kernel}")
    stride, dilation = _spatial(op, "strides", rank - 2), _spatial(op, "dilations", rank - 2)
    if any(d != 1 and k != 1 for d, k in zip(dilation, kernel)):
        raise Refused(f"dilations of {dilation} are not supported in pools")
    pads, size = windows(op, x.shape[2:], kernel, stride, (1,) * (rank - 2))
    last = op.to_last(x)
    top, left = two([p[0] for p in pads], 0)
    if name == "AVERAGE_POOL_2D" and op.attr_int("count_include_pad", 0):
        bottom, right = two([p[1] for p in pads], 0)
        if any((top, left, bottom, right)):
            before, after = (0, top, left, 0), (0, bottom, right, 0)
            shape = [d + b + a for d, b, a in zip(last.shape, before, after)]
            last = op.add("PAD", [last], Pad(before, after), shape)
            top = left = 0
    attrs = Pool(two(kernel, 1), two(stride, 1), top, left)
    y = op.add(name, [last], attrs, (x.shape[0], *two(size, 1), x.shape[1]))
    return op.to_first(y, rank)


def _global_pool(op: OpContext) -> None:
    x = op.real(0)
    if len(x.shape) < 3:
        raise op.wrong(f"of shape {x.shape}")
    name = "MEAN" if op.record.op == "GlobalAveragePool" else "REDUCE_MAX"
    op.finish(onnx_axes.reduce(op, name, x, range(2, len(x.shape)), True))


# ---- rows


def _gemm(op: OpContext) -> None:
    c = op.real(2) if op.has(2) else None
    alpha, beta = op.attr_float("alpha", 1.0), op.attr_float("beta", 1.0)
    op.finish(gemm(op, op.real(0), op.real(1), c, alpha, beta))


def gemm(
    op: OpContext, a: Tensor, b: Tensor, c: Tensor | None, alpha: float, beta: float
) -> Tensor:
    """alpha * a * b + beta * c; transA and transB are attributes."""
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise op.wrong(f"of {a.shape} and {b.shape}")
    if op.attr_int("transA", 0):
        a = op.transpose(a, (1, 0))
    if b.data is None:
        return _dynamic_gemm(op, a, b, c, alpha, beta)
    w = b if op.attr_int("transB", 0) else op.transpose(b, (1, 0))  # (N, K)
    if w.shape[1] != a.shape[1]:
        raise op.wrong(f"{a.shape} by {w.shape} transposed")
    w = op.scaled(w, alpha)
    shape = (a.shape[0], w.shape[0])
    bias = None
    row = c is not None and c.shape[-1:] in ((w.shape[0],), (1,), ())
    if row and c is not None and c.data is not None and c.elements in (1, w.shape[0]):
        bias = op.scaled(c, beta)
        if c.elements != w.shape[0]:
            bias = op.const(np.broadcast_to(_data(bias).reshape(1), (w.shape[0],)))
        bias, c = op.reshape(bias, (w.shape[0],)), None
    y = op.add_weighted("FULLY_CONNECTED", a, w, bias, FullyConnected(), shape)
    return y if c is None else op.binary("ADD", y, _times(op, c, beta))


def _data(t: Tensor) -> Array:
    assert t.data is not None
    return t.data


def _dynamic_gemm(
    op: OpContext, a: Tensor, b: Tensor, c: Tensor | None, alpha: float, beta: float
) -> Tensor:
    turned = bool(op.attr_int("transB", 0))
    depth, columns = b.shape[::-1] if turned else b.shape
    if depth != a.shape[1]:
        raise op.wrong(f"{a.shape} by {b.shape}")
    y = op.add("BATCH_MATMUL", [a, b], MatMul(False, turned), (a.shape[0], columns))
    y = _times(op, y, alpha)
    return y if c is None else op.binary("ADD", y, _times(op, c, beta))


def _times(op: OpContext, x: Tensor, factor: float) -> Tensor:
    return x if factor == 1 else op.binary("MUL", x, op.const(factor))


def _matmul(op: OpContext) -> None:
    op.finish(matmul(op, op.real(0), op.real(1)))


def matmul(op: OpContext, a: Tensor, b: Tensor, alpha: float = 1.0) -> Tensor:
    """numpy's matmul; by a constant matrix it is FULLY_CONNECTED."""
    if not a.shape or not b.shape:
        raise op.wrong(f"of {a.shape} and {b.shape}")
    x = a if len(a.shape) > 1 else op.reshape(a, (1, *a.shape))
    y = b if len(b.shape) > 1 else op.reshape(b, (*b.shape, 1))
    if x.shape[-1] != y.shape[-2]:
        raise op.wrong(f"of {a.shape} and {b.shape}")
    if y.data is not None and math.prod(y.shape[:-2]) == 1 and len(y.shape) <= len(x.shape):
        w = op.transpose(op.reshape(y, y.shape[-2:]), (1, 0))
        shape: Ints = (*x.shape[:-1], w.shape[0])
        z = op.add_weighted(
            "FULLY_CONNECTED", x, op.scaled(w, alpha), None, FullyConnected(), shape
        )
    else:
        shape = (*op.broadcast(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1])
        z = _times(op, op.add("BATCH_MATMUL", [x, y], MatMul(), shape, "float32"), alpha)
    if len(b.shape) == 1:
        shape = shape[:-1]
    if len(a.shape) == 1:
        shape = (*shape[:-2], *shape[-1:]) if len(b.shape) > 1 else shape[:-1]
    return op.reshape(z, shape)


def _fused_matmul(op: OpContext) -> None:
    """com.microsoft's MatMul with transposes and a factor."""
    a, b = op.real(0), op.real(1)
    if op.attr_int("transBatchA", 0) or op.attr_int("transBatchB", 0):
        raise Refused("batches that are transposed are not supported")
    turned = [
        op.transpose(t, (*range(len(t.shape) - 2), len(t.shape) - 1, len(t.shape) - 2))
        if op.attr_int(name, 0) and len(t.shape) > 1
        else t
        for t, name in ((a, "transA"), (b, "transB"))
    ]
    op.finish(matmul(op, turned[0], turned[1], op.attr_float("alpha", 1.0)))


RULES: dict[str, Handler] = {
    "Conv": _conv,
    "com.microsoft:FusedConv": _fused_conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "com.microsoft:FusedMatMul": _fused_matmul,
}
