"""Planning and training an experiment's runs."""

import io
import os
import platform
import re
import subprocess
import sys
import time
import weakref
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from threading import Event, Thread
from types import SimpleNamespace

import pytest
from tqdm import tqdm

from r21d_core import R21DError
from r21d_core.data import decode
from r21d_core.data.manifest import load_manifest, write_manifest
from r21d_core.engine import plan as planning
from r21d_core.engine import runner, throughput
from r21d_core.engine.build import check_batch_norm
from r21d_core.engine.plan import plan
from r21d_core.engine.runner import run_experiment
from r21d_core.engine.train import train
from r21d_core.runs.run import find_run, find_runs, lock, write_history, write_json, write_summary
from r21d_core.study.experiments import variant_comparison
from tests.r21d_core.engine.test_train import SPEC


def test_locked_runs_are_waited_for(tiny_manifest, tmp_path, monkeypatch, capsys):
    """A locked run is postponed, and so are runs that start from it; its holder is named once."""
    monkeypatch.setattr(runner, "LOCKED_SECONDS", 0.01)
    specs = [SPEC, SPEC.finetune_spec(epochs=0, eval_clips=3), SPEC.replace(seed=1)]
    run, last = (find_run(tmp_path, spec) for spec in (specs[0], specs[2]))
    locked, order = Event(), []

    def hold_lock():
        with lock(run):
            locked.set()
            while not last.is_complete:
                time.sleep(0.01)

    monkeypatch.setattr(
        runner, "train", lambda spec, *args, **options: (train(spec, *args, **options), order.append(spec))
    )
    thread = Thread(target=hold_lock)
    thread.start()
    locked.wait()
    runs = runner.run_experiment(specs, tiny_manifest, tmp_path, device="cpu")
    thread.join()
    said = f"locked by process {os.getpid()} on {platform.node()}; wait for it, or stop it"
    assert capsys.readouterr().out.count(said) == 1
    assert all(run.is_complete for run in runs) and order == [specs[2], specs[0], specs[1]]


def test_unchecked_manifest_is_refused_before_training(tiny, tmp_path):
    bare = [replace(video, frames=None, file=video.path.resolve()) for video in tiny.videos]
    write_manifest(tmp_path / "tiny.csv", replace(tiny.card, root=str(bare[0].path.parents[1])), bare)
    with pytest.raises(R21DError, match="run `r21d check`"):
        run_experiment([SPEC], tmp_path / "tiny.csv", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_only_the_demo_profile_uses_builtin_videos(tmp_path):
    match = r"profile small: needs your own data set.* in a notebook the parameter `manifest`"
    with pytest.raises(R21DError, match=match):
        run_experiment(variant_comparison("small"), None, tmp_path)


def test_runs_are_planned_trained_and_found(tiny_manifest, tmp_path, capsys):
    specs = [SPEC.replace(variant=variant, epochs=1) for variant in ("f-R2D", "R(2+1)D")]
    text = plan(specs, tiny_manifest, tmp_path, "cpu")
    assert "2 runs: 2 new" in text and "f-R2D-10 (seed 0" in text and "in all about" in text
    assert not list(tmp_path.iterdir()), "planning writes nothing"
    runs = run_experiment(specs, tiny_manifest, tmp_path, device="cpu")
    assert all(run.is_complete for run in runs)
    capsys.readouterr()
    for manifest in (None, tiny_manifest):
        assert run_experiment(specs, manifest, tmp_path) == find_runs(specs, tmp_path)
    assert capsys.readouterr().out == "", "complete runs need no data and print nothing"
    again = plan(specs, tiny_manifest, tmp_path, "cpu", anew=True)
    clips_left = [re.findall(r"\) +[\d,]+ +[\d.]+ +([\d,]+) ", plans) for plans in (text, again)]
    assert clips_left == [[f"{SPEC.clips_per_epoch}"] * 2] * 2, "as before they were trained"


def test_plan_measures_steps_when_rows_are_gone(tiny_manifest, tmp_path, monkeypatch):
    """With torch, which the measurement imports, a million rows would take a gigabyte."""
    loaded = []

    def load_and_watch(path):
        manifest = load_manifest(path)
        loaded.append(weakref.ref(manifest))
        return manifest

    def measure(specs, *_):
        assert not any(manifest() for manifest in loaded) and specs == todo
        # An epoch in half an hour, a start in six minutes, two runs at a time.
        return dict.fromkeys(specs, 22 / 1800), dict.fromkeys(specs, 360), 2, slowdown, "a device"

    monkeypatch.setattr(planning, "load_manifest", load_and_watch)
    monkeypatch.setattr(throughput, "measure_runs", measure)
    finished, *todo = SPEC.replace(seed=1), SPEC, SPEC.replace(seed=2, epochs=1)
    environment = {"fingerprint": load_manifest(tiny_manifest).fingerprint}
    write_json(find_run(tmp_path, finished), "environment.json", environment)
    write_summary(find_run(tmp_path, finished), {})
    begun = find_run(tmp_path, SPEC)
    begun.write("spec.json", SPEC.to_json())
    write_history(begun, [{"epoch": 1}])  # of three
    slowdown = 1.0
    text = plan([finished, *todo], tiny_manifest, tmp_path)
    assert "tiny: 8 train, 4 test videos" in text and "3 runs: 1 finished, 1 interrupted, 1 new" in text
    # Evaluation takes 4 videos × (1 epoch + 2 clips) / 3, as long as 4 of 22 training clips.
    assert "41 min\nin all about 1.2 h on a device, if nothing else runs there" in text, "as long as the longest run"
    slowdown = 2.0
    text = plan([finished, *todo], tiny_manifest, tmp_path)
    assert "in all about 1.2 h to 2.4 h on a device, as other processes use the CPU" in text
    for changes, what in (
        ({"data": "other"}, "has the name 'tiny', expected 'other'"),
        ({"init_from": "a.pth"}, "a.pth"),
    ):
        with pytest.raises(R21DError, match=what):
            plan([SPEC.replace(**changes)], tiny_manifest, tmp_path)


@pytest.mark.parametrize(("hours", "text"), [
    (0.01, "36 s"), (0.5, "30 min"), (47.9, "47.9 h"), (48.1, "2.0 days"), (17_000, "708.3 days"),
    (159_188.1, "18.2 years"),
])  # fmt: skip
def test_long_time_is_printed_in_days_or_years(tiny, tmp_path, monkeypatch, hours, text):
    sizes = {"tiny": planning.data_size(replace(tiny, videos=tiny.videos[:1]))}  # of train: no evaluation
    measured = {SPEC: 1e12}, {SPEC: hours * 3600}, 1, 1.0, "a device"
    monkeypatch.setattr(throughput, "measure_runs", lambda *_: measured)
    monkeypatch.setattr(planning, "_decoding_seconds", lambda *_: 0)
    plan, total = planning.make_plan([SPEC], sizes, tmp_path, "cpu", 1)
    assert total == pytest.approx(hours) and f"in all about {text} on a device" in plan
    assert plan.splitlines()[3].endswith(f"  {text}"), "a column of its own"


class PolledPool:
    """Two runs at once, of which one ends at every so many polls."""

    slots = 2

    def __init__(self, polls_of_run: int):
        self.polls, self.polls_of_run = 0, polls_of_run

    def submit(self, *_, **__):
        future = Future()
        future.set_result(None)
        return future

    def wait(self, futures):
        self.polls += 1
        return {next(iter(futures))} if self.polls % self.polls_of_run == 0 else set()


def test_waiting_for_workers_does_not_redraw_the_bar_at_once(tmp_path, monkeypatch):
    drawn = []
    for seconds in (30, 0):
        file = io.StringIO()
        bar = partial(tqdm, disable=False, file=file, mininterval=seconds, maxinterval=30)
        monkeypatch.setattr(runner, "tqdm", bar)
        specs = [SPEC, SPEC.replace(seed=1)]
        assert not runner._train_all(specs, {"tiny": None}, tmp_path, PolledPool(21))  # pyright: ignore[reportArgumentType]
        drawn.append(file.getvalue().count("runs"))
    assert drawn[0] == 1 and drawn[1] > 2 * 20, "but in a terminal also after a run has ended"


def test_bar_divides_by_the_time_since_the_start(tmp_path, monkeypatch):
    """A run takes ten polls of 30 seconds, each of which may draw the bar."""
    pool, file = PolledPool(10), io.StringIO()
    monkeypatch.setattr("tqdm.std.time", lambda: 30.0 * pool.polls)
    monkeypatch.setattr(runner, "tqdm", partial(tqdm, disable=False, file=file))
    specs = [SPEC.replace(seed=seed) for seed in range(3)]
    assert not runner._train_all(specs, {"tiny": None}, tmp_path, pool)  # pyright: ignore[reportArgumentType]
    assert "1/3 [05:00<10:00, 300.00s/run]" in file.getvalue()


@pytest.mark.parametrize("slots", [1, 2])
def test_plan_counts_decoding(tiny_manifest, tmp_path, monkeypatch, slots):
    """Of each process for itself, and the seconds until several have begun."""
    nothing = dict.fromkeys([SPEC], 1e9), dict.fromkeys([SPEC], 0), slots, 1.0, "a device"
    monkeypatch.setattr(throughput, "measure_runs", lambda *_: nothing)
    monkeypatch.setattr(planning, "available_cpus", lambda: 2)
    clock = SimpleNamespace(perf_counter=lambda: clock.now, now=0.0)
    monkeypatch.setattr(planning, "time", clock)
    monkeypatch.setattr(decode, "read_all", lambda *_: setattr(clock, "now", clock.now + 0.5))
    frames = [video.frames for video in load_manifest(tiny_manifest).videos]
    seconds = 0.5 * sum(frames) / frames[len(frames) // 2] / 2 * slots + (5 if slots > 1 else 0)  # on two cores
    assert f"in all about {seconds:.0f} s on" in plan([SPEC], tiny_manifest, tmp_path) and seconds > 3


def test_plan_counts_the_items_that_a_task_makes_of_a_video(tiny, tmp_path, monkeypatch):
    """And needs no file to be there."""
    videos = tuple(replace(video, root=tmp_path / "moved", file=None) for video in tiny.videos)
    seconds = {}
    for task in ("action", "speed"):
        spec = SPEC.replace(task=task)
        measured = {spec: 1.0}, {spec: 0.0}, 1, 1.0, "a device"
        monkeypatch.setattr(throughput, "measure_runs", lambda *_, measured=measured: measured)
        sizes = {"tiny": planning.data_size(replace(tiny, videos=videos))}
        seconds[task] = 3600 * planning.make_plan([spec], sizes, tmp_path, "cpu", 1)[1]
    # 4 test videos at one or four rates, in three epochs and in two clips at the end.
    assert seconds["speed"] - seconds["action"] == pytest.approx(4 * (4 - 1) * (3 + 2) / 3)


def test_start_of_each_network_is_timed_alone(monkeypatch):
    specs, seconds = [SPEC, SPEC.replace(variant="f-R2D")], iter((0.3, 0.1))
    monkeypatch.setattr(throughput, "training_throughput", lambda *_: time.sleep(next(seconds)) or 1.0)
    starts = throughput.measure_runs(specs, dict.fromkeys(specs, 3), "cpu", 1)[1]
    assert 0.3 <= starts[specs[0]] > starts[specs[1]] >= 0.1


def test_load_of_other_processes_lengthens_the_plan(monkeypatch):
    monkeypatch.setattr(throughput, "available_cpus", lambda: 2)
    monkeypatch.setattr(throughput.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(throughput, "training_throughput", lambda *_: 100.0)
    for load, expected in ((0.0, 1.0), (3.0, 2.0)):
        monkeypatch.setattr(throughput.psutil, "getloadavg", lambda load=load: (load, 0, 0))
        assert throughput.measure_runs([SPEC], {SPEC: 3}, "cpu", 1)[3] == expected, "one thread on two cores"
    assert throughput.measure_runs([SPEC], {SPEC: 3}, "cpu", 2)[3] == 2.5, "two processes"
    monkeypatch.setattr(throughput, "count_parallel_runs", lambda *_: 2)
    assert throughput.measure_runs([SPEC], {SPEC: 3}, "cpu", 1)[3] == 2.5, "two runs at a time"
    monkeypatch.setattr(throughput.os, "cpu_count", lambda: 8)
    assert throughput.measure_runs([SPEC], {SPEC: 3}, "cpu", 1)[3] == (3 / 4 + 2) / 2, "two of eight cores"
    assert throughput.measure_runs([SPEC], {SPEC: 3}, "cpu", 4)[3] == (3 / 4 + 2) / 2, "which is all that it may use"


def test_rows_take_little_memory_and_no_torch(tmp_path):
    """A million rows are to be read in 500 MB."""
    rows = "".join(
        f"train/class {i % 40}/{i:011x}_{i:06d}_{i + 10:06d}.mp4,class {i % 40},train,{i:011x},300,29.97,340,256\n"
        for i in range(100_000)
    )
    (tmp_path / "many.csv").write_text("video,label,split,group,frames,fps,width,height\n" + rows)
    classes = ", ".join(f'"class {i}"' for i in range(40))
    (tmp_path / "many.json").write_text(f'{{"name": "many", "classes": [{classes}]}}')
    code = (
        "import resource, sys\nfrom r21d_core.engine import plan\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\nmanifest = plan.load_manifest(sys.argv[1])\n"
        "print((peak() - before) * 1024 / len(manifest.videos), {'torch', 'av', 'pandas'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "many.csv")]
    size, modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(" ", 1)
    assert float(size) < 420 and modules == "set()\n"


def test_large_network_on_a_cpu_is_announced(tiny_manifest, tmp_path, monkeypatch, capsys):
    timed, said = [], []

    def measure(spec, *_):
        timed.append(spec)
        said.append(capsys.readouterr().out)
        return 1.0

    monkeypatch.setattr(throughput, "training_throughput", measure)
    plan([SPEC.replace(width=256)], tiny_manifest, tmp_path, "cpu")
    plan([SPEC], tiny_manifest, tmp_path, "cpu")
    assert "profile `demo`" in said[0] and "days" not in said[0], "which the plan says"
    assert "--dry-run" not in said[0] and not said[1], "before anything is timed"
    assert [spec.batch_size for spec in timed] == [2, SPEC.batch_size]


def test_failing_run_does_not_stop_the_others(tiny_manifest, tmp_path):
    specs = [SPEC.replace(epochs=1, lr=1e30, warmup_epochs=0), SPEC.replace(epochs=1)]
    with pytest.raises(R21DError, match=r"1 of 2 runs failed:\nR3D, seed 0"):
        run_experiment(specs, tiny_manifest, tmp_path, device="cpu")
    assert find_run(tmp_path, specs[1]).is_complete


def test_batch_of_one_value_is_refused_before_training(tiny_manifest, tiny, tmp_path):
    """The last of the four batches is one clip. The other run, which could be trained, is not begun either."""
    bad = SPEC.replace(clips_per_epoch=19, variant="R2D")
    match = r"^R2D, seed 0: some batch is one clip, .* make clips_per_epoch = 19 a multiple of batch_size = 6 and"
    with pytest.raises(R21DError, match=match):
        run_experiment([SPEC, bad], tiny_manifest, tmp_path / "runs", device="cpu")
    with pytest.raises(R21DError, match=match):
        train(bad, tiny, tmp_path / "runs", device="cpu")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "is_refused"),
    [
        ({}, True),
        ({"clips_per_epoch": 20}, False),
        ({"clips_per_epoch": 18}, False),
        ({"clips_per_epoch": 1}, True),
        ({"clips_per_epoch": 18, "batch_size": 1}, True),
        ({"clips_per_epoch": 18, "grad_accum_steps": 6}, True),
        ({"clips_per_epoch": 21, "grad_accum_steps": 2}, True),  # three clips are a micro-batch of two and one of one
        ({"crop": 17}, False),
        ({"frames": 9}, False),
        ({"variant": "f-R2D"}, False),  # keeps all frames
        ({"variant": "s3d", "frames": 8, "frame_height": 32, "frame_width": 32, "crop": 32}, True),
        ({"variant": "mvit_v2_s"}, False),  # has no batch norm
        ({"init_from": "x", "epochs": 0}, False),
    ],
)
def test_batches_that_batch_norm_cannot_train_on(changes, is_refused):
    spec = SPEC.replace(**{"clips_per_epoch": 19} | changes)
    with pytest.raises(R21DError, match="batch norm cannot train") if is_refused else nullcontext():
        check_batch_norm(spec)


def test_plan_over_max_hours_is_not_trained(tiny_manifest, tmp_path, capsys):
    runs = run_experiment([SPEC], tiny_manifest, tmp_path, device="cpu", max_hours=0)
    assert not runs[0].is_complete and "nothing is trained" in capsys.readouterr().out and not list(tmp_path.iterdir())
