"""What excites a filter: the test clips that drive it most, and a clip made up to drive it further."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from r21d_analysis.interpret.checkpoints import EvalClips
from r21d_analysis.interpret.filters import GROUPS
from r21d_core.data.transforms import MEAN, STD
from r21d_core.models.network import VideoResNet

STEPS = 48  # of activation maximisation
STRIP_FRAMES, STRIP_SIZE = 6, 48  # of a strip, at the most


@torch.inference_mode()
def responses(network: VideoResNet, test: EvalClips) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each group the largest response of each channel to each test clip, and where in the clip it is.

    Values (items, channels), after the group's last ReLU, and places (items, channels, 3), shares of the clip's
    duration, height and width.
    """
    found: dict[str, list] = {name: [] for name in GROUPS}
    with capture_activations(network, GROUPS) as heard:
        for _, _, clips in tqdm(test.read(), "what excites filters", unit="batch", leave=False):
            network(clips)
            for name in GROUPS:
                value, place = heard[name].relu().flatten(2).max(2)
                found[name].append((value.cpu().numpy(), _places(place.cpu().numpy(), heard[name].shape[2:])))
    return {name: tuple(np.concatenate(column) for column in zip(*parts, strict=True)) for name, parts in found.items()}


def eta_squared(values: np.ndarray, label: np.ndarray) -> np.ndarray:
    """For each channel the share of its responses' variance that lies between classes, (channels,).

    `values` is (items, channels), `label` (items,). A channel that never responds has 0.
    """
    whole = np.square(values - values.mean(axis=0)).sum(axis=0)
    within = sum(
        np.square(part - part.mean(axis=0)).sum(axis=0) for part in (values[label == one] for one in set(label))
    )
    return np.divide(whole - within, whole, out=np.zeros_like(whole), where=whole > 0)


def maximize_activation(
    network: VideoResNet, wanted: Sequence[tuple[str, int]], scale: np.ndarray, shape: tuple[int, ...]
) -> Tensor:
    """A clip for each (group, channel) of `wanted` that drives it in the middle of its map, (n, 3, T, H, W).

    By gradient ascent from grey noise on what the channel says before its ReLU, in shares of `scale` (n,), with steep
    changes in space and time held down; colours stay in the range of real ones. `shape` is (T, H, W).
    """
    device = next(network.parameters()).device
    noise = torch.randn((len(wanted), 3, *shape), generator=torch.Generator().manual_seed(0)).to(device)
    picture = (0.1 * noise).requires_grad_()
    size = torch.as_tensor(scale, dtype=torch.float32, device=device).clamp(min=1e-6)
    optimiser = torch.optim.Adam([picture], lr=0.1)
    for _ in tqdm(range(STEPS), "making up clips", unit="step", leave=False):
        optimiser.zero_grad()
        loss = 0.3 * sum(picture.diff(dim=dim).square().mean((1, 2, 3, 4)).sum() for dim in (2, 3, 4))
        (loss - (_middle_response(network, wanted, _as_input(picture)) / size).sum()).backward()
        optimiser.step()
    return _as_input(picture.detach())


def receptive_field_box(
    network: VideoResNet, wanted: Sequence[tuple[str, int]], made_up: Tensor
) -> list[tuple[slice, slice]]:
    """Rows and columns of each clip (n, 3, T, H, W) that a filter sees from its middle: a square, where it has room."""
    clips = made_up.detach().requires_grad_()
    gradient = torch.autograd.grad(_middle_response(network, wanted, clips).sum(), clips)[0]
    parts = []
    for one in gradient.abs().amax((1, 2)).cpu().numpy():
        seen = one > 1e-4 * one.max()  # a convolution by Fourier transforms leaves its rounding everywhere
        sides = [np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0)]
        parts.append(tuple(slice(side.min(), side.max() + 1) if len(side) else slice(None) for side in sides))
    return parts


@torch.inference_mode()
def peak_responses(network: VideoResNet, wanted: Sequence[tuple[str, int]], clips: Tensor) -> np.ndarray:
    """The largest response of channel i of `wanted` to clip i, (n,), as in `responses`."""
    groups = {name for name, _ in wanted}
    with capture_activations(network, groups) as heard:
        network(clips)
        peaks = [heard[name][row, channel].max().relu() for row, (name, channel) in enumerate(wanted)]
    return torch.stack(peaks).cpu().numpy()


def strip(frames: Tensor) -> np.ndarray:
    """uint8 clips (n, T, H, W, 3) thinned to STRIP_FRAMES frames and shrunk to STRIP_SIZE pixels, where larger."""
    t, height = frames.shape[1:3]
    chosen = np.linspace(0, t - 1, min(t, STRIP_FRAMES)).round().astype(int)
    return shrink(frames[:, chosen], min(height, STRIP_SIZE)).cpu().numpy()


def shrink(frames: Tensor, size: int) -> Tensor:
    """uint8 frames (n, T, H, W, 3) with H and W scaled to `size` by averaging."""
    n, t, *_ = frames.shape
    flat = frames.permute(0, 1, 4, 2, 3).flatten(0, 1).float()
    return F.adaptive_avg_pool2d(flat, size).round().byte().view(n, t, 3, size, size).permute(0, 1, 3, 4, 2)


def as_frames(clips: Tensor) -> Tensor:
    """A network's input (n, 3, T, H, W) as uint8 frames (n, T, H, W, 3)."""
    mean, std = (torch.tensor(values, device=clips.device) for values in (MEAN, STD))
    return ((clips.permute(0, 2, 3, 4, 1) * std + mean) * 255).round().clamp(0, 255).byte()


def _as_input(picture: Tensor) -> Tensor:
    mean, std = (torch.tensor(values, device=picture.device).view(3, 1, 1, 1) for values in (MEAN, STD))
    return (picture.sigmoid() - mean) / std


def _middle_response(network: VideoResNet, wanted: Sequence[tuple[str, int]], clips: Tensor) -> Tensor:
    with capture_activations(network, {name for name, _ in wanted}) as heard:
        network(clips)
    values = []
    for row, (name, channel) in enumerate(wanted):
        response = heard[name][row, channel]
        values.append(response[tuple(size // 2 for size in response.shape)])
    return torch.stack(values)


@contextmanager
def capture_activations(network: VideoResNet, groups) -> Iterator[dict[str, Tensor]]:
    """Collect the input of the last ReLU of each of `groups`, by name; `network` comes from `for_attribution`."""
    heard: dict[str, Tensor] = {}

    def listen(name: str):
        def keep(_: nn.Module, inputs: tuple[Tensor]) -> None:
            heard[name] = inputs[0]

        last_relu = network.relu if name == "conv1" else getattr(network, name)[-1].relu2
        return last_relu.register_forward_pre_hook(keep)

    handles = [listen(name) for name in groups]
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _places(flat: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Indices into a map of `shape` as shares of its extent, those of the middle of the place."""
    return np.stack(
        [(index + 0.5) / size for index, size in zip(np.unravel_index(flat, shape), shape, strict=True)], -1
    )
