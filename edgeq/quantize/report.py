# SPDX-License-Identifier: Apache-2.0
"""How good a quantized network's integers are, layer by layer: what a report is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..format.cost import macs
from ..ir.graph import Array, Tensor
from .calibrate import Quantized, Repair, Simulate, Tell
from .causes import Cause, Context, causes
from .measure import Measured, Measurement, decibels
from .observe import Observed
from .quality import sqnr, variation_sqnr

WEAK = 25.0  # dB of a layer's own error below which it gets a cause
EXAMINED = 12  # layers whose effect on the outputs is measured
HISTOGRAMS = 6
BINS = 96


@dataclass(frozen=True)
class Layer:
    """A node of the float graph, or an input of the network (`op` "INPUT").

    `low`, `high`: the range of its integers; `observed_low`, `observed_high`: what calibration saw.
    In dB, against the float network on the judged samples: `sqnr` of its output; `own` with the
    error alone that this layer adds, `typical` the median of that over its channels, of what
    varies there (for a CONCATENATION the least of its inputs'), `inherited` with the error alone
    that its inputs bring.
    `effect`: the outputs' dB if every other layer were float; None where it was not measured.
    `rounding`, `clipping`, `weights`: shares of its own error. `clipped`: share of its values
    beyond the range.
    """

    name: str
    op: str
    source_index: int
    tensor: str
    shape: tuple[int, ...]
    bits: int
    scale: float
    zero_point: int
    low: float
    high: float
    observed_low: float
    observed_high: float
    sqnr: float
    own: float
    typical: float
    inherited: float
    rounding: float
    clipping: float
    weights: float
    clipped: float
    macs: int
    effect: float | None = None
    causes: tuple[Cause, ...] = ()

    @property
    def quality(self) -> float:
        """dB of what this layer does itself: where a few channels are loud, of the others."""
        return min(self.own, self.typical)

    @property
    def weak(self) -> bool:
        return self.quality < WEAK


@dataclass(frozen=True)
class Output:
    """`sqnr` in dB; `variation` that of what differs between samples and places."""

    name: str
    sqnr: float
    variation: float


@dataclass(frozen=True)
class Histogram:
    """How often a tensor's values came, in equal bins from `first` to `last`, as shares."""

    layer: str
    tensor: str
    first: float
    last: float
    shares: tuple[float, ...]
    low: float
    high: float


@dataclass(frozen=True)
class QuantizationReport:
    """`samples`: that calibration saw; `judged`: by which dB were measured. `layers` in the order
    in which they run, inputs first. `score`: mean `variation` of the outputs."""

    network: str
    samples: int
    judged: int
    method: str
    score: float
    outputs: tuple[Output, ...]
    layers: tuple[Layer, ...]
    histograms: tuple[Histogram, ...] = ()
    repairs: tuple[Repair, ...] = ()

    def worst(self) -> list[Layer]:
        """Layers by what they cost the outputs, then by their own error, the worst first."""
        known = [layer for layer in self.layers if layer.effect is not None]
        rest = [layer for layer in self.layers if layer.effect is None]
        return sorted(known, key=lambda layer: layer.effect or 0.0) + sorted(
            rest, key=lambda layer: layer.quality
        )


def analyse(
    quantized: Quantized,
    simulate: Simulate,
    tell: Tell | None = None,
    *,
    examined: int = EXAMINED,
    samples: int | None = None,
) -> QuantizationReport:
    """Measures every layer on the judged samples, at most `samples` of them, and the effect of
    `examined` layers."""
    say = tell or (lambda *_: None)
    measurement = Measurement(quantized, simulate, samples)
    measured = measurement.measure(say)
    ranked = sorted(measured, key=lambda m: m.quality)
    chosen = [m for m in ranked if m.own.sum() > 0][:examined]
    effects = dict(zip(map(id, chosen), measurement.effects(chosen, say)))
    context = Context(quantized.scheme, quantized.statistics.tensors, quantized.source.consumers())
    layers = [_layer(m, quantized, context, effects.get(id(m))) for m in measured]
    say("done", 1.0)
    return QuantizationReport(
        network=quantized.source.name,
        samples=quantized.statistics.samples,
        judged=len(measurement.outputs),
        method=quantized.decisions.method,
        score=quantized.score,
        outputs=tuple(_outputs(quantized, measurement.outputs)),
        layers=tuple(layers),
        histograms=tuple(_histograms(ranked, quantized)),
        repairs=tuple(quantized.repairs),
    )


def _layer(m: Measured, quantized: Quantized, context: Context, effect: float | None) -> Layer:
    q = m.stored.qparams
    assert q is not None
    low, high = m.reach
    o = _observed(m.tensor, quantized)
    seen = (o.low, o.high) if o is not None else (float(m.low.min()), float(m.high.max()))
    return Layer(
        name=m.name,
        op="INPUT" if m.node is None else m.node.op,
        source_index=-1 if m.node is None else m.node.source_index,
        tensor=m.tensor.name,
        shape=m.tensor.shape,
        bits=16 if m.stored.dtype == "int16" else 8,
        scale=float(q.scale),
        zero_point=q.zero_point,
        low=low,
        high=high,
        observed_low=seen[0],
        observed_high=seen[1],
        sqnr=decibels(m.signal, m.total),
        own=decibels(m.signal, m.own),
        typical=m.typical,
        inherited=decibels(m.signal, m.inherited),
        rounding=m.rounding / m.whole,
        clipping=m.clipping / m.whole,
        weights=m.weights / m.whole,
        clipped=m.share,
        macs=_macs(m),
        effect=effect,
        causes=tuple(causes(m, context)) if m.quality < WEAK else (),
    )


def _macs(m: Measured) -> int:
    if m.node is None:
        return 0
    shapes = [t.shape for t in m.node.inputs if t is not None]
    return macs(m.node.op, shapes, m.node.output.shape)


def _observed(t: Tensor, quantized: Quantized) -> Observed | None:
    return quantized.statistics.tensors.get(t)


def _outputs(quantized: Quantized, found: Sequence[Sequence[Array]]) -> list[Output]:
    outputs = [t for t in quantized.source.outputs if not t.is_const]
    made = []
    for i, t in enumerate(outputs):
        a = [o[i] for o in quantized.judged.outputs[: len(found)]]
        b = [o[i] for o in found]
        made.append(Output(t.name, sqnr(np.stack(a), np.stack(b)), variation_sqnr(a, b)))
    return made


def _histograms(worst: Sequence[Measured], quantized: Quantized) -> list[Histogram]:
    found: list[Histogram] = []
    for m in worst:
        o = _observed(m.tensor, quantized)
        if o is None or len(found) == HISTOGRAMS:
            continue
        low, high = m.reach
        first, last = min(low, o.low), max(high, o.high)
        x, p = o.values()
        shares = np.histogram(x, BINS, (first, last), weights=p)[0]
        found.append(
            Histogram(
                m.name, m.tensor.name, first, last, tuple(float(s) for s in shares), low, high
            )
        )
    return found
