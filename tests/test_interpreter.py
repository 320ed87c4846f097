# SPDX-License-Identifier: Apache-2.0
"""edgeq.tflite.Interpreter beside the interpreter that it stands in for."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import DIGITS, MIXED

import edgeq
from edgeq.format.writer import write_program
from edgeq.tflite import Interpreter, OpResolverType, load_delegate

pytest.importorskip("tflite")


@pytest.fixture
def ours() -> Interpreter:
    interpreter = Interpreter(str(DIGITS))
    interpreter.allocate_tensors()
    return interpreter


@pytest.fixture(scope="module")
def original() -> Any:
    """The module that is imitated."""
    try:
        import tflite_runtime.interpreter as module
    except ImportError:
        module = pytest.importorskip("ai_edge_litert.interpreter")
    return module


@pytest.fixture
def theirs(original: Any) -> Any:
    resolver = original.OpResolverType.BUILTIN_REF
    interpreter = original.Interpreter(str(DIGITS), experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    return interpreter


def details(interpreter: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return interpreter.get_input_details()[0], interpreter.get_output_details()[0]


def classify(interpreter: Any, image: np.ndarray) -> np.ndarray:
    x, y = details(interpreter)
    interpreter.set_tensor(x["index"], image)
    interpreter.invoke()
    result: np.ndarray = interpreter.get_tensor(y["index"])
    return result


def test_same_results(ours: Interpreter, theirs: Any, rng: np.random.Generator) -> None:
    for _ in range(20):
        image = rng.integers(-128, 128, (1, 8, 8, 1)).astype(np.int8)
        assert classify(ours, image).tobytes() == classify(theirs, image).tobytes()


def test_same_details(ours: Interpreter, theirs: Any) -> None:
    for mine, other in zip(details(ours), details(theirs)):
        assert set(mine) == set(other)
        for key in ("shape", "shape_signature"):
            assert mine[key].dtype == other[key].dtype
            assert mine[key].tolist() == other[key].tolist()
        for key in ("dtype", "quantization", "sparsity_parameters"):
            assert mine[key] == other[key]
        parameters, expected = mine["quantization_parameters"], other["quantization_parameters"]
        assert set(parameters) == set(expected) - {"block_size"}  # LiteRT's
        for key in ("scales", "zero_points"):
            assert parameters[key].dtype == expected[key].dtype
            assert parameters[key].tolist() == expected[key].tolist()
        assert parameters["quantized_dimension"] == expected["quantized_dimension"]


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((1, 8, 8, 1), np.float32),
        np.zeros((1, 8, 8, 1), np.uint8),
        np.zeros((1, 8, 9, 1), np.int8),
        np.zeros((1, 8, 8), np.int8),
        [[1]],
    ],
)
def test_same_refusals_of_values(ours: Interpreter, theirs: Any, value: Any) -> None:
    messages = []
    for interpreter in (ours, theirs):
        index = interpreter.get_input_details()[0]["index"]
        with pytest.raises(ValueError, match="Cannot set tensor") as caught:
            interpreter.set_tensor(index, value)
        messages.append(str(caught.value).split(", name:")[0])
    assert messages[0] == messages[1]


def test_same_signature_of_the_constructor(original: Any) -> None:
    def names(cls: Any) -> list[str]:
        return list(inspect.signature(cls.__init__).parameters)

    theirs = names(original.Interpreter)
    assert names(Interpreter)[: min(len(theirs), 6)] == theirs[:6]
    assert {m.name for m in OpResolverType} <= {m.name for m in original.OpResolverType}


def test_same_methods(original: Any) -> None:
    def public(cls: Any) -> set[str]:
        return {name for name in dir(cls) if not name.startswith("_")}

    newer = {"num_subgraphs", "experimental_compress_quantization_zero_points"}  # LiteRT's
    assert public(original.Interpreter) - newer <= public(Interpreter)


def test_before_allocation(original: Any) -> None:
    for cls in (Interpreter, original.Interpreter):
        interpreter = cls(str(DIGITS))
        x, y = details(interpreter)
        with pytest.raises(RuntimeError, match="not ready"):
            interpreter.invoke()
        with pytest.raises(ValueError, match="allocate_tensors"):
            interpreter.set_tensor(x["index"], np.zeros((1, 8, 8, 1), np.int8))
        with pytest.raises(ValueError, match="allocate_tensors"):
            interpreter.get_tensor(y["index"])


def test_constructor(tmp_path: Path) -> None:
    assert Interpreter(DIGITS).get_input_details()[0]["name"] == "image"
    assert Interpreter(model_content=DIGITS.read_bytes(), num_threads=2).get_tensor_details()
    eqm = tmp_path / "digits.eqm"
    edgeq.convert(DIGITS, out=eqm)
    reference = OpResolverType.BUILTIN_REF
    assert Interpreter(str(eqm), experimental_op_resolver_type=reference).get_output_details()
    refusals = [
        ({}, "must be specified"),
        ({"model_path": "a", "model_content": b"b"}, "both"),
        ({"model_path": "/missing.tflite"}, "Could not open '/missing.tflite'"),
        ({"model_path": str(DIGITS), "num_threads": 0}, "num_threads should >= 1"),
        ({"model_path": str(DIGITS), "num_threads": "2"}, "num_threads should be int"),
        ({"model_path": str(DIGITS), "experimental_delegates": [object()]}, "no delegates"),
        ({"model_path": str(DIGITS), "experimental_preserve_all_tensors": True}, "no inner"),
    ]
    for arguments, message in refusals:
        with pytest.raises(ValueError, match=message):
            Interpreter(**arguments)  # type: ignore[arg-type]
    assert Interpreter(DIGITS, experimental_default_delegate_latest_features=True)
    with pytest.raises(TypeError, match="unexpected keyword argument 'threads'"):
        Interpreter(DIGITS, threads=2)
    with pytest.raises(ValueError, match=r"loads no delegate \(libedgetpu\.so\.1\)"):
        load_delegate("libedgetpu.so.1")


def test_indices(ours: Interpreter) -> None:
    for index in (-1, 2, 999):
        with pytest.raises(ValueError, match=f"Invalid tensor index {index}"):
            ours.get_tensor(index)
    with pytest.raises(ValueError, match="1 is an output"):
        ours.set_tensor(1, np.zeros((1, 10), np.int8))


def test_tensors_are_copies_and_views(ours: Interpreter) -> None:
    x, y = details(ours)
    image = np.full((1, 8, 8, 1), 7, np.int8)
    ours.set_tensor(x["index"], image)
    image[:] = 0
    assert (ours.get_tensor(x["index"]) == 7).all()
    live, result = ours.tensor(x["index"]), ours.tensor(y["index"])
    live()[:] = 100
    ours.invoke()
    assert np.array_equal(result(), classify(ours, np.full((1, 8, 8, 1), 100, np.int8)))
    copy = ours.get_tensor(y["index"])
    copy[:] = 5
    assert not np.array_equal(copy, result())
    ours.allocate_tensors()
    assert (ours.get_tensor(x["index"]) == 100).all()
    ours.reset_all_variables()


def test_resize(ours: Interpreter) -> None:
    ours.resize_tensor_input(0, [1, 8, 8, 1])
    ours.resize_tensor_input(0, np.array([1, 8, 8, 1]), strict=True)
    with pytest.raises(ValueError, match=r"has shape \(1, 8, 8, 1\), not \(2, 8, 8, 1\)"):
        ours.resize_tensor_input(0, [2, 8, 8, 1])
    with pytest.raises(ValueError, match="Invalid input index 1"):
        ours.resize_tensor_input(1, [1, 10])


def test_signatures(theirs: Any) -> None:
    ours = Interpreter(DIGITS)  # a runner allocates by itself
    assert ours.get_signature_list() == theirs.get_signature_list()
    image = np.full((1, 8, 8, 1), 55, np.int8)
    runner, other = ours.get_signature_runner(), theirs.get_signature_runner()
    mine, expected = runner(image=image), other(image=image)
    assert list(mine) == list(expected)
    assert all(np.array_equal(mine[name], expected[name]) for name in mine)
    assert set(runner.get_input_details()) == {"image"}
    assert set(runner.get_output_details()) == {"probabilities"}
    for wrong in (runner, other):
        with pytest.raises(ValueError, match="expected 1 vs provided 0"):
            wrong()
        with pytest.raises(ValueError, match=r"Invalid Input name \(picture\)"):
            wrong(picture=image)
    for interpreter in (ours, theirs):
        assert interpreter.get_signature_runner("serving_default")
        with pytest.raises(ValueError, match="Invalid signature_key"):
            interpreter.get_signature_runner("other")


def test_every_dtype() -> None:
    interpreter = Interpreter(model_content=write_program(MIXED))
    interpreter.allocate_tensors()
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    assert [d["index"] for d in [*inputs, *outputs]] == list(range(12))
    assert inputs[0]["quantization"] == (0.5, 100)
    assert inputs[2]["dtype"] is np.float32
    assert inputs[2]["quantization"] == (0.0, 0)
    for detail in inputs:
        value = np.ones(detail["shape"], detail["dtype"])
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    for detail in outputs:
        result = interpreter.get_tensor(detail["index"])
        assert result.dtype.type is detail["dtype"]
        assert (result == 1).all()
