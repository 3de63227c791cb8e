"""Writes small videos for the tests: sound ones, odd ones and broken ones."""

from __future__ import annotations

import random
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def blocks(count: int, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """(count, height, width, 3) uint8 of colored blocks that share nothing from one frame to the next."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, -(-height // 8), -(-width // 8), 3), np.uint8)
    return coarse.repeat(8, 1).repeat(8, 2)[:, :height, :width]


def write_video(
    path, frames, codec="libx264", times=None, rotation=0, pix_fmt="yuv420p", format=None, rate=25, movflags="", **more
):
    """`frames` as a video, `rate` a second, or shown at `times`, in 1/rate s; `more` are options of the encoder (`bf`).

    With the `movflags` "faststart" an MP4 is one for the web, whose index comes first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w", format=format, options={"movflags": movflags} if movflags else {}) as container:
        stream = container.add_stream(codec, rate=rate, options=more)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, rate)
        if rotation:
            stream.set_display_rotation(rotation)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))
            frame.pts, frame.time_base = times[number] if times else number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_display_matrix(path: Path, copy: Path, matrix: tuple[int, int, int, int]) -> Path:
    """A copy of an MP4 that displays the pixel (x, y) at (ax + cy, bx + dy), where `matrix` is a, b, c, d."""
    identity = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    before, _, after = path.read_bytes().rpartition(identity)  # the movie's comes before the track's
    a, b, c, d = (value << 16 for value in matrix)
    copy.write_bytes(before + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + after)
    return copy


def write_sound(path: Path) -> Path:
    """Half a second of silence and no picture."""
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_subtitles(path: Path) -> Path:
    """A file that opens well and holds text alone."""
    path.write_text("1\n00:00:00,000 --> 00:00:01,000\nno picture\n")
    return path


def write_changing_size(path: Path) -> Path:
    """Ten frames of 64×48, then ten of 96×80, in one stream."""
    content = b""
    for frames in (blocks(10, seed=1), blocks(10, 80, 96, seed=2)):
        content += write_video(path, frames, "mpeg2video", format="mpegts").read_bytes()
    path.write_bytes(content)
    return path


def cut_off(path: Path, share: float = 0.5) -> Path:
    """The file at `path` with only its first `share` left, as after a download that broke off."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def noise_within(path: Path, share: float = 0.2) -> Path:
    """The file at `path` with noise in place of a `share` of it, in its middle."""
    data = bytearray(path.read_bytes())
    length = int(len(data) * share)
    begin = (len(data) - length) // 2
    data[begin : begin + length] = np.random.default_rng(0).bytes(length)
    path.write_bytes(data)
    return path


def write_garbage(path: Path) -> Path:
    """Bytes that are no video."""
    path.write_bytes(np.random.default_rng(0).bytes(20_000))
    return path


def mutate(content: bytes, seed: int) -> bytes:
    """A video's content with damage of one of eight kinds."""
    chance, data = random.Random(seed), bytearray(content)
    kind, begin, length = chance.randrange(8), chance.randrange(len(data)), chance.randrange(1, 3000)
    end = begin + min(length, len(data) - begin)
    if kind <= 1:  # few or many bits
        for _ in range(chance.randrange(1, (5, 300)[kind])):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind == 2:  # a header
        for _ in range(chance.randrange(1, 8)):
            data[chance.randrange(min(1500, len(data)))] = chance.randrange(256)
    elif kind == 3:
        data[begin:end] = bytes(end - begin)
    elif kind == 4:
        data[begin:end] = chance.randbytes(end - begin)
    elif kind == 5:
        del data[begin:]
    elif kind == 6:
        data[begin:begin] = data[begin:end]
    else:
        data = data[:begin] + data[end:] + data[begin:end]
    return bytes(data)


# Files that are set aside: how to write one at a path, and the reason that is told.
BAD_FILES = {
    "missing.mp4": (lambda path: path, "no such file"),
    "zero.mp4": (lambda path: path.touch(), "is empty"),
    "garbage.avi": (write_garbage, "damaged or not a video"),
    "cut.mp4": (lambda path: cut_off(write_video(path, blocks(60))), "cut off.*moov"),
    "text.srt": (write_subtitles, "no video, only subtitle"),
    "sound.mp4": (write_sound, "no video, only audio"),
}
