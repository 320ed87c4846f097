# SPDX-License-Identifier: Apache-2.0
"""Float ops between DEQUANTIZE and QUANTIZE, or at the end of the network, become integer ops.

A float tensor that follows from the stored numbers of one int8 tensor by any number of element-wise
ops is 256 float32 numbers. They are computed here as the reference computes them, and a QUANTIZE
behind them makes one table of them: not a byte differs. A function of whole numbers (CAST) that
never falls becomes a search among the boundaries between its results, which is exact too.

Where two int8 tensors meet, or where there is no QUANTIZE, a tensor gets a scale: that of the
QUANTIZE behind it, that which the op prescribes, or the range that the stored numbers allow. What
was turned, and what it costs, stands in the graph's notes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..ir import real
from ..ir.evaluate import dequantize, quantize
from ..ir.graph import Array, Graph, Node, QParams, Tensor
from ..ir.ops import Lookup, NoAttrs, Quotient, Search
from .fold import remove_dead

_BYTES = np.arange(-128, 128)
_MOVES = ("RESHAPE", "TRANSPOSE", "SLICE", "SPLIT", "UNPACK", "GATHER", "GATHER_ND", "COPY")
_MERGES = ("CONCATENATION", "PACK")
_FIXED = {"SOFTMAX": QParams.of(1 / 256, -128), "LOG_SOFTMAX": QParams.of(1 / 16, 127)}
_REDUCTIONS = ("MEAN", "SUM", "REDUCE_MAX")
_FAR = 8  # moves between a tensor and the QUANTIZE that gives it its scale


class _Stay(Exception):
    """The node keeps its floats."""


@dataclass(frozen=True)
class _Twin:
    """A float tensor as a function of the stored numbers of an integer tensor of its shape.

    `own`: the scale and zero point of `source` if the function is no more than dequantizing.
    `rising`: it never falls. `ops`: what it is made of, for the notes.
    """

    source: Tensor
    function: Callable[[Array], Array]
    own: QParams | None = None
    rising: bool = False
    ops: tuple[str, ...] = ()

    @property
    def values(self) -> Array:
        """float32 (256,) for an int8 source."""
        return self.function(_BYTES)

    def then(self, node: Node, f: Callable[[Array], Array], rising: bool) -> _Twin:
        return _Twin(
            self.source,
            lambda x: f(self.function(x)),
            None,
            self.rising and rising,
            (*self.ops, _label(node)),
        )


def integer_islands(graph: Graph) -> Graph:
    graph = _Islands(graph).run()
    remove_dead(graph)
    graph.verify()
    return graph


def _label(node: Node) -> str:
    op = str(node.attrs.expression) if node.op == "UNARY" else node.op
    return f"{op} {node.name!r}"


def _is_float(t: Tensor | None) -> bool:
    return t is not None and t.dtype == "float32" and not t.is_const


class _Islands:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Node] = []
        self.twins: dict[Tensor, _Twin] = {}
        self.stored: dict[tuple[int, float, int], Tensor] = {}  # one table for each scale
        self.consumers = graph.consumers()
        self.origin = graph.producers()
        self.realised: set[Tensor] = set()

    def run(self) -> Graph:
        for node in self.graph.nodes:
            kept = len(self.nodes)
            try:
                self.turn(node)
            except _Stay:
                del self.nodes[kept:]
                for t in node.inputs:
                    self.realise(t)
                self.nodes.append(node)
        for t in self.graph.outputs:
            self.realise(t)
        self.graph.nodes = self.nodes
        return self.graph

    def turn(self, node: Node) -> None:
        """Adds what `node` becomes, or the twin of its output."""
        if node.op == "DEQUANTIZE":
            self.dequantize(node)
        elif node.op == "CAST" and node.output.dtype == "float32":
            x = node.input(0)
            twin = _Twin(x, lambda v: v.astype(np.float32), None, True, (_label(node),))
            self.twins[node.output] = twin
        elif not any(_is_float(t) for t in node.inputs):
            self.nodes.append(node)
        elif node.op == "QUANTIZE":
            self.quantize(node)
        elif node.op == "CAST":
            self.to_whole(node)
        elif node.op in _MOVES:
            self.move(node)
        elif node.op in _MERGES:
            self.merge(node)
        elif node.op in real.BINARY:
            self.binary(node)
        elif node.op in _FIXED or node.op in _REDUCTIONS:
            self.quantized_op(node)
        else:
            self.unary(node)

    def twin(self, t: Tensor | None) -> _Twin:
        if t is None or t not in self.twins:
            raise _Stay
        return self.twins[t]

    # ---- functions of one tensor

    def dequantize(self, node: Node) -> None:
        x = node.input(0)
        q = x.qparams
        if x.dtype != "int8" or q is None or q.per_channel or node.output.dtype != "float32":
            raise _Stay
        scale, zero = q.scale, q.zero_point
        self.twins[node.output] = _Twin(
            x, lambda v: scale * (v - zero).astype(np.float32), q, bool(scale > 0)
        )

    def unary(self, node: Node) -> None:
        twin = self.twin(node.inputs[0])
        if real.unary(node, np.zeros(1, np.float32)) is None or len(node.inputs) != 1:
            raise _Stay
        rising = node.op in real.RISING
        if node.op == "UNARY":
            steps = node.attrs.expression.steps
            rising = len(steps) == 1 and steps[0].function in real.RISING

        def function(v: Array) -> Array:
            result = real.unary(node, v)
            assert result is not None
            return result

        self.twins[node.output] = twin.then(node, function, rising)

    def binary(self, node: Node) -> None:
        """With one number, or with another function of the same tensor: a function of it."""
        a, b = node.input(0), node.input(1)
        if a.is_const or b.is_const:
            number, other = (a, b) if a.is_const else (b, a)
            if number.elements == 1 and number.dtype == "float32":
                self.with_number(node, self.twin(other), number, a.is_const)
                return
        elif self.twin(a).source is self.twin(b).source and a.shape == b.shape:
            first, second = self.twin(a), self.twin(b)
            label = (*dict.fromkeys((*first.ops, *second.ops)), _label(node))
            self.result(
                node,
                _Twin(
                    first.source,
                    lambda v: real.binary(node, first.function(v), second.function(v)),
                    ops=label,
                ),
            )
            return
        self.quantized_op(node)

    def with_number(self, node: Node, twin: _Twin, number: Tensor, first: bool) -> None:
        if node.output.shape != twin.source.shape:
            raise _Stay
        assert number.data is not None
        c = number.data.reshape(()).astype(np.float32)
        rising = {
            "ADD": True,
            "SUB": not first,
            "MUL": bool(c >= 0),
            "DIV": not first and bool(c > 0),
            "MAXIMUM": True,
            "MINIMUM": True,
        }.get(node.op, False)

        def function(v: Array) -> Array:
            return real.binary(node, c, v) if first else real.binary(node, v, c)

        self.result(node, twin.then(node, function, rising))

    def result(self, node: Node, twin: _Twin) -> None:
        """Of arithmetic a twin, of a comparison a table of bool."""
        if node.output.dtype == "float32":
            self.twins[node.output] = twin
            return
        if twin.source.dtype != "int8":
            raise _Stay
        table = tuple(int(v) for v in twin.values)
        self.add(node, "LOOKUP", [twin.source], node.output, Lookup(table))
        self.note(twin.ops, "one table, exact")

    # ---- back to integers

    def quantize(self, node: Node) -> None:
        twin, y = self.twin(node.inputs[0]), node.output
        if y.qparams is None or y.dtype != "int8" or y.qparams.per_channel:
            raise _Stay
        if twin.own is not None and twin.own.same(y.qparams):
            self.add(node, "RESHAPE", [twin.source], y, NoAttrs())
        else:
            self.table(node, twin, y)
            if twin.ops:
                how = "one table" if twin.source.dtype == "int8" else "a search"
                self.note((*twin.ops, _label(node)), f"{how}, exact")

    def table(self, node: Node, twin: _Twin, y: Tensor) -> None:
        """y, which has a scale, from the twin's source."""
        q = y.qparams
        assert q is not None
        if twin.source.dtype == "int8":
            values = quantize(twin.values, q, 1)
            self.add(node, "LOOKUP", [twin.source], y, Lookup(tuple(values.tolist())))
            return
        if not twin.rising or twin.source.dtype != "int32":
            raise _Stay  # any number is possible, and nothing is known of what comes out

        def stored(v: Array) -> Array:
            found = twin.function(v)
            return quantize(np.where(np.isnan(found), np.float32(-np.inf), found), q, 1)

        boundaries = [v for v in np.unique(_boundaries(stored)).tolist() if v > -(2**31)]
        boundaries = boundaries or [2**31 - 1]
        results = stored(np.array([boundaries[0] - 1, *boundaries], np.int64))
        attrs = Search(tuple(boundaries), tuple(results.tolist()))
        self.add(node, "SEARCH", [twin.source], y, attrs)

    def to_whole(self, node: Node) -> None:
        """CAST drops what is behind the point."""
        twin = self.twin(node.inputs[0])
        if twin.source.dtype != "int8":
            raise _Stay
        values = np.trunc(np.nan_to_num(twin.values.astype(np.float64)))
        table = tuple(int(v) for v in np.clip(values, -(2.0**31), 2.0**31 - 1))
        self.add(node, "LOOKUP", [twin.source], node.output, Lookup(table))
        self.note((*twin.ops, _label(node)), "one table, exact")

    def realise(self, t: Tensor | None) -> None:
        """Makes the float tensor t for a node that reads it, or as an output."""
        if t is None or t not in self.twins or t in self.realised:
            return
        self.realised.add(t)
        try:
            q = self.stored_as(t, None)
            self.nodes.append(Node("DEQUANTIZE", [q], [t], NoAttrs(), t.name))
        except _Stay:
            origin = self.origin[t]  # as it was; check_storable() says what is wrong with it
            for x in origin.inputs:
                self.realise(x)
            self.nodes.append(origin)
            self.realised.update(origin.outputs)

    # ---- ops of int8 tensors

    def wanted(self, t: Tensor) -> QParams | None:
        """The scale of the first QUANTIZE behind t, if only moves lie between."""
        for _ in range(_FAR):
            users = self.consumers.get(t, [])
            for n in users:
                if n.op == "QUANTIZE" and n.output.dtype == "int8":
                    return n.output.qparams
            if len(users) != 1 or users[0].op not in _MOVES or len(users[0].outputs) != 1:
                return None
            t = users[0].output
        return None

    def stored_as(self, t: Tensor, q: QParams | None) -> Tensor:
        """An int8 tensor that holds t, with this scale or, for None, with one for its range."""
        if t.is_const:
            return _stored_constant(t, q)
        twin = self.twin(t)
        if twin.own is not None and (q is None or twin.own.same(q)):
            return twin.source
        if q is None:
            q = self.wanted(t)
        chosen = q is None
        if q is None:
            if twin.source.dtype != "int8":
                raise _Stay
            values = twin.values[np.isfinite(twin.values)]
            q = range_qparams(values.min(initial=0), values.max(initial=0))
        key = (id(t), float(q.scale), q.zero_point)
        if key not in self.stored:
            y = Tensor(f"{t.name}/stored", t.shape, "int8", q)
            self.table(Node("LOOKUP", [], [], NoAttrs(), t.name), twin, y)
            self.stored[key] = y
            if twin.ops:
                loss = f", SQNR {sqnr(twin.values, q):.1f} dB" if chosen else ""
                self.note(twin.ops, f"one table with scale {q.scale:.5g}{loss}")
        return self.stored[key]

    def quantized_op(self, node: Node) -> None:
        y = node.output
        if y.dtype != "float32":
            raise _Stay
        first = node.input(0)
        if node.op == "DIV" or (node.op == "MUL" and self.is_bent(node.input(1))):
            inputs, q = self.quotient(node)
        elif node.op in _FIXED:
            inputs, q = [self.stored_as(first, None)], _FIXED[node.op]
        elif node.op in ("MAXIMUM", "MINIMUM"):
            q = self.wanted(y) or _union([self.range(node.input(i)) for i in (0, 1)])
            inputs = [self.stored_as(node.input(i), q) for i in (0, 1)]
        elif node.op in _REDUCTIONS:
            inputs = [self.stored_as(first, None)]
            q = inputs[0].qparams or QParams.of(1)
            if node.op != "REDUCE_MAX":
                low, high = self.range(first)
                count = first.elements // y.elements if node.op == "SUM" else 1
                q = self.wanted(y) or range_qparams(low * count, high * count)
        else:
            inputs = [self.stored_as(node.input(i), None) for i in (0, 1)]
            q = self.wanted(y) or self.reach(node)
        self.emit(node, inputs, q)

    def emit(self, node: Node, inputs: Sequence[Tensor], q: QParams) -> None:
        y = node.output
        result = Tensor(f"{y.name}/stored", y.shape, "int8", q)
        op = "QUOTIENT" if isinstance(node.attrs, Quotient) else node.op
        self.add(node, op, inputs, result, node.attrs)
        scale, zero = q.scale, q.zero_point
        self.twins[y] = _Twin(result, lambda v: scale * (v - zero).astype(np.float32), q, True)
        own = self.wanted(y)
        origin = "of the QUANTIZE behind it" if own is not None and own.same(q) else "of its range"
        origin = "that it prescribes" if node.op in _FIXED else origin
        self.note((_label(node),), f"an op of int8, scale {q.scale:.5g} {origin}")

    def is_bent(self, t: Tensor) -> bool:
        return not t.is_const and self.twin(t).own is None

    def quotient(self, node: Node) -> tuple[list[Tensor], QParams]:
        """The second operand is any function of stored numbers; the first has a scale."""
        a, b = node.input(0), node.input(1)
        if b.is_const:
            raise _Stay  # several divisors that are no stored numbers
        twin = self.twin(b)
        if twin.source.dtype != "int8":
            raise _Stay
        with np.errstate(all="ignore"):
            wide = twin.values.astype(np.float64)
            factors = 1 / wide if node.op == "DIV" else wide
        x = self.stored_as(a, None)
        q = self.wanted(node.output)
        if q is None:
            found = factors[np.isfinite(factors)]
            if len(found) < 256:
                raise _Stay  # a division by zero has no range
            low, high = self.range(a)
            ends = np.outer([low, high], [found.min(), found.max()])
            q = range_qparams(ends.min(), ends.max())
        attrs = Quotient(tuple(factors.tolist()), node.attrs.activation)
        node.attrs = attrs
        return [x, twin.source], q

    def range(self, t: Tensor) -> tuple[float, float]:
        """What the stored numbers allow."""
        if t.is_const:
            assert t.data is not None
            return float(t.data.min()), float(t.data.max())
        twin = self.twin(t)
        if twin.source.dtype != "int8":
            raise _Stay
        values = twin.values[np.isfinite(twin.values)]
        return float(values.min(initial=0)), float(values.max(initial=0))

    def reach(self, node: Node) -> QParams:
        """A scale for all that ADD, SUB, MUL can give."""
        (a0, a1), (b0, b1) = (self.range(node.input(i)) for i in (0, 1))
        ends = {
            "ADD": [a0 + b0, a1 + b1],
            "SUB": [a0 - b1, a1 - b0],
            "MUL": [a0 * b0, a0 * b1, a1 * b0, a1 * b1],
            "SQUARED_DIFFERENCE": [0.0, (a0 - b1) ** 2, (a1 - b0) ** 2],
        }
        if node.op not in ends:
            raise _Stay
        active = real.activate(
            getattr(node.attrs, "activation", "NONE"), np.array(ends[node.op], np.float64)
        )
        return range_qparams(active.min(), active.max())

    # ---- moves

    def move(self, node: Node) -> None:
        twin = self.twin(node.inputs[0])
        if any(_is_float(t) for t in node.inputs[1:]):
            raise _Stay
        like = twin.source
        outputs = [replace(like, name=f"{t.name}/stored", shape=t.shape) for t in node.outputs]
        self.nodes.append(replace(node, inputs=[like, *node.inputs[1:]], outputs=list(outputs)))
        for t, y in zip(node.outputs, outputs):
            self.twins[t] = replace(twin, source=y)

    def merge(self, node: Node) -> None:
        inputs = [node.input(i) for i in range(len(node.inputs))]
        q = self.wanted(node.output) or _union([self.range(t) for t in inputs])
        self.emit(node, [self.stored_as(t, q) for t in inputs], q)

    # ---- the graph under construction

    def add(self, node: Node, op: str, inputs: Sequence[Tensor], y: Tensor, attrs: object) -> None:
        self.nodes.append(
            Node(op, list(inputs), [y], attrs, node.name or y.name, node.source_index)
        )

    def note(self, ops: Sequence[str], how: str) -> None:
        self.graph.notes.append(f"float {', '.join(ops)}: {how}")


def _boundaries(stored: Callable[[Array], Array]) -> Array:
    """For each int8 but the least: the least int32 whose result is at least that; those that no
    int32 reaches are left out."""
    levels = np.arange(-127, 128)
    top = stored(np.array([2**31 - 1], np.int64))[0]
    levels = levels[levels <= top]
    low = np.full(len(levels), -(2**31), np.int64)
    high = np.full(len(levels), 2**31 - 1, np.int64)
    while (low < high).any():
        middle = (low + high) >> 1
        reached = stored(middle) >= levels
        high = np.where(reached, middle, high)
        low = np.where(reached, low, np.minimum(middle + 1, high))
    return low


def range_qparams(low: float, high: float) -> QParams:
    """int8 over [low, high] and 0, which is exact."""
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    scale = np.float32(max((high - low) / 255, 1e-30))
    zero = int(np.clip(np.round(-128 - low / np.float64(scale)), -128, 127))
    return QParams.of(float(scale), zero)


def _union(ranges: Sequence[tuple[float, float]]) -> QParams:
    return range_qparams(min(r[0] for r in ranges), max(r[1] for r in ranges))


def _stored_constant(t: Tensor, q: QParams | None) -> Tensor:
    assert t.data is not None
    if t.dtype != "float32":
        raise _Stay
    q = q or range_qparams(float(t.data.min()), float(t.data.max()))
    return Tensor(f"{t.name}/stored", t.shape, "int8", q, quantize(t.data, q, t.data.ndim))


def sqnr(values: Array, q: QParams) -> float:
    """dB, over all values that can occur."""
    finite = values[np.isfinite(values)].astype(np.float64)
    error = finite - dequantize(quantize(finite, q, 1), q)
    power, noise = float((finite**2).sum()), float((error**2).sum())
    return float(10 * np.log10(max(power, 1e-300) / max(noise, 1e-300)))
