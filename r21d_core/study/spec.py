"""The specification of a run: one frozen dataclass with everything that can change its result."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import lru_cache
from pathlib import PurePath
from typing import Any

from r21d_core import R21DError, count_noun
from r21d_core.study.variants import absent_fields, is_neighbor, variant_name

CHOICES = {
    "task": ("action", "speed", "arrow"),
    "modality": ("rgb", "flow"),
    "profile": ("paper", "small", "demo"),
    "precision": ("fp32", "bf16", "fp16"),
    "fc_init": ("normal", "xavier"),
    "lr_schedule": ("step", "cosine"),
}
RANGES = (  # fields, least, most
    (("depth", "width", "frames", "frame_stride", "frame_height", "frame_width", "crop", "clips_per_epoch",
      "batch_size", "grad_accum_steps", "eval_clips"), 1, math.inf, "1 or more"),
    (("seed",), 0, 2**64 - 1, "a whole number from 0 to 2**64 - 1"),  # PyTorch takes none above
    (("eps", "epochs", "lr", "warmup_epochs", "lr_decay_epochs", "lr_decay", "momentum", "weight_decay"),
     0, sys.float_info.max, "a finite number, 0 or more"),
    (("frame_stride_max",), 0, math.inf, "0 or more"),
    (("frozen_stages",), 0, 5, "a whole number from 0 to 5"),
    (("crop_area", "brightness", "color", "label_smoothing"), 0, 1, "a fraction from 0 to 1"),
)  # fmt: skip

# Fields that the command line and the notebooks set by an option or a parameter of another name or form.
FIELD_OPTIONS = {"data": "manifest", "profile": "profile", "seed": "seeds", "task": "task", "variant": "variants"}


@dataclass(frozen=True)
class Spec:
    """One run; the defaults are Section 4.1's: Kinetics, 8 frames, 45 epochs of 1M clips. Raises R21DError.

    Networks of other papers keep the defaults of NOT_OF_NEIGHBORS, so that equal runs have equal Specs.

    For example:

        >>> from r21d_core.study.spec import Spec
        >>> spec = Spec(variant="R3D", frames=16)
        >>> spec.network, spec.replace(seed=1).seed
        ('R3D-18', 1)
    """

    variant: str = "R(2+1)D"
    depth: int = 18
    width: int = 64  # filters of conv1 and conv2_x; each later stage doubles them
    frames: int = 8  # L, the clip length
    frame_stride: int = 1  # distance of a clip's frames in the video; 1 is the paper's "consecutive"
    frame_stride_max: int = 0  # training clips draw a stride from frame_stride to this; 0: all have frame_stride
    task: str = "action"  # "speed": predict the playback rate 1, 2, 4 or 8; "arrow": predict forward or reversed
    modality: str = "rgb"  # or "flow", Farneback's optical flow, for the task "action" only (Section 4.4)
    data: str = "kinetics-400"  # name of the manifest, which includes the split
    profile: str = "paper"
    seed: int = 0
    # Initial weights: of another run with the same seed, given as JSON of the fields in which it differs from this one,
    # such as {"frames": 8}; of a file or a published name; random if empty. With epochs=0 they are evaluated.
    init_from: str = ""
    frozen_stages: int = 0  # of conv1, conv2_x … conv5_x the first so many keep their initial weights and statistics
    midplanes_per_block: bool = False  # M_i computed once per block, as torchvision's weights need
    fc_init: str = "normal"  # weights of the classifier: std 0.01; "xavier": uniform, std 1/√fan_in, as in Caffe2
    eps: float = 1e-3  # of batch norm; torchvision's weights need 1e-5
    precision: str = "fp32"  # on a GPU; a CPU always computes in fp32
    # Input: frames are scaled to frame_height × frame_width, then cropped to crop × crop.
    frame_height: int = 128
    frame_width: int = 171
    crop: int = 112
    crop_area: float = 0.0  # smallest fraction of the frame that a resized crop covers; 0: fixed size, as in the paper
    flip: bool = True
    brightness: float = 0.0  # a clip is multiplied by a factor between 1 - brightness and 1 + brightness
    color: float = 0.0  # a clip's contrast and saturation are multiplied by factors between 1 - color and 1 + color
    # Optimization.
    epochs: int = 45
    clips_per_epoch: int = 1_000_000
    batch_size: int = 32  # clips per optimizer step
    grad_accum_steps: int = 1  # micro-batches per step; batch norm uses the statistics of one micro-batch
    lr: float = 0.01
    warmup_epochs: float = 10.0
    lr_schedule: str = "step"  # after the warm-up; "cosine" falls to 0 at the end of training
    lr_decay_epochs: float = 10.0  # "step": after the warm-up, lr is multiplied by lr_decay every so many epochs
    lr_decay: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0  # as in torch.nn.functional.cross_entropy, in training only
    decay_biases: bool = True  # False: weight decay on weights and on batch norm's scale, not on biases
    # Evaluation: mean softmax over center crops of clips that start at floor(i·(N−L)/(eval_clips−1)).
    eval_clips: int = 10

    def __post_init__(self):
        values = vars(self)
        for key, kind in _KINDS:  # 1, 1.0 and "1" make equal Specs
            if type(values[key]) is not kind:
                object.__setattr__(self, key, _convert(kind, key, values[key]))
        object.__setattr__(self, "variant", variant_name(self.variant))  # as do "ppppp" and "R(2+1)D"
        if self.init_file:  # as do "./mine.pt" and "mine.pt"
            object.__setattr__(self, "init_from", str(PurePath(self.init_file)))
        for key, allowed in CHOICES.items():
            self._expect(key, values[key] in allowed, f"one of {', '.join(allowed)}")
        for keys, low, high, expected in RANGES:
            for key in keys:
                self._expect(key, low <= values[key] <= high, expected)
        self._expect("eps", self.eps > 0, "a finite number above 0, as PyTorch divides by its root")
        side, batch = min(self.frame_height, self.frame_width), self.batch_size
        self._expect("crop", self.crop <= side, f"{side} or less, the frame's shorter side")
        has_weights = self.epochs > 0 or self.init_from != ""
        self._expect("epochs", has_weights, "1 or more, or init_from to name weights to evaluate")
        self._expect("modality", self.modality == "rgb" or self.task == "action", "rgb for the tasks speed and arrow")
        draws_stride = self.frame_stride_max > 0
        at_least = self.frame_stride_max >= self.frame_stride and self.task == "action"
        expected = f"0, or {self.frame_stride} or more (frame_stride) for the task action"
        self._expect("frame_stride_max", at_least or not draws_stride, expected)
        self._expect("nesterov", self.momentum > 0 or not self.nesterov, "false where momentum = 0.0")
        self._expect("grad_accum_steps", batch % self.grad_accum_steps == 0, f"a divisor of batch_size = {batch}")
        is_random = self.frozen_stages > 0 and not self.init_from
        self._expect("frozen_stages", not is_random, "0 without init_from, as the weights would stay random")
        for key in absent_fields(self.variant):
            object.__setattr__(self, key, getattr(Spec, key))
        _ = self.parent_spec  # raises R21DError for an impossible init_from

    def _expect(self, key: str, is_valid: bool, expected: str) -> None:
        if not is_valid:
            raise R21DError(f"spec: {key} = {getattr(self, key)!r}, expected {expected}")

    @property
    def hash(self) -> str:
        """Ten hex digits of the SHA-256 of the fields that differ from their defaults: a new field changes none."""
        changed = {key: value for key, value in vars(self).items() if value != getattr(Spec, key)}
        return hashlib.sha256(json.dumps(changed, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def network(self) -> str:
        """The variant and its depth, such as `R(2+1)D-18`; a network of another paper by its name alone."""
        return self.variant if is_neighbor(self.variant) else f"{self.variant}-{self.depth}"

    @property
    def folder(self) -> str:
        """Name of the run folder, such as `r21d-18-8f-<hash>`, with the prefix `demo-` in the demo profile."""
        slug = re.sub(r"[^a-z0-9]", "", self.variant.lower())
        return f"{'demo-' if self.profile == 'demo' else ''}{slug}-{self.depth}-{self.frames}f-{self.hash}"

    @property
    def parent_spec(self) -> Spec | None:
        """The Spec of the run whose weights this run starts from; None if it starts from random weights or a file."""
        return _parent_of(self) if self.init_from.startswith("{") else None

    @property
    def init_file(self) -> str:
        """The file or published name of the initial weights; empty if there is none."""
        return "" if self.init_from.startswith("{") else self.init_from

    def finetune_spec(self, **changes) -> Spec:
        """The Spec of a run that starts from this run's weights, with `changes`."""
        parent = {key: getattr(self, key, None) for key in changes}
        parent |= {"init_from": self.init_from} if self.init_from else {}
        spec = self.replace(**changes | {"init_from": json.dumps(parent)})
        parent = {key: value for key, value in sorted(parent.items()) if value != getattr(spec, key)}
        return spec.replace(init_from=json.dumps(parent))

    def changes_from(self, other: Spec) -> dict[str, Any]:
        """The fields in which this Spec differs from `other`, with this Spec's values."""
        return {key: value for key, value in vars(self).items() if value != getattr(other, key)}

    def to_json(self) -> str:
        """All fields as indented JSON; the inverse of `from_json`."""
        return json.dumps(vars(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """The Spec that `to_json` wrote; raises R21DError for an unknown key."""
        return _DEFAULT.replace(**json.loads(text))

    def replace(self, **changes) -> Spec:
        """A copy with `changes`, where values may be strings; raises R21DError for an unknown key or bad value."""
        known = vars(self)
        for key in changes:
            if key not in known:
                close = get_close_matches(key, known, 1)
                hint = f"did you mean {close[0]}?" if close else f"keys: {', '.join(known)}"
                raise R21DError(f"spec: no key {key!r}; {hint}")
        return dataclasses.replace(self, **changes)


# Computed once, as a page of results makes thousands of Specs.
_KINDS = [(field.name, type(field.default)) for field in fields(Spec)]
_DEFAULT = Spec()


@lru_cache(maxsize=4096)  # as the tables ask for it many times
def _parent_of(spec: Spec) -> Spec:
    try:
        changes = {"init_from": ""} | json.loads(spec.init_from)
        frozen = {} if changes["init_from"] else {"frozen_stages": 0}  # of random weights no stage can be frozen
        return spec.replace(**frozen | changes)
    except (json.JSONDecodeError, TypeError):
        raise R21DError(f'spec: init_from = {spec.init_from!r}, expected JSON such as {{"frames": 8}}') from None


def run_labels(specs: Sequence[Spec]) -> list[str]:
    """A short label for each run, with the fields in which the runs of an experiment differ."""
    has_several_datasets = len({spec.data for spec in specs}) > 1
    parts = [
        f"{spec.network} (seed {spec.seed}, {count_noun(spec.frames, 'frame')}, {count_noun(spec.eval_clips, 'clip')}"
        + ", flow" * (spec.modality == "flow")
        + f", {spec.data}" * has_several_datasets
        + (", finetuned" if spec.epochs else ", tested") * bool(spec.init_from)
        for spec in specs
    ]
    labels = []
    for spec, part in zip(specs, parts, strict=True):
        equal = [other for other, text in zip(specs, parts, strict=True) if text == part]  # as those of a sweep are
        varied = {key: getattr(spec, key) for other in equal for key in other.changes_from(spec)}
        labels.append(", ".join(filter(None, [part, format_settings(dict(sorted(varied.items())))])) + ")")
    return labels


def format_settings(settings: Mapping[str, Any]) -> str:
    """Fields of a Spec as text such as "lr=0.02, epochs=3", as a notebook's parameter `settings` takes them."""
    texts = {key: str(value).removesuffix(".0" * isinstance(value, float)) for key, value in settings.items()}
    return ", ".join(f"{key}={text}" for key, text in texts.items())


def parse_settings(settings: list[str]) -> dict[str, str]:
    """The changes for `Spec.replace` in settings such as `["lr=0.02", "epochs=3"]`; raises R21DError without `=`."""
    for setting in settings:
        if "=" not in setting:
            raise R21DError(f"--set {setting}: expected key=value, such as --set lr=0.02")
    return dict(setting.split("=", 1) for setting in settings)


def _convert(kind: type, key: str, value):
    """`value` as `kind`: "1e6" and 1e6 convert to int, 0.5 does not; only true and false convert to bool."""
    if kind is str:
        return str(value)
    try:
        if kind is bool:
            return {"true": True, "false": False}[str(value).lower()]
        # A float would round whole numbers beyond 2**53, and two seeds could become one.
        number = int(value) if kind is int and str(value).isdecimal() else float(value)
        if isinstance(value, bool) or (kind is int and number % 1):
            raise ValueError
        return kind(number)
    except (KeyError, TypeError, ValueError, OverflowError):
        expected = {bool: "true or false", int: "a whole number"}.get(kind, "a number")
        raise R21DError(f"spec: {key} = {value!r}, expected {expected}") from None
