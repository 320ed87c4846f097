# SPDX-License-Identifier: Apache-2.0
"""Lowering: the shape of programs, and what is refused. What they compute is in test_ops_*.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edgeq.errors import UnsupportedError
from edgeq.format.program import Program
from edgeq.format.spec import OPS as LAYOUTS
from edgeq.ir import ops
from edgeq.ir.graph import Graph, Node, QParams, Tensor
from edgeq.quantize.lower import RULES, lower

Q = QParams.of(0.5, 3)


def tensor(
    name: str, shape: Sequence[int], q: QParams | None = Q, dtype: str = "int8", source: str = ""
) -> Tensor:
    return Tensor(name, tuple(shape), dtype, q, None, source)


def const(name: str, data: np.ndarray, q: QParams | None = Q) -> Tensor:
    return Tensor(name, data.shape, data.dtype.name, q, data)


def lowered(
    op: str, inputs: list[Tensor | None], output: Tensor, attrs: Any = None, index: int = 0
) -> Program:
    """The program of a graph of one op."""
    node = Node(op, inputs, [output], attrs or ops.NoAttrs(), "layer", index)
    return lower(Graph([node], [t for t in inputs if t and not t.is_const], [output]))


def test_every_lowered_op_has_a_rule() -> None:
    float_only = {"DEQUANTIZE", "GRU", "LSTM", "NON_MAX_SUPPRESSION", "RNN", "SVDF"}
    assert set(RULES) == {name for name, s in ops.OPS.items() if s.lowered} - float_only


def conv(scales: Sequence[float], bias: np.ndarray | None = None) -> Program:
    w = np.ones((4, 3, 3, 2), np.int8)
    q = QParams(np.array(scales, np.float32), np.zeros(len(scales), np.int32), 0)
    b = None if bias is None else const("b", bias, None)
    inputs = [tensor("x", (1, 8, 8, 2)), const("w", w, q), b]
    return lowered("CONV_2D", inputs, tensor("y", (1, 6, 6, 4)), ops.Conv2D())


@pytest.mark.parametrize(
    ("scales", "count"), [([0.1], 1), ([0.1] * 4, 1), ([0.1, 0.2, 0.1, 0.1], 4)]
)
def test_equal_multipliers_become_one(scales: list[float], count: int) -> None:
    (op,) = conv(scales, np.arange(4, dtype=np.int32)).ops
    assert set(op.params) == {name for name, _ in LAYOUTS["CONV_2D"].fields}
    assert op.params["requant_count"] == len(op.params["multiplier"]) == count
    assert op.params["multiplier"].dtype == np.int32
    assert op.params["exponent"].dtype == np.int8


def test_a_channel_without_scale_gives_zero_points() -> None:
    (op,) = conv([0.1, 2.0**-40, 0.1, 0.1]).ops
    assert (op.params["multiplier"][1], op.params["exponent"][1]) == (0, 0)
    assert op.params["bias"] is None


def test_dimensions_beyond_the_rank() -> None:
    x = tensor("x", (2, 3))
    (op,) = lowered("PAD", [x], tensor("y", (3, 5)), ops.Pad((1, 2), (0, 0), 3)).ops
    assert op.params == {"before": (1, 2, 0, 0, 0, 0), "value": 3}
    (op,) = lowered("TRANSPOSE", [x], tensor("y", (3, 2)), ops.Transpose((1, 0))).ops
    assert op.params["perm"] == (1, 0, 2, 3, 4, 5)
    (op,) = lowered("SLICE", [x], tensor("y", (1, 1)), ops.Slice((1, 2), (1, -1))).ops
    assert op.params == {"begin": (1, 2, 0, 0, 0, 0), "stride": (1, -1, 1, 1, 1, 1)}


def test_reductions_drop_dimensions_by_a_view() -> None:
    x = tensor("x", (2, 4, 5, 3))
    program = lowered("MEAN", [x], tensor("y", (2, 3)), ops.Reduce((1, 2), False))
    (op,) = program.ops
    assert (op.output.shape, op.params["axes"]) == ((2, 1, 1, 3), 0b110)
    value = program.outputs[0].value
    assert (value.shape, value.view_of) == ((2, 3), op.output)

    y = tensor("y", (2, 4, 5), None, "int64")
    program = lowered("ARG_MAX", [x], y, ops.Axis(3))
    assert program.ops[0].output.shape == (2, 4, 5, 1)
    assert program.outputs[0].dtype == program.outputs[0].value.dtype == "int64"


def test_reshape_is_a_view_of_the_owner() -> None:
    x, a, b = tensor("x", (2, 6)), tensor("a", (3, 4)), tensor("b", (12,))
    nodes = [Node("RESHAPE", [x], [a], ops.NoAttrs(), "a"), Node("RESHAPE", [a], [b], None, "b")]
    program = lower(Graph(nodes, [x], [b]))
    assert not program.ops
    assert program.outputs[0].value.view_of is program.inputs[0].value


def test_constant_operands_become_values() -> None:
    data = np.arange(3, dtype=np.int8)
    inputs: list[Tensor | None] = [tensor("x", (2, 3)), const("c", data)]
    (op,) = lowered("MUL", inputs, tensor("y", (2, 3)), ops.Arithmetic()).ops
    np.testing.assert_array_equal(op.inputs[1].data, data)


def test_sub_is_an_add() -> None:
    inputs: list[Tensor | None] = [tensor("x", (3,)), tensor("z", (3,), QParams.of(0.25))]
    (op,) = lowered("SUB", inputs, tensor("y", (3,)), ops.Arithmetic()).ops
    assert (op.opcode, op.params["sign2"]) == ("ADD", -1)
    assert (op.params["m1"], op.params["e1"]) == (2**30, 0)
    assert (op.params["m2"], op.params["e2"]) == (2**30, -1)


def test_concatenation_rescales_through_tables() -> None:
    """Inputs of the output's scale are taken as they are, constants are rescaled here."""
    other = QParams.of(1.0, 0)
    inputs: list[Tensor | None] = [
        tensor("a", (1, 2)),
        tensor("b", (1, 2), other),
        const("c", np.array([[-5, 5]], np.int8), other),
    ]
    program = lowered("CONCATENATION", inputs, tensor("y", (1, 6)), ops.Axis(1))
    lut, concatenation = program.ops
    assert lut.opcode == "LUT"
    a, b, c = concatenation.inputs
    assert a is program.inputs[0].value
    assert b is lut.output
    assert c.data is not None
    assert c.data.tolist() == [[-7, 13]]
    assert lut.params["table"][128 + 5] == 13


@pytest.mark.parametrize(("dtype", "zero_point"), [("int8", 3), ("uint8", 131), ("float32", 3)])
def test_ports_show_the_callers_dtype(dtype: str, zero_point: int) -> None:
    x, y = tensor("x", (3,)), tensor("y", (3,))
    node = Node("TANH", [x], [y], ops.NoAttrs(), "t")
    labels = {y: "a\nb\nc"}
    graph = Graph([node], [x], [y], labels=labels, input_dtypes=["int8"], output_dtypes=[dtype])
    port = lower(graph).outputs[0]
    assert (port.name, port.dtype, port.scale, port.zero_point) == ("y", dtype, 0.5, zero_point)
    assert port.labels == "a\nb\nc"
    assert (port.value.dtype, port.value.zero_point) == ("int8", 3)


def test_average_pool_of_uint8_has_an_offset() -> None:
    for source, offset in (("uint8", 128), ("int8", 0)):
        x, y = tensor("x", (1, 4, 4, 1), source=source), tensor("y", (1, 2, 2, 1), source=source)
        (op,) = lowered("AVERAGE_POOL_2D", [x], y, ops.Pool((2, 2), (2, 2))).ops
        assert op.params["offset"] == offset
        (op,) = lowered("MAX_POOL_2D", [x], y, ops.Pool((2, 2), (2, 2))).ops
        assert op.params["offset"] == 0


@pytest.mark.parametrize("n_out", [1, 7, 20])
def test_resize_taps_stay_inside(n_out: int) -> None:
    x, y = tensor("x", (1, 5, 5, 1), source="uint8"), tensor("y", (1, n_out, n_out, 1))
    attrs = ops.Resize(half_pixel_centers=True)
    (op,) = lowered("RESIZE_BILINEAR", [x], y, attrs).ops
    rows = op.params["rows"]
    lower_index = rows[:, 0] & 0x7FFFFFFF
    assert rows.dtype == np.uint32
    assert (lower_index + (rows[:, 0] >> 31) <= 4).all()
    weights = np.ascontiguousarray(rows[:, 1:]).view(np.float32)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)


# ---- what is refused


def problems_of(op: str, inputs: list[Tensor | None], output: Tensor, attrs: Any) -> str:
    with pytest.raises(UnsupportedError) as caught:
        lowered(op, inputs, output, attrs, index=12)
    (problem,) = caught.value.problems
    assert problem.startswith(f"op 12 {op} 'layer': ")
    return problem.split("'layer': ")[1]


def test_refusals_name_op_tensor_and_reason() -> None:
    x, y, w = tensor("x", (1, 4)), tensor("y", (1, 2)), const("w", np.ones((2, 4), np.int8))
    attrs = ops.FullyConnected()
    assert problems_of("FULLY_CONNECTED", [x, tensor("w", (2, 4))], y, attrs) == (
        "tensor 'w': weights must be constant"
    )
    assert problems_of("FULLY_CONNECTED", [tensor("x", (1, 4), None), w], y, attrs) == (
        "tensor 'x': it is not quantized"
    )
    assert problems_of("LOG_SOFTMAX", [tensor("x", (4,), QParams.of(0.5), "int16")], y, None) == (
        "tensor 'y': its scale and zero point are 0.5 and 3, 0.0625 and 127 are needed"
    )
    bias = const("b", np.zeros(2, np.int64), None)
    assert "int64" in problems_of("FULLY_CONNECTED", [x, w, bias], y, attrs)
    assert "needed" in problems_of("SOFTMAX", [x], tensor("y", (1, 4)), ops.Softmax())
    assert "out of range" in problems_of("TANH", [tensor("x", (4,), QParams.of(1.0, 300))], y, None)
    assert "no integer form" in problems_of("DEQUANTIZE", [x], y, None)


def test_all_problems_are_collected() -> None:
    x, a, b, c = (tensor(n, (4,), Q if n != "a" else None) for n in "xabc")
    nodes = [
        Node("TANH", [x], [a], ops.NoAttrs(), "first", 3),
        Node("COPY", [a], [b], ops.NoAttrs(), "second", 4),
        Node("SPLIT", [b], [c], ops.Axis(), "third", 5),
    ]
    with pytest.raises(UnsupportedError) as caught:
        lower(Graph(nodes, [x], [c], "net"))
    assert caught.value.problems == (
        "op 3 TANH 'first': tensor 'a': it is not quantized",
        "op 5 SPLIT 'third': there is no integer form of this op",
    )
    assert str(caught.value).startswith("2 ops of 'net' cannot be run in integers")
