# SPDX-License-Identifier: Apache-2.0
"""Native arithmetic: R15 as docs/NUMERICS.md has it, its error, its lowering, whole networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Rng, chance, pick, seeded
from eqm_evaluate import golden_case, requantize_r15
from eqm_programs import Builder
from hypothesis import given
from hypothesis import strategies as st
from programs import DIGITS
from test_numerics import dense
from zoo import NETWORKS, model_bytes, model_input, zoo_folder

import edgeq
from edgeq.difference import differences
from edgeq.format.golden import SEEDS
from edgeq.format.program import Program
from edgeq.format.reader import read_program
from edgeq.format.spec import ARITH_R15, ARITH_R31
from edgeq.format.writer import write_program
from edgeq.ir.graph import Graph, Node, QParams, Tensor
from edgeq.quantize import multiplier
from edgeq.quantize.lower import lower
from edgeq.quantize.multiplier import INT32_MAX, RangeError, quantize_multipliers_r15
from edgeq.runtime import _core

OPS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")

# ---- one arithmetic, three times: C, the converter's model, the evaluator's


def scaling(rng: Rng, channels: int, per_channel: bool, taps: int) -> dict[str, Any]:
    """Multipliers that spread sums of `taps` products over the output, and some that do not."""
    count = channels if per_channel else 1
    fraction = int(rng.integers(7))
    usual = max(0, int(np.log2(taps) / 2) + 6 - fraction)
    e = -np.clip(usual + rng.integers(-3, 4, count), 0, 31)
    if chance(rng, 0.2):
        e = -rng.integers(0, 29, count)
    m = rng.integers(1 << 14, 1 << 15, count)
    m[rng.random(count) < 0.1] = pick(rng, 0, 1 << 14, (1 << 15) - 1)
    e[m == 0] = 0
    pairs = {"multiplier": m.astype(np.int32), "exponent": e.astype(np.int8)}
    return pairs | {"requant_count": count, "arithmetic": ARITH_R15, "fraction": fraction}


def layer(rng: Rng, opcode: str, per_channel: bool) -> Program:
    """A layer of random shape, weights, zero points and multipliers."""
    b = Builder()
    h, w, c = (int(n) for n in rng.integers(1, 9, 3))
    kh, kw, channels = (int(n) for n in rng.integers(1, 5, 3))
    channels = pick(rng, channels, 16, 33)
    window = {"stride_h": pick(rng, 1, 1, 2), "stride_w": pick(rng, 1, 1, 3)}
    shape: tuple[int, ...] = (1, -(-h // window["stride_h"]), -(-w // window["stride_w"]))
    pads = {"pad_top": (kh - 1) // 2, "pad_left": (kw - 1) // 2}
    if opcode == "FULLY_CONNECTED":
        x, weights, shape, window, pads = (h, c), (channels, c), (h,), {}, {}
    elif opcode == "DEPTHWISE_CONV_2D":
        multiplier = pick(rng, 1, 1, 2)
        channels = c * multiplier
        x, weights = (1, h, w, c), (1, kh, kw, channels)
        window |= {"depth_multiplier": multiplier}
    else:
        x, weights = (1, h, w, c), (channels, kh, kw, c)
        if opcode == "TRANSPOSE_CONV":
            shape = (1, h * window["stride_h"], w * window["stride_w"])
    zeros = {name: int(rng.integers(-128, 128)) for name in ("x_zero", "w_zero", "y_zero")}
    if chance(rng, 0.5):
        zeros["w_zero"] = 0
    low, high = sorted(int(n) for n in rng.integers(-128, 128, 2))
    bounds = {"act_min": low, "act_max": high} if chance(rng, 0.3) else {}
    spread = pick(rng, 1, 1 << 12, 1 << 24)
    bias = None if chance(rng, 0.2) else rng.integers(-spread, spread + 1, channels, np.int32)
    data = b.const(rng.integers(-128, 128, weights).astype(np.int8))
    taps = int(np.prod(weights)) // channels
    params = zeros | bounds | {"bias": bias} | scaling(rng, channels, per_channel, taps)
    y = b.mac(opcode, b.input("x", x), data, (*shape, channels), **window, **pads, **params)
    b.output("y", y)
    return b.program()


@pytest.mark.parametrize("isa", [name for name, missing in _core.isas() if not missing])
@pytest.mark.parametrize("per_channel", [True, False], ids=["channel", "tensor"])
@pytest.mark.parametrize("opcode", OPS)
@seeded(40)
def test_c_equals_the_evaluator(
    rng: Rng, opcode: str, per_channel: bool, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQ_ISA", isa)
    program = layer(rng, opcode, per_channel)
    data = write_program(program, [golden_case(program, seed) for seed in (5, 6)])
    assert edgeq.load(data).verify() == 2


@given(
    st.integers(-(2**31) + 1, 2**31 - 1),
    st.just(0) | st.integers(2**14, 2**15 - 1),
    st.integers(-31, 0),
    st.integers(0, 6),
    st.integers(-128, 127),
)
def test_the_converter_knows_what_the_kernels_do(
    acc: int, m: int, e: int, fraction: int, zero: int
) -> None:
    largest = INT32_MAX - (1 << -e) // 2
    acc = max(-largest, min(largest, acc))
    want = requantize_r15(np.array([acc]), np.array([m]), np.array([e]), fraction, zero)
    assert multiplier.requantize_r15(np.array([acc]), m, e, fraction, zero)[0] == want[0]


# ---- multipliers


@given(st.lists(st.floats(2.0**-25, 1 - 2.0**-16), min_size=1, max_size=5))
def test_multipliers_are_the_nearest(reals: list[float]) -> None:
    try:
        m, e, fraction = quantize_multipliers_r15(np.array(reals))
    except RangeError:
        assert max(reals) > 1 - 2.0**-15  # rounds up to 1
        return
    assert ((m >= 2**14) & (m < 2**15)).all()
    assert ((e >= -31) & (e <= 0)).all()
    found = m * np.exp2(e - 15.0 - fraction)
    assert (np.abs(found - reals) <= np.exp2(e - 16.0 - fraction)).all()
    assert 0 <= fraction <= 6
    assert fraction == 6 or e.max() == 0  # none larger is possible


@pytest.mark.parametrize(
    ("reals", "pairs", "fraction"),
    [
        ([0.5], [(2**14, 0)], 0),
        ([0.5 - 2.0**-20], [(2**14, 0)], 0),  # a carry
        ([0.25, 2.0**-8], [(2**14, 0), (2**14, -6)], 1),
        ([2.0**-7], [(2**14, 0)], 6),
        ([2.0**-38, 2.0**-39], [(2**14, -31), (0, 0)], 6),
        ([0.0, 0.0], [(0, 0), (0, 0)], 6),
    ],
)
def test_multiplier_edges(reals: list[float], pairs: list[tuple[int, int]], fraction: int) -> None:
    m, e, found = quantize_multipliers_r15(np.array(reals))
    assert list(zip(m.tolist(), e.tolist())) == pairs
    assert found == fraction


@pytest.mark.parametrize("reals", [[1.0], [0.1, 1 - 2.0**-17], [np.inf], [np.nan], [-0.1]])
def test_multipliers_out_of_range(reals: list[float]) -> None:
    with pytest.raises(RangeError):
        quantize_multipliers_r15(np.array(reals))


# ---- the error


def differing(fraction: int, unshifted: bool) -> float:
    """Most of all outputs that may differ from ideal rounding: docs/NUMERICS.md derives it.

    Multipliers near simple fractions meet the ties more often than others: a third more than that,
    and two thirds where the first shift is 0.
    """
    if fraction == 0:
        return 0.01 if unshifted else 0.27
    return 1.67 * 2.0 ** (-fraction - 1) if unshifted else 1.33 * 2.0 ** (-fraction - 2)


@pytest.mark.parametrize("unshifted", [True, False], ids=["shift 0", "shifted"])
@pytest.mark.parametrize("fraction", range(7))
def test_error_against_ideal_rounding(fraction: int, unshifted: bool) -> None:
    """Never more than one step; with all six bits less than 1 % of the outputs are off."""
    rng = np.random.default_rng([fraction, unshifted])
    worst, means = 0.0, []
    for k in range(60):
        shift = 0 if unshifted else 1 + k % 12
        m = int(rng.integers(1 << 14, 1 << 15))
        real = (m + rng.uniform(-0.5, 0.5)) * 2.0 ** (-15 - shift - fraction)
        zero = int(rng.integers(-128, 128))
        acc = rng.integers(int(-300 / real), int(300 / real) + 1, 30000)
        pair = np.array([m], np.int32), np.array([-shift], np.int8)
        bias = multiplier.bias_correction_r15(*pair, fraction)
        y = requantize_r15(acc - bias, *(p.astype(np.int64) for p in pair), fraction, zero)
        error = np.clip(y, -128, 127) - np.clip(np.floor(acc * real + 0.5) + zero, -128, 127)
        inside = np.abs(acc * real + zero) < 127
        assert np.abs(error).max() <= 1
        worst = max(worst, float((error[inside] != 0).mean()))
        means.append(float(error[inside].mean()))
    assert worst < differing(fraction, unshifted)
    if fraction == 6:
        assert worst < 0.01
    if fraction and not unshifted:
        assert abs(float(np.mean(means))) < 0.04 / 2**fraction


def test_saturation_is_the_clamp() -> None:
    """Where the 16-bit steps saturate, the output lies outside of int8 anyway."""
    for fraction in range(7):
        for m in (1 << 14, (1 << 15) - 1):
            for zero in (-128, 0, 127):
                acc = np.array([1 - 2**30, -(2**16), 1 - 2**15, 2**15, 2**16, 2**30])
                y = requantize_r15(acc, np.array([m]), np.array([0]), fraction, zero)
                ideal = np.floor(acc * (m * 2.0 ** (-15 - fraction)) + 0.5) + zero
                assert (np.clip(y, -128, 127) == np.clip(ideal, -128, 127)).all()


# ---- lowering


def scaled(
    scales: list[float], weights: np.ndarray | None = None, bias: np.ndarray | None = None
) -> Program:
    """The native program of a fully connected layer whose real multipliers are `scales`."""
    units = len(scales)
    w = np.full((units, 20), 3, np.int8) if weights is None else weights
    graph = dense(w, np.zeros(units, np.int32) if bias is None else bias, 5, 0)
    q = QParams(np.array(scales, np.float32), np.zeros(units, np.int32), 0)
    node = graph.nodes[0]
    x, _, b = node.inputs
    tensor = Tensor("w", w.shape, "int8", q, w)
    changed = Node(node.op, [x, tensor, b], node.outputs, node.attrs, node.name, 7)
    return lower(Graph([changed], graph.inputs, graph.outputs), "native")


def test_lowering() -> None:
    program = scaled([0.01, 0.002, 0.0001])
    (op,) = program.ops
    assert program.notes == []
    assert (op.params["arithmetic"], op.params["fraction"]) == (ARITH_R15, 6)
    assert op.params["requant_count"] == 3
    assert op.params["bias"].dtype == np.int32
    # Half a unit of the last bit, and half an accumulator unit where there is a shift.
    np.testing.assert_allclose(
        -op.params["bias"], 2.0**-7 / np.array([0.01, 0.002, 0.0001]), atol=1
    )


def test_one_multiplier_for_all() -> None:
    (op,) = scaled([0.01, 0.01]).ops
    assert op.params["requant_count"] == len(op.params["multiplier"]) == 1
    assert op.params["bias"].shape == (2,)


def test_a_layer_that_enlarges_keeps_r31() -> None:
    program = scaled([0.01, 1.25])
    (op,) = program.ops
    assert (op.params["arithmetic"], op.params["fraction"]) == (ARITH_R31, 0)
    assert op.params["bias"].tolist() == [0, 0]
    (note,) = program.notes
    assert note == "op 7 FULLY_CONNECTED 'dense' keeps R31: a scale ratio of 1.25 is not below 1"


def test_a_dead_channel_does_not_matter() -> None:
    """Its weights are 0, so that any multiplier would do."""
    weights = np.full((2, 20), 3, np.int8)
    weights[1] = 0
    (op,) = scaled([0.01, 1e6], weights).ops
    assert (op.params["arithmetic"], op.params["fraction"]) == (ARITH_R15, 6)
    assert op.params["multiplier"][1] == 0


def test_a_large_accumulator_keeps_r31() -> None:
    """The rounding of the first shift needs room below 2^31."""
    bias = np.array([0, INT32_MAX - 20 * 3 * 133], np.int32)
    program = scaled([0.01, 1e-5], bias=bias)
    assert program.ops[0].params["arithmetic"] == ARITH_R31
    assert "an accumulator can come too close to 2^31" in program.notes[0]
    bias[1] -= 1 << 20
    assert scaled([0.01, 1e-5], bias=bias).ops[0].params["arithmetic"] == ARITH_R15


# ---- networks


def test_convert_and_load(tmp_path: Path) -> None:
    exact, native = edgeq.convert(DIGITS), edgeq.convert(DIGITS, arithmetic="native")
    assert (exact.report.requantization, native.report.requantization) == ("R31", "R15")
    kinds = [
        op.params["arithmetic"] for op in read_program(native.data).ops if "arithmetic" in op.params
    ]
    assert len(kinds) >= 4
    assert set(kinds) == {ARITH_R15}
    for source in (native, native.data, DIGITS):
        session = edgeq.load(source, arithmetic="native")
        assert session.model.arithmetic == "native"
        assert session.verify() == len(SEEDS)
    assert edgeq.load(native).model.arithmetic == "native"
    assert edgeq.load(DIGITS).model.arithmetic == "exact"
    assert edgeq.load(exact, arithmetic="exact").verify() == len(SEEDS)
    with pytest.raises(edgeq.ArgumentError, match=r"has exact arithmetic.*--arithmetic native"):
        edgeq.load(exact, arithmetic="native")
    path = tmp_path / "native.eqm"
    path.write_bytes(native.data)
    with pytest.raises(edgeq.ArgumentError, match=r"has native arithmetic.*--arithmetic exact"):
        edgeq.load(path, arithmetic="exact")
    for wrong in ("fast", "", 1):
        with pytest.raises(edgeq.ArgumentError, match="must be 'exact' or 'native'"):
            edgeq.load(DIGITS, arithmetic=wrong)  # type: ignore[arg-type]
    with pytest.raises(edgeq.ArgumentError, match="must be 'exact' or 'native'"):
        edgeq.convert(DIGITS, arithmetic="fast")


def classes(source: Any, images: list[np.ndarray], arithmetic: str) -> np.ndarray:
    """The index of the highest score for each image."""
    session = edgeq.load(source, arithmetic=arithmetic)
    return np.array([session.run(x)[0].argmax() for x in images])


def test_digits() -> None:
    data = np.load(DIGITS.with_name("digits_test.npz"))
    images = [x[None, :, :, None].astype(np.float32) / 16 for x in data["images"]]
    exact, native = (classes(DIGITS, images, a) for a in ("exact", "native"))
    assert np.mean(exact == native) >= 0.995
    assert np.mean(native == data["labels"]) >= 0.97


def test_differences() -> None:
    exact, native = (edgeq.convert(DIGITS, arithmetic=a).data for a in ("exact", "native"))
    (none,) = differences(exact, exact)
    assert (none.elements, none.differing, none.max_step) == (10 * len(SEEDS), 0, 0)
    (some,) = differences(exact, native, range(1, 200))
    assert 0 < some.differing < some.elements == 1990
    assert 0 < some.max_step < 256


LABELLED = {
    "mlperf-tiny/pretrainedResnet_quant": "cifar10_1000.npz",
    "mlperf-tiny/kws_ref_model": "kws01_500.npz",
}


@pytest.mark.skipif(not zoo_folder().is_dir(), reason="there is no zoo")
@pytest.mark.parametrize("name", LABELLED)
def test_labelled_data(name: str) -> None:
    """Native arithmetic knows as much as exact. The residual network is unsure of many pictures."""
    network = next(n for n in NETWORKS if n.name == name)
    source = model_bytes(network)
    with np.load(zoo_folder() / "data" / LABELLED[name]) as data:
        labels = data["y"].ravel()[:300]
    _, load = network.feed()
    images = [load(i, model_input(source)) for i in range(len(labels))]
    exact, native = (classes(source, images, a) for a in ("exact", "native"))
    assert np.mean(exact == native) >= 0.92
    assert np.mean(native == labels) >= np.mean(exact == labels) - 0.02
