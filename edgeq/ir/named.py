# SPDX-License-Identifier: Apache-2.0
"""Ops on single numbers as expressions, and expressions as the ops that compute the same."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from .expression import Expression, Step
from .graph import Array, Node
from .ops import LeakyRelu, NoAttrs, Unary

# Activation -> bounds of a clamp
CLAMPS: dict[str, tuple[float | None, float | None]] = {
    "NONE": (None, None),
    "RELU": (0.0, None),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}
# An expression is taken for a named op if they are that close, its float32 constants being inexact.
# Where the op is 0 it must be so too: others may divide by it.
RELATIVE, ABSOLUTE = 2e-6, 2e-7


def clamp(activation: str) -> Expression:
    low, high = CLAMPS[activation]
    steps: list[Step] = []
    if low is not None:
        steps.append(Step("max", (0, low)))
    if high is not None:
        steps.append(Step("min", (len(steps), high)))
    return Expression(tuple(steps))


def leaky(alpha: float) -> Expression:
    """max(x, 0) + alpha * min(x, 0)"""
    steps = (
        Step("max", (0, 0.0)),
        Step("min", (0, 0.0)),
        Step("mul", (2, alpha)),
        Step("add", (1, 3)),
    )
    return Expression(steps)


NAMED: dict[str, Expression] = {
    "LOGISTIC": Expression.of("logistic"),
    "TANH": Expression.of("tanh"),
    "RELU": clamp("RELU"),
    "RELU6": clamp("RELU6"),
    "RELU_N1_TO_1": clamp("RELU_N1_TO_1"),
    # x * min(max(x + 3, 0), 6) / 6
    "HARD_SWISH": Expression(
        (
            Step("add", (0, 3.0)),
            Step("max", (1, 0.0)),
            Step("min", (2, 6.0)),
            Step("mul", (0, 3)),
            Step("div", (4, 6.0)),
        )
    ),
    "COPY": Expression(),
}


def expression_of(node: Node) -> Expression | None:
    """What `node` does with each number of its only input; None for other ops."""
    if node.op == "UNARY":
        expression: Expression = node.attrs.expression
        return expression
    if node.op == "LEAKY_RELU":
        return leaky(float(node.attrs.alpha))
    return NAMED.get(node.op)


@cache
def _samples() -> Array:
    wide = np.logspace(-6, 7, 261)
    return np.concatenate([np.arange(-4000, 4001) / 200, wide, -wide])


@cache
def _sampled(op: str) -> Array:
    return NAMED[op](_samples())


def _equal(a: Array, b: Array) -> bool:
    """Whether two functions agree at the samples; what is NaN somewhere equals nothing."""
    with np.errstate(all="ignore"):
        limit = np.where(b == 0, 0.0, RELATIVE * np.abs(b) + ABSOLUTE)
        return bool((np.abs(a - b) <= limit).all())


def same_function(a: Expression, b: Expression) -> bool:
    return _equal(a(_samples()), b(_samples()))


def recognise(expression: Expression) -> tuple[str, Any]:
    """The op for `expression` with its attributes; for what changes nothing it is COPY."""
    found = expression(_samples())
    for op in NAMED:
        if _equal(found, _sampled(op)):
            return op, NoAttrs()
    alpha = -float(expression(np.array(-1.0)))
    if 0 < alpha < 1 and _equal(found, leaky(alpha)(_samples())):
        return "LEAKY_RELU", LeakyRelu(alpha)
    return "UNARY", Unary(expression)


def affine(expression: Expression) -> tuple[float, float] | None:
    """(a, b) where the expression is a * x + b."""
    b = float(expression(np.array(0.0)))
    a = float(expression(np.array(1.0))) - b
    if not (np.isfinite(a) and np.isfinite(b)):
        return None
    x = _samples()
    with np.errstate(all="ignore"):
        error = np.abs(expression(x) - (a * x + b))
        return (a, b) if bool((error <= RELATIVE * (np.abs(a * x) + abs(b))).all()) else None
