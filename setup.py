# SPDX-License-Identifier: Apache-2.0
"""Builds edgeq.runtime._core: the Cython binding and the whole C library in one extension.

The compiler is that of the environment (CC, CFLAGS, LDSHARED, LDFLAGS as usual). No -march flag is
ever passed: kernels name their instruction sets themselves and are chosen when a model is opened.
From Python 3.11 on the extension uses the limited API: one abi3 wheel a platform.

EDGEQ_WERROR=1 turns warnings in the C library into errors.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
LIMITED_API = sys.version_info >= (3, 11) and not sysconfig.get_config_var("Py_GIL_DISABLED")
WARNINGS = ["-Wall", "-Wextra", "-Werror"] if os.environ.get("EDGEQ_WERROR") == "1" else []


def version() -> str:
    """The version that src_c/include/edgeq.h states."""
    header = (ROOT / "src_c/include/edgeq.h").read_text(encoding="utf-8")
    parts = dict(re.findall(r"#define EQ_VERSION_(MAJOR|MINOR|PATCH) (\d+)", header))
    return "{MAJOR}.{MINOR}.{PATCH}".format(**parts)


def files(*patterns: str) -> list[str]:
    """The files below src_c that match, relative to this folder as setuptools wants them."""
    found = {path for pattern in patterns for path in (ROOT / "src_c").glob(pattern)}
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


class Build(build_ext):
    """Adds the warnings to the C library's files, not to what Cython generated."""

    def build_extension(self, ext: Extension) -> None:
        plain = self.compiler._compile

        def compile_one(obj: str, src: str, ext: str, cc: Any, extra: list[str], pp: Any) -> None:
            own = src.replace(os.sep, "/").startswith("src_c/")
            plain(obj, src, ext, cc, extra + WARNINGS if own else extra, pp)

        self.compiler._compile = compile_one
        super().build_extension(ext)


def core() -> Extension:
    """The only extension module."""
    macros: list[tuple[str, str | None]] = []
    if LIMITED_API:
        macros = [("Py_LIMITED_API", "0x030B0000"), ("CYTHON_LIMITED_API", "1")]
    parts = sorted(f"edgeq/runtime/{path.name}" for path in ROOT.glob("edgeq/runtime/*.pxi"))
    strip = "-Wl,-x" if sys.platform == "darwin" else "-Wl,-s"
    return Extension(
        "edgeq.runtime._core",
        ["edgeq/runtime/_core.pyx", *files("*/*.c", "kernels/*/*.c")],
        include_dirs=["src_c", "src_c/include"],
        define_macros=macros,
        # Floats at the edge must round the same everywhere: no fused multiply-add.
        extra_compile_args=[
            "-std=c11",
            "-O3",
            "-pthread",
            "-fvisibility=hidden",
            "-ffp-contract=off",
        ],
        extra_link_args=[strip, "-pthread"],
        depends=[*files("**/*.h", "**/*.def"), *parts],
        py_limited_api=LIMITED_API,
    )


setup(
    version=version(),
    ext_modules=cythonize([core()], build_dir="build/cython"),
    cmdclass={"build_ext": Build},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if LIMITED_API else {},
)
