# SPDX-License-Identifier: Apache-2.0
"""TFLite's operators on whole numbers and masks, and those that choose elements by indices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..ir.expression import Expression
from ..ir.graph import Array, QParams, Tensor
from ..ir.ops import (
    Arithmetic,
    Axis,
    CumSum,
    Gather,
    Lookup,
    NoAttrs,
    Pad,
    Reduce,
    Slice,
    TopK,
    Transpose,
    Unary,
)
from .tflite_context import OpContext, Refused, Shape
from .tflite_ops import WHOLE, Rule, arithmetic, broadcast

_BYTES = ("INT8", "UINT8")


def constant(name: str, data: Array) -> Tensor:
    """A constant of our own."""
    return Tensor(name, data.shape, data.dtype.name, None, data)


# ---- arithmetic, comparisons, logic


def _binary(op: OpContext) -> None:
    op.expect(2)
    a, b = op.tensor(0), op.tensor(1)
    op.emit(op.record.name, [a, b], NoAttrs(), broadcast(op, a.shape, b.shape))


def _compare(op: OpContext) -> None:
    op.expect(2)
    a, b = op.tensor(0), op.tensor(1)
    if op.input_record(0).type in _BYTES:
        for t in (a, b):
            if t.qparams is None or t.qparams.per_channel or not 0 < t.qparams.scale < 1:
                raise Refused(f"{t.name!r} needs one scale below 1")
    name = op.record.name
    if name.startswith("GREATER"):
        name, a, b = name.replace("GREATER", "LESS"), b, a
    op.emit(name, [a, b], NoAttrs(), broadcast(op, a.shape, b.shape))


def _zero(x: Tensor) -> Tensor:
    return constant(f"{x.name}/zero", np.zeros((), x.dtype))


def _negate(op: OpContext) -> None:
    op.expect(1)
    x = op.tensor(0)
    op.emit("SUB", [_zero(x), x], Arithmetic(), x.shape)


def _abs(op: OpContext) -> None:
    """int8 has a kernel of its own; of whole numbers the larger one of x and -x."""
    op.expect(1)
    x = op.tensor(0)
    if op.input_record(0).type not in WHOLE:
        op.emit("ABS", [x], NoAttrs(), x.shape)
        return
    negative = op.hidden(x, x.shape, "/negative")
    op.add("SUB", [_zero(x), x], [negative], Arithmetic())
    op.emit("MAXIMUM", [x, negative], NoAttrs(), x.shape)


def _square(op: OpContext) -> None:
    op.expect(1)
    x = op.tensor(0)
    op.emit("MUL", [x, x], Arithmetic(), x.shape)


def _logical_not(op: OpContext) -> None:
    op.expect(1)
    x = op.tensor(0)
    op.emit("EQUAL", [x, constant(f"{x.name}/false", np.zeros((), bool))], NoAttrs(), x.shape)


def _select(op: OpContext) -> None:
    op.expect(3)
    mask, a, b = op.tensors()
    if mask.dtype != "bool":
        raise op.wrong(f"a condition of type {mask.dtype}")
    if a.dtype != b.dtype or op.output_record().type != op.input_record(1).type:
        raise op.wrong(f"{a.dtype} and {b.dtype}")
    if op.record.name == "SELECT" and len(mask.shape) == 1 and len(a.shape) > 1:
        rows = (*mask.shape, *(1 for _ in a.shape[1:]))  # one decision a row
        wide = op.hidden(mask, rows, "/rows")
        op.add("RESHAPE", [mask], [wide], NoAttrs())
        mask = wide
    shape = broadcast(op, broadcast(op, a.shape, b.shape), mask.shape)
    op.emit("SELECT", [mask, a, b], NoAttrs(), shape)


# ---- types


def _relabel(op: OpContext, x: Tensor, qparams: QParams) -> Tensor:
    """The same bytes under another scale and zero point: a view."""
    if x.qparams is not None and x.qparams.same(qparams):
        return x
    y = Tensor(f"{x.name}/raw", x.shape, "int8", qparams, None, x.source_dtype)
    op.add("RESHAPE", [x], [y], NoAttrs())
    return y


def _cast(op: OpContext) -> None:
    """CAST sees the stored numbers; those of uint8 are 128 above ours."""
    op.expect(1)
    x, source, target = op.tensor(0), op.input_record(0).type, op.output_record().type
    known = (*_BYTES, *WHOLE, "BOOL", "FLOAT32")
    for kind in (source, target):
        if kind not in known:
            raise Refused(f"{kind.lower()} is not supported")
    raw = QParams.of(1, -128 if source == "UINT8" else 0)
    if source == target:
        op.emit("COPY", [x], NoAttrs(), x.shape)
    elif source in _BYTES and target == "FLOAT32":
        op.emit("DEQUANTIZE", [_relabel(op, x, raw)], NoAttrs(), x.shape)
    elif source == "BOOL" and target == "FLOAT32":
        byte = Tensor(f"{x.name}/byte", x.shape, "int8", QParams.of(1))
        op.add("CAST", [x], [byte], NoAttrs())
        op.emit("DEQUANTIZE", [byte], NoAttrs(), x.shape)
    elif source == "UINT8":
        values = list(range(256))
        if target == "INT8":
            values = [v - 256 * (v > 127) for v in values]
        elif target == "BOOL":
            values = [int(v != 0) for v in values]
        op.emit("LOOKUP", [x], Lookup(tuple(values)), x.shape)
    elif target == "UINT8" and source != "FLOAT32":
        byte = Tensor(f"{x.name}/byte", x.shape, "int8", QParams.of(1))
        op.add("CAST", [x], [byte], NoAttrs())
        flipped = [v + 128 if v < 0 else v - 128 for v in range(-128, 128)]
        op.emit("LOOKUP", [byte], Lookup(tuple(flipped)), x.shape)
    elif source == "FLOAT32" and target in ("BOOL", *_BYTES):
        raise Refused(f"from float32 to {target.lower()} is not supported")
    else:
        op.emit("CAST", [x], NoAttrs(), x.shape)


# ---- by indices


def _check_indices(op: OpContext, t: Tensor, size: int) -> None:
    if t.dtype not in ("int32", "int64"):
        raise op.wrong(f"indices of type {t.dtype}")
    if t.data is not None and ((t.data < 0) | (t.data >= size)).any():
        raise op.wrong(f"indices outside of {size} elements")


def _same_bytes(op: OpContext, x: Tensor, y: Tensor) -> None:
    """What is only moved keeps its scale, as the reference assumes."""
    if x.qparams is not None and not x.qparams.same(y.qparams):
        raise Refused("input and output have different scales or zero points")


def _gather(op: OpContext) -> None:
    op.expect(2)
    _emit_gather(op, op.tensor(0), op.tensor(1), op.option("Axis"), op.option("BatchDims"))


def _embedding_lookup(op: OpContext) -> None:
    op.expect(2)
    if op.input_record(1).type != op.output_record().type:
        raise Refused("a table that it dequantizes is not supported")
    _emit_gather(op, op.tensor(1), op.tensor(0), 0, 0)


def _emit_gather(op: OpContext, x: Tensor, indices: Tensor, axis: int, batch: int) -> None:
    axis = op.axis(axis, len(x.shape))
    batch = op.axis(batch, len(indices.shape) + 1)
    if batch > axis or x.shape[:batch] != indices.shape[:batch]:
        raise op.wrong(f"axis {axis} with {batch} batch dimensions of {x.shape}, {indices.shape}")
    _check_indices(op, indices, x.shape[axis])
    y = op.result((*x.shape[:axis], *indices.shape[batch:], *x.shape[axis + 1 :]))
    _same_bytes(op, x, y)
    op.add("GATHER", [x, indices], [y], Gather(axis, batch))


def _gather_nd(op: OpContext) -> None:
    op.expect(2)
    x, indices = op.tensor(0), op.tensor(1)
    shape = _indexed(op, indices, x.shape)
    y = op.result((*indices.shape[:-1], *shape))
    _same_bytes(op, x, y)
    op.add("GATHER_ND", [x, indices], [y], NoAttrs())


def _indexed(op: OpContext, indices: Tensor, shape: Shape) -> Shape:
    """What is left of `shape` behind the axes that the last axis of `indices` is for."""
    depth = indices.shape[-1] if indices.shape else 0
    if indices.dtype not in ("int32", "int64") or not 1 <= depth <= len(shape):
        raise op.wrong(f"indices {indices.dtype} {indices.shape} into {shape}")
    if (
        indices.data is not None
        and ((indices.data < 0) | (indices.data >= np.array(shape[:depth]))).any()
    ):
        raise op.wrong(f"indices outside of {shape[:depth]}")
    return shape[depth:]


def _scatter_nd(op: OpContext) -> None:
    op.expect(3)
    indices, updates, shape = op.tensor(0), op.tensor(1), op.integers(2, "shape")
    if op.input_record(1).type not in ("INT8", *WHOLE):
        raise Refused(f"of {op.input_record(1).type.lower()} is not supported")
    if not shape or min(shape) < 1 or math.prod(shape) >= 2**31:
        raise op.wrong(f"shape {shape}")
    if updates.shape != (*indices.shape[:-1], *_indexed(op, indices, shape)):
        raise op.wrong(f"updates {updates.shape} for indices {indices.shape} into {shape}")
    op.emit("SCATTER_ND", [indices, updates], NoAttrs(), shape)


def _update_slice(op: OpContext) -> None:
    op.expect(3)
    x, update, begin = op.tensors()
    if len(update.shape) != len(x.shape) or any(u > d for u, d in zip(update.shape, x.shape)):
        raise op.wrong(f"{update.shape} does not fit into {x.shape}")
    if begin.dtype not in ("int32", "int64") or begin.shape != (len(x.shape),):
        raise op.wrong(f"begin {begin.dtype} {begin.shape}")
    y = op.result(x.shape)
    for t in (x, update):
        _same_bytes(op, t, y)
    op.add("DYNAMIC_UPDATE_SLICE", [x, update, begin], [y], NoAttrs())


def _one_hot(op: OpContext) -> None:
    """A comparison with 0 ... depth - 1, and a choice between two constants."""
    op.expect(4)
    x, depth = op.tensor(0), op.integers(1, "depth")
    on, off = op.constant(2, "on value"), op.constant(3, "off value")
    if len(depth) != 1 or depth[0] < 1 or on.size != 1 or off.size != 1 or on.dtype != off.dtype:
        raise op.wrong(f"depth {depth}, values of {on.size} and {off.size} elements")
    if x.dtype not in ("int32", "int64"):
        raise Refused(f"indices of type {x.dtype} are not supported")
    if not op.builder.affordable(8 * depth[0]):
        raise Refused("it is too deep")
    rank = len(x.shape)
    axis = op.axis(op.option("Axis"), rank + 1)
    wide = op.hidden(x, (*x.shape[:axis], 1, *x.shape[axis:]), "/wide")
    op.add("RESHAPE", [x], [wide], NoAttrs())
    numbers = np.arange(depth[0], dtype=x.dtype).reshape(-1, *(1 for _ in x.shape[axis:]))
    shape = (*x.shape[:axis], depth[0], *x.shape[axis:])
    mask = Tensor(f"{x.name}/mask", shape, "bool")
    op.add("EQUAL", [wide, constant(f"{x.name}/numbers", numbers)], [mask], NoAttrs())
    if on.dtype == np.float32:
        if (float(on.reshape(())), float(off.reshape(()))) != (1.0, 0.0):
            raise Refused("float32 values other than 1 and 0 are not supported")
        byte = Tensor(f"{x.name}/byte", shape, "int8", QParams.of(1))
        op.add("CAST", [mask], [byte], NoAttrs())
        op.emit("DEQUANTIZE", [byte], NoAttrs(), shape)
        return
    op.emit("SELECT", [mask, op.tensor(2), op.tensor(3)], NoAttrs(), shape)


def _top_k(op: OpContext) -> None:
    op.expect(2, outputs=2)
    x, k = op.tensor(0), op.integers(1, "k")
    if not x.shape or len(k) != 1 or not 1 <= k[0] <= x.shape[-1]:
        raise op.wrong(f"the greatest {k} of {x.shape}")
    shape = (*x.shape[:-1], k[0])
    values, indices = op.result(shape, 0), op.result(shape, 1)
    _same_bytes(op, x, values)
    if indices.dtype != "int32":
        raise Refused(f"indices of type {indices.dtype} are not supported")
    op.add("TOP_K", [x], [values, indices], TopK(len(shape) - 1, k[0]))


# ---- reductions


def mirrored(op: OpContext, x: Tensor) -> Tensor:
    """-x: every stored number v becomes -1 - v, so that the order is reversed."""
    assert x.qparams is not None
    y = op.hidden(x, x.shape, "/mirrored")
    y.qparams = QParams.of(float(x.qparams.scale), -1 - x.qparams.zero_point)
    op.add("UNARY", [x], [y], Unary(Expression.of("neg")))
    return y


def _arg_min(op: OpContext) -> None:
    op.expect(2)
    axes = op.integers(1, "axis")
    x = op.tensor(0)
    if len(axes) != 1:
        raise op.wrong(f"axis {axes}")
    axis = op.axis(axes[0], len(x.shape))
    if op.output_record().type not in WHOLE:
        raise op.wrong(f"output of type {op.output_record().type}")
    if x.dtype != "int8":
        raise Refused(f"of {x.dtype} is not supported")
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    op.emit("ARG_MAX", [mirrored(op, x)], Axis(axis), shape)


def _reduce(op: OpContext) -> None:
    op.expect(2)
    x = op.tensor(0)
    rank = len(x.shape)
    axes = sorted({op.axis(a, rank) for a in op.integers(1, "axes")})
    keep = bool(op.option("KeepDims"))
    shape = [1 if i in axes else d for i, d in enumerate(x.shape) if keep or i not in axes]
    y = op.result(shape)
    _same_bytes(op, x, y)
    op.add(op.record.name, [x], [y], Reduce(tuple(axes), keep))


def _cumsum(op: OpContext) -> None:
    op.expect(2)
    x, axes = op.tensor(0), op.integers(1, "axis")
    if len(axes) != 1:
        raise op.wrong(f"axis {axes}")
    axis = op.axis(axes[0], len(x.shape))
    attrs = CumSum(axis, bool(op.option("Exclusive")), bool(op.option("Reverse")))
    op.emit("CUMSUM", [x], attrs, x.shape)


# ---- moves that other ops express


def _repeat(op: OpContext, x: Tensor, indices: Sequence[Array]) -> None:
    """y = x[indices[0]][:, indices[1]] ...; None of them: a copy."""
    steps = [(a, i) for a, i in enumerate(indices) if not np.array_equal(i, range(x.shape[a]))]
    shape = tuple(len(i) for i in indices)
    y = op.result(shape)
    _same_bytes(op, x, y)
    if not steps:
        op.add("COPY", [x], [y], NoAttrs())
        return
    for k, (axis, index) in enumerate(steps):
        sizes = (*x.shape[:axis], len(index), *x.shape[axis + 1 :])
        to = y if k == len(steps) - 1 else op.hidden(x, sizes, "/repeated")
        numbers = constant(f"{x.name}/indices", index.astype(np.int32))
        op.add("GATHER", [x, numbers], [to], Gather(axis))
        x = to


def _tile(op: OpContext) -> None:
    op.expect(2)
    x, counts = op.tensor(0), op.integers(1, "multiples")
    if len(counts) != len(x.shape) or min(counts, default=1) < 1:
        raise op.wrong(f"{counts} of {x.shape}")
    if not op.builder.affordable(4 * sum(c * d for c, d in zip(counts, x.shape))):
        raise Refused("it is too large")
    _repeat(op, x, [np.arange(c * d) % d for c, d in zip(counts, x.shape)])


def _broadcast_to(op: OpContext) -> None:
    op.expect(2)
    x, shape = op.tensor(0), op.integers(1, "shape")
    if min(shape, default=1) < 1 or broadcast(op, x.shape, shape) != shape:
        raise op.wrong(f"{x.shape} to {shape}")
    if not op.builder.affordable(4 * sum(shape)):
        raise Refused("it is too large")
    full = (*(1 for _ in shape[len(x.shape) :]), *x.shape)
    if full != x.shape:
        wide = op.hidden(x, full, "/wide")
        op.add("RESHAPE", [x], [wide], NoAttrs())
        x = wide
    _repeat(op, x, [np.arange(d) % have for d, have in zip(shape, full)])


def _reverse(op: OpContext) -> None:
    op.expect(2)
    x = op.tensor(0)
    axes = {op.axis(a, len(x.shape)) for a in op.integers(1, "axis")}
    begin = tuple(d - 1 if i in axes else 0 for i, d in enumerate(x.shape))
    stride = tuple(-1 if i in axes else 1 for i in range(len(x.shape)))
    op.emit("SLICE", [x], Slice(begin, stride), x.shape)


def _blocks(op: OpContext) -> tuple[Tensor, Shape, list[tuple[int, int]]]:
    """x, the block of each spatial axis, and the two numbers for each of them."""
    op.expect(3)
    x, block, flat = op.tensor(0), op.integers(1, "block shape"), op.integers(2, "paddings")
    n = len(block)
    if len(x.shape) not in (3, 4) or n != len(x.shape) - 2 or len(flat) != 2 * n:
        raise op.wrong(f"blocks {block} of {x.shape}")
    if min(block) < 1 or min(flat) < 0 or max(flat) >= 2**31:
        raise op.wrong(f"blocks {block}, paddings {flat}")
    return x, block, list(zip(flat[0::2], flat[1::2]))


def _space_to_batch(op: OpContext) -> None:
    """(N, H, W, C) as (N, H/b, b, W/b, b, C); the blocks' insides go before the batch."""
    x, block, pads = _blocks(op)
    sizes = [p + d + q for (p, q), d in zip(pads, x.shape[1:-1])]
    if any(s % b for s, b in zip(sizes, block)):
        raise op.wrong(f"{sizes} cannot be cut into blocks of {block}")
    n, c, k = x.shape[0], x.shape[-1], len(block)
    y = op.result((n * math.prod(block), *(s // b for s, b in zip(sizes, block)), c))
    _same_bytes(op, x, y)
    if any(p or q for p, q in pads):
        before, after = zip((0, 0), *pads, (0, 0))
        padded = op.hidden(x, (n, *sizes, c), "/padded")
        value = 0 if x.qparams is None else x.qparams.zero_point
        op.add("PAD", [x], [padded], Pad(before, after, value))
        x = padded
    cut = [v for s, b in zip(sizes, block) for v in (s // b, b)]
    inside, outside = [2 + 2 * i for i in range(k)], [1 + 2 * i for i in range(k)]
    _shuffle(op, x, (n, *cut, c), (*inside, 0, *outside, 1 + 2 * k), y)


def _shuffle(op: OpContext, x: Tensor, shape: Shape, perm: Shape, y: Tensor) -> None:
    """RESHAPE to `shape`, TRANSPOSE, RESHAPE to y."""
    cut = op.hidden(x, shape, "/cut")
    moved = op.hidden(x, [shape[p] for p in perm], "/moved")
    op.add("RESHAPE", [x], [cut], NoAttrs())
    op.add("TRANSPOSE", [cut], [moved], Transpose(perm))
    op.add("RESHAPE", [moved], [y], NoAttrs())


def _batch_to_space(op: OpContext) -> None:
    x, block, crops = _blocks(op)
    k, c, count = len(block), x.shape[-1], math.prod(block)
    if x.shape[0] % count:
        raise op.wrong(f"a batch of {x.shape[0]} for blocks of {block}")
    n = x.shape[0] // count
    whole = (n, *(d * b for d, b in zip(x.shape[1:-1], block)), c)
    sizes = [d - p - q for (p, q), d in zip(crops, whole[1:-1])]
    if min(sizes) < 1:
        raise op.wrong(f"crops {crops} of {whole}")
    y = op.result((n, *sizes, c))
    _same_bytes(op, x, y)
    perm = (k, *(v for i in range(k) for v in (k + 1 + i, i)), 1 + 2 * k)
    cropped = any(p or q for p, q in crops)
    full = op.hidden(x, whole, "/full") if cropped else y
    _shuffle(op, x, (*block, n, *x.shape[1:]), perm, full)
    if cropped:
        begin = (0, *(p for p, _ in crops), 0)
        op.add("SLICE", [full], [y], Slice(begin, (1,) * len(begin)))


def refuse(op: OpContext) -> None:
    """Of an operator that no integer kernel is defined for."""
    raise Refused("not supported; TFLite has no int8 form of it")


_MASKS = ("BOOL",)
# Beside what tflite_float.py has for float32 under the same names.
RULES: dict[str, Rule] = {
    "DIV": Rule(arithmetic, (0, 1), types="none", also=WHOLE),
    "FLOOR_DIV": Rule(_binary, (0, 1), types="none", also=WHOLE),
    "FLOOR_MOD": Rule(_binary, (0, 1), types="none", also=WHOLE),
    "EQUAL": Rule(_compare, (0, 1), types="in", also=("FLOAT32", *WHOLE, *_MASKS), int16=False),
    "NOT_EQUAL": Rule(_compare, (0, 1), types="in", also=("FLOAT32", *WHOLE, *_MASKS), int16=False),
    "LESS": Rule(_compare, (0, 1), types="in", also=("FLOAT32", *WHOLE), int16=False),
    "LESS_EQUAL": Rule(_compare, (0, 1), types="in", also=("FLOAT32", *WHOLE), int16=False),
    "GREATER": Rule(_compare, (0, 1), types="in", also=("FLOAT32", *WHOLE), int16=False),
    "GREATER_EQUAL": Rule(_compare, (0, 1), types="in", also=("FLOAT32", *WHOLE), int16=False),
    "LOGICAL_AND": Rule(_binary, (0, 1), types="none", also=_MASKS),
    "LOGICAL_OR": Rule(_binary, (0, 1), types="none", also=_MASKS),
    "LOGICAL_NOT": Rule(_logical_not, types="none", also=_MASKS),
    "NEG": Rule(_negate, types="none", also=WHOLE),
    "ABS": Rule(_abs, types="signed", also=WHOLE, int16=False),
    "SQUARE": Rule(_square, types="none", also=WHOLE),
    "SELECT": Rule(_select, (1, 2), types="bytes"),
    "SELECT_V2": Rule(_select, (1, 2), types="bytes"),
    "CAST": Rule(_cast, types="edge"),
    "GATHER": Rule(_gather, types="bytes"),
    "GATHER_ND": Rule(_gather_nd, types="bytes"),
    "SCATTER_ND": Rule(_scatter_nd, (1,), types="bytes"),
    "DYNAMIC_UPDATE_SLICE": Rule(_update_slice, (0, 1), types="bytes"),
    "EMBEDDING_LOOKUP": Rule(_embedding_lookup, (1,), types="bytes"),
    "ONE_HOT": Rule(_one_hot, (2, 3), types="any"),
    "TOPK_V2": Rule(_top_k, types="bytes"),
    "ARG_MIN": Rule(_arg_min, types="in", int16=False),
    "REDUCE_MIN": Rule(_reduce, also=WHOLE, int16=False),
    "REDUCE_PROD": Rule(_reduce, types="none", also=WHOLE),
    "REDUCE_ALL": Rule(_reduce, types="none", also=_MASKS),
    "REDUCE_ANY": Rule(_reduce, types="none", also=_MASKS),
    "CUMSUM": Rule(_cumsum, types="none", also=WHOLE),
    "TILE": Rule(_tile, types="bytes"),
    "BROADCAST_TO": Rule(_broadcast_to, types="bytes"),
    "REVERSE_V2": Rule(_reverse, types="any"),
    "SPACE_TO_BATCH_ND": Rule(_space_to_batch, types="any"),
    "BATCH_TO_SPACE_ND": Rule(_batch_to_space, types="any"),
    "LOCAL_RESPONSE_NORMALIZATION": Rule(refuse, types="edge"),
}
