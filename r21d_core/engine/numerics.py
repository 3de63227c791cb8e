"""Compare what a faster form of a model computes with what it should compute, before it is used."""

from __future__ import annotations

import copy
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from r21d_core.models.fast_forward import FastVideoResNet
from r21d_core.models.network import VideoResNet

N_CLIPS, SIZE = 4, 64  # of the check's clips; the last batch norm then has enough values for its statistics
WIDTH = 64  # narrower networks get as many more clips: among few activations the sign of one ReLU is a large error
ERROR_FACTOR, ATOL = 2.0, 1e-3
BLOCK_SCALE = 0.2  # damps the residual blocks: undamped, 16-bit gradients of an untrained network are mostly noise
OUTPUTS = 512  # of fc, at least: over a few classes both errors are mostly chance, and a form that works failed
LOSS_SCALE = 256  # of one clip; keeps small gradients representable in fp16


def check_numerics(model: VideoResNet, dtype: torch.dtype, kernels: ModuleType, frames: int) -> str | None:
    """Return which result of the fast form of `model` is too far from fp32, as text; None if all are close enough.

    Logits, gradients, running statistics and logits in evaluation may have ERROR_FACTOR times the error of autocast to
    `dtype`. `model` is not changed.
    """
    weight = next(model.conv1.parameters())
    generator = torch.Generator().manual_seed(0)
    model = copy.deepcopy(model)
    if model.fc.out_features < OUTPUTS:
        with torch.random.fork_rng(devices=[]):  # the caller's generator stays as it is
            torch.manual_seed(0)
            model.fc = nn.Linear(model.fc.in_features, OUTPUTS).to(model.fc.weight)
    n_clips = N_CLIPS * max(WIDTH // model.bn1.num_features, 1)
    clips = torch.randn(n_clips, weight.shape[1], frames, SIZE, SIZE, generator=generator).to(weight.device)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False):
        exact = _results(model, clips, None, None)
        mixed = _results(model, clips, dtype, None)
        fast = _results(model, clips, dtype, kernels)
    for name in exact:
        allowed, error = relative_error(mixed[name], exact[name]), relative_error(fast[name], exact[name])
        if not error <= ERROR_FACTOR * allowed + ATOL:
            return f"the error of its {name} is {error:.2g}, that of autocast {allowed:.2g}"
    return None


def _results(model: VideoResNet, clips: Tensor, dtype: torch.dtype | None, kernels: ModuleType | None) -> dict:
    """Return the results of a training pass and an evaluation of a copy of `model`, in its fast form with `kernels`."""
    model = copy.deepcopy(model).train()
    for name, parameter in model.named_parameters():
        if name.endswith(".bn2.weight"):
            parameter.data.mul_(BLOCK_SCALE)
    module = FastVideoResNet(model, dtype, kernels) if dtype and kernels else model
    results = training_pass(module, clips, dtype, LOSS_SCALE * len(clips))
    module.eval()
    with torch.no_grad(), torch.autocast(clips.device.type, dtype, enabled=dtype is not None):
        evaluation = module(clips)
    statistics = [value for name, value in model.named_buffers() if "running" in name]
    return results | {"running statistics": statistics, "evaluation": [evaluation]}


def training_pass(module: nn.Module, clips: Tensor, dtype: torch.dtype | None = None, loss_scale=1.0) -> dict:
    """Return the logits of a pass under autocast to `dtype` and all gradients, which the parameters then lose."""
    with torch.autocast(clips.device.type, dtype, enabled=dtype is not None):
        logits = module(clips)
    target = torch.arange(len(clips), device=clips.device) % logits.shape[1]
    (F.cross_entropy(logits.float(), target) * loss_scale).backward()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in module.parameters()]
    module.zero_grad()
    return {"logits": [logits.detach()], "gradients": gradients}


def relative_error(values: list[Tensor], expected: list[Tensor]) -> float:
    """Return the 75th percentile of the tensors' relative errors; those of a few may depend on the sign of one ReLU."""
    pairs = [(value.double(), exact.double()) for value, exact in zip(values, expected, strict=True)]
    errors = [(value - exact).norm() / exact.norm().clamp_min(1e-30) for value, exact in pairs]
    return torch.stack(errors).quantile(0.75).item()
