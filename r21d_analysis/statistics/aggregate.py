"""Groups runs that differ in their seed alone: the rows of every table and the points of every figure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from operator import attrgetter

import numpy as np

from r21d_analysis.statistics import inference
from r21d_analysis.statistics.clips import clips_correct
from r21d_analysis.statistics.inference import Estimate, Outcomes, SeedVariance
from r21d_core import R21DError
from r21d_core.runs.metrics import clip_at_1, video_at
from r21d_core.runs.run import Run
from r21d_core.runs.scores import Scores, take_items
from r21d_core.study.experiments import SPLIT
from r21d_core.study.spec import Spec
from r21d_core.study.variants import is_neighbor

of_videos = attrgetter("outcomes")  # of a SeedGroup
NOT_RUN = "not run"  # in the column `seeds`


@dataclass(frozen=True)
class SeedGroup:
    """The finished runs of one Spec, one for each seed, and their scores. Accuracies are in per cent."""

    spec: Spec  # of the first seed
    runs: tuple[Run, ...]
    scores: tuple[Scores, ...]
    requested: int = 0  # the runs that were asked for, finished or not; 0 where that is not known
    # The groups on the same data, task and modality that are shown together, itself included; empty if alone.
    peers: list[SeedGroup] = field(default_factory=list, compare=False, repr=False)

    @property
    def clip_at_1(self) -> float:
        """clip@1, the mean over seeds."""
        return 100 * float(np.mean([clip_at_1(scores) for scores in self.scores]))

    def video_at(self, k: int) -> float:
        """video@k, the mean over seeds."""
        return 100 * float(np.mean([video_at(scores, k) for scores in self.scores]))

    @cached_property
    def outcomes(self) -> Outcomes:
        """Whether each seed is right on each item."""
        return inference.correct_by_seed(self.scores)

    @cached_property
    def clip_outcomes(self) -> Outcomes:
        """The share of each item's clips that each seed has right."""
        return inference.correct_by_seed(self.scores, clips_correct)

    @cached_property
    def accuracy(self) -> Estimate:
        """video@1 with its 95 % interval."""
        return accuracy_over_splits([self])

    @cached_property
    def train_errors(self) -> np.ndarray:
        """Each seed's training error of the last epoch in per cent, (seeds,); NaN for a run that is only evaluated."""
        histories = [run.history for run in self.runs]
        return 100 * np.array([history[-1]["train_error"] if history else np.nan for history in histories])

    @property
    def videos(self) -> int:
        """The number of test videos."""
        return len(np.unique(self.scores[0].videos))

    @property
    def seeds(self) -> str:
        """How many seeds are finished, such as "1 seed", "2", or "2 of 3" where more were requested."""
        count = len(self.runs)
        text = "1 seed" if count == 1 else str(count)
        return f"{text} of {self.requested}" if self.requested > count else text

    @property
    def seed_range(self) -> tuple[float, float]:
        """The lowest and the highest video@1 of a seed."""
        accuracies = [100 * video_at(scores, 1) for scores in self.scores]
        return min(accuracies), max(accuracies)

    def errors(self, key: str) -> np.ndarray:
        """The error `train_error` or `test_error` of each epoch in per cent, (seeds, epochs)."""
        return 100 * np.array([[line[key] for line in run.history] for run in self.runs])

    def mean(self, key: str) -> float:
        """The mean over the runs of a number in their summaries; NaN where a run has none."""
        values = [run.summary[key] for run in self.runs]
        return float(np.mean([np.nan if value is None else value for value in values]))


def pooled_seed_variance(groups: Sequence[SeedGroup]) -> SeedVariance:
    """The variance of the seed, pooled over `groups` and all that are shown together with them.

    Evaluations of the same weights, such as with more clips, are one network, whose seeds count once: by that of
    `groups`, or else the first. Where all have one seed, it is that of the networks that have a run on each data set,
    such as the splits of one.
    """
    by_weights: dict[Spec, SeedGroup] = {}
    for member in [*groups, *(peer for group in groups for peer in group.peers)]:
        by_weights.setdefault(_trained_spec(member.spec), member)
    members = list(by_weights.values())
    pooled = inference.seed_variance(member.outcomes for member in members)
    if pooled.df:
        return pooled
    data = sorted({member.spec.data for member in members})
    rows: dict[Spec, dict[str, Outcomes]] = defaultdict(dict)
    for member in members:
        rows[without_split(member.spec)][member.spec.data] = member.outcomes
    networks = [[row[name] for name in data] for row in rows.values() if len(row) == len(data)]
    return inference.fold_variance([network for network in networks if _items(network) == _items(networks[0])])


@lru_cache(maxsize=4096)  # of each group, for each that is shown beside it
def _trained_spec(spec: Spec) -> Spec:
    """The Spec without seed whose training made the weights that `spec` evaluates."""
    parent = None if spec.epochs else spec.parent_spec
    return (parent or spec).replace(seed=0)


@lru_cache(maxsize=4096)  # of each run, for each table that it is in
def without_seed(spec: Spec) -> Spec:
    """`spec` with the seed 0."""
    return spec.replace(seed=0)


@lru_cache(maxsize=4096)
def without_split(spec: Spec) -> Spec:
    """`spec` without its seed and the number of its split, and that of the data it was pretrained on."""
    return spec.replace(seed=0, data=SPLIT.sub("", spec.data), init_from=SPLIT.sub("", spec.init_from))


def _items(network: Sequence[Outcomes]) -> list[list]:
    return [outcomes.groups.tolist() for outcomes in network]


def means_by_seed(splits: Sequence[SeedGroup], number: Callable[[SeedGroup], np.ndarray]) -> np.ndarray:
    """A number of each run of one network, the mean over its splits for each seed that all of them have, (seeds,).

    The runs of one seed start from the same weights, often on one device, so they are no sample of seeds. Where no seed
    has all splits, the mean over all runs, split by split, (1,).
    """
    values = [dict(zip([run.spec.seed for run in group.runs], number(group), strict=True)) for group in splits]
    shared = sorted(set.intersection(*map(set, values)))
    if not shared:
        return np.array([np.mean([np.mean([*seeds.values()]) for seeds in values])])
    return np.array([np.mean([seeds[seed] for seeds in values]) for seed in shared])


def training_errors(groups: Iterable[SeedGroup]) -> list[np.ndarray]:
    """Of each network among `groups` its `train_errors` by seed, the mean over its splits (`means_by_seed`)."""
    rows: dict[Spec, list[SeedGroup]] = {}
    for group in groups:
        rows.setdefault(without_split(group.spec), []).append(group)
    return [means_by_seed(splits, lambda group: group.train_errors) for splits in rows.values()]


def accuracy_over_splits(splits: Sequence[SeedGroup]) -> Estimate:
    """video@1 in per cent of one network, the mean over `splits` of a data set."""
    return inference.estimate_accuracy([group.outcomes for group in splits], pooled_seed_variance(splits))


def accuracy_difference(
    splits: Sequence[SeedGroup], baselines: Sequence[SeedGroup], seeds: SeedVariance | None = None
) -> Estimate:
    """video@1 of one network less that of another, in points; raises R21DError if their data or items differ.

    The groups are paired by the names of their data. Without `seeds`, the variance of the seed is that of
    `pooled_seed_variance`, or where one of them is of another paper that of these two, by fold where each has one seed;
    so the interval depends on which runs `group_by_seed` was given with them.
    """
    splits, baselines = (sorted(side, key=lambda group: group.spec.data) for side in (splits, baselines))
    ours, theirs = (", ".join(group.spec.data for group in side) for side in (splits, baselines))
    if ours != theirs:
        raise R21DError(f"one network has {ours or 'no data'}, the other {theirs or 'none'}; compare them on the same")
    for group, baseline in zip(splits, baselines, strict=True):
        inference.check_same_items(group.scores[0], baseline.scores[0])
    outcomes, others = ([group.outcomes for group in side] for side in (splits, baselines))
    groups = [*splits, *baselines]
    has_neighbor = any(is_neighbor(group.spec.variant) for group in groups)
    if seeds is None and not has_neighbor:
        seeds = pooled_seed_variance(groups)
    elif seeds is None and all(len(group.runs) == 1 for group in groups):
        seeds = pooled_seed_variance([replace(group, peers=[]) for group in groups])
    return inference.estimate_difference(outcomes, others, seeds)


def weighted_sum(
    splits: Iterable[Sequence[tuple[float, SeedGroup]]], seeds: SeedVariance | None,
    outcomes: Callable[[SeedGroup], Outcomes] = of_videos,
) -> Estimate:  # fmt: skip
    """`inference.estimate_contrast` of (weight, group) pairs of each split, whose groups have the same items."""
    strata = []
    for split in splits:
        arms = [(weight, outcomes(group).values) for weight, group in split]
        strata.append((arms, outcomes(split[0][1]).groups))
    return inference.estimate_contrast(strata, seeds)


def group_by_seed(runs: Sequence[Run]) -> list[SeedGroup]:
    """The finished runs among `runs`, grouped over seeds, in order of first appearance.

    Groups on the same data, task and modality become `peers`: the variance of the seed is pooled over them. Give the
    runs of two networks alone for an interval that depends on no other.
    """
    return [group for _, group in group_all(runs) if group]


def group_all(runs: Sequence[Run]) -> list[tuple[Spec, SeedGroup | None]]:
    """Every Spec among `runs`, in order of first appearance, with its SeedGroup.

    That is None where none of its runs is finished. The list is empty where no run at all is finished.
    """
    members: dict[Spec, list[Run]] = {}
    for run in runs:
        members.setdefault(without_seed(run.spec), []).append(run)
    groups, pools = [], defaultdict(list)
    for spec, requested in members.items():
        done, group = tuple(run for run in requested if run.is_complete), None
        if done:
            alone = spec.variant if is_neighbor(spec.variant) else ""  # its seeds say nothing about other networks'
            peers = pools[spec.data, spec.task, spec.modality, spec.profile, alone]
            group = SeedGroup(done[0].spec, done, tuple(run.scores for run in done), len(requested), peers)
            peers.append(group)
        groups.append((spec, group))
    return groups if any(group for _, group in groups) else []


def on_shared_seeds(a: SeedGroup, b: SeedGroup) -> tuple[SeedGroup, SeedGroup]:
    """Both groups on the seeds that both have, in ascending order, without their peers; without runs for no seed."""
    shared = sorted({run.spec.seed for run in a.runs} & {run.spec.seed for run in b.runs})
    return take_seeds(a, shared), take_seeds(b, shared)


def take_seeds(group: SeedGroup, seeds: Iterable[int]) -> SeedGroup:
    """`group` on those of `seeds` that it has, in their order, without its peers."""
    place = {run.spec.seed: index for index, run in enumerate(group.runs)}
    kept = [place[seed] for seed in seeds if seed in place]
    runs, scores = (tuple(of[index] for index in kept) for of in (group.runs, group.scores))
    return replace(group, runs=runs, scores=scores, peers=[])


def without_videos(groups: Sequence[SeedGroup], videos: Collection[str]) -> list[SeedGroup]:
    """`groups` on the items of all videos but `videos`."""
    names, peers, kept = list(videos), defaultdict(list), []
    for group in groups:
        masks = [~np.isin(scores.videos, names) for scores in group.scores]
        scores = tuple(map(take_items, group.scores, masks))
        kept.append(replace(group, scores=scores, peers=peers[id(group.peers)]))
        peers[id(group.peers)].append(kept[-1])
    return kept
