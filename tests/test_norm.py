# SPDX-License-Identifier: Apache-2.0
"""LAYER_NORM: the integer op against real numbers. TFLite has no kernel for it."""

from __future__ import annotations

import numpy as np
import pytest
from cases import Quant, Rng, Shape, chance, dims, f32, fill, pick, seeded

import edgeq
from edgeq.errors import UnsupportedError
from edgeq.format.writer import write_program
from edgeq.ir.graph import Graph, Node, QParams, Tensor
from edgeq.ir.ops import Norm
from edgeq.passes import run_passes
from edgeq.quantize.lower import lower


def tensor(name: str, shape: Shape, q: Quant) -> Tensor:
    return Tensor(name, shape, "int8", QParams.of(q.scale, q.zero_point))


def constant(name: str, data: np.ndarray | None) -> Tensor | None:
    if data is None:
        return None
    return Tensor(name, data.shape, "float32", None, data.astype(np.float32))


def run(
    x: np.ndarray,
    qx: Quant,
    qy: Quant,
    axes: Shape,
    gamma: np.ndarray | None = None,
    beta: np.ndarray | None = None,
    epsilon: float = 1e-5,
    centred: bool = True,
) -> np.ndarray:
    """By the runtime."""
    a, y = tensor("x", x.shape, qx), tensor("y", x.shape, qy)
    inputs = [a, constant("gamma", gamma), constant("beta", beta)]
    graph = Graph([Node("LAYER_NORM", inputs, [y], Norm(axes, epsilon, centred), "norm")], [a], [y])
    (got,) = edgeq.load(write_program(lower(run_passes(graph)))).run(x)
    return got


def real(
    x: np.ndarray,
    qx: Quant,
    axes: Shape,
    gamma: np.ndarray | None,
    beta: np.ndarray | None,
    epsilon: float,
    centred: bool = True,
) -> np.ndarray:
    v = (x.astype(np.float64) - qx.zero_point) * qx.scale
    d = v - v.mean(axes, keepdims=True) if centred else v
    y = d / np.sqrt((d**2).mean(axes, keepdims=True) + epsilon)
    one = np.float32(1) if gamma is None else gamma.astype(np.float32)
    none = np.float32(0) if beta is None else beta.astype(np.float32)
    return np.asarray(y * one.astype(np.float64) + none.astype(np.float64))


def rounded(v: np.ndarray, q: Quant) -> np.ndarray:
    return np.clip(np.floor(v / q.scale + q.zero_point + 0.5), -128, 127)


def check(
    x: np.ndarray,
    qx: Quant,
    axes: Shape,
    gamma: np.ndarray | None,
    beta: np.ndarray | None,
    epsilon: float = 1e-5,
    centred: bool = True,
) -> None:
    """Within a step of the real numbers rounded once, and off from that once in 500 times; what is
    lost beyond the rounding is 40 dB below the signal and more."""
    want = real(x, qx, axes, gamma, beta, epsilon, centred)
    qy = Quant.covering(np.random.default_rng(1), "int8", float(want.min()), float(want.max()))
    got = run(x, qx, qy, axes, gamma, beta, epsilon, centred)
    ideal = rounded(want, qy)
    different = np.abs(got - ideal)
    assert different.max() <= 1
    assert (different > 0).sum() <= 2 + x.size / 500
    signal = ((ideal - qy.zero_point) ** 2).sum()
    if signal > 0:
        assert 10 * np.log10(signal / max((different**2).sum(), 1e-9)) >= 40


@seeded(30)
def test_last_axis(rng: Rng) -> None:
    shape = (*dims(rng, int(rng.integers(0, 3)), 1, 5), int(rng.integers(2, 700)))
    gamma = rng.normal(1, 0.4, shape[-1:]) if chance(rng, 0.7) else None
    beta = rng.normal(0, 0.5, shape[-1:]) if chance(rng, 0.7) else None
    check(fill(rng, shape, "int8"), Quant.random(rng, "int8"), (len(shape) - 1,), gamma, beta)


@pytest.mark.parametrize("axes", [(1, 2), (1, 2, 3), (3,), (2, 3), (1,)])
@seeded(3)
def test_axes(rng: Rng, axes: Shape) -> None:
    """Instance norm is one over rows and columns, with a gamma for each channel."""
    shape = (2, 5, 4, 6)
    gamma, beta = rng.normal(1, 0.4, (1, 1, 1, 6)), rng.normal(0, 0.5, (1, 1, 1, 6))
    check(fill(rng, shape, "int8"), Quant.random(rng, "int8"), axes, gamma, beta)


@seeded(8)
def test_without_a_mean(rng: Rng) -> None:
    """RMS norm."""
    shape = (*dims(rng, int(rng.integers(0, 3)), 1, 5), int(rng.integers(2, 700)))
    x, q = fill(rng, shape, "int8"), Quant.random(rng, "int8")
    check(x, q, (len(shape) - 1,), rng.normal(1, 0.4, shape[-1:]), None, 1e-5, False)


@seeded(5)
def test_long_rows(rng: Rng) -> None:
    x = fill(rng, (3, pick(rng, 4096, 32768)), "int8")
    check(x, Quant("int8", 0.05, 7), (1,), None, None)


def test_spread_over_all_factors(rng: Rng) -> None:
    """gammas from 2^-20 to 2^6 in one layer."""
    gamma = np.exp2(rng.uniform(-20, 6, 512)) * rng.choice([-1, 1], 512)
    x = rng.integers(-128, 128, (40, 512)).astype(np.int8)
    check(x, Quant("int8", 0.02, 0), (1,), gamma, rng.normal(0, 3, 512))


@pytest.mark.parametrize("epsilon", [0.0, 1e-12, 1e-3, 10.0])
def test_epsilon(rng: Rng, epsilon: float) -> None:
    """Rows that hardly vary are where it matters."""
    x = 3 + (rng.random((200, 30)) < 0.05) * rng.integers(-9, 9, (200, 30))
    x = x.astype(np.int8)
    if epsilon < 1e-6:
        x[:, 0] = 5  # no row without any variance
    check(x, Quant("int8", 0.01, 0), (1,), None, None, epsilon)


def test_constant_rows() -> None:
    """No variance: beta."""
    x = np.full((2, 9), -128, np.int8)
    q = Quant("int8", 0.1, 3)
    got = run(x, q, Quant("int8", f32(0.1), -20), (1,), np.full(9, 2.0), np.full(9, 1.5))
    assert (got == -5).all()


def test_refused() -> None:
    x = np.zeros((1, 40000), np.int8)
    q = Quant("int8", 0.1, 0)
    with pytest.raises(UnsupportedError, match="over 40000 elements, 32768 at most"):
        run(x, q, q, (1,))
    with pytest.raises(UnsupportedError, match="change both along a row and from row to row"):
        run(x[:, :4].reshape(2, 2), q, q, (1,), np.arange(4.0).reshape(2, 2))
    with pytest.raises(UnsupportedError, match="is too large for the scale"):
        run(x[:, :9], Quant("int8", 1e-9, 0), q, (1,), epsilon=10.0)
