# SPDX-License-Identifier: Apache-2.0
"""The C library by itself: its API, its build by CMake, what it exports."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from programs import DIGITS, ROOT, passing

import edgeq
from edgeq.format.writer import write_program

pytest.importorskip("tflite")

SOURCES = ROOT / "src_c"
CONSUMER = ROOT / "tests" / "c" / "consumer"
COMPILER = shlex.split(os.environ.get("CC") or shutil.which("cc") or "")
CXX = shutil.which("c++")

needs_compiler = pytest.mark.skipif(not COMPILER, reason="no C compiler")
needs_cmake = pytest.mark.skipif(not (shutil.which("cmake") and CXX), reason="no cmake, no C++")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The digits network, and a network with a golden case that does not hold."""
    folder = tmp_path_factory.mktemp("models")
    edgeq.convert(DIGITS, out=folder / "digits.eqm")
    wrong = write_program(passing(("x", "int8", (4,), 0.5, 0)), [(1, bytes(32))])
    (folder / "wrong.eqm").write_bytes(wrong)
    return [folder / "digits.eqm", folder / "wrong.eqm"]


def run(*command: object, cwd: Path | None = None) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def c_files() -> list[Path]:
    return sorted(SOURCES.rglob("*.c"))


FLAGS = ["-O1", "-g", "-Wall", "-Wextra", "-Werror", f"-I{SOURCES}", f"-I{SOURCES / 'include'}"]


@needs_compiler
@pytest.mark.parametrize("switch", ["", "-DEQ_NO_FLOAT"])
def test_api(switch: str, models: list[Path], tmp_path: Path) -> None:
    program = tmp_path / "test_api"
    defines = ["-Dmalloc=counted_malloc", "-Dposix_memalign=counted_memalign", *switch.split()]
    test = ROOT / "tests" / "c" / "test_api.c"
    files = [test, *c_files()]
    run(*COMPILER, "-std=c11", *FLAGS, *defines, "-pthread", "-o", program, *files)
    assert run(program, *models) == "ok\n"


@needs_compiler
@pytest.mark.parametrize("switch", ["", "-DEQ_NO_THREADS"])
def test_threads(switch: str, models: list[Path], tmp_path: Path) -> None:
    program = tmp_path / "threads"
    defines = ["-DEQ_SPLIT_NS=1", "-DEQ_PART_MIN_NS=1", *switch.split()]  # small layers are split
    files = [ROOT / "tests" / "c" / "threads.c", *c_files()]
    run(*COMPILER, "-std=c11", *FLAGS, *defines, "-pthread", "-o", program, *files)
    golden = sorted((ROOT / "tests" / "golden").glob("*.eqm"))
    assert run(program, models[0], *golden) == "ok\n"


@needs_compiler
@pytest.mark.parametrize("switch", ["", "-DEQ_NO_PICTURES"])
def test_pictures(switch: str, tmp_path: Path) -> None:
    program = tmp_path / "pictures"
    files = [ROOT / "tests" / "c" / "pictures.c", *c_files()]
    run(*COMPILER, "-std=c11", *FLAGS, *switch.split(), "-pthread", "-o", program, *files)
    golden = ROOT / "tests" / "golden"
    assert run(program, golden / "picture.eqm", golden / "moves.eqm") == "ok\n"


@needs_compiler
def test_without_heap_files_and_floats(tmp_path: Path) -> None:
    """For devices: nothing of the C library but memory and strings is left."""
    switches = ["-DEQ_NO_HEAP", "-DEQ_NO_FILES", "-DEQ_NO_FLOAT", "-DEQ_NO_THREADS"]
    for file in c_files():
        run(*COMPILER, "-std=c11", *FLAGS, *switches, "-c", file, cwd=tmp_path)
    if shutil.which("nm") is None:
        pytest.skip("no nm")
    names = set(re.findall(r" U (\w+)", run("nm", "-u", *sorted(tmp_path.glob("*.o")))))
    foreign = {n for n in names if not n.startswith("eq_") and not n.startswith("_")}
    assert foreign <= {"memcpy", "memset", "memcmp", "memmove", "memchr", "strlen", "strcmp"}


@pytest.mark.skipif(CXX is None, reason="no C++ compiler")
@pytest.mark.parametrize("standard", ["c++11", "c++17"])
def test_header_in_cpp(standard: str, tmp_path: Path) -> None:
    flags = [f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]
    run(CXX, *flags, f"-I{SOURCES / 'include'}", CONSUMER / "main.cpp")


@needs_compiler
def test_header_in_c99() -> None:
    flags = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]
    run(*COMPILER, *flags, f"-I{SOURCES / 'include'}", CONSUMER / "main.c")


@needs_cmake
@pytest.mark.parametrize("shared", ["OFF", "ON"])
def test_cmake_package(shared: str, models: list[Path], tmp_path: Path) -> None:
    build, prefix, app = tmp_path / "build", tmp_path / "prefix", tmp_path / "app"
    options = [f"-DCMAKE_INSTALL_PREFIX={prefix}", "-DCMAKE_INSTALL_LIBDIR=lib", "-DEQ_WERROR=ON"]
    run("cmake", "-S", SOURCES, "-B", build, *options, f"-DBUILD_SHARED_LIBS={shared}")
    run("cmake", "--build", build, "--target", "install", "--parallel", "2")
    assert (prefix / "lib" / "libedgeq.a").is_file()
    run("cmake", "-S", CONSUMER, "-B", app, f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", app)
    version = f"{edgeq.__version__}\n"
    assert run(app / "consumer", models[0]) == version
    assert run(app / "consumer_cpp") == version
    (library,) = (prefix / "lib").glob("libedgeq.so.*.*.*") if sys.platform == "linux" else [None]
    if library is None:
        return
    assert library.name == f"libedgeq.so.{edgeq.__version__}"
    assert ("libedgeq.so" in run("ldd", app / "consumer")) == (shared == "ON")
    exported = set(re.findall(r" [TDBR] (\w+)", run("nm", "-D", "--defined-only", library)))
    header = (SOURCES / "include" / "edgeq.h").read_text()
    assert exported == set(re.findall(r"^EQ_API [\w \*]*?(\w+)\(", header, re.M))


@needs_cmake
@pytest.mark.skipif(shutil.which("pkg-config") is None, reason="no pkg-config")
def test_pkg_config(models: list[Path], tmp_path: Path) -> None:
    build, prefix = tmp_path / "build", tmp_path / "prefix"
    options = [f"-DCMAKE_INSTALL_PREFIX={prefix}", "-DEQ_ONE_LIBRARY=ON"]
    run("cmake", "-S", SOURCES, "-B", build, *options, "-DCMAKE_INSTALL_LIBDIR=lib")
    run("cmake", "--build", build, "--target", "install", "--parallel", "2")
    assert not list((prefix / "lib").glob("*.so*"))
    query = ["env", f"PKG_CONFIG_PATH={prefix / 'lib' / 'pkgconfig'}", "pkg-config"]
    assert run(*query, "--modversion", "edgeq") == f"{edgeq.__version__}\n"
    flags = shlex.split(run(*query, "--cflags", "--libs", "edgeq"))
    run(*COMPILER, CONSUMER / "main.c", "-o", tmp_path / "app", *flags)
    assert run(tmp_path / "app", models[0]) == f"{edgeq.__version__}\n"


@needs_cmake
def test_cmake_subdirectory(tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(app C)\n"
        f'add_subdirectory("{SOURCES}" edgeq EXCLUDE_FROM_ALL)\n'
        f'add_executable(app "{CONSUMER}/main.c")\ntarget_link_libraries(app edgeq::edgeq)\n'
    )
    run("cmake", "-S", tmp_path, "-B", tmp_path / "build")
    run("cmake", "--build", tmp_path / "build", "--parallel", "2")
