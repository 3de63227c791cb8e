"""Sports-1M by its official labels.txt, train_partition.txt and test_partition.txt."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from r21d_core import R21DError
from r21d_core.data.dataset_cards import read_text, load_published_dataset
from r21d_core.data.official_splits import Listing, Row, find_lists, match_listing, open_folder

LINE = re.compile(r"\S*[?&]v=([\w-]{11})\S*\s+(\d+(?:,\d+)*)")


def from_sports1m(
    directory: Path | str,
    *,
    annotations: Path | str | None = None,
    subset: Path | str | None = None,
) -> Listing:
    """The Listing of Sports-1M, whose videos are ID.mp4 in folders of any name, ID being YouTube's and the group.

    `lists` is the folder of the two partitions, labels.txt in it or in the one above; without one it is looked for in
    and beside `directory`. Classes are in the order of labels.txt. Of several labels a video has the first, as the
    paper says nothing of it; the notes count these videos.

    Raises R21DError as `match_listing` does, and for a list that is missing or cannot be read.
    """
    root = open_folder(directory)
    folder = find_lists(root, annotations, "t*_partition.txt", "original", "sports-1m-dataset/original")
    if folder is None:
        raise R21DError(
            f"{root}: no train_partition.txt in or beside it; say by --annotations where the official lists are"
        )
    file = next((file for file in (folder / "labels.txt", folder.parent / "labels.txt") if file.is_file()), None)
    if file is None:
        raise R21DError(f"{folder}: no labels.txt in or above it; fetch it from where the partitions are from")
    labels = tuple(line.strip() for line in read_text(file).split("\n") if line.strip())
    rows, several = [], 0
    for side in ("train", "test"):
        if (part := folder / f"{side}_partition.txt").is_file():
            of_side, of_several = _read(part, side, labels)
            rows, several = rows + of_side, several + of_several
    listing = match_listing(root, load_published_dataset("sports1m"), rows, labels=labels, subset=subset)
    note = f"with several labels, of which the first is taken: {several:,}"
    return replace(listing, notes=(*listing.notes, note))


def _read(file: Path, side: str, labels: tuple[str, ...]) -> tuple[list[Row], int]:
    """The rows of lines such as `https://www.youtube.com/watch?v=UDqivjS-lpI 168,169`, and how many have several."""
    rows, several = [], 0
    for number, line in enumerate(read_text(file, "a partition of Sports-1M").split("\n"), 1):
        if line.strip():
            found = LINE.fullmatch(line.strip())
            numbers = [int(text) for text in found[2].split(",")] if found else []
            if not found or max(numbers) >= len(labels):
                expected = f"https://www.youtube.com/watch?v=ID and numbers below {len(labels)}"
                raise R21DError(f"{file}, line {number}: {line!r}, expected {expected}")
            rows.append(Row(found[1], labels[numbers[0]], side, found[1]))
            several += len(numbers) > 1
    return rows, several
