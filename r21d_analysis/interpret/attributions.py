"""Attribution maps by Captum's methods, two checks of them, and the evidence that remains in perturbed clips.

All methods take a network from `for_attribution`, clips (N, channels, T, H, W) and a class for each clip, and return
maps (N, T, H, W): what each position and frame adds to the logit of the class. The baseline of methods that need one is
a clip of the data's mean color (of flow, no motion), which is zero to the network.

The checks are completeness, and sanity under shuffled weights. Evidence is the logit of the class minus the mean of the
others, relative to that of the baseline. A frozen clip keeps the appearance. The rest is due to motion, or to a still
clip being an unusual input; this experiment cannot separate the two.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from itertools import chain, pairwise, product

import numpy as np
import torch
from captum.attr import DeepLift, GuidedBackprop, IntegratedGradients, LayerAttribution, LayerGradCam, Occlusion
from torch import Tensor, nn
from tqdm.auto import tqdm

from r21d_analysis.interpret.checkpoints import EvalClips
from r21d_analysis.interpret.evidence import TILES
from r21d_analysis.interpret.filters import STAGES
from r21d_analysis.statistics.inference import spearman
from r21d_core.models.network import VideoResNet

STEPS = 32  # of integrated gradients
BATCH = 16  # clips in a forward pass
MAX_VOXELS = 4 * 8 * 112 * 112  # T·H·W of all clips in a pass, so that their gradients fit a laptop
METHODS = ("integrated gradients", "DeepLift", "guided backprop", "Grad-CAM",
           "occlusion in space", "occlusion in time", "occlusion in space-time")  # fmt: skip
COMPLETE = METHODS[:2]  # maps add up to the logit minus that of the baseline
DRAWS = 3  # frozen frames and random orders; evidence and accuracy are means over them
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

    Spearman's correlation, averaged over clips. Shuffled are fc; fc and conv5_x; and so on to all stages, which Adebayo
    et al. ("Sanity Checks for Saliency Maps", 2018) initialize again instead. NaN where a map is constant.
    """

    def absolute_maps(network: VideoResNet) -> np.ndarray:
        maps = [attribute(network, clips, label, method, STEPS // 4) for method in methods]  # enough steps for ranks
        return torch.stack(maps).abs().flatten(2).cpu().numpy()  # (methods, N, T·H·W)

    stages, before = ("fc", *reversed(STAGES)), absolute_maps(network)
    correlations = torch.empty(len(methods), len(stages))
    for last in range(len(stages)):
        after = absolute_maps(shuffle_weights(network, stages[: last + 1]))
        for row in range(len(methods)):
            correlations[row, last] = float(spearman(before[row], after[row]).mean())
    return correlations


def logit_margin(logits: Tensor, label: Tensor) -> Tensor:
    """Return the logit of each clip's label minus the mean of its other logits, (n,), for `logits` (n, classes)."""
    label_logit = logits.gather(1, label[:, None])[:, 0]
    return label_logit - (logits.sum(1) - label_logit) / (logits.shape[1] - 1)


def temporal_perturbations(clips: Tensor) -> dict[str, list[Tensor]]:
    """Return clips (n, 3, T, H, W) under each of PERTURBATIONS.

    Frozen at the frames at 1/4, 2/4 and 3/4; shuffled in DRAWS fixed orders; reversed.
    """
    t = clips.shape[2]
    frozen = [[min(t * (draw + 1) // (DRAWS + 1), t - 1)] * t for draw in range(DRAWS)]
    orders = {"frozen": frozen, "shuffled": random_orders(t), "reversed": [list(range(t))[::-1]]}
    return {name: [clips[:, :, order] for order in draws] for name, draws in orders.items()}


def random_orders(n_frames: int) -> list[list[int]]:
    """Return DRAWS fixed orders of the frames; with three or more never the true order or its reverse."""
    rng, orders = np.random.default_rng(0), []
    while len(orders) < DRAWS:
        order = rng.permutation(n_frames).tolist()
        if n_frames < 3 or sorted(order) not in (order, order[::-1]):
            orders.append(order)
    return orders


def occlude_tiles(clips: Tensor) -> list[Tensor]:
    """Return clips with each tile of a TILES × TILES grid set to the mean color in all frames, row by row."""
    occluded = []
    rows, columns = (np.linspace(0, size, TILES + 1).astype(int) for size in clips.shape[3:])
    for (top, bottom), (left, right) in product(pairwise(rows), pairwise(columns)):
        occluded.append(clips.clone())
        occluded[-1][..., top:bottom, left:right] = 0
    return occluded


@torch.inference_mode()
def measure_evidence(network: nn.Module, test: EvalClips, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the evidence for the label of each of the items `rows` of the test set, and whether it is predicted.

    `original` (n,) is the evidence in the clip, each of PERTURBATIONS (n,) in the perturbed clip, `occluded`
    (n, TILES²) without each tile. `label` (n,); `correct` (n,) is whether the prediction is the label, and
    `correct_frozen`, … (n,) the fraction of draws in which it is.
    """
    parts: dict[str, list[np.ndarray]] = {}
    for batch, _, clips in tqdm(test.iter_batches(rows), "measuring evidence", unit="batch", leave=False):
        label = torch.from_numpy(test.clips.label[batch]).to(clips.device)
        baseline = logit_margin(network(torch.zeros_like(clips[:1])).expand(len(clips), -1), label)
        logits = network(clips)
        values = {"label": label, "correct": logits.argmax(1) == label}
        values["original"] = logit_margin(logits, label) - baseline
        for name, draws in temporal_perturbations(clips).items():
            logits = [network(draw) for draw in draws]
            values[name] = torch.stack([logit_margin(draw, label) - baseline for draw in logits]).mean(0)
            values[f"correct_{name}"] = torch.stack([draw.argmax(1) == label for draw in logits]).float().mean(0)
        values["occluded"] = torch.stack([logit_margin(network(x), label) - baseline for x in occlude_tiles(clips)], 1)
        for name, tensor in values.items():
            parts.setdefault(name, []).append(tensor.cpu().numpy())
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}
