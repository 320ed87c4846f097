# SPDX-License-Identifier: Apache-2.0
"""edgeq compare: the operators of a file beside the layers of its float network."""

from __future__ import annotations

import json
from pathlib import Path

import eqm_evaluate
import numpy as np
import pytest
from eqm_programs import PROGRAMS
from programs import DIGITS

import edgeq
from edgeq.cli import main
from edgeq.errors import ArgumentError
from edgeq.format.golden import golden_inputs
from edgeq.format.reader import read_program
from edgeq.format.watch import watched
from edgeq.format.writer import write_program
from edgeq.layerwise import Comparison, _Sums
from edgeq.runtime.model import Model
from edgeq.runtime.session import Session

ONNX = DIGITS.with_name("digits_float.onnx")
RNG = np.random.default_rng(5)


@pytest.mark.parametrize("name", PROGRAMS)
def test_watched(name: str) -> None:
    """Every operator of a file becomes an output with the bytes that it has inside."""
    program = PROGRAMS[name]()
    image = read_program(write_program(program))
    seen = watched(image, range(len(image.ops)))
    for port in seen.outputs:
        port.dtype = port.value.dtype  # as it is stored
    for port in seen.inputs:
        port.dtype, port.scale, port.zero_point = port.value.dtype, 0.0, 0
    inputs = golden_inputs(3, [(p.value.dtype, p.value.shape) for p in seen.inputs])
    found = Session(Model(write_program(seen))).run(*inputs)
    expected = eqm_evaluate.evaluate(seen, inputs)
    assert len(found) == len(program.ops) > 0
    for y, z in zip(found, expected):
        np.testing.assert_array_equal(y, z)


def test_sums() -> None:
    """dB by hand; factors of channels are found, noise is no factor."""
    a = RNG.normal(size=(1, 20, 20, 4))
    noise = RNG.normal(size=a.shape) / 100
    sums = _Sums()
    sums.add(a[:, :10], (a + noise)[:, :10])
    sums.add(a[:, 10:], (a + noise)[:, 10:])
    expected = 10 * np.log10((a * a).sum() / (noise**2).sum())
    assert sums.sqnr(True) == pytest.approx((expected, False))
    assert (sums.low, sums.high) == (a.min(), a.max())
    scaled = _Sums()
    scaled.add(a, (a + noise) * [0.5, 1, 2, 3])
    assert scaled.sqnr(True) == pytest.approx((expected, True), abs=0.1)
    assert scaled.sqnr(False)[0] < 5
    same = _Sums()
    same.add(a, a)
    assert same.sqnr(True) == (99, False)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """digits.eqm, calibrated, with its data."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("digits")
    with np.load(DIGITS.with_name("digits_test.npz")) as file:
        x = (file["images"] / 16).astype(np.float32).reshape(-1, 1, 1, 8, 8)
    np.savez(folder / "x.npz", x=x)
    edgeq.convert(ONNX, folder / "digits.eqm", calibrate=x[:60], effort="fast")
    return folder


def test_digits(digits: Path) -> None:
    """All layers are found; the values are the float network's."""
    comparison = Comparison((digits / "digits.eqm").read_bytes(), ONNX)
    with np.load(digits / "x.npz") as file:
        samples = [{"image": x} for x in file["x"][:20]]
    found = comparison.run(samples)
    assert found.samples == 20
    assert [layer.op for layer in found.layers] == [
        *("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "AVERAGE_POOL_2D", "CONV_2D", "ADD"),
        *("DEPTHWISE_CONV_2D", "CONV_2D", "MEAN", "FULLY_CONNECTED", "SOFTMAX"),
    ]
    assert found.only_float == ()
    assert all(20 < layer.sqnr <= 99 and not layer.scaled for layer in found.layers)
    import onnxruntime

    session = onnxruntime.InferenceSession(str(ONNX), providers=["CPUExecutionProvider"])
    exact = np.stack([session.run(None, sample)[0] for sample in samples])
    assert found.layers[-1].high == pytest.approx(exact.max(), abs=1e-5)
    eqm = edgeq.load(digits / "digits.eqm")
    own = np.stack([eqm.run(sample["image"], float_output=True)[0] for sample in samples])
    error = ((exact.astype(np.float64) - own) ** 2).sum()
    expected = 10 * np.log10((exact.astype(np.float64) ** 2).sum() / error)
    assert found.layers[-1].sqnr == pytest.approx(expected, abs=0.05)
    assert found.worst().sqnr == min(layer.sqnr for layer in found.layers)


def test_command(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", str(digits / "digits.eqm"), str(ONNX), "--data", str(digits / "x.npz")]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "16 samples" in shown and "branch.conv" in shown
    assert main([*words, "--limit", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["samples"] == 5 and len(found["layers"]) == 11
    assert main([*words, "--min-sqnr", "98", "--worst", "2"]) == 2
    shown = capsys.readouterr()
    assert "--min-sqnr asks for 98" in shown.err
    assert len([line for line in shown.out.splitlines() if "CONV_2D" in line]) <= 2


def test_errors(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    eqm = (digits / "digits.eqm").read_bytes()
    with pytest.raises(ArgumentError, match="is quantized"):
        Comparison(eqm, DIGITS)
    other = write_program(PROGRAMS["conv_add_view"]())
    with pytest.raises(ArgumentError, match="no operator of the file"):
        Comparison(other, ONNX)
    data = str(digits / "x.npz")
    assert main(["compare", str(ONNX), str(ONNX), "--data", data]) == 1
    assert "not an .eqm file" in capsys.readouterr().err
