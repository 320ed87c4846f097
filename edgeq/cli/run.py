# SPDX-License-Identifier: Apache-2.0
"""Run a network on pictures, sound or arrays.

PICTURE files are cut, resized and scaled as the file says (edgeq convert --preprocess); the network
runs once on each.

inputs given by --input, by the ending of the file:
  picture    resized (bilinear) to the input's height and width, 3 channels or grey. uint8 inputs
             get the pixels, int8 ones pixel - 128, float32 ones pixel / 255. With --mean or --std
             the input gets (pixel - mean) / std, quantized by its scale and zero point; the other
             of the two is then 0 or 255. Without these options, what the file says, if it does
  .npy       an array of the input's shape and dtype, or of floats, which are quantized
  .wav       16 bit, mono, as many samples as the input has elements: sample / 32768
  .bin .raw  the input's bytes

examples:
  edgeq run model.eqm photo.jpg
  edgeq run model.eqm photos/*.jpg --top 1
  edgeq run model.eqm --input photo.jpg --labels labels.txt --top 3
  edgeq run model.tflite --input photo.jpg --mean 127.5 --std 127.5
  edgeq run model.eqm --input image=photo.jpg --input state=state.npy --output out.npz
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.pictures import read_rgb
from ..errors import ArgumentError
from ..runtime.model import TensorInfo
from ..runtime.session import Session
from . import text, threads
from .inputs import Array, Scaling, is_picture, read
from .network import add_model


def add(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help="run on each of these")
    parser.add_argument(
        "-i",
        "--input",
        action="append",
        default=[],
        metavar="[NAME=]FILE",
        help="one an input, in their order or by name",
    )
    parser.add_argument("--labels", metavar="FILE", help="one label a line [those in the model]")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="best scores [5]")
    parser.add_argument("--mean", type=_numbers, metavar="M[,M,M]", help="for pictures [0]")
    parser.add_argument("--std", type=_numbers, metavar="S[,S,S]", help="for pictures [255]")
    parser.add_argument("-o", "--output", metavar="FILE", help=".npy (one output) or .npz")
    threads.add(parser)
    text.add_json(parser)


def _numbers(argument: str) -> tuple[float, ...]:
    return tuple(float(number) for number in argument.split(","))


def run(options: argparse.Namespace) -> int:
    """Reads the inputs, runs once or once a picture, prints the outputs."""
    session = threads.session(options, options.model)
    scaling = Scaling(options.mean, options.std)
    if options.std is not None and 0 in options.std:
        raise ArgumentError("--std must not be 0")
    labels = _labels(options.labels)
    if options.pictures:
        _run_pictures(options, session, labels)
        return 0
    paths = _assign(options.input, session.inputs)
    files = {t.name: path for t, path in zip(session.inputs, paths)}
    outputs, elapsed = _run_files(session, files, scaling)
    if options.output:
        _save(Path(options.output), session.outputs, outputs)
    results = _results(session, outputs, labels, options.top)
    if options.json:
        text.print_json({"outputs": results, "milliseconds": elapsed / 1e6})
    else:
        for result in results:
            print(_shown(result))
        print(f"one run, the first: {text.duration(elapsed)}")
    return 0


def _run_files(
    session: Session, files: Mapping[str, Path], scaling: Scaling
) -> tuple[list[Array], int]:
    """The outputs for one file an input, by name, and the nanoseconds of the run."""
    tensors = {t.name: t for t in session.inputs}
    known = [session.inputs[i].name for i in session.model.pictures]
    pictures = [n for n in known if is_picture(files[n]) and not scaling.given]
    if len(pictures) > 1:
        raise ArgumentError(f"one picture a run: give all but one of {pictures} as arrays")
    rgb = read_rgb(files[pictures[0]]) if pictures else None
    arrays = {n: read(p, tensors[n], scaling) for n, p in files.items() if n not in pictures}
    begin = time.perf_counter_ns()
    if rgb is None:
        outputs = session.run(*(arrays[t.name] for t in session.inputs))
    else:
        outputs = session.run_image(rgb, input=pictures[0], others=arrays)
    return outputs, time.perf_counter_ns() - begin


def _run_pictures(options: argparse.Namespace, session: Session, labels: Sequence[str]) -> None:
    if options.output:
        raise ArgumentError("--output saves one run: give the picture as --input")
    names = [t.name for t in session.inputs]
    given = dict(argument.partition("=")[::2] for argument in options.input)
    rest = [name for name in names if name not in given]
    if len(rest) != 1 or not set(given) <= set(names):
        raise ArgumentError(
            f"the inputs are {names}: give all but that of the picture as --input NAME=FILE"
        )
    scaling = Scaling(options.mean, options.std)
    if names.index(rest[0]) not in session.model.pictures and not scaling.given:
        raise ArgumentError(
            f"{options.model} does not say what input {rest[0]!r} wants of pictures. Convert its "
            "source again with what the network was trained with, as in\n"
            "  edgeq convert MODEL --preprocess tf,crop=0.875\n"
            "or give --mean and --std here (edgeq run --help)"
        )
    others = {name: Path(file) for name, file in given.items()}
    runs = []
    for picture in options.pictures:
        outputs, elapsed = _run_files(session, {rest[0]: Path(picture), **others}, scaling)
        results = _results(session, outputs, labels, options.top)
        runs.append({"file": picture, "outputs": results, "milliseconds": elapsed / 1e6})
        if not options.json:
            print(f"{picture}  {text.duration(elapsed)}")
            for result in results:
                print(_shown(result))
    if options.json:
        text.print_json({"pictures": runs})


def _results(
    session: Session, outputs: Sequence[Array], labels: Sequence[str], top: int
) -> list[dict[str, Any]]:
    return [_result(t, a, labels or t.labels, top) for t, a in zip(session.outputs, outputs)]


def _assign(given: Sequence[str], tensors: Sequence[TensorInfo]) -> list[Path]:
    """The file of each input."""
    names = [t.name for t in tensors]
    files: dict[int, Path] = {}
    for argument in given:
        name, separator, file = argument.partition("=")
        if separator and name in names:
            index = names.index(name)
        else:
            file = argument
            index = next((i for i in range(len(names)) if i not in files), len(names))
        if index in files or index == len(names):
            raise ArgumentError(f"--input {argument}: one file too many for {names}")
        files[index] = Path(file)
    missing = [str(t) for i, t in enumerate(tensors) if i not in files]
    if missing:
        raise ArgumentError(f"no --input for {', '.join(missing)}")
    return [files[i] for i in range(len(names))]


def _labels(path: str | None) -> tuple[str, ...]:
    return tuple(Path(path).read_text(encoding="utf-8").splitlines()) if path else ()


def _real(t: TensorInfo, a: Array) -> Array:
    if not t.scale or t.dtype == np.float32:
        return a
    return np.float32(t.scale) * (a.astype(np.float32) - np.float32(t.zero_point))


def _result(t: TensorInfo, a: Array, labels: Sequence[str], top: int) -> dict[str, Any]:
    """Scores: the best of them; anything larger: what its values are like."""
    result: dict[str, Any] = {"name": t.name, "dtype": str(t.dtype), "shape": list(t.shape)}
    real = _real(t, a)
    if max(a.shape, default=1) == a.size:
        flat = real.reshape(-1)
        best = np.argsort(-flat.astype(np.float64), kind="stable")[: max(top, 1)]
        result["top"] = [
            {
                "index": int(i),
                "label": labels[i] if i < len(labels) else "",
                "value": flat[i].item(),
            }
            for i in best
        ]
    else:
        values = real.astype(np.float64)
        result["statistics"] = {
            "minimum": float(values.min()),
            "maximum": float(values.max()),
            "mean": float(values.mean()),
            "std": float(values.std()),
        }
    return result


def _shown(result: dict[str, Any]) -> str:
    head = f"{result['name']}  {result['dtype']} {text.shape(result['shape'])}"
    if "top" in result:
        rows = [(f"{r['value']:.6g}", r["label"] or r["index"]) for r in result["top"]]
        return f"{head}\n{text.table(rows, indent='  ')}"
    return head + "".join(f"  {k} {v:.6g}" for k, v in result["statistics"].items())


def _save(path: Path, tensors: Sequence[TensorInfo], outputs: Sequence[Array]) -> None:
    """The outputs as they are, in the network's dtype."""
    if path.suffix.lower() == ".npz":
        with open(path, "wb") as file:
            np.savez(file, **{t.name: a for t, a in zip(tensors, outputs)})
    elif path.suffix.lower() == ".npy" and len(outputs) == 1:
        np.save(path, outputs[0])
    else:
        raise ArgumentError(f"--output {path}: expected .npz, or .npy for a single output")
