# SPDX-License-Identifier: Apache-2.0
"""How near integers are to floats: signal to quantization noise, in decibels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ir.graph import Array

BEST = 99.0  # dB: no noise at all
_MAX_PARTS = 32  # channels of an output that are judged one by one


def sqnr(reference: Array, found: Array) -> float:
    """10 log10(sum reference^2 / sum (reference - found)^2); 99 without noise."""
    a, b = np.asarray(reference, np.float64), np.asarray(found, np.float64)
    signal, error = float((a * a).sum()), float(((a - b) ** 2).sum())
    if error == 0:
        return BEST
    if signal == 0 or not np.isfinite(error):
        return -BEST
    return float(np.clip(10 * np.log10(signal / error), -BEST, BEST))


def variation_sqnr(reference: Sequence[Array], found: Sequence[Array]) -> float:
    """The same over several samples, of what differs from the mean over all, and, where there are
    many places with a short last axis, as the mean of its parts' decibels.

    A detector's scores are almost all the same; what it is there for is in the rest. One score a
    class has no parts: of a class that none of the samples shows, noise is all there is.
    """
    a = np.stack([np.asarray(x, np.float64) for x in reference])
    b = np.stack([np.asarray(x, np.float64) for x in found])
    last = a.shape[-1] if a.ndim > 1 else 1
    parts = last if a[0].size > last and 1 < last <= _MAX_PARTS else 1
    a, b = a.reshape(-1, parts), b.reshape(-1, parts)
    signal = ((a - a.mean(0)) ** 2).sum(0)
    error = ((a - b) ** 2).sum(0)
    known = signal > 0
    if not known.any():
        return sqnr(a, b)
    ratio = signal[known] / np.maximum(error[known], signal[known] * 10 ** (-BEST / 10))
    return float(np.clip(10 * np.log10(np.maximum(ratio, 1e-9)), -BEST, BEST).mean())


def together(reference: Sequence[Sequence[Array]], found: Sequence[Sequence[Array]]) -> float:
    """variation_sqnr of samples' outputs as one number: dB of the mean noise, so that the worst
    output says most."""
    noise = [
        10 ** (-variation_sqnr([o[i] for o in reference], [o[i] for o in found]) / 10)
        for i in range(len(reference[0]))
    ]
    return float(np.clip(-10 * np.log10(max(float(np.mean(noise)), 1e-30)), -BEST, BEST))
