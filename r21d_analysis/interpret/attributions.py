"""Where and when a network looks, by Captum's methods, and two figures of whether to believe them.

All methods take a network from `for_attribution`, clips (N, channels, T, H, W) and a class for each clip, and return
maps (N, T, H, W): what each place and frame adds to the logit of that class. The point of reference, where a method needs one, is the data's mean colour,
or of flow hardly any motion, which is zero to the network.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from itertools import chain

import torch
from captum.attr import DeepLift, GuidedBackprop, IntegratedGradients, LayerAttribution, LayerGradCam, Occlusion
from scipy.stats import spearmanr
from torch import Tensor, nn

from r21d_analysis.interpret.filters import GROUPS
from r21d_core.models.network import VideoResNet

STEPS = 32  # of integrated gradients
BATCH = 16  # clips that go through the network at once
PIXELS = 4 * 8 * 112 * 112  # of all clips at once: their gradients would else not fit a laptop
METHODS = (
    "integrated gradients",
    "DeepLift",
    "guided backprop",
    "Grad-CAM",
    "occlusion in space",
    "occlusion in time",
    "occlusion in space-time",
)
COMPLETE = METHODS[:2]  # those whose maps are to add up to the logit less that of the point of reference
SANITY_CORR_MAX = 0.5  # rank correlation with the map of shuffled weights from which on a map is called worthless


def for_attribution(network: VideoResNet) -> VideoResNet:
    """Return a copy of `network` in eval mode whose ReLUs do not work in place, which Captum's hooks on them need."""
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    return network


def attribute(network: VideoResNet, clips: Tensor, label: Tensor, method: str, steps: int = STEPS) -> Tensor:
    """The maps of `method`, (N, T, H, W) float32, all colours together; `label` is (N,).

    Grad-CAM is that of conv5_x, its positive part, brought to the clip's size trilinearly. Windows of occlusion are a
    quarter of a clip's height, width and duration, set half a window apart, and in space-time a whole one.
    """
    clips = clips.contiguous()
    with warnings.catch_warnings():  # Captum tells of its hooks, which are removed when it is done
        warnings.simplefilter("ignore", UserWarning)
        if method == "Grad-CAM":
            maps = LayerGradCam(network, network.conv5_x).attribute(clips, label, relu_attributions=True)
            return LayerAttribution.interpolate(maps, clips.shape[2:], "trilinear")[:, 0].detach()
        maps = _of_input(network, clips, label, method, steps)
    # Occlusion says of each colour what all of them together add.
    return (maps.mean(1) if method.startswith("occlusion") else maps.sum(1)).detach().float()


def _of_input(network: VideoResNet, clips: Tensor, label: Tensor, method: str, steps: int) -> Tensor:
    if method == "integrated gradients":
        return IntegratedGradients(network).attribute(
            clips, target=label, n_steps=steps, internal_batch_size=max(_at_once(clips), len(clips))
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
            perturbations_per_eval=max(1, _at_once(clips) // len(clips)),
        )


def _at_once(clips: Tensor) -> int:
    return min(BATCH, max(1, PIXELS // math.prod(clips.shape[2:])))


def _window(shape: tuple[int, ...], method: str) -> tuple[int, int, int]:
    t, h, w = shape[2:]
    time = t if method == "occlusion in space" else max(1, t // 4)
    return (time, h, w) if method == "occlusion in time" else (time, max(1, h // 4), max(1, w // 4))


def _strides(window: tuple[int, int, int], method: str) -> tuple[int, ...]:
    return window if method == "occlusion in space-time" else tuple(max(1, side // 2) for side in window)


def completeness_gap(network: VideoResNet, clips: Tensor, label: Tensor, method: str, steps: int = STEPS) -> Tensor:
    """How far maps of `method` are from adding up to what they explain, (N,): |Σ map − Δ| / |Δ|.

    Δ is the logit of the clip less that of the point of reference. Where TF32 is allowed it is turned off, as its
    rounding would be most of a small gap.
    """
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        added = attribute(network, clips, label, method, steps).double().sum((1, 2, 3))
        with torch.no_grad():
            difference = (network(clips) - network(torch.zeros_like(clips))).gather(1, label[:, None])[:, 0].double()
    return (added - difference).abs() / difference.abs()


def effective_resolution(network: VideoResNet, clips: Tensor, method: str) -> int:
    """How many places of a map have a value of their own: of Grad-CAM those of conv5_x, of occlusion its windows."""
    if method == "Grad-CAM":
        with torch.no_grad():
            return math.prod(network.forward_features(clips[:1]).shape[2:])
    if not method.startswith("occlusion"):
        return math.prod(clips.shape[2:])
    sides, windows = clips.shape[2:], _window(clips.shape, method)
    strides = _strides(windows, method)
    steps = zip(sides, windows, strides, strict=True)
    return math.prod(-(-(side - window) // stride) + 1 for side, window, stride in steps)


def shuffled_weights(network: VideoResNet, groups: Sequence[str]) -> VideoResNet:
    """A copy of `network` in which every weight tensor of `groups` has its values in another order, always the same."""
    copied = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in groups:
            modules = [copied.conv1, copied.bn1] if name == "conv1" else [getattr(copied, name)]
            for tensor in chain.from_iterable(module.parameters() for module in modules):
                order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
                tensor.copy_(tensor.flatten()[order].view_as(tensor))
    return copied


def randomisation_check(network: VideoResNet, clips: Tensor, label: Tensor, methods: Sequence[str] = METHODS) -> Tensor:
    """Spearman's rank correlation of each method's maps with those after shuffling weights, (methods, 6).

    Of absolute values, mean over clips. Shuffled are fc; fc and conv5_x; and so on to all groups, as in Adebayo et al.,
    "Sanity Checks for Saliency Maps" (2018). nan where a map has the same value everywhere.
    """
    stages = ("fc", *reversed(GROUPS))
    steps = STEPS // 4  # ranks need no more
    before = [attribute(network, clips, label, method, steps).abs() for method in methods]
    rows = []
    for last in range(len(stages)):
        other = shuffled_weights(network, stages[: last + 1])
        after = [attribute(other, clips, label, method, steps).abs() for method in methods]
        rows.append([_rank_correlation(*pair) for pair in zip(before, after, strict=True)])
    return torch.tensor(rows).T


def _rank_correlation(one: Tensor, other: Tensor) -> float:
    """The mean over clips of Spearman's correlation of maps (N, T, H, W)."""
    pairs = [(a.flatten().cpu().numpy(), b.flatten().cpu().numpy()) for a, b in zip(one, other, strict=True)]
    if any(values.min() == values.max() for pair in pairs for values in pair):
        return float("nan")
    return sum(float(spearmanr(a, b).statistic) for a, b in pairs) / len(pairs)
