"""Sports-1M by its official labels.txt, train_partition.txt and test_partition.txt."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from r21d_core import R21DError
from r21d_core.data.dataset_cards import load_published_dataset, read_text
from r21d_core.data.official_splits import Listing, Row, find_lists, match_listing, open_folder

LINE = re.compile(r"\S*[?&]v=([\w-]{11})\S*\s+(\d+(?:,\d+)*)")


def from_sports1m(
    directory: Path | str, *, annotations: Path | str | None = None, subset: Path | str | None = None
) -> Listing:
    """The Listing of Sports-1M, whose videos are named ID.mp4 by their YouTube ID, which is also the group.

    `annotations` is the folder of the two partitions, with labels.txt in it or in its parent; by default it is searched
    for in and beside `directory`. Classes are in the order of labels.txt. A video with several labels gets the first,
    as the paper does not say; the notes count these videos.

    Raises R21DError as `match_listing` does, and for a missing or unreadable list.
    """
    root = open_folder(directory)
    folder = find_lists(root, annotations, "t*_partition.txt", "original", "sports-1m-dataset/original")
    if folder is None:
        raise R21DError(
            f"{root}: no train_partition.txt in or beside it; name the folder of the official lists by --annotations"
        )
    file = next((file for file in (folder / "labels.txt", folder.parent / "labels.txt") if file.is_file()), None)
    if file is None:
        raise R21DError(f"{folder}: no labels.txt in or above it; download it from the partitions' repository")
    labels = tuple(line.strip() for line in read_text(file).split("\n") if line.strip())
    rows, several = [], 0
    for split in ("train", "test"):
        if (partition := folder / f"{split}_partition.txt").is_file():
            split_rows, split_several = _read(partition, split, labels)
            rows, several = rows + split_rows, several + split_several
    listing = match_listing(root, load_published_dataset("sports1m"), rows, labels=labels, subset=subset)
    note = f"with several labels, of which the first is taken: {several:,}"
    return replace(listing, notes=(*listing.notes, note))


def _read(file: Path, split: str, labels: tuple[str, ...]) -> tuple[list[Row], int]:
    """The rows of lines such as `https://www.youtube.com/watch?v=UDqivjS-lpI 168,169`, and how many have several."""
    rows, several = [], 0
    for number, line in enumerate(read_text(file, "a partition of Sports-1M").split("\n"), 1):
        if line.strip():
            match = LINE.fullmatch(line.strip())
            numbers = [int(text) for text in match[2].split(",")] if match else []
            if not match or max(numbers) >= len(labels):
                expected = f"https://www.youtube.com/watch?v=ID and numbers below {len(labels)}"
                raise R21DError(f"{file}, line {number}: {line!r}, expected {expected}")
            rows.append(Row(match[1], labels[numbers[0]], split, match[1]))
            several += len(numbers) > 1
    return rows, several
