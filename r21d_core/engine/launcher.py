"""The processes of this host, started and, where one dies, started again by torch.distributed's elastic launcher."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from r21d_core import R21DError
from r21d_core.engine.distributed import RDZV_STORE_ENV

RESTARTS = 3


def spawn_workers(work: Callable[[], object], processes: int, device: str) -> None:
    """Do `work` in so many processes, which find each other by `distributed.joined`; returns when all are done.

    What they print appears where this process prints. When one dies all begin again, RESTARTS times at the most.
    Raises R21DError: theirs, or one that says how a process died; SIGTERM and Ctrl-C go to all of them.
    `work` is pickled, and in a script this has to stand under `if __name__ == "__main__":`.
    """
    there = torch.cuda.device_count()
    if device != "cpu" and processes > there:
        raise R21DError(f"{processes} GPUs: there are {there} here; with device cpu the processes share its CPU")
    with tempfile.TemporaryDirectory(prefix="r21d-") as logs, _left_as_it_was(), _without_its_log():
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=RESTARTS,
            start_method="spawn",
            logs_specs=DefaultLogsSpecs(logs),
        )
        try:
            told = elastic_launch(config, _worker)(work)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            message = failure.message["message"] if isinstance(failure.message, dict) else failure.message
            raise R21DError(
                f"worker {rank} of {processes} failed, and did so again after {RESTARTS} restarts; the last time: "
                f"{message}; what was saved is kept, and the same command goes on from there"
            ) from error
        except SignalException as stopped:
            number = int(stopped.sigval)
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number) from None
    if told[0]:
        raise R21DError(told[0])


def _worker(work: Callable[[], object]) -> str | None:
    """What was wrong, if a person can mend it: the launcher would only try it again."""
    try:
        work()
    except R21DError as error:
        return str(error)


@contextmanager
def _left_as_it_was() -> Iterator[None]:
    """The launcher leaves signal handlers and variables behind, which a notebook would keep."""
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
    handlers = {name: signal.getsignal(getattr(signal, name)) for name in names}
    variables = dict(os.environ)
    os.environ[RDZV_STORE_ENV] = "1"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(variables)
        for name, handler in handlers.items():
            signal.signal(getattr(signal, name), handler)


@contextmanager
def _without_its_log() -> Iterator[None]:
    """The launcher tells of each death by a traceback of its own; ours say what happened in a line."""
    logs = [logging.getLogger(name) for name in ("torch.distributed.elastic", "torch.multiprocessing.spawn")]
    before, silent = [log.propagate for log in logs], logging.NullHandler()
    for log in logs:
        log.propagate = False
        log.addHandler(silent)
    try:
        yield
    finally:
        for log, propagate in zip(logs, before, strict=True):
            log.propagate = propagate
            log.removeHandler(silent)
