# SPDX-License-Identifier: Apache-2.0
"""Ops that the runtime does not have become ones that it has: slices, reshapes, transposes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..ir.graph import Graph, Node, Tensor
from ..ir.ops import OPS, Axis, FullyConnected, MatMul, NoAttrs, Slice, Transpose
from .fold import remove_dead

MAX_RANK = 6


def legalise(graph: Graph) -> Graph:
    nodes: list[Node] = []
    for node in graph.nodes:
        rewrite = _REWRITES.get(node.op)
        nodes += [node] if rewrite is None else rewrite(node)
    graph.nodes = nodes
    remove_dead(graph)
    assert all(OPS[n.op].lowered for n in graph.nodes)
    graph.verify()
    return graph


def _like(t: Tensor, shape: Sequence[int], suffix: str) -> Tensor:
    return replace(t, name=f"{t.name}/{suffix}", shape=tuple(shape), data=None)


def _node(node: Node, op: str, inputs: Sequence[Tensor], y: Tensor, attrs: Any = None) -> Node:
    return replace(node, op=op, inputs=list(inputs), outputs=[y], attrs=attrs or NoAttrs())


def _split(node: Node) -> list[Node]:
    """SPLIT: one SLICE an output; those that nobody reads are dropped as dead."""
    x, axis = node.input(0), node.attrs.axis
    nodes, start = [], 0
    for y in node.outputs:
        begin = tuple(start if i == axis else 0 for i in range(len(x.shape)))
        nodes.append(_node(node, "SLICE", [x], y, Slice(begin, (1,) * len(begin))))
        start += y.shape[axis]
    return nodes


def _pack(node: Node) -> list[Node]:
    """PACK: each input gets the new axis, then they are concatenated."""
    axis, y = node.attrs.axis, node.output
    shape = (*y.shape[:axis], 1, *y.shape[axis + 1 :])
    nodes, parts = [], []
    for i in range(len(node.inputs)):
        part = _like(node.input(i), shape, "pack")
        nodes.append(_node(node, "RESHAPE", [node.input(i)], part))
        parts.append(part)
    return [*nodes, _node(node, "CONCATENATION", parts, y, Axis(axis))]


def _unpack(node: Node) -> list[Node]:
    x, axis = node.input(0), node.attrs.axis
    shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    nodes = []
    for k, y in enumerate(node.outputs):
        part = _like(y, shape, "unpack")
        begin = tuple(k if i == axis else 0 for i in range(len(shape)))
        nodes.append(_node(node, "SLICE", [x], part, Slice(begin, (1,) * len(begin))))
        nodes.append(_node(node, "RESHAPE", [part], y))
    return nodes


def _through_transpose(node: Node, shape: Sequence[int], perm: tuple[int, ...]) -> list[Node]:
    """RESHAPE to `shape`, TRANSPOSE, RESHAPE to the output."""
    x, y = node.input(0), node.output
    first = _like(y, shape, "blocks")
    second = _like(y, [shape[p] for p in perm], "moved")
    return [
        _node(node, "RESHAPE", [x], first),
        _node(node, "TRANSPOSE", [first], second, Transpose(perm)),
        _node(node, "RESHAPE", [second], y),
    ]


def _space_to_depth(node: Node) -> list[Node]:
    """(N, H, W, C) as (N * H / b, b, W / b, b * C): rows and columns of blocks change places."""
    (n, h, w, c), b = node.input(0).shape, node.attrs.size
    return _through_transpose(node, (n * (h // b), b, w // b, b * c), (0, 2, 1, 3))


def _depth_to_space(node: Node) -> list[Node]:
    """(N, H, W, b * b * C) as (N * H, W, b, b * C): a block's row moves before the columns."""
    (n, h, w, c), b = node.input(0).shape, node.attrs.size
    return _through_transpose(node, (n * h, w, b, c // b), (0, 2, 1, 3))


def _reduce(node: Node) -> list[Node]:
    """Reductions keep their axes, as 1; a RESHAPE drops them."""
    if node.attrs.keep_dims:
        return [node]
    shape = tuple(1 if i in node.attrs.axes else d for i, d in enumerate(node.input(0).shape))
    kept = _like(node.output, shape, "kept")
    return [
        _node(node, node.op, [node.input(0)], kept, replace(node.attrs, keep_dims=True)),
        _node(node, "RESHAPE", [kept], node.output),
    ]


def _arg_max(node: Node) -> list[Node]:
    x, axis = node.input(0), node.attrs.axis
    shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    if node.output.shape == shape:
        return [node]
    kept = _like(node.output, shape, "kept")
    return [
        _node(node, "ARG_MAX", [x], kept, node.attrs),
        _node(node, "RESHAPE", [kept], node.output),
    ]


def collapse(shape: Sequence[int], perm: Sequence[int]) -> tuple[list[int], tuple[int, ...]]:
    """The same permutation of fewer dimensions: ones dropped, neighbours that stay merged."""
    order = [p for p in perm if shape[p] != 1]
    runs: list[list[int]] = []
    kept = sorted(order)
    for p in order:
        if runs and kept.index(p) == kept.index(runs[-1][-1]) + 1:
            runs[-1].append(p)
        else:
            runs.append([p])
    by_input = sorted(runs)
    merged = [math.prod(shape[p] for p in run) for run in by_input]
    return merged, tuple(by_input.index(run) for run in runs)


def _transpose(node: Node) -> list[Node]:
    x = node.input(0)
    if len(x.shape) <= MAX_RANK:
        return [node]
    shape, perm = collapse(x.shape, node.attrs.perm)
    return _through_transpose(node, shape, perm)


def _last_two_swapped(node: Node, x: Tensor) -> tuple[Tensor, list[Node]]:
    shape = (*x.shape[:-2], x.shape[-1], x.shape[-2])
    perm = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
    if x.data is not None:
        return replace(x, shape=shape, data=np.ascontiguousarray(x.data.transpose(perm))), []
    y = _like(x, shape, "transposed")
    return y, [_node(node, "TRANSPOSE", [x], y, Transpose(perm))]


def _batch_matmul(node: Node) -> list[Node]:
    """x (..., M, K), w (..., N, K); with one constant matrix it is a FULLY_CONNECTED."""
    x, w, a = node.input(0), node.input(1), node.attrs
    nodes: list[Node] = []
    if a.transpose_x:
        x, before = _last_two_swapped(node, x)
        nodes += before
    if not a.transpose_y:
        w, before = _last_two_swapped(node, w)
        nodes += before
    if w.data is not None and len(w.shape) == 2:
        attrs: Any = FullyConnected()
        node = replace(node, op="FULLY_CONNECTED", inputs=[x, w, None], attrs=attrs)
    else:
        node = replace(node, inputs=[x, w], attrs=MatMul(False, True))
    return [*nodes, node]


def _layer_norm(node: Node) -> list[Node]:
    """Transposed where the axes are not the last ones."""
    x, y = node.input(0), node.output
    rank, axes = len(x.shape), sorted(set(node.attrs.axes))
    if not axes or axes == list(range(axes[0], rank)):
        return [node]
    perm = (*(i for i in range(rank) if i not in axes), *axes)
    back = tuple(perm.index(i) for i in range(rank))
    shape = [x.shape[p] for p in perm]
    moved, normed = _like(x, shape, "moved"), _like(y, shape, "normed")
    operands = [None if t is None else _permuted(t, perm) for t in node.inputs[1:]]
    attrs = replace(node.attrs, axes=tuple(range(rank - len(axes), rank)))
    return [
        _node(node, "TRANSPOSE", [x], moved, Transpose(perm)),
        replace(node, inputs=[moved, *operands], outputs=[normed], attrs=attrs),
        _node(node, "TRANSPOSE", [normed], y, Transpose(back)),
    ]


def _permuted(t: Tensor, perm: Sequence[int]) -> Tensor:
    """A constant that broadcasts against what `perm` transposes."""
    if t.data is None:
        return t
    full = t.data.reshape((1,) * (len(perm) - t.data.ndim) + t.data.shape).transpose(perm)
    return replace(t, shape=full.shape, data=np.ascontiguousarray(full))


_REWRITES: dict[str, Callable[[Node], list[Node]]] = {
    "SPLIT": _split,
    "PACK": _pack,
    "UNPACK": _unpack,
    "SPACE_TO_DEPTH": _space_to_depth,
    "DEPTH_TO_SPACE": _depth_to_space,
    "MEAN": _reduce,
    "SUM": _reduce,
    "REDUCE_MAX": _reduce,
    "REDUCE_MIN": _reduce,
    "REDUCE_PROD": _reduce,
    "REDUCE_ALL": _reduce,
    "REDUCE_ANY": _reduce,
    "ARG_MAX": _arg_max,
    "TRANSPOSE": _transpose,
    "BATCH_MATMUL": _batch_matmul,
    "LAYER_NORM": _layer_norm,
}
