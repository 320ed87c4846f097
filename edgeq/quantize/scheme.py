# SPDX-License-Identifier: Apache-2.0
"""Which tensors share one scale, which have one that is given, and what is left to choose.

Ops that hand bytes through need the same scale on both sides; the tensors that such ops connect are
a group with one range.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..ir.graph import Graph, Node, QParams, Tensor

# Output and first input hold the same bytes, or a choice or mean of them.
_SAME = (
    "RESHAPE",
    "TRANSPOSE",
    "SLICE",
    "SPLIT",
    "UNPACK",
    "PAD",
    "MIRROR_PAD",
    "COPY",
    "GATHER",
    "SPACE_TO_DEPTH",
    "DEPTH_TO_SPACE",
    "MAX_POOL_2D",
    "AVERAGE_POOL_2D",
    "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR",
    "REDUCE_MAX",
    "REDUCE_MIN",
)
_ALL_SAME = ("PACK", "MAXIMUM", "MINIMUM")  # all inputs too
# 8-bit outputs that have one scale whatever the input: what TFLite prescribes.
FIXED = {
    "LOGISTIC": QParams.of(1 / 256, -128),
    "SOFTMAX": QParams.of(1 / 256, -128),
    "LOG_SOFTMAX": QParams.of(1 / 16, 127),
    "TANH": QParams.of(1 / 128, 0),
}
FIXED_RANGES = {
    "LOGISTIC": (0.0, 1.0),
    "SOFTMAX": (0.0, 1.0),
    "LOG_SOFTMAX": (-16.0, 0.0),
    "TANH": (-1.0, 1.0),
}


@dataclass
class Group:
    """Tensors with one scale. `op`: of the producer that prescribes it, or \"\"."""

    tensors: list[Tensor] = field(default_factory=list)
    op: str = ""

    @property
    def name(self) -> str:
        return self.tensors[0].name

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


class Scheme:
    """The groups of a float graph's tensors."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._parent: dict[Tensor, Tensor] = {}
        for t in graph.tensors():
            if is_float(t):
                self._parent[t] = t
        for node in graph.nodes:
            self._tie(node)
        self.groups: list[Group] = []
        self.of: dict[Tensor, Group] = {}
        self._collect()

    def observed(self) -> list[Tensor]:
        """Tensors whose values say what a group's range must be: not those that ops only move."""
        moved = {t for n in self.graph.nodes if n.op in _SAME for t in n.outputs}
        return [t for t in self._parent if t not in moved]

    def _tie(self, node: Node) -> None:
        if node.op not in _SAME and node.op not in _ALL_SAME:
            return
        inputs = node.inputs if node.op in _ALL_SAME else node.inputs[:1]
        tensors = [t for t in [*inputs, *node.outputs] if t is not None and is_float(t)]
        for t in tensors[1:]:
            self._union(tensors[0], t)

    def _root(self, t: Tensor) -> Tensor:
        while self._parent[t] is not t:
            self._parent[t] = self._parent[self._parent[t]]
            t = self._parent[t]
        return t

    def _union(self, a: Tensor, b: Tensor) -> None:
        self._parent[self._root(b)] = self._root(a)

    def _collect(self) -> None:
        groups: dict[Tensor, Group] = {}
        for t in self._parent:
            groups.setdefault(self._root(t), Group()).tensors.append(t)
        self.of = {t: g for g in groups.values() for t in g.tensors}
        for node in self.graph.nodes:
            if node.op in FIXED and is_float(node.output):
                self.of[node.output].op = node.op
        self.groups = list(groups.values())


def is_float(t: Tensor) -> bool:
    """Whether the tensor carries data to quantize."""
    return t.dtype == "float32" and not t.is_const


def union(ranges: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """The smallest range that holds all."""
    lows, highs = zip(*ranges)
    return min(lows), max(highs)
