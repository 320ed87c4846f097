# SPDX-License-Identifier: Apache-2.0
"""Float operators of TFLite, one by one: imported and run against the reference kernels.

Tolerances are relative to the output's largest value: both sides compute in float32, in different
orders.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tflite_builder import ModelBuilder, Sparse

from edgeq.errors import EdgeqError, UnsupportedError
from edgeq.importers.tflite import import_tflite
from edgeq.ir.graph import Graph

pytest.importorskip("onnxruntime")
from floats import check_float, deviation, run_graph

Rng = np.random.Generator
F = "float32"


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> Rng:
    return np.random.default_rng(list(request.node.name.encode()))


def values(rng: Rng, *shape: int, low: float = -3, high: float = 3) -> np.ndarray:
    return rng.uniform(low, high, shape).astype(np.float32)


class Model:
    """One operator under construction: inputs with data, constants, an output."""

    def __init__(self) -> None:
        self.b = ModelBuilder()
        self.data: list[np.ndarray] = []

    def input(self, array: np.ndarray) -> int:
        self.data.append(array)
        return self.b.input(f"x{len(self.data)}", array.shape, array.dtype.name)

    def const(self, array: Any, **kwargs: Any) -> int:
        return self.b.const(f"c{len(self.b._tensors)}", np.asarray(array), **kwargs)

    def ints(self, *numbers: int) -> int:
        return self.const(np.array(numbers, np.int32))

    def op(self, kind: str, operands: list[int | None], shape: tuple[int, ...], **o: Any) -> int:
        y = self.b.tensor(f"y{len(self.b._tensors)}", shape, F)
        self.b.op(kind, operands, [y], **o)
        return y

    def finish(self, *outputs: int) -> bytes:
        self.b.output(*outputs)
        return self.b.finish()

    def check(self, *outputs: int, tolerance: float = 1e-5) -> Graph:
        return check_float(self.finish(*outputs), self.data, tolerance)


UNARY = {
    **dict.fromkeys(("ABS", "NEG", "SQUARE", "SIN", "COS", "FLOOR", "CEIL", "ROUND"), (-4, 4)),
    **dict.fromkeys(("ELU", "EXP", "RELU_0_TO_1", "SIGN"), (-4, 4)),
    **dict.fromkeys(("LOG", "SQRT", "RSQRT"), (0.01, 9)),
    **dict.fromkeys(("RELU", "RELU6", "RELU_N1_TO_1", "TANH", "LOGISTIC", "HARD_SWISH"), (-8, 8)),
    **dict.fromkeys(("SOFTMAX", "LOG_SOFTMAX"), (-8, 8)),
}


@pytest.mark.parametrize("kind", UNARY)
@pytest.mark.parametrize("shape", [(1, 4, 5, 3), (2, 7)])
def test_unary(kind: str, shape: tuple[int, ...], rng: Rng) -> None:
    m = Model()
    x = values(rng, *shape, low=UNARY[kind][0], high=UNARY[kind][1])
    x.flat[:2] = [2.5, 0.5]  # rounded to even
    options = {"beta": 0.7} if kind == "SOFTMAX" else {}
    m.check(m.op(kind, [m.input(x)], shape, **options))


@pytest.mark.parametrize("approximate", [False, True])
def test_gelu(approximate: bool, rng: Rng) -> None:
    m = Model()
    x = m.input(values(rng, 3, 50))
    m.check(m.op("GELU", [x], (3, 50), approximate=approximate))


@pytest.mark.parametrize("exponent", [0.5, 2.0, -1.0, 3.0, -0.5])
def test_pow(exponent: float, rng: Rng) -> None:
    m = Model()
    x = m.input(values(rng, 3, 50, low=0.1))
    m.check(m.op("POW", [x, m.const(np.float32(exponent))], (3, 50)))


@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL", "DIV"])
@pytest.mark.parametrize("fused", ["NONE", "RELU", "RELU6", "RELU_N1_TO_1"])
@pytest.mark.parametrize("other", ["input", "number", "channels", "pixels", "first"])
def test_arithmetic(kind: str, fused: str, other: str, rng: Rng) -> None:
    m, shape = Model(), (2, 3, 4, 5)
    shapes = {"input": shape, "number": (), "channels": (5,), "pixels": (1, 3, 4, 1), "first": ()}
    a = m.input(values(rng, *shape, low=0.5))
    b = values(rng, *shapes[other], low=0.5)
    y = m.const(b) if other != "input" else m.input(b)
    operands: list[int | None] = [y, a] if other == "first" else [a, y]
    m.check(m.op(kind, operands, shape, fused_activation_function=fused))


@pytest.mark.parametrize("kind", ["MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 1, 1, 5), (5,)])
def test_pairs(kind: str, shape: tuple[int, ...], rng: Rng) -> None:
    m = Model()
    a, b = m.input(values(rng, 2, 3, 4, 5)), m.input(values(rng, *shape))
    m.check(m.op(kind, [a, b], (2, 3, 4, 5)))


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("weights", [F, "float16", "int8"])
@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_convolutions(kind: str, padding: str, stride: int, weights: str, rng: Rng) -> None:
    """With weights as float32, as float16 behind DEQUANTIZE and as int8 behind DEQUANTIZE."""
    m = Model()
    depthwise = kind != "CONV_2D"
    w = values(rng, *((1, 3, 3, 8) if depthwise else (6, 3, 3, 4)))
    channels = 8 if depthwise else 6
    x, bias = m.input(values(rng, 2, 9, 7, 4)), m.const(values(rng, channels))
    size = [-(-(n - (0 if padding == "SAME" else 2)) // stride) for n in (9, 7)]
    if weights == F:
        iw = m.const(w)
    elif weights == "float16":
        iw = m.op("DEQUANTIZE", [m.const(w.astype(np.float16))], w.shape)
    else:
        scales = rng.uniform(0.01, 0.03, channels)
        stored = rng.integers(-127, 128, w.shape).astype(np.int8)
        axis = 3 if depthwise else 0
        iw = m.op("DEQUANTIZE", [m.const(stored, scales=scales, quantized_dimension=axis)], w.shape)
    options = {"padding": padding, "stride_h": stride, "stride_w": stride}
    options |= {"depth_multiplier": 2} if depthwise else {}
    y = m.op(kind, [x, iw, bias], (2, *size, channels), **options, fused_activation_function="RELU")
    graph = m.check(y)
    assert [n.op for n in graph.nodes] == [kind]
    origin = graph.nodes[0].input(1).origin
    assert (origin is not None) == (weights == "int8")
    if origin is not None:
        assert origin.qparams.axis == axis
        np.testing.assert_array_equal(origin.data, stored)


def test_dilated_and_grouped(rng: Rng) -> None:
    m = Model()
    x = m.input(values(rng, 1, 9, 9, 4))
    w, bias = m.const(values(rng, 6, 3, 3, 2)), m.const(values(rng, 6))
    options = {"padding": "SAME", "stride_h": 1, "stride_w": 1}
    y = m.op(
        "CONV_2D", [x, w, bias], (1, 9, 9, 6), dilation_h_factor=2, dilation_w_factor=3, **options
    )
    m.check(y)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 2), (3, 1), (4, 3)])
def test_transpose_conv(padding: str, kernel: int, stride: int, rng: Rng) -> None:
    m = Model()
    x = m.input(values(rng, 2, 4, 5, 3))
    size = [n * stride if padding == "SAME" else (n - 1) * stride + kernel for n in (4, 5)]
    w, bias = m.const(values(rng, 6, kernel, kernel, 3)), m.const(values(rng, 6))
    shape = (2, *size, 6)
    options = {"padding": padding, "stride_h": stride, "stride_w": stride}
    m.check(m.op("TRANSPOSE_CONV", [m.ints(*shape), w, x, bias], shape, **options))


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 2)])
def test_transpose_conv_bias(same: bool, kernel: int, stride: int, rng: Rng) -> None:
    """MediaPipe's custom operator is TRANSPOSE_CONV, whose shape follows from the padding."""
    size = [n * stride if same else (n - 1) * stride + kernel for n in (4, 5)]
    x, w, bias = values(rng, 1, 4, 5, 3), values(rng, 6, kernel, kernel, 3), values(rng, 6)
    custom, builtin = Model(), Model()
    operands = [custom.input(x), custom.const(w), custom.const(bias)]
    y = custom.b.tensor("y", (1, *size, 6), F)
    raw = struct.pack("<3i", 1 if same else 2, stride, stride)
    custom.b.custom("Convolution2DTransposeBias", operands, [y], raw)
    ix, iw, ib = builtin.input(x), builtin.const(w), builtin.const(bias)
    options = {"padding": "SAME" if same else "VALID", "stride_h": stride, "stride_w": stride}
    shape = (1, *size, 6)
    z = builtin.op("TRANSPOSE_CONV", [builtin.ints(*shape), iw, ix, ib], shape, **options)
    want = run_graph(builtin.check(z), [x])
    assert deviation(run_graph(import_tflite(custom.finish(y)), [x]), want) == 0


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("hybrid", [False, True])
def test_fully_connected(keep: bool, hybrid: bool, rng: Rng) -> None:
    m = Model()
    x = m.input(values(rng, 2, 3, 8))
    stored = rng.integers(-127, 128, (5, 8)).astype(np.int8)
    w = m.const(stored, scales=0.02) if hybrid else m.const(values(rng, 5, 8))
    shape = (2, 3, 5) if keep else (6, 5)
    y = m.op("FULLY_CONNECTED", [x, w, m.const(values(rng, 5))], shape, keep_num_dims=keep)
    # A hybrid layer quantizes its rows: half a step of 1 / 127 of the largest, times the weights.
    graph = m.check(y, tolerance=2e-2 if hybrid else 1e-5)
    if hybrid:
        weights = graph.nodes[-1].input(1)
        assert weights.origin is not None and weights.dtype == F
        np.testing.assert_array_equal(weights.origin.data, stored)
        np.testing.assert_allclose(weights.data, stored * np.float32(0.02), rtol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("fused", ["NONE", "RELU6"])
def test_fully_connected_of_two_tensors(bias: bool, fused: str, rng: Rng) -> None:
    m = Model()
    x, w = m.input(values(rng, 2, 3, 8)), m.input(values(rng, 5, 8))
    operands = [x, w, m.const(values(rng, 5)) if bias else None]
    options = {"fused_activation_function": fused, "keep_num_dims": True}
    m.check(m.op("FULLY_CONNECTED", operands, (2, 3, 5), **options))


@pytest.mark.parametrize("kind", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_pools(kind: str, padding: str, rng: Rng) -> None:
    m = Model()
    shape = (2, 4, 5, 3) if padding == "SAME" else (2, 3, 4, 3)
    options = {"filter_height": 3, "filter_width": 3, "stride_h": 2, "stride_w": 2}
    x = m.input(values(rng, 2, 8, 9, 3))
    m.check(m.op(kind, [x], shape, padding=padding, **options))


@pytest.mark.parametrize("kind", ["MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"])
@pytest.mark.parametrize("axes", [(1, 2), (3,), (0, 1, 2, 3), (-1,)])
@pytest.mark.parametrize("keep", [False, True])
def test_reductions(kind: str, axes: tuple[int, ...], keep: bool, rng: Rng) -> None:
    m = Model()
    x = values(rng, 2, 3, 4, 5)
    shape = x.sum(axes, keepdims=keep).shape
    m.check(m.op(kind, [m.input(x), m.ints(*axes)], shape, keep_dims=keep), tolerance=1e-4)


@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("const", [False, True])
@pytest.mark.parametrize("lead", [((2, 3), (2, 3)), ((2, 3), (3,)), ((), ()), ((1,), (4,))])
def test_batch_matmul(turned: tuple[bool, bool], const: bool, lead: Any, rng: Rng) -> None:
    m = Model()
    x = values(rng, *lead[0], *((6, 4) if turned[0] else (4, 6)))
    y = values(rng, *lead[1], *((5, 6) if turned[1] else (6, 5)))
    shape = (*np.broadcast_shapes(*lead), 4, 5)
    operands: list[int | None] = [m.input(x), m.const(y) if const else m.input(y)]
    m.check(m.op("BATCH_MATMUL", operands, shape, adj_x=turned[0], adj_y=turned[1]))


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("const", [False, True])
def test_gather(axis: int, const: bool, rng: Rng) -> None:
    m = Model()
    x = values(rng, 4, 5, 6)
    indices = rng.integers(0, 4, (2, 3)).astype(np.int32)
    shape = np.take(x, indices, axis).shape
    operands: list[int | None] = [m.input(x), m.const(indices) if const else m.input(indices)]
    m.check(m.op("GATHER", operands, shape, axis=axis))


@pytest.mark.parametrize("copies", [(1, 1, 1), (2, 1, 3), (1, 40, 2)])
def test_tile(copies: tuple[int, ...], rng: Rng) -> None:
    m = Model()
    x = values(rng, 2, 3, 4)
    m.check(m.op("TILE", [m.input(x), m.ints(*copies)], np.tile(x, copies).shape))


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (5, 2, 3, 4)])
def test_broadcast_to(shape: tuple[int, ...], rng: Rng) -> None:
    m = Model()
    m.check(m.op("BROADCAST_TO", [m.input(values(rng, 3, 1)), m.ints(*shape)], shape))


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_cumsum(exclusive: bool, reverse: bool, rng: Rng) -> None:
    m = Model()
    x = m.input(values(rng, 2, 5, 3))
    axis = m.const(np.int32(1))
    m.check(m.op("CUMSUM", [x, axis], (2, 5, 3), exclusive=exclusive, reverse=reverse))


def test_l2_normalization(rng: Rng) -> None:
    m = Model()
    m.check(m.op("L2_NORMALIZATION", [m.input(values(rng, 2, 3, 4, 5))], (2, 3, 4, 5)))


def test_leaky_and_prelu(rng: Rng) -> None:
    m = Model()
    x = m.input(values(rng, 1, 3, 4, 5))
    y = m.op("LEAKY_RELU", [x], (1, 3, 4, 5), alpha=0.3)
    m.check(m.op("PRELU", [y, m.const(values(rng, 1, 1, 5))], (1, 3, 4, 5)))


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("kind", ["RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"])
def test_resize(kind: str, align: bool, half: bool, rng: Rng) -> None:
    if align and half:
        pytest.skip("the two exclude each other")
    m = Model()
    x = m.input(values(rng, 1, 5, 7, 3))
    options = {"align_corners": align, "half_pixel_centers": half}
    m.check(m.op(kind, [x, m.ints(9, 10)], (1, 9, 10, 3), **options))


@pytest.mark.parametrize("value", [0.0, -1.5])
def test_moves(value: float, rng: Rng) -> None:
    m = Model()
    x = m.input(values(rng, 1, 4, 6, 8))
    pads = m.const(np.array([[0, 0], [1, 2], [0, 1], [0, 0]], np.int32))
    y = m.op("PADV2", [x, pads, m.const(np.float32(value))], (1, 7, 7, 8))
    y = m.op("TRANSPOSE", [y, m.ints(0, 3, 1, 2)], (1, 8, 7, 7))
    y = m.op("STRIDED_SLICE", [y, m.ints(0, 1, 6, 0), m.ints(1, 8, 0, 7), m.ints(1, 2, -2, 1)],
             (1, 4, 3, 7))  # fmt: skip
    z = m.op("CONCATENATION", [y, y], (1, 4, 6, 7), axis=2)
    mirrored = m.const(np.array([[0, 0], [1, 2], [0, 1], [3, 0]], np.int32))
    z = m.op("MIRROR_PAD", [z, mirrored], (1, 7, 7, 10), mode="SYMMETRIC")
    m.check(m.op("SPACE_TO_DEPTH", [x], (1, 2, 3, 32), block_size=2), z, tolerance=0)


LSTM = {"fused_activation_function": "TANH"}


def lstm(rng: Rng, kind: str, major: bool, clip: float) -> Model:
    """`kind`: words on which operands there are."""
    m = Model()
    batch, steps, width, cells = 2, 5, 3, 4
    outputs = 3 if "projection" in kind else cells
    x = m.input(values(rng, *((steps, batch) if major else (batch, steps)), width))

    def weights(*shape: int) -> int:
        if "hybrid" in kind and len(shape) == 2:
            stored = rng.integers(-127, 128, shape).astype(np.int8)
            return m.const(stored, scales=float(rng.uniform(0.005, 0.01)))
        return m.const(values(rng, *shape, low=-1, high=1))

    def present(word: str, *shape: int, count: int = 4) -> list[int | None]:
        return [weights(*shape) if word in kind else None for _ in range(count)]

    operands: list[int | None] = [x, *(weights(cells, width) for _ in range(4))]
    operands += [weights(cells, outputs) for _ in range(4)]
    operands += present("peephole", cells, count=3)
    operands += [weights(cells) for _ in range(4)]
    operands += present("projection", outputs, cells, count=1)
    operands += present("projection", outputs, count=1)
    operands += [m.b.variable("h", (batch, outputs)), m.b.variable("c", (batch, cells))]
    operands += present("norm", cells)
    if "coupled" in kind:
        for i in (1, 5, 9, 12, 20):
            operands[i] = None
    shape = (*((steps, batch) if major else (batch, steps)), outputs)
    options = {**LSTM, "cell_clip": clip, "proj_clip": clip / 2, "time_major": major}
    m.b.output(m.op("UNIDIRECTIONAL_SEQUENCE_LSTM", operands, shape, **options))
    return m


@pytest.mark.parametrize("major", [False, True])
@pytest.mark.parametrize("clip", [0.0, 0.4])
@pytest.mark.parametrize(
    "kind", ["", "peephole", "projection", "norm peephole", "coupled", "coupled peephole"]
)
def test_lstm(kind: str, clip: float, major: bool, rng: Rng) -> None:
    m = lstm(rng, kind, major, clip)
    graph = m.check()
    assert [s.initial.shape for s in graph.states] == [s.before.shape for s in graph.states]


def test_hybrid_lstm(rng: Rng) -> None:
    """TFLite quantizes x and h to int8 there: 1 / 127 of the largest, step after step."""
    graph = lstm(rng, "hybrid", False, 0.0).check(tolerance=2e-2)
    assert all(graph.nodes[0].input(i).origin is not None for i in range(1, 9))


@pytest.mark.parametrize("block", [False, True])
@pytest.mark.parametrize("dtype", [F, "float16"])
def test_sparse(block: bool, dtype: str, rng: Rng) -> None:
    """Weights of which only some are stored, whole rows or blocks of 2 x 2."""
    m = Model()
    x = m.input(values(rng, 3, 8))
    # Both: row (or pair of rows) 0 has columns 1 and 3, row 1 none, row 2 the first.
    segments, indices = [0, 2, 2, 3], [1, 3, 0]
    if block:
        kept, shape = values(rng, 3 * 4).astype(dtype), (6, 8)
        sparsity = Sparse([0, 1, 2, 3], [0, 1], [3, (segments, indices), 2, 2])
        dense = np.zeros(shape, dtype)
        for k, (r, c) in enumerate([(0, 1), (0, 3), (2, 0)]):
            dense[2 * r : 2 * r + 2, 2 * c : 2 * c + 2] = kept[4 * k : 4 * k + 4].reshape(2, 2)
    else:
        kept, shape = values(rng, 3).astype(dtype), (3, 8)
        sparsity = Sparse([0, 1], [], [3, (segments, indices)])
        dense = np.zeros(shape, dtype)
        dense[[0, 0, 2], [1, 3, 0]] = kept
    s = m.b.sparse("s", shape, kept, sparsity)
    d = m.b.tensor("dense", shape, dtype)
    m.b.op("DENSIFY", [s], [d])
    w = d if dtype == F else m.op("DEQUANTIZE", [d], shape)
    graph = m.check(m.op("FULLY_CONNECTED", [x, w, None], (3, shape[0])))
    np.testing.assert_array_equal(graph.nodes[-1].input(1).data, dense.astype(np.float32))


def test_sides_of_a_mixed_network(rng: Rng) -> None:
    """A network that is int8 in the middle keeps its parameters there, and is float around."""
    b = ModelBuilder()
    x = b.input("x", (1, 4), F)
    t = b.tensor("t", (1, 4), F)
    b.op("EXP", [x], [t])
    q = b.tensor("q", (1, 4), "int8", 0.1, 3)
    b.op("QUANTIZE", [t], [q])
    r = b.tensor("r", (1, 4), "int8", 0.2, 4)
    b.op("ADD", [q, q], [r])
    f = b.tensor("f", (1, 4), F)
    b.op("DEQUANTIZE", [r], [f])
    y = b.tensor("y", (1, 4), F)
    b.op("SQRT", [f], [y])
    b.output(y)
    graph = import_tflite(b.finish())
    assert [n.op for n in graph.nodes] == ["UNARY", "QUANTIZE", "ADD", "DEQUANTIZE", "UNARY"]
    qparams = graph.nodes[2].output.qparams
    assert qparams is not None and (float(qparams.scale), qparams.zero_point) == (
        float(np.float32(0.2)),
        4,
    )


# ---- what is refused


def problem(model: Model, *outputs: int) -> str:
    with pytest.raises(UnsupportedError) as e:
        import_tflite(model.finish(*outputs))
    assert len(e.value.problems) == 1
    return e.value.problems[0]


def test_refused(rng: Rng) -> None:
    m = Model()
    x = m.input(values(rng, 2, 3))
    y = m.op("POW", [x, m.const(values(rng, 3))], (2, 3))
    assert "exponents other than one float32 number" in problem(m, y)

    m = Model()
    a = m.b.input("a", (2, 3), "int8", 0.1, 0)
    y = m.b.tensor("y", (2, 3), "int8", 0.1, 0)
    m.b.op("SQRT", [a], [y])
    assert problem(m, y) == "op 0 SQRT 'y': of int8 is not supported, only of float32"

    m = Model()
    x = m.input(values(rng, 2, 3))
    y = m.b.tensor("y", (2, 3), F)
    m.b.custom("FlexErf", [x], [y], b"")
    assert problem(m, y) == "op 0 CUSTOM 'y': TensorFlow's op 'Erf' is not supported"

    m = Model()
    h = m.b.input("h", (2, 3), "float16")
    y = m.b.tensor("y", (2, 3), "float16")
    m.b.op("RELU", [h], [y])
    assert "'h' is float16, which is supported for weights only" in problem(m, y)

    m = lstm(rng, "", False, 0.0)
    m.b._ops[0].options["fused_activation_function"] = "RELU"
    assert "an activation function other than tanh" in problem(m)


def damaged(data: bytes, rnd: random.Random) -> bytes:
    b = bytearray(data)
    for _ in range(rnd.randrange(1, 6)):
        if rnd.random() < 0.5:
            b[rnd.randrange(len(b))] = rnd.choice([0, 1, 2, 127, 128, 255])
        else:
            at = rnd.randrange(len(b) // 4) * 4
            word = rnd.choice([0, 1, 2**31 - 1, 2**32 - 1, len(b), rnd.randrange(2**32)])
            b[at : at + 4] = word.to_bytes(4, "little")
    return bytes(b)


def small_sparse(rng: Rng) -> Model:
    m = Model()
    sparsity = Sparse([0, 1, 2, 3], [0, 1], [3, ([0, 2, 2, 3], [1, 3, 0]), 2, 2])
    s, d = m.b.sparse("s", (6, 8), values(rng, 12), sparsity), m.b.tensor("d", (6, 8), F)
    m.b.op("DENSIFY", [s], [d])
    m.b.output(m.op("FULLY_CONNECTED", [m.input(values(rng, 3, 8)), d, None], (3, 6)))
    return m


def small_custom(rng: Rng) -> Model:
    m = Model()
    y = m.b.tensor("y", (1, 8, 10, 6), F)
    operands = [m.input(values(rng, 1, 4, 5, 3)), m.const(values(rng, 6, 2, 2, 3))]
    raw = struct.pack("<3i", 1, 2, 2)
    m.b.custom("Convolution2DTransposeBias", [*operands, m.const(values(rng, 6))], [y], raw)
    m.b.output(y)
    return m


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: lstm(rng, "peephole projection norm hybrid", True, 0.5),
        small_sparse,
        small_custom,
    ],
    ids=["lstm", "sparse", "custom"],
)
def test_damaged(make: Callable[[Rng], Model], rng: Rng) -> None:
    """Damaged files are refused or read as what they are."""
    data = make(rng).b.finish()
    import_tflite(data)
    rnd, refused = random.Random(5), 0
    for _ in range(1500):
        try:
            import_tflite(damaged(data, rnd)).verify()
        except EdgeqError:
            refused += 1
    assert 100 < refused < 1500
