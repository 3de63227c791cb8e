"""Error by epoch, accuracy by number of clips, and what a network makes of time: Figures 3 and 5b, and the probe."""

from __future__ import annotations

import csv
import html
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

from r21d_analysis.artifacts.figures import GREY, VARIANT_STYLE, of_runs
from r21d_analysis.artifacts.tables import protocol_line
from r21d_analysis.statistics.aggregate import NOT_RUN, SeedGroup, group_all, group_by_seed
from r21d_analysis.statistics.inference import bootstrap_ci, correct_by_seed
from r21d_core import R21DError
from r21d_core.runs.run import Run
from r21d_core.runs.scores import Scores
from r21d_core.study.spec import Spec

CAPTION_LEFT = [{"selector": "caption", "props": "text-align: left; font-style: italic"}]


@of_runs
def error_curves(networks: list[SeedGroup], runs: Sequence[Run]) -> Figure | None:
    """Figure 3: error in per cent by epoch, a panel a depth: thin on the epoch's training clips, thick on the test
    videos' middle clips; lines are means over seeds, bands reach from the lowest to the highest seed."""
    panels = _by_recipe([(one.spec, one) for one in networks])
    if not panels:
        return None
    figure, grid = plt.subplots(
        1, len(panels), figsize=(4.4 * len(panels) + 1.6, 3.8), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, members in zip(grid[0], panels, strict=True):
        for _, one in members:
            look = VARIANT_STYLE[one.spec.variant]
            for key, width in (("train_error", 1), ("test_error", 2.6)):
                errors = _errors(one, key)
                epochs = np.arange(1, errors.shape[1] + 1)
                every = max(1, len(epochs) // 6)
                axes.plot(epochs, errors.mean(axis=0), **look, lw=width, ms=3 + width, mec="white", markevery=every)
                if len(errors) > 1:
                    axes.fill_between(
                        epochs, errors.min(axis=0), errors.max(axis=0), color=look["color"], alpha=0.18, lw=0
                    )
        axes.set(title=_recipe_name(members[0][0], panels), xlabel="epoch", ylim=(-3, 103))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    grid[0, 0].set_ylabel("error (%)")
    names = dict.fromkeys(spec.variant for members in panels for spec, _ in members)
    handles = [Line2D([], [], **VARIANT_STYLE[name], lw=2, mec="white", label=name) for name in names]
    handles += [Line2D([], [], color=GREY, lw=lw, label=label) for lw, label in ((1, "training"), (2.6, "test"))]
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
    return figure


def error_table(runs: Sequence[Run]) -> Styler | Markdown:
    """The errors behind Figure 3 after the last epoch, in per cent, a row a network, for a notebook.

    The differences are to the first network of the same depth, in points, negative where this one errs less. Of a
    network of which no run is finished, while others' are, the row says so.
    """
    rows, panels = [], _by_recipe(group_all(runs))
    for members in panels:
        base, first = members[0]
        for spec, one in members:
            row = {"recipe": _recipe_name(spec, panels), "network": spec.variant}
            for name, key in (("training", "train_error"), ("test", "test_error")):
                values, others = (each and _errors(each, key)[:, -1] for each in (one, first))
                less = f"{values.mean() - others.mean():+.1f}" if one and first else "–"
                row[f"{name} error (%)"] = _of_seeds(values) if one else "–"
                row[f"{name}: less {base.variant}'s (points)"] = "" if spec == base else less
            rows.append(row | {"seeds": one.seeds if one else NOT_RUN})
    if not rows:
        return Markdown("*No run is finished, so there is nothing to show yet.*")
    return _shown(pd.DataFrame(rows), runs)


Asked = tuple[Spec, SeedGroup | None]


def _by_recipe(networks: Sequence[Asked]) -> list[list[Asked]]:
    """The networks that are trained, those together that differ in their variant alone."""
    panels: dict = {}
    for spec, one in networks:
        if spec.epochs:
            panels.setdefault(spec.replace(variant="R3D", seed=0), []).append((spec, one))
    return list(panels.values())


def _recipe_name(spec: Spec, panels: list[list[Asked]]) -> str:
    """The depth, and the clip length where panels have several."""
    name = f"{spec.depth} layers"
    several = len({members[0][0].frames for members in panels}) > 1
    return f"{name}, {spec.frames} frames" if several else name


def _errors(one: SeedGroup, key: str) -> np.ndarray:
    return 100 * np.array([[line[key] for line in run.history] for run in one.runs])


def _of_seeds(values: np.ndarray) -> str:
    spread = f" ({values.min():.1f} to {values.max():.1f})" if len(values) > 1 else ""
    return f"{values.mean():.1f}{spread}"


def exact_counts(stored: int) -> list[int]:
    """The numbers of clips of which an evaluation would take the very frames that `stored` clips hold, ascending.

    Clip i of n begins at floor(i·room/(n−1)) and is clip i·(m−1)/(n−1) of m where n − 1 divides m − 1, in videos of
    any length. A single clip lies in the middle, which is one of m where m is odd.
    """
    middle = [1] if stored % 2 else []
    return middle + [count for count in range(2, stored + 1) if (stored - 1) % (count - 1) == 0]


def with_clips(scores: Scores, count: int) -> Scores:
    """The Scores that evaluating with `count` clips would have given; R21DError where stored clips do not hold them."""
    stored = scores.logits.shape[1]
    if count not in exact_counts(stored):
        counts = ", ".join(map(str, exact_counts(stored)))
        raise R21DError(f"clips: {count} are not among {stored} stored ones, expected one of {counts}")
    chosen = np.arange(count) * (stored - 1) // (count - 1) if count > 1 else [stored // 2]
    return replace(scores, logits=scores.logits[:, chosen], protocol=scores.protocol | {"clips": count})


def clip_counts(runs: Sequence[Run]) -> pd.DataFrame:
    """Accuracy of each network by number of clips, from the scores of its run with the most clips, no further pass.

    video@1 with its 95 % interval in per cent; `difference` to all clips on the same videos, with its paired
    interval, in points; a row a network and count of `exact_counts`, the largest last. Networks of which no run is
    finished, while others' are, come at the end with NaN.
    """
    rows = []
    for one in _most_clips(group_by_seed(runs)):
        for count in exact_counts(one.spec.eval_clips):
            fewer = SeedGroup(one.spec, one.runs, tuple(with_clips(scores, count) for scores in one.scores))
            low, high = fewer.interval
            # The same weights in both: a seed drawn is drawn for both, which `compare` would not do.
            less = 100 * (correct_by_seed(fewer.scores) - correct_by_seed(one.scores))
            less_low, less_high = bootstrap_ci(less)
            rows.append(
                {
                    "network": one.spec.variant,
                    "frames": one.spec.frames,
                    "clips": count,
                    "video@1": fewer.video_at(1),
                    "low": low,
                    "high": high,
                    "difference": less.mean(),
                    "difference low": less_low,
                    "difference high": less_high,
                    "videos": less.shape[1],
                    "seeds": one.seeds,
                }
            )
    missing = _most_clips([SeedGroup(spec, (), ()) for spec, one in group_all(runs) if not one])
    for spec in (one.spec for one in missing):
        rows.append({"network": spec.variant, "frames": spec.frames, "clips": spec.eval_clips, "seeds": NOT_RUN})
    return pd.DataFrame(rows)


def _most_clips(networks: Sequence[SeedGroup]) -> list[SeedGroup]:
    """Of each variant and clip length the one evaluated with the most clips."""
    most: dict = {}
    for one in sorted(networks, key=lambda one: one.spec.eval_clips):
        most[one.spec.variant, one.spec.frames] = one
    return [one for one in networks if one in most.values()]


@of_runs
def clip_count_curve(networks: list[SeedGroup], runs: Sequence[Run]) -> Figure:
    """Figure 5b: video@1 against the number of clips it is averaged over, with 95 % intervals."""
    table = clip_counts(runs).dropna(subset="video@1")
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    lines = list(table.groupby(["network", "frames"], sort=False))
    for place, ((variant, frames), rows) in enumerate(lines):
        beside = 1.03 ** (place - (len(lines) - 1) / 2)  # or bars would lie on each other
        spread = [rows["video@1"] - rows["low"], rows["high"] - rows["video@1"]]
        axes.errorbar(
            rows["clips"] * beside, rows["video@1"], spread, **VARIANT_STYLE[variant],
            ms=7, lw=1.6, elinewidth=1, capsize=2, mec="white", label=f"{variant}, {frames} frames",
        )  # fmt: skip
    axes.set(xscale="log", xlabel="clips a video", ylabel="video@1 (%)")
    ticks: list[int] = []
    for count in sorted(set(table["clips"])):
        if not ticks or count >= 1.25 * ticks[-1]:  # those nearer would overlap
            ticks.append(count)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:.0f}")
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def clip_count_table(runs: Sequence[Run]) -> Styler | Markdown:
    """`clip_counts` for a notebook: what fewer clips cost, against all that were stored, with its protocol."""
    counts = clip_counts(runs)
    if counts.empty:
        return Markdown("*No run is finished, so there is nothing to show yet.*")
    table = pd.DataFrame(
        {
            "network": counts["network"],
            "frames": counts["frames"],
            "clips": counts["clips"],
            "video@1 (%)": counts["video@1"],
            "95 % interval": _intervals(counts["low"], counts["high"], "{:.1f} to {:.1f}"),
            "less all clips' (points)": counts["difference"],
            "its 95 % interval": _intervals(counts["difference low"], counts["difference high"], "{:+.1f} to {:+.1f}"),
            "videos": counts["videos"].astype("Int64"),
            "seeds": counts["seeds"],
        }
    )
    used = _most_clips(group_by_seed(runs))
    return _shown(table, [run for one in used for run in one.runs], {"less all clips' (points)": "{:+.2f}"})


def probe_results(runs: Sequence[Run]) -> pd.DataFrame:
    """How often each network tells what its task asks, in per cent: a row a network, task, clip length and step.

    `span` is how many of the video's frames a clip reaches over, at 1 and at 8 times the rate for `speed`. NaN where no
    run of a network is finished, while others' are.
    """
    rows = []
    for spec, one in group_all(runs):
        row = {
            "network": spec.variant,
            "task": spec.task,
            "frames": spec.frames,
            "step": spec.frame_stride,
            "span": " to ".join(map(str, _reach(spec))),
        }
        if one:
            scores = one.scores[0]
            row |= dict(zip(("right", "low", "high"), (one.video_at(1), *one.interval), strict=True))
            row |= {"chance": 100 / len(scores.classes), "videos": len(np.unique(scores.videos))}
        rows.append(row | {"seeds": one.seeds if one else NOT_RUN})
    return pd.DataFrame(rows, columns=list(max(rows, key=len, default=[])))  # who was not run has fewer


def _reach(spec: Spec) -> list[int]:
    """How many of the video's frames a clip of the task reaches over, from the slowest rate to the fastest."""
    return [(spec.frames - 1) * spec.frame_stride * speed + 1 for speed in ((1, 8) if spec.task == "speed" else (1,))]


def short_videos_line(specs: Sequence[Spec], manifest: Path | str) -> str:
    """How many of the test videos in the CSV `manifest` the longest clip of a playback rate or direction does not fit
    into, for each clip length and step of `specs`, and what accuracy is of there."""
    try:
        with Path(manifest).open(encoding="utf-8-sig", newline="") as file:
            frames = np.array([int(row["frames"]) for row in csv.DictReader(file) if row["split"] == "test"])
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        return f"How many test videos are shorter than a clip is not known from {manifest} ({type(error).__name__})."
    shares = []
    for length, step, reach in dict.fromkeys((spec.frames, spec.frame_stride, _reach(spec)[-1]) for spec in specs):
        share = 100 * np.count_nonzero(frames < reach) / max(len(frames), 1)
        shares.append(f"{share:.1f} % with {length} frames at step {step} (reaching over {reach})")
    return (
        f"Test videos shorter than the longest clip, of {len(frames):,}: {', '.join(shares)}. There the clip begins "
        "anew at the first frame, a jump that gives the answer away, so that accuracy is not of motion alone."
    )


@of_runs
def probe_figure(networks: list[SeedGroup], runs: Sequence[Run]) -> Figure:
    """How often each network tells the playback rate or the direction, a panel a clip length and step; the dashed line
    is guessing, bars are 95 % intervals."""
    table = probe_results(runs).dropna(subset="right")
    names = list(dict.fromkeys(table["network"]))
    panels = list(table.groupby(["task", "frames", "step", "span", "chance"], sort=False))
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    figure, grid = plt.subplots(
        lines, columns, figsize=(2.9 * columns + 1.2, (0.32 * len(names) + 1.3) * lines),
        sharex=True, sharey=True, squeeze=False, layout="constrained",
    )  # fmt: skip
    asked = {"speed": "playback rate", "arrow": "direction", "action": "class"}
    for axes, ((task, frames, step, span, chance), rows) in zip(grid.flat, panels, strict=False):
        for row in rows.itertuples():
            spread = [[row.right - row.low], [row.high - row.right]]
            axes.errorbar(
                row.right, names.index(row.network), xerr=spread,
                **VARIANT_STYLE[row.network], ms=7, lw=1, capsize=2, mec="white",
            )  # fmt: skip
        axes.axvline(chance, color=GREY, ls="--", lw=1)
        axes.set_title(f"{asked[task]}: {frames} frames at step {step}\n(of {span} frames of the video)", size=10)
        axes.set(xlim=(-4, 104))
        axes.tick_params(labelbottom=True)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    grid[0, 0].set_yticks(range(len(names)), names)
    grid[0, 0].set_ylim(len(names) - 0.5, -0.5)
    figure.supxlabel("right (%)", size=10)
    return figure


def probe_table(runs: Sequence[Run]) -> Styler | Markdown:
    """`probe_results` for a notebook, with their protocol."""
    found = probe_results(runs)
    if found.empty:
        return Markdown("*No run is finished, so there is nothing to show yet.*")
    table = found[["network", "task", "frames", "step"]].copy()
    table["frames of the video"] = found["span"]
    table["right (%)"] = found["right"]
    table["95 % interval"] = _intervals(found["low"], found["high"], "{:.1f} to {:.1f}")
    table["chance (%)"] = found["chance"]
    table["above chance (points)"] = found["right"] - found["chance"]
    table["videos"], table["seeds"] = found["videos"].astype("Int64"), found["seeds"]
    return _shown(table, runs, {"above chance (points)": "{:+.1f}", "chance (%)": "{:.0f}"})


def _intervals(low: pd.Series, high: pd.Series, form: str) -> list[str]:
    return [form.format(*ends) if ends[0] == ends[0] else "–" for ends in zip(low, high, strict=True)]


def _shown(table: pd.DataFrame, runs: Sequence[Run], formats: dict[str, str] | None = None) -> Styler:
    """A table under its protocol, numbers with one digit where `formats` say nothing else."""
    each = {name: "{:.1f}" for name in table.columns if pd.api.types.is_float_dtype(table[name])}
    return (
        table.style.format(each | (formats or {}), na_rep="–", escape="html")
        .hide(axis="index")
        .set_caption(html.escape(protocol_line(runs)))
        .set_table_styles(CAPTION_LEFT)
    )
