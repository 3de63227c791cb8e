"""Log a run's history to TensorBoard too, as it is written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

from r21d_core import R21DError
from r21d_core.engine.distributed import rank

LogHistory = Callable[[list[dict]], None]


def check_log(log: str) -> None:
    """Raise R21DError unless `log` is "" or a log that can be written here: "tensorboard"."""
    if log not in ("", "tensorboard"):
        raise R21DError(f"log {log!r}: expected tensorboard")
    if log and not find_spec("tensorboard"):
        raise R21DError("log tensorboard: TensorBoard is not installed here: pip install tensorboard")


@contextmanager
def open_log(log: str, folder: Path) -> Iterator[LogHistory]:
    """Yield the function that logs the rows of a history that are new to it, on rank zero, to event files in `folder`.

    Its first call, with the history of the checkpoint, replaces what an interrupted process has logged after that; and
    all of it where epochs of the history were not logged.
    """
    check_log(log)
    if not log or rank():
        yield lambda history: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with ExitStack() as stack:
        writer, logged = None, 0

        def log_history(history: list[dict]) -> None:
            nonlocal writer, logged
            if writer is None:
                # TensorBoard purges, with a warning, the events from purge_step on that it has read.
                logged = len(history) if _logged_epochs(folder).issuperset(range(1, len(history) + 1)) else 0
                writer = stack.enter_context(SummaryWriter(str(folder), purge_step=logged + 1))
            for row in history[logged:]:
                for name, value in row.items():
                    if name != "epoch":  # train_loss and test_loss become loss/train and loss/test, a chart each
                        writer.add_scalar("/".join(reversed(name.split("_"))), value, row["epoch"])
            logged = len(history)
            writer.flush()

        yield log_history


def _logged_epochs(folder: Path) -> set[int]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it warns of purged events too
    try:
        events = EventAccumulator(str(folder), {"scalars": 0}).Reload()  # 0: keeps all of them
    finally:
        logging.disable(disabled)
    return {event.step for event in events.Scalars("lr")} if "lr" in events.Tags()["scalars"] else set()
