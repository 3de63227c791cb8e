"""Which runs may be compared: networks alike in all but what a claim asks, what they lack and what would make it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from r21d_analysis.statistics.aggregate import SeedGroup
from r21d_core.study.recipes import VAL_SUFFIX, get_recipe
from r21d_core.study.spec import Spec

TWO_D, R3D, R21D = ("f-R2D", "R2D"), ("R3D",), ("R(2+1)D",)
MC, RMC = ("MC2", "MC3", "MC4", "MC5"), ("rMC2", "rMC3", "rMC4", "rMC5")
THREE_D = R3D + MC + RMC
LENGTHS = (8, 16, 24, 32, 40, 48)
SPORTS = "sports1m"


@dataclass(frozen=True)
class Arm:
    """Networks that one side of a comparison averages: variants at these values of their Spec's fields.

    `how` is what was done: trained "afresh", "tested" on other clips than trained on, "finetuned" on them, or
    "counted", that is evaluated with another number of clips.
    """

    variants: tuple[str, ...]
    frames: int | None = None
    depth: int | None = None
    how: str = "afresh"

    @property
    def asked(self) -> dict[str, int]:
        told = {"frames": self.frames, "depth": self.depth}
        return {key: value for key, value in told.items() if value is not None}


Contrast = tuple[tuple[Arm, ...], tuple[Arm, ...]]  # the sum of the first groups' means less that of the second's


@dataclass(frozen=True)
class Selection:
    """The networks of one setting, alike in every field but those in question, and what that setting still lacks."""

    setting: Spec
    found: dict[tuple[Arm, str], SeedGroup]
    missing: list[tuple[Arm, str]]
    others: int  # settings besides this one that hold some of these networks

    def of(self, group: Arm) -> list[SeedGroup]:
        return [self.found[group, variant] for variant in group.variants if (group, variant) in self.found]


def select(networks: Sequence[SeedGroup], groups: Sequence[Arm], task: str = "action", data: str = "") -> Selection:
    """The setting that answers best: a complete one first, then the profile nearest the paper's, then the fullest.

    Networks are alike if their Specs, or those of the runs they start from, differ in nothing but seed, variant and
    the fields that the groups ask for; all are on RGB and, where `data` is given, on the set whose name begins so. Runs
    on a validation cut, which a recipe is chosen on, bear no witness.
    """
    free = {"variant"} | {key for group in groups for key in group.asked}
    defaults = {key: getattr(Spec(), key) for key in free}
    settings: dict[Spec, list[SeedGroup]] = {}
    for one in networks:
        base = one.spec.parent_spec or one.spec
        asked = base.task == task and base.modality == "rgb" and base.data.startswith(data)
        if (
            asked and not base.data.endswith(VAL_SUFFIX) and ("depth" in free or base.depth <= 18)
        ):  # 34 layers are asked for by name
            settings.setdefault(base.replace(seed=0, **defaults), []).append(one)
    wanted = list(dict.fromkeys((group, variant) for group in groups for variant in group.variants))
    selections = []
    for setting, members in settings.items():
        found = {key: one for key in wanted if (one := _member(members, *key)) is not None}
        missing = [key for key in wanted if key not in found]
        if found and (setting.profile != "demo" or all(_of_demo(group) for group, _ in missing)):
            selections.append(Selection(setting, found, missing, 0))
    if not selections:
        usual = (
            get_recipe("paper", task).replace(data=data, eval_clips=100)
            if data
            else get_recipe("small", task).replace(data="NAME")
        )
        return Selection(usual.replace(**defaults), {}, wanted, 0)
    best = max(selections, key=_rank)
    return replace(best, others=len(selections) - 1)


def _of_demo(group: Arm) -> bool:
    """Whether a demonstration can hold such a run: its videos have 20 frames, its `clip_length` no 32."""
    return group.how == "afresh" and (group.frames or 8) <= 16


def _rank(selection: Selection) -> tuple:
    nearness = ("demo", "small", "paper").index(selection.setting.profile)
    runs = sum(len(one.runs) for one in selection.found.values())
    return not selection.missing, nearness, -len(selection.missing), runs


def _member(members: Sequence[SeedGroup], group: Arm, variant: str) -> SeedGroup | None:
    for one in members:
        same = all(getattr(one.spec, key) == value for key, value in group.asked.items())
        if same and one.spec.variant == variant and _how(one.spec) == group.how:
            return one
    return None


def _how(spec: Spec) -> str:
    changed = set(json.loads(spec.init_from)) if spec.init_from else set()
    if not changed:
        return "afresh"
    if spec.epochs:
        return "finetuned" if "frames" in changed else "other"
    return {("epochs", "frames"): "tested", ("epochs", "eval_clips"): "counted"}.get(tuple(sorted(changed)), "other")


def _commands(selection: Selection) -> str:
    """What makes the missing runs: a command for each experiment, clip length and depth."""
    hows, on_sports = {group.how for group, _ in selection.missing}, selection.setting.data.startswith(SPORTS)
    experiment, given = "variant_comparison", {"variant", "seed", "data", "profile", "task", "init_from"}
    if on_sports:  # that one's recipe has the depth and the clips
        experiment, given = "sports1m", given | {"depth", "eval_clips"}
    elif hows & {"tested", "finetuned"}:  # that one makes the runs they start from as well, of consecutive frames
        experiment, given = "clip_length", given | {"frames", "frame_stride"}
    elif "counted" in hows:
        experiment, given = "clip_count", given | {"eval_clips"}
    lines: dict[tuple[str, str], list[str]] = {}
    for group, variant in selection.missing:
        spec = selection.setting.replace(**group.asked)
        usual = get_recipe(spec.profile, spec.task)
        changed = [f.name for f in fields(Spec) if f.name not in given]
        changed = [f" --set {key}={getattr(spec, key)}" for key in changed if getattr(spec, key) != getattr(usual, key)]
        manifest = "" if spec.data == "builtin" else f" --manifest {shlex.quote(f'data/{spec.data}.csv')}"
        task = "" if spec.task == "action" else f" --task {spec.task}"
        head = f"r21d train {experiment} --profile {spec.profile}{manifest}{task}"
        variants = lines.setdefault((head, "".join(changed)), [])
        if variant not in variants:
            variants.append(variant)
    return "; ".join(
        f'{head} --variants "{",".join(variants)}" --seeds 0,1,2{changed}'
        for (head, changed), variants in lines.items()
    )


def tell_protocol(selection: Selection) -> str:
    """How the networks found were trained, of how many seeds, and how many other settings the records hold."""
    networks = list(selection.found.values())
    one = networks[0].spec

    def each(key: str) -> str:
        return ", ".join(str(value) for value in sorted({getattr(network.spec, key) for network in networks}))

    seeds = sorted({len(network.runs) for network in networks})
    demo = "demonstration with tiny networks, compares with nothing in the paper; " if one.profile == "demo" else ""
    luck = " (one seed: nothing is known of its luck)" if seeds[0] == 1 else ""
    others = f"; other settings in the records: {selection.others}" if selection.others else ""
    return (
        f"{demo}profile {one.profile}, {one.data}, {one.task}; {each('frames')} frames at step {each('frame_stride')}, "
        f"{each('depth')} layers from width {one.width}; seeds {', '.join(map(str, seeds))}{luck}{others}"
    )


def tell_missing(selection: Selection) -> str:
    """Which networks the setting lacks, and the commands that make them."""
    names: dict[str, list[str]] = {}
    for group, variant in selection.missing:
        names.setdefault(tell_asked(group), []).append(variant)
    told = ", ".join(", ".join(dict.fromkeys(variants)) + asked for asked, variants in names.items())
    return f"missing: {told}; to make them: {_commands(selection)}"


def tell_asked(group: Arm) -> str:
    """What the group asks of its variants, in brackets after a space; "" where nothing."""
    told = [f"{value} {'frames' if key == 'frames' else 'layers'}" for key, value in group.asked.items()]
    told += [group.how] if group.how != "afresh" else []
    return f" ({', '.join(told)})" if told else ""
