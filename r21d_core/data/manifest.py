"""What a data set holds: a CSV with a row a video, beside it a JSON card of the same name that describes the set."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from r21d_core import R21DError
from r21d_core.runs.files import write_atomically
from r21d_core.study.experiments import VAL_SUFFIX

SPLITS = ("train", "val", "test")
REQUIRED = ("video", "label", "split", "group")
INDEXED = ("frames", "fps", "width", "height")  # filled in by `index.check`


@dataclass(frozen=True)
class DatasetCard:
    """What a data set is, apart from its rows."""

    name: str
    classes: tuple[str, ...]  # in the order of the network's outputs
    source: str = ""
    licence: str = ""
    expected: dict[str, int] = field(default_factory=dict)  # videos a split, as published or as first listed
    root: str = "."  # folder the rows' `video` begins at, from the manifest's own folder or absolute
    families: dict[str, tuple[str, ...]] = field(default_factory=dict)  # groups of classes that belong together
    frame_rate: str = ""


@dataclass(frozen=True)
class Video:
    """A row. `group` holds what was cut from one recording; it must not lie on both sides."""

    video: str  # as in the CSV: posix, from the card's root
    path: Path
    label: str
    split: str
    group: str
    frames: int | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True)
class Manifest:
    """A data set. The videos are in the order of their names, whatever the order of the rows."""

    path: Path
    card: DatasetCard
    videos: tuple[Video, ...]

    @property
    def root(self) -> Path:
        """The folder that its rows' `video` begin at."""
        return _root(self.path, self.card)

    def split(self, split: str) -> tuple[Video, ...]:
        """The videos of `split`; raises R21DError if there are none."""
        videos = tuple(video for video in self.videos if video.split == split)
        if not videos:
            raise R21DError(f"{self.path}: no row has split {split!r}")
        return videos

    def label_index(self, video: Video) -> int:
        """The class number of `video`."""
        return self.card.classes.index(video.label)

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of what changes results: classes and rows, not where they lie on this machine."""
        rows = [[row.video, row.label, row.split, row.group, row.frames] for row in self.videos]
        return hashlib.sha256(json.dumps([self.card.classes, rows]).encode()).hexdigest()


def load_manifest(path: Path | str) -> Manifest:
    """The Manifest at `path`, a CSV file with its JSON card beside it.

    Raises R21DError, with file and line, for a missing file, card, column or cell, a video listed twice, a label
    that is not in the card, an unknown split, and a class that is to be tested but not trained.
    """
    path = Path(path)
    cells_of = list(read_rows(path, REQUIRED))
    card = _load_card(path.with_suffix(".json"))
    root = _root(path, card)
    rows = [(f"{path}, line {line}", _video(cells, root, path, line)) for line, cells in cells_of]
    _refuse_faults(path, card, rows)
    return Manifest(path, card, tuple(sorted((video for _, video in rows), key=_name)))


def _root(path: Path, card: DatasetCard) -> Path:
    return (path.parent / Path(card.root).expanduser()).resolve()


def write_manifest(path: Path | str, card: DatasetCard, videos: Iterable[Video]) -> None:
    """Write `videos`, in the order of their names, to the CSV at `path`, and `card` beside it.

    Raises R21DError, and writes nothing, for what `load_manifest` would refuse.
    """
    path = Path(path)
    videos = sorted(videos, key=_name)
    validate_rows(path, card, videos)
    indexed = INDEXED if any(getattr(video, name) is not None for video in videos for name in INDEXED) else ()
    write_atomically(path.with_suffix(".json"), json.dumps(asdict(card), indent=1, ensure_ascii=False) + "\n")
    write_rows(path, REQUIRED + indexed, (vars(video) for video in videos))


def validate_rows(path: Path, card: DatasetCard, videos: Iterable[Video]) -> None:
    """Raise R21DError if `load_manifest` would refuse these rows."""
    _refuse_faults(path, card, [(f"{path}, {video.video!r}", video) for video in videos])


def check_no_leaks(manifest: Manifest) -> None:
    """Raise R21DError, naming two rows, if a video or a group lies on two sides.

    A group is known by its name alone, whatever the label: groups that are numbered class by class, as in UCF101,
    must carry the class in their name.
    """
    for what in ("video", "group"):
        first: dict[str, Video] = {}
        for video in manifest.videos:
            other = first.setdefault(getattr(video, what), video)
            if other.split != video.split:
                raise R21DError(
                    f"{manifest.path}: {what} {getattr(video, what)!r} is in {other.split} ({other.video}) and in "
                    f"{video.split} ({video.video}), so the result would be too good; put all of it on one side"
                )


def read_rows(path: Path, required: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of each row of a CSV file; blank lines are passed over.

    Raises R21DError, with the line, for a column or cell of `required` that is missing and for a column unknown.
    """
    try:
        text = path.read_text("utf-8-sig")  # spreadsheets put a byte-order mark first
    except FileNotFoundError:
        how = "` writes one from a folder of videos"
        if path.stem.endswith(VAL_SUFFIX):
            how = f" validation {path.with_stem(path.stem.removesuffix(VAL_SUFFIX))}` writes it"
        # Whole, as a notebook looks from notebooks/ and a command from where it is given.
        raise R21DError(f"{os.path.abspath(path)}: no such file; `r21d manifest{how}") from None
    except IsADirectoryError:
        raise R21DError(f"{path}: is a folder, expected a manifest; `r21d manifest folder {path}` makes one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise R21DError(f"{path}: expected a CSV file in UTF-8 ({error})") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if columns is None:
                columns = _columns(path, cells, required)
                continue
            if len(cells) != len(columns):
                raise R21DError(f"{path}, line {reader.line_num}: {len(cells)} cells, expected {len(columns)}")
            row = dict(zip(columns, cells, strict=True))
            if empty := [name for name in required if not row[name].strip()]:
                raise R21DError(f"{path}, line {reader.line_num}: column {empty[0]!r} is empty")
            yield reader.line_num, row
    except csv.Error as error:
        raise R21DError(f"{path}, line {reader.line_num}: not CSV ({error})") from None
    if columns is None:
        raise R21DError(f"{path}: the file is empty; expected columns {', '.join(required)}")


def write_rows(path: Path, columns: tuple[str, ...], rows: Iterable[dict]) -> None:
    """Write `columns` of `rows` as a CSV file, whole or not at all; None becomes an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def _name(video: Video) -> str:
    return video.video


def _columns(path: Path, cells: list[str], required: tuple[str, ...]) -> list[str]:
    columns = [cell.strip() for cell in cells]
    if missing := [name for name in required if name not in columns]:
        raise R21DError(f"{path}, line 1: no column {missing[0]!r}; expected {', '.join(required)}")
    known = {*required, *INDEXED}
    if odd := [name for name in columns if name not in known or columns.count(name) > 1]:
        raise R21DError(f"{path}, line 1: column {odd[0]!r} is unknown or there twice; known: {', '.join(known)}")
    return columns


def _load_card(path: Path) -> DatasetCard:
    try:
        told = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise R21DError(f"{path}: no such file; a manifest needs its card beside it") from None
    except (OSError, ValueError) as error:
        raise R21DError(f"{path}: expected a JSON card ({error})") from None
    known = [key.name for key in fields(DatasetCard)]
    for key in ("name", "classes"):
        if not isinstance(told, dict) or key not in told:
            raise R21DError(f"{path}: the card has no {key!r}; known: {', '.join(known)}")
    for key, value in told.items():
        if key not in known:
            raise R21DError(f"{path}: unknown key {key!r}; known: {', '.join(known)}")
        kind = {"classes": list, "expected": dict, "families": dict}.get(key, str)
        if not isinstance(value, kind):
            raise R21DError(f"{path}: {key!r} is {value!r}, expected a {kind.__name__}")
    families = {family: tuple(members) for family, members in told.get("families", {}).items()}
    return DatasetCard(**told | {"classes": tuple(told["classes"]), "families": families})


def _video(cells: dict[str, str], root: Path, path: Path, line: int) -> Video:
    numbers: dict[str, int | float | None] = {}
    for name in INDEXED:
        kind, text = (float if name == "fps" else int), cells.get(name, "")
        try:
            numbers[name] = kind(text) if text else None
        except ValueError:
            raise R21DError(f"{path}, line {line}: {name} is {text!r}, expected a number") from None
        if numbers[name] is not None and not 0 < numbers[name] < float("inf"):
            raise R21DError(f"{path}, line {line}: {name} is {text!r}, expected more than 0")
    return Video(path=root / cells["video"], **{name: cells[name] for name in REQUIRED}, **numbers)


def _refuse_faults(path: Path, card: DatasetCard, rows: list[tuple[str, Video]]) -> None:
    classes, described = set(card.classes), path.with_suffix(".json")
    if len(classes) != len(card.classes):
        raise R21DError(f"{described}: a class is there twice")
    if odd := set(card.expected) - set(SPLITS):
        raise R21DError(f"{described}: videos are expected of {min(odd)!r}, which is none of {', '.join(SPLITS)}")
    if not rows:
        raise R21DError(f"{path}: lists no video")
    first: dict[str, str] = {}
    for where, video in rows:
        _refuse_cells(where, video)
        if video.split not in SPLITS:
            raise R21DError(f"{where}: split {video.split!r}, expected one of {', '.join(SPLITS)}")
        if video.label not in classes:
            raise R21DError(f"{where}: label {video.label!r} is not among the classes of {described}")
        name = posixpath.normpath(video.video)
        if name in first:
            raise R21DError(f"{where}: {video.video!r} is there already ({first[name]}); keep one of the two rows")
        first[name] = where
    trained = {video.label for _, video in rows if video.split == "train"}
    for where, video in rows:  # a set without any training side is for networks trained elsewhere
        if trained and video.label not in trained:
            raise R21DError(f"{where}: class {video.label!r} is in {video.split}, and no video of it is in train")


def _refuse_cells(where: str, video: Video) -> None:
    for name in REQUIRED:
        cell = getattr(video, name)
        if not cell.strip():
            raise R21DError(f"{where}: {name} is empty")
        # A lone carriage return does not survive in CSV, nor does half a character from a foreign file name in UTF-8.
        if "\r" in cell or any("\ud800" <= letter <= "\udfff" for letter in cell):
            raise R21DError(f"{where}: {name} {cell!r} has a character that cannot be written; rename it")
