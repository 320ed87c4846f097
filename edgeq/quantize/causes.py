# SPDX-License-Identifier: Apache-2.0
"""Why a layer's integers are far from its floats: a name, the numbers that say so, what to try."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..ir.graph import Node, Tensor
from .measure import Measured
from .observe import LAYERS, Observed
from .ranges import percentile
from .scheme import Scheme

_BITS = 1.0  # what a cause must cost at least to be named
_TAIL = 99.9  # per cent of the values that are no tail


@dataclass(frozen=True)
class Cause:
    """`bits`: of a tensor's 8 or 16, about, that this leaves unused; 0 where that says nothing."""

    name: str
    evidence: str
    advice: str
    bits: float = 0.0


@dataclass(frozen=True)
class Context:
    """What naming a cause looks at beside the layer itself."""

    scheme: Scheme
    observed: Mapping[Tensor, Observed]
    consumers: Mapping[Tensor, list[Node]]


def causes(m: Measured, context: Context) -> list[Cause]:
    """Of a layer with a large error of its own; the first one is to be cured first."""
    found: list[Cause] = []
    if m.clipping > 0.5 * m.whole:
        found += [_clipped(m, context)]
    elif m.weights > 0.5 * m.whole:
        found += [_weights(m, m.weights / m.whole)]
    wasted = sorted(_wasted(m, context), key=lambda cause: -cause.bits)
    named = {cause.name for cause in found}
    found += [cause for cause in wasted if cause.name not in named]
    return found or [_coarse(m)]


# ---- values beyond the range


def _clipped(m: Measured, context: Context) -> Cause:
    low, high = m.reach
    extremes = f"{float(m.low.min()):.4g} to {float(m.high.max()):.4g}"
    cut = (
        f"{m.share:.2%} of the values lie outside of {low:.4g} to {high:.4g}; there are {extremes}"
    )
    op = "" if m.node is None else m.node.op
    if not op:
        return Cause(
            "clipped input",
            cut,
            "give calibration data with the whole range of what the network will see, and check "
            "that preprocessing is that of the training",
        )
    if op in ("ADD", "SUB"):
        return Cause(
            "saturating add",
            cut,
            "calibrate by --method minmax, or keep this sum in 16 bits (--max-16bit)",
        )
    tail = _long_tail(m, context)
    if tail is not None:
        return Cause(tail.name, f"{cut}; {tail.evidence}", tail.advice, tail.bits)
    return Cause(
        "clipped range",
        cut,
        "calibrate by --method minmax, or with data that reaches these values",
    )


# ---- weights


def _weights(m: Measured, share: float) -> Cause:
    assert m.node is not None
    w = m.node.input(1).data
    assert w is not None
    axis = 3 if m.node.op == "DEPTHWISE_CONV_2D" else 0
    others = tuple(i for i in range(w.ndim) if i != axis)
    largest = np.abs(w).max(others)
    ratio = largest / np.maximum(np.sqrt((np.asarray(w, np.float64) ** 2).mean(others)), 1e-30)
    worst = int(np.argmax(ratio))
    return Cause(
        "weights",
        f"{share:.0%} of the error comes from rounding the weights; in channel {worst} the largest "
        f"is {ratio[worst]:.3g} times their root mean square",
        "calibrate with more samples, by which rounding is compensated, and --effort high; outliers"
        " among weights go away by training with weight decay or with weights that are clipped",
    )


# ---- a range of which little is used


def _wasted(m: Measured, context: Context) -> Iterator[Cause]:
    concat = _shared_scale(m, context)
    if concat is not None:
        yield concat
    channel = _outlier_channel(m)
    if channel is not None:
        yield channel
    if concat is None:
        dead = _dead_range(m)
        if dead is not None:
            yield dead
    tail = _long_tail(m, context)
    if tail is not None:
        yield tail


def _bits(ratio: float) -> float:
    return float(np.log2(max(ratio, 1e-9)))


def _shared_scale(m: Measured, context: Context) -> Cause | None:
    low, high = m.reach
    whole = high - low
    advice = (
        "scale the small input up before the CONCATENATION and down behind it (in the layers "
        "around it), do without the concatenation, or keep it in 16 bits (--max-16bit)"
    )
    if m.node is not None and m.node.op == "CONCATENATION" and m.parts is not None:
        spans = 2 * np.maximum(m.parts[:, 2], 1e-30)
        worst = int(np.argmin(spans))
        bits = _bits(2 * max(abs(low), abs(high)) / spans[worst])
        if bits >= _BITS:
            t = m.node.input(worst)
            return Cause(
                "shared concat scale",
                f"input {worst} {t.name!r} reaches {m.parts[worst, 2]:.4g} in a range of "
                f"{low:.4g} to {high:.4g}",
                advice,
                bits,
            )
        return None
    group = context.scheme.of[m.tensor]
    for node in context.consumers.get(m.tensor, []):
        if node.op == "CONCATENATION" and context.scheme.of.get(node.output) is group:
            bits = _bits(whole / max(_span(m), 1e-30))
            if bits >= _BITS:
                return Cause(
                    "shared concat scale",
                    f"it has {float(m.low.min()):.4g} to {float(m.high.max()):.4g}, and shares "
                    f"{low:.4g} to {high:.4g} with the other inputs of {node.name!r}",
                    advice,
                    bits,
                )
    return None


def _span(m: Measured) -> float:
    return max(float(m.high.max()), 0.0) - min(float(m.low.min()), 0.0)


def _outlier_channel(m: Measured) -> Cause | None:
    if len(m.low) < 2:
        return None
    largest, power = np.maximum(np.abs(m.low), np.abs(m.high)), np.sqrt(m.signal)
    used = largest > 0
    if used.sum() < 2:
        return None
    median = float(np.median(largest[used]))
    worst = int(np.argmax(largest))
    # of all its values, not of a single one
    loud = float(power[worst] / np.median(power[used]))
    bits = min(_bits(float(largest[worst]) / median), _bits(loud))
    # a channel or a few: many large ones are no outliers
    if bits < 2 * _BITS or (largest > largest[worst] / 2).sum() > max(1, len(largest) // 8):
        return None
    cure = (
        "equalise the channels' weights with those of the next layer"
        if m.node is not None and m.node.op in LAYERS
        else "equalise the channels in the layers before it"
    )
    return Cause(
        "outlier channel",
        f"channel {worst} reaches {float(largest[worst]):.4g}, the median of all "
        f"{len(largest)} channels is {median:.4g}",
        f"{cure}, clip that channel, or keep the tensor in 16 bits (--max-16bit)",
        bits,
    )


def _dead_range(m: Measured) -> Cause | None:
    low, high = m.reach
    used = float(m.high.max()) - float(m.low.min())
    bits = _bits((high - low) / max(used, 1e-30))
    if bits < _BITS:
        return None
    return Cause(
        "dead range",
        f"values from {float(m.low.min()):.4g} to {float(m.high.max()):.4g} use "
        f"{min(used / (high - low), 1.0):.0%} of the range from {low:.4g} to {high:.4g}",
        "the range is fixed by the op, by tensors that share it, by samples of another kind, or by "
        "zero, which every range holds: subtract a constant in the layer before, or keep it in 16 "
        "bits (--max-16bit)",
        bits,
    )


def _long_tail(m: Measured, context: Context) -> Cause | None:
    o = context.observed.get(m.tensor)
    if o is None:
        return None
    low, high = percentile(o, _TAIL)
    bulk = max(high, 0.0) - min(low, 0.0)
    whole = max(o.high, 0.0) - min(o.low, 0.0)
    bits = _bits(whole / max(bulk, 1e-30))
    if bits < _BITS:
        return None
    return Cause(
        "long tail",
        f"{_TAIL:g}% of the values lie from {low:.4g} to {high:.4g}, all of them from {o.low:.4g} "
        f"to {o.high:.4g}",
        "look at the samples that make the extremes; calibrate by --method mse or percentile, put a"
        " RELU6 or a clip into the network, or keep the tensor in 16 bits (--max-16bit)",
        bits,
    )


def _coarse(m: Measured) -> Cause:
    q = m.stored.qparams
    assert q is not None
    rms = float(np.sqrt(np.median(m.varying) / max(m.count / len(m.signal), 1)))
    bits = 16 if m.stored.dtype == "int16" else 8
    advice = "keep the tensor in 16 bits (--max-16bit)" if bits == 8 else "look at its inputs"
    return Cause(
        "coarse steps",
        f"a step of {float(q.scale):.4g} beside {rms:.4g}, the root mean square of what varies in "
        f"a channel: {bits} bits are few for these values",
        advice,
    )
