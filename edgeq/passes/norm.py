# SPDX-License-Identifier: Apache-2.0
"""Layer, instance, group, RMS and L2 normalization from their pieces to LAYER_NORM.

It follows passes/unary.py, by which sqrt(v + eps), (v + eps) ** -0.5, max(v, eps) and whatever else
is done to the variance is one function; which one, is asked by its values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..ir.expression import Expression
from ..ir.graph import Array, Graph, Node, Tensor
from ..ir.named import affine, expression_of
from ..ir.ops import Norm
from .fold import remove_dead

# Where 1 / deviation ** 2 is looked at; max(v, eps) and v + eps differ below.
_VARIANCES = np.logspace(-3, 5, 33)
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class _Spread:
    """1 / sqrt(mean(d * d) + epsilon) * gamma, d being x less its mean if `centred`."""

    x: Tensor
    axes: tuple[int, ...]
    centred: bool
    epsilon: float
    gamma: float


def norm(graph: Graph) -> Graph:
    _Finder(graph).run()
    _absorb(graph)
    remove_dead(graph)
    graph.verify()
    return graph


class _Finder:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producers = graph.producers()

    def run(self) -> None:
        for node in self.graph.nodes:
            if node.op in ("MUL", "DIV", "ADD", "SUB") and node.output.dtype == "float32":
                self.quotient(node) or self.sum(node)

    def replace(self, node: Node, s: _Spread, gamma: Tensor | None, beta: Tensor | None) -> bool:
        if node.output.shape != s.x.shape or node.attrs.activation != "NONE":
            return False
        gamma = _times(gamma, s.gamma, node.name)
        node.op, node.inputs = "LAYER_NORM", [s.x, gamma, beta]
        node.attrs = Norm(s.axes, s.epsilon, s.centred)
        return True

    def quotient(self, node: Node) -> bool:
        """d * r or d / s, as TensorFlow's and torch's modules have it."""
        if node.op not in ("MUL", "DIV"):
            return False
        pairs = [(0, 1)] if node.op == "DIV" else [(0, 1), (1, 0)]
        for i, k in pairs:
            d, r = node.input(i), node.input(k)
            if d.is_const or r.is_const:
                continue
            s = self.spread(r, node.op == "MUL")
            if s is not None and self.difference(d) == (s.x, s.axes if s.centred else None):
                return self.replace(node, s, None, None)
        return False

    def sum(self, node: Node) -> bool:
        """x * inverse + (beta - mean * inverse) with inverse = r * gamma, as Keras has it."""
        if node.op not in ("ADD", "SUB"):
            return False
        for i in (0, 1) if node.op == "ADD" else (0,):
            product, rest = self.made_by(node.input(i), "MUL"), node.input(1 - i)
            if product is None:
                continue
            beta, shift = (None, rest) if node.op == "SUB" else self.offset(rest)
            shifted = None if shift is None else self.made_by(shift, "MUL")
            if shifted is None:
                continue
            for a, b in ((0, 1), (1, 0)):
                x, inverse = product.input(a), product.input(b)
                if inverse not in shifted.inputs or x.is_const:
                    continue
                mean = shifted.input(1 - shifted.inputs.index(inverse))
                gamma, r = self.scaled(inverse)
                s = self.spread(r, True)
                if s is not None and s.centred and s.x is x and self.mean_of(mean) == (x, s.axes):
                    return self.replace(node, s, gamma, beta)
        return False

    # ---- pieces

    def made_by(self, t: Tensor, *ops: str) -> Node | None:
        """The node that makes t if it is one of `ops` and has no activation."""
        node = self.producers.get(t)
        if node is None or node.op not in ops:
            return None
        return node if getattr(node.attrs, "activation", "NONE") == "NONE" else None

    def source(self, t: Tensor) -> tuple[Tensor, Expression]:
        """Behind functions of single numbers and reshapes: where t comes from, and what is done."""
        done = Expression()
        while t in self.producers:
            node = self.producers[t]
            step = Expression() if node.op == "RESHAPE" else expression_of(node)
            if step is None:
                break
            done, t = step.then(done), node.input(0)
        return t, done

    def offset(self, t: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """(beta, s) where t is beta - s; beta is None where it is 0."""
        node = self.made_by(t, "SUB")
        if node is not None and node.input(0).is_const:
            return node.input(0), node.input(1)
        node = self.made_by(t, "UNARY")
        line = None if node is None else affine(node.attrs.expression)
        if node is None or line is None or abs(line[0] + 1) > 1e-6:
            return None, None
        beta = np.full(1, line[1], np.float32)
        return Tensor("beta", (1,), "float32", data=beta) if line[1] else None, node.input(0)

    def scaled(self, t: Tensor) -> tuple[Tensor | None, Tensor]:
        """(gamma, r) where t is r * gamma."""
        node = self.made_by(t, "MUL")
        if node is not None:
            for i in (0, 1):
                if node.input(i).is_const:
                    return node.input(i), node.input(1 - i)
        return None, t

    def reduction(self, t: Tensor, *ops: str) -> tuple[Tensor, tuple[int, ...], Node] | None:
        """x, axes and node if t is a reduction of x, which it broadcasts against."""
        node = self.producers.get(t)
        if node is None or node.op not in ops or node.input(0).dtype != "float32":
            return None
        return node.input(0), tuple(sorted(node.attrs.axes)), node

    def broadcasts(self, t: Tensor, x: Tensor, axes: tuple[int, ...]) -> bool:
        return t.shape == tuple(1 if i in axes else d for i, d in enumerate(x.shape))

    def mean_of(self, t: Tensor) -> tuple[Tensor, tuple[int, ...]] | None:
        source, done = self.source(t)
        found = self.reduction(source, "MEAN")
        if found is None or done.steps or not self.broadcasts(t, *found[:2]):
            return None
        return found[:2]

    def difference(self, d: Tensor) -> tuple[Tensor, tuple[int, ...] | None]:
        """(x, axes) if d is x less its mean over axes, else (d, None)."""
        node = self.made_by(d, "SUB")
        if node is not None:
            mean = self.mean_of(node.input(1))
            if mean is not None and mean[0] is node.input(0):
                return mean
        return d, None

    def spread(self, r: Tensor, inverse: bool) -> _Spread | None:
        """What r is 1 / deviation of, or where not `inverse` the deviation."""
        source, done = self.source(r)
        found = self.reduction(source, "MEAN", "SUM")
        if found is None:
            return None
        squares, axes, node = found
        d, weight = self.square(squares)
        if d is None or not self.broadcasts(r, squares, axes):
            return None
        x, own = self.difference(d)
        if own is not None and own != axes:
            x, own = d, None
        line = _variance(done, inverse)
        if line is None:
            return None
        scale, offset = line
        scale *= weight
        if node.op == "SUM":
            scale *= float(np.prod([squares.shape[i] for i in axes], dtype=np.float64))
        return _Spread(x, axes, own is not None, offset / scale, scale**-0.5)

    def square(self, t: Tensor) -> tuple[Tensor | None, float]:
        """(d, weight) where t is weight * d * d."""
        node = self.producers.get(t)
        if node is None:
            return None, 0.0
        if (
            node.op == "MUL"
            and node.attrs.activation == "NONE"
            and node.inputs[0] is node.inputs[1]
        ):
            return node.input(0), 1.0
        expression = expression_of(node)
        if expression is None:
            return None, 0.0
        at = np.linspace(-9, 9, 37)
        weight = float(expression(np.array(1.0)))
        with np.errstate(all="ignore"):
            fits = np.isfinite(weight) and weight > 0
            fits = fits and bool(
                (np.abs(expression(at) - weight * at * at) <= _TOLERANCE * weight).all()
            )
        return (node.input(0), weight) if fits else (None, 0.0)


def _variance(f: Expression, inverse: bool) -> tuple[float, float] | None:
    """(a, b) where f(v) is sqrt(a * v + b), or 1 / it."""

    def squared(v: Array) -> Array:
        with np.errstate(all="ignore"):
            y = f(v) ** 2
            return np.asarray(1 / y if inverse else y)

    if not (f(_VARIANCES) > 0).all():
        return None
    values = squared(_VARIANCES)
    b = float(squared(np.zeros(1))[0])
    a = float(values[-1] - b) / _VARIANCES[-1] if np.isfinite(b) else float("nan")
    if not (np.isfinite(a) and a > 0 and b >= 0 and np.isfinite(values).all()):
        return None
    line = a * _VARIANCES + b
    return (a, b) if (np.abs(values - line) <= _TOLERANCE * line).all() else None


def _times(t: Tensor | None, factor: float, name: str) -> Tensor | None:
    if abs(factor - 1) <= 1e-6:
        return t
    data = np.ones(1) if t is None or t.data is None else t.data.astype(np.float64)
    return Tensor(f"{name}/gamma", data.shape, "float32", data=(data * factor).astype(np.float32))


# ---- gamma and beta behind


def _absorb(graph: Graph) -> None:
    """Constants that multiply or shift what a LAYER_NORM gives become its gamma and beta."""
    producers, consumers, results = graph.producers(), graph.consumers(), graph.results()
    gone: set[Node] = set()
    for node in graph.nodes:
        if node.op not in ("MUL", "ADD", "SUB") or node.attrs.activation != "NONE":
            continue
        a, b = node.input(0), node.input(1)
        x, c = (b, a) if a.is_const else (a, b)
        before = producers.get(x)
        if before is None or c.data is None or c.dtype != "float32" or consumers[x] != [node]:
            continue
        if x in results or x.shape != node.output.shape or (node.op == "SUB" and a.is_const):
            continue
        view = before if before.op == "RESHAPE" else None
        if view is not None:
            wide, before = view.input(0), producers.get(view.input(0))
            grouped = _grouped(c.data, x.shape, wide.shape)
            if before is None or grouped is None or consumers[wide] != [view] or wide in results:
                continue
            data = grouped
        else:
            data = c.data
        if before.op != "LAYER_NORM":
            continue
        before.inputs[1:] = _joined(before, node.op, data)
        last = view or before
        last.outputs = [node.output]
        producers[node.output] = last
        gone.add(node)
    graph.nodes = [n for n in graph.nodes if n not in gone]


def _grouped(c: Array, shape: tuple[int, ...], wide: tuple[int, ...]) -> Array | None:
    """A constant for the last dimension of `shape` as one for the last two of `wide`."""
    if len(wide) != len(shape) + 1 or wide[:-2] != shape[:-1] or c.size not in (1, shape[-1]):
        return None
    if c.size > 1 and c.shape[-1] != c.size:
        return None
    return c.reshape(1) if c.size == 1 else c.reshape(wide[-2:])


def _joined(norm: Node, op: str, c: Array) -> list[Tensor | None]:
    gamma, beta = (*norm.inputs[1:], None, None)[:2]
    value = c.astype(np.float64)
    old = np.zeros(()) if beta is None or beta.data is None else beta.data.astype(np.float64)
    if op == "MUL":
        scale = np.ones(()) if gamma is None or gamma.data is None else gamma.data
        new = (scale * value).astype(np.float32)
        gamma = Tensor(f"{norm.name}/gamma", new.shape, "float32", data=new)
        if beta is None:
            return [gamma, None]
        old = old * value
    else:
        old = old + value if op == "ADD" else old - value
    shifted = old.astype(np.float32)
    return [gamma, Tensor(f"{norm.name}/beta", shifted.shape, "float32", data=shifted)]
