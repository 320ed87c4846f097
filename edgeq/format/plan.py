# SPDX-License-Identifier: Apache-2.0
"""The memory plan: where each tensor of a program lies in the arena.

Time runs in steps: inputs are written at step 0, op k runs at step k + 1, outputs are read at step
len(ops) + 1. A tensor is alive from the step that writes it to the last one that reads it, both
included; tensors that are alive at the same step share no byte. The one exception is work in place:
an op that allows it may write its output exactly over an input that dies there.

Placing blocks of given lifetimes in the least memory is NP-hard (dynamic storage allocation). Here
blocks are placed one after another, each in the best gap that its neighbours in time leave; what is
searched is the order, and which outputs lie on an input. The search ends at the lower bound (the
most bytes alive at one step), which most networks reach at once, or when its fixed budget is spent.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from . import spec
from .program import Op, Program, Value

SEARCH_BUDGET = 2_000_000  # visits of a neighbour while placing: about 0.2 s
_STALL = 20  # tries without success before the search starts again elsewhere


@dataclass(frozen=True)
class Place:
    """Where a tensor lies: `size` bytes at `offset`, in use from `first_step` to `last_step`."""

    offset: int
    size: int
    first_step: int
    last_step: int


@dataclass(frozen=True)
class Plan:
    """`places` has every tensor that owns bytes of the arena: inputs, then results in op order."""

    places: Mapping[Value, Place]
    arena_size: int
    lower_bound: int


def plan(program: Program) -> Plan:
    """Lays out the arena of `program`; the same program always gives the same plan."""
    spans = lifetimes(program)
    tensors = _Tensors(
        values=list(spans),
        size=[_align(storage_bytes(v)) for v in spans],
        first=[first for first, _ in spans.values()],
        last=[last for _, last in spans.values()],
        below=_inplace_choices(program, spans),
    )
    bound = _lower_bound(tensors)
    peak, offsets = _Search(tensors, bound).run()
    places = {
        v: Place(offsets[i], storage_bytes(v), tensors.first[i], tensors.last[i])
        for i, v in enumerate(tensors.values)
    }
    return Plan(places, peak, bound)


def storage_bytes(value: Value) -> int:
    """The bytes that a tensor takes in the arena or in the file."""
    count = spec.ITEMSIZE[value.dtype]
    for d in value.shape:
        count *= d
    return count


def lifetimes(program: Program) -> dict[Value, tuple[int, int]]:
    """(first step, last step) of every owner in the arena: inputs, then results in op order.

    Raises AssertionError where the program reads what was not written or writes something twice.
    """
    spans: dict[Value, tuple[int, int]] = {}

    def write(value: Value, step: int) -> None:
        assert value.view_of is None, f"{value.name!r} is a view and is written"
        assert value.data is None, f"{value.name!r} is constant and is written"
        assert value not in spans, f"{value.name!r} is written twice"
        spans[value] = (step, step)

    def read(value: Value, step: int) -> None:
        owner = value.owner
        if owner.data is None:
            assert owner in spans, f"{value.name!r} is read at step {step} and not yet written"
            spans[owner] = (spans[owner][0], step)

    for port in program.inputs:
        write(port.value, 0)
    for step, op in enumerate(program.ops, 1):
        for value in op.inputs:
            read(value, step)
        write(op.output, step)
    for port in program.outputs:
        read(port.value, len(program.ops) + 1)
    return spans


def _align(size: int) -> int:
    return -(-size // spec.ARENA_ALIGN) * spec.ARENA_ALIGN


def _inplace_choices(program: Program, spans: dict[Value, tuple[int, int]]) -> list[list[int]]:
    """For each tensor the indices of those that it may be written over."""
    index = {v: i for i, v in enumerate(spans)}
    choices: list[list[int]] = [[] for _ in program.inputs]
    for step, op in enumerate(program.ops, 1):
        found: list[int] = []
        for value in op.inputs:
            if _may_overwrite(op, value) and spans[value][1] == step and index[value] not in found:
                found.append(index[value])
        choices.append(found)
    return choices


def _may_overwrite(op: Op, value: Value) -> bool:
    return (
        spec.OPS[op.opcode].inplace
        and value.view_of is None
        and value.data is None
        and value.shape == op.output.shape
        and spec.ITEMSIZE[value.dtype] == spec.ITEMSIZE[op.output.dtype]
        and all(other is value or other.owner is not value for other in op.inputs)
    )


@dataclass(frozen=True)
class _Tensors:
    """Parallel lists; a tensor is an index. `below`: those that this one may be written over."""

    values: list[Value]
    size: list[int]  # multiples of the alignment
    first: list[int]
    last: list[int]
    below: list[list[int]]


def _lower_bound(t: _Tensors) -> int:
    """The most bytes alive at one step when everything that can be done in place is."""
    change = [0] * (max(t.last, default=0) + 2)
    for size, first, last, below in zip(t.size, t.first, t.last, t.below):
        # Over an input, the output takes no room before the step is over.
        change[first + 1 if below else first] += size
        change[last + 1] -= size
    alive = peak = 0
    for delta in change:
        alive += delta
        peak = max(peak, alive)
    return peak


class _Blocks:
    """The blocks to place when tensor i is written over tensor over[i] (-1: over nothing)."""

    def __init__(self, t: _Tensors, over: Sequence[int]) -> None:
        self.of: list[int] = []  # tensor -> block
        self.size: list[int] = []
        first: list[int] = []
        last: list[int] = []
        for i, below in enumerate(over):
            if below >= 0:
                block = self.of[below]
                last[block] = t.last[i]
            else:
                block = len(self.size)
                self.size.append(t.size[i])
                first.append(t.first[i])
                last.append(t.last[i])
            self.of.append(block)
        self.span = [end - start + 1 for start, end in zip(first, last)]
        self.near = _neighbours(first, last)
        self.visits = 0  # of neighbours, by the last call of pack()

    def order(self, ranking: Sequence[int]) -> list[int]:
        """The blocks in the order in which a ranking of the tensors names them first."""
        return list(dict.fromkeys(self.of[i] for i in ranking))

    def pack(
        self, order: Sequence[int], best_fit: bool, limit: int
    ) -> tuple[int, list[int]] | None:
        """(peak, offset of each block); None if the peak would pass `limit`.

        Each block goes into the smallest gap that holds it (best fit) or into the lowest one.
        """
        spans: list[tuple[int, int] | None] = [None] * len(self.size)
        peak = 0
        self.visits = len(order)
        for block in order:
            size, near = self.size[block], self.near[block]
            self.visits += len(near)
            taken = sorted([s for j in near if (s := spans[j]) is not None])
            start = _find_gap(taken, size, best_fit)
            spans[block] = (start, start + size)
            if start + size > peak:
                peak = start + size
                if peak > limit:
                    return None
        return peak, [s[0] for s in spans if s is not None]


def _neighbours(first: Sequence[int], last: Sequence[int]) -> list[list[int]]:
    """For each block all those that are alive at some step of its life."""
    near: list[list[int]] = [[] for _ in first]
    alive: list[int] = []
    for i in sorted(range(len(first)), key=lambda i: first[i]):
        alive = [j for j in alive if last[j] >= first[i]]
        for j in alive:
            near[j].append(i)
        near[i].extend(alive)
        alive.append(i)
    return near


def _find_gap(taken: Sequence[tuple[int, int]], size: int, best_fit: bool) -> int:
    """The start of a gap of `size` bytes between the sorted intervals, or their end."""
    start = best = -1
    end = 0
    for low, high in taken:
        gap = low - end
        if gap >= size and (best < 0 or gap < best):
            start, best = end, gap
            if not best_fit:
                return start
        if high > end:
            end = high
    return start if best >= 0 else end


class _Search:
    """Looks for the order and the work in place that need the least memory, within the budget."""

    def __init__(self, t: _Tensors, bound: int) -> None:
        self.t = t
        self.bound = bound
        self.budget = SEARCH_BUDGET
        self.random = random.Random(2024).random  # the same on every version of Python
        self.peak = sum(t.size) + 1
        self.offsets: list[int] = []
        self.best: tuple[list[int], list[int]] = ([], [])  # ranking, over

    def run(self) -> tuple[int, list[int]]:
        """(peak, offset of each tensor)."""
        t = self.t
        inplace = [below[0] if below else -1 for below in t.below]
        for over in (inplace, [-1] * len(inplace)):
            blocks = _Blocks(t, over)
            for key in _rankings(t, blocks):
                ranking = sorted(range(len(t.size)), key=key, reverse=True)
                for best_fit in (True, False):
                    self._try(blocks, ranking, over, best_fit, self.peak - 1)
                    if self._done():
                        return self.peak, self.offsets
        while not self._done():
            self._climb()
        return self.peak, self.offsets

    def _done(self) -> bool:
        return bool(self.offsets or not self.t.size) and (
            self.peak <= self.bound or self.budget <= 0 or not self.t.size
        )

    def _try(
        self, blocks: _Blocks, ranking: list[int], over: list[int], best_fit: bool, limit: int
    ) -> tuple[int, list[int]] | None:
        """Places the blocks; keeps the result where it is the best so far."""
        packed = blocks.pack(blocks.order(ranking), best_fit, limit)
        self.budget -= blocks.visits
        if packed is None:
            return None
        peak, offset = packed
        offsets = [offset[block] for block in blocks.of]
        if peak < self.peak:
            self.peak, self.offsets, self.best = peak, offsets, (ranking, over)
        return peak, offsets

    def _climb(self) -> None:
        """Changes the best solution, or a random one, step by step until that stops helping."""
        t = self.t
        ranking, over = list(self.best[0]), list(self.best[1])
        if self.random() < 0.5:
            weight = [size * (0.5 + self.random()) for size in t.size]
            ranking.sort(key=lambda i: weight[i], reverse=True)
        best_fit = self.random() < 0.5
        blocks = _Blocks(t, over)
        current = self._try(blocks, ranking, over, best_fit, sum(t.size))
        stalled = 0
        while current is not None and stalled < _STALL and not self._done():
            peak, offsets = current
            changed, changed_over = self._step(ranking, over, peak, offsets)
            changed_blocks = blocks if changed_over is over else _Blocks(t, changed_over)
            result = self._try(changed_blocks, changed, changed_over, best_fit, peak)
            stalled += 1
            if result is not None:
                stalled = 0 if result[0] < peak else stalled
                ranking, over, blocks, current = changed, changed_over, changed_blocks, result

    def _step(
        self, ranking: list[int], over: list[int], peak: int, offsets: list[int]
    ) -> tuple[list[int], list[int]]:
        """A neighbouring solution: other work in place, or a topmost tensor placed earlier."""
        t = self.t
        choosers = [i for i, below in enumerate(t.below) if below]
        if choosers and self.random() < 0.1:
            i = self._pick(choosers)
            options = [j for j in [-1, *t.below[i]] if j != over[i]]
            changed_over = list(over)
            changed_over[i] = self._pick(options)
            return ranking, changed_over
        moved = self._pick([i for i, at in enumerate(offsets) if at + t.size[i] == peak])
        changed = list(ranking)
        position = changed.index(moved)
        changed.insert(int(self.random() * position), changed.pop(position))
        return changed, over

    def _pick(self, items: Sequence[int]) -> int:
        return items[int(self.random() * len(items))]


def _rankings(t: _Tensors, blocks: _Blocks) -> list[Callable[[int], tuple[int, ...]]]:
    """What is placed first: the big, the long-lived and big, what is alive in the fullest step."""

    def block_size(i: int) -> int:
        return blocks.size[blocks.of[i]]

    def span(i: int) -> int:
        return blocks.span[blocks.of[i]]

    breadth = _breadth(t)

    def fullest(i: int) -> int:
        return max(breadth[t.first[i] : t.last[i] + 1])

    return [
        lambda i: (block_size(i), span(i), -i),
        lambda i: (block_size(i) * span(i), block_size(i), -i),
        lambda i: (fullest(i), block_size(i), -i),
        lambda i: (fullest(i), span(i), -i),
        lambda i: (span(i), block_size(i), -i),
    ]


def _breadth(t: _Tensors) -> list[int]:
    """The bytes alive at each step."""
    alive = [0] * (max(t.last, default=0) + 2)
    for size, first, last in zip(t.size, t.first, t.last):
        alive[first] += size
        alive[last + 1] -= size
    for i in range(1, len(alive)):
        alive[i] += alive[i - 1]
    return alive
