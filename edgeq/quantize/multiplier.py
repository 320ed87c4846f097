# SPDX-License-Identifier: Apache-2.0
"""Fixed-point multipliers and the requantizations of docs/NUMERICS.md.

In R31 a pair (m, e) stands for m * 2^(e - 31), in R15 for m * 2^(e - 15 - fraction). Scales are
float32; how float32 and float64 mix on the way
to a multiplier differs from op to op in TFLite and decides the last bit of m, so that every formula
here keeps the reference's order and types.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..format.spec import E_MIN_R22, FRACTION_MAX

Int8s = npt.NDArray[np.int8]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

E_MIN, E_MAX = -31, 30
INT32_MAX = 2**31 - 1

# Real bounds of the fused activations; None: the type's own bound.
ACTIVATIONS: dict[str, tuple[float | None, float | None]] = {
    "NONE": (None, None),
    "RELU": (0.0, None),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}
LIMITS = {"int8": (-128, 127), "int16": (-(2**15), 2**15 - 1), "int32": (-(2**31), 2**31 - 1)}


class RangeError(ValueError):
    """Scales that no multiplier can express; the message says which."""


def round_half_away(x: npt.ArrayLike) -> Float64s:
    """Nearest integers, ties away from zero. Exact for |x| < 2^52."""
    wide = np.asarray(x, np.float64)
    rounded: Float64s = np.copysign(np.floor(np.abs(wide) + 0.5), wide)
    return rounded


def quantize_multipliers(reals: Float64s) -> tuple[Int32s, Int8s]:
    """Multipliers m and exponents e of `reals`, (C,) each.

    m is 0 or |m| in [2^30, 2^31), e in [-31, 30]; numbers below about 2^-32 become 0. RangeError
    for 2^30 and more, where the reference shifts by more than its type has bits.
    """
    if not np.isfinite(reals).all():
        raise RangeError("a scale ratio is not finite")
    fraction, exponent = np.frexp(np.asarray(reals, np.float64))
    m = round_half_away(fraction * 2.0**31).astype(np.int64)
    e = exponent.astype(np.int64)
    carry = m == 2**31
    m[carry] = 2**30
    e[carry] += 1
    gone = (m == 0) | (e < E_MIN)
    m[gone] = 0
    e[gone] = 0
    if (e > E_MAX).any():
        raise RangeError(f"a scale ratio of {np.max(reals):g} is out of range")
    return m.astype(np.int32), e.astype(np.int8)


def quantize_multiplier(real: float) -> tuple[int, int]:
    """`quantize_multipliers` of one number."""
    m, e = quantize_multipliers(np.array([real], np.float64))
    return int(m[0]), int(e[0])


def quantize_multipliers_r15(reals: Float64s) -> tuple[Int32s, Int8s, int]:
    """Multipliers m and exponents e of `reals`, (C,) each, and the fraction that they share.

    m is 0 or in [2^14, 2^15), e in [-31, 0]; numbers below about 2^(-32 - fraction) become 0.
    `fraction` is the largest in [0, 6] with which no e is above 0. RangeError if there is none,
    because a number is 1 or more.
    """
    if not (np.isfinite(reals).all() and (reals >= 0).all()):
        raise RangeError("a scale ratio is not finite and positive")
    mantissa, exponent = np.frexp(np.asarray(reals, np.float64))
    m = round_half_away(mantissa * 2.0**15).astype(np.int64)
    carry = m == 2**15
    m[carry] = 2**14
    exponent = exponent.astype(np.int64) + carry
    largest = int(exponent[m > 0].max(initial=-FRACTION_MAX))
    if largest > 0:
        raise RangeError(f"a scale ratio of {np.max(reals):g} is not below 1")
    fraction = min(FRACTION_MAX, -largest)
    e = exponent + fraction
    gone = (m == 0) | (e < E_MIN)
    m[gone] = 0
    e[gone] = 0
    return m.astype(np.int32), e.astype(np.int8), fraction


def reduce_multipliers(m: Int32s, e: Int8s) -> tuple[Int32s, Int8s]:
    """R31's pairs as R22 with 15 bits: how the reference requantizes sums of 64 bits.

    RangeError from 2^7 on, where the reference stops.
    """
    if (e > 7).any():
        raise RangeError("a scale ratio of 128 or more is out of range for int16")
    short = np.minimum((m.astype(np.int64) + 2**15) >> 16, 2**15 - 1)
    shift = np.where(short > 0, e.astype(np.int64) - 15, -1)
    return short.astype(np.int32), shift.astype(np.int8)


def quantize_multipliers_r22(reals: Float64s, bounds: Int64s) -> tuple[Int32s, Int8s]:
    """Multipliers m and exponents e of `reals`, (C,) each, which accumulators up to `bounds` meet.

    m is 0 or in [2^14, 2^22), e in [-53, -1]. m has as many bits as keep m times the accumulator
    below 2^53, but 15 at least; numbers below 2^-38 become 0.
    """
    if not (np.isfinite(reals).all() and (reals >= 0).all()):
        raise RangeError("a scale ratio is not finite and positive")
    mantissa, exponent = np.frexp(np.asarray(reals, np.float64))
    room = 53 - np.frexp(bounds.astype(np.float64))[1].astype(np.int64)
    bits = np.clip(np.minimum(room, exponent - E_MIN_R22), 15, 22)
    m = round_half_away(mantissa * np.exp2(bits)).astype(np.int64)
    carry = m == 1 << bits
    m[carry] >>= 1
    e = exponent + carry - bits
    gone = (m == 0) | (e < E_MIN_R22)
    m[gone], e[gone] = 0, -1
    if (e > -1).any():
        raise RangeError(f"a scale ratio of {np.max(reals):g} is out of range")
    return m.astype(np.int32), e.astype(np.int8)


def bias_correction_r15(m: Int32s, e: Int8s, fraction: int) -> Int64s:
    """What R15 adds to an accumulator on average, for each channel.

    Its last rounding, of numbers with `fraction` bits, takes ties up: half a unit of the last of
    these bits too much, which is 2^(14 - e) / m accumulator units. Its first takes ties up as well
    where it shifts by one or more: half an accumulator unit.
    """
    if fraction == 0:
        return np.zeros(m.shape, np.int64)
    s = -e.astype(np.int64)
    mean = np.exp2(s + 14.0) / np.maximum(m, 1) + 0.5 * (s > 0)
    rounded: Int64s = np.where(m > 0, round_half_away(mean), 0).astype(np.int64)
    return rounded


def requantize_r15(acc: npt.NDArray[Any], m: int, e: int, fraction: int, zero: int) -> Int64s:
    """R15 of accumulators, before the activation's clamp: acc * m * 2^(e - 15 - fraction) + zero.

    |acc| + 2^(-e - 1) < 2^31.
    """

    def saturate16(x: Int64s) -> Int64s:
        clipped: Int64s = np.clip(x, -(2**15), 2**15 - 1)
        return clipped

    t = saturate16((np.asarray(acc, np.int64) + ((1 << -e) >> 1)) >> -e)
    u = saturate16((t * np.int64(m) + 2**14) >> 15)
    y: Int64s = saturate16(u + (zero << fraction) + ((1 << fraction) >> 1)) >> fraction
    return y


def multiply_high(a: Int64s, m: int) -> Int64s:
    """(a * m + 2^30) >> 31 for int32 values, saturating at -2^31 * -2^31."""
    product: Int64s = np.minimum((a * np.int64(m) + 2**30) >> 31, INT32_MAX)
    return product


def shift_right_round(x: Int64s, n: int) -> Int64s:
    """x / 2^n, n >= 0, ties away from zero."""
    half = (np.int64(1) << n) >> 1
    rounded: Int64s = np.where(x < 0, -((half - x) >> n), (x + half) >> n)
    return rounded


def wrap32(x: Int64s) -> Int64s:
    """x modulo 2^32 in the range of int32."""
    wrapped: Int64s = ((x + 2**31) & 0xFFFFFFFF) - 2**31
    return wrapped


def requantize(x: npt.NDArray[Any], m: int, e: int) -> Int64s:
    """R31 of int32 values: x * m * 2^(e - 31), rounded twice."""
    wide = np.asarray(x, np.int64)
    if e > 0:
        return multiply_high(wrap32(wide << e), m)
    return shift_right_round(multiply_high(wide, m), -e)


def activation_range(
    activation: str, scale: np.float32, zero_point: int, dtype: str = "int8"
) -> tuple[int, int]:
    """(act_min, act_max) of an output. The quotient is a float32 as in the reference."""
    low, high = ACTIVATIONS[activation]
    least, most = LIMITS[dtype]

    def bound(real: float | None, default: int) -> int:
        if real is None:
            return default
        steps = np.float32(real) / np.float32(scale)
        return zero_point + int(round_half_away(np.clip(steps, -(2.0**31), 2.0**31)))

    return max(least, bound(low, least)), min(most, bound(high, most))


def conv_multipliers(x: np.float32, w: Float32s, y: np.float32) -> Float64s:
    """x * w / y, all in float64: int8 convolutions, fully connected layers per channel."""
    products: Float64s = np.float64(x) * w.astype(np.float64) / np.float64(y)
    return products


def product_multiplier(x: np.float32, w: np.float32, y: np.float32) -> float:
    """x * w rounded to float32, divided in float64: uint8 convolutions, fully connected layers."""
    return float(np.float64(np.float32(x) * np.float32(w)) / np.float64(y))


def ratio_float32(x: np.float32, y: np.float32) -> float:
    """x / y in float32: RELU and its kin, LEAKY_RELU, PRELU."""
    return float(np.float32(x) / np.float32(y))


def ratio_float64(x: np.float32, y: np.float32) -> float:
    """x / y in float64: QUANTIZE, MEAN, SUM."""
    return float(np.float64(x) / np.float64(y))


def triple_float32(a: np.float32, b: np.float32, y: np.float32) -> float:
    """a * b / y, each step in float32: MUL, and the slopes of LEAKY_RELU and PRELU."""
    return float(np.float32(a) * np.float32(b) / np.float32(y))


def mean_multiplier(real: float, count: int) -> tuple[int, int]:
    """(m, e) of a mean over `count` elements: 1 / count goes into m as far as precision is left.

    m is in [0, 2^31), no longer normalised.
    """
    m, e = quantize_multiplier(real)
    shift = min(count.bit_length() - 1, 32, 31 + e)
    return (m << shift) // count, e - shift
