# SPDX-License-Identifier: Apache-2.0
"""Calibration samples from everywhere, and what is said of samples that cannot be right."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import textwrap
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Rng
from programs import DIGITS

import edgeq
from edgeq.data.checks import FEW, Observer, expected_ranges
from edgeq.data.preprocess import Preprocess
from edgeq.data.samples import Samples, open_samples, spread, track
from edgeq.errors import ArgumentError
from edgeq.ir.graph import Graph, Node, QParams, Tensor
from edgeq.ir.ops import NoAttrs

PIL = pytest.importorskip("PIL.Image")

IMAGE = Tensor("image", (1, 8, 6, 3), "float32")
VECTOR = Tensor("x", (1, 5), "float32")


def noise(rng: Rng, height: int = 9, width: int = 7) -> np.ndarray:
    return rng.integers(0, 256, (height, width, 3)).astype(np.uint8)


def values(samples: Samples, name: str = "x") -> list[Any]:
    """The first element of each feed."""
    return [feed[name].reshape(-1)[0].item() for feed in samples]


# ---- pictures


def test_a_folder_of_pictures(tmp_path: Path, rng: Rng) -> None:
    """In the order of their paths, with all folders below; other files and hidden ones are not."""
    names = ["b.png", "a/2.bmp", "a/10.png", "c/d/e.PNG"]
    pictures = {name: noise(rng) for name in names}
    for name, rgb in pictures.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        with open(tmp_path / name, "wb") as file:
            PIL.fromarray(rgb).save(file, "BMP" if "bmp" in name else "PNG")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / ".thumb.png").write_text("hidden")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x.png").write_text("hidden")
    wanted = Preprocess.parse("tf,crop=0.9,order=bgr")
    samples = open_samples(tmp_path, [IMAGE], wanted)
    assert len(samples) == samples.count == 4
    for _ in range(2):  # more than once
        named = list(samples.named())
        order = ["a/10.png", "a/2.bmp", "b.png", "c/d/e.PNG"]
        assert [name for name, _ in named] == [str(tmp_path / n) for n in order]
        for name, (_, feed) in zip(order, named):
            assert feed["image"].dtype == np.float32
            np.testing.assert_array_equal(feed["image"], wanted.apply(pictures[name], IMAGE.shape))
    one = open_samples(str(tmp_path / "b.png"), [IMAGE], "tf")
    assert len(list(one)) == 1


def test_spread_over_a_folder(tmp_path: Path) -> None:
    for i in range(10):
        PIL.fromarray(np.full((3, 3, 3), i, np.uint8)).save(tmp_path / f"{i}.png")
    samples = open_samples(tmp_path, [IMAGE], "raw", limit=4)
    assert values(samples, "image") == [0, 2, 5, 7]
    assert len(samples) == 4
    assert values(samples.few(2), "image") == [0, 5]
    assert len(open_samples(tmp_path, [IMAGE], "raw", limit=100)) == 10
    assert spread(5, 3) == [0, 1, 3]
    with pytest.raises(ArgumentError, match="at least 1, not 0"):
        open_samples(tmp_path, [IMAGE], "raw", limit=0)


def test_bad_pictures(tmp_path: Path, rng: Rng) -> None:
    for i in range(4):
        PIL.fromarray(noise(rng)).save(tmp_path / f"{i}.png")
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(whole[:100])
    (tmp_path / "2.png").write_text("hello")
    with pytest.raises(ArgumentError) as error:
        list(open_samples(tmp_path, [IMAGE], "tf"))
    assert "1.png: a damaged picture" in str(error.value)
    assert "--skip-bad leaves such files out" in str(error.value)
    samples = open_samples(tmp_path, [IMAGE], "tf", skip_bad=True)
    assert len(list(samples)) == 2
    assert [Path(text.split(": ")[0]).name for text in samples.skipped] == ["1.png", "2.png"]
    for i in (0, 3):
        (tmp_path / f"{i}.png").write_text("hello")
    with pytest.raises(ArgumentError, match="no samples: all 4 are bad"):
        list(samples)


def test_pictures_need_to_be_told(tmp_path: Path, rng: Rng) -> None:
    PIL.fromarray(noise(rng)).save(tmp_path / "1.png")
    with pytest.raises(ArgumentError, match=r"cut to 6 x 8 and scaled as in training.*unit"):
        open_samples(tmp_path, [IMAGE])
    with pytest.raises(ArgumentError, match=r"input of shape \(1, H, W, C\)"):
        open_samples(tmp_path, [VECTOR], "tf")
    with pytest.raises(ArgumentError, match="a network of 2 inputs; a Python file"):
        open_samples(tmp_path, [IMAGE, VECTOR], "tf")


def test_folders_that_are_no_samples(tmp_path: Path, rng: Rng) -> None:
    with pytest.raises(ArgumentError, match="no pictures"):
        open_samples(tmp_path, [IMAGE], "tf")
    with pytest.raises(FileNotFoundError):
        open_samples(tmp_path / "none", [IMAGE], "tf")
    PIL.fromarray(noise(rng)).save(tmp_path / "1.png")
    np.save(tmp_path / "2.npy", np.zeros((1, 5)))
    with pytest.raises(ArgumentError, match="arrays and pictures in this folder"):
        open_samples(tmp_path, [IMAGE], "tf")
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(ArgumentError, match="samples are a folder, a picture"):
        open_samples(tmp_path / "x.csv", [IMAGE], "tf")


# ---- arrays


@pytest.mark.parametrize("shape", [(7, 5), (7, 1, 5)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int64", "float16"])
def test_npy(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    a = np.arange(35).reshape(shape).astype(dtype)
    np.save(tmp_path / "x.npy", a)
    samples = open_samples(tmp_path / "x.npy", [VECTOR])
    assert len(samples) == 7
    assert values(samples) == [0, 5, 10, 15, 20, 25, 30]
    assert all(f["x"].dtype == np.float32 and f["x"].shape == (1, 5) for f in samples)
    assert next(name for name, _ in samples.named()).endswith("x.npy[0]")
    assert values(open_samples(a, [VECTOR], limit=2)) == [0, 15]


@pytest.mark.parametrize("shape", [(1, 5), (5,)])
def test_npy_of_one_sample(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "x.npy", np.ones(shape))
    assert len(list(open_samples(tmp_path / "x.npy", [VECTOR]))) == 1


def test_arrays_of_pictures(rng: Rng, tmp_path: Path) -> None:
    """uint8 (N, H, W, 3) of any size, with preprocessing; without, they must fit."""
    rgb = rng.integers(0, 256, (3, 20, 30, 3)).astype(np.uint8)
    np.savez(tmp_path / "x.npz", x=rgb)
    wanted = Preprocess.parse("unit")
    for where in (rgb, list(rgb), tmp_path / "x.npz", {"image": rgb}, lambda: iter(rgb)):
        feeds = list(open_samples(where, [IMAGE], wanted))
        assert len(feeds) == 3
        np.testing.assert_array_equal(feeds[1]["image"], wanted.apply(rgb[1], IMAGE.shape))
    with pytest.raises(ArgumentError, match=r"expected float32 \(1, 8, 6, 3\), given uint8"):
        list(open_samples(list(rgb), [IMAGE]))
    small = rgb[:, :8, :6]
    np.testing.assert_array_equal(next(iter(open_samples(small, [IMAGE])))["image"], small[:1])


def test_npz_and_folders_of_them(tmp_path: Path) -> None:
    other = Tensor("state", (2,), "int64")
    for i in range(3):
        np.savez(tmp_path / f"{i}.npz", x=np.full((1, 5), i), state=np.array([i, -i]))
    samples = open_samples(tmp_path, [VECTOR, other])
    assert len(samples) == 3
    assert [f["state"].tolist() for f in samples] == [[0, 0], [1, -1], [2, -2]]
    assert next(iter(samples))["state"].dtype == np.int64
    many = {"x": np.ones((4, 5)), "state": np.ones((4, 2), int), "labels": np.arange(4)}
    np.savez(tmp_path / "0.npz", **many)
    assert len(open_samples(tmp_path, [VECTOR, other])) == 6
    assert len(open_samples(tmp_path, [VECTOR, other], limit=2)) == 2
    np.savez(tmp_path / "0.npz", x=np.ones((4, 5)), state=np.ones((3, 2), int))
    with pytest.raises(ArgumentError, match=r"0\.npz: 4 of 'x', 3 of 'state'; every input needs"):
        open_samples(tmp_path, [VECTOR, other])
    np.savez(tmp_path / "0.npz", x=np.ones((4, 5)))
    with pytest.raises(ArgumentError, match=r"no array 'state', there is \['x'\]"):
        open_samples(tmp_path, [VECTOR, other])


def test_damaged_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "0.npy", np.ones((2, 5)))
    (tmp_path / "1.npy").write_bytes((tmp_path / "0.npy").read_bytes()[:90])
    (tmp_path / "2.npz").write_bytes(b"PK\3\4 nothing")
    (tmp_path / "3.npy").write_bytes(b"")
    with io.BytesIO() as file:
        np.save(file, np.array([{}], object), allow_pickle=True)
        (tmp_path / "4.npy").write_bytes(file.getvalue())
    with pytest.raises(ArgumentError, match=r"1\.npy: not an array file"):
        list(open_samples(tmp_path, [VECTOR]))
    samples = open_samples(tmp_path, [VECTOR], skip_bad=True)
    assert len(list(samples)) == 2
    assert len(samples.skipped) == 4


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (
            np.ones((1, 6)),
            r"sample 0: input 'x': expected float32 \(1, 5\), given float64 \(1, 6\)",
        ),
        (np.ones((3, 5)), "give one sample at a time"),
        (np.array([[1, 2, np.nan, 4, 5]]), "input 'x': it holds NaN or infinities"),
        (np.array([[1, 2, 1e39, 4, 5]]), "values beyond float32"),
        (np.array([["a"] * 5]), "not an array of numbers"),
        ("hello", "not an array of numbers"),
        (None, "not an array of numbers"),
        ((np.ones((1, 5)), 3), r"2 arrays for 1 inputs \['x'\]"),
        ({"y": np.ones((1, 5))}, "there is no 'y'; 'x' is missing"),
    ],
)
def test_samples_that_do_not_fit(sample: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        list(open_samples([sample], [VECTOR]))


def test_integers_and_layouts() -> None:
    index = Tensor("i", (2,), "int32")
    assert next(iter(open_samples([np.array([1.0, 2.0])], [index])))["i"].dtype == np.int32
    with pytest.raises(ArgumentError, match="float64 values that int32 cannot hold"):
        list(open_samples([np.array([1.5, 2])], [index]))
    with pytest.raises(ArgumentError, match="the network wants channels last"):
        list(open_samples([np.zeros((1, 3, 8, 6))], [IMAGE]))


# ---- sound


def write_wav(path: Path, frames: np.ndarray, width: int = 2, rate: int = 16000) -> None:
    """`frames` (n, channels) of whole numbers, in the form that WAV has them."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(frames.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        raw = (frames + 128 if width == 1 else frames).astype("<i8").reshape(-1)
        file.writeframes(raw.view(np.uint8).reshape(-1, 8)[:, :width].tobytes())


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_wav(tmp_path: Path, rng: Rng, width: int, channels: int) -> None:
    """Whole windows of long files; the tail is dropped, a short file is filled up with silence."""
    limit = 1 << (8 * width - 1)
    frames = rng.integers(-limit, limit, (25, channels))
    write_wav(tmp_path / "a.wav", frames, width)
    write_wav(tmp_path / "b.wav", frames[:4], width)
    t = Tensor("audio", (1, 10), "float32")
    samples = open_samples(tmp_path, [t])
    assert len(samples) == 3
    expected = (frames.astype(np.float64).mean(1) / limit).astype(np.float32)
    feeds = [f["audio"] for f in samples]
    np.testing.assert_array_equal(feeds[0], expected[None, :10])
    np.testing.assert_array_equal(feeds[1], expected[None, 10:20])
    np.testing.assert_array_equal(feeds[2][0], [*expected[:4], *[0] * 6])
    assert all(f.min() >= -1 and f.max() < 1 for f in feeds)


def test_sound_that_does_not_fit(tmp_path: Path, rng: Rng) -> None:
    frames = rng.integers(-9, 9, (30, 1))
    write_wav(tmp_path / "a.wav", frames)
    t = Tensor("audio", (10,), "float32")
    with pytest.raises(ArgumentError, match=r"takes something made from it \(spectrogram, MFCC"):
        open_samples(tmp_path, [Tensor("mfcc", (1, 49, 10, 1), "float32")])
    with pytest.raises(ArgumentError, match="and 1 more takes something"):
        open_samples(tmp_path, [t, VECTOR])
    write_wav(tmp_path / "b.wav", frames, rate=8000)
    with pytest.raises(ArgumentError, match=r"b\.wav: 8000 samples a second.*not resampled"):
        open_samples(tmp_path, [t])
    (tmp_path / "b.wav").write_bytes(b"RIFF\4\0\0\0WAVE")
    with pytest.raises(ArgumentError, match=r"b\.wav: not a WAV file of integers"):
        list(open_samples(tmp_path, [t]))
    samples = open_samples(tmp_path, [t], skip_bad=True)
    assert len(list(samples)) == 3
    assert len(samples.skipped) == 1
    floats = (tmp_path / "a.wav").read_bytes().replace(b"fmt \20\0\0\0\1\0", b"fmt \20\0\0\0\3\0")
    (tmp_path / "a.wav").write_bytes(floats)
    with pytest.raises(ArgumentError, match=r"a\.wav: not a WAV file of integers.*unknown format"):
        list(open_samples(tmp_path / "a.wav", [t]))


# ---- Python


def script(folder: Path, text: str) -> Path:
    path = folder / "samples.py"
    path.write_text(textwrap.dedent(text))
    return path


def test_python_file(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        """
        import numpy as np
        from beside import COUNT

        def samples():
            for i in range(COUNT):
                yield np.full((1, 5), i)
        """,
    )
    (tmp_path / "beside.py").write_text("COUNT = 6")
    samples = open_samples(path, [VECTOR])
    assert samples.count is None
    with pytest.raises(TypeError, match="only at their end"):
        len(samples)
    assert values(samples) == values(samples) == [0, 1, 2, 3, 4, 5]
    assert values(open_samples(path, [VECTOR], limit=2)) == [0, 1]


@pytest.mark.parametrize(
    "text",
    ["[np.full((1, 5), i) for i in range(6)]", "tuple(np.full(5, i) for i in range(6))",
     "np.arange(6)[:, None] * np.ones(5)", "{'x': np.arange(6)[:, None] * np.ones(5)}"],
)  # fmt: skip
def test_python_file_with_a_list(tmp_path: Path, text: str) -> None:
    samples = open_samples(script(tmp_path, f"import numpy as np\nSAMPLES = {text}\n"), [VECTOR])
    assert len(samples) == 6
    assert values(samples) == [0, 1, 2, 3, 4, 5]
    assert values(samples.few(3)) == [0, 2, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1 /\n", "samples.py: line 1: SyntaxError"),
        ("\n\nx = 1 / 0\n", "samples.py: line 3 of samples.py: ZeroDivisionError"),
        ("import nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("y = 1\n", "neither a function samples() nor an iterable SAMPLES"),
        ("import sys\nsys.exit(3)\n", "it exits (3)"),
        ("SAMPLES = 3\n", "samples cannot come from a int"),
        ("SAMPLES = iter([])\n", "an iterator or generator is empty then"),
        ("def samples():\n    return 3\n", "expected something that yields samples, not a int"),
        ("def samples():\n    yield [0] * 5, 1\n", "sample 0: 2 arrays for 1 inputs"),
        (
            "def samples():\n    yield [0, 0, 0, 0, 0],\n    raise KeyError('lost')\n",
            "samples.py: line 3 of samples.py: KeyError: 'lost'",
        ),
        ("def samples(x):\n    yield x\n", "TypeError: samples() missing 1 required"),
        ("def samples():\n    return iter(())\n", "no samples: there are none"),
    ],
)
def test_python_files_that_fail(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ArgumentError) as error:
        list(open_samples(script(tmp_path, text), [VECTOR]))
    assert message in str(error.value)


def test_iterables() -> None:
    rows = [np.full((1, 5), i) for i in range(3)]
    assert values(open_samples(rows, [VECTOR])) == [0, 1, 2]
    assert values(open_samples(lambda: iter(rows), [VECTOR])) == [0, 1, 2]
    assert values(open_samples([{"x": r} for r in rows], [VECTOR])) == [0, 1, 2]
    assert values(open_samples([(r,) for r in rows], [VECTOR])) == [0, 1, 2]
    both = [VECTOR, Tensor("y", (1,), "float32")]
    assert values(open_samples([(r, [7]) for r in rows], both), "y") == [7, 7, 7]
    with pytest.raises(ArgumentError, match="read more than once"):
        open_samples((r for r in rows), [VECTOR])
    with pytest.raises(ArgumentError, match="samples cannot come from a int"):
        open_samples(3, [VECTOR])  # type: ignore[arg-type]
    samples = open_samples(rows, [VECTOR])
    assert open_samples(samples, [VECTOR]) is samples


def test_data_sets_by_index() -> None:
    class Squares:
        def __len__(self) -> int:
            return 6

        def __getitem__(self, i: int) -> np.ndarray:
            if i == 4:
                raise RuntimeError("no disk")
            return np.full((1, 5), i * i)

    assert values(open_samples(Squares(), [VECTOR], limit=2)) == [0, 9]
    with pytest.raises(ArgumentError, match=r"line \d+ of test_data\.py: RuntimeError: no disk"):
        list(open_samples(Squares(), [VECTOR]))


def test_one_sample_at_a_time() -> None:
    """A stream is not read ahead, and is closed when its reader stops."""
    events: list[str] = []

    def make() -> Iterator[np.ndarray]:
        try:
            for i in range(100):
                events.append(f"made {i}")
                yield np.full((1, 5), i)
        finally:
            events.append("closed")

    reader = iter(open_samples(make, [VECTOR]))
    next(reader)
    assert events == ["made 0"]
    del reader
    assert events == ["made 0", "closed"]
    events.clear()
    assert len(list(open_samples(make, [VECTOR], limit=2))) == 2
    assert events[-1] == "closed" and len(events) <= 4


def test_ctrl_c_in_a_generator(tmp_path: Path) -> None:
    """It comes through as it is, and the generator's own cleaning up is done."""
    path = script(
        tmp_path,
        """
        import time, pathlib, numpy as np

        def samples():
            try:
                yield np.zeros((1, 5))
                pathlib.Path("begun").touch()
                time.sleep(60)
                yield np.zeros((1, 5))
            finally:
                pathlib.Path("cleaned").touch()
        """,
    )
    program = f"""
from edgeq.data.samples import open_samples
from edgeq.ir.graph import Tensor
try:
    list(open_samples({str(path)!r}, [Tensor("x", (1, 5), "float32")]))
except KeyboardInterrupt:
    print("interrupted")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE
    )
    for _ in range(600):
        if (tmp_path / "begun").exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0] == b"interrupted\n"
    assert (tmp_path / "cleaned").exists()


def test_progress_with_time_left() -> None:
    told: list[tuple[str, float]] = []
    clock = iter(np.arange(0, 1000, 30.0)).__next__
    rows = [np.zeros((1, 5))] * 4
    samples = open_samples(rows, [VECTOR])
    tell: Callable[[str, float], None] = lambda text, done: told.append((text, done))  # noqa: E731
    assert [n for n, _ in track(samples, tell, "looking", 0.2, 0.6, clock)][1] == "sample 1"
    assert told == [
        ("looking: 1 of 4", 0.2),
        ("looking: 2 of 4, 3:00 min left", pytest.approx(0.3)),
        ("looking: 3 of 4, 1:30 min left", pytest.approx(0.4)),
        ("looking: 4 of 4, 40 s left", pytest.approx(0.5)),
        ("looking", 0.6),
    ]
    told.clear()
    list(track(open_samples(lambda: rows, [VECTOR]), tell))
    assert told[1] == ("calibrating: sample 2", 0.0)


# ---- data that cannot be right


def findings(feeds: list[dict[str, np.ndarray]], **expected: tuple[float, float]) -> dict[str, str]:
    inputs = [Tensor(k, v.shape, "float32") for k, v in feeds[0].items()]
    observer = Observer(inputs, expected)
    for i, feed in enumerate(feeds):
        observer.add(feed, f"{i}.png")
    return {f.kind: f.text for f in observer.findings()}


def test_nothing_is_said_of_good_data(rng: Rng) -> None:
    feeds = [{"x": rng.uniform(0, 1, (1, 4))} for _ in range(FEW)]
    assert findings(feeds, x=(0, 1)) == {}


def test_too_few(rng: Rng) -> None:
    feeds = [{"x": rng.uniform(0, 1, (1, 4))} for _ in range(FEW - 1)]
    found = findings(feeds)
    assert list(found) == ["few"]
    assert "31 distinct samples" in found["few"] and "100 to 500" in found["few"]


def test_constant_and_repeated(rng: Rng) -> None:
    feeds = [{"x": rng.uniform(0, 1, (1, 4))} for _ in range(40)]
    feeds[3]["x"][:] = feeds[7]["x"][:] = 0.5
    feeds[9]["x"][:] = 0
    feeds[20] = feeds[19]
    found = findings(feeds)
    assert list(found) == ["duplicates", "constant"]
    assert "3 of 40 samples are one value throughout: 3.png, 7.png, 9.png" in found["constant"]
    assert "2 of 40 samples repeat others: 7.png = 3.png, 20.png = 19.png" in found["duplicates"]
    many = findings(feeds[:1] * 100)
    assert "1 distinct sample" in many["few"]
    assert "and 96 more" in many["duplicates"]


def test_an_input_that_never_changes(rng: Rng) -> None:
    feeds = [{"x": rng.uniform(0, 1, (1, 4)), "state": np.arange(3.0)} for _ in range(40)]
    assert findings(feeds) == {"same": "input 'state' is the same in all samples"}


@pytest.mark.parametrize(
    ("low", "high", "is_wrong"),
    [(0, 1, False), (-1, 1, False), (0.1, 0.9, False), (0, 255, True), (0, 0.01, True),
     (-128, 127, True), (5, 6, True), (-3, 2, False)],
)  # fmt: skip
def test_range_against_the_networks(rng: Rng, low: float, high: float, is_wrong: bool) -> None:
    feeds = [{"x": rng.uniform(low, high, (1, 50))} for _ in range(40)]
    found = findings(feeds, x=(-1, 1))
    assert list(found) == (["range"] if is_wrong else [])
    if is_wrong:
        assert "the network was made for -1 … 1" in found["range"]


def test_samples_that_were_skipped(tmp_path: Path) -> None:
    for i in range(5):
        np.save(tmp_path / f"{i}.npy", np.full((1, 5), i // 2))
    (tmp_path / "5.npy").write_bytes(b"")
    samples = open_samples(tmp_path, [VECTOR], skip_bad=True)
    observer = Observer([VECTOR], {"x": (0, 100)})
    for name, feed in samples.named():
        observer.add(feed, name)
    found = {f.kind: f.text for f in observer.findings(samples.skipped)}
    assert list(found) == ["skipped", "few", "duplicates", "constant", "range"]
    assert found["skipped"].startswith("1 bad sample left out of 6: ")
    assert "5.npy" in found["skipped"]
    assert "3 distinct samples" in found["few"]
    assert "2 of 5 samples repeat others" in found["duplicates"]


def test_ranges_that_a_network_tells() -> None:
    x, y = Tensor("x", (1, 5), "float32"), Tensor("y", (2,), "float32")
    made = Tensor("q", (1, 5), "int8", QParams.of(0.5, 28))
    z = Tensor("z", (3,), "int16", QParams.of(0.25))
    graph = Graph([Node("QUANTIZE", [x], [made], NoAttrs(), "q")], [x, y, z], [made])
    assert expected_ranges(graph) == {"x": (-78, 49.5), "z": (-8192, 8191.75)}


def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path) -> None:
    for stop in ("reading", "planning memory", "writing"):

        def tell(step: str, done: float, stop: str = stop) -> None:
            if step == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            edgeq.convert(DIGITS, out=tmp_path / "x.eqm", preprocess="unit", progress=tell)
        assert list(tmp_path.iterdir()) == []
