# SPDX-License-Identifier: Apache-2.0
"""edgeq bench --against: options, table, JSON and chart of a race."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..compare.chart import page
from ..compare.race import Lane, Race, fastest_peer
from ..errors import EdgeqError
from ..format.reader import read_program
from . import doctor, text
from .network import op_macs, read_eqm


def run(options: argparse.Namespace) -> int:
    """Races and reports; raises EdgeqError if edgeq itself cannot run the network."""
    data = read_eqm(options.model, options.arithmetic)
    race = Race(
        model=options.model,
        peers=[name.strip() for name in options.against.split(",") if name.strip()],
        onnx=options.onnx,
        threads=options.threads,
        rounds=options.rounds,
        milliseconds=options.seconds * 1e3,
        arithmetic=options.arithmetic,
        isa=options.isa,
        peer_python=options.peer_python or sys.executable,
    )
    lanes = race.run()
    if lanes[0].problem:
        raise EdgeqError(lanes[0].problem)
    macs = sum(op_macs(read_program(data)))
    where = f"{doctor.cpu_name()}, {_threads(options.threads)}, {_kernels(options)}"
    if options.chart:
        title = f"{os.path.basename(options.model)}: latency of one run"
        Path(options.chart).write_text(page(title, where, lanes), encoding="utf-8")
    if options.json:
        text.print_json(_json(options, lanes, macs, where))
        return 0
    print(f"{options.model}: {where}\n")
    print(_table(lanes, macs))
    for lane in lanes:
        if lane.problem:
            print(f"\n{lane.name} left out: {lane.problem}")
    if options.isa:
        print("\n--isa caps edgeq's kernels; the peers choose theirs themselves")
    if options.chart:
        print(f"\nchart: {options.chart}")
    return 0


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _kernels(options: argparse.Namespace) -> str:
    return f"edgeq's kernels at most {options.isa}" if options.isa else "all kernels"


def _table(lanes: Sequence[Lane], macs: int) -> str:
    peer = fastest_peer(lanes)
    timed = sorted((lane for lane in lanes if lane.minima), key=lambda lane: lane.minimum)
    rows = [
        (
            lane.name,
            lane.version,
            text.duration(lane.minimum),
            text.duration(lane.median),
            f"{lane.minimum / peer.minimum:.2f}" if peer else "",
            text.short(macs / lane.minimum * 1e9),
            text.duration(lane.load_ms * 1e6),
            os.path.basename(lane.file),
        )
        for lane in timed
    ]
    headers = ("runtime", "version", "best", "median", "ratio", "MAC/s", "load", "file")
    lines = [text.table(rows, headers)]
    if peer is not None:
        lines.append(
            f"\nratio: best run against {peer.name}'s, the fastest peer; below 1 is faster"
        )
    return "\n".join(lines)


def _json(options: argparse.Namespace, lanes: Sequence[Lane], macs: int, where: str) -> Any:
    peer = fastest_peer(lanes)
    return {
        "model": options.model,
        "machine": where,
        "threads": options.threads,
        "isa": options.isa,
        "arithmetic": options.arithmetic or "exact",
        "macs": macs,
        "fastest_peer": peer.name if peer else "",
        "runtimes": [
            {
                "name": lane.name,
                "version": lane.version,
                "file": lane.file,
                "load_ms": lane.load_ms,
                "minimum_ns": lane.minimum,
                "median_ns": lane.median,
                "round_minima_ns": lane.minima,
                "round_medians_ns": lane.medians,
                "ratio": lane.minimum / peer.minimum if peer else None,
            }
            for lane in lanes
            if lane.minima
        ],
        "left_out": [{"name": lane.name, "reason": lane.problem} for lane in lanes if lane.problem],
    }
