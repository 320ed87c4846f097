# SPDX-License-Identifier: Apache-2.0
"""Golden cases of docs/FORMAT.md: the inputs that a seed stands for, the outputs' digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from math import prod

import numpy as np
import numpy.typing as npt

from .program import Array
from .spec import ITEMSIZE

SEEDS = (1, 2, 3)  # of the cases that a converted file carries

_STEP = 0x9E3779B97F4A7C15  # splitmix64
_MASK = 2**64 - 1


def golden_inputs(seed: int, inputs: Sequence[tuple[str, Sequence[int]]]) -> list[Array]:
    """The arrays for `inputs`, (storage dtype, shape) of each input port in order."""
    arrays: list[Array] = []
    state = seed
    for dtype, shape in inputs:
        size = prod(shape) * ITEMSIZE[dtype]
        blocks = -(-size // 8)
        data = _splitmix(state, blocks).astype("<u8").view(np.uint8)[:size]
        state = (state + blocks * _STEP) & _MASK
        if dtype == "bool":
            data = data & np.uint8(1)
        little = data.copy().view(np.dtype(dtype).newbyteorder("<"))
        arrays.append(little.astype(dtype).reshape(tuple(shape)))  # in native order
    return arrays


def golden_digest(outputs: Iterable[Array]) -> bytes:
    """SHA-256 of the outputs' storage bytes, one after another."""
    digest = hashlib.sha256()
    for array in outputs:
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.digest()


def _splitmix(state: int, count: int) -> npt.NDArray[np.uint64]:
    """`count` outputs of splitmix64, modulo 2**64."""
    steps = np.arange(1, count + 1, dtype=np.uint64)
    z = np.uint64(state & _MASK) + steps * np.uint64(_STEP)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: npt.NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return result
