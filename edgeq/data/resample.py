# SPDX-License-Identifier: Apache-2.0
"""Pictures cropped and resized as src_c/io/picture.c does it: the same integers, in numpy.

docs/NUMERICS.md, "Pictures", is the arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError

Pixels = npt.NDArray[np.uint8]
Sums = npt.NDArray[np.uint32]
CROP_ONE = 1 << 16
MAX_SOURCE = 1 << 20  # pixels a side
_ONE = 4  # a level in rows
_BLOCK = 16


def gray(rgb: Pixels) -> Pixels:
    """(H, W, 3) to (H, W, 1)."""
    sums = rgb @ np.array([19595, 38470, 7471], np.uint32)
    return ((sums + 32768) >> 16).astype(np.uint8)[..., None]


def fit_picture(
    rgb: Pixels, height: int, width: int, fit: str, crop: int, pad: tuple[int, int, int], grey: bool
) -> Pixels:
    """A picture (H, W, 3) as (height, width, 3), or (height, width, 1) if it becomes grey.

    `fit`: "stretch", "crop" or "pad"; `crop`: the part of it that is kept, in 65536ths; `pad`: the
    RGB colour around it. Raises ArgumentError where it would be shrunk too much.
    """
    h, w = rgb.shape[:2]
    if not (1 <= h <= MAX_SOURCE and 1 <= w <= MAX_SOURCE):
        raise ArgumentError(f"a picture of {w} x {h} pixels, at least 1, at most 2^20")
    top, left, box_h, box_w, out_h, out_w = _frame(h, w, height, width, fit, crop)
    box = rgb[top : top + box_h, left : left + box_w]
    if not (_is_feasible(box_w, out_w) and _is_feasible(box_h, out_h)):
        raise ArgumentError(f"{box_w} x {box_h} pixels cannot be shrunk to {out_w} x {out_h}")
    resized = resize(gray(box) if grey else box, out_h, out_w)
    if (out_h, out_w) == (height, width):
        return resized
    colour = np.array(pad, np.uint8).reshape(1, 1, 3)
    whole = np.empty((height, width, resized.shape[2]), np.uint8)
    whole[...] = gray(colour) if grey else colour
    y, x = (height - out_h) // 2, (width - out_w) // 2
    whole[y : y + out_h, x : x + out_w] = resized
    return whole


def resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """(H, W, C) to (height, width, C): along the rows, to quarters of a level, then the columns."""
    sums, total = _along(pixels, 1, width)
    rows = (2 * _ONE * sums + total) // (2 * total)
    sums, total = _along(rows, 0, height)
    found: Pixels = ((2 * sums + _ONE * total) // (2 * _ONE * total)).astype(np.uint8)
    return found


def _along(values: npt.NDArray[Any], axis: int, out: int) -> tuple[Sums, Sums]:
    """Weighted sums, and the sums of the weights as they broadcast against them.

    By matrix products in float64, in which these integers are exact; of some columns at a time,
    which see only a part of the source.
    """
    size = values.shape[axis]
    first, weights = _weights(size, out)
    total = weights.sum(1, dtype=np.uint32)
    moved = np.moveaxis(values, axis, 2)
    sums: Sums = np.empty((*moved.shape[:2], out), np.uint32)
    for begin in range(0, out, _BLOCK):
        part = slice(begin, min(begin + _BLOCK, out))
        low = int(first[begin])
        high = min(int(first[part.stop - 1]) + weights.shape[1], size)
        matrix = np.zeros((high - low, part.stop - begin))
        for k in range(weights.shape[1]):
            x = np.minimum(first[part] + k, size - 1) - low
            matrix[x, np.arange(len(x))] += weights[part, k]
        seen = np.ascontiguousarray(moved[:, :, low:high], np.float64).reshape(-1, high - low)
        sums[:, :, part] = (seen @ matrix).reshape(*moved.shape[:2], -1)
    shape = [1, 1, 1]
    shape[axis] = out
    return np.moveaxis(sums, 2, axis), total.reshape(shape)


def _weights(size: int, out: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
    """Of every output pixel the first source pixel, and the weights from there on (out, taps)."""
    reach = 2 * max(size, out)
    centre = (2 * np.arange(out, dtype=np.int64) + 1) * size
    first = np.maximum((centre - reach - out) // (2 * out) + 1, 0)
    x = first[:, None] + np.arange(reach // out + 1)
    n = np.maximum(reach - np.abs((2 * x + 1) * out - centre[:, None]), 0)
    return first, np.where(x < size, n, 0).astype(np.uint32)


def _is_feasible(size: int, out: int) -> bool:
    return size <= out or size * (size + out) < out << 20


def _scaled(a: int, b: int, c: int) -> int:
    """a * b / c, rounded to nearest, ties up, at least 1."""
    return max(1, (2 * a * b + c) // (2 * c))


def _frame(
    h: int, w: int, height: int, width: int, fit: str, crop: int
) -> tuple[int, int, int, int, int, int]:
    """Top, left, height and width of the part that is kept; height and width that it gets."""
    wide = w * height > h * width
    box_h, box_w = h, w
    if fit == "crop" and wide:
        box_w = _scaled(h, width, height)
    elif fit == "crop":
        box_h = _scaled(w, height, width)
    box_h, box_w = _scaled(box_h, crop, CROP_ONE), _scaled(box_w, crop, CROP_ONE)
    out_h, out_w = height, width
    if fit == "pad" and box_w * height > box_h * width:
        out_h = _scaled(box_h, width, box_w)
    elif fit == "pad":
        out_w = _scaled(box_w, height, box_h)
    return (h - box_h) // 2, (w - box_w) // 2, box_h, box_w, out_h, out_w
