# SPDX-License-Identifier: Apache-2.0
"""Times edgeq beside its peers: each runtime in a process of its own, all of them in turns.

Turns are short and the order rotates (A B C, B C A, ...), so that a machine whose speed drifts
slows all runtimes alike: the ratios are to be trusted more than the milliseconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from . import worker

PEERS = tuple(name for name in worker.RUNTIMES if name != "edgeq")
PACKAGES = {"litert": "ai-edge-litert", "onnxruntime": "onnxruntime", "openvino": "openvino"}


@dataclass
class Lane:
    """A runtime's results. Times are nanoseconds; `problem` says why there are none."""

    name: str
    version: str = ""
    file: str = ""
    load_ms: float = 0.0
    minima: list[int] = field(default_factory=list)  # of each round
    medians: list[int] = field(default_factory=list)
    problem: str = ""

    @property
    def minimum(self) -> int:
        """The best single run."""
        return min(self.minima)

    @property
    def median(self) -> int:
        """The median of the rounds' medians."""
        return int(statistics.median(self.medians))


@dataclass(frozen=True)
class Race:
    """What to time. `peer_python` runs the peers, `isa` caps edgeq's kernels alone."""

    model: str
    peers: Sequence[str]
    onnx: str = ""
    threads: int = 1
    rounds: int = 9
    milliseconds: float = 300.0  # of each runtime, over all rounds
    arithmetic: str | None = None
    isa: str = ""
    peer_python: str = sys.executable

    def run(self) -> list[Lane]:
        """edgeq, then the peers as they were given."""
        unknown = [name for name in self.peers if name not in PEERS]
        if unknown or not self.peers:
            given = f", not {', '.join(unknown)}" if unknown else ""
            raise ArgumentError(f"--against takes {', '.join(PEERS)}{given}")
        for path in filter(None, (self.model, self.onnx)):
            with open(path, "rb"):
                pass
        workers = [_Worker(self, name) for name in ("edgeq", *dict.fromkeys(self.peers))]
        try:
            for w in workers:
                w.wait()
            for k in range(self.rounds):
                turn = k % len(workers)
                for w in workers[turn:] + workers[:turn]:
                    w.turn(self.milliseconds / self.rounds)
        finally:
            for w in workers:
                w.close()
        return [w.lane for w in workers]


class _Worker:
    def __init__(self, race: Race, name: str) -> None:
        self.lane = Lane(name)
        job = {
            "runtime": name,
            "model": race.model,
            "onnx": race.onnx,
            "threads": race.threads,
            "arithmetic": race.arithmetic,
            "cpus": _cpus(race.threads),
        }
        environment = dict(os.environ, OMP_NUM_THREADS=str(race.threads))
        python = race.peer_python
        if name == "edgeq":
            python = sys.executable
            # the package that runs here, wherever it was imported from
            paths = [str(Path(__file__).resolve().parents[2]), environment.get("PYTHONPATH")]
            environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
            if race.isa:
                environment["EDGEQ_ISA"] = race.isa
        self.process = subprocess.Popen(
            [python, worker.__file__, json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )

    def wait(self) -> None:
        first = self._answer()
        if first is None:
            self.lane.problem = "its process ended while it loaded the network"
        elif first["ok"]:
            self.lane.version, self.lane.file = first["version"], first["file"]
            self.lane.load_ms = first["load_ms"]
        elif first["missing"] and self.lane.name in PACKAGES:
            self.lane.problem = (
                f"{PACKAGES[self.lane.name]} is not installed ({first['error']}): "
                'pip install "edgeq[bench]", or name a Python that has it by --peer-python'
            )
        else:
            self.lane.problem = first["error"]

    def turn(self, milliseconds: float) -> None:
        if self.lane.problem:
            return
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{milliseconds}\n")
            self.process.stdin.flush()
            answer = self._answer()
        except BrokenPipeError:
            answer = None
        if answer is None:
            self.lane.problem = "its process ended in a run"
            return
        self.lane.minima.append(answer["minimum"])
        self.lane.medians.append(answer["median"])

    def _answer(self) -> dict[str, Any] | None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        answer: dict[str, Any] | None = json.loads(line) if line else None
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def _cpus(threads: int) -> list[int]:
    """The cores that every runtime is tied to, the last of those that we have; []: not here."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    return sorted(os.sched_getaffinity(0))[-threads:]


def fastest_peer(lanes: Sequence[Lane]) -> Lane | None:
    """By its best single run."""
    timed = [lane for lane in lanes if lane.minima and lane.name != "edgeq"]
    return min(timed, key=lambda lane: lane.minimum, default=None)
