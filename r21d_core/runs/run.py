"""The run folder: one a Spec, written so that it can be stopped at any moment and read by anyone.

spec.json         what was asked
environment.json  versions, device, commit, data
trained_on.txt    the groups of videos its weights were trained on, those of its start included
history.jsonl     one line an epoch
checkpoint.pt     where to go on (removed from committed records)
scores.npz        the logits of every evaluated clip
summary.json      written last: with it the run is done
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from r21d_core import R21DError
from r21d_core.runs.files import make_folder, write_atomically
from r21d_core.runs.scores import Scores, load_scores
from r21d_core.study.spec import Spec

TRAINED_ON = "trained_on.txt"


class RunLockedError(R21DError):
    """Another process is on a run."""


@dataclass(frozen=True)
class Run:
    """A Spec and the folder that keeps its records."""

    spec: Spec
    folder: Path

    @property
    def is_complete(self) -> bool:
        return (self.folder / "summary.json").exists()

    @property
    def has_checkpoint(self) -> bool:
        return (self.folder / "checkpoint.pt").exists()

    @property
    def history(self) -> list[dict]:
        """One dict an epoch finished; empty before the first."""
        path = self.folder / "history.jsonl"
        return [_parse(path, line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def summary(self) -> dict:
        """What was measured of the run as a whole; raises R21DError while it is not done."""
        return _read(self.folder / "summary.json")

    @property
    def environment(self) -> dict:
        """Versions, device, commit and data behind the run."""
        return _read(self.folder / "environment.json")

    @property
    def trained_on(self) -> set[str]:
        """The groups of all videos that its weights were trained on, by itself or before it; raises R21DError."""
        try:
            return set((self.folder / TRAINED_ON).read_text().splitlines())
        except FileNotFoundError:
            raise R21DError(
                f"{self.folder / TRAINED_ON}: missing, so nobody knows what the weights were trained on; train it again"
            ) from None

    @property
    def scores(self) -> Scores:
        return load_scores(self.folder / "scores.npz")


def find_run(runs: Path | str, spec: Spec) -> Run:
    """The run of `spec` under the folder `runs`, whether or not it has begun; nothing is written.

    Raises R21DError where its folder holds another spec or a spec that cannot be read, and where `runs` is a file.
    """
    if Path(runs).is_file():
        raise R21DError(f"{runs}: is a file, expected a folder for runs; name another (--runs)")
    folder = Path(runs) / spec.folder
    path = folder / "spec.json"
    if path.exists():
        try:
            kept = Spec.from_json(path.read_text())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise R21DError(f"{path}: half written or damaged ({error}); delete {folder} to run it afresh") from error
        if kept != spec:
            raise R21DError(f"{path}: the folder holds another spec than its name says; move {folder} away")
    elif folder.exists() and (folder / "checkpoint.pt").exists():
        raise R21DError(f"{path}: missing, so nobody knows what {folder} ran; move the folder away")
    return Run(spec, folder)


def load_runs(folder: Path | str) -> list[Run]:
    """All runs directly under `folder`, finished or not, by name; none where there is no such folder.

    Folders without a spec.json are no runs; raises R21DError for a spec.json that cannot be read.
    """
    found = []
    for path in sorted(Path(folder).glob("*/spec.json")):
        try:
            found.append(Run(Spec.from_json(path.read_text()), path.parent))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise R21DError(f"{path}: half written or damaged ({error}); delete {path.parent}") from error
        except R21DError as error:
            raise R21DError(f"{path}: {error}; move {path.parent} away") from None
    return found


@contextmanager
def lock(run: Run):
    """Hold the run for this process alone; raises RunLockedError at once if another process has it.

    The system frees the lock when its holder dies, however it dies.
    """
    make_folder(run.folder)
    path = run.folder / ".lock"
    try:
        with FileLock(path, timeout=0):
            path.write_text(f"process {os.getpid()}")
            yield
    except Timeout:
        holder = path.read_text() or "another process"
        raise RunLockedError(f"{run.folder}: {holder} is on this run; wait for it, or stop it and run again") from None


def write_json(run: Run, name: str, content: dict) -> None:
    """Write `content` to the run's file `name`, atomically."""
    write_atomically(run.folder / name, json.dumps(content, indent=1) + "\n")


def write_history(run: Run, history: list[dict]) -> None:
    """Write the whole history anew, atomically: after a crash it is the checkpoint's, never a line too many."""
    write_atomically(run.folder / "history.jsonl", "".join(json.dumps(line) + "\n" for line in history))


def _read(path: Path) -> dict:
    if not path.exists():
        raise R21DError(f"{path}: missing; the run has not come so far yet")
    return _parse(path, path.read_text())


def _parse(path: Path, text: str) -> dict:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise R21DError(f"{path}: half written or damaged ({error}); delete it and run the experiment again") from error
