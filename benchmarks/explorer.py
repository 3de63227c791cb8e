"""How long the explorer takes to answer at the size of Kinetics' validation set, and how much memory it takes."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from r21d_core.runs.run import find_run, write_scores, write_summary
from r21d_core.runs.scores import Scores, load_scores
from r21d_core.study.experiments import variant_comparison

VIDEOS, CLASSES, CLIPS = 20_000, 400, 10
ROUNDS = 5


def bench_explorer(videos: int = VIDEOS, classes: int = CLASSES, clips: int = CLIPS) -> list[dict]:
    """A row for each thing a widget asks: the median, the fastest and the slowest milliseconds; then of opening.

    From a widget's being set to the last picture's being handed over, drawing included, in a process of its own on
    made-up scores of two runs. `gib` is the most memory that process had.
    """
    fresh = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="r21d-bench-") as folder:
        for work in (_write_runs, _measure):
            with ProcessPoolExecutor(1, mp_context=fresh) as alone:
                rows = alone.submit(work, folder, videos, classes, clips).result() or []
    setting = {"bench": "explorer", "data": f"{videos:,} videos, {classes} classes, {clips} clips, two runs"}
    return [setting | row for row in rows]


def _write_runs(folder: str, videos: int, classes: int, clips: int) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(videos) % classes
    names = tuple(f"class number {number}" for number in range(classes))
    told = {"data": "made up", "split": "test", "task": "action", "crop": "none", "averaging": "mean of softmax",
            "profile": "small"}  # fmt: skip
    for spec in variant_comparison("small", "made up", variants=("f-R2D", "R(2+1)D"), eval_clips=clips):
        run = find_run(folder, spec)
        made = Path(str(run.folder))
        made.mkdir()
        (made / "spec.json").write_text(spec.to_json())
        logits = random.standard_normal((videos, clips, classes), np.float32)
        logits += random.standard_normal((videos, 1, classes), np.float32)  # clips of a video are alike
        logits[np.arange(videos), :, labels] += 3
        scores = Scores(logits, labels, np.array([f"video {n:05d}.mp4" for n in range(videos)]), names, told)
        write_scores(run, scores)
        write_summary(run, {"device": "none"})


def _measure(folder: str, videos: int, classes: int, clips: int) -> list[dict]:
    from r21d_analysis.explorer.widget import TABS, Explorer

    began = time.perf_counter()
    shown = Explorer(folder)
    opened = time.perf_counter() - began
    rows, handed = [], [0.0]
    pictures = (shown.summary, shown.class_bars, shown.matrix, shown.video)
    for one in pictures:
        one.observe(lambda change: handed.append(time.perf_counter()), "value")

    def blank() -> None:
        for one in pictures:
            one.value = ""  # the same picture again would not be handed over

    def row(what: str, widget, name: str, values) -> None:
        times = []
        for value in [*values] * ROUNDS:
            if value == getattr(widget, name):
                continue
            blank()
            began = time.perf_counter()
            setattr(widget, name, value)
            times.append(1000 * (handed[-1] - began))
        rows.append({"what": what, "ms": statistics.median(times), "ms_fastest": min(times), "ms_slowest": max(times)})

    for number, tab in enumerate(TABS[:3]):
        shown.tabs.selected_index = number
        row(f"clips a video, in {tab}", shown.clips, "value", shown.clips.options)
    shown.tabs.selected_index = 0
    row("another order", shown.order, "value", shown.order.options)
    row("another page of classes", shown.first, "value", (1, 101, 201))
    row("another tab", shown.tabs, "selected_index", (1, 2, 0))
    shown.tabs.selected_index = 1
    row("the other run's confusion", shown.side, "value", ("B", "A"))
    times, filled = [], [cell for label, cell in shown.cells.options if not label.endswith(": 0")]
    for cell in filled[: 3 * ROUNDS]:
        shown.tabs.selected_index = 1
        blank()
        began = time.perf_counter()
        shown.cells.value = cell
        times.append(1000 * (handed[-1] - began))
    rows.append({"what": "a click on a cell", "ms": statistics.median(times), "ms_fastest": min(times),
                 "ms_slowest": max(times)})  # fmt: skip
    shown.true.value = shown.pred.value = None
    row("another filter", shown.items, "value", shown.items.options)
    shown.items.value = "all"
    row("another video", shown.videos, "value", [value for _, value in shown.videos.options[:5]])
    row("the runs swapped, from memory", shown.b, "value", (None, shown.b.value))
    run, times, reading = shown.b.value, [], []
    assert run is not None
    for _ in range(ROUNDS):
        shown.b.value = None
        shown.load.cache_clear()
        shown.load(shown.a.value)
        began = time.perf_counter()
        load_scores(run.folder / "scores.npz")
        reading.append(1000 * (time.perf_counter() - began))
        blank()
        began = time.perf_counter()
        shown.b.value = run
        times.append(1000 * (handed[-1] - began))
    for what, each in (("a run that is not in memory", times), ("of that, reading its scores", reading)):
        rows.append({"what": what, "ms": statistics.median(each), "ms_fastest": min(each), "ms_slowest": max(each)})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return [*rows, {"what": "opening both runs", "ms": 1000 * opened, "gib": peak / 2**30}]
