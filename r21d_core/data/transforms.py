"""Transforms from uint8 frames to the network's input, applied on the device to a whole batch."""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from r21d_core.data.flow import dequantize_flow
from r21d_core.data.sampling import Clips
from r21d_core.study.spec import Spec

# Of RGB in [0, 1], from the authors' code.
MEAN = (0.43216, 0.394666, 0.37645)
STD = (0.22803, 0.22145, 0.216989)
_SCALE = tuple(1 / (255 * std) for std in STD)
_SHIFT = tuple(mean / std for mean, std in zip(MEAN, STD, strict=True))
_LUMA = (0.2989, 0.587, 0.114)  # torchvision's gray
# Of flow in pixels, x and y, from the authors' code.
FLOW_MEAN = (0.0046635, 0.0046261)
FLOW_STD = (0.972347, 0.755146)


def augment(frames: Tensor, clips: Clips, spec: Spec) -> Tensor:
    """Training input (N, 3, T, crop, crop), float: a random crop, flip, brightness and color for each clip.

    `frames` is uint8 (N, T, H, W, 3) on the device; `clips.draws` holds the random numbers. The paper crops a window of
    crop × crop pixels from the scaled frame. With `spec.crop_area` the window is that of a random resized crop: it has
    that share to all of the frame's area and an aspect ratio of 3:4 to 4:3, and is resized to crop × crop.

    Flow gives (N, 2, T, crop, crop): a flip negates x, a resize scales the displacements, and the colors stay.
    """
    device, (height, width) = frames.device, frames.shape[2:4]
    # Per-clip parameters are computed on the host, because a GPU launch costs more than the arithmetic.
    y, x, area, aspect, flip, light = torch.from_numpy(clips.draws[:, :6]).unbind(1)
    flipped = (flip < 0.5) & spec.flip
    flow = spec.modality == "flow"
    displacement_scale = torch.stack([torch.where(flipped, -1.0, 1.0), torch.ones_like(x)], 1)
    if spec.crop_area:
        ratio = torch.exp((2 * aspect - 1) * math.log(4 / 3))
        pixels = (spec.crop_area + area * (1 - spec.crop_area)) * height * width
        size_y = torch.sqrt(pixels / ratio).clamp(max=height)
        size_x = torch.sqrt(pixels * ratio).clamp(max=width)
        displacement_scale = displacement_scale * spec.crop / torch.stack([size_x, size_y], 1)
        values = dequantize_flow(frames) if flow else frames
        top, left = y * (height - size_y), x * (width - size_x)
        cropped = _resized_crop(values, top, left, size_y, size_x, flipped, spec.crop)
    else:
        top = (y * (height - spec.crop + 1)).long()
        left = (x * (width - spec.crop + 1)).long()
        cropped = _crop(frames, top, left, flipped, spec.crop)
        cropped = dequantize_flow(cropped) if flow else cropped
    if flow:
        return _normalize_flow(cropped * _to(device, displacement_scale)[:, None, None, None])
    gain: Tensor | float = 1.0
    if spec.brightness:
        gain = 1 + (2 * light - 1) * spec.brightness
        white, gain = _to(device, torch.stack([255 / gain, gain])).view(2, -1, 1, 1, 1, 1)
        cropped = torch.minimum(cropped, white)  # the brightened values are clamped at 255
    if spec.color:
        cropped = _jitter_color(cropped * gain, 1 + (2 * torch.from_numpy(clips.draws[:, 6:]) - 1) * spec.color)
        gain = 1.0
    return _normalize(cropped, gain)


def _jitter_color(pixels: Tensor, factors: Tensor) -> Tensor:
    """Scale contrast and saturation of (N, T, H, W, 3), 0 to 255, by factors (N, 2), with one mean gray per clip."""
    contrast, saturation = _to(pixels.device, factors).view(-1, 2, 1, 1, 1, 1).unbind(1)
    gray_mean = (pixels @ _constant(pixels.device, _LUMA)).mean((1, 2, 3))[:, None, None, None, None]
    pixels = torch.lerp(gray_mean, pixels, contrast).clamp_(0, 255)
    return torch.lerp((pixels @ _constant(pixels.device, _LUMA))[..., None], pixels, saturation).clamp_(0, 255)


def center_crop(frames: Tensor, spec: Spec) -> Tensor:
    """Evaluation input (N, 3, T, crop, crop), float, or (N, 2, …) for flow: the center of uint8 (N, T, H, W, 3)."""
    cropped = crop_frames(frames, spec)
    return _normalize_flow(dequantize_flow(cropped)) if spec.modality == "flow" else _normalize(cropped)


def crop_frames(frames, spec: Spec):
    """The center crop of frames (…, H, W, 3), an array or a tensor: the part that the network sees in evaluation."""
    top, left = ((size - spec.crop) // 2 for size in frames.shape[-3:-1])
    return frames[..., top : top + spec.crop, left : left + spec.crop, :]


def _crop(frames: Tensor, top: Tensor, left: Tensor, flipped: Tensor, size: int) -> Tensor:
    offset = torch.arange(size)
    rows = offset + top[:, None]
    columns = torch.where(flipped[:, None], offset.flip(0), offset) + left[:, None]
    rows, columns = _to(frames.device, torch.stack([rows, columns]))
    clip = torch.arange(frames.shape[0], device=frames.device)[:, None, None, None]
    time = torch.arange(frames.shape[1], device=frames.device)[None, :, None, None]
    return frames[clip, time, rows[:, None, :, None], columns[:, None, None, :]]


def _resized_crop(frames, top, left, size_y, size_x, flipped, size: int) -> Tensor:
    """Crop and resize bilinearly, with pixel centers at half-integers and no antialiasing."""
    n, t, height, width, channels = frames.shape
    offset_y = (torch.arange(size) + 0.5) / size
    offset_x = torch.where(flipped[:, None], 1 - offset_y, offset_y)
    # grid_sample takes positions from −1 to 1 over the whole frame.
    rows = (top[:, None] + offset_y * size_y[:, None]) * 2 / height - 1
    columns = (left[:, None] + offset_x * size_x[:, None]) * 2 / width - 1
    rows, columns = _to(frames.device, torch.stack([rows, columns]))
    grid = torch.stack([columns[:, None, :].expand(n, size, size), rows[:, :, None].expand(n, size, size)], dim=-1)
    # All frames of a clip share one grid, so time and color are channels to grid_sample.
    stacked = frames.permute(0, 1, 4, 2, 3).to(torch.float32, memory_format=torch.contiguous_format).flatten(1, 2)
    resized = F.grid_sample(stacked, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return resized.view(n, t, channels, size, size).permute(0, 1, 3, 4, 2)


def _to(device: torch.device, values: Tensor) -> Tensor:
    return values.to(device, non_blocking=True)


def _normalize(pixels: Tensor, gain: Tensor | float = 1.0) -> Tensor:
    scale, shift = _constant(pixels.device, _SCALE), _constant(pixels.device, _SHIFT)
    # A permuted (N, T, H, W, 3) is channels_last_3d, the fastest layout for convolutions.
    return (pixels * (gain * scale)).sub_(shift).permute(0, 4, 1, 2, 3)


def _normalize_flow(pixels: Tensor) -> Tensor:
    mean, std = _constant(pixels.device, FLOW_MEAN), _constant(pixels.device, FLOW_STD)
    return ((pixels - mean) / std).permute(0, 4, 1, 2, 3)


@cache  # a copy to the GPU would synchronize with it
def _constant(device: torch.device, numbers: tuple[float, ...]) -> Tensor:
    with torch.inference_mode(False):  # the cached tensor is used in training too
        return torch.tensor(numbers, device=device)
