# SPDX-License-Identifier: Apache-2.0
"""edgeq bench: the roofline, and the race against other runtimes.

EDGEQ_PEER_PYTHON names a Python with the packages of the extra `bench`; without it the peers are
those of this Python.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from programs import DIGITS

import edgeq
from edgeq.cli import main
from edgeq.compare import worker
from edgeq.compare.chart import page
from edgeq.compare.race import PEERS, Lane, Race, fastest_peer
from edgeq.errors import ArgumentError
from edgeq.runtime import _core

pytest.importorskip("tflite")

ONNX = DIGITS.with_suffix(".onnx")
PYTHON = os.environ.get("EDGEQ_PEER_PYTHON", sys.executable)
MODULES = {"litert": "ai_edge_litert", "onnxruntime": "onnxruntime", "openvino": "openvino"}


def installed(peer: str) -> bool:
    """Whether the peers' Python has it."""
    if sys.executable == PYTHON:
        return importlib.util.find_spec(MODULES[peer]) is not None
    code = f"import importlib.util as u, sys; sys.exit(u.find_spec({MODULES[peer]!r}) is None)"
    return subprocess.run([PYTHON, "-c", code]).returncode == 0


def bench(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    """The output of edgeq bench on the digits, which must succeed; parsed if --json is there."""
    arguments = ["bench", str(DIGITS), "--seconds", "0.05", *map(str, words)]
    code = main(arguments)
    shown = capsys.readouterr()
    assert code == 0, shown.err
    return json.loads(shown.out) if "--json" in arguments else shown.out


# ---- the peak


def test_peak_counts() -> None:
    isas = _core.isas()
    assert _core.peak(0, 100) == 0  # no peak of scalar code is known
    assert _core.peak(len(isas), 100) == 0
    for index, (name, missing) in enumerate(isas):
        one = _core.peak(index, 1)
        assert _core.peak(index, 1000) == 1000 * one
        assert one == 0 or not missing
        if not missing and name in ("avx2", "avxvnni", "avx512vnni"):
            assert one >= 12 * 16


def test_roofline(capsys: pytest.CaptureFixture[str]) -> None:
    found = bench(capsys, "--ops", "--json")
    shown = bench(capsys, "--ops")
    session = edgeq.load(DIGITS)
    assert [op["type"] for op in found["ops"]] == [op.type for op in session.model.ops]
    dense = next(op for op in found["ops"] if op["type"] == "FULLY_CONNECTED")
    assert dense["bytes_moved"] > dense["macs"]  # each weight is read for one product
    assert dense["macs_per_byte"] == dense["macs"] / dense["bytes_moved"]
    for op in found["ops"]:
        assert op["macs_per_second"] == op["macs"] / op["minimum_ns"] * 1e9
        assert (op["peak_share"] is not None) == bool(op["macs"] and op["kernel"] in found["peaks"])
        if op["peak_share"] is not None:
            assert op["peak_share"] == op["macs_per_second"] / found["peaks"][op["kernel"]]
            assert 0 < op["peak_share"] < 1.5
    assert "peak of a core in registers" in shown
    for isa in found["peaks"]:
        assert f"{isa} " in shown


def test_cap(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEQ_ISA", "")
    found = bench(capsys, "--isa", "scalar", "--threads", "2", "--json")
    assert found["isa"] == "scalar"
    assert os.environ["EDGEQ_ISA"] == ""
    assert main(["bench", str(DIGITS), "--isa", "mmx"]) == 1
    assert "EDGEQ_ISA is 'mmx'; this build has scalar" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--against tensorrt", "--against takes litert, onnxruntime, openvino, not tensorrt"),
        ("--against ,", "--against takes litert, onnxruntime, openvino"),
        ("--against litert --rounds 0", "--rounds must be larger than 0"),
        ("--threads -1", "threads must be an int from 1 to 64, or 0 for all cores, not -1"),
        ("--against litert --affinity 0", "--affinity does not go with --against"),
        ("--onnx a.onnx", "--onnx goes with --against"),
        ("--peer-python /bin/python", "--peer-python goes with --against"),
        ("--against onnxruntime --onnx /no/such.onnx", "/no/such.onnx: No such file"),
        ("--against litert --isa mmx", "EDGEQ_ISA is 'mmx'; this build has scalar"),
    ],
)
def test_refusals(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(DIGITS), "--seconds", "0.05", *words.split()]) == 1
    assert message in capsys.readouterr().err


# ---- the race


@pytest.mark.parametrize("peer", PEERS)
def test_against(peer: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A peer is timed, or left out with how to get it; edgeq is timed in any case."""
    chart = tmp_path / "chart.html"
    words = ["--against", peer, "--onnx", ONNX, "--rounds", 3, "--peer-python", PYTHON]
    found = bench(capsys, *words, "--chart", chart, "--json")
    names = [lane["name"] for lane in found["runtimes"]]
    if installed(peer):
        assert names == ["edgeq", peer]
        assert found["fastest_peer"] == peer
        own, other = found["runtimes"]
        assert other["ratio"] == 1
        assert own["ratio"] == own["minimum_ns"] / other["minimum_ns"]
        assert other["version"]
    else:
        assert names == ["edgeq"]
        (left_out,) = found["left_out"]
        assert 'pip install "edgeq[bench]"' in left_out["reason"]
        assert left_out["name"] == peer
    for lane in found["runtimes"]:
        assert len(lane["round_minima_ns"]) == len(lane["round_medians_ns"]) == 3
        assert 0 < lane["minimum_ns"] <= lane["median_ns"]
    assert "edgeq" in chart.read_text()
    assert f"{peer} " in bench(capsys, *words)


@pytest.mark.skipif(not installed("onnxruntime"), reason="onnxruntime is not there")
def test_onnxruntime_needs_onnx() -> None:
    lanes = Race(str(DIGITS), ["onnxruntime"], milliseconds=10, peer_python=PYTHON).run()
    assert "give the same network by --onnx FILE" in lanes[1].problem


@pytest.mark.skipif(not installed("litert"), reason="LiteRT is not there")
def test_litert_needs_tflite(tmp_path: Path) -> None:
    edgeq.convert(DIGITS, tmp_path / "digits.eqm")
    race = Race(str(tmp_path / "digits.eqm"), ["litert"], milliseconds=10, peer_python=PYTHON)
    assert race.run()[1].problem == "LiteRT needs the .tflite file itself, not an .eqm"


def test_a_process_that_ends(tmp_path: Path) -> None:
    """A Python that cannot start a peer is a reason to leave it out, not to fail."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    lanes = Race(str(DIGITS), ["litert"], milliseconds=10, rounds=2, peer_python=str(broken)).run()
    assert lanes[0].minima
    assert lanes[1].problem == "its process ended while it loaded the network"
    with pytest.raises(ArgumentError, match="takes litert"):
        Race(str(DIGITS), []).run()


def test_the_worker_by_itself() -> None:
    """What a peer's Python is asked to do: a script, a job, lines of milliseconds."""
    job = {"runtime": "edgeq", "model": str(DIGITS), "onnx": "", "threads": 1, "cpus": []}
    done = subprocess.run(
        [sys.executable, worker.__file__, json.dumps({**job, "arithmetic": "native"})],
        input="5\n1\n",
        capture_output=True,
        text=True,
    )
    first, *rest = map(json.loads, done.stdout.splitlines())
    assert (first["ok"], first["version"]) == (True, edgeq.__version__)
    assert len(rest) == 2
    assert all(line["runs"] >= 3 and line["minimum"] <= line["median"] for line in rest)


# ---- the report


def lane(name: str, *times: int, problem: str = "") -> Lane:
    return Lane(name, "1.0", minima=list(times), medians=[2 * t for t in times], problem=problem)


def test_fastest_peer() -> None:
    lanes = [lane("edgeq", 10), lane("a", 30, 25, 28), lane("b", 27), lane("c", problem="gone")]
    best = fastest_peer(lanes)
    assert best is lanes[1]
    assert (best.minimum, best.median) == (25, 56)
    assert fastest_peer(lanes[:1]) is None


def test_chart() -> None:
    """One bar each, as long as the best run, fastest first; nothing is fetched."""
    lanes = [lane("edgeq", 2_000_000), lane("<b>", 1_000_000), lane("c", problem="not & here")]
    text = page("a & b", "1 thread", lanes)
    assert not re.search(r"(src|href)=|https?:|<script", text)
    drawing = ET.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    bars = [(r.get("class"), float(r.get("width") or 0)) for r in drawing.iter("rect")]
    assert [kind for kind, _ in bars] == ["peer", "own"]
    assert bars[1][1] == pytest.approx(2 * bars[0][1], abs=0.1)
    shown = "".join(drawing.itertext())
    assert "1 ms 1.00 x" in shown
    assert "2 ms 2.00 x" in shown
    assert "c: not &amp; here" in text
    assert "<h1>a &amp; b</h1>" in text
