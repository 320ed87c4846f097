# SPDX-License-Identifier: Apache-2.0
"""edgeq: quantized neural networks in integers, with the same bytes on every machine.

    session = edgeq.load("digits.eqm")
    (scores,) = session.run(image)

``load`` needs numpy alone and takes an .eqm file; ``convert`` makes one from a .tflite file and
needs ``pip install "edgeq[convert]"``. ``edgeq.tflite.Interpreter`` stands in for tflite-runtime's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import (
    ArgumentError,
    DependencyError,
    EdgeqError,
    FormatError,
    OutOfMemoryError,
    ReadError,
    UnsupportedError,
    VerifyError,
)
from .runtime._core import version as _version
from .runtime.model import Model, PictureInfo, TensorInfo, load
from .runtime.session import OpProfile, Session

if TYPE_CHECKING:
    from .converter import Converted, Report, convert
    from .data.preprocess import Preprocess

__version__ = _version()

_LAZY = ("Converted", "Preprocess", "Report", "convert")  # imported when they are used

__all__ = [
    "ArgumentError",
    "Converted",
    "DependencyError",
    "EdgeqError",
    "FormatError",
    "Model",
    "OpProfile",
    "OutOfMemoryError",
    "PictureInfo",
    "Preprocess",
    "ReadError",
    "Report",
    "Session",
    "TensorInfo",
    "UnsupportedError",
    "VerifyError",
    "__version__",
    "convert",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'edgeq' has no attribute {name!r}")
    if name == "Preprocess":
        from .data.preprocess import Preprocess

        return Preprocess
    from . import converter

    return getattr(converter, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
