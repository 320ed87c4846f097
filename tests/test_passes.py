# SPDX-License-Identifier: Apache-2.0
"""The passes on small graphs made by hand: what they rewrite and what they must leave alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edgeq.errors import UnsupportedError
from edgeq.ir.evaluate import evaluate
from edgeq.ir.graph import Graph, Node, QParams, Tensor
from edgeq.ir.ops import (
    OPS,
    Arithmetic,
    Axis,
    Block,
    Conv2D,
    MatMul,
    MirrorPad,
    NoAttrs,
    Pad,
    Reduce,
    Slice,
    Transpose,
)
from edgeq.passes import run_passes
from edgeq.passes.clean import clean
from edgeq.passes.edges import absorb_edges
from edgeq.passes.fold import fold
from edgeq.passes.fuse import fuse
from edgeq.passes.legalise import collapse, legalise
from edgeq.passes.outputs import check_storable, own_outputs

Shape = tuple[int, ...]
Q = QParams.of(0.1, 3)
OTHER = QParams.of(0.2, 3)


class Builder:
    """A graph, node by node; tensors are int8 with parameters Q unless told."""

    def __init__(self) -> None:
        self.graph = Graph([], [], [])

    def tensor(self, name: str, shape: Shape, q: QParams | None = Q, **kwargs: Any) -> Tensor:
        dtype = kwargs.pop("dtype", "int8" if q is not None else "float32")
        return Tensor(name, shape, dtype, q, **kwargs)

    def input(self, shape: Shape, q: QParams | None = Q, **kwargs: Any) -> Tensor:
        t = self.tensor(f"x{len(self.graph.inputs)}", shape, q, **kwargs)
        self.graph.inputs.append(t)
        self.graph.input_dtypes.append(t.source_dtype)
        return t

    def const(self, array: np.ndarray, q: QParams | None = Q) -> Tensor:
        return Tensor("c", array.shape, array.dtype.name, q, array)

    def op(
        self,
        op: str,
        inputs: Sequence[Tensor | None],
        shape: Shape,
        attrs: Any = None,
        q: QParams | None = Q,
        **kwargs: Any,
    ) -> Tensor:
        name = f"t{len(self.graph.nodes)}"
        y = self.tensor(name, shape, q, **kwargs)
        self.add(op, inputs, [y], attrs)
        return y

    def add(
        self, op: str, inputs: Sequence[Tensor | None], outputs: list[Tensor], attrs: Any = None
    ) -> None:
        node = Node(op, list(inputs), outputs, attrs or NoAttrs(), outputs[0].name)
        self.graph.nodes.append(node)

    def output(self, *tensors: Tensor) -> Graph:
        self.graph.outputs += tensors
        self.graph.output_dtypes += [t.source_dtype for t in tensors]
        self.graph.verify()
        return self.graph

    def conv(self, x: Tensor, shape: Shape, taps: int = 3, **attrs: Any) -> Tensor:
        w = self.const(np.ones((shape[3], taps, taps, x.shape[3]), np.int8))
        return self.op("CONV_2D", [x, w, None], shape, Conv2D(**attrs))


@pytest.fixture
def b() -> Builder:
    return Builder()


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


def run(graph: Graph, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Outputs of a graph of moves; the graph is left as it is."""
    graph = graph.copy()
    for t, x in zip(graph.inputs, inputs):
        t.data = x
    for node in graph.nodes:
        arrays = evaluate(node)
        assert arrays is not None, node.op
        for t, a in zip(node.outputs, arrays):
            assert a.shape == t.shape
            t.data = a
    return [np.asarray(t.data) for t in graph.outputs]


def ramp(*shape: int) -> np.ndarray:
    return (np.arange(np.prod(shape)) % 253 - 126).astype(np.int8).reshape(shape)


# ---- fold


def test_constants_fold(b: Builder) -> None:
    real = b.const(np.array([[0.25, -0.15], [99.0, 0.05]], np.float32), None)
    q = b.op("QUANTIZE", [real], (2, 2))
    t = b.op("TRANSPOSE", [q], (2, 2), Transpose((1, 0)))
    x = b.input((2, 2))
    graph = fold(b.output(b.op("ADD", [x, t], (2, 2), Arithmetic())))
    assert ops(graph) == ["ADD"]
    folded = graph.nodes[0].input(1).data
    assert folded is not None
    # 0.25 / 0.1 and -0.15 / 0.1 in float32: 2.5 and -1.5, ties away from zero.
    assert folded.tolist() == [[6, 127], [1, 4]]


def test_dead_nodes_vanish(b: Builder) -> None:
    x = b.input((4, 2))
    b.op("RELU", [x], (4, 2))
    parts = [b.tensor(f"p{i}", (2, 2)) for i in range(2)]
    b.add("SPLIT", [x], parts, Axis(0))
    graph = fold(b.output(parts[1]))
    assert ops(graph) == ["SPLIT"]
    assert len(graph.nodes[0].outputs) == 2
    assert ops(legalise(graph)) == ["SLICE"]


def test_run_passes_leaves_its_argument_alone(b: Builder) -> None:
    x = b.input((1, 4), None)
    y = b.op("RELU", [b.op("QUANTIZE", [x], (1, 4))], (1, 4))
    graph = b.output(b.op("DEQUANTIZE", [y], (1, 4), None, None))
    done = run_passes(graph)
    assert ops(done) == ["RELU"]
    assert ops(graph) == ["QUANTIZE", "RELU", "DEQUANTIZE"]
    assert graph.inputs == [x]
    assert x.dtype == "float32"


# ---- edges


def test_float_edges(b: Builder) -> None:
    x = b.input((1, 4), None)
    first, second = b.op("QUANTIZE", [x], (1, 4)), b.op("QUANTIZE", [x], (1, 4))
    y = b.op("ADD", [first, second], (1, 4), Arithmetic(), OTHER)
    graph = b.output(b.op("DEQUANTIZE", [y], (1, 4), None, None))
    graph.labels[graph.outputs[0]] = "a\nb\nc\nd"
    name = graph.outputs[0].name
    graph = absorb_edges(graph)
    assert ops(graph) == ["ADD"]
    assert graph.nodes[0].inputs == [graph.inputs[0]] * 2
    assert (graph.input_dtypes, graph.output_dtypes) == (["float32"], ["float32"])
    assert (graph.inputs[0].name, graph.inputs[0].qparams) == ("x0", Q)
    assert (graph.outputs[0].name, graph.outputs[0].qparams) == (name, OTHER)
    assert list(graph.labels) == graph.outputs


def test_float_input_of_two_ranges_is_refused(b: Builder) -> None:
    x = b.input((1, 4), None)
    p, q = b.op("QUANTIZE", [x], (1, 4)), b.op("QUANTIZE", [x], (1, 4), None, OTHER)
    graph = b.output(b.op("ADD", [p, q], (1, 4), Arithmetic()))
    with pytest.raises(UnsupportedError, match="input 'x0' is float32"):
        run_passes(graph)


def test_float_inside_is_refused(b: Builder) -> None:
    """Where nothing says what range it has: tests/test_islands.py has what becomes integers."""
    x = b.input((1, 4))
    f = b.op("DEQUANTIZE", [x], (1, 4), None, None)
    g = b.op("BATCH_MATMUL", [f, f], (1, 1), MatMul(), None)
    graph = b.output(b.op("QUANTIZE", [g], (1, 1), None, OTHER))
    with pytest.raises(UnsupportedError) as e:
        run_passes(graph)
    assert "op -1 BATCH_MATMUL 't1': 't1' is float32 inside of the network" in e.value.problems


def test_sign_change_at_the_edges(b: Builder) -> None:
    """uint8 ports of an int8 network: the stored bytes are the same, the ops stay int8 ones."""
    x = b.input((1, 4), source_dtype="uint8")
    y = b.op("RELU", [b.op("QUANTIZE", [x], (1, 4))], (1, 4))
    graph = absorb_edges(b.output(b.op("QUANTIZE", [y], (1, 4), source_dtype="uint8")))
    assert ops(graph) == ["RELU"]
    assert (graph.input_dtypes, graph.output_dtypes) == (["uint8"], ["uint8"])
    assert (graph.inputs[0].source_dtype, graph.outputs[0].source_dtype) == ("int8", "int8")


def test_requantize_at_the_edges_stays(b: Builder) -> None:
    x = b.input((1, 4), OTHER, source_dtype="uint8")
    y = b.op("RELU", [b.op("QUANTIZE", [x], (1, 4))], (1, 4))
    graph = b.output(b.op("QUANTIZE", [y], (1, 4), None, OTHER))
    assert ops(run_passes(graph)) == ["QUANTIZE", "RELU", "QUANTIZE"]


def test_sign_change_inside_stays(b: Builder) -> None:
    """An average pool rounds otherwise for legacy uint8, so it must see what it is given."""
    x = b.input((1, 4))
    legacy = b.op("QUANTIZE", [x], (1, 4), source_dtype="uint8")
    y = b.op("RELU", [legacy], (1, 4), source_dtype="uint8")
    z = b.op("QUANTIZE", [y], (1, 4))
    assert ops(clean(b.output(b.op("RELU", [z], (1, 4))))) == ["QUANTIZE", "RELU"] * 2


def test_output_used_and_dequantized(b: Builder) -> None:
    y = b.op("RELU", [b.input((1, 4))], (1, 4))
    f = b.op("DEQUANTIZE", [y], (1, 4), None, None)
    z = b.op("RELU6", [y], (1, 4), None, OTHER)
    graph = absorb_edges(b.output(f, z))
    assert ops(graph) == ["RELU", "RELU6"]
    assert graph.nodes[1].input(0) is graph.outputs[0]
    assert graph.output_dtypes == ["float32", "int8"]


def test_one_tensor_under_three_ports(b: Builder) -> None:
    y = b.op("RELU", [b.input((1, 4))], (1, 4))
    f = b.op("DEQUANTIZE", [y], (1, 4), None, None)
    graph = run_passes(b.output(y, f, f))
    assert ops(graph) == ["RELU", "COPY", "COPY"]
    assert graph.output_dtypes == ["int8", "float32", "float32"]
    assert len(set(graph.outputs)) == 3
    assert [t.name for t in graph.outputs] == ["t0", "t1", "t1_2"]


def test_quantized_input_is_an_output(b: Builder) -> None:
    x = b.input((1, 4), None)
    q = b.op("QUANTIZE", [x], (1, 4))
    r = b.op("RELU", [q], (1, 4))
    graph = run_passes(b.output(q, r))
    assert sorted(ops(graph)) == ["COPY", "RELU"]
    assert graph.input_dtypes == ["float32"]
    assert [t.name for t in graph.outputs] == ["t0", "t1"]


def test_input_that_is_read_as_it_is_too(b: Builder) -> None:
    x = b.input((1, 4), source_dtype="uint8")
    q, r = b.op("QUANTIZE", [x], (1, 4)), b.op("RELU", [x], (1, 4), source_dtype="uint8")
    graph = absorb_edges(b.output(b.op("RELU", [q], (1, 4)), r))
    assert ops(graph) == ["QUANTIZE", "RELU", "RELU"]
    assert graph.inputs == [x]


def test_float_moves_go_inside(b: Builder) -> None:
    x = b.input((2, 6), None)
    r = b.op("RESHAPE", [x], (3, 4), None, None)
    t = b.op("TRANSPOSE", [r], (4, 3), Transpose((1, 0)), None)
    y = b.op("RELU", [b.op("QUANTIZE", [t], (4, 3))], (4, 3))
    f = b.op("DEQUANTIZE", [y], (4, 3), None, None)
    s = b.op("SLICE", [f], (2, 3), Slice((1, 0), (2, 1)), None)
    graph = run_passes(b.output(s))
    assert ops(graph) == ["RESHAPE", "TRANSPOSE", "RELU", "SLICE"]
    assert {u.dtype for u in graph.tensors()} == {"int8"}
    assert (graph.input_dtypes, graph.output_dtypes) == (["float32"], ["float32"])


# ---- clean


def test_no_ops_vanish(b: Builder) -> None:
    x = b.input((1, 2, 3))
    t = b.op("RELU", [x], (1, 2, 3))
    zero = (0, 0, 0)
    for op, attrs in (
        ("RESHAPE", NoAttrs()),
        ("TRANSPOSE", Transpose((0, 1, 2))),
        ("PAD", Pad(zero, zero, 3)),
        ("MIRROR_PAD", MirrorPad(zero, zero)),
        ("SLICE", Slice(zero, (1, 1, 1))),
        ("CONCATENATION", Axis(1)),
        ("QUANTIZE", NoAttrs()),
    ):
        t = b.op(op, [t], (1, 2, 3), attrs)
    name = t.name
    graph = clean(b.output(t))
    assert ops(graph) == ["RELU"]
    assert graph.outputs[0].name == name


def test_ops_that_do_something_stay(b: Builder) -> None:
    x = b.input((2, 2))
    t = b.op("RELU", [x], (2, 2))
    t = b.op("RESHAPE", [t], (2, 2), None, OTHER)  # the same bytes mean something else
    t = b.op("SLICE", [t], (2, 2), Slice((1, 0), (-1, 1)), OTHER)
    t = b.op("TRANSPOSE", [t], (2, 2), Transpose((1, 0)), OTHER)
    assert ops(clean(b.output(t))) == ["RELU", "RESHAPE", "SLICE", "TRANSPOSE"]


def test_reshapes_merge(b: Builder) -> None:
    x = b.op("RELU", [b.input((2, 6))], (2, 6))
    r = b.op("RESHAPE", [x], (12,))
    s = b.op("RESHAPE", [r], (3, 4))
    y = b.op("RELU", [b.op("RESHAPE", [s], (4, 3))], (4, 3))
    z = b.op("RELU6", [r], (12,))
    graph = clean(b.output(y, z))
    assert ops(graph) == ["RELU", "RESHAPE", "RESHAPE", "RELU", "RELU6"]
    assert all(n.input(0) is x for n in graph.nodes if n.op == "RESHAPE")


def test_transpose_of_ones_is_a_reshape(b: Builder) -> None:
    x = b.op("RELU", [b.input((1, 4, 1, 3))], (1, 4, 1, 3))
    y = b.op("TRANSPOSE", [x], (4, 1, 3, 1), Transpose((1, 0, 3, 2)))
    assert ops(clean(b.output(y))) == ["RELU", "RESHAPE"]


def test_equal_quantizes_are_shared(b: Builder) -> None:
    x = b.input((2, 2))
    p, q, r = (b.op("QUANTIZE", [x], (2, 2), None, OTHER) for _ in range(3))
    y = b.op("ADD", [p, q], (2, 2), Arithmetic())
    graph = clean(b.output(y, r))
    assert ops(graph) == ["QUANTIZE", "ADD"]
    assert [t.name for t in graph.outputs] == [y.name, r.name]


# ---- fuse


def padded(b: Builder, before: Shape, after: Shape, value: int = 3, q: QParams = Q) -> Tensor:
    x = b.op("RELU", [b.input((1, 8, 8, 2))], (1, 8, 8, 2))
    shape = tuple(p + d + a for p, d, a in zip(before, x.shape, after))
    return b.op("PAD", [x], shape, Pad(before, after, value), q)


def test_pad_goes_into_convolutions(b: Builder) -> None:
    p = padded(b, (0, 1, 1, 0), (0, 1, 0, 0))
    y = b.conv(p, (1, 8, 7, 4))
    z = b.conv(p, (1, 5, 5, 4), stride=(2, 2), pad_top=1, pad_left=1)
    graph = fuse(b.output(y, z))
    assert ops(graph) == ["RELU", "CONV_2D", "CONV_2D"]
    first, second = graph.nodes[1:]
    assert (first.attrs.pad_top, first.attrs.pad_left) == (1, 1)
    assert (second.attrs.pad_top, second.attrs.pad_left) == (2, 2)
    assert first.output.shape == (1, 8, 7, 4)


@pytest.mark.parametrize(
    ("before", "after", "value", "q"),
    [
        ((0, 1, 1, 0), (0, 1, 1, 0), 4, Q),  # not the zero point
        ((0, 1, 1, 0), (0, 1, 1, 0), 3, OTHER),  # another range
        ((1, 1, 1, 0), (0, 1, 1, 0), 3, Q),  # more images
        ((0, 1, 1, 0), (0, 1, 1, 1), 3, Q),  # more channels
        ((0, 3, 1, 0), (0, 1, 1, 0), 3, Q),  # windows that see nothing of x
        ((0, 1, 1, 0), (0, 1, 4, 0), 3, Q),
    ],
)
def test_pad_that_stays(b: Builder, before: Shape, after: Shape, value: int, q: QParams) -> None:
    p = padded(b, before, after, value, q)
    n, h, w, _ = p.shape
    graph = fuse(b.output(b.conv(p, (n, h - 2, w - 2, 4))))
    assert ops(graph) == ["RELU", "PAD", "CONV_2D"]
    assert graph.nodes[2].attrs.pad_top == 0


def test_pad_with_other_readers_stays(b: Builder) -> None:
    p = padded(b, (0, 1, 1, 0), (0, 1, 1, 0))
    y = b.conv(p, (1, 8, 8, 4))
    z = b.op("RELU", [p], p.shape)
    assert ops(fuse(b.output(y, z))) == ["RELU", "PAD", "CONV_2D", "RELU"]


def test_pad_that_is_an_output_stays(b: Builder) -> None:
    p = padded(b, (0, 1, 1, 0), (0, 1, 1, 0))
    assert ops(fuse(b.output(p, b.conv(p, (1, 8, 8, 4))))) == ["RELU", "PAD", "CONV_2D"]


@pytest.mark.parametrize("relu", ["RELU", "RELU6", "RELU_N1_TO_1"])
def test_relu_goes_into_its_producer(b: Builder, relu: str) -> None:
    y = b.conv(b.input((1, 4, 4, 2)), (1, 4, 4, 4), 1)
    y = b.op(relu, [y], y.shape)
    z = b.op("ADD", [y, y], y.shape, Arithmetic())
    z = b.op(relu, [z], z.shape)
    graph = fuse(b.output(z))
    assert ops(graph) == ["CONV_2D", "ADD"]
    assert [n.attrs.activation for n in graph.nodes] == [relu, relu]
    assert graph.nodes[1].inputs == [y, y]


def test_relu_that_stays(b: Builder) -> None:
    x = b.input((1, 4, 4, 2))
    shape = (1, 4, 4, 4)
    other = b.op("RELU", [b.conv(x, shape, 1)], shape, None, OTHER)
    twice = b.op("RELU6", [b.conv(x, shape, 1, activation="RELU")], shape)
    shared = b.conv(x, shape, 1)
    first = b.op("RELU", [shared], shape)
    second = b.op("RELU6", [shared], shape)
    seen = b.conv(x, shape, 1)
    last = b.op("RELU", [seen], shape)
    graph = fuse(b.output(other, twice, first, second, seen, last))
    assert len(graph.nodes) == 9


# ---- legalise


def test_pack_and_unpack(b: Builder) -> None:
    x = b.input((2, 3, 4))
    parts = [b.tensor(f"p{i}", (2, 4)) for i in range(3)]
    b.add("UNPACK", [x], parts, Axis(1))
    graph = b.output(b.op("PACK", parts[::-1], (2, 4, 3), Axis(2)))
    done = run_passes(graph)
    assert ops(done).count("SLICE") == 3
    assert "CONCATENATION" in ops(done)
    (want,), (got,) = run(graph, [ramp(2, 3, 4)]), run(done, [ramp(2, 3, 4)])
    np.testing.assert_array_equal(want, ramp(2, 3, 4).transpose(0, 2, 1)[..., ::-1])
    np.testing.assert_array_equal(got, want)


def test_space_and_depth(b: Builder) -> None:
    x = b.input((2, 4, 6, 3))
    y = b.op("SPACE_TO_DEPTH", [x], (2, 2, 3, 12), Block(2))
    z = b.op("DEPTH_TO_SPACE", [y], (2, 4, 6, 3), Block(2))
    graph = run_passes(b.output(z, y))
    assert max(len(t.shape) for t in graph.tensors()) <= 6
    back, deep = run(graph, [ramp(2, 4, 6, 3)])
    np.testing.assert_array_equal(back, ramp(2, 4, 6, 3))
    want = ramp(2, 4, 6, 3).reshape(2, 2, 2, 3, 2, 3).transpose(0, 1, 3, 2, 4, 5)
    np.testing.assert_array_equal(deep, want.reshape(2, 2, 3, 12))


def test_reductions_keep_dimensions(b: Builder) -> None:
    x = b.input((2, 3, 4))
    y = b.op("MEAN", [x], (2,), Reduce((1, 2), False))
    z = b.op("ARG_MAX", [x], (2, 4), Axis(1), None, dtype="int32")
    graph = legalise(b.output(y, z))
    assert ops(graph) == ["MEAN", "RESHAPE", "ARG_MAX", "RESHAPE"]
    assert graph.nodes[0].output.shape == (2, 1, 1)
    assert graph.nodes[0].attrs == Reduce((1, 2), True)
    assert (graph.nodes[2].output.shape, graph.nodes[2].output.dtype) == ((2, 1, 4), "int32")


def test_mean_of_everything_is_a_scalar(b: Builder) -> None:
    y = b.op("MEAN", [b.input((2, 3))], (), Reduce((0, 1), False))
    graph = run_passes(b.output(y))
    assert ops(graph) == ["MEAN", "RESHAPE"]
    assert graph.outputs[0].shape == ()


@pytest.mark.parametrize("seed", range(20))
def test_collapse(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 4, 8).tolist()
    perm = rng.permutation(8).tolist()
    if seed % 2:
        at = int(rng.integers(1, 8))
        perm = [*range(at, 8), *range(at)]
    merged, order = collapse(shape, perm)
    x = np.arange(np.prod(shape))
    want = x.reshape(shape).transpose(perm).reshape(-1)
    np.testing.assert_array_equal(x.reshape(merged).transpose(order).reshape(-1), want)
    if seed % 2:
        assert len(merged) <= 2


def test_transpose_of_many_dimensions(b: Builder) -> None:
    x = b.input((2, 12, 2))
    r = b.op("RESHAPE", [x], (2, 1, 3, 2, 2, 1, 2))
    t = b.op("TRANSPOSE", [r], (2, 1, 2, 1, 3, 2, 2), Transpose((0, 1, 4, 5, 2, 3, 6)))
    graph = b.output(b.op("RESHAPE", [t], (4, 12)))
    done = run_passes(graph)
    assert ops(done) == ["RESHAPE", "TRANSPOSE", "RESHAPE"]
    np.testing.assert_array_equal(run(done, [ramp(2, 12, 2)])[0], run(graph, [ramp(2, 12, 2)])[0])


def test_too_many_dimensions_are_refused(b: Builder) -> None:
    x = b.input((2, 2, 2, 2, 2, 2, 2))
    graph = b.output(b.op("RELU", [x], x.shape))
    with pytest.raises(UnsupportedError) as e:
        run_passes(graph)
    assert e.value.problems == (
        "input 0 'x0' has 7 dimensions",
        "op -1 RELU 't0': 't0' has 7 dimensions, 6 fit",
    )


# ---- outputs


def test_outputs_own_their_bytes(b: Builder) -> None:
    x = b.input((2, 3))
    view = b.op("RESHAPE", [x], (6,))
    y = b.op("RELU", [x], (2, 3))
    y_view = b.op("RESHAPE", [y], (3, 2))
    constant = b.const(ramp(2, 2))
    graph = own_outputs(b.output(x, view, y_view, y, y, constant))
    assert ops(graph) == ["RESHAPE", "RELU", "RESHAPE", "COPY", "COPY", "COPY", "COPY", "COPY"]
    assert len(set(graph.outputs)) == 6
    assert [t.shape for t in graph.outputs] == [(2, 3), (6,), (3, 2), (2, 3), (2, 3), (2, 2)]
    assert graph.outputs[2] is y_view
    assert check_storable(graph) is graph


def test_identity_between_ports_is_a_copy(b: Builder) -> None:
    x = b.input((2, 3))
    graph = run_passes(b.output(b.op("RESHAPE", [x], (2, 3))))
    assert ops(graph) == ["COPY"]
    assert graph.outputs[0] is not graph.inputs[0]


# ---- all together


def grow(b: Builder, rng: np.random.Generator, pool: list[Tensor]) -> None:
    """One random move on a tensor of `pool`."""
    x = pool[int(rng.integers(len(pool)))]
    rank, axis = len(x.shape), int(rng.integers(len(x.shape)))
    rest = lambda n: (*x.shape[:axis], *n, *x.shape[axis + 1 :])  # noqa: E731
    kind = int(rng.integers(9))
    if kind == 0:
        shape = (x.elements,) if rng.random() < 0.3 else (1, x.elements, 1)
        pool.append(b.op("RESHAPE", [x], shape if rng.random() < 0.7 else x.shape))
    elif kind == 1:
        perm = tuple(int(p) for p in rng.permutation(rank))
        pool.append(b.op("TRANSPOSE", [x], tuple(x.shape[p] for p in perm), Transpose(perm)))
    elif kind == 2:
        before, after = rng.integers(0, 2, (2, rank)).tolist()
        shape = tuple(p + d + a for p, d, a in zip(before, x.shape, after))
        pool.append(b.op("PAD", [x], shape, Pad(tuple(before), tuple(after), 3)))
    elif kind == 3:
        first = int(rng.integers(x.shape[axis]))
        begin = tuple(first if i == axis else 0 for i in range(rank))
        attrs = Slice(begin, (1,) * rank)
        pool.append(b.op("SLICE", [x], rest((x.shape[axis] - first,)), attrs))
    elif kind == 4:
        kin = [t for t in pool if t.shape == x.shape]
        parts = [kin[int(i)] for i in rng.integers(0, len(kin), rng.integers(1, 4))]
        size = sum(t.shape[axis] for t in parts)
        pool.append(b.op("CONCATENATION", parts, rest((size,)), Axis(axis)))
    elif kind == 5:
        parts = [b.tensor(f"s{i}", rest((1,))) for i in range(x.shape[axis])]
        b.add("SPLIT", [x], parts, Axis(axis))
        pool.append(parts[int(rng.integers(len(parts)))])
    elif kind == 6 and rank > 1:
        parts = [b.tensor(f"u{i}", rest(())) for i in range(x.shape[axis])]
        b.add("UNPACK", [x], parts, Axis(axis))
        pool.append(parts[int(rng.integers(len(parts)))])
    elif kind == 7 and rank < 6:
        shape = (*x.shape[:axis], 2, *x.shape[axis:])
        pool.append(b.op("PACK", [x, x], shape, Axis(axis)))
    elif kind == 8:
        pool.append(b.op("QUANTIZE", [x], x.shape))


@pytest.mark.parametrize("seed", range(100))
def test_random_moves(seed: int) -> None:
    """Whatever the passes do to a graph of moves, its outputs keep their bytes and ports."""
    rng = np.random.default_rng(seed)
    b = Builder()
    pool = [b.input((2, 3)), b.input((1, 4, 2)), b.const(ramp(2, 3))]
    for _ in range(int(rng.integers(1, 12))):
        grow(b, rng, pool)
        if pool[-1].elements > 4000:
            pool.pop()
    outputs = [pool[int(i)] for i in rng.integers(0, len(pool), rng.integers(1, 5))]
    graph = b.output(*outputs)
    done = run_passes(graph)
    inputs = [ramp(2, 3), ramp(1, 4, 2)]
    for got, want in zip(run(done, inputs), run(graph, inputs)):
        np.testing.assert_array_equal(got, want)
    assert all(OPS[n.op].lowered for n in done.nodes)
    assert len(set(done.outputs)) == len(outputs)
    assert not set(done.outputs) & set(done.inputs)
