# SPDX-License-Identifier: Apache-2.0
"""Handlers of ONNX's recurrent layers: one node for each direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir.graph import Tensor
from ..ir.ops import Lstm, Recurrent
from .onnx_context import OpContext
from .onnx_ops import weights
from .tflite_context import Refused

# Operator -> gates, activations of one direction.
_KINDS: dict[str, tuple[int, list[str]]] = {
    "LSTM": (4, ["Sigmoid", "Tanh", "Tanh"]),
    "GRU": (3, ["Sigmoid", "Tanh"]),
    "RNN": (1, ["Tanh"]),
}


def _recurrent(op: OpContext) -> None:
    name = op.record.op
    gates, functions = _KINDS[name]
    direction = op.attr_str("direction", "forward")
    if direction not in ("forward", "reverse", "bidirectional"):
        raise op.wrong(f"direction {direction!r}")
    directions = 2 if direction == "bidirectional" else 1
    _check(op, functions * directions)
    x, w, r = op.real(0), weights(op, 1), weights(op, 2)
    if len(x.shape) != 3 or len(w.shape) != 3 or len(r.shape) != 3:
        raise op.wrong(f"x {x.shape}, weights {w.shape} and {r.shape}")
    batch_first = op.attr_int("layout", 0)
    if batch_first:
        x = op.transpose(x, (1, 0, 2))
    steps, batch, depth = x.shape
    hidden = r.shape[2]
    if w.shape != (directions, gates * hidden, depth) or r.shape[:2] != w.shape[:2]:
        raise op.wrong(f"x {x.shape}, weights {w.shape} and {r.shape}")
    if op.has(4) and any(n != steps for n in op.integers(4, "sequence_lens")):
        raise Refused("sequences of different lengths are not supported")
    sequences, finals = [], []
    for d in range(directions):
        reverse = direction == "reverse" or d == 1
        states = [op.real(i) if op.has(i) else None for i in (5, 6)]
        if batch_first:
            states = [None if t is None else op.transpose(t, (1, 0, 2)) for t in states]
        states = [None if t is None else _part(op, t, d) for t in states]
        if name == "LSTM":
            attrs: Lstm | Recurrent = Lstm(time_major=True, reverse=reverse)
            inputs = [x, *_gates(op, d, hidden, depth), *states, *[None] * 4]
        else:
            attrs = Recurrent(reverse, bool(op.attr_int("linear_before_reset", 0)))
            bias = _part(op, weights(op, 3), d) if op.has(3) else None
            inputs = [x, _part(op, w, d), _part(op, r, d), bias, states[0]]
        outputs = _outputs(op, steps, batch, hidden, 2 if name == "LSTM" else 1)
        op.node(name, inputs, outputs, attrs)
        sequences.append(op.reshape(outputs[0], (steps, 1, batch, hidden)))
        finals.append([op.reshape(t, (1, batch, hidden)) for t in outputs[1:]])
    y = op.concat(sequences, 1)
    last = [op.concat(list(parts), 0) for parts in zip(*finals)]
    if batch_first:
        y = op.transpose(y, (2, 0, 1, 3))
        last = [op.transpose(t, (1, 0, 2)) for t in last]
    op.finish(y, *last)


def _gates(op: OpContext, direction: int, hidden: int, depth: int) -> list[Tensor | None]:
    """Inputs 1 ... 17 of LSTM. ONNX's gates come as input, output, forget, cell in one matrix, its
    peepholes as input, output, forget; it has two biases, which are always added."""
    kinds: list[list[Tensor | None]] = []
    for i, columns in ((1, depth), (2, hidden)):
        data = op.constant(i, "weights")[direction].reshape(4, hidden, columns)
        kinds.append([op.const(data[k]) for k in (0, 2, 3, 1)])
    if op.has(7):
        data = op.constant(7, "peepholes")[direction].reshape(3, hidden)
        kinds.append([op.const(data[k]) for k in (0, 2, 1)])
    else:
        kinds.append([None] * 3)
    bias = np.zeros((4, hidden), np.float32)
    if op.has(3):
        bias = op.constant(3, "bias")[direction].reshape(2, 4, hidden).sum(0)
    kinds.append([op.const(bias[k]) for k in (0, 2, 3, 1)])
    return [*(t for kind in kinds for t in kind), None, None]


def _check(op: OpContext, functions: list[str]) -> None:
    attrs: dict[str, Any] = op.record.attrs
    given = attrs.get("activations")
    if given and [str(f).lower() for f in given] != [f.lower() for f in functions]:
        raise Refused(f"its activations {given} are not supported, only {functions}")
    if attrs.get("clip") or attrs.get("input_forget"):
        raise Refused("clip and input_forget are not supported")


def _part(op: OpContext, t: Tensor, direction: int) -> Tensor:
    """One direction's part of a tensor whose first axis is the directions."""
    begin = [direction] + [0] * (len(t.shape) - 1)
    part = op.slice(t, begin, (1, *t.shape[1:])) if t.shape[0] > 1 else t
    return op.reshape(part, t.shape[1:])


def _outputs(op: OpContext, steps: int, batch: int, hidden: int, states: int) -> list[Tensor]:
    shapes = [(steps, batch, hidden)] + [(batch, hidden)] * states
    return [Tensor(f"{op.name}/{i}", shape, "float32") for i, shape in enumerate(shapes)]


RULES: dict[str, Callable[[OpContext], None]] = dict.fromkeys(_KINDS, _recurrent)
