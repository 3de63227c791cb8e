"""One function an artefact of the paper: what has to be run for it, as a list of Specs.

Each experiment comes in three profiles, which differ in nothing but the rows of RECIPES.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial, wraps
from inspect import signature

from r21d_core import R21DError
from r21d_core.study.spec import Spec
from r21d_core.study.variants import VARIANTS

TABLE_2 = tuple(VARIANTS)

RECIPES = {
    # Section 4.1; mixed precision is the one liberty taken.
    "paper": Spec(precision="bf16"),
    # A real set of some thousand short videos on one GPU. From scratch on so few videos the paper's fixed-size crop
    # overfits before the architectures differ, hence resized crops, brightness and more weight decay. Chosen among
    # RECIPE_TRIALS on a validation cut.
    "small": Spec(
        profile="small",
        precision="bf16",
        frames=16,
        frame_stride=2,
        crop_area=0.35,
        brightness=0.4,
        epochs=18,
        clips_per_epoch=1272,
        lr=0.02,
        warmup_epochs=2,
        lr_decay_epochs=7,
        weight_decay=1e-3,
    ),
    # The built-in videos on a laptop's CPU.
    "demo": Spec(
        profile="demo",
        depth=10,
        width=8,
        frame_height=36,
        frame_width=48,
        crop=32,
        epochs=12,
        clips_per_epoch=400,
        batch_size=16,
        lr=0.05,
        warmup_epochs=1,
        lr_decay_epochs=8,
        eval_clips=3,
    ),
}
# What a task changes in a profile: for playback speed a clip of few frames spans enough of a video, and the
# task's labels keep a network from overfitting, so that the plain crop does.
TASKS = {
    ("small", "speed"): {"frames": 8, "frame_stride": 1, "crop_area": 0.0, "brightness": 0.0, "weight_decay": 1e-4}
}


class IgnoredOverrideError(R21DError):
    """A setting that an experiment sets itself."""


def reject_ignored_overrides(experiment: Callable[..., list[Spec]]) -> Callable[..., list[Spec]]:
    """The experiment, which refuses a setting that it sets itself, in place of running something else than was asked.

    A setting is heeded where a run has it, and every run that starts afresh: what is finetuned has its own recipe.
    """
    own = signature(experiment).parameters

    @wraps(experiment)
    def heeded(*arguments, **options) -> list[Spec]:
        specs = experiment(*arguments, **options)
        for key in options.keys() - own.keys():
            has = partial(_has, key, options[key])
            if not (any(map(has, specs)) and all(has(spec) for spec in specs if not spec.init_from)):
                values = ", ".join(dict.fromkeys(str(getattr(spec, key)) for spec in specs))
                raise IgnoredOverrideError(
                    f"{experiment.__name__} sets {key} itself, to {values}; leave it out of --set, or in a notebook "
                    "of `settings`"
                )
        return specs

    return heeded


def _has(key: str, value, spec: Spec) -> bool:
    return spec.replace(**{key: value}) == spec  # as "16" is 16


@reject_ignored_overrides
def variant_comparison(
    profile: str = "demo",
    data: str = "builtin",
    *,
    task: str = "action",
    variants: Sequence[str] = TABLE_2,
    seeds: Sequence[int] = (0,),
    **settings,
) -> list[Spec]:
    """Table 2 and Figure 4: every variant under one recipe, for each seed; `settings` are any fields of a Spec.

    r21d train variant_comparison --profile small --manifest data/ucf101-14-split1.csv --task speed
    """
    base = recipe(profile, task).replace(data=data, **settings)
    return [base.replace(variant=variant, seed=seed) for variant in variants for seed in seeds]


# Clip lengths of Figure 5a, and the two of Table 3: train on the first, test and finetune on the second.
LENGTHS = {
    "paper": ((8, 16, 24, 32, 40, 48), (8, 32)),
    "small": ((8, 16, 24, 32, 40, 48), (8, 32)),
    "demo": ((4, 8, 12), (4, 12)),
}
# How a network is finetuned on longer clips. The paper does not say; "paper" is its recipe for finetuning Kinetics from
# Sports-1M (Section 4.4), the others are a quarter of the epochs at a tenth of the rate.
FINETUNE = {
    "paper": {"epochs": 15, "lr": 0.001, "warmup_epochs": 0, "lr_decay_epochs": 4},
    "small": {"epochs": 5, "lr": 0.002, "warmup_epochs": 0, "lr_decay_epochs": 4},
    "demo": {"epochs": 3, "lr": 0.005, "warmup_epochs": 0, "lr_decay_epochs": 2},
}


@reject_ignored_overrides
def clip_length(
    profile: str = "demo",
    data: str = "builtin",
    *,
    task: str = "action",
    variants: Sequence[str] = ("R(2+1)D",),
    seeds: Sequence[int] = (0,),
    **settings,
) -> list[Spec]:
    """Figure 5a and Table 3: consecutive frames, a run for each clip length, then short tested and finetuned long.

    r21d train clip_length --profile small --manifest data/ucf101-14-split1.csv
    """
    lengths, (short, long) = LENGTHS[profile]
    base = recipe(profile, task).replace(data=data, **{"frame_stride": 1, **settings})
    specs = []
    for one in (base.replace(variant=variant, seed=seed) for variant in variants for seed in seeds):
        specs += [one.replace(frames=frames) for frames in lengths]
        specs += [
            one.replace(frames=short).finetune_spec(frames=long, **changes)
            for changes in ({"epochs": 0}, FINETUNE[profile])
        ]
    return specs


# Figure 3's depths; the demonstration's shallower one is `variant_comparison`'s, whose runs it shares.
DEPTHS = {"paper": (18, 34), "small": (18, 34), "demo": (10, 18)}


@reject_ignored_overrides
def optimization_curves(
    profile: str = "demo",
    data: str = "builtin",
    *,
    task: str = "action",
    variants: Sequence[str] = ("R3D", "R(2+1)D"),
    seeds: Sequence[int] = (0,),
    depth: Sequence[int] | int | str = (),
    **settings,
) -> list[Spec]:
    """Figure 3: two variants at two depths under `variant_comparison`'s recipe; `depth` names others, one or "10,18".

    r21d train optimization_curves --profile small --manifest data/ucf101-14-split1.csv
    """
    base = recipe(profile, task).replace(data=data, **settings)
    return [
        base.replace(variant=variant, depth=layers, seed=seed)
        for layers in as_list(depth or DEPTHS[profile])
        for variant in variants
        for seed in seeds
    ]


# Clips stored for a video. Of m of them, those that an evaluation with n would take are there to the frame where n − 1
# divides m − 1, and the middle one where m is odd. 101 gives 1, 2, 3, 5, 6, 11, 21, 26, 51: the paper's 20 and 100 with
# one clip more, where 100 would give 2, 4, 10, 12, 34 and so nothing near 20. A built-in video of 20 frames has 13
# starts for 8.
CLIPS = {"paper": 101, "small": 101, "demo": 13}


@reject_ignored_overrides
def clip_count(
    profile: str = "demo",
    data: str = "builtin",
    *,
    task: str = "action",
    variants: Sequence[str] = ("R(2+1)D",),
    seeds: Sequence[int] = (0,),
    eval_clips: int | str = 0,
    **settings,
) -> list[Spec]:
    """Figure 5b: each variant trained as for other artefacts, and these weights evaluated with `eval_clips` clips a video.

    One set of scores then holds the smaller counts too: see CLIPS. The paper's model has clips of 32 frames.

    r21d train clip_count --profile small --manifest data/ucf101-14-split1.csv
    """
    if profile == "paper":
        settings = {"frames": 32} | settings
    trained = variant_comparison(profile, data, task=task, variants=variants, seeds=seeds, **settings)
    return [
        spec for one in trained for spec in (one, one.finetune_spec(epochs=0, eval_clips=eval_clips or CLIPS[profile]))
    ]


# The built-in videos' halves play the large set that a network is trained on first, and the set it is meant for.
SOURCE, TARGET = "builtin-source-split1", "builtin-target-split1"
# How a network trained on another set is finetuned: to Kinetics as the paper says (Section 4.4), to UCF101 and HMDB51,
# of which it says nothing, as the authors' scripts do. The others are half of the epochs at a lower rate.
TRANSFER = {
    "paper": FINETUNE["paper"],
    "small": {"epochs": 15, "lr": 0.004, "warmup_epochs": 0, "lr_decay_epochs": 6},
    "demo": {"epochs": 3, "lr": 0.02, "warmup_epochs": 0, "lr_decay_epochs": 2},
}
TRANSFER_TO = {
    ("paper", "ucf101"): {
        "epochs": 8,
        "lr": 1e-4,
        "lr_decay_epochs": 2,
        "weight_decay": 5e-3,
        "clips_per_epoch": 100_000,
    },
    ("paper", "hmdb51"): {
        "epochs": 8,
        "lr": 2e-4,
        "lr_decay_epochs": 2,
        "weight_decay": 5e-3,
        "clips_per_epoch": 40_000,
    },
}
# Which of a set's official splits a manifest is of, by its name; what says how it was prepared may follow.
SPLIT = re.compile(r"-split(\d+)\b")
# What Tables 5 and 6, of eighteen runs, change in a profile: the paper's clips have 32 frames, half of a small set's
# classes are half of its videos, and each of the demonstration's runs is trained for less than a third of the time.
PRETRAINING = {
    "paper": {"frames": 32},
    "small": {"frames": 8, "clips_per_epoch": 640},
    "demo": {"epochs": 6, "clips_per_epoch": 240, "lr_decay_epochs": 4},
}
# Clips a video that the paper evaluates a network with on a set, where they are not ten.
EVALUATED = {("paper", "sports1m"): {"eval_clips": 100}}
STREAMS = ("rgb", "flow")
# Tables 4 to 6 of a small set are of runs from before its recipe was chosen.
LONG_SCHEDULE = {"epochs": 30, "warmup_epochs": 3, "lr_decay_epochs": 12}


@reject_ignored_overrides
def sports1m(
    profile: str = "demo",
    data: str = "builtin",
    *,
    task: str = "action",
    variants: Sequence[str] = ("R3D", "R(2+1)D"),
    seeds: Sequence[int] = (0,),
    frames: Sequence[int] | int | str = (),
    **settings,
) -> list[Spec]:
    """Table 4: from scratch on RGB and, the last of the variants, on flow; both streams are fused from their scores.

    r21d train sports1m --profile small --manifest data/ucf101-14-split1.csv
    """
    base = _deep(profile, task).replace(data=data, **EVALUATED.get((profile, "sports1m"), {}) | settings)
    lengths = as_list(frames or ((8, 32) if profile == "paper" else base.frames))
    return [
        base.replace(variant=variant, modality=modality, frames=length, seed=seed)
        for length in lengths
        for variant in variants
        for modality in (STREAMS if variant == variants[-1] else STREAMS[:1])
        for seed in seeds
    ]


@reject_ignored_overrides
def kinetics(
    profile: str = "demo",
    data: str = TARGET,
    *,
    source: str = "",
    init_from: str = "",
    task: str = "action",
    variants: Sequence[str] = ("R(2+1)D",),
    seeds: Sequence[int] = (0,),
    **settings,
) -> list[Spec]:
    """Table 5: on `data` from scratch, and finetuned from a run on `source`, each on RGB and on flow.

    Or, in place of a run on `source`, from `init_from`, a file of weights, a published name or a run folder.

    r21d train kinetics --profile small --manifest data/ucf101-7b-split1.csv --set source=ucf101-7a-split1
    """
    data, source = _source_and_target(data, source, init_from, "sports1m")
    base = _deep(profile, task).replace(**PRETRAINING[profile] | settings)
    return _pretrained(base, data, source, init_from, variants, seeds, settings)


@reject_ignored_overrides
def transfer(
    profile: str = "demo",
    data: str = TARGET,
    *,
    source: str = "",
    init_from: str = "",
    task: str = "action",
    variants: Sequence[str] = ("R(2+1)D",),
    seeds: Sequence[int] = (0,),
    splits: Sequence[int] | int | str = (1, 2, 3),
    **settings,
) -> list[Spec]:
    """Table 6: as Table 5 on every split of `data`; a `source` whose name tells a split goes along, a `init_from` does not.

    r21d train transfer --profile small --manifest data/ucf101-7b-split1.csv --set source=ucf101-7a-split1
    """
    data, source = _source_and_target(data, source, init_from, "kinetics-400")
    base = _deep(profile, task).replace(**PRETRAINING[profile] | settings)
    specs = []
    for split in as_list(splits):
        names = (SPLIT.sub(f"-split{split}", name) for name in (data, source))
        specs += _pretrained(base, *names, init_from, variants, seeds, settings)
    return list(dict.fromkeys(specs))


def _source_and_target(data: str, source: str, init_from: str, papers: str) -> tuple[str, str]:
    """The data sets' names, those of the built-in videos or the paper's source where none are given."""
    if source and init_from:
        raise R21DError(
            f"source = {source!r} and init_from = {init_from!r}: name a set to train on or weights, not both"
        )
    if data.startswith("builtin"):
        return (TARGET if data == "builtin" else data), source or SOURCE
    return data, source or papers


def _deep(profile: str, task: str) -> Spec:
    """The recipe, in the paper's profile with the 34 layers of Section 4.4, in the small one trained for longer."""
    return recipe(profile, task).replace(**{"paper": {"depth": 34}, "small": LONG_SCHEDULE}.get(profile, {}))


def _pretrained(base: Spec, data: str, source: str, init_from: str, variants, seeds, settings: dict) -> list[Spec]:
    """For each variant, stream and seed a run on `data` from scratch, one on `source` and what is finetuned from it.

    The one on `source` is evaluated as where it is an experiment's own, whose run it then is. With a `init_from` there is
    none, and that is what is finetuned.
    """
    finetune = TRANSFER[base.profile] | TRANSFER_TO.get((base.profile, data.split("-")[0]), {})
    evaluated = {"eval_clips": base.eval_clips} | EVALUATED.get((base.profile, source.split("-")[0]), {}) | settings
    specs = []
    for variant in variants:
        for modality in STREAMS:
            for seed in seeds:
                one = base.replace(variant=variant, modality=modality, seed=seed)
                if init_from:
                    specs += [one.replace(data=data), one.replace(data=data, init_from=init_from, **finetune)]
                    continue
                first = one.replace(data=source, eval_clips=evaluated["eval_clips"])
                specs += [
                    one.replace(data=data),
                    first,
                    first.finetune_spec(data=data, eval_clips=one.eval_clips, **finetune),
                ]
    return specs


@reject_ignored_overrides
def temporal_probe(
    profile: str = "demo",
    data: str = "builtin",
    *,
    task: str = "speed",
    variants: Sequence[str] = ("f-R2D", "R3D", "R(2+1)D"),
    seeds: Sequence[int] = (0,),
    frames: Sequence[int] | int | str = (),
    frame_stride: Sequence[int] | int | str = (),
    **settings,
) -> list[Spec]:
    """Does it take motion? Which playback rate (`speed`) or direction (`arrow`) a clip has, from any videos.

    `frames` and `frame_stride` are one or several, "8,16" say; without them they are the recipe's. The demonstration's clips
    have 3 frames: at 8 times the rate they reach over 17 of a built-in video's 20, and longer ones would begin anew
    at its first frame, which tells the rate. The built-in videos hold each motion in both directions, so that nobody
    can say which way such a clip is played: `arrow` takes real ones.

    r21d train temporal_probe --profile small --manifest data/ucf101-14-split1.csv
    """
    base = recipe(profile, task).replace(data=data, **settings)
    if (profile, task) == ("demo", "speed"):
        base = base.replace(frames=3)
    return [
        base.replace(variant=variant, frames=length, frame_stride=stride, seed=seed)
        for length in as_list(frames or base.frames)
        for stride in as_list(frame_stride or base.frame_stride)
        for variant in variants
        for seed in seeds
    ]


# What a validation cut's name ends with: part of a set's training groups, to choose a recipe without its test videos.
VAL_SUFFIX = "-val"
# The recipes that one was chosen among: what each sets in a profile. Said in full, so that the records of what was
# tried stay these recipes' when the profile's own becomes the one chosen. The paper's is as published.
_THIRTY = LONG_SCHEDULE | {"lr": 0.02, "weight_decay": 1e-3, "crop_area": 0.35}
_EIGHTEEN = _THIRTY | {"epochs": 18, "warmup_epochs": 2, "lr_decay_epochs": 7}
RECIPE_TRIALS = {
    "paper": ({},),
    "small": (
        _THIRTY,
        _EIGHTEEN,
        _EIGHTEEN | {"lr": 0.04},
        _EIGHTEEN | {"weight_decay": 5e-3},
        _EIGHTEEN | {"crop_area": 0.2},
    ),
    "demo": ({}, {"epochs": 4, "lr_decay_epochs": 2}),
}


@reject_ignored_overrides
def recipe_trials(
    profile: str = "demo",
    data: str = "builtin",
    *,
    task: str = "action",
    variants: Sequence[str] = ("f-R2D", "R(2+1)D"),
    seeds: Sequence[int] = (0,),
    **settings,
) -> list[Spec]:
    """Each recipe of RECIPE_TRIALS on the validation cut of `data`, with 8 consecutive frames, for each variant.

    What `settings` name is the same in all. The built-in videos have no cut: nothing is chosen on them.

    r21d train recipe_trials --profile small --manifest data/ucf101-14-split1-val.csv
    """
    if not data.startswith("builtin") and not data.endswith(VAL_SUFFIX):
        data += VAL_SUFFIX
    base = recipe(profile, task).replace(data=data, frames=8, frame_stride=1)
    trials = [
        base.replace(variant=variant, seed=seed, **trial | settings)
        for trial in RECIPE_TRIALS[profile]
        for variant in variants
        for seed in seeds
    ]
    return list(dict.fromkeys(trials))


def as_list(values: Sequence[int] | Sequence[str] | int | str) -> list:
    """One value, some, or some in a string as `--set frames=8,16` gives them, as a list."""
    if isinstance(values, Sequence) and not isinstance(values, str):
        return list(values)
    return [value.strip() for value in str(values).split(",")]


def recipe(profile: str, task: str = "action") -> Spec:
    """The Spec that an experiment of this profile and task starts from; raises R21DError for an unknown profile."""
    if profile not in RECIPES:
        raise R21DError(f"profile {profile!r}: expected one of {', '.join(RECIPES)}")
    return RECIPES[profile].replace(task=task, **TASKS.get((profile, task), {}))


EXPERIMENTS = {
    "clip_count": clip_count,
    "clip_length": clip_length,
    "kinetics": kinetics,
    "optimization_curves": optimization_curves,
    "recipe_trials": recipe_trials,
    "sports1m": sports1m,
    "temporal_probe": temporal_probe,
    "transfer": transfer,
    "variant_comparison": variant_comparison,
}
