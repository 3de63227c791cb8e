"""Start worker processes on this host, and restart them when one dies, with torch.distributed's elastic launcher."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from r21d_core import R21DError
from r21d_core.data.parallel import call_every, kill_stopped
from r21d_core.engine.distributed import RDZV_STORE_ENV
from r21d_core.engine.signals import exit_on_signal

RESTARTS = 3
POLL_SECONDS = 0.5


def spawn_workers(work: Callable[[], object], processes: int, device: str) -> None:
    """Call `work` in `processes` processes, which `distributed.process_group` joins; return when all are done.

    When one dies all restart, at most RESTARTS times; one that is stopped for WORKER_TIMEOUT seconds is killed. Raises
    R21DError: a worker's, or one that says how a worker died; SIGTERM and Ctrl-C are passed on. `work` is pickled, so
    call this under `if __name__ == "__main__":`.
    """
    n_gpus = torch.cuda.device_count()
    if device != "cpu" and processes > n_gpus:
        raise R21DError(f"{processes} GPUs: there are {n_gpus} here; with device cpu the processes share its CPU")
    since: dict[int, float] = {}
    watch = call_every(POLL_SECONDS, lambda: kill_stopped([child.pid for child in psutil.Process().children()], since))
    with tempfile.TemporaryDirectory(prefix="r21d-") as logs, _restored_process(), watch:
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=processes, run_id=uuid.uuid4().hex, rdzv_backend="c10d",
            rdzv_endpoint="localhost:0", local_addr="localhost", max_restarts=RESTARTS, start_method="spawn",
            logs_specs=DefaultLogsSpecs(logs),
        )  # fmt: skip
        try:
            errors = elastic_launch(config, _worker)(work)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            message: Any = failure.message  # a dict where the worker raised, although it is typed as str
            message = message["message"] if isinstance(message, dict) else message
            raise R21DError(
                f"worker {rank} of {processes} failed again after {RESTARTS} restarts, the last time with: {message}; "
                "the checkpoints are kept, and the same command resumes from them"
            ) from error
        except SignalException as error:
            exit_on_signal(int(error.sigval))
    if errors[0]:
        raise R21DError(errors[0])


def _worker(work: Callable[[], object]) -> str | None:
    """Return the message of an R21DError, for which the launcher must not restart the workers."""
    try:
        work()
    except R21DError as error:
        return str(error)


@contextmanager
def _restored_process() -> Iterator[None]:
    """Silence the launcher's tracebacks of dead workers; restore the signal handlers and variables it changes."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    handlers = {number: signal.getsignal(number) for number in numbers}
    variables, disabled = dict(os.environ), logging.root.manager.disable
    os.environ[RDZV_STORE_ENV] = "1"
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
        os.environ.clear()
        os.environ.update(variables)
        for number, handler in handlers.items():
            signal.signal(number, handler)
