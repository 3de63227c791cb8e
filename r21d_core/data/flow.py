"""Optical flow (Section 4.4): Farneback's method with the authors' parameters, computed once and stored as video.

A field holds, for each pixel of a frame, its displacement in pixels until the frame `frame_stride` later: x to the
right, y down. The stored video holds x in red and y in green.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from r21d_core import R21DError, count_noun
from r21d_core.data.decode import iter_timed_frames, read_all, read_frames
from r21d_core.data.encode import EncodeJob, encode_h264, encode_jobs, encode_videos
from r21d_core.data.manifest import Manifest
from r21d_core.data.sampling import evaluation_clips, frame_counts
from r21d_core.data.verify import format_list
from r21d_core.study.spec import Spec

MAX_DISPLACEMENT = 20.0  # pixels; larger displacements are clipped (flat regions give hundreds)
FARNEBACK_PARAMS = {"pyr_scale": 0.5**0.5, "levels": 5, "winsize": 10, "iterations": 2, "poly_n": 7, "poly_sigma": 1.5}
LOSS_SAMPLE = 12  # videos on which `measure_loss` measures


@dataclass(frozen=True)
class Farneback:
    """An `Encoder` of flow fields between frames of height × width that lie `frame_stride` apart.
    A file stores the signed square root of each component in 8 bits, so that small displacements, the most frequent,
    have the finest steps. H.264 codes it in RGB at the constant quality `crf`.
    """

    height: int = 128
    width: int = 171
    frame_stride: int = 1
    crf: int = 12

    def __post_init__(self):
        for name in ("height", "width", "frame_stride"):
            if (value := getattr(self, name)) < 1:
                raise R21DError(f"{name} is {value}, expected 1 or more")

    @property
    def folder(self) -> str:
        """The name of the folder that holds the stored fields."""
        return f"flow-{self.height}x{self.width}-step{self.frame_stride}"

    def __str__(self) -> str:
        params = ", ".join(f"{name} {value:.4g}" for name, value in FARNEBACK_PARAMS.items())
        return (
            f"Farneback's flow over {count_noun(self.frame_stride, 'frame')} at {self.height}×{self.width} ({params}, "
            f"Gaussian window), square root in 8 bits up to ±{MAX_DISPLACEMENT:g} pixels, CRF {self.crf}"
        )

    def encode(self, source: Path, provenance_tag: str) -> bytes:
        """The fields of the video at `source` as an MP4 file that holds `provenance_tag`."""
        options = {"preset": "veryfast", "tune": "fastdecode", "bf": "0", "g": "12", "crf": str(self.crf)}
        frames = (
            (number, 1, np.pad(quantize_flow(field), ((0, 0), (0, 0), (0, 1)), constant_values=128))
            for number, field in enumerate(compute_fields(source, self))
        )
        return encode_h264(frames, (self.height, self.width), options, provenance_tag, "libx264rgb", "rgb24")


def compute_fields(source: Path, farneback: Farneback) -> Iterator[np.ndarray]:
    """Yield each flow field of a video, float32 (height, width, 2).
    A video of N frames has N − frame_stride fields; one of frame_stride frames or fewer has one, from its first to its
    last frame.
    """
    import cv2  # needed here alone

    cv2.setNumThreads(1)  # one process a core computes
    flags = cv2.OPTFLOW_FARNEBACK_GAUSSIAN
    compute_field = partial(cv2.calcOpticalFlowFarneback, flow=None, **FARNEBACK_PARAMS, flags=flags)
    previous: deque[np.ndarray] = deque(maxlen=farneback.frame_stride)
    number = 0
    for number, (_, pixels) in enumerate(iter_timed_frames(source, (farneback.height, farneback.width))):
        if pixels is None:
            break
        gray = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
        if number >= farneback.frame_stride:
            yield compute_field(previous[0], gray)
        previous.append(gray)
    if number <= farneback.frame_stride:
        yield compute_field(previous[0], previous[-1])


def quantize_flow(field: np.ndarray) -> np.ndarray:
    """Displacements (…, 2) in pixels as uint8: 128 is 0, 1 and 255 are −MAX_DISPLACEMENT and MAX_DISPLACEMENT."""
    root = np.sqrt(np.minimum(np.abs(field) / MAX_DISPLACEMENT, 1))
    return np.rint(128 + 127 * np.copysign(root, field)).astype(np.uint8)


def dequantize_flow(stored):
    """Displacements (…, 2) in pixels, float, from stored RGB (…, 3), an array or a tensor."""
    root = (stored[..., :2] - 128.0) / 127
    return MAX_DISPLACEMENT * root * abs(root)


def input_manifest(manifest: Manifest, spec: Spec) -> Manifest:
    """The manifest of a network's input: `manifest` itself, or, for flow, one with the files of fields for its videos.
    Flow is computed once, into the folder flow-HxW-stepS beside the manifest, for all manifests there with one root.
    Raises R21DError, naming them, for videos that do not decode.
    """
    if spec.modality == "rgb":
        return manifest
    return compute_flow(manifest, Farneback(spec.frame_height, spec.frame_width, spec.frame_stride))


def compute_flow(manifest: Manifest, farneback: Farneback, *, workers: int | None = None) -> Manifest:
    """`manifest` with the files of fields for its videos; missing ones are computed. See `input_manifest`."""
    frame_counts(manifest.videos)  # raises R21DError if the manifest has not been checked
    root, beside = manifest.root, manifest.path.parent.resolve()
    # Two data sets' folders may have one name, and files of one name in them.
    digest = hashlib.sha256(os.fsencode(os.path.relpath(root, beside))).hexdigest()[:8]
    folder = manifest.path.parent / farneback.folder / f"{root.name}-{digest}"
    jobs = encode_jobs(manifest, folder, farneback)
    videos = []
    for video, job, columns in zip(manifest.videos, jobs, _encode_fields(jobs, workers), strict=True):
        expected = max((video.frames or 0) - farneback.frame_stride, 1)
        if columns["frames"] != expected:
            what = f"{count_noun(columns['frames'], 'field')}, expected {expected} from the {video.frames} frames"
            raise R21DError(f"{job.target}: {what} in {manifest.path}; run `r21d check` on the manifest")
        sizes = {key: columns[key] for key in ("frames", "width", "height")}
        videos.append(replace(video, file=job.target, **sizes))
    return replace(manifest, videos=tuple(videos))


@lru_cache(maxsize=8)  # opening every file again for each run would take seconds
def _encode_fields(jobs: tuple[EncodeJob, ...], workers: int | None) -> tuple[dict, ...]:
    results, _ = encode_videos(jobs, jobs[0].target.parent, workers, "optical flow")
    errors = [f"{job.video}: {error}" for job, error in zip(jobs, results, strict=True) if isinstance(error, str)]
    if errors:
        raise R21DError("\n".join(format_list("no flow of these videos; run `r21d check` on the manifest", errors)))
    return tuple(result[0] for result in results if not isinstance(result, str))


def measure_loss(manifest: Manifest, flow: Manifest, farneback: Farneback) -> str:
    """A line of text: the error of the stored fields against the computed ones, measured on LOSS_SAMPLE videos."""
    indices = np.unique(np.linspace(0, len(manifest.videos) - 1, LOSS_SAMPLE).astype(int))
    fields, stored = [], []
    for index in indices:
        fields += compute_fields(manifest.videos[index].path, farneback)
        stored += [*dequantize_flow(read_all(flow.videos[index].path, (farneback.height, farneback.width)))]
    field = np.stack(fields)
    kept = field.clip(-MAX_DISPLACEMENT, MAX_DISPLACEMENT)
    error = np.stack(stored) - kept
    return (
        f"loss on {count_noun(len(indices), 'video')}: median {np.median(np.abs(error)):.3f}, root mean square "
        f"{np.sqrt(np.mean(error**2)):.3f} pixels, where components have {np.median(np.abs(field)):.3f} and "
        f"{np.sqrt(np.mean(kept**2)):.3f}; {(kept != field).mean():.2%} are beyond ±{MAX_DISPLACEMENT:g} and clipped"
    )


def flow_example(manifest: Manifest, spec: Spec, index: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The middle clip of test video `index`: frames, uint8 (T, H, W, 3), and flow in pixels, float (T, H, W, 2)."""
    video, size = manifest.split("test")[index], (spec.frame_height, spec.frame_width)
    flow_video = input_manifest(manifest, spec.replace(modality="flow")).split("test")[index]
    numbers = evaluation_clips(spec, 1, (flow_video,), manifest.card.classes).frames[0]
    return read_frames(video.path, numbers, size), dequantize_flow(read_frames(flow_video.path, numbers, size))
