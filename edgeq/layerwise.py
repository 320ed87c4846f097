# SPDX-License-Identifier: Apache-2.0
"""An .eqm file beside the float network that it was made from, layer by layer.

The importers and float passes make the same layers of the same names of the float network as they
did when the file was made; what onnxruntime computes for them is compared with what edgeq does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .converter import read_network
from .errors import ArgumentError
from .format.reader import read_program
from .format.watch import MAX_WATCHED, watched
from .format.writer import short_name, write_program
from .runtime.model import Model
from .runtime.session import Session

if TYPE_CHECKING:
    from .converter import Source
    from .format.image import Image
    from .format.program import Array
    from .ir.graph import Graph, Tensor

    Tell = Callable[[str, float], None]

BEST = 99.0  # dB without any error
_SCALED = 10.0  # dB by which factors for the channels must help to be believed
_SCALABLE = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")


@dataclass(frozen=True)
class LayerComparison:
    """An operator of the file. `sqnr`: dB of the float network's values to the difference; with
    `scaled`, after each channel got the factor that fits best: cross-layer equalization leaves
    such factors, which the next layer takes back. `low`, `high`: extremes in float."""

    index: int
    name: str
    op: str
    shape: tuple[int, ...]
    sqnr: float
    scaled: bool
    low: float
    high: float


@dataclass(frozen=True)
class Layerwise:
    """`only_file`: names of operators that the float network does not have, or not in this shape;
    `only_float`: the other way round."""

    samples: int
    layers: tuple[LayerComparison, ...]
    only_file: tuple[str, ...]
    only_float: tuple[str, ...]

    def worst(self) -> LayerComparison:
        return min(self.layers, key=lambda layer: layer.sqnr)


@dataclass
class _Sums:
    """Over samples, of each channel: squares of the float values, of the integers', products."""

    float_squares: Array = field(default_factory=lambda: np.zeros(1))
    own_squares: Array = field(default_factory=lambda: np.zeros(1))
    products: Array = field(default_factory=lambda: np.zeros(1))
    low: float = np.inf
    high: float = -np.inf

    def add(self, exact: Array, own: Array) -> None:
        channels = exact.shape[-1] if exact.ndim > 1 else 1
        a, b = (np.asarray(x, np.float64).reshape(-1, channels) for x in (exact, own))
        self.float_squares = self.float_squares + (a * a).sum(0)
        self.own_squares = self.own_squares + (b * b).sum(0)
        self.products = self.products + (a * b).sum(0)
        self.low, self.high = min(self.low, float(a.min())), max(self.high, float(a.max()))

    def sqnr(self, scalable: bool) -> tuple[float, bool]:
        """dB, and whether channels were scaled for it."""
        error = self.float_squares - 2 * self.products + self.own_squares
        plain = _decibels(self.float_squares, error)
        if not scalable:
            return plain, False
        used = (self.own_squares > 0) & (self.products > 0)
        factors = np.where(used, self.products / np.where(used, self.own_squares, 1), 1)
        rest = self.float_squares - 2 * factors * self.products + factors**2 * self.own_squares
        fitted = _decibels(self.float_squares, rest)
        return (fitted, True) if fitted > plain + _SCALED else (plain, False)


def _decibels(signal: Array, error: Array) -> float:
    s, e = float(signal.sum()), float(np.maximum(error, 0).sum())
    if e <= 10 ** (-BEST / 10) * s:
        return BEST
    return float(np.clip(10 * np.log10(max(s, 1e-300) / e), -BEST, BEST))


class Comparison:
    """A file and its float network. `graph`'s inputs are what samples are read for.

    Raises ArgumentError where `source` is no float network or another one than the file's,
    FormatError, UnsupportedError, DependencyError, OSError.
    """

    def __init__(
        self,
        eqm: bytes,
        source: Source,
        input_shapes: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        from .passes import float_nodes, run_float_passes
        from .quantize.execute import FloatRunner

        graph = read_network(source, input_shapes)
        if not float_nodes(graph):
            raise ArgumentError(
                "the network to compare with is quantized; layers are compared with those of the "
                "float network (edgeq eval compares any networks)"
            )
        self.graph: Graph = run_float_passes(graph)
        self.image: Image = read_program(eqm)
        self.pairs = self._pairs()
        if not self.pairs:
            raise ArgumentError(
                "no operator of the file has the name and shape of one of the float network: is it "
                "the network that the file was made from?"
            )
        self._float = FloatRunner(self.graph, list(self.pairs.values()))
        indices = list(self.pairs)
        self._sessions = [
            (part, Session(Model(write_program(watched(self.image, part)))))
            for part in (indices[i : i + MAX_WATCHED] for i in range(0, len(indices), MAX_WATCHED))
        ]

    def _pairs(self) -> dict[int, Tensor]:
        """Of operators the tensor of the float graph that they compute. A layer can be several
        operators, of which the last one has its result."""
        named = {
            short_name(n.name): n.output for n in self.graph.nodes if n.output.dtype == "float32"
        }
        last = {o.name: o.index for o in self.image.ops}
        found = {}
        for name, index in last.items():
            t, y = named.get(name), self.image.tensors[self.image.ops[index].output]
            if t is not None and y.scale and _shape(t.shape) == _shape(y.shape):
                found[index] = t
        return dict(sorted(found.items()))

    def run(
        self,
        samples: Iterable[Mapping[str, Array]],
        tell: Tell | None = None,
        expected: int | None = None,
    ) -> Layerwise:
        """Feeds both with every sample: arrays by the inputs' names."""
        say = tell or (lambda *_: None)
        sums = {index: _Sums() for index in self.pairs}
        count = 0
        for count, feed in enumerate(samples, 1):
            say(f"sample {count}", (count - 1) / max(expected or count, count))
            exact = self._float.run(feed)
            for part, session in self._sessions:
                given = [feed[t.name] for t in session.inputs]
                for index, own in zip(part, session.run(*given)):
                    sums[index].add(exact[self.pairs[index]].reshape(own.shape), own)
        if not count:
            raise ArgumentError("there is not a single sample")
        say("done", 1.0)
        return self._result(count, sums)

    def _result(self, count: int, sums: Mapping[int, _Sums]) -> Layerwise:
        layers = []
        for index, s in sums.items():
            op = self.image.ops[index]
            inside = all(p.tensor != op.output for p in self.image.outputs)
            sqnr, scaled = s.sqnr(inside and op.opcode in _SCALABLE)
            shape = self.image.tensors[op.output].shape
            layers.append(
                LayerComparison(index, op.name, op.opcode, shape, sqnr, scaled, s.low, s.high)
            )
        matched = {layer.name for layer in layers}
        mine = dict.fromkeys(o.name for o in self.image.ops if o.name not in matched)
        theirs = [
            n.name
            for n in self.graph.nodes
            if short_name(n.name) not in matched and n.op != "RESHAPE"  # which is no operator
        ]
        return Layerwise(count, tuple(layers), tuple(mine), tuple(theirs))


def _shape(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(d for d in shape if d != 1)
