# SPDX-License-Identifier: Apache-2.0
"""Multipliers, requantization, tables and the proof of the accumulators."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from cases import BYTE_TYPES, Rng, f32, scale, seeded
from hypothesis import given
from hypothesis import strategies as st
from oracle import reference
from tflite_builder import ModelBuilder

from edgeq.errors import UnsupportedError
from edgeq.ir.graph import Graph, Node, QParams, Tensor
from edgeq.ir.ops import FullyConnected
from edgeq.quantize import tables
from edgeq.quantize.fixedpoint import exp_on_negative_values
from edgeq.quantize.lower import lower
from edgeq.quantize.multiplier import (
    INT32_MAX,
    RangeError,
    activation_range,
    mean_multiplier,
    quantize_multiplier,
    quantize_multipliers,
    requantize,
    round_half_away,
)
from edgeq.quantize.rules_mac import accumulator_bounds

int32s = st.integers(-(2**31), 2**31 - 1)


def half_away(x: Fraction) -> int:
    """The exact rounding that the functions under test must reach."""
    return int(math.copysign(1, x)) * math.floor(abs(x) + Fraction(1, 2))


# ---- multipliers


@given(st.floats(2.0**-31, 2.0**29))
def test_multiplier_is_the_nearest(real: float) -> None:
    m, e = quantize_multiplier(real)
    assert 2**30 <= m < 2**31
    assert -31 <= e <= 30
    assert abs(m * Fraction(2) ** (e - 31) - Fraction(real)) <= Fraction(2) ** (e - 32)


@pytest.mark.parametrize(
    ("real", "pair"),
    [
        (0.0, (0, 0)),
        (0.5, (2**30, 0)),
        (1.0, (2**30, 1)),
        (1 - 2.0**-31, (2**31 - 1, 0)),
        (1 - 2.0**-32, (2**30, 1)),  # a tie that carries
        (1 - 2.0**-33, (2**30, 1)),
        (2.0**-32, (2**30, -31)),
        (2.0**-32 * (1 - 2.0**-33), (2**30, -31)),  # rounds up into the range
        (2.0**-33, (0, 0)),
        (2.0**30 - 1, (2**31 - 2, 30)),
        (-0.75, (-3 * 2**29, 0)),
    ],
)
def test_multiplier_edges(real: float, pair: tuple[int, int]) -> None:
    assert quantize_multiplier(real) == pair


@pytest.mark.parametrize("real", [2.0**30, 1e300, math.inf, math.nan])
def test_multiplier_out_of_range(real: float) -> None:
    with pytest.raises(RangeError):
        quantize_multipliers(np.array([0.5, real]))


@given(int32s, st.integers(2**30, 2**31 - 1), st.integers(-31, 0))
def test_requantize_rounds_twice(x: int, m: int, e: int) -> None:
    high = math.floor(Fraction(x * m, 2**31) + Fraction(1, 2))
    assert requantize(np.array([x]), m, e)[0] == half_away(Fraction(high, 2**-e))


@given(int32s, st.integers(2**30, 2**31 - 1), st.integers(1, 30))
def test_requantize_shifts_left_modulo_2_32(x: int, m: int, e: int) -> None:
    wrapped = (x * 2**e + 2**31) % 2**32 - 2**31
    want = math.floor(Fraction(wrapped * m, 2**31) + Fraction(1, 2))
    assert requantize(np.array([x]), m, e)[0] == want


def test_multiply_high_saturates() -> None:
    assert requantize(np.array([-(2**31)]), -(2**31), 0)[0] == INT32_MAX


@given(st.floats(-(2.0**40), 2.0**40))
def test_round_half_away(x: float) -> None:
    assert round_half_away(x) == half_away(Fraction(x))


@given(st.floats(2.0**-12, 2.0**4), st.integers(1, 70000))
def test_mean_multiplier_stays_in_range(real: float, count: int) -> None:
    m, e = mean_multiplier(real, count)
    assert 0 <= m < 2**31
    assert -31 <= e <= 30
    ideal = Fraction(real) / count
    # m >= 2^29 is rounded down once more by the division by count.
    assert abs(m * Fraction(2) ** (e - 31) - ideal) <= ideal / 2**28


def test_activation_range_divides_in_float32() -> None:
    # 6 / s is 127.5 in float32, a tie, and just below it in float64.
    s = np.float32(6) / np.float32(127.5)
    assert 6 / float(s) < 127.5
    assert activation_range("RELU6", s, -128) == (-128, 0)
    assert activation_range("RELU6", np.float32(0.01), -128) == (-128, 127)
    assert activation_range("RELU_N1_TO_1", np.float32(0.01), 3) == (-97, 103)
    assert activation_range("RELU", np.float32(0.01), 127) == (127, 127)
    assert activation_range("NONE", np.float32(0.01), 127) == (-128, 127)


# ---- tables

Pair = tuple[QParams, QParams]
Table = Callable[[QParams, QParams], np.ndarray]


def zero(rng: Rng) -> int:
    return int(rng.integers(-128, 128))


def pairs(rng: Rng, count: int = 100) -> list[Pair]:
    return [
        (QParams.of(scale(rng), zero(rng)), QParams.of(scale(rng), zero(rng))) for _ in range(count)
    ]


def oracle_tables(op: str, dtype: str, cases: list[Pair], **options: object) -> list[np.ndarray]:
    """What the oracle's `op` makes of all 256 inputs, in the int8 domain."""
    shift = 128 if dtype == "uint8" else 0
    every = (np.arange(-128, 128) + shift).astype(dtype).reshape(1, 256)
    b = ModelBuilder()
    for i, (qx, qy) in enumerate(cases):
        x = b.input(f"x{i}", (1, 256), dtype, float(qx.scale), qx.zero_point + shift)
        y = b.tensor(f"y{i}", (1, 256), dtype, float(qy.scale), qy.zero_point + shift)
        b.op(op, [x], [y], **options)
        b.output(y)
    outputs = reference(b.finish(), [every] * len(cases))
    return [(y.astype(np.int16) - shift).astype(np.int8)[0] for y in outputs]


def compare(make: Table, op: str, dtype: str, cases: list[Pair], **options: object) -> None:
    """Fails if an entry of a table differs from the oracle's."""
    for (x, y), want in zip(cases, oracle_tables(op, dtype, cases, **options)):
        table = make(x, y)
        assert table.dtype == np.int8
        different = np.flatnonzero(table != want)
        assert not len(different), (
            f"{op}, input {x.scale!r} {x.zero_point}, output {y.scale!r} {y.zero_point}: "
            f"{table[different]} at {different - 128}, the oracle has {want[different]}"
        )


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(5)
def test_logistic_table(rng: Rng, dtype: str) -> None:
    cases = [(x, QParams.of(1 / 256, y.zero_point)) for x, y in pairs(rng)]
    compare(tables.logistic_table, "LOGISTIC", dtype, cases)


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(5)
def test_tanh_table(rng: Rng, dtype: str) -> None:
    """These cases agree; over many more seeds an entry may differ: docs/ORACLE.md, TANH."""
    cases = [(x, QParams.of(1 / 128) if i % 2 else y) for i, (x, y) in enumerate(pairs(rng))]
    compare(tables.tanh_table, "TANH", dtype, cases)


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@pytest.mark.parametrize("op", ["RELU", "RELU6", "RELU_N1_TO_1"])
@seeded(3)
def test_relu_table(rng: Rng, op: str, dtype: str) -> None:
    compare(lambda x, y: tables.relu_table(op, x, y), op, dtype, pairs(rng))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(5)
def test_leaky_relu_table(rng: Rng, dtype: str) -> None:
    alpha = f32(rng.uniform(-1, 2))
    make = lambda x, y: tables.leaky_relu_table(alpha, x, y)  # noqa: E731
    compare(make, "LEAKY_RELU", dtype, pairs(rng), alpha=alpha)


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(5)
def test_hard_swish_table(rng: Rng, dtype: str) -> None:
    uint8 = dtype == "uint8"
    cases = [(x, y) for x, y in pairs(rng) if x.scale / y.scale < 127]  # the reference's limit
    compare(lambda x, y: tables.hard_swish_table(x, y, uint8), "HARD_SWISH", dtype, cases)


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(5)
def test_quantize_table(rng: Rng, dtype: str) -> None:
    compare(tables.quantize_table, "QUANTIZE", dtype, pairs(rng))


@seeded(5)
def test_concatenation_table(rng: Rng) -> None:
    """uint8 inputs are rescaled in float32; one of output's own scale follows and is copied."""
    cases = pairs(rng)
    every = np.arange(256, dtype=np.uint8).reshape(1, 256)
    b = ModelBuilder()
    for i, (qx, qy) in enumerate(cases):
        x = b.input(f"x{i}", (1, 256), "uint8", float(qx.scale), qx.zero_point + 128)
        own = b.input(f"z{i}", (1, 256), "uint8", float(qy.scale), qy.zero_point + 128)
        y = b.tensor(f"y{i}", (1, 512), "uint8", float(qy.scale), qy.zero_point + 128)
        b.op("CONCATENATION", [x, own], [y], axis=1)
        b.output(y)
    for (qx, qy), want in zip(cases, reference(b.finish(), [every] * (2 * len(cases)))):
        got = tables.concatenation_table(qx, qy).astype(np.int16) + 128
        np.testing.assert_array_equal(got, want[0, :256])
        np.testing.assert_array_equal(every[0], want[0, 256:])


def test_hard_swish_refuses_what_the_reference_refuses() -> None:
    with pytest.raises(RangeError, match="input's scale 1 is too large"):
        tables.hard_swish_table(QParams.of(1.0), QParams.of(2.0**-7), False)


# ---- softmax


@given(st.integers(-(2**31), 0))
def test_exp_in_fixed_point(raw: int) -> None:
    got = int(exp_on_negative_values(np.array([raw]))[0])
    assert abs(got / 2**31 - math.exp(raw / 2**26)) < 2.0**-20


@seeded(20)
def test_softmax_tables(rng: Rng) -> None:
    beta, s = f32(rng.uniform(0.1, 2)), np.float32(scale(rng))
    found = tables.softmax_tables(beta, s)
    kept = np.arange(256) <= -found.diff_min
    steps = -np.arange(256) * beta * float(s)
    assert found.exp_table[0] == INT32_MAX
    assert found.diff_table[0] == 0
    assert (found.exp_table[~kept] == 0).all()
    np.testing.assert_allclose(found.diff_table[kept] / 2**26, steps[kept], atol=2.0**-20)
    np.testing.assert_allclose(found.exp_table[kept] / 2**31, np.exp(steps[kept]), atol=2.0**-20)
    assert (np.diff(found.exp_table.astype(np.int64)) <= 0).all()


def test_softmax_of_a_large_scale_keeps_the_maximum_only() -> None:
    found = tables.softmax_tables(1.0, np.float32(1e6))
    assert found.diff_min == 0
    assert found.exp_table.tolist() == [INT32_MAX] + [0] * 255


def test_softmax_of_a_tiny_scale_is_refused() -> None:
    with pytest.raises(RangeError, match="too small"):
        tables.softmax_tables(1.0, np.float32(2.0**-26))


# ---- accumulators


def dense(weights: np.ndarray, bias: np.ndarray, x_zero: int, w_zero: int) -> Graph:
    """A fully connected layer 'dense' of int8 weights (units, depth)."""
    units, depth = weights.shape
    x = Tensor("x", (1, depth), "int8", QParams.of(0.5, x_zero))
    y = Tensor("y", (1, units), "int8", QParams.of(0.5))
    w = Tensor("w", weights.shape, "int8", QParams.of(0.01, w_zero), weights)
    b = Tensor("b", (units,), "int32", None, bias)
    node = Node("FULLY_CONNECTED", [x, w, b], [y], FullyConnected(), "dense", 7)
    return Graph([node], [x], [y])


@pytest.mark.parametrize("x_zero", [-128, 127, 5])
@pytest.mark.parametrize("sign", [1, -1])
def test_accumulator_proof_is_tight(x_zero: int, sign: int) -> None:
    """A layer that just fits is taken, one more in the bias of one channel is refused by name."""
    weights = np.full((3, 66000), 127 * sign, np.int8)
    weights[:, ::2] = -128
    weights[1] //= 2
    bias = np.zeros(3, np.int32)
    bounds = accumulator_bounds(weights, bias, x_zero, 0)
    while bounds[2] > INT32_MAX:
        weights = weights[:, : weights.shape[1] * 9 // 10]
        bounds = accumulator_bounds(weights, bias, x_zero, 0)
    bias[2] = sign * (INT32_MAX - bounds[2])
    (op,) = lower(dense(weights, bias, x_zero, 0)).ops
    np.testing.assert_array_equal(op.params["bias"], bias)

    bias[2] += sign
    with pytest.raises(UnsupportedError) as caught:
        lower(dense(weights, bias, x_zero, 0))
    (problem,) = caught.value.problems
    assert problem.startswith("op 7 FULLY_CONNECTED 'dense': the accumulator of output channel 2")
    assert str(2**31) in problem


@pytest.mark.parametrize("w_zero", [-128, 0, 127])
@pytest.mark.parametrize("x_zero", [-128, 0, 127])
def test_accumulator_bounds_hold(x_zero: int, w_zero: int) -> None:
    """No input goes beyond the bound; where all weights have one sign, an input reaches it."""
    rng = np.random.default_rng(1)
    weights = rng.integers(-128, 128, (6, 50)).astype(np.int8)
    weights[0], weights[1] = -128, 127
    bias = rng.integers(-1000, 1000, 6)
    bounds = accumulator_bounds(weights, bias, x_zero, w_zero)
    inputs = [rng.choice([-128, 127], 50) for _ in range(500)]
    inputs += [np.full(50, -128), np.full(50, 127)]
    reached = np.array([(x - x_zero) @ (weights.astype(int) - w_zero).T + bias for x in inputs])
    assert (np.abs(reached) <= bounds).all()
    assert (np.abs(reached - bias).max(axis=0)[:2] == (bounds - np.abs(bias))[:2]).all()
