"""Accuracy and time of training by clip length: Figure 5a and Table 3."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from r21d_analysis.artifacts.figures import draw_estimates
from r21d_analysis.artifacts.measures import INTERVAL, measure, speed_device
from r21d_analysis.artifacts.tables import PAPER, show_table
from r21d_analysis.statistics.aggregate import SeedGroup
from r21d_analysis.style import VARIANT_STYLE, figure_of_runs
from r21d_core.runs.run import Run, find_run
from r21d_core.study.paper import paper_table
from r21d_core.study.spec import Spec

TRAINING = SCRATCH, TESTED, FINETUNED = "from scratch", "tested longer", "finetuned"
MARKERS: dict[str, str] = dict(zip(TRAINING, "oX*", strict=True))
LENGTH_NAMES = {SCRATCH: "{1}", TESTED: "{0} tested at {1}", FINETUNED: "{0} finetuned at {1}"}  # as in Table 3


def describe_training(spec: Spec) -> str:
    """Whether a network is trained from scratch, or is another's tested on longer clips or finetuned on them."""
    return SCRATCH if not spec.init_from else FINETUNED if spec.epochs else TESTED


def training_hours(group: SeedGroup | None, device: str) -> float:
    """Hours of training per run, those of the run it starts from included: the mean of the runs on `device`.

    NaN where no run has all of its training there, or the runs that they start from are not finished.
    """
    seconds = []
    for run in group.runs if group else ():
        parent = [find_run(run.folder.parent, run.spec.parent_spec)] if run.spec.parent_spec else []
        summaries = [member.summary for member in (run, *parent) if member.is_complete]
        if len(summaries) == 1 + len(parent) and {s["device"] for s in summaries if s["seconds"]} <= {device}:
            seconds.append(sum(summary["seconds"] for summary in summaries))
    return float(np.mean(seconds)) / 3600 if seconds else np.nan


def measure_lengths(runs: Sequence[Run]) -> pd.DataFrame:
    """`measure` with the `training`, the `hours` on `speed_device`, and the `clip length` as in Table 3."""
    table = measure(runs)
    if len(table):
        table["training"] = table["spec"].map(describe_training)
        table["hours"] = table["group"].map(partial(training_hours, device=speed_device(runs)))
        table["short"] = [spec.parent_spec.frames if spec.parent_spec else 0 for spec in table["spec"]]
        columns = zip(table["training"], table["short"], table["frames"], strict=True)
        table["clip length"] = [LENGTH_NAMES[kind].format(*frames) for kind, *frames in columns]
    return table


def length_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Table 3 and the points of Figure 5a: a row for each network; accuracies in per cent, hours on `speed_device`.

    The paper's columns are filled for R(2+1)D with 8 and 32 frames, as in its Table 3; its hours are those of 64 GPUs.
    """
    table = measure_lengths(runs)
    if table.empty:
        return table
    lengths = zip(table["network"], table["clip length"], strict=True)
    printed = [paper_table(3).get(length, {}) if network == "R(2+1)D" else {} for network, length in lengths]
    columns = {"hours, 64 GPUs": "hours", "clip@1": "clip@1", "video@1": "video@1"}
    paper = {name: [row.get(column, np.nan) for row in printed] for name, column in columns.items()}
    here = table[["hours", "clip@1", "video@1", INTERVAL, "GMAC/clip", "seeds"]]
    return pd.concat({"": table[["network", "clip length"]], PAPER: pd.DataFrame(paper), "here": here}, axis=1)


def show_length_table(runs: Sequence[Run]) -> Styler | Markdown:
    """`length_table` for a notebook, with its protocol as the caption."""
    table, remarks = length_table(runs), []
    if len(table):
        unit, per_hour = _time_unit(table["here", "hours"])
        table["here", "hours"] *= per_hour
        table = table.rename(columns={"hours": unit}, level=1)
        if len({run.summary["device"] for run in runs if run.is_complete}) > 1:
            remarks = [f"{unit} are those of the runs on {speed_device(runs)}"]
    return show_table(table, runs, {"GMAC/clip": 3}, *remarks)


def _time_unit(hours: pd.Series) -> tuple[str, int]:
    """The unit in which `hours` of training are shown, and its number in an hour: seconds below one hour."""
    return ("seconds", 3600) if hours.max() < 1 else ("hours", 1)


@figure_of_runs
def length_figure(runs: Sequence[Run], *, x: str = "frames") -> Figure:
    """Figure 5a: clip@1 (dashed) and video@1 (solid, 95 % intervals) against clip length; the short network tested and
    finetuned on the longer clips as single points. With `x="hours"` against the time of training, on one device: a
    clip length that has none there is named instead of drawn.
    """
    table = measure_lengths(runs).dropna(subset="video@1")
    unit, per_hour = _time_unit(table["hours"])
    table["hours"] *= per_hour
    lengths, table = table.loc[table[x].isna(), "clip length"].unique(), table.dropna(subset=x)
    figure, axes = plt.subplots(figsize=(9, 4.4), layout="constrained")
    for variant, rows in table.groupby("network", sort=False):
        color, scratch = VARIANT_STYLE[str(variant)]["color"], rows[rows["training"] == SCRATCH].sort_values(x)
        axes.plot(scratch[x], scratch["clip@1"], "o--", color=color, mfc="white", label=f"{variant}, clip@1")
        axes.plot(scratch[x], scratch["video@1"], "o-", color=color, mec="white", label=f"{variant}, video@1")
    for (variant, kind, short), rows in table.groupby(["network", "training", "short"], sort=False):
        later = {"ms": 10, "label": f"{variant}, {short} frames, {kind}: video@1"}
        look = {"ms": 6, "label": None} if kind == SCRATCH else later
        draw_estimates(axes, rows, x, **look, marker=MARKERS[str(kind)], ls="none")
    label = {"frames": "clip length (frames)", "hours": f"training on {speed_device(runs)} ({unit} per run)"}[x]
    if others := ", ".join(lengths):
        label += f"\nnot shown, as not measured there: {others}"
    axes.set(xlabel=label, ylabel="accuracy (%)")
    if x == "frames":
        axes.set_xticks(sorted(set(table[x])))
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure
