# SPDX-License-Identifier: Apache-2.0
"""Float networks that multiply, divide and normalize activations, quantized by edgeq."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cases import Rng

import edgeq

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

helper, numpy_helper = onnx.helper, onnx.numpy_helper
ROWS, DEPTH, HEADS = 16, 32, 4


def network(nodes: list[object], constants: dict[str, np.ndarray], shape: list[int]) -> bytes:
    """An ONNX model from x to y, both of `shape`."""
    real = onnx.TensorProto.FLOAT
    initializers = [
        numpy_helper.from_array(a.astype(np.float32) if a.dtype.kind == "f" else a, name)
        for name, a in constants.items()
    ]
    ports = [[helper.make_tensor_value_info(n, real, shape)] for n in "xy"]
    graph = helper.make_graph(nodes, "g", *ports, initializers)
    opsets = [helper.make_opsetid("", 17)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(made.SerializeToString())


def quantized(model: bytes, samples: np.ndarray, folder: Path) -> tuple[float, list[str]]:
    """SQNR in dB over the last quarter of the samples, and the ops; calibrated with the others."""
    known = len(samples) * 3 // 4
    np.save(folder / "samples.npy", samples[:known])
    session = edgeq.load(edgeq.convert(model, calibrate=folder / "samples.npy").data)
    floats = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    want = np.stack([floats.run(None, {"x": x})[0] for x in samples[known:]])
    got = np.stack([session.run(x)[0] for x in samples[known:]])
    noise = ((want - got) ** 2).sum()
    return 10 * np.log10((want**2).sum() / noise), [op.type for op in session.model.ops]


def test_attention(rng: Rng, tmp_path: Path) -> None:
    """A layer norm, four heads of attention, the sum with what went in."""
    node = helper.make_node
    constants = {
        "heads": np.array([1, ROWS, HEADS, DEPTH // HEADS]),
        "rows": np.array([1, ROWS, DEPTH]),
        "scale": np.array(8**-0.5),
        "gamma": rng.normal(1, 0.2, DEPTH),
        "beta": rng.normal(0, 0.2, DEPTH),
    }
    nodes = [node("LayerNormalization", ["x", "gamma", "beta"], ["n"], axis=-1, epsilon=1e-5)]
    for k in "qkv":
        constants |= {
            f"w{k}": rng.normal(0, 0.3, (DEPTH, DEPTH)),
            f"b{k}": rng.normal(0, 0.1, DEPTH),
        }
        perm = [0, 2, 3, 1] if k == "k" else [0, 2, 1, 3]
        nodes += [
            node("MatMul", ["n", f"w{k}"], [f"m{k}"]),
            node("Add", [f"m{k}", f"b{k}"], [f"a{k}"]),
            node("Reshape", [f"a{k}", "heads"], [f"r{k}"]),
            node("Transpose", [f"r{k}"], [k], perm=perm),
        ]
    nodes += [
        node("MatMul", ["q", "k"], ["s"]),
        node("Mul", ["s", "scale"], ["scaled"]),
        node("Softmax", ["scaled"], ["p"], axis=-1),
        node("MatMul", ["p", "v"], ["o"]),
        node("Transpose", ["o"], ["moved"], perm=[0, 2, 1, 3]),
        node("Reshape", ["moved", "rows"], ["joined"]),
        node("Add", ["joined", "x"], ["y"]),
    ]
    samples = rng.normal(0, 1, (40, 1, ROWS, DEPTH)).astype(np.float32)
    sqnr, ops = quantized(network(nodes, constants, [1, ROWS, DEPTH]), samples, tmp_path)
    assert sqnr > 20
    assert ops.count("BATCH_MATMUL") == 2
    assert ops.count("LAYER_NORM") == 1


def test_quotient(rng: Rng, tmp_path: Path) -> None:
    """x over the absolute value of a matrix product, and 1."""
    node = helper.make_node
    constants = {"w": rng.normal(0, 0.3, (DEPTH, DEPTH)), "one": np.array(1.0)}
    nodes = [
        node("MatMul", ["x", "w"], ["m"]),
        node("Abs", ["m"], ["a"]),
        node("Add", ["a", "one"], ["d"]),
        node("Div", ["x", "d"], ["y"]),
    ]
    samples = rng.normal(0, 1, (40, 4, DEPTH)).astype(np.float32)
    sqnr, ops = quantized(network(nodes, constants, [4, DEPTH]), samples, tmp_path)
    assert sqnr > 30
    assert "DIV" in ops
