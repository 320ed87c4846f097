# SPDX-License-Identifier: Apache-2.0
"""The file that a command was given, as .eqm bytes."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..format.cost import macs
from ..format.image import Image
from ..runtime.model import MAGIC


def add_model(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which network, and how it is converted if it is a .tflite file."""
    parser.add_argument("model", help="an .eqm file, or a .tflite file to convert in memory")
    parser.add_argument(
        "--arithmetic",
        choices=("exact", "native"),
        help="how a .tflite file is converted [exact]; what an .eqm file must have [either]",
    )


def read_eqm(path: str, arithmetic: str | None) -> bytes:
    """The file's bytes, those of a .tflite file after conversion. Raises what convert() raises."""
    data = Path(path).read_bytes()
    if data[: len(MAGIC)] == MAGIC:
        return data
    from ..converter import convert

    return convert(path, arithmetic=arithmetic or "exact").data


def op_macs(image: Image) -> list[int]:
    """Multiply-accumulates of every op."""
    shapes = [t.shape for t in image.tensors]
    return [macs(o.opcode, [shapes[i] for i in o.inputs], shapes[o.output]) for o in image.ops]
