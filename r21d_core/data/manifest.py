"""Manifests of data sets: a CSV file with one row a video, and a JSON card of the same name that describes the set."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import posixpath
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property, lru_cache
from itertools import chain
from operator import attrgetter
from pathlib import Path
from sys import intern
from typing import Any

from r21d_core import R21DError
from r21d_core.data.rows import INDEXED, read_rows, write_rows
from r21d_core.runs.files import write_atomically

SPLITS = ("train", "val", "test")
REQUIRED = ("video", "label", "split", "group")
FEW_RECORDINGS = 10  # the 95 % interval of an accuracy of 50 % is then ±38 points
_by_name = attrgetter("video")
required_cells, _all_cells = attrgetter(*REQUIRED), attrgetter(*REQUIRED, *INDEXED)  # of a video's row
# A lone carriage return is lost in CSV, half a surrogate pair (from a file name that is not UTF-8) in UTF-8.
UNWRITABLE = re.compile("[\r\ud800-\udfff]")


@dataclass(frozen=True)
class DatasetCard:
    """The description of a data set apart from its rows."""

    name: str
    classes: tuple[str, ...]  # in the order of the network's outputs
    source: str = ""
    licence: str = ""
    expected: dict[str, int] = field(default_factory=dict)  # videos a split, as published or as first listed
    root: str = "."  # the folder of the videos, relative to the manifest's folder or absolute
    families: dict[str, tuple[str, ...]] = field(default_factory=dict)  # named groups of related classes
    frame_rate: str = ""


@dataclass(slots=True, unsafe_hash=True)  # not to be changed; `frozen` would make it four times as slow to build
class Video:
    """One row. `group` is the recording that the video was cut from; a group must lie in one split."""

    video: str  # as in the CSV: a posix path relative to `root`
    root: Path
    label: str
    split: str
    group: str
    frames: int | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    file: Path | None = None  # read in place of the file below `root`, such as the video's optical flow

    @property
    def path(self) -> Path:
        """The file; made at each call, as a million Paths would take 500 MB."""
        return self.file or self.root / self.video

    @property
    def path_text(self) -> str:
        """The file as text, for what looks at all videos of a set, where Paths would take ten times as long."""
        return str(self.file or os.path.join(self.root, self.video))


@dataclass(frozen=True)
class Manifest:
    """A data set. The videos are sorted by name, whatever the order of the rows."""

    path: Path
    card: DatasetCard
    videos: tuple[Video, ...]

    @property
    def root(self) -> Path:
        """The folder that the names of the videos are relative to."""
        return _root(self.path, self.card)

    def split(self, split: str) -> tuple[Video, ...]:
        """The videos of `split`; raises R21DError if there are none."""
        videos = tuple(video for video in self.videos if video.split == split)
        if not videos:
            raise R21DError(f"{self.path}: no row has split {split!r}")
        return videos

    @cached_property  # every checkpoint has it, and 240,000 rows take 0.8 s
    def fingerprint(self) -> str:
        """SHA-256, in hex, of all that affects results: the classes and the rows, not their location."""
        digest = hashlib.sha256(f"[{json.dumps(self.card.classes)}, [".encode())
        for number, row in enumerate(self.videos):  # row by row, as a million take 300 MB
            cells = json.dumps([row.video, row.label, row.split, row.group, row.frames])
            digest.update(f"{', ' * (number > 0)}{cells}".encode())
        digest.update(b"]]")
        return digest.hexdigest()


def load_manifest(path: Path | str) -> Manifest:
    """Load the Manifest from a CSV file and the JSON card beside it.
    Raises R21DError, with file and line, for a missing file, card, column or cell, a video listed twice, a label
    that is not in the card, an unknown split, and a class that has videos in another split but none in train.
    """
    path, videos, lines = Path(path), [], array("q")
    rows = read_rows(path, REQUIRED)
    first = next(rows, None)  # a missing manifest is reported before a missing card
    card = _load_card(path.with_suffix(".json"))
    root = _root(path, card)
    with gc_disabled():  # its passes over a million rows take a fifth of the time, and find nothing
        for line, cells in chain([first] if first else [], rows):
            videos.append(_video(cells, root, path, line))
            lines.append(line)
    check_rows(path, card, videos, lines)
    videos.sort(key=_by_name)
    return Manifest(path, card, tuple(videos))


@contextmanager
def gc_disabled() -> Iterator[None]:
    """Collect no garbage in this context; afterwards the collector is enabled if it was before."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _root(path: Path, card: DatasetCard) -> Path:
    return (path.parent / os.path.expanduser(card.root)).resolve()  # Path.expanduser raises for an unknown user


def write_manifest(path: Path | str, card: DatasetCard, videos: Iterable[Video]) -> None:
    """Write `videos`, by name, to the CSV file `path`, and `card` beside it; raises R21DError as `load_manifest`.

    For example:

        >>> from pathlib import Path
        >>> from r21d_core.data.manifest import DatasetCard, Video, write_manifest
        >>> names = {"a.mp4": "train", "b.mp4": "test"}
        >>> videos = [Video(name, Path("videos"), "Archery", split, name) for name, split in names.items()]
        >>> write_manifest("data/new.csv", DatasetCard("new", ("Archery",), root="../videos"), videos)
    """
    path, videos = Path(path), sorted(videos, key=_by_name)
    check_rows(path, card, videos)
    indexed = INDEXED if any(getattr(video, name) is not None for video in videos for name in INDEXED) else ()
    write_atomically(path.with_suffix(".json"), json.dumps(asdict(card), indent=1, ensure_ascii=False) + "\n")
    write_rows(path, REQUIRED + indexed, map(_all_cells if indexed else required_cells, videos))


def write_new_manifest(path: Path, card: DatasetCard, videos: Iterable[Video]) -> None:
    """Write a manifest as `write_manifest`; the card takes the name of the file.
    Raises R21DError if another manifest has the name, such as one that has been checked or edited since, if its
    quarantine file exists, if NAME.json is no card, or if the name does not end in .csv. The same rows may be written
    again.
    """
    if path.suffix != ".csv":  # NAME.json would be the card, and other data sets are searched as NAME.csv beside it
        raise R21DError(f"{path}: expected the name of a manifest to end in .csv")
    card, videos = replace(card, name=path.stem), list(videos)
    advice, quarantine = "delete it, or write the new manifest elsewhere by --out", path.with_suffix(".quarantine.csv")
    if path.exists():
        try:
            manifest = load_manifest(path)
        except R21DError as error:
            raise R21DError(f"{path}: exists and is no manifest ({error}); {advice}") from None
        if manifest.root != _root(path, card):
            raise R21DError(f"{path}: exists, and lists the videos of {manifest.root}; {advice}")
        if list(map(_all_cells, manifest.videos)) != list(map(_all_cells, sorted(videos, key=_by_name))):
            raise R21DError(f"{path}: exists, and has been checked or edited, or other videos were there; {advice}")
    elif (card_path := path.with_suffix(".json")).exists():
        try:
            _load_card(card_path)
        except R21DError as error:
            raise R21DError(f"{card_path}: exists and is no card of a manifest ({error}); {advice}") from None
    if quarantine.exists():
        raise R21DError(f"{quarantine}: exists, and holds the bad videos of another manifest; {advice}")
    write_manifest(path, card, videos)


def split_counts(rows: Iterable) -> dict[str, int]:
    """The number of rows of each split, in the order of SPLITS, without empty splits; a row has a `split`."""
    counts = Counter(row.split for row in rows)
    return {split: counts[split] for split in SPLITS if counts[split]}


def describe_recordings(videos: Sequence[Video]) -> str:
    """Return a line with the number of recordings of each split, and a warning if few are tested on."""
    labels, parts, counts = {video.label for video in videos}, [], {}
    for split in split_counts(videos):
        groups = {(video.label, video.group) for video in videos if video.split == split}
        of_label = Counter(label for label, _ in groups)  # once, as Kinetics has 400 classes and 240,000 groups
        fewest = min(of_label[label] for label in labels)
        counts[split] = len({group for _, group in groups})
        parts.append(f"{counts[split]:,} {split} ({fewest} or more of each class)")
    line = f"recordings: {', '.join(parts)}"
    if (count := counts.get("test", 0)) >= FEW_RECORDINGS:
        return line
    return f"{line}\nWarning: with {count} test recordings, accuracies are uncertain by tens of points; add recordings."


def check_no_leaks(manifest: Manifest) -> None:
    """Raise R21DError, naming two rows, if a video or a group lies in two splits, whatever the label."""
    for key in ("video", "group"):
        first: dict[str, Video] = {}  # of the splits other than train, which are the smaller ones
        value_of = attrgetter(key)
        for video in sorted(manifest.videos, key=lambda video: video.split == "train"):
            value = value_of(video)
            match = first.get(value) if video.split == "train" else first.setdefault(value, video)
            if match and match.split != video.split:
                a, b = sorted((match, video), key=_by_name)
                where = f"{key} {value!r} is in {a.split} ({a.video}) and in {b.split} ({b.video})"
                what = "so the accuracy would be too high; put all of it in one split"
                raise R21DError(f"{manifest.path}: {where}, {what}")


def _load_card(path: Path) -> DatasetCard:
    try:
        values = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise R21DError(f"{path}: no such file; a manifest needs its card beside it") from None
    except (OSError, ValueError) as error:
        raise R21DError(f"{path}: expected a JSON card ({error})") from None
    known = [key.name for key in fields(DatasetCard)]
    for key in ("name", "classes"):
        if not isinstance(values, dict) or key not in values:
            raise R21DError(f"{path}: the card has no {key!r}; known: {', '.join(known)}")
    for key, value in values.items():
        if key not in known:
            raise R21DError(f"{path}: unknown key {key!r}; known: {', '.join(known)}")
        kind = {"classes": list, "expected": dict, "families": dict}.get(key, str)
        if not isinstance(value, kind):
            raise R21DError(f"{path}: {key!r} is {value!r}, expected a {kind.__name__}")
    if re.search(r"[/\\\x00]", values["name"]) or values["name"].strip() in ("", ".", ".."):
        raise R21DError(f"{path}: 'name' is {values['name']!r}, expected a name that a file can have")
    names = [values["classes"], *values.get("families", {}).values()]
    if not all(isinstance(listed, list) and all(isinstance(name, str) for name in listed) for listed in names):
        raise R21DError(f"{path}: expected names in quotation marks, in lists, as 'classes' and as each of 'families'")
    if unknown := {*chain(*names)} - {*values["classes"]}:
        raise R21DError(f"{path}: 'families' has {min(unknown)!r}, which is not among 'classes'")
    if any(type(count) is not int for count in values.get("expected", {}).values()):
        raise R21DError(f"{path}: 'expected' is {values['expected']!r}, expected a whole number for each split")
    families = {family: tuple(members) for family, members in values.get("families", {}).items()}
    return DatasetCard(**values | {"classes": tuple(values["classes"]), "families": families})


def _video(cells: tuple[str, ...], root: Path, path: Path, line: int) -> Video:
    name, label, split, group, *texts = cells
    try:
        numbers: list[Any] = list(map(_number, INDEXED, texts))
    except ValueError as error:
        raise R21DError(f"{path}, line {line}: {error}") from None
    return Video(name, root, intern(label), intern(split), name if group == name else group, *numbers)


@lru_cache(maxsize=10_000)  # equal cells share one object
def _number(name: str, text: str) -> int | float | None:
    try:
        number = (float if name == "fps" else int)(text) if text else None
    except ValueError:
        raise ValueError(f"{name} is {text!r}, expected a number") from None
    if number is not None and not 0 < number < float("inf"):
        raise ValueError(f"{name} is {text!r}, expected more than 0")
    return number


def check_rows(path: Path, card: DatasetCard, videos: Sequence[Video], lines: Sequence[int] = ()) -> None:
    """Raise R21DError if `load_manifest` would refuse these rows, which messages name by their `lines` or videos."""

    def location(index: int) -> str:
        return f"{path}, line {lines[index]}" if lines else f"{path}, {videos[index].video!r}"

    card_path = path.with_suffix(".json")
    classes = set(card.classes)
    if len(classes) != len(card.classes):
        raise R21DError(f"{card_path}: a class is listed twice")
    if unknown := set(card.expected) - set(SPLITS):
        raise R21DError(f"{card_path}: 'expected' has the split {min(unknown)!r}, expected one of {', '.join(SPLITS)}")
    if not videos:
        raise R21DError(f"{path}: lists no video")
    first_rows: dict[str, int] = {}
    valid = set()  # labels and splits, which repeat, are searched once
    trained = {video.label for video in videos if video.split == "train"}
    for index, video in enumerate(videos):
        for column in REQUIRED:
            cell = getattr(video, column)
            if cell in valid:
                continue
            if not cell.strip():
                raise R21DError(f"{location(index)}: column {column!r} is empty")
            if UNWRITABLE.search(cell):
                raise R21DError(f"{location(index)}: {column} {cell!r} has a character that CSV cannot hold; rename it")
        valid.update((video.label, video.split))
        if video.split not in SPLITS:
            raise R21DError(f"{location(index)}: split {video.split!r}, expected one of {', '.join(SPLITS)}")
        if video.label not in classes:
            raise R21DError(f"{location(index)}: label {video.label!r} is not among the classes of {card_path}")
        if trained and video.label not in trained:  # a set without training videos is for networks trained elsewhere
            what = f"class {video.label!r} is in {video.split}, and no video of it in train"
            raise R21DError(f"{location(index)}: {what}")
        name = posixpath.normpath(video.video)
        first = first_rows.setdefault(video.video if video.video == name else name, index)  # a name needs no copy
        if first != index:
            twice = f"{video.video!r} is listed twice ({location(first)}); keep one of the rows"
            raise R21DError(f"{location(index)}: {twice}")
