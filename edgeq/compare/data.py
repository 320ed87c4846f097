# SPDX-License-Identifier: Apache-2.0
"""Samples with their labels, for networks that are compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..data.samples import Samples, open_samples
from .evaluate import Sample
from .labels import Labels, read_labels
from .runners import Port


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
