"""Where the time of a step goes, by the names of the kernels that a GPU runs or the operators that a CPU does."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler writes its own doings between the tables

# The first kind with a word that is in the name, in small letters, has it. Compilers name what they fuse after all
# that is in it, and cuDNN says `relu` in the names of plain convolutions, so the order matters.
KINDS = (
    ("optimiser", ("multi_tensor", "foreach", "sgd", "optimizer")),
    ("BN and ReLU", ("triton", "cpp_fused", "bn_", "batch_norm", "batchnorm")),
    ("copies", ("memcpy", "memset", "copy", "convert", "nchwtonhwc", "nhwctonchw", "fill", "zero_")),
    ("conv wgrad", ("wgrad",)),
    ("conv dgrad", ("dgrad",)),
    ("conv backward", ("convolution_backward",)),
    ("conv forward", ("fprop", "conv", "scudnn")),
    ("matmul", ("gemm", "addmm", "aten::mm")),
    ("BN and ReLU", ("relu", "threshold", "clamp", "functor_add", "aten::add")),
)


def synchronize(device: torch.device) -> None:
    """Return when the device has done all it was asked to."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def time_breakdown(step: Callable[[], object], device: torch.device, steps: int = 3) -> list[tuple[str, float]]:
    """The kinds of work in a few calls of `step` and their shares, which sum to 1, the largest first.

    On a GPU the share of the time in which kernels run, and nothing where the profiler may not see them; on a CPU of
    the operators' own time.
    """
    gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with profile(activities=activities, acc_events=True) as seen:
        for _ in range(steps if gpu else 1):
            step()
        synchronize(device)
    times: Counter[str] = Counter()
    for event in seen.key_averages():
        if not gpu:
            times[kind_of(event.key)] += event.self_cpu_time_total
        elif event.device_type == DeviceType.CUDA and not event.is_user_annotation:  # a span around kernels
            times[kind_of(event.key)] += event.self_device_time_total
    total = sum(times.values())
    return [(kind, time / total) for kind, time in times.most_common() if time]


def kind_of(name: str) -> str:
    """The kind of a kernel or operator of this name: one of KINDS, or "other"."""
    name = name.lower()
    return next((kind for kind, words in KINDS if any(word in name for word in words)), "other")
