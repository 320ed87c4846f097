# SPDX-License-Identifier: Apache-2.0
"""The file that a command was given, as .eqm bytes."""

from __future__ import annotations

from pathlib import Path

from ..format.cost import macs
from ..format.image import Image
from ..runtime.model import MAGIC


def read_eqm(path: str) -> bytes:
    """The file's bytes, those of a .tflite file after conversion. Raises what convert() raises."""
    data = Path(path).read_bytes()
    if data[: len(MAGIC)] == MAGIC:
        return data
    from ..converter import convert

    return convert(path).data


def op_macs(image: Image) -> list[int]:
    """Multiply-accumulates of every op."""
    shapes = [t.shape for t in image.tensors]
    return [macs(o.opcode, [shapes[i] for i in o.inputs], shapes[o.output]) for o in image.ops]
