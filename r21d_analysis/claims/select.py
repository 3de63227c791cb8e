"""A claim, and the runs that it compares, alike in all other settings; names what is missing."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from r21d_analysis.artifacts.confirmatory import Family, counted_seeds, families_of, family_networks, planned_specs
from r21d_analysis.artifacts.networks import split_of
from r21d_analysis.claims.verdict import ABOVE, ACTION, Region, Verdict
from r21d_analysis.statistics.aggregate import SeedGroup, take_seeds, without_seed
from r21d_core import count_noun
from r21d_core.study.experiments import SPLIT
from r21d_core.study.recipes import VAL_SUFFIX, get_recipe
from r21d_core.study.spec import Spec
from r21d_core.study.variants import NOT_OF_NEIGHBORS, absent_fields, is_neighbor

TWO_D, R3D, R21D = ("f-R2D", "R2D"), ("R3D",), ("R(2+1)D",)
MC, RMC = ("MC2", "MC3", "MC4", "MC5"), ("rMC2", "rMC3", "rMC4", "rMC5")
THREE_D = R3D + MC + RMC
FAMILIES = {TWO_D: "2-D", MC: "MC", RMC: "rMC", THREE_D: "R3D, MC and rMC"}
LENGTHS = (8, 16, 24, 32, 40, 48)
SPORTS = "sports1m"
# What a run does: trains from scratch, tests or finetunes another's weights on longer clips, or tests more clips.
SCRATCH, TESTED, FINETUNED, MORE_CLIPS = "from scratch", "tested", "finetuned", "more clips"


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: the mean over `variants`, at these values of their Spec's fields."""

    variants: tuple[str, ...]
    frames: int | None = None
    depth: int | None = None
    training: str = SCRATCH

    @property
    def settings(self) -> dict[str, int]:
        """The fields of a Spec that the arm fixes, beside the variant."""
        values = {"frames": self.frames, "depth": self.depth}
        return {key: value for key, value in values.items() if value is not None}

    @property
    def conditions(self) -> str:
        """The settings in brackets after a space; "" for none."""
        parts = [f"{value} {'frames' if key == 'frames' else 'layers'}" for key, value in self.settings.items()]
        parts += [self.training] if self.training != SCRATCH else []
        return f" ({', '.join(parts)})" if parts else ""

    def __str__(self) -> str:
        return FAMILIES.get(self.variants, ", ".join(self.variants)) + self.conditions

    def matches(self, spec: Spec, variant: str) -> bool:
        """Whether `spec` is of `variant` and as the arm asks."""
        same = all(getattr(spec, key) == value for key, value in self.settings.items())
        return same and spec.variant == variant and _training(spec) == self.training


Contrast = tuple[tuple[Arm, ...], tuple[Arm, ...]]  # the sum of the first arms' means minus that of the second arms'


@dataclass(frozen=True)
class Claim:
    """A statement of the paper in our words, and how `evaluate_claim` judges it."""

    id: str
    section: str
    sentence: str
    kind: str  # of its evidence
    comparison: str
    evaluate: Callable[[Claim, Sequence[SeedGroup]], list[Verdict]]  # by setting, in the order of `setting_rank`
    contrasts: tuple[Contrast, ...] = ()  # differences in `metric` that all have to lie in `region`
    metric: str = "clip@1"
    region: Region = ABOVE
    size: float | None = None  # the effect by the paper, of the same comparison
    data: str = ""  # the set that the paper names
    tasks: tuple[str, ...] = (ACTION,)  # of the runs that count
    explains: Contrast | None = None  # the difference in `metric` that the claim gives a reason for

    @property
    def arms(self) -> list[Arm]:
        """The arms of its contrasts and of what it explains, each once."""
        sides = [side for contrast in (*self.contrasts, self.explains or ()) for side in contrast]
        return list(dict.fromkeys(arm for side in sides for arm in side))


def describe_contrast(contrast: Contrast) -> str:
    """The arms of a contrast, such as `R(2+1)D (8 frames) minus R3D (8 frames)`."""
    return " minus ".join(" and ".join(map(str, side)) for side in contrast)


@dataclass(frozen=True)
class Selection:
    """The networks of one setting, which are alike in every other field, and what that setting lacks."""

    setting: Spec  # on the first split
    splits: list[dict[tuple[Arm, str], SeedGroup]]  # the finished networks on each split that counts
    missing: list[tuple[Arm, str]]
    # Those over which the seeds' variance is pooled: all networks on each of these splits, of other variants too, but
    # not of other papers; of runs of docs/protocol.md the networks of their families, as it fixes.
    trained: list[SeedGroup]
    families: list[Family]  # of docs/protocol.md that hold the networks, as of `families_of`

    @property
    def groups(self) -> list[SeedGroup]:
        """The finished networks on all splits that count."""
        return [group for split in self.splits for group in split.values()]


def rank_settings(
    groups: Sequence[SeedGroup], arms: Sequence[Arm], data: str = "", tasks: Collection[str] = (ACTION,)
) -> list[Selection]:
    """The settings that hold networks of a claim, as of `setting_rank`; one without networks if there is none.

    Networks are alike if their Specs, or those of the runs on the same data that they start from, differ in nothing
    but seed, variant, split and the fields that the arms fix; all have one of the `tasks`, are on RGB and, where `data`
    is given, on the set whose name begins so. Runs on a validation split, on which a recipe is chosen, do not count.
    Of the splits of a set those count on which all networks of the claim have runs; if there is none, each is a setting
    of its own. Of the seeds on them those count that a family of docs/protocol.md counts (`_open_seeds`).
    """
    free = {"variant"} | {key for arm in arms for key in arm.settings}
    wanted = list(dict.fromkeys((arm, variant) for arm in arms for variant in arm.variants))
    selections, finished = [], frozenset(run.spec for group in groups for run in group.runs)
    for setting, networks in _group_by_setting(groups, free, data, tasks).items():
        selections += _select(setting, networks, wanted, groups, finished)
    if selections:
        return sorted(selections, key=lambda s: (len(s.missing) > 0, *setting_rank(s.setting, s.groups)))
    usual = get_recipe("paper").replace(data=data, eval_clips=100) if data else get_recipe("small").replace(data="NAME")
    return [Selection(usual.replace(**_defaults(free)), [{}], wanted, [], [])]


def _group_by_setting(
    groups: Sequence[SeedGroup], free: Collection[str], data: str, tasks: Collection[str]
) -> dict[Spec, dict[Spec, dict[str, SeedGroup]]]:
    """The groups that may count by setting, in it by network, and of that by the name of their data.

    Networks of a setting differ in the fields `free`, and Neighbors in those that they do not have. The Specs of both
    are without seed and number of the split.
    """
    settings: dict[Spec, dict[Spec, dict[str, SeedGroup]]] = {}
    neighbors: dict[Spec, dict[Spec, dict[str, SeedGroup]]] = {}
    for group in groups:
        base = group.spec.parent_spec or group.spec
        same_input = not {"task", "modality", "data"} & group.spec.changes_from(base).keys()
        is_asked = same_input and base.task in tasks and base.modality == "rgb"
        is_of_data = base.data.startswith(data) and not base.data.endswith(VAL_SUFFIX)
        # 34 layers count only for a claim about depth.
        if is_asked and is_of_data and ("depth" in free or base.depth <= 18):
            kept = neighbors if is_neighbor(base.variant) else settings
            networks = kept.setdefault(_unsplit(base, frozenset(free)), {})
            networks.setdefault(_unsplit(group.spec), {})[base.data] = group
    for setting, networks in neighbors.items():
        # Their Specs keep the defaults of fields that they do not have, so they stand beside networks of any values.
        alike = [other for other in settings if _as_of_neighbor(other) == setting]
        recipe = get_recipe(setting.profile, setting.task)
        usual = {key: getattr(recipe, key) for key in NOT_OF_NEIGHBORS if key not in free}
        for other in alike or [setting.replace(**usual)]:
            settings.setdefault(other, {}).update(networks)
    return settings


@lru_cache(maxsize=4096)  # of each setting, for each Neighbor
def _as_of_neighbor(spec: Spec) -> Spec:
    """`spec` with the defaults of the fields that Neighbors do not have."""
    return spec.replace(**_defaults(NOT_OF_NEIGHBORS))


@lru_cache(maxsize=4096)  # of each group, for each claim
def _unsplit(spec: Spec, free: frozenset[str] = frozenset()) -> Spec:
    """`spec` without seed and number of the split, and with the defaults of the fields `free`."""
    # "-split" stays, as a set beside its splits is none of them.
    return spec.replace(seed=0, data=SPLIT.sub("-split", spec.data), **_defaults(free))


def _defaults(keys: Collection[str]) -> dict[str, Any]:
    return {key: getattr(Spec, key) for key in keys}


def _select(
    setting: Spec, networks: Mapping[Spec, Mapping[str, SeedGroup]], wanted: Sequence[tuple[Arm, str]],
    groups: Sequence[SeedGroup], finished: frozenset[Spec],
) -> list[Selection]:  # fmt: skip
    """The Selection of one setting on the splits that count, or one for each split if none has all `wanted` networks.

    `groups` are all, of which those of a family count beside `networks`, those of the setting; the Specs of their runs
    are `finished`. Of several networks that match one wanted, it takes that with the most runs. A demonstration that
    cannot hold a missing network is left out.
    """
    by_runs = sorted(networks, key=lambda spec: (-sum(len(g.runs) for g in networks[spec].values()), _text(spec)))
    found: dict[tuple[Arm, str], Mapping[str, SeedGroup]] = {}
    for arm, variant in wanted:
        matching = (networks[spec] for spec in by_runs if arm.matches(spec, variant))
        found[arm, variant] = next(matching, {})
    names = sorted({name for splits in found.values() for name in splits})
    shared = [name for name in names if all(name in splits for splits in found.values())]
    selections = []
    for counted in [shared] if shared else [[name] for name in names]:
        splits = [{key: own[name] for key, own in found.items() if name in own} for name in counted]
        missing = [key for key in wanted if key not in splits[0]]
        if setting.profile == "demo" and not all(_fits_demo(arm) for arm, _ in missing):
            continue
        families = families_of(group.spec for split in splits for group in split.values())
        if families:
            members = {spec for family in families for spec in family_networks(family) if spec.data in counted}
            trained = [group for group in groups if without_seed(group.spec) in members]
            if seeds := _open_seeds(tuple(families), finished):
                trained = [take_seeds(group, seeds) for group in trained]
                splits = [{key: take_seeds(group, seeds) for key, group in split.items()} for split in splits]
        else:
            pooled = [networks[spec] for spec in by_runs if spec.epochs and not is_neighbor(spec.variant)]
            trained = [own[name] for own in pooled if own.keys() >= {*counted} for name in counted]
        selections.append(Selection(setting.replace(data=counted[0]), splits, missing, trained, families))
    return selections


@lru_cache(maxsize=64)  # of the same runs, for each setting of each claim
def _open_seeds(families: tuple[Family, ...], finished: frozenset[Spec]) -> list[int]:
    """The seeds with which all networks of those families that leave their number open are `finished`; [] for none.

    A network of several families may have more: R(2+1)D those of speech where those of its ablations are asked for.
    """
    counted = [{*counted_seeds(family_networks(family), finished)} for family in families if not family.seeds]
    return sorted(set.intersection(*counted)) if counted else []


@lru_cache(maxsize=4096)  # of each network, for each claim
def _text(spec: Spec) -> str:
    return spec.to_json()


def setting_rank(setting: Spec, groups: Sequence[SeedGroup]) -> tuple:
    """The sort key that puts the confirmatory runs on actions (docs/protocol.md) first, then the nearest to the paper.

    A demonstration comes last, before it another task than actions. Then count, in this order: consecutive frames, full
    width, 18 layers, the data (Kinetics or Sports-1M, UCF101 or HMDB51, other real videos, built-in ones), and how many
    further fields differ from the profile `paper`. Frames are as the claim says, or any. Ties go to the most seeds,
    then to the first name.
    """
    paper = get_recipe("paper", setting.task)
    first = ("frame_stride", "width", "depth")
    differing = setting.changes_from(paper)
    ranks = (("kinetics", SPORTS), 0), (("ucf101", "hmdb51"), 1), ("builtin", 3)
    data = next((rank for prefix, rank in ranks if setting.data.startswith(prefix)), 2)
    further = len(differing.keys() - {*first, "variant", "frames", "seed", "data", "profile", "init_from"})
    is_planned = bool(groups) and all(group.spec in planned_specs() for group in groups)
    return (
        not is_planned, setting.profile == "demo", setting.task != ACTION,
        *(key in differing for key in first), data, further,
        -min(len(group.runs) for group in groups), setting.data, setting.frames, _text(setting),
    )  # fmt: skip


def _fits_demo(arm: Arm) -> bool:
    """Whether a demonstration can hold such a run: its videos have 20 frames, its `clip_length` no 32."""
    return arm.training == SCRATCH and (arm.frames or 8) <= 16


def _training(spec: Spec) -> str:
    if not spec.init_from:
        return SCRATCH
    if spec.init_file:
        return "other"
    changed = set(json.loads(spec.init_from))
    if spec.epochs:
        return FINETUNED if "frames" in changed else "other"
    return TESTED if changed == {"epochs", "frames"} else MORE_CLIPS if changed == {"epochs", "eval_clips"} else "other"


def _commands(selection: Selection) -> str:
    """The commands that make the missing runs, one for each experiment, clip length and depth."""
    trainings, on_sports = {arm.training for arm, _ in selection.missing}, selection.setting.data.startswith(SPORTS)
    # `implied` are the fields that the experiment, its recipe or an option of the command sets.
    experiment, implied = "variant_comparison", {"variant", "seed", "data", "profile", "task", "init_from"}
    if on_sports:
        experiment, implied = "sports1m", implied | {"depth", "eval_clips"}
    elif trainings & {TESTED, FINETUNED}:
        experiment, implied = "clip_length", implied | {"frames", "frame_stride"}
    elif MORE_CLIPS in trainings:
        experiment, implied = "clip_count", implied | {"eval_clips"}
    lines: dict[tuple[str, str], list[str]] = {}
    for arm, variant in selection.missing:
        spec = selection.setting.replace(**arm.settings)
        changed = spec.changes_from(get_recipe(spec.profile, spec.task))
        without = {*implied, *absent_fields(variant)}
        changes = [f" --set {key}={value}" for key, value in changed.items() if key not in without]
        manifest = "" if spec.data == "builtin" else f" --manifest {shlex.quote(f'data/{spec.data}.csv')}"
        task = f" --task {spec.task}" if spec.task != ACTION else ""
        head = f"r21d train {experiment} --profile {spec.profile}{manifest}{task}"
        variants = lines.setdefault((head, "".join(changes)), [])
        if variant not in variants:
            variants.append(variant)
    return "; ".join(
        f'{head} --variants "{",".join(variants)}" --seeds 0,1,2{changes}'
        for (head, changes), variants in lines.items()
    )


def describe_protocol(groups: Sequence[SeedGroup]) -> dict[str, str]:
    """How networks were trained, and on how many seeds: a text for each key; empty for no networks."""
    if not groups:
        return {}

    def values(key: str, text: str) -> str:
        having = [spec for spec in specs if key not in absent_fields(spec.variant)]
        return text.format("/".join(map(str, sorted({getattr(spec, key) for spec in having}))) or "own")

    specs, seeds = [group.spec for group in groups], [len(group.runs) for group in groups]
    epochs = sorted({spec.epochs or (spec.parent_spec or spec).epochs for spec in specs})
    splits = sorted({split_of(spec) for spec in specs} - {""})
    data = f"{SPLIT.sub('', specs[0].data)}, splits {', '.join(splits)}" if len(splits) > 1 else specs[0].data
    return {
        "profile": values("profile", "profile {}"), "data": data, "task": values("task", "{}"),
        "frames": values("frames", "{} frames"), "frame_stride": values("frame_stride", "stride {}"),
        "depth": values("depth", "{} layers"), "width": values("width", "width {}"),
        "epochs": count_noun("/".join(map(str, epochs)), "epoch"),
        "seeds": count_noun("–".join(map(str, sorted({min(seeds), max(seeds)}))), "seed"),
    }  # fmt: skip


def describe_missing(selection: Selection) -> str:
    """Which networks the setting lacks, and the commands that make them."""
    names: dict[str, list[str]] = {}
    for arm, variant in selection.missing:
        names.setdefault(arm.conditions, []).append(variant)
    listed = ", ".join(", ".join(dict.fromkeys(variants)) + conditions for conditions, variants in names.items())
    return f"missing: {listed}; to make them: {_commands(selection)}"
