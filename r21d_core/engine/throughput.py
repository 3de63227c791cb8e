"""Measure training and inference throughput on synthetic clips."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import psutil
import torch
from torch import nn
from tqdm.auto import tqdm

from r21d_core.data.parallel import available_cpus
from r21d_core.engine.build import build_model, optimize
from r21d_core.engine.device import autocast, device_name, is_small, limit_cpu_threads, pick_device
from r21d_core.engine.distributed import shard_batch
from r21d_core.engine.pool import count_parallel_runs
from r21d_core.engine.state import capture_step, create_state, train_step
from r21d_core.models.cost import CHANNELS, spec_cost
from r21d_core.models.imported import named_failures
from r21d_core.study.spec import Spec

EVALUATION_BATCH = 32
PLAN_SECONDS = 5.0  # for measuring networks before a plan is printed
SLOW_ON_CPU = (
    "The device is a CPU, and networks of this size need a GPU. A few steps are timed now, to tell how long training "
    "takes. The profile `demo` is made for a CPU."
)


def measure_runs(
    specs: Sequence[Spec], num_classes: Mapping[Spec, int], device: str, gpus: int
) -> tuple[dict[Spec, float], dict[Spec, float], int, float, str]:
    """Return what runs take on a device: training clips a second and GPU, and seconds to start, of each run; the number
    of runs trained at once; how many times longer all takes if the CPU's present load lasts; and the device in words.

    The start of a run builds the network, selects kernels and measures inference, as this measurement does. The seeds
    of a network share a measurement. After PLAN_SECONDS clips a second are in proportion to the MACs of training.
    """
    target = pick_device(device)
    if target.type == "cuda":
        allocated = torch.cuda.memory_allocated(target)  # such as videos of earlier runs
        torch.cuda.reset_peak_memory_stats(target)
    is_slow = target.type == "cpu" and not all(map(is_small, specs))
    if is_slow:
        print(SLOW_ON_CPU, flush=True)
    macs = {spec: spec_cost(spec, num_classes[spec]).training_macs(spec.frozen_stages) for spec in specs}
    # Of other processes, before this one computes. It is the machine's, of which this process may have a part.
    load = psutil.getloadavg()[0] * available_cpus() / (os.cpu_count() or 1) if target.type == "cpu" else 0.0
    throughputs: dict[Spec, float] = {}
    starts: dict[Spec, float] = {}
    began = now = time.perf_counter()
    for network, spec in tqdm({spec.replace(seed=0): spec for spec in specs}.items(), "measuring steps", leave=False):
        if not throughputs or now - began < PLAN_SECONDS:
            timed = network.replace(batch_size=2, grad_accum_steps=1) if is_slow else network  # 32 clips take minutes
            throughputs[network] = training_throughput(timed, num_classes[spec], target, gpus)
            last = throughputs[network] * macs[spec]
            start = time.perf_counter() - now
            now += start
        else:
            throughputs[network] = last / macs[spec]
        starts[network] = start
    with limit_cpu_threads(max(specs, key=lambda spec: macs[spec] * spec.batch_size), target):
        where = f"{gpus} × {device_name(target)}" if gpus > 1 else device_name(target)
        threads = torch.get_num_threads()
    if target.type == "cuda":
        where += f", {(torch.cuda.max_memory_allocated(target) - allocated) / 2**30:.1f} GiB beside the videos"
    slots = count_parallel_runs(specs, target) if gpus == 1 else 1
    if slots > 1:
        where += f", {slots} runs at a time"
    own = min(threads * slots * gpus, available_cpus())
    slowdown = max(1.0, (load + own) / available_cpus()) if load > 0.1 else 1.0  # a tenth of a CPU is always busy
    rates, seconds = ({spec: each[spec.replace(seed=0)] for spec in specs} for each in (throughputs, starts))
    return rates, seconds, slots, slowdown, where


def inference_throughput(model: nn.Module, spec: Spec, device: torch.device) -> float:
    """Return how many clips a second `model` classifies, without data loading: the median of several passes."""
    clips = _random_clips(spec, EVALUATION_BATCH, device)
    training = model.training
    model.eval()
    with torch.inference_mode(), autocast(spec, device):
        seconds = _median_seconds(lambda: model(clips), device)
    model.train(training)
    return EVALUATION_BATCH / seconds


def training_throughput(spec: Spec, num_classes: int, device: torch.device, processes: int = 1) -> float:
    """Return how many clips a second each of `processes` trains on, without data loading and communication."""
    n_micro_batches = max(spec.grad_accum_steps // processes, 1)
    n_clips = n_micro_batches * (spec.batch_size // spec.grad_accum_steps)
    with limit_cpu_threads(spec, device):
        model = build_model(spec, num_classes, device)
        state = create_state(spec.replace(lr=1e-6), model, optimize(model, spec, device))
        state.train_model = capture_step(state, processes)
        shard = shard_batch(n_clips, n_micro_batches, 0, 1)
        clips, target = _random_clips(spec, n_clips, device), torch.arange(n_clips, device=device) % num_classes
        with named_failures(spec.variant):
            return n_clips / _median_seconds(lambda: train_step(state, clips, target, shard), device)


def _random_clips(spec: Spec, n: int, device: torch.device) -> torch.Tensor:
    shape = (n, CHANNELS[spec.modality], spec.frames, spec.crop, spec.crop)
    return torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last_3d)


def _median_seconds(call: Callable[[], object], device: torch.device) -> float:
    """Return the median of ten calls, or of those begun within two seconds, after one that selects the kernels."""
    seconds: list[float] = []
    while len(seconds) < 11 and sum(seconds[1:]) < 2:
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])
