# SPDX-License-Identifier: Apache-2.0
"""The TFLite importer and the passes on real networks, whole and damaged.

The zoo is EDGEQ_ZOO, or `shared/zoo` beside the checkout; without it these tests are skipped.
"""

from __future__ import annotations

import contextlib
import random
import time

import pytest
from zoo import zoo_folder

from edgeq.errors import ArgumentError, EdgeqError, FormatError, UnsupportedError
from edgeq.importers.tflite import import_tflite
from edgeq.passes import run_passes

MODELS = zoo_folder() / "models"
pytestmark = pytest.mark.skipif(not MODELS.is_dir(), reason=f"no zoo at {MODELS}; set EDGEQ_ZOO")


def model(name: str) -> bytes:
    return (MODELS / f"{name}.tflite").read_bytes()


def mutated(rnd: random.Random, data: bytes) -> bytes:
    b = bytearray(data)
    kind = rnd.randrange(5)
    if kind == 0:
        return bytes(b[: rnd.randrange(len(b))])
    if kind == 1:
        for _ in range(rnd.randrange(1, 9)):
            b[rnd.randrange(len(b))] ^= 1 << rnd.randrange(8)
    elif kind == 2:
        for _ in range(rnd.randrange(1, 20)):
            b[rnd.randrange(len(b))] = rnd.choice([0, 1, 127, 128, 255])
    elif kind == 3:
        at, size = rnd.randrange(len(b)), rnd.randrange(1, 64)
        b[at : at + size] = bytes(rnd.randrange(256) for _ in range(size))
    else:
        at = rnd.randrange(len(b) // 4) * 4
        word = rnd.choice([0, 1, 2**31 - 1, 2**32 - 1, len(b), rnd.randrange(2**32)])
        b[at : at + 4] = word.to_bytes(4, "little")
    return bytes(b)


@pytest.mark.parametrize(
    "name", ["mlperf-tiny/kws_ref_model", "coral/split_concat", "mltk/image_example1"]
)
def test_mutations(name: str) -> None:
    """Damaged files are refused, or read as what they are; nothing else happens, and soon."""
    data = model(name)
    rnd = random.Random(name)
    slowest, refused = 0.0, 0
    for _ in range(2000):
        start = time.perf_counter()
        try:
            run_passes(import_tflite(mutated(rnd, data)))
        except EdgeqError:
            refused += 1
        slowest = max(slowest, time.perf_counter() - start)
    assert 200 < refused < 2000
    assert slowest < 2.0


RUNS = {
    "mlperf-tiny/ad01_int8": 10,
    "mlperf-tiny/kws_ref_model": 13,
    "mlperf-tiny/pretrainedResnet_quant": 16,
    "mlperf-tiny/vww_96_int8": 31,
    "mlperf-tiny/str_ww_ref_model": 11,
    "tflm/hello_world_int8": 3,
    "tflm/micro_speech_quantized": 4,
    "coral/mobilenet_v1_0.25_128_quant": 31,
    "coral/mobilenet_v2_1.0_224_quant": 66,
    "coral/tf2_mobilenet_v2_1.0_224_ptq": 66,
    "coral/deeplabv3_mnv2_dm05_pascal_quant": 72,
    "coral/split_concat": 7,
    "tflite-support/mobilenet_v1_0.25_224_quant": 31,
    "mltk/image_example1": 8,
    "mltk/keyword_spotting_alexa": 56,
    "tinyengine/vww": 59,
    "tinyengine/detection": 70,
    "portrait-seg/mnv3_post_quant": 73,
    "portrait-seg/prisma_quant": 158,
}


@pytest.mark.parametrize("name", RUNS)
def test_zoo_network(name: str) -> None:
    graph = run_passes(import_tflite(model(name), name + ".tflite"))
    graph.verify()
    assert all(t.dtype in ("int8", "int32", "int64") for t in graph.tensors())


def test_zoo_never_fails_otherwise() -> None:
    paths = sorted(MODELS.glob("**/*.tflite"))
    assert paths
    for path in paths:
        with contextlib.suppress(EdgeqError):
            run_passes(import_tflite(path.read_bytes(), path.name))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("tflm/person_detect", "Conv2D_bias': quantized_dimension is 3, the tensor has 1 dim"),
        (
            "portrait-seg/mnv3_seg_quant",
            "op 1 CONV_2D 'model/quant_re_lu/Relu': weights 'model/qua",
        ),
        ("tflm/person_detect_vela", "custom op 'ethos-u' is not supported"),
        ("tflm/audio_preprocessor_int8", "custom op 'SignalWindow' is not supported"),
        (
            "lyra/soundstream_encoder",
            "op 1 VAR_HANDLE 'encoder_0/resnet_0adepthwise_conv/states': not supported: variables",
        ),
        ("tflm-seanet/transpose_conv0", "conv/stack' is not a constant"),
        ("microwakeword/v2_vad", "op 0 CALL_ONCE: not supported"),
        ("tflm/trained_lstm_int8", "op 0 UNIDIRECTIONAL_SEQUENCE_LSTM"),
    ],
)
def test_zoo_refusal(name: str, sentence: str) -> None:
    with pytest.raises((UnsupportedError, FormatError)) as e:
        import_tflite(model(name), name)
    assert sentence in str(e.value)


def test_zoo_signature() -> None:
    """Names come from the signature, the batch is free, the other dimensions are not."""
    data = model("mlperf-tiny/str_ww_ref_model")
    graph = import_tflite(data)
    assert [t.name for t in graph.inputs + graph.outputs] == ["input_1", "dense"]
    graph = import_tflite(data, input_shapes={"input_1": (4, 30, 1, 40)})
    assert graph.outputs[0].shape == (4, 3)
    with pytest.raises(ArgumentError, match=r"'input_1' is \?,30,1,40, not 1,31,1,40"):
        import_tflite(data, input_shapes={"input_1": (1, 31, 1, 40)})


def test_zoo_edges() -> None:
    graph = run_passes(import_tflite(model("coral/tf2_mobilenet_v2_1.0_224_ptq")))
    assert (graph.input_dtypes, graph.output_dtypes) == (["uint8"], ["uint8"])
    assert graph.inputs[0].source_dtype == graph.outputs[0].source_dtype == "int8"
    assert [t.name for t in graph.inputs + graph.outputs] == ["input", "Identity"]
    assert graph.labels[graph.outputs[0]].startswith("background\ntench")
    graph = run_passes(import_tflite(model("tinyengine/detection")))
    assert (graph.input_dtypes, graph.output_dtypes) == (["float32"], ["float32"] * 3)
    assert {t.dtype for t in graph.inputs + graph.outputs} == {"int8"}
