"""Train runs in this process, or one a core in worker processes with one CPU thread each.

Threads that share a small network wait for each other at every layer, and are many times slower on a busy machine.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import partial
from multiprocessing import forkserver

import torch
from tqdm.auto import tqdm

from r21d_core.data.parallel import available_cpus, initialize_worker, kill_stopped
from r21d_core.engine.device import is_small
from r21d_core.engine.distributed import world_size
from r21d_core.engine.signals import exit_on_signal, graceful_shutdown
from r21d_core.models.cost import spec_cost
from r21d_core.study.spec import Spec

MIN_MACS = 5e10  # of all runs' forward passes: less is trained before worker processes have started
POLL_SECONDS = 0.5
PRELOAD = ["r21d_core.engine.train", "torch._dynamo"]  # torch.optim imports the latter


def count_parallel_runs(specs: Sequence[Spec], device: torch.device) -> int:
    """Return how many of the runs are trained at once: one a core if all are small and `device` is a CPU, else 1."""
    if device.type != "cpu" or world_size() > 1 or not all(map(is_small, specs)):
        return 1
    macs = sum(spec_cost(spec, 1).macs * spec.epochs * spec.clips_per_epoch for spec in specs)
    return min(available_cpus(), len(specs)) if macs > MIN_MACS else 1


class InProcess(Executor):
    """Runs each call at once, in this process."""

    slots = 1

    def submit(self, function: Callable, /, *args, **options) -> Future:
        """Return the completed future of the call."""
        future: Future = Future()
        try:
            future.set_result(function(*args, **options))
        except Exception as error:
            future.set_exception(error)
        return future

    def wait(self, futures: Collection[Future]) -> set[Future]:
        """Return the futures."""
        return set(futures)


class WorkerPool:
    """Runs calls in worker processes with one CPU thread each, and returns what they print.

    SIGTERM and Ctrl-C, or the end of this process, stop the workers as SIGTERM stops a run: with a checkpoint. So does
    the death of a worker: the futures of all calls raise BrokenProcessPool. Later calls get new workers. A worker that
    is stopped for WORKER_TIMEOUT seconds is killed.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        forkserver.ensure_running()  # it imports while this process prepares the data
        self._start = partial(ProcessPoolExecutor, slots, context, _init_worker, (slots,))
        self._executor = self._start()
        self._stopped_since: dict[int, float] = {}

    def __enter__(self) -> WorkerPool:
        self._shutdown = graceful_shutdown()
        self._signals = self._shutdown.__enter__()
        return self

    def __exit__(self, kind: type | None, *_) -> None:
        if kind:
            for process in list(self._executor._processes.values()):
                process.terminate()
        self._continue_stopped()
        self._executor.shutdown(cancel_futures=True)
        self._shutdown.__exit__(None, None, None)

    def submit(self, function: Callable, *args, **options) -> Future:
        """Return the future of the call, whose result is what it printed."""
        try:
            return self._executor.submit(_call_quietly, function, args, options)
        except BrokenProcessPool:
            self._continue_stopped()
            self._executor.shutdown()  # waits for the checkpoints of the workers that are left
            self._executor = self._start()
            return self.submit(function, *args, **options)

    def wait(self, futures: Collection[Future]) -> set[Future]:
        """Return the futures that are done, after POLL_SECONDS at most; exits after a signal as `exit_on_signal`."""
        done = wait(futures, POLL_SECONDS, FIRST_COMPLETED).done
        kill_stopped(list(self._executor._processes or ()), self._stopped_since)
        if self._signals:
            exit_on_signal(self._signals[0])
        return done

    def _continue_stopped(self) -> None:
        """Let stopped workers receive their SIGTERM, or the shutdown would wait for them forever."""
        for pid in list(self._executor._processes or ()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _init_worker(slots: int) -> None:
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its default is a semaphore too, which `os._exit` would leave behind
    os.environ["LOCAL_WORLD_SIZE"] = str(slots)  # the workers share the host's cores and memory
    initialize_worker(end=partial(os.kill, os.getpid(), signal.SIGTERM))


def _call_quietly(function: Callable, args: tuple, options: dict) -> str:
    with open(os.devnull, "w") as devnull, redirect_stderr(devnull), redirect_stdout(io.StringIO()) as output:
        try:
            function(*args, **options)
        except (KeyboardInterrupt, SystemExit):  # stopped by a signal; without a parent nothing else ends this process
            with suppress(OSError):  # nobody reads it any more
                print(output.getvalue(), end="", file=sys.__stdout__, flush=True)  # such as what the checkpoint has
            os._exit(1)
    return output.getvalue()
