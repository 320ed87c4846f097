# SPDX-License-Identifier: Apache-2.0
"""Small float graphs, appended op by op, and their quantized forms.

net = FloatNet((1, 8, 8, 3), seed=1)
y = net.conv(net.x, 8, activation="RELU")
quantized = net.quantize([y])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq import converter
from edgeq.converter import Converted
from edgeq.ir.graph import Array, Graph, Node, Tensor
from edgeq.ir.ops import Arithmetic, Axis, Conv2D, FullyConnected, NoAttrs, Reduce
from edgeq.quantize.calibrate import Options, Quantized, quantize
from edgeq.quantize.report import QuantizationReport, analyse
from edgeq.quantizer import simulate


class FloatNet:
    """`x` is the network's input; samples of it are normal unless they are given."""

    def __init__(self, shape: tuple[int, ...], seed: int = 1) -> None:
        self.rng = np.random.default_rng(seed)
        self.x = Tensor("x", shape, "float32")
        self.nodes: list[Node] = []

    def const(self, data: Array) -> Tensor:
        data = np.asarray(data, np.float32)
        return Tensor(f"c{len(self.nodes)}", data.shape, "float32", data=data)

    def add(
        self, op: str, inputs: Sequence[Tensor | None], shape: Sequence[int], attrs: Any, name: str
    ) -> Tensor:
        name = name or f"{op.lower()}_{len(self.nodes)}"
        y = Tensor(f"{name}:0", tuple(shape), "float32")
        self.nodes.append(Node(op, list(inputs), [y], attrs, name, len(self.nodes)))
        return y

    def conv(
        self,
        x: Tensor,
        channels: int,
        *,
        weights: Array | None = None,
        bias: Array | None = None,
        activation: str = "NONE",
        name: str = "",
    ) -> Tensor:
        """1x1, stride 1."""
        if weights is None:
            weights = self.rng.normal(size=(channels, 1, 1, x.shape[3])) / np.sqrt(x.shape[3])
        inputs = [x, self.const(weights), self.const(np.zeros(channels) if bias is None else bias)]
        shape = (*x.shape[:3], channels)
        return self.add("CONV_2D", inputs, shape, Conv2D(activation=activation), name)

    def dense(self, x: Tensor, units: int, name: str = "") -> Tensor:
        w = self.rng.normal(size=(units, x.shape[-1])) / np.sqrt(x.shape[-1])
        inputs = [x, self.const(w), self.const(np.zeros(units))]
        return self.add("FULLY_CONNECTED", inputs, (x.shape[0], units), FullyConnected(), name)

    def plus(self, x: Tensor, y: Tensor, name: str = "") -> Tensor:
        return self.add("ADD", [x, y], x.shape, Arithmetic(), name)

    def concat(self, tensors: Sequence[Tensor], name: str = "") -> Tensor:
        shape = (*tensors[0].shape[:3], sum(t.shape[3] for t in tensors))
        return self.add("CONCATENATION", tensors, shape, Axis(3), name)

    def unary(self, op: str, x: Tensor, name: str = "") -> Tensor:
        return self.add(op, [x], x.shape, NoAttrs(), name)

    def mean(self, x: Tensor, name: str = "") -> Tensor:
        return self.add("MEAN", [x], (x.shape[0], x.shape[3]), Reduce((1, 2), False), name)

    def graph(self, outputs: Sequence[Tensor]) -> Graph:
        graph = Graph(self.nodes, [self.x], list(outputs), "net")
        graph.verify()
        return graph

    def samples(self, count: int = 16, scale: float = 1.0) -> list[dict[str, Array]]:
        values = self.rng.normal(size=(count, *self.x.shape)) * scale
        return [{"x": v.astype(np.float32)} for v in values]

    def quantize(
        self,
        outputs: Sequence[Tensor],
        samples: Sequence[dict[str, Array]] | None = None,
        method: str = "minmax",
        effort: str = "fast",
    ) -> Quantized:
        given = self.samples() if samples is None else samples
        options = Options(method=method, effort=effort)
        return quantize(self.graph(outputs), given, simulate, options, None, len(given))

    def analysed(self, quantized: Quantized) -> QuantizationReport:
        return analyse(quantized, simulate)

    def converted(self, quantized: Quantized) -> Converted:
        """The .eqm file of it."""
        program = converter._lower(quantized.graph, "native")
        return converter._write(program, "", lambda *_: None)

    def report(self, *outputs: Tensor, **options: Any) -> QuantizationReport:
        return self.analysed(self.quantize(outputs, **options))
