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
