# SPDX-License-Identifier: Apache-2.0
"""PAD goes into the convolution behind it, RELU and its kin into the op before it."""

from __future__ import annotations

from dataclasses import replace

from ..ir.graph import Graph, Node, Tensor
from ..ir.ops import Conv2D, DepthwiseConv2D
from .clean import same_meaning
from .fold import remove_dead

_CLAMPING = (
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED",
    "TRANSPOSE_CONV",
    "ADD",
    "SUB",
    "MUL",
    "DIV",
    "AVERAGE_POOL_2D",
    "MAX_POOL_2D",
)
_RELUS = ("RELU", "RELU6", "RELU_N1_TO_1")
# Below it 6 / scale leaves int32, and what the reference does then is not defined.
_MIN_SCALE = 1e-6


Consumers = dict[Tensor, list[Node]]


def fuse(graph: Graph) -> Graph:
    consumers = graph.consumers()
    for node in reversed(graph.nodes):  # of two PADs in a row the second goes first
        if node.op == "PAD":
            _fuse_pad(graph, node, consumers)
    remove_dead(graph)
    producers, consumers = graph.producers(), graph.consumers()
    fused = {
        n for n in graph.nodes if n.op in _RELUS and _fuse_relu(graph, n, producers, consumers)
    }
    graph.nodes = [n for n in graph.nodes if n not in fused]
    graph.verify()
    return graph


def _fuse_pad(graph: Graph, pad: Node, consumers: Consumers) -> None:
    """Padding by the zero point, in float by 0, adds nothing to a sum, as a convolution's own."""
    x, y, a = pad.input(0), pad.output, pad.attrs
    if len(x.shape) != 4 or y in graph.results() or not same_meaning(x, y) or not _is_number(x):
        return
    zero = 0 if x.qparams is None else x.qparams.zero_point
    if a.value != zero or a.before[0] or a.after[0] or a.before[3] or a.after[3]:
        return
    users = consumers.get(y, [])
    if not users or not all(_takes_padding(n, pad) for n in users):
        return
    consumers[x] = [n for n in consumers[x] if n is not pad] + users
    for n in users:
        n.inputs[0] = x
        n.attrs = replace(
            n.attrs,
            pad_top=n.attrs.pad_top + a.before[1],
            pad_left=n.attrs.pad_left + a.before[2],
        )


def _is_number(t: Tensor) -> bool:
    return t.qparams is not None or t.dtype == "float32"


def _takes_padding(conv: Node, pad: Node) -> bool:
    """Whether `conv` reads only the PAD's output as x, and each window still meets x."""
    if conv.op not in ("CONV_2D", "DEPTHWISE_CONV_2D") or conv.inputs[0] is not pad.output:
        return False
    a = conv.attrs
    assert isinstance(a, (Conv2D, DepthwiseConv2D))
    before = (a.pad_top + pad.attrs.before[1], a.pad_left + pad.attrs.before[2])
    for i in (0, 1):
        size = pad.input(0).shape[1 + i]
        extent = (conv.input(1).shape[1 + i] - 1) * a.dilation[i] + 1
        behind = (conv.output.shape[1 + i] - 1) * a.stride[i] + extent - before[i] - size
        if before[i] >= extent or behind >= extent:
            return False
    return True


def _fuse_relu(
    graph: Graph, relu: Node, producers: dict[Tensor, Node], consumers: Consumers
) -> bool:
    """The activation of an op that has none, where both sides have one scale and zero point.

    The standalone op is clamp(zy + R31(x - zx; sx / sy)). With equal parameters the multiplier is
    exactly 1 (m = 2^30, e = 1), R31(v) = v for every int8 difference, and clamp(x) is left, with
    bounds z + round(bound / s), limited to int8. The fused form has the same bounds: both divide in
    float32 and round half away from zero, and low <= z <= high, so the order of the two comparisons
    does not matter. The producer's own clamp to [-128, 127] is implied by them.

    In float there is nothing to show.
    """
    x, y = relu.input(0), relu.output
    producer = producers.get(x)
    if producer is None or producer.op not in _CLAMPING or producer.attrs.activation != "NONE":
        return False
    if x in graph.results() or consumers[x] != [relu] or not same_meaning(x, y):
        return False
    if not _is_number(y):
        return False
    if y.qparams is not None and (y.qparams.per_channel or y.qparams.scale < _MIN_SCALE):
        return False
    producer.attrs = replace(producer.attrs, activation=relu.op)
    producer.outputs = [y]
    producers[y] = producer
    if x in graph.norm_statistics:
        graph.norm_statistics[y] = graph.norm_statistics.pop(x)
    return True
