# SPDX-License-Identifier: Apache-2.0
"""Calibration samples: from wherever they lie to arrays of the inputs' shapes, one at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError
from .preprocess import Preprocess, picture_shape

if TYPE_CHECKING:
    from typing_extensions import TypeAlias

Array = npt.NDArray[Any]
Feed: TypeAlias = "dict[str, Array]"
Where: TypeAlias = (
    "str | os.PathLike[str] | Array | Mapping[str, Array] | Iterable[Any] |"
    " Callable[[], Iterable[Any]] | Samples"
)


class Input(Protocol):
    """What is known of an input; ir.graph.Tensor is one."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> str: ...


class Source(Protocol):
    """Samples in their own form: an array, a tuple of arrays or a mapping by the inputs' names.

    `count` is None where it is known only at the end; then `choose` is the first so many.
    """

    count: int | None

    def read(self, chosen: Sequence[int] | None) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Name and contents of these samples (None: of all), in order; contents are read late."""


class BadSample(ArgumentError):
    """A file that cannot be read or holds something else than a sample."""


class Samples:
    """Feeds of a network, as often as wanted: {input's name: array of its shape and dtype}.

    Iterating raises ArgumentError that names the sample and the input where something does not fit.
    `count`: how many there are, None where only the end of a stream tells. `skipped`: the messages
    of files that were left out in the last pass.
    """

    def __init__(
        self,
        source: Source,
        inputs: Sequence[Input],
        preprocess: Preprocess | None,
        limit: int | None,
        skip_bad: bool,
    ) -> None:
        if limit is not None and limit < 1:
            raise ArgumentError(f"the number of samples must be at least 1, not {limit}")
        self.inputs = tuple(inputs)
        self.preprocess = preprocess
        self.skipped: list[str] = []
        self._source, self._limit, self._skip_bad = source, limit, skip_bad

    @property
    def count(self) -> int | None:
        if self._source.count is None or self._limit is None:
            return self._source.count
        return min(self._source.count, self._limit)

    def few(self, limit: int) -> Samples:
        """At most so many of them, evenly spread where their number is known."""
        limit = limit if self._limit is None else min(limit, self._limit)
        return Samples(self._source, self.inputs, self.preprocess, limit, self._skip_bad)

    def __len__(self) -> int:
        if self.count is None:
            raise TypeError("the number of these samples is known only at their end")
        return self.count

    def __iter__(self) -> Iterator[Feed]:
        return (feed for _, feed in self.named())

    def named(self) -> Iterator[tuple[str, Feed]]:
        """Each feed with the name of its sample: a file, or a number."""
        self.skipped = []
        found = 0
        chosen = None
        if self._source.count is not None and self._limit is not None:
            chosen = spread(self._source.count, self._limit)
        for name, contents in self._source.read(chosen):
            if chosen is None and self._limit is not None and found >= self._limit:
                break
            try:
                feed = self._feed(name, contents())
            except BadSample as error:
                if not self._skip_bad:
                    raise ArgumentError(
                        f"{error}\n(skip_bad=True or --skip-bad leaves such files out and says how "
                        "many)"
                    ) from None
                self.skipped.append(str(error))
                continue
            found += 1
            yield name, feed
        if not found:
            reason = f"all {len(self.skipped)} are bad" if self.skipped else "there are none"
            raise ArgumentError(f"no samples: {reason}")

    # ---- from what a source has to what the network takes

    def _feed(self, name: str, value: Any) -> Feed:
        names = [t.name for t in self.inputs]
        if isinstance(value, Mapping):
            wrong = [f"{k!r}" for k in value if k not in names]
            missing = [f"{k!r}" for k in names if k not in value]
            if wrong or missing:
                raise ArgumentError(
                    f"{name}: the inputs are {names}"
                    + (f"; there is no {', '.join(wrong)}" if wrong else "")
                    + (f"; {', '.join(missing)} is missing" if missing else "")
                )
            parts = [value[k] for k in names]
        else:
            parts = list(value) if isinstance(value, (tuple, list)) else [value]
        if len(parts) != len(names):
            raise ArgumentError(
                f"{name}: {len(parts)} arrays for {len(names)} inputs {names}; "
                "give a tuple in their order or a dict by name"
            )
        return {t.name: self._array(name, t, part) for t, part in zip(self.inputs, parts)}

    def _array(self, name: str, t: Input, value: Any) -> Array:
        a: Array = np.asarray(value)
        what = f"{name}: input {t.name!r}"
        if self.preprocess is not None and is_photo(a, t):
            return self.preprocess.apply(a, t.shape)
        if a.dtype.kind not in "biuf":
            raise ArgumentError(f"{what}: {type(value).__name__} is not an array of numbers")
        missing = len(t.shape) - a.ndim
        if missing > 0 and (1,) * missing == t.shape[:missing]:
            a = a.reshape((1,) * missing + a.shape)
        if a.shape != t.shape:
            raise ArgumentError(
                f"{what}: expected {t.dtype} {t.shape}, given {a.dtype} {np.shape(value)}"
                + _shape_hint(a, t)
            )
        if not np.isfinite(a).all():
            raise ArgumentError(f"{what}: it holds NaN or infinities")
        dtype = np.dtype(t.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            found: Array = a.astype(dtype)
        if dtype.kind != "f" and not np.array_equal(found, a):
            raise ArgumentError(f"{what}: {a.dtype} values that {dtype} cannot hold")
        if not np.isfinite(found).all():
            raise ArgumentError(f"{what}: values beyond {dtype}")
        return found


def is_photo(a: Array, t: Input) -> bool:
    """Whether preprocessing applies: uint8 (H, W, 3) for an input that can be a picture."""
    try:
        picture_shape(t.shape)
    except ArgumentError:
        return False
    return a.dtype == np.uint8 and a.ndim == 3 and a.shape[2] == 3


def _shape_hint(a: Array, t: Input) -> str:
    if a.ndim == len(t.shape) == 4:
        for perm, text in (((0, 3, 1, 2), "first"), ((0, 2, 3, 1), "last")):
            if a.transpose(perm).shape == t.shape:
                return f"; the network wants channels {text}"
    if a.ndim == len(t.shape) and a.shape[1:] == t.shape[1:]:
        return "; give one sample at a time, or an array of them as .npy"
    return ""


def spread(count: int, limit: int) -> list[int]:
    """At most `limit` numbers below `count`, evenly spread."""
    return [i * count // limit for i in range(limit)] if limit < count else list(range(count))


def open_samples(
    where: Where,
    inputs: Sequence[Input],
    preprocess: Preprocess | str | None = None,
    limit: int | None = None,
    *,
    skip_bad: bool = False,
) -> Samples:
    """Samples for `inputs` (name, shape, dtype; ir tensors are fine).

    `where`:

    - a folder of pictures, of .npy and .npz files, or of .wav files, with all its folders, in the
      order of their paths; or one such file. Pictures need `preprocess`. A .npy file holds one
      sample or (N, ...) of them, an .npz one array for each input under its name, or ``x``. Sound
      is cut into windows of the input's length: 8, 16, 24 or 32 bit PCM to floats in [-1, 1), the
      mean of its channels.
    - a Python file with a function ``samples()`` that yields, or an iterable ``SAMPLES`` of arrays,
      tuples of arrays in the inputs' order, or dicts by name;
    - an array (N, ...), a mapping of such by input, an iterable (not an iterator: it is read more
      than once) or a callable that makes one, of the same.

    With `preprocess`, uint8 arrays (H, W, 3) from any of these are pictures, too. `limit`: at most
    so many, evenly spread where their number is known, else the first ones. `skip_bad`: files that
    cannot be read are left out.

    Raises ArgumentError, DependencyError without pillow, OSError.
    """
    from .sources import open_source

    if isinstance(where, Samples):
        return where
    if isinstance(preprocess, str):
        preprocess = Preprocess.parse(preprocess)
    if not inputs:
        raise ArgumentError("the network has no inputs")
    return Samples(open_source(where, inputs, preprocess), inputs, preprocess, limit, skip_bad)


def track(
    samples: Samples,
    tell: Callable[[str, float], None],
    what: str = "calibrating",
    begin: float = 0.0,
    end: float = 1.0,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[tuple[str, Feed]]:
    """As samples.named(); tells before each how far it is and, after a second, the time left."""
    start = clock()
    count = samples.count
    for i, (name, feed) in enumerate(samples.named()):
        if count is None:
            tell(f"{what}: sample {i + 1}", begin)
        else:
            elapsed = clock() - start
            left = f", {_left(elapsed / i * (count - i))} left" if i and elapsed >= 1 else ""
            tell(f"{what}: {i + 1} of {count}{left}", begin + (end - begin) * i / count)
        yield name, feed
    tell(what, end)


def _left(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60}:{whole % 60:02d} min" if whole < 3600 else f"{whole / 3600:.1f} h"
