"""How much faster several GPUs of this host train than one."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from r21d_core.engine.bench import ROUNDS, made_up, rates, row_of, take_turns, warm_up
from r21d_core.engine.build import build, sgd
from r21d_core.engine.device import autocast, pick_device
from r21d_core.engine.distributed import joined, largest, of_first, rank, replicated, share_of, size, statistics_of_all
from r21d_core.engine.elastic import launch
from r21d_core.engine.forms import CLASSES
from r21d_core.engine.replay import replay
from r21d_core.study.spec import Spec


def bench_scaling(spec: Spec, device: torch.device, *, seconds: float = 5.0) -> list[dict]:
    """Rows of the training steps of one process and of one for each GPU, `spec.batch` clips a process.

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
            launch(partial(_measure, spec, seconds, told, device.type), processes, device.type)
            what = f"{processes} {'GPU' if gpu else 'process'}" + ("s" if gpu else "es") * (processes > 1)
            row = row_of("scaling", spec, spec.precision, what)
            rows.append(row | rates(spec.but(batch=spec.batch * processes), json.loads(told.read_text())))
    return rows


def _measure(spec: Spec, seconds: float, told: Path, device: str) -> None:
    """What each process does; the first writes the steps a second of ROUNDS rounds."""
    with joined("auto" if device == "cuda" else device) as name:
        target = pick_device(name)
        network = build(spec, CLASSES, target).train()
        replay(network, spec, spec.batch)
        model, optimiser = replicated(network, target), sgd(network, spec.but(rate=1e-3))
        clips, labels = made_up(spec, target)
        share = share_of(spec.batch * size(), size(), rank(), size())

        def step():
            with statistics_of_all(network, share):
                with autocast(spec, target):
                    logits = model(clips)
                F.cross_entropy(logits.float(), labels).backward()
            optimiser.step()
            optimiser.zero_grad()

        warm_up(step, target, seconds)
        alone = take_turns({"": step}, target, 0.0)[""][-1]
        calls = largest(max(1, round(seconds / ROUNDS * alone)))[0]  # as many in each, or one would wait for ever

        def several():
            for _ in range(calls):
                step()

        measured = take_turns({"": several}, target, 0.0)[""]
        of_first(lambda: told.write_text(json.dumps([calls * rate for rate in measured])))
