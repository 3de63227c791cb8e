"""The training recipes: the numbers in which the profiles `paper`, `small` and `demo` of an experiment differ."""

from __future__ import annotations

from r21d_core import R21DError
from r21d_core.study.spec import Spec

RECIPES = {
    # Section 4.1, and what the paper leaves out as in the authors' trainer: Nesterov momentum, no decay of biases, the
    # classifier's initialization. PAPER_DEVIATIONS lists what still differs.
    "paper": Spec(precision="bf16", nesterov=True, decay_biases=False, fc_init="xavier"),
    # A few thousand short real videos on one GPU, trained from scratch. With the paper's fixed-size crop all networks
    # overfit alike, hence resized crops, brightness and more weight decay, chosen among RECIPE_TRIALS on a validation
    # split.
    "small": Spec(
        profile="small", precision="bf16", frames=16, frame_stride=2, crop_area=0.35, brightness=0.4, epochs=18,
        clips_per_epoch=1272, lr=0.02, warmup_epochs=2, lr_decay_epochs=7, weight_decay=1e-3,
    ),
    # The built-in synthetic videos on a laptop's CPU.
    "demo": Spec(
        profile="demo", depth=10, width=8, frame_height=36, frame_width=48, crop=32, epochs=12, clips_per_epoch=400,
        batch_size=16, lr=0.05, warmup_epochs=1, lr_decay_epochs=8, eval_clips=3,
    ),
}  # fmt: skip
# What a task changes in a profile. Clips at several playback rates regularize, so the plain crop suffices.
_FRAMES_8 = {"frames": 8, "frame_stride": 1}
TASK_OVERRIDES = {("small", "speed"): _FRAMES_8 | {"crop_area": 0.0, "brightness": 0.0, "weight_decay": 1e-4}}
# What a data set changes in a profile. Mirrored lips are no lips, and MIRACL-VC1's videos have 4 to 27 frames.
_LIPS = {"flip": False}
DATA_OVERRIDES = {
    ("paper", "miracl-vc1"): _LIPS, ("small", "miracl-vc1"): _LIPS | _FRAMES_8 | {"clips_per_epoch": 2400},
}  # fmt: skip
# The schedule of "small" before its recipe was chosen; Tables 4 to 6 use it.
LONG_SCHEDULE = {"epochs": 30, "warmup_epochs": 3, "lr_decay_epochs": 12}

# Suffix of the name of a validation split, which is part of a data set's training videos (r21d manifest validation).
VAL_SUFFIX = "-val"
# The candidate recipes of each profile, given in full so that a later change of RECIPES does not change them, and
# "schedules": two strengths of augmentation, each for three lengths of training (docs/protocol.md).
_EPOCHS_30 = LONG_SCHEDULE | {"lr": 0.02, "weight_decay": 1e-3, "crop_area": 0.35}
_EPOCHS_18 = _EPOCHS_30 | {"epochs": 18, "warmup_epochs": 2, "lr_decay_epochs": 7}
_COSINE = {"lr": 0.02, "lr_schedule": "cosine", "nesterov": True, "weight_decay": 1e-3}
_MILD = _COSINE | {"crop_area": 0.35, "brightness": 0.4}
_STRONG = _COSINE | {"crop_area": 0.2, "brightness": 0.4, "color": 0.4, "label_smoothing": 0.1, "frame_stride_max": 2}
RECIPE_TRIALS: dict[str, tuple[dict, ...]] = {
    "paper": ({},),
    "small": (_EPOCHS_30, *(_EPOCHS_18 | c for c in ({}, {"lr": 0.04}, {"weight_decay": 5e-3}, {"crop_area": 0.2}))),
    "demo": ({}, {"epochs": 4, "lr_decay_epochs": 2}),
    "schedules": tuple(
        augmentation | {"epochs": epochs, "warmup_epochs": epochs // 10}
        for augmentation in (_MILD, _STRONG)
        for epochs in (30, 90, 200)
    ),
}

# The recipes of the confirmatory study by data set (docs/protocol.md). That of ucf101-14 has the highest mean accuracy
# of the "schedules".
CONFIRMATORY = {
    "ucf101-14": RECIPE_TRIALS["schedules"][-1],
    "miracl-vc1": {"epochs": 40, "warmup_epochs": 3, "lr_decay_epochs": 16, "crop_area": 0.0},
}

# Figure 5a's clip lengths; Table 3's two: train on the first, test and finetune on the second.
_LENGTHS = (8, 16, 24, 32, 40, 48), (8, 32)
CLIP_LENGTHS = {"paper": _LENGTHS, "small": _LENGTHS, "demo": ((4, 8, 12), (4, 12))}
# Finetuning on longer clips, which the paper does not specify. "paper" is its recipe for finetuning on Kinetics from
# Sports-1M (Section 4.4); the others take a quarter of the epochs at a tenth of the learning rate.
FINETUNE = {
    "paper": {"epochs": 15, "lr": 0.001, "warmup_epochs": 0, "lr_decay_epochs": 4},
    "small": {"epochs": 5, "lr": 0.002, "warmup_epochs": 0, "lr_decay_epochs": 4},
    "demo": {"epochs": 3, "lr": 0.005, "warmup_epochs": 0, "lr_decay_epochs": 2},
}
# Figure 3's depths. The demo's shallow one is that of `variant_comparison`, so that the two share runs.
CURVE_DEPTHS = {"paper": (18, 34), "small": (18, 34), "demo": (10, 18)}
# Clips stored per video for Figure 5b. An evaluation with n of m stored clips is exact where n − 1 divides m − 1, and
# for n = 1 where m is odd. 101 gives n = 1, 2, 3, 5, 6, 11, 21, 26, 51, 101, so the paper's 20 and 100 plus one clip;
# 100 would give 2, 4, 10, 12, 34. A built-in video of 20 frames has 13 clips of 8 frames.
STORED_CLIPS = {"paper": 101, "small": 101, "demo": 13}

# Tables 5 and 6, eighteen runs: the authors' clips have 32 frames; half of a small set's classes have half of its
# videos; the demo's runs take less than a third of the time.
PRETRAINING = {
    "paper": {"frames": 32},
    "small": {"frames": 8, "clips_per_epoch": 640},
    "demo": {"epochs": 6, "clips_per_epoch": 240, "lr_decay_epochs": 4},
}
# Finetuning on another data set: on Kinetics as in Section 4.4, on UCF101 and HMDB51 (TRANSFER_TO), which the paper
# does not specify, as in the authors' scripts. "small" and "demo" take half of the epochs at a lower learning rate.
TRANSFER = {
    "paper": FINETUNE["paper"],
    "small": {"epochs": 15, "lr": 0.004, "warmup_epochs": 0, "lr_decay_epochs": 6},
    "demo": {"epochs": 3, "lr": 0.02, "warmup_epochs": 0, "lr_decay_epochs": 2},
}
# The authors finetune on 8 GPUs with 4 clips each at 1e-4 and 2e-4 per GPU, which their trainer multiplies by 8; batch
# norm uses the statistics of 4 clips.
_AUTHORS = {"epochs": 8, "lr_decay_epochs": 2, "weight_decay": 5e-3, "grad_accum_steps": 8}
TRANSFER_TO = {
    ("paper", "ucf101"): _AUTHORS | {"lr": 8e-4, "clips_per_epoch": 100_000},
    ("paper", "hmdb51"): _AUTHORS | {"lr": 1.6e-3, "clips_per_epoch": 40_000},
}
# What the learning rates of Tables 4 to 6 are divided by for a network that diverges at them: MViTv2-S's training loss
# rose while the rate rose to 0.02 (results/README.md).
LR_DIVISORS = {"mvit_v2_s": 10}
# Evaluation on a data set where the paper does not take ten clips per video. Table 5's models were evaluated densely:
# a video of 10 s at 30 fps has 269 clips of 32 consecutive frames, one at every frame.
EVALUATION = {("paper", "sports1m"): {"eval_clips": 100}, ("paper", "kinetics"): {"eval_clips": 269}}

# How training with the profile "paper" still differs from what the paper and the authors' trainer do, as far as known.
PAPER_DEVIATIONS = (
    "Convolutions compute in bf16 (`--set precision=fp32` computes in fp32); the authors computed in fp32.",
    "One process trains on all 32 clips of a step, in `grad_accum_steps` parts; the authors used several GPUs and "
    "multiplied the learning rate by their number.",
    "Videos are decoded at their own frame rate unless `r21d prepare --fps` changes it; the authors' released models "
    "were trained at 15 fps, their tutorial encodes 30 fps, the paper names none.",
    "Frames are decoded and scaled to 128 × 171 by FFmpeg through PyAV, as the authors did with their own code.",
    "The stride of the authors' dense evaluation is not published; here it is 269 clips of 32 frames spread evenly, "
    "one at every frame of a video of 300.",
    "The two streams are averaged, as the paper says; the authors' script weights one of them by 0.6.",
    "Optical flow is Farneback's with the authors' parameters, by OpenCV; they do not name its version.",
    "Some videos of Kinetics and Sports-1M are no longer available; a run's record states how many were evaluated.",
)


def get_recipe(profile: str, task: str = "action", data: str = "") -> Spec:
    """The Spec with the recipe of a profile, task and data set; raises R21DError for an unknown profile.

    For example:

        >>> from r21d_core.study.recipes import get_recipe
        >>> get_recipe("small").replace(variant="R3D", data="ucf101-split1").epochs
        18
    """
    if profile not in RECIPES:
        raise R21DError(f"profile {profile!r}: expected one of {', '.join(RECIPES)}")
    of_task = TASK_OVERRIDES.get((profile, task), {})
    of_data = next((c for (name, d), c in DATA_OVERRIDES.items() if name == profile and data.startswith(d)), {})
    return RECIPES[profile].replace(task=task, **of_task | of_data)
