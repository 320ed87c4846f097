# SPDX-License-Identifier: Apache-2.0
"""The integer-only program that lowering makes and the writer puts into an .eqm file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
Param = "int | tuple[int, ...] | Array | None"


@dataclass(eq=False)
class Value:
    """A tensor of the program. Constants have `data`; a view has `view_of` and the same bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float = 0.0
    zero_point: int = 0
    data: Array | None = None
    view_of: Value | None = None

    @property
    def owner(self) -> Value:
        v = self
        while v.view_of is not None:
            v = v.view_of
        return v


@dataclass(eq=False)
class Op:
    """`opcode` and the keys of `params` are those of spec.PARAMS; arrays become refs into DATA."""

    opcode: str
    name: str
    inputs: list[Value]
    output: Value
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Port:
    """An input or output as the caller sees it: dtype, scale and zero point of the source."""

    name: str
    value: Value
    dtype: str
    scale: float = 0.0
    zero_point: int = 0
    labels: str = ""


@dataclass(eq=False)
class Picture:
    """How pictures become the input `port`; `fit` and `order` as in spec.FITS and spec.ORDERS.

    `crop`: the central part that is kept, in 65536ths. `pad`: the colour around it, as RGB.
    `table`: [C][256] of the input's dtype, what it holds for each value of a pixel.
    """

    port: Port
    fit: str
    order: str
    channels_first: bool
    crop: int
    pad: tuple[int, int, int]
    table: Array


@dataclass(eq=False)
class Program:
    """`notes` are for the report of the conversion and do not go into the file."""

    ops: list[Op]
    inputs: list[Port]
    outputs: list[Port]
    metadata: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
