# SPDX-License-Identifier: Apache-2.0
"""Fixtures and options of the Python tests."""

from __future__ import annotations

import zlib

import numpy as np
import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--zoo-full",
        action="store_true",
        help="run the zoo's networks on 20 random inputs and all real inputs that fit",
    )


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded by the test's name and parameters (see cases.seeded)."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))
