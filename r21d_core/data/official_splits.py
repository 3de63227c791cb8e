"""Matches the videos on disk with those that official lists name, and reports which are missing."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import NamedTuple, NoReturn

from tqdm.auto import tqdm

from r21d_core import R21DError
from r21d_core.data.dataset_cards import PublishedDataset
from r21d_core.data.decode import probe
from r21d_core.data.manifest import DatasetCard, Video, split_counts

EXTENSIONS = (
    ".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ts", ".webm",
    ".wmv",
)  # fmt: skip
MAX_NAMES = 3  # in a message; the Listing has all of them


class Row(NamedTuple):
    """A video of the lists. `name` is its file name without extension."""

    name: str
    label: str
    split: str | None  # None: listed in no split
    group: str


@dataclass(frozen=True)
class Listing:
    """The contents of a data set's folder, for `write_manifest(path, listing.card, listing.videos)`."""

    card: DatasetCard  # `expected` counts the listed videos, on disk or not
    videos: tuple[Video, ...]  # on disk and listed
    missing: tuple[str, ...] = ()  # listed and not on disk, as CLASS/NAME; empty without lists
    extra: tuple[str, ...] = ()  # on disk and not listed, relative to the card's root
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        listed = sum(self.card.expected.values())  # without lists, as many as there are
        counts = [f"listed {listed:,}", f"on disk {len(self.videos):,}"]
        if listed != len(self.videos):
            counts.append(f"missing {listed - len(self.videos):,}{examples(self.missing)}")
        if self.extra:
            counts.append(f"not listed {len(self.extra):,}{examples(self.extra)}")
        return "\n".join([", ".join(counts), *self.notes])


def match_listing(
    root: Path, dataset: PublishedDataset, rows: Iterable[Row], *, labels: tuple[str, ...] | None = None,
    subset: Path | str | None = None, suffix: str = "", name_of: Callable[[str], str] = str,
) -> Listing:  # fmt: skip
    """The Listing of the videos at any depth below `root` that `rows` name, whatever their extensions.

    `labels` are the classes in the order of the outputs, by default alphabetical; `name_of` maps a file name without
    extension to the name in the lists. A training video whose group is also in test is left out.

    Raises R21DError if no listed video is on disk, if one is there twice, if a class has no training video while others
    have, and if the lists name a part of the classes and `subset` is not given.
    """
    rows = list(rows)
    labels = labels or tuple(sorted({row.label for row in rows if row.split}))
    if not subset and len(labels) != dataset.classes:
        what = f"{len(labels)} of the {dataset.classes} classes of {dataset.name} are on disk or listed"
        raise R21DError(f"{root}: {what}; download the others, or choose classes {dataset.choice}")
    subset_name, classes = dataset.choose(subset, labels) if subset else ("", labels)
    chosen = set(classes)
    listed, notes = _drop_leaks([row for row in rows if row.split and row.label in chosen])
    paths, extra = _find_videos(root, {row.name for row in rows}, name_of, notes)
    on_disk = [row for row in listed if row.name in paths]
    videos = tuple(Video(paths[row.name], root, row.label, row.split or "", row.group) for row in on_disk)
    if not videos:
        what = f"none of the {len(listed):,} videos listed{examples([row.name for row in listed])}"
        raise R21DError(f"{root}: holds {what}; expected the folder of {dataset.name} with these file names")
    trained = {video.label for video in videos if video.split == "train"}
    if trained and (absent := [label for label in classes if label not in trained]):  # outputs of no use otherwise
        what = f"no training video of {len(absent)} of the {len(classes)} classes{examples(absent)}"
        raise R21DError(f"{root}: {what}; download them, or choose classes {dataset.choice}")
    name = "-".join(word for word in (dataset.name, subset_name, suffix) if word)
    counts = split_counts(listed)
    expected = counts | {split: count for split, count in dataset.expected.get(name, {}).items() if split in counts}
    if expected != counts:
        named, published = (
            ", ".join(f"{n:,} {split}" for split, n in numbers.items()) for numbers in (counts, expected)
        )
        notes.append(f"the lists name {named}, where {published} are published: check that they are complete")
    missing = tuple(f"{row.label}/{row.name}" for row in listed if row.name not in paths)
    card = DatasetCard(
        name, classes, dataset.source, dataset.licence, expected, str(root), frame_rate=dataset.frame_rate
    )
    return Listing(card, videos, missing, tuple(extra), tuple(notes))


def open_folder(directory: Path | str) -> Path:
    """The absolute path of a folder of videos; raises R21DError if it is not a folder."""
    root = Path(directory).expanduser().resolve()
    if not root.is_dir():
        raise R21DError(f"{root}: {'not a folder' if root.exists() else 'no such folder'}; expected a folder of videos")
    return root


def files_below(root: Path, hidden: list[PurePosixPath] | None = None) -> Iterator[PurePosixPath]:
    """Yield the files at any depth below `root`, relative to it; hidden ones are skipped, links are followed, but not
    to a folder that the link lies in. What takes longer than a second has a progress bar.

    The videos among the hidden files, whose names begin with a dot, are added to `hidden`; hidden folders are not
    entered.
    """
    with tqdm(desc=f"listing {root}", unit=" files", leave=False, delay=1) as bar:
        for folder, folders, files in os.walk(root, onerror=_raise_unlistable, followlinks=True):
            folders[:] = sorted(name for name in folders if not (name.startswith(".") or _is_loop(Path(folder, name))))
            parent = PurePosixPath(Path(folder).relative_to(root))
            for file in sorted(files):
                if not file.startswith("."):
                    yield parent / file
                elif hidden is not None and is_video(parent / file):
                    hidden.append(parent / file)
            bar.update(len(files))


def _is_loop(folder: Path) -> bool:
    return folder.is_symlink() and any(folder.samefile(parent) for parent in folder.absolute().parents)


def is_video(path: PurePath) -> bool:
    """Whether the file has an extension of a video."""
    return path.suffix.lower() in EXTENSIONS


def list_videos(paths: Iterable[Path]) -> list[Path]:
    """The files among `paths`, and the videos at any depth below the folders among them; each once.

    Raises R21DError for a folder without videos.
    """
    videos: dict[Path, None] = {}
    for path in paths:
        below = [path / video for video in filter(is_video, files_below(path))] if path.is_dir() else [path]
        if not below:
            raise R21DError(f"{path}: no videos in this folder; expected one of the extensions {' '.join(EXTENSIONS)}")
        videos |= dict.fromkeys(below)
    return list(videos)


def find_lists(root: Path, annotations: Path | str | None, pattern: str, *subfolders: str) -> Path | None:
    """The folder of the official lists: `annotations`, else the first that holds a file like `pattern`, or None.
    Searched are `root`, its parent, and the `subfolders` of both. Raises R21DError if `annotations` holds no such file.
    """
    if annotations is not None:
        folder = Path(annotations).expanduser()
        if not any(folder.glob(pattern)):
            raise R21DError(f"{folder}: holds no {pattern}; expected the folder of the official lists")
        return folder
    folders = [parent / name for parent in (root, root.parent) for name in (".", *subfolders)]
    return next((folder for folder in folders if any(folder.glob(pattern))), None)


def _drop_leaks(rows: list[Row]) -> tuple[list[Row], list[str]]:
    """The first row of each name, without training rows whose group is in test; and notes about the others."""
    test_groups = {row.group for row in rows if row.split == "test"}
    first: dict[str, Row] = {}
    leaks, relabeled = [], []
    for row in rows:
        if row.split == "train" and row.group in test_groups:
            leaks.append(row.name)
        elif first.setdefault(row.name, row).label != row.label:
            relabeled.append(row.name)
    notes = {
        "listed in train and left out, as the recording is also in test": leaks,
        "listed again with another label; the first one is used": relabeled,
    }
    return list(first.values()), [f"{note}: {len(names):,}{examples(names)}" for note, names in notes.items() if names]


def _find_videos(
    root: Path, names: set[str], name_of: Callable[[str], str], notes: list[str]
) -> tuple[dict[str, str], list[str]]:
    """The path below `root` of each of the names, and the videos with other names; replacements go to `notes`."""
    paths, extra = defaultdict(list), []
    for path in filter(is_video, files_below(root)):
        name = name_of(path.stem)
        (paths[name] if name in names else extra).append(str(path))
    twice = {name: copies for name, copies in paths.items() if len(copies) > 1}
    # As Kinetics' replacement_for_corrupted_k400: where a copy lies in such a folder, the one that decodes is taken.
    replaced = [name for name, copies in twice.items() if any(map(_is_replacement, copies))]
    for name in replaced:
        copies = sorted(twice.pop(name), key=_is_replacement)
        paths[name] = [next((path for path in copies if _decodes(root / path)), copies[0])]
    if twice:
        copies = [f"{root / first}: also present as {', '.join(others)}" for first, *others in twice.values()]
        raise R21DError("\n".join([*copies, "keep one of each"]))
    if replaced:
        note = "with a replacement; the first one that decodes is used"
        notes.append(f"{note}: {len(replaced):,}{examples(replaced)}")
    return {name: copies[0] for name, copies in paths.items()}, extra


def _is_replacement(path: str) -> bool:
    return any(part.startswith("replacement") for part in PurePosixPath(path).parts)


def _decodes(path: Path) -> bool:
    try:
        return probe(path).frames > 0
    except R21DError:
        return False


def _raise_unlistable(error: OSError) -> NoReturn:
    """Raise R21DError for a folder that cannot be listed."""
    raise R21DError(f"{error.filename}: could not be listed ({error.strerror}); change its permissions") from error


def examples(names: Iterable[str]) -> str:
    """Some of the names in parentheses, for a message."""
    names = list(names)
    such_as = "such as " if len(names) > MAX_NAMES else ""
    return f" ({such_as}{', '.join(names[:MAX_NAMES])})" if names else ""
