# SPDX-License-Identifier: Apache-2.0
"""ONNX files to Graph."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from ..errors import ArgumentError, EdgeqError, FormatError, UnsupportedError
from ..ir.graph import Graph, Node, Tensor
from ..ir.ops import NoAttrs
from . import (
    onnx_axes,
    onnx_constants,
    onnx_elementwise,
    onnx_moves,
    onnx_ops,
    onnx_quantized,
    onnx_recurrent,
    onnx_resize,
)
from .onnx_context import Builder, OpContext
from .onnx_file import GraphRecord, OnnxFile, PortRecord, read
from .tflite_context import MAX_TENSOR_BYTES, Refused, Shape

RULES = {
    **onnx_ops.RULES,
    **onnx_axes.RULES,
    **onnx_elementwise.RULES,
    **onnx_moves.RULES,
    **onnx_resize.RULES,
    **onnx_recurrent.RULES,
    **onnx_quantized.RULES,
}
_ITEMS = {"float32": 4, "int32": 4, "int64": 8, "int8": 1, "uint8": 1, "bool": 1}


def import_onnx(
    data: bytes,
    source: str = "<memory>",
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> Graph:
    """The network in an ONNX file's bytes.

    Tensors keep ONNX's layout, channels first; passes/layout.py changes that. What the file
    quantizes is between QUANTIZE and DEQUANTIZE, as in the file; passes/qdq.py makes integer ops of
    it. `source` names the file in errors, and says where data beside it is to be found.
    `input_shapes` fixes the free dimensions of inputs by name; a free batch is 1 without it.

    Raises FormatError for a file that is damaged or contradicts itself, UnsupportedError with all
    that edgeq cannot run, ArgumentError for unfit `input_shapes`, DependencyError without the
    packages `onnx` and `onnxruntime`.
    """
    file = read(bytes(data), source)
    importer = _Importer(file)
    try:
        return importer.run(input_shapes or {})
    except EdgeqError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError, MemoryError, RecursionError) as e:
        # What the checks on single values let through; no input may do worse than be refused.
        raise FormatError(f"{source}: {importer.where}: contradictory operands") from e


class _Importer:
    def __init__(self, file: OnnxFile) -> None:
        self.file = file
        self.builder = Builder(file)
        self.problems: list[str] = []
        self.unknown: set[str] = set()  # names behind an operator that cannot be run
        self.missing: dict[str, str] = {}  # results that a handler does not make -> who should
        self.failed: dict[int, str] = {}  # record -> why it cannot be run
        self.records: list[tuple[list[str], list[str], int]] = []  # inputs, outputs, id
        self.count = 0
        self.where = "the network"

    def run(self, input_shapes: Mapping[str, Sequence[int]]) -> Graph:
        file, values = self.file, self.builder.values
        shapes = _input_shapes(file, input_shapes)
        for port in file.inputs:
            self.input(port, shapes[port.name])
        self.constants(file.graph)
        self.nodes(file.graph)
        self.problems += self.relevant()
        if self.problems:
            raise UnsupportedError(
                f"{file.source}: {len(self.problems)} of {self.count} operators cannot be run",
                self.problems,
            )
        self.where = "the outputs"
        inputs = [values[p.name] for p in file.inputs]
        outputs = self.outputs(inputs)
        metadata = {"source_format": "onnx"}
        name = file.name if file.source == "<memory>" else PurePath(file.source).stem
        graph = Graph(self.needed(outputs), inputs, outputs, name, metadata)
        graph.norm_statistics = self.builder.norm_statistics
        for t, p in zip(inputs, file.inputs):
            t.name = p.name
        graph.verify()
        return graph

    def input(self, port: PortRecord, shape: Shape) -> None:
        if port.dtype not in _ITEMS:
            self.problems.append(f"input {port.name!r} is {port.dtype}, which is not supported")
        if math.prod(shape) * _ITEMS.get(port.dtype, 8) > MAX_TENSOR_BYTES:
            raise FormatError(f"{self.file.source}: input {port.name!r} is 2 GiB or more: {shape}")
        dtype = "int8" if port.dtype == "uint8" else port.dtype
        self.builder.values[port.name] = Tensor(port.name, shape, dtype, source_dtype=port.dtype)

    def constants(self, graph: GraphRecord) -> None:
        for name, proto in graph.initializers.items():
            self.where = f"constant {name!r}"
            array = self.file.array(proto)
            self.builder.values[name] = Tensor(name, array.shape, array.dtype.name, None, array)

    def nodes(self, graph: GraphRecord) -> None:
        for record in graph.nodes:
            self.count += 1
            op = OpContext(self.builder, record)
            self.where = op.label
            self.operator(op)

    def operator(self, op: OpContext) -> None:
        """Adds one operator, or notes why it cannot be run."""
        record, values = op.record, self.builder.values
        for name in record.inputs:
            if name and name not in values and name not in self.unknown:
                raise op.wrong(f"it reads {name!r}, which nothing has written")
        for name in record.outputs:
            if name and (name in values or name in self.unknown):
                raise op.wrong(f"it writes {name!r} again")
        try:
            self.dispatch(op)
        except Refused as e:
            self.failed[id(record)] = f"{op.label}: {e}"
        self.records.append((record.inputs, record.outputs, id(record)))
        for i, name in enumerate(record.outputs):
            if name and i in op.written:
                values[name] = op.written[i]
            elif name:
                if op.written:
                    self.missing[name] = f"{op.label}: its output {i} is not supported"
                self.unknown.add(name)

    def dispatch(self, op: OpContext) -> None:
        name = op.record.op
        known = not any(n in self.unknown for n in op.record.inputs)
        if name == "If":
            if known:
                self.branch(op)
            return
        if known and onnx_constants.fold(op):
            return
        if name not in RULES:
            raise Refused(onnx_ops.REFUSED.get(name) or _unknown(name))
        if not known:
            return  # the cause is reported already
        RULES[name](op)

    def relevant(self) -> list[str]:
        """The problems of operators that an output needs."""
        wanted = {p.name for p in self.file.outputs}
        found: list[str] = []
        for inputs, outputs, record in reversed(self.records):
            needed = [name for name in outputs if name in wanted]
            if needed:
                wanted.update(inputs)
                found += [self.missing[name] for name in needed if name in self.missing]
                if record in self.failed:
                    found.append(self.failed[record])
        return found[::-1]

    def branch(self, op: OpContext) -> None:
        """An If whose condition is known: its branch takes its place."""
        condition = op.raw(0)
        if condition.data is None or condition.elements != 1:
            raise Refused(
                "its condition depends on an input: export the network for one case, or replace"
                " that input by a constant"
            )
        chosen = "then_branch" if condition.data.reshape(-1)[0] else "else_branch"
        graph = op.record.attrs.get(chosen)
        if not isinstance(graph, GraphRecord) or len(graph.outputs) != len(op.record.outputs):
            raise op.wrong(f"it has no {chosen} for its outputs")
        self.constants(graph)
        self.nodes(graph)
        for i, name in enumerate(graph.outputs):
            if name in self.builder.values:
                op.written[i] = self.builder.values[name]
            elif name not in self.unknown:
                raise op.wrong(f"its branch has no {name!r}")
        self.records.append((graph.outputs, op.record.outputs, 0))

    def outputs(self, inputs: list[Tensor]) -> list[Tensor]:
        """The outputs under their names; what has another name already is copied."""
        found: list[Tensor] = []
        for port in self.file.outputs:
            if port.name not in self.builder.values:
                raise FormatError(f"{self.file.source}: nothing writes the output {port.name!r}")
            t = self.builder.values[port.name]
            if t.data is not None or t in inputs or t in found:
                copy = Tensor(port.name, t.shape, t.dtype, t.qparams, None, t.source_dtype)
                if t.dtype not in ("float32", "int8", "int32", "int64", "bool"):
                    raise UnsupportedError(f"{self.file.source}: output {port.name!r} is {t.dtype}")
                self.builder.nodes.append(
                    Node("COPY", [t], [copy], NoAttrs(), self.builder.node_name(port.name))
                )
                t = copy
            t.name = port.name
            found.append(t)
        return found

    def needed(self, outputs: list[Tensor]) -> list[Node]:
        """The nodes that an output needs."""
        wanted = set(outputs)
        kept: list[Node] = []
        for node in reversed(self.builder.nodes):
            if any(t in wanted for t in node.outputs):
                kept.append(node)
                wanted.update(t for t in node.inputs if t is not None)
        return kept[::-1]


def _unknown(name: str) -> str:
    domain = name.rpartition(":")[0]
    if name in onnx_constants.FOLDABLE:
        return "supported for constants only"
    return f"an operator of the domain {domain!r}" if domain else "not supported"


def _shape_text(shape: Sequence[int | str | None]) -> str:
    return ",".join(str(d) if isinstance(d, int) and d > 0 else "?" for d in shape)


def _input_shapes(file: OnnxFile, given: Mapping[str, Sequence[int]]) -> dict[str, Shape]:
    """Shape of every input, its free dimensions fixed by `given` or, for the batch, as 1.

    A dimension's name stands for one size: what one input fixes is fixed for all.
    """
    names = [p.name for p in file.inputs]
    for name in given:
        if name not in names:
            raise ArgumentError(
                f"{file.source} has no input {name!r}; its inputs: {', '.join(names)}"
            )
    named: dict[str, int] = {}
    for port in file.inputs:
        if port.name not in given:
            continue
        shape = given[port.name]
        dims = port.dims if port.dims is not None else (None,) * len(shape)
        fits = len(shape) == len(dims) and all(int(d) == d and 1 <= d < 2**31 for d in shape)
        for d, e in zip(shape, dims):
            fits = fits and (not isinstance(e, int) or d == e)
            fits = fits and (not isinstance(e, str) or named.setdefault(e, int(d)) == d)
        if not fits:
            raise ArgumentError(
                f"{file.source}: input {port.name!r} is {_shape_text(dims)},"
                f" not {_shape_text(list(shape))}"
            )
    shapes: dict[str, Shape] = {}
    free: list[str] = []
    for port in file.inputs:
        if port.name in given:
            shapes[port.name] = tuple(int(d) for d in given[port.name])
            continue
        if port.dims is None:
            raise ArgumentError(
                f"{file.source}: the shape of input {port.name!r} is unknown; give it with"
                f" --input-shape {port.name}=..."
            )
        sizes: list[int | None] = [
            d if isinstance(d, int) else named.get(d) if d is not None else None for d in port.dims
        ]
        if sizes and sizes[0] is None:
            sizes[0] = 1
        if None in sizes:
            free.append(f"--input-shape {port.name}={_shape_text(sizes)}")
        shapes[port.name] = tuple(d or 1 for d in sizes)
    if free:
        raise ArgumentError(f"{file.source} has free dimensions; fix them with {' '.join(free)}")
    return shapes
