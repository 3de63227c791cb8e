"""Which network a state dict is of, told by its keys and shapes, and its tensors under the names of `VideoResNet`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from r21d_core import R21DError
from r21d_core.models.network import VideoResNet
from r21d_core.models.variants import DEPTHS, VARIANTS, midplanes
from r21d_core.study.spec import Spec

# What a key of each family of layouts begins with.
NATIVE_KEYS = r"(conv1|bn1|conv[2-5]_x|fc)\."
TORCHVISION_KEYS = r"(stem|layer[1-4]|fc)\."


@dataclass(frozen=True)
class Weights:
    """The weights of one file and the form of the network they are of.

    `layout` is "checkpoint" (of a run folder), "state dict" (ours, alone), "torchvision" or "authors" (torchvision's
    names, M_i for each convolution).
    """

    variant: str
    depth: int
    width: int
    frames: int | None  # of R2D, whose conv1 spans the clip; None: clips of any length
    classes: int
    channels: int
    stem_midplanes: int | None
    midplanes_per_block: bool
    eps: float | None  # of batch norm; None: a state dict of ours does not say
    layout: str
    state: dict[str, Tensor]  # under our names, in our order
    path: Path
    sha256: str
    spec: Spec | None = None  # of a checkpoint


def identify_architecture(
    state: Mapping[str, Tensor], path: Path, sha256: str = "", spec: Spec | None = None
) -> Weights:
    """The Weights of a bare state dict, whichever its layout; `path` is for messages. Raises as `read_weights`.

    The form is read from shapes. They cannot tell R2D for 3 frames from MC2 and for one frame from f-R2D, which are
    then taken to be the latter; a checkpoint's Spec can. Torchvision's networks have eps 1e-5, the authors' 1e-3.
    """
    theirs = any(key.startswith("stem.") for key in state)
    for key in state:
        if not re.match(TORCHVISION_KEYS if theirs else NATIVE_KEYS, key):
            raise R21DError(f"{path}: {key} fits nothing in any known layout of these networks")
    named = _their_name(state) if theirs else str
    form = form_of(state, named, path)
    if spec and spec.variant == "R2D":
        form |= {"variant": "R2D", "frames": spec.frames}
    layout, eps = "state dict", None
    if spec:
        layout, eps = "checkpoint", getattr(spec, "eps", 1e-3)
    elif theirs and form["variant"] == "R(2+1)D" and not form["midplanes_per_block"]:
        layout, eps = "authors", 1e-3
    elif theirs:
        layout, eps = "torchvision", 1e-5
    renamed = _renamed(state, named, form, path)
    return Weights(**form, eps=eps, layout=layout, state=renamed, path=path, sha256=sha256, spec=spec)


def _their_name(state: Mapping[str, Tensor]) -> Callable[[str], str]:
    """From our names to those of torchvision, where the stem is a flat Sequential, longer in R(2+1)D."""
    bn1 = "stem.4." if "stem.3.weight" in state else "stem.1."

    def named(name: str) -> str:
        name = re.sub(r"^conv([2-5])_x\.", lambda group: f"layer{int(group[1]) - 1}.", name)
        name = re.sub(r"^(layer\d\.\d+)\.conv([12])\.", r"\1.conv\2.0.", name)
        name = re.sub(r"^(layer\d\.\d+)\.bn([12])\.", r"\1.conv\2.1.", name)
        name = name.replace(".shortcut.", ".downsample.")
        name = re.sub(r"^conv1\.weight", "stem.0.weight", name)
        return re.sub(r"^bn1\.", bn1, re.sub(r"^conv1\.", "stem.", name))

    return named


def form_of(state: Mapping[str, Tensor], named: Callable[[str], str], path: Path) -> dict:
    """What `VideoResNet` has to be told to have the shapes of `state`, whose keys `named` gives for names of ours."""

    def shape(name: str, dimensions: int = 5) -> tuple[int, ...]:
        key = named(name)
        if key not in state:
            raise R21DError(f"{path}: no key {key}")
        if state[key].ndim != dimensions:
            raise R21DError(f"{path}: {key} has shape {tuple(state[key].shape)}, expected {dimensions} dimensions")
        return tuple(state[key].shape)

    blocks = []
    for group in range(2, 6):
        found = {key.split(".")[1] for key in state if key.startswith(named(f"conv{group}_x."))}
        blocks.append(len(found))
    depths = {count: depth for depth, count in DEPTHS.items()}
    if tuple(blocks) not in depths:
        raise R21DError(f"{path}: has {blocks} blocks in its four groups, expected one of {[*map(list, depths)]}")
    factorised = named("conv1.3.weight") in state
    first, last = (shape("conv1.0.weight"), shape("conv1.3.weight")) if factorised else 2 * (shape("conv1.weight"),)
    letters = "p" if factorised else {1: "2", 3: "3"}.get(first[2], "c")
    for group in range(2, 6):
        name = f"conv{group}_x.0.conv1"
        if named(f"{name}.0.weight") in state:
            letters += "p"
        else:
            letters += {1: "2", 3: "3"}.get(shape(f"{name}.weight")[2], "?")
    variants = {row: variant for variant, row in VARIANTS.items()}
    if letters not in variants:
        raise R21DError(f"{path}: the forms of its convolutions, {letters}, are those of none of the twelve networks")
    width = last[0]
    per_block = letters[2] == "p" and shape("conv3_x.0.conv2.0.weight")[0] == midplanes(width, 2 * width)
    return {
        "variant": variants[letters],
        "depth": depths[tuple(blocks)],
        "width": width,
        "frames": first[2] if letters[0] == "c" else None,
        "classes": shape("fc.weight", 2)[0],
        "channels": first[1],
        "stem_midplanes": first[0] if factorised else None,
        "midplanes_per_block": per_block,
    }


def _renamed(state: Mapping[str, Tensor], named: Callable[[str], str], form: dict, path: Path) -> dict[str, Tensor]:
    """The tensors under our names; raises R21DError for a key too many, one too few and another shape."""
    with torch.device("meta"):  # only names and shapes
        wanted = VideoResNet(**form | {"frames": form["frames"] or 8}).state_dict()
    network = f"{form['variant']} of {form['depth']} layers"
    keys = {named(name): name for name in wanted}
    for key in state:
        if key not in keys:
            raise R21DError(f"{path}: {key} fits nothing in {network}")
    renamed = {}
    for key, name in keys.items():
        if key in state:
            renamed[name] = state[key]
        elif name.endswith("num_batches_tracked"):  # not there before PyTorch 0.4.1, nor of any use with a momentum
            renamed[name] = torch.tensor(0)
        else:
            raise R21DError(f"{path}: no key {key}, which {network} has")
        if renamed[name].shape != wanted[name].shape:
            expected, got = tuple(wanted[name].shape), tuple(renamed[name].shape)
            raise R21DError(f"{path}: {key} has shape {got}, expected {expected} in {network}")
    return renamed
