# SPDX-License-Identifier: Apache-2.0
"""Takes an .eqm file apart, changes single fields and puts it together with right checksums."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeq.format import spec

_FIELDS = {
    "TENS": "dtype kind rank flags storage d0 d1 d2 d3 d4 d5 first_step last_step offset"
    " scale zero_point",
    "OPS ": "opcode flags input_count output_count args params params_size name",
    "ARGS": "tensor",
    "IO  ": "name tensor dtype scale zero_point labels",
    "ENTR": "name first_op op_count io input_count output_count",
    "META": "key value",
    "GOLD": "seed entry reserved sha256",
    "PICT": "input fit order layout pad crop table",
}
_CODES = {"<i1": "b", "<i2": "h", "<u2": "H", "<i4": "i", "<u4": "I", "<i8": "q"}
_RECORDS = {
    "TENS": spec.TENSOR,
    "OPS ": spec.OP,
    "ARGS": struct.Struct("<I"),
    "IO  ": spec.IO,
    "ENTR": spec.ENTRY,
    "META": spec.META,
    "GOLD": spec.GOLDEN,
    "PICT": spec.PICTURE,
}
_HEADER = "magic major minor section_count file_size arena_size header_crc"
_SECTION = "type flags offset size crc layout"
_OPCODES = {layout.opcode: layout for layout in spec.OPS.values()}


@dataclass
class Part:
    """A section; `changes` replace fields of its table entry when the file is put together."""

    type: bytes
    flags: int
    layout: int
    content: bytearray
    changes: dict[str, Any]


class Editor:
    """`header` has fields to replace; `raw` functions change the bytes when all else is done."""

    def __init__(self, data: bytes) -> None:
        self.parts: list[Part] = []
        self.header: dict[str, Any] = {}
        self.reserved = bytes(28)
        self.raw: list[Callable[[bytearray], bytes | bytearray]] = []
        self.padding = 0  # what fills the space between sections
        _, *self.version, count, _, self.arena_size, _ = spec.HEADER.unpack_from(data)
        for i in range(count):
            entry = spec.SECTION.unpack_from(data, spec.HEADER.size + i * spec.SECTION.size)
            kind, flags, offset, size, _, layout = entry
            content = bytearray(data[offset : offset + size])
            self.parts.append(Part(kind, flags, layout, content, {}))

    def part(self, name: str) -> Part:
        return next(p for p in self.parts if p.type == name.encode())

    def get(self, section: str, index: int, field: str) -> Any:
        """A field of a record."""
        return self._record(section, index)[field]

    def set(self, section: str, index: int, **changes: Any) -> None:
        """Changes fields of a record."""
        record = self._record(section, index)
        assert set(changes) <= set(record), changes
        layout = _RECORDS[section]
        packed = layout.pack(*{**record, **changes}.values())
        self.part(section).content[index * layout.size : (index + 1) * layout.size] = packed

    def _record(self, section: str, index: int) -> dict[str, Any]:
        layout = _RECORDS[section]
        values = layout.unpack_from(self.part(section).content, index * layout.size)
        return dict(zip(_FIELDS[section].split(), values))

    def param(self, op: int, **changes: Any) -> None:
        """Changes params of an op; where the spec has arrays, a tuple replaces the whole."""
        for name, value in changes.items():
            offset, code = self._param_place(op, name)
            values = value if isinstance(value, tuple) else (value,)
            struct.pack_into("<" + code, self.part("PARM").content, offset, *values)

    def array(self, op: int, name: str, index: int, value: int) -> None:
        """Changes an element of an array that an op's params refer to."""
        place, _ = self._param_place(op, name)
        (ref,) = struct.unpack_from("<I", self.part("PARM").content, place)
        fields = dict(_OPCODES[self.get("OPS ", op, "opcode")].fields)
        arithmetic = 0
        if "arithmetic" in fields:
            place, _ = self._param_place(op, "arithmetic")
            (arithmetic,) = struct.unpack_from("<H", self.part("PARM").content, place)
        code = _CODES[spec.ref_dtype(name, fields[name], arithmetic)]
        at = ref + index * struct.calcsize(code)
        struct.pack_into("<" + code, self.part("DATA").content, at, value)

    def _param_place(self, op: int, name: str) -> tuple[int, str]:
        offset = self.get("OPS ", op, "params")
        for field, code in _OPCODES[self.get("OPS ", op, "opcode")].fields:
            code = "I" if code[0] == "R" else code
            if field == name:
                return offset, code
            offset += struct.calcsize("<" + code)
        raise KeyError(name)

    def arg(self, op: int, index: int) -> int:
        """The tensor of an op's argument; -1 is its output."""
        return int(self.get("ARGS", self._arg_place(op, index), "tensor"))

    def set_arg(self, op: int, index: int, tensor: int) -> None:
        self.set("ARGS", self._arg_place(op, index), tensor=tensor)

    def _arg_place(self, op: int, index: int) -> int:
        count = self.get("OPS ", op, "input_count")
        return int(self.get("OPS ", op, "args")) + (count if index < 0 else index)

    def build(self) -> bytes:
        """The changed file."""
        offset = spec.HEADER.size + spec.SECTION.size * len(self.parts)
        table, body = b"", b""
        for p in self.parts:
            padding = -offset % spec.section_align(p.type.decode())
            offset += padding
            content = bytes(p.content)
            values = (p.type, p.flags, offset, len(content), zlib.crc32(content), p.layout)
            entry = {**dict(zip(_SECTION.split(), values)), **p.changes}
            table += spec.SECTION.pack(*entry.values())
            body += bytes([self.padding]) * padding + content
            offset += len(content)
        values = (spec.MAGIC, *self.version, len(self.parts), offset, self.arena_size, 0)
        header = {**dict(zip(_HEADER.split(), values)), **self.header}
        count = min(header["section_count"], len(self.parts))

        def pack(crc: int) -> bytes:
            fields = {**header, "header_crc": crc}
            return spec.HEADER.pack(*fields.values())[: -len(self.reserved)] + self.reserved

        crc = zlib.crc32(pack(0) + table[: count * spec.SECTION.size])
        data: bytes | bytearray = bytearray(pack(crc) + table + body)
        for change in self.raw:
            data = change(bytearray(data))
        return bytes(data)
