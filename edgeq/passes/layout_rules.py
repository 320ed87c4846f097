# SPDX-License-Identifier: Apache-2.0
"""How a transpose passes each op: rules of layout.py.

A rule gets the walk and a node of which some input is transposed. It writes the node in the order
of the base and returns True, or returns False: then the transposes are written before the node.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..ir.graph import Node, Tensor
from ..ir.ops import Reduce, Transpose
from .layout import BINARY, UNARY, Perm, View, factored, inverse, moves_ones_only, transposed

if TYPE_CHECKING:
    from .layout import _Sinking as Walk

Rule = Callable[["Walk", Node], bool]


def _view(walk: Walk, node: Node, i: int = 0) -> View | None:
    """Input i where it is transposed."""
    t = node.inputs[i]
    view = None if t is None else walk.views.get(t)
    return None if view is None or view.order is not None else view


def _order_of(walk: Walk, node: Node, i: int = 0) -> View | None:
    t = node.inputs[i]
    view = None if t is None else walk.views.get(t)
    return view if view is not None and view.order is not None else None


# ---- elementwise


def _unary(walk: Walk, node: Node) -> bool:
    if node.op == "DEQUANTIZE":
        q = node.input(0).qparams
        if q is not None and q.per_channel:
            return False
    view = _order_of(walk, node)
    if view is not None:
        base = walk.like(node.output, view.base.shape)
        return _reordered(walk, node, [view.base], base, view)
    view = _view(walk, node)
    assert view is not None
    walk.emit(node, [view.base], view.perm, node.attrs)
    return True


def _reordered(
    walk: Walk, node: Node, inputs: list[Tensor | None], base: Tensor, view: View
) -> bool:
    """`node` before a reordering of the last axis. Only the flattening RESHAPE itself can be
    written out later, so that what does not end in weights is better written out at once."""
    if not _ends_in_weights(walk, node):
        return False
    walk.write(replace(node, inputs=inputs, outputs=[base]))
    walk.views[node.output] = replace(view, base=base)
    return True


def _ends_in_weights(walk: Walk, node: Node) -> bool:
    """Whether all that reads the node's output, through elementwise ops, are weights."""
    pending, seen = [node.output], 0
    consumers = walk.consumers
    while pending:
        t = pending.pop()
        seen += 1
        if t in walk.results or seen > 64:
            return False
        for n in consumers.get(t, []):
            if n.op == "FULLY_CONNECTED":
                if n.inputs[0] is not t or n.input(1).data is None:
                    return False
            elif n.op in UNARY or (
                n.op in BINARY and all(i is t or (i and i.is_const) for i in n.inputs)
            ):
                pending.append(n.output)
            else:
                return False
    return True


def _elementwise(walk: Walk, node: Node) -> bool:
    order = next((v for i in range(2) if (v := _order_of(walk, node, i)) is not None), None)
    if order is not None:
        return _elementwise_reordered(walk, node, order)
    rank = len(node.output.shape)
    perm = _common(walk, node, rank)
    if perm is None:
        return False
    inputs: list[Tensor | None] = []
    for t in node.inputs:
        assert t is not None
        if t.elements == 1 and t not in walk.views:
            inputs.append(t)
        else:
            inputs.append(walk.in_base(walk.widened(t, rank), perm))
    walk.emit(node, inputs, perm, node.attrs)
    return True


def _common(walk: Walk, node: Node, rank: int) -> Perm | None:
    """The permutation to move behind a node of several inputs, if that is an improvement."""
    votes: dict[Perm, int] = {}
    others = 0
    for t in node.inputs:
        assert t is not None
        view = walk.views.get(t)
        if view is not None and (view.order is not None or len(t.shape) != rank):
            return None
        if view is not None:
            votes[view.perm] = votes.get(view.perm, 0) + 1
        elif not t.is_const and max(t.shape, default=1) != t.elements and not _is_constant(walk, t):
            others += 1
    identity = tuple(range(rank))
    others += votes.pop(identity, 0)
    if not votes:
        return None
    to_first = (0, rank - 1, *range(1, rank - 1))
    perm = to_first if to_first in votes else max(votes, key=lambda p: votes[p])
    rest = others + sum(n for p, n in votes.items() if p != perm)
    # Channels last win for pictures; elsewhere whoever saves more.
    if rest and not (rank >= 4 and perm == to_first) and votes[perm] < rest:
        return None
    return perm


def _is_constant(walk: Walk, t: Tensor) -> bool:
    producer = walk.producers.get(t)
    return producer is not None and producer.op == "DEQUANTIZE" and producer.input(0).is_const


def _elementwise_reordered(walk: Walk, node: Node, view: View) -> bool:
    assert view.order is not None
    y = node.output
    inputs: list[Tensor | None] = []
    for t in node.inputs:
        assert t is not None
        if walk.views.get(t) is view:
            inputs.append(view.base)
        elif t.data is None or t.qparams is not None:
            return False
        elif t.shape[-1:] in ((), (1,)):
            inputs.append(t)
        else:
            data = np.empty_like(t.data)
            data[..., view.order] = t.data
            inputs.append(replace(t, data=data))
    if y.shape != view.base.shape:
        return False
    return _reordered(walk, node, inputs, walk.like(y, y.shape), view)


# ---- along axes


def _concatenation(walk: Walk, node: Node) -> bool:
    perm = _common(walk, node, len(node.output.shape))
    if perm is None:
        return False
    inputs = [walk.in_base(node.input(i), perm) for i in range(len(node.inputs))]
    walk.emit(node, inputs, perm, replace(node.attrs, axis=perm[node.attrs.axis]))
    return True


def _along(walk: Walk, node: Node) -> bool:
    """SPLIT, TOP_K, ARG_MAX that keeps its axis: one axis, results of the same rank."""
    view = _view(walk, node)
    if view is None or len(node.output.shape) != len(view.perm):
        return False
    attrs = replace(node.attrs, axis=view.perm[node.attrs.axis])
    walk.emit(node, [view.base], view.perm, attrs)
    return True


def _gather(walk: Walk, node: Node) -> bool:
    view, indices = _view(walk, node), node.input(1)
    if view is None or len(indices.shape) != 1 or indices in walk.views or node.attrs.batch_dims:
        return False
    attrs = replace(node.attrs, axis=view.perm[node.attrs.axis])
    walk.emit(node, [view.base, indices], view.perm, attrs)
    return True


def _slice(walk: Walk, node: Node) -> bool:
    view = _view(walk, node)
    if view is None:
        return False
    back, a = inverse(view.perm), node.attrs
    attrs = replace(
        a, begin=tuple(a.begin[i] for i in back), stride=tuple(a.stride[i] for i in back)
    )
    walk.emit(node, [view.base], view.perm, attrs)
    return True


def _pad(walk: Walk, node: Node) -> bool:
    view = _view(walk, node)
    if view is None:
        return False
    back, a = inverse(view.perm), node.attrs
    attrs = replace(
        a, before=tuple(a.before[i] for i in back), after=tuple(a.after[i] for i in back)
    )
    walk.emit(node, [view.base], view.perm, attrs)
    return True


def _reduce(walk: Walk, node: Node) -> bool:
    view = _view(walk, node)
    if view is None:
        return False
    a: Reduce = node.attrs
    axes = tuple(sorted(view.perm[i] for i in a.axes))
    attrs = replace(a, axes=axes)
    if a.keep_dims:
        walk.emit(node, [view.base], view.perm, attrs)
        return True
    left = [i for i in range(len(view.perm)) if i not in axes]
    perm = tuple(left.index(p) for p in view.perm if p not in axes)
    if list(perm) == sorted(perm):
        walk.write(replace(node, inputs=[view.base], attrs=attrs))
    else:
        walk.emit(node, [view.base], perm, attrs)
    return True


def _softmax(walk: Walk, node: Node) -> bool:
    view = _view(walk, node)
    if view is None or view.perm[-1] != len(view.perm) - 1:
        return False
    walk.emit(node, [view.base], view.perm, node.attrs)
    return True


def _norm(walk: Walk, node: Node) -> bool:
    view = _view(walk, node)
    rest = [t for t in node.inputs[1:] if t is not None]
    if view is None or any(t in walk.views for t in rest):
        return False
    rank = len(view.perm)
    factors = [
        None if t is None else walk.in_base(walk.widened(t, rank), view.perm)
        for t in node.inputs[1:]
    ]
    axes = tuple(sorted(view.perm[i] for i in node.attrs.axes))
    walk.emit(node, [view.base, *factors], view.perm, replace(node.attrs, axes=axes))
    return True


# ---- shapes


def _reshape(walk: Walk, node: Node) -> bool:
    view = _view(walk, node)
    if view is None:
        return False
    y = node.output
    found = factored(view.base.shape, view.perm, y.shape)
    x = view.base
    if found.before is not None:
        if _flatten(walk, node, view):
            return True
        if len(y.shape) < 3 or found.perm != (0, len(y.shape) - 1, *range(1, len(y.shape) - 1)):
            return False
        x = walk.like(x, transposed(x.shape, found.before))
        walk.write(
            replace(
                node, op="TRANSPOSE", inputs=[view.base], outputs=[x], attrs=Transpose(found.before)
            )
        )
    if moves_ones_only(found.shape, found.perm):
        walk.write(replace(node, inputs=[x], outputs=[y]))
        return True
    base = x
    if found.shape != x.shape:
        base = walk.like(y, found.shape)
        walk.write(replace(node, inputs=[x], outputs=[base]))
    walk.views[y] = View(base, found.perm)
    return True


def _flatten(walk: Walk, node: Node, view: View) -> bool:
    """Trailing axes that become one: weights behind it can take them in the base's order."""
    x, y = node.input(0), node.output
    if not y.shape or not _ends_in_weights(walk, node):
        return False
    lead = 0
    while lead < len(x.shape) and math.prod(x.shape[lead:]) != y.shape[-1]:
        lead += 1
    if lead == len(x.shape) or view.perm[:lead] != tuple(range(lead)):
        return False
    numbers = np.arange(y.shape[-1]).reshape(view.base.shape[lead:])
    order = numbers.transpose([p - lead for p in view.perm[lead:]]).reshape(-1)
    base = walk.like(y, y.shape)
    walk.write(replace(node, inputs=[view.base], outputs=[base]))
    walk.views[y] = View(base, view.perm, order)
    return True


def _fully_connected(walk: Walk, node: Node) -> bool:
    order = _order_of(walk, node)
    w = node.input(1)
    if order is not None:
        if w.data is None or w.shape[1] != order.base.shape[-1]:
            return False
        data = np.empty_like(w.data)
        data[:, order.order] = w.data
        inputs = [order.base, replace(w, data=data), *node.inputs[2:]]
        walk.write(replace(node, inputs=inputs))
        return True
    view = _view(walk, node)
    if view is None or view.perm[-1] != len(view.perm) - 1:
        return False
    if len(node.output.shape) != len(view.perm):
        return False
    walk.emit(node, [view.base, *node.inputs[1:]], view.perm, node.attrs)
    return True


def _matmul(walk: Walk, node: Node) -> bool:
    """A transpose of the two last axes is a flag of the product."""
    inputs: list[Tensor | None] = []
    flags = [node.attrs.transpose_x, node.attrs.transpose_y]
    changed = False
    for i in (0, 1):
        t, view = node.input(i), _view(walk, node, i)
        rank = len(t.shape)
        if view is not None and view.perm == (*range(rank - 2), rank - 1, rank - 2):
            flags[i], t, changed = not flags[i], view.base, True
        inputs.append(t)
    if not changed:
        return False
    for used in inputs:
        assert used is not None
        walk.real(used)
    attrs = replace(node.attrs, transpose_x=flags[0], transpose_y=flags[1])
    walk.write(replace(node, inputs=inputs, attrs=attrs))
    return True


RULES: dict[str, Rule] = {
    **dict.fromkeys(UNARY, _unary),
    **dict.fromkeys(BINARY, _elementwise),
    "CONCATENATION": _concatenation,
    "SPLIT": _along,
    "TOP_K": _along,
    "ARG_MAX": _along,
    "GATHER": _gather,
    "SLICE": _slice,
    "PAD": _pad,
    "MIRROR_PAD": _pad,
    "MEAN": _reduce,
    "SUM": _reduce,
    "REDUCE_MAX": _reduce,
    "REDUCE_MIN": _reduce,
    "SOFTMAX": _softmax,
    "LOG_SOFTMAX": _softmax,
    "LAYER_NORM": _norm,
    "RESHAPE": _reshape,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _matmul,
}
