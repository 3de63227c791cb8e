"""Training one run: recipe, records, and exact resume after any interruption."""

import fcntl
import io
import json
import math
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tqdm import tqdm

from r21d_core import R21DError
from r21d_core.data.sampling import evaluation_clips, sample_epoch
from r21d_core.data.sources import open_clips
from r21d_core.data.transforms import augment, center_crop
from r21d_core.engine import train as engine
from r21d_core.engine.build import build_model, optimize
from r21d_core.engine.checkpoint import load_checkpoint
from r21d_core.engine.evaluate import evaluate, predict
from r21d_core.engine.runner import run_experiment
from r21d_core.engine.train import train
from r21d_core.models.cost import spec_cost
from r21d_core.runs.run import find_run
from r21d_core.study.spec import Spec
from tests.workers import train_slowly

CPU = torch.device("cpu")
SPEC = Spec(
    variant="R3D", depth=10, width=2, frames=4, data="tiny", profile="demo", frame_height=18, frame_width=24, crop=16,
    epochs=3, clips_per_epoch=22, batch_size=6, lr=0.05, warmup_epochs=1, lr_decay_epochs=1, eval_clips=2,
)  # fmt: skip


def weights(run):
    return load_checkpoint(run)["model"]


def deterministic_history(history):
    """Return the history without its seconds, which may differ between equal runs."""
    return [{key: value for key, value in line.items() if key != "seconds"} for line in history]


def assert_same_run(run, expected):
    assert deterministic_history(run.history) == deterministic_history(expected.history)
    torch.testing.assert_close(weights(run), weights(expected), rtol=0, atol=0)
    np.testing.assert_array_equal(run.scores.logits, expected.scores.logits)


def start_training(manifest, runs, spec, *words, launcher=()):
    """Start `r21d train` of R3D and MC3 with the sizes of `spec` in a session of its own."""
    sizes = (
        "depth width frames frame_height frame_width crop clips_per_epoch batch_size grad_accum_steps eval_clips epochs"
    )
    command = [sys.executable, "-m", *launcher, "r21d_core", "train", "variant_comparison", "--variants", "R3D,MC3"]
    command += ["--device", "cpu", "--manifest", str(manifest), "--runs", str(runs), *words]
    command += [word for name in sizes.split() for word in ("--set", f"{name}={getattr(spec, name)}")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_until(condition):
    deadline = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def uninterrupted(tiny, tmp_path_factory):
    return train(SPEC, tiny, tmp_path_factory.mktemp("runs"), device="cpu")


def test_run_finished_while_waiting_is_not_evaluated_again(uninterrupted, tiny, tmp_path):
    folder = shutil.copytree(uninterrupted.folder, tmp_path / uninterrupted.folder.name)
    summary = (folder / "summary.json").rename(folder / "later.json")
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        def finish():
            summary.rename(folder / "summary.json")
            fcntl.flock(file, fcntl.LOCK_UN)

        timer = threading.Timer(0.2, finish)
        timer.start()
        run = train(SPEC, tiny, tmp_path, device="cpu")
        timer.join()
    for name in ("summary.json", "environment.json"):
        assert (run.folder / name).stat().st_mtime_ns == (uninterrupted.folder / name).stat().st_mtime_ns


def test_run_leaves_every_record(uninterrupted, tiny):
    assert uninterrupted.is_complete
    names = {path.name for path in uninterrupted.folder.iterdir()} - {".lock"}
    assert names == {
        "spec.json", "environment.json", "history.jsonl", "trained_on.txt", "checkpoint.pt", "scores.npz",
        "summary.json",
    }  # fmt: skip
    lines = (uninterrupted.folder / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    assert set(uninterrupted.history[0]) == {
        "epoch", "lr", "train_loss", "train_error", "test_loss", "test_error", "seconds",
    }  # fmt: skip
    scores, videos = uninterrupted.scores, tiny.split("test")
    assert scores.logits.shape == (4, 2, 2)
    for name, expected in (("video", scores.videos), ("group", scores.groups)):
        assert [getattr(video, name) for video in videos] == expected.tolist()
    assert [video.label for video in videos] == [scores.classes[label] for label in scores.labels]
    assert uninterrupted.environment["packages"]["torch"] == torch.__version__.split("+")[0]
    summary, seconds = uninterrupted.summary, [row["seconds"] for row in uninterrupted.history]
    cost = spec_cost(SPEC, 2)
    assert [summary[key] for key in ("train_clips", "macs", "parameters")] == [66, cost.macs, cost.parameters]
    assert summary["seconds"] == pytest.approx(sum(seconds))
    slower, faster = (22 / (np.median(seconds) + error) for error in (6e-4, -6e-4))  # they are rounded
    assert slower < summary["train_clips_per_second"] < faster


def test_time_of_evaluation_is_not_that_of_training(fit, monkeypatch):
    """By a clock that steps and evaluations advance; the throughput is the median of the epochs."""
    seconds, steps, train_step, predict = [0], iter((1, 2, 6)), engine.train_step, engine.predict
    monkeypatch.setattr(engine, "time", SimpleNamespace(perf_counter=lambda: sum(seconds)))
    monkeypatch.setattr(engine, "train_step", lambda *args: seconds.append(next(steps)) or train_step(*args))
    monkeypatch.setattr(engine, "predict", lambda *args: seconds.append(100) or predict(*args))
    run = fit(SPEC.replace(clips_per_epoch=6), save_seconds=1e9)
    assert [row["seconds"] for row in run.history] == [1, 2, 6] and sum(seconds) == 309
    assert (run.summary["seconds"], run.summary["train_clips_per_second"]) == (9, 6 / 2)


def test_complete_run_is_not_trained_again(uninterrupted, fit):
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.folder.iterdir()}
    fit(SPEC, runs=uninterrupted.folder.parent)
    assert {path: path.stat().st_mtime_ns for path in uninterrupted.folder.iterdir()} == before


@pytest.mark.parametrize(
    ("changes", "options"),
    [({}, {}), ({}, {"cache": "stream", "workers": 2}), ({"precision": "bf16"}, {}), ({"precision": "fp16"}, {})],
)
def test_equal_specs_give_equal_runs(uninterrupted, fit, changes, options):
    """Also when streamed, and in every precision, as a CPU computes in fp32."""
    assert_same_run(uninterrupted, fit(SPEC.replace(**changes), **options))


def test_killed_and_resumed_run_equals_the_uninterrupted_one(uninterrupted, fit, tiny_manifest, tmp_path):
    """Kill a process, ask the second and the third to stop, then finish the run in this process."""
    context, run = multiprocessing.get_context("forkserver"), find_run(tmp_path, SPEC)
    for steps, how in ((2, signal.SIGKILL), (2, signal.SIGTERM), (3, signal.SIGINT)):
        reader, writer = context.Pipe(duplex=False)
        process = context.Process(target=train_slowly, args=(tiny_manifest, SPEC, tmp_path, writer))
        process.start()
        writer.close()
        with os.fdopen(os.dup(reader.fileno())) as lines:
            for _ in range(steps):
                assert lines.readline() == "step\n"
            os.kill(process.pid, how)
            printed = lines.read().replace("step\n", "")
        process.join()
        assert process.exitcode == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: -2}[how]
        assert run.has_checkpoint and not run.is_complete
        reached = load_checkpoint(run)["state"]
        has = f"{reached['epoch']} of 3 epochs"
        has += f" and {reached['step']} of 4 steps of the next" if reached["step"] else ""
        line = f"{run.folder}: stopped; the checkpoint has {has}; the same command resumes\n"
        assert printed == line * (how != signal.SIGKILL)
    assert 5 <= 4 * reached["epoch"] + reached["step"] < 12, "the run resumed, and is not complete"
    assert_same_run(uninterrupted, fit(SPEC))


def open_frames(videos, clips):
    ((_, frames),) = open_clips(videos, (18, 24), CPU).iter_batches([clips])
    return frames


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_run_equals_training_written_out_here(fit, tiny, smoothing):
    """Two epochs of a batch in micro-batches of 3 and 3 clips, and of 3 and 2, each tested on center clips."""
    spec = SPEC.replace(epochs=2, clips_per_epoch=11, grad_accum_steps=2, label_smoothing=smoothing)
    run, network = fit(spec), build_model(spec, 2, CPU)
    optimizer = torch.optim.SGD(network.parameters(), 1.0, 0.9, weight_decay=spec.weight_decay)
    train_videos, test_videos = tiny.split("train"), tiny.split("test")
    center = evaluation_clips(spec, 1, test_videos, tiny.card.classes)
    for epoch in range(2):
        clips, loss, n_wrong = sample_epoch(spec, epoch, train_videos, tiny.card.classes), 0.0, 0
        for begin, size in ((0, 6), (6, 5)):
            optimizer.param_groups[0]["lr"] = spec.lr * (1 if epoch or begin else 0.5)  # the first of two warm-up steps
            for first in range(begin, begin + size, 3):
                part = clips[first : first + 3]
                logits = network(augment(open_frames(train_videos, part), part, spec))
                label = torch.from_numpy(part.label)
                part_loss = F.cross_entropy(logits, label, reduction="sum", label_smoothing=smoothing)
                (part_loss / size).backward()
                loss, n_wrong = loss + part_loss.item(), n_wrong + (logits.argmax(1) != label).sum().item()
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            logits = network.eval()(center_crop(open_frames(test_videos, center), spec)).log_softmax(1).numpy()
        network.train()
        losses, is_wrong = -logits[range(4), center.label], logits.argmax(1) != center.label
        assert deterministic_history(run.history)[epoch] == pytest.approx({
            "epoch": epoch + 1, "lr": spec.lr, "train_loss": loss / 11, "train_error": n_wrong / 11,
            "test_loss": losses.mean(), "test_error": is_wrong.mean(),
        }, rel=1e-4)  # fmt: skip
    torch.testing.assert_close(weights(run), network.state_dict(), rtol=1e-4, atol=1e-6)


def test_losses_are_drawn_as_rarely_as_the_bar(fit, monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(engine, "LOG_EVERY", 1)
    monkeypatch.setattr(engine, "tqdm", partial(tqdm, disable=False, file=file, mininterval=30, maxinterval=30))
    fit(SPEC.replace(epochs=2))
    assert file.getvalue().count("step") == 2, "as it begins and as it ends"
    assert "epoch 2 of 2" in file.getvalue()


@pytest.mark.parametrize(("name", "value"), [("augment", math.nan), ("train_step", math.inf)])
def test_infinite_loss_names_epoch_videos_and_checkpoint(fit, tiny, tmp_path, monkeypatch, name, value):
    calls, function = [], getattr(engine, name)

    def poisoned(*args):
        time.sleep(0.02)
        calls.append(name)
        return function(*args) * (value if len(calls) == 6 else 1)

    monkeypatch.setattr(engine, name, poisoned)
    with pytest.raises(R21DError) as error:
        fit(SPEC, save_seconds=0)
    run, videos = find_run(tmp_path, SPEC), tiny.split("train")
    assert f"in epoch 2, the loss of step 2 is {value}" in str(error.value)
    batch = sample_epoch(SPEC, 1, videos, tiny.card.classes)[6:12]
    assert all(videos[row].video in str(error.value) for row in batch.video)
    assert str(run.folder / "checkpoint.pt") in str(error.value)
    assert not run.is_complete and all(v.isfinite().all() for v in weights(run).values())
    assert run.history[0]["seconds"] >= 4 * 0.02, "of all four steps"


def test_full_disk_while_saving_loses_nothing(uninterrupted, fit):
    """Limit files to 20 kB, as on a full disk; without the limit the run resumes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(R21DError, match=r"checkpoint\.pt: could not be written"):
            fit(SPEC, save_seconds=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_same_run(uninterrupted, fit(SPEC))


@pytest.mark.parametrize(
    ("spec", "content", "match"),
    [
        (SPEC.replace(lr=0.1), None, r"another spec \(lr differ"),
        (SPEC, b"garbage", r"checkpoint\.pt: not a complete checkpoint"),
    ],
)
def test_damaged_or_foreign_checkpoint_is_refused(uninterrupted, fit, tmp_path, spec, content, match):
    run = find_run(tmp_path, spec)
    run.folder.mkdir(parents=True)
    (run.folder / "spec.json").write_text(spec.to_json())
    content = (uninterrupted.folder / "checkpoint.pt").read_bytes() if content is None else content
    (run.folder / "checkpoint.pt").write_bytes(content)
    with pytest.raises(R21DError, match=match):
        fit(spec)


def test_manifest_of_other_data_or_with_leaks_is_refused(fit, tiny):
    with pytest.raises(R21DError, match="has the name 'tiny', expected 'kinetics-400'"):
        fit(SPEC.replace(data="kinetics-400"))
    leak = replace(tiny.split("test")[0], video="new.mp4", split="train")
    with pytest.raises(R21DError, match=f"group '{leak.group}' is in test .* and in train"):
        fit(SPEC, manifest=replace(tiny, videos=(*tiny.videos, leak)))


def test_changed_manifest_is_refused(fit, tiny, tmp_path):
    """For a complete run and for one to be resumed."""
    run, changed = fit(SPEC), replace(tiny, videos=tiny.videos[:-1])
    with pytest.raises(R21DError, match=r"gone\.csv: no such file"):
        run_experiment([SPEC], "gone.csv", tmp_path)
    for _ in range(2):
        with pytest.raises(R21DError, match="another version of"):
            fit(SPEC, manifest=changed)
        (run.folder / "summary.json").unlink(missing_ok=True)


def test_batch_predictions_equal_single_clip_predictions(tiny):
    videos = tiny.split("test")
    network = optimize(build_model(SPEC, 2, CPU), SPEC, CPU)
    source = open_clips(videos, (18, 24), CPU)
    clips = evaluation_clips(SPEC, 5, videos, tiny.card.classes)
    together = predict(network, source, clips, SPEC)
    alone = torch.cat([predict(network, source, clips[i : i + 1], SPEC) for i in range(len(clips))])
    torch.testing.assert_close(together, alone)
    assert network.training


def test_scores_say_what_was_evaluated_and_how(tiny):
    """For a task that tests each video under four labels."""
    spec, (first, *rest) = SPEC.replace(task="speed", frame_stride=2), tiny.split("test")
    videos = (replace(first, fps=29.97), *rest)
    card = replace(tiny.card, expected={"test": 5}, families={"both": ("dark", "bright")})
    network = build_model(spec, 4, CPU).eval()
    scores = evaluate(network, open_clips(videos, (18, 24), CPU), videos, card, spec)
    assert scores.videos.tolist() == [video.video for video in videos for _ in range(4)] and not network.training
    assert scores.labels.tolist() == [*range(4)] * 4 and scores.classes == ("1×", "2×", "4×", "8×")
    assert scores.protocol == {
        "clips": 2, "crop": "center crop 16×16 of 18×24", "averaging": "mean of softmax", "frames": 4,
        "frame_stride": 2, "task": "speed", "modality": "rgb", "data": "tiny", "split": "test",
        "frame_rate": "25–29.97 fps", "videos_listed": 5, "videos_evaluated": 4,
        "families": {"both": ["dark", "bright"]}, "profile": "demo",
    }  # fmt: skip


def test_parent_weights_are_evaluated_on_longer_clips(uninterrupted, fit):
    spec = SPEC.finetune_spec(frames=6, epochs=0)
    run = fit(spec, runs=uninterrupted.folder.parent)
    torch.testing.assert_close(weights(run), weights(uninterrupted), rtol=0, atol=0)
    assert run.history == [] and run.scores.protocol["frames"] == 6


def test_finetuning_starts_from_the_parent_weights(uninterrupted, fit):
    still = SPEC.finetune_spec(lr=0, weight_decay=0, epochs=1)
    for spec, is_equal in ((still, True), (still.replace(lr=0.1), False)):
        name, run = "conv2_x.0.conv1.weight", fit(spec, runs=uninterrupted.folder.parent)
        trained = weights(run)[name]
        assert torch.equal(trained, weights(uninterrupted)[name]) == is_equal
    (run.folder / "summary.json").unlink()
    assert torch.equal(weights(fit(spec, runs=uninterrupted.folder.parent))[name], trained), (
        "a resumed run is not reset"
    )


def test_incomplete_or_misfit_parent_is_refused(uninterrupted, fit):
    with pytest.raises(R21DError, match="not finished or not a complete run folder, so no run can start"):
        fit(SPEC.finetune_spec(frames=6))
    with pytest.raises(R21DError, match="do not fit; the networks differ"):
        fit(SPEC.finetune_spec(width=3), runs=uninterrupted.folder.parent)
