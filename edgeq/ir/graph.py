# SPDX-License-Identifier: Apache-2.0
"""The graph that importers make, passes rewrite and lowering reads.

Tensors are compared by identity. A tensor has at most one producer; constants and graph inputs have
none. Shapes are static, layouts are NHWC, legacy uint8 tensors are int8 already (value - 128).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class QParams:
    """real = scales * (q - zero_points), along `axis` where there is more than one of them.

    `scales` is float32 (C,) or (1,), `zero_points` int32 of the same length.
    """

    scales: npt.NDArray[np.float32]
    zero_points: npt.NDArray[np.int32]
    axis: int = 0

    @staticmethod
    def of(scale: float, zero_point: int = 0) -> QParams:
        return QParams(np.array([scale], np.float32), np.array([zero_point], np.int32))

    @property
    def per_channel(self) -> bool:
        return len(self.scales) > 1

    @property
    def scale(self) -> np.float32:
        """The only scale; per-channel tensors have none."""
        assert not self.per_channel
        return np.float32(self.scales[0])

    @property
    def zero_point(self) -> int:
        assert not self.per_channel
        return int(self.zero_points[0])

    def same(self, other: QParams | None) -> bool:
        return (
            other is not None
            and np.array_equal(self.scales, other.scales)
            and np.array_equal(self.zero_points, other.zero_points)
        )


@dataclass(frozen=True, eq=False)
class Quantized:
    """int8 values of a constant's shape with the parameters that give them their meaning."""

    data: Array
    qparams: QParams


@dataclass(eq=False)
class Tensor:
    """`dtype` is how the program stores it, `source_dtype` what the source network declared.

    A float32 constant that the source network stores as int8 has these bytes in `origin`: `data` is
    what they dequantize to, and whoever quantizes it again may take them as they are.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    qparams: QParams | None = None
    data: Array | None = None
    source_dtype: str = ""
    origin: Quantized | None = None

    def __post_init__(self) -> None:
        self.source_dtype = self.source_dtype or self.dtype

    @property
    def is_const(self) -> bool:
        return self.data is not None

    @property
    def elements(self) -> int:
        n = 1
        for d in self.shape:
            n *= d
        return n


@dataclass(eq=False)
class Node:
    """One op: `op` is a name of ir/ops.py, `attrs` that op's frozen dataclass.

    An absent optional input is None.
    """

    op: str
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    attrs: Any
    name: str
    source_index: int = -1

    def input(self, i: int) -> Tensor:
        """Input i, which must be there."""
        t = self.inputs[i]
        assert t is not None, f"{self.op} {self.name!r} has no input {i}"
        return t

    @property
    def output(self) -> Tensor:
        return self.outputs[0]


@dataclass(eq=False)
class State:
    """What a network keeps from one run to the next.

    `before` is what the nodes read, and like an input has no producer; at the end of a run `after`
    (any tensor of the graph with the same dtype, shape and quantization, `before` too) becomes the
    next run's `before`. `initial`, of their shape, is what the first run reads.
    """

    name: str
    before: Tensor
    after: Tensor
    initial: Array


@dataclass(eq=False)
class Graph:
    """`nodes` are in an order in which they can run.

    `input_dtypes` and `output_dtypes` are parallel to `inputs` and `outputs`: what the caller hands
    in or gets, which may differ from the tensor's source_dtype. float32 and uint8 ports of an int8
    tensor have its scale, uint8 ones its zero point + 128. A port's name is its tensor's.

    `norm_statistics`: what training saw of a tensor: mean and variance of each channel (the last
    axis, or axis 1 where passes/layout.py has not been yet), before the activation that its op has
    fused. Of a batch norm's result these are beta and gamma^2, also where it is folded into the op
    before it; of its input the running mean and variance. They are advice on calibration data, and
    a pass may lose them.
    """

    nodes: list[Node]
    inputs: list[Tensor]
    outputs: list[Tensor]
    name: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    labels: dict[Tensor, str] = field(default_factory=dict)  # output -> one label a line
    input_dtypes: list[str] = field(default_factory=list)
    output_dtypes: list[str] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    norm_statistics: dict[Tensor, tuple[Array, Array]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # what the conversion's report has to say

    def __post_init__(self) -> None:
        self.input_dtypes = self.input_dtypes or [t.source_dtype for t in self.inputs]
        self.output_dtypes = self.output_dtypes or [t.source_dtype for t in self.outputs]

    def copy(self) -> Graph:
        """The same graph of new nodes and tensors; constants share their data."""
        new = {t: replace(t) for t in self.tensors()}
        nodes = [
            replace(
                n,
                inputs=[None if t is None else new[t] for t in n.inputs],
                outputs=[new[t] for t in n.outputs],
            )
            for n in self.nodes
        ]
        return replace(
            self,
            nodes=nodes,
            inputs=[new[t] for t in self.inputs],
            outputs=[new[t] for t in self.outputs],
            metadata=dict(self.metadata),
            labels={new[t]: text for t, text in self.labels.items()},
            input_dtypes=list(self.input_dtypes),
            output_dtypes=list(self.output_dtypes),
            states=[replace(s, before=new[s.before], after=new[s.after]) for s in self.states],
            norm_statistics={new[t]: s for t, s in self.norm_statistics.items() if t in new},
            notes=list(self.notes),
        )

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor once: inputs, states, then in order of the nodes."""
        seen: set[int] = set()
        for t in [
            *self.inputs,
            *(s.before for s in self.states),
            *(t for n in self.nodes for t in [*n.inputs, *n.outputs]),
            *self.outputs,
            *(s.after for s in self.states),
        ]:
            if t is not None and id(t) not in seen:
                seen.add(id(t))
                yield t

    def sources(self) -> set[Tensor]:
        """What is there before the first node: the inputs and the states."""
        return {*self.inputs, *(s.before for s in self.states)}

    def results(self) -> set[Tensor]:
        """What a run is for: the outputs, and what the states become."""
        return {*self.outputs, *(s.after for s in self.states)}

    def producers(self) -> dict[Tensor, Node]:
        return {t: n for n in self.nodes for t in n.outputs}

    def consumers(self) -> dict[Tensor, list[Node]]:
        users: dict[Tensor, list[Node]] = {}
        for n in self.nodes:
            for t in n.inputs:
                if t is not None and users.setdefault(t, [n])[-1] is not n:
                    users[t].append(n)
        return users

    def read_instead(self, new: Mapping[Tensor, Tensor]) -> None:
        """Makes every node that reads a key of `new` read its value."""
        for n in self.nodes:
            n.inputs = [None if t is None else new.get(t, t) for t in n.inputs]

    def move_ports(self, old: Tensor, new: Tensor) -> None:
        """Makes `new` the output, or what a state becomes, wherever `old` is it."""
        self.outputs = [new if t is old else t for t in self.outputs]
        for s in self.states:
            s.after = new if s.after is old else s.after
        if old in self.labels:
            self.labels[new] = self.labels.pop(old)

    def verify(self) -> None:
        """Raises AssertionError where an invariant of this module's docstring is broken."""
        from .ops import OPS

        assert len(self.input_dtypes) == len(self.inputs), "input_dtypes"
        assert len(self.output_dtypes) == len(self.outputs), "output_dtypes"
        ready = {id(t) for t in self.sources()}
        for n in self.nodes:
            assert n.op in OPS, f"unknown op {n.op}"
            spec = OPS[n.op]
            assert isinstance(n.attrs, spec.attrs), f"{n.op} {n.name!r}: attrs are {type(n.attrs)}"
            for t in n.inputs:
                assert t is None or t.is_const or id(t) in ready, (
                    f"{n.op} {n.name!r} reads {t} early"
                )
            for t in n.outputs:
                assert not t.is_const and id(t) not in ready, f"{n.op} {n.name!r} writes {t} again"
                ready.add(id(t))
        for t in self.outputs:
            assert t.is_const or id(t) in ready, f"output {t.name!r} is never written"
        for s in self.states:
            assert not s.before.is_const, f"state {s.name!r} is constant"
            assert s.after.is_const or id(s.after) in ready, f"state {s.name!r} is never written"
            for t in (s.before, s.after):
                assert t.shape == s.initial.shape, f"state {s.name!r}: {t.name!r} is {t.shape}"
                assert t.dtype == str(s.initial.dtype), f"state {s.name!r}: {t.name!r} is {t.dtype}"
        for t in self.tensors():
            assert all(d >= 1 for d in t.shape), f"{t.name!r} has shape {t.shape}"
            if t.data is not None:
                assert tuple(t.data.shape) == t.shape, (
                    f"{t.name!r}: {t.data.shape} is not {t.shape}"
                )
