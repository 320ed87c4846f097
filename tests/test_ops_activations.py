# SPDX-License-Identifier: Apache-2.0
"""Activations, softmax and requantization against the oracle.

What the oracle refuses, and the generators therefore avoid:
- LOGISTIC with an output scale other than 1/256 (any zero point will do);
- LOG_SOFTMAX with output parameters other than 16/256 and the type's highest value;
- int8 SOFTMAX with output parameters other than 1/256 and -128; uint8 takes any and ignores them;
- HARD_SWISH with an output scale below 1/128 of the input's;
- QUANTIZE from a type to one that differs in more than 8-bit signedness.
SOFTMAX rows whose exponentials sum to 512 or more make the oracle shift by more than 31 bits: one
of the two ends the process, the other returns what the processor makes of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import (
    BYTE_TYPES,
    Quant,
    Rng,
    Shape,
    chance,
    dims,
    f32,
    fill,
    limits,
    log_uniform,
    pick,
    scale,
    seeded,
    zero_point,
)
from oracle import check, compare, run_edgeq
from tflite_builder import ModelBuilder

RELUS = ("RELU", "RELU6", "RELU_N1_TO_1")


def every_value(dtype: str) -> np.ndarray:
    """All 256 values of a byte type, (256,)."""
    low, high = limits(dtype)
    return np.arange(low, high + 1).astype(dtype)


def unary_model(kind: str, x: Quant, y: Quant, shape: Shape, **options: Any) -> bytes:
    b = ModelBuilder()
    ti, to = x.input(b, "x", shape), y.tensor(b, "y", shape)
    b.op(kind, [ti], [to], **options)
    b.output(to)
    return b.finish()


def check_table(kind: str, x: Quant, y: Quant, **options: Any) -> None:
    """Checks a unary function on every stored value."""
    check(unary_model(kind, x, y, (256,), **options), [every_value(x.dtype)])


def rescaled(rng: Rng, x: Quant, low: float, high: float) -> Quant:
    """Output parameters whose scale is `low` to `high` times the input's."""
    return Quant(x.dtype, f32(x.scale * log_uniform(rng, low, high)), zero_point(rng, x.dtype))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@pytest.mark.parametrize("kind", RELUS)
@seeded(40)
def test_relu(rng: Rng, kind: str, dtype: str) -> None:
    x = Quant.random(rng, dtype)
    same = chance(rng, 0.25)
    check_table(kind, x, x if same else rescaled(rng, x, 2.0**-4, 2.0**4))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(60)
def test_leaky_relu(rng: Rng, dtype: str) -> None:
    x = Quant.random(rng, dtype)
    alpha = float(rng.choice([0.0, 0.01, 0.1, 0.2, 0.3, 1.0, 1.5, -0.2, rng.uniform(0, 1)]))
    check_table("LEAKY_RELU", x, rescaled(rng, x, 2.0**-4, 2.0**4), alpha=alpha)


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(80)
def test_hard_swish(rng: Rng, dtype: str) -> None:
    x = Quant.random(rng, dtype)
    # Mostly the range of the function itself, whose lowest value is -0.375.
    y = Quant.covering(rng, dtype, -0.4, max(x.range()[1], 0.5))
    if chance(rng, 0.3) or y.scale < x.scale / 128:
        y = rescaled(rng, x, 2.0**-6, 2.0**4)
    check_table("HARD_SWISH", x, y)


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(60)
def test_logistic(rng: Rng, dtype: str) -> None:
    zero = limits(dtype)[0] if chance(rng, 0.7) else zero_point(rng, dtype)
    check_table("LOGISTIC", Quant.random(rng, dtype), Quant(dtype, 1 / 256, zero))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(60)
def test_tanh(rng: Rng, dtype: str) -> None:
    low, high = limits(dtype)
    y = Quant(dtype, 1 / 128, (low + high + 1) // 2)
    if chance(rng, 0.3):
        y = Quant(dtype, log_uniform(rng, 2.0**-9, 2.0**-5), zero_point(rng, dtype))
    check_table("TANH", Quant.random(rng, dtype), y)


@pytest.mark.parametrize("kind", ["LOGISTIC", "TANH", "HARD_SWISH", "RELU6", "LEAKY_RELU"])
@seeded(4)
def test_unary_shapes(rng: Rng, kind: str) -> None:
    """The tables at other lengths and ranks than 256."""
    shape = dims(rng, int(rng.integers(0, 6)), 1, 9)
    x = Quant("int8", 0.05, zero_point(rng, "int8"))
    y = Quant("int8", 1 / 256, -128) if kind == "LOGISTIC" else Quant("int8", 1 / 32, -5)
    options = {"alpha": 0.1} if kind == "LEAKY_RELU" else {}
    check(unary_model(kind, x, y, shape, **options), [fill(rng, shape, "int8")])


def softmax_shape(rng: Rng) -> Shape:
    """1 to 4 dimensions; rows of a few classes to a thousand."""
    depth = pick(rng, 1, 2, 3, 10, 12, 21, *rng.integers(2, 120, 4))
    if chance(rng, 0.1):
        depth = int(rng.integers(500, 1100))
    return (*dims(rng, int(rng.integers(0, 4)), 1, 4), depth)


def softmax_model(x: Quant, shape: Shape, beta: float) -> bytes:
    y = Quant(x.dtype, 1 / 256, limits(x.dtype)[0])
    return unary_model("SOFTMAX", x, y, shape, beta=beta)


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(80)
def test_softmax(rng: Rng, dtype: str) -> None:
    beta = 1.0 if chance(rng, 0.6) else log_uniform(rng, 0.05, 8.0)
    x, shape = Quant.random(rng, dtype), softmax_shape(rng)
    data = softmax_input(rng, shape, dtype)
    below_top = data.astype(np.float64) - data.max(axis=-1, keepdims=True)
    if np.exp(below_top * x.scale * beta).sum(axis=-1).max() > 511:
        shape = (*shape[:-1], 511)
        data = data[..., :511]
    check(softmax_model(x, shape, beta), [data])


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@pytest.mark.parametrize("depth", [511, 512, 600, 1001, 3000])
def test_softmax_of_many_equal_classes(dtype: str, depth: int) -> None:
    """With a sum of 512 or more no class reaches half a step: all get the lowest value.

    At 511 equal classes each gets 256/511 of a step, which rounds to one.
    """
    low = limits(dtype)[0]
    model = softmax_model(Quant(dtype, 0.1, low), (1, depth), 1.0)
    want = np.full((1, depth), low + (depth < 512), dtype)
    compare(run_edgeq(model, [np.full((1, depth), 7, dtype)]), [want], "SOFTMAX")


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(60)
def test_log_softmax(rng: Rng, dtype: str) -> None:
    y = Quant(dtype, 16 / 256, limits(dtype)[1])
    shape = softmax_shape(rng)
    model = unary_model("LOG_SOFTMAX", Quant.random(rng, dtype), y, shape)
    check(model, [softmax_input(rng, shape, dtype)])


def softmax_input(rng: Rng, shape: Shape, dtype: str) -> np.ndarray:
    """Half of the time values near each other, so that more than one class gets a share."""
    if chance(rng, 0.5):
        return fill(rng, shape, dtype)
    low, high = limits(dtype)
    values = rng.normal(rng.uniform(low, high), log_uniform(rng, 1, 40), shape)
    return np.clip(np.rint(values), low, high).astype(dtype)


@pytest.mark.parametrize("target", BYTE_TYPES)
@pytest.mark.parametrize("source", BYTE_TYPES)
@seeded(50)
def test_requantize(rng: Rng, source: str, target: str) -> None:
    """QUANTIZE between byte types, the mere change of sign included."""
    x = Quant.random(rng, source)
    y = Quant(target, f32(x.scale * log_uniform(rng, 2.0**-6, 2.0**6)), zero_point(rng, target))
    kind = pick(rng, 0, 0, 0, 1, 2)
    if kind == 1:
        y = Quant(target, x.scale, y.zero_point)
    elif kind == 2 and source != target:
        y = Quant(target, x.scale, x.zero_point + (128 if target == "uint8" else -128))
    check_table("QUANTIZE", x, y)


def float_values(rng: Rng, q: Quant, count: int) -> np.ndarray:
    """float32 inputs: over and beyond the range, on the steps, and next to every rounding tie."""
    low, high = q.range()
    low_q, high_q = limits(q.dtype)
    step = np.float32(q.scale)
    steps = (np.arange(low_q - 1, high_q + 2) - q.zero_point).astype(np.float32)
    ties = (steps + np.float32(0.5)) * step
    parts = [
        rng.uniform(2 * low - high, 2 * high - low, count),
        steps * step,
        ties,
        np.nextafter(ties, np.float32(np.inf)),
        np.nextafter(ties, np.float32(-np.inf)),
        [0.0, -0.0],
    ]
    return np.concatenate([np.asarray(p, np.float32) for p in parts])


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(40)
def test_quantize_float_input(rng: Rng, dtype: str) -> None:
    """A float32 input that is quantized first."""
    y = Quant(dtype, scale(rng), zero_point(rng, dtype))
    values = float_values(rng, y, 300)
    b = ModelBuilder()
    ti, to = b.input("x", values.shape, "float32"), y.tensor(b, "y", values.shape)
    b.op("QUANTIZE", [ti], [to])
    b.output(to)
    check(b.finish(), [values])


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(20)
def test_dequantize_output(rng: Rng, dtype: str) -> None:
    """A float32 output of every stored value."""
    x = Quant.random(rng, dtype)
    b = ModelBuilder()
    ti, to = x.input(b, "x", (256,)), b.tensor("y", (256,), "float32")
    b.op("DEQUANTIZE", [ti], [to])
    b.output(to)
    check(b.finish(), [every_value(dtype)])


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(10)
def test_float_edges(rng: Rng, dtype: str) -> None:
    """float32 in and out around one operator in integers."""
    x = Quant.random(rng, dtype)
    y = rescaled(rng, x, 0.5, 2.0)
    values = float_values(rng, x, 100)
    b = ModelBuilder()
    ti = b.input("x", values.shape, "float32")
    tq, tr = x.tensor(b, "q", values.shape), y.tensor(b, "r", values.shape)
    to = b.tensor("y", values.shape, "float32")
    b.op("QUANTIZE", [ti], [tq])
    b.op("LEAKY_RELU", [tq], [tr], alpha=0.3)
    b.op("DEQUANTIZE", [tr], [to])
    b.output(to)
    check(b.finish(), [values])
