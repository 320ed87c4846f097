# SPDX-License-Identifier: Apache-2.0
"""Convert a .tflite or .onnx file to an .eqm file; a float network is quantized.

examples:
  edgeq convert model.tflite                      writes model.eqm beside it
  edgeq convert model.tflite -o board/model.eqm
  edgeq convert float.onnx --calibrate photos/ --preprocess imagenet,fit=crop
  edgeq convert float.onnx --calibrate samples.py --samples 200 --report quality.html
  edgeq convert float.tflite --calibrate features.npz --min-sqnr 20
  edgeq convert float.onnx --calibrate val/ --preprocess tf --max-drop 1
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
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from ..compare.data import classified
from ..compare.evaluate import too_large_a_drop
from ..converter import ARITHMETICS, Progress, Report, write_file
from ..converter import convert as convert_file
from ..difference import Difference, differences
from ..errors import ArgumentError
from ..format.golden import SEEDS
from ..quantize.calibrate import EFFORTS
from ..quantize.ranges import METHODS
from ..quantize.report import QuantizationReport, analyse
from ..quantizer import simulate
from ..report.quantization import as_json
from . import progress, text
from .quantization import blame, check_report_path, print_quantization, too_noisy, write_report

BRIEFLY = 4  # samples by which layers are measured for the terminal


def add(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("model", metavar="IN", help="a .tflite or .onnx file")
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
        help="of a quantized network: exact: the bytes of the source's reference kernels; native: "
        "a rounding that vector units do faster [exact]",
    )
    parser.add_argument(
        "--calibrate",
        metavar="DATA",
        help="of a float network: a folder of pictures, .npy, .npz or .wav files, one such file, a "
        "Python file with samples(), or none",
    )
    parser.add_argument(
        "--samples", type=int, metavar="N", help="calibrate with N samples, evenly spread [all]"
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out samples that cannot be read"
    )
    parser.add_argument(
        "--method", choices=("auto", *METHODS), default="auto", help="how ranges are found [auto]"
    )
    parser.add_argument(
        "--effort",
        choices=EFFORTS,
        default="default",
        help="fast: one pass over the data; high: learned rounding and a longer search [default]",
    )
    parser.add_argument(
        "--max-16bit",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="of the work, with int16 activations where 8 bits lose too much; 0: none [1]",
    )
    parser.add_argument(
        "--report", metavar="OUT.html", type=Path, help="what was lost where, as .html or .json"
    )
    parser.add_argument(
        "--min-sqnr",
        type=float,
        metavar="DB",
        help="exit with 2 and write nothing if an output is noisier on the calibration data",
    )
    parser.add_argument(
        "--max-drop",
        type=float,
        metavar="PERCENT",
        help="exit with 2 and write nothing if top-1 falls by more on the calibration data, or, "
        "without labels (see edgeq eval), if the best class is another one more often",
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
    if options.report is not None:
        check_report_path(options.report)
    if options.max_drop is not None and options.calibrate in (None, "none"):
        raise ArgumentError("--max-drop needs calibration data of a float network: --calibrate")
    quality: QuantizationReport | None = None
    with progress.bar(not options.json) as tell:
        converted = convert_file(
            options.model,
            None,
            input_shapes=shapes,
            arithmetic=options.arithmetic,
            calibrate=options.calibrate,
            samples=options.samples,
            skip_bad=options.skip_bad,
            preprocess=options.preprocess,
            method=options.method,
            effort=options.effort,
            max_16bit=options.max_16bit,
            progress=tell,
        )
        if converted.calibrated is not None:
            limits = options.min_sqnr is not None or options.max_drop is not None
            whole = options.report is not None or options.json or options.effort == "high"
            how = {} if whole or limits else {"examined": 0, "samples": BRIEFLY}
            quality = analyse(converted.calibrated.quantized, simulate, tell, **how)
        _check_source(options.model, out)
        sentence = "" if quality is None else _missed(options, converted.data, quality, tell)
    if sentence:
        print(f"edgeq: {options.model}: {sentence}; nothing was written", file=sys.stderr)
        return 2
    write_file(out, converted.data)
    if quality is not None and options.report is not None:
        write_report(options.report, quality, converted)
    found: list[Difference] = []
    if options.arithmetic != "exact" and quality is None:
        exact = convert_file(options.model, input_shapes=shapes)
        found = differences(exact.data, converted.data)
    if options.json:
        report = {"output": str(out), **dataclasses.asdict(converted.report)}
        if quality is not None:
            report["quantization"] = as_json(quality)
        if options.arithmetic != "exact" and quality is None:
            report["against_exact"] = {
                "seeds": list(SEEDS),
                "outputs": [dataclasses.asdict(d) for d in found],
            }
        text.print_json(report)
        return 0
    print(_table(converted.report, out))
    if quality is not None:
        print()
        print_quantization(quality)
    if found:
        print("\n" + _against_exact(found))
    return 0


def _missed(
    options: argparse.Namespace, data: bytes, quality: QuantizationReport, tell: Progress | None
) -> str:
    """Why --min-sqnr or --max-drop is missed, or ""."""
    sentence = ""
    if options.min_sqnr is not None:
        sentence = too_noisy(quality, options.min_sqnr)
    if options.max_drop is not None and not sentence:
        found = classified(
            options.model,
            data,
            options.calibrate,
            preprocess=options.preprocess,
            limit=options.samples,
            tell=tell,
        )
        sentence = too_large_a_drop(found, options.max_drop)
        sentence += blame(quality) if sentence else ""
    return sentence


def _check_source(model: str, out: Path) -> None:
    if out.exists() and out.samefile(model):
        raise ArgumentError(f"{out}: the output is the source itself")


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
