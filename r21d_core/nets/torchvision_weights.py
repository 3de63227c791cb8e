"""Torchvision's names for the weights of its 18-layer video networks, turned into ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from r21d_core import R21DError
from r21d_core.nets.network import VideoResNet
from r21d_core.nets.variants import groups

# The stem is a flat Sequential there, so the numbers in it say something else in R(2+1)D.
STEM = [(r"stem\.0\.", "conv1."), (r"stem\.1\.", "bn1.")]
STEM_P = [(r"stem\.([013])\.", r"conv1.\1."), (r"stem\.4\.", "bn1.")]
REST = [
    (r"(conv\d_x\.\d+\.conv[12])\.0\.", r"\1."),
    (r"(conv\d_x\.\d+)\.conv([12])\.1\.", r"\1.bn\2."),
    (r"(conv\d_x\.\d+)\.downsample\.", r"\1.shortcut."),
    (r"fc\.", "fc."),
]


def from_torchvision(state_dict: Mapping[str, Tensor], variant: str) -> dict[str, Tensor]:
    """The same tensors under the names of `VideoResNet`.

    `r3d_18` is our R3D and `mc3_18` our MC3 (row `33222`: 3-D convolutions in the stem and conv2_x, 1×3×3 and no
    temporal stride after them). `r2plus1d_18` is our R(2+1)D with `midplanes_per_block=True`. All three need
    `eps=1e-5`, which is torchvision's. Raises R21DError naming the first key that the variant has no place for, whose
    shape is another, or that is not there.
    """
    stem = STEM_P if groups(variant, 18)[0][0] == "p" else STEM
    classes = len(state_dict["fc.bias"]) if "fc.bias" in state_dict else 400
    with torch.device("meta"):  # only names and shapes
        wanted = VideoResNet(variant, classes=classes, midplanes_per_block=True).state_dict()
    renamed = {}
    for key, tensor in state_dict.items():
        name = _renamed(key, stem + REST)
        if name not in wanted:
            raise R21DError(f"{key}: {variant} has no place for this key; expected an 18-layer torchvision network")
        if tensor.shape != wanted[name].shape:
            shapes = f"expected {tuple(wanted[name].shape)} and got {tuple(tensor.shape)}"
            raise R21DError(f"{key}: {variant} has another shape here, {shapes}; name the variant these weights are of")
        renamed[name] = tensor
    for name in wanted:
        if name not in renamed:
            raise R21DError(
                f"{name}: no key of these weights gives it; expected all of an 18-layer torchvision network"
            )
    return renamed


def _renamed(key: str, rules: list[tuple[str, str]]) -> str | None:
    key = re.sub(r"^layer(\d)\.", lambda found: f"conv{int(found[1]) + 1}_x.", key)
    for pattern, name in rules:
        if found := re.match(pattern, key):
            return found.expand(name) + key[found.end() :]
    return None
