"""UCF101 by its official lists, such as trainlist01.txt, or by its group numbers, which give the same splits."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from r21d_core import R21DError
from r21d_core.data.dataset_cards import load_published_dataset, read_text
from r21d_core.data.official_splits import Listing, Row, find_lists, match_listing, open_folder, videos_below

NAME = re.compile(r"v_\w+_g(\d\d)_c\d\d")
TEST_GROUPS = 7  # of each class: groups 1–7, 8–14 or 15–21 of 25


def from_ucf101(
    directory: Path | str, *, split: int = 1, annotations: Path | str | None = None, subset: Path | str | None = None
) -> Listing:
    """The Listing of UCF101 by official split 1, 2 or 3; a group is a class and a group number, as in `_g01_`.

    `annotations` is the folder of trainlist01.txt and so on; by default it is searched for in and beside `directory`.
    Without lists the groups on disk are split by their numbers, as the lists do.

    Raises R21DError as `match_listing` does, for another split, and for an unreadable list.
    """
    if split not in (1, 2, 3):
        raise R21DError(f"split is {split}; UCF101 has the splits 1, 2 and 3")
    root, dataset = open_folder(directory), load_published_dataset("ucf101")
    folder = find_lists(root, annotations, f"trainlist0{split}.txt", "ucfTrainTestlist", "splits")
    if folder is None:
        listing = match_listing(root, dataset, _rows_by_group(root, split), subset=subset, suffix=f"split{split}")
        return replace(listing, notes=("split by group number: without lists, missing videos have no names",))
    rows = [row for part in ("train", "test") for row in _read(folder / f"{part}list0{split}.txt", part)]
    return match_listing(root, dataset, rows, subset=subset, suffix=f"split{split}")


def _read(file: Path, split: str) -> list[Row]:
    """The rows of a list, whose lines are such as `Archery/v_Archery_g08_c01.avi 3`."""
    rows = []
    for number, line in enumerate(read_text(file, "a list of UCF101TrainTestSplits").split("\n"), 1):
        if line.strip():
            label, _, name = line.split()[0].partition("/")
            group = NAME.fullmatch(Path(name).stem)
            if not group:
                raise R21DError(f"{file}, line {number}: {line!r}, expected CLASS/v_CLASS_g01_c01.avi")
            rows.append(Row(Path(name).stem, label, split, f"{label}_g{group[1]}"))
    return rows


def _rows_by_group(root: Path, split: int) -> list[Row]:
    test_groups = range(TEST_GROUPS * (split - 1) + 1, TEST_GROUPS * split + 1)
    rows = []
    for path in map(PurePosixPath, videos_below(root)):
        if group := NAME.fullmatch(path.stem):
            # The label is the folder's name: files of HandstandPushups are spelt v_HandStandPushups.
            label, part = path.parent.name, "test" if int(group[1]) in test_groups else "train"
            rows.append(Row(path.stem, label, part, f"{label}_g{group[1]}"))
    if not rows:
        raise R21DError(f"{root}: no video of UCF101; expected {root.name}/Archery/v_Archery_g01_c01.avi and so on")
    return rows
