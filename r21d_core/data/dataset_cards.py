"""The published data sets of the paper, as the cards NAME.json in data_manifests/ describe them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path

from r21d_core import R21DError, package_folder

FOLDER = package_folder("r21d_core", "data_manifests")
OPTIONAL = ("expected", "subsets", "group", "recognizes")  # keys of a card


@dataclass(frozen=True)
class PublishedDataset:
    """A published data set, as its authors describe it."""

    name: str
    source: str
    licence: str
    frame_rate: str
    classes: int
    groups: str  # a description of what counts as one recording
    expected: dict[str, dict[str, int]] = field(default_factory=dict)  # published videos a split, by manifest name
    subsets: dict[str, list[str]] = field(default_factory=dict)  # classes by the subset's name
    group: str = "recording"  # the noun for one of `groups`
    recognizes: str = "actions"  # the noun for what its classes are

    @property
    def choice(self) -> str:
        """How to name a subset of the classes, for messages."""
        return f"by --subset, which takes {' or '.join([*self.subsets, 'a file with one class per line'])}"

    def choose(self, subset: Path | str, labels: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
        """The name of a subset and those of `labels` that it holds, in their order.
        `subset` is a name from the card, or a text file with a class a line, whose stem becomes the name.
        Raises R21DError if it is neither, names a class that is not in `labels`, or reuses a name of the card.
        """
        file = Path(subset).expanduser()
        if str(subset) in self.subsets:
            name, chosen = str(subset), self.subsets[str(subset)]
        elif file.is_file():
            name, chosen = file.stem, [line.strip() for line in read_text(file).split("\n") if line.strip()]
        else:
            raise R21DError(f"subset {str(subset)!r} is not a subset of {self.name}; name classes {self.choice}")
        if unknown := sorted(set(chosen) - set(labels)):
            raise R21DError(f"subset {str(subset)!r}: no video of {unknown[0]!r} is listed in {self.name}")
        if not chosen:
            raise R21DError(f"{file}: names no class; expected one class of {self.name} per line")
        if set(self.subsets.get(name, chosen)) != set(chosen):
            raise R21DError(f"{file}: names other classes than the subset {name!r} of {self.name}; rename the file")
        return name, tuple(label for label in labels if label in set(chosen))


def load_published_dataset(name: str) -> PublishedDataset:
    """The PublishedDataset of data_manifests/`name`.json; raises R21DError if that file or a key of it is missing."""
    file = FOLDER / f"{name}.json"
    values, known = json.loads(read_text(file)), [key.name for key in fields(PublishedDataset)]
    for key in dict.fromkeys([*known, *values]):
        if key not in known or (key not in values and key not in OPTIONAL):
            what = "the card has no" if key in known else "unknown key"
            raise R21DError(f"{file}: {what} {key!r}; known: {', '.join(known)}")
    return PublishedDataset(**values)


def group_noun(data: str) -> str:
    """What a group of the data set named `data` is, such as a speaker; a recording where no card says otherwise."""
    card = _find_card(data)
    return card.group if card else "recording"


def class_noun(data: str) -> str:
    """What the classes of the data set named `data` are, such as speech; classes of a set without a card."""
    card = _find_card(data)
    return card.recognizes if card else "classes"


def _find_card(data: str) -> PublishedDataset | None:
    """The card whose name `data` is, or begins with before a hyphen, as names of splits and subsets do; else None."""
    names = [card.stem for card in FOLDER.glob("*.json") if f"{data}-".startswith(f"{card.stem}-")]
    return load_published_dataset(min(names, key=len)) if names else None  # the others are manifests'


def read_text(file: Path, what: str = "a text file") -> str:
    """The text of a UTF-8 file without its byte-order mark; raises R21DError, naming the file and `what` it is."""
    try:
        return file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise R21DError(f"{file}: expected {what} ({reason})") from None
