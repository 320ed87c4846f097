# SPDX-License-Identifier: Apache-2.0
"""Rewrites of a graph into the form that lowering takes: int8 everywhere, few and simple ops.

Each pass changes the graph it is given, returns it and ends in Graph.verify(). None of them changes
a byte of any output.
"""

from __future__ import annotations

from ..ir.graph import Graph
from .clean import clean
from .edges import absorb_edges, float_nodes
from .fold import fold
from .fuse import fuse
from .legalise import legalise
from .outputs import check_storable, own_outputs

__all__ = ["float_nodes", "run_passes"]

_SEQUENCE = (fold, absorb_edges, clean, fuse, legalise, fold, clean, own_outputs, check_storable)


def run_passes(graph: Graph) -> Graph:
    """All passes over a copy of `graph`; UnsupportedError names what lowering could not take."""
    graph = graph.copy()
    for rewrite in _SEQUENCE:
        graph = rewrite(graph)
    return graph
