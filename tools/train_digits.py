# SPDX-License-Identifier: Apache-2.0
"""Train the digits example: one small convolutional network, written as TFLite and as ONNX.

The data are scikit-learn's ``load_digits``: 1797 pictures of 8 x 8 pixels with values 0..16, split
80/20 by class with a fixed seed. The network (13,610 parameters) sees ``value / 16``, which is
``pixel / 255`` of the pictures written here. Everything is written into ``--out``:

    digits_float.tflite   NHWC (1, 8, 8, 1) to (1, 10)
    digits_int8.tflite    the same with int8 in and out, per-channel weights, no float op
    digits_float.onnx     NCHW (1, 1, 8, 8) to (1, 10), opset 17
    digits_int8.onnx      the same with Q/DQ pairs, int8 activations, per-channel weights
    digits_test.npz       images uint8 (N, 8, 8) with values 0..16, labels uint8 (N,), and as
                          pictures of 0..255: x uint8 (N, 8, 8, 3)
    digits_calibration.npz  x, pictures of the training split, to quantize the float networks with
    labels.txt            zero .. nine, one a line
    digit_*.png           8 x 8 grey pictures of test digits, value * 255 / 16

Both quantized files are calibrated on pictures of the training split only. The script prints the
accuracy of the four models on the test split: TFLite by the reference kernels of
``tf.lite.Interpreter``, ONNX by onnxruntime on the CPU.

Reproducible: the split, the order of the batches and the first weights are seeded, and TensorFlow
runs its deterministic ops on one thread without oneDNN, so that two runs on the same machine with
the same library versions write the same bytes. Not reproducible: another CPU or another version
may add floats in another order, which gives other weights and an accuracy that can differ by a few
tenths of a percent. The last files were made with tensorflow-cpu 2.21.0, keras 3.15.1,
onnx 1.23.2, onnxruntime 1.31.1 and scikit-learn 1.9.1.

Needed for this script only: ``pip install tensorflow-cpu scikit-learn onnx onnxruntime pillow``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Read when TensorFlow is imported: plain kernels, and no log lines but errors.
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

SEED = 1
EPOCHS = 40
BATCH = 32
SHIFTS = 3
CALIBRATION = 200
OPSET = 17
IR_VERSION = 8  # the one that came with opset 17
PICTURES = (2, 3, 7)
LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
INTEGER_OPS = {
    "ADD",
    "AVERAGE_POOL_2D",
    "CONV_2D",
    "DEPTHWISE_CONV_2D",
    "FULLY_CONNECTED",
    "MEAN",
    "RESHAPE",
    "SOFTMAX",
}


def to_input(images: Bytes) -> Floats:
    """Scale pictures (N, 8, 8) of values 0..16 to the network's input (N, 8, 8, 1), 0..1."""
    return (images.astype(np.float32) / np.float32(16))[..., np.newaxis]


def load_split() -> tuple[Bytes, Bytes, Bytes, Bytes]:
    """Return train images (1437, 8, 8), labels, test images (360, 8, 8), labels; seeded."""
    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target.astype(np.uint8)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=0.2, random_state=0, stratify=labels
    )
    return train_x, train_y, test_x, test_y


def shifted(images: Bytes, rng: np.random.Generator) -> Bytes:
    """Move each picture of (N, 8, 8) by -1, 0 or 1 pixels each way; zeros come in."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    offsets = rng.integers(0, 3, (len(images), 2))
    return np.stack([padded[i, y : y + 8, x : x + 8] for i, (y, x) in enumerate(offsets)])


def build_network() -> Any:
    """Build the network, (N, 8, 8, 1) to (N, 10); `onnx_graph` is its twin, layer by layer."""
    layers = keras.layers
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(24, 3, padding="same", activation="relu", name="stem")(image)
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="dw1")(x)
    x = layers.Conv2D(32, 1, activation="relu", name="pw1")(x)
    x = layers.AveragePooling2D(2, name="pool")(x)
    y = layers.Conv2D(32, 3, padding="same", name="branch")(x)
    x = layers.ReLU(name="sum_relu")(layers.Add(name="sum")([x, y]))
    x = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="dw2")(x)
    x = layers.Conv2D(64, 1, activation="relu", name="pw2")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    probabilities = layers.Dense(10, activation="softmax", name="dense")(x)
    return keras.Model(image, probabilities, name="digits")


def train(train_x: Bytes, train_y: Bytes, epochs: int) -> Any:
    """Train on the pictures and SHIFTS moved copies of each; never looks at the test split.

    The copies are there because of a cross-validation inside the training split: they raised the
    mean accuracy of three folds from 95.9 % to 99.0 %.
    """
    keras.utils.set_random_seed(SEED)
    rng = np.random.default_rng(SEED)
    images = np.concatenate([train_x, *(shifted(train_x, rng) for _ in range(SHIFTS))])
    labels = np.tile(train_y, 1 + SHIFTS)
    model = build_network()
    steps = epochs * -(-len(images) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    model.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=1e-3),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(to_input(images), labels, batch_size=BATCH, epochs=epochs, verbose=0)
    return model


# TFLite


def tflite_file(model: Any, calibration: Floats | None) -> bytes:
    """Write the model as TFLite with batch 1; int8 throughout when `calibration` is given."""
    # Constants, not variables: the calibrator cannot run READ_VARIABLE.
    weights = [tf.constant(weight) for weight in model.get_weights()]

    def forward(image: Any) -> dict[str, Any]:
        return {"probabilities": model.stateless_call(weights, [], image, training=False)[0]}

    signature = [tf.TensorSpec((1, 8, 8, 1), tf.float32, name="image")]
    concrete = tf.function(forward, input_signature=signature).get_concrete_function()
    # By way of a saved model, which gives the file a signature with these two names.
    folder = tempfile.TemporaryDirectory()
    tf.saved_model.save(tf.Module(), folder.name, signatures=concrete)
    converter = tf.lite.TFLiteConverter.from_saved_model(folder.name)
    if calibration is not None:

        def samples() -> Iterator[list[Floats]]:
            for sample in calibration:
                yield [sample[np.newaxis]]

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = samples
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
    with folder:
        return bytes(converter.convert())


def tflite_interpreter(file: bytes) -> Any:
    """Open the file with TFLite's reference kernels and no delegate."""
    reference = tf.lite.experimental.OpResolverType.BUILTIN_REF
    interpreter = tf.lite.Interpreter(model_content=file, experimental_op_resolver_type=reference)
    interpreter.allocate_tensors()
    return interpreter


def tflite_predict(file: bytes, x: Floats) -> Floats:
    """Run the file on x (N, 8, 8, 1) picture by picture; dequantized outputs (N, 10)."""
    interpreter = tflite_interpreter(file)
    source, sink = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rows = []
    for sample in x:
        value = sample[np.newaxis]
        if source["dtype"] == np.int8:
            scale, zero = source["quantization"]
            value = np.clip(np.floor(value / scale + 0.5) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(source["index"], value)
        interpreter.invoke()
        row = interpreter.get_tensor(sink["index"])[0].astype(np.float32)
        if sink["dtype"] == np.int8:
            scale, zero = sink["quantization"]
            row = (row - zero) * scale
        rows.append(row)
    return np.stack(rows)


def check_integer_only(file: bytes) -> list[str]:
    """Return the op names in order; ValueError if a float or an op of another kind is there."""
    interpreter = tflite_interpreter(file)
    for tensor in interpreter.get_tensor_details():
        if tensor["dtype"] not in (np.int8, np.int32):
            raise ValueError(f"tensor {tensor['name']} is {tensor['dtype']}, not an integer")
    ops = [str(op["op_name"]) for op in interpreter._get_ops_details()]
    if not INTEGER_OPS.issuperset(ops):
        raise ValueError(f"unexpected ops: {sorted(set(ops) - INTEGER_OPS)}")
    return ops


# ONNX


def onnx_graph(model: Any) -> onnx.ModelProto:
    """Build the Keras model as ONNX from its weights, NCHW with batch 1."""
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def add(op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def weights(layer: str, *axes: int) -> list[str]:
        kernel, bias = model.get_layer(layer).get_weights()
        arrays = {f"{layer}.weight": kernel.transpose(axes), f"{layer}.bias": bias}
        for name, array in arrays.items():
            constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return list(arrays)

    def conv(x: str, layer: str, relu: bool = True) -> str:
        keras_layer = model.get_layer(layer)
        size = keras_layer.kernel_size[0]
        depthwise = isinstance(keras_layer, keras.layers.DepthwiseConv2D)
        # Keras has (H, W, in, out), depthwise (H, W, in, 1); ONNX has (out, in / group, H, W).
        names = weights(layer, *((2, 3, 0, 1) if depthwise else (3, 2, 0, 1)))
        group = constants[-2].dims[0] if depthwise else 1
        pads = [size // 2] * 4
        shape = {"kernel_shape": [size, size], "pads": pads, "group": group}
        out = add("Conv", [x, *names], f"{layer}.conv", **shape)
        return add("Relu", [out], f"{layer}.relu") if relu else out

    x = conv("image", "stem")
    x = conv(conv(x, "dw1"), "pw1")
    x = add("AveragePool", [x], "pool", kernel_shape=[2, 2], strides=[2, 2])
    x = add("Add", [x, conv(x, "branch", relu=False)], "sum")
    x = add("Relu", [x], "sum.relu")
    x = conv(conv(x, "dw2"), "pw2")
    x = add("Flatten", [add("GlobalAveragePool", [x], "mean")], "flat", axis=1)
    x = add("Gemm", [x, *weights("dense", 1, 0)], "logits", transB=1)
    add("Softmax", [x], "probabilities", axis=1)

    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 10])],
        constants,
    )
    opset = helper.make_opsetid("", OPSET)
    proto = helper.make_model(
        graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="train_digits"
    )
    proto = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    onnx.checker.check_model(proto, full_check=True)
    return proto


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    """Hands training pictures (N, 8, 8, 1) one by one to the quantizer, as (1, 1, 8, 8)."""

    def __init__(self, x: Floats) -> None:
        """Hand out the rows of x, once."""
        self._rows = iter(x)

    def get_next(self) -> dict[str, Floats] | None:
        """Return the next sample, None at the end."""
        row = next(self._rows, None)
        return None if row is None else {"image": row.reshape(1, 1, 8, 8)}


def onnx_quantized(proto: onnx.ModelProto, calibration: Floats) -> onnx.ModelProto:
    """Insert Q/DQ pairs: int8 activations, symmetric int8 weights per channel."""
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(proto, source)
        quantize_static(
            source,
            result,
            Calibration(calibration),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        quantized = onnx.load(result)
    quantized.ir_version = IR_VERSION
    onnx.checker.check_model(quantized, full_check=True)
    return quantized


def onnx_predict(file: bytes, x: Floats) -> Floats:
    """Run the file on x (N, 8, 8, 1) picture by picture; outputs (N, 10)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    rows = [session.run(None, {"image": sample.reshape(1, 1, 8, 8)})[0][0] for sample in x]
    return np.stack(rows)


# Data


def to_grey(images: Bytes) -> Bytes:
    """Pixels 0..255 of values 0..16."""
    return ((images.astype(np.int32) * 255 + 8) // 16).astype(np.uint8)


def to_pictures(images: Bytes) -> Bytes:
    """Red, green, blue (N, 8, 8, 3) of pictures (N, 8, 8) of values 0..16."""
    return np.repeat(to_grey(images)[..., np.newaxis], 3, axis=3)


def write_data(out: Path, train_x: Bytes, test_x: Bytes, test_y: Bytes) -> list[Path]:
    """Write the test split, pictures to calibrate with, the labels and the first test picture of
    each class in PICTURES."""
    np.savez_compressed(
        out / "digits_test.npz", images=test_x, labels=test_y, x=to_pictures(test_x)
    )
    np.savez_compressed(out / "digits_calibration.npz", x=to_pictures(train_x[:CALIBRATION]))
    (out / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS), encoding="ascii")
    written = [out / name for name in ("digits_test.npz", "digits_calibration.npz", "labels.txt")]
    for digit in PICTURES:
        image = test_x[int(np.flatnonzero(test_y == digit)[0])]
        path = out / f"digit_{digit}.png"
        Image.fromarray(to_grey(image)).save(path, optimize=True)
        written.append(path)
    return written


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    default = Path(__file__).resolve().parent.parent / "examples" / "digits"
    parser = argparse.ArgumentParser(
        description="Train the digits example and write its TFLite and ONNX models and test data.",
        epilog="example: python tools/train_digits.py --out /tmp/digits",
    )
    parser.add_argument(
        "--out", type=Path, default=default, metavar="DIR", help="folder [examples/digits]"
    )
    parser.add_argument(
        "--epochs", type=int, default=EPOCHS, metavar="N", help="training epochs [%(default)s]"
    )
    return parser.parse_args()


def main() -> None:
    """Train, write, and print what was written and how well it reads the test split."""
    arguments = parse_arguments()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()

    train_x, train_y, test_x, test_y = load_split()
    model = train(train_x, train_y, arguments.epochs)
    x = to_input(test_x)
    expected = model.predict(x, verbose=0)
    print(f"{model.count_params():,} parameters, {len(train_x)} training pictures")

    calibration = to_input(train_x[:CALIBRATION])
    graph = onnx_graph(model)
    files: dict[str, bytes] = {
        "digits_float.tflite": tflite_file(model, None),
        "digits_int8.tflite": tflite_file(model, calibration),
        "digits_float.onnx": graph.SerializeToString(deterministic=True),
        "digits_int8.onnx": onnx_quantized(graph, calibration).SerializeToString(
            deterministic=True
        ),
    }
    print("digits_int8.tflite:", " ".join(check_integer_only(files["digits_int8.tflite"])))
    for name, file in files.items():
        predict: Callable[[bytes, Floats], Floats]
        predict = tflite_predict if name.endswith(".tflite") else onnx_predict
        outputs = predict(file, x)
        difference = float(np.abs(outputs - expected).max())
        if "float" in name and difference > 1e-5:
            raise ValueError(f"{name} differs from Keras by {difference:g}")
        (out / name).write_bytes(file)
        right = int((outputs.argmax(axis=1) == test_y).sum())
        print(
            f"{name:20} {len(file):6,} bytes   accuracy {right}/{len(test_y)} = "
            f"{right / len(test_y):.2%}   largest difference from Keras {difference:.1e}"
        )
    for path in write_data(out, train_x, test_x, test_y):
        print(f"{path.name:20} {path.stat().st_size:6,} bytes")


if __name__ == "__main__":
    main()
