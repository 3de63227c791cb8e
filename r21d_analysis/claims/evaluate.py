"""Evaluates a claim of the table: by arithmetic, or from runs by the interval of a difference."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from r21d_analysis.artifacts.networks import FLOW, FUSED, RGB, Network, difference, networks, pretrained_pairs
from r21d_analysis.claims.claims import CLIP_COUNTS, NOT_YET, PAIRED_ROWS, RANKING, Claim
from r21d_analysis.claims.select import (
    FINETUNED,
    MORE_CLIPS,
    PROFILES,
    R21D,
    SCRATCH,
    SPORTS,
    TESTED,
    Arm,
    Contrast,
    describe_contrast,
    describe_missing,
    describe_protocol,
    select,
)
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
from r21d_analysis.statistics.bootstrap import (
    Estimate,
    Outcomes,
    check_same_items,
    correct_by_seed,
    estimate_correlation,
    estimate_difference,
    estimate_sum_of_means,
)
from r21d_analysis.statistics.clips import clips_correct
from r21d_core import R21DError
from r21d_core.runs.metrics import video_correct
from r21d_core.runs.run import Run
from r21d_core.study.experiments import TABLE_2
from r21d_core.study.paper import paper
from r21d_core.study.spec import Spec

BY_VIDEO = {"clip@1": clips_correct, "video@1": video_correct}
FEW, MANY = 20, 100  # clips per video of the claim about their number


def evaluate_claim(claim: Claim, groups: Sequence[SeedGroup]) -> Verdict:
    """The Verdict on `claim` by arithmetic or by the finished runs in `groups`, whichever its kind asks for."""
    if claim.arithmetic:
        return claim.arithmetic()
    if claim.kind == NOT_YET:
        return Verdict(INCONCLUSIVE, why=claim.command)
    special = {RANKING: _evaluate_ranking, CLIP_COUNTS: _evaluate_clip_counts, PAIRED_ROWS: _evaluate_rows}
    return special.get(claim.method, _evaluate_contrasts)(claim, groups)


def _decide_all(estimates: list[tuple[Estimate, str]], region: Region) -> tuple[Verdict, str, int]:
    """The Verdict of the least clear of several (Estimate, name) that must all hold, its name, and how many hold.

    All must hold at 95 % each, which needs no correction. That one of several fails happens more easily by chance, so
    its interval is widened as by Bonferroni's correction.
    """
    order = (REFUTED, INCONCLUSIVE, SUPPORTED)
    answers = [decide_bonferroni(estimate, region, len(estimates)) for estimate, _ in estimates]
    rows = zip(answers, estimates, strict=True)
    answer, (estimate, name) = min(rows, key=lambda row: (order.index(row[0]), row[1][0].low))
    return Verdict(answer, *estimate[:4]), name, answers.count(SUPPORTED)


def _evaluate_contrasts(claim: Claim, groups: Sequence[SeedGroup]) -> Verdict:
    """Whether every contrast's difference in the claim's metric lies within its region."""
    arms = list(dict.fromkeys(arm for plus, minus in claim.contrasts for arm in plus + minus))
    selection = select(groups, arms, claim.task, claim.data)
    if not selection.groups:
        return Verdict(INCONCLUSIVE, why=describe_missing(selection))
    why = selection.protocol
    if reason := _incomparable(list(selection.groups.values()), claim.metric):
        return Verdict(INCONCLUSIVE, why=f"{why}; {reason}")
    estimate = _estimate_by_video if claim.metric in BY_VIDEO else _estimate_by_run
    estimates, contrasts = [], {}
    for contrast in claim.contrasts:
        plus, minus = ([selection.of(arm) for arm in side] for side in contrast)
        if all(plus) and all(minus):
            contrasts[describe_contrast(contrast)] = contrast
            estimates.append((estimate(plus, minus, claim.metric), describe_contrast(contrast)))
    if not estimates:
        return Verdict(INCONCLUSIVE, why=f"{why}; {describe_missing(selection)}")
    verdict, name, holding = _decide_all(estimates, claim.region)
    if claim.metric == "training time":  # back from logarithms
        longer = {key: float(100 * np.expm1(getattr(verdict, key) / 100)) for key in ("effect", "low", "high")}
        verdict = replace(verdict, **longer, unit="% longer")
    if len(claim.contrasts) > 1:
        why += f"; {holding} of {len(claim.contrasts)} comparisons hold; the effect is of {name}"
    printed = _paper_difference(contrasts[name], claim.metric)
    if np.isnan(verdict.low):
        why += f"; no interval: it needs two {'videos' if claim.metric in BY_VIDEO else 'seeds of each network'}"
    elif printed is not None:
        inside = "inside" if verdict.low <= printed <= verdict.high else "outside"
        why += f"; the paper's tables give {printed:+.1f} for it, {inside} the interval"
    if selection.missing:
        return replace(verdict, answer=INCONCLUSIVE, why=f"{why}; {describe_missing(selection)}")
    return replace(verdict, why=why)


def _estimate_by_video(plus: list[list[SeedGroup]], minus: list[list[SeedGroup]], metric: str) -> Estimate:
    return estimate_difference([_sum_of_means(plus, metric)], [_sum_of_means(minus, metric)])


def _sum_of_means(side: list[list[SeedGroup]], metric: str) -> Outcomes:
    """The sum of the arms' means, for as many seeds as all of their networks have."""
    arms = [[correct_by_seed(group.scores, BY_VIDEO[metric]) for group in arm] for arm in side]
    seeds = min(len(network.values) for arm in arms for network in arm)
    values = [np.mean([network.values[:seeds] for network in arm], axis=0) for arm in arms]
    return Outcomes(np.sum(values, axis=0), arms[0][0].videos)


def _estimate_by_run(plus: list[list[SeedGroup]], minus: list[list[SeedGroup]], metric: str) -> Estimate:
    """The difference in a number that a run has but its videos do not, with an interval over seeds alone."""
    number = {"training error": _train_error, "training time": _log_train_time}[metric]
    return estimate_sum_of_means(
        [
            (sign / len(arm), np.array([number(run) for run in group.runs]))
            for sign, side in ((1, plus), (-1, minus))
            for arm in side
            for group in arm
        ]
    )


def _train_error(run: Run) -> float:
    return 100 * run.history[-1]["train_error"] if run.history else np.nan


def _log_train_time(run: Run) -> float:
    """100 times the logarithm of the seconds per clip: a difference of 10 is about ten per cent."""
    return -100 * np.log(run.summary["train_clips_per_second"] or np.nan)


def _incomparable(groups: Sequence[SeedGroup], metric: str = "clip@1") -> str:
    """Why networks with alike Specs may not be compared; "" if they may."""
    if metric == "training time":
        devices = sorted({run.summary["device"] for group in groups for run in group.runs})
        return f"timed on different devices: {', '.join(devices)}" if len(devices) > 1 else ""
    try:
        for scores in (scores for group in groups for scores in group.scores):
            check_same_items(groups[0].scores[0], scores)
    except R21DError as error:
        return str(error)
    return ""


def _paper_difference(contrast: Contrast, metric: str) -> float | None:
    """The contrast's difference by Tables 2 and 3; None where they do not print it."""
    try:
        plus, minus = (sum(_paper_mean(arm, metric) for arm in side) for side in contrast)
    except R21DError:
        return None
    return float(plus - minus)


def _paper_mean(arm: Arm, metric: str) -> float:
    if arm.depth == 34:
        raise R21DError("Tables 2 and 3 are of 18 layers")
    if arm.training == SCRATCH and arm.frames in (8, 16):
        return float(np.mean([paper(2, variant, f"{metric} {arm.frames}f") for variant in arm.variants]))
    rows = {TESTED: "8 tested at 32", FINETUNED: "8 finetuned at 32"}
    return paper(3, rows.get(arm.training, str(arm.frames)), metric)


def _evaluate_ranking(claim: Claim, groups: Sequence[SeedGroup]) -> Verdict:
    """Spearman's correlation of the twelve clip@1 with 8 and with 16 frames."""
    arms = Arm(TABLE_2, 8), Arm(TABLE_2, 16)
    selection = select(groups, arms)
    why = selection.protocol if selection.groups else ""
    reason = describe_missing(selection) if selection.missing else _incomparable(list(selection.groups.values()))
    if reason:
        return Verdict(INCONCLUSIVE, why="; ".join(filter(None, (why, reason))), unit="correlation")
    short, long = ([correct_by_seed(group.scores, clips_correct) for group in selection.of(arm)] for arm in arms)
    estimate = estimate_correlation(short, long)
    return Verdict(decide(estimate.low, estimate.high, claim.region), *estimate[:4], why, "correlation")


def _evaluate_clip_counts(claim: Claim, groups: Sequence[SeedGroup]) -> Verdict:
    """What FEW of at least MANY stored clips lose in video@1, the few spread evenly."""
    enough = [group for group in groups if group.scores[0].logits.shape[1] >= MANY]
    selections = [select(enough, [Arm(R21D, training=training)]) for training in (MORE_CLIPS, SCRATCH)]
    selection = next((selection for selection in selections if selection.groups), None)
    if selection is None:
        return Verdict(INCONCLUSIVE, why=describe_missing(selections[0]))
    (group,) = selection.groups.values()
    stored = group.scores[0].logits.shape[1]
    spread = np.linspace(0, stored - 1, FEW).round().astype(int)
    fewer = correct_by_seed([replace(scores, logits=scores.logits[:, spread]) for scores in group.scores])
    loss = estimate_difference([correct_by_seed(group.scores)], [fewer], same_seeds=True)
    why = f"{selection.protocol}; {FEW} clips spread over {stored} stored"
    return Verdict(decide(loss.low, loss.high, claim.region), *loss[:4], why)


# --- rows of Tables 4 to 6 ------------------------------------------------------------------------------------------

Rows = tuple[Network, Network]  # the first is claimed to be above the second


def _evaluate_rows(claim: Claim, groups: Sequence[SeedGroup]) -> Verdict:
    """Whether every pair of rows of Tables 4 to 6 differs in video@1 by more than zero.

    The setting of the profile nearest the paper's is used, then that of R(2+1)D, then that of the most videos.
    """
    rows = networks([run for group in groups for run in group.runs], sources=True)[0]
    settings = ROWS[claim.rows](rows)
    if not settings:
        return Verdict(INCONCLUSIVE, why=f"missing; to make them: {claim.command}")
    pairs = max(settings, key=_rank_rows)
    members = [group for pair in pairs for row in pair for group in row.splits.values()]
    estimates = [(difference(a, b), f"{_describe_row(a)} minus {_describe_row(b)}") for a, b in pairs]
    verdict, name, _ = _decide_all(estimates, ABOVE)
    return replace(verdict, why=f"{describe_protocol(members, len(settings) - 1)}; the effect is of {name}")


def _rank_rows(pairs: list[Rows]) -> tuple:
    network = pairs[0][0]
    videos = sum(len(group.scores[0].videos) for group in network.splits.values())
    return PROFILES.index(network.spec.profile), network.spec.variant in R21D, videos


def _describe_row(row: Network) -> str:
    split = f", {'split ' if len(row.splits) == 1 else ''}{row.split}" if row.split else ""
    return f"{row.spec.variant} {row.stream} {row.training}{split}"


def both_over_each(rows: list[Network]) -> list[list[Rows]]:
    """For each setting both streams together and each alone."""
    by_spec = {(row.spec, row.stream): row for row in rows}
    return [[(row, by_spec[row.spec, stream]) for stream in (RGB, FLOW)] for row in rows if row.stream == FUSED]


def rgb_over_flow(rows: list[Network]) -> list[list[Rows]]:
    """R(2+1)D's two streams, each from scratch."""
    pairs = [(rgb, flow) for (_, rgb), (_, flow) in both_over_each(rows)]
    return [[(rgb, flow)] for rgb, flow in pairs if rgb.spec.variant in R21D and not rgb.source]


def pretrained_over_scratch(rows: list[Network]) -> list[list[Rows]]:
    """R(2+1)D on RGB, finetuned and from scratch."""
    return [[pair] for pair in pretrained_pairs(rows) if pair[0].stream == RGB and pair[0].spec.variant in R21D]


def kinetics_over_sports(rows: list[Network]) -> list[list[Rows]]:
    """Networks finetuned alike, from runs that were trained alike on Kinetics and on Sports-1M."""
    by_source: dict[Spec, dict[str, Network]] = {}
    for row in rows:
        if row.stream == RGB and row.spec.parent_spec:
            changes = json.loads(row.spec.init_from)
            source = changes.pop("data", "")
            changes.pop("eval_clips", None)  # only how the source was evaluated
            setting = row.spec.replace(init_from=json.dumps({"data": ""} | changes))
            by_source.setdefault(setting, {})[source] = row
    return [
        [(sources[name], sources[SPORTS])]
        for sources in by_source.values()
        for name in sources
        if name.startswith("kinetics") and SPORTS in sources
    ]


ROWS: dict[str, Callable[[list[Network]], list[list[Rows]]]] = {
    function.__name__: function for function in (both_over_each, rgb_over_flow, pretrained_over_scratch,
                                                 kinetics_over_sports)
}  # fmt: skip
