# SPDX-License-Identifier: Apache-2.0
"""What an operator costs."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

Shape = Sequence[int]


def macs(opcode: str, inputs: Sequence[Shape], output: Shape) -> int:
    """Multiply-accumulates of a convolution or matrix product; 0 for every other op.

    Shapes are those of the .eqm operators: x, w, and y. Taps in the padding count.
    """
    if opcode in ("CONV_2D", "FULLY_CONNECTED"):  # w (O, KH, KW, C / groups) or (O, K)
        return prod(output) * prod(inputs[1][1:])
    if opcode == "DEPTHWISE_CONV_2D":  # w (1, KH, KW, channels)
        return prod(output) * prod(inputs[1][1:3])
    if opcode == "TRANSPOSE_CONV":  # w (O, KH, KW, C): every input value meets O * KH * KW weights
        return prod(inputs[0]) * prod(inputs[1][:3])
    return 0
