# SPDX-License-Identifier: Apache-2.0
"""CONV_2D, DEPTHWISE_CONV_2D and TRANSPOSE_CONV against the oracle.

What the oracle refuses, and the generators therefore avoid:
- CONV_2D without a bias operand, CONV_2D and DEPTHWISE_CONV_2D with one left out as -1;
- CONV_2D with an int8 weight zero point other than 0 (DEPTHWISE_CONV_2D and TRANSPOSE_CONV take
  one and ignore it);
- per-channel scales with uint8;
- uint8: a bias scale further than 0.02 output scales from input scale x weight scale;
- a window larger than the input under VALID padding;
- TRANSPOSE_CONV beyond version 3, although the fused activation, which the schema counts as
  version 4, has its effect at version 3.
"""

from __future__ import annotations

import numpy as np
import pytest
from cases import (
    BYTE_TYPES,
    Layer,
    Quant,
    Rng,
    Shape,
    activation,
    chance,
    fill,
    limits,
    output_quant,
    pick,
    seeded,
    weight_values,
    zero_point,
)
from oracle import check
from tflite_builder import ModelBuilder


def weight_zero(rng: Rng, dtype: str) -> int:
    return zero_point(rng, dtype) if dtype == "uint8" else 0


def window(rng: Rng, size: int, padding: str, taps: int) -> tuple[int, int, int, int]:
    """(taps, dilation, stride, output size) of one axis, valid for `padding`."""
    stride = pick(rng, 1, 1, 2, 3)
    dilation = pick(rng, 1, 1, 1, 2, 3)
    if padding == "VALID":
        taps = min(taps, size)
        if taps > 1:
            dilation = min(dilation, (size - 1) // (taps - 1))
        return taps, dilation, stride, (size - (taps - 1) * dilation - 1) // stride + 1
    return taps, dilation, stride, -(-size // stride)


def spatial(rng: Rng, taps: tuple[int, int]) -> tuple[Shape, Shape, Shape, dict[str, object]]:
    """Input size, window and output size (h, w), and the operator's options."""
    padding = str(rng.choice(["SAME", "VALID"]))
    h, w = (int(n) for n in rng.integers(1, 11, 2))
    kh, dh, sh, oh = window(rng, h, padding, taps[0])
    kw, dw, sw, ow = window(rng, w, padding, taps[1])
    options = {
        "padding": padding,
        "stride_h": sh,
        "stride_w": sw,
        "dilation_h_factor": dh,
        "dilation_w_factor": dw,
        "fused_activation_function": activation(rng),
    }
    return (h, w), (kh, kw), (oh, ow), options


def conv_case(
    rng: Rng,
    dtype: str,
    taps: tuple[int, int],
    channels: tuple[int, int],
    groups: int = 1,
    per_channel: bool = True,
) -> tuple[bytes, list[np.ndarray]]:
    """A CONV_2D with `channels` = (in, out), both multiples of `groups`."""
    size, kernel, out, options = spatial(rng, taps)
    batch = pick(rng, 1, 1, 1, 2, 3)
    c_in, c_out = channels
    x, zero = Quant.random(rng, dtype), weight_zero(rng, dtype)
    w = weight_values(rng, (c_out, *kernel, c_in // groups), dtype, zero)
    y = output_quant(rng, dtype, str(options["fused_activation_function"]))
    layer = Layer.fit(rng, x, w.reshape(c_out, -1), zero, y, per_channel and dtype == "int8")

    b = ModelBuilder()
    shape = (batch, *size, c_in)
    ti = x.input(b, "x", shape)
    tw, tb = layer.add_weights(b, w, zero, 0), layer.add_bias(b)
    to = y.tensor(b, "y", (batch, *out, c_out))
    b.op("CONV_2D", [ti, tw, tb], [to], **options)
    b.output(to)
    return b.finish(), [fill(rng, shape, dtype)]


def random_taps(rng: Rng) -> tuple[int, int]:
    k = pick(rng, 1, 2, 3, 3, 3, 5)
    return (k, k) if chance(rng, 0.6) else (k, pick(rng, 1, 2, 3, 4, 7))


@pytest.mark.parametrize("quantization", ["channel", "tensor"])
@seeded(60)
def test_conv_2d(rng: Rng, quantization: str) -> None:
    channels = (int(rng.integers(1, 20)), int(rng.integers(1, 20)))
    check(*conv_case(rng, "int8", random_taps(rng), channels, 1, quantization == "channel"))


@seeded(50)
def test_conv_2d_uint8(rng: Rng) -> None:
    """Weights with a zero point of their own; M comes from a float32 product of the scales."""
    channels = (int(rng.integers(1, 20)), int(rng.integers(1, 20)))
    check(*conv_case(rng, "uint8", random_taps(rng), channels))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(30)
def test_conv_2d_pointwise(rng: Rng, dtype: str) -> None:
    """1x1 windows, the matrix products of the mobile networks, over all tile remainders."""
    channels = (int(rng.integers(1, 140)), int(rng.integers(1, 80)))
    check(*conv_case(rng, dtype, (1, 1), channels))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(20)
def test_conv_2d_first_layer(rng: Rng, dtype: str) -> None:
    """Few input channels, many outputs, odd windows."""
    k = pick(rng, 3, 5, 7)
    check(*conv_case(rng, dtype, (k, k), (pick(rng, 1, 2, 3, 4), int(rng.integers(8, 40)))))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(30)
def test_conv_2d_groups(rng: Rng, dtype: str) -> None:
    groups = pick(rng, 2, 3, 4, 8)
    channels = (groups * int(rng.integers(1, 6)), groups * int(rng.integers(1, 6)))
    check(*conv_case(rng, dtype, random_taps(rng), channels, groups))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(12)
def test_conv_2d_deep(rng: Rng, dtype: str) -> None:
    """Long sums of extreme products, where a 16-bit intermediate would saturate."""
    low, high = limits(dtype)
    depth, c_out = int(rng.integers(200, 700)), int(rng.integers(1, 12))
    x = Quant(dtype, 0.02, pick(rng, low, high, low + 128))
    zero = pick(rng, 0, 255, 128) if dtype == "uint8" else 0
    w = rng.choice([low, high], (c_out, 1, 1, depth)).astype(dtype)
    y = Quant.random(rng, dtype)
    layer = Layer.fit(rng, x, w.reshape(c_out, -1), zero, y, dtype == "int8")
    b = ModelBuilder()
    shape = (1, 3, 3, depth)
    ti = x.input(b, "x", shape)
    tw, tb = layer.add_weights(b, w, zero, 0), layer.add_bias(b)
    to = y.tensor(b, "y", (1, 3, 3, c_out))
    b.op("CONV_2D", [ti, tw, tb], [to], padding="VALID", stride_h=1, stride_w=1)
    b.output(to)
    check(b.finish(), [rng.choice([low, high], shape).astype(dtype)])


def depthwise_case(
    rng: Rng,
    dtype: str,
    taps: tuple[int, int],
    channels: int,
    depth_multiplier: int,
    per_channel: bool = True,
) -> tuple[bytes, list[np.ndarray]]:
    """A DEPTHWISE_CONV_2D; its weights are (1, H, W, channels x multiplier)."""
    size, kernel, out, options = spatial(rng, taps)
    batch = pick(rng, 1, 1, 1, 2)
    c_out = channels * depth_multiplier
    x, zero = Quant.random(rng, dtype), weight_zero(rng, dtype)
    w = weight_values(rng, (1, *kernel, c_out), dtype, zero)
    y = output_quant(rng, dtype, str(options["fused_activation_function"]))
    layer = Layer.fit(rng, x, w.reshape(-1, c_out).T, zero, y, per_channel and dtype == "int8")

    b = ModelBuilder()
    shape = (batch, *size, channels)
    operands = [x.input(b, "x", shape), layer.add_weights(b, w, zero, 3)]
    if chance(rng, 0.85):
        operands.append(layer.add_bias(b))
    to = y.tensor(b, "y", (batch, *out, c_out))
    b.op("DEPTHWISE_CONV_2D", operands, [to], depth_multiplier=depth_multiplier, **options)
    b.output(to)
    return b.finish(), [fill(rng, shape, dtype)]


@pytest.mark.parametrize("quantization", ["channel", "tensor"])
@seeded(50)
def test_depthwise_conv_2d(rng: Rng, quantization: str) -> None:
    channels = int(rng.integers(1, 70))
    check(*depthwise_case(rng, "int8", random_taps(rng), channels, 1, quantization == "channel"))


@seeded(50)
def test_depthwise_conv_2d_uint8(rng: Rng) -> None:
    check(*depthwise_case(rng, "uint8", random_taps(rng), int(rng.integers(1, 70)), 1))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@pytest.mark.parametrize("depth_multiplier", [2, 3, 4, 5, 6, 7, 8])
@seeded(6)
def test_depthwise_conv_2d_multiplier(rng: Rng, dtype: str, depth_multiplier: int) -> None:
    channels = int(rng.integers(1, 12))
    check(*depthwise_case(rng, dtype, random_taps(rng), channels, depth_multiplier))


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(20)
def test_depthwise_conv_2d_3x3(rng: Rng, dtype: str) -> None:
    """The window that mobile networks use, over more channels than any vector holds."""
    check(*depthwise_case(rng, dtype, (3, 3), int(rng.integers(16, 200)), 1))


def transpose_conv_case(
    rng: Rng, dtype: str, per_channel: bool, bias: bool
) -> tuple[bytes, list[np.ndarray]]:
    """A TRANSPOSE_CONV; operands are (output shape, weights (O, H, W, I), input[, bias])."""
    padding = str(rng.choice(["SAME", "VALID"]))
    h, w_in = (int(n) for n in rng.integers(1, 7, 2))
    kh, kw = (int(n) for n in rng.integers(1, 6, 2))
    sh, sw = (pick(rng, 1, 2, 2, 3) for _ in range(2))
    # The forward convolution of the output must give the input's size: under SAME any of the
    # `stride` output sizes that round up to it, under VALID likewise beyond the window.
    extra_h, extra_w = int(rng.integers(sh)), int(rng.integers(sw))
    if padding == "SAME":
        out = (h * sh - extra_h, w_in * sw - extra_w)
    else:
        out = ((h - 1) * sh + kh + extra_h, (w_in - 1) * sw + kw + extra_w)
    batch = pick(rng, 1, 1, 2)
    c_in, c_out = int(rng.integers(1, 20)), int(rng.integers(1, 20))
    fused = activation(rng)
    x, zero = Quant.random(rng, dtype), weight_zero(rng, dtype)
    w = weight_values(rng, (c_out, kh, kw, c_in), dtype, zero)
    y = output_quant(rng, dtype, fused)
    layer = Layer.fit(rng, x, w.reshape(c_out, -1), zero, y, per_channel)

    b = ModelBuilder()
    shape = (batch, h, w_in, c_in)
    to_shape = b.const("shape", np.array([batch, *out, c_out], np.int32))
    tw, ti = layer.add_weights(b, w, zero, 0), x.input(b, "x", shape)
    operands: list[int | None] = [to_shape, tw, ti]
    if bias:
        operands.append(layer.add_bias(b))
    elif chance(rng, 0.5):
        operands.append(None)
    to = y.tensor(b, "y", (batch, *out, c_out))
    b.op(
        "TRANSPOSE_CONV",
        operands,
        [to],
        padding=padding,
        stride_h=sh,
        stride_w=sw,
        fused_activation_function=fused,
    )
    b.output(to)
    return b.finish(), [fill(rng, shape, dtype)]


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@pytest.mark.parametrize("quantization", ["channel", "tensor"])
@seeded(25)
def test_transpose_conv(rng: Rng, quantization: str, bias: bool) -> None:
    check(*transpose_conv_case(rng, "int8", quantization == "channel", bias))


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])
@seeded(25)
def test_transpose_conv_uint8(rng: Rng, bias: bool) -> None:
    check(*transpose_conv_case(rng, "uint8", False, bias))
