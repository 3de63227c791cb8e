"""The time of a step by kind of kernel (GPU) or operator (CPU), told by their names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # keeps the profiler's log out of the output

# The first kind that has a word in the lower-case name. The order matters: names of fused kernels list all their
# operations, and cuDNN has `relu` in the names of plain convolutions.
KINDS = (
    ("optimiser", ("multi_tensor", "foreach", "sgd", "optimizer")),
    ("conv forward", ("pair_inference",)),  # batch norm is folded into its weights
    ("BN in convolutions", ("pair_",)),  # kernels of r21d_core/models/pair_kernels.py
    ("BN and ReLU", ("triton", "cpp_fused", "bn_", "batch_norm", "batchnorm")),
    ("copies", ("memcpy", "memset", "copy", "convert", "nchwtonhwc", "nhwctonchw", "fill", "zero_", "_store_line")),
    ("conv wgrad", ("wgrad",)),
    ("conv dgrad", ("dgrad",)),
    ("conv backward", ("convolution_backward",)),
    ("conv forward", ("fprop", "conv", "scudnn")),
    ("matmul", ("gemm", "addmm", "aten::mm")),
    ("BN and ReLU", ("relu", "threshold", "clamp", "functor_add", "aten::add")),
)


def synchronize(device: torch.device) -> None:
    """Wait until all work on the device is done."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def time_breakdown(step: Callable[[], object], device: torch.device, steps: int = 3) -> list[tuple[str, float]]:
    """Return kinds of kernels and their fractions of the time of a few calls of `step`, the largest first.

    On a GPU these are fractions of kernel time, and the list is empty if the profiler has no access; on a CPU, of the
    operators' self time.
    """
    gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with profile(activities=activities, acc_events=True) as profiler:
        for _ in range(steps if gpu else 1):
            step()
        synchronize(device)
    times: Counter[str] = Counter()
    for event in profiler.key_averages():
        if not gpu:
            times[kernel_kind(event.key)] += event.self_cpu_time_total
        elif event.device_type == DeviceType.CUDA and not event.is_user_annotation:  # a span around kernels
            times[kernel_kind(event.key)] += event.self_device_time_total
    total = sum(times.values())
    return [(kind, time / total) for kind, time in times.most_common() if time]


def kernel_kind(name: str) -> str:
    """Return the kind of a kernel or operator by its name: one of KINDS, or "other"."""
    name = name.lower()
    return next((kind for kind, words in KINDS if any(word in name for word in words)), "other")
