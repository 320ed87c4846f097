# SPDX-License-Identifier: Apache-2.0
"""edgeq eval: labels, metrics, intervals, networks of other tools beside an .eqm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import DIGITS

import edgeq
from edgeq.cli import main
from edgeq.compare.boxes import Detections, matched, overlaps
from edgeq.compare.evaluate import evaluate, too_large_a_drop
from edgeq.compare.labels import read_labels
from edgeq.compare.metrics import MaskIoU, Python, SignalToNoise, Top, make_metric, rank, tied
from edgeq.compare.runners import Port, match_ports, open_runner
from edgeq.compare.statistics import bootstrap, wilson
from edgeq.errors import ArgumentError, FormatError

pytest.importorskip("tflite")
RNG = np.random.default_rng(3)
FLOAT = DIGITS.with_name("digits_float.tflite")
ONNX = DIGITS.with_name("digits_float.onnx")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with digits.eqm, and the test digits as an .npz file in the layouts of TFLite and
    of ONNX."""
    folder = tmp_path_factory.mktemp("digits")
    edgeq.convert(DIGITS, out=folder / "digits.eqm")
    with np.load(DIGITS.with_name("digits_test.npz")) as file:
        x, y = (file["images"] / 16).astype(np.float32), file["labels"]
    np.savez(folder / "last.npz", x=x.reshape(-1, 1, 8, 8, 1), y=y)
    np.savez(folder / "first.npz", x=x.reshape(-1, 1, 1, 8, 8), y=y)
    return folder


# ---- intervals


def test_wilson() -> None:
    """From Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I."""
    for right, count, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ):
        assert wilson(right, count) == pytest.approx((low, high), abs=5e-5)


def test_bootstrap() -> None:
    """Of a mean: near the normal interval; of a constant, no interval at all."""
    x = RNG.normal(3, 2, 400)
    rows = np.stack([x, np.ones(400)], 1)
    low, high = bootstrap(rows, lambda s: float(s[0] / s[1]))
    half = 1.96 * x.std() / 20
    assert (low, high) == pytest.approx((x.mean() - half, x.mean() + half), abs=0.15 * half)
    assert bootstrap(rows, lambda s: float(s[1] / s[1])) == (1, 1)
    assert np.isnan(bootstrap(rows[:1], lambda s: 1.0)).all()


# ---- metrics


def test_top_and_ties() -> None:
    """Among equal scores the first class is the best one, for argmax and for ranks alike."""
    scores = np.array([[1.0, 5.0, 5.0, 2.0, 5.0, 0.0, 7.0]])
    assert [rank(scores[0], k) for k in range(7)] == [5, 1, 2, 4, 3, 6, 0]
    assert Top(1).sums({"y": scores}, None, 6).tolist() == [1, 1]
    assert Top(5).sums({"y": scores}, None, 3).tolist() == [1, 1]
    assert Top(5).sums({"y": scores}, None, 0).tolist() == [0, 1]
    assert not tied({"y": scores})
    assert tied({"y": scores[:, :6]})
    with pytest.raises(ArgumentError, match="label 7 is not a class"):
        Top(1).sums({"y": scores}, None, 7)
    with pytest.raises(ArgumentError, match=r"\(1, 4, 4, 3\)"):
        Top(1).sums({"y": np.zeros((1, 4, 4, 3))}, None, 0)


def test_sqnr_is_of_all_samples() -> None:
    a, b = RNG.normal(size=(2, 50)), RNG.normal(size=(2, 50)) / 10
    metric = SignalToNoise()
    sums = sum(metric.sums({"y": x + e}, {"y": x}, None) for x, e in zip(a, b))
    expected = 10 * np.log10((a * a).sum() / (b * b).sum())
    assert metric.values(sums) == pytest.approx([expected])
    assert metric.values(np.array([1.0, 0.0])) == [99]


def test_mask_iou() -> None:
    """By hand on 2 x 3 pixels; classes that occur nowhere do not count, 255 in a label neither."""
    reference = {"m": np.array([[[0, 0, 1], [1, 2, 2]]])}
    found = {"m": np.array([[[0, 1, 1], [1, 2, 0]]])}
    metric = MaskIoU()
    value = metric.values(metric.sums(found, reference, None))[0]
    assert value == pytest.approx((1 / 3 + 2 / 3 + 1 / 2) / 3)
    label = np.array([[0, 255, 1], [1, 2, 2]])
    value = metric.values(metric.sums(found, None, label))[0]
    assert value == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)
    scores = np.eye(3)[found["m"]].astype(np.float32)
    for axis, y in ((-1, scores), (1, scores.transpose(0, 3, 1, 2))):
        assert (MaskIoU(axis=axis).mask({"m": y}) == found["m"]).all()
    assert MaskIoU().mask({"m": np.float32([[[0.4], [0.6]]])}).tolist() == [[0, 1]]
    with pytest.raises(ArgumentError, match="needs masks as labels"):
        metric.sums(found, None, None)


def test_boxes() -> None:
    """Overlaps by hand, one match a box, classes apart, the lesser of two boxes goes."""
    box = np.array([0.0, 0.0, 2.0, 2.0])
    others = np.array([[0, 0, 2, 2], [1, 0, 3, 2], [2, 2, 3, 3], [0.5, 0.5, 1.5, 1.5]])
    assert overlaps(box, others) == pytest.approx([1, 1 / 3, 0, 1 / 4])
    outputs = {
        "boxes": np.array([[[0, 0, 2, 2], [0.1, 0, 2.1, 2], [5, 5, 6, 6], [0, 0, 2, 2.0]]]),
        "scores": np.array([[[0.9, 0], [0.8, 0], [0.1, 0.2], [0, 0.7]]]),
    }
    d = Detections("boxes", "scores")
    found = d.find(outputs)
    assert found.classes.tolist() == [0, 1]
    assert found.scores.tolist() == [0.9, 0.7]
    assert len(Detections("boxes", "scores", nms=0).find(outputs).classes) == 3
    other = d.given(np.array([[0, 0, 0, 2, 1.0], [0, 0, 0, 2, 2], [1, 9, 9, 10, 10]]))
    assert matched(found, other, 0.5) == [1.0]
    metric = make_metric("detections", detections=d)
    sums = metric.sums(outputs, None, np.array([[0, 0, 0, 2, 1.5], [1, 9, 9, 10, 10]]))
    assert sums.tolist() == [1, 1, 1, 0.75]
    assert metric.values(sums) == [0.5, 0.75]


@pytest.mark.parametrize(
    ("form", "box"),
    [
        ("xyxy", [1, 2, 5, 8]),
        ("yxyx", [2, 1, 8, 5]),
        ("cxcywh", [3, 5, 4, 6]),
        ("xywh", [1, 2, 4, 6]),
    ],
)
def test_box_formats(form: str, box: list[float]) -> None:
    """Channels of boxes last or first, as YOLO's exports have them."""
    d = Detections("b", "s", form=form)
    boxes, scores = np.tile(np.float32(box), (3, 1)), np.float32([[0.9, 0, 0, 0, 0]] * 3)
    for b, s in ((boxes[None], scores[None]), (boxes.T[None], scores.T[None])):
        assert d.find({"b": b, "s": s}).corners.tolist() == [[1, 2, 5, 8]]


def test_python_metric(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text(
        "def one(exact, found, label):\n    return found['y'].sum() - exact['y'].sum() + label\n"
        "def two(exact, found, label):\n    return {'a': 1, 'b': label}\n"
        "def bad(exact, found, label):\n    return 'text'\n"
        "def wrong(exact):\n    return 1\n"
        "def fails(exact, found, label):\n    return 1 / 0\n"
    )
    y = {"y": np.ones(3)}
    one = Python(f"{path}:one")
    assert one.values(one.sums(y, {"y": np.zeros(3)}, 2) + one.sums(y, y, 1)) == [3]
    assert one.names == ("one",)
    two = Python(f"{path}:two")
    assert two.values(two.sums(y, None, 3) + two.sums(y, None, 5)) == [1, 4]
    assert two.names == ("a", "b")
    for name, message in (
        ("bad", "must return a number"),
        ("wrong", "must take"),
        ("none", "no function 'none'"),
        ("fails", "ZeroDivisionError"),
    ):
        with pytest.raises(ArgumentError, match=message):
            Python(f"{path}:{name}").sums(y, y, 0)
    with pytest.raises(ArgumentError, match="no metric 'top2'"):
        make_metric("top2")


# ---- labels


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_labels_of_folders(tmp_path: Path) -> None:
    """Names are those of the network's classes, numbers, or numbered in their order."""
    for name in ("cat/b/1.png", "ant/1.png", "dog/2.png"):
        write(tmp_path / name, "")
    data = str(tmp_path)
    labels = read_labels(data)
    assert [labels.of(f"{data}/{n}", 0) for n in ("ant/1.png", "cat/b/1.png")] == [0, 1]
    labels = read_labels(data, classes=["dog", "cat", "bee", "ant"])
    assert [labels.of(f"{data}/{n}", 0) for n in ("ant/1.png", "dog/2.png")] == [3, 0]
    with pytest.raises(ArgumentError, match="'ant' is not among the 1 names"):
        read_labels(data, classes=["dog"])
    for i, folder in enumerate(("ant", "cat", "dog")):
        (tmp_path / folder).rename(tmp_path / str(10 * i + 2))
    assert read_labels(data).of(f"{data}/12/b/1.png", 0) == 12
    write(tmp_path / "loose.png", "")  # then folders are no classes
    assert not read_labels(data)


def test_labels_of_files(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    write(tmp_path / "data/sub/a.png", "")
    write(tmp_path / "data/labels.tsv", "file\tclass\nsub/a.png\t3\nb.png\t1\n")
    labels = read_labels(data)
    assert labels.of(f"{data}/sub/a.png", 0) == 3
    assert labels.of(f"{data}/b.png[2]", 0) == 1
    assert labels.of(f"{data}/c.png", 0) is None

    boxes = write(
        tmp_path / "boxes.csv", "a.png,cat,0,0,1,1\na.png,dog,2,2,3,4\nb.png,cat,1,1,2,2\n"
    )
    found = read_labels(data, boxes)
    assert found.of("x/a.png", 0).tolist() == [[0, 0, 0, 1, 1], [1, 2, 2, 3, 4]]

    order = read_labels(data, write(tmp_path / "order.txt", "7\n1\n"))
    assert [order.of("b", 0), order.of("a", 1), order.of("x.npz[1]", 0)] == [7, 1, 1]
    with pytest.raises(ArgumentError, match="no label for sample 2"):
        order.of("c", 2)
    with pytest.raises(ArgumentError, match="give no limit"):
        order.of("c", None)
    with pytest.raises(ArgumentError, match="a line is"):
        read_labels(data, write(tmp_path / "bad.txt", "a.png 1,2,3\n"))

    np.savez(tmp_path / "x.npz", x=np.zeros((2, 4)), y=np.array([[5], [6]]))
    beside = read_labels(str(tmp_path / "x.npz"))
    assert [beside.of("x.npz[0]", 9), beside.of("x.npz[1]", 9)] == [5, 6]


# ---- networks beside each other


def test_match_ports() -> None:
    """By name, by order, by shape, and with channels where the other tool has them."""

    def port(name: str, *shape: int) -> Port:
        return Port(name, shape, "float32")

    a, b = port("a", 1, 8, 6, 3), port("b", 1, 10)
    assert [m.index for m in match_ports([a, b], [b, a], "")] == [1, 0]
    renamed = [port("y", 10), port("x", 1, 3, 8, 6)]
    found = match_ports([a, b], renamed, "")
    assert [m.index for m in found] == [1, 0]
    x = RNG.normal(size=(1, 3, 8, 6))
    assert (found[0].take([b, x], a) == x.transpose(0, 2, 3, 1)).all()
    assert found[1].take([np.zeros(10)], b).shape == (1, 10) if found[1].index == 0 else True
    with pytest.raises(ArgumentError, match="do not fit"):
        match_ports([a], [b], "model")


def test_digits(digits: Path) -> None:
    """354 of 360 by the float network, 353 by the integers, as examples/digits says; one of them
    the float network reads otherwise. TFLite's own integers are the same."""
    if not (_has("ai_edge_litert") or _has("tflite_runtime")):
        pytest.skip("neither LiteRT nor tflite-runtime is here")
    with np.load(digits / "last.npz") as file:
        samples = [({"serving_default_image:0": x}, y) for x, y in zip(file["x"], file["y"])]
    runners = [
        ("float", open_runner(FLOAT)),
        ("integers", open_runner(digits / "digits.eqm")),
        ("other", open_runner(DIGITS)),
    ]
    metrics = [make_metric(name) for name in ("top1", "top5", "agreement", "sqnr", "mse")]
    found = evaluate(runners, samples, metrics)
    assert (found.samples, found.labelled) == (360, 360)
    exact, integers, other = found.results
    top = exact.number("top1")
    assert top is not None and top.value == 354 / 360
    assert (top.low, top.high) == wilson(354, 360)
    mine, theirs = integers.number("top1"), other.number("top1")
    assert mine is not None and theirs is not None
    assert mine.value == theirs.value == 353 / 360
    assert mine.drop == pytest.approx(1 / 360)
    assert mine.drop_low is not None and mine.drop_high is not None
    assert mine.drop_low <= mine.drop <= mine.drop_high < 0.02
    agreement, noise = integers.number("agreement"), integers.number("sqnr")
    assert agreement is not None and agreement.value == 359 / 360
    assert noise is not None and noise.low < noise.value < noise.high
    assert exact.number("agreement") is None
    assert all(r.minimum_ns <= r.median_ns and r.minimum_ns > 0 for r in found.results)
    assert too_large_a_drop(found, 0.3) == ""
    assert "0.28 percentage points" in too_large_a_drop(found, 0.2)


def _has(module: str) -> bool:
    try:
        __import__(module)
    except ImportError:
        return False
    return True


def call(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    assert main([str(w) for w in words]) == code
    shown = capsys.readouterr()
    return shown.err if code else shown.out


def test_command(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Against the ONNX export, which has channels first."""
    pytest.importorskip("onnxruntime")
    command = ("eval", digits / "digits.eqm", "--float", ONNX, "--data", digits / "first.npz")
    shown = call(capsys, *command)
    assert "360 samples, 360 with labels" in shown
    for word in (
        "top1",
        "top5",
        "agreement",
        "sqnr",
        "98.33%",
        "98.06%",
        "latency",
        "-0.28 points",
    ):
        assert word in shown
    found: dict[str, Any] = json.loads(
        call(capsys, *command, "--json", "--metric", "top1", "--limit", 100)
    )
    assert found["samples"] == 100
    assert [r["runtime"] for r in found["results"]] == ["onnxruntime", "edgeq"]
    assert [n["metric"] for n in found["results"][1]["numbers"]] == ["top1"]


def test_command_with_own_metric(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a float network; the label reaches the function."""
    write(
        tmp_path / "m.py",
        "def right(exact, found, label):\n"
        "    (y,) = found.values()\n"
        "    return {'right': float(y.argmax() == label), 'alone': exact is None}\n",
    )
    found = json.loads(
        call(
            capsys,
            *("eval", digits / "digits.eqm", "--data", digits / "last.npz", "--json"),
            *("--metric", f"{tmp_path / 'm.py'}:right"),
        )
    )
    numbers = {n["metric"]: n["value"] for n in found["results"][0]["numbers"]}
    assert numbers == {"right": pytest.approx(353 / 360), "alone": 1}


def test_command_on_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder a digit, whose names are the classes of the .eqm file."""
    image = pytest.importorskip("PIL.Image")
    edgeq.convert(DIGITS, out=tmp_path / "digits.eqm")
    for digit in (2, 3, 7):
        folder = tmp_path / "data" / str(digit)
        folder.mkdir(parents=True)
        with image.open(DIGITS.with_name(f"digit_{digit}.png")) as file:
            file.save(folder / "one.png")
    found = json.loads(
        call(
            capsys,
            *("eval", tmp_path / "digits.eqm", "--data", tmp_path / "data", "--json"),
            *("--preprocess", "unit", "--metric", "top1"),
        )
    )
    assert found["labelled"] == 3
    assert found["results"][0]["numbers"][0]["value"] == 1


def test_errors(digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    eqm, data = digits / "digits.eqm", digits / "last.npz"
    error = call(capsys, "eval", eqm, "--data", data, "--metric", "agreement", code=1)
    assert "give --float" in error
    with np.load(data) as file:
        np.save(tmp_path / "x.npy", file["x"])
    error = call(capsys, "eval", eqm, "--data", tmp_path / "x.npy", "--metric", "top1", code=1)
    assert "no sample has one" in error
    error = call(capsys, "eval", eqm, "--data", data, "--metric", "detections", code=1)
    assert "--boxes" in error
    error = call(capsys, "eval", eqm, "--data", data, "--float", data, code=1)
    assert "not an .eqm, .tflite or .onnx file" in error
    pytest.importorskip("onnxruntime")
    bad = write(tmp_path / "bad.onnx", "text")
    with pytest.raises(FormatError, match="onnxruntime cannot open it"):
        open_runner(bad)


def test_limits_of_convert(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--max-drop and --min-sqnr: exit code 2, a sentence with the layer, no file; or the file."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    out = tmp_path / "out.eqm"
    command = ("convert", ONNX, "--calibrate", digits / "first.npz", "-o", out)
    command += ("--samples", 90, "--effort", "fast", "--max-16bit", 0)
    error = call(capsys, *command, "--max-drop", -1, code=2)
    assert "top-1 falls by" in error and "--max-drop allows -1" in error
    assert "the worst layer is" in error
    error = call(capsys, *command, "--min-sqnr", 90, code=2)
    assert "'probabilities'" in error and "--min-sqnr asks for 90" in error
    assert not out.exists()
    report = tmp_path / "report.html"
    shown = call(capsys, *command, "--max-drop", 5, "--min-sqnr", 10, "--report", report)
    assert "the worst layers first" in shown
    assert out.exists() and "<svg" in report.read_text()
    error = call(capsys, "convert", DIGITS, "-o", out, "--max-drop", 1, code=1)
    assert "--max-drop needs calibration data" in error
