# SPDX-License-Identifier: Apache-2.0
"""Float graphs by onnxruntime against numpy; layouts and activations above all."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.ir.expression import Expression, Step
from edgeq.ir.graph import Array, Graph, Node, Tensor
from edgeq.ir.ops import Arithmetic, Axis, Conv2D, NoAttrs, Reduce, Slice, Transpose, Unary

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
