"""HMDB51 by its official lists, brush_hair_test_split1.txt and its like."""

from __future__ import annotations

import re
from pathlib import Path

from r21d_core import R21DError
from r21d_core.data.dataset_cards import read_text, load_published_dataset
from r21d_core.data.official_splits import Listing, Row, find_lists, match_listing, open_folder

SIDES = {"1": "train", "2": "test", "0": None}
# Visible parts of the body, camera, people, view, quality and number: what stands before it is title and action.
PROPERTIES = r"_[a-z]_(?:cm|nm)_np\d+_(?:fr|ba|ri|le)_(?:bad|med|goo)_\d+"


def from_hmdb51(
    directory: Path | str,
    *,
    split: int = 1,
    annotations: Path | str | None = None,
    subset: Path | str | None = None,
) -> Listing:
    """The Listing of HMDB51 by official split 1, 2 or 3; clips of no side in it are left out.

    `lists` is the folder of the 153 lists; without one it is looked for in and beside `directory`.

    A group is the clips of one class whose names begin with the same title, `TITLE_hit_…`: so the lists were made, and
    no group of any split lies on both sides. The title alone is none: one film gave clips of many classes, and in
    splits 1, 2 and 3, of the 1,530 clips to test, 457, 527 and 529 have a title that is trained on too, always in
    another class (133, 149 and 144 titles). Nor are titles that differ by a number at their end, as Two_Towers_1 and
    Two_Towers_2 do: were they one group, 79, 104 and 114 clips to test would have theirs in train.

    Raises R21DError as `match_listing` does, for another split, and for a list that is missing or cannot be read.
    """
    if split not in (1, 2, 3):
        raise R21DError(f"split {split} was asked for; HMDB51 has 1, 2 and 3")
    root, pattern = open_folder(directory), f"*_test_split{split}.txt"
    folder = find_lists(root, annotations, pattern, "testTrainMulti_7030_splits", "test_train_splits", "splits")
    if folder is None:
        raise R21DError(f"{root}: no {pattern} in or beside it; say by --annotations where the official lists are")
    rows = [row for file in sorted(folder.glob(pattern)) for row in _read(file, file.name.removesuffix(pattern[1:]))]
    return match_listing(root, load_published_dataset("hmdb51"), rows, subset=subset, suffix=f"split{split}")


def _read(file: Path, label: str) -> list[Row]:
    """The rows of lines such as `April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1 `."""
    rows = []
    clip = re.compile(rf"(.+_{re.escape(label)}){PROPERTIES}")
    for number, line in enumerate(read_text(file, "a list of HMDB51").split("\n"), 1):
        if line.strip():
            *words, flag = line.split()
            found = clip.fullmatch(Path(" ".join(words)).stem)
            if not found or flag not in SIDES:
                expected = f"TITLE_{label}_u_cm_np1_fr_med_0.avi and 0, 1 or 2"
                raise R21DError(f"{file}, line {number}: {line!r}, expected {expected}")
            rows.append(Row(found[0], label, SIDES[flag], found[1]))
    return rows
