"""Runs of small networks on a CPU are trained at once, in worker processes with one thread each."""

import os
import signal
from threading import Thread, Timer

import psutil
import pytest
import torch

from r21d_core import R21DError
from r21d_core.data import parallel
from r21d_core.data.parallel import available_cpus
from r21d_core.engine import pool
from r21d_core.engine.checkpoint import load_checkpoint
from r21d_core.engine.plan import plan
from r21d_core.engine.pool import count_parallel_runs
from r21d_core.engine.runner import run_experiment
from r21d_core.runs.run import find_runs, load_runs
from r21d_core.study.experiments import variant_comparison
from tests.r21d_core.engine.test_train import CPU, assert_same_run, start_training, wait_until
from tests.r21d_core.engine.test_train import SPEC as TRAIN_SPEC

SPEC = TRAIN_SPEC.replace(epochs=2, clips_per_epoch=16, batch_size=8, warmup_epochs=0, lr_decay_epochs=0)
LONG = [SPEC.replace(variant=variant, epochs=100_000) for variant in ("R3D", "MC3")]


@pytest.fixture
def two_cores(monkeypatch):
    """Two workers, however short the runs."""
    monkeypatch.setattr(pool, "available_cpus", lambda: 2)
    monkeypatch.setattr(pool, "MIN_MACS", 0)


def workers(process: psutil.Process) -> list[psutil.Process]:
    """The children of the process's fork server."""
    return [child for child in process.children(recursive=True) if child.ppid() != process.pid]


def test_small_networks_on_a_cpu_are_trained_one_a_core(monkeypatch):
    monkeypatch.setattr(pool, "available_cpus", lambda: 4)
    demo, small = variant_comparison("demo"), variant_comparison("small", "ucf101")
    assert count_parallel_runs(demo, CPU) == 4
    assert count_parallel_runs(demo[:2], CPU) == 2
    assert count_parallel_runs([*demo, small[0]], CPU) == 1, "a large network takes all cores"
    assert count_parallel_runs(demo, torch.device("cuda")) == 1
    assert count_parallel_runs([SPEC, LONG[0].replace(epochs=1)], CPU) == 1, "done before workers have started"


def test_runs_of_workers_equal_those_of_one_process(two_cores, fit, tiny_manifest, tmp_path, capsys):
    """With a finetuned run, which waits for its parent, and one that fails."""
    specs = [SPEC, SPEC.replace(lr=1e30), SPEC.finetune_spec(epochs=1), SPEC.replace(variant="MC3")]
    assert "CPU, 1 thread, 2 runs at a time" in plan(specs, tiny_manifest, tmp_path)
    with pytest.raises(R21DError, match=r"^1 of 4 runs failed:\nR3D, seed 0: .* the loss of step"):
        run_experiment(specs, tiny_manifest, tmp_path / "pool", device="cpu")
    assert "starts from" in capsys.readouterr().out
    for spec, run in zip(specs, find_runs(specs, tmp_path / "pool"), strict=True):
        if spec.lr == 1e30:
            assert not run.is_complete
            continue
        assert run.environment["device"].endswith("CPU, 1 thread")
        assert_same_run(run, fit(spec, runs=tmp_path / "alone"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_dead_or_stopped_worker_is_reported_and_runs_go_on(
    two_cores, tiny_manifest, tmp_path, number, monkeypatch, capfd
):
    monkeypatch.setattr(parallel, "WORKER_TIMEOUT", 2)

    def kill():
        wait_until(lambda: all(run.history for run in find_runs(LONG, tmp_path)))
        workers(psutil.Process())[0].send_signal(number)

    thread = Thread(target=kill)
    thread.start()
    with pytest.raises(R21DError, match=r"^2 of 3 runs failed:(\n(R3D|MC3), seed 0: its worker .* died.* resumes){2}$"):
        run_experiment([*LONG, SPEC], tiny_manifest, tmp_path, device="cpu")
    thread.join()
    assert ("worker process was stopped for 2 seconds and is killed" in capfd.readouterr().err) is (
        number == signal.SIGSTOP
    )
    assert sum(run.has_checkpoint for run in find_runs(LONG, tmp_path)) == 1, "the other one has saved"
    assert find_runs([SPEC], tmp_path)[0].is_complete
    wait_until(lambda: not workers(psutil.Process()))


def test_sigterm_continues_a_stopped_worker_to_save(two_cores, tiny_manifest, tmp_path):
    ends = []

    def stop():
        wait_until(lambda: all(run.history for run in find_runs(LONG, tmp_path)))
        stopped = workers(psutil.Process())[0]
        stopped.send_signal(signal.SIGSTOP)
        ends.append(Timer(60, stopped.kill))  # without a checkpoint
        ends[0].start()
        os.kill(os.getpid(), signal.SIGTERM)

    thread = Thread(target=stop)
    thread.start()
    with pytest.raises(SystemExit, match="143"):
        run_experiment(LONG, tiny_manifest, tmp_path, device="cpu")
    thread.join()
    ends[0].cancel()
    wait_until(lambda: not workers(psutil.Process()))
    for run in find_runs(LONG, tmp_path):
        assert not run.is_complete and load_checkpoint(run)["state"]["epoch"] >= 1


@pytest.mark.skipif(available_cpus() < 2, reason="needs two cores")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_stopped_workers_leave_checkpoints(tiny_manifest, tmp_path, number):
    """SIGINT reaches all processes, as from a terminal; SIGKILL only the parent."""
    parent = start_training(tiny_manifest, tmp_path, LONG[0])
    wait_until(lambda: [bool(run.history) for run in load_runs(tmp_path)] == [True, True])
    processes = workers(psutil.Process(parent.pid))
    assert len(processes) == 2
    os.killpg(parent.pid, number) if number == signal.SIGINT else parent.send_signal(number)
    out, err = parent.communicate(timeout=60)
    assert parent.returncode == {signal.SIGINT: 130, signal.SIGKILL: -9}[number]
    assert "Traceback" not in err
    assert number == signal.SIGKILL or "leaked" not in err, "a process that is killed leaves its semaphores behind"
    assert not psutil.wait_procs(processes, timeout=60)[1]
    for run in load_runs(tmp_path):
        assert not run.is_complete and (epochs := load_checkpoint(run)["state"]["epoch"]) >= 1
        assert f"{run.folder}: stopped; the checkpoint has {epochs} of 100000 epochs" in out
