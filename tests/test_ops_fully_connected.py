# SPDX-License-Identifier: Apache-2.0
"""FULLY_CONNECTED against the oracle, and against R31 written down in numpy.

What the oracle refuses, and the generators therefore avoid:
- per-channel scales with uint8;
- a per-tensor bias scale further than 0.02 output scales from input scale x weight scale;
- keep_num_dims where the input's last dimension is not the weights' depth. Without it any input
  shape is cut into rows of that depth; an input that does not divide is not refused but read in
  part, which is no behaviour to copy.
An int8 weight zero point has its effect with one scale and is ignored with several.

tflite-runtime 2.14 computes nonsense, partly from uninitialised memory, for per-channel scales with
an output of other than two dimensions; those cases are held against the formula alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from cases import (
    Layer,
    Quant,
    Rng,
    Shape,
    activation,
    chance,
    dims,
    fill,
    limits,
    output_quant,
    pick,
    seeded,
    weight_values,
    zero_point,
)
from oracle import check, compare, oracle_is_exact, reference, run_edgeq
from r31 import fully_connected
from tflite_builder import ModelBuilder

exact_oracle = pytest.mark.skipif(
    not oracle_is_exact("FULLY_CONNECTED"), reason="this oracle rounds FULLY_CONNECTED once"
)

KINDS = ("int8_tensor", "int8_channel", "uint8")


@dataclass(frozen=True)
class Case:
    """A single FULLY_CONNECTED: its file, its input and what R31 makes of it."""

    model: bytes
    x: np.ndarray
    expected: np.ndarray
    oracle_fails: bool


def shapes(rng: Rng, depth: int, units: int, flat: bool) -> tuple[Shape, Shape, bool]:
    """(input shape, output shape, keep_num_dims) for rows of `depth`."""
    if chance(rng, 0.4):
        if flat:
            rows = int(rng.integers(1, 8))
            return (rows, depth), (rows, units), True
        lead = dims(rng, pick(rng, 0, 1, 2, 3), 1, 4)
        return (*lead, depth), (*lead, units), True
    lead = dims(rng, pick(rng, 0, 1, 1, 1, 2, 3), 1, 4)
    rows = int(np.prod(lead))
    if depth % 6 == 0 and chance(rng, 0.5):
        # One row made of several dimensions, as after a convolution without a RESHAPE.
        return (*lead, 2, 3, depth // 6), (rows, units), False
    return (*lead, depth), (rows, units), False


def case(rng: Rng, kind: str, depth: int, units: int, flat: bool = False) -> Case:
    """`flat` keeps the output at two dimensions."""
    dtype = kind.split("_")[0]
    fused = activation(rng)
    x, y = Quant.random(rng, dtype), output_quant(rng, dtype, fused)
    zero = zero_point(rng, dtype) if dtype == "uint8" else 0
    if kind == "int8_tensor" and chance(rng, 0.1):
        zero = int(rng.integers(-20, 21))
    w = weight_values(rng, (units, depth), dtype, zero)
    layer = Layer.fit(rng, x, w, zero, y, kind == "int8_channel")

    b = ModelBuilder()
    in_shape, out_shape, keep = shapes(rng, depth, units, flat)
    operands: list[int | None] = [x.input(b, "x", in_shape), layer.add_weights(b, w, zero, 0)]
    bias = layer.bias
    if chance(rng, 0.8):
        operands.append(layer.add_bias(b))
    else:
        bias = np.zeros_like(bias)
        if chance(rng, 0.5):
            operands.append(None)
    to = y.tensor(b, "y", out_shape)
    b.op(
        "FULLY_CONNECTED",
        operands,
        [to],
        keep_num_dims=keep,
        fused_activation_function=fused,
    )
    b.output(to)

    data = fill(rng, in_shape, dtype)
    rows = fully_connected(
        data.reshape(-1, depth),
        w,
        bias,
        (x.zero_point, zero, y.zero_point),
        factors(x, layer, y, units),
        bounds(y, fused),
    )
    oracle_fails = kind == "int8_channel" and len(out_shape) != 2
    return Case(b.finish(), data, rows.reshape(out_shape), oracle_fails)


def factors(x: Quant, layer: Layer, y: Quant, units: int) -> np.ndarray:
    """M for each unit: with one weight scale the product of scales is a float32."""
    if len(layer.weight_scales) == 1:
        product = float(np.float32(x.scale) * np.float32(layer.weight_scales[0]))
        return np.full(units, product / y.scale)
    return np.array([x.scale * s / y.scale for s in layer.weight_scales])


def bounds(y: Quant, fused: str) -> tuple[int, int]:
    """Lowest and highest output that the fused activation lets through."""
    low, high = limits(y.dtype)

    def quantized(real: float) -> int:
        steps = float(np.float32(real) / np.float32(y.scale))
        return y.zero_point + int(np.sign(steps) * np.floor(abs(steps) + 0.5))

    if fused in ("RELU", "RELU6"):
        low = max(low, quantized(0.0))
    if fused == "RELU6":
        high = min(high, quantized(6.0))
    if fused == "RELU_N1_TO_1":
        low, high = max(low, quantized(-1.0)), min(high, quantized(1.0))
    return low, high


def random_case(rng: Rng, kind: str, flat: bool = False) -> Case:
    depth = pick(rng, *rng.integers(1, 90, 3), 6, 48, 96, 256)
    return case(rng, kind, depth, int(rng.integers(1, 50)), flat)


@exact_oracle
@pytest.mark.parametrize("kind", KINDS)
@seeded(60)
def test_fully_connected(rng: Rng, kind: str) -> None:
    made = random_case(rng, kind, flat=kind == "int8_channel")
    check(made.model, [made.x])


@exact_oracle
@pytest.mark.parametrize("kind", KINDS)
@seeded(6)
def test_fully_connected_large(rng: Rng, kind: str) -> None:
    made = case(rng, kind, int(rng.integers(500, 1500)), int(rng.integers(60, 200)), flat=True)
    check(made.model, [made.x])


@pytest.mark.parametrize("kind", KINDS)
@seeded(40)
def test_fully_connected_rounds_twice(rng: Rng, kind: str) -> None:
    """edgeq against the two roundings of R31 in numpy.

    One of the two oracles rounds this operator once, so its bytes cannot be the yardstick there;
    the formula can, and where the oracle is the exact one it is held against the formula as well.
    """
    made = random_case(rng, kind)
    compare(run_edgeq(made.model, [made.x]), [made.expected], "FULLY_CONNECTED by R31")
    if oracle_is_exact("FULLY_CONNECTED") and not made.oracle_fails:
        compare(reference(made.model, [made.x]), [made.expected], "the oracle by R31")


@exact_oracle
@pytest.mark.parametrize(("bias", "weight_scale"), [(2**31 - 1, 0.999999), (-(2**31), 1.5)])
def test_fully_connected_at_the_ends_of_int32(bias: int, weight_scale: float) -> None:
    """The accumulator's ends, times about 1, plus a zero point: beyond int32, which wraps."""
    b = ModelBuilder()
    x = b.input("x", (1, 4), "int8", 1.0, 0)
    w = b.const("w", np.zeros((2, 4), np.int8), scales=[weight_scale], zero_points=[0])
    scales = [np.float32(weight_scale)]
    values = np.array([bias + (bias < 0), bias // 2], np.int32)
    c = b.const("b", values, scales=scales, zero_points=[0])
    y = b.tensor("y", (1, 2), "int8", 1.0, 127 if bias > 0 else -128)
    b.op("FULLY_CONNECTED", [x, w, c], [y])
    b.output(y)
    check(b.finish(), [np.zeros((1, 4), np.int8)])
