# SPDX-License-Identifier: Apache-2.0
"""The report on quantization: whose error it is and why, on networks with planted faults."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from float_nets import FloatNet

pytest.importorskip("onnxruntime")
from edgeq.cli.quantization import print_quantization, too_noisy, write_report
from edgeq.converter import Converted
from edgeq.errors import ArgumentError
from edgeq.quantize.calibrate import Repair
from edgeq.quantize.quality import variation_sqnr
from edgeq.quantize.report import Layer, QuantizationReport
from edgeq.quantizer import simulate


def layer(report: QuantizationReport, name: str) -> Layer:
    return next(found for found in report.layers if found.name == name)


def cause(report: QuantizationReport, name: str) -> str:
    return layer(report, name).causes[0].name


def test_a_sound_network() -> None:
    """Nothing is weak; errors add up; rows are in the order of the network."""
    net = FloatNet((1, 8, 8, 8))
    a = net.conv(net.x, 16, activation="RELU", name="first")
    b = net.conv(a, 16, name="second")
    scores = net.dense(net.mean(net.plus(a, b, "sum"), "mean"), 10, "scores")
    quantized = net.quantize([scores])
    report = net.analysed(quantized)
    assert [found.name for found in report.layers] == [
        *("x", "first", "second", "sum", "mean", "scores")
    ]
    assert [found.op for found in report.layers[:2]] == ["INPUT", "CONV_2D"]
    assert not [found for found in report.layers if found.weak or found.causes]
    assert report.score == quantized.score == pytest.approx(report.outputs[0].variation)
    assert (report.samples, report.judged, report.method) == (16, 16, "minmax")
    for found in report.layers:
        assert found.bits == 8
        noise = 10 ** (-found.own / 10) + 10 ** (-found.inherited / 10)
        assert found.sqnr == pytest.approx(-10 * np.log10(noise), abs=1.5)
        assert found.rounding + found.clipping + found.weights == pytest.approx(1)
        assert found.low - found.scale <= found.observed_low <= 0
        assert 0 < found.observed_high <= found.high + found.scale
    assert layer(report, "first").macs == 8 * 8 * 16 * 8
    assert layer(report, "sum").macs == 0
    # the runs that the table compares: the integers as the device computes them
    found = simulate(quantized.graph, [])(quantized.judged.feeds[0])[0]
    exact = quantized.judged.outputs[0][0]
    assert 20 < report.outputs[0].sqnr < 60
    assert np.abs(found - exact).max() < 0.1 * np.abs(exact).max()


def test_own_and_inherited() -> None:
    """A coarse input is inherited by all that follow, whose own error stays small."""
    net = FloatNet((1, 8, 8, 8))
    y = net.conv(net.conv(net.x, 8, activation="RELU6", name="first"), 8, name="second")
    samples = net.samples()
    samples[0]["x"][0, 0, 0, 0] = 300.0  # takes most of the range
    report = net.report(y, samples=samples)
    assert cause(report, "x") == "long tail"
    assert layer(report, "x").own < 21
    assert layer(report, "x").inherited == 99
    for name in ("first", "second"):
        found = layer(report, name)
        assert found.inherited < found.own
    effects = {found.name: found.effect for found in report.layers}
    assert effects["x"] is not None
    assert report.worst()[0].name == "x"


def test_classes_that_no_sample_shows() -> None:
    """Their scores are nothing but noise, which counts beside the scores of the others only."""
    reference = [np.float32([[1 - 1e-6 * i, 0, 1e-9 * i]]) for i in range(4)]
    reference += [np.float32([[0, 1 - 1e-6 * i, 1e-9 * i]]) for i in range(4)]
    found = [y + np.float32([[1e-3, -1e-3, 1e-3]]) for y in reference]
    assert variation_sqnr(reference, found) == pytest.approx(53.5, abs=1)
    places = [np.tile(y, (1, 50, 1)) for y in reference]  # of a detector every part counts
    assert variation_sqnr(places, [np.tile(y, (1, 50, 1)) for y in found]) < 10


def test_outlier_channel() -> None:
    net = FloatNet((1, 8, 8, 16))
    w = net.rng.normal(size=(16, 1, 1, 16)) / 4
    w[5] *= 60
    y = net.conv(net.conv(net.x, 16, weights=w, name="loud"), 16, name="next")
    report = net.report(y)
    assert cause(report, "loud") == "outlier channel"
    found = layer(report, "loud").causes[0]
    assert "channel 5" in found.evidence
    assert 4.5 < found.bits < 7.5  # log2 60 is 5.9
    assert "16 bits" in found.advice
    assert layer(report, "loud").own > 25  # of all channels together: nothing to be seen
    assert layer(report, "loud").typical < 15


def test_long_tail() -> None:
    """By min-max the steps are coarse, by a percentile the tail is cut off: one cause."""
    net = FloatNet((1, 32, 32, 4))
    y = net.conv(net.conv(net.x, 4, name="tail"), 8)
    samples = net.samples(32)
    samples[4]["x"][0, 0, 0, 0] = 500.0
    assert cause(net.report(y, samples=samples), "tail") == "long tail"

    # behind the input, whose range holds everything, the percentile cuts
    cut = net.report(y, samples=samples, method="percentile")
    found = layer(cut, "tail")
    assert found.clipping > 0.5
    assert found.causes[0].name == "long tail"
    assert found.high < 100 < found.observed_high


def test_dead_range() -> None:
    """Values around 20 in a range that must hold zero."""
    net = FloatNet((1, 8, 8, 8))
    y = net.conv(net.x, 8, bias=np.full(8, 40.0), name="shifted")
    report = net.report(net.conv(y, 4))
    assert cause(report, "shifted") == "dead range"
    assert layer(report, "shifted").own > 40  # the constant hides it
    net = FloatNet((1, 8, 8, 8))
    same = np.eye(8).reshape(8, 1, 1, 8) / 2
    y = net.unary("LOGISTIC", net.conv(net.x, 8, weights=same, bias=np.full(8, -5.0)), "tiny")
    report = net.report(net.conv(y, 4))
    assert cause(report, "tiny") == "dead range"
    assert layer(report, "tiny").high == pytest.approx(255 / 256)


def test_shared_concat_scale() -> None:
    net = FloatNet((1, 8, 8, 8))
    loud = net.conv(net.x, 8, name="loud")
    quiet = net.conv(net.x, 8, weights=net.rng.normal(size=(8, 1, 1, 8)) / 300, name="quiet")
    y = net.conv(net.concat([loud, quiet], "joined"), 8)
    report = net.report(y)
    assert cause(report, "joined") == "shared concat scale"
    assert "'quiet:0'" in layer(report, "joined").causes[0].evidence
    assert layer(report, "joined").own > 30  # the loud half hides it
    assert not layer(report, "loud").weak


def test_clipped_input() -> None:
    """Calibrated on quiet samples but for those by which it is judged."""
    net = FloatNet((1, 8, 8, 8))
    quantized = net.quantize([net.conv(net.x, 8)])
    quantized.judged.feeds = net.samples(16, scale=5.0)
    report = net.analysed(quantized)
    assert cause(report, "x") == "clipped input"
    assert layer(report, "x").clipped > 0.1
    assert "%" in layer(report, "x").causes[0].evidence


def test_saturating_add() -> None:
    net = FloatNet((1, 32, 32, 8))
    y = net.plus(net.x, net.conv(net.x, 8, weights=np.eye(8).reshape(8, 1, 1, 8)), "sum")
    samples = net.samples()
    for i, sample in enumerate(samples[:4]):
        sample["x"][0, i, i, i] = 500.0
    report = net.report(net.conv(y, 8), samples=samples, method="percentile")
    assert layer(report, "sum").clipping > 0.5
    assert cause(report, "sum") == "saturating add"


def test_weights() -> None:
    """One weight of a channel is 2000 times the others, and what it meets is small."""
    net = FloatNet((1, 8, 8, 64))
    w = net.rng.normal(size=(8, 1, 1, 64)) / 8
    w[:, 0, 0, 0] = 250
    samples = net.samples()
    for sample in samples:
        sample["x"][..., 0] *= 1e-4
    report = net.report(net.conv(net.x, 8, weights=w, name="rough"), samples=samples)
    found = layer(report, "rough")
    assert found.weights > 0.5
    assert found.causes[0].name == "weights"
    assert "root mean square" in found.causes[0].evidence


def test_coarse_steps() -> None:
    """Values of many magnitudes, none of them rare: nothing but more bits would help."""
    net = FloatNet((1, 16, 16, 8))
    samples = net.samples()
    for sample in samples:
        sample["x"] = np.sign(sample["x"]) * np.exp(sample["x"] * 1.6).astype(np.float32)
    report = net.report(net.conv(net.x, 8), samples=samples)
    assert layer(report, "x").weak
    assert layer(report, "x").causes


def test_histograms() -> None:
    net = FloatNet((1, 16, 16, 8))
    report = net.report(net.conv(net.conv(net.x, 8, activation="RELU", name="first"), 8))
    assert len(report.histograms) == 3
    found = next(h for h in report.histograms if h.layer == "first")
    assert sum(found.shares) == pytest.approx(1)
    assert max(found.shares) == found.shares[int(-found.first / (found.last - found.first) * 96)]
    assert found.first <= found.low <= 0 < found.high <= found.last


# ---- what is shown of it


@pytest.fixture(scope="module")
def planted() -> tuple[QuantizationReport, Converted]:
    """A network with one outlier channel and a name that is markup."""
    net = FloatNet((1, 8, 8, 16))
    w = net.rng.normal(size=(16, 1, 1, 16)) / 4
    w[5] *= 60
    y = net.conv(net.conv(net.x, 16, weights=w, name="loud<b>&/" + 30 * "long/"), 16, name="next")
    quantized = net.quantize([y])
    quantized.repairs.append(Repair("more bits", 20.0, 23.0, True))
    return net.analysed(quantized), net.converted(quantized)


def test_table(
    planted: tuple[QuantizationReport, Converted], capsys: pytest.CaptureFixture[str]
) -> None:
    """The worst first, why, and no line longer than the terminal."""
    for width in (80, 100, 140):
        print_quantization(planted[0], width)
        shown = capsys.readouterr().out
        assert max(map(len, shown.splitlines())) <= width
        assert re.search(r"more bits +\+3\.0 dB", shown)
        rows = [line for line in shown.splitlines() if " CONV_2D " in line]
        assert len(rows) == 2
        assert "loud<b>&/" in shown
        assert "channel 5 reaches" in shown.replace("\n    ", " ")
    assert any(row.endswith("outlier channel") for row in rows)


def test_report_json(planted: tuple[QuantizationReport, Converted], tmp_path: Path) -> None:
    report, converted = planted
    write_report(tmp_path / "out.json", report, converted)
    found = json.loads((tmp_path / "out.json").read_text())
    assert [row["name"] for row in found["layers"]] == [row.name for row in report.layers]
    loud = found["layers"][1]
    assert loud["weak"] and loud["causes"][0]["name"] == "outlier channel"
    assert found["repairs"][-1]["gain"] == 3
    assert found["worst"] == [row.name for row in report.worst()]
    assert found["costs"]["macs"] == sum(row["macs"] for row in found["layers"]) == 8 * 8 * 512
    assert found["costs"]["file_bytes"] == len(converted.data)
    assert max(found["costs"]["live"]) <= found["costs"]["arena_bytes"]


class Elements(HTMLParser):
    """Which elements a page has, and whether all are closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.counts: dict[str, int] = {}
        self.text: list[str] = []
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.links += [v or "" for k, v in attrs if k in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_report_page(planted: tuple[QuantizationReport, Converted], tmp_path: Path) -> None:
    """Well formed, whole without any other file, names are text."""
    report, converted = planted
    write_report(tmp_path / "out.html", report, converted)
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    found = Elements(page)
    assert not found.open
    assert not found.links
    assert "script" not in found.counts and "url(" not in page and "@import" not in page
    assert found.counts["svg"] == 2 + len(report.histograms)  # and layers, RAM
    assert found.counts["circle"] == len(report.layers)
    text = "".join(found.text)
    for word in ("loud<b>&/", "outlier channel", "more bits", "+3.0", "next"):
        assert word in text
    assert f"{len(converted.data):,}" in text


def test_report_name(planted: tuple[QuantizationReport, Converted], tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"\.html or a \.json"):
        write_report(tmp_path / "out.pdf", *planted)


def test_limit(planted: tuple[QuantizationReport, Converted]) -> None:
    """--min-sqnr: a sentence that names output and layer, or nothing."""
    report = planted[0]
    assert too_noisy(report, report.outputs[0].variation - 0.1) == ""
    sentence = too_noisy(report, report.outputs[0].variation + 0.1)
    assert "'next:0'" in sentence
    assert repr(report.worst()[0].name) in sentence
