# SPDX-License-Identifier: Apache-2.0
"""Operators against the machine: the share of the peak that they reach, the bytes that they move.

The peak of an instruction set is what its multiplications of int8 numbers do in registers alone, on
one core. Memory is not measured: an operator with few multiply-accumulates a byte cannot come near.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..format.image import Image
from ..runtime import _core
from ..runtime.model import Model
from ..runtime.session import OpProfile
from . import text
from .network import op_macs

_TURNS = 400_000  # about a millisecond
_REPEATS = 7


@dataclass(frozen=True)
class Row:
    """`peak_share` is None where the peak of the op's instruction set is not known, or no MAC."""

    macs_per_second: float
    peak_share: float | None
    bytes_moved: int
    macs_per_byte: float


def peaks(model: Model) -> dict[str, float]:
    """Multiply-accumulates a second of each instruction set that the model's ops use."""
    used = {op.kernel for op in model.ops}
    found = {}
    for index, (name, missing) in enumerate(_core.isas()):
        if name in used and not missing and _core.peak(index, 1):
            found[name] = max(_rate(index) for _ in range(_REPEATS))
    return found


def _rate(index: int) -> float:
    begin = time.perf_counter()
    macs = _core.peak(index, _TURNS)
    return macs / (time.perf_counter() - begin)


def rows(
    image: Image, ops: Sequence[OpProfile], peaks: dict[str, float], threads: int
) -> list[Row]:
    """One an op, at its fastest run. Against `threads` times the peak of a core."""
    found = []
    for op, macs, moved in zip(ops, op_macs(image), _bytes_moved(image)):
        rate = macs / max(op.minimum, 1) * 1e9
        peak = peaks.get(op.kernel)
        share = rate / (peak * threads) if peak and macs else None
        found.append(Row(rate, share, moved, macs / max(moved, 1)))
    return found


def _bytes_moved(image: Image) -> list[int]:
    """Inputs, weights, parameters and output of each op, each once."""
    return [
        sum(image.tensors[i].nbytes for i in (*op.inputs, op.output))
        + sum(p.nbytes for p in op.params.values() if isinstance(p, np.ndarray))
        for op in image.ops
    ]


def table(
    image: Image, ops: Sequence[OpProfile], found: Sequence[Row], peaks: dict[str, float]
) -> str:
    """For people."""
    cells = [
        (
            op.index,
            op.type,
            op.name,
            op.kernel,
            text.duration(op.minimum),
            text.short(row.macs_per_second) if row.macs_per_second else "",
            f"{row.peak_share:.0%}" if row.peak_share is not None else "",
            text.count(row.bytes_moved),
            f"{row.macs_per_byte:.1f}" if row.macs_per_second else "",
            text.short(row.bytes_moved / max(op.minimum, 1) * 1e9),
        )
        for op, row in zip(ops, found)
    ]
    headers = ("op", "type", "name", "kernel", "minimum", "MAC/s", "of peak", "bytes", "MAC/byte")
    known = [f"{name} {text.short(peak)} MAC/s" for name, peak in peaks.items()]
    lines = [text.table(cells, (*headers, "bytes/s"))]
    lines.append("\npeak of a core in registers: " + (", ".join(known) or "not known here"))
    return "\n".join(lines)
