# SPDX-License-Identifier: Apache-2.0
"""Which tensors get 16 bits: those whose 8 bits cost more accuracy than 16 bits cost time.

Tensors are tried in the order of the noise that 8 bits put on them for what 16 bits would cost; the
score of the integers decides how many stay, and then of each again whether it is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..format.cost import macs
from ..ir.graph import Graph
from .observe import LAYERS, Statistics
from .ranges import Range, noise
from .scheme import Group, Scheme, is_float

_SILENT = 1e-7  # relative noise of 8 bits that nobody would notice
_ELEMENT = 8.0  # an element that an op moves costs as much as so many multiplications
_TRIES = 16  # single tensors that are taken back on trial
_ONLY_8 = ("LOG_SOFTMAX",)

# What a dB is worth where it is missing, and where there are enough; the price of time.
_FLOOR, _ENOUGH = 20.0, 30.0
_BELOW, _ABOVE = 2.0, 0.2
PRICE = 10.0  # dB that twice the time must bring


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
    """Share of the network's work that reads or writes each group."""
    found: dict[Group, float] = dict.fromkeys(scheme.groups, 0.0)
    total = 0.0
    for node in graph.nodes:
        shapes = [t.shape for t in node.inputs if t is not None]
        work = _ELEMENT * sum(t.elements for t in node.outputs)
        if node.op in LAYERS:
            work += macs(node.op, shapes, node.output.shape)
        total += work
        reads = {scheme.of[t] for t in node.inputs if t is not None and is_float(t)}
        for g in reads:
            found[g] += work / len(reads)
        for t in node.outputs:
            if is_float(t):
                found[scheme.of[t]] += _ELEMENT * t.elements / 2
    return {g: min(cost / max(total, 1.0), 1.0) for g, cost in found.items()}


def candidates(
    scheme: Scheme, statistics: Statistics, ranges: dict[Group, Range], price: dict[Group, float]
) -> list[Group]:
    """Groups that could gain, those first that should gain most for their price."""

    def own(g: Group) -> float:
        seen = [t for t in g.tensors if t in statistics.tensors]
        return max((noise(statistics.tensors[t], ranges[g], 8) for t in seen), default=0.0)

    noises = {g: own(g) for g in scheme.groups if g.op not in _ONLY_8}
    able = [g for g, n in noises.items() if n > _SILENT]
    return sorted(able, key=lambda g: (-noises[g] / (price[g] + 0.01), g.name))


def widen(
    order: list[Group],
    price: dict[Group, float],
    judge: Callable[[list[Group]], float],
    score: float,
    limit: float,
) -> tuple[list[Group], float, list[Widened]]:
    """The groups to widen, the score with them, what each of them brings.

    `judge` scores a choice; `limit`: the largest share of the work in 16 bits.
    """

    def value(chosen: list[Group], reached: float) -> float:
        return worth(reached) - PRICE * sum(price[g] for g in chosen)

    def fits(chosen: list[Group]) -> bool:
        return sum(price[g] for g in chosen) <= limit

    best: tuple[float, list[Group], float] = (value([], score), [], score)
    for count in _prefixes(len(order)):
        chosen = order[:count]
        if not fits(chosen):
            break
        reached = judge(chosen)
        if value(chosen, reached) > best[0]:
            best = (value(chosen, reached), chosen, reached)
    _, chosen, reached = best
    gains: dict[Group, float] = {}
    for g in sorted(chosen, key=lambda g: (-price[g], g.name))[:_TRIES]:
        without = [other for other in chosen if other is not g]
        less = judge(without)
        gains[g] = reached - less
        if value(without, less) >= value(chosen, reached):
            chosen, reached = without, less
    listed = [Widened(g.name, gains.get(g, 0.0), price[g]) for g in chosen]
    return chosen, reached, listed


def _prefixes(count: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16 ... and all."""
    sizes = {count}
    k = 1
    while k < count:
        sizes |= {k, min(k + k // 2, count)}
        k *= 2
    return sorted(s for s in sizes if s > 0)
