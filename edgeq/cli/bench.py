# SPDX-License-Identifier: Apache-2.0
"""Measure latency, of the whole network and of each operator.

The inputs are random. The latency is that of Session.run: copies in and out and the call from
Python included. Operators are timed in further runs, with the clock read around each.

examples:
  edgeq bench model.eqm
  edgeq bench model.tflite --seconds 10 --json
  edgeq bench model.eqm --runs 1000
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from ..errors import ArgumentError
from ..format.reader import read_program
from ..runtime.model import load
from ..runtime.session import OpProfile, Session
from . import text
from .network import add_model, op_macs, read_eqm


def add(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)
    parser.add_argument("--runs", type=int, metavar="N", help="[as many as fit into --seconds]")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="[3]")
    text.add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Measures and reports."""
    if options.seconds <= 0 or (options.runs is not None and options.runs < 1):
        raise ArgumentError("--seconds and --runs must be larger than 0")
    data = read_eqm(options.model, options.arithmetic)
    session = load(data, arithmetic=options.arithmetic)
    times = measure(session, options.seconds * 0.7, options.runs)
    timed_runs = options.runs or max(3, round(0.3 * options.seconds * 1e9 / times[len(times) // 2]))
    ops = session.profile(runs=min(timed_runs, 1000))
    macs = op_macs(read_program(data))
    if options.json:
        text.print_json(_json(session, times, ops, macs))
    else:
        print(_report(session, times, ops, macs))
    return 0


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


def _report(session: Session, times: list[int], ops: list[OpProfile], macs: list[int]) -> str:
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
    headers = ("op", "type", "name", "kernel", "median", "share", "MAC", "MAC/s")
    median = statistics.median(times)
    lines = [
        f"{len(times)} runs: minimum {text.duration(times[0])}, median {text.duration(median)}, "
        f"90 % below {text.duration(times[len(times) * 9 // 10])}",
        f"{text.short(sum(macs))} MAC, {text.short(sum(macs) / times[0] * 1e9)} MAC/s at the "
        f"minimum; {text.count(session.memory_bytes)} bytes of RAM; {session.model.isa} kernels",
        "",
        text.table(rows, headers),
    ]
    return "\n".join(lines)
