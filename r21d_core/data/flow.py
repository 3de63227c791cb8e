"""Optical flow (Section 4.4): Farneback's, with the authors' parameters, computed once and kept as small videos.

A field says where each pixel of a frame goes by the frame `step` later, x to the right and y down, in pixels. In its
file x is red and y is green, so that whatever reads videos reads it.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import av
import numpy as np

from r21d_core import R21DError
from r21d_core.data.decode import read_all, read_frames, iter_timed_frames
from r21d_core.data.encode import EncodeJob, encode_videos, target_names
from r21d_core.data.manifest import Manifest
from r21d_core.data.sampling import evaluation_clips, frame_counts
from r21d_core.data.verify import format_list
from r21d_core.study.spec import Spec

MAX_DISPLACEMENT = 20.0  # pixels; what moves further counts as that. In flat regions the method gives hundreds.
FARNEBACK_PARAMS = {"pyr_scale": 0.5**0.5, "levels": 5, "winsize": 10, "iterations": 2, "poly_n": 7, "poly_sigma": 1.5}
SAMPLE = 12  # videos whose fields the loss is measured on


@dataclass(frozen=True)
class Farneback:
    """Fields of frames scaled to height × width, from each frame to the one `step` later.

    A file holds 8 bits of the signed square root of a component, so that small motions, which are most, are kept more
    finely than large ones, and H.264 codes these without loss of colour, at a quality `crf` that costs little more.
    """

    height: int = 128
    width: int = 171
    frame_stride: int = 1
    crf: int = 12

    @property
    def folder(self) -> str:
        return f"flow-{self.height}x{self.width}-step{self.frame_stride}"

    def __str__(self) -> str:
        how = ", ".join(f"{name} {value:.4g}" for name, value in FARNEBACK_PARAMS.items())
        return (
            f"Farneback's flow over {self.frame_stride} frame{'s' * (self.frame_stride > 1)} at {self.height}×{self.width} ({how}, "
            f"Gaussian window), square root in 8 bits up to ±{MAX_DISPLACEMENT:g} pixels, CRF {self.crf}"
        )

    def encode(self, source: Path, mark: str) -> bytes:
        """The fields of the video at `source` as an MP4 file."""
        file = io.BytesIO()
        options = {"preset": "veryfast", "tune": "fastdecode", "bf": "0", "g": "12", "crf": str(self.crf)}
        options["x264-params"] = "log-level=error"
        with av.open(file, "w", format="mp4") as container:
            container.metadata["comment"] = mark
            stream = container.add_stream("libx264rgb", rate=25, options=options)
            stream.height, stream.width, stream.pix_fmt = self.height, self.width, "rgb24"
            stream.codec_context.thread_count = 1
            picture = np.full((self.height, self.width, 3), 128, np.uint8)
            for number, field in enumerate(compute_fields(source, self)):
                picture[..., :2] = quantize_flow(field)
                frame = av.VideoFrame.from_ndarray(picture)
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return file.getvalue()


def compute_fields(source: Path, way: Farneback) -> Iterator[np.ndarray]:
    """Each field of a video, float32 (height, width, 2): N − step of them for N frames, and one at the least.

    A video of `step` frames or fewer has one from its first frame to its last.
    """
    import cv2  # here, since only those who compute flow need it

    cv2.setNumThreads(1)  # the videos are many, and have a process a core
    earlier: deque[np.ndarray] = deque(maxlen=way.frame_stride)
    number = 0
    for number, (_, pixels) in enumerate(iter_timed_frames(source, (way.height, way.width))):
        if pixels is None:
            break
        grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
        if number >= way.frame_stride:
            yield _farneback(earlier[0], grey)
        earlier.append(grey)
    if number <= way.frame_stride:
        yield _farneback(earlier[0], earlier[-1])


def _farneback(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.calcOpticalFlowFarneback(before, after, None, **FARNEBACK_PARAMS, flags=cv2.OPTFLOW_FARNEBACK_GAUSSIAN)


def quantize_flow(field: np.ndarray) -> np.ndarray:
    """Pixels (…, 2) as uint8: 128 is no motion, 1 and 255 are MAX_DISPLACEMENT or more to the left and right, or up and down."""
    share = np.sqrt(np.minimum(np.abs(field) / MAX_DISPLACEMENT, 1))
    return np.rint(128 + 127 * np.copysign(share, field)).astype(np.uint8)


def dequantize_flow(stored):
    """Pixels (…, 2), float, of what `quantize_flow` made and a video gave back (…, 3), as an array or a tensor."""
    share = (stored[..., :2] - 128.0) / 127
    return MAX_DISPLACEMENT * share * abs(share)


def input_manifest(manifest: Manifest, spec: Spec) -> Manifest:
    """The manifest as a network of `spec` sees it: itself, or for flow with the fields' files for its videos.

    Flow is computed on first use, by a process a core, into the folder flow-HxW-stepS beside the manifest. Stopped in
    any way, the next call goes on; of each video it is computed once, whichever manifest of the folder lists it. Says
    beforehand what it takes. Raises R21DError, naming them, for videos that do not decode.
    """
    if spec.modality == "rgb":
        return manifest
    return compute_flow(manifest, Farneback(spec.frame_height, spec.frame_width, spec.frame_stride))


def compute_flow(manifest: Manifest, way: Farneback, *, workers: int | None = None) -> Manifest:
    """The manifest with the files of fields for its videos, those not there yet made now. Otherwise as `input_manifest`."""
    frame_counts(manifest.videos)  # refuses one that is not checked
    folder = manifest.path.parent / way.folder / manifest.root.name
    jobs = tuple(
        EncodeJob(video.video, video.path, folder / target, way)
        for video, target in zip(manifest.videos, target_names(manifest), strict=True)
    )
    videos = []
    for video, job, found in zip(manifest.videos, jobs, _made(jobs, workers), strict=True):
        expected = max(video.frames - way.frame_stride, 1)
        if found["frames"] != expected:
            raise R21DError(
                f"{job.target}: {found['frames']} fields, {expected} expected of the {video.frames} frames in "
                f"{manifest.path}; run `r21d check` on the manifest"
            )
        videos.append(replace(video, path=job.target, **{key: found[key] for key in ("frames", "width", "height")}))
    return replace(manifest, videos=tuple(videos))


@lru_cache(maxsize=8)  # looking at each file again for every run would take seconds
def _made(jobs: tuple[EncodeJob, ...], workers: int | None) -> tuple[dict, ...]:
    done, _ = encode_videos(list(jobs), jobs[0].target.parent, workers, "optical flow")
    if bad := [f"{job.video}: {why}" for job, why in zip(jobs, done, strict=True) if isinstance(why, str)]:
        raise R21DError("\n".join(format_list("no flow of these videos; run `r21d check` on the manifest", bad)))
    return tuple(found for found, _ in done)


def measure_loss(manifest: Manifest, flow: Manifest, way: Farneback) -> str:
    """What keeping the fields in 8 bits and coding them loses, measured on a few videos, as a line of text."""
    chosen = np.unique(np.linspace(0, len(manifest.videos) - 1, SAMPLE).astype(int))
    errors, exact = [], []
    for place in chosen:
        field = np.stack(list(compute_fields(manifest.videos[place].path, way)))
        exact.append(field.ravel())
        kept = dequantize_flow(read_all(flow.videos[place].path, (way.height, way.width)))
        errors.append((kept - field.clip(-MAX_DISPLACEMENT, MAX_DISPLACEMENT)).ravel())
    error, field = np.concatenate(errors), np.concatenate(exact)
    beyond = np.abs(field) > MAX_DISPLACEMENT
    return (
        f"loss on {len(chosen)} videos: median {np.median(np.abs(error)):.3f}, root mean square "
        f"{np.sqrt(np.mean(error**2)):.3f} pixels, where components have {np.median(np.abs(field)):.3f} and "
        f"{np.sqrt(np.mean(field.clip(-MAX_DISPLACEMENT, MAX_DISPLACEMENT) ** 2)):.3f}; {beyond.mean():.2%} are beyond ±{MAX_DISPLACEMENT:g} and cut"
    )


def flow_example(manifest: Manifest, spec: Spec, video: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The frames of the middle clip of a video, uint8 (T, H, W, 3), and their flow in pixels, float (T, H, W, 2).

    `video` is its place in the manifest's test side; `spec` says clip length, step and size.
    """
    seen, size = (
        input_manifest(manifest, spec.replace(modality="flow")).split("test"),
        (spec.frame_height, spec.frame_width),
    )
    numbers = evaluation_clips(spec, 1, seen[video : video + 1], manifest.card.classes).frames[0]
    frames, stored = (read_frames(one.path, numbers, size) for one in (manifest.split("test")[video], seen[video]))
    return frames, dequantize_flow(stored)
