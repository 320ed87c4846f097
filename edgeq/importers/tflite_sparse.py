# SPDX-License-Identifier: Apache-2.0
"""Sparse constants of TFLite files: a tree of dimensions, each dense or a list of indices.

The levels of the tree are the tensor's dimensions in some order and then those of its blocks; a
block dimension subdivides one of the tensor's. TFLite's schema.fbs (SparsityParameters) has the
definition with an example.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Level:
    """A dense dimension of `size`; or node i has the children
    indices[segments[i] : segments[i + 1]]."""

    size: int
    segments: Array | None = None
    indices: Array | None = None


@dataclass(frozen=True, eq=False)
class Sparsity:
    """`order`: the dimension of each level, block dimensions counted behind the tensor's own;
    `blocks`: the tensor's dimension that each block dimension subdivides."""

    order: tuple[int, ...]
    blocks: tuple[int, ...]
    levels: tuple[Level, ...]


def densify(sparsity: Sparsity, shape: tuple[int, ...], values: Array) -> Array | None:
    """The dense array of `shape`: `values` at the leaves, 0 elsewhere. None for contradictions."""
    rank, depth = len(shape), len(sparsity.levels)
    if len(sparsity.order) != depth or depth != rank + len(sparsity.blocks):
        return None
    if sorted(sparsity.order) != list(range(depth)) or sorted(sparsity.order[:rank]) != list(
        range(rank)
    ):
        return None
    if any(not 0 <= b < rank for b in sparsity.blocks):
        return None
    node = np.zeros(1, np.int64)  # of each path so far, its number on the level
    position = np.zeros((rank, 1), np.int64)
    for level, dim in zip(sparsity.levels, sparsity.order):
        grown = _children(level, node, math.prod(shape))
        if grown is None:
            return None
        parent, node, index = grown
        position = position[:, parent]
        if dim < rank:
            position[dim] = index
        else:
            # The block's size is that of its level, which is dense.
            axis = sparsity.blocks[dim - rank]
            if level.size < 1:
                return None
            position[axis] = position[axis] * level.size + index
    if len(node) != len(values):
        return None
    if any(((p < 0) | (p >= size)).any() for p, size in zip(position, shape)):
        return None
    dense = np.zeros(shape, values.dtype)
    dense[tuple(position)] = values
    return dense


def _children(level: Level, node: Array, limit: int) -> tuple[Array, Array, Array] | None:
    """Of each child of `node`: which path it continues, its number and its index."""
    if level.segments is None or level.indices is None:
        if level.size < 1 or level.size * len(node) > limit:
            return None
        index = np.tile(np.arange(level.size), len(node))
        parent = np.repeat(np.arange(len(node)), level.size)
        return parent, node[parent] * level.size + index, index
    segments = level.segments
    if not len(node) or int(node.max()) + 1 >= len(segments):
        return None
    first, counts = segments[node], segments[node + 1] - segments[node]
    if (counts < 0).any() or int(counts.sum()) > limit:
        return None
    parent = np.repeat(np.arange(len(node)), counts)
    number = np.arange(len(parent)) - np.repeat(np.cumsum(counts) - counts, counts) + first[parent]
    if len(number) and not 0 <= number.min() <= number.max() < len(level.indices):
        return None
    return parent, number, level.indices[number]
