# SPDX-License-Identifier: Apache-2.0
"""Graphs of several operators against the oracle: what folding, views, in-place operators and the
memory plan could get wrong."""

from __future__ import annotations

import numpy as np
import pytest
from cases import BYTE_TYPES, Quant, Rng, chance, dims, pick, seeded
from net import Net, T


@pytest.fixture
def net(rng: Rng) -> Net:
    return Net(rng)


def net_of(rng: Rng, dtype: str) -> Net:
    return Net(rng, dtype)


# --- PAD before a convolution


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@pytest.mark.parametrize("kind", ["conv", "depthwise"])
@seeded(12)
def test_pad_folds(rng: Rng, kind: str, dtype: str) -> None:
    """Padding of height and width, symmetric or not, before a VALID or a SAME window."""
    net = net_of(rng, dtype)
    x = net.input((1, *dims(rng, 2, 4, 9), 5))
    pads = [(0, 0), *((int(a), int(b)) for a, b in rng.integers(0, 3, (2, 2))), (0, 0)]
    padded = net.pad(x, pads)
    padding, stride = str(rng.choice(["VALID", "VALID", "SAME"])), pick(rng, 1, 2)
    if kind == "conv":
        net.output(net.conv(padded, 6, 3, stride, padding))
    else:
        net.output(net.depthwise(padded, 3, stride, padding))
    net.check()


def test_pad_of_channels_and_batch(net: Net) -> None:
    x = net.input((1, 5, 5, 3))
    net.output(net.conv(net.pad(x, [(1, 0), (1, 1), (1, 1), (0, 2)]), 4, 3, 1, "VALID"))
    net.check()


def test_pad_used_twice(net: Net) -> None:
    x = net.input((1, 6, 6, 3))
    padded = net.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    net.output(net.conv(padded, 4, 3, 1, "VALID"), net.depthwise(padded, 3, 2, "VALID"))
    net.check()


def test_pad_is_an_output(net: Net) -> None:
    x = net.input((1, 6, 6, 3))
    padded = net.pad(x, [(0, 0), (0, 1), (0, 1), (0, 0)])
    net.output(padded, net.conv(padded, 4, 3, 2, "VALID"))
    net.check()


def test_pad_after_pad(net: Net) -> None:
    x = net.input((1, 5, 5, 3))
    once = net.pad(x, [(0, 0), (1, 0), (0, 1), (0, 0)])
    twice = net.pad(once, [(0, 0), (0, 1), (1, 0), (0, 0)])
    net.output(net.conv(twice, 4, 3, 1, "VALID"))
    net.check()


def test_pad_of_other_parameters(net: Net) -> None:
    """PAD copies bytes and fills with its output's zero point, which here is not the input's."""
    x = net.input((1, 5, 5, 3), Quant("int8", 0.1, 7))
    pads = net.ints([[0, 0], [1, 1], [1, 1], [0, 0]])
    padded = net.op("PAD", [x.index, pads], (1, 7, 7, 3), Quant("int8", 0.05, -20))
    net.output(net.conv(padded, 4, 3, 1, "VALID"))
    net.check()


# --- constants


def test_constant_operands_fold(net: Net) -> None:
    x = net.input((2, 4, 4, 6))
    table = net.reshape(net.const((6, 1)), (1, 1, 1, 6))
    shifted = net.add(table, net.const((1, 1, 1, 6)))
    net.output(net.binary("MUL", x, shifted))
    net.check()


def test_constant_output(net: Net) -> None:
    """One output depends on the input, the other on constants alone."""
    x = net.input((3, 4))
    c = net.requantize(net.add(net.const((3, 4)), net.const((4,))))
    net.output(c, net.add(x, c))
    net.check()


def test_constant_as_output(net: Net) -> None:
    x, c = net.input((3, 4)), net.const((2, 3))
    net.output(net.relu(x), c)
    net.check()


def test_shared_constant(net: Net) -> None:
    """One constant in two places, once through a view."""
    x, c = net.input((2, 12)), net.const((12,))
    y = net.add(x, c)
    folded = net.binary("SUB", net.reshape(y, (2, 3, 4)), net.reshape(c, (3, 4)))
    net.output(folded)
    net.check()


# --- views


def test_reshape_chain(net: Net) -> None:
    x = net.input((1, 4, 1, 6))
    y = net.relu(x)
    y = net.reshape(y, (24,))
    y = net.op("SQUEEZE", [net.reshape(y, (1, 24, 1)).index], (24,), y.quant, squeeze_dims=[0, 2])
    y = net.op("EXPAND_DIMS", [y.index, net.ints(0)], (1, 24), y.quant)
    net.output(net.reshape(y, (2, 3, 4)))
    net.check()


def test_reshape_between_layers(net: Net) -> None:
    x = net.input((2, 3, 3, 4))
    flat = net.reshape(net.conv(x, 5, 3), (2, 45))
    net.output(net.reshape(net.dense(flat, 12), (2, 3, 4)))
    net.check()


def test_input_is_output(net: Net) -> None:
    x = net.input((2, 5))
    net.output(x)
    net.output(net.relu(x))
    net.check()


def test_nothing_but_an_input_as_output(net: Net) -> None:
    x = net.input((2, 5))
    net.output(x)
    net.check()


def test_view_of_input_is_output(net: Net) -> None:
    net.output(net.reshape(net.input((2, 6)), (3, 4)))
    net.check()


def test_view_and_source_are_outputs(net: Net) -> None:
    y = net.relu(net.input((2, 6)))
    net.output(net.reshape(y, (3, 4)), y, net.reshape(y, (12,)))
    net.check()


def test_view_outlives_its_source(net: Net) -> None:
    """The view is read long after the last use of the tensor under it."""
    x = net.input((1, 4, 4, 4))
    y = net.conv(x, 4)
    view = net.reshape(y, (1, 16, 4))
    z = net.conv(net.relu(net.conv(net.conv(x, 8, 3), 4, 3)), 4)
    net.output(net.add(net.reshape(z, (1, 16, 4)), view))
    net.check()


def test_operator_in_place_of_a_viewed_tensor(net: Net) -> None:
    """RELU must not overwrite what the view still shows."""
    y = net.add(net.input((2, 6)), net.const((6,)))
    view = net.reshape(y, (3, 4))
    net.output(net.add(net.reshape(net.relu(y), (3, 4)), view))
    net.check()


def test_same_output_twice(net: Net) -> None:
    y = net.relu(net.input((2, 6)))
    net.output(y, y)
    net.check()


# --- lifetimes and in-place operators


def test_tensor_used_twice(net: Net) -> None:
    x = net.conv(net.input((1, 5, 5, 3)), 8)
    net.output(net.add(net.conv(x, 8, 3), net.depthwise(x)))
    net.check()


@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
@seeded(3)
def test_same_tensor_for_both_operands(rng: Rng, kind: str) -> None:
    net = net_of(rng, "int8")
    x = net.input((2, 7))
    net.output(net.binary(kind, x, x))
    y = net.relu(x)
    net.output(net.binary(kind, y, y))
    net.check()


def test_add_chain_reuses_operands(net: Net) -> None:
    x, y = net.input((1, 6, 6, 4)), net.input((1, 6, 6, 4))
    a = net.add(x, y)
    b = net.add(a, x)
    c = net.add(b, a)
    d = net.add(c, b)
    e = net.add(d, a)
    net.output(net.add(e, y), c)
    net.check()


def test_broadcast_does_not_run_in_place(net: Net) -> None:
    """The small operand is too small to hold the result, and is read again."""
    x = net.input((2, 4, 5))
    row = net.relu(net.input((1, 1, 5)))
    y = net.add(row, x)
    net.output(net.add(y, row))
    net.check()


def test_residual_blocks(net: Net) -> None:
    x = net.conv(net.input((1, 8, 8, 3)), 8, 3, 2)
    for _ in range(4):
        x = net.add(x, net.conv(net.depthwise(net.conv(x, 16)), 8))
    net.output(net.dense(net.mean(x), 5))
    net.check()


def test_squeeze_and_excite(net: Net) -> None:
    x = net.conv(net.input((1, 6, 6, 4)), 12)
    gate = net.logistic(net.conv(net.relu(net.conv(net.mean(x, keep_dims=True), 4)), 12))
    net.output(net.conv(net.binary("MUL", x, gate), 6))
    net.check()


def test_pyramid(net: Net) -> None:
    """Long skips: early tensors live until the end."""
    a = net.conv(net.input((1, 16, 16, 3)), 8)
    b = net.max_pool(net.conv(a, 8, 3))
    c = net.max_pool(net.conv(b, 8, 3))
    up = net.upsample(net.conv(c, 8))
    up = net.concat([net.requantize(up, b.q), b])
    up = net.upsample(net.conv(up, 8, 3))
    net.output(net.conv(net.concat([net.requantize(up, a.q), a]), 2, 3), c)
    net.check()


# --- several inputs and outputs, parts unused


def test_many_inputs_and_outputs(net: Net) -> None:
    a, b, c = net.input((2, 4)), net.input((4,)), net.input((2, 1))
    y = net.add(a, b)
    net.output(net.add(y, c), y, net.relu(b))
    net.check()


def test_unused_input(net: Net) -> None:
    net.input((3, 3))
    net.output(net.relu(net.input((2, 4))))
    net.input((5,))
    net.check()


def test_unused_operators(net: Net) -> None:
    """Results that nobody reads."""
    x = net.input((1, 4, 4, 4))
    net.conv(net.relu(x), 3)
    net.output(net.conv(x, 2))
    net.check()


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_split_with_unused_outputs(rng: Rng, axis: int, dtype: str) -> None:
    net = net_of(rng, dtype)
    shape = [4, 4, 4, 4]
    shape[axis] = 12
    parts = net.split(net.relu(net.input((shape[0], shape[1], shape[2], shape[3]))), 3, axis)
    net.output(net.add(parts[0], parts[2]))
    net.check()


def test_split_outputs_become_outputs(net: Net) -> None:
    parts = net.split(net.input((2, 3, 8)), 4)
    net.output(parts[3], parts[0], net.relu(parts[1]))
    net.check()


def test_unpack_with_unused_outputs(net: Net) -> None:
    x = net.input((2, 3, 5))
    rows = net.ops("UNPACK", [x.index], [((2, 5), x.quant)] * 3, num=3, axis=1)
    net.output(net.add(rows[2], rows[0]))
    net.check()


# --- concatenation, whose parts could be computed in place


def test_concat_of_one_tensor_twice(net: Net) -> None:
    y = net.relu(net.input((2, 3, 4)))
    net.output(net.concat([y, y], 0))
    net.output(net.concat([y, y], 2))
    net.check()


def test_concat_of_inputs_and_constants(net: Net) -> None:
    q = net.quant()
    parts = [net.input((1, 4), q), net.const((2, 4), q), net.input((1, 4), q)]
    net.output(net.concat(parts, 0))
    net.check()


@pytest.mark.parametrize("axis", [0, 3])
def test_concat_parts_are_used_elsewhere(rng: Rng, axis: int) -> None:
    net = net_of(rng, "int8")
    x = net.input((1, 4, 4, 6))
    a = net.relu(x)
    b = net.reshape(net.op("RELU6", [x.index], (1, 4, 4, 6), x.quant), (1, 4, 4, 6))
    joined = net.concat([a, b], axis)
    net.output(net.add(a, b), joined, net.concat([joined, joined], axis), a)
    net.check()


def test_dense_block(net: Net) -> None:
    """Each layer reads the concatenation of all before it."""
    q = net.quant()
    x = net.requantize(net.conv(net.input((1, 5, 5, 3)), 4), q)
    for _ in range(4):
        x = net.concat([x, net.requantize(net.conv(x, 3, 3), q)])
    net.output(net.mean(x))
    net.check()


def test_split_shuffle_concat(net: Net) -> None:
    a, b, c, d = net.split(net.relu(net.input((1, 4, 4, 8))), 4)
    net.output(net.concat([c, a, d, b]))
    net.check()


def test_channel_shuffle(net: Net) -> None:
    y = net.conv(net.input((1, 4, 4, 6)), 12)
    y = net.transpose(net.reshape(y, (1, 4, 4, 3, 4)), (0, 1, 2, 4, 3))
    net.output(net.conv(net.reshape(y, (1, 4, 4, 12)), 5))
    net.check()


# --- float32 at the edges


@pytest.mark.parametrize("dtype", BYTE_TYPES)
def test_float_in_and_out(rng: Rng, dtype: str) -> None:
    net = net_of(rng, dtype)
    x = net.requantize(net.float_input((1, 6, 6, 3)))
    net.output(net.dequantize(net.conv(x, 4, 3)))
    net.check()


def test_float_and_integer_outputs(net: Net) -> None:
    """The same tensor leaves once as float32 and once as it is."""
    y = net.relu(net.requantize(net.float_input((2, 6))))
    net.output(net.dequantize(y), y, net.dequantize(net.reshape(y, (3, 4))))
    net.check()


def test_float_input_quantized_twice(net: Net) -> None:
    x, q = net.float_input((2, 6)), net.quant()
    net.output(net.add(net.requantize(x, q), net.relu(net.requantize(x, q))))
    net.check()


def test_change_of_sign_at_both_edges(rng: Rng) -> None:
    """uint8 outside, int8 inside, as post-training quantization leaves networks."""
    net = net_of(rng, "uint8")
    x = net.input((1, 6, 6, 3), Quant("uint8", 0.05, 130))
    net.dtype = "int8"
    y = net.conv(net.requantize(x, Quant("int8", 0.05, 2)), 4, 3)
    net.output(net.requantize(y, Quant("uint8", y.q.scale, y.q.zero_point + 128)))
    net.check()


# --- anything


def grow(net: Net, pool: list[T]) -> T:
    """Appends one random operator on tensors (1, h, w, c) of `pool`."""
    rng = net.rng
    x = pool[int(rng.integers(len(pool)))]
    _, h, w, c = x.shape
    twins = [t for t in pool if t.shape == x.shape]
    kin = [t for t in pool if t.shape[:3] == x.shape[:3] and t.quant == x.quant]
    choice = int(rng.integers(17))
    if choice < 3:
        return net.conv(x, int(rng.integers(1, 13)), pick(rng, 1, 3), pick(rng, 1, 1, 2))
    if choice == 3:
        return net.depthwise(x, 3, pick(rng, 1, 2))
    if choice < 6:
        return net.add(x, twins[int(rng.integers(len(twins)))])
    if choice == 6:
        gate = net.logistic(net.mean(x, keep_dims=True))
        return net.binary("MUL", x, gate) if chance(rng, 0.5) else net.binary("MUL", gate, x)
    if choice == 7:
        return net.relu(x)
    if choice == 8 and c <= 12:
        return net.concat([x, *(kin[int(rng.integers(len(kin)))] for _ in range(2))])
    if choice == 9 and c % 2 == 0:
        return net.split(x, 2)[pick(rng, 0, 1)]
    if choice == 10 and h * w > 1:
        return net.reshape(x, (1, w, h, c))
    if choice == 11:
        return net.transpose(x, (0, 2, 1, 3))
    if choice == 12 and h * w <= 25:
        return net.upsample(x)
    if choice == 13 and h > 1 and w > 1:
        return net.crop(x, (0, 1, 1, 0), (1, h - 1, w - 1, c))
    if choice == 14 and h * w <= 64:
        return net.conv(net.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)]), 4, 3, 1, "VALID")
    if choice == 15:
        return net.max_pool(x)
    return net.requantize(x)


@pytest.mark.parametrize("dtype", BYTE_TYPES)
@seeded(60)
def test_random_graph(rng: Rng, dtype: str) -> None:
    net = net_of(rng, dtype)
    pool = [net.input((1, *dims(rng, 2, 1, 8), int(rng.integers(1, 9))))]
    if chance(rng, 0.3):
        pool.append(net.input(pool[0].shape))
    for _ in range(int(rng.integers(2, 16))):
        pool.append(grow(net, pool))
    net.output(pool[-1])
    for t in pool[:-1]:
        if chance(rng, 0.15):
            net.output(t)
    net.check()


def test_uint8_network(rng: Rng) -> None:
    """The shape of the legacy classifiers: asymmetric weights throughout."""
    net = net_of(rng, "uint8")
    x = net.conv(net.input((2, 16, 16, 3)), 8, 3, 2, fused_activation_function="RELU6")
    for channels in (12, 16):
        x = net.depthwise(x, 3, 2, fused_activation_function="RELU6")
        x = net.conv(x, channels, fused_activation_function="RELU6")
    y = net.reshape(net.mean(x, keep_dims=True), (2, 16))
    logits = net.dense(y, 10)
    low = int(np.iinfo("uint8").min)
    net.output(net.op("SOFTMAX", [logits.index], (2, 10), Quant("uint8", 1 / 256, low), beta=1.0))
    net.check()
