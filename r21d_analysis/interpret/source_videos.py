"""The video files behind the items of an evaluation, and the frames of its clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from r21d_core.data.manifest import Manifest, Video, load_manifest
from r21d_core.data.sampling import evaluation_clips
from r21d_core.study.spec import Spec


@dataclass(frozen=True)
class SourceClips:
    """The clips of an item in its video file, which may be missing."""

    path: Path
    frames: np.ndarray  # (clips, T) frame numbers
    fps: float | None

    @property
    def center_frames(self) -> np.ndarray:
        """The number of each clip's center frame, (clips,)."""
        return self.frames[:, self.frames.shape[1] // 2]

    @property
    def times(self) -> np.ndarray:
        """The clips' centers in `unit`, (clips,)."""
        return self.center_frames / (self.fps or 1)

    @property
    def unit(self) -> str:
        """Seconds, or frames where the frame rate is unknown."""
        return "s" if self.fps else "frame"


class VideoLocator:
    """The manifests below `folders`, each loaded when one of its videos is first needed."""

    def __init__(self, folders: Sequence[Path]):
        self.folders = folders
        self._manifests: dict[str, tuple[Manifest, dict[str, Video]] | None] = {}

    def locate(self, spec: Spec, name: str, label: int, count: int) -> SourceClips | None:
        """Return the `count` clips on which a run with `spec` evaluated the video; None if no manifest lists it."""
        entry = self._manifest(spec.data)
        video = entry[1].get(name) if entry else None
        if not entry or not video or not video.frames:
            return None
        clips = evaluation_clips(spec, count, (video,), entry[0].card.classes)
        first = label * count if spec.task != "action" else 0
        return SourceClips(video.path, clips.frames[first : first + count], video.fps)

    def _manifest(self, data: str) -> tuple[Manifest, dict[str, Video]] | None:
        """Return the manifest named `data` and its videos by name; None if there is none."""
        if data not in self._manifests:
            self._manifests[data] = None
            paths = [path for folder in self.folders for glob in (f"{data}.csv", f"*/{data}.csv")
                     for path in sorted(folder.glob(glob))]  # fmt: skip
            if paths:
                manifest = load_manifest(paths[-1])
                self._manifests[data] = manifest, {video.video: video for video in manifest.videos}
        return self._manifests[data]
