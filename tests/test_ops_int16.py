# SPDX-License-Identifier: Apache-2.0
"""Operators of int16 (int16 activations, int8 weights) against TFLite's reference kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from cases import Rng, activation, chance, dims, f32, fill, log_uniform, pick, seeded, weight_values
from oracle import check, reference, run_edgeq
from tflite_builder import ModelBuilder

import edgeq
from edgeq.errors import UnsupportedError

WORD = "int16"


def scale(rng: Rng) -> float:
    return log_uniform(rng, 2.0**-15, 2.0**-5)


def words(rng: Rng, shape: Sequence[int]) -> np.ndarray:
    return fill(rng, shape, WORD)


def run_one(
    kind: str,
    inputs: Sequence[tuple[np.ndarray, float]],
    shape: Sequence[int],
    y_scale: float | None,
    *,
    consts: Sequence[Any] = (),
    y_dtype: str = WORD,
    y_zero: int = 0,
    verify: Callable[[bytes, Sequence[np.ndarray]], None] = check,
    **options: Any,
) -> None:
    """One operator on int16 or int32 inputs, then constant operands."""
    b = ModelBuilder()
    operands = [b.input(f"x{i}", x.shape, x.dtype.name, s, 0) for i, (x, s) in enumerate(inputs)]
    operands += [b.const(f"c{i}", np.asarray(c)) for i, c in enumerate(consts)]
    y = b.tensor("y", shape, y_dtype, y_scale, y_zero)
    b.op(kind, operands, [y], **options)
    b.output(y)
    verify(b.finish(), [x for x, _ in inputs])


# ---- layers with weights


def layer_model(
    rng: Rng, kind: str, x: np.ndarray, w: np.ndarray, shape: Sequence[int], **options: Any
) -> bytes:
    """Scales that mostly spread the accumulators over the output's range."""
    axis = 3 if kind == "DEPTHWISE_CONV_2D" else 0
    per_channel = kind != "FULLY_CONNECTED" and chance(rng, 0.5)
    channels, taps = w.shape[axis], w.size // w.shape[axis]
    sx, sy = scale(rng), scale(rng)
    spread = np.abs(w.astype(np.float64)).mean() + 1
    low, high = (0.1, 2.0) if chance(rng, 0.8) else (2.0**-10, 20.0)
    factors = np.exp(rng.uniform(np.log(low), np.log(high), channels if per_channel else 1))
    factors = factors / (np.sqrt(taps) * spread)
    if per_channel and chance(rng, 0.2):
        factors[rng.random(channels) < 0.3] = 2.0**-40  # M underflows to 0
    scales = [f32(m * sy / sx) for m in factors]
    b = ModelBuilder()
    x_in = b.input("x", x.shape, WORD, sx, 0)
    weights = b.const("w", w, scales, [0] * len(scales), axis if per_channel else 0)
    operands = [x_in, weights]
    if kind == "TRANSPOSE_CONV":
        operands = [b.const("shape", np.array(shape, np.int32)), weights, x_in]
    if kind == "CONV_2D" or chance(rng, 0.7):
        bias = rng.normal(0, 2.0 ** rng.uniform(10, 36), channels).astype(np.int64)
        operands.append(b.const("bias", bias, [f32(sx * s) for s in scales]))
    y = b.tensor("y", shape, WORD, sy, 0)
    b.op(kind, operands, [y], **options)
    b.output(y)
    return b.finish()


def windows(rng: Rng) -> tuple[tuple[int, int, int, int], tuple[int, int], tuple[int, int]]:
    """Input shape, kernel, strides."""
    n, c = pick(rng, 1, 1, 2), pick(rng, 1, 3, 4, 8, 17, 40)
    return (n, *dims(rng, 2, 1, 9), c), dims(rng, 2, 1, 4), dims(rng, 2, 1, 3)


@seeded(40)
def test_conv_2d(rng: Rng) -> None:
    x_shape, (kh, kw), (sh, sw) = windows(rng)
    n, h, w, c = x_shape
    channels = pick(rng, 1, 3, 8, 16, 35)
    x = words(rng, x_shape)
    weights = weight_values(rng, (channels, kh, kw, c), "int8", 0)
    shape = (n, -(-h // sh), -(-w // sw), channels)
    options = {"padding": "SAME", "stride_h": sh, "stride_w": sw}
    fused = activation(rng)
    check(
        layer_model(rng, "CONV_2D", x, weights, shape, fused_activation_function=fused, **options),
        [x],
    )


@seeded(30)
def test_depthwise_conv_2d(rng: Rng) -> None:
    x_shape, (kh, kw), (sh, _) = windows(rng)
    n, h, w, c = x_shape
    multiplier = pick(rng, 1, 1, 2, 3)
    x = words(rng, x_shape)
    weights = weight_values(rng, (1, kh, kw, c * multiplier), "int8", 0)
    shape = (n, -(-h // sh), -(-w // sh), c * multiplier)
    options = {"padding": "SAME", "stride_h": sh, "stride_w": sh, "depth_multiplier": multiplier}
    check(layer_model(rng, "DEPTHWISE_CONV_2D", x, weights, shape, **options), [x])


@seeded(30)
def test_fully_connected(rng: Rng) -> None:
    rows, depth, units = pick(rng, 1, 1, 2, 5), pick(rng, 1, 7, 64, 300, 1030), pick(rng, 1, 10, 33)
    x, weights = words(rng, (rows, depth)), weight_values(rng, (units, depth), "int8", 0)
    fused = activation(rng)
    options = {"fused_activation_function": fused}
    check(layer_model(rng, "FULLY_CONNECTED", x, weights, (rows, units), **options), [x])


@seeded(20)
def test_transpose_conv(rng: Rng) -> None:
    x_shape, (kh, kw), (sh, sw) = windows(rng)
    n, h, w, c = x_shape
    channels = pick(rng, 1, 3, 16)
    x, weights = words(rng, x_shape), weight_values(rng, (channels, kh, kw, c), "int8", 0)
    options = {"padding": "SAME", "stride_h": sh, "stride_w": sw}
    shape = (n, h * sh, w * sw, channels)
    check(layer_model(rng, "TRANSPOSE_CONV", x, weights, shape, **options), [x])


@seeded(20)
@pytest.mark.parametrize("kind", ["CONV_2D", "FULLY_CONNECTED"])
def test_bias_of_32_bits(kind: str, rng: Rng) -> None:
    """Files may have one; the reference then accumulates in 32 bits and rounds twice."""
    depth, channels = pick(rng, 1, 8, 100), pick(rng, 1, 4, 19)
    shape = (2, 1, 1, depth) if kind == "CONV_2D" else (2, depth)
    x, w = words(rng, shape), weight_values(rng, (channels, *shape[1:]), "int8", 0)
    sx, sy = scale(rng), scale(rng)
    ws = f32(sy / sx * 2.0 ** rng.uniform(-14, -8))
    b = ModelBuilder()
    x_in, weights = b.input("x", shape, WORD, sx, 0), b.const("w", w, [ws], [0])
    bias = b.const("bias", rng.integers(-(2**28), 2**28, channels).astype(np.int32), [f32(sx * ws)])
    y = b.tensor("y", (*shape[:-1], channels), WORD, sy, 0)
    options = {"padding": "SAME", "stride_h": 1, "stride_w": 1} if kind == "CONV_2D" else {}
    b.op(kind, [x_in, weights, bias], [y], **options)
    b.output(y)
    check(b.finish(), [x])


def test_accumulators_of_more_than_32_bits() -> None:
    """All products of one sign: 1030 * 2^15 * 127 and a bias of 2^40."""
    x, w = np.full((1, 1030), -32768, np.int16), np.full((3, 1030), -127, np.int8)
    b = ModelBuilder()
    x_in = b.input("x", x.shape, WORD, 2.0**-10, 0)
    weights = b.const("w", w, [2.0**-12], [0])
    bias = b.const("bias", np.array([0, 2**40, -(2**40)]), [2.0**-22])
    y = b.tensor("y", (1, 3), WORD, 2.0**6, 0)
    b.op("FULLY_CONNECTED", [x_in, weights, bias], [y])
    b.output(y)
    check(b.finish(), [x])
    (got,) = run_edgeq(b.finish(), [x])
    assert got.tolist() == [
        [round(1030 * 127 * 2**15 / 2**28), 32767 if 2**12 > 32767 else 4112, -4080]
    ]


# ---- arithmetic


def operand_shapes(rng: Rng) -> tuple[tuple[int, ...], tuple[int, ...]]:
    shape = dims(rng, 4, 1, 7)
    kind = rng.integers(4)
    if kind == 0:
        return shape, shape[-1:]
    if kind == 1:
        return shape, (1,)
    return shape, shape


@seeded(60)
@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
def test_arithmetic(kind: str, rng: Rng) -> None:
    shape, other = operand_shapes(rng)
    s1, s2, sy = scale(rng), scale(rng), scale(rng)
    if kind == "MUL":
        sy = f32(s1 * s2 * 32768 * rng.uniform(0.2, 2))
    inputs = [(words(rng, shape), s1), (words(rng, other), s2)]
    run_one(kind, inputs, shape, sy, fused_activation_function=activation(rng))


@seeded(30)
@pytest.mark.parametrize("kind", ["ADD", "SUB"])
def test_sums_on_powers_of_two(kind: str, rng: Rng) -> None:
    """The reference shifts the finer operand then, instead of scaling both."""
    shape = dims(rng, 4, 1, 7)
    exponent, finer = int(rng.integers(-14, -6)), int(rng.integers(0, 5))
    scales = [2.0**exponent, 2.0 ** (exponent - finer)]
    rng.shuffle(scales)
    inputs = [(words(rng, shape), s) for s in scales]
    run_one(kind, inputs, shape, 2.0**exponent, fused_activation_function=activation(rng))


@seeded(20)
@pytest.mark.parametrize("kind", ["MAXIMUM", "MINIMUM"])
def test_extremum(kind: str, rng: Rng) -> None:
    shape, other = operand_shapes(rng)
    run_one(kind, [(words(rng, shape), 0.1), (words(rng, other), 0.1)], shape, 0.1)


# ---- functions of one element


def every_word() -> np.ndarray:
    return np.arange(-(2**15), 2**15, dtype=np.int16).reshape(1, 256, 256, 1)


@seeded(12)
@pytest.mark.parametrize("kind", ["LOGISTIC", "TANH"])
def test_sigmoid_of_every_input(kind: str, rng: Rng) -> None:
    x = every_word()
    sx = log_uniform(rng, 2.0**-16, 2.0) if chance(rng, 0.7) else 2.0 ** rng.integers(-15, -8)
    run_one(kind, [(x, sx)], x.shape, 2.0**-15)


@pytest.mark.parametrize("sx", [2.0**-11, 2.0**-12, 2.0**-13])
@pytest.mark.parametrize("kind", ["LOGISTIC", "TANH"])
def test_sigmoid_on_powers_of_two(kind: str, sx: float) -> None:
    x = every_word()
    run_one(kind, [(x, sx)], x.shape, 2.0**-15)


@seeded(15)
@pytest.mark.parametrize("kind", ["RELU", "RELU6", "LEAKY_RELU"])
def test_relu(kind: str, rng: Rng) -> None:
    x, sx = every_word(), scale(rng)
    sy = sx if chance(rng, 0.2) else f32(sx * np.exp(rng.uniform(-2, 2)))
    options = {"alpha": float(rng.uniform(-1.5, 1.5))} if kind == "LEAKY_RELU" else {}
    run_one(kind, [(x, sx)], x.shape, sy, **options)


@seeded(10)
@pytest.mark.parametrize("y_dtype", ["int8", "int16", "int32"])
@pytest.mark.parametrize("x_dtype", ["int16", "int32"])
def test_quantize(x_dtype: str, y_dtype: str, rng: Rng) -> None:
    if (x_dtype, y_dtype) == ("int32", "int32"):
        pytest.skip("no such operator")
    x = every_word() if x_dtype == WORD else fill(rng, (1, 64, 64, 1), x_dtype)
    sx = scale(rng) * (1 if x_dtype == WORD else 2.0**-16)
    sy = f32(sx * np.exp(rng.uniform(-2, 8)) * (2 if y_dtype == "int8" else 1))
    y_zero = int(rng.integers(-128, 128)) if y_dtype == "int8" else 0
    run_one("QUANTIZE", [(x, f32(sx))], x.shape, sy, y_dtype=y_dtype, y_zero=y_zero)


@seeded(30)
def test_softmax(rng: Rng) -> None:
    shape = (int(rng.integers(1, 4)), pick(rng, 1, 2, 5, 64, 257, 1001, 3000))
    x, sx = words(rng, shape), log_uniform(rng, 2.0**-16, 2.0**-6)
    run_one("SOFTMAX", [(x, sx)], shape, 2.0**-15, beta=float(rng.choice([1.0, 0.5, 3.0])))


def test_dequantize() -> None:
    x = every_word()
    run_one("DEQUANTIZE", [(x, 0.0123)], x.shape, None, y_dtype="float32")


# ---- pools, reductions, moves


@seeded(30)
@pytest.mark.parametrize("kind", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
def test_pool(kind: str, rng: Rng) -> None:
    x_shape, (kh, kw), (sh, sw) = windows(rng)
    n, h, w, c = x_shape
    options = {"padding": "SAME", "stride_h": sh, "stride_w": sw}
    options |= {
        "filter_height": kh,
        "filter_width": kw,
        "fused_activation_function": activation(rng),
    }
    shape = (n, -(-h // sh), -(-w // sw), c)
    run_one(kind, [(words(rng, x_shape), 0.001)], shape, 0.001, **options)


@seeded(30)
@pytest.mark.parametrize("kind", ["MEAN", "SUM", "REDUCE_MAX"])
def test_reduction(kind: str, rng: Rng) -> None:
    shape = dims(rng, 4, 1, 9)
    axes = sorted(rng.choice(4, int(rng.integers(1, 5)), replace=False).tolist())
    kept = tuple(1 if i in axes else d for i, d in enumerate(shape))
    x, sx = words(rng, shape), scale(rng)
    sy = f32(sx * np.exp(rng.uniform(-1, 1))) if kind == "MEAN" else sx
    if kind == "SUM":  # the reference wraps beyond int16, see docs/ORACLE.md
        x = (x // np.prod([shape[i] for i in axes])).astype(np.int16)
    run_one(kind, [(x, sx)], kept, sy, consts=[np.array(axes, np.int32)], keep_dims=True)


@seeded(15)
@pytest.mark.parametrize("kind", ["RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"])
def test_resize(kind: str, rng: Rng) -> None:
    n, h, w, c = dims(rng, 4, 1, 6)
    size = dims(rng, 2, 1, 11)
    half = chance(rng, 0.5)
    options = {"half_pixel_centers": half, "align_corners": not half and chance(rng, 0.5)}
    x = words(rng, (n, h, w, c))
    run_one(kind, [(x, 0.1)], (n, *size, c), 0.1, consts=[np.array(size, np.int32)], **options)


def test_moves() -> None:
    rng = np.random.default_rng(3)
    x = words(rng, (1, 4, 6, 3))
    pads = np.array([[0, 0], [1, 2], [0, 1], [0, 0]], np.int32)
    run_one("PAD", [(x, 0.1)], (1, 7, 7, 3), 0.1, consts=[pads])
    run_one("MIRROR_PAD", [(x, 0.1)], (1, 7, 7, 3), 0.1, consts=[pads], mode="REFLECT")
    perm = np.array([0, 3, 1, 2], np.int32)
    run_one("TRANSPOSE", [(x, 0.1)], (1, 3, 4, 6), 0.1, consts=[perm])
    run_one("RESHAPE", [(x, 0.1)], (1, 72), 0.1, consts=[np.array([1, 72], np.int32)])
    ends = [np.array(v, np.int32) for v in ([0, 3, 0, 0], [1, 0, 6, 2], [1, -2, 3, 1])]
    run_one("STRIDED_SLICE", [(x, 0.1)], (1, 2, 2, 2), 0.1, consts=ends)
    bounds = [np.array(v, np.int32) for v in ([0, 1, 2, 0], [1, 2, 3, 3])]
    run_one("SLICE", [(x, 0.1)], (1, 2, 3, 3), 0.1, consts=bounds)
    run_one("CONCATENATION", [(x, 0.1), (x[:, ::-1], 0.1)], (1, 4, 6, 6), 0.1, axis=3)
    run_one("PACK", [(x, 0.1), (x, 0.1)], (2, 1, 4, 6, 3), 0.1, axis=0, values_count=2)


def test_split() -> None:
    x = words(np.random.default_rng(4), (1, 4, 6))
    b = ModelBuilder()
    given = b.input("x", x.shape, WORD, 0.1, 0)
    axis = b.const("axis", np.array(2, np.int32))
    parts = [b.tensor(f"y{i}", (1, 4, 2), WORD, 0.1, 0) for i in range(3)]
    b.op("SPLIT", [axis, given], parts, num_splits=3)
    b.output(*parts)
    check(b.finish(), [x])


# ---- where the oracle is wrong (docs/ORACLE.md)


def test_sum_saturates() -> None:
    x = np.full((1, 4), 30_000, np.int16)

    def verify(model: bytes, inputs: Sequence[np.ndarray]) -> None:
        assert reference(model, inputs)[0].item() == 120_000 - 2**17
        assert run_edgeq(model, inputs)[0].item() == 32_767

    options = {"consts": [np.array([1], np.int32)], "keep_dims": True, "verify": verify}
    run_one("SUM", [(x, 0.1)], (1, 1), 0.1, **options)


def test_concatenation_rescales() -> None:
    """The reference hands bytes through, whatever their scale."""
    x = np.array([[1000, -2000]], np.int16)

    def verify(model: bytes, inputs: Sequence[np.ndarray]) -> None:
        assert run_edgeq(model, inputs)[0].tolist() == [[1000, -2000, 500, -1000]]

    run_one("CONCATENATION", [(x, 0.2), (x, 0.1)], (1, 4), 0.2, axis=1, verify=verify)


# ---- what is refused


def problems(model: bytes) -> str:
    with pytest.raises(UnsupportedError) as caught:
        edgeq.convert(model)
    return " ".join(caught.value.problems)


def test_refusals() -> None:
    x = np.zeros((1, 4), np.int16)
    b = ModelBuilder()
    given, y = b.input("x", x.shape, WORD, 0.1, 0), b.tensor("y", x.shape, WORD, 0.1, 0)
    b.op("LOG_SOFTMAX", [given], [y])
    b.output(y)
    text = "op 0 LOG_SOFTMAX 'y': int16 is not supported here; quantize this operator with int8"
    assert text in problems(b.finish())
    b = ModelBuilder()
    given, y = b.input("x", x.shape, WORD, 0.1, 0), b.tensor("y", x.shape, WORD)
    b.op("RELU", [given], [y])
    b.output(y)
    assert "'y' is int16 without scale and zero point" in problems(b.finish())
    b = ModelBuilder()
    given, y = b.input("x", x.shape, WORD, 0.1, 0), b.tensor("y", x.shape, WORD, 0.1, 3)
    b.op("RELU", [given], [y])
    b.output(y)
    with pytest.raises(edgeq.FormatError, match="an int16 tensor's zero point must be 0"):
        edgeq.convert(b.finish())


# ---- the edge


def test_float32_ports() -> None:
    """QUANTIZE and DEQUANTIZE at the edge become ports; the C library quantizes."""
    rng = np.random.default_rng(11)
    b = ModelBuilder()
    x, y = b.input("x", (1, 50), "float32"), b.tensor("y", (1, 50), "float32")
    inner, out = b.tensor("q", (1, 50), WORD, 0.001, 0), b.tensor("r", (1, 50), WORD, 0.002, 0)
    b.op("QUANTIZE", [x], [inner])
    b.op("LEAKY_RELU", [inner], [out], alpha=0.3)
    b.op("DEQUANTIZE", [out], [y])
    b.output(y)
    model = edgeq.load(edgeq.convert(b.finish()).data)
    assert (model.inputs[0].dtype, model.outputs[0].dtype) == (np.float32, np.float32)
    check(b.finish(), [rng.normal(0, 20, (1, 50)).astype(np.float32)])
