# SPDX-License-Identifier: Apache-2.0
"""Files that are wrong in one way each: header, sections, strings, tensors.

A case names what is wrong, the good program that it starts from, the status of the C library, and
parts of the sentences that the reader and the C library give; None where one of them does not look.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from eqm_editor import Editor, Part

from edgeq.format import spec

Edit = Callable[[Editor], object]


@dataclass(frozen=True)
class Case:
    name: str
    base: str
    status: str
    reader: str | None
    core: str | None
    edit: Edit


def _sections(e: Editor, change: Callable[[list[Part]], object]) -> None:
    change(e.parts)


def _raw(change: Callable[[bytearray], bytes | bytearray]) -> Edit:
    return lambda e: e.raw.append(change)


def _flip(at: int) -> Edit:
    """Flips a bit of the finished file."""

    def change(data: bytearray) -> bytearray:
        data[at] ^= 1
        return data

    return _raw(change)


def _header(**changes: int) -> Edit:
    return lambda e: e.header.update(changes)


def _entry(section: str, **changes: int) -> Edit:
    """Changes the section's entry in the table."""
    return lambda e: e.part(section).changes.update(changes)


def _content(section: str, content: bytes) -> Edit:
    def change(e: Editor) -> None:
        e.part(section).content[:] = content

    return change


def _add(section: str, content: bytes) -> Edit:
    return lambda e: e.part(section).content.extend(content)


def _set(section: str, index: int, **changes: float) -> Edit:
    return lambda e: e.set(section, index, **changes)


def _reserved(e: Editor) -> None:
    e.reserved = bytes([0] * 27 + [1])


def _padding(e: Editor) -> None:
    e.padding = 1


def _section_twice(e: Editor) -> None:
    e.parts.insert(1, e.parts[0])


def _section_unknown(e: Editor) -> None:
    e.parts.insert(0, Part(b"NEWS", spec.SECTION_REQUIRED, 0, bytearray(4), {}))


def _section_over(e: Editor) -> None:
    e.part("OPS ").changes["offset"] = 384  # where TENS begins: 64 + 10 * 32, rounded up


FC, CONV, MOVES = "fully_connected", "conv_add_view", "moves"
FORMAT, INVALID = "EQ_ERR_FORMAT", "EQ_ERR_INVALID"
VERSION, UNSUPPORTED = "EQ_ERR_VERSION", "EQ_ERR_UNSUPPORTED"
BEHIND = 0x10000
STRING = "its string lies at 65536 of"

HEADER = [
    Case("header_cut", FC, FORMAT, "a header alone has 64", "a header has 64",
         _raw(lambda d: d[:40])),
    Case("file_cut", FC, FORMAT, "cut or extended", "truncated or extended",
         _raw(lambda d: d[:-1])),
    Case("file_extended", FC, FORMAT, "cut or extended", "truncated or extended",
         _raw(lambda d: d + b"\0")),
    Case("magic", FC, FORMAT, "the signature", "the signature", _flip(0)),
    Case("major_newer", FC, VERSION, "format 2.0", "format 2.0", _header(major=2)),
    Case("section_count_65", FC, FORMAT, "65 sections, the limit is 64", "65 sections, at most 64",
         _header(section_count=65)),
    Case("section_table_behind_file", FC, FORMAT, "table ends behind the end", "table ends behind",
         _header(section_count=60)),
    Case("header_checksum", FC, FORMAT, "header's checksum", "header's checksum", _flip(24)),
    Case("header_reserved", FC, INVALID, "reserved bytes are not 0", "reserved header", _reserved),
    Case("arena_too_large", FC, INVALID, "the arena has 2147483648", "the arena has 2147483648",
         _header(arena_size=2**31)),
]  # fmt: skip

SECTIONS = [
    Case("section_misaligned", FC, INVALID, "is not a multiple of 16", "not a multiple of 16",
         _entry("OPS ", offset=673)),
    Case("section_overlap", FC, INVALID, "before the end of what", "overlaps", _section_over),
    Case("section_behind_file", FC, INVALID, "ends behind the end of the file", "behind the file",
         _entry("DATA", size=BEHIND)),
    Case("section_size_overflows", FC, INVALID, "ends behind the end", "behind the file",
         _entry("DATA", size=2**64 - 64)),
    Case("section_checksum", FC, FORMAT, "checksum does not match", "checksum of section",
         _flip(-1)),
    Case("section_twice", FC, INVALID, "there are two of them", "two TENS sections",
         _section_twice),
    Case("section_flags", FC, VERSION, "unknown flags 0x3", "has unknown flags",
         _entry("OPS ", flags=3)),
    Case("section_unknown_required", FC, VERSION, "it is required, and unknown",
         "is required, but unknown", _section_unknown),
    Case("section_layout", FC, UNSUPPORTED, "packed in layout 7", "packed in layout 7",
         _entry("DATA", layout=7)),
    Case("section_size", FC, INVALID, "169 bytes are not a multiple of 56",
         "not a multiple of 56", _add("TENS", b"\0")),
    Case("section_missing", FC, INVALID, "section 'ARGS' is missing", "section ARGS is missing",
         lambda e: e.parts.remove(e.part("ARGS"))),
    Case("entries_65", FC, INVALID, "65 records, the limit is 1", "65 records",
         _content("ENTR", bytes(24) * 65)),
    Case("entries_2", FC, UNSUPPORTED, "2 records, the limit is 1", "2 entry points",
         _add("ENTR", bytes(24))),
    Case("entries_0", FC, UNSUPPORTED, "no entry point", "0 entry points", _content("ENTR", b"")),
    Case("padding", FC, INVALID, "the padding ahead of it is not 0",
         "the padding ahead of it is not 0", _padding),
    Case("bytes_behind_sections", FC, INVALID, "follow the last section", "follow the last section",
         lambda e: (e.header.update(file_size=1472), e.raw.append(lambda d: d.ljust(1472, b"\0")))),
]  # fmt: skip

STRINGS = [
    Case("strings_empty", FC, INVALID, "begin and end with NUL", "begin and end",
         _content("STRS", b"")),
    Case("strings_begin", FC, INVALID, "begin and end with NUL", "begin and end",
         _content("STRS", b"a\0")),
    Case("strings_end", FC, INVALID, "begin and end with NUL", "begin and end",
         _content("STRS", b"\0a")),
    Case("string_not_utf8", FC, "", "is not UTF-8", None,
         lambda e: (e.part("STRS").content.extend(b"\xff\0"),
                    e.set("OPS ", 0, name=len(e.part("STRS").content) - 2))),
    Case("string_middle", FC, "", "in the middle of another", None, _set("OPS ", 0, name=2)),
    Case("string_op", FC, INVALID, "op 0: " + STRING, "op 0: " + STRING,
         _set("OPS ", 0, name=BEHIND)),
    Case("string_port", FC, INVALID, "port 0: " + STRING, "port 0: " + STRING,
         _set("IO  ", 0, name=BEHIND)),
    Case("string_labels", FC, INVALID, "port 1: " + STRING, "port 1: " + STRING,
         _set("IO  ", 1, labels=BEHIND)),
    Case("string_entry", FC, INVALID, "the entry point: " + STRING, "entry 0: " + STRING,
         _set("ENTR", 0, name=BEHIND)),
    Case("string_metadata_key", FC, INVALID, "metadata 0: " + STRING, "metadata key 0: " + STRING,
         _set("META", 0, key=BEHIND)),
    Case("string_metadata_value", FC, INVALID, "metadata 0: " + STRING,
         "metadata value 0: " + STRING,
         _set("META", 0, value=BEHIND)),
    Case("metadata_twice", FC, "", "is there already", None,
         lambda e: e.part("META").content.extend(e.part("META").content)),
    Case("golden_entry", FC, INVALID, "golden case 1", "golden case 1", _set("GOLD", 1, entry=1)),
    Case("golden_reserved", FC, INVALID, "golden case 1", "golden case 1",
         _set("GOLD", 1, reserved=1)),
]  # fmt: skip

NAN, INF = float("nan"), float("inf")
SCALE = "the scale is negative or not finite"
PLACE = "does not repeat the place and time"

TENSORS = [
    Case("tensor_dtype_0", FC, UNSUPPORTED, "dtype 0 is unknown", "dtype 0 is unknown",
         _set("TENS", 1, dtype=0)),
    Case("tensor_dtype_float32", FC, UNSUPPORTED, "dtype 6 is unknown", "dtype 6 is unknown",
         _set("TENS", 1, dtype=6)),
    Case("tensor_dtype_int4", FC, UNSUPPORTED, "dtype 8 is unknown", "dtype 8 is unknown",
         _set("TENS", 2, dtype=8)),
    Case("tensor_kind_state", FC, UNSUPPORTED, "kind 4 is unknown", "kind 4 is unknown",
         _set("TENS", 0, kind=4)),
    Case("tensor_kind_5", FC, UNSUPPORTED, "kind 5 is unknown", "kind 5 is unknown",
         _set("TENS", 0, kind=5)),
    Case("tensor_rank_7", FC, INVALID, "7 axes, the limit is 6", "rank 7", _set("TENS", 1, rank=7)),
    Case("tensor_size_0", FC, INVALID, "has a size below 1", "dimension 1 is 0",
         _set("TENS", 1, d1=0)),
    Case("tensor_size_negative", FC, INVALID, "has a size below 1", "dimension 0 is -1",
         _set("TENS", 1, d0=-1)),
    Case("tensor_size_unused", FC, INVALID, "beyond its 2 axes are not 1", "dimension 2 is 4",
         _set("TENS", 1, d2=4)),
    Case("tensor_2_gib", FC, INVALID, "2147483648 bytes, the limit", "2^31 bytes or more",
         _set("TENS", 1, d0=1 << 16, d1=1 << 15)),
    Case("tensor_size_overflows", FC, INVALID, "bytes, the limit", "2^31 bytes or more",
         _set("TENS", 1, rank=6, d0=1 << 30, d1=1 << 30, d2=1 << 30, d3=1 << 30, d4=256, d5=256)),
    Case("tensor_flags", FC, INVALID, "flags are not 0", "flags are not 0",
         _set("TENS", 1, flags=1)),
    Case("tensor_scale_negative", FC, INVALID, "scale -0.5 is negative", SCALE,
         _set("TENS", 1, scale=-0.5)),
    Case("tensor_scale_infinite", FC, INVALID, "scale inf is", SCALE, _set("TENS", 1, scale=INF)),
    Case("tensor_scale_nan", FC, INVALID, "scale nan is", SCALE, _set("TENS", 1, scale=NAN)),
    Case("storage_not_itself", FC, INVALID, "names tensor 0 as its storage", "storage 0",
         _set("TENS", 1, storage=0)),
    Case("const_misaligned", MOVES, INVALID, "is not aligned to 4 bytes", "is not aligned",
         _set("TENS", 7, offset=2)),
    Case("const_behind_data", FC, INVALID, "its data ends behind", "ends behind section DATA",
         _set("TENS", 2, offset=BEHIND)),
    Case("const_offset_overflows", FC, INVALID, "its data ends behind", "ends behind section DATA",
         _set("TENS", 2, offset=2**64 - 8)),
    Case("const_lifetime", FC, INVALID, "is constant and lives", "a constant with a lifetime",
         _set("TENS", 2, last_step=1)),
    Case("arena_misaligned", FC, INVALID, "offset 8 is not a multiple", "arena offset 8 is not",
         _set("TENS", 1, offset=8)),
    Case("arena_exceeded", FC, INVALID, "ends behind the arena", "ends behind the arena",
         _set("TENS", 1, offset=32)),
    Case("arena_offset_overflows", FC, INVALID, "ends behind the arena", "ends behind the arena",
         _set("TENS", 1, offset=2**64 - 16)),
    Case("tensor_order", CONV, INVALID, "the one before it later", "not in order of first use",
         lambda e: (e.set("TENS", 1, first_step=2), e.set("TENS", 2, first_step=1))),
    Case("view_storage_missing", CONV, INVALID, "its storage is tensor 7 of 7",
         "a view of tensor 7",
         _set("TENS", 6, storage=7)),
    Case("view_of_view", CONV, INVALID, "a view itself", "a view of tensor 6",
         _set("TENS", 6, storage=6)),
    Case("view_of_rank_7", CONV, INVALID, "tensor 5: it has 7 axes", "tensor 5: rank 7",
         lambda e: (e.set("TENS", 4, kind=3, storage=5), e.set("TENS", 5, rank=7))),
    Case("view_of_size_0", CONV, INVALID, "tensor 5: shape (3, 0)", "tensor 5: dimension 1 is 0",
         lambda e: (e.set("TENS", 4, kind=3, storage=5), e.set("TENS", 5, d1=0))),
    Case("view_size", CONV, INVALID, "of another dtype or size", "another dtype or size",
         _set("TENS", 6, d1=31)),
    Case("view_dtype", CONV, INVALID, "of another dtype or size", "another dtype or size",
         _set("TENS", 6, dtype=2)),
    Case("view_offset", CONV, INVALID, PLACE, "does not repeat", _set("TENS", 6, offset=0)),
    Case("view_time", CONV, INVALID, PLACE, "does not repeat", _set("TENS", 6, last_step=4)),
]  # fmt: skip
