# SPDX-License-Identifier: Apache-2.0
"""Convert a quantized .tflite file to an .eqm file.

examples:
  edgeq convert model.tflite                      writes model.eqm beside it
  edgeq convert model.tflite -o board/model.eqm
  edgeq convert model.tflite --input-shape image=1,224,224,3
  edgeq convert model.tflite --json
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from ..converter import Progress, Report
from ..converter import convert as convert_file
from . import text


def add(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("model", metavar="IN", help="a .tflite file")
    parser.add_argument("-o", "--output", metavar="OUT", help="[IN with the ending .eqm]")
    parser.add_argument(
        "--input-shape",
        action="append",
        default=[],
        type=_named_shape,
        metavar="NAME=1,224,224,3",
        help="the shape of an input whose sizes the file leaves open; may be given again",
    )
    text.add_json(parser)


def _named_shape(argument: str) -> tuple[str, tuple[int, ...]]:
    name, separator, sizes = argument.rpartition("=")
    try:
        dims = tuple(int(size) for size in sizes.split(","))
    except ValueError:
        dims = ()
    if not separator or not dims or min(dims) < 1:
        raise argparse.ArgumentTypeError(f"expected NAME=1,224,224,3, not {argument!r}")
    return name, dims


def run(options: argparse.Namespace) -> int:
    """Converts, writes, and reports."""
    out = Path(options.output or Path(options.model).with_suffix(".eqm"))
    with _progress(not options.json) as progress:
        converted = convert_file(
            options.model, out, input_shapes=dict(options.input_shape), progress=progress
        )
    if options.json:
        text.print_json({"output": str(out), **dataclasses.asdict(converted.report)})
    else:
        print(_table(converted.report, out))
    return 0


def _table(report: Report, out: Path) -> str:
    rows = [
        ("operators", text.count(report.ops)),
        ("multiply-accumulates", text.count(report.macs)),
        ("weights and tables", f"{text.count(report.weight_bytes)} bytes"),
        ("file", f"{text.count(report.file_bytes)} bytes"),
        (
            "RAM",
            f"{text.count(report.ram_bytes)} bytes: activations {text.count(report.arena_bytes)}, "
            f"scratch {text.count(report.scratch_bytes)}",
        ),
        ("requantization", report.requantization),
    ]
    return f"{report.source} -> {out}\n" + "\n".join(f"  {k:22}{v}" for k, v in rows)


@contextlib.contextmanager
def _progress(wanted: bool) -> Iterator[Progress | None]:
    """A bar where rich is installed and stderr is a terminal, else nothing."""
    bar = _rich_bar() if wanted and sys.stderr.isatty() else None
    if bar is None:
        yield None
        return
    start, advance, stop = bar
    start()
    try:
        yield advance
    finally:
        stop()


def _rich_bar() -> tuple[Callable[[], None], Progress, Callable[[], None]] | None:
    try:
        from rich.console import Console
        from rich.progress import Progress as Bar
    except ImportError:
        return None
    bar = Bar(console=Console(stderr=True), transient=True)
    task = bar.add_task("", total=1.0)

    def advance(step: str, fraction: float) -> None:
        bar.update(task, description=step, completed=fraction)

    return bar.start, advance, bar.stop
