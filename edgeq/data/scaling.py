# SPDX-License-Identifier: Apache-2.0
"""Whether pictures are scaled, and their channels ordered, as the network was trained with.

The samples cannot tell; the network can. It is run on them as they are and as other presets would
make them, and asked in three ways:

- its batch norms stored mean and variance of their channels in training (Graph.norm_statistics):
  which pictures give the same again? That also tells x / 255 from x / 127.5 - 1.
- the biases of its first layer matter after training: they are about as large as what its weights
  make of the pictures. Where they are 20 times as large or as small, and are not with another
  preset, the scaling is wrong by such a factor.
- where the outputs are the scores of classes: with the right channel order it is sure of different
  classes for different pictures. That is their mutual information, in bits.

Without statistics of training the findings are hints. The thresholds leave all of the trained
networks that they were tried on in peace (tests/test_data_zoo.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError
from ..ir.graph import Graph, Node, Tensor
from .checks import Finding
from .preprocess import Preprocess, picture_shape
from .samples import Array, Feed, Samples, spread

Floats = npt.NDArray[np.float64]
SAMPLES, SOME = 48, 16  # that are tried: for the order, for the scaling
_ROWS = 4096  # pixels of a tensor that are looked at
_NORMS = 4  # the first so many with statistics
# Right pictures: 0.03 ... 0.4; x / 255 for x / 127.5 - 1: 0.2 ... 0.5; for x: 3 and more.
NORMS_WRONG, NORMS_FAR, NORMS_BETTER = 0.2, 1.0, 0.5
# Right pictures: -0.4 ... 0.4, but below -3 where weights were trained without a norm and biases
# mean little; wrong by 127 or 255: at least 1.6. So another preset must bring it near 0.
BIAS_WRONG, BIAS_RIGHT = 1.3, 0.6
# The right order tells 4 to 12 percent more, and the outputs' entropies are smaller by more than
# chance: so many standard errors.
ORDER_BETTER, ORDER_ERRORS = 1.03, 2.0


class Runner(Protocol):
    def run(self, feed: Mapping[str, Array]) -> dict[Tensor, Array]: ...


MakeRunner = Callable[[Graph, Sequence[Tensor]], Runner]


# ---- other scalings of the same pictures


@dataclass(frozen=True)
class Variant:
    """The input as another preset makes it: (pixel - mean) / std, `swap`: channels turned round."""

    text: str
    mean: Floats
    std: Floats
    swap: bool
    kind: str


@dataclass(frozen=True)
class Variants:
    """`mean`, `std`: how the input was made, as far as that is known; `first`: channels are."""

    name: str
    first: bool
    mean: Floats
    std: Floats
    others: tuple[Variant, ...]

    def apply(self, feed: Mapping[str, Array], variant: Variant) -> Feed:
        step = -1 if variant.swap else 1
        std, mean = self.std[::step], self.mean[::step]
        factor, shift = std / variant.std, (mean - variant.mean) / variant.std
        x = feed[self.name]
        if self.first:
            x, factor, shift = x[:, ::step], factor[:, None, None], shift[:, None, None]
        else:
            x = x[..., ::step]
        y = x * factor.astype(np.float32) + shift.astype(np.float32)
        return {**feed, self.name: np.ascontiguousarray(y, np.float32)}


def variants(
    graph: Graph, low: float, high: float, preprocess: Preprocess | None
) -> Variants | None:
    """For the only input that can be a picture, whose values are in [low, high]; None: no such."""
    found = [t for t in graph.inputs if _is_picture(t)]
    if len(found) != 1:
        return None
    t = found[0]
    _, _, channels, first = picture_shape(t.shape)
    made = _made(low, high, channels, preprocess)
    if made is None and channels == 1:
        return None
    mean, std = made if made is not None else (np.zeros(channels), np.ones(channels))
    names = ("raw", "unit", "tf", "imagenet", "caffe") if channels == 3 else ("raw", "unit", "tf")
    now = preprocess.order_of(channels) if preprocess is not None and channels == 3 else ""
    others = []
    for swap in (False, True) if channels == 3 else (False,):
        order = {"": "channels the other way round", "rgb": "order=bgr", "bgr": "order=rgb"}[now]
        if swap:
            others.append(Variant(order, mean, std, True, "order"))
        kept = f",order={now}" if now and not swap else ""
        for name in names if made is not None else ():
            wanted = Preprocess.parse(name)
            m, s = (np.array(v) * np.ones(channels) for v in (wanted.mean, wanted.std))
            if np.allclose(s, std, rtol=0.1) and np.allclose(m / s, mean / std, atol=0.1):
                continue
            joint = ", " if not now else ","
            text = f"{name}{joint}{order}" if swap else f"{name}{kept}"
            others.append(Variant(text, m, s, swap, "scale"))
    return Variants(t.name, first, mean, std, tuple(others))


def _made(
    low: float, high: float, channels: int, preprocess: Preprocess | None
) -> tuple[Floats, Floats] | None:
    """Mean and std of the scaling in use, guessed from the range where it is not known."""
    one = np.ones(channels)
    if preprocess is not None:
        return np.array(preprocess.mean) * one, np.array(preprocess.std) * one
    if low >= 0 and high <= 1.001:
        return 0 * one, 255 * one
    if -1.01 <= low < 0 and high <= 1.01:
        return 127.5 * one, 127.5 * one
    if low >= 0 and 2 < high <= 255.01:
        return 0 * one, one
    wanted = Preprocess.parse("imagenet")
    if channels == 3 and -2.2 <= low < -1 and 1 < high <= 2.7:
        return np.array(wanted.mean), np.array(wanted.std)
    return None


# ---- evidence: each way gives a number for a set of feeds; the smaller, the better it fits


@dataclass(frozen=True)
class Expectations:
    """What training saw: `graph` computes `tensors`, whose channels had these means, variances."""

    graph: Graph
    tensors: tuple[Tensor, ...]
    mean: tuple[Floats, ...]
    var: tuple[Floats, ...]


def expectations(graph: Graph, most: int = _NORMS) -> Expectations | None:
    """From graph.norm_statistics, the tensors next to the inputs; None: it has none."""
    made = [t for n in graph.nodes for t in n.outputs if t in graph.norm_statistics][:most]
    if not made:
        return None
    probe, tensors = _probe(graph, made)
    stored = [graph.norm_statistics[t] for t in made]
    mean = tuple(np.asarray(m, np.float64).reshape(-1) for m, _ in stored)
    var = tuple(np.asarray(v, np.float64).reshape(-1) for _, v in stored)
    return Expectations(probe, tensors, mean, var)


def _probe(graph: Graph, wanted: Sequence[Tensor]) -> tuple[Graph, tuple[Tensor, ...]]:
    """The part of the graph that makes these tensors, without the activations behind them."""
    producers = graph.producers()
    extra: dict[Tensor, Node] = {}
    for t in wanted:
        node = producers[t]
        if getattr(node.attrs, "activation", "NONE") != "NONE":
            bare = Tensor(f"{t.name}/linear", t.shape, t.dtype)
            attrs = replace(node.attrs, activation="NONE")
            extra[t] = replace(node, outputs=[bare], attrs=attrs)
    needed: set[Tensor] = set()
    stack = [t for t in wanted if t not in extra]
    stack += [t for n in extra.values() for t in n.inputs if t is not None]
    while stack:
        t = stack.pop()
        if t not in needed:
            needed.add(t)
            if t in producers:
                stack += [i for i in producers[t].inputs if i is not None]
    nodes = [n for n in graph.nodes if any(t in needed for t in n.outputs)]
    nodes += extra.values()
    outputs = tuple(extra[t].output if t in extra else t for t in wanted)
    probe = Graph(nodes, list(graph.inputs), list(outputs))
    return probe, outputs


class _Moments:
    """Mean and variance of each channel (the last axis) over samples."""

    def __init__(self, channels: int) -> None:
        self.n = 0
        self.total, self.squares = np.zeros(channels), np.zeros(channels)

    def add(self, a: Array) -> None:
        rows = np.asarray(a).reshape(-1, a.shape[-1] if a.ndim else 1)
        rows = rows[:: len(rows) // _ROWS + 1].astype(np.float64)
        self.n += len(rows)
        self.total += rows.sum(0)
        self.squares += np.square(rows).sum(0)

    @property
    def mean(self) -> Floats:
        return self.total / max(self.n, 1)

    @property
    def var(self) -> Floats:
        return np.maximum(self.squares / max(self.n, 1) - self.mean**2, 0)


def mismatch(mean: Floats, var: Floats, expected_mean: Floats, expected_var: Floats) -> float:
    """0 where they agree: ln(1 + divergence of the normal distributions), mean over the channels.

    Channels that were constant in training say nothing.
    """
    used = expected_var > 1e-6 * max(float(expected_var.max()), 1e-30)
    if not used.any():
        return 0.0
    v0 = expected_var[used]
    v1 = np.maximum(var[used], 1e-6 * v0)
    shift = np.square(mean[used] - expected_mean[used])
    divergence = (v1 / v0 + shift / v0 - 1 - np.log(v1 / v0)) / 2
    return float(np.log1p(divergence).mean())


def by_norms(expected: Expectations, runner: Runner, feeds: Iterable[Feed]) -> float:
    """How far the samples are from the statistics of training."""
    moments = [_Moments(len(m)) for m in expected.mean]
    for feed in feeds:
        values = runner.run(feed)
        for m, t in zip(moments, expected.tensors):
            m.add(values[t])
    parts = zip(moments, expected.mean, expected.var)
    return float(np.mean([mismatch(m.mean, m.var, mean, var) for m, mean, var in parts]))


def _entropies(scores: Sequence[Array]) -> tuple[float, Floats]:
    """Bits that the outputs tell of the samples, and the entropy of each output.

    The former is the entropy of the mean less the mean of the entropies.
    """
    p = np.array([_probabilities(s) for s in scores])
    each = np.array([_entropy(row) for row in p])
    return max(_entropy(p.mean(0)) - float(each.mean()), 0.0), each


def _probabilities(scores: Array) -> Floats:
    flat: Floats = np.array(scores, np.float64).reshape(-1)
    if flat.min() >= 0 and abs(flat.sum() - 1) < 0.02:
        flat /= flat.sum()
        return flat
    e = np.exp(flat - flat.max())
    found: Floats = e / e.sum()
    return found


def _entropy(p: Floats) -> float:
    return float(-(p * np.log2(np.maximum(p, 1e-12))).sum())


def _classes(graph: Graph) -> Tensor | None:
    """The only output, if it can be the scores of 3 classes or more."""
    if len(graph.outputs) != 1:
        return None
    t = graph.outputs[0]
    return t if t.elements >= 3 and max(t.shape, default=1) == t.elements else None


_FIRST = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_MOVES = ("RESHAPE", "TRANSPOSE", "PAD", "COPY")


def _first_layer(graph: Graph, name: str) -> tuple[Tensor, Array] | None:
    """The first layer with weights, its output and biases; None unless only moves lead to it."""
    reached = {t for t in graph.inputs if t.name == name}
    for node in graph.nodes:
        if not node.inputs or node.inputs[0] not in reached:
            continue
        if node.op not in _FIRST:
            if node.op not in _MOVES:
                return None
            reached.add(node.output)
            continue
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is None or bias.data is None or not np.any(bias.data):
            return None
        return node.output, np.asarray(bias.data, np.float64).reshape(-1)
    return None


def by_biases(biases: Array, outputs: Iterable[Array]) -> float:
    """log10 of bias to standard deviation of what the weights make of it, the median channel."""
    moments = _Moments(len(biases))
    for a in outputs:
        moments.add(a)
    ratios = (np.abs(biases) + 1e-9) / (np.sqrt(moments.var) + 1e-9)
    return float(np.median(np.log10(ratios)))


# ---- judgement


def judge(
    graph: Graph, samples: Samples, make_runner: MakeRunner, preprocess: Preprocess | None = None
) -> list[Finding]:
    """What is wrong with scaling and channel order, as far as the network can tell.

    `graph`: a float graph, `make_runner(graph, watched)` runs it (quantize.execute.FloatRunner).
    At most SAMPLES samples are tried. Networks whose inputs are no pictures give nothing.
    """
    feeds = list(samples.few(SAMPLES))
    preprocess = preprocess or samples.preprocess
    pictures = [t for t in graph.inputs if _is_picture(t)]
    if len(pictures) != 1:
        return []
    values = [f[pictures[0].name] for f in feeds]
    low, high = min(float(a.min()) for a in values), max(float(a.max()) for a in values)
    tried = variants(graph, low, high, preprocess)
    if tried is None or low == high:
        return []
    expected = expectations(graph)
    if expected is not None:
        return _judge_norms(expected, tried, feeds, make_runner)
    found = _judge_biases(graph, tried, feeds, make_runner)
    return found or _judge_order(graph, tried, feeds, make_runner)  # with a wrong scaling: no order


def _some(feeds: Sequence[Feed]) -> list[Feed]:
    return [feeds[i] for i in spread(len(feeds), SOME)]


def _judge_norms(
    expected: Expectations, tried: Variants, feeds: Sequence[Feed], make_runner: MakeRunner
) -> list[Finding]:
    runner = make_runner(expected.graph, expected.tensors)
    feeds = _some(feeds)
    now = by_norms(expected, runner, feeds)
    if now < NORMS_WRONG:
        return []
    found = [by_norms(expected, runner, (tried.apply(f, v) for f in feeds)) for v in tried.others]
    best = min(found, default=now)
    tensors = f"the first {len(expected.tensors)} batch norms get other values than in training"
    if best > NORMS_BETTER * now:
        if now < NORMS_FAR:
            return []
        text = (
            f"{tensors} (mismatch {now:.2f}), and no preset is better: look at mean, std and order "
            f"of input {tried.name!r}"
        )
        return [Finding("scale", text)]
    chosen = next(v for v, value in zip(tried.others, found) if value <= 1.2 * best + 0.02)
    text = f"{tensors} (mismatch {now:.2f}, {best:.2f} with that)"
    return [_finding(tried, chosen, text, hint=False)]


def _judge_biases(
    graph: Graph, tried: Variants, feeds: Sequence[Feed], make_runner: MakeRunner
) -> list[Finding]:
    layer = _first_layer(graph, tried.name)
    if layer is None:
        return []
    feeds = _some(feeds)
    probe, (t,) = _probe(graph, [layer[0]])
    runner = make_runner(probe, [t])

    def ratio(fed: Iterable[Feed]) -> float:
        return by_biases(layer[1], (runner.run(f)[t] for f in fed))

    now = ratio(feeds)
    if abs(now) < BIAS_WRONG:
        return []
    others = [v for v in tried.others if v.kind == "scale" and not v.swap]
    found = [abs(ratio(tried.apply(f, v) for f in feeds)) for v in others]
    if min(found, default=9.0) > BIAS_RIGHT:
        return []
    text = (
        f"the biases of its first layer are {10 ** abs(now):.0f} times "
        f"{'smaller' if now < 0 else 'larger'} than what it makes of these"
    )
    return [_finding(tried, others[int(np.argmin(found))], text, hint=True)]


def _judge_order(
    graph: Graph, tried: Variants, feeds: Sequence[Feed], make_runner: MakeRunner
) -> list[Finding]:
    t = _classes(graph)
    swapped = next((v for v in tried.others if v.kind == "order"), None)
    if t is None or swapped is None or len(feeds) < SAMPLES // 2:
        return []
    runner = make_runner(graph, [t])
    now, each = _entropies([runner.run(f)[t] for f in feeds])
    then, other = _entropies([runner.run(tried.apply(f, swapped))[t] for f in feeds])
    change = other - each
    error = float(change.std()) / np.sqrt(len(change)) + 1e-9
    if then < ORDER_BETTER * now or change.mean() > -ORDER_ERRORS * error:
        return []
    text = f"its outputs would tell {then:.2f} bits of these instead of {now:.2f}"
    return [_finding(tried, swapped, text, hint=True)]


def _finding(tried: Variants, v: Variant, text: str, hint: bool) -> Finding:
    wrong = "channels in another order" if v.kind == "order" else "another scaling"
    sure = "seems to want" if hint else "wants"
    return Finding(
        v.kind, f"the network {sure} {wrong} in input {tried.name!r}, try {v.text}: {text}", hint
    )


def _is_picture(t: Tensor) -> bool:
    try:
        picture_shape(t.shape)
    except ArgumentError:
        return False
    return t.dtype == "float32"
