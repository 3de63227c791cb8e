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

import numpy as np
import torch
from captum.attr import DeepLift, GuidedBackprop, IntegratedGradients, LayerAttribution, LayerGradCam, Occlusion
from torch import Tensor, nn

from r21d_analysis.interpret.filters import STAGES
from r21d_analysis.statistics.inference import spearman
from r21d_core.models.network import VideoResNet

STEPS = 32  # of integrated gradients
BATCH = 16  # clips in a forward pass
MAX_VOXELS = 4 * 8 * 112 * 112  # T·H·W of all clips in a pass, so that their gradients fit a laptop
METHODS = ("integrated gradients", "DeepLift", "guided backprop", "Grad-CAM",
           "occlusion in space", "occlusion in time", "occlusion in space-time")  # fmt: skip
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
    clips, channels = clips.contiguous(), clips.shape[1]
    per_pass = min(BATCH, max(1, MAX_VOXELS // math.prod(clips.shape[2:])))
    with warnings.catch_warnings():  # Captum warns of its hooks, which it removes
        warnings.simplefilter("ignore", UserWarning)
        if method == "Grad-CAM":
            maps = LayerGradCam(network, network.conv5_x).attribute(clips, label, relu_attributions=True)
            assert isinstance(maps, Tensor)  # a tuple only for several inputs
            return LayerAttribution.interpolate(maps, clips.shape[2:], "trilinear")[:, 0].detach()
        if method.startswith("occlusion"):
            windows, strides = _occlusion_windows(clips.shape, method)
            shapes, n = ((channels, *windows), (channels, *strides)), max(1, per_pass // len(clips))
            with torch.no_grad():
                maps = Occlusion(network).attribute(clips, *shapes, target=label, perturbations_per_eval=n)
            return maps.mean(1).float()  # each channel has the effect of all channels together
        if method == "integrated gradients":
            size = max(per_pass, len(clips))
            maps = IntegratedGradients(network).attribute(clips, target=label, n_steps=steps, internal_batch_size=size)
        else:
            algorithm = {"DeepLift": DeepLift, "guided backprop": GuidedBackprop}[method]
            maps = algorithm(network).attribute(clips, target=label)
    return maps.sum(1).detach().float()


def _occlusion_windows(shape: tuple[int, ...], method: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the window (t, h, w) of an occlusion method for clips of `shape`, and its strides."""
    quarter = [max(1, side // 4) for side in shape[2:]]
    window = {"space": (shape[2], *quarter[1:]), "time": (quarter[0], *shape[3:])}.get(method.split()[-1], (*quarter,))
    return window, window if method == "occlusion in space-time" else tuple(max(1, side // 2) for side in window)


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
    axes = zip(clips.shape[2:], *_occlusion_windows(clips.shape, method), strict=True)
    return math.prod(-(-(side - window) // stride) + 1 for side, window, stride in axes)


def shuffle_weights(network: VideoResNet, stages: Sequence[str]) -> VideoResNet:
    """Return a copy of `network` with the values of each parameter of `stages` in another order, always the same."""
    network, generator = copy.deepcopy(network), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in stages:
            modules = [network.conv1, network.bn1] if name == "conv1" else [getattr(network, name)]
            for tensor in chain.from_iterable(module.parameters() for module in modules):
                order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
                tensor.copy_(tensor.flatten()[order].view_as(tensor))
    return network


def sanity_correlations(network: VideoResNet, clips: Tensor, label: Tensor, methods: Sequence[str] = METHODS) -> Tensor:
    """Return the rank correlation of each method's absolute maps with those of shuffled weights, (methods, 6).

    Spearman's correlation, averaged over clips. Shuffled are fc; fc and conv5_x; and so on to all stages (Adebayo et
    al., "Sanity Checks for Saliency Maps", 2018). NaN where a map is constant.
    """

    def absolute_maps(network: VideoResNet) -> np.ndarray:
        maps = [attribute(network, clips, label, method, STEPS // 4) for method in methods]  # enough steps for ranks
        return torch.stack(maps).abs().flatten(2).cpu().numpy()  # (methods, N, T·H·W)

    stages, before = ("fc", *reversed(STAGES)), absolute_maps(network)
    after = [absolute_maps(shuffle_weights(network, stages[: last + 1])) for last in range(len(stages))]
    return torch.tensor([
        [np.mean([spearman(*pair) for pair in zip(*maps, strict=True)]) for maps in zip(before, shuffled, strict=True)]
        for shuffled in after
    ], dtype=torch.float32).T  # fmt: skip
