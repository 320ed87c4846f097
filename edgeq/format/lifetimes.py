# SPDX-License-Identifier: Apache-2.0
"""The reader's check of the memory plan: when each tensor lives, and that none is overwritten."""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from ..errors import FormatError
from . import spec
from .image import MemoryPlan, Op, Tensor


def _fail(text: str) -> NoReturn:
    raise FormatError(text)


def check_lifetimes(tensors: Sequence[Tensor], ops: Sequence[Op], outputs: Sequence[int]) -> None:
    """Compares the lifetimes that the file claims with those that its ops and outputs have."""
    steps = {t.index: [0, 0] for t in tensors if t.kind == "input"}

    def read(tensor: int, step: int, what: str) -> None:
        owner = tensors[tensor].storage
        if tensors[owner].kind == "const":
            return
        if owner not in steps:
            _fail(f"{what} reads tensor {tensor} before it is written")
        steps[owner][1] = step

    for op in ops:
        step, what = op.index + 1, f"op {op.index} {op.opcode} {op.name!r}"
        for tensor in op.inputs:
            read(tensor, step, what)
        if op.output in steps:
            _fail(f"{what} writes tensor {op.output} a second time")
        steps[op.output] = [step, step]
    for i, tensor in enumerate(outputs):
        read(tensor, len(ops) + 1, f"output {i}")
    for t in tensors:
        if not t.in_arena:
            continue
        if t.index not in steps:
            _fail(f"tensor {t.index}: no op writes it")
        first, last = steps[t.index]
        if (t.first_step, t.last_step) != (first, last):
            claim = f"step {t.first_step} to {t.last_step}"
            _fail(
                f"tensor {t.index}: it claims to live from {claim}, the ops say {first} to {last}"
            )


class _Claim(NamedTuple):
    start: int
    end: int
    tensor: int

    @property
    def padded(self) -> int:
        return -(-(self.end - self.start) // spec.ARENA_ALIGN) * spec.ARENA_ALIGN


def check_overlap(tensors: Sequence[Tensor], ops: Sequence[Op], arena_size: int) -> MemoryPlan:
    """Goes through time with a list of what is alive, sorted by place.

    Relies on check_lifetimes(), and on the tensors' order, which is that of their first steps.
    """
    steps = len(ops) + 2
    dying: list[list[_Claim]] = [[] for _ in range(steps)]
    alive: list[_Claim] = []
    live, now = [0] * steps, 0
    inplace = []
    owners = iter([t for t in tensors if t.in_arena])
    t = next(owners, None)
    for step in range(steps):
        while t is not None and t.first_step == step:
            claim = _Claim(t.offset, t.offset + t.nbytes, t.index)
            under = _find_overlap(alive, claim)
            if under is not None and _is_inplace(tensors, ops, under.tensor, t):
                alive.remove(under)
                dying[step].remove(under)
                now -= under.padded
                inplace.append((step - 1, under.tensor))
                under = _find_overlap(alive, claim)
            if under is not None:
                _fail(f"tensors {under.tensor} and {t.index} share memory at step {step}")
            insort(alive, claim)
            dying[t.last_step].append(claim)
            now += claim.padded
            t = next(owners, None)
        live[step] = now
        for claim in dying[step]:
            del alive[bisect(alive, claim) - 1]
            now -= claim.padded
    return MemoryPlan(arena_size, tuple(live), tuple(inplace))


def _find_overlap(alive: Sequence[_Claim], claim: _Claim) -> _Claim | None:
    """One of the disjoint, sorted `alive` that shares a byte with `claim`."""
    at = bisect(alive, claim)
    for other in alive[max(at - 1, 0) : at + 1]:
        if other.start < claim.end and claim.start < other.end:
            return other
    return None


def _is_inplace(tensors: Sequence[Tensor], ops: Sequence[Op], under: int, t: Tensor) -> bool:
    """Whether the output `t` may lie on tensor `under`, an input of its op that dies there."""
    if t.first_step == 0:
        return False
    op, early = ops[t.first_step - 1], tensors[under]
    return (
        spec.OPS[op.opcode].inplace
        and early.last_step == t.first_step
        and early.offset == t.offset
        and early.shape == t.shape
        and spec.ITEMSIZE[early.dtype] == spec.ITEMSIZE[t.dtype]
        and under in op.inputs
        and all(i == under or tensors[i].storage != under for i in op.inputs)
    )
