"""Clip length: Figure 5a, Table 3, and what accuracy costs in hours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from r21d_analysis.artifacts.figures import GREY, VARIANT_STYLE, of_runs
from r21d_analysis.artifacts.tables import protocol_line, style_table
from r21d_analysis.statistics.aggregate import NOT_RUN, SeedGroup, cost_here, group_all
from r21d_core import R21DError
from r21d_core.runs.run import Run, find_run
from r21d_core.study.paper import paper
from r21d_core.study.spec import Spec

HOW = ("afresh", "tested longer", "finetuned")


def how(spec: Spec) -> str:
    """Whether a network is trained afresh, is another's tested on longer clips, or another's finetuned on them."""
    return HOW[0] if not spec.init_from else HOW[2] if spec.epochs else HOW[1]


def hours(one: SeedGroup) -> float:
    """Hours of training on the device, a run, those of the run it starts from included; NaN where that is not there."""
    seconds = one.mean("seconds")
    if one.spec.init_from:
        starts = [find_run(run.folder.parent, run.spec.parent_spec) for run in one.runs]
        seconds += np.mean([start.summary["seconds"] if start.is_complete else np.nan for start in starts])
    return float(seconds) / 3600


def length_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Table 3 and the points of Figure 5a: a row a network; accuracies in per cent, hours on the device of the run.

    The paper's columns are filled for 8 and 32 frames, the lengths of its Table 3, whose hours are those of 64 GPUs.
    Of a network of which no run is finished, while others' are, the row has what arithmetic knows and NaN.
    """
    networks, rows = group_all(runs), []
    for spec, one in networks:
        before = spec.parent_spec
        name = {HOW[0]: "{1}", HOW[1]: "{0} tested at {1}", HOW[2]: "{0} finetuned at {1}"}[how(spec)]
        row = name.format(before.frames if before else "", spec.frames)
        theirs = [_paper(row, column) for column in ("hours", "clip@1", "video@1")]
        if one:
            accuracies = [one.clip_at_1, one.video_at(1), "{:.1f} to {:.1f}".format(*one.interval)]
            ours = [hours(one), *accuracies, one.mean("macs") / 1e9, one.seeds]
        else:
            ours = [np.nan] * 4 + [cost_here(spec, networks).macs / 1e9, NOT_RUN]
        rows.append([spec.variant, row, *theirs, *ours])
    papers, here = "paper, Kinetics-400", "here"
    columns = [
        ("", "network"), ("", "clip length"),
        (papers, "hours, 64 GPUs"), (papers, "clip@1"), (papers, "video@1"),
        (here, "hours"), (here, "clip@1"), (here, "video@1"), (here, "95 % interval"), (here, "GMAC/clip"),
        (here, "seeds"),
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(columns))


def show_length_table(runs: Sequence[Run]) -> Styler | Markdown:
    """`length_table` for a notebook, its protocol above it."""
    table = length_table(runs)
    if table.empty:
        return Markdown("*No run is finished, so there is nothing to show yet.*")
    digits = {"hours": 4 if table["here", "hours"].max() < 1 else 1, "GMAC/clip": 3}
    return style_table(table, protocol_line(runs), digits).hide(axis="index")


@of_runs
def length_figure(networks: list[SeedGroup], runs: Sequence[Run]) -> Figure:
    """Figure 5a: clip@1 (dashed) and video@1 (solid, 95 % intervals) against clip length; the short network tested and
    finetuned on the longer clips as single points."""
    return _figure(networks, lambda one: one.spec.frames, "clip length (frames)")


@of_runs
def hours_figure(networks: list[SeedGroup], runs: Sequence[Run]) -> Figure:
    """Accuracy against hours of training, so that the front of what pays is the upper left."""
    return _figure(networks, hours, f"training on {networks[0].runs[0].summary['device']} (hours a run)")


def _figure(networks: list[SeedGroup], x, label: str) -> Figure:
    figure, axes = plt.subplots(figsize=(6.8, 4.4), layout="constrained")
    marks = dict(zip(HOW, ("o", "X", "*"), strict=True))
    for variant in dict.fromkeys(one.spec.variant for one in networks):
        colour = VARIANT_STYLE[variant]["color"]
        afresh = sorted((one for one in networks if one.spec.variant == variant and not one.spec.init_from), key=x)
        places = [x(one) for one in afresh]
        axes.plot(
            places, [one.clip_at_1 for one in afresh], "o--", color=colour, mfc="white", label=f"{variant}, clip@1"
        )
        axes.plot(places, [one.video_at(1) for one in afresh], "-", color=colour, label=f"{variant}, video@1")
        for one in (one for one in networks if one.spec.variant == variant):
            accuracy, (low, high) = one.video_at(1), one.interval
            kind = how(one.spec)
            axes.errorbar(
                x(one), accuracy, [[accuracy - low], [high - accuracy]], color=colour if kind == HOW[0] else GREY,
                marker=marks[kind], ms=6 if kind == HOW[0] else 10, lw=1, capsize=2, ls="none", mec="white",
                label=None if kind == HOW[0] else f"{one.spec.parent_spec.frames} frames, {kind}: video@1",
            )  # fmt: skip
    axes.set(xlabel=label, ylabel="accuracy (%)")
    axes.legend(frameon=False, fontsize=8)
    return figure


def _paper(row: str, column: str) -> float:
    try:
        return paper(3, row, column)
    except R21DError:
        return np.nan
