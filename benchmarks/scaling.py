"""How much faster several GPUs of this host train than one."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks.baselines import CLASSES
from benchmarks.steps import ROUNDS, rates, row_of, synthetic_batch, time_interleaved, warm_up
from r21d_core.engine.build import build_model, build_optimizer, optimize
from r21d_core.engine.cuda_graphs import capture_cuda_graph
from r21d_core.engine.device import autocast, pick_device
from r21d_core.engine.distributed import (
    all_reduce_max,
    merge_bn_running_stats,
    on_rank_zero,
    process_group,
    rank,
    shard_batch,
    world_size,
    wrap_ddp,
)
from r21d_core.engine.launcher import spawn_workers
from r21d_core.study.spec import Spec


def bench_scaling(spec: Spec, device: torch.device, *, seconds: float = 5.0) -> list[dict]:
    """Rows of the training steps of one process and of one for each GPU, `spec.batch_size` clips a process.

    Started and joined as `--gpus` does it, each on one batch over and over, so that nothing is read. On a CPU two
    processes share it, which is no gain. Rates as in `bench_train`, of all processes together.
    """
    gpu = device.type == "cuda"
    most = torch.cuda.device_count() if gpu else 2
    if most < 2:
        alone = row_of("scaling", spec, spec.precision, "several GPUs")
        return [alone | {"failed": "it takes two GPUs, and here is one"}]
    rows = []
    for processes in (1, most):
        with tempfile.TemporaryDirectory() as folder:
            told = Path(folder) / "told.json"
            spawn_workers(partial(_measure, spec, seconds, told, device.type), processes, device.type)
            what = f"{processes} {'GPU' if gpu else 'process'}" + ("s" if gpu else "es") * (processes > 1)
            row = row_of("scaling", spec, spec.precision, what)
            rows.append(row | rates(spec.replace(batch_size=spec.batch_size * processes), json.loads(told.read_text())))
    return rows


def _measure(spec: Spec, seconds: float, told: Path, device: str) -> None:
    """What each process does; the first writes the steps a second of ROUNDS rounds."""
    with process_group("auto" if device == "cuda" else device) as name:
        target = pick_device(name)
        network = build_model(spec, CLASSES, target)
        model = optimize(network, spec, target).train()
        optimiser = build_optimizer(model, spec.replace(lr=1e-3))
        model = wrap_ddp(capture_cuda_graph(model, spec, spec.batch_size), target)
        clips, labels = synthetic_batch(spec, target)
        share = shard_batch(spec.batch_size * world_size(), world_size(), rank(), world_size())

        def step():
            with merge_bn_running_stats(network, share):
                with autocast(spec, target):
                    logits = model(clips)
                F.cross_entropy(logits.float(), labels).backward()
            optimiser.step()
            optimiser.zero_grad()

        warm_up(step, target, seconds)
        alone = time_interleaved({"": step}, target, 0.0)[""][-1]
        calls = all_reduce_max(max(1, round(seconds / ROUNDS * alone)))[
            0
        ]  # as many in each, or one would wait for ever

        def several():
            for _ in range(calls):
                step()

        measured = time_interleaved({"": several}, target, 0.0)[""]
        on_rank_zero(lambda: told.write_text(json.dumps([calls * rate for rate in measured])))
