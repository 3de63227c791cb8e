"""Figure 4, accuracy within families of classes, and how all figures draw accuracies with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from r21d_analysis.artifacts.measures import measure, pool_splits, speed_device
from r21d_analysis.artifacts.tables import PAPER, compare, family_table
from r21d_analysis.statistics.aggregate import group_by_seed
from r21d_analysis.style import (
    ERROR_BAR,
    GRAY,
    HOLLOW,
    PAPER_TICK,
    VARIANT_STYLE,
    figure_of_runs,
    name_task,
    panel_grid,
)
from r21d_core.models.cost import cost
from r21d_core.runs.run import Run
from r21d_core.study.experiments import SPLIT, TABLE_2
from r21d_core.study.paper import paper, paper_table


def draw_estimates(axes: Axes, rows: pd.DataFrame, x: str, y: str = "video@1", **look: Any) -> None:
    """Draw the points of `rows`, of one network, with the interval from `low` to `high` along the axis of video@1."""
    bars = [rows["video@1"] - rows["low"], rows["high"] - rows["video@1"]]
    style = VARIANT_STYLE[rows["network"].iloc[0]] | ERROR_BAR | look
    axes.errorbar(rows[x], rows[y], **{"yerr" if y == "video@1" else "xerr": bars}, **style)


def draw_legend(figure: Figure) -> None:
    """Draw a legend beside the panels, with each label once; of a point with an interval it has the point."""
    handles = {label: h for axes in figure.axes for h, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    points = [h.lines[0] if isinstance(h, ErrorbarContainer) else h for h in handles.values()]
    figure.legend(points, handles.keys(), loc="outside right upper", frameon=False)


def draw_against_chance(table: pd.DataFrame) -> Figure:
    """The accuracy of each network with its interval, a panel for each `title` of `table`; dashed is chance."""
    names = list(dict.fromkeys(table["network"]))
    panels = table.assign(place=table["network"].map(names.index)).groupby("title", sort=False)
    figure, grid = panel_grid(len(panels), 3.2, 0.32 * len(names) + 1.3)
    for axes, (title, rows) in zip(grid, panels, strict=True):
        for place in range(len(rows)):
            draw_estimates(axes, rows.iloc[[place]], "video@1", "place")
        axes.axvline(rows["chance"].iloc[0], color=GRAY, ls="--", lw=1)
        axes.set_title(title, size=10)
        axes.set_yticks(range(len(names)), names)
        axes.set(xlim=(-4, 104), ylim=(len(names) - 0.5, -0.5))
        axes.tick_params(labelbottom=True)
    figure.supxlabel("accuracy (%)", size=10)
    return figure


@figure_of_runs
def accuracy_against_cost(runs: Sequence[Run], *, x: str = "gmac") -> Figure:
    """Figure 4: video@1 against multiply-adds per clip (`x="gmac"`), for actions the paper's panel beside ours, or
    against the measured inference speed (`x="clips_per_second"`), which the paper does not give. Bars are 95 %
    intervals. Of several splits of a data set the points are the means.

    Speeds are of one device: a network that has none there is named instead of drawn.
    """
    by_cost, groups = x == "gmac", group_by_seed(runs)
    protocol = groups[0].scores[0].protocol
    beside_paper = by_cost and protocol["task"] == "action"  # the paper has no other
    table = pool_splits(measure(runs)).dropna(subset="video@1")
    giga, size = table["GMAC/clip"].max() >= 0.1, (10, 4.6) if beside_paper else (6.4, 4.6)
    figure, axes = plt.subplots(
        1, 1 + beside_paper, figsize=size, sharex=bool(beside_paper and giga), squeeze=False, layout="constrained"
    )
    if beside_paper:
        frames = 16 if groups[0].spec.frames == 16 else 8
        for variant in TABLE_2:
            macs, accuracy = cost(variant, frames=frames).macs / 1e9, paper(2, variant, f"video@1 {frames}f")
            axes[0, 0].plot(macs, accuracy, **VARIANT_STYLE[variant] | HOLLOW, label=variant)
        title = f"paper: Kinetics, {frames} frames"
        axes[0, 0].set(title=title, xlabel="multiply-adds (GMAC/clip)", ylabel="video@1 (%)")
    ours = axes[0, -1]
    if by_cost:
        table["MMAC/clip"] = 1000 * table["GMAC/clip"]
        column = "GMAC/clip" if giga else "MMAC/clip"
        label = f"multiply-adds ({column})"
    else:
        column = "inference clips/s"
        label = f"inference on {speed_device(runs)} (clips/s)"
        if others := [str(name) for name, rates in table.groupby("network", sort=False)[column] if rates.isna().all()]:
            label += f"\nnot shown, measured on another device: {', '.join(others)}"
        table = table.dropna(subset=column)
    for place, network in enumerate(table["network"]):
        draw_estimates(ours, table.iloc[[place]], column, **HOLLOW, label=network)
    data = {group.scores[0].protocol["data"] for group in groups}
    name = protocol["data"] if len(data) == 1 else f"{SPLIT.sub('', protocol['data'])}, {len(data)} splits"
    task = name_task(protocol["task"], SPLIT.sub("", protocol["data"]))
    title = f"here: {name}, {task}, {protocol['frames']} frames"
    ours.set(title=title, ylabel="video@1 (%)", xlabel=label)
    if not by_cost:
        ours.set(xscale="log")
        low, high = ours.get_xlim()
        ticks = LogLocator(subs=(1, 2, 5))
        count = sum(low <= tick <= high for tick in ticks.tick_values(low, high))
        ours.xaxis.set_major_locator(ticks if 3 <= count <= 5 else MaxNLocator(4))  # few hide the scale, many overlap
        ours.xaxis.set_major_formatter("{x:,.0f}")
        ours.xaxis.set_minor_locator(NullLocator())
    draw_legend(figure)
    return figure


@figure_of_runs
def differences(runs: Sequence[Run]) -> Figure | str:
    """Video@1 of each network minus R(2+1)D's on the same videos with its interval, beside the paper's as a tick."""
    table = compare(runs)
    if table.empty:
        return "a comparison needs R(2+1)D and another network, both finished"
    table = table.dropna(subset="estimate")
    estimates, spec = table["estimate"], group_by_seed(runs)[0].spec
    frames = 16 if spec.frames == 16 else 8
    figure, axes = plt.subplots(figsize=(4.6, 0.28 * len(table) + 1.3), layout="constrained")
    for place, (name, estimate) in enumerate(zip(table["network"], estimates, strict=True)):
        label = "_" * bool(place) + "here, 95 % interval"
        axes.errorbar(estimate.value, place, xerr=estimate.error_bar, **VARIANT_STYLE[name] | ERROR_BAR, label=label)
    printed = {name: row[f"video@1 {frames}f"] for name, row in paper_table(2).items()}
    printed = table["network"].map(printed) - printed["R(2+1)D"]
    axes.plot(printed, range(len(table)), **PAPER_TICK, label=PAPER)
    axes.axvline(0, color=GRAY, lw=1)
    axes.set_yticks(range(len(table)), table["network"])
    axes.set(
        xlabel="video@1 minus R(2+1)D's (points)",
        title=f"{frames} frames, {spec.epochs} epochs",
        ylim=(len(table) - 0.5, -0.5),
    )
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@figure_of_runs
def family_bars(runs: Sequence[Run]) -> Figure | str:
    """Accuracy within each family of classes, a panel for each family; the dashed line is chance."""
    table = family_table(runs).rename(columns={"accuracy": "video@1"})
    if table.empty:
        return "the classes of these data form no families; those of the built-in videos do"
    return draw_against_chance(table.assign(title=table["family"] + "\n(" + table["videos"].astype(str) + " videos)"))
