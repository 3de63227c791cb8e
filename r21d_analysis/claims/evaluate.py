"""Judges of claims about runs: whether networks differ in a metric as the paper says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from r21d_analysis.claims.select import R21D, Arm, Contrast, select, tell_asked, tell_missing, tell_protocol
from r21d_analysis.claims.verdict import (
    ABOVE,
    INCONCLUSIVE,
    REFUTED,
    SUPPORTED,
    Region,
    Verdict,
    decide,
    decide_bonferroni,
)
from r21d_analysis.statistics.aggregate import SeedGroup
from r21d_analysis.statistics.inference import bootstrap_ci, correct_by_seed, per_video, spearman
from r21d_core import R21DError
from r21d_core.runs.run import Run
from r21d_core.runs.scores import Scores
from r21d_core.study.experiments import TABLE_2
from r21d_core.study.paper import paper


def _clip_outcomes(seeds: Sequence[Scores]) -> np.ndarray:
    """The share of each video's clips that each seed got right, (seeds, videos)."""
    correct_by_seed(seeds)  # raises where the seeds were evaluated on different items
    right = [(scores.logits.argmax(axis=2) == scores.labels[:, None]).mean(axis=1) for scores in seeds]
    return np.array([per_video(one, scores.videos) for one, scores in zip(right, seeds, strict=True)])


def _train_error(run: Run) -> float:
    return 100 * run.history[-1]["train_error"] if run.history else np.nan


def _train_time(run: Run) -> float:
    """100 times the logarithm of the seconds a clip: a difference of 10 is about ten per cent."""
    return -100 * np.log(run.summary["train_clips_per_second"] or np.nan)


BY_VIDEO = {"clip@1": _clip_outcomes, "video@1": correct_by_seed}
BY_RUN = {"training error": _train_error, "training time": _train_time}


def evaluate_claim(
    networks: Sequence[SeedGroup],
    *,
    pairs: Sequence[Contrast],
    metric: str,
    region: Region = ABOVE,
    task: str = "action",
    data: str = "",
) -> Verdict:
    """Whether every pair's difference in `metric` lies within `region`; the effect told is the least clear pair's.

    All pairs have to hold at 95 % each, which needs no correction. That one of several fails is easier had by chance:
    for that, its interval is stretched as Bonferroni's correction for their number would a normal one.
    """
    groups = list(dict.fromkeys(group for plus, minus in pairs for group in plus + minus))
    selection = select(networks, groups, task, data)
    if not selection.found:
        return Verdict(INCONCLUSIVE, why=tell_missing(selection))
    why = tell_protocol(selection)
    if unlike := _unlike(list(selection.found.values()), metric):
        return Verdict(INCONCLUSIVE, why=f"{why}; {unlike}")
    effects = []
    for pair in pairs:
        plus, minus = ([selection.of(group) for group in side] for side in pair)
        if all(plus) and all(minus):
            effect, low, high, n = (
                _by_video(plus, minus, metric) if metric in BY_VIDEO else _by_run(plus, minus, metric)
            )
            answer = decide_bonferroni(effect, low, high, region, len(pairs))
            verdict = Verdict(answer, effect, low, high, n)
            if metric == "training time":  # back from logarithms
                longer = (float(100 * np.expm1(value / 100)) for value in (effect, low, high))
                verdict = Verdict(answer, *longer, n, unit="% longer")
            effects.append((answer, verdict, pair))
    if not effects:
        return Verdict(INCONCLUSIVE, why=f"{why}; {tell_missing(selection)}")
    answer, verdict, pair = min(effects, key=lambda one: ((REFUTED, INCONCLUSIVE, SUPPORTED).index(one[0]), one[1].low))
    if len(pairs) > 1:
        why += (
            f"; {sum(one[0] == SUPPORTED for one in effects)} of {len(pairs)} comparisons hold, told is {_named(pair)}"
        )
    if np.isnan(verdict.low):
        why += "; no interval: it takes two videos" if metric in BY_VIDEO else "; no interval: it takes two seeds each"
    elif (papers := _papers(pair, metric)) is not None:
        inside = "inside" if verdict.low <= papers <= verdict.high else "outside"
        why += f"; the paper's tables give {papers:+.1f} for it, {inside} the interval"
    if selection.missing:
        return replace(verdict, answer=INCONCLUSIVE, why=f"{why}; {tell_missing(selection)}")
    return replace(verdict, why=why)


def _by_video(
    plus: list[list[SeedGroup]], minus: list[list[SeedGroup]], metric: str
) -> tuple[float, float, float, int]:
    values, less = (_side(groups, BY_VIDEO[metric]) for groups in (plus, minus))
    low, high = bootstrap_ci(values, less)
    return 100 * float(values.mean() - less.mean()), 100 * low, 100 * high, values.shape[1]


def _side(groups: list[list[SeedGroup]], outcomes: Callable) -> np.ndarray:
    """The sum of the groups' means, (seeds, videos), of as many seeds as all of their networks have."""
    values = [[outcomes(one.scores) for one in group] for group in groups]
    seeds = min(len(one) for group in values for one in group)
    return sum(np.mean([one[:seeds] for one in group], axis=0) for group in values)


def _by_run(plus: list[list[SeedGroup]], minus: list[list[SeedGroup]], metric: str) -> tuple[float, float, float, int]:
    """A number a run has but its videos do not: an interval over seeds alone, Welch's, of a sum of means."""
    samples = [
        (sign / len(group), np.array([BY_RUN[metric](run) for run in one.runs]))
        for sign, groups in ((1, plus), (-1, minus))
        for group in groups
        for one in group
    ]
    n = sum(len(values) for _, values in samples)
    effect = float(sum(weight * values.mean() for weight, values in samples))
    if min(len(values) for _, values in samples) < 2 or np.isnan(effect):
        return effect, np.nan, np.nan, n
    parts = np.array([weight**2 * values.var(ddof=1) / len(values) for weight, values in samples])
    degrees = np.array([len(values) - 1 for _, values in samples])
    if not parts.sum():
        return effect, effect, effect, n
    freedom = parts.sum() ** 2 / (parts**2 / degrees).sum()
    half = float(stats.t.ppf(0.975, freedom) * np.sqrt(parts.sum()))
    return effect, effect - half, effect + half, n


def _unlike(networks: Sequence[SeedGroup], metric: str = "clip@1") -> str:
    """Why these networks may not be compared in spite of alike Specs; "" if they may."""
    if metric == "training time":
        devices = sorted({run.summary["device"] for one in networks for run in one.runs})
        return f"timed on different devices: {', '.join(devices)}" if len(devices) > 1 else ""
    all_scores = [scores for one in networks for scores in one.scores]
    first = all_scores[0]
    for scores in all_scores:
        same = np.array_equal(scores.videos, first.videos) and np.array_equal(scores.labels, first.labels)
        if not same or scores.classes != first.classes:
            return "evaluated on different videos; evaluate them on one manifest and split"
    return ""


def _named(pair: Contrast) -> str:
    return " less ".join(
        " and ".join(", ".join(group.variants) + tell_asked(group) for group in side) for side in pair
    )  # fmt: skip


def _papers(pair: Contrast, metric: str) -> float | None:
    """The pair's difference by Tables 2 and 3; None where they do not print it."""
    rows = {"tested": "8 tested at 32", "finetuned": "8 finetuned at 32"}
    sides = []
    try:
        for side in pair:
            means = []
            for group in side:
                if group.depth == 34:
                    return None
                if group.how == "afresh" and group.frames in (8, 16):
                    means.append(
                        np.mean([paper(2, variant, f"{metric} {group.frames}f") for variant in group.variants])
                    )
                else:
                    means.append(paper(3, rows.get(group.how, str(group.frames)), metric))
            sides.append(sum(means))
    except R21DError:
        return None
    return float(sides[0] - sides[1])


def judge_ranking(networks: Sequence[SeedGroup]) -> Verdict:
    """Spearman's correlation of the twelve clip@1 with 8 and with 16 frames, by a bootstrap over videos."""
    short, long = Arm(TABLE_2, 8), Arm(TABLE_2, 16)
    selection = select(networks, [short, long])
    if selection.missing:
        why = f"{tell_protocol(selection)}; " if selection.found else ""
        return Verdict(INCONCLUSIVE, why=why + tell_missing(selection), unit="correlation")
    if unlike := _unlike(list(selection.found.values())):
        return Verdict(INCONCLUSIVE, why=f"{tell_protocol(selection)}; {unlike}", unit="correlation")
    values = [np.array([_clip_outcomes(one.scores).mean(axis=0) for one in selection.of(g)]) for g in (short, long)]
    videos = values[0].shape[1]
    drawn = np.random.default_rng(0).multinomial(videos, np.full(videos, 1 / videos), size=999)
    correlations = [spearman(*(one @ weights for one in values)) for weights in drawn]
    low, high = np.nanquantile(correlations, [0.025, 0.975])
    effect = spearman(*(one.mean(axis=1) for one in values))
    answer = decide(low, high, (0.8, np.inf))
    return Verdict(answer, effect, float(low), float(high), videos, tell_protocol(selection), "correlation")


def judge_clip_counts(networks: Sequence[SeedGroup], few: int = 20, many: int = 100) -> Verdict:
    """What `few` of at least `many` stored clips lose in video@1, the few spread evenly."""
    enough = [one for one in networks if one.scores[0].logits.shape[1] >= many]
    selection = next(
        (found for how in ("counted", "afresh") if (found := select(enough, [Arm(R21D, how=how)])).found), None
    )
    if selection is None:
        return Verdict(INCONCLUSIVE, why=tell_missing(select([], [Arm(R21D, how="counted")])))
    one = next(iter(selection.found.values()))
    clips = one.scores[0].logits.shape[1]
    spread = np.linspace(0, clips - 1, few).round().astype(int)
    fewer = correct_by_seed([replace(scores, logits=scores.logits[:, spread]) for scores in one.scores])
    # One row a seed holds what it loses, so that a seed drawn is drawn for both counts.
    loss = correct_by_seed(one.scores) - fewer
    low, high = bootstrap_ci(loss)
    why = f"{tell_protocol(selection)}; {few} clips spread over {clips} stored"
    answer = decide(100 * low, 100 * high, (-np.inf, 0.5))
    return Verdict(answer, 100 * float(loss.mean()), 100 * low, 100 * high, loss.shape[1], why)
