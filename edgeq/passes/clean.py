# SPDX-License-Identifier: Apache-2.0
"""Nodes that change nothing vanish; chains of reshapes become one; equal QUANTIZEs are shared."""

from __future__ import annotations

from ..ir.graph import Graph, Node, Tensor
from ..ir.ops import NoAttrs
from .fold import remove_dead


def clean(graph: Graph) -> Graph:
    """One walk: when a node is looked at, what it reads is already in its final form."""
    new: dict[Tensor, Tensor] = {}  # vanished tensor -> the one that took its place
    producers: dict[Tensor, Node] = {}
    quantized: dict[Tensor, list[Tensor]] = {}
    nodes = []
    for node in graph.nodes:
        node.inputs = [None if t is None else new.get(t, t) for t in node.inputs]
        _simplify(node, producers)
        place = _stand_in(node, quantized)
        if place is not None and _can_stand_in(graph, node.output, place):
            new[node.output] = place
            continue
        if place is not None and place is node.inputs[0]:
            node.op, node.attrs = "COPY", NoAttrs()
        nodes.append(node)
        producers.update((t, node) for t in node.outputs)
        if node.op == "QUANTIZE":
            quantized.setdefault(node.input(0), []).append(node.output)
    graph.nodes = nodes
    remove_dead(graph)
    graph.verify()
    return graph


def same_meaning(a: Tensor, b: Tensor) -> bool:
    """Whether equal bytes in a and b are equal values, and treated equally by every op."""
    if a.dtype != b.dtype or a.source_dtype != b.source_dtype:
        return False
    return a.qparams is b.qparams or (a.qparams is not None and a.qparams.same(b.qparams))


def _simplify(node: Node, producers: dict[Tensor, Node]) -> None:
    """A TRANSPOSE that moves only dimensions of 1 is a RESHAPE; RESHAPE reads no RESHAPE."""
    if node.op == "TRANSPOSE":
        shape = node.input(0).shape
        order = [p for p in node.attrs.perm if shape[p] != 1]
        if order == sorted(order):
            node.op, node.attrs = "RESHAPE", NoAttrs()
    if node.op == "RESHAPE":
        before = producers.get(node.input(0))
        if before is not None and before.op == "RESHAPE":
            node.inputs = list(before.inputs)


def _is_identity(node: Node) -> bool:
    if len(node.inputs) != 1 or len(node.outputs) != 1:
        return False
    x, y = node.input(0), node.output
    if x.shape != y.shape or not same_meaning(x, y):
        return False
    if node.op == "SLICE":
        return all(s > 0 for s in node.attrs.stride)
    return node.op in ("RESHAPE", "QUANTIZE", "PAD", "MIRROR_PAD", "CONCATENATION", "SPLIT")


def _stand_in(node: Node, quantized: dict[Tensor, list[Tensor]]) -> Tensor | None:
    """The tensor that holds what `node` computes: its input, or the output of an equal node."""
    if _is_identity(node):
        return node.input(0)
    if node.op == "QUANTIZE":
        for other in quantized.get(node.input(0), [])[:8]:
            if same_meaning(other, node.output):
                return other
    return None


def _can_stand_in(graph: Graph, y: Tensor, x: Tensor) -> bool:
    """Gives x the ports of y; False where y has some and x is a port or a constant itself.

    What a state becomes may be anything.
    """
    if y in graph.outputs:
        if x in graph.sources() or x in graph.outputs or x.is_const:
            return False
        x.name = y.name
    graph.move_ports(y, x)
    return True
