# SPDX-License-Identifier: Apache-2.0
"""Operators whose inputs are known at conversion: shapes, indices, weights that are computed.

onnxruntime evaluates them one at a time, after onnx's shape inference has said how large the result
will be.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import DependencyError
from ..ir.graph import Array, Tensor
from .onnx_context import OpContext
from .tflite_context import Refused

# Not among them: what multiplies matrices, loops or draws random numbers.
_NAMES = """
    Abs Add And ArgMax ArgMin BitShift Cast CastLike Ceil Clip Compress Concat ConstantOfShape
    Cos CumSum DepthToSpace Div Dropout Equal Erf Exp Expand EyeLike Flatten Floor Gather
    GatherElements GatherND Gemm Greater GreaterOrEqual Identity IsInf IsNaN Less LessOrEqual
    Log MatMul Max Mean Min Mod Mul Neg NonZero Not OneHot Or Pad Pow Range Reciprocal ReduceL1
    ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape
    Round ScatterElements ScatterND Sigmoid Sign Sin Size Slice Softmax SpaceToDepth Split Sqrt
    Squeeze Sub Sum Tanh Tile TopK Transpose Trilu Unsqueeze Where Xor QuantizeLinear
"""
FOLDABLE = frozenset(_NAMES.split())
_PRODUCTS = ("MatMul", "Gemm")
_MAX_PRODUCT = 2**22  # elements of a factor in a product of constants
_MAX_GROWTH = 64  # elements of a result whose size is not known before, for each one of the inputs


def fold(op: OpContext) -> bool:
    """Finishes the operator if all that it needs is known; False if it is for others."""
    record = op.record
    if record.op == "Constant":
        op.finish(_tensor(op, 0, _literal(op)))
        return True
    if record.op in ("Shape", "Size"):
        x = op.raw(0)
        op.finish(_tensor(op, 0, _shape(op, x)))
        return True
    if record.op not in FOLDABLE or not record.inputs:
        return False
    inputs = [op.raw(i) for i in range(len(record.inputs)) if op.has(i)]
    if not all(t.is_const for t in inputs):
        return False
    if record.op in ("Transpose", "Reshape", "Identity") and inputs[0] in op.builder.stored:
        return False  # their handlers keep the integers
    results = evaluate(op)
    for i, array in enumerate(results):
        if record.outputs[i]:
            op.written[i] = _tensor(op, i, array)
    return True


def _tensor(op: OpContext, i: int, array: Array) -> Tensor:
    if array.dtype.name not in (
        "float32",
        "float64",
        "float16",
        "bool",
    ) and array.dtype.kind not in ("iu"):
        raise Refused(f"it computes {array.dtype.name}")
    name = op.record.outputs[i]
    return Tensor(name, array.shape, array.dtype.name, None, array)


def _shape(op: OpContext, x: Tensor) -> Array:
    if op.record.op == "Size":
        return np.array(x.elements, np.int64)
    rank = len(x.shape)
    start, end = op.attr_int("start", 0), op.attr_int("end", rank)
    start = min(max(start + rank if start < 0 else start, 0), rank)
    end = min(max(end + rank if end < 0 else end, 0), rank)
    return np.array(x.shape[start:end], np.int64)


def _literal(op: OpContext) -> Array:
    """The value of a Constant."""
    for name, value in op.record.attrs.items():
        if name == "value" and isinstance(value, np.ndarray):
            return value
        if name in ("value_int", "value_ints"):
            return np.asarray(value, np.int64)
        if name in ("value_float", "value_floats"):
            return np.asarray(value, np.float32)
    raise Refused("a constant of this kind is not supported")


def evaluate(op: OpContext) -> list[Array]:
    """The operator's results, by onnxruntime."""
    return run_node(op, [op.raw(i).data if op.has(i) else None for i in range(_inputs(op))])


def _inputs(op: OpContext) -> int:
    return len(op.record.inputs)


def run_node(
    op: OpContext, arrays: list[Array | None], attrs: dict[str, Any] | None = None
) -> list[Array]:
    """What onnxruntime computes for this operator from other inputs or attributes."""
    try:
        import onnx
        import onnxruntime
        from onnx import helper, numpy_helper
    except ImportError as e:
        raise DependencyError(
            "reading ONNX files needs onnx and onnxruntime: pip install edgeq[convert]"
        ) from e
    record = op.record
    names = [f"x{i}" if a is not None else "" for i, a in enumerate(arrays)]
    outputs = [f"y{i}" if o else "" for i, o in enumerate(record.outputs)]
    domain, _, name = record.op.rpartition(":")
    given = {k: v for k, v in (record.attrs if attrs is None else attrs).items() if v is not None}
    given = {
        k: numpy_helper.from_array(v) if isinstance(v, np.ndarray) else v for k, v in given.items()
    }
    node = helper.make_node(name, names, outputs, domain=domain, **given)
    known = [numpy_helper.from_array(a, f"x{i}") for i, a in enumerate(arrays) if a is not None]
    wanted = [helper.make_empty_tensor_value_info(o) for o in outputs if o]
    graph = helper.make_graph([node], "constant", [], wanted, known)
    opsets = [helper.make_opsetid(d, v) for d, v in op.file.opsets.items() if d in ("", domain)]
    model = helper.make_model(
        graph, opset_imports=opsets, ir_version=min(max(op.file.ir_version, 4), 8)
    )
    size = sum(a.nbytes for a in arrays if a is not None)
    if record.op in _PRODUCTS and size > 4 * _MAX_PRODUCT:
        raise Refused("a product of large constants")
    try:
        op.builder.afford(_result_size(onnx, model, size))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        values = iter(session.run([o for o in outputs if o], {}))
    except Refused:
        raise
    except Exception as e:
        raise op.wrong(f"onnxruntime cannot compute it: {str(e)[:300]}") from e
    return [np.asarray(next(values)) if o else np.zeros(0, np.float32) for o in outputs]


def _result_size(onnx: Any, model: Any, size: int) -> int:
    """Bytes of the results, or a bound where they depend on values."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    total = 0
    for port in inferred.graph.output:
        t = port.type.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") else -1 for d in t.shape.dim]
        if not t.HasField("shape") or min(dims, default=0) < 0:
            total += _MAX_GROWTH * max(size, 64)
        else:
            total += 8 * math.prod(dims)
    return total
