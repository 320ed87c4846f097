# SPDX-License-Identifier: Apache-2.0
"""Sessions of several threads in Python: the bytes of one thread, forks, user threads, ends."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tflite")

from net import Net
from programs import DIGITS
from zoo import zoo_folder

import edgeq
from edgeq.cli import main
from edgeq.cli.threads import cpu_numbers

COUNTS = (1, 2, 3, 8)
ZOO = (
    "mlperf-tiny/vww_96_int8.tflite",
    "mlperf-tiny/pretrainedResnet_quant.tflite",
    "coral/tf2_mobilenet_v2_1.0_224_ptq.tflite",
    "coral/mobilenet_v1_0.25_128_quant.tflite",
)

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def windows(net: Net) -> None:
    """Convolutions of all kinds that are split by pixels and by rows."""
    x = net.input((1, 48, 40, 8))
    y = net.conv(x, 70, k=3)
    y = net.depthwise(y, stride=2)
    y = net.conv(y, 64)
    net.output(net.add(y, net.conv(y, 64, k=3)))


def channels(net: Net) -> None:
    """Layers with few pixels, which are split by channels."""
    y = net.conv(net.input((1, 4, 5, 200)), 330)
    net.output(net.dense(y, 1000))


def batch(net: Net) -> None:
    y = net.depthwise(net.conv(net.input((3, 20, 20, 16)), 96), k=5)
    net.output(net.conv(y, 40, k=2, stride=2, padding="VALID"))


def maps(net: Net) -> None:
    """Ops without weights: elementwise, tables, pools, resizing."""
    x = net.input((2, 40, 44, 24))
    y = net.binary("MUL", net.add(x, net.logistic(x)), x)
    y = net.max_pool(net.upsample(y), k=3, stride=1)
    net.output(net.max_pool(y, k=2, stride=2))


def built(make: Callable[[Net], None]) -> edgeq.Model:
    net = Net(np.random.default_rng(5))
    make(net)
    return edgeq.Model(edgeq.convert(net.b.finish()).data)


@pytest.fixture(scope="module")
def big() -> edgeq.Model:
    """A network whose layers are worth a split on any machine."""
    return built(windows)


def task_count() -> int:
    return len(os.listdir("/proc/self/task"))


def bytes_of(session: edgeq.Session, seed: int = 0) -> list[bytes]:
    return [a.tobytes() for a in session.run(*session.random_inputs(seed))]


# ---- the same bytes


@pytest.mark.parametrize("isa", ["scalar", None])
@pytest.mark.parametrize("make", [windows, channels, batch, maps])
def test_same_bytes(
    make: Callable[[Net], None], isa: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if isa is not None:
        monkeypatch.setenv("EDGEQ_ISA", isa)
    same_bytes(built(make))


@pytest.mark.parametrize("file", ZOO)
def test_same_bytes_in_the_zoo(file: str) -> None:
    path = zoo_folder() / "models" / file
    if not path.is_file():
        pytest.skip(f"no {path}")
    same_bytes(edgeq.Model(edgeq.convert(path).data))


def same_bytes(model: edgeq.Model) -> None:
    sessions = [edgeq.Session(model, threads) for threads in COUNTS]
    assert [s.threads for s in sessions] == list(COUNTS)
    for seed in range(3):
        want = bytes_of(sessions[0], seed)
        for session in sessions[1:]:
            for _ in range(5):
                assert bytes_of(session, seed) == want
    assert all(session.verify() == 3 for session in sessions)


@linux
def test_threads_start_when_needed_and_end(big: edgeq.Model) -> None:
    before = task_count()
    session = edgeq.Session(big, threads=4)
    assert task_count() == before
    bytes_of(session)
    assert task_count() == before + 3
    bytes_of(session)
    assert task_count() == before + 3
    del session
    gc.collect()
    assert task_count() == before
    small = edgeq.load(edgeq.convert(DIGITS), threads=1)
    bytes_of(small)
    assert task_count() == before


def test_memory_of_threads(big: edgeq.Model) -> None:
    one, three = edgeq.Session(big), edgeq.Session(big, threads=3)
    assert one.memory_bytes == big.memory[0]
    assert three.arena_bytes == one.arena_bytes
    assert one.scratch_bytes < three.scratch_bytes <= 3 * one.scratch_bytes
    assert one.memory_bytes < three.memory_bytes


# ---- how many, and where


@pytest.mark.parametrize("threads", [-1, 1.0, True, "2", 65, 256, 1 << 70])
def test_refused_counts(threads: object) -> None:
    with pytest.raises(edgeq.ArgumentError, match="threads must be an int from 1 to 64, or 0"):
        edgeq.load(DIGITS, threads=threads)  # type: ignore[arg-type]


def test_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    data = edgeq.convert(DIGITS)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    monkeypatch.delenv("EDGEQ_THREADS", raising=False)
    assert edgeq.load(data).threads == 1
    assert edgeq.load(data, threads=0).threads == cores
    assert edgeq.load(data, threads=64).threads == 64
    monkeypatch.setenv("EDGEQ_THREADS", " 3 ")
    assert edgeq.load(data).threads == 3
    assert edgeq.load(data, threads=2).threads == 2
    monkeypatch.setenv("EDGEQ_THREADS", "0")
    assert edgeq.load(data).threads == cores
    monkeypatch.setenv("EDGEQ_THREADS", "")
    assert edgeq.load(data).threads == 1
    for wrong in ("many", "-1", "2.0", "65", "\u0663"):
        monkeypatch.setenv("EDGEQ_THREADS", wrong)
        with pytest.raises(edgeq.ArgumentError, match="EDGEQ_THREADS must be a number from 0 to"):
            edgeq.load(data)
    assert edgeq.load(data, threads=2).threads == 2


@linux
def test_affinity(big: edgeq.Model) -> None:
    mine = os.sched_getaffinity(0)
    cpu = min(mine)
    before = set(os.listdir("/proc/self/task"))
    session = edgeq.Session(big, threads=3, affinity=[cpu])
    want = bytes_of(edgeq.Session(big))
    assert bytes_of(session) == want
    new = set(os.listdir("/proc/self/task")) - before
    assert len(new) == 2
    end = time.monotonic() + 10
    while any(os.sched_getaffinity(int(task)) != {cpu} for task in new):
        assert time.monotonic() < end
        time.sleep(0.001)
    assert os.sched_getaffinity(0) == mine
    for wrong in (["0"], [-1], [True], "0", 0, [1 << 40]):
        with pytest.raises(edgeq.ArgumentError, match="affinity must be a list of CPU numbers"):
            edgeq.load(DIGITS, threads=2, affinity=wrong)  # type: ignore[arg-type]
    with pytest.raises(edgeq.ArgumentError, match="no CPU 60000, there are"):
        edgeq.load(DIGITS, threads=2, affinity=[60000])


# ---- forks, user threads, ends


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_fork(big: edgeq.Model) -> None:
    session = edgeq.Session(big, threads=3)
    want = bytes_of(session)
    for _ in range(3):
        child = os.fork()
        if child == 0:
            try:
                good = bytes_of(session) == want == bytes_of(edgeq.Session(big, threads=2))
            except BaseException:
                good = False
            del session
            os._exit(0 if good else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert bytes_of(session) == want


def test_user_threads(big: edgeq.Model) -> None:
    want = [bytes_of(edgeq.Session(big), seed) for seed in range(10)]
    results: list[list[list[bytes]]] = [[] for _ in range(4)]

    def work(mine: list[list[bytes]]) -> None:
        session = edgeq.Session(big, threads=2)
        mine += [bytes_of(session, seed) for seed in range(10)]

    users = [threading.Thread(target=work, args=(mine,)) for mine in results]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert results == [want] * 4


SCRIPT = """
import sys, threading, time
import edgeq
session = edgeq.load(sys.argv[1], threads=4)
x = session.random_inputs()
session.run(*x)
def forever(session=session):
    while True:
        session.run(*x)
def start():
    threading.Thread(target=forever, daemon=True).start()
    time.sleep(0.05)
"""


@pytest.mark.parametrize(
    "end",
    ["", "del session", "sys.exit(0)", "start()", "keep = [session]; keep.append(keep)"],
)
def test_the_interpreter_ends(end: str, big: edgeq.Model, tmp_path: Path) -> None:
    """With live sessions, one of them running: no crash, no hanging."""
    file = network_file(tmp_path)
    command = [sys.executable, "-c", SCRIPT + end, str(file)]
    subprocess.run(command, check=True, timeout=60, cwd=tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="no signals")
def test_interrupt(tmp_path: Path) -> None:
    """Ctrl-C comes through as in any program: the threads take no signals."""
    script = SCRIPT + "print('running', flush=True)\nforever()"
    command = [sys.executable, "-c", script, str(network_file(tmp_path))]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert process.returncode in (1, 130, -signal.SIGINT)


def network_file(folder: Path) -> Path:
    net = Net(np.random.default_rng(5))
    windows(net)
    edgeq.convert(net.b.finish(), out=folder / "big.eqm")
    return folder / "big.eqm"


# ---- the command line


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = network_file(tmp_path)
    np.save(tmp_path / "x.npy", edgeq.load(file).random_inputs()[0])
    outputs = []
    for threads in ("1", "3"):
        out = tmp_path / f"{threads}.npy"
        arguments = ["run", file, "-i", tmp_path / "x.npy", "-o", out, "--threads", threads]
        assert main([str(a) for a in arguments]) == 0
        outputs.append(out.read_bytes())
    assert outputs[0] == outputs[1]
    capsys.readouterr()
    assert main(["bench", str(file), "--runs", "20", "--threads", "2"]) == 0
    assert "2 threads" in capsys.readouterr().out
    assert main(["bench", str(file), "--runs", "20", "--threads", "99"]) == 1
    assert "threads must be an int from 1 to 64" in capsys.readouterr().err


@linux
def test_command_line_affinity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = os.sched_getaffinity(0)
    arguments = ["bench", str(network_file(tmp_path)), "--runs", "20", "--threads", "2"]
    try:
        assert main([*arguments, "--affinity", str(max(mine))]) == 0
        assert os.sched_getaffinity(0) == {max(mine)}
    finally:
        os.sched_setaffinity(0, mine)
    capsys.readouterr()
    assert main([*arguments, "--affinity", "1-x"]) == 1
    assert "--affinity takes CPU numbers such as 0,2 or 4-7, not '1-x'" in capsys.readouterr().err


def test_cpu_numbers() -> None:
    assert cpu_numbers("3") == [3]
    assert cpu_numbers("0,2,4-6") == [0, 2, 4, 5, 6]
    for wrong in ("", "a", "-1", "1-", "2-1", "1,,2", "1.5", "999999"):
        with pytest.raises(edgeq.ArgumentError, match="--affinity takes CPU numbers"):
            cpu_numbers(wrong)
