# SPDX-License-Identifier: Apache-2.0
"""TFLite's UNIDIRECTIONAL_SEQUENCE_LSTM on float32, whose operands are those of the op LSTM.

What it has put out last and its cells are variables in TFLite, which survive a run: states.
"""

from __future__ import annotations

import numpy as np

from ..ir.graph import State, Tensor
from ..ir.ops import Lstm
from .tflite_context import OpContext, Refused, Shape
from .tflite_ops import Rule

TANH = 4
# The first of each kind of input; gates are in the order input, forget, cell, output.
INPUT, RECURRENT, PEEPHOLE, BIAS, PROJECTION, STATES, NORM = 1, 5, 9, 12, 16, 18, 20
OPERANDS = 24


def _lstm(op: OpContext) -> None:
    op.expect(20, 24)
    x = op.ranked(0, 3)
    if op.option("FusedActivationFunction") != TANH:
        raise Refused("an activation function other than tanh is not supported")
    if op.option("DiagonalRecurrentTensors"):
        raise Refused("diagonal recurrent weights are not supported")
    major = bool(op.option("TimeMajor"))
    steps, batch = x.shape[:2] if major else x.shape[1::-1]
    cells = op.ranked(INPUT + 1, 2).shape[0]
    outputs = op.ranked(PROJECTION, 2).shape[0] if op.has(PROJECTION) else cells
    _check_presence(op)
    shapes: dict[int, Shape] = {
        **dict.fromkeys(range(INPUT, RECURRENT), (cells, x.shape[2])),
        **dict.fromkeys(range(RECURRENT, PEEPHOLE), (cells, outputs)),
        **dict.fromkeys(range(PEEPHOLE, PROJECTION), (cells,)),
        PROJECTION: (outputs, cells),
        PROJECTION + 1: (outputs,),
        **dict.fromkeys(range(NORM, OPERANDS), (cells,)),
    }
    inputs: list[Tensor | None] = [x, *[None] * (OPERANDS - 1)]
    for i, shape in shapes.items():
        inputs[i] = _constant(op, i, shape) if op.has(i) else None
    attrs = Lstm(major, False, op.real("CellClip"), op.real("ProjClip"))
    if min(attrs.cell_clip, attrs.projection_clip) < 0:
        raise op.wrong(f"clips of {attrs.cell_clip} and {attrs.projection_clip}")
    y = op.result((steps, batch, outputs) if major else (batch, steps, outputs))
    after = []
    for i, shape in ((STATES, (batch, outputs)), (STATES + 1, (batch, cells))):
        before = inputs[i] = _state(op, i, shape)
        after.append(op.hidden(before, shape, "/after"))
        zeros = np.zeros(shape, np.float32)
        op.builder.states.append(State(before.name, before, after[-1], zeros))
    op.add("LSTM", inputs, [y, *after], attrs)


def _check_presence(op: OpContext) -> None:
    """Operands that may be left out are so together."""
    coupled = not op.has(INPUT)
    for first, kinds in ((RECURRENT, "recurrent weights"), (BIAS, "bias")):
        if op.has(first) == coupled:
            raise op.wrong(f"the input gate's weights and {kinds} are not there together")
    for i in (*range(RECURRENT + 1, PEEPHOLE), *range(BIAS + 1, PROJECTION), INPUT + 2, INPUT + 3):
        if not op.has(i):
            raise op.wrong(f"input {i} is missing")
    for first, others in ((PEEPHOLE, (1, 2)), (NORM, (1, 2, 3))):
        found = {op.has(first + k) for k in others}
        if len(found) > 1 or (op.has(first) and (coupled or found == {False})):
            raise op.wrong(f"inputs {first} to {first + others[-1]} are not there together")
        if found == {True} and not coupled and not op.has(first):
            raise op.wrong(f"input {first} is missing")
    if op.has(PROJECTION + 1) and not op.has(PROJECTION):
        raise op.wrong("a projection's bias without projection")


def _constant(op: OpContext, i: int, shape: Shape) -> Tensor:
    data, t = op.constant(i, f"input {i}"), op.tensor(i)
    if t.dtype != "float32" or data.shape != shape:
        raise op.wrong(f"{t.name!r} is {t.dtype} {data.shape}, not float32 {shape}")
    return t


def _state(op: OpContext, i: int, shape: Shape) -> Tensor:
    """A variable, which begins as zeros; no other operator reads or writes it."""
    record = op.input_record(i)
    if record.type != "FLOAT32":
        raise Refused(f"a state of type {record.type.lower()} is not supported")
    if record.index in op.builder.values:
        raise op.wrong(f"its state {record.label} is used elsewhere")
    if op.builder.strict_shapes and record.shape != shape:
        raise op.wrong(f"its state {record.label} has shape {record.shape}, not {shape}")
    t = op.builder.tensor(record.index, shape)
    op.builder.values[record.index] = t
    return t


RULES: dict[str, Rule] = {
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Rule(_lstm, (*range(STATES), *range(NORM, OPERANDS)), "float")
}
