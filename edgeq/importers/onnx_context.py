# SPDX-License-Identifier: Apache-2.0
"""What a handler sees of one ONNX operator, and the graph under construction.

Tensors keep ONNX's layout, channels first; an op of the graph that wants them last stands between
two TRANSPOSEs, which passes/layout.py removes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..errors import FormatError
from ..ir.evaluate import evaluate
from ..ir.expression import Expression, Step
from ..ir.graph import Array, Node, QParams, Tensor
from ..ir.ops import Arithmetic, Axis, NoAttrs, Slice, Transpose, Unary
from .onnx_file import NodeRecord, OnnxFile
from .tflite_context import MAX_FOLDED_BYTES, MAX_TENSOR_BYTES, Refused, Shape, short_name

MAX_RANK = 16
MAX_LIST = 65536
FLOATS = ("float32", "float16", "float64")
LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)  # to channels last, and back


class Builder:
    """The graph under construction: what every name of the file has become so far."""

    def __init__(self, file: OnnxFile) -> None:
        self.file = file
        self.nodes: list[Node] = []
        self.values: dict[str, Tensor] = {}
        self.stored: dict[Tensor, Tensor] = {}  # constant of real numbers -> as the file stores it
        self.norm_statistics: dict[Tensor, tuple[Array, Array]] = {}  # as Graph has it
        self._shown: dict[Tensor, Tensor] = {}  # its DEQUANTIZE
        self._budget = MAX_FOLDED_BYTES
        self._names: dict[str, int] = {}

    def afford(self, size: int) -> None:
        """Pays for `size` bytes of a computed constant."""
        if size > self._budget:
            raise Refused("the constants that it computes are too large")
        self._budget -= size

    def affordable(self, size: int) -> bool:
        return size <= self._budget

    def node_name(self, name: str) -> str:
        """`name`, shortened, with a number where it was used before."""
        short = short_name(name)
        count = self._names[short] = self._names.get(short, 0) + 1
        return short if count == 1 else f"{short[:34]}_{count}"

    def real(self, t: Tensor, node: Callable[..., None]) -> Tensor:
        """t for an op of real numbers: a stored constant behind a DEQUANTIZE, so that its integers
        and their scale are not lost."""
        if t not in self.stored:
            return t
        if t not in self._shown:
            y = Tensor(t.name, t.shape, "float32")
            node("DEQUANTIZE", [self.stored[t]], [y], NoAttrs())
            self._shown[t] = y
        return self._shown[t]


class OpContext:
    """One operator of the file."""

    def __init__(self, builder: Builder, record: NodeRecord) -> None:
        self.builder = builder
        self.file = builder.file
        self.record = record
        domain, _, name = record.op.rpartition(":")
        self.name = name
        self.version = builder.file.opsets.get(domain, 1)
        self.written: dict[int, Tensor] = {}

    @property
    def label(self) -> str:
        r = self.record
        name = short_name(r.name or next((o for o in r.outputs if o), ""))
        return f"op {r.index} {r.op} {name!r}"

    def wrong(self, clause: str) -> FormatError:
        return FormatError(f"{self.file.source}: {self.label}: {clause}")

    # ---- operands

    def has(self, i: int) -> bool:
        return i < len(self.record.inputs) and self.record.inputs[i] != ""

    def raw(self, i: int) -> Tensor:
        """Input i as it is."""
        if not self.has(i):
            raise self.wrong(f"input {i} is missing")
        return self.builder.values[self.record.inputs[i]]

    def tensor(self, i: int) -> Tensor:
        """Input i; constants of other floats are float32."""
        t = self.raw(i)
        if t.data is not None and t.dtype in ("float16", "float64"):
            with np.errstate(over="ignore"):
                return Tensor(t.name, t.shape, "float32", None, t.data.astype(np.float32))
        return t

    def real(self, i: int) -> Tensor:
        """Input i, which must hold real numbers."""
        t = self.tensor(i)
        if t.dtype != "float32":
            raise Refused(f"input {i} {short_name(t.name)!r} is {t.dtype}, float32 is needed")
        return t

    def reals(self) -> list[Tensor]:
        return [self.real(i) for i in range(len(self.record.inputs))]

    def constant(self, i: int, what: str) -> Array:
        t = self.tensor(i)
        if t.data is None:
            raise Refused(f"{what} {short_name(t.name)!r} is not a constant")
        return t.data

    def integers(self, i: int, what: str) -> tuple[int, ...]:
        """The elements of constant input i, an index tensor."""
        data = self.constant(i, what)
        if data.dtype.kind not in "iu" or data.size > MAX_LIST:
            raise self.wrong(f"{what} is {data.dtype} {data.shape}")
        return tuple(int(v) for v in data.reshape(-1))

    def number(self, i: int, what: str, default: float) -> float:
        """Constant input i, a single number; `default` where it is missing."""
        if not self.has(i):
            return default
        data = self.constant(i, what)
        if data.size != 1:
            raise self.wrong(f"{what} has {data.size} elements")
        return float(data.reshape(-1)[0])

    # ---- attributes

    def _attr(self, name: str, kinds: tuple[type, ...], default: Any) -> Any:
        value = self.record.attrs.get(name, default)
        if value is None or value is default:
            return default
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise self.wrong(f"attribute {name} is {value!r}")
        return value

    def attr_int(self, name: str, default: int) -> int:
        return int(self._attr(name, (int,), default))

    def attr_float(self, name: str, default: float) -> float:
        value = float(self._attr(name, (int, float), default))
        if not math.isfinite(value):
            raise self.wrong(f"attribute {name} is {value}")
        return value

    def attr_str(self, name: str, default: str) -> str:
        return str(self._attr(name, (str,), default))

    def attr_ints(self, name: str, default: Sequence[int] | None = None) -> tuple[int, ...] | None:
        value = self._attr(name, (list,), default)
        if value is None:
            return None
        if any(not isinstance(v, int) for v in value) or len(value) > MAX_LIST:
            raise self.wrong(f"attribute {name} is {value!r}")
        return tuple(value)

    def ints_from(self, i: int, name: str, since: int) -> tuple[int, ...] | None:
        """A list that is input i from opset `since` on and an attribute before."""
        if self.version >= since:
            return self.integers(i, name) if self.has(i) else None
        return self.attr_ints(name)

    def axis(self, value: int, rank: int) -> int:
        """`value` in [0, rank), negative ones from the end."""
        if not -rank <= value < rank:
            raise self.wrong(f"axis {value} of {rank} dimensions")
        return value % rank

    def axes(self, values: Iterable[int], rank: int) -> tuple[int, ...]:
        found = [self.axis(v, rank) for v in values]
        if len(set(found)) != len(found):
            raise self.wrong(f"axes {found}")
        return tuple(found)

    # ---- results

    def node(
        self, op: str, inputs: Sequence[Tensor | None], outputs: list[Tensor], attrs: Any
    ) -> None:
        """Adds a node, or its results where all inputs are constants and not large."""
        name = self.builder.node_name(self.record.name or outputs[0].name)
        node = Node(op, list(inputs), outputs, attrs, name, self.record.index)
        size = sum(t.elements * 8 for t in outputs)
        for t in outputs:
            if min(t.shape, default=1) < 1:
                raise Refused(f"a result of shape {t.shape} is empty")
            if t.elements * np.dtype(t.dtype).itemsize > MAX_TENSOR_BYTES:
                raise Refused(f"a result of shape {t.shape} is 2 GiB or more")
            if len(t.shape) > MAX_RANK:
                raise Refused(f"a result has {len(t.shape)} dimensions")
        if op not in ("DEQUANTIZE", "QUANTIZE") and self.builder.affordable(size):
            results = evaluate(node)
            if results is not None:
                self.builder.afford(size)
                for t, data in zip(outputs, results):
                    t.data = data
                return
        self.builder.nodes.append(node)

    def add(
        self,
        op: str,
        inputs: Sequence[Tensor | None],
        attrs: Any,
        shape: Iterable[int],
        dtype: str = "",
    ) -> Tensor:
        """One node of one result, which is like the first input in all but shape."""
        first = inputs[0]
        assert first is not None
        shown = [None if t is None else self.builder.real(t, self.node) for t in inputs]
        y = Tensor(f"{self.name}/{op}", tuple(int(d) for d in shape), dtype or first.dtype)
        if not dtype:
            y.qparams, y.source_dtype = first.qparams, first.source_dtype
        self.node(op, shown, [y], attrs)
        return y

    def finish(self, *results: Tensor) -> None:
        """The operator's results, in order."""
        for i, t in enumerate(results):
            if i < len(self.record.outputs) and self.record.outputs[i]:
                if t.name.startswith(f"{self.name}/"):
                    t.name = self.record.outputs[i]
                self.written[i] = t

    def const(self, data: Any, dtype: str = "float32") -> Tensor:
        array = np.ascontiguousarray(np.asarray(data, dtype)).reshape(np.shape(data))
        return Tensor(f"{self.name}/constant", array.shape, dtype, None, array)

    # ---- weights

    def add_weighted(
        self,
        op: str,
        x: Tensor,
        w: Tensor,
        bias: Tensor | None,
        attrs: Any,
        shape: Iterable[int],
    ) -> Tensor:
        """A node of constant weights and bias, integers where the file stores integers."""
        stored = self.builder.stored
        x = self.builder.real(x, self.node)
        y = Tensor(f"{self.name}/{op}", tuple(shape), "float32")
        self.node(op, [x, stored.get(w, w), bias and stored.get(bias, bias)], [y], attrs)
        return y

    def rebuilt(self, t: Tensor, change: Callable[[Array, int], Array], axis: int | None) -> Tensor:
        """Constant t, changed; `change` gets the numbers and the one that stands for zero, `axis`
        is where the channels of a scale each lie afterwards."""
        assert t.data is not None
        y = Tensor(t.name, (), t.dtype, None, change(t.data, 0))
        assert y.data is not None
        y.shape = y.data.shape
        stored = self.builder.stored.get(t)
        if stored is not None:
            q = stored.qparams
            assert q is not None and stored.data is not None
            if q.per_channel and (axis is None or q.axis != axis or q.zero_points.any()):
                raise Refused("its weights have a scale for each channel and cannot be rearranged")
            data = change(stored.data, int(q.zero_points[0]))
            self.builder.stored[y] = Tensor(
                stored.name, y.shape, stored.dtype, q, data, stored.source_dtype
            )
        return y

    def scaled(self, t: Tensor, factor: float) -> Tensor:
        """Constant t times `factor`."""
        if factor == 1:
            return t
        assert t.data is not None
        y = Tensor(t.name, t.shape, t.dtype, None, (t.data * np.float32(factor)).astype(np.float32))
        stored = self.builder.stored.get(t)
        if stored is not None and factor > 0:
            assert stored.qparams is not None
            q = QParams(
                (stored.qparams.scales * np.float32(factor)).astype(np.float32),
                stored.qparams.zero_points,
                stored.qparams.axis,
            )
            self.builder.stored[y] = Tensor(
                stored.name, t.shape, stored.dtype, q, stored.data, stored.source_dtype
            )
        return y

    # ---- small graphs

    def reshape(self, x: Tensor, shape: Iterable[int]) -> Tensor:
        shape = tuple(int(d) for d in shape)
        if shape == x.shape:
            return x
        if math.prod(shape) != x.elements:
            raise self.wrong(f"shape {x.shape} cannot become {shape}")
        return self._moved("RESHAPE", x, NoAttrs(), shape)

    def transpose(self, x: Tensor, perm: Sequence[int]) -> Tensor:
        if list(perm) == sorted(perm):
            return x
        attrs = Transpose(tuple(int(p) for p in perm))
        return self._moved("TRANSPOSE", x, attrs, [x.shape[p] for p in perm])

    def _moved(self, op: str, x: Tensor, attrs: Any, shape: Iterable[int]) -> Tensor:
        """A move; of a stored constant, its integers move too."""
        shape = tuple(shape)
        stored = self.builder.stored.get(x)
        if stored is None:
            return self.add(op, [x], attrs, shape)
        q = stored.qparams
        assert q is not None and x.data is not None and stored.data is not None
        if q.per_channel:
            axis = _moved_axis(op, attrs, q.axis, stored.shape, shape)
            if axis is None:
                raise Refused("it moves numbers that have a scale for each channel")
            q = QParams(q.scales, q.zero_points, axis)
        arrays = [
            np.ascontiguousarray(a.transpose(attrs.perm) if op == "TRANSPOSE" else a.reshape(shape))
            for a in (x.data, stored.data)
        ]
        y = Tensor(x.name, shape, x.dtype, None, arrays[0])
        self.builder.stored[y] = Tensor(
            stored.name, shape, stored.dtype, q, arrays[1], stored.source_dtype
        )
        return y

    def slice(
        self, x: Tensor, begin: Sequence[int], shape: Sequence[int], step: Any = None
    ) -> Tensor:
        step = (1,) * len(begin) if step is None else tuple(step)
        if tuple(shape) == x.shape and all(s == 1 for s in step):
            return x
        return self.add("SLICE", [x], Slice(tuple(begin), step), shape)

    def concat(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        if len(parts) == 1:
            return parts[0]
        first = parts[0]
        rest = [d for i, d in enumerate(first.shape) if i != axis]
        for t in parts:
            if [d for i, d in enumerate(t.shape) if i != axis] != rest or t.dtype != first.dtype:
                raise self.wrong(f"{first.dtype} {first.shape} beside {t.dtype} {t.shape}")
        shape = list(first.shape)
        shape[axis] = sum(t.shape[axis] for t in parts)
        return self.add("CONCATENATION", list(parts), Axis(axis), shape)

    def repeat(self, x: Tensor, axis: int, times: int) -> Tensor:
        """x `times` times one behind the other."""
        while times > 1:
            part = next((p for p in range(min(32, times), 1, -1) if times % p == 0), 0)
            if not part:
                head = self.repeat(x, axis, times - 1)
                return self.concat([head, x], axis)
            x, times = self.concat([x] * part, axis), times // part
        return x

    def binary(self, op: str, a: Tensor, b: Tensor) -> Tensor:
        """ADD, SUB, MUL, DIV, MAXIMUM, MINIMUM, PRELU with broadcasting."""
        attrs = Arithmetic() if op in ("ADD", "SUB", "MUL", "DIV") else NoAttrs()
        return self.add(op, [a, b], attrs, self.broadcast(a.shape, b.shape), "float32")

    def broadcast(self, a: Shape, b: Shape) -> Shape:
        try:
            return np.broadcast_shapes(a, b)
        except ValueError:
            raise self.wrong(f"shapes {a} and {b} do not fit") from None

    def unary(self, x: Tensor, *steps: tuple[Any, ...]) -> Tensor:
        """UNARY of steps (function, arguments ...) as in ir/expression.py."""
        made = tuple(Step(s[0], tuple(s[1:]) or (0,)) for s in steps)
        return self.add("UNARY", [x], Unary(Expression(made)), x.shape)

    def named(self, op: str, x: Tensor, attrs: Any = None) -> Tensor:
        return self.add(op, [x], attrs or NoAttrs(), x.shape)

    # ---- channels

    def to_last(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, H, W, C), (N, C, L) to (N, 1, L, C)."""
        if len(x.shape) == 3:
            n, c, length = x.shape
            return self.reshape(self.transpose(x, (0, 2, 1)), (n, 1, length, c))
        if len(x.shape) != 4:
            raise Refused(f"x has shape {x.shape}; one and two spatial dimensions are supported")
        return self.transpose(x, LAST)

    def to_first(self, y: Tensor, rank: int) -> Tensor:
        """The way back of to_last."""
        if rank == 3:
            n, _, length, c = y.shape
            return self.transpose(self.reshape(y, (n, length, c)), (0, 2, 1))
        return self.transpose(y, FIRST)


def _moved_axis(op: str, attrs: Any, axis: int, old: Shape, new: Shape) -> int | None:
    """Where `axis` is behind a move, None if it is no axis of its own any more."""
    if op == "TRANSPOSE":
        return int(attrs.perm.index(axis))
    before = math.prod(old[:axis])
    for i, d in enumerate(new):
        if d == old[axis] and math.prod(new[:i]) == before:
            return i
    return None
