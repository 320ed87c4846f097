# SPDX-License-Identifier: Apache-2.0
"""Resize and Upsample.

Each is a matrix for every axis that it changes. onnxruntime computes these matrices (the operator
on an identity matrix), so that all modes of all opsets are what they are there. Where they are
those of RESIZE_BILINEAR or RESIZE_NEAREST_NEIGHBOR, that op is used; else slices that are gathered,
or a product by the matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ..ir.graph import Array, Tensor
from ..ir.ops import FullyConnected, Resize
from .onnx_constants import run_node
from .onnx_context import OpContext
from .onnx_moves import gather
from .tflite_context import Refused

_MAX_SIZE = 4096  # of an axis: its matrix is square for an unchanged size
_OPTIONS = (Resize(), Resize(half_pixel_centers=True), Resize(align_corners=True))


def _resize(op: OpContext) -> None:
    x = op.tensor(0)
    rank = len(x.shape)
    if op.attr_str("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Refused("keep_aspect_ratio_policy is not supported; give the sizes themselves")
    scales, out = _target(op, x)
    changed = [i for i in range(rank) if out[i] != x.shape[i] or (scales and scales[i] != 1)]
    matrices = {i: _matrix(op, x, i, scales, out) for i in changed}
    matrices = {i: m for i, m in matrices.items() if not _is_identity(m)}
    if not matrices:
        op.finish(op.named("COPY", x))
        return
    y = _as_resize(op, x, matrices)
    op.finish(_axis_by_axis(op, x, matrices) if y is None else y)


def _target(op: OpContext, x: Tensor) -> tuple[list[float], list[int]]:
    """Scales, none where sizes are given, and the output shape, for all axes."""
    rank = len(x.shape)
    axes = list(op.axes(op.attr_ints("axes") or range(rank), rank))
    scales: list[float] = []
    sizes: list[int] = []
    if op.record.op == "Upsample" and op.version < 9:
        scales = [float(v) for v in op.record.attrs.get("scales") or []]
    else:
        place = 1 if op.record.op == "Upsample" or op.version < 11 else 2
        if op.has(place) and op.tensor(place).elements:
            data = op.constant(place, "scales")
            scales = [float(v) for v in data.reshape(-1)[:64]]
        elif place == 2 and op.has(3):
            sizes = list(op.integers(3, "sizes"))
    if len(scales or sizes) != len(axes):
        raise op.wrong(f"scales {scales}, sizes {sizes} for {x.shape}")
    if not all(math.isfinite(s) and s > 0 for s in scales) or min(sizes, default=1) < 1:
        raise op.wrong(f"scales {scales}, sizes {sizes}")
    out, full = list(x.shape), [1.0] * rank
    for k, axis in enumerate(axes):
        if scales:
            full[axis] = scales[k]
            out[axis] = math.floor(np.float32(scales[k]) * np.float32(x.shape[axis]))
        else:
            out[axis] = sizes[k]
    if min(out) < 1:
        raise Refused(f"an output of shape {out} is empty")
    return full if scales else [], out


def _matrix(op: OpContext, x: Tensor, axis: int, scales: list[float], out: list[int]) -> Array:
    """(new size, size): what the operator does along an axis, by doing it to an identity matrix."""
    size, new = x.shape[axis], out[axis]
    if max(size, new) > _MAX_SIZE:
        raise Refused(f"axis {axis} goes from {size} to {new}, which is too large")
    picture = np.eye(size, dtype=np.float32).reshape(1, 1, size, size)
    factor = np.array([1, 1, scales[axis] if scales else 1, 1], np.float32)
    attrs = {k: v for k, v in op.record.attrs.items() if k != "axes"}
    if op.attr_str("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        raise Refused("tf_crop_and_resize is not supported")
    inputs: list[Array | None]
    if op.record.op == "Upsample" and op.version < 9:
        attrs["scales"] = [float(v) for v in factor]
        inputs = [picture]
    elif op.record.op == "Upsample" or op.version < 11:
        inputs = [picture, factor]
    elif scales:
        inputs = [picture, np.zeros(0, np.float32), factor]
    else:
        shape = np.array([1, 1, new, size], np.int64)
        inputs = [picture, np.zeros(0, np.float32), np.zeros(0, np.float32), shape]
    matrix = run_node(op, inputs, attrs)[0].reshape(-1, size)
    if matrix.shape != (new, size):
        raise op.wrong(f"it makes {matrix.shape[0]} of {size}, not {new}")
    return matrix


def _is_identity(m: Array) -> bool:
    return m.shape[0] == m.shape[1] and bool((m == np.eye(len(m), dtype=m.dtype)).all())


def _chosen(m: Array) -> list[int] | None:
    """The column that each row takes, if each takes one."""
    columns = m.argmax(1)
    exact = (m[np.arange(len(m)), columns] == 1).all() and (np.count_nonzero(m, 1) == 1).all()
    return [int(c) for c in columns] if exact else None


def resize_matrix(op: str, size: int, new: int, a: Resize) -> Array:
    """What RESIZE_BILINEAR or RESIZE_NEAREST_NEIGHBOR do along one axis, (new, size)."""
    corners = a.align_corners and new > 1
    scale = np.float32(size - corners) / np.float32(new - corners)
    offset = np.float32(0.5 if a.half_pixel_centers else 0)
    place = (np.arange(new).astype(np.float32) + offset) * scale
    m = np.zeros((new, size), np.float32)
    rows = np.arange(new)
    if op == "RESIZE_NEAREST_NEIGHBOR":
        nearest = np.floor(place + np.float32(0.5)) if a.align_corners else np.floor(place)
        m[rows, np.clip(nearest, 0, size - 1).astype(np.int64)] = 1
        return m
    place = place - offset
    lower = np.maximum(np.floor(place), 0).astype(np.int64)
    upper = np.minimum(np.ceil(place), size - 1).astype(np.int64)
    share = (place - lower).astype(np.float32)
    np.add.at(m, (rows, np.minimum(lower, size - 1)), 1 - share)
    np.add.at(m, (rows, np.maximum(upper, 0)), share)
    return m


def _as_resize(op: OpContext, x: Tensor, matrices: dict[int, Array]) -> Tensor | None:
    """One of the graph's resizes over two neighbouring axes, if it computes the same."""
    rank = len(x.shape)
    if rank not in (3, 4):
        return None
    last = rank == 4 and set(matrices) <= {1, 2} and not set(matrices) <= {2}
    if not last and not set(matrices) <= set(range(2, rank)):
        return None
    y = x if last else op.to_last(x)
    spatial = {1: matrices.get(1), 2: matrices.get(2)}
    if not last:
        spatial = {1: matrices.get(2) if rank == 4 else None, 2: matrices.get(rank - 1)}
    nearest = all(_chosen(m) is not None for m in matrices.values())
    name = "RESIZE_NEAREST_NEIGHBOR" if nearest else "RESIZE_BILINEAR"
    for attrs in _OPTIONS:
        shape = list(y.shape)
        for axis, m in spatial.items():
            if m is None:
                continue
            shape[axis] = len(m)
            same = resize_matrix(name, y.shape[axis], len(m), attrs)
            if not np.allclose(same, m, rtol=0, atol=2e-5):
                break
        else:
            z = op.add(name, [y], attrs, shape)
            return z if last else op.to_first(z, rank)
    return None


def _axis_by_axis(op: OpContext, x: Tensor, matrices: dict[int, Array]) -> Tensor:
    """Gathered slices, or products by the matrices."""
    rank = len(x.shape)
    for axis, m in sorted(matrices.items()):
        chosen = _chosen(m)
        if chosen is not None:
            x = gather(op, x, axis, chosen)
            continue
        if x.dtype != "float32":
            raise Refused(f"of {x.dtype} by these coordinates is not supported")
        perm = [i for i in range(rank) if i != axis] + [axis]
        turned = op.transpose(x, perm)
        shape = (*turned.shape[:-1], len(m))
        y = op.add("FULLY_CONNECTED", [turned, op.const(m), None], FullyConnected(), shape)
        x = op.transpose(y, [perm.index(i) for i in range(rank)])
    return x


RULES: dict[str, Callable[[OpContext], None]] = {"Resize": _resize, "Upsample": _resize}
