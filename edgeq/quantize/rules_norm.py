# SPDX-License-Identifier: Apache-2.0
"""Lowering of products of activations and of normalisation."""

from __future__ import annotations

import numpy as np

from ..ir.evaluate import dequantize
from ..ir.graph import Node, QParams, Tensor
from ..ir.ops import Norm
from .context import Lowering, Refused, Rule, quantized
from .multiplier import Float64s, Int32s, product_multiplier, quantize_multiplier, round_half_away

_MAX_NORM = 32768
_MAX_EPSILON = 2**61
_BETA_BITS = 12
_VARIANCE_BITS = 16
_LIMIT = 2**30


def batch_matmul(ctx: Lowering, node: Node) -> None:
    """x (..., M, K) and w (..., N, K): legalise() has put K last in both."""
    x, w = node.input(0), node.input(1)
    qx, qw, qy = quantized(x), quantized(w), quantized(node.output)
    m, e = quantize_multiplier(product_multiplier(qx.scale, qw.scale, qy.scale))
    zeros = {"x_zero": qx.zero_point, "w_zero": qw.zero_point, "y_zero": qy.zero_point}
    reach = x.shape[-1]
    for q in (qx, qw):
        reach *= max(127 - q.zero_point, q.zero_point + 128)
    if reach >= 2**31:
        raise Refused(f"a sum of {x.shape[-1]} products can exceed 32 bits", x)
    ctx.run(node, "BATCH_MATMUL", x, w, **zeros, m=m, e=e, act_min=-128, act_max=127)


def l2_normalization(ctx: Lowering, node: Node) -> None:
    x = node.input(0)
    qx, qy = quantized(x), quantized(node.output)
    if abs(float(qy.scale) - 1 / 128) > 1e-6 or qy.zero_point != 0:
        raise Refused("scale 1/128 and zero point 0 are needed", node.output)
    ctx.run(node, "L2_NORMALIZATION", x, x_zero=qx.zero_point)


def layer_norm(ctx: Lowering, node: Node) -> None:
    """Over the last axes; gamma and beta become multiples of the output's step."""
    a: Norm = node.attrs
    x = node.input(0)
    qx, qy = quantized(x), quantized(node.output)
    rank, axis = len(x.shape), min(a.axes, default=len(x.shape))
    if not a.axes or sorted(set(a.axes)) != list(range(axis, rank)):
        raise Refused(f"over the axes {a.axes} of {rank}: not the last ones")
    n = int(np.prod(x.shape[axis:]))
    if n > _MAX_NORM:
        raise Refused(f"over {n} elements, {_MAX_NORM} at most", x)
    epsilon = round(float(a.epsilon) * n * n / float(qx.scale) ** 2 * 2.0**_VARIANCE_BITS)
    if not 0 <= epsilon <= _MAX_EPSILON:
        raise Refused(f"epsilon {a.epsilon:g} is too large for the scale {qx.scale:g}", x)
    gamma, beta, per_row = _per_row_or_element(node, x, axis)
    fraction, factors = _factors(gamma / np.float64(qy.scale))
    offsets = beta / np.float64(qy.scale) + qy.zero_point
    steps = np.clip(round_half_away(offsets * 2.0**_BETA_BITS), -_LIMIT, _LIMIT)
    ctx.run(
        node,
        "LAYER_NORM",
        x,
        axis=axis,
        count=len(factors),
        fraction=fraction,
        per_row=int(per_row),
        centred=int(a.centred),
        x_zero=qx.zero_point,
        gamma=factors,
        beta=steps.astype(np.int32),
        epsilon=(epsilon & 0xFFFFFFFF, epsilon >> 32),
    )


def _factors(real: Float64s) -> tuple[int, Int32s]:
    """(fraction, factors): real = factors * 2^-fraction, the largest near 2^30."""
    largest = float(np.abs(real).max())
    if not largest <= _LIMIT:
        raise Refused(f"gamma is {largest:g} steps of the output")
    exponent = int(np.frexp(largest)[1]) if largest > 0 else 0
    fraction = min(30, 30 - exponent)
    return fraction, round_half_away(real * 2.0**fraction).astype(np.int32)


def _per_row_or_element(node: Node, x: Tensor, axis: int) -> tuple[Float64s, Float64s, bool]:
    """gamma and beta, one for each place in a row, or one for each row; and whether it is that."""
    rows = int(np.prod(x.shape[:axis]))
    found = [
        np.broadcast_to(_operand(node, i, default), x.shape).reshape(rows, -1)
        for i, default in ((1, 1.0), (2, 0.0))
    ]
    if all((a == a[:1]).all() for a in found):
        return _repeated([a[0] for a in found], False)
    if all((a == a[:, :1]).all() for a in found):
        return _repeated([a[:, 0] for a in found], True)
    raise Refused("gamma and beta change both along a row and from row to row")


def _repeated(arrays: list[Float64s], per_row: bool) -> tuple[Float64s, Float64s, bool]:
    """The first period of both."""
    length = len(arrays[0])
    for count in range(1, length + 1):
        if length % count == 0 and all((a.reshape(-1, count) == a[:count]).all() for a in arrays):
            break
    gamma, beta = (np.ascontiguousarray(a[:count]) for a in arrays)
    return gamma, beta, per_row


def _operand(node: Node, i: int, default: float) -> Float64s:
    t = node.inputs[i] if i < len(node.inputs) else None
    if t is None:
        return np.full((), default, np.float64)
    if t.data is None:
        raise Refused("gamma and beta must be constants", t)
    data = t.data
    if t.dtype == "int8":
        q: QParams = quantized(t)
        data = dequantize(data, q)
    wide: Float64s = np.asarray(data, np.float64)
    return wide


RULES: dict[str, Rule] = {
    "BATCH_MATMUL": batch_matmul,
    "LAYER_NORM": layer_norm,
    "L2_NORMALIZATION": l2_normalization,
}
