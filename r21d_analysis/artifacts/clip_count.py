"""Accuracy by the number of clips that a video's is the mean of: Figure 5b."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from pandas.io.formats.style import Styler

from r21d_analysis.artifacts.figures import draw_estimates
from r21d_analysis.artifacts.measures import INTERVAL, measure, measure_group
from r21d_analysis.artifacts.tables import show_table
from r21d_analysis.statistics.clips import exact_counts, with_clips
from r21d_analysis.statistics.inference import estimate_mean, format_interval, seed_variance
from r21d_analysis.style import figure_of_runs
from r21d_core.runs.run import Run


def clip_counts(runs: Sequence[Run]) -> pd.DataFrame:
    """video@1 of each network by number of clips, from the scores of its run with the most clips.

    A row for each network and count of `exact_counts`, the largest last: video@1 with its 95 % interval in per cent,
    and the difference to all clips, with its paired interval, in points. Networks without a finished run come last.
    """
    most, rows, pairs = _most_clips(runs), [], []
    if most.empty:
        return most
    for group in most["group"].dropna():
        for count in exact_counts(group.spec.eval_clips):
            fewer = replace(group, scores=tuple(with_clips(scores, count) for scores in group.scores))
            pairs.append((group, count, fewer, fewer.outcomes - group.outcomes))  # the same weights, seed by seed
    for group, count, fewer, loss in pairs:
        less = estimate_mean([loss], seed_variance(other for _, clips, _, other in pairs if clips == count))
        row = {"network": group.spec.variant, "frames": group.spec.frames, "clips": count} | measure_group(fewer)
        row |= {"minus all clips (points)": less.value}
        rows.append(row | {"its 95 % interval": format_interval(less.low, less.high, "+.1f")})
    columns = ["network", "frames", "clips", "video@1", INTERVAL, "minus all clips (points)", "its 95 % interval"]
    table = pd.DataFrame(rows)[[*columns, "videos", "seeds", "low", "high"]]
    missing = most.loc[most["group"].isna(), ["network", "frames", "clips", "seeds"]]
    return pd.concat([table, missing], ignore_index=True).astype({"videos": "Int64"})


def _most_clips(runs: Sequence[Run]) -> pd.DataFrame:
    """`measure` for the most clips of each network and clip length, finished and not."""
    table = measure(runs)
    if len(table):
        table["clips"] = [spec.eval_clips for spec in table["spec"]]
        alike = [table["network"], table["frames"], table["group"].isna()]
        table = table.loc[table.groupby(alike, sort=False)["clips"].idxmax()]
    return table


@figure_of_runs
def clip_count_curve(runs: Sequence[Run]) -> Figure:
    """Figure 5b: video@1 against the number of clips it is averaged over, with 95 % intervals."""
    table = clip_counts(runs).dropna(subset="video@1")
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    lines = table.groupby(["network", "frames"], sort=False)
    for place, ((variant, frames), rows) in enumerate(lines):
        shift = 1.03 ** (place - (len(lines) - 1) / 2)  # keeps bars apart
        rows = rows.assign(clips=rows["clips"] * shift)
        draw_estimates(axes, rows, "clips", lw=1.6, elinewidth=1, label=f"{variant}, {frames} frames")
    axes.set(xscale="log", xlabel="clips per video", ylabel="video@1 (%)")
    ticks: list[int] = []
    for count in sorted(set(table["clips"])):
        if not ticks or count >= 1.25 * ticks[-1]:  # closer labels would overlap
            ticks.append(count)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:.0f}")
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def clip_count_table(runs: Sequence[Run]) -> Styler | Markdown:
    """`clip_counts` for a notebook, with its protocol as the caption."""
    table, most = clip_counts(runs), _most_clips(runs)
    table = table.drop(columns=["low", "high"], errors="ignore").rename(columns={"video@1": "video@1 (%)"})
    used = [run for group in most.get("group", pd.Series()).dropna() for run in group.runs]
    if len(table):
        whole = table["clips"] == table.groupby(["network", "frames"])["clips"].transform("max")  # minus themselves
        table.loc[whole, ["minus all clips (points)", "its 95 % interval"]] = np.nan
    return show_table(table, used, {"minus all clips (points)": "{:+.1f}"})
