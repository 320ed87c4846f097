# SPDX-License-Identifier: Apache-2.0
"""Whole networks against the oracle, on random and on real inputs.

By default two of each, and two inner tensors. With --zoo-full twenty random inputs, all real
inputs that fit and every inner tensor, except that networks for which the reference kernels need
from 0.1 s to 1 s an image stop at their `inner` number of inner tensors. That takes half an hour.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import pytest
from cases import fill
from oracle import ORACLE_NAME, Reference, compare, operators, oracle_is_exact, run_edgeq
from zoo import (
    NETWORKS,
    Network,
    inner_tensors,
    model_bytes,
    model_input,
    with_output,
    zoo_folder,
)

pytestmark = pytest.mark.skipif(
    not zoo_folder().is_dir(), reason=f"no zoo at {zoo_folder()} (EDGEQ_ZOO names another place)"
)

all_networks = pytest.mark.parametrize("network", NETWORKS, ids=lambda n: n.name)


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--zoo-full"))


@cache
def oracle_session(model: bytes) -> Reference:
    return Reference(model)


@cache
def edgeq_session(model: bytes) -> Any:
    import edgeq

    return edgeq.load(edgeq.convert(model).data)


def exact_operators(model: bytes) -> int:
    """How many operators come before the first that the oracle computes otherwise."""
    names = operators(model)
    return next((i for i, op in enumerate(names) if not oracle_is_exact(op)), len(names))


def agree(network: Network, inputs: Iterable[tuple[str, np.ndarray]]) -> None:
    """Compares edgeq with the oracle on named inputs of a network."""
    model = model_bytes(network)
    if exact_operators(model) < len(operators(model)):
        pytest.skip(f"{ORACLE_NAME} rounds an operator of this network otherwise")
    for name, x in inputs:
        want = oracle_session(model).run([x])
        compare(edgeq_session(model).run(x), want, f"{network.name} on {name}")


def random_input(network: Network, seed: int) -> np.ndarray:
    rng = np.random.default_rng([zlib.crc32(network.name.encode()), seed])
    return model_input(model_bytes(network)).random(rng)


@all_networks
def test_random_inputs(network: Network, full: bool) -> None:
    seeds = range(20 if full else 2)
    agree(network, ((f"random input {i}", random_input(network, i)) for i in seeds))


@all_networks
def test_real_inputs(network: Network, full: bool) -> None:
    spec = model_input(model_bytes(network))
    available, load = network.feed()
    wanted = available if full else 2
    indices = [i * available // wanted for i in range(wanted)]
    agree(network, ((f"real input {i}", load(i, spec)) for i in indices))


@all_networks
def test_inner_tensors(network: Network, full: bool) -> None:
    """The bytes inside of a network, which its last layers may round away."""
    model = model_bytes(network)
    inner = inner_tensors(model, exact_operators(model))
    if not inner:
        pytest.skip(f"{ORACLE_NAME} rounds this network otherwise from its first operator on")
    available, load = network.feed()
    x = load(available // 2, model_input(model))
    rng = np.random.default_rng(zlib.crc32(network.name.encode()))
    for tensor in rng.permutation(inner)[: network.inner if full else 2]:
        cut = with_output(model, int(tensor))
        want = Reference(cut).run([x])
        compare(run_edgeq(cut, [x]), want, f"{network.name}, tensor {tensor}")


INT16 = sorted(
    path.relative_to(zoo_folder() / "models").as_posix()
    for pattern in ("tflm-seanet/*.tflite", "litert/*a16w8*.tflite", "litert/simple_quant*.tflite")
    for path in zoo_folder().glob(f"models/{pattern}")
    if "transpose_conv" not in path.name  # their output shapes are inputs
)


@pytest.mark.parametrize("name", INT16)
def test_int16_networks(name: str) -> None:
    model = (zoo_folder() / "models" / name).read_bytes()
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    session = oracle_session(model)
    for _ in range(3):
        inputs = [fill(rng, tuple(d["shape"]), d["dtype"].__name__) for d in session.inputs]
        compare(edgeq_session(model).run(*inputs), session.run(inputs), name)
