"""Networks on RGB, on flow and on both streams fused, over seeds and splits (Section 4.4)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from r21d_analysis.statistics.aggregate import SeedGroup, accuracy_difference, accuracy_over_splits, group_by_seed
from r21d_analysis.statistics.fusion import fuse
from r21d_analysis.statistics.inference import Estimate, Outcomes, SeedVariance, check_same_items, estimate_mean
from r21d_core import R21DError
from r21d_core.runs.run import Run
from r21d_core.study.experiments import SPLIT
from r21d_core.study.spec import Spec

RGB, FLOW, FUSED = STREAMS = ("RGB", "Flow", "Two-Stream")  # as the paper's rows are named


@dataclass(frozen=True)
class Network:
    """A row of the tables: one network on one input, with its seeds and splits. Accuracies are in per cent.

    Values over several splits are plain means, as in the paper.
    """

    spec: Spec  # without seed, modality and splits
    stream: str  # one of STREAMS; FUSED is the mean of both softmax, seed by seed
    splits: dict[str, SeedGroup]  # by number, "" where the data names no split

    @property
    def source(self) -> str:
        """What it was pretrained on, a data set or a file; "" for one from scratch."""
        parent = self.spec.parent_spec
        return parent.data if parent else self.spec.init_file

    @property
    def training(self) -> str:
        """The origin of its weights in words."""
        return f"pretrained on {self.source}" if self.source else "from scratch"

    @property
    def clip_at_1(self) -> float:
        """clip@1."""
        return float(np.mean([group.clip_at_1 for group in self.splits.values()]))

    def video_at(self, k: int) -> float:
        """video@k."""
        return float(np.mean([group.video_at(k) for group in self.splits.values()]))

    @cached_property
    def accuracy(self) -> Estimate:
        """video@1 with its 95 % interval, by recording and seed."""
        return accuracy_over_splits(list(self.splits.values()))

    @property
    def rows(self) -> list[Network]:
        """A Network for each split, and of several splits all of them together at the end."""
        single: list[Network] = [replace(self, splits={name: group}) for name, group in self.splits.items()]
        return single + ([self] if len(single) > 1 else [])

    @property
    def split(self) -> str:
        """The names of its splits."""
        names = ", ".join(self.splits)
        return f"mean of {names}" if len(self.splits) > 1 else names


def networks(runs: Sequence[Run], groups: Sequence[SeedGroup] | None = None) -> tuple[list[Network], list[str]]:
    """The finished runs as Networks, RGB, flow and fused in turn, and a line for each pair that cannot be fused.

    Runs on a data set that others are only pretrained on are left out, unless all `groups` of `runs` are given.
    """
    runs = on_target(runs) if groups is None else runs
    requested = {(network_spec(run.spec), split_of(run.spec), run.spec.modality) for run in runs}
    by_spec: dict[Spec, dict[str, dict[str, SeedGroup]]] = {
        network_spec(run.spec): {stream: {} for stream in STREAMS} for run in runs
    }
    for group in group_by_seed(runs) if groups is None else groups:
        stream = FLOW if group.spec.modality == "flow" else RGB
        by_spec[network_spec(group.spec)][stream][split_of(group.spec)] = group
    problems, fused = [], defaultdict(list)
    for spec, streams in by_spec.items():
        for split in sorted({split for other, split, _ in requested if other == spec}):
            rgb, flow = (streams[stream].get(split) for stream in (RGB, FLOW))
            name = f"{spec.variant}, {Network(spec, FUSED, {}).training}" + (f", split {split}" if split else "")
            if rgb and flow:
                try:
                    streams[FUSED][split] = fuse_streams(rgb, flow, fused[rgb.spec.data, spec.task])
                except R21DError as error:
                    problems.append(f"{name}: {error}")
                    continue
            missing = _missing_seeds(rgb, flow)
            if missing and {(spec, split, modality) for modality in ("rgb", "flow")} <= requested:
                problems.append(f"{name}: {missing}")
    return [
        Network(spec, stream, dict(sorted(splits.items())))
        for spec, streams in by_spec.items()
        for stream, splits in streams.items()
        if splits
    ], problems


def _missing_seeds(rgb: SeedGroup | None, flow: SeedGroup | None) -> str:
    """Which stream lacks finished runs that the other has; "" if none."""
    seeds = [{run.spec.seed for run in group.runs} if group else set() for group in (rgb, flow)]
    parts = []
    for name, own, other in zip(("RGB", "flow"), seeds, seeds[::-1], strict=True):
        if other - own:
            with_seed = f" with seed {', '.join(map(str, sorted(other - own)))}" if own else ""
            parts.append(f"no finished run on {name}{with_seed}")
    return ", ".join(parts)


def fuse_streams(rgb: SeedGroup, flow: SeedGroup, peers: list[SeedGroup] | None = None) -> SeedGroup:
    """Both streams of one network fused, seed by seed, and appended to its `peers`.

    Raises R21DError where they share no seed.
    """
    by_seed = {run.spec.seed: scores for run, scores in zip(flow.runs, flow.scores, strict=True)}
    shared = _select_seeds(rgb, set(by_seed))
    if not shared.runs:
        raise R21DError("no seed has both streams")
    fused = [fuse(scores, by_seed[run.spec.seed]) for run, scores in zip(shared.runs, shared.scores, strict=True)]
    peers = [] if peers is None else peers
    peers.append(SeedGroup(rgb.spec, shared.runs, tuple(fused), peers=peers))
    return peers[-1]


def network_spec(spec: Spec) -> Spec:
    """`spec` without what the seeds, splits and streams of one network differ in."""
    return spec.replace(seed=0, modality="rgb", data=SPLIT.sub("", spec.data), init_from=SPLIT.sub("", spec.init_from))


def split_of(spec: Spec) -> str:
    """The number of the split that the data of `spec` names; "" for none."""
    match = SPLIT.search(spec.data)
    return match[1] if match else ""


def on_target(runs: Sequence[Run]) -> list[Run]:
    """`runs` without those on a data set that others are only pretrained on."""
    sources = {run.spec.parent_spec.data for run in runs if run.spec.parent_spec}
    targets = {run.spec.data for run in runs if run.spec.parent_spec}
    return [run for run in runs if run.spec.data in targets or run.spec.data not in sources]


def pretrained_pairs(rows: Sequence[Network]) -> list[tuple[Network, Network]]:
    """Each pretrained Network with the one that has its pretraining's recipe, from scratch on its own data."""
    by_spec = {(network.spec, network.stream): network for network in rows}
    pairs = []
    for network in rows:
        spec, parent = network.spec, network.spec.parent_spec
        if parent and parent.data != spec.data:
            scratch = by_spec.get((parent.replace(data=spec.data, eval_clips=spec.eval_clips), network.stream))
            pairs += [(network, scratch)] if scratch and set(network.splits) & set(scratch.splits) else []
    return pairs


def on_shared_splits(a: Network, b: Network) -> tuple[Network, Network]:
    """Both on the splits that both have; on the seeds that both have too if one is the fusion of the other."""
    names = [name for name in a.splits if name in b.splits]
    splits = [{name: network.splits[name] for name in names} for network in (a, b)]
    if same_weights(a, b):
        for name in names:
            seeds = set.intersection(*({run.spec.seed for run in side[name].runs} for side in splits))
            for side in splits:
                side[name] = _select_seeds(side[name], seeds)
    return replace(a, splits=splits[0]), replace(b, splits=splits[1])


def difference(network: Network, baseline: Network, seeds: SeedVariance | None = None) -> Estimate:
    """video@1 of two Networks, in points, on the splits that both have; raises R21DError if their videos differ.

    A fused Network and one of its streams have the same weights, so they are compared seed by seed; `seeds` is the
    variance of such differences, by default their own.
    """
    if same_weights(network, baseline):
        return estimate_mean(stream_differences(network, baseline), seeds)
    return accuracy_difference(*(list(side.splits.values()) for side in on_shared_splits(network, baseline)))


def stream_differences(network: Network, baseline: Network) -> list[Outcomes]:
    """Two Networks of the same weights, less each other seed by seed, in each split that both have."""
    sides = [list(side.splits.values()) for side in on_shared_splits(network, baseline)]
    for a, b in zip(*sides, strict=True):
        check_same_items(a.scores[0], b.scores[0])
    return [a.outcomes - b.outcomes for a, b in zip(*sides, strict=True)]


def same_weights(a: Network, b: Network) -> bool:
    """Whether one is the fusion of the other."""
    return a.spec == b.spec and FUSED in (a.stream, b.stream)


def _select_seeds(group: SeedGroup, seeds: set[int]) -> SeedGroup:
    pairs = [pair for pair in zip(group.runs, group.scores, strict=True) if pair[0].spec.seed in seeds]
    pairs.sort(key=lambda pair: pair[0].spec.seed)
    return replace(group, runs=tuple(run for run, _ in pairs), scores=tuple(scores for _, scores in pairs), peers=[])
