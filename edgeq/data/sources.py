# SPDX-License-Identifier: Apache-2.0
"""Where samples come from: folders and files of pictures, arrays and sound, Python."""

from __future__ import annotations

import os
import runpy
import sys
import traceback
import wave
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError, DependencyError
from .pictures import ENDINGS, read_rgb
from .preprocess import Preprocess, picture_shape
from .samples import Array, BadSample, Input, Source, is_photo

Contents = Callable[[], Any]
_KINDS = {
    **dict.fromkeys(ENDINGS, "pictures"),
    ".npy": "arrays",
    ".npz": "arrays",
    ".wav": "sounds",
}


def open_source(
    given: Any,
    inputs: Sequence[Input],
    preprocess: Preprocess | None,
    where: str = "the samples",
) -> Source:
    """The samples that open_samples() was given; `where` is their name in errors."""
    if isinstance(given, (str, os.PathLike)):
        return _open_path(Path(given), inputs, preprocess)
    if isinstance(given, np.ndarray):
        return Arrays([(where, _Held({"": given}, inputs, where))], inputs)
    if isinstance(given, Mapping):
        return Arrays([(where, _Held(dict(given), inputs, where))], inputs)
    if callable(given):
        return Stream(given, where)
    if not isinstance(given, Iterable) and _length(given) is not None:
        given = _Indexed(given)
    if not isinstance(given, Iterable):
        raise ArgumentError(f"{where}: samples cannot come from a {type(given).__name__}")
    if iter(given) is given:
        raise ArgumentError(
            f"{where} are read more than once, and an iterator or generator is empty then: "
            "give the function that makes it, or a list"
        )
    return Stream(lambda: given, where, _length(given))


class _Indexed:
    """What has a length and an index alone, as data sets of some libraries have."""

    def __init__(self, given: Any) -> None:
        self._given = given

    def __len__(self) -> int:
        return len(self._given)

    def __getitem__(self, i: int) -> Any:
        return self._given[i]

    def __iter__(self) -> Iterator[Any]:
        return (self._given[i] for i in range(len(self._given)))


def _length(given: Any) -> int | None:
    """Of what can be indexed."""
    return len(given) if hasattr(given, "__len__") and hasattr(given, "__getitem__") else None


def _open_path(path: Path, inputs: Sequence[Input], preprocess: Preprocess | None) -> Source:
    if path.is_dir():
        files = _files(path)
        kinds = sorted({_KINDS[f.suffix.lower()] for f in files})
        if not kinds:
            raise ArgumentError(f"{path}: no pictures, .npy, .npz or .wav files in this folder")
        if len(kinds) > 1:
            raise ArgumentError(
                f"{path}: {' and '.join(kinds)} in this folder and below; give a folder with one "
                "kind of samples"
            )
    else:
        with open(path, "rb"):  # the usual error if it cannot be
            pass
        if path.suffix.lower() == ".py":
            return _python(path, inputs, preprocess)
        files, kinds = [path], [_KINDS.get(path.suffix.lower(), "")]
        if not kinds[0]:
            raise ArgumentError(
                f"{path}: samples are a folder, a picture, an .npy, .npz, .wav or .py file"
            )
    if kinds[0] == "pictures":
        return Pictures(path, files, inputs, preprocess)
    if kinds[0] == "sounds":
        return Sounds(files, inputs)
    return Arrays([(str(f), _Stored(f, inputs)) for f in files], inputs)


def _files(folder: Path) -> list[Path]:
    """The samples in a folder and all below, sorted by path, hidden ones left out."""
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".")]
        found += [
            Path(root, n)
            for n in names
            if not n.startswith(".") and Path(n).suffix.lower() in _KINDS
        ]
    return sorted(found, key=lambda p: p.relative_to(folder).parts)


class Pictures:
    """One sample a file."""

    def __init__(
        self,
        where: Path,
        files: Sequence[Path],
        inputs: Sequence[Input],
        preprocess: Preprocess | None,
    ) -> None:
        if len(inputs) != 1:
            raise ArgumentError(
                f"{where}: pictures for a network of {len(inputs)} inputs; a Python file can give "
                "all of them"
            )
        height, width, _, _ = picture_shape(inputs[0].shape)
        if preprocess is None:
            raise ArgumentError(
                f"{where}: pictures need to be cut to {width} x {height} and scaled as in "
                "training: say how, as in --preprocess tf (x / 127.5 - 1), unit (x / 255), "
                "imagenet, raw"
            )
        self.count: int | None = len(files)
        self._files = files

    def read(self, chosen: Sequence[int] | None) -> Iterator[tuple[str, Contents]]:
        for i in range(len(self._files)) if chosen is None else chosen:
            file = self._files[i]
            yield str(file), partial(_read_picture, file)


def _read_picture(file: Path) -> Array:
    try:
        return read_rgb(file)
    except DependencyError:
        raise
    except (ArgumentError, OSError) as error:
        raise BadSample(str(error)) from None


# ---- arrays


class _Held:
    """Arrays of one or N samples each: by the inputs' names, or one under any name."""

    def __init__(self, arrays: Mapping[str, Array], inputs: Sequence[Input], where: str) -> None:
        names = [t.name for t in inputs]
        keys = list(arrays)
        if len(names) == 1 and len(keys) == 1 and keys[0] not in names and keys[0] in ("", "x"):
            arrays = {names[0]: arrays[keys[0]]}
        elif len(names) == 1 and "x" in keys and names[0] not in keys:
            arrays = {names[0]: arrays["x"]}
        missing = [n for n in names if n not in arrays]
        if missing:
            raise ArgumentError(f"{where}: no array {missing[0]!r}, there is {keys}")
        self._parts = [_split(arrays[t.name], t, where) for t in inputs]
        counts = {len(part) for part in self._parts}
        if len(counts) > 1:
            raise ArgumentError(
                f"{where}: {', '.join(f'{len(p)} of {n!r}' for p, n in zip(self._parts, names))}; "
                "every input needs as many samples"
            )
        self.count = counts.pop()

    def get(self, i: int) -> tuple[Array, ...]:
        return tuple(np.array(part[i]) for part in self._parts)


def _split(given: Any, t: Input, where: str) -> Array:
    """(N, ...) of an array that holds one sample or N."""
    a: Array = np.asanyarray(given)  # of a mapped file: not read yet
    shape = tuple(t.shape)
    short = shape[next((i for i, d in enumerate(shape) if d != 1), len(shape)) :]
    one = [shape[i:] for i in range(len(shape) - len(short) + 1)]  # with leading 1s or without
    if a.shape in one or is_photo(a, t):
        return a[None]
    if a.ndim and (a.shape[1:] in one or (len(a) and is_photo(a[0], t))):
        return a
    raise ArgumentError(
        f"{where}: input {t.name!r} needs {t.dtype} {shape} or {('N', *shape[1:])}, "
        f"given {a.dtype} {a.shape}"
    )


class _Stored:
    """An .npy file, mapped, or an .npz file, kept while its samples are read."""

    def __init__(self, file: Path, inputs: Sequence[Input]) -> None:
        self._file, self._inputs = file, inputs
        self._known: int | None = None

    @property
    def count(self) -> int:
        if self._known is None:
            self._known = self.open().count
        return self._known

    def open(self) -> _Held:
        try:
            if self._file.suffix.lower() == ".npy":
                arrays = {"": np.load(self._file, mmap_mode="r", allow_pickle=False)}
            else:
                with np.load(self._file, allow_pickle=False) as archive:
                    names = {t.name for t in self._inputs} | {"x"}
                    wanted = [k for k in archive.files if k in names] or archive.files
                    arrays = {k: archive[k] for k in wanted}
        except (ValueError, OSError, EOFError, KeyError) as error:
            raise BadSample(f"{self._file}: not an array file: {error}") from None
        except Exception as error:  # zipfile and zlib have errors of their own
            raise BadSample(f"{self._file}: a damaged array file: {error}") from None
        return _Held(arrays, self._inputs, str(self._file))


class Arrays:
    """The samples of one array or file after the other."""

    def __init__(
        self, parts: Sequence[tuple[str, _Held | _Stored]], inputs: Sequence[Input]
    ) -> None:
        self._parts = parts
        self._single = len(inputs) == 1
        self._places: list[tuple[int, int]] = []  # part, number in it; -1: it cannot be read
        for k, (_, part) in enumerate(parts):
            try:
                self._places += [(k, i) for i in range(part.count)]
            except BadSample:
                self._places.append((k, -1))
        self.count: int | None = len(self._places)

    def read(self, chosen: Sequence[int] | None) -> Iterator[tuple[str, Contents]]:
        last, held = -1, None
        for place in range(len(self._places)) if chosen is None else chosen:
            k, i = self._places[place]
            name, part = self._parts[k]
            if i < 0 and isinstance(part, _Stored):
                yield name, part.open  # which fails
                continue
            if k != last:
                last, held = k, part.open() if isinstance(part, _Stored) else part
            assert held is not None
            yield name if held.count == 1 else f"{name}[{i}]", partial(held.get, i)


# ---- sound


class Sounds:
    """Windows of as many samples as the input has elements."""

    def __init__(self, files: Sequence[Path], inputs: Sequence[Input]) -> None:
        shape = inputs[0].shape
        sizes = [d for d in shape if d > 1]
        if len(inputs) != 1 or len(sizes) != 1:
            what = f"of shape {shape}" if len(inputs) == 1 else f"and {len(inputs) - 1} more"
            raise ArgumentError(
                f"{files[0]}: sound fits an input of (1, samples); this network's input {what} "
                "takes something made from it (spectrogram, MFCC, state): that is its own, give a "
                "Python file whose samples() does it as in training"
            )
        self._files, self._shape, self._window = files, shape, sizes[0]
        self._places: list[tuple[int, int]] = []
        rates: dict[int, Path] = {}
        for k, file in enumerate(files):
            try:
                frames, rate = _wav_size(file)
            except BadSample:
                self._places.append((k, -1))
                continue
            rates.setdefault(rate, file)
            self._places += [(k, i) for i in range(max(1, frames // self._window))]
        if len(rates) > 1:
            (a, first), (b, second) = list(rates.items())[:2]
            raise ArgumentError(
                f"{second}: {b} samples a second, {first} has {a}; sound is not resampled"
            )
        self.count: int | None = len(self._places)

    def read(self, chosen: Sequence[int] | None) -> Iterator[tuple[str, Contents]]:
        for place in range(len(self._places)) if chosen is None else chosen:
            k, i = self._places[place]
            file = self._files[k]
            name = str(file) if i <= 0 else f"{file}[{i}]"
            yield name, partial(self._read, file, i)

    def _read(self, file: Path, window: int) -> Array:
        sound = read_wav(file, max(window, 0) * self._window, self._window)
        return np.pad(sound, (0, self._window - len(sound))).reshape(self._shape)


def _wav_size(file: Path) -> tuple[int, int]:
    """Frames and frames a second."""
    with _opened(file) as sound:
        return sound.getnframes(), sound.getframerate()


def _opened(file: Path) -> wave.Wave_read:
    try:
        return wave.open(str(file), "rb")
    except (wave.Error, EOFError) as error:
        raise BadSample(f"{file}: not a WAV file of integers (PCM): {error}") from None
    except OSError as error:
        raise BadSample(f"{file}: {error}") from None


def read_wav(file: Path, first: int, count: int) -> Array:
    """At most `count` samples from number `first` on, float32 in [-1, 1), the mean of the channels.

    Raises ArgumentError unless it is PCM of 8, 16, 24 or 32 bits.
    """
    with _opened(file) as sound:
        width, channels = sound.getsampwidth(), sound.getnchannels()
        try:
            sound.setpos(min(first, sound.getnframes()))
            content = sound.readframes(count)
        except (wave.Error, EOFError) as error:
            raise BadSample(f"{file}: a damaged WAV file: {error}") from None
    content = content[: len(content) // (width * channels) * width * channels]
    if width == 1:
        values = np.frombuffer(content, np.uint8).astype(np.float64) - 128
    elif width == 3:
        three = np.frombuffer(content, np.uint8).reshape(-1, 3)
        four = np.zeros((len(three), 4), np.uint8)
        four[:, 1:] = three
        values = four.reshape(-1).view("<i4") / 256.0
    elif width in (2, 4):
        values = np.frombuffer(content, f"<i{width}").astype(np.float64)
    else:
        raise BadSample(f"{file}: {8 * width} bits a sample; 8, 16, 24 and 32 can be read")
    mean = values.reshape(-1, channels).mean(1) / 2.0 ** (8 * width - 1)
    found: Array = mean.astype(np.float32)
    return found


# ---- Python


class Stream:
    """What a callable yields, called once a pass. Contents are those of the caller's code."""

    def __init__(
        self, make: Callable[[], Iterable[Any]], where: str, count: int | None = None
    ) -> None:
        self.count = count
        self._make, self._where = make, where

    def read(self, chosen: Sequence[int] | None) -> Iterator[tuple[str, Contents]]:
        values = self._call(self._make)
        if chosen is not None:
            for i in chosen:
                yield f"sample {i}", partial(self._call, partial(values.__getitem__, i))
            return
        if not isinstance(values, Iterable) or isinstance(values, (str, bytes)):
            raise ArgumentError(
                f"{self._where}: expected something that yields samples, not a "
                f"{type(values).__name__}"
            )
        iterator = self._call(lambda: iter(values))
        done = object()
        i = 0
        try:
            while (value := self._call(lambda: next(iterator, done))) is not done:
                yield f"sample {i}", partial(_same, value)
                i += 1
        finally:
            if hasattr(iterator, "close"):
                iterator.close()

    def _call(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Exception as error:
            raise ArgumentError(f"{self._where}: {_told(error)}") from error


def _same(value: Any) -> Any:
    return value


def _told(error: BaseException) -> str:
    """Where in the user's code it happened, and what."""
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if not f.filename.startswith(os.path.dirname(__file__)) and "runpy" not in f.filename
    ]
    place = (
        f"line {frames[-1].lineno} of {os.path.basename(frames[-1].filename)}: " if frames else ""
    )
    if isinstance(error, SyntaxError):
        place = f"line {error.lineno}: "
    return f"{place}{type(error).__name__}: {error}"


def _python(path: Path, inputs: Sequence[Input], preprocess: Preprocess | None) -> Source:
    """A Python file with samples() or SAMPLES; its folder can be imported from."""
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        names = runpy.run_path(str(path), run_name="edgeq_samples")
    except SystemExit as error:
        raise ArgumentError(f"{path}: it exits ({error.code}) when it is run") from None
    except Exception as error:
        raise ArgumentError(f"{path}: {_told(error)}") from error
    if callable(names.get("samples")):
        return Stream(names["samples"], str(path))
    if "SAMPLES" in names:
        return open_source(names["SAMPLES"], inputs, preprocess, str(path))
    raise ArgumentError(
        f"{path}: neither a function samples() nor an iterable SAMPLES in it; what it yields are "
        "arrays, tuples of arrays or dicts by the inputs' names"
    )
