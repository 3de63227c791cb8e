"""One function an artefact of the paper: what has to be run for it, as a list of Specs.

Each experiment comes in three profiles, which differ in nothing but the rows of RECIPES.
"""

from __future__ import annotations

from collections.abc import Sequence

from r21d_core import R21DError
from r21d_core.study.spec import Spec

# Table 2's rows, in its order.
TABLE_2 = ("R2D", "f-R2D", "R3D", "MC2", "MC3", "MC4", "MC5", "rMC2", "rMC3", "rMC4", "rMC5", "R(2+1)D")

RECIPES = {
    # Section 4.1; mixed precision is the one liberty taken.
    "paper": Spec(precision="bf16"),
    # A real set of some thousand short videos on one GPU. From scratch on so few videos the paper's fixed-size crop
    # overfits before the architectures differ, hence resized crops, brightness and more weight decay.
    "small": Spec(
        profile="small",
        precision="bf16",
        frames=16,
        step=2,
        crop_area=0.35,
        brightness=0.4,
        epochs=30,
        epoch_clips=1272,
        rate=0.02,
        warmup_epochs=3,
        decay_epochs=12,
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
        epoch_clips=400,
        batch=16,
        rate=0.05,
        warmup_epochs=1,
        decay_epochs=8,
        clips=3,
    ),
}
# What a task changes in a profile: for playback speed a clip of few frames spans enough of a video, and the
# task's labels keep a network from overfitting, so that the plain crop does.
TASKS = {("small", "speed"): {"frames": 8, "step": 1, "crop_area": 0.0, "brightness": 0.0, "weight_decay": 1e-4}}


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
    base = recipe(profile, task).but(data=data, **settings)
    return [base.but(variant=variant, seed=seed) for variant in variants for seed in seeds]


def recipe(profile: str, task: str = "action") -> Spec:
    """The Spec that an experiment of this profile and task starts from; raises R21DError for an unknown profile."""
    if profile not in RECIPES:
        raise R21DError(f"profile {profile!r}: expected one of {', '.join(RECIPES)}")
    return RECIPES[profile].but(task=task, **TASKS.get((profile, task), {}))


EXPERIMENTS = {"variant_comparison": variant_comparison}
