"""The device, the precision and what is to be known of both beside a number."""

from __future__ import annotations

import platform
import subprocess
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path

import torch

from r21d_core import R21DError, __version__
from r21d_core.study.spec import Spec

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str = "auto") -> torch.device:
    """`name` as a device, "auto" being the GPU where there is one; raises R21DError if it is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        if "device type at start" in reason:  # lists every backend that PyTorch has a name for
            reason = "no such kind"
        raise R21DError(f"device {name!r}: not usable here ({reason}); try auto, cpu or cuda") from error
    torch.backends.cudnn.benchmark = True  # every batch of a run has the same shape, so the search pays
    return device


def autocast(spec: Spec, device: torch.device) -> AbstractContextManager:
    """The mixed precision of the Spec on a GPU, for a `with`; on a CPU nothing, so that all is fp32 there."""
    # On CPUs with AMX PyTorch 2.14's bf16 convolutions put inf and NaN into the gradients of weights.
    if spec.precision == "fp32" or device.type == "cpu":
        return nullcontext()
    return torch.autocast(device.type, DTYPES[spec.precision])


def device_name(device: torch.device) -> str:
    """What a table calls the device, such as "NVIDIA H100 80GB HBM3" or "x86_64 CPU, 2 threads"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def environment_info(device: torch.device) -> dict:
    """Versions, device and commit, for the run folder's environment.json."""
    source = Path(__file__).parent
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=source, capture_output=True, text=True
    )
    return {
        "r21d": __version__,
        "commit": git.stdout.strip() or None,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": device_name(device),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "packages": {name: version(name) for name in ("torch", "torchvision", "numpy", "av")},
    }
