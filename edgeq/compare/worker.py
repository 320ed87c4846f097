# SPDX-License-Identifier: Apache-2.0
"""One runtime with one network, in a process of its own: ``python worker.py JOB``.

It needs nothing of edgeq but for the runtime of that name, so that another Python can run it. JOB
is JSON: runtime, model, onnx, threads, cpus, arithmetic. The first line on stdout says whether the
network runs: ``{"ok": true, "version", "load_ms", "file"}``, or ``{"ok": false, "missing",
"error"}``. Then each line on stdin, milliseconds, is answered by the times in nanoseconds of runs
that fill them: ``{"minimum", "median", "runs"}``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

Run = Callable[[], object]

WARMUP = 4


class Skipped(Exception):
    """This runtime cannot take part; the message says why."""


def random_array(shape: Sequence[Any], dtype: Any) -> Any:
    """The same numbers for every runtime; sizes that are open count as 1."""
    import numpy as np

    kind = np.dtype(dtype)
    sizes = [size if isinstance(size, int) and size > 0 else 1 for size in shape]
    rng = np.random.default_rng(0)
    if kind.kind == "f":
        return rng.uniform(-1, 1, sizes).astype(kind)
    return rng.integers(0, 2 if kind.kind == "b" else 100, sizes).astype(kind)


def tflite(job: dict[str, Any], runtime: str) -> str:
    """The .tflite file."""
    path = str(job["model"])
    with open(path, "rb") as file:
        if file.read(8)[4:] != b"TFL3":
            raise Skipped(f"{runtime} needs the .tflite file itself, not an .eqm")
    return path


def load_edgeq(job: dict[str, Any]) -> tuple[Run, str, str]:
    from edgeq.runtime._core import version
    from edgeq.runtime.model import load

    session = load(job["model"], threads=job["threads"], arithmetic=job["arithmetic"])
    inputs = [random_array(t.shape, t.dtype) for t in session.inputs]
    return lambda: session.run(*inputs), version(), str(job["model"])


def load_litert(job: dict[str, Any]) -> tuple[Run, str, str]:
    import ai_edge_litert
    from ai_edge_litert.interpreter import Interpreter

    path = tflite(job, "LiteRT")
    interpreter = Interpreter(model_path=path, num_threads=job["threads"])
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()
    inputs = [(d["index"], random_array(d["shape"].tolist(), d["dtype"])) for d in details]
    outputs = [d["index"] for d in interpreter.get_output_details()]

    def run() -> object:
        for index, array in inputs:
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return run, version_of("ai-edge-litert", ai_edge_litert), path


def load_onnxruntime(job: dict[str, Any]) -> tuple[Run, str, str]:
    import onnxruntime

    if not job["onnx"]:
        raise Skipped("onnxruntime reads ONNX only: give the same network by --onnx FILE")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = job["threads"], 1
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(job["onnx"], options, providers=providers)
    dtypes = {"float": "f4", "uint8": "u1", "int8": "i1", "int32": "i4", "int64": "i8", "bool": "?"}
    feed = {
        i.name: random_array(i.shape, dtypes[i.type[len("tensor(") : -1]])
        for i in session.get_inputs()
    }
    return lambda: session.run(None, feed), onnxruntime.__version__, str(job["onnx"])


def load_openvino(job: dict[str, Any]) -> tuple[Run, str, str]:
    import openvino

    path = job["onnx"] or tflite(job, "OpenVINO without --onnx")
    core = openvino.Core()
    network = core.read_model(path)
    network.reshape(
        {i: [d.get_length() if d.is_static else 1 for d in i.partial_shape] for i in network.inputs}
    )
    settings = {
        "INFERENCE_NUM_THREADS": job["threads"],
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(network, "CPU", settings)
    request = compiled.create_infer_request()
    for i in compiled.inputs:
        array = random_array(list(i.shape), i.element_type.to_dtype())
        request.set_tensor(i, openvino.Tensor(array))
    return request.infer, openvino.__version__.partition("-")[0], path


def version_of(package: str, module: Any) -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(module, "__version__", ""))


RUNTIMES: dict[str, Callable[[dict[str, Any]], tuple[Run, str, str]]] = {
    "edgeq": load_edgeq,
    "litert": load_litert,
    "onnxruntime": load_onnxruntime,
    "openvino": load_openvino,
}


def prepare(job: dict[str, Any]) -> tuple[Run | None, dict[str, Any]]:
    """The call to time, and the first line of the answer."""
    if job["cpus"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(job["cpus"]))
    begin = time.perf_counter()
    try:
        run, version, path = RUNTIMES[job["runtime"]](job)
        load_ms = (time.perf_counter() - begin) * 1e3
        for _ in range(WARMUP):
            run()
    except ImportError as error:
        return None, {"ok": False, "missing": True, "error": str(error)}
    except Exception as error:  # a peer may raise anything
        words = str(error) if isinstance(error, Skipped) else f"{type(error).__name__}: {error}"
        return None, {"ok": False, "missing": False, "error": words.strip()[:300]}
    return run, {"ok": True, "version": version, "load_ms": load_ms, "file": path}


def measure(run: Run, milliseconds: float) -> dict[str, int]:
    """Runs for so long, at least three times after one that does not count."""
    times: list[int] = []
    run()
    end = time.perf_counter_ns() + milliseconds * 1e6
    while len(times) < 3 or time.perf_counter_ns() < end:
        begin = time.perf_counter_ns()
        run()
        times.append(time.perf_counter_ns() - begin)
    times.sort()
    return {"minimum": times[0], "median": times[len(times) // 2], "runs": len(times)}


def main() -> None:
    """Answers on what was stdout; what the runtimes print there goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    run, first = prepare(json.loads(sys.argv[1]))
    answers.write(json.dumps(first) + "\n")
    if run is not None:
        for line in sys.stdin:
            answers.write(json.dumps(measure(run, float(line))) + "\n")


if __name__ == "__main__":
    main()
