# SPDX-License-Identifier: Apache-2.0
"""The TFLite importer: what it reads, what it refuses and in which words.

That the numbers are right is shown by the op tests; here data only moves or folds, so that numpy
can tell. Real networks are in test_import_zoo.py.
"""

from __future__ import annotations

import io
import random
import sys
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tflite_builder
from oracle import reference
from tflite_builder import ModelBuilder

from edgeq.errors import (
    ArgumentError,
    DependencyError,
    FormatError,
    UnsupportedError,
)
from edgeq.importers.tflite import import_tflite
from edgeq.ir.evaluate import evaluate
from edgeq.ir.graph import Graph
from edgeq.passes import run_passes

# Operators of these tests that no operator test needs.
EXTRA_OPS: dict[str, tuple[str | None, int]] = {
    "CAST": ("CastOptions", 1),
    "FILL": ("FillOptions", 1),
    "FLOOR_DIV": ("FloorDivOptions", 1),
    "RANGE": ("RangeOptions", 1),
    "SHAPE": ("ShapeOptions", 1),
    "SVDF": ("SVDFOptions", 1),
}


@pytest.fixture(autouse=True)
def _extra_ops(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, entry in EXTRA_OPS.items():
        monkeypatch.setitem(tflite_builder.OPS, name, entry)


def run(graph: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Outputs of a graph that only moves int8 data."""
    for t, x in zip(graph.inputs, inputs):
        t.data = x
    for node in graph.nodes:
        arrays = evaluate(node)
        assert arrays is not None, node.op
        for t, a in zip(node.outputs, arrays):
            assert a.shape == t.shape
            t.data = a
    return [np.asarray(t.data) for t in graph.outputs]


def moves(data: bytes, *inputs: np.ndarray) -> None:
    """Compares the imported graph, before and after the passes, with the oracle."""
    want = reference(data, inputs)
    for graph in (import_tflite(data), run_passes(import_tflite(data))):
        for got, expected in zip(run(graph, inputs), want):
            np.testing.assert_array_equal(got, expected)


def ints(b: ModelBuilder, *values: int) -> int:
    return b.const("ints", np.array(values, np.int32))


def ramp(*shape: int) -> np.ndarray:
    return (np.arange(np.prod(shape)) % 251 - 120).astype(np.int8).reshape(shape)


def one_op(kind: str, x: tuple[int, ...], y: tuple[int, ...], **options: Any) -> bytes:
    """x -> kind -> y, int8 of one range."""
    b = ModelBuilder()
    ix = b.input("x", x, "int8", 0.1, 3)
    iy = b.tensor("net/y", y, "int8", 0.1, 3)
    b.op(kind, [ix], [iy], **options)
    b.output(iy)
    return b.finish()


def problems(data: bytes, **kwargs: Any) -> tuple[str, ...]:
    with pytest.raises(UnsupportedError) as e:
        import_tflite(data, "net.tflite", **kwargs)
    assert str(e.value).startswith("net.tflite: ")
    return e.value.problems


# ---- the container


@pytest.mark.parametrize("data", [b"", b"TFL3", b"x" * 100, b"\x00\x00\x00\x00TFL2" + bytes(50)])
def test_other_files(data: bytes) -> None:
    with pytest.raises(FormatError, match=r"^photo\.jpg: not a TFLite file$"):
        import_tflite(data, "photo.jpg")


def test_empty_container() -> None:
    with pytest.raises(FormatError, match=r"damaged or truncated|holds no network"):
        import_tflite(b"\x08\x00\x00\x00TFL3" + bytes(64), "a.tflite")


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(DependencyError, match=r"pip install 'edgeq\[convert\]'"):
        import_tflite(b"\x08\x00\x00\x00TFL3")


def test_no_outputs() -> None:
    b = ModelBuilder()
    b.input("x", (1, 4), "int8", 0.1, 0)
    with pytest.raises(FormatError, match="no outputs"):
        import_tflite(b.finish())


def test_random_bytes() -> None:
    rnd = random.Random(1)
    for size in range(8, 400):
        body = bytes(rnd.randrange(256) if rnd.random() < 0.4 else 0 for _ in range(size))
        with pytest.raises(FormatError):
            import_tflite(b"\x10\x00\x00\x00TFL3" + body)


def test_constant_of_wrong_size(monkeypatch: pytest.MonkeyPatch) -> None:
    b = ModelBuilder()
    x = b.input("x", (1, 4), "int8", 0.1, 0)
    w = b.const("w", np.ones((3, 4), np.int8), 0.1)
    y = b.tensor("y", (1, 3), "int8", 0.1, 0)
    b.op("FULLY_CONNECTED", [x, w], [y])
    b.output(y)
    object.__setattr__(b._tensors[w], "data", bytes(11))
    with pytest.raises(FormatError, match=r"'w': shape \(3, 4\) of INT8 does not fit to its 11"):
        import_tflite(b.finish())


def test_quantization_that_contradicts() -> None:
    b = ModelBuilder()
    x = b.input("x", (1, 2, 2, 4), "int8", 0.1, 0)
    w = b.const("w", np.ones((4, 1, 1, 4), np.int8), [0.1] * 4, quantized_dimension=5)
    y = b.tensor("y", (1, 2, 2, 4), "int8", 0.1, 0)
    b.op("CONV_2D", [x, w, None], [y], stride_h=1, stride_w=1)
    b.output(y)
    with pytest.raises(FormatError, match="'w': quantized_dimension is 5, the tensor has 4"):
        import_tflite(b.finish())


@pytest.mark.parametrize(("scale", "zero"), [(0.0, 0), (-1.0, 0), (float("nan"), 0), (0.1, 300)])
def test_impossible_range(scale: float, zero: int) -> None:
    b = ModelBuilder()
    x = b.input("x", (1, 4), "int8", scale, zero)
    y = b.tensor("y", (1, 4), "int8", 0.1, 0)
    b.op("RELU", [x], [y])
    b.output(y)
    with pytest.raises(FormatError, match=r"'x': (a scale of|zero point 300)"):
        import_tflite(b.finish())


def test_reads_before_it_writes() -> None:
    b = ModelBuilder()
    x = b.input("x", (1, 4), "int8", 0.1, 0)
    y, z = (b.tensor(n, (1, 4), "int8", 0.1, 0) for n in "yz")
    b.op("ADD", [x, z], [y])
    b.op("RELU", [y], [z])
    b.output(z)
    with pytest.raises(FormatError, match="op 0 ADD reads tensor 2 'z', which nothing has written"):
        import_tflite(b.finish())


def test_writes_twice() -> None:
    b = ModelBuilder()
    x = b.input("x", (1, 4), "int8", 0.1, 0)
    y = b.tensor("y", (1, 4), "int8", 0.1, 0)
    b.op("RELU", [x], [y])
    b.op("RELU", [x], [y])
    b.output(y)
    with pytest.raises(FormatError, match="op 1 RELU writes tensor 1 'y' again"):
        import_tflite(b.finish())


def test_shape_that_does_not_follow() -> None:
    with pytest.raises(FormatError, match=r"op 0 RELU 'net/y': the file says shape \(1, 5\), the"):
        import_tflite(one_op("RELU", (1, 4), (1, 5)))


# ---- what is refused


def test_all_problems_at_once() -> None:
    b = ModelBuilder()
    f = b.input("f", (1, 4), "float32")
    q = b.input("q", (1, 4), "int8", 0.1, 0)
    h = b.input("h", (1, 4), "int16", 0.1, 0)
    f2, h2 = b.tensor("a/f2", (1, 4), "int8", 0.1, 0), b.tensor("h2", (1, 4), "int16", 0.1, 0)
    s, s2 = (b.tensor(n, (1, 4), "int8", 0.1, 0) for n in ("scope/s", "s2"))
    raw = b.tensor("raw", (1, 4), "int8")
    b.op("RELU", [f], [f2])
    b.op("LOG_SOFTMAX", [h], [h2])
    b.op("SVDF", [q], [s])
    b.op("RELU", [s], [s2])  # behind the problem, none itself
    b.op("RELU", [q], [raw])
    b.output(f2, h2, s2, raw)
    assert problems(b.finish()) == (
        "op 0 RELU 'a/f2': it mixes float32 and int8",
        "op 1 LOG_SOFTMAX 'h2': int16 is not supported here; quantize this operator with int8",
        "op 2 SVDF 'scope/s': not supported",
        "op 4 RELU 'raw': 'raw' is int8 without scale and zero point",
    )


def test_arithmetic_on_indices() -> None:
    """It runs; as floats outside of the network it is refused."""
    b = ModelBuilder()
    x = b.input("x", (4,), "int32")
    y = b.tensor("y", (4,), "int32")
    b.op("ADD", [x, ints(b, 1, 2, 3, 4)], [y])
    z, u = b.tensor("z", (4,), "float32"), b.tensor("u", (4,), "int32")
    b.op("CAST", [y], [z])
    b.op("ADD", [y, y], [u], fused_activation_function="RELU")
    b.output(z, u)
    assert problems(b.finish()) == ("op 2 ADD 'u': a fused RELU of whole numbers is not supported",)


def test_shape_that_is_computed() -> None:
    b = ModelBuilder()
    x, s = b.input("x", (1, 4), "int8", 0.1, 0), b.input("s", (2,), "int32")
    y = b.tensor("y", (2, 2), "int8", 0.1, 0)
    b.op("RESHAPE", [x, s], [y])
    b.output(y)
    assert problems(b.finish()) == ("op 0 RESHAPE 'y': shape 's' is not a constant",)


def test_per_channel_zero_points() -> None:
    b = ModelBuilder()
    x = b.input("x", (1, 2, 2, 4), "int8", 0.1, 0)
    w = b.const("w", np.ones((2, 1, 1, 4), np.int8), [0.1, 0.2], [0, -7])
    y = b.tensor("y", (1, 2, 2, 2), "int8", 0.1, 0)
    b.op("CONV_2D", [x, w, None], [y], stride_h=1, stride_w=1)
    b.output(y)
    (problem,) = problems(b.finish())
    assert problem.startswith("op 0 CONV_2D 'y': weights 'w': zero point -7;")


# ---- what is read


def test_legacy_uint8() -> None:
    b = ModelBuilder()
    x = b.input("x", (1, 2, 2, 3), "uint8", 0.5, 130)
    w = np.arange(6, dtype=np.uint8).reshape(2, 1, 1, 3)
    iw = b.const("w", w, 0.25, 3)
    ib = b.const("b", np.array([5, -5], np.int32), 0.125)
    y = b.tensor("y", (1, 2, 2, 2), "uint8", 1.0, 7)
    b.op("CONV_2D", [x, iw, ib], [y], stride_h=1, stride_w=1)
    b.output(y)
    graph = import_tflite(b.finish(), "nets/legacy.tflite")
    (node,) = graph.nodes
    tx, tw, tb = node.input(0), node.input(1), node.input(2)
    assert (tx.dtype, tx.source_dtype, graph.input_dtypes) == ("int8", "uint8", ["uint8"])
    assert tx.qparams is not None
    assert tx.qparams.zero_point == 2
    assert tw.qparams is not None
    assert tw.qparams.zero_point == -125
    assert tw.data is not None
    np.testing.assert_array_equal(tw.data, (w.astype(int) - 128).astype(np.int8))
    assert tb.dtype == tb.source_dtype == "int32"
    assert node.output.qparams is not None
    assert node.output.qparams.zero_point == -121
    assert graph.name == "legacy"
    assert graph.metadata == {"source_format": "tflite", "description": "edgeq test"}


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
def test_padding(padding: str, stride: int, dilation: int) -> None:
    size, taps = 11, 4
    extent = (taps - 1) * dilation + 1
    out = -(-size // stride) if padding == "SAME" else -(-(size - extent + 1) // stride)
    b = ModelBuilder()
    x = b.input("x", (1, size, size, 4), "int8", 0.1, 0)
    w = b.const("w", np.ones((6, taps, 1, 2), np.int8), 0.1)
    y = b.tensor("y", (1, out, -(-size // stride), 6), "int8", 0.1, 0)
    options = {"dilation_h_factor": dilation, "stride_h": stride, "stride_w": stride}
    b.op("CONV_2D", [x, w, None], [y], padding=padding, **options)
    b.output(y)
    a = import_tflite(b.finish()).nodes[0].attrs
    total = max(0, (out - 1) * stride + extent - size)
    assert a.pad_top == (total // 2 if padding == "SAME" else 0)
    assert a.pad_left == 0
    assert (a.groups, a.stride, a.dilation) == (2, (stride, stride), (dilation, 1))


def test_fully_connected_flattens() -> None:
    b = ModelBuilder()
    x = b.input("x", (2, 3, 4), "int8", 0.1, 0)
    w = b.const("w", np.ones((5, 12), np.int8), 0.1)
    y = b.tensor("y", (2, 5), "int8", 0.1, 0)
    b.op("FULLY_CONNECTED", [x, w, None], [y], fused_activation_function="RELU6")
    b.output(y)
    reshape, node = import_tflite(b.finish()).nodes
    assert (reshape.op, reshape.output.shape, node.op) == ("RESHAPE", (2, 12), "FULLY_CONNECTED")
    assert node.attrs.activation == "RELU6"
    assert node.inputs[2] is None


def test_node_names() -> None:
    name = "StatefulPartitionedCall/model/block_12/conv/Relu6;model/block_12/bn/FusedBatchNormV3"
    b = ModelBuilder()
    x = b.input("x", (1, 4), "int8", 0.1, 0)
    for _ in range(2):
        y = b.tensor(name, (1, 4), "int8", 0.1, 0)
        b.op("RELU", [x], [y])
        x = y
    b.output(x)
    assert [n.name for n in import_tflite(b.finish()).nodes] == [
        "model/block_12/conv/Relu6",
        "model/block_12/conv/Relu6_2",
    ]


# ---- constants fold away


def test_shape_arithmetic_folds() -> None:
    """What exporters write for x.reshape(n, h * w, c): nothing of it is left."""
    b = ModelBuilder()
    x = b.input("x", (2, 3, 4, 5), "int8", 0.1, 0)
    shape = b.tensor("shape", (4,), "int32")
    b.op("SHAPE", [x], [shape])
    parts = []
    for i, name in enumerate("nhwc"):
        part = b.tensor(name, (), "int32")
        operands = [shape, ints(b, i), ints(b, i + 1), ints(b, 1)]
        b.op("STRIDED_SLICE", operands, [part], shrink_axis_mask=1)
        parts.append(part)
    area, half = b.tensor("area", (), "int32"), b.tensor("half", (), "int32")
    b.op("MUL", [parts[1], parts[2]], [area])
    two = b.const("two", np.array(2, np.int32))
    b.op("FLOOR_DIV", [area, two], [half])
    real, halved = (b.tensor(n, (), "float32") for n in ("real", "halved"))
    back = b.tensor("back", (), "int32")
    b.op("CAST", [half], [real])
    b.op("DIV", [real, b.const("f", np.array(0.5, np.float32))], [halved])
    b.op("CAST", [halved], [back])
    packed = b.tensor("packed", (3,), "int32")
    b.op("PACK", [parts[0], back, parts[3]], [packed])
    y = b.tensor("y", (2, 12, 5), "int8", 0.1, 0)
    b.op("RESHAPE", [x, packed], [y])
    b.output(y)
    graph = import_tflite(b.finish())
    assert [n.op for n in graph.nodes] == ["RESHAPE"]
    assert graph.outputs[0].shape == (2, 12, 5)


def test_made_constants_fold() -> None:
    b = ModelBuilder()
    x = b.input("x", (6,), "int8", 0.1, 0)
    steps, filled, picked, joined = (
        b.tensor(n, s, "int32") for n, s in (("s", (3,)), ("f", (1,)), ("p", (2,)), ("j", (3,)))
    )
    scalars = [b.const("c", np.array(v, np.int32)) for v in (1, 7, 2)]
    b.op("RANGE", scalars, [steps])  # 1 3 5
    b.op("FILL", [ints(b, 1), b.const("v", np.array(1, np.int32))], [filled])
    b.op("GATHER", [ints(b, 9, 3, 9, 2), ints(b, 1, 3)], [picked])
    b.op("CONCATENATION", [filled, picked], [joined], axis=0)
    y = b.tensor("y", (1, 3, 2), "int8", 0.1, 0)
    b.op("RESHAPE", [x, joined], [y])
    z = b.tensor("z", (3,), "int32")
    b.op("ADD", [steps, steps], [z])
    b.output(y, z)
    graph = import_tflite(b.finish())
    assert graph.outputs[0].shape == (1, 3, 2)
    assert graph.outputs[1].data is not None
    assert graph.outputs[1].data.tolist() == [2, 6, 10]


def test_huge_constants_are_not_computed() -> None:
    b = ModelBuilder()
    huge = b.tensor("huge", (), "int32")
    b.op("FILL", [ints(b, 60000, 60000), b.const("v", np.array(1, np.int32))], [huge])
    b.output(huge)
    assert problems(b.finish()) == ("op 0 FILL 'huge': the constant that it computes is too large",)


# ---- data that moves


@pytest.mark.parametrize("seed", range(60))
def test_strided_slice(seed: int) -> None:
    """Random bounds, strides and masks; expectations come from the oracle."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 6, rng.integers(1, 5)))
    count = int(rng.integers(1, len(shape) + 1))
    begin, end = rng.integers(-7, 8, (2, count))
    strides = rng.choice([-3, -2, -1, 1, 1, 2], count)
    masks = {k: int(rng.integers(0, 1 << count)) for k in ("begin_mask", "end_mask")}
    masks["shrink_axis_mask"] = int(rng.integers(0, 1 << count)) & int(rng.integers(0, 1 << count))
    for i in range(count):
        if masks["shrink_axis_mask"] >> i & 1:
            strides[i] = 1
            begin[i] = rng.integers(-shape[i], shape[i])
    if rng.random() < 0.3 and count < 4:
        masks["ellipsis_mask"] = 1 << int(rng.integers(count))
    if rng.random() < 0.3 and len(shape) < 4:
        masks["new_axis_mask"] = 1 << int(rng.integers(count))
    b = ModelBuilder()
    x = b.input("x", shape, "int8", 0.1, 0)
    y = b.tensor("y", (), "int8", 0.1, 0)
    operands = [b.const("c", v.astype(np.int32)) for v in (begin, end, strides)]
    b.op("STRIDED_SLICE", [x, *operands], [y], **masks)
    b.output(y)
    data, values = b.finish(), ramp(*shape)
    try:
        (want,) = reference(data, [values])
    except (RuntimeError, ValueError):
        return
    if want.size == 0:
        with pytest.raises(FormatError, match="is empty"):
            import_tflite(data)
        return
    graph = import_tflite(data)
    np.testing.assert_array_equal(run(graph, [values])[0], want)


def test_space_and_depth() -> None:
    for kind, x, y in (
        ("SPACE_TO_DEPTH", (2, 4, 6, 3), (2, 2, 3, 12)),
        ("DEPTH_TO_SPACE", (2, 2, 3, 12), (2, 4, 6, 3)),
    ):
        data = one_op(kind, x, y, block_size=2)
        (want,) = reference(data, [ramp(*x)])
        (got,) = run(run_passes(import_tflite(data)), [ramp(*x)])
        np.testing.assert_array_equal(got, want)


def test_unpack_pack() -> None:
    b = ModelBuilder()
    x = b.input("x", (2, 3, 4), "int8", 0.1, 0)
    parts = [b.tensor(f"p{i}", (2, 4), "int8", 0.1, 0) for i in range(3)]
    y = b.tensor("y", (2, 4, 3), "int8", 0.1, 0)
    b.op("UNPACK", [x], parts, axis=-2, num=3)
    b.op("PACK", parts[::-1], [y], axis=-1, values_count=3)
    b.output(y)
    moves(b.finish(), ramp(2, 3, 4))


def test_pad_value_is_the_zero_point() -> None:
    b = ModelBuilder()
    x = b.input("x", (1, 2, 2, 1), "uint8", 0.1, 200)
    pads = b.const("pads", np.array([[0, 0], [1, 0], [0, 2], [0, 0]], np.int32))
    y = b.tensor("y", (1, 3, 4, 1), "uint8", 0.1, 200)
    b.op("PAD", [x, pads], [y])
    v = b.const("v", np.array([9], np.uint8), 0.1, 200)
    z = b.tensor("z", (1, 4, 6, 1), "uint8", 0.1, 200)
    b.op("PADV2", [y, pads, v], [z])
    b.output(z)
    first, second = import_tflite(b.finish()).nodes
    assert (first.op, first.attrs.value) == ("PAD", 200 - 128)
    assert (second.op, second.attrs.value) == ("PAD", 9 - 128)
    assert (first.attrs.before, first.attrs.after) == ((0, 1, 0, 0), (0, 0, 2, 0))


# ---- free dimensions


def free_model(shape: tuple[int, ...]) -> bytes:
    b = ModelBuilder()
    x = b.input("image", shape, "int8", 0.1, 0)
    w = b.const("w", np.ones((4, 3, 3, 2), np.int8), 0.1)
    y, z = b.tensor("y", (), "int8", 0.1, 0), b.tensor("z", (), "int8", 0.1, 0)
    b.op("CONV_2D", [x, w, None], [y], padding="SAME", stride_h=2, stride_w=2)
    b.op("RESHAPE", [y, ints(b, -1, 4)], [z])
    b.output(z)
    return b.finish()


def test_free_batch_is_one() -> None:
    graph = import_tflite(free_model((-1, 8, 8, 2)))
    assert graph.inputs[0].shape == (1, 8, 8, 2)
    assert graph.outputs[0].shape == (16, 4)
    graph = import_tflite(free_model((-1, 8, 8, 2)), input_shapes={"image": (3, 8, 8, 2)})
    assert graph.outputs[0].shape == (48, 4)


def test_free_size_must_be_given() -> None:
    data = free_model((0, -1, -1, 2))
    with pytest.raises(ArgumentError, match=r"--input-shape image=1,\?,\?,2"):
        import_tflite(data)
    with pytest.raises(ArgumentError, match="no input 'img'; its inputs: image"):
        import_tflite(data, input_shapes={"img": (1, 8, 8, 2)})
    for bad in ((1, 8, 8), (1, 8, 0, 2), (1, 8, 2**31, 2)):
        with pytest.raises(ArgumentError, match=r"input 'image' is \?,\?,\?,2, not 1,"):
            import_tflite(data, input_shapes={"image": bad})
    graph = import_tflite(data, input_shapes={"image": (2, 5, 6, 2)})
    assert graph.outputs[0].shape == (2 * 3 * 3, 4)


def test_too_large() -> None:
    with pytest.raises(FormatError, match="2 GiB"):
        import_tflite(free_model((-1, 8, 8, 2)), input_shapes={"image": (2**26, 8, 8, 2)})


# ---- labels


def with_archive(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return one_op("RELU", (1, 3), (1, 3)) + stream.getvalue()


def test_labels() -> None:
    graph = import_tflite(with_archive({"a.txt": b"one\ntwo", "b.txt": "ä\r\nb\r\nc\r\n".encode()}))
    assert graph.labels == {graph.outputs[0]: "ä\nb\nc"}
    assert list(run_passes(graph).labels.values()) == ["ä\nb\nc"]


def test_labels_are_bounded() -> None:
    graph = import_tflite(with_archive({"a.txt": b"x\ny\n" + b"z" * 70000}))
    assert graph.labels == {}


def test_damaged_labels() -> None:
    data = bytearray(with_archive({"a.txt": b"a\nb\nc\n" * 40}))
    at = data.index(b"a.txt") + 6
    data[at : at + 8] = b"\xff" * 8
    with pytest.raises(FormatError, match="archive of labels at its end is damaged"):
        import_tflite(bytes(data))
