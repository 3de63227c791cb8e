"""Attribution maps by Captum's methods, and two checks of them: completeness and sanity under shuffled weights.

All methods take a network from `for_attribution`, clips (N, channels, T, H, W) and a class for each clip, and return
maps (N, T, H, W): what each position and frame adds to the logit of the class. The baseline of methods that need one is
a clip of the data's mean color (of flow, no motion), which is zero to the network.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from captum.attr import DeepLift, GuidedBackprop, IntegratedGradients, LayerAttribution, LayerGradCam, Occlusion
from scipy.stats import spearmanr
from torch import Tensor, nn

from r21d_analysis.interpret.filters import STAGES
from r21d_core.models.network import VideoResNet

STEPS = 32  # of integrated gradients
BATCH = 16  # clips in a forward pass
MAX_VOXELS = 4 * 8 * 112 * 112  # T·H·W of all clips in a pass, so that their gradients fit a laptop
METHODS = (
    "integrated gradients",
    "DeepLift",
    "guided backprop",
    "Grad-CAM",
    "occlusion in space",
    "occlusion in time",
    "occlusion in space-time",
)
COMPLETE = METHODS[:2]  # maps add up to the logit minus that of the baseline
SANITY_CORR_MAX = 0.5  # with a higher rank correlation with the map of shuffled weights, a map is worthless


def for_attribution(network: VideoResNet) -> VideoResNet:
    """Return a copy of `network` in eval mode whose ReLUs do not work in place, which Captum's hooks on them need."""
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return network


def attribute(network: VideoResNet, clips: Tensor, label: Tensor, method: str, steps: int = STEPS) -> Tensor:
    """Return the maps of `method`, (N, T, H, W) float32, summed over channels; `label` is (N,).

    Grad-CAM is the positive part at conv5_x, interpolated trilinearly. Occlusion windows are a quarter of the clip's
    height, width and duration; their stride is half a window, in space-time a whole one.
    """
    clips = clips.contiguous()
    with warnings.catch_warnings():  # Captum warns of its hooks, which it removes
        warnings.simplefilter("ignore", UserWarning)
        if method == "Grad-CAM":
            maps = LayerGradCam(network, network.conv5_x).attribute(clips, label, relu_attributions=True)
            assert isinstance(maps, Tensor)  # a tuple only for several inputs
            return LayerAttribution.interpolate(maps, clips.shape[2:], "trilinear")[:, 0].detach()
        maps = _attribute_input(network, clips, label, method, steps)
    # Occlusion gives each channel the effect of all channels together.
    return (maps.mean(1) if method.startswith("occlusion") else maps.sum(1)).detach().float()


def _attribute_input(network: VideoResNet, clips: Tensor, label: Tensor, method: str, steps: int) -> Tensor:
    if method == "integrated gradients":
        return IntegratedGradients(network).attribute(
            clips, target=label, n_steps=steps, internal_batch_size=max(_clips_per_pass(clips), len(clips))
        )
    if method == "DeepLift":
        return DeepLift(network).attribute(clips, target=label)
    if method == "guided backprop":
        return GuidedBackprop(network).attribute(clips, label)
    window = _window(clips.shape, method)
    with torch.no_grad():
        return Occlusion(network).attribute(
            clips,
            (clips.shape[1], *window),
            (clips.shape[1], *_strides(window, method)),
            target=label,
            perturbations_per_eval=max(1, _clips_per_pass(clips) // len(clips)),
        )


def _clips_per_pass(clips: Tensor) -> int:
    return min(BATCH, max(1, MAX_VOXELS // math.prod(clips.shape[2:])))


def _window(shape: tuple[int, ...], method: str) -> tuple[int, int, int]:
    t, h, w = shape[2:]
    time = t if method == "occlusion in space" else max(1, t // 4)
    return (time, h, w) if method == "occlusion in time" else (time, max(1, h // 4), max(1, w // 4))


def _strides(window: tuple[int, int, int], method: str) -> tuple[int, ...]:
    return window if method == "occlusion in space-time" else tuple(max(1, side // 2) for side in window)


def completeness_gap(network: VideoResNet, clips: Tensor, label: Tensor, method: str, steps: int = STEPS) -> Tensor:
    """Return |Σ map − Δ| / |Δ|, (N,), where Δ is the logit of the clip minus that of the baseline.

    TF32 is turned off, because its rounding errors would dominate a small gap.
    """
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        total = attribute(network, clips, label, method, steps).double().sum((1, 2, 3))
        with torch.no_grad():
            difference = (network(clips) - network(torch.zeros_like(clips))).gather(1, label[:, None])[:, 0].double()
    return (total - difference).abs() / difference.abs()


def effective_resolution(network: VideoResNet, clips: Tensor, method: str) -> int:
    """Return the number of independent values in a map: for Grad-CAM positions of conv5_x, for occlusion windows."""
    if method == "Grad-CAM":
        with torch.no_grad():
            return math.prod(network.forward_features(clips[:1]).shape[2:])
    if not method.startswith("occlusion"):
        return math.prod(clips.shape[2:])
    sides, windows = clips.shape[2:], _window(clips.shape, method)
    strides = _strides(windows, method)
    axes = zip(sides, windows, strides, strict=True)
    return math.prod(-(-(side - window) // stride) + 1 for side, window, stride in axes)


def shuffle_weights(network: VideoResNet, stages: Sequence[str]) -> VideoResNet:
    """Return a copy of `network` with the values of each parameter of `stages` in another order, always the same."""
    copied = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in stages:
            modules = [copied.conv1, copied.bn1] if name == "conv1" else [getattr(copied, name)]
            for tensor in chain.from_iterable(module.parameters() for module in modules):
                order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
                tensor.copy_(tensor.flatten()[order].view_as(tensor))
    return copied


def sanity_correlations(network: VideoResNet, clips: Tensor, label: Tensor, methods: Sequence[str] = METHODS) -> Tensor:
    """Return the rank correlation of each method's absolute maps with those of shuffled weights, (methods, 6).

    Spearman's correlation, averaged over clips. Shuffled are fc; fc and conv5_x; and so on to all stages (Adebayo et
    al., "Sanity Checks for Saliency Maps", 2018). NaN where a map is constant.
    """
    stages = ("fc", *reversed(STAGES))
    steps = STEPS // 4  # enough for ranks
    before = [attribute(network, clips, label, method, steps).abs() for method in methods]
    rows = []
    for last in range(len(stages)):
        shuffled = shuffle_weights(network, stages[: last + 1])
        after = [attribute(shuffled, clips, label, method, steps).abs() for method in methods]
        rows.append([_rank_correlation(*pair) for pair in zip(before, after, strict=True)])
    return torch.tensor(rows).T


def _rank_correlation(maps: Tensor, shuffled: Tensor) -> float:
    """Return Spearman's correlation of maps (N, T, H, W), averaged over clips."""
    pairs = [(a.flatten().cpu().numpy(), b.flatten().cpu().numpy()) for a, b in zip(maps, shuffled, strict=True)]
    if any(values.min() == values.max() for pair in pairs for values in pair):
        return float("nan")
    correlations: list[Any] = [spearmanr(a, b) for a, b in pairs]
    return sum(float(correlation.statistic) for correlation in correlations) / len(pairs)
