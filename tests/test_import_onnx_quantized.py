# SPDX-License-Identifier: Apache-2.0
"""Quantized ONNX: each operator in integers against onnxruntime, one operator at a time.

onnxruntime rounds once, in float32, ties to even; R31 rounds twice, ties away from zero. So single
outputs differ by a step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx_models import Net, random_feed

import edgeq
from edgeq.errors import UnsupportedError
from edgeq.importers.onnx import import_onnx

RNG = np.random.default_rng(11)
TYPES = ["int8", "uint8"]


def compare(model: bytes, *, equal: float = 0.99, steps: int = 1, seeds: int = 3) -> None:
    """Converts and runs both; `equal`: which part of the elements must be."""
    program = edgeq.load(edgeq.convert(model).data)
    options = onnxruntime.SessionOptions()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    graph = import_onnx(model)
    same = total = 0
    for seed in range(seeds):
        feed = random_feed(graph, seed, 0.5)
        expected = session.run(None, feed)
        found = program.run(*[feed[t.name] for t in graph.inputs])
        found = found if isinstance(found, (tuple, list)) else [found]
        for y, x in zip(expected, found):
            assert x.shape == y.shape and x.dtype == y.dtype
            if y.dtype.kind == "f":
                step = 2**-5 if y.size else 1
                off = np.rint(np.abs(x - y) / step)
            else:
                off = np.abs(x.astype(np.int64) - y.astype(np.int64))
            assert off.max() <= steps
            same += int((off == 0).sum())
            total += off.size
    assert same >= equal * total, f"{same / total:.2%} equal"


def quantized(net: Net, x: str, scale: float, zero: int, kind: str) -> str:
    zero = zero + 128 if kind == "uint8" else zero
    q = net.add("QuantizeLinear", x, net.const(scale), net.const(zero, kind))
    return str(q)


def real(net: Net, q: str, scale: float, zero: int, kind: str) -> str:
    zero = zero + 128 if kind == "uint8" else zero
    return str(net.add("DequantizeLinear", q, net.const(scale), net.const(zero, kind)))


def between(net: Net, x: str, scale: float, zero: int, kind: str) -> str:
    """QuantizeLinear, DequantizeLinear."""
    return real(net, quantized(net, x, scale, zero, kind), scale, zero, kind)


def weights(
    net: Net, shape: tuple[int, ...], kind: str, per_channel: bool, axis: int = 0, zero: int = 0
) -> str:
    """Stored weights behind a DequantizeLinear."""
    info = np.iinfo(kind)
    data = RNG.integers(info.min, info.max + 1, shape)
    n = shape[axis] if per_channel else 1
    scales = RNG.uniform(0.002, 0.01, n).astype(np.float32)
    zeros = np.full(n, zero + (128 if kind == "uint8" else 0))
    if not per_channel:
        scales, zeros = scales[0], zeros[0]
    return _constant(net, data, kind, scales, zeros, axis)


def weights_and_bias(net: Net, shape: tuple[int, ...], channels: int, **how: Any) -> list[str]:
    """The bias has the scale of the accumulators: of x, 0.02, times that of the weights."""
    w = weights(net, shape, **how)
    scales = onnx.numpy_helper.to_array(net.constants[-2]) * np.float32(0.02)
    data = RNG.integers(-3000, 3000, channels)
    return [w, _constant(net, data, "int32", scales, np.zeros(scales.shape), 0)]


def _constant(
    net: Net, data: np.ndarray, kind: str, scales: np.ndarray, zeros: np.ndarray, axis: int
) -> str:
    attrs = {"axis": axis} if net.opset >= 13 and np.ndim(scales) else {}
    operands = [net.const(data, kind), net.const(scales), net.const(zeros, kind)]
    return str(net.add("DequantizeLinear", *operands, **attrs))


def output(net: Net, y: str, scale: float, zero: int, kind: str) -> bytes:
    return net.model(quantized(net, y, scale, zero, kind), kinds=[kind])


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(
    ("w_kind", "per_channel"), [("int8", False), ("int8", True), ("uint8", False)]
)
@pytest.mark.parametrize("activation", ["", "Relu", "Clip"])
@pytest.mark.parametrize("form", ["conv", "depthwise", "grouped", "line"])
def test_conv(kind: str, w_kind: str, per_channel: bool, activation: str, form: str) -> None:
    """S8S8, U8S8, U8U8."""
    net = Net(13)
    shape = (1, 8, 20) if form == "line" else (1, 8, 12, 12)
    x = between(net, net.input("x", *shape), 0.02, 3, kind)
    w_shape = {"conv": (6, 8, 3, 3), "depthwise": (8, 1, 3, 3), "grouped": (6, 4, 3, 3)}
    w_shape["line"] = (6, 8, 3)  # type: ignore[assignment]
    groups = {"depthwise": 8, "grouped": 2}.get(form, 1)
    how = {"kind": w_kind, "per_channel": per_channel, "zero": 0 if w_kind == "int8" else 9}
    w = weights_and_bias(net, w_shape[form], w_shape[form][0], **how)
    y = net.add("Conv", x, *w, group=groups)
    if activation == "Relu":
        y = net.add("Relu", y)
    elif activation == "Clip":
        y = net.add("Clip", y, net.const(-0.5), net.const(0.75))
    compare(output(net, y, 0.05, -7, kind))


@pytest.mark.parametrize("w_zero", [0, 11])
@pytest.mark.parametrize("form", ["Gemm", "MatMul", "ConvTranspose"])
def test_weights_with_a_zero_point(w_zero: int, form: str) -> None:
    """int8 weights that are not symmetric."""
    net = Net(13)
    if form == "ConvTranspose":
        x = between(net, net.input("x", 1, 4, 6, 6), 0.02, 3, "int8")
        y = net.add(form, x, weights(net, (4, 5, 3, 3), "int8", False, zero=w_zero), strides=[2, 2])
    else:
        x = between(net, net.input("x", 20, 32), 0.02, 3, "int8")
        y = net.add(form, x, weights(net, (32, 24), "int8", False, zero=w_zero))
    compare(output(net, y, 0.05, -7, "int8"))


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("turned", [0, 1])
def test_gemm(kind: str, per_channel: bool, turned: int) -> None:
    net = Net(13)
    x = between(net, net.input("x", 20, 32), 0.02, 3, kind)
    shape = (24, 32) if turned else (32, 24)
    how = {"kind": "int8", "per_channel": per_channel, "axis": 0 if turned else 1}
    y = net.add("Gemm", x, *weights_and_bias(net, shape, 24, **how), transB=turned)
    compare(output(net, net.add("Relu", y), 0.04, -100, kind))


def test_channels_before_opset_13() -> None:
    """A scale for each channel, although DequantizeLinear has no axis yet."""
    net = Net(10)
    data = RNG.integers(-127, 128, (6, 8, 3, 3))
    scales = RNG.uniform(0.002, 0.01, 6)
    x, y = quantized(net, net.input("x", 1, 8, 9, 9), 0.02, 3, "uint8"), (0.05, 121)
    operands = [x, net.const(0.02), net.const(131, "uint8"), net.const(data, "int8")]
    operands += [net.const(scales), net.const(np.zeros(6), "int8")]
    operands += [net.const(y[0]), net.const(y[1], "uint8"), net.const(range(6), "int32")]
    compare(net.model(net.add("QLinearConv", *operands), kinds=["uint8"]))
    graph = import_onnx(_dequantized_before_13(data, scales))
    (conv,) = [n for n in graph.nodes if n.op == "CONV_2D"]
    q = conv.input(1).qparams
    assert q is not None and q.axis == 0
    np.testing.assert_array_equal(q.scales, scales.astype(np.float32))


def _dequantized_before_13(data: np.ndarray, scales: np.ndarray) -> bytes:
    net = Net(12)
    x = between(net, net.input("x", 1, 8, 9, 9), 0.02, 3, "uint8")
    w = net.add("DequantizeLinear", net.const(data, "int8"), net.const(scales))
    return output(net, net.add("Conv", x, w), 0.05, 3, "uint8")


def test_the_scales_are_kept() -> None:
    net = Net(13)
    x = between(net, net.input("x", 1, 8, 12, 12), 0.0213, 3, "uint8")
    w = weights(net, (6, 8, 3, 3), "int8", True)
    model = output(net, net.add("Conv", x, w), 0.0517, -7, "uint8")
    reader = edgeq.load(edgeq.convert(model).data)
    y = reader.outputs[0]
    assert (np.float32(y.scale), y.zero_point) == (np.float32(0.0517), 121)


def integers(net: Net, name: str, shape: tuple[int, ...], kind: str) -> str:
    return net.input(name, *shape, kind=kind)


def numbers(net: Net, scale: float, zero: int, kind: str) -> list[str]:
    return [net.const(scale), net.const(zero + (128 if kind == "uint8" else 0), kind)]


@pytest.mark.parametrize("kind", TYPES)
def test_qlinear_ops(kind: str) -> None:
    net = Net(13)
    x = [integers(net, "x", (2, 6, 8, 8), kind), *numbers(net, 0.02113, 5, kind)]
    z = [integers(net, "z", (2, 6, 8, 8), kind), *numbers(net, 0.01319, -8, kind)]
    y = numbers(net, 0.03047, -3, kind)
    shares = numbers(net, 1 / 256, -128, kind)
    names = [
        net.add("com.microsoft:QLinearAdd", *x, *z, *y),
        net.add("com.microsoft:QLinearMul", *x, *z, *y),
        net.add("com.microsoft:QLinearSigmoid", *x, *shares),
        net.add("com.microsoft:QLinearLeakyRelu", *x, *y, alpha=0.1),
        net.add("com.microsoft:QLinearGlobalAveragePool", *x, *y, channels_last=0),
        net.add("com.microsoft:QLinearConcat", *y, *x, *z, axis=1),
    ]
    compare(net.model(*names, kinds=[kind] * len(names)))


@pytest.mark.parametrize("kind", TYPES)
def test_qlinear_softmax(kind: str) -> None:
    net = Net(13)
    x = [integers(net, "x", (4, 12), kind), *numbers(net, 0.05, 5, kind)]
    y = numbers(net, 1 / 256, -128, kind)
    z = net.add("com.microsoft:QLinearSoftmax", *x, *y, axis=-1, opset=13)
    compare(net.model(z, kinds=[kind]))


@pytest.mark.parametrize("kind", TYPES)
def test_qlinear_average_pool(kind: str) -> None:
    """Between two scales it is a sum that is rounded once; by one scale ties differ."""
    net = Net(13)
    x = [integers(net, "x", (2, 6, 9, 9), kind), *numbers(net, 0.02113, 5, kind)]
    y = numbers(net, 0.0173, -3, kind)
    window = {"kernel_shape": [3, 3], "strides": [2, 2]}
    z = net.add("com.microsoft:QLinearAveragePool", *x, *y, **window)
    compare(net.model(z, kinds=[kind]))


@pytest.mark.parametrize("kind", TYPES)
def test_qlinear_matmul_and_qgemm(kind: str) -> None:
    net = Net(13)
    x = [integers(net, "x", (16, 24), kind), *numbers(net, 0.02113, 5, kind)]
    w = [net.const(RNG.integers(-127, 128, (24, 10)), "int8"), net.const(0.004)]
    w.append(net.const(0, "int8"))
    y = numbers(net, 0.07, -3, kind)
    terms = net.const(RNG.integers(-2000, 2000, 10), "int32")
    names = [
        net.add("QLinearMatMul", *x, *w, *y),
        net.add("com.microsoft:QGemm", *x, *w, terms, *y),
    ]
    compare(net.model(*names, kinds=[kind] * 2))


ELEMENTWISE = ["Add", "Sub", "Mul", "Max", "Min", "PRelu", "Div by a number"]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("op", ELEMENTWISE)
def test_elementwise(op: str, kind: str) -> None:
    net = Net(13)
    x = between(net, net.input("x", 2, 6, 8, 8), 0.02113, 5, kind)
    if op == "PRelu":
        slopes = net.const(RNG.integers(0, 128, (6, 1, 1)), "int8")
        other = net.add("DequantizeLinear", slopes, net.const(0.003), net.const(0, "int8"))
    elif op == "Div by a number":
        other = net.const(1.7)
    else:
        other = between(net, net.input("z", 2, 6, 8, 8), 0.01319, -8, kind)
    compare(output(net, net.add(op.split()[0], x, other), 0.03109, -3, kind))


UNARY = [
    "Relu",
    "Sigmoid",
    "Tanh",
    "HardSwish",
    "LeakyRelu",
    "Exp",
    "Abs",
    "Elu",
    "Softplus",
    "Erf",
]


@pytest.mark.parametrize("op", UNARY)
def test_tables(op: str) -> None:
    net = Net(14)
    x = between(net, net.input("x", 4, 500), 0.02113, 5, "uint8")
    compare(output(net, net.add(op, x), 0.01723, -90, "uint8"))


def test_a_function_in_pieces() -> None:
    """SiLU between two scales: one table."""
    net = Net(13)
    x = between(net, net.input("x", 4, 500), 0.02113, 5, "int8")
    model = output(net, net.add("Mul", x, net.add("Sigmoid", x)), 0.01319, -90, "int8")
    compare(model)
    assert edgeq.convert(model).report.ops == 1


@pytest.mark.parametrize("kind", TYPES)
def test_moves_between_scales(kind: str) -> None:
    net = Net(13)
    x = between(net, net.input("x", 1, 6, 8, 8), 0.02113, 5, kind)
    z = between(net, net.input("z", 1, 3, 8, 8), 0.01319, -8, kind)
    y = net.add("MaxPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    y = net.add("Transpose", net.add("Reshape", y, net.ints(1, 2, 3, 8, 8)), perm=[0, 2, 1, 3, 4])
    y = net.add("Reshape", y, net.ints(1, 6, 8, 8))
    y = net.add("Slice", y, net.ints(0), net.ints(3), net.ints(1))
    y = net.add("Concat", y, z, axis=1)
    y = net.add("Pad", y, net.ints(0, 0, 1, 1, 0, 0, 0, 2))
    y = net.add("Resize", y, "", net.const([1, 1, 2, 2]), mode="nearest")
    compare(output(net, y, 0.02113, 5, kind))


@pytest.mark.parametrize("mode", ["CRD", "DCR"])
@pytest.mark.parametrize("behind", ["weights", "a bound"])
def test_blocks_and_chosen_slices(mode: str, behind: str) -> None:
    """Channels are chosen in the weights, or behind a bound as they are; so are pixels."""
    net = Net(13)
    x = between(net, net.input("x", 1, 8, 6, 6), 0.02, 3, "uint8")
    y = net.add("Conv", x, weights(net, (12, 8, 1, 1), "int8", True))
    y = between(net, y, 0.0507, -7, "uint8")
    if behind == "a bound":
        y = between(net, net.add("Relu", y), 0.0507, -7, "uint8")
    y = net.add("DepthToSpace", y, blocksize=2, mode=mode)
    y = net.add("Gather", y, net.ints(2, 0, 1, 1), axis=1)
    y = net.add("Resize", y, "", "", net.ints(1, 4, 19, 7), mode="nearest")
    compare(output(net, y, 0.0507, -7, "uint8"))


@pytest.mark.parametrize("axes", [[2, 3], [1]])
def test_means(axes: list[int]) -> None:
    net = Net(13)
    x = between(net, net.input("x", 2, 16, 8, 8), 0.02113, 5, "int8")
    compare(output(net, net.add("ReduceMean", x, axes=axes), 0.00713, -3, "int8"))


def test_softmax_and_arg_max_at_the_end() -> None:
    """Without a QuantizeLinear behind it softmax has the scale that it always has."""
    net = Net(13)
    x = between(net, net.input("x", 8, 40), 0.08, 5, "uint8")
    model = net.model(
        net.add("Softmax", x), net.add("ArgMax", x, axis=1), kinds=["float32", "int64"]
    )
    program = edgeq.load(edgeq.convert(model).data)
    feed = random_feed(import_onnx(model), 1, 3.0)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    shares, best = session.run(None, feed)
    y = program.run(feed["x"])
    assert np.abs(y[0] - shares).max() <= 1 / 256
    np.testing.assert_array_equal(y[1], best)


def test_float_weights_and_float_biases() -> None:
    """A file may leave some constants as floats; they get scales of their own."""
    net = Net(13)
    x = between(net, net.input("x", 1, 8, 12, 12), 0.02, 3, "int8")
    y = net.add("Conv", x, net.const(RNG.normal(size=(6, 8, 3, 3)) * 0.1), net.const(range(6)))
    compare(output(net, y, 0.05, -7, "int8"), equal=0.9)


def test_what_has_no_scale() -> None:
    """All of it in one go."""
    net = Net(13)
    x = between(net, net.input("x", 1, 8, 12, 12), 0.02, 3, "int8")
    a = net.add("Conv", x, weights(net, (6, 8, 3, 3), "int8", True))
    b = net.add("Conv", a, weights(net, (6, 6, 3, 3), "int8", True))
    model = net.model(b, net.add("Exp", a))
    with pytest.raises(UnsupportedError, match="it is quantized in part") as e:
        edgeq.convert(model)
    assert len(e.value.problems) == 2
    assert "no QuantizeLinear before it" in str(e.value)


REFUSED: list[tuple[str, str]] = [
    ("int16", "activations of int16 are not supported"),
    ("other scale", "was quantized with scale 0.02 and is read with 0.03"),
    ("channels", "has a scale for each channel"),
    ("dynamic", "takes scales from each input"),
]


@pytest.mark.parametrize(("case", "message"), REFUSED)
def test_refused(case: str, message: str) -> None:
    net = Net(21 if case == "int16" else 13)
    x: Any = net.input("x", 1, 8, 4, 4)
    if case == "int16":
        x = net.add("QuantizeLinear", x, net.const(0.02), net.const(0, "int16"))
        x = net.add("DequantizeLinear", x, net.const(0.02), net.const(0, "int16"))
    elif case == "other scale":
        x = real(net, quantized(net, x, 0.02, 0, "int8"), 0.03047, 0, "int8")
    elif case == "channels":
        x = net.add("QuantizeLinear", x, net.const([0.1] * 8), net.const([0] * 8, "int8"), axis=1)
    else:
        x = net.add("DynamicQuantizeLinear", x, outputs=3)[0]
    with pytest.raises(UnsupportedError, match=message):
        import_onnx(net.model(x))
