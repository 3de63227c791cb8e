"""Batch norm, ReLU and the residual sum as few passes over memory, in Triton, for channels-last clips on a GPU.

Half of a training step of these networks is such passes, so bytes are what counts. In units of the activation, and
without a residual: 3 forward (the statistics read, the normalisation reads and writes), 5 backward (the sums read two,
the gradient reads two and writes). Statistics, sums and arithmetic are fp32 whatever the clips are.

A clip (N, C, T, H, W) in `channels_last_3d` is N·T·H·W rows of C channels. C is rarely a power of two, which Triton's
tiles have to be, so several rows together are cut into columns of BLOCK: a program keeps to one such column, its
channels stay the same all the way down, and no lane is idle.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

BLOCK, ROWS, WARPS = 128, 32, 8  # a tile's width and height, and the warps that hold it; the fastest of those tried
PROGRAMS = 4  # on each multiprocessor
SAMPLES = 16  # rows whose mean the squares are taken around


@triton.jit
def _load(pointer, inside, rest, MASKED: tl.constexpr):
    if MASKED:
        return tl.load(pointer + inside, mask=inside < rest, other=0).to(tl.float32)
    else:
        return tl.load(pointer + inside).to(tl.float32)


@triton.jit
def _store(pointer, inside, rest, value, MASKED: tl.constexpr):
    if MASKED:
        tl.store(pointer + inside, value.to(pointer.dtype.element_ty), mask=inside < rest)
    else:
        tl.store(pointer + inside, value.to(pointer.dtype.element_ty))


@triton.jit(do_not_specialize=["elements", "apart", "channels"])
def _statistics(x, shifts, sums, squares, elements, apart, span, channels, ROWS: tl.constexpr, BLOCK: tl.constexpr,
                SAMPLES: tl.constexpr):  # fmt: skip
    """Σ(x − k) and Σ(x − k)² of each column and split, k being a channel's mean over a few rows.

    Around zero the squares would lose a variance that is small beside the mean.
    """
    columns = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    split, splits = tl.program_id(1), tl.num_programs(1)
    sampled = tl.arange(0, SAMPLES)[:, None].to(tl.int64) * apart + (columns % channels)[None, :]
    shift = tl.sum(tl.load(x + sampled).to(tl.float32), 0) / SAMPLES
    tl.store(shifts + columns, shift, mask=(columns < channels) & (split == 0))
    inside = tl.arange(0, ROWS)[:, None] * span + columns[None, :]
    tile = tl.cast(ROWS * span, tl.int64)
    full = elements // tile
    s = tl.zeros([ROWS, BLOCK], tl.float32)
    q = tl.zeros([ROWS, BLOCK], tl.float32)
    for number in range(split, full, splits):
        value = _load(x + number * tile, inside, 0, False) - shift[None, :]
        s += value
        q += value * value
    if split == splits - 1:
        rest = elements - full * tile
        value = _load(x + full * tile, inside, rest, True) - shift[None, :]
        value = tl.where(inside < rest, value, 0.0)
        s += value
        q += value * value
    place = split * span + columns
    tl.store(sums + place, tl.sum(s, 0))
    tl.store(squares + place, tl.sum(q, 0))


@triton.jit
def _total(parts_of, channel, parts, channels, PARTS: tl.constexpr, WIDTH: tl.constexpr):
    total = tl.zeros([PARTS, WIDTH], tl.float32)
    for start in range(0, parts, PARTS):
        row = start + tl.arange(0, PARTS)
        mask = (row < parts)[:, None] & (channel < channels)[None, :]
        total += tl.load(parts_of + row[:, None] * channels + channel[None, :], mask=mask, other=0)
    return tl.sum(total, 0)


@triton.jit(do_not_specialize=["count", "parts", "channels", "real"])
def _finish_statistics(shifts, sums, squares, weight, bias, running_mean, running_var, tracked, table, count, parts,
                       channels, real, momentum, eps, PARTS: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    """The rows mean, scale, bias and 1/std of `table`, and the running statistics; scale and bias of a pad are 0."""
    channel = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    there, mine = channel < channels, channel < real
    offset = _total(sums, channel, parts, channels, PARTS, WIDTH) / count
    var = tl.maximum(_total(squares, channel, parts, channels, PARTS, WIDTH) / count - offset * offset, 0.0)
    mean = tl.load(shifts + channel, mask=there, other=0) + offset
    rstd = 1.0 / tl.sqrt(var + eps)
    tl.store(table + channel, mean, mask=there)
    tl.store(table + channels + channel, rstd * tl.load(weight + channel, mask=mine, other=0), mask=there)
    tl.store(table + 2 * channels + channel, tl.load(bias + channel, mask=mine, other=0), mask=there)
    tl.store(table + 3 * channels + channel, rstd, mask=there)
    before = tl.load(running_mean + channel, mask=mine)
    tl.store(running_mean + channel, before + momentum * (mean - before), mask=mine)
    before = tl.load(running_var + channel, mask=mine)
    unbiased = var * (count / (count - 1.0))
    tl.store(running_var + channel, before + momentum * (unbiased - before), mask=mine)
    if tl.program_id(0) == 0:
        tl.store(tracked, tl.load(tracked) + 1)


@triton.jit
def _apply_tile(x, residual, out, at, inside, rest, mean, scale, bias,
                RELU: tl.constexpr, ADD: tl.constexpr, MASKED: tl.constexpr):  # fmt: skip
    value = (_load(x + at, inside, rest, MASKED) - mean) * scale + bias
    if ADD:
        value += _load(residual + at, inside, rest, MASKED)
    if RELU:
        value = tl.maximum(value, 0.0, propagate_nan=tl.PropagateNan.ALL)
    _store(out + at, inside, rest, value, MASKED)


@triton.jit(do_not_specialize=["elements", "channels"])
def _apply(x, residual, out, table, elements, span, channels,
           RELU: tl.constexpr, ADD: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """(x − mean)·scale + bias, plus the residual, rectified; from the end, which the pass before left in the cache."""
    columns = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    split, splits = tl.program_id(1), tl.num_programs(1)
    channel = columns % channels
    mean = tl.load(table + channel)[None, :]
    scale = tl.load(table + channels + channel)[None, :]
    bias = tl.load(table + 2 * channels + channel)[None, :]
    inside = tl.arange(0, ROWS)[:, None] * span + columns[None, :]
    tile = tl.cast(ROWS * span, tl.int64)
    full = elements // tile
    if split == splits - 1:
        rest = elements - full * tile
        _apply_tile(x, residual, out, full * tile, inside, rest, mean, scale, bias, RELU, ADD, True)
    for number in range(split, full, splits):
        at = (full - 1 - number) * tile
        _apply_tile(x, residual, out, at, inside, 0, mean, scale, bias, RELU, ADD, False)


@triton.jit
def _masked_gradient(dy, dy_again, x, out, kept, at, inside, rest, mean, scale, bias, MASK: tl.constexpr,
                     SECOND: tl.constexpr, KEEP: tl.constexpr, MASKED: tl.constexpr):  # fmt: skip
    """The gradient before the ReLU, and x − mean."""
    g = _load(dy + at, inside, rest, MASKED)
    if SECOND:
        g += _load(dy_again + at, inside, rest, MASKED)
    x_hat = _load(x + at, inside, rest, MASKED) - mean
    if MASK == "x":
        g = tl.where(x_hat * scale + bias > 0, g, 0.0)
    elif MASK == "out":
        g = tl.where(_load(out + at, inside, rest, MASKED) > 0, g, 0.0)
    if KEEP:
        _store(kept + at, inside, rest, g, MASKED)
        g = g.to(kept.dtype.element_ty).to(tl.float32)  # the sums are those of what the next pass reads
    return g, x_hat


@triton.jit(do_not_specialize=["elements", "channels"])
def _gradient_sums(dy, dy_again, x, out, kept, table, sums, products, elements, span, channels, MASK: tl.constexpr,
                   SECOND: tl.constexpr, KEEP: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Σg and Σg·(x − mean) of each column and split, g being the gradient before the ReLU, kept if asked."""
    columns = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    split, splits = tl.program_id(1), tl.num_programs(1)
    channel = columns % channels
    mean = tl.load(table + channel)[None, :]
    scale = tl.load(table + channels + channel)[None, :]
    bias = tl.load(table + 2 * channels + channel)[None, :]
    inside = tl.arange(0, ROWS)[:, None] * span + columns[None, :]
    tile = tl.cast(ROWS * span, tl.int64)
    full = elements // tile
    s = tl.zeros([ROWS, BLOCK], tl.float32)
    p = tl.zeros([ROWS, BLOCK], tl.float32)
    for number in range(split, full, splits):
        g, x_hat = _masked_gradient(dy, dy_again, x, out, kept, number * tile, inside, 0, mean, scale, bias, MASK,
                                    SECOND, KEEP, False)  # fmt: skip
        s += g
        p += g * x_hat
    if split == splits - 1:
        rest = elements - full * tile
        g, x_hat = _masked_gradient(dy, dy_again, x, out, kept, full * tile, inside, rest, mean, scale, bias, MASK,
                                    SECOND, KEEP, True)  # fmt: skip
        s += g  # past the end g is 0
        p += g * x_hat
    place = split * span + columns
    tl.store(sums + place, tl.sum(s, 0))
    tl.store(products + place, tl.sum(p, 0))


@triton.jit(do_not_specialize=["count", "parts", "channels", "real"])
def _finish_gradient(sums, products, table, factors, d_weight, d_bias, count, parts, channels, real,
                     PARTS: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    """The gradients of weight and bias, and b and c of dx = scale·g + b·(x − mean) + c as rows of `factors`."""
    channel = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    there, mine = channel < channels, channel < real
    s = _total(sums, channel, parts, channels, PARTS, WIDTH)
    p = _total(products, channel, parts, channels, PARTS, WIDTH)
    scale = tl.load(table + channels + channel, mask=there, other=0)
    rstd = tl.load(table + 3 * channels + channel, mask=there, other=0)
    tl.store(d_weight + channel, p * rstd, mask=mine)
    tl.store(d_bias + channel, s, mask=mine)
    tl.store(factors + channel, -scale * rstd * rstd * p / count, mask=there)
    tl.store(factors + channels + channel, -scale * s / count, mask=there)


@triton.jit
def _dx_tile(dy, x, dx, at, inside, rest, mean, scale, bias, b, c, MASK: tl.constexpr, MASKED: tl.constexpr):
    g, x_hat = _masked_gradient(dy, dy, x, x, dx, at, inside, rest, mean, scale, bias, MASK, False, False, MASKED)
    _store(dx + at, inside, rest, g * scale + x_hat * b + c, MASKED)


@triton.jit(do_not_specialize=["elements", "channels"])
def _dx(dy, x, dx, table, factors, elements, span, channels, MASK: tl.constexpr, ROWS: tl.constexpr,
        BLOCK: tl.constexpr):  # fmt: skip
    columns = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    split, splits = tl.program_id(1), tl.num_programs(1)
    channel = columns % channels
    mean = tl.load(table + channel)[None, :]
    scale = tl.load(table + channels + channel)[None, :]
    bias = tl.load(table + 2 * channels + channel)[None, :]
    b = tl.load(factors + channel)[None, :]
    c = tl.load(factors + channels + channel)[None, :]
    inside = tl.arange(0, ROWS)[:, None] * span + columns[None, :]
    tile = tl.cast(ROWS * span, tl.int64)
    full = elements // tile
    if split == splits - 1:
        rest = elements - full * tile
        _dx_tile(dy, x, dx, full * tile, inside, rest, mean, scale, bias, b, c, MASK, True)
    for number in range(split, full, splits):
        at = (full - 1 - number) * tile
        _dx_tile(dy, x, dx, at, inside, 0, mean, scale, bias, b, c, MASK, False)


@dataclass(frozen=True)
class TileGrid:
    """How rows of `channels` are cut into columns for so many programs."""

    rows: int
    channels: int
    span: int  # elements of the fewest rows that whole columns of BLOCK make up
    splits: int

    @property
    def elements(self) -> int:
        return self.rows * self.channels

    @property
    def grid(self) -> tuple[int, int]:
        return self.span // BLOCK, self.splits

    @property
    def parts(self) -> int:
        """Partial sums of a channel."""
        return self.splits * self.span // self.channels


def tile_grid(x: Tensor) -> TileGrid:
    """The Cut of clips (N, C, T, H, W)."""
    channels = x.shape[1]
    span = channels * BLOCK // math.gcd(channels, BLOCK)
    programs = PROGRAMS * _multiprocessors(x.device)
    splits = min(max(programs * BLOCK // span, 1), max(x.numel() // (ROWS * span), 1))
    return TileGrid(x.numel() // channels, channels, span, splits)


_COUNTED: dict[torch.device, int] = {}


def _multiprocessors(device: torch.device) -> int:
    if device not in _COUNTED:
        cuda = device.type == "cuda"
        _COUNTED[device] = torch.cuda.get_device_properties(device).multi_processor_count if cuda else 1
    return _COUNTED[device]


def to_channels_last(x: Tensor) -> Tensor:
    """`x` with its channels last in memory, itself if they are."""
    return x if x.permute(0, 2, 3, 4, 1).is_contiguous() else x.contiguous(memory_format=torch.channels_last_3d)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, residual, norm, relu):
        x = to_channels_last(x)
        at = tile_grid(x)
        if at.rows == 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape}")
        table = x.new_empty(4, at.channels, dtype=torch.float32)
        parts = x.new_empty(2 * at.parts + 1, at.channels, dtype=torch.float32)
        sums, squares, shifts = parts[: at.parts], parts[at.parts : -1], parts[-1]
        apart = at.rows // SAMPLES * at.channels
        _statistics[at.grid](x, shifts, sums, squares, at.elements, apart, at.span, at.channels, ROWS, BLOCK, SAMPLES,
                             num_warps=WARPS)  # fmt: skip
        _finish_statistics[(triton.cdiv(at.channels, 8),)](
            shifts, sums, squares, weight, bias, norm.running_mean, norm.running_var, norm.num_batches_tracked, table,
            at.rows, at.parts, at.channels, len(weight), norm.momentum, norm.eps, 512, 8, num_warps=8,
        )  # fmt: skip
        residual = None if residual is None else to_channels_last(residual)
        out = torch.empty_like(x)
        add = residual is not None
        _apply[at.grid](x, residual if add else x, out, table, at.elements, at.span, at.channels, relu, add, ROWS,
                        BLOCK, num_warps=WARPS)  # fmt: skip
        ctx.relu, ctx.cut, ctx.real, ctx.added = relu, at, len(weight), add
        ctx.save_for_backward(x, table, out if residual is not None and relu else None)
        ctx.set_materialize_grads(False)
        return out, out.detach()

    @staticmethod
    def backward(ctx, dy, dy_again):
        x, table, out = ctx.saved_tensors
        if dy is None:
            dy, dy_again = dy_again, None
        if dy is None:
            return (None,) * 6
        at, keep = ctx.cut, ctx.added or dy_again is not None
        mask = "none" if not ctx.relu else "x" if out is None else "out"
        dy = to_channels_last(dy)
        dy_again = dy if dy_again is None else to_channels_last(dy_again)
        kept = torch.empty_like(x) if keep else dy
        parts = x.new_empty(2 * at.parts, at.channels, dtype=torch.float32)
        sums, products = parts.chunk(2)
        _gradient_sums[at.grid](dy, dy_again, x, x if out is None else out, kept, table, sums, products, at.elements,
                                at.span, at.channels, mask, dy_again is not dy, keep, ROWS, BLOCK,
                                num_warps=WARPS)  # fmt: skip
        factors = x.new_empty(2, at.channels, dtype=torch.float32)
        d_weight, d_bias = x.new_empty(2, ctx.real, dtype=torch.float32)
        _finish_gradient[(triton.cdiv(at.channels, 8),)](
            sums, products, table, factors, d_weight, d_bias, at.rows, at.parts, at.channels, ctx.real, 512, 8,
            num_warps=8,
        )  # fmt: skip
        dx = torch.empty_like(x)
        _dx[at.grid](kept, x, dx, table, factors, at.elements, at.span, at.channels, "none" if keep else mask, ROWS,
                     BLOCK, num_warps=WARPS)  # fmt: skip
        return dx, d_weight, d_bias, kept if ctx.added else None, None, None


def batch_norm(
    x: Tensor, norm: nn.BatchNorm3d, relu: bool = True, residual: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """relu(norm(x) + residual) in training, twice the same tensor: the gradients of two uses are then summed here.

    `x` (N, C, T, H, W) may have more channels than `norm`, which must be 0 and stay 0. The running statistics of
    `norm` move on as PyTorch's do. Raises ValueError where a channel has one value only.
    """
    return _BatchNorm.apply(x, norm.weight, norm.bias, residual, norm, relu)


def conv_bias_relu(
    x: Tensor, weight: Tensor, bias: Tensor, stride: list[int], padding: list[int], residual: Tensor | None = None
) -> Tensor:
    """relu(convolution + bias + residual) of x, 2-D or 3-D, in one kernel of cuDNN, for inference."""
    ones = [1] * len(stride)
    if residual is None:
        return torch.cudnn_convolution_relu(x, weight, bias, stride, padding, ones, 1)
    return torch.cudnn_convolution_add_relu(x, weight, residual, 1.0, bias, stride, padding, ones, 1)
