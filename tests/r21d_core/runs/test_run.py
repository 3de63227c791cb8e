"""Records are written whole or not at all, and a folder never passes for what it is not."""

import errno
import fcntl
import hashlib
import io
import json
import multiprocessing
import os
import platform
import resource
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from r21d_core import R21DError
from r21d_core.runs.files import remove_temporary, write_atomically
from r21d_core.runs.locking import RunLockedError
from r21d_core.runs.run import (
    Run,
    find_run,
    load_runs,
    lock,
    write_history,
    write_scores,
    write_summary,
    write_trained_on,
)
from r21d_core.runs.scores import Scores, encode_scores
from r21d_core.study.spec import Spec


@pytest.fixture
def scores():
    generator = np.random.default_rng(0)
    return Scores(
        logits=generator.normal(size=(4, 3, 2)).astype(np.float32),
        labels=np.array([0, 1, 0, 1]),
        videos=np.array(["a/1.mp4", "a/2.mp4", "b, “ü”/3.mp4", "b/4.mp4"]),
        groups=np.array(["a", "a", "ü", "b"]),
        classes=("a", 'b, "quoted"'),
        protocol={"clips": 3, "families": {}},
    )


def test_scores_come_back_as_they_were(tmp_path, scores):
    run = Run(Spec(), tmp_path)
    write_scores(run, scores)
    back = run.scores
    for name in ("logits", "labels", "videos", "groups"):
        np.testing.assert_array_equal(getattr(back, name), getattr(scores, name))
    assert (back.classes, back.protocol) == (scores.classes, scores.protocol)


def test_groups_come_back_as_they_were(tmp_path):
    groups = {"a", "", " b ", "c\u2028d", "c\x85d", "c\x0bd\x1c", "e\nf", "ü/“g”"}
    for expected in (groups, set()):
        write_trained_on(Run(Spec(), tmp_path), expected)
        assert Run(Spec(), tmp_path).trained_on == expected


def test_damaged_or_pickled_scores_are_refused(tmp_path):
    pickled = io.BytesIO()
    np.savez(pickled, logits=np.array([{"a": 1}], dtype=object))
    for content in (b"", b"PK\x03\x04 half", b"no scores at all", pickled.getvalue()):
        (tmp_path / "scores.npz").write_bytes(content)
        with pytest.raises(R21DError, match=r"scores\.npz: not a scores file"):
            _ = Run(Spec(), tmp_path).scores


@pytest.mark.parametrize("array", ["labels", "videos", "groups"])
def test_scores_that_do_not_fit_their_labels_are_refused(tmp_path, scores, array):
    run = Run(Spec(), tmp_path)
    for changed in (
        {array: getattr(scores, array)[:2]},
        {"labels": np.array([0, 1, 0, 2])},
        {"labels": np.array([0, 1, 0, -1])},
        {"logits": np.full((4, 3, 2), np.inf, np.float32)},
    ):
        write_scores(run, replace(scores, **changed))
        with pytest.raises(R21DError, match=r"scores.npz: (.* do not fit|logits are not finite or labels are none)"):
            _ = run.scores
    with np.load(io.BytesIO(encode_scores(scores))) as file:
        np.savez(tmp_path / "scores.npz", **{name: file[name] for name in file if name != "groups"})
    with pytest.raises(R21DError, match=r"scores.npz: it has no groups, .*; delete it and run the experiment again"):
        _ = Run(Spec(), tmp_path).scores


def test_full_disk_leaves_what_was_there(tmp_path):
    """A real limit of the system on a file's size: the write fails half way, as on a full disk."""
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"good")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(R21DError, match=r"checkpoint\.pt: could not be written .*untouched"):
            write_atomically(path, b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"good"
    assert os.listdir(tmp_path) == ["checkpoint.pt"]


def test_records_can_be_read_by_others(tmp_path):
    mask = os.umask(0o022)
    try:
        write_atomically(tmp_path / "deep" / "file", "text")
    finally:
        os.umask(mask)
    assert (tmp_path / "deep" / "file").stat().st_mode & 0o777 == 0o644


def test_state_follows_the_records_and_the_lock(tmp_path):
    run = find_run(tmp_path, Spec())
    with lock(run):
        assert run.state == "running"
    assert run.state == "new"
    run.write("spec.json", Spec().to_json())
    assert run.state == "interrupted"
    write_summary(run, {})
    assert run.state == "finished"
    (run.folder / "trained_on.txt").write_text("g\n")
    with pytest.raises(R21DError, match=r"trained_on\.txt: damaged"):  # it is not one that the run has written
        _ = run.trained_on
    path = run.folder / "summary.json"  # nor does it pass with a checksum of its own
    summary = json.loads(path.read_text())
    summary["sha256"]["trained_on.txt"] = hashlib.sha256(b"g\n").hexdigest()
    path.write_text(json.dumps(summary))
    with pytest.raises(R21DError, match=r"summary\.json: damaged, as its checksum is wrong"):
        _ = run.trained_on


def test_new_run_has_no_records(tmp_path):
    run = find_run(tmp_path, Spec())
    assert not run.has_checkpoint and not run.is_complete and run.history == []
    assert not run.folder.exists(), "looking writes nothing"
    with pytest.raises(R21DError, match=r"summary\.json: missing"):
        _ = run.summary


def test_half_written_or_foreign_run_folder_is_named(tmp_path):
    folder = tmp_path / Spec().folder
    folder.mkdir()
    (folder / "spec.json").write_text('{"variant": "R3')
    with pytest.raises(R21DError, match=r"spec\.json: half written or damaged"):
        find_run(tmp_path, Spec())
    (folder / "spec.json").write_text(Spec(seed=7).to_json())
    with pytest.raises(R21DError, match="another spec"):
        find_run(tmp_path, Spec())
    for text, what in (
        ('{"epoch": 1}\n{"epo', "half written"),
        ('{"epoch": 1, "lr": 1}\n{"epoch": 2}\n', "lr is not in"),
        ('{"epoch": 1, "lr": 1}\n{"epoch": 2, "lr": Infinity}\n', "lr of epoch 2 is inf"),
    ):
        (folder / "history.jsonl").write_text(text)
        with pytest.raises(R21DError, match=rf"history\.jsonl: {what}"):
            _ = Run(Spec(), folder).history
    (folder / "spec.json").unlink()
    (folder / "checkpoint.pt").write_bytes(b"")
    with pytest.raises(R21DError, match=r"spec\.json: missing"):
        find_run(tmp_path, Spec())


def test_two_processes_cannot_hold_one_run(tmp_path):
    run = find_run(tmp_path, Spec())
    with lock(run):
        said = _lock_elsewhere(run)
    assert f"locked by process {os.getpid()}" in said
    assert _try_to_lock(run) == "held"


def test_lock_that_cannot_be_written_is_named(tmp_path):
    run = find_run(tmp_path, Spec())
    (run.folder / ".lock").mkdir(parents=True)
    assert f"{run.folder / '.lock'}: could not be locked (" in _try_to_lock(run)
    (run.folder / ".lock").rmdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # as on a full disk
    try:
        with pytest.raises(R21DError, match=r"could not be locked \(") as error, lock(run):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert _try_to_lock(run) == "held", f"the lock is free while {error.value} is handled"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_file_system_without_flock_is_named(tmp_path, monkeypatch, number):
    """Of some clusters. filelock's substitute, a file, would stay when its process is killed, and refuse the next."""
    run = find_run(tmp_path, Spec())
    run.folder.mkdir()
    (run.folder / ".lock").write_text("process 7 on another")  # copied from a file system with flock
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=OSError(number, os.strerror(number))))
    assert run.state == "new"
    for _ in range(2):
        assert f"/.lock: could not be locked ({os.strerror(number)}); its file system has no" in _try_to_lock(run)
    (run.folder / "spec.json").write_text(Spec().to_json())
    assert run.state == "interrupted"


def test_folder_of_another_user_is_named(tmp_path, monkeypatch):
    """With the umask 077 others may not enter it."""
    monkeypatch.setattr(Path, "exists", Mock(side_effect=PermissionError(errno.EACCES, "Permission denied")))
    says = rf"{Spec().folder}: cannot be read \(Permission denied\); change its permissions$"
    with pytest.raises(R21DError, match=says):
        find_run(tmp_path, Spec())


def test_reading_the_state_does_not_refuse_a_training(tmp_path):
    run = find_run(tmp_path, Spec())
    run.folder.mkdir()
    with (run.folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # as `Run.state` does for a moment
        threading.Timer(0.1, fcntl.flock, (file, fcntl.LOCK_UN)).start()
        assert _try_to_lock(run) == "held"


def _try_to_lock(run):
    try:
        with lock(run):
            return "held"
    except R21DError as error:
        return str(error)


def begin(run):
    run.write("spec.json", run.spec.to_json())
    run.write("trained_on.txt", "g\n")
    write_history(run, [{"epoch": 1}])


@pytest.mark.parametrize("moved", [False, True])
def test_folder_deleted_or_moved_during_a_run_is_written_anew(tmp_path, capsys, moved):
    run = find_run(tmp_path, Spec())
    with lock(run):
        begin(run)
        run.folder.rename(tmp_path / "moved") if moved else shutil.rmtree(run.folder)
        run.write("checkpoint.pt", b"state")
        run.write("checkpoint.pt", b"state")
        assert capsys.readouterr().err.count(f"{run.folder}: deleted or moved") == 1
        assert run.trained_on == {"g"} and len(run.history) == 1 and run.has_checkpoint
        assert find_run(tmp_path, Spec()) == run
        assert f"locked by process {os.getpid()} on {platform.node()}; wait" in _lock_elsewhere(run)
        shutil.rmtree(run.folder)
        write_summary(run, {})
        assert run.is_complete and run.trained_on == {"g"} and not capsys.readouterr().out
    assert (tmp_path / "moved" / "spec.json").exists() == moved
    with lock(run):  # records written before a restart are kept too
        shutil.rmtree(run.folder)
        run.write("checkpoint.pt", b"state")
    assert run.trained_on == {"g"} and len(run.history) == 1
    shutil.rmtree(run.folder)
    run.write("checkpoint.pt", b"state")
    assert [path.name for path in run.folder.iterdir()] == ["checkpoint.pt"], "it is not held any more"


def test_moved_folder_that_was_recreated_is_an_error(tmp_path):
    run = find_run(tmp_path, Spec())
    with lock(run):
        begin(run)
        run.folder.rename(tmp_path / "moved")
        run.folder.mkdir()
        with (run.folder / ".lock").open("w") as file:  # as another process that recreates it
            file.write("process 7 on node-3")
            file.flush()
            fcntl.flock(file, fcntl.LOCK_EX)
            says = r"locked by process 7 on node-3; .* if node-3 is down, delete .*lock$"
            with pytest.raises(RunLockedError, match=says):
                run.write("checkpoint.pt", b"state")


def _lock_elsewhere(run):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_try_to_lock, (run,))


def test_killed_writers_leave_neither_lock_nor_temporary_files(tmp_path):
    run = find_run(tmp_path, Spec())
    code = (
        "import os, sys; from r21d_core.runs.run import find_run, lock; from r21d_core.study.spec import Spec;"
        "run = find_run(sys.argv[1], Spec()); held = lock(run); held.__enter__();"
        "os.fsync = lambda _: os.kill(os.getpid(), 9); run.write('checkpoint.pt', b'half')"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -9
    (run.folder / ".notes").write_text("mine")
    assert len(list(run.folder.iterdir())) == 3
    remove_temporary(run.folder, seconds=3600)
    assert len(list(run.folder.iterdir())) == 3, "a file written to within the hour may have a living writer"
    with lock(run):
        assert {path.name for path in run.folder.iterdir()} == {".notes", ".lock"}


@pytest.mark.parametrize("stale", [False, True])
def test_file_that_another_host_removes_is_written_again(tmp_path, monkeypatch, stale):
    """As a temporary file of this host looks old to a host whose clock is minutes ahead; on NFS its handle is stale."""
    fsync, calls = os.fsync, []

    def fsync_and_remove(number):
        fsync(number)
        if not calls:
            os.utime(number, (0, 0))
            remove_temporary(tmp_path, seconds=60)
        calls.append(number)
        if stale and len(calls) == 1:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, "fsync", fsync_and_remove)
    write_atomically(tmp_path / "a.mp4", b"whole")
    assert len(calls) == 2 and [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"whole"


def test_load_runs_returns_folders_with_a_spec(tmp_path):
    runs = [find_run(tmp_path, Spec(variant=variant)) for variant in ("R3D", "MC3")]
    for run in runs:
        run.folder.mkdir()
        (run.folder / "spec.json").write_text(run.spec.to_json())
    write_summary(runs[0], {})
    (tmp_path / "notes").mkdir()
    assert load_runs(tmp_path) == sorted(runs, key=lambda run: run.folder.name) and load_runs(tmp_path / "none") == []
    assert {run.spec.variant: run.is_complete for run in load_runs(tmp_path)} == {"R3D": True, "MC3": False}
    (runs[0].folder / "spec.json").write_text(runs[0].spec.to_json().replace("R3D", "tinynet"))
    with pytest.warns(UserWarning, match=rf"^left out: {runs[0].folder}/spec\.json: variant 'tinynet': .*; move"):
        assert load_runs(tmp_path) == [runs[1]]
    with pytest.raises(R21DError, match="variant 'tinynet'"):
        find_run(tmp_path, runs[0].spec)
    (runs[0].folder / "spec.json").write_text('{"no": 1}')
    with pytest.raises(R21DError, match=r"spec\.json.*no key 'no'"):
        load_runs(tmp_path)
