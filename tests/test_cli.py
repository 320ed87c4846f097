# SPDX-License-Identifier: Apache-2.0
"""The command line: what it prints, how it fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import DIGITS, MIXED, passing, slow

import edgeq
from edgeq.cli import COMMANDS, main, text
from edgeq.format.reader import read_program
from edgeq.format.writer import write_program

pytest.importorskip("tflite")

LABELS = DIGITS.with_name("labels.txt")
PICTURE = DIGITS.with_name("digit_3.png")


@pytest.fixture(scope="module")
def eqm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "digits.eqm"
    edgeq.convert(DIGITS, out=path)
    return path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command that must succeed; its output, parsed if --json is there."""

    def run(*arguments: object) -> Any:
        words = [str(a) for a in arguments]
        code = main(words)
        shown = capsys.readouterr()
        assert code == 0, shown.err
        assert shown.err == ""
        return json.loads(shown.out) if "--json" in words else shown.out

    return run


@pytest.fixture
def fail(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command that must fail with code 1 and one message; the message."""

    def run(*arguments: object) -> str:
        assert main([str(a) for a in arguments]) == 1
        shown = capsys.readouterr()
        assert shown.err.startswith("edgeq: ")
        assert shown.out == ""
        return shown.err

    return run


# ---- in common


@pytest.mark.parametrize("command", [*COMMANDS, ""])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"] if command else ["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    words = [f"examples:\n  edgeq {command}"] if command else list(COMMANDS)
    assert all(word in shown for word in words)


@pytest.mark.parametrize(
    "arguments",
    ["", "paint", "convert", "run", "convert a --input-shape x", "bench a -x", "run a --mean b"],
)
def test_wrong_usage_is_code_2(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments.split())
    assert caught.value.code == 2
    assert "usage: edgeq" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"edgeq {edgeq.__version__}\n"


@pytest.mark.parametrize("command", ["convert", "run", "inspect", "verify", "bench"])
def test_files_that_are_no_networks(command: str, fail: Any, tmp_path: Path) -> None:
    assert fail(command, tmp_path / "none.eqm").endswith("none.eqm: No such file or directory\n")
    text_file = tmp_path / "notes.tflite"
    text_file.write_text("hello")
    assert "notes.tflite: neither a .tflite file" in fail(command, text_file)
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(DIGITS.read_bytes()[:9000])
    fail(command, damaged)
    said = fail(command, DIGITS.with_name("digits_float.tflite"))
    assert "give calibration data: --calibrate FOLDER_OR_FILE" in said


def command_line(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edgeq", *map(str, arguments)]


def test_ctrl_c_is_quiet(tmp_path: Path) -> None:
    model = tmp_path / "slow.eqm"
    model.write_bytes(slow())
    command = command_line("bench", model, "--seconds", "100")
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 130


def test_closed_pipe_is_quiet(eqm: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = command_line("inspect", eqm, "--json")
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, cwd=eqm.parent)
    os.close(write)
    assert done.stderr == b""
    assert done.returncode == 1


# ---- convert


def test_convert(call: Any, tmp_path: Path) -> None:
    source = tmp_path / "net.tflite"
    source.write_bytes(DIGITS.read_bytes())
    shown = call("convert", source)
    model = tmp_path / "net.eqm"
    session = edgeq.load(model)
    assert f"{source} -> {model}" in shown
    assert f"{model.stat().st_size:,} bytes" in shown
    assert f"{session.memory_bytes:,} bytes: activations {session.arena_bytes:,}" in shown
    assert "262,272" in shown
    assert "R31" in shown


def test_convert_json(call: Any, tmp_path: Path) -> None:
    out = tmp_path / "out.eqm"
    report = call("convert", DIGITS, "-o", out, "--input-shape", "image=1,8,8,1", "--json")
    assert report["output"] == str(out)
    assert report["file_bytes"] == out.stat().st_size
    assert report["ram_bytes"] == edgeq.load(out).memory_bytes


def test_convert_native(call: Any, fail: Any, tmp_path: Path) -> None:
    out = tmp_path / "native.eqm"
    shown = call("convert", DIGITS, "-o", out, "--arithmetic", "native")
    assert re.search(r"requantization +R15\n", shown)
    assert "over the inputs of 3 golden cases" in shown
    report = call("convert", DIGITS, "-o", out, "--arithmetic", "native", "--json")
    (output,) = report["against_exact"]["outputs"]
    assert (output["output"], output["elements"]) == ("probabilities", 30)
    assert 0 <= output["differing"] <= output["elements"]
    assert f"{output['differing']} of 30" in shown
    assert "R15 per channel" in call("inspect", out)
    assert call("inspect", DIGITS, "--arithmetic", "native").count("R15") >= 4
    message = "the .eqm file has native arithmetic; for exact arithmetic convert its source again"
    for command in ("run", "inspect", "verify", "bench"):
        assert message in fail(command, out, "--arithmetic", "exact")
    assert "against_exact" not in call("convert", DIGITS, "-o", out, "--json")
    assert "has exact arithmetic" in fail("verify", out, "--arithmetic", "native")


def test_convert_refuses(fail: Any, tmp_path: Path) -> None:
    assert "quantized already; leave calibration out" in fail(
        "convert", DIGITS, "-o", tmp_path / "a.eqm", "--calibrate", "none"
    )
    assert "no input 'x'" in fail(
        "convert", DIGITS, "-o", tmp_path / "a.eqm", "--input-shape", "x=1,8"
    )
    assert list(tmp_path.iterdir()) == []


def test_calibrate(
    call: Any, fail: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A float network from its samples to a file that is right about the digits."""
    pytest.importorskip("onnxruntime")
    digits = np.load(DIGITS.with_name("digits_test.npz"))
    images = (digits["images"] / 16).astype(np.float32)[..., None]
    data, out, page = tmp_path / "x.npy", tmp_path / "digits.eqm", tmp_path / "report.html"
    np.save(data, images[::2])
    network = DIGITS.with_name("digits_float.tflite")
    how = (network, "-o", out, "--calibrate", data)
    shown = call("convert", *how, "--samples", "64", "--report", page)
    assert "requantization" in shown
    assert "over 32 of 64 samples" in shown
    assert page.read_text().startswith("<!DOCTYPE html>")
    session = edgeq.load(out)
    assert session.inputs[0].dtype == np.float32
    found = [int(np.argmax(session.run(x[None])[0])) for x in images[1::2]]
    assert np.mean(np.array(found) == digits["labels"][1::2]) > 0.9

    first = out.read_bytes()
    report = call("convert", *how, "--samples", "64", "--json")
    assert out.read_bytes() == first
    assert report["quantization"]["samples"] == 64
    assert report["quantization"]["score"] > 20
    assert main(["convert", *map(str, how), "--min-sqnr", "90"]) == 2
    assert "--min-sqnr asks for 90; the worst layer is" in capsys.readouterr().err
    assert out.read_bytes() == first
    shown = call("convert", network, "-o", out, "--calibrate", "none")
    assert "calibrated without data" in shown
    assert "no range method" not in shown
    np.save(data, images[:4])
    assert "4 distinct samples: ranges come out by chance" in call("convert", *how)
    np.save(data, images[:4, :5])
    assert "needs float32 (1, 8, 8, 1)" in fail("convert", *how)


# ---- run


def expected(image: np.ndarray) -> float:
    (scores,) = edgeq.load(DIGITS).run(image, float_output=True)
    return float(scores[0, 3])


def test_run_picture(call: Any, eqm: Path) -> None:
    pytest.importorskip("PIL")
    shown = call("run", eqm, "--input", PICTURE, "--labels", LABELS, "--top", "3")
    lines = shown.splitlines()
    assert lines[0] == "probabilities  int8 1x10"
    assert lines[1].split() == ["0.996094", "three"]
    assert len(lines) == 5
    result = call("run", DIGITS, "--input", f"image={PICTURE}", "--json")["outputs"][0]
    assert result["top"][0] == {"index": 3, "label": "", "value": 0.99609375}
    assert len(result["top"]) == 5


def test_picture_rule(call: Any, tmp_path: Path, rng: np.random.Generator) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = rng.integers(0, 256, (4, 6, 3)).astype(np.uint8)
    image.fromarray(pixels).save(tmp_path / "p.png")
    ports = [
        ("a", "uint8", (1, 4, 6, 3), 0.5, 0),
        ("b", "int8", (4, 6, 3), 0.5, 0),
        ("c", "float32", (1, 4, 6, 3), 1 / 256, -128),
    ]
    (tmp_path / "m.eqm").write_bytes(write_program(passing(*ports)))
    files = [f"--input={tmp_path / 'p.png'}"] * 3
    call("run", tmp_path / "m.eqm", *files, "--output", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as out:
        assert np.array_equal(out["a out"][0], pixels)
        assert np.array_equal(out["b out"], pixels.astype(np.int16) - 128)
        assert np.abs(out["c out"][0] - pixels / 255).max() <= 1 / 256
    scaled = [*files, "--mean", "10,20,30", "--std", "2"]
    call("run", tmp_path / "m.eqm", *scaled, "--output", tmp_path / "out.npz")
    real = (pixels.astype(np.float32) - np.array([10, 20, 30], np.float32)) / 2
    with np.load(tmp_path / "out.npz") as out:
        assert np.array_equal(out["a out"][0], np.clip(np.floor(real / 0.5 + 0.5), 0, 255))
        assert np.array_equal(out["b out"], np.clip(np.floor(real / 0.5 + 0.5), -128, 127))


def test_picture_is_resized_and_grey(call: Any, fail: Any, eqm: Path, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    with image.open(PICTURE) as small:
        small.resize((64, 64), image.Resampling.NEAREST).convert("RGB").save(tmp_path / "large.png")
    (best, *_) = call("run", eqm, "-i", tmp_path / "large.png", "--json")["outputs"][0]["top"]
    assert best["index"] == 3
    (tmp_path / "no.png").write_text("no picture")
    assert "no.png: not a picture" in fail("run", eqm, "-i", tmp_path / "no.png")
    (tmp_path / "v.eqm").write_bytes(write_program(passing(("x", "int8", (7,), 0.5, 0))))
    message = fail("run", tmp_path / "v.eqm", "-i", PICTURE)
    assert "needs an input of shape (1, H, W, 1 or 3), 'x' int8 (7,) is not one" in message
    assert "--mean and --std take 1 number" in fail("run", eqm, "-i", PICTURE, "--mean", "1,2,3")
    assert "--std must not be 0" in fail("run", eqm, "-i", PICTURE, "--std", "0")


def test_pictures_need_pillow(fail: Any, eqm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert "pip install pillow" in fail("run", eqm, "--input", PICTURE)


def test_pictures_as_the_file_says(call: Any, fail: Any, eqm: Path, tmp_path: Path) -> None:
    model = tmp_path / "digits.eqm"
    shown = call("convert", DIGITS, "-o", model, "--preprocess", "unit")
    assert str(model) in shown
    pictures = [DIGITS.with_name(f"digit_{n}.png") for n in (2, 3, 7)]
    shown = call("run", model, *pictures, "--top", 1, "--labels", LABELS)
    names = LABELS.read_text().splitlines()
    for picture, n in zip(pictures, (2, 3, 7)):
        after = shown.split(str(picture))[1]
        assert names[n] in after.splitlines()[2]
    found = call("run", model, *pictures, "--json")["pictures"]
    assert [p["file"] for p in found] == [str(p) for p in pictures]
    assert [p["outputs"][0]["top"][0]["index"] for p in found] == [2, 3, 7]
    by_option = call("run", model, "--input", pictures[0], "--json")
    assert by_option["outputs"] == found[0]["outputs"]
    by_hand = call("run", eqm, pictures[0], "--std", 255, "--json")["pictures"][0]
    assert by_hand["outputs"] == found[0]["outputs"]

    message = fail("run", eqm, pictures[0])
    assert "does not say what input 'image' wants of pictures" in message
    assert "edgeq convert MODEL --preprocess tf,crop=0.875" in message
    assert "none.png: No such file" in fail("run", model, tmp_path / "none.png")
    assert "--output saves one run" in fail("run", model, pictures[0], "-o", "y.npy")
    assert "give all but that" in fail("run", model, pictures[0], "--input", "image=x.npy")


def test_inspect_shows_preprocessing(call: Any, tmp_path: Path) -> None:
    model = tmp_path / "digits.eqm"
    call("convert", DIGITS, "-o", model, "--preprocess", "unit,crop=0.75,pad=114")
    shown = call("inspect", model)
    assert re.search(r"image +1x8x8x1 +pad 114:114:114 +0\.75 +gray", shown)
    assert re.search(r"preprocess +fit=pad,crop=0\.75,pad=114:114:114,std=255", shown)
    found = call("inspect", model, "--json")
    (picture,) = found["pictures"]
    assert (picture["fit"], picture["crop"], picture["pad"]) == ("pad", 0.75, [114] * 3)
    assert picture["table"][0][0] == -128
    assert picture["table"][0][255] == 127


def test_calibration_with_pictures(call: Any, fail: Any, tmp_path: Path) -> None:
    """The findings name files; bad ones are an error, or left out and named."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n in (2, 3, 7):
        (folder / f"{n}.png").write_bytes(DIGITS.with_name(f"digit_{n}.png").read_bytes())
    (folder / "again.png").write_bytes((folder / "7.png").read_bytes())
    (folder / "bad.png").write_text("hello")
    model = DIGITS.with_name("digits_float.onnx")
    out = tmp_path / "digits.eqm"
    common = ("convert", model, "-o", out, "--calibrate", folder, "--preprocess", "unit")
    message = fail(*common, "--effort", "fast")
    assert "bad.png: not a picture" in message
    assert "--skip-bad leaves such files out" in message
    assert not out.exists()
    shown = call(*common, "--effort", "fast", "--skip-bad")
    assert "1 bad sample left out of 5" in shown
    assert "3 distinct samples" in shown
    assert "1 of 4 samples repeat others" in shown
    assert f"{folder / 'again.png'} = {folder / '7.png'}" in shown
    (found,) = call("run", out, folder / "3.png", "--json")["pictures"]
    assert found["outputs"][0]["top"][0]["index"] == 3


def test_convert_refuses_preprocessing(fail: Any, tmp_path: Path) -> None:
    out = tmp_path / "x.eqm"
    assert "neither a preset" in fail("convert", DIGITS, "-o", out, "--preprocess", "tensorflow")
    assert "mean has 3 numbers" in fail("convert", DIGITS, "-o", out, "--preprocess", "mean=1:2:3")
    assert not out.exists()


def test_run_arrays(call: Any, fail: Any, eqm: Path, tmp_path: Path) -> None:
    image = np.load(DIGITS.with_name("digits_test.npz"))["images"][0].astype(np.float64) / 16
    np.save(tmp_path / "a.npy", image[None, ..., None])
    np.save(tmp_path / "b.npy", np.zeros((8, 8, 1), np.int64))
    np.save(tmp_path / "c.npy", np.full((8, 8, 1), 300))
    np.save(tmp_path / "d.npy", np.zeros((8, 9)))
    (tmp_path / "e.npy").write_text("x")
    top = call("run", eqm, "-i", tmp_path / "a.npy", "--json")["outputs"][0]["top"]
    (scores,) = edgeq.load(eqm).run(image[None, ..., None].astype(np.float32), float_output=True)
    assert [t["index"] for t in top] == np.argsort(-scores[0], kind="stable")[:5].tolist()
    assert call("run", eqm, "-i", tmp_path / "b.npy", "--json")
    assert "int64 values that 'image' int8" in fail("run", eqm, "-i", tmp_path / "c.npy")
    message = fail("run", eqm, "-i", tmp_path / "d.npy")
    assert "expected 'image' int8 (1, 8, 8, 1), given float32 (8, 9)" in message
    fail("run", eqm, "-i", tmp_path / "e.npy")


def test_run_sound(call: Any, fail: Any, tmp_path: Path) -> None:
    def save(name: str, samples: list[int], channels: int = 1) -> Path:
        with wave.open(str(tmp_path / name), "wb") as file:
            file.setparams((channels, 2, 16000, 0, "NONE", ""))
            file.writeframes(np.array(samples, "<i2").tobytes())
        return tmp_path / name

    samples = [0, 1, -32768, 32767]
    model = tmp_path / "m.eqm"
    ports = [("a", "int16", (1, 4), 0.0, 0), ("b", "int8", (4,), 1 / 128, 0)]
    model.write_bytes(write_program(passing(*ports)))
    file = save("a.wav", samples)
    call("run", model, "-i", file, "-i", file, "-o", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as out:
        assert out["a out"].tolist() == [samples]
        assert out["b out"].tolist() == [0, 0, -128, 127]
    message = fail("run", model, "-i", save("b.wav", [1, 2]), "-i", file)
    assert "expected 4 samples for 'a' int16 (1, 4), given 2" in message
    stereo = save("c.wav", [1, 2, 3, 4], channels=2)
    assert "expected 16-bit mono" in fail("run", model, "-i", stereo, "-i", file)
    (tmp_path / "d.wav").write_text("x")
    fail("run", model, "-i", tmp_path / "d.wav", "-i", file)


def test_run_several_inputs(call: Any, fail: Any, tmp_path: Path) -> None:
    model = tmp_path / "m.eqm"
    ports = [("a", "int8", (4,), 0.5, 0), ("b", "int8", (2, 3), 1, 0)]
    model.write_bytes(write_program(passing(*ports)))
    (tmp_path / "four.bin").write_bytes(bytes([1, 2, 3, 255]))
    (tmp_path / "six.bin").write_bytes(bytes(range(6)))
    a, b = tmp_path / "four.bin", tmp_path / "six.bin"
    for inputs in ([f"b={b}", f"a={a}"], [a, b], [f"b={b}", a]):
        words = [word for i in inputs for word in ("--input", i)]
        outputs = call("run", model, *words, "--json")["outputs"]
        assert [t["value"] for t in outputs[0]["top"]] == [1.5, 1, 0.5, -0.5]
        assert outputs[1]["statistics"] == pytest.approx(
            {"minimum": 0, "maximum": 5, "mean": 2.5, "std": np.arange(6).std()}
        )
    assert "minimum 0  maximum 5" in call("run", model, "-i", a, "-i", b)
    assert "no --input for 'b' int8 (2, 3)" in fail("run", model, "--input", a)
    assert "one file too many" in fail("run", model, "-i", a, "-i", b, "-i", a)
    assert "one file too many" in fail("run", model, "-i", f"a={a}", "-i", f"a={a}")
    assert "expected 4 bytes for 'a'" in fail("run", model, "-i", b, "-i", a)
    out = tmp_path / "o.npy"
    assert "expected .npz, or .npy for a single" in fail("run", model, "-i", a, "-i", b, "-o", out)


def test_run_output(call: Any, eqm: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8, 1), np.int8))
    call("run", eqm, "-i", tmp_path / "x.npy", "-o", tmp_path / "y.npy")
    want = edgeq.load(eqm).run(np.zeros((1, 8, 8, 1), np.int8))[0]
    saved = np.load(tmp_path / "y.npy")
    assert saved.dtype == want.dtype
    assert np.array_equal(saved, want)


# ---- inspect, verify, bench, doctor


def test_inspect(call: Any, eqm: Path) -> None:
    shown = call("inspect", eqm)
    for word in ("CONV_2D", "dense_1/MatMul", "0.00392157", "3x3 pad 1,1 R31 per channel", "DATA"):
        assert word in shown
    assert f"{edgeq.load(eqm).memory_bytes:,} bytes" in shown
    assert call("inspect", DIGITS).splitlines()[1:] == shown.splitlines()[1:]
    map_rows = shown[shown.index("(inputs)") :].splitlines()
    types = [op.type for op in edgeq.load(eqm).model.ops]
    assert [row.split()[1] for row in map_rows[1 : len(types) + 1]] == types
    assert all("#" in row or "%" in row for row in map_rows[1:6])  # what each operator writes


def test_inspect_json(call: Any, eqm: Path) -> None:
    found = call("inspect", eqm, "--json")
    image = read_program(eqm.read_bytes())
    session = edgeq.load(eqm)
    assert [op["type"] for op in found["ops"]] == [op.opcode for op in image.ops]
    assert found["memory"]["session_bytes"] == session.memory_bytes
    assert found["metadata"] == image.metadata
    assert found["inputs"][0] == {
        "name": "image",
        "dtype": "int8",
        "shape": [1, 8, 8, 1],
        "scale": session.inputs[0].scale,
        "zero_point": -128,
    }
    assert sum(op["macs"] for op in found["ops"]) == 262272
    assert len(found["tensors"]) == len(image.tensors)


def test_inspect_kernels(call: Any, eqm: Path) -> None:
    shown = call("inspect", eqm, "--kernels")
    found = call("inspect", eqm, "--kernels", "--json")
    session = edgeq.load(eqm)
    assert found["isa"] == session.model.isa
    assert [op["type"] for op in found["ops"]] == [op.type for op in session.model.ops]
    assert sum(op["macs"] for op in found["ops"]) == 262272
    for op in found["ops"]:
        assert op["why"]
        assert bool(op["slot"]) == bool(op["kernel"])
        assert f"{op['slot']} {op['kernel']}" in shown
        assert op["why"] in shown
        if op["macs"] and op["kernel"] != "scalar":
            assert op["packed_bytes"] > 0
    slots = {op["type"]: op["slot"] for op in found["ops"]}
    assert slots["CONV_2D"] == slots["FULLY_CONNECTED"] == "gemm"
    assert f"the best here is {session.model.isa}" in shown


def test_inspect_every_dtype(call: Any, tmp_path: Path) -> None:
    (tmp_path / "m.eqm").write_bytes(write_program(MIXED))
    assert "uint8" in call("inspect", tmp_path / "m.eqm")
    assert len(call("inspect", tmp_path / "m.eqm", "--json")["inputs"]) == 6


def test_verify(call: Any, fail: Any, eqm: Path, tmp_path: Path) -> None:
    assert "3 golden cases, all equal" in call("verify", eqm)
    assert call("verify", eqm, "--json")["ok"] is True
    program = passing(("x", "int8", (4,), 0.5, 0))
    (tmp_path / "none.eqm").write_bytes(write_program(program))
    assert "no golden cases" in fail("verify", tmp_path / "none.eqm")
    (tmp_path / "wrong.eqm").write_bytes(write_program(program, [(1, bytes(32))]))
    assert "wrong.eqm: golden case 0" in fail("verify", tmp_path / "wrong.eqm")


def test_verify_json_of_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "m.eqm"
    model.write_bytes(write_program(passing(("x", "int8", (4,), 0.5, 0)), [(1, bytes(32))]))
    assert main(["verify", str(model), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], found["cases"]) == (False, 1)
    assert "golden case 0" in found["problem"]


def test_bench(call: Any, fail: Any, eqm: Path) -> None:
    shown = call("bench", eqm, "--seconds", "0.1")
    assert "FULLY_CONNECTED" in shown
    assert "MAC/s" in shown
    found = call("bench", DIGITS, "--runs", "7", "--json")
    assert found["runs"] == 7
    assert 0 < found["minimum_ns"] <= found["median_ns"] <= found["p90_ns"]
    assert found["macs"] == sum(op["macs"] for op in found["ops"]) == 262272
    assert "must be larger than 0" in fail("bench", eqm, "--runs", "0")
    assert "must be larger than 0" in fail("bench", eqm, "--seconds", "-1")


def test_doctor(call: Any, eqm: Path) -> None:
    shown = call("doctor")
    found = call("doctor", "--json")
    assert found["edgeq"] == edgeq.__version__
    assert found["kernels"] == edgeq.load(eqm).model.isa
    assert found["numpy"] in shown
    names = [isa["name"] for isa in found["isas"]]
    assert names[0] == "scalar"
    runs = [isa["name"] for isa in found["isas"] if not isa["missing"]]
    assert found["kernels"] == runs[-1]
    assert all(f"  {name}  " in shown for name in names)
    assert shown.count("runs here") == len(runs) + 1
    assert set(found["extras"]) == {"tflite", "pillow", "rich"}


def test_cap_of_kernels(
    call: Any, fail: Any, eqm: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("EDGEQ_ISA", "scalar")
    assert re.search(r"kernels +scalar, under EDGEQ_ISA=scalar\n", call("doctor"))
    found = call("doctor", "--json")
    assert (found["kernels"], found["cap"]) == ("scalar", "scalar")
    assert "(scalar kernels)" in call("verify", eqm)
    assert all(op.kernel in ("scalar", "") for op in edgeq.load(eqm).model.ops)
    monkeypatch.setenv("EDGEQ_ISA", "mmx")
    names = " ".join(isa["name"] for isa in found["isas"])
    message = f"EDGEQ_ISA is 'mmx'; this build has {names}"
    for command in ("verify", "inspect", "bench", "run"):
        assert message in fail(command, eqm)
    with pytest.raises(edgeq.ArgumentError, match=message):
        edgeq.load(eqm)
    assert main(["doctor"]) == 1
    assert f"none: {message}" in capsys.readouterr().out


def test_doctor_says_how_to_install(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata as metadata

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert "not installed: pip install tflite" in call("doctor")


# ---- what a board has: numpy alone

WITHOUT_EXTRAS = """
import sys
for name in ("tflite", "flatbuffers", "PIL", "rich"):
    sys.modules[name] = None
from edgeq.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_commands_with_numpy_alone(eqm: Path, tmp_path: Path) -> None:
    def run(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WITHOUT_EXTRAS, *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8, 1), np.int8))
    for words in (
        ["run", eqm, "--input", "x.npy"],
        ["inspect", eqm],
        ["verify", eqm],
        ["bench", eqm, "--runs", "3"],
        ["doctor"],
    ):
        done = run(*words)
        assert done.returncode == 0, done.stderr
    for words in (["convert", DIGITS, "-o", "a.eqm"], ["run", DIGITS, "--input", "x.npy"]):
        done = run(*words)
        assert done.returncode == 1
        assert "pip install" in done.stderr
        assert "edgeq[convert]" in done.stderr


# ---- text


def test_numbers() -> None:
    assert [text.short(n) for n in (0, 999, 1000, 262272, 999_700, 1.5e6, 3e9)] == [
        *("0", "999", "1 k", "262 k", "1 M", "1.5 M", "3 G")
    ]
    assert [text.duration(n) for n in (40, 1500, 2_340_000, 3e9)] == [
        *("40 ns", "1.5 us", "2.34 ms", "3 s")
    ]
    assert text.shape((1, 8, 8)) == "1x8x8"
    assert text.shape(()) == "scalar"


def test_tables() -> None:
    assert text.table([("a", 1), ("bcd", 20)], ("name", "n")) == "name   n\na      1\nbcd   20"
    assert text.table([]) == ""
    assert text.table([], ("name", "n")) == "name  n"
