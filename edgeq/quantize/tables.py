# SPDX-License-Identifier: Apache-2.0
"""256-entry tables of the unary functions, of softmax and of log-softmax.

A unary table holds at index x + 128 the int8 result for the int8 input x. Each is computed with the
types and in the order of TFLite's reference kernel for that op. Most kernels see only x - zero
point, so that it makes no difference whether the source was uint8; where it does, `uint8` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..ir.expression import FUNCTIONS, Expression
from ..ir.graph import QParams
from .fixedpoint import exp_on_negative_values, inverse_sqrt
from .multiplier import (
    Float32s,
    Float64s,
    Int8s,
    Int32s,
    Int64s,
    RangeError,
    activation_range,
    quantize_multiplier,
    ratio_float32,
    ratio_float64,
    requantize,
    round_half_away,
    shift_right_round,
    triple_float32,
)

_X = np.arange(-128, 128, dtype=np.int64)
_DIFF = np.arange(256, dtype=np.int64)
_SOFTMAX_INTEGER_BITS = 5
_F32 = np.float32
_RSQRT_SHIFT = 20


def _clamped(y: Int64s, low: int = -128, high: int = 127) -> Int8s:
    table: Int8s = np.clip(y, low, high).astype(np.int8)
    return table


def _of_real(function: Callable[[Float64s], Float32s], x: QParams, y: QParams) -> Int8s:
    # float32 throughout. exp() is rounded correctly, the C library's once in 2000 times not.
    real = x.scale * (_X - x.zero_point).astype(np.float32)
    steps = function(real.astype(np.float64)) * (_F32(1) / y.scale)
    return _clamped(round_half_away(steps).astype(np.int64) + y.zero_point)


def _logistic(x: Float64s) -> Float32s:
    with np.errstate(over="ignore"):
        power = np.exp(-x).astype(np.float32)
    result: Float32s = _F32(1) / (_F32(1) + power)
    return result


def _tanh(x: Float64s) -> Float32s:
    # tanhf of the usual C library goes by expm1f and is off by a bit in a quarter of all arguments;
    # the same steps in float32 leave a ninth of these differences.
    size = np.minimum(np.abs(x), 22)
    large = size >= 1
    power = np.expm1(np.where(large, 2 * size, -2 * size)).astype(np.float32)
    sum2 = power + _F32(2)
    result: Float32s = np.where(large, _F32(1) - _F32(2) / sum2, -power / sum2)
    return np.copysign(result, x.astype(np.float32))


def expression_table(expression: Expression, x: QParams, y: QParams, even: bool = False) -> Int8s:
    """UNARY: of real numbers in float64, rounded half away from zero; `even`: as ONNX does it.

    Where the function is not a number or infinite, the nearest entry that is a number, or 0.
    """
    steps = _X - x.zero_point
    if even:
        real = expression.defined((x.scale * steps.astype(np.float32)).astype(np.float64))
        with np.errstate(over="ignore"):
            found = np.rint(real.astype(np.float32) / y.scale)
    else:
        real = expression.defined(np.float64(x.scale) * steps)
        found = round_half_away(np.clip(real / np.float64(y.scale), -1024, 1024))
    return _clamped(np.clip(found, -1024, 1024).astype(np.int64) + y.zero_point)


def logistic_table(x: QParams, y: QParams) -> Int8s:
    """1 / (1 + exp(-x))."""
    return _of_real(_logistic, x, y)


def tanh_table(x: QParams, y: QParams) -> Int8s:
    """tanh(x)."""
    return _of_real(_tanh, x, y)


def exp_table(x: QParams, y: QParams) -> Int8s:
    """exp(x)."""
    with np.errstate(over="ignore"):
        return _of_real(lambda v: np.exp(v).astype(np.float32), x, y)


def elu_table(x: QParams, y: QParams) -> Int8s:
    """x for x >= 0, exp(x) - 1 else."""
    return _of_real(lambda v: np.where(v < 0, np.expm1(v), v).astype(np.float32), x, y)


def gelu_table(approximate: bool, x: QParams, y: QParams) -> Int8s:
    """x * (1 + erf(x / sqrt(2))) / 2, or by tanh."""
    return _of_real(_gelu_by_tanh if approximate else _gelu, x, y)


def _gelu(x: Float64s) -> Float32s:
    erf = FUNCTIONS["erf"][1]
    inner = (x.astype(np.float32) * _F32(np.sqrt(0.5))).astype(np.float64)
    result: Float32s = _F32(0.5) * x.astype(np.float32) * (_F32(1) + erf(inner).astype(np.float32))
    return result


def _gelu_by_tanh(x: Float64s) -> Float32s:
    v = x.astype(np.float32)
    inner = _F32(np.sqrt(2 / np.pi)) * (v + _F32(0.044715) * v * v * v)
    power = np.tanh(inner.astype(np.float64)).astype(np.float32)
    result: Float32s = _F32(0.5) * v * (_F32(1) + power)
    return result


def abs_table(x: QParams, y: QParams) -> Int8s:
    """|x|."""
    size = np.abs(_X - x.zero_point)
    if x.scale != y.scale:
        size = requantize(size, *quantize_multiplier(ratio_float32(x.scale, y.scale)))
    return _clamped(size + y.zero_point)


def rsqrt_table(x: QParams, y: QParams) -> Int8s:
    """1 / sqrt(x) by the reference's integer iteration; the highest entry for x <= 0."""
    root = np.sqrt(x.scale, dtype=np.float32)
    m, e = quantize_multiplier(float(_F32(1) / (root * y.scale)))
    table = np.full(256, 127, np.int64)
    for i, v in enumerate(_X - x.zero_point):
        if v > 0:
            im, ie = inverse_sqrt(int(v))
            data = requantize(np.array([1]), im, ie + _RSQRT_SHIFT)
            table[i] = int(requantize(data, m, e - _RSQRT_SHIFT)[0]) + y.zero_point
    return _clamped(table)


def quantize_table(x: QParams, y: QParams) -> Int8s:
    """The same real number with the output's scale and zero point."""
    m, e = quantize_multiplier(ratio_float64(x.scale, y.scale))
    return _clamped(requantize(_X - x.zero_point, m, e) + y.zero_point)


def relu_table(activation: str, x: QParams, y: QParams) -> Int8s:
    """RELU, RELU6 or RELU_N1_TO_1 as an op of its own."""
    m, e = quantize_multiplier(ratio_float32(x.scale, y.scale))
    low, high = activation_range(activation, y.scale, y.zero_point)
    return _clamped(requantize(_X - x.zero_point, m, e) + y.zero_point, low, high)


def leaky_relu_table(alpha: float, x: QParams, y: QParams) -> Int8s:
    """x for x >= 0, alpha * x else; alpha may have any sign."""
    steps = _X - x.zero_point
    identity = requantize(steps, *quantize_multiplier(ratio_float32(x.scale, y.scale)))
    slope = quantize_multiplier(triple_float32(x.scale, _F32(alpha), y.scale))
    return _clamped(np.where(steps >= 0, identity, requantize(steps, *slope)) + y.zero_point)


def concatenation_table(x: QParams, y: QParams) -> Int8s:
    """The float32 rescaling that CONCATENATION does for uint8, on uint8 values and zero points."""
    scale = x.scale * (_F32(1) / y.scale)
    bias = _F32(-(x.zero_point + 128)) * scale
    steps = round_half_away((_X + 128).astype(np.float32) * scale + bias)
    return _clamped(steps.astype(np.int64) + y.zero_point)


# HARD_SWISH: int16 arithmetic


def _wrap16(x: Int64s) -> Int64s:
    wrapped: Int64s = ((x + 2**15) & 0xFFFF) - 2**15
    return wrapped


def _multiply_high16(a: Int64s, m: int) -> Int64s:
    product: Int64s = np.minimum((a * m + 2**14) >> 15, 2**15 - 1)
    return product


def _shift_right_round16(x: Int64s, n: int) -> Int64s:
    # The reference's mask is an int16, all ones from 16 bits on: those shifts round oddly.
    if n < 16:
        return shift_right_round(x, n)
    odd: Int64s = (x >> n) + (x > -1 + (x < 0))
    return odd


def _multiplier16(real: np.float32) -> tuple[int, int]:
    m, e = quantize_multiplier(float(real))
    return min((m + 2**15) >> 16, 2**15 - 1), e


def hard_swish_table(x: QParams, y: QParams, uint8: bool) -> Int8s:
    """x * min(max(x + 3, 0), 6) / 6. RangeError where y's scale is too small for that of x."""
    hires = (_F32(1) / _F32(128)) * x.scale
    m, e = _multiplier16(hires / y.scale)
    if e > 0:
        raise RangeError(
            f"the input's scale {x.scale:g} is too large for {y.scale:g}, the output's"
        )
    relu_m, relu_e = _multiplier16(hires / (_F32(3) / _F32(32768)))
    steps = (_X - x.zero_point) * 128  # int16, on the scale `hires`

    gate = steps
    if relu_e > 0:
        gate = np.clip(gate << (relu_e - 1), -(2**15), 2**15 - 1)
    gate = _multiply_high16(gate, relu_m)
    if relu_e > 0:
        gate = np.clip(gate << 1, -(2**15), 2**15 - 1)
    elif relu_e < 0:
        gate = _wrap16(_shift_right_round16(gate, -relu_e))
    gate = (gate + 2**15) >> 1  # [-1, 1) to [0, 1), Q0.15

    product = gate * _multiply_high16(steps, m)
    scaled = np.where(product < 0, -(-product >> 15), product >> 15)  # towards zero
    offset = 128 if uint8 else 0
    wide = _wrap16(_wrap16(_shift_right_round16(scaled, -e)) + y.zero_point + offset)
    return _clamped(wide - offset)


# SOFTMAX and LOG_SOFTMAX


@dataclass(frozen=True)
class SoftmaxTables:
    """exp_table[d] = exp(diff_table[d]) in Q0.31, diff_table[d] = -d * beta * scale in Q5.26.

    Both are 0 where -d < diff_min: the reference counts nothing there.
    """

    exp_table: Int32s
    diff_table: Int32s
    diff_min: int
    m: int
    e: int


def softmax_tables(beta: float, scale: np.float32) -> SoftmaxTables:
    """Tables for an input of that scale. RangeError where beta * scale is below 2^-26."""
    fraction_bits = 31 - _SOFTMAX_INTEGER_BITS
    real = float(_F32(beta)) * float(scale) * 2.0**fraction_bits
    if not real > 1:
        raise RangeError(f"beta * scale = {beta * float(scale):g} is too small")
    fraction, shift = np.frexp(min(real, 2.0**31 - 1))
    m, e = int(round_half_away(fraction * 2.0**31)), int(shift)
    if m == 2**31:
        m, e = 2**30, e + 1
    radius = (31 << fraction_bits) >> e
    diff = requantize(np.where(radius >= _DIFF, -_DIFF, 0), m, min(e, 31))
    power = np.where(radius >= _DIFF, exp_on_negative_values(diff), 0)
    return SoftmaxTables(power.astype(np.int32), diff.astype(np.int32), -radius, m, e)


def reverse_multiplier(tables: SoftmaxTables) -> tuple[int, int]:
    """(m, e) of LOG_SOFTMAX's way back from Q5.26 to steps of the input."""
    return quantize_multiplier(2.0 ** (31 - tables.e) / tables.m)
