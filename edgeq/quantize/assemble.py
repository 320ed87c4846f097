# SPDX-License-Identifier: Apache-2.0
"""A float graph and what was decided of it become a quantized graph, as if a file had held it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from ..ir.graph import Graph, Node, QParams, Tensor
from ..ir.ops import NoAttrs
from .observe import LAYERS
from .ranges import qparams
from .scheme import is_float
from .weights import LayerWeights

Weights = Callable[[Node, float, int], LayerWeights]  # of a layer; its input's scale and bits


def assemble(
    graph: Graph, scales: Mapping[Tensor, QParams], bits: Mapping[Tensor, int], weights: Weights
) -> tuple[Graph, dict[Tensor, Tensor]]:
    """Quantized copy of `graph`, and which tensor became which.

    `scales` of every float tensor that is not constant; `bits`: 8 or 16 of each.
    """
    return _Assembler(graph, scales, bits, weights).run()


# Ops that take all operands on their output's scale, and those that take its integer type.
_ONE_SCALE = ("CONCATENATION", "MAXIMUM", "MINIMUM", "PACK")
_ONE_TYPE = ("SOFTMAX", "LOG_SOFTMAX")


def _requantized(q: QParams, bits: int) -> QParams:
    """The range of q in another number of bits."""
    if bits == 16:
        reach = max(127 - q.zero_point, q.zero_point + 128)
        return QParams.of(float(q.scale) * reach / 32767)
    reach16 = float(q.scale) * 32767
    return qparams((-reach16, reach16), 8)


class _Assembler:
    def __init__(
        self,
        graph: Graph,
        scales: Mapping[Tensor, QParams],
        bits: Mapping[Tensor, int],
        weights: Weights,
    ) -> None:
        self.graph, self.scales, self.bits, self.weights = graph, scales, bits, weights
        self.new: dict[Tensor, Tensor] = {}
        self.nodes: list[Node] = []

    def run(self) -> tuple[Graph, dict[Tensor, Tensor]]:
        graph = self.graph
        inputs = [self.tensor(t) for t in graph.inputs]
        for node in graph.nodes:
            self.node(node)
        outputs = [self.tensor(t) for t in graph.outputs]
        labels = {self.new[t]: text for t, text in graph.labels.items() if t in self.new}
        quantized = Graph(
            self.nodes,
            inputs,
            outputs,
            graph.name,
            dict(graph.metadata),
            labels,
            list(graph.input_dtypes),
            list(graph.output_dtypes),
        )
        quantized.verify()
        return quantized, self.new

    def tensor(self, t: Tensor) -> Tensor:
        if t not in self.new:
            if is_float(t):
                dtype = "int16" if self.bits[t] == 16 else "int8"
                self.new[t] = replace(t, dtype=dtype, source_dtype=dtype, qparams=self.scales[t])
            else:
                self.new[t] = t
        return self.new[t]

    def constant(self, t: Tensor, bits: int) -> Tensor:
        """An operand of arithmetic, with one scale; a single number is exact."""
        data = np.asarray(t.data, np.float64)
        q = qparams((float(data.min(initial=0.0)), float(data.max(initial=0.0))), bits)
        return _stored_constant(t, q, "int16" if bits == 16 else "int8")

    def node(self, node: Node) -> None:
        if node.op in LAYERS and is_float(node.output):
            self.layer(node)
            return
        inputs = [None if t is None else self.input(node, t) for t in node.inputs]
        outputs = [self.tensor(t) for t in node.outputs]
        attrs = node.attrs
        if node.op == "PAD":
            q = outputs[0].qparams
            assert q is not None
            attrs = replace(attrs, value=_stored(float(attrs.value), q, outputs[0].dtype))
        self.nodes.append(replace(node, inputs=inputs, outputs=outputs, attrs=attrs))

    def input(self, node: Node, t: Tensor) -> Tensor:
        """What `node` reads: where it compares or joins numbers, on its output's scale."""
        y = self.tensor(node.output)
        if t.is_const and t.dtype == "float32":
            if node.op == "LAYER_NORM":  # lowering folds gamma and beta
                return t
            if node.op in _ONE_SCALE and y.qparams is not None:
                return _stored_constant(t, y.qparams, y.dtype)
            operands = [y, *(self.tensor(x) for x in node.inputs if x is not None and is_float(x))]
            return self.constant(t, 16 if any(x.dtype == "int16" for x in operands) else 8)
        x = self.tensor(t)
        if not is_float(t) or x.qparams is None or y.qparams is None:
            return x
        if node.op in _ONE_SCALE:
            return self.rescaled(node, x, y.qparams, y.dtype)
        if node.op in _ONE_TYPE and x.dtype != y.dtype:
            bits = 16 if y.dtype == "int16" else 8
            return self.rescaled(node, x, _requantized(x.qparams, bits), y.dtype)
        return x

    def rescaled(self, node: Node, x: Tensor, q: QParams, dtype: str) -> Tensor:
        """x as another integer type or on another scale."""
        if x.dtype == dtype and q.same(x.qparams):
            return x
        t = replace(x, name=f"{x.name}/{dtype}", dtype=dtype, source_dtype=dtype, qparams=q)
        self.nodes.append(Node("QUANTIZE", [x], [t], NoAttrs(), t.name, node.source_index))
        return t

    def layer(self, node: Node) -> None:
        x, y = self.tensor(node.input(0)), self.tensor(node.output)
        assert x.qparams is not None
        found = self.weights(node, float(x.qparams.scale), 16 if x.dtype == "int16" else 8)
        axis = 3 if node.op == "DEPTHWISE_CONV_2D" else 0
        zeros = np.zeros(len(found.scales), np.int32)
        w = node.input(1)
        q = QParams(found.scales, zeros, axis if len(found.scales) > 1 else 0)
        weights = replace(w, dtype="int8", source_dtype="int8", qparams=q, data=found.data)
        bias = None
        if found.bias is not None:
            bias = _bias(node, found, x)
        self.nodes.append(replace(node, inputs=[x, weights, bias], outputs=[y]))


def _bias(node: Node, found: LayerWeights, x: Tensor) -> Tensor:
    assert x.qparams is not None and found.bias is not None
    scales = np.float64(x.qparams.scale) * found.scales.astype(np.float64)
    steps = np.round(found.bias / scales)
    name = (
        node.inputs[2].name
        if len(node.inputs) > 2 and node.inputs[2] is not None
        else f"{node.name}/bias"
    )
    q = QParams(scales.astype(np.float32), np.zeros(len(scales), np.int32))
    if x.dtype == "int16":
        return Tensor(name, steps.shape, "int64", q, steps.astype(np.int64))
    limit = 2.0**31 - 1
    return Tensor(name, steps.shape, "int32", q, np.clip(steps, -limit, limit).astype(np.int32))


def _stored_constant(t: Tensor, q: QParams, dtype: str) -> Tensor:
    low, high = (-32768, 32767) if dtype == "int16" else (-128, 127)
    steps = np.round(np.asarray(t.data, np.float64) / np.float64(q.scale)) + q.zero_point
    data = np.clip(steps, low, high).astype(dtype)
    return replace(t, dtype=dtype, source_dtype=dtype, qparams=q, data=data)


def _stored(value: float, q: QParams, dtype: str) -> int:
    low, high = (-32768, 32767) if dtype == "int16" else (-128, 127)
    return int(np.clip(np.round(value / float(q.scale)) + q.zero_point, low, high))
