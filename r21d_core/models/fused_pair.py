"""The functions in Triton and cuDNN that `FastVideoResNet` runs, with (2+1)D pairs in fewer passes over memory.

Between spatial and temporal convolution there are more planes than elsewhere, 2.25 times as many in conv2_x, and batch
norm and ReLU there are a third of a training step. Where the kernels of `pair_kernels` fit, both convolutions sum what
they write for the statistics of the batch norm behind them, and the temporal one normalizes and rectifies what it
reads, forward and for the gradient of its weight: no normalized midplanes are written or kept.

In inference cuDNN computes the 144 midplanes of conv2_x in tiles of 128, so in two of which one is nearly empty. There
128 of them and the other 16 are separate convolutions, the second one of four pixels at once, which has 64 channels,
and the temporal convolution reads both.
"""

# Triton turns arguments into constants and adds launch options.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor, nn

from r21d_core.models import pair_kernels as kernels
from r21d_core.models.conv_layout import (
    COLUMNS,
    conv_gradients,
    convolve,
    from_conv_shape,
    is_plain,
    pack_weight,
    to_conv_shape,
    unpack_weight,
    widen_kernel,
)
from r21d_core.models.fused_bn import (
    batch_norm,
    batch_norm_backward,
    bn_table,
    conv_bias_relu,
    multiprocessors,
    to_channels_last,
)

__all__ = [
    "batch_norm", "can_fuse", "can_split", "conv_bias_relu", "convolve_with_statistics", "infer_split",
    "norm_relu_conv", "split_pair",
]  # fmt: skip

MAX_MIDPLANES = 144  # with more the kernels are not faster than what they replace
PLANES = (16, 32, 64)  # before and behind a pair
SPLIT = (128, 16)  # midplanes of conv2_x
MAX_OFFSET = 2**31  # of elements within a clip; clips have 64-bit offsets
CAPABILITY = 9  # the major version of the GPUs on which the kernels were measured, H100 and H200


class Launch(NamedTuple):
    """How a kernel is launched: pixels of a tile, warps and stages of loading."""

    rows: int
    warps: int
    stages: int
    programs: int = 1  # per multiprocessor, if they take tiles in turn


# The fastest of those measured.
SPATIAL = Launch(128, 4, 3)
FORWARD = Launch(64, 4, 3)
INFERENCE = Launch(128, 8, 3)
WEIGHT = Launch(64, 8, 3)
NARROW_WEIGHT = Launch(64, 4, 2, 3)  # up to 64 midplanes, as in the stem


def split_channels(channels: int) -> tuple[int, int]:
    """Return the two powers of two, at least 16, whose sum is `channels`; zeros if there are none."""
    second = channels & -channels
    first = channels - second
    return (first, second) if first & (first - 1) == 0 and first > second >= 16 else (0, 0)


def has_kernels(midplanes: int, x: Tensor) -> bool:
    """Return whether the kernels can do `midplanes` where x is: on a GPU as they were measured on, or interpreted."""
    is_measured = x.device.type != "cuda" or torch.cuda.get_device_capability(x.device)[0] == CAPABILITY
    return midplanes <= MAX_MIDPLANES and any(split_channels(midplanes)) and is_measured


def can_fuse(conv: nn.Conv3d, midplanes: Tensor) -> bool:
    """Return whether `norm_relu_conv` can run the temporal convolution `conv` of midplanes (N, C, T, H, W)."""
    return (
        is_plain(conv, (3, 1, 1))
        and conv.out_channels in PLANES
        and midplanes[0].numel() < MAX_OFFSET
        and has_kernels(midplanes.shape[1], midplanes)
    )


def convolve_with_statistics(
    conv: nn.Conv3d, prepared: Tensor, packed: Tensor, shape: torch.Size, norm: nn.BatchNorm3d
) -> tuple[Tensor, Tensor | None]:
    """Return what `convolve` does and, where a kernel has them for free, its statistics for `norm`."""
    if not (is_plain(conv, (1, 3, 3)) and packed.shape[1] in PLANES and has_kernels(len(packed), packed)):
        return convolve(conv, prepared, packed, shape), None
    y, statistics = spatial_forward(prepared, packed, norm.running_mean)
    return from_conv_shape(conv, y, shape), statistics


class _NormReluConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, norm_weight, norm_bias, weight, norm, conv, next_norm, statistics):
        x = to_channels_last(x)
        table, packed = bn_table(x, norm, statistics), pack_weight(conv, weight, x.dtype)
        y, statistics = pair_forward(x, packed, table, next_norm.running_mean)
        ctx.conv, ctx.channels = conv, len(norm_weight)
        ctx.save_for_backward(x, table, weight, packed)
        ctx.mark_non_differentiable(statistics)
        ctx.set_materialize_grads(False)
        return y, statistics

    @staticmethod
    def backward(ctx, dy, _):
        x, table, weight, packed = ctx.saved_tensors
        dy = to_channels_last(dy)
        d_weight = unpack_weight(ctx.conv, pair_weight_gradient(x, dy, table), weight)
        dh, _ = conv_gradients(ctx.conv, dy, to_conv_shape(ctx.conv, x), packed, x.shape, (True, False))
        dx, d_norm_weight, d_norm_bias, _ = batch_norm_backward(x, table, ctx.channels, dh, "x")
        return dx, d_norm_weight, d_norm_bias, d_weight, None, None, None, None


def norm_relu_conv(
    midplanes: Tensor,
    norm: nn.BatchNorm3d,
    conv: nn.Conv3d,
    next_norm: nn.BatchNorm3d,
    statistics: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return conv(relu(norm(midplanes))), (N, O, T, H, W), in training mode, and its statistics for `next_norm`.

    `midplanes` (N, C, T, H, W) may have more channels than `norm`; these must be 0. The running statistics of `norm`
    are updated as by PyTorch. `statistics` are those of the midplanes, if known. Raises ValueError if a channel has
    only one value.
    """
    return _NormReluConv.apply(midplanes, norm.weight, norm.bias, conv.weight, norm, conv, next_norm, statistics)


# The launchers take what `has_kernels` accepts. Statistics (2·parts + 1, channels) are those of `bn_table`.


def spatial_forward(x: Tensor, packed: Tensor, running_mean: Tensor) -> tuple[Tensor, Tensor]:
    """Return the 3×3 convolution y (N, C, H, W) of x (N, I, H, W) by packed (C, I, 3, 3), and its statistics."""
    x = x.contiguous(memory_format=torch.channels_last)
    (n, i, h, w), c = x.shape, len(packed)
    y = x.new_empty(n, h, w, c).permute(0, 3, 1, 2)
    programs = triton.cdiv(n * h * w, SPATIAL.rows)
    statistics = x.new_empty(2 * programs + 1, c, dtype=torch.float32)
    kernels.pair_spatial_forward[(programs,)](
        x, packed, y, running_mean, statistics[-1], statistics[:programs], statistics[programs:-1], n * h * w, h, w,
        len(running_mean), i, c, *split_channels(c), SPATIAL.rows, SPATIAL.stages, num_warps=SPATIAL.warps,
    )  # fmt: skip
    return y, statistics


def pair_forward(x: Tensor, packed: Tensor, table: Tensor, running_mean: Tensor) -> tuple[Tensor, Tensor]:
    """Return y (N, O, T, H, W) of channels-last x (N, C, T, H, W) by packed (O, C, 3, 1), and its statistics."""
    (n, c, t, h, w), o = x.shape, len(packed)
    y = x.new_empty(n, t, h, w, o).permute(0, 4, 1, 2, 3)
    programs = n * triton.cdiv(h * w, FORWARD.rows)
    statistics = x.new_empty(2 * programs + 1, o, dtype=torch.float32)
    kernels.pair_forward[(programs,)](
        x, packed, y, table, running_mean, statistics[-1], statistics[:programs], statistics[programs:-1], 0, t, h * w,
        len(running_mean), c, *split_channels(c), o, FORWARD.rows, FORWARD.stages, num_warps=FORWARD.warps,
    )  # fmt: skip
    return y, statistics


def pair_weight_gradient(x: Tensor, dy: Tensor, table: Tensor) -> Tensor:
    """Return dW (O, C, 3, 1), fp32, from channels-last x (N, C, T, H, W) and dy (N, O, T, H, W)."""
    (n, c, t, h, w), o = x.shape, dy.shape[1]
    launch = WEIGHT if c > 64 else NARROW_WEIGHT
    programs = min(n * triton.cdiv(h * w, launch.rows), multiprocessors(x.device) * launch.programs)
    d_weight = x.new_empty(programs, o, 3, c, dtype=torch.float32)
    kernels.pair_weight_gradient[(programs,)](
        x, dy, table, d_weight, 0, n, t, h * w, c, *split_channels(c), o, launch.rows, launch.stages,
        num_warps=launch.warps,
    )  # fmt: skip
    return d_weight.sum(0).permute(0, 2, 1).unsqueeze(3)


class SplitPair(NamedTuple):
    """The folded weights and biases of a pair's convolutions: 1×3×3 to 128 planes and to the others, and 3×1×1."""

    wide: tuple[Tensor, Tensor]
    narrow: tuple[Tensor, Tensor]
    temporal: tuple[Tensor, Tensor]


def can_split(pair: nn.Module, x: Tensor) -> bool:
    """Return whether `infer_split` can run `pair` on x (N, I, T, H, W): a spatial and a temporal convolution."""
    if not (isinstance(pair, nn.Sequential) and len(pair) == 4):  # with batch norm and ReLU between
        return False
    layers: tuple[Any, ...] = tuple(pair)
    spatial, _, _, temporal = layers
    is_pair = is_plain(spatial, (1, 3, 3)) and is_plain(temporal, (3, 1, 1))
    is_split = spatial.out_channels == sum(SPLIT) and temporal.out_channels in PLANES and x.shape[4] % COLUMNS == 0
    return is_pair and is_split and sum(SPLIT) * x[0, 0].numel() < MAX_OFFSET and has_kernels(sum(SPLIT), x)


def split_pair(spatial: tuple[Tensor, Tensor], temporal: tuple[Tensor, Tensor]) -> SplitPair:
    """Return the SplitPair of folded weights (C, I, 3, 3) and (O, C, 3, 1), with their biases."""
    (weight, bias), wide = spatial, SPLIT[0]
    narrow = widen_kernel(weight[wide:], COLUMNS), bias[wide:].repeat(COLUMNS)
    return SplitPair((weight[:wide], bias[:wide]), narrow, temporal)


def infer_split(pair: SplitPair, x: Tensor, residual: Tensor | None) -> Tensor:
    """Return relu(temporal(relu(spatial(x))) + residual), (N, O, T, H, W), channels last, of x (N, I, T, H, W)."""
    frames, (n, _, t, h, w) = x.transpose(1, 2).flatten(0, 1), x.shape
    wide = conv_bias_relu(frames, *pair.wide, [1, 1], [1, 1])
    narrow = conv_bias_relu(frames, *pair.narrow, [1, COLUMNS], [1, 1])  # 4 pixels of 16 planes are one of 64
    weight, bias = pair.temporal
    y = x.new_empty(n, t, h, w, len(weight)).permute(0, 4, 1, 2, 3)
    kernels.pair_inference[(n * triton.cdiv(h * w, INFERENCE.rows),)](
        wide, narrow, weight, bias, y if residual is None else to_channels_last(residual), y, t, h * w, sum(SPLIT),
        *SPLIT, len(weight), residual is not None, INFERENCE.rows, INFERENCE.stages, num_warps=INFERENCE.warps,
    )  # fmt: skip
    return y
