"""Train the runs of an experiment that are not complete."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import torch
from tqdm.auto import tqdm

from r21d_core import R21DError
from r21d_core.engine.device import pick_device
from r21d_core.engine.distributed import (
    check_count,
    check_divisible,
    is_torchrun,
    on_rank_zero,
    process_group,
    world_size,
)
from r21d_core.engine.launcher import spawn_workers
from r21d_core.engine.log import check_log
from r21d_core.engine.origin import check_fingerprint, check_origin
from r21d_core.engine.plan import BUILTIN_ROOT, data_size, load_manifests, make_plan
from r21d_core.engine.pool import InProcess, WorkerPool, count_parallel_runs
from r21d_core.engine.train import train
from r21d_core.runs.files import make_folder
from r21d_core.runs.locking import RunLockedError
from r21d_core.runs.run import Run, find_run, find_runs
from r21d_core.study.spec import Spec

LOCKED_SECONDS = 1.0  # between attempts at runs that another process has locked
WORKER_DEATH = (
    "its worker process died, perhaps for lack of memory, or ended with a checkpoint as another one died; "
    "the same command resumes"
)


def run_experiment(
    specs: Sequence[Spec], manifest: Path | str | None = None, runs: Path | str = "runs", *, device: str = "auto",
    cache: str = "auto", workers: int | None = None, builtin: Path | str = BUILTIN_ROOT, max_hours: float = math.inf,
    gpus: int = 1, log: str = "",
) -> list[Run]:  # fmt: skip
    """Return the runs of `specs` in the folder `runs`, after printing a plan and training those not complete.

    `manifest` and `builtin` are those of `load_manifests`. A run that fails does not stop the others; at the end
    R21DError lists the failures. Runs locked by another process are waited for, so the same call in several processes
    divides the runs. If the plan takes more than `max_hours`, nothing is trained. `gpus` > 1 starts that many processes
    on this host, which share each run; under torchrun all processes call this function. On a CPU, runs of small
    networks are trained one a core in worker processes, so call this under `if __name__ == "__main__":`. `log` is that
    of `train`.

    For example:

        >>> from r21d_core.engine.runner import run_experiment
        >>> from r21d_core.study.recipes import get_recipe
        >>> spec = get_recipe("demo").replace(data="videos", epochs=1)
        >>> (run,) = run_experiment([spec], "data/videos.csv")
        >>> run.is_complete
        True
    """
    check_log(log)
    check_count(gpus)
    options = {"device": device, "cache": cache, "workers": workers, "log": log}
    work = partial(_run_all, specs, manifest, runs, builtin, max_hours, options)
    todo = _incomplete(specs, runs)
    if gpus == 1 or is_torchrun() or not todo:
        work()
    else:
        for spec in todo:
            check_divisible(spec, gpus)
        spawn_workers(work, gpus, device)
    return find_runs(specs, runs)


def _run_all(specs, manifest, runs, builtin, max_hours: float, options: dict) -> None:
    with process_group(options["device"]) as device:
        todo = on_rank_zero(lambda: _incomplete(specs, runs))
        complete = on_rank_zero(lambda: [run for run in find_runs(specs, runs) if run.is_complete])
        on_rank_zero(lambda: [check_origin(run) for run in complete])
        if not (todo or manifest):
            return
        slots = count_parallel_runs(todo, pick_device(device))
        pool = WorkerPool(slots) if slots > 1 else InProcess()
        data = on_rank_zero(lambda: load_manifests(specs, manifest, builtin))
        on_rank_zero(
            lambda: [check_fingerprint(run, run.environment["fingerprint"], data[run.spec.data]) for run in complete]
        )
        if not todo:
            return
        sizes = on_rank_zero(lambda: {name: data_size(loaded) for name, loaded in data.items()})
        text, hours = on_rank_zero(lambda: make_plan(specs, sizes, runs, device, world_size()))
        print(text)
        if hours > max_hours:
            print(f"This is more than max_hours = {max_hours:g}, so nothing is trained; increase it, or use more GPUs.")
            return
        if empty := [sizes[spec.data].missing for spec in todo if sizes[spec.data].is_empty]:
            raise R21DError(f"nothing is trained; {empty[0]}")
        on_rank_zero(lambda: make_folder(Path(runs)))  # reports a missing permission once rather than for each run
        with pool:
            failures = _train_all(todo, data, runs, pool, **options | {"device": device})
        if failures:
            raise R21DError(f"{len(failures)} of {len(todo)} runs failed:\n" + "\n".join(failures))


def _train_all(specs: list[Spec], data: dict, runs: Path | str, pool: InProcess | WorkerPool, **options) -> list[str]:
    """Train the runs, `pool.slots` at once and parents first; return a message for each that failed."""
    # With several processes the others wait for one that is out of memory, so that one must exit.
    recoverable = (R21DError,) if world_size() > 1 else (R21DError, torch.OutOfMemoryError)
    waiting, locked, failures, announced = list(specs), [], [], set()
    active: dict[Future, Spec] = {}
    # The mean rate, as tqdm's moving one divides by the seconds since the bar was drawn, not since a run has ended.
    bar = tqdm(total=len(specs), desc="runs", unit="run", leave=False, miniters=0, smoothing=0)
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
            except RunLockedError as error:
                if spec not in announced:
                    tqdm.write(str(error))
                announced.add(spec)
                locked.append(spec)
                continue
            except (*recoverable, BrokenProcessPool) as error:
                reason = WORKER_DEATH if isinstance(error, BrokenProcessPool) else error
                failures.append(f"{spec.variant}, seed {spec.seed}: {reason}")
            bar.update()
        if pool.slots > 1 and active:
            epochs = (f"{s.variant} {len(find_run(runs, s).history)}/{s.epochs}" for s in active.values())
            bar.set_description("runs (epochs: " + ", ".join(epochs) + ")", refresh=False)
            bar.update(0)  # draws as often as the bar may, which is rarely in a file
        if locked and not ready:
            bar.set_description(f"runs ({len(locked)} locked by another process)", refresh=False)
            bar.update(0)
            if not active:
                time.sleep(LOCKED_SECONDS)
            waiting, locked = waiting + locked, []
    bar.close()
    return failures


def _incomplete(specs: Sequence[Spec], runs: Path | str) -> list[Spec]:
    return [run.spec for run in find_runs(list(dict.fromkeys(specs)), runs) if not run.is_complete]
