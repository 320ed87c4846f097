# SPDX-License-Identifier: Apache-2.0
"""QUANTIZE behind an input and DEQUANTIZE before an output become the caller's side of the port.

The graph's own tensor is the quantized one then; input_dtypes and output_dtypes say what the caller
sees. A QUANTIZE between legacy uint8 and int8 of the same range is the identity on the stored bytes
and vanishes at a port; between two ops it stays, since some ops compute differently on uint8.
"""

from __future__ import annotations

from dataclasses import replace

from ..ir.graph import Graph, Node, Tensor
from ..ir.ops import NoAttrs
from .clean import same_meaning
from .fold import fold, remove_dead
from .islands import integer_islands

_MOVES = ("RESHAPE", "TRANSPOSE", "SLICE")
_MAX_CHAIN = 16  # float32 moves between an input and its QUANTIZE


def absorb_edges(graph: Graph) -> Graph:
    _lift_quantizes(graph)
    _sink_dequantizes(graph)
    remove_dead(graph)
    _absorb_inputs(graph)
    _absorb_outputs(graph)
    remove_dead(graph)
    graph.verify()
    return graph


def float_nodes(graph: Graph) -> list[Node]:
    """The nodes that compute on float32; none in a network that is quantized from end to end,
    where float32 is only what the caller sees."""
    graph = absorb_edges(integer_islands(fold(graph.copy())))
    return [
        n
        for n in graph.nodes
        if n.op not in ("QUANTIZE", "DEQUANTIZE")
        and any(t.dtype == "float32" and not t.is_const for t in [*n.inputs, *n.outputs] if t)
    ]


def _lift_quantizes(graph: Graph) -> None:
    """QUANTIZE behind float32 moves goes before them."""
    producers = graph.producers()
    nodes: list[Node] = []
    for node in graph.nodes:
        chain: list[Node] = []
        x = node.input(0)
        while node.op == "QUANTIZE" and x in producers and len(chain) < _MAX_CHAIN:
            move = producers[x]
            if move.op not in _MOVES or x.dtype != "float32":
                break
            chain.append(move)
            x = move.input(0)
        if not chain:
            nodes.append(node)
            continue
        y = node.output
        t = _quantized(y, x.shape, y)
        nodes.append(replace(node, inputs=[x], outputs=[t]))
        for k, move in enumerate(reversed(chain)):
            last = k == len(chain) - 1
            to = y if last else _quantized(y, move.output.shape, y)
            nodes.append(replace(move, inputs=[t], outputs=[to]))
            t = to
    graph.nodes = nodes


def _sink_dequantizes(graph: Graph) -> None:
    """DEQUANTIZE before float32 moves goes behind them."""
    producers: dict[Tensor, Node] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        new = [node]
        before = producers.get(node.input(0)) if node.op in _MOVES else None
        if before is not None and before.op == "DEQUANTIZE":
            q = before.input(0)
            if q.qparams is not None and not q.qparams.per_channel:
                middle = _quantized(node.output, node.output.shape, q)
                new = [
                    replace(node, inputs=[q], outputs=[middle]),
                    replace(before, inputs=[middle], outputs=node.outputs),
                ]
        nodes += new
        producers.update((t, n) for n in new for t in n.outputs)
    graph.nodes = nodes


def _quantized(named: Tensor, shape: tuple[int, ...], like: Tensor) -> Tensor:
    name = f"{named.name}/quantized"
    return Tensor(name, shape, like.dtype, like.qparams, None, like.source_dtype)


def _absorb_inputs(graph: Graph) -> None:
    consumers = graph.consumers()
    new: dict[Tensor, Tensor] = {}
    for i, x in enumerate(graph.inputs):
        users = consumers.get(x, [])
        if x in graph.results() or not users or any(n.op != "QUANTIZE" for n in users):
            continue
        first = users[0].output
        if not all(same_meaning(n.output, first) for n in users):
            continue
        q = first.qparams
        if q is None or x.dtype not in ("float32", first.dtype):
            continue
        if x.dtype != "float32" and not q.same(x.qparams):
            continue
        graph.inputs[i] = t = replace(first, name=x.name)
        for n in users:
            if n.output in graph.results():
                n.op, n.inputs = "COPY", [t]
            else:
                new[n.output] = t
    graph.nodes = [n for n in graph.nodes if n.output not in new]
    graph.read_instead(new)


def _absorb_outputs(graph: Graph) -> None:
    producers, consumers = graph.producers(), graph.consumers()
    kept = {s.after for s in graph.states}
    gone: set[Tensor] = set()
    for y in list(graph.outputs):
        node = producers.get(y)
        if node is None or y in gone or node.op not in ("QUANTIZE", "DEQUANTIZE"):
            continue
        x = node.input(0)
        if y in consumers or y in kept or x.dtype not in ("int8", "int16"):
            continue
        if x.qparams is None or x.qparams.per_channel:
            continue
        if node.op == "QUANTIZE" and (x.dtype != y.dtype or not x.qparams.same(y.qparams)):
            continue
        if x in graph.sources() or x in graph.outputs or x.is_const:
            quantized = replace(x, name=y.name, data=None)
            node.op, node.attrs, node.outputs = "COPY", NoAttrs(), [quantized]
        else:
            quantized = x
            quantized.name = y.name
        gone.add(y)
        graph.move_ports(y, quantized)
    graph.nodes = [n for n in graph.nodes if n.output not in gone]
