# SPDX-License-Identifier: Apache-2.0
"""Samples with their labels, for networks that are compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..data.samples import Samples, open_samples
from .evaluate import Evaluation, Sample, Tell, evaluate
from .labels import Labels, read_labels
from .metrics import make_metric, usual
from .runners import Port, open_runner


class Labelled:
    """Samples of a network's inputs and, where there are some, labels. `count`: None until the end
    where only the end of a stream tells."""

    def __init__(self, samples: Samples, labels: Labels, limited: bool) -> None:
        self._samples, self.labels, self._limited = samples, labels, limited

    @property
    def count(self) -> int | None:
        return self._samples.count

    @property
    def skipped(self) -> list[str]:
        """Messages of the files that were left out."""
        return self._samples.skipped

    def __iter__(self) -> Iterator[Sample]:
        for i, (name, feed) in enumerate(self._samples.named()):
            place = None if self._limited or self.skipped else i
            yield feed, self.labels.of(name, place) if self.labels else None


def open_labelled(
    where: str,
    inputs: Sequence[Port],
    *,
    preprocess: str | None = None,
    labels: str = "",
    classes: Sequence[str] = (),
    limit: int | None = None,
    skip_bad: bool = False,
) -> Labelled:
    """The samples at `where` (data.samples.open_samples) with the labels of the file `labels`, or
    those that lie there (labels.read_labels)."""
    samples = open_samples(where, inputs, preprocess, limit, skip_bad=skip_bad)
    return Labelled(samples, read_labels(where, labels, classes), limit is not None)


def classified(
    source: str,
    integers: bytes,
    where: str,
    *,
    preprocess: str | None = None,
    limit: int | None = None,
    tell: Tell | None = None,
) -> Evaluation:
    """Top-1, where there are labels, and agreement of a float network and the .eqm made of it.

    Raises ArgumentError unless its first output are scores of classes.
    """
    runners = [("float", open_runner(source)), ("integers", open_runner(integers, name=".eqm"))]
    first = runners[0][1]
    classes = runners[1][1].outputs[0].labels
    data = open_labelled(
        where, first.inputs, preprocess=preprocess, limit=limit, classes=classes, skip_bad=True
    )
    names = [n for n in usual(first.outputs, bool(data.labels), True) if n in ("top1", "agreement")]
    return evaluate(runners, data, [make_metric(n) for n in names], tell, data.count)
