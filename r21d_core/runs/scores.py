"""The logits of every evaluated clip: the record behind every accuracy, table and figure."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from r21d_core import R21DError
from r21d_core.runs.files import write_atomically


@dataclass(frozen=True)
class Scores:
    """What a network said of every clip of a test set.

    An item is a test video, or for the tasks `speed` and `arrow` a video under one of its labels, so that a
    video may stand in several items. `protocol` says how the logits came to be: clips, crop, clip length and
    step, task, data, split, the videos listed and evaluated, and the families of classes where the data has some.
    """

    logits: np.ndarray  # (items, clips, classes) float32
    labels: np.ndarray  # (items,) int64
    videos: np.ndarray  # (items,) str, as in the manifest
    classes: tuple[str, ...]
    protocol: dict


def save_scores(path: Path, scores: Scores) -> None:
    """Write `scores` to the .npz file `path`, atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        logits=scores.logits.astype(np.float32),
        labels=scores.labels.astype(np.int64),
        videos=np.asarray(scores.videos, dtype=str),
        classes=np.asarray(scores.classes, dtype=str),
        protocol=np.asarray(json.dumps(scores.protocol)),
    )
    write_atomically(path, buffer.getvalue())


def load_scores(path: Path) -> Scores:
    """The Scores in the .npz file `path`; raises R21DError if it is missing or not such a file."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            scores = Scores(
                logits=file["logits"],
                labels=file["labels"],
                videos=file["videos"],
                classes=tuple(str(name) for name in file["classes"]),
                protocol=json.loads(str(file["protocol"])),
            )
    except FileNotFoundError:
        raise R21DError(f"{path}: no such scores; run the experiment that makes them") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise R21DError(f"{path}: not a scores file ({error}); delete it and run the experiment again") from error
    items, _, classes = scores.logits.shape
    if (len(scores.labels), len(scores.videos), len(scores.classes)) != (items, items, classes):
        raise R21DError(f"{path}: logits of shape {scores.logits.shape} do not fit its labels, videos and classes")
    return scores
