# SPDX-License-Identifier: Apache-2.0
"""Handlers of ONNX operators that move, cut and repeat data."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..ir.graph import Tensor
from ..ir.ops import Axis, Block, Gather, MirrorPad, Pad
from .onnx_context import FIRST, LAST, OpContext
from .tflite_context import Refused

Handler = Callable[[OpContext], None]


# ---- shapes


def _identity(op: OpContext) -> None:
    op.finish(op.raw(0))


def _reshape(op: OpContext) -> None:
    x, wanted = op.tensor(0), list(op.integers(1, "shape"))
    for i, d in enumerate(wanted):
        if d == 0 and not op.attr_int("allowzero", 0):
            if i >= len(x.shape):
                raise op.wrong(f"shape {wanted} for {x.shape}")
            wanted[i] = x.shape[i]
    if wanted.count(-1) > 1 or min(wanted, default=1) < -1 or len(wanted) > 16:
        raise op.wrong(f"shape {wanted}")
    if -1 in wanted:
        rest = -math.prod(wanted)
        if rest < 1 or x.elements % rest:
            raise op.wrong(f"shape {wanted} for {x.shape}")
        wanted[wanted.index(-1)] = x.elements // rest
    op.finish(op.reshape(x, wanted))


def _flatten(op: OpContext) -> None:
    x = op.tensor(0)
    rank = len(x.shape)
    axis = op.attr_int("axis", 1)
    axis = rank if axis == rank else op.axis(axis, rank) if rank else 0
    op.finish(op.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))))


def _squeeze(op: OpContext) -> None:
    x = op.tensor(0)
    given = op.ints_from(1, "axes", 13)
    if given is None:
        axes = tuple(i for i, d in enumerate(x.shape) if d == 1)
    else:
        axes = op.axes(given, len(x.shape))
    if any(x.shape[i] != 1 for i in axes):
        raise op.wrong(f"axes {axes} of {x.shape}")
    op.finish(op.reshape(x, [d for i, d in enumerate(x.shape) if i not in axes]))


def _unsqueeze(op: OpContext) -> None:
    x = op.tensor(0)
    given = op.ints_from(1, "axes", 13)
    if given is None:
        raise op.wrong("without axes")
    rank = len(x.shape) + len(given)
    axes = op.axes(given, rank)
    rest = iter(x.shape)
    op.finish(op.reshape(x, [1 if i in axes else next(rest) for i in range(rank)]))


def _transpose(op: OpContext) -> None:
    x = op.tensor(0)
    perm = op.attr_ints("perm", tuple(range(len(x.shape)))[::-1])
    if perm is None or sorted(perm) != list(range(len(x.shape))):
        raise op.wrong(f"perm {perm} of {x.shape}")
    op.finish(op.transpose(x, perm))


def _expand(op: OpContext) -> None:
    x = op.tensor(0)
    shape = op.broadcast(x.shape, op.integers(1, "shape"))
    y = op.reshape(x, (1,) * (len(shape) - len(x.shape)) + x.shape)
    for axis, d in enumerate(shape):
        if y.shape[axis] != d:
            y = op.repeat(y, axis, d)
    op.finish(y)


def _tile(op: OpContext) -> None:
    x, times = op.tensor(0), op.integers(1, "repeats")
    if len(times) != len(x.shape) or min(times, default=1) < 1:
        raise op.wrong(f"repeats {times} of {x.shape}")
    for axis, n in enumerate(times):
        x = op.repeat(x, axis, n)
    op.finish(x)


# ---- parts


def _concat(op: OpContext) -> None:
    parts = [op.tensor(i) for i in range(len(op.record.inputs))]
    parts = [t for t in parts if t.data is None or t.data.size]
    if not parts:
        raise op.wrong("of nothing")
    rank = len(parts[0].shape)
    if any(len(t.shape) != rank for t in parts):
        raise op.wrong(f"shapes {[t.shape for t in parts]}")
    op.finish(op.concat(parts, op.axis(op.attr_int("axis", 1), rank)))


def _slice(op: OpContext) -> None:
    x = op.tensor(0)
    rank = len(x.shape)
    if op.version < 10:
        starts, ends = op.attr_ints("starts", ()) or (), op.attr_ints("ends", ()) or ()
        given, steps = op.attr_ints("axes"), None
    else:
        starts, ends = op.integers(1, "starts"), op.integers(2, "ends")
        given = op.integers(3, "axes") if op.has(3) else None
        steps = op.integers(4, "steps") if op.has(4) else None
    axes = op.axes(range(len(starts)) if given is None else given, rank)
    steps = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise op.wrong(f"starts {starts}, ends {ends}, axes {axes}, steps {steps}")
    begin, shape, stride = [0] * rank, list(x.shape), [1] * rank
    for start, end, axis, step in zip(starts, ends, axes, steps):
        chosen = range(x.shape[axis])[slice(start, end, step)]
        if step < 0 and end < -x.shape[axis]:  # Python's slices cannot say "beyond the first"
            chosen = range(x.shape[axis])[slice(start, None, step)]
        if not chosen:
            raise Refused(f"it takes nothing of axis {axis}")
        begin[axis], shape[axis], stride[axis] = chosen[0], len(chosen), step
        if len(chosen) == 1:
            stride[axis] = 1
    op.finish(op.slice(x, begin, shape, stride))


def _split(op: OpContext) -> None:
    x = op.tensor(0)
    axis = op.axis(op.attr_int("axis", 0), len(x.shape))
    count, size = len(op.record.outputs), x.shape[axis]
    sizes = op.ints_from(1, "split", 13)
    if sizes is None:
        each = -(-size // count)
        sizes = tuple(min(each, size - i * each) for i in range(count))
    if len(sizes) != count or sum(sizes) != size or min(sizes) < 1:
        raise op.wrong(f"{sizes} of {size}")
    outputs = []
    for n in sizes:
        shape = tuple(n if i == axis else d for i, d in enumerate(x.shape))
        name = f"{op.name}/part"
        outputs.append(Tensor(name, shape, x.dtype, x.qparams, None, x.source_dtype))
    if count == 1:
        op.finish(x)
        return
    op.node("SPLIT", [op.builder.real(x, op.node)], outputs, Axis(axis))
    op.finish(*outputs)


def _gather(op: OpContext) -> None:
    x, axis = op.tensor(0), op.attr_int("axis", 0)
    axis = op.axis(axis, len(x.shape))
    t = op.tensor(1)
    if t.data is None:
        shape = (*x.shape[:axis], *t.shape, *x.shape[axis + 1 :])
        if t.dtype not in ("int32", "int64"):
            raise Refused(f"its indices are {t.dtype}")
        op.finish(op.add("GATHER", [x, t], Gather(axis), shape))
        return
    indices = t.data.astype(np.int64)
    size = x.shape[axis]
    if ((indices < -size) | (indices >= size)).any():
        raise op.wrong(f"indices outside of dimension {axis} of {x.shape}")
    y = gather(op, x, axis, [int(i) % size for i in indices.reshape(-1)])
    op.finish(op.reshape(y, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])))


def gather(op: OpContext, x: Tensor, axis: int, indices: list[int]) -> Tensor:
    """Chosen slices of x along `axis`: a slice where they are in equal steps."""
    n = len(indices)
    step = indices[1] - indices[0] if n > 1 else 1
    shape = tuple(n if i == axis else d for i, d in enumerate(x.shape))
    if step and all(b - a == step for a, b in zip(indices, indices[1:])):
        begin = [indices[0] if i == axis else 0 for i in range(len(shape))]
        return op.slice(x, begin, shape, [step if i == axis else 1 for i in range(len(shape))])
    return op.add("GATHER", [x, op.const(indices, "int32")], Gather(axis), shape)


# ---- padding


def _pad(op: OpContext) -> None:
    x, rank = op.tensor(0), len(op.tensor(0).shape)
    pads = op.ints_from(1, "pads", 11)
    if op.version >= 11:
        value = op.number(2, "value", 0.0)
        axes = op.axes(op.integers(3, "axes"), rank) if op.has(3) else tuple(range(rank))
    else:
        value, axes = op.attr_float("value", 0.0), tuple(range(rank))
    if pads is None or len(pads) != 2 * len(axes):
        raise op.wrong(f"pads {pads} of {x.shape}")
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = pads[i], pads[len(axes) + i]
    if min(pads, default=0) < 0:  # they cut off
        begin = [max(0, -b) for b in before]
        shape = [d - b - max(0, -a) for d, b, a in zip(x.shape, begin, after)]
        if min(shape) < 1:
            raise op.wrong(f"pads {pads} of {x.shape}")
        x = op.slice(x, begin, shape)
        before, after = [max(0, b) for b in before], [max(0, a) for a in after]
    mode = op.attr_str("mode", "constant")
    shape = [d + b + a for d, b, a in zip(x.shape, before, after)]
    if not any(before) and not any(after):
        op.finish(x)
    elif mode == "constant":
        if x.qparams is not None:
            raise Refused("padding of integers by a constant is not supported")
        op.finish(op.add("PAD", [x], Pad(tuple(before), tuple(after), value), shape))
    elif mode == "reflect":
        if any(max(b, a) >= d for b, a, d in zip(before, after, x.shape)):
            raise Refused(f"reflected padding {pads} is wider than x {x.shape}")
        op.finish(op.add("MIRROR_PAD", [x], MirrorPad(tuple(before), tuple(after)), shape))
    elif mode in ("edge", "wrap"):
        op.finish(_edges(op, x, before, after, mode))
    else:
        raise op.wrong(f"mode {mode!r}")


def _edges(op: OpContext, x: Tensor, before: list[int], after: list[int], mode: str) -> Tensor:
    """The outermost slices again and again, or the opposite ones, axis by axis."""
    for axis in range(len(x.shape)):
        b, a, d = before[axis], after[axis], x.shape[axis]
        if not b and not a:
            continue
        if mode == "wrap" and max(a, b) > d:
            raise Refused(f"wrapped padding of {max(a, b)} is wider than x {x.shape}")

        def part(start: int, count: int, x: Tensor = x, axis: int = axis) -> Tensor:
            begin = [start if i == axis else 0 for i in range(len(x.shape))]
            return op.slice(x, begin, [count if i == axis else e for i, e in enumerate(x.shape)])

        parts = [x]
        if b:
            parts = [part(d - b, b) if mode == "wrap" else op.repeat(part(0, 1), axis, b), *parts]
        if a:
            parts.append(part(0, a) if mode == "wrap" else op.repeat(part(d - 1, 1), axis, a))
        x = op.concat(parts, axis)
    return x


# ---- blocks


def _depth_to_space(op: OpContext) -> None:
    x, size = op.tensor(0), op.attr_int("blocksize", 0)
    if len(x.shape) != 4 or size < 1 or x.shape[1] % (size * size):
        raise op.wrong(f"blocks of {size} in {x.shape}")
    n, c, h, w = x.shape
    depth = c // (size * size)
    mode = op.attr_str("mode", "DCR")
    if mode == "CRD":  # (C, b, b) channels; the graph's op has (b, b, C)
        order = np.arange(c).reshape(depth, size * size).T.reshape(-1)
        x = gather(op, x, 1, [int(i) for i in order])
    elif mode != "DCR":
        raise op.wrong(f"mode {mode!r}")
    last = op.transpose(x, LAST)
    y = op.add("DEPTH_TO_SPACE", [last], Block(size), (n, h * size, w * size, depth))
    op.finish(op.transpose(y, FIRST))


def _space_to_depth(op: OpContext) -> None:
    x, size = op.tensor(0), op.attr_int("blocksize", 0)
    if len(x.shape) != 4 or size < 1 or x.shape[2] % size or x.shape[3] % size:
        raise op.wrong(f"blocks of {size} in {x.shape}")
    n, c, h, w = x.shape
    last = op.transpose(x, LAST)
    shape = (n, h // size, w // size, c * size * size)
    op.finish(op.transpose(op.add("SPACE_TO_DEPTH", [last], Block(size), shape), FIRST))


RULES: dict[str, Handler] = {
    "Identity": _identity,
    "Dropout": _identity,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Expand": _expand,
    "Tile": _tile,
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Pad": _pad,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
