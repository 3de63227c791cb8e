"""Training throughput of several GPUs of this host against one."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path

import torch

from benchmarks.baselines import baselines, training_step
from benchmarks.steps import ROUNDS, make_row, rates, synthetic_batch, time_interleaved, warm_up
from r21d_core.engine.device import pick_device
from r21d_core.engine.distributed import all_reduce_max, on_rank_zero, process_group
from r21d_core.engine.launcher import spawn_workers
from r21d_core.study.spec import Spec


def bench_scaling(spec: Spec, device: torch.device, seconds: float) -> list[dict]:
    """Return rows of training in one process, and in one process per GPU with `spec.batch_size` clips each.

    The processes are started as `--gpus` starts them and train on the same batch each step. On a CPU two processes
    share the cores. Throughput is as in `bench_train`, of all processes together.
    """
    gpu = device.type == "cuda"
    n_devices = torch.cuda.device_count() if gpu else 2
    if n_devices < 2:
        row = make_row("scaling", spec, spec.precision, "several GPUs")
        return [row | {"failed": "needs two GPUs, found one"}]
    rows = []
    for processes in (1, n_devices):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rates.json"
            spawn_workers(partial(_measure, spec, seconds, path, device.type), processes, device.type)
            what = f"{processes} {'GPU' if gpu else 'process'}" + ("s" if gpu else "es") * (processes > 1)
            row = make_row("scaling", spec, spec.precision, what)
            rows.append(row | rates(spec.replace(batch_size=spec.batch_size * processes), json.loads(path.read_text())))
    return rows


def _measure(spec: Spec, seconds: float, path: Path, device: str) -> None:
    """Run in each process: measure ROUNDS rounds of steps; rank zero writes their steps per second to `path`."""
    with process_group("auto" if device == "cuda" else device) as name:
        target = pick_device(name)
        _, step_on = training_step(baselines(spec, target)[-1], spec, target)
        step = partial(step_on, *synthetic_batch(spec, target))
        warm_up(step, target, seconds)
        rate = time_interleaved({"": step}, target, 0.0)[""][-1]
        # All processes take the same number of steps, as each step waits for all of them.
        (n_steps,) = all_reduce_max(max(1, round(seconds / ROUNDS * rate)))

        def step_repeatedly():
            for _ in range(n_steps):
                step()

        rounds = time_interleaved({"": step_repeatedly}, target, 0.0)[""]
        on_rank_zero(lambda: path.write_text(json.dumps([n_steps * rate for rate in rounds])))
