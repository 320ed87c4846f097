# SPDX-License-Identifier: Apache-2.0
"""tests/golden: the good files open and prove themselves, the bad ones are refused for a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("edgeq.runtime._core", reason="the C library is not built")

from eqm_programs import PROGRAMS

import edgeq
from edgeq.errors import FormatError, UnsupportedError
from edgeq.format.golden import SEEDS
from edgeq.format.reader import read_program
from edgeq.runtime.model import Model

FOLDER = Path(__file__).parent / "golden"
INDEX: dict[str, dict[str, Any]] = json.loads((FOLDER / "bad/index.json").read_text())
ERRORS = {
    "EQ_ERR_FORMAT": FormatError,
    "EQ_ERR_VERSION": FormatError,
    "EQ_ERR_INVALID": FormatError,
    "EQ_ERR_UNSUPPORTED": UnsupportedError,
}


@pytest.mark.parametrize("name", INDEX)
def test_library_refuses(name: str) -> None:
    """With the exception of the status, and a sentence about what is wrong."""
    data = (FOLDER / "bad" / name).read_bytes()
    expected = INDEX[name]
    if expected["core"] is None:
        Model(data)  # harmless; only the reader is so strict
        return
    with pytest.raises(ERRORS[expected["status"]]) as error:
        Model(data)
    assert expected["core"] in str(error.value)
    with pytest.raises((FormatError, UnsupportedError)):
        edgeq.load(data)


@pytest.mark.parametrize("name", [name for name, e in INDEX.items() if e["reader"]])
def test_reader_refuses(name: str) -> None:
    """What an operator needs is the library's alone to check."""
    data = (FOLDER / "bad" / name).read_bytes()
    with pytest.raises(FormatError) as error:
        read_program(data)
    assert INDEX[name]["reader"] in str(error.value)


def test_index_is_complete() -> None:
    assert {p.name for p in FOLDER.glob("bad/*.eqm")} == set(INDEX)


@pytest.mark.parametrize("name", PROGRAMS)
def test_good_file_opens(name: str) -> None:
    model = Model((FOLDER / f"{name}.eqm").read_bytes())
    assert [op.type for op in model.ops] == [op.opcode for op in PROGRAMS[name]().ops]


@pytest.mark.parametrize("name", PROGRAMS)
def test_golden_cases(name: str) -> None:
    """Made by numpy, run by the library."""
    assert edgeq.load(FOLDER / f"{name}.eqm").verify() == len(SEEDS)
