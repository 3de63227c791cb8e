"""A file made of each video, once: kept whole or not at all, known again by a mark in itself, and told beforehand."""

from __future__ import annotations

import posixpath
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import av
import numpy as np

from r21d_core import R21DError
from r21d_core.data.manifest import Manifest
from r21d_core.data.parallel import parallel_map, process_count
from r21d_core.runs.files import write_atomically

SAMPLE = 8  # videos that the cost is told from beforehand, and seconds it may take


class Encoder(Protocol):
    """How a file is made of a video; its text says all that the file depends on besides."""

    def encode(self, source: Path, mark: str) -> bytes: ...


@dataclass(frozen=True)
class EncodeJob:
    """A file to be made: the name of its video, where that is, where it shall be, and how."""

    video: str
    source: Path
    target: Path
    way: Encoder


def encode_video(job: EncodeJob) -> tuple[dict, bool] | str:
    """The index columns of the file at `job.target`, and whether it was made now; a str is why it cannot be made.

    Raises R21DError if it cannot be written.
    """
    try:
        told = job.source.stat()
        # In the file itself, so that it is known as done, and by what, wherever it is moved.
        mark = f"r21d: {job.way}; source of {told.st_size} bytes, {told.st_mtime_ns}"
        if found := _look(job.target, mark):
            return found, False
        content = job.way.encode(job.source, mark)
    except R21DError as error:
        return str(error).removeprefix(f"{job.source}: ")
    except FileNotFoundError:
        return "no such file"
    except (av.FFmpegError, OSError) as error:
        return f"could not be coded ({error.strerror})"
    write_atomically(job.target, content)
    return _look(job.target, mark), True


def _look(path: Path, mark: str) -> dict | None:
    """The index columns of a file that was made, from its header; None if it is not there or bears another mark."""
    try:
        with av.open(path) as container:
            stream = container.streams.video[0]
            if container.metadata.get("comment") != mark:
                return None
            size = {"width": stream.codec_context.width, "height": stream.codec_context.height}
            return {"frames": stream.frames, "fps": round(float(stream.average_rate), 3), **size}
    except (av.FFmpegError, OSError, IndexError):
        return None


def target_names(manifest: Manifest) -> list[str]:
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


def encode_videos(
    jobs: list[EncodeJob], folder: Path, workers: int | None, doing: str, progress: bool = True
) -> tuple[list[tuple[dict, bool] | str], int]:
    """What `derive` gives of each job, by as many processes as `parallel_map` starts, and how many more were made for the
    cost, which is told first. `folder` is where the files go, `doing` what the bar says.

    Raises R21DError, with what is kept, if a process dies or a file cannot be written, and if the disk has no room.
    """
    first = _tell_cost(jobs, folder, process_count(workers, len(jobs)))
    left = "the videos done are kept, and the same command goes on from there"
    return list(parallel_map(encode_video, jobs, workers, doing, left, progress)), first


def _tell_cost(jobs: list[EncodeJob], folder: Path, processes: int) -> int:
    """Print about what the jobs take, from a few that are done here, and return how many; nothing if none was to do.

    Raises R21DError if the disk has less room.
    """
    sizes = [job.source.stat().st_size if job.source.is_file() else 0 for job in jobs]
    began, seconds, read, written, made = time.perf_counter(), 0.0, 0, 0, 0
    for place in np.linspace(0, len(jobs) - 1, min(SAMPLE, len(jobs))).astype(int):
        start = time.process_time()
        done = encode_video(jobs[place])
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
        f"{jobs[0].way}: {len(left)} of {len(jobs)} videos, {sum(left) / 1e6:,.0f} MB, still to be made: "
        f"about {need / 1e6:,.0f} MB and {minutes:.1f} min on {max(processes, 1)} idle cores"
    )
    folder.mkdir(parents=True, exist_ok=True)
    if need > (free := shutil.disk_usage(folder).free):
        raise R21DError(
            f"{folder}: has {free / 1e6:,.0f} MB free and needs about {need / 1e6:,.0f}; free some, or have the "
            "manifest, and with it this folder, elsewhere"
        )
    return made
