# SPDX-License-Identifier: Apache-2.0
"""Channels first become channels last: TRANSPOSEs move through the graph and cancel.

A walk in the order of the nodes keeps transposed tensors unwritten: `y = transpose(base, perm)`.
Ops that do not care about the order of their axes read `base` and leave a transposed result; where
an op needs y itself, the TRANSPOSE is written. What remains in front of the first convolution then
moves up to the graph's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..ir.graph import Array, Graph, Node, QParams, Quantized, Tensor
from ..ir.ops import NoAttrs, Transpose
from .fold import remove_dead

Perm = tuple[int, ...]
_NAMED = ("RELU", "RELU6", "RELU_N1_TO_1", "LOGISTIC", "TANH", "HARD_SWISH", "LEAKY_RELU")
UNARY = frozenset([*_NAMED, "UNARY", "QUANTIZE", "DEQUANTIZE", "COPY"])
BINARY = frozenset(["ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "PRELU"])


@dataclass(frozen=True)
class View:
    """A tensor that is not written yet: transpose(base, perm), or with `order` base with the
    elements of its last axis in another order: y[..., j] = base[..., order[j]]."""

    base: Tensor
    perm: Perm
    order: Array | None = None


def layout(graph: Graph) -> Graph:
    """Moves TRANSPOSEs; no result changes."""
    _Sinking(graph).run()
    _raise_to_inputs(graph)
    _share(graph)
    remove_dead(graph)
    graph.verify()
    return graph


def _share(graph: Graph) -> None:
    """One TRANSPOSE or RESHAPE for all who want the same of one tensor."""
    made: dict[tuple[object, ...], Tensor] = {}
    results = graph.results()
    new: dict[Tensor, Tensor] = {}
    for node in graph.nodes:
        node.inputs = [None if t is None else new.get(t, t) for t in node.inputs]
        if node.op in ("TRANSPOSE", "RESHAPE") and node.output not in results:
            key = (node.op, node.inputs[0], node.attrs, node.output.shape)
            found = made.setdefault(key, node.output)
            if found is not node.output:
                new[node.output] = found


def inverse(perm: Sequence[int]) -> Perm:
    return tuple(int(i) for i in np.argsort(perm))


def moves_ones_only(shape: Sequence[int], perm: Sequence[int]) -> bool:
    kept = [p for p in perm if shape[p] != 1]
    return kept == sorted(kept)


def transposed(shape: Sequence[int], perm: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape[p] for p in perm)


def constant_transposed(t: Tensor, perm: Sequence[int]) -> Tensor:
    """Constant t with its axes in the order of `perm`."""
    assert t.data is not None

    def turned(q: QParams) -> QParams:
        return replace(q, axis=list(perm).index(q.axis)) if q.per_channel else q

    data = np.ascontiguousarray(t.data.transpose(perm))
    q, origin = t.qparams, t.origin
    if origin is not None:
        stored = np.ascontiguousarray(origin.data.transpose(perm))
        origin = Quantized(stored, turned(origin.qparams))
    q = None if q is None else turned(q)
    return replace(t, shape=data.shape, data=data, qparams=q, origin=origin)


class _Sinking:
    """The walk. `nodes` is what it has written."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.results = graph.results()
        self.consumers = graph.consumers()
        self.nodes: list[Node] = []
        self.views: dict[Tensor, View] = {}
        self.producers: dict[Tensor, Node] = {}
        self.turned: dict[tuple[Tensor, Perm], Tensor] = {}

    def run(self) -> None:
        from .layout_rules import RULES

        for node in self.graph.nodes:
            inputs = [t for t in node.inputs if t is not None]
            if node.op == "TRANSPOSE":
                self.transpose(node)
            elif not any(t in self.views for t in inputs):
                self.write(node)
            else:
                rule = RULES.get(node.op)
                if rule is None or not rule(self, node):
                    self.keep(node)
        for t in self.results:
            self.real(t)
        self.graph.nodes = self.nodes

    def write(self, node: Node) -> None:
        self.nodes.append(node)
        self.producers.update((t, node) for t in node.outputs)

    def keep(self, node: Node) -> None:
        """`node` as it is: what it reads is written."""
        for t in node.inputs:
            if t is not None:
                self.real(t)
        self.write(node)

    def transpose(self, node: Node) -> None:
        x, y, perm = node.input(0), node.output, tuple(node.attrs.perm)
        view = self.views.get(x)
        if view is not None and view.order is None:
            x, perm = view.base, tuple(view.perm[p] for p in perm)
        else:
            self.real(x)
        self.show(y, x, perm, node)

    def show(self, y: Tensor, base: Tensor, perm: Perm, node: Node) -> None:
        """y is transpose(base, perm)."""
        if not moves_ones_only(base.shape, perm):
            self.views[y] = View(base, perm)
        elif y in self.results or y.shape != base.shape:
            self.write(Node("RESHAPE", [base], [y], NoAttrs(), node.name, node.source_index))
        else:
            self.views[y] = View(base, tuple(range(len(perm))))

    def real(self, t: Tensor) -> Tensor:
        """t, written."""
        view = self.views.pop(t, None)
        if view is None:
            return t
        if view.order is not None:
            self.shuffle(t, view)
        elif moves_ones_only(view.base.shape, view.perm):
            self.write(Node("RESHAPE", [view.base], [t], NoAttrs(), t.name))
        else:
            self.write(Node("TRANSPOSE", [view.base], [t], Transpose(view.perm), t.name))
        return t

    def shuffle(self, t: Tensor, view: View) -> None:
        """Writes t by the TRANSPOSE that its order stands for, which `perm` says for the shape that
        `base` had before it was flattened."""
        flat = self.producers[view.base]
        assert flat.op == "RESHAPE"
        x = flat.input(0)
        turned = Tensor(f"{t.name}/moved", transposed(x.shape, view.perm), t.dtype, t.qparams)
        self.write(Node("TRANSPOSE", [x], [turned], Transpose(view.perm), turned.name))
        self.write(Node("RESHAPE", [turned], [t], NoAttrs(), t.name))

    # ---- for the rules

    def like(self, t: Tensor, shape: Sequence[int]) -> Tensor:
        """A tensor that holds the elements of t in another order or shape."""
        return replace(t, shape=tuple(shape), data=None)

    def in_base(self, t: Tensor, perm: Perm) -> Tensor:
        """The tensor whose transpose by `perm` is t; written if it is not there."""
        back = inverse(perm)
        view = self.views.get(t)
        if view is not None and view.order is None:
            if view.perm == perm:
                return view.base
            t, back = view.base, tuple(view.perm[p] for p in back)
        else:
            self.real(t)
        if list(back) == sorted(back):
            return t
        if t.is_const:
            return constant_transposed(t, back)
        if (t, back) not in self.turned:
            producer = self.producers.get(t)
            y = self.like(t, transposed(t.shape, back))
            if producer is not None and producer.op == "DEQUANTIZE" and producer.input(0).is_const:
                q = constant_transposed(producer.input(0), back)
                self.write(replace(producer, inputs=[q], outputs=[y]))
            elif moves_ones_only(t.shape, back):
                self.write(Node("RESHAPE", [t], [y], NoAttrs(), t.name))
            else:
                self.write(Node("TRANSPOSE", [t], [y], Transpose(back), t.name))
            self.turned[t, back] = y
        return self.turned[t, back]

    def widened(self, t: Tensor, rank: int) -> Tensor:
        """t with leading axes of 1; more than one element."""
        if len(t.shape) == rank:
            return t
        shape = (1,) * (rank - len(t.shape)) + t.shape
        if t.data is not None:
            q = t.qparams
            if q is not None and q.per_channel:
                q = QParams(q.scales, q.zero_points, q.axis + rank - len(t.shape))
            return replace(t, shape=shape, data=t.data.reshape(shape), qparams=q)
        y = self.like(t, shape)
        self.write(Node("RESHAPE", [self.real(t)], [y], NoAttrs(), t.name))
        return y

    def emit(self, node: Node, inputs: Sequence[Tensor | None], perm: Perm, attrs: object) -> None:
        """`node` in the order of base; its outputs are transposed by `perm`."""
        back = inverse(perm)
        outputs = [self.like(y, transposed(y.shape, back)) for y in node.outputs]
        self.write(replace(node, inputs=list(inputs), outputs=outputs, attrs=attrs))
        statistics = self.graph.norm_statistics
        for y, base in zip(node.outputs, outputs):
            self.views[y] = View(base, perm)
            if y in statistics:
                statistics[base] = statistics.pop(y)


# ---- upwards

_RISING = UNARY | BINARY | {"PAD", "MIRROR_PAD", "SLICE"}


def _raise_to_inputs(graph: Graph) -> None:
    """TRANSPOSEs behind elementwise ops on an input move before these."""
    for _ in range(len(graph.nodes)):
        if not _raise_one(graph):
            break


def _raise_one(graph: Graph) -> bool:
    producers, consumers = graph.producers(), graph.consumers()
    for node in graph.nodes:
        if node.op != "TRANSPOSE":
            continue
        x, perm = node.input(0), tuple(node.attrs.perm)
        states = {s.before for s in graph.states}
        if (
            x in producers
            and not states & set(producers[x].inputs)
            and _can_rise(graph, x, perm, producers, consumers)
        ):
            _raise(graph, x, perm, producers[x], consumers[x])
            return True
    return False


def _can_rise(
    graph: Graph,
    t: Tensor,
    perm: Perm,
    producers: dict[Tensor, Node],
    consumers: dict[Tensor, list[Node]],
) -> bool:
    """Whether transpose(t, perm) can be had by transposing inputs only, at no further cost."""
    while t in producers:
        node = producers[t]
        if t in graph.results() or any(
            n.op != "TRANSPOSE" or n.attrs.perm != perm for n in consumers.get(t, [])
        ):
            if t not in consumers or node.op not in _RISING:
                return False
            if any(not _leads_there(n, perm, consumers) for n in consumers[t]):
                return False
        if node.op not in _RISING or t in graph.results() or len(node.outputs) != 1:
            return False
        moving = [x for x in node.inputs if x is not None and not x.is_const and x.elements > 1]
        if len(moving) != 1 or len(moving[0].shape) != len(t.shape):
            return False
        t = moving[0]
    return t in graph.inputs and all(_leads_there(n, perm, consumers) for n in consumers.get(t, []))


def _leads_there(node: Node, perm: Perm, consumers: dict[Tensor, list[Node]]) -> bool:
    """Whether a node is this TRANSPOSE, or elementwise with nothing but it behind."""
    for _ in range(64):
        if node.op == "TRANSPOSE":
            return bool(node.attrs.perm == perm)
        users = consumers.get(node.output, [])
        if node.op not in _RISING or len(users) != 1:
            return False
        node = users[0]
    return False


def _raise(graph: Graph, x: Tensor, perm: Perm, node: Node, users: list[Node]) -> None:
    """The TRANSPOSEs `users` of x, which `node` writes, become one of what it reads."""
    y = replace(x, shape=transposed(x.shape, perm))
    rank = len(x.shape)
    inputs: list[Tensor | None] = []
    new: list[Node] = []
    for t in node.inputs:
        if t is None or t.elements == 1:
            inputs.append(t)
        elif t.data is not None:
            shape = (1,) * (rank - len(t.shape)) + t.shape
            wide = replace(t, shape=shape, data=t.data.reshape(shape))
            inputs.append(constant_transposed(wide, perm))
        else:
            turned = replace(t, shape=transposed(t.shape, perm))
            new.append(Node("TRANSPOSE", [t], [turned], Transpose(perm), t.name))
            inputs.append(turned)
    attrs = node.attrs
    if node.op in ("PAD", "MIRROR_PAD"):
        attrs = replace(
            attrs, before=transposed(attrs.before, perm), after=transposed(attrs.after, perm)
        )
    elif node.op == "SLICE":
        attrs = replace(
            attrs, begin=transposed(attrs.begin, perm), stride=transposed(attrs.stride, perm)
        )
    place = graph.nodes.index(node)
    graph.nodes[place : place + 1] = [
        *new,
        replace(node, inputs=inputs, outputs=[y], attrs=attrs),
    ]
    gone = {n.output: y for n in users}
    for old in gone:
        graph.move_ports(old, y)
        if old in graph.outputs:
            y.name = old.name
    graph.nodes = [n for n in graph.nodes if n.op != "TRANSPOSE" or n.output not in gone]
    graph.read_instead(gone)


@dataclass(frozen=True)
class Factored:
    """reshape(transpose(b, perm), shape) = transpose(reshape(transpose(b, before), shape'), perm');
    `before` is None where nothing has to move."""

    before: Perm | None
    shape: tuple[int, ...]
    perm: Perm


def factored(base: Sequence[int], perm: Perm, shape: Sequence[int]) -> Factored:
    """A reshape before a transpose instead of behind it.

    Axes fall into the smallest groups of one product on both sides; axes of 1 go with the next
    other one. `before` brings the axes of each group together where the transpose separated them.
    """
    x = [p for p in perm if base[p] != 1]
    order = sorted(x)
    groups: list[tuple[list[int], list[int]]] = []  # axes of base, axes of `shape`
    front: list[int] = []
    waiting: list[int] = []
    i = k = 0
    while k < len(shape):
        if shape[k] == 1:
            (waiting if groups else front).append(k)
            k += 1
            continue
        first, axes = i, [*waiting, k]
        waiting, left, right = [], base[x[i]], shape[k]
        i, k = i + 1, k + 1
        while left != right:
            if left < right:
                left, i = left * base[x[i]], i + 1
            else:
                axes.append(k)
                right, k = right * shape[k], k + 1
        groups.append((x[first:i], axes))
    if groups:
        groups[-1][1].extend(waiting)
    apart = any(order.index(b) != order.index(a) + 1 for g, _ in groups for a, b in zip(g, g[1:]))
    arranged = sorted(groups, key=lambda g: min(g[0]))
    before = [i for i, d in enumerate(base) if d == 1] + [a for g, _ in arranged for a in g]
    axes = front + [a for _, g in arranged for a in g]
    return Factored(tuple(before) if apart else None, tuple(shape[a] for a in axes), inverse(axes))
