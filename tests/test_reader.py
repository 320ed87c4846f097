# SPDX-License-Identifier: Apache-2.0
"""The reader on damaged files: FormatError or an image, never anything else."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cases import Rng
from eqm_editor import Editor, Part

from edgeq.errors import EdgeqError, FormatError
from edgeq.format.reader import read_program
from edgeq.format.spec import SECTION_REQUIRED

FOLDER = Path(__file__).parent / "golden"
FILES = ("fully_connected", "conv_add_view", "concat_slice", "resize", "picture")
COUNT = 2000

# What only the reader is strict about; the C library stays safe without.
STRICTER = (
    "its string begins in the middle of another",
    "its string is not UTF-8",
    "is there already",
    "have more arguments than section 'ARGS'",
)


def golden(name: str) -> bytes:
    return (FOLDER / f"{name}.eqm").read_bytes()


def refused(data: bytes) -> str:
    """The reader's reason, "" if it takes the file."""
    try:
        read_program(data)
    except FormatError as error:
        return str(error)
    return ""


def cut(data: bytes, rng: Rng) -> bytes:
    return data[: rng.integers(len(data))]


def flip_bits(data: bytes, rng: Rng) -> bytes:
    changed = bytearray(data)
    for at in rng.integers(len(data), size=rng.integers(1, 4)):
        changed[at] ^= 1 << rng.integers(8)
    return bytes(changed)


def overwrite(data: bytes, rng: Rng) -> bytes:
    """Random bytes over a random stretch, or nothing but random bytes."""
    if rng.integers(4) == 0:
        return rng.bytes(rng.integers(len(data)))
    start = int(rng.integers(len(data)))
    changed = rng.bytes(rng.integers(1, 65))
    return (data[:start] + changed + data[start + len(changed) :])[: len(data)]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [cut, flip_bits, overwrite])
def test_damaged_files(damage: Callable[[bytes, Rng], bytes], name: str, rng: Rng) -> None:
    """Checksums cover all but the padding, which has to be 0: every change is found."""
    data = golden(name)
    for _ in range(COUNT):
        changed = damage(data, rng)
        assert (changed == data) or refused(changed)


def forge(editor: Editor, rng: Rng) -> None:
    """Changes numbers in random sections to such as stand in files, or nearly, or not at all."""
    known = np.frombuffer(
        b"".join(bytes(p.content[: len(p.content) // 4 * 4]) for p in editor.parts), "<u4"
    )
    for _ in range(rng.integers(1, 4)):
        part = editor.parts[rng.integers(len(editor.parts))]
        if len(part.content) == 0:
            continue
        width = int(rng.choice([1, 2, 4, 8]))
        at = int(rng.integers(len(part.content))) // width * width
        odd = int(rng.choice([0, 1, 2, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**63]))
        value = (odd, int(rng.choice(known)) + int(rng.integers(-1, 2)), int(rng.integers(2**32)))
        chosen = value[rng.integers(3)] % (1 << 8 * width)
        part.content[at : at + width] = chosen.to_bytes(width, "little")[: len(part.content) - at]
    if rng.integers(8) == 0:
        part = editor.parts[rng.integers(len(editor.parts))]
        del part.content[rng.integers(len(part.content) + 1) :]


@pytest.mark.parametrize("name", FILES)
def test_forged_files(name: str, rng: Rng) -> None:
    """With right checksums. What the C library takes, the reader takes, but for what it says."""
    core = pytest.importorskip("edgeq.runtime.model", reason="the C library is not built")
    data = golden(name)
    taken = 0
    for _ in range(COUNT):
        editor = Editor(data)
        forge(editor, rng)
        changed = editor.build()
        reason = refused(changed)
        try:
            core.Model(changed)
        except EdgeqError:
            continue
        taken += 1
        assert not reason or any(text in reason for text in STRICTER), reason
    assert taken > 0


def test_newer_minor_version() -> None:
    """It opens, with sections that are unknown and not required, and reserved fields in use."""
    editor = Editor(golden("fully_connected"))
    editor.header["minor"] = 9
    editor.reserved = bytes(range(28))
    editor.parts.insert(3, Part(b"NEWS", 0, 5, bytearray(b"anything"), {}))
    image = read_program(editor.build())
    assert image.header.version == (1, 9)
    assert [s.type for s in image.sections][3] == "NEWS"
    core = pytest.importorskip("edgeq.runtime.model", reason="the C library is not built")
    core.Model(editor.build())


def test_unknown_section_with_a_wrong_checksum() -> None:
    editor = Editor(golden("fully_connected"))
    editor.parts.append(Part(b"NEWS", 0, 0, bytearray(b"anything"), {"crc": 1}))
    assert refused(editor.build()) == "section 'NEWS': the checksum does not match"
    editor.parts[-1] = Part(b"NEWS", SECTION_REQUIRED, 0, bytearray(b"anything"), {})
    assert "it is required, and unknown" in refused(editor.build())


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_can_be_read(kind: type) -> None:
    assert read_program(kind(golden("resize"))).header.version == (1, 0)


def test_arrays_are_views_of_the_file() -> None:
    image = read_program(golden("fully_connected"))
    bias = image.ops[0].params["bias"]
    assert not bias.flags.owndata
    assert not bias.flags.writeable


def test_long_strings_and_lists_are_read_once() -> None:
    """Ops that all name one long string, or whose arguments overlap, cost no more than one does."""
    editor = Editor(golden("concat_slice"))
    long = len(editor.part("STRS").content)
    editor.part("STRS").content.extend(b"x" * (1 << 20) + b"\0")
    ops = editor.part("OPS ").content
    ops.extend(ops[24:48] * 2000)
    for i in range(len(ops) // 24):
        editor.set("OPS ", i, name=long)
    start = time.perf_counter()
    assert "more arguments than section 'ARGS'" in refused(editor.build())
    assert time.perf_counter() - start < 2
