"""Coding every video of a manifest once, small and with many places to begin at, so that clips are cheap to decode."""

from __future__ import annotations

import io
import posixpath
import shutil
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path, PurePosixPath

import av
import numpy as np

from r21d_core import R21DError
from r21d_core.data.index import paragraph, refuse_loss, write_quarantine
from r21d_core.data.manifest import Manifest, Video, load_manifest, refuse_leaks, write_manifest
from r21d_core.data.processes import of_each, process_count
from r21d_core.data.video import read_frames, timed_frames
from r21d_core.records.files import write_atomically

SAMPLE = 8  # videos that the cost is told from beforehand, and clips from afterwards
CLIP_FRAMES = 8
TICKS = 90_000  # a second, where frames keep their own times


@dataclass(frozen=True)
class Coding:
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


@dataclass(frozen=True)
class Prepared:
    """What `prepare` made. Bytes are of the videos that are kept, milliseconds the medians for a clip of 8 frames."""

    path: Path
    coding: Coding
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
            *paragraph(
                f"set aside in {self.path.with_suffix('.quarantine.csv')}",
                [f"{name}: {reason}" for name, reason in self.bad.items()],
            ),
        ]
        return "\n".join(lines)


def prepare(
    manifest_path: Path | str,
    out: Path | str | None = None,
    coding: Coding | None = None,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> Prepared:
    """Code every video of a manifest anew and write the manifest NAME-128x172[-15fps].csv of them, with its card.

    It goes to the folder `out`, by default beside the first, the videos to a folder of the same name. The rows keep
    label, split and group, and say what the new files hold. A file is there whole or not at all, and those that were
    made of the same source in the same way are left alone: stopped in any way, the same call goes on. Frames are what
    `read_all` gives; with `coding.fps`, frame k is the one shown k/fps seconds after the first. Says beforehand about
    what it takes. What does not decode goes to NAME-….quarantine.csv with the reason. `workers` as in `index.check`.

    Raises R21DError, before anything is coded, if the manifest leaks or names videos outside its root, and if the disk
    has too little room; later if none, or none to train on of a class, decodes.
    """
    coding = coding or Coding()
    manifest = load_manifest(manifest_path)
    refuse_leaks(manifest)
    name = f"{manifest.card.name}-{coding.suffix}"
    path = (Path(out) if out else manifest.path.parent) / f"{name}.csv"
    jobs = [
        Job(video.video, video.path, path.with_suffix("") / target, coding)
        for video, target in zip(manifest.videos, _targets(manifest), strict=True)
    ]
    first = _tell_cost(jobs, path.parent, process_count(workers, len(jobs)))
    left = "the videos done are kept, and the same command goes on from there"
    made = list(of_each(transcode, jobs, workers, "preparing", left, progress))

    kept, bad = {}, {}
    for video, job, done in zip(manifest.videos, jobs, made, strict=True):
        if isinstance(done, str):
            bad[video.video] = video, done
        else:
            kept[video] = replace(
                video, video=job.target.relative_to(path.with_suffix("")).as_posix(), path=job.target, **done[0]
            )
    refuse_loss(manifest, replace(manifest, videos=tuple(kept)), bad)
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
    return Prepared(
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


@dataclass(frozen=True)
class Job:
    """A video to be coded: its name, where it is, and where it shall be."""

    video: str
    source: Path
    target: Path
    coding: Coding


def transcode(job: Job) -> tuple[dict, bool] | str:
    """The index columns of the file at `job.target`, and whether it was made now; a str is why it cannot be made.

    Raises R21DError if it cannot be written.
    """
    try:
        told = job.source.stat()
        # In the file itself, so that it is known as done, and by what, wherever it is moved.
        mark = f"r21d prepare: {job.coding}; source of {told.st_size} bytes, {told.st_mtime_ns}"
        if found := _look(job.target, mark):
            return found, False
        content = _encode(job.source, job.coding, mark)
    except R21DError as error:
        return str(error).removeprefix(f"{job.source}: ")
    except FileNotFoundError:
        return "no such file"
    except (av.FFmpegError, OSError) as error:
        return f"could not be coded ({error.strerror})"
    write_atomically(job.target, content)
    return _look(job.target, mark), True


def _look(path: Path, mark: str) -> dict | None:
    """The index columns of a prepared file, from its header; None if it is not there or bears another mark."""
    try:
        with av.open(path) as container:
            stream = container.streams.video[0]
            if container.metadata.get("comment") != mark:
                return None
            size = {"width": stream.codec_context.width, "height": stream.codec_context.height}
            return {"frames": stream.frames, "fps": round(float(stream.average_rate), 3), **size}
    except (av.FFmpegError, OSError, IndexError):
        return None


def _encode(source: Path, coding: Coding, mark: str) -> bytes:
    """The video at `source` as an MP4 file."""
    file = io.BytesIO()
    options = {
        "preset": "medium",
        "tune": "fastdecode",
        "bf": "0",
        "g": str(coding.gop),
        "crf": str(coding.crf),
        "x264-params": "log-level=error",
    }
    unit = 1 / coding.fps if coding.fps else Fraction(1, TICKS)
    with av.open(file, "w", format="mp4") as container:
        container.metadata["comment"] = mark
        stream = container.add_stream("libx264", rate=coding.fps or 25, options=options)
        stream.height, stream.width, stream.pix_fmt = coding.height, coding.width, "yuv420p"
        stream.codec_context.time_base = unit
        stream.codec_context.thread_count = 1
        for ticks, length, pixels in _in_ticks(timed_frames(source, (coding.height, coding.width)), coding.fps):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))
            frame.pts, frame.duration, frame.time_base = ticks, length, unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


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


def _targets(manifest: Manifest) -> list[str]:
    """The name of each video's new file in the new root: the old one as .mp4, behind its old ending if two would meet.

    Raises R21DError for a name that leads out of the root.
    """
    names = [PurePosixPath(posixpath.normpath(video.video)) for video in manifest.videos]
    for video, name in zip(manifest.videos, names, strict=True):
        if name.is_absolute() or name.parts[:1] == ("..",):
            raise R21DError(
                f"{manifest.path}: {video.video!r} lies outside the card's root, so there is no place for it in "
                "another; set the card's root to a folder that holds all videos"
            )
    stems = Counter(name.with_suffix("") for name in names)
    return [f"{name}.mp4" if stems[name.with_suffix("")] > 1 else str(name.with_suffix(".mp4")) for name in names]


def _tell_cost(jobs: list[Job], folder: Path, processes: int) -> int:
    """Print about what the jobs take, from a few that are done here, and return how many; nothing if none was to do.

    Raises R21DError if the disk has less room.
    """
    sizes = [job.source.stat().st_size if job.source.is_file() else 0 for job in jobs]
    began, seconds, read, written, made = time.perf_counter(), 0.0, 0, 0, 0
    for place in np.linspace(0, len(jobs) - 1, min(SAMPLE, len(jobs))).astype(int):
        start = time.process_time()
        done = transcode(jobs[place])
        if not isinstance(done, str) and done[1]:
            seconds, read, made = seconds + time.process_time() - start, read + sizes[place], made + 1
            written += jobs[place].target.stat().st_size
        if time.perf_counter() - began > SAMPLE:
            break
    left = [size for job, size in zip(jobs, sizes, strict=True) if not job.target.exists()]
    if not read or not left:
        return made
    need, minutes = sum(left) * written / read, sum(left) * seconds / read / max(processes, 1) / 60
    print(
        f"{len(jobs)} videos, {len(left)} of them, {sum(left) / 1e6:,.0f} MB, to be coded still: "
        f"about {need / 1e6:,.0f} MB and {minutes:.1f} min on {max(processes, 1)} idle cores"
    )
    folder.mkdir(parents=True, exist_ok=True)
    if need > (free := shutil.disk_usage(folder).free):
        raise R21DError(
            f"{folder}: has {free / 1e6:,.0f} MB free and needs about {need / 1e6:,.0f}; name another folder (--out)"
        )
    return made


def _milliseconds(pairs: dict[Video, Video], coding: Coding) -> tuple[float, float]:
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
