"""Lists the videos of a folder, by the names of its folders or by the official lists of UCF101."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from r21d_core import R21DError
from r21d_core.data.manifest import SPLITS, Card, Video

EXTENSIONS = (".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")
GROUP = re.compile(r"_g(\d\d)_")
UCF101_CLASSES = 101
UCF101_TESTED = 7  # groups of each class in a test list: 1–7, 8–14 or 15–21 of 25


def from_folder(directory: Path | str, *, test_share: float = 0.25, seed: int = 0) -> tuple[Card, list[Video]]:
    """Card and videos of DIR/<class>/<video> or DIR/train|val|test/<class>/<video>; other files are passed over.

    Without given sides about `test_share` of each class is tested. What was cut from one recording, as a `_g01_` in
    the name tells, stays together, and every class keeps something to train on.

    Raises R21DError for a folder that is missing, holds no videos or both layouts, and for a share outside 0 to 1.
    """
    root = _root(directory)
    if not 0 <= test_share < 1:
        raise R21DError(f"test_share is {test_share}, expected a share of the videos from 0 to below 1")
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
        videos = [video for label, paths in classes.items() for video in _divided(root, label, paths, test_share, seed)]
    if not videos:
        raise R21DError(
            f"{root}: no videos; expected {root.name}/CLASS/VIDEO or {root.name}/train/CLASS/VIDEO, "
            f"with one of the endings {' '.join(EXTENSIONS)}"
        )
    name = re.sub(r"[^\w-]+", "-", root.name.lower()).strip("-") or "videos"
    return Card(name, _labels(videos), expected=_counts(videos), root=str(root)), videos


def from_ucf101(directory: Path | str, *, split: int = 1, lists: Path | str | None = None) -> tuple[Card, list[Video]]:
    """Card and videos of UCF101, or of those of its classes that are in `directory`, by official split 1, 2 or 3.

    `lists` is the folder of trainlist01.txt and its like; without one it is looked for in and beside `directory`, and
    without any the groups are divided as the lists do. Listed videos are found whatever their ending.

    Raises R21DError for another split, a missing folder or list, and a listed video that is not in its class folder.
    """
    if split not in (1, 2, 3):
        raise R21DError(f"split {split} was asked for; UCF101 has 1, 2 and 3")
    root = _root(directory)
    found = {label: _by_stem(paths) for label, paths in _classes(root, keep_empty=True).items()}
    lists = _find_lists(root, split) if lists is None else Path(lists).expanduser()
    videos = _by_rule(root, split, found) if lists is None else _by_lists(root, split, found, lists)
    if not videos:
        raise R21DError(f"{root}: holds no video of UCF101; expected {root.name}/Archery/v_Archery_g01_c01.avi etc.")
    classes = _labels(videos)
    part = "" if len(classes) == UCF101_CLASSES else f"-{len(classes)}"
    source = "Soomro, Zamir, Shah, CRCV-TR-12-01, videos from YouTube"
    return Card(f"ucf101{part}-split{split}", classes, source, "for research", _counts(videos), str(root)), videos


def _root(directory: Path | str) -> Path:
    root = Path(directory).expanduser().resolve()
    if not root.is_dir():
        raise R21DError(f"{root}: {'not a folder' if root.exists() else 'no such folder'}; expected a folder of videos")
    return root


def _classes(root: Path, keep_empty: bool = False) -> dict[str, list[Path]]:
    """The videos in each folder of `root`; folders without any only if `keep_empty`."""
    found = {}
    for folder in _listed(root):
        if folder.is_dir():
            paths = [path for path in _listed(folder) if path.suffix.lower() in EXTENSIONS and path.is_file()]
            if paths or keep_empty:
                found[folder.name] = paths
    return found


def _listed(folder: Path) -> list[Path]:
    """What a folder holds, apart from what is hidden, such as the `._name.mp4` that macOS leaves behind."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise R21DError(f"{folder}: could not be listed ({error.strerror}); mend its permissions") from error


def _divided(root: Path, label: str, paths: list[Path], test_share: float, seed: int) -> list[Video]:
    """The videos of a class, whole groups of which are put into test while that brings it nearer to its share."""
    groups = defaultdict(list)
    for path in paths:
        groups[_group(root, path, label)].append(path)
    names = sorted(groups)
    random.Random(f"{seed} {label}").shuffle(names)  # a class is divided alike whatever other classes there are
    wanted, tested = test_share * len(paths), set()
    for name in names[1:]:  # the first stays in train
        count = sum(len(groups[other]) for other in tested)
        if abs(count + len(groups[name]) - wanted) <= abs(count - wanted):
            tested.add(name)
    sides = {path: "test" if name in tested else "train" for name in names for path in groups[name]}
    return [_video(root, path, label, sides[path]) for path in paths]


def _find_lists(root: Path, split: int) -> Path | None:
    places = (root, root.parent / "splits", root / "ucfTrainTestlist", root.parent / "ucfTrainTestlist")
    return next((place for place in places if (place / f"trainlist0{split}.txt").is_file()), None)


def _by_lists(root: Path, split: int, found: dict[str, dict[str, Path]], lists: Path) -> list[Video]:
    videos = []
    for side in ("train", "test"):
        file = lists / f"{side}list0{split}.txt"
        listed = [(label, stem) for label, stem in _read_list(file) if label in found]
        missing = [f"{label}/{stem}" for label, stem in listed if stem not in found[label]]
        if missing:
            raise R21DError(
                f"{root}: {len(missing)} of the {len(listed)} videos that {file} lists for the classes here are "
                f"missing, such as {', '.join(missing[:3])}; fetch them, or take the folders of their classes away"
            )
        videos += [_video(root, found[label][stem], label, side) for label, stem in listed]
    return videos


def _read_list(file: Path) -> list[tuple[str, str]]:
    """Class and file name without ending in each line, such as `Archery/v_Archery_g08_c01.avi 3`."""
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise R21DError(f"{file}: expected a list of UCF101, from UCF101TrainTestSplits ({error})") from None
    rows = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            label, slash, name = line.split()[0].partition("/")
            if not slash:
                raise R21DError(f"{file}, line {number}: {line!r}, expected CLASS/VIDEO.avi")
            rows.append((label, Path(name).stem))
    return rows


def _by_rule(root: Path, split: int, found: dict[str, dict[str, Path]]) -> list[Video]:
    tested = range(UCF101_TESTED * (split - 1) + 1, UCF101_TESTED * split + 1)
    videos = []
    for label, paths in found.items():
        for stem, path in paths.items():
            group = GROUP.search(stem)
            if not group:
                raise R21DError(f"{path}: no group in the name, such as _g01_; name it as UCF101 does, or give lists")
            videos.append(_video(root, path, label, "test" if int(group[1]) in tested else "train"))
    return videos


def _by_stem(paths: Iterable[Path]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in paths:
        if named.setdefault(path.stem, path) != path:
            raise R21DError(f"{path}: is there as {named[path.stem].name} too; keep one of the two")
    return named


def _video(root: Path, path: Path, label: str, split: str) -> Video:
    return Video(path.relative_to(root).as_posix(), path, label, split, _group(root, path, label))


def _group(root: Path, path: Path, label: str) -> str:
    """The recording a video is from; its own name if that tells of none."""
    group = GROUP.search(path.stem)
    return f"{label}_g{group[1]}" if group else path.relative_to(root).with_suffix("").as_posix()


def _labels(videos: list[Video]) -> tuple[str, ...]:
    return tuple(sorted({video.label for video in videos}))


def _counts(videos: list[Video]) -> dict[str, int]:
    counts = Counter(video.split for video in videos)
    return {split: counts[split] for split in SPLITS if counts[split]}
