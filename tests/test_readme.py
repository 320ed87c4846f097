# SPDX-License-Identifier: Apache-2.0
"""Runs what README.md shows: its shell lines, its Python, its C program."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"

# Lines that make or fill the environment in which these tests run already; .ci/run calls start.sh.
SETUP = ("sh tools/start.sh ", "pip install ")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like a checkout, for commands that write."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("examples", "src_c", "tools"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("build", "*.so"))
    return folder


def environment() -> dict[str, str]:
    scripts = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": scripts + os.pathsep + os.environ.get("PATH", "")}


def run(command: list[str], desk: Path) -> str:
    done = subprocess.run(command, cwd=desk, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_block_has_a_known_language() -> None:
    fences = re.findall(r"^```(\w*)$", README.read_text(), re.M)
    assert set(fences[::2]) <= {"sh", "python", "c"}


def test_shell_lines(desk: Path) -> None:
    whole = [block.replace("\\\n", " ") for block in blocks("sh")]
    lines = [line for block in whole for line in block.splitlines() if line.strip()]
    commands = [line for line in lines if not line.startswith(SETUP)]
    assert len(commands) >= 12
    assert any("--calibrate" in command for command in commands)
    for command in commands:
        if command.startswith("cmake") and shutil.which("cmake") is None:
            continue
        run(["sh", "-c", command], desk)


def test_python(desk: Path) -> None:
    script = "\n".join(blocks("python"))
    assert "edgeq.load" in script and "Interpreter" in script
    run([sys.executable, "-c", script], desk)


def test_c(desk: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    (program,) = blocks("c")
    (desk / "program.c").write_text(program)
    run(
        [
            sys.executable,
            "-c",
            "import edgeq; edgeq.convert('examples/digits/digits_int8.tflite', out='digits.eqm')",
        ],
        desk,
    )
    sources = [str(p) for p in (ROOT / "src_c").rglob("*.c")]
    includes = [f"-I{ROOT / 'src_c'}", f"-I{ROOT / 'src_c' / 'include'}"]
    run(
        [
            compiler,
            "-std=c11",
            "-O1",
            "-pthread",
            *includes,
            "-o",
            "program",
            "program.c",
            *sources,
        ],
        desk,
    )
    assert float(run([str(desk / "program")], desk)) >= 0
