"""TensorBoard shows the run's history: every epoch once, also after an interruption."""

import math

import pytest

from r21d_core import R21DError
from r21d_core.cli import main
from r21d_core.engine import log
from r21d_core.engine import train as engine
from tests.r21d_core.engine.test_train import SPEC

TAGS = {"lr": "lr", "loss/train": "train_loss", "error/train": "train_error", "loss/test": "test_loss",
        "error/test": "test_error", "seconds": "seconds"}  # fmt: skip


def read_events(folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.parametrize(("first", "save_seconds"), [("tensorboard", 0), ("tensorboard", math.inf), ("", 0)])
def test_resumed_log_has_every_epoch_once(first, save_seconds, fit, monkeypatch):
    """The checkpoint is that of the interruption, or there is none, or the first process did not log."""
    validate = engine._validate

    def interrupt(run, state, *arguments):
        validate(run, state, *arguments)
        if state.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(engine, "_validate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(SPEC, log=first, save_seconds=save_seconds)
    monkeypatch.setattr(engine, "_validate", validate)
    run = fit(SPEC, log="tensorboard")
    events = read_events(run.folder)
    assert events.keys() == TAGS.keys()
    for tag, key in TAGS.items():
        assert events[tag] == [(row["epoch"], pytest.approx(row[key], rel=1e-6)) for row in run.history], tag


def test_only_events_after_the_checkpoint_are_purged(tmp_path, caplog):
    """TensorBoard warns of those; it reads while the second process logs. Epochs that were not logged are added."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    history = [{"epoch": epoch, "lr": 1 / epoch} for epoch in range(1, 9)]
    reader = accumulator.EventAccumulator(str(tmp_path))
    for first, last, warns in ((0, 3, False), (3, 5, False), (4, 6, True), (7, 8, True)):
        caplog.clear()
        with log.open_log("tensorboard", tmp_path) as log_history:
            for count in range(first, last + 1):
                log_history(history[:count])
        assert not caplog.text, "training itself warns of nothing"
        for events in (reader, accumulator.EventAccumulator(str(tmp_path))):
            caplog.clear()
            events.Reload()
            assert [event.step for event in events.Scalars("lr")] == list(range(1, last + 1))
        assert ("Purging" in caplog.text) == warns


def test_only_rank_zero_logs(tmp_path, monkeypatch):
    monkeypatch.setattr(log, "rank", lambda: 1)
    with log.open_log("tensorboard", tmp_path) as log_history:
        log_history([{"epoch": 1, "lr": 0.1}])
    assert not list(tmp_path.iterdir())


def test_log_that_cannot_be_written_is_one_line(fit, monkeypatch, capsys):
    with pytest.raises(R21DError, match="log 'wandb': expected tensorboard"):
        fit(SPEC, log="wandb")
    monkeypatch.setattr(log, "find_spec", lambda name: None)
    assert main(["train", "variant_comparison", "--log", "tensorboard"]) == 1
    assert capsys.readouterr().err.endswith("TensorBoard is not installed here: pip install tensorboard\n")
