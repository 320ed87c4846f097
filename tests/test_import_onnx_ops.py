# SPDX-License-Identifier: Apache-2.0
"""ONNX operators that compute: the imported graph against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_models import NEWEST, Net, check, random_feed, reference

from edgeq.importers.onnx import import_onnx
from edgeq.quantize.execute import FloatRunner

RNG = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


CONVS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 3, 9, 11), (4, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((2, 4, 8, 8), (6, 2, 3, 2), {"group": 2, "pads": [0, 1, 2, 0], "strides": [2, 1]}),
    ((1, 4, 8, 7), (8, 1, 3, 3), {"group": 4, "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((1, 4, 8, 7), (4, 1, 2, 2), {"group": 4, "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ((1, 2, 9, 9), (3, 2, 3, 3), {"dilations": [2, 3]}),
    ((1, 2, 9, 9), (3, 2, 2, 2), {"auto_pad": "VALID", "strides": [3, 2]}),
    ((2, 3, 16), (5, 3, 3), {"pads": [2, 0], "dilations": [2]}),
    ((1, 4, 10), (4, 1, 3), {"group": 4, "pads": [1, 1], "strides": [2]}),
    ((1, 1, 5, 5), (2, 1, 3, 3), {}),
]


@pytest.mark.parametrize(("x", "w", "attrs"), CONVS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("opset", [7, 11, NEWEST])
def test_conv(x: Any, w: Any, attrs: Any, bias: bool, opset: int) -> None:
    net = Net(opset)
    operands = [net.input("x", *x), net.const(normal(*w))]
    if bias:
        operands.append(net.const(normal(w[0])))
    check(net.model(net.add("Conv", *operands, **attrs)))


TRANSPOSED: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 3, 5, 4), (3, 4, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((1, 3, 5, 4), (3, 4, 2, 2), {"strides": [2, 2]}),
    ((1, 3, 5, 4), (3, 4, 3, 3), {"strides": [2, 2], "output_padding": [1, 1]}),
    ((1, 4, 5, 4), (4, 2, 3, 3), {"group": 2, "strides": [2, 1], "pads": [1, 0, 0, 1]}),
    ((1, 4, 5, 4), (4, 1, 4, 4), {"group": 4, "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((1, 2, 5, 4), (2, 3, 3, 2), {"dilations": [2, 2]}),
    ((1, 2, 5, 4), (2, 3, 3, 3), {"strides": [2, 2], "output_shape": [10, 8]}),
    ((1, 2, 5, 4), (2, 3, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ((1, 2, 5, 4), (2, 3, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    ((1, 2, 7), (2, 3, 4), {"strides": [2], "pads": [1, 1]}),
]


@pytest.mark.parametrize(("x", "w", "attrs"), TRANSPOSED)
def test_conv_transpose(x: Any, w: Any, attrs: Any) -> None:
    net = Net(NEWEST)
    operands = [net.input("x", *x), net.const(normal(*w))]
    operands.append(net.const(normal(w[1] * attrs.get("group", 1))))
    check(net.model(net.add("ConvTranspose", *operands, **attrs)))


FUSED = [
    ("Relu", None),
    ("Clip", [0.0, 6.0]),
    ("Clip", [-0.5, 0.25]),
    ("LeakyRelu", [0.3]),
    ("Sigmoid", None),
    ("Tanh", None),
    ("HardSigmoid", [0.25, 0.4]),
]


@pytest.mark.parametrize(("kind", "params"), FUSED)
@pytest.mark.parametrize("added", [False, True])
def test_fused_conv(kind: str, params: list[float] | None, added: bool) -> None:
    net = Net(13)
    operands = [net.input("x", 1, 3, 6, 6), net.const(normal(4, 3, 3, 3)), net.const(normal(4))]
    if added:
        operands.append(net.input("z", 1, 4, 4, 4))
    attrs = {"activation_params": params} if params else {}
    y = net.add("com.microsoft:FusedConv", *operands, activation=kind, **attrs)
    check(net.model(y))


POOLS = [
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 0, 0, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1, "pads": [1, 1, 1, 1]},
    {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [2, 2], "strides": [1, 1], "auto_pad": "SAME_LOWER"},
]


@pytest.mark.parametrize("attrs", POOLS)
@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "AveragePool with padding"])
def test_pool(op: str, size: int, attrs: dict[str, Any]) -> None:
    net = Net(NEWEST)
    more = {"count_include_pad": 1} if op.endswith("padding") else {}
    y = net.add(op.split()[0], net.input("x", 2, 3, size, size + 1), **attrs, **more)
    check(net.model(y))


def test_pools_of_lines_and_of_everything() -> None:
    net = Net(NEWEST)
    x, line = net.input("x", 2, 3, 5, 6), net.input("line", 1, 4, 9)
    names = [net.add(op, i) for op in ("GlobalAveragePool", "GlobalMaxPool") for i in (x, line)]
    names.append(net.add("MaxPool", line, kernel_shape=[3], strides=[2]))
    names.append(net.add("AveragePool", line, kernel_shape=[3], pads=[2, 0], count_include_pad=1))
    check(net.model(*names))


@pytest.mark.parametrize("opset", [7, 9, 11, 13, NEWEST])
@pytest.mark.parametrize("turned", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("c", [None, (), (5,), (1, 5), (3, 1), (3, 5)])
def test_gemm(opset: int, turned: tuple[int, int], c: tuple[int, ...] | None) -> None:
    net = Net(opset)
    a = net.input("a", *((4, 3) if turned[0] else (3, 4)))
    b = net.const(normal(*((5, 4) if turned[1] else (4, 5))))
    more = [net.const(normal(*c))] if c is not None else []
    if c is None and opset < 11:
        more = [net.const(np.zeros(5))]
    y = net.add("Gemm", a, b, *more, transA=turned[0], transB=turned[1], alpha=0.5, beta=2.0)
    check(net.model(y))


def test_gemm_of_two_inputs() -> None:
    net = Net()
    a, b, c = net.input("a", 3, 4), net.input("b", 5, 4), net.input("c", 5)
    check(net.model(net.add("Gemm", a, b, c, transB=1, alpha=2.0)))


SHAPES = [
    ((3, 4), (4, 5)),
    ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((4,), (4, 5)),
    ((3, 4), (4,)),
    ((4,), (4,)),
    ((2, 1, 3, 4), (5, 4, 2)),
    ((3, 4), (2, 4, 5)),
]


@pytest.mark.parametrize(("a", "b"), SHAPES)
@pytest.mark.parametrize("constant", [False, True])
def test_matmul(a: tuple[int, ...], b: tuple[int, ...], constant: bool) -> None:
    net = Net()
    other = net.const(normal(*b)) if constant else net.input("b", *b)
    check(net.model(net.add("MatMul", net.input("a", *a), other)))


def test_fused_matmul() -> None:
    net = Net()
    a, b = net.input("a", 2, 4, 3), net.input("b", 2, 5, 4)
    y = net.add("com.microsoft:FusedMatMul", a, b, transA=1, transB=1, alpha=0.5)
    check(net.model(y))


@pytest.mark.parametrize("opset", [7, 9, 14, NEWEST])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4), (2, 3)])
def test_batch_norm(opset: int, shape: tuple[int, ...]) -> None:
    net = Net(opset)
    parts = [net.const(normal(3)) for _ in range(3)] + [net.const(np.abs(normal(3)) + 0.1)]
    check(net.model(net.add("BatchNormalization", net.input("x", *shape), *parts, epsilon=1e-3)))


def test_norms() -> None:
    net = Net(NEWEST)
    x = net.input("x", 2, 4, 5, 6)
    names = [
        net.add("InstanceNormalization", x, net.const(normal(4)), net.const(normal(4))),
        net.add("LayerNormalization", x, net.const(normal(6)), net.const(normal(6))),
        net.add("LayerNormalization", x, net.const(normal(5, 6)), axis=2),
        net.add("GroupNormalization", x, net.const(normal(4)), net.const(normal(4)), num_groups=2),
        net.add("LpNormalization", x, axis=1),
        net.add("LpNormalization", x, axis=-1, p=1),
    ]
    check(net.model(*names))


def test_norm_of_groups_before_opset_21() -> None:
    net = Net(18)
    x, factors = net.input("x", 2, 4, 5, 6), [net.const(normal(2)) for _ in range(2)]
    check(net.model(net.add("GroupNormalization", x, *factors, num_groups=2)))


def test_norms_of_others() -> None:
    net = Net(13)
    x, skip = net.input("x", 2, 5, 8), net.input("skip", 2, 5, 8)
    parts = [net.const(normal(8)) for _ in range(3)]
    a = net.add("com.microsoft:SkipLayerNormalization", x, skip, *parts, epsilon=1e-5)
    b = net.add("MeanVarianceNormalization", net.input("p", 2, 3, 4, 5))
    check(net.model(a, b))


REDUCTIONS = ["Mean", "Sum", "Max", "Min", "L1", "L2", "SumSquare", "LogSum", "LogSumExp"]


@pytest.mark.parametrize("opset", [7, 11, 13, 18, NEWEST])
@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("axes", [(2, 3), (-1,), (1,), None])
@pytest.mark.parametrize("keep", [0, 1])
def test_reduce(opset: int, name: str, axes: tuple[int, ...] | None, keep: int) -> None:
    net = Net(opset)
    x = net.input("x", 2, 3, 4, 5)
    if name == "LogSum":
        x = net.add("Abs", x)
    operands, attrs = [x], {}
    if axes is not None:
        if opset >= (13 if name == "Sum" else 18):
            operands.append(net.ints(*axes))
        else:
            attrs["axes"] = axes
    check(net.model(net.add(f"Reduce{name}", *operands, keepdims=keep, **attrs)))


@pytest.mark.parametrize("opset", [7, 11, 13, NEWEST])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 7, 1, 1), (2, 3, 4)])
def test_softmax(opset: int, op: str, axis: int | None, shape: tuple[int, ...]) -> None:
    if axis == -1 and opset < 11:
        return
    net = Net(opset)
    attrs = {} if axis is None else {"axis": axis}
    check(net.model(net.add(op, net.input("x", *shape), **attrs)))


@pytest.mark.parametrize("opset", [7, 11, 12, NEWEST])
def test_arg_max(opset: int) -> None:
    net = Net(opset)
    x = net.input("x", 2, 3, 4, 5)
    names = [net.add("ArgMax", x, axis=1, keepdims=k) for k in (0, 1)]
    names.append(net.add("ArgMin", x, axis=3))
    names.append(net.add("Cast", net.add("ArgMax", x, axis=1), to=6))
    check(net.model(*names))


@pytest.mark.parametrize("opset", [7, 10, 11, NEWEST])
def test_top_k(opset: int) -> None:
    net = Net(opset)
    x = net.input("x", 2, 9, 3)
    names = []
    for axis in (1, -1) if opset > 9 else (1,):
        if opset < 10:
            names += net.add("TopK", x, outputs=2, axis=axis, k=2)
        else:
            names += net.add("TopK", x, net.ints(2), outputs=2, axis=axis)
    if opset >= 11:
        names += net.add("TopK", x, net.ints(3), outputs=2, axis=1, largest=0)
    check(net.model(*names))


def test_non_max_suppression() -> None:
    """The rows that onnxruntime gives, then -1."""
    net = Net(13)
    corner = net.input("corner", 1, 20, 2)
    size = net.add("Abs", net.input("size", 1, 20, 2))
    boxes = net.add("Concat", corner, net.add("Add", corner, size), axis=2)
    limits = [net.ints(5), net.const([0.1]), net.const([0.9])]
    y = net.add("NonMaxSuppression", boxes, net.input("scores", 1, 3, 20), *limits)
    model = net.model(y)
    graph = import_onnx(model)
    feed = random_feed(graph, 3)
    (expected,) = reference(model, feed)
    found = FloatRunner(graph).run(feed)[graph.outputs[0]]
    assert found.shape == (15, 3)
    np.testing.assert_array_equal(found[: len(expected)], expected)
    assert (found[len(expected) :] == -1).all() and 0 < len(expected) < 15


RECURRENT = [
    (op, d) for op in ("LSTM", "GRU", "RNN") for d in ("forward", "reverse", "bidirectional")
]


@pytest.mark.parametrize(("op", "direction"), RECURRENT)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("opset", [7, 14])
def test_recurrent(op: str, direction: str, full: bool, opset: int) -> None:
    t, n, i, h = 5, 2, 3, 4
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    d = 2 if direction == "bidirectional" else 1
    net = Net(opset)
    operands = [net.input("x", t, n, i)]
    operands += [net.const(normal(d, gates * h, i)), net.const(normal(d, gates * h, h))]
    if full:
        operands += [net.const(normal(d, 2 * gates * h)), "", net.input("h", d, n, h)]
        if op == "LSTM":
            operands += [net.input("c", d, n, h), net.const(normal(d, 3 * h))]
    attrs = {"linear_before_reset": 1} if op == "GRU" and full else {}
    outputs = net.add(
        op,
        *operands,
        outputs=3 if op == "LSTM" else 2,
        hidden_size=h,
        direction=direction,
        **attrs,
    )
    check(net.model(*outputs))
