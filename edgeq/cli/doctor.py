# SPDX-License-Identifier: Apache-2.0
"""Show what edgeq finds on this machine: versions, CPU, kernels, optional packages.

Under "kernels" is every instruction set in this build, and why it cannot be used where it cannot.
Exit code 1 if EDGEQ_ISA names none of them.

examples:
  edgeq doctor
  edgeq doctor --json
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..runtime import _core
from . import text

# package -> what it is for
EXTRAS = {
    "tflite": "convert .tflite files",
    "pillow": "pictures as inputs of edgeq run",
    "rich": "a progress bar in edgeq convert",
}
# Of the flags that Linux lists, those that integer kernels can use.
_FLAGS = (
    *("sse2", "ssse3", "sse4_1", "sse4_2", "avx", "avx2", "avx_vnni"),
    *("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "amx_int8"),
    *("neon", "asimd", "asimddp", "i8mm", "sve", "sve2", "svei8mm"),
)


def add(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    text.add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Prints what there is."""
    found = examine()
    code = 1 if found["problem"] else 0
    if options.json:
        text.print_json(found)
        return code
    cpu, extras = found["cpu"], found["extras"]
    rows = [
        ("edgeq", f"{found['edgeq']}, {found['extension']}"),
        ("Python", f"{found['python']}, numpy {found['numpy']}"),
        ("system", found["system"]),
        ("CPU", f"{cpu['name']}, {cpu['cores']} cores usable"),
        ("instructions", " ".join(cpu["instructions"]) or "unknown on this system"),
        ("kernels", _chosen(found)),
        *((f"  {isa['name']}", isa["missing"] or "runs here") for isa in found["isas"]),
    ]
    for name, extra in extras.items():
        have = extra["version"] or f"not installed: {extra['install']}"
        rows.append((name, f"{have} ({extra['purpose']})"))
    print(text.table(rows))
    return code


def examine() -> dict[str, Any]:
    """Everything that this command knows; `problem`: why no network can be opened."""
    isas = _core.isas()
    kernels, problem = "", ""
    try:
        kernels = isas[_core.chosen_isa()][0]
    except ArgumentError as error:
        problem = str(error)
    return {
        "edgeq": _core.version(),
        "extension": str(getattr(_core, "__file__", "")),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}, "
        f"{sys.byteorder}-endian, {64 if sys.maxsize > 2**32 else 32} bit",
        "cpu": {"name": cpu_name(), "cores": _cores(), "instructions": _instructions()},
        "kernels": kernels,
        "problem": problem,
        "isas": [{"name": name, "missing": missing} for name, missing in isas],
        "cap": os.environ.get("EDGEQ_ISA", ""),
        "extras": {name: _extra(name, purpose) for name, purpose in EXTRAS.items()},
    }


def _chosen(found: dict[str, Any]) -> str:
    if found["problem"]:
        return f"none: {found['problem']}"
    if found["cap"]:
        return f"{found['kernels']}, under EDGEQ_ISA={found['cap']}"
    return f"{found['kernels']}, the best in this build that runs here (EDGEQ_ISA caps it)"


def _extra(name: str, purpose: str) -> dict[str, str]:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        version = ""
    return {"version": version, "purpose": purpose, "install": f"pip install {name}"}


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpuinfo(*keys: str) -> str:
    """The first value that Linux gives for one of `keys`."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    fields = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    return next((fields[key] for key in keys if fields.get(key)), "")


def cpu_name() -> str:
    """The processor as the system calls it."""
    return _cpuinfo("model name", "Model", "Hardware") or platform.processor() or "unknown"


def _instructions() -> list[str]:
    flags = _cpuinfo("flags", "Features", "isa").split()
    return [flag for flag in _FLAGS if flag in flags]
