# SPDX-License-Identifier: Apache-2.0
"""Cross-layer equalization (Nagel et al., "Data-free quantization through weight equalization and
bias correction", 2019), balanced between activations and weights as in SmoothQuant (Xiao et al.,
2023): a factor for each channel moves from a layer into the next one, and the scale that the
channels between them share fits each of them better."""

from __future__ import annotations

import numpy as np

from ..ir.graph import Array, Graph, Node, Tensor
from .observe import LAYERS, Float64s, Statistics

_LIMIT = 64.0  # of a factor, either way: rounding of weights must not become the problem
WORTH = 2.0  # how much larger the largest channel must be than the mean of all
_BALANCE = 0.5  # 1: channels of activations become equal, 0: those of the weights behind them


def equalize(graph: Graph, statistics: Statistics) -> Graph | None:
    """A copy of `graph` that computes the same, or None where no pair of layers gains.

    Pairs are layers of which the first one's output, with RELU at most, is read by the second only.
    """
    pairs = [(n, user) for n in graph.nodes if (user := _partner(graph, n)) is not None]
    data: dict[Tensor, Array] = {}
    spans = {t: _spans(statistics, t) for n, _ in pairs for t in n.outputs}
    changed = False
    for first, second in pairs:
        span = spans[first.output]
        if span is None or span.max() < WORTH * span.mean():
            continue
        factors = _factors(span, _input_weights(second, _data(data, second.input(1))))
        _scale(first, data, 1 / factors)
        _scale_inputs(second, data, factors)
        changed = True
    if not changed:
        return None
    equal = graph.copy()
    for old, new in zip(graph.tensors(), equal.tensors()):
        new.data = data.get(old, new.data)
    return equal


def _partner(graph: Graph, node: Node) -> Node | None:
    y = node.output
    if node.op not in LAYERS or node.attrs.activation not in ("NONE", "RELU") or y in graph.outputs:
        return None
    users = [n for n in graph.nodes if y in n.inputs]
    if len(users) != 1 or users[0].op not in LAYERS or users[0].inputs[0] is not y:
        return None
    user = users[0]
    constant = [t for n in (node, user) for t in n.inputs[1:] if t is not None]
    if not all(t.is_const for t in constant) or getattr(user.attrs, "groups", 1) != 1:
        return None
    shared = [t for t in constant if sum(t in n.inputs for n in graph.nodes) > 1]
    if shared or (user.op == "FULLY_CONNECTED" and user.input(1).shape[1] != y.shape[-1]):
        return None
    return user


def _spans(statistics: Statistics, t: Tensor) -> Float64s | None:
    o = statistics.tensors.get(t)
    if o is None or o.channel_low is None or o.channel_high is None:
        return None
    return np.maximum(np.abs(o.channel_low), np.abs(o.channel_high)).astype(np.float64)


def _data(data: dict[Tensor, Array], t: Tensor) -> Array:
    found = data.get(t, t.data)
    assert found is not None
    return found


def _input_weights(node: Node, w: Array) -> Float64s:
    """The largest weight that an input channel meets."""
    size = np.abs(np.asarray(w, np.float64))
    if node.op == "DEPTHWISE_CONV_2D":
        largest = size.max((0, 1, 2)).reshape(-1, node.attrs.multiplier).max(1)
    else:
        largest = size.reshape(-1, size.shape[-1]).max(0)
    return np.asarray(largest)


def _factors(span: Float64s, weights: Float64s) -> Float64s:
    """What activations are divided by and the weights behind them multiplied with; mean of 1."""
    known = (span > 0) & (weights > 0)
    factors = np.ones_like(span)
    factors[known] = span[known] ** _BALANCE / weights[known] ** (1 - _BALANCE)
    if known.any():
        factors[known] /= np.exp(np.log(factors[known]).mean())
    return np.clip(factors, 1 / _LIMIT, _LIMIT)


def _scale(node: Node, data: dict[Tensor, Array], factors: Float64s) -> None:
    """Multiplies the output channels of a layer."""
    w = node.input(1)
    shape = (1, 1, 1, -1) if node.op == "DEPTHWISE_CONV_2D" else (-1,) + (1,) * (len(w.shape) - 1)
    data[w] = (_data(data, w) * factors.reshape(shape)).astype(np.float32)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None:
        scaled = _data(data, bias).reshape(-1) * factors
        data[bias] = scaled.reshape(bias.shape).astype(np.float32)


def _scale_inputs(node: Node, data: dict[Tensor, Array], factors: Float64s) -> None:
    w = node.input(1)
    if node.op == "DEPTHWISE_CONV_2D":
        factors = np.repeat(factors, node.attrs.multiplier)
    data[w] = (_data(data, w) * factors).astype(np.float32)
