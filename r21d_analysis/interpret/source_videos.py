"""The video files behind the items of an evaluation, and which of their frames its clips were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from r21d_analysis.explorer.predictions import ScoredRun
from r21d_core.data.manifest import Manifest, Video, load_manifest
from r21d_core.data.sampling import evaluation_clips


@dataclass(frozen=True)
class Footage:
    """Where the clips of an item lie in its video file, which may or may not be there."""

    path: Path
    frames: np.ndarray  # (clips, T) numbers of frames
    fps: float | None

    @property
    def middles(self) -> np.ndarray:
        """The number of each clip's middle frame, (clips,)."""
        return self.frames[:, self.frames.shape[1] // 2]

    @property
    def at(self) -> np.ndarray:
        """When the clips are in the middle, (clips,), in `unit`."""
        return self.middles / (self.fps or 1)

    @property
    def unit(self) -> str:
        return "s" if self.fps else "frame"


class Library:
    """The manifests below `folders`, each read when one of its videos is asked for first."""

    def __init__(self, folders: Sequence[Path]):
        self.folders = folders
        self._read: dict[str, tuple[Manifest, dict[str, Video]] | None] = {}

    def find(self, judged: ScoredRun, row: int, count: int) -> Footage | None:
        """The item `row` of the run as its evaluation with `count` clips saw it; None where no manifest knows it."""
        spec, scores = judged.run.spec, judged.scores
        found = self._manifest(spec.data)
        video = found and found[1].get(str(scores.videos[row]))
        if not video or not video.frames:
            return None
        label = int(scores.labels[row]) if spec.task != "action" else 0
        clips = evaluation_clips(spec, count, (video,), found[0].card.classes)
        return Footage(video.path, clips.frames[label * count : (label + 1) * count], video.fps)

    def _manifest(self, data: str) -> tuple[Manifest, dict[str, Video]] | None:
        """The manifest named `data` and its videos by name; None where there is none to be read."""
        if data not in self._read:
            self._read[data] = None
            paths = [path for folder in self.folders for glob in (f"{data}.csv", f"*/{data}.csv")
                     for path in sorted(folder.glob(glob))]  # fmt: skip
            if paths:
                manifest = load_manifest(paths[-1])
                self._read[data] = manifest, {video.video: video for video in manifest.videos}
        return self._read[data]
