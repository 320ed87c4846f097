# SPDX-License-Identifier: Apache-2.0
"""How sure a measured number is: 95 per cent intervals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_Z = 1.959963984540054  # of 95 per cent, two sides
_RESAMPLES = 1000
_SEED = 0


def wilson(right: float, count: int) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson, 1927)."""
    if count == 0:
        return 0.0, 1.0
    p, z2 = right / count, _Z * _Z
    centre = (p + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z * np.sqrt(p * (1 - p) / count + z2 / (4 * count * count)) / (1 + z2 / count)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def bootstrap(
    sums: Floats, value: Callable[[Floats], float], resamples: int = _RESAMPLES
) -> tuple[float, float]:
    """The percentile interval (Efron, 1979) of `value(sums of the samples)`; `sums` (N, K)."""
    count = len(sums)
    if count < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(_SEED)
    found = []
    for _ in range(resamples):
        weights = np.bincount(rng.integers(0, count, count), minlength=count)
        found.append(value(weights @ sums))
    known = np.array(found)[np.isfinite(found)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
