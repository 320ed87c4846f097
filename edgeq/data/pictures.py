# SPDX-License-Identifier: Apache-2.0
"""Picture files to pixels, by pillow."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np

from ..errors import ArgumentError, DependencyError
from .resample import Pixels

_NAMES = "bmp|gif|jpeg|jpg|pbm|pgm|png|pnm|ppm|tga|tif|tiff|webp"
ENDINGS = frozenset(f".{name}" for name in _NAMES.split("|"))


def read_rgb(path: str | os.PathLike[str]) -> Pixels:
    """The upright picture in a file as (H, W, 3): red, green, blue; transparency is left out.

    Raises ArgumentError for what is no picture, is damaged, or has more than 8 bits a channel;
    DependencyError without pillow; OSError where the file cannot be read.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise DependencyError(
            "pictures need pillow: pip install pillow (or edgeq[convert])"
        ) from None
    name, content = os.fspath(path), io.BytesIO(Path(path).read_bytes())
    try:
        with Image.open(content) as file:
            if file.mode in ("I", "F") or file.mode.startswith("I;"):
                raise ArgumentError(
                    f"{name}: a picture of mode {file.mode}, 8 bits a channel are needed"
                )
            upright = ImageOps.exif_transpose(file) or file
            return np.asarray(upright.convert("RGB"), np.uint8)
    except ArgumentError:
        raise
    except UnidentifiedImageError:
        raise ArgumentError(f"{name}: not a picture") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ArgumentError(f"{name}: a damaged picture: {error}") from None
