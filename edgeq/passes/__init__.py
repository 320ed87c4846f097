# SPDX-License-Identifier: Apache-2.0
"""Rewrites of a graph into the form that lowering takes: int8 everywhere, few and simple ops.

Each pass changes the graph it is given, returns it and ends in Graph.verify(). Those of quantized
graphs do not change a byte of any output (but see islands.py); those of float graphs compute the
same up to the rounding of float32.
"""

from __future__ import annotations

from ..ir.graph import Graph
from .affine import fold_affine
from .clean import clean
from .edges import absorb_edges, float_nodes
from .fold import fold
from .forms import canonical
from .fuse import fuse
from .islands import integer_islands
from .layout import layout
from .legalise import legalise
from .norm import norm
from .order import order
from .outputs import check_storable, own_outputs
from .unary import unary

__all__ = ["float_nodes", "run_float_passes", "run_passes"]

_SEQUENCE = (
    *(fold, integer_islands, absorb_edges, clean, fuse),
    *(legalise, fold, clean, own_outputs, check_storable),
)


def run_passes(graph: Graph) -> Graph:
    """All passes over a copy of `graph`; UnsupportedError names what lowering could not take."""
    graph = graph.copy()
    for rewrite in _SEQUENCE:
        graph = rewrite(graph)
    return graph


# layout comes early: behind it, numbers for channels are numbers for the last dimension. fuse comes
# before unary, since a layer's activation costs nothing, and again behind it, when more are known.
# fold_affine goes before unary, which would take single numbers that can be weights; norm behind
# it: it asks for functions, which unary finds.
_FLOAT_SEQUENCE = (
    fold,
    clean,
    canonical,
    layout,
    order,
    clean,
    canonical,
    fuse,
    fold_affine,
    unary,
    norm,
    fuse,
    canonical,
    fold,
    clean,
)


def run_float_passes(graph: Graph) -> Graph:
    """What a float graph goes through before it is calibrated, over a copy of `graph`."""
    graph = graph.copy()
    for rewrite in _FLOAT_SEQUENCE:
        graph = rewrite(graph)
    return graph
