# SPDX-License-Identifier: Apache-2.0
"""passes/layout.py: transposes that cancel, stay at a port, or go into weights."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_models import Net, check, random_feed, reference, transposes

from edgeq.importers.onnx import import_onnx
from edgeq.ir.graph import Graph, Node, Tensor
from edgeq.ir.ops import NoAttrs, Transpose
from edgeq.passes import run_float_passes
from edgeq.passes.layout import factored, layout
from edgeq.quantize.execute import FloatRunner

RNG = np.random.default_rng(31)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def conv(net: Net, x: str, o: int, i: int, k: int = 1, **attrs: object) -> str:
    return str(net.add("Conv", x, net.const(normal(o, i, k, k)), **attrs))


def test_one_transpose_at_each_port() -> None:
    net = Net(13)
    x = net.input("x", 1, 3, 8, 8)
    a = net.add("Relu", conv(net, x, 6, 3, 3, pads=[1, 1, 1, 1]))
    b = net.add("Concat", net.add("MaxPool", a, kernel_shape=[1, 1]), a, axis=1)
    scale = net.add("Sigmoid", conv(net, net.add("GlobalAveragePool", b), 12, 12))
    y = net.add("Mul", b, scale)
    y = net.add("Add", net.add("Mul", y, net.const(normal(12, 1, 1))), net.const(normal(1)))
    y = net.add("Slice", y, net.ints(2, 1), net.ints(9, 7), net.ints(1, 3))
    y = net.add("Pad", y, net.ints(0, 0, 1, 0, 0, 1, 0, 2))
    graph = check(net.model(conv(net, y, 2, 8)))
    assert transposes(graph) == [(0, 2, 3, 1), (0, 3, 1, 2)]
    assert graph.nodes[0].op == graph.nodes[-1].op == "TRANSPOSE"


def test_channels_at_the_end_of_a_detector_need_none() -> None:
    net = Net(13)
    heads = []
    x = net.input("x", 1, 3, 8, 8)
    for channels in (4, 8):
        y = net.add("Transpose", conv(net, x, channels, 3), perm=[0, 2, 3, 1])
        heads.append(net.add("Reshape", y, net.ints(1, -1, 2)))
    y = net.add("Softmax", net.add("Concat", *heads, axis=1), axis=-1)
    graph = check(net.model(y))
    assert transposes(graph) == [(0, 2, 3, 1)]


def test_a_flattened_picture_goes_into_the_weights() -> None:
    net = Net(13)
    x = net.input("x", 2, 3, 6, 5)
    flat = net.add("Flatten", conv(net, x, 4, 3))
    flat = net.add("Relu", net.add("Mul", flat, net.const(normal(120))))
    w = net.const(normal(120, 7))
    graph = check(
        net.model(net.add("Gemm", flat, w), net.add("MatMul", flat, net.const(normal(120, 2))))
    )
    assert transposes(graph) == [(0, 2, 3, 1)]
    both = Net(13)
    flat = both.add("Flatten", conv(both, both.input("x", 2, 3, 6, 5), 4, 3))
    graph = check(both.model(both.add("Gemm", flat, both.const(normal(120, 7))), flat))
    assert transposes(graph) == [(0, 2, 3, 1), (0, 3, 1, 2)]  # the output is what it was


def test_arithmetic_on_the_input_is_done_behind_its_transpose() -> None:
    net = Net(13)
    x = net.input("x", 1, 3, 6, 5)
    y = net.add("Div", net.add("Sub", x, net.const(normal(3, 1, 1))), net.const(normal(1, 3, 1, 1)))
    y = net.add("Pad", y, net.ints(0, 0, 1, 1, 0, 0, 0, 0))
    graph = check(net.model(net.add("GlobalAveragePool", conv(net, y, 4, 3))))
    assert [n.op for n in graph.nodes[:4]] == ["TRANSPOSE", "SUB", "DIV", "PAD"]
    assert len(transposes(graph)) == 1


def test_a_shuffle_is_one_transpose() -> None:
    net = Net(13)
    y = conv(net, net.input("x", 1, 3, 6, 5), 8, 3)
    y = net.add("Reshape", y, net.ints(1, 2, 4, 6, 5))
    y = net.add("Reshape", net.add("Transpose", y, perm=[0, 2, 1, 3, 4]), net.ints(1, 8, 6, 5))
    graph = check(net.model(net.add("GlobalAveragePool", conv(net, y, 4, 8))))
    assert transposes(graph) == [(0, 2, 3, 1), (0, 1, 2, 4, 3)]


def test_attention() -> None:
    """Pixels become rows without a transpose, keys are turned by the product itself."""
    net = Net(13)
    x = net.input("x", 1, 3, 4, 4)
    q, k, v = (net.add("Reshape", conv(net, x, 8, 3), net.ints(1, 8, 16)) for _ in range(3))
    rows = net.add("Transpose", q, perm=[0, 2, 1])
    y = net.add("Softmax", net.add("MatMul", rows, k), axis=-1)
    y = net.add("MatMul", y, net.add("Transpose", v, perm=[0, 2, 1]))
    graph = check(net.model(y))
    assert transposes(graph) == [(0, 2, 3, 1)]


def test_lines() -> None:
    net = Net(13)
    x = net.input("x", 1, 3, 20)
    y = net.add("Conv", x, net.const(normal(6, 3, 3)), pads=[2, 0])
    y = net.add("Relu", net.add("Add", y, net.const(normal(6, 1))))
    y = net.add("Conv", y, net.const(normal(4, 6, 3)))
    graph = check(net.model(net.add("ReduceMean", y, axes=[2], keepdims=0)))
    assert len(transposes(graph)) == 1


def test_norms_and_reductions_move_their_axes() -> None:
    net = Net(17)
    y = conv(net, net.input("x", 1, 3, 4, 5), 6, 3)
    y = net.add("InstanceNormalization", y, net.const(normal(6)), net.const(normal(6)))
    parts = net.add("Split", y, net.ints(2, 4), outputs=2, axis=1)
    names = [
        net.add("ReduceMax", parts[0], axes=[1], keepdims=0),
        net.add("ReduceSum", parts[1], net.ints(2, 3), keepdims=0),
        net.add("ArgMax", parts[1], axis=1),
    ]
    graph = check(net.model(*names))
    assert transposes(graph) == [(0, 2, 3, 1)]


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_factored(data: st.DataObject) -> None:
    """reshape(transpose(b)) by the other order of the two."""
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    perm = tuple(data.draw(st.permutations(range(len(shape)))))
    b = np.arange(np.prod(shape)).reshape(shape)
    x = b.transpose(perm)
    primes = [p for d in x.shape for p in _factors(d)]
    new: list[int] = []
    while primes:
        n = data.draw(st.integers(1, len(primes)))
        new.append(int(np.prod(primes[:n])))
        primes = primes[n:]
        if data.draw(st.booleans()):
            new.append(1)
    found = factored(tuple(shape), perm, tuple(new))
    start = b if found.before is None else b.transpose(found.before)
    y = start.reshape(found.shape).transpose(found.perm)
    np.testing.assert_array_equal(y, x.reshape(new))


def _factors(n: int) -> list[int]:
    return next(([p, *_factors(n // p)] for p in (2, 3) if n % p == 0), [])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_random_chains_of_moves(data: st.DataObject) -> None:
    """Transposes, reshapes and elementwise ops in any order compute the same."""
    shape = tuple(data.draw(st.lists(st.integers(1, 3), min_size=2, max_size=4)))
    x = t = Tensor("x", shape, "float32")
    nodes = []
    for i in range(data.draw(st.integers(1, 6))):
        kind = data.draw(st.sampled_from(["TRANSPOSE", "RESHAPE", "RELU"]))
        attrs: object = NoAttrs()
        if kind == "TRANSPOSE":
            perm = tuple(data.draw(st.permutations(range(len(t.shape)))))
            attrs, new = Transpose(perm), tuple(t.shape[p] for p in perm)
        elif kind == "RESHAPE":
            new = data.draw(
                st.sampled_from([(t.elements,), (1, t.elements), (*t.shape, 1), t.shape])
            )
        else:
            new = t.shape
        y = Tensor(f"t{i}", new, "float32")
        nodes.append(Node(kind, [t], [y], attrs, y.name))
        t = y
    graph = Graph(nodes, [x], [t])
    values = {"x": normal(*shape)}
    moved = layout(graph.copy())
    before = FloatRunner(graph, threads=1).run(values)[graph.outputs[0]]
    np.testing.assert_array_equal(
        FloatRunner(moved, threads=1).run(values)[moved.outputs[0]], before
    )
    assert len(transposes(moved)) <= len(transposes(graph))


@pytest.mark.parametrize("rank", [3, 4])
def test_what_two_layouts_share(rank: int) -> None:
    """A sum of what a convolution makes and of what comes as it is."""
    net = Net(13)
    shape = (1, 4, 6, 5)[:rank] if rank == 4 else (1, 4, 30)
    x, other = net.input("x", *shape), net.input("other", *shape)
    w = net.const(normal(4, 4, *(1,) * (rank - 2)))
    y = net.add("Add", net.add("Conv", x, w), other)
    y = net.add("Conv", net.add("Mul", y, x), w)
    graph = check(net.model(y))
    assert len(transposes(graph)) <= {3: 4, 4: 3}[rank]


def test_channels_in_another_order_go_into_the_weights() -> None:
    """DepthToSpace's other order behind a convolution."""
    net = Net(13)
    y = conv(net, net.input("x", 1, 3, 4, 5), 12, 3)
    model = net.model(net.add("DepthToSpace", y, blocksize=2, mode="CRD"))
    graph = import_onnx(model)
    feed = random_feed(graph, 1)
    rewritten = run_float_passes(graph)
    assert sorted(n.op for n in rewritten.nodes) == [
        "CONV_2D",
        "DEPTH_TO_SPACE",
        "TRANSPOSE",
        "TRANSPOSE",
    ]
    found = FloatRunner(rewritten, threads=1).run(feed)[rewritten.outputs[0]]
    np.testing.assert_allclose(found, reference(model, feed)[0], rtol=1e-4, atol=1e-5)
