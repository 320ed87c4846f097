# SPDX-License-Identifier: Apache-2.0
"""The file's layout against the C headers, and what is written against what is read."""

from __future__ import annotations

import hashlib
import re
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from eqm_evaluate import golden_case
from eqm_programs import PROGRAMS, Builder
from hypothesis import given
from programs import ROOT
from random_programs import programs
from zoo import zoo_folder

from edgeq.errors import UnsupportedError
from edgeq.format import spec
from edgeq.format.golden import SEEDS, golden_digest, golden_inputs
from edgeq.format.image import Image
from edgeq.format.memory_map import memory_map
from edgeq.format.plan import plan
from edgeq.format.program import Op, Port, Program, Value
from edgeq.format.reader import read_program
from edgeq.format.writer import CONV_OPS, write_program

SOURCES = ROOT / "src_c"

# ---- spec.py against format.h and ops.def

# C struct -> (mirror, its fields in the mirror's order); reserved fields are padding there.
RECORDS = {
    "eq_file_header": (
        spec.HEADER,
        "magic major minor section_count file_size arena_size header_crc",
    ),
    "eq_file_section": (spec.SECTION, "type flags offset size crc layout"),
    "eq_file_tensor": (
        spec.TENSOR,
        "dtype kind rank flags storage dims first_step last_step offset scale zero_point",
    ),
    "eq_file_op": (
        spec.OP,
        "opcode flags input_count output_count args params params_size name",
    ),
    "eq_file_io": (spec.IO, "name tensor dtype scale zero_point labels"),
    "eq_file_entry": (spec.ENTRY, "name first_op op_count io input_count output_count"),
    "eq_file_meta": (spec.META, "key value"),
    "eq_file_golden": (spec.GOLDEN, "seed entry reserved sha256"),
    "eq_file_picture": (spec.PICTURE, "input fit order layout pad crop table"),
}
# Opcode -> C struct of its params.
PARAMS = {
    **dict.fromkeys(CONV_OPS, "conv"),
    **dict.fromkeys(("MAX_POOL_2D", "AVERAGE_POOL_2D"), "pool"),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX"), "reduce"),
    "CONCATENATION": "concat",
    "RESIZE_BILINEAR": "resize",
    "RESIZE_BILINEAR_U8": "resize_u8",
    "ARG_MAX": "argmax",
    "REDUCE_INTEGER": "reduce_integer",
    "BATCH_MATMUL": "matmul",
    "L2_NORMALIZATION": "l2",
}


def mirror_fields(codes: list[tuple[str, str]]) -> list[tuple[str, int, int]]:
    """(name, offset, size) of each field."""
    fields, at = [], 0
    for name, code in codes:
        size = struct.calcsize("<" + code)
        if name:
            fields.append((name, at, size))
        at += size
    return fields


def record_codes(layout: struct.Struct, names: str) -> list[tuple[str, str]]:
    left = iter(names.split())
    codes = re.findall(r"\d*[a-zA-Z]", layout.format)
    singles = [c for code in codes for c in (_split(code))]
    return [("" if c.endswith("x") else next(left), c) for c in singles]


def _split(code: str) -> list[str]:
    """Repeated codes are fields of their own, but for strings, padding and arrays."""
    kind = code[-1]
    if code[:-1] and kind not in "sx" and code not in ("6i", "2I"):
        return [kind] * int(code[:-1])
    return [code]


def expected_layout() -> dict[str, int]:
    """What the C program has to print."""
    values = {
        "EQ_FILE_MAJOR": spec.VERSION[0],
        "EQ_FILE_MINOR": spec.VERSION[1],
        "EQ_SECTION_ALIGN": spec.SECTION_ALIGN,
        "EQ_DATA_ALIGN": spec.DATA_ALIGN,
        "EQ_ARENA_ALIGN": spec.ARENA_ALIGN,
        "EQ_NONE": spec.NONE,
        "EQ_MAX_RANK": spec.MAX_RANK,
        "EQ_MAX_TENSORS": spec.MAX_TENSORS,
        "EQ_MAX_OPS": spec.MAX_OPS,
        "EQ_MAX_DIM": spec.MAX_TENSOR_BYTES,
        "EQ_SECTION_REQUIRED": spec.SECTION_REQUIRED,
    }
    values.update({f"EQ_DT_{name.upper()}": code for name, code in spec.DTYPES.items()})
    values.update({f"EQ_KIND_{name.upper()}": code for name, code in spec.KINDS.items()})
    structs = {c: (s.size, record_codes(s, names)) for c, (s, names) in RECORDS.items()}
    for opcode, layout in spec.OPS.items():
        values[f"EQ_OPCODE_{opcode}"] = layout.opcode
        codes = [(name, "I" if code[0] == "R" else code) for name, code in layout.fields]
        size = sum(struct.calcsize("<" + code) for _, code in codes)
        values[f"EQ_PARAMS_{opcode}"] = size
        if codes:
            structs[f"eq_{PARAMS.get(opcode, opcode.lower())}_params"] = (size, codes)
    for c, (size, codes) in structs.items():
        values[f"sizeof({c})"] = size
        for name, offset, width in mirror_fields(codes):
            values[f"offsetof({c}, {name})"] = offset
            values[f"sizeof((({c} *)0)->{name})"] = width
    return values


def c_layout(folder: Path, names: list[str]) -> dict[str, int]:
    """Compiles a program that prints the value of each expression."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("there is no C compiler")
    lines = [f'    printf("%llu\\n", (unsigned long long)({name}));' for name in names]
    source = f"""
#include <stddef.h>
#include <stdio.h>
#include "core/format.h"
#define EQ_OP(code, name, def, size) EQ_OPCODE_##name = code, EQ_PARAMS_##name = size,
enum {{
#include "ops/ops.def"
}};
int main(void)
{{
{chr(10).join(lines)}
    return 0;
}}
"""
    (folder / "layout.c").write_text(source)
    program = folder / "layout"
    includes = [f"-I{SOURCES}", f"-I{SOURCES / 'include'}"]
    subprocess.run(
        [compiler, "-std=c11", *includes, "layout.c", "-o", program], cwd=folder, check=True
    )
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    return dict(zip(names, map(int, printed.split())))


def test_layout_is_that_of_the_headers(tmp_path: Path) -> None:
    expected = expected_layout()
    assert c_layout(tmp_path, list(expected)) == expected


def test_no_field_is_left_out() -> None:
    """Every member of every struct of format.h has its place in the mirror, reserved ones aside."""
    header = re.sub(r"/\*.*?\*/", "", (SOURCES / "core/format.h").read_text(), flags=re.S)
    found = {
        name: re.findall(r"[\w]+(?=\s*(?:\[[^;]*?\])?[,;])", body)
        for body, name in re.findall(r"typedef struct \w+ \{(.*?)\} (\w+);", header, flags=re.S)
    }
    mirrored = {name: names.split() for name, (_, names) in RECORDS.items()}
    for opcode, layout in spec.OPS.items():
        if layout.fields:
            struct_name = f"eq_{PARAMS.get(opcode, opcode.lower())}_params"
            mirrored[struct_name] = [name for name, _ in layout.fields]
    del found["eq_resize_tap"]  # the rows of a table, (n, 3) in the mirror
    assert set(found) == set(mirrored)
    for name, members in found.items():
        visible = [m for m in members if m != "reserved"]
        assert visible == [m for m in mirrored[name] if m != "reserved"], name


def test_opcodes_and_sections() -> None:
    """The same operators in ops.def, the same sections in format.h; nothing more there."""
    listed = re.findall(r"^EQ_OP\((\d+), (\w+),", (SOURCES / "ops/ops.def").read_text(), flags=re.M)
    assert [(name, int(code)) for code, name in listed] == [
        (name, layout.opcode) for name, layout in spec.OPS.items()
    ]
    header = (SOURCES / "core/format.h").read_text()
    fourcc = re.findall(r"EQ_SEC_\w+ = EQ_FOURCC\('(.)', '(.)', '(.)', '(.)'\)", header)
    assert ["".join(letters) for letters in fourcc] == list(spec.SECTIONS)
    magic = re.search(r'#define EQ_FILE_MAGIC "\\x89" "EQM\\r\\n\\x1a\\n"', header)
    assert magic is not None
    assert spec.MAGIC == b"\x89EQM\r\n\x1a\n"


def test_ops_that_work_in_place() -> None:
    sources = "".join(path.read_text() for path in sorted((SOURCES / "ops").glob("*.c")))
    found = dict(re.findall(r"^const eq_op_def eq_op_(\w+) = (.*?);", sources, flags=re.M | re.S))
    assert {name: ".inplace = true" in body for name, body in found.items()} == {
        name.lower(): layout.inplace for name, layout in spec.OPS.items()
    }


# ---- writing and reading


def check_image(program: Program, image: Image, digests: list[tuple[int, bytes]]) -> None:
    """The file says what the program said."""
    made = plan(program)
    assert image.header.arena_size == image.plan.arena_size == made.arena_size
    assert image.metadata == program.metadata
    assert [(g.seed, g.sha256) for g in image.golden] == digests
    tensors = image.tensors
    for op, read in zip(program.ops, image.ops):
        assert (read.opcode, read.name) == (op.opcode, op.name)
        arguments = zip([*op.inputs, op.output], [*read.inputs, read.output])
        for value, index in arguments:
            check_tensor(value, image, index)
        assert set(read.params) == set(op.params) - {"reserved"}
        for name, param in read.params.items():
            assert np.array_equal(param, op.params[name]), name
    assert len(image.ops) == len(program.ops)
    for ports, written in ((image.inputs, program.inputs), (image.outputs, program.outputs)):
        assert len(ports) == len(written)
        for port, p in zip(ports, written):
            assert (port.name, port.dtype, port.labels) == (p.name, p.dtype, p.labels)
            assert (port.scale, port.zero_point) == (np.float32(p.scale), p.zero_point)
            check_tensor(p.value, image, port.tensor)
    assert len(image.pictures) == len(program.pictures)
    for mine, written in zip(image.pictures, program.pictures):
        assert program.inputs[mine.input] is written.port
        assert (mine.fit, mine.order, mine.crop) == (written.fit, written.order, written.crop)
        assert (mine.channels_first, mine.pad) == (written.channels_first, written.pad)
        assert mine.table.dtype == written.table.dtype
        assert np.array_equal(mine.table, written.table)
    owners = [t for t in tensors if t.in_arena]
    assert [(t.offset, t.nbytes, t.first_step, t.last_step) for t in owners] == [
        (p.offset, p.size, p.first_step, p.last_step) for p in made.places.values()
    ]


def check_tensor(value: Value, image: Image, index: int) -> None:
    t = image.tensors[index]
    assert (t.dtype, t.shape, t.zero_point) == (value.dtype, value.shape, value.zero_point)
    assert (t.kind == "view") == (value.view_of is not None)
    assert image.tensors[t.storage].kind != "view"
    if value.data is not None and value.view_of is None:
        assert t.data is not None
        assert np.array_equal(t.data, value.data)


@given(programs())
def test_random_programs(program: Program) -> None:
    """What is read is what was written; the library opens it and computes what numpy computes."""
    digests = [golden_case(program, seed) for seed in SEEDS[:2]]
    data = write_program(program, digests)
    assert data == write_program(program, digests, plan(program))
    check_image(program, read_program(data), digests)
    edgeq = pytest.importorskip("edgeq", reason="the C library is not built")
    assert edgeq.load(data).verify() == len(digests)


@pytest.mark.parametrize("name", PROGRAMS)
def test_hand_made_programs(name: str) -> None:
    program = PROGRAMS[name]()
    check_image(program, read_program(write_program(program)), [])


def test_golden_files_are_those_of_the_script() -> None:
    """tests/golden/make.py gives the same bytes as ever; if a change is meant, run it."""
    make = pytest.importorskip("golden.make")
    folder = Path(make.__file__).parent
    made = make.files()
    kept = [*folder.glob("*.eqm"), *folder.glob("bad/*")]
    assert {path.relative_to(folder).as_posix() for path in kept} == set(made)
    different = [name for name, data in made.items() if (folder / name).read_bytes() != data]
    assert different == []


def lut_chain(count: int, names: list[str] | None = None) -> Program:
    b = Builder()
    x = b.input("x", (4,))
    for i in range(count):
        x = b.op("LUT", [x], (4,), table=np.arange(-128, 128).astype(np.int8))
        b.ops[-1].name = names[i] if names else ""
    b.output("y", x)
    return b.program()


def test_equal_arrays_and_params_are_stored_once() -> None:
    image = read_program(write_program(lut_chain(20)))
    sizes = {s.type: s.size for s in image.sections}
    assert (sizes["DATA"], sizes["PARM"]) == (256, 4)


def test_weights_are_aligned_and_gaps_are_filled() -> None:
    """36 bytes of weights, 28 of int32 arrays in the gap, 96 of weights, 5 of exponents."""
    image = read_program(write_program(PROGRAMS["conv_add_view"]()))
    weights = [t for t in image.tensors if t.kind == "const"]
    assert [t.offset % spec.DATA_ALIGN for t in weights] == [0, 0]
    data = next(s for s in image.sections if s.type == "DATA")
    assert data.size == 64 + 96 + 5


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("short", "short"),
        ("a/b;a/c", "a/b"),
        ("MobilenetV2/expanded_conv_16/depthwise/Relu6", "expanded_conv_16/depthwise/Relu6"),
        ("x" * 40, "x" * 32),
        ("é" * 20, "é" * 16),
        ("a" + "é" * 20, "a" + "é" * 15),
        ("nul\0inside", "nulinside"),
    ],
)
def test_names_are_cut(name: str, kept: str) -> None:
    (op,) = read_program(write_program(lut_chain(1, [name]))).ops
    assert op.name == kept


def test_limits() -> None:
    """All that is too large is told at once."""
    deep = Value("deep", "int8", (1,) * 7)
    wide = Value("wide", "int8", (1 << 16, 1 << 15))
    ops = [
        Op("COPY", "a", [deep], Value("b", "int8", (1,) * 7)),
        Op("COPY", "c", [wide], Value("d", "int8", (1,))),
    ]
    ports = [Port("deep", deep, "int8"), Port("wide", wide, "int8")]
    program = Program(ops, ports, [Port("d", ops[1].output, "int8")] * 300)
    with pytest.raises(UnsupportedError) as error:
        write_program(program)
    text = str(error.value)
    assert "302 inputs and outputs, the limit is 256" in text
    assert "'deep' has 7 axes, the limit is 6" in text
    assert "'wide' has 2147483648 bytes, the limit is 2147483647" in text


def test_contradictions_are_bugs() -> None:
    x = Value("x", "int8", (4,))
    ports = [Port("x", x, "int8")]
    with pytest.raises(AssertionError, match="it needs a COPY"):
        write_program(Program([], ports, ports))
    early = Op("COPY", "c", [Value("never", "int8", (4,))], Value("y", "int8", (4,)))
    with pytest.raises(AssertionError, match="not yet written"):
        write_program(Program([early], ports, [Port("y", early.output, "int8")]))


@pytest.mark.parametrize("name", ["mlperf-tiny/vww_96_int8", "portrait-seg/prisma_quant"])
def test_size_of_the_file(name: str) -> None:
    """At most 1.03 x the constants + 16 KiB, for networks of up to 160 operators."""
    path = zoo_folder() / "models" / f"{name}.tflite"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    from edgeq.importers.tflite import import_tflite
    from edgeq.passes import run_passes
    from edgeq.quantize.lower import lower

    program = lower(run_passes(import_tflite(path.read_bytes(), str(path))))
    data = write_program(program, [(seed, bytes(32)) for seed in SEEDS])
    read_program(data)
    arrays = [v.owner.data for op in program.ops for v in op.inputs if v.owner.data is not None]
    arrays += [p for op in program.ops for p in op.params.values() if isinstance(p, np.ndarray)]
    constants = sum(a.nbytes for a in {id(a): a for a in arrays}.values())
    assert len(data) <= 1.03 * constants + 16 * 1024


def test_a_file_has_the_lowest_version() -> None:
    for name, build in PROGRAMS.items():
        version = read_program(write_program(build())).header.version
        assert version == ((1, 1) if build().pictures else (1, 0)), name


# ---- golden cases


def splitmix(seed: int, blocks: int) -> bytes:
    """docs/FORMAT.md, word by word."""
    mask, state, out = 2**64 - 1, seed, b""
    for _ in range(blocks):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        z ^= z >> 31
        out += z.to_bytes(8, "little")
    return out


@pytest.mark.parametrize("seed", [0, 1, 3, 2**64 - 1])
def test_golden_inputs(seed: int) -> None:
    """Each input begins with a block of its own; bools keep bit 0."""
    kinds = [("int8", (3, 7)), ("int32", (2,)), ("bool", (5,)), ("int64", (1, 1))]
    arrays = golden_inputs(seed, kinds)
    stream = splitmix(seed, 3 + 1 + 1 + 1)
    assert [(str(a.dtype), a.shape) for a in arrays] == kinds
    assert arrays[0].tobytes() == stream[:21]
    assert arrays[1].tobytes() == stream[24:32]
    assert arrays[2].tobytes() == bytes(b & 1 for b in stream[32:37])
    assert arrays[3].tobytes() == stream[40:48]


def test_golden_inputs_are_pinned() -> None:
    (array,) = golden_inputs(1, [("uint8", (8,))])
    assert array.tobytes().hex() == splitmix(1, 1).hex() == "c15c0289ec2d0a91"


def test_golden_digest() -> None:
    arrays = [np.arange(3, dtype=np.int8), np.array([1, -2], np.int32)]
    together = arrays[0].tobytes() + arrays[1].astype("<i4").tobytes()
    assert golden_digest(arrays) == hashlib.sha256(together).digest()


# ---- the memory map


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("count", [1, 5, 60, 160])
def test_memory_map(count: int, width: int) -> None:
    image = read_program(write_program(lut_chain(count)))
    lines = memory_map(image, width).splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= 64 + 3
    assert lines[-1].startswith("arena 16 bytes, all of it in use at step 0")
    assert "[in###" in lines[1]


def test_memory_map_shows_what_is_alive() -> None:
    image = read_program(write_program(PROGRAMS["conv_add_view"]()))
    drawn = [line[30:68] for line in memory_map(image, 80).splitlines()]
    assert [sum(c in "#%-" for c in line) > 8 for line in drawn[1:5]] == [True] * 4
    assert "%" in memory_map(image, 80).splitlines()[3]
