# SPDX-License-Identifier: Apache-2.0
"""Small ONNX networks, and how they are compared with onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgeq.importers.onnx import import_onnx
from edgeq.ir.graph import Graph
from edgeq.passes.layout import layout
from edgeq.quantize.execute import FloatRunner

NEWEST = min(onnx.defs.onnx_opset_version(), 23)
KINDS = {
    "float32": TensorProto.FLOAT,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int64": TensorProto.INT64,
}
onnxruntime.set_default_logger_severity(4)


@dataclass
class Net:
    """Nodes in order, written by name: add("Relu", "x") returns the name of the result."""

    opset: int = 17
    inputs: dict[str, tuple[Any, ...]] = field(default_factory=dict)  # name -> shape
    kinds: dict[str, str] = field(default_factory=dict)
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    domains: set[str] = field(default_factory=lambda: {""})

    def input(self, name: str, *shape: Any, kind: str = "float32") -> str:
        self.inputs[name], self.kinds[name] = shape, kind
        return name

    def const(self, data: Any, dtype: str = "float32") -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(data, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        return self.const(values, "int64")

    def add(self, op: str, *inputs: str, outputs: int = 1, **attrs: Any) -> Any:
        domain, _, name = op.rpartition(":")
        self.domains.add(domain)
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(name, inputs, names, domain=domain, **attrs))
        return names[0] if outputs == 1 else names

    def model(self, *outputs: str, kinds: Sequence[str] = (), ir_version: int = 8) -> bytes:
        ports = [
            helper.make_tensor_value_info(n, KINDS[self.kinds[n]], s)
            for n, s in self.inputs.items()
        ]
        wanted = [helper.make_empty_tensor_value_info(o) for o in outputs]
        for port, kind in zip(wanted, kinds):
            port.type.tensor_type.elem_type = KINDS[kind]
        graph = helper.make_graph(self.nodes, "net", ports, wanted, self.constants)
        opsets = [helper.make_opsetid(d, 1 if d else self.opset) for d in sorted(self.domains)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
        data: bytes = model.SerializeToString()
        return data


def reference(model: bytes, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What onnxruntime computes, without its optimizations, which round differently."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(None, dict(feed))
    return found


def random_feed(graph: Graph, seed: int, scale: float = 1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    feed = {}
    for t in graph.inputs:
        if t.source_dtype == "float32":
            feed[t.name] = np.asarray(rng.normal(size=t.shape) * scale, np.float32)
        else:
            info = np.iinfo(t.source_dtype)
            low, high = max(info.min, -128), min(info.max, 255) + 1
            feed[t.name] = rng.integers(low, high, t.shape).astype(t.source_dtype)
    return feed


def check(
    model: bytes,
    feed: Mapping[str, np.ndarray] | None = None,
    *,
    scale: float = 1.0,
    rtol: float = 1e-4,
    atol: float = 1e-5,
    **options: Any,
) -> Graph:
    """Imports a float network and compares it with onnxruntime, before and behind the layout pass;
    returns it behind that."""
    graph = import_onnx(model, **options)
    given = feed or random_feed(graph, 1, scale)
    expected = reference(model, given)
    for rewritten in (graph, layout(graph.copy())):
        found = FloatRunner(rewritten, threads=1).run(given)
        assert len(expected) == len(rewritten.outputs)
        for t, y in zip(rewritten.outputs, expected):
            assert found[t].shape == y.shape
            np.testing.assert_allclose(found[t], y, rtol=rtol, atol=atol)
    return rewritten


def transposes(graph: Graph) -> list[tuple[int, ...]]:
    return [n.attrs.perm for n in graph.nodes if n.op == "TRANSPOSE"]
