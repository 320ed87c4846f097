# SPDX-License-Identifier: Apache-2.0
"""Small networks for tests: operators appended one by one, shapes and parameters worked out.

net = Net(rng)
x = net.input((1, 8, 8, 4))
y = net.add(net.conv(x, 4), x)
net.output(y)
net.check()
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from cases import Layer, Quant, Rng, Shape, limits, weight_values, zero_point
from oracle import ORACLE_NAME, check, operators, oracle_is_exact
from tflite_builder import ModelBuilder


@dataclass(frozen=True)
class T:
    """A tensor of a Net: its index in the file, shape and parameters (None for float32)."""

    index: int
    shape: Shape
    quant: Quant | None

    @property
    def q(self) -> Quant:
        assert self.quant is not None
        return self.quant


class Net:
    """A model under construction, and input data for it."""

    def __init__(self, rng: Rng, dtype: str = "int8") -> None:
        self.rng = rng
        self.dtype = dtype
        self.b = ModelBuilder()
        self.data: list[np.ndarray] = []
        self._count = 0

    def check(self) -> None:
        """Compares edgeq with the oracle on this model, where the oracle is exact."""
        model = self.b.finish()
        inexact = {op for op in operators(model) if not oracle_is_exact(op)}
        if inexact:
            pytest.skip(f"{ORACLE_NAME} rounds {', '.join(inexact)} otherwise")
        check(model, self.data)

    def output(self, *tensors: T) -> None:
        self.b.output(*(t.index for t in tensors))

    def quant(self) -> Quant:
        """Parameters of a usual activation tensor."""
        step = float(np.float32(np.exp(self.rng.uniform(np.log(0.02), np.log(0.1)))))
        return Quant(self.dtype, step, self._zero())

    def input(self, shape: Shape, quant: Quant | None = None) -> T:
        q = quant or self.quant()
        self.data.append(self._values(shape))
        return T(q.input(self.b, self._name("input"), shape), shape, q)

    def float_input(self, shape: Shape) -> T:
        self.data.append(self.rng.normal(0, 3, shape).astype(np.float32))
        return T(self.b.input(self._name("input"), shape, "float32"), shape, None)

    def const(self, shape: Shape, quant: Quant | None = None) -> T:
        q = quant or self.quant()
        array = self._values(shape)
        return T(q.const(self.b, self._name("const"), array), shape, q)

    def op(
        self,
        kind: str,
        operands: Sequence[int | None],
        shape: Shape,
        quant: Quant | None,
        **options: Any,
    ) -> T:
        """Appends an operator with one output."""
        return self.ops(kind, operands, [(shape, quant)], **options)[0]

    def ops(
        self,
        kind: str,
        operands: Sequence[int | None],
        results: Sequence[tuple[Shape, Quant | None]],
        **options: Any,
    ) -> list[T]:
        """Appends an operator with any number of outputs."""
        outs = []
        for shape, q in results:
            name = self._name(kind.lower())
            if q is None:
                outs.append(T(self.b.tensor(name, shape, "float32"), shape, None))
            else:
                outs.append(T(q.tensor(self.b, name, shape), shape, q))
        self.b.op(kind, operands, [t.index for t in outs], **options)
        return outs

    def ints(self, values: Any) -> int:
        """An int32 constant, as axes and shapes are."""
        return self.b.const(self._name("ints"), np.array(values, np.int32))

    def conv(
        self,
        x: T,
        channels: int,
        k: int = 1,
        stride: int = 1,
        padding: str = "SAME",
        **options: Any,
    ) -> T:
        w_shape = (channels, k, k, x.shape[3])
        return self._layer("CONV_2D", x, w_shape, 0, channels, (k, stride, padding), options)

    def depthwise(
        self, x: T, k: int = 3, stride: int = 1, padding: str = "SAME", **options: Any
    ) -> T:
        c = x.shape[3]
        options["depth_multiplier"] = 1
        w_shape = (1, k, k, c)
        return self._layer("DEPTHWISE_CONV_2D", x, w_shape, 3, c, (k, stride, padding), options)

    def dense(self, x: T, units: int) -> T:
        depth = int(np.prod(x.shape[1:]))
        operands, y = self._weights(x, (units, depth), 0, units)
        return self.op("FULLY_CONNECTED", operands, (x.shape[0], units), y)

    def add(self, a: T, b: T, **options: Any) -> T:
        return self.binary("ADD", a, b, **options)

    def binary(self, kind: str, a: T, b: T, **options: Any) -> T:
        """ADD, SUB or MUL with a fitting output scale."""
        step = a.q.scale * b.q.scale * 64 if kind == "MUL" else max(a.q.scale, b.q.scale) * 1.3
        y = Quant(self.dtype, float(np.float32(step)), self._zero())
        return self.op(
            kind, [a.index, b.index], np.broadcast_shapes(a.shape, b.shape), y, **options
        )

    def requantize(self, x: T, quant: Quant | None = None) -> T:
        return self.op("QUANTIZE", [x.index], x.shape, quant or self.quant())

    def dequantize(self, x: T) -> T:
        return self.op("DEQUANTIZE", [x.index], x.shape, None)

    def relu(self, x: T) -> T:
        return self.op("RELU", [x.index], x.shape, x.q)

    def logistic(self, x: T) -> T:
        low = np.iinfo(self.dtype).min
        return self.op("LOGISTIC", [x.index], x.shape, Quant(self.dtype, 1 / 256, int(low)))

    def reshape(self, x: T, shape: Shape) -> T:
        return self.op("RESHAPE", [x.index, self.ints(shape)], shape, x.quant)

    def transpose(self, x: T, perm: Shape) -> T:
        shape = tuple(x.shape[p] for p in perm)
        return self.op("TRANSPOSE", [x.index, self.ints(perm)], shape, x.quant)

    def pad(self, x: T, pads: Sequence[tuple[int, int]]) -> T:
        shape = tuple(n + a + b for n, (a, b) in zip(x.shape, pads))
        return self.op("PAD", [x.index, self.ints(pads)], shape, x.quant)

    def mean(self, x: T, keep_dims: bool = False) -> T:
        n, _, _, c = x.shape
        shape = (n, 1, 1, c) if keep_dims else (n, c)
        return self.op("MEAN", [x.index, self.ints([1, 2])], shape, x.quant, keep_dims=keep_dims)

    def max_pool(self, x: T, k: int = 2, stride: int = 2) -> T:
        shape = (x.shape[0], -(-x.shape[1] // stride), -(-x.shape[2] // stride), x.shape[3])
        options = {"stride_h": stride, "stride_w": stride, "filter_height": k, "filter_width": k}
        return self.op("MAX_POOL_2D", [x.index], shape, x.quant, padding="SAME", **options)

    def upsample(self, x: T, factor: int = 2) -> T:
        size = (x.shape[1] * factor, x.shape[2] * factor)
        shape = (x.shape[0], *size, x.shape[3])
        return self.op("RESIZE_NEAREST_NEIGHBOR", [x.index, self.ints(size)], shape, x.quant)

    def concat(self, parts: Sequence[T], axis: int = -1) -> T:
        """All parts must have the parameters of the first."""
        shape = list(parts[0].shape)
        shape[axis] = sum(p.shape[axis] for p in parts)
        indices = [p.index for p in parts]
        return self.op("CONCATENATION", indices, tuple(shape), parts[0].quant, axis=axis)

    def split(self, x: T, count: int, axis: int = -1) -> list[T]:
        shape = list(x.shape)
        shape[axis] //= count
        results = [(tuple(shape), x.quant)] * count
        return self.ops("SPLIT", [self.ints(axis), x.index], results, num_splits=count)

    def crop(self, x: T, begin: Shape, shape: Shape) -> T:
        operands = [x.index, self.ints(begin), self.ints(shape)]
        return self.op("SLICE", operands, shape, x.quant)

    def _layer(
        self,
        kind: str,
        x: T,
        w_shape: Shape,
        axis: int,
        channels: int,
        window: tuple[int, int, str],
        options: dict[str, Any],
    ) -> T:
        k, stride, padding = window
        lost = 0 if padding == "SAME" else k - 1
        size = (-(-(n - lost) // stride) for n in x.shape[1:3])
        operands, y = self._weights(x, w_shape, axis, channels)
        options = {"padding": padding, "stride_h": stride, "stride_w": stride, **options}
        return self.op(kind, operands, (x.shape[0], *size, channels), y, **options)

    def _weights(
        self, x: T, w_shape: Shape, axis: int, channels: int
    ) -> tuple[list[int | None], Quant]:
        zero = zero_point(self.rng, "uint8") if self.dtype == "uint8" else 0
        w = weight_values(self.rng, w_shape, self.dtype, zero)
        y = self.quant()
        rows = np.moveaxis(w, axis, 0).reshape(channels, -1)
        layer = Layer.fit(self.rng, x.q, rows, zero, y, self.dtype == "int8")
        return [x.index, layer.add_weights(self.b, w, zero, axis), layer.add_bias(self.b)], y

    def _zero(self) -> int:
        middle = sum(limits(self.dtype)) // 2
        return int(self.rng.integers(middle - 40, middle + 41))

    def _values(self, shape: Shape) -> np.ndarray:
        low, high = limits(self.dtype)
        return self.rng.integers(low, high + 1, shape).astype(self.dtype)

    def _name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"
