# SPDX-License-Identifier: Apache-2.0
"""What each op of the graph is: its attributes and which of its inputs may be missing.

Names and meanings are TFLite's. Ops that others can express (SPLIT, PACK, ...) are rewritten by
passes.legalise before lowering; `lowered` is False for them. A graph is quantized (int8 tensors
with qparams) or float (float32 tensors without them).
"""

from __future__ import annotations

from dataclasses import dataclass

from .expression import Expression
from .graph import QParams


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
    """ADD, SUB, MUL, DIV with broadcasting; of int32 and int64 tensors too, without activation."""

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
    """MEAN, SUM, REDUCE_MAX, REDUCE_MIN, REDUCE_PROD, REDUCE_ALL, REDUCE_ANY over `axes` (each in
    [0, rank))."""

    axes: tuple[int, ...] = ()
    keep_dims: bool = True


@dataclass(frozen=True)
class Pad:
    """PAD and PADV2: `value` as the tensor stores it: an integer, or a float in float graphs."""

    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    value: float = 0


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
    """UNARY: a function of each element.

    `even`: in integers it is what DequantizeLinear, the function and QuantizeLinear of ONNX give:
    float32 between them, ties to even.
    """

    expression: Expression
    even: bool = False


@dataclass(frozen=True)
class MatMul:
    """BATCH_MATMUL: x (..., M, K), y (..., K, N), or their transposes; leading axes broadcast."""

    transpose_x: bool = False
    transpose_y: bool = False


@dataclass(frozen=True)
class Norm:
    """LAYER_NORM: (x - mean) / sqrt(variance + epsilon) * gamma + beta over `axes`; gamma and beta
    (inputs 1 and 2, or None) broadcast against x. Instance norm is one over the pixels' axes.

    Not `centred`, the mean is left alone: x / sqrt(mean(x * x) + epsilon) * gamma + beta, which is
    RMS norm, and with a gamma of 1 / sqrt(elements) L2 normalization.
    """

    axes: tuple[int, ...] = ()
    epsilon: float = 1e-5
    centred: bool = True


@dataclass(frozen=True)
class Gather:
    """GATHER: y = x[..., indices, ...] along `axis`; indices are an int32 or int64 tensor, whose
    first `batch_dims` axes are those of x."""

    axis: int = 0
    batch_dims: int = 0


@dataclass(frozen=True)
class Lookup:
    """LOOKUP: y = values[x + 128] of an int8 tensor's stored numbers; y int8, int32, int64 or
    bool."""

    values: tuple[int, ...] = ()


@dataclass(frozen=True)
class Search:
    """SEARCH: y = values[number of boundaries that are at most x]; x int32 or int64, y int8."""

    boundaries: tuple[int, ...] = ()  # ascending, one at least
    values: tuple[int, ...] = ()  # one more


@dataclass(frozen=True)
class Gelu:
    """GELU; approximate: by tanh."""

    approximate: bool = False


@dataclass(frozen=True)
class Quotient:
    """QUOTIENT: y = real(x1) * factors[x2 + 128], int8: what a DIV of two int8 tensors is.

    Infinite factors count as very large, undefined ones as 0.
    """

    factors: tuple[float, ...] = ()
    activation: str = "NONE"


@dataclass(frozen=True)
class CumSum:
    """CUMSUM: sums of x[0 .. i] along `axis`, `exclusive` ones of x[0 .. i - 1]; `reverse`: from
    the other end."""

    axis: int = 0
    exclusive: bool = False
    reverse: bool = False


@dataclass(frozen=True)
class Lstm:
    """LSTM: a whole sequence, one layer, one direction.

    Sizes: T steps, N sequences, I inputs a step, U cells, P outputs a step (P = U without a
    projection). Gates always come in the order input i, forget f, cell g, output o.

    Inputs, 24 of them; those marked ? may be None:

        0        x         (T, N, I) if time_major, else (N, T, I)
        1 .. 4   Wi? Wf Wg Wo   (U, I)    input weights
        5 .. 8   Ri? Rf Rg Ro   (U, P)    recurrent weights
        9 .. 11  pi? pf? po?    (U,)      peephole weights; pf and po are both there or both None
        12 .. 15 bi? bf bg bo   (U,)      biases
        16       Wp?       (P, U)         projection weights
        17       bp?       (P,)           projection bias, only with Wp
        18       h0?       (N, P)         output before the first step, None: zeros
        19       c0?       (N, U)         cell before the first step, None: zeros
        20 .. 23 li? lf? lg? lo?  (U,)    layer normalization coefficients: lf, lg and lo are all
                                          there or all None

    Wi, Ri and bi are all None where input and forget gate are coupled (CIFG): i = 1 - f; then pi
    and li are None too. Weights and biases are constants.

    Outputs: y, shaped as x with P instead of I; then, both or neither, h (N, P) and c (N, U) behind
    the last step. `reverse` walks from the last step to the first: y stays in the order of x.

    Each step, * elementwise, @ a product with the transposed matrix:

        gate k = i, f, g, o:   s = x_t @ Wk + h @ Rk + pk * c       no pk for g; o takes the new c
                               s = norm(s) * lk                     with layer normalization
                               s = s + bk
        c = sigmoid(f) * c + sigmoid(i) * tanh(g), then clipped to +-cell_clip if that is not 0
        h = sigmoid(o) * tanh(c)
        h = clip(h @ Wp + bp, +-projection_clip), if there is a Wp; no clip where it is 0
        y_t = h

    norm(s) = (s - mean) / standard deviation over the U cells.

    Float: every tensor is float32. Quantized, as TFLite's 8x8_16 form: x, h0, h and y int8 with
    scale and zero point, where h0, h and y have the same ones; W, R, Wp int8, symmetric, one scale
    each; peephole and layer normalization coefficients int16, symmetric; c0 and c int16, symmetric,
    of a scale that is a power of two of 2^-9 or less; biases int32 of scale x * W without layer
    normalization and of the coefficient's scale * 2^-10 with it; bp int32 of scale Wp * hidden.
    `hidden` is the scale and zero point of the int8 h before the projection; without a projection
    it is that of y. `gate_scales` (i, f, g, o) are those of the int16 sums s before layer
    normalization, 0 for what is not there; without layer normalization they have no meaning.
    """

    time_major: bool = False
    reverse: bool = False
    cell_clip: float = 0.0
    projection_clip: float = 0.0
    hidden: QParams | None = None
    gate_scales: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Svdf:
    """SVDF: a fully connected layer of rank `rank` over the last T steps, one step a run.

    Sizes: N sequences, I inputs, F = units * rank filters, T steps of memory. Inputs:

        0  x        (N, I)
        1  feature  (F, I)       weights of one step
        2  time     (F, T)       weights over the steps; T - 1 is the newest
        3  bias?    (units,)
        4  state    (N, F * T)   what the filters gave in the last T steps, oldest first

    Outputs: y (N, units) and the new state, like input 4:

        state[n, f]  = state[n, f, 1:] followed by x[n] @ feature[f]
        y[n, u]      = activation(bias[u] + sum over the filters f of u, and over t, of
                       time[f, t] * state[n, f, t])             u's filters: u * rank .. + rank - 1

    Float: every tensor is float32. Quantized: x and y int8 with scale and zero point, feature int8
    symmetric, time and state int16 symmetric (int8 in some files), bias int32 of scale
    time * state.
    """

    rank: int = 1
    activation: str = "NONE"


@dataclass(frozen=True)
class Recurrent:
    """GRU, RNN of one direction, gates in ONNX's order (GRU z r h).

    Inputs: x (T, N, I), w (gates * H, I), r (gates * H, H), bias (2 * gates * H,) - that of w, then
    that of r - or None, h before the first step (N, H) or None. Outputs: y (T, N, H), the last h
    (N, H).
    """

    reverse: bool = False
    linear_before_reset: bool = False  # of GRU: r scales the recurrent sum, not h


@dataclass(frozen=True)
class TopK:
    """TOP_K: the k largest (or smallest) along `axis`, in order: values and int32 or int64
    indices."""

    axis: int = 0
    k: int = 1
    largest: bool = True


@dataclass(frozen=True)
class NonMaxSuppression:
    """NON_MAX_SUPPRESSION: boxes (B, N, 4), scores (B, C, N); y (B * C * most, 3) int64 rows of
    (batch, class, box), -1 where fewer boxes are chosen."""

    most: int = 1
    iou: float = 0.0
    score: float = float("-inf")
    centred: bool = False  # boxes are x, y of the centre, width, height


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
    "CUMSUM": OpSpec(CumSum),
    "LSTM": OpSpec(Lstm),
    "SVDF": OpSpec(Svdf),
    "GRU": OpSpec(Recurrent),
    "RNN": OpSpec(Recurrent),
    "TOP_K": OpSpec(TopK),
    "NON_MAX_SUPPRESSION": OpSpec(NonMaxSuppression),
    "FLOOR_DIV": OpSpec(),  # these up to LOGICAL_OR: int32 and int64, or masks
    "FLOOR_MOD": OpSpec(),
    "EQUAL": OpSpec(),  # comparisons: of int8 too
    "NOT_EQUAL": OpSpec(),
    "LESS": OpSpec(),  # GREATER is imported as LESS with its operands exchanged
    "LESS_EQUAL": OpSpec(),
    "LOGICAL_AND": OpSpec(),
    "LOGICAL_OR": OpSpec(),
    "SELECT": OpSpec(),  # mask, x1, x2 with broadcasting
    "CAST": OpSpec(),  # int8, int32, int64, bool, and float32 beside int32
    "REDUCE_PROD": OpSpec(Reduce),
    "REDUCE_ALL": OpSpec(Reduce),
    "REDUCE_ANY": OpSpec(Reduce),
    "GATHER_ND": OpSpec(),
    "SCATTER_ND": OpSpec(),  # indices, updates; the output's shape
    "DYNAMIC_UPDATE_SLICE": OpSpec(),
    "LOOKUP": OpSpec(Lookup),
    "SEARCH": OpSpec(Search),
    "QUOTIENT": OpSpec(Quotient),
    "SQUARED_DIFFERENCE": OpSpec(),
    "L2_NORMALIZATION": OpSpec(),  # over the last axis
    "ABS": OpSpec(),  # functions of one number, as the reference computes them in int8
    "RSQRT": OpSpec(),
    "EXP": OpSpec(),
    "ELU": OpSpec(),
    "GELU": OpSpec(Gelu),
    "COPY": OpSpec(),
    "RESHAPE": OpSpec(),  # lowered to a view; SQUEEZE and EXPAND_DIMS are imported as RESHAPE
    "SPLIT": OpSpec(Axis, lowered=False),  # SPLIT_V too: the outputs' shapes say where
    "PACK": OpSpec(Axis, lowered=False),
    "UNPACK": OpSpec(Axis, lowered=False),
    "SPACE_TO_DEPTH": OpSpec(Block, lowered=False),
    "DEPTH_TO_SPACE": OpSpec(Block, lowered=False),
}
