# SPDX-License-Identifier: Apache-2.0
"""ONNX operators that compute element by element: the imported graph against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_models import NEWEST, Net, check

RNG = np.random.default_rng(6)
UNARY: list[tuple[str, dict[str, Any], int]] = [
    ("Relu", {}, 7),
    ("LeakyRelu", {}, 7),
    ("LeakyRelu", {"alpha": -0.3}, 16),
    ("Sigmoid", {}, 7),
    ("Tanh", {}, 7),
    ("Elu", {"alpha": 0.7}, 7),
    ("Selu", {}, 7),
    ("Celu", {"alpha": 0.7}, 12),
    ("HardSigmoid", {}, 7),
    ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}, 7),
    ("HardSwish", {}, 14),
    ("Softplus", {}, 7),
    ("Softsign", {}, 7),
    ("Gelu", {}, 20),
    ("Gelu", {"approximate": "tanh"}, 20),
    ("Mish", {}, 18),
    ("Erf", {}, 9),
    ("Exp", {}, 7),
    ("Abs", {}, 7),
    ("Neg", {}, 7),
    ("Floor", {}, 7),
    ("Ceil", {}, 7),
    ("Round", {}, 11),
    ("Sign", {}, 9),
    ("Sin", {}, 7),
    ("Cos", {}, 7),
    ("Reciprocal", {}, 7),
    ("ThresholdedRelu", {"alpha": 0.4}, 10),
    ("com.microsoft:Gelu", {}, 13),
    ("com.microsoft:QuickGelu", {"alpha": 1.5}, 13),
    ("com.microsoft:FastGelu", {}, 13),
    ("Identity", {}, 7),
]


@pytest.mark.parametrize(("op", "attrs", "opset"), UNARY)
def test_unary(op: str, attrs: dict[str, Any], opset: int) -> None:
    net = Net(opset)
    y = net.add(op, net.input("x", 2, 3, 7), **attrs)
    check(net.model(y), scale=3, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("op", ["Log", "Sqrt"])
def test_of_positive_numbers(op: str) -> None:
    net = Net()
    x = np.abs(RNG.normal(size=(4, 5))).astype(np.float32) + 0.1
    check(net.model(net.add(op, net.input("x", 4, 5))), {"x": x})


@pytest.mark.parametrize(("low", "high"), [(0, 6), (0, None), (-1, 1), (-0.3, 0.4), (None, 0.5)])
@pytest.mark.parametrize("opset", [7, 11, NEWEST])
def test_clip(low: float | None, high: float | None, opset: int) -> None:
    net = Net(opset)
    x = net.input("x", 3, 5)
    if opset < 11:
        attrs = {k: float(v) for k, v in (("min", low), ("max", high)) if v is not None}
        y = net.add("Clip", x, **attrs)
    else:
        bounds = ["" if v is None else net.const(float(v)) for v in (low, high)]
        y = net.add("Clip", x, *bounds)
    graph = check(net.model(y), scale=4)
    names = {(0, 6): "RELU6", (0, None): "RELU", (-1, 1): "RELU_N1_TO_1"}
    assert [n.op for n in graph.nodes] == [names.get((low, high), "UNARY")]


SHAPES = [
    ((2, 3, 4, 5), (2, 3, 4, 5)),
    ((2, 3, 4, 5), (3, 1, 1)),
    ((2, 3, 4, 5), ()),
    ((2, 3, 4, 5), (5,)),
    ((3, 1), (2, 3, 4)),
]


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu"])
@pytest.mark.parametrize(("a", "b"), SHAPES)
@pytest.mark.parametrize("constant", [False, True])
def test_binary(op: str, a: tuple[int, ...], b: tuple[int, ...], constant: bool) -> None:
    if op == "PRelu" and len(b) > len(a):
        a, b = b, a
    net = Net(13)
    data = RNG.uniform(0.5, 2, size=b)
    other = net.const(data) if constant else net.add("Exp", net.input("b", *b))
    check(net.model(net.add(op, net.input("a", *a), other)))


def test_of_many_tensors() -> None:
    net = Net(13)
    tensors = [net.input("a", 2, 3), net.input("b", 3), net.input("c", 2, 1)]
    names = [net.add(op, *tensors) for op in ("Sum", "Mean", "Max", "Min")]
    check(net.model(*names, net.add("Sum", tensors[0])))


@pytest.mark.parametrize("exponent", [2.0, 0.5, 3.0, -1.0, 1.7])
def test_pow(exponent: float) -> None:
    net = Net(13)
    x = net.add("Abs", net.input("x", 3, 4))
    check(net.model(net.add("Pow", x, net.const(exponent))))


def test_where() -> None:
    net = Net(13)
    mask = net.const(RNG.integers(0, 2, (3, 4)), "bool")
    a, b = net.input("a", 2, 3, 4), net.input("b", 4)
    names = [net.add("Where", mask, a, b), net.add("Where", mask, a, net.const(-1e9))]
    check(net.model(*names))


def test_casts_between_floats() -> None:
    net = Net(13)
    x = net.input("x", 2, 3)
    check(net.model(net.add("Relu", net.add("Cast", x, to=1))))


DECOMPOSED = ["silu", "hard_swish", "gelu", "layer_norm", "softmax", "se_block", "prelu", "shuffle"]


@pytest.mark.parametrize("kind", DECOMPOSED)
def test_decomposed_forms(kind: str) -> None:
    net = Net(13)
    x = net.input("x", 1, 8, 6, 6)
    if kind == "silu":
        y = net.add("Mul", x, net.add("Sigmoid", x))
    elif kind == "hard_swish":
        gate = net.add("Clip", net.add("Add", x, net.const(3.0)), net.const(0.0), net.const(6.0))
        y = net.add("Div", net.add("Mul", x, gate), net.const(6.0))
    elif kind == "gelu":
        half = net.add("Mul", x, net.const(0.5))
        erf = net.add("Erf", net.add("Div", x, net.const(2**0.5)))
        y = net.add("Mul", half, net.add("Add", erf, net.const(1.0)))
    elif kind == "layer_norm":
        centred = net.add("Sub", x, net.add("ReduceMean", x, axes=[-1]))
        square = net.add("ReduceMean", net.add("Pow", centred, net.const(2.0)), axes=[-1])
        y = net.add("Div", centred, net.add("Sqrt", net.add("Add", square, net.const(1e-5))))
    elif kind == "softmax":
        power = net.add("Exp", net.add("Sub", x, net.add("ReduceMax", x, axes=[1])))
        y = net.add("Div", power, net.add("ReduceSum", power, net.ints(1)))
    elif kind == "se_block":
        pooled = net.add("GlobalAveragePool", x)
        narrow = net.add("Relu", net.add("Conv", pooled, net.const(RNG.normal(size=(2, 8, 1, 1)))))
        wide = net.add("Conv", narrow, net.const(RNG.normal(size=(8, 2, 1, 1))))
        y = net.add("Mul", x, net.add("HardSigmoid", wide))
    elif kind == "prelu":
        slope = net.const(RNG.normal(size=(8, 1, 1)))
        minus = net.add("Mul", slope, net.add("Neg", net.add("Relu", net.add("Neg", x))))
        y = net.add("Add", net.add("Relu", x), minus)
    else:
        split = net.add("Reshape", x, net.ints(1, 2, 2, 2, 6, 6))
        turned = net.add("Transpose", split, perm=[0, 1, 4, 2, 5, 3])
        y = net.add("Reshape", turned, net.ints(1, 2, 12, 12))
    check(net.model(y))
