# SPDX-License-Identifier: Apache-2.0
"""The same as eqm_damage_ops for whole numbers, indices, products of activations and norms."""

from __future__ import annotations

from typing import Any

from eqm_damage_ops import apart, array, both, cases, dtype, param, requantization, shape


def _larger(e: Any) -> None:
    """Room for an output of twice the size."""
    e.set("TENS", e.arg(0, -1), offset=e.arena_size)
    e.arena_size += 256


# fmt: off
_COMPARE = 17  # of `whole`: LESS of int64
WHOLE = cases("whole", [
    ("table_output", "output is int16, must be int64", both(dtype(0, -1, 3), apart(24))),
    ("table_shape", "dimension 0 of output is 3, must be 2",
     both(shape(0, -1, 3, 2), apart(24))),
    ("table_input", "input is bool, must be int8",
     both(dtype(0, 0, 7), lambda e: e.set("IO  ", 0, dtype=7))),
    ("integer_function", "function 14 is unknown", param(1, function=14)),
    ("integer_logic", "input 0 is int32, which function 12", param(1, function=12)),
    ("integer_other", "input 1 is int64, must be int32", dtype(1, 1, 5)),
    ("integer_comparison", "output is int32, must be bool", param(1, function=8)),
    ("integer_arithmetic", "output is bool, must be int64", param(_COMPARE + 1, function=0)),
    ("integer_broadcast", "do not broadcast", shape(1, 1, 2)),
    ("integer_rank", "output has rank 1, must be 2",
     both(shape(18, -1, 6), apart(22))),
    ("select_mask", "mask is int32, must be bool", lambda e: e.set_arg(24, 0, e.arg(24, 1))),
    ("select_other", "input 2 is bool, must be int32",
     lambda e: e.set_arg(24, 2, e.arg(24, 0))),
    ("cast_shape", "output has rank 1, must be 2", shape(17, -1, 6)),
    ("reduce_function", "function 6 is unknown", param(25, function=6)),
    ("reduce_logic", "input is int32, must be bool", param(25, function=4)),
    ("reduce_arithmetic", "input is bool, must be int32 or int64", param(29, function=0)),
    ("reduce_axes", "axes are 4, an input of rank 2 has fewer", param(25, axes=4)),
    ("reduce_shape", "dimension 0 of output is 2, must be 1", param(25, axes=1)),
    ("cumsum_axis", "axis is 2, the input has rank 2", param(31, axis=2)),
    ("cumsum_exclusive", "exclusive is 2", param(31, exclusive=2)),
    ("cumsum_reverse", "reverse is 3", param(31, reverse=3)),
])
INDICES = cases("indices", [
    ("top_k_type", "output is int64, must be int32",
     both(dtype(0, -1, 5), lambda e: e.set("IO  ", 1, dtype=5), _larger)),
    ("top_k_few", "more elements are wanted than a row has", shape(0, -1, 2, 1, 8)),
    ("top_k_rank", "output has rank 2, must be 3", shape(0, -1, 8, 2)),
    ("gather_axis", "axis 3 and 0 batch axes", param(2, axis=3)),
    ("gather_batch", "axis 1 and 2 batch axes", param(2, batch_dims=2)),
    ("gather_batch_size", "dimension 0 of indices is 4, must be 2",
     both(param(2, batch_dims=1), shape(2, 1, 4, 1), shape(2, -1, 2, 4, 3), apart(4))),
    ("gather_rank", "output has rank 3, must be 4",
     both(shape(2, -1, 2, 4, 3), apart(4))),
    ("gather_shape", "dimension 2 of output is 6, must be 2",
     both(shape(2, -1, 2, 2, 6, 1), apart(4))),
    ("gather_indices", "indices is int8, must be int64",
     lambda e: e.set_arg(2, 1, e.arg(2, 0))),
    ("gather_nd_rank", "output has rank 1, must be 2", shape(3, -1, 6)),
    ("gather_nd_shape", "dimension 0 of output is 3, must be 2", shape(3, -1, 3, 2)),
    ("scatter_nd_shape", "dimension 0 of updates is 1, must be 3",
     lambda e: e.set("TENS", e.arg(6, 1), d0=1, d1=9)),
    ("scatter_nd_depth", "indices of rank 1 into a tensor of rank 2", shape(6, 0, 3)),
    ("update_slice_large", "dimension 1 of update is 4, of the input 3", shape(7, 1, 1, 4)),
    ("update_slice_rank", "update has rank 1, must be 2", shape(7, 1, 2)),
    ("update_slice_begin", "dimension 0 of begin is 1, must be 2", shape(7, 2, 1)),
    ("search_order", "boundaries[1] is -1, not above", array(8, "boundaries", 1, -1)),
    ("div_multiplier", "multiplier[3] is 7, must be 0 or of 31 bits",
     array(9, "multiplier", 3, 7)),
    ("div_multiplier_least", "multiplier[3] is -2147483648",
     array(9, "multiplier", 3, -(2**31))),
    ("div_exponent", "exponent[0] is 3, must be in [-31, 2]", array(9, "exponent", 0, 3)),
    ("div_zero", "x1_zero is 128", param(9, x1_zero=128)),
    ("div_y_zero", "y_zero is -129", param(9, y_zero=-129)),
    ("div_act_max", "act_max is -121", param(9, act_max=-121)),
])
PRODUCTS = cases("products", [
    ("matmul_rank", "matrices of rank 1 and 3", shape(0, 0, 30)),
    ("matmul_depth", "dimension 2 of input 1 is 1, must be 5", shape(0, 1, 4, 10, 1)),
    ("matmul_rows", "dimension 2 of output is 2, must be 3",
     both(shape(0, -1, 2, 4, 2, 3), apart(2))),
    ("matmul_batch", "axis 2 from the right: 2 and 4 do not broadcast",
     shape(0, 0, 1, 2, 3, 5)),
    ("matmul_zero", "x_zero is 128", param(0, x_zero=128)),
    ("matmul_w_zero", "w_zero is -129", param(0, w_zero=-129)),
    ("matmul_y_zero", "y_zero is 128", param(0, y_zero=128)),
    ("matmul_m", "m is 3, must be 0 or", param(0, m=3)),
    ("matmul_act_max", "act_max is -101", param(0, act_max=-101)),
    ("l2_zero", "x_zero is 200", param(1, x_zero=200)),
    ("l2_shape", "dimension 0 of output is 6, must be 4", shape(1, -1, 6, 8)),
    ("layer_norm_axis", "axis is 4, the input has rank 4", param(2, axis=4)),
    ("layer_norm_epsilon", "epsilon is -1, must be in [0, 2305843009213693952]",
     param(2, epsilon=(0xFFFFFFFF, 0xFFFFFFFF))),
    ("layer_norm_epsilon_high", "epsilon is 2305843009213693953",
     param(2, epsilon=(1, 1 << 29))),
    ("layer_norm_fraction", "fraction is 31, must be in [0, 30]", param(2, fraction=31)),
    ("layer_norm_per_row", "per_row is 2", param(2, per_row=2)),
    ("layer_norm_centred", "centred is 2", param(2, centred=2)),
    ("layer_norm_x_zero", "x_zero is 128", param(2, x_zero=128)),
    ("layer_norm_count", "5 gammas for 8 rows of 6 elements", param(2, count=5)),
    ("layer_norm_gamma", "gamma[2] is 1073741825, beyond 2^30",
     array(2, "gamma", 2, 2**30 + 1)),
    ("layer_norm_beta", "beta[5] is -1073741825, beyond 2^30",
     array(2, "beta", 5, -(2**30) - 1)),
])
SEARCHED = requantization("indices", [
    ("search_count", "0 boundaries", "count is 0, must be in [1, 65535]", param(8, count=0)),
    ("search_count_high", "65536 boundaries", "count is 65536", param(8, count=65536)),
]) + requantization("products", [
    ("layer_norm_count_0", "0 gammas", "0 gammas for 8 rows", param(2, count=0)),
])
# fmt: on

CASES = [*WHOLE, *INDICES, *SEARCHED, *PRODUCTS]
