"""An open video file: its sections, its packets from any of them, and new decoders for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, chain, dropwhile, pairwise
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from r21d_core import R21DError
from r21d_core.data.integrity import check_duration, check_file, check_not_truncated, describe_error, find_video_stream

# Formats of streams whose clock may jump where recordings were joined, and the seconds between two frames that tell it.
CLOCK_FORMATS, MAX_CLOCK_GAP = ("mpegts", "mpeg"), 10


@dataclass(frozen=True)
class Orientation:
    """How a picture is turned for display: transposed first, then flipped."""

    transpose: bool
    flip_x: bool
    flip_y: bool

    @classmethod
    def from_frame(cls, frame: VideoFrame) -> Orientation | None:
        """That of the frame's display matrix, to the nearest quarter turn; None without one, or if it turns nothing."""
        matrix = frame.side_data.get("DISPLAYMATRIX")
        if matrix is None:
            return None
        a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
        # A pixel at (x, y) is displayed at (ax + cy, bx + dy).
        turns = (False, a < 0, d < 0) if abs(a) >= abs(b) else (True, c < 0, b < 0)
        return cls(*turns) if any(turns) else None

    @property
    def note(self) -> str:
        """What is peculiar about it, in a word."""
        return "mirrored" if (self.transpose + self.flip_x + self.flip_y) % 2 else "rotated"

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """The picture (height, width, 3) as displayed."""
        pixels = pixels.swapaxes(0, 1) if self.transpose else pixels
        return pixels[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


class VideoFile:
    """An open file with a video stream.
    A section begins at a key frame: `starts` are the numbers of the sections' first packets, `firsts` of their first
    frames. With `is_grouped` those with an IDR picture are groups of pictures, to which no other section refers.
    """

    def __init__(self, path: Path | str, container: InputContainer, stream: VideoStream):
        self.path, self.container, self.stream = path, container, stream
        self.starts, self.firsts = [0], [0]
        self.is_grouped = False
        self.has_decoded = False
        self.orientation: Orientation | None = None  # the first frame's, by the stream's own decoder
        self.index = list(stream.index_entries)
        self.packets_read = self.scanned_frames = 0
        self.time_base = stream.time_base or Fraction(1)
        self.extradata, self.reorder_depth = stream.codec_context.extradata, stream.codec_context.reorder_depth
        header = self.extradata or b""
        # The bytes of a unit's length in H.264 as MP4, MOV and MKV hold it; 0 for all else.
        is_avc = stream.codec_context.name == "h264" and header[:1] == b"\1" and len(header) > 4
        self.length_size = (header[4] & 3) + 1 if is_avc else 0
        self.is_matroska = "matroska" in container.format.name
        if self.is_matroska:
            self._scan()
        elif "mp4" in container.format.name and self.length_size:
            self._use_index()

    def _use_index(self) -> None:
        """Take the sections from the index of an MP4, unless that is not usable."""
        times = [entry.timestamp for entry in self.index]
        positions = {entry.pos for entry in self.index if entry.size}
        if not times or len(positions) < len(times) or any(later <= sooner for sooner, later in pairwise(times)):
            return
        packet = next(self.container.demux(self.stream))
        self.container.seek(times[0], stream=self.stream)
        if packet.pos == self.index[0].pos and self.index[0].is_keyframe and self.is_group_start(packet):
            frames_before = [0, *accumulate(not entry.is_discard for entry in self.index)]
            self.starts = [number for number, entry in enumerate(self.index) if entry.is_keyframe]
            self.firsts = [frames_before[start] for start in self.starts]
            self.is_grouped = True

    def _scan(self) -> None:
        """Read an MKV once, to find its groups of pictures and to check that it is as long as it states."""
        spans, starts, firsts, has_times = [], [], [], True
        with _open_container(self.path) as container:
            packets = container.demux(container.streams[self.stream.index])
            for number, packet in enumerate(packet for packet in packets if packet.size):
                if packet.pts is None:
                    has_times = False
                else:
                    spans.append((packet.pts, packet.duration or 0))
                if self.length_size and self.is_group_start(packet):
                    starts.append(number)
                    firsts.append(self.scanned_frames)
                self.scanned_frames += not packet.is_discard
        check_duration(self.path, self.stream, spans)
        if has_times and starts[:1] == [0]:
            self.starts, self.firsts, self.is_grouped = starts, firsts, True

    @property
    def size(self) -> tuple[int, int]:
        """Height and width as displayed, once a frame has been decoded."""
        height, width = self.stream.codec_context.height, self.stream.codec_context.width
        return (width, height) if self.orientation and self.orientation.transpose else (height, width)

    @property
    def expected_frames(self) -> int:
        """How many frames the file should display: by its packets or, where that has more, by its index."""
        indexed = sum(not entry.is_discard for entry in self.stream.index_entries)
        return max(self.scanned_frames or self.packets_read, indexed)

    @property
    def lacks_packets(self) -> bool:
        """Whether the whole file, once read, had fewer packets than its index."""
        return self.packets_read < len(self.stream.index_entries)

    def is_group_start(self, packet: Packet) -> bool:
        """Whether the first slice of a packet is of an IDR picture, which no picture after it refers past."""
        if not packet.is_keyframe:
            return False
        data, offset = bytes(packet), 0
        while offset + self.length_size < len(data):
            kind = data[offset + self.length_size] & 31
            if kind in (1, 5):
                return kind == 5
            offset += self.length_size + int.from_bytes(data[offset : offset + self.length_size])
        return False

    def clock_jumps(self, seconds: Fraction) -> bool:
        """Whether that time between two frames means that the clock has jumped, not that a picture stays."""
        return self.container.format.name in CLOCK_FORMATS and not -MAX_CLOCK_GAP < seconds < MAX_CLOCK_GAP

    @property
    def clock_note(self) -> str:
        """Where the clock of an MPEG stream jumps, in words; empty if it does not."""
        if self.container.format.name not in CLOCK_FORMATS:
            return ""
        with _open_container(self.path) as container:
            packets = (packet for packet in container.demux(container.streams[self.stream.index]) if packet.size)
            times = [(number, packet.pts) for number, packet in enumerate(packets) if packet.pts is not None]
        steps = ((number, (time - before) * self.time_base) for (_, before), (number, time) in pairwise(times))
        jumps = [str(number) for number, seconds in steps if self.clock_jumps(seconds)]
        return f"its clock jumps at frame {', '.join(jumps[:3])}" if jumps else ""

    def read_packets(self, section: int) -> tuple[Iterator[Packet], int]:
        """The packets from the first one of a section, or of an earlier group of pictures, and its frame number.
        Sections are asked for in ascending order.
        """
        if self.is_matroska:
            packets = self._demux()
            for _ in range(self.starts[section] - self.packets_read):
                next(packets, None)
            return packets, self.firsts[section]
        if section:
            entry = self.index[self.starts[section]]
            self.container.seek(entry.timestamp, stream=self.stream)
            # With B-frames FFmpeg seeks to the section before.
            packets = dropwhile(lambda packet: packet.pos != entry.pos, self._demux())
            packet = next(packets, None)
            if packet is not None and self.is_group_start(packet):
                return chain([packet], packets), self.firsts[section]
            del self.starts[1:], self.firsts[1:]  # an open group of pictures: the file is read from its beginning
        if self.packets_read:
            self.container.seek(self.index[0].timestamp, stream=self.stream)
        return self._demux(), 0

    def _demux(self) -> Iterator[Packet]:
        for packet in self.container.demux(self.stream):
            if packet.size:
                self.packets_read += 1
                if packet.has_sidedata("new_extradata"):  # as in an MP4 joined of several
                    self.extradata = bytes(packet.get_sidedata("new_extradata"))
                yield packet

    def new_decoder(self) -> VideoCodecContext:
        """A decoder that has seen no packet yet."""
        decoder = av.CodecContext.create(self.stream.codec_context.codec, "r")
        assert isinstance(decoder, VideoCodecContext)
        decoder.extradata, decoder.reorder_depth = self.extradata, self.reorder_depth
        decoder.width, decoder.height = self.stream.codec_context.width, self.stream.codec_context.height
        decoder.thread_count, decoder.thread_type = 1, "NONE"
        return decoder


@contextmanager
def open_video(path: Path | str) -> Iterator[VideoFile]:
    """Open a file; what its header, FFmpeg or the binding object to becomes R21DError, naming the file."""
    check_file(path)
    try:
        with _open_container(path) as container:
            stream = find_video_stream(path, container)
            stream.codec_context.thread_count = 1
            stream.thread_type = "NONE"
            check_not_truncated(path, container, stream)
            yield VideoFile(path, container, stream)
    except av.FFmpegError as error:
        raise R21DError(f"{path}: {describe_error(path, error)}") from error
    except (R21DError, MemoryError, NameError, AttributeError):
        raise
    except Exception as error:  # the binding raises errors of many kinds for damaged files
        raise R21DError(f"{path}: {describe_error(path, error)}") from error


def _open_container(path: Path | str) -> InputContainer:
    # The path is absolute, as FFmpeg takes what precedes a colon for a protocol. Old titles are not UTF-8.
    return av.open(os.path.abspath(path), metadata_errors="replace", options={"protocol_whitelist": "file"})
