# SPDX-License-Identifier: Apache-2.0
"""How far two conversions of one network are apart: exact against native arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .format.golden import SEEDS, golden_inputs
from .runtime.model import Model, TensorInfo
from .runtime.session import Session

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Difference:
    """Of one output over all cases: `differing` of `elements`, the largest by `max_step`.

    `dtype` is what the caller sees. A step is the least difference that the tensor can hold: one of
    its integers.
    """

    output: str
    dtype: str
    elements: int
    differing: int
    max_step: int


def differences(a: bytes, b: bytes, seeds: Sequence[int] = SEEDS) -> list[Difference]:
    """Runs two .eqm files of the same inputs and outputs on the inputs of golden cases."""
    one, other = Session(Model(a)), Session(Model(b))
    steps: list[list[Array]] = [[] for _ in one.outputs]
    for seed in seeds:
        inputs = _inputs(seed, one.inputs)
        for i, (t, y, z) in enumerate(zip(one.outputs, one.run(*inputs), other.run(*inputs))):
            steps[i].append(_steps(t, y, z).ravel())
    return [_summary(t, np.concatenate(found)) for t, found in zip(one.outputs, steps)]


def _inputs(seed: int, tensors: Sequence[TensorInfo]) -> list[Array]:
    """The golden case's inputs in the dtypes of the caller."""
    stored = ["int8" if t.dtype in (np.uint8, np.float32) else str(t.dtype) for t in tensors]
    arrays = golden_inputs(seed, [(d, t.shape) for d, t in zip(stored, tensors)])
    return [_seen(t, a) for t, a in zip(tensors, arrays)]


def _seen(t: TensorInfo, stored: Array) -> Array:
    if t.dtype == np.uint8:
        return (stored.astype(np.int16) + 128).astype(np.uint8)
    if t.dtype == np.float32:
        real: Array = np.float32(t.scale) * (stored.astype(np.float32) - np.float32(t.zero_point))
        return real
    return stored


def _steps(t: TensorInfo, y: Array, z: Array) -> Array:
    wide = np.float64 if t.dtype == np.float32 else np.int64
    distance = np.abs(y.astype(wide) - z.astype(wide))
    if t.dtype == np.float32 and t.scale:
        distance = distance / t.scale
    steps: Array = np.rint(distance).astype(np.int64)
    return steps


def _summary(t: TensorInfo, steps: Array) -> Difference:
    differing = int(np.count_nonzero(steps))
    return Difference(t.name, str(t.dtype), steps.size, differing, int(steps.max(initial=0)))
