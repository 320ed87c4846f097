# SPDX-License-Identifier: Apache-2.0
"""Every tensor of a quantized network beside the float network's, and whose error it is.

Each op of the float graph is run once more on what the integers put into it. What the integers then
make of it differs by the op's own error; what the result differs from the float network's is
inherited.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..ir.graph import Array, Graph, Node, QParams, Tensor
from .calibrate import Feed, Quantized, Simulate, Tell
from .execute import FloatRunner
from .observe import LAYERS, Float64s
from .quality import BEST, together
from .scheme import is_float

MAX_CHANNELS = 4096  # of a tensor that are looked at one by one
EFFECT_SAMPLES = 8


@dataclass
class Measured:
    """Sums over samples, of each channel (C,): of the float network's `values`, their squares
    `signal`, squares of the errors `total`, `own`, `inherited`. `low`, `high`: extremes.

    The rest is of all channels together: what own error is made of, `beyond`: how many of `count`
    values lie outside of the range before they are stored. `parts`: of a CONCATENATION, for each
    input (signal, own error, its largest magnitude).
    """

    node: Node | None  # None: an input of the network
    tensor: Tensor
    stored: Tensor
    values: Float64s = field(default_factory=lambda: np.zeros(1))
    signal: Float64s = field(default_factory=lambda: np.zeros(1))
    total: Float64s = field(default_factory=lambda: np.zeros(1))
    own: Float64s = field(default_factory=lambda: np.zeros(1))
    inherited: Float64s = field(default_factory=lambda: np.zeros(1))
    low: Float64s = field(default_factory=lambda: np.full(1, np.inf))
    high: Float64s = field(default_factory=lambda: np.full(1, -np.inf))
    rounding: float = 0.0
    clipping: float = 0.0
    weights: float = 0.0
    beyond: int = 0
    count: int = 0
    parts: Float64s | None = None

    @property
    def name(self) -> str:
        if self.node is None or len(self.node.outputs) > 1:
            return self.tensor.name
        return self.node.name

    @property
    def share(self) -> float:
        """Of the values, those beyond the range."""
        return self.beyond / max(self.count, 1)

    @property
    def whole(self) -> float:
        """Its own error, all parts of it together."""
        return max(self.rounding + self.clipping + self.weights, 1e-300)

    @property
    def quality(self) -> float:
        """dB of its own error: of all values together or of the parts that are lost among them,
        whichever is less."""
        return min(decibels(self.signal, self.own), self.typical)

    @property
    def varying(self) -> Float64s:
        """`signal` about the channels' means."""
        return self.signal - self.values**2 / max(self.count / len(self.signal), 1)

    @property
    def typical(self) -> float:
        """The median of the channels' dB, of what varies within each; of a CONCATENATION the least
        of its inputs' dB. With one value a channel (scores of classes) there are no parts: of all
        that varies."""
        if self.parts is not None:
            return min(decibels(signal, own) for signal, own, _ in self.parts if signal > 0)
        varying = self.varying
        if self.tensor.elements <= len(self.signal):
            return decibels(np.maximum(varying, 0), self.own)
        known = varying > 1e-9 * self.signal
        if not known.any():
            return decibels(self.signal, self.own)
        return float(np.median([decibels(s, e) for s, e in zip(varying[known], self.own[known])]))

    @property
    def reach(self) -> tuple[float, float]:
        """The smallest and the largest number that the stored tensor can hold."""
        assert self.stored.qparams is not None
        return reach(self.stored.qparams, self.stored.dtype)

    def add(self, reference: Array, found: Array, ideal: Array, by_weights: Array) -> None:
        """The float network's values, the integers', what the op in float makes of the integers'
        inputs, and the same with the integers' weights."""
        a, b, c, d = (
            np.asarray(x, np.float64).reshape(self._rows(x))
            for x in (reference, found, ideal, by_weights)
        )
        self.values = self.values + a.sum(0)
        self.signal = self.signal + (a * a).sum(0)
        self.total = self.total + ((b - a) ** 2).sum(0)
        self.own = self.own + ((b - c) ** 2).sum(0)
        self.inherited = self.inherited + ((c - a) ** 2).sum(0)
        self.low, self.high = np.minimum(self.low, a.min(0)), np.maximum(self.high, a.max(0))
        low, high = self.reach
        q = self.stored.qparams
        assert q is not None
        half = float(q.scale) / 2
        outside = (d < low - half) | (d > high + half)
        error = (b - d) ** 2
        self.clipping += float(error[outside].sum())
        self.rounding += float(error[~outside].sum())
        self.weights += float(((d - c) ** 2).sum())
        self.beyond += int(outside.sum())
        self.count += d.size
        if self.node is not None and self.node.op == "CONCATENATION":
            self._add_parts(self.node, reference, found - ideal)

    def _rows(self, x: Array) -> tuple[int, int]:
        channels = x.shape[-1] if x.ndim > 1 and x.shape[-1] <= MAX_CHANNELS else 1
        return -1, channels

    def _add_parts(self, node: Node, reference: Array, error: Array) -> None:
        if self.parts is None:
            self.parts = np.zeros((len(node.inputs), 3))
        axis, begin = node.attrs.axis, 0
        for i in range(len(node.inputs)):
            size = node.input(i).shape[axis]
            where = (slice(None),) * axis + (slice(begin, begin + size),)
            begin += size
            part = np.asarray(reference[where], np.float64)
            self.parts[i, 0] += (part**2).sum()
            self.parts[i, 1] += (np.asarray(error[where], np.float64) ** 2).sum()
            self.parts[i, 2] = max(self.parts[i, 2], np.abs(part).max())


class Measurement:
    """A quantized network and its float original, ready to be compared tensor by tensor."""

    def __init__(
        self, quantized: Quantized, simulate: Simulate, samples: int | None = None
    ) -> None:
        self.samples = samples
        self.quantized = quantized
        graph, tensors = quantized.source, quantized.tensors
        rows: list[tuple[Node | None, Tensor]] = [(None, t) for t in graph.inputs]
        rows += [(n, t) for n in graph.nodes for t in n.outputs]
        self.found = [Measured(n, t, tensors[t]) for n, t in rows if is_float(t)]
        self.watched = [t for _, t in rows if not t.is_const]
        self.float = FloatRunner(graph, self.watched)
        self.integers = simulate(quantized.graph, [tensors[t] for t in self.watched])
        self.cut = _Cut(quantized)
        self.outputs: list[list[Array]] = []  # the integers', of each sample

    def measure(self, tell: Tell) -> list[Measured]:
        """Inputs of the network, then nodes in their order, each over the judged samples."""
        feeds = self.quantized.judged.feeds[: self.samples]
        for i, feed in enumerate(feeds):
            tell("measuring layers", i / len(feeds))
            reference, values, ideal = self._sample(feed)
            self.outputs.append([np.array(values[t]) for t in self._results()])
            for m in self.found:
                t = m.tensor
                if m.node is None:
                    m.add(reference[t], values[t], reference[t], reference[t])
                else:
                    m.add(reference[t], values[t], *ideal[t])
        return self.found

    def effects(self, chosen: Sequence[Measured], tell: Tell) -> list[float]:
        """What the outputs reach, in dB, if one layer alone has its own error and all others are
        float: of each of `chosen`."""
        graph, judged = self.quantized.source, self.quantized.judged
        feeds = judged.feeds[:EFFECT_SAMPLES]
        inputs: list[list[Array]] = []
        for feed in feeds:
            reference, values, ideal = self._sample(feed)
            inputs.append([])
            for m in chosen:
                t = m.tensor
                exact = reference[t] if m.node is None else ideal[t][0]
                inputs[-1].append(reference[t] + (values[t] - exact))
        found = []
        for i, m in enumerate(chosen):
            tell("finding the weakest layers", i / len(chosen))
            runner, name = _from(graph, m.tensor)
            outputs = [t for t in runner.graph.outputs if not t.is_const]
            results = []
            for feed, given in zip(feeds, inputs):
                values = runner.run({**feed, name: given[i]})
                results.append([values[t] for t in outputs])
            found.append(together(judged.outputs[: len(feeds)], results))
        return found

    def _results(self) -> list[Tensor]:
        return [t for t in self.quantized.source.outputs if not t.is_const]

    def _sample(
        self, feed: Feed
    ) -> tuple[dict[Tensor, Array], dict[Tensor, Array], dict[Tensor, tuple[Array, Array]]]:
        values = dict(zip(self.watched, self.integers(feed)))
        return self.float.run(feed), values, self.cut.run(values)


def _from(graph: Graph, t: Tensor) -> tuple[FloatRunner, str]:
    """The float graph with t given instead of computed, and the name of that input."""
    if t in graph.inputs:
        return FloatRunner(graph), t.name
    given = replace(t, name="given instead")
    nodes = [
        replace(n, inputs=[given if x is t else x for x in n.inputs], outputs=list(n.outputs))
        for n in graph.nodes
    ]
    outputs = [given if y is t else y for y in graph.outputs]
    return FloatRunner(Graph(nodes, [*graph.inputs, given], outputs)), given.name


def decibels(signal: Float64s | float, error: Float64s | float) -> float:
    """10 log10 of the ratio of sums, in [-BEST, BEST]."""
    s, e = float(np.sum(signal)), float(np.sum(error))
    if e <= 0:
        return BEST
    return float(np.clip(10 * np.log10(max(s, 1e-300) / e), -BEST, BEST))


def reach(q: QParams, dtype: str) -> tuple[float, float]:
    """The smallest and the largest number that a stored tensor can hold."""
    info = np.iinfo(dtype)
    low, high = (float((v - q.zero_point) * np.float64(q.scale)) for v in (info.min, info.max))
    return low, high


class _Cut:
    """The float graph with every op on its own: each reads what it is given. Layers are there a
    second time, with the integers' weights."""

    def __init__(self, quantized: Quantized) -> None:
        graph = quantized.source
        producers = quantized.graph.producers()
        self.inputs: dict[Tensor, Tensor] = {}
        self.outputs: dict[Tensor, tuple[Tensor, Tensor]] = {}
        nodes = []
        for node in graph.nodes:
            if not any(is_float(t) for t in node.outputs):
                continue
            alone = self._alone(node, node.inputs)
            nodes.append(alone)
            twin = alone
            if node.op in LAYERS and is_float(node.output):
                stored = producers[quantized.tensors[node.output]]
                constants = [_real(t) for t in stored.inputs[1:]]
                twin = self._alone(node, [node.inputs[0], *constants])
                nodes.append(twin)
            for t, y, z in zip(node.outputs, alone.outputs, twin.outputs):
                self.outputs[t] = (y, z)
        inputs = list(self.inputs.values())
        cut = Graph(nodes, inputs, list({y for pair in self.outputs.values() for y in pair}))
        self.runner = FloatRunner(cut)

    def _alone(self, node: Node, inputs: Sequence[Tensor | None]) -> Node:
        own = [t if t is None or t.is_const else self._input(t) for t in inputs]
        return replace(node, inputs=own, outputs=[replace(t) for t in node.outputs])

    def _input(self, t: Tensor) -> Tensor:
        if t not in self.inputs:
            self.inputs[t] = replace(t, name=f"t{len(self.inputs)}")
        return self.inputs[t]

    def run(self, values: Mapping[Tensor, Array]) -> dict[Tensor, tuple[Array, Array]]:
        """What each op makes of `values`, and what it makes of them with the integers' weights."""
        found = self.runner.run({own.name: values[t] for t, own in self.inputs.items()})
        return {t: (found[y], found[z]) for t, (y, z) in self.outputs.items()}


def _real(t: Tensor | None) -> Tensor | None:
    """A stored constant as the numbers that it stands for."""
    if t is None or t.data is None or t.qparams is None:
        return t
    q, shape = t.qparams, [1] * t.data.ndim
    shape[q.axis] = -1
    steps = t.data.astype(np.float64) - q.zero_points.reshape(shape)
    data = np.asarray(steps * q.scales.astype(np.float64).reshape(shape), np.float32)
    return replace(t, dtype="float32", qparams=None, data=data)
