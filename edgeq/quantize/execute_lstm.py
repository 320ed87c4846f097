# SPDX-License-Identifier: Apache-2.0
"""LSTM for execute.py: ONNX's own where it computes the same, else a Scan over the steps.

ONNX's LSTM has no projection and no layer normalization, its gates are coupled in another way, and
its clip is one of the gates' sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..ir.graph import Array, Node

if TYPE_CHECKING:
    from .execute import Emitter

# The first of each kind of input, as ir/ops.py lists them.
INPUT, RECURRENT, PEEPHOLE, BIAS, PROJECTION, STATES, NORM = 1, 5, 9, 12, 16, 18, 20
ORDER = (0, 3, 1, 2)  # gates as ONNX has them: input, output, forget, cell
EPSILON = 1e-8  # TFLite takes this for a variance of 0


def lstm(e: Emitter, node: Node) -> None:
    a = node.attrs
    own = a.cell_clip or a.projection_clip or not _has(node, INPUT)
    own = own or _has(node, PROJECTION) or _has(node, NORM + 1)
    (_scan if own else _onnx)(e, node)


def _has(node: Node, i: int) -> bool:
    return len(node.inputs) > i and node.inputs[i] is not None


def _data(e: Emitter, node: Node, i: int, shape: tuple[int, ...]) -> Array:
    """Constant input i; zeros of `shape` where it is left out."""
    return e.data(node.input(i)) if _has(node, i) else np.zeros(shape, np.float32)


def _cells(node: Node) -> int:
    return node.input(INPUT + 1).shape[0]


def _onnx(e: Emitter, node: Node) -> None:
    a, x, cells = node.attrs, node.input(0), _cells(node)

    def stacked(first: int, order: Sequence[int]) -> Array:
        return np.concatenate([_data(e, node, first + k, (cells,)) for k in order])[None]

    bias = stacked(BIAS, ORDER)
    operands = [
        e.name(x) if a.time_major else e.add("Transpose", [e.name(x)], perm=(1, 0, 2)),
        e.constant(stacked(INPUT, ORDER)),
        e.constant(stacked(RECURRENT, ORDER)),
        e.constant(np.concatenate([bias, np.zeros_like(bias)], 1)),
        "",
    ]
    for i in (STATES, STATES + 1):
        state = e.add("Unsqueeze", [e.name(node.input(i)), e.ints(0)]) if _has(node, i) else ""
        operands.append(state)
    if _has(node, PEEPHOLE + 1):
        operands.append(e.constant(stacked(PEEPHOLE, (0, 2, 1))))
    direction = "reverse" if a.reverse else "forward"
    names = e.add_many("LSTM", operands, 3, hidden_size=cells, direction=direction)
    y = e.add("Squeeze", [names[0], e.ints(1)])
    e.bind(node.outputs[0], y if a.time_major else e.add("Transpose", [y], perm=(1, 0, 2)))
    for t, name in zip(node.outputs[1:], names[1:]):
        e.bind(t, e.add("Squeeze", [name, e.ints(0)]))


def _scan(e: Emitter, node: Node) -> None:
    a, x, y = node.attrs, node.input(0), node.outputs[0]
    axis = 0 if a.time_major else 1
    batch, cells, outputs = x.shape[1 - axis], _cells(node), y.shape[2]
    states = []
    for i, width in ((STATES, outputs), (STATES + 1, cells)):
        zero = np.zeros((batch, width), np.float32)
        states.append(e.name(node.input(i)) if _has(node, i) else e.constant(zero))
    step = _Step(e, node)
    names = e.add_scan(
        step.nodes,
        [(step.h, (batch, outputs)), (step.c, (batch, cells)), (step.x, (batch, x.shape[2]))],
        [step.out, step.cell, e.again(step.nodes, step.out)],
        [*states, e.name(x)],
        axis,
        a.reverse,
    )
    e.bind(y, names[2])
    for t, name in zip(node.outputs[1:], names[:2]):
        e.bind(t, name)


class _Step:
    """The nodes of one step: from x, h and c to the new h, `out`, and the new c, `cell`."""

    def __init__(self, e: Emitter, node: Node) -> None:
        self.e, self.node = e, node
        with e.body() as self.nodes:
            self.x, self.h, self.c = e.fresh(), e.fresh(), e.fresh()
            self._run()

    def _run(self) -> None:
        e, a = self.e, self.node.attrs
        forget = e.add("Sigmoid", [self._sum(1, self.c)])
        if _has(self.node, INPUT):
            fresh = e.add("Sigmoid", [self._sum(0, self.c)])
        else:
            fresh = e.add("Sub", [e.constant(np.ones(1, np.float32)), forget])
        fresh = e.add("Mul", [fresh, e.add("Tanh", [self._sum(2, "")])])
        cell = e.add("Add", [e.add("Mul", [forget, self.c]), fresh])
        self.cell = self._clip(cell, a.cell_clip)
        gate = e.add("Sigmoid", [self._sum(3, self.cell)])
        out = e.add("Mul", [gate, e.add("Tanh", [self.cell])])
        if _has(self.node, PROJECTION):
            out = e.add("MatMul", [out, self._constant(PROJECTION, turned=True)])
            if _has(self.node, PROJECTION + 1):
                out = e.add("Add", [out, self._constant(PROJECTION + 1)])
            out = self._clip(out, a.projection_clip)
        self.out = out

    def _constant(self, i: int, turned: bool = False) -> str:
        data = self.e.data(self.node.input(i))
        return self.e.constant(np.ascontiguousarray(data.T) if turned else data)

    def _sum(self, k: int, cell: str) -> str:
        """The sum of gate k, to which `cell` contributes by its peephole."""
        e, node = self.e, self.node
        parts = [
            e.add("MatMul", [x, self._constant(first + k, turned=True)])
            for x, first in ((self.x, INPUT), (self.h, RECURRENT))
        ]
        total = e.add("Add", parts)
        peephole = PEEPHOLE + (0, 1, -1, 2)[k]
        if cell and _has(node, peephole):
            total = e.add("Add", [total, e.add("Mul", [cell, self._constant(peephole)])])
        if _has(node, NORM + k):
            centred = e.add("Sub", [total, e.add("ReduceMean", [total], axes=[1])])
            variance = e.add("ReduceMean", [e.add("Mul", [centred, centred])], axes=[1])
            variance = e.add("Max", [variance, e.constant(np.array([EPSILON], np.float32))])
            total = e.add("Div", [centred, e.add("Sqrt", [variance])])
            total = e.add("Mul", [total, self._constant(NORM + k)])
        return e.add("Add", [total, self._constant(BIAS + k)]) if _has(node, BIAS + k) else total

    def _clip(self, name: str, clip: float) -> str:
        if not clip:
            return name
        bounds = [self.e.constant(np.array(bound, np.float32)) for bound in (-clip, clip)]
        return self.e.add("Clip", [name, *bounds])
