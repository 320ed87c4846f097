# SPDX-License-Identifier: Apache-2.0
"""The operators that move bytes without computing, against the oracle.

PAD, PADV2, MIRROR_PAD, RESHAPE, SQUEEZE, EXPAND_DIMS, TRANSPOSE, CONCATENATION, SPLIT, SPLIT_V,
PACK, UNPACK, SLICE, SPACE_TO_DEPTH and DEPTH_TO_SPACE; STRIDED_SLICE has its own file.

What the oracle refuses, and the generators therefore avoid:
- PAD, PADV2 and SLICE of more than 5 dimensions; negative padding;
- EXPAND_DIMS, PACK and UNPACK with output parameters other than the input's, CONCATENATION of
  int8 likewise (of uint8 it requantizes, in float32);
- CONCATENATION with a fused activation;
- PADV2 with a padding value of other parameters than the output's is not refused, but the output
  is then never written;
- TRANSPOSE of a scalar is not refused but reads nothing.
The others take any output parameters and ignore them, but PAD fills with the output's zero point.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from cases import (
    BYTE_TYPES,
    Quant,
    Rng,
    Shape,
    chance,
    dims,
    f32,
    fill,
    log_uniform,
    pick,
    seeded,
    zero_point,
)
from oracle import check
from tflite_builder import ModelBuilder


def rank(rng: Rng, *choices: int) -> int:
    return pick(rng, *choices) if choices else pick(rng, 1, 2, 3, 4, 4, 5)


def unary_case(
    rng: Rng,
    kind: str,
    dtype: str,
    shapes: tuple[Shape, Shape],
    constants: Sequence[np.ndarray] = (),
    y: Quant | None = None,
    **options: Any,
) -> tuple[bytes, list[np.ndarray]]:
    """`kind` on one tensor and constants, from the first to the second of `shapes`."""
    x = Quant.random(rng, dtype)
    b = ModelBuilder()
    operands = [x.input(b, "x", shapes[0])]
    operands += [b.const(f"c{i}", c) for i, c in enumerate(constants)]
    to = (y or x).tensor(b, "y", shapes[1])
    b.op(kind, operands, [to], **options)
    b.output(to)
    return b.finish(), [fill(rng, shapes[0], dtype)]


def index_array(rng: Rng, values: Any) -> np.ndarray:
    """Indices as int32, or now and then int64."""
    return np.array(values, np.int64 if chance(rng, 0.2) else np.int32)


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(40)
def test_pad(rng: Rng, dtype: str) -> None:
    shape = dims(rng, rank(rng))
    pads = rng.integers(0, 4, (len(shape), 2))
    out = tuple(int(n + p.sum()) for n, p in zip(shape, pads))
    y = Quant.random(rng, dtype) if chance(rng, 0.2) else None
    check(*unary_case(rng, "PAD", dtype, (shape, out), [index_array(rng, pads)], y))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(30)
def test_padv2(rng: Rng, dtype: str) -> None:
    shape = dims(rng, rank(rng))
    pads = rng.integers(0, 4, (len(shape), 2))
    out = tuple(int(n + p.sum()) for n, p in zip(shape, pads))
    x = Quant.random(rng, dtype)
    value = fill(rng, () if chance(rng, 0.5) else (1,), dtype)
    b = ModelBuilder()
    operands = [x.input(b, "x", shape), b.const("pads", index_array(rng, pads))]
    operands.append(x.const(b, "value", value))
    to = x.tensor(b, "y", out)
    b.op("PADV2", operands, [to])
    b.output(to)
    check(b.finish(), [fill(rng, shape, dtype)])


@pytest.mark.parametrize("mode", ["REFLECT", "SYMMETRIC"])
@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(25)
def test_mirror_pad(rng: Rng, dtype: str, mode: str) -> None:
    shape = dims(rng, rank(rng, 1, 2, 3, 4, 4, 5))
    most = np.array(shape) - (mode == "REFLECT")
    pads = np.minimum(rng.integers(0, 5, (len(shape), 2)), most[:, None])
    out = tuple(int(n + p.sum()) for n, p in zip(shape, pads))
    constants = [index_array(rng, pads)]
    check(*unary_case(rng, "MIRROR_PAD", dtype, (shape, out), constants, mode=mode))


def any_shape(rng: Rng, count: int) -> Shape:
    """A random way to write `count` elements as up to 5 dimensions."""
    shape = []
    for _ in range(pick(rng, 0, 1, 2, 3, 4)):
        shape.append(pick(rng, *(d for d in range(1, count + 1) if count % d == 0)))
        count //= shape[-1]
    if count > 1:
        shape.append(count)
    return tuple(shape)


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(40)
def test_reshape(rng: Rng, dtype: str) -> None:
    """The new shape in a tensor or in the options, with or without a -1."""
    shape = dims(rng, rank(rng, 0, 1, 2, 3, 4, 5))
    out = any_shape(rng, int(np.prod(shape)))
    listed = list(out)
    if listed and chance(rng, 0.4):
        listed[int(rng.integers(len(listed)))] = -1
    y = Quant.random(rng, dtype) if chance(rng, 0.2) else None
    if listed and chance(rng, 0.4):
        check(*unary_case(rng, "RESHAPE", dtype, (shape, out), [], y, new_shape=listed))
    else:
        check(*unary_case(rng, "RESHAPE", dtype, (shape, out), [np.array(listed, np.int32)], y))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(20)
def test_squeeze(rng: Rng, dtype: str) -> None:
    """Named axes, from either end, or none for all of size 1."""
    shape = tuple(1 if chance(rng, 0.5) else n for n in dims(rng, rank(rng), 2))
    ones = [i for i, n in enumerate(shape) if n == 1]
    axes = [a for a in ones if chance(rng, 0.6)]
    out = tuple(n for i, n in enumerate(shape) if i not in (axes or ones))
    listed = [a - len(shape) if chance(rng, 0.4) else a for a in axes]
    check(*unary_case(rng, "SQUEEZE", dtype, (shape, out), squeeze_dims=listed))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(20)
def test_expand_dims(rng: Rng, dtype: str) -> None:
    shape = dims(rng, rank(rng, 0, 1, 2, 3, 4))
    axis = int(rng.integers(-len(shape) - 1, len(shape) + 1))
    value = index_array(rng, axis if chance(rng, 0.5) else [axis])
    out = np.expand_dims(np.empty(shape), axis).shape
    check(*unary_case(rng, "EXPAND_DIMS", dtype, (shape, out), [value]))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(60)
def test_transpose(rng: Rng, dtype: str) -> None:
    shape = dims(rng, rank(rng, 1, 2, 3, 4, 4, 5, 6), 1, 6)
    perm = rng.permutation(len(shape))
    out = tuple(shape[p] for p in perm)
    listed = [int(p) - len(shape) if chance(rng, 0.1) else int(p) for p in perm]
    y = Quant.random(rng, dtype) if chance(rng, 0.2) else None
    check(*unary_case(rng, "TRANSPOSE", dtype, (shape, out), [np.array(listed, np.int32)], y))


@pytest.mark.parametrize("perm", [(0, 2, 3, 1), (0, 3, 1, 2), (0, 2, 1, 3), (1, 0, 2, 3)])
@seeded(4)
def test_transpose_layouts(rng: Rng, perm: Shape) -> None:
    """The channels-first and channels-last exchanges of exporters, at image sizes."""
    shape = (pick(rng, 1, 2), *dims(rng, 3, 1, 40))
    out = tuple(shape[p] for p in perm)
    check(*unary_case(rng, "TRANSPOSE", "int8", (shape, out), [np.array(perm, np.int32)]))


def concat_inputs(rng: Rng, lengths: Sequence[int], shape: Shape, axis: int) -> list[Shape]:
    return [(*shape[:axis], n, *shape[axis + 1 :]) for n in lengths]


def concat_case(
    rng: Rng, dtype: str, requantize: bool, constant: bool
) -> tuple[bytes, list[np.ndarray]]:
    shape = dims(rng, rank(rng, 1, 2, 3, 4, 4, 5, 6))
    axis = int(rng.integers(len(shape)))
    lengths = [int(n) for n in rng.integers(1, 9, pick(rng, 1, 2, 2, 3, 4, 9))]
    y = Quant.random(rng, dtype)
    b = ModelBuilder()
    operands, inputs = [], []
    for i, part in enumerate(concat_inputs(rng, lengths, shape, axis)):
        q = y
        if requantize and chance(rng, 0.75):
            ratio = log_uniform(rng, 0.2, 2.0) if chance(rng, 0.8) else log_uniform(rng, 0.01, 50)
            q = Quant(dtype, f32(y.scale * ratio), zero_point(rng, dtype))
        data = fill(rng, part, dtype)
        if constant and i > 0 and chance(rng, 0.6):
            operands.append(q.const(b, f"in{i}", data))
        else:
            operands.append(q.input(b, f"in{i}", part))
            inputs.append(data)
    to = y.tensor(b, "y", (*shape[:axis], sum(lengths), *shape[axis + 1 :]))
    b.op("CONCATENATION", operands, [to], axis=axis - len(shape) if chance(rng, 0.4) else axis)
    b.output(to)
    return b.finish(), inputs


@pytest.mark.parametrize("constant", [False, True], ids=["inputs", "constants"])
@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(25)
def test_concatenation(rng: Rng, dtype: str, constant: bool) -> None:
    check(*concat_case(rng, dtype, False, constant))


@seeded(40)
def test_concatenation_uint8_requantizes(rng: Rng) -> None:
    check(*concat_case(rng, "uint8", True, chance(rng, 0.3)))


@seeded(40)
def test_concatenation_uint8_every_value(rng: Rng) -> None:
    """The requantization of every stored value: it is done in float32, not by R31."""
    y = Quant.random(rng, "uint8")
    b = ModelBuilder()
    quants = [
        Quant("uint8", f32(y.scale * log_uniform(rng, 0.05, 5.0)), zero_point(rng, "uint8"))
        for _ in range(3)
    ]
    operands = [q.input(b, f"in{i}", (256,)) for i, q in enumerate(quants)]
    to = y.tensor(b, "y", (768,))
    b.op("CONCATENATION", operands, [to], axis=0)
    b.output(to)
    check(b.finish(), [np.arange(256, dtype=np.uint8)] * 3)


def split_case(
    rng: Rng, kind: str, dtype: str, shape: Shape, axis: int, lengths: list[int]
) -> tuple[bytes, list[np.ndarray]]:
    x = Quant.random(rng, dtype)
    other = Quant.random(rng, dtype) if chance(rng, 0.15) else x
    b = ModelBuilder()
    listed = np.array(axis - len(shape) if chance(rng, 0.4) else axis, np.int32)
    at = b.const("axis", listed if chance(rng, 0.5) else listed.reshape(1))
    ti = x.input(b, "x", shape)
    operands = [at, ti]
    if kind == "SPLIT_V":
        sizes = index_array(rng, lengths)
        if chance(rng, 0.3):
            sizes[int(rng.integers(len(sizes)))] = -1
        operands = [ti, b.const("sizes", sizes), at]
    outs = [
        other.tensor(b, f"y{i}", s) for i, s in enumerate(concat_inputs(rng, lengths, shape, axis))
    ]
    b.op(kind, operands, outs, num_splits=len(outs))
    b.output(*outs)
    return b.finish(), [fill(rng, shape, dtype)]


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(30)
def test_split(rng: Rng, dtype: str) -> None:
    shape = list(dims(rng, rank(rng, 1, 2, 3, 4, 4, 5, 6)))
    axis, parts = int(rng.integers(len(shape))), int(rng.integers(1, 6))
    lengths = [shape[axis]] * parts
    shape[axis] *= parts
    check(*split_case(rng, "SPLIT", dtype, tuple(shape), axis, lengths))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(30)
def test_split_v(rng: Rng, dtype: str) -> None:
    shape = list(dims(rng, rank(rng, 1, 2, 3, 4, 4, 5, 6)))
    axis = int(rng.integers(len(shape)))
    lengths = [int(n) for n in rng.integers(1, 8, int(rng.integers(1, 6)))]
    shape[axis] = sum(lengths)
    check(*split_case(rng, "SPLIT_V", dtype, tuple(shape), axis, lengths))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(25)
def test_pack(rng: Rng, dtype: str) -> None:
    shape = dims(rng, rank(rng, 0, 1, 2, 3, 4))
    count = pick(rng, 1, 2, 2, 3, 5)
    axis = int(rng.integers(-len(shape) - 1, len(shape) + 1))
    x = Quant.random(rng, dtype)
    b = ModelBuilder()
    operands, inputs = [], []
    for i in range(count):
        data = fill(rng, shape, dtype)
        if i and chance(rng, 0.25):
            operands.append(x.const(b, f"in{i}", data))
        else:
            operands.append(x.input(b, f"in{i}", shape))
            inputs.append(data)
    to = x.tensor(b, "y", np.stack([np.empty(shape)] * count, axis).shape)
    b.op("PACK", operands, [to], axis=axis, values_count=count)
    b.output(to)
    check(b.finish(), inputs)


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(25)
def test_unpack(rng: Rng, dtype: str) -> None:
    shape = dims(rng, rank(rng, 1, 2, 3, 4, 5))
    axis = int(rng.integers(-len(shape), len(shape)))
    count = shape[axis]
    x = Quant.random(rng, dtype)
    b = ModelBuilder()
    ti = x.input(b, "x", shape)
    part = np.take(np.empty(shape), 0, axis).shape
    outs = [x.tensor(b, f"y{i}", part) for i in range(count)]
    b.op("UNPACK", [ti], outs, num=count, axis=axis)
    b.output(*outs)
    check(b.finish(), [fill(rng, shape, dtype)])


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(40)
def test_slice(rng: Rng, dtype: str) -> None:
    """A size of -1 means all that is left."""
    shape = dims(rng, rank(rng), 1, 9)
    begin = [int(rng.integers(n)) for n in shape]
    out = tuple(int(rng.integers(1, n - at + 1)) for n, at in zip(shape, begin))
    sizes = [-1 if at + n == of and chance(rng, 0.5) else n for n, at, of in zip(out, begin, shape)]
    index_type = np.int64 if chance(rng, 0.2) else np.int32
    constants = [np.array(v, index_type) for v in (begin, sizes)]
    y = Quant.random(rng, dtype) if chance(rng, 0.2) else None
    check(*unary_case(rng, "SLICE", dtype, (shape, out), constants, y))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(15)
def test_space_to_depth(rng: Rng, dtype: str) -> None:
    n, h, w, c = dims(rng, 4, 1, 5)
    block = int(rng.integers(1, 5))
    shapes = ((n, h * block, w * block, c), (n, h, w, c * block * block))
    check(*unary_case(rng, "SPACE_TO_DEPTH", dtype, shapes, block_size=block))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(15)
def test_depth_to_space(rng: Rng, dtype: str) -> None:
    n, h, w, c = dims(rng, 4, 1, 5)
    block = int(rng.integers(1, 5))
    shapes = ((n, h, w, c * block * block), (n, h * block, w * block, c))
    check(*unary_case(rng, "DEPTH_TO_SPACE", dtype, shapes, block_size=block))
