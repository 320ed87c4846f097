# SPDX-License-Identifier: Apache-2.0
"""Random programs for hypothesis: graphs of operators that eqm_evaluate can run."""

from __future__ import annotations

import numpy as np
from eqm_programs import Builder, add_params, noise
from hypothesis import strategies as st

from edgeq.format.program import Program, Value

SIZES = st.integers(1, 5)
TABLES = [np.roll(np.arange(-128, 128), k).astype(np.int8) for k in (0, 77)]


class _Maker:
    """Appends operators to a program; `pool` is what they may read."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.b = Builder()
        self.pool: list[Value] = []

    def pick(self) -> Value:
        """A value, mostly a late one."""
        late = self.draw(st.integers(0, 2 * len(self.pool) - 1))
        return self.pool[-1 - late] if late < len(self.pool) else self.pool[late - len(self.pool)]

    def unary(self) -> Value:
        x = self.pick()
        if self.draw(st.booleans()):
            return self.b.op("COPY", [x], x.shape)
        return self.b.op("LUT", [x], x.shape, table=self.draw(st.sampled_from(TABLES)))

    def binary(self) -> Value:
        x = self.pick()
        same = [v for v in self.pool if v.shape == x.shape]
        other = self.draw(st.sampled_from(same))
        if self.draw(st.integers(0, 3)) == 0:  # broadcast over the last axis
            other = self.b.const(noise(len(self.pool), x.shape[-1:]))
        pair = [x, other] if self.draw(st.booleans()) else [other, x]
        if self.draw(st.booleans()):
            return self.b.op("MAXIMUM", pair, x.shape)
        return self.b.op(
            "ADD", pair, x.shape, **add_params(sign2=self.draw(st.sampled_from((1, -1))))
        )

    def concatenation(self) -> Value:
        parts = [self.pick() for _ in range(self.draw(st.integers(1, 3)))]
        rows = [self.b.view(v, (1, int(np.prod(v.shape)))) for v in parts]
        total = sum(v.shape[1] for v in rows)
        return self.b.op("CONCATENATION", rows, (1, total), axis=1)

    def slice(self) -> Value:
        x = self.pick()
        begin, stride, size = [0] * 6, [1] * 6, []
        for axis, length in enumerate(x.shape):
            first, last = (self.draw(st.integers(0, length - 1)) for _ in range(2))
            step = self.draw(st.integers(1, 2)) * (1 if first <= last else -1)
            begin[axis], stride[axis] = first, step
            size.append((last - first) // step + 1)
        return self.b.op("SLICE", [x], tuple(size), begin=tuple(begin), stride=tuple(stride))

    def fully_connected(self) -> Value:
        x, channels = self.pick(), self.draw(SIZES)
        weights = self.b.const(noise(self.draw(st.integers(0, 2)), (channels, x.shape[-1])))
        shape = (*x.shape[:-1], channels)
        return self.b.mac("FULLY_CONNECTED", x, weights, shape)

    def view(self) -> Value:
        x = self.pick()
        shape = self.draw(st.sampled_from([x.shape[::-1], (x.shape[0], 1, *x.shape[1:])]))
        return self.b.view(x, shape if len(shape) <= 6 else x.shape[::-1])


@st.composite
def programs(draw: st.DrawFn, max_ops: int = 14) -> Program:
    """A program with 1 to 3 inputs, 1 to `max_ops` operators and 1 to 3 outputs."""
    maker = _Maker(draw)
    for i in range(draw(st.integers(1, 3))):
        shape = tuple(draw(st.lists(SIZES, min_size=1, max_size=4)))
        maker.pool.append(maker.b.input(f"in{i}", shape, draw(st.sampled_from(["int8", "uint8"]))))
    makers = [maker.unary, maker.binary, maker.concatenation, maker.slice, maker.fully_connected]
    count = draw(st.integers(1, max_ops))
    while len(maker.b.ops) < count:
        if draw(st.integers(0, 4)) == 0:
            maker.pool.append(maker.view())
        maker.pool.append(draw(st.sampled_from(makers))())
    written = [v for v in maker.pool if v.owner not in [p.value for p in maker.b.inputs]]
    for i in range(draw(st.integers(1, 3))):
        maker.b.output(f"out{i}", draw(st.sampled_from(written)))
    metadata = draw(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2))
    return maker.b.program(
        **{k.replace("\0", ""): v.replace("\0", "") for k, v in metadata.items()}
    )
