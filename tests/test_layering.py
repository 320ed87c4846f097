# SPDX-License-Identifier: Apache-2.0
"""docs/ARCHITECTURE.md, "Who may know whom", read off imports and includes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import ROOT

PACKAGE = ROOT / "edgeq"
SOURCES = ROOT / "src_c"

# Part of the package -> the parts that it may import, at the top or lazily. Modules not in a
# folder are parts of their own.
MAY_IMPORT = {
    "errors": set(),
    "ir": {"errors"},
    "data": {"ir", "errors"},
    "importers": {"ir", "errors"},
    "passes": {"ir", "errors"},
    "format": {"errors"},
    "quantize": {"ir", "format", "errors"},
    "runtime": {"errors", "converter"},  # converter: lazily, to load a .tflite
    "converter": {
        "data",
        "errors",
        "format",
        "importers",
        "ir",
        "passes",
        "quantize",
        "quantizer",
        "runtime",
    },
    "difference": {"format", "runtime"},
    "quantizer": {"data", "errors", "format", "ir", "passes", "quantize", "runtime"},
    # as the converter it knows both sides, which it compares
    "layerwise": {"converter", "errors", "format", "ir", "passes", "quantize", "runtime"},
    "tflite": {"errors", "runtime"},
    "operators": {"format", "importers", "ir", "quantize"},
    "compare": {"data", "errors", "runtime"},
    "report": {"quantize"},  # the dataclasses of quantize/report.py
    "cli": {
        "operators",
        "compare",
        "converter",
        "data",
        "difference",
        "errors",
        "format",
        "layerwise",
        "quantize",  # the dataclasses of quantize/report.py, which it prints
        "quantizer",  # its simulate(), by which layers are measured for the report
        "report",
        "runtime",
    },
    "__init__": {"errors", "runtime", "converter", "data"},
    "__main__": {"cli"},
}
# What the installed runtime needs beyond the standard library and numpy: nothing.
EXTRAS = {
    "tflite": {"importers"},
    "flatbuffers": {"importers"},
    "PIL": {"cli", "data"},
    "rich": {"cli"},
}
EXTRAS |= {
    peer: {"compare"} for peer in ("ai_edge_litert", "onnxruntime", "openvino", "tflite_runtime")
}
EXTRAS["onnx"] = {"importers", "quantize"}
EXTRAS["onnxruntime"] |= {"importers", "quantize"}
STANDARD = {"numpy", "typing_extensions"}  # the latter for type checkers only

MODULES = sorted(PACKAGE.rglob("*.py"))
C_FILES = sorted([*SOURCES.rglob("*.c"), *SOURCES.rglob("*.h")])


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def part(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path) -> Iterator[tuple[ast.AST, str, bool]]:
    """Each import: its statement, the absolute dotted name, whether it is at the top."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    package = ("edgeq", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node, f"{module}.{alias.name}", id(node) in top


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports(path: Path) -> None:
    mine = part(path)
    assert mine in MAY_IMPORT, f"{name(path)} belongs to no known part"
    for node, module, at_top in imports(path):
        where = f"{name(path)}:{node.lineno} imports {module}"  # type: ignore[attr-defined]
        words = module.split(".")
        if words[0] == "edgeq":
            other = words[1]
            if not (PACKAGE / other).exists() and not (PACKAGE / f"{other}.py").exists():
                other = "__init__"  # a name of the package itself
            assert other in MAY_IMPORT[mine] | {mine}, where
            if mine in ("runtime", "__init__") and other in ("converter", "data"):
                assert not at_top, f"{where} at the top: the runtime works without the converter"
        elif words[0] in EXTRAS:
            assert mine in EXTRAS[words[0]], where
            assert not at_top, f"{where} at the top: it is an extra"


def test_only_numpy_is_needed() -> None:
    import sys

    if sys.version_info < (3, 10):
        pytest.skip("the list of the standard library's modules came with Python 3.10")
    known = {*sys.stdlib_module_names, *STANDARD, *EXTRAS, "edgeq"}
    for path in MODULES:
        for _, module, _ in imports(path):
            assert module.split(".")[0] in known, f"{name(path)} imports {module}"


def test_the_binding_sees_the_public_header_only() -> None:
    files = sorted((PACKAGE / "runtime").glob("_*.p[xy][xdi]*"))
    text = "".join(p.read_text() for p in files)
    included = re.findall(r'^include "([^"]+)"', text, re.M)
    assert {f.name for f in files} == {"_core.pyx", "_core.pxd", "_core.pyi", *included}
    assert set(re.findall(r'cdef extern from "([^"]+)"', text)) == {"edgeq.h", "<time.h>"}
    lines = (PACKAGE / "runtime" / "_core.pyx").read_text().splitlines()
    assert len(lines) <= 300


# ---- C


def code(path: Path) -> str:
    """A C file without its comments and strings."""
    text = path.read_text(encoding="utf-8")
    token = r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
    return re.sub(token, " ", text, flags=re.S)


def folder(path: Path) -> str:
    return path.relative_to(SOURCES).parts[0]


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), flags=re.M)


@pytest.mark.parametrize("path", C_FILES, ids=name)
def test_no_floats(path: Path) -> None:
    if folder(path) == "io":
        return
    assert "math.h" not in includes(path)
    assert "float.h" not in includes(path)
    words = set(re.findall(r"\b(float|double)\b", code(path)))
    # The two metadata fields of the file and of the public header are moved, never computed with.
    # Factors of estimates and lines, and products of 53 bits: docs/NUMERICS.md proves them exact.
    allowed = {"include/edgeq.h", "core/format.h", "kernels/x86/pack.h", "kernels/x86/line.h"}
    allowed |= {f"kernels/x86/{name}.h" for name in ("gemm16", "ymm_gemm16", "depthwise16")}
    allowed |= {"kernels/avx512vnni/gemm16.c"}
    assert not words or path.relative_to(SOURCES).as_posix() in allowed


FREESTANDING = {"stddef.h", "stdint.h", "stdbool.h", "limits.h", "string.h", "stdarg.h"}
THREADS = {"pthread.h", "sched.h", "signal.h", "stdatomic.h", "time.h", "unistd.h"}
MAY_INCLUDE = {
    "include": r"$^",
    "core": r"(core|kernels|ops)/.*|edgeq\.h",
    "ops": r"(core|ops)/.*|kernels/kernels\.h|edgeq\.h",
    "io": r"core/.*|edgeq\.h",
}
# For what needs a system: malloc, mapped files, the processor's name of itself.
HOSTED = {"stdlib.h", "errno.h", "fcntl.h", "unistd.h", "sys/mman.h", "sys/stat.h", "cpuid.h"}


@pytest.mark.parametrize("path", C_FILES, ids=name)
def test_includes(path: Path) -> None:
    where = path.relative_to(SOURCES)
    if len(where.parts) == 3:  # kernels/<isa>/
        isa = where.parts[1]
        allowed = (
            rf"kernels/(kernels|{isa}/\w+|x86/\w+)\.h|core/(numerics|fixed|format|cpu)\.h"
            r"|\w*intrin\.h|arm_\w+\.h"
        )
    elif folder(path) == "kernels":
        allowed = r"kernels/.*|core/.*"
    else:
        allowed = MAY_INCLUDE[folder(path)]
    for included in includes(path):
        if included in FREESTANDING or (folder(path) == "core" and included in HOSTED):
            continue
        if included in THREADS and where.as_posix() == "core/threads.c":
            continue
        if included.endswith(".def") and included.split("/")[0] == folder(path):
            continue
        assert re.fullmatch(allowed, included), f"{name(path)} includes {included}"


@pytest.mark.parametrize("path", C_FILES, ids=name)
def test_the_library_keeps_quiet(path: Path) -> None:
    """It prints, exits and aborts nowhere, and allocates only in the functions made for it."""
    called = set(re.findall(r"\b(\w+)\s*\(", code(path)))
    assert not called & {
        "printf",
        "fprintf",
        "puts",
        "exit",
        "abort",
        "assert",
        "setjmp",
        "longjmp",
    }
    if where_allocation_is_allowed(path):
        return
    assert not called & {"malloc", "calloc", "realloc", "free", "posix_memalign", "aligned_alloc"}


def where_allocation_is_allowed(path: Path) -> bool:
    return path.relative_to(SOURCES).as_posix() in ("core/api.c", "core/session.c")


@pytest.mark.parametrize(
    "path", [p for p in C_FILES if len(p.relative_to(SOURCES).parts) == 3], ids=name
)
def test_kernels_are_static(path: Path) -> None:
    """A folder shows its fill functions alone: other flags must not leak into shared inlines."""
    isa = path.relative_to(SOURCES).parts[1]
    if path.suffix == ".h" or isa == "scalar":
        return
    functions = re.findall(
        r"^(?!typedef)([A-Za-z][\w \*]*?)\b(\w+)\([^;{]*?\)\s*\{", code(path), re.M
    )
    assert functions
    for before, function in functions:
        if not {"static", "INLINE"} & set(before.split()):
            assert re.fullmatch(rf"eq_kernels_fill_{isa}(_[a-z0-9]+)?", function), function
