# SPDX-License-Identifier: Apache-2.0
"""Pictures to inputs: on the device as in calibration, as pillow resizes, as the text says."""

from __future__ import annotations

import dataclasses
import json
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Rng
from hypothesis import given
from hypothesis import strategies as st
from programs import DIGITS, passing

import edgeq
from edgeq.converter import _add_pictures
from edgeq.data.pictures import read_rgb
from edgeq.data.preprocess import Preprocess, picture_shape
from edgeq.data.resample import fit_picture, resize
from edgeq.format.program import Program
from edgeq.format.reader import read_program
from edgeq.format.writer import write_program

Image = pytest.importorskip("PIL.Image")
PICTURE = DIGITS.with_name("digit_3.png")


def network(
    shape: tuple[int, ...], wanted: Any, dtype: str = "int8", scale: float = 0.008
) -> Program:
    """Hands its input through, and carries preprocessing."""
    zero = {"int16": 0, "uint8": 125}.get(dtype, -3)
    program = passing(("x", dtype, shape, scale, zero))
    _add_pictures(program, wanted)
    return program


def session(*arguments: Any) -> edgeq.Session:
    return edgeq.load(write_program(network(*arguments)))


def noise(rng: Rng, height: int, width: int) -> np.ndarray:
    return rng.integers(0, 256, (height, width, 3)).astype(np.uint8)


def expected(wanted: Preprocess, rgb: np.ndarray, shape: tuple[int, ...], program: Program) -> Any:
    """By numpy: pixels, then the table."""
    port = program.inputs[0]
    _, _, channels, first = picture_shape(shape)
    table = wanted.table(channels, port.value.scale, port.value.zero_point, port.value.dtype)
    index = np.arange(channels).reshape((channels, 1, 1) if first else (channels,))
    return table[index, wanted.pixels(rgb, shape)]


# ---- the device against numpy


def random_preprocess(rng: Rng, channels: int) -> Preprocess:
    fit = str(rng.choice(["stretch", "crop", "pad"]))
    order = "gray" if channels == 1 else str(rng.choice(["rgb", "bgr"]))
    pad = tuple(map(int, rng.integers(0, 256, 3))) if fit == "pad" else (0, 0, 0)
    count = int(rng.choice([1, channels]))
    mean, std = rng.uniform(0, 255, count), rng.uniform(20, 255, count)
    crop = float(rng.choice([1, 0.875, 0.5, 0.01]))
    return Preprocess(fit, crop, pad, order, tuple(mean), tuple(std))


def test_the_device_does_what_calibration_does(rng: Rng) -> None:
    """All fits, orders, layouts and dtypes; pictures larger, smaller and of the same size."""
    for _ in range(300):
        channels = int(rng.choice([1, 3]))
        height, width = map(int, rng.integers(1, 40, 2))
        first = height > 3 and width > 3 and rng.integers(2)
        shape = (1, channels, height, width) if first else (1, height, width, channels)
        channels = picture_shape(shape)[2]
        wanted = random_preprocess(rng, channels)
        dtype = str(rng.choice(["int8", "int16", "float32", "uint8"]))
        scale = 1 / 16000 if dtype == "int16" else 1 / 60
        program = network(shape, wanted, dtype, scale)
        runs = edgeq.load(write_program(program))
        rgb = noise(rng, *map(int, rng.integers(1, 120, 2)))
        (got,) = runs.run_image(rgb)
        wanted_here = expected(wanted, rgb, shape, program)
        if dtype == "uint8":
            wanted_here = (wanted_here.view(np.uint8) ^ 0x80).astype(np.uint8)
        if dtype == "float32":
            port = program.inputs[0]
            steps = wanted_here.astype(np.int32) - port.value.zero_point
            wanted_here = np.float32(port.value.scale) * steps.astype(np.float32)
        np.testing.assert_array_equal(got, wanted_here, f"{wanted} {shape} {rgb.shape}")


def test_tables_round_as_the_edge_does(rng: Rng) -> None:
    """run_image() equals run() of the float32 array that calibration saw."""
    for text in ("imagenet", "tf", "unit", "raw", "lite", "caffe", "mean=3:200:90,std=0.7"):
        wanted = Preprocess.parse(text)
        for scale in (0.0078125, 0.02, 1.0, 3.7):
            shape = (1, 16, 16, 3)
            runs = session(shape, wanted, "int8", scale)
            rgb = np.arange(768, dtype=np.int64).reshape(16, 16, 3).astype(np.uint8)
            np.testing.assert_array_equal(
                runs.run_image(rgb)[0], runs.run(wanted.apply(rgb, shape))[0]
            )


@given(
    sizes=st.tuples(*[st.integers(1, 90)] * 4),
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["noise", "edges", "smooth"]),
)
def test_resize_is_pillows(sizes: tuple[int, int, int, int], seed: int, kind: str) -> None:
    """At most one apart: pillow rounds its coefficients, and may take columns first."""
    height, width, out_h, out_w = sizes
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
    if kind == "edges":
        pixels = (pixels // 128 * 255).astype(np.uint8)
    if kind == "smooth":
        pixels = np.asarray(Image.fromarray(pixels[:3, :3]).resize((width, height)))
    found = resize(pixels, out_h, out_w).astype(int)
    pillow = np.asarray(Image.fromarray(pixels).resize((out_w, out_h), Image.Resampling.BILINEAR))
    assert np.abs(found - pillow).max() <= 1


def test_resize_by_fractions() -> None:
    """Weights from the distances; rounded to quarters of a level, then to levels."""
    rng = np.random.default_rng(5)
    half = Fraction(1, 2)

    def weights(size: int, out: int) -> list[list[Fraction]]:
        stretch = max(Fraction(1), Fraction(size, out))
        rows = []
        for i in range(out):
            centre = (i + half) * Fraction(size, out)
            row = [max(Fraction(0), 1 - abs(x + half - centre) / stretch) for x in range(size)]
            rows.append([w / sum(row) for w in row])
        return rows

    for height, width, out_h, out_w in [(7, 5, 3, 9), (3, 8, 7, 5), (1, 6, 4, 6), (9, 2, 9, 1)]:
        pixels = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        found = resize(pixels, out_h, out_w)
        across, down = weights(width, out_w), weights(height, out_h)
        for j, i, c in np.ndindex(found.shape):
            quarters = [
                (4 * sum(w * int(p) for w, p in zip(across[i], row[:, c])) + half).__floor__()
                for row in pixels
            ]
            value = sum(w * q for w, q in zip(down[j], quarters)) / 4
            assert found[j, i, c] == (value + half).__floor__()


def test_gray_is_pillows(rng: Rng) -> None:
    rgb = noise(rng, 64, 64)
    found = fit_picture(rgb, 64, 64, "stretch", 65536, (0, 0, 0), True)
    np.testing.assert_array_equal(found[..., 0], np.asarray(Image.fromarray(rgb).convert("L")))


def test_known_frames(rng: Rng) -> None:
    """What is kept and what is filled, against slices and pillow's own."""
    rgb = noise(rng, 256, 256)
    cropped = rgb[16:240, 16:240]
    shape = (1, 224, 224, 3)
    np.testing.assert_array_equal(Preprocess.parse("raw,crop=0.875").pixels(rgb, shape)[0], cropped)
    tall = noise(rng, 300, 100)
    kept = Preprocess(fit="crop").pixels(tall, (1, 50, 100, 3))
    np.testing.assert_array_equal(kept[0], tall[125:175])
    padded = Preprocess.parse("raw,pad=7:8:9").pixels(tall, (1, 300, 300, 3))[0]
    np.testing.assert_array_equal(padded[:, 100:200], tall)
    assert (padded[:, :100] == [7, 8, 9]).all() and (padded[:, 200:] == [7, 8, 9]).all()
    wide = Preprocess.parse("fit=pad,order=bgr,pad=1:2:3").pixels(rgb[:128], (1, 3, 64, 64))[0]
    assert (wide[:, :16] == np.array([3, 2, 1])[:, None, None]).all()
    np.testing.assert_array_equal(wide[::-1, 16:48].transpose(1, 2, 0), resize(rgb[:128], 32, 64))


def test_apply(rng: Rng) -> None:
    rgb = noise(rng, 8, 8)
    x = rgb.astype(np.float32)
    cases = {
        "raw": x,
        "unit": x / 255,
        "tf": x / 127.5 - 1,
        "lite": (x - 127) / 128,
        "imagenet": (x / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
        "caffe": x[..., ::-1] - [103.939, 116.779, 123.68],
        "mean=1:2:3,std=4:5:6,order=bgr": (x[..., ::-1] - [1, 2, 3]) / [4, 5, 6],
    }
    for text, y in cases.items():
        last = Preprocess.parse(text).apply(rgb, (1, 8, 8, 3))
        assert last.dtype == np.float32
        np.testing.assert_allclose(last[0], y, rtol=1e-5, atol=1e-5)
        first = Preprocess.parse(text).apply(rgb, (1, 3, 8, 8))
        np.testing.assert_array_equal(first[0].transpose(1, 2, 0), last[0])


def test_shrinking_has_a_limit() -> None:
    """The limit that keeps sums in 32 bits, on both sides of it."""
    white = np.full((1, 30000, 3), 255, np.uint8)
    least = next(n for n in range(1, 65536) if 30000 * (30000 + n) < n << 20)
    assert (session((1, 1, least, 3), "raw", "int8", 2.0).run_image(white)[0] == 128 - 3).all()
    assert (Preprocess().pixels(white, (1, 1, least, 3)) == 255).all()
    message = f"30000 x 1 pixels cannot be shrunk to {least - 1} x 1"
    with pytest.raises(edgeq.ArgumentError, match=message):
        session((1, 1, least - 1, 3), "raw").run_image(white)
    with pytest.raises(edgeq.ArgumentError, match=message):
        Preprocess().pixels(white, (1, 1, least - 1, 3))


# ---- the text


@pytest.mark.parametrize(
    "text",
    ["raw", "tf", "imagenet,crop=0.875", "caffe,fit=crop", "unit,pad=114", "lite,order=bgr",
     "mean=1.5:2:3,std=7,fit=pad", "order=gray,crop=0.5"],
)  # fmt: skip
def test_text_and_back(text: str) -> None:
    wanted = Preprocess.parse(text)
    assert Preprocess.parse(str(wanted)) == wanted
    values = json.loads(json.dumps(dataclasses.asdict(wanted)))
    assert values["fit"] == wanted.fit


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "neither a preset"),
        ("torch", "neither a preset (imagenet, tf, unit, raw, lite, caffe)"),
        ("tf,size=3", "nor one of fit=, crop=, pad=, order=, mean=, std="),
        ("crop=1.5", "crop must be a fraction"),
        ("crop=nan", "crop must be a fraction"),
        ("crop=half", "crop=half is not a number"),
        ("std=0", "std must not be 0"),
        ("mean=1:2", "mean must be 1 or 3 numbers"),
        ("mean=inf", "mean must be"),
        ("fit=cover", "fit must be one of stretch, crop, pad"),
        ("order=rbg", "order must be one of"),
        ("pad=300", "pad must be 3 numbers"),
        ("fit=crop,pad=1", "pads nothing"),
        ("std=1,std=2", "std is given twice"),
    ],
)
def test_text_that_is_wrong(text: str, message: str) -> None:
    with pytest.raises(edgeq.ArgumentError) as error:
        Preprocess.parse(text)
    assert message in str(error.value)


# ---- files that carry it


def test_the_file_carries_it(tmp_path: Path) -> None:
    converted = edgeq.convert(DIGITS, preprocess="unit,crop=0.875")
    image = read_program(converted.data)
    assert image.header.version == (1, 1)
    assert image.metadata["preprocess"] == "crop=0.875,std=255"
    (picture,) = image.pictures
    assert (picture.fit, picture.order, picture.crop) == ("stretch", "gray", 57344)
    runs = edgeq.load(converted)
    assert runs.metadata["preprocess"] == "crop=0.875,std=255"
    info = runs.model.pictures[0]
    assert info == edgeq.PictureInfo(8, 8, 1, "stretch", "gray", 0.875, (0, 0, 0), False)
    plain = edgeq.load(DIGITS)
    assert plain.model.pictures == {}
    assert runs.memory_bytes >= plain.memory_bytes
    assert edgeq.convert(DIGITS, preprocess=edgeq.Preprocess.parse("unit,crop=0.875")).data == (
        converted.data
    )


def test_run_image_of_a_file(rng: Rng) -> None:
    runs = edgeq.load(edgeq.convert(DIGITS, preprocess="unit"))
    rgb = read_rgb(PICTURE)
    (scores,) = runs.run_image(rgb, float_output=True)
    assert scores.dtype == np.float32
    assert scores.argmax() == 3
    np.testing.assert_array_equal(runs.run_image(rgb[:, ::-1][:, ::-1])[0], runs.run_image(rgb)[0])
    threaded = edgeq.load(edgeq.convert(DIGITS, preprocess="unit"), threads=3)
    np.testing.assert_array_equal(threaded.run_image(rgb, float_output=True)[0], scores)


def test_views_of_pictures(rng: Rng) -> None:
    """Rows with gaps are read in place, anything else is copied."""
    runs = session((1, 9, 9, 3), "raw")
    large = noise(rng, 40, 60)
    for view in (
        large[3:30, 5:41],
        large[::2],
        large[:, ::2],
        large[::-1],
        large[:1],
        large[:, :1],
    ):
        np.testing.assert_array_equal(runs.run_image(view)[0], runs.run_image(view.copy())[0])


def test_run_image_refuses() -> None:
    rgb = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(edgeq.ArgumentError, match="carries no preprocessing of pictures"):
        edgeq.load(DIGITS).run_image(rgb)
    runs = session((1, 4, 4, 3), "raw")
    for wrong in (rgb[..., 0], rgb[..., :2], rgb.astype(np.float32), [[1, 2]]):
        with pytest.raises(edgeq.ArgumentError, match="a picture is uint8"):
            runs.run_image(wrong)  # type: ignore[arg-type]
    with pytest.raises(edgeq.ArgumentError, match="a picture of 4 x 0 pixels"):
        runs.run_image(rgb[:0])
    with pytest.raises(edgeq.ArgumentError, match="no preprocessing for input 'y'"):
        runs.run_image(rgb, input="y")
    with pytest.raises(edgeq.ArgumentError, match="the inputs are \\[\\], given are \\['z'\\]"):
        runs.run_image(rgb, others={"z": rgb})


def test_several_inputs(rng: Rng) -> None:
    program = passing(
        ("a", "int8", (1, 4, 4, 3), 1.0, -3),
        ("state", "int32", (2,), 0.0, 0),
        ("b", "int8", (1, 3, 5, 5), 1.0, 0),
    )
    with pytest.raises(edgeq.ArgumentError, match="2 inputs have the shape of a picture"):
        _add_pictures(program, "raw")
    with pytest.raises(edgeq.ArgumentError, match="no input 'c'"):
        _add_pictures(program, {"c": "raw"})
    with pytest.raises(edgeq.ArgumentError, match="a picture needs an input of shape"):
        _add_pictures(program, {"state": "raw"})
    program.pictures.clear()
    _add_pictures(program, {"b": "raw", "a": "caffe"})
    assert program.metadata["preprocess"].splitlines()[0] == "b: raw"
    runs = edgeq.load(write_program(program))
    rgb, state = noise(rng, 9, 9), np.array([5, -5], np.int32)
    a = np.ones((1, 4, 4, 3), np.int8)
    with pytest.raises(edgeq.ArgumentError, match="input= must say"):
        runs.run_image(rgb)
    found = runs.run_image(rgb, input="b", others={"a": a, "state": state})
    np.testing.assert_array_equal(found[0], a)
    np.testing.assert_array_equal(found[1], state)
    shape = (1, 3, 5, 5)
    x = Preprocess.parse("raw").pixels(rgb, shape).astype(int)
    np.testing.assert_array_equal(found[2], np.minimum(x, 127))
    with pytest.raises(edgeq.ArgumentError, match="beside the picture the inputs are"):
        runs.run_image(rgb, input="a", others={"b": rgb})


def test_what_cannot_take_pictures() -> None:
    for port in (("x", "int32", (1, 4, 4, 3), 0.0, 0), ("x", "int8", (1, 4, 4, 3), 0.0, 0)):
        with pytest.raises(edgeq.ArgumentError, match="pictures need an int8 or int16 input"):
            _add_pictures(passing(port), "raw")
    gray = passing(("x", "int8", (1, 4, 4, 1), 1.0, 0))
    with pytest.raises(edgeq.ArgumentError, match="mean has 3 numbers, the input 1 channels"):
        _add_pictures(gray, "mean=1:2:3")
    with pytest.raises(edgeq.ArgumentError, match="order=rgb, but the input has 1 channels"):
        _add_pictures(gray, "raw,order=rgb")


def test_one_thread_at_a_time(rng: Rng) -> None:
    """A second call meanwhile is an error or waits for nothing; neither gives a wrong result."""
    runs = session((1, 64, 64, 3), "raw")
    rgb = noise(rng, 500, 500)
    right = runs.run_image(rgb)[0]
    wrong: list[bool] = []

    def work() -> None:
        for _ in range(20):
            try:
                wrong.append(not np.array_equal(runs.run_image(rgb)[0], right))
            except edgeq.EdgeqError:
                continue

    workers = [threading.Thread(target=work) for _ in range(3)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert wrong and not any(wrong)


# ---- files of pictures


def test_orientation_and_modes(tmp_path: Path, rng: Rng) -> None:
    rgb = noise(rng, 10, 20)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    Image.fromarray(rgb).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_rgb(tmp_path / "turned.png"), np.rot90(rgb, -1))
    Image.fromarray(rgb).convert("L").save(tmp_path / "gray.png")
    gray = read_rgb(tmp_path / "gray.png")
    assert gray.shape == (10, 20, 3) and (gray[..., 0] == gray[..., 2]).all()
    Image.fromarray(rgb).convert("RGBA").save(tmp_path / "alpha.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "alpha.png"), rgb)
    Image.fromarray(np.zeros((3, 3), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(edgeq.ArgumentError, match=r"deep\.png: a picture of mode I;16"):
        read_rgb(tmp_path / "deep.png")
    (tmp_path / "none.png").write_bytes(b"hello")
    with pytest.raises(edgeq.ArgumentError, match=r"none\.png: not a picture"):
        read_rgb(tmp_path / "none.png")
    whole = (tmp_path / "turned.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(edgeq.ArgumentError, match=r"cut\.png: a damaged picture"):
        read_rgb(tmp_path / "cut.png")
    with pytest.raises(FileNotFoundError):
        read_rgb(tmp_path / "absent.png")
