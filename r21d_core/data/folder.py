"""Lists the videos of a folder by its class folders, and splits them where no splits are given."""

from __future__ import annotations

import os
import random
import re
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import chain
from pathlib import Path

from r21d_core import R21DError
from r21d_core.data.manifest import DatasetCard, Video
from r21d_core.data.official_splits import EXTENSIONS, Listing, examples, open_folder, raise_unlistable, split_counts

GROUP = re.compile(r"_g(\d\d)_")
SPLIT_NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def from_folder(directory: Path | str, *, test_fraction: float = 0.25, seed: int = 0) -> Listing:
    """The Listing of DIR/CLASS/VIDEO or DIR/SPLIT/CLASS/VIDEO; a class's videos may lie in folders below it.

    SPLIT is a usual name of train, val or test; val without test becomes test. Without split folders about
    `test_fraction` of each class goes to test. Videos of one recording, as `_g01_` in their names tells, stay together,
    and every class keeps a training video. The notes count the files that are skipped, and name empty class folders.

    Raises R21DError for a folder that is missing, has no class folders with videos, has both layouts, or has splits
    without train, and for a `test_fraction` outside 0 to 1.
    """
    root = open_folder(directory)
    if not 0 <= test_fraction < 1:
        raise R21DError(f"test_fraction is {test_fraction}, expected a share of the videos from 0 to below 1")

    def name_of(path: Path) -> str:
        return path.relative_to(root).as_posix()

    skipped: list[Path] = []
    notes: list[str] = []
    folders, loose = _list(root)
    split_folders = {path: SPLIT_NAMES[path.name.lower()] for path in folders if _is_split(path)}
    if len(split_folders) < len(folders) and split_folders and any(_videos(path, []) for path in folders):
        other = next(path.name for path in folders if path not in split_folders)
        both = f"contains classes both directly (such as {other!r}) and in {next(iter(split_folders)).name!r}"
        raise R21DError(f"{root}: {both}; keep one of the two layouts")
    videos = []
    if split_folders:
        for folder, split in _resolve(root, split_folders, notes).items():
            loose += _list(folder)[1]
            for label, paths in _classes(folder, skipped, notes).items():
                videos += [_video(root, path, label, split) for path in paths]
    else:
        for label, paths in _classes(root, skipped, notes).items():
            videos += _split_class(root, label, paths, test_fraction, seed)
    if not videos:
        flat = sum(_is_video(path) for path in loose)
        found = f"{flat:,} videos are in no class folder" if flat else "no videos"
        expected = f"{root.name}/CLASS/VIDEO or {root.name}/train/CLASS/VIDEO"
        raise R21DError(f"{root}: {found}; expected {expected}, with one of the extensions {' '.join(EXTENSIONS)}")
    if unplaced := [path for path in loose if _is_video(path)]:
        notes.append(f"skipped, as they are in no class folder: {len(unplaced):,}{examples(map(name_of, unplaced))}")
    if skipped:
        kinds = Counter(path.suffix.lower() or "no extension" for path in skipped)
        counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
        notes.append(f"skipped, as they are no video files: {counts}{examples(map(name_of, skipped))}")
    name = re.sub(r"[^\w-]+", "-", root.name.lower()).strip("-") or "videos"
    classes = tuple(sorted({video.label for video in videos}))
    card = DatasetCard(name, classes, expected=split_counts(videos), root=str(root))
    return Listing(card, tuple(videos), notes=tuple(notes))


def _is_split(folder: Path) -> bool:
    """Whether a folder is a split: it has its name, and class folders with videos."""
    return folder.name.lower() in SPLIT_NAMES and any(_videos(path, []) for path in _list(folder)[0])


def _resolve(root: Path, folders: dict[Path, str], notes: list[str]) -> dict[Path, str]:
    """The split of each folder; a validation split is the test split where there is none."""
    splits = set(folders.values())
    if len(splits) < len(folders):
        counts = Counter(folders.values())
        same = [path.name for path, split in folders.items() if counts[split] > 1]
        raise R21DError(f"{root}: two folders stand for one split{examples(same)}; join them")
    if splits == {"train", "val"}:
        notes.append("val is used as the test split, as there is no other")
        return {folder: "test" if split == "val" else split for folder, split in folders.items()}
    if "test" not in splits:
        raise R21DError(f"{root}: has {', '.join(sorted(splits))} and no test split; add one, or remove these folders")
    return folders


def _classes(root: Path, skipped: list[Path], notes: list[str]) -> dict[str, list[Path]]:
    """The videos in each folder of `root` that holds any; other files go to `skipped`, empty folders to `notes`."""
    videos = {path.name: _videos(path, skipped) for path in _list(root)[0]}
    if empty := [name for name, paths in videos.items() if not paths]:
        notes.append(f"class folders without a video in {root.name}: {len(empty):,}{examples(empty)}")
    return {name: paths for name, paths in videos.items() if paths}


def _videos(folder: Path, skipped: list[Path]) -> list[Path]:
    """The videos at any depth below a class folder, sorted; other files go to `skipped`."""
    folders, files = _list(folder)
    skipped += [path for path in files if not _is_video(path)]
    videos = [path for path in files if _is_video(path)]
    return sorted(chain(videos, *(_videos(path, skipped) for path in folders)))


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS


def _list(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the files in a folder, sorted, without hidden ones such as the `._name.mp4` of macOS."""
    try:
        paths = [folder / name for name in sorted(os.listdir(folder)) if not name.startswith(".")]
    except OSError as error:
        raise_unlistable(error)
    return [path for path in paths if path.is_dir()], [path for path in paths if not path.is_dir()]


def _split_class(root: Path, label: str, paths: list[Path], test_fraction: float, seed: int) -> list[Video]:
    """The videos of a class; groups go to test as long as that brings the test share closer to `test_fraction`."""
    groups = defaultdict(list)
    for video in (_video(root, path, label, "train") for path in paths):
        groups[video.group].append(video)
    names = sorted(groups)
    random.Random(f"{seed} {label}").shuffle(names)  # the split of a class does not depend on other classes
    target, count = test_fraction * len(paths), 0
    for name in names[1:]:  # the first stays in train
        if abs(count + len(groups[name]) - target) <= abs(count - target):
            count += len(groups[name])
            groups[name] = [replace(video, split="test") for video in groups[name]]
    return sorted(chain(*groups.values()), key=lambda video: video.video)


def _video(root: Path, path: Path, label: str, split: str) -> Video:
    """The row of a file. Its group is the recording that its name tells, or else its own path."""
    match, name = GROUP.search(path.stem), path.relative_to(root)
    group = f"{label}_g{match[1]}" if match else name.with_suffix("").as_posix()
    return Video(name.as_posix(), root, label, split, group)
