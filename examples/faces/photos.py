# SPDX-License-Identifier: Apache-2.0
"""Calibration pictures for a face detector: crops of the photos that scikit-image brings along.

``edgeq convert --calibrate examples/faces/photos.py`` calls samples(). The astronaut is not among
them: that is the picture on which the detector is tried. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage import data

Picture = npt.NDArray[np.uint8]

PHOTOS = ("camera", "chelsea", "coffee", "coins", "rocket")
CROPS = 8  # of each photo
PORTRAITS = 60
FACES = 100  # lfw_subset: 25 x 25 pixels each, these show faces, the rest does not
SIZE = 256


def samples() -> Iterator[Picture]:
    """Pictures (256, 256, 3), 100 of them, the same ones every time."""
    rng = np.random.default_rng(0)
    photos = [_rgb(getattr(data, name)()) for name in PHOTOS]
    for photo in photos:
        for _ in range(CROPS):
            yield _crop(photo, rng)
    small = np.round(data.lfw_subset()[:FACES] * 255).astype(np.uint8)
    for face in rng.choice(small, PORTRAITS, replace=False):
        yield _portrait(face, _crop(photos[rng.integers(len(photos))], rng), rng)


def _rgb(photo: Picture) -> Picture:
    return np.repeat(photo[..., None], 3, axis=2) if photo.ndim == 2 else photo[..., :3]


def _crop(photo: Picture, rng: np.random.Generator) -> Picture:
    """A square from anywhere, 40 to 100 % of the shorter side, mirrored every other time."""
    side = int(min(photo.shape[:2]) * rng.uniform(0.4, 1.0))
    top, left = (int(rng.integers(0, size - side + 1)) for size in photo.shape[:2])
    part = photo[top : top + side, left : left + side]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    return np.asarray(Image.fromarray(np.ascontiguousarray(part)).resize((SIZE, SIZE)))


def _portrait(face: Picture, background: Picture, rng: np.random.Generator) -> Picture:
    """A face, tinted like skin, on a background."""
    size = int(rng.integers(70, 200))
    left, top = (int(v) for v in rng.integers(0, SIZE - size, 2))
    large = np.asarray(Image.fromarray(face).resize((size, size), Image.Resampling.BICUBIC))
    tint = rng.uniform((0.9, 0.7, 0.55), (1.1, 0.9, 0.8))
    picture = background.copy()
    picture[top : top + size, left : left + size] = np.clip(large[..., None] * tint, 0, 255)
    return picture
