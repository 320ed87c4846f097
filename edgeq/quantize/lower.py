# SPDX-License-Identifier: Apache-2.0
"""Lowering: a quantized graph becomes a program of integer ops.

Each op has a rule in one of the rules_* modules. A rule that cannot lower its op says why; all
reasons of a network are collected into one UnsupportedError.
"""

from __future__ import annotations

from ..errors import UnsupportedError
from ..format.program import Port, Program
from ..ir.graph import Graph, Node, Tensor
from . import rules_arith, rules_mac, rules_move, rules_norm, rules_unary, rules_whole
from .context import Lowering, Refused, Rule, describe, new_value
from .multiplier import RangeError

RULES: dict[str, Rule] = {
    **rules_mac.RULES,
    **rules_arith.RULES,
    **rules_unary.RULES,
    **rules_move.RULES,
    **rules_whole.RULES,
    **rules_norm.RULES,
}


def lower(graph: Graph, arithmetic: str = "exact") -> Program:
    """The program of a graph that went through all passes.

    `arithmetic`: how layers with weights requantize, ``"exact"`` (R31; R22 of 15 bits where input
    and output are int16) or ``"native"`` (R15; R22 of up to 22 bits).
    Raises UnsupportedError with one problem for each op that cannot be lowered.
    """
    ctx = Lowering(arithmetic)
    problems: list[str] = []
    for t in graph.inputs:
        ctx.bind(t, new_value(t))
    for index, node in enumerate(graph.nodes):
        try:
            _lower_node(ctx, node)
        except (Refused, RangeError) as reason:
            problems.append(_problem(index, node, reason))
            for t in node.outputs:
                ctx.bind(t, new_value(t))  # so that only the cause is reported
    if problems:
        count = f"{len(problems)} ops" if len(problems) > 1 else "one op"
        name = f" of {graph.name!r}" if graph.name else ""
        raise UnsupportedError(f"{count}{name} cannot be run in integers", problems)
    inputs = [_port(ctx, graph, t, d) for t, d in zip(graph.inputs, graph.input_dtypes)]
    outputs = [_port(ctx, graph, t, d) for t, d in zip(graph.outputs, graph.output_dtypes)]
    return Program(ctx.ops, inputs, outputs, dict(graph.metadata), [*graph.notes, *ctx.notes])


def _lower_node(ctx: Lowering, node: Node) -> None:
    x = node.inputs[0]
    if x is not None and rules_whole.is_whole(x) and node.op in rules_whole.WHOLE:
        rules_whole.WHOLE[node.op](ctx, node)
    elif node.op in RULES:
        RULES[node.op](ctx, node)
    else:
        raise Refused("there is no integer form of this op")


def _problem(index: int, node: Node, reason: Exception) -> str:
    tensor = getattr(reason, "tensor", None)
    about = f"tensor {tensor.name!r}: " if tensor is not None else ""
    return f"{describe(node, index)}: {about}{reason}"


def _port(ctx: Lowering, graph: Graph, t: Tensor, dtype: str) -> Port:
    """The caller's side of t: a uint8 zero point is 128 above that of the int8 tensor."""
    value = ctx.values[t]
    shift = 128 if dtype == "uint8" and value.dtype == "int8" else 0
    labels = graph.labels.get(t, "")
    return Port(t.name, value, dtype, value.scale, value.zero_point + shift, labels)
