"""The loop: its recipe, its records, and that stopping it anywhere changes nothing."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from threading import Event, Thread

import numpy as np
import pytest
import torch

from r21d_core import R21DError
from r21d_core.data.manifest import load_manifest, write_manifest
from r21d_core.data.sampling import evaluation_clips, sample_epoch
from r21d_core.data.sources import open_clips
from r21d_core.data.transforms import augment
from r21d_core.engine import runner
from r21d_core.engine import train as engine
from r21d_core.engine.build import build_model, optimize
from r21d_core.engine.checkpoint import load_checkpoint
from r21d_core.engine.evaluate import predict
from r21d_core.engine.runner import find_runs, plan, run_experiment
from r21d_core.engine.train import lr_at_step, train
from r21d_core.runs.run import find_run, lock
from r21d_core.study.experiments import variant_comparison
from r21d_core.study.spec import Spec

SPEC = Spec(
    variant="R3D",
    depth=10,
    width=2,
    frames=4,
    data="tiny",
    profile="demo",
    frame_height=18,
    frame_width=24,
    crop=16,
    epochs=3,
    clips_per_epoch=22,
    batch_size=6,
    lr=0.05,
    warmup_epochs=1,
    lr_decay_epochs=1,
    eval_clips=2,
)


def weights(run):
    return load_checkpoint(run)["model"]


def told(history):
    """A history without its seconds, the one thing that may differ between equal runs."""
    return [{key: value for key, value in line.items() if key != "seconds"} for line in history]


def assert_same_run(one, other):
    assert told(one.history) == told(other.history)
    for name, value in weights(one).items():
        assert torch.equal(value, weights(other)[name]), name
    np.testing.assert_array_equal(one.scores.logits, other.scores.logits)


@pytest.fixture(scope="module")
def undisturbed(tiny_manifest, tmp_path_factory):
    return train(SPEC, load_manifest(tiny_manifest), tmp_path_factory.mktemp("runs"), device="cpu")


def test_run_leaves_every_record(undisturbed):
    assert undisturbed.is_complete
    names = {path.name for path in undisturbed.folder.iterdir()} - {".lock"}
    assert names == {
        "spec.json", "environment.json", "history.jsonl", "trained_on.txt", "checkpoint.pt", "scores.npz",
        "summary.json",
    }  # fmt: skip
    assert [line["epoch"] for line in undisturbed.history] == [1, 2, 3]
    assert set(undisturbed.history[0]) == {
        "epoch", "lr", "train_loss", "train_error", "test_loss", "test_error", "seconds",
    }  # fmt: skip
    scores = undisturbed.scores
    assert scores.logits.shape == (4, 2, 2) and scores.protocol["videos_evaluated"] == 4
    assert undisturbed.environment["packages"]["torch"] == torch.__version__.split("+")[0]
    assert undisturbed.summary["train_clips"] == 66


def test_a_run_done_is_not_done_again(undisturbed, tiny_manifest):
    before = {path: path.stat().st_mtime_ns for path in undisturbed.folder.iterdir()}
    train(SPEC, load_manifest(tiny_manifest), undisturbed.folder.parent, device="cpu")
    assert {path: path.stat().st_mtime_ns for path in undisturbed.folder.iterdir()} == before


def test_the_same_spec_gives_the_same_run(undisturbed, tiny_manifest, tmp_path):
    assert_same_run(undisturbed, train(SPEC, load_manifest(tiny_manifest), tmp_path, device="cpu"))


def test_a_stream_of_workers_gives_the_same_run(undisturbed, tiny_manifest, tmp_path):
    run = train(SPEC, load_manifest(tiny_manifest), tmp_path, device="cpu", cache="stream", workers=2)
    assert_same_run(undisturbed, run)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_on_a_cpu_every_precision_is_fp32(undisturbed, tiny_manifest, tmp_path, precision):
    """To the last bit of its weights after twelve steps, and of its scores."""
    run = train(SPEC.replace(precision=precision), load_manifest(tiny_manifest), tmp_path, device="cpu")
    assert_same_run(undisturbed, run)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)
def test_killed_and_resumed_is_the_run_never_stopped(undisturbed, tiny_manifest, tmp_path, how):
    """Stopped twice in a process of its own, some steps further the second time, then finished in this one."""
    code = (
        f"import sys, torch; torch.set_num_threads({torch.get_num_threads()})\n"
        "from r21d_core.data.manifest import load_manifest\n"
        "from r21d_core.engine import train as engine\n"
        "from r21d_core.study.spec import Spec\n"
        "manifest, spec, runs = sys.argv[1:]\n"
        "look = engine._flush_metrics\n"
        "def told(*args):\n"
        "    print('step', flush=True)\n"
        "    import time; time.sleep(0.05)\n"
        "    return look(*args)\n"
        "engine._flush_metrics = told\n"
        "engine.train(Spec.from_json(spec), load_manifest(manifest), runs, device='cpu', save_seconds=0)\n"
    )
    command = [sys.executable, "-c", code, str(tiny_manifest), SPEC.to_json(), str(tmp_path)]
    run = find_run(tmp_path, SPEC)
    for steps in (2, 5):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(steps):
            assert process.stdout.readline() == "step\n"
        process.send_signal(how)
        process.stdout.close()
        assert process.wait() != 0
        assert run.has_checkpoint and not run.is_complete
    reached = load_checkpoint(run)["state"]
    assert 5 <= 4 * reached["epoch"] + reached["step"] < 12, "it went on, and there is something left to do"
    assert_same_run(undisturbed, train(SPEC, load_manifest(tiny_manifest), tmp_path, device="cpu"))


def test_accumulated_parts_add_up_to_the_batch(tiny_manifest, tmp_path):
    """Against the same three parts and one step of SGD by hand."""
    spec = SPEC.replace(epochs=1, clips_per_epoch=6, batch_size=6, grad_accum_steps=3)
    whole = train(spec, load_manifest(tiny_manifest), tmp_path, device="cpu")
    manifest = load_manifest(tiny_manifest)
    network = build_model(spec, 2, torch.device("cpu"))
    optimiser = torch.optim.SGD(network.parameters(), lr_at_step(spec, 0, 1), 0.9, weight_decay=spec.weight_decay)
    videos = manifest.split("train")
    clips = sample_epoch(spec, 0, videos, manifest.card.classes)
    ((_, frames),) = open_clips(videos, (18, 24), torch.device("cpu")).iter_batches([clips])
    for begin in (0, 2, 4):
        rows = slice(begin, begin + 2)
        logits = network(augment(frames[rows], clips[rows], spec))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(clips.label[rows]), reduction="sum")
        (loss / 6).backward()
    optimiser.step()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(weights(whole)[name], value, rtol=1e-5, atol=1e-6)


def test_rate_warms_up_then_goes_down_stairs():
    spec = Spec()
    rates = [lr_at_step(spec, epoch * 100, 100) for epoch in range(45)]
    assert rates[0] == pytest.approx(0.01 / 1000) and rates[5] == pytest.approx(0.005, rel=0.01)
    assert rates[10:20] == [0.01] * 10
    assert rates[20:30] == pytest.approx([1e-3] * 10)
    assert rates[30:40] == pytest.approx([1e-4] * 10)
    assert rates[40:] == pytest.approx([1e-5] * 5)


def test_nan_stops_the_run_with_epoch_videos_and_checkpoint(tiny_manifest, tmp_path, monkeypatch):
    real = engine.augment
    calls = []

    def poisoned(frames, clips, spec):
        calls.append(clips)
        return real(frames, clips, spec) * (math.nan if len(calls) == 6 else 1)

    monkeypatch.setattr(engine, "augment", poisoned)
    with pytest.raises(R21DError) as error:
        train(SPEC, load_manifest(tiny_manifest), tmp_path, device="cpu", save_seconds=0)
    run = find_run(tmp_path, SPEC)
    videos = load_manifest(tiny_manifest).split("train")
    assert "in epoch 2, the loss of step 2 is nan" in str(error.value)
    assert all(videos[row].video in str(error.value) for row in calls[-1].video)
    assert str(run.folder / "checkpoint.pt") in str(error.value)
    assert not run.is_complete and all(v.isfinite().all() for v in weights(run).values())


def test_full_disk_while_saving_loses_nothing(undisturbed, tiny_manifest, tmp_path):
    """Files may not grow beyond 20 kB for a while, as on a full disk; afterwards the run goes on."""
    code = (
        f"import resource, sys, torch; torch.set_num_threads({torch.get_num_threads()})\n"
        "from r21d_core.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))\n"
        "from r21d_core.data.manifest import load_manifest\n"
        "from r21d_core.engine.train import train\n"
        "from r21d_core.study.spec import Spec\n"
        "train(Spec.from_json(sys.argv[2]), load_manifest(sys.argv[1]), sys.argv[3], device='cpu', save_seconds=0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tiny_manifest), SPEC.to_json(), str(tmp_path)], capture_output=True, text=True
    )
    assert result.returncode != 0 and "checkpoint.pt: could not be written" in result.stderr
    assert_same_run(undisturbed, train(SPEC, load_manifest(tiny_manifest), tmp_path, device="cpu"))


def test_checkpoint_of_another_spec_is_refused(undisturbed, tiny_manifest, tmp_path):
    other = find_run(tmp_path, SPEC.replace(lr=0.1))
    other.folder.mkdir(parents=True)
    (other.folder / "spec.json").write_text(other.spec.to_json())
    (other.folder / "checkpoint.pt").write_bytes((undisturbed.folder / "checkpoint.pt").read_bytes())
    with pytest.raises(R21DError, match=r"another spec \(lr differ"):
        train(other.spec, load_manifest(tiny_manifest), tmp_path, device="cpu")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a checkpoint", b"garbage"])
def test_damaged_checkpoint_is_named(tiny_manifest, tmp_path, content):
    run = find_run(tmp_path, SPEC)
    run.folder.mkdir(parents=True)
    (run.folder / "spec.json").write_text(SPEC.to_json())
    (run.folder / "checkpoint.pt").write_bytes(content)
    with pytest.raises(R21DError, match=r"checkpoint\.pt: not a complete checkpoint"):
        train(SPEC, load_manifest(tiny_manifest), tmp_path, device="cpu")


def test_two_processes_on_one_run(tiny_manifest, tmp_path):
    with lock(find_run(tmp_path, SPEC)), pytest.raises(R21DError, match=f"process {os.getpid()} is on this run"):
        train(SPEC, load_manifest(tiny_manifest), tmp_path, device="cpu")


def test_runs_that_another_process_is_on_are_waited_for(tiny_manifest, tmp_path, monkeypatch):
    """Two processes given the same runs share them: each takes what the other is not on, starts before what follows."""
    monkeypatch.setattr(runner, "LOCKED_SECONDS", 0.01)
    specs = [SPEC, SPEC.finetune_spec(epochs=0, eval_clips=3), SPEC.replace(seed=1)]
    run, other = (find_run(tmp_path, spec) for spec in (specs[0], specs[2]))
    held, order = Event(), []

    def hold():
        with lock(run):
            held.set()
            while not other.is_complete:
                time.sleep(0.01)

    def told(spec, *arguments, **options):
        done = train(spec, *arguments, **options)
        order.append(spec)
        return done

    monkeypatch.setattr(runner, "train", told)
    thread = Thread(target=hold)
    thread.start()
    held.wait()
    runs = runner.run_experiment(specs, tiny_manifest, tmp_path, device="cpu")
    thread.join()
    assert all(one.is_complete for one in runs) and order == [specs[2], specs[0], specs[1]]


def test_manifest_of_other_data_is_refused(tiny_manifest, tmp_path):
    with pytest.raises(R21DError, match="has the name 'tiny', expected 'kinetics-400'"):
        train(SPEC.replace(data="kinetics-400"), load_manifest(tiny_manifest), tmp_path, device="cpu")


def test_resuming_on_a_changed_manifest_is_refused(tiny_manifest, tmp_path):
    manifest = load_manifest(tiny_manifest)
    stopped = find_run(tmp_path, SPEC)
    train(SPEC, manifest, tmp_path, device="cpu")
    (stopped.folder / "summary.json").unlink()
    changed = replace(manifest, videos=manifest.videos[:-1])
    with pytest.raises(R21DError, match="another version of"):
        train(SPEC, changed, tmp_path, device="cpu")


def test_a_run_done_is_not_taken_for_one_of_a_changed_manifest(undisturbed, tiny_manifest):
    manifest = load_manifest(tiny_manifest)
    with pytest.raises(R21DError, match="another version of"):
        train(SPEC, replace(manifest, videos=manifest.videos[:-1]), undisturbed.folder.parent, device="cpu")
    with pytest.raises(R21DError, match=r"gone\.csv: no such file"):
        run_experiment([SPEC], "gone.csv", undisturbed.folder.parent)


def test_manifest_that_was_not_checked_is_refused_before_any_work(tiny_manifest, tmp_path):
    manifest = load_manifest(tiny_manifest)
    bare = [replace(video, frames=None, file=video.path.resolve()) for video in manifest.videos]
    write_manifest(tmp_path / "tiny.csv", replace(manifest.card, root=str(bare[0].path.parents[1])), bare)
    with pytest.raises(R21DError, match="run `r21d check`"):
        run_experiment([SPEC], tmp_path / "tiny.csv", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_only_the_demonstration_takes_the_builtin_videos(tmp_path):
    with pytest.raises(
        R21DError, match=r"profile small: needs a data set of yours.* in a notebook the parameter `manifest`"
    ):
        run_experiment(variant_comparison("small"), None, tmp_path)


def test_predictions_of_a_batch_are_those_of_each_clip_alone(tiny_manifest):
    manifest = load_manifest(tiny_manifest)
    videos = manifest.split("test")
    network = build_model(SPEC, 2, torch.device("cpu"))
    network = optimize(network, SPEC, torch.device("cpu"))
    source = open_clips(videos, (18, 24), torch.device("cpu"))
    clips = evaluation_clips(SPEC, 5, videos, manifest.card.classes)
    together = predict(network, source, clips, SPEC)
    alone = torch.cat([predict(network, source, clips[i : i + 1], SPEC) for i in range(len(clips))])
    torch.testing.assert_close(together, alone)
    assert network.training


def test_all_runs_are_planned_done_and_found(tiny_manifest, tmp_path, capsys):
    specs = [SPEC.replace(variant=variant, epochs=1) for variant in ("f-R2D", "R(2+1)D")]
    text = plan(specs, {SPEC.data: load_manifest(tiny_manifest)}, tmp_path, "cpu")
    assert "2 runs: 0 done, 0 begun, 2 new" in text and "f-R2D-10 (seed 0" in text and "in all about" in text
    assert not list(tmp_path.iterdir()), "a plan writes nothing"
    runs = run_experiment(specs, tiny_manifest, tmp_path, device="cpu")
    assert all(run.is_complete for run in runs)
    capsys.readouterr()
    assert (
        run_experiment(specs, None, tmp_path)
        == run_experiment(specs, tiny_manifest, tmp_path)
        == find_runs(specs, tmp_path)
    )
    assert capsys.readouterr().out == "", "nothing to do, nothing said, no data needed"


def test_one_failing_run_does_not_keep_the_others_from_their_turn(tiny_manifest, tmp_path):
    specs = [SPEC.replace(epochs=1, lr=1e30, warmup_epochs=0), SPEC.replace(epochs=1)]
    with pytest.raises(R21DError, match=r"1 of 2 runs failed:\nR3D, seed 0"):
        run_experiment(specs, tiny_manifest, tmp_path, device="cpu")
    assert find_run(tmp_path, specs[1]).is_complete


def test_impossible_network_is_refused_before_any_work(tiny_manifest, tmp_path):
    with pytest.raises(R21DError, match=r"R\(2\+1\)D"):
        run_experiment([SPEC, SPEC.replace(variant="R2+1D")], tiny_manifest, tmp_path, device="cpu")
    assert not list(tmp_path.iterdir())


def test_history_is_one_line_of_json_an_epoch(undisturbed):
    lines = (undisturbed.folder / "history.jsonl").read_text().splitlines()
    assert len(lines) == SPEC.epochs and all(json.loads(line) for line in lines)


def test_weights_of_another_run_are_evaluated_on_longer_clips(undisturbed, tiny_manifest):
    spec = SPEC.finetune_spec(frames=6, epochs=0)
    run = train(spec, load_manifest(tiny_manifest), undisturbed.folder.parent, device="cpu")
    for name, value in weights(undisturbed).items():
        assert torch.equal(weights(run)[name], value)
    assert run.history == [] and run.scores.protocol["frames"] == 6
    manifest = load_manifest(tiny_manifest)
    network = build_model(spec, 2, torch.device("cpu"))
    network.load_state_dict(weights(undisturbed))
    videos = manifest.split("test")
    source = open_clips(videos, (18, 24), torch.device("cpu"))
    fast_model = optimize(network, spec, torch.device("cpu"))
    logits = predict(fast_model, source, evaluation_clips(spec, 2, videos, manifest.card.classes), spec)
    np.testing.assert_array_equal(run.scores.logits.reshape(-1, 2), logits.numpy())


def test_finetuning_begins_at_the_weights_it_starts_from(undisturbed, tiny_manifest):
    still = SPEC.finetune_spec(lr=0, weight_decay=0, epochs=1)
    run = train(still, load_manifest(tiny_manifest), undisturbed.folder.parent, device="cpu")
    assert torch.equal(weights(run)["conv2_x.0.conv1.weight"], weights(undisturbed)["conv2_x.0.conv1.weight"])
    moved = train(still.replace(lr=0.1), load_manifest(tiny_manifest), undisturbed.folder.parent, device="cpu")
    assert not torch.equal(weights(moved)["conv2_x.0.conv1.weight"], weights(undisturbed)["conv2_x.0.conv1.weight"])


def test_start_that_is_not_finished_or_does_not_fit_is_named(undisturbed, tiny_manifest, tmp_path):
    with pytest.raises(R21DError, match=r"starts from .*, which is not finished"):
        train(SPEC.finetune_spec(frames=6), load_manifest(tiny_manifest), tmp_path, device="cpu")
    with pytest.raises(R21DError, match="do not fit; the networks differ"):
        train(SPEC.finetune_spec(width=3), load_manifest(tiny_manifest), undisturbed.folder.parent, device="cpu")


def test_what_would_take_too_long_is_not_begun(tiny_manifest, tmp_path, capsys):
    runs = run_experiment([SPEC], tiny_manifest, tmp_path, device="cpu", max_hours=0)
    assert not runs[0].is_complete and "nothing is trained" in capsys.readouterr().out and not list(tmp_path.iterdir())
