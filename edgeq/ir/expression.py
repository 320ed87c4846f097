# SPDX-License-Identifier: Apache-2.0
"""Functions of one number, written as a few steps of arithmetic.

Whatever a network computes element by element from one tensor and constants (a SiLU, a hard-swish
in pieces, a GELU by erf) is one UNARY op with such an expression, and in integers one table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Union

import numpy as np

from .graph import Array

Arg = Union[int, float]  # int: a value, 0 the input, i the result of step i - 1; float: a constant


def _erf(x: Array) -> Array:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x))


def _logistic(x: Array) -> Array:
    power = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, power) / (1 + power))


# Name -> number of arguments, what numpy computes.
FUNCTIONS: dict[str, tuple[int, Callable[..., Array]]] = {
    "add": (2, np.add),
    "sub": (2, np.subtract),
    "mul": (2, np.multiply),
    "div": (2, np.divide),
    "pow": (2, np.power),
    "min": (2, np.minimum),
    "max": (2, np.maximum),
    "exp": (1, np.exp),
    "log": (1, np.log),
    "sqrt": (1, np.sqrt),
    "abs": (1, np.abs),
    "neg": (1, np.negative),
    "erf": (1, _erf),
    "tanh": (1, np.tanh),
    "logistic": (1, _logistic),
    "softplus": (1, lambda x: np.logaddexp(0.0, x)),
    "floor": (1, np.floor),
    "ceil": (1, np.ceil),
    "round": (1, np.round),
    "sign": (1, np.sign),
    "sin": (1, np.sin),
    "cos": (1, np.cos),
}


@dataclass(frozen=True)
class Step:
    function: str
    args: tuple[Arg, ...]

    def __post_init__(self) -> None:
        assert self.function in FUNCTIONS, self.function
        assert len(self.args) == FUNCTIONS[self.function][0], self


@dataclass(frozen=True)
class Expression:
    """y = the result of the last step; without steps, x."""

    steps: tuple[Step, ...] = ()

    @staticmethod
    def of(function: str, *args: Arg) -> Expression:
        """One function of the input; without `args`, of the input alone."""
        return Expression((Step(function, args or (0,)),))

    def then(self, other: Expression) -> Expression:
        """other(self(x))."""
        last, shift = len(self.steps), len(self.steps)
        steps = [
            Step(
                s.function,
                tuple(
                    a if isinstance(a, float) else (last if a == 0 else a + shift) for a in s.args
                ),
            )
            for s in other.steps
        ]
        return Expression((*self.steps, *steps))

    def __call__(self, x: Array) -> Array:
        """In float64, element by element; infinities and NaN are left to the caller."""
        values: list[Array] = [np.asarray(x, np.float64)]
        with np.errstate(all="ignore"):
            for s in self.steps:
                args = [np.float64(a) if isinstance(a, float) else values[a] for a in s.args]
                values.append(np.asarray(FUNCTIONS[s.function][1](*args), np.float64))
        return values[-1]

    def defined(self, x: Array) -> Array:
        """The same of rising x (n,); where the function is infinite or not a number, what it is at
        the nearest place where it is one; 0 if there is none."""
        y = self(x)
        known = np.flatnonzero(np.isfinite(y))
        if len(known) == 0:
            return np.zeros_like(y)
        places = np.arange(len(y))
        after = np.searchsorted(known, places).clip(0, len(known) - 1)
        before = np.maximum(after - 1, 0)
        nearer = places - known[before] <= known[after] - places
        return np.asarray(y[np.where(nearer, known[before], known[after])])

    def __str__(self) -> str:
        texts = ["x"]
        for s in self.steps:
            args = ", ".join(f"{a:g}" if isinstance(a, float) else texts[a] for a in s.args)
            texts.append(f"{s.function}({args})")
        return texts[-1]
