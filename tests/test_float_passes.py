# SPDX-License-Identifier: Apache-2.0
"""The passes of float graphs: what they make of small graphs, which compute the same afterwards.

Everything is run by the float runner before and after; test_float_zoo.py has whole networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from edgeq.ir.evaluate import evaluate
from edgeq.ir.expression import Expression, Step
from edgeq.ir.graph import Graph, Node, QParams, Quantized, State, Tensor
from edgeq.ir.named import NAMED, affine, leaky, recognise
from edgeq.ir.ops import (
    Arithmetic,
    Axis,
    Conv2D,
    CumSum,
    DepthwiseConv2D,
    FullyConnected,
    Gather,
    LeakyRelu,
    MatMul,
    NoAttrs,
    Norm,
    Pad,
    Pool,
    Reduce,
    Transpose,
    TransposeConv,
    Unary,
)
from edgeq.passes import float_nodes, run_float_passes, run_passes
from edgeq.passes.affine import fold_affine
from edgeq.passes.forms import canonical
from edgeq.passes.fuse import fuse
from edgeq.passes.norm import norm
from edgeq.passes.unary import MAX_STEPS, unary

pytest.importorskip("onnxruntime")
from floats import deviation, run_graph

Shape = tuple[int, ...]
Pass = Callable[[Graph], Graph]
PIXELS = (1, 6, 5, 4)


class Builder:
    """A float graph, node by node."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.graph = Graph([], [], [])

    def input(self, *shape: int) -> Tensor:
        t = Tensor(f"x{len(self.graph.inputs)}", shape, "float32")
        self.graph.inputs.append(t)
        self.graph.input_dtypes.append("float32")
        return t

    def const(self, *shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
        data = self.rng.uniform(low, high, shape).astype(np.float32)
        return Tensor("c", shape, "float32", data=data)

    def number(self, value: float, *shape: int) -> Tensor:
        return Tensor("n", shape, "float32", data=np.full(shape, value, np.float32))

    def op(
        self, op: str, inputs: Sequence[Tensor | None], shape: Shape, attrs: Any = None
    ) -> Tensor:
        y = Tensor(f"t{len(self.graph.nodes)}", shape, "float32")
        self.graph.nodes.append(Node(op, list(inputs), [y], attrs or NoAttrs(), y.name))
        return y

    def pair(self, op: str, a: Tensor, b: Tensor, activation: str = "NONE") -> Tensor:
        attrs = NoAttrs() if op in ("MAXIMUM", "MINIMUM") else Arithmetic(activation)
        return self.op(op, [a, b], np.broadcast_shapes(a.shape, b.shape), attrs)

    def each(self, function: str, x: Tensor, *args: Any) -> Tensor:
        return self.op("UNARY", [x], x.shape, Unary(Expression.of(function, *args)))

    def named(self, op: str, x: Tensor) -> Tensor:
        return self.op(op, [x], x.shape)

    def conv(self, x: Tensor, channels: int = 4, k: int = 3, pad: int = 1) -> Tensor:
        n, h, w, c = x.shape
        size = (h + 2 * pad - k + 1, w + 2 * pad - k + 1)
        operands = [x, self.const(channels, k, k, c), self.const(channels)]
        return self.op("CONV_2D", operands, (n, *size, channels), Conv2D((1, 1), (1, 1), pad, pad))

    def output(self, *tensors: Tensor) -> Graph:
        self.graph.outputs += tensors
        self.graph.output_dtypes += [t.dtype for t in tensors]
        self.graph.verify()
        return self.graph


@pytest.fixture
def b() -> Builder:
    return Builder()


def apply(graph: Graph, *passes: Pass, low: float = -4.0, tolerance: float = 1e-5) -> Graph:
    """What the passes make of a graph, having compared what both compute."""
    rng = np.random.default_rng(1)
    inputs = [rng.uniform(low, 4, t.shape).astype(np.float32) for t in graph.inputs]
    want, new = run_graph(graph, inputs), graph.copy()
    for rewrite in passes:
        new = rewrite(new)
    assert deviation(run_graph(new, inputs), want) <= tolerance
    return new


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


# ---- constants


def test_constants_fold(b: Builder) -> None:
    c, d = b.const(2, 3, 4, low=0.1), b.const(4, low=0.1)
    t = b.pair("DIV", b.each("log", b.pair("ADD", c, d, "RELU6")), d)
    t = b.op("MEAN", [b.named("HARD_SWISH", t)], (2, 3, 1), Reduce((2,)))
    t = b.pair("MAXIMUM", b.named("TANH", t), b.number(0.1))
    t = b.op("BATCH_MATMUL", [b.const(2, 5, 3), t], (2, 5, 1), MatMul())
    rows = Tensor("i", (2,), "int32", data=np.array([4, 1], np.int32))
    t = b.op("GATHER", [t, rows], (2, 2, 1), Gather(1))
    y = b.pair("MUL", b.input(2, 2, 1), t)
    new = apply(b.output(y), run_float_passes)
    assert ops(new) == ["MUL"]


def test_quantized_constants_do_not_fold_as_floats() -> None:
    q = QParams.of(0.1)
    x = Tensor("x", (2,), "int8", q, np.array([1, 2], np.int8))
    node = Node("ADD", [x, x], [Tensor("y", (2,), "int8", q)], Arithmetic(), "y")
    assert evaluate(node) is None
    assert evaluate(Node("RELU", [x], [Tensor("y", (2,), "int8", q)], NoAttrs(), "y")) is None


# ---- batch normalization


def layer(b: Builder, kind: str, activation: str = "NONE") -> tuple[Tensor, Node]:
    if kind == "FULLY_CONNECTED":
        x, w = b.input(2, 3, 5), b.const(4, 5)
        y = b.op(kind, [x, w, None], (2, 3, 4), FullyConnected(activation))
    elif kind == "DEPTHWISE_CONV_2D":
        attrs: Any = DepthwiseConv2D((1, 1), (1, 1), 1, 1, 2, activation)
        y = b.op(kind, [b.input(1, 6, 5, 2), b.const(1, 3, 3, 4), b.const(4)], PIXELS, attrs)
    elif kind == "TRANSPOSE_CONV":
        attrs = TransposeConv((2, 1), 0, 1, activation)
        y = b.op(kind, [b.input(1, 3, 5, 3), b.const(4, 2, 3, 3), b.const(4)], PIXELS, attrs)
    else:
        attrs = Conv2D((1, 1), (1, 1), 1, 1, 1, activation)
        y = b.op(kind, [b.input(1, 6, 5, 3), b.const(4, 3, 3, 3), b.const(4)], PIXELS, attrs)
    return y, b.graph.nodes[-1]


LAYERS = ["CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"]


@pytest.mark.parametrize("kind", LAYERS)
def test_affine_behind(kind: str, b: Builder) -> None:
    y, _ = layer(b, kind)
    one = (1,) * (len(y.shape) - 1)
    y = b.pair("MUL", y, b.const(4))
    y = b.pair("ADD", b.const(*one, 4), y)
    y = b.pair("SUB", y, b.const(1))
    y = b.pair("DIV", y, b.const(4, low=0.5))
    y = b.pair("SUB", b.const(4), y, "RELU")
    new = apply(b.output(y), fold_affine)
    assert ops(new) == [kind]
    assert new.nodes[0].attrs.activation == "RELU"
    assert new.nodes[0].output.name == y.name
    assert new.nodes[0].inputs[2] is not None


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_scale_behind_a_relu(sign: float, b: Builder) -> None:
    """What is not below zero may be scaled before it is clamped, unless the sign changes."""
    y = b.named("RELU", b.conv(b.input(*PIXELS)))
    scale = b.const(4, low=0.5)
    assert scale.data is not None
    scale.data = scale.data * np.float32(sign)
    new = apply(b.output(b.pair("MUL", y, scale)), fuse, fold_affine)
    assert ops(new) == (["CONV_2D"] if sign > 0 else ["CONV_2D", "MUL"])
    assert new.nodes[0].attrs.activation == "RELU"


def test_affine_behind_is_left(b: Builder) -> None:
    """With an activation between, another reader, an output, other constants."""
    with_activation, _ = layer(b, "CONV_2D", "RELU6")
    y1 = b.pair("MUL", with_activation, b.const(4))
    read_twice, _ = layer(b, "CONV_2D")
    y2 = b.pair("MUL", read_twice, b.const(4))
    y3 = b.named("TANH", read_twice)
    out, _ = layer(b, "CONV_2D")
    y4 = b.pair("MUL", out, b.const(4))
    of_pixels, _ = layer(b, "CONV_2D")
    y5 = b.pair("MUL", of_pixels, b.const(1, 6, 5, 1))
    quotient, _ = layer(b, "CONV_2D")
    y6 = b.pair("DIV", b.const(4), quotient)
    graph = b.output(y1, y2, y3, out, y4, y5, y6)
    before = ops(graph)
    assert ops(apply(graph, fold_affine, tolerance=1e-3)) == before


def test_affine_before(b: Builder) -> None:
    """A scale goes into any layer's weights, a shift where there is no padding."""
    x = b.input(*PIXELS)
    scaled = b.pair("MUL", x, b.const(4))
    shifted = b.pair("ADD", b.pair("MUL", b.named("TANH", x), b.const(4)), b.const(4))
    padded = b.pair("ADD", b.named("LOGISTIC", x), b.const(4))
    y1 = b.conv(scaled)
    y2 = b.op("DEPTHWISE_CONV_2D", [scaled, b.const(1, 3, 3, 8), b.const(8)], (1, 6, 5, 8),
              DepthwiseConv2D((1, 1), (1, 1), 1, 1, 2))  # fmt: skip
    y3 = b.conv(shifted, 3, 3, 0)
    y4 = b.op("FULLY_CONNECTED", [shifted, b.const(3, 4), None], (1, 6, 5, 3), FullyConnected())
    y5 = b.conv(padded, 3, 3, 1)
    y6 = b.op("CONV_2D", [scaled, b.const(6, 3, 3, 2), None], (1, 6, 5, 6),
              Conv2D((1, 1), (1, 1), 1, 1, 2))  # fmt: skip
    new = apply(b.output(y1, y2, y3, y4, y5, y6), fold_affine)
    assert sorted(ops(new)) == sorted(
        ["TANH", "LOGISTIC", "ADD", "CONV_2D", "CONV_2D", "CONV_2D", "CONV_2D",
         "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"]
    )  # fmt: skip
    (left,) = (n for n in new.nodes if n.op == "ADD")
    assert left.output.name == padded.name


@pytest.mark.parametrize("sign", [1, -1])
def test_scaled_weights_keep_their_bytes(sign: int, b: Builder) -> None:
    """Where only scales change; those of a negative one are others."""
    y, node = layer(b, "CONV_2D")
    w = node.input(1)
    stored = b.rng.integers(-127, 128, w.shape).astype(np.int8)
    q = QParams(np.full(4, 0.01, np.float32), np.zeros(4, np.int32), 0)
    w.data = (stored * np.float32(0.01)).astype(np.float32)
    w.origin = Quantized(stored, q)
    scale = b.const(4, low=0.5)
    assert scale.data is not None
    scale.data = scale.data * np.float32(sign)
    new = apply(b.output(b.pair("MUL", y, scale)), fold_affine).nodes[0].input(1)
    if sign < 0:
        assert new.origin is None
    else:
        assert new.origin is not None and new.data is not None
        again = new.origin.data * new.origin.qparams.scales.reshape(-1, 1, 1, 1)
        np.testing.assert_allclose(again, new.data, rtol=1e-6)


# ---- functions of single numbers


def silu(b: Builder, x: Tensor) -> Tensor:
    return b.pair("MUL", x, b.named("LOGISTIC", x))


def hard_swish(b: Builder, x: Tensor) -> Tensor:
    six = b.named("RELU6", b.pair("ADD", x, b.number(3)))
    return b.pair("MUL", b.pair("MUL", x, six), b.number(1 / 6))


def hard_swish_of_a_hard_sigmoid(b: Builder, x: Tensor) -> Tensor:
    t = b.pair("ADD", b.pair("MUL", x, b.number(1 / 6)), b.number(0.5, 1, 1, 1, 1))
    return b.pair("MUL", b.pair("MINIMUM", b.pair("MAXIMUM", t, b.number(0)), b.number(1)), x)


def sigmoid(b: Builder, x: Tensor) -> Tensor:
    return b.pair("DIV", b.number(1), b.pair("ADD", b.each("exp", b.each("neg", x)), b.number(1)))


def tanh(b: Builder, x: Tensor) -> Tensor:
    two = b.named("LOGISTIC", b.pair("MUL", x, b.number(2)))
    return b.pair("SUB", b.pair("MUL", two, b.number(2)), b.number(1))


def leaky_by_maximum(b: Builder, x: Tensor) -> Tensor:
    return b.pair("MAXIMUM", x, b.pair("MUL", x, b.number(0.125)))


def leaky_by_prelu(b: Builder, x: Tensor) -> Tensor:
    return b.op("PRELU", [x, b.number(0.125, x.shape[-1])], x.shape)


def relu6(b: Builder, x: Tensor) -> Tensor:
    return b.pair("MINIMUM", b.pair("ADD", x, b.number(0), "RELU"), b.number(6, 4))


def gelu(b: Builder, x: Tensor) -> Tensor:
    inner = b.each("erf", b.pair("MUL", x, b.number(0.7071068)))
    return b.pair("MUL", b.pair("MUL", x, b.number(0.5)), b.pair("ADD", inner, b.number(1)))


def mish(b: Builder, x: Tensor) -> Tensor:
    plus = b.each("log", b.pair("ADD", b.each("exp", x), b.number(1)))
    return b.pair("MUL", x, b.named("TANH", plus))


def clamp(b: Builder, x: Tensor) -> Tensor:
    return b.pair("MINIMUM", b.pair("MAXIMUM", x, b.number(-0.5)), b.number(2))


@pytest.mark.parametrize(
    ("make", "op"),
    [
        (silu, "UNARY"),
        (hard_swish, "HARD_SWISH"),
        (hard_swish_of_a_hard_sigmoid, "HARD_SWISH"),
        (sigmoid, "LOGISTIC"),
        (tanh, "TANH"),
        (leaky_by_maximum, "LEAKY_RELU"),
        (leaky_by_prelu, "LEAKY_RELU"),
        (relu6, "RELU6"),
        (gelu, "UNARY"),
        (mish, "UNARY"),
        (clamp, "UNARY"),
    ],
)
def test_functions(make: Callable[[Builder, Tensor], Tensor], op: str, b: Builder) -> None:
    y = make(b, b.conv(b.input(*PIXELS)))
    assert ops(apply(b.output(y), unary)) == ["CONV_2D", op]


def test_function_that_changes_nothing(b: Builder) -> None:
    x = b.input(*PIXELS)
    y = b.pair("MUL", b.pair("DIV", x, b.number(3)), b.number(3))
    y = b.pair("SUB", b.pair("ADD", y, b.number(0)), b.number(0))
    assert ops(apply(b.output(b.named("LOG_SOFTMAX", y)), run_float_passes)) == ["LOG_SOFTMAX"]
    b = Builder()
    x = b.input(3)
    nearly = b.pair("ADD", x, b.number(1e-6))
    assert ops(apply(b.output(b.pair("DIV", b.const(3), nearly)), unary)) == ["UNARY", "DIV"]


def test_intermediate_results_stay(b: Builder) -> None:
    """What others read is computed; what is behind it begins there."""
    x = b.conv(b.input(*PIXELS))
    kept = b.named("TANH", b.pair("MUL", x, b.number(2)))
    y = b.pair("ADD", silu(b, kept), b.number(1))
    out = b.each("exp", b.each("neg", x))
    z = b.pair("MUL", b.each("abs", out), b.const(4))
    new = apply(b.output(y, b.pair("MUL", kept, b.const(4)), out, z), unary)
    assert sorted(ops(new)) == ["CONV_2D", "MUL", "MUL", "UNARY", "UNARY", "UNARY", "UNARY"]
    names = {n.output.name for n in new.nodes}
    assert {kept.name, out.name, y.name} <= names


def test_function_of_two_tensors(b: Builder) -> None:
    """A sum of functions of two tensors: each is one op, the sum is left."""
    x, y = b.input(*PIXELS), b.input(*PIXELS)
    total = b.pair("ADD", gelu(b, x), mish(b, y))
    assert ops(apply(b.output(clamp(b, total)), unary)) == ["UNARY", "UNARY", "ADD", "UNARY"]


def test_functions_do_not_broadcast(b: Builder) -> None:
    """What enlarges a tensor is no function of single numbers."""
    y = b.pair("MUL", b.input(5), b.number(2, 3, 5))
    assert ops(apply(b.output(y), unary)) == ["MUL"]


def test_steps_are_limited(b: Builder) -> None:
    x = y = b.input(*PIXELS)
    for i in range(MAX_STEPS + 20):
        y = b.each("sin" if i % 2 else "cos", y)
    new = apply(b.output(y), unary)
    assert ops(new) == ["UNARY"] * 2
    assert sum(len(n.attrs.expression.steps) for n in new.nodes) == MAX_STEPS + 20
    assert new.inputs[0].name == x.name


def test_function_of_a_state(b: Builder) -> None:
    """What a state becomes is computed like an output."""
    x, before = b.input(1, 4), Tensor("s", (1, 4), "float32")
    after = b.named("TANH", b.pair("ADD", x, before))
    y = b.each("exp", b.each("neg", after))
    b.graph.states = [State("s", before, after, np.zeros((1, 4), np.float32))]
    new = apply(b.output(y), run_float_passes)
    assert ops(new) == ["ADD", "TANH", "UNARY"]
    assert new.states[0].after is new.nodes[1].output


@pytest.mark.parametrize("op", [op for op in NAMED if op != "COPY"])
def test_named_ops_are_recognised(op: str) -> None:
    assert recognise(NAMED[op])[0] == op
    twice = NAMED[op].then(Expression.of("mul", 0, 1.001))
    assert recognise(twice)[0] in ("UNARY", "LEAKY_RELU") and recognise(twice)[0] != op


def test_expressions_by_their_values() -> None:
    assert recognise(leaky(0.25)) == ("LEAKY_RELU", LeakyRelu(0.25))
    line = Expression((Step("mul", (0, -3.0)), Step("sub", (2.0, 1))))
    assert affine(line) == (3.0, 2.0)
    assert affine(Expression.of("sub", 0.3, 0)) == pytest.approx((-1.0, 0.3))
    assert affine(Expression.of("abs")) is None
    assert affine(Expression.of("log")) is None


# ---- normalizations


def mean(b: Builder, x: Tensor, axes: Shape, op: str = "MEAN", flat: bool = False) -> Tensor:
    kept = tuple(1 if i in axes else d for i, d in enumerate(x.shape))
    if not flat:
        return b.op(op, [x], kept, Reduce(axes, True))
    short = tuple(d for i, d in enumerate(x.shape) if i not in axes)
    return b.op("RESHAPE", [b.op(op, [x], short, Reduce(axes, False))], kept)


def torch_norm(b: Builder, x: Tensor, axes: Shape) -> Tensor:
    d = b.pair("SUB", x, mean(b, x, axes))
    v = b.pair("ADD", mean(b, b.each("pow", d, 0, 2.0), axes), b.number(1e-3))
    return b.pair("DIV", d, b.each("sqrt", v))


def keras_norm(b: Builder, x: Tensor, axes: Shape, scaled: bool = True) -> Tensor:
    """x * (r * gamma) + (beta - mean * (r * gamma))"""
    m = mean(b, x, axes, flat=True)
    d = b.pair("SUB", x, m)
    v = b.pair("ADD", mean(b, b.pair("MUL", d, d), axes), b.number(1e-3))
    r = b.pair("DIV", b.number(1), b.each("sqrt", v))
    if scaled:
        r = b.pair("MUL", r, b.const(x.shape[-1]))
    rest = b.pair("SUB", b.const(x.shape[-1]), b.pair("MUL", m, r))
    return b.pair("ADD", b.pair("MUL", x, r), rest)


def keras_norm_without_beta(b: Builder, x: Tensor, axes: Shape) -> Tensor:
    m = mean(b, x, axes)
    v = mean(b, b.each("mul", b.pair("SUB", x, m), 0, 0), axes)
    r = b.each("pow", b.pair("ADD", v, b.number(1e-3)), 0, -0.5)
    return b.pair("SUB", b.pair("MUL", x, r), b.pair("MUL", m, r))


def keras_norm_of_zeros(b: Builder, x: Tensor, axes: Shape) -> Tensor:
    """A beta of zeros, as untrained networks have it."""
    m = mean(b, x, axes)
    v = mean(b, b.each("mul", b.pair("SUB", x, m), 0, 0), axes)
    r = b.each("pow", b.pair("ADD", v, b.number(1e-3)), 0, -0.5)
    r = b.pair("MUL", r, b.const(x.shape[-1]))
    rest = b.pair("SUB", b.number(0, x.shape[-1]), b.pair("MUL", m, r))
    return b.pair("ADD", b.pair("MUL", x, r), rest)


def rms_norm(b: Builder, x: Tensor, axes: Shape) -> Tensor:
    n = float(np.prod([x.shape[i] for i in axes]))
    v = b.pair("DIV", mean(b, b.pair("MUL", x, x), axes, "SUM", True), b.number(n))
    r = b.each("pow", b.pair("ADD", v, b.number(1e-3)), 0, -0.5)
    return b.pair("MUL", r, x)


def l2_norm(b: Builder, x: Tensor, axes: Shape) -> Tensor:
    s = b.pair("MAXIMUM", mean(b, b.pair("MUL", x, x), axes, "SUM"), b.number(1e-12))
    return b.pair("MUL", x, b.each("pow", s, 0, -0.5))


@pytest.mark.parametrize("axes", [(3,), (1, 2), (1, 2, 3)])
@pytest.mark.parametrize(
    "make",
    [
        torch_norm,
        keras_norm,
        lambda b, x, axes: keras_norm(b, x, axes, False),
        keras_norm_without_beta,
        keras_norm_of_zeros,
        rms_norm,
        l2_norm,
    ],
    ids=["torch", "keras", "keras without gamma", "without beta", "zeros", "rms", "l2"],
)
def test_norms(make: Any, axes: Shape, b: Builder) -> None:
    y = make(b, b.input(2, 4, 5, 6), axes)
    y = b.pair("ADD", b.pair("MUL", y, b.const(6)), b.const(6))
    (node,) = apply(b.output(y), unary, norm, tolerance=1e-4).nodes
    assert node.op == "LAYER_NORM" and node.attrs.axes == axes
    assert node.attrs.centred == (make not in (rms_norm, l2_norm))
    epsilon = 1e-12 / np.prod([(2, 4, 5, 6)[i] for i in axes]) if make is l2_norm else 1e-3
    assert node.attrs.epsilon == pytest.approx(epsilon, rel=1e-3)
    assert len(node.inputs) == 3 and node.inputs[1] is not None and node.inputs[2] is not None


def test_group_norm(b: Builder) -> None:
    x = b.op("RESHAPE", [b.input(2, 4, 5, 6)], (2, 4, 5, 3, 2))
    y = b.op("RESHAPE", [torch_norm(b, x, (1, 2, 4))], (2, 4, 5, 6))
    y = b.pair("ADD", b.pair("MUL", y, b.const(6)), b.const(1, 1, 1, 6))
    new = apply(b.output(y), unary, norm, tolerance=1e-4)
    assert ops(new) == ["RESHAPE", "LAYER_NORM", "RESHAPE"]
    assert new.nodes[1].input(1).shape == new.nodes[1].input(2).shape == (3, 2)


def test_what_is_no_norm(b: Builder) -> None:
    """Other axes, another tensor, another power, a deviation with its epsilon outside."""
    x, z = b.input(2, 4, 5, 6), b.input(2, 4, 5, 6)
    d = b.pair("SUB", x, mean(b, x, (3,)))
    v = mean(b, b.each("mul", d, 0, 0), (3,))
    r = b.each("pow", b.pair("ADD", v, b.number(1e-3)), 0, -0.5)
    y1 = b.pair("MUL", z, r)
    y2 = b.pair("MUL", b.pair("SUB", x, mean(b, x, (1,))), r)
    y3 = b.pair("MUL", d, b.each("pow", b.pair("ADD", v, b.number(1e-3)), 0, -0.4))
    y4 = b.pair("DIV", d, b.pair("ADD", b.each("sqrt", v), b.number(0.5)))
    y5 = b.pair("MUL", d, r, "RELU")
    new = apply(b.output(y1, y2, y3, y4, y5), unary, norm, tolerance=1e-4)
    assert "LAYER_NORM" not in ops(new)


def test_constants_before_a_norms_reader(b: Builder) -> None:
    """What others read of a norm stays as it is."""
    x = b.input(2, 5, 6)
    t = b.op("LAYER_NORM", [x, None, b.const(6)], x.shape, Norm((2,)))
    y = b.pair("MUL", t, b.const(6))
    assert ops(apply(b.output(y, t), norm)) == ["LAYER_NORM", "MUL"]
    b.graph.outputs.pop()
    b.graph.output_dtypes.pop()
    assert ops(apply(b.graph, norm)) == ["LAYER_NORM"]


# ---- forms


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("lead", [(), (1, 1)])
def test_matmul_with_a_constant(turned: bool, lead: Shape, b: Builder) -> None:
    y = b.const(*lead, 5, 6) if turned else b.const(*lead, 6, 5)
    t = b.op("BATCH_MATMUL", [b.input(2, 3, 4, 6), y], (2, 3, 4, 5), MatMul(False, turned))
    t = b.pair("ADD", t, b.const(5))
    new = apply(b.output(t), canonical, fold_affine)
    assert ops(new) == ["FULLY_CONNECTED"]
    assert new.nodes[0].inputs[2] is not None


def test_matmuls_that_stay(b: Builder) -> None:
    x = b.input(2, 4, 6)
    y1 = b.op("BATCH_MATMUL", [x, b.const(2, 6, 5)], (2, 4, 5), MatMul())
    y2 = b.op("BATCH_MATMUL", [x, b.const(4, 5)], (2, 6, 5), MatMul(True))
    y3 = b.op("BATCH_MATMUL", [x, b.input(2, 6, 5)], (2, 4, 5), MatMul())
    y4 = b.op("BATCH_MATMUL", [b.const(3, 4), x], (2, 3, 6), MatMul())
    assert ops(apply(b.output(y1, y2, y3, y4), canonical)) == ["BATCH_MATMUL"] * 4


def test_quotients_by_constants(b: Builder) -> None:
    x = b.input(*PIXELS)
    y = b.pair("DIV", b.pair("DIV", x, b.const(4, low=0.5)), b.pair("ADD", x, b.number(9)))
    zero = b.pair("DIV", b.number(0), b.pair("ADD", x, b.number(9)))
    new = apply(b.output(y, zero), canonical)
    assert ops(new) == ["MUL", "ADD", "DIV", "ADD", "DIV"]


def with_bytes(t: Tensor, axis: int) -> Tensor:
    """Weights that come from int8 with a scale for each of `axis`."""
    rng = np.random.default_rng(3)
    stored = rng.integers(-127, 128, t.shape).astype(np.int8)
    wide = [1] * len(t.shape)
    wide[axis] = t.shape[axis]
    scales = rng.uniform(0.01, 0.02, t.shape[axis]).astype(np.float32)
    t.data = stored * scales.reshape(wide)
    t.origin = Quantized(stored, QParams(scales, np.zeros(len(scales), np.int32), axis))
    return t


def check_bytes(t: Tensor) -> None:
    assert t.origin is not None and t.data is not None
    wide = [1] * len(t.shape)
    wide[t.origin.qparams.axis] = -1
    np.testing.assert_array_equal(t.origin.data * t.origin.qparams.scales.reshape(wide), t.data)


def test_depthwise_of_one_channel(b: Builder) -> None:
    w = with_bytes(b.const(1, 3, 3, 8), 3)
    attrs = DepthwiseConv2D((2, 1), (1, 2), 1, 2, 8, "RELU")
    y = b.op("DEPTHWISE_CONV_2D", [b.input(1, 6, 5, 1), w, b.const(8)], (1, 3, 5, 8), attrs)
    new = apply(b.output(y), canonical)
    assert ops(new) == ["CONV_2D"]
    check_bytes(new.nodes[0].input(1))


def test_convolution_of_as_many_groups(b: Builder) -> None:
    w = with_bytes(b.const(8, 3, 3, 1), 0)
    attrs = Conv2D((1, 1), (1, 1), 1, 1, 4, "RELU")
    y = b.op("CONV_2D", [b.input(*PIXELS), w, b.const(8)], (1, 6, 5, 8), attrs)
    t = b.op("CONV_2D", [y, b.const(4, 1, 1, 4), None], PIXELS, Conv2D(groups=2))
    new = apply(b.output(t), canonical)
    assert ops(new) == ["DEPTHWISE_CONV_2D", "CONV_2D"]
    assert new.nodes[0].attrs.multiplier == 2
    check_bytes(new.nodes[0].input(1))


def test_copies_that_broadcast(b: Builder) -> None:
    """What is repeated for a sum is not; what is repeated for others, or does not fit, is."""
    x = b.input(1, 6, 1, 4)
    many = b.op("CONCATENATION", [x] * 5, (1, 6, 5, 4), Axis(2))
    y1 = b.pair("ADD", b.input(*PIXELS), many)
    rows = Tensor("i", (5,), "int32", data=np.zeros(5, np.int32))
    y2 = b.pair("MUL", b.op("GATHER", [x, rows], PIXELS, Gather(2)), b.const(1, 1, 5, 1))
    y3 = b.pair("MUL", b.op("CONCATENATION", [x] * 5, PIXELS, Axis(2)), b.const(4))
    y4 = b.named("LOG_SOFTMAX", b.op("CONCATENATION", [x] * 5, PIXELS, Axis(2)))
    new = apply(b.output(y1, y2, y3, y4), canonical)
    assert sorted(ops(new)) == [
        "ADD",
        "CONCATENATION",
        "CONCATENATION",
        "LOG_SOFTMAX",
        "MUL",
        "MUL",
    ]


def test_reshapes_behind_functions(b: Builder) -> None:
    """As convolutions of one dimension leave them, between layers and what belongs to them."""
    t = b.op("RESHAPE", [b.conv(b.input(1, 1, 9, 4), 6, 1, 0)], (9, 6))
    t = b.pair("ADD", b.const(1, 6), b.pair("MUL", t, b.const(6)))
    t = b.op("RESHAPE", [silu(b, b.named("RELU", t))], (1, 1, 9, 6))
    new = apply(b.output(b.conv(t, 2, 1, 0)), run_float_passes)
    assert ops(new) == ["CONV_2D", "UNARY", "CONV_2D"]
    assert new.nodes[0].attrs.activation == "RELU"


def test_reshapes_that_stay(b: Builder) -> None:
    """Read by others, an output, of another last dimension."""
    x = b.input(2, 6)
    twice, out = b.op("RESHAPE", [x], (3, 4)), b.op("RESHAPE", [x], (12,))
    other = b.op("RESHAPE", [b.each("sin", x)], (4, 3))
    y = [b.pair("ADD", twice, b.const(4)), b.op("LOG_SOFTMAX", [twice], (3, 4))]
    y += [out, b.each("abs", out), b.pair("MUL", other, b.const(3))]
    graph = b.output(*y)
    assert ops(apply(graph, canonical)) == ops(graph)


def test_single_packs(b: Builder) -> None:
    x = b.input(1, 4)
    t = b.op("UNPACK", [x], (4,), Axis(0))
    new = apply(
        b.output(b.named("LOG_SOFTMAX", b.op("PACK", [t], (1, 4), Axis(0)))), run_float_passes
    )
    assert ops(new) == ["LOG_SOFTMAX"]


# ---- activations, padding


@pytest.mark.parametrize("relu", ["RELU", "RELU6", "RELU_N1_TO_1"])
def test_activations_are_fused(relu: str, b: Builder) -> None:
    x = b.conv(b.input(*PIXELS))
    y1 = b.named(relu, x)
    y2 = b.named(relu, b.pair("DIV", y1, b.pair("ADD", y1, b.number(9))))
    pool = b.op("AVERAGE_POOL_2D", [y2], (1, 3, 2, 4), Pool((2, 2), (2, 2)))
    new = apply(b.output(b.named(relu, pool)), fuse)
    assert ops(new) == ["CONV_2D", "ADD", "DIV", "AVERAGE_POOL_2D"]
    assert [n.attrs.activation for n in new.nodes] == [relu, "NONE", relu, relu]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_padding_is_fused(value: float, b: Builder) -> None:
    x = b.input(*PIXELS)
    p = b.op("PAD", [x], (1, 8, 7, 4), Pad((0, 1, 2, 0), (0, 1, 0, 0), value))
    new = apply(b.output(b.conv(p, 3, 3, 0)), fuse)
    assert ops(new) == (["PAD", "CONV_2D"] if value else ["CONV_2D"])


def test_channels_first(b: Builder) -> None:
    """A network whose tensors are channels first between its layers: nothing of it is left, and
    numbers for channels go into weights."""
    first, last = Transpose((0, 3, 1, 2)), Transpose((0, 2, 3, 1))
    t = b.op("TRANSPOSE", [b.conv(b.input(*PIXELS))], (1, 4, 6, 5), first)
    t = b.pair("ADD", b.pair("MUL", t, b.const(4, 1, 1)), b.const(1, 4, 1, 1))
    t = b.op("PAD", [silu(b, t)], (1, 4, 8, 7), Pad((0, 0, 1, 1), (0, 0, 1, 1)))
    y = b.conv(b.op("TRANSPOSE", [t], (1, 8, 7, 4), last), 4, 3, 0)
    assert ops(apply(b.output(y), run_float_passes)) == ["CONV_2D", "UNARY", "CONV_2D"]


# ---- the sequence


def test_the_graph_is_left_alone(b: Builder) -> None:
    x = b.input(*PIXELS)
    y = b.named("RELU", b.pair("MUL", b.conv(x), b.const(4)))
    graph = b.output(y)
    before = ops(graph)
    assert ops(run_float_passes(graph)) == ["CONV_2D"]
    assert ops(graph) == before


def test_float_nodes(b: Builder) -> None:
    """float32 at the ports does not make a network a float one."""
    q = QParams.of(0.1)
    x, y = Tensor("x", (1, 4), "float32"), Tensor("y", (1, 4), "float32")
    a, c = (Tensor(n, (1, 4), "int8", q) for n in "ac")
    nodes = [
        Node("QUANTIZE", [x], [a], NoAttrs(), "q"),
        Node("RELU", [a], [c], NoAttrs(), "r"),
        Node("DEQUANTIZE", [c], [y], NoAttrs(), "d"),
    ]
    graph = Graph(nodes, [x], [y])
    assert float_nodes(graph) == []
    assert [n.op for n in run_passes(graph).nodes] == ["RELU"]
    z = Tensor("z", (1, 4), "float32")
    nodes.append(Node("LOG_SOFTMAX", [y], [z], NoAttrs(), "s"))
    assert float_nodes(Graph(nodes, [x], [z])) == []  # it has an int8 form: islands.py
    nodes[-1] = Node("CUMSUM", [y], [z], CumSum(1), "s")
    assert [n.op for n in float_nodes(Graph(nodes, [x], [z]))] == ["CUMSUM"]


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed: int) -> None:
    """Layers, functions, sums and constants in any order, some of them read several times."""
    b = Builder(seed)
    pool = [b.input(*PIXELS), b.input(*PIXELS)]
    for _ in range(25):
        x, kind = pool[b.rng.integers(max(0, len(pool) - 4), len(pool))], b.rng.integers(10)
        if kind < 2:
            y = b.conv(x, 4, 3 if kind else 1, 1 if kind else 0)
        elif kind == 2:
            y = b.pair(str(b.rng.choice(["ADD", "MUL", "SUB"])), x, b.const(4))
        elif kind == 3:
            op, fused = (str(b.rng.choice(c)) for c in (["ADD", "MUL"], ["NONE", "RELU"]))
            y = b.pair(op, x, b.number(float(np.float32(b.rng.uniform(0.2, 1.5)))), fused)
        elif kind == 4:
            y = b.pair("ADD", x, pool[b.rng.integers(len(pool))])
        elif kind == 5:
            y = b.named(str(b.rng.choice(["RELU", "RELU6", "HARD_SWISH", "TANH", "LOGISTIC"])), x)
        elif kind == 6:
            y = [silu, gelu, clamp, hard_swish, leaky_by_maximum][b.rng.integers(5)](b, x)
        elif kind == 7:
            y = torch_norm(b, x, (3,))
        elif kind == 8:
            p = b.op("PAD", [x], (1, 8, 7, 4), Pad((0, 1, 1, 0), (0, 1, 1, 0)))
            y = b.conv(p, 4, 3, 0)
        else:
            y = keras_norm(b, x, (1, 2))
        pool.append(b.named("TANH", y) if kind in (0, 1, 4, 8) else y)
    outputs = [pool[-1], *(pool[i] for i in sorted(set(b.rng.integers(2, len(pool), 2))))]
    apply(b.output(*dict.fromkeys(outputs)), run_float_passes, tolerance=2e-4)
