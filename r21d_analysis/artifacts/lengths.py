"""Clip length: Figure 5a, Table 3, and accuracy against hours of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from r21d_analysis.artifacts.tables import PAPER, protocol_line
from r21d_analysis.statistics.aggregate import NOT_RUN, SeedGroup, cost_like, group_all
from r21d_analysis.statistics.inference import format_interval
from r21d_analysis.style import GRAY, NO_RUNS, VARIANT_STYLE, figure_of_runs, note, style_table
from r21d_core.runs.run import Run, find_run
from r21d_core.study.paper import paper_table
from r21d_core.study.spec import Spec

TRAINING = SCRATCH, TESTED, FINETUNED = "from scratch", "tested longer", "finetuned"
MARKERS: dict[str, str] = dict(zip(TRAINING, "oX*", strict=True))


def training(spec: Spec) -> str:
    """Whether a network is trained from scratch, or is another's tested on longer clips or finetuned on them."""
    return SCRATCH if not spec.init_from else FINETUNED if spec.epochs else TESTED


def hours(group: SeedGroup) -> float:
    """Hours of training per run, those of the run it starts from included; NaN where that is not finished."""
    seconds = group.mean("seconds")
    parents = [find_run(run.folder.parent, run.spec.parent_spec) for run in group.runs if run.spec.parent_spec]
    if parents:
        seconds += np.mean([parent.summary["seconds"] if parent.is_complete else np.nan for parent in parents])
    return float(seconds) / 3600


def length_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Table 3 and the points of Figure 5a: a row for each network; accuracies in per cent, hours on the runs' device.

    The paper's columns are filled for 8 and 32 frames, the lengths of its Table 3, whose hours are those of 64 GPUs.
    A network without a finished run has its arithmetic cost, and NaN elsewhere.
    """
    groups, rows = group_all(runs), []
    for spec, group in groups:
        parent = spec.parent_spec
        short = parent.frames if parent else ""
        name = {SCRATCH: "{1}", TESTED: "{0} tested at {1}", FINETUNED: "{0} finetuned at {1}"}[training(spec)]
        name = name.format(short, spec.frames)
        printed = paper_table(3).get(name, {})
        row = {("", "network"): spec.variant, ("", "clip length"): name}
        row |= {
            (PAPER, "hours, 64 GPUs" if column == "hours" else column): printed.get(column, np.nan)
            for column in ("hours", "clip@1", "video@1")
        }
        here = dict.fromkeys(("hours", "clip@1", "video@1", "95 % interval"), np.nan)
        if group:
            interval = format_interval(group.accuracy.low, group.accuracy.high)
            values = hours(group), group.clip_at_1, group.video_at(1), interval
            here = dict(zip(here, values, strict=True))
            here |= {"GMAC/clip": group.mean("macs") / 1e9, "seeds": group.seeds}
        else:
            here |= {"GMAC/clip": cost_like(spec, groups).macs / 1e9, "seeds": NOT_RUN}
        rows.append(row | {("here", column): value for column, value in here.items()})
    return pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(rows[0])) if rows else pd.DataFrame()


def show_length_table(runs: Sequence[Run]) -> Styler | Markdown:
    """`length_table` for a notebook, with its protocol as the caption."""
    table = length_table(runs)
    if table.empty:
        return note(NO_RUNS)
    digits = {"hours": 4 if table["here", "hours"].max() < 1 else 1, "GMAC/clip": 3}
    return style_table(table, protocol_line(runs), digits)


@figure_of_runs
def length_figure(groups: list[SeedGroup], runs: Sequence[Run]) -> Figure:
    """Figure 5a: clip@1 (dashed) and video@1 (solid, 95 % intervals) against clip length; the short network tested and
    finetuned on the longer clips as single points.
    """
    return _figure(groups, lambda group: group.spec.frames, "clip length (frames)")


@figure_of_runs
def hours_figure(groups: list[SeedGroup], runs: Sequence[Run]) -> Figure:
    """Accuracy against hours of training; the best trade-offs lie to the upper left."""
    return _figure(groups, hours, f"training on {groups[0].runs[0].summary['device']} (hours per run)")


def _figure(groups: list[SeedGroup], x: Callable[[SeedGroup], float], label: str) -> Figure:
    figure, axes = plt.subplots(figsize=(6.8, 4.4), layout="constrained")
    for variant in dict.fromkeys(group.spec.variant for group in groups):
        color, members = VARIANT_STYLE[variant]["color"], [g for g in groups if g.spec.variant == variant]
        scratch = sorted((group for group in members if not group.spec.init_from), key=x)
        places = [x(group) for group in scratch]
        clips, videos = [group.clip_at_1 for group in scratch], [group.video_at(1) for group in scratch]
        axes.plot(places, clips, "o--", color=color, mfc="white", label=f"{variant}, clip@1")
        axes.plot(places, videos, "-", color=color, label=f"{variant}, video@1")
        for group in members:
            kind, parent = training(group.spec), group.spec.parent_spec
            look = {"color": GRAY, "ms": 10, "label": f"{parent.frames} frames, {kind}: video@1"} if parent else {
                "color": color, "ms": 6,
            }  # fmt: skip
            axes.errorbar(
                x(group), group.video_at(1), group.accuracy.error_bar,
                marker=MARKERS[kind], lw=1, capsize=2, ls="none", mec="white", **look,
            )  # fmt: skip
    axes.set(xlabel=label, ylabel="accuracy (%)")
    axes.legend(frameon=False, fontsize=8)
    return figure
