# SPDX-License-Identifier: Apache-2.0
"""The errors that edgeq raises; every one is an EdgeqError."""

from __future__ import annotations

from collections.abc import Sequence


class EdgeqError(Exception):
    """Base of all errors that edgeq raises on purpose."""


class FormatError(EdgeqError):
    """A file is truncated, damaged, contradicts itself or was made for a newer edgeq."""


class UnsupportedError(EdgeqError):
    """A network holds what edgeq cannot run; `problems` lists all of it, a sentence each."""

    def __init__(self, summary: str, problems: Sequence[str] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__("\n  - ".join([summary, *self.problems]))


class ArgumentError(EdgeqError, ValueError):
    """An argument has a wrong value, shape, dtype or index."""


class VerifyError(EdgeqError):
    """A golden case gave other bytes on this machine than when the file was written."""


class DependencyError(EdgeqError, ImportError):
    """An optional library is missing; the message has the command that installs it."""


class OutOfMemoryError(EdgeqError, MemoryError):
    """The session's memory could not be allocated."""


class ReadError(EdgeqError, OSError):
    """A file cannot be opened or read."""


def from_status(status: int, message: str) -> EdgeqError:
    """The exception for a status of edgeq.h other than EQ_OK."""
    return _STATUS.get(status, EdgeqError)(message)


_STATUS: dict[int, type[EdgeqError]] = {
    1: ArgumentError,
    2: OutOfMemoryError,
    3: ReadError,
    4: FormatError,
    5: FormatError,  # EQ_ERR_VERSION
    6: FormatError,  # EQ_ERR_INVALID
    7: UnsupportedError,
    8: VerifyError,
}
