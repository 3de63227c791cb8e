"""A damaged record is the right record or an R21DError that names the file, never a traceback or other numbers."""

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from r21d_core import R21DError
from r21d_core.data.manifest import DatasetCard, Manifest
from r21d_core.engine.build import build_model
from r21d_core.engine.checkpoint import load_checkpoint, resume, save_checkpoint
from r21d_core.engine.state import create_state
from r21d_core.runs.files import spreadsheet_safe
from r21d_core.runs.run import find_run, load_runs, write_history, write_json, write_scores, write_summary
from r21d_core.runs.scores import Scores
from r21d_core.study.spec import Spec

SPEC = Spec(
    variant="f-R2D", depth=10, width=2, frames=4, crop=16, frame_height=16, frame_width=16, clips_per_epoch=8,
    batch_size=8, precision="fp16",
)  # fmt: skip
MANIFEST = Manifest(Path("set.csv"), DatasetCard("set", ("x", "y")), ())
HISTORY = [{"epoch": number, "train_loss": 1.5, "train_error": 0.25} for number in (1, 2)]
PROGRESS = {
    "epoch": 2, "step": 1, "loss": 2.5, "n_wrong": 3.0, "n_clips": 4, "seconds": 5.5, "history": HISTORY,
    "substituted": {"a.mp4": "gone"}, "init_from": "weights.pth",
}  # fmt: skip
RECORDS = ("spec.json", "environment.json", "trained_on.txt", "history.jsonl", "scores.npz", "summary.json")
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.just(10**400), st.floats(), st.text(max_size=5),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Each builds a network. No example is kept, as the bytes of a checkpoint differ with the next one.
FUZZ_OF_CHECKPOINT = settings(FUZZ, max_examples=60, database=None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with a checkpoint; every example restores the file that it damaged."""
    run = find_run(tmp_path_factory.mktemp("runs"), SPEC)
    run.write("spec.json", SPEC.to_json())
    run.write("trained_on.txt", "a\nb\n")
    write_json(run, "environment.json", {"device": "TestGPU", "fingerprint": "f", "packages": {"torch": "2"}})
    write_history(run, HISTORY)
    logits = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
    names = np.array(["a", "b", "c", "d"])
    write_scores(run, Scores(logits, np.array([0, 1, 0, 1]), names, names, ("x", "y"), {"clips": 3}))
    state = new_state()
    vars(state).update(PROGRESS)
    state.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    save_checkpoint(run, MANIFEST, state)
    write_summary(run, {"device": "TestGPU", "seconds": 3.5, "substituted": {}})
    return run


@pytest.fixture(scope="module")
def right(run):
    """All records of the run as they were written."""
    return read_all(run)


def new_state():
    model = build_model(SPEC, 2, torch.device("cpu"))
    return create_state(SPEC, model, model)


def read_all(run):
    """All records of the run as comparable values."""
    (found,) = load_runs(run.folder.parent)
    scores = found.scores
    arrays = (scores.logits.tolist(), scores.labels.tolist(), scores.videos.tolist(), scores.classes, scores.protocol)
    assert find_run(run.folder.parent, SPEC).spec == found.spec
    return found.spec, found.environment, found.trained_on, found.history, arrays, found.summary


def read_damaged(run, path: Path, content: bytes, read):
    """What `read` returns with `content` at `path`, or None for an R21DError that names the file or its folder.

    Or for the warning of an unknown variant.
    """
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        return read(run)
    except (R21DError, UserWarning) as error:
        message = str(error)
    finally:
        path.write_bytes(before)
    assert str(run.folder) in message
    return None


def damage(data, content: bytes) -> bytes:
    """Cut, flip a bit of, overwrite or lengthen `content`."""
    place = data.draw(st.integers(0, len(content) - 1))
    return data.draw(
        st.sampled_from(
            [
                content[:place],
                content[:place] + bytes([content[place] ^ 1 << data.draw(st.integers(0, 7))]) + content[place + 1 :],
                content[:place] + bytes(8) + content[place + 8 :],
                content + b"\0",
                content[place:],
            ]
        )
    )


@FUZZ
@given(data=st.data(), name=st.sampled_from(RECORDS))
def test_damaged_bytes_of_a_finished_run_are_noticed(run, right, data, name):
    path = run.folder / name
    found = read_damaged(run, path, damage(data, path.read_bytes()), read_all)
    assert found is None or found == right


def replace_value(data, content):
    """`content` with one of its values, at any depth, replaced, or one of its keys missing."""
    if not isinstance(content, dict | list) or not content or data.draw(st.booleans()):
        return data.draw(ODD)
    copy = content.copy()
    key = data.draw(st.sampled_from(list(content) if isinstance(content, dict) else range(len(content))))
    if data.draw(st.integers(0, 3)):
        copy[key] = replace_value(data, content[key])
    else:
        del copy[key]
    return copy


@FUZZ
@given(data=st.data(), name=st.sampled_from(["spec.json", "environment.json", "summary.json"]))
def test_odd_json_of_a_finished_run_is_noticed(run, right, data, name):
    path = run.folder / name
    content = json.dumps(replace_value(data, json.loads(path.read_text())), indent=1) + "\n"
    found = read_damaged(run, path, content.encode(errors="surrogatepass"), read_all)
    assert found is None or found == right


@FUZZ
@given(data=st.data())
@example(data=None)
def test_history_of_an_unfinished_run_is_whole_or_an_error(run, data):
    lines = [*HISTORY, "{"] if data is None else replace_value(data, HISTORY)
    lines = lines if isinstance(lines, list) else [lines]
    path, summary = run.folder / "history.jsonl", run.folder / "summary.json"
    content = "".join(json.dumps(line) + "\n" for line in lines).encode(errors="surrogatepass")
    sealed = summary.read_bytes()
    summary.unlink()
    try:
        found = read_damaged(run, path, content, lambda run: run.history)
    finally:
        summary.write_bytes(sealed)
    for number, line in enumerate(found or [], 1):
        assert line["epoch"] == number
        assert all(math.isfinite(value) for key, value in line.items() if key != "test_loss")


def read_checkpoint(run):
    state = new_state()
    assert resume(run, MANIFEST, state)
    weights = {name: value.numpy().tobytes() for name, value in state.model.state_dict().items()}
    return {name: getattr(state, name) for name in PROGRESS}, state.scaler.get_scale(), weights


@pytest.fixture(scope="module")
def saved_state(run):
    found = read_checkpoint(run)
    assert found[:2] == (PROGRESS, 8.0)
    return found


@pytest.fixture(scope="module")
def saved(run):
    """The content of the checkpoint, which no example changes."""
    return load_checkpoint(run)


@FUZZ_OF_CHECKPOINT
@given(data=st.data())
def test_damaged_bytes_of_a_checkpoint_are_noticed(run, saved_state, data):
    path = run.folder / "checkpoint.pt"
    found = read_damaged(run, path, damage(data, path.read_bytes()), read_checkpoint)
    assert found is None or found == saved_state


@FUZZ_OF_CHECKPOINT
@given(data=st.data())
def test_odd_values_in_a_checkpoint_are_noticed(run, saved, data):
    path = run.folder / "checkpoint.pt"
    key = data.draw(st.sampled_from([*saved, *(["state"] * 5)]))
    damaged = {name: value for name, value in saved.items() if name != key}
    if key not in ("model", "optimizer") and data.draw(st.booleans()):
        damaged[key] = replace_value(data, saved[key])
    buffer = io.BytesIO()
    torch.save(damaged, buffer)
    found = read_damaged(run, path, buffer.getvalue(), read_checkpoint)
    if found is not None:
        epoch, step, history = (found[0][name] for name in ("epoch", "step", "history"))
        assert epoch == len(history) == 2 and type(step) is int and step >= 0
        assert all(row.keys() == HISTORY[0].keys() for row in history), "another finite number is not damage"
        assert all(math.isfinite(value) for row in history for value in row.values())


def test_checkpoint_of_infinite_weights_is_not_written_or_read(run):
    state, saved, path, buffer = new_state(), load_checkpoint(run), run.folder / "checkpoint.pt", io.BytesIO()
    before = path.read_bytes()
    saved["model"]["fc.bias"].fill_(math.inf)
    torch.save(saved, buffer)
    assert read_damaged(run, path, buffer.getvalue(), read_checkpoint) is None
    state.model.load_state_dict(saved["model"])
    with pytest.raises(R21DError, match="weights are not finite after step 0"):
        save_checkpoint(run, MANIFEST, state)
    assert path.read_bytes() == before


def test_text_is_no_spreadsheet_formula():
    texts = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "a=b", "", -1.5]
    assert [*map(spreadsheet_safe, texts)] == ["'=1+1", "'+1", "'-1", "'@x", "'\tx", "'\rx", "a=b", "", -1.5]
