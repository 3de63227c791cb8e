"""Figures for a notebook, drawn from run folders alone, in one style and in colours that the colour-blind can tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from r21d_analysis.artifacts.tables import family_table
from r21d_analysis.statistics.aggregate import SeedGroup, group_by_seed
from r21d_core.models.cost import cost
from r21d_core.runs.run import Run
from r21d_core.study.experiments import TABLE_2
from r21d_core.study.paper import paper

GREY = "#767676"
PALETTE = sns.color_palette("colorblind")
# A colour a kind of network, a marker a network of that kind.
KINDS = {"R2D": ("R2D", "f-R2D"), "R3D": ("R3D",), "MC": ("MC2", "MC3", "MC4", "MC5"),
         "rMC": ("rMC2", "rMC3", "rMC4", "rMC5"), "R(2+1)D": ("R(2+1)D",)}  # fmt: skip
COLOURS = {"R2D": PALETTE[7], "R3D": PALETTE[0], "MC": PALETTE[2], "rMC": PALETTE[1], "R(2+1)D": PALETTE[3]}
VARIANT_STYLE = {
    variant: {"color": COLOURS[kind], "marker": marker}
    for kind, members in KINDS.items()
    for variant, marker in zip(members, "D^sv" if len(members) > 1 else "o", strict=False)
}
STYLE = {"axes.grid": True, "grid.color": "#e4e4e4", "axes.spines.top": False, "axes.spines.right": False}


def of_runs(draw: Callable[..., Figure | str | None]) -> Callable[..., Figure | Markdown]:
    """One style for all; the figure is returned and not kept open; where there is nothing to draw, a line says so.

    `draw` may say why there is nothing.
    """

    @wraps(draw)
    def drawn(runs: Sequence[Run], **options):
        networks = group_by_seed(runs)
        with plt.rc_context(STYLE):
            figure = draw(networks, runs, **options) if networks else None
        if not isinstance(figure, Figure):
            why = figure or ("not of this data" if networks else "no run is finished")
            return Markdown(f"*Nothing to draw: {why}.*")
        if any(one.spec.profile == "demo" for one in networks):
            figure.suptitle("demonstration: tiny networks", x=0.01, ha="left", color=GREY, size=9)
        plt.close(figure)
        return figure

    return drawn


@of_runs
def accuracy_against_cost(networks: list[SeedGroup], runs: Sequence[Run], *, x: str = "gmac") -> Figure:
    """Figure 4: video@1 against multiply-adds a clip (`x="gmac"`), the paper's panel beside ours, or against the
    measured inference speed (`x="clips_per_second"`), which the paper does not give. Bars are 95 % intervals."""
    by_cost = x == "gmac"
    size = (10, 4.6) if by_cost else (6.4, 4.6)
    figure, axes = plt.subplots(1, 2 if by_cost else 1, figsize=size, squeeze=False, layout="constrained")
    if by_cost:
        _paper_panel(axes[0, 0], 16 if networks[0].spec.frames == 16 else 8)
    ours = axes[0, -1]
    giga = max(one.mean("macs") for one in networks) >= 1e8
    for one in networks:
        at = one.mean("macs") / (1e9 if giga else 1e6) if by_cost else one.mean("inference_clips_per_second")
        accuracy, (low, high) = one.video_at(1), one.interval
        ours.errorbar(
            at, accuracy, [[accuracy - low], [high - accuracy]],
            **VARIANT_STYLE[one.spec.variant], ms=8, lw=1, capsize=2, mec="white", label=one.spec.variant, ls="none",
        )  # fmt: skip
    told = networks[0].scores[0].protocol
    ours.set(title=f"here: {told['data']}, {told['task']}, {told['frames']} frames", ylabel="video@1 (%)")
    if by_cost:
        ours.set_xlabel(f"multiply-adds ({'G' if giga else 'M'}MAC/clip)")
    else:
        ours.set_xscale("log")
        ours.set_xlabel(f"inference on {networks[0].runs[0].summary['device']} (clips/s)")
        ours.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ours.xaxis.set_major_formatter("{x:,.0f}")
        ours.xaxis.set_minor_locator(NullLocator())
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return figure


def _paper_panel(axes: Axes, frames: int) -> None:
    for variant in TABLE_2:
        macs = cost(variant, frames=frames).macs / 1e9
        accuracy = paper(2, variant, f"video@1 {frames}f")
        axes.plot(macs, accuracy, **VARIANT_STYLE[variant], ms=8, mec="white", ls="none", label=variant)
    axes.set(title=f"paper: Kinetics, {frames} frames", xlabel="multiply-adds (GMAC/clip)", ylabel="video@1 (%)")


@of_runs
def family_bars(networks: list[SeedGroup], runs: Sequence[Run]) -> Figure | str:
    """Accuracy within each family of classes, a panel a family; the dashed line is guessing."""
    table = family_table(runs)
    if table.empty:
        return "these classes come in no families, as the built-in videos' do"
    families = list(dict.fromkeys(table["family"]))
    figure, panels = plt.subplots(
        1, len(families), figsize=(2.6 * len(families) + 1, 0.3 * len(networks) + 1.2),
        sharey=True, squeeze=False, layout="constrained",
    )  # fmt: skip
    names = [one.spec.variant for one in networks]
    for axes, family in zip(panels[0], families, strict=True):
        rows = table[table["family"] == family]
        for place, row in enumerate(rows.itertuples()):
            spread = [[row.accuracy - row.low], [row.high - row.accuracy]]
            axes.errorbar(
                row.accuracy, place, xerr=spread, **VARIANT_STYLE[row.network], ms=7, lw=1, capsize=2, mec="white"
            )
        axes.axvline(rows["chance"].iloc[0], color=GREY, ls="--", lw=1)
        axes.set(title=f"{family}\n({rows['videos'].iloc[0]} videos)", xlim=(-4, 104), xlabel="right (%)")
        axes.title.set_size(10)
    panels[0, 0].set_yticks(range(len(names)), names)
    panels[0, 0].set_ylim(len(names) - 0.5, -0.5)
    return figure


@of_runs
def training_curves(networks: list[SeedGroup], runs: Sequence[Run]) -> Figure:
    """Error in per cent by epoch, a panel a network: thin on the training clips, thick on the test videos' middle
    clips, as in Figure 3; the mean over seeds."""
    columns = min(4, len(networks))
    lines = -(-len(networks) // columns)
    figure, panels = plt.subplots(
        lines, columns, figsize=(2.7 * columns, 2.1 * lines + 0.4), sharex=True, sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axes, one in zip(panels.flat, networks, strict=False):
        colour = VARIANT_STYLE[one.spec.variant]["color"]
        for key, width in (("train_error", 1), ("test_error", 2.4)):
            error = 100 * np.mean([[line[key] for line in run.history] for run in one.runs], axis=0)
            axes.plot(range(1, len(error) + 1), error, color=colour, lw=width, label=key.split("_")[0])
        axes.set_title(one.spec.variant, size=10)
        axes.set_ylim(-3, 103)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for axes in panels.flat[len(networks) :]:
        axes.set_axis_off()
    panels[0, 0].legend(frameon=False)
    figure.supxlabel("epoch", size=10)
    figure.supylabel("error (%)", size=10)
    return figure
