# SPDX-License-Identifier: Apache-2.0
"""Small .eqm files made by the writer alone, for tests of what lies around the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeq.format.program import Op, Port, Program, Value
from edgeq.format.writer import write_program

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "examples" / "digits" / "digits_int8.tflite"


def passing(*ports: tuple[str, str, tuple[int, ...], float, int]) -> Program:
    """Hands every input through: "x" -> "x out". A port is name, dtype, shape, scale, zero point.

    uint8 and quantized float32 ports are stored as int8.
    """
    program = Program([], [], [])
    for name, dtype, shape, scale, zero_point in ports:
        stored = "int8" if dtype in ("uint8", "float32") else dtype
        stored_zero = zero_point - 128 if dtype == "uint8" else zero_point
        x = Value(name, stored, shape, scale, stored_zero)
        y = Value(f"{name} out", stored, shape, scale, stored_zero)
        program.ops.append(Op("COPY", name, [x], y))
        program.inputs.append(Port(name, x, dtype, scale, zero_point))
        program.outputs.append(Port(f"{name} out", y, dtype, scale, zero_point))
    return program


MIXED = passing(
    ("bytes", "uint8", (1, 2, 3), 0.5, 100),
    ("image", "int8", (1, 4, 4, 1), 0.25, -3),
    ("real", "float32", (5,), 0.125, 10),
    ("index", "int32", (3,), 0.0, 0),
    ("long", "int64", (2,), 0.0, 0),
    ("flag", "bool", (2, 2), 0.0, 0),
)


def slow(megabytes: int = 4, ops: int = 60) -> bytes:
    """A file whose run takes a while: tables applied one after another."""
    table = np.arange(-128, 128).astype(np.int8)[::-1].copy()
    shape = (megabytes, 1 << 20)
    values = [Value(f"v{i}", "int8", shape) for i in range(ops + 1)]
    lut = [
        Op("LUT", f"op{i}", [a], b, {"table": table})
        for i, (a, b) in enumerate(zip(values, values[1:]))
    ]
    return write_program(
        Program(lut, [Port("x", values[0], "int8")], [Port("y", values[-1], "int8")])
    )
