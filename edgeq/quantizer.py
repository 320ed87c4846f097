# SPDX-License-Identifier: Apache-2.0
"""Float networks to quantized graphs, judged by the runtime itself: a part of the converter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .format.plan import plan
from .format.writer import write_program
from .runtime.model import Model
from .runtime.session import Session

if TYPE_CHECKING:
    from .format.program import Array
    from .ir.graph import Graph, Tensor
    from .quantize.calibrate import Feed, Options, Quantized, Run, Tell


def quantize_network(
    graph: Graph,
    samples: Iterable[Feed],
    options: Options,
    tell: Tell,
    expected: int | None = None,
) -> Quantized:
    """The quantized graph of a float graph that went through the float passes."""
    from .quantize.calibrate import quantize

    return quantize(graph, samples, simulate, options, tell, expected)


def simulate(graph: Graph, watch: Sequence[Tensor]) -> Run:
    """Runs a quantized graph as the device will: the values of `watch`, then the outputs."""
    from .passes import run_passes
    from .quantize.lower import lower

    outputs = [*watch, *graph.outputs]
    dtypes = ["float32" if t.qparams is not None else t.dtype for t in watch]
    watched = replace(graph, outputs=outputs, output_dtypes=[*dtypes, *graph.output_dtypes])
    program = lower(run_passes(watched), "native")
    session = Session(Model(write_program(program, memory=plan(program))))
    names = [t.name for t in graph.inputs]

    def run(feed: Feed) -> list[Array]:
        return [np.array(y) for y in session.run(*[feed[name] for name in names])]

    return run
