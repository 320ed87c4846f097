# SPDX-License-Identifier: Apache-2.0
"""The Python API: load, run, convert, and what they refuse."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from programs import DIGITS, MIXED, ROOT, passing, slow
from tflite_builder import ModelBuilder

import edgeq
from edgeq.errors import from_status
from edgeq.format.program import Op, Port, Program, Value
from edgeq.format.reader import read_program
from edgeq.format.writer import write_program

pytest.importorskip("tflite")


@pytest.fixture(scope="module")
def converted() -> edgeq.Converted:
    return edgeq.convert(DIGITS)


@pytest.fixture
def session(converted: edgeq.Converted) -> edgeq.Session:
    return edgeq.load(converted)


def mixed_inputs() -> list[np.ndarray]:
    return [
        np.array([[[0, 1, 127], [128, 254, 255]]], np.uint8),
        np.arange(-8, 8, dtype=np.int8).reshape(1, 4, 4, 1),
        np.array([0, 0.125, -1.25, 3, -7], np.float32),
        np.array([-(2**31), 0, 2**31 - 1], np.int32),
        np.array([-(2**63), 2**63 - 1], np.int64),
        np.array([[True, False], [False, True]]),
    ]


# ---- load


def test_version_is_the_headers() -> None:
    header = (ROOT / "src_c/include/edgeq.h").read_text()
    numbers = re.findall(r"#define EQ_VERSION_\w+ (\d+)", header)
    assert edgeq.__version__ == ".".join(numbers)


@pytest.mark.parametrize(
    "form", ["path", "str", "bytes", "bytearray", "memoryview", "odd", "numpy"]
)
def test_load_forms(converted: edgeq.Converted, tmp_path: Path, form: str) -> None:
    path = tmp_path / "model.bin"  # names mean nothing
    path.write_bytes(converted.data)
    sources = {
        "path": path,
        "str": str(path),
        "bytes": converted.data,
        "bytearray": bytearray(converted.data),
        "memoryview": memoryview(converted.data),
        "odd": memoryview(b"x" + converted.data)[1:],
        "numpy": np.frombuffer(converted.data, np.uint8),
    }
    session = edgeq.load(sources[form])  # type: ignore[arg-type]
    assert session.verify() == 3


def test_load_tflite_from_path_and_bytes() -> None:
    assert edgeq.load(DIGITS).verify() == 3
    assert edgeq.load(DIGITS.read_bytes()).verify() == 3


def test_the_bytes_stay_alive(converted: edgeq.Converted) -> None:
    data = bytes(bytearray(converted.data))
    session = edgeq.load(data)
    del data
    gc.collect()
    junk = [bytes(bytearray(len(converted.data))) for _ in range(50)]
    assert session.verify() == 3
    del junk


def test_changes_of_a_bytearray_do_not_matter(converted: edgeq.Converted) -> None:
    data = bytearray(converted.data)
    session = edgeq.load(data)
    data[:] = bytes(len(data))
    assert session.verify() == 3


def test_bytes_are_used_in_place() -> None:
    data = slow(megabytes=1, ops=1)
    address = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value
    assert address is not None
    assert address % 16 == 0
    before = sys.getrefcount(data)
    model = edgeq.Model(data)
    assert sys.getrefcount(data) == before + 1
    del model
    assert sys.getrefcount(data) == before


def test_load_takes_arithmetic(converted: edgeq.Converted) -> None:
    assert edgeq.load(converted, arithmetic="exact").verify() == 3
    with pytest.raises(edgeq.ArgumentError, match="file has exact arithmetic"):
        edgeq.load(converted, arithmetic="native")
    with pytest.raises(edgeq.ArgumentError, match="'exact' or 'native', not 'fast'"):
        edgeq.load(converted, arithmetic="fast")


def test_load_refuses(converted: edgeq.Converted, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        edgeq.load(tmp_path / "missing.eqm")
    with pytest.raises(edgeq.ReadError) as caught:
        edgeq.Model(tmp_path / "missing.eqm")
    assert isinstance(caught.value, OSError)
    text = tmp_path / "notes.txt"
    text.write_text("not a network at all")
    with pytest.raises(edgeq.FormatError, match=r"notes\.txt: neither a \.tflite file"):
        edgeq.load(text)
    with pytest.raises(edgeq.FormatError, match=r"these bytes: neither a \.tflite file"):
        edgeq.load(b"")
    for size in (8, 64, 1000, len(converted.data) - 1):
        with pytest.raises(edgeq.FormatError):
            edgeq.load(converted.data[:size])
    newer = bytearray(converted.data)
    newer[8] = 9
    with pytest.raises(edgeq.FormatError):
        edgeq.load(newer)
    with pytest.raises(edgeq.ArgumentError, match="expected a path, bytes or a converted"):
        edgeq.load(17)  # type: ignore[arg-type]


def test_every_status_has_its_error() -> None:
    table = {
        "ARGUMENT": edgeq.ArgumentError,
        "MEMORY": edgeq.OutOfMemoryError,
        "IO": edgeq.ReadError,
        "FORMAT": edgeq.FormatError,
        "VERSION": edgeq.FormatError,
        "INVALID": edgeq.FormatError,
        "UNSUPPORTED": edgeq.UnsupportedError,
        "VERIFY": edgeq.VerifyError,
    }
    header = (ROOT / "src_c/include/edgeq.h").read_text()
    statuses = {name: int(n) for name, n in re.findall(r"EQ_ERR_(\w+) = (\d+)", header)}
    assert set(statuses) == set(table)
    for name, number in statuses.items():
        error = from_status(number, "why")
        assert type(error) is table[name]
        assert str(error) == "why"
        assert isinstance(error, edgeq.EdgeqError)


# ---- run


def test_every_dtype_passes() -> None:
    session = edgeq.load(write_program(MIXED))
    inputs = mixed_inputs()
    for given, got, info in zip(inputs, session.run(*inputs), session.outputs):
        assert got.dtype == given.dtype == info.dtype
        assert got.shape == info.shape
        assert got.tobytes() == given.tobytes()


def test_infos() -> None:
    session = edgeq.load(write_program(MIXED))
    assert [t.name for t in session.inputs] == ["bytes", "image", "real", "index", "long", "flag"]
    info = session.inputs[0]
    assert (info.shape, info.dtype, info.scale, info.zero_point) == ((1, 2, 3), np.uint8, 0.5, 100)
    assert info.size == 6
    assert str(info) == "'bytes' uint8 (1, 2, 3)"
    assert "'flag' bool (2, 2)" in repr(session)


def test_labels_and_metadata() -> None:
    program = passing(("x", "int8", (3,), 1.0, 0))
    program.outputs[0].labels = "cat\nräv\ndog"
    program.metadata = {"tool": "a test", "source_format": "nowhere"}
    session = edgeq.load(write_program(program))
    assert session.labels == ("cat", "räv", "dog")
    assert session.outputs[0].labels == session.labels
    assert session.metadata == {"source_format": "nowhere", "tool": "a test"}


def test_floats_are_quantized_and_back() -> None:
    session = edgeq.load(write_program(passing(("x", "uint8", (7,), 0.5, 100))))
    x = np.array([0, 0.25, -0.25, 0.24, 1e9, -1e9, np.nan], np.float32)
    (q,) = session.run(x)
    assert q.tolist() == [100, 101, 99, 100, 255, 0, 100]  # halves away from zero
    (real,) = session.run(q, float_output=True)
    assert real.dtype == np.float32
    assert real.tolist() == [0, 0.5, -0.5, 0, 77.5, -50, 0]


def test_float_output_leaves_indices_alone() -> None:
    session = edgeq.load(write_program(MIXED))
    dtypes = [a.dtype.name for a in session.run(*mixed_inputs(), float_output=True)]
    assert dtypes == ["float32", "float32", "float32", "int32", "int64", "bool"]


def test_named_inputs() -> None:
    session = edgeq.load(write_program(MIXED))
    inputs = mixed_inputs()
    named = {t.name: a for t, a in zip(session.inputs, inputs)}
    want = [a.tobytes() for a in session.run(*inputs)]
    assert [a.tobytes() for a in session.run(**named)] == want
    first = named.pop("bytes")
    assert [a.tobytes() for a in session.run(first, **named)] == want
    with pytest.raises(edgeq.ArgumentError, match="input 0 'bytes' is given twice"):
        session.run(first, **named, bytes=first)
    with pytest.raises(edgeq.ArgumentError, match="no input 'picture'; the inputs are 'bytes'"):
        session.run(first, picture=first)
    with pytest.raises(edgeq.ArgumentError, match="expected 6 inputs, given 5"):
        session.run(**named)


def test_layouts_of_inputs(rng: np.random.Generator) -> None:
    session = edgeq.load(write_program(passing(("x", "int8", (4, 6), 0.5, 0))))
    x = rng.integers(-128, 128, (6, 8)).astype(np.int8)
    for view in (x.T[:4, :6], x[1:5, 1:7], x[:4, :6][::-1], np.asfortranarray(x[:4, :6])):
        assert session.run(view)[0].tolist() == view.tolist()
    frozen = x[:4, :6].copy()
    frozen.flags.writeable = False
    assert session.run(frozen)[0].tolist() == frozen.tolist()


@pytest.mark.parametrize(
    ("array", "given"),
    [
        (np.zeros((4, 4), np.int8), r"int8 \(4, 4\)"),
        (np.zeros(16, np.int8), r"int8 \(16,\)"),
        (np.zeros((1, 4, 4, 1), np.uint8), r"uint8 \(1, 4, 4, 1\)"),
        (np.zeros((1, 4, 4, 1)), r"float64 \(1, 4, 4, 1\)"),
        (np.zeros((1, 4, 4, 1), ">f4"), r">f4 \(1, 4, 4, 1\)"),
        ([[1, 2]], "list"),
        (None, "NoneType"),
        (3, "int"),
    ],
)
def test_run_refuses_inputs(array: object, given: str) -> None:
    session = edgeq.load(write_program(passing(("x", "int8", (1, 4, 4, 1), 0.5, 0))))
    expected = r"input 0 'x': expected int8 or float32 \(1, 4, 4, 1\), given "
    with pytest.raises(edgeq.ArgumentError, match=expected + given):
        session.run(array)  # type: ignore[arg-type]


def test_run_refuses_floats_for_integers() -> None:
    session = edgeq.load(write_program(passing(("x", "int32", (2,), 0.0, 0))))
    with pytest.raises(ValueError, match=r"expected int32 \(2,\), given float32 \(2,\)"):
        session.run(np.zeros(2, np.float32))
    with pytest.raises(edgeq.ArgumentError, match="expected 1 inputs, given 0; the inputs are 'x'"):
        session.run()
    with pytest.raises(edgeq.ArgumentError, match="expected 1 inputs, given 2"):
        session.run(np.zeros(2, np.int32), np.zeros(2, np.int32))


def test_outputs_are_written_into() -> None:
    session = edgeq.load(write_program(MIXED))
    inputs = mixed_inputs()
    arrays = [np.empty(t.shape, t.dtype) for t in session.outputs]
    results = session.run(*inputs, outputs=arrays)
    assert all(a is b for a, b in zip(results, arrays))
    assert [a.tobytes() for a in arrays] == [a.tobytes() for a in inputs]
    arrays[0] = np.empty(session.outputs[0].shape, np.float32)
    session.run(*inputs, outputs=arrays)
    assert arrays[0].ravel()[0] == -50
    assert session.run(*inputs)[0] is not session.run(*inputs)[0]


def test_outputs_are_checked() -> None:
    session = edgeq.load(write_program(passing(("x", "int8", (4, 4), 0.5, 0))))
    x = np.zeros((4, 4), np.int8)
    frozen = np.zeros((4, 4), np.int8)
    frozen.flags.writeable = False
    with pytest.raises(edgeq.ArgumentError, match="not C-contiguous or not writable"):
        session.run(x, outputs=[frozen])
    with pytest.raises(edgeq.ArgumentError, match="not C-contiguous or not writable"):
        session.run(x, outputs=[np.zeros((4, 8), np.int8)[:, ::2]])
    with pytest.raises(edgeq.ArgumentError, match=r"given int8 \(4, 5\)"):
        session.run(x, outputs=[np.zeros((4, 5), np.int8)])
    with pytest.raises(edgeq.ArgumentError, match=r"given int16 \(4, 4\)"):
        session.run(x, outputs=[np.zeros((4, 4), np.int16)])
    with pytest.raises(edgeq.ArgumentError, match=r"expected float32 \(4, 4\), given int8"):
        session.run(x, outputs=[np.zeros((4, 4), np.int8)], float_output=True)
    for wrong in ([], [x, x], x):
        with pytest.raises(edgeq.ArgumentError, match="outputs= takes a list of 1: 'x out' int8"):
            session.run(x, outputs=wrong)  # type: ignore[arg-type]


def test_a_scalar_tensor() -> None:
    session = edgeq.load(write_program(passing(("x", "int8", (), 0.5, 1))))
    (y,) = session.run(np.array(5, np.int8))
    assert y.shape == ()
    assert y == 5
    assert session.run(np.array(2, np.float32)[()])[0] == 5  # np.float32 has a buffer of its own


def test_results_do_not_alias(session: edgeq.Session) -> None:
    a, b = session.random_inputs(1)[0], session.random_inputs(2)[0]
    first = session.run(a)[0]
    kept = first.copy()
    session.run(b)
    assert np.array_equal(first, kept)


# ---- threads


def meet_a_run(session: edgeq.Session, end: float) -> None:
    """Calls until one call comes into another thread's run; the GIL is free there."""
    while time.monotonic() < end:
        with contextlib.suppress(edgeq.ArgumentError):  # between two runs: there is no case 0
            session._verify(0)


def test_one_session_in_two_threads_is_refused() -> None:
    session = edgeq.load(slow())
    x = session.random_inputs()
    stop = threading.Event()
    thread = threading.Thread(target=lambda: [session.run(*x) for _ in iter(stop.is_set, True)])
    thread.start()
    try:
        with pytest.raises(edgeq.EdgeqError, match="running in another thread"):
            meet_a_run(session, time.monotonic() + 20)
    finally:
        stop.set()
        thread.join()


def test_sessions_of_one_model_in_threads(converted: edgeq.Converted) -> None:
    model = edgeq.Model(converted.data)
    inputs = [edgeq.Session(model).random_inputs(seed)[0] for seed in range(20)]
    want = [edgeq.Session(model).run(x)[0].tobytes() for x in inputs]
    results: list[list[bytes]] = [[] for _ in range(4)]

    def work(mine: list[bytes]) -> None:
        session = edgeq.Session(model)
        mine += [session.run(x)[0].tobytes() for x in inputs]

    threads = [threading.Thread(target=work, args=(mine,)) for mine in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [want] * 4


# ---- memory, profile, proof


def test_memory(converted: edgeq.Converted, session: edgeq.Session) -> None:
    report = converted.report
    assert session.arena_bytes + session.scratch_bytes <= session.memory_bytes
    assert session.memory_bytes - session.arena_bytes - session.scratch_bytes < 256
    assert (report.ram_bytes, report.arena_bytes, report.scratch_bytes) == (
        session.memory_bytes,
        session.arena_bytes,
        session.scratch_bytes,
    )


def test_out_of_memory(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    (tmp_path / "big.eqm").write_bytes(write_program(passing(("x", "int8", (1 << 30,), 0.5, 0))))
    script = """
import resource, edgeq
model = edgeq.Model("big.eqm")
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
try:
    edgeq.Session(model)
except edgeq.OutOfMemoryError as error:
    assert isinstance(error, MemoryError)
    print(error)
"""
    assert "no memory for a session of 10737" in python(script, tmp_path)


def test_profile(session: edgeq.Session) -> None:
    ops = session.profile(*session.random_inputs(), runs=20)
    assert [op.index for op in ops] == list(range(len(session.model.ops)))
    assert [op.type for op in ops] == [op.type for op in session.model.ops]
    assert all(0 <= op.minimum <= op.median < 10**9 for op in ops)
    assert sum(op.median for op in ops) > 0
    assert len(session.profile(runs=1, warmup=0)) == len(ops)
    with pytest.raises(edgeq.ArgumentError):
        session.profile(runs=0)
    session.run(*session.random_inputs())
    before = session._nanoseconds()
    session.run(*session.random_inputs())
    assert session._nanoseconds() == before, "timing stays on after a profile"


def test_verify(converted: edgeq.Converted, session: edgeq.Session) -> None:
    golden = read_program(converted.data).golden
    assert [session.golden_digest(g.seed) for g in golden] == [g.sha256 for g in golden]
    program = passing(("x", "int8", (4,), 0.5, 0))
    assert edgeq.load(write_program(program)).verify() == 0
    wrong = edgeq.load(write_program(program, [(1, bytes(32))]))
    with pytest.raises(edgeq.VerifyError, match="golden case 0"):
        wrong.verify()


# ---- convert


def test_convert_writes_what_it_returns(tmp_path: Path) -> None:
    steps: list[tuple[str, float]] = []
    out = tmp_path / "digits.eqm"
    out.write_bytes(b"an older file")
    converted = edgeq.convert(
        str(DIGITS), out=str(out), progress=lambda step, fraction: steps.append((step, fraction))
    )
    assert out.read_bytes() == converted.data
    assert [p.name for p in tmp_path.iterdir()] == ["digits.eqm"]
    fractions = [fraction for _, fraction in steps]
    assert fractions == sorted(fractions)
    assert (fractions[0], fractions[-1]) == (0.0, 1.0)


def test_convert_is_reproducible(converted: edgeq.Converted, tmp_path: Path) -> None:
    copy = tmp_path / "another name.tflite"
    copy.write_bytes(DIGITS.read_bytes())
    assert edgeq.convert(copy).data == converted.data
    assert edgeq.convert(DIGITS.read_bytes()).data == converted.data


def test_convert_metadata(converted: edgeq.Converted, session: edgeq.Session) -> None:
    metadata = read_program(converted.data).metadata
    assert metadata["source_sha256"] == hashlib.sha256(DIGITS.read_bytes()).hexdigest()
    assert metadata["tool"] == f"edgeq {edgeq.__version__}"
    assert session.metadata == metadata, (
        "runtime.model.METADATA_KEYS is not what the converter writes"
    )


def test_convert_report(converted: edgeq.Converted) -> None:
    report = converted.report
    assert report.file_bytes == len(converted.data)
    assert report.ops == len(read_program(converted.data).ops)
    assert report.requantization == "R31"
    assert 13_000 < report.weight_bytes < report.file_bytes
    # by hand: 3x3 stem, depthwise, pointwise, 3x3 branch, depthwise, pointwise, dense
    layers = (64 * 9 * 24, 64 * 9 * 24, 64 * 24 * 32, 16 * 9 * 32 * 32)
    assert report.macs == sum(layers) + 16 * 9 * 32 + 16 * 32 * 64 + 64 * 10


def test_convert_failure_leaves_the_old_file(tmp_path: Path) -> None:
    out = tmp_path / "model.eqm"
    out.write_bytes(b"old")
    with pytest.raises(edgeq.EdgeqError):
        edgeq.convert(DIGITS.read_bytes()[:5000], out=out)
    with pytest.raises(edgeq.ArgumentError, match="give calibration data"):
        edgeq.convert(DIGITS.with_name("digits_float.tflite"), out=out)
    assert out.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["model.eqm"]
    with pytest.raises(FileNotFoundError):
        edgeq.convert(DIGITS, out=tmp_path / "missing" / "model.eqm")


def test_convert_refuses(converted: edgeq.Converted, tmp_path: Path) -> None:
    eqm = tmp_path / "model.eqm"
    eqm.write_bytes(converted.data)
    with pytest.raises(edgeq.FormatError, match=r"model\.eqm: an \.eqm file already"):
        edgeq.convert(eqm)
    with pytest.raises(edgeq.ArgumentError, match="quantized already; leave calibration out"):
        edgeq.convert(DIGITS, calibrate="none")
    copy = tmp_path / "model.tflite"
    copy.write_bytes(DIGITS.read_bytes())
    with pytest.raises(edgeq.ArgumentError, match="is the source itself"):
        edgeq.convert(copy, out=copy)
    assert copy.read_bytes() == DIGITS.read_bytes()
    with pytest.raises(edgeq.ArgumentError, match="no input 'picture'"):
        edgeq.convert(DIGITS, input_shapes={"picture": (1, 8, 8, 1)})
    same = edgeq.convert(DIGITS, input_shapes={"image": (1, 8, 8, 1)})
    assert same.data == converted.data


def test_unsupported_lists_everything() -> None:
    b = ModelBuilder()
    x = b.input("x", (1, 4), "int8")
    for kind in ("RELU", "RELU6", "TANH", "LOGISTIC"):
        y = b.tensor(kind, (1, 4), "int8")
        b.op(kind, [x], [y])
        b.output(y)
    with pytest.raises(edgeq.UnsupportedError) as caught:
        edgeq.convert(b.finish())
    assert len(caught.value.problems) == 4
    assert all(problem in str(caught.value) for problem in caught.value.problems)


def test_ops_without_multiplication() -> None:
    x, y = Value("x", "int8", (4,)), Value("y", "int8", (4,))
    program = Program([Op("COPY", "", [x], y)], [Port("x", x, "int8")], [Port("y", y, "int8")])
    from edgeq.converter import _requantization

    assert _requantization(program) == "none"


# ---- imports


def python(script: str, folder: Path) -> str:
    """What a script prints, run outside of the checkout so that edgeq is the installed one."""
    command = [sys.executable, "-c", script]
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_import_is_light(tmp_path: Path) -> None:
    script = (
        "import numpy, sys; before = set(sys.modules); import edgeq; "
        "print(*sorted(set(sys.modules) - before)); edgeq.Session; dir(edgeq)"
    )
    loaded = set(python(script, tmp_path).split())
    assert {n for n in loaded if n.startswith("edgeq")} == {
        "edgeq",
        "edgeq.errors",
        "edgeq.runtime",
        "edgeq.runtime._core",
        "edgeq.runtime.model",
        "edgeq.runtime.session",
        "edgeq.runtime.threads",
    }
    assert not loaded & {"tflite", "flatbuffers", "PIL", "rich", "argparse"}


def test_public_names() -> None:
    assert set(edgeq.__all__) <= set(dir(edgeq))
    for name in edgeq.__all__:
        assert getattr(edgeq, name) is not None
    with pytest.raises(AttributeError, match="'edgeq' has no attribute 'nothing'"):
        edgeq.nothing  # noqa: B018


MOVES = ("COPY", "PAD", "MIRROR_PAD", "CONCATENATION", "SLICE", "ARG_MAX", "RESIZE_NEAREST")
INT8_PROGRAMS = (
    "concat_slice",
    "conv_add_view",
    "elementwise",
    "fully_connected",
    "moves",
    "native",
    "resize",
    "softmax",
    "windows",
)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests" / "golden").glob("*.eqm")), ids=lambda p: p.stem
)
def test_every_op_says_how_it_runs(path: Path) -> None:
    """All operators are in these files; slots are those of kernels.h."""
    header = (ROOT / "src_c/kernels/kernels.h").read_text()
    names = set(re.findall(r"\(\*(\w+)\)", header))
    for op in edgeq.load(path).model.ops:
        assert op.why
        assert op.slot in names if op.kernel else op.slot == ""
        if path.stem in INT8_PROGRAMS:  # other types and whole numbers have loops of their own
            assert (op.slot == "") == (op.type in MOVES)
