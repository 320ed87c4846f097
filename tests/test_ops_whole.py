# SPDX-License-Identifier: Apache-2.0
"""Whole numbers, masks and indices against the oracle.

What the oracle refuses or leaves undefined, and the generators therefore avoid: division by zero,
indices outside of their tensors (edgeq clamps them), SELECT with operands that broadcast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from cases import BYTE_TYPES, Quant, Rng, Shape, chance, dims, fill, log_uniform, pick, seeded
from oracle import check
from tflite_builder import ModelBuilder

WHOLE = ("int32", "int64")


def numbers(rng: Rng, shape: Sequence[int], dtype: str) -> np.ndarray:
    """Small ones, large ones, all alike."""
    if dtype == "bool":
        return rng.random(tuple(shape)) < 0.5
    kind = pick(rng, 0, 0, 1, 2)
    if kind == 0:
        return rng.integers(-20, 21, tuple(shape)).astype(dtype)
    if kind == 1:
        return np.full(shape, rng.integers(-5, 6), dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, tuple(shape), dtype=dtype, endpoint=True)


def broadcasting(rng: Rng, rank: int = 4) -> tuple[Shape, Shape, Shape]:
    shape = dims(rng, int(rng.integers(1, rank + 1)), 1, 4)
    a, b = (tuple(1 if chance(rng, 0.3) else n for n in shape) for _ in range(2))
    b = b[pick(rng, 0, 0, len(shape) - 1) :]
    return a, b, np.broadcast_shapes(a, b)


def two(kind: str, a: np.ndarray, b: np.ndarray, result: str, **options: Any) -> None:
    """One op of two inputs without scales."""
    m = ModelBuilder()
    x = m.input("a", a.shape, a.dtype.name)
    y = m.input("b", b.shape, b.dtype.name)
    out = m.tensor("y", np.broadcast_shapes(a.shape, b.shape), result)
    m.op(kind, [x, y], [out], **options)
    m.output(out)
    check(m.finish(), [a, b])


@pytest.mark.parametrize("dtype", WHOLE)
@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM"])
@seeded(6)
def test_arithmetic(rng: Rng, kind: str, dtype: str) -> None:
    a, b, _ = broadcasting(rng)
    x, y = numbers(rng, a, dtype), numbers(rng, b, dtype)
    if kind in ("ADD", "SUB", "MUL"):  # overflow is not defined
        x, y = np.clip(x, -(2**14), 2**14), np.clip(y, -(2**14), 2**14)
    two(kind, x, y, dtype)


@pytest.mark.parametrize("kind", ["FLOOR_DIV", "FLOOR_MOD", "DIV", "SQUARED_DIFFERENCE"])
@seeded(10)
def test_division(rng: Rng, kind: str) -> None:
    a, b, _ = broadcasting(rng)
    x, y = numbers(rng, a, "int32"), numbers(rng, b, "int32")
    y[y == 0] = 7
    y[y == -1] = -2
    if kind == "SQUARED_DIFFERENCE":
        x, y = np.clip(x, -9999, 9999), np.clip(y, -9999, 9999)
    two(kind, x, y, "int32")


def test_floor_mod_of_int64(rng: Rng) -> None:
    x, y = numbers(rng, (5, 6), "int64"), np.array([3, -3, 1, 10**12, 2, -7])
    two("FLOOR_MOD", x, y, "int64")


COMPARISONS = ("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL")


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(k, t) for k in COMPARISONS for t in WHOLE] + [("EQUAL", "bool"), ("NOT_EQUAL", "bool")],
)
@seeded(4)
def test_comparisons(rng: Rng, kind: str, dtype: str) -> None:
    a, b, _ = broadcasting(rng)
    two(kind, numbers(rng, a, dtype), numbers(rng, b, dtype), "bool")


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@pytest.mark.parametrize("kind", COMPARISONS)
@seeded(5)
def test_comparisons_of_bytes(rng: Rng, kind: str, dtype: str) -> None:
    """Both sides are scaled; the scales are below 1."""
    a, b, shape = broadcasting(rng)
    p, q = (Quant(dtype, log_uniform(rng, 2.0**-9, 0.99), Quant.random(rng, dtype).zero_point)
            for _ in range(2))  # fmt: skip
    if chance(rng, 0.4):
        q = p
    m = ModelBuilder()
    x, y = p.input(m, "a", a), q.input(m, "b", b)
    out = m.tensor("y", shape, "bool")
    m.op(kind, [x, y], [out])
    m.output(out)
    check(m.finish(), [fill(rng, a, dtype), fill(rng, b, dtype)])


@pytest.mark.parametrize("kind", ["LOGICAL_AND", "LOGICAL_OR"])
@seeded(4)
def test_logic(rng: Rng, kind: str) -> None:
    a, b, _ = broadcasting(rng)
    two(kind, numbers(rng, a, "bool"), numbers(rng, b, "bool"), "bool")


def one(
    kind: str, x: np.ndarray, shape: Sequence[int], dtype: str, *more: np.ndarray, **options: Any
) -> None:
    """One op of an input without scale and constants."""
    m = ModelBuilder()
    inputs = [m.input("x", x.shape, x.dtype.name)]
    inputs += [m.const(f"c{i}", c) for i, c in enumerate(more)]
    out = m.tensor("y", shape, dtype)
    m.op(kind, inputs, [out], **options)
    m.output(out)
    check(m.finish(), [x])


@seeded(3)
def test_unary(rng: Rng) -> None:
    shape = dims(rng, 3)
    mask = numbers(rng, shape, "bool")
    one("LOGICAL_NOT", mask, shape, "bool")
    for dtype in WHOLE:
        one("NEG", numbers(rng, shape, dtype) // 2, shape, dtype)
    one("ABS", numbers(rng, shape, "int32") // 2, shape, "int32")


CASTS = [
    (a, b) for a in (*WHOLE, "bool", "int8", "uint8") for b in (*WHOLE, "bool", "int8", "uint8")
]


@pytest.mark.parametrize(("source", "target"), CASTS)
def test_cast(rng: Rng, source: str, target: str) -> None:
    x = numbers(rng, (3, 50), source) if source != "uint8" else fill(rng, (3, 50), source)
    m = ModelBuilder()
    y, out = m.input("x", x.shape, source), m.tensor("y", x.shape, target)
    m.op("CAST", [y], [out])
    m.output(out)
    check(m.finish(), [x])


# ---- choices


@pytest.mark.parametrize("dtype", [*WHOLE, *BYTE_TYPES, "bool"])
@pytest.mark.parametrize("kind", ["SELECT", "SELECT_V2"])
@seeded(4)
def test_select(rng: Rng, kind: str, dtype: str) -> None:
    shape = dims(rng, int(rng.integers(1, 5)))
    choice = pick(rng, 0, 1)
    mask: Shape = shape
    a = b = shape
    if kind == "SELECT" and choice:
        mask = shape[:1]
    elif kind == "SELECT_V2" and choice:
        a, b, mask = (tuple(1 if chance(rng, 0.3) else n for n in shape) for _ in range(3))
    q = Quant.random(rng, dtype) if dtype in BYTE_TYPES else None
    data = [fill(rng, s, dtype) if q else numbers(rng, s, dtype) for s in (a, b)]
    m = ModelBuilder()
    c = m.input("c", mask, "bool")
    operands = [q.input(m, n, s) if q else m.input(n, s, dtype) for n, s in (("a", a), ("b", b))]
    full = np.broadcast_shapes(a, b, mask) if kind == "SELECT_V2" else shape
    out = q.tensor(m, "y", full) if q else m.tensor("y", full, dtype)
    m.op(kind, [c, *operands], [out])
    m.output(out)
    check(m.finish(), [numbers(rng, mask, "bool"), *data])


def chosen(rng: Rng, shape: Sequence[int], limit: int, dtype: str) -> np.ndarray:
    return rng.integers(0, limit, tuple(shape)).astype(dtype)


@pytest.mark.parametrize("dtype", [*BYTE_TYPES, *WHOLE])
@seeded(8)
def test_gather(rng: Rng, dtype: str) -> None:
    shape = dims(rng, int(rng.integers(1, 5)), 1, 5)
    axis = int(rng.integers(len(shape)))
    batch = int(rng.integers(axis + 1))
    rest = dims(rng, int(rng.integers(0, 3)), 1, 4)
    if batch == 0 and not rest:
        rest = (2,)
    index = chosen(rng, (*shape[:batch], *rest), shape[axis], str(rng.choice(WHOLE)))
    q = Quant.random(rng, dtype) if dtype in BYTE_TYPES else None
    m = ModelBuilder()
    x = q.input(m, "x", shape) if q else m.input("x", shape, dtype)
    known = chance(rng, 0.3)
    i = m.const("i", index) if known else m.input("i", index.shape, index.dtype.name)
    result = (*shape[:axis], *index.shape[batch:], *shape[axis + 1 :])
    out = q.tensor(m, "y", result) if q else m.tensor("y", result, dtype)
    m.op("GATHER", [x, i], [out], axis=axis, batch_dims=batch)
    m.output(out)
    data = fill(rng, shape, dtype) if q else numbers(rng, shape, dtype)
    check(m.finish(), [data] if known else [data, index])


@pytest.mark.parametrize("dtype", [*BYTE_TYPES, "int32"])
@seeded(8)
def test_gather_nd(rng: Rng, dtype: str) -> None:
    shape = dims(rng, int(rng.integers(1, 5)), 1, 5)
    depth = int(rng.integers(1, len(shape) + 1))
    rows = dims(rng, int(rng.integers(1, 3)), 1, 4)
    index = np.stack([chosen(rng, rows, n, "int32") for n in shape[:depth]], -1)
    q = Quant.random(rng, dtype) if dtype in BYTE_TYPES else None
    m = ModelBuilder()
    x = q.input(m, "x", shape) if q else m.input("x", shape, dtype)
    i = m.input("i", index.shape, "int32")
    result = (*rows, *shape[depth:])
    out = q.tensor(m, "y", result) if q else m.tensor("y", result, dtype)
    m.op("GATHER_ND", [x, i], [out])
    m.output(out)
    data = fill(rng, shape, dtype) if q else numbers(rng, shape, dtype)
    check(m.finish(), [data, index])


@pytest.mark.parametrize("dtype", ["int8", *WHOLE])
@seeded(6)
def test_scatter_nd(rng: Rng, dtype: str) -> None:
    """Places that come up twice add up."""
    shape = dims(rng, int(rng.integers(1, 4)), 1, 5)
    depth = int(rng.integers(1, len(shape) + 1))
    rows = (int(rng.integers(1, 6)),)
    index = np.stack([chosen(rng, rows, n, "int32") for n in shape[:depth]], -1)
    updates = rng.integers(-20, 20, (*rows, *shape[depth:])).astype(dtype)
    q = Quant.random(rng, dtype) if dtype == "int8" else None
    m = ModelBuilder()
    i = m.input("i", index.shape, "int32")
    u = q.input(m, "u", updates.shape) if q else m.input("u", updates.shape, dtype)
    out = q.tensor(m, "y", shape) if q else m.tensor("y", shape, dtype)
    m.op("SCATTER_ND", [i, u, m.const("shape", np.array(shape, np.int32))], [out])
    m.output(out)
    check(m.finish(), [index, updates])


@pytest.mark.parametrize("dtype", ["int8", *WHOLE, "bool"])
@seeded(5)
def test_update_slice(rng: Rng, dtype: str) -> None:
    """A slice that would end outside is moved inside."""
    shape = dims(rng, int(rng.integers(1, 5)), 1, 6)
    part = tuple(int(rng.integers(1, n + 1)) for n in shape)
    begin = rng.integers(-2, 7, len(shape)).astype(np.int32)
    q = Quant.random(rng, dtype) if dtype == "int8" else None
    m = ModelBuilder()
    x, u = (q.input(m, n, s) if q else m.input(n, s, dtype) for n, s in (("x", shape), ("u", part)))
    i = m.input("i", begin.shape, "int32")
    out = q.tensor(m, "y", shape) if q else m.tensor("y", shape, dtype)
    m.op("DYNAMIC_UPDATE_SLICE", [x, u, i], [out])
    m.output(out)
    check(m.finish(), [*(numbers(rng, s, dtype) if not q else fill(rng, s, dtype)
                         for s in (shape, part)), begin])  # fmt: skip


@pytest.mark.parametrize("dtype", ["int8", "uint8", *WHOLE])
@seeded(6)
def test_top_k(rng: Rng, dtype: str) -> None:
    shape = (*dims(rng, int(rng.integers(0, 3))), int(rng.integers(1, 60)))
    k = int(rng.integers(1, shape[-1] + 1))
    q = Quant.random(rng, dtype) if dtype in BYTE_TYPES else None
    m = ModelBuilder()
    x = q.input(m, "x", shape) if q else m.input("x", shape, dtype)
    result = (*shape[:-1], k)
    values = q.tensor(m, "v", result) if q else m.tensor("v", result, dtype)
    places = m.tensor("p", result, "int32")
    m.op("TOPK_V2", [x, m.const("k", np.array(k, np.int32))], [values, places])
    m.output(values, places)
    data = fill(rng, shape, dtype) if q else numbers(rng, shape, dtype)
    check(m.finish(), [data])


@pytest.mark.parametrize("dtype", [*WHOLE, "int8", "bool"])
@seeded(4)
def test_one_hot(rng: Rng, dtype: str) -> None:
    shape = dims(rng, int(rng.integers(0, 4)), 1, 4)
    depth, axis = int(rng.integers(1, 7)), int(rng.integers(-1, len(shape) + 1))
    index = rng.integers(-1, depth + 1, shape).astype(np.int32)
    place = len(shape) if axis < 0 else axis
    on, off = (np.array(v).astype(dtype) for v in (7, 0))
    m = ModelBuilder()
    i = m.input("i", shape, "int32")
    scale = (0.5, 3) if dtype == "int8" else ()
    consts = [m.const(n, c, *scale) for n, c in (("on", on), ("off", off))]
    d = m.const("depth", np.array(depth, np.int32))
    out = m.tensor("y", (*shape[:place], depth, *shape[place:]), dtype, *scale)
    m.op("ONE_HOT", [i, d, *consts], [out], axis=axis)
    m.output(out)
    check(m.finish(), [index])


def test_embedding_lookup(rng: Rng) -> None:
    table = rng.integers(-128, 128, (9, 2, 3)).astype(np.int8)
    m = ModelBuilder()
    i, t = m.input("i", (4,), "int32"), m.const("t", table, 0.1, 0)
    out = m.tensor("y", (4, 2, 3), "int8", 0.1, 0)
    m.op("EMBEDDING_LOOKUP", [i, t], [out])
    m.output(out)
    check(m.finish(), [np.array([8, 0, 3, 3], np.int32)])


# ---- reductions


@pytest.mark.parametrize("dtype", WHOLE)
@pytest.mark.parametrize("kind", ["SUM", "REDUCE_PROD", "REDUCE_MAX", "REDUCE_MIN"])
@seeded(4)
def test_reduce(rng: Rng, kind: str, dtype: str) -> None:
    shape = dims(rng, int(rng.integers(1, 5)), 1, 4)
    reduce(rng, kind, numbers(rng, shape, dtype) % 5 if "O" in kind else numbers(rng, shape, dtype))


@pytest.mark.parametrize("kind", ["REDUCE_ALL", "REDUCE_ANY"])
@seeded(4)
def test_reduce_masks(rng: Rng, kind: str) -> None:
    reduce(rng, kind, numbers(rng, dims(rng, int(rng.integers(1, 5)), 1, 4), "bool"))


def reduce(rng: Rng, kind: str, x: np.ndarray) -> None:
    count = int(rng.integers(1, x.ndim + 1))
    axes = tuple(sorted(rng.choice(x.ndim, count, replace=False).tolist()))
    keep = chance(rng, 0.5)
    shape = np.sum(np.zeros(x.shape), axis=axes, keepdims=keep).shape
    if kind == "SUM":
        x = x // 1000
    one(kind, x, shape, x.dtype.name, np.array(axes, np.int32), keep_dims=keep)


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(5)
def test_reduce_min(rng: Rng, dtype: str) -> None:
    shape = dims(rng, int(rng.integers(1, 5)), 1, 5)
    axis = int(rng.integers(len(shape)))
    q = Quant.random(rng, dtype)
    m = ModelBuilder()
    x = q.input(m, "x", shape)
    keep = chance(rng, 0.5)
    result = (*shape[:axis], *((1,) if keep else ()), *shape[axis + 1 :])
    out = q.tensor(m, "y", result)
    m.op("REDUCE_MIN", [x, m.const("a", np.array([axis], np.int32))], [out], keep_dims=keep)
    m.output(out)
    check(m.finish(), [fill(rng, shape, dtype)])


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(5)
def test_arg_min(rng: Rng, dtype: str) -> None:
    shape = dims(rng, int(rng.integers(1, 5)), 1, 6)
    axis = int(rng.integers(len(shape)))
    q = Quant.random(rng, dtype)
    m = ModelBuilder()
    x, a = q.input(m, "x", shape), m.const("a", np.array(axis, np.int32))
    out = m.tensor("y", (*shape[:axis], *shape[axis + 1 :]), "int32")
    m.op("ARG_MIN", [x, a], [out], output_type="int32")
    m.output(out)
    check(m.finish(), [fill(rng, shape, dtype)])


@pytest.mark.parametrize("dtype", WHOLE)
@seeded(4)
def test_cumsum(rng: Rng, dtype: str) -> None:
    shape = dims(rng, int(rng.integers(1, 5)), 1, 5)
    axis = np.array(rng.integers(-len(shape), len(shape)), np.int32)
    options = {"exclusive": chance(rng, 0.5), "reverse": chance(rng, 0.5)}
    one("CUMSUM", numbers(rng, shape, dtype) // 100, shape, dtype, axis, **options)


# ---- moves


def moved(rng: Rng, kind: str, shape: Shape, result: Sequence[int], *more: np.ndarray) -> None:
    """An int8 or int32 input and constants."""
    dtype = str(rng.choice(["int8", "uint8", "int32"]))
    if kind == "SPACE_TO_BATCH_ND" and dtype == "uint8":
        dtype = "int8"
    q = Quant.random(rng, dtype) if dtype in BYTE_TYPES else None
    m = ModelBuilder()
    x = q.input(m, "x", shape) if q else m.input("x", shape, dtype)
    out = q.tensor(m, "y", result) if q else m.tensor("y", result, dtype)
    m.op(kind, [x, *(m.const(f"c{i}", c) for i, c in enumerate(more))], [out])
    m.output(out)
    check(m.finish(), [fill(rng, shape, dtype) if q else numbers(rng, shape, dtype)])


@seeded(8)
def test_tile(rng: Rng) -> None:
    shape = dims(rng, int(rng.integers(1, 5)), 1, 4)
    counts = rng.integers(1, 4, len(shape)).astype(np.int32)
    moved(rng, "TILE", shape, [int(n * c) for n, c in zip(shape, counts)], counts)


@seeded(8)
def test_broadcast_to(rng: Rng) -> None:
    result = dims(rng, int(rng.integers(1, 6)), 1, 4)
    shape = tuple(1 if chance(rng, 0.4) else n for n in result)[pick(rng, 0, len(result) - 1) :]
    moved(rng, "BROADCAST_TO", shape, result, np.array(result, np.int32))


@seeded(6)
def test_reverse(rng: Rng) -> None:
    shape = dims(rng, int(rng.integers(1, 5)), 1, 5)
    moved(rng, "REVERSE_V2", shape, shape, np.array([rng.integers(len(shape))], np.int32))


@seeded(10)
def test_space_to_batch(rng: Rng) -> None:
    block = rng.integers(1, 4, 2)
    pads = rng.integers(0, 3, (2, 2))
    sizes = rng.integers(1, 4, 2) * block
    n, c = (int(v) for v in rng.integers(1, 4, 2))
    inner = [int(s - p.sum()) for s, p in zip(sizes, pads)]
    if min(inner) < 1:
        pads, inner = np.zeros((2, 2), int), sizes.tolist()
    result = (n * int(block.prod()), *(sizes // block).tolist(), c)
    consts = (block.astype(np.int32), pads.astype(np.int32))
    moved(rng, "SPACE_TO_BATCH_ND", (n, *inner, c), result, *consts)


@seeded(10)
def test_batch_to_space(rng: Rng) -> None:
    block = rng.integers(1, 4, 2)
    sizes = rng.integers(1, 4, 2)
    crops = np.array([[0, 0], [0, 0]])
    for i in range(2):
        room = int(sizes[i] * block[i]) - 1
        crops[i, 0] = rng.integers(0, min(room, 2) + 1)
        crops[i, 1] = rng.integers(0, min(room - crops[i, 0], 2) + 1)
    n, c = (int(v) for v in rng.integers(1, 4, 2))
    result = (n, *(int(s * b - q.sum()) for s, b, q in zip(sizes, block, crops)), c)
    shape = (n * int(block.prod()), *sizes.tolist(), c)
    moved(rng, "BATCH_TO_SPACE_ND", shape, result, block.astype(np.int32), crops.astype(np.int32))
