"""Encodes one file for each video of a manifest: atomically, recognized later by a tag, the cost printed first."""

from __future__ import annotations

import hashlib
import io
import posixpath
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import av
import numpy as np

from r21d_core import R21DError
from r21d_core.data.manifest import Manifest
from r21d_core.data.parallel import count_workers, parallel_map
from r21d_core.runs.files import remove_temporary, write_atomically

MAX_NAME_BYTES = 200  # file systems take 255, and a temporary file's name is longer
STALE_SECONDS = 60  # after which a temporary file is a killed process's
COST_SAMPLE = 8  # videos from which the cost is estimated, and the seconds that this may take


class Encoder(Protocol):
    """Encodes a video; `str(encoder)` states every parameter that the file depends on."""

    def encode(self, source: Path, provenance_tag: str) -> bytes:
        """The encoded file of the video at `source`, with `provenance_tag` in its metadata."""
        ...


@dataclass(frozen=True)
class EncodeJob:
    """A file to encode: the name of its video in the manifest, source, target and encoder."""

    video: str
    source: Path
    target: Path
    encoder: Encoder


def encode_h264(
    frames: Iterable[tuple[int, int, np.ndarray]], size: tuple[int, int], options: dict[str, str], comment: str = "",
    codec: str = "libx264", pix_fmt: str = "yuv420p", rate: Fraction | int = 25, time_base: Fraction | None = None,
    note: str = "",
) -> bytes:  # fmt: skip
    """An MP4 file of (pts, duration, RGB pixels) in units of `time_base`, by default 1 / rate; size = (height, width).
    The metadata hold `comment`, and `note` as description.
    Without B-frames, CABAC and deblocking (`tune` fastdecode) a clip decodes in half the time, for a tenth more bytes.
    """
    file, time_base = io.BytesIO(), time_base or Fraction(1) / rate
    with av.open(file, "w", format="mp4") as container:
        container.metadata.update({"comment": comment, "description": note})
        stream: Any = container.add_stream(codec, rate=rate, options=options | {"x264-params": "log-level=error"})
        (stream.height, stream.width), stream.pix_fmt = size, pix_fmt
        stream.codec_context.time_base, stream.codec_context.thread_count = time_base, 1
        durations: dict[int | None, int] = {}  # encoders drop them, and the last frame would last 1 / rate

        def mux(packets: list[av.Packet]) -> None:
            for packet in packets:
                packet.duration = durations.pop(packet.pts, packet.duration)
                container.mux(packet)

        for pts, duration, pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))
            frame.pts, frame.time_base, durations[pts] = pts, time_base, duration
            mux(stream.encode(frame))
        mux(stream.encode(None))
    return file.getvalue()


def encode_video(job: EncodeJob) -> tuple[dict, str, bool] | str:
    """The manifest columns of the file at `job.target`, its note, and whether it was encoded now; a str is the error.
    A file with the same provenance tag (encoder, size and modification time of the source) is left as it is.
    """
    try:
        stat = job.source.stat()
        tag = f"r21d: {job.encoder}; source of {stat.st_size} bytes, {stat.st_mtime_ns}"
        if encoded := _read_encoded(job.target, tag):
            return *encoded, False
        content = job.encoder.encode(job.source, tag)
    except R21DError as error:
        return str(error).removeprefix(f"{job.source}: ")
    except FileNotFoundError:
        return "no such file"
    except (av.FFmpegError, OSError) as error:
        return f"could not be encoded ({error.strerror})"
    write_atomically(job.target, content)
    encoded = _read_encoded(job.target, tag)
    assert encoded is not None, f"{job.target}: not readable after encoding"
    return *encoded, True


def _read_encoded(path: Path, provenance_tag: str) -> tuple[dict, str] | None:
    """The manifest columns of an encoded file and its note, by its header; None if it is missing or has another tag."""
    try:
        with av.open(path) as container:
            stream = container.streams.video[0]
            if container.metadata.get("comment") != provenance_tag:
                return None
            size = {"width": stream.codec_context.width, "height": stream.codec_context.height}
            fps = round(float(stream.average_rate or 0), 3) or None
            return {"frames": stream.frames, "fps": fps, **size}, container.metadata.get("description", "")
    except (av.FFmpegError, OSError, IndexError, AttributeError):
        return None


def encode_jobs(manifest: Manifest, folder: Path, encoder: Encoder) -> tuple[EncodeJob, ...]:
    """The job of each video. The name of its file below `folder` is its own with the extension .mp4, appended where two
    names would collide. Raises R21DError for a name that leads out of the root.
    """
    names = [PurePosixPath(posixpath.normpath(video.video)) for video in manifest.videos]
    for video, name in zip(manifest.videos, names, strict=True):
        if name.is_absolute() or name.parts[:1] == ("..",):
            what = f"{video.video!r} lies outside the card's root, so its encoded file would too"
            raise R21DError(f"{manifest.path}: {what}; set the card's root to a folder that holds all videos")
    stems, taken = Counter(name.with_suffix("") for name in names), set(names)
    jobs = []
    for video, name in zip(manifest.videos, names, strict=True):
        stem = name.with_suffix("")
        target = f"{name.name}.mp4" if stems[stem] > 1 or stem in taken else f"{name.stem}.mp4"
        if len(target.encode()) > MAX_NAME_BYTES:
            start = target.encode()[: MAX_NAME_BYTES - 21].decode(errors="ignore")
            target = f"{start}-{hashlib.sha256(target.encode()).hexdigest()[:16]}.mp4"
        jobs.append(EncodeJob(video.video, video.path, folder / name.with_name(target), encoder))
    return tuple(jobs)


def encode_videos(
    jobs: Sequence[EncodeJob], folder: Path, workers: int | None, description: str
) -> tuple[list[tuple[dict, str, bool] | str], int]:
    """The results of `encode_video` for all jobs, and how many files were encoded before that to estimate the cost.
    Raises R21DError if a process dies, if a file cannot be written, and if the disk of `folder` has too little space.
    """
    for target_folder in {job.target.parent for job in jobs}:
        remove_temporary(target_folder, STALE_SECONDS)
    encoded = _print_cost(jobs, folder, max(count_workers(workers, len(jobs)), 1))
    on_death = "the files done are kept, and the same command continues from there"
    return list(parallel_map(encode_video, jobs, workers, description, on_death)), encoded


def _print_cost(jobs: Sequence[EncodeJob], folder: Path, processes: int) -> int:
    """Print the estimated cost of the jobs, from a sample that is encoded here; return how many files that made."""
    sizes = [job.source.stat().st_size if job.source.is_file() else 0 for job in jobs]
    start, seconds, bytes_read, bytes_written, encoded = time.perf_counter(), 0.0, 0, 0, 0
    for index in np.linspace(0, len(jobs) - 1, min(COST_SAMPLE, len(jobs))).astype(int):
        cpu_start = time.process_time()
        result = encode_video(jobs[index])
        if not isinstance(result, str) and result[2]:
            seconds += time.process_time() - cpu_start
            bytes_read += sizes[index]
            bytes_written += jobs[index].target.stat().st_size
            encoded += 1
        if time.perf_counter() - start > COST_SAMPLE:
            break
    left = [size for job, size in zip(jobs, sizes, strict=True) if not job.target.exists()]
    if not bytes_read or not left:
        return encoded
    need, minutes = sum(left) * bytes_written / bytes_read, sum(left) * seconds / bytes_read / processes / 60
    print(
        f"{jobs[0].encoder}: {len(left)} of {len(jobs)} videos, {sum(left) / 1e6:,.0f} MB, still to be made: "
        f"about {need / 1e6:,.0f} MB and {minutes:.1f} min on {processes} idle cores"
    )
    folder.mkdir(parents=True, exist_ok=True)
    if need > (free := shutil.disk_usage(folder).free):
        what = f"has {free / 1e6:,.0f} MB free and needs about {need / 1e6:,.0f}"
        raise R21DError(f"{folder}: {what}; free some space, or move the manifest, and with it this folder, elsewhere")
    return encoded
