# SPDX-License-Identifier: Apache-2.0
"""Convert the digits network, read the 360 test digits with it, and show what it saw.

Needs numpy and edgeq with its converter (``pip install "edgeq[convert]"``). Exits with 0 if the
accuracy is at least 95 %, with 1 if it is not.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

import edgeq

HERE = Path(__file__).resolve().parent
MODEL = HERE / "digits_int8.tflite"
FLOAT_CORRECT = 354  # of the 360 test digits, by digits_float.tflite; see README.md
PASS = 0.95
WARM_UP = 20  # runs that are not timed
ACROSS = 4  # digits side by side
GAP = "    "
SHADES = " .:-=+*#%@"


def draw(image: npt.NDArray[np.uint8]) -> list[str]:
    """Draw a picture (8, 8) of values 0..16 as 8 lines of 16 characters."""
    last = len(SHADES) - 1
    return ["".join(SHADES[int(value) * last // 16] * 2 for value in row) for row in image]


def show(
    chosen: Sequence[int],
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.uint8],
    probabilities: npt.NDArray[np.float32],
) -> None:
    """Print the chosen pictures side by side, each with the network's answer below it.

    images (N, 8, 8), labels (N,), probabilities (N, 10); chosen holds indices below N.
    """
    names = (HERE / "labels.txt").read_text(encoding="ascii").split()
    for first in range(0, len(chosen), ACROSS):
        columns = []
        for index in chosen[first : first + ACROSS]:
            answer = int(probabilities[index].argmax())
            verdict = f"{names[answer]}  {probabilities[index, answer]:.1%}"
            truth = "" if answer == labels[index] else f"is: {names[labels[index]]}"
            frame = "+" + "-" * 16 + "+"
            rows = [f"|{row}|" for row in draw(images[index])]
            columns.append([frame, *rows, frame, verdict.center(18), truth.center(18)])
        print()
        for line in range(len(columns[0])):
            text = GAP.join(column[line] for column in columns).rstrip()
            if text:
                print("  " + text)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description="Convert the digits network to .eqm, run it on its test set, show the result.",
        epilog="example: python examples/digits/run.py --count 8 --out digits.eqm",
    )
    parser.add_argument(
        "--count", type=int, default=4, metavar="N", help="test digits to show [%(default)s]"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="keep the .eqm file here [a temporary folder]"
    )
    return parser.parse_args()


def evaluate(eqm: Path, count: int) -> float:
    """Run the file on the test split, print the figures and `count` digits; the accuracy."""
    edgeq.convert(str(MODEL), out=str(eqm))
    session = edgeq.load(str(eqm))
    source, sink = session.inputs[0], session.outputs[0]

    with np.load(HERE / "digits_test.npz") as data:
        images, labels = data["images"], data["labels"]
    # A run quantizes floats on the way in: real = scale * (q - zero_point).
    inputs = (images.astype(np.float32) / np.float32(16)).reshape(-1, *source.shape)

    for x in inputs[:WARM_UP]:
        session.run(x)
    outputs, nanoseconds = [], []
    for x in inputs:
        start = time.perf_counter_ns()
        (quantized,) = session.run(x)
        nanoseconds.append(time.perf_counter_ns() - start)
        outputs.append(quantized[0])
    answers = np.stack(outputs).argmax(axis=1)
    probabilities = np.stack([session.run(x, float_output=True)[0][0] for x in inputs])

    correct, total = int((answers == labels).sum()), len(labels)
    median, least = statistics.median(nanoseconds) / 1e3, min(nanoseconds) / 1e3
    for tensor, role in ((source, "input"), (sink, "output")):
        shape = " x ".join(str(size) for size in tensor.shape)
        print(
            f"{role:9} {shape} {np.dtype(tensor.dtype).name}, "
            f"scale {tensor.scale:.6g}, zero point {tensor.zero_point}"
        )
    print(f"file      {eqm.stat().st_size:,} bytes ({MODEL.name}: {MODEL.stat().st_size:,})")
    print(f"RAM       {session.memory_bytes:,} bytes")
    print(f"latency   {median:.1f} us median, {least:.1f} us at best, one picture from Python")
    print(
        f"accuracy  {correct}/{total} = {correct / total:.2%}; "
        f"the float network: {FLOAT_CORRECT}/{total} = {FLOAT_CORRECT / total:.2%}"
    )

    show(range(min(count, total)), images, labels, probabilities)
    wrong = [int(index) for index in np.flatnonzero(answers != labels)][:count]
    if wrong:
        print(f"\n{total - correct} of {total} were misread:")
        show(wrong, images, labels, probabilities)
    return correct / total


def main() -> int:
    """Run the example; 0 if the network reads well enough, 1 if not."""
    arguments = parse_arguments()
    if arguments.out is not None:
        accuracy = evaluate(arguments.out, arguments.count)
    else:
        with tempfile.TemporaryDirectory() as folder:
            accuracy = evaluate(Path(folder, "digits.eqm"), arguments.count)
    return 0 if accuracy >= PASS else 1


if __name__ == "__main__":
    sys.exit(main())
