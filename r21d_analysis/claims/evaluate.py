"""Evaluates a claim of the table: by arithmetic, or from runs by the interval of a difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import attrgetter

import numpy as np

from r21d_analysis.artifacts.confirmatory import EXPLORATORY, counted_seeds, describe_seen, family_networks
from r21d_analysis.artifacts.folds import BASELINE
from r21d_analysis.claims import select
from r21d_analysis.claims.select import R21D, Arm, Claim, Contrast, Selection, describe_protocol, rank_settings
from r21d_analysis.claims.verdict import (
    ABOVE,
    INCONCLUSIVE,
    NOTHING,
    REFUTED,
    SUPPORTED,
    UNTESTED,
    Verdict,
    decide,
    decide_bonferroni,
    decide_close,
    decide_size,
    describe_size,
)
from r21d_analysis.statistics import inference
from r21d_analysis.statistics.aggregate import SeedGroup, on_shared_seeds, training_errors, weighted_sum
from r21d_analysis.statistics.inference import Estimate, SeedVariance
from r21d_core import R21DError
from r21d_core.data.dataset_cards import group_noun
from r21d_core.study.experiments import TABLE_2
from r21d_core.study.paper import paper
from r21d_core.study.variants import is_neighbor

TRAIN_ERROR = "training error"  # of the last epoch, a metric as clip@1 and video@1 are
OUTCOMES = {"clip@1": attrgetter("clip_outcomes"), "video@1": attrgetter("outcomes")}
PLANNED = "confirmatory"  # a verdict on a contrast of docs/protocol.md
FEW, MANY = 20, 100  # clips per video of the claim about their number


def evaluate_claim(claim: Claim, groups: Sequence[SeedGroup]) -> Verdict:
    """The Verdict on `claim` by arithmetic, or by the finished runs of its first setting (`setting_rank`).

    UNTESTED where no run counts. Its `evidence` has a Verdict for each data set and task, by the first setting of it;
    the others are `other_settings`.
    """
    chosen, *others = claim.evaluate(claim, groups)
    profile = chosen.protocol.get("profile")  # a demonstration is shown beside another one alone
    others = [other for other in others if other.protocol["profile"] in (profile, "profile paper", "profile small")]
    others = [other for other in others if not np.isnan(other.effect)]
    verdicts = [_describe_sample(claim, verdict) for verdict in (chosen, *others)]
    first = {verdict.source: verdict for verdict in reversed(verdicts)}
    evidence = tuple(verdict for verdict in verdicts if verdict.protocol and verdict is first[verdict.source])
    texts = []
    for verdict in (v for v in verdicts if v is not first[v.source]):
        # Names the data and the task unless the same.
        usual = first[verdict.source].protocol | {key: chosen.protocol[key] for key in ("data", "task")}
        texts.append(_describe_other(verdict, usual))
    answer = chosen.answer if evidence or chosen.answer != INCONCLUSIVE else UNTESTED  # arithmetic has no evidence
    return replace(verdicts[0], answer=answer, evidence=evidence, other_settings="; ".join(texts))


def _describe_sample(claim: Claim, verdict: Verdict) -> Verdict:
    """`verdict` with what its sample counts and, unless it has one, its status."""
    if not verdict.protocol:
        return verdict
    of = "run" if claim.metric == TRAIN_ERROR else group_noun(verdict.data_set)
    return replace(verdict, of=f"{of}{'s' * (verdict.n != 1)}", status=verdict.status or EXPLORATORY)


def _describe_other(verdict: Verdict, usual: Mapping[str, str]) -> str:
    """What another setting answers, and in what its protocol differs from `usual`."""
    texts = [text for key, text in verdict.protocol.items() if text != usual[key]]
    effect = f"{verdict.effect:+.1f} ({inference.format_interval(verdict.low, verdict.high, '+.1f')})"
    return f"{', '.join(texts) or 'another recipe'}: {verdict.answer}, {effect}"


def decide_all(claim: Claim, estimates: list[tuple[Estimate, str]]) -> tuple[Verdict, str]:
    """The Verdict of the least clear of several (Estimate, name) that must all hold, and its name.

    All must hold at 95 % each, which needs no correction. That one of several fails happens more easily by chance, so
    its interval is widened as by Bonferroni's correction.
    """
    order = (REFUTED, INCONCLUSIVE, SUPPORTED)
    answers = [decide_bonferroni(estimate, claim.region, len(estimates)) for estimate, _ in estimates]
    rows = zip(answers, estimates, strict=True)
    answer, (estimate, name) = min(rows, key=lambda row: (order.index(row[0]), row[1][0].low))
    answer, why = decide_size(answer, estimate.low, estimate.high, claim.size), []
    # 3 points are of accuracy, and a lead over each of several networks is more than one difference.
    if len(estimates) == 1 and estimate.seeds > 1 and claim.region == ABOVE and claim.metric in OUTCOMES:
        answer = decide_close(answer, estimate.low, estimate.high, _paper_effect(claim))
    if len(estimates) > 1:
        why = [f"{answers.count(SUPPORTED)} of {len(estimates)} comparisons hold; the effect is of {name}"]
        if answer == INCONCLUSIVE and decide(estimate.low, estimate.high, claim.region) == REFUTED:
            why.append(f"refuted needs an interval widened for {len(estimates)} comparisons")
    if estimate.seeds < 2:
        why.append("one seed, and a verdict needs two")
    elif np.isnan(estimate.low):
        why.append("no interval, as there is one recording or all runs have the same result")
    value, low, high = estimate.value, estimate.low, estimate.high
    verdict = Verdict(answer, value, low, high, estimate.recordings or estimate.items, "; ".join(why))
    size = claim.size if estimate.seeds > 1 else None
    compared = name if len(estimates) > 1 else ""
    return replace(verdict, compared=compared, paper_size=describe_size(low, high, size)), name


def evaluate_contrasts(claim: Claim, groups: Sequence[SeedGroup]) -> list[Verdict]:
    """For each setting whether every contrast's difference in the claim's metric lies within its region.

    Settings that lack networks are left out, except the first.
    """
    first, *others = rank_settings(groups, claim.arms, claim.data, claim.tasks)
    return [_evaluate_setting(claim, selection) for selection in [first, *(s for s in others if not s.missing)]]


def _evaluate_setting(claim: Claim, selection: Selection) -> Verdict:
    why = [select.describe_missing(selection)] if selection.missing else []
    status, incomplete = _describe_status(claim, selection)
    why += [incomplete] if incomplete else []
    protocol, estimates, contrasts = describe_protocol(selection.groups), [], {}
    if reason := next(filter(None, (_incomparable([*split.values()]) for split in selection.splits)), ""):
        return Verdict(INCONCLUSIVE, why=reason, protocol=protocol)
    outcomes = OUTCOMES.get(claim.metric)
    seeds = inference.seed_variance(map(outcomes, selection.trained)) if outcomes else None
    # Of a family of docs/protocol.md the variance is pooled, as in `fold_table`; of other runs each has its own.
    lengths = {group.spec.frames for group in selection.groups} if selection.families else set()
    compared = [group for group in selection.trained if group.spec.frames in lengths]
    peers = training_errors(compared) if claim.metric == TRAIN_ERROR else []
    for contrast in claim.contrasts:
        splits = [_weigh(contrast, split) for split in selection.splits]
        if all(splits):
            name = select.describe_contrast(contrast)
            contrasts[name] = contrast
            estimates.append((_estimate_contrast(splits, claim.metric, seeds, peers), name))
    if not estimates:
        return Verdict(INCONCLUSIVE, why="; ".join(why), protocol=protocol)
    verdict, name = decide_all(claim, estimates)
    if claim.explains and all(splits := [_weigh(claim.explains, split) for split in selection.splits]):
        advantage = _estimate_contrast(splits, claim.metric, seeds, peers)
        interval = inference.format_interval(advantage.low, advantage.high, "+.1f")
        text = f"what it would explain, {select.describe_contrast(claim.explains)}: {advantage.value:+.1f} ({interval})"
        why.insert(0, text)
        is_found = decide_bonferroni(advantage, ABOVE, 1) == SUPPORTED
        verdict = replace(verdict, premise="" if is_found else NOTHING)
    printed = _paper_difference(contrasts[name], claim.metric)
    if printed is not None and not np.isnan(verdict.low):
        inside = "inside" if verdict.low <= printed <= verdict.high else "outside"
        why.insert(0, f"the paper's tables give {printed:+.1f} for it, {inside} the interval")
    if claim.metric == TRAIN_ERROR:
        why.append(_list_training_errors(selection))
    answer = INCONCLUSIVE if selection.missing or incomplete else verdict.answer
    text = "; ".join(filter(None, [verdict.why, *why]))
    return replace(verdict, answer=answer, why=text, protocol=protocol, status=status)


def _describe_status(claim: Claim, selection: Selection) -> tuple[str, str]:
    """Whether a verdict is confirmatory, and what of its seeds was seen before; and why there is none, or "".

    A contrast of docs/protocol.md is video@1 of one network and R(2+1)D. There is no verdict on a family with an open
    number of seeds of which none has all networks.
    """
    seen, runs = "", {run.spec for group in selection.trained for run in group.runs}
    for family in (family for family in selection.families if not family.seeds):
        if not counted_seeds(family_networks(family), runs):
            return "", f"no verdict, as no seed has all runs of the family {family.name} of docs/protocol.md"
        seen = describe_seen(family, {run.spec.seed for group in selection.groups for run in group.runs})
    compared = {arm for contrast in claim.contrasts for side in contrast for arm in side}
    networks = {
        (group.spec.variant, group.spec.frames)
        for split in selection.splits
        for (arm, _), group in split.items()
        if arm in compared
    }
    planned = [{pair, (BASELINE, pair[1])} for family in selection.families for pair in family.contrasts]
    if claim.metric == "video@1" and networks in planned:
        return seen or PLANNED, ""
    return ", ".join(filter(None, [EXPLORATORY, seen.removeprefix(EXPLORATORY)])), ""


def _list_training_errors(selection: Selection) -> str:
    """The training errors that a claim compares, in per cent, such as `R3D 0.3 %, R(2+1)D 0.4 %`."""
    arms = {(arm, variant) for split in selection.splits for arm, variant in split}
    errors = {
        f"{variant}{arm.conditions}": np.mean([s[arm, variant].train_errors.mean() for s in selection.splits])
        for arm, variant in sorted(arms, key=str)
    }
    return f"training errors {', '.join(f'{name} {error:.1f} %' for name, error in errors.items())}"


def _weigh(contrast: Contrast, split: dict[tuple[Arm, str], SeedGroup]) -> list[tuple[float, SeedGroup]]:
    """The networks of a contrast with their weights, alike within an arm; empty where an arm has no network."""
    weighted = []
    for sign, side in zip((1, -1), contrast, strict=True):
        for arm in side:
            groups = [split[arm, variant] for variant in arm.variants if (arm, variant) in split]
            if not groups:
                return []
            weighted += [(sign / len(groups), group) for group in groups]
    return weighted


def _estimate_contrast(
    splits: list[list[tuple[float, SeedGroup]]], metric: str, seeds: SeedVariance | None, peers: Sequence[np.ndarray]
) -> Estimate:
    """The weighted sum of the networks of each split, averaged over the splits.

    Two networks of the same weights, or of which one starts from the other, are one sample of differences, seed by
    seed. The training error has no recordings, so its interval is over seeds alone, whose variance `peers` share.
    """
    if metric == TRAIN_ERROR:
        networks = [(arms[0][0], [group for _, group in arms]) for arms in zip(*splits, strict=True)]
        errors = [(weight, values) for weight, groups in networks for values in training_errors(groups)]
        n_runs = sum(len(group.runs) for _, groups in networks for group in groups)
        return replace(inference.estimate_sum_of_means(errors, peers), items=n_runs)
    outcomes = OUTCOMES[metric]
    if all(len(split) == 2 and _share_weights(split[0][1], split[1][1]) for split in splits):
        shared = [on_shared_seeds(a, b) for (_, a), (_, b) in splits]
        return inference.estimate_mean([outcomes(a) - outcomes(b) for a, b in shared])
    has_neighbor = any(is_neighbor(group.spec.variant) for _, group in splits[0])  # whose seeds vary by themselves
    return weighted_sum(splits, None if has_neighbor else seeds, outcomes)


def _share_weights(a: SeedGroup, b: SeedGroup) -> bool:
    """Whether the runs of one start from those of the other, with a seed in common."""
    specs = [group.spec.replace(seed=0) for group in (a, b)]
    return any(x.parent_spec == y for x, y in (specs, specs[::-1])) and bool(on_shared_seeds(a, b)[0].runs)


def _incomparable(groups: Sequence[SeedGroup]) -> str:
    """Why networks with alike Specs may not be compared; "" if they may."""
    try:
        for scores in (scores for group in groups for scores in group.scores):
            inference.check_same_items(groups[0].scores[0], scores)
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


def _paper_effect(claim: Claim) -> float | None:
    """The effect by the paper of a claim of one comparison: its size, or the difference that Tables 2 and 3 print."""
    if claim.size is not None or len(claim.contrasts) != 1:
        return claim.size
    return _paper_difference(claim.contrasts[0], claim.metric)


def _paper_mean(arm: Arm, metric: str) -> float:
    if arm.depth == 34:
        raise R21DError("Tables 2 and 3 are of 18 layers")
    if arm.training == select.SCRATCH and arm.frames in (8, 16):
        return float(np.mean([paper(2, variant, f"{metric} {arm.frames}f") for variant in arm.variants]))
    rows = {select.TESTED: "8 tested at 32", select.FINETUNED: "8 finetuned at 32"}
    return paper(3, rows.get(arm.training, str(arm.frames)), metric)


def evaluate_ranking(claim: Claim, groups: Sequence[SeedGroup]) -> list[Verdict]:
    """Spearman's correlation of the twelve clip@1 with 8 and with 16 frames, in each setting on each split."""
    arms, verdicts = (Arm(TABLE_2, 8), Arm(TABLE_2, 16)), []
    for selection in rank_settings(groups, arms):
        for split in selection.splits:
            verdict = _rank_correlation(claim, arms, selection, split)
            protocol = describe_protocol(list(split.values()))
            verdicts.append(replace(verdict, unit="correlation", protocol=protocol))
    return verdicts


def _rank_correlation(
    claim: Claim, arms: tuple[Arm, Arm], selection: Selection, split: dict[tuple[Arm, str], SeedGroup]
) -> Verdict:
    """The Verdict on the correlation of two arms' clip@1 on one split, without its unit and protocol."""
    reason = select.describe_missing(selection) if selection.missing else _incomparable(list(split.values()))
    if reason:
        return Verdict(INCONCLUSIVE, why=reason)
    short, long = ([split[arm, name].clip_outcomes for name in arm.variants] for arm in arms)
    correlation = inference.estimate_correlation(short, long, inference.seed_variance([*short, *long]))
    verdict, _ = decide_all(claim, [(correlation, claim.comparison)])
    if verdict.answer == REFUTED:
        noise = "a low correlation refutes nothing: sampling noise alone disorders close accuracies"
        return replace(verdict, answer=INCONCLUSIVE, why=noise)
    return verdict


def evaluate_clip_counts(claim: Claim, groups: Sequence[SeedGroup]) -> list[Verdict]:
    """What FEW of at least MANY stored clips lose in video@1, the few spread evenly, in each setting."""
    enough = [group for group in groups if group.scores[0].logits.shape[1] >= MANY]
    arms = [Arm(R21D, training=training) for training in (select.MORE_CLIPS, select.SCRATCH)]
    settings = [selection for arm in arms for selection in rank_settings(enough, [arm])]
    verdicts = []
    for splits in (selection.groups for selection in settings if not selection.missing):  # of one network
        stored = splits[0].scores[0].logits.shape[1]
        spread = np.linspace(0, stored - 1, FEW).round().astype(int)
        fewer = [[replace(scores, logits=scores.logits[:, spread]) for scores in group.scores] for group in splits]
        pairs = zip(splits, map(inference.correct_by_seed, fewer), strict=True)
        estimate = inference.estimate_mean([group.outcomes - own for group, own in pairs])
        verdict, _ = decide_all(claim, [(estimate, "")])
        why = "; ".join(filter(None, [f"{FEW} clips spread over {stored} stored", verdict.why]))
        verdicts.append(replace(verdict, why=why, protocol=describe_protocol(splits)))
    return verdicts or [Verdict(INCONCLUSIVE, why=select.describe_missing(settings[0]))]
