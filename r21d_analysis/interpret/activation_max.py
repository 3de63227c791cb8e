"""Inputs that activate a filter: the test clips with the largest response, and a clip optimized for it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from r21d_analysis.interpret.checkpoints import EvalClips
from r21d_analysis.interpret.filters import STAGES
from r21d_core.data.transforms import MEAN, STD
from r21d_core.models.network import VideoResNet

STEPS = 48  # of gradient ascent
STRIP_FRAMES, STRIP_SIZE = 6, 48  # maximal number and size of the frames of a strip

Channel = tuple[str, int]  # a stage and the index of a channel of its output


@torch.inference_mode()
def max_responses(network: VideoResNet, test: EvalClips) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return, by stage, the largest response of each channel to each test clip and its position in the clip.

    Responses (items, channels) are after the stage's last ReLU. Positions (items, channels, 3) are fractions of the
    clip's duration, height and width, at the centers of the map's cells.
    """
    parts: dict[str, list] = {name: [] for name in STAGES}
    with capture_activations(network, STAGES) as activations:
        for _, _, clips in tqdm(test.iter_batches(), "responses of filters", unit="batch", leave=False):
            network(clips)
            for name in STAGES:
                value, index = activations[name].relu().flatten(2).max(2)
                shape = activations[name].shape[2:]
                position = (torch.stack(torch.unravel_index(index.cpu(), shape), -1) + 0.5) / torch.tensor(shape)
                parts[name].append((value.cpu(), position))
    values, positions = ({n: torch.cat([p[i] for p in part]).numpy() for n, part in parts.items()} for i in (0, 1))
    return {name: (values[name], positions[name]) for name in STAGES}


def eta_squared(values: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return the fraction of each channel's variance that is between classes, (channels,).

    `values` is (items, channels), `label` (items,). A constant channel has 0.
    """
    frame = pd.DataFrame(values)
    within = (frame - frame.groupby(label).transform("mean")).pow(2).sum()
    return (1 - within / (frame - frame.mean()).pow(2).sum()).fillna(0).to_numpy()


def maximize_activation(
    network: VideoResNet, channels: Sequence[Channel], scale: np.ndarray, shape: tuple[int, ...]
) -> Tensor:
    """Return a clip for each of `channels` that maximizes its activation at the center of its map, (n, 3, T, H, W).

    Gradient ascent from grey noise on the input of the ReLU, divided by `scale` (n,), with a penalty on differences in
    time and space. Colors stay in the range of images. `shape` is (T, H, W). Where the first step shows that all will
    take more than a minute, a line says how long.
    """
    device = next(network.parameters()).device
    noise = torch.randn((len(channels), 3, *shape), generator=torch.Generator().manual_seed(0)).to(device)
    pixels = (0.1 * noise).requires_grad_()
    divisor = torch.as_tensor(scale, dtype=torch.float32, device=device).clamp(min=1e-6)
    optimizer = torch.optim.Adam([pixels], lr=0.1)
    start = time.perf_counter()
    for step in tqdm(range(STEPS), "optimizing clips", unit="step", leave=False):
        optimizer.zero_grad()
        penalty = 0.3 * sum(pixels.diff(dim=dim).square().mean((1, 2, 3, 4)).sum() for dim in (2, 3, 4))
        (penalty - (_center_activation(network, channels, _as_input(pixels)) / divisor).sum()).backward()
        optimizer.step()
        if not step and (minutes := (time.perf_counter() - start) * STEPS / 60) > 1:
            clips = f"optimizing {len(channels)} clips for filters takes about {minutes:.0f} min"
            tqdm.write(f"{clips}; `r21d insight --no-optimize` leaves them out")
    return _as_input(pixels.detach())


def receptive_field_box(network: VideoResNet, channels: Sequence[Channel], clips: Tensor) -> list[tuple[slice, slice]]:
    """Return the rows and columns of each clip (n, 3, T, H, W) that affect the center activation of its channel."""
    clips = clips.detach().requires_grad_()
    gradients = torch.autograd.grad(_center_activation(network, channels, clips).sum(), clips)[0]
    boxes = []
    for gradient in gradients.abs().amax((1, 2)).cpu().numpy():
        mask = gradient > 1e-4 * gradient.max()  # FFT convolutions leave rounding errors everywhere
        sides = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
        boxes.append(tuple(slice(side.min(), side.max() + 1) if len(side) else slice(None) for side in sides))
    return boxes


@torch.inference_mode()
def peak_responses(network: VideoResNet, channels: Sequence[Channel], clips: Tensor) -> np.ndarray:
    """Return the largest response of channel i to clip i, (n,), as in `max_responses`."""
    return torch.stack([values.max().relu() for values in _channel_maps(network, channels, clips)]).cpu().numpy()


def make_strip(frames: Tensor) -> np.ndarray:
    """Return uint8 clips (n, T, H, W, 3) with at most STRIP_FRAMES frames of at most STRIP_SIZE pixels."""
    t, height = frames.shape[1:3]
    index = np.linspace(0, t - 1, min(t, STRIP_FRAMES)).round().astype(int)
    return resize_frames(frames[:, index], min(height, STRIP_SIZE)).cpu().numpy()


def resize_frames(frames: Tensor, size: int) -> Tensor:
    """Return uint8 frames (n, T, H, W, 3) averaged to `size` × `size`."""
    resized = F.adaptive_avg_pool2d(frames.permute(0, 1, 4, 2, 3).flatten(0, 1).float(), size).round().byte()
    return resized.unflatten(0, frames.shape[:2]).permute(0, 1, 3, 4, 2)


def as_frames(clips: Tensor) -> Tensor:
    """Return a network's input (n, 3, T, H, W) as uint8 frames (n, T, H, W, 3)."""
    mean, std = (torch.tensor(values, device=clips.device) for values in (MEAN, STD))
    return ((clips.permute(0, 2, 3, 4, 1) * std + mean) * 255).round().clamp(0, 255).byte()


def _as_input(pixels: Tensor) -> Tensor:
    mean, std = (torch.tensor(values, device=pixels.device).view(3, 1, 1, 1) for values in (MEAN, STD))
    return (pixels.sigmoid() - mean) / std


def _center_activation(network: VideoResNet, channels: Sequence[Channel], clips: Tensor) -> Tensor:
    maps = _channel_maps(network, channels, clips)
    return torch.stack([values[tuple(size // 2 for size in values.shape)] for values in maps])


def _channel_maps(network: VideoResNet, channels: Sequence[Channel], clips: Tensor) -> list[Tensor]:
    """Return the map (t, h, w) of channel i in clip i, before the ReLU."""
    with capture_activations(network, {name for name, _ in channels}) as activations:
        network(clips)
    return [activations[name][row, channel] for row, (name, channel) in enumerate(channels)]


@contextmanager
def capture_activations(network: VideoResNet, stages: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the input of the last ReLU of each of `stages` by name; `network` comes from `for_attribution`."""
    activations: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for stage in stages:
            last_relu = network.relu if stage == "conv1" else getattr(network, stage)[-1].relu2
            hook = last_relu.register_forward_pre_hook(lambda _, inputs, s=stage: activations.update({s: inputs[0]}))
            stack.enter_context(hook)
        yield activations
