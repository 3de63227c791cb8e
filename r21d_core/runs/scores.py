"""The logits of every evaluated clip: the record behind every accuracy, table and figure."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from r21d_core import R21DError
from r21d_core.runs.quantize import dequantize

ITEM_ARRAYS = ("logits", "labels", "videos", "groups")  # of Scores, whose first axis is the item


@dataclass(frozen=True)
class Scores:
    """The logits of a network on every clip of a test set.

    An item is a test video, or for the tasks `speed` and `arrow` a video under one of its labels. `protocol` holds
    clips, crop, clip length, frame stride, task, data, split, the numbers of videos listed and evaluated, the
    families of classes where the data has some, and in a pack how the logits are quantized.
    """

    logits: np.ndarray  # (items, clips, classes) float32
    labels: np.ndarray  # (items,) int64
    videos: np.ndarray  # (items,) str, as in the manifest
    groups: np.ndarray  # (items,) str, the recording that the item was cut from, as in the manifest
    classes: tuple[str, ...]
    protocol: dict

    @property
    def families(self) -> dict[str, list[str]]:
        """The families of classes; none for another task than `action`, whose classes are not the data's."""
        families = self.protocol.get("families", {})
        return {family: names for family, names in families.items() if {*names} <= {*self.classes}}


def take_items(scores: Scores, rows: np.ndarray | slice) -> Scores:
    """`scores` of the items `rows`, a mask, indices or a slice."""
    items = {name: getattr(scores, name)[rows] for name in ITEM_ARRAYS}
    return replace(scores, **items)


def encode_scores(scores: Scores, quantized: dict[str, np.ndarray] | None = None) -> bytes:
    """The .npz file of `scores`, with the arrays `quantized` instead of logits and not compressed if they are given."""
    buffer = io.BytesIO()
    logits: dict[str, Any] = {"logits": scores.logits.astype(np.float32)} if quantized is None else quantized
    (np.savez_compressed if quantized is None else np.savez)(
        buffer,
        **logits,
        labels=scores.labels.astype(np.int64),
        videos=np.asarray(scores.videos, dtype=str),
        groups=np.asarray(scores.groups, dtype=str),
        classes=np.asarray(scores.classes, dtype=str),
        protocol=np.asarray(json.dumps(scores.protocol)),
    )
    return buffer.getvalue()


def decode_scores(path: Path, content: bytes) -> Scores:
    """The Scores in the .npz file `content` of `path`; raises R21DError naming it if it is not such a file."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = dict(file)
        if "groups" not in arrays:
            raise R21DError("it has no groups, the recording of each item")
        scores = Scores(
            logits=dequantize(arrays) if "levels" in arrays else arrays["logits"],
            labels=arrays["labels"],
            videos=arrays["videos"],
            groups=arrays["groups"],
            classes=tuple(str(name) for name in arrays["classes"]),
            protocol=json.loads(str(arrays["protocol"])),
        )
        _check(scores)
    except R21DError as error:
        raise R21DError(f"{path}: {error}; delete it and run the experiment again") from None
    except Exception as error:  # numpy and zipfile raise many kinds for damaged files
        raise R21DError(f"{path}: not a scores file ({error}); delete it and run the experiment again") from error
    return scores


def _check(scores: Scores) -> None:
    items, _, classes = scores.logits.shape
    shapes = {array.shape for array in (scores.labels, scores.videos, scores.groups)}
    if (shapes, len(scores.classes)) != ({(items,)}, classes):
        raise R21DError(f"logits of shape {scores.logits.shape} do not fit its labels, videos, groups and classes")
    types = scores.logits.dtype, scores.labels.dtype, scores.videos.dtype.kind, scores.groups.dtype.kind
    if types != (np.float32, np.int64, "U", "U"):
        raise R21DError("expected logits of float32, labels of int64 and names of videos and groups")
    if not np.isfinite(scores.logits).all() or not ((scores.labels >= 0) & (scores.labels < classes)).all():
        raise R21DError("logits are not finite or labels are none of the classes")
    if not isinstance(scores.protocol, dict):
        raise R21DError("its protocol is not a JSON object")
