"""Lists the videos of a folder by its class folders, and splits them where no splits are given."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePosixPath

from r21d_core import R21DError, count_noun
from r21d_core.data.manifest import DatasetCard, Video, split_counts
from r21d_core.data.official_splits import EXTENSIONS, Listing, examples, files_below, is_video, open_folder

GROUP = re.compile(r"_g(\d\d)_")
SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def from_folder(directory: Path | str, *, test_fraction: float = 0.25, seed: int = 0) -> Listing:
    """The Listing of DIR/CLASS/VIDEO or DIR/SPLIT/CLASS/VIDEO; a class's videos may lie in folders below it.

    SPLIT is a usual name of train, val or test; val without test becomes test. Without split folders about
    `test_fraction` of each class goes to test. Videos of one recording, as `_g01_` in their names tells, stay together.
    Every class keeps a recording to train on, and has one to test on if it has two. The notes count the files that are
    skipped, and name empty class folders and the classes of one recording.

    Raises R21DError for a folder that is missing, has no class folders with videos, has both layouts, or has splits
    without train, and for a `test_fraction` that is not between 0 and 1.
    """
    root = open_folder(directory)
    if not 0 < test_fraction < 1:
        raise R21DError(f"test_fraction is {test_fraction}, expected a share of the videos above 0 and below 1")
    notes: list[str] = []
    hidden: list[PurePosixPath] = []
    files = list(files_below(root, hidden))
    splits = _find_splits(root, list(filter(is_video, files)), notes)
    depth = 2 if splits else 1  # of a class folder
    classes, loose, skipped = defaultdict(list), [], []
    for file in files:
        if is_video(file):
            (classes[file.parts[:depth]] if len(file.parts) > depth else loose).append(file)
        elif len(file.parts) > depth:
            skipped.append(file)
    videos = []
    for (*split, label), paths in classes.items():
        if split:
            videos += [_video(root, path, label, splits[split[0]]) for path in paths]
        else:
            videos += _split_class(root, label, paths, test_fraction, seed)
    if not videos:
        found = f"{count_noun(f'{len(loose):,}', 'video')} in no class folder" if loose else "no videos"
        found += f", {len(hidden):,} hidden{examples(map(str, hidden))}" if hidden else ""
        expected = f"{root.name}/CLASS/VIDEO or {root.name}/train/CLASS/VIDEO"
        raise R21DError(f"{root}: {found}; expected {expected}, with one of the extensions {' '.join(EXTENSIONS)}")
    notes += _note_empty_classes(root, splits, classes.keys()) + _note_skipped(loose, skipped, hidden)
    tested = {video.label for video in videos if video.split == "test"}
    if not splits and (untested := sorted({video.label for video in videos} - tested)):
        notes.append(f"without a test video, as they have one recording: {len(untested):,}{examples(untested)}")
    name = re.sub(r"[^\w-]+", "-", root.name.lower()).strip("-") or "videos"
    labels = tuple(sorted({video.label for video in videos}))
    card = DatasetCard(name, labels, expected=split_counts(videos), root=str(root))
    return Listing(card, tuple(videos), notes=tuple(notes))


def recording_names(path: Path | str) -> set[str]:
    """Return the names that the recording of a video file may have in a manifest of any folder above it.

    These are CLASS_g01 if its name contains `_g01_`, and its path, from any folder on, without the extension.
    """
    parts = Path(path).absolute().with_suffix("").parts[1:]
    names = {"/".join(parts[start:]) for start in range(len(parts))}
    match = GROUP.search(parts[-1])
    return names | {f"{folder}_g{match[1]}" for folder in parts[:-1]} if match else names


def _note_empty_classes(root: Path, splits: Iterable[str], found: Collection[tuple[str, ...]]) -> list[str]:
    """A note for each split folder, or the root, with class folders that are not `found`, the parts of their paths."""
    notes = []
    for folder in [root / split for split in splits] or [root]:
        folders = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        if empty := [name for name in folders if (folder / name).relative_to(root).parts not in found]:
            notes.append(f"class folders without a video in {folder.name}: {len(empty):,}{examples(empty)}")
    return notes


def _note_skipped(
    loose: Sequence[PurePosixPath], others: Sequence[PurePosixPath], hidden: Sequence[PurePosixPath]
) -> list[str]:
    """Notes about `loose` videos, in no class folder, `others`, files in class folders that are no videos, and `hidden`
    videos.
    """
    notes = []
    if loose:
        notes.append(f"skipped, as they are in no class folder: {len(loose):,}{examples(map(str, loose))}")
    if others:
        kinds = Counter(path.suffix.lower() or "no extension" for path in others)
        counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
        notes.append(f"skipped, as they are no video files: {counts}{examples(map(str, others))}")
    if hidden:
        why = "as they are hidden, their names begin with a dot"
        notes.append(f"skipped, {why}: {len(hidden):,}{examples(map(str, hidden))}")
    return notes


def _find_splits(root: Path, videos: list[PurePosixPath], notes: list[str]) -> dict[str, str]:
    """The split of each split folder, which has a usual name and holds class folders; empty without any.
    A validation split is the test split where there is none.
    """
    nested = dict.fromkeys(video.parts[0] for video in videos if len(video.parts) > 2)
    splits = {folder: SPLIT_NAMES[folder.lower()] for folder in nested if folder.lower() in SPLIT_NAMES}
    found = set(splits.values())
    if splits and (others := [video.parts[0] for video in videos if video.parts[1:] and video.parts[0] not in splits]):
        both = f"contains classes both directly (such as {others[0]!r}) and in {next(iter(splits))!r}"
        raise R21DError(f"{root}: {both}; keep one of the two layouts")
    if len(found) < len(splits):
        counts = Counter(splits.values())
        same = [folder for folder, split in splits.items() if counts[split] > 1]
        raise R21DError(f"{root}: two folders stand for one split{examples(same)}; join them")
    if found == {"train", "val"}:
        notes.append("val is used as the test split, as there is no other")
        return {folder: "test" if split == "val" else split for folder, split in splits.items()}
    if splits and "test" not in found:
        raise R21DError(f"{root}: has {', '.join(sorted(found))} and no test split; add one, or remove these folders")
    return splits


def _split_class(root: Path, label: str, paths: list[PurePosixPath], test_fraction: float, seed: int) -> list[Video]:
    """The videos of a class; groups go to test as long as that brings the test share closer to `test_fraction`.

    If none does, the smallest of several goes.
    """
    groups = defaultdict(list)
    for video in (_video(root, path, label, "train") for path in paths):
        groups[video.group].append(video)
    names = sorted(groups)
    random.Random(f"{seed} {label}").shuffle(names)  # the split of a class does not depend on other classes
    target, count, test = test_fraction * len(paths), 0, []
    for name in names[1:]:  # the first stays in train
        if abs(count + len(groups[name]) - target) <= abs(count - target):
            count += len(groups[name])
            test.append(name)
    if not test and len(names) > 1:
        test = [min(names, key=lambda name: len(groups[name]))]
    for name in test:
        groups[name] = [replace(video, split="test") for video in groups[name]]
    return sorted(chain(*groups.values()), key=lambda video: video.video)


def _video(root: Path, path: PurePosixPath, label: str, split: str) -> Video:
    """The row of a file. Its group is the recording that its name tells, or else its own path."""
    match = GROUP.search(path.stem)
    group = f"{label}_g{match[1]}" if match else str(path.with_suffix(""))
    return Video(str(path), root, label, split, group)
