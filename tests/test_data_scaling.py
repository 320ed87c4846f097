# SPDX-License-Identifier: Apache-2.0
"""Wrong scaling and channel order, planted: small trained statistics here, the zoo's networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Rng
from zoo import zoo_folder

from edgeq.data.checks import Finding
from edgeq.data.preprocess import Preprocess
from edgeq.data.samples import Samples, open_samples
from edgeq.data.scaling import SAMPLES, expectations, judge, mismatch, variants
from edgeq.ir.graph import Array, Graph, Node, Tensor
from edgeq.ir.ops import Conv2D, Transpose

pytest.importorskip("onnxruntime")
from edgeq.quantize.execute import FloatRunner

SIZE = 12


def const(data: Any) -> Tensor:
    data = np.asarray(data, np.float32)
    return Tensor("c", data.shape, "float32", data=data)


def pictures(count: int, seed: int) -> list[np.ndarray]:
    """Coloured scenes: sky above, soil below, noise over both; uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        top, bottom = rng.normal((90, 140, 200), 30, 3), rng.normal((110, 100, 60), 30, 3)
        weight = np.linspace(0, 1, SIZE)[:, None, None]
        scene = top * (1 - weight) + bottom * weight + rng.normal(0, 25, (SIZE, SIZE, 3))
        found.append(np.clip(scene, 0, 255).astype(np.uint8))
    return found


def network(trained: str, activation: str = "RELU6", first: bool = False) -> Graph:
    """Two convolutions behind batch norms that saw pictures as `trained` makes them."""
    rng = np.random.default_rng(3)
    shape = (1, 3, SIZE, SIZE) if first else (1, SIZE, SIZE, 3)
    x = Tensor("image", shape, "float32")
    nodes = []
    y = x
    if first:
        y = Tensor("last", (1, SIZE, SIZE, 3), "float32")
        nodes.append(Node("TRANSPOSE", [x], [y], Transpose((0, 2, 3, 1)), "last"))
    for i, (c_in, c_out) in enumerate([(3, 8), (8, 6)]):
        w = const(rng.normal(0, 1, (c_out, 3, 3, c_in)) / np.sqrt(9 * c_in))
        out = Tensor(f"conv{i}", (1, SIZE - 2 - 2 * i, SIZE - 2 - 2 * i, c_out), "float32")
        nodes.append(
            Node("CONV_2D", [y, w, const(np.zeros(c_out))], [out], Conv2D((1, 1)), f"conv{i}")
        )
        y = out
    graph = Graph(nodes, [x], [y])
    wanted = Preprocess.parse(trained)
    feeds = [{"image": wanted.apply(p, shape)} for p in pictures(200, seed=1)]
    for node in [n for n in nodes if n.op == "CONV_2D"]:
        t, w = node.output, node.input(1)
        runner = FloatRunner(graph, [t])
        seen = np.concatenate([runner.run(f)[t].reshape(-1, t.shape[3]) for f in feeds])
        mean, var = seen.mean(0), seen.var(0)
        gamma, beta = rng.uniform(0.5, 1.5, len(mean)), rng.normal(0, 1, len(mean))
        # The batch norm folded into its convolution, and the activation too.
        assert w.data is not None
        w.data *= (gamma / np.sqrt(var))[:, None, None, None]
        node.inputs[2] = const(beta - mean * gamma / np.sqrt(var))
        node.attrs = Conv2D((1, 1), activation=activation)
        graph.norm_statistics[t] = beta, gamma**2
    graph.verify()
    return graph


def found(graph: Graph, given: str, known: bool = True, count: int = 64) -> list[Finding]:
    """For new pictures that are made as `given`."""
    wanted = Preprocess.parse(given)
    shape = graph.inputs[0].shape
    feeds = [wanted.apply(p, shape) for p in pictures(count, seed=2)]
    samples = open_samples(feeds, graph.inputs)
    return judge(graph, samples, FloatRunner, wanted if known else None)


@pytest.mark.parametrize("activation", ["NONE", "RELU", "RELU6"])
@pytest.mark.parametrize("trained", ["tf", "unit", "raw", "imagenet", "caffe"])
def test_right_pictures_give_nothing(trained: str, activation: str) -> None:
    graph = network(trained, activation)
    assert found(graph, trained) == []
    assert found(graph, trained, known=False) == []


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("trained", "given"),
    [("tf", "raw"), ("tf", "unit"), ("unit", "tf"), ("unit", "raw"), ("raw", "tf"),
     ("raw", "unit"), ("imagenet", "raw"), ("imagenet", "unit"), ("tf", "imagenet")],
)  # fmt: skip
def test_wrong_scaling(trained: str, given: str, known: bool) -> None:
    (finding,) = found(network(trained), given, known)
    assert finding.kind == "scale"
    assert not finding.hint
    name = f"try {trained}" + (",order=rgb" if known else "") + ":"
    assert name in finding.text


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(
    ("trained", "given", "advice"),
    [("tf", "tf,order=bgr", "order=rgb"), ("raw,order=bgr", "raw", "order=bgr"),
     ("imagenet", "imagenet,order=bgr", "order=rgb")],
)  # fmt: skip
def test_wrong_order(trained: str, given: str, advice: str, first: bool) -> None:
    graph = network(trained, first=first)
    (finding,) = found(graph, given)
    assert finding.kind == "order"
    assert f"try {advice}: the first 2 batch norms get other values" in finding.text
    assert found(graph, trained) == []


def test_wrong_scaling_and_order() -> None:
    (finding,) = found(network("tf"), "raw,order=bgr")
    assert "try tf,order=rgb:" in finding.text


@pytest.mark.parametrize(("trained", "given"), [("tf", "raw"), ("raw", "tf"), ("unit", "raw")])
def test_without_statistics_biases_tell(trained: str, given: str) -> None:
    """Only what is wrong by a large factor, and as a hint."""
    graph = network(trained)
    graph.norm_statistics.clear()
    (finding,) = found(graph, given)
    assert finding.kind == "scale" and finding.hint
    assert "times" in finding.text and ("smaller" if trained != "raw" else "larger") in finding.text
    assert found(graph, trained) == []


def test_what_gives_no_answer() -> None:
    graph = network("tf")
    x = Tensor("x", (1, 5), "float32")
    other = Graph([], [x], [x])
    assert judge(other, open_samples(np.ones((3, 5)), [x]), FloatRunner) == []
    constant = open_samples([np.zeros((1, SIZE, SIZE, 3))] * 3, graph.inputs)
    assert judge(graph, constant, FloatRunner) == []
    odd = variants(graph, -1000.0, 7.0, None)  # no preset makes such values: only the order
    assert odd is not None
    assert [v.kind for v in odd.others] == ["order"]


def test_statistics_are_seen_before_the_activation() -> None:
    graph = network("tf", "RELU6")
    expected = expectations(graph)
    assert expected is not None
    feed = {"image": Preprocess.parse("tf").apply(pictures(1, 5)[0], graph.inputs[0].shape)}
    probed = FloatRunner(expected.graph, expected.tensors).run(feed)
    whole = FloatRunner(graph, [n.output for n in graph.nodes]).run(feed)
    for node, t in zip(graph.nodes, expected.tensors):
        assert probed[t].min() < 0
        np.testing.assert_allclose(np.clip(probed[t], 0, 6), whole[node.output], atol=1e-5)


def test_copies_keep_statistics() -> None:
    graph = network("tf")
    copy = graph.copy()
    assert [t.name for t in copy.norm_statistics] == [t.name for t in graph.norm_statistics]
    assert not set(copy.norm_statistics) & set(graph.norm_statistics)
    assert found(copy, "raw")[0].kind == "scale"


def test_mismatch() -> None:
    mean, var = np.array([0.0, 1.0]), np.array([1.0, 4.0])
    assert mismatch(mean, var, mean, var) == 0
    near = mismatch(mean + 0.1, var * 1.1, mean, var)
    far = mismatch(mean + 1, var * 4, mean, var)
    assert 0 < near < 0.02 < far
    dead = np.array([1.0, 1e-12])
    assert mismatch(np.array([0.0, 99.0]), np.ones(2), mean, dead) == 0  # of the first alone


# ---- trained networks: the first layer and its statistics, the classes' scores


@cache
def photos() -> Samples | None:
    folder = zoo_folder() / "data" / "imagenet500"
    return (
        open_samples(folder, [Tensor("x", (1, 64, 64, 3), "float32")], "raw")
        if (folder.is_dir())
        else None
    )


def zoo_file(name: str) -> Path:
    path = zoo_folder() / "models" / name
    if not path.exists() or not (zoo_folder() / "data" / "imagenet500").is_dir():
        pytest.skip(f"{path} or the pictures are not there")
    return path


def onnx_beginning(path: Path) -> Graph:
    """Its input, its first convolution and the batch norm behind that."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(path)).graph
    held = {i.name: onnx.numpy_helper.to_array(i) for i in model.initializer}
    for n in model.node:
        if n.op_type == "Constant":
            held[n.output[0]] = onnx.numpy_helper.to_array(n.attribute[0].t)
        if n.op_type == "Identity" and n.input[0] in held:
            held[n.output[0]] = held[n.input[0]]
    conv = next(n for n in model.node if n.op_type == "Conv")
    attrs = {a.name: onnx.helper.get_attribute_value(a) for a in conv.attribute}
    norm = next((n for n in model.node if n.op_type == "BatchNormalization"), None)
    (port,) = [i for i in model.input if i.name == conv.input[0]]
    sizes = [d.dim_value for d in port.type.tensor_type.shape.dim]
    shape = (1, 3, *(s or d for s, d in zip(sizes[2:], (48, 192))))
    x, last = Tensor("x", shape, "float32"), Tensor("last", (1, *shape[2:], 3), "float32")
    w = const(held[conv.input[1]].transpose(0, 2, 3, 1))
    bias = const(held[conv.input[2]]) if len(conv.input) > 2 else None
    stride, pads = tuple(attrs["strides"]), attrs.get("pads", [0] * 4)
    size = [
        (s + pads[i] + pads[i + 2] - k) // st + 1
        for i, (s, k, st) in enumerate(zip(shape[2:], w.shape[1:3], stride))
    ]
    y = Tensor("y", (1, *size, w.shape[0]), "float32")
    nodes = [
        Node("TRANSPOSE", [x], [last], Transpose((0, 2, 3, 1)), "last"),
        Node(
            "CONV_2D", [last, w, bias], [y], Conv2D(stride, pad_top=pads[0], pad_left=pads[1]), ""
        ),
    ]
    graph = Graph(nodes, [x], [y])
    if norm is not None and norm.input[0] == conv.output[0]:
        mean, var = (np.asarray(held[norm.input[i]], np.float64) for i in (3, 4))
        graph.norm_statistics[y] = mean, var
    return graph


# Network -> how it was trained, and other ways that must be found.
ZOO = {
    "efficientnet-lite/efficientnet_lite0.onnx": ("lite", ["raw"]),
    "ultraface/version-slim-320.onnx": ("lite", ["raw", "unit"]),
    "fastestdet/FastestDet.onnx": ("unit,order=bgr", ["raw,order=bgr"]),
    "openseeface/mnv3_detection_opt.onnx": ("imagenet", ["raw"]),
    "yunet/yunet_n_320_320.onnx": ("raw,order=bgr", ["tf,order=bgr", "unit,order=bgr"]),
}


@pytest.mark.parametrize("name", ZOO)
def test_trained_networks(name: str) -> None:
    graph = onnx_beginning(zoo_file(name))
    right, wrong = ZOO[name]
    folder = zoo_folder() / "data" / "imagenet500"
    assert judge(graph, open_samples(folder, graph.inputs, right), FloatRunner) == []
    for text in wrong:
        findings = judge(graph, open_samples(folder, graph.inputs, text), FloatRunner)
        assert [f.kind for f in findings] == ["scale"], text
        assert findings[0].hint == (not graph.norm_statistics)


class TFLiteScores:
    """A network in tflite-runtime that gives its scores as a graph's only output."""

    def __init__(self, path: Path) -> None:
        interpreter = pytest.importorskip("tflite_runtime.interpreter").Interpreter
        self.network = interpreter(str(path))
        self.network.allocate_tensors()
        given, made = (f()[0] for f in (self.network.get_input_details,
                                        self.network.get_output_details))  # fmt: skip
        self.x = Tensor("x", tuple(map(int, given["shape"])), "float32")
        self.y = Tensor("y", tuple(map(int, made["shape"])), "float32")
        self.graph = Graph([], [self.x], [self.y])
        self.places = given["index"], made["index"]

    def __call__(self, graph: Graph, watched: Sequence[Tensor]) -> TFLiteScores:
        assert list(watched) == [self.y]
        return self

    def run(self, feed: Mapping[str, Array]) -> dict[Tensor, Array]:
        self.network.set_tensor(self.places[0], feed["x"])
        self.network.invoke()
        return {self.y: self.network.get_tensor(self.places[1]).copy()}


def test_the_order_by_the_scores_of_classes() -> None:
    path = zoo_file("tflite-support/mobilenet_v1_0.25_224_float.tflite")
    network = TFLiteScores(path)
    folder = zoo_folder() / "data" / "imagenet500"

    def of(text: str) -> list[Finding]:
        samples = open_samples(folder, [network.x], text, limit=SAMPLES)
        return judge(network.graph, samples, network)

    assert of("tf,crop=0.875") == []
    (finding,) = of("tf,crop=0.875,order=bgr")
    assert finding.kind == "order" and finding.hint
    assert "try order=rgb: its outputs would tell" in finding.text


def test_noise_has_no_order(rng: Rng) -> None:
    """Grey pictures are the same both ways."""
    path = zoo_file("tflite-support/mobilenet_v1_0.25_224_float.tflite")
    network = TFLiteScores(path)
    gray = [np.repeat(rng.integers(0, 256, (64, 64, 1)), 3, 2).astype(np.uint8) for _ in range(30)]
    assert judge(network.graph, open_samples(gray, [network.x], "tf"), network) == []
