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
    programs = PROGRAMS * _multiprocessors(x.device)
    splits = min(max(programs * BLOCK // span, 1), max(elements // (ROWS * span), 1))
    return TileGrid(elements // channels, channels, elements, span, (span // BLOCK, splits), splits * span // channels)


@cache
def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def to_channels_last(x: Tensor) -> Tensor:
    """Return `x` in channels-last layout, itself if it is."""
    return x if x.permute(0, 2, 3, 4, 1).is_contiguous() else x.contiguous(memory_format=torch.channels_last_3d)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, residual, norm, relu):
        x = to_channels_last(x)
        tiles = tile_grid(x)
        if tiles.rows == 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape}")
        table = x.new_empty(4, tiles.channels, dtype=torch.float32)
        parts = x.new_empty(2 * tiles.parts + 1, tiles.channels, dtype=torch.float32)
        sums, squares, shifts = parts[: tiles.parts], parts[tiles.parts : -1], parts[-1]
        sample_stride = tiles.rows // SAMPLES * tiles.channels
        kernels.bn_statistics[tiles.grid](
            x, shifts, sums, squares, tiles.elements, sample_stride, tiles.span, tiles.channels, ROWS, BLOCK, SAMPLES,
            num_warps=WARPS,
        )  # fmt: skip
        kernels.bn_finish_statistics[(triton.cdiv(tiles.channels, 8),)](
            shifts, sums, squares, weight, bias, norm.running_mean, norm.running_var, norm.num_batches_tracked, table,
            tiles.rows, tiles.parts, tiles.channels, len(weight), norm.momentum, norm.eps, 512, 8, num_warps=8,
        )  # fmt: skip
        out, has_residual = torch.empty_like(x), residual is not None
        kernels.bn_apply[tiles.grid](
            x, to_channels_last(residual) if has_residual else x, out, table, tiles.elements, tiles.span,
            tiles.channels, relu, has_residual, ROWS, BLOCK, num_warps=WARPS,
        )  # fmt: skip
        ctx.relu, ctx.tiles, ctx.channels, ctx.has_residual = relu, tiles, len(weight), has_residual
        ctx.save_for_backward(x, table, out if has_residual and relu else None)
        ctx.set_materialize_grads(False)
        return out, out.detach()

    @staticmethod
    def backward(ctx, dy, dy_skip):
        x, table, out = ctx.saved_tensors
        if dy is None:
            dy, dy_skip = dy_skip, None
        if dy is None:
            return (None,) * 6
        tiles, store = ctx.tiles, ctx.has_residual or dy_skip is not None
        mask = "none" if not ctx.relu else "x" if out is None else "out"
        dy = to_channels_last(dy)
        dy_skip = dy if dy_skip is None else to_channels_last(dy_skip)
        g = torch.empty_like(x) if store else dy
        parts = x.new_empty(2 * tiles.parts, tiles.channels, dtype=torch.float32)
        sums, products = parts.chunk(2)
        kernels.bn_gradient_sums[tiles.grid](
            dy, dy_skip, x, x if out is None else out, g, table, sums, products, tiles.elements, tiles.span,
            tiles.channels, mask, dy_skip is not dy, store, ROWS, BLOCK, num_warps=WARPS,
        )  # fmt: skip
        factors = x.new_empty(2, tiles.channels, dtype=torch.float32)
        d_weight, d_bias = x.new_empty(2, ctx.channels, dtype=torch.float32)
        kernels.bn_finish_gradient[(triton.cdiv(tiles.channels, 8),)](
            sums, products, table, factors, d_weight, d_bias, tiles.rows, tiles.parts, tiles.channels, ctx.channels,
            512, 8, num_warps=8,
        )  # fmt: skip
        dx = torch.empty_like(x)
        kernels.bn_dx[tiles.grid](
            g, x, dx, table, factors, tiles.elements, tiles.span, tiles.channels, "none" if store else mask, ROWS,
            BLOCK, num_warps=WARPS,
        )  # fmt: skip
        return dx, d_weight, d_bias, g if ctx.has_residual else None, None, None


def batch_norm(x: Tensor, norm: nn.BatchNorm3d, relu=True, residual: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return relu(norm(x) + residual) in training mode, twice, so that backward adds the gradients of its two uses.

    `x` (N, C, T, H, W) may have more channels than `norm`; these must be 0 and stay 0. The running statistics of
    `norm` are updated as by PyTorch. Raises ValueError if a channel has only one value.
    """
    return _BatchNorm.apply(x, norm.weight, norm.bias, residual, norm, relu)


def conv_bias_relu(
    x: Tensor, weight: Tensor, bias: Tensor, stride: list[int], padding: list[int], residual: Tensor | None = None
) -> Tensor:
    """Return relu(convolution + bias + residual) of x, 2-D or 3-D, by one cuDNN kernel, for inference."""
    ones = [1] * len(stride)
    if residual is None:
        return torch.cudnn_convolution_relu(x, weight, bias, stride, padding, ones, 1)
    return torch.cudnn_convolution_add_relu(x, weight, residual, 1.0, bias, stride, padding, ones, 1)
