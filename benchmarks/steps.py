"""Training and inference throughput of a variant's implementations, measured side by side.

All implementations of a variant are in memory at once and are timed in turns, so that a disturbance of the machine
affects all of them. Clips are random and already on the device.
"""

from __future__ import annotations

import copy
import gc
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.benchmark import Measurement, Timer
from tqdm.auto import tqdm

from benchmarks.baselines import CLASSES, baselines, inference_step, training_step
from benchmarks.profiler import synchronize, time_breakdown
from r21d_core.data.parallel import available_cpus
from r21d_core.engine.device import DTYPES, environment_info
from r21d_core.study.spec import Spec

ROUNDS = 5


def bench_train(spec: Spec, device: torch.device, seconds: float, compiled: bool = True) -> list[dict]:
    """Return a row of training throughput for each implementation, then a row of its time by kind of kernel.

    Each is measured for about `seconds`, at least ROUNDS steps of `spec.batch_size` clips. One that fails has a row
    with the reason. Throughput is in clips per second: the median, the slowest and the fastest round. `tflops` counts
    the convolutions and fc, three times the forward pass. `tb_per_s` counts the activations that the convolutions read
    and write, in TB/s. `first_step_s` is the time in seconds to build the network, check its fast form, compile, select
    kernels and finish the first step.
    """
    return _bench_baselines("train", training_step, 3, spec, device, seconds, compiled)


def bench_infer(spec: Spec, device: torch.device, seconds: float, compiled: bool = True) -> list[dict]:
    """Return rows like those of `bench_train` for inference."""
    return _bench_baselines("infer", inference_step, 1, spec, device, seconds, compiled)


def _bench_baselines(bench, make, passes, spec, device, seconds, compiled) -> list[dict]:
    # Start as in a new process: PyTorch limits the recompilations of a class, and memory that earlier benchmarks left
    # in caches, reference cycles and CUDA graph pools would be freed while memory is measured.
    torch.compiler.reset()
    gc.collect()
    torch.accelerator.empty_cache()
    clips, target = synthetic_batch(spec, device)
    layouts = {True: clips, False: clips.contiguous()}
    rows, steps, costs = {}, {}, {}
    bar = tqdm(baselines(spec, device, compiled), leave=False)
    for baseline in bar:
        bar.set_description(f"{bench} {spec.variant}, warming up: {baseline.name}")
        rows[baseline.name] = make_row(bench, spec, baseline.precision, baseline.name)
        try:
            before, began = _used_bytes(device), time.perf_counter()
            network, step_on = make(baseline, spec, device)
            step = partial(step_on, layouts[baseline.channels_last], target)
            step()
            synchronize(device)
            rows[baseline.name]["first_step_s"] = time.perf_counter() - began
            warm_up(step, device, seconds)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
                step()
                rows[baseline.name]["peak_gib"] = (_used_bytes(device, peak=True) - before) / 2**30
            steps[baseline.name], costs[baseline.name] = step, count_work(network, clips.shape[1:])
        except RuntimeError as error:  # out of memory, or nothing here to compile with
            rows[baseline.name]["failed"] = (str(error) or type(error).__name__).splitlines()[0]
    for what, calls in time_interleaved(steps, device, seconds, f"{bench} {spec.variant}").items():
        macs, elements = costs[what]
        width = 4 if rows[what]["precision"] == "fp32" else 2
        rows[what] |= rates(spec, calls)
        rate = rows[what]["clips_per_second"] * passes
        rows[what] |= {"gmac": macs / 1e9, "tflops": 2 * rate * macs / 1e12, "tb_per_s": width * rate * elements / 1e12}
    return [*rows.values()] + [
        make_row(f"{bench} time", spec, rows[what]["precision"], what) | dict(time_breakdown(step, device))
        for what, step in steps.items()
    ]


def make_row(bench: str, spec: Spec, precision: str, what: str) -> dict:
    """Return the fields that every row begins with."""
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
    """Return the median, slowest and fastest clips per second of rounds with `calls` steps per second."""
    rounds = [spec.batch_size * number for number in calls]
    return {"clips_per_second": statistics.median(rounds), "slowest": min(rounds), "fastest": max(rounds)}


def synthetic_batch(spec: Spec, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return random clips (N, 3, T, crop, crop) in channels last, and labels (N,)."""
    generator = torch.Generator(device).manual_seed(0)
    shape = (spec.batch_size, 3, spec.frames, spec.crop, spec.crop)
    clips = torch.randn(shape, generator=generator, device=device)
    target = torch.randint(CLASSES, (spec.batch_size,), generator=generator, device=device)
    return clips.contiguous(memory_format=torch.channels_last_3d), target


def warm_up(step: Callable[[], object], device: torch.device, seconds: float) -> None:
    """Call `step` once, then at most twice more within `seconds`, to compile, select kernels and allocate memory."""
    step()
    synchronize(device)
    began = time.perf_counter()
    for _ in range(2):
        step()
        synchronize(device)
        if time.perf_counter() - began > seconds:
            return


def time_interleaved(
    steps: Mapping[str, Callable[[], object]], device: torch.device, seconds: float, title: str = "", at_least: int = 1
) -> dict[str, list[float]]:
    """Return the calls per second of each step in ROUNDS rounds, each of which times all steps in turn.

    Each step is timed for about `seconds` in all, but in a round for no fewer calls than `at_least`. Warm the steps up
    before.
    """
    calls = {}
    for name, step in steps.items():
        calls[name] = max(at_least, round(seconds / ROUNDS * _calls_per_second(step, 1, device)))
    rounds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in tqdm(range(ROUNDS), title, unit="round", leave=False):
        for name, step in steps.items():
            rounds[name].append(_calls_per_second(step, calls[name], device))
    return rounds


def _calls_per_second(step: Callable[[], object], calls: int, device: torch.device) -> float:
    synchronize(device)
    began = time.perf_counter()
    for _ in range(calls):
        step()
    synchronize(device)
    return calls / (time.perf_counter() - began)


def _used_bytes(device: torch.device, peak: bool = False) -> int:
    """Return the bytes allocated on a GPU, now or at most, with those that the pools of CUDA graphs hold in reserve."""
    if device.type != "cuda":
        return 0
    pools = [segment for segment in torch.cuda.memory_snapshot() if tuple(segment["segment_pool_id"]) != (0, 0)]
    reserve = sum(segment["total_size"] - segment["allocated_size"] for segment in pools)
    return reserve + (torch.cuda.max_memory_allocated if peak else torch.cuda.memory_allocated)(device)


def count_work(network: nn.Module, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the multiply-adds of one clip of `shape` in convolutions and fc, and the elements they read and write."""
    counts = []

    def count(module, inputs, output):
        counts.append((output.numel() * module.weight[0].numel(), inputs[0].numel() + output.numel()))

    meta_network = copy.deepcopy(network).to("meta").eval()  # only shapes
    for module in meta_network.modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            module.register_forward_hook(count)
    meta_network(torch.empty(1, *shape, device="meta"))
    macs, elements = zip(*counts, strict=True)
    return sum(macs), sum(elements)


def machine(device: torch.device, seconds: float) -> dict:
    """Return the device, the versions and the peak rates of matrix products and copies, each measured for `seconds`.

    `matrix_tflops` is the TFLOP/s of square products of random matrices for each precision. On a CPU, whose clock rate
    varies, it is that of the fastest round, of a convolution as in conv4_x if that is faster: they come from different
    libraries. `copy_tb_per_s` is the bytes read and written by a large copy, in TB/s.
    """
    gpu = device.type != "cpu"
    side, count = (8192, 2**30) if gpu else (2048, 2**26)
    tflops = {}
    for name in ("bf16", "fp16") if gpu else ("fp32",):
        a, b = (torch.randn(side, side, device=device, dtype=DTYPES.get(name)) for _ in range(2))
        product = _time(partial(torch.mm, a, b, out=torch.empty_like(a)), seconds)
        tflops[name] = 2 * side**3 / (product.median if gpu else min(product.times)) / 1e12
    if not gpu:
        clips, weight = (
            torch.randn(shape).contiguous(memory_format=torch.channels_last_3d)
            for shape in ((2, 256, 2, 14, 14), (256, 256, 3, 3, 3))
        )
        fastest = min(_time(partial(F.conv3d, clips, weight, padding=1), seconds).times)
        tflops["fp32"] = max(tflops["fp32"], 2 * clips.numel() * weight[0].numel() / fastest / 1e12)
    source = torch.randn(count, device=device)
    copy_seconds = _time(partial(torch.empty_like(source).copy_, source), seconds).median
    return environment_info(device) | {
        "cores": available_cpus(),
        "matrix_tflops": tflops,
        "copy_tb_per_s": 2 * source.nbytes / copy_seconds / 1e12,
    }


def _time(step: Callable[[], object], seconds: float) -> Measurement:
    timer = Timer("step()", globals={"step": step}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=seconds)
