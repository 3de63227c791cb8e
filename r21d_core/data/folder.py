"""Lists the videos of a folder of one's own by the names of its folders."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from pathlib import Path

from r21d_core import R21DError
from r21d_core.data.manifest import SPLITS, DatasetCard, Video
from r21d_core.data.official_splits import EXTENSIONS, Listing, open_folder, split_counts

GROUP = re.compile(r"_g(\d\d)_")


def from_folder(directory: Path | str, *, test_fraction: float = 0.25, seed: int = 0) -> Listing:
    """The Listing of DIR/<class>/<video> or DIR/train|val|test/<class>/<video>; other files are passed over.

    Without given sides about `test_fraction` of each class is tested. What was cut from one recording, as a `_g01_` in
    the name tells, stays together, and every class keeps something to train on.

    Raises R21DError for a folder that is missing, holds no videos or both layouts, and for a share outside 0 to 1.
    """
    root = open_folder(directory)
    if not 0 <= test_fraction < 1:
        raise R21DError(f"test_fraction is {test_fraction}, expected a share of the videos from 0 to below 1")
    classes = _classes(root)
    given = {split: held for split in SPLITS if (held := _classes(root / split))}
    if given and classes:
        raise R21DError(
            f"{root}: holds classes both directly (such as {min(classes)!r}) and in {next(iter(given))!r}; "
            "keep one of the two layouts"
        )
    if given:
        videos = [
            _video(root, path, label, split)
            for split, held in given.items()
            for label, paths in held.items()
            for path in paths
        ]
    else:
        videos = [
            video for label, paths in classes.items() for video in _divided(root, label, paths, test_fraction, seed)
        ]
    if not videos:
        raise R21DError(
            f"{root}: no videos; expected {root.name}/CLASS/VIDEO or {root.name}/train/CLASS/VIDEO, "
            f"with one of the endings {' '.join(EXTENSIONS)}"
        )
    name = re.sub(r"[^\w-]+", "-", root.name.lower()).strip("-") or "videos"
    classes = tuple(sorted({video.label for video in videos}))
    return Listing(DatasetCard(name, classes, expected=split_counts(videos), root=str(root)), tuple(videos))


def _classes(root: Path) -> dict[str, list[Path]]:
    """The videos in each folder of `root` that holds any."""
    found = {}
    for folder in _listed(root):
        if folder.is_dir():
            paths = [path for path in _listed(folder) if path.suffix.lower() in EXTENSIONS and path.is_file()]
            if paths:
                found[folder.name] = paths
    return found


def _listed(folder: Path) -> list[Path]:
    """What a folder holds, apart from what is hidden, such as the `._name.mp4` that macOS leaves behind."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise R21DError(f"{folder}: could not be listed ({error.strerror}); change its permissions") from error


def _divided(root: Path, label: str, paths: list[Path], test_fraction: float, seed: int) -> list[Video]:
    """The videos of a class, whole groups of which are put into test while that brings it nearer to its share."""
    groups = defaultdict(list)
    for path in paths:
        groups[_group(root, path, label)].append(path)
    names = sorted(groups)
    random.Random(f"{seed} {label}").shuffle(names)  # a class is divided alike whatever other classes there are
    wanted, tested = test_fraction * len(paths), set()
    for name in names[1:]:  # the first stays in train
        count = sum(len(groups[other]) for other in tested)
        if abs(count + len(groups[name]) - wanted) <= abs(count - wanted):
            tested.add(name)
    sides = {path: "test" if name in tested else "train" for name in names for path in groups[name]}
    return [_video(root, path, label, sides[path]) for path in paths]


def _video(root: Path, path: Path, label: str, split: str) -> Video:
    return Video(path.relative_to(root).as_posix(), root, label, split, _group(root, path, label))


def _group(root: Path, path: Path, label: str) -> str:
    """The recording a video is from; its own name if that tells of none."""
    group = GROUP.search(path.stem)
    return f"{label}_g{group[1]}" if group else path.relative_to(root).with_suffix("").as_posix()
