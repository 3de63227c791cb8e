"""Log a run's history to TensorBoard too, as it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

    Its first call logs the whole history, which replaces what an interrupted process has logged.
    """
    check_log(log)
    if not log or rank():
        yield lambda history: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder), purge_step=1) as writer:
        logged = 0

        def log_history(history: list[dict]) -> None:
            nonlocal logged
            for row in history[logged:]:
                for name, value in row.items():
                    if name != "epoch":  # train_loss and test_loss become loss/train and loss/test, a chart each
                        writer.add_scalar("/".join(reversed(name.split("_"))), value, row["epoch"])
            logged = len(history)
            writer.flush()

        yield log_history
