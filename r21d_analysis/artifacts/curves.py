"""Error by epoch, accuracy by clip length and by number of clips, the temporal probe: Figures 3, 5a, 5b, Table 3."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import compress
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from pandas.io.formats.style import Styler

from r21d_analysis.artifacts.figures import draw_against_chance, draw_estimates
from r21d_analysis.artifacts.measures import INTERVAL, measure, measure_group, speed_device
from r21d_analysis.artifacts.recipe import recipe_of
from r21d_analysis.artifacts.tables import PAPER, show_table
from r21d_analysis.statistics.aggregate import NOT_RUN, SeedGroup, group_all, group_by_seed
from r21d_analysis.statistics.clips import exact_counts, with_clips
from r21d_analysis.statistics.inference import estimate_mean, estimate_sum_of_means, format_interval, seed_variance
from r21d_analysis.style import GRAY, VARIANT_STYLE, figure_of_runs, panel_grid
from r21d_core.runs.run import Run, find_run
from r21d_core.study.paper import paper_table
from r21d_core.study.spec import Spec

TRAINING = SCRATCH, TESTED, FINETUNED = "from scratch", "tested longer", "finetuned"
MARKERS: dict[str, str] = dict(zip(TRAINING, "oX*", strict=True))
LENGTH_NAMES = {SCRATCH: "{1}", TESTED: "{0} tested at {1}", FINETUNED: "{0} finetuned at {1}"}  # as in Table 3
QUESTIONS = {"speed": "playback rate", "arrow": "direction", "action": "class"}


# --- Figure 3 -------------------------------------------------------------------------------------------------------


@partial(figure_of_runs, is_drawn=lambda run: run.is_complete or bool(run.history))
def error_curves(runs: Sequence[Run], *, by: str = "recipe") -> Figure | None:
    """Figure 3: error in per cent by epoch, a panel for each recipe or (`by="network"`) network: thin on the epoch's
    training clips, thick on the center clips of the test videos. Lines are means over seeds and, in a network's panel,
    over splits; bands span all of them. A line without a finished run has the epochs that all of its runs have so far,
    and is named above the panels.
    """
    begun: dict[Spec, list[Run]] = defaultdict(list)
    for run in runs:
        if not run.is_complete and run.history:
            begun[run.spec.replace(seed=0)].append(run)
    trained = [group for group in group_by_seed(runs) if group.spec.epochs]
    trained += [SeedGroup(spec, tuple(members), ()) for spec, members in begun.items()]
    if not trained:
        return None
    recipes = _recipe_names([group.spec for group in trained])
    data = trained[0].spec.data
    keys = [g.spec.replace(data=data) if by == "network" else recipe_of(g.spec) for g in trained]
    panels = pd.Series(trained).groupby(keys, sort=False)
    size = (4.4, 3.8) if by == "recipe" else (2.7, 2.3)
    figure, grid = panel_grid(len(panels), *size)
    unfinished: list[str] = []
    for axes, (_, members) in zip(grid, panels, strict=True):
        for variant, splits in members.groupby(pd.Index([group.spec.variant for group in members]), sort=False):
            look = VARIANT_STYLE[str(variant)]
            histories = [run.history for group in splits if group.scores for run in group.runs]
            if not histories:
                histories = [run.history for group in splits for run in group.runs]
                length, spec = min(map(len, histories)), splits.iloc[0].spec
                histories = [history[:length] for history in histories]
                unfinished.append(f"{spec.network}, {length} of {spec.epochs} epochs")
            for key, width in (("train_error", 1), ("test_error", 2.6)):
                errors = 100 * np.array([[row[key] for row in history] for history in histories])
                epochs = np.arange(1, errors.shape[1] + 1)
                every = max(1, len(epochs) // 6)
                axes.plot(epochs, errors.mean(axis=0), **look, lw=width, ms=3 + width, mec="white", markevery=every)
                if len(errors) > 1:
                    band = errors.min(axis=0), errors.max(axis=0)
                    axes.fill_between(epochs, *band, color=look["color"], alpha=0.18, lw=0)
        spec = members.iloc[0].spec
        axes.set_title(recipes[recipe_of(spec)] if by == "recipe" else spec.variant, size=10)
        axes.set_ylim(-3, 103)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    figure.supxlabel("epoch", size=10)
    figure.supylabel("error (%)", size=10)
    names = dict.fromkeys(group.spec.variant for group in trained)
    handles = [Line2D([], [], **VARIANT_STYLE[name], lw=2, mec="white", label=name) for name in names]
    handles += [Line2D([], [], color=GRAY, lw=lw, label=label) for lw, label in ((1, "training"), (2.6, "test"))]
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
    if unfinished:
        title = fill(f"unfinished: {'; '.join(dict.fromkeys(unfinished))}", 100)
        figure.suptitle(title, x=0.01, ha="left", color=GRAY, size=9)
    return figure


def error_table(runs: Sequence[Run]) -> Styler | Markdown:
    """The errors of Figure 3 after the last epoch, in per cent, a row for each network, for a notebook.

    Differences are to R(2+1)D of the same recipe, without it to its first network, in points; negative where this
    network has the lower error.
    That of the training error has Welch's 95 % interval over seeds; the test error's has recordings too, so none here.
    """
    trained = [(spec, group) for spec, group in group_all(runs) if spec.epochs]
    recipes, bases, rows = _recipe_names([spec for spec, _ in trained]), {}, []
    for pair in sorted(trained, key=lambda pair: pair[0].variant != "R(2+1)D"):  # the first of them, and its runs
        bases.setdefault(recipe_of(pair[0]), pair)
    for spec, group in trained:
        base, baseline = bases[recipe_of(spec)]
        row = {"recipe": recipes[recipe_of(spec)], "network": spec.variant}
        for name, key in (("training", "train_error"), ("test", "test_error")):
            values, less = (member.errors(key)[:, -1] if member else np.empty(0) for member in (group, baseline))
            spread = f" ({format_interval(values.min(), values.max())})" if len(values) > 1 else ""
            row[f"{name} error (%)"] = f"{values.mean():.1f}{spread}" if group else "–"
            difference = f"{values.mean() - less.mean():+.1f}" if group and baseline else "–"
            if name == "training" and min(len(values), len(less)) > 1:
                gap = estimate_sum_of_means([(1, values), (-1, less)])
                difference += f" ({format_interval(gap.low, gap.high, '+.1f')})"
            row[f"{name} error minus {base.variant}'s (points)"] = "" if spec == base else difference
        rows.append(row | {"seeds": group.seeds if group else NOT_RUN})
    return show_table(pd.DataFrame(rows), runs)


def _recipe_names(specs: Sequence[Spec]) -> dict[Spec, str]:
    """The depth of each recipe, and where recipes differ in them the width, clip length, task and origin of weights."""
    texts = [
        (f"width {spec.width}", f"{spec.frames} frames", QUESTIONS[spec.task], describe_training(spec))
        for spec in specs
    ]
    differ = [len({*column}) > 1 for column in zip(*texts, strict=True)]
    return {
        recipe_of(spec): ", ".join([f"{spec.depth} layers", *compress(text, differ)])
        for spec, text in zip(specs, texts, strict=True)
    }


# --- Figure 5a and Table 3 ------------------------------------------------------------------------------------------


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


# --- Figure 5b ------------------------------------------------------------------------------------------------------


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
    return show_table(table, used, {"minus all clips (points)": "{:+.2f}"})


# --- the temporal probe ---------------------------------------------------------------------------------------------


def probe_results(runs: Sequence[Run]) -> pd.DataFrame:
    """`measure` with the task, the frame step and the span of each network's clips.

    `span` is the number of the video's frames from the first to the last of a clip, at 1 and at 8 times the rate for
    `speed`.
    """
    table = measure(runs)
    if len(table):
        table["task"], table["step"] = zip(*((spec.task, spec.frame_stride) for spec in table["spec"]), strict=True)
        table["span"] = [" to ".join(map(str, _clip_spans(spec))) for spec in table["spec"]]
    return table


def _clip_spans(spec: Spec) -> list[int]:
    """The number of the video's frames that a clip of the task spans, at the slowest and at the fastest rate."""
    return [(spec.frames - 1) * spec.frame_stride * speed + 1 for speed in ((1, 8) if spec.task == "speed" else (1,))]


def short_videos_line(specs: Sequence[Spec], manifest: Path | str) -> str:
    """The fraction of the test videos in the CSV `manifest` that are shorter than the longest clip of the task, for
    each clip length and step of `specs`.
    """
    try:
        videos = pd.read_csv(manifest, usecols=["split", "frames"], dtype={"frames": "Int64"}, encoding="utf-8-sig")
        frames = videos.loc[videos["split"] == "test", "frames"].astype(int)
    except (OSError, ValueError) as error:
        return f"{manifest} does not give the lengths of the test videos ({type(error).__name__})."
    parts = []
    for length, step, span in dict.fromkeys((spec.frames, spec.frame_stride, _clip_spans(spec)[-1]) for spec in specs):
        percent = 100 * (frames < span).sum() / max(len(frames), 1)
        parts.append(f"{percent:.1f} % with {length} frames at stride {step} (a span of {span})")
    return (
        f"Test videos shorter than the longest clip, of {len(frames):,}: {', '.join(parts)}. Their clips "
        "continue at the first frame, and this jump reveals the label."
    )


@figure_of_runs
def probe_figure(runs: Sequence[Run]) -> Figure:
    """Accuracy on the playback rate or the direction, a panel for each clip length and step; the dashed line is
    chance, bars are 95 % intervals.
    """
    table = probe_results(runs).dropna(subset="video@1")
    table["title"] = [
        f"{QUESTIONS[str(row.task)]}: {row.frames} frames at stride {row.step}\n(a span of {row.span} frames)"
        for row in table.itertuples()
    ]
    return draw_against_chance(table)


def probe_table(runs: Sequence[Run]) -> Styler | Markdown:
    """`probe_results` for a notebook, with their protocol as the caption."""
    table = probe_results(runs)
    if len(table):
        table["above chance (points)"] = table["video@1"] - table["chance"]
        columns = ["network", "task", "frames", "step", "span", "video@1", INTERVAL, "chance", "above chance (points)"]
        names = {"video@1": "accuracy (%)", "chance": "chance (%)"}
        table = table[[*columns, "videos", "seeds"]].rename(columns=names)
    return show_table(table, runs, {"above chance (points)": "{:+.1f}", "chance (%)": 0})
