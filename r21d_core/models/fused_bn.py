"""Batch norm, ReLU and the residual sum in few passes over memory, in Triton, for channels-last activations on a GPU.

About half of a training step is such passes, whose time is that of the bytes they move. Without a residual they move 3
times the activation forward (the statistics read it, the normalization reads and writes it) and 5 times backward (the
sums read two tensors, the gradient reads two and writes one). Statistics, sums and arithmetic are fp32.

In `channels_last_3d` an activation (N, C, T, H, W) is N·T·H·W rows of C channels. Triton's tiles need powers of two,
which C rarely is. So the fewest rows that BLOCK divides evenly are laid side by side and split into columns of BLOCK
elements. A program works down one column, in which the channels do not change, and no lane is idle.
"""

# Triton turns arguments into constants and adds launch options.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
import triton
from torch import Tensor, nn

from r21d_core.models import bn_kernels as kernels

BLOCK, ROWS, WARPS = 128, 32, 8  # a tile's width and height, and its warps: the fastest of those measured
PROGRAMS = 4  # per multiprocessor
SAMPLES = 16  # rows whose mean the statistics are computed around
PARTS, WIDTH = 1024, 4  # the tile of partial sums × channels whose total a program finds at once


class TileGrid(NamedTuple):
    """How an activation is split into tiles: columns of BLOCK elements, each in several programs."""

    rows: int
    channels: int
    elements: int
    span: int  # elements of the fewest rows that BLOCK divides evenly
    grid: tuple[int, int]  # of programs: columns × splits
    parts: int  # partial sums of a channel


def tile_grid(x: Tensor) -> TileGrid:
    """Return the TileGrid of an activation (N, C, T, H, W)."""
    channels, elements = x.shape[1], x.numel()
    span = math.lcm(channels, BLOCK)
    programs = PROGRAMS * multiprocessors(x.device)
    splits = min(max(programs * BLOCK // span, 1), max(elements // (ROWS * span), 1))
    return TileGrid(elements // channels, channels, elements, span, (span // BLOCK, splits), splits * span // channels)


@cache
def multiprocessors(device: torch.device) -> int:
    """Return the number of multiprocessors of a GPU, 1 for the CPU that interprets Triton."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def to_channels_last(x: Tensor) -> Tensor:
    """Return `x` in channels-last layout, itself if it is."""
    return x if x.permute(0, 2, 3, 4, 1).is_contiguous() else x.contiguous(memory_format=torch.channels_last_3d)


def bn_table(x: Tensor, norm: nn.BatchNorm3d, statistics: Tensor | None = None) -> Tensor:
    """Return the rows mean, scale, bias and 1/std (4, C), fp32, of the batch; update the running statistics.

    `statistics` (2·parts + 1, C), fp32, holds what is known of the channels-last x: parts of Σ(x − k), parts of
    Σ(x − k)², and k. Without it a pass over x finds them.
    """
    tiles = tile_grid(x)
    if tiles.rows == 1:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape}")
    table = x.new_empty(4, tiles.channels, dtype=torch.float32)
    if statistics is None:
        statistics = x.new_empty(2 * tiles.parts + 1, tiles.channels, dtype=torch.float32)
        kernels.bn_statistics[tiles.grid](
            x, statistics[-1], statistics[: tiles.parts], statistics[tiles.parts : -1], tiles.elements,
            tiles.rows // SAMPLES * tiles.channels, tiles.span, tiles.channels, ROWS, BLOCK, SAMPLES, num_warps=WARPS,
        )  # fmt: skip
    parts = len(statistics) // 2
    kernels.bn_finish_statistics[(triton.cdiv(tiles.channels, WIDTH),)](
        statistics[-1], statistics[:parts], statistics[parts:-1], norm.weight, norm.bias, norm.running_mean,
        norm.running_var, norm.num_batches_tracked, table, tiles.rows, parts, tiles.channels, len(norm.weight),
        norm.momentum, norm.eps, PARTS, WIDTH, num_warps=WARPS,
    )  # fmt: skip
    return table


def batch_norm_backward(
    x: Tensor, table: Tensor, real: int, dy: Tensor, mask: str, dy_skip: Tensor | None = None,
    out: Tensor | None = None, store: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of x, weight (real,), bias (real,), and with `store` g, that of the input of the ReLU.

    `mask` says from what the kernels take the sign of the ReLU: `x`, `out`, or `none` if there is no ReLU. `dy_skip`
    is added to `dy`.
    """
    tiles, dy = tile_grid(x), to_channels_last(dy)
    g = torch.empty_like(x) if store else dy
    sums = x.new_empty(2 * tiles.parts, tiles.channels, dtype=torch.float32)
    kernels.bn_gradient_sums[tiles.grid](
        dy, dy if dy_skip is None else to_channels_last(dy_skip), x, x if out is None else out, g, table, sums,
        sums[tiles.parts :], tiles.elements, tiles.span, tiles.channels, mask, dy_skip is not None, store, ROWS, BLOCK,
        num_warps=WARPS,
    )  # fmt: skip
    factors = x.new_empty(2, tiles.channels, dtype=torch.float32)
    d_weight, d_bias = x.new_empty(2, real, dtype=torch.float32)
    kernels.bn_finish_gradient[(triton.cdiv(tiles.channels, WIDTH),)](
        sums, sums[tiles.parts :], table, factors, d_weight, d_bias, tiles.rows, tiles.parts, tiles.channels, real,
        PARTS, WIDTH, num_warps=WARPS,
    )  # fmt: skip
    dx = torch.empty_like(x)
    kernels.bn_dx[tiles.grid](
        g, x, dx, table, factors, tiles.elements, tiles.span, tiles.channels, "none" if store else mask, ROWS, BLOCK,
        num_warps=WARPS,
    )  # fmt: skip
    return dx, d_weight, d_bias, g


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, residual, norm, relu, statistics):
        x = to_channels_last(x)
        tiles, table = tile_grid(x), bn_table(x, norm, statistics)
        out, has_residual = torch.empty_like(x), residual is not None
        kernels.bn_apply[tiles.grid](
            x, to_channels_last(residual) if has_residual else x, out, table, tiles.elements, tiles.span,
            tiles.channels, relu, has_residual, ROWS, BLOCK, num_warps=WARPS,
        )  # fmt: skip
        ctx.relu, ctx.channels, ctx.has_residual = relu, len(weight), has_residual
        ctx.save_for_backward(x, table, out if has_residual and relu else None)
        ctx.set_materialize_grads(False)
        return out, out.detach()

    @staticmethod
    def backward(ctx, dy, dy_skip):
        x, table, out = ctx.saved_tensors
        if dy is None:
            dy, dy_skip = dy_skip, None
        if dy is None:
            return (None,) * 7
        mask = "none" if not ctx.relu else "x" if out is None else "out"
        store = ctx.has_residual or dy_skip is not None
        dx, d_weight, d_bias, g = batch_norm_backward(x, table, ctx.channels, dy, mask, dy_skip, out, store)
        return dx, d_weight, d_bias, g if ctx.has_residual else None, None, None, None


def batch_norm(
    x: Tensor, norm: nn.BatchNorm3d, relu=True, residual: Tensor | None = None, statistics: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return relu(norm(x) + residual) in training mode, twice, so that backward adds the gradients of its two uses.

    `x` (N, C, T, H, W) may have more channels than `norm`; these must be 0 and stay 0. The running statistics of
    `norm` are updated as by PyTorch. `statistics` are those of `bn_table`, if known. Raises ValueError if a channel has
    only one value.
    """
    return _BatchNorm.apply(x, norm.weight, norm.bias, residual, norm, relu, statistics)


def conv_bias_relu(
    x: Tensor, weight: Tensor, bias: Tensor, stride: list[int], padding: list[int], residual: Tensor | None = None
) -> Tensor:
    """Return relu(convolution + bias + residual) of x, 2-D or 3-D, by one cuDNN kernel, for inference."""
    ones = [1] * len(stride)
    if residual is None:
        return torch.cudnn_convolution_relu(x, weight, bias, stride, padding, ones, 1)
    return torch.cudnn_convolution_add_relu(x, weight, residual, 1.0, bias, stride, padding, ones, 1)
