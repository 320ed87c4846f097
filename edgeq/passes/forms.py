# SPDX-License-Identifier: Apache-2.0
"""Float ops in the form that runs best: one way to write what can be written in several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..ir.graph import Array, Graph, Node, Quantized, Tensor
from ..ir.named import expression_of
from ..ir.ops import Conv2D, DepthwiseConv2D, FullyConnected, NoAttrs
from .fold import remove_dead

_BROADCASTING = ("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM")


def canonical(graph: Graph) -> Graph:
    """Products with constants as layers, quotients by constants as products, no idle copies,
    reshapes behind what is done to single numbers."""
    for node in graph.nodes:
        rewrite = _REWRITES.get(node.op)
        if rewrite is not None and node.output.dtype == "float32":
            rewrite(node)
    _lower_reshapes(graph)
    _drop_copies(graph)
    remove_dead(graph)
    graph.verify()
    return graph


def _batch_matmul(node: Node) -> None:
    """x @ y with a constant matrix y is FULLY_CONNECTED."""
    x, y, a = node.input(0), node.input(1), node.attrs
    if y.data is None or x.is_const or a.transpose_x or y.elements == 0:
        return
    rows, columns = y.shape[-2:]
    if y.elements != rows * columns or len(y.shape) > len(x.shape):
        return
    shape = (rows, columns) if a.transpose_y else (columns, rows)
    w = _arranged(y, shape, lambda d: _matrix(d, not a.transpose_y))
    if node.output.shape == (*x.shape[:-1], w.shape[0]):
        node.op, node.attrs, node.inputs = "FULLY_CONNECTED", FullyConnected(), [x, w, None]


def _matrix(data: Array, turned: bool) -> Array:
    flat = data.reshape(data.shape[-2:])
    return flat.T if turned else flat


def _div(node: Node) -> None:
    """x / c is x * (1 / c)."""
    c = node.input(1)
    if c.data is None or c.dtype != "float32" or not c.data.all():
        return
    with np.errstate(over="ignore"):
        data = (1 / c.data.astype(np.float64)).astype(np.float32)
    if np.isfinite(data).all():
        t = Tensor(c.name, c.shape, "float32", data=data)
        node.op, node.inputs = "MUL", [node.inputs[0], t]


def _depthwise(node: Node) -> None:
    """Of one input channel it is a CONV_2D."""
    x, w, a = node.input(0), node.input(1), node.attrs
    if x.shape[3] != 1 or w.data is None:
        return
    shape = (w.shape[3], *w.shape[1:3], 1)
    node.inputs[1] = _arranged(w, shape, lambda d: d.transpose(3, 1, 2, 0), {3: 0})
    node.op = "CONV_2D"
    node.attrs = Conv2D(a.stride, a.dilation, a.pad_top, a.pad_left, 1, a.activation)


def _conv(node: Node) -> None:
    """Of as many groups as channels it is a DEPTHWISE_CONV_2D."""
    x, w, a = node.input(0), node.input(1), node.attrs
    channels = x.shape[3]
    if channels == 1 or a.groups != channels or w.data is None:
        return
    shape = (1, *w.shape[1:3], w.shape[0])
    node.inputs[1] = _arranged(w, shape, lambda d: d.transpose(3, 1, 2, 0), {0: 3})
    node.op = "DEPTHWISE_CONV_2D"
    multiplier = w.shape[0] // channels
    node.attrs = DepthwiseConv2D(
        a.stride, a.dilation, a.pad_top, a.pad_left, multiplier, a.activation
    )


def _single(node: Node) -> None:
    """PACK of one tensor, UNPACK into one."""
    if len(node.inputs) == len(node.outputs) == 1:
        node.op, node.attrs = "RESHAPE", NoAttrs()


def _arranged(
    t: Tensor,
    shape: tuple[int, ...],
    move: Callable[[Array], Array],
    axes: dict[int, int] | None = None,
) -> Tensor:
    """A constant whose elements change places, and the bytes that they come from with them.

    `axes`: where the axis of a scale for each channel goes; such bytes are dropped otherwise.
    """
    assert t.data is not None
    data = np.ascontiguousarray(move(t.data))
    assert data.shape == shape
    origin = t.origin
    if origin is not None:
        q = origin.qparams
        axis = (axes or {}).get(q.axis) if q.per_channel else 0
        moved = np.ascontiguousarray(move(origin.data))
        origin = None if axis is None else Quantized(moved, replace(q, axis=axis))
    return Tensor(t.name, shape, t.dtype, data=data, origin=origin)


def _lower_reshapes(graph: Graph) -> None:
    """f(reshape(x)) is reshape(f(x)), where f may be fused into what makes x."""
    producers, consumers, results = graph.producers(), graph.consumers(), graph.results()
    nodes: list[Node] = []
    for node in graph.nodes:
        i = _operand(node)
        view = None if i is None else producers.get(node.input(i))
        nodes.append(node)
        if i is None or view is None or view.op != "RESHAPE" or view.output in results:
            continue
        x, y = view.input(0), node.output
        if consumers[view.output] != [node] or x.shape[-1:] != y.shape[-1:] or x.dtype != y.dtype:
            continue
        before = replace(y, name=f"{y.name}/flat", shape=x.shape)
        node.inputs = [x if k == i else _last(t) for k, t in enumerate(node.inputs)]
        node.outputs, view.inputs, view.outputs = [before], [before], [y]
        nodes.remove(view)
        nodes.append(view)
        producers.update({before: node, y: view})
        consumers[before] = [view]
        consumers[x] = [node if n is view else n for n in consumers[x]]
    graph.nodes = nodes


def _operand(node: Node) -> int | None:
    """The input whose numbers `node` changes one by one, or by those of its last dimension."""
    y = node.output
    if y.dtype != "float32" or None in node.inputs:
        return None
    if expression_of(node) is not None:
        return 0 if node.input(0).shape == y.shape else None
    if node.op not in _BROADCASTING or len(node.inputs) != 2:
        return None
    for i in (0, 1):
        t, c = node.input(i), node.input(1 - i)
        vector = c.elements in (1, c.shape[-1] if c.shape else 1)
        if c.is_const and vector and not t.is_const and t.shape == y.shape:
            return i
    return None


def _last(t: Tensor | None) -> Tensor | None:
    """A constant of one number or one for each of the last dimension, without the others."""
    if t is None or t.data is None:
        return t
    return replace(t, shape=(t.elements,), data=t.data.reshape(-1), origin=None)


def _drop_copies(graph: Graph) -> None:
    """What is repeated only to fit another operand is broadcast by its readers."""
    consumers, results = graph.consumers(), graph.results()
    for node in graph.nodes:
        y = node.output
        source = _repeated(node)
        if source is None or y in results:
            continue
        readers = consumers.get(y, [])
        if all(_broadcasts(n, y, source) for n in readers):
            for n in readers:
                n.inputs = [source if t is y else t for t in n.inputs]
            consumers.setdefault(source, []).extend(readers)


def _repeated(node: Node) -> Tensor | None:
    """x where `node` is x beside itself along a dimension of 1."""
    x = node.inputs[0]
    if node.op not in ("CONCATENATION", "GATHER") or x is None or x.shape[node.attrs.axis] != 1:
        return None
    if node.op == "GATHER":
        indices = node.input(1)
        return x if indices.is_const and len(indices.shape) == 1 else None
    return x if len(set(node.inputs)) == 1 and node.attrs.activation == "NONE" else None


def _broadcasts(reader: Node, y: Tensor, x: Tensor) -> bool:
    if reader.op not in _BROADCASTING:
        return False
    shapes = [x.shape if t is y else t.shape for t in reader.inputs if t is not None]
    return np.broadcast_shapes(*shapes) == reader.output.shape


_REWRITES: dict[str, Callable[[Node], None]] = {
    "BATCH_MATMUL": _batch_matmul,
    "DIV": _div,
    "DEPTHWISE_CONV_2D": _depthwise,
    "CONV_2D": _conv,
    "PACK": _single,
    "UNPACK": _single,
}
