"""Training one run: recipe, records, and exact resume after any interruption."""

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from r21d_core import R21DError
from r21d_core.data.manifest import load_manifest
from r21d_core.data.sampling import evaluation_clips, sample_epoch
from r21d_core.data.sources import open_clips
from r21d_core.data.transforms import augment
from r21d_core.engine import train as engine
from r21d_core.engine.build import build_model, optimize
from r21d_core.engine.checkpoint import load_checkpoint
from r21d_core.engine.evaluate import predict
from r21d_core.engine.runner import run_experiment
from r21d_core.engine.train import lr_at_step, train
from r21d_core.runs.run import find_run, lock
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


def deterministic_history(history):
    """Return the history without its seconds, which may differ between equal runs."""
    return [{key: value for key, value in line.items() if key != "seconds"} for line in history]


def assert_same_run(run, expected):
    assert deterministic_history(run.history) == deterministic_history(expected.history)
    for name, value in weights(run).items():
        assert torch.equal(value, weights(expected)[name]), name
    np.testing.assert_array_equal(run.scores.logits, expected.scores.logits)


@pytest.fixture(scope="module")
def uninterrupted(tiny_manifest, tmp_path_factory):
    return train(SPEC, load_manifest(tiny_manifest), tmp_path_factory.mktemp("runs"), device="cpu")


def test_run_leaves_every_record(uninterrupted):
    assert uninterrupted.is_complete
    names = {path.name for path in uninterrupted.folder.iterdir()} - {".lock"}
    assert names == {
        "spec.json", "environment.json", "history.jsonl", "trained_on.txt", "checkpoint.pt", "scores.npz",
        "summary.json",
    }  # fmt: skip
    assert [line["epoch"] for line in uninterrupted.history] == [1, 2, 3]
    assert set(uninterrupted.history[0]) == {
        "epoch", "lr", "train_loss", "train_error", "test_loss", "test_error", "seconds",
    }  # fmt: skip
    scores = uninterrupted.scores
    assert scores.logits.shape == (4, 2, 2) and scores.protocol["videos_evaluated"] == 4
    assert uninterrupted.environment["packages"]["torch"] == torch.__version__.split("+")[0]
    assert uninterrupted.summary["train_clips"] == 66


def test_complete_run_is_not_trained_again(uninterrupted, tiny_manifest):
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.folder.iterdir()}
    train(SPEC, load_manifest(tiny_manifest), uninterrupted.folder.parent, device="cpu")
    assert {path: path.stat().st_mtime_ns for path in uninterrupted.folder.iterdir()} == before


def test_same_spec_gives_the_same_run(uninterrupted, tiny_manifest, tmp_path):
    assert_same_run(uninterrupted, train(SPEC, load_manifest(tiny_manifest), tmp_path, device="cpu"))


def test_streaming_gives_the_same_run(uninterrupted, tiny_manifest, tmp_path):
    run = train(SPEC, load_manifest(tiny_manifest), tmp_path, device="cpu", cache="stream", workers=2)
    assert_same_run(uninterrupted, run)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_cpu_computes_every_precision_in_fp32(uninterrupted, tiny_manifest, tmp_path, precision):
    """Weights and scores are equal in every bit."""
    run = train(SPEC.replace(precision=precision), load_manifest(tiny_manifest), tmp_path, device="cpu")
    assert_same_run(uninterrupted, run)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)
def test_killed_and_resumed_run_equals_the_uninterrupted_one(uninterrupted, tiny_manifest, tmp_path, how):
    """Interrupt a subprocess twice, the second time after more steps, then finish the run in this process."""
    code = (
        f"import sys, torch; torch.set_num_threads({torch.get_num_threads()})\n"
        "from r21d_core.data.manifest import load_manifest\n"
        "from r21d_core.engine import train as engine\n"
        "from r21d_core.study.spec import Spec\n"
        "manifest, spec, runs = sys.argv[1:]\n"
        "flush = engine._flush_metrics\n"
        "def slow_flush(*args):\n"
        "    print('step', flush=True)\n"
        "    import time; time.sleep(0.05)\n"
        "    return flush(*args)\n"
        "engine._flush_metrics = slow_flush\n"
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
    assert 5 <= 4 * reached["epoch"] + reached["step"] < 12, "the run resumed, and is not complete"
    assert_same_run(uninterrupted, train(SPEC, load_manifest(tiny_manifest), tmp_path, device="cpu"))


def test_accumulated_gradients_equal_the_batch(tiny_manifest, tmp_path):
    """Compare with three micro-batches and one SGD step written out here."""
    spec = SPEC.replace(epochs=1, clips_per_epoch=6, batch_size=6, grad_accum_steps=3)
    whole = train(spec, load_manifest(tiny_manifest), tmp_path, device="cpu")
    manifest = load_manifest(tiny_manifest)
    network = build_model(spec, 2, torch.device("cpu"))
    optimizer = torch.optim.SGD(network.parameters(), lr_at_step(spec, 0, 1), 0.9, weight_decay=spec.weight_decay)
    videos = manifest.split("train")
    clips = sample_epoch(spec, 0, videos, manifest.card.classes)
    ((_, frames),) = open_clips(videos, (18, 24), torch.device("cpu")).iter_batches([clips])
    for begin in (0, 2, 4):
        rows = slice(begin, begin + 2)
        logits = network(augment(frames[rows], clips[rows], spec))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(clips.label[rows]), reduction="sum")
        (loss / 6).backward()
    optimizer.step()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(weights(whole)[name], value, rtol=1e-5, atol=1e-6)


def test_lr_warms_up_then_decays_in_steps():
    spec = Spec()
    rates = [lr_at_step(spec, epoch * 100, 100) for epoch in range(45)]
    assert rates[0] == pytest.approx(0.01 / 1000) and rates[5] == pytest.approx(0.005, rel=0.01)
    assert rates[10:20] == [0.01] * 10
    assert rates[20:30] == pytest.approx([1e-3] * 10)
    assert rates[30:40] == pytest.approx([1e-4] * 10)
    assert rates[40:] == pytest.approx([1e-5] * 5)


def test_nan_loss_names_epoch_videos_and_checkpoint(tiny_manifest, tmp_path, monkeypatch):
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


def test_full_disk_while_saving_loses_nothing(uninterrupted, tiny_manifest, tmp_path):
    """Limit files to 20 kB, as on a full disk; without the limit the run resumes."""
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
    assert_same_run(uninterrupted, train(SPEC, load_manifest(tiny_manifest), tmp_path, device="cpu"))


def test_checkpoint_of_another_spec_is_refused(uninterrupted, tiny_manifest, tmp_path):
    other = find_run(tmp_path, SPEC.replace(lr=0.1))
    other.folder.mkdir(parents=True)
    (other.folder / "spec.json").write_text(other.spec.to_json())
    (other.folder / "checkpoint.pt").write_bytes((uninterrupted.folder / "checkpoint.pt").read_bytes())
    with pytest.raises(R21DError, match=r"another spec \(lr differ"):
        train(other.spec, load_manifest(tiny_manifest), tmp_path, device="cpu")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a checkpoint", b"garbage"])
def test_damaged_checkpoint_is_refused(tiny_manifest, tmp_path, content):
    run = find_run(tmp_path, SPEC)
    run.folder.mkdir(parents=True)
    (run.folder / "spec.json").write_text(SPEC.to_json())
    (run.folder / "checkpoint.pt").write_bytes(content)
    with pytest.raises(R21DError, match=r"checkpoint\.pt: not a complete checkpoint"):
        train(SPEC, load_manifest(tiny_manifest), tmp_path, device="cpu")


def test_locked_run_is_refused(tiny_manifest, tmp_path):
    with lock(find_run(tmp_path, SPEC)), pytest.raises(R21DError, match=f"process {os.getpid()} is on this run"):
        train(SPEC, load_manifest(tiny_manifest), tmp_path, device="cpu")


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


def test_complete_run_of_a_changed_manifest_is_refused(uninterrupted, tiny_manifest):
    manifest = load_manifest(tiny_manifest)
    with pytest.raises(R21DError, match="another version of"):
        train(SPEC, replace(manifest, videos=manifest.videos[:-1]), uninterrupted.folder.parent, device="cpu")
    with pytest.raises(R21DError, match=r"gone\.csv: no such file"):
        run_experiment([SPEC], "gone.csv", uninterrupted.folder.parent)


def test_batch_predictions_equal_single_clip_predictions(tiny_manifest):
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


def test_history_has_one_json_line_per_epoch(uninterrupted):
    lines = (uninterrupted.folder / "history.jsonl").read_text().splitlines()
    assert len(lines) == SPEC.epochs and all(json.loads(line) for line in lines)


def test_parent_weights_are_evaluated_on_longer_clips(uninterrupted, tiny_manifest):
    spec = SPEC.finetune_spec(frames=6, epochs=0)
    run = train(spec, load_manifest(tiny_manifest), uninterrupted.folder.parent, device="cpu")
    for name, value in weights(uninterrupted).items():
        assert torch.equal(weights(run)[name], value)
    assert run.history == [] and run.scores.protocol["frames"] == 6
    manifest = load_manifest(tiny_manifest)
    network = build_model(spec, 2, torch.device("cpu"))
    network.load_state_dict(weights(uninterrupted))
    videos = manifest.split("test")
    source = open_clips(videos, (18, 24), torch.device("cpu"))
    fast_model = optimize(network, spec, torch.device("cpu"))
    logits = predict(fast_model, source, evaluation_clips(spec, 2, videos, manifest.card.classes), spec)
    np.testing.assert_array_equal(run.scores.logits.reshape(-1, 2), logits.numpy())


def test_finetuning_starts_from_the_parent_weights(uninterrupted, tiny_manifest):
    still = SPEC.finetune_spec(lr=0, weight_decay=0, epochs=1)
    run = train(still, load_manifest(tiny_manifest), uninterrupted.folder.parent, device="cpu")
    assert torch.equal(weights(run)["conv2_x.0.conv1.weight"], weights(uninterrupted)["conv2_x.0.conv1.weight"])
    moved = train(still.replace(lr=0.1), load_manifest(tiny_manifest), uninterrupted.folder.parent, device="cpu")
    assert not torch.equal(weights(moved)["conv2_x.0.conv1.weight"], weights(uninterrupted)["conv2_x.0.conv1.weight"])


def test_incomplete_or_misfit_parent_is_refused(uninterrupted, tiny_manifest, tmp_path):
    with pytest.raises(R21DError, match=r"starts from .*, which is not finished"):
        train(SPEC.finetune_spec(frames=6), load_manifest(tiny_manifest), tmp_path, device="cpu")
    with pytest.raises(R21DError, match="do not fit; the networks differ"):
        train(SPEC.finetune_spec(width=3), load_manifest(tiny_manifest), uninterrupted.folder.parent, device="cpu")
