"""Response times and memory of the explorer at the size of Kinetics' validation set."""

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
    """Return a row of the median, fastest and slowest milliseconds for each widget, then a row of opening two runs.

    Times are from setting a widget until the last picture is sent, drawing included, in a new process on random scores
    of two runs. `gib` is the peak memory of that process.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="r21d-bench-") as folder:
        for function in (_write_runs, _measure):
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                rows = pool.submit(function, folder, videos, classes, clips).result() or []
    setting = {"bench": "explorer", "data": f"{videos:,} videos, {classes} classes, {clips} clips, two runs"}
    return [setting | row for row in rows]


def _write_runs(folder: str, videos: int, classes: int, clips: int) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(videos) % classes
    names = tuple(f"class number {number}" for number in range(classes))
    protocol = {"data": "made up", "split": "test", "task": "action", "crop": "none", "averaging": "mean of softmax",
            "profile": "small"}  # fmt: skip
    for spec in variant_comparison("small", "made up", variants=("f-R2D", "R(2+1)D"), eval_clips=clips):
        run = find_run(folder, spec)
        made = Path(str(run.folder))
        made.mkdir()
        (made / "spec.json").write_text(spec.to_json())
        logits = random.standard_normal((videos, clips, classes), np.float32)
        logits += random.standard_normal((videos, 1, classes), np.float32)  # clips of a video are alike
        logits[np.arange(videos), :, labels] += 3
        files = np.array([f"video {n:05d}.mp4" for n in range(videos)])
        groups = np.array([f"recording {n // 5:04d}" for n in range(videos)])
        scores = Scores(logits, labels, files, groups, names, protocol)
        write_scores(run, scores)
        write_summary(run, {"device": "none"})


def _milliseconds(times: list[float]) -> dict[str, float]:
    return {"ms": statistics.median(times), "ms_fastest": min(times), "ms_slowest": max(times)}


def _measure(folder: str, videos: int, classes: int, clips: int) -> list[dict]:
    from r21d_analysis.explorer.widget import TABS, Explorer

    began = time.perf_counter()
    explorer = Explorer(folder)
    opened = time.perf_counter() - began
    rows, sent = [], [0.0]
    outputs = (explorer.summary, explorer.class_bars, explorer.matrix, explorer.video)
    for output in outputs:
        output.observe(lambda change: sent.append(time.perf_counter()), "value")

    def clear() -> None:
        for output in outputs:
            output.value = ""  # an unchanged value would not be sent

    def row(what: str, widget, name: str, values) -> None:
        times = []
        for value in [*values] * ROUNDS:
            if value == getattr(widget, name):
                continue
            clear()
            began = time.perf_counter()
            setattr(widget, name, value)
            times.append(1000 * (sent[-1] - began))
        rows.append({"what": what, **_milliseconds(times)})

    for number, tab in enumerate(TABS[:3]):
        explorer.tabs.selected_index = number
        row(f"clips a video, in {tab}", explorer.clips, "value", explorer.clips.options)
    explorer.tabs.selected_index = 0
    row("another order", explorer.order, "value", explorer.order.options)
    row("another page of classes", explorer.first, "value", (1, 101, 201))
    row("another tab", explorer.tabs, "selected_index", (1, 2, 0))
    explorer.tabs.selected_index = 1
    row("the other run's confusion", explorer.side, "value", ("B", "A"))
    times, filled = [], [cell for label, cell in explorer.cells.options if not label.endswith(": 0")]
    for cell in filled[: 3 * ROUNDS]:
        explorer.tabs.selected_index = 1
        clear()
        began = time.perf_counter()
        explorer.cells.value = cell
        times.append(1000 * (sent[-1] - began))
    rows.append({"what": "a click on a cell", "ms": statistics.median(times), "ms_fastest": min(times),
                 "ms_slowest": max(times)})  # fmt: skip
    explorer.true.value = explorer.pred.value = None
    row("another filter", explorer.items, "value", explorer.items.options)
    explorer.items.value = "all"
    row("another video", explorer.videos, "value", [value for _, value in explorer.videos.options[:5]])
    row("the runs swapped, from memory", explorer.b, "value", (None, explorer.b.value))
    run, times, reading = explorer.b.value, [], []
    assert run is not None
    for _ in range(ROUNDS):
        explorer.b.value = None
        explorer.load.cache_clear()
        explorer.load(explorer.a.value)
        began = time.perf_counter()
        load_scores(run.folder / "scores.npz")
        reading.append(1000 * (time.perf_counter() - began))
        clear()
        began = time.perf_counter()
        explorer.b.value = run
        times.append(1000 * (sent[-1] - began))
    for what, values in (("a run that is not in memory", times), ("of that, reading its scores", reading)):
        rows.append(
            {"what": what, "ms": statistics.median(values), "ms_fastest": min(values), "ms_slowest": max(values)}
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return [*rows, {"what": "opening both runs", "ms": 1000 * opened, "gib": peak / 2**30}]
