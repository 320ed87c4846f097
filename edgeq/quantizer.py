# SPDX-License-Identifier: Apache-2.0
"""Float networks to quantized graphs, judged by the runtime itself: a part of the converter."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .data.samples import Samples, open_samples, track
from .errors import ArgumentError, UnsupportedError
from .format.plan import plan
from .format.writer import write_program
from .runtime.model import Model
from .runtime.session import Session

if TYPE_CHECKING:
    from typing_extensions import TypeAlias

    from .data.checks import Finding, Observer
    from .data.preprocess import Preprocess
    from .data.samples import Where
    from .format.program import Array
    from .ir.graph import Graph, Tensor
    from .quantize.calibrate import Feed, Options, Quantized, Run, Tell

    Pictures: TypeAlias = "Preprocess | str | None"

INVENTED = 32  # inputs where there are none to calibrate with


@dataclass(frozen=True)
class Calibrated:
    """A float network in integers, and what looked wrong about the samples."""

    quantized: Quantized
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def calibrate(
    graph: Graph,
    where: Where,
    limit: int | None,
    preprocess: Pictures,
    options: Options,
    tell: Tell,
    skip_bad: bool = False,
) -> Calibrated:
    """Quantizes an imported float graph by samples from `where` (data.samples.open_samples), or, if
    that is ``"none"``, by inputs made up here.

    Raises ArgumentError for samples that do not fit, UnsupportedError for what cannot be run.
    """
    _return_memory()
    from .data import scaling
    from .data.checks import Observer, expected_ranges
    from .passes import run_float_passes
    from .passes.layout import layout
    from .quantize.calibrate import quantize
    from .quantize.execute import FloatRunner

    float_graph = run_float_passes(graph)
    _check_float(float_graph)
    notes: tuple[str, ...] = ()
    if isinstance(where, str) and where == "none":
        samples = open_samples(_invented(float_graph, preprocess), float_graph.inputs, preprocess)
        notes = (
            f"calibrated without data, on {INVENTED} invented inputs: ranges are guesses, "
            "real samples will do better",
        )
    else:
        samples = open_samples(where, float_graph.inputs, preprocess, limit, skip_bad=skip_bad)
    observer = Observer(float_graph.inputs, expected_ranges(graph))
    walk = _Walk(samples, observer, tell)
    quantized = quantize(float_graph, walk, simulate, options, tell, samples.count)
    findings = [] if notes else observer.findings(walk.skipped)
    if not notes and options.effort != "fast":

        def runner(graph: Graph, watched: Sequence[Tensor]) -> FloatRunner:
            return FloatRunner(graph, watched)

        findings += scaling.judge(layout(graph.copy()), samples, runner)
    return Calibrated(quantized, tuple(findings), notes)


class _Walk:
    """Samples to walk through more than once; the first walk is observed and told of."""

    def __init__(self, samples: Samples, observer: Observer, tell: Tell) -> None:
        self._samples, self._observer, self._tell = samples, observer, tell
        self._first = True
        self.skipped: list[str] = []

    def __iter__(self) -> Iterator[Feed]:
        if not self._first:
            yield from self._samples
            return
        self._first = False
        for name, feed in track(self._samples, self._tell, "calibrating", 0.1, 0.5):
            self._observer.add(feed, name)
            yield feed
        self.skipped = list(self._samples.skipped)


def _return_memory() -> None:
    """Makes the C library give large arrays back as soon as they are freed.

    By default glibc learns from the activations that come and go with each sample to keep blocks
    of up to 32 MB, which are of no use once something small lies between them: half of the peak.
    """
    m_mmap_threshold, bytes_ = -3, 1 << 16
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).mallopt(m_mmap_threshold, bytes_)


def _check_float(graph: Graph) -> None:
    """Parts that are quantized already cannot be calibrated with the rest."""
    if graph.states:
        raise UnsupportedError(
            f"state {graph.states[0].name!r}: float networks that keep something from run to run"
            " cannot be calibrated; make the state an input and an output"
        )
    held = [n for n in graph.nodes if n.op in ("QUANTIZE", "DEQUANTIZE")]
    if held:
        raise UnsupportedError(
            f"{held[0].op} {held[0].name!r}: the network is quantized in part; calibrate the float "
            "network that it was made from"
        )


def _invented(graph: Graph, preprocess: Pictures) -> Callable[[], Iterable[Feed]]:
    """Smooth noise: as pictures where it is known what these look like, else of unit variance."""
    from .data.preprocess import Preprocess, picture_shape

    wanted = Preprocess.parse(preprocess) if isinstance(preprocess, str) else preprocess

    def made() -> Iterable[Feed]:
        rng = np.random.default_rng(0)
        for _ in range(INVENTED):
            feed: dict[str, Array] = {}
            for t in graph.inputs:
                if t.dtype != "float32":
                    raise ArgumentError(f"input {t.name!r} is {t.dtype}: give samples of it")
                x = _smooth(t.shape, rng)
                if wanted is not None:
                    height, width, channels, first = picture_shape(t.shape)
                    del height, width
                    shape = (1, -1, 1, 1) if first else (1, 1, 1, -1)
                    mean = np.resize(np.array(wanted.mean), channels).reshape(shape)
                    std = np.resize(np.array(wanted.std), channels).reshape(shape)
                    x = (np.clip(127.5 + 64 * x, 0, 255) - mean) / std
                feed[t.name] = x.astype(np.float32)
            yield feed

    return made


def _smooth(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Noise whose neighbours are alike, with a mean of 0 and a variance of 1."""
    x = rng.normal(size=shape)
    for axis, size in enumerate(shape):
        if size >= 16:
            k = size // 8
            sums = np.cumsum(np.concatenate([x, np.take(x, range(k), axis)], axis), axis)
            x = x / 4 + (np.take(sums, range(k, size + k), axis) - np.take(sums, range(size), axis))
    return np.asarray((x - x.mean()) / max(float(x.std()), 1e-6))


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
