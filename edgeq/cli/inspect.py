# SPDX-License-Identifier: Apache-2.0
"""Show what is in a network: inputs and outputs, operators, quantization, memory.

examples:
  edgeq inspect model.eqm
  edgeq inspect model.tflite --json
  edgeq inspect model.eqm --kernels

--kernels shows what runs each operator on this machine, and why. The map shows where each tensor
lies in RAM (across), and when (down).
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from ..format.image import Image, Op
from ..format.memory_map import memory_map, summary
from ..format.reader import read_program
from ..format.spec import CROP_ONE, INTEGER_FUNCTIONS, REDUCE_FUNCTIONS
from ..runtime.model import load
from ..runtime.session import Session
from . import text
from .network import add_model, op_macs, read_eqm

_ARITHMETIC = {0: "R31", 1: "R15"}
_FUNCTIONS = {"INTEGER": INTEGER_FUNCTIONS, "REDUCE_INTEGER": REDUCE_FUNCTIONS}
_SHOWN = (
    *("axis", "perm", "before", "begin", "stride", "value", "half_pixel"),
    *("batch_dims", "exclusive", "reverse", "count"),
)


def add(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model(parser)
    parser.add_argument(
        "--kernels", action="store_true", help="which kernel runs each operator here, and why"
    )
    text.add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Prints tables, or all of it as JSON."""
    data = read_eqm(options.model, options.arithmetic)
    image, session = read_program(data), load(data, arithmetic=options.arithmetic)
    if options.kernels:
        _show_kernels(image, session, options.json)
        return 0
    if options.json:
        text.print_json(_json(image, session))
        return 0
    print("\n\n".join(_parts(options.model, image, session)))
    print()
    print(memory_map(image, shutil.get_terminal_size((100, 24)).columns))
    return 0


def _show_kernels(image: Image, session: Session, as_json: bool) -> None:
    model = session.model
    ops = list(zip(model.ops, op_macs(image)))
    if as_json:
        rows = [{"index": i, **asdict(op), "macs": m} for i, (op, m) in enumerate(ops)]
        text.print_json({"isa": model.isa, "ops": rows})
        return
    table = [
        (
            i,
            op.type,
            op.name,
            f"{op.slot} {op.kernel}".strip() or "none",
            op.why,
            text.short(macs) if macs else "",
            text.count(op.packed_bytes) if op.packed_bytes else "",
        )
        for i, (op, macs) in enumerate(ops)
    ]
    print(text.table(table, ("op", "type", "name", "kernel", "why", "MAC", "packed")))
    used = sorted({op.kernel for op, _ in ops if op.kernel})
    packed = text.count(sum(op.packed_bytes for op, _ in ops))
    print(f"\nthe best here is {model.isa}, used are {', '.join(used) or 'no kernels'}; ", end="")
    print(f"{packed} bytes of packed weights")


def _parts(name: str, image: Image, session: Session) -> Iterator[str]:
    version = ".".join(map(str, image.header.version))
    yield f"{name}: .eqm {version}, {text.count(image.header.file_size)} bytes"
    ports = [
        *(text.tensor_row("input", t) for t in session.inputs),
        *(text.tensor_row("output", t) for t in session.outputs),
    ]
    yield text.table(ports, text.TENSOR_HEADERS)
    yield text.table(_op_rows(image), ("op", "type", "name", "output", "MAC", "scale", "how"))
    if image.pictures:
        yield text.table(_picture_rows(image), ("pictures for", "size", "fit", "crop", "order"))
    sections = [(s.type, s.offset, s.size, f"{s.crc:08x}") for s in image.sections]
    yield text.table(sections, ("section", "offset", "bytes", "crc"))
    if image.metadata:
        yield text.table(image.metadata.items())
    weights = next((s.size for s in image.sections if s.type == "DATA"), 0)
    facts = [
        ("operators", text.count(len(image.ops))),
        ("multiply-accumulates", text.count(sum(op_macs(image)))),
        ("weights and tables", f"{text.count(weights)} bytes"),
        (
            "RAM",
            f"{text.count(session.memory_bytes)} bytes: activations "
            f"{text.count(session.arena_bytes)}, scratch {text.count(session.scratch_bytes)}",
        ),
        ("memory plan", summary(image)),
        ("golden cases", ", ".join(f"seed {g.seed}" for g in image.golden) or "none"),
        ("labels", text.count(len(session.labels))),
        ("kernels here", session.model.isa),
    ]
    yield "\n".join(f"{key:22}{value}" for key, value in facts)


def _picture_rows(image: Image) -> Iterator[tuple[str, ...]]:
    for p in image.pictures:
        port = image.inputs[p.input]
        fit = p.fit + (" " + ":".join(map(str, p.pad)) if p.fit == "pad" else "")
        size = text.shape(image.tensors[port.tensor].shape)
        yield port.name, size, fit, f"{p.crop / CROP_ONE:.6g}", p.order


def _op_rows(image: Image) -> Iterator[tuple[str, ...]]:
    for op, macs in zip(image.ops, op_macs(image)):
        y = image.tensors[op.output]
        scale = f"{y.scale:.5g}, {y.zero_point}" if y.scale else ""
        yield (
            str(op.index),
            op.opcode,
            op.name,
            text.shape(y.shape),
            text.short(macs) if macs else "",
            scale,
            _how(op, image),
        )


def _how(op: Op, image: Image) -> str:
    """The parameters that matter to a reader."""
    p = op.params
    words: list[str] = []
    if op.opcode in _FUNCTIONS:
        words.append(_FUNCTIONS[op.opcode][p["function"]].lower())
    if "requant_count" in p:
        w = image.tensors[op.inputs[1]]
        if op.opcode != "FULLY_CONNECTED":
            words.append(f"{w.shape[1]}x{w.shape[2]}")
        words += _window(p)
        words.append(_ARITHMETIC.get(p["arithmetic"], "?"))
        words.append("per channel" if p["requant_count"] > 1 else "per tensor")
    elif "kernel_h" in p:
        words += [f"{p['kernel_h']}x{p['kernel_w']}", *_window(p)]
    elif "axes" in p:
        axes = [str(i) for i in range(32) if p["axes"] >> i & 1]
        words.append(f"axes {','.join(axes)}")
    else:
        words += [
            f"{key} {','.join(map(str, value)) if isinstance(value, tuple) else value}"
            for key, value in p.items()
            if key in _SHOWN
        ]
    return " ".join(words)


def _window(p: Mapping[str, Any]) -> Iterator[str]:
    """Stride, dilation, padding and groups where they are not the usual ones."""
    if (p["stride_h"], p["stride_w"]) != (1, 1):
        yield f"stride {p['stride_h']},{p['stride_w']}"
    if (p.get("dilation_h", 1), p.get("dilation_w", 1)) != (1, 1):
        yield f"dilation {p['dilation_h']},{p['dilation_w']}"
    if (p["pad_top"], p["pad_left"]) != (0, 0):
        yield f"pad {p['pad_top']},{p['pad_left']}"
    if p.get("groups", 1) > 1:
        yield f"groups {p['groups']}"


def _json(image: Image, session: Session) -> dict[str, Any]:
    memory = {
        "session_bytes": session.memory_bytes,
        "arena_bytes": session.arena_bytes,
        "scratch_bytes": session.scratch_bytes,
        "in_use": list(image.plan.live),
    }
    tensors = [
        {
            "index": t.index,
            "kind": t.kind,
            "dtype": t.dtype,
            "shape": list(t.shape),
            "scale": t.scale,
            "zero_point": t.zero_point,
            "storage": t.storage,
            "offset": t.offset,
            "steps": [t.first_step, t.last_step],
        }
        for t in image.tensors
    ]
    ops = [
        {
            "type": op.opcode,
            "name": op.name,
            "inputs": list(op.inputs),
            "output": op.output,
            "macs": macs,
            "params": {key: _plain(value) for key, value in op.params.items()},
        }
        for op, macs in zip(image.ops, op_macs(image))
    ]
    return {
        "version": list(image.header.version),
        "file_bytes": image.header.file_size,
        "metadata": dict(image.metadata),
        "inputs": [text.tensor_json(t) for t in session.inputs],
        "outputs": [text.tensor_json(t) for t in session.outputs],
        "labels": list(session.labels),
        "pictures": [
            {
                "input": p.input,
                "fit": p.fit,
                "order": p.order,
                "channels_first": p.channels_first,
                "crop": p.crop / CROP_ONE,
                "pad": list(p.pad),
                "table": p.table.tolist(),
            }
            for p in image.pictures
        ],
        "memory": memory,
        "isa": session.model.isa,
        "golden": [{"seed": g.seed, "sha256": g.sha256.hex()} for g in image.golden],
        "sections": [{"type": s.type, "offset": s.offset, "size": s.size} for s in image.sections],
        "tensors": tensors,
        "ops": ops,
    }


def _plain(value: Any) -> Any:
    """Arrays by their length: the file itself has their content."""
    if value is None or isinstance(value, (int, tuple)):
        return value
    return {"elements": int(value.size)}
