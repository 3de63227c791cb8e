"""Videos and frames that a notebook shows without writing a file, made from video files.

Imports PyAV, which takes a tenth of a second, once there is a file: an explorer often shows records without videos.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from r21d_analysis.interpret.html import image_html, text_html
from r21d_core import R21DError

PLAYABLE = {".mp4": ("h264", "av1", "vp9"), ".webm": ("vp8", "vp9", "av1")}  # codecs that browsers decode, by container
MAX_BYTES = 8 * 2**20  # of a file that is sent whole
PREVIEW_HEIGHT, PREVIEW_SECONDS = 240, 20
THUMBNAIL, TILE = (90, 120), (112, 128)  # height and width in pixels of a frame in the grid, and with name and margins


def video_html(path: Path) -> str:
    """Return a player of the file as HTML, or the reason why it cannot be played."""
    try:
        data, kind = preview_video(path)
    except R21DError as error:
        hint = "" if path.exists() else '; put it there, or write its folder as "root" into the manifest\'s JSON file'
        return text_html(f"It cannot be played: {error}{hint}")
    name, source = html.escape(path.name), f"data:video/{kind};base64,{base64.b64encode(data).decode()}"
    style = f"display: block; height: {PREVIEW_HEIGHT}px; max-width: 100%"
    return f'<video aria-label="{name}" src="{source}" style="{style}" controls loop autoplay muted></video>'


def preview_video(path: Path) -> tuple[bytes, str]:
    """Return a video that a browser plays, and its format: the file itself, or the small preview of another one.

    A preview has the first PREVIEW_SECONDS without sound. Raises R21DError if the file cannot be decoded.
    """
    from r21d_core.data.encode import encode_h264
    from r21d_core.data.video_file import open_video

    with open_video(path) as video:
        stream, (height, width) = video.stream.codec_context, video.size
        is_playable = stream.name in PLAYABLE.get(path.suffix.lower(), ()) and stream.pix_fmt == "yuv420p"
    if is_playable and path.stat().st_size <= MAX_BYTES:
        return path.read_bytes(), path.suffix[1:].lower()
    size, options = (PREVIEW_HEIGHT, 2 * round(PREVIEW_HEIGHT * width / max(height, 1) / 2)), {"preset": "ultrafast"}
    return encode_h264(_preview_frames(path, size), size, options, time_base=Fraction(1, 1000)), "mp4"


def _preview_frames(path: Path, size: tuple[int, int]) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield the time and the duration in milliseconds and the pixels of each frame of a preview."""
    from r21d_core.data.decode import iter_timed_frames

    first = None
    for (start, pixels), (end, _) in pairwise(iter_timed_frames(path, size)):
        first = start if first is None else first
        if pixels is None or start - first > PREVIEW_SECONDS:
            return
        begin, stop = (round(1000 * (time - first)) for time in (start, end))
        yield begin, max(stop - begin, 1), pixels


def thumbnails_html(videos: Sequence[tuple[str, Path, int]]) -> str:
    """Return a grid of frames as HTML, a tile for the name, the path and the frame number of each video."""
    tiles, label = [], f"width: {THUMBNAIL[1]}px; overflow: hidden; text-overflow: ellipsis; font-size: 11px"
    box = f"height: {THUMBNAIL[0]}px; width: {THUMBNAIL[1]}px; white-space: normal"
    for name, path, frame in videos:
        try:
            image = image_html(_thumbnail(path, frame), "webp", f"Frame of {name}")
        except R21DError:
            image = f'<div style="{box}">(cannot be decoded)</div>'
        name = html.escape(name)
        tiles.append(f'<div style="height: {TILE[0]}px" title="{name}">{image}<div style="{label}">{name}</div></div>')
    style = f"display: grid; grid-template-columns: repeat(auto-fill, {TILE[1]}px); white-space: nowrap"
    return f'<div style="{style}">{"".join(tiles)}</div>'


def find_tile(x: float, y: float, width: float) -> int:
    """Return the number of the tile at (x, y) of a grid of `width`, in pixels."""
    columns = max(1, int(width // TILE[1]))
    return int(y // TILE[0]) * columns + min(int(x // TILE[1]), columns - 1)


@lru_cache(maxsize=256)
def _thumbnail(path: Path, frame: int) -> bytes:
    from r21d_core.data.decode import read_frames

    file = io.BytesIO()
    Image.fromarray(read_frames(path, [frame], THUMBNAIL)[0]).save(file, "WEBP", quality=80)
    return file.getvalue()
