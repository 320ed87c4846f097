# SPDX-License-Identifier: Apache-2.0
"""Wrong scaling and channel order, planted: small trained statistics here, the zoo's networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import Rng
from zoo import zoo_folder

from edgeq.data.checks import Finding
from edgeq.data.preprocess import Preprocess
from edgeq.data.samples import open_samples
from edgeq.data.scaling import expectations, judge, mismatch, variants
from edgeq.importers.onnx import import_onnx
from edgeq.importers.tflite import import_tflite
from edgeq.ir.graph import Graph, Node, Tensor
from edgeq.ir.ops import Conv2D, Transpose
from edgeq.passes import run_float_passes

pytest.importorskip("onnxruntime")
from edgeq.quantize.execute import FloatRunner

SIZE = 12
PHOTOS = zoo_folder() / "data" / "imagenet500"
# Its (x - mean) / std / 255 with mean and std of pixels.
SINET = "mean=107.304565:115.69884:132.35703,std=16312.8141:16609.0935:17416.1148,order=bgr"


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


def test_no_preset_is_right() -> None:
    graph = network("mean=90:130:20,std=3:200:9")
    (finding,) = found(graph, "tf")
    assert finding.kind == "scale" and not finding.hint
    assert "and no preset is better: look at mean, std and order of input 'image'" in finding.text


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


def zoo_graph(name: str) -> Graph:
    """A float network as calibration gets it, and the pictures."""
    path = zoo_folder() / "models" / name
    if not path.exists() or not PHOTOS.is_dir():
        pytest.skip(f"{path} or {PHOTOS} is not there")
    if path.suffix == ".tflite":
        return run_float_passes(import_tflite(path.read_bytes(), str(path)))
    shapes = {"x": (1, 3, 48, 192)} if "ocr" in name else {}
    return run_float_passes(import_onnx(path.read_bytes(), str(path), shapes))


# Network -> how it was trained, and other ways that must be found.
ZOO = {
    "efficientnet-lite/efficientnet_lite0.onnx": ("lite,crop=0.875", ["raw"]),
    "tflite-support/mobilenet_v1_0.25_224_float.tflite": ("tf,crop=0.875", ["raw"]),
    "ultraface/version-slim-320.onnx": ("lite", ["raw", "unit"]),
    "fastestdet/FastestDet.onnx": ("unit,order=bgr", ["raw,order=bgr"]),
    "openseeface/mnv3_detection_opt.onnx": ("imagenet", ["raw"]),
    "yunet/yunet_n_320_320.onnx": ("raw,order=bgr", ["tf,order=bgr", "unit,order=bgr"]),
    "mediapipe/face_detection_short_range.tflite": ("tf", []),
    "mediapipe/selfie_segmentation.tflite": ("unit", []),
    "portrait-seg/SINet.onnx": (SINET, ["tf,order=bgr", "raw,order=bgr"]),
}


@pytest.mark.parametrize("name", ZOO)
def test_trained_networks(name: str) -> None:
    graph = zoo_graph(name)
    right, wrong = ZOO[name]
    assert judge(graph, open_samples(PHOTOS, graph.inputs, right), FloatRunner) == []
    for text in wrong:
        findings = judge(graph, open_samples(PHOTOS, graph.inputs, text), FloatRunner)
        assert findings[0].kind == "scale", text
        assert findings[0].hint == (not graph.norm_statistics)


@pytest.mark.parametrize("name", [n for n in ZOO if "slim" in n or "SINet" in n])
def test_statistics_survive_the_way_from_onnx(name: str) -> None:
    graph = zoo_graph(name)
    made = {t for n in graph.nodes for t in n.outputs}
    assert len(made & set(graph.norm_statistics)) > 20
    for t, (mean, var) in graph.norm_statistics.items():
        assert mean.shape == var.shape == (t.shape[-1],)
        assert (var >= 0).all()


@pytest.mark.parametrize("order", ["", "order=gray"])
def test_grey_inputs_have_scalings_but_no_order(order: str) -> None:
    x = Tensor("image", (1, SIZE, SIZE, 1), "float32")
    w, y = const(np.ones((2, 1, 1, 1))), Tensor("conv", (1, SIZE, SIZE, 2), "float32")
    graph = Graph([Node("CONV_2D", [x, w], [y], Conv2D((1, 1)), "conv")], [x], [y])
    wanted = Preprocess.parse(",".join(filter(None, ["unit", order])))
    tried = variants(graph, 0.0, 1.0, wanted)
    assert tried is not None
    assert [(v.text, v.kind, v.swap) for v in tried.others] == [
        ("raw", "scale", False),
        ("tf", "scale", False),
    ]
    assert judge(graph, open_samples(pictures(40, seed=2), graph.inputs, wanted), FloatRunner) == []


def test_the_order_by_the_scores_of_classes() -> None:
    name = "tflite-support/mobilenet_v1_0.25_224_float.tflite"
    graph = zoo_graph(name)
    text = ZOO[name][0]
    (finding,) = judge(graph, open_samples(PHOTOS, graph.inputs, f"{text},order=bgr"), FloatRunner)
    assert finding.kind == "order" and finding.hint
    assert "try order=rgb: its outputs would tell" in finding.text


def test_grey_pictures_have_no_order(rng: Rng) -> None:
    graph = zoo_graph("tflite-support/mobilenet_v1_0.25_224_float.tflite")
    gray = [np.repeat(rng.integers(0, 256, (64, 64, 1)), 3, 2).astype(np.uint8) for _ in range(30)]
    assert judge(graph, open_samples(gray, graph.inputs, "tf"), FloatRunner) == []
