"""Figure 4, accuracy within families of classes, and training curves."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from r21d_analysis.artifacts.tables import family_table
from r21d_analysis.statistics.aggregate import SeedGroup
from r21d_analysis.style import ERROR_BAR, GRAY, VARIANT_STYLE, figure_of_runs, panel_grid
from r21d_core.models.cost import cost
from r21d_core.runs.run import Run
from r21d_core.study.experiments import TABLE_2
from r21d_core.study.paper import paper


@figure_of_runs
def accuracy_against_cost(groups: list[SeedGroup], runs: Sequence[Run], *, x: str = "gmac") -> Figure:
    """Figure 4: video@1 against multiply-adds per clip (`x="gmac"`), the paper's panel beside ours, or against the
    measured inference speed (`x="clips_per_second"`), which the paper does not give. Bars are 95 % intervals.
    """
    by_cost = x == "gmac"
    size = (10, 4.6) if by_cost else (6.4, 4.6)
    figure, axes = plt.subplots(1, 2 if by_cost else 1, figsize=size, squeeze=False, layout="constrained")
    if by_cost:
        _paper_panel(axes[0, 0], 16 if groups[0].spec.frames == 16 else 8)
    ours = axes[0, -1]
    giga = max(group.mean("macs") for group in groups) >= 1e8
    for group in groups:
        place = group.mean("macs") / (1e9 if giga else 1e6) if by_cost else group.mean("inference_clips_per_second")
        look = VARIANT_STYLE[group.spec.variant] | ERROR_BAR | {"ms": 8, "ls": "none", "label": group.spec.variant}
        ours.errorbar(place, group.video_at(1), group.accuracy.error_bar, **look)
    protocol = groups[0].scores[0].protocol
    title = f"here: {protocol['data']}, {protocol['task']}, {protocol['frames']} frames"
    ours.set(title=title, ylabel="video@1 (%)")
    if by_cost:
        ours.set_xlabel(f"multiply-adds ({'G' if giga else 'M'}MAC/clip)")
    else:
        ours.set_xscale("log")
        ours.set_xlabel(f"inference on {groups[0].runs[0].summary['device']} (clips/s)")
        ours.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ours.xaxis.set_major_formatter("{x:,.0f}")
        ours.xaxis.set_minor_locator(NullLocator())
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return figure


def _paper_panel(axes: Axes, frames: int) -> None:
    for variant in TABLE_2:
        macs, accuracy = cost(variant, frames=frames).macs / 1e9, paper(2, variant, f"video@1 {frames}f")
        axes.plot(macs, accuracy, **VARIANT_STYLE[variant], ms=8, mec="white", ls="none", label=variant)
    axes.set(title=f"paper: Kinetics, {frames} frames", xlabel="multiply-adds (GMAC/clip)", ylabel="video@1 (%)")


@figure_of_runs
def family_bars(groups: list[SeedGroup], runs: Sequence[Run]) -> Figure | str:
    """Accuracy within each family of classes, a panel for each family; the dashed line is chance."""
    table = family_table(runs)
    if table.empty:
        return "these classes come in no families, as those of the built-in videos do"
    names, families = list(dict.fromkeys(table["network"])), list(table.groupby("family", sort=False))
    figure, panels = plt.subplots(
        1, len(families), figsize=(2.6 * len(families) + 1, 0.3 * len(groups) + 1.2),
        sharey=True, squeeze=False, layout="constrained",
    )  # fmt: skip
    for axes, (family, rows) in zip(panels[0], families, strict=True):
        draw_against_chance(axes, rows, names)
        axes.set_title(f"{family}\n({rows['videos'].iloc[0]} videos)", size=10)
        axes.set_xlabel("accuracy (%)")
    return figure


def draw_against_chance(axes: Axes, rows: pd.DataFrame, names: list[str]) -> None:
    """Draw the accuracy of each network with its interval, a line for each of `names`, and chance as a dashed line."""
    for row in rows.to_dict("records"):
        spread = [[row["accuracy"] - row["low"]], [row["high"] - row["accuracy"]]]
        look = VARIANT_STYLE[row["network"]] | ERROR_BAR
        axes.errorbar(row["accuracy"], names.index(row["network"]), xerr=spread, **look)
    axes.axvline(rows["chance"].iloc[0], color=GRAY, ls="--", lw=1)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(-4, 104), ylim=(len(names) - 0.5, -0.5))


@figure_of_runs
def training_curves(groups: list[SeedGroup], runs: Sequence[Run]) -> Figure:
    """Error in per cent by epoch, a panel for each network: thin on the training clips, thick on the center clips of
    the test videos, as in Figure 3; the mean over seeds.
    """
    figure, panels = panel_grid(len(groups), 2.7, 2.3)
    for axes, group in zip(panels, groups, strict=True):
        color = VARIANT_STYLE[group.spec.variant]["color"]
        for key, width in (("train_error", 1), ("test_error", 2.4)):
            error = 100 * np.mean([[line[key] for line in run.history] for run in group.runs], axis=0)
            axes.plot(range(1, len(error) + 1), error, color=color, lw=width, label=key.split("_")[0])
        axes.set_title(group.spec.variant, size=10)
        axes.set_ylim(-3, 103)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    panels[0].legend(frameon=False)
    figure.supxlabel("epoch", size=10)
    figure.supylabel("error (%)", size=10)
    return figure
