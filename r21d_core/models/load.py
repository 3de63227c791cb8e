"""Read weights from a file of any known layout, and load them into a network with a report."""

from __future__ import annotations

import argparse
import hashlib
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from r21d_core import R21DError, count_noun
from r21d_core.models.convert import Weights, identify_architecture, read_architecture
from r21d_core.models.network import VideoResNet
from r21d_core.models.zoo import PUBLISHED
from r21d_core.study.spec import Spec, format_settings
from r21d_core.study.variants import is_neighbor

# The arguments of `VideoResNet` in which weights and network must agree.
FIELDS = ("variant", "depth", "width", "frames", "stem_midplanes", "midplanes_per_block")


def read_weights(path: Path | str) -> Weights:
    """Return the Weights in the file at `path`; no code in it is executed.

    Known layouts are a run folder's checkpoint, a state dict of `VideoResNet`, torchvision's three networks, and the
    authors' R(2+1)D in PyTorch, bare or wrapped as training scripts do. Raises R21DError that names the file if it is
    missing, damaged or not weights, and the key if one is unknown, missing, of another shape or not finite.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise R21DError(f"{path}: {error.strerror or error}; expected a file of weights") from error
    for row in PUBLISHED:
        if path.name == row.file and not sha256.startswith(row.sha256):
            raise R21DError(
                f"{path}: damaged, as its SHA-256 begins with {sha256[:8]} instead of {row.sha256}; "
                f"download it again from {row.url}"
            )
    saved, spec = _load(path), None
    if isinstance(saved, Mapping) and isinstance(saved.get("spec"), Mapping) and "model" in saved:
        spec, saved = _read_spec(path, saved["spec"]), saved["model"]
        if is_neighbor(spec.variant):
            what = f"a checkpoint of {spec.variant}, which is trained and evaluated only"
            raise R21DError(f"{path}: {what}; expected weights of a VideoResNet")
    state = _unwrapped(path, saved)
    weights = identify_architecture(state, path, sha256, spec)
    if key := next((key for key, value in state.items() if not value.isfinite().all()), None):
        raise R21DError(f"{path}: {key} has values that are not finite; take weights from before the training diverged")
    return weights


def _read_spec(path: Path, fields: Mapping) -> Spec:
    try:
        return Spec().replace(**fields)
    except (R21DError, TypeError) as error:  # TypeError: a key that is no text
        what = f"its spec is not one of this version ({error}); use the version that wrote it"
        raise R21DError(f"{path}: {what}") from error


def model_from_weights(weights: Weights) -> VideoResNet:
    """Return a network with these weights, on the CPU.

    An unknown eps is taken to be 1e-3, or torchvision's 1e-5 if M_i is computed once a block, as only torchvision's is.
    """
    architecture: dict[str, Any] = {name: getattr(weights, name) for name in (*FIELDS, "num_classes", "in_channels")}
    eps = weights.eps or (1e-5 if weights.midplanes_per_block else 1e-3)
    with torch.device("meta"):  # no initial weights, as all are overwritten
        network = VideoResNet(**dict(architecture, frames=weights.frames or 8), eps=eps)
    network.to_empty(device="cpu")
    network.load_state_dict(weights.state)
    return network


def describe_weights(path: Path | str) -> str:
    """Return what the weights in the file at `path` are, with the fields of Spec that fit, as text."""
    weights = read_weights(path)
    frames = weights.frames or "any number of"
    parameters = sum(parameter.numel() for parameter in model_from_weights(weights).parameters())
    names = ("variant", "depth", "width", "frames", "midplanes_per_block", "eps")
    # Of an unknown eps, and where any number of frames fits, that of the Spec remains.
    settings = {name: value for name in names if (value := getattr(weights, name)) is not None}
    own = [row.name for row in PUBLISHED if weights.sha256.startswith(row.sha256)]
    return f"""{weights.path}: {weights.variant}, {weights.depth} layers, {weights.num_classes} classes
  layout      {weights.layout}{f", published as {own[0]}" if own else ""}
  input       clips of {count_noun(frames, "frame")}, {count_noun(weights.in_channels, "channel")}
  parameters  {parameters:,}
  settings    {format_settings(settings)}
  SHA-256     {weights.sha256}"""


def load_weights_into(network: nn.Module, weights: Weights) -> str:
    """Load the weights into `network`; return a report that names the tensors that kept their values, and why.

    Other numbers of classes leave fc as it is, other input channels conv1's first convolution. Raises R21DError as
    `check_architecture`, and then changes nothing.
    """
    here = check_architecture(network, weights)
    own = network.state_dict()
    fits = {name: tensor for name, tensor in weights.state.items() if tensor.shape == own[name].shape}
    network.load_state_dict(fits, strict=False)
    reasons = {
        "fc": f"{weights.num_classes} classes in the file, {here['num_classes']} others in the network",
        "conv1": f"{weights.in_channels} channels in the file, {here['in_channels']} in the network",
    }
    skipped = ", ".join(f"{name} ({reasons[name.split('.')[0]]})" for name in own if name not in fits)
    parameters = sum(p.numel() for name, p in network.named_parameters() if name in fits)
    report = f"{weights.path} ({weights.layout}): {parameters:,} parameters in {len(fits)} tensors loaded"
    return f"{report}; skipped: {skipped}" if skipped else f"{report}, none skipped"


def check_architecture(network: nn.Module, weights: Weights) -> dict[str, Any]:
    """Return the architecture of `network`, which may be on the meta device.

    Raises R21DError that names the fields of Spec if that of the weights differs, apart from classes and channels.
    """
    if not isinstance(network, VideoResNet):
        what = f"weights of {weights.variant}; networks of other papers, and your own, start from runs only"
        raise R21DError(f"{weights.path}: {what}")
    here = read_architecture(network.state_dict(), str, Path("the network"))
    here |= {"variant": network.variant, "frames": network.frames}
    pairs = {name: (here[name], getattr(weights, name)) for name in FIELDS}
    pairs["eps"] = network.bn1.eps, weights.eps or network.bn1.eps
    if wrong := {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}:
        if len(wrong) > 1:
            wrong.pop("stem_midplanes", None)  # follows from the others
        what = ", ".join(f"{name} is {b} for these weights, and {a} in the network" for name, (a, b) in wrong.items())
        settings = ", ".join(f"{name}={value}" for name, (_, value) in wrong.items())
        raise R21DError(f"{weights.path}: {what}; set {settings}, or take other weights")
    return here


def _load(path: Path):
    if any(name.endswith("/constants.pkl") for name in _zip_members(path)):  # TorchScript, of which torch.load warns
        raise R21DError(f"{path}: {_other_format(path)}")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # options that training scripts save too
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle may raise anything
        reason = "not a complete file of PyTorch weights; download or save it again"
        if found := re.search(r"unsupported global(?:: GLOBAL)? (\S+)", str(error), re.IGNORECASE):
            reason = f"contains {found[1]}, a Python object that could run code; save only the state dict"
        if path.suffix == ".pkl" or b"blobs" in path.read_bytes()[:4096]:
            reason = "a Caffe2 pickle, which is not supported; use its conversion to PyTorch, see `r21d weights`"
        raise R21DError(f"{path}: {_other_format(path) or reason}") from error


def _other_format(path: Path) -> str:
    """What a file is that this suite or TorchScript writes and that holds no weights, and what to do; "" for others."""
    names = {PurePosixPath(name).name for name in _zip_members(path)}
    source = "name the run folder, or the file of weights, that it was exported from"
    if path.suffix == ".onnx":
        return f"an exported network, which onnxruntime.InferenceSession opens; {source}"
    if path.suffix == ".pt2" or "archive_format" in names:
        return f"an exported network, which torch.export.load opens; {source}"
    if "constants.pkl" in names:
        write = f"torch.save(torch.jit.load({str(path)!r}).state_dict(), FILE)"
        return f"a network in TorchScript; expected a file of its state dict, which {write} writes"
    if "checkpoint.pt" in names:
        return f"a ZIP file of run folders; extract it (python -m zipfile -e {path} FOLDER), and name one run's folder"
    if "spec.json" in names:
        return "a pack, which has the records of runs without their weights; name a run folder that has checkpoint.pt"
    return ""


def _zip_members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as file:
            return file.namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return []


def _unwrapped(path: Path, saved) -> dict[str, Tensor]:
    while isinstance(saved, Mapping) and (inner := {"state_dict", "model_state_dict", "model"} & saved.keys()):
        saved = saved[min(inner)]
    if not isinstance(saved, Mapping) or not saved:
        raise R21DError(f"{path}: contains no state dict, only {type(saved).__name__}")
    for key, value in saved.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise R21DError(f"{path}: {key} is a {type(value).__name__}, expected a state dict of tensors only")
    state = dict(saved)
    for prefix in ("module.", "_orig_mod.", "module."):  # of DataParallel and torch.compile
        consume_prefix_in_state_dict_if_present(state, prefix)
    return state
