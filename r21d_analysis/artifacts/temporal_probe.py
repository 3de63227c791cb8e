"""Accuracy on the playback rate or the direction of a video, which takes motion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from r21d_analysis.artifacts.figures import draw_against_chance
from r21d_analysis.artifacts.measures import INTERVAL, measure
from r21d_analysis.artifacts.tables import show_table
from r21d_analysis.style import QUESTIONS, figure_of_runs
from r21d_core.runs.run import Run
from r21d_core.study.spec import Spec


def probe_results(runs: Sequence[Run]) -> pd.DataFrame:
    """`measure` with the task, the frame stride and the span of each network's clips.

    `span` is the number of the video's frames from the first to the last of a clip, at 1 and at 8 times the rate for
    `speed`.
    """
    table = measure(runs)
    if len(table):
        table["task"], table["stride"] = zip(*((spec.task, spec.frame_stride) for spec in table["spec"]), strict=True)
        table["span"] = [" to ".join(map(str, _clip_spans(spec))) for spec in table["spec"]]
    return table


def _clip_spans(spec: Spec) -> list[int]:
    """The number of the video's frames that a clip of the task spans, at the slowest and at the fastest rate."""
    return [(spec.frames - 1) * spec.frame_stride * speed + 1 for speed in ((1, 8) if spec.task == "speed" else (1,))]


def short_videos_line(specs: Sequence[Spec], manifest: Path | str) -> str:
    """The fraction of the test videos in the CSV `manifest` that are shorter than the longest clip of the task, for
    each clip length and frame stride of `specs`.
    """
    try:
        videos = pd.read_csv(manifest, usecols=["split", "frames"], dtype={"frames": "Int64"}, encoding="utf-8-sig")
        frames = videos.loc[videos["split"] == "test", "frames"].astype(int)
    except (OSError, ValueError) as error:
        return f"{manifest} does not give the lengths of the test videos ({type(error).__name__})."
    parts = []
    for length, stride, span in dict.fromkeys((s.frames, s.frame_stride, _clip_spans(s)[-1]) for s in specs):
        percent = 100 * (frames < span).sum() / max(len(frames), 1)
        parts.append(f"{percent:.1f} % with {length} frames at stride {stride} (a span of {span})")
    return (
        f"Test videos shorter than the longest clip, of {len(frames):,}: {', '.join(parts)}. Their clips "
        "continue at the first frame, and this jump reveals the label."
    )


@figure_of_runs
def probe_figure(runs: Sequence[Run]) -> Figure:
    """Accuracy on the playback rate or the direction, a panel for each clip length and stride; the dashed line is
    chance, bars are 95 % intervals.
    """
    table = probe_results(runs).dropna(subset="video@1")
    table["title"] = [
        f"{QUESTIONS[str(row.task)]}: {row.frames} frames at stride {row.stride}\n(a span of {row.span} frames)"
        for row in table.itertuples()
    ]
    return draw_against_chance(table)


def probe_table(runs: Sequence[Run]) -> Styler | Markdown:
    """`probe_results` for a notebook, with their protocol as the caption."""
    table = probe_results(runs)
    if len(table):
        table["above chance (points)"] = table["video@1"] - table["chance"]
        columns = ["network", "task", "frames", "stride", "span", "video@1", INTERVAL, "chance"]
        columns += ["above chance (points)", "videos", "seeds"]
        table = table[columns].rename(columns={"video@1": "accuracy (%)", "chance": "chance (%)"})
    return show_table(table, runs, {"above chance (points)": "{:+.1f}", "chance (%)": 0})
