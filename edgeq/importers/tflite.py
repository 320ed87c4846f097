# SPDX-License-Identifier: Apache-2.0
"""TFLite files to Graph."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import PurePath

import numpy as np

from ..errors import ArgumentError, EdgeqError, FormatError, UnsupportedError
from ..ir.graph import Graph, Tensor
from . import (
    tflite_constants,
    tflite_float,
    tflite_lstm,
    tflite_moves,
    tflite_ops,
    tflite_real,
    tflite_whole,
)
from .tflite_context import MAX_TENSOR_BYTES, Builder, OpContext, Refused, Shape
from .tflite_file import DTYPES, OpRecord, TFLiteFile, read

MAX_LABEL_BYTES = 65536
MAX_ARCHIVE_FILES = 64
RULES = {
    **tflite_ops.RULES,
    **tflite_moves.RULES,
    **tflite_float.RULES,
    **tflite_lstm.RULES,
}
# Rules for integers; where RULES has the same name, that one is for float32.
INTEGER_RULES = {**tflite_whole.RULES, **tflite_real.RULES}
CUSTOM_RULES = tflite_float.CUSTOM_RULES
REASONS = {
    **dict.fromkeys(("IF", "WHILE"), "control flow is not supported"),
    **dict.fromkeys(("CALL", "CALL_ONCE"), "not supported: it calls another subgraph"),
    **dict.fromkeys(
        ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"),
        "not supported: variables hold state that survives a run",
    ),
}


def import_tflite(
    data: bytes,
    source: str = "<memory>",
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> Graph:
    """The network in a TFLite file's bytes.

    `source` names the file in errors. `input_shapes` fixes the free dimensions of inputs by name;
    a free batch is 1 without it.

    Raises FormatError for a file that is damaged or contradicts itself, UnsupportedError with all
    that edgeq cannot run, ArgumentError for unfit `input_shapes`, DependencyError without the
    package `tflite`.
    """
    file = read(bytes(data), source)
    importer = _Importer(file)
    try:
        return importer.run(input_shapes or {})
    except EdgeqError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError, MemoryError) as e:
        # What the checks on single values let through; no input may do worse than be refused.
        raise FormatError(f"{source}: {importer.where}: contradictory operands") from e


class _Importer:
    def __init__(self, file: TFLiteFile) -> None:
        self.file = file
        self.builder = Builder(file)
        self.problems: list[str] = []
        self.unknown: set[int] = set()  # tensors behind an operator that cannot be run
        self.where = "the network"

    def run(self, input_shapes: Mapping[str, Sequence[int]]) -> Graph:
        file, values = self.file, self.builder.values
        self.check_order()
        shapes = _input_shapes(file, input_shapes)
        self.builder.strict_shapes = all(s == file.tensors[i].shape for i, s in shapes.items())
        for i, shape in shapes.items():
            values[i] = self.builder.tensor(i, shape)
        for record in file.ops:
            self.where = f"op {record.index} {record.name}"
            self.operator(record)
        if self.problems:
            count = len(self.problems)
            raise UnsupportedError(
                f"{file.source}: {count} of {len(file.ops)} operators cannot be run", self.problems
            )
        self.where = "the outputs"
        inputs = [values[i] for i in file.inputs]
        outputs = [self.builder.load(i) for i in file.outputs]
        metadata = {"source_format": "tflite"}
        if file.description:
            metadata["description"] = file.description
        name = file.name if file.source == "<memory>" else PurePath(file.source).stem
        labels = _labels(file, outputs)
        graph = Graph(self.builder.nodes, inputs, outputs, name, metadata, labels)
        graph.states = self.builder.states
        graph.verify()
        return graph

    def check_order(self) -> None:
        """Each tensor is written once, by one operator or the caller, and only then read."""
        file = self.file
        if len(set(file.inputs)) != len(file.inputs):
            raise FormatError(f"{file.source}: a tensor is listed twice as an input")
        written = set(file.inputs)
        known = {*RULES, *INTEGER_RULES, *tflite_constants.FOLDABLE}
        for op in file.ops:
            runs = op.name in known or op.custom in CUSTOM_RULES
            for i in op.inputs if runs else ():
                t = file.tensors[max(i, 0)]
                if i >= 0 and i not in written and not file.has_data(t) and not t.problem:
                    raise FormatError(
                        f"{file.source}: op {op.index} {op.name} reads"
                        f" {file.tensors[i].label}, which nothing has written"
                    )
            for i in op.outputs:
                if i in written:
                    raise FormatError(
                        f"{file.source}: op {op.index} {op.name} writes"
                        f" {file.tensors[i].label} again"
                    )
                written.add(i)

    def operator(self, record: OpRecord) -> None:
        """Adds one operator, or notes why it cannot be run."""
        op = OpContext(self.builder, record)
        try:
            self.dispatch(op)
        except Refused as e:
            self.problems.append(f"{op.label}: {e}")
            self.unknown.update(record.outputs)
            return
        if len(op.written) == len(record.outputs):
            self.builder.values.update(zip(record.outputs, op.written))
        else:
            self.unknown.update(record.outputs)

    def dispatch(self, op: OpContext) -> None:
        name, rules = op.record.name, RULES
        if name == "CUSTOM":
            name, rules = op.record.custom, CUSTOM_RULES
            if name.startswith("Flex"):
                raise Refused(f"TensorFlow's op {name[4:]!r} is not supported")
            if name not in rules:
                raise Refused(f"custom op {name!r} is not supported")
        known = not any(i in self.unknown for i in op.record.inputs)
        if known and rules is RULES and tflite_constants.fold(op):
            return
        if rules is RULES and name in INTEGER_RULES:
            rule = INTEGER_RULES[name]
            if name not in RULES or not tflite_ops.has_floats(op, rule):
                rules = INTEGER_RULES
        if name not in rules:
            if name in REASONS:
                raise Refused(REASONS[name])
            only = name in tflite_constants.FOLDABLE or name in ("SHAPE", "RANK")
            raise Refused("supported for constants only" if only else "not supported")
        rule = rules[name]
        tflite_ops.check_types(op, rule)
        tflite_ops.check_activations(op)
        if known:
            rule.handler(op)


def _shape_text(shape: Sequence[int]) -> str:
    return ",".join(str(d) if d > 0 else "?" for d in shape)


def _input_shapes(file: TFLiteFile, given: Mapping[str, Sequence[int]]) -> dict[int, Shape]:
    """Shape of every input, its free dimensions fixed by `given` or, for the batch, as 1."""
    names = {i: file.port_names.get(i, file.tensors[i].name) for i in file.inputs}
    wanted: dict[int, Sequence[int]] = {}
    for name, shape in given.items():
        found = [i for i in file.inputs if name in (names[i], file.tensors[i].name)]
        if not found:
            raise ArgumentError(
                f"{file.source} has no input {name!r}; its inputs: {', '.join(names.values())}"
            )
        wanted[found[0]] = shape
    shapes: dict[int, Shape] = {}
    free: list[str] = []
    for i in file.inputs:
        t = file.tensors[i]
        declared = [-1 if d < 1 or s < 0 else d for d, s in zip(t.shape, t.signature or t.shape)]
        if i in wanted:
            shapes[i] = _fixed(file, names[i], wanted[i], declared, bool(t.signature))
        elif all(d > 0 for d in declared[1:]):
            shapes[i] = tuple(max(d, 1) for d in declared)
        else:
            example = _shape_text([1 if declared[0] < 0 else declared[0], *declared[1:]])
            free.append(f"--input-shape {names[i]}={example}")
    if free:
        raise ArgumentError(f"{file.source} has free dimensions; fix them with {' '.join(free)}")
    for i, shape in shapes.items():
        size = np.dtype(DTYPES.get(file.tensors[i].type, "int8")).itemsize
        for d in shape:
            size *= d
        if size > MAX_TENSOR_BYTES:
            raise FormatError(f"{file.source}: input {names[i]!r} is 2 GiB or more: {shape}")
    return shapes


def _fixed(
    file: TFLiteFile, name: str, shape: Sequence[int], declared: list[int], strict: bool
) -> Shape:
    """`shape` if it fits to `declared`; files without a signature do not say what is free."""
    fits = len(shape) == len(declared) and all(int(d) == d and 1 <= d < 2**31 for d in shape)
    if fits and strict:
        fits = all(e in (-1, d) for d, e in zip(shape, declared))
    if not fits:
        raise ArgumentError(
            f"{file.source}: input {name!r} is {_shape_text(declared)}, not {_shape_text(shape)}"
        )
    return tuple(int(d) for d in shape)


def _has_archive(data: bytes) -> bool:
    """Whether the file ends with a zip archive: its last record, then a comment up to the end."""
    end = data.rfind(b"PK\5\6")
    return end >= 0 and end + 22 + int.from_bytes(data[end + 20 : end + 22], "little") == len(data)


def _labels(file: TFLiteFile, outputs: list[Tensor]) -> dict[Tensor, str]:
    """Label files of the archive that TFLite metadata appends to the file, by size."""
    found: dict[Tensor, str] = {}
    if not _has_archive(file.data):
        return found
    try:
        with zipfile.ZipFile(io.BytesIO(file.data)) as archive:
            for info in archive.infolist()[:MAX_ARCHIVE_FILES]:
                if not info.filename.endswith(".txt") or info.file_size > MAX_LABEL_BYTES:
                    continue
                with archive.open(info) as f:
                    text = f.read(MAX_LABEL_BYTES).decode("utf-8", errors="replace")
                lines = [x.strip() for x in text.replace("\0", "").rstrip().split("\n")]
                for t in reversed(outputs):
                    if t not in found and t.shape[-1:] == (len(lines),) and any(lines):
                        found[t] = "\n".join(lines)
                        break
    except Exception as e:  # zipfile has many ways to say that an archive is damaged
        raise FormatError(f"{file.source}: the archive of labels at its end is damaged") from e
    return found
