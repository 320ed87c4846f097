# SPDX-License-Identifier: Apache-2.0
"""Channels that are chosen, or put in another order, behind a layer: its weights are instead."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..ir.graph import Array, Graph, Node, QParams, Quantized, Tensor
from ..ir.ops import Gather


def order(graph: Graph) -> Graph:
    """GATHER along the last dimension of what a layer makes for it alone."""
    producers, consumers, results = graph.producers(), graph.consumers(), graph.results()
    gone: set[Node] = set()
    for node in graph.nodes:
        if node.op != "GATHER" or node.input(1).data is None:
            continue
        x, indices = node.input(0), np.asarray(node.input(1).data)
        layer = producers.get(x)
        if layer is None or x in results or consumers[x] != [node] or indices.ndim != 1:
            continue
        if node.attrs != Gather(len(x.shape) - 1) or not _has_rows(layer):
            continue
        layer.inputs[1] = _chosen(layer.input(1), indices)
        if len(layer.inputs) > 2 and layer.inputs[2] is not None:
            layer.inputs[2] = _chosen(layer.input(2), indices)
        layer.outputs = [node.output]
        producers[node.output] = layer
        gone.add(node)
    graph.nodes = [n for n in graph.nodes if n not in gone]
    graph.verify()
    return graph


def _has_rows(layer: Node) -> bool:
    """Whether each output channel is one row of constant weights."""
    if layer.op == "CONV_2D" and layer.attrs.groups != 1:
        return False
    if layer.op not in ("CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"):
        return False
    return all(t is None or t.is_const for t in layer.inputs[1:])


def _chosen(t: Tensor, rows: Array) -> Tensor:
    assert t.data is not None
    data = np.ascontiguousarray(t.data[rows])
    q, origin = t.qparams, t.origin
    if origin is not None:
        stored = np.ascontiguousarray(origin.data[rows])
        origin = Quantized(stored, _chosen_scales(origin.qparams, rows))
    q = None if q is None else _chosen_scales(q, rows)
    return replace(t, shape=data.shape, data=data, qparams=q, origin=origin)


def _chosen_scales(q: QParams, rows: Array) -> QParams:
    if not q.per_channel or q.axis != 0:
        return q
    return QParams(q.scales[rows], q.zero_points[rows], 0)
