# SPDX-License-Identifier: Apache-2.0
"""Every kernel slot against scalar, by the C program in kernelcheck/, and that program itself."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMPILER = shlex.split(os.environ.get("CC") or shutil.which("cc") or "")
SEEDS = int(os.environ.get("EDGEQ_TEST_SEEDS", "1"))

pytestmark = [
    pytest.mark.skipif(not COMPILER, reason="no C compiler"),
    pytest.mark.skipif(os.name != "posix", reason="kernelcheck needs mmap and signals"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """kernelcheck, built by the command that docs/KERNELS.md gives."""
    path = tmp_path_factory.mktemp("kernelcheck") / "kernelcheck"
    sources = [*(ROOT / "tests" / "kernelcheck").glob("*.c"), *(ROOT / "src_c").rglob("*.c")]
    include = [f"-I{ROOT / 'src_c'}", f"-I{ROOT / 'src_c' / 'include'}"]
    words = [*COMPILER, "-O2", "-pthread", *include, *map(str, sorted(sources)), "-o", str(path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return path


def run(program: Path, *options: str) -> tuple[int, str]:
    done = subprocess.run([str(program), *options], capture_output=True, text=True)
    return done.returncode, done.stdout


@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
def test_every_slot(program: Path, seed: int) -> None:
    status, out = run(program, "--seed", str(seed))
    assert status == 0, out
    lines = re.findall(r"^(\w+-?) +([\w.]+) +\d+ cases  PASS", out, re.MULTILINE)
    assert len(lines) == len([line for line in out.splitlines() if "cases" in line])
    header = (ROOT / "src_c" / "kernels" / "kernels.h").read_text()
    table = header[header.index("typedef struct eq_kernels {") : header.index("} eq_kernels;")]
    slots = re.findall(r"\(\*(\w+)\)\(", table)
    runs = {slot for slot in slots if not slot.endswith(("_pack", "_scratch"))}
    assert len(slots) > 15 and runs <= {family for isa, family in lines if isa == "scalar"}


def test_faults_are_found(program: Path) -> None:
    """A wrong byte, reads and writes outside, changed inputs, signals: in good kernels."""
    status, out = run(program, "--self-test")
    assert status == 0, out
    found = re.search(r"(\d+) of (\d+) faults found", out)
    assert found and found[1] == found[2] and int(found[1]) > 25, out


@pytest.mark.parametrize("fault", ["one_wrong_byte", "reads_behind_x", "illegal_instruction"])
def test_failures_repeat(program: Path, fault: str) -> None:
    """A failure fails the program, and its case alone shows the same."""
    status, out = run(program, "--break", fault, "--seed", "3")
    assert status == 1 and "FAIL" in out, out
    again = re.search(r"--seed 3 .*--case (\d+)", out)
    assert again, out
    status, repeated = run(program, "--break", fault, "--seed", "3", "--case", again[1])
    assert status == 1
    assert repeated.splitlines()[2] == out.splitlines()[2]  # the case
    if again[1] != "0":
        assert run(program, "--break", fault, "--seed", "3", "--cases", again[1])[0] == 0


def test_bench(program: Path) -> None:
    status, out = run(program, "--bench", "--json", "--slot", "lut", "--isa", "scalar")
    assert status == 0
    rows = json.loads(out)
    assert rows and all(row["slot"] == "lut" and 0 < row["min"] <= row["median"] for row in rows)


def test_options(program: Path) -> None:
    assert run(program, "--help")[0] == 0
    assert run(program, "--isa", "none")[0] == 1  # nothing was checked
    assert run(program, "--slot", "none")[0] == 2
    assert run(program, "--nonsense")[0] == 2
