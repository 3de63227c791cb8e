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
from r21d_core.data.builtin import make_builtin
from r21d_core.data.manifest import Manifest, load_manifest
from r21d_core.data.sampling import frame_counts, task_classes
from r21d_core.engine.device import device_name, pick_device
from r21d_core.engine.distributed import joined, launched, of_first, refuse_uneven, size
from r21d_core.engine.elastic import launch
from r21d_core.engine.speed import training_rate
from r21d_core.engine.train import expect_data, refuse_other_data, train
from r21d_core.nets.cost import cost_of
from r21d_core.nets.published import find_weights
from r21d_core.records.files import make_folder
from r21d_core.records.run import Busy, Run, find_run
from r21d_core.study.experiments import VALIDATION
from r21d_core.study.spec import Spec, tell_apart

BUILTIN_ROOT = Path("data")
PATIENCE = 10.0  # seconds for measuring before a plan is told
WAIT = 1.0  # seconds between two looks at runs that another process is on


def run_all(
    specs: Sequence[Spec],
    manifest: Path | str | None = None,
    runs: Path | str = "runs",
    *,
    device: str = "auto",
    where: str = "auto",
    workers: int | None = None,
    builtin: Path | str = BUILTIN_ROOT,
    most_hours: float = math.inf,
    gpus: int = 1,
) -> list[Run]:
    """The runs of `specs` under the folder `runs`, all done; those not done are planned aloud, then trained.

    `manifest` is as in `open_data`, which is asked only where a run is missing or a file was given: without one the
    built-in videos are used, made under `builtin` on first use. A run that fails does not keep the others from their
    turn: when all had it, R21DError says which failed and why. What another process is on is waited for, so that the
    same call in several processes shares the runs among them. Where the plan takes more than `most_hours`, nothing is
    begun. More than one of `gpus` are so many processes on this host, which share each run as `distributed` says; where
    torchrun has started them already, they all call this.
    """
    work = partial(
        _run_all, specs, manifest, runs,
        device=device, where=where, workers=workers, builtin=builtin, most_hours=most_hours,
    )  # fmt: skip
    if gpus == 1 or launched():
        work()
    elif (todo := [run.spec for run in find_all(specs, runs) if not run.done]) or manifest:
        for spec in todo:
            refuse_uneven(spec, gpus)
        launch(work, gpus, device)
    return find_all(specs, runs)


def _run_all(specs, manifest, runs, *, device, where, workers, builtin, most_hours) -> None:
    with joined(device) as device:
        todo = of_first(lambda: [spec for spec in specs if not find_run(runs, spec).done])
        if not (todo or manifest):
            return
        data = of_first(lambda: open_data(specs, manifest, builtin))
        of_first(lambda: _refuse_runs_of_other_data(find_all(specs, runs), data))
        if not todo:
            return
        text, hours = of_first(lambda: _plan(specs, data, runs, device, size()))
        print(text)
        if hours > most_hours:
            print(f"That is more than most_hours = {most_hours:g}: nothing is begun here; allow more, or use a batch.")
            return
        of_first(lambda: make_folder(Path(runs)))  # said once, where each run would say it
        # With several processes one that is out of memory has to die, as the others wait for it.
        to_mend = R21DError if size() > 1 else (R21DError, torch.OutOfMemoryError)
        failures, bar = [], tqdm(total=len(todo), desc="runs", unit="run", leave=False)
        turn = list(todo)
        while turn:
            others: list[Spec] = []  # that another process is on, and those that start from them
            for spec in turn:
                try:
                    if spec.start_spec in others:
                        raise Busy(f"{find_run(runs, spec.start_spec).folder}: another process is on it")
                    train(spec, data[spec.data], runs, device=device, where=where, workers=workers)
                except Busy:
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
        if run.done:
            refuse_other_data(run, run.environment["fingerprint"], data[run.spec.data])


def open_data(
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
    if len(names) == 1 and manifest and names[0] != f"{given.stem}{VALIDATION}":
        data = {names[0]: load_manifest(given)}
    else:
        data = {name: load_manifest(given.with_name(f"{name}.csv")) for name in names}
    for spec in specs:
        expect_data(spec, data[spec.data])
    for found in data.values():
        frame_counts(found.videos)
    return data


def find_all(specs: Sequence[Spec], runs: Path | str = "runs") -> list[Run]:
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
    networks = dict.fromkeys(run.spec.but(seed=0) for run in found)
    classes = {network: len(task_classes(network, data[network.data].card.classes)) for network in networks}
    costs = {network: cost_of(network, classes[network]) for network in networks}
    todo = [run.spec for run in found if not run.done]
    begun = sum(run.begun and not run.done for run in found)
    lines = [
        *(_sides(manifest) for manifest in data.values()),
        f"{len(found)} runs: {len(found) - len(todo)} done, {begun} begun, {len(todo) - begun} new",
    ]
    if not todo:
        return "\n".join(lines), 0.0
    for spec in todo:
        refuse_uneven(spec, gpus)
        if spec.start_file:
            find_weights(spec.start_file)  # what is not there is said before anything is measured or trained
    target = pick_device(device)
    if target.type == "cuda":
        held = torch.cuda.memory_allocated(target)  # such as videos of runs before
        torch.cuda.reset_peak_memory_stats(target)
    rates: dict[Spec, float] = {}
    began = time.perf_counter()
    to_measure = list(dict.fromkeys(spec.but(seed=0) for spec in todo))
    for network in tqdm(to_measure, "measuring each network for a moment", leave=False):
        if not rates or time.perf_counter() - began < PATIENCE:
            last, rates[network] = network, training_rate(network, classes[network], target, gpus)
        else:
            rates[network] = rates[last] * costs[last].macs / costs[network].macs
    left = {spec: (spec.epochs - len(find_run(runs, spec).history)) * spec.epoch_clips for spec in todo}
    hours = {spec: left[spec] / rates[spec.but(seed=0)] / gpus / 3600 for spec in todo}
    names = dict(zip(specs, tell_apart(specs), strict=True))
    width = max(len(names[spec]) for spec in todo)
    lines.append(f"{'run':<{width}}{'parameters':>12}{'GMAC/clip':>11}{'clips left':>12}{'about':>10}")
    for spec in todo:
        cost = costs[spec.but(seed=0)]
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
