"""Readers of the published data sets by their official lists; each returns the Listing of a folder of videos.

`annotations` is the folder of the lists, by default searched for in and beside `directory`; `subset` as in
`match_listing`. All raise R21DError as that does, for an unknown split, and for a missing or unreadable list.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Callable, Container, Iterator
from dataclasses import replace
from pathlib import Path

from r21d_core import R21DError
from r21d_core.data.dataset_cards import load_published_dataset, read_text
from r21d_core.data.official_splits import Listing, Row, files_below, find_lists, is_video, match_listing, open_folder

UCF101_NAME = re.compile(r"v_\w+_g(\d\d)_c\d\d")
UCF101_LINE = re.compile(rf"(\S+)/({UCF101_NAME.pattern})(?:\.\w+)?(?:\s.*)?")  # Archery/v_Archery_g08_c01.avi 3
UCF101_TEST_GROUPS = 7  # of each class: groups 1–7, 8–14 or 15–21 of 25
HMDB51_FLAGS = {"1": "train", "2": "test", "0": None}
# Visible body parts, camera motion, number of people, view, quality and clip number; title and action precede them.
HMDB51_PROPERTIES = r"_[a-z]_(?:cm|nm)_np\d+_(?:fr|ba|ri|le)_(?:bad|med|goo)_\d+"
# The labels of Kinetics' test set are not public, so the validation set is tested, as in the paper.
KINETICS_SPLITS = {"train": "train", "val": "test", "validate": "test", "validation": "test", "test": None}
KINETICS_COLUMNS = ("youtube_id", "time_start", "time_end", "split")
# https://www.youtube.com/watch?v=UDqivjS-lpI 168,169
SPORTS1M_LINE = re.compile(r"\S*[?&]v=([\w-]{11})\S*\s+(\d+(?:,\d+)*)")
# The authors of MIRACL-VC1 publish no splits. Each fold tests two women and one man; all 15 speakers are tested once.
MIRACL_FOLDS = (
    ("F01", "F02", "M01"), ("F04", "F05", "M02"), ("F06", "F07", "M04"), ("F08", "F09", "M07"), ("F10", "F11", "M08"),
)  # fmt: skip
MIRACL_NAME = re.compile(r"([FM]\d\d)_(?:word|phrase)\d\d_c\d\d")


def from_ucf101(
    directory: Path | str, *, split: int = 1, annotations: Path | str | None = None, subset: Path | str | None = None
) -> Listing:
    """UCF101 by official split 1, 2 or 3; a group is a class and a group number, as in `_g01_`.
    Without lists, trainlist01.txt and so on, the groups on disk are split by their numbers, as the lists do.
    """
    root, dataset = _open(directory, split, 3, "UCF101 has the splits 1, 2 and 3"), load_published_dataset("ucf101")
    folder = find_lists(root, annotations, f"trainlist0{split}.txt", "ucfTrainTestlist", "splits")
    if folder is None:
        tested = range(UCF101_TEST_GROUPS * (split - 1) + 1, UCF101_TEST_GROUPS * split + 1)
        # The label is the folder's name: files of HandstandPushups are spelt v_HandStandPushups.
        found = _rows_by_name(root, UCF101_NAME, {f"{group:02d}" for group in tested}, "Archery/v_Archery_g01_c01.avi")
        rows = [row._replace(group=f"{row.label}_g{row.group}") for row in found]
        listing = match_listing(root, dataset, rows, subset=subset, suffix=f"split{split}")
        return replace(listing, notes=("split by group number: without lists, missing videos have no names",))
    rows = []
    for part in ("train", "test"):
        file, what = folder / f"{part}list0{split}.txt", "a list of UCF101TrainTestSplits"
        for label, name, group in _match_lines(file, what, UCF101_LINE.fullmatch, "CLASS/v_CLASS_g01_c01.avi"):
            rows.append(Row(name, label, part, f"{label}_g{group}"))
    return match_listing(root, dataset, rows, subset=subset, suffix=f"split{split}")


def from_hmdb51(
    directory: Path | str, *, split: int = 1, annotations: Path | str | None = None, subset: Path | str | None = None
) -> Listing:
    """HMDB51 by official split 1, 2 or 3; clips in neither train nor test are left out. There are 153 lists.
    A group is the clips of one class whose names start with the same title, as in `TITLE_hit_…`. The lists keep such
    groups in one split. They do not keep films in one split: data_manifests/README.md has the counts.
    """
    root, pattern = _open(directory, split, 3, "HMDB51 has the splits 1, 2 and 3"), f"*_test_split{split}.txt"
    subfolders = ("testTrainMulti_7030_splits", "test_train_splits", "splits")
    rows = []
    for file in sorted(_need_lists(root, annotations, pattern, pattern, *subfolders).glob(pattern)):
        label = file.name.removesuffix(pattern[1:])
        # April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1
        clip = re.compile(rf"((.+_{re.escape(label)}){HMDB51_PROPERTIES})(?:\.\w+)?\s+([012])")
        expected = f"TITLE_{label}_u_cm_np1_fr_med_0.avi and 0, 1 or 2"
        for name, group, flag in _match_lines(file, "a list of HMDB51", clip.fullmatch, expected):
            rows.append(Row(name, label, HMDB51_FLAGS[flag], group))
    return match_listing(root, load_published_dataset("hmdb51"), rows, subset=subset, suffix=f"split{split}")


def from_kinetics(
    directory: Path | str, *, annotations: Path | str | None = None, subset: Path | str | None = None
) -> Listing:
    """Kinetics; the number of classes says whether it is 400, 600 or 700. Its validation set is the split `test`.
    `annotations` may be a CSV file too. The test set is left out. Videos are named ID_000017_000027.mp4 or ID.mp4 by
    their YouTube ID, in folders of any name. A group is the clips of one ID.
    """
    root = open_folder(directory)
    if annotations is not None and Path(annotations).expanduser().is_file():
        files = [Path(annotations).expanduser()]
    else:
        folder = _need_lists(root, annotations, "*val*.csv", "validate.csv", "annotations")
        files = sorted(file for file in folder.glob("*.csv") if file.stem.endswith(tuple(KINETICS_SPLITS)))
    rows = [row for file in files for row in _read_kinetics(file)]
    classes = len({row.label for row in rows if row.split})
    if classes not in (400, 600, 700):
        raise R21DError(f"{root}: the annotations name {classes} classes, expected 400, 600 or 700; give all of them")
    names = defaultdict(set)
    for row in rows:
        names[row.group].add(row.name)
    # A file named by its ID alone is a video's only clip; where several clips are listed it is ambiguous.
    only_clip = {group: clips.pop() for group, clips in names.items() if len(clips) == 1}
    dataset = load_published_dataset(f"kinetics-{classes}")
    return match_listing(root, dataset, rows, subset=subset, name_of=lambda name: only_clip.get(name, name))


def _read_kinetics(file: Path) -> Iterator[Row]:
    """Yield the rows of an annotation file, whose columns are in any order; test rows may lack a label."""
    reader = csv.DictReader(read_text(file, "annotations of Kinetics").split("\n"))
    columns = reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
    if lacking := [name for name in KINETICS_COLUMNS if name not in columns]:
        raise R21DError(f"{file}: no column {lacking[0]!r}; expected label, {', '.join(KINETICS_COLUMNS)}")
    for cells in reader:
        try:
            split = KINETICS_SPLITS[cells["split"].strip()]
            label, key = (cells["label"].strip() if split else ""), cells["youtube_id"].strip()
            start, end = int(float(cells["time_start"])), int(float(cells["time_end"]))
        except (KeyError, ValueError, TypeError, AttributeError):
            expected = f"a label, an id, two times in seconds, and one of {', '.join(KINETICS_SPLITS)}"
            raise R21DError(f"{file}, line {reader.line_num}: {cells}, expected {expected}") from None
        yield Row(f"{key}_{start:06d}_{end:06d}", label, split, key)


def from_sports1m(
    directory: Path | str, *, annotations: Path | str | None = None, subset: Path | str | None = None
) -> Listing:
    """Sports-1M, whose videos are named ID.mp4 by their YouTube ID, which is also the group.
    The lists are the two partitions, with labels.txt beside or above them, whose order is that of the classes. A video
    with several labels gets the first, as the paper does not say; the notes count these videos.
    """
    root = open_folder(directory)
    subfolders = ("original", "sports-1m-dataset/original")
    folder = _need_lists(root, annotations, "t*_partition.txt", "train_partition.txt", *subfolders)
    file = next((file for file in (folder / "labels.txt", folder.parent / "labels.txt") if file.is_file()), None)
    if file is None:
        raise R21DError(f"{folder}: no labels.txt in or above it; download it from the partitions' repository")
    labels = tuple(line.strip() for line in read_text(file).split("\n") if line.strip())

    def match_line(line: str) -> re.Match | None:
        match = SPORTS1M_LINE.fullmatch(line)
        return match if match and all(int(number) < len(labels) for number in match[2].split(",")) else None

    rows, several = [], 0
    for split in ("train", "test"):
        if (file := folder / f"{split}_partition.txt").is_file():
            expected = f"https://www.youtube.com/watch?v=ID and numbers below {len(labels)}"
            for key, numbers in _match_lines(file, "a partition of Sports-1M", match_line, expected):
                first, *others = numbers.split(",")
                rows.append(Row(key, labels[int(first)], split, key))
                several += bool(others)
    listing = match_listing(root, load_published_dataset("sports1m"), rows, labels=labels, subset=subset)
    note = f"with several labels; the first one is used: {several:,}"
    return replace(listing, notes=(*listing.notes, note))


def from_miracl(directory: Path | str, *, split: int = 1, subset: Path | str | None = None) -> Listing:
    """MIRACL-VC1, words and phrases spoken by 15 people, by fold 1 to 5; a group is a speaker.
    A video is CLASS/SPEAKER_word01_c01.mp4, the frames of one repetition in their order. The folder is its class, such
    as word01_begin, and the subsets `words` and `phrases` are ten classes each.
    """
    root = _open(directory, split, len(MIRACL_FOLDS), f"MIRACL-VC1 has the folds 1 to {len(MIRACL_FOLDS)}")
    rows = _rows_by_name(root, MIRACL_NAME, MIRACL_FOLDS[split - 1], "word01_begin/F01_word01_c01.mp4")
    return match_listing(root, load_published_dataset("miracl-vc1"), rows, subset=subset, suffix=f"split{split}")


def _rows_by_name(root: Path, pattern: re.Pattern, tested: Container[str], example: str) -> list[Row]:
    """The rows of the videos CLASS/NAME with such names; the pattern's group is the row's, and in test if `tested`."""
    matches = ((path, pattern.fullmatch(path.stem)) for path in filter(is_video, files_below(root)))
    rows = [
        Row(path.stem, path.parent.name, "test" if match[1] in tested else "train", match[1])
        for path, match in matches
        if match
    ]
    if not rows:
        raise R21DError(f"{root}: no video of this data set; expected {root.name}/{example} and so on")
    return rows


def _open(directory: Path | str, split: int, splits: int, message: str) -> Path:
    if split not in range(1, splits + 1):
        raise R21DError(f"split is {split}; {message}")
    return open_folder(directory)


def _need_lists(root: Path, annotations: Path | str | None, pattern: str, example: str, *subfolders: str) -> Path:
    folder = find_lists(root, annotations, pattern, *subfolders)
    if folder is None:
        raise R21DError(f"{root}: no {example} in or beside it; name the folder of the official lists by --annotations")
    return folder


def _match_lines(
    file: Path, what: str, match_line: Callable[[str], re.Match | None], expected: str
) -> Iterator[tuple[str, ...]]:
    """Yield the groups of each line of a list, without blank ones; no match is a line that is not as `expected`."""
    for number, line in enumerate(read_text(file, what).split("\n"), 1):
        if line.strip():
            if (match := match_line(line.strip())) is None:
                raise R21DError(f"{file}, line {number}: {line!r}, expected {expected}")
            yield match.groups()
