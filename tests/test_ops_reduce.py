# SPDX-License-Identifier: Apache-2.0
"""AVERAGE_POOL_2D, MAX_POOL_2D, MEAN, SUM, REDUCE_MAX and ARG_MAX against the oracle.

What the oracle refuses, and the generators therefore avoid:
- REDUCE_MAX with an output scale or zero point other than the input's;
- pooling of other than four dimensions.
The pools take any output parameters but use them for the fused activation's bounds alone: the
stored bytes are averaged as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from cases import (
    BYTE_TYPES,
    Quant,
    Rng,
    Shape,
    activation,
    chance,
    dims,
    f32,
    fill,
    log_uniform,
    output_quant,
    pick,
    seeded,
    zero_point,
)
from oracle import check, compare, reference, run_edgeq
from tflite_builder import ModelBuilder

POOLS = ("AVERAGE_POOL_2D", "MAX_POOL_2D")


def pool_axis(rng: Rng, size: int, padding: str, largest: int) -> tuple[int, int, int]:
    """(window, stride, output size) of one axis."""
    window, stride = int(rng.integers(1, largest + 1)), pick(rng, 1, 1, 2, 2, 3)
    if padding == "VALID":
        window = min(window, size)
        return window, stride, (size - window) // stride + 1
    return window, stride, -(-size // stride)


def pool_case(
    rng: Rng, kind: str, dtype: str, size: Shape, channels: int, largest: int, same: bool = True
) -> tuple[bytes, list[np.ndarray]]:
    padding, fused = str(rng.choice(["SAME", "VALID"])), activation(rng)
    kh, sh, oh = pool_axis(rng, size[0], padding, largest)
    kw, sw, ow = pool_axis(rng, size[1], padding, largest)
    x = output_quant(rng, dtype, fused)
    y = x if same else Quant.random(rng, dtype)
    shape = (pick(rng, 1, 1, 2), *size, channels)
    b = ModelBuilder()
    ti = x.input(b, "x", shape)
    to = y.tensor(b, "y", (shape[0], oh, ow, channels))
    b.op(
        kind,
        [ti],
        [to],
        padding=padding,
        stride_h=sh,
        stride_w=sw,
        filter_height=kh,
        filter_width=kw,
        fused_activation_function=fused,
    )
    b.output(to)
    return b.finish(), [fill(rng, shape, dtype)]


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@pytest.mark.parametrize("kind", POOLS)
@seeded(50)
def test_pool(rng: Rng, kind: str, dtype: str) -> None:
    check(*pool_case(rng, kind, dtype, dims(rng, 2, 1, 11), int(rng.integers(1, 40)), 5))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@pytest.mark.parametrize("kind", POOLS)
@seeded(10)
def test_pool_large_window(rng: Rng, kind: str, dtype: str) -> None:
    """Windows such as those at the end of classifiers, and beyond."""
    check(*pool_case(rng, kind, dtype, dims(rng, 2, 5, 30), int(rng.integers(1, 70)), 40))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@seeded(4)
def test_pool_overlapping(rng: Rng, kind: str, dtype: str, padding: str) -> None:
    """Large windows with strides of 1 and 2, which the runtime may pool by columns first."""
    size, kernel, stride = dims(rng, 2, 9, 20), dims(rng, 2, 4, 9), dims(rng, 2, 1, 2)
    channels = int(rng.integers(1, 140))
    out = tuple(
        -(-n // s) if padding == "SAME" else (n - k) // s + 1
        for n, k, s in zip(size, kernel, stride)
    )
    x = Quant.random(rng, dtype)
    b = ModelBuilder()
    operand = x.input(b, "x", (2, *size, channels))
    to = x.tensor(b, "y", (2, *out, channels))
    b.op(
        kind,
        [operand],
        [to],
        padding=padding,
        stride_h=stride[0],
        stride_w=stride[1],
        filter_height=kernel[0],
        filter_width=kernel[1],
        fused_activation_function=activation(rng),
    )
    b.output(to)
    check(b.finish(), [fill(rng, (2, *size, channels), dtype)])


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@pytest.mark.parametrize("kind", POOLS)
@seeded(6)
def test_pool_ignores_scales(rng: Rng, kind: str, dtype: str) -> None:
    check(*pool_case(rng, kind, dtype, dims(rng, 2, 1, 8), int(rng.integers(1, 8)), 4, same=False))


@dataclass(frozen=True)
class Reduction:
    """One reducing operator: its input shape and axes, the latter also as the file lists them."""

    kind: str
    shape: Shape
    axes: list[int]
    listed: np.ndarray
    keep_dims: bool

    @staticmethod
    def random(rng: Rng, kind: str, shape: Shape, axes: list[int]) -> Reduction:
        listed = np.array([a - len(shape) if chance(rng, 0.3) else a for a in axes], np.int32)
        if len(axes) == 1 and chance(rng, 0.3):
            listed = listed.reshape(())
        return Reduction(kind, shape, axes, listed, chance(rng, 0.5))

    def output_quant(self, rng: Rng, x: Quant) -> Quant:
        """The input's parameters, or such as fit the result, or an extreme."""
        if self.kind == "REDUCE_MAX" or chance(rng, 0.3):
            return x
        if chance(rng, 0.25):
            ratio = log_uniform(rng, 2.0**-3, 2.0**10)
            return Quant(x.dtype, f32(x.scale * ratio), zero_point(rng, x.dtype))
        count = float(np.prod([self.shape[a] for a in self.axes]))
        low, high = x.range()
        centre, spread = (low + high) / 2, (high - low) / 2 / np.sqrt(count)
        times = count if self.kind == "SUM" else 1.0
        return Quant.covering(rng, x.dtype, times * (centre - spread), times * (centre + spread))

    def model(self, x: Quant, y: Quant) -> bytes:
        out = list(self.shape)
        for a in sorted(self.axes, reverse=True):
            out[a : a + 1] = [1] if self.keep_dims else []
        b = ModelBuilder()
        operands = [x.input(b, "x", self.shape), b.const("axes", self.listed)]
        to = y.tensor(b, "y", out)
        b.op(self.kind, operands, [to], keep_dims=self.keep_dims)
        b.output(to)
        return b.finish()


def check_reduction(rng: Rng, dtype: str, reduction: Reduction) -> None:
    x = Quant.random(rng, dtype)
    y = reduction.output_quant(rng, x)
    check(reduction.model(x, y), [fill(rng, reduction.shape, dtype)])


def random_reduction(rng: Rng, kind: str) -> Reduction:
    """Any rank up to 5; mostly one or two axes, now and then none or all, in any order."""
    shape = dims(rng, pick(rng, 1, 2, 3, 4, 4, 5), 1, 8)
    rank = len(shape)
    count = int(rng.integers(0, rank + 1)) if chance(rng, 0.2) else min(rank, pick(rng, 1, 1, 2))
    axes = [int(a) for a in rng.permutation(rank)[:count]]
    return Reduction.random(rng, kind, shape, axes)


# SUM is here with uint8 only, see test_sum_int8.
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("MEAN", "int8"),
        ("MEAN", "uint8"),
        ("SUM", "uint8"),
        ("REDUCE_MAX", "int8"),
        ("REDUCE_MAX", "uint8"),
    ],
)
@seeded(50)
def test_reduce(rng: Rng, kind: str, dtype: str) -> None:
    check_reduction(rng, dtype, random_reduction(rng, kind))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@pytest.mark.parametrize("kind", ["MEAN", "REDUCE_MAX"])
@seeded(15)
def test_reduce_image(rng: Rng, kind: str, dtype: str) -> None:
    """Global pooling as exporters write it: axes 1 and 2 of an image."""
    shape = (pick(rng, 1, 1, 2), *dims(rng, 2, 1, 20), int(rng.integers(1, 100)))
    check_reduction(rng, dtype, Reduction.random(rng, kind, shape, [1, 2]))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(10)
def test_mean_many(rng: Rng, dtype: str) -> None:
    """More means of contiguous elements than the runtime requantizes at a time."""
    shape = (*dims(rng, 2, 8, 30), int(rng.integers(2, 100)))
    check_reduction(rng, dtype, Reduction.random(rng, "MEAN", shape, [2]))


def flip_sign(data: np.ndarray) -> np.ndarray:
    """int8 as the uint8 128 higher, or back."""
    other = np.uint8 if data.dtype == np.int8 else np.int8
    return (data.astype(np.int16) + (128 if other == np.uint8 else -128)).astype(other)


@seeded(50)
def test_sum_int8(rng: Rng) -> None:
    """int8 SUM is the uint8 SUM of the same reals, 128 stored steps lower.

    The oracle's own int8 kernel reads the bytes as uint8 without moving the zero points, so that
    its results mean nothing; its uint8 kernel computes what is meant.
    """
    reduction = random_reduction(rng, "SUM")
    x = Quant.random(rng, "int8")
    y = reduction.output_quant(rng, x)
    data = fill(rng, reduction.shape, "int8")
    twin = reduction.model(*(Quant("uint8", q.scale, q.zero_point + 128) for q in (x, y)))
    want = reference(twin, [flip_sign(data)])[0]
    got = run_edgeq(reduction.model(x, y), [data])
    compare(got, [flip_sign(want)], "SUM, int8 by uint8")


@pytest.mark.parametrize("index_type", ["int32", "int64"])
@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(20)
def test_arg_max(rng: Rng, dtype: str, index_type: str) -> None:
    """The first of equal maxima wins."""
    shape = dims(rng, int(rng.integers(1, 6)), 1, 9)
    axis = int(rng.integers(len(shape)))
    x = Quant.random(rng, dtype)
    data = fill(rng, shape, dtype)
    if chance(rng, 0.3):
        data = (data & 3).astype(dtype)
    listed = axis - len(shape) if chance(rng, 0.4) else axis
    b = ModelBuilder()
    axis_type = np.int32 if chance(rng, 0.7) else np.int64
    axis_shape = () if chance(rng, 0.5) else (1,)
    operands = [
        x.input(b, "x", shape),
        b.const("axis", np.full(axis_shape, listed, axis_type)),
    ]
    to = b.tensor("y", shape[:axis] + shape[axis + 1 :], index_type)
    b.op("ARG_MAX", operands, [to], output_type=index_type)
    b.output(to)
    check(b.finish(), [data])
