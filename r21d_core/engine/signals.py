"""Graceful shutdown on SIGTERM and Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from r21d_core.engine.distributed import world_size


@contextmanager
def graceful_shutdown() -> Iterator[list[int]]:
    """Collect the numbers of SIGINT and SIGTERM in a list, for the loop in this context to poll; main thread only.

    A second Ctrl-C interrupts at once, except with several processes, as terminal and launcher both send the first one.
    Those ignore it once they stop, as one process may be told to by another before it gets the signal itself.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def handle(number: int, _) -> None:
        received.append(number)
        if world_size() == 1:
            signal.signal(signal.SIGINT, previous[signal.SIGINT])

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    except (KeyboardInterrupt, SystemExit):
        if world_size() > 1:
            previous = dict.fromkeys(previous, signal.SIG_IGN)
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def exit_on_signal(number: int) -> NoReturn:
    """Raise what the signal means without a handler: KeyboardInterrupt, or SystemExit with code 128 + number."""
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
