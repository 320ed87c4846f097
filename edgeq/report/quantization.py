# SPDX-License-Identifier: Apache-2.0
"""The report on a quantization as one HTML page, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from ..quantize.report import WEAK, Histogram, Layer, QuantizationReport
from .drawing import Frame, page, section, table, tiles

_MAX_DB = 70.0  # what the plot of layers shows


@dataclass(frozen=True)
class Costs:
    """What the network takes: as edgeq.Report has it; `live`: bytes of activations in use at each
    step."""

    ops: int
    macs: int
    weight_bytes: int
    file_bytes: int
    ram_bytes: int
    arena_bytes: int
    scratch_bytes: int
    live: tuple[int, ...] = ()


def as_json(report: QuantizationReport, costs: Costs | None = None) -> dict[str, Any]:
    """What json.dumps takes; ``worst``: names of layers, the worst first."""
    found = asdict(report)
    for row, layer in zip(found["layers"], report.layers):
        row["quality"], row["weak"] = layer.quality, layer.weak
    for row, repair in zip(found["repairs"], report.repairs):
        row["gain"] = repair.after - repair.before
    found["worst"] = [layer.name for layer in report.worst()]
    if costs is not None:
        found["costs"] = asdict(costs)
    return found


def as_html(report: QuantizationReport, costs: Costs | None = None) -> str:
    """One page that needs nothing else."""
    name = report.network or "network"
    return page(f"{name}: quantization", _parts(name, report, costs))


def _parts(name: str, report: QuantizationReport, costs: Costs | None) -> Iterator[str]:
    yield f"<h1>{escape(name)}: quantization</h1>"
    yield (
        f'<p class="soft">Integers against the float network, over {report.judged} of '
        f"{report.samples} calibration samples; ranges by "
        f"{escape(report.method or 'given values')}. Decibels are 10 log10 of signal to error: "
        "6 dB are a bit.</p>"
    )
    yield tiles(_facts(report, costs))
    rows = [(o.name, _db(o.sqnr), _db(o.variation)) for o in report.outputs]
    yield section(
        "Outputs",
        table(("output", "SQNR dB", "of what varies dB"), rows, (1, 2)),
    )
    if report.layers:
        yield section("Layers, first to last", _legend(), _depth(report.layers))
    yield section("Weak layers", *_weak(report))
    if report.histograms:
        figures = "".join(_histogram(h) for h in report.histograms)
        yield section(
            "Values of the worst tensors",
            '<p class="soft">How often each value came in calibration (bars, logarithmic), and the '
            "range of the integers (shaded).</p>",
            f'<div class="plots">{figures}</div>',
        )
    yield section("What was repaired", _repairs(report))
    yield section("Layers in 16 bits", _wide(report))
    if costs is not None and costs.live:
        yield section("RAM of activations, step by step", _ram(costs))
    yield section("All layers", _all(report))


def _facts(report: QuantizationReport, costs: Costs | None) -> Iterator[tuple[str, str]]:
    yield f"{report.score:.1f} dB", "outputs against float"
    yield str(sum(layer.weak for layer in report.layers)), f"layers below {WEAK:g} dB"
    yield str(sum(layer.bits == 16 for layer in report.layers)), "layers in 16 bits"
    if costs is not None:
        yield f"{costs.macs:,}", "multiply-accumulates"
        yield f"{costs.file_bytes:,}", "bytes of file"
        yield f"{costs.weight_bytes:,}", "bytes of weights and tables"
        yield f"{costs.ram_bytes:,}", "bytes of RAM"
        yield f"{costs.arena_bytes:,}", "of them activations"


def _db(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


# ---- drawings


def _legend() -> str:
    keys = (
        ("one", "output of the layer"),
        ("two", "its own error alone"),
        ("three", "the error that it inherits alone"),
    )
    made = "".join(
        f'<span class="key" style="background: var(--{kind})"></span>{what}' for kind, what in keys
    )
    return f'<p class="soft">dB, higher is better; a ring marks a weak layer.{made}</p>'


def _depth(layers: Sequence[Layer]) -> str:
    frame = Frame((1040, 300), (-0.5, len(layers) - 0.5), (0, _MAX_DB), "SQNR of each layer")
    frame.grid((db, f"{db} dB") for db in range(0, int(_MAX_DB) + 1, 10))
    step = max(1, math.ceil(len(layers) / 12))
    frame.below((i, str(i)) for i in range(0, len(layers), step))
    inherited = [(i, layer.inherited) for i, layer in enumerate(layers)]
    frame.path(inherited, "line-three")
    frame.path([(i, layer.sqnr) for i, layer in enumerate(layers)], "line-one")
    for i, layer in enumerate(layers):
        x, y = frame.x(i), frame.y(layer.quality)
        ring = ' style="stroke: var(--bad); stroke-width: 3"' if layer.weak else ""
        text = (
            f"{i} {layer.op} {layer.name}: {layer.sqnr:.1f} dB, own {layer.quality:.1f}, "
            f"inherited {layer.inherited:.1f}"
        )
        frame.parts.append(
            f'<circle class="two" cx="{x:.1f}" cy="{y:.1f}" r="4"{ring}>'
            f"<title>{escape(text)}</title></circle>"
        )
    return frame.done()


def _histogram(h: Histogram) -> str:
    floor = 1e-6  # share of values at which a bar has no height
    decades = -math.log10(floor)
    frame = Frame((340, 170), (h.first, h.last), (0.0, decades), f"values of {h.tensor}", 46)
    frame.grid((decades + k, f"1e{k}" if k else "1") for k in (0, -2, -4))
    left, right = frame.x(h.low), frame.x(h.high)
    frame.parts.append(
        f'<rect class="cut" x="{left:.1f}" y="{frame.top}" width="{right - left:.1f}" '
        f'height="{frame.bottom - frame.top}"/>'
    )
    width = (h.last - h.first) / len(h.shares)
    for i, share in enumerate(h.shares):
        if share > floor:
            x, y = frame.x(h.first + i * width), frame.y(math.log10(share) + decades)
            wide = frame.x(h.first + (i + 1) * width) - x
            frame.parts.append(
                f'<rect class="one" x="{x:.1f}" y="{y:.1f}" width="{max(wide - 0.4, 0.4):.1f}" '
                f'height="{frame.bottom - y:.1f}"/>'
            )
    for edge in (left, right):
        frame.parts.append(f'<path class="edge" d="M{edge:.1f} {frame.top}V{frame.bottom}"/>')
    marks = [(h.first, f"{h.first:.3g}"), (h.last, f"{h.last:.3g}")]
    if h.first < 0 < h.last and min(-h.first, h.last) > 0.12 * (h.last - h.first):
        marks.insert(1, (0.0, "0"))
    frame.below(marks)
    caption = f"{h.layer}: integers from {h.low:.4g} to {h.high:.4g}"
    return f"<figure>{frame.done()}<figcaption>{escape(caption)}</figcaption></figure>"


def _ram(costs: Costs) -> str:
    steps, top = len(costs.live), max(costs.live)
    frame = Frame((1040, 200), (0, steps), (0, top), "bytes in use at each step", 70)
    frame.grid((top * k / 4, f"{top * k / 4 / 1024:,.0f} KiB") for k in range(5))
    for i, used in enumerate(costs.live):
        x, y = frame.x(i), frame.y(used)
        wide = frame.x(i + 1) - x
        frame.parts.append(
            f'<rect class="one" x="{x:.1f}" y="{y:.1f}" width="{max(wide - 1, 0.5):.1f}" '
            f'height="{frame.bottom - y:.1f}"><title>step {i}: {used:,} bytes</title></rect>'
        )
    step = max(1, math.ceil(steps / 12))
    frame.below((i + 0.5, str(i)) for i in range(0, steps, step))
    return frame.done()


# ---- text


def _weak(report: QuantizationReport) -> Iterator[str]:
    weak = [layer for layer in report.worst() if layer.causes]
    if not weak:
        yield f"<p>None: the own error of every layer is {WEAK:g} dB or more below its values.</p>"
    for layer in weak:
        numbers = f"{layer.op}, own error {_db(layer.own)} dB"
        if layer.typical < layer.own - 1:
            numbers += f", {_db(layer.typical)} dB for what is not loud"
        numbers += f", inherited {_db(layer.inherited)} dB"
        if layer.effect is not None:
            numbers += (
                f"; with this layer alone in integers the outputs have {_db(layer.effect)} dB"
            )
        reasons = "".join(
            f'<li><b class="bad">{escape(c.name)}</b>: {escape(c.evidence)}'
            + (f" (about {c.bits:.1f} bits)" if c.bits else "")
            + f". Try: {escape(c.advice)}.</li>"
            for c in layer.causes
        )
        yield (
            f'<div class="card"><h3>{escape(layer.name)}</h3><p class="soft">{escape(numbers)}</p>'
            f"<ul>{reasons}</ul></div>"
        )


def _repairs(report: QuantizationReport) -> str:
    if not report.repairs:
        return "<p>Nothing was tried.</p>"
    rows = [
        (
            r.name,
            _db(r.before),
            _db(r.after),
            f"{r.after - r.before:+.1f}",
            "kept" if r.kept else "left out",
        )
        for r in report.repairs
    ]
    return table(("repair", "dB without", "dB with", "gain", ""), rows, (1, 2, 3))


def _wide(report: QuantizationReport) -> str:
    names = [f"<li>{escape(x.name)} ({escape(x.op)})</li>" for x in report.layers if x.bits == 16]
    return f"<ul>{''.join(names)}</ul>" if names else "<p>None.</p>"


def _all(report: QuantizationReport) -> str:
    headers = (
        *("", "layer", "op", "shape", "bits", "dB", "own", "typical", "inherited", "outputs"),
        *("range", "seen", "clipped", "MAC", "cause"),
    )
    rows = [
        (
            str(i),
            layer.name,
            layer.op,
            "x".join(map(str, layer.shape)),
            str(layer.bits),
            _db(layer.sqnr),
            _db(layer.own),
            _db(layer.typical),
            _db(layer.inherited),
            _db(layer.effect),
            f"{layer.low:.4g} .. {layer.high:.4g}",
            f"{layer.observed_low:.4g} .. {layer.observed_high:.4g}",
            f"{layer.clipped:.2%}" if layer.clipped else "",
            f"{layer.macs:,}" if layer.macs else "",
            ", ".join(c.name for c in layer.causes),
        )
        for i, layer in enumerate(report.layers)
    ]
    return table(headers, rows, (0, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13))
