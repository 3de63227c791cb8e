"""A data set that is drawn on first use, whose families of classes tell what a network can see.

- `appearance`: one frame is enough; the figure moves in any of the ways below.
- `motion`: no frame says anything, but the frames in any order do (how far apart is the figure in them?).
- the two of order, `rise or fall` and `approach or recede`: only the order of the frames says which. Every video of one
  class is a video of the other played backwards, so a network blind to order tells exactly half of them.

A scene is a background, a palette and a figure; every class is filmed once in every scene, so that a scene says
nothing about the class, and a scene lies on one side of the split.
"""

from __future__ import annotations

import colorsys
import math
import os
import shutil
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from tqdm.auto import tqdm

from r21d_core.data.manifest import DatasetCard, Video, write_manifest

VERSION = 2  # of the folder's content; another version is another folder
FAMILIES = {
    "appearance": ("disc", "star", "square", "ring"),
    "motion": ("hover", "sway"),
    "rise or fall": ("rise", "fall"),
    "approach or recede": ("approach", "recede"),
}
REVERSED = {"fall": "rise", "recede": "approach"}
CLASSES = sum(FAMILIES.values(), ())
MOTIONS = CLASSES[4:]
SCENES = {"train": 40, "test": 20}
# Two sets without a common class, to train on the one and go on with the other. Their three splits test other scenes.
HALVES = {"source": ("appearance", "rise or fall"), "target": ("motion", "approach or recede")}
# 20 − 8 = 12 is a multiple of 1, 2, 3, 4, 6 and 12: the n clips of 8 frames at floor(i·12/(n−1)) of a video played
# backwards are those of the video itself for n = 1, 2, 3, 4, 5, 7 and 13.
FRAMES, HEIGHT, WIDTH, FRAME_RATE = 20, 64, 86, 25

# Where the centre of the figure may be (shares of the frame's width and height) and how large it may be (log of its
# radius in frame heights). A video of `sway`, `rise` or `approach` sweeps one of the three ranges at constant speed:
# 2.4 % of the height or 4.7 % of the size a frame.
PLACES = np.array([[0.30, 0.70], [0.26, 0.74], np.log([0.18, 0.40])])
SWEPT = {"sway": 0, "rise": 1, "approach": 2}
DRIFT = 0.003  # of the background, in frame heights a frame, at the most
# Saturation and value, from and to, of the darker and the lighter colour.
GROUNDS = ((0.3, 0.8), (0.05, 0.2)), ((0.3, 0.7), (0.25, 0.45))
MARKS = ((0.8, 1.0), (0.25, 0.45)), ((0.05, 0.4), (0.9, 1.0))
PAINTS = ((0.4, 0.8), (0.75, 0.85)), ((0.1, 0.5), (0.9, 1.0))
# Every frame is coded alone and alike: a video and its reversal hold the same frames to the last bit, or the traces of
# coding would tell an order-blind network which is which.
CODING = {"preset": "fast", "qp": "26", "g": "1", "tune": "psnr", "x264-params": "log-level=error"}


def make_builtin(root: Path | str) -> Path:
    """The manifest of the built-in videos under the folder `root`, drawn there first if they are not: some seconds.

    Whole or not at all, also when two processes begin at once.
    """
    folder = Path(root) / f"builtin-{VERSION}"
    manifest = folder / "builtin.csv"
    if manifest.exists():
        return manifest
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".builtin-"))
    try:
        videos = [
            Video(f"{label}/s{scene:02d}.mp4", draft / "videos" / label / f"s{scene:02d}.mp4", label, split,
                  f"scene {scene:02d}", FRAMES, float(FRAME_RATE), WIDTH, HEIGHT)
            for label in CLASSES
            for scene, split in enumerate(np.repeat(list(SCENES), list(SCENES.values())).tolist())
        ]  # fmt: skip
        for label in CLASSES:
            (draft / "videos" / label).mkdir(parents=True)
        for video in tqdm(videos, "drawing the built-in videos", unit="video", leave=False):
            _write(video)
        counts = {split: count * len(CLASSES) for split, count in SCENES.items()}
        card = DatasetCard(
            "builtin", CLASSES, "drawn by r21d_core/data/builtin.py", "as the code's", counts, "videos", FAMILIES
        )
        _write_halves(draft, card, videos)
        write_manifest(draft / "builtin.csv", card, videos)
        try:
            os.chmod(draft, 0o755)  # temporary folders are private
            draft.rename(folder)
        except OSError:
            if not manifest.exists():  # if it does, another process was sooner
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def _write_halves(folder: Path, whole: DatasetCard, videos: list[Video]) -> None:
    """`builtin-source-split1.csv` and its like: split 1 tests the whole set's scenes, 2 and 3 the others by turns."""
    scenes, tested = sum(SCENES.values()), SCENES["test"]
    for half, names in HALVES.items():
        families = {name: FAMILIES[name] for name in names}
        classes = sum(families.values(), ())
        for split in (1, 2, 3):
            held_out = {f"scene {(scenes - split * tested + number) % scenes:02d}" for number in range(tested)}
            rows = [
                replace(video, split="test" if video.group in held_out else "train")
                for video in videos
                if video.label in classes
            ]
            counts = {side: sum(row.split == side for row in rows) for side in SCENES}
            card = replace(
                whole, name=f"builtin-{half}-split{split}", classes=classes, families=families, expected=counts
            )
            write_manifest(folder / f"{card.name}.csv", card, rows)


def _write(video: Video) -> None:
    with av.open(video.path, "w") as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE, options=CODING)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.codec_context.thread_count = 1
        for number, pixels in enumerate(render(video.label, int(video.path.stem[1:]))):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels))
            frame.pts, frame.time_base = number, Fraction(1, FRAME_RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def render(label: str, scene: int, seed: int = 0) -> np.ndarray:
    """The frames of class `label` in a scene, (FRAMES, HEIGHT, WIDTH, 3) uint8 RGB, a function of its arguments only.

    Mirrored left to right it could be another video of the same class: training flips clips.
    """
    if label in REVERSED:
        return render(REVERSED[label], scene, seed)[::-1]
    number = CLASSES.index(label)
    # The videos of a class of `appearance` move in all ways, in equal numbers.
    motion = label if label in MOTIONS else MOTIONS[(scene + number) % len(MOTIONS)]
    path = _path(REVERSED.get(motion, motion), np.random.default_rng([seed, scene, number]))
    look = np.random.default_rng([seed, scene])
    hue, turn, plain = look.random(), look.uniform(0, 2 * np.pi), PLAIN[look.integers(len(PLAIN))]
    pattern, ground = _pattern(look), _palette(hue, GROUNDS, look)
    paint, paints = _clouds(look), _palette(hue + look.uniform(0.3, 0.7), MARKS if label in MARKED else PAINTS, look)
    contour, paint = MARKED.get(label, (PLAIN_SHAPES[plain], paint))
    frames = np.empty((FRAMES, 3, HEIGHT, WIDTH), np.float32)
    # Frame by frame, as a frame fits into the processor's cache and a video does not.
    for frame, share, (x, y, radius) in zip(frames, pattern, path, strict=True):
        u, v = _as_seen_by_figure(x, y, radius, turn)
        outside = contour(u, v) * (radius * HEIGHT)  # pixels from the contour, negative within
        figure = _blend(*paints, paint(u, v)) * (1 - 0.5 * np.clip(outside + 2, 0, 1))  # a dark rim
        background = _blend(*ground, share) * (1 - 0.35 * np.clip(1 - outside / 4, 0, 1))  # a soft shadow
        frame[:] = _blend(background, figure, np.clip(0.5 - outside, 0, 1))
    frames = (frames * 255 + 0.5).astype(np.uint8).transpose(0, 2, 3, 1)
    return frames[::-1] if motion in REVERSED else frames


def _path(motion: str, random: np.random.Generator) -> np.ndarray:
    """Centre x, y and radius of the figure in frame heights, (FRAMES, 3).

    What stands still stands where a sweep might have been at a random moment: place and size of the figure in
    a single frame are distributed alike in all motions.
    """
    low, high = PLACES.T
    extent = (high - low) * random.uniform(0.85, 1, 3)
    begin = random.uniform(low, high - extent)
    forward = np.linspace(0, 1, FRAMES)
    there_and_back = np.abs(2 * ((forward + random.random()) % 1) - 1)
    sweep = begin + extent * np.stack([there_and_back, 1 - forward, forward], axis=1)
    path = np.tile(sweep[random.integers(FRAMES, size=3), np.arange(3)], (FRAMES, 1))
    if motion in SWEPT:
        path[:, SWEPT[motion]] = sweep[:, SWEPT[motion]]
    return np.stack([path[:, 0] * WIDTH / HEIGHT, path[:, 1], np.exp(path[:, 2])], axis=1).astype(np.float32)


def _as_seen_by_figure(x, y, radius, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Every pixel's position from the figure's centre, along its own two axes, in its radii, (HEIGHT, WIDTH) each."""
    across = ((np.arange(WIDTH, dtype=np.float32) + 0.5) / HEIGHT - x) / radius
    down = ((np.arange(HEIGHT, dtype=np.float32)[:, None] + 0.5) / HEIGHT - y) / radius
    cos, sin = math.cos(turn), math.sin(turn)
    return across * cos + down * sin, down * cos - across * sin


def _pattern(random: np.random.Generator) -> np.ndarray:
    """A sum of a few plane waves that drifts slowly, 0 to 1, (FRAMES, HEIGHT, WIDTH)."""
    count = random.integers(2, 8)
    waves = random.uniform(1, 5) * np.exp(random.uniform(-0.4, 0.4, count))  # in a frame height
    angle = random.uniform(0, np.pi, count)
    across, down = 2 * np.pi * waves * np.cos(angle), 2 * np.pi * waves * np.sin(angle)
    way, drift = random.uniform(0, 2 * np.pi), random.uniform(0, DRIFT) * np.arange(FRAMES)
    phase = random.uniform(0, 2 * np.pi, count) + np.outer(drift, np.cos(way) * across + np.sin(way) * down)
    contrast = np.exp(random.uniform(np.log(0.3), np.log(2.0))) / np.sqrt(count)
    # A plane wave is the product of one along x and one along y: the sum over waves is a product of matrices.
    along_x = np.exp(1j * across[:, None] * np.arange(WIDTH) / HEIGHT).astype(np.complex64)
    along_y = np.exp(1j * (phase[:, None] + down * np.arange(HEIGHT)[:, None] / HEIGHT)).astype(np.complex64)
    return np.clip(0.5 + contrast * (along_y @ along_x).real, 0, 1)


def _palette(hue: float, shades: tuple, random: np.random.Generator) -> list[np.ndarray]:
    """A darker and a lighter colour of about the same hue, RGB from 0 to 1, (3, 1, 1) each."""
    colours = [
        colorsys.hsv_to_rgb(
            (hue + random.uniform(-0.06, 0.06)) % 1, random.uniform(*saturation), random.uniform(*value)
        )
        for saturation, value in shades
    ]
    return [np.array(colour, np.float32)[:, None, None] for colour in colours]


def _blend(under, over, share):
    return under + (over - under) * share


def _sharpen(wave, slope: float):
    return np.clip(0.5 + slope * wave, 0, 1)


def _clouds(random: np.random.Generator):
    waves = [
        (np.cos(angle), np.sin(angle), phase) for angle, phase in random.uniform(0, 2 * np.pi, (3, 2)).astype("f4")
    ]
    return lambda u, v: np.clip(0.6 + 0.2 * sum(np.sin(5 * (u * a + v * b) + phase) for a, b, phase in waves), 0, 1)


def _polygon(u, v, points: int, notch: float):
    """Distance to a regular polygon whose sides are bent inwards to `notch`: a star, if that is small enough."""
    sector = math.pi / points
    angle = np.abs((np.arctan2(v, u) + sector) % (2 * sector) - sector)
    radius = np.hypot(u, v)
    side_x, side_y = notch * math.cos(sector) - 1, notch * math.sin(sector)
    return ((radius * np.cos(angle) - 1) * side_y - radius * np.sin(angle) * side_x) / math.hypot(side_x, side_y)


# A contour is the distance to it in radii, negative within; a paint is the share of the lighter colour. Both are
# functions of u and v, the position from the figure's centre in its radii.
MARKED = {
    "disc": (
        lambda u, v: np.hypot(u, v) - 0.95,
        lambda u, v: _sharpen(np.sin(8 * u), 2.5),
    ),
    "star": (
        lambda u, v: _polygon(u, v, 5, 0.5),
        lambda u, v: _sharpen(0.42 - np.hypot(u, v), 6),
    ),
    "square": (
        lambda u, v: np.maximum(np.abs(u), np.abs(v)) - 0.85,
        lambda u, v: _sharpen(np.sin(np.pi * u / 0.85) * np.sin(np.pi * v / 0.85), 6),
    ),
    "ring": (
        lambda u, v: np.abs(np.hypot(u, v) - 0.7) - 0.28,
        lambda u, v: _sharpen(np.sin(4 * np.arctan2(v, u)), 2.5),
    ),
}
PLAIN_SHAPES = {
    "triangle": lambda u, v: _polygon(u / 1.1, v / 1.1, 3, 0.5),
    "hexagon": lambda u, v: _polygon(u, v, 6, math.cos(math.pi / 6)),
    "clover": lambda u, v: 0.85 * (np.hypot(u, v) - 0.78 - 0.22 * np.cos(3 * np.arctan2(v, u))),
    "crescent": lambda u, v: np.maximum(np.hypot(u, v) - 1, 0.62 - np.hypot(u - 0.62, v)),
}
PLAIN = tuple(PLAIN_SHAPES)
