# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

# name, dtype, shape, scale, zero_point, labels (one a line)
_Port = tuple[str, str, tuple[int, ...], float, int, str]

def version() -> str: ...

class Model:
    """A checked .eqm file: bytes `data` (any object with a buffer), or the file `path`, mapped.

    Read-only bytes aligned to 16 are used in place and kept alive, others are copied.
    """

    def __init__(self, data: Any, path: bytes | None) -> None: ...
    def ports(self) -> tuple[list[_Port], list[_Port]]:
        """Inputs and outputs."""

    def ops(self) -> list[tuple[str, str, str]]:
        """Name, type and kernel of every op."""

    def metadata(self, key: str) -> str | None: ...
    def isa(self) -> str: ...
    def golden_count(self) -> int: ...
    def session_size(self) -> tuple[int, int, int]:
        """Bytes of a session, and how many of them are arena and scratch."""

class Session:
    """The memory of one run. A call while another thread runs it raises EdgeqError."""

    def __init__(self, model: Model) -> None: ...
    @property
    def model(self) -> Model: ...
    def run(self, inputs: tuple[Any, ...], outputs: list[Any]) -> bool:
        """Copies C-contiguous arrays in, runs without the GIL, copies out.

        An array has its tensor's shape and either its dtype or, for a quantized tensor, float32.
        False, and nothing ran, if the counts or one of the arrays are anything else.
        """

    def set_timing(self, on: bool) -> None: ...
    def nanoseconds(self) -> list[int]: ...
    def verify(self, index: int) -> bytes:
        """The SHA-256 of golden case `index`; VerifyError if it is not the file's."""

    def golden_digest(self, seed: int) -> bytes: ...
