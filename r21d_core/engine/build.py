"""From a Spec to its network and its network's cost."""

from __future__ import annotations

import torch

from r21d_core.nets.cost import Cost, cost
from r21d_core.nets.network import VideoResNet
from r21d_core.study.spec import Spec


def build(spec: Spec, classes: int, device: torch.device) -> VideoResNet:
    """The network of `spec` with the initial weights of its seed, in the layout convolutions are fastest in."""
    torch.manual_seed(spec.seed)
    network = VideoResNet(spec.variant, spec.depth, spec.width, classes=classes, frames=spec.frames)
    return network.to(device, memory_format=torch.channels_last_3d)


def cost_of(spec: Spec, classes: int) -> Cost:
    """Parameters, multiply-adds and sizes of the network that `build` makes."""
    return cost(spec.variant, spec.depth, spec.width, spec.frames, classes, size=spec.crop)
