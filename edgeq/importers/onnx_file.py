# SPDX-License-Identifier: Apache-2.0
"""The records of an ONNX file, checked where a damaged file could mislead what reads them."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DependencyError, FormatError, UnsupportedError
from ..ir.graph import Array
from .tflite_context import MAX_TENSOR_BYTES, short_name

MAX_RANK = 16
MAX_NODES = 200_000
DOMAINS = {"": "", "ai.onnx": "", "com.microsoft": "com.microsoft"}
# ONNX's element types; what is not here has no place in a network of integers.
DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
}


@dataclass(eq=False)
class GraphRecord:
    """A branch of an If: its nodes, constants and outputs."""

    nodes: list[NodeRecord]
    initializers: dict[str, Any]
    outputs: list[str]


@dataclass(eq=False)
class NodeRecord:
    """One operator. `op` is its name, "com.microsoft:Name" in that domain; `attrs` are numbers,
    strings, lists of them, arrays (of tensors) and GraphRecords."""

    index: int
    op: str
    inputs: list[str]
    outputs: list[str]
    attrs: dict[str, Any]
    name: str


@dataclass(frozen=True)
class PortRecord:
    """An input or output; `dims`: sizes, or names, or None where the file leaves them open."""

    name: str
    dtype: str
    dims: tuple[int | str | None, ...] | None


@dataclass(eq=False)
class OnnxFile:
    source: str
    ir_version: int
    opsets: dict[str, int]
    graph: GraphRecord
    inputs: list[PortRecord]
    outputs: list[PortRecord]
    description: str = ""
    name: str = ""
    _arrays: dict[int, Array] = field(default_factory=dict)

    def array(self, proto: Any) -> Array:
        """The numbers of a TensorProto of the file."""
        if id(proto) not in self._arrays:
            self._arrays[id(proto)] = tensor_array(proto, self.source)
        return self._arrays[id(proto)]


def read(data: bytes, source: str) -> OnnxFile:
    """The file's records. FormatError, UnsupportedError (no opset), DependencyError."""
    try:
        import onnx
    except ImportError as e:
        raise DependencyError("reading ONNX files needs onnx: pip install edgeq[convert]") from e
    try:
        model = onnx.ModelProto.FromString(data)
        if len(model.functions):
            model = _inlined(model, source)
        return _records(model, source)
    except (FormatError, UnsupportedError):
        raise
    except Exception as e:  # protobuf's and numpy's ways to say that bytes make no sense
        raise FormatError(f"{source}: the ONNX file is damaged: {str(e)[:200]}") from e


def _inlined(model: Any, source: str) -> Any:
    """Functions of the model's own, put where they are called."""
    try:
        from onnx import inliner
    except ImportError as e:
        raise DependencyError(f"{source}: functions in the model need onnx 1.15 or later") from e
    return inliner.inline_local_functions(model)


def _records(model: Any, source: str) -> OnnxFile:
    if not model.graph.node and not model.graph.output:
        raise FormatError(f"{source}: no ONNX network in it")
    opsets = {DOMAINS.get(o.domain, o.domain): int(o.version) for o in model.opset_import}
    if "" not in opsets:
        raise UnsupportedError(
            f"{source}: the file does not say which opset it was written for (IR version"
            f" {model.ir_version} is older than opsets); export the network again, with opset 7 or"
            " later"
        )
    if not 7 <= opsets[""] <= 1000:
        raise UnsupportedError(
            f"{source}: opset {opsets['']}; 7 and later are supported:"
            " onnx.version_converter can raise it"
        )
    graph = model.graph
    if len(graph.sparse_initializer):
        raise UnsupportedError(f"{source}: sparse initializers are not supported")
    record = _graph(graph, source)
    inputs = [_port(p, source) for p in graph.input if p.name not in record.initializers]
    outputs = [_port(p, source) for p in graph.output]
    for ports in (inputs, outputs):
        names = [p.name for p in ports]
        if len(set(names)) != len(names):
            raise FormatError(f"{source}: a port is listed twice")
    return OnnxFile(
        source,
        int(model.ir_version),
        opsets,
        record,
        inputs,
        outputs,
        graph.doc_string[:1000],
        graph.name,
    )


def _graph(graph: Any, source: str) -> GraphRecord:
    if len(graph.node) > MAX_NODES:
        raise FormatError(f"{source}: {len(graph.node)} nodes")
    initializers = {t.name: t for t in graph.initializer}
    nodes = [_node(i, n, source) for i, n in enumerate(graph.node)]
    return GraphRecord(nodes, initializers, [o.name for o in graph.output])


def _node(index: int, node: Any, source: str) -> NodeRecord:
    domain = DOMAINS.get(node.domain, node.domain)
    op = f"{domain}:{node.op_type}" if domain else node.op_type
    attrs = {a.name: _attribute(a, source) for a in node.attribute}
    return NodeRecord(index, op, list(node.input), list(node.output), attrs, node.name)


def _attribute(a: Any, source: str) -> Any:
    from onnx import AttributeProto as A
    from onnx import helper

    if a.ref_attr_name:
        raise FormatError(f"{source}: attribute {a.name!r} refers to a function's")
    if a.type == A.GRAPH:
        return _graph(a.g, source)
    if a.type == A.TENSOR:
        return tensor_array(a.t, source)
    if a.type in (A.GRAPHS, A.TENSORS, A.SPARSE_TENSOR, A.SPARSE_TENSORS, A.TYPE_PROTO):
        return None
    value = helper.get_attribute_value(a)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (int, float)):
        return value
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in value]


def _port(port: Any, source: str) -> PortRecord:
    kind = port.type.WhichOneof("value")
    if kind is None:  # an output may leave it to its operator
        return PortRecord(port.name, "", None)
    if kind != "tensor_type":
        raise UnsupportedError(f"{source}: {port.name!r} is no tensor but a {kind}")
    t = port.type.tensor_type
    dtype = DTYPES.get(t.elem_type, f"type {t.elem_type}")
    if not t.HasField("shape"):
        return PortRecord(port.name, dtype, None)
    dims: list[int | str | None] = []
    for d in t.shape.dim:
        if d.WhichOneof("value") == "dim_value":
            dims.append(int(d.dim_value) if d.dim_value > 0 else None)
        else:
            dims.append(d.dim_param if d.dim_param.isidentifier() else None)
    if len(dims) > MAX_RANK:
        raise FormatError(f"{source}: {port.name!r} has {len(dims)} dimensions")
    return PortRecord(port.name, dtype, tuple(dims))


# ---- constants


def tensor_array(proto: Any, source: str) -> Array:
    """The numbers of a TensorProto, from the file or from one beside it."""
    from onnx import TensorProto, numpy_helper

    name = short_name(proto.name) if proto.name else "a constant"
    dims = list(proto.dims)
    if len(dims) > MAX_RANK or any(d < 0 for d in dims):
        raise FormatError(f"{source}: {name!r} has shape {dims}")
    if math.prod(dims) > MAX_TENSOR_BYTES:
        raise FormatError(f"{source}: {name!r} is 2 GiB or more")
    if proto.data_type == TensorProto.STRING or proto.data_type == 0:
        return np.zeros(dims if math.prod(dims) == 0 else (0,), np.bool_)
    if proto.data_location == TensorProto.EXTERNAL:
        if proto.data_type not in DTYPES:
            raise UnsupportedError(f"{source}: {name!r} has elements of type {proto.data_type}")
        dtype = np.dtype(DTYPES[proto.data_type]).newbyteorder("<")
        raw = _external(proto, name, source, math.prod(dims) * dtype.itemsize)
        return np.frombuffer(raw, dtype).reshape(dims).astype(dtype.newbyteorder("="))
    try:
        array: Array = numpy_helper.to_array(proto)
    except Exception as e:
        raise FormatError(f"{source}: {name!r} does not hold what its shape says") from e
    if list(array.shape) != dims:
        raise FormatError(f"{source}: {name!r} does not hold what its shape says")
    return array


def _external(proto: Any, name: str, source: str, size: int) -> bytes:
    """`size` bytes of the file beside the model in which a constant's data lies."""
    info = {e.key: e.value for e in proto.external_data}
    location = info.get("location", "")
    where = f"{source}: the data of {name!r} lies in {location!r}"
    if source == "<memory>":
        raise UnsupportedError(
            f"{where} beside the model, which is unknown: give the model by its path, or save it"
            " as one file"
        )
    base = Path(os.path.dirname(source) or ".").resolve()
    path = (base / location).resolve()
    if not location or os.path.isabs(location) or base not in path.parents:
        raise FormatError(f"{where}, which is outside of the model's folder")
    try:
        offset, length = int(info.get("offset") or 0), int(info.get("length") or size)
        if length != size or offset < 0:
            raise FormatError(f"{where}: {length} bytes at {offset}, {size} are needed")
        with open(path, "rb") as f:
            f.seek(offset)
            raw = f.read(size)
    except OSError as e:
        raise FormatError(f"{where}, which cannot be read: {e.strerror}") from e
    if len(raw) != size:
        raise FormatError(f"{where}, which ends too early")
    return raw
