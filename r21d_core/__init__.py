"""Train and evaluate the spatiotemporal networks of the R(2+1)D study (Tran et al., CVPR 2018)."""

from pathlib import Path

__version__ = "0.1.0"


class R21DError(Exception):
    """An error the user can correct: the message names the file or key, what was expected and what to do."""


def package_folder(package: str, name: str) -> Path:
    """The data folder `name` of `package`: inside it in a wheel, beside it in a checkout or editable install."""
    root = Path(__file__).parents[1]
    return root / package / name if (root / package / name).is_dir() else root / name
