# SPDX-License-Identifier: Apache-2.0
"""Measure latency, of the whole network and of each operator, alone or beside other runtimes.

The inputs are random. The latency is that of Session.run: copies in and out and the call from
Python included. Operators are timed in further runs, with the clock read around each.

--ops sets each operator against this machine: its multiply-accumulates a second as a share of what
its instruction set does in registers (measured when the command starts), and the bytes that it
reads and writes.

--against runs edgeq and its peers in processes of their own, in turns, on the same inputs:
  litert       reads the .tflite
  onnxruntime  reads ONNX alone: --onnx FILE is the same network in that form
  openvino     reads the file of --onnx, without it the .tflite
They come with pip install "edgeq[bench]", or from another Python by --peer-python. Trust the ratios
more than the milliseconds.

examples:
  edgeq bench model.eqm
  edgeq bench model.tflite --seconds 10 --json
  edgeq bench model.eqm --runs 1000
  edgeq bench model.eqm --threads 2 --affinity 0,1
  edgeq bench model.eqm --ops
  edgeq bench model.tflite --against litert,onnxruntime,openvino --onnx model.onnx --chart out.html
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from ..errors import ArgumentError
from ..format.reader import read_program
from ..runtime.session import OpProfile, Session
from ..runtime.threads import thread_count
from . import against, roofline, text, threads
from .network import add_model, op_macs, read_eqm


def add(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)
    parser.add_argument("--runs", type=int, metavar="N", help="[as many as fit into --seconds]")
    parser.add_argument(
        "--seconds", type=float, default=3.0, metavar="S", help="for each runtime [3]"
    )
    threads.add(parser)
    parser.add_argument(
        "--isa", default="", metavar="NAME", help="cap on edgeq's kernels [the best]"
    )
    parser.add_argument(
        "--ops", action="store_true", help="set operators against the machine's peak"
    )
    peers = parser.add_argument_group("beside other runtimes")
    peers.add_argument(
        "--against", metavar="PEER[,PEER]", help="litert, onnxruntime, openvino; the model: .tflite"
    )
    peers.add_argument("--onnx", default="", metavar="FILE", help="the same network as ONNX")
    peers.add_argument("--rounds", type=int, default=9, metavar="N", help="turns of each [9]")
    peers.add_argument(
        "--peer-python", default="", metavar="PATH", help="runs the peers [this one]"
    )
    peers.add_argument("--chart", metavar="FILE", help="bars, as an HTML file")
    text.add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Measures and reports."""
    if options.seconds <= 0 or (options.runs is not None and options.runs < 1):
        raise ArgumentError("--seconds and --runs must be larger than 0")
    if options.rounds < 1:
        raise ArgumentError("--rounds must be larger than 0")
    if options.against is not None and options.affinity is not None:
        raise ArgumentError("--affinity does not go with --against")
    options.threads = thread_count(options.threads)
    if options.against is not None:
        return against.run(options)
    given = [n for n in ("onnx", "chart", "peer_python") if getattr(options, n)]
    if given:
        raise ArgumentError(f"--{given[0].replace('_', '-')} goes with --against")
    with _capped(options.isa):
        _measure_and_report(options)
    return 0


@contextlib.contextmanager
def _capped(isa: str) -> Iterator[None]:
    """EDGEQ_ISA for what is opened inside."""
    before = os.environ.get("EDGEQ_ISA")
    if isa:
        os.environ["EDGEQ_ISA"] = isa
    try:
        yield
    finally:
        if isa and before is None:
            del os.environ["EDGEQ_ISA"]
        elif isa:
            os.environ["EDGEQ_ISA"] = str(before)


def _measure_and_report(options: argparse.Namespace) -> None:
    data = read_eqm(options.model, options.arithmetic)
    session = threads.session(options, data)
    image = read_program(data)
    peaks = roofline.peaks(session.model) if options.ops else {}
    times = measure(session, options.seconds * 0.7, options.runs)
    timed_runs = options.runs or max(3, round(0.3 * options.seconds * 1e9 / times[len(times) // 2]))
    ops = session.profile(runs=min(timed_runs, 1000))
    macs = op_macs(image)
    found = roofline.rows(image, ops, peaks, options.threads) if options.ops else []
    if options.json:
        report = _json(session, times, ops, macs)
        if found:
            report["peaks"] = peaks
            for op, row in zip(report["ops"], found):
                op.update(asdict(row))
        text.print_json(report)
        return
    print(_summary(session, times, macs))
    print()
    print(roofline.table(image, ops, found, peaks) if found else _op_table(ops, macs))


def measure(session: Session, seconds: float, runs: int | None) -> list[int]:
    """Nanoseconds of each run, sorted: `runs` of them, or what fits into `seconds`, at least 5."""
    inputs = session.random_inputs()
    for _ in range(3):
        session.run(*inputs)
    times: list[int] = []
    end = time.perf_counter() + seconds
    while len(times) < runs if runs else len(times) < 5 or time.perf_counter() < end:
        begin = time.perf_counter_ns()
        session.run(*inputs)
        times.append(time.perf_counter_ns() - begin)
    return sorted(times)


def _json(
    session: Session, times: list[int], ops: list[OpProfile], macs: list[int]
) -> dict[str, Any]:
    return {
        "isa": session.model.isa,
        "threads": session.threads,
        "runs": len(times),
        "minimum_ns": times[0],
        "median_ns": int(statistics.median(times)),
        "p90_ns": times[len(times) * 9 // 10],
        "macs": sum(macs),
        "memory_bytes": session.memory_bytes,
        "ops": [
            {
                "name": op.name,
                "type": op.type,
                "kernel": op.kernel,
                "macs": m,
                "minimum_ns": op.minimum,
                "median_ns": op.median,
            }
            for op, m in zip(ops, macs)
        ],
    }


def _summary(session: Session, times: list[int], macs: list[int]) -> str:
    return (
        f"{len(times)} runs: minimum {text.duration(times[0])}, "
        f"median {text.duration(statistics.median(times))}, "
        f"90 % below {text.duration(times[len(times) * 9 // 10])}\n"
        f"{text.short(sum(macs))} MAC, {text.short(sum(macs) / times[0] * 1e9)} MAC/s at the "
        f"minimum; {text.count(session.memory_bytes)} bytes of RAM; {session.model.isa} kernels, "
        f"{session.threads} thread{'s' if session.threads > 1 else ''}"
    )


def _op_table(ops: list[OpProfile], macs: list[int]) -> str:
    total = sum(op.median for op in ops) or 1
    rows = [
        (
            op.index,
            op.type,
            op.name,
            op.kernel,
            text.duration(op.median),
            f"{op.median / total:.1%}",
            text.short(m) if m else "",
            text.short(m / op.median * 1e9) if m and op.median else "",
        )
        for op, m in zip(ops, macs)
    ]
    return text.table(rows, ("op", "type", "name", "kernel", "median", "share", "MAC", "MAC/s"))
