# SPDX-License-Identifier: Apache-2.0
"""Compare an .eqm file with its float network layer by layer.

Both run on the same samples; for every operator the decibels of the float network's values to the
difference: where they fall for good, quantization lost something. "scaled": the channels differ by
constant factors that the next layer takes back, as cross-layer equalization makes them; the
decibels are those without them.

With --min-sqnr the exit code is 2 if a layer is below.

examples:
  edgeq compare model.eqm model.onnx --data photos/ --preprocess imagenet
  edgeq compare model.eqm model.tflite --data samples.npz --limit 50
  edgeq compare model.eqm model.onnx --data samples.npz --worst 10 --json
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from ..data.samples import open_samples
from ..errors import ArgumentError
from ..layerwise import Comparison, Layerwise
from ..runtime.model import MAGIC
from . import progress, text
from .evaluate import add_data

SAMPLES = 16


def add(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("model", help="an .eqm file")
    parser.add_argument("float", help="the .onnx or .tflite file that it was made from")
    add_data(parser)
    parser.set_defaults(limit=SAMPLES)
    parser.add_argument(
        "--worst", type=int, metavar="N", help="only the N worst layers, worst first"
    )
    parser.add_argument("--min-sqnr", type=float, metavar="DB", help="exit with 2 below it")
    text.add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Runs both, prints."""
    data = Path(options.model).read_bytes()
    if data[: len(MAGIC)] != MAGIC:
        raise ArgumentError(f"{options.model}: not an .eqm file; edgeq convert makes one")
    with progress.bar(not options.json) as tell:
        comparison = Comparison(data, options.float)
        samples = open_samples(
            options.data,
            comparison.graph.inputs,
            options.preprocess,
            options.limit,
            skip_bad=options.skip_bad,
        )
        found = comparison.run(samples, tell, samples.count)
    if options.json:
        text.print_json(asdict(found))
    else:
        _show(found, options)
    worst = found.worst()
    if options.min_sqnr is not None and worst.sqnr < options.min_sqnr:
        print(
            f"edgeq: {options.model}: {worst.op} {worst.name!r} has {worst.sqnr:.1f} dB, "
            f"--min-sqnr asks for {options.min_sqnr:g}",
            file=sys.stderr,
        )
        return 2
    return 0


def _show(found: Layerwise, options: argparse.Namespace) -> None:
    width = shutil.get_terminal_size((100, 24)).columns
    layers = list(found.layers)
    if options.worst is not None:
        layers = sorted(layers, key=lambda layer: layer.sqnr)[: options.worst]
    names = text.shortened([layer.name for layer in layers], max(16, width - 76))
    rows = [
        (
            str(layer.index),
            layer.op,
            name,
            text.shape(layer.shape),
            f"{layer.sqnr:.1f}",
            f"{layer.low:.4g} .. {layer.high:.4g}",
            "scaled" if layer.scaled else "",
        )
        for layer, name in zip(layers, names)
    ]
    samples = text.count(found.samples)
    print(f"{options.model} against {options.float}, {samples} samples\n")
    headers = ("op", "type", "name", "output", "dB", "float", "")
    head, *body = text.table(rows, headers).splitlines()
    limit = options.min_sqnr
    marks = ["bad" if limit is not None and x.sqnr < limit else "" for x in layers]
    text.emphasised([(head, "soft"), *zip(body, marks)])
    for what, others in (("the file", found.only_file), ("the float network", found.only_float)):
        if others:
            shown = ", ".join(others[:6]) + (", ..." if len(others) > 6 else "")
            print("\n" + "\n".join(text.wrapped(f"only in {what}: {shown}", width)))
