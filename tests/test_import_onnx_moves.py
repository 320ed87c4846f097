# SPDX-License-Identifier: Apache-2.0
"""ONNX operators that move, cut, repeat and resize: the imported graph against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_models import NEWEST, Net, check

RNG = np.random.default_rng(7)


@pytest.mark.parametrize("opset", [7, 13, NEWEST])
def test_shapes(opset: int) -> None:
    net = Net(opset)
    x = net.input("x", 2, 3, 4, 5)
    axes: Any = ([net.ints(0, 3)], {}) if opset >= 13 else ([], {"axes": [0, 3]})
    wide = net.add("Unsqueeze", x, *axes[0], **axes[1])
    names = [
        net.add("Reshape", x, net.ints(0, -1, 5)),
        net.add("Reshape", x, net.ints(6, 20)),
        net.add("Flatten", x, axis=2),
        net.add("Flatten", x, axis=0),
        wide,
        net.add("Squeeze", wide, *axes[0], **axes[1]),
        net.add("Squeeze", wide),
        net.add("Transpose", x, perm=[3, 1, 0, 2]),
        net.add("Transpose", x),
        net.add("Identity", x),
    ]
    check(net.model(*names))


def test_shapes_that_are_computed() -> None:
    """A reshape to what Shape, Gather and Concat say, and others of that kind."""
    net = Net(13)
    x = net.input("x", 2, 3, 4, 5)
    shape = net.add("Shape", x)
    batch = net.add("Unsqueeze", net.add("Gather", shape, net.const(0, "int64")), net.ints(0))
    to = net.add("Concat", batch, net.ints(-1), axis=0)
    half = net.add("Div", net.add("Size", x), net.const(2, "int64"))
    ramp = net.add("Range", net.const(0, "int64"), net.const(5, "int64"), net.const(1, "int64"))
    ramp = net.add("Cast", ramp, to=1)
    filled = net.add("ConstantOfShape", net.add("Slice", shape, net.ints(2), net.ints(4)))
    names = [
        net.add("Reshape", x, to),
        net.add("Add", x, ramp),
        net.add("Add", x, filled),
        net.add("Expand", net.add("ReduceMean", x, axes=[2, 3]), shape),
    ]
    to_half = net.add("Concat", net.ints(2), net.add("Unsqueeze", half, net.ints(0)), axis=0)
    names.append(net.add("Reshape", x, to_half))
    check(net.model(*names))


SLICES = [
    ([1], [3], [1], None),
    ([0, 1], [2, -1], [0, 3], None),
    ([-1], [-100], [2], [-1]),
    ([3], [0], [3], [-2]),
    ([0, 0], [100, 4], [-1, -2], [2, 3]),
    ([1, 0, 1, 0], [2, 3, 3, 5], None, None),
]


@pytest.mark.parametrize(("starts", "ends", "axes", "steps"), SLICES)
@pytest.mark.parametrize("opset", [9, 10, NEWEST])
def test_slice(starts: Any, ends: Any, axes: Any, steps: Any, opset: int) -> None:
    net = Net(opset)
    x = net.input("x", 2, 3, 4, 5)
    if opset < 10:
        if steps is not None:
            return
        given = {} if axes is None else {"axes": axes}
        y = net.add("Slice", x, starts=starts, ends=ends, **given)
    else:
        more = [net.ints(*axes)] if axes is not None else [""] if steps else []
        more += [net.ints(*steps)] if steps else []
        y = net.add("Slice", x, net.ints(*starts), net.ints(*ends), *more)
    check(net.model(y))


@pytest.mark.parametrize("opset", [7, 13, 18])
def test_split_and_concat(opset: int) -> None:
    net = Net(opset)
    x = net.input("x", 2, 6, 4, 5)
    sizes: Any = ([net.ints(1, 2, 3)], {}) if opset >= 13 else ([], {"split": [1, 2, 3]})
    more = {"num_outputs": 3} if opset >= 18 else {}
    parts = net.add("Split", x, *sizes[0], outputs=3, axis=1, **sizes[1])
    even = net.add("Split", x, outputs=3, axis=1, **more)
    joined = net.add("Concat", parts[2], even[0], net.const(RNG.normal(size=(2, 1, 4, 5))), axis=1)
    check(net.model(joined, parts[0], even[2]))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather(axis: int) -> None:
    net = Net(13)
    x = net.input("x", 3, 4, 5)
    index = [2, 0, 1]
    names = [
        net.add("Gather", x, net.const(1, "int64"), axis=axis),
        net.add("Gather", x, net.ints(-1, -2), axis=axis),
        net.add("Gather", x, net.ints(*index), axis=axis),
        net.add("Gather", x, net.const([[0, 2], [1, 1]], "int64"), axis=axis),
    ]
    check(net.model(*names))


def test_embedding() -> None:
    net = Net(13)
    table = net.const(RNG.normal(size=(10, 4)))
    words = net.input("words", 2, 3, kind="int64")
    feed = {"words": np.array([[1, 2, 9], [0, 0, 5]])}
    check(net.model(net.add("Gather", table, words)), feed)


PADS = [
    ([0, 0, 1, 2, 0, 0, 3, 0], "constant"),
    ([1, 0, 0, 0, 0, 2, 0, 1], "constant"),
    ([0, 0, 1, 2, 0, 0, 2, 1], "reflect"),
    ([0, 0, 1, 2, 0, 0, 3, 1], "edge"),
    ([0, 0, -1, 1, 0, 0, 0, -2], "constant"),
    ([0] * 8, "constant"),
]


@pytest.mark.parametrize(("pads", "mode"), PADS)
@pytest.mark.parametrize("value", [0.0, -1.5])
@pytest.mark.parametrize("opset", [7, 11, 18])
def test_pad(pads: list[int], mode: str, value: float, opset: int) -> None:
    net = Net(opset)
    x = net.input("x", 2, 3, 4, 5)
    if opset < 11:
        y = net.add("Pad", x, pads=pads, mode=mode, value=value)
    else:
        y = net.add("Pad", x, net.ints(*pads), net.const(value), mode=mode)
    check(net.model(y))


def test_pad_of_some_axes() -> None:
    net = Net(19)
    x = net.input("x", 2, 3, 4, 5)
    names = [
        net.add("Pad", x, net.ints(1, 2, 0, 1), "", net.ints(-1, 2)),
        net.add("Pad", x, net.ints(0, 0, 2, 1, 0, 0, 1, 3), mode="wrap"),
    ]
    check(net.model(*names))


def test_repeat() -> None:
    net = Net(13)
    x, one = net.input("x", 2, 3), net.input("one", 1, 3, 1)
    names = [
        net.add("Tile", x, net.ints(2, 5)),
        net.add("Expand", one, net.ints(4, 1, 37)),
        net.add("Expand", x, net.ints(2, 1, 1)),
    ]
    check(net.model(*names))


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_blocks(mode: str) -> None:
    net = Net(13)
    x = net.input("x", 2, 12, 4, 6)
    names = [
        net.add("DepthToSpace", x, blocksize=2, mode=mode),
        net.add("SpaceToDepth", x, blocksize=2),
    ]
    check(net.model(*names))


COORDINATES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
TARGETS: list[tuple[str, list[float]]] = [
    ("scales", [1, 1, 2, 2]),
    ("scales", [1, 1, 1.7, 0.6]),
    ("sizes", [2, 3, 8, 7]),
    ("sizes", [2, 3, 3, 15]),
    ("sizes", [2, 3, 1, 5]),
]


@pytest.mark.parametrize(("kind", "values"), TARGETS)
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", [*ROUNDINGS, "linear", "cubic"])
@pytest.mark.parametrize("opset", [11, NEWEST])
def test_resize(kind: str, values: list[float], coordinates: str, mode: str, opset: int) -> None:
    net = Net(opset)
    x = net.input("x", 2, 3, 4, 5)
    target = net.const(values) if kind == "scales" else net.ints(*(int(v) for v in values))
    operands = ["", target] if kind == "scales" else ["", "", target]
    if opset < 13:
        operands[0] = net.const(np.zeros(0))
        if kind == "sizes":
            operands[1] = operands[0]
    attrs = {"nearest_mode": mode} if mode in ROUNDINGS else {}
    name = "nearest" if mode in ROUNDINGS else mode
    y = net.add(
        "Resize", x, *operands, mode=name, coordinate_transformation_mode=coordinates, **attrs
    )
    check(net.model(y))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("opset", [7, 9, 10])
@pytest.mark.parametrize("scales", [[1, 1, 2, 2], [1, 1, 3, 1.5]])
def test_resize_of_old(mode: str, opset: int, scales: list[float]) -> None:
    net = Net(opset)
    x = net.input("x", 1, 3, 4, 5)
    if opset == 7:
        y = net.add("Upsample", x, mode=mode, scales=[float(s) for s in scales])
    else:
        y = net.add("Upsample" if opset == 9 else "Resize", x, net.const(scales), mode=mode)
    check(net.model(y))


def test_resizes_that_the_runtime_has() -> None:
    """The usual ones become an op for pictures, also of channels that come last and of lines."""
    net = Net(13)
    x, last, line = (
        net.input("x", 1, 3, 4, 5),
        net.input("last", 1, 4, 5, 3),
        net.input("l", 1, 3, 8),
    )
    names = [
        net.add("Resize", x, "", net.const([1, 1, 2, 2]), mode="nearest"),
        net.add("Resize", last, "", net.const([1, 2, 2, 1]), mode="linear"),
        net.add("Resize", line, "", net.const([1, 1, 2]), mode="linear"),
    ]
    graph = check(net.model(*names))
    ops = {n.op for n in graph.nodes}
    assert ops == {"RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR", "TRANSPOSE", "RESHAPE"}
