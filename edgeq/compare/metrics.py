# SPDX-License-Identifier: Apache-2.0
"""What a network's outputs are worth: against labels, or against the float network's.

Every metric makes a few sums of each sample, and numbers of the sums over samples, so that any
metric can be resampled.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import ArgumentError
from .boxes import Detections, matched
from .runners import Array
from .statistics import Floats

Outputs = Mapping[str, Array]
BEST = 99.0  # dB without any error


class Metric(Protocol):
    """`names` of the numbers that `values` makes of sums (K,), whose last is the number of samples
    where they are a `proportion` of those. `needs`: "label", "float", "both" (a label where there
    is one, else the float network's outputs) or "any". `better`: "higher", "lower" or ""."""

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def needs(self) -> str: ...
    @property
    def proportion(self) -> bool: ...
    @property
    def better(self) -> str: ...

    def sums(self, found: Outputs, reference: Outputs | None, label: Any) -> Floats: ...

    def values(self, sums: Floats) -> list[float]: ...


def scores_of(outputs: Outputs, name: str = "") -> Array:
    """The scores of classes: the output `name`, else the first one, (C,)."""
    if name and name not in outputs:
        raise ArgumentError(f"there is no output {name!r} among {list(outputs)}")
    y = outputs[name] if name else next(iter(outputs.values()))
    if y.ndim == 0 or y.size != y.shape[-1] or y.size < 2:
        raise ArgumentError(
            f"scores of classes have the shape (1, C), an output is {y.shape}; name another one "
            "by --output, or choose another --metric"
        )
    return y.reshape(-1)


def tied(outputs: Outputs) -> bool:
    """Whether several classes share the best score of the first output."""
    y = next(iter(outputs.values()))
    return y.ndim > 0 and y.size == y.shape[-1] > 1 and bool((y == y.max()).sum() > 1)


def rank(scores: Array, label: int) -> int:
    """How many classes come before this one; among equal scores the first class wins, as in
    argmax."""
    if not 0 <= label < len(scores):
        raise ArgumentError(f"the label {label} is not a class: the network has {len(scores)}")
    own = scores[label]
    return int((scores > own).sum() + (scores[:label] == own).sum())


@dataclass(frozen=True)
class Top:
    """The share of samples whose class is among the k best."""

    k: int
    output: str = ""
    needs: str = "label"
    proportion: bool = True
    better: str = "higher"

    @property
    def names(self) -> tuple[str, ...]:
        return (f"top{self.k}",)

    def sums(self, found: Outputs, reference: Outputs | None, label: Any) -> Floats:
        scores = scores_of(found, self.output)
        if np.ndim(label):
            raise ArgumentError("top1 and top5 need one class a sample as its label")
        return np.array([float(rank(scores, int(label)) < self.k), 1.0])

    def values(self, sums: Floats) -> list[float]:
        return [float(sums[0] / max(sums[1], 1))]


@dataclass(frozen=True)
class Agreement:
    """The share of samples whose best class is that of the float network."""

    output: str = ""
    names: tuple[str, ...] = ("agreement",)
    needs: str = "float"
    proportion: bool = True
    better: str = "higher"

    def sums(self, found: Outputs, reference: Outputs | None, label: Any) -> Floats:
        assert reference is not None
        a, b = scores_of(found, self.output), scores_of(reference, self.output)
        return np.array([float(np.argmax(a) == np.argmax(b)), 1.0])

    def values(self, sums: Floats) -> list[float]:
        return [float(sums[0] / max(sums[1], 1))]


def _errors(found: Outputs, reference: Outputs | None, output: str) -> tuple[float, float, int]:
    """Sums of squares of the float network's outputs and of the errors, how many there are."""
    assert reference is not None
    names = [output] if output else [n for n, y in reference.items() if y.dtype.kind == "f"]
    signal, error, count = 0.0, 0.0, 0
    for name in names:
        if name not in reference:
            raise ArgumentError(f"there is no output {name!r} among {list(reference)}")
        a, b = (np.asarray(x[name], np.float64) for x in (reference, found))
        signal, error = signal + float((a * a).sum()), error + float(((a - b) ** 2).sum())
        count += a.size
    if not count:
        raise ArgumentError("the network has no output of real numbers to compare")
    return signal, error, count


@dataclass(frozen=True)
class MeanSquaredError:
    """Mean squared difference from the float network, over all outputs of real numbers."""

    output: str = ""
    names: tuple[str, ...] = ("mse",)
    needs: str = "float"
    proportion: bool = False
    better: str = "lower"

    def sums(self, found: Outputs, reference: Outputs | None, label: Any) -> Floats:
        _, error, count = _errors(found, reference, self.output)
        return np.array([error / count, 1.0])

    def values(self, sums: Floats) -> list[float]:
        return [float(sums[0] / max(sums[1], 1))]


@dataclass(frozen=True)
class SignalToNoise:
    """10 log10 of the squares of the float network's outputs to those of the differences, in dB."""

    output: str = ""
    names: tuple[str, ...] = ("sqnr",)
    needs: str = "float"
    proportion: bool = False
    better: str = "higher"

    def sums(self, found: Outputs, reference: Outputs | None, label: Any) -> Floats:
        signal, error, _ = _errors(found, reference, self.output)
        return np.array([signal, error])

    def values(self, sums: Floats) -> list[float]:
        signal, error = float(sums[0]), float(sums[1])
        if error <= 0:
            return [BEST]
        return [max(-BEST, min(BEST, 10 * math.log10(max(signal, 1e-300) / error)))]


@dataclass(frozen=True)
class MaskIoU:
    """Intersection over union of the classes of pixels, mean over the classes that occur.

    An output of real numbers has classes along `axis` (one channel: foreground where it is above
    `threshold`); one of integers holds them. Against the label if that is a mask, else against the
    float network's mask.
    """

    output: str = ""
    axis: int = -1
    threshold: float = 0.5
    classes: int = 256
    names: tuple[str, ...] = ("mask-iou",)
    needs: str = "both"
    proportion: bool = False
    better: str = "higher"

    def mask(self, outputs: Outputs) -> Array:
        if self.output and self.output not in outputs:
            raise ArgumentError(f"there is no output {self.output!r} among {list(outputs)}")
        y = outputs[self.output] if self.output else next(iter(outputs.values()))
        if y.dtype.kind in "iub":
            return y.astype(np.int64)
        if not -y.ndim <= self.axis < y.ndim:
            raise ArgumentError(f"--class-axis {self.axis}: the output is {y.shape}")
        if y.shape[self.axis] == 1:
            return (y > self.threshold).squeeze(self.axis).astype(np.int64)
        return np.asarray(y.argmax(self.axis), np.int64)

    def sums(self, found: Outputs, reference: Outputs | None, label: Any) -> Floats:
        mine = self.mask(found)
        if label is not None and np.ndim(label) >= 2:
            other = np.asarray(label).astype(np.int64)
        elif reference is not None:
            other = self.mask(reference)
        else:
            raise ArgumentError("mask-iou needs masks as labels, or --float")
        if mine.size != other.size:
            raise ArgumentError(f"a mask of {other.shape} beside one of {mine.shape}")
        a, b = mine.reshape(-1), other.reshape(-1)
        known = (b >= 0) & (b < 255)  # 255: not to be counted, as in Pascal VOC
        a, b = a[known], b[known]
        if max(a.max(initial=0), b.max(initial=0)) >= self.classes or a.min(initial=0) < 0:
            raise ArgumentError(f"mask-iou knows classes from 0 to {self.classes - 1}")
        both = np.bincount(a[a == b], minlength=self.classes)
        either = np.bincount(a, minlength=self.classes) + np.bincount(b, minlength=self.classes)
        sums: Floats = np.concatenate([both, either - both]).astype(np.float64)
        return sums

    def values(self, sums: Floats) -> list[float]:
        both, either = sums[: self.classes], sums[self.classes :]
        used = either > 0
        return [float((both[used] / either[used]).mean()) if used.any() else float("nan")]


@dataclass(frozen=True)
class Boxes:
    """F1 of detections and the mean IoU of those that match: against boxes as labels, else against
    the float network's."""

    detections: Detections
    iou: float = 0.5
    names: tuple[str, ...] = ("f1", "box-iou")
    needs: str = "both"
    proportion: bool = False
    better: str = "higher"

    def sums(self, found: Outputs, reference: Outputs | None, label: Any) -> Floats:
        mine = self.detections.find(found)
        if label is not None and np.ndim(label) == 2:
            other = self.detections.given(label)
        elif reference is not None:
            other = self.detections.find(reference)
        else:
            raise ArgumentError("detections need boxes as labels, or --float")
        overlaps = matched(mine, other, self.iou)
        hits = len(overlaps)
        wrong, missed = len(mine.classes) - hits, len(other.classes) - hits
        return np.array([hits, wrong, missed, sum(overlaps)], np.float64)

    def values(self, sums: Floats) -> list[float]:
        hits, wrong, missed, overlap = (float(v) for v in sums)
        whole = 2 * hits + wrong + missed
        nan = float("nan")
        return [2 * hits / whole if whole else nan, overlap / hits if hits else nan]


class Python:
    """A function of the user's: (float outputs, this network's outputs, label) -> number or dict.

    The mean over the samples. Outputs are dicts by name; float outputs are None without --float.
    """

    needs, proportion, better = "any", False, ""

    def __init__(self, where: str) -> None:
        path, _, name = where.rpartition(":")
        self._function = _load(Path(path), name)
        self.where = where
        self.names: tuple[str, ...] = ()

    def sums(self, found: Outputs, reference: Outputs | None, label: Any) -> Floats:
        given = None if reference is None else dict(reference)
        try:
            result = self._function(given, dict(found), label)
        except Exception as error:
            raise ArgumentError(f"{self.where}: {type(error).__name__}: {error}") from error
        default = self.where.rpartition(":")[2]
        numbers = result if isinstance(result, Mapping) else {default: result}
        try:
            row = {str(key): float(value) for key, value in numbers.items()}
        except (TypeError, ValueError):
            raise ArgumentError(
                f"{self.where}: it must return a number or a dict of numbers, not {result!r}"
            ) from None
        if self.names not in ((), tuple(row)):
            raise ArgumentError(f"{self.where}: first {self.names}, then {tuple(row)}")
        self.names = tuple(row)
        return np.array([*row.values(), 1.0])

    def values(self, sums: Floats) -> list[float]:
        return [float(v / max(sums[-1], 1)) for v in sums[:-1]]


def _load(path: Path, name: str) -> Callable[..., Any]:
    if not path.is_file():
        raise ArgumentError(f"{path}: no such file; a metric is FILE.py:function")
    spec = importlib.util.spec_from_file_location(f"edgeq_metric_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ArgumentError(f"{path}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.parent))
    function = getattr(module, name, None)
    if not callable(function):
        raise ArgumentError(f"{path}: there is no function {name!r} in it")
    try:
        inspect.signature(function).bind(None, {}, None)
    except TypeError as error:
        raise ArgumentError(
            f"{path}: {name} must take (float_outputs, int8_outputs, label): {error}"
        ) from None
    loaded: Callable[..., Any] = function
    return loaded


NAMES = ("top1", "top5", "agreement", "mask-iou", "mse", "sqnr", "detections")


def make_metric(
    name: str,
    *,
    output: str = "",
    axis: int = -1,
    threshold: float = 0.5,
    detections: Detections | None = None,
) -> Metric:
    """A metric by its name, or FILE.py:function. Raises ArgumentError."""
    if ".py:" in name:
        return Python(name)
    if name == "detections":
        if detections is None:
            raise ArgumentError("--metric detections needs --boxes NAME and --scores NAME")
        return Boxes(detections)
    if name == "top1":
        return Top(1, output)
    if name == "top5":
        return Top(5, output)
    if name == "agreement":
        return Agreement(output)
    if name == "mask-iou":
        return MaskIoU(output, axis, threshold)
    if name == "mse":
        return MeanSquaredError(output)
    if name == "sqnr":
        return SignalToNoise(output)
    raise ArgumentError(f"no metric {name!r}; {', '.join(NAMES)} or FILE.py:function")


def usual(outputs: Sequence[Any], labelled: bool, has_float: bool) -> list[str]:
    """Metrics for a network of these outputs (ports) where the user names none."""
    found = []
    shape: tuple[int, ...] = tuple(outputs[0].shape) if outputs else ()
    is_classes = len(shape) > 0 and math.prod(shape) == shape[-1] > 1
    if is_classes and labelled:
        found += ["top1", "top5"] if shape[-1] > 5 else ["top1"]
    if has_float:
        found += ["agreement", "sqnr"] if is_classes else ["sqnr", "mse"]
    return found
