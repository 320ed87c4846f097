# SPDX-License-Identifier: Apache-2.0
"""What the randomised op tests share: seeds, input data, quantization parameters."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from tflite_builder import ModelBuilder

Rng = np.random.Generator
Shape = tuple[int, ...]

SEED_FACTOR = int(os.environ.get("EDGEQ_TEST_SEEDS", "1"))

BYTE_TYPES = ("int8", "uint8")
ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")
ACTIVATION_WEIGHTS = (0.4, 0.2, 0.25, 0.15)


def seeded(count: int) -> pytest.MarkDecorator:
    """Runs a test `count` times (times EDGEQ_TEST_SEEDS) with a different `rng` each time.

    The generator's seed is made of the test's full name, so a test id replays its case.
    """
    return pytest.mark.parametrize("rng", range(count * SEED_FACTOR), indirect=True)


def limits(dtype: str) -> tuple[int, int]:
    """Lowest and highest value of an integer type."""
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def pick(rng: Rng, *choices: int) -> int:
    """One of `choices`."""
    return int(choices[rng.integers(len(choices))])


def chance(rng: Rng, probability: float) -> bool:
    """True with the given probability."""
    return bool(rng.random() < probability)


def activation(rng: Rng) -> str:
    """A fused activation's name."""
    return str(rng.choice(ACTIVATIONS, p=ACTIVATION_WEIGHTS))


def dims(rng: Rng, rank: int, low: int = 1, high: int = 6) -> Shape:
    """`rank` sizes in [low, high]."""
    return tuple(int(n) for n in rng.integers(low, high + 1, rank))


def f32(value: float) -> float:
    """`value` as the file will hold it."""
    return float(np.float32(value))


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """A float32 in [low, high], uniform in its logarithm."""
    return f32(np.exp(rng.uniform(np.log(low), np.log(high))))


def scale(rng: Rng) -> float:
    """An activation's scale: mostly that of a usual layer, sometimes far outside."""
    if chance(rng, 0.8):
        return log_uniform(rng, 2.0**-9, 2.0**-2)
    return log_uniform(rng, 2.0**-14, 2.0**3)


def zero_point(rng: Rng, dtype: str) -> int:
    """A zero point anywhere in the type's range, its ends and middle included."""
    low, high = limits(dtype)
    if chance(rng, 0.35):
        return pick(rng, low, high, (low + high + 1) // 2)
    return int(rng.integers(low, high + 1))


def fill(rng: Rng, shape: Sequence[int], dtype: str) -> np.ndarray:
    """Input data of a random pattern over the type's full range."""
    low, high = limits(dtype)
    pattern = rng.choice(
        ["uniform", "low", "high", "ends", "ramp", "narrow"], p=[0.6, 0.05, 0.05, 0.1, 0.1, 0.1]
    )
    count = int(np.prod(shape))
    if pattern == "low":
        flat = np.full(count, low)
    elif pattern == "high":
        flat = np.full(count, high)
    elif pattern == "ends":
        flat = rng.choice([low, high], count)
    elif pattern == "ramp":
        flat = low + np.arange(count) % (high - low + 1)
    elif pattern == "narrow":
        centre = rng.integers(low + 2, high - 1)
        flat = rng.integers(centre - 2, centre + 3, count)
    else:
        flat = rng.integers(low, high + 1, count)
    return flat.astype(dtype).reshape(shape)


@dataclass(frozen=True)
class Quant:
    """Element type, scale and zero point of an activation tensor."""

    dtype: str
    scale: float
    zero_point: int

    @staticmethod
    def random(rng: Rng, dtype: str) -> Quant:
        return Quant(dtype, scale(rng), zero_point(rng, dtype))

    @staticmethod
    def covering(rng: Rng, dtype: str, low: float, high: float) -> Quant:
        """Parameters whose range is about that of the reals [low, high], as calibration finds."""
        first, last = limits(dtype)
        step = f32(max(high - low, 1e-6) / (last - first) * rng.uniform(0.6, 1.2))
        return Quant(dtype, step, int(np.clip(round(first - low / step), first, last)))

    def range(self) -> tuple[float, float]:
        """The reals that the lowest and the highest stored value stand for."""
        low, high = limits(self.dtype)
        return (low - self.zero_point) * self.scale, (high - self.zero_point) * self.scale

    def input(self, b: ModelBuilder, name: str, shape: Sequence[int]) -> int:
        """Adds an input tensor with these parameters."""
        return b.input(name, shape, self.dtype, self.scale, self.zero_point)

    def tensor(self, b: ModelBuilder, name: str, shape: Sequence[int]) -> int:
        """Adds an inner or output tensor with these parameters."""
        return b.tensor(name, shape, self.dtype, self.scale, self.zero_point)

    def const(self, b: ModelBuilder, name: str, array: np.ndarray) -> int:
        """Adds a constant with these parameters."""
        assert array.dtype == self.dtype
        return b.const(name, array, self.scale, self.zero_point)


def output_quant(rng: Rng, dtype: str, fused: str) -> Quant:
    """Output parameters: mostly such as training chooses for the fused activation."""
    low, high = limits(dtype)
    if fused == "NONE" or chance(rng, 0.25):
        return Quant.random(rng, dtype)
    if fused == "RELU":
        return Quant(dtype, scale(rng), low)
    if fused == "RELU6":
        return Quant(dtype, f32(6 / 255 * rng.uniform(0.7, 1.3)), low)
    return Quant(dtype, f32(2 / 255 * rng.uniform(0.7, 1.3)), (low + high + 1) // 2)


@dataclass(frozen=True)
class Layer:
    """The parameters of a layer of multiply-accumulates, fitted to its weights.

    M = input scale x weight scale / output scale mostly spreads the accumulators over the output
    range; one time in four it is anything from 2**-12 to just above 1.
    """

    weight_scales: tuple[float, ...]
    bias: np.ndarray
    bias_scales: tuple[float, ...]

    @staticmethod
    def fit(
        rng: Rng, x: Quant, weights: np.ndarray, w_zero: int, y: Quant, per_channel: bool
    ) -> Layer:
        """`weights` as (channels, taps). One weight scale, or one for each channel."""
        low, high = limits(x.dtype)
        w = weights.astype(np.float64) - w_zero
        x_mean, x_var = (low + high) / 2 - x.zero_point, ((high - low + 1) ** 2 - 1) / 12
        mean, std = w.sum(axis=1) * x_mean, np.sqrt((w**2).sum(axis=1) * x_var) + 1
        if chance(rng, 0.75):
            factors = np.exp(rng.uniform(np.log(15), np.log(70))) / std
        else:
            factors = np.full(len(std), log_uniform(rng, 2.0**-12, 1.25))
        if not per_channel:
            factors = np.median(factors, keepdims=True)
        elif chance(rng, 0.5):
            factors = factors * np.exp2(rng.uniform(-3, 0, len(factors)))
        if per_channel and chance(rng, 0.15):
            # Channels that training switched off: M underflows to 0.
            factors[rng.random(len(factors)) < 0.3] = 2.0**-40
        scales = tuple(f32(m * y.scale / x.scale) for m in factors)
        biases = tuple(f32(np.float32(x.scale) * np.float32(s)) for s in scales)
        return Layer(scales, _bias(rng, mean, std), biases)

    def add_weights(self, b: ModelBuilder, array: np.ndarray, zero: int, axis: int) -> int:
        """Adds the weights; `axis` is that of the output channels."""
        return b.const("w", array, self.weight_scales, [zero] * len(self.weight_scales), axis)

    def add_bias(self, b: ModelBuilder) -> int:
        """Adds the int32 bias."""
        return b.const("bias", self.bias, self.bias_scales)


def _bias(rng: Rng, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    # Below 2**28 no accumulator leaves int32 even after the doubling that an M above 1 needs.
    kind = rng.choice(["centred", "zero", "large"], p=[0.8, 0.1, 0.1])
    if kind == "zero":
        return np.zeros(len(mean), np.int32)
    values = rng.normal(-mean, std) if kind == "centred" else rng.normal(0, 2.0**26, len(mean))
    return np.clip(np.rint(values), -(2**28), 2**28).astype(np.int32)


def weight_values(rng: Rng, shape: Sequence[int], dtype: str, zero: int) -> np.ndarray:
    """Weights: mostly bell-shaped around the zero point, sometimes any pattern of `fill`."""
    if chance(rng, 0.2):
        return fill(rng, shape, dtype)
    low, high = limits(dtype)
    spread = float(np.exp(rng.uniform(np.log(4), np.log(90))))
    values = np.rint(rng.normal(zero, spread, tuple(shape)))
    return np.clip(values, low, high).astype(dtype)
