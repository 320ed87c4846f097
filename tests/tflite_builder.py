# SPDX-License-Identifier: Apache-2.0
"""Builds TFLite files in memory, one tensor and one operator at a time.

    b = ModelBuilder()
    x = b.input("x", (1, 8, 8, 3), "int8", 0.05, -3)
    w = b.const("w", weights, scales=[0.01] * 4)             # (O, H, W, I), int8
    bias = b.const("bias", biases, scales=[0.0005] * 4)      # (O,), int32
    y = b.tensor("y", (1, 8, 8, 4), "int8", 0.1, 4)
    b.op("CONV_2D", [x, w, bias], [y], padding="SAME", stride_h=1, stride_w=1)
    b.output(y)
    data = b.finish()

Tensors are plain indices; `None` in an operator's inputs is an operand left out.
Options carry the schema's own names in snake case; enum values are given by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import tflite

# numpy name -> TensorType
DTYPES = {
    "float32": tflite.TensorType.FLOAT32,
    "float16": tflite.TensorType.FLOAT16,
    "int32": tflite.TensorType.INT32,
    "uint8": tflite.TensorType.UINT8,
    "int64": tflite.TensorType.INT64,
    "bool": tflite.TensorType.BOOL,
    "int16": tflite.TensorType.INT16,
    "int8": tflite.TensorType.INT8,
}

# operator -> (options table or None, version). The versions are those at which the kernels
# take int8, which also covers uint8 and the ranks used here.
OPS: dict[str, tuple[str | None, int]] = {
    "ABS": ("AbsOptions", 2),
    "ADD": ("AddOptions", 2),
    "ARG_MAX": ("ArgMaxOptions", 2),
    "ARG_MIN": ("ArgMinOptions", 2),
    "AVERAGE_POOL_2D": ("Pool2DOptions", 2),
    "BATCH_MATMUL": ("BatchMatMulOptions", 2),
    "BATCH_TO_SPACE_ND": ("BatchToSpaceNDOptions", 2),
    "BROADCAST_TO": ("BroadcastToOptions", 3),
    "CAST": ("CastOptions", 1),
    "CEIL": (None, 1),
    "CONCATENATION": ("ConcatenationOptions", 2),
    "CONV_2D": ("Conv2DOptions", 5),
    "COS": ("CosOptions", 1),
    "CUMSUM": ("CumsumOptions", 1),
    "CUSTOM": (None, 1),
    "DENSIFY": ("DensifyOptions", 1),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", 3),
    "DEPTH_TO_SPACE": ("DepthToSpaceOptions", 1),
    "DEQUANTIZE": ("DequantizeOptions", 2),
    "DIV": ("DivOptions", 1),
    "DYNAMIC_UPDATE_SLICE": ("DynamicUpdateSliceOptions", 1),
    "ELU": (None, 1),
    "EMBEDDING_LOOKUP": (None, 1),
    "EQUAL": ("EqualOptions", 2),
    "EXP": ("ExpOptions", 2),
    "EXPAND_DIMS": ("ExpandDimsOptions", 1),
    "FLOOR": (None, 1),
    "FLOOR_DIV": ("FloorDivOptions", 2),
    "FLOOR_MOD": ("FloorModOptions", 2),
    "FULLY_CONNECTED": ("FullyConnectedOptions", 5),
    "GATHER": ("GatherOptions", 2),
    "GATHER_ND": ("GatherNdOptions", 2),
    "GELU": ("GeluOptions", 1),
    "GREATER": ("GreaterOptions", 2),
    "GREATER_EQUAL": ("GreaterEqualOptions", 2),
    "HARD_SWISH": ("HardSwishOptions", 1),
    "L2_NORMALIZATION": ("L2NormOptions", 2),
    "LEAKY_RELU": ("LeakyReluOptions", 2),
    "LESS": ("LessOptions", 2),
    "LESS_EQUAL": ("LessEqualOptions", 2),
    "LOCAL_RESPONSE_NORMALIZATION": ("LocalResponseNormalizationOptions", 1),
    "LOG": (None, 1),
    "LOGICAL_AND": ("LogicalAndOptions", 1),
    "LOGICAL_NOT": ("LogicalNotOptions", 1),
    "LOGICAL_OR": ("LogicalOrOptions", 1),
    "LOGISTIC": (None, 2),
    "LOG_SOFTMAX": ("LogSoftmaxOptions", 2),
    "MAXIMUM": ("MaximumMinimumOptions", 2),
    "MAX_POOL_2D": ("Pool2DOptions", 2),
    "MEAN": ("ReducerOptions", 2),
    "MINIMUM": ("MaximumMinimumOptions", 2),
    "MIRROR_PAD": ("MirrorPadOptions", 2),
    "MUL": ("MulOptions", 2),
    "NEG": ("NegOptions", 1),
    "NOT_EQUAL": ("NotEqualOptions", 2),
    "ONE_HOT": ("OneHotOptions", 1),
    "PACK": ("PackOptions", 2),
    "PAD": ("PadOptions", 2),
    "PADV2": ("PadV2Options", 2),
    "POW": ("PowOptions", 1),
    "PRELU": (None, 1),
    "QUANTIZE": ("QuantizeOptions", 2),
    "REDUCE_ALL": ("ReducerOptions", 1),
    "REDUCE_ANY": ("ReducerOptions", 1),
    "REDUCE_MAX": ("ReducerOptions", 2),
    "REDUCE_MIN": ("ReducerOptions", 2),
    "REDUCE_PROD": ("ReducerOptions", 1),
    "RELU": (None, 2),
    "RELU6": (None, 2),
    "RELU_0_TO_1": (None, 1),
    "RELU_N1_TO_1": (None, 1),
    "RESHAPE": ("ReshapeOptions", 1),
    "RESIZE_BILINEAR": ("ResizeBilinearOptions", 3),
    "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions", 3),
    "REVERSE_V2": ("ReverseV2Options", 2),
    "ROUND": (None, 1),
    "RSQRT": (None, 2),
    "SCATTER_ND": ("ScatterNdOptions", 1),
    "SELECT": ("SelectOptions", 2),
    "SELECT_V2": ("SelectV2Options", 1),
    "SIGN": ("SignOptions", 1),
    "SIN": (None, 1),
    "SLICE": ("SliceOptions", 2),
    "SOFTMAX": ("SoftmaxOptions", 2),
    "SPACE_TO_BATCH_ND": ("SpaceToBatchNDOptions", 2),
    "SPACE_TO_DEPTH": ("SpaceToDepthOptions", 2),
    "SPLIT": ("SplitOptions", 2),
    "SPLIT_V": ("SplitVOptions", 2),
    "SQRT": (None, 1),
    "SQUARE": ("SquareOptions", 1),
    "SQUARED_DIFFERENCE": ("SquaredDifferenceOptions", 2),
    "SQUEEZE": ("SqueezeOptions", 1),
    "STRIDED_SLICE": ("StridedSliceOptions", 2),
    "SUB": ("SubOptions", 2),
    "SUM": ("ReducerOptions", 2),
    "TANH": (None, 2),
    "TILE": ("TileOptions", 2),
    "TOPK_V2": ("TopKV2Options", 2),
    "TRANSPOSE": ("TransposeOptions", 2),
    "TRANSPOSE_CONV": ("TransposeConvOptions", 3),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": ("UnidirectionalSequenceLSTMOptions", 1),
    "UNPACK": ("UnpackOptions", 2),
}

# option name -> the enum whose member names it takes
ENUMS: dict[str, type] = {
    "fused_activation_function": tflite.ActivationFunctionType,
    "mode": tflite.MirrorPadMode,
    "output_type": tflite.TensorType,
    "padding": tflite.Padding,
}


@dataclass(frozen=True)
class Sparse:
    """SparsityParameters. `levels`: a dense one's size, a sparse one's (segments, indices)."""

    order: Sequence[int]
    blocks: Sequence[int]
    levels: Sequence[int | tuple[Sequence[int], Sequence[int]]]


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    quantized_dimension: int
    data: bytes | None
    variable: bool = False
    sparsity: Sparse | None = None


@dataclass(frozen=True)
class _Op:
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]
    custom: bytes | None = None  # options of a custom operator, whose name is `kind`


@dataclass
class ModelBuilder:
    """Collects one subgraph and writes it as a TFLite flatbuffer."""

    _tensors: list[_Tensor] = field(default_factory=list)
    _ops: list[_Op] = field(default_factory=list)
    _inputs: list[int] = field(default_factory=list)
    _outputs: list[int] = field(default_factory=list)

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        scale: float | None = None,
        zero_point: int | None = None,
    ) -> int:
        """Adds an activation tensor. Without a scale it carries no quantization."""
        scales = () if scale is None else (float(scale),)
        zeros = () if scale is None else (int(zero_point or 0),)
        dims = tuple(int(n) for n in shape)
        return self._add(_Tensor(name, dims, dtype, scales, zeros, 0, None))

    def input(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        scale: float | None = None,
        zero_point: int | None = None,
    ) -> int:
        """Adds an activation tensor and appends it to the subgraph's inputs."""
        index = self.tensor(name, shape, dtype, scale, zero_point)
        self._inputs.append(index)
        return index

    def const(
        self,
        name: str,
        array: np.ndarray,
        scales: Sequence[float] | float | None = None,
        zero_points: Sequence[int] | int | None = None,
        quantized_dimension: int = 0,
    ) -> int:
        """Adds a constant. Zero points default to as many zeros as there are scales."""
        scale_list = () if scales is None else tuple(np.ravel(scales).tolist())
        if zero_points is None:
            zeros: tuple[int, ...] = (0,) * len(scale_list)
        else:
            zeros = tuple(int(z) for z in np.ravel(zero_points))
        array = np.asarray(array)
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        return self._add(
            _Tensor(
                name,
                array.shape,
                array.dtype.name,
                scale_list,
                zeros,
                quantized_dimension,
                little.tobytes(),
            )
        )

    def variable(self, name: str, shape: Sequence[int]) -> int:
        """Adds a float32 tensor that survives a run."""
        dims = tuple(int(n) for n in shape)
        return self._add(_Tensor(name, dims, "float32", (), (), 0, None, True))

    def sparse(self, name: str, shape: Sequence[int], values: np.ndarray, sparsity: Sparse) -> int:
        """Adds a constant of which only `values` are stored."""
        dims = tuple(int(n) for n in shape)
        data = values.tobytes()
        return self._add(_Tensor(name, dims, values.dtype.name, (), (), 0, data, False, sparsity))

    def custom(self, kind: str, inputs: Sequence[int], outputs: Sequence[int], raw: bytes) -> None:
        """Appends a custom operator with its options."""
        self._ops.append(_Op(kind, tuple(inputs), tuple(outputs), {}, raw))

    def op(
        self,
        kind: str,
        inputs: Sequence[int | None],
        outputs: Sequence[int],
        **options: Any,
    ) -> None:
        """Appends an operator; operators run in the order of the calls."""
        if kind not in OPS:
            raise KeyError(f"unknown operator {kind}")
        ins = tuple(-1 if t is None else t for t in inputs)
        self._ops.append(_Op(kind, ins, tuple(outputs), options))

    def output(self, *tensors: int) -> None:
        """Appends tensors to the subgraph's outputs."""
        self._outputs.extend(tensors)

    def finish(self) -> bytes:
        """Returns the file. Buffer 0 is the empty one that the format requires."""
        fb = flatbuffers.Builder(1024)
        buffers = [self._buffer(fb, None)]
        tensors = []
        for t in self._tensors:
            index = 0
            if t.data is not None:
                index = len(buffers)
                buffers.append(self._buffer(fb, t.data))
            tensors.append(self._tensor(fb, t, index))
        codes, code_index = self._operator_codes(fb)
        ops = [self._operator(fb, o, code_index[o.kind]) for o in self._ops]
        graph = self._subgraph(fb, tensors, ops)
        tables = {
            "OperatorCodes": _offsets(fb, codes),
            "Subgraphs": _offsets(fb, [graph]),
            "Buffers": _offsets(fb, buffers),
        }
        description = fb.CreateString("edgeq test")
        tflite.ModelStart(fb)
        tflite.ModelAddVersion(fb, 3)
        tflite.ModelAddDescription(fb, description)
        for name, offset in tables.items():
            getattr(tflite, f"ModelAdd{name}")(fb, offset)
        fb.Finish(tflite.ModelEnd(fb), file_identifier=b"TFL3")
        return bytes(fb.Output())

    def _add(self, t: _Tensor) -> int:
        if t.dtype not in DTYPES:
            raise KeyError(f"unknown element type {t.dtype}")
        self._tensors.append(t)
        return len(self._tensors) - 1

    @staticmethod
    def _buffer(fb: flatbuffers.Builder, data: bytes | None) -> int:
        vector = None
        if data is not None:
            # Constants are read in place, so they start on a 16-byte boundary.
            fb.StartVector(1, len(data), 16)
            fb.head = fb.head - len(data)
            fb.Bytes[fb.head : fb.head + len(data)] = data
            vector = fb.EndVector()
        tflite.BufferStart(fb)
        if vector is not None:
            tflite.BufferAddData(fb, vector)
        return int(tflite.BufferEnd(fb))

    @staticmethod
    def _tensor(fb: flatbuffers.Builder, t: _Tensor, buffer: int) -> int:
        name = fb.CreateString(t.name)
        shape = fb.CreateNumpyVector(np.array(t.shape, np.int32))
        quant = None
        if t.scales:
            scale = fb.CreateNumpyVector(np.array(t.scales, np.float32))
            zero = fb.CreateNumpyVector(np.array(t.zero_points, np.int64))
            tflite.QuantizationParametersStart(fb)
            tflite.QuantizationParametersAddScale(fb, scale)
            tflite.QuantizationParametersAddZeroPoint(fb, zero)
            tflite.QuantizationParametersAddQuantizedDimension(fb, t.quantized_dimension)
            quant = tflite.QuantizationParametersEnd(fb)
        sparsity = None if t.sparsity is None else _sparsity(fb, t.sparsity)
        tflite.TensorStart(fb)
        tflite.TensorAddShape(fb, shape)
        tflite.TensorAddType(fb, DTYPES[t.dtype])
        tflite.TensorAddBuffer(fb, buffer)
        tflite.TensorAddName(fb, name)
        if quant is not None:
            tflite.TensorAddQuantization(fb, quant)
        if t.variable:
            tflite.TensorAddIsVariable(fb, True)
        if sparsity is not None:
            tflite.TensorAddSparsity(fb, sparsity)
        return int(tflite.TensorEnd(fb))

    def _operator_codes(self, fb: flatbuffers.Builder) -> tuple[list[int], dict[str, int]]:
        index: dict[str, int] = {}
        codes: list[int] = []
        for op in self._ops:
            if op.kind in index:
                continue
            index[op.kind] = len(codes)
            kind = op.kind if op.custom is None else "CUSTOM"
            code = getattr(tflite.BuiltinOperator, kind)
            custom = None if op.custom is None else fb.CreateString(op.kind)
            tflite.OperatorCodeStart(fb)
            if custom is not None:
                tflite.OperatorCodeAddCustomCode(fb, custom)
            # Readers older than the 32-bit field look at the 8-bit one.
            tflite.OperatorCodeAddDeprecatedBuiltinCode(fb, min(code, 127))
            tflite.OperatorCodeAddBuiltinCode(fb, code)
            tflite.OperatorCodeAddVersion(fb, OPS[kind][1])
            codes.append(tflite.OperatorCodeEnd(fb))
        return codes, index

    @staticmethod
    def _operator(fb: flatbuffers.Builder, op: _Op, code: int) -> int:
        table = OPS[op.kind][0] if op.custom is None else None
        if table is None and op.options:
            raise TypeError(f"{op.kind} takes no options, got {sorted(op.options)}")
        options = None if table is None else _options(fb, table, op.options)
        inputs = fb.CreateNumpyVector(np.array(op.inputs, np.int32))
        outputs = fb.CreateNumpyVector(np.array(op.outputs, np.int32))
        custom = None if op.custom is None else fb.CreateByteVector(op.custom)
        tflite.OperatorStart(fb)
        if custom is not None:
            tflite.OperatorAddCustomOptions(fb, custom)
        tflite.OperatorAddOpcodeIndex(fb, code)
        tflite.OperatorAddInputs(fb, inputs)
        tflite.OperatorAddOutputs(fb, outputs)
        if table is not None:
            tflite.OperatorAddBuiltinOptionsType(fb, getattr(tflite.BuiltinOptions, table))
            tflite.OperatorAddBuiltinOptions(fb, options)
        return int(tflite.OperatorEnd(fb))

    def _subgraph(self, fb: flatbuffers.Builder, tensors: list[int], ops: list[int]) -> int:
        fields = {
            "Tensors": _offsets(fb, tensors),
            "Inputs": fb.CreateNumpyVector(np.array(self._inputs, np.int32)),
            "Outputs": fb.CreateNumpyVector(np.array(self._outputs, np.int32)),
            "Operators": _offsets(fb, ops),
            "Name": fb.CreateString("main"),
        }
        tflite.SubGraphStart(fb)
        for name, offset in fields.items():
            getattr(tflite, f"SubGraphAdd{name}")(fb, offset)
        return int(tflite.SubGraphEnd(fb))


def _sparsity(fb: flatbuffers.Builder, s: Sparse) -> int:
    def indices(values: Sequence[int]) -> int:
        vector = fb.CreateNumpyVector(np.array(values, np.int32))
        tflite.Int32VectorStart(fb)
        tflite.Int32VectorAddValues(fb, vector)
        return int(tflite.Int32VectorEnd(fb))

    levels = []
    for level in s.levels:
        vectors = None if isinstance(level, int) else [indices(v) for v in level]
        tflite.DimensionMetadataStart(fb)
        if vectors is None:
            tflite.DimensionMetadataAddFormat(fb, tflite.DimensionType.DENSE)
            tflite.DimensionMetadataAddDenseSize(fb, level)
        else:
            kind = tflite.SparseIndexVector.Int32Vector
            tflite.DimensionMetadataAddFormat(fb, tflite.DimensionType.SPARSE_CSR)
            tflite.DimensionMetadataAddArraySegmentsType(fb, kind)
            tflite.DimensionMetadataAddArraySegments(fb, vectors[0])
            tflite.DimensionMetadataAddArrayIndicesType(fb, kind)
            tflite.DimensionMetadataAddArrayIndices(fb, vectors[1])
        levels.append(int(tflite.DimensionMetadataEnd(fb)))
    order = fb.CreateNumpyVector(np.array(s.order, np.int32))
    blocks = fb.CreateNumpyVector(np.array(s.blocks, np.int32)) if s.blocks else None
    metadata = _offsets(fb, levels)
    tflite.SparsityParametersStart(fb)
    tflite.SparsityParametersAddTraversalOrder(fb, order)
    if blocks is not None:
        tflite.SparsityParametersAddBlockMap(fb, blocks)
    tflite.SparsityParametersAddDimMetadata(fb, metadata)
    return int(tflite.SparsityParametersEnd(fb))


def _options(fb: flatbuffers.Builder, table: str, options: dict[str, Any]) -> int:
    values: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, str):
            value = getattr(ENUMS[name], value.upper())
        elif isinstance(value, (list, tuple)):
            value = fb.CreateNumpyVector(np.array(value, np.int32))
        values[name] = value
    getattr(tflite, f"{table}Start")(fb)
    for name, value in values.items():
        getattr(tflite, f"{table}Add{_camel(name)}")(fb, value)
    return int(getattr(tflite, f"{table}End")(fb))


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _offsets(fb: flatbuffers.Builder, items: list[int]) -> int:
    fb.StartVector(4, len(items), 4)
    for item in reversed(items):
        fb.PrependUOffsetTRelative(item)
    return int(fb.EndVector())
