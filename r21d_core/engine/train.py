"""Train and evaluate one run, from its Spec to its scores.

Everything random is a function of (seed, epoch, clip), so a resumed run equals the one that was never stopped, as far
as the device's kernels give equal sums: on a GPU two runs of one Spec may differ, stopped or not.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from r21d_core import R21DError
from r21d_core.data.flow import input_manifest
from r21d_core.data.manifest import Manifest, Video, check_no_leaks
from r21d_core.data.sampling import Clips, evaluation_clips, sample_epoch, task_classes
from r21d_core.data.sources import open_clips
from r21d_core.data.transforms import augment
from r21d_core.engine import distributed as dist
from r21d_core.engine.build import build_model, check_batch_norm, optimize
from r21d_core.engine.checkpoint import abort, check_same_source, resume, save_checkpoint
from r21d_core.engine.device import device_name, environment_info, limit_cpu_threads, pick_device
from r21d_core.engine.evaluate import Source, evaluate, predict
from r21d_core.engine.init_weights import init_from
from r21d_core.engine.log import LogHistory, open_log
from r21d_core.engine.origin import check_init_file, check_origin, check_source
from r21d_core.engine.plan import check_data_name
from r21d_core.engine.signals import exit_on_signal, graceful_shutdown
from r21d_core.engine.state import TrainState, capture_step, create_state, train_step
from r21d_core.engine.throughput import inference_throughput
from r21d_core.models.cost import spec_cost
from r21d_core.models.imported import import_builder, named_failures
from r21d_core.runs.run import Run, find_run, lock, write_history, write_json, write_scores, write_summary
from r21d_core.study.schedule import lr_at_step, steps_per_epoch
from r21d_core.study.spec import Spec
from r21d_core.study.variants import is_imported

LOG_EVERY = 20  # steps between reads of the loss, each of which makes the host wait for a GPU


def train(
    spec: Spec, manifest: Manifest, runs: Path | str, *, device: str = "auto", cache: str = "auto",
    workers: int | None = None, save_seconds: float = 120.0, log: str = "",
) -> Run:  # fmt: skip
    """Return the finished run of `spec` in the folder `runs`, after training what is missing of it.

    Processes of torchrun call this with the same arguments and share the run. After SIGTERM or Ctrl-C it finishes the
    step, saves and exits; checkpoints are at most `save_seconds` old. `cache` and `workers` are those of `open_clips`;
    with `log="tensorboard"` the history is also written as event files into the run folder.
    Raises R21DError for a manifest that is not `spec.data` or leaks, a locked run, a checkpoint of another spec, other
    data or another file of initial weights, a batch that the processes cannot share or batch norm cannot train on, a
    loss that is not finite, and an evaluation or, in one process, a step in which one's own network fails.
    """
    with dist.process_group(device) as device, ExitStack() as stack:
        run = dist.on_rank_zero(lambda: find_run(runs, spec))
        check_data_name(spec, manifest)
        if _is_finished(run, manifest):
            return run
        check_no_leaks(manifest)
        dist.check_divisible(spec, dist.world_size())
        check_same_source(spec.variant)
        check_batch_norm(spec)
        dist.on_rank_zero(lambda: stack.enter_context(lock(run)))
        if _is_finished(run, manifest):  # by a process that held the lock until now
            return run
        target = pick_device(device)
        stack.enter_context(limit_cpu_threads(spec, target))
        log_history = stack.enter_context(open_log(log, run.folder))
        return _train(run, manifest, target, cache, workers, save_seconds, log_history)


def _is_finished(run: Run, manifest: Manifest) -> bool:
    """Return whether the run is complete; raises R21DError if it was trained on other data or from another file."""
    if not dist.on_rank_zero(lambda: run.is_complete):
        return False
    dist.on_rank_zero(lambda: check_origin(run, manifest))
    return True


def _train(
    run: Run, manifest: Manifest, device: torch.device, cache: str, workers, save_seconds: float,
    log_history: LogHistory,
) -> Run:  # fmt: skip
    spec, classes = run.spec, manifest.card.classes
    dist.on_rank_zero(lambda: check_source(run))
    model = build_model(spec, len(task_classes(spec, classes)), device)
    state = create_state(spec, model, optimize(model, spec, device))
    if resume(run, manifest, state):
        dist.on_rank_zero(lambda: check_init_file(run, state.init_from))
    else:
        state.init_from = dist.on_rank_zero(lambda: init_from(run, model, manifest, task_classes(spec, classes)))
        if state.init_from:
            tqdm.write(state.init_from)
    state.train_model = dist.wrap_ddp(capture_step(state, dist.world_size()), device)
    dist.on_rank_zero(lambda: _write_environment(run, manifest, device, state))
    dist.on_rank_zero(lambda: _write_history(run, state, log_history))
    dist.on_rank_zero(lambda: input_manifest(manifest, spec))  # computes missing optical flow once
    with dist.raise_on_all_ranks():
        inputs = input_manifest(manifest, spec)
        train_videos = inputs.split("train") if spec.epochs else ()  # a set may be there to test on only
        test_videos = inputs.split("test")
        size, pool = (spec.frame_height, spec.frame_width), inputs.videos
        train_source = open_clips(train_videos, size, device, cache, workers, state.substituted.__setitem__, pool=pool)
        test_source = open_clips(test_videos, size, device, cache, workers, pool=pool)
    center_clips = evaluation_clips(spec, 1, test_videos, classes)
    steps = steps_per_epoch(spec)
    done = state.epoch * steps + state.step
    pending: list[tuple[Clips, int, Tensor]] = []  # steps whose loss was not read yet
    throughputs: list[float] = []
    saved = logged = time.perf_counter()

    with graceful_shutdown() as signals, tqdm(total=spec.epochs * steps, initial=done, unit="step", leave=False) as bar:
        for clips, frames in dist.lockstep(train_source.iter_batches(_batches(spec, train_videos, classes, state))):
            # `clips` and `frames` are this process's shard of the batch.
            batch_size = min(spec.batch_size, spec.clips_per_epoch - state.step * spec.batch_size)
            shard = dist.shard_batch(batch_size, spec.grad_accum_steps, dist.rank(), dist.world_size())
            lr = lr_at_step(spec, state.epoch * steps + state.step, steps)
            for group in state.optimizer.param_groups:
                group["lr"] = lr
            target = torch.from_numpy(clips.label).to(device, non_blocking=True)
            # Where others wait for this process it must exit, as it does not after an R21DError.
            with named_failures(spec.variant, kind=R21DError if dist.world_size() == 1 else RuntimeError):
                sums = train_step(state, augment(frames, clips, spec), target, shard)
            pending.append((clips, batch_size, sums))
            state.step += 1
            bar.update()

            stop, save = dist.all_reduce_max(signals[0] if signals else 0, time.perf_counter() - saved > save_seconds)
            if state.step % LOG_EVERY == 0 or state.step == steps or stop or save:
                n_clips = _flush_metrics(run, state, pending, train_videos)
                elapsed = time.perf_counter() - logged
                logged += elapsed
                throughputs.append(n_clips / elapsed)
                state.seconds += elapsed
                bar.set_description(
                    f"{spec.variant}: epoch {state.epoch + 1} of {spec.epochs}, lr {lr:.2g}", refresh=False
                )
                loss, error = state.loss / state.n_clips, state.n_wrong / state.n_clips
                bar.set_postfix_str(f"loss {loss:.3f}, error {error:.1%}", refresh=False)  # drawn by the next update
            if state.step == steps:
                _validate(run, state, test_source, center_clips, lr, log_history)
                logged = time.perf_counter()
            if stop or save:
                save_checkpoint(run, manifest, state)
                saved = time.perf_counter()
            if stop:
                _say_stopped(run, state)
                exit_on_signal(stop)
        bar.refresh()  # with the last loss, which no later step draws

    save_checkpoint(run, manifest, state)
    _finish(run, manifest, device, state, test_source, test_videos, throughputs)
    return run


def _batches(spec: Spec, videos: tuple[Video, ...], classes: tuple[str, ...], state: TrainState) -> Iterator[Clips]:
    """Yield this process's shard of each batch that is left."""
    first = state.step
    for epoch in range(state.epoch, spec.epochs):
        clips = sample_epoch(spec, epoch, videos, classes)
        for begin in range(first * spec.batch_size, spec.clips_per_epoch, spec.batch_size):
            batch = clips[begin : begin + spec.batch_size]
            yield batch[dist.shard_batch(len(batch), spec.grad_accum_steps, dist.rank(), dist.world_size()).rows]
        first = 0


def _flush_metrics(run: Run, state: TrainState, pending: list, videos: tuple[Video, ...]) -> int:
    """Add the pending steps to the epoch's sums, one by one, and return their number of clips.

    A pending step is this process's clips, the batch size, and the sums of `train_step`. Raises R21DError if a loss is
    not finite.
    """
    first = state.step - len(pending) + 1
    sums = dist.all_reduce_sum_(torch.stack([sums for _, _, sums in pending])).tolist()
    for step, ((clips, batch_size, _), (loss, n_wrong)) in enumerate(zip(pending, sums, strict=True), first):
        if not math.isfinite(loss):
            names = ", ".join(chain.from_iterable(dist.all_gather_object([videos[row].video for row in clips.video])))
            abort(run, state, f"the loss of step {step} is {loss}; the videos of that batch: {names}")
        state.loss += loss
        state.n_wrong += n_wrong
        state.n_clips += batch_size
    n_clips = sum(batch_size for _, batch_size, _ in pending)
    pending.clear()
    return n_clips


def _validate(run: Run, state: TrainState, source: Source, clips: Clips, lr: float, log_history: LogHistory) -> None:
    """Test on one center clip per video, append the epoch to the history, and begin the next epoch."""
    logits = predict(state.fast_model, source, clips, run.spec)
    target = torch.from_numpy(clips.label)
    state.history.append({
        "epoch": state.epoch + 1,
        "lr": lr,
        "train_loss": state.loss / state.n_clips,
        "train_error": state.n_wrong / state.n_clips,
        "test_loss": F.cross_entropy(logits, target).item(),
        "test_error": (logits.argmax(1) != target).float().mean().item(),
        "seconds": round(state.seconds, 3),
    })  # fmt: skip
    dist.on_rank_zero(lambda: _write_history(run, state, log_history))
    state.start_epoch(state.epoch + 1)


def _say_stopped(run: Run, state: TrainState) -> None:
    """Print what the checkpoint has, on rank zero."""
    if not dist.rank():
        has = f"{state.epoch} of {run.spec.epochs} epochs"
        has += f" and {state.step} of {steps_per_epoch(run.spec)} steps of the next" if state.step else ""
        tqdm.write(f"{run.folder}: stopped; the checkpoint has {has}; the same command resumes")


def _finish(run: Run, manifest: Manifest, device: torch.device, state: TrainState, source: Source, videos, throughputs):
    """Evaluate the trained model, and write its scores and the summary, which marks the run as complete."""
    spec = run.spec
    scores = evaluate(state.fast_model, source, videos, manifest.card, spec)
    cost = spec_cost(spec, len(scores.classes))
    throughput = sum(dist.all_gather_object(inference_throughput(state.fast_model, spec, device)))
    summary = {
        "device": _device_names(device),
        "seconds": round(sum(row["seconds"] for row in state.history), 3),
        "train_clips": spec.epochs * spec.clips_per_epoch,
        "train_clips_per_second": round(statistics.median(throughputs), 2) if throughputs else None,
        "inference_clips_per_second": round(throughput, 2),
        "parameters": cost.parameters,
        "macs": cost.macs,
        "substituted": state.substituted,
    }
    dist.on_rank_zero(lambda: write_scores(run, scores))
    dist.on_rank_zero(lambda: write_summary(run, summary))


def _write_environment(run: Run, manifest: Manifest, device: torch.device, state: TrainState) -> None:
    run.write("spec.json", run.spec.to_json())
    data = {"data": run.spec.data, "fingerprint": manifest.fingerprint, "init_from": state.init_from}
    if is_imported(run.spec.variant):
        data["network_sha256"] = import_builder(run.spec.variant)[1]
    write_json(run, "environment.json", environment_info(device) | {"device": _device_names(device)} | data)


def _write_history(run: Run, state: TrainState, log_history: LogHistory) -> None:
    """Write the history and log what is new in it."""
    write_history(run, state.history)
    log_history(state.history)


def _device_names(device: torch.device) -> str:
    return f"{dist.world_size()} × {device_name(device)}" if dist.world_size() > 1 else device_name(device)
