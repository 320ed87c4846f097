# SPDX-License-Identifier: Apache-2.0
"""Files of pictures, sound and arrays to arrays that fit an input."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.pictures import ENDINGS, read_rgb
from ..data.resample import CROP_ONE, Pixels, fit_picture
from ..errors import ArgumentError
from ..runtime.model import TensorInfo

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scaling:
    """real = (pixel - mean) / std, one number or one a channel; None: the rule of picture()."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def given(self) -> bool:
        return self.mean is not None or self.std is not None

    def __call__(self, pixels: Array) -> Floats:
        """uint8 pixels (..., C) as float32."""
        for values in (self.mean, self.std):
            if values is not None and len(values) not in (1, pixels.shape[-1]):
                raise ArgumentError(
                    f"--mean and --std take 1 number or one a channel, "
                    f"{pixels.shape[-1]} here, not {len(values)}"
                )
        mean = np.array(self.mean or (0.0,), np.float32)
        std = np.array(self.std or (255.0,), np.float32)
        return (pixels.astype(np.float32) - mean) / std


def is_picture(path: Path) -> bool:
    """By its ending."""
    return path.suffix.lower() in ENDINGS


def read(path: Path, t: TensorInfo, scaling: Scaling) -> Array:
    """The array in a file, in the shape of `t` and a dtype that Session.run() takes.

    Raises ArgumentError where it does not fit, DependencyError without pillow, OSError.
    """
    ending = path.suffix.lower()
    if ending == ".npy":
        return array(path, t)
    if ending == ".wav":
        return sound(path, t)
    if ending in (".bin", ".raw"):
        return raw(path, t)
    return picture(path, t, scaling)


def picture(path: Path, t: TensorInfo, scaling: Scaling) -> Array:
    """A picture, resized to the input's (N = 1, H, W, C = 1 or 3), bilinear, grey if C is 1.

    uint8: the pixels. int8: pixel - 128, which is what TFLite's quantized networks expect. float32:
    pixel / 255. With mean or std: (pixel - mean) / std, quantized by the input's scale and zero
    point where it is not float32.
    """
    dims = t.shape[1:] if len(t.shape) == 4 and t.shape[0] == 1 else t.shape
    if len(dims) == 2:
        dims = (*dims, 1)
    if len(dims) != 3 or dims[2] not in (1, 3):
        raise ArgumentError(
            f"{path}: a picture needs an input of shape (1, H, W, 1 or 3), {t} is not one; "
            "give an array as .npy"
        )
    pixels = _pixels(path, dims[0], dims[1], dims[2]).reshape(t.shape)
    if scaling.given or t.dtype == np.float32:
        return scaling(pixels)
    if t.dtype == np.uint8:
        return pixels
    if t.dtype == np.int8:
        return (pixels ^ np.uint8(0x80)).view(np.int8)
    raise ArgumentError(f"{path}: a picture cannot be given to {t}")


def _pixels(path: Path, height: int, width: int, channels: int) -> Pixels:
    return fit_picture(read_rgb(path), height, width, "stretch", CROP_ONE, (0, 0, 0), channels == 1)


def array(path: Path, t: TensorInfo) -> Array:
    """An .npy file of the input's shape (leading 1s may be missing) and dtype, or floats."""
    try:
        a: Array = np.load(path, allow_pickle=False)
    except ValueError as error:
        raise ArgumentError(f"{path}: {error}") from None
    if a.dtype.kind == "f" and a.dtype != np.float32:
        a = a.astype(np.float32)
    if a.dtype != t.dtype and a.dtype.kind in "iu" and t.dtype.kind in "iu":
        narrow = a.astype(t.dtype)
        if not np.array_equal(narrow, a):
            raise ArgumentError(f"{path}: {a.dtype} values that {t} cannot hold")
        a = narrow
    return _fit(path, a, t)


def sound(path: Path, t: TensorInfo) -> Array:
    """A 16-bit mono .wav file of as many samples as the input has elements.

    int16 inputs without a scale get the samples as they are, others sample / 32768.
    """
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != 2 or file.getnchannels() != 1:
                raise ArgumentError(
                    f"{path}: expected 16-bit mono, given {8 * file.getsampwidth()}-bit with "
                    f"{file.getnchannels()} channels"
                )
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    except (wave.Error, EOFError) as error:
        raise ArgumentError(f"{path}: {error}") from None
    if samples.size != t.size:
        raise ArgumentError(
            f"{path}: expected {t.size} samples for {t}, given {samples.size}; "
            "a network that takes features needs them as .npy"
        )
    if t.dtype == np.int16 and not t.scale:
        return samples.astype(np.int16).reshape(t.shape)
    return (samples.astype(np.float32) / np.float32(32768)).reshape(t.shape)


def raw(path: Path, t: TensorInfo) -> Array:
    """A file of exactly the input's bytes, little-endian, in the input's dtype."""
    content = path.read_bytes()
    expected = t.size * t.dtype.itemsize
    if len(content) != expected:
        raise ArgumentError(f"{path}: expected {expected} bytes for {t}, given {len(content)}")
    return np.frombuffer(content, t.dtype.newbyteorder("<")).astype(t.dtype).reshape(t.shape)


def _fit(path: Path, a: Array, t: TensorInfo) -> Array:
    missing = len(t.shape) - a.ndim
    if missing > 0 and (1,) * missing + a.shape == t.shape:
        a = a.reshape(t.shape)
    if a.shape != t.shape:
        raise ArgumentError(f"{path}: expected {t}, given {a.dtype} {a.shape}")
    return a
