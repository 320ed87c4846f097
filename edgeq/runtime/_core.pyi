# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt
from typing_extensions import Self, TypeAlias

from . import model as _model

Array: TypeAlias = npt.NDArray[Any]

# name, dtype, shape, scale, zero_point, labels (one a line)
_Port = tuple[str, str, tuple[int, ...], float, int, str]

def version() -> str: ...
def isas() -> list[tuple[str, str]]:
    """Name of each instruction set in this build, in rising order, and what this machine lacks."""

def chosen_isa() -> int:
    """The index of that which models opened now use; ArgumentError for an unknown EDGEQ_ISA."""

def peak(isa: int, turns: int) -> int:
    """Multiplies in registers at full speed; the multiply-accumulates done, 0 where unknown."""

class Model:
    """A checked .eqm file: bytes `data` (any object with a buffer), or the file `path`, mapped.

    Read-only bytes aligned to 16 are used in place and kept alive, others are copied.
    """

    def __init__(self, data: Any, path: bytes | None) -> None: ...
    def ports(self) -> tuple[list[_Port], list[_Port]]:
        """Inputs and outputs."""

    def ops(self) -> list[tuple[str, str, str, str, str, int]]:
        """Of every op name, type, instruction set, kernel slot, how it is used, packed bytes."""

    def picture(
        self, index: int
    ) -> tuple[int, int, int, int, int, int, tuple[int, int, int], bool] | None:
        """Width, height, channels, fit, order, crop, pad, channels first; None: nothing known."""

    def metadata(self, key: str) -> str | None: ...
    def isa(self) -> str: ...
    def golden_count(self) -> int: ...
    def session_size(self) -> tuple[int, int, int]:
        """Bytes of a session of one thread, and how many of them are arena and scratch."""

class Session:
    """The base of edgeq.Session. A call while another thread is in one raises EdgeqError."""

    def __new__(cls, model: _model.Model, threads: int = 1, cpus: tuple[int, ...] = ()) -> Self: ...
    @property
    def threads(self) -> int:
        """How many threads work on a run, the caller's among them."""

    def run(
        self,
        *arrays: Array,
        outputs: Sequence[Array] | None = None,
        float_output: bool = False,
        **named: Array,
    ) -> list[Array]:
        """Runs the network once; the outputs, each of its TensorInfo's shape and dtype.

        `arrays` are the inputs in order, `named` inputs by name (``**{"image:0": x}``). An array
        has exactly its tensor's shape, and its dtype or, for a quantized tensor, float32: that is
        quantized by the tensor's scale and zero point. Arrays that are not C-contiguous are copied.

        `float_output`: quantized outputs come as float32, scale * (q - zero_point). `outputs`: one
        C-contiguous, writable array per output to write into, of its dtype or float32 as above;
        these are what is returned.

        Raises ArgumentError, with what was expected and what was given, before anything runs.
        """

    def _run_as_is(self, inputs: tuple[Array, ...], outputs: list[Array]) -> bool:
        """Copies C-contiguous arrays in, runs without the GIL, copies out.

        An array has its tensor's shape and either its dtype or, for a quantized tensor, float32.
        False, and nothing ran, if the counts or one of the arrays are anything else.
        """

    def _run_image(
        self, index: int, rgb: Array, others: tuple[Array | None, ...], outputs: list[Array]
    ) -> bool:
        """As _run_as_is, with input `index` (None in `others`) from a picture.

        `rgb`: uint8 (H, W, 3), pixels and their colours without gaps. False, and nothing ran, if it
        is anything else.
        """

    def _memory(self) -> tuple[int, int, int]:
        """Bytes of this session, and how many of them are arena and scratch."""

    def _set_outputs(
        self,
        new_array: Callable[..., Array],
        layouts: tuple[tuple[Any, ...], ...],
        float_layouts: tuple[tuple[Any, ...], ...],
    ) -> None:
        """`new_array(*layout)` makes an output; one layout each, of its dtype and of float32."""

    def _set_timing(self, on: bool) -> None: ...
    def _nanoseconds(self) -> list[int]: ...
    def _verify(self, index: int) -> bytes:
        """The SHA-256 of golden case `index`; VerifyError if it is not the file's."""

    def golden_digest(self, seed: int) -> bytes:
        """SHA-256 of all outputs for the inputs of `seed`: what a file's golden case holds."""
