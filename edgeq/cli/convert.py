# SPDX-License-Identifier: Apache-2.0
"""Convert a quantized .tflite file to an .eqm file.

examples:
  edgeq convert model.tflite                      writes model.eqm beside it
  edgeq convert model.tflite -o board/model.eqm
  edgeq convert model.tflite --input-shape image=1,224,224,3
  edgeq convert model.tflite --arithmetic native
  edgeq convert model.tflite --preprocess tf,crop=0.875
  edgeq convert model.tflite --preprocess imagenet,fit=crop
  edgeq convert model.tflite --preprocess mean=123.7:116.3:103.5,std=58.4:57.1:57.4,order=bgr
  edgeq convert model.tflite --preprocess unit,pad=114
  edgeq convert model.tflite --json

With native arithmetic the network is converted the exact way too, and both run on the inputs of the
golden cases: the report says how many outputs differ, and by how much.

--preprocess says what the network was trained with: the file carries it, and edgeq run, run_image
and eq_preprocess_rgb do it. Presets, of pixels x from 0 to 255:
  raw        x
  unit       x / 255
  tf         x / 127.5 - 1
  lite       (x - 127) / 128
  imagenet   (x - mean) / std, those of torchvision
  caffe      x - mean, channels blue, green, red
Options, after a preset or alone:
  mean=, std=    (x - mean) / std, one number or one a channel of the network: 0:0:0
  order=         rgb, bgr, gray [rgb, gray where the input has one channel]
  fit=stretch    both sides to the input's [this]
  fit=crop       cut to the input's shape, then resized (shorter side, then centre crop)
  fit=pad        resized as a whole, a colour around it: pad=114 or pad=114:114:114
  crop=0.875     keeps this central part of each side, before resizing
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..converter import ARITHMETICS, Progress, Report
from ..converter import convert as convert_file
from ..difference import Difference, differences
from ..format.golden import SEEDS
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
    parser.add_argument(
        "--arithmetic",
        choices=ARITHMETICS,
        default="exact",
        help="exact: the bytes of the source's reference kernels; native: a rounding that vector "
        "units do faster [exact]",
    )
    parser.add_argument(
        "--preprocess",
        metavar="PRESET[,KEY=VALUE]",
        help="what the network wants of pictures, see below; the file carries it",
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
    shapes = dict(options.input_shape)
    with _progress(not options.json) as progress:
        converted = convert_file(
            options.model,
            out,
            input_shapes=shapes,
            arithmetic=options.arithmetic,
            preprocess=options.preprocess,
            progress=progress,
        )
    found: list[Difference] = []
    if options.arithmetic != "exact":
        exact = convert_file(options.model, input_shapes=shapes)
        found = differences(exact.data, converted.data)
    if options.json:
        report = {"output": str(out), **dataclasses.asdict(converted.report)}
        if options.arithmetic != "exact":
            report["against_exact"] = {
                "seeds": list(SEEDS),
                "outputs": [dataclasses.asdict(d) for d in found],
            }
        text.print_json(report)
        return 0
    print(_table(converted.report, out))
    if found:
        print("\n" + _against_exact(found))
    return 0


def _against_exact(found: Sequence[Difference]) -> str:
    rows = [
        (
            d.output,
            d.dtype,
            f"{text.count(d.differing)} of {text.count(d.elements)}",
            f"{d.differing / d.elements:.2%}",
            str(d.max_step),
        )
        for d in found
    ]
    headers = ("output", "dtype", "differ", "", "largest step")
    return (
        f"against exact arithmetic, over the inputs of {len(SEEDS)} golden cases:\n"
        + text.table(rows, headers, indent="  ")
    )


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
        *(("note", note) for note in report.notes),
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
