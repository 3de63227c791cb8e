"""Published weights for these networks: one row each, with the URL, and functions to find and download them."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

from r21d_core import R21DError


@dataclass(frozen=True)
class Published:
    """A published file of weights. `fps` is the frame rate of its training clips, None if not documented."""

    name: str
    url: str
    variant: str
    depth: int
    frames: int
    num_classes: int
    trained_on: str
    license: str
    fps: float | None = None

    @property
    def file(self) -> str:
        """The file name."""
        return self.url.rpartition("/")[2]

    @property
    def sha256(self) -> str:
        """The first hex digits of the file's SHA-256, which by PyTorch's convention end its name."""
        return self.file.rpartition("-")[2].partition(".")[0]


_TORCHVISION = "https://download.pytorch.org/models/"
_IG65M = "https://github.com/moabitcoin/ig65m-pytorch/releases/download/v1.0.0/"
_BSD = "BSD-3-Clause for the code; torchvision states no license for the weights and refers to that of the data"
_MIT = "MIT for this conversion; Apache-2.0 for the authors' release (VMZ); IG-65M itself was never public"
# Sources: of the first three rows torchvision's documentation, of the others the maintainers' conversion scripts and
# the authors' model zoo. An early README of the conversion swapped 487 and 359; the rows follow the files.
PUBLISHED = (
    Published("r3d_18", f"{_TORCHVISION}r3d_18-b3b3357e.pth", "R3D", 18, 16, 400, "Kinetics-400", _BSD, 15),
    Published("mc3_18", f"{_TORCHVISION}mc3_18-a90a0ba3.pth", "MC3", 18, 16, 400, "Kinetics-400", _BSD, 15),
    Published("r2plus1d_18", f"{_TORCHVISION}r2plus1d_18-91a641e6.pth",
              "R(2+1)D", 18, 16, 400, "Kinetics-400", _BSD, 15),
    Published("r2plus1d_34_8_ig65m", f"{_IG65M}r2plus1d_34_clip8_ig65m_from_scratch-9bae36ae.pth",
              "R(2+1)D", 34, 8, 487, "IG-65M", _MIT),
    Published("r2plus1d_34_32_ig65m", f"{_IG65M}r2plus1d_34_clip32_ig65m_from_scratch-449a7af9.pth",
              "R(2+1)D", 34, 32, 359, "IG-65M", _MIT),
    Published("r2plus1d_34_8_kinetics", f"{_IG65M}r2plus1d_34_clip8_ft_kinetics_from_ig65m-0aa0550b.pth",
              "R(2+1)D", 34, 8, 400, "IG-65M, then Kinetics-400", _MIT),
    Published("r2plus1d_34_32_kinetics", f"{_IG65M}r2plus1d_34_clip32_ft_kinetics_from_ig65m-ade133f1.pth",
              "R(2+1)D", 34, 32, 400, "IG-65M, then Kinetics-400", _MIT),
)  # fmt: skip


def published(name: str) -> Published:
    """Return the row of a name or a file name, with or without a folder; raises R21DError if there is none."""
    last = Path(name).name
    for row in PUBLISHED:
        if last in (row.name, row.file):
            return row
    names = [row.name for row in PUBLISHED]
    close = get_close_matches(last, names, 1)
    hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(names)}"
    raise R21DError(f"{name}: neither an existing file or run folder nor the name of published weights; {hint}")


def resolve_weights(name: Path | str, folder: Path | str = "weights") -> Path:
    """Return the path of a file of weights, given by path, run folder, published name or published file name.

    Published weights are looked up in `folder`, then, for notebooks, in ../`folder`; nothing is downloaded. Raises
    R21DError with the missing file, its URL and the path to put it at.
    """
    path = Path(name)
    if path.is_dir():
        path /= "checkpoint.pt"
        if not path.exists():
            expected = "name a run folder that still has its checkpoint, or a file of weights"
            raise R21DError(f"{path}: no such file; {expected}")
    if path.exists():
        return path
    row = published(str(path))
    candidates = [path] if path.parent != Path() else [Path(folder) / row.file, Path("..") / folder / row.file]
    if existing := [file for file in candidates if file.exists()]:
        return existing[0]
    manual = _manual_download(row, candidates[0])
    raise R21DError(f"{candidates[0]}: no such file; run `r21d weights {row.name} --download`, or {manual}")


def download(name: str, folder: Path | str = "weights") -> Path:
    """Download published weights into `folder` unless they are there, with a progress bar, and return their path.

    Raises R21DError and leaves no file if the server cannot be reached or the SHA-256 differs; the message has the URL.
    """
    import torch  # imported here, as the table needs no torch

    row = published(name)
    path = Path(folder) / row.file
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(row.url, str(path), row.sha256)
    except (OSError, HTTPException, RuntimeError) as error:
        if isinstance(error, HTTPError):
            error.close()  # closes the connection
        raise R21DError(f"{row.url}: download failed ({error}); {_manual_download(row, path)}") from error
    return path


def _manual_download(row: Published, path: Path) -> str:
    return f"download {row.url} yourself (its SHA-256 begins with {row.sha256}) and put it at {path}"


def kinetics400() -> tuple[str, ...]:
    """Return the 400 classes of Kinetics in alphabetical order, which is that of the published networks' outputs."""
    from torchvision.models.video import R3D_18_Weights

    return tuple(R3D_18_Weights.KINETICS400_V1.meta["categories"])


def describe_published(name: str, folder: Path | str = "weights") -> str:
    """Return one row with all its fields, as text."""
    row = published(name)
    path = Path(folder) / row.file
    rate = f"{row.fps:g} fps" if row.fps else "frame rate not documented"
    local = path if path.exists() else f"none; run `r21d weights {row.name} --download`, or copy it to {path}"
    return f"""{row.name}: {row.variant}, {row.depth} layers, {row.num_classes} classes
  trained on  {row.trained_on}, clips of {row.frames} frames, {rate}
  published   {row.url}
  SHA-256     {row.sha256}…
  license     {row.license}
  local file  {local}"""
