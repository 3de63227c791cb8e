"""MIRACL-VC1, words and phrases spoken by 15 people, in five folds by speaker."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from r21d_core import R21DError
from r21d_core.data.dataset_cards import load_published_dataset
from r21d_core.data.official_splits import Listing, Row, match_listing, open_folder, videos_below

# The authors publish no splits. Each fold tests two women and one man; all 15 speakers are tested once.
FOLDS = (
    ("F01", "F02", "M01"),
    ("F04", "F05", "M02"),
    ("F06", "F07", "M04"),
    ("F08", "F09", "M07"),
    ("F10", "F11", "M08"),
)
NAME = re.compile(r"([FM]\d\d)_(?:word|phrase)\d\d_c\d\d")


def from_miracl(directory: Path | str, *, split: int = 1, subset: Path | str | None = None) -> Listing:
    """The Listing of MIRACL-VC1 by fold 1 to 5; a group is a speaker.

    A video is CLASS/SPEAKER_word01_c01.mp4, the frames of one repetition in their order. The folder is its class, such
    as word01_begin, and the subsets `words` and `phrases` are ten classes each.

    Raises R21DError as `match_listing` does, and for another fold.
    """
    if split not in range(1, len(FOLDS) + 1):
        raise R21DError(f"split is {split}; MIRACL-VC1 has the folds 1 to {len(FOLDS)}")
    root, dataset = open_folder(directory), load_published_dataset("miracl-vc1")
    rows = []
    for path in map(PurePosixPath, videos_below(root)):
        if name := NAME.fullmatch(path.stem):
            part = "test" if name[1] in FOLDS[split - 1] else "train"
            rows.append(Row(path.stem, path.parent.name, part, name[1]))
    if not rows:
        raise R21DError(f"{root}: no video of MIRACL-VC1; expected {root.name}/word01_begin/F01_word01_c01.mp4 etc.")
    return match_listing(root, dataset, rows, subset=subset, suffix=f"split{split}")
