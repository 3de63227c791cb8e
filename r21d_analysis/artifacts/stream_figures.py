"""Tables 4, 5 and 6 as pictures: each stream's accuracy, what pretraining gains, which classes motion helps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from r21d_analysis.artifacts.figures import GREY, PALETTE, of_runs
from r21d_analysis.artifacts.streams import FLOW, RGB, STREAMS, Network, networks, papers_cells, shared
from r21d_analysis.statistics.aggregate import SeedGroup
from r21d_core.runs.metrics import per_class
from r21d_core.runs.run import Run

LOOKS = {
    stream: {"color": colour, "marker": marker, "ms": 7, "mec": "white", "lw": 1, "ls": "none"}
    for stream, colour, marker in zip(STREAMS, (PALETTE[0], PALETTE[1], "black"), "osD", strict=True)
}
START_LOOKS = {
    pretrained: LOOKS[RGB] | {"color": colour, "marker": marker}
    for pretrained, colour, marker in ((False, GREY, "o"), (True, PALETTE[3], "^"))
}
MOST_CLASSES = 24


@of_runs
def stream_figure(members: list[SeedGroup], runs: Sequence[Run], *, table: int) -> Figure | None:
    """video@1 of RGB, flow and both, a line a network: the paper's panel of `table` (4 or 5) beside ours, whose bars
    are 95 % intervals."""
    found = networks(runs)[0]
    if not found:
        return None
    lines, papers = list(dict.fromkeys(one.key for one in found)), {}
    size = (9.5, 0.62 * len(lines) + 1.9)
    figure, (theirs, ours) = plt.subplots(1, 2, figsize=size, sharey=True, layout="constrained")
    for one in found:
        place = lines.index(one.key) + 0.2 * (STREAMS.index(one.stream) - 1)
        value, (low, high) = one.video_at(1), one.interval
        ours.errorbar(value, place, xerr=[[value - low], [high - value]], capsize=2, **LOOKS[one.stream])
        printed = next(cell for (_, name), cell in papers_cells(table, one).items() if name == "video@1")
        theirs.plot(printed, place, **LOOKS[one.stream] | {"color": GREY})
        papers.setdefault(one.key, []).append(printed)
    for place, key in enumerate(lines):
        if not any(np.isfinite(value) for value in papers[key]):
            theirs.annotate("no video@1 printed", (0.03, place), xycoords=("axes fraction", "data"), color=GREY, size=8)
    theirs.set(title=f"paper: {'Sports-1M' if table == 4 else 'Kinetics'}, 34 layers", xlabel="video@1 (%)")
    ours.set(title=f"here: {found[0].key.data}, {found[0].key.depth} layers", xlabel="video@1 (%)")
    theirs.set_yticks(range(len(lines)), [_name(key, found) for key in lines], parse_math=False)
    theirs.set_ylim(len(lines) - 0.5, -0.5)
    for axes in (theirs, ours):
        axes.grid(axis="y", visible=False)
        axes.title.set_parse_math(False)
    _legend(figure, LOOKS, [one.stream for one in found])
    return figure


@of_runs
def split_figure(members: list[SeedGroup], runs: Sequence[Run]) -> Figure | None:
    """video@1 from scratch and pretrained, each split and the mean of those that both have; 95 % intervals."""
    found = networks(runs)[0]
    if not found:
        return None
    streams = [stream for stream in STREAMS if any(one.stream == stream for one in found)]
    variants = list(dict.fromkeys(one.key.variant for one in found))
    names = sorted({name for one in found for name in one.splits})
    places = [*names, "mean"] if len(names) > 1 else names
    size = (2.9 * len(streams) + 1.6, 3.1 * len(variants) + 0.3)
    figure, panels = plt.subplots(
        len(variants), len(streams), figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for one in found:
        axes = panels[variants.index(one.key.variant), streams.index(one.stream)]
        beside_it = [each.splits for each in found if (each.key.variant, each.stream) == (one.key.variant, one.stream)]
        both = {name: split for name, split in one.splits.items() if all(name in splits for splits in beside_it)}
        means = [(replace(one, splits=both), len(names))] if len(both) > 1 else []
        if means and len(both) < len(names):
            axes.text(len(names), 0.02, f"of {', '.join(both)}", transform=axes.get_xaxis_transform(), ha="center",
                      size=8, color=GREY)  # fmt: skip
        single = [(replace(one, splits={name: split}), names.index(name)) for name, split in one.splits.items()]
        for each, place in single + means:
            value, (low, high) = each.video_at(1), each.interval
            beside, look = (0.09, START_LOOKS[True]) if one.source else (-0.09, START_LOOKS[False])
            axes.errorbar(place + beside, value, [[value - low], [high - value]], capsize=2, **look)
    for variant, line in zip(variants, panels, strict=True):
        line[0].set_ylabel("video@1 (%)")
        for axes, stream in zip(line, streams, strict=True):
            axes.set(title=stream if len(variants) == 1 else f"{variant}, {stream}", xlim=(-0.5, len(places) - 0.5))
            axes.set_xticks(range(len(places)), [f"split {name}" if name.isdigit() else name for name in places])
            axes.grid(axis="x", visible=False)
            if len(names) > 1:
                axes.axvline(len(names) - 0.5, color=GREY, lw=0.8)
    looks = {"pretrained" if one else "from scratch": look for one, look in START_LOOKS.items()}
    _legend(figure, looks, ["pretrained" if one.source else "from scratch" for one in found])
    return figure


def class_accuracy(one: Network, other: Network) -> pd.DataFrame:
    """A row a class: its video@1 in per cent by each of the Networks, their difference in points and its videos.

    Over the seeds and all videos of the splits that both have; the classes that `other` gains most on come first.
    """
    counts = []
    for of in shared(one, other):
        each = pd.concat([per_class(scores) for split in of.splits.values() for scores in split.scores])
        each["right"] = (each["video@1"] * each["n"]).fillna(0)
        total = each.groupby("class", sort=False)[["right", "n"]].sum()
        counts.append(total.assign(share=100 * total["right"] / total["n"].where(total["n"] > 0)))
    seeds = np.mean([len(split.scores) for split in one.splits.values()])
    table = pd.DataFrame({one.stream: counts[0]["share"], other.stream: counts[1]["share"]})
    table["difference"] = table[other.stream] - table[one.stream]
    table["videos"] = (counts[0]["n"] / seeds).round().astype(int)
    return table.dropna().sort_values("difference", ascending=False, kind="stable")


def class_figure(runs: Sequence[Run]) -> Figure | Markdown:
    """Which classes motion helps: video@1 of each class on RGB and on flow, a panel a network, those with most gained
    by flow first; of many classes those at both ends."""
    found = networks(runs)[0]
    by_name = {(one.key, one.stream): one for one in found}
    pairs = [(one, by_name[one.key, FLOW]) for one in found if one.stream == RGB and (one.key, FLOW) in by_name]
    pairs = [pair for pair in pairs if shared(*pair)[0].splits]
    if not pairs:
        return Markdown("*Which classes motion helps takes a network on RGB and on flow, both finished.*")
    return _class_figure(runs, pairs=pairs)


@of_runs
def _class_figure(members: list[SeedGroup], runs: Sequence[Run], *, pairs: list[tuple[Network, Network]]) -> Figure:
    tables = [class_accuracy(*pair) for pair in pairs]
    tables = [pd.concat([t.head(MOST_CLASSES // 2), t.tail(MOST_CLASSES // 2)]) if len(t) > MOST_CLASSES else t
              for t in tables]  # fmt: skip
    figure, panels = plt.subplots(
        1, len(pairs), figsize=(4.6 * len(pairs) + 0.8, 0.26 * max(map(len, tables)) + 1.5),
        squeeze=False, layout="constrained",
    )  # fmt: skip
    names = [_name(one.key, [one for pair in pairs for one in pair]) for one, _ in pairs]
    for axes, table, name in zip(panels[0], tables, names, strict=True):
        _draw_classes(axes, table)
        axes.set_title(name, parse_math=False, size=10)
    _legend(figure, LOOKS, [RGB, FLOW])
    return figure


def _draw_classes(axes: Axes, table: pd.DataFrame) -> None:
    places = range(len(table))
    axes.hlines(places, table[RGB], table[FLOW], color=GREY, lw=1.2, zorder=1)
    for stream, beside in ((RGB, -0.12), (FLOW, 0.12)):  # or equal ones would hide each other
        axes.plot(table[stream], np.arange(len(table)) + beside, **LOOKS[stream])
    labels = [f"{name} ({videos})" for name, videos in zip(table.index, table["videos"], strict=True)]
    axes.set_yticks(places, labels, parse_math=False, size=8)
    axes.set(xlim=(-4, 104), ylim=(len(table) - 0.5, -0.5), xlabel="video@1 of the class (%)")


def _name(key, found: Sequence[Network]) -> str:
    """What a line is called: the variant, and what parts it from the other lines."""
    keys = {one.key for one in found}
    parts = [key.variant]
    if len({one.frames for one in keys}) > 1:
        parts.append(f"{key.frames} frames")
    if any(one.init_from for one in keys):
        parts.append("pretrained" if key.init_from else "from scratch")
    return ", ".join(parts)


def _legend(figure: Figure, looks: dict, present: Sequence[str]) -> None:
    handles = [plt.Line2D([], [], label=name, **look) for name, look in looks.items() if name in present]
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
