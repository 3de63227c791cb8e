"""What to run: one frozen description a run, which says everything that changes its result."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches

from r21d_core import R21DError
from r21d_core.study.variants import variant_name

CHOICES = {
    "task": ("action", "speed", "arrow"),
    "modality": ("rgb", "flow"),
    "profile": ("paper", "small", "demo"),
    "precision": ("fp32", "bf16", "fp16"),
}
POSITIVE = [
    "depth",
    "width",
    "frames",
    "frame_stride",
    "frame_height",
    "frame_width",
    "crop",
    "clips_per_epoch",
    "batch_size",
    "grad_accum_steps",
    "eval_clips",
]
NOT_NEGATIVE = [
    "seed",
    "eps",
    "epochs",
    "lr",
    "warmup_epochs",
    "lr_decay_epochs",
    "lr_decay",
    "momentum",
    "weight_decay",
]
SHARES = ("crop_area", "brightness")


@dataclass(frozen=True)
class Spec:
    """One run. The defaults are Section 4.1 of the paper: Kinetics, 8 frames, 45 epochs of 1M clips.

    Same Spec, same run folder; whatever may change a number is a field here. Impossible values raise R21DError.
    """

    variant: str = "R(2+1)D"
    depth: int = 18
    width: int = 64  # filters of conv1 and conv2_x; each later group doubles them
    frames: int = 8  # L, the clip length
    frame_stride: int = 1  # distance of a clip's frames in the video; 1 is the paper's "consecutive"
    task: str = "action"  # or "speed" (1, 2, 4 or 8 times the step), or "arrow" (forward or reversed)
    modality: str = "rgb"  # or "flow", Farneback's optical flow of the task "action" (Section 4.4)
    data: str = "kinetics-400"  # the manifest's name, which says the split too
    profile: str = "paper"
    seed: int = 0
    # The run whose weights this one starts from, as the fields in which that one differs, in JSON: {"frames": 8}, its
    # seed being this one's; or a file of weights, such as a published one's name. Without it, a run starts afresh.
    # With epochs=0 those weights are evaluated as they are.
    init_from: str = ""
    # Of other people's weights: torchvision's need M_i once a block and eps 1e-5.
    midplanes_per_block: bool = False
    eps: float = 1e-3
    precision: str = "fp32"  # of a GPU; a CPU computes in fp32 whatever this says
    # What the network sees: frames scaled to frame_height × frame_width, then a window of crop × crop.
    frame_height: int = 128
    frame_width: int = 171
    crop: int = 112
    crop_area: float = 0.0  # smallest share of the frame that a resized crop covers; 0 is the paper's fixed size
    flip: bool = True
    brightness: float = 0.0  # a clip's brightness is multiplied by 1 ± this at the most
    # The recipe.
    epochs: int = 45
    clips_per_epoch: int = 1_000_000  # clips an epoch, whatever the number of videos
    batch_size: int = 32  # clips an optimiser step
    grad_accum_steps: int = 1  # parts in which a batch passes through the network; batch norm sees one part at a time
    lr: float = 0.01
    warmup_epochs: float = 10.0
    lr_decay_epochs: float = 10.0  # after the warm-up the rate is multiplied by `decay` each time so many have passed
    lr_decay: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    # Evaluation: clips at floor(i·(N−L)/(clips−1)), centre crop, mean of softmax.
    eval_clips: int = 10

    def __post_init__(self):
        for f in fields(self):  # 1, 1.0 and "1" must not be three specs
            object.__setattr__(self, f.name, _as(type(f.default), f.name, getattr(self, f.name)))
        object.__setattr__(self, "variant", variant_name(self.variant))  # so must not "ppppp" and "R(2+1)D"
        for key, allowed in CHOICES.items():
            self._expect(key, getattr(self, key) in allowed, f"one of {', '.join(allowed)}")
        for key in POSITIVE:
            self._expect(key, getattr(self, key) >= 1, "1 or more")
        for key in NOT_NEGATIVE:
            self._expect(key, 0 <= getattr(self, key) < float("inf"), "a finite number, 0 or more")
        for key in SHARES:
            self._expect(key, 0 <= getattr(self, key) <= 1, "a share from 0 to 1")
        side = min(self.frame_height, self.frame_width)
        self._expect("crop", self.crop <= side, f"{side} or less, the frame's shorter side")
        self._expect("epochs", self.epochs or self.init_from, "1 or more, as there is no start to evaluate")
        self._expect("modality", self.modality == "rgb" or self.task == "action", "rgb for the tasks speed and arrow")
        _ = self.parent_spec  # refuses what cannot be
        self._expect(
            "grad_accum_steps",
            self.batch_size % self.grad_accum_steps == 0,
            f"a divisor of batch_size = {self.batch_size}",
        )

    def _expect(self, key: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise R21DError(f"spec: {key} = {getattr(self, key)!r}, expected {wanted}")

    @property
    def hash(self) -> str:
        """Ten hex digits of the SHA-256 of the fields that differ from their defaults.

        So a field added later, with a default, leaves the folders of earlier runs where they are.
        """
        told = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def folder(self) -> str:
        """The run folder's name, such as `r21d-18-8f-<key>`; a demonstration's begins with `demo-`."""
        slug = re.sub(r"[^a-z0-9]", "", self.variant.lower())
        return f"{'demo-' if self.profile == 'demo' else ''}{slug}-{self.depth}-{self.frames}f-{self.hash}"

    @property
    def parent_spec(self) -> Spec | None:
        """The Spec of the run that this one starts from; None for one that starts afresh or from a file."""
        if not self.init_from.startswith("{"):
            return None
        try:
            return self.replace(**{"init_from": ""} | json.loads(self.init_from))
        except (json.JSONDecodeError, TypeError):
            raise R21DError(f'spec: init_from = {self.init_from!r}, expected JSON such as {{"frames": 8}}') from None

    @property
    def init_file(self) -> str:
        """The file of weights that this run starts from, as it was named; empty for one that starts otherwise."""
        return "" if self.init_from.startswith("{") else self.init_from

    def finetune_spec(self, **changes) -> Spec:
        """A run that starts from the weights of this one and differs from it in `changes`."""
        before = {key: getattr(self, key, None) for key in changes}
        if self.init_from:
            before["init_from"] = self.init_from
        later = self.replace(**changes | {"init_from": json.dumps(before)})
        before = {key: value for key, value in sorted(before.items()) if value != getattr(later, key)}
        return later.replace(init_from=json.dumps(before))

    def to_json(self) -> str:
        """All fields as indented JSON, which `from_json` reads back to an equal Spec."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """The Spec that `to_json` wrote; raises R21DError for keys it does not know."""
        return cls().replace(**json.loads(text))

    def replace(self, **changes) -> Spec:
        """This Spec with `changes`, whose values may be strings from a command line; raises R21DError."""
        known = [f.name for f in fields(self)]
        for key in changes:
            if key not in known:
                close = get_close_matches(key, known, 1)
                hint = f"did you mean {close[0]}?" if close else f"keys: {', '.join(known)}"
                raise R21DError(f"spec: no key {key!r}; {hint}")
        return replace(self, **changes)


def run_labels(specs: Sequence[Spec]) -> list[str]:
    """What to call each of an experiment's runs, so that people see which is which."""
    several = len({spec.data for spec in specs}) > 1
    return [
        f"{spec.variant}-{spec.depth} (seed {spec.seed}, {spec.frames} frames, {spec.eval_clips} clips"
        + ", flow" * (spec.modality == "flow")
        + f", {spec.data}" * several
        + (", finetuned" if spec.epochs else ", tested") * bool(spec.init_from)
        + ")"
        for spec in specs
    ]


def parse_settings(settings: list[str]) -> dict[str, str]:
    """`["lr=0.02", "epochs=3"]` as a dict for `Spec.but`; raises R21DError where no `=` stands."""
    for setting in settings:
        if "=" not in setting:
            raise R21DError(f"--set {setting}: expected key=value, such as --set lr=0.02")
    return dict(setting.split("=", 1) for setting in settings)


def _as(kind: type, key: str, value):
    """`value` as `kind`; "1e6" and 1000000.0 are whole numbers, "yes" is no truth value and 0.5 no int."""
    if kind is str:
        return str(value)
    if kind is bool:
        truth = {"true": True, "false": False}.get(str(value).lower())
        if truth is None:
            raise R21DError(f"spec: {key} = {value!r}, expected true or false")
        return truth
    try:
        number = float(value)
        if isinstance(value, bool) or (kind is int and not number.is_integer()):
            raise ValueError
    except (TypeError, ValueError):
        wanted = "a whole number" if kind is int else "a number"
        raise R21DError(f"spec: {key} = {value!r}, expected {wanted}") from None
    return kind(number)
