# SPDX-License-Identifier: Apache-2.0
"""What calibration samples look like by themselves: too few, constant, repeated, far off."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..ir.graph import Graph
from .samples import Array, Input

FEW = 32  # distinct samples
_NAMED = 3  # samples that a warning names
_FAR = 4.0  # times the range that the network expects


@dataclass(frozen=True)
class Finding:
    """`kind`: "skipped", "few", "constant", "duplicates", "same", "range", "scale" or "order";
    `text`: a sentence for people. A hint is likely, but may be wrong; anything else is a fact.
    """

    kind: str
    text: str
    hint: bool = False

    def __str__(self) -> str:
        return self.text


@dataclass
class Statistics:
    """Of an input over all samples; per channel along the last axis but for `low` and `high`."""

    low: float = np.inf
    high: float = -np.inf
    count: int = 0
    constant: list[str] = field(default_factory=list)  # samples of one value
    same: bool = True  # all samples so far are equal
    first: Array | None = None
    total: float = 0.0
    squares: float = 0.0

    def add(self, name: str, a: Array) -> None:
        low, high = float(a.min()), float(a.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        if low == high and a.size > 1:
            self.constant.append(name)
        if self.first is None:
            self.first = a.copy()
        elif self.same:
            self.same = np.array_equal(self.first, a)
        values = a.astype(np.float64)
        self.count += a.size
        self.total += float(values.sum())
        self.squares += float(np.square(values).sum())

    @property
    def mean(self) -> float:
        return self.total / max(self.count, 1)

    @property
    def std(self) -> float:
        return float(np.sqrt(max(self.squares / max(self.count, 1) - self.mean**2, 0.0)))


class Observer:
    """Sees every sample once and keeps little of it.

    `expected`: by the input's name the range of values that the network was made for, where that is
    known: from a quantized form of it, or a fake quantization in it.
    """

    def __init__(
        self, inputs: Sequence[Input], expected: Mapping[str, tuple[float, float]] | None = None
    ) -> None:
        self.statistics = {t.name: Statistics() for t in inputs}
        self.samples = 0
        self._expected = dict(expected or {})
        self._seen: dict[bytes, str] = {}
        self._repeated: list[tuple[str, str]] = []

    def add(self, feed: Mapping[str, Array], name: str = "") -> None:
        """One more sample; `name` as Samples.named() has it."""
        name = name or f"sample {self.samples}"
        self.samples += 1
        digest = hashlib.blake2b(digest_size=16)
        for key, statistics in self.statistics.items():
            a = np.asarray(feed[key])
            statistics.add(name, a)
            digest.update(np.ascontiguousarray(a).tobytes())
        earlier = self._seen.setdefault(digest.digest(), name)
        if earlier is not name:
            self._repeated.append((name, earlier))

    def findings(self, skipped: Sequence[str] = ()) -> list[Finding]:
        """What can be said of the samples so far, and of those that Samples.skipped names."""
        found = []
        if skipped:
            bad, of = _counted(len(skipped), "bad sample"), len(skipped) + self.samples
            found.append(Finding("skipped", f"{bad} left out of {of}: {_listed(skipped)}"))
        distinct = self.samples - len(self._repeated)
        if distinct < FEW:
            found.append(
                Finding(
                    "few",
                    f"{_counted(distinct, 'distinct sample')}: ranges come out by chance; "
                    f"at least {FEW}, usually 100 to 500, as different as in use",
                )
            )
        if self._repeated:
            pairs = [f"{a} = {b}" for a, b in self._repeated]
            found.append(
                Finding(
                    "duplicates",
                    f"{len(pairs)} of {self.samples} samples repeat others: {_listed(pairs)}",
                )
            )
        for name, s in self.statistics.items():
            found += self._of_input(name, s)
        return found

    def _of_input(self, name: str, s: Statistics) -> list[Finding]:
        found = []
        if s.constant:
            found.append(
                Finding(
                    "constant",
                    f"input {name!r}: {len(s.constant)} of {self.samples} samples are one value "
                    f"throughout: {_listed(s.constant)}",
                )
            )
        if self.samples > 1 and s.same and len(self.statistics) > 1:
            found.append(Finding("same", f"input {name!r} is the same in all samples"))
        if name in self._expected and self.samples:
            found += _far(name, s, *self._expected[name])
        return found


def expected_ranges(graph: Graph) -> dict[str, tuple[float, float]]:
    """By the input's name the values that a quantized form of it can hold, where there is one:
    its own, or that of the QUANTIZE behind it."""
    consumers = graph.consumers()
    found = {}
    for t in graph.inputs:
        behind = [n.output for n in consumers.get(t, []) if n.op == "QUANTIZE"]
        for made in (t, *behind):
            q = made.qparams
            if q is not None and not q.per_channel and made.dtype in ("int8", "int16"):
                info = np.iinfo(made.dtype)
                low, high = (float(q.scale) * (v - q.zero_point) for v in (info.min, info.max))
                found[t.name] = low, high
    return found


def _far(name: str, s: Statistics, low: float, high: float) -> list[Finding]:
    """A range that leaves most of the expected one unused, or leaves it by far."""
    expected, given = f"{low:.4g} … {high:.4g}", f"{s.low:.4g} … {s.high:.4g}"
    width, seen = high - low, s.high - s.low
    outside = max(low - s.low, s.high - high, 0.0)
    if outside > (_FAR - 1) / 2 * width or seen * _FAR < width or s.low >= high or s.high <= low:
        text = f"input {name!r} holds values from {given}; the network was made for {expected}"
        return [Finding("range", text)]
    return []


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
