# SPDX-License-Identifier: Apache-2.0
"""Files whose structure is right and in which one operator asks for something impossible.

Only the C library looks at these. See eqm_damage.
"""

from __future__ import annotations

from typing import Any

from eqm_damage import INVALID, Case, Edit


def param(op: int, **changes: Any) -> Edit:
    return lambda e: e.param(op, **changes)


def array(op: int, name: str, index: int, value: int) -> Edit:
    return lambda e: e.array(op, name, index, value)


def shape(op: int, index: int, *dims: int) -> Edit:
    """Another shape for an argument of an op; -1 is the output."""

    def change(e: Any) -> None:
        sizes = (*dims, 1, 1, 1, 1, 1, 1)[:6]
        named = {f"d{i}": size for i, size in enumerate(sizes)}
        e.set("TENS", e.arg(op, index), rank=len(dims), **named)

    return change


def dtype(op: int, index: int, dtype: int) -> Edit:
    return lambda e: e.set("TENS", e.arg(op, index), dtype=dtype)


def apart(op: int) -> Edit:
    """Puts the output of an op that worked in place behind all else."""

    def change(e: Any) -> None:
        tensor = e.arg(op, -1)
        for i in range(len(e.part("TENS").content) // 56):
            if e.get("TENS", i, "storage") == tensor:
                e.set("TENS", i, offset=e.arena_size)
        e.arena_size += 64

    return change


def both(*edits: Edit) -> Edit:
    return lambda e: [edit(e) for edit in edits]


def requantization(base: str, rows: list[tuple[str, str, str, Edit]]) -> list[Case]:
    """Of a layer with weights; the reader looks at these as well."""
    return [Case(name, base, INVALID, reader, core, edit) for name, reader, core, edit in rows]


def cases(base: str, rows: list[tuple[str, str, Edit]]) -> list[Case]:
    return [Case(name, base, INVALID, None, core, edit) for name, core, edit in rows]


def _window(kind: str, op: int, size: str) -> list[tuple[str, str, Edit]]:
    """Ranges that convolutions share."""
    return [
        (f"{kind}_{name}", f"{name} is {value}, must be", param(op, **{name: value}))
        for name, value in [
            ("stride_h", 0), ("stride_w", 0), ("dilation_h", 0), ("dilation_w", 0),
            ("pad_top", -1), ("pad_left", -1), ("groups", 0), ("depth_multiplier", 0),
            ("x_zero", 128), ("w_zero", -129), ("y_zero", 128), ("act_max", 128), ("act_min", 127),
        ]
        if size == "all" or name in size.split()
    ]  # fmt: skip


# fmt: off
REQUANTIZATION = [
    *requantization("conv_add_view", [
        ("conv_arithmetic", "arithmetic 3 is unknown", "arithmetic 3 is unknown",
         param(0, arithmetic=3)),
        ("conv_fraction", "fraction 1, the limit is 0", "fraction is 1, must be in [0, 0]",
         param(0, fraction=1)),
        ("conv_multiplier", "a multiplier is neither 0 nor in [2^30, 2^31)",
         "multiplier is 1073741823", array(0, "multiplier", 1, 2**30 - 1)),
        ("conv_multiplier_negative", "a multiplier is neither 0 nor in [2^30, 2^31)",
         "multiplier is -1073741824", array(0, "multiplier", 1, -(2**30))),
        ("conv_exponent", "an exponent is not in [-31, 30]", "exponent of multiplier is 31",
         array(0, "exponent", 0, 31)),
        ("conv_r15_of_r31", "a multiplier is neither 0 nor in [2^14, 2^15)",
         "must be in [16384, 32767]", param(0, arithmetic=1)),
    ]),
    *requantization("native", [
        ("r15_fraction", "fraction 7, the limit is 6", "fraction is 7, must be in [0, 6]",
         param(0, fraction=7)),
        ("r15_multiplier_low", "a multiplier is neither 0 nor in [2^14, 2^15)",
         "multiplier is 16383, must be in [16384, 32767]", array(0, "multiplier", 1, 2**14 - 1)),
        ("r15_multiplier_high", "a multiplier is neither 0 nor in [2^14, 2^15)",
         "multiplier is 32768, must be in [16384, 32767]", array(1, "multiplier", 0, 2**15)),
        ("r15_exponent_positive", "an exponent is not in [-31, 0]",
         "exponent is 1, must be in [-31, 0]", array(2, "exponent", 2, 1)),
        ("r15_exponent_low", "an exponent is not in [-31, 0]",
         "exponent is -32, must be in [-31, 0]", array(0, "exponent", 0, -32)),
        ("r15_as_r31", "fraction 5, the limit is 0", "fraction is 5, must be in [0, 0]",
         param(0, arithmetic=0)),
    ]),
]
R15 = cases("native", [
    ("r15_accumulator", "the accumulator of channel 0 can reach",
     both(array(0, "exponent", 0, -31), array(0, "bias", 0, 2**30))),
])
CONV = cases("conv_add_view", [
    *_window("conv", 0, "stride_h stride_w dilation_h dilation_w pad_top pad_left"),
    ("conv_depth_multiplier_0", "depth_multiplier is 0", param(0, depth_multiplier=0)),
    ("conv_groups", "2 input and 2 output channels", param(0, groups=2)),
    ("conv_groups_0", "groups is 0", param(0, groups=0)),
    ("conv_depth_multiplier_2", "depth_multiplier is 2", param(0, depth_multiplier=2)),
    ("conv_act_range", "act_min is -1, must be in [-128, -2]", param(0, act_max=-2)),
    ("conv_accumulator", "the accumulator of channel 1 can reach",
     array(0, "bias", 1, -(2**31))),
    ("conv_input_rank", "input has rank 3", shape(0, 0, 4, 4, 2)),
    ("conv_weights_rank", "weights has rank 3", shape(0, 1, 2, 9, 2)),
    ("conv_output_rank", "output has rank 3",
     both(shape(0, -1, 4, 4, 2), apart(1))),
    ("conv_batch", "dimension 0 of output is 2",
     both(shape(0, -1, 2, 4, 2, 2), apart(1))),
    ("conv_channels", "dimension 3 of output is 1",
     both(shape(0, -1, 1, 4, 4, 1), apart(1))),
    ("conv_depth", "weights of depth 1", shape(0, 1, 2, 3, 3, 1)),
    ("conv_input_dtype", "input is bool, must be int8",
     both(dtype(0, 0, 7), lambda e: e.set("IO  ", 0, dtype=7))),
    ("conv_weights_dtype", "weights is uint8, must be int8", dtype(0, 1, 2)),
    ("conv_output_dtype", "output is uint8, must be int8", dtype(0, -1, 2)),
    ("conv_weights_not_constant", "the weights are not constant", lambda e: e.set_arg(0, 1, 0)),
    ("add_left_shift", "left_shift is 25", param(1, left_shift=25)),
    ("add_m1", "m1 is 1, must be 0 or", param(1, m1=1)),
    ("add_e2", "exponent of m2 is -32", param(1, e2=-32)),
    ("add_my", "my is -1", param(1, my=-1)),
    ("add_sign2", "sign2 is 0, must be 1 or -1", param(1, sign2=0)),
    ("add_x1_zero", "x1_zero is 200", param(1, x1_zero=200)),
    ("add_x2_zero", "x2_zero is -200", param(1, x2_zero=-200)),
    ("add_y_zero", "y_zero is 128", param(1, y_zero=128)),
    ("add_act_min", "act_min is -129", param(1, act_min=-129)),
    ("add_act_max", "act_min is -1, must be in [-128, -128]",
     param(1, act_min=-1, act_max=-128)),
    ("fully_connected_inputs", "32 inputs, weights (3, 31)", shape(2, 1, 3, 31)),
    ("fully_connected_outputs", "3 outputs", shape(2, -1, 3, 1)),
    ("fully_connected_window", "windows, padding and groups do not apply", param(2, stride_h=2)),
    ("fully_connected_weights_rank", "weights has rank 1", shape(2, 1, 96)),
])
FULLY_CONNECTED = cases("fully_connected", _window("fc", 0, "x_zero w_zero y_zero act_max"))
WINDOWS = cases("windows", [
    ("depthwise_weights", "dimension 0 of weights is 3", shape(0, 1, 3, 1, 3, 4)),
    ("depthwise_groups", "groups is 2", param(0, groups=2)),
    ("depthwise_multiplier", "dimension 3 of weights is 4, must be 6",
     param(0, depth_multiplier=3)),
    ("depthwise_multiplier_0", "depth_multiplier is 0", param(0, depth_multiplier=0)),
    ("depthwise_channels", "dimension 3 of output is 2", shape(0, -1, 1, 4, 8, 2)),
    ("max_pool_kernel", "kernel 0 and stride 2", param(1, kernel_h=0)),
    ("max_pool_stride", "kernel 2 and stride 0", param(1, stride_w=0)),
    ("max_pool_pad", "padding is 2, must be in [0, 2)", param(1, pad_top=2)),
    ("max_pool_pad_negative", "padding is -1", param(1, pad_left=-1)),
    ("max_pool_windows_behind", "window 1 starts at 4, behind the input of 4",
     param(1, stride_h=4)),
    ("max_pool_windows_few", "2 windows leave room", param(1, stride_w=1)),
    ("max_pool_channels", "dimension 3 of output is 2", shape(1, -1, 1, 4, 2, 2)),
    ("max_pool_rank", "output has rank 3", shape(1, -1, 2, 2, 4)),
    ("max_pool_offset", "offset is 128, must be in [0, 0]", param(1, offset=128)),
    ("max_pool_act_max", "act_max is 128", param(1, act_max=128)),
    ("max_pool_act_min", "act_min is 1, must be in [-128, 0]", param(1, act_min=1, act_max=0)),
    ("transpose_conv_groups", "groups, depth multiplier and dilation must be 1",
     param(2, groups=2)),
    ("transpose_conv_depth", "dimension 3 of weights is 2", shape(2, 1, 3, 2, 4, 2)),
    ("average_pool_offset", "offset is 64, must be 0 or 128", param(3, offset=64)),
    ("mean_axes", "axes are 16, an input of rank 4 has fewer", param(4, axes=16)),
    ("mean_output", "dimension 1 of output is 1, must be 2", param(4, axes=4)),
    ("mean_rank", "output has rank 3", shape(4, -1, 1, 1, 3)),
    ("mean_m", "m is -1", param(4, m=-1)),
    ("mean_e", "e is 31", param(4, e=31)),
    ("mean_x_zero", "x_zero is 128", param(4, x_zero=128)),
    ("mean_y_zero", "y_zero is -129", param(4, y_zero=-129)),
    ("sum_m", "m is 5, must be 0 or", param(5, m=5)),
    ("reduce_max_scaled", "must be 0", param(6, m=1)),
])
ELEMENTWISE = cases("elementwise", [
    ("mul_m", "m is 7, must be 0 or", param(0, m=7)),
    ("mul_x1_zero", "x1_zero is 300", param(0, x1_zero=300)),
    ("mul_x2_zero", "x2_zero is 300", param(0, x2_zero=300)),
    ("mul_y_zero", "y_zero is 300", param(0, y_zero=300)),
    ("mul_act_max", "act_min is -100, must be in [-128, -101]", param(0, act_max=-101)),
    ("mul_broadcast", "do not broadcast", shape(0, 1, 2, 2)),
    ("mul_output_rank", "output has rank 1",
     both(shape(0, -1, 8), apart(1))),
    ("mul_output_size", "dimension 1 of output is 2, must be 4",
     both(shape(0, -1, 4, 2), apart(1))),
    ("mul_dtype", "input 1 is uint8, must be int8", dtype(0, 1, 2)),
    ("maximum_output", "dimension 1 of output is 2",
     both(shape(1, -1, 4, 2), apart(1))),
    ("prelu_x_zero", "x_zero is 128", param(3, x_zero=128)),
    ("prelu_alpha_zero", "alpha_zero is 128", param(3, alpha_zero=128)),
    ("prelu_y_zero", "y_zero is 128", param(3, y_zero=128)),
    ("prelu_m1", "m1 is 3, must be 0 or", param(3, m1=3)),
    ("prelu_e2", "exponent of m2 is 31", param(3, e2=31)),
])
LUT = cases("concat_slice", [
    ("concat_axis", "axis is 3, the output has rank 3", param(0, axis=3)),
    ("concat_size", "dimension 1 of output is 4, must be 5",
     both(shape(0, -1, 1, 4, 4), apart(2))),
    ("concat_other_axis", "dimension 2 of output is 4, must be 2", shape(0, 1, 1, 4, 2)),
    ("concat_rank", "output has rank 3, must be 2", shape(0, 1, 2, 4)),
    ("concat_dtype", "output is uint8, must be int8", dtype(0, -1, 2)),
    ("slice_stride_0", "stride of axis 1 is 0", param(1, stride=(1, 0, 1, 1, 1, 1))),
    ("slice_begin", "axis 1: elements 5", param(1, begin=(0, 5, 1, 0, 0, 0))),
    ("slice_begin_negative", "axis 2: elements -1", param(1, begin=(0, 4, -1, 0, 0, 0))),
    ("slice_end", "axis 1: elements 4 to 8", param(1, stride=(1, 2, 1, 1, 1, 1))),
    ("slice_unused", "axis 3 of 3 begins at 1", param(1, begin=(0, 4, 1, 1, 0, 0))),
    ("slice_rank", "output has rank 2", shape(1, -1, 3, 2)),
    ("lut_shape", "dimension 0 of output is 5",
     both(shape(2, -1, 5, 4, 1), apart(2))),
    ("lut_table", "table at 1, 256 items", param(2, table=1)),
    ("lut_table_absent", "table is missing", param(2, table=0xFFFFFFFF)),
])
SOFTMAX = cases("softmax", [
    ("softmax_one", "exp_table[0] is 5, must be", array(0, "exp_table", 0, 5)),
    ("softmax_negative", "exp_table[9] is -1", array(0, "exp_table", 9, -1)),
    ("log_softmax_difference", "diff_table[1] is 1", array(1, "diff_table", 1, 1)),
    ("log_softmax_diff_min", "diff_min is 1", param(1, diff_min=1)),
    ("log_softmax_reverse", "reverse_m is 2", param(1, reverse_m=2)),
])
MOVES = cases("moves", [
    ("pad_before", "axis 1: padding before is 3, the output is larger by 2",
     param(0, before=(0, 3, 0, 0, 0, 0))),
    ("pad_before_negative", "padding before is -1", param(0, before=(0, -1, 0, 0, 0, 0))),
    ("pad_unused", "axis 5: padding before is 1", param(0, before=(0, 1, 0, 0, 0, 1))),
    ("pad_value", "value is 128", param(0, value=128)),
    ("pad_dtype", "output is uint8, must be int8", dtype(0, -1, 2)),
    ("pad_rank", "output has rank 3", shape(0, -1, 4, 3, 2)),
    ("mirror_pad_reflect", "reflect is 2", param(1, reflect=2)),
    ("mirror_pad_size", "are mirrored, there are 0",
     both(shape(0, -1, 1, 4, 1, 2), shape(1, -1, 1, 4, 4, 2),
           param(1, before=(0, 0, 2, 0, 0, 0)), shape(0, 0, 1, 2, 1, 2))),
    ("transpose_twice", "perm[2] is 3: not a permutation", param(2, perm=(0, 3, 3, 1, 4, 5))),
    ("transpose_behind", "perm[0] is 6: not a permutation", param(2, perm=(6, 3, 2, 1, 4, 5))),
    ("transpose_unused", "perm[4] is 5: not a permutation", param(2, perm=(0, 3, 2, 1, 5, 4))),
    ("transpose_shape", "dimension 1 of output is 2, must be 4",
     param(2, perm=(0, 1, 2, 3, 4, 5))),
    ("copy_elements", "40 elements are copied to 20",
     both(shape(3, -1, 1, 2, 5, 2), apart(3))),
    ("arg_max_axis", "axis is 4, the input has rank 4", param(4, axis=4)),
    ("arg_max_shape", "dimension 3 of output is 1, must be 4", param(4, axis=0)),
    ("arg_max_dtype", "output is bool, must be int64", dtype(4, -1, 7)),
    ("concat_elements", "dimension 2 of output is 5, must be 1", shape(5, 1, 1, 5, 1, 1)),
])
RESIZE = cases("resize", [
    ("bilinear_half_pixel", "half_pixel is 2", param(0, half_pixel=2)),
    ("bilinear_scale", "scale_h is -1", param(0, scale_h=-1)),
    ("bilinear_scale_large", "scale_w is 2048: output 3 lies at", param(0, scale_w=2048)),
    ("bilinear_channels", "dimension 3 of output is 1", shape(0, -1, 1, 4, 8, 1)),
    ("bilinear_rank", "output has rank 3", shape(0, -1, 4, 4, 2)),
    ("resize_u8_sample", "rows[1]: sample 4 of 4", array(1, "rows", 3, (1 << 31) + 3)),
    ("resize_u8_weight", "weight bits 2139095040",
     array(1, "rows", 1, 0x7F800000)),
    ("resize_u8_weights", "add up to more than 2", array(1, "cols", 4, 0x40000000)),
    ("resize_u8_rows", "rows: 2000 entries do not fit",
     both(shape(1, -1, 1, 2000, 3, 2), apart(1), lambda e: setattr(e, "arena_size", 1 << 16))),
    ("resize_u8_table", "cols at 65536", param(1, cols=65536)),
    ("nearest_row", "rows[1] is 3, the input has 3", array(2, "rows", 1, 3)),
    ("nearest_column", "cols[4] is 9, the input has 3", array(2, "cols", 4, 9)),
])
# fmt: on

CASES = [
    *REQUANTIZATION,
    *R15,
    *CONV,
    *FULLY_CONNECTED,
    *WINDOWS,
    *ELEMENTWISE,
    *LUT,
    *SOFTMAX,
    *MOVES,
    *RESIZE,
]
