# SPDX-License-Identifier: Apache-2.0
"""Which tensors get 16 bits: those whose 8 bits cost more accuracy than 16 bits cost time.

Groups of tensors are tried in the order of the noise that 8 bits put on them, and of that noise
for what 16 bits would cost: more and more of them, up to all. From the best of these choices groups
are taken back, half of them at a time, then a quarter, down to single ones, wherever that is
better; before that the noisiest are tried one by one. The score of the integers decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..format.cost import macs
from ..ir.graph import Graph
from .observe import LAYERS, Statistics
from .ranges import Range, noise
from .scheme import Group, Scheme, is_float

_SILENT = 1e-7  # relative noise of 8 bits that nobody would notice
_ELEMENT = 8.0  # an element that an op moves costs as much as so many multiplications
SINGLE = 12  # groups that are tried one by one
TRIES = {"default": 32, "high": 200}  # choices that are judged while taking back
_ONLY_8 = ("LOG_SOFTMAX",)
# Ops that neither read nor write 16 bits.
_BYTES = frozenset({"BATCH_MATMUL", "LAYER_NORM", "DIV", "REDUCE_MIN", "TOP_K"})

# What a dB is worth where it is missing, and where there are enough; the price of time.
_FLOOR, _ENOUGH = 20.0, 30.0
_BELOW, _ABOVE = 2.0, 0.2
PRICE = 5.0  # dB that twice the time must bring


@dataclass(frozen=True)
class Widened:
    """A group that got 16 bits: what it brings (dB), what it costs (share of the work)."""

    name: str
    gain: float
    cost: float


def worth(score: float) -> float:
    """Decibels weighed by how much they are needed."""
    low = min(score, _FLOOR) - _FLOOR
    middle = min(max(score - _FLOOR, 0.0), _ENOUGH - _FLOOR)
    return _BELOW * low + middle + _ABOVE * max(score - _ENOUGH, 0.0)


def costs(graph: Graph, scheme: Scheme) -> dict[Group, float]:
    """Share of the network's work that is done on each group; together 1."""
    found: dict[Group, float] = dict.fromkeys(scheme.groups, 0.0)
    for node in graph.nodes:
        shapes = [t.shape for t in node.inputs if t is not None]
        work = _ELEMENT * sum(t.elements for t in node.outputs)
        if node.op in LAYERS:
            work += macs(node.op, shapes, node.output.shape)
        reads = {scheme.of[t] for t in node.inputs if t is not None and is_float(t)}
        for g in reads:
            found[g] += work / len(reads)
        for t in node.outputs:
            if is_float(t):
                found[scheme.of[t]] += _ELEMENT * t.elements / 2
    total = max(sum(found.values()), 1.0)
    return {g: cost / total for g, cost in found.items()}


def candidates(
    scheme: Scheme, statistics: Statistics, ranges: dict[Group, Range]
) -> dict[Group, float]:
    """Groups that could gain, and the noise of their 8 bits, relative to their power."""

    def own(g: Group) -> float:
        seen = [t for t in g.tensors if t in statistics.tensors]
        return max((noise(statistics.tensors[t], ranges[g], 8) for t in seen), default=0.0)

    fixed = {
        scheme.of[t]
        for node in scheme.graph.nodes
        if node.op in _BYTES
        for t in [*node.inputs, *node.outputs]
        if t is not None and is_float(t)
    }
    noises = {g: own(g) for g in scheme.groups if g.op not in _ONLY_8 and g not in fixed}
    return {g: n for g, n in noises.items() if n > _SILENT}


class Search:
    """`judge` scores a choice of groups with 16 bits; `limit`: the largest share of the work that
    these may be."""

    def __init__(
        self,
        noises: dict[Group, float],
        price: dict[Group, float],
        judge: Callable[[list[Group]], float],
        limit: float,
        tries: int,
    ) -> None:
        self.noises, self.price, self.judge = noises, price, judge
        self.limit, self.tries = limit, tries
        self.chosen: list[Group] = []
        self.score = self.value = 0.0
        self._seen: dict[frozenset[Group], float] = {}

    def run(self, score: float) -> list[Widened]:
        """`score` without 16 bits. What is chosen is in `chosen` and `score`."""
        self.score, self.value = score, worth(score)
        noises, price = self.noises, self.price
        orders = [
            sorted(noises, key=lambda g: (-noises[g] / (price[g] + 0.01), g.name)),
            sorted(noises, key=lambda g: (-noises[g], g.name)),
        ]
        for order in orders:
            for count in _prefixes(len(order)):
                self.consider(order[:count])
        for g in orders[1][:SINGLE]:
            if g not in self.chosen:
                self.consider([*self.chosen, g])
        self.take_back()
        return [Widened(g.name, self.gain(g), price[g]) for g in self.chosen]

    def consider(self, choice: list[Group]) -> bool:
        """Takes a choice that is better than the best so far."""
        cost = sum(self.price[g] for g in choice)
        key = frozenset(choice)
        if cost > self.limit + 1e-9 or key in self._seen:
            return False
        score = self._seen[key] = self.judge(choice)
        value = worth(score) - PRICE * cost
        if value <= self.value:
            return False
        self.chosen, self.score, self.value = choice, score, value
        return True

    def take_back(self) -> None:
        size = len(self.chosen) // 2
        while size >= 1 and self.tries > 0:
            queue = sorted(
                self.chosen, key=lambda g: (self.noises[g] / (self.price[g] + 1e-9), g.name)
            )
            for start in range(0, len(queue), size):
                if self.tries <= 0:
                    break
                self.tries -= 1
                gone = set(queue[start : start + size])
                self.consider([g for g in self.chosen if g not in gone])
            size //= 2

    def gain(self, g: Group) -> float:
        """dB that the group brings, where that was tried; else what its noise tells."""
        without = self._seen.get(frozenset(self.chosen) - {g})
        if without is not None:
            return self.score - without
        return float(10 * np.log10(1 + self.noises[g] * 10 ** (self.score / 10)))


def _prefixes(count: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16 ... and all."""
    sizes = {count}
    k = 1
    while k < count:
        sizes |= {k, min(k + k // 2, count)}
        k *= 2
    return sorted(s for s in sizes if s > 0)
