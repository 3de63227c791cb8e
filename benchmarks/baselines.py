"""The implementations that are compared: torchvision's network under the flags its users have, and ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import video

from r21d_core.engine.build import build_model, optimize
from r21d_core.engine.device import autocast
from r21d_core.engine.distributed import rank, shard_batch, world_size, wrap_ddp
from r21d_core.engine.state import capture_step, create_state, train_step
from r21d_core.study.spec import Spec

CLASSES = 400
TORCHVISION_MODELS = {"R3D": video.r3d_18, "MC3": video.mc3_18, "R(2+1)D": video.r2plus1d_18}

Step = Callable[[Tensor, Tensor], object]  # of clips (N, 3, T, H, W) and labels (N,)


@dataclass(frozen=True)
class Baseline:
    """An implementation of a network: how to build and wrap it, its precision and the memory layout of its clips."""

    name: str
    build: Callable[[Spec, torch.device], Any]
    precision: str
    channels_last: bool = True
    wrap: Callable[[Any, Spec, torch.device], Any] = lambda network, spec, device: network


def baselines(spec: Spec, device: torch.device, compiled: bool = True) -> list[Baseline]:
    """Return the implementations of a variant, the reference first: torchvision's if it has the network, then ours.

    Torchvision's recipe is automatic mixed precision in fp16 with a gradient scaler, in the default memory layout. Its
    R(2+1)D has fewer mid planes than the paper's. The other two use its network with other flags. On a CPU all are
    fp32.
    """
    gpu = device.type != "cpu"
    mixed = "bf16" if gpu else "fp32"
    ours = [
        Baseline("ours, module by module", _ours, mixed),
        Baseline("ours, as the engine runs it", _ours, mixed, wrap=optimize),
    ]
    if spec.variant not in TORCHVISION_MODELS or (spec.depth, spec.width) != (18, 64):
        return ours
    torchvision = [
        Baseline("torchvision, its recipe", _torchvision, "fp16" if gpu else "fp32", channels_last=False),
        Baseline("torchvision, channels last", _torchvision_channels_last, mixed),
        Baseline(
            "torchvision, compiled", _torchvision_channels_last, mixed, wrap=lambda network, *_: torch.compile(network)
        ),
    ]
    return torchvision[: 3 if compiled else 2] + ours


def _ours(spec: Spec, device: torch.device) -> nn.Module:
    return build_model(spec, CLASSES, device)


def _torchvision(spec: Spec, device: torch.device) -> nn.Module:
    torch.manual_seed(spec.seed)
    return TORCHVISION_MODELS[spec.variant](weights=None, num_classes=CLASSES).to(device)


def _torchvision_channels_last(spec: Spec, device: torch.device) -> nn.Module:
    return _torchvision(spec, device).to(memory_format=torch.channels_last_3d)


def training_step(baseline: Baseline, spec: Spec, device: torch.device) -> tuple[nn.Module, Step]:
    """Return the baseline's network, and its training step: forward, loss, backward, optimizer.

    Several processes take `spec.batch_size` clips each.
    """
    size = world_size()
    batch_size = spec.batch_size * size
    spec = spec.replace(precision=baseline.precision, lr=1e-3, batch_size=batch_size, grad_accum_steps=size)
    network = baseline.build(spec, device)
    state = create_state(spec, network, baseline.wrap(network, spec, device).train())
    state.train_model = wrap_ddp(capture_step(state, size), device)
    return network, partial(train_step, state, shard=shard_batch(batch_size, size, rank(), size))


def inference_step(baseline: Baseline, spec: Spec, device: torch.device) -> tuple[nn.Module, Step]:
    """Return the baseline's network, and its step of classifying clips; the labels are not used."""
    spec = spec.replace(precision=baseline.precision)
    network = baseline.build(spec, device)
    model = baseline.wrap(network, spec, device).eval()

    def step(clips, _):
        with torch.inference_mode(), autocast(spec, device):
            model(clips)

    return network, step
