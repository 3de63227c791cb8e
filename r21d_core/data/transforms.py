"""From uint8 frames to the network's input, on the device and over the whole batch at once."""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from r21d_core.data.flow import dequantize_flow
from r21d_core.data.sampling import Clips
from r21d_core.study.spec import Spec

# Of 0–1 RGB, as in the authors' code.
MEAN = (0.43216, 0.394666, 0.37645)
STD = (0.22803, 0.22145, 0.216989)
_SCALE = tuple(1 / (255 * std) for std in STD)
_LESS = tuple(mean / std for mean, std in zip(MEAN, STD, strict=True))
# Of flow in pixels, x and y, as there.
FLOW_MEAN = (0.0046635, 0.0046261)
FLOW_STD = (0.972347, 0.755146)


def augment(frames: Tensor, clips: Clips, spec: Spec) -> Tensor:
    """Training input (N, 3, T, crop, crop), float: a random window, flip and brightness, the same for a whole clip.

    `frames` is (N, T, H, W, 3) uint8 on the device; the randomness is in `clips.draws`. The paper's window is
    crop × crop of the scaled frame; with `spec.crop_area` it covers a share of the frame between that and 1 at
    an aspect ratio between 3:4 and 4:3, as in Inception's resized crop, and is scaled to crop × crop.

    Of flow it is (N, 2, T, crop, crop). What is mirrored moves the other way, what is scaled moves as much further,
    and brightness has no part in it.
    """
    device, (height, width) = frames.device, frames.shape[2:4]
    # What is drawn for a clip is worked out on the host: a GPU takes as long for each small kernel as for a large one.
    y, x, area, aspect, flip, light = torch.from_numpy(clips.draws).unbind(1)
    flipped = (flip < 0.5) & spec.flip
    flow = spec.modality == "flow"
    moves = torch.stack([torch.where(flipped, -1.0, 1.0), torch.ones_like(x)], 1)  # of x and y, times what was stored
    if spec.crop_area:
        ratio = torch.exp((2 * aspect - 1) * math.log(4 / 3))
        share = (spec.crop_area + area * (1 - spec.crop_area)) * height * width
        size_y = torch.sqrt(share / ratio).clamp(max=height)
        size_x = torch.sqrt(share * ratio).clamp(max=width)
        moves = moves * spec.crop / torch.stack([size_x, size_y], 1)
        values = dequantize_flow(frames) if flow else frames
        picture = _resized_window(
            values, y * (height - size_y), x * (width - size_x), size_y, size_x, flipped, spec.crop
        )
    else:
        top = (y * (height - spec.crop + 1)).long()
        left = (x * (width - spec.crop + 1)).long()
        picture = _window(frames, top, left, flipped, spec.crop)
        picture = dequantize_flow(picture) if flow else picture
    if flow:
        return _normalise_flow(picture * _to(device, moves)[:, None, None, None])
    if not spec.brightness:
        return _normalise(picture)
    gain = 1 + (2 * light - 1) * spec.brightness
    white, gain = _to(device, torch.stack([255 / gain, gain])).view(2, -1, 1, 1, 1, 1)
    return _normalise(torch.minimum(picture, white), gain)  # as if it were clamped to 255 afterwards


def center_crop(frames: Tensor, spec: Spec) -> Tensor:
    """Evaluation input (N, 3, T, crop, crop), float, of flow (N, 2, …): the center_crop of uint8 (N, T, H, W, 3)."""
    top, left = (frames.shape[2] - spec.crop) // 2, (frames.shape[3] - spec.crop) // 2
    picture = frames[:, :, top : top + spec.crop, left : left + spec.crop]
    return _normalise_flow(dequantize_flow(picture)) if spec.modality == "flow" else _normalise(picture)


def _window(frames: Tensor, top: Tensor, left: Tensor, flipped: Tensor, size: int) -> Tensor:
    along = torch.arange(size)
    rows = along + top[:, None]
    columns = torch.where(flipped[:, None], along.flip(0), along) + left[:, None]
    rows, columns = _to(frames.device, torch.stack([rows, columns]))
    clip = torch.arange(frames.shape[0], device=frames.device)[:, None, None, None]
    time = torch.arange(frames.shape[1], device=frames.device)[None, :, None, None]
    return frames[clip, time, rows[:, None, :, None], columns[:, None, None, :]]


def _resized_window(frames, top, left, size_y, size_x, flipped, size: int) -> Tensor:
    """Bilinear, with pixel centres at half-integers and no smoothing beforehand."""
    n, t, height, width, colours = frames.shape
    along = (torch.arange(size) + 0.5) / size
    across = torch.where(flipped[:, None], 1 - along, along)
    # grid_sample wants positions from −1 to 1 over the whole frame
    rows = (top[:, None] + along * size_y[:, None]) * 2 / height - 1
    columns = (left[:, None] + across * size_x[:, None]) * 2 / width - 1
    rows, columns = _to(frames.device, torch.stack([rows, columns]))
    grid = torch.stack([columns[:, None, :].expand(n, size, size), rows[:, :, None].expand(n, size, size)], dim=-1)
    # one position for all frames of a clip: time and colour are channels to grid_sample
    channels = frames.permute(0, 1, 4, 2, 3).to(torch.float32, memory_format=torch.contiguous_format)
    picture = F.grid_sample(channels.flatten(1, 2), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return picture.view(n, t, colours, size, size).permute(0, 1, 3, 4, 2)


def _to(device: torch.device, values: Tensor) -> Tensor:
    return values.to(device, non_blocking=True)


def _normalise(picture: Tensor, gain: Tensor | float = 1.0) -> Tensor:
    scale, less = _on(picture.device, _SCALE), _on(picture.device, _LESS)
    # (N, T, H, W, 3) seen as (N, 3, T, H, W) is channels_last_3d, the layout that convolutions are fastest in
    return (picture * (gain * scale)).sub_(less).permute(0, 4, 1, 2, 3)


def _normalise_flow(pixels: Tensor) -> Tensor:
    mean, std = _on(pixels.device, FLOW_MEAN), _on(pixels.device, FLOW_STD)
    return ((pixels - mean) / std).permute(0, 4, 1, 2, 3)


@cache  # a GPU would finish all it has to do before it took them anew
def _on(device: torch.device, numbers: tuple[float, ...]) -> Tensor:
    with torch.inference_mode(False):  # it is for training too, whoever asks first
        return torch.tensor(numbers, device=device)
