# SPDX-License-Identifier: Apache-2.0
"""Measure what integers get right beside the float network: accuracy, agreement, latency.

Each network runs in its own runtime (.eqm in edgeq, .onnx in onnxruntime, .tflite in LiteRT), all
of them on every sample in turns. Intervals are those of 95 %: Wilson's for shares of samples, by
resampling the samples for everything else.

data: a folder of pictures, arrays or sound; an .npz file of arrays x (N, ...) and, as labels, y;
an .npy file; a Python file with samples(). Pictures need --preprocess.

labels, from --labels FILE or from where the data is:
  a folder for each class            data/cat/1.png; folders are the names or numbers of classes
  labels.tsv, labels.csv             FILE<TAB>CLASS a line; for boxes FILE, CLASS and four numbers
  y of the .npz file                 classes (N,), masks (N, H, W)
Names of classes are those in the .eqm file, or a line each in --classes FILE.

metrics [top1, top5, agreement, sqnr as far as they fit]:
  top1 top5     the label is among the best 1 or 5; of equal scores the first class counts
  agreement     the best class is the float network's
  mask-iou      of the classes of pixels, against masks or the float network's
  detections    F1 and IoU of boxes, against boxes or the float network's
  mse sqnr      difference from the float network's outputs
  FILE.py:NAME  NAME(float_outputs, int8_outputs, label) -> number or dict of numbers; outputs are
                dicts of arrays by name

examples:
  edgeq eval model.eqm --float model.onnx --data val/ --preprocess imagenet
  edgeq eval model.eqm --float model.tflite --against other_int8.tflite --data val.npz --json
  edgeq eval seg.eqm --float seg.onnx --data val/ --preprocess unit --metric mask-iou --class-axis 1
  edgeq eval det.eqm --float det.onnx --data val/ --preprocess unit \\
      --metric detections --boxes boxes --scores scores --format cxcywh
  edgeq eval model.eqm --float model.onnx --data samples.py --metric metric.py:score
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..compare.boxes import FORMATS, Detections
from ..compare.evaluate import Evaluation, Number, Result, evaluate
from ..compare.metrics import NAMES, make_metric, usual
from ..compare.runners import Runner, open_runner
from . import progress, text

if TYPE_CHECKING:
    from ..compare.data import Labelled


def add(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("model", help="an .eqm file (or a network of another tool)")
    parser.add_argument(
        "--float", metavar="FILE", default="", help=".onnx or .tflite: the original"
    )
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="FILE",
        help="other networks: .tflite, .onnx or .eqm",
    )
    add_data(parser)
    parser.add_argument("--labels", default="", metavar="FILE", help="see below")
    parser.add_argument("--classes", default="", metavar="FILE", help="a class's name a line")
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        help=f"{', '.join(NAMES)} or FILE.py:function; may be given again",
    )
    parser.add_argument("--output", default="", metavar="NAME", help="that is judged [the first]")
    parser.add_argument(
        "--class-axis", type=int, default=-1, metavar="N", help="of mask-iou: of the output [-1]"
    )
    parser.add_argument(
        "--threshold", type=float, default=0.5, help="of mask-iou: of a single channel [0.5]"
    )
    boxes = parser.add_argument_group("detections")
    boxes.add_argument("--boxes", default="", metavar="NAME", help="the output of boxes")
    boxes.add_argument("--scores", default="", metavar="NAME", help="the output of scores")
    boxes.add_argument(
        "--box-classes",
        default="",
        metavar="NAME",
        help="the output of classes, where there is one",
    )
    boxes.add_argument("--format", choices=FORMATS, default="xyxy", help="of boxes [xyxy]")
    boxes.add_argument("--min-score", type=float, default=0.25, help="of a box [0.25]")
    boxes.add_argument(
        "--nms",
        type=float,
        default=0.45,
        help="IoU above which lesser boxes go; 0: all stay [0.45]",
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of every runtime [1]")
    text.add_json(parser)


def add_data(parser: argparse.ArgumentParser) -> None:
    """The options that say what the networks run on."""
    parser.add_argument("--data", required=True, metavar="PATH", help="samples: see below")
    parser.add_argument(
        "--preprocess",
        metavar="HOW",
        help="of pictures: tf, imagenet, unit, raw, ... (edgeq.Preprocess)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="at most so many samples [all]")
    parser.add_argument("--skip-bad", action="store_true", help="leave out files that are damaged")


def run(options: argparse.Namespace) -> int:
    """Runs all networks on all samples; prints."""
    runners = open_all(options)
    data = open_data(options, runners[0][1], _classes(options, [r for _, r in runners]))
    names = options.metric or usual(runners[0][1].outputs, bool(data.labels), bool(options.float))
    detections = None
    if options.boxes or options.scores:
        detections = Detections(
            options.boxes,
            options.scores,
            options.box_classes,
            options.format,
            options.min_score,
            options.nms,
        )
    metrics = [
        make_metric(
            name,
            output=options.output,
            axis=options.class_axis,
            threshold=options.threshold,
            detections=detections,
        )
        for name in names
    ]
    with progress.bar(not options.json) as tell:
        found = evaluate(runners, data, metrics, tell, data.count)
    if options.json:
        text.print_json({**found.as_json(), "skipped": data.skipped})
        return 0
    print("\n".join(_lines(found, data.skipped)))
    return 0


def open_all(options: argparse.Namespace) -> list[tuple[str, Runner]]:
    """Role and network of every file; the float one first."""
    files = [
        *([("float", options.float)] if options.float else []),
        ("integers", options.model),
        *(("other", path) for path in options.against),
    ]
    return [(role, open_runner(path, options.threads)) for role, path in files]


def open_data(options: argparse.Namespace, first: Runner, classes: Sequence[str]) -> Labelled:
    """The samples of the options, for the first network's inputs."""
    from ..compare.data import open_labelled

    return open_labelled(
        options.data,
        first.inputs,
        preprocess=options.preprocess,
        labels=options.labels,
        classes=classes,
        limit=options.limit,
        skip_bad=options.skip_bad,
    )


def _classes(options: argparse.Namespace, runners: Sequence[Runner]) -> Sequence[str]:
    if options.classes:
        lines = Path(options.classes).read_text(encoding="utf-8-sig").splitlines()
        return [line.strip() for line in lines if line.strip()]
    return next((p.labels for r in runners for p in r.outputs if p.labels), ())


def _lines(found: Evaluation, skipped: Sequence[str]) -> list[str]:
    labelled = f", {text.count(found.labelled)} with labels" if found.labelled else ""
    lines = [f"{text.count(found.samples)} samples{labelled}", ""]
    rows = [row for result in found.results for row in _rows(result)]
    lines.append(text.table(rows, ("network", "", "", "95 % interval", "change from float")))
    ties = [
        f"  {r.name}: {text.count(r.ties)} of {text.count(found.samples)} samples"
        for r in found.results
        if r.ties
    ]
    if ties:
        lines += ["", "several classes share the best score (the first one counts):", *ties]
    if skipped:
        lines += ["", f"{len(skipped)} files left out, such as {skipped[0]}"]
    return lines


def _rows(result: Result) -> Iterator[tuple[str, ...]]:
    yield (
        f"{result.name} ({result.runtime})",
        "latency",
        text.duration(result.median_ns),
        f"best {text.duration(result.minimum_ns)}",
        "",
    )
    for n in result.numbers:
        change = "" if n.drop is None else _change(n)
        yield "", n.metric, _value(n, n.value), f"{_value(n, n.low)} .. {_value(n, n.high)}", change


def _is_share(name: str) -> bool:
    return name in ("top1", "top5", "agreement", "mask-iou", "f1", "box-iou")


def _value(n: Number, value: float) -> str:
    if value != value:
        return "none"
    if _is_share(n.metric):
        return f"{value:.2%}"
    return f"{value:.4g}" + (" dB" if n.metric == "sqnr" else "")


def _change(n: Number) -> str:
    assert n.drop is not None and n.drop_low is not None and n.drop_high is not None
    by = 100 if _is_share(n.metric) else 1
    form = "+.2f" if _is_share(n.metric) else "+.4g"
    change, low, high = (f"{0.0 - by * v:{form}}" for v in (n.drop, n.drop_high, n.drop_low))
    return f"{change}{' points' if by == 100 else ''} ({low} .. {high})"
