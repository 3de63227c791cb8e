"""How fast a network runs here, measured for a moment on made-up clips."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from r21d_core.engine.build import build_model, build_optimizer
from r21d_core.engine.cuda_graphs import capture_cuda_graph
from r21d_core.engine.device import autocast
from r21d_core.models.cost import CHANNELS
from r21d_core.study.spec import Spec

EVALUATION_BATCH = 32


def inference_throughput(network: nn.Module, spec: Spec, device: torch.device) -> float:
    """Clips a second that `network` classifies, the median of several passes after a warm-up, data aside."""
    clips = _clips(spec, EVALUATION_BATCH, device)
    trained = network.training
    network.eval()
    with torch.inference_mode(), autocast(spec, device):
        seconds = _median_seconds(lambda: network(clips), device)
    network.train(trained)
    return EVALUATION_BATCH / seconds


def training_throughput(spec: Spec, classes: int, device: torch.device, processes: int = 1) -> float:
    """Clips a second that each of so many processes takes in of training steps, without reading or augmenting them.

    What they have to tell each other is left out; all else is as in `train`.
    """
    network = build_model(spec, classes, device)
    parts, size = max(spec.grad_accum_steps // processes, 1), spec.batch_size // spec.grad_accum_steps
    clips = _clips(spec, size, device)
    if spec.grad_accum_steps == processes:
        capture_cuda_graph(network, spec, size)
    optimiser = build_optimizer(network, spec.replace(lr=1e-6))

    def step():
        for _ in range(parts):
            with autocast(spec, device):
                loss = network(clips).float().logsumexp(1).mean()
            loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    return parts * size / _median_seconds(step, device)


def _clips(spec: Spec, count: int, device: torch.device) -> torch.Tensor:
    shape = (count, CHANNELS[spec.modality], spec.frames, spec.crop, spec.crop)
    return torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last_3d)


def _median_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Of ten calls, or of fewer once two seconds have passed, after one that is not counted: it looks for kernels."""
    seconds: list[float] = []
    work()
    began = time.perf_counter()
    while len(seconds) < 10 and (not seconds or time.perf_counter() - began < 2):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
