"""Coding every video of a manifest once, small and with many places to begin at, so that clips are cheap to decode."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from r21d_core import R21DError
from r21d_core.data.decode import read_frames, iter_timed_frames
from r21d_core.data.encode import SAMPLE, EncodeJob, encode_videos, target_names
from r21d_core.data.manifest import Video, check_no_leaks, load_manifest, write_manifest
from r21d_core.data.verify import check_class_coverage, format_list, write_quarantine

CLIP_FRAMES = 8
TICKS = 90_000  # a second, where frames keep their own times


@dataclass(frozen=True)
class EncodeOptions:
    """How videos are coded: H.264 in MP4, 4:2:0, a key frame every `gop` frames at least, constant quality `crf`.

    `fps` None keeps every frame at its own time. Without B-frames, CABAC and deblocking a clip decodes in half the
    time, for a tenth more bytes.
    """

    height: int = 128
    width: int = 172
    fps: Fraction | None = None
    gop: int = 12
    crf: int = 20

    def __post_init__(self):
        for name in ("height", "width"):
            if (side := getattr(self, name)) < 2 or side % 2:
                raise R21DError(
                    f"{name} is {side}, expected an even number, as colour has half the size in H.264; 172 does for "
                    "the paper's 171: frames are scaled to what a run asks for"
                )
        if self.gop < 1 or not 0 < self.crf <= 51 or (self.fps is not None and not 0 < self.fps <= 1000):
            raise R21DError(f"{self}: expected gop of 1 or more, crf from 1 to 51, fps above 0 and up to 1000")

    @property
    def suffix(self) -> str:
        return f"{self.height}x{self.width}" + (f"-{float(self.fps):g}fps" if self.fps else "")

    def __str__(self) -> str:
        rate = f"{float(self.fps):g} fps" if self.fps else "every frame"
        return f"H.264, {self.height}×{self.width}, {rate}, GOP {self.gop}, CRF {self.crf}"

    def encode(self, source: Path, mark: str) -> bytes:
        """The video at `source` as an MP4 file."""
        file = io.BytesIO()
        options = {
            "preset": "medium",
            "tune": "fastdecode",
            "bf": "0",
            "g": str(self.gop),
            "crf": str(self.crf),
            "x264-params": "log-level=error",
        }
        unit = 1 / self.fps if self.fps else Fraction(1, TICKS)
        with av.open(file, "w", format="mp4") as container:
            container.metadata["comment"] = mark
            stream = container.add_stream("libx264", rate=self.fps or 25, options=options)
            stream.height, stream.width, stream.pix_fmt = self.height, self.width, "yuv420p"
            stream.codec_context.time_base = unit
            stream.codec_context.thread_count = 1
            for ticks, length, pixels in _in_ticks(iter_timed_frames(source, (self.height, self.width)), self.fps):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))
                frame.pts, frame.duration, frame.time_base = ticks, length, unit
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return file.getvalue()


@dataclass(frozen=True)
class PrepareReport:
    """What `prepare` made. Bytes are of the videos that are kept, milliseconds the medians for a clip of 8 frames."""

    path: Path
    coding: EncodeOptions
    videos: int
    made: int  # in this call; the others were there
    bytes_before: int
    bytes_after: int
    milliseconds_before: float
    milliseconds_after: float
    bad: dict[str, str]  # video as in the first manifest, and reason

    def __str__(self) -> str:
        before, after = self.bytes_before / 1e6, self.bytes_after / 1e6
        lines = [
            f"{self.path}: {self.videos} videos ({self.coding}), {self.made} made now",
            f"{before:,.1f} MB before, {after:,.1f} MB now; a clip of {CLIP_FRAMES} frames at a random start, "
            f"at {self.coding.height}×{self.coding.width}: {self.milliseconds_before:.1f} ms before, "
            f"{self.milliseconds_after:.1f} ms now on one core",
            *format_list(
                f"set aside in {self.path.with_suffix('.quarantine.csv')}",
                [f"{name}: {reason}" for name, reason in self.bad.items()],
            ),
        ]
        return "\n".join(lines)


def prepare(
    manifest_path: Path | str,
    out: Path | str | None = None,
    coding: EncodeOptions | None = None,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> PrepareReport:
    """Code every video of a manifest anew and write the manifest NAME-128x172[-15fps].csv of them, with its card.

    It goes to the folder `out`, by default beside the first, the videos to a folder of the same name. The rows keep
    label, split and group, and say what the new files hold. A file is there whole or not at all, and those that were
    made of the same source in the same way are left alone: stopped in any way, the same call goes on. Frames are what
    `read_all` gives; with `coding.fps`, frame k is the one shown k/fps seconds after the first. Says beforehand about
    what it takes. What does not decode goes to NAME-….quarantine.csv with the reason. `workers` as in `index.check`.

    Raises R21DError, before anything is coded, if the manifest leaks or names videos outside its root, and if the disk
    has too little room; later if none, or none to train on of a class, decodes.
    """
    coding = coding or EncodeOptions()
    manifest = load_manifest(manifest_path)
    check_no_leaks(manifest)
    name = f"{manifest.card.name}-{coding.suffix}"
    path = (Path(out) if out else manifest.path.parent) / f"{name}.csv"
    jobs = [
        EncodeJob(video.video, video.path, path.with_suffix("") / target, coding)
        for video, target in zip(manifest.videos, target_names(manifest), strict=True)
    ]
    made, first = encode_videos(jobs, path.parent, workers, "preparing", progress)

    kept, bad = {}, {}
    for video, job, done in zip(manifest.videos, jobs, made, strict=True):
        if isinstance(done, str):
            bad[video.video] = video, done
        else:
            kept[video] = replace(
                video, video=job.target.relative_to(path.with_suffix("")).as_posix(), path=job.target, **done[0]
            )
    check_class_coverage(manifest, replace(manifest, videos=tuple(kept)), bad)
    card = replace(
        manifest.card,
        name=name,
        source=f"{manifest.card.source or manifest.card.name}; from {manifest.card.name} by r21d prepare: {coding}",
        root=name,
        frame_rate=f"{float(coding.fps):g} fps" if coding.fps else manifest.card.frame_rate or "as the source's",
    )
    write_manifest(path, card, kept.values())
    write_quarantine(path.with_suffix(".quarantine.csv"), bad)
    before, after = _milliseconds(kept, coding)
    return PrepareReport(
        path,
        coding,
        len(kept),
        first + sum(not isinstance(done, str) and done[1] for done in made),
        sum(video.path.stat().st_size for video in kept),
        sum(video.path.stat().st_size for video in kept.values()),
        before,
        after,
        {name: reason for name, (_, reason) in bad.items()},
    )


def _in_ticks(
    frames: Iterator[tuple[Fraction, np.ndarray | None]], fps: Fraction | None
) -> Iterator[tuple[int, int, np.ndarray]]:
    """When each frame is shown and for how long: every frame in 1/TICKS s, or, in 1/fps s, the one shown at each."""
    before = first = None
    ticks = 0
    for now, pixels in frames:
        first = now if first is None else first
        if before is not None and fps:
            while ticks < (now - first) * fps:
                yield ticks, 1, before
                ticks += 1
        elif before is not None:
            end = max(round((now - first) * TICKS), ticks + 1)
            yield ticks, end - ticks, before
            ticks = end
        before = pixels


def _milliseconds(pairs: dict[Video, Video], coding: EncodeOptions) -> tuple[float, float]:
    """What a clip at a random start costs one core in the first files and in the new ones, medians over a sample."""
    chance, size = np.random.default_rng(0), (coding.height, coding.width)
    taken: tuple[list[float], list[float]] = ([], [])
    listed = list(pairs.items())
    for video, new in (listed[place] for place in chance.permutation(len(listed))[: 4 * SAMPLE]):
        share = chance.random()
        for each, seconds in zip((video, new), taken, strict=True):
            length = each.frames or new.frames
            start = int(share * max(length - CLIP_FRAMES + 1, 1))
            began = time.process_time()
            read_frames(each.path, (start + np.arange(CLIP_FRAMES)) % length, size)
            seconds.append(time.process_time() - began)
    return statistics.median(taken[0]) * 1e3, statistics.median(taken[1]) * 1e3
