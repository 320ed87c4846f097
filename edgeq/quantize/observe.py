# SPDX-License-Identifier: Apache-2.0
"""What calibration keeps of the values that it sees; its size does not grow with their number.

Of every tensor the extremes and a histogram over the values' leading 16 bits, whose bins need no
range to be known. Of the inputs of a layer with weights the first two moments of its windows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..ir.graph import Array, Node, Tensor

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]

BINS = 1 << 16
SAMPLED = 1 << 13  # elements of a tensor that a sample adds to the histogram, about
LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
MAX_WINDOW = 2304  # weights of a channel up to which second moments are kept
MAX_MOMENTS = 16 << 20  # numbers in all second moments together
WINDOWS = 2048  # of a layer, from all samples together, about
_RUN = 8  # neighbours in a row that are taken together
_BATCH = 96


@dataclass
class Observed:
    """Extremes of a tensor, of each sample in turn too, and how often which value came.

    `histogram` counts by the upper half of a float32's bits. `channel_low` and `channel_high` (C,)
    are those of the last axis, None for a tensor of less than two dimensions.
    """

    low: float = np.inf
    high: float = -np.inf
    samples: int = 0
    mean_low: float = 0.0  # means of the samples' extremes
    mean_high: float = 0.0
    finite: bool = True
    channel_low: Float32s | None = None
    channel_high: Float32s | None = None
    histogram: npt.NDArray[np.uint32] = field(default_factory=lambda: np.zeros(BINS, np.uint32))

    def add(self, x: Array) -> None:
        x = np.asarray(x, np.float32)
        flat = np.ravel(x, order="K")  # as it lies in memory
        low, high = self._extremes(x)
        if not (np.isfinite(low) and np.isfinite(high)):
            self.finite = False
            return
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.samples += 1
        self.mean_low += (low - self.mean_low) / self.samples
        self.mean_high += (high - self.mean_high) / self.samples
        step = max(1, flat.size // SAMPLED)
        if step > 1:
            step |= 1  # odd: meets every channel
        bits = np.ascontiguousarray(flat[self.samples % step :: step]).view(np.uint32) >> 16
        self.histogram += np.bincount(bits.astype(np.int64), minlength=BINS).astype(np.uint32)

    def _extremes(self, x: Float32s) -> tuple[float, float]:
        if x.ndim < 2:
            return float(x.min()), float(x.max())
        axes = tuple(range(x.ndim - 1))
        lows, highs = x.min(axes), x.max(axes)
        if self.channel_low is None or self.channel_high is None:
            self.channel_low, self.channel_high = lows, highs
        else:
            np.minimum(self.channel_low, lows, out=self.channel_low)
            np.maximum(self.channel_high, highs, out=self.channel_high)
        return float(lows.min()), float(highs.max())

    def values(self) -> tuple[Float64s, Float64s]:
        """The values that came, in rising order, and the share of each."""
        used = np.flatnonzero(self.histogram)
        # the middle of a bin; zero is a bin of its own but for the smallest numbers there are
        middle = np.where(used & 0x7FFF, (used.astype(np.uint32) << 16) + 0x8000, used << 16)
        x = middle.astype(np.uint32).view(np.float32).astype(np.float64)
        x = np.clip(x, self.low, self.high)
        order = np.argsort(x, kind="stable")
        counts = self.histogram[used][order].astype(np.float64)
        return x[order], counts / max(counts.sum(), 1.0)


@dataclass
class Moments:
    """Of the windows of a layer: how many, their mean and mean products.

    `mean` is (K,), for DEPTHWISE_CONV_2D (C, taps); `products` (K, K) or (C, taps, taps), or None
    where that would be too large.
    """

    node: Node
    keep_products: bool
    count: int = 0
    total: Float64s | None = None
    products: Float32s | None = None
    _waiting: list[Float32s] = field(default_factory=list)

    def add(self, x: Array, runs: int, rng: np.random.Generator) -> None:
        self._waiting.append(_windows(self.node, x, runs, rng))
        if sum(len(w) for w in self._waiting) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Takes what waits into the sums; before they are read."""
        if not self._waiting:
            return
        rows = np.concatenate(self._waiting)
        self._waiting.clear()
        self.count += len(rows)
        total = rows.sum(0, dtype=np.float64)
        self.total = total if self.total is None else self.total + total
        if not self.keep_products:
            return
        if rows.ndim == 2:
            products = rows.T @ rows
        else:  # (rows, C, taps)
            by_channel = rows.transpose(1, 0, 2)
            products = by_channel.transpose(0, 2, 1) @ by_channel
        if self.products is None:
            self.products = products
        else:
            self.products += products

    @property
    def mean(self) -> Float64s:
        assert self.total is not None
        return self.total / self.count

    def covariance(self) -> Float64s | None:
        """Of the windows' elements, about their means."""
        if self.products is None:
            return None
        mean = self.mean
        return self.products / np.float64(self.count) - mean[..., :, None] * mean[..., None, :]


class Statistics:
    """Observes tensors and layers of a float graph sample by sample."""

    def __init__(
        self, tensors: Iterable[Tensor], layers: Iterable[Node], expected: int | None = None
    ) -> None:
        self.runs = max(1, WINDOWS // (_RUN * (expected or 64)))
        self.tensors = {t: Observed() for t in tensors}
        self.layers: dict[Node, Moments] = {}
        room = MAX_MOMENTS
        by_size = sorted(layers, key=lambda n: window_size(n)[1])
        for node in by_size:
            width, numbers = window_size(node)
            keep = width <= MAX_WINDOW and numbers <= room
            room -= numbers if keep else 0
            self.layers[node] = Moments(node, keep)
        self.samples = 0

    def watched(self) -> list[Tensor]:
        return list(dict.fromkeys([*self.tensors, *(n.input(0) for n in self.layers)]))

    def add(self, values: dict[Tensor, Array]) -> None:
        rng = np.random.default_rng(self.samples)  # the same windows whoever calibrates
        for t, observed in self.tensors.items():
            observed.add(values[t])
        for node, moments in self.layers.items():
            moments.add(values[node.input(0)], self.runs, rng)
        self.samples += 1

    def finish(self) -> None:
        for moments in self.layers.values():
            moments.flush()


def window_size(node: Node) -> tuple[int, int]:
    """Weights of an output channel; numbers in the second moments of the layer's windows."""
    w = node.input(1)
    if node.op == "DEPTHWISE_CONV_2D":
        taps, channels = w.shape[1] * w.shape[2], node.input(0).shape[3]
        return taps, channels * taps * taps
    if node.op == "TRANSPOSE_CONV":
        return w.shape[3], w.shape[3] ** 2
    width = w.elements // w.shape[0]
    return width, width * width


def _windows(node: Node, x: Array, runs: int, rng: np.random.Generator) -> Float32s:
    """Some windows of a layer, (rows, K) or (rows, C, taps); with groups, of the first group on
    in turn. TRANSPOSE_CONV: pixels, as each tap sees all of them."""
    x = np.asarray(x, np.float32)
    if node.op == "FULLY_CONNECTED":
        rows = x.reshape(-1, node.input(1).shape[1])
        return _choose(rows, runs, rng)
    if node.op == "TRANSPOSE_CONV":
        return _choose(x.reshape(-1, x.shape[3]), runs, rng)
    a, w, y = node.attrs, node.input(1), node.output
    _, height, width, depth = x.shape
    if node.op == "DEPTHWISE_CONV_2D":
        runs = max(1, runs // 4)  # few weights a channel
    image, oy, ox = _places(y.shape[:3], runs, rng)
    iy = oy[:, None] * a.stride[0] - a.pad_top + np.arange(w.shape[1]) * a.dilation[0]
    ix = ox[:, None] * a.stride[1] - a.pad_left + np.arange(w.shape[2]) * a.dilation[1]
    inside = ((iy >= 0) & (iy < height))[:, :, None] & ((ix >= 0) & (ix < width))[:, None, :]
    iy, ix = iy.clip(0, height - 1), ix.clip(0, width - 1)
    taps = x[image[:, None, None], iy[:, :, None], ix[:, None, :]]
    if not inside.all():
        taps *= inside[..., None]
    if node.op == "DEPTHWISE_CONV_2D":
        rows = taps.reshape(len(taps), -1, depth).transpose(0, 2, 1)
        return np.ascontiguousarray(rows, np.float32)
    groups = a.groups
    if groups > 1:
        part = depth // groups
        g = rng.integers(0, groups, len(taps))
        taps = np.stack([t[..., k * part : (k + 1) * part] for t, k in zip(taps, g)])
    return np.ascontiguousarray(taps.reshape(len(taps), -1), np.float32)


def _places(
    shape: tuple[int, ...], runs: int, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Image, row and column of the windows to take. Neighbours in a row lie in the same cache lines
    where channels come first."""
    images, height, width = shape
    run = min(_RUN, width)
    count = min(runs * _RUN // run, images * height)
    rows = rng.integers(0, images * height, count)
    left = rng.integers(0, width - run + 1, count)
    columns = (left[:, None] + np.arange(run)).reshape(-1)
    return np.repeat(rows // height, run), np.repeat(rows % height, run), columns


def _choose(rows: Array, runs: int, rng: np.random.Generator) -> Float32s:
    wanted = runs * _RUN
    if len(rows) <= wanted:
        return np.ascontiguousarray(rows, np.float32)
    return np.ascontiguousarray(rows[rng.integers(0, len(rows), wanted)], np.float32)
