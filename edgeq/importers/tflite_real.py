# SPDX-License-Identifier: Apache-2.0
"""TFLite's int8 kernels of functions and of products; tflite_float.py has those of float32."""

from __future__ import annotations

from ..ir.ops import Gelu, MatMul, NoAttrs
from .tflite_context import OpContext, Refused
from .tflite_ops import WHOLE, Rule, broadcast


def _named(op: OpContext) -> None:
    op.expect(1)
    x = op.tensor(0)
    op.emit(op.record.name, [x], NoAttrs(), x.shape)


def _gelu(op: OpContext) -> None:
    op.expect(1)
    x = op.tensor(0)
    op.emit("GELU", [x], Gelu(bool(op.option("Approximate"))), x.shape)


def _squared_difference(op: OpContext) -> None:
    op.expect(2)
    a, b = op.tensor(0), op.tensor(1)
    op.emit("SQUARED_DIFFERENCE", [a, b], NoAttrs(), broadcast(op, a.shape, b.shape))


def batch_matmul(op: OpContext) -> None:
    op.expect(2)
    x, y = op.tensor(0), op.tensor(1)
    if min(len(x.shape), len(y.shape)) < 2:
        raise op.wrong(f"shapes {x.shape} and {y.shape}")
    attrs = MatMul(bool(op.option("AdjX")), bool(op.option("AdjY")))
    rows, depth = x.shape[-2:][::-1] if attrs.transpose_x else x.shape[-2:]
    inner, columns = y.shape[-2:][::-1] if attrs.transpose_y else y.shape[-2:]
    if depth != inner:
        raise op.wrong(f"shapes {x.shape} and {y.shape} do not fit")
    shape = (*broadcast(op, x.shape[:-2], y.shape[:-2]), rows, columns)
    op.emit("BATCH_MATMUL", [x, y], attrs, shape)


def _l2_normalization(op: OpContext) -> None:
    op.expect(1)
    x = op.tensor(0)
    if op.activation() != "NONE":
        raise Refused(f"a fused {op.activation()} is not supported")
    if not x.shape:
        raise op.wrong("of a scalar")
    y = op.result(x.shape)
    near = y.qparams is not None and abs(float(y.qparams.scale) - 1 / 128) <= 1e-6
    if y.qparams is None or not near or y.qparams.zero_point != 0:
        raise Refused("its output must have scale 1/128 and zero point 0 as int8")
    op.add("L2_NORMALIZATION", [x], [y], NoAttrs())


RULES: dict[str, Rule] = {
    "RSQRT": Rule(_named, types="signed", int16=False),
    "EXP": Rule(_named, types="signed", int16=False),
    "ELU": Rule(_named, types="signed", int16=False),
    "GELU": Rule(_gelu, types="signed", int16=False),
    "SQUARED_DIFFERENCE": Rule(
        _squared_difference, (0, 1), also=WHOLE, types="signed", int16=False
    ),
    "BATCH_MATMUL": Rule(batch_matmul, (0, 1), types="signed", int16=False),
    "L2_NORMALIZATION": Rule(_l2_normalization, types="signed", int16=False),
}
