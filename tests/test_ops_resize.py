# SPDX-License-Identifier: Apache-2.0
"""RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR against the oracle.

What the oracle refuses, and the generators therefore avoid: align_corners together with
half_pixel_centers in RESIZE_BILINEAR; other than four dimensions; a size that is not int32.
Both ignore scales and zero points. Bilinear int8 works with 10-bit fixed-point weights, bilinear
uint8 in float32, so the two do not agree with each other.

The fixed-point step of int8 is rounded. Rounded up, it can lead past the last row or column, and
the kernel then reads the next row's bytes or beyond the tensor; such sizes are left out.
"""

from __future__ import annotations

import numpy as np
import pytest
from cases import BYTE_TYPES, Quant, Rng, Shape, chance, dims, fill, pick, seeded
from oracle import check
from tflite_builder import ModelBuilder

import edgeq

MODES = {
    "plain": {"align_corners": False, "half_pixel_centers": False},
    "align_corners": {"align_corners": True, "half_pixel_centers": False},
    "half_pixel": {"align_corners": False, "half_pixel_centers": True},
    "both": {"align_corners": True, "half_pixel_centers": True},
}
BILINEAR = "RESIZE_BILINEAR"
NEAREST = "RESIZE_NEAREST_NEIGHBOR"
KINDS = [(BILINEAR, m) for m in MODES if m != "both"] + [(NEAREST, m) for m in MODES]


def stays_inside(mode: str, source: int, size: int) -> bool:
    """Whether the fixed-point steps of bilinear int8 end on the last element at most."""
    if mode == "align_corners" and size > 1:
        step = (1024 * (source - 1) + (size - 1) // 2) // (size - 1)
    else:
        step = (1024 * source + size // 2) // size
    last = (size - 1) * step + (step // 2 - 512 if mode == "half_pixel" else 0)
    return last < 1024 * source


def valid_sizes(
    rng: Rng, kind: str, mode: str, sources: tuple[int, int], sizes: tuple[int, int]
) -> tuple[int, int]:
    """(source, size) of one axis, each from its range."""
    while True:
        source, size = (int(rng.integers(low, high)) for low, high in (sources, sizes))
        if kind == NEAREST or stays_inside(mode, source, size):
            return source, size


def resize_case(
    rng: Rng, kind: str, mode: str, dtype: str, shape: Shape, size: Shape
) -> tuple[bytes, list[np.ndarray]]:
    """From (N, H, W, C) `shape` to (h, w) `size`."""
    x = Quant.random(rng, dtype)
    y = Quant.random(rng, dtype) if chance(rng, 0.1) else x
    b = ModelBuilder()
    operands = [x.input(b, "x", shape), b.const("size", np.array(size, np.int32))]
    to = y.tensor(b, "y", (shape[0], *size, shape[3]))
    b.op(kind, operands, [to], **MODES[mode])
    b.output(to)
    return b.finish(), [fill(rng, shape, dtype)]


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@pytest.mark.parametrize(("kind", "mode"), KINDS)
@seeded(40)
def test_resize(rng: Rng, kind: str, mode: str, dtype: str) -> None:
    """Any size to any size, up and down."""
    (h, oh), (w, ow) = (valid_sizes(rng, kind, mode, (1, 13), (1, 26)) for _ in range(2))
    shape = (pick(rng, 1, 1, 2), h, w, int(rng.integers(1, 12)))
    check(*resize_case(rng, kind, mode, dtype, shape, (oh, ow)))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@pytest.mark.parametrize(("kind", "mode"), KINDS)
@pytest.mark.parametrize("factor", [2, 3, 4, 8])
@seeded(2)
def test_resize_whole_factor(rng: Rng, kind: str, mode: str, dtype: str, factor: int) -> None:
    """The upsampling, and its reverse, of segmentation and detection networks."""
    small = dims(rng, 2, 1, 9)
    large = (small[0] * factor, small[1] * factor)
    source, size = (large, small) if chance(rng, 0.3) else (small, large)
    shape = (1, *source, int(rng.integers(1, 33)))
    check(*resize_case(rng, kind, mode, dtype, shape, size))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@pytest.mark.parametrize(("kind", "mode"), KINDS)
@seeded(3)
def test_resize_wide(rng: Rng, kind: str, mode: str, dtype: str) -> None:
    """Long axes, where the fixed-point steps add up, or the float32 ones round."""
    h, oh = valid_sizes(rng, kind, mode, (1, 4), (1, 4))
    w, ow = valid_sizes(rng, kind, mode, (100, 600), (100, 1200))
    shape = (1, h, w, pick(rng, 1, 2, 3))
    check(*resize_case(rng, kind, mode, dtype, shape, (oh, ow)))


def test_positions_behind_the_end_take_the_last_row() -> None:
    """168 rows enlarged to 629: the oracle reads behind its input (docs/ORACLE.md)."""
    source, size = 168, 629
    assert not stays_inside("plain", source, size)
    x = np.random.default_rng(0).integers(-128, 128, (1, source, 1, 3)).astype(np.int8)
    b = ModelBuilder()
    q = Quant("int8", 0.5, 3)
    operands = [q.input(b, "x", x.shape), b.const("size", np.array([size, 1], np.int32))]
    to = q.tensor(b, "y", (1, size, 1, 3))
    b.op(BILINEAR, operands, [to], **MODES["plain"])
    b.output(to)
    (y,) = edgeq.load(edgeq.convert(b.finish())).run(x)

    step = (1024 * source + size // 2) // size
    position = np.minimum(np.arange(size) * step, 1024 * (source - 1))
    lower, rest = position // 1024, (position % 1024)[:, None]
    upper = np.minimum(lower + 1, source - 1)
    rows = x[0, :, 0].astype(np.int64)
    total = (rows[lower] * (1024 - rest) + rows[upper] * rest) * 1024
    half = np.where(total > 0, 2**19, -(2**19))
    expected = np.trunc((total + half) / 2**20).astype(np.int8)
    np.testing.assert_array_equal(y[0, :, 0], expected)
