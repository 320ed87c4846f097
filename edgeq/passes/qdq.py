# SPDX-License-Identifier: Apache-2.0
"""DEQUANTIZE, an op on real numbers, QUANTIZE: one op on integers.

For each QUANTIZE the integers of its input are asked for, and so on upwards: an op on real numbers
is written in integers with the scale that is wanted of its result. What is only moved keeps its
integers; functions of one tensor become one UNARY, whatever ops they are made of; a bound (RELU,
Clip) behind another op is applied to that op's integers, which is the same since rounding keeps the
order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..errors import UnsupportedError
from ..ir.expression import Arg, Expression, Step
from ..ir.graph import Graph, Node, QParams, Tensor
from ..ir.ops import DepthwiseConv2D, LeakyRelu, NoAttrs, Pad, Pool, Unary
from .fold import remove_dead

_MOVES = frozenset(
    """RESHAPE TRANSPOSE SLICE SPLIT GATHER PAD MIRROR_PAD MAX_POOL_2D REDUCE_MAX COPY TOP_K
    RESIZE_NEAREST_NEIGHBOR SPACE_TO_DEPTH DEPTH_TO_SPACE PACK UNPACK""".split()  # noqa: SIM905
)
_WEIGHTED = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "TRANSPOSE_CONV": 0, "FULLY_CONNECTED": 0}
_ARITHMETIC = {"ADD": "add", "SUB": "sub", "MUL": "mul", "DIV": "div"}
_ARITHMETIC |= {"MAXIMUM": "max", "MINIMUM": "min"}
_FIXED = {
    "SOFTMAX": (1 / 256, -128),
    "LOG_SOFTMAX": (1 / 16, 127),
    "LOGISTIC": (1 / 256, -128),
    "TANH": (1 / 128, 0),
}
# Written in integers as they are, from integers to integers of any scale.
_DIRECT = frozenset(["MEAN", "SUM", "PRELU", "BATCH_MATMUL", "LAYER_NORM", "DIV"])
_MAX_STEPS = 64


class _Missing(Exception):
    """No scale is known where one is needed; the message says where."""


def absorb_qdq(graph: Graph) -> Graph:
    """Integer ops for all that lies between DEQUANTIZE and QUANTIZE.

    UnsupportedError names each op on real numbers whose result has no scale.
    """
    _Absorption(graph).run()
    remove_dead(graph)
    graph.verify()
    return graph


class _Absorption:
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
            except _Missing as e:
                self.problems.append(str(e))
        for y in self.graph.outputs:
            try:
                self.output(y)
            except _Missing as e:
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
        if integers is None and producer.op in _FIXED:
            scale, zero = _FIXED[producer.op]
            like = self.tensor(y, QParams.of(scale, zero), self.source(producer))
            integers = self.integers(y, like)
        if integers is None:
            raise _Missing(
                f"{_label(producer)}: output {y.name!r} has no QuantizeLinear before it; quantize"
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
            before = "a float input" if producer is None else _label(producer)
            raise _Missing(f"{before}: there is no QuantizeLinear between it and {_label(node)}")
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
        if node.op in _MOVES:
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
            if _same(found, y):
                return found
            return self.emit(node, "QUANTIZE", [found], y, NoAttrs())
        rule = _RULES.get(node.op)
        if rule is not None:
            return rule(self, node, t, y)
        made = self.function(t)
        if made is not None:
            return self.emit(node, "UNARY", [made[0]], y, Unary(made[1]))
        raise _Missing(f"{_label(node)}: it cannot be computed in integers")

    def emit(
        self, node: Node, op: str, inputs: list[Tensor | None], y: Tensor, attrs: object
    ) -> Tensor:
        self.write(replace(node, op=op, inputs=inputs, outputs=[y], attrs=attrs))
        return y

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
            expression = _expression(node)
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


def _expression(node: Node) -> Expression | None:
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


def _same(a: Tensor, b: Tensor) -> bool:
    return a.qparams is not None and a.qparams.same(b.qparams) and a.source_dtype == b.source_dtype


def _label(node: Node) -> str:
    return f"op {node.source_index} {node.op} {node.name!r}"


# ---- ops


def _weighted(a: _Absorption, node: Node, t: Tensor, y: Tensor) -> Tensor:
    axis = _WEIGHTED[node.op]
    x, w = a.need(node.input(0), node), node.input(1)
    if w.data is None:
        raise _Missing(f"{_label(node)}: its weights are not constant")
    if w.qparams is None:
        w = _own_weights(w, axis)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    assert x.qparams is not None and w.qparams is not None
    if bias is not None:
        scales = x.qparams.scale.astype(np.float64) * w.qparams.scales.astype(np.float64)
        bias = _bias(bias, scales)
    return a.emit(node, node.op, [x, w, bias], y, node.attrs)


def _own_weights(w: Tensor, axis: int) -> Tensor:
    """Weights that the file left as floats, symmetric with a scale for each channel."""
    assert w.data is not None
    others = tuple(i for i in range(w.data.ndim) if i != axis)
    scales = np.maximum(np.abs(w.data).max(others), 1e-30) / np.float32(127)
    shape = [-1 if i == axis else 1 for i in range(w.data.ndim)]
    data = np.rint(w.data / scales.reshape(shape)).astype(np.int8)
    q = QParams(scales.astype(np.float32), np.zeros(len(scales), np.int32), axis)
    return Tensor(w.name, w.shape, "int8", q, data)


def _bias(bias: Tensor, scales: np.ndarray) -> Tensor:  # type: ignore[type-arg]
    """int32 on the scale of the accumulators."""
    assert bias.data is not None
    q, data = bias.qparams, bias.data.reshape(-1)
    if q is not None:
        given = np.broadcast_to(q.scales.astype(np.float64), data.shape)
        same = np.allclose(given, scales, rtol=1e-6, atol=0) and not q.zero_points.any()
        real = data if same else (data - q.zero_points.astype(np.float64)) * given / scales
    else:
        real = data.astype(np.float64) / scales
    limit = 2.0**31 - 1
    rounded = np.clip(np.rint(np.asarray(real, np.float64)), -limit, limit).astype(np.int32)
    made = QParams(
        np.broadcast_to(scales, data.shape).astype(np.float32), np.zeros(len(data), np.int32)
    )
    return Tensor(bias.name, data.shape, "int32", made, rounded)


def _moving(a: _Absorption, node: Node, t: Tensor, y: Tensor) -> Tensor:
    """A move of what is no integer yet: the integers are made before it."""
    q = y.qparams
    assert q is not None
    x = node.input(0)
    x8 = a.integers(x, a.tensor(x, q, y.source_dtype))
    return a.moved(node, t, x8)


def _extremum(a: _Absorption, node: Node, t: Tensor, y: Tensor) -> Tensor:
    made = a.function(t)
    if made is not None:
        return a.emit(node, "UNARY", [made[0]], y, Unary(made[1]))
    return a.emit(node, node.op, [_operand(a, x, y) for x in node.inputs], y, node.attrs)


def _operand(a: _Absorption, x: Tensor | None, y: Tensor) -> Tensor:
    """x with the scale of y."""
    assert x is not None and y.qparams is not None
    like = a.tensor(x, y.qparams, y.source_dtype)
    if x.data is None:
        return a.integers(x, like)
    steps = np.rint(x.data / y.qparams.scale) + y.qparams.zero_point
    return replace(like, data=np.clip(steps, -128, 127).astype(np.int8))


def _arithmetic(a: _Absorption, node: Node, t: Tensor, y: Tensor) -> Tensor:
    made = a.function(t)
    if made is not None:
        return a.emit(node, "UNARY", [made[0]], y, Unary(made[1]))
    return _direct(a, node, t, y)


def _direct(a: _Absorption, node: Node, t: Tensor, y: Tensor) -> Tensor:
    inputs: list[Tensor | None] = []
    for x in node.inputs:
        if x is None or x.data is None:
            inputs.append(x if x is None else a.need(x, node))
        else:
            inputs.append(_own_constant(x))
    return a.emit(node, node.op, inputs, y, node.attrs)


def _own_constant(t: Tensor) -> Tensor:
    """A constant that the file left as floats, over its own range."""
    assert t.data is not None
    low, high = min(0.0, float(t.data.min())), max(0.0, float(t.data.max()))
    scale = max(high - low, 1e-30) / 255
    q = QParams.of(scale, int(np.clip(np.rint(-128 - low / scale), -128, 127)))
    steps = np.rint(t.data / q.scale) + q.zero_point
    return Tensor(t.name, t.shape, "int8", q, np.clip(steps, -128, 127).astype(np.int8))


def _concatenation(a: _Absorption, node: Node, t: Tensor, y: Tensor) -> Tensor:
    """Parts of other scales are rescaled by the op itself."""
    inputs: list[Tensor | None] = []
    for x in node.inputs:
        assert x is not None
        inputs.append(a.exactly(x) or _operand(a, x, y))
    return a.emit(node, node.op, inputs, y, node.attrs)


def _fixed(a: _Absorption, node: Node, t: Tensor, y: Tensor) -> Tensor:
    """SOFTMAX and LOG_SOFTMAX have one output scale; others are rescaled from it."""
    scale, zero = _FIXED[node.op]
    x = a.need(node.input(0), node)
    q = y.qparams
    assert q is not None
    if abs(float(q.scale) - scale) <= 1e-3 * scale and q.zero_point == zero:
        return a.emit(node, node.op, [x], y, node.attrs)
    first = a.tensor(t, QParams.of(scale, zero), y.source_dtype)
    a.emit(node, node.op, [x], first, node.attrs)
    return a.emit(node, "QUANTIZE", [first], y, NoAttrs())


def _bound(a: _Absorption, node: Node, t: Tensor, y: Tensor) -> Tensor:
    """RELU and its kin, and UNARY: of integers a table, of another op's result applied to it."""
    made = a.function(t)
    if made is not None:
        return a.emit(node, "UNARY", [made[0]], y, Unary(made[1]))
    x = node.input(0)
    expression = _expression(node)
    if expression is None or not _clamps(expression):
        raise _Missing(
            f"{_label(a.producers[x])}: there is no QuantizeLinear between it and {_label(node)}"
        )
    q = y.qparams
    assert q is not None
    x8 = a.integers(x, a.tensor(x, q, y.source_dtype))
    return a.emit(node, node.op, [x8], y, node.attrs)


def _clamps(e: Expression) -> bool:
    """Whether only bounds are applied, one to the other's result."""
    return all(
        s.function in ("min", "max") and s.args[0] == i and isinstance(s.args[1], float)
        for i, s in enumerate(e.steps)
    )


def _average_pool(a: _Absorption, node: Node, t: Tensor, y: Tensor) -> Tensor:
    """With another scale behind it: a sum with weights of 1, whose scale divides by their number,
    so that it rounds once."""
    x, p = a.need(node.input(0), node), node.attrs
    assert isinstance(p, Pool)
    if _same(x, y):
        return a.emit(node, node.op, [x], y, p)
    before = (p.pad_top, p.pad_left)
    padded = any(before) or any(
        (y.shape[1 + i] - 1) * p.stride[i] + p.kernel[i] > x.shape[1 + i] for i in (0, 1)
    )
    if padded:  # windows of different sizes
        first = a.tensor(t, x.qparams or QParams.of(1), x.source_dtype)
        a.emit(node, node.op, [x], first, p)
        return a.emit(node, "QUANTIZE", [first], y, NoAttrs())
    channels = x.shape[3]
    ones = np.ones((1, *p.kernel, channels), np.int8)
    q = QParams.of(1 / (p.kernel[0] * p.kernel[1]))
    w = Tensor(f"{node.name}/ones", ones.shape, "int8", q, ones)
    attrs = DepthwiseConv2D(p.stride, (1, 1), 0, 0, 1, p.activation)
    return a.emit(node, "DEPTHWISE_CONV_2D", [x, w, None], y, attrs)


def _resize(a: _Absorption, node: Node, t: Tensor, y: Tensor) -> Tensor:
    """RESIZE_BILINEAR keeps its input's scale."""
    x = a.need(node.input(0), node)
    if _same(x, y):
        return a.emit(node, node.op, [x], y, node.attrs)
    assert x.qparams is not None
    first = a.tensor(t, x.qparams, x.source_dtype)
    a.emit(node, node.op, [x], first, node.attrs)
    return a.emit(node, "QUANTIZE", [first], y, NoAttrs())


_Rule = Callable[[_Absorption, Node, Tensor, Tensor], Tensor]
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(_MOVES, _moving),
    **dict.fromkeys(_WEIGHTED, _weighted),
    **dict.fromkeys(_DIRECT, _direct),
    **dict.fromkeys(["ADD", "SUB", "MUL", "DIV"], _arithmetic),
    **dict.fromkeys(["MAXIMUM", "MINIMUM"], _extremum),
    **dict.fromkeys(["RELU", "RELU6", "RELU_N1_TO_1", "UNARY"], _bound),
    **dict.fromkeys(["LOGISTIC", "TANH", "HARD_SWISH", "LEAKY_RELU"], _bound),
    **dict.fromkeys(["SOFTMAX", "LOG_SOFTMAX"], _fixed),
    "CONCATENATION": _concatenation,
    "AVERAGE_POOL_2D": _average_pool,
    "RESIZE_BILINEAR": _resize,
}
