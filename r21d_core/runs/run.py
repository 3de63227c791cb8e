"""The run folder: the records of one Spec, written so that a run can be stopped at any moment and read by anyone.

- `spec.json`: the Spec
- `environment.json`: versions, device, commit, data
- `trained_on.txt`: the recording groups that the weights were trained on, those of the initial weights included
- `history.jsonl`: one line for each epoch
- `checkpoint.pt`: the state to resume from (not in committed records)
- `scores.npz`: the logits of every evaluated clip
- `summary.json`: written last: the run is complete; with the checksums of the other records

A pack (`r21d_analysis.pack`) is a ZIP file of such folders; everything here reads it like a folder of runs.
"""

from __future__ import annotations

import hashlib
import json
import warnings
import zipfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

from r21d_core import R21DError
from r21d_core.runs import locking
from r21d_core.runs.files import unreadable, write_atomically
from r21d_core.runs.scores import Scores, decode_scores, encode_scores
from r21d_core.study.spec import Spec
from r21d_core.study.variants import UnknownVariantError

TRAINED_ON = "trained_on.txt"
SUMMARY = "summary.json"
CHECKED = ("spec.json", "environment.json", TRAINED_ON, "history.jsonl", "scores.npz")  # by the summary's checksums

STATES = ("finished", "running", "interrupted", "new")


Record = TypeVar("Record")
Source = TypeVar("Source", bound="Run | Path")
_READ: WeakKeyDictionary[zipfile.ZipFile, dict[tuple[str, str], Any]] = WeakKeyDictionary()  # the records of each pack


def _once_in_pack(read: Callable[[Source], Record]) -> Callable[[Source], Record]:
    """Decorate a reader of a record of a run or path: in a pack, which does not change while open, it reads each once.

    The tables and figures of a notebook read a record many times, and a pack's are compressed.
    """

    @wraps(read)
    def cached(source: Source) -> Record:
        path = source.folder if isinstance(source, Run) else source
        if not isinstance(path, zipfile.Path):
            return read(source)
        pack = cast(zipfile.ZipFile, path.root)
        records, key = _READ.setdefault(pack, {}), (path.at, read.__name__)
        if key not in records:
            records[key] = read(source)
        return records[key]

    return cached


@dataclass(frozen=True)
class Run:
    """A Spec and the folder of its records; in a pack that is a zipfile.Path, which is read like a Path."""

    spec: Spec
    folder: Path

    @property
    def is_complete(self) -> bool:
        """Whether the summary, which is written last, is there."""
        return (self.folder / SUMMARY).exists()

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a state to resume from or weights to use."""
        return (self.folder / "checkpoint.pt").exists()

    @property
    def state(self) -> str:
        """One of STATES; a run is `running` while a process holds its lock, and `interrupted` with its spec alone."""
        if self.is_complete:
            return "finished"
        if locking.is_locked(self.folder):
            return "running"
        return "interrupted" if (self.folder / "spec.json").exists() else "new"

    @property
    def history(self) -> list[dict]:
        """One dict per finished epoch; empty before the first."""
        return [{**line} for line in _read_history(self)]

    @property
    def summary(self) -> dict:
        """Device, speed, cost and checksums of a complete run; raises R21DError before that."""
        return {**_read_summary(self)}

    @property
    def environment(self) -> dict:
        """Versions, device, commit and data of the run."""
        path = self.folder / "environment.json"
        return _parse(path, self.read(path.name))

    @property
    def trained_on(self) -> set[str]:
        """The recording groups that the weights were trained on, by this run or an earlier one."""
        path = self.folder / TRAINED_ON
        if not path.exists():
            raise R21DError(f"{path}: missing, so the videos the weights were trained on are unknown; train it again")
        try:
            lines = self.read(TRAINED_ON).decode().split("\n")[:-1]  # a name may hold other separators of lines
        except UnicodeDecodeError as error:
            raise R21DError(f"{path}: half written or damaged ({error}); delete it and train the run again") from error
        return {line.replace("\r", "\n") for line in lines}

    @property
    @_once_in_pack
    def scores(self) -> Scores:
        """The logits of every evaluated clip; from a pack, quantized, and read only, as they are read once."""
        path = self.folder / "scores.npz"
        scores = decode_scores(path, self.read(path.name))
        if isinstance(self.folder, zipfile.Path):
            for array in (scores.logits, scores.labels, scores.videos, scores.groups):
                array.flags.writeable = False
        return scores

    def read(self, name: str) -> bytes:
        """The content of the record `name`; raises R21DError if it is missing or a complete run's checksum differs."""
        path = self.folder / name
        try:
            content = path.read_bytes()
        except (KeyError, FileNotFoundError):
            raise R21DError(f"{path}: missing; the run is not complete, train it first") from None
        except Exception as error:  # zipfile raises many kinds for damaged files
            raise R21DError(f"{path}: cannot be read ({error}); restore it or train the run again") from error
        checksums = self.summary["sha256"] if name in CHECKED and self.is_complete else None
        if checksums and checksums.get(name) != hashlib.sha256(content).hexdigest():
            raise R21DError(f"{path}: damaged: its checksum differs from the summary's; restore it or train again")
        return content

    def write(self, name: str, content: bytes | str) -> None:
        """Write the record `name` atomically; where the locked folder was deleted or moved, it is written anew."""
        if isinstance(self.folder, zipfile.Path):
            raise R21DError(f"{self.folder}: a pack is read only; write to a folder of runs")
        content = content.encode() if isinstance(content, str) else content
        locking.restore(self.folder)
        write_atomically(self.folder / name, content)
        if name in CHECKED:
            locking.remember(self.folder, name, content)


@_once_in_pack
def _read_history(run: Run) -> list[dict]:
    path = run.folder / "history.jsonl"
    lines = run.read(path.name).splitlines() if path.exists() else []
    return check_history(path, [_parse(path, line) for line in lines])


@_once_in_pack
def _read_summary(run: Run) -> dict:
    path = run.folder / SUMMARY
    summary = _parse(path, run.read(SUMMARY))
    checksums = summary.get("sha256")
    if not isinstance(checksums, dict) or checksums.get(SUMMARY) != _checksum_of_summary(summary):
        raise R21DError(f"{path}: damaged, as its checksum is wrong; delete it and train the run again")
    return summary


def open_runs(runs: Path | str) -> Path:
    """The folder `runs`, or the content of the pack `runs`; raises R21DError for another file and a missing pack."""
    if isinstance(runs, zipfile.Path):
        return cast(Path, runs)
    if not Path(runs).is_file():
        if Path(runs).suffix == ".zip" and not Path(runs).exists():  # a folder may be made later
            raise R21DError(f"{runs}: no such pack")
        return Path(runs)
    stat = Path(runs).stat()
    try:
        return _open_pack(str(runs), stat.st_mtime_ns, stat.st_size)
    except Exception as error:  # zipfile raises many kinds for damaged files
        raise R21DError(f"{runs}: a file, but not a pack ({error}); expected a folder of runs or a pack") from None


def find_run(runs: Path | str, spec: Spec) -> Run:
    """The run of `spec` in the folder or pack `runs`, begun or not; R21DError for a folder of another or no spec."""
    folder = open_runs(runs) / spec.folder
    path = folder / "spec.json"
    try:
        has_spec, has_checkpoint = path.exists(), (folder / "checkpoint.pt").exists()
    except PermissionError as error:  # the folder of somebody else may not be entered
        raise unreadable(folder, error) from error
    if has_spec and read_spec(path) != spec:
        raise R21DError(f"{path}: holds another spec than its folder's name says; move {folder} away")
    if has_checkpoint and not has_spec:
        raise R21DError(f"{path}: missing, so the spec of {folder} is unknown; move the folder away")
    return Run(spec, path.parent)


def find_runs(specs: Sequence[Spec], runs: Path | str = "runs") -> list[Run]:
    """The runs of `specs` in the folder `runs`, complete or not."""
    return [find_run(runs, spec) for spec in specs]


def load_runs(folder: Path | str) -> list[Run]:
    """All runs directly in the folder or pack `folder`, by name; raises R21DError for a spec that cannot be read.

    A run of a network that is unknown here, such as of another branch, is left out with a warning that names it.

    For example:

        >>> from r21d_core.runs.run import load_runs
        >>> runs = load_runs("results/demo.zip")
        >>> runs[0].scores.logits.shape  # (videos, clips, classes)
        >>> runs[0].history[-1]["train_loss"]  # of the last epoch
    """
    runs = []
    for path in spec_files(folder):
        try:
            runs.append(Run(read_spec(path), path.parent))
        except UnknownVariantError as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
    return runs


def spec_files(folder: Path | str) -> list[Path]:
    """The spec.json of each run directly in `folder`, a folder or a pack, by name; none where it does not exist.

    That of a folder which may not be entered is listed, for `read_spec` to say so. Raises R21DError where `folder`
    itself cannot be read.
    """
    try:
        root = open_runs(folder)
        inside = sorted(root.iterdir(), key=lambda path: path.name) if root.is_dir() else []
    except OSError as error:
        raise unreadable(Path(folder), error) from error
    return [path / "spec.json" for path in inside if _may_have_spec(path)]


def _may_have_spec(folder: Path) -> bool:
    try:
        return (folder / "spec.json").exists()
    except PermissionError:
        return True


def lock(run: Run) -> AbstractContextManager[None]:
    """Hold the run for this process alone; raises RunLockedError if another process keeps holding it."""
    if isinstance(run.folder, zipfile.Path):
        raise R21DError(f"{run.folder}: a pack is read only; train in a folder of runs")
    return locking.hold(run.folder, lambda: _checked_records(run))


def write_json(run: Run, name: str, content: dict) -> None:
    """Write `content` to the run's file `name`, atomically."""
    run.write(name, json.dumps(content, indent=1) + "\n")


def write_history(run: Run, history: list[dict]) -> None:
    """Write the whole history, so that after a crash it is the checkpoint's."""
    run.write("history.jsonl", "".join(json.dumps(line) + "\n" for line in history))


def write_trained_on(run: Run, groups: set[str]) -> None:
    """Write the recording groups, one a line; a line feed in a name becomes a carriage return, which none holds."""
    run.write(TRAINED_ON, "".join(group.replace("\n", "\r") + "\n" for group in sorted(groups)))


def write_scores(run: Run, scores: Scores) -> None:
    """Write the logits of the run, atomically."""
    run.write("scores.npz", encode_scores(scores))


def write_summary(run: Run, summary: dict) -> None:
    """Write the summary with the checksums of the run's records, which completes the run."""
    locking.restore(run.folder)
    run.write(SUMMARY, seal_summary(summary, _checked_records(run)))


def seal_summary(summary: dict, records: dict[str, bytes]) -> str:
    """The text of summary.json, with the SHA-256 of each of the `records` and of the summary itself."""
    checksums = {name: hashlib.sha256(records[name]).hexdigest() for name in CHECKED if name in records}
    summary = {**summary, "sha256": checksums}
    checksums[SUMMARY] = _checksum_of_summary(summary)
    return json.dumps(summary, indent=1) + "\n"


def check_history(path: Path, history: list[dict]) -> list[dict]:
    """Return `history`; raises R21DError unless epochs count from 1, have the same keys, and values are finite."""
    if not isinstance(history, list) or not all(isinstance(row, dict) for row in history):
        raise R21DError(f"{path}: expected an object per epoch as history; delete the file and run again")
    for number, row in enumerate(history, 1):
        if row.get("epoch") != number:
            raise R21DError(f"{path}: epoch {number} is missing or out of order; delete the file and run again")
        if differ := row.keys() ^ history[0].keys():
            raise R21DError(f"{path}: {min(differ)} is not in every epoch; delete the file and run again")
        for key, value in row.items():
            if type(value) not in (int, float) or not (abs(value) < 1e300 or key == "test_loss"):
                raise R21DError(f"{path}: {key} of epoch {number} is {value!r:.50}, expected a finite number")
    return history


def _checked_records(run: Run) -> dict[str, bytes]:
    return {name: (run.folder / name).read_bytes() for name in CHECKED if (run.folder / name).exists()}


@lru_cache(maxsize=8)
def _open_pack(path: str, modified: int, size: int) -> Path:
    return cast(Path, zipfile.Path(zipfile.ZipFile(path)))


@_once_in_pack
def read_spec(path: Path) -> Spec:
    """The Spec in the file `path`; raises R21DError naming it if it is damaged."""
    try:
        return Spec.from_json(path.read_text(encoding="utf-8"))
    except R21DError as error:
        raise type(error)(f"{path}: {error}; move {path.parent} away") from None
    except PermissionError as error:
        raise unreadable(path, error) from error
    except Exception as error:  # of zipfile, JSON and the values in it
        raise R21DError(f"{path}: half written or damaged ({error}); delete {path.parent} to train again") from error


def _checksum_of_summary(summary: dict) -> str:
    rest = {key: value for key, value in summary.items() if key != "sha256"}
    files = {name: value for name, value in summary["sha256"].items() if name != SUMMARY}
    return hashlib.sha256(json.dumps([rest, files], sort_keys=True).encode()).hexdigest()


def _parse(path: Path, content: bytes) -> dict:
    try:
        record = json.loads(content.decode())
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise R21DError(f"{path}: half written or damaged ({error}); delete it and run the experiment again") from error
    if not isinstance(record, dict):
        raise R21DError(f"{path}: expected JSON objects, found {type(record).__name__}; delete it and run again")
    return record
