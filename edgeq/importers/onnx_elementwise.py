# SPDX-License-Identifier: Apache-2.0
"""Handlers of ONNX operators that compute element by element."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..ir.graph import Tensor
from ..ir.ops import Axis, LeakyRelu
from .onnx_context import OpContext
from .tflite_context import Refused

Handler = Callable[[OpContext], None]
Steps = tuple[tuple[Any, ...], ...]
_SELU = (1.67326319217681884765625, 1.05070102214813232421875)


# ---- functions of one number, as steps of ir/expression.py


def _elu(alpha: float) -> Steps:
    """max(x, 0) + alpha * (exp(min(x, 0)) - 1)."""
    return (
        ("min", 0, 0.0),
        ("exp", 1),
        ("sub", 2, 1.0),
        ("mul", 3, alpha),
        ("max", 0, 0.0),
        ("add", 5, 4),
    )


def _selu(alpha: float, gamma: float) -> Steps:
    return (*_elu(alpha), ("mul", 6, gamma))


def _celu(alpha: float) -> Steps:
    return (
        ("min", 0, 0.0),
        ("div", 1, alpha),
        ("exp", 2),
        ("sub", 3, 1.0),
        ("mul", 4, alpha),
        ("max", 0, 0.0),
        ("add", 6, 5),
    )


def _hard_sigmoid(alpha: float, beta: float) -> Steps:
    return (("mul", 0, alpha), ("add", 1, beta), ("max", 2, 0.0), ("min", 3, 1.0))


def _gelu() -> Steps:
    """x / 2 * (1 + erf(x / sqrt(2)))."""
    return (
        ("mul", 0, math.sqrt(0.5)),
        ("erf", 1),
        ("add", 2, 1.0),
        ("mul", 0, 0.5),
        ("mul", 4, 3),
    )


def _gelu_tanh() -> Steps:
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)))."""
    return (
        ("mul", 0, 0),
        ("mul", 1, 0.044715),
        ("add", 2, 1.0),
        ("mul", 3, 0),
        ("mul", 4, math.sqrt(2 / math.pi)),
        ("tanh", 5),
        ("add", 6, 1.0),
        ("mul", 0, 0.5),
        ("mul", 8, 7),
    )


def _swish(alpha: float) -> Steps:
    return (("mul", 0, alpha), ("logistic", 1), ("mul", 0, 2))


def _thresholded(alpha: float) -> Steps:
    """x where it is above alpha, else 0."""
    return (("sub", 0, alpha), ("sign", 1), ("max", 2, 0.0), ("mul", 0, 3))


_FUNCTIONS: dict[str, str] = {
    "Erf": "erf",
    "Exp": "exp",
    "Log": "log",
    "Sqrt": "sqrt",
    "Abs": "abs",
    "Neg": "neg",
    "Floor": "floor",
    "Ceil": "ceil",
    "Round": "round",
    "Sign": "sign",
    "Sin": "sin",
    "Cos": "cos",
    "Softplus": "softplus",
}
_NAMED = {"Relu": "RELU", "Sigmoid": "LOGISTIC", "Tanh": "TANH", "HardSwish": "HARD_SWISH"}
_FIXED: dict[str, Steps] = {
    "Reciprocal": (("div", 1.0, 0),),
    "Softsign": (("abs", 0), ("add", 1, 1.0), ("div", 0, 2)),
    "Mish": (("softplus", 0), ("tanh", 1), ("mul", 0, 2)),
}


def _named(op: OpContext) -> None:
    op.finish(op.named(_NAMED[op.record.op], op.real(0)))


def _function(op: OpContext) -> None:
    op.finish(op.unary(op.real(0), (_FUNCTIONS[op.record.op], 0)))


def _fixed(op: OpContext) -> None:
    op.finish(op.unary(op.real(0), *_FIXED[op.record.op]))


def _with(make: Callable[..., Steps], **defaults: float) -> Handler:
    """A function whose parameters are attributes."""

    def handler(op: OpContext) -> None:
        values = [op.attr_float(name, default) for name, default in defaults.items()]
        op.finish(op.unary(op.real(0), *make(*values)))

    return handler


def _gelu_of(op: OpContext) -> None:
    kind = op.attr_str("approximate", "none")
    if kind not in ("none", "tanh"):
        raise op.wrong(f"approximate {kind!r}")
    op.finish(op.unary(op.real(0), *(_gelu() if kind == "none" else _gelu_tanh())))


def _biased(steps: Steps) -> Handler:
    """com.microsoft's GELUs with an optional bias."""

    def handler(op: OpContext) -> None:
        x = op.real(0)
        op.finish(op.unary(op.binary("ADD", x, op.real(1)) if op.has(1) else x, *steps))

    return handler


def _leaky_relu(op: OpContext) -> None:
    op.finish(op.named("LEAKY_RELU", op.real(0), LeakyRelu(op.attr_float("alpha", 0.01))))


def _clip(op: OpContext) -> None:
    if op.version < 11:
        low = float(op.record.attrs.get("min", -math.inf))
        high = float(op.record.attrs.get("max", math.inf))
    else:
        low, high = op.number(1, "min", -math.inf), op.number(2, "max", math.inf)
    op.finish(clip(op, op.real(0), low, high))


def clip(op: OpContext, x: Tensor, low: float, high: float) -> Tensor:
    """min(max(x, low), high)."""
    large = float(np.finfo(np.float32).max)
    low, high = (-math.inf if low <= -large else low), (math.inf if high >= large else high)
    name = {(0.0, 6.0): "RELU6", (0.0, math.inf): "RELU", (-1.0, 1.0): "RELU_N1_TO_1"}
    if (low, high) in name:
        return op.named(name[low, high], x)
    steps: list[tuple[Any, ...]] = []
    if low != -math.inf:
        steps.append(("max", 0, low))
    if high != math.inf:
        steps.append(("min", len(steps), high))
    return op.unary(x, *steps) if steps else x


def activation(op: OpContext, x: Tensor, kind: str, params: Sequence[float]) -> Tensor:
    """What com.microsoft's fused operators do behind their sum."""
    values = [float(p) for p in params]
    if kind in _NAMED and kind != "HardSwish":
        return op.named(_NAMED[kind], x)
    if kind == "LeakyRelu":
        return op.named("LEAKY_RELU", x, LeakyRelu(values[0] if values else 0.01))
    if kind == "Clip" and len(values) == 2:
        return clip(op, x, *values)
    if kind == "HardSigmoid":
        return op.unary(x, *_hard_sigmoid(*(values if len(values) == 2 else (0.2, 0.5))))
    if kind == "HardSwish":
        return op.named("HARD_SWISH", x)
    raise Refused(f"the fused activation {kind!r} is not supported")


# ---- of two tensors and more

_ARITHMETIC = {"Add": "ADD", "Sub": "SUB", "Mul": "MUL", "Div": "DIV", "PRelu": "PRELU"}


def _arithmetic(op: OpContext) -> None:
    if op.record.op == "Mul" and _times_zero(op):
        return
    a, b = op.real(0), op.real(1)
    name = _ARITHMETIC[op.record.op]
    if name == "PRELU" and op.broadcast(a.shape, b.shape) != a.shape:
        raise op.wrong(f"slope {b.shape} for x {a.shape}")
    if op.record.attrs.get("axis") is not None and op.version < 7:
        raise Refused("broadcasting of opset 6 is not supported")
    op.finish(op.binary(name, a, b))


def _times_zero(op: OpContext) -> bool:
    """Integers times a constant 0, by which exporters keep an input alive that nothing reads."""
    a, b = op.tensor(0), op.tensor(1)
    if a.dtype not in ("int32", "int64") or a.dtype != b.dtype:
        return False
    if not any(t.data is not None and not t.data.any() for t in (a, b)):
        return False
    op.finish(op.const(np.zeros(op.broadcast(a.shape, b.shape)), a.dtype))
    return True


_VARIADIC = {"Sum": "ADD", "Mean": "ADD", "Max": "MAXIMUM", "Min": "MINIMUM"}


def _variadic(op: OpContext) -> None:
    tensors = op.reals()
    y = tensors[0]
    for t in tensors[1:]:
        y = op.binary(_VARIADIC[op.record.op], y, t)
    if op.record.op == "Mean":
        y = op.binary("MUL", y, op.const(1 / len(tensors)))
    if y is tensors[0]:
        y = op.named("COPY", y)
    op.finish(y)


def _pow(op: OpContext) -> None:
    x, exponent = op.real(0), op.tensor(1)
    if exponent.data is None or exponent.elements != 1:
        raise Refused("its exponent is not a single constant")
    if exponent.shape not in ((), (1,)) and len(exponent.shape) > len(x.shape):
        x = op.reshape(x, (1,) * (len(exponent.shape) - len(x.shape)) + x.shape)
    value = float(exponent.data.reshape(-1)[0])
    if value == 2:
        op.finish(op.unary(x, ("mul", 0, 0)))
    elif value == 0.5:
        op.finish(op.unary(x, ("sqrt", 0)))
    else:
        op.finish(op.unary(x, ("pow", 0, value)))


def _where(op: OpContext) -> None:
    """A constant condition is a mask: x * mask + what stands elsewhere."""
    condition = op.constant(0, "condition").astype(bool)
    a, b = op.real(1), op.real(2)
    shape = op.broadcast(op.broadcast(condition.shape, a.shape), b.shape)
    parts: list[Tensor] = []
    for t, mask in ((a, condition), (b, ~condition)):
        if t.data is not None:
            parts.append(op.const(np.where(mask, t.data, np.float32(0))))
        else:
            parts.append(op.binary("MUL", t, op.const(mask)))
    y = op.binary("ADD", *parts)
    if y.shape != shape:
        raise op.wrong(f"shapes {condition.shape}, {a.shape} and {b.shape}")
    op.finish(y)


def _cast(op: OpContext) -> None:
    """Between floats it does nothing; an index becomes another integer."""
    x, to = op.raw(0), op.attr_int("to", 1)
    if x.dtype == "float32" and to in (1, 10, 11):
        op.finish(x)
        return
    producer = next((n for n in op.builder.nodes if x in n.outputs), None)
    if producer is not None and producer.op == "ARG_MAX" and to in (6, 7):
        assert isinstance(producer.attrs, Axis)
        dtype = {6: "int32", 7: "int64"}[to]
        op.finish(op.add("ARG_MAX", [producer.input(0)], producer.attrs, x.shape, dtype))
        return
    raise Refused(f"from {x.dtype} to another type is not supported")


RULES: dict[str, Handler] = {
    **dict.fromkeys(_NAMED, _named),
    **dict.fromkeys(_FUNCTIONS, _function),
    **dict.fromkeys(_FIXED, _fixed),
    **dict.fromkeys(_ARITHMETIC, _arithmetic),
    **dict.fromkeys(_VARIADIC, _variadic),
    "LeakyRelu": _leaky_relu,
    "Clip": _clip,
    "Elu": _with(_elu, alpha=1.0),
    "Celu": _with(_celu, alpha=1.0),
    "Selu": _with(_selu, alpha=_SELU[0], gamma=_SELU[1]),
    "HardSigmoid": _with(_hard_sigmoid, alpha=0.2, beta=0.5),
    "ThresholdedRelu": _with(_thresholded, alpha=1.0),
    "Swish": _with(_swish, alpha=1.0),
    "com.microsoft:QuickGelu": _with(_swish, alpha=1.702),
    "Gelu": _gelu_of,
    "com.microsoft:Gelu": _biased(_gelu()),
    "com.microsoft:BiasGelu": _biased(_gelu()),
    "com.microsoft:FastGelu": _biased(_gelu_tanh()),
    "Pow": _pow,
    "Where": _where,
    "Cast": _cast,
}
