"""Weights from a file, whoever wrote it, and into a network, saying what was loaded and what was not."""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from r21d_core import R21DError
from r21d_core.models.convert import Weights, form_of, identify_architecture
from r21d_core.models.network import VideoResNet
from r21d_core.models.zoo import PUBLISHED
from r21d_core.study.spec import Spec

FORM = ("variant", "depth", "width", "frames", "stem_midplanes", "midplanes_per_block")  # what must be the same


@dataclass(frozen=True)
class LoadReport:
    """What `load_into` did, to be printed. `left` has for each tensor that kept its own values the reason."""

    path: Path
    layout: str
    loaded: tuple[str, ...]
    parameters: int  # numbers loaded, running statistics not counted
    skipped: dict[str, str]

    def __str__(self) -> str:
        text = f"{self.path} ({self.layout}): {self.parameters:,} parameters in {len(self.loaded)} tensors loaded"
        if not self.skipped:
            return f"{text}, nothing left out"
        return f"{text}; not loaded: " + ", ".join(f"{name} ({reason})" for name, reason in self.skipped.items())


def read_weights(path: Path | str) -> Weights:
    """The Weights in the file at `path`; nothing in it is executed.

    Known are a run folder's checkpoint, a state dict of `VideoResNet`, torchvision's `r3d_18`, `mc3_18` and
    `r2plus1d_18`, and the authors' R(2+1)D in PyTorch (IG-65M and Kinetics), alone or in what training scripts wrap
    them in. Raises R21DError, naming the file, for one that is missing, damaged or something else, and naming the
    key that fits nothing, is missing or has another shape.
    """
    path = Path(path)
    sha256 = _sha256(path)
    for row in PUBLISHED:
        if path.name == row.file and not sha256.startswith(row.sha256):
            raise R21DError(f"{path}: damaged, as its SHA-256 begins with {sha256[:8]}; fetch it again from {row.url}")
    saved, spec = _load(path), None
    if isinstance(saved, Mapping) and isinstance(saved.get("spec"), Mapping) and "network" in saved:
        spec, saved = Spec().replace(**saved["spec"]), saved["network"]
    return identify_architecture(_unwrapped(path, saved), path, sha256, spec)


def model_from_weights(weights: Weights) -> VideoResNet:
    """A network of the weights' own form that has them all. An eps that the file does not say is ours, 1e-3.

    Or torchvision's, 1e-5, with M_i once a block, since only its weights are so.
    """
    form = {name: getattr(weights, name) for name in (*FORM, "classes", "channels")}
    eps = weights.eps or (1e-5 if weights.midplanes_per_block else 1e-3)
    with torch.device("meta"):  # no initial weights, as all are overwritten
        network = VideoResNet(**form | {"frames": weights.frames or 8}, eps=eps)
    network.to_empty(device="cpu")
    network.load_state_dict(weights.state)
    return network


def load_weights_into(network: VideoResNet, weights: Weights) -> LoadReport:
    """Give `network` the weights, but for fc where the classes are others and conv1 where the channels are.

    Those keep their values, such as the random ones they were made with. Raises R21DError, naming the field of Spec,
    where the form is another; nothing has changed then.
    """
    own = network.state_dict()
    here = form_of(own, str, Path("the network")) | {"variant": network.variant, "frames": network.frames}
    pairs = {name: (here[name], getattr(weights, name)) for name in FORM}
    pairs["eps"] = network.bn1.eps, weights.eps or network.bn1.eps
    for name, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise R21DError(f"{weights.path}: {name} is {theirs} for these weights, and {ours} in the network; "
                            f"set {name}={theirs}, or take other weights")  # fmt: skip
    fits = {name: tensor for name, tensor in weights.state.items() if tensor.shape == own[name].shape}
    network.load_state_dict(fits, strict=False)
    reasons = {
        "fc": f"{weights.classes} classes there, {here['classes']} others here",
        "conv1": f"{weights.channels} channels there, {here['channels']} here",
    }
    left = {name: reasons[name.split(".")[0]] for name in own if name not in fits}
    parameters = sum(p.numel() for name, p in network.named_parameters() if name in fits)
    return LoadReport(weights.path, weights.layout, tuple(fits), parameters, left)


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise R21DError(f"{path}: {error.strerror or error}; expected a file of weights") from error


def _load(path: Path):
    try:
        # Training scripts, torchvision's and the authors' among them, keep their options beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged pickle raises may be anything
        reason = "not a whole file of PyTorch weights; fetch or save it again"
        if found := re.search(r"Unsupported global: GLOBAL (\S+)", str(error)):
            reason = f"holds {found[1]}, a Python object that could run code; save the state dict alone"
        if path.suffix == ".pkl" or b"blobs" in path.read_bytes()[:4096]:
            reason = "a Caffe2 pickle, which is not read here; take its conversion to PyTorch, see `r21d weights`"
        raise R21DError(f"{path}: {reason}") from error


def _unwrapped(path: Path, saved) -> dict[str, Tensor]:
    while isinstance(saved, Mapping) and (inner := {"state_dict", "model_state_dict", "model"} & saved.keys()):
        saved = saved[min(inner)]
    if not isinstance(saved, Mapping) or not saved:
        raise R21DError(f"{path}: holds no state dict, only {type(saved).__name__}")
    for prefix in ("module.", "_orig_mod.", "module."):  # of DataParallel and torch.compile
        if all(str(key).startswith(prefix) for key in saved):
            saved = {key.removeprefix(prefix): value for key, value in saved.items()}
    for key, value in saved.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise R21DError(f"{path}: {key} is a {type(value).__name__}, expected a state dict of tensors alone")
    return dict(saved)
