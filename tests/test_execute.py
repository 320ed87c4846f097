# SPDX-License-Identifier: Apache-2.0
"""Float graphs by onnxruntime against numpy; layouts and activations above all."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.ir.expression import Expression, Step
from edgeq.ir.graph import Array, Graph, Node, State, Tensor
from edgeq.ir.ops import (
    Arithmetic,
    Axis,
    Conv2D,
    CumSum,
    Lstm,
    MirrorPad,
    NoAttrs,
    Norm,
    Reduce,
    Slice,
    Transpose,
    Unary,
)

pytest.importorskip("onnxruntime")
from edgeq.quantize.execute import FloatRunner

RNG = np.random.default_rng(1)


def const(data: Array) -> Tensor:
    data = np.asarray(data, np.float32)
    return Tensor("c", data.shape, "float32", data=data)


def node(op: str, inputs: list[Tensor | None], shape: tuple[int, ...], attrs: object) -> Node:
    return Node(op, inputs, [Tensor(op.lower(), shape, "float32")], attrs, op.lower())


def conv(x: Array, w: Array, bias: Array, stride: int, pad: int, size: int) -> Array:
    """x (1, H, W, C), w (O, K, K, C)."""
    k = w.shape[1]
    wide = np.pad(x, ((0, 0), (pad, k), (pad, k), (0, 0)))
    y = np.zeros((1, size, size, w.shape[0]), np.float32)
    for i in range(size):
        for j in range(size):
            window = wide[0, i * stride : i * stride + k, j * stride : j * stride + k]
            y[0, i, j] = np.tensordot(w, window, 3) + bias
    return y


def test_layouts() -> None:
    """A convolution leaves channels first; whatever follows, the values come back as NHWC."""
    x = Tensor("x", (1, 6, 6, 3), "float32")
    w, bias, scale = RNG.normal(size=(4, 3, 3, 3)), RNG.normal(size=4), RNG.normal(size=4)
    first = node(
        "CONV_2D", [x, const(w), const(bias)], (1, 3, 3, 4), Conv2D((2, 2), activation="RELU6")
    )
    scaled = node("MUL", [first.output, const(scale)], (1, 3, 3, 4), Arithmetic())
    sliced = node("SLICE", [scaled.output], (1, 3, 3, 2), Slice((0, 0, 0, 3), (1, 1, 1, -2)))
    joined = node("CONCATENATION", [sliced.output, first.output], (1, 3, 3, 6), Axis(3))
    turned = node("TRANSPOSE", [joined.output], (1, 6, 3, 3), Transpose((0, 3, 1, 2)))
    mean = node("MEAN", [joined.output], (1, 1, 1, 6), Reduce((1, 2), True))
    nodes = [first, scaled, sliced, joined, turned, mean]
    graph = Graph(nodes, [x], [turned.output, mean.output])
    graph.verify()

    data = RNG.normal(size=x.shape).astype(np.float32)
    found = FloatRunner(graph, [n.output for n in nodes] + [x]).run({"x": data})
    expected = np.clip(conv(data, w, bias, 2, 0, 3), 0, 6)
    np.testing.assert_allclose(found[first.output], expected, rtol=1e-4, atol=1e-5)
    both = np.concatenate([(expected * scale)[..., [3, 1]], expected], 3)
    np.testing.assert_allclose(found[joined.output], both, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        found[turned.output], both.transpose(0, 3, 1, 2), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        found[mean.output], both.mean((1, 2), keepdims=True), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(found[x], data)


def test_expression() -> None:
    """A GELU in six steps, as the graph runs it and as a table would be made."""
    gelu = Expression(
        (
            Step("div", (0, float(np.sqrt(2)))),
            Step("erf", (1,)),
            Step("add", (2, 1.0)),
            Step("mul", (0, 3)),
            Step("mul", (4, 0.5)),
        )
    )
    x = Tensor("x", (2, 50), "float32")
    n = node("UNARY", [x], x.shape, Unary(gelu.then(Expression.of("neg"))))
    data = RNG.normal(size=x.shape).astype(np.float32) * 3
    y = FloatRunner(Graph([n], [x], [n.output])).run({"x": data})[n.output]
    np.testing.assert_allclose(y, n.attrs.expression(data), rtol=1e-4, atol=1e-6)
    assert str(Expression.of("add", 0, 1.5)) == "add(x, 1.5)"
    assert gelu.then(Expression())(data).tolist() == gelu(data).tolist()


def test_other_constants() -> None:
    x = Tensor("x", (1, 3), "float32")
    w = const(RNG.normal(size=(3,)))
    n = node("ADD", [x, w], x.shape, Arithmetic("RELU"))
    graph = Graph([n, node("COPY", [n.output], x.shape, NoAttrs())], [x], [n.output])
    y = FloatRunner(graph, constants={w: np.array([1, -5, 2], np.float32)})
    assert y.run({"x": np.ones((1, 3), np.float32)})[n.output].tolist() == [[2, 0, 3]]


def lstm_by_numpy(n: Node, x: Array) -> tuple[Array, Array, Array]:
    """The formula of ir/ops.py, step by step; x (N, T, I)."""
    a = n.attrs
    data = [None if t is None else np.asarray(t.data, np.float64) for t in [None, *n.inputs[1:]]]
    cells = n.input(2).shape[0]
    h = np.zeros((len(x), n.output.shape[2])) if data[18] is None else data[18]
    c = np.zeros((len(x), cells)) if data[19] is None else data[19]

    def s(v: Array) -> Array:
        return 1 / (1 + np.exp(-v))

    def clip(v: Array, bound: float) -> Array:
        return np.clip(v, -bound, bound) if bound else v

    def gate(k: int, cell: Array) -> Array:
        v = x[:, t] @ data[1 + k].T + h @ data[5 + k].T
        p = data[9 + (0, 1, 0, 2)[k]]
        v = v if p is None or k == 2 else v + p * cell
        if data[20 + k] is not None:
            v = (v - v.mean(1, keepdims=True)) / v.std(1, keepdims=True) * data[20 + k]
        return v if data[12 + k] is None else v + data[12 + k]

    y = np.zeros((*x.shape[:2], n.output.shape[2]))
    for t in range(x.shape[1])[:: -1 if a.reverse else 1]:
        f = s(gate(1, c))
        i = 1 - f if data[1] is None else s(gate(0, c))
        c = clip(f * c + i * np.tanh(gate(2, c)), a.cell_clip)
        h = s(gate(3, c)) * np.tanh(c)
        if data[16] is not None:
            h = clip(h @ data[16].T + (0 if data[17] is None else data[17]), a.projection_clip)
        y[:, t] = h
    return y, h, c


@pytest.mark.parametrize("clip", [0.0, 0.3])
@pytest.mark.parametrize("project", [False, True])
@pytest.mark.parametrize("extras", ["", "peephole bias states", "bias norm", "coupled peephole"])
@pytest.mark.parametrize(("time_major", "reverse"), [(False, False), (True, True)])
def test_lstm(clip: float, project: bool, extras: str, time_major: bool, reverse: bool) -> None:
    batch, steps, width, cells = 2, 5, 3, 4
    outputs = 2 if project else cells
    x = Tensor("x", (steps, batch, width) if time_major else (batch, steps, width), "float32")
    shapes: dict[int, tuple[int, ...]] = {
        **dict.fromkeys(range(1, 5), (cells, width)),
        **dict.fromkeys(range(5, 9), (cells, outputs)),
        **(dict.fromkeys(range(9, 12), (cells,)) if "peephole" in extras else {}),
        **(dict.fromkeys(range(12, 16), (cells,)) if "bias" in extras else {}),
        **({16: (outputs, cells)} if project else {}),
        **({17: (outputs,)} if project and "bias" in extras else {}),
        **({18: (batch, outputs), 19: (batch, cells)} if "states" in extras else {}),
        **(dict.fromkeys(range(20, 24), (cells,)) if "norm" in extras else {}),
    }
    if "coupled" in extras:
        shapes = {i: shape for i, shape in shapes.items() if i not in (1, 5, 9, 12, 20)}
    inputs = [const(RNG.normal(size=shapes[i])) if i in shapes else None for i in range(24)]
    attrs = Lstm(time_major, reverse, clip, clip / 2 if project else 0.0)
    ends = [Tensor("h", (batch, outputs), "float32"), Tensor("c", (batch, cells), "float32")]
    y = Tensor("y", (*x.shape[:2], outputs), "float32")
    n = Node("LSTM", [x, *inputs[1:]], [y, *ends], attrs, "lstm")
    graph = Graph([n], [x], [y, *ends])
    graph.verify()
    data = RNG.normal(size=x.shape).astype(np.float32) * 2
    found = FloatRunner(graph).run({"x": data})
    want, h, c = lstm_by_numpy(n, data.swapaxes(0, 1) if time_major else data)
    want = want.swapaxes(0, 1) if time_major else want
    for t, values in zip(n.outputs, (want, h, c)):
        np.testing.assert_allclose(found[t], values, rtol=1e-4, atol=1e-5)


def test_states() -> None:
    """A sum over runs: what a run leaves is handed to the next one."""
    x, before = Tensor("x", (1, 2), "float32"), Tensor("before", (1, 2), "float32")
    n = node("ADD", [x, before], x.shape, Arithmetic())
    initial = np.array([[1, 2]], np.float32)
    graph = Graph([n], [x], [n.output], states=[State("sum", before, n.output, initial)])
    runner = FloatRunner(graph)
    first = runner.run({"x": np.ones((1, 2), np.float32)})[n.output]
    assert first.tolist() == [[2, 3]]
    again = runner.run({"x": np.ones((1, 2), np.float32)}, {before: first})
    assert again[n.output].tolist() == [[3, 4]]


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_cumsum(exclusive: bool, reverse: bool) -> None:
    x = Tensor("x", (2, 3, 4), "float32")
    n = node("CUMSUM", [x], x.shape, CumSum(1, exclusive, reverse))
    data = RNG.normal(size=x.shape).astype(np.float32)
    found = FloatRunner(Graph([n], [x], [n.output])).run({"x": data})[n.output]
    turned = data[:, ::-1] if reverse else data
    want = np.cumsum(turned, 1) - (turned if exclusive else 0)
    np.testing.assert_allclose(found, want[:, ::-1] if reverse else want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reflect", [False, True])
def test_mirror_pad(reflect: bool) -> None:
    x = Tensor("x", (1, 3, 4, 2), "float32")
    pads = ((0, 0, 2, 1), (0, 2, 1, 0))
    attrs = MirrorPad(*pads, reflect)
    n = node("MIRROR_PAD", [x], (1, 5, 7, 3), attrs)
    data = RNG.normal(size=x.shape).astype(np.float32)
    found = FloatRunner(Graph([n], [x], [n.output])).run({"x": data})[n.output]
    mode = "reflect" if reflect else "symmetric"
    np.testing.assert_array_equal(found, np.pad(data, list(zip(*pads)), mode=mode))


@pytest.mark.parametrize("centred", [False, True])
def test_norm(centred: bool) -> None:
    x = Tensor("x", (2, 5, 6), "float32")
    gamma, beta = const(RNG.normal(size=6)), const(RNG.normal(size=(5, 1)))
    n = node("LAYER_NORM", [x, gamma, beta], x.shape, Norm((1, 2), 1e-3, centred))
    data = RNG.normal(1, size=x.shape).astype(np.float32)
    found = FloatRunner(Graph([n], [x], [n.output])).run({"x": data})[n.output]
    d = data - data.mean((1, 2), keepdims=True) if centred else data
    want = d / np.sqrt((d * d).mean((1, 2), keepdims=True) + 1e-3) * gamma.data + beta.data
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


def test_defined() -> None:
    """A logarithm below zero is what it is at the nearest number above."""
    x = np.array([-2.0, -1.0, 0.0, 1.0, np.e])
    np.testing.assert_allclose(Expression.of("log").defined(x), [0, 0, 0, 0, 1], atol=1e-12)
    inverse = Expression.of("div", 1.0, 0)
    assert inverse.defined(np.array([-1.0, 0.0, 0.5, 0.0])).tolist() == [-1.0, -1.0, 2.0, 2.0]
    assert Expression.of("sqrt").defined(x[:2]).tolist() == [0.0, 0.0]
