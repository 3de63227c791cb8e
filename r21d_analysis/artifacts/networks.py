"""Networks on RGB, on flow and on both streams fused, over seeds and splits (Section 4.4)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import log_softmax

from r21d_analysis.statistics.aggregate import (
    SeedGroup,
    accuracy_difference,
    accuracy_over_splits,
    group_all,
    on_shared_seeds,
    pooled_seed_variance,
    without_split,
)
from r21d_analysis.statistics.inference import (
    Estimate,
    Outcomes,
    SeedVariance,
    check_same_items,
    df_of_same_runs,
    estimate_mean,
    fold_variance,
    seed_variance,
)
from r21d_core import R21DError
from r21d_core.runs.run import Run
from r21d_core.runs.scores import Scores
from r21d_core.study.experiments import SPLIT
from r21d_core.study.spec import Spec
from r21d_core.study.variants import is_neighbor

SAME_PROTOCOL = ("clips", "crop", "averaging", "frames", "frame_stride", "task", "data", "split", "profile")
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


def collect_networks(runs: Sequence[Run], groups: Sequence[SeedGroup] | None = None) -> tuple[list[Network], list[str]]:
    """The finished runs as Networks, RGB, flow and fused in turn, and a line for each pair that cannot be fused.

    Runs on a data set that others are only pretrained on are left out, unless all `groups` of `runs` are given.
    """
    members = group_all(on_target(runs)) if groups is None else [(group.spec, group) for group in groups]
    requested: dict[Spec, dict[str, SeedGroup | None]] = {}  # the streams of each network on each split
    for spec, group in members:
        stream = FLOW if spec.modality == "flow" else RGB
        requested.setdefault(spec.replace(seed=0, modality="rgb"), {})[stream] = group
    by_spec: dict[Spec, dict[str, dict[str, SeedGroup]]] = {}  # the groups of each network by stream and split
    problems, peers = [], defaultdict(list)
    for spec, streams in requested.items():
        row, split = without_split(spec), split_of(spec)
        fused, problem = _try_to_fuse(streams, peers[spec.data, spec.task])
        by_stream = by_spec.setdefault(row, {stream: {} for stream in STREAMS})
        for stream, group in (streams | {FUSED: fused}).items():
            if group:
                by_stream[stream][split] = group
        if problem:
            training = Network(row, FUSED, {}).training
            problems.append(f"{spec.variant}, {training}{f', split {split}' if split else ''}: {problem}")
    return [
        Network(spec, stream, dict(sorted(splits.items())))
        for spec, by_stream in by_spec.items()
        for stream, splits in by_stream.items()
        if splits
    ], problems


def _try_to_fuse(streams: Mapping[str, SeedGroup | None], peers: list[SeedGroup]) -> tuple[SeedGroup | None, str]:
    """The two `streams` of one network fused, None if that cannot be, and what hinders it or which seeds are left out.

    A stream that was requested and has no finished run is None; a network of which one stream was requested has no
    problem.
    """
    if len(streams) < 2:
        return None, ""
    rgb, flow = streams[RGB], streams[FLOW]
    seeds = [f"seed {', '.join(str(run.spec.seed) for run in g.runs)}" if g else "no finished run" for g in (rgb, flow)]
    problem = f"{RGB} has {seeds[0]}, {FLOW} has {seeds[1]}" if seeds[0] != seeds[1] else ""
    if not (rgb and flow):
        return None, problem
    try:
        return fuse_streams(rgb, flow, peers), problem
    except R21DError as error:
        return None, str(error)


def fuse_streams(rgb: SeedGroup, flow: SeedGroup, peers: list[SeedGroup]) -> SeedGroup:
    """Both streams of one network fused, seed by seed, and appended to its `peers`.

    Raises R21DError where they share no seed.
    """
    rgb, flow = on_shared_seeds(rgb, flow)
    if not rgb.runs:
        raise R21DError("no seed has both streams")
    peers.append(SeedGroup(rgb.spec, rgb.runs, tuple(map(fuse, rgb.scores, flow.scores)), peers=peers))
    return peers[-1]


def fuse(a: Scores, b: Scores) -> Scores:
    """The Scores of the plain mean of both networks' softmax, clip by clip.

    Its logits are the logarithms of these means, so every metric of one network applies to the fused pair. Raises
    R21DError if items, labels, classes or protocols differ.
    """
    for key in SAME_PROTOCOL:
        if a.protocol.get(key) != b.protocol.get(key):
            raise R21DError(
                f"fusion: {key} is {a.protocol.get(key)!r} in the first run and {b.protocol.get(key)!r} in the second; "
                "fuse runs of one protocol"
            )
    pairs = ("classes", a.classes, b.classes), ("evaluated videos", a.videos.tolist(), b.videos.tolist())
    for name, ours, theirs in pairs:
        if ours != theirs:
            odd = sorted(set(ours) ^ set(theirs)) or ["their order"]
            raise R21DError(f"fusion: the {name} of the runs differ, first {odd[0]!r}; fuse runs of one manifest")
    if (a.labels != b.labels).any():
        video = a.videos[a.labels != b.labels][0]
        raise R21DError(f"fusion: the label of {str(video)!r} differs between the runs; fuse runs of one manifest")
    logits = np.logaddexp(log_softmax(a.logits, axis=2), log_softmax(b.logits, axis=2)) - np.log(2)
    streams = [scores.protocol.get("modality", "rgb") for scores in (a, b)]
    return replace(a, logits=logits, protocol=a.protocol | {"modality": " + ".join(streams)})


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
    pairs = {name: (group, b.splits[name]) for name, group in a.splits.items() if name in b.splits}
    if same_weights(a, b):
        pairs = {name: on_shared_seeds(*pair) for name, pair in pairs.items()}
    ours, theirs = ({name: pair[side] for name, pair in pairs.items()} for side in (0, 1))
    return replace(a, splits=ours), replace(b, splits=theirs)


def difference(network: Network, baseline: Network, seeds: SeedVariance | None = None) -> Estimate:
    """video@1 of two Networks, in points, on the splits that both have; R21DError without any, or if videos differ.

    A fused Network and one of its streams have the same weights, so they are compared seed by seed; `seeds` is the
    variance of such differences (`fusion_variance`), by default their own. Two inputs are two kinds of training, whose
    seeds need not vary alike, so their difference has the seeds' variance of these two Networks alone.
    """
    if not network.splits.keys() & baseline.splits.keys():
        ours, theirs = (", ".join(group.spec.data for group in s.splits.values()) for s in (network, baseline))
        name = network.spec.variant
        raise R21DError(f"{name}: its runs are on {ours}, the others on {theirs}; compare the same splits")
    if same_weights(network, baseline):
        return estimate_mean(stream_differences(network, baseline), seeds)
    splits, baselines = (list(side.splits.values()) for side in on_shared_splits(network, baseline))
    own = None
    if network.stream != baseline.stream:
        own = pooled_seed_variance([replace(group, peers=[]) for group in (*splits, *baselines)])
    return accuracy_difference(splits, baselines, own)


def stream_differences(network: Network, baseline: Network) -> list[Outcomes]:
    """Two Networks of the same weights, less each other seed by seed, in each split that both have."""
    sides = [list(side.splits.values()) for side in on_shared_splits(network, baseline)]
    for a, b in zip(*sides, strict=True):
        check_same_items(a.scores[0], b.scores[0])
    return [a.outcomes - b.outcomes for a, b in zip(*sides, strict=True)]


def fusion_variance(network: Network, baseline: Network, pairs: Sequence[tuple[Network, Network]]) -> SeedVariance:
    """The variance of the seed in the difference of a fused Network and one of its streams, pooled over `pairs`.

    Those count that are of the same weights; of other papers' networks a pair is alone. A network's differences to its
    two streams depend on each other, so they have fewer degrees of freedom than their number. Where all have one seed,
    it is that of the folds, as in `pooled_seed_variance`, over the networks that have all splits of this difference:
    each less the same stream.
    """
    alike = [pair for pair in pairs if same_weights(*pair) and not is_neighbor(pair[0].spec.variant)]
    alike = [(network, baseline)] if is_neighbor(network.spec.variant) else alike
    by_network: dict[Spec, list[list[Outcomes]]] = defaultdict(list)
    for a, b in alike:
        by_network[a.spec].append(stream_differences(a, b))
    pooled = seed_variance(outcomes for streams in by_network.values() for splits in streams for outcomes in splits)
    if pooled.df:
        both = [split for streams in by_network.values() for split in zip(*streams, strict=True)]
        means = [np.array([outcomes.values.mean(axis=1) for outcomes in split]) for split in both]
        return replace(pooled, df=df_of_same_runs(means))
    names, rows = on_shared_splits(network, baseline)[0].splits, []
    for a, b in alike:
        splits = on_shared_splits(a, b)[0].splits
        if (a.spec.data, b.stream) == (network.spec.data, baseline.stream) and splits.keys() >= names.keys():
            by_split = dict(zip(splits, stream_differences(a, b), strict=True))
            rows.append([by_split[name] for name in names])
    items = [outcomes.groups.tolist() for outcomes in stream_differences(network, baseline)]
    return fold_variance([row for row in rows if [outcomes.groups.tolist() for outcomes in row] == items])


def same_weights(a: Network, b: Network) -> bool:
    """Whether one is the fusion of the other."""
    return a.spec == b.spec and FUSED in (a.stream, b.stream)
