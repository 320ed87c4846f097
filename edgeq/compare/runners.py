# SPDX-License-Identifier: Apache-2.0
"""A network file in the runtime that it was made for, fed and read in real numbers.

.eqm runs here, .onnx in onnxruntime, .tflite in LiteRT or tflite-runtime: edgeq's importers have no
part in what the integers are compared with.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError, DependencyError, FormatError
from ..runtime.model import MAGIC, load

Array = npt.NDArray[Any]
Feed = Mapping[str, Array]


@dataclass(frozen=True)
class Port:
    """An input or output: real = scale * (q - zero_point); scale 0: as it is."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0
    labels: tuple[str, ...] = ()

    def stored(self, x: Array) -> Array:
        """Real numbers as this input takes them."""
        if not self.scale:
            return np.ascontiguousarray(x, self.dtype)
        info = np.iinfo(self.dtype)
        steps = np.round(np.asarray(x, np.float64) / self.scale) + self.zero_point
        return np.ascontiguousarray(np.clip(steps, info.min, info.max), self.dtype)

    def real(self, x: Array) -> Array:
        if not self.scale:
            return x
        return ((x.astype(np.float64) - self.zero_point) * self.scale).astype(np.float32)


class Runner(Protocol):
    """`run` takes arrays in the order of `inputs` and returns those of `outputs`."""

    name: str
    kind: str
    inputs: list[Port]
    outputs: list[Port]

    def run(self, arrays: Sequence[Array]) -> list[Array]: ...


class Eqm:
    """An .eqm file, by edgeq."""

    kind = "edgeq"

    def __init__(self, source: str | bytes, name: str, threads: int) -> None:
        self.name = name
        self._session = load(source, threads=threads)

        def ports(tensors: Iterable[Any]) -> list[Port]:
            return [
                # its edge quantizes float32 itself
                Port(t.name, t.shape, "float32" if t.scale else str(t.dtype), labels=t.labels)
                for t in tensors
            ]

        self.inputs = ports(self._session.inputs)
        self.outputs = ports(self._session.outputs)

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        return self._session.run(*arrays, float_output=True)


class Onnx:
    """An .onnx file, by onnxruntime. Sizes that are open count as 1."""

    kind = "onnxruntime"

    def __init__(self, source: str | bytes, name: str, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise DependencyError(
                f"{name} needs onnxruntime: pip install edgeq[convert]"
            ) from error
        self.name = name
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                source, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime has exceptions of its own
            raise FormatError(f"{name}: onnxruntime cannot open it: {error}") from error
        self.inputs = [self._port(i) for i in self._session.get_inputs()]
        self.outputs = [self._port(o) for o in self._session.get_outputs()]

    def _port(self, value: Any) -> Port:
        names = {"float": "float32", "double": "float64", "float16": "float16"}
        word = value.type[len("tensor(") : -1]
        shape = tuple(d if isinstance(d, int) and d > 0 else 1 for d in value.shape)
        return Port(value.name, shape, names.get(word, word))

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        feed = {p.name: p.stored(a) for p, a in zip(self.inputs, arrays)}
        return cast("list[Array]", self._session.run(None, feed))


class TFLite:
    """A .tflite file, by LiteRT or tflite-runtime."""

    def __init__(self, source: str | bytes, name: str, threads: int) -> None:
        self.name = name
        interpreter, self.kind = _interpreter(name)
        given = {"model_content" if isinstance(source, bytes) else "model_path": source}
        try:
            self._interpreter = interpreter(**given, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise FormatError(f"{name}: {self.kind} cannot run it: {error}") from error
        inputs, outputs = (
            self._interpreter.get_input_details(),
            self._interpreter.get_output_details(),
        )
        self._in, self._out = [d["index"] for d in inputs], [d["index"] for d in outputs]
        self.inputs, self.outputs = [_port(d) for d in inputs], [_port(d) for d in outputs]

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        for index, port, array in zip(self._in, self.inputs, arrays):
            self._interpreter.set_tensor(index, port.stored(array))
        self._interpreter.invoke()
        return [p.real(self._interpreter.get_tensor(i)) for i, p in zip(self._out, self.outputs)]


def _interpreter(name: str) -> tuple[Any, str]:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError as error:
            raise DependencyError(
                f"{name} needs LiteRT: pip install ai-edge-litert (or edgeq[bench])"
            ) from error
        return Interpreter, "tflite-runtime"
    return Interpreter, "litert"


def _port(detail: Mapping[str, Any]) -> Port:
    scales = detail["quantization_parameters"]["scales"]
    zeros = detail["quantization_parameters"]["zero_points"]
    kind = np.dtype(detail["dtype"])
    shape = tuple(int(d) for d in detail["shape"])
    if len(scales) == 1 and kind.kind in "iu":
        return Port(detail["name"], shape, kind.name, float(scales[0]), int(zeros[0]))
    return Port(detail["name"], shape, kind.name)


def open_runner(source: str | os.PathLike[str] | bytes, threads: int = 1, name: str = "") -> Runner:
    """The file's own runtime; `name` stands for it where it is given as bytes.

    Raises FormatError, DependencyError, OSError.
    """
    if isinstance(source, bytes):
        head, where = source[:8], name or "the network"
        given: str | bytes = source
    else:
        where = given = os.fspath(source)
        with open(where, "rb") as file:
            head = file.read(8)
    if head == MAGIC:
        return Eqm(given, where, threads)
    if head[4:8] == b"TFL3":
        return TFLite(given, where, threads)
    if where.lower().endswith(".onnx"):
        return Onnx(given, where, threads)
    raise FormatError(f"{where}: not an .eqm, .tflite or .onnx file")


# ---- one network's ports beside another's

_PERMUTATIONS = {4: ((0, 2, 3, 1), (0, 3, 1, 2)), 3: ((0, 2, 1),)}


@dataclass(frozen=True)
class Match:
    """Of each port of a network the one of another, and how its axes become this one's."""

    index: int
    perm: tuple[int, ...] | None = None

    def take(self, arrays: Sequence[Array], port: Port) -> Array:
        a = arrays[self.index]
        a = a if self.perm is None else a.transpose(self.perm)
        return a.reshape(port.shape) if a.size == _size(port.shape) else a


def match_ports(wanted: Sequence[Port], given: Sequence[Port], what: str) -> list[Match]:
    """For each of `wanted` the port of `given`: by name, else by order, else by shape; with
    channels first or last, and with leading 1s or without. Raises ArgumentError."""
    names = [p.name for p in given]
    if len(set(names)) == len(names) and all(p.name in names for p in wanted):
        orders: Iterable[tuple[int, ...]] = [tuple(names.index(p.name) for p in wanted)]
    else:
        orders = itertools.islice(itertools.permutations(range(len(given)), len(wanted)), 5040)
    for order in orders:
        found = [_fit(p, given[i], i) for p, i in zip(wanted, order)]
        if all(m is not None for m in found):
            return [m for m in found if m is not None]
    raise ArgumentError(
        f"{what}: {_listed(given)} do not fit {_listed(wanted)}; names, or order and shapes, must"
    )


def _fit(wanted: Port, given: Port, index: int) -> Match | None:
    if _short(wanted.shape) == _short(given.shape):
        return Match(index)
    for perm in _PERMUTATIONS.get(len(given.shape), ()):
        if tuple(given.shape[i] for i in perm) == wanted.shape:
            return Match(index, perm)
    return None


def _short(shape: Sequence[int]) -> tuple[int, ...]:
    """Without leading 1s."""
    start = next((i for i, d in enumerate(shape) if d != 1), len(shape))
    return tuple(shape[start:])


def _size(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _listed(ports: Sequence[Port]) -> str:
    return ", ".join(f"{p.name!r} {p.dtype} {p.shape}" for p in ports) or "no ports"
