# SPDX-License-Identifier: Apache-2.0
"""Ranges of tensors from what calibration observed, and the scales and zero points of ranges."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..ir.graph import QParams
from .observe import Float64s, Observed

Range = tuple[float, float]
MIN_SPAN = 1e-8  # below it a scale would leave float32's normal numbers in some product
PERCENTILE = 99.99


def min_max(o: Observed) -> Range:
    """Everything that came."""
    return o.low, o.high


def moving_average(o: Observed) -> Range:
    """The mean of the samples' extremes."""
    return o.mean_low, o.mean_high


def percentile(o: Observed, share: float = PERCENTILE) -> Range:
    """What is left when (100 - share) / 2 per cent are cut off at either end."""
    x, p = o.values()
    rest = (100 - share) / 200
    below = np.cumsum(p)
    low = x[min(int(np.searchsorted(below, rest)), len(x) - 1)]
    high = x[min(int(np.searchsorted(below, 1 - rest)), len(x) - 1)]
    return float(low), float(high)


def mse(o: Observed, levels: int = 255) -> Range:
    """The range with the least mean squared error: rounding inside, clipping outside."""
    x, p = o.values()
    shrink = 0.94 ** np.arange(64)
    lows, highs = min(o.low, 0.0) * shrink, max(o.high, 0.0) * shrink
    # sums over all values below (of -x: above) a bound of p, p x and p x^2
    clipped_low, beyond_low = _clipping(x, p, lows)
    clipped_high, beyond_high = _clipping(-x[::-1], p[::-1], -highs)
    steps = np.maximum(highs[None, :] - lows[:, None], MIN_SPAN) / levels
    inside = p[x != 0].sum() - beyond_low[:, None] - beyond_high[None, :]
    error = clipped_low[:, None] + clipped_high[None, :] + inside * steps**2 / 12
    i, j = np.unravel_index(int(error.argmin()), error.shape)
    return float(lows[i]), float(highs[j])


def _clipping(x: Float64s, p: Float64s, bounds: Float64s) -> tuple[Float64s, Float64s]:
    """Of rising values x with shares p: sum p (bound - x)^2 over x < bound, and sum p."""
    sums = [np.concatenate([[0.0], np.cumsum(p * x**k)]) for k in range(3)]
    at = np.searchsorted(x, bounds)
    error = bounds**2 * sums[0][at] - 2 * bounds * sums[1][at] + sums[2][at]
    return np.maximum(error, 0.0), sums[0][at]


def entropy(o: Observed, levels: int = 255) -> Range:
    """The range whose quantized histogram diverges least from the observed one (Kullback-Leibler,
    after Migacz, "8-bit inference with TensorRT", 2017): histograms of 2048 equal bins."""
    x, p = o.values()
    best, least = (o.low, o.high), np.inf
    edges = np.linspace(o.low, o.high, 2049)
    density = np.histogram(x, edges, weights=p)[0]
    middle = (edges[1:] + edges[:-1]) / 2
    for low, high in _candidates(o):
        inside = (middle >= low) & (middle <= high)
        if inside.sum() < levels // 2:
            continue
        reference = density[inside].copy()
        reference[0] += density[middle < low].sum()
        reference[-1] += density[middle > high].sum()
        level = np.minimum((np.arange(inside.sum()) * levels) // inside.sum(), levels - 1)
        used = density[inside] > 0
        sums = np.bincount(level, density[inside], levels)
        counts = np.maximum(np.bincount(level, used, levels), 1)
        quantized = np.where(used, (sums / counts)[level], 0)
        total = quantized.sum()
        if total <= 0:
            continue
        quantized = np.maximum(quantized / total, 1e-12)
        divergence = float((reference * np.log(np.maximum(reference, 1e-12) / quantized)).sum())
        if divergence < least:
            best, least = (low, high), divergence
    return best


METHODS: dict[str, Callable[[Observed], Range]] = {
    "minmax": min_max,
    "moving-average": moving_average,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}


def _candidates(o: Observed) -> list[Range]:
    """Both ends drawn in together, and each by itself."""
    steps = 0.94 ** np.arange(48)
    low, high = min(o.low, 0.0), max(o.high, 0.0)
    pairs = [(low * s, high * s) for s in steps]
    if low < 0 < high:
        pairs += [(low * s, high) for s in steps[1:]] + [(low, high * s) for s in steps[1:]]
    return pairs


def _squared_error(x: Float64s, p: Float64s, low: float, high: float, levels: int) -> float:
    """Of values x with shares p. Inside, steps are finer than bins: a twelfth of a step's square,
    but for zero, which has no error."""
    step = max(high - low, MIN_SPAN) / levels
    beyond = np.where(x < low, low - x, np.where(x > high, x - high, 0.0))
    inside = (beyond == 0) & (x != 0)
    return float((p * beyond**2).sum() + p[inside].sum() * step * step / 12)


def noise(o: Observed, r: Range, bits: int) -> float:
    """Mean squared error of the tensor alone, relative to its mean square."""
    x, p = o.values()
    q = qparams(r, bits)
    reach = (np.array([-128, 127]) if bits == 8 else np.array([-32768, 32767])) - q.zero_point
    low, high = (float(v) for v in reach * np.float64(q.scale))
    levels = 255 if bits == 8 else 65535
    power = float((p * x * x).sum())
    return _squared_error(x, p, low, high, levels) / power if power > 0 else 0.0


def qparams(r: Range, bits: int = 8) -> QParams:
    """Scale and zero point; zero is always exact. int16 has a zero point of 0."""
    low, high = min(r[0], 0.0), max(r[1], 0.0)
    if bits == 16:
        return QParams.of(max(-low, high, MIN_SPAN) / 32767)
    scale = np.float32(max(high - low, MIN_SPAN) / 255)
    zero = int(np.clip(np.round(-128 - low / np.float64(scale)), -128, 127))
    return QParams.of(float(scale), zero)
