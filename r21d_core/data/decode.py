"""Decodes video files by frame number: frame n is the n-th that the decoder outputs, whatever the time stamps say.

A file is opened inside each call and decoded by one thread: decoders survive neither a fork nor, with frame threads,
an early end. H.264 in MP4, MOV and MKV is decoded by groups of pictures, each from its IDR picture by a new decoder. So
the frames of a group are the same, also in a damaged file, whether the group alone is decoded or the whole file.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
from av.error import InvalidDataError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from r21d_core import R21DError, count_noun
from r21d_core.data.video_file import Orientation, VideoFile, open_video

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Probe:
    """The contents of a file: frames that decode, mean frames a second, size as displayed, and peculiarities."""

    frames: int
    fps: float | None
    width: int
    height: int
    notes: tuple[str, ...]


def read_frames(path: Path | str, indices: Iterable[int], size: Size | None) -> np.ndarray:
    """Frames `indices` of a video, in that order: uint8 RGB (len(indices), height, width, 3).

    Frames are numbered from 0 in display order, oriented for display, and scaled to `size` by FFmpeg's bilinear filter;
    None is the size that the file states. One call decodes each frame at most once.

    Raises R21DError, naming the file and the reason, if it cannot be decoded, has no video, or has too few frames.
    """
    wanted, order = np.unique(np.fromiter(indices, np.int64), return_inverse=True)
    if not len(wanted):
        return np.empty((0, *(size or (0, 0)), 3), np.uint8)
    if wanted[0] < 0:
        raise R21DError(f"{path}: no frame {wanted[0]}; frames are numbered from 0")
    frames = _read(path, size, wanted.tolist())
    return frames if len(order) == len(wanted) and (np.diff(order) > 0).all() else frames[order]


def read_all(path: Path | str, size: Size | None) -> np.ndarray:
    """Every frame of a video: uint8 RGB (N, height, width, 3). Otherwise as `read_frames`."""
    return _read(path, size, None)


def iter_timed_frames(path: Path | str, size: Size) -> Iterator[tuple[Fraction, np.ndarray | None]]:
    """Yield (seconds, pixels) of every frame of `read_all`, and (end of the last frame, None) at the end.
    The seconds start anywhere and always rise: a frame without a time stamp, with one that does not rise, or behind a
    jump of an MPEG stream's clock comes at the average rate after the previous one. Raises R21DError as `read_all`.
    """
    with open_video(path) as video:
        reformatter = VideoReformatter()
        interval = 1 / (video.stream.average_rate or Fraction(25))
        now, duration, clock_shift = None, interval, Fraction(0)
        for frame in _decode(video, None):
            time = None if frame.pts is None else frame.pts * video.time_base - clock_shift
            expected = Fraction(0) if now is None else now + interval
            if now is not None and time is not None and video.clock_jumps(time - now):
                clock_shift += time - expected
                time = expected
            now = time if time is not None and (now is None or time > now) else expected
            duration = frame.duration * video.time_base if frame.duration else interval
            yield now, _to_rgb(frame, size, video.orientation, reformatter)
        assert now is not None, "a file without frames is an error"
        yield now + duration, None


def probe(path: Path | str) -> Probe:
    """Decode all of a file and describe it; raises R21DError as `read_all`."""
    with open_video(path) as video:
        sizes, damaged, frames = set(), 0, 0
        for frame in _decode(video, None):
            sizes.add((frame.height, frame.width))
            damaged += frame.is_corrupt
            frames += 1
        # Fewer frames than packets are no damage, as some packets are not displayed; fewer than index entries are.
        of_expected = f" of {video.expected_frames}" if video.expected_frames > frames else ""
        clock_note = video.clock_note
        notes = {
            "changing resolution": len(sizes) > 1,
            **({video.orientation.note: True} if video.orientation else {}),
            clock_note: clock_note,
            f"damaged: {frames}{of_expected} frames decode, {damaged} of them in part": damaged or video.lacks_packets,
        }
        fps = float(video.stream.average_rate) if video.stream.average_rate else None
        height, width = video.size
        if not height or not width:
            raise R21DError(f"{path}: states a size of {width}×{height}; it is damaged or not a video")
        return Probe(frames, fps, width, height, tuple(note for note, holds in notes.items() if holds))


def _read(path: Path | str, size: Size | None, wanted: Sequence[int] | None) -> np.ndarray:
    """The wanted frames (n, height, width, 3), in ascending order; None: all of them."""
    with open_video(path) as video:
        frames, reformatter, index = _decode(video, wanted), VideoReformatter(), 0
        first = next(frames)
        size = size or video.size
        pixels = np.empty((len(wanted) if wanted else max(video.expected_frames, 16), *size, 3), np.uint8)
        for index, frame in enumerate(chain([first], frames)):
            if index == len(pixels):  # more frames than the header states
                pixels = np.concatenate([pixels, np.empty_like(pixels)])
            pixels[index] = _to_rgb(frame, size, video.orientation, reformatter)
        return pixels[: index + 1]


def _to_rgb(frame: VideoFrame, size: Size, orientation: Orientation | None, reformatter: VideoReformatter):
    """The frame as displayed in RGB, an array (*size, 3)."""
    height, width = size[::-1] if orientation and orientation.transpose else size
    # swscale scales faster into planes, and with full chroma at every width; unscaled, packed RGB is faster.
    format = "rgb24" if (frame.height, frame.width) == (height, width) else "gbrp"
    pixels = reformatter.reformat(frame, width, height, format, interpolation="BILINEAR", threads=1).to_ndarray()
    return orientation.apply(pixels) if orientation else pixels


def _decode(video: VideoFile, wanted: Sequence[int] | None) -> Iterator[VideoFrame]:
    """The wanted frames, whose numbers are in ascending order; None: all of them."""
    decoders = chain([video.stream.codec_context], iter(video.new_decoder, None))  # the stream's has the display matrix
    if wanted is None:
        yield from (frame for _, frame in _decode_from(video, 0, decoders))
        return
    for numbers in _clusters(video.firsts, wanted):
        remaining, chosen = len(numbers), set(numbers)
        section = bisect_right(video.firsts, numbers[0]) - 1
        number = video.firsts[section] - 1
        for number, frame in _decode_from(video, section, decoders):
            if number in chosen:
                remaining -= 1
                yield frame
                if not remaining:
                    break
        else:
            raise R21DError(f"{video.path}: no frame {numbers[-remaining]}; it has {count_noun(number + 1, 'frame')}")


def _clusters(firsts: Sequence[int], wanted: Sequence[int]) -> Iterator[list[int]]:
    """Split ascending frame numbers where a whole section lies between two of them."""
    cluster = [wanted[0]]
    for before, number in pairwise(wanted):
        if bisect_right(firsts, number) - bisect_right(firsts, before) > 1:
            yield cluster
            cluster = []
        cluster.append(number)
    yield cluster


def _decode_from(
    video: VideoFile, section: int, decoders: Iterator[VideoCodecContext]
) -> Iterator[tuple[int, VideoFrame]]:
    """Yield (number, frame) from the beginning of a section to the end of the file."""
    packets, number = video.read_packets(section)
    decoder, pending = None, []  # time stamps of packets whose frames are to come
    for packet in chain(packets, [None]):
        is_start = video.is_grouped and packet is not None and video.is_group_start(packet)
        if decoder is not None and (packet is None or is_start):
            for frame in _decode_packet(video, decoder, None, number, pending):
                yield number, frame
                number += 1
            if video.is_grouped and pending:
                raise R21DError(f"{video.path}: frame {number} does not decode: the file is damaged; encode it again")
            decoder = None
        if packet is None:
            break
        decoder = decoder or next(decoders)
        if video.is_grouped and not packet.is_discard and packet.pts is not None:
            heappush(pending, packet.pts)
        for frame in _decode_packet(video, decoder, packet, number, pending):
            yield number, frame
            number += 1
    if not number:
        raise R21DError(f"{video.path}: no frame decodes, as the file is damaged; fetch it again")


def _decode_packet(
    video: VideoFile, decoder: VideoCodecContext, packet: Packet | None, number: int, pending: list
) -> Iterator[VideoFrame]:
    """Yield the frames that a packet (None: the end) makes the decoder output; `number` is that of the first.
    In a group of pictures, frame n must be the one with the n-th time stamp, or n would be a guess.
    """
    try:
        frames = decoder.decode(packet)
    except InvalidDataError as error:
        which = f"frame {number + 1} of {video.expected_frames}"
        raise R21DError(f"{video.path}: {which} does not decode, as the file is damaged; fetch it again") from error
    for frame_number, frame in enumerate(frames, number):
        if video.is_grouped and (not pending or frame.pts != heappop(pending)):
            which = f"frame {frame_number} is out of order"
            raise R21DError(f"{video.path}: {which}, as the file is damaged; encode it again")
        if not video.has_decoded:  # a frame that has shown its side data stays in memory until a garbage collection
            video.has_decoded, video.orientation = True, Orientation.from_frame(frame)
        yield frame
