# SPDX-License-Identifier: Apache-2.0
"""Which operators edgeq runs, on which types: read off the importers, the lowering and the format.

`edgeq ops` prints it; docs/OPS.md is what it prints.
"""

from __future__ import annotations

from dataclasses import dataclass

TYPES = ("int8", "uint8", "int16", "int32", "int64", "bool", "float32")
# What an importer's kind of rule accepts; the importers' own documentation says what each means.
_QUANTIZED = ("int8", "uint8")
_KINDS: dict[str, tuple[str, ...]] = {
    "int8": (*_QUANTIZED, "float32"),
    "in": (*_QUANTIZED, "float32"),
    "float": ("float32",),
    "any": (*_QUANTIZED, "int32", "int64", "bool", "float32"),
    "bytes": (*_QUANTIZED, "int32", "int64", "bool"),
    "signed": ("int8", "float32"),
    "edge": (),
    "none": (),
}
# Operators between types, which decide for themselves.
_EDGES = {
    "CAST": ("int8", "uint8", "int32", "int64", "bool", "float32"),
    "QUANTIZE": ("int8", "uint8", "int16", "int32", "float32"),
    "DEQUANTIZE": ("int8", "uint8", "int16", "float32"),
}


@dataclass(frozen=True)
class Operators:
    """`tflite`: operator -> types of its data. `onnx`: operators, of float32 or quantized by
    QuantizeLinear around them. `graph`: op of the graph -> what becomes of it. `eqm`: opcode ->
    name.
    """

    tflite: dict[str, tuple[str, ...]]
    tflite_folded: tuple[str, ...]
    onnx: tuple[str, ...]
    graph: dict[str, str]
    eqm: dict[int, str]


def operators() -> Operators:
    """All of them, from the tables that the converter itself works by."""
    from .format.spec import OPS as OPCODES
    from .importers import onnx, tflite, tflite_constants, tflite_whole
    from .importers.tflite_ops import Rule
    from .ir.ops import OPS
    from .quantize import lower, rules_whole

    def types(rule: Rule, integers: bool) -> set[str]:
        found = set(_KINDS[rule.types]) | {kind.lower() for kind in rule.also}
        if rule.types in ("int8", "in", "any") and rule.int16:
            found.add("int16")
        if integers and rule.types in ("int8", "in", "signed") and "FLOAT32" not in rule.also:
            found.discard("float32")
        return found

    found: dict[str, set[str]] = {}
    for name, rule in tflite.RULES.items():
        found.setdefault(name, set()).update(types(rule, False))
    for name, rule in tflite.INTEGER_RULES.items():
        if rule.handler is not tflite_whole.refuse:
            found.setdefault(name, set()).update(types(rule, True))
    for name, rule in tflite.CUSTOM_RULES.items():
        found[f"CUSTOM {name}"] = types(rule, False)
    for name, kinds in _EDGES.items():
        found[name] = set(kinds)
    graph = {}
    for name, spec in OPS.items():
        if not spec.lowered:
            graph[name] = "rewritten as others"
        elif name in lower.RULES:
            whole = name in rules_whole.WHOLE
            graph[name] = "lowered, of whole numbers too" if whole else "lowered"
        else:
            graph[name] = "float32 only: part of other ops, at an edge, or not lowered"
    return Operators(
        tflite={n: tuple(t for t in TYPES if t in found[n]) for n in sorted(found)},
        tflite_folded=tuple(sorted(tflite_constants.FOLDABLE | {"SHAPE", "RANK"})),
        onnx=tuple(sorted(onnx.RULES)),
        graph=dict(sorted(graph.items())),
        eqm={layout.opcode: name for name, layout in OPCODES.items()},
    )


def markdown(found: Operators) -> str:
    """docs/OPS.md."""
    lines = [
        "# Operators",
        "",
        "`edgeq ops` writes this page from the converter's own tables.",
        "",
        "## TFLite",
        "",
        "What the data of an operator may be. float32: in a network that is calibrated, or between",
        "DEQUANTIZE and QUANTIZE (docs/NUMERICS.md, Float islands).",
        "",
        "| operator | " + " | ".join(TYPES) + " |",
        "|---" * (len(TYPES) + 1) + "|",
    ]
    for name, types in found.tflite.items():
        cells = ["x" if t in types else "" for t in TYPES]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "On constants, computed at conversion: " + ", ".join(found.tflite_folded) + "."]
    lines += ["", "## ONNX", "", ", ".join(found.onnx) + "."]
    lines += ["", "## The graph between import and lowering", "", "| op | |", "|---|---|"]
    lines += [f"| {name} | {how} |" for name, how in found.graph.items()]
    lines += ["", "## The file", "", "| opcode | op |", "|---|---|"]
    lines += [f"| {code} | {name} |" for code, name in found.eqm.items()]
    return "\n".join(lines) + "\n"
