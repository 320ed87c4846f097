# SPDX-License-Identifier: Apache-2.0
"""int8 functions and products against the oracle: tables, BATCH_MATMUL, norms, differences.

What the oracle refuses, and the generators therefore avoid: RSQRT of negative numbers.
"""

from __future__ import annotations

import numpy as np
import pytest
from cases import Quant, Rng, Shape, chance, dims, f32, fill, log_uniform, pick, seeded
from oracle import check, reference, run_edgeq
from tflite_builder import ModelBuilder

EVERY = np.arange(-128, 128, dtype=np.int8).reshape(1, 256)


def unary(kind: str, x: Quant, y: Quant, data: np.ndarray, **options: bool) -> bytes:
    m = ModelBuilder()
    i, o = x.input(m, "x", data.shape), y.tensor(m, "y", data.shape)
    m.op(kind, [i], [o], **options)
    m.output(o)
    return m.finish()


@seeded(20)
def test_abs(rng: Rng) -> None:
    x = Quant.random(rng, "int8")
    y = Quant("int8", f32(x.scale * log_uniform(rng, 0.3, 3)), Quant.random(rng, "int8").zero_point)
    if chance(rng, 0.3):
        y = Quant("int8", x.scale, y.zero_point)
    check(unary("ABS", x, y, EVERY), [EVERY])


@seeded(20)
def test_rsqrt(rng: Rng) -> None:
    x = Quant("int8", log_uniform(rng, 1e-3, 2), -128)
    y = Quant("int8", log_uniform(rng, 1e-3, 0.5), Quant.random(rng, "int8").zero_point)
    check(unary("RSQRT", x, y, EVERY), [EVERY])


NEAR = 2  # entries of a table in which a C library's last bit may decide a rounding


@pytest.mark.parametrize("kind", ["EXP", "ELU", "GELU"])
@seeded(15)
def test_tables(rng: Rng, kind: str) -> None:
    """exp, erf and tanh differ by the last bit of a float32 between C libraries."""
    x = Quant("int8", log_uniform(rng, 2.0**-8, 2.0**-4), Quant.random(rng, "int8").zero_point)
    _, high = x.range()
    if kind == "EXP":
        y = Quant.covering(rng, "int8", 0, float(np.exp(high)))
    else:
        y = Quant.covering(rng, "int8", -1 if kind == "ELU" else -0.2, max(high, 0.1))
    options = {"approximate": chance(rng, 0.5)} if kind == "GELU" else {}
    model = unary(kind, x, y, EVERY, **options)
    (want,), (got,) = reference(model, [EVERY]), run_edgeq(model, [EVERY])
    different = np.abs(want.astype(int) - got)
    assert different.max() <= 1
    assert (different > 0).sum() <= NEAR


@seeded(15)
def test_squared_difference(rng: Rng) -> None:
    dtype = "int8"
    shape = dims(rng, int(rng.integers(1, 5)), 1, 5)
    a, b = (tuple(1 if chance(rng, 0.3) else n for n in shape) for _ in range(2))
    p, q = Quant.random(rng, dtype), Quant.random(rng, dtype)
    (a0, a1), (b0, b1) = p.range(), q.range()
    y = Quant.covering(rng, dtype, 0, max(a1 - b0, b1 - a0) ** 2 * log_uniform(rng, 0.1, 1))
    m = ModelBuilder()
    inputs = [p.input(m, "a", a), q.input(m, "b", b)]
    out = y.tensor(m, "y", np.broadcast_shapes(a, b))
    m.op("SQUARED_DIFFERENCE", inputs, [out])
    m.output(out)
    check(m.finish(), [fill(rng, a, dtype), fill(rng, b, dtype)])


@seeded(30)
def test_batch_matmul(rng: Rng) -> None:
    """Leading axes broadcast; either operand may be transposed, the second one constant."""
    lead = dims(rng, int(rng.integers(0, 3)), 1, 3)
    rows, depth, columns = (int(v) for v in rng.integers(1, pick(rng, 9, 70), 3))
    flips = {"adj_x": chance(rng, 0.3), "adj_y": chance(rng, 0.3)}
    a: Shape = (*lead, *((depth, rows) if flips["adj_x"] else (rows, depth)))
    b: Shape = (*lead, *((columns, depth) if flips["adj_y"] else (depth, columns)))
    if lead and chance(rng, 0.3):
        b = b[len(lead) :]
    p, q = Quant.random(rng, "int8"), Quant.random(rng, "int8")
    spread = p.scale * q.scale * 74 * 74 * float(np.sqrt(depth))
    y = Quant.covering(rng, "int8", -2 * spread, 2 * spread)
    known = chance(rng, 0.25)
    m = ModelBuilder()
    data = [fill(rng, a, "int8"), fill(rng, b, "int8")]
    i = p.input(m, "a", a)
    j = q.const(m, "b", data[1]) if known else q.input(m, "b", b)
    out = y.tensor(m, "y", (*lead, rows, columns))
    m.op("BATCH_MATMUL", [i, j], [out], **flips)
    m.output(out)
    check(m.finish(), data[:1] if known else data)


@seeded(15)
def test_l2_normalization(rng: Rng) -> None:
    shape = (*dims(rng, int(rng.integers(0, 4))), int(rng.integers(1, 200)))
    x, y = Quant.random(rng, "int8"), Quant("int8", 1 / 128, 0)
    data = fill(rng, shape, "int8")
    check(unary("L2_NORMALIZATION", x, y, data), [data])
