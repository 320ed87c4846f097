# SPDX-License-Identifier: Apache-2.0
"""Float TFLite files: run by edgeq's float runner and by TFLite, and compared."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import tflite
from oracle import Reference

from edgeq.importers.tflite import import_tflite
from edgeq.ir.graph import Graph
from edgeq.passes import run_float_passes
from edgeq.quantize.execute import FloatRunner


def run_graph(graph: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Outputs of a float graph."""
    found = FloatRunner(graph, threads=1).run({t.name: x for t, x in zip(graph.inputs, inputs)})
    return [np.asarray(t.data) if t.is_const else found[t] for t in graph.outputs]


def random_inputs(graph: Graph, rng: np.random.Generator) -> list[np.ndarray]:
    """Float inputs in [-1, 1], indices below 100."""
    return [
        rng.uniform(-1, 1, t.shape).astype(np.float32)
        if t.dtype == "float32"
        else rng.integers(0, 100, t.shape).astype(t.dtype)
        for t in graph.inputs
    ]


def deviation(got: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> float:
    """Largest difference of any output, in units of that output's largest value."""
    assert len(got) == len(want)
    worst = 0.0
    for g, w in zip(got, want):
        assert g.shape == w.shape and g.dtype == w.dtype
        assert np.isfinite(g).all()
        if w.size:
            worst = max(worst, float(np.abs(g - w).max() / max(np.abs(w).max(), 1e-30)))
    return worst


def reference(data: bytes, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Outputs by the reference kernels, or by the others where there is no reference kernel."""
    try:
        return Reference(data).run(inputs)
    except ValueError:
        return Reference(data, "BUILTIN_WITHOUT_DEFAULT_DELEGATES").run(inputs)


def check_float(data: bytes, inputs: Sequence[np.ndarray], tolerance: float = 1e-5) -> Graph:
    """Compares an imported file, before and after the passes, with TFLite; the graph."""
    graph = import_tflite(data)
    want = reference(data, inputs)
    assert deviation(run_graph(graph, inputs), want) <= tolerance
    assert deviation(run_graph(run_float_passes(graph), inputs), want) <= tolerance
    return graph


# ---- changes of files


def _position(table: object, slot: int) -> int:
    """Where a table's field lies in the file; `slot` counts the schema's fields."""
    tab = table._tab  # type: ignore[attr-defined]
    offset = tab.Offset(4 + 2 * slot)
    assert offset, "the field is not there"
    return int(tab.Pos + offset)


def with_float_weights(data: bytes) -> bytes:
    """A dynamic-range network whose int8 constants are the float32 that they stand for.

    TFLite quantizes activations where weights are int8; of this file it computes in float32.
    """
    graph = tflite.Model.GetRootAs(data).Subgraphs(0)
    model, out = tflite.Model.GetRootAs(data), bytearray(data)
    for i in range(graph.TensorsLength()):
        t = graph.Tensors(i)
        q, buffer = t.Quantization(), model.Buffers(t.Buffer())
        if t.Type() != tflite.TensorType.INT8 or buffer.DataLength() == 0:
            continue
        scales = q.ScaleAsNumpy()
        shape = t.ShapeAsNumpy()
        if len(scales) > 1:
            wide = [1] * len(shape)
            wide[q.QuantizedDimension()] = -1
            scales = scales.reshape(wide)
        values = buffer.DataAsNumpy().view(np.int8).reshape(shape) * scales
        out[_position(t, 1)] = tflite.TensorType.FLOAT32
        _append(out, _position(buffer, 0), values.astype("<f4").tobytes())
    return bytes(out)


def _append(out: bytearray, position: int, values: bytes) -> None:
    """Makes the vector that the field at `position` names one at the end of the file."""
    out += bytes(-(len(out) + 4) % 16)
    struct.pack_into("<I", out, position, len(out) - position)
    out += struct.pack("<I", len(values)) + values


def cut(data: bytes, operators: int, output: int) -> bytes:
    """The first operators of a network; tensor `output` is its output."""
    out = bytearray(data)
    graph = tflite.Model.GetRootAs(out).Subgraphs(0)
    graph.OutputsAsNumpy()[0] = output
    position = _position(graph, 3)
    vector = position + struct.unpack_from("<I", out, position)[0]
    struct.pack_into("<I", out, vector, operators)
    return bytes(out)
