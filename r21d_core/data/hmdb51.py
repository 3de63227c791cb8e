"""HMDB51 by its official lists, such as brush_hair_test_split1.txt."""

from __future__ import annotations

import re
from pathlib import Path

from r21d_core import R21DError
from r21d_core.data.dataset_cards import load_published_dataset, read_text
from r21d_core.data.official_splits import Listing, Row, find_lists, match_listing, open_folder

SPLIT_OF_FLAG = {"1": "train", "2": "test", "0": None}
# Visible body parts, camera motion, number of people, view, quality and clip number; title and action precede them.
PROPERTIES = r"_[a-z]_(?:cm|nm)_np\d+_(?:fr|ba|ri|le)_(?:bad|med|goo)_\d+"


def from_hmdb51(
    directory: Path | str, *, split: int = 1, annotations: Path | str | None = None, subset: Path | str | None = None
) -> Listing:
    """The Listing of HMDB51 by official split 1, 2 or 3; clips in neither train nor test are left out.

    `annotations` is the folder of the 153 lists; by default it is searched for in and beside `directory`.

    A group is the clips of one class whose names start with the same title, as in `TITLE_hit_…`. The lists keep such
    groups in one split. They do not keep films in one split: data_manifests/README.md has the counts.

    Raises R21DError as `match_listing` does, for another split, and for a missing or unreadable list.
    """
    if split not in (1, 2, 3):
        raise R21DError(f"split is {split}; HMDB51 has the splits 1, 2 and 3")
    root, pattern = open_folder(directory), f"*_test_split{split}.txt"
    folder = find_lists(root, annotations, pattern, "testTrainMulti_7030_splits", "test_train_splits", "splits")
    if folder is None:
        raise R21DError(f"{root}: no {pattern} in or beside it; name the folder of the official lists by --annotations")
    rows = [row for file in sorted(folder.glob(pattern)) for row in _read(file, file.name.removesuffix(pattern[1:]))]
    return match_listing(root, load_published_dataset("hmdb51"), rows, subset=subset, suffix=f"split{split}")


def _read(file: Path, label: str) -> list[Row]:
    """The rows of a list, whose lines are such as `April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1 `."""
    rows = []
    pattern = re.compile(rf"(.+_{re.escape(label)}){PROPERTIES}")
    for number, line in enumerate(read_text(file, "a list of HMDB51").split("\n"), 1):
        if line.strip():
            *words, flag = line.split()
            match = pattern.fullmatch(Path(" ".join(words)).stem)
            if not match or flag not in SPLIT_OF_FLAG:
                expected = f"TITLE_{label}_u_cm_np1_fr_med_0.avi and 0, 1 or 2"
                raise R21DError(f"{file}, line {number}: {line!r}, expected {expected}")
            rows.append(Row(match[0], label, SPLIT_OF_FLAG[flag], match[1]))
    return rows
