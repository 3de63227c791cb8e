"""The form in which `FastVideoResNet` runs a convolution: shapes, packed weights, and several pixels at once."""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS_LAST = torch.channels_last_3d

# A spatial convolution runs as a 2-D one on frames, a temporal one as a 2-D one over (T, H·W), others as they are. A
# stem has too few input channels for tensor cores: on a GPU 2 rows of 8 pixels become one pixel of 64 channels, from
# which the stem computes COLUMNS pixels of its output at once. R2D's, which spans the clip, is a spatial convolution of
# one frame there, with the channels of all frames, which are enough.
COLUMNS = 4
WIDE_TILE_DEVICES = ("cuda",)  # on a CPU the multiplications by zero that are added cost more than they save


def conv_kind(conv: nn.Conv3d) -> str:
    """Return `spatial` for 1×d×d, `temporal` for 3×1×1, else, or with a stride along the other axes, `full`.

    A stem of `joins_frames` is `spatial`.
    """
    (time, height, _), (frames, *pixels) = conv.kernel_size, conv.stride
    if joins_frames(conv) or (time == 1 and height > 1 and frames == 1):
        return "spatial"
    return "temporal" if height == 1 and time > 1 and pixels == [1, 1] else "full"


def is_plain(conv: nn.Module, size: tuple[int, int, int]) -> bool:
    """Return whether `conv` is a convolution with a kernel of `size`, stride 1 and an output as large as its input."""
    padding = tuple(axis // 2 for axis in size)
    return isinstance(conv, nn.Conv3d) and (conv.kernel_size, conv.stride, conv.padding) == (size, (1, 1, 1), padding)


def is_stem(conv: nn.Conv3d) -> bool:
    """Return whether `conv` has conv1's kernel, d = 7."""
    return conv.kernel_size[1] == 7


def joins_frames(conv: nn.Conv3d) -> bool:
    """Return whether `conv` is a stem on a GPU that spans the clip, whose frames become channels of one frame."""
    return is_stem(conv) and conv.kernel_size[0] > 3 and conv.weight.device.type in WIDE_TILE_DEVICES


def is_space_to_depth(conv: nn.Conv3d) -> bool:
    """Return whether `conv` is a stem that takes the output of `space_to_depth`; clips then get no gradient."""
    return is_stem(conv) and conv.kernel_size[0] <= 3 and conv.weight.device.type in WIDE_TILE_DEVICES


def stride_padding(conv: nn.Conv3d) -> tuple[list[int], list[int]]:
    """Return stride and padding of the convolution, 2-D or 3-D, that `conv` runs as."""
    stride, padding = list(conv.stride), list(conv.padding)
    if is_space_to_depth(conv):
        stride, padding = [stride[0], 1, 1], [padding[0], 0, 0]
    axes = {"temporal": slice(0, 2), "full": slice(None)}.get(conv_kind(conv), slice(1, None))
    return stride[axes], padding[axes]


def to_conv_shape(conv: nn.Conv3d, x: Tensor) -> Tensor:
    """Return (N, C, T, H, W) as spatial (N·T, C, H, W), temporal (N, C, T, H·W), or unchanged."""
    kind = conv_kind(conv)
    return x.transpose(1, 2).flatten(0, 1) if kind == "spatial" else x.flatten(3) if kind == "temporal" else x


def from_conv_shape(conv: nn.Conv3d, y: Tensor, shape: torch.Size) -> Tensor:
    """Return the output of `conv` as (N, C, T, H, W), the inverse of `to_conv_shape`; `shape` is its 5-D input's."""
    kind = conv_kind(conv)
    if kind == "spatial":
        y = y.unflatten(0, (shape[0], -1)).transpose(1, 2)
    y = y.unflatten(3, (-1, shape[4])) if kind == "temporal" else y
    return unpack_columns(y, (shape[4] + 1) // 2) if is_space_to_depth(conv) else y


def convolve(
    conv: nn.Conv3d, prepared: Tensor, packed: Tensor, shape: torch.Size, bias: Tensor | None = None
) -> Tensor:
    """Return (N, out, T', H', W') from the outputs of `prepare_input`, of an input of `shape`, and `pack_weight`."""
    if bias is None and computes_pairs(conv, len(packed), shape):
        return from_conv_shape(conv, convolve_pairs(prepared, packed), shape)
    stride, padding = stride_padding(conv)
    run = F.conv3d if packed.dim() == 5 else F.conv2d
    return from_conv_shape(conv, run(prepared, packed, bias, stride, padding), shape)


def conv_gradients(
    conv: nn.Conv3d, dy: Tensor, prepared: Tensor, packed: Tensor, shape: torch.Size, wanted: tuple[bool, bool]
) -> tuple[Any, Any]:
    """Return the gradients of the input of `shape` and of `packed`, None for those that are not `wanted`."""
    stride, padding = stride_padding(conv)
    dy = dy.contiguous(memory_format=CHANNELS_LAST)
    dy = to_conv_shape(conv, pack_columns(dy) if is_space_to_depth(conv) else dy)
    of_pairs = wanted[0] and computes_pairs(conv, packed.shape[1], shape)
    dx, dw, _ = torch.ops.aten.convolution_backward(
        dy, prepared, packed, None, stride, padding, [1] * len(stride), False, [0] * len(stride), 1,
        [wanted[0] and not of_pairs, wanted[1], False],
    )  # fmt: skip
    if of_pairs:
        dx = convolve_pairs(dy, packed.transpose(0, 1).flip(2, 3))
    if dx is not None:
        dx = from_conv_shape(conv, dx, shape).view(shape)  # the frames that `joins_frames` joined apart again
    return dx, dw


def computes_pairs(conv: nn.Conv3d, channels: int, shape: torch.Size) -> bool:
    """Return whether to compute a 1×3×3 convolution's `channels`, of `shape`, by `convolve_pairs`.

    cuDNN computes 128 channels at once. Two pixels of 64 at once take a third more products in an eighth less time:
    0.63 ms for 0.72 from 144 channels in conv2_x, 0.24 for 0.29 from 64 (H100, batch 32, 16 frames).
    """
    fits = is_plain(conv, (1, 3, 3)) and channels == 64 and shape[4] % 2 == 0
    return fits and conv.weight.device.type in WIDE_TILE_DEVICES


def convolve_pairs(x: Tensor, weight: Tensor) -> Tensor:
    """Return the 3×3 convolution of x (N, I, H, W) by weight (O, I, 3, 3), two pixels of a row at once."""
    y = F.conv2d(x, widen_kernel(weight, 2), None, (1, 2), 1)
    return y.permute(0, 2, 3, 1).unflatten(3, (2, -1)).flatten(2, 3).permute(0, 3, 1, 2)


def widen_kernel(weight: Tensor, pixels: int) -> Tensor:
    """Return the weight (pixels·O, I, H, W + pixels − 1) of `pixels` neighbors in a row, of (O, I, H, W)."""
    shifted = [F.pad(weight, (k, pixels - 1 - k)) for k in range(pixels)]
    return torch.cat(shifted).contiguous(memory_format=torch.channels_last)


def prepare_input(conv: nn.Conv3d, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return (N, C, T, H, W) in `dtype` and the shape that `conv` runs on."""
    if joins_frames(conv):
        return x.to(dtype).flatten(1, 2).contiguous(memory_format=torch.channels_last)
    return to_conv_shape(conv, space_to_depth(x, dtype) if is_space_to_depth(conv) else x.to(dtype))


def space_to_depth(clips: Tensor, dtype: torch.dtype) -> Tensor:
    """Return (N, C, T, H, W) as (N, 16·C', T, ⌈H/2⌉ + 3, ⌈W/8⌉ + 1), zero-padded, C' being C up to a multiple of 4.

    A position holds 2 rows of 8 pixels. A 7×7 kernel of stride 2 becomes one of 4×2 positions and stride 1. Its 8×16
    pixels begin 4 rows and columns before the clip and hold the windows of COLUMNS output pixels, 2 columns apart.
    """
    if clips.is_cuda:
        from r21d_core.models import stem_kernel  # needs Triton, as the fast form on a GPU does

        return stem_kernel.space_to_depth(clips, dtype)
    n, c, t, h, w = clips.shape
    if h % 2 or w % 4:
        clips = F.pad(clips, (0, -w % 4, 0, h % 2))
    pixels = clips.unflatten(4, (-1, 4)).unflatten(3, (-1, 2))  # (N, C, T, h, 2, w, 4)
    h, wide = pixels.shape[3] + 3, -(-w // 8) + 1
    blocks = clips.new_zeros(n, t, h, 2 * wide, 2, 4, -(-c // 4) * 4, dtype=dtype)
    blocks[:, :, 2:-1, 1 : 1 + pixels.shape[5], :, :, :c] = pixels.permute(0, 2, 3, 5, 4, 6, 1)
    return blocks.view(n, t, h, wide, -1).permute(0, 4, 1, 2, 3)


def unpack_columns(y: Tensor, columns: int) -> Tensor:
    """Return (N, 4·C, T, H, W), 4 pixels a position, as (N, C, T, H, columns); a copy only where columns < 4·W."""
    y = y.permute(0, 2, 3, 4, 1).unflatten(4, (COLUMNS, -1)).flatten(3, 4).permute(0, 4, 1, 2, 3)
    return y if y.shape[4] == columns else y[..., :columns].contiguous(memory_format=CHANNELS_LAST)


def pack_columns(y: Tensor) -> Tensor:
    """Return the inverse of `unpack_columns`, with zeros for the columns that it dropped."""
    if y.shape[4] % COLUMNS:
        y = F.pad(y, (0, -y.shape[4] % COLUMNS)).contiguous(memory_format=CHANNELS_LAST)
    return y.permute(0, 2, 3, 4, 1).unflatten(3, (-1, COLUMNS)).flatten(4).permute(0, 4, 1, 2, 3)


def pack_weight(conv: nn.Conv3d, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a weight in `dtype`, in the shape that `conv` runs with, channels zero-padded to multiples of 8.

    A stem on `space_to_depth` has each output channel COLUMNS times. Another stem's input channels are not padded.
    """
    out_channels, in_channels, time = weight.shape[:3]
    padded_out, padded_in = padded_channels(conv), in_channels if is_stem(conv) else -(-in_channels // 8) * 8
    if is_space_to_depth(conv):
        kernels = torch.stack([F.pad(weight, (1 + 2 * k, 8 - 2 * k, 1, 0)) for k in range(COLUMNS)])
        packed = weight.new_zeros(COLUMNS * padded_out, time, 4, 2, 2, 2, 4, -(-in_channels // 4) * 4, dtype=dtype)
        _pixels(packed, weight)[:] = kernels.unflatten(5, (2, 2, 4)).unflatten(4, (4, 2))
        packed = packed.flatten(4).permute(0, 4, 1, 2, 3)
    elif out_channels < padded_out or in_channels < padded_in:
        packed = weight.new_zeros(padded_out, time, *weight.shape[3:], padded_in, dtype=dtype).permute(0, 4, 1, 2, 3)
        packed[:out_channels, :in_channels] = weight
    else:
        packed = weight.detach().to(dtype, memory_format=CHANNELS_LAST)
    if joins_frames(conv):
        return packed.flatten(1, 2).contiguous(memory_format=torch.channels_last)
    kind = conv_kind(conv)
    return packed if kind == "full" else packed.squeeze(2 if kind == "spatial" else 4)


def unpack_weight(conv: nn.Conv3d, packed: Tensor, weight: Tensor) -> Tensor:
    """Return a packed weight's gradient in the type, shape and layout of `weight`, summed over a stem's COLUMNS."""
    unpacked, kind = torch.empty_like(weight), conv_kind(conv)
    if joins_frames(conv):
        return unpacked.copy_(packed[: len(weight)].unflatten(1, weight.shape[1:3]))
    packed = packed if kind == "full" else packed.unsqueeze(2 if kind == "spatial" else 4)
    if is_space_to_depth(conv):
        pixels = packed.permute(0, 2, 3, 4, 1).unflatten(4, (2, 2, 4, -1))
        kernels = _pixels(pixels, weight).to(weight.dtype).flatten(6).flatten(4, 5)  # (COLUMNS, out, C, T, 8, 16)
        windows = (kernel[..., 1:, 1 + 2 * k : 8 + 2 * k] for k, kernel in enumerate(kernels))
        return unpacked.copy_(reduce(torch.add, windows))
    return unpacked.copy_(packed[: weight.shape[0], : weight.shape[1]])


def _pixels(packed: Tensor, weight: Tensor) -> Tensor:
    """Return a view (COLUMNS, out, C, T, 4, 2, 2, 2, 4), rows before columns, of (COLUMNS·out', T, 4, 2, 2, 2, 4, C').

    `out` and C are those of `weight`, out' and C' the padded ones.
    """
    pixels = packed.unflatten(0, (COLUMNS, -1)).permute(0, 1, 8, 2, 3, 6, 4, 5, 7)
    return pixels[:, : weight.shape[0], : weight.shape[1]]


def padded_channels(conv: nn.Conv3d) -> int:
    """Return the number of output channels, rounded up to a multiple of 8."""
    return -(-conv.out_channels // 8) * 8
