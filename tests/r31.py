# SPDX-License-Identifier: Apache-2.0
"""The R31 requantization of docs/NUMERICS.md in numpy, for checks that need no oracle."""

from __future__ import annotations

import math

import numpy as np


def quantize_multiplier(factor: float) -> tuple[int, int]:
    """`factor` as (m, e): factor = m * 2**(e - 31), m in [2**30, 2**31), or (0, 0) below 2**-32."""
    fraction, exponent = math.frexp(factor)
    m = math.floor(fraction * 2**31 + 0.5)
    if m == 2**31:
        m, exponent = m // 2, exponent + 1
    return (0, 0) if exponent < -31 else (m, exponent)


def requantize(acc: np.ndarray, factor: float) -> np.ndarray:
    """int32 accumulators times `factor`: a rounded doubling high product, then a rounded shift."""
    m, exponent = quantize_multiplier(factor)
    left, right = max(exponent, 0), max(-exponent, 0)
    high = ((acc.astype(np.int64) << left) * m + 2**30) >> 31
    if right == 0:
        return high
    # Half away from zero: what is left of a negative number has to exceed the half.
    remainder = high & ((1 << right) - 1)
    threshold = (1 << (right - 1)) - 1 + (high < 0)
    return (high >> right) + (remainder > threshold)


def fully_connected(
    x: np.ndarray,
    weights: np.ndarray,
    bias: np.ndarray,
    zero_points: tuple[int, int, int],
    factors: np.ndarray,
    bounds: tuple[int, int],
) -> np.ndarray:
    """Rows x (N, depth), weights (units, depth), bias (units,), one factor for each unit.

    `zero_points` are those of input, weights and output; the result, clamped to `bounds`, is
    (N, units) in x's type.
    """
    zx, zw, zy = zero_points
    acc = (x.astype(np.int64) - zx) @ (weights.astype(np.int64) - zw).T + bias
    columns = [requantize(acc[:, i], float(f)) for i, f in enumerate(factors)]
    out: np.ndarray = np.clip(np.stack(columns, axis=1) + zy, *bounds).astype(x.dtype)
    return out
