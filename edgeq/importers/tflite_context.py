# SPDX-License-Identifier: Apache-2.0
"""What a handler sees of one TFLite operator, and the graph under construction."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..errors import FormatError
from ..ir.evaluate import dequantize, evaluate
from ..ir.graph import Array, Node, QParams, Quantized, State, Tensor
from .tflite_file import DTYPES, OpRecord, TensorRecord, TFLiteFile

Shape = tuple[int, ...]

MAX_TENSOR_BYTES = 2**31 - 1
MAX_FOLDED_BYTES = 2**26  # of all constants that are computed here, beside the file's own as float
MAX_NAME = 40
ACTIVATIONS = {0: "NONE", 1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6"}


class Refused(Exception):
    """A clause on why an operator cannot be run; the importer collects them."""


def short_name(name: str) -> str:
    """The end of a tensor's path: 'a/b/Relu;a/b/BiasAdd' becomes 'a/b/Relu'."""
    name = name.split(";")[0].strip("/ ") or name
    parts = name.split("/")
    while len(parts) > 1 and len("/".join(parts)) > MAX_NAME:
        parts.pop(0)
    return "/".join(parts)[:MAX_NAME]


class Builder:
    """The graph under construction: what every tensor of the file has become so far."""

    def __init__(self, file: TFLiteFile) -> None:
        self.file = file
        self.nodes: list[Node] = []
        self.states: list[State] = []
        self.values: dict[int, Tensor] = {}
        self.strict_shapes = True  # whether the file's shapes must be those that follow
        self._floats: dict[int, Tensor] = {}
        self._folded = 0
        self._limit = MAX_FOLDED_BYTES + 8 * len(file.data)
        self._names: dict[str, int] = {}  # how often each was used

    def tensor(self, index: int, shape: Shape, data: Array | None = None) -> Tensor:
        """A tensor like record `index`; legacy uint8 becomes int8, and so do bytes that are no
        constants and have no scale: they stand for themselves."""
        t = self.file.tensors[index]
        dtype = DTYPES.get(t.type, t.type.lower())
        shift, source = 0, dtype
        if dtype == "uint8" and (len(t.scales) or data is None):
            dtype, shift = "int8", 128
        qparams = None
        if t.type in ("INT8", "UINT8") and data is None:
            qparams = QParams.of(1, -shift)
        if len(t.scales) and dtype != "float32":
            zeros = np.clip(t.zero_points, -(2**31) + shift, 2**31 - 1) - shift
            axis = t.axis if len(t.scales) > 1 else 0
            qparams = QParams(t.scales, zeros.astype(np.int32), axis)
        name = self.file.port_names.get(index, t.name)
        return Tensor(name, shape, dtype, qparams, data, source)

    def load(self, index: int) -> Tensor:
        """The tensor with this index, which was written or is a constant."""
        if index not in self.values:
            t = self.file.tensors[index]
            if not self.file.has_data(t):
                raise FormatError(f"{self.file.source}: {t.label} is read before it is written")
            legacy = t.type == "UINT8" and len(t.scales) > 0
            data = self.file.int8_constant(t) if legacy else self.file.constant(t)
            self.values[index] = self.tensor(index, t.shape, data)
        return self.values[index]

    def float_constant(self, index: int) -> Tensor:
        """The int8 constant with this index as float32; its bytes are its origin."""
        if index not in self._floats:
            t = self.load(index)
            assert t.data is not None and t.qparams is not None
            self.afford(4 * t.elements)
            data = dequantize(t.data, t.qparams)
            origin = Quantized(t.data, t.qparams)
            self._floats[index] = Tensor(t.name, t.shape, "float32", data=data, origin=origin)
        return self._floats[index]

    def afford(self, size: int) -> None:
        """Pays for `size` bytes of a computed constant."""
        if not self.affordable(size):
            raise Refused("the constants that it computes are too large")
        self._folded += size

    def affordable(self, size: int) -> bool:
        return self._folded + size <= self._limit

    def node_name(self, name: str) -> str:
        """`name`, shortened, with a number where it was used before."""
        short = short_name(name)
        count = self._names[short] = self._names.get(short, 0) + 1
        return short if count == 1 else f"{short[: MAX_NAME - 6]}_{count}"


class OpContext:
    """One operator of the file."""

    def __init__(self, builder: Builder, record: OpRecord) -> None:
        self.builder = builder
        self.file = builder.file
        self.record = record
        self.is_float = False  # whether it computes on float32
        self.written: list[Tensor] = []

    @property
    def label(self) -> str:
        r = self.record
        if not r.outputs:
            return f"op {r.index} {r.name}"
        return f"op {r.index} {r.name} {short_name(self.file.tensors[r.outputs[0]].name)!r}"

    def wrong(self, clause: str) -> FormatError:
        return FormatError(f"{self.file.source}: {self.label}: {clause}")

    # ---- operands

    def expect(self, low: int, high: int | None = None, outputs: int | None = 1) -> None:
        """Checks the number of operands and results."""
        n = len(self.record.inputs)
        if not low <= n <= (low if high is None else high):
            raise self.wrong(f"{n} inputs")
        if outputs is not None and len(self.record.outputs) != outputs:
            raise self.wrong(f"{len(self.record.outputs)} outputs")

    def has(self, i: int) -> bool:
        return i < len(self.record.inputs) and self.record.inputs[i] >= 0

    def input_record(self, i: int) -> TensorRecord:
        if not self.has(i):
            raise self.wrong(f"input {i} is missing")
        return self.file.tensors[self.record.inputs[i]]

    def output_record(self, i: int = 0) -> TensorRecord:
        return self.file.tensors[self.record.outputs[i]]

    def is_int8_constant(self, t: TensorRecord) -> bool:
        return t.type == "INT8" and len(t.scales) > 0 and self.file.has_data(t)

    def tensor(self, i: int) -> Tensor:
        """Input i; an int8 constant is float32 to an operator on float32."""
        if self.is_float and self.is_int8_constant(self.input_record(i)):
            return self.builder.float_constant(self.record.inputs[i])
        self.input_record(i)
        return self.builder.load(self.record.inputs[i])

    def tensors(self) -> list[Tensor]:
        return [self.tensor(i) for i in range(len(self.record.inputs))]

    def ranked(self, i: int, rank: int) -> Tensor:
        """Input i, which must have that many dimensions."""
        t = self.tensor(i)
        if len(t.shape) != rank:
            raise self.wrong(f"{t.name!r} has shape {t.shape}, {rank} dimensions are needed")
        return t

    def constant(self, i: int, what: str) -> Array:
        t = self.tensor(i)
        if t.data is None:
            raise Refused(f"{what} {t.name!r} is not a constant")
        return t.data

    def integers(self, i: int, what: str) -> tuple[int, ...]:
        """The elements of constant input i, an index tensor."""
        data = self.constant(i, what)
        if data.dtype not in (np.int32, np.int64):
            raise self.wrong(f"{what} is {data.dtype}, not int32 or int64")
        if data.size > 1024:
            raise self.wrong(f"{what} has {data.size} elements")
        return tuple(int(v) for v in data.reshape(-1))

    def option(self, name: str) -> int:
        return int(self.record.options.get(name, 0))

    def real(self, name: str) -> float:
        value = float(self.record.options.get(name, 0.0))
        if not math.isfinite(value):
            raise self.wrong(f"{name} is {value}")
        return value

    def positive(self, name: str) -> int:
        value = self.option(name)
        if not 1 <= value <= 65535:
            raise self.wrong(f"{name} is {value}")
        return value

    def activation(self) -> str:
        value = self.option("FusedActivationFunction")
        if value not in ACTIVATIONS:
            raise Refused(f"fused activation function {value} is not supported")
        return ACTIVATIONS[value]

    def axis(self, value: int, rank: int) -> int:
        """`value` in [0, rank), negative ones from the end."""
        if not -rank <= value < rank:
            raise self.wrong(f"axis {value} of {rank} dimensions")
        return value % rank

    # ---- results

    def hidden(self, like: Tensor, shape: Iterable[int], suffix: str) -> Tensor:
        """A tensor of our own between two nodes of one operator."""
        return Tensor(
            f"{like.name}{suffix}", tuple(shape), like.dtype, like.qparams, None, like.source_dtype
        )

    def add(
        self, op: str, inputs: Sequence[Tensor | None], outputs: list[Tensor], attrs: Any
    ) -> None:
        """Adds a node, or its results where all inputs are constants."""
        name = self.builder.node_name(self.output_record().name)
        node = Node(op, list(inputs), outputs, attrs, name, self.record.index)
        size = sum(t.elements * 8 for t in outputs)
        results = evaluate(node) if self.builder.affordable(size) else None
        if results is not None:
            self.builder.afford(size)
            for t, data in zip(outputs, results):
                t.data = data
            return
        for t in outputs:
            if min(t.shape, default=1) < 1:
                raise self.wrong(f"shape {t.shape} is empty")
            if t.elements * np.dtype(t.dtype).itemsize > MAX_TENSOR_BYTES:
                raise self.wrong(f"shape {t.shape} is 2 GiB or more")
        self.builder.nodes.append(node)

    def result(self, shape: Iterable[int], i: int = 0) -> Tensor:
        """The tensor for output i, of the shape that follows from the inputs."""
        shape = tuple(int(d) for d in shape)
        record = self.output_record(i)
        self._compare(record, shape)
        t = self.builder.tensor(record.index, shape)
        self.written.append(t)
        return t

    def emit(
        self, op: str, inputs: Sequence[Tensor | None], attrs: Any, shape: Iterable[int]
    ) -> None:
        """One node for the whole operator."""
        self.add(op, inputs, [self.result(shape)], attrs)

    def store(self, array: Array, i: int = 0) -> None:
        """Output i is the constant `array`."""
        record = self.output_record(i)
        self._compare(record, array.shape)
        self.builder.afford(array.nbytes)
        self.written.append(self.builder.tensor(record.index, array.shape, array))

    def _compare(self, record: TensorRecord, shape: Shape) -> None:
        # An empty list stands for "unknown" in files of some converters.
        if not self.builder.strict_shapes or not record.shape:
            return
        free = record.signature or record.shape
        if len(shape) != len(record.shape) or any(
            a != b and b > 0 and f > 0 for a, b, f in zip(shape, record.shape, free)
        ):
            raise self.wrong(f"the file says shape {record.shape}, the inputs give {shape}")
