"""The experiments: one function per table or figure of the paper, which returns the Specs of its runs.

The profiles of an experiment differ only in the numbers of `recipes`. `settings` are Spec fields for all runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product

from r21d_core import R21DError
from r21d_core.study import recipes
from r21d_core.study.overrides import IgnoredOverrideError, reject_ignored_overrides
from r21d_core.study.recipes import EVALUATION, VAL_SUFFIX, get_recipe
from r21d_core.study.spec import Spec
from r21d_core.study.variants import ABLATIONS, NEIGHBORS, VARIANTS, is_sized_by_frames

TABLE_2 = tuple(VARIANTS)
REASONS = ("R(2+1)D", "R3D", *ABLATIONS)
STREAMS = ("rgb", "flow")
Numbers = Sequence[int] | int | str  # one, several, or text such as "8,16"
# Two halves of the built-in videos, to pretrain on and to transfer to.
SOURCE, TARGET = "builtin-source-split1", "builtin-target-split1"
# The official split in a manifest's name, which may go on with how the videos were prepared.
SPLIT = re.compile(r"-split(\d+)\b")


def as_list(values: Numbers | Sequence[str]) -> list:
    """A value, a sequence of values or a comma-separated string, as a list."""
    if isinstance(values, Sequence) and not isinstance(values, str):
        return list(values)
    return [value.strip() for value in str(values).split(",")]


def _split_frozen(settings: dict) -> tuple[dict, dict]:
    """`settings` for all runs, and those of finetuned runs alone: what is frozen has to be trained before."""
    frozen = {key: value for key, value in settings.items() if key == "frozen_stages" and "init_from" not in settings}
    return {key: value for key, value in settings.items() if key not in frozen}, frozen


@reject_ignored_overrides
def variant_comparison(
    profile: str = "demo", data: str = "builtin", *, task: str = "action", variants: Sequence[str] = TABLE_2,
    seeds: Sequence[int] = (0,), splits: Numbers = (), **settings,
) -> list[Spec]:  # fmt: skip
    """Table 2 and Figure 4: every variant with the same recipe, for each seed.

    `splits` are numbers of official splits or folds, such as "1,2,3"; default the one that `data` names. If it names
    none, they are an R21DError.

    `r21d train variant_comparison --profile small --manifest data/ucf101-14-split1.csv --task speed`
    """
    names = [SPLIT.sub(f"-split{split}", data) for split in _list_splits(data, splits)] or [data]
    grid = product(names, variants, seeds)
    base = get_recipe(profile, task, data).replace(data=data, **settings)
    return [base.replace(data=name, variant=variant, seed=seed) for name, variant, seed in grid]


@reject_ignored_overrides
def clip_length(
    profile: str = "demo", data: str = "builtin", *, task: str = "action", variants: Sequence[str] = ("R(2+1)D",),
    seeds: Sequence[int] = (0,), **settings,
) -> list[Spec]:  # fmt: skip
    """Figure 5a, a run for each clip length, and Table 3, the short network tested and finetuned on long clips.

    `r21d train clip_length --profile small --manifest data/ucf101-14-split1.csv`
    """
    base = get_recipe(profile, task, data).replace(data=data, **{"frame_stride": 1, **settings})
    lengths, (short, long) = recipes.CLIP_LENGTHS[profile]
    specs = []
    for variant, seed in product(variants, seeds):
        spec = base.replace(variant=variant, seed=seed, frames=short)
        specs += [spec.replace(frames=frames) for frames in lengths]
        specs += [spec.finetune_spec(frames=long, **c) for c in ({"epochs": 0}, recipes.FINETUNE[profile])]
    return specs


@reject_ignored_overrides
def optimization_curves(
    profile: str = "demo", data: str = "builtin", *, task: str = "action",
    variants: Sequence[str] = ("R3D", "R(2+1)D"), seeds: Sequence[int] = (0,), depth: Numbers = (), **settings,
) -> list[Spec]:  # fmt: skip
    """Figure 3: two variants at two depths with the recipe of `variant_comparison`; `depth` is one or several.

    `r21d train optimization_curves --profile small --manifest data/ucf101-14-split1.csv`
    """
    base = get_recipe(profile, task, data).replace(data=data, **settings)
    grid = product(as_list(depth or recipes.CURVE_DEPTHS[profile]), variants, seeds)
    return [base.replace(variant=variant, depth=layers, seed=seed) for layers, variant, seed in grid]


@reject_ignored_overrides
def clip_count(
    profile: str = "demo", data: str = "builtin", *, task: str = "action", variants: Sequence[str] = ("R(2+1)D",),
    seeds: Sequence[int] = (0,), eval_clips: int | str = 0, **settings,
) -> list[Spec]:  # fmt: skip
    """Figure 5b: each variant of `variant_comparison`, evaluated again with `eval_clips` clips per video.

    These scores contain those of smaller counts: see STORED_CLIPS. The paper's network takes 32 frames.

    `r21d train clip_count --profile small --manifest data/ucf101-14-split1.csv`
    """
    if profile == "paper":
        settings = {"frames": 32} | settings
    trained = variant_comparison(profile, data, task=task, variants=variants, seeds=seeds, **settings)
    changes = {"epochs": 0, "eval_clips": eval_clips or recipes.STORED_CLIPS[profile]}
    return [run for spec in trained for run in (spec, spec.finetune_spec(**changes))]


@reject_ignored_overrides
def sports1m(
    profile: str = "demo", data: str = "builtin", *, task: str = "action",
    variants: Sequence[str] = ("R3D", "R(2+1)D"), seeds: Sequence[int] = (0,), frames: Numbers = (), **settings,
) -> list[Spec]:  # fmt: skip
    """Table 4: from scratch on RGB and, for the last variant, on flow; the scores of both streams are fused later.

    `r21d train sports1m --profile small --manifest data/ucf101-14-split1.csv`
    """
    evaluation = EVALUATION.get((profile, "sports1m"), {})
    base = _get_deep_recipe(profile, task, data).replace(data=data, **evaluation | settings)
    lengths = as_list(frames or ((8, 32) if profile == "paper" else base.frames))
    return [
        base.replace(variant=variant, modality=modality, frames=length, seed=seed, lr=_pick_lr(base, variant, settings))
        for length, variant, modality, seed in product(lengths, variants, STREAMS, seeds)
        if modality == "rgb" or variant == variants[-1]
    ]


def _pick_lr(recipe: Spec, variant: str, settings: dict) -> float:
    """The learning rate of a recipe for a network: LR_DIVISORS, unless `settings` name another."""
    return settings.get("lr", recipe.lr / recipes.LR_DIVISORS.get(variant, 1))


@reject_ignored_overrides
def kinetics(
    profile: str = "demo", data: str = TARGET, *, source: str = "", init_from: str = "", task: str = "action",
    variants: Sequence[str] = ("R(2+1)D",), seeds: Sequence[int] = (0,), **settings,
) -> list[Spec]:  # fmt: skip
    """Table 5: on RGB and on flow, `data` from scratch and finetuned from a run on `source`.

    Networks of other papers have no runs on flow. `init_from` names weights to finetune instead: a file, a published
    name or a run folder.

    `r21d train kinetics --profile small --manifest data/ucf101-7b-split1.csv --set source=ucf101-7a-split1`
    """
    data, source = _name_datasets(data, source, init_from, default_source="sports1m")
    settings, frozen = _split_frozen(settings)
    base = _get_deep_recipe(profile, task, data).replace(
        **recipes.PRETRAINING[profile] | EVALUATION.get((profile, "kinetics"), {}) | settings
    )
    return _pretrain_and_finetune(base, data, source, init_from, variants, seeds, settings, frozen)


@reject_ignored_overrides
def transfer(
    profile: str = "demo", data: str = TARGET, *, source: str = "", init_from: str = "", task: str = "action",
    variants: Sequence[str] = ("R(2+1)D",), seeds: Sequence[int] = (0,), splits: Numbers = (), **settings,
) -> list[Spec]:  # fmt: skip
    """Table 6: as Table 5, on every split of `data`; if the name of `source` has a split, it changes too.

    `splits` as in `variant_comparison`; default 1, 2 and 3 if `data` names one of them.

    `r21d train transfer --profile small --manifest data/ucf101-7b-split1.csv --set source=ucf101-7a-split1`
    """
    data, source = _name_datasets(data, source, init_from, default_source="kinetics-400")
    settings, frozen = _split_frozen(settings)
    base = _get_deep_recipe(profile, task, data).replace(**recipes.PRETRAINING[profile] | settings)
    specs = []
    for split in _list_splits(data, splits) or (1, 2, 3):
        target, origin = (SPLIT.sub(f"-split{split}", name) for name in (data, source))
        specs += _pretrain_and_finetune(base, target, origin, init_from, variants, seeds, settings, frozen)
    return specs


def _list_splits(data: str, splits: Numbers) -> list:
    """`splits` as a list; raises R21DError if there are some and the name of `data` has none to replace."""
    if not splits:
        return []
    numbers = as_list(splits)
    if not SPLIT.search(data):
        raise R21DError(
            f"splits = {', '.join(map(str, numbers))}: the data set {data!r} names no split; leave `splits` out (in "
            f'a notebook `splits = ""`), or give the manifest of one split, with a name such as {data}-split1'
        )
    return numbers


def _name_datasets(data: str, source: str, init_from: str, default_source: str) -> tuple[str, str]:
    """The names of the target and source data sets; those of the built-in videos belong together."""
    if source and init_from:
        raise R21DError(f"source = {source!r} and init_from = {init_from!r}: name a data set or weights, not both")
    if data.startswith("builtin"):
        return (TARGET if data == "builtin" else data), source or SOURCE
    return data, source or default_source


def _get_deep_recipe(profile: str, task: str, data: str) -> Spec:
    """The recipe of Section 4.4: 34 layers in the paper's profile, a long schedule in the small one.

    Raises IgnoredOverrideError for another task than `action`, which alone takes optical flow.
    """
    if task != "action":
        what = "sports1m, kinetics and transfer have runs on flow, which is for the task action alone"
        raise IgnoredOverrideError(f"task = {task!r}: {what}; leave it out")
    return get_recipe(profile, task, data).replace(
        **{"paper": {"depth": 34}, "small": recipes.LONG_SCHEDULE}.get(profile, {})
    )


def _pretrain_and_finetune(
    base: Spec, data: str, source: str, init_from: str, variants: Sequence[str], seeds: Sequence[int], settings: dict,
    frozen: dict,
) -> list[Spec]:  # fmt: skip
    """For each variant, stream and seed the runs on `data` from scratch, on `source`, and finetuned from that.

    The run on `source` is evaluated as in that data set's experiment, to share it; `init_from` replaces it.
    """
    finetune = recipes.TRANSFER[base.profile] | recipes.TRANSFER_TO.get((base.profile, data.split("-")[0]), {}) | frozen
    evaluation = {"eval_clips": base.eval_clips} | EVALUATION.get((base.profile, source.split("-")[0]), {}) | settings
    specs = []
    for variant, modality, seed in product(variants, STREAMS, seeds):
        if variant in NEIGHBORS and modality == "flow":
            continue
        lr = _pick_lr(base, variant, settings)
        spec = base.replace(variant=variant, modality=modality, seed=seed, lr=lr)
        specs.append(spec.replace(data=data))
        changes = finetune | {"data": data, "lr": finetune["lr"] / recipes.LR_DIVISORS.get(variant, 1)}
        if init_from:
            specs.append(spec.replace(init_from=init_from, **changes))
        else:
            pretrained = spec.replace(data=source, eval_clips=evaluation["eval_clips"])
            specs += [pretrained, pretrained.finetune_spec(eval_clips=spec.eval_clips, **changes)]
    return specs


@reject_ignored_overrides
def temporal_probe(
    profile: str = "demo", data: str = "builtin", *, task: str = "speed",
    variants: Sequence[str] = ("f-R2D", "R3D", "R(2+1)D"), seeds: Sequence[int] = (0,), frames: Numbers = (),
    frame_stride: Numbers = (), **settings,
) -> list[Spec]:  # fmt: skip
    """Predict the playback rate (`speed`) or direction (`arrow`) of clips of any videos, which takes motion.

    `frames` and `frame_stride` are one or several values, such as "8,16"; default those of the recipe. The demo takes
    3 frames: at rate 8 they span 17 of a built-in video's 20, and a longer clip would wrap around to the first frame,
    which reveals the rate. The built-in videos contain each motion in both directions, so `arrow` needs real videos.

    `r21d train temporal_probe --profile small --manifest data/ucf101-14-split1.csv`
    """
    base = get_recipe(profile, task, data).replace(data=data, **settings)
    if (profile, task) == ("demo", "speed"):
        base = base.replace(frames=3)
    lengths, strides = as_list(frames or base.frames), as_list(frame_stride or base.frame_stride)
    return [
        base.replace(variant=variant, frames=length, frame_stride=stride, seed=seed)
        for length, stride, variant, seed in product(lengths, strides, variants, seeds)
    ]


@reject_ignored_overrides
def rate_pretraining(
    profile: str = "demo", data: str = "builtin", *, task: str = "action", variants: Sequence[str] = ("R(2+1)D",),
    seeds: Sequence[int] = (0,), **settings,
) -> list[Spec]:  # fmt: skip
    """Actions from scratch, and finetuned from a network that predicts the playback rate of the same training videos.

    Pretraining and finetuning take half of the clips of an epoch each, so that both ways train on as many clips. The
    rate runs have the clip length of the actions where it sets the size of weights; a setting `frame_stride_max` is one
    of the actions alone.

    `r21d train rate_pretraining --profile small --manifest data/ucf101-14-split1.csv`
    """
    if task != "action":
        raise IgnoredOverrideError("rate_pretraining sets task itself, to speed and then action; leave it out")
    settings, frozen = _split_frozen(settings)
    actions = get_recipe(profile, "action", data).replace(data=data, **settings)
    rates = get_recipe(profile, "speed", data).replace(data=data, **settings | {"frame_stride_max": 0})
    if profile == "demo":
        rates = rates.replace(frames=3)  # as in `temporal_probe`
    half = {"clips_per_epoch": actions.clips_per_epoch // 2}
    specs = []
    for variant, seed in product(variants, seeds):
        scratch = actions.replace(variant=variant, seed=seed)
        pretrained = rates.replace(variant=variant, seed=seed, **half)
        if is_sized_by_frames(variant):
            pretrained = pretrained.replace(frames=scratch.frames)
        specs += [scratch, pretrained, pretrained.finetune_spec(**scratch.changes_from(rates) | half | frozen)]
    return specs


@reject_ignored_overrides
def why_2plus1d(
    profile: str = "demo", data: str = "builtin", *, task: str = "action", variants: Sequence[str] = REASONS,
    seeds: Sequence[int] = (0,), splits: Numbers = (), **settings,
) -> list[Spec]:  # fmt: skip
    """R(2+1)D, R3D, and the networks between them that test the paper's two reasons for (2+1)D (Section 3.5).

    `splits` as in `variant_comparison`, whose recipe and runs these are.

    `r21d train why_2plus1d --profile small --manifest data/miracl-vc1-split1.csv --set splits=1,2,3,4,5`
    """
    return variant_comparison(profile, data, task=task, variants=variants, seeds=seeds, splits=splits, **settings)


@reject_ignored_overrides
def recipe_trials(
    profile: str = "demo", data: str = "builtin", *, task: str = "action",
    variants: Sequence[str] = ("f-R2D", "R(2+1)D"), seeds: Sequence[int] = (0,), trials: str = "", **settings,
) -> list[Spec]:  # fmt: skip
    """Each recipe of RECIPE_TRIALS on the validation split of `data`, with 8 consecutive frames, for each variant.

    `trials` is a key of RECIPE_TRIALS, by default the profile. The built-in videos have no validation split: no recipe
    is chosen on them.

    `r21d train recipe_trials --profile small --manifest data/ucf101-14-split1-val.csv`
    """
    if not data.startswith("builtin") and not data.endswith(VAL_SUFFIX):
        data += VAL_SUFFIX
    base = get_recipe(profile, task, data).replace(data=data, frames=8, frame_stride=1)
    trials = trials or profile
    if trials not in list(recipes.RECIPE_TRIALS):  # a list of trials is refused too
        raise R21DError(f"trials {trials!r}: expected one of {', '.join(recipes.RECIPE_TRIALS)}")
    grid = product(recipes.RECIPE_TRIALS[trials], variants, seeds)
    return [base.replace(variant=variant, seed=seed, **trial | settings) for trial, variant, seed in grid]


EXPERIMENTS = {experiment.__name__: experiment for experiment in (
    clip_count, clip_length, kinetics, optimization_curves, rate_pretraining, recipe_trials, sports1m, temporal_probe,
    transfer, variant_comparison, why_2plus1d,
)}  # fmt: skip
