# SPDX-License-Identifier: Apache-2.0
"""Float graphs, run by onnxruntime: what calibration watches and what integers are compared with.

The graph is written as an ONNX model of the same ops. ONNX computes with channels first: a tensor
of four dimensions exists in the layout in which its op makes it, and in the other one only if
somebody asks for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import DependencyError, UnsupportedError
from ..ir.evaluate import dequantize
from ..ir.graph import Array, Graph, Node, Tensor
from . import execute_layers
from .execute_lstm import lstm

OPSET = 17
THREADS = 2
FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)  # permutations to channels first and back
_TO_FIRST = {0: 0, 1: 2, 2: 3, 3: 1}  # where an axis lies when channels are first


class FloatRunner:
    """A float graph, ready to run.

    `watch`: tensors to return beside the outputs. `constants`: other data for some constants.
    `threads`: as many on every machine, so that sums are the same whatever the number of cores.
    Raises DependencyError without onnx and onnxruntime, UnsupportedError for an op without a rule.
    """

    def __init__(
        self,
        graph: Graph,
        watch: Iterable[Tensor] = (),
        *,
        constants: Mapping[Tensor, Array] | None = None,
        threads: int = THREADS,
    ) -> None:
        try:
            import onnxruntime
        except ImportError as e:
            raise DependencyError(
                "running a float network needs onnxruntime: pip install edgeq[convert]"
            ) from e
        self.graph = graph
        self.watched = [t for t in dict.fromkeys([*watch, *graph.outputs]) if not t.is_const]
        emitter = Emitter(graph, self.watched, constants or {})
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False  # what is watched leaves it at once
        self._fetch = emitter.fetch
        model = emitter.model()
        del emitter  # with its copy of the weights
        self._session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self._names = [name for name, _ in dict.fromkeys(self._fetch)]

    def run(
        self, feed: Mapping[str, Array], states: Mapping[Tensor, Array] | None = None
    ) -> dict[Tensor, Array]:
        """Watched tensors and outputs for the inputs `feed`, by name. Arrays may be views.

        `states`: what states' `before` are in this run; without it, what they are in the first.
        """
        given = states or {}
        inputs = [feed[t.name] for t in self.graph.inputs]
        inputs += [given.get(s.before, s.initial) for s in self.graph.states]
        numbered = {
            f"input{i}": np.ascontiguousarray(x, t.dtype).reshape(t.shape)
            for i, (t, x) in enumerate(zip(_sources(self.graph), inputs))
        }
        values = dict(zip(self._names, self._session.run(self._names, numbered)))
        found = {}
        for t, (name, first) in zip(self.watched, self._fetch):
            found[t] = values[name].transpose(LAST) if first else values[name]
        return found


def _sources(graph: Graph) -> list[Tensor]:
    return [*graph.inputs, *(s.before for s in graph.states)]


class Emitter:
    """Writes a graph as ONNX nodes. `fetch`: of each watched tensor its name, and whether its
    channels are first there."""

    def __init__(
        self, graph: Graph, watch: Sequence[Tensor], constants: Mapping[Tensor, Array]
    ) -> None:
        try:
            from onnx import helper, numpy_helper
        except ImportError as e:
            raise DependencyError(
                "running a float network needs onnx: pip install edgeq[convert]"
            ) from e
        self._helper, self._numpy = helper, numpy_helper
        self._graph, self._constants = graph, constants
        self._nodes: list[Any] = []
        self._initializers: dict[Any, tuple[str, Any, Array]] = {}  # name, proto; data keeps its id
        self._names: dict[tuple[Tensor, bool], str] = {}  # (tensor, channels first) -> name
        self._count = 0
        for i, t in enumerate(_sources(graph)):
            self._names[t, False] = f"input{i}"
        for node in graph.nodes:
            if node.op not in EMIT:
                raise UnsupportedError(f"{node.op} {node.name!r} cannot be run in float")
            EMIT[node.op](self, node)
        self.fetch = [self._watched(t) for t in watch]

    def model(self) -> bytes:
        """The file; once, as its constants are gone then."""
        h = self._helper
        inputs = [
            self._info(f"input{i}", t.dtype, t.shape) for i, t in enumerate(_sources(self._graph))
        ]
        outputs = [h.make_empty_tensor_value_info(name) for name, _ in dict.fromkeys(self.fetch)]
        proto = h.make_graph(
            self._nodes, "float", inputs, outputs, [i[1] for i in self._initializers.values()]
        )
        self._initializers.clear()
        model = h.make_model(proto, opset_imports=[h.make_opsetid("", OPSET)], ir_version=8)
        del proto
        data: bytes = model.SerializeToString()
        return data

    def _info(self, name: str, dtype: str, shape: Sequence[int]) -> Any:
        h = self._helper
        return h.make_tensor_value_info(name, h.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

    def _watched(self, t: Tensor) -> tuple[str, bool]:
        first = self.is_first(t)
        name = self.name(t, first)
        if name.startswith("input"):  # onnxruntime does not return inputs
            name = self.add("Identity", [name])
            self._names[t, first] = name
        return name, first

    # ---- for the rules

    def is_first(self, t: Tensor) -> bool:
        """Whether the op that made t left it with channels first."""
        return (t, True) in self._names and (t, False) not in self._names

    def name(self, t: Tensor, first: bool = False) -> str:
        """The ONNX value of t, with channels first or last."""
        if (t, first) not in self._names:
            if t.is_const:
                data = np.asarray(self._constants.get(t, t.data))
                self._names[t, first] = self.constant(data.transpose(FIRST) if first else data)
            else:
                perm = FIRST if first else LAST
                self._names[t, first] = self.add(
                    "Transpose", [self._names[t, not first]], perm=perm
                )
        return self._names[t, first]

    def data(self, t: Tensor) -> Array:
        """float32 data of a constant."""
        data = self._constants.get(t, t.data)
        assert data is not None, f"{t.name!r} must be constant"
        if data.dtype.kind in "iu" and t.qparams is not None:
            return dequantize(data, t.qparams)
        return np.asarray(data, np.float32)

    def constant(self, data: Array) -> str:
        data = np.ascontiguousarray(data)
        key = (data.dtype.str, data.shape, data.tobytes()) if data.size <= 16 else id(data)
        if key not in self._initializers:
            name = f"constant{len(self._initializers)}"
            self._initializers[key] = (name, self._numpy.from_array(data, name), data)
        return self._initializers[key][0]

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def add(self, op: str, inputs: Sequence[str], **attrs: Any) -> str:
        """Appends an ONNX node; the name of its only output."""
        name = f"value{self._count}"
        self._count += 1
        self._nodes.append(self._helper.make_node(op, list(inputs), [name], **attrs))
        return name

    def add_many(self, op: str, inputs: Sequence[str], outputs: int, **attrs: Any) -> list[str]:
        names = [f"value{self._count + i}" for i in range(outputs)]
        self._count += outputs
        self._nodes.append(self._helper.make_node(op, list(inputs), names, **attrs))
        return names

    def fresh(self) -> str:
        """A name that nothing has yet."""
        self._count += 1
        return f"value{self._count - 1}"

    @contextlib.contextmanager
    def body(self) -> Iterator[list[Any]]:
        """Nodes that are added meanwhile go into the list: they are a step's, not the graph's."""
        outside, self._nodes = self._nodes, []
        try:
            yield self._nodes
        finally:
            self._nodes = outside

    def again(self, body: list[Any], name: str) -> str:
        """Another name for a value of `body`."""
        copy = self.fresh()
        body.append(self._helper.make_node("Identity", [name], [copy]))
        return copy

    def add_scan(
        self,
        body: list[Any],
        inputs: Sequence[tuple[str, tuple[int, ...]]],
        outputs: Sequence[str],
        operands: Sequence[str],
        axis: int,
        reverse: bool,
    ) -> list[str]:
        """`body` over an axis of the last operand; the others are states. The last of `outputs` is
        stacked on the same axis."""
        h = self._helper
        step = h.make_graph(
            body,
            "step",
            [self._info(name, "float32", shape) for name, shape in inputs],
            [h.make_empty_tensor_value_info(name) for name in outputs],
        )
        turn = [int(reverse)]
        return self.add_many(
            "Scan",
            operands,
            len(outputs),
            body=step,
            num_scan_inputs=1,
            scan_input_axes=[axis],
            scan_output_axes=[axis],
            scan_input_directions=turn,
            scan_output_directions=turn,
        )

    def bind(self, t: Tensor, name: str, first: bool = False, activation: str = "NONE") -> None:
        """Makes `name` the value of t, behind an activation."""
        if activation != "NONE":
            low, high = {"RELU": (0, None), "RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1)}[activation]
            if high is None:
                name = self.add("Relu", [name])
            else:
                bounds = [self.constant(np.array(b, np.float32)) for b in (low, high)]
                name = self.add("Clip", [name, *bounds])
        self._names[t, first] = name


Rule = Callable[[Emitter, Node], None]


def _behind(size: int, out: int, stride: int, extent: int, before: int) -> int:
    """Padding below or to the right, which follows from the output's size."""
    return max(0, (out - 1) * stride + extent - size - before)


def _pads(node: Node, kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """ONNX's [top, left, bottom, right]."""
    a, x, y = node.attrs, node.input(0), node.output
    before = (a.pad_top, a.pad_left)
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation)]
    after = [
        _behind(x.shape[1 + i], y.shape[1 + i], a.stride[i], extent[i], before[i]) for i in (0, 1)
    ]
    return [*before, *after]


def _conv(e: Emitter, node: Node) -> None:
    a, w = node.attrs, e.data(node.input(1))
    if node.op == "DEPTHWISE_CONV_2D":
        groups, w = node.input(0).shape[3], w.transpose(3, 0, 1, 2)
    else:
        groups, w = a.groups, w.transpose(0, 3, 1, 2)
    inputs = [e.name(node.input(0), True), e.constant(w), *_bias(e, node)]
    out = e.add(
        "Conv",
        inputs,
        group=groups,
        strides=a.stride,
        dilations=a.dilation,
        pads=_pads(node, w.shape[2:], a.dilation),
    )
    e.bind(node.output, out, True, a.activation)


def _bias(e: Emitter, node: Node) -> list[str]:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return [] if bias is None else [e.constant(e.data(bias).reshape(-1))]


def _transpose_conv(e: Emitter, node: Node) -> None:
    a, x, y = node.attrs, node.input(0), node.output
    w = e.data(node.input(1)).transpose(3, 0, 1, 2)  # (C, O, KH, KW)
    pads, extra = [a.pad_top, a.pad_left], []
    for i in (0, 1):
        whole = (x.shape[1 + i] - 1) * a.stride[i] + w.shape[2 + i] - pads[i]
        pads.append(max(0, whole - y.shape[1 + i]))
        extra.append(max(0, y.shape[1 + i] - whole))
    inputs = [e.name(x, True), e.constant(w), *_bias(e, node)]
    out = e.add("ConvTranspose", inputs, strides=a.stride, pads=pads, output_padding=extra)
    e.bind(y, out, True, a.activation)


def _fully_connected(e: Emitter, node: Node) -> None:
    x, y, w = node.input(0), node.output, e.data(node.input(1))
    rows = e.add("Reshape", [e.name(x), e.ints(-1, w.shape[1])])
    out = e.add("Gemm", [rows, e.constant(w), *_bias(e, node)], transB=1)
    e.bind(y, e.add("Reshape", [out, e.ints(*y.shape)]), False, node.attrs.activation)


def _pool(op: str) -> Rule:
    def rule(e: Emitter, node: Node) -> None:
        a = node.attrs
        out = e.add(
            op,
            [e.name(node.input(0), True)],
            kernel_shape=a.kernel,
            strides=a.stride,
            pads=_pads(node, a.kernel, (1, 1)),
        )
        e.bind(node.output, out, True, a.activation)

    return rule


def _operands(e: Emitter, node: Node) -> tuple[list[str], bool]:
    """Inputs that broadcast against each other, in one layout: whether channels are first."""
    tensors = [node.input(i) for i in range(len(node.inputs))]
    rank = len(node.output.shape)
    first = rank == 4 and any(e.is_first(t) for t in tensors)
    names = []
    for t in tensors:
        if not first or t.elements == 1:
            names.append(e.name(t))
        elif len(t.shape) == 4:
            names.append(e.name(t, True))
        else:
            shape = (1,) * (4 - len(t.shape)) + t.shape
            wide = e.add("Reshape", [e.name(t), e.ints(*shape)])
            names.append(e.add("Transpose", [wide], perm=FIRST))
    return names, first


def _elementwise(op: str) -> Rule:
    def rule(e: Emitter, node: Node) -> None:
        names, first = _operands(e, node)
        e.bind(node.output, e.add(op, names), first, getattr(node.attrs, "activation", "NONE"))

    return rule


def _relu(e: Emitter, node: Node) -> None:
    names, first = _operands(e, node)
    e.bind(node.output, names[0], first, node.op)


def _leaky_relu(e: Emitter, node: Node) -> None:
    names, first = _operands(e, node)
    e.bind(node.output, e.add("LeakyRelu", names, alpha=float(node.attrs.alpha)), first)


_STEPS = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "pow": "Pow",
    "min": "Min",
    "max": "Max",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "neg": "Neg",
    "erf": "Erf",
    "tanh": "Tanh",
    "logistic": "Sigmoid",
    "softplus": "Softplus",
    "floor": "Floor",
    "ceil": "Ceil",
    "round": "Round",
    "sign": "Sign",
    "sin": "Sin",
    "cos": "Cos",
}


def _unary(e: Emitter, node: Node) -> None:
    names, first = _operands(e, node)
    for s in node.attrs.expression.steps:
        args = [
            e.constant(np.array(a, np.float32)) if isinstance(a, float) else names[a]
            for a in s.args
        ]
        names.append(e.add(_STEPS[s.function], args))
    e.bind(node.output, names[-1], first)


def _reduce(op: str) -> Rule:
    def rule(e: Emitter, node: Node) -> None:
        a, x = node.attrs, node.input(0)
        first = e.is_first(x) and bool(a.keep_dims)
        axes = [_TO_FIRST[i] if first else i for i in a.axes]
        inputs = [e.name(x, first)]
        if op == "ReduceSum":
            out = e.add(op, [*inputs, e.ints(*axes)], keepdims=int(a.keep_dims))
        else:
            out = e.add(op, inputs, axes=axes, keepdims=int(a.keep_dims))
        e.bind(node.output, out, first)

    return rule


def _pad(e: Emitter, node: Node) -> None:
    a, x = node.attrs, node.input(0)
    first = e.is_first(x)
    order = FIRST if first else range(len(x.shape))
    pads = e.ints(*(a.before[i] for i in order), *(a.after[i] for i in order))
    if node.op == "PAD":
        value = e.constant(np.array(a.value, x.dtype))
        out = e.add("Pad", [e.name(x, first), pads, value])
    elif a.reflect:
        out = e.add("Pad", [e.name(x, first), pads], mode="reflect")
    else:
        out = e.name(x, first)
        for axis, size in enumerate(x.shape):
            if a.before[axis] or a.after[axis]:
                rows = np.pad(np.arange(size), (a.before[axis], a.after[axis]), mode="symmetric")
                axis = _TO_FIRST[axis] if first else axis
                out = e.add("Gather", [out, e.constant(rows)], axis=axis)
    e.bind(node.output, out, first)


def _concatenation(e: Emitter, node: Node) -> None:
    tensors = [node.input(i) for i in range(len(node.inputs))]
    first = len(node.output.shape) == 4 and all(e.is_first(t) or t.is_const for t in tensors)
    axis = _TO_FIRST[node.attrs.axis] if first else node.attrs.axis
    out = e.add("Concat", [e.name(t, first) for t in tensors], axis=axis)
    e.bind(node.output, out, first, node.attrs.activation)


def _slice(e: Emitter, node: Node) -> None:
    a, x, y = node.attrs, node.input(0), node.output
    first = e.is_first(x)
    if not a.begin:
        e.bind(y, e.name(x))
        return
    ends = []
    for begin, step, size in zip(a.begin, a.stride, y.shape):
        end = begin + step * (size - 1) + (1 if step > 0 else -1)
        ends.append(end if end >= 0 else -(2**31))
    axes = [_TO_FIRST[i] if first else i for i in range(len(x.shape))]
    parts = [e.ints(*a.begin), e.ints(*ends), e.ints(*axes), e.ints(*a.stride)]
    e.bind(y, e.add("Slice", [e.name(x, first), *parts]), first)


def _split(e: Emitter, node: Node) -> None:
    x, axis = node.input(0), node.attrs.axis
    first = e.is_first(x)
    sizes = e.ints(*(y.shape[axis] for y in node.outputs))
    names = e.add_many(
        "Split",
        [e.name(x, first), sizes],
        len(node.outputs),
        axis=_TO_FIRST[axis] if first else axis,
    )
    for y, name in zip(node.outputs, names):
        e.bind(y, name, first)


def _pack(e: Emitter, node: Node) -> None:
    axis = node.attrs.axis
    parts = [
        e.add("Unsqueeze", [e.name(node.input(i)), e.ints(axis)]) for i in range(len(node.inputs))
    ]
    e.bind(node.output, e.add("Concat", parts, axis=axis))


def _unpack(e: Emitter, node: Node) -> None:
    axis = node.attrs.axis
    sizes = e.ints(*(1 for _ in node.outputs))
    parts = e.add_many("Split", [e.name(node.input(0)), sizes], len(node.outputs), axis=axis)
    for y, part in zip(node.outputs, parts):
        e.bind(y, e.add("Squeeze", [part, e.ints(axis)]))


def _transpose(e: Emitter, node: Node) -> None:
    e.bind(node.output, e.add("Transpose", [e.name(node.input(0))], perm=node.attrs.perm))


def _reshape(e: Emitter, node: Node) -> None:
    shape = e.ints(*node.output.shape)
    e.bind(node.output, e.add("Reshape", [e.name(node.input(0)), shape]))


def _softmax(e: Emitter, node: Node) -> None:
    x = e.name(node.input(0))
    beta = getattr(node.attrs, "beta", 1.0)
    if beta != 1:
        x = e.add("Mul", [x, e.constant(np.array(beta, np.float32))])
    e.bind(node.output, e.add("Softmax" if node.op == "SOFTMAX" else "LogSoftmax", [x], axis=-1))


def _resize(e: Emitter, node: Node) -> None:
    a, x, y = node.attrs, node.input(0), node.output
    linear = node.op == "RESIZE_BILINEAR"
    mode = (
        "align_corners"
        if a.align_corners
        else "half_pixel"
        if a.half_pixel_centers
        else "asymmetric"
    )
    nearest = "floor" if mode == "asymmetric" else "round_prefer_ceil"
    sizes = e.ints(*(y.shape[i] for i in FIRST))
    out = e.add(
        "Resize",
        [e.name(x, True), "", "", sizes],
        mode="linear" if linear else "nearest",
        coordinate_transformation_mode=mode,
        **({} if linear else {"nearest_mode": nearest}),
    )
    e.bind(y, out, True)


def _space_to_depth(e: Emitter, node: Node) -> None:
    n, h, w, c = node.input(0).shape
    b = node.attrs.size
    wide = e.add("Reshape", [e.name(node.input(0)), e.ints(n, h // b, b, w // b, b, c)])
    moved = e.add("Transpose", [wide], perm=(0, 1, 3, 2, 4, 5))
    e.bind(node.output, e.add("Reshape", [moved, e.ints(*node.output.shape)]))


def _depth_to_space(e: Emitter, node: Node) -> None:
    e.bind(
        node.output,
        e.add("DepthToSpace", [e.name(node.input(0), True)], blocksize=node.attrs.size, mode="DCR"),
        True,
    )


def _arg_max(e: Emitter, node: Node) -> None:
    y = node.output
    keep = len(y.shape) == len(node.input(0).shape)
    out = e.add("ArgMax", [e.name(node.input(0))], axis=node.attrs.axis, keepdims=int(keep))
    kind = e._helper.np_dtype_to_tensor_dtype(np.dtype(y.dtype))
    e.bind(y, e.add("Cast", [out], to=kind))


def _batch_matmul(e: Emitter, node: Node) -> None:
    names = []
    for i, turned in enumerate((node.attrs.transpose_x, node.attrs.transpose_y)):
        t = node.input(i)
        perm = list(range(len(t.shape)))
        perm[-2:] = perm[:-3:-1]
        names.append(e.add("Transpose", [e.name(t)], perm=perm) if turned else e.name(t))
    e.bind(node.output, e.add("MatMul", names))


def _layer_norm(e: Emitter, node: Node) -> None:
    a, x = node.attrs, e.name(node.input(0))
    centred = x
    if a.centred:
        centred = e.add("Sub", [x, e.add("ReduceMean", [x], axes=list(a.axes), keepdims=1)])
    square = e.add("Mul", [centred, centred])
    variance = e.add("ReduceMean", [square], axes=list(a.axes), keepdims=1)
    shifted = e.add("Add", [variance, e.constant(np.array(a.epsilon, np.float32))])
    out = e.add("Div", [centred, e.add("Sqrt", [shifted])])
    for i, op in ((1, "Mul"), (2, "Add")):
        t = node.inputs[i] if len(node.inputs) > i else None
        if t is not None:
            out = e.add(op, [out, e.name(t)])
    e.bind(node.output, out)


def _gather(e: Emitter, node: Node) -> None:
    names = [e.name(node.input(0)), e.name(node.input(1))]
    e.bind(node.output, e.add("Gather", names, axis=node.attrs.axis))


def _cumsum(e: Emitter, node: Node) -> None:
    a = node.attrs
    flags = {"exclusive": int(a.exclusive), "reverse": int(a.reverse)}
    axis = e.constant(np.array(a.axis, np.int64))
    e.bind(node.output, e.add("CumSum", [e.name(node.input(0)), axis], **flags))


def _copy(e: Emitter, node: Node) -> None:
    first = e.is_first(node.input(0))
    e.bind(node.output, e.name(node.input(0), first), first)


EMIT: dict[str, Rule] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _conv,
    "TRANSPOSE_CONV": _transpose_conv,
    "FULLY_CONNECTED": _fully_connected,
    "ADD": _elementwise("Add"),
    "SUB": _elementwise("Sub"),
    "MUL": _elementwise("Mul"),
    "DIV": _elementwise("Div"),
    "MAXIMUM": _elementwise("Max"),
    "MINIMUM": _elementwise("Min"),
    "PRELU": _elementwise("PRelu"),
    "LOGISTIC": _elementwise("Sigmoid"),
    "TANH": _elementwise("Tanh"),
    "HARD_SWISH": _elementwise("HardSwish"),
    "RELU": _relu,
    "RELU6": _relu,
    "RELU_N1_TO_1": _relu,
    "LEAKY_RELU": _leaky_relu,
    "UNARY": _unary,
    "AVERAGE_POOL_2D": _pool("AveragePool"),
    "MAX_POOL_2D": _pool("MaxPool"),
    "MEAN": _reduce("ReduceMean"),
    "SUM": _reduce("ReduceSum"),
    "REDUCE_MAX": _reduce("ReduceMax"),
    "REDUCE_MIN": _reduce("ReduceMin"),
    "PAD": _pad,
    "MIRROR_PAD": _pad,
    "CONCATENATION": _concatenation,
    "SLICE": _slice,
    "SPLIT": _split,
    "PACK": _pack,
    "UNPACK": _unpack,
    "TRANSPOSE": _transpose,
    "RESHAPE": _reshape,
    "SOFTMAX": _softmax,
    "LOG_SOFTMAX": _softmax,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "SPACE_TO_DEPTH": _space_to_depth,
    "DEPTH_TO_SPACE": _depth_to_space,
    "ARG_MAX": _arg_max,
    "BATCH_MATMUL": _batch_matmul,
    "LAYER_NORM": _layer_norm,
    "GATHER": _gather,
    "CUMSUM": _cumsum,
    "LSTM": lstm,
    "GRU": execute_layers.recurrent,
    "RNN": execute_layers.recurrent,
    "TOP_K": execute_layers.top_k,
    "NON_MAX_SUPPRESSION": execute_layers.non_max_suppression,
    "QUANTIZE": execute_layers.quantize,
    "DEQUANTIZE": execute_layers.quantize,
    "COPY": _copy,
}
