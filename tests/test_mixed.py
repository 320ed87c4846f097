# SPDX-License-Identifier: Apache-2.0
"""Networks that mix int8 and int16 activations, as a quantizer of our own makes them.

Each op is lowered from a graph, run by the C library and compared with eqm_evaluate, byte for byte,
and with real numbers: docs/NUMERICS.md says how far the result may be from them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from cases import Rng, chance, fill, limits, pick, seeded, weight_values
from eqm_evaluate import evaluate

from edgeq.difference import differences
from edgeq.errors import UnsupportedError
from edgeq.format.program import Program
from edgeq.format.reader import read_program
from edgeq.format.writer import write_program
from edgeq.ir import ops
from edgeq.ir.graph import Graph, Node, QParams, Tensor
from edgeq.passes import run_passes
from edgeq.quantize.lower import lower
from edgeq.runtime.model import Model
from edgeq.runtime.session import Session

MIXES = [("int16", "int16"), ("int8", "int16"), ("int16", "int8")]
mixes = pytest.mark.parametrize(("x_dtype", "y_dtype"), MIXES, ids=map("-".join, MIXES))
both = pytest.mark.parametrize("arithmetic", ["exact", "native"])


def activation(rng: Rng, name: str, shape: Sequence[int], dtype: str, scale: float) -> Tensor:
    zero = int(rng.integers(-128, 128)) if dtype == "int8" else 0
    return Tensor(name, tuple(shape), dtype, QParams.of(scale, zero))


def real(t: Tensor, stored: np.ndarray) -> np.ndarray:
    assert t.qparams is not None
    return float(t.qparams.scale) * (stored.astype(np.float64) - t.qparams.zero_point)


def run(graph: Graph, inputs: Sequence[np.ndarray], arithmetic: str) -> tuple[Program, np.ndarray]:
    """Of the only output; what C computes is what docs/FORMAT.md says."""
    program = lower(run_passes(graph), arithmetic)
    data = write_program(program)
    assert len(read_program(data).ops) == len(program.ops)
    (got,) = Session(Model(data)).run(*inputs)
    (want,) = evaluate(program, inputs)
    assert got.dtype == want.dtype
    assert np.array_equal(got, want)
    return program, got


def one_node(
    op: str, inputs: Sequence[Tensor], consts: Sequence[Tensor | None], y: Tensor, attrs: Any
) -> Graph:
    node = Node(op, [*inputs, *consts], [y], attrs, "layer")
    return Graph([node], list(inputs), [y])


def check_steps(y: Tensor, got: np.ndarray, ideal: np.ndarray, limit: float) -> None:
    """`ideal`: real numbers; `limit`: how many steps of y a result may be off."""
    assert y.qparams is not None
    low, high = limits(y.dtype)
    steps = np.clip(ideal / float(y.qparams.scale) + y.qparams.zero_point, low, high)
    assert np.abs(got - steps).max() <= limit


# ---- layers with weights


@seeded(25)
@both
@mixes
@pytest.mark.parametrize(
    "op", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"]
)
def test_layer(op: str, x_dtype: str, y_dtype: str, arithmetic: str, rng: Rng) -> None:
    depth, channels = pick(rng, 1, 4, 16, 50), pick(rng, 1, 3, 16, 40)
    kernel = 1 if op == "FULLY_CONNECTED" else pick(rng, 1, 3)
    x_shape: tuple[int, ...] = (1, 5, 4, depth)
    shape, w_shape, axis = (1, 5, 4, channels), (channels, kernel, kernel, depth), 0
    attrs: Any = ops.Conv2D(pad_top=kernel // 2, pad_left=kernel // 2)
    if op == "DEPTHWISE_CONV_2D":
        shape, w_shape, axis = (1, 5, 4, depth), (1, kernel, kernel, depth), 3
        attrs = ops.DepthwiseConv2D(pad_top=kernel // 2, pad_left=kernel // 2)
    elif op == "TRANSPOSE_CONV":
        attrs = ops.TransposeConv(pad_top=kernel // 2, pad_left=kernel // 2)
    elif op == "FULLY_CONNECTED":
        x_shape, shape, w_shape, attrs = (
            (3, depth),
            (3, channels),
            (channels, depth),
            ops.FullyConnected(),
        )
    x = activation(rng, "x", x_shape, x_dtype, 0.01 if x_dtype == "int8" else 1e-4)
    w = weight_values(rng, w_shape, "int8", 0)
    scales = np.exp(rng.uniform(np.log(1e-3), np.log(2e-2), w_shape[axis])).astype(np.float32)
    zeros = np.zeros(len(scales), np.int32)
    weights = Tensor("w", w_shape, "int8", QParams(scales, zeros, axis), w)
    bias_type = np.int64 if chance(rng, 0.5) else np.int32
    bias = rng.integers(-(2**20), 2**20, len(scales)).astype(bias_type)
    # int32 beside int16 on both sides is another arithmetic of the reference
    dtype = "int64" if arithmetic == "exact" and x_dtype == y_dtype else bias.dtype.name
    biases = Tensor("b", bias.shape, dtype, None, bias.astype(dtype))
    assert x.qparams is not None
    acc = accumulators(op, fill_like(rng, x), w, bias, x.qparams.zero_point, kernel)
    stored, sums = acc
    products = sums * (float(x.qparams.scale) * scales.astype(np.float64))
    step = max(np.abs(products).max(), 1e-6) * 2 / (256 if y_dtype == "int8" else 65536)
    y = activation(rng, "y", shape, y_dtype, float(np.float32(step * np.exp(rng.uniform(-0.7, 2)))))
    program, got = run(one_node(op, [x], [weights, biases], y, attrs), [stored], arithmetic)
    assert program.ops[0].params["arithmetic"] == 2
    assert program.ops[0].params["bias"].dtype == np.int64
    precise = arithmetic == "native" or x_dtype != y_dtype
    relative = 2.0**-22 if precise else 2.0**-15
    largest = 2.0 ** (16 if y_dtype == "int16" else 9)
    check_steps(y, got, products, 0.5 + relative * largest + 1e-6)


def fill_like(rng: Rng, t: Tensor) -> np.ndarray:
    return fill(rng, t.shape, t.dtype)


def accumulators(
    op: str, x: np.ndarray, w: np.ndarray, bias: np.ndarray, zero: int, kernel: int
) -> tuple[np.ndarray, np.ndarray]:
    """x, and bias plus the sums of products: same padding, stride 1."""
    steps, weights = x.astype(np.int64) - zero, w.astype(np.int64)
    if op == "FULLY_CONNECTED":
        return x, steps @ weights.T + bias
    around = kernel // 2
    padded = np.pad(steps, ((0, 0), (around, around), (around, around), (0, 0)))
    n, h, width, _ = x.shape
    acc = np.zeros((n, h, width, len(bias)), np.int64)
    for ky in range(kernel):
        for kx in range(kernel):
            part = padded[:, ky : ky + h, kx : kx + width]
            if op == "DEPTHWISE_CONV_2D":
                acc += part * weights[0, ky, kx]
            elif op == "CONV_2D":
                acc += part @ weights[:, ky, kx].T
            else:
                acc += part @ weights[:, kernel - 1 - ky, kernel - 1 - kx].T
    return x, acc + bias


def test_weights_that_leave_32_bits() -> None:
    """4000 taps of 127: multipliers are as fine as 53 bits for the product allow."""
    rng = np.random.default_rng(2)
    x = activation(rng, "x", (1, 4000), "int16", 1e-4)
    w = np.full((2, 4000), 127, np.int8)
    weights = Tensor("w", w.shape, "int8", QParams.of(0.01), w)
    stored = np.array([[32767] * 4000], np.int16)
    y = activation(rng, "y", (1, 2), "int16", 0.6)
    node = one_node("FULLY_CONNECTED", [x], [weights, None], y, ops.FullyConnected())
    program, got = run(node, [stored], "native")
    (m,) = program.ops[0].params["multiplier"].tolist()
    assert 2**18 <= m < 2**19
    check_steps(y, got, real(x, stored) @ (w.T * 0.01), 0.51)


# ---- sums and products


MIXED_PAIRS = [
    (a, b, c) for a in ("int8", "int16") for b in ("int8", "int16") for c in ("int8", "int16")
][1:]


@seeded(8)
@pytest.mark.parametrize("op", ["ADD", "SUB", "MUL", "PRELU"])
@pytest.mark.parametrize("types", MIXED_PAIRS, ids=map("-".join, MIXED_PAIRS))
def test_two_operands(op: str, types: tuple[str, str, str], rng: Rng) -> None:
    shapes = [(2, 3, 7), (2, 3, 7) if chance(rng, 0.6) or op == "PRELU" else (7,)]
    scale = {"int8": 0.05, "int16": 2e-4}
    operands = [
        activation(rng, f"x{i}", s, t, float(np.float32(scale[t] * np.exp(rng.uniform(-1, 1)))))
        for i, (s, t) in enumerate(zip(shapes, types))
    ]
    stored = [fill_like(rng, t) for t in operands]
    a, b = (real(t, v) for t, v in zip(operands, stored))
    ideal = {"ADD": a + b, "SUB": a - b, "MUL": a * b, "PRELU": np.where(a >= 0, a, a * b)}[op]
    step = (np.abs(ideal).max() + 1e-3) * 2 / (256 if types[2] == "int8" else 65536)
    y = activation(rng, "y", (2, 3, 7), types[2], float(np.float32(step)))
    attrs = ops.NoAttrs() if op == "PRELU" else ops.Arithmetic()
    _, got = run(one_node(op, operands, [], y, attrs), stored, "native")
    # Sums round each operand on twice the larger scale with 15 bits below the point, then twice.
    check_steps(y, got, ideal, 1.6 if op in ("ADD", "SUB") else 1.01)


# ---- functions

FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "LOGISTIC": lambda x: 1 / (1 + np.exp(-x)),
    "TANH": np.tanh,
    "HARD_SWISH": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6),
    "RELU_N1_TO_1": lambda x: np.clip(x, -1, 1),
    "LEAKY_RELU": lambda x: np.where(x >= 0, x, 0.125 * x),
    "QUANTIZE": lambda x: x,
}
EXPECTED = {
    ("LOGISTIC", "int8", "int16"): "LUT16",
    ("LOGISTIC", "int16", "int16"): "INTERPOLATE",
    ("LOGISTIC", "int16", "int8"): "INTERPOLATE",
    ("QUANTIZE", "int8", "int16"): "REQUANTIZE",
    ("LEAKY_RELU", "int16", "int8"): "PRELU",
}


@mixes
@pytest.mark.parametrize("op", FUNCTIONS)
def test_function(op: str, x_dtype: str, y_dtype: str) -> None:
    """Of every input. A line over h = 128 inputs is off by h^2 / 8 times the second derivative,
    which is below 1, and by h / 4 times the bend of HARD_SWISH at 3 and -3, which is 1/2.
    """
    rng = np.random.default_rng(9)
    low, high = limits(x_dtype)
    stored = np.arange(low, high + 1).astype(x_dtype)
    x = activation(rng, "x", stored.shape, x_dtype, 16 / 2 ** (8 if x_dtype == "int8" else 16))
    assert x.qparams is not None
    ideal = FUNCTIONS[op](real(x, stored))
    step = np.abs(ideal).max() * 2 / (256 if y_dtype == "int8" else 65536)
    y = activation(rng, "y", stored.shape, y_dtype, float(np.float32(step)))
    attrs = ops.LeakyRelu(0.125) if op == "LEAKY_RELU" else ops.NoAttrs()
    program, got = run(one_node(op, [x], [], y, attrs), [stored], "native")
    assert program.ops[0].opcode == EXPECTED.get((op, x_dtype, y_dtype), program.ops[0].opcode)
    interpolated = program.ops[0].opcode == "INTERPOLATE"
    h = 128 * 16 / 2**16
    line = (h**2 / 8 + (h / 8 if op == "HARD_SWISH" else 0)) / step if interpolated else 0
    check_steps(y, got, ideal, 1.01 + line)


@mixes
def test_concatenation(x_dtype: str, y_dtype: str) -> None:
    rng = np.random.default_rng(10)
    parts = [activation(rng, n, (1, 40), t, 0.05) for n, t in (("a", x_dtype), ("b", y_dtype))]
    stored = [fill_like(rng, t) // 4 for t in parts]
    y = activation(rng, "y", (1, 80), y_dtype, 0.07)
    _, got = run(one_node("CONCATENATION", parts, [], y, ops.Axis(1)), stored, "native")
    check_steps(y, got, np.hstack([real(t, v) for t, v in zip(parts, stored)]), 0.51)


@mixes
def test_mean(x_dtype: str, y_dtype: str) -> None:
    rng = np.random.default_rng(12)
    x = activation(rng, "x", (1, 7, 7, 20), x_dtype, 0.01)
    stored = fill(rng, x.shape, x_dtype)
    y = activation(rng, "y", (1, 20), y_dtype, 0.01 if y_dtype == "int8" else 1e-4)
    graph = one_node("MEAN", [x], [], y, ops.Reduce((1, 2), False))
    _, got = run(graph, [stored], "native")
    check_steps(y, got, real(x, stored).mean(axis=(1, 2)), 1.01)


def test_arg_max_and_softmax() -> None:
    rng = np.random.default_rng(13)
    x = activation(rng, "x", (2, 30), "int16", 1e-3)
    stored = fill(rng, x.shape, "int16")
    y = Tensor("y", (2,), "int32")
    _, got = run(one_node("ARG_MAX", [x], [], y, ops.Axis(1)), [stored], "native")
    assert np.array_equal(got, stored.argmax(axis=1))
    y = Tensor("y", (2, 30), "int16", QParams.of(2.0**-15))
    _, got = run(one_node("SOFTMAX", [x], [], y, ops.Softmax()), [stored], "native")
    power = np.exp(real(x, stored) - real(x, stored).max(axis=1, keepdims=True))
    check_steps(y, got, power / power.sum(axis=1, keepdims=True), 12)


# ---- a network


def network(rng: Rng) -> Graph:
    """int8 convolution to int16, a sum with int16, back to int8 and to a head of int16."""
    x = activation(rng, "x", (1, 6, 6, 3), "int8", 0.02)

    def conv(name: str, a: Tensor, y: Tensor, kernel: int) -> Node:
        shape = (y.shape[-1], kernel, kernel, a.shape[-1])
        w = weight_values(rng, shape, "int8", 0)
        scales = np.full(shape[0], 0.004, np.float32)
        weights = Tensor(
            f"{name}/w", shape, "int8", QParams(scales, np.zeros(shape[0], np.int32)), w
        )
        bias = Tensor(f"{name}/b", shape[:1], "int64", None, np.arange(shape[0]) * 100)
        return Node(
            "CONV_2D",
            [a, weights, bias],
            [y],
            ops.Conv2D(pad_top=kernel // 2, pad_left=kernel // 2),
            name,
        )

    a = activation(rng, "a", (1, 6, 6, 8), "int16", 1e-3)
    b = activation(rng, "b", (1, 6, 6, 8), "int16", 2e-3)
    c = activation(rng, "c", (1, 6, 6, 8), "int16", 3e-3)
    d = activation(rng, "d", (1, 6, 6, 8), "int8", 0.1)
    e = activation(rng, "e", (1, 6, 6, 4), "int16", 4e-3)
    f = activation(rng, "f", (1, 4), "int16", 1e-3)
    nodes = [
        conv("first", x, a, 3),
        conv("second", a, b, 3),
        Node("ADD", [a, b], [c], ops.Arithmetic("RELU"), "sum"),
        Node("QUANTIZE", [c], [d], ops.NoAttrs(), "narrow"),
        conv("third", d, e, 1),
        Node("MEAN", [e], [f], ops.Reduce((1, 2), False), "mean"),
    ]
    return Graph(nodes, [x], [f])


@seeded(10)
@both
def test_network(arithmetic: str, rng: Rng) -> None:
    graph = network(rng)
    stored = fill(rng, (1, 6, 6, 3), "int8")
    program, _ = run(graph, [stored], arithmetic)
    data = write_program(program)
    one, more = (Session(Model(data), threads) for threads in (1, 3))
    assert np.array_equal(one.run(stored)[0], more.run(stored)[0])


# ---- what is refused


def refusal(graph: Graph) -> str:
    with pytest.raises(UnsupportedError) as caught:
        lower(run_passes(graph), "native")
    return " ".join(caught.value.problems)


def test_refusals() -> None:
    rng = np.random.default_rng(1)
    x, y = (activation(rng, n, (1, 4), "int16", 0.1) for n in "xy")
    narrow = activation(rng, "n", (1, 4), "int8", 0.1)
    shifted = Tensor("s", (1, 4), "int16", QParams.of(0.1, 3))
    w = Tensor("w", (4, 4), "int8", QParams.of(0.1, 5), np.ones((4, 4), np.int8))
    text = refusal(one_node("FULLY_CONNECTED", [x], [w, None], y, ops.FullyConnected()))
    assert "op 0 FULLY_CONNECTED 'layer': tensor 'w': zero point 5 of the weights" in text
    assert "out of range for int16" in refusal(one_node("TANH", [shifted], [], y, ops.NoAttrs()))
    text = refusal(one_node("MAXIMUM", [x, narrow], [], y, ops.NoAttrs()))
    assert "tensor 'y': its type is int16, that of 'n' is int8" in text
    text = refusal(one_node("LOG_SOFTMAX", [x], [], y, ops.NoAttrs()))
    assert "quantize this layer with int8 activations" in text


def test_difference_of_arithmetics() -> None:
    """What `edgeq convert --arithmetic native` reports of an int16 network."""
    rng = np.random.default_rng(3)
    graph = network(rng)
    files = [write_program(lower(run_passes(graph), a)) for a in ("exact", "native")]
    (found,) = differences(*files)
    assert (found.dtype, found.elements) == ("int16", 12)
    assert found.max_step < 300
