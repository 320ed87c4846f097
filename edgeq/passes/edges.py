# SPDX-License-Identifier: Apache-2.0
"""QUANTIZE behind an input and DEQUANTIZE before an output become the caller's side of the port.

The graph's own tensor is the quantized one then; input_dtypes and output_dtypes say what the caller
sees. A QUANTIZE between legacy uint8 and int8 of the same range is the identity on the stored bytes
and vanishes at a port; between two ops it stays, since some ops compute differently on uint8.
"""

from __future__ import annotations

from dataclasses import replace

from ..ir.graph import Graph, Node, QParams, Tensor
from ..ir.ops import NoAttrs
from .fold import remove_dead

_MOVES = ("RESHAPE", "TRANSPOSE", "SLICE")


def absorb_edges(graph: Graph) -> Graph:
    while _swap_with_moves(graph):
        pass
    for i in range(len(graph.inputs)):
        _absorb_input(graph, i)
    for i in range(len(graph.outputs)):
        _absorb_output(graph, i)
    remove_dead(graph)
    graph.verify()
    return graph


def _swap_with_moves(graph: Graph) -> bool:
    """Brings float32 moves to the quantized side: QUANTIZE goes before them, DEQUANTIZE behind."""
    producers = graph.producers()
    for k, node in enumerate(graph.nodes):
        before = producers.get(node.input(0)) if node.inputs and node.inputs[0] else None
        if before is None:
            continue
        if node.op == "QUANTIZE" and before.op in _MOVES and before.output.dtype == "float32":
            x, q, y = before.input(0), node.output.qparams, node.output
        elif node.op in _MOVES and before.op == "DEQUANTIZE":
            x, q, y = before.input(0), before.input(0).qparams, node.output
        else:
            continue
        if q is None or q.per_channel:
            continue
        graph.nodes[k : k + 1] = _swapped(node, before, x, q, y)
        return True
    return False


def _swapped(node: Node, before: Node, x: Tensor, q: QParams, y: Tensor) -> list[Node]:
    """`before` and `node` in the other order, from x to y."""
    source = y.source_dtype if node.op == "QUANTIZE" else x.source_dtype
    shape = x.shape if node.op == "QUANTIZE" else y.shape
    middle = Tensor(f"{y.name}/quantized", shape, "int8", q, None, source)
    first = replace(node, inputs=[x], outputs=[middle])
    second = replace(before, inputs=[middle], outputs=[y])
    return [first, second]


def _absorb_input(graph: Graph, i: int) -> None:
    x = graph.inputs[i]
    users = graph.consumers().get(x, [])
    if x in graph.outputs or not users or any(n.op != "QUANTIZE" for n in users):
        return
    first = users[0].output
    q = first.qparams
    if q is None or any(
        not q.same(n.output.qparams) or n.output.source_dtype != first.source_dtype for n in users
    ):
        return
    if x.dtype != "float32" and not q.same(x.qparams):
        return
    graph.inputs[i] = t = replace(first, name=x.name)
    for n in users:
        if n.output in graph.outputs:
            n.op, n.inputs = "COPY", [t]
        else:
            graph.nodes.remove(n)
            graph.replace(n.output, t)


def _absorb_output(graph: Graph, i: int) -> None:
    y = graph.outputs[i]
    node = graph.producers().get(y)
    if node is None or node.op not in ("QUANTIZE", "DEQUANTIZE") or graph.consumers().get(y):
        return
    x = node.input(0)
    if x.dtype != "int8" or x.qparams is None or x.qparams.per_channel:
        return
    if node.op == "QUANTIZE" and not x.qparams.same(y.qparams):
        return
    if x in graph.outputs or x in graph.inputs or x.is_const:
        quantized = replace(x, name=y.name, data=None)
        node.op, node.attrs, node.outputs = "COPY", NoAttrs(), [quantized]
    else:
        quantized = x
        quantized.name = y.name
        graph.nodes.remove(node)
    graph.replace(y, quantized)
