# SPDX-License-Identifier: Apache-2.0
"""Float ops between DEQUANTIZE and QUANTIZE, and at the end of a network, against the oracle.

What is a function of one tensor is exact, but for functions of which C libraries differ by the last
bit of a float32: then a rounding can fall the other way, in one of 256 entries now and then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import Quant, Rng, f32, log_uniform, seeded
from oracle import check, compare, reference, run_edgeq
from tflite_builder import ModelBuilder
from zoo import zoo_folder

import edgeq
from edgeq.errors import ArgumentError

EVERY = np.arange(-128, 128, dtype=np.int8).reshape(1, 256)
NEAR = 2  # entries of a table that a C library's last bit may move

Body = Callable[[ModelBuilder, int], int]


def island(x: Quant, y: Quant | None, body: Body, shape: tuple[int, ...] = (1, 256)) -> bytes:
    """DEQUANTIZE, `body` on the float tensor, QUANTIZE; without `y` the floats are the output."""
    b = ModelBuilder()
    f = b.tensor("f", shape, "float32")
    b.op("DEQUANTIZE", [x.input(b, "x", shape)], [f])
    g = body(b, f)
    if y is None:
        b.output(g)
        return b.finish()
    out = y.tensor(b, "y", shape)
    b.op("QUANTIZE", [g], [out])
    b.output(out)
    return b.finish()


def op(b: ModelBuilder, kind: str, *inputs: Any, shape: Any = (1, 256), **options: Any) -> int:
    """One float op; numbers are constants."""
    tensors = [i if isinstance(i, int) else b.const(f"c{i}", np.float32(i)) for i in inputs]
    out = b.tensor(f"{kind}{len(b._tensors)}", shape, "float32")
    b.op(kind, tensors, [out], **options)
    return out


def notes(model: bytes) -> tuple[str, ...]:
    return edgeq.convert(model).report.notes


EXACT: dict[str, Body] = {
    "nothing": lambda b, f: f,
    "sqrt": lambda b, f: op(b, "SQRT", op(b, "ABS", f)),
    "line": lambda b, f: op(b, "ADD", op(b, "MUL", f, 1.7), -0.3),
    "divided": lambda b, f: op(b, "DIV", f, 3.1, fused_activation_function="RELU6"),
    "divides": lambda b, f: op(b, "DIV", 2.0, op(b, "MAXIMUM", f, 0.25)),
    "square": lambda b, f: op(b, "MUL", f, f),
    "hard_swish": lambda b, f: op(
        b, "MUL", f, op(b, "MUL", op(b, "RELU6", op(b, "ADD", f, 3.0)), f32(1 / 6))
    ),
    "leaky": lambda b, f: op(b, "LEAKY_RELU", f, alpha=0.125),
    "floor": lambda b, f: op(b, "FLOOR", op(b, "NEG", f)),
    "clipped": lambda b, f: op(b, "MINIMUM", op(b, "RELU_N1_TO_1", f), 0.5),
}


@pytest.mark.parametrize("name", EXACT)
@seeded(4)
def test_exact_functions(rng: Rng, name: str) -> None:
    x = Quant("int8", log_uniform(rng, 0.01, 0.1), Quant.random(rng, "int8").zero_point)
    y = Quant("int8", log_uniform(rng, 0.01, 0.2), Quant.random(rng, "int8").zero_point)
    check(island(x, y, EXACT[name]), [EVERY])


@pytest.mark.parametrize("kind", ["EXP", "LOG", "SIN", "COS", "LOGISTIC", "TANH", "RSQRT", "POW"])
@seeded(6)
def test_functions_of_c_libraries(rng: Rng, kind: str) -> None:
    x = Quant("int8", log_uniform(rng, 0.01, 0.04), -128)
    y = Quant("int8", log_uniform(rng, 0.005, 0.1), Quant.random(rng, "int8").zero_point)

    def body(b: ModelBuilder, f: int) -> int:
        positive = op(b, "MAXIMUM", f, 0.01)
        return op(b, kind, positive, *((1.5,) if kind == "POW" else ()))

    model = island(x, y, body)
    (want,), (got,) = reference(model, [EVERY]), run_edgeq(model, [EVERY])
    different = np.abs(want.astype(int) - got)
    assert different.max() <= 1
    assert (different > 0).sum() <= NEAR


def test_notes_say_what_was_turned() -> None:
    x, y = Quant("int8", 0.05, -128), Quant("int8", 0.02, -128)
    assert notes(island(x, y, EXACT["sqrt"])) == (
        "float abs(x) 'ABS2', sqrt(x) 'SQRT3', QUANTIZE 'y': one table, exact",
    )
    assert notes(island(x, y, EXACT["nothing"])) == ()


# ---- whole numbers


def whole(y: Quant, body: Body, shape: tuple[int, ...]) -> bytes:
    b = ModelBuilder()
    f, out = b.tensor("f", shape, "float32"), y.tensor(b, "y", shape)
    b.op("CAST", [b.input("x", shape, "int32")], [f])
    b.op("QUANTIZE", [body(b, f)], [out])
    b.output(out)
    return b.finish()


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@seeded(12)
def test_whole_numbers(rng: Rng, dtype: str) -> None:
    """CAST, a function that never falls, QUANTIZE: all numbers around its steps."""
    y = Quant(dtype, log_uniform(rng, 1e-3, 1e3), Quant.random(rng, dtype).zero_point)
    factor = log_uniform(rng, 0.01, 30)
    bodies: list[Body] = [
        lambda b, f: f,
        lambda b, f: op(b, "ADD", op(b, "MUL", f, factor, shape=shape), -7.5, shape=shape),
        lambda b, f: op(b, "SQRT", op(b, "MAXIMUM", f, 0.0, shape=shape), shape=shape),
    ]
    span = int(min(300 * y.scale, 2**24))
    x = np.unique(np.concatenate([rng.integers(-span, span + 1, 3000), np.arange(-300, 300)]))
    shape = (len(x),)
    body = bodies[int(rng.integers(3))]
    check(whole(y, body, shape), [x.astype(np.int32)])


@pytest.mark.parametrize("source", ["int8", "uint8", "bool"])
def test_bytes_without_scale(source: str) -> None:
    """CAST of what the caller hands in, as of a picture's bytes."""
    b = ModelBuilder()
    f, y = b.tensor("f", (256,), "float32"), b.tensor("y", (256,), "int8", 0.7, 3)
    b.op("CAST", [b.input("x", (256,), source)], [f])
    b.op("QUANTIZE", [f], [y])
    b.output(y)
    x = np.arange(256).astype(np.uint8)
    check(b.finish(), [x % 2 == 1 if source == "bool" else x.astype(source)])


def test_bytes_of_scale_1_need_nothing() -> None:
    b = ModelBuilder()
    f, y = b.tensor("f", (4,), "float32"), b.tensor("y", (4,), "int8", 1.0, -128)
    z = b.tensor("z", (4,), "int8", 2.0, -128)
    b.op("CAST", [b.input("x", (4,), "uint8")], [f])
    b.op("QUANTIZE", [f], [y])
    b.op("RELU", [y], [z])
    b.output(z)
    model = edgeq.load(edgeq.convert(b.finish()).data).model
    assert [o.type for o in model.ops] == ["LUT"]


def test_to_whole_numbers() -> None:
    x = Quant("int8", 0.13, -20)
    b = ModelBuilder()
    f, y = b.tensor("f", (1, 256), "float32"), b.tensor("y", (1, 256), "int32")
    b.op("DEQUANTIZE", [x.input(b, "x", (1, 256))], [f])
    b.op("CAST", [op(b, "MUL", f, 100.0)], [y])
    b.output(y)
    check(b.finish(), [EVERY])


@pytest.mark.parametrize("kind", ["GREATER", "LESS_EQUAL", "EQUAL"])
def test_comparison_with_a_number(kind: str) -> None:
    x = Quant("int8", 0.125, -20)
    b = ModelBuilder()
    f, y = b.tensor("f", (1, 256), "float32"), b.tensor("y", (1, 256), "bool")
    b.op("DEQUANTIZE", [x.input(b, "x", (1, 256))], [f])
    b.op(kind, [f, b.const("c", np.float32(0.5))], [y])
    b.output(y)
    check(b.finish(), [EVERY])


# ---- two tensors


def pairs(kind: str, a: Quant, b: Quant, y: Quant) -> tuple[bytes, list[np.ndarray]]:
    """All pairs of stored numbers."""
    m = ModelBuilder()
    f, g = m.tensor("f", (256, 1), "float32"), m.tensor("g", (1, 256), "float32")
    m.op("DEQUANTIZE", [a.input(m, "a", (256, 1))], [f])
    m.op("DEQUANTIZE", [b.input(m, "b", (1, 256))], [g])
    out = y.tensor(m, "y", (256, 256))
    m.op("QUANTIZE", [op(m, kind, f, g, shape=(256, 256))], [out])
    m.output(out)
    return m.finish(), [EVERY.reshape(256, 1), EVERY]


def differing(model: bytes, inputs: list[np.ndarray]) -> np.ndarray:
    (want,), (got,) = reference(model, inputs), run_edgeq(model, inputs)
    return np.abs(want.astype(int) - got)


@seeded(12)
def test_quotients(rng: Rng) -> None:
    """All pairs with a divisor that is not 0: near-ties may differ, no other."""
    a, b = Quant.random(rng, "int8"), Quant.random(rng, "int8")
    y = Quant.covering(rng, "int8", -3, a.scale / b.scale * 30)
    model, inputs = pairs("DIV", a, b, y)
    different = differing(model, inputs)[:, EVERY[0] != b.zero_point]
    assert different.max() <= 1
    assert (different > 0).sum() <= 70  # one in 1000: scales in simple ratios make ties


def test_quotients_of_movenet() -> None:
    a, b = Quant("int8", 1 / 256, -128), Quant("int8", f32(0.249587), -128)
    model, inputs = pairs("DIV", a, b, Quant("int8", f32(0.00199215), -128))
    assert not differing(model, inputs)[:, 1:].any()


def test_division_by_zero() -> None:
    """The end of the range that has the sign of the dividend; 0 / 0 is 0."""
    a, b, y = Quant("int8", 0.5, 10), Quant("int8", 0.5, -7), Quant("int8", 0.1, 3)
    model, inputs = pairs("DIV", a, b, y)
    (got,) = run_edgeq(model, inputs)
    column = got[:, -7 + 128]
    assert (column[: 10 + 128] == -128).all()
    assert column[10 + 128] == 3
    assert (column[10 + 129 :] == 127).all()


@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"])
@seeded(4)
def test_two_tensors(rng: Rng, kind: str) -> None:
    """int8 ops with the scale of the QUANTIZE behind them: a step, where a rounding differs."""
    a, b = (Quant("int8", log_uniform(rng, 0.01, 0.1), int(rng.integers(-60, 60))) for _ in "ab")
    high = 255 * (a.scale * b.scale * 128 if kind == "MUL" else a.scale + b.scale) / 2
    y = Quant.covering(rng, "int8", -high, high)
    different = differing(*pairs(kind, a, b, y))
    assert different.max() <= 1
    assert (different > 0).mean() < (0.5 if "IM" in kind else 0.02)


# ---- the end of the network


def sqnr(want: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10((want**2).sum() / max(((want - got) ** 2).sum(), 1e-30)))


@pytest.mark.parametrize(
    ("kind", "least"), [("SOFTMAX", 35), ("LOG_SOFTMAX", 35), ("LOGISTIC", 40), ("TANH", 40)]
)
def test_at_the_end(rng: Rng, kind: str, least: float) -> None:
    x = Quant("int8", 0.05, -10)
    options = {"beta": 1.0} if kind == "SOFTMAX" else {}
    model = island(x, None, lambda b, f: op(b, kind, f, shape=(8, 10), **options), (8, 10))
    data = rng.integers(-128, 128, (8, 10)).astype(np.int8)
    (want,), (got,) = reference(model, [data]), run_edgeq(model, [data])
    assert got.dtype == np.float32
    assert sqnr(want, got) >= least
    (note,) = notes(model)
    assert kind in note
    assert ("SQNR" in note) == (kind in ("LOGISTIC", "TANH"))


def test_moves_inside() -> None:
    """A RESHAPE and a TRANSPOSE of floats become those of bytes."""
    x, y = Quant("int8", 0.05, -128), Quant("int8", 0.02, -100)

    def body(b: ModelBuilder, f: int) -> int:
        shape = b.const("shape", np.array([16, 16], np.int32))
        g = op(b, "RESHAPE", op(b, "SQRT", f), shape, shape=(16, 16))
        g = op(b, "TRANSPOSE", g, b.const("p", np.array([1, 0], np.int32)), shape=(16, 16))
        back = b.const("back", np.array([1, 256], np.int32))
        return op(b, "RESHAPE", op(b, "ADD", g, 0.1, shape=(16, 16)), back)

    check(island(x, y, body), [EVERY])


def test_one_tensor_for_many() -> None:
    """A float tensor that a table, an op of int8 and an output read."""
    x, y = Quant("int8", 0.05, -128), Quant("int8", 0.02, -100)
    b = ModelBuilder()
    f = b.tensor("f", (1, 256), "float32")
    b.op("DEQUANTIZE", [x.input(b, "x", (1, 256))], [f])
    root = op(b, "SQRT", f)
    first, second = y.tensor(b, "first", (1, 256)), y.tensor(b, "second", (1, 256))
    b.op("QUANTIZE", [root], [first])
    b.op("QUANTIZE", [op(b, "EXP", op(b, "NEG", root))], [second])
    b.output(first, second, root)
    model = b.finish()
    want, got = reference(model, [EVERY]), run_edgeq(model, [EVERY])
    compare(got[:2], want[:2], "the tables")
    assert np.abs(want[2] - got[2]).max() <= 0.011


# ---- refused


def test_no_range() -> None:
    """Any int32 could come, and a function that falls has no boundaries to search."""
    y = Quant("int8", 1.0, 0)
    with pytest.raises(ArgumentError, match="the first is op 0 CAST 'f'"):
        edgeq.convert(whole(y, lambda b, f: op(b, "COS", f, shape=(4,)), (4,)))
    b = ModelBuilder()
    f = b.tensor("f", (4,), "float32")
    b.op("CAST", [b.input("x", (4,), "int32")], [f])
    b.output(f)
    with pytest.raises(ArgumentError, match="the first is op 0 CAST 'f'"):
        edgeq.convert(b.finish())


def test_floats_from_outside() -> None:
    b = ModelBuilder()
    x, y = b.input("x", (4,), "float32"), b.tensor("y", (4,), "float32")
    b.op("SQRT", [x], [y])
    b.output(y)
    with pytest.raises(ArgumentError, match="the first is op 0 UNARY 'y'"):
        edgeq.convert(b.finish())


# ---- a network with eight of them


def test_movenet(rng: Rng) -> None:
    """Byte for byte, all its CASTs, its square root and its division included."""
    path = zoo_folder() / "models/coral/movenet_single_pose_lightning_ptq.tflite"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    model = path.read_bytes()
    for _ in range(3):
        small = rng.integers(0, 256, (12, 12, 3))
        x = small.repeat(16, 0).repeat(16, 1)[None] + rng.integers(-9, 10, (1, 192, 192, 3))
        check(model, [np.clip(x, 0, 255).astype(np.uint8)])
    report = edgeq.convert(model).report
    assert sum("exact" in note for note in report.notes) == 5
    assert sum("DIV" in note for note in report.notes) == 1
    assert len(report.notes) == 6
