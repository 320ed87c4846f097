# SPDX-License-Identifier: Apache-2.0
"""Constant subgraphs become constants; nodes whose outputs nobody reads vanish."""

from __future__ import annotations

from ..ir.evaluate import evaluate
from ..ir.graph import Graph

MAX_BYTES = 2**26  # of all computed constants; what would exceed it stays a node


def fold(graph: Graph) -> Graph:
    budget = MAX_BYTES
    for node in graph.nodes:
        size = sum(t.elements for t in node.outputs) * 8
        arrays = evaluate(node) if size <= budget else None
        if arrays is None:
            continue
        budget -= size
        for t, data in zip(node.outputs, arrays):
            t.data = data
    graph.nodes = [n for n in graph.nodes if not any(t.is_const for t in n.outputs)]
    remove_dead(graph)
    graph.verify()
    return graph


def remove_dead(graph: Graph) -> None:
    """Drops nodes without a reader. A node with several outputs stays while one of them is read."""
    live = graph.results()
    kept = []
    for node in reversed(graph.nodes):
        if any(t in live for t in node.outputs):
            kept.append(node)
            live.update(t for t in node.inputs if t is not None)
    graph.nodes = kept[::-1]
