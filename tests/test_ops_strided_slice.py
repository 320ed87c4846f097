# SPDX-License-Identifier: Apache-2.0
"""STRIDED_SLICE against the oracle: numpy's own indexing says which shape comes out.

What the oracle refuses, and the generators therefore avoid: more than 5 dimensions, counting new
axes; a stride of 0; a new axis and a shrunk axis at the same place; indices of another type than
int32. An empty result is not refused, but no network computes with one. An ellipsis that stands
for no axis at all swallows the next one there, against the operator's definition.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from cases import BYTE_TYPES, SEED_FACTOR, Quant, Rng, Shape, chance, dims, fill, pick, seeded
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from oracle import check
from tflite_builder import ModelBuilder

MAX_RANK = 5


@dataclass
class Index:
    """One index expression, as the operator's vectors and masks and as numpy takes it."""

    begin: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    strides: list[int] = field(default_factory=list)
    masks: dict[str, int] = field(default_factory=dict)
    numpy: list[Any] = field(default_factory=list)

    def slice(self, begin: int, end: int, stride: int, open_begin: bool, open_end: bool) -> None:
        """`begin:end:stride`; an open side has its mask set and its value ignored."""
        self._mark("begin_mask", open_begin)
        self._mark("end_mask", open_end)
        self.numpy.append(slice(None if open_begin else begin, None if open_end else end, stride))
        self._append(begin, end, stride)

    def element(self, at: int) -> None:
        """A single position, whose axis disappears."""
        self._mark("shrink_axis_mask", True)
        self.numpy.append(at)
        self._append(at, at + 1, 1)

    def new_axis(self) -> None:
        self._mark("new_axis_mask", True)
        self.numpy.append(None)
        self._append(0, 0, 1)

    def ellipsis(self) -> None:
        self._mark("ellipsis_mask", True)
        self.numpy.append(Ellipsis)
        self._append(0, 0, 1)

    def result(self, shape: Shape) -> Shape:
        """The shape of the indexed array."""
        return tuple(np.empty(shape)[tuple(self.numpy)].shape)

    def _mark(self, mask: str, on: bool) -> None:
        self.masks[mask] = self.masks.get(mask, 0) | int(on) << len(self.begin)

    def _append(self, begin: int, end: int, stride: int) -> None:
        self.begin.append(begin)
        self.end.append(end)
        self.strides.append(stride)


def model(x: Quant, y: Quant, shape: Shape, index: Index) -> bytes:
    b = ModelBuilder()
    operands = [x.input(b, "x", shape)]
    for name in ("begin", "end", "strides"):
        operands.append(b.const(name, np.array(getattr(index, name), np.int32)))
    to = y.tensor(b, "y", index.result(shape))
    b.op("STRIDED_SLICE", operands, [to], **index.masks)
    b.output(to)
    return b.finish()


def random_slice(rng: Rng, index: Index, size: int) -> None:
    """A slice of an axis that keeps at least one element."""
    while True:
        begin, end = (int(n) for n in rng.integers(-size - 2, size + 3, 2))
        stride = pick(rng, 1, 1, 1, 2, 3, -1, -1, -2)
        open_begin, open_end = chance(rng, 0.3), chance(rng, 0.3)
        kept = slice(None if open_begin else begin, None if open_end else end, stride)
        if len(range(*kept.indices(size))) > 0:
            index.slice(begin, end, stride, open_begin, open_end)
            return


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(80)
def test_strided_slice(rng: Rng, dtype: str) -> None:
    """All masks at once: slices, shrunk axes, new axes, an ellipsis, trailing axes left out."""
    shape = dims(rng, int(rng.integers(1, 5)), 1, 8)
    index = Index()
    axis, left = 0, list(shape)
    ellipsis_at = int(rng.integers(len(shape))) if chance(rng, 0.25) else None
    while axis < len(shape):
        if ellipsis_at == axis:
            index.ellipsis()
            axis += int(rng.integers(1, len(shape) - axis + 1))
            ellipsis_at = None
            # The rest must be named one by one, or the ellipsis would take more.
            for size in left[axis:]:
                random_slice(rng, index, size)
            break
        if len(shape) + len(index.begin) - axis < MAX_RANK and chance(rng, 0.15):
            index.new_axis()
        elif chance(rng, 0.2):
            index.element(int(rng.integers(-left[axis], left[axis])))
            axis += 1
        elif chance(rng, 0.1):
            break
        else:
            random_slice(rng, index, left[axis])
            axis += 1
    if not index.begin:
        index.slice(0, 0, 1, True, True)
    x = Quant.random(rng, dtype)
    y = Quant.random(rng, dtype) if chance(rng, 0.1) else x
    check(model(x, y, shape, index), [fill(rng, shape, dtype)])


@settings(
    max_examples=150 * SEED_FACTOR,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_strided_slice_bounds(data: st.DataObject) -> None:
    """begin, end and stride of any sign, inside and far outside of the axis."""
    shape = tuple(data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=MAX_RANK)))
    bound = st.one_of(st.integers(-10, 10), st.sampled_from([-(2**31) + 1, 2**31 - 1]))
    index = Index()
    for _ in shape:
        stride = data.draw(st.integers(-9, 9).filter(bool))
        index.slice(
            data.draw(bound),
            data.draw(bound),
            stride,
            data.draw(st.booleans()),
            data.draw(st.booleans()),
        )
    assume(all(index.result(shape)))
    q = Quant("int8", 0.5, 3)
    values = np.arange(np.prod(shape)).astype(np.int8).reshape(shape)
    check(model(q, q, shape, index), [values])
