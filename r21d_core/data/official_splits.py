"""What official lists name against what is on disk: videos vanish from such sets, so what is gone is told."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from r21d_core import R21DError
from r21d_core.data.dataset_cards import PublishedDataset
from r21d_core.data.manifest import SPLITS, DatasetCard, Video

EXTENSIONS = (".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")
SHOWN = 3  # names in a message; all of them are in the Listing


class Row(NamedTuple):
    """A video of the lists. `name` is its file's without ending."""

    name: str
    label: str
    split: str | None  # None: listed, and on no side
    group: str


@dataclass(frozen=True)
class Listing:
    """A data set as a folder holds it, for `write_manifest(path, listing.card, listing.videos)`."""

    card: DatasetCard  # its `expected` counts what is listed, on disk or not
    videos: tuple[Video, ...]  # on disk and listed
    missing: tuple[str, ...] = ()  # listed and not on disk, CLASS/NAME; without lists nobody knows their names
    extra: tuple[str, ...] = ()  # on disk and not listed, from the card's root
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        listed = sum(self.card.expected.values())
        told = [f"listed {listed:,}", f"on disk {len(self.videos):,}"]
        if listed != len(self.videos):
            told.append(f"missing {listed - len(self.videos):,}{_such_as(self.missing)}")
        if self.extra:
            told.append(f"not listed {len(self.extra):,}{_such_as(self.extra)}")
        return "\n".join([", ".join(told), *self.notes])


def match_listing(
    root: Path,
    about: PublishedDataset,
    rows: Iterable[Row],
    *,
    labels: tuple[str, ...] | None = None,
    subset: Path | str | None = None,
    suffix: str = "",
    name_of: Callable[[str], str] = str,
) -> Listing:
    """The Listing of the videos anywhere below `root` by the `rows` of the lists, found whatever their ending.

    `labels` are the classes in the order of the network's outputs, by default that of the alphabet; `name_of` gives
    the name in the lists for that of a file. A training video whose group is tested as well is left out.

    Raises R21DError if no listed video is there, if one is there twice, if there are videos to train on, but none of
    some class, and if the lists are of a part of the classes and no `subset` says so.
    """
    rows = list(rows)
    labels = labels or tuple(sorted({row.label for row in rows if row.split}))
    if not subset and len(labels) != about.classes:
        what = f"{len(labels)} of the {about.classes} classes of {about.name} are there or listed"
        raise R21DError(f"{root}: {what}; fetch the others, or name those that are wanted {about.choice}")
    part, chosen = about.choose(subset, labels) if subset else ("", labels)
    wanted = set(chosen)
    listed, notes = _without_leaks([row for row in rows if row.split and row.label in wanted])
    found, extra = _find(root, {row.name for row in rows}, name_of)
    videos = [Video(found[row.name], root / found[row.name], *row[1:]) for row in listed if row.name in found]
    if not videos:
        what = f"none of the {len(listed):,} videos listed{_such_as([row.name for row in listed])}"
        raise R21DError(f"{root}: holds {what}; expected the folder of {about.name}, its files named so")
    _refuse_absent(root, about, chosen, videos)
    name = "-".join(word for word in (about.name, part, suffix) if word)
    counts = split_counts(listed)
    expected = counts | {side: count for side, count in about.expected.get(name, {}).items() if side in counts}
    if expected != counts:
        notes.append(f"the lists name {_sides(counts)}, where {_sides(expected)} are published: are they whole?")
    missing = tuple(f"{row.label}/{row.name}" for row in listed if row.name not in found)
    card = DatasetCard(name, chosen, about.source, about.licence, expected, str(root), frame_rate=about.frame_rate)
    return Listing(card, tuple(videos), missing, tuple(extra), tuple(notes))


def open_folder(directory: Path | str) -> Path:
    """The absolute path of a folder of videos; raises R21DError if it is none."""
    root = Path(directory).expanduser().resolve()
    if not root.is_dir():
        raise R21DError(f"{root}: {'not a folder' if root.exists() else 'no such folder'}; expected a folder of videos")
    return root


def videos_below(root: Path) -> Iterator[str]:
    """The videos at any depth below `root`, from there; what is hidden is passed over, links are followed."""
    for folder, folders, files in os.walk(root, onerror=_refuse_locked, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        within = Path(folder).relative_to(root)
        for file in sorted(files):
            if not file.startswith(".") and os.path.splitext(file)[1].lower() in EXTENSIONS:
                yield (within / file).as_posix()


def find_lists(root: Path, lists: Path | str | None, pattern: str, *usual: str) -> Path | None:
    """The folder of lists that was given, else the first that holds `pattern` of `root`, the one above, and, in both,
    the `usual` ones; None without any.

    Raises R21DError if the one that was given holds none.
    """
    if lists is not None:
        folder = Path(lists).expanduser()
        if not any(folder.glob(pattern)):
            raise R21DError(f"{folder}: holds no {pattern}; expected the folder of the official lists")
        return folder
    places = [above / name for above in (root, root.parent) for name in (".", *usual)]
    return next((place for place in places if any(place.glob(pattern))), None)


def split_counts(videos: Iterable[Row | Video]) -> dict[str, int]:
    """Videos a side, in the order of SPLITS; sides without any are left out."""
    counts = Counter(video.split for video in videos)
    return {split: counts[split] for split in SPLITS if counts[split]}


def _without_leaks(rows: list[Row]) -> tuple[list[Row], list[str]]:
    """The rows without those to train on whose group is tested, the first of each name; what there is to tell."""
    tested = {row.group for row in rows if row.split == "test"}
    first: dict[str, Row] = {}
    leaks, again = [], []
    for row in rows:
        if row.split == "train" and row.group in tested:
            leaks.append(row.name)
        elif first.setdefault(row.name, row).label != row.label:
            again.append(row.name)
    told = {
        "listed to train on, and left out, as the recording is tested too": leaks,
        "listed again with another label, and the first is taken": again,
    }
    return list(first.values()), [f"{what}: {len(names):,}{_such_as(names)}" for what, names in told.items() if names]


def _find(root: Path, names: set[str], name_of: Callable[[str], str]) -> tuple[dict[str, str], list[str]]:
    """Where each of the names lies below `root`, and which videos have another name."""
    found: dict[str, str] = {}
    extra = []
    for path in videos_below(root):
        name = name_of(PurePosixPath(path).stem)
        if name not in names:
            extra.append(path)
        elif found.setdefault(name, path) != path:
            raise R21DError(f"{root / path}: is there as {found[name]} too; keep one of the two")
    return found, extra


def _refuse_locked(error: OSError) -> None:
    raise R21DError(f"{error.filename}: could not be listed ({error.strerror}); mend its permissions") from error


def _refuse_absent(root: Path, about: PublishedDataset, labels: tuple[str, ...], videos: list[Video]) -> None:
    """Raise R21DError if there are videos to train on, but none of some class.

    The network would have an output for it, and its videos would count as wrong. A set that is tested only needs none.
    """
    trained = {video.label for video in videos if video.split == "train"}
    if trained and (absent := [label for label in labels if label not in trained]):
        what = f"no video to train on of {len(absent)} of the {len(labels)} classes{_such_as(absent)}"
        raise R21DError(f"{root}: {what}; fetch them, or name the classes that are wanted {about.choice}")


def _such_as(names: Iterable[str]) -> str:
    names = list(names)
    return f" (such as {', '.join(names[:SHOWN])})" if len(names) > SHOWN else f" ({', '.join(names)})" if names else ""


def _sides(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in counts.items())
