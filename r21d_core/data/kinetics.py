"""Kinetics-400, 600 and 700 by their official annotations, train.csv and validate.csv."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from r21d_core import R21DError
from r21d_core.data.dataset_cards import read_text, load_published_dataset
from r21d_core.data.official_splits import Listing, Row, find_lists, match_listing, open_folder

# The labels of the test set were held back, so the paper tests on the validation set, and so does everybody.
SIDES = {"train": "train", "val": "test", "validate": "test", "validation": "test", "test": None}
NEEDED = ("youtube_id", "time_start", "time_end", "split")
EDITIONS = (400, 600, 700)


def from_kinetics(
    directory: Path | str,
    *,
    annotations: Path | str | None = None,
    subset: Path | str | None = None,
) -> Listing:
    """The Listing of Kinetics; which one, the number of classes in the annotations says. Its validation set is `test`.

    `annotations` is one CSV file or the folder of several, with or without those of the test set, which are on no side;
    without one it is looked for in and beside `directory`. Videos are ID_000017_000027.mp4 or ID.mp4, ID being
    YouTube's, in folders of any name. A group is what has one ID.

    Raises R21DError as `match_listing` does, and for annotations that are missing or cannot be read.
    """
    root = open_folder(directory)
    rows = [row for file in _files(root, annotations) for row in _read(file)]
    classes = len({row.label for row in rows if row.split})
    if classes not in EDITIONS:
        raise R21DError(f"{root}: its annotations name {classes} classes, expected 400, 600 or 700; give them whole")
    names = defaultdict(set)
    for row in rows:
        names[row.group].add(row.name)
    # An ID alone is the one clip of that video; where several are listed, it says not which.
    named = {group: names.pop() for group, names in names.items() if len(names) == 1}
    about = load_published_dataset(f"kinetics-{classes}")
    return match_listing(root, about, rows, subset=subset, name_of=lambda name: named.get(name, name))


def _files(root: Path, annotations: Path | str | None) -> list[Path]:
    if annotations is not None and Path(annotations).expanduser().is_file():
        return [Path(annotations).expanduser()]
    folder = find_lists(root, annotations, "*val*.csv", "annotations")
    if folder is None:
        raise R21DError(
            f"{root}: no validate.csv in or beside it; say by --annotations where the official annotations are"
        )
    return sorted(file for file in folder.glob("*.csv") if file.stem.endswith(tuple(SIDES)))


def _read(file: Path) -> Iterator[Row]:
    """The rows of an annotation file, whose columns are in any order; those of a test set may have no label."""
    reader = csv.DictReader(read_text(file, "annotations of Kinetics").split("\n"))
    columns = reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
    if lacking := [name for name in NEEDED if name not in columns]:
        raise R21DError(f"{file}: no column {lacking[0]!r}; expected label, {', '.join(NEEDED)}")
    for cells in reader:
        try:
            split = SIDES[cells["split"].strip()]
            label, key = (cells["label"].strip() if split else ""), cells["youtube_id"].strip()
            start, end = int(float(cells["time_start"])), int(float(cells["time_end"]))
        except (KeyError, ValueError, TypeError, AttributeError):
            expected = f"a label, an id, two times in seconds and one of {', '.join(SIDES)}"
            raise R21DError(f"{file}, line {reader.line_num}: {cells}, expected {expected}") from None
        yield Row(f"{key}_{start:06d}_{end:06d}", label, split, key)
