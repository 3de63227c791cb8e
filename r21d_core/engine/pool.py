"""Where runs are trained: in this process, or several at once in worker processes with one CPU thread each.

Threads that share a small network wait for each other at every layer. On a busy machine that makes them many times
slower than one thread, so small networks on a CPU are trained one a core instead.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, redirect_stderr, redirect_stdout, suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection

import torch

from r21d_core import R21DError
from r21d_core.data.parallel import available_cpus
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


class InProcess:
    """Runs each call at once, in this process."""

    slots = 1

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_) -> None:
        pass

    def submit(self, function: Callable, *args, **options) -> Future:
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
    """Runs calls in worker processes with one CPU thread each, and prints what they print once they are done.

    SIGTERM and Ctrl-C, or the end of this process, stop the workers as SIGTERM stops a run: with a checkpoint.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOAD)
        forkserver.ensure_running()  # it imports while this process prepares the data

    def __enter__(self) -> WorkerPool:
        reader, self._writer = self._context.Pipe(duplex=False)
        self._executor = ProcessPoolExecutor(self.slots, self._context, _init_worker, (reader, self.slots))
        self._stack = ExitStack()
        self._signals = self._stack.enter_context(graceful_shutdown())
        self._stack.callback(reader.close)
        return self

    def __exit__(self, kind: type | None, *_) -> None:
        if kind:
            self._writer.close()  # stops the workers
        self._executor.shutdown(cancel_futures=True)
        self._writer.close()
        self._stack.close()

    def submit(self, function: Callable, *args, **options) -> Future:
        """Return the future of the call, whose result is what it printed."""
        return self._executor.submit(_call_quietly, function, args, options)

    def wait(self, futures: Collection[Future]) -> set[Future]:
        """Return the futures that are done, after POLL_SECONDS at most.

        Raises KeyboardInterrupt or SystemExit after a signal, and R21DError if a worker has died.
        """
        done = wait(futures, POLL_SECONDS, FIRST_COMPLETED).done
        if self._signals:
            exit_on_signal(self._signals[0])
        if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
            raise R21DError(
                "a worker process died, perhaps for lack of memory; the others have saved their checkpoints, and the "
                "same command resumes from them"
            )
        return done


def _init_worker(parent: Connection, slots: int) -> None:
    torch.set_num_threads(1)
    os.environ["LOCAL_WORLD_SIZE"] = str(slots)  # the workers share the host's cores and memory
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to the workers too; the parent stops them
    threading.Thread(target=_stop_with_parent, args=(parent,), daemon=True).start()


def _stop_with_parent(parent: Connection) -> None:
    with suppress(EOFError):
        parent.recv()  # blocks until the parent closes its end or dies
    os.kill(os.getpid(), signal.SIGTERM)


def _call_quietly(function: Callable, args: tuple, options: dict) -> str:
    with open(os.devnull, "w") as devnull, redirect_stderr(devnull), redirect_stdout(io.StringIO()) as output:
        try:
            function(*args, **options)
        except (KeyboardInterrupt, SystemExit):  # stopped by a signal; without a parent nothing else ends this process
            os._exit(1)
    return output.getvalue()
