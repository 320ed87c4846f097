# SPDX-License-Identifier: Apache-2.0
"""A file's program with what its ops write as outputs."""

from __future__ import annotations

from collections.abc import Sequence

from .image import Image
from .program import Op, Port, Program, Value

MAX_WATCHED = 200  # ops in one program; a file has 256 ports at most


def watched(image: Image, ops: Sequence[int]) -> Program:
    """The program of a file whose outputs are those of these ops, in their order; quantized ones
    as float32. Golden cases, metadata and pictures are left out."""
    values = [
        Value(f"t{t.index}", t.dtype, t.shape, t.scale, t.zero_point, t.data) for t in image.tensors
    ]
    for t, value in zip(image.tensors, values):
        if t.kind == "view":
            value.view_of = values[t.storage]
    program = Program(
        [
            Op(o.opcode, o.name, [values[i] for i in o.inputs], values[o.output], dict(o.params))
            for o in image.ops
        ],
        [Port(p.name, values[p.tensor], p.dtype, p.scale, p.zero_point) for p in image.inputs],
        [],
    )
    for i in ops:
        y = values[image.ops[i].output]
        dtype = "float32" if y.scale else y.dtype
        program.outputs.append(Port(f"op {i}", y, dtype, y.scale, y.zero_point))
    return program
