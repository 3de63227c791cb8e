"""Worker processes end with the main process, and one that dies or stops is reported in one line."""

import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from types import SimpleNamespace

import psutil
import pytest
import torch

from r21d_core import R21DError
from r21d_core.data import parallel
from r21d_core.data.manifest import load_manifest
from r21d_core.data.parallel import available_memory, map_in_processes
from r21d_core.data.sampling import sample_epoch
from r21d_core.data.sources import StreamingSource
from r21d_core.study.spec import Spec

SPEC = Spec(frames=4, frame_height=18, frame_width=24, crop=16, clips_per_epoch=400)


def living(processes):
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize(
    ("line", "mount", "maximum", "current", "inactive"),
    [
        ("0::/job_7/step_0", "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
        ("4:cpu,memory:/job_7/step_0", "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
         "total_inactive_file"),
    ],
)  # fmt: skip
def test_memory_is_the_least_of_the_control_groups(tmp_path, monkeypatch, line, mount, maximum, current, inactive):
    """Of a job of 1000 bytes that has used 700, 200 of them for files, on a machine of 5000; its step has no limit."""
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=5000))
    assert available_memory(tmp_path) == 5000, "without control groups"
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(f"9:pids:/other\n{line}\n")
    assert available_memory(tmp_path) == 5000, "no limit can be seen"
    job = tmp_path / mount / "job_7"
    for folder, limit in ((job / "step_0", "max"), (job, "1000")):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / maximum).write_text(f"{limit}\n")
        (folder / current).write_text("700\n")
        (folder / "memory.stat").write_text(f"anon 500\n{inactive} 200\n")
    assert available_memory(tmp_path) == 500


def test_workers_end_with_a_killed_main_process():
    imports = "import time; from r21d_core.data.parallel import map_in_processes"
    command = [sys.executable, "-c", f"{imports}; list(map_in_processes(time.sleep, [60] * 9, 2, ''))"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while len(children := psutil.Process(process.pid).children(recursive=True)) < 4:  # two workers and two servers
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    time.sleep(0.5)
    process.kill()
    process.wait()
    end = time.monotonic() + 5
    while living(children) and time.monotonic() < end:
        time.sleep(0.05)
    assert not living(children)


@pytest.mark.parametrize(
    ("number", "message"), [(signal.SIGKILL, "a worker process died"), (signal.SIGSTOP, "no result for 10 seconds")]
)
def test_dead_or_stopped_worker_is_one_line(number, message, monkeypatch):
    if number == signal.SIGSTOP:
        monkeypatch.setattr(parallel, "WORKER_TIMEOUT", 10)
    signals = [signal.SIGCHLD, signal.SIGCHLD, number, *[signal.SIGCHLD] * 6]  # which a process ignores
    with pytest.raises(R21DError, match=f"^{message}.*; nothing was written.* Run with --workers 0") as error:
        list(map_in_processes(signal.raise_signal, signals, 2, "nothing was written"))
    assert "\n" not in str(error.value)
    assert list(map_in_processes(str, range(9), 2, "")) == list("012345678"), "later calls work"


@pytest.mark.parametrize("dies", [False, True])
def test_stopped_worker_does_not_delay_the_end(dies, monkeypatch):
    before = psutil.Process().children(recursive=True)
    results = map_in_processes(abs, range(99), 2, "")
    assert next(results) == 0
    *_, worker, other = (process for process in psutil.Process().children(recursive=True) if process not in before)
    monkeypatch.setattr(parallel, "WORKER_TIMEOUT", 60 if dies else 1)
    worker.suspend()
    other.kill() if dies else other.suspend()
    resume = threading.Timer(20, worker.kill)
    resume.start()
    start = time.monotonic()
    with pytest.raises(R21DError, match="a worker process died") if dies else nullcontext():
        list(results) if dies else results.close()
    resume.cancel()
    assert time.monotonic() - start < 15


def test_stopped_worker_of_a_stream_is_one_line(tiny_manifest, monkeypatch):
    manifest = load_manifest(tiny_manifest)
    clips = sample_epoch(SPEC, 0, manifest.split("train"), manifest.card.classes)
    batches = [clips[begin : begin + 2] for begin in range(0, 400, 2)]
    source = StreamingSource(manifest.split("train"), (18, 24), torch.device("cpu"), 1)
    before = psutil.Process().children(recursive=True)
    iterator = source.iter_batches(batches)
    next(iterator)  # the first process takes long to import
    monkeypatch.setattr(parallel, "WORKER_TIMEOUT", 10)
    (*_, worker) = (process for process in psutil.Process().children(recursive=True) if process not in before)
    worker.suspend()
    with pytest.raises(R21DError, match=r"^no result for 10 seconds.*; the same command continues the run\. Run with"):
        list(iterator)
    assert len(list(source.iter_batches(batches[:3]))) == 3, "later runs work"
