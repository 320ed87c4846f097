# SPDX-License-Identifier: Apache-2.0
"""exp() as TFLite's softmax computes it: gemmlowp's polynomial in 32-bit fixed point.

Qi.f has i integer and f fractional bits next to the sign. Arrays are int64 and hold int32 values.
"""

from __future__ import annotations

import math

import numpy as np

from .multiplier import INT32_MAX, Int64s, shift_right_round


def _q31(real: float) -> int:
    return math.floor(real * 2**31 + 0.5)


def _mul(a: Int64s, b: Int64s | int) -> Int64s:
    product: Int64s = (a * np.int64(b) + 2**30) >> 31
    return product


def _exp_of_quarter(a: Int64s) -> Int64s:
    """exp(a) for a in [-1/4, 0), Q0.31: four terms of the Taylor series around -1/8."""
    centre = _q31(math.exp(-1 / 8))
    x = a + (1 << 28)
    x2 = _mul(x, x)
    x3 = _mul(x2, x)
    x4 = _mul(x2, x2)
    tail = shift_right_round(_mul(shift_right_round(x4, 2) + x3, _q31(1 / 3)) + x2, 1)
    result: Int64s = centre + _mul(x + tail, centre)
    return result


def exp_on_negative_values(a: Int64s, integer_bits: int = 5) -> Int64s:
    """exp(a) as Q0.31 for a <= 0 in Q`integer_bits`; 1 becomes 2^31 - 1.

    a = -(sum of powers of two from 1/4 on) - (rest below 1/4): a polynomial for the rest, a factor
    for each power of two.
    """
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    rest = (a & (quarter - 1)) - quarter
    result = _exp_of_quarter(rest << integer_bits)
    powers = rest - a
    for exponent in range(-2, integer_bits):
        factor = _q31(math.exp(-(2.0**exponent)))
        chosen = (powers >> (fraction_bits + exponent)) & 1
        result = np.where(chosen != 0, _mul(result, factor), result)
    exact: Int64s = np.where(a == 0, INT32_MAX, result)
    return exact


def inverse_sqrt(value: int) -> tuple[int, int]:
    """(m, e) with 1 / sqrt(value) = m * 2^(e - 31), for value >= 0; 0 counts as 1.

    Five Newton-Raphson steps on Q3.28, from 1, as TFLite's GetInvSqrtQuantizedMultiplierExp takes.
    """
    if value <= 1:
        return INT32_MAX, 0
    shift = 11
    while value >= 1 << 29:
        value //= 4
        shift += 1
    pairs = (31 - value.bit_length()) // 2 - 1
    shift -= pairs
    value <<= 2 * pairs
    half = _half(value >> 1)
    x = 1 << 28
    for _ in range(5):
        cube = _saturated(_high(_high(x, x), x) << 6)
        x = _saturated((_high((1 << 28) + (1 << 27), x) - _high(half, cube)) << 3)
    x = _high(x, 1518500250)
    if shift < 0:
        x, shift = x << -shift, 0
    return x, -shift


def _high(a: int, b: int) -> int:
    return (a * b + 2**30) >> 31


def _half(a: int) -> int:
    return (a + 1) >> 1


def _saturated(a: int) -> int:
    return min(max(a, -(2**31)), INT32_MAX)
