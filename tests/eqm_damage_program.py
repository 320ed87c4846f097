# SPDX-License-Identifier: Apache-2.0
"""Files that are wrong in one way each: ops, ports, memory plan. See eqm_damage."""

from __future__ import annotations

import struct

from eqm_damage import BEHIND, CONV, FC, INF, INVALID, MOVES, UNSUPPORTED, Case, Edit
from eqm_editor import Editor

SLICE = "concat_slice"


def _set(section: str, index: int, **changes: float) -> Edit:
    return lambda e: e.set(section, index, **changes)


def _arg(op: int, index: int, tensor: int) -> Edit:
    return lambda e: e.set_arg(op, index, tensor)


def _shared_args(e: Editor) -> None:
    """Two ops whose argument lists are one and the same."""
    e.set("OPS ", 1, args=e.get("OPS ", 0, "args"), input_count=2)
    e.part("ARGS").content[-8:] = b""


def _port_reserved(e: Editor) -> None:
    e.part("IO  ").content[9] = 1


def _unused_input(e: Editor) -> None:
    """The second input is no port any more; the others move up."""
    del e.part("IO  ").content[24:48]
    e.set("ENTR", 0, input_count=1)


def _input_twice(e: Editor) -> None:
    e.set("IO  ", 1, tensor=0)


def _time(e: Editor, tensor: int, **changes: int) -> None:
    e.set("TENS", tensor, **changes)


OPS = [
    Case("op_unknown", FC, UNSUPPORTED, "opcode 999 is unknown", "opcode 999 is unknown",
         _set("OPS ", 0, opcode=999)),
    Case("op_flags", FC, INVALID, "its flags are not 0", "flags are not 0",
         _set("OPS ", 0, flags=1)),
    Case("op_one_input", FC, INVALID, "1 inputs and 1 outputs", "1 inputs and 1 outputs",
         _set("OPS ", 0, input_count=1)),
    Case("op_two_outputs", FC, INVALID, "1 inputs and 2 outputs", "1 inputs and 2 outputs",
         _set("OPS ", 0, input_count=1, output_count=2)),
    Case("op_no_inputs", SLICE, INVALID, "0 inputs and 1 outputs", "0 inputs and 1 outputs",
         _set("OPS ", 0, input_count=0)),
    Case("op_args_behind", FC, INVALID, "its arguments end behind", "arguments end behind",
         _set("OPS ", 0, args=1)),
    Case("op_args_overflow", FC, INVALID, "its arguments end behind", "arguments end behind",
         _set("OPS ", 0, args=2**32 - 1)),
    Case("op_args_shared", CONV, INVALID, "more arguments than section 'ARGS'",
         "more arguments than section ARGS",
         _shared_args),
    Case("op_tensor_missing", FC, INVALID, "argument 0 is tensor 3 of 3",
         "argument 0 is tensor 3 of 3",
         _arg(0, 0, 3)),
    Case("op_params_size", FC, INVALID, "60 bytes of params, it needs 64", "60 bytes of parameters",
         _set("OPS ", 0, params_size=60)),
    Case("op_params_misaligned", CONV, INVALID, "are not aligned to 4 bytes",
         "bytes of parameters at 2",
         _set("OPS ", 0, params=2)),
    Case("op_params_behind", FC, INVALID, "its params end behind", "bytes of parameters at 4",
         _set("OPS ", 0, params=4)),
    Case("op_writes_input", FC, INVALID, "which is no activation", "the output is an input",
         _arg(0, -1, 0)),
    Case("op_writes_const", FC, INVALID, "which is no activation", "the output is an input",
         _arg(0, -1, 2)),
    Case("op_writes_view", CONV, INVALID, "which is no activation", "the output is an input",
         _arg(1, -1, 6)),
    Case("op_writes_twice", CONV, INVALID, "a second time", "is written at step 2, the plan says 1",
         _arg(1, -1, 1)),
    Case("op_reads_early", CONV, INVALID, "before it is written", "read before it is written",
         _arg(0, 0, 2)),
    Case("op_reads_itself", CONV, INVALID, "before it is written", "read before it is written",
         _arg(1, 0, 2)),
]  # fmt: skip

# Lifetimes. In CONV: 0 input [0, 2], 1 [1, 2], 2 [2, 3] on 1, 3 [3, 4], 6 view of 2.
PLAN = [
    Case("time_ends_early", CONV, INVALID, "live from step 0 to 1, the ops say 0 to 2",
         "is read at step 2, its memory is given up at 1", _set("TENS", 0, last_step=1)),
    Case("time_ends_late", FC, INVALID, "live from step 0 to 2, the ops say 0 to 1",
         "nothing reads it at step 2", _set("TENS", 0, last_step=2)),
    Case("time_ends_unread", SLICE, INVALID, "live from step 0 to 2, the ops say 0 to 1",
         "nothing reads it at step 2", _set("TENS", 0, last_step=2)),
    Case("time_begins_late", CONV, INVALID, "live from step 4 to 4, the ops say 3 to 4",
         "is written at step 3, the plan says 4", _set("TENS", 3, first_step=4)),
    Case("time_backwards", FC, INVALID, "live from step 1 to 0", "lives from step 1 to 0 of 2",
         _set("TENS", 1, last_step=0)),
    Case("time_behind_end", FC, INVALID, "live from step 1 to 3", "lives from step 1 to 3 of 2",
         _set("TENS", 1, last_step=3)),
    Case("time_of_input", FC, INVALID, "live from step 1 to 1", "written at step 1",
         _set("TENS", 0, first_step=1)),
    Case("time_of_activation", FC, INVALID, "live from step 0 to 2", "written at step 0",
         _set("TENS", 1, first_step=0)),
    Case("tensor_unwritten", SLICE, INVALID, "no op writes it", "does not write it",
         lambda e: (e.part("TENS").content.extend(e.part("TENS").content[4 * 56 : 5 * 56]),
                    e.set("TENS", 5, storage=5, first_step=3, last_step=3, offset=0))),
    Case("overlap", FC, INVALID, "tensors 0 and 1 share memory at step 1",
         "tensors 0 and 1 share memory at step 1", _set("TENS", 1, offset=0)),
    Case("overlap_of_inputs", SLICE, INVALID, "tensors 0 and 1 share memory at step 0",
         "tensors 0 and 1 share memory at step 0", _set("TENS", 1, offset=32)),
    Case("overlap_in_part", CONV, INVALID, "share memory at step 2", "share memory at step 2",
         lambda e: (e.set("TENS", 2, offset=16), e.set("TENS", 6, offset=16))),
    Case("inplace_op", SLICE, INVALID, "tensors 2 and 3 share memory",
         "tensors 2 and 3 share memory",
         _set("TENS", 3, offset=0)),
    Case("inplace_alive", SLICE, INVALID, "tensors 3 and 4 share memory",
         "tensors 3 and 4 share memory", _set("TENS", 4, offset=32)),
    Case("inplace_shape", SLICE, INVALID, "tensors 2 and 4 share memory",
         "tensors 2 and 4 share memory",
         _set("TENS", 4, d0=5, d1=1)),
    Case("inplace_view", CONV, INVALID, "tensors 1 and 2 share memory",
         "tensors 1 and 2 share memory",
         lambda e: (e.part("TENS").content.extend(e.part("TENS").content[1 * 56 : 2 * 56]),
                    e.set("TENS", 7, kind=3, rank=2, d0=1, d1=32, d2=1, d3=1), e.set_arg(1, 1, 7),
                    e.set("TENS", 0, last_step=1))),
]  # fmt: skip

PORTS = [
    Case("entry_first_op", FC, INVALID, "it runs 1 ops from 1 on", "runs ops 1 + 1 of 1",
         _set("ENTR", 0, first_op=1)),
    Case("entry_op_count", FC, INVALID, "it runs 2 ops from 0 on", "runs ops 0 + 2 of 1",
         _set("ENTR", 0, op_count=2)),
    Case("entry_ports_behind", FC, INVALID, "1 outputs at 1 of 2 ports", "1 outputs of 2 ports",
         _set("ENTR", 0, io=1)),
    Case("entry_ports_overflow", FC, INVALID, "of 2 ports", "of 2 ports",
         _set("ENTR", 0, input_count=2**32 - 1)),
    Case("entry_no_outputs", FC, INVALID, "0 outputs", "0 outputs",
         _set("ENTR", 0, output_count=0)),
    Case("port_tensor_missing", FC, INVALID, "it is tensor 3 of 3", "tensor 3 of 3",
         _set("IO  ", 0, tensor=3)),
    Case("port_not_input", FC, INVALID, "tensor 1 is no input", "tensor 1 is no input",
         _set("IO  ", 0, tensor=1)),
    Case("port_output_is_input", FC, INVALID, "tensor 0 is not written by an op",
         "tensor 0 is no output", _set("IO  ", 1, tensor=0)),
    Case("port_output_is_const", FC, INVALID, "tensor 2 is not written by an op",
         "tensor 2 is no output", _set("IO  ", 1, tensor=2)),
    Case("port_output_is_dead", CONV, INVALID, "live from step 1 to 2, the ops say 1 to 4",
         "tensor 1 is no output", _set("IO  ", 1, tensor=1, dtype=1)),
    Case("port_scale", FC, INVALID, "scale inf is", "the scale is negative or not finite",
         _set("IO  ", 0, scale=INF)),
    Case("port_reserved", FC, INVALID, "its reserved bytes are not 0", "reserved fields are not 0",
         _port_reserved),
    Case("port_dtype", FC, INVALID, "dtype 3 cannot stand for int8", "dtype 3 cannot stand for",
         _set("IO  ", 0, dtype=3)),
    Case("port_dtype_unknown", FC, INVALID, "dtype 99 cannot stand for int8",
         "dtype 99 cannot stand for", _set("IO  ", 0, dtype=99)),
    Case("port_float32_of_int32", MOVES, INVALID, "dtype 6 cannot stand for int32",
         "dtype 6 cannot stand for", _set("IO  ", 1, dtype=6, scale=0.5)),
    Case("port_float32_without_scale", CONV, INVALID, "float32 and has no scale",
         "float32 without a scale", _set("IO  ", 1, scale=0)),
    Case("port_zero_point", FC, INVALID, "zero point 128 is out of range", "zero point 128",
         _set("IO  ", 0, zero_point=128)),
    Case("port_zero_point_int16", "words", INVALID, "zero point 1 of int16",
         "zero point 1 of int16", _set("IO  ", 0, zero_point=1)),
    Case("port_zero_point_uint8", CONV, INVALID, "zero point -1 is out of range", "zero point -1",
         _set("IO  ", 0, zero_point=-1)),
    Case("port_input_twice", SLICE, INVALID, "two inputs are the same", "are the same input",
         _input_twice),
    Case("input_without_port", SLICE, INVALID, "and no port of the entry point",
         "2 input tensors, 1 input ports", _unused_input),
]  # fmt: skip


def _end_refs(e: Editor, name: str, ref: int) -> None:
    """Points an array of op 0 somewhere else."""
    e.param(0, **{name: ref})


REFS = [
    Case("ref_absent", FC, INVALID, "multiplier is absent", "multiplier is missing",
         lambda e: _end_refs(e, "multiplier", 0xFFFFFFFF)),
    Case("ref_misaligned", FC, INVALID, "not aligned to 4 bytes", "bias at 2 is not aligned to 4",
         lambda e: _end_refs(e, "bias", 2)),
    Case("ref_behind_data", FC, INVALID, "multiplier: its data ends behind", "multiplier at 65536",
         lambda e: _end_refs(e, "multiplier", BEHIND)),
    Case("ref_overflows", FC, INVALID, "exponent: its data ends behind", "exponent at 4294967292",
         lambda e: _end_refs(e, "exponent", 0xFFFFFFFC)),
    Case("ref_cut", FC, INVALID, "exponent: its data ends behind", "ends behind DATA",
         lambda e: _end_refs(e, "exponent", len(e.part("DATA").content) - 3)),
    Case("requant_count_0", FC, INVALID, "0 multipliers for 4 channels", "0 multipliers for 4",
         lambda e: e.param(0, requant_count=0)),
    Case("requant_count_3", FC, INVALID, "3 multipliers for 4 channels", "3 multipliers for 4",
         lambda e: e.param(0, requant_count=3)),
    Case("data_empty", FC, INVALID, "its data ends behind", "ends behind section DATA",
         lambda e: e.part("DATA").content.clear()),
    Case("params_reserved_bytes", MOVES, INVALID, "its reserved params are not 0",
         "reserved parameters are not 0", lambda e: e.param(2, reserved=1)),
    Case("metadata_record", FC, INVALID, "not a multiple of 8", "not a multiple of 8",
         lambda e: e.part("META").content.extend(struct.pack("<I", 0))),
]  # fmt: skip
