"""Train and evaluate the spatiotemporal networks of the R(2+1)D study (Tran et al., CVPR 2018)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from r21d_core.engine.classify import Predictor
    from r21d_core.runs.run import Run

__version__ = "0.1.0"


class R21DError(Exception):
    """An error the user can correct: the message names the file or key, what was expected and what to do."""

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows in place of the traceback: the message. The cell fails all the same."""
        return [f"{type(self).__name__}: {self}"]


def count_noun(count: int | str, noun: str, plural: str = "") -> str:
    """Return "1 video" or "3 videos"; `count` may be a text, such as "3,000" or "2 to 5"."""
    return f"{count} {noun if str(count) == '1' else plural or f'{noun}s'}"


def package_folder(package: str, name: str) -> Path:
    """The data folder `name` of `package`: inside it in a wheel, beside it in a checkout or editable install."""
    root = Path(__file__).parents[1]
    return root / package / name if (root / package / name).is_dir() else root / name


def load(weights: Run | Path | str, *, device: str = "auto", folder: Path | str = "weights") -> Predictor:
    """Return the Predictor of `weights`: a run, its folder, a file, or a published name, looked up in `folder`.

    Its `predict(video)` returns the most probable classes and `features(video)` an array (8·width,).

    For example:

        >>> from r21d_core import load
        >>> model = load("runs/RUN")  # or a file, or "r2plus1d_18" after `r21d weights r2plus1d_18 --download`
        >>> model.predict("video.mp4").top[0]  # the most probable class and its probability
    """
    from r21d_core.engine.classify import Predictor  # imports torch

    return Predictor(weights, device=device, folder=folder)
