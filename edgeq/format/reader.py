# SPDX-License-Identifier: Apache-2.0
"""Reads an .eqm file without the C library: for tests, and for `edgeq inspect`.

It checks all that docs/FORMAT.md says of the file's structure, and how layers with weights
requantize; it leaves to the C library what else operators want of their shapes and numbers. The
work is bounded by the size of the file.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from ..errors import FormatError
from . import spec
from .image import Entry, Golden, Header, Image, Op, Picture, Port, Section, Tensor
from .lifetimes import check_lifetimes, check_overlap
from .program import Array

_RECORDS = {
    "TENS": (spec.TENSOR, spec.MAX_TENSORS),
    "OPS ": (spec.OP, spec.MAX_OPS),
    "ARGS": (struct.Struct("<I"), 1 << 20),
    "IO  ": (spec.IO, 256),
    "ENTR": (spec.ENTRY, 1),
    "META": (spec.META, 4096),
    "GOLD": (spec.GOLDEN, 4096),
    "PICT": (spec.PICTURE, 256),
}
_BYTES = {"PARM": 1 << 26, "STRS": 1 << 26, "DATA": spec.NONE}
_OPTIONAL = ("META", "GOLD", "PICT")
_MAX_SECTIONS = 64

_DTYPES = {code: name for name, code in spec.DTYPES.items()}
_KINDS = {code: name for name, code in spec.KINDS.items()}
_FITS = {code: name for name, code in spec.FITS.items()}
_ORDERS = {code: name for name, code in spec.ORDERS.items()}
_OPCODES = {layout.opcode: name for name, layout in spec.OPS.items()}
# How many inputs an op has where it is not one; CONCATENATION takes any number.
_INPUTS = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"), 2),
    **dict.fromkeys(("ADD", "MUL", "MAXIMUM", "MINIMUM", "PRELU"), 2),
    **dict.fromkeys(("INTEGER", "DIV", "GATHER", "GATHER_ND", "SCATTER_ND", "BATCH_MATMUL"), 2),
    **dict.fromkeys(("SELECT", "UPDATE_SLICE"), 3),
}


def read_program(data: bytes) -> Image:
    """The whole file, decoded; arrays are views of `data`.

    Raises FormatError with one sentence on the first thing that is wrong, and no other exception.
    """
    view = memoryview(data).cast("B")
    header = _read_header(view)
    sections = _read_table(view, header)
    return _Reader(view, header, sections).image()


def _fail(text: str) -> NoReturn:
    raise FormatError(text)


# ---- header and section table


def _read_header(data: memoryview) -> Header:
    if len(data) < spec.HEADER.size:
        _fail(f"the file has {len(data)} bytes, a header alone has {spec.HEADER.size}")
    magic, major, minor, count, file_size, arena_size, crc = spec.HEADER.unpack_from(data)
    if magic != spec.MAGIC:
        _fail("this is no .eqm file: it does not begin with the signature")
    if major != spec.VERSION[0]:
        _fail(f"the file has format {major}.{minor}, this edgeq reads {spec.VERSION[0]}.x")
    if file_size != len(data):
        _fail(f"the file is cut or extended: {len(data)} bytes, the header says {file_size}")
    if count > _MAX_SECTIONS:
        _fail(f"the file has {count} sections, the limit is {_MAX_SECTIONS}")
    table_end = spec.HEADER.size + count * spec.SECTION.size
    if table_end > len(data):
        _fail("the section table ends behind the end of the file")
    fields, rest = bytes(data[:32]), bytes(data[36:table_end])  # around the checksum
    reserved = rest[: spec.HEADER.size - 36]
    if zlib.crc32(fields + bytes(4) + rest) != crc:
        _fail("the header's checksum does not match")
    if minor <= spec.VERSION[1] and any(reserved):
        _fail("the header's reserved bytes are not 0")
    if arena_size > spec.MAX_TENSOR_BYTES:
        _fail(f"the arena has {arena_size} bytes, the limit is {spec.MAX_TENSOR_BYTES}")
    return Header((major, minor), count, file_size, arena_size)


def _read_table(data: memoryview, header: Header) -> dict[str, Section]:
    sections: dict[str, Section] = {}
    end = spec.HEADER.size + header.section_count * spec.SECTION.size
    for i in range(header.section_count):
        kind, *rest = spec.SECTION.unpack_from(data, spec.HEADER.size + i * spec.SECTION.size)
        s = Section(kind.decode("latin-1"), *rest)
        what = f"section {s.type!r}"
        alignment = spec.section_align(s.type)
        if s.offset % alignment:
            _fail(f"{what}: offset {s.offset} is not a multiple of {alignment}")
        if s.offset < end:
            _fail(f"{what}: it begins at {s.offset}, before the end of what lies ahead of it")
        if s.offset + s.size > len(data):
            _fail(f"{what}: it ends behind the end of the file")
        if any(data[end : s.offset]):
            _fail(f"{what}: the padding ahead of it is not 0")
        end = s.offset + s.size
        if zlib.crc32(data[s.offset : end]) != s.crc:
            _fail(f"{what}: the checksum does not match")
        if s.type in sections:
            _fail(f"{what}: there are two of them")
        _check_section(s, what)
        sections[s.type] = s
    if end != len(data):
        _fail(f"{len(data) - end} bytes follow the last section")
    for name in spec.SECTIONS:
        if name not in sections and name not in _OPTIONAL:
            _fail(f"section {name!r} is missing")
    if sections["ENTR"].size != spec.ENTRY.size:
        _fail("the file has no entry point")
    return sections


def _check_section(s: Section, what: str) -> None:
    if s.type not in spec.SECTIONS:
        if s.flags & spec.SECTION_REQUIRED:
            _fail(f"{what}: it is required, and unknown to this edgeq")
        return
    if s.flags & ~spec.SECTION_REQUIRED:
        _fail(f"{what}: unknown flags {s.flags:#x}")
    if s.layout:
        _fail(f"{what}: it is packed in layout {s.layout}, unknown to this edgeq")
    if s.type in _RECORDS:
        record, limit = _RECORDS[s.type]
        if s.size % record.size:
            _fail(f"{what}: {s.size} bytes are not a multiple of {record.size}")
        if s.size // record.size > limit:
            _fail(f"{what}: {s.size // record.size} records, the limit is {limit}")
    elif s.size > _BYTES[s.type]:
        _fail(f"{what}: {s.size} bytes, the limit is {_BYTES[s.type]}")


# ---- contents


class _Reader:
    """Decodes one section after another; a method relies on those that image() ran before it."""

    def __init__(self, data: memoryview, header: Header, sections: dict[str, Section]) -> None:
        self.header = header
        self.sections = sections
        self.content = dict.fromkeys(spec.SECTIONS, data[:0])
        self.content.update({n: data[s.offset : s.offset + s.size] for n, s in sections.items()})
        self.strings = bytes(self.content["STRS"])
        self.known_strings: dict[int, str] = {}
        self.tensors: tuple[Tensor, ...] = ()
        self.ops: tuple[Op, ...] = ()

    def image(self) -> Image:
        if not self.strings or self.strings[0] or self.strings[-1]:
            _fail("section 'STRS': it does not begin and end with NUL")
        self.tensors = tuple(self._tensor(i, r) for i, r in enumerate(self._records("TENS")))
        self._check_storage()
        self.ops = tuple(self._all_ops())
        entry = self._entry(next(self._records("ENTR")))
        outputs = [port.tensor for port in entry.outputs]
        check_lifetimes(self.tensors, self.ops, outputs)
        return Image(
            header=self.header,
            sections=tuple(self.sections.values()),
            tensors=self.tensors,
            ops=self.ops,
            entries=(entry,),
            metadata=self._metadata(),
            golden=tuple(self._golden(i, r) for i, r in enumerate(self._records("GOLD"))),
            plan=check_overlap(self.tensors, self.ops, self.header.arena_size),
            pictures=self._pictures(entry),
        )

    def _records(self, name: str) -> Iterator[tuple[Any, ...]]:
        return _RECORDS[name][0].iter_unpack(self.content[name])

    def _string(self, offset: int, what: str) -> str:
        """Strings begin where another ends, so that all of them together are no more than STRS."""
        if offset not in self.known_strings:
            if offset >= len(self.strings):
                _fail(f"{what}: its string lies at {offset} of {len(self.strings)} bytes")
            if offset and self.strings[offset - 1]:
                _fail(f"{what}: its string begins in the middle of another")
            try:
                end = self.strings.index(b"\0", offset)
                self.known_strings[offset] = self.strings[offset:end].decode("utf-8")
            except UnicodeDecodeError:
                _fail(f"{what}: its string is not UTF-8")
        return self.known_strings[offset]

    # ---- tensors

    def _tensor(self, i: int, record: tuple[Any, ...]) -> Tensor:
        dtype, kind, rank, flags, storage = record[:5]
        dims, times = record[5 : 5 + spec.MAX_RANK], record[5 + spec.MAX_RANK :]
        first, last, offset, scale, zero_point = times
        what = f"tensor {i}"
        if dtype not in _DTYPES or _DTYPES[dtype] == "float32":
            _fail(f"{what}: dtype {dtype} is unknown to this edgeq")
        if kind not in _KINDS or _KINDS[kind] == "state":
            _fail(f"{what}: kind {kind} is unknown to this edgeq")
        if flags:
            _fail(f"{what}: its flags are not 0")
        if rank > spec.MAX_RANK:
            _fail(f"{what}: it has {rank} axes, the limit is {spec.MAX_RANK}")
        if min(dims[:rank], default=1) < 1:
            _fail(f"{what}: shape {dims[:rank]} has a size below 1")
        if any(d != 1 for d in dims[rank:]):
            _fail(f"{what}: sizes beyond its {rank} axes are not 1")
        if not (math.isfinite(scale) and math.copysign(1, scale) > 0):
            _fail(f"{what}: the scale {scale} is negative or not finite")
        shape = dims[:rank]
        place = (storage, first, last, offset, scale, zero_point)
        t = Tensor(i, _DTYPES[dtype], _KINDS[kind], shape, *place)
        if t.nbytes > spec.MAX_TENSOR_BYTES:
            _fail(f"{what}: {t.nbytes} bytes, the limit is {spec.MAX_TENSOR_BYTES}")
        if t.kind != "const":
            return t
        if (first, last) != (0, 0):
            _fail(f"{what}: it is constant and lives from step {first} to {last}")
        data = self._array(what, offset, math.prod(shape), _little(t.dtype)).reshape(shape)
        return Tensor(i, t.dtype, t.kind, shape, *place, data=data)

    def _array(self, what: str, offset: int, count: int, dtype: np.dtype[Any]) -> Array:
        if offset % dtype.itemsize:
            _fail(f"{what}: its data at {offset} is not aligned to {dtype.itemsize} bytes")
        if offset + count * dtype.itemsize > len(self.content["DATA"]):
            _fail(f"{what}: its data ends behind the end of section 'DATA'")
        return np.frombuffer(self.content["DATA"], dtype, count, offset)

    def _check_storage(self) -> None:
        previous = 0
        for t in self.tensors:
            what = f"tensor {t.index}"
            if t.kind == "view":
                self._check_view(t, what)
                continue
            if t.storage != t.index:
                _fail(f"{what}: it is no view and names tensor {t.storage} as its storage")
            if not t.in_arena:
                continue
            if t.offset % spec.ARENA_ALIGN:
                _fail(f"{what}: offset {t.offset} is not a multiple of {spec.ARENA_ALIGN}")
            if t.offset + t.nbytes > self.header.arena_size:
                _fail(f"{what}: it ends behind the arena of {self.header.arena_size} bytes")
            if t.first_step < previous:
                _fail(f"{what}: it is written at step {t.first_step}, the one before it later")
            previous = t.first_step

    def _check_view(self, t: Tensor, what: str) -> None:
        if t.storage >= len(self.tensors):
            _fail(f"{what}: its storage is tensor {t.storage} of {len(self.tensors)}")
        owner = self.tensors[t.storage]
        if owner.kind == "view":
            _fail(f"{what}: it is a view of tensor {t.storage}, a view itself")
        if owner.dtype != t.dtype or owner.nbytes != t.nbytes:
            _fail(f"{what}: it is a view of another dtype or size than tensor {t.storage}")
        place = (t.first_step, t.last_step, t.offset)
        if place != (owner.first_step, owner.last_step, owner.offset):
            _fail(f"{what}: it does not repeat the place and time of tensor {t.storage}")

    # ---- ops

    def _all_ops(self) -> Iterator[Op]:
        args = [r[0] for r in self._records("ARGS")]
        used = 0
        for i, record in enumerate(self._records("OPS ")):
            used += record[2] + record[3]
            if used > len(args):
                _fail(f"op {i}: the ops up to it have more arguments than section 'ARGS'")
            yield self._op(i, record, args)

    def _op(self, i: int, record: tuple[Any, ...], args: list[int]) -> Op:
        code, flags, inputs, outputs, first, params, params_size, name = record
        if code not in _OPCODES:
            _fail(f"op {i}: opcode {code} is unknown to this edgeq")
        opcode = _OPCODES[code]
        text = self._string(name, f"op {i}")
        what = f"op {i} {opcode} {text!r}"
        if flags:
            _fail(f"{what}: its flags are not 0")
        wrong = inputs != _INPUTS.get(opcode, 1)
        if opcode == "CONCATENATION":
            wrong = not 1 <= inputs <= spec.MAX_CONCAT
        if outputs != 1 or wrong:
            _fail(f"{what}: {inputs} inputs and {outputs} outputs")
        end = first + inputs + outputs
        if end > len(args):
            _fail(f"{what}: its arguments end behind the end of section 'ARGS'")
        for k, tensor in enumerate(args[first:end]):
            if tensor >= len(self.tensors):
                _fail(f"{what}: argument {k} is tensor {tensor} of {len(self.tensors)}")
        output = args[end - 1]
        if self.tensors[output].kind != "activation":
            _fail(f"{what}: it writes tensor {output}, which is no activation")
        decoded = self._params(opcode, what, params, params_size, output)
        if "arithmetic" in decoded:
            self._check_wide(what, decoded["arithmetic"], (args[first], output))
        return Op(i, opcode, text, tuple(args[first : end - 1]), output, decoded)

    def _check_wide(self, what: str, arithmetic: int, tensors: tuple[int, int]) -> None:
        """int8 on both sides: R31 or R15; int16 on both: R31 or R22; one of each: R22."""
        x, y = (self.tensors[t].dtype for t in tensors)
        allowed = {spec.ARITH_R22}
        if x == y:
            allowed = {spec.ARITH_R31, spec.ARITH_R22 if x == "int16" else spec.ARITH_R15}
        if arithmetic not in allowed:
            _fail(f"{what}: arithmetic {arithmetic} with an input of {x} and an output of {y}")

    def _params(
        self, opcode: str, what: str, offset: int, size: int, output: int
    ) -> dict[str, Any]:
        fields = spec.OPS[opcode].fields
        layout = struct.Struct("<" + "".join("I" if c[0] == "R" else c for _, c in fields))
        section = self.content["PARM"]
        if size != layout.size:
            _fail(f"{what}: {size} bytes of params, it needs {layout.size}")
        if offset % 4:
            _fail(f"{what}: its params at {offset} are not aligned to 4 bytes")
        if offset + size > len(section):
            _fail(f"{what}: its params end behind the end of section 'PARM'")
        values = iter(layout.unpack_from(section, offset))
        params: dict[str, Any] = {}
        for name, code in fields:
            many = int(code[:-1]) if code[0].isdigit() else 0
            params[name] = tuple(next(values) for _ in range(many)) if many else next(values)
        if params.pop("reserved", 0):
            _fail(f"{what}: its reserved params are not 0")
        for name, code in fields:
            if code[0] == "R":
                dtype = np.dtype(spec.ref_dtype(name, code, params.get("arithmetic", 0)))
                params[name] = self._ref(opcode, what, name, dtype, params, output)
        if "arithmetic" in params:
            _check_requantization(what, params)
        return params

    def _ref(
        self,
        opcode: str,
        what: str,
        name: str,
        dtype: np.dtype[Any],
        params: dict[str, Any],
        output: int,
    ) -> Array | None:
        if params[name] == spec.NONE:
            if name == "bias":
                return None
            _fail(f"{what}: {name} is absent")
        shape = _ref_shape(opcode, name, params, self.tensors[output].shape, what)
        array = self._array(f"{what}: {name}", params[name], math.prod(shape), dtype)
        return array.reshape(shape)

    # ---- ports

    def _entry(self, record: tuple[Any, ...]) -> Entry:
        name, first_op, op_count, io, inputs, outputs = record
        what = "the entry point"
        if (first_op, op_count) != (0, len(self.ops)):
            _fail(f"{what}: it runs {op_count} ops from {first_op} on, there are {len(self.ops)}")
        records = list(self._records("IO  "))
        if outputs == 0 or io + inputs + outputs > len(records):
            _fail(f"{what}: {inputs} inputs and {outputs} outputs at {io} of {len(records)} ports")
        ports = [
            self._port(i, records[i], i < io + inputs) for i in range(io, io + inputs + outputs)
        ]
        given = [p.tensor for p in ports[:inputs]]
        if len(set(given)) != len(given):
            _fail(f"{what}: two inputs are the same tensor")
        for t in self.tensors:
            if t.kind == "input" and t.index not in given:
                _fail(f"tensor {t.index}: it is an input, and no port of the entry point")
        split = (tuple(ports[:inputs]), tuple(ports[inputs:]))
        return Entry(self._string(name, what), first_op, op_count, *split)

    def _port(self, i: int, record: tuple[Any, ...], is_input: bool) -> Port:
        name, tensor, dtype, scale, zero_point, labels = record
        what = f"port {i}"
        reserved = self.content["IO  "][i * spec.IO.size + 9 : i * spec.IO.size + 12]
        if any(reserved):
            _fail(f"{what}: its reserved bytes are not 0")
        if tensor >= len(self.tensors):
            _fail(f"{what}: it is tensor {tensor} of {len(self.tensors)}")
        t = self.tensors[tensor]
        owner = self.tensors[t.storage]
        if is_input and t.kind != "input":
            _fail(f"{what}: tensor {tensor} is no input")
        if not is_input and owner.kind != "activation":
            _fail(f"{what}: tensor {tensor} is not written by an op")
        if not (math.isfinite(scale) and math.copysign(1, scale) > 0):
            _fail(f"{what}: the scale {scale} is negative or not finite")
        seen = _DTYPES.get(dtype, "unknown")
        stand_ins = {"uint8": ("int8",), "float32": ("int8", "int16")}
        if seen != t.dtype and t.dtype not in stand_ins.get(seen, ()):
            _fail(f"{what}: dtype {dtype} cannot stand for {t.dtype}")
        if seen == "float32" and scale == 0:
            _fail(f"{what}: it is float32 and has no scale")
        lowest = 0 if seen == "uint8" else -128
        if t.dtype == "int8" and not lowest <= zero_point < lowest + 256:
            _fail(f"{what}: zero point {zero_point} is out of range")
        if t.dtype == "int16" and zero_point:
            _fail(f"{what}: zero point {zero_point} of int16")
        texts = (self._string(name, what), self._string(labels, what))
        return Port(texts[0], tensor, seen, scale, zero_point, texts[1])

    # ---- pictures

    def _pictures(self, entry: Entry) -> tuple[Picture, ...]:
        pictures: dict[int, Picture] = {}
        for i, record in enumerate(self._records("PICT")):
            given, what = record[0], f"picture {i}"
            if given >= len(entry.inputs):
                _fail(f"{what}: it is for input {given} of {len(entry.inputs)}")
            if given in pictures:
                _fail(f"{what}: there is one for input {given} already")
            at = i * spec.PICTURE.size + 10
            if any(self.content["PICT"][at : at + 2]):
                _fail(f"{what}: its reserved bytes are not 0")
            pictures[given] = self._picture(what, record, self.tensors[entry.inputs[given].tensor])
        return tuple(pictures.values())

    def _picture(self, what: str, record: tuple[Any, ...], t: Tensor) -> Picture:
        given, fit, order, layout, pad, crop, table = record
        for name, value, known in (("fit", fit, _FITS), ("order", order, _ORDERS)):
            if value not in known:
                _fail(f"{what}: {name} {value} is unknown to this edgeq")
        if layout > 1:
            _fail(f"{what}: layout {layout} is unknown to this edgeq")
        if any(pad) and _FITS[fit] != "pad":
            _fail(f"{what}: it has a colour and pads nothing")
        if not 1 <= crop <= spec.CROP_ONE:
            _fail(f"{what}: it keeps {crop} of {spec.CROP_ONE}")
        if len(t.shape) != 4 or t.shape[0] != 1 or t.dtype not in ("int8", "int16"):
            _fail(f"{what}: its input is {t.dtype} {t.shape}")
        channels, *sides = t.shape[1:] if layout else (t.shape[3], *t.shape[1:3])
        if channels != (1 if _ORDERS[order] == "gray" else 3):
            _fail(f"{what}: its input has {channels} channels, its order is {_ORDERS[order]}")
        if max(sides) > spec.MAX_PICTURE:
            _fail(f"{what}: its input has {max(sides)} pixels a side")
        values = self._array(f"{what}: its table", table, channels * 256, _little(t.dtype))
        values = values.reshape(channels, 256)
        return Picture(given, _FITS[fit], _ORDERS[order], bool(layout), crop, tuple(pad), values)

    # ---- the rest

    def _metadata(self) -> dict[str, str]:
        metadata: dict[str, str] = {}
        for i, (key, value) in enumerate(self._records("META")):
            text = self._string(key, f"metadata {i}")
            if text in metadata:
                _fail(f"metadata {i}: {text!r} is there already")
            metadata[text] = self._string(value, f"metadata {i}")
        return metadata

    def _golden(self, i: int, record: tuple[Any, ...]) -> Golden:
        seed, entry, reserved, digest = record
        if entry or reserved:
            _fail(
                f"golden case {i}: entry point {entry} does not exist, or a reserved field is set"
            )
        return Golden(seed, entry, digest)


def _little(dtype: str) -> np.dtype[Any]:
    return np.dtype(dtype).newbyteorder("<")


# Of each arithmetic, least, bits, e_min, e_max: a multiplier is 0 or in [2^least, 2^bits).
_MULTIPLIERS = {
    spec.ARITH_R31: (30, 31, -31, 30),
    spec.ARITH_R15: (14, 15, -31, 0),
    spec.ARITH_R22: (14, 22, spec.E_MIN_R22, -1),
}


def _check_requantization(what: str, params: dict[str, Any]) -> None:
    """Kind, fraction, multipliers and exponents of a layer with weights."""
    arithmetic, fraction = params["arithmetic"], params["fraction"]
    if arithmetic not in (spec.ARITH_R31, spec.ARITH_R15, spec.ARITH_R22):
        _fail(f"{what}: arithmetic {arithmetic} is unknown to this edgeq")
    r15 = arithmetic == spec.ARITH_R15
    if fraction > (spec.FRACTION_MAX if r15 else 0):
        _fail(f"{what}: fraction {fraction}, the limit is {spec.FRACTION_MAX if r15 else 0}")
    m, e = params["multiplier"].astype(np.int64), params["exponent"]
    least, bits, e_min, e_max = _MULTIPLIERS[arithmetic]
    if ((m != 0) & ((m < 1 << least) | (m >= 1 << bits))).any():
        _fail(f"{what}: a multiplier is neither 0 nor in [2^{least}, 2^{bits})")
    if (e < e_min).any() or (e > e_max).any():
        _fail(f"{what}: an exponent is not in [{e_min}, {e_max}]")


def _ref_shape(
    opcode: str, name: str, params: dict[str, Any], output: tuple[int, ...], what: str
) -> tuple[int, ...]:
    """The shape of an array that an op's params refer to."""
    if name == "bias":
        return (output[-1],) if output else (1,)
    if opcode == "SEARCH":
        if not 1 <= params["count"] <= spec.MAX_BOUNDARIES:
            _fail(f"{what}: {params['count']} boundaries")
        return (params["count"] + (name == "values"),)
    if opcode == "DIV":
        return (256,)
    if opcode == "LAYER_NORM":
        if not params["count"]:
            _fail(f"{what}: 0 gammas")
        return (params["count"],)
    if name in ("multiplier", "exponent"):
        count, channels = params["requant_count"], output[-1] if output else 1
        if count not in (1, channels):
            _fail(f"{what}: {count} multipliers for {channels} channels")
        return (count,)
    if name == "reciprocal_table" or opcode in ("INTERPOLATE", "SOFTMAX16"):
        return (513,)
    if name in ("table", "exp_table", "diff_table"):
        return (256,)
    if len(output) != 4:
        _fail(f"{what}: its output has {len(output)} axes, not 4")
    count = output[1] if name == "rows" else output[2]
    return (count, 3) if opcode == "RESIZE_BILINEAR_U8" else (count,)
