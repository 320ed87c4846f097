# SPDX-License-Identifier: Apache-2.0
"""Weights as integers: a scale for each output channel, rounding that compensates its errors
within a window, and a bias that takes up what is left on average."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np

from ..ir.graph import Array, Node
from .observe import Float64s, Moments

_BLOCK = 64
DAMPING = 0.01
_BIAS_LIMITS = {8: 2.0**30, 16: 2.0**45}  # of inputs of 8 and 16 bits


@dataclass(frozen=True)
class LayerWeights:
    """`data` as in the graph, `scales` (O,), `bias` (O,) float64 or None."""

    data: Array
    scales: Array
    bias: Float64s | None


def channel_rows(node: Node, w: Array) -> Float64s:
    """(O, K): the weights of each output channel."""
    if node.op == "DEPTHWISE_CONV_2D":
        return np.asarray(w, np.float64).transpose(3, 0, 1, 2).reshape(w.shape[3], -1)
    return np.asarray(w, np.float64).reshape(w.shape[0], -1)


def from_rows(node: Node, rows: Array) -> Array:
    shape = node.input(1).shape
    if node.op == "DEPTHWISE_CONV_2D":
        return np.ascontiguousarray(
            rows.reshape(shape[3], shape[0], shape[1], shape[2]).transpose(1, 2, 3, 0)
        )
    return rows.reshape(shape)


def quantize_weights(
    node: Node,
    moments: Moments | None,
    input_scale: float,
    input_bits: int = 8,
    *,
    compensate: bool = True,
    correct: bool = True,
    sweeps: int = 0,
) -> LayerWeights:
    """int8 weights in [-127, 127] of a layer.

    `compensate`: rounding after GPTQ (Frantar et al., 2022), by the covariance of the windows, else
    to nearest. `sweeps`: over all weights, that move those by a step that make the layer's output
    error smaller, given all others. `correct`: bias += (W - Wq) E[x] (Nagel et al., 2019).
    `input_scale` and `input_bits` keep the bias in reach of the accumulator.
    """
    w = node.input(1).data
    assert w is not None
    rows = channel_rows(node, w)
    bias = _bias(node)
    largest = np.maximum(np.abs(rows).max(1), _least(bias, input_scale, input_bits))
    scales = np.maximum(largest / 127, 1e-12).astype(np.float32)
    steps: Float64s = rows / scales.astype(np.float64)[:, None]
    covariance = moments.covariance() if moments is not None and compensate else None
    if covariance is None or node.op == "TRANSPOSE_CONV":
        integers: Float64s = np.clip(np.round(steps), -127, 127)
    elif node.op == "DEPTHWISE_CONV_2D":
        covariance = np.repeat(covariance, node.attrs.multiplier, axis=0)
        integers = _compensate_each(steps, covariance)
        for _ in range(sweeps):
            _sweep_each(steps, integers, covariance)
    else:
        integers = _compensate(steps, covariance)
        for _ in range(sweeps):
            _sweep(steps, integers, covariance)
    if correct and moments is not None and moments.count:
        error = rows - integers * scales.astype(np.float64)[:, None]
        mean = moments.mean
        if node.op == "DEPTHWISE_CONV_2D":
            shift = (error * np.repeat(mean, node.attrs.multiplier, axis=0)).sum(1)
        elif node.op == "TRANSPOSE_CONV":
            shift = _transposed_shift(node, error, mean)
        else:
            shift = error @ mean
        bias = shift if bias is None else bias + shift
    return LayerWeights(from_rows(node, integers.astype(np.int8)), scales, bias)


def _bias(node: Node) -> Float64s | None:
    t = node.inputs[2] if len(node.inputs) > 2 else None
    return None if t is None or t.data is None else np.asarray(t.data, np.float64).reshape(-1)


def bias_binds(node: Node, input_scale: float, input_bits: int) -> bool:
    """Whether the bias asks for larger scales than the weights do: only then does it matter what
    the input's scale is."""
    w = node.input(1).data
    assert w is not None
    largest = np.abs(channel_rows(node, w)).max(1)
    return bool((_least(_bias(node), input_scale, input_bits) > largest).any())


def _least(bias: Float64s | None, input_scale: float, input_bits: int) -> Float64s:
    """|bias| / (input_scale * scale) must stay below the limit: 127 of the scale at least."""
    if bias is None:
        return np.zeros(1, np.float64)
    return np.asarray(127 * np.abs(bias) / (input_scale * _BIAS_LIMITS[input_bits]))


def _transposed_shift(node: Node, error: Float64s, mean: Float64s) -> Float64s:
    """An output pixel of a transposed convolution meets taps / (stride_h * stride_w) of them."""
    o, kh, kw, c = node.input(1).shape
    a = node.attrs
    per_tap = error.reshape(o, kh * kw, c) @ mean
    return np.asarray(per_tap.sum(1) / (a.stride[0] * a.stride[1]))


def _damped(covariance: Float64s, damping: float = DAMPING) -> Float64s:
    diagonal = np.einsum("...ii->...i", covariance)
    added = damping * diagonal.mean(-1, keepdims=True) + 1e-12
    size = covariance.shape[-1]
    return np.asarray(covariance + added[..., None] * np.eye(size))


def _factor(covariance: Float64s) -> Float64s | None:
    """The upper triangle U with U' U = the inverse of the damped covariance.

    Of inputs that depend on each other, rounding can leave a matrix that is not positive: more
    damping then, and None where that does not help either.
    """
    for damping in (DAMPING, 0.1, 1.0):
        with contextlib.suppress(np.linalg.LinAlgError):
            inverse = np.linalg.inv(_damped(covariance, damping))
            upper = np.swapaxes(np.linalg.cholesky(inverse), -1, -2)
            if np.isfinite(upper).all():
                return np.asarray(upper)
    return None


def _factor_each(covariance: Float64s) -> Float64s:
    """The same for many small matrices at once; the identity where one is not positive.

    numpy's own routines call LAPACK for each of them, whose threads cost more than the work. The
    triangle is the inverse of the Cholesky factor of the matrix read backwards, read backwards.
    """
    h = _damped(covariance)[:, ::-1, ::-1]
    size = h.shape[-1]
    factor, inverse = np.zeros_like(h), np.zeros_like(h)
    with np.errstate(all="ignore"):
        for j in range(size):
            known = factor[:, j, :j]
            pivot = np.sqrt(h[:, j, j] - (known**2).sum(1))
            rest = np.einsum("nik,nk->ni", factor[:, j + 1 :, :j], known)
            factor[:, j, j] = pivot
            factor[:, j + 1 :, j] = (h[:, j + 1 :, j] - rest) / pivot[:, None]
            inverse[:, j, j] = 1 / pivot
            product = np.einsum("nk,nki->ni", known, inverse[:, :j, :j])
            inverse[:, j, :j] = -product / pivot[:, None]
    good = np.isfinite(inverse).all((1, 2))[:, None, None]
    return np.where(good, inverse[:, ::-1, ::-1], np.eye(size))


def _compensate(steps: Float64s, covariance: Float64s) -> Float64s:
    """Rounds the columns of (O, K) one after the other, those of large inputs first; what a column
    loses, the later ones make up for."""
    order = np.argsort(-np.diag(covariance), kind="stable")
    upper = _factor(covariance[np.ix_(order, order)])
    if upper is None:
        return np.clip(np.round(steps), -127, 127)
    w = steps[:, order].copy()
    q = np.empty_like(w)
    for start in range(0, w.shape[1], _BLOCK):
        end = min(start + _BLOCK, w.shape[1])
        block, errors = w[:, start:end], np.empty((len(w), end - start))
        for j in range(end - start):
            k = start + j
            q[:, k] = np.clip(np.round(block[:, j]), -127, 127)
            errors[:, j] = (block[:, j] - q[:, k]) / upper[k, k]
            block[:, j + 1 :] -= errors[:, j, None] * upper[k, k + 1 : end]
        w[:, end:] -= errors @ upper[start:end, end:]
    result = np.empty_like(q)
    result[:, order] = q
    return result


def _compensate_each(steps: Float64s, covariance: Float64s) -> Float64s:
    """The same for (O, K) with a covariance of its own for each row, (O, K, K)."""
    w, q = steps.copy(), np.empty_like(steps)
    upper = _factor_each(covariance)
    for j in range(w.shape[1]):
        q[:, j] = np.clip(np.round(w[:, j]), -127, 127)
        error = (w[:, j] - q[:, j]) / upper[:, j, j]
        w[:, j + 1 :] -= error[:, None] * upper[:, j, j + 1 :]
    return q


def _sweep(steps: Float64s, q: Float64s, covariance: Float64s) -> None:
    """Coordinate descent on sum over rows of (q - w) H (q - w)', in steps of one."""
    h = _damped(covariance)
    gradient = (q - steps) @ h
    for k in range(q.shape[1]):
        move = -np.sign(gradient[:, k]) * (2 * np.abs(gradient[:, k]) > h[k, k])
        move = np.clip(q[:, k] + move, -127, 127) - q[:, k]
        rows = np.flatnonzero(move)
        q[rows, k] += move[rows]
        gradient[rows] += move[rows, None] * h[k]


def _sweep_each(steps: Float64s, q: Float64s, covariance: Float64s) -> None:
    h = _damped(covariance)
    gradient = np.einsum("nk,nkj->nj", q - steps, h)
    for k in range(q.shape[1]):
        move = -np.sign(gradient[:, k]) * (2 * np.abs(gradient[:, k]) > h[:, k, k])
        move = np.clip(q[:, k] + move, -127, 127) - q[:, k]
        q[:, k] += move
        gradient += move[:, None] * h[:, k]
