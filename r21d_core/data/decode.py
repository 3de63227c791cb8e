"""The frames of a video file: frame n is the n-th that its decoder shows, whatever the time stamps say.

A file is opened inside each call and decoded by one thread: decoders survive neither a fork nor, with frame threads,
an early end.
"""

from __future__ import annotations

import math
import os
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, dropwhile, pairwise
from mmap import ACCESS_READ, mmap
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from r21d_core import R21DError

Size = tuple[int, int]  # height, width
LACKING_SECONDS = 0.5  # headers of sound files are wrong by less
SEGMENT = b"\x18\x53\x80\x67"  # what all of an MKV or WebM lies in, but for its first bytes


@dataclass(frozen=True)
class Probe:
    """What a file holds: frames that decode, frames a second on average, its size as displayed, and what is odd."""

    frames: int
    fps: float | None
    width: int
    height: int
    notes: tuple[str, ...]


def read_frames(path: Path | str, indices: Iterable[int], size: Size | None) -> np.ndarray:
    """Frames `indices` of a video, in that order: uint8 RGB (len(indices), height, width, 3).

    Frames are counted from 0 as they are displayed, turned upright, and scaled to `size` by FFmpeg's bilinear filter;
    None is the size that the file states. All clips of a video are best asked for at once, as every frame is decoded
    at the most once. Of H.264 in MP4, MOV or MKV only the groups of pictures are decoded in which the frames lie.

    Raises R21DError, naming the file, if it is missing, broken, without a picture or shorter than was asked for.
    """
    wanted, order = np.unique(np.fromiter(indices, np.int64), return_inverse=True)
    if not len(wanted):
        return np.empty((0, *(size or (0, 0)), 3), np.uint8)
    if wanted[0] < 0:
        raise R21DError(f"{path}: frame {wanted[0]} was asked for; frames are counted from 0")
    frames = _read(path, size, wanted.tolist())
    return frames if len(order) == len(wanted) and (np.diff(order) > 0).all() else frames[order]


def read_all(path: Path | str, size: Size | None) -> np.ndarray:
    """Every frame of a video: uint8 RGB (N, height, width, 3). Otherwise as `read_frames`."""
    return _read(path, size, None)


def iter_timed_frames(path: Path | str, size: Size) -> Iterator[tuple[Fraction, np.ndarray | None]]:
    """Every frame of a video as `read_all` gives it, one by one, and the second from which it is shown.

    The seconds begin anywhere, and always rise: where the file tells no time, or one that does not rise, the frame
    comes at the average rate after the one before. After the last frame comes None, with the second at which that
    ends. Raises R21DError as `read_all`, where it comes to the damage.
    """
    with _opened(path) as (stream, packets, _):
        reformatter = VideoReformatter()
        interval = 1 / (stream.average_rate or Fraction(25))
        now = None
        for frame in _decode_frames(path, stream, packets, 0, None):
            told = None if frame.pts is None else frame.pts * stream.time_base
            rises = told is not None and (now is None or told > now)
            now = told if rises else (Fraction(0) if now is None else now + interval)
            length = frame.duration * stream.time_base if frame.duration else interval
            yield now, _picture(frame, size, reformatter)
        yield now + length, None


def probe(path: Path | str) -> Probe:
    """What the file at `path` holds, by decoding all of it.

    Raises R21DError, naming the file, if it is missing, broken, cut off or without a picture.
    """
    with _opened(path) as (stream, packets, _):
        height, width = stream.codec_context.height, stream.codec_context.width
        sizes, turns, damaged, frames = set(), 0, 0, 0
        for frame in _decode_frames(path, stream, packets, 0, None):
            sizes.add((frame.height, frame.width))
            turns = turns if frames else _quarter_turns(frame)
            damaged += frame.is_corrupt
            frames += 1
        # Fewer frames than packets are no damage, as some packets are not to be shown; fewer than in the index are.
        told = _expected_frames(stream, packets)
        decoded = f"damaged: {frames}{f' of {told}' * (told > frames)} frames decode, {damaged} of them in part"
        lacking = damaged or len(packets) < len(stream.index_entries)
        odd = {"changing resolution": len(sizes) > 1, "rotated": turns, decoded: lacking}
        notes = tuple(note for note, holds in odd.items() if holds)
        fps = float(stream.average_rate) if stream.average_rate else None
        return Probe(frames, fps, *((height, width) if turns % 2 else (width, height)), notes)


@contextmanager
def _opened(path: Path | str, wanted: Sequence[int] | None = None) -> Iterator[tuple[VideoStream, list[Packet], int]]:
    """The video stream of a file, its packets, not decoded yet, and how many frames come before the first of them.

    They are all packets, or those around the `wanted` frames where the file has an index to find them by. Errors
    become R21DError.
    """
    try:
        # FFmpeg takes what stands before a colon for a protocol, so the path is absolute; old titles are not UTF-8.
        with av.open(os.path.abspath(path), metadata_errors="replace") as container:
            stream = container.streams.best("video")
            if stream is None or stream.disposition & Disposition.attached_pic:
                raise R21DError(f"{path}: holds no video, only {_kinds(container)}")
            stream.codec_context.thread_count = 1
            stream.thread_type = "NONE"
            if wanted and "mp4" in container.format.name and _lengths(stream):
                part = _part(container, stream, wanted)
                if part:
                    yield stream, *part
                else:  # from the beginning, which only a new container is sure to be at
                    with _opened(path) as whole:
                        yield whole
                return
            packets = [packet for packet in container.demux(stream) if packet.size or packet.dts is not None]
            if _is_truncated(path, container, stream):
                raise R21DError(f"{path}: cut off, as it holds less than its header says; fetch it again")
            _refuse_lack(path, stream, packets)
            yield stream, [packet for packet in packets if packet.size], 0
    except (av.FFmpegError, OSError) as error:
        raise R21DError(f"{path}: {_reason(path, error)}") from error


def _part(container: InputContainer, stream: VideoStream, wanted: Sequence[int]) -> tuple[list[Packet], int] | None:
    """The packets from the IDR picture at or before the first wanted frame to the one after the last, without this,
    and how many frames come before them; None where the index of an MP4 does not say, or says what is not so.
    """
    index = list(stream.index_entries)  # one a packet, in their order
    times = [entry.timestamp for entry in index]
    before = [0, *accumulate(not entry.is_discard for entry in index)]
    keys = [place for place, entry in enumerate(index) if entry.is_keyframe]
    begin = bisect_right(keys, wanted[0], key=before.__getitem__) - 1
    if (
        begin < 0
        or wanted[-1] >= before[-1]
        or any(later <= sooner for sooner, later in pairwise(times))
        or any(entry.pos + entry.size > container.size for entry in index)  # cut off
    ):
        return None
    begin, size, packets = keys[begin], _lengths(stream), []
    ends = {place for place in keys if before[place] > wanted[-1]}
    container.seek(times[begin], stream=stream)
    # Where frames are coded out of order FFmpeg goes to a group before.
    read = dropwhile(lambda packet: packet.size and packet.pos != index[begin].pos, container.demux(stream))
    for place, packet in enumerate(read, begin):
        if not packets and not _is_idr(bytes(packet), size):
            return None
        if not packet.size or (place in ends and _is_idr(bytes(packet), size)):
            break
        packets.append(packet)
    return (packets, before[begin]) if place == len(index) or place in ends else None


def _read(path: Path | str, size: Size | None, wanted: Sequence[int] | None) -> np.ndarray:
    """The wanted frames (n, height, width, 3), in ascending order; None: all of them."""
    with _opened(path, wanted) as (stream, packets, earlier):
        pictures, reformatter = None, VideoReformatter()
        for place, frame in enumerate(_decode_frames(path, stream, packets, earlier, wanted)):
            if pictures is None:
                size = size or _upright_size(stream, frame)
                pictures = np.empty((len(wanted or packets), *size, 3), np.uint8)
            pictures[place] = _picture(frame, size, reformatter)
        return pictures[: place + 1]


def _upright_size(stream: VideoStream, frame: VideoFrame) -> Size:
    stated = stream.codec_context.height, stream.codec_context.width
    return stated[::-1] if _quarter_turns(frame) % 2 else stated


def _picture(frame: VideoFrame, size: Size, reformatter: VideoReformatter) -> np.ndarray:
    """The frame upright in RGB, (*size, 3)."""
    turns = _quarter_turns(frame)
    height, width = size[::-1] if turns % 2 else size
    # Into planes swscale scales faster, and with full chroma at every width; unscaled, packed RGB is faster.
    format = "rgb24" if (frame.height, frame.width) == (height, width) else "gbrp"
    picture = reformatter.reformat(frame, width, height, format, interpolation="BILINEAR", threads=1)
    return np.rot90(picture.to_ndarray(), turns)


def _decode_frames(
    path: Path | str, stream: VideoStream, packets: list[Packet], earlier: int, wanted: Sequence[int] | None
) -> Iterator[VideoFrame]:
    """The wanted frames, whose numbers are in ascending order; None: all of them. `earlier` come before the packets."""
    entries = _entries(stream, packets)
    before = [*accumulate((not packet.is_discard for packet in packets), initial=earlier)]  # shown by earlier packets
    firsts = [before[entry] for entry in entries]
    parts = range(len(entries)) if wanted is None else sorted({bisect_right(firsts, number) - 1 for number in wanted})
    chosen = None if wanted is None else set(wanted)
    for begin, end in _runs(parts):
        run = packets[entries[begin] : [*entries, len(packets)][end]]
        last = wanted and wanted[bisect_left(wanted, [*firsts, math.inf][end]) - 1]
        # Where decoding may begin in the middle, frame n is the one with the n-th time stamp, or n would be a guess.
        times = iter(sorted(packet.pts for packet in run if not packet.is_discard) if len(entries) > 1 else ())
        number = firsts[begin] - 1
        stream.codec_context.flush_buffers()
        try:
            for number, frame in enumerate(_decode(stream, run), firsts[begin]):
                if len(entries) > 1 and frame.pts != next(times, None):
                    raise R21DError(f"{path}: frame {number} is out of turn, as the file is damaged; encode it anew")
                if chosen is None or number in chosen:
                    yield frame
                if number == last:
                    break
            else:
                if number < 0 or next(times, None) is not None:
                    raise R21DError(
                        f"{path}: frame {number + 1} does not decode, as the file is damaged; encode it anew"
                    )
                if wanted:
                    missing = wanted[bisect_right(wanted, number)]
                    raise R21DError(f"{path}: frame {missing} was asked for, and it has {number + 1} frames")
        except av.error.InvalidDataError as error:
            which = f"frame {number + 1} of {_expected_frames(stream, packets)}"
            raise R21DError(f"{path}: {which} does not decode, as the file is damaged; fetch it again") from error


def _entries(stream: VideoStream, packets: list[Packet]) -> list[int]:
    """The packets at which decoding may begin and every later frame be right: 0 and, in H.264, the IDR pictures.

    Nothing before an IDR picture is referred to or shown after it. Other key frames, in H.264 and elsewhere, do not
    promise that. [0] where time stamps could not tell that a frame is missing.
    """
    length = _lengths(stream)
    times = {packet.pts for packet in packets}
    if not length or None in times or len(times) < len(packets):
        return [0]
    keys = [place for place, packet in enumerate(packets) if packet.is_keyframe and _is_idr(bytes(packet), length)]
    return keys if keys[:1] == [0] else [0]


def _lengths(stream: VideoStream) -> int:
    """Bytes that the size of a unit takes in H.264 as MP4, MOV and MKV hold it; 0 for all else."""
    header = stream.codec_context.extradata or b""
    return (header[4] & 3) + 1 if stream.codec_context.name == "h264" and header[:1] == b"\1" else 0


def _is_idr(packet: bytes, length: int) -> bool:
    """Whether the first slice of a packet is of an IDR picture; each unit begins with its size in `length` bytes."""
    at = 0
    while at + length < len(packet):
        kind = packet[at + length] & 31
        if kind in (1, 5):
            return kind == 5
        at += length + int.from_bytes(packet[at : at + length])
    return False


def _runs(parts: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Ascending numbers as ranges [begin, end) without a gap."""
    parts = list(parts)
    breaks = [place for place in range(1, len(parts)) if parts[place] > parts[place - 1] + 1]
    for begin, end in pairwise([0, *breaks, len(parts)]):
        yield parts[begin], parts[end - 1] + 1


def _decode(stream: VideoStream, packets: list[Packet]) -> Iterator[VideoFrame]:
    for packet in packets:
        yield from stream.codec_context.decode(packet)
    yield from stream.codec_context.decode(None)


def _quarter_turns(frame: VideoFrame) -> int:
    """How often the picture must be turned by 90° against the clock to stand upright."""
    return round(frame.rotation / 90) % 4


def _kinds(container: InputContainer) -> str:
    return " and ".join(sorted({stream.type for stream in container.streams})) or "an empty container"


def _is_truncated(path: Path | str, container: InputContainer, stream: VideoStream) -> bool:
    """Whether the header speaks of more bytes than there are. That of MPEG does not say, nor that of a live recording.

    Not of more seconds: without the index at its end FFmpeg tells an AVI's from the bytes that are there.
    """
    if "mp4" in container.format.name:
        return any(entry.pos + entry.size > container.size for entry in stream.index_entries)
    with open(path, "rb") as file:
        head = file.read(4096)
    if container.format.name == "avi":  # the 8 bytes before it are not counted, but by some
        return container.size < int.from_bytes(head[4:8], "little") < 2**32 - 1
    before, _, size = head.partition(SEGMENT)
    if "matroska" not in container.format.name or not size:
        return False
    length = 9 - size[0].bit_length()
    unknown = 2 ** (7 * length) - 1
    stated = int.from_bytes(size[:length]) & unknown
    return stated != unknown and len(before) + len(SEGMENT) + length + stated > container.size


def _refuse_lack(path: Path | str, stream: VideoStream, packets: list[Packet]) -> None:
    """Raise R21DError if an MKV holds fewer seconds than it says, as FFmpeg may find nothing behind damage."""
    told = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""), re.ASCII)
    hours, minutes, seconds = map(Fraction, told.groups() if told else (0, 0, 0))  # some write what they like
    stated = (hours * 60 + minutes) * 60 + seconds
    times = [packet.pts for packet in packets if packet.pts is not None]
    held = (max(times) - min(times)) * stream.time_base if times else 0
    if held + LACKING_SECONDS < stated:
        found = f"{len(packets)} frames are found, {float(held):.1f} of {float(stated):.1f} seconds"
        raise R21DError(f"{path}: damaged, as only {found}; fetch it again")


def _expected_frames(stream: VideoStream, packets: list[Packet]) -> int:
    """How many frames the file should show, by its packets or, where it tells of more of them, its index."""
    return max(sum(not each.is_discard for each in several) for several in (packets, stream.index_entries))


def _reason(path: Path | str, error: Exception) -> str:
    """What is wrong, for a person: FFmpeg says "Invalid data found when processing input" of nearly everything."""
    if not os.path.exists(path):
        return "no such file"
    if os.path.isdir(path):
        return "is a folder, expected a video"
    if not os.path.getsize(path):
        return "the file is empty; fetch it again"
    if isinstance(error, av.error.InvalidDataError):
        with open(path, "rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            if content[4:8] == b"ftyp" and content.find(b"moov") < 0:
                return "cut off, as its index is missing (moov atom not found); fetch it again"
    return f"{getattr(error, 'strerror', None) or error}; it is damaged or not a video"
