"""Several processes (gloo, on the CPU) make the run of one process, also when some of them die."""

import contextlib
import os
import re
import signal
import time
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import nbformat
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from r21d_core import R21DError
from r21d_core.cli import main
from r21d_core.data import parallel
from r21d_core.data.sampling import evaluation_clips
from r21d_core.data.sources import open_clips
from r21d_core.engine import distributed, signals, throughput
from r21d_core.engine import evaluate as predicting
from r21d_core.engine.build import build_model
from r21d_core.engine.checkpoint import load_checkpoint
from r21d_core.engine.distributed import check_divisible, shard_batch
from r21d_core.engine.launcher import spawn_workers
from r21d_core.engine.plan import plan
from r21d_core.engine.runner import run_experiment
from r21d_core.engine.train import train
from r21d_core.runs.run import find_run, load_runs, write_summary
from r21d_core.study.spec import Spec
from tests.networks import NETWORK, TINY
from tests.r21d_core.engine.test_frozen import frozen_names, give
from tests.r21d_core.engine.test_train import (
    CPU,
    assert_same_run,
    deterministic_history,
    start_training,
    wait_until,
    weights,
)  # fmt: skip
from tests.workers import SPEC, fork_workers, in_two, output_of, train_and_kill

GOOD, BAD = [SPEC, SPEC.finetune_spec(epochs=0, eval_clips=5)], SPEC.replace(lr=1e30, warmup_epochs=0)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Limit started processes to one thread; conftest does so for this one."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def alone(tiny, tmp_path_factory):
    return train(SPEC, tiny, tmp_path_factory.mktemp("alone"), device="cpu")


def assert_close(run, other):
    """Assert equal runs up to the order of summation."""
    histories = [[list(line.values()) for line in deterministic_history(side.history)] for side in (run, other)]
    np.testing.assert_allclose(*histories, rtol=1e-4)
    torch.testing.assert_close(weights(run), weights(other), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(run.scores.logits, other.scores.logits, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(run.scores.videos, other.scores.videos)


def test_wrapping_for_several_processes_raises_no_warning(monkeypatch, recwarn):
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        monkeypatch.setattr(distributed, "world_size", lambda: 2)
        assert distributed.wrap_ddp(torch.nn.BatchNorm3d(2), CPU).module.num_features == 2
    finally:
        torch.distributed.destroy_process_group()
    assert not [str(warning.message) for warning in recwarn]


# Shards of a batch.


@given(clips=st.integers(1, 300), each=st.integers(1, 6), size=st.integers(1, 8))
def test_each_clip_is_in_one_micro_batch_of_one_shard(clips, each, size):
    shares = [shard_batch(clips, each * size, number, size) for number in range(size)]
    rows, parts = torch.arange(clips), []
    for share in shares:
        own = rows[share.rows]
        assert torch.equal(torch.cat([own[part] for part in share.micro_batches]), own)
        if share.is_empty:
            assert share.loss_scale == 0 and share.before + share.after == len(rows.chunk(each * size))
        else:
            assert share.loss_scale == size and share.before == len(parts)
            parts += [own[part] for part in share.micro_batches]
            assert share.after == len(rows.chunk(each * size)) - len(parts)
    assert not shares[0].is_empty
    assert [part.tolist() for part in parts] == [part.tolist() for part in rows.chunk(each * size)]


@pytest.mark.parametrize(
    ("spec", "processes", "settings"),
    [
        (Spec(), 8, "--set batch_size=256 --set grad_accum_steps=8 --set lr=0.08"),
        (Spec(batch_size=64, grad_accum_steps=2), 4, "--set batch_size=128 --set grad_accum_steps=4 --set lr=0.02"),
        (Spec(batch_size=30, grad_accum_steps=3), 2, "--set batch_size=60 --set grad_accum_steps=6 --set lr=0.02"),
    ],
)  # fmt: skip
def test_indivisible_batch_is_refused_with_settings_to_use(spec, processes, settings):
    with pytest.raises(R21DError) as error:
        check_divisible(spec, processes)
    assert f"`{settings}`" in str(error.value)
    for suggestion in re.findall("`(.*?)`", str(error.value)):
        changes = dict(setting.split("=") for setting in suggestion.replace("--set ", "").split())
        check_divisible(spec.replace(**changes), processes)
    check_divisible(spec.replace(init_from="x", epochs=0), processes)


def test_impossible_gpus_are_refused_before_training(tiny_manifest, tmp_path):
    with pytest.raises(R21DError, match="3 processes cannot share a batch of 4 × 2 clips evenly"):
        run_experiment([SPEC], tiny_manifest, tmp_path, device="cpu", gpus=3)
    with pytest.raises(R21DError, match="3 processes cannot share"):
        plan([SPEC], tiny_manifest, tmp_path, "cpu", gpus=3)
    many = torch.cuda.device_count() + 1
    with pytest.raises(R21DError, match=f"{many} GPUs: there are {many - 1} here; with device cpu"):
        spawn_workers(print, many, "auto")
    with pytest.raises(R21DError, match="0 GPUs: expected 1 or more"):
        run_experiment([SPEC], tiny_manifest, tmp_path, device="cpu", gpus=0)
    assert not list(tmp_path.iterdir())
    write_summary(find_run(tmp_path, SPEC), {})  # nothing is left to train
    with pytest.raises(R21DError, match="0 GPUs: expected 1 or more"):
        run_experiment([SPEC], tiny_manifest, tmp_path, device="cpu", gpus=0)


def test_torchrun_restarts_need_the_store_variable(tiny_manifest, tmp_path, monkeypatch):
    for name in ("WORLD_SIZE", "TORCHELASTIC_MAX_RESTARTS", *distributed.TORCHRUN_ENV):
        monkeypatch.setenv(name, "2")
    with pytest.raises(R21DError, match="export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
        run_experiment([SPEC], tiny_manifest, tmp_path, device="cpu")


def test_variables_of_torchrun_by_accident_are_named(tiny_manifest, tmp_path, monkeypatch, capsys):
    """A rank alone silences nothing. WORLD_SIZE without the others, and all of them where nobody starts the others."""
    command = ["train", "variant_comparison", "--variants", "R2D", "--manifest", str(tiny_manifest), "--device", "cpu"]
    command += ["--runs", str(tmp_path / "runs"), "--set", "epochs=1", "--set", "clips_per_epoch=8"]
    for name in ("WORLD_SIZE", *distributed.TORCHRUN_ENV):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "1")
    assert main(command) == 0 and "video@1" in capsys.readouterr().out
    assert main([*command, "--index", "9"]) == 1 and "--index 9: expected 0 to 0" in capsys.readouterr().err

    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("MASTER_PORT", "0")
    what = r"^WORLD_SIZE=4 .* sets LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR too; .* `unset WORLD_SIZE`$"
    with pytest.raises(R21DError, match=what):
        run_experiment([SPEC], tiny_manifest, tmp_path, device="cpu")

    for name, value in zip(distributed.TORCHRUN_ENV, ("0", "0", "1", "localhost", "0"), strict=True):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(parallel, "WORKER_TIMEOUT", 1)
    distributed._rendezvous.cache_clear()
    what = r"^rank 0 of 4: the processes did not meet at localhost:0 within 1 seconds \(.*\); .* `unset WORLD_SIZE`$"
    with pytest.raises(R21DError, match=what):
        run_experiment([SPEC], tiny_manifest, tmp_path, device="cpu")


def test_plan_for_two_processes_halves_the_time(tiny_manifest, tmp_path, monkeypatch):
    timed = []
    monkeypatch.setattr(throughput, "training_throughput", lambda *which: timed.append(which[-1]) or 1.0)
    monkeypatch.setattr(throughput.psutil, "getloadavg", lambda: (0, 0, 0))
    texts = [plan([SPEC.replace(epochs=400)], tiny_manifest, tmp_path, "cpu", gpus) for gpus in (1, 2)]
    assert "about 2.1 h on x86" in texts[0] and "about 1.1 h on 2 × x86" in texts[1]
    assert timed == [1, 2], "the micro-batches of one process"


# Evaluation.


@pytest.mark.parametrize("processes", [2, 3, 7])
def test_logits_of_several_processes_equal_those_of_one(tiny, monkeypatch, processes):
    """Each process fills its own rows of the zeros; the sum has all rows once."""
    videos, spec = tiny.split("test"), SPEC.replace(batch_size=2, grad_accum_steps=1)
    network, source = build_model(spec, 2, CPU), open_clips(videos, (18, 24), CPU)
    clips = evaluation_clips(spec, 3, videos, tiny.card.classes)
    whole = predicting.predict(network, source, clips, spec)
    monkeypatch.setattr(predicting, "world_size", lambda: processes)
    parts = []
    for number in range(processes):
        monkeypatch.setattr(predicting, "rank", lambda number=number: number)
        parts.append(predicting.predict(network, source, clips, spec))
    assert torch.equal(torch.stack(parts).sum(0), whole)
    assert all(((part != 0).any(1) == (part == whole).all(1)).all() for part in parts), "no row twice"


# Whole runs.


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Specs with frozen stages, of a network of one's own with dropout, and of one with parameters of no part in it."""
    folder, specs = tmp_path_factory.mktemp("others"), []
    for name, text in (("own_plain", ""), ("own_unused", "; self.unused = nn.Linear(2, 2)")):
        (folder / f"{name}.py").write_text(NETWORK.replace("nn.Dropout(0.5)", "nn.Dropout(0.5)" + text))
        specs.append(TINY.replace(variant=f"{name}:build", grad_accum_steps=2, clips_per_epoch=16))
    return [give(folder)[0].replace(frozen_stages=3, grad_accum_steps=2), *specs]


@pytest.fixture(scope="module")
def in_notebook(tiny_manifest, others, tmp_path_factory):
    """The runs that two processes of a notebook made, the cell's error from the one that fails, and its output.

    Every kind of network is trained here, as processes take longer to start than to train.
    """
    folder = tmp_path_factory.mktemp("notebook")
    cell = (
        "import os; del os.environ['TQDM_DISABLE']\n"
        "from r21d_core.engine.runner import run_experiment\n"
        "from r21d_core.study.spec import Spec\n"
        f"specs = [Spec.from_json(text) for text in {[spec.to_json() for spec in (*GOOD, BAD, *others)]}]\n"
        f"run_experiment(specs, {str(tiny_manifest)!r}, {str(folder)!r}, device='cpu', gpus=2)"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        code = Path(others[0].init_file).parent
        patch.setenv("PYTHONPATH", f"{code}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        patch.delenv("PYTEST_CURRENT_TEST")  # with it a kernel does not pass on what other processes print
        with pytest.raises(CellExecutionError) as error:
            NotebookClient(notebook, timeout=300).execute()
    said = "".join(output.text for output in notebook.cells[0].outputs if output.output_type == "stream")
    return folder, error.value, said


def test_two_processes_of_a_notebook_equal_one(alone, fit, in_notebook):
    """The cell shows their output and progress, and raises the error of the run that fails."""
    folder, error, said = in_notebook
    assert error.ename == "R21DError" and "1 of 6 runs failed:\nMC3, seed 0" in error.evalue
    # Each process names its own clips of the batch with the infinite loss.
    assert len(re.findall(r"v_g\d\d", error.evalue.split("checkpoint")[0])) in (2, 8)
    assert said.count("6 runs: 6 new") == 1 and "on 2 × " in said
    assert "MC3: epoch 3 of 3" in said and "evaluating" in said and "Traceback" not in said
    fit(GOOD[1], runs=alone.folder.parent)
    for spec in GOOD:
        run = find_run(folder, spec)
        assert run.is_complete and run.environment["device"].startswith("2 × ")
        assert_close(run, find_run(alone.folder.parent, spec))


@pytest.mark.parametrize("number", range(3), ids=["frozen stages", "own network", "unused parameters"])
def test_two_processes_equal_one_for_other_networks(others, in_notebook, fit, monkeypatch, number):
    """Frozen stages and parameters that have no part in the logits keep their values."""
    spec = others[number]
    monkeypatch.syspath_prepend(Path(others[0].init_file).parent)
    states = [weights(fit(spec)), weights(find_run(in_notebook[0], spec))]
    torch.testing.assert_close(*states, rtol=1e-4, atol=1e-5)
    if spec.frozen_stages:
        before = torch.load(spec.init_file)
        assert all(torch.equal(states[1][name], before[name]) for name in frozen_names(before, 3))


def test_stopped_and_killed_workers_resume_to_the_whole_run(
    alone, in_notebook, tiny_manifest, tmp_path, capfd, monkeypatch
):
    """Press Ctrl-C in the launcher; then kill rank one, and stop rank zero, which holds the lock of the run."""
    fork_workers(monkeypatch)
    runs = tmp_path / "runs"
    with pytest.raises(KeyboardInterrupt):
        spawn_workers(partial(in_two, tiny_manifest, runs, [(0, 1, signal.SIGINT)], checks=False), 2, "cpu")
    (run,), said = load_runs(runs), output_of(runs).read_text()
    at = load_checkpoint(run)["state"]
    assert not run.is_complete and (at["epoch"], at["step"]) == (1, 0), said
    assert said.count("stopped; the checkpoint has 1 of 3 epochs;") == 1
    assert "Traceback" not in said + capfd.readouterr().err

    monkeypatch.setattr(parallel, "WORKER_TIMEOUT", 2)
    killed = train_and_kill(tiny_manifest, runs, capfd, [(1, 1, signal.SIGKILL), (0, 2, signal.SIGSTOP)])
    assert_same_run(killed, find_run(in_notebook[0], SPEC))
    assert_close(killed, alone)


@pytest.mark.parametrize("processes", [1, 2])
def test_late_signal_does_not_interrupt_the_exit(monkeypatch, processes):
    """Of several processes; one alone ends at once."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(signals, "world_size", lambda: processes)
    try:
        with pytest.raises(SystemExit, match="143"), signals.graceful_shutdown():
            signals.exit_on_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt) if processes == 1 else contextlib.nullcontext():
            signal.raise_signal(signal.SIGINT)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_suspended_and_resumed_job_is_not_taken_for_dead(monkeypatch):
    store = Mock(check=Mock(side_effect=[False, False, True]), add=Mock(return_value=1))
    monkeypatch.setattr(distributed, "_rendezvous", lambda: (store, 1, 2))
    monkeypatch.setattr(parallel, "WORKER_TIMEOUT", 0.2)
    sleep = time.sleep
    monkeypatch.setattr(distributed.time, "sleep", lambda seconds: sleep(0.3))  # as if suspended while it polls
    distributed._wait_for_rank_zero("the first call")
    store.check.side_effect = None
    store.check.return_value = False
    monkeypatch.setattr(distributed.time, "sleep", lambda seconds: None)
    with pytest.raises(SystemExit, match=r"rank 0 did not respond for 0\.2 seconds"):
        distributed._wait_for_rank_zero("which never comes")


@pytest.mark.parametrize(
    ("launcher", "gpus", "sent", "code"),
    [
        (["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"], [], signal.SIGTERM, None),
        pytest.param([], ["--gpus", "2"], signal.SIGKILL, -9, marks=pytest.mark.slow),
    ],
    ids=["SIGTERM to torchrun", "kill -9 with --gpus"],
)
def test_stopped_processes_leave_a_checkpoint(tiny_manifest, tmp_path, launcher, gpus, sent, code):
    words = ("--index", "1", *gpus)
    process = start_training(tiny_manifest, tmp_path, SPEC.replace(epochs=100_000), *words, launcher=launcher)
    wait_until(lambda: process.poll() is not None or any(p.read_text() for p in tmp_path.glob("*/history.jsonl")))
    process.send_signal(sent)
    out, err = process.communicate(timeout=60)  # until the last worker has closed its end of the pipes
    assert out.count("1 run: 1 new") == 1 and "on 2 × " in out
    assert process.returncode == code if code else process.returncode
    assert launcher or "Traceback" not in err
    (run,) = load_runs(tmp_path)
    at = load_checkpoint(run)["state"]
    assert run.spec.variant == "MC3" and not run.is_complete and at["epoch"] >= 1 and at["history"] == run.history
