# SPDX-License-Identifier: Apache-2.0
"""What the lowering rules share: the program under construction and the ways to refuse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..format.program import Op, Value
from ..format.spec import MAX_RANK
from ..ir.graph import Array, Node, QParams, Tensor

BYTE_OR_WORD = ("int8", "int16")


class Refused(Exception):
    """This op cannot be lowered; the message is the reason and `tensor` what it is about."""

    def __init__(self, reason: str, tensor: Tensor | None = None) -> None:
        super().__init__(reason)
        self.tensor = tensor


@dataclass
class Lowering:
    """Values and ops so far: a rule reads with `value` and writes with `emit`, `run` or `bind`.

    `arithmetic`: ``"exact"`` or ``"native"``. `notes`: what the user should know of the result.
    """

    arithmetic: str = "exact"
    values: dict[Tensor, Value] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def value(self, t: Tensor) -> Value:
        """The value of an input; a constant gets one when it is first read."""
        if t not in self.values:
            if t.data is None:
                raise Refused("it comes from an op that could not be lowered", t)
            self.bind(t, new_value(t, data=np.ascontiguousarray(t.data).reshape(t.shape)))
        return self.values[t]

    def bind(self, t: Tensor, value: Value) -> None:
        self.values[t] = value

    def emit(
        self, node: Node, opcode: str, inputs: Sequence[Value], output: Value, **params: Any
    ) -> Value:
        """Appends an op that writes `output`."""
        self.ops.append(Op(opcode, node.name, list(inputs), output, params))
        return output

    def run(self, node: Node, opcode: str, *inputs: Tensor, **params: Any) -> None:
        """Appends an op from tensors to the node's output."""
        values = [self.value(t) for t in inputs]
        self.bind(node.output, self.emit(node, opcode, values, new_value(node.output), **params))


Rule = Callable[[Lowering, Node], None]


def new_value(t: Tensor, shape: tuple[int, ...] | None = None, data: Array | None = None) -> Value:
    """A value with the tensor's dtype and quantization, under another shape if one is given."""
    scale, zero_point = 0.0, 0
    if t.qparams is not None and not t.qparams.per_channel:
        scale, zero_point = float(t.qparams.scale), t.qparams.zero_point
    shape = t.shape if shape is None else shape
    return Value(t.name, t.dtype, shape, scale, zero_point, data)


def view(t: Tensor, owner: Value) -> Value:
    """The bytes of `owner` under the shape of t; of a constant, a constant."""
    if owner.data is not None:
        return new_value(t, data=owner.data.reshape(t.shape))
    value = new_value(t)
    value.view_of = owner.owner
    return value


def quantized(t: Tensor, *dtypes: str) -> QParams:
    """The scale and zero point of a tensor of one of `dtypes`, int8 by default."""
    allowed = dtypes or ("int8",)
    if t.dtype not in allowed:
        hint = "; quantize this layer with int8 activations" if t.dtype == "int16" else ""
        raise Refused(f"its type is {t.dtype}, {' or '.join(allowed)} is needed{hint}", t)
    q = t.qparams
    if q is None:
        raise Refused("it is not quantized", t)
    if q.per_channel:
        raise Refused("it is quantized per channel", t)
    if not (np.isfinite(q.scale) and q.scale > 0):
        raise Refused(f"its scale is {q.scale:g}", t)
    low, high = (-128, 127) if t.dtype == "int8" else (0, 0)
    if not low <= q.zero_point <= high:
        raise Refused(f"its zero point {q.zero_point} is out of range for {t.dtype}", t)
    return q


def quantized_alike(x: Tensor, y: Tensor) -> tuple[QParams, QParams]:
    """Those of two tensors that are both int8 or both int16."""
    qx, qy = quantized(x, *BYTE_OR_WORD), quantized(y, *BYTE_OR_WORD)
    if x.dtype != y.dtype:
        raise Refused(f"its type is {y.dtype}, that of {x.name!r} is {x.dtype}", y)
    return qx, qy


def describe(node: Node, index: int = -1) -> str:
    """An op as the source file counts it; `index` is for ops that it does not have."""
    where = node.source_index if node.source_index >= 0 else index
    return f"op {where} {node.op} {node.name!r}"


def from_uint8(node: Node) -> bool:
    """Whether the source network computed this op on uint8."""
    return any(t is not None and t.source_dtype == "uint8" for t in [*node.inputs, *node.outputs])


def six(values: Sequence[int], fill: int) -> tuple[int, ...]:
    """One value a dimension, `fill` for the dimensions beyond the rank."""
    return tuple(values) + (fill,) * (MAX_RANK - len(values))
