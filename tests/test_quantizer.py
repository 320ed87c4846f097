# SPDX-License-Identifier: Apache-2.0
"""Calibration: what is observed, which ranges follow, and what the weights become."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.errors import ArgumentError, UnsupportedError
from edgeq.ir.graph import Array, Graph, Node, Tensor
from edgeq.ir.ops import Arithmetic, Conv2D, DepthwiseConv2D, FullyConnected, NoAttrs, Reduce
from edgeq.quantize import ranges, weights
from edgeq.quantize.equalize import equalize
from edgeq.quantize.execute import FloatRunner
from edgeq.quantize.observe import Moments, Observed, Statistics
from edgeq.quantize.quality import sqnr, variation_sqnr
from edgeq.quantize.scheme import Scheme

RNG = np.random.default_rng(7)


def observed(*samples: Array) -> Observed:
    o = Observed()
    for x in samples:
        o.add(np.asarray(x, np.float32))
    return o


def const(data: Array) -> Tensor:
    data = np.asarray(data, np.float32)
    return Tensor("c", data.shape, "float32", data=data)


def node(op: str, inputs: list[Tensor | None], shape: tuple[int, ...], attrs: object) -> Node:
    return Node(op, inputs, [Tensor(op.lower(), shape, "float32")], attrs, op.lower())


def tensor(name: str, *shape: int) -> Tensor:
    return Tensor(name, shape, "float32")


# ---- ranges


def test_observed_channels() -> None:
    x = RNG.normal(size=(3, 1, 5, 4, 6)).astype(np.float32)
    o = observed(*x)
    assert o.channel_low is not None
    assert o.channel_high is not None
    np.testing.assert_array_equal(o.channel_low, x.min((0, 1, 2, 3)))
    np.testing.assert_array_equal(o.channel_high, x.max((0, 1, 2, 3)))
    assert o.low == x.min()


def test_observed_values() -> None:
    """Extremes are exact, the histogram's values right to 1 / 256 and in order."""
    x = RNG.normal(size=1000) * 10 ** RNG.uniform(-6, 6, 1000)
    o = observed(x, [0.0, 0.0])
    assert (o.low, o.high) == (np.float32(x.min()), np.float32(x.max()))
    values, shares = o.values()
    assert (np.diff(values) >= 0).all()
    assert shares.sum() == pytest.approx(1)
    assert shares[values == 0].sum() == pytest.approx(2 / 1002)
    assert (np.abs(values) * shares).sum() == pytest.approx(np.abs(x).sum() / 1002, rel=0.005)


def test_methods() -> None:
    """One far outlier: min-max keeps it, a percentile never does, MSE weighs it."""
    bulk = RNG.normal(size=100_000)
    o = observed(np.append(bulk, 1000.0))
    assert ranges.min_max(o)[1] == 1000
    assert ranges.percentile(o)[1] < 6
    heavy = observed(RNG.standard_t(3, 100_000))
    errors = [ranges.noise(heavy, find(heavy), 8) for find in ranges.METHODS.values()]
    best = errors[list(ranges.METHODS).index("mse")]
    assert best < 1.1 * min(errors)
    assert best < errors[0]
    low, high = ranges.entropy(observed(np.append(bulk, 40.0)))
    assert low < -2 and 2 < high < 20
    o = observed([-1, 3], [-2, 1])
    assert ranges.moving_average(o) == (-1.5, 2)
    uniform = observed(RNG.uniform(-1, 1, 100_000))
    assert ranges.mse(uniform) == ranges.min_max(uniform)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("r", [(-1.0, 2.0), (0.5, 3.0), (-4.0, -1.0), (0.0, 0.0), (-1e-12, 1e-12)])
def test_qparams(r: tuple[float, float], bits: int) -> None:
    """Zero is exact, both ends fit but for half a step, int16 is symmetric."""
    q = ranges.qparams(r, bits)
    limits = (-128, 127) if bits == 8 else (-32768, 32767)
    step = float(q.scale)
    assert limits[0] <= q.zero_point <= limits[1]
    assert step * (limits[0] - q.zero_point) <= min(r[0], 0) + step / 2
    assert step * (limits[1] - q.zero_point) >= max(r[1], 0) - step / 2
    assert bits == 8 or q.zero_point == 0


def test_noise() -> None:
    """Of a uniform distribution: 1 / 12 of a step squared over a third of the range's square."""
    o = observed(RNG.uniform(-1, 1, 200_000))
    assert ranges.noise(o, (-1, 1), 8) == pytest.approx((2 / 255) ** 2 / 12 * 3, rel=0.05)
    assert ranges.noise(o, (-1, 1), 16) == pytest.approx((1 / 32767) ** 2 / 12 * 3, rel=0.05)
    assert ranges.noise(o, (-0.5, 0.5), 8) > 0.1


# ---- quality


def test_sqnr() -> None:
    x = RNG.normal(size=1000)
    assert sqnr(x, x) == 99
    assert sqnr(x, x * 1.1) == pytest.approx(20, abs=1e-6)
    assert sqnr(x, np.full(1000, np.nan)) < 0
    # an output that is always 1 but for one score: the whole is fine, the score is lost
    reference = [np.ones(1000) for _ in range(8)]
    found = [np.ones(1000) for _ in range(8)]
    for i in range(8):
        reference[i][5] = i % 2
        found[i][5] = 0.4
    assert sqnr(np.stack(reference), np.stack(found)) > 20
    assert variation_sqnr(reference, found) < 3


# ---- groups of tensors


def test_groups() -> None:
    x = tensor("x", 1, 4, 4, 2)
    pool = node("RESHAPE", [x], (1, 32), NoAttrs())
    soft = node("LOGISTIC", [pool.output], (1, 32), NoAttrs())
    mean = node("MEAN", [soft.output], (1, 1), Reduce((1,), True))
    scheme = Scheme(Graph([pool, soft, mean], [x], [mean.output]))
    assert scheme.of[x] is scheme.of[pool.output]
    assert scheme.of[soft.output].op == "LOGISTIC"
    assert scheme.of[mean.output] not in (scheme.of[x], scheme.of[soft.output])
    assert scheme.observed() == [x, soft.output, mean.output]


# ---- weights


def moments_of(n: Node, rows: Array) -> Moments:
    m = Moments(n, True)
    m._waiting.append(np.asarray(rows, np.float32))
    m.flush()
    return m


def fully_connected(inputs: int, outputs: int) -> Node:
    w = const(RNG.normal(size=(outputs, inputs)))
    bias = const(RNG.normal(size=outputs))
    return node(
        "FULLY_CONNECTED", [tensor("x", 1, inputs), w, bias], (1, outputs), FullyConnected()
    )


def test_compensated_rounding() -> None:
    """Of correlated inputs with a mean, the layer's output is nearer than by nearest rounding, in
    each of three steps."""
    n = fully_connected(64, 32)
    x = (
        RNG.normal(size=(4000, 8)) @ RNG.normal(size=(8, 64))
        + RNG.normal(size=(4000, 64)) * 0.1
        + 2
    )
    m = moments_of(n, x)
    w, bias = np.float64(n.input(1).data), np.float64(n.input(2).data)

    def error(**how: object) -> float:
        q = weights.quantize_weights(n, m, 0.1, **how)  # type: ignore[arg-type]
        assert q.data.dtype == np.int8 and q.data.min() >= -127
        assert q.bias is not None
        found = x @ (q.data * np.float64(q.scales)[:, None]).T + q.bias
        return float((((x @ w.T + bias) - found) ** 2).mean())

    nearest = error(compensate=False, correct=False)
    corrected = error(compensate=False)
    compensated = error()
    swept = error(sweeps=3)
    assert swept <= 1.02 * compensated < 0.9 * corrected < 0.8 * nearest


def test_depthwise_rounding() -> None:
    """Each channel by its own covariance."""
    w = const(RNG.normal(size=(1, 3, 3, 5)))
    x = tensor("x", 1, 9, 9, 5)
    n = node("DEPTHWISE_CONV_2D", [x, w, None], (1, 7, 7, 5), DepthwiseConv2D())
    rows = np.repeat(RNG.normal(size=(3000, 5, 1)), 9, 2) + RNG.normal(size=(3000, 5, 9)) * 0.1
    m = moments_of(n, rows)
    real = np.float64(w.data)[0].reshape(9, 5).T

    def error(compensate: bool) -> float:
        q = weights.quantize_weights(n, m, 0.1, compensate=compensate)
        assert q.data.shape == (1, 3, 3, 5)
        d = q.data[0].reshape(9, 5).T * np.float64(q.scales)[:, None] - real
        return float(
            (np.einsum("nck,ck->nc", rows, d) + (q.bias if q.bias is not None else 0)).var(0).sum()
        )

    assert error(True) < 0.8 * error(False)


def test_bias_fits() -> None:
    """A channel of almost no weight and a large bias gets a scale with which the bias fits."""
    n = fully_connected(4, 2)
    n.inputs[1] = const(np.array([[1e-20] * 4, [1.0] * 4]))
    n.inputs[2] = const(np.array([5.0, 0.0]))
    q = weights.quantize_weights(n, None, 1e-3)
    assert q.bias is not None
    assert abs(q.bias[0] / (1e-3 * float(q.scales[0]))) < 2**31
    assert q.data[1].tolist() == [127] * 4


def test_equalize() -> None:
    """One channel a hundred times as large as the others: afterwards all are alike, and the network
    computes the same."""
    pytest.importorskip("onnxruntime")
    scale = np.array([100.0, 1, 1, 1, 0])
    x = tensor("x", 1, 6, 6, 3)
    w1, w2 = (
        RNG.normal(size=(5, 3, 3, 3)) * scale[:, None, None, None],
        RNG.normal(size=(2, 1, 1, 5)),
    )
    a = node("CONV_2D", [x, const(w1), const(RNG.normal(size=5) * scale)], (1, 4, 4, 5), Conv2D())
    a.attrs = Conv2D(activation="RELU")
    d = node(
        "DEPTHWISE_CONV_2D",
        [a.output, const(RNG.normal(size=(1, 3, 3, 5))), None],
        (1, 2, 2, 5),
        DepthwiseConv2D(),
    )
    b = node("CONV_2D", [d.output, const(w2), None], (1, 2, 2, 2), Conv2D())
    graph = Graph([a, d, b], [x], [b.output])
    feeds = [{"x": RNG.normal(size=x.shape).astype(np.float32)} for _ in range(8)]

    def channels(g: Graph) -> tuple[Array, list[Array]]:
        runner, o = FloatRunner(g, [n.output for n in g.nodes]), Observed()
        statistics = Statistics([n.output for n in g.nodes], [])
        found = []
        for feed in feeds:
            values = runner.run(feed)
            statistics.add(values)
            found.append(values[g.outputs[0]])
        o = statistics.tensors[g.nodes[1].output]
        assert o.channel_low is not None and o.channel_high is not None
        spans = np.maximum(o.channel_high, -o.channel_low)
        equal = equalize(g, statistics)
        assert equal is not None or g is not graph
        if g is graph:
            assert equal is not None
            other, again = channels(equal)
            np.testing.assert_allclose(again, found, rtol=1e-3, atol=1e-2)
            assert spans[0] > 8 * spans[1:4].max()
            assert other[0] / other[1:4].max() < 0.5 * spans[0] / spans[1:4].max()
        return spans, found

    channels(graph)


# ---- statistics of whole layers


@pytest.mark.parametrize("first", [False, True], ids=["last", "first"])
def test_windows(first: bool) -> None:
    """The mean of sampled windows is that of all, padding included, however x lies in memory."""
    w = const(RNG.normal(size=(4, 3, 3, 2)))
    x = tensor("x", 1, 12, 12, 2)
    n = node("CONV_2D", [x, w, None], (1, 12, 12, 4), Conv2D(pad_top=1, pad_left=1))
    statistics = Statistics([x], [n], expected=200)
    data = RNG.normal(size=x.shape).astype(np.float32) + 3
    if first:
        data = np.ascontiguousarray(data.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    for _ in range(200):
        statistics.add({x: data})
    statistics.finish()
    wide = np.pad(data, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = [wide[0, i : i + 3, j : j + 3].reshape(-1) for i in range(12) for j in range(12)]
    m = statistics.layers[n]
    np.testing.assert_allclose(m.mean, np.mean(windows, 0), atol=0.5)
    covariance = m.covariance()
    assert covariance is not None
    np.testing.assert_allclose(covariance, np.cov(np.transpose(windows)), atol=1.5)
    assert statistics.tensors[x].samples == 200


def test_messages() -> None:
    from edgeq.quantize.calibrate import Options, quantize

    with pytest.raises(ArgumentError, match="no range method 'max'; auto, minmax"):
        Options(method="max")
    pytest.importorskip("onnxruntime")
    x = tensor("x", 1, 4)
    n = node("ADD", [x, const(np.full(4, np.inf))], (1, 4), Arithmetic())
    graph = Graph([n], [x], [n.output])
    with pytest.raises(ArgumentError, match="not a single calibration sample"):
        quantize(graph, [], lambda *_: lambda _: [])
    with pytest.raises(UnsupportedError, match="infinities or NaN at 'add'"):
        quantize(graph, [{"x": np.ones((1, 4), np.float32)}], lambda *_: lambda _: [])


def test_dependent_inputs() -> None:
    """Inputs that are copies of each other, or always 0, leave no positive covariance."""
    n = fully_connected(64, 8)
    x = np.repeat(RNG.normal(size=(2000, 2)) * 1e4, 32, 1) + 1e6
    x[:, 10:20] = 0
    q = weights.quantize_weights(n, moments_of(n, x), 0.1)
    assert np.isfinite(q.scales).all()
    w = const(RNG.normal(size=(1, 3, 3, 5)))
    d = node(
        "DEPTHWISE_CONV_2D", [tensor("x", 1, 9, 9, 5), w, None], (1, 7, 7, 5), DepthwiseConv2D()
    )
    rows = np.repeat(RNG.normal(size=(3000, 5, 1)) + 1e5, 9, 2)
    rows[:, 3] = 0
    assert weights.quantize_weights(d, moments_of(d, rows), 0.1).data.any()
