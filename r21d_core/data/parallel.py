"""Maps a function over many videos, by one process a CPU."""

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

MIN_ITEMS = 16  # fewer are processed faster than worker processes start


def available_cpus() -> int:
    """The CPUs that this process may use: fewer than the machine's under a scheduler, `taskset` or torchrun."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(count // local_world_size(), 1)


def local_world_size() -> int:
    """The number of processes that torchrun started on this host, which share its CPUs and memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def parallel_map(
    function: Callable[[Any], Any], items: list, workers: int | None, description: str, on_death: str,
    progress: bool = True,
) -> Iterator:  # fmt: skip
    """Yield `function(item)` for each item, in order, computed by `workers` processes (0: this one; None: one a CPU).

    `description` labels the progress bar. Raises R21DError, with the text `on_death`, if a worker dies.
    """
    workers = count_workers(workers, len(items))
    if not workers:
        bar = _progress_bar(items, len(items), description, progress)
        for item in bar:
            bar.set_postfix_str(item.video)  # names the video, should its decoder crash this process
            yield function(item)
        return
    # Workers ignore Ctrl-C, which the terminal sends them too; otherwise each would print a traceback.
    executor = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("forkserver"),
        initializer=signal.signal,
        initargs=(signal.SIGINT, signal.SIG_IGN),
    )
    try:
        results = executor.map(function, items)
        yield from _progress_bar(results, len(items), f"{description}, {workers} processes", progress)
    except BrokenProcessPool:
        raise R21DError(
            f"a worker process died, out of memory or in a decoder that crashed; {on_death}. "
            "Run with --workers 0: the progress bar names the video, and one process needs less memory"
        ) from None
    finally:
        executor.shutdown(cancel_futures=True)


def count_workers(workers: int | None, items: int) -> int:
    """The number of processes that `parallel_map` starts."""
    if workers is None:
        return available_cpus() if items >= MIN_ITEMS else 0
    if workers < 0:
        raise R21DError(f"workers is {workers}, expected the number of decoding processes, or 0 for this one alone")
    return workers


def _progress_bar(items: Iterable, total: int, description: str, progress: bool) -> tqdm:
    disable: dict[str, Any] = {} if progress else {"disable": True}  # disable=False would override TQDM_DISABLE
    return tqdm(items, total=total, desc=description, unit="video", **disable)
