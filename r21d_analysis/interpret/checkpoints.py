"""Load the network of a finished run and the clips of its test set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from r21d_core import R21DError
from r21d_core.data.decode import probe, read_frames
from r21d_core.data.flow import input_manifest
from r21d_core.data.manifest import Manifest, Video
from r21d_core.data.sampling import Clips, batches_by_video, evaluation_clips, task_classes
from r21d_core.data.sources import InMemorySource, StreamingSource, open_clips
from r21d_core.data.transforms import center_crop, crop_frames
from r21d_core.models.load import model_from_weights, read_weights
from r21d_core.models.network import VideoResNet
from r21d_core.runs.run import Run
from r21d_core.study.spec import Spec


def checkpoint_sha256(run: Run) -> str:
    """Return the SHA-256 of the run's checkpoint in hex; "" without a checkpoint or for an unfinished run."""
    path = Path(str(run.folder), "checkpoint.pt")  # packed runs have none
    if not (run.is_complete and path.exists()):
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_network(run: Run, device: torch.device) -> VideoResNet:
    """Return the trained network of `run` in eval mode, in fp32; R21DError without a checkpoint of its own Spec."""
    weights = read_weights(Path(str(run.folder), "checkpoint.pt"))
    if weights.spec != run.spec:
        raise R21DError(f"{weights.path}: a checkpoint of another spec; move it away")
    network = model_from_weights(weights).eval().requires_grad_(False)
    return network.to(device).to(memory_format=torch.channels_last_3d)


@dataclass(frozen=True)
class EvalClips:
    """The center clip of each test item of a run: a video, or a video with each label of `speed` and `arrow`."""

    spec: Spec
    videos: tuple[Video, ...]
    classes: tuple[str, ...]
    families: dict[str, tuple[str, ...]]
    clips: Clips
    source: InMemorySource | StreamingSource

    def iter_batches(
        self, rows: np.ndarray | None = None, batch_size: int = 16
    ) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
        """Yield batches of the items `rows`: rows (n,), uint8 frames (n, T, crop, crop, 3) and the network's input."""
        rows = np.arange(len(self.clips)) if rows is None else rows
        start = 0
        for _, frames in self.source.iter_batches(batches_by_video(self.clips[rows], batch_size)):
            for part in frames.split(batch_size):
                yield rows[start : start + len(part)], crop_frames(part, self.spec), center_crop(part, self.spec)
                start += len(part)

    @property
    def item_names(self) -> np.ndarray:
        """The names of all items, (items,): of their videos, for `speed` and `arrow` followed by ", " and the label."""
        names = self.names(np.arange(len(self.clips)))
        if self.spec.task == "action":
            return names
        return np.array([f"{name}, {self.classes[label]}" for name, label in zip(names, self.clips.label, strict=True)])

    def names(self, rows) -> np.ndarray:
        """Return the names of the videos of the items `rows` in the manifest, in the shape of `rows`."""
        return np.array([video.video for video in self.videos])[self.clips.video[rows]]


def spread_per_class(label: np.ndarray, group: np.ndarray, per_class: int) -> np.ndarray:
    """Return the rows of `per_class` items of each class, from its recordings in turn.

    `label` and `group` are the label and the recording of all items, (items,).
    """
    items = pd.DataFrame({"label": label, "turn": pd.Series(group).groupby([label, group]).cumcount()})
    return np.sort(items.sort_values(["label", "turn"]).groupby("label").head(per_class).index.to_numpy())


def open_test_clips(spec: Spec, manifest: Manifest, device: torch.device) -> EvalClips:
    """Return the test clips of `manifest` for a run with `spec`.

    Frames of flow, which is computed if it is missing, are the stored fields: x in red, y in green, 128 for no motion.
    """
    videos, card = input_manifest(manifest, spec).split("test"), manifest.card
    source = open_clips(videos, (spec.frame_height, spec.frame_width), device)
    clips = evaluation_clips(spec, 1, videos, card.classes)
    return EvalClips(spec, videos, task_classes(spec, card.classes), card.families, clips, source)


def read_clip(path: Path, spec: Spec, frames: np.ndarray | None = None) -> Tensor:
    """Return a clip of the video file `path`, uint8 (1, T, H, W, 3); raises R21DError if it cannot be read.

    `frames` are the frame numbers (T,); without them it is the center clip of a run with `spec`.
    """
    if frames is None:
        video = Video(path.name, path.parent, "", "test", path.name, probe(path).frames)
        frames = evaluation_clips(spec.replace(task="action"), 1, (video,), ("",)).frames[0]
    assert frames is not None
    return torch.from_numpy(read_frames(path, frames.tolist(), (spec.frame_height, spec.frame_width)).copy())[None]
