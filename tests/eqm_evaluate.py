# SPDX-License-Identifier: Apache-2.0
"""Runs a program in numpy, written down from docs/FORMAT.md alone.

Slow and plain, and independent of the C library, whose golden cases it checks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeq.format.golden import golden_digest, golden_inputs
from edgeq.format.program import Program, Value

Params = dict[str, Any]
Shape = tuple[int, ...]


def golden_case(program: Program, seed: int) -> tuple[int, bytes]:
    """(seed, digest) as write_program() takes it."""
    ports = [(p.value.dtype, p.value.shape) for p in program.inputs]
    return seed, golden_digest(evaluate(program, golden_inputs(seed, ports)))


def evaluate(program: Program, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs in their storage dtype."""
    known: dict[Value, np.ndarray] = {}

    def get(value: Value) -> np.ndarray:
        owner = value.owner
        return (known[owner] if owner.data is None else owner.data).reshape(value.shape)

    for port, array in zip(program.inputs, inputs):
        known[port.value] = array
    for op in program.ops:
        result = OPS[op.opcode]([get(v) for v in op.inputs], op.output.shape, op.params)
        if op.opcode in SATURATING:
            limits = np.iinfo(op.output.dtype)
            result = np.clip(result, limits.min, limits.max)
        elif op.opcode == "INTERPOLATE" and op.output.dtype == "int8":
            result = np.minimum((result + 128) >> 8, 127)
        known[op.output] = result.astype(op.output.dtype).reshape(op.output.shape)
    return [get(port.value) for port in program.outputs]


def requantize(x: np.ndarray, m: np.ndarray, e: np.ndarray) -> np.ndarray:
    """R31: x * m * 2**(e - 31), rounded twice."""
    left, right = np.maximum(e, 0).astype(np.int64), np.maximum(-e, 0).astype(np.int64)
    shifted = (((x.astype(np.int64) << left) + 2**31) & 0xFFFFFFFF) - 2**31  # to int32
    high = (shifted * m + 2**30) >> 31
    rest, half = high & ((1 << right) - 1), ((1 << right) - 1) >> 1
    return (high >> right) + (rest > half + (high < 0))


def requantize_r15(
    acc: np.ndarray, m: np.ndarray, e: np.ndarray, fraction: int, zero: int
) -> np.ndarray:
    """R15: acc * m * 2**(e - 15 - fraction) + zero, in 16-bit steps."""
    high, low = 2**15 - 1, -(2**15)
    t = np.clip(np.floor_divide(acc + (1 << -e) // 2, 1 << -e), low, high)
    u = np.clip(np.floor_divide(t * m + 2**14, 2**15), low, high)
    half = 2**fraction // 2
    return np.floor_divide(np.clip(u + zero * 2**fraction + half, low, high), 2**fraction)


def requantize_r22(acc: np.ndarray, m: np.ndarray, e: np.ndarray) -> np.ndarray:
    """R22: acc * m * 2**e, rounded once, ties up, modulo 2**32."""
    rounded = np.floor_divide(acc * m + (1 << (-e - 1)), 1 << -e)
    return (rounded + 2**31) % 2**32 - 2**31


def _finish(acc: np.ndarray, p: Params) -> np.ndarray:
    m, e = p["multiplier"].astype(np.int64), p["exponent"].astype(np.int64)
    if p["arithmetic"] == 2:
        return np.clip(requantize_r22(acc, m, e) + p["y_zero"], p["act_min"], p["act_max"])
    if p["arithmetic"] == 1:
        y = requantize_r15(acc, m, e, p["fraction"], p["y_zero"])
        return np.clip(y, p["act_min"], p["act_max"])
    return np.clip(requantize(acc, m, e) + p["y_zero"], p["act_min"], p["act_max"])


def _bias(p: Params) -> np.ndarray | int:
    return 0 if p["bias"] is None else p["bias"].astype(np.int64)


def fully_connected(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    w = x[1].astype(np.int64) - p["w_zero"]
    rows = x[0].reshape(-1, w.shape[1]).astype(np.int64) - p["x_zero"]
    return _finish(rows @ w.T + _bias(p), p)


def conv_2d(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    """One group. Padding adds nothing: it is where x equals its zero point."""
    image, w = x[0].astype(np.int64) - p["x_zero"], x[1].astype(np.int64) - p["w_zero"]
    acc = np.zeros(shape, np.int64)
    for n, oy, ox, ky, kx in np.ndindex(*shape[:3], *w.shape[1:3]):
        iy = oy * p["stride_h"] - p["pad_top"] + ky * p["dilation_h"]
        ix = ox * p["stride_w"] - p["pad_left"] + kx * p["dilation_w"]
        if 0 <= iy < image.shape[1] and 0 <= ix < image.shape[2]:
            acc[n, oy, ox] += w[:, ky, kx] @ image[n, iy, ix]
    return _finish(acc + _bias(p), p)


def add(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    terms = []
    for i, k in enumerate("12"):
        shifted = (x[i].astype(np.int64) - p[f"x{k}_zero"]) << p["left_shift"]
        terms.append(requantize(shifted, np.int64(p["m" + k]), np.int64(p["e" + k])))
    total = requantize(terms[0] + p["sign2"] * terms[1], np.int64(p["my"]), np.int64(p["ey"]))
    return np.clip(total + p["y_zero"], p["act_min"], p["act_max"])


def concatenation(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    return np.concatenate(x, axis=p["axis"])


def slice_(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    axes = [
        begin + stride * np.arange(size)
        for begin, stride, size in zip(p["begin"], p["stride"], shape)
    ]
    return x[0][np.ix_(*axes)]


def maximum(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    return np.maximum(x[0], x[1])


def copy(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    return x[0]


def lut(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    return p["table"][x[0].astype(np.int64) + 128]


def depthwise_conv_2d(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    image, w = x[0].astype(np.int64) - p["x_zero"], x[1].astype(np.int64) - p["w_zero"]
    image = image.repeat(p["depth_multiplier"], axis=3)
    acc = np.zeros(shape, np.int64)
    for n, oy, ox, ky, kx in np.ndindex(*shape[:3], *w.shape[1:3]):
        iy = oy * p["stride_h"] - p["pad_top"] + ky * p["dilation_h"]
        ix = ox * p["stride_w"] - p["pad_left"] + kx * p["dilation_w"]
        if 0 <= iy < image.shape[1] and 0 <= ix < image.shape[2]:
            acc[n, oy, ox] += w[0, ky, kx] * image[n, iy, ix]
    return _finish(acc + _bias(p), p)


def transpose_conv(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    image, w = x[0].astype(np.int64) - p["x_zero"], x[1].astype(np.int64) - p["w_zero"]
    acc = np.zeros(shape, np.int64)
    for n, a, b, ky, kx in np.ndindex(*image.shape[:3], *w.shape[1:3]):
        i, j = a * p["stride_h"] + ky - p["pad_top"], b * p["stride_w"] + kx - p["pad_left"]
        if 0 <= i < shape[1] and 0 <= j < shape[2]:
            acc[n, i, j] += w[:, ky, kx] @ image[n, a, b]
    return _finish(acc + _bias(p), p)


def mul(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    product = (x[0].astype(np.int64) - p["x1_zero"]) * (x[1].astype(np.int64) - p["x2_zero"])
    y = requantize(product, np.int64(p["m"]), np.int64(p["e"])) + p["y_zero"]
    return np.clip(y, p["act_min"], p["act_max"])


def minimum(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    return np.minimum(x[0], x[1])


def prelu(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    v = x[0].astype(np.int64) - p["x_zero"]
    bent = v * (x[1].astype(np.int64) - p["alpha_zero"])
    y1 = requantize(v, np.int64(p["m1"]), np.int64(p["e1"]))
    y2 = requantize(bent, np.int64(p["m2"]), np.int64(p["e2"]))
    return np.where(v >= 0, y1, y2) + p["y_zero"]


def half_away(numerator: int, denominator: int) -> int:
    """numerator / denominator, rounded half away from zero."""
    magnitude = (2 * abs(numerator) + denominator) // (2 * denominator)
    return magnitude if numerator >= 0 else -magnitude


def _pool(
    x: list[np.ndarray], shape: Shape, p: Params, of: Callable[[np.ndarray], int]
) -> np.ndarray:
    y = np.zeros(shape, np.int64)
    for n, i, j, c in np.ndindex(*shape):
        top, left = i * p["stride_h"] - p["pad_top"], j * p["stride_w"] - p["pad_left"]
        rows = slice(max(top, 0), top + p["kernel_h"])
        columns = slice(max(left, 0), left + p["kernel_w"])
        y[n, i, j, c] = of(x[0][n, rows, columns, c].astype(np.int64))
    return np.clip(y, p["act_min"], p["act_max"])


def max_pool(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    return _pool(x, shape, p, lambda window: int(window.max()))


def average_pool(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    offset = p["offset"]
    return _pool(x, shape, p, lambda w: half_away(int((w + offset).sum()), w.size) - offset)


def _axes(p: Params) -> tuple[int, ...]:
    return tuple(a for a in range(6) if p["axes"] >> a & 1)


def mean_or_sum(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    total = (x[0].astype(np.int64) - p["x_zero"]).sum(axis=_axes(p), keepdims=True)
    return requantize(total, np.int64(p["m"]), np.int64(p["e"])) + p["y_zero"]


def reduce_max(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    return x[0].max(axis=_axes(p), keepdims=True)


# Softmax, on Python's integers.


def _sat(x: int) -> int:
    return min(max(x, -(2**31)), 2**31 - 1)


def _high(a: int, b: int) -> int:
    return _sat((a * b + 2**30) >> 31)


def _rshift(a: int, n: int) -> int:
    return half_away(a, 1 << n)


def _zeros(u: int) -> int:
    return 32 - u.bit_length()


def _reciprocal(a: int) -> int:
    h = half_away(a + 2**31 - 1, 2)
    v = 1515870810 + _high(h, -1010580540)
    for _ in range(3):
        v += _sat(_high(v, 2**29 - _high(h, v)) * 4)
    return _sat(v * 2)


def _logarithm(s: int) -> int:
    H, Q = 1518500250, 1805811301
    za = _zeros(s)
    ra, pa = _sat(_high(_sat(s * 2 ** (za - 1)), H) * 2), _sat((12 - za) * 2**25 + 2**23)
    zb = _zeros(_high(s, H)) - 1
    rb, pb = _sat(s * 2**zb), _sat((12 - zb) * 2**25 - 2**23)
    r, power = min(ra, rb), max(pa, pb)
    p, q = half_away(r + Q, 2), 2 * (r - Q)
    q2 = _high(q, q)
    numerator = _high(q, r) + _high(_high(q, q2), 117049297)
    denominator = _high(p, 1057819769 + q + _high(127690142, q2)) + _high(638450708, q)
    fraction = _high(_rshift(numerator, 6), _reciprocal(denominator))
    return _sat((_high(power, 1488522236) + fraction) * 2)


def softmax_row(row: list[int], table: list[int]) -> list[int]:
    differences = [max(row) - x for x in row]
    total = min(sum(_rshift(table[d], 12) for d in differences), 2**32 - 1)
    z = _zeros(total)
    r, n = _reciprocal(total * 2**z - 2**31), 35 - z
    quotients = [_rshift(_high(r, table[d]), n) if n <= 31 else 0 for d in differences]
    return [min(max(q - 128, -128), 127) for q in quotients]


def rescale(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    steps = x[0].astype(np.int64) - p["x_zero"]
    y = requantize(steps, np.int64(p["m"]), np.int64(p["e"])) + p["y_zero"]
    return np.clip(y, p["act_min"], p["act_max"])


def interpolate(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    return _line(x[0].astype(np.int64), p["table"].astype(np.int64))


def _line(x: np.ndarray, table: np.ndarray) -> np.ndarray:
    index, part = (x + 2**15) // 128, (x + 2**15) % 128
    return table[index] + np.floor_divide((table[index + 1] - table[index]) * part + 64, 128)


def sigmoid(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    scaled = x[0].astype(np.int64) * p["m"] + (1 << p["shift"]) // 2
    u = np.floor_divide(scaled, 1 << p["shift"])
    table, bits = p["table"].astype(np.int64), 8 if p["tanh"] else 9
    index, part = np.abs(u) >> bits, np.abs(u) % (1 << bits)
    low, high = table[np.minimum(index, 254)], table[np.minimum(index + 1, 255)]
    line = low * (1 << bits) + part * (high - low)
    if p["tanh"]:
        v = np.where(index < 255, line, 65535 << 8) - (1 << 23)
        return np.where(u >= 0, v + 128, -v + 127) >> 8
    v = np.where(index < 255, line, 32767 << 10)
    return np.where(u >= 0, v + 512, (1 << 25) - v + 511) >> 10


def softmax16(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    rows = x[0].reshape(-1, shape[-1]).astype(np.int64)
    down = requantize(rows - rows.max(axis=1, keepdims=True), np.int64(p["m"]), np.int64(p["e"]))
    power = _line(np.clip(down + 32767, -(2**15), 2**15 - 1), p["exp_table"].astype(np.int64))
    y = np.zeros_like(rows)
    for i, total in enumerate(power.sum(axis=1).tolist()):
        bits = total.bit_length() - 1
        t = (total * 2 ** (30 - bits) + 2**13) // 2**14 - 2**16 - 2**15
        t = min(max(t, -(2**15)), 2**15 - 1)
        scale = int(_line(np.array(t), p["reciprocal_table"].astype(np.int64)))
        y[i] = np.clip((power[i] * scale + 2 ** (bits - 1)) >> bits, 0, 32767)
    return y


def log_softmax_row(row: list[int], p: Params) -> list[int]:
    table, differences = p["exp_table"].tolist(), [max(row) - x for x in row]
    log = _logarithm(min(sum(_rshift(table[d], 12) for d in differences), 2**31 - 1))
    scaled = requantize(np.int64(log - 2**31), np.int64(p["reverse_m"]), np.int64(p["reverse_e"]))
    least = max(p["diff_min"] - 1, int(scaled))
    logs = [_rshift(int(p["diff_table"][d]) - log, 22) + 127 for d in differences]
    return [min(max(v, -128), 127) if -d > least else -128 for v, d in zip(logs, differences)]


def softmax(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    rows, table = x[0].reshape(-1, shape[-1]).tolist(), p["exp_table"].tolist()
    return np.array([softmax_row(row, table) for row in rows]).reshape(shape)


def log_softmax(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    rows = x[0].reshape(-1, shape[-1]).tolist()
    return np.array([log_softmax_row(row, p) for row in rows]).reshape(shape)


# Moves.


def _pads(x: np.ndarray, shape: Shape, p: Params) -> list[tuple[int, int]]:
    sizes = zip(x.shape, shape, p["before"])
    return [(before, after - size - before) for size, after, before in sizes]


def pad(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    return np.pad(x[0], _pads(x[0], shape, p), constant_values=p["value"])


def mirror_pad(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    return np.pad(x[0], _pads(x[0], shape, p), mode="reflect" if p["reflect"] else "symmetric")


def transpose(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    return x[0].transpose(p["perm"][: x[0].ndim])


def arg_max(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    return np.expand_dims(x[0].argmax(axis=p["axis"]), p["axis"])


def resize_nearest(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    return x[0][:, p["rows"]][:, :, p["cols"]]


def _positions(count: int, size: int, scale: int, half: int) -> list[tuple[int, int, int, int]]:
    """(lower, upper, w_lower, w_upper) of each output on an axis."""
    found = []
    for o in range(count):
        p = min(o * scale + (scale // 2 - 512 if half else 0), (size - 1) * 1024)
        lower = max(p, 0) // 1024
        upper = min(int((p + 1023) / 1024), size - 1)  # int(): towards zero
        found.append((lower, upper, 1024 - (p - 1024 * lower), p - 1024 * lower))
    return found


def resize_bilinear(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    rows = _positions(shape[1], x[0].shape[1], p["scale_h"], p["half_pixel"])
    columns = _positions(shape[2], x[0].shape[2], p["scale_w"], p["half_pixel"])
    y = np.zeros(shape, np.int64)
    for n, i, j, c in np.ndindex(*shape):
        (top, bottom, r0, r1), (left, right, c0, c1) = rows[i], columns[j]
        u = x[0][n, :, :, c].astype(np.int64)
        total = u[top, left] * r0 * c0 + u[bottom, left] * r1 * c0
        total += u[top, right] * r0 * c1 + u[bottom, right] * r1 * c1
        y[n, i, j, c] = half_away(int(total), 1 << 20)
    return y


def resize_bilinear_u8(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    def taps(table: np.ndarray) -> list[tuple[int, int, np.float32, np.float32]]:
        weights = table[:, 1:].copy().view(np.float32)
        lower = [int(t) & 0x7FFFFFFF for t in table[:, 0]]
        upper = [at + (int(t) >> 31) for at, t in zip(lower, table[:, 0])]
        return list(zip(lower, upper, weights[:, 0], weights[:, 1]))

    rows, columns = taps(p["rows"]), taps(p["cols"])
    y = np.zeros(shape, np.int64)
    for n, i, j, c in np.ndindex(*shape):
        (top, bottom, r0, r1), (left, right, c0, c1) = rows[i], columns[j]
        u = (x[0][n, :, :, c].astype(np.int64) + 128).astype(np.float32)
        s = u[top, left] * r0 * c0 + u[bottom, left] * r1 * c0
        s = s + u[top, right] * r0 * c1 + u[bottom, right] * r1 * c1 + np.float32(0.5)
        y[n, i, j, c] = min(max(int(s), 0), 255) - 128
    return y


# The result is clamped to the range of its dtype.
SATURATING = ("PRELU", "MEAN", "SUM")
# Whole numbers. Python's integers are exact; evaluate() stores them modulo the type's range.


def _objects(x: np.ndarray) -> np.ndarray:
    return x.astype(object)


def _divide(a: int, b: int) -> int:
    """Towards zero."""
    if b == 0:
        return 0
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


_INTEGER: tuple[Callable[[int, int], int], ...] = (
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    max,
    min,
    _divide,
    lambda a, b: a // b if b else 0,
    lambda a, b: a - a // b * b if b else 0,
    lambda a, b: int(a == b),
    lambda a, b: int(a != b),
    lambda a, b: int(a < b),
    lambda a, b: int(a <= b),
    lambda a, b: a & b,
    lambda a, b: a | b,
)
_REDUCE: tuple[Callable[[int, int], int], ...] = (
    _INTEGER[0], _INTEGER[2], max, min, _INTEGER[12], _INTEGER[13],
)  # fmt: skip


def _wrapped(values: np.ndarray, dtype: str) -> np.ndarray:
    """Python integers modulo the range of `dtype`."""
    if dtype == "bool":
        return values.astype(bool)
    bits = 8 * np.dtype(dtype).itemsize
    half = 1 << (bits - 1)
    return ((values + half) % (1 << bits) - half).astype(dtype)


def integer(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    f = p["function"]
    y = np.frompyfunc(_INTEGER[f], 2, 1)(_objects(x[0]) + 0, _objects(x[1]) + 0)
    return _wrapped(np.asarray(y, object), "bool" if f >= 8 else str(x[0].dtype))


def select(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    return np.where(x[0], x[1], x[2])


def reduce_integer(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    y = _objects(x[0]) + 0
    for axis in _axes(p):
        parts = np.split(y, y.shape[axis], axis)
        y = parts[0]
        for part in parts[1:]:
            y = np.frompyfunc(_REDUCE[p["function"]], 2, 1)(y, part)
    return _wrapped(y, str(x[0].dtype))


def cumsum(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    y = np.flip(_objects(x[0]), p["axis"]) if p["reverse"] else _objects(x[0])
    total = np.cumsum(y, axis=p["axis"], dtype=object)
    total = total - y if p["exclusive"] else total
    return _wrapped(np.flip(total, p["axis"]) if p["reverse"] else total, str(x[0].dtype))


def table(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    return p["table"][x[0].astype(np.int64) + 128]


def search(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    return p["values"][np.searchsorted(p["boundaries"], x[0], side="right")]


def div(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    k = x[1].astype(np.int64) + 128
    steps = (x[0].astype(np.int64) - p["x1_zero"]) << 20
    steps, k = np.broadcast_arrays(steps, k)
    y = requantize(steps, p["multiplier"].astype(np.int64)[k], p["exponent"].astype(np.int64)[k])
    return np.clip(y + p["y_zero"], p["act_min"], p["act_max"])


# By indices, which count as the nearest ones inside.


def gather(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    axis, batch = p["axis"], p["batch_dims"]
    index = np.clip(x[1], 0, x[0].shape[axis] - 1)
    if batch == 0:
        return np.take(x[0], index, axis)
    rows = [
        gather([a, b], (), {"axis": axis - 1, "batch_dims": batch - 1}) for a, b in zip(x[0], index)
    ]
    return np.stack(rows)


def _places(index: np.ndarray, shape: Shape) -> list[tuple[int, ...]]:
    rows = index.reshape(-1, index.shape[-1])
    limits = np.array(shape[: index.shape[-1]]) - 1
    return [tuple(int(v) for v in np.clip(row, 0, limits)) for row in rows]


def gather_nd(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    return np.array([x[0][at] for at in _places(x[1], x[0].shape)]).reshape(shape)


def scatter_nd(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    places = _places(x[0], shape)
    y = np.zeros(shape, object)
    updates = _objects(x[1]).reshape(len(places), *shape[x[0].shape[-1] :])
    for at, update in zip(places, updates):
        y[at] = y[at] + update
    return _wrapped(y, str(x[1].dtype))


def update_slice(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    y = x[0].copy()
    begin = np.clip(x[2], 0, np.array(x[0].shape) - x[1].shape)
    y[tuple(slice(b, b + n) for b, n in zip(begin, x[1].shape))] = x[1]
    return y


def top_k(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    order = np.argsort(-x[0].astype(np.int64), axis=-1, kind="stable")
    return order[..., : shape[-1]]


# Products and norms.


def batch_matmul(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    a, b = x[0].astype(np.int64) - p["x_zero"], x[1].astype(np.int64) - p["w_zero"]
    y = requantize(a @ np.swapaxes(b, -1, -2), np.int64(p["m"]), np.int64(p["e"])) + p["y_zero"]
    return np.clip(y, p["act_min"], p["act_max"])


def _rounded(x: int, n: int) -> int:
    """x / 2^n, ties up."""
    return (2 * x + (1 << n)) >> (n + 1)


def layer_norm(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    rows = x[0].reshape(math.prod(shape[: p["axis"]]), -1).tolist()
    epsilon = p["epsilon"][0] + (p["epsilon"][1] << 32)
    y = []
    for r, row in enumerate(rows):
        row = [e - p["x_zero"] for e in row]
        n, total = len(row), sum(row) if p["centred"] else 0
        v = max(2**16 * (n * sum(e * e for e in row) - total * total) + epsilon, 1)
        s = (64 - v.bit_length()) // 2
        inverse = 2**62 // math.isqrt(v << 2 * s)
        for i, e in enumerate(row):
            k = (r if p["per_row"] else i) % p["count"]
            t = _rounded((n * e - total) * inverse, 34 - s)
            u = _rounded(t * int(p["gamma"][k]), p["fraction"] + 8) + int(p["beta"][k])
            y.append(min(max(_rounded(u, 12), -128), 127))
    return np.array(y).reshape(shape)


def _inverse_sqrt(x: int) -> tuple[int, int]:
    if x <= 1:
        return 2**31 - 1, 0
    e = 11
    while x >= 2**29:
        x, e = x // 4, e + 1
    k = (_zeros(x) - 1) // 2 - 1
    x, e = x * 4**k, e - k
    h, v = half_away(x // 2, 2), 2**28
    for _ in range(5):
        cube = _sat(_high(_high(v, v), v) * 64)
        v = _sat((_high(3 * 2**27, v) - _high(h, cube)) * 8)
    v = _high(v, 1518500250)
    return (v * 2**-e, 0) if e < 0 else (v, -e)


def l2_normalization(x: list[np.ndarray], shape: Shape, p: Params) -> np.ndarray:
    rows = x[0].astype(np.int64).reshape(-1, shape[-1]) - p["x_zero"]
    y = []
    for row in rows:
        m, e = _inverse_sqrt(int((row**2).sum()))
        y.append(np.clip(requantize(row, np.int64(m), np.int64(e + 7)), -128, 127))
    return np.array(y).reshape(shape)


OPS: dict[str, Callable[[list[np.ndarray], Shape, Params], np.ndarray]] = {
    "CONV_2D": conv_2d,
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "FULLY_CONNECTED": fully_connected,
    "TRANSPOSE_CONV": transpose_conv,
    "ADD": add,
    "MUL": mul,
    "MAXIMUM": maximum,
    "MINIMUM": minimum,
    "MAX_POOL_2D": max_pool,
    "AVERAGE_POOL_2D": average_pool,
    "MEAN": mean_or_sum,
    "SUM": mean_or_sum,
    "REDUCE_MAX": reduce_max,
    "LUT": lut,
    "SOFTMAX": softmax,
    "LOG_SOFTMAX": log_softmax,
    "PRELU": prelu,
    "PAD": pad,
    "MIRROR_PAD": mirror_pad,
    "TRANSPOSE": transpose,
    "CONCATENATION": concatenation,
    "SLICE": slice_,
    "RESIZE_BILINEAR": resize_bilinear,
    "RESIZE_BILINEAR_U8": resize_bilinear_u8,
    "RESIZE_NEAREST": resize_nearest,
    "ARG_MAX": arg_max,
    "COPY": copy,
    "REQUANTIZE": rescale,
    "LUT16": lut,
    "INTERPOLATE": interpolate,
    "SIGMOID": sigmoid,
    "SOFTMAX16": softmax16,
    "INTEGER": integer,
    "SELECT": select,
    "CAST": copy,  # evaluate() stores what it gives as the output's type
    "REDUCE_INTEGER": reduce_integer,
    "CUMSUM": cumsum,
    "TABLE": table,
    "SEARCH": search,
    "DIV": div,
    "GATHER": gather,
    "GATHER_ND": gather_nd,
    "SCATTER_ND": scatter_nd,
    "UPDATE_SLICE": update_slice,
    "TOP_K": top_k,
    "BATCH_MATMUL": batch_matmul,
    "LAYER_NORM": layer_norm,
    "L2_NORMALIZATION": l2_normalization,
}
