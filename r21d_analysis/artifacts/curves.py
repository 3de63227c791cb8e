"""Error by epoch, accuracy by number of clips, and the temporal probe: Figures 3 and 5b, and one of our own."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from pandas.io.formats.style import Styler

from r21d_analysis.artifacts.figures import draw_against_chance
from r21d_analysis.artifacts.tables import protocol_line
from r21d_analysis.statistics.aggregate import NOT_RUN, SeedGroup, group_all, group_by_seed
from r21d_analysis.statistics.clips import exact_counts, with_clips
from r21d_analysis.statistics.inference import estimate_mean, format_interval, seed_variance
from r21d_analysis.style import ERROR_BAR, GRAY, NO_RUNS, VARIANT_STYLE, figure_of_runs, note, panel_grid, style_table
from r21d_core.runs.run import Run
from r21d_core.study.spec import Spec

QUESTIONS = {"speed": "playback rate", "arrow": "direction", "action": "class"}
Member = tuple[Spec, SeedGroup | None]


# --- Figure 3 -------------------------------------------------------------------------------------------------------


@figure_of_runs
def error_curves(groups: list[SeedGroup], runs: Sequence[Run]) -> Figure | None:
    """Figure 3: error in per cent by epoch, a panel for each depth: thin on the epoch's training clips, thick on the
    center clips of the test videos; lines are means over seeds, bands span all seeds.
    """
    panels = _by_recipe([(group.spec, group) for group in groups])
    if not panels:
        return None
    figure, grid = plt.subplots(
        1, len(panels), figsize=(4.4 * len(panels) + 1.6, 3.8), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, members in zip(grid[0], panels, strict=True):
        for spec, group in members:
            look = VARIANT_STYLE[spec.variant]
            for key, width in (("train_error", 1), ("test_error", 2.6)):
                errors = _errors(group, key)
                epochs = np.arange(1, errors.shape[1] + 1)
                every = max(1, len(epochs) // 6)
                axes.plot(epochs, errors.mean(axis=0), **look, lw=width, ms=3 + width, mec="white", markevery=every)
                if len(errors) > 1:
                    band = errors.min(axis=0), errors.max(axis=0)
                    axes.fill_between(epochs, *band, color=look["color"], alpha=0.18, lw=0)
        axes.set(title=_recipe_name(members[0][0], panels), xlabel="epoch", ylim=(-3, 103))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    grid[0, 0].set_ylabel("error (%)")
    names = dict.fromkeys(spec.variant for members in panels for spec, _ in members)
    handles = [Line2D([], [], **VARIANT_STYLE[name], lw=2, mec="white", label=name) for name in names]
    handles += [Line2D([], [], color=GRAY, lw=lw, label=label) for lw, label in ((1, "training"), (2.6, "test"))]
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
    return figure


def error_table(runs: Sequence[Run]) -> Styler | Markdown:
    """The errors of Figure 3 after the last epoch, in per cent, a row for each network, for a notebook.

    Differences are to the first network of the same depth, in points; negative where this network has the lower error.
    """
    rows, panels = [], _by_recipe(group_all(runs))
    for members in panels:
        base, first = members[0]
        for spec, group in members:
            row = {"recipe": _recipe_name(spec, panels), "network": spec.variant}
            for name, key in (("training", "train_error"), ("test", "test_error")):
                values, less = (_errors(member, key)[:, -1:] for member in (group, first))
                row[f"{name} error (%)"] = _format_seeds(values)
                difference = f"{values.mean() - less.mean():+.1f}" if group and first else "–"
                row[f"{name} error minus {base.variant}'s (points)"] = "" if spec == base else difference
            rows.append(row | {"seeds": group.seeds if group else NOT_RUN})
    return style_table(pd.DataFrame(rows), protocol_line(runs)) if rows else note(NO_RUNS)


def _by_recipe(members: Sequence[Member]) -> list[list[Member]]:
    """The trained networks, grouped by all settings but the variant."""
    panels: dict[Spec, list[Member]] = {}
    for spec, group in members:
        if spec.epochs:
            panels.setdefault(spec.replace(variant="R3D", seed=0), []).append((spec, group))
    return list(panels.values())


def _recipe_name(spec: Spec, panels: list[list[Member]]) -> str:
    """The depth, and the clip length where panels differ in it."""
    several = len({members[0][0].frames for members in panels}) > 1
    return f"{spec.depth} layers" + f", {spec.frames} frames" * several


def _errors(group: SeedGroup | None, key: str) -> np.ndarray:
    """Error in per cent, (seeds, epochs); without a group (0, 0)."""
    if group is None:
        return np.empty((0, 0))
    return 100 * np.array([[line[key] for line in run.history] for run in group.runs])


def _format_seeds(values: np.ndarray) -> str:
    spread = f" ({format_interval(values.min(), values.max())})" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread}" if len(values) else "–"


# --- Figure 5b ------------------------------------------------------------------------------------------------------


def clip_counts(runs: Sequence[Run]) -> pd.DataFrame:
    """video@1 of each network by number of clips, from the scores of its run with the most clips.

    A row for each network and count of `exact_counts`, the largest last: video@1 with its 95 % interval in per cent,
    and `difference` to all clips, with its paired interval, in points. Networks without a finished run come last.
    """
    rows, pairs = [], []
    for group in _most_clips(group_by_seed(runs)):
        for count in exact_counts(group.spec.eval_clips):
            fewer = replace(group, scores=tuple(with_clips(scores, count) for scores in group.scores))
            pairs.append((group, count, fewer, fewer.outcomes - group.outcomes))  # the same weights, seed by seed
    counts = {count for _, count, *_ in pairs}
    pooled = {count: seed_variance(loss for _, of, _, loss in pairs if of == count) for count in counts}
    for group, count, fewer, loss in pairs:
        less = estimate_mean([loss], pooled[count])
        rows.append(
            {
                "network": group.spec.variant,
                "frames": group.spec.frames,
                "clips": count,
                "video@1": fewer.video_at(1),
                "low": fewer.accuracy.low,
                "high": fewer.accuracy.high,
                "difference": less.value,
                "difference low": less.low,
                "difference high": less.high,
                "videos": group.videos,
                "seeds": group.seeds,
            }
        )
    missing = _most_clips([SeedGroup(spec, (), ()) for spec, group in group_all(runs) if not group])
    specs = [group.spec for group in missing]
    rows += [{"network": s.variant, "frames": s.frames, "clips": s.eval_clips, "seeds": NOT_RUN} for s in specs]
    return pd.DataFrame(rows)


def _most_clips(groups: Sequence[SeedGroup]) -> list[SeedGroup]:
    """Of each variant and clip length the group that was evaluated with the most clips."""
    most = {}
    for group in sorted(groups, key=lambda group: group.spec.eval_clips):
        most[group.spec.variant, group.spec.frames] = group
    return [group for group in groups if group in most.values()]


@figure_of_runs
def clip_count_curve(groups: list[SeedGroup], runs: Sequence[Run]) -> Figure:
    """Figure 5b: video@1 against the number of clips it is averaged over, with 95 % intervals."""
    table = clip_counts(runs).dropna(subset="video@1")
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    lines = list(table.groupby(["network", "frames"], sort=False))
    for place, ((variant, frames), rows) in enumerate(lines):
        shift = 1.03 ** (place - (len(lines) - 1) / 2)  # keeps bars apart
        spread = [rows["video@1"] - rows["low"], rows["high"] - rows["video@1"]]
        look = VARIANT_STYLE[variant] | ERROR_BAR | {"lw": 1.6, "elinewidth": 1}
        axes.errorbar(rows["clips"] * shift, rows["video@1"], spread, **look, label=f"{variant}, {frames} frames")
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
    counts = clip_counts(runs)
    if counts.empty:
        return note(NO_RUNS)
    table = pd.DataFrame(
        {
            "network": counts["network"],
            "frames": counts["frames"],
            "clips": counts["clips"],
            "video@1 (%)": counts["video@1"],
            "95 % interval": map(format_interval, counts["low"], counts["high"]),
            "minus all clips (points)": counts["difference"],
            "its 95 % interval": [
                format_interval(*ends, "+.1f")
                for ends in zip(counts["difference low"], counts["difference high"], strict=True)
            ],
            "videos": counts["videos"].astype("Int64"),
            "seeds": counts["seeds"],
        }
    )
    used = [run for group in _most_clips(group_by_seed(runs)) for run in group.runs]
    return style_table(table, protocol_line(used), {"minus all clips (points)": "{:+.2f}"})


# --- the temporal probe ---------------------------------------------------------------------------------------------


def probe_results(runs: Sequence[Run]) -> pd.DataFrame:
    """Accuracy of each network on its task in per cent: a row for each network, task, clip length and frame step.

    `span` is the number of the video's frames from the first to the last of a clip, at 1 and at 8 times the rate for
    `speed`. NaN for a network without a finished run.
    """
    rows = []
    for spec, group in group_all(runs):
        span = " to ".join(map(str, _clip_spans(spec)))
        row = {"network": spec.variant, "task": spec.task, "frames": spec.frames, "step": spec.frame_stride}
        row |= {"span": span} | dict.fromkeys(("accuracy", "low", "high", "chance", "videos"), np.nan)
        if group:
            estimate, chance = group.accuracy, 100 / len(group.scores[0].classes)
            row |= {"accuracy": group.video_at(1), "low": estimate.low, "high": estimate.high}
            row |= {"chance": chance, "videos": group.videos}
        rows.append(row | {"seeds": group.seeds if group else NOT_RUN})
    return pd.DataFrame(rows)


def _clip_spans(spec: Spec) -> list[int]:
    """The number of the video's frames that a clip of the task spans, at the slowest and at the fastest rate."""
    return [(spec.frames - 1) * spec.frame_stride * speed + 1 for speed in ((1, 8) if spec.task == "speed" else (1,))]


def short_videos_line(specs: Sequence[Spec], manifest: Path | str) -> str:
    """The fraction of the test videos in the CSV `manifest` that are shorter than the longest clip of the task, for
    each clip length and step of `specs`.
    """
    try:
        with Path(manifest).open(encoding="utf-8-sig", newline="") as file:
            frames = np.array([int(row["frames"]) for row in csv.DictReader(file) if row["split"] == "test"])
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        return f"{manifest} does not give the lengths of the test videos ({type(error).__name__})."
    parts = []
    for length, step, span in dict.fromkeys((spec.frames, spec.frame_stride, _clip_spans(spec)[-1]) for spec in specs):
        percent = 100 * np.count_nonzero(frames < span) / max(len(frames), 1)
        parts.append(f"{percent:.1f} % with {length} frames at step {step} (a span of {span})")
    return (
        f"Test videos shorter than the longest clip, of {len(frames):,}: {', '.join(parts)}. There the clip wraps "
        "around to the first frame, and the jump gives the label away."
    )


@figure_of_runs
def probe_figure(groups: list[SeedGroup], runs: Sequence[Run]) -> Figure:
    """Accuracy on the playback rate or the direction, a panel for each clip length and step; the dashed line is
    chance, bars are 95 % intervals.
    """
    table = probe_results(runs).dropna(subset="accuracy")
    names = list(dict.fromkeys(table["network"]))
    settings = list(table.groupby(["task", "frames", "step", "span", "chance"], sort=False))
    figure, panels = panel_grid(len(settings), 3.2, 0.32 * len(names) + 1.3)
    for axes, ((task, frames, step, span, _), rows) in zip(panels, settings, strict=True):
        draw_against_chance(axes, rows, names)
        axes.set_title(f"{QUESTIONS[str(task)]}: {frames} frames at step {step}\n(a span of {span} frames)", size=10)
        axes.tick_params(labelbottom=True)
    figure.supxlabel("accuracy (%)", size=10)
    return figure


def probe_table(runs: Sequence[Run]) -> Styler | Markdown:
    """`probe_results` for a notebook, with their protocol as the caption."""
    results = probe_results(runs)
    if results.empty:
        return note(NO_RUNS)
    table = results[["network", "task", "frames", "step", "span"]].copy()
    table["accuracy (%)"] = results["accuracy"]
    table["95 % interval"] = list(map(format_interval, results["low"], results["high"]))
    table["chance (%)"] = results["chance"]
    table["above chance (points)"] = results["accuracy"] - results["chance"]
    table["videos"], table["seeds"] = results["videos"].astype("Int64"), results["seeds"]
    return style_table(table, protocol_line(runs), {"above chance (points)": "{:+.1f}", "chance (%)": 0})
