# SPDX-License-Identifier: Apache-2.0
"""DEQUANTIZE, an op on real numbers, QUANTIZE: one op on integers.

For each QUANTIZE the integers of its input are asked for, and so on upwards: an op on real numbers
is written in integers with the scale that is wanted of its result. What is only moved keeps its
integers; functions of one tensor become one UNARY, whatever ops they are made of; a bound (RELU,
Clip) behind another op is applied to that op's integers, which is the same since rounding keeps the
order.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import UnsupportedError
from ..ir.expression import Arg, Expression, Step
from ..ir.graph import Graph, Node, QParams, Tensor
from ..ir.ops import LeakyRelu, NoAttrs, Pad, Unary
from .fold import remove_dead

MOVES = frozenset(
    """RESHAPE TRANSPOSE SLICE SPLIT GATHER PAD MIRROR_PAD MAX_POOL_2D REDUCE_MAX COPY TOP_K
    RESIZE_NEAREST_NEIGHBOR SPACE_TO_DEPTH DEPTH_TO_SPACE PACK UNPACK""".split()  # noqa: SIM905
)
_ARITHMETIC = {"ADD": "add", "SUB": "sub", "MUL": "mul", "DIV": "div"}
_ARITHMETIC |= {"MAXIMUM": "max", "MINIMUM": "min"}
FIXED = {
    "SOFTMAX": (1 / 256, -128),
    "LOG_SOFTMAX": (1 / 16, 127),
    "LOGISTIC": (1 / 256, -128),
    "TANH": (1 / 128, 0),
}
_MAX_STEPS = 64


class Missing(Exception):
    """No scale is known where one is needed; the message says where."""


def absorb_qdq(graph: Graph) -> Graph:
    """Integer ops for all that lies between DEQUANTIZE and QUANTIZE.

    UnsupportedError names each op on real numbers whose result has no scale.
    """
    Absorption(graph).run()
    remove_dead(graph)
    graph.verify()
    return graph


class Absorption:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producers = graph.producers()
        self.nodes: list[Node] = []
        self.alias: dict[Tensor, Tensor] = {}  # int8 tensor -> the one that holds the same
        self.exact: dict[Tensor, Tensor | None] = {}
        self.made: dict[tuple[int, float, int, str], Tensor] = {}
        self.split: dict[Node, list[Tensor]] = {}
        self.problems: list[str] = []

    def run(self) -> None:
        for node in self.graph.nodes:
            try:
                self.visit(node)
            except Missing as e:
                self.problems.append(str(e))
        for y in self.graph.outputs:
            try:
                self.output(y)
            except Missing as e:
                self.problems.append(str(e))
        if self.problems:
            problems = list(dict.fromkeys(self.problems))
            name = self.graph.name or "the network"
            raise UnsupportedError(
                f"{name}: it is quantized in part, and these have no scale", problems
            )
        self.graph.nodes = self.nodes

    def visit(self, node: Node) -> None:
        x = node.inputs[0]
        if node.op == "QUANTIZE" and x is not None and x.dtype == "float32":
            if x in self.producers:
                self.quantize(node)
            else:
                self.nodes.append(node)
        elif node.op == "ARG_MAX" and x is not None and x.dtype == "float32":
            self.write(replace(node, inputs=[self.need(x, node)]))
        elif all(t.dtype != "float32" for t in node.outputs) and node.op != "QUANTIZE":
            self.write(node)

    def write(self, node: Node) -> None:
        """Adds a node on integers; what it reads may have another name by now."""
        self.nodes.append(
            replace(node, inputs=[None if t is None else self.alias.get(t, t) for t in node.inputs])
        )

    def quantize(self, node: Node) -> None:
        y = node.output
        found = self.integers(node.input(0), y)
        if found is y:
            return
        if y in self.graph.results():
            self.write(Node("COPY", [found], [y], NoAttrs(), node.name, node.source_index))
        else:
            self.alias[y] = found

    def output(self, y: Tensor) -> None:
        """A float32 output: DEQUANTIZE of integers."""
        producer = self.producers.get(y)
        if y.dtype != "float32" or producer is None:
            return
        if producer.op == "DEQUANTIZE":
            self.write(producer)
            return
        integers = self.exactly(y)
        if integers is None and producer.op in FIXED:
            scale, zero = FIXED[producer.op]
            like = self.tensor(y, QParams.of(scale, zero), self.source(producer))
            integers = self.integers(y, like)
        if integers is None:
            raise Missing(
                f"{describe(producer)}: output {y.name!r} has no QuantizeLinear before it; quantize"
                " the network with its outputs, or convert the float network"
            )
        name = f"{producer.name}/real"
        self.write(Node("DEQUANTIZE", [integers], [y], NoAttrs(), name, producer.source_index))

    def source(self, node: Node) -> str:
        """The source_dtype of what a node computes from."""
        integers = self.exactly(node.input(0))
        return "int8" if integers is None else integers.source_dtype

    # ---- tensors

    def tensor(self, t: Tensor, q: QParams, source: str) -> Tensor:
        return Tensor(f"{t.name}/quantized", t.shape, "int8", q, None, source)

    def need(self, t: Tensor, node: Node) -> Tensor:
        """The integers of t, which must be known without rounding."""
        found = self.exactly(t)
        if found is None:
            producer = self.producers.get(t)
            before = "a float input" if producer is None else describe(producer)
            raise Missing(f"{before}: there is no QuantizeLinear between it and {describe(node)}")
        return found

    def exactly(self, t: Tensor) -> Tensor | None:
        """Integers with a scale that are t: what was dequantized, and what only moves it."""
        if t not in self.exact:
            self.exact[t] = self.find(t)
        return self.exact[t]

    def find(self, t: Tensor) -> Tensor | None:
        node = self.producers.get(t)
        if t.is_const or node is None:
            return None
        if node.op == "DEQUANTIZE":
            x = node.input(0)
            return self.alias.get(x, x) if x.dtype == "int8" and x.qparams is not None else None
        if node.op in MOVES:
            x8 = self.exactly(node.input(0))
            return None if x8 is None else self.moved(node, t, x8)
        if node.op == "CONCATENATION":
            parts = [self.exactly(node.input(i)) for i in range(len(node.inputs))]
            first = parts[0]
            if first is None or first.qparams is None:
                return None
            if any(p is None or not first.qparams.same(p.qparams) for p in parts):
                return None
            y = self.tensor(t, first.qparams, first.source_dtype)
            self.write(replace(node, inputs=list(parts), outputs=[y]))
            return y
        return None

    def moved(self, node: Node, t: Tensor, x8: Tensor) -> Tensor:
        """t, an output of the move `node`, from the integers of its input."""
        q = x8.qparams
        assert q is not None
        key = replace(node)  # one for each set of integers
        attrs = node.attrs
        if isinstance(attrs, Pad):
            steps = np.rint(attrs.value / q.scale) + q.zero_point
            attrs = replace(attrs, value=int(np.clip(steps, -128, 127)))
        known = self.split.get(node)
        if known is None or known[0].qparams is not q:
            known = [
                self.tensor(y, q, x8.source_dtype) if y.dtype == "float32" else y
                for y in node.outputs
            ]
            self.write(
                replace(key, inputs=[x8, *node.inputs[1:]], outputs=list(known), attrs=attrs)
            )
            self.split[node] = known
        return known[node.outputs.index(t)]

    # ---- integers with a wanted scale

    def integers(self, t: Tensor, like: Tensor) -> Tensor:
        """Integers that are t rounded to the scale of `like`; `like` itself is written if none is
        there yet."""
        q = like.qparams
        assert q is not None
        key = (id(t), float(q.scale), q.zero_point, like.source_dtype)
        if key not in self.made:
            self.made[key] = self.make(t, like)
        return self.made[key]

    def make(self, t: Tensor, y: Tensor) -> Tensor:
        if t not in self.producers:  # an input of the graph
            self.write(Node("QUANTIZE", [t], [y], NoAttrs(), t.name))
            return y
        found = self.exactly(t)
        node = self.producers[t]
        if found is not None:
            if same(found, y):
                return found
            return self.rescaled(node, found, y)
        from .qdq_rules import RULES

        rule = RULES.get(node.op)
        if rule is not None:
            return rule(self, node, t, y)
        made = self.function(t)
        if made is not None:
            return self.emit(node, "UNARY", [made[0]], y, Unary(made[1], even=True))
        raise Missing(f"{describe(node)}: it cannot be computed in integers")

    def emit(
        self, node: Node, op: str, inputs: list[Tensor | None], y: Tensor, attrs: object
    ) -> Tensor:
        self.write(replace(node, op=op, inputs=inputs, outputs=[y], attrs=attrs))
        return y

    def rescaled(self, node: Node, x: Tensor, y: Tensor) -> Tensor:
        """x with the scale of y, rounded once; QUANTIZE would round twice, as TFLite does."""
        return self.emit(node, "UNARY", [x], y, Unary(Expression(), even=True))

    # ---- functions of one tensor

    def function(self, t: Tensor) -> tuple[Tensor, Expression] | None:
        """(integers, f) where t is f of them, element by element."""
        steps: list[Step] = []
        values: dict[Tensor, Arg] = {}
        base: list[tuple[Tensor, Tensor]] = []  # real, integers

        def value(t: Tensor) -> Arg | None:
            if t not in values:
                found = compute(t)
                if found is None:
                    return None
                values[t] = found
            return values[t]

        def compute(t: Tensor) -> Arg | None:
            if t.data is not None:
                return float(t.data.reshape(-1)[0]) if t.elements == 1 else None
            integers = self.exactly(t)
            if integers is not None:
                if base and base[0][1] is not integers:
                    return None
                base[:] = [(t, integers)]
                return 0
            node = self.producers.get(t)
            if node is None or len(steps) > _MAX_STEPS:
                return None
            if node.op in _ARITHMETIC:
                if getattr(node.attrs, "activation", "NONE") != "NONE":
                    return None
                args = [value(node.input(0)), value(node.input(1))]
                if args[0] is None or args[1] is None:
                    return None
                steps.append(Step(_ARITHMETIC[node.op], (args[0], args[1])))
                return len(steps)
            expression = unary_expression(node)
            x = None if expression is None else value(node.input(0))
            if expression is None or x is None:
                return None
            return _append(steps, expression, x)

        last = value(t)
        if last is None or not base or base[0][0].shape != t.shape or last != len(steps):
            return None
        return base[0][1], Expression(tuple(steps))


def _append(steps: list[Step], expression: Expression, x: Arg) -> Arg:
    """The value of `expression` of x, its steps behind `steps`."""
    shift = len(steps)
    for s in expression.steps:
        args = tuple(a if isinstance(a, float) else (x if a == 0 else a + shift) for a in s.args)
        steps.append(Step(s.function, args))
    return len(steps) if expression.steps else x


def unary_expression(node: Node) -> Expression | None:
    """The function of a unary op."""
    if isinstance(node.attrs, Unary):
        return node.attrs.expression
    if isinstance(node.attrs, LeakyRelu):
        low, high = Step("min", (0, 0.0)), Step("max", (0, 0.0))
        return Expression(
            (low, Step("mul", (1, float(node.attrs.alpha))), high, Step("add", (2, 3)))
        )
    named: dict[str, tuple[Step, ...]] = {
        "RELU": (Step("max", (0, 0.0)),),
        "RELU6": (Step("max", (0, 0.0)), Step("min", (1, 6.0))),
        "RELU_N1_TO_1": (Step("max", (0, -1.0)), Step("min", (1, 1.0))),
        "LOGISTIC": (Step("logistic", (0,)),),
        "TANH": (Step("tanh", (0,)),),
        "HARD_SWISH": (
            Step("add", (0, 3.0)),
            Step("max", (1, 0.0)),
            Step("min", (2, 6.0)),
            Step("mul", (0, 3)),
            Step("div", (4, 6.0)),
        ),
        "COPY": (),
    }
    return Expression(named[node.op]) if node.op in named else None


def same(a: Tensor, b: Tensor) -> bool:
    return a.qparams is not None and a.qparams.same(b.qparams) and a.source_dtype == b.source_dtype


def describe(node: Node) -> str:
    return f"op {node.source_index} {node.op} {node.name!r}"
