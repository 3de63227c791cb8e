"""How fast a variant trains and classifies here, in the forms that people run it in, side by side.

A form is a network and the flags it runs under. All forms of a variant are in memory at once and take turns, so that
whatever slows the machine for a while slows them alike. Clips are made up, random and already on the device.
"""

from __future__ import annotations

import copy
import gc
import os
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from benchmarks.baselines import CLASSES, baselines, inference_step, training_step
from benchmarks.profiler import synchronize, time_breakdown
from r21d_core.engine.device import DTYPES, environment_info
from r21d_core.study.spec import Spec

ROUNDS = 5


def bench_train(spec: Spec, device: torch.device, *, seconds: float = 5.0, compile_peers: bool = True) -> list[dict]:
    """Rows of the training steps of `spec.batch_size` clips in each form, and of where their time goes.

    About `seconds` of measuring a form, and ROUNDS steps at least. A form that does not run here has a row that says
    why. Rates are clips a second: the median, the slowest and the fastest of the rounds. `tflops` are those of the
    convolutions and fc, three times the forward pass, and `tb_per_s` the activations that the convolutions must read
    and write for it, in TB/s, as if all else were free. `first_step_s` are the seconds from nothing to the end of the
    first step: building the network, checking its fast form, compiling, looking for kernels.
    """
    return _side_by_side("train", training_step, 3, spec, device, seconds, compile_peers)


def bench_infer(spec: Spec, device: torch.device, *, seconds: float = 5.0, compile_peers: bool = True) -> list[dict]:
    """As `bench_train`, of classifying."""
    return _side_by_side("infer", inference_step, 1, spec, device, seconds, compile_peers)


def _side_by_side(bench, make, passes, spec, device, seconds, compile_peers) -> list[dict]:
    # As in a fresh process: past some compilations of one class PyTorch would give up, and what was left in caches,
    # cycles and the pools of CUDA graphs would be let go in the middle of a measurement of memory.
    torch.compiler.reset()
    gc.collect()
    torch.accelerator.empty_cache()
    clips, target = synthetic_batch(spec, device)
    layouts = {True: clips, False: clips.contiguous()}
    rows, works, costs = {}, {}, {}
    bar = tqdm(baselines(spec, device, compile_peers), leave=False)
    for form in bar:
        bar.set_description(f"{bench} {spec.variant}, warming up: {form.what}")
        rows[form.what] = row_of(bench, spec, form.precision, form.what)
        try:
            before, began = _held(device), time.perf_counter()
            network, step = make(form, spec, device)
            work = partial(step, layouts[form.channels_last], target)
            work()
            synchronize(device)
            rows[form.what]["first_step_s"] = time.perf_counter() - began
            warm_up(work, device, seconds)
            rows[form.what] |= _peak(work, device, before)
            works[form.what], costs[form.what] = work, work_of(network, clips.shape[1:])
        except RuntimeError as error:  # out of memory, or nothing here to compile with
            rows[form.what]["failed"] = (str(error) or type(error).__name__).splitlines()[0]
    for what, calls in time_interleaved(works, device, seconds, f"{bench} {spec.variant}").items():
        macs, elements = costs[what]
        width = 4 if rows[what]["precision"] == "fp32" else 2
        rows[what] |= rates(spec, calls)
        rate = rows[what]["clips_per_second"] * passes
        rows[what] |= {"gmac": macs / 1e9, "tflops": 2 * rate * macs / 1e12, "tb_per_s": width * rate * elements / 1e12}
    return [*rows.values()] + [
        row_of(f"{bench} time", spec, rows[what]["precision"], what) | dict(time_breakdown(work, device))
        for what, work in works.items()
    ]


def row_of(bench: str, spec: Spec, precision: str, what: str) -> dict:
    """What every row begins with."""
    return {
        "bench": bench,
        "variant": spec.variant,
        "depth": spec.depth,
        "frames": spec.frames,
        "batch": spec.batch_size,
        "what": what,
        "precision": precision,
    }


def rates(spec: Spec, calls: list[float]) -> dict[str, float]:
    """Clips a second of rounds of `calls` a second: the median, the slowest, the fastest."""
    rounds = [spec.batch_size * number for number in calls]
    return {"clips_per_second": statistics.median(rounds), "slowest": min(rounds), "fastest": max(rounds)}


def synthetic_batch(spec: Spec, device: torch.device) -> tuple[Tensor, Tensor]:
    """Random clips (batch, 3, T, crop, crop), channels last, and labels (batch,)."""
    generator = torch.Generator(device).manual_seed(0)
    shape = (spec.batch_size, 3, spec.frames, spec.crop, spec.crop)
    clips = torch.randn(shape, generator=generator, device=device)
    target = torch.randint(CLASSES, (spec.batch_size,), generator=generator, device=device)
    return clips.contiguous(memory_format=torch.channels_last_3d), target


def warm_up(work: Callable[[], object], device: torch.device, seconds: float) -> None:
    """Call `work` once, then twice more or until `seconds` are over: it looks for kernels, compiles, takes memory."""
    work()
    synchronize(device)
    began = time.perf_counter()
    for _ in range(2):
        work()
        synchronize(device)
        if time.perf_counter() - began > seconds:
            return


def time_interleaved(
    works: Mapping[str, Callable[[], object]], device: torch.device, seconds: float, title: str = ""
) -> dict[str, list[float]]:
    """Calls a second of each work in each of ROUNDS rounds, in which all have their turn; warmed up beforehand.

    About `seconds` for each in all, and a call a round at least.
    """
    calls = {name: max(1, round(seconds / ROUNDS * _rate_of(work, 1, device))) for name, work in works.items()}
    measured: dict[str, list[float]] = {name: [] for name in works}
    for _ in tqdm(range(ROUNDS), title, unit="round", leave=False):
        for name, work in works.items():
            measured[name].append(_rate_of(work, calls[name], device))
    return measured


def _rate_of(work: Callable[[], object], calls: int, device: torch.device) -> float:
    synchronize(device)
    began = time.perf_counter()
    for _ in range(calls):
        work()
    synchronize(device)
    return calls / (time.perf_counter() - began)


def _held(device: torch.device) -> int:
    """Bytes that are in use, and those that CUDA graphs keep to themselves."""
    return torch.cuda.memory_allocated(device) + _kept_by_graphs() if device.type == "cuda" else 0


def _kept_by_graphs() -> int:
    own = [one for one in torch.cuda.memory_snapshot() if tuple(one["segment_pool_id"]) != (0, 0)]
    return sum(one["total_size"] - one["allocated_size"] for one in own)


def _peak(work: Callable[[], object], device: torch.device, before: int) -> dict[str, float]:
    """The most memory a step has in use, the form's weights in it and the other forms not."""
    if device.type != "cuda":
        return {}
    torch.cuda.reset_peak_memory_stats(device)
    work()
    return {"peak_gib": (torch.cuda.max_memory_allocated(device) + _kept_by_graphs() - before) / 2**30}


def work_of(network: nn.Module, shape: tuple[int, ...]) -> tuple[int, int]:
    """Multiply-adds of one clip of `shape` in convolutions and fc, and the elements that these read and write."""
    counted = []

    def count(module, inputs, output):
        counted.append((output.numel() * module.weight[0].numel(), inputs[0].numel() + output.numel()))

    counting = copy.deepcopy(network).to("meta").eval()  # only shapes
    for module in counting.modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            module.register_forward_hook(count)
    counting(torch.empty(1, *shape, device="meta"))
    macs, elements = zip(*counted, strict=True)
    return sum(macs), sum(elements)


def machine(device: torch.device, seconds: float = 2.0) -> dict:
    """The device, the versions, and its two ceilings, measured: matrix products and copies.

    `matrix_tflops` has TFLOP/s of square products of random matrices for each precision, on a CPU those of a large
    convolution if they are more; `copy_tb_per_s` the bytes read plus written of a large copy, in TB/s.
    """
    gpu = device.type != "cpu"
    side, count = (8192, 2**30) if gpu else (2048, 2**26)
    ceilings = {} if gpu else {"fp32": _most_of_a_cpu(side, device, seconds) / 1e12}
    for name in ("bf16", "fp16") if gpu else ():
        one, other = (torch.randn(side, side, device=device, dtype=DTYPES[name]) for _ in range(2))
        product = partial(torch.mm, one, other, out=torch.empty_like(one))
        ceilings[name] = 2 * side**3 * _median_rate(product, device, seconds) / 1e12
    source = torch.randn(count, device=device)
    copying = partial(torch.empty_like(source).copy_, source)
    return environment_info(device) | {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "matrix_tflops": ceilings,
        "copy_tb_per_s": 2 * source.nbytes * _median_rate(copying, device, seconds) / 1e12,
    }


def _most_of_a_cpu(side: int, device: torch.device, seconds: float) -> float:
    """FLOP/s of a square product or of a convolution like those of conv4_x, in the fastest round of either.

    They come from different libraries, of which now one is faster and now the other, and a CPU's clock wanders.
    """
    one, other = (torch.randn(side, side, device=device) for _ in range(2))
    clips, weight = (
        torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last_3d)
        for shape in ((2, 256, 2, 14, 14), (256, 256, 3, 3, 3))
    )
    flop = {"product": 2 * side**3, "convolution": 2 * clips.numel() * weight[0].numel()}
    works = {
        "product": partial(torch.mm, one, other, out=torch.empty_like(one)),
        "convolution": partial(F.conv3d, clips, weight, padding=1),
    }
    for work in works.values():
        warm_up(work, device, seconds)
    return max(flop[what] * max(calls) for what, calls in time_interleaved(works, device, seconds).items())


def _median_rate(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    warm_up(work, device, seconds)
    return statistics.median(time_interleaved({"": work}, device, seconds)[""])
