"""One run, from its Spec to its scores, in a loop that reads from top to bottom.

Everything random is a function of (seed, epoch, clip), so there is no random state to keep, and a run stopped
anywhere goes on as the run that was never stopped. Several processes share each step: see `distributed`.
"""

from __future__ import annotations

import io
import math
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from r21d_core import R21DError
from r21d_core.data.flow import input_manifest
from r21d_core.data.manifest import Manifest, Video, check_no_leaks
from r21d_core.data.sampling import Clips, evaluation_clips, sample_epoch, task_classes
from r21d_core.data.sources import open_clips
from r21d_core.data.transforms import augment
from r21d_core.engine.build import build_model, build_optimizer
from r21d_core.engine.cuda_graphs import capture_cuda_graph
from r21d_core.engine.device import autocast, device_name, environment_info, pick_device
from r21d_core.engine.distributed import (
    all_gather_object,
    all_reduce_max,
    all_reduce_sum_,
    check_divisible,
    lockstep,
    maybe_no_sync,
    merge_bn_running_stats,
    on_rank_zero,
    process_group,
    raise_on_all_ranks,
    rank,
    shard_batch,
    world_size,
    wrap_ddp,
)
from r21d_core.engine.evaluate import evaluate, predict
from r21d_core.engine.init_weights import init_from, load_checkpoint
from r21d_core.engine.throughput import inference_throughput
from r21d_core.models.cost import spec_cost
from r21d_core.runs.files import write_atomically
from r21d_core.runs.run import Run, find_run, lock, write_history, write_json
from r21d_core.runs.scores import Scores, save_scores
from r21d_core.study.spec import Spec

LOG_EVERY = 20  # steps between two looks at the loss, since each look makes a GPU wait


@dataclass
class TrainState:
    """How far a run is: the next step, the epoch's sums so far, and the epochs behind it."""

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    wrong: float = 0.0
    seen: int = 0
    seconds: float = 0.0
    history: list[dict] = field(default_factory=list)
    replaced: dict[str, str] = field(default_factory=dict)
    start: str = ""  # what was taken from where at the beginning


def train(
    spec: Spec,
    manifest: Manifest,
    runs: Path | str,
    *,
    device: str = "auto",
    cache: str = "auto",
    workers: int | None = None,
    save_seconds: float = 120.0,
) -> Run:
    """The finished run of `spec` in the folder `runs`: at once if it is there, from where it was if it had begun.

    Where torchrun started several processes, all of them call this with the same arguments and share the run.
    SIGTERM or Ctrl-C let it finish its step, save and leave; killed outright, it goes on from a checkpoint not older
    than `save_seconds`. `cache` and `workers` say where clips come from, as in `open_clips`. Raises R21DError for a
    manifest that is not `spec.data` or that leaks, a run another process is on, a checkpoint of another spec or other
    data, parts of a batch that the processes cannot share, and a loss that is not a number any more.
    """
    with process_group(device) as device, ExitStack() as held:
        run = on_rank_zero(lambda: find_run(runs, spec))
        check_data_name(spec, manifest)
        if on_rank_zero(lambda: run.is_complete):
            on_rank_zero(lambda: check_fingerprint(run, run.environment["fingerprint"], manifest))
            return run
        check_no_leaks(manifest)
        check_divisible(spec, world_size())
        on_rank_zero(lambda: held.enter_context(lock(run)))
        return _train(run, manifest, pick_device(device), cache, workers, save_seconds)


def _train(
    run: Run, manifest: Manifest, device: torch.device, cache: str, workers: int | None, save_seconds: float
) -> Run:
    spec, classes = run.spec, manifest.card.classes
    network = build_model(spec, len(task_classes(spec, classes)), device)
    optimiser = build_optimizer(network, spec)
    # On a CPU too, where scaling by powers of two changes nothing, so that its checkpoints go on on a GPU.
    scaler = torch.amp.GradScaler(device.type, enabled=spec.precision == "fp16")
    at = _resume(run, manifest, network, optimiser, scaler)
    if at is None:
        at = TrainState(start=on_rank_zero(lambda: init_from(run, network, manifest, task_classes(spec, classes))))
        if at.start:
            tqdm.write(at.start)
    if (
        spec.grad_accum_steps == world_size()
    ):  # gradients of a second part would meet those of the first in the same place
        capture_cuda_graph(network, spec, spec.batch_size // spec.grad_accum_steps)
    model = wrap_ddp(network, device)
    on_rank_zero(lambda: _write_beginning(run, manifest, device, at))

    on_rank_zero(lambda: input_manifest(manifest, spec))  # flow that is missing is computed once
    with raise_on_all_ranks():
        shown = input_manifest(manifest, spec)
        seen, unseen = shown.split("train"), shown.split("test")
        frame = (spec.frame_height, spec.frame_width)
        training = open_clips(seen, frame, device, cache, workers, at.replaced.__setitem__, pool=shown.videos)
        testing = open_clips(unseen, frame, device, cache, workers, pool=shown.videos)
    middles = evaluation_clips(spec, 1, unseen, classes)
    steps = math.ceil(spec.clips_per_epoch / spec.batch_size)
    bar = tqdm(total=spec.epochs * steps, initial=at.epoch * steps + at.step, unit="step", leave=False)
    unlooked: list[tuple[Clips, int, Tensor]] = []
    rates: list[float] = []  # clips a second between looks
    saved = looked = time.perf_counter()

    with graceful_shutdown() as asked:
        for clips, frames in lockstep(training.iter_batches(_batches(spec, seen, classes, at.epoch, at.step))):
            count = min(spec.batch_size, spec.clips_per_epoch - at.step * spec.batch_size)
            share = shard_batch(count, spec.grad_accum_steps, rank(), world_size())  # `clips` are the rows of it
            optimiser.param_groups[0]["lr"] = lr_at_step(spec, at.epoch * steps + at.step, steps)
            sums = torch.zeros(2, device=device)
            with merge_bn_running_stats(network, share):
                for part in share.micro_batches:
                    target = torch.from_numpy(clips.label[part]).to(device, non_blocking=True)
                    with maybe_no_sync(model, last=part is share.micro_batches[-1]):
                        with autocast(spec, device):
                            logits = model(augment(frames[part], clips[part], spec))
                        losses = F.cross_entropy(logits.float(), target, reduction="none")
                        scaler.scale(losses.sum() * share.loss_scale / count).backward()
                    if not share.is_empty:
                        sums += torch.stack([losses.detach().sum(), (logits.argmax(1) != target).sum()])
            scaler.step(optimiser)
            scaler.update()
            optimiser.zero_grad()
            unlooked.append((clips, count, sums))
            at.step += 1
            bar.update()

            now = time.perf_counter()
            stop, due = all_reduce_max(asked[0] if asked else 0, now - saved > save_seconds)
            save_now = stop or due
            if at.step % LOG_EVERY and at.step < steps and not save_now:
                continue
            clips_looked_at = _flush_metrics(run, at, network, unlooked, seen)
            now = time.perf_counter()
            rates.append(clips_looked_at / (now - looked))
            at.seconds += now - looked
            looked = now
            rate = optimiser.param_groups[0]["lr"]
            bar.set_description(f"{spec.variant}: epoch {at.epoch + 1} of {spec.epochs}, rate {rate:.2g}")
            bar.set_postfix_str(f"loss {at.loss / at.seen:.3f}, error {at.wrong / at.seen:.1%}")
            if at.step == steps:
                logits = predict(network, testing, middles, spec)
                target = torch.from_numpy(middles.label)
                at.history.append(
                    {
                        "epoch": at.epoch + 1,
                        "lr": rate,
                        "train_loss": at.loss / at.seen,
                        "train_error": at.wrong / at.seen,
                        "test_loss": F.cross_entropy(logits, target).item(),
                        "test_error": (logits.argmax(1) != target).float().mean().item(),
                        "seconds": round(at.seconds, 3),
                    }
                )
                on_rank_zero(lambda: write_history(run, at.history))
                at.epoch, at.step, at.loss, at.wrong, at.seen, at.seconds = at.epoch + 1, 0, 0.0, 0.0, 0, 0.0
                looked = time.perf_counter()
            if save_now:
                _save(run, manifest, network, optimiser, scaler, at)
                saved = time.perf_counter()
            if stop:
                bar.close()
                raise KeyboardInterrupt if stop == signal.SIGINT else SystemExit(128 + stop)
    bar.close()

    _save(run, manifest, network, optimiser, scaler, at)
    scores = evaluate(network, testing, unseen, manifest.card, spec)
    network_cost = spec_cost(spec, len(scores.classes))
    summary = {
        "device": _devices(device),
        "seconds": round(sum(line["seconds"] for line in at.history), 3),
        "train_clips": spec.epochs * spec.clips_per_epoch,
        "train_clips_per_second": round(statistics.median(rates), 2) if rates else None,
        "inference_clips_per_second": round(sum(all_gather_object(inference_throughput(network, spec, device))), 2),
        "parameters": network_cost.parameters,
        "macs": network_cost.macs,
        "substituted": at.replaced,
    }
    on_rank_zero(lambda: _write_end(run, scores, summary))
    return run


def _write_beginning(run: Run, manifest: Manifest, device: torch.device, at: TrainState) -> None:
    write_atomically(run.folder / "spec.json", run.spec.to_json())
    about_data = {"data": run.spec.data, "fingerprint": manifest.fingerprint, "init_from": at.start}
    write_json(run, "environment.json", environment_info(device) | {"device": _devices(device)} | about_data)
    write_history(run, at.history)


def _write_end(run: Run, scores: Scores, summary: dict) -> None:
    save_scores(run.folder / "scores.npz", scores)
    write_json(run, "summary.json", summary)


def _devices(device: torch.device) -> str:
    return f"{world_size()} × {device_name(device)}" if world_size() > 1 else device_name(device)


def check_data_name(spec: Spec, manifest: Manifest) -> None:
    """Raise R21DError if the manifest is not the data set that the Spec names."""
    if manifest.card.name != spec.data:
        raise R21DError(
            f"{manifest.path}: its card has the name {manifest.card.name!r}, expected {spec.data!r}; runs are kept by "
            'that name, so give the file and the card\'s "name" the same one'
        )


def check_fingerprint(run: Run, fingerprint: str, manifest: Manifest) -> None:
    """Raise R21DError if the run, whose data had this fingerprint, was made on other data than the manifest's."""
    if fingerprint != manifest.fingerprint:
        raise R21DError(
            f"{run.folder}: was made on another state of {manifest.path} (videos, labels or splits differ); "
            "restore that manifest, or move the run folder away to begin afresh"
        )


def lr_at_step(spec: Spec, done: int, steps: int) -> float:
    """The rate of the step after `done` steps, `steps` an epoch: a linear warm-up, then stairs (Section 4.1)."""
    warm = spec.warmup_epochs * steps
    if done < warm:
        return spec.lr * (done + 1) / warm
    stairs = math.floor((done - warm) / (spec.lr_decay_epochs * steps)) if spec.lr_decay_epochs else 0
    return spec.lr * spec.lr_decay**stairs


def _batches(spec: Spec, videos: tuple[Video, ...], classes: tuple[str, ...], epoch: int, step: int) -> Iterator[Clips]:
    """Of each step's batch what this process takes."""
    for number in range(epoch, spec.epochs):
        clips = sample_epoch(spec, number, videos, classes)
        for begin in range(step * spec.batch_size, spec.clips_per_epoch, spec.batch_size):
            batch = clips[begin : begin + spec.batch_size]
            yield batch[shard_batch(len(batch), spec.grad_accum_steps, rank(), world_size()).rows]
        step = 0


def _flush_metrics(
    run: Run, at: TrainState, network: nn.Module, unlooked: list[tuple[Clips, int, Tensor]], videos
) -> int:
    """Add the steps not looked at to the epoch's sums, one by one so that it matters not when one looks.

    A step is the clips of this process, the number of all its clips, and the sums of this process's loss and errors.
    """
    before = at.seen
    first = at.step - len(unlooked) + 1
    sums = all_reduce_sum_(torch.stack([sums for _, _, sums in unlooked])).tolist()
    for step, ((clips, count, _), (loss, wrong)) in enumerate(zip(unlooked, sums, strict=True), first):
        if not math.isfinite(loss):
            names = ", ".join(chain.from_iterable(all_gather_object([videos[row].video for row in clips.video])))
            _abort(run, at, f"the loss of step {step} is {loss}; the videos of that batch: {names}")
        at.loss, at.wrong, at.seen = at.loss + loss, at.wrong + wrong, at.seen + count
    unlooked.clear()
    return at.seen - before


def _abort(run: Run, at: TrainState, what: str) -> None:
    checkpoint = run.folder / "checkpoint.pt"
    good = f"the last good checkpoint is {checkpoint}" if checkpoint.exists() else "there is no checkpoint yet"
    raise R21DError(f"{run.folder}: in epoch {at.epoch + 1}, {what}; {good}. A lower rate may help.")


def _save(run: Run, manifest: Manifest, network, optimiser, scaler, at: TrainState) -> None:
    for replaced in all_gather_object(at.replaced):
        at.replaced.update(replaced)
    on_rank_zero(lambda: _write_checkpoint(run, manifest, network, optimiser, scaler, at))


def _write_checkpoint(run: Run, manifest: Manifest, network, optimiser, scaler, at: TrainState) -> None:
    if not all(torch.isfinite(value).all() for value in network.state_dict().values()):
        _abort(run, at, f"after step {at.step}, weights are not finite")
    buffer = io.BytesIO()
    torch.save(
        {
            "spec": asdict(run.spec),
            "fingerprint": manifest.fingerprint,
            "network": network.state_dict(),
            "optimiser": optimiser.state_dict(),
            "scaler": scaler.state_dict(),
            "at": asdict(at),
        },
        buffer,
    )
    write_atomically(run.folder / "checkpoint.pt", buffer.getvalue())


def _resume(run: Run, manifest: Manifest, network, optimiser, scaler) -> TrainState | None:
    saved = on_rank_zero(lambda: _read_checkpoint(run, manifest))
    if saved is None:
        return None
    network.load_state_dict(saved["network"])
    optimiser.load_state_dict(saved["optimiser"])
    scaler.load_state_dict(saved["scaler"])
    return TrainState(**saved["at"])


def _read_checkpoint(run: Run, manifest: Manifest) -> dict | None:
    if not run.has_checkpoint:
        return None
    saved = load_checkpoint(run)
    check_fingerprint(run, saved["fingerprint"], manifest)
    return saved


@contextmanager
def graceful_shutdown():
    """A list that SIGTERM and the first Ctrl-C are noted in; a second Ctrl-C stops at once.

    Not so with several processes, to whom both the terminal and the launcher send the first.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number, _):
        asked.append(number)
        if world_size() == 1:
            signal.signal(signal.SIGINT, before[signal.SIGINT])

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
