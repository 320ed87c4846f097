# SPDX-License-Identifier: Apache-2.0
"""The memory plan: nothing alive is overwritten, and no more memory is taken than is needed."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from eqm_programs import PROGRAMS, add_params
from hypothesis import given
from random_programs import programs
from zoo import zoo_folder

from edgeq.format import spec
from edgeq.format.plan import Plan, lifetimes, plan, storage_bytes
from edgeq.format.program import Op, Port, Program, Value

# Activation bytes of TFLite Micro's planner, not to be exceeded.
GOALS = {
    "mlperf-tiny/ad01_int8": 768,
    "mlperf-tiny/kws_ref_model": 16_000,
    "mlperf-tiny/pretrainedResnet_quant": 49_152,
    "mlperf-tiny/vww_96_int8": 73_728,
    "coral/tf2_mobilenet_v2_1.0_224_ptq": 1_505_280,
}


def check(program: Program, made: Plan) -> None:
    """Compares every two tensors, and the plan with the rules of docs/FORMAT.md."""
    assert list(made.places) == list(lifetimes(program))
    assert made.lower_bound <= made.arena_size
    assert made.arena_size % spec.ARENA_ALIGN == 0
    items = list(made.places.items())
    for i, (late, b) in enumerate(items):
        assert b.offset % spec.ARENA_ALIGN == 0
        assert b.size == storage_bytes(late)
        assert b.offset + b.size <= made.arena_size
        for early, a in items[:i]:
            apart_in_time = a.last_step < b.first_step or b.last_step < a.first_step
            apart = a.offset + a.size <= b.offset or b.offset + b.size <= a.offset
            assert apart_in_time or apart or is_inplace(program, early, late, made)


def is_inplace(program: Program, early: Value, late: Value, made: Plan) -> bool:
    a, b = made.places[early], made.places[late]
    op = program.ops[b.first_step - 1]
    return (
        op.output is late
        and spec.OPS[op.opcode].inplace
        and a.offset == b.offset
        and early.shape == late.shape
        and storage_bytes(early) == storage_bytes(late)
        and a.last_step == b.first_step
        and any(v is early for v in op.inputs)
        and not any(v is not early and v.owner is early for v in op.inputs)
    )


@given(programs())
def test_random_programs(program: Program) -> None:
    made = plan(program)
    check(program, made)
    assert made == plan(program)


@pytest.mark.parametrize("name", PROGRAMS)
def test_hand_made_programs(name: str) -> None:
    program = PROGRAMS[name]()
    check(program, plan(program))


def chain(*steps: tuple[str, Sequence[int], int]) -> Program:
    """One op a step: (opcode, values that it reads, bytes that it writes). Value 0 is the input."""
    values = [Value("x", "int8", (steps[0][2],))]
    ops = []
    for opcode, inputs, size in steps[1:]:
        y = Value(f"v{len(values)}", "int8", (size,))
        ops.append(Op(opcode, y.name, [values[i] for i in inputs], y))
        values.append(y)
    return Program(ops, [Port("x", values[0], "int8")], [Port("y", values[-1], "int8")])


def places(made: Plan) -> list[tuple[int, int, int]]:
    return [(p.offset, p.first_step, p.last_step) for p in made.places.values()]


def test_steps() -> None:
    """Input at 0, ops from 1 on, output behind the last; an unused result dies where it is born."""
    made = plan(chain(("", [], 64), ("PAD", [0], 64), ("PAD", [0], 32), ("PAD", [1], 64)))
    assert [(first, last) for _, first, last in places(made)] == [(0, 2), (1, 3), (2, 2), (3, 4)]


def test_unused_input() -> None:
    program = chain(("", [], 64), ("PAD", [0], 64))
    program.inputs.append(Port("unused", Value("u", "int8", (64,)), "int8"))
    assert places(plan(program))[1][1:] == (0, 0)


def test_in_place_chain() -> None:
    made = plan(chain(("", [], 64), ("LUT", [0], 64), ("ADD", [1, 1], 64), ("COPY", [2], 64)))
    assert made.arena_size == 64
    assert {offset for offset, _, _ in places(made)} == {0}


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(chain(("", [], 64), ("PAD", [0], 64)), id="the op may not"),
        pytest.param(
            chain(("", [], 64), ("ADD", [0, 0], 64), ("ADD", [1, 0], 64)), id="read later"
        ),
        pytest.param(chain(("", [], 16), ("MAXIMUM", [0, 0], 64)), id="another shape"),
    ],
)
def test_not_in_place(program: Program) -> None:
    made = plan(program)
    (a, b), ops = list(made.places.values())[:2], program.ops
    assert a.offset != b.offset, ops[0].opcode


def test_view_beside_its_owner_forbids_work_in_place() -> None:
    x = Value("x", "int8", (4, 16))
    turned = Value("t", "int8", (1, 64), view_of=x)
    y = Value("y", "int8", (4, 16))
    program = Program(
        [Op("ADD", "add", [x, turned], y, add_params())],
        [Port("x", x, "int8")],
        [Port("y", y, "int8")],
    )
    assert plan(program).arena_size == 128


def test_output_is_not_overwritten() -> None:
    program = chain(("", [], 64), ("PAD", [0], 64), ("LUT", [1], 64))
    program.outputs.append(Port("also", program.ops[0].output, "int8"))
    made = plan(program)
    assert made.places[program.ops[0].output].last_step == 3
    assert made.arena_size == 128


def test_view_prolongs_its_owner() -> None:
    program = chain(("", [], 64), ("PAD", [0], 64), ("PAD", [0], 64))
    program.outputs[0].value = Value("v", "int8", (8, 8), view_of=program.ops[0].output)
    assert plan(program).places[program.ops[0].output].last_step == 3


def test_search_beats_the_first_order(monkeypatch: pytest.MonkeyPatch) -> None:
    program = zigzag(40)
    made = plan(program)
    check(program, made)
    assert made.arena_size == made.lower_bound
    monkeypatch.setattr("edgeq.format.plan.SEARCH_BUDGET", 1)  # by falling size, and no more
    check(program, plan(program))
    assert plan(program).arena_size > made.arena_size


def zigzag(count: int) -> Program:
    """Sizes and distances that follow no pattern."""
    steps: list[tuple[str, Sequence[int], int]] = [("", [], 160)]
    for k in range(1, count):
        size = 16 * (1 + (k * 7919) % 37)
        back = 1 + (k * 104729) % 9
        steps.append(("CONCATENATION", [k - 1, max(k - back, 0)], size))
    return chain(*steps)


def test_large_program_is_planned_quickly() -> None:
    program = zigzag(500)
    start = time.perf_counter()
    made = plan(program)
    assert time.perf_counter() - start < 5  # about 0.2 s, and much slack for a busy machine
    assert made.arena_size <= made.lower_bound * 1.05


@pytest.mark.parametrize("name", GOALS)
def test_known_networks(name: str) -> None:
    path = zoo_folder() / "models" / f"{name}.tflite"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    from edgeq.importers.tflite import import_tflite
    from edgeq.passes import run_passes
    from edgeq.quantize.lower import lower

    program = lower(run_passes(import_tflite(path.read_bytes(), str(path))))
    made = plan(program)
    check(program, made)
    assert made.arena_size <= GOALS[name]
    assert made.arena_size == made.lower_bound
