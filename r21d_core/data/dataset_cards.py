"""What is known of the paper's data sets, apart from any disk: the cards NAME.json in data_manifests/."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from r21d_core import R21DError, package_folder

FOLDER = package_folder("r21d_core", "data_manifests")


@dataclass(frozen=True)
class PublishedDataset:
    """A published data set, as its authors describe it."""

    name: str
    source: str
    licence: str
    frame_rate: str
    classes: int
    groups: str  # what is taken for one recording, in words
    expected: dict[str, dict[str, int]] = field(default_factory=dict)  # of a manifest's name: videos a side, published
    subsets: dict[str, list[str]] = field(default_factory=dict)  # classes that belong together by a name of ours

    @property
    def choice(self) -> str:
        """How to name some of its classes, for messages."""
        return f"by --subset, which takes {' or '.join([*self.subsets, 'a file with a class a line'])}"

    def choose(self, subset: Path | str, labels: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        """The name of a subset and those of `labels` that it holds, in their order.

        `subset` is one of the card's, or a text file of the user's with a class a line, whose name it takes.

        Raises R21DError if it is neither, names a class that is none of `labels`, or is called as one of the card's.
        """
        file = Path(subset).expanduser()
        if str(subset) in self.subsets:
            name, chosen = str(subset), self.subsets[str(subset)]
        elif file.is_file():
            name, chosen = file.stem, [line.strip() for line in read_text(file).split("\n") if line.strip()]
        else:
            raise R21DError(f"subset {str(subset)!r} is none of {self.name}; name classes {self.choice}")
        if odd := sorted(set(chosen) - set(labels)):
            raise R21DError(f"subset {str(subset)!r}: no video of {odd[0]!r} is listed in {self.name}")
        if not chosen:
            raise R21DError(f"{file}: names no class; expected one of {self.name} a line")
        if set(self.subsets.get(name, chosen)) != set(chosen):
            raise R21DError(f"{file}: names other classes than the subset {name!r} of {self.name}; rename the file")
        return name, tuple(label for label in labels if label in set(chosen))


def load_published_dataset(name: str) -> PublishedDataset:
    """The card of a data set of the paper; raises R21DError if data_manifests/ is not there."""
    file = FOLDER / f"{name}.json"
    return PublishedDataset(**json.loads(read_text(file)))


def read_text(file: Path, what: str = "a text file") -> str:
    """A published file in UTF-8, with every line end, CR or CRLF, as \\n and without a byte-order mark.

    Raises R21DError, naming the file and `what` was expected, if it cannot be read.
    """
    try:
        return file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise R21DError(f"{file}: expected {what} ({reason})") from None
