"""The forms in which people run a variant: torchvision's network under the flags its users have, and ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import video

from r21d_core.engine.build import build_model, optimize
from r21d_core.engine.device import autocast
from r21d_core.engine.distributed import shard_batch
from r21d_core.engine.state import capture_step, create_state, train_step
from r21d_core.study.spec import Spec

CLASSES = 400
TORCHVISION_MODELS = {"R3D": video.r3d_18, "MC3": video.mc3_18, "R(2+1)D": video.r2plus1d_18}

Step = Callable[[Tensor, Tensor], object]  # of clips (N, 3, T, H, W) and labels (N,)


def _as_it_is(network, spec, device):
    return network


def _compiled(network, spec, device):
    return torch.compile(network)


@dataclass(frozen=True)
class Baseline:
    """A network and how it is run: its precision, the layout of its clips, and what makes a callable of it."""

    what: str
    network: Callable[[Spec, torch.device], Any]
    precision: str
    channels_last: bool = True
    call: Callable[[Any, Spec, torch.device], Any] = _as_it_is


def baselines(spec: Spec, device: torch.device, compile_peers: bool = True) -> list[Baseline]:
    """The forms of a variant, the reference first: torchvision's where it has the network, then ours.

    Torchvision's recipe is automatic mixed precision in fp16 with a scaler, in the default layout; its R(2+1)D has
    somewhat fewer planes than the paper's. Flags alone make the other two of its forms. On a CPU all are fp32.
    """
    gpu = device.type != "cpu"
    mixed = "bf16" if gpu else "fp32"
    ours = [
        Baseline("ours, module by module", _ours, mixed),
        Baseline("ours, as the engine runs it", _ours, mixed, call=optimize),
    ]
    if spec.variant not in TORCHVISION_MODELS or (spec.depth, spec.width) != (18, 64):
        return ours
    peers = [
        Baseline("torchvision, its recipe", _peer, "fp16" if gpu else "fp32", channels_last=False),
        Baseline("torchvision, channels last", _peer_last, mixed),
        Baseline("torchvision, compiled", _peer_last, mixed, call=_compiled),
    ]
    return peers[: 3 if compile_peers else 2] + ours


def _ours(spec: Spec, device: torch.device) -> nn.Module:
    return build_model(spec, CLASSES, device)


def _peer(spec: Spec, device: torch.device) -> nn.Module:
    torch.manual_seed(spec.seed)
    return TORCHVISION_MODELS[spec.variant](weights=None, num_classes=CLASSES).to(device)


def _peer_last(spec: Spec, device: torch.device) -> nn.Module:
    return _peer(spec, device).to(memory_format=torch.channels_last_3d)


def training_step(form: Baseline, spec: Spec, device: torch.device) -> tuple[nn.Module, Step]:
    """Return the baseline's network, and its training step: forward, loss, backward, optimizer."""
    spec = spec.replace(precision=form.precision, lr=1e-3, grad_accum_steps=1)
    network = form.network(spec, device)
    state = create_state(spec, network, form.call(network, spec, device).train())
    state.train_model = capture_step(state, 1)
    shard = shard_batch(spec.batch_size, 1, rank=0, world_size=1)
    return network, lambda clips, target: train_step(state, clips, target, shard)


def inference_step(form: Baseline, spec: Spec, device: torch.device) -> tuple[nn.Module, Step]:
    """The form's network, and a step that classifies clips and does not look at labels."""
    spec = spec.replace(precision=form.precision)
    network = form.network(spec, device)
    model = form.call(network, spec, device).eval()

    def step(clips, _):
        with torch.inference_mode(), autocast(spec, device):
            model(clips)

    return network, step
