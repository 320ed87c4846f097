# SPDX-License-Identifier: Apache-2.0
"""Elementwise subgraphs of one tensor and single numbers become one op.

Whatever a SiLU, GELU or hard-swish is written as, it ends as one UNARY, which in integers is one
table; where the function is a named op (HARD_SWISH, RELU6, ...), as that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..ir.expression import Arg, Expression, Step
from ..ir.graph import Graph, Node, Tensor
from ..ir.named import clamp, expression_of, leaky, recognise
from ..ir.ops import NoAttrs

MAX_STEPS = 64

_BINARY = {
    "ADD": "add",
    "SUB": "sub",
    "MUL": "mul",
    "DIV": "div",
    "MAXIMUM": "max",
    "MINIMUM": "min",
}


def unary(graph: Graph) -> Graph:
    """One op for each such subgraph; intermediate results that others read stay."""
    finder = _Finder(graph)
    gone: set[Node] = set()
    for node in reversed(graph.nodes):
        cone = None if node in gone else finder.cone(node)
        if cone is None:
            continue
        op, attrs = recognise(cone.expression())
        if len(cone.members) == 1 and op in (node.op, "UNARY") and node.op in ("UNARY", op):
            continue
        gone.update(n for n in cone.members if n is not node)
        node.op, node.attrs, node.inputs = op, attrs, [cone.root]
        if op == "COPY":  # a RESHAPE that changes nothing is what clean() removes
            node.op, node.attrs = "RESHAPE", NoAttrs()
    graph.nodes = [n for n in graph.nodes if n not in gone]
    graph.verify()
    return graph


def number(t: Tensor) -> float | None:
    """The value of a float constant whose elements are all the same."""
    if t.data is None or t.dtype != "float32" or t.qparams is not None or t.data.size == 0:
        return None
    first = t.data.flat[0]
    return float(first) if np.isfinite(first) and (t.data == first).all() else None


@dataclass
class _Cone:
    """Nodes that together compute one tensor from `root`, in the graph's order."""

    root: Tensor
    members: list[Node]

    def expression(self) -> Expression:
        steps: list[Step] = []
        where: dict[Tensor, Arg] = {self.root: 0}
        for node in self.members:
            where[node.output] = _append(steps, node, where)
        last = where[self.members[-1].output]
        if last == 0:
            return Expression()
        assert last == len(steps)
        return Expression(tuple(steps))


def _append(steps: list[Step], node: Node, where: dict[Tensor, Arg]) -> Arg:
    """Appends what `node` does to `steps`; where its result is."""
    args: list[Arg] = []
    for t in node.inputs:
        assert t is not None
        value = where[t] if t in where else number(t)
        assert value is not None
        args.append(value)
    if node.op in _BINARY:
        steps.append(Step(_BINARY[node.op], (args[0], args[1])))
        return _compose(steps, clamp(getattr(node.attrs, "activation", "NONE")), len(steps))
    if node.op == "PRELU":
        assert isinstance(args[1], float)
        return _compose(steps, leaky(args[1]), args[0])
    expression = expression_of(node)
    assert expression is not None
    return _compose(steps, expression, args[0])


def _compose(steps: list[Step], expression: Expression, x: Arg) -> Arg:
    """Appends `expression` of the value x; where its result is."""
    shift = len(steps)
    for s in expression.steps:
        args = tuple(a if isinstance(a, float) else (x if a == 0 else a + shift) for a in s.args)
        steps.append(Step(s.function, args))
    return len(steps) if expression.steps else x


class _Finder:
    def __init__(self, graph: Graph) -> None:
        self.producers = graph.producers()
        self.consumers = graph.consumers()
        self.results = graph.results()
        self.order = {n: i for i, n in enumerate(graph.nodes)}

    def cone(self, node: Node) -> _Cone | None:
        """The largest subgraph that ends in `node` and begins with a single tensor."""
        if not _is_elementwise(node):
            return None
        inside, size = {node}, _steps(node)
        edge = set(_operands(node))
        found: tuple[Tensor, set[Node]] | None = None
        while True:
            if len(edge) == 1:
                found = next(iter(edge)), set(inside)
            # Only the last of them can lead to one of the others.
            t = max(edge, key=self.position)
            producer = self.producers.get(t)
            if producer is None or t in self.results or not _is_elementwise(producer):
                break
            size += _steps(producer)
            if size > MAX_STEPS or not inside.issuperset(self.consumers[t]):
                break
            inside.add(producer)
            edge = (edge - {t}) | set(_operands(producer))
        if found is None:
            return None
        root, members = found
        return _Cone(root, sorted(members, key=self.order.__getitem__))

    def position(self, t: Tensor) -> int:
        return self.order[self.producers[t]] if t in self.producers else -1


def _operands(node: Node) -> list[Tensor]:
    return [t for t in node.inputs if t is not None and not t.is_const]


def _steps(node: Node) -> int:
    expression = expression_of(node)
    return 4 if expression is None else len(expression.steps)


def _is_elementwise(node: Node) -> bool:
    """Whether each number of the output follows from one of each operand and single numbers."""
    if node.op not in (*_BINARY, "PRELU") and expression_of(node) is None:
        return False
    operands, y = _operands(node), node.output
    if not operands or None in node.inputs:
        return False
    if node.op == "PRELU" and (node.input(0).is_const or len(operands) > 1):
        return False
    if any(t.shape != y.shape or t.dtype != "float32" or t.qparams for t in [*operands, y]):
        return False
    return all(t is None or not t.is_const or number(t) is not None for t in node.inputs)
