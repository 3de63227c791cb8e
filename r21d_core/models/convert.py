"""Identify the network of a state dict by keys and shapes, and rename its tensors to those of `VideoResNet`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from r21d_core import R21DError
from r21d_core.models.architecture import PAIRS, composition, midplanes
from r21d_core.models.network import VideoResNet
from r21d_core.study.spec import Spec
from r21d_core.study.variants import DEPTHS, stage_spec, variant_name

NATIVE_KEYS, TORCHVISION_KEYS = r"(conv1|bn1|conv[2-5]_x|fc)\.", r"(stem|layer[1-4]|fc)\."  # beginnings of keys


@dataclass(frozen=True)
class Weights:
    """The weights of a file, and the arguments of the `VideoResNet` that they fit.

    `layout` is "checkpoint" (of a run folder), "state dict" (of a `VideoResNet`), "torchvision" or "authors"
    (torchvision's names, M_i for each convolution).
    """

    variant: str
    depth: int
    width: int
    frames: int | None  # of a conv1 that spans the clip (R2D); None: clips of any length
    num_classes: int
    in_channels: int
    stem_midplanes: int | None
    midplanes_per_block: bool
    eps: float | None  # of batch norm; None: unknown, as in a state dict of `VideoResNet`
    layout: str
    state: dict[str, Tensor]  # keys and order of `VideoResNet`
    path: Path
    sha256: str
    spec: Spec | None = None  # of a checkpoint


def identify_architecture(state: Mapping[str, Tensor], path: Path, sha256="", spec: Spec | None = None) -> Weights:
    """Return the Weights of a state dict of any layout; `path` is for messages. Raises as `read_weights`.

    R2D for 3 frames has the shapes of MC2, and for one those of f-R2D: without a Spec it is identified as these.
    """
    is_torchvision = any(key.startswith("stem.") for key in state)
    for key in state:
        if not re.match(TORCHVISION_KEYS if is_torchvision else NATIVE_KEYS, key):
            raise R21DError(f"{path}: {key} matches no known layout of these networks")
    to_key = _torchvision_key(state) if is_torchvision else str
    architecture = read_architecture(state, to_key, path)
    if spec and stage_spec(spec.variant, spec.depth)[0][0] == "c":
        architecture |= {"variant": variant_name(spec.variant), "frames": spec.frames}
    layout, eps = ("checkpoint", spec.eps) if spec else ("state dict", None)
    if is_torchvision and not spec:
        is_authors = architecture["variant"] == "R(2+1)D" and not architecture["midplanes_per_block"]
        layout, eps = ("authors", 1e-3) if is_authors else ("torchvision", 1e-5)
    renamed = _rename_keys(state, to_key, architecture, path)
    return Weights(**architecture, eps=eps, layout=layout, state=renamed, path=path, sha256=sha256, spec=spec)


def _torchvision_key(state: Mapping[str, Tensor]) -> Callable[[str], str]:
    """Return the function from a native key to torchvision's, whose stem is a flat Sequential, longer in R(2+1)D."""
    patterns = [(rf"^conv{stage}_x\.", f"layer{stage - 1}.") for stage in range(2, 6)]
    patterns += [
        (r"\.conv([12])\.", r".conv\1.0."),
        (r"\.bn([12])\.", r".conv\1.1."),
        (r"\.shortcut\.", ".downsample."),
    ]
    patterns += [(r"^conv1\.weight", "stem.0.weight"), (r"^conv1\.", "stem.")]
    patterns += [(r"^bn1\.", "stem.4." if "stem.3.weight" in state else "stem.1.")]
    return lambda name: reduce(lambda key, pattern: re.sub(*pattern, key), patterns, name)


def read_architecture(state: Mapping[str, Tensor], to_key: Callable[[str], str], path: Path) -> dict[str, Any]:
    """Return the arguments of a `VideoResNet` with the shapes of `state`.

    `to_key` maps native keys to those of `state`. Raises R21DError for a key or a shape that no such network has.
    """

    def shape(name: str, dimensions: int = 5) -> tuple[int, ...]:
        key = to_key(name)
        if key not in state:
            raise R21DError(f"{path}: no key {key}")
        if state[key].ndim != dimensions:
            raise R21DError(f"{path}: {key} has shape {tuple(state[key].shape)}, expected {dimensions} dimensions")
        return tuple(state[key].shape)

    def fits(letter: str, name: str, in_channels: int, out_channels: int) -> bool:
        return all(
            (weight := state.get(to_key(f"{row.name}.weight"))) is not None
            and weight.shape == (row.out_channels, row.in_channels, *row.kernel)
            for row in composition(name, letter, in_channels, out_channels)
        )

    def letter(stage: int) -> str:
        name, channels = f"conv{stage}_x.0.conv1", (width * 2 ** max(stage - 3, 0), width * 2 ** (stage - 2))
        closest = "p" if to_key(f"{name}.3.weight") in state else "3"  # `_rename_keys` tells what does not fit
        return next((letter for letter in (*PAIRS, *"bs23") if fits(letter, name, *channels)), closest)

    stages = [to_key(f"conv{stage}_x.") for stage in range(2, 6)]
    blocks = [len({key.split(".")[1] for key in state if key.startswith(stage)}) for stage in stages]
    depths: dict[tuple[int, ...], int] = {count: depth for depth, count in DEPTHS.items()}
    if tuple(blocks) not in depths:
        raise R21DError(f"{path}: has {blocks} blocks in its four stages, expected one of {[*map(list, depths)]}")
    if to_key("conv1.3.weight") in state:
        first, stem, width = "p", shape("conv1.0.weight"), shape("conv1.3.weight")[0]
    else:
        stem = shape("conv1.weight")
        first, width = {1: "2", 3: "3"}.get(stem[2], "c"), stem[0]
    letters = first + "".join(map(letter, range(2, 6)))
    # M_i of the second convolution tells once a block from once a convolution where a stage doubles its channels.
    per_block = False
    if "p" in letters[2:]:
        stage = letters.index("p", 2) + 1
        out_channels = width * 2 ** (stage - 2)
        per_block = shape(f"conv{stage}_x.0.conv2.0.weight")[0] == midplanes(out_channels // 2, out_channels)
    return {
        "variant": variant_name(letters),
        "depth": depths[tuple(blocks)],
        "width": width,
        "frames": stem[2] if letters[0] == "c" else None,
        "num_classes": shape("fc.weight", 2)[0],
        "in_channels": stem[1],
        "stem_midplanes": stem[0] if letters[0] == "p" else None,
        "midplanes_per_block": per_block,
    }


def _rename_keys(
    state: Mapping[str, Tensor], to_key: Callable[[str], str], architecture: dict[str, Any], path: Path
) -> dict[str, Tensor]:
    """Return the tensors under native keys; raises R21DError for a superfluous or missing key and another shape."""
    with torch.device("meta"):  # only names and shapes
        expected = VideoResNet(**dict(architecture, frames=architecture["frames"] or 8)).state_dict()
    network = f"{architecture['variant']} of {architecture['depth']} layers"
    names = {to_key(name): name for name in expected}
    for key in state:
        if key not in names:
            raise R21DError(f"{path}: {key} matches no weight of {network}")
    renamed = {}
    for key, name in names.items():
        if key in state:
            renamed[name] = state[key]
        elif name.endswith("num_batches_tracked"):  # not written before PyTorch 0.4.1, and not needed with momentum
            renamed[name] = torch.tensor(0)
        else:
            raise R21DError(f"{path}: no key {key}, which {network} has")
        if renamed[name].shape != expected[name].shape:
            wanted, got = tuple(expected[name].shape), tuple(renamed[name].shape)
            raise R21DError(f"{path}: {key} has shape {got}, expected {wanted} in {network}")
    return renamed
