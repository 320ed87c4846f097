# SPDX-License-Identifier: Apache-2.0
"""What a conversion of a float network says of its integers: table, files, and the limits that it
must keep."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ..converter import Converted, write_file
from ..errors import ArgumentError
from ..format.reader import read_program
from ..format.writer import short_name
from ..quantize.report import Layer, QuantizationReport
from ..report.quantization import Costs, as_html, as_json
from . import text

_SHOWN = 10


def print_quantization(report: QuantizationReport, width: int | None = None) -> None:
    """The outputs, the worst layers and why, on stdout; `width` of the terminal."""
    columns = width or shutil.get_terminal_size((100, 24)).columns
    text.emphasised(quantization_lines(report, columns))


def quantization_lines(report: QuantizationReport, width: int) -> list[tuple[str, str]]:
    """Lines and how they are to be emphasised: "", "bad" or "soft"."""
    lines = [
        (
            f"integers against float, over {report.judged} of {report.samples} samples "
            f"({report.method}):",
            "",
        )
    ]
    rows = [(o.name, f"{o.sqnr:.1f} dB", f"{o.variation:.1f} dB") for o in report.outputs]
    outputs = text.table(rows, ("output", "SQNR", "of what varies"), indent="  ")
    lines += [(line, "") for line in outputs.splitlines()]
    tried = [
        (r.name, f"{r.after - r.before:+.1f} dB", "" if r.kept else "left out")
        for r in report.repairs
    ]
    lines += [(line, "") for line in text.table(tried, indent="  ").splitlines()]
    wide = sum(layer.bits == 16 for layer in report.layers)
    if wide:
        lines.append((f"  {wide} of {len(report.layers)} layers in 16 bits", ""))
    lines.append(("", ""))
    worst = report.worst()[:_SHOWN]
    rest = len(report.layers) - len(worst)
    lines.append(("the worst layers first, dB:" if rest else "layers, the worst first, dB:", ""))
    cells = [_row(layer) for layer in worst]
    others = text.table([("", *row[1:]) for row in cells], ("", *_HEADERS[1:]), indent="  ")
    room = width - max(map(len, others.splitlines()), default=0)
    names = text.shortened([short_name(layer.name) for layer in worst], max(16, room))
    shown = [(name, *row[1:]) for name, row in zip(names, cells)]
    head, *body = text.table(shown, _HEADERS, indent="  ").splitlines()
    lines.append((head[:width], "soft"))
    lines += [(line[:width], "bad" if x.weak else "") for line, x in zip(body, worst)]
    legend = f"and {rest} more; {_LEGEND}" if rest else _LEGEND
    lines += [(line, "soft") for line in text.wrapped(legend, width, "  ")]
    return [*lines, *_reasons(worst, width)]


_LEGEND = (
    "own: its own error, typ: in the median channel, inh: what its inputs bring, out: the outputs "
    "with this layer alone in integers"
)
_HEADERS = ("layer", "op", "bits", "dB", "own", "typ", "inh", "out", "cause")


def _row(layer: Layer) -> tuple[str, ...]:
    effect = "" if layer.effect is None else f"{layer.effect:.1f}"
    return (
        layer.name,
        layer.op,
        str(layer.bits),
        f"{layer.sqnr:.1f}",
        f"{layer.own:.1f}",
        f"{layer.typical:.1f}",
        f"{layer.inherited:.1f}",
        effect,
        layer.causes[0].name if layer.causes else "",
    )


def _reasons(worst: list[Layer], width: int) -> list[tuple[str, str]]:
    lines = []
    for layer in worst:
        for cause in layer.causes:
            lines.append(("", ""))
            lines += [(line, "bad") for line in text.wrapped(f"{layer.name}: {cause.name}", width)]
            for sentence in (cause.evidence, f"try: {cause.advice}"):
                lines += [(line, "") for line in text.wrapped(sentence, width, "  ")]
    return lines


def write_report(path: Path, report: QuantizationReport, converted: Converted) -> None:
    """An .html or .json file. Raises ArgumentError for another ending, OSError."""
    check_report_path(path)
    costs = costs_of(converted)
    if path.suffix == ".json":
        document = json.dumps(as_json(report, costs), indent=2, ensure_ascii=False) + "\n"
    else:
        document = as_html(report, costs)
    write_file(path, document.encode())


def check_report_path(path: Path) -> None:
    """Raises ArgumentError unless a report can have that name; before the work begins."""
    if path.suffix not in (".html", ".json"):
        raise ArgumentError(f"{path}: a report is an .html or a .json file")


def costs_of(converted: Converted) -> Costs:
    """Size, work and memory of what was made."""
    r = converted.report
    return Costs(
        ops=r.ops,
        macs=r.macs,
        weight_bytes=r.weight_bytes,
        file_bytes=r.file_bytes,
        ram_bytes=r.ram_bytes,
        arena_bytes=r.arena_bytes,
        scratch_bytes=r.scratch_bytes,
        live=tuple(read_program(converted.data).plan.live),
    )


def too_noisy(report: QuantizationReport, least: float) -> str:
    """Why the outputs miss --min-sqnr, and the layer to blame; "" if they do not."""
    low = min(report.outputs, key=lambda o: o.variation, default=None)
    if low is None or low.variation >= least:
        return ""
    return f"output {low.name!r} has {low.variation:.1f} dB, --min-sqnr asks for {least:g}" + blame(
        report
    )


def blame(report: QuantizationReport) -> str:
    """The layer that costs most, as the end of a sentence."""
    worst = next(iter(report.worst()), None)
    if worst is None:
        return ""
    why = f", {worst.causes[0].name}" if worst.causes else ""
    if worst.effect is None:
        return f"; the worst layer is {worst.op} {worst.name!r} (own {worst.quality:.1f} dB{why})"
    return (
        f"; the worst layer is {worst.op} {worst.name!r}: with it alone in integers the outputs "
        f"have {worst.effect:.1f} dB (own {worst.quality:.1f} dB{why})"
    )
