"""An experiment's runs, one after another: what they will cost first, then the work, and nothing done twice."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from tqdm.auto import tqdm

from r21d_core import R21DError
from r21d_core.data.manifest import Manifest, load_manifest
from r21d_core.data.sampling import frame_counts, task_classes
from r21d_core.data.synthetic import make_builtin
from r21d_core.engine.device import device_name, pick_device
from r21d_core.engine.distributed import check_divisible, is_torchrun, on_rank_zero, process_group, world_size
from r21d_core.engine.launcher import spawn_workers
from r21d_core.engine.throughput import training_throughput
from r21d_core.engine.train import check_data_name, check_fingerprint, train
from r21d_core.models.cost import spec_cost
from r21d_core.models.zoo import resolve_weights
from r21d_core.runs.files import make_folder
from r21d_core.runs.run import Run, RunLockedError, find_run
from r21d_core.study.recipes import VAL_SUFFIX
from r21d_core.study.spec import Spec, run_labels

BUILTIN_ROOT = Path("data")
PATIENCE = 10.0  # seconds for measuring before a plan is told
WAIT = 1.0  # seconds between two looks at runs that another process is on


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
    """The runs of `specs` under the folder `runs`, all done; those not done are planned aloud, then trained.

    `manifest` is as in `open_data`, which is asked only where a run is missing or a file was given: without one the
    built-in videos are used, made under `builtin` on first use. A run that fails does not keep the others from their
    turn: when all had it, R21DError says which failed and why. What another process is on is waited for, so that the
    same call in several processes shares the runs among them. Where the plan takes more than `max_hours`, nothing is
    begun. More than one of `gpus` are so many processes on this host, which share each run as `distributed` says; where
    torchrun has started them already, they all call this.
    """
    work = partial(
        _run_all, specs, manifest, runs,
        device=device, cache=cache, workers=workers, builtin=builtin, max_hours=max_hours,
    )  # fmt: skip
    if gpus == 1 or is_torchrun():
        work()
    elif (todo := [run.spec for run in find_runs(specs, runs) if not run.is_complete]) or manifest:
        for spec in todo:
            check_divisible(spec, gpus)
        spawn_workers(work, gpus, device)
    return find_runs(specs, runs)


def _run_all(specs, manifest, runs, *, device, cache, workers, builtin, max_hours) -> None:
    with process_group(device) as device:
        todo = on_rank_zero(lambda: [spec for spec in specs if not find_run(runs, spec).is_complete])
        if not (todo or manifest):
            return
        data = on_rank_zero(lambda: load_manifests(specs, manifest, builtin))
        on_rank_zero(lambda: _refuse_runs_of_other_data(find_runs(specs, runs), data))
        if not todo:
            return
        text, hours = on_rank_zero(lambda: _plan(specs, data, runs, device, world_size()))
        print(text)
        if hours > max_hours:
            print(f"That is more than max_hours = {max_hours:g}: nothing is begun here; allow more, or use a batch.")
            return
        on_rank_zero(lambda: make_folder(Path(runs)))  # said once, where each run would say it
        # With several processes one that is out of memory has to die, as the others wait for it.
        to_mend = R21DError if world_size() > 1 else (R21DError, torch.OutOfMemoryError)
        failures, bar = [], tqdm(total=len(todo), desc="runs", unit="run", leave=False)
        turn = list(todo)
        while turn:
            others: list[Spec] = []  # that another process is on, and those that start from them
            for spec in turn:
                try:
                    if spec.parent_spec in others:
                        raise RunLockedError(f"{find_run(runs, spec.parent_spec).folder}: another process is on it")
                    train(spec, data[spec.data], runs, device=device, cache=cache, workers=workers)
                except RunLockedError:
                    others.append(spec)
                    continue
                except to_mend as error:
                    failures.append(f"{spec.variant}, seed {spec.seed}: {error}")
                bar.update()
            if others == turn:
                bar.set_description(f"runs; another process is on {len(others)}")
                time.sleep(WAIT)
            turn = others
        bar.close()
        if failures:
            raise R21DError(f"{len(failures)} of {len(todo)} runs failed:\n" + "\n".join(failures))


def _refuse_runs_of_other_data(runs: list[Run], data: dict[str, Manifest]) -> None:
    for run in runs:
        if run.is_complete:
            check_fingerprint(run, run.environment["fingerprint"], data[run.spec.data])


def load_manifests(
    specs: Sequence[Spec], manifest: Path | str | None = None, builtin: Path | str = BUILTIN_ROOT
) -> dict[str, Manifest]:
    """The manifests of the data sets that `specs` name, by name.

    `manifest` is the file of one of them, or of the set whose validation cut is asked for; the others are looked for
    beside it. Without one it is the built-in videos, under the folder `builtin`. Raises R21DError if one is missing,
    has not been checked or has another name in its card, and where a manifest is needed and none is given.
    """
    asked = "name its checked manifest (--manifest, in a notebook the parameter `manifest`)"
    if not manifest and (profiles := {spec.profile for spec in specs} - {"demo"}):
        raise R21DError(f"profile {min(profiles)}: takes a data set of yours; {asked}")
    if not manifest and (own := [spec.data for spec in specs if not spec.data.startswith("builtin")]):
        raise R21DError(f"data {own[0]}: none of the built-in videos; {asked}")
    given = Path(manifest or make_builtin(Path(builtin)))
    names = list(dict.fromkeys(spec.data for spec in specs))
    if len(names) == 1 and manifest and names[0] != f"{given.stem}{VAL_SUFFIX}":
        data = {names[0]: load_manifest(given)}
    else:
        data = {name: load_manifest(given.with_name(f"{name}.csv")) for name in names}
    for spec in specs:
        check_data_name(spec, data[spec.data])
    for found in data.values():
        frame_counts(found.videos)
    return data


def find_runs(specs: Sequence[Spec], runs: Path | str = "runs") -> list[Run]:
    """The runs of `specs` under the folder `runs`, done or not; nothing is trained."""
    return [find_run(runs, spec) for spec in specs]


def plan(
    specs: Sequence[Spec], data: dict[str, Manifest], runs: Path | str, device: str = "auto", gpus: int = 1
) -> str:
    """What `run_all` would do with the manifests `data` gives for each name, as text.

    Tells runs, parameters, multiply-adds, and about how long on this device.
    The time is that of training steps measured now, a moment of each network, and once PATIENCE is over in proportion
    to multiply-adds; reading and evaluating come on top, and so does what several `gpus` have to tell each other.
    Raises R21DError for a spec that no network fits, whose batch so many cannot share, or whose start is not there.
    """
    return _plan(specs, data, runs, device, gpus)[0]


def _plan(
    specs: Sequence[Spec], data: dict[str, Manifest], runs: Path | str, device: str, gpus: int
) -> tuple[str, float]:
    """The plan as text, and its hours."""
    found = [find_run(runs, spec) for spec in specs]
    networks = dict.fromkeys(run.spec.replace(seed=0) for run in found)
    classes = {network: len(task_classes(network, data[network.data].card.classes)) for network in networks}
    costs = {network: spec_cost(network, classes[network]) for network in networks}
    todo = [run.spec for run in found if not run.is_complete]
    begun = sum(run.has_checkpoint and not run.is_complete for run in found)
    lines = [
        *(_sides(manifest) for manifest in data.values()),
        f"{len(found)} runs: {len(found) - len(todo)} done, {begun} begun, {len(todo) - begun} new",
    ]
    if not todo:
        return "\n".join(lines), 0.0
    for spec in todo:
        check_divisible(spec, gpus)
        if spec.init_file:
            resolve_weights(spec.init_file)  # what is not there is said before anything is measured or trained
    target = pick_device(device)
    if target.type == "cuda":
        held = torch.cuda.memory_allocated(target)  # such as videos of runs before
        torch.cuda.reset_peak_memory_stats(target)
    rates: dict[Spec, float] = {}
    began = time.perf_counter()
    to_measure = list(dict.fromkeys(spec.replace(seed=0) for spec in todo))
    for network in tqdm(to_measure, "measuring each network for a moment", leave=False):
        if not rates or time.perf_counter() - began < PATIENCE:
            last, rates[network] = network, training_throughput(network, classes[network], target, gpus)
        else:
            rates[network] = rates[last] * costs[last].macs / costs[network].macs
    left = {spec: (spec.epochs - len(find_run(runs, spec).history)) * spec.clips_per_epoch for spec in todo}
    hours = {spec: left[spec] / rates[spec.replace(seed=0)] / gpus / 3600 for spec in todo}
    names = dict(zip(specs, run_labels(specs), strict=True))
    width = max(len(names[spec]) for spec in todo)
    lines.append(f"{'run':<{width}}{'parameters':>12}{'GMAC/clip':>11}{'clips left':>12}{'about':>10}")
    for spec in todo:
        cost = costs[spec.replace(seed=0)]
        lines.append(
            f"{names[spec]:<{width}}{cost.parameters:>12,}{cost.macs / 1e9:>11.3f}{left[spec]:>12,}"
            f"{_duration(hours[spec]):>10}"
        )
    memory, times = "", f"{gpus} × " if gpus > 1 else ""
    if target.type == "cuda":
        memory = f", {(torch.cuda.max_memory_allocated(target) - held) / 2**30:.1f} GiB beside the videos"
    lines.append(
        f"in all about {_duration(sum(hours.values()))} on {times}{device_name(target)}{memory}, "
        f"if nothing else runs there; records in {runs}"
    )
    return "\n".join(lines), sum(hours.values())


def _sides(manifest: Manifest) -> str:
    sides = Counter(video.split for video in manifest.videos)
    return f"{manifest.card.name}: {', '.join(f'{count} {side}' for side, count in sides.items())} videos"


def _duration(hours: float) -> str:
    if hours >= 1:
        return f"{hours:.1f} h"
    return f"{hours * 60:.0f} min" if hours * 60 >= 2 else f"{hours * 3600:.0f} s"
