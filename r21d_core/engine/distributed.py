"""Several processes that share a run, as torchrun starts them; with one process the functions here do nothing.

Each takes its shard of every batch and of an evaluation; rank zero alone writes and prints. A step is that of one
process up to rounding: batch norm sees one micro-batch at a time, gradients and losses are summed, and the running
statistics are merged as if one process had seen the micro-batches in order (the authors' are those of one GPU).
"""

from __future__ import annotations

import math
import os
import platform
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import timedelta
from functools import cache
from inspect import signature
from itertools import count
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from r21d_core import R21DError, count_noun
from r21d_core.data import parallel
from r21d_core.data.parallel import available_cpus
from r21d_core.models.neighbors import Neighbor
from r21d_core.study.spec import Spec
from r21d_core.study.variants import is_imported

# For a process that decodes while others wait; a death is noticed at once. `on_rank_zero` may take longer: rank zero
# then gives a sign of life every BEAT_SECONDS, and without one for WORKER_TIMEOUT seconds the others exit.
COLLECTIVE_TIMEOUT = timedelta(hours=2)
BEAT_SECONDS, BEATS = 5, "beats"  # the latter is the key in the store
# Without it restarted workers find the dead ones' addresses in the store: https://github.com/pytorch/pytorch/issues/135712
RDZV_STORE_ENV = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
TORCHRUN_ENV = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # beside WORLD_SIZE


def rank() -> int:
    """Return this process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes that share the run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_torchrun() -> bool:
    """Return whether torchrun, or the equivalent, started this process as one of several.

    Raises R21DError if WORLD_SIZE says so and the variables that torchrun sets beside it are missing.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if size == "1":
        return False
    if missing := [name for name in TORCHRUN_ENV if name not in os.environ]:
        raise R21DError(
            f"WORLD_SIZE={size} means that this process is one of several, but torchrun, which sets it, sets "
            f"{', '.join(missing)} too; start the command by torchrun, or `unset WORLD_SIZE`"
        )
    return int(size) > 1


@contextmanager
def process_group(device: str) -> Iterator[str]:
    """Join the launched processes in this context, where only rank zero prints, and yield this process's device."""
    if not is_torchrun() or dist.is_initialized():
        yield device
        return
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0" and os.environ.get(RDZV_STORE_ENV) != "1":
        raise R21DError(
            f"torchrun --max-restarts: needs `export {RDZV_STORE_ENV}=1` on every host, or restarts may hang"
        )
    (store, rank, size), group = _rendezvous(), next(_groups)
    store = dist.PrefixStore(f"r21d {group}", store)
    backend = "gloo" if device == "cpu" or not torch.cuda.is_available() else "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=COLLECTIVE_TIMEOUT)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(available_cpus())
    with open(os.devnull, "w") as devnull, ExitStack() as stack:
        if rank:
            stack.enter_context(redirect_stdout(devnull))
            stack.enter_context(redirect_stderr(devnull))
        else:
            stack.enter_context(parallel.call_every(BEAT_SECONDS, _beat))
        if not rank and (restart := os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) != "0" and not group:
            limit = os.environ["TORCHELASTIC_MAX_RESTARTS"]
            print(f"a worker died; all resume at the last checkpoint (restart {restart} of {limit})", flush=True)
        try:
            with raise_on_all_ranks():  # "auto" is cpu on a host whose driver fails, while the others have GPUs
                device = _local_device("cuda" if "cuda" in all_gather_object(device) else device)
            yield device
        except R21DError:  # raised on all ranks; after any other error the rest may wait for this one, which must exit
            dist.destroy_process_group()
            raise
        dist.destroy_process_group()


_groups = count()  # a process may join several groups in turn; each has its own keys in the store


@cache
def _rendezvous() -> tuple[dist.Store, int, int]:
    try:
        found = next(rendezvous("env://", timeout=timedelta(seconds=parallel.WORKER_TIMEOUT)))
    except dist.DistError as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise R21DError(
            f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}: the processes did not meet at {place} within "
            f"{parallel.WORKER_TIMEOUT} seconds ({str(error).splitlines()[0]}); start the same command on every host, "
            "or, if this process is alone, `unset WORLD_SIZE`"
        ) from error
    found[0].set_timeout(COLLECTIVE_TIMEOUT)
    return found


def _local_device(device: str) -> str:
    if device == "cpu":
        return device
    if device != "cuda":
        raise R21DError(f"device {device!r}: each of {world_size()} processes has its own; omit --device or use cpu")
    local, n_gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local >= n_gpus:
        where = f"{os.environ['LOCAL_WORLD_SIZE']} processes on {platform.node()}, which has "
        remedy = f"start {n_gpus} there" if n_gpus else "repair its driver, leave that host out, or use --device cpu"
        raise R21DError(f"{where}{count_noun(n_gpus or 'no', 'usable GPU')}: {remedy}")
    torch.cuda.set_device(local)
    return f"cuda:{local}"


def all_reduce_max(*values: int) -> list[int]:
    """Return the maximum of each value over all processes."""
    numbers = torch.tensor(values, dtype=torch.int64)
    if world_size() > 1:
        dist.all_reduce(numbers, dist.ReduceOp.MAX)
    return numbers.tolist()


def all_gather_object(value: Any) -> list:
    """Return the values of all processes, by rank."""
    values = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(values, value)
    return values


def all_reduce_sum_(values: Tensor) -> Tensor:
    """Sum `values` over all processes, in place."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


@contextmanager
def raise_on_all_ranks() -> Iterator[None]:
    """Raise an R21DError of one process in all of them, so that none waits for it."""
    failure = None
    try:
        yield
    except R21DError as error:
        if world_size() == 1:
            raise
        failure = error
    if all_reduce_max(failure is not None)[0]:
        raise R21DError(next(filter(None, all_gather_object(failure and str(failure))))) from failure


def lockstep(items: Iterable) -> Iterator:
    """Yield from `items`, of which all processes have equally many; an R21DError of one is raised in all."""
    items = iter(items)
    while True:
        with raise_on_all_ranks():
            item = next(items, None)
        if item is None:
            return
        yield item


def on_rank_zero(work: Callable[[], Any]) -> Any:
    """Call `work` on rank zero; return its value, or raise its R21DError, on all ranks."""
    value, key = [None], f"first {next(_waits)}"
    with raise_on_all_ranks():
        try:
            if rank() == 0:
                value = [work()]
        finally:
            if world_size() > 1 and rank() == 0:
                _rendezvous()[0].set(key, "")
        if world_size() > 1 and rank():
            _wait_for_rank_zero(key)
    if world_size() > 1:
        dist.broadcast_object_list(value)
    return value[0]


_waits = count()  # equal on all ranks


def _beat() -> None:
    with suppress(dist.DistError):  # the store's process has ended
        _rendezvous()[0].add(BEATS, 1)


def _wait_for_rank_zero(key: str) -> None:
    """Return when `key` is in the store, which raises if rank zero has died; exit if rank zero is stopped."""
    store, beats, silent, poll_seconds = _rendezvous()[0], -1, 0.0, 0.05
    while not store.check([key]):
        if (beats_now := store.add(BEATS, 0)) != beats:
            beats, silent = beats_now, 0.0
        elif silent > parallel.WORKER_TIMEOUT:
            sys.exit(f"rank 0 did not respond for {parallel.WORKER_TIMEOUT} seconds; the same command resumes")
        time.sleep(poll_seconds)
        silent += poll_seconds  # not by the clock, which runs on while the whole job is suspended


class BatchShard(NamedTuple):
    """A process's shard of a batch, which is split into micro-batches as by `torch.chunk`."""

    rows: slice  # its clips of the batch
    micro_batches: list[slice]  # of these rows
    before: int  # micro-batches of lower ranks
    after: int  # micro-batches of higher ranks
    loss_scale: int  # of its losses: the number of processes, over which DDP averages gradients
    batch_size: int  # clips of all shards

    @property
    def is_empty(self) -> bool:
        """Whether a short batch has no micro-batch for it; it then repeats the first one with a loss scale of zero."""
        return not self.loss_scale


def shard_batch(batch_size: int, grad_accum_steps: int, rank: int, world_size: int) -> BatchShard:
    """Return the shard of process `rank` of a batch that is split into `grad_accum_steps` micro-batches."""
    length, share = math.ceil(batch_size / grad_accum_steps), grad_accum_steps // world_size
    begins = range(0, batch_size, length)
    before = min(rank * share, len(begins))
    own = begins[before : before + share]
    after, loss_scale = len(begins) - before - len(own), world_size if own else 0
    own = own or begins[:1]
    rows = slice(own[0], min(own[-1] + length, batch_size))
    n_rows = rows.stop - rows.start
    micro_batches = [slice(begin, min(begin + length, n_rows)) for begin in range(0, n_rows, length)]
    return BatchShard(rows, micro_batches, before, after, loss_scale, batch_size)


def check_count(processes: int) -> None:
    """Raise R21DError if there would be no process."""
    if processes < 1:
        raise R21DError(f"{processes} GPUs: expected 1 or more")


def check_divisible(spec: Spec, processes: int) -> None:
    """Raise R21DError, with the settings to use instead, if `processes` cannot share a batch evenly."""
    check_count(processes)
    if spec.grad_accum_steps % processes == 0 or not spec.epochs:
        return
    accum = math.lcm(spec.grad_accum_steps, processes)
    factor, size = accum // spec.grad_accum_steps, spec.batch_size // spec.grad_accum_steps
    batch_size, lr, clips = spec.batch_size * factor, spec.lr * factor, count_noun(size, "clip")
    message = (
        f"{spec.variant}, seed {spec.seed}: {processes} processes cannot share a batch of {spec.grad_accum_steps} × "
        f"{clips} evenly; `--set batch_size={batch_size} --set grad_accum_steps={accum} --set lr={lr:g}` keeps {clips} "
        "a GPU for batch norm and scales the learning rate with the batch, as the authors' scripts do"
    )
    if spec.batch_size % accum == 0:
        clips = count_noun(spec.batch_size // accum, "clip")
        message += f"; `--set grad_accum_steps={accum}` keeps the batch, in micro-batches of {clips}"
    raise R21DError(message)


def wrap_ddp(model: nn.Module, device: torch.device) -> nn.Module:
    """Return `model` with rank zero's weights and gradients averaged over all processes.

    Raises R21DError for batch norm with momentum=None, whose running statistics `count_as_one_process` cannot merge.
    """
    if world_size() == 1:
        return model
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None and module.momentum is None:
            raise R21DError(f"{name}: batch norm with momentum=None; set a number, or train in one process")
    for value in model.buffers():  # PyTorch before 2.14 does not, with the option below
        dist.broadcast(value, 0)
    # `count_as_one_process` keeps the buffers equal. PyTorch 2.14 renamed the option that broadcasts them, and warns if
    # it gets both names.
    known = signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: Any = {name: False}
    # The weights of 1×1×1 convolutions have both layouts at once, and their gradients may have the other one.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    devices = [device] if device.type == "cuda" else None
    # Only one's own code may leave parameters out of a step; where it does not, PyTorch says once that this costs time.
    options["find_unused_parameters"] = isinstance(model, Neighbor) and is_imported(model.variant)
    return DistributedDataParallel(model, devices, gradient_as_bucket_view=True, **options)


@contextmanager
def count_as_one_process(model: nn.Module, shard: BatchShard) -> Iterator[None]:
    """Leave the running statistics of one process that takes all micro-batches in order, and number its passes.

    A micro-batch changes the statistics to (1 − m)·before + m·own, so later ones scale this process's contribution by
    (1 − m)^n. The numbers of a Neighbor's passes seed its dropout.
    """
    norms: list[Any] = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    norms = [norm for norm in norms if norm.training and norm.running_mean is not None]  # the others change nothing
    by_momentum = defaultdict(list)
    for norm in norms:
        by_momentum[norm.momentum] += [norm.running_mean, norm.running_var]
    n_remote = shard.before + shard.after - shard.is_empty
    is_shared = norms and shard.loss_scale != 1
    before = [torch.cat(values) for values in by_momentum.values()] if is_shared else []
    if isinstance(model, Neighbor):
        model.passes += shard.before
    yield
    if isinstance(model, Neighbor):
        model.passes += n_remote - shard.before
    if not is_shared:
        return
    for (momentum, values), old in zip(by_momentum.items(), before, strict=True):
        change = torch.zeros_like(old)
        if not shard.is_empty:
            keep = 1 - momentum
            change.add_(torch.cat(values), alpha=keep**shard.after)
            if shard.before:
                change.sub_(old, alpha=keep ** (len(shard.micro_batches) + shard.after))
        torch._foreach_copy_(values, list(all_reduce_sum_(change).split([len(value) for value in values])))
    torch._foreach_add_([norm.num_batches_tracked for norm in norms], n_remote)
