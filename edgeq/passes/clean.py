# SPDX-License-Identifier: Apache-2.0
"""Nodes that change nothing vanish; chains of reshapes become one; equal QUANTIZEs are shared."""

from __future__ import annotations

from ..ir.graph import Graph, Node, Tensor
from ..ir.ops import NoAttrs
from .fold import remove_dead


def clean(graph: Graph) -> Graph:
    for node in graph.nodes:
        if node.op == "TRANSPOSE" and _keeps_order(node):
            node.op, node.attrs = "RESHAPE", NoAttrs()
    changed = True
    while changed:
        changed = _merge_reshapes(graph) or _drop_identities(graph) or _share_quantizes(graph)
    remove_dead(graph)
    graph.verify()
    return graph


def _keeps_order(node: Node) -> bool:
    """Whether a TRANSPOSE moves only dimensions of 1: the bytes stay in place."""
    shape = node.input(0).shape
    order = [p for p in node.attrs.perm if shape[p] != 1]
    return order == sorted(order)


def same_meaning(a: Tensor, b: Tensor) -> bool:
    """Whether equal bytes in a and b are equal values, and treated equally by every op."""
    if a.dtype != b.dtype or a.source_dtype != b.source_dtype:
        return False
    return a.qparams is b.qparams or (a.qparams is not None and a.qparams.same(b.qparams))


def _is_identity(node: Node) -> bool:
    if len(node.inputs) != 1 or len(node.outputs) != 1:
        return False
    x, y = node.input(0), node.output
    if x.shape != y.shape or not same_meaning(x, y):
        return False
    if node.op == "SLICE":
        return all(s > 0 for s in node.attrs.stride)
    if node.op == "TRANSPOSE":
        return bool(node.attrs.perm == tuple(range(len(x.shape))))
    return node.op in ("RESHAPE", "QUANTIZE", "PAD", "MIRROR_PAD", "CONCATENATION", "SPLIT")


def _drop_identities(graph: Graph) -> bool:
    changed = False
    for node in list(graph.nodes):
        if not _is_identity(node):
            continue
        x, y = node.input(0), node.output
        if y in graph.outputs:
            # The port's name and storage are y's own: x must be free to take its place.
            if x in graph.outputs or x in graph.inputs or x.is_const:
                node.op, node.attrs = "COPY", NoAttrs()
                continue
            x.name = y.name
        graph.replace(y, x)
        graph.nodes.remove(node)
        changed = True
    return changed


def _merge_reshapes(graph: Graph) -> bool:
    changed = False
    producers = graph.producers()
    for node in graph.nodes:
        if node.op != "RESHAPE":
            continue
        before = producers.get(node.input(0))
        if before is not None and before.op == "RESHAPE":
            node.inputs = list(before.inputs)
            changed = True
    if changed:
        remove_dead(graph)
    return changed


def _share_quantizes(graph: Graph) -> bool:
    seen: dict[Tensor, list[Node]] = {}
    for node in list(graph.nodes):
        if node.op != "QUANTIZE":
            continue
        x, y = node.input(0), node.output
        for other in seen.setdefault(x, []):
            if same_meaning(other.output, y) and y not in graph.outputs:
                graph.nodes.remove(node)
                graph.replace(y, other.output)
                return True
        seen[x].append(node)
    return False
