# SPDX-License-Identifier: Apache-2.0
"""Ops that the runtime does not have become ones that it has: slices, reshapes, transposes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..ir.graph import Graph, Node, Tensor
from ..ir.ops import OPS, Axis, NoAttrs, Slice, Transpose
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


_REWRITES: dict[str, Callable[[Node], list[Node]]] = {
    "SPLIT": _split,
    "PACK": _pack,
    "UNPACK": _unpack,
    "SPACE_TO_DEPTH": _space_to_depth,
    "DEPTH_TO_SPACE": _depth_to_space,
    "MEAN": _reduce,
    "SUM": _reduce,
    "REDUCE_MAX": _reduce,
    "ARG_MAX": _arg_max,
    "TRANSPOSE": _transpose,
}
