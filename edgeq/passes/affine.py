# SPDX-License-Identifier: Apache-2.0
"""Multiplications and additions of constants go into the weights and biases beside them.

That is what is left of a batch normalization: y = x * scale + shift, a number for each channel.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..ir.graph import Array, Graph, Node, QParams, Quantized, Tensor
from .fold import remove_dead

# Layer -> the axis of its weights that are the output's channels
LAYERS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0}
_READS_CHANNELS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def fold_affine(graph: Graph) -> Graph:
    """Behind a layer without activation that nobody else reads, then before layers."""
    producers, consumers, results = graph.producers(), graph.consumers(), graph.results()
    gone: set[Node] = set()
    for node in graph.nodes:
        found = _affine(node)
        if found is None:
            continue
        x, scale, shift = found
        layer = producers.get(x)
        if layer is None or x in results or consumers[x] != [node]:
            continue
        if _apply_behind(layer, scale, shift, node.attrs.activation):
            layer.outputs = [node.output]
            producers[node.output] = layer
            gone.add(node)
    graph.nodes = [n for n in graph.nodes if n not in gone]
    consumers = graph.consumers()
    for node in reversed(graph.nodes):
        found = _affine(node)
        if found is None or node.output in results or node.attrs.activation != "NONE":
            continue
        x, scale, shift = found
        readers = consumers.get(node.output, [])
        if not readers or not all(_takes(n, node.output, shift) for n in readers):
            continue
        operands = [_before(n, scale, shift) for n in readers]
        if all(w is not None for w, _ in operands):
            for n, (w, bias) in zip(readers, operands):
                n.inputs = [x, w, bias]
            consumers[x] = [*(n for n in consumers[x] if n is not node), *readers]
    remove_dead(graph)
    graph.verify()
    return graph


def _affine(node: Node) -> tuple[Tensor, Array, Array] | None:
    """x, scale and shift, float64 of one number or one for each of the last dimension."""
    if node.op not in ("ADD", "SUB", "MUL", "DIV") or node.output.dtype != "float32":
        return None
    a, b = node.input(0), node.input(1)
    first = a.is_const
    c, x = (a, b) if first else (b, a)
    if c.data is None or x.is_const or x.shape != node.output.shape or c.qparams or x.qparams:
        return None
    if c.elements not in (1, c.shape[-1] if c.shape else 1) or x.dtype != "float32":
        return None
    v, one, zero = c.data.astype(np.float64).reshape(-1), np.ones(1), np.zeros(1)
    if not np.isfinite(v).all():
        return None
    if node.op == "MUL":
        return x, v, zero
    if node.op == "ADD":
        return x, one, v
    if node.op == "SUB":
        return (x, -one, v) if first else (x, one, -v)
    return None if first or not v.all() else (x, 1 / v, zero)


def _bias(layer: Node) -> Tensor | None:
    return layer.inputs[2] if len(layer.inputs) > 2 else None


def _apply_behind(layer: Node, scale: Array, shift: Array, activation: str) -> bool:
    """activation(layer(x) * scale + shift) by other weights; False where that cannot be."""
    if layer.op not in LAYERS:
        return False
    if layer.attrs.activation == "RELU":  # max(x, 0) * scale is max(x * scale, 0)
        if not (scale > 0).all() or shift.any() or activation not in ("NONE", "RELU"):
            return False
        activation = "RELU"
    elif layer.attrs.activation != "NONE":
        return False
    w, bias, axis = layer.input(1), _bias(layer), LAYERS[layer.op]
    if w.data is None or w.dtype != "float32" or (bias is not None and bias.data is None):
        return False
    channels = w.shape[axis]
    s = np.broadcast_to(scale, channels)
    wide = [1] * len(w.shape)
    wide[axis] = channels
    old = np.zeros(channels) if bias is None or bias.data is None else bias.data.astype(np.float64)
    new = _scaled(w, s.reshape(wide), axis)
    if new is None:
        return False
    offset = old.reshape(-1) * s + shift
    layer.inputs = [layer.inputs[0], new, _offset(layer, bias, offset)]
    layer.attrs = replace(layer.attrs, activation=activation)
    return True


def _offset(layer: Node, like: Tensor | None, values: Array) -> Tensor | None:
    """A bias, or none where it is zero."""
    if not values.any():
        return None
    name = f"{layer.name}/bias" if like is None else like.name
    return Tensor(name, values.shape, "float32", data=values.astype(np.float32))


def _scaled(w: Tensor, factors: Array, axis: int) -> Tensor | None:
    """Weights times `factors`, which broadcast; None where they leave float32.

    The bytes that they come from stay what they are where only scales change: for factors above
    zero that differ along `axis` alone.
    """
    assert w.data is not None
    with np.errstate(over="ignore"):
        data = (w.data * factors).astype(np.float32)
    if not np.isfinite(data).all():
        return None
    origin = None
    if w.origin is not None and (factors > 0).all() and factors.size in (1, w.shape[axis]):
        q = w.origin.qparams
        if not q.per_channel or q.axis == axis:
            scales = (q.scales * factors.reshape(-1)).astype(np.float32)
            zeros = np.broadcast_to(q.zero_points, scales.shape).copy()
            whole = QParams(scales, zeros, axis if len(scales) > 1 else 0)
            if (scales > 0).all() and np.isfinite(scales).all():
                origin = Quantized(w.origin.data, whole)
    return Tensor(w.name, w.shape, "float32", data=data, origin=origin)


def _takes(layer: Node, x: Tensor, shift: Array) -> bool:
    """Whether x * scale + shift can be what its weights do."""
    if layer.op not in _READS_CHANNELS or layer.inputs[0] is not x or layer.inputs.count(x) != 1:
        return False
    w, bias = layer.input(1), _bias(layer)
    if w.data is None or w.dtype != "float32" or (bias is not None and bias.data is None):
        return False
    if layer.op == "FULLY_CONNECTED":
        return x.shape[-1:] == w.shape[-1:]
    return not shift.any() or not _has_padding(layer)


def _has_padding(conv: Node) -> bool:
    a = conv.attrs
    for i, before in enumerate((a.pad_top, a.pad_left)):
        extent = (conv.input(1).shape[1 + i] - 1) * a.dilation[i] + 1
        reach = (conv.output.shape[1 + i] - 1) * a.stride[i] + extent
        if before > 0 or reach > conv.input(0).shape[1 + i]:
            return True
    return False


def _before(layer: Node, scale: Array, shift: Array) -> tuple[Tensor | None, Tensor | None]:
    """Weights and bias that do to x what the layer's do to x * scale + shift; None for weights that
    would leave float32."""
    w, bias, axis = layer.input(1), _bias(layer), LAYERS[layer.op]
    assert w.data is not None
    channels = layer.input(0).shape[-1]
    rest = tuple(i for i in range(len(w.shape)) if i != axis)
    offset = (w.data * _by_weight(layer, shift, channels)).sum(rest)
    if bias is not None and bias.data is not None:
        offset = offset + bias.data.reshape(-1)
    new = _scaled(w, _by_weight(layer, scale, channels), axis)
    return new, _offset(layer, bias, offset)


def _by_weight(layer: Node, values: Array, channels: int) -> Array:
    """Numbers for the input's channels as they multiply the weights."""
    if len(values) == 1:
        return values.reshape([1] * len(layer.input(1).shape))
    if layer.op == "FULLY_CONNECTED":
        return values[None]
    if layer.op == "DEPTHWISE_CONV_2D":
        return np.repeat(values, layer.attrs.multiplier)[None, None, None]
    outputs, depth = layer.input(1).shape[0], layer.input(1).shape[3]
    of_group = values.reshape(channels // depth, depth)
    return np.repeat(of_group, outputs // (channels // depth), 0)[:, None, None, :]
