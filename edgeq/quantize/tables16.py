# SPDX-License-Identifier: Apache-2.0
"""Tables of functions whose input or output is int16.

Those of SIGMOID and SOFTMAX16 are the ones that TFLite's reference kernels hold or compute. The
others are ours: real functions in float64, rounded once (docs/NUMERICS.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..ir.graph import QParams
from .multiplier import Float64s, RangeError, quantize_multiplier, round_half_away

Int16s = npt.NDArray[np.int16]
UInt16s = npt.NDArray[np.uint16]
Function = Callable[[Float64s], Float64s]

STEP = 128  # inputs between two entries of an interpolated table
ENTRIES = 513


def logistic(x: Float64s) -> Float64s:
    with np.errstate(over="ignore"):
        result: Float64s = 1 / (1 + np.exp(-x))
    return result


def tanh(x: Float64s) -> Float64s:
    result: Float64s = np.tanh(x)
    return result


def hard_swish(x: Float64s) -> Float64s:
    result: Float64s = x * np.clip(x + 3, 0, 6) / 6
    return result


def leaky_relu(alpha: float) -> Function:
    """x for x >= 0, alpha * x else."""
    return lambda x: np.where(x >= 0, x, alpha * x)


FUNCTIONS: dict[str, Function] = {"LOGISTIC": logistic, "TANH": tanh, "HARD_SWISH": hard_swish}


def _rounded(y: Float64s) -> Int16s:
    clipped: Int16s = np.clip(round_half_away(y), -(2**15), 2**15 - 1).astype(np.int16)
    return clipped


def lut16_table(function: Function, x: QParams, y: QParams) -> Int16s:
    """(256,): the int16 result at index x + 128 of an int8 input."""
    real = float(x.scale) * (np.arange(-128.0, 128.0) - x.zero_point)
    return _rounded(function(real) / float(y.scale))


def interpolation_table(function: Function, x: QParams, y: QParams, y_dtype: str) -> Int16s:
    """(513,): results for the inputs -32768, -32640 … 32768, joined by lines.

    Results of int8 are in steps of 1/256, so that they are rounded once, behind the interpolation.
    """
    real = float(x.scale) * STEP * np.arange(-256.0, 257.0)
    fine = 256 if y_dtype == "int8" else 1
    return _rounded(fine * (function(real) / float(y.scale) + y.zero_point))


# SIGMOID


def sigmoid_table() -> UInt16s:
    """(256,): the logistic function of i / 24 in Q0.16.

    Each entry is moved by half of what a line to the next one is off by in the middle. The last one
    is 1, as far as it fits.
    """
    here, behind = logistic(np.arange(256) / 24), logistic(np.arange(1, 257) / 24)
    middle = logistic((np.arange(256) + 0.5) / 24)
    table = round_half_away(2.0**16 * (here + (middle - (here + behind) / 2) / 2))
    table[255] = 2**16 - 1
    return table.astype(np.uint16)


def near_power_of_two(scale: np.float32) -> int | None:
    """The exponent of a scale that is a power of two, to a thousandth of its exponent."""
    log2 = np.float32(np.log(scale)) * (np.float32(1) / np.log(np.float32(2)))
    rounded = np.float32(round_half_away(log2))
    return int(rounded) if abs(log2 - rounded) < np.float32(1e-3) else None


def sigmoid_scaling(op: str, scale: np.float32) -> tuple[int, int]:
    """(m, shift): x * m / 2^shift is in steps of 1 / 12288. RangeError below 2^-43."""
    exponent = near_power_of_two(scale)
    if exponent is not None and exponent + 12 in ((0, 1) if op == "TANH" else (0,)):
        return 3 << (exponent + 12), 0
    real, shift = float(scale) * 4096.0 * 3.0, 0
    while real <= 32767.0 / 2.0:
        real, shift = real * 2.0, shift + 1
    if shift > 30:
        raise RangeError(f"the input's scale {float(scale):g} is too small")
    return int(min(real, 32767.0)), shift


# SOFTMAX16


@dataclass(frozen=True)
class Softmax16Tables:
    """exp on [-10, 0] and 1 / (1 + t) on [0, 1] in Q0.15; (m, e) to steps of 10 / 65535."""

    exp_table: Int16s
    reciprocal_table: Int16s
    m: int
    e: int


def softmax16_tables(beta: float, scale: np.float32) -> Softmax16Tables:
    m, e = quantize_multiplier(float(np.float32(scale) * np.float32(beta)) / (10.0 / 65535.0))
    return Softmax16Tables(
        _populate(10.0 / 65535, 32767, np.exp),
        _populate(1.0 / 65535, -32768, lambda x: 1.0 / (1.0 + x)),
        m,
        e,
    )


def _populate(scale: float, zero: int, function: Function) -> Int16s:
    """(513,) in Q0.15: each entry is moved by half of what the middle behind it would be off by."""
    first, last = scale * (-32768 - zero), scale * (32767 - zero)
    step = (last - first) / 512
    unit = 65536 / ((2.0 / 65535) * 65535)
    x = first + np.arange(512) * step
    here, middle = function(x) * unit, function(x + step / 2) * unit
    behind = function(first + (np.arange(512) + 1) * step) * unit
    sample = round_half_away(here)
    error = round_half_away((behind + sample) / 2) - round_half_away(middle)
    end = round_half_away(function(np.array([last])) * unit)
    return _rounded(np.concatenate([sample - round_half_away(error / 2), end]))
