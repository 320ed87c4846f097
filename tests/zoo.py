# SPDX-License-Identifier: Apache-2.0
"""Where whole networks and real data come from, and how a network is fed.

The zoo is a folder with `models/` and `data/`: EDGEQ_ZOO, or `shared/zoo` beside the checkout.
"""

from __future__ import annotations

import os
import wave
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import tflite
from cases import Quant, Rng, fill

_DTYPES = {
    tflite.TensorType.FLOAT32: "float32",
    tflite.TensorType.UINT8: "uint8",
    tflite.TensorType.INT8: "int8",
}

# A set of real inputs: how many, and the i-th for an input of the given kind.
Feed = tuple[int, Callable[[int, "Input"], np.ndarray]]


def zoo_folder() -> Path:
    """The zoo's folder, which may be absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "zoo"
    return Path(os.environ.get("EDGEQ_ZOO", beside))


@dataclass(frozen=True)
class Input:
    """A network's input. Of a float32 one, `quant` is that of the QUANTIZE behind it."""

    shape: tuple[int, ...]
    dtype: str
    quant: Quant

    def from_real(self, values: np.ndarray) -> np.ndarray:
        """Real values of the input's size as the network takes them."""
        values = np.asarray(values, np.float32).reshape(self.shape)
        if self.dtype == "float32":
            return values
        info = np.iinfo(self.dtype)
        stored = np.rint(values / self.quant.scale) + self.quant.zero_point
        return np.clip(stored, info.min, info.max).astype(self.dtype)

    def random(self, rng: Rng) -> np.ndarray:
        """Any stored values; as float32 they fall between the steps."""
        stored = fill(rng, self.shape, self.quant.dtype)
        if self.dtype != "float32":
            return stored
        real = (stored.astype(np.float32) - self.quant.zero_point) * self.quant.scale
        return (real + rng.normal(0, self.quant.scale, self.shape)).astype(np.float32)


@dataclass(frozen=True)
class Network:
    """A network of the zoo and the real inputs that fit it."""

    name: str
    feed: Callable[[], Feed]
    # How many inner tensors the full run takes: few where the reference kernels are slow.
    inner: int = 1000

    @property
    def path(self) -> Path:
        return zoo_folder() / "models" / f"{self.name}.tflite"


def model_input(model: bytes) -> Input:
    """The one input of a network."""
    graph = tflite.Model.GetRootAs(model).Subgraphs(0)
    assert graph.InputsLength() == 1
    index = graph.Inputs(0)
    tensor = graph.Tensors(index)
    shape = tuple(int(n) for n in tensor.ShapeAsNumpy())
    dtype = _DTYPES[tensor.Type()]
    if dtype == "float32":
        ops = (graph.Operators(i) for i in range(graph.OperatorsLength()))
        tensor = graph.Tensors(next(o.Outputs(0) for o in ops if o.Inputs(0) == index))
    q = tensor.Quantization()
    return Input(shape, dtype, Quant(_DTYPES[tensor.Type()], float(q.Scale(0)), q.ZeroPoint(0)))


def inner_tensors(model: bytes, operators: int) -> list[int]:
    """The byte tensors that a network's first `operators` operators compute."""
    graph = tflite.Model.GetRootAs(model).Subgraphs(0)
    outputs = (graph.Operators(i).Outputs(0) for i in range(operators))
    bytes_only = (tflite.TensorType.INT8, tflite.TensorType.UINT8)
    return [t for t in outputs if graph.Tensors(t).Type() in bytes_only]


def with_output(model: bytes, tensor: int) -> bytes:
    """The same network with another tensor in place of its first output."""
    data = bytearray(model)
    tflite.Model.GetRootAs(data).Subgraphs(0).OutputsAsNumpy()[0] = tensor
    return bytes(data)


# --- images


def _signed(pixels: np.ndarray) -> np.ndarray:
    return pixels / 127.5 - 1


def _unit(pixels: np.ndarray) -> np.ndarray:
    return pixels / 255


def _standard(pixels: np.ndarray) -> np.ndarray:
    return (pixels - pixels.mean()) / (pixels.std() + 1e-3)


def images(normalize: Callable[[np.ndarray], np.ndarray]) -> Callable[[], Feed]:
    """Photographs, the shorter side's square in the middle scaled to the network's input."""

    def feed() -> Feed:
        from PIL import Image

        data = zoo_folder() / "data"
        names = ("bird_segmentation.bmp", "grace_hopper.bmp", "face.jpg")
        paths = [data / "coral" / n for n in names]
        paths += sorted((data / "imagenet500").glob("*.jpg"))

        def load(i: int, spec: Input) -> np.ndarray:
            _, height, width, channels = spec.shape
            image = Image.open(paths[i]).convert("RGB" if channels == 3 else "L")
            side = min(image.size)
            left, top = ((n - side) // 2 for n in image.size)
            image = image.crop((left, top, left + side, top + side)).resize((width, height))
            return spec.from_real(normalize(np.asarray(image, np.float32)))

        return len(paths), load

    return feed


def cifar() -> Feed:
    """32x32 pixels, whose real value is 0 to 255."""
    x = np.load(zoo_folder() / "data" / "cifar10_1000.npz")["x"]
    return len(x), lambda i, spec: spec.from_real(x[i])


def keywords() -> Feed:
    """Speech features already in the network's own scale."""
    x = np.load(zoo_folder() / "data" / "kws01_500.npz")["x"]
    return len(x), lambda i, spec: x[i].reshape(spec.shape)


def wake_words() -> Feed:
    x = np.load(zoo_folder() / "data" / "sww_calibration_samples.npz")["specs"]
    return len(x), lambda i, spec: spec.from_real(x[i])


def every_value() -> Feed:
    """All 256 stored values of a network with one number as its input."""
    return 256, lambda i, spec: np.full(spec.shape, i - 128, np.int8)


# --- sounds


def spectrograms(frames: int, bands: int) -> Callable[[], Feed]:
    """Log-mel spectrograms (frames, bands) of the recordings, spread over the input's range."""

    def feed() -> Feed:
        paths = sorted((zoo_folder() / "data").glob("*.wav"))
        starts = 8

        def load(i: int, spec: Input) -> np.ndarray:
            sound = _read_wav(paths[i // starts])
            part = np.roll(sound, -(len(sound) // starts) * (i % starts))
            power = _log_mel(part, frames, bands)
            low, high = spec.quant.range()
            span = max(float(np.ptp(power)), 1e-6)
            return spec.from_real(low + (power - power.min()) / span * (high - low))

        return len(paths) * starts, load

    return feed


def _read_wav(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return samples[:: file.getnchannels()] / 32768.0


def _log_mel(sound: np.ndarray, frames: int, bands: int, window: int = 512) -> np.ndarray:
    hop = (len(sound) - window) // max(frames - 1, 1)
    at = hop * np.arange(frames)[:, None] + np.arange(window)
    spectrum = np.abs(np.fft.rfft(sound[at] * np.hanning(window), axis=1)) ** 2
    # Triangles between points evenly spaced in mels; at least one bin wide.
    points = np.expm1(np.linspace(np.log1p(60 / 700), np.log1p(7600 / 700), bands + 2)) * 700
    bins = np.arange(window // 2 + 1) * 16000 / window
    left, centre, right = (points[i : i + bands, None] for i in range(3))
    width = np.maximum((right - left) / 2, 16000 / window)
    weights = np.maximum(0, 1 - np.abs(bins - centre) / width)
    return np.log(spectrum @ weights.T + 1e-8)


NETWORKS = (
    Network("mlperf-tiny/ad01_int8", spectrograms(5, 128)),
    Network("mlperf-tiny/kws_ref_model", keywords),
    Network("mlperf-tiny/pretrainedResnet_quant", cifar),
    Network("mlperf-tiny/vww_96_int8", images(_unit)),
    Network("mlperf-tiny/str_ww_ref_model", wake_words),
    Network("tflm/hello_world_int8", every_value),
    Network("tflm/micro_speech_quantized", spectrograms(49, 40)),
    Network("coral/mobilenet_v1_0.25_128_quant", images(_signed)),
    Network("coral/mobilenet_v2_1.0_224_quant", images(_signed), inner=40),
    Network("coral/tf2_mobilenet_v2_1.0_224_ptq", images(_signed), inner=40),
    Network("coral/deeplabv3_mnv2_dm05_pascal_quant", images(_signed), inner=40),
    Network("tflite-support/mobilenet_v1_0.25_224_quant", images(_signed)),
    Network("mltk/image_example1", images(_standard)),
    Network("mltk/keyword_spotting_alexa", spectrograms(118, 108)),
    Network("tinyengine/vww", images(_signed)),
    Network("tinyengine/detection", images(_standard)),
    Network("portrait-seg/mnv3_post_quant", images(_signed), inner=40),
    Network("portrait-seg/prisma_quant", images(_unit), inner=30),
)


@cache
def model_bytes(network: Network) -> bytes:
    return network.path.read_bytes()
