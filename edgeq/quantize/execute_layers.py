# SPDX-License-Identifier: Apache-2.0
"""GRU, RNN, choices of the largest and of boxes, QUANTIZE and DEQUANTIZE for execute.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import UnsupportedError
from ..ir.graph import Node

if TYPE_CHECKING:
    from .execute import Emitter


def recurrent(e: Emitter, node: Node) -> None:
    """ONNX's layer of one direction; its tensors have an axis for the directions."""
    a, x, y = node.attrs, node.input(0), node.output
    inputs = [e.name(x)]
    for t in node.inputs[1:4]:
        inputs.append("" if t is None else e.constant(e.data(t)[None]))
    inputs.append("")  # sequence_lens
    for t in node.inputs[4:]:
        inputs.append("" if t is None else e.add("Unsqueeze", [e.name(t), e.ints(0)]))
    while not inputs[-1]:
        inputs.pop()
    more = {"linear_before_reset": int(a.linear_before_reset)} if node.op == "GRU" else {}
    names = e.add_many(
        node.op,
        inputs,
        2,
        hidden_size=y.shape[2],
        direction="reverse" if a.reverse else "forward",
        **more,
    )
    for t, name, axis in zip(node.outputs, names, (1, 0)):
        e.bind(t, e.add("Squeeze", [name, e.ints(axis)]))


def top_k(e: Emitter, node: Node) -> None:
    a = node.attrs
    inputs = [e.name(node.input(0)), e.ints(a.k)]
    names = e.add_many("TopK", inputs, 2, axis=a.axis, largest=int(a.largest))
    for y, name in zip(node.outputs, names):
        e.bind(y, name)


def non_max_suppression(e: Emitter, node: Node) -> None:
    a, rows = node.attrs, node.output.shape[0]
    limits = [e.constant(np.array(v, np.float32)) for v in (a.iou, a.score)]
    inputs = [e.name(node.input(0)), e.name(node.input(1)), e.ints(a.most), *limits]
    chosen = e.add("NonMaxSuppression", inputs, center_point_box=int(a.centred))
    missing = e.constant(np.full((rows, 3), -1, np.int64))
    all_rows = e.add("Concat", [chosen, missing], axis=0)
    e.bind(node.output, e.add("Slice", [all_rows, e.ints(0), e.ints(rows), e.ints(0)]))


def quantize(e: Emitter, node: Node) -> None:
    """QUANTIZE of real numbers and DEQUANTIZE, which rounds ties to even."""
    x, y = node.input(0), node.output
    q = y.qparams if node.op == "QUANTIZE" else x.qparams
    if q is None or q.per_channel or {x.dtype, y.dtype} != {"int8", "float32"}:
        raise UnsupportedError(f"{node.op} {node.name!r} cannot be run in float")
    first = e.is_first(x)
    numbers = [e.constant(np.array(q.scale)), e.constant(np.array(q.zero_point, np.int8))]
    op = "QuantizeLinear" if node.op == "QUANTIZE" else "DequantizeLinear"
    e.bind(y, e.add(op, [e.name(x, first), *numbers]), first)
