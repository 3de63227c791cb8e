"""Plan an experiment's runs and train those that are not complete."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import torch
from tqdm.auto import tqdm

from r21d_core import R21DError
from r21d_core.data.manifest import Manifest, load_manifest
from r21d_core.data.sampling import frame_counts, task_classes
from r21d_core.data.synthetic import make_builtin
from r21d_core.engine.checkpoint import check_fingerprint
from r21d_core.engine.device import device_name, limit_cpu_threads, pick_device
from r21d_core.engine.distributed import check_divisible, is_torchrun, on_rank_zero, process_group, world_size
from r21d_core.engine.launcher import spawn_workers
from r21d_core.engine.pool import InProcess, WorkerPool, count_parallel_runs
from r21d_core.engine.throughput import training_throughput
from r21d_core.engine.train import check_data_name, train
from r21d_core.models.cost import spec_cost
from r21d_core.models.zoo import resolve_weights
from r21d_core.runs.files import make_folder
from r21d_core.runs.run import Run, RunLockedError, find_run
from r21d_core.study.recipes import VAL_SUFFIX
from r21d_core.study.spec import Spec, run_labels

BUILTIN_ROOT = Path("data")
PLAN_SECONDS = 5.0  # for measuring networks before the plan is printed
LOCKED_SECONDS = 1.0  # between attempts at runs that another process has locked
WORKER_DEATH = (
    "its worker process died, perhaps for lack of memory, or was stopped with a checkpoint as another one died; "
    "the same command resumes"
)


def run_experiment(
    specs: Sequence[Spec],
    manifest: Path | str | None = None,
    runs: Path | str = "runs",
    *,
    device: str = "auto",
    cache: str = "auto",
    workers: int | None = None,
    builtin: Path | str = BUILTIN_ROOT,
    max_hours: float = math.inf,
    gpus: int = 1,
) -> list[Run]:
    """Return the runs of `specs` in the folder `runs`, after printing a plan and training those not complete.

    `manifest` and `builtin` are those of `load_manifests`. A run that fails does not stop the others; at the end
    R21DError lists the failures. Runs locked by another process are waited for, so the same call in several processes
    divides the runs. If the plan takes more than `max_hours`, nothing is trained. `gpus` > 1 starts that many processes
    on this host, which share each run; under torchrun all processes call this function. On a CPU, runs of small
    networks are trained one a core in worker processes, so call this under `if __name__ == "__main__":`.
    """
    options = {"device": device, "cache": cache, "workers": workers}
    work = partial(_run_all, specs, manifest, runs, builtin, max_hours, options)
    if gpus == 1 or is_torchrun():
        work()
    elif (todo := _incomplete(specs, runs)) or manifest:
        for spec in todo:
            check_divisible(spec, gpus)
        spawn_workers(work, gpus, device)
    return find_runs(specs, runs)


def _run_all(specs, manifest, runs, builtin, max_hours: float, options: dict) -> None:
    with process_group(options["device"]) as device:
        todo = on_rank_zero(lambda: _incomplete(specs, runs))
        if not (todo or manifest):
            return
        slots = count_parallel_runs(todo, pick_device(device))
        pool = WorkerPool(slots) if slots > 1 else InProcess()
        data = on_rank_zero(lambda: load_manifests(specs, manifest, builtin))
        complete = on_rank_zero(lambda: [run for run in find_runs(specs, runs) if run.is_complete])
        for run in complete:
            on_rank_zero(lambda run=run: check_fingerprint(run, run.environment["fingerprint"], data[run.spec.data]))
        if not todo:
            return
        text, hours = on_rank_zero(lambda: _plan(specs, data, runs, device, world_size()))
        print(text)
        if hours > max_hours:
            print(f"This is more than max_hours = {max_hours:g}, so nothing is trained; allow more, or use a cluster.")
            return
        on_rank_zero(lambda: make_folder(Path(runs)))  # reports a missing permission once rather than for each run
        with pool:
            failures = _train_all(todo, data, runs, pool, **options | {"device": device})
        if failures:
            raise R21DError(f"{len(failures)} of {len(todo)} runs failed:\n" + "\n".join(failures))


def _train_all(specs: list[Spec], data: dict, runs: Path | str, pool: InProcess | WorkerPool, **options) -> list[str]:
    """Train the runs, `pool.slots` at once and parents first; return a message for each that failed."""
    # With several processes the others wait for one that is out of memory, so that one must exit.
    recoverable = (R21DError,) if world_size() > 1 else (R21DError, torch.OutOfMemoryError)
    waiting, locked, failures = list(specs), [], []
    active: dict[Future, Spec] = {}
    bar = tqdm(total=len(specs), desc="runs", unit="run", leave=False)
    while waiting or locked or active:
        pending = {*waiting, *locked, *active.values()}
        ready = [spec for spec in waiting if spec.parent_spec not in pending]
        for spec in ready[: pool.slots - len(active)]:
            waiting.remove(spec)
            active[pool.submit(train, spec, data[spec.data], runs, **options)] = spec
        for future in pool.wait(active):
            spec = active.pop(future)
            try:
                if isinstance(output := future.result(), str) and output:
                    tqdm.write(output, end="")
            except RunLockedError:
                locked.append(spec)
                continue
            except (*recoverable, BrokenProcessPool) as error:
                reason = WORKER_DEATH if isinstance(error, BrokenProcessPool) else error
                failures.append(f"{spec.variant}, seed {spec.seed}: {reason}")
            bar.update()
        if pool.slots > 1 and active:
            epochs = (f"{s.variant} {len(find_run(runs, s).history)}/{s.epochs}" for s in active.values())
            bar.set_description("runs (epochs: " + ", ".join(epochs) + ")")
        if locked and not ready:
            bar.set_description(f"runs ({len(locked)} locked by another process)")
            if not active:
                time.sleep(LOCKED_SECONDS)
            waiting, locked = waiting + locked, []
    bar.close()
    return failures


def _incomplete(specs: Sequence[Spec], runs: Path | str) -> list[Spec]:
    return [run.spec for run in find_runs(list(dict.fromkeys(specs)), runs) if not run.is_complete]


def load_manifests(
    specs: Sequence[Spec], manifest: Path | str | None = None, builtin: Path | str = BUILTIN_ROOT
) -> dict[str, Manifest]:
    """Return the manifests of the data sets that `specs` name, by name.

    `manifest` is the file of one of them, or of the data set from which the validation split was taken; the others are
    in the same folder. Without it the built-in videos are used, made in the folder `builtin` on first use.
    """
    hint = "name its checked manifest (--manifest, in a notebook the parameter `manifest`)"
    if not manifest and (profiles := {spec.profile for spec in specs} - {"demo"}):
        raise R21DError(f"profile {min(profiles)}: needs a data set of yours; {hint}")
    if not manifest and (names := [spec.data for spec in specs if not spec.data.startswith("builtin")]):
        raise R21DError(f"data {names[0]}: not one of the built-in data sets; {hint}")
    path = Path(manifest or make_builtin(Path(builtin)))
    names = list(dict.fromkeys(spec.data for spec in specs))
    if len(names) == 1 and manifest and names[0] != f"{path.stem}{VAL_SUFFIX}":
        data = {names[0]: load_manifest(path)}
    else:
        data = {name: load_manifest(path.with_name(f"{name}.csv")) for name in names}
    for spec in specs:
        check_data_name(spec, data[spec.data])
    for loaded in data.values():
        frame_counts(loaded.videos)
    return data


def find_runs(specs: Sequence[Spec], runs: Path | str = "runs") -> list[Run]:
    """Return the runs of `specs` in the folder `runs`, complete or not."""
    return [find_run(runs, spec) for spec in specs]


def plan(
    specs: Sequence[Spec], data: dict[str, Manifest], runs: Path | str, device: str = "auto", gpus: int = 1
) -> str:
    """Return what `run_experiment` would do with the manifests `data`, as text: runs, parameters, MACs and time.

    The time is that of training steps measured now for a moment, and after PLAN_SECONDS in proportion to the MACs;
    without data loading, evaluation and communication.
    """
    return _plan(specs, data, runs, device, gpus)[0]


def _plan(specs: Sequence[Spec], data: dict[str, Manifest], runs, device: str, gpus: int) -> tuple[str, float]:
    """Return the plan as text, and its hours."""
    found = find_runs(specs, runs)
    todo = [run.spec for run in found if not run.is_complete]
    n_begun = sum(run.has_checkpoint and not run.is_complete for run in found)
    num_classes = {spec: len(task_classes(spec, data[spec.data].card.classes)) for spec in specs}
    costs = {spec: spec_cost(spec, num_classes[spec]) for spec in specs}
    lines = []
    for manifest in data.values():
        counts = Counter(video.split for video in manifest.videos)
        lines.append(f"{manifest.card.name}: {', '.join(f'{n} {split}' for split, n in counts.items())} videos")
    lines.append(f"{len(found)} runs: {len(found) - len(todo)} done, {n_begun} begun, {len(todo) - n_begun} new")
    if not todo:
        return "\n".join(lines), 0.0
    for spec in todo:
        check_divisible(spec, gpus)
        if spec.init_file:
            resolve_weights(spec.init_file)  # raises before anything is measured or trained
    target = pick_device(device)
    if target.type == "cuda":
        allocated = torch.cuda.memory_allocated(target)  # such as videos of earlier runs
        torch.cuda.reset_peak_memory_stats(target)
    networks = {spec.replace(seed=0): spec for spec in todo}  # seeds share a measurement
    throughputs: dict[Spec, float] = {}
    began = time.perf_counter()
    for network, spec in tqdm(networks.items(), "measuring training steps", leave=False):
        if not throughputs or time.perf_counter() - began < PLAN_SECONDS:
            last, throughputs[network] = spec, training_throughput(network, num_classes[spec], target, gpus)
        else:
            throughputs[network] = throughputs[last.replace(seed=0)] * costs[last].macs / costs[spec].macs
    clips = {spec: (spec.epochs - len(find_run(runs, spec).history)) * spec.clips_per_epoch for spec in todo}
    hours = {spec: clips[spec] / throughputs[spec.replace(seed=0)] / gpus / 3600 for spec in todo}
    labels = dict(zip(specs, run_labels(specs), strict=True))
    width = max(len(labels[spec]) for spec in todo)
    lines.append(f"{'run':<{width}}{'parameters':>12}{'GMAC/clip':>11}{'clips left':>12}{'about':>10}")
    lines += [
        f"{labels[spec]:<{width}}{costs[spec].parameters:>12,}{costs[spec].macs / 1e9:>11.3f}{clips[spec]:>12,}"
        f"{_duration(hours[spec]):>10}"
        for spec in todo
    ]
    with limit_cpu_threads(max(todo, key=lambda spec: costs[spec].macs * spec.batch_size), target):
        where = f"{gpus} × {device_name(target)}" if gpus > 1 else device_name(target)
    if target.type == "cuda":
        where += f", {(torch.cuda.max_memory_allocated(target) - allocated) / 2**30:.1f} GiB beside the videos"
    slots = count_parallel_runs(todo, target) if gpus == 1 else 1
    if slots > 1:
        where += f", {slots} runs at a time"
    total = max(sum(hours.values()) / slots, max(hours.values()))
    lines.append(f"in all about {_duration(total)} on {where}, if nothing else runs there; records in {runs}")
    return "\n".join(lines), total


def _duration(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.0f} min" if hours * 60 >= 2 else f"{hours * 3600:.0f} s"
