# SPDX-License-Identifier: Apache-2.0
"""What reader.read_program() finds in an .eqm file. Indices count in the file's own tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from .program import Array
from .spec import ITEMSIZE


@dataclass(frozen=True)
class Header:
    version: tuple[int, int]
    section_count: int
    file_size: int
    arena_size: int


@dataclass(frozen=True)
class Section:
    """`type` as in spec.SECTIONS; sections of unknown types are listed, too."""

    type: str
    flags: int
    offset: int
    size: int
    crc: int
    layout: int


@dataclass(frozen=True, eq=False)
class Tensor:
    """`kind` is a key of spec.KINDS; `data` is the array of a constant, None for all others."""

    index: int
    dtype: str
    kind: str
    shape: tuple[int, ...]
    storage: int
    first_step: int
    last_step: int
    offset: int
    scale: float
    zero_point: int
    data: Array | None = None

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * ITEMSIZE[self.dtype]

    @property
    def in_arena(self) -> bool:
        """Whether it owns bytes of the arena."""
        return self.kind in ("activation", "input")


@dataclass(frozen=True, eq=False)
class Op:
    """`params` as in spec.OPS; refs are arrays, or None where they are absent."""

    index: int
    opcode: str
    name: str
    inputs: tuple[int, ...]
    output: int
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Port:
    name: str
    tensor: int
    dtype: str
    scale: float
    zero_point: int
    labels: str


@dataclass(frozen=True)
class Entry:
    name: str
    first_op: int
    op_count: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


@dataclass(frozen=True)
class Golden:
    seed: int
    entry: int
    sha256: bytes


@dataclass(frozen=True, eq=False)
class Picture:
    """How pictures become input number `input`; as program.Picture has it."""

    input: int
    fit: str
    order: str
    channels_first: bool
    crop: int
    pad: tuple[int, int, int]
    table: Array


@dataclass(frozen=True)
class MemoryPlan:
    """`live[s]`: bytes in use at step s, bytes that two tensors share in place counted once.

    `inplace`: (op, the input that its output lies on). No plan with the same work in place can be
    smaller than `lower_bound`, which is reached at step `peak_step` first.
    """

    arena_size: int
    live: tuple[int, ...]
    inplace: tuple[tuple[int, int], ...]

    @property
    def lower_bound(self) -> int:
        return max(self.live, default=0)

    @property
    def peak_step(self) -> int:
        return self.live.index(self.lower_bound)


@dataclass(frozen=True, eq=False)
class Image:
    header: Header
    sections: tuple[Section, ...]
    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    entries: tuple[Entry, ...]
    metadata: Mapping[str, str]
    golden: tuple[Golden, ...]
    plan: MemoryPlan
    pictures: tuple[Picture, ...] = ()

    @property
    def inputs(self) -> tuple[Port, ...]:
        return self.entries[0].inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        return self.entries[0].outputs
