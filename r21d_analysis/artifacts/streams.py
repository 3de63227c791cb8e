"""Tables 4, 5 and 6: two streams, pretraining and what each gains, from the scores of runs (Section 4.4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from r21d_analysis.artifacts.networks import (
    FLOW,
    FUSED,
    RGB,
    Network,
    difference,
    networks,
    on_shared_splits,
    on_target,
    pretrained_pairs,
    same_weights,
    stream_differences,
)
from r21d_analysis.artifacts.tables import INTERVALS, comparison_caption, format_p, protocol_line
from r21d_analysis.statistics.inference import family_p, format_interval, seed_variance
from r21d_analysis.style import NO_RUNS, note, style_table
from r21d_core import R21DError
from r21d_core.runs.run import Run
from r21d_core.study.paper import paper_table


def stream_table(runs: Sequence[Run], table: int) -> pd.DataFrame:
    """Table 4, 5 or 6: a row for each network, input and split, the paper's columns for `table` beside those of `runs`.

    The paper's numbers stand beside its own networks: in Table 4 at 8 or 32 frames, 8 for any other clip length; in
    Table 6, averages over three splits of pretrained networks, on the last row of each network. Accuracies in per cent;
    `videos` are those evaluated of those listed, in all splits of the row.
    """
    rows = []
    for network in networks(runs)[0]:
        for row in network.rows:
            classes = len(next(iter(row.splits.values())).scores[0].classes)
            cells = {
                ("", "network"): f"{row.spec.variant}-{row.spec.depth}",
                ("", "frames"): str(row.spec.frames),
                ("", "weights"): row.training,
                ("", "input"): row.stream,
                ("", "split"): row.split,
            }
            here = {
                "clip@1": row.clip_at_1,
                "video@1": row.video_at(1),
                "95 % interval": format_interval(row.accuracy.low, row.accuracy.high),
                "video@5": row.video_at(5) if classes > 5 else np.nan,
                "videos": _format_videos(row),
                "seeds": _format_seeds(row),
            }
            cells |= paper_cells(table, row, last=len(row.splits) == len(network.splits))
            rows.append(cells | {("here", name): value for name, value in here.items()})
    return pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(rows[0])) if rows else pd.DataFrame()


def show_stream_table(runs: Sequence[Run], table: int) -> Styler | Markdown:
    """`stream_table` for a notebook; the caption gives the protocol and the streams that could not be fused."""
    frame = stream_table(runs, table)
    if frame.empty:
        return note(f"{NO_RUNS} on this data")
    constant = [("", name) for name in ("frames", "weights", "split") if frame["", name].nunique() == 1]
    empty = [column for column in frame.columns if column[0] == "here" and frame[column].isna().all()]
    return style_table(frame.drop(columns=constant + empty), _caption(runs, [INTERVALS, *_unfused(runs)]))


def stream_gain(runs: Sequence[Run]) -> Styler | Markdown:
    """Differences on the same videos, over all splits: both streams minus each, flow minus RGB, R(2+1)D minus others.

    A row for each comparison, for a notebook.
    """
    rows, pairs = networks(runs)[0], []
    by_spec = {(network.spec, network.stream): network for network in rows}
    for network in rows:
        spec, stream = network.spec, network.stream
        baselines = {FUSED: (RGB, FLOW), FLOW: (RGB,), RGB: ()}[stream]
        pairs += [(network, by_spec[spec, name]) for name in baselines if (spec, name) in by_spec]
        best = by_spec.get((spec.replace(variant="R(2+1)D"), stream))
        pairs += [(best, network)] if best not in (None, network) else []
    return _differences(runs, pairs, "a comparison needs two streams, or two networks on one, both finished")


def pretraining_gain(runs: Sequence[Run]) -> Styler | Markdown:
    """Each pretrained network minus the same from scratch on the same videos, for each split and over all of them."""
    pairs = [
        pair
        for pretrained, scratch in pretrained_pairs(networks(runs)[0])
        for pair in zip(*(network.rows for network in on_shared_splits(pretrained, scratch)), strict=True)
    ]
    return _differences(runs, pairs, "a comparison needs a network pretrained and from scratch, both finished")


def _differences(runs: Sequence[Run], pairs: Sequence[tuple[Network, Network]], needed: str) -> Styler | Markdown:
    estimates, problems = [], []
    alike = [pair for pair in pairs if same_weights(*pair)]
    for a, b in pairs:
        try:
            pooled = seed_variance(split for pair in alike for split in stream_differences(*pair))
            estimates.append((a, b, on_shared_splits(a, b)[0].split, difference(a, b, pooled)))
        except R21DError as error:
            problems.append(f"{a.spec.variant}, {a.training}, {a.stream}: {error}")
    if not estimates:
        return note("; ".join([needed, *problems]))
    several = len({a.spec.frames for a, *_ in estimates}) > 1
    p = family_p([estimate for *_, estimate in estimates])
    rows = [
        {
            ("", "of"): ", ".join(_aspects(a, b, several, shared=True)),
            ("", "comparison"): " minus ".join(", ".join(_aspects(*pair, several)) for pair in ((a, b), (b, a))),
            ("", "split"): split,
            ("here", "video@1 (points)"): f"{estimate.value:+.1f}",
            ("here", "95 % interval"): format_interval(estimate.low, estimate.high, "+.1f"),
            ("here", "p, Holm"): format_p(corrected),
            ("here", "videos"): str(estimate.items),
        }
        for (a, b, split, estimate), corrected in zip(estimates, p, strict=True)
    ]
    table = pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(rows[0]))
    table = table if table["", "split"].any() else table.drop(columns=[("", "split")])
    return style_table(table, _caption(runs, [comparison_caption([e for *_, e in estimates]), *problems]))


def _aspects(a: Network, b: Network, several: bool, shared: bool = False) -> list[str]:
    """What two Networks have in common, or, if not `shared`, what the first is that the second is not."""
    pair = [[n.spec.variant, *([f"{n.spec.frames} frames"] if several else []), n.training, n.stream] for n in (a, b)]
    return [own for own, other in zip(*pair, strict=True) if (own == other) == shared]


def _unfused(runs: Sequence[Run]) -> list[str]:
    return [f"not fused: {line}" for line in networks(runs)[1]]


def _caption(runs: Sequence[Run], problems: Sequence[str]) -> str:
    return "; ".join([protocol_line(on_target(runs)), *problems])


def paper_cells(table: int, network: Network, last: bool = True) -> dict[tuple[str, str], float | str]:
    """The paper's cells of a row of `table`; NaN where it printed none."""
    rows, variant, stream, pretrained = paper_table(table), network.spec.variant, network.stream, bool(network.source)
    if table == 4:
        frames = network.spec.frames if network.spec.frames in (8, 32) else 8
        cells = rows.get(f"{variant}-{stream}-{frames}frame", {})
        side = "paper, Sports-1M"
        row = {(side, "frames"): str(frames) if cells else "–"}
        return row | {(side, name): cells.get(name, np.nan) for name in ("clip@1", "video@1", "video@5")}
    if table == 5:
        cells = rows.get(f"{variant}-{stream} ({'Sports-1M' if pretrained else 'none'})", {})
        names = {"top1": "video@1", "top5": "video@5"}
        return {("paper, Kinetics-400", name): cells.get(column, np.nan) for column, name in names.items()}
    row = {}
    for source, name in (("Sports1M", "Sports-1M"), ("Kinetics", "Kinetics")):
        cells = rows.get(f"{variant}-{stream.replace('-', '')} ({source})", {}) if pretrained and last else {}
        row |= {(f"paper, from {name}", data): cells.get(data, np.nan) for data in ("UCF101", "HMDB51")}
    return row


def _format_videos(network: Network) -> str:
    protocols = [group.scores[0].protocol for group in network.splits.values()]
    evaluated, listed = (sum(p[key] for p in protocols) for key in ("videos_evaluated", "videos_listed"))
    return f"{evaluated:,} of {listed:,}"


def _format_seeds(network: Network) -> str:
    """The number of seeds and, of one split with several, the range of their video@1."""
    counts = sorted({len(group.scores) for group in network.splits.values()})
    if counts == [1]:
        return "1 seed"
    if len(network.splits) > 1:
        return " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    (group,) = network.splits.values()
    return f"{counts[0]} ({format_interval(*group.seed_range)})"
