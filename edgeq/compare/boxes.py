# SPDX-License-Identifier: Apache-2.0
"""Boxes that a detector finds, and which of two lists mean the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import ArgumentError
from .runners import Array

FORMATS = ("xyxy", "yxyx", "cxcywh", "xywh")


@dataclass(frozen=True)
class Found:
    """`corners` (M, 4): left, top, right, bottom; the best score first."""

    corners: Array
    classes: Array
    scores: Array


@dataclass(frozen=True)
class Detections:
    """Which outputs are boxes (..., N, 4) or (4, N), scores (..., N), (N, C) or (C, N) and, where
    a network has them, classes (..., N).

    Boxes below `score` are left out, and of those of one class that overlap by more than `nms` the
    lesser ones; 0 leaves all.
    """

    boxes: str
    scores: str
    classes: str = ""
    form: str = "xyxy"
    score: float = 0.25
    nms: float = 0.45
    most: int = 1000

    def __post_init__(self) -> None:
        if self.form not in FORMATS:
            raise ArgumentError(f"--format is one of {', '.join(FORMATS)}, not {self.form!r}")

    def find(self, outputs: Mapping[str, Array]) -> Found:
        """What is in a network's outputs."""
        boxes, scores = (self._output(outputs, n) for n in (self.boxes, self.scores))
        boxes = boxes.reshape(boxes.shape[-2:]) if boxes.ndim > 2 else boxes
        if boxes.ndim != 2 or boxes.size % 4 or 4 not in boxes.shape:
            raise ArgumentError(
                f"boxes have the shape (..., N, 4), {self.boxes!r} is {boxes.shape}"
            )
        boxes = boxes.T if boxes.shape[1] != 4 else boxes
        count = len(boxes)
        if scores.size % max(count, 1):
            raise ArgumentError(f"{self.scores!r} is {scores.shape} for {count} boxes")
        each = scores.size // max(count, 1)
        if each > 1 and scores.shape[-1] == count and scores.shape[-1] != each:
            scores = scores.reshape(each, count).T
        scores = scores.reshape(count, each)
        classes = scores.argmax(1) if each > 1 else np.zeros(count, np.int64)
        if self.classes:
            classes = np.round(self._output(outputs, self.classes).reshape(-1)).astype(np.int64)
            if len(classes) != count:
                raise ArgumentError(f"{self.classes!r} has {len(classes)} classes, not {count}")
        best = scores.max(1) if count else np.zeros(0)
        order = np.argsort(-best, kind="stable")
        order = order[best[order] >= self.score][: self.most]
        found = Found(self._corners(boxes[order]), classes[order], best[order])
        return self._suppressed(found) if self.nms > 0 else found

    def given(self, label: Array) -> Found:
        """Boxes that are labels: class and four numbers each, in the same format."""
        if label.shape[1] != 5:
            raise ArgumentError(f"boxes as labels have the shape (M, 5), not {label.shape}")
        return Found(self._corners(label[:, 1:]), label[:, 0].astype(np.int64), np.ones(len(label)))

    def _output(self, outputs: Mapping[str, Array], name: str) -> Array:
        if name not in outputs:
            raise ArgumentError(f"there is no output {name!r} among {list(outputs)}")
        return np.asarray(outputs[name], np.float64)

    def _corners(self, boxes: Array) -> Array:
        a, b, c, d = np.asarray(boxes, np.float64).reshape(-1, 4).T
        if self.form == "yxyx":
            a, b, c, d = b, a, d, c
        elif self.form == "cxcywh":
            a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
        elif self.form == "xywh":
            c, d = a + c, b + d
        return np.stack([a, b, c, d], 1)

    def _suppressed(self, found: Found) -> Found:
        keep: list[int] = []
        for i in range(len(found.classes)):
            rivals = [k for k in keep if found.classes[k] == found.classes[i]]
            if not rivals or overlaps(found.corners[i], found.corners[rivals]).max() <= self.nms:
                keep.append(i)
        return Found(found.corners[keep], found.classes[keep], found.scores[keep])


def overlaps(box: Array, others: Array) -> Array:
    """Intersection over union of a box (4,) with others (M, 4)."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    both = np.clip(high - low, 0, None).prod(1)
    areas = np.clip(others[:, 2:] - others[:, :2], 0, None).prod(1)
    either = np.clip(box[2:] - box[:2], 0, None).prod() + areas - both
    return np.asarray(both / np.where(either > 0, either, 1))


def matched(mine: Found, other: Found, least: float) -> list[float]:
    """IoU of each of `mine` that has one of `other`: the best of its class that is still free."""
    free = np.ones(len(other.classes), bool)
    found = []
    for box, kind in zip(mine.corners, mine.classes):
        fits = np.flatnonzero(free & (other.classes == kind))
        if not len(fits):
            continue
        shares = overlaps(box, other.corners[fits])
        best = int(shares.argmax())
        if shares[best] >= least:
            free[fits[best]] = False
            found.append(float(shares[best]))
    return found
