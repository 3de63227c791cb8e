"""UCF101 by its official lists, trainlist01.txt and its like; or by the rule of groups, which gives the same."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from r21d_core import R21DError
from r21d_core.data.dataset_cards import read_text, load_published_dataset
from r21d_core.data.official_splits import Listing, Row, find_lists, match_listing, open_folder, videos_below

NAME = re.compile(r"v_\w+_g(\d\d)_c\d\d")
TESTED = 7  # groups of each class in a test list: 1–7, 8–14 or 15–21 of 25


def from_ucf101(
    directory: Path | str,
    *,
    split: int = 1,
    annotations: Path | str | None = None,
    subset: Path | str | None = None,
) -> Listing:
    """The Listing of UCF101 by official split 1, 2 or 3; a group is what the dataset calls one, `_g01_` of a class.

    `lists` is the folder of trainlist01.txt and its like; without one it is looked for in and beside `directory`, and
    without any the groups of what is there are divided as the lists do.

    Raises R21DError as `match_listing` does, for another split, and for a list that cannot be read.
    """
    if split not in (1, 2, 3):
        raise R21DError(f"split {split} was asked for; UCF101 has 1, 2 and 3")
    root, about = open_folder(directory), load_published_dataset("ucf101")
    folder = find_lists(root, annotations, f"trainlist0{split}.txt", "ucfTrainTestlist", "splits")
    if folder is None:
        listing = match_listing(root, about, _by_rule(root, split), subset=subset, suffix=f"split{split}")
        return replace(listing, notes=("divided by the rule of groups: without lists nobody knows which are missing",))
    rows = [row for side in ("train", "test") for row in _read(folder / f"{side}list0{split}.txt", side)]
    return match_listing(root, about, rows, subset=subset, suffix=f"split{split}")


def _read(file: Path, side: str) -> list[Row]:
    """The rows of lines such as `Archery/v_Archery_g08_c01.avi 3`."""
    rows = []
    for number, line in enumerate(read_text(file, "a list of UCF101TrainTestSplits").split("\n"), 1):
        if line.strip():
            label, _, name = line.split()[0].partition("/")
            group = NAME.fullmatch(Path(name).stem)
            if not group:
                raise R21DError(f"{file}, line {number}: {line!r}, expected CLASS/v_CLASS_g01_c01.avi")
            rows.append(Row(Path(name).stem, label, side, f"{label}_g{group[1]}"))
    return rows


def _by_rule(root: Path, split: int) -> list[Row]:
    tested = range(TESTED * (split - 1) + 1, TESTED * split + 1)
    rows = []
    for path in map(PurePosixPath, videos_below(root)):
        if group := NAME.fullmatch(path.stem):
            # The folder's name, as the files of HandstandPushups are spelt v_HandStandPushups.
            label, side = path.parent.name, "test" if int(group[1]) in tested else "train"
            rows.append(Row(path.stem, label, side, f"{label}_g{group[1]}"))
    if not rows:
        raise R21DError(f"{root}: holds no video of UCF101; expected {root.name}/Archery/v_Archery_g01_c01.avi etc.")
    return rows
