"""Several processes on one run, as torchrun starts them: what each of them does, and what they settle between them.

All walk through the same code with the same Spec. Each takes its parts of every step's batch and its share of an
evaluation; the first alone touches the run folder and speaks. With one process all of this does nothing.

The run is the one that a single process makes, up to rounding: the parts of a batch are the Spec's, batch norm sees one
part at a time, gradients and losses are summed over all, and the running statistics are put together as if one process
had seen the parts in their order (in the paper they are those of one GPU, which its batch norm never leaves). So a run
may go on with another number of processes than it began with.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stderr, redirect_stdout
from datetime import timedelta
from functools import cache
from inspect import signature
from itertools import count
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from r21d_core import R21DError
from r21d_core.data.parallel import available_cpus
from r21d_core.study.spec import Spec

# For a process that decodes while others wait; one that died is noticed at once. What only the first does, such as the
# flow of a large set, may take any time: see `of_first`.
COLLECTIVE_TIMEOUT = timedelta(hours=2)
# With it every start of the workers has a store of its own. Without it those started again meet the addresses that the
# ones before left in the store, and wait for the dead: https://github.com/pytorch/pytorch/issues/135712
RDZV_STORE_ENV = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"


def rank() -> int:
    """The number of this process, 0 being the first."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes are on the run."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_torchrun() -> bool:
    """Whether torchrun, or what does the same, started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


@contextmanager
def process_group(device: str) -> Iterator[str]:
    """Be one of the processes that were launched, for a `with`; gives the device of this one.

    All but the first are silent in it. Raises R21DError where this host has fewer GPUs than processes.
    """
    if not is_torchrun() or dist.is_initialized():
        yield device
        return
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0" and os.environ.get(RDZV_STORE_ENV) != "1":
        raise R21DError(
            f"torchrun --max-restarts: takes `export {RDZV_STORE_ENV}=1` on every host, or restarts may hang"
        )
    (store, rank, size), before = _rendezvous(), next(_meetings)
    store = dist.PrefixStore(f"r21d {before}", store)
    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=COLLECTIVE_TIMEOUT)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(available_cpus())
    with ExitStack() as stack:
        if rank:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        elif (restart := os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) != "0" and not before:
            most = os.environ["TORCHELASTIC_MAX_RESTARTS"]
            print(f"a worker died; all begin again at the last checkpoint (restart {restart} of {most})", flush=True)
        try:
            with raise_on_all_ranks():
                device = _local_device(device)
            yield device
        except R21DError:  # which all have; after any other error the rest may be waiting for this one, who has to die
            dist.destroy_process_group()
            raise
        dist.destroy_process_group()


_meetings = count()  # a process may join, leave and join again, and finds what it left in the store


@cache
def _rendezvous() -> tuple[dist.Store, int, int]:
    return next(rendezvous("env://", timeout=COLLECTIVE_TIMEOUT))


def _local_device(device: str) -> str:
    if device != "cuda":
        if device != "cpu":
            raise R21DError(
                f"device {device!r}: each of {world_size()} processes takes its own; leave it out, or say cpu"
            )
        return device
    local, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if local >= there:
        raise R21DError(f"{os.environ['LOCAL_WORLD_SIZE']} processes on a host with {there} GPUs: start {there} there")
    torch.cuda.set_device(local)
    return f"cuda:{local}"


# What they settle.


def all_reduce_max(*values: int) -> list[int]:
    """The largest of all processes' values, one by one."""
    if world_size() == 1:
        return list(values)
    numbers = torch.tensor(values, dtype=torch.int64)
    dist.all_reduce(numbers, dist.ReduceOp.MAX)
    return numbers.tolist()


def all_gather_object(value: Any) -> list:
    """The value of each process, in their order."""
    values = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(values, value)
    return values


def all_reduce_sum_(values: Tensor) -> Tensor:
    """`values` summed over all processes, in place."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


@contextmanager
def raise_on_all_ranks() -> Iterator[None]:
    """What every process does for itself: an R21DError of one is raised in all, so that none waits for it."""
    trouble = None
    try:
        yield
    except R21DError as error:
        if world_size() == 1:
            raise
        trouble = error
    if all_reduce_max(trouble is not None)[0]:
        raise R21DError(next(filter(None, all_gather_object(trouble and str(trouble))))) from trouble


def lockstep(items: Iterable) -> Iterator:
    """`items`, as many in every process; an R21DError on the way to one is raised in all."""
    items = iter(items)
    while True:
        with raise_on_all_ranks():
            item = next(items, None)
        if item is None:
            return
        yield item


def on_rank_zero(work: Callable[[], Any]) -> Any:
    """What `work`, done by the first process alone, gives, in all of them; so is an R21DError."""
    value = [None]
    with raise_on_all_ranks(), _wait_for_rank_zero():
        if rank() == 0:
            value = [work()]
    if world_size() > 1:
        dist.broadcast_object_list(value)
    return value[0]


@contextmanager
def _wait_for_rank_zero() -> Iterator[None]:
    """Others than the first leave when it has, however long that takes: a collective would lose its patience."""
    key = f"first {next(_firsts)}"
    try:
        yield
    finally:
        if world_size() > 1 and rank() == 0:
            _rendezvous()[0].set(key, "")
    while world_size() > 1 and rank() and not _rendezvous()[0].check([key]):  # whose end would be this one's too
        time.sleep(0.05)


_firsts = count()  # as all do the same, the number is the same in all


# What each of them does.


class BatchShard(NamedTuple):
    """A process's share of a step's batch, which is cut into parts as `torch.chunk` cuts it."""

    rows: slice  # clips of the batch
    micro_batches: list[slice]  # of these rows
    before: int  # parts of the batch that other processes have before its own
    after: int
    loss_scale: int  # of its losses: the number of processes, over which gradients are averaged

    @property
    def is_empty(self) -> bool:
        """Whether a short batch has no part left for it, and it goes through the first one for nothing."""
        return not self.loss_scale


def shard_batch(clips: int, accumulate: int, rank: int, size: int) -> BatchShard:
    """The share of process `rank` of `size` in a batch of so many clips, to be cut into `accumulate` parts."""
    length = math.ceil(clips / accumulate)
    parts = [slice(begin, min(begin + length, clips)) for begin in range(0, clips, length)]
    before = min(rank * (accumulate // size), len(parts))
    own = parts[before : before + accumulate // size]
    after = len(parts) - before - len(own)
    weight = size if own else 0
    own = own or parts[:1]
    first = own[0].start
    shifted = [slice(part.start - first, part.stop - first) for part in own]
    return BatchShard(slice(first, own[-1].stop), shifted, before, after, weight)


def check_divisible(spec: Spec, processes: int) -> None:
    """Raise R21DError, with what to do, if so many processes cannot share a step's parts evenly."""
    if processes < 1:
        raise R21DError(f"{processes} GPUs: expected 1 or more")
    if spec.grad_accum_steps % processes == 0 or not spec.epochs:
        return
    parts = math.lcm(spec.grad_accum_steps, processes)
    times, each = parts // spec.grad_accum_steps, spec.batch_size // spec.grad_accum_steps
    same = f"; `--set grad_accum_steps={parts}` keeps the batch, in parts of {spec.batch_size // parts} clips"
    raise R21DError(
        f"{spec.variant}, seed {spec.seed}: {processes} processes cannot share a step of {spec.grad_accum_steps} × {each} "
        f"clips evenly; `--set batch_size={spec.batch_size * times} --set grad_accum_steps={parts} --set lr={spec.lr * times:g}` "
        f"gives batch norm {each} clips a GPU as before and scales the rate by the batch, as the authors' scripts do"
        + (same if spec.batch_size % parts == 0 else "")
    )


def wrap_ddp(network: nn.Module, device: torch.device) -> nn.Module:
    """`network` with the first process's weights, whose gradients are the mean over all processes."""
    if world_size() == 1:
        return network
    for value in network.buffers():
        dist.broadcast(value, 0)
    # Buffers need no more broadcasting, as `statistics_of_all` keeps them equal. PyTorch 2.14 has a new name for that.
    known = signature(DistributedDataParallel.__init__).parameters
    alone = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    # Convolutions over one pixel are in both layouts at once, and their gradients in the other one.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    devices = [device] if device.type == "cuda" else None
    return DistributedDataParallel(network, devices, gradient_as_bucket_view=True, **{alone: False})


def maybe_no_sync(model: nn.Module, last: bool):
    """For a `with`: gradients are summed over the processes in the last backward pass of a step only."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) and not last else nullcontext()


@contextmanager
def merge_bn_running_stats(network: nn.Module, share: BatchShard) -> Iterator[None]:
    """For a `with` around a process's parts: the running statistics then are as if one had seen the parts in order.

    Each part makes them (1 − m)·before + m·its own, so that what a process adds to them is known, and what the later
    parts leave of that.
    """
    if world_size() == 1:
        yield
        return
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
    values = [value for norm in norms for value in (norm.running_mean, norm.running_var)]
    before = torch.cat(values)
    yield
    added = torch.zeros_like(before)
    if not share.is_empty:
        keep = 1 - norms[0].momentum
        added.add_(torch.cat(values), alpha=keep**share.after)
        if share.before:
            added.sub_(before, alpha=keep ** (len(share.micro_batches) + share.after))
    torch._foreach_copy_(values, list(all_reduce_sum_(added).split([len(value) for value in values])))
    others = share.before + share.after - share.is_empty
    torch._foreach_add_([norm.num_batches_tracked for norm in norms], others)
