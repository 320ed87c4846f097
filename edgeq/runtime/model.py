# SPDX-License-Identifier: Apache-2.0
"""Opening a network: .eqm files and bytes, and by the converter .tflite ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError
from . import _core
from .threads import thread_count

if TYPE_CHECKING:
    from typing_extensions import TypeAlias

    from ..converter import Converted
    from .session import Session

Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | Converted"

MAGIC = b"\x89EQM\r\n\x1a\n"
METADATA_KEYS = (
    "source_format",
    "source_sha256",
    "description",
    "tool",
    "arithmetic",
    "preprocess",
)
_FITS, _ORDERS = ("stretch", "crop", "pad"), ("rgb", "bgr", "gray")


@dataclass(frozen=True)
class TensorInfo:
    """An input or output; real = scale * (q - zero_point), a scale of 0: not quantized.

    A float32 tensor with a scale is held as integers of that scale inside of the network.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float
    zero_point: int
    labels: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of elements."""
        count = 1
        for d in self.shape:
            count *= d
        return count

    def __str__(self) -> str:
        return f"{self.name!r} {self.dtype} {self.shape}"


@dataclass(frozen=True)
class PictureInfo:
    """What the file does to a picture for an input of `width` x `height` pixels.

    `fit`: ``"stretch"``, ``"crop"`` or ``"pad"`` (with the RGB colour `pad`). `crop`: the central
    part of it that is kept, of each side. `order`: of the network's channels, ``"rgb"``, ``"bgr"``
    or ``"gray"``; `channels_first`: whether its shape is (1, C, H, W).
    """

    width: int
    height: int
    channels: int
    fit: str
    order: str
    crop: float
    pad: tuple[int, int, int]
    channels_first: bool


@dataclass(frozen=True)
class OpInfo:
    """An operator: its layer's name, its type (``"CONV_2D"``), the instruction set that runs it.

    `slot`: which kernel of that set (``"gemm"``), ``""`` like `kernel` where none is needed. `why`:
    how the work reaches the kernel, or what is done without one. `packed_bytes`: of weights in the
    kernel's own layout, beside those in the file.
    """

    name: str
    type: str
    kernel: str
    slot: str
    why: str
    packed_bytes: int


class Model:
    """An opened network; immutable, to be shared by any number of sessions and threads.

    `source` is the path of an .eqm file, which is mapped and must not change meanwhile, or its
    bytes. Read-only bytes are used in place.

    Raises FormatError for anything else than a sound .eqm file, OSError if it cannot be read.
    """

    def __init__(self, source: str | os.PathLike[str] | bytes | bytearray | memoryview) -> None:
        if isinstance(source, (str, os.PathLike)):
            self.core = _core.Model(None, os.fsencode(source))
        else:
            self.core = _core.Model(source, None)
        inputs, outputs = self.core.ports()
        self.inputs = tuple(_tensor_info(*port) for port in inputs)
        self.outputs = tuple(_tensor_info(*port) for port in outputs)

    @cached_property
    def metadata(self) -> dict[str, str]:
        """What the file says of itself: "source_format", "source_sha256", "tool", ..."""
        pairs = ((key, self.core.metadata(key)) for key in METADATA_KEYS)
        return {key: value for key, value in pairs if value is not None}

    @cached_property
    def ops(self) -> tuple[OpInfo, ...]:
        """The operators in the order in which they run."""
        return tuple(OpInfo(*op) for op in self.core.ops())

    @cached_property
    def pictures(self) -> dict[int, PictureInfo]:
        """By the number of the input, what run_image() does; {} where the file does not say."""
        found = {}
        for i in range(len(self.inputs)):
            picture = self.core.picture(i)
            if picture is not None:
                width, height, channels, fit, order, crop, pad, first = picture
                found[i] = PictureInfo(
                    width, height, channels, _FITS[fit], _ORDERS[order], crop / 65536, pad, first
                )
        return found

    @property
    def arithmetic(self) -> str:
        """How layers with weights requantize: ``"exact"`` or ``"native"``, see edgeq.convert."""
        return self.metadata.get("arithmetic", "exact")

    @property
    def isa(self) -> str:
        """The instruction set whose kernels were chosen on this machine: ``"scalar"``, ..."""
        return self.core.isa()

    @property
    def golden_count(self) -> int:
        """How many golden cases the file holds."""
        return self.core.golden_count()

    @cached_property
    def memory(self) -> tuple[int, int, int]:
        """Bytes of a session of one thread, those of its activations and of working memory."""
        return self.core.session_size()


def _tensor_info(
    name: str, dtype: str, shape: tuple[int, ...], scale: float, zero_point: int, labels: str
) -> TensorInfo:
    return TensorInfo(name, shape, np.dtype(dtype), scale, zero_point, tuple(labels.splitlines()))


def load(
    source: Source,
    threads: int | None = None,
    arithmetic: str | None = None,
    affinity: Sequence[int] = (),
) -> Session:
    """Opens a network and makes a session that runs it.

    `source`: the path or the bytes of an .eqm file, what ``edgeq.convert`` returned, or the path or
    the bytes of a .tflite file, which is converted in memory (``pip install "edgeq[convert]"``).
    What it is is told by its content, not by its name.

    `threads`: at most so many threads work on one run, the calling one among them; 0: as many as
    there are usable cores. Not given, it is the environment's EDGEQ_THREADS, else 1. Results never
    depend on it. `affinity` (Linux): CPU numbers; thread k is bound to ``affinity[k % len]``, but
    for thread 0, the calling one, which stays where you put it.

    `arithmetic`: how a .tflite file is converted, see ``edgeq.convert``: ``"exact"`` (also None) or
    ``"native"``. An .eqm file has it fixed: None takes it as it is, a name must be the file's.

    Raises FormatError, UnsupportedError, ArgumentError, DependencyError, OutOfMemoryError, OSError.
    """
    from .session import Session

    return Session(open_model(source, arithmetic), thread_count(threads), affinity)


def open_model(source: Source, arithmetic: str | None = None) -> Model:
    """The model in `source`, which is converted first if it is a .tflite file; see load()."""
    if arithmetic not in (None, "exact", "native"):
        raise ArgumentError(f"arithmetic must be 'exact' or 'native', not {arithmetic!r}")
    if isinstance(source, (str, os.PathLike)):
        with open(source, "rb") as file:
            head = file.read(len(MAGIC))
        if head == MAGIC:
            return _of_arithmetic(Model(source), arithmetic)
        return _converted(source, arithmetic)
    data: Any = getattr(source, "data", source)  # of a Converted
    try:
        head = bytes(memoryview(data).cast("B")[: len(MAGIC)])
    except TypeError:
        raise ArgumentError(
            f"expected a path, bytes or a converted network, not {type(source).__name__}"
        ) from None
    if head == MAGIC:
        return _of_arithmetic(Model(data), arithmetic)
    return _converted(data, arithmetic)


def _of_arithmetic(model: Model, arithmetic: str | None) -> Model:
    if arithmetic not in (None, model.arithmetic):
        raise ArgumentError(
            f"the .eqm file has {model.arithmetic} arithmetic; for {arithmetic} arithmetic convert "
            f"its source again: edgeq convert --arithmetic {arithmetic}"
        )
    return model


def _converted(source: Any, arithmetic: str | None) -> Model:
    from ..converter import convert

    return Model(convert(source, arithmetic=arithmetic or "exact").data)
