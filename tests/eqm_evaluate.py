# SPDX-License-Identifier: Apache-2.0
"""Runs a few operators of an .eqm program in numpy, as docs/FORMAT.md and docs/NUMERICS.md say.

Slow and plain, and independent of the C library, whose golden cases it checks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeq.format.golden import golden_digest, golden_inputs
from edgeq.format.program import Program, Value

Params = dict[str, Any]


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
        known[op.output] = result.astype(op.output.dtype).reshape(op.output.shape)
    return [get(port.value) for port in program.outputs]


def requantize(x: np.ndarray, m: np.ndarray, e: np.ndarray) -> np.ndarray:
    """R31: x * m * 2**(e - 31), rounded twice."""
    left, right = np.maximum(e, 0).astype(np.int64), np.maximum(-e, 0).astype(np.int64)
    high = ((x.astype(np.int64) << left) * m + 2**30) >> 31
    rest, half = high & ((1 << right) - 1), ((1 << right) - 1) >> 1
    return (high >> right) + (rest > half + (high < 0))


def _finish(acc: np.ndarray, p: Params) -> np.ndarray:
    m, e = p["multiplier"].astype(np.int64), p["exponent"].astype(np.int64)
    return np.clip(requantize(acc, m, e) + p["y_zero"], p["act_min"], p["act_max"])


def _bias(p: Params) -> np.ndarray | int:
    return 0 if p["bias"] is None else p["bias"].astype(np.int64)


def fully_connected(x: list[np.ndarray], shape: tuple[int, ...], p: Params) -> np.ndarray:
    w = x[1].astype(np.int64) - p["w_zero"]
    rows = x[0].reshape(-1, w.shape[1]).astype(np.int64) - p["x_zero"]
    return _finish(rows @ w.T + _bias(p), p)


def conv_2d(x: list[np.ndarray], shape: tuple[int, ...], p: Params) -> np.ndarray:
    """One group. Padding adds nothing: it is where x equals its zero point."""
    image, w = x[0].astype(np.int64) - p["x_zero"], x[1].astype(np.int64) - p["w_zero"]
    acc = np.zeros(shape, np.int64)
    for n, oy, ox, ky, kx in np.ndindex(*shape[:3], *w.shape[1:3]):
        iy = oy * p["stride_h"] - p["pad_top"] + ky * p["dilation_h"]
        ix = ox * p["stride_w"] - p["pad_left"] + kx * p["dilation_w"]
        if 0 <= iy < image.shape[1] and 0 <= ix < image.shape[2]:
            acc[n, oy, ox] += w[:, ky, kx] @ image[n, iy, ix]
    return _finish(acc + _bias(p), p)


def add(x: list[np.ndarray], shape: tuple[int, ...], p: Params) -> np.ndarray:
    terms = []
    for i, k in enumerate("12"):
        shifted = (x[i].astype(np.int64) - p[f"x{k}_zero"]) << p["left_shift"]
        terms.append(requantize(shifted, np.int64(p["m" + k]), np.int64(p["e" + k])))
    total = requantize(terms[0] + p["sign2"] * terms[1], np.int64(p["my"]), np.int64(p["ey"]))
    return np.clip(total + p["y_zero"], p["act_min"], p["act_max"])


def concatenation(x: list[np.ndarray], shape: tuple[int, ...], p: Params) -> np.ndarray:
    return np.concatenate(x, axis=p["axis"])


def slice_(x: list[np.ndarray], shape: tuple[int, ...], p: Params) -> np.ndarray:
    axes = [
        begin + stride * np.arange(size)
        for begin, stride, size in zip(p["begin"], p["stride"], shape)
    ]
    return x[0][np.ix_(*axes)]


def maximum(x: list[np.ndarray], shape: tuple[int, ...], p: Params) -> np.ndarray:
    return np.maximum(x[0], x[1])


def copy(x: list[np.ndarray], shape: tuple[int, ...], p: Params) -> np.ndarray:
    return x[0]


def lut(x: list[np.ndarray], shape: tuple[int, ...], p: Params) -> np.ndarray:
    return p["table"][x[0].astype(np.int64) + 128]


OPS: dict[str, Callable[[list[np.ndarray], tuple[int, ...], Params], np.ndarray]] = {
    "FULLY_CONNECTED": fully_connected,
    "CONV_2D": conv_2d,
    "ADD": add,
    "CONCATENATION": concatenation,
    "SLICE": slice_,
    "LUT": lut,
    "MAXIMUM": maximum,
    "COPY": copy,
}
