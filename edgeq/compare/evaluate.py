# SPDX-License-Identifier: Apache-2.0
"""Networks side by side on the same samples: what they get right, and how long they take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..errors import ArgumentError
from .metrics import Metric, Outputs, tied
from .runners import Array, Match, Runner, match_ports
from .statistics import Floats, bootstrap, wilson

Tell = Callable[[str, float], None]
Sample = tuple[dict[str, Array], Any]  # arrays by the inputs' names; a label or None


@dataclass(frozen=True)
class Number:
    """A metric's value with its 95% interval; `drop`: the float network's less this one's, with its
    own interval (of the same samples, resampled together), where both have it."""

    metric: str
    value: float
    low: float
    high: float
    samples: int
    better: str
    drop: float | None = None
    drop_low: float | None = None
    drop_high: float | None = None


@dataclass
class Result:
    """What one network reached. `role`: "float", "integers" or "other". Latency of a run in
    nanoseconds: median and least over the samples. `ties`: samples whose best score several classes
    share."""

    name: str
    role: str
    runtime: str
    numbers: list[Number] = field(default_factory=list)
    median_ns: float = 0.0
    minimum_ns: float = 0.0
    ties: int = 0

    def number(self, metric: str) -> Number | None:
        return next((n for n in self.numbers if n.metric == metric), None)


@dataclass
class Evaluation:
    """`samples` were run, `labelled` of them have a label."""

    samples: int
    labelled: int
    results: list[Result]

    def as_json(self) -> dict[str, Any]:
        """What json.dumps takes; numbers that do not exist are None."""
        found: dict[str, Any] = _plain(asdict(self))
        return found

    def of(self, role: str) -> Result | None:
        return next((r for r in self.results if r.role == role), None)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


class _Lane:
    """A network, how its ports fit the first one's, and what it has reached so far."""

    def __init__(self, runner: Runner, role: str, first: Runner) -> None:
        self.runner, self.role = runner, role
        what = runner.name
        self.inputs: list[Match] = match_ports(runner.inputs, first.inputs, f"{what}: inputs")
        self.outputs: list[Match] = match_ports(first.outputs, runner.outputs, f"{what}: outputs")
        self.ports, self.names = first.outputs, [p.name for p in first.outputs]
        self.times: list[int] = []
        self.sums: dict[int, list[Floats]] = {}
        self.samples: dict[int, list[int]] = {}
        self.ties = 0

    def run(self, given: Sequence[Array]) -> Outputs:
        arrays = [
            np.ascontiguousarray(m.take(given, p)) for m, p in zip(self.inputs, self.runner.inputs)
        ]
        begin = time.perf_counter_ns()
        found = self.runner.run(arrays)
        self.times.append(time.perf_counter_ns() - begin)
        shown = [m.take(found, p) for m, p in zip(self.outputs, self.ports)]
        return {name: np.asarray(y) for name, y in zip(self.names, shown)}


def evaluate(
    runners: Sequence[tuple[str, Runner]],
    samples: Iterable[Sample],
    metrics: Sequence[Metric],
    tell: Tell | None = None,
    expected: int | None = None,
) -> Evaluation:
    """Runs every sample through all networks, one after the other in an order that rotates.

    `runners`: (role, network); samples have the names and shapes of the first one's inputs, outputs
    its names. Its role is "float" if there is a float network.
    Raises ArgumentError where ports, labels or metrics do not fit.
    """
    say = tell or (lambda *_: None)
    first = runners[0][1]
    lanes = [_Lane(runner, role, first) for role, runner in runners]
    has_float = lanes[0].role == "float"
    for metric in metrics:
        if metric.needs == "float" and not has_float:
            raise ArgumentError(f"{_name(metric)} compares with a float network: give --float")
    count = labelled = 0
    for i, (feed, label) in enumerate(samples):
        if expected:
            say(f"sample {i + 1} of {expected}", i / expected)
        else:
            say(f"sample {i + 1}", 0.0)
        given = [feed[p.name] for p in first.inputs]
        if i == 0:
            for lane in lanes:  # what a first run prepares is not timed
                lane.run(given)
                lane.times.clear()
        outputs: list[Outputs] = [{}] * len(lanes)
        for k in range(len(lanes)):
            turn = (i + k) % len(lanes)
            outputs[turn] = lanes[turn].run(given)
        reference = outputs[0] if has_float else None
        for lane, found in zip(lanes, outputs):
            lane.ties += tied(found)
            _score(lane, metrics, found, reference, label, i)
        count, labelled = i + 1, labelled + (label is not None)
    if not count:
        raise ArgumentError("there is not a single sample")
    for k, metric in enumerate(metrics):
        if not any(k in lane.sums for lane in lanes):
            raise ArgumentError(f"{_name(metric)} needs labels, and no sample has one")
    say("done", 1.0)
    return Evaluation(count, labelled, [_result(lane, lanes[0], metrics) for lane in lanes])


def _name(metric: Metric) -> str:
    return ", ".join(metric.names) or getattr(metric, "where", "a metric")


def _score(
    lane: _Lane,
    metrics: Sequence[Metric],
    found: Outputs,
    reference: Outputs | None,
    label: Any,
    index: int,
) -> None:
    for k, metric in enumerate(metrics):
        is_float = lane.role == "float"
        if metric.needs == "label" and label is None:
            continue
        if is_float and (metric.needs == "float" or (metric.needs == "both" and label is None)):
            continue
        lane.sums.setdefault(k, []).append(metric.sums(found, reference, label))
        lane.samples.setdefault(k, []).append(index)


def _result(lane: _Lane, first: _Lane, metrics: Sequence[Metric]) -> Result:
    result = Result(lane.runner.name, lane.role, lane.runner.kind, ties=lane.ties)
    result.median_ns = float(statistics.median(lane.times))
    result.minimum_ns = float(min(lane.times))
    for k, metric in enumerate(metrics):
        if k not in lane.sums:
            continue
        rows = np.array(lane.sums[k])
        paired = None
        if lane is not first and first.role == "float" and first.samples.get(k) == lane.samples[k]:
            paired = np.array(first.sums[k])
        result.numbers += _numbers(metric, rows, paired)
    return result


def _numbers(metric: Metric, rows: Floats, paired: Floats | None) -> list[Number]:
    made = []
    width = rows.shape[1]
    for j, (name, value) in enumerate(zip(metric.names, metric.values(rows.sum(0)))):
        if metric.proportion:
            low, high = wilson(float(rows[:, j].sum()), len(rows))
        else:
            low, high = bootstrap(rows, lambda s, j=j: metric.values(s)[j])  # type: ignore[misc]
        drop: tuple[float | None, float | None, float | None] = (None, None, None)
        if paired is not None:

            def fall(sums: Floats, j: int = j) -> float:
                return metric.values(sums[:width])[j] - metric.values(sums[width:])[j]

            both = np.concatenate([paired, rows], 1)
            drop = (fall(both.sum(0)), *bootstrap(both, fall))
        made.append(Number(name, value, low, high, len(rows), metric.better, *drop))
    return made


def too_large_a_drop(evaluation: Evaluation, percent: float) -> str:
    """Why the integers miss --max-drop, as the beginning of a sentence; "" if they do not.

    The drop of top-1 where there are labels, else the share of samples whose best class is not the
    float network's, in percentage points. Raises ArgumentError where there is neither.
    """
    found = evaluation.of("integers")
    assert found is not None
    top, agreement = found.number("top1"), found.number("agreement")
    if top is not None and top.drop is not None:
        lost = 100 * top.drop
        what = f"top-1 falls by {lost:.2f} percentage points to {top.value:.2%}"
        count = top.samples
    elif agreement is not None:
        lost = 100 * (1 - agreement.value)
        what = f"{lost:.2f}% of the best classes are not the float network's"
        count = agreement.samples
    else:
        raise ArgumentError("--max-drop needs a network whose output are scores of classes")
    if lost <= percent:
        return ""
    return f"{what} (over {count} samples), --max-drop allows {percent:g}"
