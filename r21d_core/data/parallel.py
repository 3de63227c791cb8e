"""The same work on many videos, by as many processes as there are cores."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from tqdm.auto import tqdm

from r21d_core import R21DError

FEW = 16  # videos that are sooner looked at than processes are started


def available_cpus() -> int:
    """The cores this process may use, which are fewer than the machine's under a scheduler, `taskset` or torchrun."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(found // local_world_size(), 1)


def local_world_size() -> int:
    """How many processes share this host's cores and memory: as many as torchrun started here."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def parallel_map(
    work: Callable[[Any], Any], items: list, workers: int | None, doing: str, left: str, progress: bool = True
) -> Iterator:
    """What `work` gives of each item, in their order, by as many processes; 0 is this one, None one a core.

    `doing` is what the bar says. Raises R21DError if a process dies, with what is `left` then.
    """
    workers = process_count(workers, len(items))
    if not workers:
        bar = _bar(items, len(items), doing, progress)
        for item in bar:
            # Should its decoder take this process down, the bar names it.
            bar.set_postfix_str(item.video)
            yield work(item)
        return
    # The terminal sends Ctrl-C to the workers too: left to themselves they would each print a traceback.
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("forkserver"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        yield from _bar(pool.map(work, items), len(items), f"{doing}, {workers} processes", progress)
    except BrokenProcessPool:
        raise R21DError(
            f"a worker died, out of memory or of a video that its decoder does not survive; {left}. "
            "Run with --workers 0: the bar names the video it ends at, and one process needs less memory"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def process_count(workers: int | None, items: int) -> int:
    """How many processes `parallel_map` starts."""
    if workers is None:
        return available_cpus() if items >= FEW else 0
    if workers < 0:
        raise R21DError(f"workers is {workers}, expected how many processes decode, or 0 for none but this one")
    return workers


def _bar(items: Iterable, total: int, what: str, progress: bool) -> tqdm:
    # Not disable=False, which would overrule TQDM_DISABLE.
    return tqdm(items, total=total, desc=what, unit="video", **({} if progress else {"disable": True}))
