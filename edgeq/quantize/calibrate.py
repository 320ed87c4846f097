# SPDX-License-Identifier: Apache-2.0
"""From a float graph and samples of its inputs to a quantized graph.

What is tried is judged by the integers themselves: `simulate`, which the converter hands in, runs a
quantized graph as the device will.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import ArgumentError, UnsupportedError
from ..ir.graph import Array, Graph, Node, QParams, Tensor
from .assemble import assemble
from .equalize import equalize
from .execute import FloatRunner
from .observe import LAYERS, Statistics
from .quality import together
from .ranges import METHODS, Range, qparams
from .scheme import FIXED, FIXED_RANGES, Group, Scheme, is_float, union
from .weights import LayerWeights, bias_binds, quantize_weights
from .widen import TRIES, Search, Widened, candidates, costs

Feed = Mapping[str, Array]
Run = Callable[[Feed], list[Array]]  # watched tensors, then outputs, as float32
Simulate = Callable[[Graph, Sequence[Tensor]], Run]
Tell = Callable[[str, float], None]

JUDGED = 32  # samples by which alternatives are compared
SEARCHED = 8  # of them, where there are many alternatives
WORTH = 0.2  # dB that a repair of the whole network must gain
FEW_CLASSES = 4
EFFORTS = ("fast", "default", "high")


@dataclass(frozen=True)
class Options:
    """`method`: a key of ranges.METHODS or ``"auto"``."""

    method: str = "auto"
    effort: str = "default"
    max_16bit: float = 1.0

    def __post_init__(self) -> None:
        if self.method not in ("auto", *METHODS):
            raise ArgumentError(f"no range method {self.method!r}; auto, {', '.join(METHODS)}")
        if self.effort not in EFFORTS:
            raise ArgumentError(f"effort must be one of {', '.join(EFFORTS)}, not {self.effort!r}")


@dataclass
class Decisions:
    """What a quantized graph is made from: a range and 8 or 16 bits for each group."""

    ranges: dict[Group, Range]
    bits: dict[Group, int] = field(default_factory=dict)
    method: str = ""

    def qparams(self, g: Group) -> QParams:
        bits = self.bits.get(g, 8)
        if g.op and bits == 8:
            return FIXED[g.op]
        return qparams(self.ranges[g], bits)


@dataclass
class Judged:
    """Samples kept for comparisons, and what the float network makes of them.

    `aims`: the tensors by which alternatives are compared, `aimed` their values. That are the
    outputs; of a SOFTMAX over several classes its input, which says of all classes and not only of
    the likely ones how good it is.
    """

    feeds: list[Feed] = field(default_factory=list)
    outputs: list[list[Array]] = field(default_factory=list)
    aims: list[Tensor] = field(default_factory=list)
    aimed: list[list[Array]] = field(default_factory=list)


@dataclass(frozen=True)
class Repair:
    """What was tried: the score without and with it, in dB, and whether it stayed."""

    name: str
    before: float
    after: float
    kept: bool


@dataclass(frozen=True)
class Rounding:
    """How weights become integers: weights.quantize_weights."""

    compensate: bool = False
    correct: bool = False
    sweeps: int = 0


FULL = Rounding(compensate=True, correct=True)


@dataclass
class Quantized:
    """`graph`: the integers. `tensors`: which tensor of the float graph `source` became which.
    `score`: dB on the judged samples (quality.together)."""

    source: Graph
    graph: Graph
    tensors: dict[Tensor, Tensor]
    score: float
    decisions: Decisions
    rounding: Rounding
    scheme: Scheme
    statistics: Statistics
    judged: Judged
    repairs: list[Repair] = field(default_factory=list)
    widened: list[Widened] = field(default_factory=list)


def quantize(
    graph: Graph,
    samples: Iterable[Feed],
    simulate: Simulate,
    options: Options | None = None,
    tell: Tell | None = None,
    expected: int | None = None,
) -> Quantized:
    """The quantized graph of a float graph that went through the float passes.

    `samples` are walked through more than once. `expected`: how many there will be.
    Raises ArgumentError without samples, UnsupportedError where the float network computes
    infinities, or where the integer one cannot be run.
    """
    options, tell = options or Options(), tell or (lambda *_: None)
    if iter(samples) is samples:
        samples = list(samples)
    found = _Quantizer(graph, simulate, options, tell).run(samples, expected)
    if options.effort == "fast":
        return found
    equal = equalize(graph, found.statistics)
    if equal is None:
        return found
    other = _Quantizer(equal, simulate, options, tell).run(samples, expected)
    kept = other.score > found.score + WORTH
    repair = Repair("cross-layer equalization", found.score, other.score, kept)
    best = other if kept else found
    best.repairs.append(repair)
    return best


class _Quantizer:
    def __init__(self, graph: Graph, simulate: Simulate, options: Options, tell: Tell) -> None:
        self.graph, self.simulate, self.options, self.tell = graph, simulate, options, tell
        self.scheme = Scheme(graph)
        self.layers = [n for n in graph.nodes if n.op in LAYERS and is_float(n.output)]
        self.statistics = Statistics([], [])
        self.judged = Judged()
        self.repairs: list[Repair] = []
        self.rounding = FULL
        self._weights: dict[tuple[Node, Rounding, tuple[float, int]], LayerWeights] = {}

    def run(self, samples: Iterable[Feed], expected: int | None) -> Quantized:
        self.observe(samples, expected)
        tried = [(self.judge(d), d) for d in self.alternatives()]
        score, decisions = max(tried, key=lambda found: found[0])
        score = self.repair(decisions, score)
        score, widened = self.widen(decisions, score)
        graph, tensors = self.assemble(decisions)
        return Quantized(
            self.graph,
            graph,
            tensors,
            score,
            decisions,
            self.rounding,
            self.scheme,
            self.statistics,
            self.judged,
            self.repairs,
            widened,
        )

    # ---- observing

    def observe(self, samples: Iterable[Feed], expected: int | None) -> None:
        outputs = [t for t in self.graph.outputs if not t.is_const]
        self.statistics = Statistics(self.scheme.observed(), self.layers, expected)
        self.judged.aims = [self.aim(t) for t in outputs]
        runner = FloatRunner(self.graph, [*self.statistics.watched(), *self.judged.aims])
        every = max(1, (expected or 0) // JUDGED)
        for i, feed in enumerate(samples):
            values = runner.run(feed)
            self.statistics.add(values)
            if i % every == 0 and len(self.judged.feeds) < JUDGED:
                self.judged.feeds.append({k: np.array(v) for k, v in feed.items()})
                self.judged.outputs.append([np.array(values[t]) for t in outputs])
                self.judged.aimed.append([np.array(values[t]) for t in self.judged.aims])
            self.tell("calibrating", (i + 1) / max(expected or 0, i + 2))
        if self.statistics.samples == 0:
            raise ArgumentError("there is not a single calibration sample")
        self.statistics.finish()
        bad = [t.name for t, o in self.statistics.tensors.items() if not o.finite]
        if bad:
            raise UnsupportedError(
                f"the float network computes infinities or NaN at {bad[0]!r}"
                + (f" and {len(bad) - 1} more tensors" if len(bad) > 1 else "")
                + "; look at the calibration data and its preprocessing"
            )

    def aim(self, y: Tensor) -> Tensor:
        """The output y, or what goes into the SOFTMAX that makes it."""
        producers = self.graph.producers()
        t = y
        while t in producers and producers[t].op == "RESHAPE":
            t = producers[t].input(0)
        node = producers.get(t)
        if node is not None and node.op == "SOFTMAX" and t.shape[-1] > FEW_CLASSES:
            return node.input(0)
        return y

    # ---- ranges

    def ranges(self, method: str) -> dict[Group, Range]:
        find = METHODS[method]
        found = {}
        for g in self.scheme.groups:
            if g.op:
                found[g] = FIXED_RANGES[g.op]
                continue
            own = [self.statistics.tensors[t] for t in g.tensors if t in self.statistics.tensors]
            # of a picture every pixel value is as good as another
            exact = any(t in self.graph.inputs for t in g.tensors)
            found[g] = union((o.low, o.high) if exact else find(o) for o in own)
        return found

    def alternatives(self) -> list[Decisions]:
        auto = self.options.method == "auto"
        methods = ["minmax", "mse", "percentile"] if auto else [self.options.method]
        return [Decisions(self.ranges(m), method=m) for m in methods]

    # ---- weights

    def repair(self, d: Decisions, score: float) -> float:
        """Rounding with and without each repair, on the samples; what does not help goes."""
        known = self.rounding
        steps = [Rounding(), Rounding(correct=True), FULL]
        if self.options.effort == "high":
            steps.append(replace(FULL, sweeps=3))
        self.repairs.clear()
        names = ["", "bias correction", "compensated rounding", "learned rounding"]
        best = Rounding()
        self.rounding = best
        least = self.judge(d)
        for name, rounding in zip(names[1:], steps[1:]):
            self.rounding = rounding
            reached = score if rounding == known else self.judge(d)
            kept = reached > least
            self.repairs.append(Repair(name, least, reached, kept))
            if kept:
                best, least = rounding, reached
        self.rounding = best
        return least

    def weights(self, node: Node, input_scale: float, input_bits: int) -> LayerWeights:
        """Cached: they depend on the input's scale only where the bias asks for it."""
        r = self.rounding
        key = (node, r, (input_scale, input_bits))
        if not bias_binds(node, input_scale, input_bits):
            key = (node, r, (0.0, 0))
        if key not in self._weights:
            self._weights[key] = quantize_weights(
                node,
                self.statistics.layers[node],
                input_scale,
                input_bits,
                compensate=r.compensate,
                correct=r.correct,
                sweeps=r.sweeps,
            )
        return self._weights[key]

    # ---- 16 bits

    def widen(self, d: Decisions, score: float) -> tuple[float, list[Widened]]:
        """Gives groups 16 bits where that is worth it; with 16 bits a range is all that came."""
        if self.options.effort == "fast" or self.options.max_16bit <= 0:
            return score, []
        # with 16 bits the weights are the limit, whatever helped with 8
        before, self.rounding = self.rounding, FULL
        whole = self.ranges("minmax")
        high = self.options.effort == "high"
        few = slice(None) if high else slice(None, None, max(1, JUDGED // SEARCHED))
        search = Search(
            candidates(self.scheme, self.statistics, d.ranges),
            costs(self.graph, self.scheme),
            lambda chosen: self.judge(self.widened(d, chosen, whole), few),
            self.options.max_16bit,
            TRIES[self.options.effort],
        )
        listed = search.run(self.judge(d, few))
        if not listed:
            self.rounding = before
            return score, listed
        wide = self.widened(d, search.chosen, whole)
        d.ranges, d.bits = wide.ranges, wide.bits
        return self.repair(d, self.judge(d)), listed

    @staticmethod
    def widened(d: Decisions, chosen: list[Group], whole: dict[Group, Range]) -> Decisions:
        ranges = {g: whole[g] if g in chosen else r for g, r in d.ranges.items()}
        return Decisions(ranges, dict.fromkeys(chosen, 16), d.method)

    # ---- making and judging graphs

    def assemble(self, d: Decisions) -> tuple[Graph, dict[Tensor, Tensor]]:
        of = self.scheme.of
        scales = {t: d.qparams(g) for t, g in of.items()}
        bits = {t: d.bits.get(g, 8) for t, g in of.items()}
        return assemble(self.graph, scales, bits, self.weights)

    def judge(self, d: Decisions, which: slice = slice(None)) -> float:
        """Score on the judged samples, or on some of them."""
        graph, tensors = self.assemble(d)
        aims = self.judged.aims
        run = self.simulate(graph, [tensors[t] for t in aims])
        found = [run(feed)[: len(aims)] for feed in self.judged.feeds[which]]
        return together(self.judged.aimed[which], found)
