# SPDX-License-Identifier: Apache-2.0
"""ADD, SUB, MUL, MAXIMUM, MINIMUM and PRELU against the oracle.

What the oracle refuses, and the generators therefore avoid:
- operands of different element types;
- broadcasting beyond 6 dimensions in ADD, 5 in SUB, MAXIMUM and MINIMUM, 4 in MUL and PRELU.
  tflite-runtime does not raise there but ends the process; equal shapes pass at any rank;
- PRELU with an alpha that would enlarge the output.
MAXIMUM and MINIMUM compare the stored bytes, whatever the three tensors' scales say.
"""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from cases import (
    BYTE_TYPES,
    SEED_FACTOR,
    Quant,
    Rng,
    Shape,
    activation,
    chance,
    dims,
    f32,
    fill,
    log_uniform,
    output_quant,
    pick,
    seeded,
    zero_point,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import check
from tflite_builder import ModelBuilder

MAX_BROADCAST_RANK = {"ADD": 6, "SUB": 5, "MUL": 4, "MAXIMUM": 5, "MINIMUM": 5}
ARITHMETIC = ("ADD", "SUB", "MUL")
SELECTION = ("MAXIMUM", "MINIMUM")


def result_quant(rng: Rng, kind: str, a: Quant, b: Quant, fused: str) -> Quant:
    """Output parameters: mostly those of the result's range, sometimes an extreme."""
    if fused in ("RELU6", "RELU_N1_TO_1") and chance(rng, 0.5):
        return output_quant(rng, a.dtype, fused)
    if chance(rng, 0.65):
        (a0, a1), (b0, b1) = a.range(), b.range()
        if kind == "MUL":
            ends = [a0 * b0, a0 * b1, a1 * b0, a1 * b1]
        elif kind == "SUB":
            ends = [a0 - b1, a1 - b0]
        else:
            ends = [a0 + b0, a1 + b1]
        return Quant.covering(rng, a.dtype, min(ends), max(ends))
    if kind == "MUL":
        step = a.scale * b.scale / log_uniform(rng, 2.0**-14, 4.0)
    else:
        step = max(a.scale, b.scale) * log_uniform(rng, 2.0**-7, 2.0**7)
    return Quant(a.dtype, f32(step), zero_point(rng, a.dtype))


def operand_quants(rng: Rng, dtype: str) -> tuple[Quant, Quant]:
    a, b = Quant.random(rng, dtype), Quant.random(rng, dtype)
    kind = pick(rng, 0, 1, 2, 3)
    if kind == 0:
        return a, a
    if kind == 1:
        return a, b
    return a, Quant(dtype, f32(a.scale * log_uniform(rng, 0.25, 4.0)), b.zero_point)


def binary_case(
    rng: Rng, kind: str, dtype: str, shapes: tuple[Shape, Shape], constant: int | None = None
) -> tuple[bytes, list[np.ndarray]]:
    """`kind` on two operands, of which the one numbered `constant` is a constant."""
    fused = activation(rng) if kind in ARITHMETIC else "NONE"
    quants = operand_quants(rng, dtype)
    y = result_quant(rng, kind, *quants, fused)
    b = ModelBuilder()
    operands: list[int] = []
    inputs: list[np.ndarray] = []
    for i, (quant, shape) in enumerate(zip(quants, shapes)):
        data = fill(rng, shape, dtype)
        if i == constant:
            operands.append(quant.const(b, f"in{i}", data))
        else:
            operands.append(quant.input(b, f"in{i}", shape))
            inputs.append(data)
    to = y.tensor(b, "y", np.broadcast_shapes(*shapes))
    options = {"fused_activation_function": fused} if kind in ARITHMETIC else {}
    b.op(kind, operands, [to], **options)
    b.output(to)
    return b.finish(), inputs


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@pytest.mark.parametrize("kind", ARITHMETIC + SELECTION)
@seeded(25)
def test_binary_same_shape(rng: Rng, kind: str, dtype: str) -> None:
    shape = dims(rng, int(rng.integers(0, 6)), 1, 9)
    check(*binary_case(rng, kind, dtype, (shape, shape)))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@pytest.mark.parametrize("kind", ARITHMETIC)
@seeded(8)
def test_binary_every_pair(rng: Rng, kind: str, dtype: str) -> None:
    """All 65,536 pairs of stored values under one set of parameters."""
    fused = activation(rng)
    quants = operand_quants(rng, dtype)
    y = result_quant(rng, kind, *quants, fused)
    low = np.iinfo(dtype).min
    first, second = np.meshgrid(np.arange(256) + low, np.arange(256) + low)
    b = ModelBuilder()
    operands = [q.input(b, f"in{i}", (256, 256)) for i, q in enumerate(quants)]
    to = y.tensor(b, "y", (256, 256))
    b.op(kind, operands, [to], fused_activation_function=fused)
    b.output(to)
    check(b.finish(), [first.astype(dtype), second.astype(dtype)])


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@pytest.mark.parametrize("kind", ARITHMETIC + SELECTION)
@settings(
    max_examples=20 * SEED_FACTOR,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_binary_broadcast(kind: str, dtype: str, data: st.DataObject) -> None:
    """Shapes that broadcast against each other in any way, scalars and constants included."""
    shapes = data.draw(
        hnp.mutually_broadcastable_shapes(
            num_shapes=2, min_dims=0, max_dims=MAX_BROADCAST_RANK[kind], min_side=1, max_side=5
        )
    ).input_shapes
    constant = data.draw(st.sampled_from([None, None, 0, 1]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    check(*binary_case(rng, kind, dtype, (shapes[0], shapes[1]), constant))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@pytest.mark.parametrize("kind", ARITHMETIC + SELECTION)
@seeded(20)
def test_binary_broadcast_full_rank(rng: Rng, kind: str, dtype: str) -> None:
    """As above with more elements: any axes of both operands collapsed to 1."""
    shape = dims(rng, int(rng.integers(2, MAX_BROADCAST_RANK[kind] + 1)), 2, 5)
    first, second = (tuple(1 if chance(rng, 0.3) else n for n in shape) for _ in range(2))
    check(*binary_case(rng, kind, dtype, (first, second[pick(rng, 0, 0, 1, len(shape) - 1) :])))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@pytest.mark.parametrize("kind", ARITHMETIC)
@pytest.mark.parametrize(
    "small", [(1,), (), (7,), (1, 1, 1, 7), (2, 1, 1, 7), (5, 6, 7), (5, 6, 1)]
)
@seeded(2)
def test_binary_network_shapes(rng: Rng, kind: str, dtype: str, small: Shape) -> None:
    """The broadcasts that networks hold: scalars, channels, squeeze-and-excite, masks."""
    large = (2, 5, 6, 7)
    shapes = (large, small) if chance(rng, 0.5) else (small, large)
    check(*binary_case(rng, kind, dtype, shapes, pick(rng, 0, 1)))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@pytest.mark.parametrize("kind", ARITHMETIC)
@seeded(6)
def test_binary_many_short_rows(rng: Rng, kind: str, dtype: str) -> None:
    """More rows of a repeated operand than the runtime lays out at a time, 1 KiB."""
    channels = int(rng.integers(1, 300))
    large = (2, int(rng.integers(3, 20)), 1024 // channels + int(rng.integers(1, 20)), channels)
    smalls = [(channels,), (*large[:3], 1), (2, 1, 1, channels), (large[2], 1)]
    small: Shape = smalls[int(rng.integers(len(smalls)))]
    shapes = (large, small) if chance(rng, 0.5) else (small, large)
    check(*binary_case(rng, kind, dtype, shapes))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@pytest.mark.parametrize("kind", ARITHMETIC)
@seeded(6)
def test_binary_large(rng: Rng, kind: str, dtype: str) -> None:
    """Lengths beyond every vector width, with odd remainders."""
    shape = (1, int(rng.integers(5, 40)), int(rng.integers(5, 40)), int(rng.integers(1, 70)))
    check(*binary_case(rng, kind, dtype, (shape, shape)))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(60)
def test_prelu(rng: Rng, dtype: str) -> None:
    """Alpha of the input's shape, or shared over some axes."""
    shape = dims(rng, int(rng.integers(1, 5)), 1, 9)
    kind = pick(rng, 0, 0, 1, 2)
    if kind == 0 and len(shape) > 1:
        alpha_shape: Shape = (*(1 for _ in shape[1:-1]), shape[-1])
    elif kind == 1:
        alpha_shape = shape
    else:
        alpha_shape = tuple(n if chance(rng, 0.5) else 1 for n in shape)
    x, alpha = Quant.random(rng, dtype), Quant.random(rng, dtype)
    if chance(rng, 0.6):
        alpha = Quant(dtype, log_uniform(rng, 2.0**-10, 2.0**-7), alpha.zero_point)
    y = Quant(dtype, f32(x.scale * log_uniform(rng, 0.3, 2.5)), zero_point(rng, dtype))
    b = ModelBuilder()
    ti = x.input(b, "x", shape)
    ta = alpha.const(b, "alpha", fill(rng, alpha_shape, dtype))
    to = y.tensor(b, "y", shape)
    b.op("PRELU", [ti, ta], [to])
    b.output(to)
    check(b.finish(), [fill(rng, shape, dtype)])
