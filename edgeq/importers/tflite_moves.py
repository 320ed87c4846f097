# SPDX-License-Identifier: Apache-2.0
"""TFLite's operators that move data: shapes, slices, permutations. On constants they fold away."""

from __future__ import annotations

import math

from ..ir.ops import Axis, Block, MirrorPad, NoAttrs, Pad, Slice, Transpose
from .tflite_context import OpContext, Refused, Shape
from .tflite_ops import Rule


def _reshape(op: OpContext) -> None:
    op.expect(1, 2)
    x = op.tensor(0)
    if op.has(1) and len(op.input_record(1).shape) == 1 and op.input_record(1).type == "INT32":
        shape = list(op.integers(1, "shape"))
    else:
        shape = list(op.record.options.get("NewShape", ()))
        if shape == [0]:  # how old files write a scalar
            shape = []
    if shape.count(-1) == 1:
        rest = math.prod(d for d in shape if d != -1)
        if rest > 0 and x.elements % rest == 0:
            shape[shape.index(-1)] = x.elements // rest
    if min(shape, default=0) < 0 or math.prod(shape) != x.elements:
        raise op.wrong(f"{x.shape} cannot become {tuple(shape)}")
    op.emit("RESHAPE", [x], NoAttrs(), shape)


def _squeeze(op: OpContext) -> None:
    op.expect(1)
    x = op.tensor(0)
    rank = len(x.shape)
    axes = {op.axis(a, rank) for a in op.record.options.get("SqueezeDims", ())}
    axes = axes or {i for i, d in enumerate(x.shape) if d == 1}
    if any(x.shape[a] != 1 for a in axes):
        raise op.wrong(f"dimensions {sorted(axes)} of {x.shape} are not all 1")
    op.emit("RESHAPE", [x], NoAttrs(), [d for i, d in enumerate(x.shape) if i not in axes])


def _expand_dims(op: OpContext) -> None:
    op.expect(2)
    x, axes = op.tensor(0), op.integers(1, "axis")
    if len(axes) != 1:
        raise op.wrong(f"axis {axes}")
    axis = op.axis(axes[0], len(x.shape) + 1)
    op.emit("RESHAPE", [x], NoAttrs(), (*x.shape[:axis], 1, *x.shape[axis:]))


def _transpose(op: OpContext) -> None:
    op.expect(2)
    x, perm = op.tensor(0), op.integers(1, "permutation")
    rank = len(x.shape)
    perm = tuple(op.axis(p, rank) for p in perm)
    if sorted(perm) != list(range(rank)):
        raise op.wrong(f"{perm} is no permutation of {rank} dimensions")
    op.emit("TRANSPOSE", [x], Transpose(perm), [x.shape[p] for p in perm])


def _concatenation(op: OpContext) -> None:
    op.expect(1, 65535)
    xs = op.tensors()
    if op.option("FusedActivationFunction") != 0:
        raise Refused("a fused activation function is not supported here")
    axis = op.axis(op.option("Axis"), len(xs[0].shape))
    shape = list(xs[0].shape)
    for x in xs[1:]:
        if len(x.shape) != len(shape) or any(
            a != b for i, (a, b) in enumerate(zip(x.shape, shape)) if i != axis
        ):
            raise op.wrong(f"shapes {xs[0].shape} and {x.shape} do not fit on axis {axis}")
        shape[axis] += x.shape[axis]
    op.emit("CONCATENATION", list(xs), Axis(axis), shape)


def _split(op: OpContext) -> None:
    op.expect(2, outputs=None)
    axes, x = op.integers(0, "axis"), op.tensor(1)
    count = len(op.record.outputs)
    if len(axes) != 1:
        raise op.wrong(f"axis {axes}")
    axis = op.axis(axes[0], len(x.shape))
    if count < 1 or x.shape[axis] % count:
        raise op.wrong(f"dimension {axis} of {x.shape} into {count} parts")
    _emit_split(op, [x.shape[axis] // count] * count, axis, 1)


def _split_v(op: OpContext) -> None:
    op.expect(3, outputs=None)
    x, sizes, axes = op.tensor(0), list(op.integers(1, "sizes")), op.integers(2, "axis")
    if len(axes) != 1 or len(sizes) != len(op.record.outputs):
        raise op.wrong(f"sizes {tuple(sizes)} for {len(op.record.outputs)} outputs")
    axis = op.axis(axes[0], len(x.shape))
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = x.shape[axis] - sum(s for s in sizes if s != -1)
    if min(sizes, default=-1) < 0 or sum(sizes) != x.shape[axis]:
        raise op.wrong(f"dimension {axis} of {x.shape} into {tuple(sizes)}")
    _emit_split(op, sizes, axis, 0)


def _emit_split(op: OpContext, sizes: list[int], axis: int, i: int) -> None:
    x = op.tensor(i)
    outputs = [
        op.result((*x.shape[:axis], size, *x.shape[axis + 1 :]), k) for k, size in enumerate(sizes)
    ]
    op.add("SPLIT", [x], outputs, Axis(axis))


def _pack(op: OpContext) -> None:
    op.expect(1, 65535)
    xs = op.tensors()
    if any(x.shape != xs[0].shape for x in xs):
        raise op.wrong(f"shapes {', '.join(str(x.shape) for x in xs[:8])} differ")
    shape = xs[0].shape
    axis = op.axis(op.option("Axis"), len(shape) + 1)
    op.emit("PACK", list(xs), Axis(axis), (*shape[:axis], len(xs), *shape[axis:]))


def _unpack(op: OpContext) -> None:
    op.expect(1, outputs=None)
    x = op.tensor(0)
    axis = op.axis(op.option("Axis"), len(x.shape))
    count = len(op.record.outputs)
    if count != x.shape[axis]:
        raise op.wrong(f"dimension {axis} of {x.shape} into {count} outputs")
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    op.add("UNPACK", [x], [op.result(shape, k) for k in range(count)], Axis(axis))


def _slice(op: OpContext) -> None:
    op.expect(3)
    x, begin, size = op.tensor(0), op.integers(1, "begin"), list(op.integers(2, "size"))
    if len(begin) != len(x.shape) or len(size) != len(x.shape):
        raise op.wrong(f"begin {begin} and size {tuple(size)} for {x.shape}")
    size = [d - b if s == -1 else s for b, s, d in zip(begin, size, x.shape)]
    if any(b < 0 or s < 0 or b + s > d for b, s, d in zip(begin, size, x.shape)):
        raise op.wrong(f"begin {begin} and size {tuple(size)} for {x.shape}")
    op.emit("SLICE", [x], Slice(begin, (1,) * len(begin)), size)


def _clamp(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


def _strided_axis(
    size: int, begin: int | None, end: int | None, stride: int, offset: bool
) -> tuple[int, int]:
    """First index and number of elements; None: from or to the end in the stride's direction."""
    low, high = (0, size) if stride > 0 else (-1, size - 1)
    if begin is None:
        first = 0 if stride > 0 else size - 1
    else:
        first = _clamp(begin + size if begin < 0 else begin, low, high)
    if end is None:
        last = size if stride > 0 else -1
    else:
        end = end + first if offset else end
        last = _clamp(end + size if end < 0 else end, low, high)
    span = last - first if stride > 0 else first - last
    return first, max(0, -(-span // abs(stride)))


def _strided_dims(op: OpContext, rank: int, count: int) -> list[int | str | None]:
    """For each dimension of x with the new ones: which entry of begin it follows.

    None: taken whole, by the ellipsis or because begin ends before; "new": a dimension of 1.
    """
    ellipsis, new = op.option("EllipsisMask"), op.option("NewAxisMask")
    added = sum(1 for i in range(count) if new >> i & 1 and not ellipsis >> i & 1)
    total = rank + added
    dims: list[int | str | None] = []
    expanded = 0
    while len(dims) < total:
        i = len(dims)
        if ellipsis >> i & 1:  # positions are counted behind the expansion, as the reference does
            stop = max(i + 1, min(i + 1 + added + rank - count, total))
            expanded = stop - i - 1
            dims += [None] * (stop - i)
        elif i - expanded < count and new >> (i - expanded) & 1:
            dims.append("new")
        else:
            dims.append(i - expanded if i - expanded < count else None)
    return dims


def _strided_slice(op: OpContext) -> None:
    op.expect(4)
    x = op.tensor(0)
    begin, end, strides = (op.integers(i, w) for i, w in ((1, "begin"), (2, "end"), (3, "strides")))
    if not len(begin) == len(end) == len(strides) <= 31 or 0 in strides:
        raise op.wrong(f"begin {begin}, end {end}, strides {strides}")
    offset = bool(op.option("Offset"))
    dims = _strided_dims(op, len(x.shape), len(begin))
    if dims.count("new") != len(dims) - len(x.shape):
        raise op.wrong(f"masks do not fit to {len(x.shape)} dimensions")
    first: list[int] = []
    step: list[int] = []
    sizes: list[int] = []
    shape: list[int] = []
    for k in dims:
        if k == "new":
            shape.append(1)
            continue
        d = x.shape[len(first)]
        if not isinstance(k, int):
            first, step, sizes, shape = [*first, 0], [*step, 1], [*sizes, d], [*shape, d]
            continue
        b = None if op.option("BeginMask") >> k & 1 else begin[k]
        e = None if op.option("EndMask") >> k & 1 else end[k]
        f, n = _strided_axis(d, b, e, strides[k], offset)
        if op.option("ShrinkAxisMask") >> k & 1:
            # With a negative stride the reference writes nothing.
            if not 0 <= f < d or strides[k] < 0:
                raise op.wrong(f"index {begin[k]} of dimension {len(first)} of {x.shape}")
            n = 1
        else:
            shape.append(n)
        first, step, sizes = [*first, f], [*step, strides[k]], [*sizes, n]
    attrs = Slice(tuple(first), tuple(s if n > 1 else 1 for s, n in zip(step, sizes)))
    if shape == sizes:
        op.emit("SLICE", [x], attrs, sizes)
        return
    part = op.hidden(x, sizes, "/slice")
    op.add("SLICE", [x], [part], attrs)
    op.emit("RESHAPE", [part], NoAttrs(), shape)


def _pads(op: OpContext, rank: int) -> tuple[Shape, Shape]:
    """Paddings in front and behind, from input 1 of shape (rank, 2)."""
    flat = op.integers(1, "paddings")
    if len(flat) != 2 * rank or min(flat, default=0) < 0 or max(flat, default=0) >= 2**31:
        raise op.wrong(f"paddings {flat} for {rank} dimensions")
    return flat[0::2], flat[1::2]


def _pad(op: OpContext) -> None:
    op.expect(2, 3)
    x = op.tensor(0)
    before, after = _pads(op, len(x.shape))
    y = op.result(b + d + a for b, d, a in zip(before, x.shape, after))
    value: float = y.qparams.zero_point if y.qparams is not None else 0
    if op.has(2):
        data, pad = op.constant(2, "padding value"), op.tensor(2)
        if data.size != 1 or pad.dtype != x.dtype:
            raise op.wrong(f"padding value of shape {pad.shape} and type {pad.dtype}")
        if pad.qparams is not None and not pad.qparams.same(y.qparams):
            raise Refused("padding value and output have different scales or zero points")
        value = data.reshape(())[()].item()
    op.add("PAD", [x], [y], Pad(before, after, value))


def _mirror_pad(op: OpContext) -> None:
    op.expect(2)
    x = op.tensor(0)
    before, after = _pads(op, len(x.shape))
    mode = op.option("Mode")
    if mode not in (0, 1):
        raise op.wrong(f"mode {mode}")
    limit = 1 if mode == 0 else 0
    if any(max(b, a) > d - limit for b, a, d in zip(before, after, x.shape)):
        raise op.wrong(f"paddings {before} and {after} are larger than {x.shape}")
    shape = [b + d + a for b, d, a in zip(before, x.shape, after)]
    op.emit("MIRROR_PAD", [x], MirrorPad(before, after, mode == 0), shape)


def _space_to_depth(op: OpContext) -> None:
    op.expect(1)
    n, h, w, c = op.ranked(0, 4).shape
    block = op.positive("BlockSize")
    if h % block or w % block:
        raise op.wrong(f"{h} x {w} cannot be cut into blocks of {block}")
    shape = (n, h // block, w // block, c * block * block)
    op.emit("SPACE_TO_DEPTH", [op.tensor(0)], Block(block), shape)


def _depth_to_space(op: OpContext) -> None:
    op.expect(1)
    n, h, w, c = op.ranked(0, 4).shape
    block = op.positive("BlockSize")
    if c % (block * block):
        raise op.wrong(f"{c} channels cannot become blocks of {block}")
    shape = (n, h * block, w * block, c // (block * block))
    op.emit("DEPTH_TO_SPACE", [op.tensor(0)], Block(block), shape)


RULES: dict[str, Rule] = {
    "RESHAPE": Rule(_reshape, types="any"),
    "SQUEEZE": Rule(_squeeze, types="any"),
    "EXPAND_DIMS": Rule(_expand_dims, types="any"),
    "TRANSPOSE": Rule(_transpose, types="any"),
    "CONCATENATION": Rule(_concatenation, None, types="any"),
    "SPLIT": Rule(_split, (1,), types="any"),
    "SPLIT_V": Rule(_split_v, types="any"),
    "PACK": Rule(_pack, None, types="any"),
    "UNPACK": Rule(_unpack, types="any"),
    "SLICE": Rule(_slice, types="any"),
    "STRIDED_SLICE": Rule(_strided_slice, types="any"),
    "PAD": Rule(_pad, types="any"),
    "PADV2": Rule(_pad, types="any"),
    "MIRROR_PAD": Rule(_mirror_pad, types="any"),
    "SPACE_TO_DEPTH": Rule(_space_to_depth, types="any"),
    "DEPTH_TO_SPACE": Rule(_depth_to_space, types="any"),
}
