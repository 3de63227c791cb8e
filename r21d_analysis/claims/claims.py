"""The paper's claims: what it states, a row a claim, the comparison that would show it, and who judges it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from r21d_analysis.claims import arithmetic
from r21d_analysis.claims.evaluate import evaluate_claim, judge_clip_counts, judge_ranking
from r21d_analysis.claims.evaluate_streams import (
    both_over_each,
    judge_rows,
    kinetics_over_sports,
    pretrained_over_scratch,
    rgb_over_flow,
)
from r21d_analysis.claims.select import LENGTHS, MC, R3D, R21D, RMC, SPORTS, THREE_D, TWO_D, Arm, Contrast
from r21d_analysis.claims.verdict import ABOUT, INCONCLUSIVE, NOT_BELOW, Verdict
from r21d_analysis.statistics.aggregate import SeedGroup
from r21d_core.study.experiments import TABLE_2

ARITHMETIC, RUNS, NOT_YET = "arithmetic", "runs", "no runs yet"  # what a claim is answered from


@dataclass(frozen=True)
class Claim:
    """A statement of the paper in our words, the comparison that would show it, and who judges it from networks."""

    id: str
    section: str
    sentence: str
    comparison: str
    kind: str
    judge: Callable[[Sequence[SeedGroup]], Verdict]


def _by_arithmetic(id: str, section: str, sentence: str, comparison: str, answer: Callable, *stated) -> Claim:
    return Claim(id, section, sentence, comparison, ARITHMETIC, lambda networks: answer(*stated))


def _by_runs(id: str, section: str, sentence: str, comparison: str, plus, minus, metric="clip@1", **how) -> Claim:
    """A claim about one difference: of the groups `plus` less the groups `minus`."""
    return _by_pairs(id, section, sentence, comparison, [(tuple(plus), tuple(minus))], metric, **how)


def _by_pairs(id: str, section: str, sentence: str, comparison: str, pairs, metric="clip@1", **how) -> Claim:
    return Claim(id, section, sentence, comparison, RUNS, partial(evaluate_claim, pairs=pairs, metric=metric, **how))


def _by_rows(id: str, section: str, sentence: str, comparison: str, candidates: Callable, command: str) -> Claim:
    return Claim(id, section, sentence, comparison, RUNS, partial(judge_rows, candidates=candidates, command=command))


def _not_yet(id: str, section: str, sentence: str, comparison: str, why: str) -> Claim:
    return Claim(id, section, sentence, comparison, NOT_YET, lambda networks: Verdict(INCONCLUSIVE, why=why))


def _best(frames: int) -> list[Contrast]:
    return [((Arm(R21D, frames),), (Arm((other,), frames),)) for other in TABLE_2 if other not in R21D]


NO_TVL1 = "the suite cannot make these runs: its flow is Farneback's, not TV-L1"
TWO_STREAMS = 'r21d train sports1m --profile small --manifest data/NAME.csv --variants "R(2+1)D" --seeds 0,1,2'
PRETRAINED = (
    'r21d train kinetics --profile small --manifest data/NAME.csv --variants "R(2+1)D" --seeds 0,1,2 '
    "--set source=ANOTHER"
)
FROM_BOTH = "; ".join(
    'r21d train transfer --profile paper --manifest data/ucf101-split1.csv --variants "R(2+1)D" --seeds 0,1,2 '
    f"--set source={source}"
    for source in ("kinetics-400", SPORTS)
)

CLAIMS: tuple[Claim, ...] = (
    _by_arithmetic(
        "mc-gain-3-4", "1",
        "Mixed networks gain 3–4 points of clip accuracy over 2-D ones of comparable capacity.",
        "Table 2's clip@1, MC2 to MC5 less each 2-D network: rounds to 3 or 4 everywhere", arithmetic.mc_gain,
    ),
    _by_arithmetic(
        "r3d-three-times", "1", "3-D networks have three times the parameters of mixed ones.",
        "parameters of R3D over MC2 to MC5: each rounds to 3", arithmetic.params_r3d_over_mc,
    ),
    _by_runs(
        "mc-like-r3d", "1", "Mixed networks match the accuracy of 3-D ones.",
        "clip@1, 8 frames: mean of MC2 to MC5 less R3D, not a point below", [Arm(MC, 8)], [Arm(R3D, 8)],
        region=NOT_BELOW,
    ),
    _by_arithmetic(
        "single-channel", "3.1", "R2D's first convolution leaves single-channel feature maps.",
        "the filters of conv1", arithmetic.single_channel,
    ),
    _by_runs(
        "early", "3.4", "Modelling motion early is worth more than modelling it late.",
        "clip@1, 8 frames: mean of MC2 to MC5 less mean of rMC2 to rMC5", [Arm(MC, 8)], [Arm(RMC, 8)],
    ),
    _by_arithmetic(
        "parameters-matched", "3.5", "(2+1)D blocks have about the parameters of the 3-D ones they replace.",
        "parameters of R(2+1)D and R3D, 18 layers: within 1 %", arithmetic.parameters_matched,
    ),
    _by_arithmetic(
        "relu-doubled", "3.5", "The decomposition doubles the number of nonlinearities.",
        "ReLUs, one a convolution off the shortcuts, of R(2+1)D and R3D", arithmetic.nonlinearities_doubled,
    ),
    _by_runs(
        "train-error-18", "3.5", "R(2+1)D trains to a lower error than R3D.",
        "training error of the last epoch, 18 layers: R3D less R(2+1)D",
        [Arm(R3D, depth=18)], [Arm(R21D, depth=18)], "training error",
    ),
    _by_runs(
        "train-error-34", "3.5", "R(2+1)D trains to a lower error than R3D with 34 layers too.",
        "training error of the last epoch, 34 layers: R3D less R(2+1)D",
        [Arm(R3D, depth=34)], [Arm(R21D, depth=34)], "training error",
    ),
    _by_runs(
        "train-error-depth", "3.5", "The gap in training error is larger with 34 layers than with 18.",
        "training error of the last epoch: R3D less R(2+1)D, 34 layers less 18",
        [Arm(R3D, depth=34), Arm(R21D, depth=18)], [Arm(R21D, depth=34), Arm(R3D, depth=18)], "training error",
    ),
    _by_runs(
        "test-error-34", "3.5", "R(2+1)D has the lower testing error with 34 layers too.",
        "video@1, 34 layers: R(2+1)D less R3D", [Arm(R21D, depth=34)], [Arm(R3D, depth=34)], "video@1",
    ),
    _by_arithmetic(
        "final-shapes", "4.1", "conv5_x leaves L×7×7 in f-R2D and L/8×7×7 in R3D and R(2+1)D.",
        "the time dimension of conv5_x by arithmetic", arithmetic.final_shapes,
    ),
    _by_arithmetic(
        "table-2-parameters", "4.1", "The twelve parameter counts are those of Table 2.",
        "weights of convolutions and fc, in millions to one digit", arithmetic.parameter_column,
    ),
    _by_runs(
        "3d-over-2d-8", "4.2", "3-D and mixed networks are above 2-D ones with 8 frames, by 1.3–4 points.",
        "clip@1: mean of R3D, MC and rMC less mean of f-R2D and R2D", [Arm(THREE_D, 8)], [Arm(TWO_D, 8)],
    ),
    _by_runs(
        "3d-over-2d-16", "4.2", "3-D and mixed networks are above 2-D ones with 16 frames, by 1.8–6.7 points.",
        "clip@1: mean of R3D, MC and rMC less mean of f-R2D and R2D", [Arm(THREE_D, 16)], [Arm(TWO_D, 16)],
    ),
    _by_runs(
        "3d-gap-grows", "4.2", "The gap between 3-D and 2-D networks grows from 8 to 16 frames.",
        "clip@1: that difference with 16 frames less that with 8",
        [Arm(THREE_D, 16), Arm(TWO_D, 8)], [Arm(TWO_D, 16), Arm(THREE_D, 8)],
    ),
    _by_runs(
        "motion-only", "4.2", "Networks that convolve over time see motion that f-R2D, which sees frames, does not.",
        "video@1 of the playback rate, which only motion tells: mean of R3D and R(2+1)D less f-R2D",
        [Arm(R3D + R21D)], [Arm(("f-R2D",))], "video@1", task="speed",
    ),
    _by_pairs(
        "r21d-best-8", "4.2", "R(2+1)D is the best of all with 8 frames.",
        "clip@1: R(2+1)D less each of the other eleven, every one above zero", _best(8),
    ),
    _by_pairs(
        "r21d-best-16", "4.2", "R(2+1)D is the best of all with 16 frames.",
        "clip@1: R(2+1)D less each of the other eleven, every one above zero", _best(16),
    ),
    _by_runs(
        "r21d-over-mixed-8", "4.2", "R(2+1)D is above R3D and mixed networks with 8 frames, by 2.1–3.4 points.",
        "clip@1: R(2+1)D less mean of R3D, MC and rMC", [Arm(R21D, 8)], [Arm(THREE_D, 8)],
    ),
    _by_runs(
        "r21d-over-mixed-16", "4.2", "R(2+1)D is above R3D and mixed networks with 16 frames, by 3.1–4.7 points.",
        "clip@1: R(2+1)D less mean of R3D, MC and rMC", [Arm(R21D, 16)], [Arm(THREE_D, 16)],
    ),
    _by_runs(
        "r21d-over-2d-8", "4.2", "R(2+1)D is above 2-D networks with 8 frames, by 4.7–6.1 points.",
        "clip@1: R(2+1)D less mean of f-R2D and R2D", [Arm(R21D, 8)], [Arm(TWO_D, 8)],
    ),
    _by_runs(
        "r21d-over-2d-16", "4.2", "R(2+1)D is above 2-D networks with 16 frames, by 6.3–9.8 points.",
        "clip@1: R(2+1)D less mean of f-R2D and R2D", [Arm(R21D, 16)], [Arm(TWO_D, 16)],
    ),
    _by_runs(
        "r21d-over-r3d-8", "4.2", "R(2+1)D is above R3D with 8 frames, by 3 points.",
        "video@1: R(2+1)D less R3D", [Arm(R21D, 8)], [Arm(R3D, 8)], "video@1",
    ),
    _by_runs(
        "r21d-over-r3d-16", "4.2", "R(2+1)D is above R3D with 16 frames, by 3.8 points.",
        "video@1: R(2+1)D less R3D", [Arm(R21D, 16)], [Arm(R3D, 16)], "video@1",
    ),
    _by_runs(
        "r21d-gap-grows", "4.2", "The gap between R(2+1)D and R3D grows from 8 to 16 frames.",
        "video@1: R(2+1)D less R3D, with 16 frames less with 8",
        [Arm(R21D, 16), Arm(R3D, 8)], [Arm(R3D, 16), Arm(R21D, 8)], "video@1",
    ),
    _by_runs(
        "r2d-like-fr2d-8", "4.2", "R2D gets about f-R2D's accuracy with 8 frames.",
        "video@1: R2D less f-R2D, within a point", [Arm(("R2D",), 8)], [Arm(("f-R2D",), 8)], "video@1",
        region=ABOUT,
    ),
    _by_runs(
        "r2d-below-fr2d-16", "4.2", "R2D is below f-R2D with 16 frames, by 1.6 points.",
        "video@1: f-R2D less R2D", [Arm(("f-R2D",), 16)], [Arm(("R2D",), 16)], "video@1",
    ),
    Claim(
        "ranking", "4.2", "The order of the twelve networks is consistent from 8 to 16 frames.",
        "Spearman's correlation of clip@1 with 8 and with 16 frames: above 0.8", RUNS, judge_ranking,
    ),
    _by_arithmetic(
        "ranking-table-2", "4.2", "Table 2's order is consistent from 8 to 16 frames.",
        "Spearman's correlation of Table 2's clip@1: above 0.8", arithmetic.order_of_rows,
    ),
    _by_arithmetic(
        "ranges-8", "4.2", "Table 2 with 8 frames: 3-D over 2-D 1.3–4, R(2+1)D over mixed 2.1–3.4, over 2-D 4.7–6.1.",
        "least and greatest difference in Table 2's clip@1", arithmetic.ranges,
        (THREE_D, TWO_D, "clip@1 8f", (1.3, 4.0)), (R21D, THREE_D, "clip@1 8f", (2.1, 3.4)),
        (R21D, TWO_D, "clip@1 8f", (4.7, 6.1)),
    ),
    _by_arithmetic(
        "ranges-16", "4.2", "Table 2 with 16 frames: 3-D over 2-D 1.8–6.7, R(2+1)D over mixed 3.1–4.7.",
        "least and greatest difference in Table 2's clip@1", arithmetic.ranges,
        (THREE_D, TWO_D, "clip@1 16f", (1.8, 6.7)), (R21D, THREE_D, "clip@1 16f", (3.1, 4.7)),
    ),
    _by_arithmetic(
        "ranges-16-2d", "4.2", "Table 2 with 16 frames: R(2+1)D over 2-D networks 6.3–9.8.",
        "least and greatest difference in Table 2's clip@1", arithmetic.ranges, (R21D, TWO_D, "clip@1 16f", (6.3, 9.8)),
    ),
    _by_arithmetic(
        "figure-4-gain", "4.2", "R(2+1)D gains 3–3.8 points over R3D (caption of Figure 4).",
        "Table 2's video@1 with 8 and with 16 frames", arithmetic.ranges,
        (R21D, R3D, "video@1 8f", (3.0, 3.0)), (R21D, R3D, "video@1 16f", (3.8, 3.8)),
    ),
    _by_arithmetic(
        "r2d-seven-times", "4.2", "R2D is about 7 times faster than f-R2D.",
        "multiply-adds of f-R2D over R2D: rounds to 7 with 8 frames", arithmetic.macs_fr2d_over_r2d,
    ),
    _by_arithmetic(
        "r2d-cheapest", "4.2", "R2D is the most efficient network.",
        "multiply-adds, 8 and 16 frames", arithmetic.cheaper, "R2D", [v for v in TABLE_2 if v != "R2D"],
    ),
    _by_arithmetic(
        "rmc3-cheaper", "4.2", "rMC3 is more efficient than f-R2D.", "multiply-adds, 8 and 16 frames",
        arithmetic.cheaper, "rMC3", ["f-R2D"],
    ),
    _by_arithmetic(
        "rmc2-costlier", "4.2", "rMC2 is more costly than rMC3.", "multiply-adds, 8 and 16 frames",
        arithmetic.cheaper, "rMC3", ["rMC2"],
    ),
    _by_arithmetic(
        "rmc2-reason", "4.2", "That is because rMC2 is 2-D in group 2 and has no temporal stride in group 3.",
        "the row of the table of variants", arithmetic.rmc2_reason,
    ),
    _by_arithmetic(
        "r21d-same-cost", "4.2", "R(2+1)D has roughly R3D's computational cost.",
        "multiply-adds with 8 frames: within 5 %", arithmetic.same_cost,
    ),
    _by_runs(
        "r21d-same-time", "4.2", "R(2+1)D's cost is R3D's by the clock as well (which the paper does not say).",
        "training time a clip, R(2+1)D over R3D, measured on one device: within about 10 %",
        [Arm(R21D)], [Arm(R3D)], "training time", region=(-10, 10),
    ),
    _by_arithmetic(
        "lengths-same-parameters", "4.3", "Networks for 8 to 48 frames have the same number of parameters.",
        "parameters of R(2+1)D by arithmetic", arithmetic.same_parameters,
    ),
    _by_pairs(
        "clip-accuracy-rises", "4.3", "Clip accuracy keeps rising with clip length, up to 48 frames.",
        "clip@1 of R(2+1)D: each of 16, 24, 32, 40, 48 frames less the length before, every one above zero",
        [((Arm(R21D, b),), (Arm(R21D, a),)) for a, b in pairwise(LENGTHS)],
    ),
    _by_pairs(
        "video-accuracy-peaks", "4.3", "Video accuracy peaks at 32 frames.",
        "video@1 of R(2+1)D: 32 frames less each other length, every one above zero",
        [((Arm(R21D, 32),), (Arm(R21D, other),)) for other in LENGTHS if other != 32], "video@1",
    ),
    _by_runs(
        "test-longer-clip", "4.3", "Testing an 8-frame network on 32 frames costs clip accuracy, 1.2 points.",
        "clip@1: tested on 8 frames less tested on 32",
        [Arm(R21D, 8)], [Arm(R21D, 32, how="tested")],
    ),
    _by_runs(
        "test-longer-video", "4.3", "Testing an 8-frame network on 32 frames costs video accuracy, 5.8 points.",
        "video@1: tested on 8 frames less tested on 32",
        [Arm(R21D, 8)], [Arm(R21D, 32, how="tested")], "video@1",
    ),
    _by_runs(
        "finetune-nearly", "4.3", "Finetuned on 32 frames, the 8-frame network is almost as good as one trained on 32.",
        "clip@1: finetuned less trained on 32 frames, within a point",
        [Arm(R21D, 32, how="finetuned")], [Arm(R21D, 32)], region=ABOUT,
    ),
    _by_runs(
        "finetune-gains", "4.3", "Finetuned on 32 frames, the 8-frame network gains 7 points over what it was.",
        "clip@1: finetuned on 32 frames less trained on 8",
        [Arm(R21D, 32, how="finetuned")], [Arm(R21D, 8)],
    ),
    _by_arithmetic(
        "table-3", "4.3", "Table 3: testing longer drops 1.2 and 5.8 points; finetuning gains 7.",
        "differences in Table 3", partial(arithmetic.differences, 3),
        ("8 tested at 32", "8", "clip@1", -1.2), ("8 tested at 32", "8", "video@1", -5.8),
        ("8 finetuned at 32", "8", "clip@1", 7.0),
    ),
    _by_arithmetic(
        "seven-point-three", "4.3", "The 8-frame model is 7.3 times faster than the 32-frame one in FLOPs.",
        "multiply-adds of R(2+1)D, 18 layers", arithmetic.macs_32f_over_8f,
    ),
    _by_arithmetic(
        "finetune-hours", "4.3", "Finetuning shortens the training of a 32-frame network considerably.",
        "Table 3's hours: less than half", arithmetic.hours_saved,
    ),
    Claim(
        "twenty-clips", "4.3", "20 clips a video are only 0.5 points worse than 100.",
        "video@1 of R(2+1)D from one set of stored scores: all of 100 or more clips less 20, at most 0.5",
        RUNS, judge_clip_counts,
    ),
    _by_arithmetic(
        "sixty-seven", "4.4", "R(2+1)D-34 has 67 layers if both convolutions of a block are counted.",
        "convolutions off the shortcuts and fc", arithmetic.layers_in_r21d34,
    ),
    _by_arithmetic(
        "table-4", "4.4", "Table 4: over C3D 10.9 points, P3D 9.1, the 2-D ResNet 10.5, R3D with 8 frames 2.3.",
        "differences in Table 4's clip@1", partial(arithmetic.differences, 4),
        ("R(2+1)D-RGB-32frame", "C3D", "clip@1", 10.9), ("R(2+1)D-RGB-32frame", "P3D", "clip@1", 9.1),
        ("R(2+1)D-RGB-32frame", "2D Resnet-152", "clip@1", 10.5),
        ("R(2+1)D-RGB-8frame", "R3D-RGB-8frame", "clip@1", 2.3),
    ),
    _by_arithmetic(
        "table-4-best", "4.4", "R(2+1)D has the best video accuracy of Table 4.", "Table 4's video@1",
        arithmetic.best_of_table_4,
    ),
    _by_arithmetic(
        "table-5", "4.4", "Table 5: over I3D 4.5 points from scratch, 2.2 and 3.2 pretrained; 0.3 below it fused.",
        "differences in Table 5's top1", partial(arithmetic.differences, 5),
        ("R(2+1)D-RGB (none)", "I3D-RGB (none)", "top1", 4.5),
        ("R(2+1)D-RGB (Sports-1M)", "I3D-RGB (ImageNet)", "top1", 2.2),
        ("R(2+1)D-Flow (Sports-1M)", "I3D-Flow (ImageNet)", "top1", 3.2),
        ("R(2+1)D-Two-Stream (Sports-1M)", "I3D-Two-Stream (ImageNet)", "top1", -0.3),
    ),
    _by_arithmetic(
        "table-6-best", "4.4", "R(2+1)D outperforms every method of Table 6 but I3D.", "Table 6, both sets",
        arithmetic.best_but_i3d,
    ),
    _by_arithmetic(
        "table-6-i3d", "4.4", "Pretrained on Kinetics, R(2+1)D is comparable to I3D on RGB and slightly worse on flow.",
        "Table 6: within 1.5 points on RGB, 0 to 1.5 below on flow", arithmetic.beside_i3d,
    ),
    _by_arithmetic(
        "table-6-pretraining", "4.4", "Kinetics is better than Sports-1M for pretraining (by Table 6).",
        "Table 6: R(2+1)D pretrained on the one less on the other, in both sets and all streams",
        arithmetic.kinetics_pretrains_better,
    ),
    _by_runs(
        "sports-r21d-over-r3d", "4.4", "R(2+1)D-34 is above R3D-34 on Sports-1M, by 2.3 points.",
        "clip@1 with 8 frames: R(2+1)D less R3D, 34 layers", [Arm(R21D, 8, 34)], [Arm(R3D, 8, 34)], data=SPORTS,
    ),
    _by_runs(
        "sports-longer", "4.4", "On Sports-1M networks for 32 frames are above those for 8.",
        "clip@1 of R(2+1)D-34: 32 frames less 8", [Arm(R21D, 32, 34)], [Arm(R21D, 8, 34)], data=SPORTS,
    ),
    _by_rows(
        "rgb-over-flow", "4.4", "R(2+1)D is above on RGB what it is on flow, from scratch (Tables 4 and 5).",
        "video@1 of R(2+1)D: on RGB less on flow", rgb_over_flow, TWO_STREAMS,
    ),
    _by_rows(
        "two-streams", "4.4", "RGB and flow together are above either alone.",
        "video@1 of the mean of both streams' softmax less each one's, both above zero", both_over_each, TWO_STREAMS,
    ),
    _by_rows(
        "pretraining-helps", "4.4", "Pretraining on Sports-1M helps on Kinetics, by 2.3 points on RGB.",
        "video@1 of R(2+1)D on RGB: finetuned from another set less trained from scratch", pretrained_over_scratch,
        PRETRAINED,
    ),
    _by_rows(
        "kinetics-pretrains-better", "4.4", "Kinetics is better than Sports-1M for pretraining.",
        "video@1 of R(2+1)D on RGB: finetuned from Kinetics less from Sports-1M", kinetics_over_sports, FROM_BOTH,
    ),
    _not_yet(
        "farneback", "4.4", "R(2+1)D is below I3D on flow because Farneback's flow is less accurate than TV-L1.",
        "video@1 of one network on flow by TV-L1 less by Farneback", NO_TVL1,
    ),
)  # fmt: skip
