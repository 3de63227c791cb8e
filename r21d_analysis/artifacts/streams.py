"""Two streams and pretraining: Tables 4, 5 and 6, from the scores of runs on RGB and on flow (Section 4.4)."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from r21d_analysis.artifacts.tables import format_p, protocol_line, style_table
from r21d_analysis.statistics.aggregate import SeedGroup, group_by_seed
from r21d_analysis.statistics.fusion import fuse
from r21d_analysis.statistics.inference import bootstrap_ci_splits, compare_splits, correct_by_seed, holm
from r21d_core import R21DError
from r21d_core.runs.run import Run
from r21d_core.study.experiments import SPLIT
from r21d_core.study.paper import paper_table
from r21d_core.study.spec import Spec

RGB, FLOW, FUSED = STREAMS = ("RGB", "Flow", "Two-Stream")  # as the paper's rows are named


@dataclass(frozen=True)
class Network:
    """A row of the tables: one network and input, its seeds and splits together. Accuracies are in per cent.

    `key` is the Spec without seed, modality and splits; `splits` are by their number, "" where the data names none.
    A number over several splits is their plain mean, as in the paper.
    """

    key: Spec
    stream: str  # one of STREAMS; both are the mean of their softmax, seed by seed
    splits: dict[str, SeedGroup]

    @property
    def source(self) -> str:
        """What it was pretrained on, a data set or a file; "" for one from scratch."""
        before = self.key.parent_spec
        return before.data if before else self.key.init_file

    @property
    def how(self) -> str:
        return f"pretrained on {self.source}" if self.source else "from scratch"

    @property
    def clip_at_1(self) -> float:
        return float(np.mean([one.clip_at_1 for one in self.splits.values()]))

    def video_at(self, k: int) -> float:
        return float(np.mean([one.video_at(k) for one in self.splits.values()]))

    @property
    def interval(self) -> tuple[float, float]:
        """Of video@1: 95 %, by a bootstrap over the videos and seeds of each split."""
        low, high = bootstrap_ci_splits([(correct_by_seed(one.scores), None) for one in self.splits.values()])
        return 100 * low, 100 * high

    @property
    def each(self) -> list[Network]:
        """One for each split, and where there are several all of them together at the end."""
        single = [replace(self, splits={name: one}) for name, one in self.splits.items()]
        return single + ([self] if len(single) > 1 else [])

    @property
    def split(self) -> str:
        names = ", ".join(self.splits)
        return f"mean of {names}" if len(self.splits) > 1 else names


def networks(runs: Sequence[Run], *, sources: bool = False) -> tuple[list[Network], list[str]]:
    """The finished runs as Networks, RGB, flow and fused of each one after another, and what could not be fused.

    Runs on a data set that others are only pretrained on are left out, unless `sources` are asked for.
    """
    runs = runs if sources else _on_target(runs)
    asked = {(key_of(run.spec), split_of(run.spec), run.spec.modality) for run in runs}
    found: dict[Spec, dict[str, dict[str, SeedGroup]]] = {key_of(run.spec): {} for run in runs}
    for one in group_by_seed(runs):
        stream = FLOW if one.spec.modality == "flow" else RGB
        found[key_of(one.spec)].setdefault(stream, {})[split_of(one.spec)] = one
    rows, apart = [], []
    for key, streams in found.items():
        streams[FUSED] = {}
        for split in sorted({split for of, split, _ in asked if of == key}):
            pair = [streams.get(stream, {}).get(split) for stream in (RGB, FLOW)]
            of = f"{key.variant}, {Network(key, FUSED, {}).how}" + (f", split {split}" if split else "")
            try:
                if all(pair):
                    streams[FUSED][split] = two_streams(*pair)
            except R21DError as error:
                apart.append(f"{of}: {error}")
                continue
            seeds = [{run.spec.seed for run in one.runs} if one else set() for one in pair]
            lacking = [
                f"no finished run on {name}{_told(other - mine) if mine else ''}"
                for name, mine, other in zip(("RGB", "flow"), seeds, seeds[::-1], strict=True)
                if other - mine
            ]
            if lacking and {(key, split, modality) for modality in ("rgb", "flow")} <= asked:
                apart.append(f"{of}: {', '.join(lacking)}")
        rows += [Network(key, stream, dict(sorted(splits.items()))) for stream in STREAMS
                 if (splits := streams.get(stream))]  # fmt: skip
    return rows, apart


def _told(seeds: set[int]) -> str:
    return f" with seed {', '.join(map(str, sorted(seeds)))}"


def two_streams(rgb: SeedGroup, flow: SeedGroup) -> SeedGroup:
    """Both streams of one network fused, seed by seed, for the seeds that both have; R21DError where none can be."""
    other = {run.spec.seed: scores for run, scores in zip(flow.runs, flow.scores, strict=True)}
    pairs = [
        (run, fuse(scores, other[run.spec.seed]))
        for run, scores in zip(rgb.runs, rgb.scores, strict=True)
        if run.spec.seed in other
    ]
    if not pairs:
        raise R21DError("no seed has both streams")
    fused_runs, scores = zip(*pairs, strict=True)
    return SeedGroup(rgb.spec, fused_runs, scores)


def key_of(spec: Spec) -> Spec:
    """The Spec that all seeds, splits and streams of a network have in common."""
    return spec.replace(seed=0, modality="rgb", data=SPLIT.sub("", spec.data), init_from=SPLIT.sub("", spec.init_from))


def split_of(spec: Spec) -> str:
    found = SPLIT.search(spec.data)
    return found[1] if found else ""


def _on_target(runs: Sequence[Run]) -> list[Run]:
    starts = {run.spec.parent_spec for run in runs if run.spec.parent_spec}
    before = {spec.data for spec in starts}
    wanted = {run.spec.data for run in runs if run.spec.parent_spec}
    return [run for run in runs if run.spec.data in wanted or run.spec.data not in before]


# --- the tables -----------------------------------------------------------------------------------------------------


def stream_table(runs: Sequence[Run], table: int) -> pd.DataFrame:
    """Table 4, 5 or 6: a row a network, input and split, the paper's columns for `table` beside what was measured.

    The paper's numbers stand beside its own networks: in Table 4 at 8 or 32 frames, 8 for any other clip length; in
    Table 6, averages over three splits, on the last row of each network. It printed none for networks from scratch
    there. Accuracies in per cent; `videos` are those evaluated of those listed, in all splits of the row.
    """
    rows = []
    for network in networks(runs)[0]:
        for one in network.each:
            classes = len(next(iter(one.splits.values())).scores[0].classes)
            rows.append(
                {
                    ("", "network"): f"{one.key.variant}-{one.key.depth}",
                    ("", "frames"): str(one.key.frames),
                    ("", "weights"): one.how,
                    ("", "input"): one.stream,
                    ("", "split"): one.split,
                    **papers_cells(table, one, last=len(one.splits) == len(network.splits)),
                    ("here", "clip@1"): one.clip_at_1,
                    ("here", "video@1"): one.video_at(1),
                    ("here", "95 % interval"): "{:.1f} to {:.1f}".format(*one.interval),
                    ("here", "video@5"): one.video_at(5) if classes > 5 else np.nan,
                    ("here", "videos"): _videos(one),
                    ("here", "seeds"): _seeds(one),
                }
            )
    return pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(rows[0])) if rows else pd.DataFrame()


def show_stream_table(runs: Sequence[Run], table: int) -> Styler | Markdown:
    """`stream_table` for a notebook, its protocol above it, and which streams could not be fused and why."""
    found = stream_table(runs, table)
    if found.empty:
        return Markdown("*No run on this data is finished, so there is nothing to show yet.*")
    constant = [("", name) for name in ("frames", "weights", "split") if found["", name].nunique() == 1]
    found = found.drop(columns=constant)
    empty = [column for column in found.columns if column[0] == "here" and found[column].isna().all()]
    return style_table(found.drop(columns=empty), _caption(runs), {}).hide(axis="index")


def stream_gain(runs: Sequence[Run]) -> Styler | Markdown:
    """On the same videos: what both streams gain over each, what flow gains over RGB, what R(2+1)D over the others.

    Over all splits at once; a row a comparison, for a notebook.
    """
    found, pairs = networks(runs)[0], []
    by_name = {(one.key, one.stream): one for one in found}
    for one in found:
        others = {FUSED: (RGB, FLOW), FLOW: (RGB,), RGB: ()}[one.stream]
        pairs += [(one, by_name[one.key, stream]) for stream in others if (one.key, stream) in by_name]
        best = by_name.get((one.key.replace(variant="R(2+1)D"), one.stream))
        pairs += [(best, one)] if best not in (None, one) else []
    return _differences(runs, pairs, "*A comparison takes two streams, or two networks on one, both finished.*")


def pretraining_gain(runs: Sequence[Run]) -> Styler | Markdown:
    """On the same videos: each pretrained network less the one from scratch, for each split and over all of them."""
    pairs = [
        pair
        for one, other in pretrained_pairs(networks(runs)[0])
        for pair in zip(*(two.each for two in shared(one, other)), strict=True)
    ]
    return _differences(runs, pairs, "*A comparison takes a pretrained network and its like from scratch, both done.*")


def pretrained_pairs(found: Sequence[Network]) -> list[tuple[Network, Network]]:
    """Each pretrained Network that has its like from scratch: the recipe it was pretrained by, on its own data."""
    by_name = {(one.key, one.stream): one for one in found}
    pairs = []
    for one in found:
        before = one.key.parent_spec
        if before and before.data != one.key.data:
            other = by_name.get((before.replace(data=one.key.data, eval_clips=one.key.eval_clips), one.stream))
            pairs += [(one, other)] if other and set(one.splits) & set(other.splits) else []
    return pairs


def shared(one: Network, other: Network) -> tuple[Network, Network]:
    """Both on the splits that both have; where one is made of the other's very networks, of the seeds of both too."""
    names = [name for name in one.splits if name in other.splits]
    two = [{name: of.splits[name] for name in names} for of in (one, other)]
    if _same_weights(one, other):
        for name in names:
            seeds = set.intersection(*({run.spec.seed for run in splits[name].runs} for splits in two))
            for splits in two:
                splits[name] = _of_seeds(splits[name], seeds)
    return replace(one, splits=two[0]), replace(other, splits=two[1])


def difference(one: Network, other: Network) -> dict[str, float]:
    """`compare_over` of two Networks on the splits that both have; raises R21DError if their videos differ."""
    both = shared(one, other)
    pairs = [tuple(of.splits[name].scores for of in both) for name in both[0].splits]
    return compare_splits(pairs, same_weights=_same_weights(one, other))


def _same_weights(one: Network, other: Network) -> bool:
    return one.key == other.key and FUSED in (one.stream, other.stream)


def _of_seeds(one: SeedGroup, seeds: set[int]) -> SeedGroup:
    kept = [pair for pair in zip(one.runs, one.scores, strict=True) if pair[0].spec.seed in seeds]
    runs, scores = zip(*sorted(kept, key=lambda pair: pair[0].spec.seed), strict=True)
    return SeedGroup(one.spec, runs, scores)


def _differences(runs: Sequence[Run], pairs: Sequence[tuple[Network, Network]], none: str) -> Styler | Markdown:
    results, apart = [], []
    for one, other in pairs:
        try:
            results.append((one, other, difference(one, other)))
        except R21DError as error:
            apart.append(f"{one.key.variant}, {one.how}, {one.stream}: {error}")
    if not results:
        return Markdown(none + "".join(f" {html.escape(line)}." for line in apart))
    several = len({one.key.frames for one, *_ in results}) > 1
    splits = [shared(one, other)[0].split for one, other, _ in results]
    p = np.array([result["p"] for *_, result in results])
    for split in set(splits):  # what is asked of one split, or of all together, is one family
        of_split = [name == split for name in splits]
        p[of_split] = holm(p[of_split])
    rows = [
        {
            ("", "of"): ", ".join(_aspects(one, other, several, alike=True)),
            ("", "comparison"): " less ".join(
                ", ".join(_aspects(*two, several)) for two in ((one, other), (other, one))
            ),
            ("", "split"): split,
            ("here", "video@1 (points)"): f"{100 * result['difference']:+.1f}",
            ("here", "95 % interval"): f"{100 * result['low']:+.1f} to {100 * result['high']:+.1f}",
            ("here", "p over videos, Holm"): format_p(corrected),
            ("here", "videos"): str(result["videos"]),
        }
        for (one, other, result), split, corrected in zip(results, splits, p, strict=True)
    ]
    table = pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(rows[0]))
    if not any(splits):
        table = table.drop(columns=[("", "split")])
    return style_table(table, _caption(runs, apart), {}).hide(axis="index")


def _aspects(one: Network, other: Network, several: bool, alike: bool = False) -> list[str]:
    """What two Networks have in common, or, if not `alike`, what the first is that the other is not."""
    two = [
        [of.key.variant, *([f"{of.key.frames} frames"] if several else []), of.how, of.stream] for of in (one, other)
    ]
    return [mine for mine, theirs in zip(*two, strict=True) if (mine == theirs) == alike]


def _caption(runs: Sequence[Run], apart: Sequence[str] | None = None) -> str:
    """The protocol of what is shown, and what is not: what could not be fused, or else `apart`."""
    apart = [f"not fused: {line}" for line in networks(runs)[1]] if apart is None else apart
    return "; ".join([protocol_line(_on_target(runs)), *apart])


def papers_cells(table: int, one: Network, last: bool = True) -> dict[tuple[str, str], float | str]:
    """The paper's cells of a row of `table`; NaN where it printed none."""
    rows, variant, stream = paper_table(table), one.key.variant, one.stream
    if table == 4:
        frames = one.key.frames if one.key.frames in (8, 32) else 8
        cells = rows.get(f"{variant}-{stream}-{frames}frame", {})
        side = "paper, Sports-1M"
        told = {(side, "frames"): str(frames) if cells else "–"}
        return told | {(side, name): cells.get(name, np.nan) for name in ("clip@1", "video@1", "video@5")}
    if table == 5:
        cells = rows.get(f"{variant}-{stream} ({'Sports-1M' if one.source else 'none'})", {})
        names = {"top1": "video@1", "top5": "video@5"}
        return {("paper, Kinetics-400", name): cells.get(theirs, np.nan) for theirs, name in names.items()}
    found = {}
    for source, name in (("Sports1M", "Sports-1M"), ("Kinetics", "Kinetics")):
        cells = rows.get(f"{variant}-{stream.replace('-', '')} ({source})", {}) if one.source and last else {}
        found |= {(f"paper, from {name}", data): cells.get(data, np.nan) for data in ("UCF101", "HMDB51")}
    return found


def _videos(one: Network) -> str:
    told = [of.scores[0].protocol for of in one.splits.values()]
    return f"{sum(p['videos_evaluated'] for p in told):,} of {sum(p['videos_listed'] for p in told):,}"


def _seeds(one: Network) -> str:
    """How many there are and, of one split, from which video@1 to which they reach."""
    counts = sorted({len(of.scores) for of in one.splits.values()})
    if len(one.splits) > 1 or counts == [1]:
        return " to ".join(map(str, counts if len(counts) == 1 else (counts[0], counts[-1])))
    low, high = next(iter(one.splits.values())).seed_range
    return f"{counts[0]} ({low:.1f} to {high:.1f})"
