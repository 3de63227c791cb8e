"""A finished run opened again: its network, and the clips of its test set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from r21d_core import R21DError
from r21d_core.data.decode import probe, read_frames
from r21d_core.data.flow import input_manifest
from r21d_core.data.manifest import Manifest, Video
from r21d_core.data.sampling import Clips, batches_by_video, evaluation_clips, task_classes
from r21d_core.data.sources import InMemorySource, StreamingSource, open_clips
from r21d_core.data.transforms import center_crop
from r21d_core.models.load import model_from_weights, read_weights
from r21d_core.models.network import VideoResNet
from r21d_core.runs.run import Run
from r21d_core.study.spec import Spec


def checkpoint_sha256(run: Run) -> str:
    """SHA-256 of the run's checkpoint, in hex; empty where there is none or the run is not done."""
    path = run.folder / "checkpoint.pt"
    if not (run.is_complete and path.exists()):
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_network(run: Run, device: torch.device) -> VideoResNet:
    """The trained network of `run`, evaluating in fp32 in its plain form.

    Raises R21DError for a run without a whole checkpoint of its own Spec.
    """
    weights = read_weights(run.folder / "checkpoint.pt")
    if weights.spec != run.spec:
        raise R21DError(f"{weights.path}: a checkpoint of another spec; move it away")
    network = model_from_weights(weights).eval().requires_grad_(False)
    return network.to(device, memory_format=torch.channels_last_3d)


@dataclass(frozen=True)
class EvalClips:
    """The middle clip of every test item of a run: a video, or a video under each label of `speed` and `arrow`."""

    __test__ = False  # pytest takes the name for a test's

    spec: Spec
    videos: tuple[Video, ...]
    classes: tuple[str, ...]
    families: dict[str, tuple[str, ...]]
    clips: Clips
    source: InMemorySource | StreamingSource

    def read(self, rows: np.ndarray | None = None, batch: int = 16) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
        """By batches of items: their rows, uint8 frames (n, T, crop, crop, 3) and the network's input."""
        rows = np.arange(len(self.clips)) if rows is None else np.asarray(rows)
        wanted = self.clips[rows]
        done = 0
        for _, frames in self.source.iter_batches(batches_by_video(wanted, batch)):
            for part in frames.split(batch):
                yield rows[done : done + len(part)], cropped(part, self.spec), center_crop(part, self.spec)
                done += len(part)

    def names(self, rows) -> np.ndarray:
        """The videos of the items `rows`, as in the manifest; of the same shape."""
        return np.array([video.video for video in self.videos])[self.clips.video[rows]]

    def some(self, per_class: int) -> np.ndarray:
        """Rows of the first `per_class` items of every class."""
        label = self.clips.label
        return np.sort(np.concatenate([np.flatnonzero(label == one)[:per_class] for one in np.unique(label)]))


def open_test_clips(spec: Spec, manifest: Manifest, device: torch.device) -> EvalClips:
    """The TestClips of a run with `spec` on the test side of `manifest`, decoded as they are needed or held.

    Of flow, which is computed where it is missing, frames are fields as they are kept: x in red, y in green, 128 still.
    """
    videos, card = input_manifest(manifest, spec).split("test"), manifest.card
    source = open_clips(videos, (spec.frame_height, spec.frame_width), device)
    clips = evaluation_clips(spec, 1, videos, card.classes)
    return EvalClips(spec, videos, task_classes(spec, card.classes), card.families, clips, source)


def read_clip(path: Path, spec: Spec, frames: np.ndarray | None = None) -> Tensor:
    """The frames of these numbers (T,) of the video file `path`, uint8 (1, T, H, W, 3); raises R21DError.

    Without numbers, its middle clip as the run would cut it.
    """
    if frames is None:
        one = Video(path.name, path.parent, "", "test", path.name, probe(path).frames)
        frames = evaluation_clips(spec.replace(task="action"), 1, (one,), ("",)).frames[0]
    frames = read_frames(path, frames, (spec.frame_height, spec.frame_width))
    return torch.from_numpy(np.ascontiguousarray(frames))[None]


def cropped(frames: Tensor, spec: Spec) -> Tensor:
    """The centre of uint8 frames (n, T, H, W, 3) that the network sees."""
    top, left = (spec.frame_height - spec.crop) // 2, (spec.frame_width - spec.crop) // 2
    return frames[:, :, top : top + spec.crop, left : left + spec.crop]
