"""Response times and memory of the explorer at the size of Kinetics' validation set."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from r21d_core.runs.run import find_run, write_scores, write_summary
from r21d_core.runs.scores import Scores
from r21d_core.study.experiments import variant_comparison

VIDEOS, CLASSES, CLIPS = 20_000, 400, 10
ROUNDS = 5


def bench_explorer() -> list[dict]:
    """Return a row of the median, fastest and slowest milliseconds for each widget, then a row of opening two runs.

    Times are from setting a widget until all pictures and tables are sent, drawing included, in a new process on random
    scores of two runs. `gib` is the peak memory of that process.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="r21d-bench-") as folder:
        for function in (_write_runs, _measure):
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                rows = pool.submit(function, folder, VIDEOS, CLASSES, CLIPS).result() or []
    setting = {"bench": "explorer", "data": f"{VIDEOS:,} videos, {CLASSES} classes, {CLIPS} clips, two runs"}
    return [setting | row for row in rows]


def _write_runs(folder: str, videos: int, classes: int, clips: int) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(videos) % classes
    names = tuple(f"class number {number}" for number in range(classes))
    protocol = {"data": "made up", "split": "test", "task": "action", "crop": "none", "averaging": "mean of softmax",
            "profile": "small"}  # fmt: skip
    for spec in variant_comparison("small", "made up", variants=("f-R2D", "R(2+1)D"), eval_clips=clips):
        run = find_run(folder, spec)
        run.folder.mkdir()
        (run.folder / "spec.json").write_text(spec.to_json())
        logits = random.standard_normal((videos, clips, classes), np.float32)
        logits += random.standard_normal((videos, 1, classes), np.float32)  # clips of a video are alike
        logits[np.arange(videos), :, labels] += 3
        files = np.array([f"video {n:05d}.mp4" for n in range(videos)])
        groups = np.array([f"recording {n // 5:04d}" for n in range(videos)])
        write_scores(run, Scores(logits, labels, files, groups, names, protocol))
        write_summary(run, {"device": "none"})


def _measure(folder: str, videos: int, classes: int, clips: int) -> list[dict]:
    from r21d_analysis.explorer.widget import TABS, Explorer

    began = time.perf_counter()
    explorer = Explorer(folder)
    opened = time.perf_counter() - began
    rows = []

    def time_ms(function: Callable[[], object]) -> float:
        began = time.perf_counter()
        function()
        return 1000 * (time.perf_counter() - began)

    def add_row(what: str, times: list[float]) -> None:
        ms = {"ms": statistics.median(times), "ms_fastest": min(times), "ms_slowest": max(times)}
        rows.append({"what": what} | ms)

    def time_widget(what: str, widget, name: str, values, before: Callable[[], object] = lambda: None) -> None:
        times = []
        for value in [*values] * ROUNDS:
            before()
            if value != getattr(widget, name):
                times.append(time_ms(lambda value=value: setattr(widget, name, value)))
        add_row(what, times)

    def open_tab(number: int) -> None:
        explorer.tabs.selected_index = number

    for number, tab in enumerate(TABS[:3]):
        open_tab(number)
        time_widget(f"clips a video, in {tab}", explorer.clips, "value", explorer.clips.options)
    open_tab(0)
    time_widget("other classes", explorer.class_table, "selected_rows", ([3, 7, 9], [1, 2], []))
    time_widget("another tab", explorer.tabs, "selected_index", (1, 2, 0))
    open_tab(1)
    time_widget("the other network's confusion", explorer.matrix_side, "value", ("B", "A"))
    time_widget("per cent instead of items", explorer.percent, "value", (True, False))
    time_widget("a confused pair", explorer.pairs, "selected_rows", ([0], [1], [2]), lambda: open_tab(1))
    explorer.true.value = explorer.pred.value = -1  # any
    time_widget("another filter", explorer.items, "value", explorer.items.options)
    explorer.items.value = "all"
    time_widget("a search", explorer.search, "value", ("number 7", "video 0001", ""))
    time_widget("another video", explorer.videos, "selected_rows", ([0], [1], [2], [3], [4]))
    time_widget("the runs swapped, from memory", explorer.b, "value", (None, explorer.b.value))
    runs = explorer.b.value
    assert runs is not None
    times, reading = [], []
    for _ in range(ROUNDS):
        explorer.b.value = None
        explorer.load.cache_clear()
        explorer.load(explorer.a.value)
        reading.append(time_ms(lambda: runs[0].scores))
        times.append(time_ms(lambda: setattr(explorer.b, "value", runs)))
    add_row("a run that is not in memory", times)
    add_row("of that, reading its scores", reading)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return [*rows, {"what": "opening both runs", "ms": 1000 * opened, "gib": peak / 2**30}]
