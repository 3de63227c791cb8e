"""Tables and figures of the confirmatory study, and what longer clips add."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from r21d_analysis.artifacts.confirmatory import (
    DETECTABLE,
    FAMILIES,
    LEAST,
    PLANNED,
    WITHOUT,
    Family,
    complete_members,
    confirmatory_table,
    rests_on_seen,
)
from r21d_analysis.artifacts.figures import draw_legend
from r21d_analysis.artifacts.folds import BASELINE, GAP, NO_ESTIMATE, fold_table, format_intervals
from r21d_analysis.artifacts.measures import INTERVAL
from r21d_analysis.artifacts.networks import Network, collect_networks
from r21d_analysis.artifacts.tables import PAPER, protocol_line
from r21d_analysis.statistics.aggregate import means_by_seed, pooled_seed_variance, weighted_sum
from r21d_analysis.statistics.inference import Estimate, SeedVariance, check_same_items, estimate_sum_of_means
from r21d_analysis.statistics.power import describe_power
from r21d_analysis.style import (
    ERROR_BAR,
    GRAY,
    PAPER_TICK,
    VARIANT_STYLE,
    figure_of_runs,
    note,
    panel_grid,
    style_table,
)
from r21d_core.runs.run import Run
from r21d_core.study.paper import paper_table
from r21d_core.study.variants import ABLATIONS, VARIANTS

BY_SPLIT = f"{GAP} by split"
LONGER = "16 minus 8 frames (points)"
WHILE = "training error, mean over epochs"
LATER = "after the warmup, minus R(2+1)D (points)"
ORDER = (BASELINE, *(name for name in (*VARIANTS, *ABLATIONS) if name != BASELINE))  # of rows and lines
AFTER = (10, 20, 50, 100)  # epochs whose training error `training_course` has


def show_confirmatory(runs: Sequence[Run], families: Sequence[Family] = FAMILIES) -> Styler:
    """`confirmatory_table` for a notebook."""
    table = confirmatory_table(runs, families)
    power = {name: describe_power(rows[DETECTABLE]) for name, rows in table.groupby("family", sort=False)}
    found = [f"{text} ({name})" for name, text in power.items() if text and WITHOUT not in str(name)]
    table["family"] = table["family"].where(~table["family"].duplicated(), "")
    table.insert(4, INTERVAL, format_intervals(table, "low", "high", "+.1f"))
    table[["groups", "seeds"]] = table[["groups", "seeds"]].map(lambda count: str(count or "–"))
    caption = (
        "Intervals and p by group (recording or speaker) and seed, or with one seed by split or fold; Holm within each "
        "family; less than 3 points apart is by each interval alone, not corrected for the other contrasts"
    )
    caption += f"; at 80 % power the tests find {'; '.join(found)}" if found else ""
    return style_table(table.drop(columns=["low", "high", DETECTABLE]), caption, dict.fromkeys((GAP, PAPER), "{:+.1f}"))


def show_accuracies(runs: Sequence[Run], families: Sequence[Family] = PLANNED) -> list[Styler] | list[Markdown]:
    """A table for each clip length: the networks of the families' complete contrasts, with their training errors."""
    members, tables = complete_members(runs, families), []
    for frames in dict.fromkeys(run.spec.frames for run in members):
        of_length = [run for run in members if run.spec.frames == frames]
        table = fold_table(of_length)
        table[INTERVAL] = format_intervals(table, "low", "high", ".1f")
        table["its interval"] = format_intervals(table, "training low", "training high", "+.1f")
        by_split = {network.spec.variant: [*network.splits.values()] for network in collect_networks(of_length)[0]}
        best = [group.video_at(1) for group in by_split.pop(BASELINE)]
        texts = {
            name: ", ".join(f"{group.video_at(1) - value:+.1f}" for group, value in zip(groups, best, strict=True))
            for name, groups in by_split.items()
        }
        table[BY_SPLIT] = table["network"].map(texts).fillna("–")
        table = table.rename(columns={"training gap": f"training {GAP}", "folds": "splits"})
        shown = ["network", "clip@1", "video@1", INTERVAL, "training error", f"training {GAP}", "its interval"]
        shown += ["groups", "seeds", "splits", BY_SPLIT]
        variation = "seed" if table["seeds"].min() > 1 else "split"
        caption = (
            f"{protocol_line(of_length)}. Means over splits; intervals of video@1 by group and {variation}; training "
            f"error of the last epoch, its interval over {variation}s; the differences by split are exploratory"
        )
        tables.append(style_table(table[shown], caption, {f"training {GAP}": "{:+.1f}"}))
    return tables or [note("no contrast on actions has all of its runs")]


def length_gains(runs: Sequence[Run], families: Sequence[Family] = PLANNED) -> pd.DataFrame:
    """A row for each network whose contrasts are complete with 8 and with 16 frames: what the longer clips add.

    The difference of video@1 in points, the paper's on Kinetics-400, and the difference less R(2+1)D's, each with its
    interval. They are no contrasts of docs/protocol.md, so exploratory.
    """
    members = complete_members(runs, families)
    networks = {(network.spec.variant, network.spec.frames): network for network in collect_networks(members)[0]}
    seeds = pooled_seed_variance([group for network in networks.values() for group in network.splits.values()])
    longer = {
        name: [(1, network), (-1, networks[name, 8])]
        for (name, frames), network in networks.items()
        if frames == 16 and (name, 8) in networks
    }
    rows = []
    for name in sorted(longer, key=ORDER.index):
        less = [*longer[name], *((-sign, network) for sign, network in longer[BASELINE])]
        gain, more = _combine(longer[name], seeds), NO_ESTIMATE if name == BASELINE else _combine(less, seeds)
        short, long = (paper_table(2)[name][f"video@1 {frames}f"] for frames in (8, 16))
        rows.append((name, gain.value, gain.low, gain.high, long - short, more.value, more.low, more.high))
    return pd.DataFrame(rows, columns=["network", LONGER, "low", "high", PAPER, GAP, "gap low", "gap high"])


def show_length_gains(runs: Sequence[Run]) -> Styler | Markdown:
    """`length_gains` for a notebook."""
    if (table := length_gains(runs)).empty:
        return note("no network has all runs of its contrasts with 8 and with 16 frames")
    table.insert(2, INTERVAL, format_intervals(table, "low", "high", "+.1f"))
    table["its interval"] = format_intervals(table, "gap low", "gap high", "+.1f")
    caption = "Exploratory; intervals by recording and seed, not corrected"
    shown = table.drop(columns=["low", "high", "gap low", "gap high"])
    return style_table(shown, caption, dict.fromkeys((LONGER, PAPER, GAP), "{:+.1f}"))


def training_course(runs: Sequence[Run], families: Sequence[Family] = PLANNED) -> pd.DataFrame:
    """A row for each clip length and network of the families' complete contrasts: how fast the training error falls.

    Its mean over all epochs in per cent, that less R(2+1)D's in points with Welch's interval over seeds, each the mean
    of its splits, the same of the epochs after the warmup alone, and the error in the epochs AFTER. The intervals are
    for the training videos of these splits, which share most of them; other videos may differ by more. They are no
    contrasts of docs/protocol.md, so exploratory.
    """
    networks, rows = collect_networks(complete_members(runs, families))[0], []
    members = {(network.spec.frames, network.spec.variant): network for network in networks}
    for frames, name in sorted(members, key=lambda key: (-key[0], ORDER.index(key[1]))):
        network, baseline = members[frames, name], members[frames, BASELINE]
        warmup, course = math.ceil(network.spec.warmup_epochs), _mean_course(network)
        whole, later = (
            NO_ESTIMATE if network is baseline else _course_gap(network, baseline, first) for first in (0, warmup)
        )
        row = {"frames": frames, "network": name, WHILE: course.mean()}
        row |= {GAP: whole.value, "low": whole.low, "high": whole.high}
        row |= {LATER: later.value, "later low": later.low, "later high": later.high, "warmup": warmup}
        rows.append(row | {f"epoch {epoch}": course[epoch - 1] for epoch in AFTER if epoch <= len(course)})
    return pd.DataFrame(rows)


def _mean_course(network: Network) -> np.ndarray:
    """The training error of each epoch in per cent, the mean over seeds and splits, (epochs,)."""
    return np.mean([group.errors("train_error").mean(axis=0) for group in network.splits.values()], axis=0)


def _course_gap(network: Network, baseline: Network, first: int) -> Estimate:
    """The training error of `network` less that of `baseline`, the mean over splits and the epochs after `first`."""
    sides = [
        means_by_seed([*side.splits.values()], lambda group: group.errors("train_error")[:, first:].mean(axis=1))
        for side in (network, baseline)
    ]
    return estimate_sum_of_means([*zip((1, -1), sides, strict=True)])


def show_training_course(runs: Sequence[Run]) -> Styler | Markdown:
    """`training_course` for a notebook."""
    if (table := training_course(runs)).empty:
        return note("no contrast on actions has all of its runs")
    table["frames"] = table["frames"].astype(str).where(~table["frames"].duplicated(), "")
    table.insert(4, INTERVAL, format_intervals(table, "low", "high", "+.1f"))
    table.insert(8, "its interval", format_intervals(table, "later low", "later high", "+.1f"))
    caption = (
        "Exploratory; in per cent, with augmentation, means over seeds and splits; intervals over seeds, for these "
        f"training videos; warmup: the first {table['warmup'].max()} epochs"
    )
    shown = table.drop(columns=["low", "high", "later low", "later high", "warmup"])
    return style_table(shown, caption, dict.fromkeys((GAP, LATER), "{:+.1f}"))


@figure_of_runs
def course_figure(runs: Sequence[Run], families: Sequence[Family] = PLANNED) -> Figure | str:
    """The training error relative to R(2+1)D's by epoch, a panel for each clip length, the longer first.

    Networks are those of complete contrasts; a point is the mean over seeds, splits and a twentieth of the epochs.
    """
    networks = collect_networks(complete_members(runs, families))[0]
    networks.sort(key=lambda network: ORDER.index(network.spec.variant))
    if not networks:
        return "no contrast has all of its runs"
    lengths = sorted({network.spec.frames for network in networks}, reverse=True)
    figure, panels = panel_grid(len(lengths), 4.2, 3.4)
    for axes, frames in zip(panels, lengths, strict=True):
        courses = {n.spec.variant: _mean_course(n) for n in networks if n.spec.frames == frames}
        starts = np.arange(0, len(courses[BASELINE]), max(1, len(courses[BASELINE]) // 20))
        counts = np.diff(starts, append=len(courses[BASELINE]))
        for name, course in courses.items():
            look = VARIANT_STYLE[name] | {"ms": 8, "mec": "white", "label": name, "lw": 1.4}
            ratio = np.add.reduceat(course, starts) / np.add.reduceat(courses[BASELINE], starts)
            axes.plot(starts + (counts + 1) / 2, ratio, **look)
        axes.set_title(f"{frames} frames")
    figure.supxlabel("epoch", size=10)
    figure.supylabel(f"training error / {BASELINE}'s", size=10)
    draw_legend(figure)
    return figure


def _combine(arms: Sequence[tuple[int, Network]], seeds: SeedVariance) -> Estimate:
    """The signed sum of the networks' video@1, averaged over the splits; R21DError if their videos differ."""
    splits = [[(sign, network.splits[split]) for sign, network in arms] for split in arms[0][1].splits]
    for (_, first), *others in splits:
        for _, group in others:
            check_same_items(first.scores[0], group.scores[0])
    return weighted_sum(splits, seeds)


@figure_of_runs
def contrasts_figure(runs: Sequence[Run], families: Sequence[Family] = FAMILIES) -> Figure | str:
    """The complete contrasts with their 95 % intervals, a panel a family; a tick is the paper's on Kinetics-400.

    The band is LEAST points wide in either direction. A hollow marker is exploratory, or rests in part on runs
    that were seen before.
    """
    table = confirmatory_table(runs, families).dropna(subset=GAP)
    table = table[~table["family"].str.contains(WITHOUT, regex=False)]
    if table.empty:
        return "no contrast has all of its runs"
    sizes = table.groupby("family", sort=False).size()
    figure, panels = plt.subplots(
        len(sizes), figsize=(5, 0.28 * len(table) + 0.55 * len(sizes) + 0.7), sharex=True, squeeze=False,
        layout="constrained", height_ratios=(sizes + 0.6).tolist(),
    )  # fmt: skip
    for axes, (name, rows) in zip(panels[:, 0], table.groupby("family", sort=False), strict=True):
        for place, row in enumerate(rows.to_dict("records")):
            look = VARIANT_STYLE[row["network"]] | ERROR_BAR
            if rests_on_seen(row["verdict"]):
                look |= {"mfc": "none", "mec": look["color"]}
            axes.errorbar(row[GAP], place, xerr=[[row[GAP] - row["low"]], [row["high"] - row[GAP]]], **look)
            axes.plot(row[PAPER], place, **PAPER_TICK)
        axes.axvspan(-LEAST, LEAST, color=GRAY, alpha=0.15, lw=0)
        axes.axvline(0, color=GRAY, lw=1)
        labels, lengths = [*rows["network"]], rows["frames"].unique()
        if len(lengths) > 1:
            labels = [f"{network}, {n} frames" for network, n in zip(labels, rows["frames"], strict=True)]
        axes.set_yticks(range(len(rows)), labels)
        axes.set(ylim=(len(rows) - 0.4, -0.6))
        axes.set_title(f"{name}, {lengths[0]} frames" if len(lengths) == 1 else name, loc="left", size=10)
    panels[-1, 0].set_xlabel("video@1 minus R(2+1)D's (points)")
    return figure
