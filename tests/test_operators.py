# SPDX-License-Identifier: Apache-2.0
"""`edgeq ops` and docs/OPS.md."""

from __future__ import annotations

import json

import pytest
from programs import ROOT

pytest.importorskip("edgeq.runtime._core", reason="the C library is not built")

from edgeq.cli import main
from edgeq.format.spec import OPS
from edgeq.importers import onnx, tflite
from edgeq.operators import operators


def test_the_page_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """If a change is meant: edgeq ops > docs/OPS.md."""
    assert main(["ops"]) == 0
    assert capsys.readouterr().out == (ROOT / "docs/OPS.md").read_text(encoding="utf-8")


def test_json_has_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ops", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(tflite.RULES) <= set(found["tflite"])
    assert set(found["onnx"]) == set(onnx.RULES)
    assert set(found["eqm"].values()) == set(OPS)
    assert found["tflite"]["GATHER_ND"] == ["int8", "uint8", "int32", "int64", "bool"]


def test_what_is_refused_is_not_listed() -> None:
    assert "LOCAL_RESPONSE_NORMALIZATION" not in operators().tflite
    assert "uint8" not in operators().tflite["BATCH_MATMUL"]
