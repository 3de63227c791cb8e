"""Figures of Tables 4, 5 and 6: accuracy by stream, from scratch and pretrained, and by class on RGB and flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from r21d_analysis.artifacts.networks import FLOW, RGB, STREAMS, Network, networks, on_shared_splits
from r21d_analysis.artifacts.streams import paper_cells
from r21d_analysis.statistics.aggregate import SeedGroup
from r21d_analysis.statistics.metrics import per_class
from r21d_analysis.style import ERROR_BAR, GRAY, PALETTE, figure_of_runs, note
from r21d_core.runs.run import Run
from r21d_core.study.spec import Spec

STREAM_STYLE = {
    stream: {"color": color, "marker": marker, "ls": "none"} | ERROR_BAR
    for stream, color, marker in zip(STREAMS, (PALETTE[0], PALETTE[1], PALETTE[2]), "osD", strict=True)
}
TRAINING_STYLE = {
    "from scratch": ERROR_BAR | {"ls": "none", "color": GRAY, "marker": "o"},
    "pretrained": ERROR_BAR | {"ls": "none", "color": PALETTE[3], "marker": "^"},
}
MAX_CLASSES = 24


@figure_of_runs
def stream_figure(groups: list[SeedGroup], runs: Sequence[Run], *, table: int) -> Figure | None:
    """video@1 of RGB, flow and both, a line for each network: the paper's panel of `table` (4 or 5) beside ours, whose
    bars are 95 % intervals.
    """
    rows = networks(runs)[0]
    if not rows:
        return None
    specs, printed = list(dict.fromkeys(network.spec for network in rows)), {}
    size = (9.5, 0.62 * len(specs) + 1.9)
    figure, (papers, ours) = plt.subplots(1, 2, figsize=size, sharey=True, layout="constrained")
    for network in rows:
        place, look = (
            specs.index(network.spec) + 0.2 * (STREAMS.index(network.stream) - 1),
            STREAM_STYLE[network.stream],
        )
        ours.errorbar(network.video_at(1), place, xerr=network.accuracy.error_bar, **look)
        value = next(cell for (_, name), cell in paper_cells(table, network).items() if name == "video@1")
        papers.plot(value, place, color=GRAY, marker=look["marker"], ls="none", ms=7, mec="white")
        printed.setdefault(network.spec, []).append(value)
    for place, spec in enumerate(specs):
        if np.isnan(printed[spec]).all():
            papers.annotate("no video@1 printed", (0.03, place), xycoords=("axes fraction", "data"), color=GRAY, size=8)
    papers.set(title=f"paper: {'Sports-1M' if table == 4 else 'Kinetics'}, 34 layers", xlabel="video@1 (%)")
    ours.set(title=f"here: {specs[0].data}, {specs[0].depth} layers", xlabel="video@1 (%)")
    papers.set_yticks(range(len(specs)), [_name(spec, rows) for spec in specs], parse_math=False)
    papers.set_ylim(len(specs) - 0.5, -0.5)
    for axes in (papers, ours):
        axes.grid(axis="y", visible=False)
        axes.title.set_parse_math(False)
    _legend(figure, STREAM_STYLE, [network.stream for network in rows])
    return figure


@figure_of_runs
def split_figure(groups: list[SeedGroup], runs: Sequence[Run]) -> Figure | None:
    """video@1 from scratch and pretrained, for each split and the mean of those that both have; 95 % intervals."""
    rows = networks(runs)[0]
    if not rows:
        return None
    streams = [stream for stream in STREAMS if any(network.stream == stream for network in rows)]
    variants = list(dict.fromkeys(network.spec.variant for network in rows))
    names = sorted({name for network in rows for name in network.splits})
    places = [*names, "mean"] if len(names) > 1 else names
    size = (2.9 * len(streams) + 1.6, 3.1 * len(variants) + 0.3)
    figure, panels = plt.subplots(
        len(variants), len(streams), figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for network in rows:
        variant, stream = network.spec.variant, network.stream
        axes = panels[variants.index(variant), streams.index(stream)]
        panel = [other.splits for other in rows if (other.spec.variant, other.stream) == (variant, stream)]
        common = {n: group for n, group in network.splits.items() if all(n in splits for splits in panel)}
        points = [(row, names.index(row.split)) for row in network.rows if len(row.splits) == 1]
        points += [(replace(network, splits=common), len(names))] if len(common) > 1 else []
        if 1 < len(common) < len(names):
            axes.text(len(names), 0.02, f"of {', '.join(common)}", transform=axes.get_xaxis_transform(), ha="center",
                      size=8, color=GRAY)  # fmt: skip
        shift, look = (
            (0.09, TRAINING_STYLE["pretrained"]) if network.source else (-0.09, TRAINING_STYLE["from scratch"])
        )
        for point, place in points:
            axes.errorbar(place + shift, point.video_at(1), point.accuracy.error_bar, **look)
    for variant, line in zip(variants, panels, strict=True):
        line[0].set_ylabel("video@1 (%)")
        for axes, stream in zip(line, streams, strict=True):
            axes.set(title=stream if len(variants) == 1 else f"{variant}, {stream}", xlim=(-0.5, len(places) - 0.5))
            axes.set_xticks(range(len(places)), [f"split {name}" if name.isdigit() else name for name in places])
            axes.grid(axis="x", visible=False)
            if len(names) > 1:
                axes.axvline(len(names) - 0.5, color=GRAY, lw=0.8)
    _legend(figure, TRAINING_STYLE, ["pretrained" if network.source else "from scratch" for network in rows])
    return figure


def class_accuracy(a: Network, b: Network) -> pd.DataFrame:
    """A row for each class: its video@1 in per cent by each Network, their difference in points, and its videos.

    Over the seeds and all videos of the splits that both have; the classes with the largest gain of `b` come first.
    """
    totals = []
    for network in on_shared_splits(a, b):
        counts = pd.concat([per_class(scores) for group in network.splits.values() for scores in group.scores])
        counts["correct"] = (counts["video@1"] * counts["n"]).fillna(0)
        total = counts.groupby("class", sort=False)[["correct", "n"]].sum()
        totals.append(total.assign(accuracy=100 * total["correct"] / total["n"].where(total["n"] > 0)))
    seeds = np.mean([len(group.scores) for group in a.splits.values()])
    table = pd.DataFrame({a.stream: totals[0]["accuracy"], b.stream: totals[1]["accuracy"]})
    table["difference"] = table[b.stream] - table[a.stream]
    table["videos"] = (totals[0]["n"] / seeds).round().astype(int)
    return table.dropna().sort_values("difference", ascending=False, kind="stable")


def class_figure(runs: Sequence[Run]) -> Figure | Markdown:
    """video@1 of each class on RGB and on flow, a panel for each network, the classes with the largest gain by flow
    first; of many classes those at both ends.
    """
    rows = networks(runs)[0]
    flow = {network.spec: network for network in rows if network.stream == FLOW}
    pairs = [(network, flow[network.spec]) for network in rows if network.stream == RGB and network.spec in flow]
    pairs = [pair for pair in pairs if on_shared_splits(*pair)[0].splits]
    if not pairs:
        return note("accuracy by class needs a network on RGB and on flow, both finished")
    return _class_figure(runs, pairs=pairs)


@figure_of_runs
def _class_figure(groups: list[SeedGroup], runs: Sequence[Run], *, pairs: list[tuple[Network, Network]]) -> Figure:
    tables = [class_accuracy(*pair) for pair in pairs]
    half = MAX_CLASSES // 2
    tables = [pd.concat([t.head(half), t.tail(half)]) if len(t) > MAX_CLASSES else t for t in tables]
    figure, panels = plt.subplots(
        1, len(pairs), figsize=(4.6 * len(pairs) + 0.8, 0.26 * max(map(len, tables)) + 1.5),
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for axes, table, (rgb, _) in zip(panels[0], tables, pairs, strict=True):
        _draw_classes(axes, table)
        axes.set_title(_name(rgb.spec, [rgb for rgb, _ in pairs]), parse_math=False, size=10)
    _legend(figure, STREAM_STYLE, [RGB, FLOW])
    return figure


def _draw_classes(axes: Axes, table: pd.DataFrame) -> None:
    places = np.arange(len(table))
    axes.hlines(places, table[RGB], table[FLOW], color=GRAY, lw=1.2, zorder=1)
    for stream, shift in ((RGB, -0.12), (FLOW, 0.12)):  # keeps equal ones apart
        look = {key: STREAM_STYLE[stream][key] for key in ("color", "marker", "ls", "ms", "mec")}
        axes.plot(table[stream], places + shift, **look)
    labels = [f"{name} ({videos})" for name, videos in zip(table.index, table["videos"], strict=True)]
    axes.set_yticks(places, labels, parse_math=False, size=8)
    axes.set(xlim=(-4, 104), ylim=(len(table) - 0.5, -0.5), xlabel="video@1 of the class (%)")


def _name(spec: Spec, rows: Sequence[Network]) -> str:
    """The variant, with clip length and training where `rows` differ in them."""
    specs = {network.spec for network in rows}
    parts = [spec.variant]
    if len({other.frames for other in specs}) > 1:
        parts.append(f"{spec.frames} frames")
    if any(other.init_from for other in specs):
        parts.append("pretrained" if spec.init_from else "from scratch")
    return ", ".join(parts)


def _legend(figure: Figure, styles: dict, names: Sequence[str]) -> None:
    keys = ("color", "marker", "ls", "ms", "mec")
    handles = [plt.Line2D([], [], label=name, **{key: style[key] for key in keys})
               for name, style in styles.items() if name in names]  # fmt: skip
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
