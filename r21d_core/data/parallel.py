"""Maps a function over many videos, by one process a CPU."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from tqdm.auto import tqdm

from r21d_core import R21DError, count_noun

# Seconds that a decoding worker may take for a video or a batch, and that a training worker may be stopped.
WORKER_TIMEOUT = 600
AHEAD = 2  # items that each worker computes ahead of the one yielded
# Where control groups are, and the limit and the use of memory there, and the part of the use that is given back.
CGROUP_V1 = "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
CGROUP_V2 = "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
MIN_ITEMS = 16  # fewer are processed faster than worker processes start


def available_cpus() -> int:
    """The CPUs that this process may use: fewer than the machine's under a scheduler, `taskset` or torchrun."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(count // local_world_size(), 1)


def available_memory(root: Path = Path("/")) -> int:
    """The bytes that this process may still take of the machine's memory, or of the part of it that a scheduler or a
    container gives its control group: beyond it Linux kills the process. `root` is for tests.
    """
    free = psutil.virtual_memory().available
    with suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            mount, *names = CGROUP_V1 if controllers else CGROUP_V2
            place = Path(name.lstrip("/"))
            for group in (place, *place.parents):  # each limits those in it; a container may see the last one only
                with suppress(OSError, ValueError, KeyError):  # not there, or "max"
                    limit, used, stat = (
                        (root / mount / group / file).read_text() for file in (*names[:2], "memory.stat")
                    )
                    reclaimable = int(dict(row.split() for row in stat.splitlines())[names[2]])  # files read lately
                    free = min(free, max(int(limit) - int(used) + reclaimable, 0))
    return free


def local_world_size() -> int:
    """The number of processes that torchrun started on this host, which share its CPUs and memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def is_first_process() -> bool:
    """Whether this process prints: the only one, or rank 0 of those of torchrun."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def parallel_map(
    function: Callable[[Any], Any], items: Sequence, workers: int | None, description: str, on_death: str
) -> Iterator:
    """As `map_in_processes`, with a progress bar; `workers` 0 is this process, None is one process a CPU."""
    workers = count_workers(workers, len(items))
    if not workers:
        for item in (bar := tqdm(items, description, unit="video")):
            bar.set_postfix_str(item.video)  # names the video, should its decoder crash this process
            yield function(item)
        return
    on_death += "; with --workers 0 the progress bar names the video"
    results = map_in_processes(function, items, workers, on_death)
    yield from tqdm(results, f"{description}, {count_noun(workers, 'process', 'processes')}", len(items), unit="video")


def map_in_processes(
    function: Callable[[Any], Any], items: Iterable, workers: int, on_death: str,
    setup: Callable[[], object] | None = None,
) -> Generator[Any, None, None]:  # fmt: skip
    """Yield `function(item)` for each item, in order, in new processes or, with 0, in this one.
    `AHEAD * workers` items after the one yielded are computed ahead. Each process calls `setup` before them. Raises
    R21DError, with the text `on_death`, if a worker dies or if no result comes within WORKER_TIMEOUT.
    """
    if not workers:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("forkserver")
    # Workers fork from a server that imports the function's module when the first one starts, which takes seconds.
    context.set_forkserver_preload([getattr(function, "func", function).__module__])
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=initialize_worker, initargs=(None, setup))
    pending: deque[Future] = deque()
    try:
        for item in items:
            pending.append(executor.submit(function, item))
            if len(pending) > AHEAD * workers:
                yield pending.popleft().result(WORKER_TIMEOUT)
        while pending:
            yield pending.popleft().result(WORKER_TIMEOUT)
    except (BrokenProcessPool, TimeoutError) as error:
        what = "a worker process died, out of memory or in a decoder that crashed"
        if isinstance(error, TimeoutError):
            what = f"no result for {WORKER_TIMEOUT} seconds: a worker process was stopped, or a decoder hangs"
        _kill(executor)
        advice = "Run with --workers 0, which needs less memory and has no time limit"
        raise R21DError(f"{what}; {on_death}. {advice}") from None
    finally:
        # It waits for what is being computed, such as a file that is half encoded, but not forever.
        late = threading.Timer(WORKER_TIMEOUT, _kill, [executor])
        late.daemon = True
        late.start()
        executor.shutdown(cancel_futures=True)
        late.cancel()


def _kill(executor: ProcessPoolExecutor) -> None:
    for process in list((executor._processes or {}).values()):
        process.kill()  # a stopped process heeds no other signal


def initialize_worker(end: Callable[[], object] | None = None, setup: Callable[[], object] | None = None) -> None:
    """Let this process ignore Ctrl-C, which the terminal sends to workers too, and end when the main process ends.
    Then call `setup`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if (parent := multiprocessing.parent_process()) is not None:
        # Neither PR_SET_PDEATHSIG nor getppid serves: a worker's parent is the fork server, which workers keep alive.
        threading.Thread(target=lambda: (parent.join(), end() if end else os._exit(1)), daemon=True).start()
    if setup:
        setup()


@contextmanager
def call_every(seconds: float, function: Callable[[], object]) -> Iterator[None]:
    """Call `function` every so many seconds, in a thread, while in this context."""
    ended = threading.Event()

    def loop() -> None:
        while not ended.wait(seconds):
            function()

    threading.Thread(target=loop, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def kill_stopped(pids: Iterable[int], since: dict[int, float]) -> None:
    """Kill the processes that are stopped, as by SIGSTOP, if one of them has been so for WORKER_TIMEOUT seconds.

    `since` holds the times from which they are, for the next call. Others may be computing for hours, and are let be.
    """
    now, stopped = time.monotonic(), {}
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_STOPPED:
                stopped[pid] = process
    for pid in since.keys() - stopped.keys():
        del since[pid]
    if any(now - since.setdefault(pid, now) > WORKER_TIMEOUT for pid in stopped):
        print(f"a worker process was stopped for {WORKER_TIMEOUT} seconds and is killed", file=sys.stderr, flush=True)
        for process in stopped.values():
            with suppress(psutil.NoSuchProcess):
                process.kill()


def count_workers(workers: int | None, items: int = MIN_ITEMS) -> int:
    """The number of processes for so many items, by default for many; raises R21DError for a negative number."""
    if workers is None:
        return available_cpus() if items >= MIN_ITEMS else 0
    if workers < 0:
        raise R21DError(f"workers is {workers}, expected the number of decoding processes, or 0 for this one alone")
    return workers
