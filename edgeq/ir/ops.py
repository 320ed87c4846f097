# SPDX-License-Identifier: Apache-2.0
"""What each op of the graph is: its attributes and which of its inputs may be missing.

Names and meanings are TFLite's. Ops that others can express (SPLIT, PACK, ...) are rewritten by
passes.legalise before lowering; `lowered` is False for them. A graph is quantized (int8 tensors
with qparams) or float (float32 tensors without them).
"""

from __future__ import annotations

from dataclasses import dataclass

from .expression import Expression


@dataclass(frozen=True)
class NoAttrs:
    pass


@dataclass(frozen=True)
class Conv2D:
    """CONV_2D: x (N, H, W, C), w (O, KH, KW, C / groups), bias (O,) or None.

    Padding is explicit; what lies below and to the right follows from the output's shape.
    """

    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad_top: int = 0
    pad_left: int = 0
    groups: int = 1
    activation: str = "NONE"  # NONE, RELU, RELU6, RELU_N1_TO_1


@dataclass(frozen=True)
class DepthwiseConv2D:
    """x (N, H, W, C), w (1, KH, KW, C * multiplier), bias or None."""

    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad_top: int = 0
    pad_left: int = 0
    multiplier: int = 1
    activation: str = "NONE"


@dataclass(frozen=True)
class FullyConnected:
    """x (..., K), w (O, K), bias (O,) or None, y (..., O) of any rank."""

    activation: str = "NONE"


@dataclass(frozen=True)
class TransposeConv:
    """x (N, H, W, C), w (O, KH, KW, C), bias or None."""

    stride: tuple[int, int] = (1, 1)
    pad_top: int = 0
    pad_left: int = 0
    activation: str = "NONE"


@dataclass(frozen=True)
class Arithmetic:
    """ADD, SUB, MUL, DIV with broadcasting."""

    activation: str = "NONE"


@dataclass(frozen=True)
class Pool:
    """AVERAGE_POOL_2D, MAX_POOL_2D."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    pad_top: int = 0
    pad_left: int = 0
    activation: str = "NONE"


@dataclass(frozen=True)
class Reduce:
    """MEAN, SUM, REDUCE_MAX, REDUCE_MIN over `axes` (each in [0, rank))."""

    axes: tuple[int, ...] = ()
    keep_dims: bool = True


@dataclass(frozen=True)
class Pad:
    """PAD and PADV2: `value` in the stored integer domain."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    value: int = 0


@dataclass(frozen=True)
class MirrorPad:
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    reflect: bool = True


@dataclass(frozen=True)
class Transpose:
    perm: tuple[int, ...] = ()


@dataclass(frozen=True)
class Axis:
    """CONCATENATION, SPLIT, SPLIT_V, PACK, UNPACK, ARG_MAX: axis in [0, rank)."""

    axis: int = 0
    activation: str = "NONE"


@dataclass(frozen=True)
class Slice:
    """SLICE and STRIDED_SLICE with constant bounds: y[i] = x[begin + i * stride], i < y's size.

    Dimensions that STRIDED_SLICE shrinks or adds are a RESHAPE behind it.
    """

    begin: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()


@dataclass(frozen=True)
class Softmax:
    beta: float = 1.0


@dataclass(frozen=True)
class LeakyRelu:
    alpha: float = 0.2


@dataclass(frozen=True)
class Resize:
    """RESIZE_BILINEAR, RESIZE_NEAREST_NEIGHBOR."""

    align_corners: bool = False
    half_pixel_centers: bool = False


@dataclass(frozen=True)
class Block:
    """SPACE_TO_DEPTH, DEPTH_TO_SPACE."""

    size: int = 2


@dataclass(frozen=True)
class Unary:
    """UNARY: a function of each element."""

    expression: Expression


@dataclass(frozen=True)
class MatMul:
    """BATCH_MATMUL: x (..., M, K), y (..., K, N), or their transposes; leading axes broadcast."""

    transpose_x: bool = False
    transpose_y: bool = False


@dataclass(frozen=True)
class Norm:
    """LAYER_NORM: (x - mean) / sqrt(variance + epsilon) * gamma + beta over `axes`; gamma and beta
    (inputs 1 and 2, or None) broadcast against x. Instance norm is one over the pixels' axes."""

    axes: tuple[int, ...] = ()
    epsilon: float = 1e-5


@dataclass(frozen=True)
class Gather:
    """GATHER: y = x[..., indices, ...] along `axis`; indices are an int32 tensor."""

    axis: int = 0


@dataclass(frozen=True)
class OpSpec:
    attrs: type = NoAttrs
    lowered: bool = True


OPS: dict[str, OpSpec] = {
    "CONV_2D": OpSpec(Conv2D),
    "DEPTHWISE_CONV_2D": OpSpec(DepthwiseConv2D),
    "FULLY_CONNECTED": OpSpec(FullyConnected),
    "TRANSPOSE_CONV": OpSpec(TransposeConv),
    "ADD": OpSpec(Arithmetic),
    "SUB": OpSpec(Arithmetic),
    "MUL": OpSpec(Arithmetic),
    "MAXIMUM": OpSpec(),
    "MINIMUM": OpSpec(),
    "AVERAGE_POOL_2D": OpSpec(Pool),
    "MAX_POOL_2D": OpSpec(Pool),
    "MEAN": OpSpec(Reduce),
    "SUM": OpSpec(Reduce),
    "REDUCE_MAX": OpSpec(Reduce),
    "PAD": OpSpec(Pad),
    "MIRROR_PAD": OpSpec(MirrorPad),
    "TRANSPOSE": OpSpec(Transpose),
    "CONCATENATION": OpSpec(Axis),
    "SLICE": OpSpec(Slice),
    "SOFTMAX": OpSpec(Softmax),
    "LOG_SOFTMAX": OpSpec(),
    "LOGISTIC": OpSpec(),
    "TANH": OpSpec(),
    "RELU": OpSpec(),
    "RELU6": OpSpec(),
    "RELU_N1_TO_1": OpSpec(),
    "HARD_SWISH": OpSpec(),
    "LEAKY_RELU": OpSpec(LeakyRelu),
    "PRELU": OpSpec(),
    "RESIZE_BILINEAR": OpSpec(Resize),
    "RESIZE_NEAREST_NEIGHBOR": OpSpec(Resize),
    "QUANTIZE": OpSpec(),
    "DEQUANTIZE": OpSpec(),
    "ARG_MAX": OpSpec(Axis),
    "UNARY": OpSpec(Unary),
    "DIV": OpSpec(Arithmetic),
    "BATCH_MATMUL": OpSpec(MatMul),
    "LAYER_NORM": OpSpec(Norm),
    "GATHER": OpSpec(Gather),
    "REDUCE_MIN": OpSpec(Reduce),
    "COPY": OpSpec(),
    "RESHAPE": OpSpec(),  # lowered to a view; SQUEEZE and EXPAND_DIMS are imported as RESHAPE
    "SPLIT": OpSpec(Axis, lowered=False),  # SPLIT_V too: the outputs' shapes say where
    "PACK": OpSpec(Axis, lowered=False),
    "UNPACK": OpSpec(Axis, lowered=False),
    "SPACE_TO_DEPTH": OpSpec(Block, lowered=False),
    "DEPTH_TO_SPACE": OpSpec(Block, lowered=False),
}
