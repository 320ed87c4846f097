#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Size, RAM and speed of converted networks beside TFLite's reference kernels.

    python tools/zoo_report.py models/*.tflite
    python tools/zoo_report.py --rounds 7 --ms 200 net.tflite

Per network: bytes of the source's constants that its ops read, and of the weights' scales where
there is one per channel; bytes of the .eqm file, and whether it keeps to 1.03 x both + 16 KiB; RAM
of a session, all of it and its activations; time to open the file; the best run of edgeq against
the best of tflite-runtime's BUILTIN_REF. Both run in turn for --ms milliseconds in every round,
inputs given and outputs taken, in one process, one thread each: trust the ratio, not the times.
Exit code 1 if a file is larger than that, or a network gives other bytes or is slower than the
reference.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tflite

import edgeq


def reference(model: bytes) -> Any:
    """An interpreter with the reference kernels."""
    for name in ("tflite_runtime.interpreter", "ai_edge_litert.interpreter"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        interpreter = module.Interpreter(
            model_content=model,
            num_threads=1,
            experimental_op_resolver_type=module.OpResolverType.BUILTIN_REF,
        )
        interpreter.allocate_tensors()
        return interpreter
    sys.exit("this needs tflite-runtime or ai-edge-litert")


def weight_bytes(model: bytes) -> tuple[int, int]:
    """Bytes of the constants that the first subgraph's operators read, and of their scales.

    Each buffer counts once, and a scale 4 bytes where a constant has one per channel.
    """
    net = tflite.Model.GetRootAsModel(model, 0)
    graph = net.Subgraphs(0)
    buffers, scales = set(), {}
    for i in range(graph.OperatorsLength()):
        op = graph.Operators(i)
        for k in range(op.InputsLength()):
            if op.Inputs(k) < 0:
                continue
            tensor = graph.Tensors(op.Inputs(k))
            buffers.add(tensor.Buffer())
            quantization = tensor.Quantization()
            if net.Buffers(tensor.Buffer()).DataLength() and quantization is not None:
                is_bias = tensor.Type() == tflite.TensorType.INT32
                scales[op.Inputs(k)] = 0 if is_bias else quantization.ScaleLength()
    constants = sum(net.Buffers(b).DataLength() for b in buffers)
    return constants, 4 * sum(n for n in scales.values() if n > 1)


def best(call: Callable[[], Any], ms: float) -> float:
    """Seconds of the fastest of the calls that fit into `ms`, at least one."""
    fastest, end = float("inf"), time.perf_counter() + ms / 1e3
    while True:
        start = time.perf_counter()
        call()
        now = time.perf_counter()
        fastest = min(fastest, now - start)
        if now > end:
            return fastest


def open_ms(path: Path) -> float:
    """Milliseconds to open the file and make a session, best of 20."""
    return best(lambda: edgeq.load(path), 50) * 1e3


def report(path: Path, rounds: int, ms: float) -> tuple[str, bool]:
    """A row of the table, and whether all is as it should be."""
    model = path.read_bytes()
    converted = edgeq.convert(model)
    session = edgeq.load(converted)
    peer = reference(model)
    inputs = session.random_inputs()
    peer_inputs = [d["index"] for d in peer.get_input_details()]
    peer_outputs = [d["index"] for d in peer.get_output_details()]

    def run_peer() -> list[Any]:
        for index, x in zip(peer_inputs, inputs):
            peer.set_tensor(index, x)
        peer.invoke()
        return [peer.get_tensor(index) for index in peer_outputs]

    expected = run_peer()
    same = all(np.array_equal(a, b) for a, b in zip(session.run(*inputs), expected))

    times = [float("inf")] * 2
    for _ in range(rounds):
        times[0] = min(times[0], best(lambda: session.run(*inputs), ms))
        times[1] = min(times[1], best(run_peer, ms))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.eqm"
        file.write_bytes(converted.data)
        opening = open_ms(file)

    (constants, scales), size = weight_bytes(model), len(converted.data)
    fits = size <= 1.03 * (constants + scales) + 16384
    row = (
        f"{path.parent.name + '/' + path.stem:44.44s} {constants:9d} {scales:7d} {size:9d} "
        f"{'ok' if fits else 'LARGE':5s} {session.memory_bytes:9d} {session.arena_bytes:9d} "
        f"{opening:7.3f} {times[0] * 1e3:9.4f} {times[1] * 1e3:9.3f} {times[1] / times[0]:7.2f} "
        f"{'same' if same else 'OTHER'}"
    )
    return row, fits and same and times[0] <= times[1]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.tflite")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ms", type=float, default=100)
    args = parser.parse_args()
    print(
        f"{'network':44s} {'constants':>9s} {'scales':>7s} {'.eqm':>9s} {'':5s} {'RAM':>9s} "
        f"{'arena':>9s} "
        f"{'open ms':>7s} {'edgeq ms':>9s} {'ref ms':>9s} {'ref/eq':>7s} bytes"
    )
    good = True
    for path in args.models:
        try:
            row, fine = report(path, args.rounds, args.ms)
        except edgeq.EdgeqError as error:
            row, fine = f"{path}: {error}", False
        print(row, flush=True)
        good &= fine
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
