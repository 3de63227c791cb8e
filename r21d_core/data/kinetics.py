"""Kinetics-400, 600 and 700 by their official annotations, train.csv and validate.csv."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from r21d_core import R21DError
from r21d_core.data.dataset_cards import load_published_dataset, read_text
from r21d_core.data.official_splits import Listing, Row, find_lists, match_listing, open_folder

# The labels of the test set are not public, so the validation set is tested, as in the paper.
SPLITS = {"train": "train", "val": "test", "validate": "test", "validation": "test", "test": None}
NEEDED = ("youtube_id", "time_start", "time_end", "split")
EDITIONS = (400, 600, 700)


def from_kinetics(
    directory: Path | str, *, annotations: Path | str | None = None, subset: Path | str | None = None
) -> Listing:
    """The Listing of Kinetics; the number of classes in the annotations says which. Its validation set is `test`.

    `annotations` is a CSV file or a folder of them; by default the folder is searched for in and beside `directory`.
    The test set is left out. Videos are named ID_000017_000027.mp4 or ID.mp4 by their YouTube ID, in folders of any
    name. A group is the clips of one ID.

    Raises R21DError as `match_listing` does, and for missing or unreadable annotations.
    """
    root = open_folder(directory)
    rows = [row for file in _files(root, annotations) for row in _read(file)]
    classes = len({row.label for row in rows if row.split})
    if classes not in EDITIONS:
        raise R21DError(f"{root}: the annotations name {classes} classes, expected 400, 600 or 700; give all of them")
    names = defaultdict(set)
    for row in rows:
        names[row.group].add(row.name)
    # A file named by its ID alone is a video's only clip; where several clips are listed it is ambiguous.
    only_clip = {group: clips.pop() for group, clips in names.items() if len(clips) == 1}
    dataset = load_published_dataset(f"kinetics-{classes}")
    return match_listing(root, dataset, rows, subset=subset, name_of=lambda name: only_clip.get(name, name))


def _files(root: Path, annotations: Path | str | None) -> list[Path]:
    if annotations is not None and Path(annotations).expanduser().is_file():
        return [Path(annotations).expanduser()]
    folder = find_lists(root, annotations, "*val*.csv", "annotations")
    if folder is None:
        raise R21DError(
            f"{root}: no validate.csv in or beside it; name the folder of the official annotations by --annotations"
        )
    return sorted(file for file in folder.glob("*.csv") if file.stem.endswith(tuple(SPLITS)))


def _read(file: Path) -> Iterator[Row]:
    """Yield the rows of an annotation file, whose columns are in any order; test rows may lack a label."""
    reader = csv.DictReader(read_text(file, "annotations of Kinetics").split("\n"))
    columns = reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
    if lacking := [name for name in NEEDED if name not in columns]:
        raise R21DError(f"{file}: no column {lacking[0]!r}; expected label, {', '.join(NEEDED)}")
    for cells in reader:
        try:
            split = SPLITS[cells["split"].strip()]
            label, key = (cells["label"].strip() if split else ""), cells["youtube_id"].strip()
            start, end = int(float(cells["time_start"])), int(float(cells["time_end"]))
        except (KeyError, ValueError, TypeError, AttributeError):
            expected = f"a label, an id, two times in seconds and one of {', '.join(SPLITS)}"
            raise R21DError(f"{file}, line {reader.line_num}: {cells}, expected {expected}") from None
        yield Row(f"{key}_{start:06d}_{end:06d}", label, split, key)
