"""Weights that others have published for these networks: a row each, where they are, and how to have them here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

from r21d_core import R21DError


@dataclass(frozen=True)
class Published:
    """A file of weights somewhere. `fps` is the frame rate it was trained at, None where nobody says."""

    name: str
    url: str
    layout: str  # as in `pretrained.Weights`
    variant: str
    depth: int
    frames: int
    classes: int
    trained_on: str
    licence: str
    fps: float | None = None

    @property
    def file(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def sha256(self) -> str:
        """The hex digits that the SHA-256 of the file begins with, which by PyTorch's custom end its name."""
        return re.search(r"-([0-9a-f]{8,})\.", self.file)[1]


_TORCHVISION = "https://download.pytorch.org/models/"
_IG65M = "https://github.com/moabitcoin/ig65m-pytorch/releases/download/v1.0.0/"
_BSD = "BSD-3-Clause for the code; torchvision gives the weights no licence of their own and points to the data's"
_MIT = "MIT for this conversion; Apache-2.0 for the authors' release (VMZ); IG-65M itself was never public"
# Frames, rate and classes of the first three: torchvision's documentation. Of the others: the maintainers' conversion
# scripts and the authors' model zoo. Their README once had 487 and 359 the wrong way round; the files decide.
PUBLISHED = (
    Published("r3d_18", f"{_TORCHVISION}r3d_18-b3b3357e.pth",
              "torchvision", "R3D", 18, 16, 400, "Kinetics-400", _BSD, 15),
    Published("mc3_18", f"{_TORCHVISION}mc3_18-a90a0ba3.pth",
              "torchvision", "MC3", 18, 16, 400, "Kinetics-400", _BSD, 15),
    Published("r2plus1d_18", f"{_TORCHVISION}r2plus1d_18-91a641e6.pth",
              "torchvision", "R(2+1)D", 18, 16, 400, "Kinetics-400", _BSD, 15),
    Published("r2plus1d_34_8_ig65m", f"{_IG65M}r2plus1d_34_clip8_ig65m_from_scratch-9bae36ae.pth",
              "authors", "R(2+1)D", 34, 8, 487, "IG-65M", _MIT),
    Published("r2plus1d_34_32_ig65m", f"{_IG65M}r2plus1d_34_clip32_ig65m_from_scratch-449a7af9.pth",
              "authors", "R(2+1)D", 34, 32, 359, "IG-65M", _MIT),
    Published("r2plus1d_34_8_kinetics", f"{_IG65M}r2plus1d_34_clip8_ft_kinetics_from_ig65m-0aa0550b.pth",
              "authors", "R(2+1)D", 34, 8, 400, "IG-65M, then Kinetics-400", _MIT),
    Published("r2plus1d_34_32_kinetics", f"{_IG65M}r2plus1d_34_clip32_ft_kinetics_from_ig65m-ade133f1.pth",
              "authors", "R(2+1)D", 34, 32, 400, "IG-65M, then Kinetics-400", _MIT),
)  # fmt: skip


def published(name: str) -> Published:
    """The row of a name or file name, in a folder or not; raises R21DError where there is none."""
    last = Path(name).name
    for row in PUBLISHED:
        if last in (row.name, row.file):
            return row
    names = [row.name for row in PUBLISHED]
    close = get_close_matches(last, names, 1)
    hint = f"did you mean {close[0]}?" if close else f"published are {', '.join(names)}"
    raise R21DError(f"{name}: neither a file or run folder here nor published weights; {hint}")


def resolve_weights(name: Path | str, folder: Path | str = "weights") -> Path:
    """The file of weights: a path, a run folder's checkpoint, or a published name or file name looked up in `folder`.

    Or in the same folder one level up, which notebooks/ is below. Nothing is fetched. Raises R21DError that says which
    file to fetch, from where, and where to put it.
    """
    path = Path(name)
    if path.is_dir():
        path /= "checkpoint.pt"
        if not path.exists():
            raise R21DError(f"{path}: not there; name a run folder that still has its checkpoint, or a file of weights")
    if path.exists():
        return path
    row = published(str(path))
    places = [path] if path.parent != Path() else [Path(folder) / row.file, Path("..") / folder / row.file]
    place = next(filter(Path.exists, places), places[0])
    if not place.exists():
        raise R21DError(
            f"{place}: not there; `r21d weights {row.name} --download` fetches it, or {_by_hand(row, place)}"
        )
    return place


def download(name: str, folder: Path | str = "weights") -> Path:
    """Fetch published weights into `folder`, once, and return their path; a progress bar shows.

    Raises R21DError, and leaves no file, where the server is out of reach or sends something else than was published;
    it says which file to fetch by other means.
    """
    import torch  # here, since the table is of use without

    row = published(name)
    path = Path(folder) / row.file
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(row.url, str(path), row.sha256)
    except (OSError, HTTPException, RuntimeError) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        raise R21DError(f"{row.url}: could not be fetched ({error}); {_by_hand(row, path)}") from error
    return path


def _by_hand(row: Published, place: Path) -> str:
    return f"fetch {row.url} yourself (its SHA-256 begins with {row.sha256}) and put it at {place}"


def kinetics400() -> tuple[str, ...]:
    """The 400 classes of Kinetics in the order of the published networks' outputs, which is that of the alphabet."""
    from torchvision.models.video import R3D_18_Weights

    return tuple(R3D_18_Weights.KINETICS400_V1.meta["categories"])


def format_published(folder: Path | str = "weights") -> str:
    """The table for people, with which of the files are in `folder`."""
    lines = [f"{'name':<25}{'network':<12}{'frames':>6}{'classes':>9}  {'trained on':<27}here"]
    for row in PUBLISHED:
        path = Path(folder) / row.file
        network, here = f"{row.variant}-{row.depth}", path if path.exists() else "no"
        lines.append(f"{row.name:<25}{network:<12}{row.frames:>6}{row.classes:>9}  {row.trained_on:<27}{here}")
    return "\n".join(lines)


def describe_published(name: str, folder: Path | str = "weights") -> str:
    """All that is known of one row, as text."""
    row = published(name)
    path = Path(folder) / row.file
    rate = f"{row.fps:g} frames a second" if row.fps else "frame rate not said"
    here = path if path.exists() else f"no; `r21d weights {row.name} --download`, or put it at {path}"
    return f"""{row.name}: {row.variant}, {row.depth} layers, {row.classes} classes
  trained on  {row.trained_on}, clips of {row.frames} frames, {rate}
  published   {row.url}
  SHA-256     {row.sha256}…
  licence     {row.licence}
  here        {here}"""
