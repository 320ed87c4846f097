# SPDX-License-Identifier: Apache-2.0
"""Element-wise ops on float32 arrays, rounded as the reference's float kernels round.

Sums, products and quotients are one float32 operation each. Other functions are computed in float64
and rounded once; a C library's float32 function can be off from that by its last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .expression import FUNCTIONS
from .graph import Array, Node

_BOUNDS: dict[str, tuple[float | None, float | None]] = {
    "NONE": (None, None),
    "RELU": (0.0, None),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}
_BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "DIV": np.divide,
    "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum,
    "SQUARED_DIFFERENCE": lambda a, b: np.square(a - b),
}
_COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "EQUAL": np.equal,
    "NOT_EQUAL": np.not_equal,
    "LESS": np.less,
    "LESS_EQUAL": np.less_equal,
}
_UNARY: dict[str, Callable[[Array], Array]] = {
    "LOGISTIC": FUNCTIONS["logistic"][1],
    "TANH": np.tanh,
    "ABS": np.abs,
    "EXP": np.exp,
    "RSQRT": lambda x: 1 / np.sqrt(x),
    "ELU": lambda x: np.where(x < 0, np.expm1(x), x),
    "HARD_SWISH": lambda x: x * np.clip(x + 3, 0, 6) / 6,
}
# Unary ops that never fall.
RISING = frozenset(
    {"LOGISTIC", "TANH", "EXP", "ELU", "RELU", "RELU6", "RELU_N1_TO_1"}
    | {"exp", "log", "sqrt", "floor", "ceil", "round", "sign", "tanh", "logistic"}
)
BINARY = frozenset(_BINARY) | frozenset(_COMPARISONS)


def activate(activation: str, x: Array) -> Array:
    """A fused activation."""
    low, high = _BOUNDS[activation]
    x = x if low is None else np.maximum(x, x.dtype.type(low))
    return x if high is None else np.minimum(x, x.dtype.type(high))


def binary(node: Node, a: Array, b: Array) -> Array:
    """One of BINARY on float32 arrays: float32, or bool for a comparison."""
    with np.errstate(all="ignore"):
        if node.op in _COMPARISONS:
            return np.asarray(_COMPARISONS[node.op](a, b))
        result = np.asarray(_BINARY[node.op](a, b), np.float32)
    return activate(getattr(node.attrs, "activation", "NONE"), result)


def unary(node: Node, x: Array) -> Array | None:
    """float32 of a float32 array; None for an op that is no function of one number."""
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        if node.op == "UNARY":
            result = node.attrs.expression(wide)
        elif node.op in _BOUNDS:
            result = activate(node.op, wide)
        elif node.op == "LEAKY_RELU":
            result = np.where(wide > 0, wide, wide * np.float64(np.float32(node.attrs.alpha)))
        elif node.op == "GELU":
            result = _gelu(wide, node.attrs.approximate)
        elif node.op in _UNARY:
            result = _UNARY[node.op](wide)
        else:
            return None
        return np.asarray(result, np.float32)


def _gelu(x: Array, approximate: bool) -> Array:
    if approximate:
        inner = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    else:
        inner = FUNCTIONS["erf"][1](x * math.sqrt(0.5))
    return np.asarray(0.5 * x * (1 + inner))
