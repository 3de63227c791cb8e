"""Checks on video files apart from decoding: is it a file, is it whole, what does an error of FFmpeg mean."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from fractions import Fraction
from mmap import ACCESS_READ, mmap
from pathlib import Path

import av
from av.container import InputContainer
from av.error import InvalidDataError
from av.stream import Disposition
from av.video.stream import VideoStream

from r21d_core import R21DError

MAX_MISSING_SECONDS = 0.5  # durations in headers are wrong by less in sound files
SEGMENT_ID = b"\x18\x53\x80\x67"  # the element that holds all of an MKV or WebM but its first bytes
PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"v=0", b"[playlist]")  # first bytes of lists of other files


def check_file(path: Path | str) -> None:
    """Raise R21DError unless `path` is a regular file that is not empty and not a playlist."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise R21DError(f"{path}: is a folder, expected a video")
        if not stat.S_ISREG(status.st_mode):
            raise R21DError(f"{path}: is a pipe, socket or device, expected a video file")
        if not status.st_size:
            raise R21DError(f"{path}: the file is empty; fetch it again")
        with open(path, "rb") as file:
            head = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    except FileNotFoundError:
        raise R21DError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise R21DError(f"{path}: could not be read ({getattr(error, 'strerror', error)})") from None
    if head.startswith(PLAYLISTS):
        raise R21DError(f"{path}: is a playlist, expected a video; name the videos that it lists")


def find_video_stream(path: Path | str, container: InputContainer) -> VideoStream:
    """The video stream of an open file; raises R21DError if it has none or no decoder knows it."""
    stream = container.streams.best("video")  # which has a decoder
    if stream is None:
        stream = next((stream for stream in container.streams.video if stream.codec_context is None), None)
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        kinds = " and ".join(sorted({stream.type for stream in container.streams})) or "an empty container"
        raise R21DError(f"{path}: holds no video, only {kinds}")
    if stream.codec_context is None:
        raise R21DError(f"{path}: its codec is unknown to FFmpeg; it is damaged or needs converting")
    return stream


def check_not_truncated(path: Path | str, container: InputContainer, stream: VideoStream) -> None:
    """Raise R21DError if the header states more bytes than the file has; MPEG and live recordings state none."""
    with open(path, "rb") as file:
        head = file.read(4096)
    end = 0
    before, _, size = head.partition(SEGMENT_ID)
    if "mp4" in container.format.name:
        end = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
    elif container.format.name == "avi":  # most writers leave the first 8 bytes out
        end = int.from_bytes(head[4:8], "little") % (2**32 - 1)
    elif "matroska" in container.format.name and size and size[0]:
        length = 9 - size[0].bit_length()
        unknown = 2 ** (7 * length) - 1
        end = len(before) + len(SEGMENT_ID) + length + (int.from_bytes(size[:length]) & unknown) % unknown
    if end > container.size:
        raise R21DError(f"{path}: cut off: it is shorter than its header says; fetch it again")


def check_duration(path: Path | str, stream: VideoStream, spans: Iterable[tuple[int, int]]) -> None:
    """Raise R21DError if an MKV holds fewer seconds than it states; `spans` are its packets' (pts, duration)."""
    match = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""), re.ASCII)
    if not match:  # some writers use other words
        return
    hours, minutes, seconds = map(Fraction, match.groups())
    stated = (hours * 60 + minutes) * 60 + seconds
    spans = list(spans)
    end = max((pts + duration for pts, duration in spans), default=0)
    held = (end - min((pts for pts, _ in spans), default=0)) * (stream.time_base or Fraction(1))
    if held + MAX_MISSING_SECONDS < stated:
        found = f"{len(spans)} frames are found, {float(held):.1f} of {float(stated):.1f} seconds"
        raise R21DError(f"{path}: damaged, as only {found}; fetch it again")


def describe_error(path: Path | str, error: Exception) -> str:
    """The reason for an error of FFmpeg, which reports most as "Invalid data found when processing input"."""
    if isinstance(error, InvalidDataError):
        with open(path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            if content[4:8] == b"ftyp" and content.find(b"moov") < 0:
                return "cut off, as its index is missing (moov atom not found); fetch it again"
    if isinstance(error, av.FFmpegError | OSError):
        return f"{error.strerror or error}; it is damaged or not a video"
    return f"{type(error).__name__} in the decoder ({error}); it is damaged or not a video"
