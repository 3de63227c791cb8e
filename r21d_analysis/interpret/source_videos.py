"""The video files behind the items of an evaluation, and the frames of its clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from r21d_core import R21DError
from r21d_core.data.manifest import Manifest, load_manifest
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
        self._manifests: dict[str, Manifest | None] = {}

    def locate(self, spec: Spec, name: str, label: int, count: int) -> SourceClips | None:
        """Return the `count` clips on which a run with `spec` evaluated the video; None if no manifest lists it."""
        manifest = self._find_manifest(spec.data)
        video = next((v for v in manifest.videos if v.video == name), None) if manifest else None
        if not manifest or not video or not video.frames:
            return None
        clips = evaluation_clips(spec, count, (video,), manifest.card.classes)
        first = label * count if spec.task != "action" else 0
        return SourceClips(video.path, clips.frames[first : first + count], video.fps)

    def has_videos(self, data: str) -> bool:
        """Return whether a manifest of `data` can be loaded and the file of its first video exists."""
        try:
            manifest = self._find_manifest(data)
        except R21DError:  # `locate` raises it
            return False
        return bool(manifest and manifest.videos and manifest.videos[0].path.exists())

    def _find_manifest(self, data: str) -> Manifest | None:
        if data not in self._manifests:
            globs = [folder.glob(f"{depth}{data}.csv") for folder in self.folders for depth in ("", "*/")]
            paths = [path for glob in globs for path in sorted(glob)]
            self._manifests[data] = load_manifest(paths[-1]) if paths else None
        return self._manifests[data]
