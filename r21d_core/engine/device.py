"""The device of a run, its precision and threads, and the environment that is recorded with its results."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch

from r21d_core import R21DError, __version__, count_noun
from r21d_core.models.cost import spec_cost
from r21d_core.study.spec import Spec

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Multiply-adds of a forward pass over one batch, below which a CPU computes with one thread. With five times as many
# processes as cores, steps of 0.2 to 0.9e9 took 3 to 14 times as long with two threads; the demo's have 0.05 to 0.5e9.
SMALL_MACS = 2e9


def pick_device(name: str = "auto") -> torch.device:
    """Return the device called `name`, "auto" being the GPU if there is one; raises R21DError if it is not usable."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device).item()  # which "meta", that holds no values, refuses
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        reason = "no such kind" if "device type at start" in reason else reason  # instead of a list of all backends
        raise R21DError(f"device {name!r}: not usable here ({reason}); try auto, cpu or cuda") from error
    if device.index is not None and device.type == "cuda":
        torch.cuda.set_device(device)  # Triton's kernels and CUDA graphs run on the current device
    torch.backends.cudnn.benchmark = True  # a run's batches all have the same shape
    # Kernels tried for each convolution: the default, 10, misses some that are faster by a fifth, and 40 take 7 to 16 s
    # longer to try, 20 less than 1 s.
    torch.backends.cudnn.benchmark_limit = 20
    return device


def is_small(spec: Spec) -> bool:
    """Return whether the network and batch of `spec` are too small to gain from a second CPU thread."""
    return spec_cost(spec, 1).macs * spec.batch_size < SMALL_MACS


@contextmanager
def limit_cpu_threads(spec: Spec, device: torch.device) -> Iterator[None]:
    """Compute with one thread in this context if `device` is a CPU and the network is small."""
    threads = torch.get_num_threads()
    if device.type == "cpu" and is_small(spec):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def autocast(spec: Spec, device: torch.device) -> torch.autocast:
    """Return the context of the spec's mixed precision on a GPU; a CPU computes in fp32."""
    # PyTorch 2.14's bf16 convolutions on CPUs with AMX put inf and NaN into the weights' gradients.
    enabled = spec.precision != "fp32" and device.type != "cpu"
    return torch.autocast(device.type, DTYPES.get(spec.precision), enabled=enabled)


def device_name(device: torch.device) -> str:
    """Return a name for tables, such as "NVIDIA H100 80GB HBM3" or "x86_64 CPU, 2 threads"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {count_noun(torch.get_num_threads(), 'thread')}"


def environment_info(device: torch.device) -> dict:
    """Return versions, device and, in a checkout, its commit, for the run folder's environment.json."""
    return {
        "r21d": __version__,
        "commit": _describe_commit(Path(__file__).parents[2]),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": device_name(device),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "packages": {name: version(name) for name in ("torch", "torchvision", "numpy", "av")},
    }


def _describe_commit(checkout: Path) -> str | None:
    """The commit of the checkout; None for an installed package, whose folder may lie in a repository of another
    project, and where git is not installed, as in many container images.
    """
    if not (checkout / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, cwd=checkout, capture_output=True, text=True).stdout.strip() or None
    except OSError:
        return None
