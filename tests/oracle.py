# SPDX-License-Identifier: Apache-2.0
"""The oracle: TFLite's reference kernels, and the comparison of edgeq with them.

`check(model, inputs)` is what nearly every test ends in: it runs a TFLite file by the reference
kernels and by edgeq, and fails unless dtype, shape and every byte of every output agree.

Environment:
    EDGEQ_TEST_SEEDS=n   n times as many seeds of every randomised test (default 1)
    EDGEQ_TEST_DUMP=dir  writes the model and the inputs of a failing case there
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tflite

# Newer wheels exist for newer Pythons only under the second name.
_ORACLES = (
    ("tflite_runtime.interpreter", "tflite-runtime"),
    ("ai_edge_litert.interpreter", "ai-edge-litert"),
)


def _load_oracle() -> tuple[Any, str, str]:
    for module, package in _ORACLES:
        try:
            loaded = importlib.import_module(module)
        except ImportError:
            continue
        return loaded, package, importlib.metadata.version(package)
    raise ImportError("the op tests need tflite-runtime or ai-edge-litert")


_module, ORACLE_NAME, ORACLE_VERSION = _load_oracle()


def oracle_is_exact(op: str) -> bool:
    """Whether the oracle's kernel for `op` computes the R31 arithmetic of docs/NUMERICS.md.

    ai-edge-litert rounds the scaled accumulators of FULLY_CONNECTED once, where R31 rounds twice;
    about one output in two hundred then differs by one step.
    """
    return not (ORACLE_NAME == "ai-edge-litert" and op == "FULLY_CONNECTED")


# The reference resolver does not have these; the other one has a single kernel for each.
NOT_IN_REFERENCE = {"CUMSUM", "ELU"}


class Reference:
    """One model, prepared once for the reference kernels, or those of another resolver."""

    def __init__(self, model: bytes, resolver: str = "BUILTIN_REF") -> None:
        if set(operators(model)) & NOT_IN_REFERENCE:
            resolver = "BUILTIN_WITHOUT_DEFAULT_DELEGATES"
        self._interpreter = _module.Interpreter(
            model_content=model,
            experimental_op_resolver_type=_module.OpResolverType[resolver],
            num_threads=1,
        )
        self._interpreter.allocate_tensors()
        self.inputs: list[dict[str, Any]] = self._interpreter.get_input_details()
        self.outputs: list[dict[str, Any]] = self._interpreter.get_output_details()

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Runs the model. Inputs and outputs are in the order of the subgraph's lists."""
        assert len(inputs) == len(self.inputs)
        for detail, array in zip(self.inputs, inputs):
            self._interpreter.set_tensor(detail["index"], array)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(d["index"]) for d in self.outputs]


def reference(model: bytes, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Outputs of `model` by the reference kernels."""
    return Reference(model).run(inputs)


def check(model: bytes, inputs: Sequence[np.ndarray]) -> None:
    """Asserts that edgeq's outputs for `model` equal the oracle's, byte for byte."""
    want = reference(model, inputs)
    try:
        compare(run_edgeq(model, inputs), want, op_names(model))
    except BaseException:
        _dump(model, inputs)
        raise


def run_edgeq(model: bytes, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Converts, loads and runs `model`."""
    import edgeq

    outputs: list[np.ndarray] = edgeq.load(edgeq.convert(model).data).run(*inputs)
    return outputs


def compare(got: Sequence[np.ndarray], want: Sequence[np.ndarray], what: str) -> None:
    """Asserts that two lists of arrays agree in length, dtypes, shapes and bytes."""
    assert len(got) == len(want), f"{what}: {len(got)} outputs, the oracle has {len(want)}"
    for i, (g, w) in enumerate(zip(got, want)):
        where = f"{what}, output {i}"
        assert g.dtype == w.dtype, f"{where}: dtype {g.dtype}, the oracle's is {w.dtype}"
        assert g.shape == w.shape, f"{where}: shape {g.shape}, the oracle's is {w.shape}"
        if g.tobytes() != w.tobytes():
            raise AssertionError(f"{where} {w.dtype}{list(w.shape)}: {_difference(g, w)}")


def operators(model: bytes) -> list[str]:
    """The operators of a TFLite file's first subgraph, in order."""
    root = tflite.Model.GetRootAs(model)
    graph = root.Subgraphs(0)
    names = []
    for i in range(graph.OperatorsLength()):
        code = root.OperatorCodes(graph.Operators(i).OpcodeIndex())
        names.append(tflite.opcode2name(max(code.BuiltinCode(), code.DeprecatedBuiltinCode())))
    return names


def op_names(model: bytes) -> str:
    """The operators of a TFLite file as one line, cut where it grows long."""
    names = operators(model)
    return " ".join(names) if len(names) <= 12 else f"{' '.join(names[:12])} … ({len(names)} ops)"


def _difference(got: np.ndarray, want: np.ndarray) -> str:
    # Compared as bytes per element, so that -0.0 and NaN count as they are.
    shape = (*want.shape, want.dtype.itemsize)
    bytes_got = np.frombuffer(got.tobytes(), np.uint8).reshape(shape)
    bytes_want = np.frombuffer(want.tobytes(), np.uint8).reshape(shape)
    differs = (bytes_got != bytes_want).any(axis=-1)
    first = tuple(int(n) for n in np.argwhere(differs)[0])
    largest = np.max(np.abs(got.astype(np.float64) - want.astype(np.float64)))
    return (
        f"{int(differs.sum())} of {want.size} differ, first at {first}: "
        f"edgeq {got[first]}, oracle {want[first]}, largest difference {largest:g}"
    )


def _dump(model: bytes, inputs: Sequence[np.ndarray]) -> None:
    folder = os.environ.get("EDGEQ_TEST_DUMP")
    if not folder:
        return
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    stem = hashlib.sha256(model).hexdigest()[:12]
    (path / f"{stem}.tflite").write_bytes(model)
    np.savez(path / f"{stem}.npz", *inputs)
