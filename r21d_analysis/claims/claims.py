"""The paper's claims as data: what it states, the evidence that would show it, and the effect that counts as such."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from r21d_analysis.claims import arithmetic, evaluate, rows, select
from r21d_analysis.claims.evaluate import TRAIN_ERROR
from r21d_analysis.claims.select import FINETUNED, LENGTHS, MC, R3D, R21D, SPORTS, TESTED, THREE_D, TWO_D, Arm, Claim
from r21d_analysis.claims.verdict import ABOUT, ABOVE, INCONCLUSIVE, NOT_BELOW, Verdict
from r21d_core.study.experiments import TABLE_2
from r21d_core.study.paper import paper, paper_table

ARITHMETIC, RUNS, NOT_YET = "arithmetic", "runs", "no runs yet"  # the evidence of a claim


def _compute(id: str, section: str, sentence: str, comparison: str, function: Callable, *stated) -> Claim:
    return Claim(id, section, sentence, ARITHMETIC, comparison, lambda claim, groups: [function(*stated)])


def _contrast(id: str, section: str, sentence: str, plus: Sequence[Arm], minus: Sequence[Arm], *metric, **how) -> Claim:
    """A claim that the arms `plus` minus the arms `minus` lie in the region, above zero by default."""
    contrast, (metric,), region = (tuple(plus), tuple(minus)), metric or ("clip@1",), how.get("region", ABOVE)
    bounds = f"above {region[0]:g}" if np.isinf(region[1]) else f"between {region[0]:g} and {region[1]:g}"
    bounds += ", which a better network meets too" if region == NOT_BELOW else ""
    comparison = f"{metric}: {select.describe_contrast(contrast)}, {bounds}"
    how |= {"contrasts": (contrast,), "metric": metric}
    return Claim(id, section, sentence, RUNS, comparison, evaluate.evaluate_contrasts, **how)


def _each(
    id: str, section: str, sentence: str, comparison: str, pairs: Sequence[tuple[Arm, Arm]], metric: str = "clip@1",
    **how,
) -> Claim:  # fmt: skip
    """A claim that the first arm of each pair is above the second."""
    contrasts = tuple(((plus,), (minus,)) for plus, minus in pairs)
    return Claim(id, section, sentence, RUNS, comparison, evaluate.evaluate_contrasts, contrasts, metric, **how)


def _reason(id: str, sentence: str, plus: str, minus: str, metric: str) -> Claim:
    """A claim about why R(2+1)D is better than R3D: that one network of `why_2plus1d` is above another."""
    how = {"tasks": OF_REASONS, "explains": ADVANTAGE[metric]}
    return _contrast(id, "3.5", sentence, [Arm((plus,))], [Arm((minus,))], metric, **how)


def _rows(id: str, sentence: str, comparison: str, find_pairs: Callable, command: str, **how) -> Claim:
    """A claim about pairs of rows of Tables 4 to 6, whose runs `command` makes."""
    evaluate_rows = partial(rows.evaluate_rows, find_pairs=find_pairs, command=command)
    return Claim(id, "4.4", sentence, RUNS, comparison, evaluate_rows, metric="video@1", **how)


def _mean_gap(plus: Sequence[str], minus: Sequence[str], frames: int) -> float:
    """The difference of the means of the networks' clip@1 in Table 2; the sentences name the range of differences."""
    ours, theirs = ([paper(2, name, f"clip@1 {frames}f") for name in names] for names in (plus, minus))
    return float(np.mean(ours) - np.mean(theirs))


def _best(frames: int) -> list[tuple[Arm, Arm]]:
    return [(Arm(R21D, frames), Arm((variant,), frames)) for variant in TABLE_2 if variant not in R21D]


# The runs that test the paper's two reasons for (2+1)D are of actions and of the playback rate.
OF_REASONS = ("action", "speed")
ADVANTAGE = {"video@1": ((Arm(R21D),), (Arm(R3D),)), TRAIN_ERROR: ((Arm(R3D),), (Arm(R21D),))}
NO_RELU, NO_BN, MORE_RELUS = "R(2+1)D-noReLU", "R(2+1)D-noBN-noReLU", "R3D+ReLU"

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
EACH_OTHER = "clip@1: R(2+1)D minus each of the other eleven, each above 0"
OVER_2D = "clip@1: R3D minus f-R2D and minus R2D, both above 0"
GAPS = "the smallest and the largest difference in Table 2's clip@1"
MACS = "multiply-adds, 8 and 16 frames"
UNAVAILABLE = "these runs cannot be made: the flow here is Farneback's, not TV-L1"
HUMAN_ACTIONS = ("UCF101", "HMDB51")  # the columns of Table 6
OTHERS_OF_TABLE_4 = [row for row in paper_table(4) if not row.startswith("R(2+1)D")]
OTHERS_OF_TABLE_5 = [row for row in paper_table(5) if not row.startswith("R(2+1)D")]
I3D_OF_TABLE_6 = [row for row in paper_table(6) if row.startswith("I3D")]
OTHERS_OF_TABLE_6 = [row for row in paper_table(6) if not row.startswith(("R(2+1)D", "I3D"))]

CLAIMS: tuple[Claim, ...] = (
    _each("r3d-over-2d-8", "1", "R3D is above “2D ResNets for the same depth”, with 8 frames.", OVER_2D,
          [(Arm(R3D, 8), Arm((variant,), 8)) for variant in TWO_D]),
    _each("r3d-over-2d-16", "1", "R3D is above 2-D networks of the same depth with 16 frames.", OVER_2D,
          [(Arm(R3D, 16), Arm((variant,), 16)) for variant in TWO_D]),
    _compute("mc-gain-3-4", "1",
             "Mixed networks gain “roughly” 3–4 points of clip accuracy over 2-D ones of comparable capacity.",
             "Table 2's clip@1, each of MC2 to MC5 minus each 2-D network, with 8 and 16 frames: 3 to 4 when rounded",
             partial(arithmetic.ranges, digits=0), (MC, TWO_D, "clip@1 8f", (3, 4)), (MC, TWO_D, "clip@1 16f", (3, 4))),
    _compute("r3d-three-times", "1", "3-D networks have three times the parameters of mixed ones.",
             "parameters of R3D over MC2 to MC5: each rounds to 3", arithmetic.ratios, 2.5, 3.5,
             [("parameters", ("R3D",), (variant,)) for variant in reversed(MC)]),
    _contrast("mc-like-r3d", "1",
              "Mixed networks match the accuracy of 3-D ones, “which have 3 times as many parameters”.",
              [Arm(MC, 8)], [Arm(R3D, 8)], region=NOT_BELOW),
    _compute("state-of-the-art-kinetics", "1",
             "Networks of (2+1)D blocks are state of the art “on both Kinetics and Sports-1M”, here on Kinetics.",
             "Table 5's top1: R(2+1)D's best row above the other methods' (the abstract says “comparable or superior”; "
             "Sports-1M is a claim on Table 4)", arithmetic.above, 5,
             ("R(2+1)D-Two-Stream (Sports-1M)", OTHERS_OF_TABLE_5, "top1")),
    _compute("state-of-the-art-transfer", "2",
             "They are state of the art on “4 different benchmarks”, here on UCF101 and HMDB51.",
             "Table 6: R(2+1)D's best row above the other methods' in both sets", arithmetic.above, 6,
             *(("R(2+1)D-TwoStream (Kinetics)", [*OTHERS_OF_TABLE_6, *I3D_OF_TABLE_6], c) for c in HUMAN_ACTIONS)),
    _compute("single-channel", "3.1", "R2D's first convolution leaves single-channel feature maps.",
             "the filters of conv1", arithmetic.single_channel),
    _compute("mc1-is-fr2d", "3.4", "MC1 “is equivalent to a 2D ResNet”, f-R2D.",
             "the letters of MC2 to MC5, continued to MC1, beside those of f-R2D", arithmetic.mc1_is_fr2d),
    _compute("parameters-matched", "3.5", "(2+1)D blocks have about the parameters of the 3-D ones they replace.",
             "parameters of R(2+1)D and R3D, 18 layers: within 1 %", arithmetic.ratios, 0.99, 1.01,
             [("parameters", R21D, R3D)]),
    _compute("relu-doubled", "3.5", "The decomposition doubles the number of nonlinearities.",
             "ReLUs of R(2+1)D and R3D, one for each convolution off the shortcuts", arithmetic.ratios, 2, 2,
             [("ReLUs", R21D, R3D)]),
    _contrast("train-error-18", "3.5", "R(2+1)D trains to a lower error than R3D.",
              [Arm(R3D, depth=18)], [Arm(R21D, depth=18)], TRAIN_ERROR),
    _contrast("train-error-34", "3.5", "R(2+1)D trains to a lower error than R3D with 34 layers too.",
              [Arm(R3D, depth=34)], [Arm(R21D, depth=34)], TRAIN_ERROR),
    _contrast("train-error-depth", "3.5", "The gap in training error is larger with 34 layers than with 18.",
              [Arm(R3D, depth=34), Arm(R21D, depth=18)], [Arm(R21D, depth=34), Arm(R3D, depth=18)], TRAIN_ERROR),
    _contrast("test-error-18", "3.5", "R(2+1)D “yields not only lower testing error” than R3D, with 18 layers.",
              [Arm(R21D, depth=18)], [Arm(R3D, depth=18)], "video@1"),
    _contrast("test-error-34", "3.5", "R(2+1)D has the lower testing error with 34 layers too.",
              [Arm(R21D, depth=34)], [Arm(R3D, depth=34)], "video@1"),
    _reason("relu-helps", "The ReLU between, which doubles the nonlinearities, is the first of “two advantages”.",
            "R(2+1)D", NO_RELU, "video@1"),
    _reason("relu-fits", "The ReLU between increases “the complexity of functions that can be represented”.",
            NO_RELU, "R(2+1)D", TRAIN_ERROR),
    _reason("relu-helps-r3d",
            "“Increasing the number of nonlinearities” helps a 3-D network too: R3D gains by as many as R(2+1)D has.",
            MORE_RELUS, "R3D", "video@1"),
    _each("factorization-fits", "3.5",
          "With as many ReLUs, too, “separate spatial and temporal components” lower the training error.",
          "training error: R3D+ReLU minus R(2+1)D and R3D minus R(2+1)D-noReLU, both above 0",
          [(Arm((MORE_RELUS,)), Arm(R21D)), (Arm(R3D), Arm((NO_RELU,)))], TRAIN_ERROR,
          tasks=OF_REASONS, explains=ADVANTAGE[TRAIN_ERROR]),
    _reason("linear-factorization-fits",
            "Optimization “becomes easier when spatiotemporal filters are factorized”, without batch norm and ReLU "
            "between, too.", "R3D", NO_BN, TRAIN_ERROR),
    _reason("factorization-helps", "Factorized filters yield “lower testing error” with as many ReLUs, too.",
            "R(2+1)D", MORE_RELUS, "video@1"),
    _each("r21d-over-p3d-blocks", "3.5",
          "R(2+1)D “significantly outperforms R3D, R2D, and P3D” on Sports-1M: so it is above P3D's two other blocks.",
          "video@1: R(2+1)D minus P3D-B and minus P3D-C, both above 0; these have one block each, P3D itself mixes its "
          "three, with bottlenecks, in 152 layers", [(Arm(R21D), Arm((name,))) for name in ("P3D-B", "P3D-C")],
          "video@1", tasks=OF_REASONS),
    _compute("final-shapes", "4.1", "conv5_x leaves L×7×7 in f-R2D and L/8×7×7 in R3D and R(2+1)D.",
             "the time dimension of conv5_x by arithmetic", arithmetic.final_shapes),
    _compute("table-2-parameters", "4.1", "The twelve parameter counts are those of Table 2.",
             "weights of convolutions and fc, in millions to one digit", arithmetic.parameter_column),
    _contrast("3d-over-2d-8", "4.2", "3-D and mixed networks are above 2-D ones with 8 frames, by 1.3–4 points.",
              [Arm(THREE_D, 8)], [Arm(TWO_D, 8)], size=_mean_gap(THREE_D, TWO_D, 8)),
    _contrast("3d-over-2d-16", "4.2", "3-D and mixed networks are above 2-D ones with 16 frames, by 1.8–6.7 points.",
              [Arm(THREE_D, 16)], [Arm(TWO_D, 16)], size=_mean_gap(THREE_D, TWO_D, 16)),
    _contrast("3d-gap-grows", "4.2", "The gap between 3-D and 2-D networks grows from 8 to 16 frames.",
              [Arm(THREE_D, 16), Arm(TWO_D, 8)], [Arm(TWO_D, 16), Arm(THREE_D, 8)]),
    _each("r21d-best-8", "4.2", "R(2+1)D is the best of all with 8 frames.", EACH_OTHER, _best(8)),
    _each("r21d-best-16", "4.2", "R(2+1)D is the best of all with 16 frames.", EACH_OTHER, _best(16)),
    _contrast("r21d-over-mixed-8", "4.2",
              "R(2+1)D is above R3D and mixed networks with 8 frames, by 2.1–3.4 points.",
              [Arm(R21D, 8)], [Arm(THREE_D, 8)], size=_mean_gap(R21D, THREE_D, 8)),
    _contrast("r21d-over-mixed-16", "4.2",
              "R(2+1)D is above R3D and mixed networks with 16 frames, by 3.1–4.7 points.",
              [Arm(R21D, 16)], [Arm(THREE_D, 16)], size=_mean_gap(R21D, THREE_D, 16)),
    _contrast("r21d-over-2d-8", "4.2", "R(2+1)D is above 2-D networks with 8 frames, by 4.7–6.1 points.",
              [Arm(R21D, 8)], [Arm(TWO_D, 8)], size=_mean_gap(R21D, TWO_D, 8)),
    _contrast("r21d-over-2d-16", "4.2", "R(2+1)D is above 2-D networks with 16 frames, by 6.3–9.8 points.",
              [Arm(R21D, 16)], [Arm(TWO_D, 16)], size=_mean_gap(R21D, TWO_D, 16)),
    _contrast("r21d-over-r3d-8", "4.2", "R(2+1)D is above R3D with 8 frames, by 3 points.",
              [Arm(R21D, 8)], [Arm(R3D, 8)], "video@1", size=3),
    _contrast("r21d-over-r3d-16", "4.2", "R(2+1)D is above R3D with 16 frames, by 3.8 points.",
              [Arm(R21D, 16)], [Arm(R3D, 16)], "video@1", size=3.8),
    _contrast("r21d-gap-grows", "4.2", "The gap between R(2+1)D and R3D grows from 8 to 16 frames.",
              [Arm(R21D, 16), Arm(R3D, 8)], [Arm(R3D, 16), Arm(R21D, 8)], "video@1"),
    _contrast("r2d-like-fr2d-8", "4.2", "R2D gets about f-R2D's accuracy with 8 frames.",
              [Arm(("R2D",), 8)], [Arm(("f-R2D",), 8)], "video@1", region=ABOUT),
    _contrast("r2d-below-fr2d-16", "4.2", "R2D is below f-R2D with 16 frames, by 1.6 points.",
              [Arm(("f-R2D",), 16)], [Arm(("R2D",), 16)], "video@1", size=1.6),
    Claim("ranking", "4.2", "The order of the twelve networks is consistent from 8 to 16 frames.", RUNS,
          "Spearman's correlation of clip@1 with 8 and with 16 frames: above 0.8", evaluate=evaluate.evaluate_ranking,
          region=(0.8, np.inf)),
    _compute("ranking-table-2", "4.2", "Table 2's order is consistent from 8 to 16 frames.",
             "Spearman's correlation of Table 2's clip@1: above 0.8", arithmetic.order_of_rows),
    _compute("ranges-8", "4.2",
             "Table 2 with 8 frames: 3-D over 2-D 1.3–4, R(2+1)D over mixed 2.1–3.4, over 2-D 4.7–6.1.", GAPS,
             arithmetic.ranges, (THREE_D, TWO_D, "clip@1 8f", (1.3, 4.0)), (R21D, THREE_D, "clip@1 8f", (2.1, 3.4)),
             (R21D, TWO_D, "clip@1 8f", (4.7, 6.1))),
    _compute("ranges-16", "4.2", "Table 2 with 16 frames: 3-D over 2-D 1.8–6.7, R(2+1)D over mixed 3.1–4.7.", GAPS,
             arithmetic.ranges, (THREE_D, TWO_D, "clip@1 16f", (1.8, 6.7)),
             (R21D, THREE_D, "clip@1 16f", (3.1, 4.7))),
    _compute("ranges-16-2d", "4.2", "Table 2 with 16 frames: R(2+1)D over 2-D networks 6.3–9.8.", GAPS,
             arithmetic.ranges, (R21D, TWO_D, "clip@1 16f", (6.3, 9.8))),
    _compute("figure-4-gain", "4.2", "R(2+1)D gains about 3–3.8 points over R3D (caption of Figure 4).",
             "Table 2's video@1 with 8 and with 16 frames", arithmetic.ranges,
             (R21D, R3D, "video@1 8f", (3.0, 3.0)), (R21D, R3D, "video@1 16f", (3.8, 3.8))),
    _compute("r2d-seven-times", "4.2", "R2D is about 7 times faster than f-R2D.",
             "multiply-adds of f-R2D over R2D: rounds to 7 with 8 frames", arithmetic.ratios, 6.5, 7.5,
             [("GMAC", ("f-R2D", 8), ("R2D", 8))], [("GMAC", ("f-R2D", 16), ("R2D", 16))]),
    _compute("r2d-cheapest", "4.2", "R2D is the most efficient network.", MACS, arithmetic.cheaper, "R2D",
             [variant for variant in TABLE_2 if variant != "R2D"]),
    _compute("r2d-poorest", "4.2", "R2D “has the poorest accuracy”.",
             "Table 2's video@1 and clip@1 of R2D, with 8 and 16 frames: each below the other eleven",
             arithmetic.r2d_lowest, *((f"{metric} {f}f", "") for f in (8, 16) for metric in ("clip@1", "video@1"))),
    _compute("r2d-longer-clips", "4.2", "R2D “handles poorly longer clip inputs”.",
             "Table 2's gain from 8 to 16 frames, clip@1 and video@1: R2D's each below the other eleven",
             arithmetic.r2d_lowest, *((f"{metric} 16f", f"{metric} 8f") for metric in ("clip@1", "video@1"))),
    _compute("rmc3-cheaper", "4.2", "rMC3 is more efficient than f-R2D.", MACS, arithmetic.cheaper, "rMC3", ["f-R2D"]),
    _compute("rmc3-stride", "4.2", "rMC3 “performs temporal striding in conv3_1”.",
             "the temporal stride of conv3_1 by the architecture", arithmetic.rmc3_stride),
    _compute("rmc2-costlier", "4.2", "rMC2 is more costly than rMC3.", MACS, arithmetic.cheaper, "rMC3", ["rMC2"]),
    _compute("rmc2-reason", "4.2", "That is because rMC2 is 2-D in group 2 and has no temporal stride in group 3.",
             "the row of the table of variants", arithmetic.rmc2_reason),
    _compute("r21d-same-cost", "4.2", "R(2+1)D has roughly R3D's computational cost.",
             "multiply-adds with 8 frames: within 5 %", arithmetic.ratios, 0.95, 1.05, [("GMAC", R21D, R3D)]),
    _compute("lengths-same-parameters", "4.3", "Networks for 8 to 48 frames have the same number of parameters.",
             "parameters of R(2+1)D by arithmetic", arithmetic.same_parameters),
    _each("clip-accuracy-rises", "4.3", "Clip accuracy keeps rising with clip length, up to 48 frames.",
          "clip@1 of R(2+1)D: each of 16, 24, 32, 40, 48 frames minus the length before, each above 0",
          [(Arm(R21D, longer), Arm(R21D, shorter)) for shorter, longer in pairwise(LENGTHS)]),
    _each("video-accuracy-peaks", "4.3", "Video accuracy peaks at 32 frames.",
          "video@1 of R(2+1)D: 32 frames minus each other length, each above 0",
          [(Arm(R21D, 32), Arm(R21D, length)) for length in LENGTHS if length != 32], "video@1"),
    _contrast("test-longer-clip", "4.3", "Testing an 8-frame network on 32 frames costs clip accuracy, 1.2 points.",
              [Arm(R21D, 8)], [Arm(R21D, 32, training=TESTED)], size=1.2),
    _contrast("test-longer-video", "4.3", "Testing an 8-frame network on 32 frames costs video accuracy, 5.8 points.",
              [Arm(R21D, 8)], [Arm(R21D, 32, training=TESTED)], "video@1", size=5.8),
    _contrast("finetune-nearly", "4.3",
              "Finetuned on 32 frames, the 8-frame network is almost as good as one trained on 32.",
              [Arm(R21D, 32, training=FINETUNED)], [Arm(R21D, 32)], region=ABOUT),
    _contrast("finetune-gains", "4.3", "Finetuned on 32 frames, the 8-frame network gains 7 points over what it was.",
              [Arm(R21D, 32, training=FINETUNED)], [Arm(R21D, 8)], size=7),
    _compute("table-3", "4.3", "Table 3: testing longer drops 1.2 and 5.8 points; finetuning gains 7.",
             "differences in Table 3", arithmetic.differences, 3, ("8 tested at 32", "8", "clip@1", -1.2),
             ("8 tested at 32", "8", "video@1", -5.8), ("8 finetuned at 32", "8", "clip@1", 7.0)),
    _compute("seven-point-three", "4.3", "The 8-frame model is 7.3 times faster than the 32-frame one in FLOPs.",
             "multiply-adds of R(2+1)D, 18 layers", arithmetic.ratios, 7.25, 7.35,
             [("GMAC", (*R21D, 32), (*R21D, 8))], [("hours in Table 3", ("32",), ("8",))]),
    _compute("finetune-hours", "4.3", "Finetuning shortens the training of a 32-frame network considerably.",
             "Table 3's hours: less than half", arithmetic.ratios, 2, np.inf,
             [("hours in Table 3", ("32",), ("8 finetuned at 32",))]),
    _compute("best-trade-off", "4.3", "Finetuning on longer clips “gives the best trade-off” of time and accuracy.",
             "Table 3: points gained for each hour beyond the 8-frame model, finetuned above 32 frames from scratch",
             arithmetic.best_trade_off),
    Claim("twenty-clips", "4.3", "20 clips per video are “only about” 0.5 points worse than 100.", RUNS,
          "video@1 of R(2+1)D from one set of stored scores: all of 100 or more clips minus 20, at most 0.5",
          evaluate=evaluate.evaluate_clip_counts, metric="video@1", region=(-np.inf, 0.5)),
    _compute("sixty-seven", "4.4", "R(2+1)D-34 has 67 layers if both convolutions of a block are counted.",
             "convolutions off the shortcuts and fc", arithmetic.layers_in_r21d34),
    _compute("table-4", "4.4", "Table 4: over C3D 10.9 points, P3D 9.1, the 2-D ResNet 10.5, R3D with 8 frames 2.3.",
             "differences in Table 4's clip@1", arithmetic.differences, 4,
             ("R(2+1)D-RGB-32frame", "C3D", "clip@1", 10.9), ("R(2+1)D-RGB-32frame", "P3D", "clip@1", 9.1),
             ("R(2+1)D-RGB-32frame", "2D Resnet-152", "clip@1", 10.5),
             ("R(2+1)D-RGB-8frame", "R3D-RGB-8frame", "clip@1", 2.3)),
    _compute("table-4-rgb", "4.4", "R(2+1)D trained on RGB “performs the best among the methods in this comparison”.",
             "Table 4: R(2+1)D on RGB with 32 frames above the other methods, in clip@1, video@1 and video@5",
             arithmetic.above, 4, *(("R(2+1)D-RGB-32frame", OTHERS_OF_TABLE_4, metric)
               for metric in ("clip@1", "video@1", "video@5"))),
    _compute("table-4-best", "4.4", "R(2+1)D has the best video accuracy of Table 4.", "Table 4's video@1",
             arithmetic.above, 4, ("R(2+1)D-Two-Stream-32frame", OTHERS_OF_TABLE_4, "video@1")),
    _compute("table-5", "4.4", "Table 5: over I3D 4.5 points from scratch, 2.2 and 3.2 pretrained; 0.3 below it fused.",
             "differences in Table 5's top1", arithmetic.differences, 5,
             ("R(2+1)D-RGB (none)", "I3D-RGB (none)", "top1", 4.5),
             ("R(2+1)D-RGB (Sports-1M)", "I3D-RGB (ImageNet)", "top1", 2.2),
             ("R(2+1)D-Flow (Sports-1M)", "I3D-Flow (ImageNet)", "top1", 3.2),
             ("R(2+1)D-Two-Stream (Sports-1M)", "I3D-Two-Stream (ImageNet)", "top1", -0.3)),
    _compute("table-6-best", "4.4", "R(2+1)D outperforms every method of Table 6 but I3D.", "Table 6, both sets",
             arithmetic.above, 6, *(("R(2+1)D-TwoStream (Kinetics)", OTHERS_OF_TABLE_6, c) for c in HUMAN_ACTIONS)),
    _compute("table-6-i3d", "4.4",
             "Pretrained on Kinetics, R(2+1)D is comparable to I3D on RGB and slightly worse on flow.",
             "Table 6: within 1.5 points on RGB, 0 to 1.5 below on flow", arithmetic.beside_i3d),
    _compute("table-6-pretraining", "4.4", "Kinetics is better than Sports-1M for pretraining (by Table 6).",
             "Table 6: R(2+1)D pretrained on the one minus on the other, in both sets and all streams",
             arithmetic.above, 6, *((f"R(2+1)D-{stream} (Kinetics)", [f"R(2+1)D-{stream} (Sports1M)"], c)
                                    for stream in ("RGB", "Flow", "TwoStream") for c in HUMAN_ACTIONS)),
    _contrast("sports-r21d-over-r3d", "4.4", "R(2+1)D-34 is above R3D-34 on Sports-1M, by 2.3 points.",
              [Arm(R21D, 8, 34)], [Arm(R3D, 8, 34)], data=SPORTS, size=2.3),
    _contrast("sports-longer", "4.4", "On Sports-1M networks for 32 frames are above those for 8 (Table 4).",
              [Arm(R21D, 32, 34)], [Arm(R21D, 8, 34)], data=SPORTS),
    _rows("rgb-over-flow", "From scratch on Sports-1M and Kinetics, R(2+1)D is better on RGB than flow (Tables 4, 5).",
          "video@1 of R(2+1)D: on RGB minus on flow (pretrained, Table 6 has flow above RGB on HMDB51)",
          rows.rgb_over_flow, TWO_STREAMS),
    _rows("two-streams", "RGB and flow together are above either alone (Tables 4 to 6).",
          "video@1 of the mean of both streams' softmax minus each one's, both above 0", rows.both_over_each,
          TWO_STREAMS),
    _rows("pretraining-helps", "Pretraining on Sports-1M helps on Kinetics, by 2.3 points on RGB.",
          "video@1 of R(2+1)D on RGB: finetuned from another set minus trained from scratch",
          rows.pretrained_over_scratch, PRETRAINED, size=2.3),
    _rows("kinetics-pretrains-better", "Kinetics is better than Sports-1M for pretraining.",
          "video@1 of R(2+1)D on RGB: finetuned from Kinetics minus from Sports-1M", rows.kinetics_over_sports,
          FROM_BOTH),
    Claim("farneback", "4.4", "R(2+1)D is below I3D on flow because Farneback's flow is less accurate than TV-L1.",
          NOT_YET, "video@1 of one network on flow by TV-L1 minus by Farneback",
          lambda claim, groups: [Verdict(INCONCLUSIVE, why=UNAVAILABLE)], metric="video@1"),
)  # fmt: skip
