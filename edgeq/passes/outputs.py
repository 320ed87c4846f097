# SPDX-License-Identifier: Apache-2.0
"""The last passes: outputs with bytes of their own, and only tensors that a file can hold."""

from __future__ import annotations

from dataclasses import replace

from ..errors import UnsupportedError
from ..ir.graph import Graph, Node, Tensor
from ..ir.ops import NoAttrs
from .legalise import MAX_RANK

_STORED = ("int8", "int16", "int32", "int64", "bool")


def own_outputs(graph: Graph) -> Graph:
    """Inserts COPY where needed.

    Afterwards each output is written by an op or is a RESHAPE (a view) of what an op writes, and no
    two outputs share their storage.
    """
    producers = graph.producers()
    taken: set[Tensor] = set(graph.inputs)
    names: set[str] = set()
    for i, y in enumerate(graph.outputs):
        owner = y
        while owner in producers and producers[owner].op == "RESHAPE":
            owner = producers[owner].input(0)
        if owner.is_const or owner in taken:
            name, n = y.name, 1
            while name in names:
                n += 1
                name = f"{y.name}_{n}"
            copy = replace(y, name=name, data=None)
            graph.nodes.append(Node("COPY", [y], [copy], NoAttrs(), name))
            if y in graph.labels:
                graph.labels[copy] = graph.labels[y]
            graph.outputs[i] = copy
            owner = copy
        taken.add(owner)
        names.add(graph.outputs[i].name)
    graph.labels = {t: text for t, text in graph.labels.items() if t in graph.outputs}
    graph.verify()
    return graph


def check_storable(graph: Graph) -> Graph:
    """Raises UnsupportedError for each float tensor and each one of too many dimensions."""
    problems = []
    for i, t in enumerate(graph.inputs):
        if t.dtype not in _STORED:
            problems.append(
                f"input {t.name!r} is {t.dtype}; it must lead to one QUANTIZE, or to equal ones"
            )
        elif len(t.shape) > MAX_RANK:
            problems.append(f"input {i} {t.name!r} has {len(t.shape)} dimensions")
    for node in graph.nodes:
        label = f"op {node.source_index} {node.op} {node.name!r}"
        constants = [t for t in node.inputs if t is not None and t.is_const]
        if node.op == "LAYER_NORM":
            constants = []  # gamma and beta become parameters
        for t in [*constants, *node.outputs]:
            if t.dtype not in _STORED:
                problems.append(f"{label}: {t.name!r} is {t.dtype} inside of the network")
            elif len(t.shape) > MAX_RANK:
                problems.append(
                    f"{label}: {t.name!r} has {len(t.shape)} dimensions, {MAX_RANK} fit"
                )
    for t in graph.outputs:
        if t.dtype not in _STORED:
            problems.append(
                f"output {t.name!r} is {t.dtype} and not dequantized from int8 or int16"
            )
    if problems:
        problems = list(dict.fromkeys(problems))
        raise UnsupportedError(
            f"{graph.name or 'the network'}: it cannot run in integers", problems
        )
    graph.verify()
    return graph
