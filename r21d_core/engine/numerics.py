"""Whether the fast form of a network computes here what the plain one does, found out before it is relied on."""

from __future__ import annotations

import copy
from functools import partial
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from r21d_core.models.fast_forward import FastVideoResNet
from r21d_core.models.network import VideoResNet

CLIPS, SIZE = 4, 64  # of the check; the last batch norm has enough values then for its statistics to mean something
ERROR_FACTOR, ATOL = 2.0, 1e-3
DAMPED = 0.2  # what the blocks add is made less by: a new network's gradients in 16 bits are noise for a good part


def check_numerics(network: VideoResNet, dtype: torch.dtype, kernels: ModuleType, frames: int) -> str | None:
    """What of the fast form of `network` is further from fp32 than it may be, in words; None if nothing is.

    The logits, the parameters' gradients, the running statistics and the logits of evaluation may have FACTOR times the
    error that autocast to `dtype` has. `network` stays as it is.
    """
    first = next(network.conv1.parameters())
    clips = torch.randn(CLIPS, first.shape[1], frames, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    clips = clips.to(first.device)
    flags = {"enabled": True, "benchmark": False, "deterministic": False, "allow_tf32": False}
    with torch.backends.cudnn.flags(**flags):
        exact = _computed(network, clips, None, None)
        usual = _computed(network, clips, dtype, None)
        ours = _computed(network, clips, dtype, kernels)
    for what in exact:
        allowed, error = _error(usual[what], exact[what]), _error(ours[what], exact[what])
        if not error <= ERROR_FACTOR * allowed + ATOL:
            return f"the error of its {what} is {error:.2g}, that of autocast {allowed:.2g}"
    return None


def _computed(
    network: VideoResNet, clips: Tensor, dtype: torch.dtype | None, kernels: ModuleType | None
) -> dict[str, list[Tensor]]:
    """What a copy of `network` gives in a training step and an evaluation; in its fast form if `kernels` are given."""
    network = copy.deepcopy(network).train()
    for name, module in network.named_modules():
        if name.endswith(".bn2"):
            module.weight.data.mul_(DAMPED)
    forward = FastVideoResNet(network, dtype, kernels) if kernels else partial(VideoResNet.forward, network)
    autocast = torch.autocast(clips.device.type, dtype, enabled=dtype is not None)
    with autocast:
        logits = forward(clips)
    target = torch.arange(len(clips), device=clips.device) % logits.shape[1]
    (F.cross_entropy(logits.float(), target) * 1024).backward()  # which 16 bits need for small gradients
    network.eval()
    with torch.no_grad(), autocast:
        evaluated = forward(clips)
    return {
        "logits": [logits.detach()],
        "gradients": [p.new_zeros(p.shape) if p.grad is None else p.grad for p in network.parameters()],
        "running statistics": [value for name, value in network.named_buffers() if "running" in name],
        "evaluation": [evaluated],
    }


def _error(values: list[Tensor], exact: list[Tensor]) -> float:
    """The relative error that three quarters of the tensors stay under: single ones hang on a ReLU or two."""
    relative = [
        (value.double() - other.double()).norm() / other.double().norm().clamp_min(1e-30)
        for value, other in zip(values, exact, strict=True)
    ]
    return torch.stack(relative).quantile(0.75).item()
