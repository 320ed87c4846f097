# SPDX-License-Identifier: Apache-2.0
"""Reads the container of a TFLite file, which is not trusted, into plain records.

What comes out is bounded by the file: every vector lies inside of it, all vectors together are not
much larger than it, every index is in range and every constant is exactly as large as its tensor.
What the operators mean is decided in tflite_ops.py.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DependencyError, EdgeqError, FormatError
from .tflite_sparse import Level, Sparsity, densify

Array = npt.NDArray[Any]

MAX_RECORDS = 65536  # tensors, buffers, operator codes
MAX_OPS = 16384
MAX_PORTS = 256
MAX_RANK = 16
# numpy type of a constant's elements; the other types are refused where they are used
DTYPES = {
    "FLOAT32": "float32",
    "FLOAT16": "float16",
    "FLOAT64": "float64",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT16": "int16",
    "UINT16": "uint16",
    "INT32": "int32",
    "UINT32": "uint32",
    "INT64": "int64",
    "BOOL": "bool",
}
# operator -> table of options, then the fields that are read; "[]" marks a vector of integers
_OPTIONS = {
    "CONV_2D": "Conv2DOptions Padding StrideH StrideW DilationHFactor DilationWFactor"
    " FusedActivationFunction",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions Padding StrideH StrideW DilationHFactor"
    " DilationWFactor FusedActivationFunction",
    "TRANSPOSE_CONV": "TransposeConvOptions Padding StrideH StrideW FusedActivationFunction",
    "FULLY_CONNECTED": "FullyConnectedOptions FusedActivationFunction KeepNumDims WeightsFormat",
    "ADD": "AddOptions FusedActivationFunction",
    "SUB": "SubOptions FusedActivationFunction",
    "MUL": "MulOptions FusedActivationFunction",
    "DIV": "DivOptions FusedActivationFunction",
    "AVERAGE_POOL_2D": "Pool2DOptions Padding StrideH StrideW FilterHeight FilterWidth"
    " FusedActivationFunction",
    "MAX_POOL_2D": "Pool2DOptions Padding StrideH StrideW FilterHeight FilterWidth"
    " FusedActivationFunction",
    "MEAN": "ReducerOptions KeepDims",
    "SUM": "ReducerOptions KeepDims",
    "REDUCE_MAX": "ReducerOptions KeepDims",
    "REDUCE_MIN": "ReducerOptions KeepDims",
    "REDUCE_PROD": "ReducerOptions KeepDims",
    "MIRROR_PAD": "MirrorPadOptions Mode",
    "RESHAPE": "ReshapeOptions NewShape[]",
    "SQUEEZE": "SqueezeOptions SqueezeDims[]",
    "CONCATENATION": "ConcatenationOptions Axis FusedActivationFunction",
    "PACK": "PackOptions Axis",
    "UNPACK": "UnpackOptions Axis",
    "STRIDED_SLICE": "StridedSliceOptions BeginMask EndMask EllipsisMask NewAxisMask"
    " ShrinkAxisMask Offset",
    "SOFTMAX": "SoftmaxOptions Beta",
    "LEAKY_RELU": "LeakyReluOptions Alpha",
    "RESIZE_BILINEAR": "ResizeBilinearOptions AlignCorners HalfPixelCenters",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions AlignCorners HalfPixelCenters",
    "SPACE_TO_DEPTH": "SpaceToDepthOptions BlockSize",
    "DEPTH_TO_SPACE": "DepthToSpaceOptions BlockSize",
    "GATHER": "GatherOptions Axis BatchDims",
    "BATCH_MATMUL": "BatchMatMulOptions AdjX AdjY",
    "CUMSUM": "CumsumOptions Exclusive Reverse",
    "GELU": "GeluOptions Approximate",
    "L2_NORMALIZATION": "L2NormOptions FusedActivationFunction",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "UnidirectionalSequenceLSTMOptions FusedActivationFunction"
    " CellClip ProjClip TimeMajor DiagonalRecurrentTensors",
    "REDUCE_ALL": "ReducerOptions KeepDims",
    "REDUCE_ANY": "ReducerOptions KeepDims",
    "ONE_HOT": "OneHotOptions Axis",
}


@dataclass(frozen=True)
class TensorRecord:
    """A tensor as declared. `scales` is empty where it has none; -1 in `signature`: free."""

    index: int
    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    type: str  # name of TensorType
    buffer: int
    scales: npt.NDArray[np.float32]
    zero_points: npt.NDArray[np.int64]
    axis: int
    problem: str = ""  # a feature that edgeq does not know, as a clause
    sparsity: Sparsity | None = None  # how a constant's elements are stored, if not densely

    @property
    def label(self) -> str:
        return f"tensor {self.index} {self.name!r}"


@dataclass(frozen=True)
class OpRecord:
    """An operator; -1 in `inputs` is an operand left out."""

    index: int
    name: str  # name of BuiltinOperator
    custom: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]
    custom_options: bytes = b""


@dataclass
class TFLiteFile:
    data: bytes
    source: str
    tensors: list[TensorRecord]
    ops: list[OpRecord]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    port_names: dict[int, str]  # tensor -> its name in the default signature
    description: str
    name: str
    buffers: list[tuple[int, int]]  # offset and size in `data`
    _constants: dict[tuple[int, str], Array] = field(default_factory=dict)
    _copied: int = 0  # bytes of _constants

    def has_data(self, t: TensorRecord) -> bool:
        return self.buffers[t.buffer][1] > 0 or (bool(t.shape) and math.prod(t.shape) == 0)

    def constant(self, t: TensorRecord) -> Array:
        """The elements of `t`, read-only, in the tensor's shape and the file's own type."""
        if t.type not in DTYPES:
            raise FormatError(
                f"{self.source}: {t.label}: constants of type {t.type} cannot be read"
            )
        if t.sparsity is not None:
            return self._dense(t, t.sparsity)
        dtype = np.dtype(DTYPES[t.type]).newbyteorder("<")
        offset, size = self.buffers[t.buffer]
        count = math.prod(t.shape)
        if min(t.shape, default=0) < 0 or count * dtype.itemsize != size:
            raise FormatError(
                f"{self.source}: {t.label}: shape {t.shape} of {t.type} does not fit to its"
                f" {size} bytes of data"
            )
        key = (t.buffer, t.type)
        if key not in self._constants:
            self._copied += size
            if self._copied > 4 * len(self.data):
                raise FormatError(f"{self.source}: damaged TFLite file: its buffers overlap")
            flat = np.frombuffer(self.data, dtype, count, offset).astype(dtype.newbyteorder("="))
            flat.flags.writeable = False
            self._constants[key] = flat
        return self._constants[key].reshape(t.shape)

    def _dense(self, t: TensorRecord, sparsity: Sparsity) -> Array:
        key = (t.index, "dense")
        if key not in self._constants:
            dtype = np.dtype(DTYPES[t.type]).newbyteorder("<")
            offset, size = self.buffers[t.buffer]
            self._copied += math.prod(t.shape) * dtype.itemsize
            if self._copied > 64 * len(self.data) + 2**20:
                raise FormatError(f"{self.source}: {t.label}: its dense form is too large")
            if size % dtype.itemsize or min(t.shape, default=0) < 0:
                raise FormatError(f"{self.source}: {t.label}: {size} bytes of {t.type}")
            values = np.frombuffer(self.data, dtype, size // dtype.itemsize, offset)
            dense = densify(sparsity, t.shape, values.astype(dtype.newbyteorder("=")))
            if dense is None:
                raise FormatError(f"{self.source}: {t.label}: its sparsity contradicts its data")
            dense.flags.writeable = False
            self._constants[key] = dense.reshape(-1)
        return self._constants[key].reshape(t.shape)

    def int8_constant(self, t: TensorRecord) -> Array:
        """The same for legacy uint8: int8, 128 less."""
        key = (t.buffer, "value - 128")
        if key not in self._constants:
            flat = (self.constant(t).reshape(-1) ^ np.uint8(0x80)).view(np.int8)
            flat.flags.writeable = False
            self._constants[key] = flat
        return self._constants[key].reshape(t.shape)


def parser() -> Any:
    """The package that knows the schema; DependencyError where it is missing."""
    try:
        return importlib.import_module("tflite")
    except ImportError as e:
        raise DependencyError(
            "reading TFLite files needs the package 'tflite': pip install 'edgeq[convert]'"
        ) from e


def read(data: bytes, source: str) -> TFLiteFile:
    """The records of a file's first subgraph. FormatError for whatever is wrong with the file."""
    schema = parser()
    if len(data) < 8 or data[4:8] != b"TFL3":
        raise FormatError(f"{source}: not a TFLite file")
    try:
        return _Reader(schema, data, source).read()
    except EdgeqError:
        raise
    except Exception as e:  # the generated code reads wherever the file's offsets lead it
        raise FormatError(f"{source}: damaged or truncated TFLite file") from e


def names_of(enum: type) -> dict[int, str]:
    """Value -> member of one of the schema's enums."""
    return {v: k for k, v in vars(enum).items() if isinstance(v, int) and not k.startswith("_")}


class _Reader:
    def __init__(self, schema: Any, data: bytes, source: str) -> None:
        self.schema = schema
        self.data = data
        self.source = source
        # Sound files name each byte once; a factor for shared strings and vectors.
        self.budget = 4 * len(data) + 65536
        self.model = schema.Model.GetRootAs(data)

    @cached_property
    def types(self) -> dict[int, str]:
        return names_of(self.schema.TensorType)

    @cached_property
    def operators(self) -> dict[int, str]:
        return names_of(self.schema.BuiltinOperator)

    def wrong(self, sentence: str) -> FormatError:
        return FormatError(f"{self.source}: {sentence}")

    def spend(self, size: int) -> None:
        self.budget -= size
        if self.budget < 0:
            raise self.wrong("damaged TFLite file: its parts overlap")

    def tables(self, table: Any, what: str, limit: int = MAX_RECORDS) -> Iterator[Any]:
        """The tables of vector `what`."""
        count = getattr(table, what + "Length")()
        if count > limit or count * 4 > len(self.data):
            raise self.wrong(f"damaged TFLite file: {count} entries in its list of {what}")
        self.spend(count * 32)
        get: Callable[[int], Any] = getattr(table, what)
        return (get(i) for i in range(count))

    def vector(self, table: Any, what: str) -> Array:
        """The numbers of vector `what`; empty where it is left out."""
        values = getattr(table, what + "AsNumpy")()
        if isinstance(values, int):
            return np.zeros(0, np.int32)
        result: Array = values
        self.spend(result.nbytes + 16)
        return result

    def integers(self, table: Any, what: str) -> tuple[int, ...]:
        return tuple(self.vector(table, what).tolist())

    def text(self, value: bytes | None) -> str:
        if value is None:
            return ""
        self.spend(len(value) + 16)
        return "".join(
            c if c.isprintable() else "?" for c in value.decode("utf-8", errors="replace")
        )

    def read(self) -> TFLiteFile:
        model = self.model
        if model.SubgraphsLength() < 1:
            raise self.wrong("damaged TFLite file: it holds no network")
        if model.Version() != 3:
            raise self.wrong(f"TFLite schema version {model.Version()} is not supported; 3 is")
        graph = next(self.tables(model, "Subgraphs"))
        buffers = [self.buffer(b) for b in self.tables(model, "Buffers")]
        tensors = [
            self.tensor(i, t, len(buffers)) for i, t in enumerate(self.tables(graph, "Tensors"))
        ]
        codes = [self.code(c) for c in self.tables(model, "OperatorCodes")]
        ops = [
            self.operator(i, o, codes, len(tensors))
            for i, o in enumerate(self.tables(graph, "Operators", MAX_OPS))
        ]
        result = TFLiteFile(
            data=self.data,
            source=self.source,
            tensors=tensors,
            ops=ops,
            inputs=self.indices(graph, "Inputs", len(tensors), "the list of inputs"),
            outputs=self.indices(graph, "Outputs", len(tensors), "the list of outputs"),
            port_names=self.signature(len(tensors)),
            description=self.text(model.Description()),
            name=self.text(graph.Name()),
            buffers=buffers,
        )
        if max(len(result.inputs), len(result.outputs)) > MAX_PORTS:
            raise self.wrong(
                f"{len(result.inputs)} inputs and {len(result.outputs)} outputs; {MAX_PORTS} fit"
            )
        if not result.outputs:
            raise self.wrong("the network has no outputs")
        if min(result.inputs + result.outputs, default=0) < 0:
            raise self.wrong("an input or output of the network is left out")
        return result

    def buffer(self, b: Any) -> tuple[int, int]:
        """Offset and size of a buffer, inside of the flatbuffer or behind it."""
        outside = getattr(b, "Offset", None)  # not in older schemas
        offset, size = (int(outside()), int(b.Size())) if outside is not None else (0, 0)
        if offset > 1:
            if offset + size > len(self.data):
                raise self.wrong("truncated TFLite file: a buffer lies behind its end")
            return offset, size
        table = b._tab
        field_offset = table.Offset(4)
        if field_offset == 0:
            return 0, 0
        offset, size = int(table.Vector(field_offset)), int(table.VectorLen(field_offset))
        if offset < 0 or offset + size > len(self.data):
            raise self.wrong("truncated TFLite file: a buffer lies behind its end")
        return offset, size

    def tensor(self, index: int, t: Any, buffers: int) -> TensorRecord:
        name = self.text(t.Name()) or f"tensor {index}"
        scales, zeros, axis = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
        problem = ""
        q = t.Quantization()
        if q is not None:
            scales = self.vector(q, "Scale").astype(np.float32)
            zeros = self.vector(q, "ZeroPoint").astype(np.int64)
            axis = q.QuantizedDimension()
            if q.DetailsType() != 0:
                problem = "its custom quantization is not supported"
        sparsity = self.sparsity(t.Sparsity()) if t.Sparsity() is not None else None
        if t.IsVariable():
            problem = "state that survives a run is not supported yet"
        record = TensorRecord(
            index=index,
            name=name,
            shape=self.integers(t, "Shape"),
            signature=self.integers(t, "ShapeSignature"),
            type=self.types.get(t.Type(), f"type {t.Type()}"),
            buffer=t.Buffer(),
            scales=scales,
            zero_points=zeros,
            axis=axis,
            problem=problem,
            sparsity=sparsity,
        )
        self.check_tensor(record, buffers)
        return record

    def sparsity(self, s: Any) -> Sparsity:
        """The parts of a tensor's sparsity; whether they fit together is for densify()."""
        levels: list[Level] = []
        for m in self.tables(s, "DimMetadata", 2 * MAX_RANK):
            if m.Format() == self.schema.DimensionType.DENSE:
                levels.append(Level(m.DenseSize()))
            else:
                levels.append(Level(0, self.indexed(m, "Segments"), self.indexed(m, "Indices")))
        return Sparsity(
            self.integers(s, "TraversalOrder"), self.integers(s, "BlockMap"), tuple(levels)
        )

    def indexed(self, metadata: Any, what: str) -> Array:
        """A vector of indices, which is stored as one of three types."""
        kind = getattr(metadata, f"Array{what}Type")()
        position = getattr(metadata, f"Array{what}")()
        for name in ("Int32Vector", "Uint16Vector", "Uint8Vector"):
            if position is not None and kind == getattr(self.schema.SparseIndexVector, name):
                table = getattr(self.schema, name)()
                table.Init(position.Bytes, position.Pos)
                return self.vector(table, "Values").astype(np.int64)
        raise self.wrong("damaged TFLite file: a sparse tensor without indices")

    def check_tensor(self, t: TensorRecord, buffers: int) -> None:
        if t.buffer >= buffers:
            raise self.wrong(f"{t.label}: buffer {t.buffer} does not exist")
        if len(t.shape) > MAX_RANK or max(t.shape, default=0) >= 2**31:
            raise self.wrong(f"{t.label}: impossible shape")
        if t.signature and len(t.signature) != len(t.shape):
            raise self.wrong(f"{t.label}: its shape and its shape signature differ in length")
        if len(t.scales) == 0:
            return
        if len(t.zero_points) != len(t.scales):
            raise self.wrong(
                f"{t.label}: {len(t.scales)} scales but {len(t.zero_points)} zero points"
            )
        if not np.isfinite(t.scales).all() or (t.scales <= 0).any():
            bad = t.scales[~(np.isfinite(t.scales) & (t.scales > 0))][0]
            raise self.wrong(f"{t.label}: a scale of {bad}")
        if len(t.scales) > 1:
            if not 0 <= t.axis < len(t.shape):
                raise self.wrong(
                    f"{t.label}: quantized_dimension is {t.axis}, the tensor has"
                    f" {len(t.shape)} dimension(s)"
                )
            if len(t.scales) != t.shape[t.axis]:
                raise self.wrong(
                    f"{t.label}: {len(t.scales)} scales for dimension {t.axis} of shape {t.shape}"
                )

    def code(self, c: Any) -> tuple[str, str]:
        """Name of the operator and of the custom operator."""
        # The package's own BuiltinCode() takes files for old ones that have the newer field alone.
        value, field_offset = int(c.DeprecatedBuiltinCode()), c._tab.Offset(10)
        if field_offset:
            at = c._tab.Pos + field_offset
            value = max(value, int.from_bytes(self.data[at : at + 4], "little", signed=True))
        name = self.operators.get(value, f"builtin operator {value}")
        return name, self.text(c.CustomCode()) if name == "CUSTOM" else ""

    def indices(self, table: Any, what: str, count: int, where: str) -> tuple[int, ...]:
        values = self.integers(table, what)
        for v in values:
            if not -1 <= v < count:
                raise self.wrong(f"{where} names tensor {v}, of which there are {count}")
        return values

    def operator(self, index: int, o: Any, codes: list[tuple[str, str]], tensors: int) -> OpRecord:
        if o.OpcodeIndex() >= len(codes):
            raise self.wrong(f"op {index}: operator code {o.OpcodeIndex()} does not exist")
        name, custom = codes[o.OpcodeIndex()]
        where = f"op {index} {name}"
        outputs = self.indices(o, "Outputs", tensors, where)
        if min(outputs, default=0) < 0:
            raise self.wrong(f"{where}: an output is left out")
        return OpRecord(
            index=index,
            name=name,
            custom=custom,
            inputs=self.indices(o, "Inputs", tensors, where),
            outputs=outputs,
            options=self.options(o, name, where),
            custom_options=self.vector(o, "CustomOptions").astype(np.uint8).tobytes(),
        )

    def options(self, o: Any, name: str, where: str) -> dict[str, Any]:
        if name not in _OPTIONS or o.BuiltinOptionsType() == 0:
            return {}
        table, *fields = _OPTIONS[name].split()
        position = o.BuiltinOptions()
        if o.BuiltinOptionsType() != getattr(self.schema.BuiltinOptions, table) or position is None:
            raise self.wrong(f"{where}: its options are those of another operator")
        options = getattr(self.schema, table)()
        options.Init(position.Bytes, position.Pos)
        values: dict[str, Any] = {}
        for f in fields:
            if f.endswith("[]"):
                values[f[:-2]] = self.integers(options, f[:-2])
            elif hasattr(options, f):  # older schemas lack some
                values[f] = getattr(options, f)()
        return values

    def signature(self, tensors: int) -> dict[int, str]:
        """Names by tensor, from the first signature of the first subgraph."""
        for s in self.tables(self.model, "SignatureDefs"):
            if s.SubgraphIndex() != 0:
                continue
            names: dict[int, str] = {}
            for what in ("Outputs", "Inputs"):
                for m in self.tables(s, what):
                    name = self.text(m.Name())
                    if name and m.TensorIndex() < tensors:
                        names[m.TensorIndex()] = name
            return names
        return {}
