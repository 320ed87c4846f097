# SPDX-License-Identifier: Apache-2.0
"""What a network wants of a picture: fit, channel order, mean and std."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ArgumentError
from .resample import CROP_ONE, Pixels, fit_picture

Floats = npt.NDArray[np.float32]

FITS, ORDERS = ("stretch", "crop", "pad"), ("rgb", "bgr", "gray")
_SCALINGS: dict[str, tuple[str, tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ("rgb", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "tf": ("", (127.5,), (127.5,)),
    "unit": ("", (0.0,), (255.0,)),
    "raw": ("", (0.0,), (1.0,)),
    "lite": ("", (127.0,), (128.0,)),
    "caffe": ("bgr", (103.939, 116.779, 123.68), (1.0,)),
}


@dataclass(frozen=True)
class Preprocess:
    """How a picture of uint8 pixels becomes an input.

    `fit`: ``"stretch"``: both sides to the input's; ``"crop"``: cut to the input's shape around the
    centre, then resized (shorter side, then centre crop); ``"pad"``: resized as a whole, the RGB
    colour `pad` around it. `crop`: the central part that is kept of each side, before resizing.
    `order`: ``"rgb"``, ``"bgr"`` or ``"gray"``; ``""``: rgb, or gray where there is one channel.

    Channel c of the input is (pixel - mean[c]) / std[c]: one number for all, or one a channel in
    the network's own order, in units of pixels from 0 to 255.

    Raises ArgumentError for values that make no sense.
    """

    fit: str = "stretch"
    crop: float = 1.0
    pad: tuple[int, int, int] = (0, 0, 0)
    order: str = ""
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise ArgumentError(f"fit must be one of {', '.join(FITS)}, not {self.fit!r}")
        if self.order not in (*ORDERS, ""):
            raise ArgumentError(f"order must be one of {', '.join(ORDERS)}, not {self.order!r}")
        if not 1 / CROP_ONE <= self.crop <= 1:
            raise ArgumentError(f"crop must be a fraction above 0 and at most 1, not {self.crop}")
        if len(self.pad) != 3 or not all(v in range(256) for v in self.pad):
            raise ArgumentError(f"pad must be 3 numbers from 0 to 255, not {self.pad}")
        if any(self.pad) and self.fit != "pad":
            raise ArgumentError(f"pad is a colour, but fit={self.fit} pads nothing")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, 3) or not np.isfinite(values).all():
                raise ArgumentError(f"{name} must be 1 or 3 numbers, not {values}")
        if not all(abs(v) > 1e-30 for v in self.std):
            raise ArgumentError(f"std must not be 0, given {self.std}")

    @staticmethod
    def parse(text: str) -> Preprocess:
        """From a preset, options ``key=value``, or a preset and options, separated by commas.

        Presets: imagenet, tf, unit, raw, lite, caffe. Numbers of one option are separated by
        colons: ``tf,crop=0.875``, ``mean=123.7:116.3:103.5,std=58.4,order=bgr,fit=crop``.
        Raises ArgumentError.
        """
        found = Preprocess()
        given: dict[str, Any] = {}
        for word in text.split(","):
            key, separator, value = (part.strip() for part in word.partition("="))
            if not separator and key in _SCALINGS:
                order, mean, std = _SCALINGS[key]
                found = replace(found, order=order, mean=mean, std=std)
            elif separator and key in _READ:
                if key in given:
                    raise ArgumentError(f"preprocess {text!r}: {key} is given twice")
                given[key] = _value(text, key, value)
            else:
                raise ArgumentError(
                    f"preprocess {text!r}: {word!r} is neither a preset ({', '.join(_SCALINGS)}) "
                    f"nor one of {', '.join(f'{key}=' for key in _READ)}"
                )
        if "pad" in given:
            given.setdefault("fit", "pad")
        return replace(found, **given)

    def __str__(self) -> str:
        """What parse() understands; only what differs from the defaults, "raw" if nothing does."""
        default = Preprocess()
        words = []
        for f in fields(self):
            value = getattr(self, f.name)
            if value != getattr(default, f.name):
                values = value if isinstance(value, tuple) else (value,)
                words.append(f"{f.name}=" + ":".join(_short(v) for v in values))
        return ",".join(words) or "raw"

    def order_of(self, channels: int) -> str:
        """The order for so many channels."""
        order = self.order or ("gray" if channels == 1 else "rgb")
        if (order == "gray") != (channels == 1):
            raise ArgumentError(f"order={order}, but the input has {channels} channels")
        return order

    def values(self, channels: int) -> Floats:
        """[C][256]: what the network sees for each value of a pixel, in binary32."""
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if len(numbers) not in (1, channels):
                raise ArgumentError(
                    f"{name} has {len(numbers)} numbers, the input {channels} channels"
                )
        mean = np.broadcast_to(np.array(self.mean, np.float32), (channels,))[:, None]
        std = np.broadcast_to(np.array(self.std, np.float32), (channels,))[:, None]
        found: Floats = (np.arange(256, dtype=np.float32) - mean) / std
        return found

    def table(
        self, channels: int, scale: float, zero_point: int, dtype: str
    ) -> npt.NDArray[np.int8] | npt.NDArray[np.int16]:
        """[C][256]: the same, quantized to `dtype` as a float32 array is at the edge."""
        info = np.iinfo(dtype)
        with np.errstate(over="ignore"):
            q = self.values(channels) / np.float32(scale)
        whole = np.clip(np.trunc(q), -1e6, 1e6)
        rest = np.where(np.abs(q) <= 1e6, q - whole, 0)
        n = whole.astype(np.int64) + (rest >= 0.5) - (rest <= -0.5) + zero_point
        table: npt.NDArray[Any] = np.clip(n, info.min, info.max).astype(dtype)
        return table

    def pixels(self, rgb: Pixels, shape: Sequence[int]) -> Pixels:
        """uint8 pixels in the shape of the input, channels in the network's order."""
        height, width, channels, first = picture_shape(shape)
        order = self.order_of(channels)
        crop = round(self.crop * CROP_ONE)
        found = fit_picture(rgb, height, width, self.fit, crop, self.pad, order == "gray")
        if order == "bgr":
            found = found[..., ::-1]
        return (found.transpose(2, 0, 1) if first else found).reshape(shape)

    def apply(self, rgb: Pixels, shape: Sequence[int]) -> Floats:
        """The input for a picture (H, W, 3): what the device computes, before quantization."""
        _, _, channels, first = picture_shape(shape)
        index = np.arange(channels).reshape((channels, 1, 1) if first else (channels,))
        found: Floats = self.values(channels)[index, self.pixels(rgb, shape)]
        return found


def picture_shape(shape: Sequence[int]) -> tuple[int, int, int, bool]:
    """Height, width, channels of an input, and whether its channels come first.

    Raises ArgumentError unless it is (1, H, W, C) or (1, C, H, W) with 1 or 3 channels.
    """
    if len(shape) == 4 and shape[0] == 1:
        if shape[3] in (1, 3):
            return shape[1], shape[2], shape[3], False
        if shape[1] in (1, 3):
            return shape[2], shape[3], shape[1], True
    raise ArgumentError(
        f"a picture needs an input of shape (1, H, W, C) or (1, C, H, W) with 1 or 3 channels, "
        f"not {tuple(shape)}"
    )


def _short(value: float | str) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _numbers(value: str) -> tuple[float, ...]:
    return tuple(float(number) for number in value.split(":"))


def _colour(value: str) -> tuple[int, ...]:
    numbers = tuple(int(number) for number in value.split(":"))
    return numbers * 3 if len(numbers) == 1 else numbers


_READ: dict[str, Callable[[str], Any]] = {
    "fit": str,
    "crop": float,
    "pad": _colour,
    "order": str,
    "mean": _numbers,
    "std": _numbers,
}


def _value(text: str, key: str, value: str) -> Any:
    try:
        return _READ[key](value)
    except ValueError:
        raise ArgumentError(f"preprocess {text!r}: {key}={value} is not a number") from None
