# SPDX-License-Identifier: Apache-2.0
"""Lowering of the ops that multiply and accumulate: convolutions and fully connected layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..format.spec import ARITH_R15, ARITH_R22, ARITH_R31, WIDE_LIMIT
from ..ir.graph import Array, Node, QParams, Tensor
from ..ir.ops import Conv2D, DepthwiseConv2D, FullyConnected, TransposeConv
from .context import BYTE_OR_WORD, Lowering, Refused, Rule, describe, from_uint8, quantized
from .multiplier import (
    INT32_MAX,
    LIMITS,
    Float64s,
    Int8s,
    Int32s,
    Int64s,
    RangeError,
    activation_range,
    bias_correction_r15,
    conv_multipliers,
    product_multiplier,
    quantize_multipliers,
    quantize_multipliers_r15,
    quantize_multipliers_r22,
    reduce_multipliers,
)

_MAX_TAPS = 1 << 16
_MAX_STEP = 2**16 - 1


def conv_2d(ctx: Lowering, node: Node) -> None:
    a: Conv2D = node.attrs
    _run(
        ctx,
        node,
        axis=0,
        activation=a.activation,
        **_window(a.stride, a.dilation, a.pad_top, a.pad_left),
        groups=a.groups,
    )


def depthwise_conv_2d(ctx: Lowering, node: Node) -> None:
    a: DepthwiseConv2D = node.attrs
    _run(
        ctx,
        node,
        axis=3,
        activation=a.activation,
        **_window(a.stride, a.dilation, a.pad_top, a.pad_left),
        depth_multiplier=a.multiplier,
    )


def transpose_conv(ctx: Lowering, node: Node) -> None:
    a: TransposeConv = node.attrs
    window = _window(a.stride, (1, 1), a.pad_top, a.pad_left)
    _run(ctx, node, axis=0, activation=a.activation, **window)


def fully_connected(ctx: Lowering, node: Node) -> None:
    a: FullyConnected = node.attrs
    _run(ctx, node, axis=0, activation=a.activation, **_window((1, 1), (1, 1), 0, 0))


def _window(
    stride: tuple[int, int], dilation: tuple[int, int], pad_top: int, pad_left: int
) -> dict[str, int]:
    if not all(1 <= n <= _MAX_STEP for n in (*stride, *dilation)):
        raise Refused(f"strides {stride} and dilations {dilation} must be 1 ... {_MAX_STEP}")
    return {
        "stride_h": stride[0],
        "stride_w": stride[1],
        "dilation_h": dilation[0],
        "dilation_w": dilation[1],
        "pad_top": pad_top,
        "pad_left": pad_left,
    }


def _run(ctx: Lowering, node: Node, axis: int, activation: str, **window: int) -> None:
    """`axis` is that of the output channels in the weights."""
    x, w, y = node.input(0), node.input(1), node.output
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    qx, qy = quantized(x, *BYTE_OR_WORD), quantized(y, *BYTE_OR_WORD)
    wide = "int16" in (x.dtype, y.dtype)
    data, qw = _weights(w, axis)
    if len(w.shape) == 4 and w.shape[1] * w.shape[2] > _MAX_TAPS:
        raise Refused(f"a window of {w.shape[1]} x {w.shape[2]} is too large", w)
    w_zero = _weight_zero(node, w, qw)
    if wide and w_zero != 0:
        raise Refused(f"zero point {w_zero} of the weights; with int16 activations it must be 0", w)
    terms = _bias(bias, w.shape[axis], wide)
    rows = np.moveaxis(data, axis, 0).reshape(w.shape[axis], -1)
    bounds = accumulator_bounds(rows, terms, qx.zero_point, w_zero, x.dtype)
    _prove_accumulator(bounds, WIDE_LIMIT if wide else INT32_MAX)
    reals = _real_multipliers(node, qx, qw, qy)
    if wide:
        scaling = _scaling_wide(ctx, node, reals, terms, bounds)
    else:
        scaling = _scaling(ctx, node, reals, terms, bounds)
    low, high = activation_range(activation, qy.scale, qy.zero_point, y.dtype)
    params: dict[str, Any] = {"groups": 1, "depth_multiplier": 1} | window
    params |= {"x_zero": qx.zero_point, "w_zero": w_zero, "y_zero": qy.zero_point}
    params |= {"act_min": low, "act_max": high, **scaling}
    ctx.run(node, node.op, x, w, **params)


def _scaling(
    ctx: Lowering, node: Node, reals: Float64s, bias: Array | None, bounds: Int64s
) -> dict[str, Any]:
    """Bias, multipliers, exponents: R15 where that is asked for and possible, else R31."""
    if ctx.arithmetic == "native":
        try:
            return _scaling_r15(reals, bias, bounds)
        except RangeError as reason:
            ctx.notes.append(f"{describe(node)} keeps R31: {reason}")
    m, e = quantize_multipliers(reals)
    return _pairs(m, e) | {"bias": bias, "arithmetic": ARITH_R31, "fraction": 0}


def _scaling_r15(reals: Float64s, bias: Array | None, bounds: Int64s) -> dict[str, Any]:
    """RangeError if a multiplier is 1 or more, or an accumulator too large for the rounding."""
    reals = np.broadcast_to(reals, bounds.shape)
    if (reals != reals[0]).any():
        reals = np.where(bounds * reals < 0.5, 0.0, reals)  # the output is the zero point anyway
    m, e, fraction = quantize_multipliers_r15(reals)
    correction = bias_correction_r15(m, e, fraction)
    half = np.int64(1) << -e.astype(np.int64) >> 1
    if (bounds + correction + half > INT32_MAX).any():
        raise RangeError("an accumulator can come too close to 2^31")
    if correction.any():
        bias = ((0 if bias is None else bias.astype(np.int64)) - correction).astype(np.int32)
    return _pairs(m, e) | {"bias": bias, "arithmetic": ARITH_R15, "fraction": fraction}


def _scaling_wide(
    ctx: Lowering, node: Node, reals: Float64s, bias: Array | None, bounds: Int64s
) -> dict[str, Any]:
    """Of a layer with an int16 input or output.

    The reference knows int16 on both sides only: R22 with multipliers of 15 bits; R31 where the
    bias is int32, or where layers other than depthwise ones have none. All others, native
    arithmetic, and accumulators that leave the 32 bits of R31 have R22 with up to 22 bits.
    """
    reference = ctx.arithmetic == "exact" and node.input(0).dtype == node.output.dtype
    given = node.inputs[2] if len(node.inputs) > 2 else None
    short = node.op != "DEPTHWISE_CONV_2D" if given is None else given.dtype == "int32"
    if reference and short and bounds.max() <= INT32_MAX:
        small = None if bias is None else bias.astype(np.int32)
        m, e = quantize_multipliers(reals)
        return _pairs(m, e) | {"bias": small, "arithmetic": ARITH_R31, "fraction": 0}
    if reference and short:
        ctx.notes.append(f"{describe(node)} has R22: its accumulators can leave 32 bits")
    reals = np.broadcast_to(reals, bounds.shape)
    if reference and not short:
        m, e = reduce_multipliers(*quantize_multipliers(reals))
    else:
        m, e = quantize_multipliers_r22(reals, bounds)
    over = [n for n in range(len(m)) if int(bounds[n]) * int(m[n]) >= 2**62]
    if over:
        raise Refused(f"the accumulator of output channel {over[0]} can reach {bounds[over[0]]}")
    return _pairs(m, e) | {"bias": bias, "arithmetic": ARITH_R22, "fraction": 0}


def _pairs(m: Int32s, e: Int8s) -> dict[str, Any]:
    """One multiplier where all channels have the same."""
    if len(set(zip(m.tolist(), e.tolist()))) == 1:
        m, e = m[:1], e[:1]
    return {"multiplier": m, "exponent": e, "requant_count": len(m)}


def _weights(w: Tensor, axis: int) -> tuple[Array, QParams]:
    if w.data is None:
        raise Refused("weights must be constant", w)
    if w.dtype != "int8":
        raise Refused(f"weights of type {w.dtype} are not supported, int8 is needed", w)
    q = w.qparams
    if q is None:
        raise Refused("weights are not quantized", w)
    if q.per_channel and (q.axis != axis or len(q.scales) != w.shape[axis]):
        raise Refused(f"{len(q.scales)} scales along axis {q.axis} of {w.shape}", w)
    if not (np.isfinite(q.scales).all() and (q.scales >= 0).all()):
        raise Refused("a scale is not a positive number", w)
    return w.data, q


def _weight_zero(node: Node, w: Tensor, q: QParams) -> int:
    """The zero point that the reference applies to the weights.

    Its int8 kernels take one in fully connected layers with one scale only. CONV_2D insists on 0,
    the others ignore what the file says.
    """
    if not from_uint8(node):
        if node.op in ("DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"):
            return 0
        if node.op == "FULLY_CONNECTED" and q.per_channel:
            return 0
    zeros = set(q.zero_points.tolist())
    if len(zeros) != 1:
        raise Refused("the weights' zero points differ from channel to channel", w)
    zero = int(zeros.pop())
    if not -128 <= zero <= 127:
        raise Refused(f"zero point {zero} of the weights is out of range", w)
    return zero


def _bias(bias: Tensor | None, channels: int, wide: bool) -> Array | None:
    """int32; of layers with an int16 input or output int64, which an int32 one becomes."""
    if bias is None:
        return None
    if bias.data is None:
        raise Refused("the bias must be constant", bias)
    if bias.dtype != "int32" and not (wide and bias.dtype == "int64"):
        needed = "int64 or int32" if wide else "int32"
        raise Refused(f"a bias of type {bias.dtype} is not supported, {needed} is needed", bias)
    if bias.elements != channels:
        raise Refused(f"{bias.elements} biases for {channels} channels", bias)
    if bias.data.min() < -WIDE_LIMIT or bias.data.max() > WIDE_LIMIT:
        raise Refused("a bias of 2^47 or more", bias)
    return np.ascontiguousarray(bias.data, np.int64 if wide else np.int32).reshape(channels)


def _real_multipliers(node: Node, x: QParams, w: QParams, y: QParams) -> Float64s:
    one = not w.per_channel and (from_uint8(node) or node.op == "FULLY_CONNECTED")
    if one:
        return np.array([product_multiplier(x.scale, w.scale, y.scale)])
    return conv_multipliers(x.scale, w.scales, y.scale)


def accumulator_bounds(
    weights: Array, bias: Array | None, x_zero: int, w_zero: int, x_dtype: str = "int8"
) -> Int64s:
    """The largest |bias + sum of (x - x_zero) * (w - w_zero)| of each channel over every input.

    `weights` is (channels, taps). No order of summation and no padding, which leaves terms out,
    exceeds it either.
    """
    low, high = LIMITS[x_dtype]
    x_max = max(high - x_zero, x_zero - low)
    bounds: Int64s = np.abs(weights.astype(np.int64) - w_zero).sum(axis=1) * x_max
    return bounds if bias is None else bounds + np.abs(bias.astype(np.int64))


def _prove_accumulator(bounds: Int64s, limit: int) -> None:
    worst = int(bounds.argmax())
    if bounds[worst] > limit:
        raise Refused(
            f"the accumulator of output channel {worst} can reach {bounds[worst]}, "
            f"the limit is {limit}"
        )


RULES: dict[str, Rule] = {
    "CONV_2D": conv_2d,
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "TRANSPOSE_CONV": transpose_conv,
    "FULLY_CONNECTED": fully_connected,
}
