# SPDX-License-Identifier: Apache-2.0
"""Writes a program as an .eqm file, docs/FORMAT.md. The same program gives the same bytes.

Tensors are written in this order: inputs as the ports have them, results in op order, constants by
first use, views by first use. A view names the tensor that owns its bytes, never another view.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import UnsupportedError
from . import spec
from .plan import Plan, plan, storage_bytes
from .program import Array, Op, Picture, Port, Program, Value

CONV_OPS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
OP_NAME_BYTES = 32
MAX_PORTS = 256
MAX_ARGS = 1 << 20
MAX_METADATA = 4096
MAX_DATA_BYTES = spec.NONE
OPTIONAL_SECTIONS = ("META", "GOLD", "PICT")


def write_program(
    program: Program, golden: Sequence[tuple[int, bytes]] = (), memory: Plan | None = None
) -> bytes:
    """The file's bytes. `golden`: (seed, SHA-256 of the outputs); `memory`: plan(program) if known.

    Raises UnsupportedError where the program is larger than the format allows, AssertionError where
    it contradicts itself.
    """
    memory = memory or plan(program)
    tensors = _order_tensors(program, memory)
    _check_limits(program, memory, tensors)
    strings, data = _Strings(), _place_data(program, tensors)
    index = {v: i for i, v in enumerate(tensors)}
    args, params, ops = _ops(program, index, strings, data)
    ports = b"".join(_port(p, index, strings) for p in [*program.inputs, *program.outputs])
    counts = (len(program.ops), 0, len(program.inputs), len(program.outputs))
    entry = spec.ENTRY.pack(strings.add("main"), 0, *counts)
    metadata = b"".join(
        spec.META.pack(strings.add(k), strings.add(v)) for k, v in program.metadata.items()
    )
    sections = {
        "TENS": b"".join(_tensor(v, index, memory, data) for v in tensors),
        "OPS ": ops,
        "ARGS": args,
        "PARM": params,
        "IO  ": ports,
        "ENTR": entry,
        "STRS": strings.content(),
        "META": metadata,
        "GOLD": b"".join(spec.GOLDEN.pack(seed, 0, 0, digest) for seed, digest in golden),
        "PICT": b"".join(_picture(p, program, data) for p in program.pictures),
        "DATA": data.content,
    }
    return _file(sections, memory.arena_size)


def _order_tensors(program: Program, memory: Plan) -> list[Value]:
    """Every tensor once, in the order of the file."""
    used = [v for op in program.ops for v in op.inputs] + [p.value for p in program.outputs]
    owners = list(memory.places)
    consts = [v.owner for v in used if v.owner.data is not None]
    views = [v for v in used if v.view_of is not None]
    return list(dict.fromkeys([*owners, *consts, *views]))


def _check_limits(program: Program, memory: Plan, tensors: Sequence[Value]) -> None:
    for port in program.outputs:
        place = memory.places.get(port.value.owner)
        assert place is not None, f"output {port.name!r} is constant; it needs a COPY"
        assert place.first_step > 0, f"output {port.name!r} is an input; it needs a COPY"
    problems = []
    args = sum(len(op.inputs) + 1 for op in program.ops)
    counts = {
        "tensors": (len(tensors), spec.MAX_TENSORS),
        "operators": (len(program.ops), spec.MAX_OPS),
        "inputs and outputs": (len(program.inputs) + len(program.outputs), MAX_PORTS),
        "inputs of one operator": (max((len(o.inputs) for o in program.ops), default=0), 0xFFFF),
        "arguments of operators": (args, MAX_ARGS),
        "metadata entries": (len(program.metadata), MAX_METADATA),
        "bytes of activations": (memory.arena_size, spec.MAX_TENSOR_BYTES),
    }
    for what, (count, limit) in counts.items():
        if count > limit:
            problems.append(f"{count} {what}, the limit is {limit}")
    for v in tensors:
        if len(v.shape) > spec.MAX_RANK:
            problems.append(f"{v.name!r} has {len(v.shape)} axes, the limit is {spec.MAX_RANK}")
        if storage_bytes(v) > spec.MAX_TENSOR_BYTES:
            limit = spec.MAX_TENSOR_BYTES
            problems.append(f"{v.name!r} has {storage_bytes(v)} bytes, the limit is {limit}")
    if problems:
        raise UnsupportedError("the network does not fit the .eqm format", problems)


# ---- DATA


@dataclass
class _Data:
    """The DATA section: every array once. `offsets` finds an array by its bytes."""

    content: bytes
    offsets: dict[bytes, int]

    def offset(self, array: Array) -> int:
        return self.offsets[array.tobytes()]


def _place_data(program: Program, tensors: Sequence[Value]) -> _Data:
    """Weights at multiples of 64 in order of use, smaller arrays in the gaps and behind them."""
    weights = {v.owner for op in program.ops if op.opcode in CONV_OPS for v in op.inputs}
    align: dict[bytes, int] = {}

    def add(array: Array, alignment: int) -> None:
        content = array.tobytes()
        align[content] = max(alignment, align.get(content, 1))

    for v in tensors:
        if v.data is not None:
            aligned = v in weights and v.dtype == "int8"
            add(_const_array(v), spec.DATA_ALIGN if aligned else spec.ITEMSIZE[v.dtype])
    for op in program.ops:
        for name, code in spec.OPS[op.opcode].fields:
            if code[0] == "R" and op.params[name] is not None:
                array = _ref_array(op, name, code)
                add(array, array.itemsize)
    for picture in program.pictures:
        add(_table(picture), picture.table.itemsize)
    return _pack_data(align)


def _pack_data(align: dict[bytes, int]) -> _Data:
    """Arrays by falling alignment, otherwise in the given order."""
    content = bytearray()
    offsets: dict[bytes, int] = {}
    gaps: dict[int, list[int]] = {}  # between weights: length -> ends
    for array in sorted(align, key=lambda a: -align[a]):
        alignment, size = align[array], len(array)
        gap = next((n for n in range(size, spec.DATA_ALIGN) if gaps.get(n)), None)
        if gap is not None and alignment < spec.DATA_ALIGN:
            # A gap's end is aligned: to 64 at first, then by the larger arrays put there before.
            start = gaps[gap].pop() - size
            gaps.setdefault(gap - size, []).append(start)
            content[start : start + size] = array
        else:
            start = _up(len(content), alignment)
            gaps.setdefault(start - len(content), []).append(start)
            content += bytes(start - len(content)) + array
        offsets[array] = start
    if len(content) > MAX_DATA_BYTES:
        raise UnsupportedError(f"constants of {len(content)} bytes, the limit is {MAX_DATA_BYTES}")
    return _Data(bytes(content), offsets)


def _up(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


def _const_array(v: Value) -> Array:
    assert v.data is not None
    assert v.data.shape == v.shape, f"{v.name!r}: shape {v.data.shape} is not {v.shape}"
    assert v.data.dtype == np.dtype(v.dtype), f"{v.name!r}: {v.data.dtype} is not {v.dtype}"
    return v.data.astype(v.data.dtype.newbyteorder("<"))


def _table(picture: Picture) -> Array:
    """Of a picture's input, [C][256], little-endian."""
    dtype, shape = picture.port.value.dtype, picture.port.value.shape
    channels = shape[1 if picture.channels_first else 3]
    assert picture.table.dtype == np.dtype(dtype), f"a table of {picture.table.dtype} for {dtype}"
    assert picture.table.shape == (channels, 256), f"a table of {picture.table.shape} for {shape}"
    return picture.table.astype(picture.table.dtype.newbyteorder("<"))


def _ref_array(op: Op, name: str, code: str) -> Array:
    array = np.asarray(op.params[name])
    dtype = np.dtype(spec.ref_dtype(name, code, op.params.get("arithmetic", 0)))
    assert np.can_cast(array.dtype, dtype, "equiv"), (
        f"{op.opcode} {op.name!r}: {name} {array.dtype}"
    )
    return array.astype(dtype)


# ---- strings


@dataclass
class _Strings:
    """The pool: every string once, NUL-terminated; the empty one is at 0."""

    offsets: dict[bytes, int] = field(default_factory=lambda: {b"": 0})
    size: int = 1

    def add(self, text: str) -> int:
        key = text.encode("utf-8", "replace").replace(b"\0", b"")
        if key not in self.offsets:
            self.offsets[key] = self.size
            self.size += len(key) + 1
        return self.offsets[key]

    def content(self) -> bytes:
        return b"".join(key + b"\0" for key in self.offsets)


def short_name(name: str) -> str:
    """At most 32 bytes of an op's name: what lies behind as few slashes as possible."""
    name = name.split(";")[0]
    while len(name.encode("utf-8", "replace")) > OP_NAME_BYTES and "/" in name:
        name = name.split("/", 1)[1]
    return name.encode("utf-8", "replace")[:OP_NAME_BYTES].decode("utf-8", "ignore")


# ---- records


def _tensor(v: Value, index: dict[Value, int], memory: Plan, data: _Data) -> bytes:
    assert v.dtype != "float32", f"{v.name!r} holds floats"
    owner = v.owner
    dims = v.shape + (1,) * (spec.MAX_RANK - len(v.shape))
    first = last = 0
    if owner.data is not None:
        kind, offset = "const", data.offset(_const_array(owner))
    else:
        place = memory.places[owner]
        kind, offset = "activation" if place.first_step else "input", place.offset
        first, last = place.first_step, place.last_step
    if v is not owner:
        kind = "view"
        assert storage_bytes(v) == storage_bytes(owner), f"view {v.name!r} has another size"
    types = (spec.DTYPES[v.dtype], spec.KINDS[kind], len(v.shape), 0)
    times = (first, last, offset, float(v.scale), v.zero_point)
    return spec.TENSOR.pack(*types, index[owner], *dims, *times)


def _ops(
    program: Program, index: dict[Value, int], strings: _Strings, data: _Data
) -> tuple[bytes, bytes, bytes]:
    """The sections ARGS, PARM and OPS. Equal params are stored once."""
    args: list[int] = []
    params = bytearray()
    offsets: dict[bytes, int] = {b"": 0}
    ops = []
    for op in program.ops:
        packed = _params(op, data)
        if packed not in offsets:
            offsets[packed] = len(params)
            params += packed
        place = (len(args), offsets[packed], len(packed), strings.add(short_name(op.name)))
        ops.append(spec.OP.pack(spec.OPS[op.opcode].opcode, 0, len(op.inputs), 1, *place))
        args += [index[v] for v in [*op.inputs, op.output]]
    return struct.pack(f"<{len(args)}I", *args), bytes(params), b"".join(ops)


def _params(op: Op, data: _Data) -> bytes:
    fields = spec.OPS[op.opcode].fields
    unknown = set(op.params) - {name for name, _ in fields}
    assert not unknown, f"{op.opcode} {op.name!r}: unknown params {sorted(unknown)}"
    values: list[Any] = []
    for name, code in fields:
        value = 0 if name == "reserved" else op.params[name]
        if code[0] == "R":
            value = spec.NONE if value is None else data.offset(_ref_array(op, name, code))
        values += value if isinstance(value, tuple) else [value]
    layout = "<" + "".join("I" if code[0] == "R" else code for _, code in fields)
    return struct.pack(layout, *values)


def _port(port: Port, index: dict[Value, int], strings: _Strings) -> bytes:
    quantization = (float(port.scale), port.zero_point)
    dtype = spec.DTYPES[port.dtype]
    labels = strings.add(port.labels)
    return spec.IO.pack(strings.add(port.name), index[port.value], dtype, *quantization, labels)


def _picture(p: Picture, program: Program, data: _Data) -> bytes:
    codes = (spec.FITS[p.fit], spec.ORDERS[p.order], int(p.channels_first))
    place = data.offset(_table(p))
    return spec.PICTURE.pack(program.inputs.index(p.port), *codes, bytes(p.pad), p.crop, place)


# ---- the file


def _file(sections: dict[str, bytes], arena_size: int) -> bytes:
    kept = {t: c for t, c in sections.items() if c or t not in OPTIONAL_SECTIONS}
    offset = spec.HEADER.size + spec.SECTION.size * len(kept)
    table, body = [], []
    for kind, content in kept.items():
        padding = _up(offset, spec.section_align(kind)) - offset
        offset += padding
        flags = 0 if kind in OPTIONAL_SECTIONS else spec.SECTION_REQUIRED
        place = (flags, offset, len(content), zlib.crc32(content), 0)
        table.append(spec.SECTION.pack(kind.encode(), *place))
        body += [bytes(padding), content]
        offset += len(content)

    version = spec.PICTURE_VERSION if "PICT" in kept else (1, 0)

    def header(crc: int) -> bytes:
        sizes = (len(kept), offset, arena_size, crc)
        return spec.HEADER.pack(spec.MAGIC, *version, *sizes)

    directory = b"".join(table)
    return b"".join([header(zlib.crc32(header(0) + directory)), directory, *body])
