"""A synthetic data set, rendered on first use, whose class families test what a network can distinguish.

- `appearance`: one frame is enough; the figure moves in any of the ways below.
- `motion`: a single frame is uninformative, the frames in any order are enough (how far does the figure move?).
- `rise or fall` and `approach or recede`: the order of the frames decides. Every video of one class is a reversed video
  of the other, so a network that ignores the order is right in exactly half of them where clips start at positions
  that are symmetric in time. Elsewhere the mean height or size in the clips tells something of the class.

A scene is a background, a palette and a figure. Every class has one video in every scene, which lies in one split.
"""

from __future__ import annotations

import colorsys
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from r21d_core import R21DError
from r21d_core.data.encode import encode_h264
from r21d_core.data.manifest import DatasetCard, Video, split_counts, write_manifest
from r21d_core.runs.files import make_folder

VERSION = 2  # of the rendered videos; each version has its own folder
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
EXAMPLE = ("disc", "star", "rise", "fall")  # classes of `make_example`
# Two sets without a common class, for pretraining and fine-tuning. Their three splits test different scenes.
HALVES = {"source": ("appearance", "rise or fall"), "target": ("motion", "approach or recede")}
# 20 − 8 = 12 is a multiple of 1, 2, 3, 4, 6 and 12: for n = 1, 2, 3, 4, 5, 7 and 13, the n clips of 8 frames at
# floor(i·12/(n−1)) of a reversed video are the reversed clips of the video.
FRAMES, HEIGHT, WIDTH, FRAME_RATE = 20, 64, 86, 25

# Ranges of the figure's center (fractions of the frame's width and height) and size (log of its radius in frame
# heights). `sway`, `rise` and `approach` sweep one of the three at constant speed: 2.4 % of the height or 4.7 % of the
# size a frame.
RANGES = np.array([[0.30, 0.70], [0.26, 0.74], np.log([0.18, 0.40])])
SWEPT_RANGE = {"sway": 0, "rise": 1, "approach": 2}
MAX_DRIFT = 0.003  # of the background, in frame heights a frame
# Ranges of saturation and value of the darker and the lighter color.
GROUNDS = ((0.3, 0.8), (0.05, 0.2)), ((0.3, 0.7), (0.25, 0.45))
MARKS = ((0.8, 1.0), (0.25, 0.45)), ((0.05, 0.4), (0.9, 1.0))
PAINTS = ((0.4, 0.8), (0.75, 0.85)), ((0.1, 0.5), (0.9, 1.0))
# Intra frames at a constant quantizer: a video and its reversal hold identical frames, so that compression artifacts do
# not reveal the order.
ENCODER_OPTIONS = {"preset": "fast", "qp": "26", "g": "1", "tune": "psnr"}


def make_builtin(root: Path | str) -> Path:
    """The path of the built-in videos' manifest below `root`, complete or not at all; they are rendered if missing."""
    folder = Path(root) / f"builtin-{VERSION}"
    manifest = folder / "builtin.csv"
    if any(folder.glob("*")):
        if not manifest.exists():
            raise R21DError(f"{manifest}: missing from a folder that is made as a whole; delete {folder}")
        return manifest
    with _complete_folder(folder) as draft:
        videos = [
            Video(f"{label}/s{scene:02d}.mp4", draft / "videos", label, split,
                  f"scene {scene:02d}", FRAMES, float(FRAME_RATE), WIDTH, HEIGHT)
            for label in CLASSES
            for scene, split in enumerate(np.repeat(list(SCENES), list(SCENES.values())).tolist())
        ]  # fmt: skip
        _write_videos(videos, "rendering the built-in videos")
        source, counts = "rendered by r21d_core/data/synthetic.py", split_counts(videos)
        card = DatasetCard("builtin", CLASSES, source, "as the code's", counts, "videos", FAMILIES)
        _write_halves(draft, card, videos)
        write_manifest(draft / "builtin.csv", card, videos)
    return manifest


def make_example(root: Path | str, classes: Sequence[str] = EXAMPLE, scenes: int = 16) -> Path:
    """The path of a folder with a folder of videos for each class, as a person has it; rendered if missing."""
    folder = Path(root) / f"example-{VERSION}"
    if not folder.exists():
        with _complete_folder(folder) as draft:
            names = [(label, f"{label}/s{scene:02d}.mp4") for label in classes for scene in range(scenes)]
            _write_videos([Video(name, draft, label, "train", name) for label, name in names], "rendering an example")
    return folder


@contextmanager
def _complete_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that takes the name `folder` in the end, complete or not at all.

    Raises R21DError where it cannot be written.
    """
    make_folder(folder.parent)
    with ExitStack() as stack:
        try:
            draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".builtin-"))
            stack.callback(shutil.rmtree, draft, ignore_errors=True)
            yield draft
            os.chmod(draft, 0o755)  # temporary folders are private
            draft.rename(folder)
        except OSError as error:
            if not folder.exists():  # else another process was faster
                what = "free some space or change the permissions, then run the same command again"
                raise R21DError(f"{folder}: could not be written ({error.strerror or error}); {what}") from error


def _write_halves(folder: Path, whole: DatasetCard, videos: list[Video]) -> None:
    """Write `builtin-source-split1.csv` and so on: split 1 tests the whole set's test scenes, 2 and 3 other ones."""
    scenes, test_scenes = sum(SCENES.values()), SCENES["test"]
    for half, names in HALVES.items():
        families = {name: FAMILIES[name] for name in names}
        classes = sum(families.values(), ())
        chosen = [video for video in videos if video.label in classes]
        for split in (1, 2, 3):
            first = scenes - split * test_scenes
            held_out = {f"scene {(first + number) % scenes:02d}" for number in range(test_scenes)}
            rows = [replace(video, split="test" if video.group in held_out else "train") for video in chosen]
            name = f"builtin-{half}-split{split}"
            card = replace(whole, name=name, classes=classes, families=families, expected=split_counts(rows))
            write_manifest(folder / f"{name}.csv", card, rows)


def _write_videos(videos: list[Video], title: str) -> None:
    for video in tqdm(videos, title, unit="video", leave=False):
        video.path.parent.mkdir(parents=True, exist_ok=True)
        frames = ((number, 1, pixels) for number, pixels in enumerate(render(video.label, int(video.path.stem[1:]))))
        video.path.write_bytes(encode_h264(frames, (HEIGHT, WIDTH), ENCODER_OPTIONS, rate=FRAME_RATE))


def render(label: str, scene: int) -> np.ndarray:
    """The frames of class `label` in a scene, uint8 RGB (FRAMES, HEIGHT, WIDTH, 3); deterministic.
    A horizontal flip keeps the class, as training flips clips.
    """
    if label in REVERSED:
        return render(REVERSED[label], scene)[::-1]
    number = CLASSES.index(label)
    # The videos of an `appearance` class have all motions, in equal numbers.
    motion = label if label in MOTIONS else MOTIONS[(scene + number) % len(MOTIONS)]
    path = _path(REVERSED.get(motion, motion), np.random.default_rng([0, scene, number]))
    look = np.random.default_rng([0, scene])
    hue, turn, plain = look.random(), look.uniform(0, 2 * np.pi), [*PLAIN_SHAPES][look.integers(len(PLAIN_SHAPES))]
    pattern, ground = _pattern(look), _palette(hue, GROUNDS, look)
    paint, paints = _clouds(look), _palette(hue + look.uniform(0.3, 0.7), MARKS if label in MARKED else PAINTS, look)
    contour, paint = MARKED.get(label, (PLAIN_SHAPES[plain], paint))
    frames = np.empty((FRAMES, 3, HEIGHT, WIDTH), np.float32)
    # Frame by frame: a frame fits into the processor's cache, a video does not.
    for frame, weight, (x, y, radius) in zip(frames, pattern, path, strict=True):
        u, v = _figure_coordinates(x, y, radius, turn)
        distance = contour(u, v) * (radius * HEIGHT)  # pixels from the contour, negative inside
        figure = _blend(paints[0], paints[1], paint(u, v)) * (1 - 0.5 * np.clip(distance + 2, 0, 1))  # a dark rim
        background = _blend(ground[0], ground[1], weight) * (1 - 0.35 * np.clip(1 - distance / 4, 0, 1))  # shadow
        frame[:] = _blend(background, figure, np.clip(0.5 - distance, 0, 1))
    frames = (frames * 255 + 0.5).astype(np.uint8).transpose(0, 2, 3, 1)
    return frames[::-1] if motion in REVERSED else frames


def _path(motion: str, random: np.random.Generator) -> np.ndarray:
    """The figure's center x, y and radius in frame heights, (FRAMES, 3).
    A component that does not move has a value of a random moment of a sweep, so that position and size in a
    single frame have the same distribution under all motions.
    """
    low, high = RANGES.T
    extent = (high - low) * random.uniform(0.85, 1, 3)
    begin = random.uniform(low, high - extent)
    forward = np.linspace(0, 1, FRAMES)
    there_and_back = np.abs(2 * ((forward + random.random()) % 1) - 1)
    sweep = begin + extent * np.stack([there_and_back, 1 - forward, forward], axis=1)
    path = np.tile(sweep[random.integers(FRAMES, size=3), np.arange(3)], (FRAMES, 1))
    if motion in SWEPT_RANGE:
        path[:, SWEPT_RANGE[motion]] = sweep[:, SWEPT_RANGE[motion]]
    return np.stack([path[:, 0] * WIDTH / HEIGHT, path[:, 1], np.exp(path[:, 2])], axis=1).astype(np.float32)


def _figure_coordinates(x, y, radius, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Each pixel's position relative to the figure, along its own axes, in its radii, (HEIGHT, WIDTH) each."""
    across = ((np.arange(WIDTH, dtype=np.float32) + 0.5) / HEIGHT - x) / radius
    down = ((np.arange(HEIGHT, dtype=np.float32)[:, None] + 0.5) / HEIGHT - y) / radius
    cos, sin = math.cos(turn), math.sin(turn)
    return across * cos + down * sin, down * cos - across * sin


def _pattern(random: np.random.Generator) -> np.ndarray:
    """A slowly drifting sum of a few plane waves in [0, 1], (FRAMES, HEIGHT, WIDTH)."""
    count = random.integers(2, 8)
    waves = random.uniform(1, 5) * np.exp(random.uniform(-0.4, 0.4, count))  # in a frame height
    angle = random.uniform(0, np.pi, count)
    across, down = 2 * np.pi * waves * np.cos(angle), 2 * np.pi * waves * np.sin(angle)
    direction, drift = random.uniform(0, 2 * np.pi), random.uniform(0, MAX_DRIFT) * np.arange(FRAMES)
    drift = np.outer(drift, np.cos(direction) * across + np.sin(direction) * down)
    phase = random.uniform(0, 2 * np.pi, count) + drift
    contrast = np.exp(random.uniform(np.log(0.3), np.log(2.0))) / np.sqrt(count)
    # A plane wave is the product of one along x and one along y, so the sum over waves is a matrix product.
    along_x = np.exp(1j * across[:, None] * np.arange(WIDTH) / HEIGHT).astype(np.complex64)
    along_y = np.exp(1j * (phase[:, None] + down * np.arange(HEIGHT)[:, None] / HEIGHT)).astype(np.complex64)
    return np.clip(0.5 + contrast * (along_y @ along_x).real, 0, 1)


def _palette(hue: float, shades: tuple, random: np.random.Generator) -> list[np.ndarray]:
    """A darker and a lighter color of about the same hue, RGB in [0, 1], (3, 1, 1) each."""
    colors = [
        colorsys.hsv_to_rgb(
            (hue + random.uniform(-0.06, 0.06)) % 1, random.uniform(*saturation), random.uniform(*value)
        )
        for saturation, value in shades
    ]
    return [np.array(color, np.float32)[:, None, None] for color in colors]


def _blend(under, over, weight):
    return under + (over - under) * weight


def _sharpen(wave, slope: float):
    return np.clip(0.5 + slope * wave, 0, 1)


def _clouds(random: np.random.Generator):
    waves = [(np.cos(a), np.sin(a), phase) for a, phase in random.uniform(0, 2 * np.pi, (3, 2)).astype("f4")]
    return lambda u, v: np.clip(0.6 + 0.2 * sum(np.sin(5 * (u * a + v * b) + phase) for a, b, phase in waves), 0, 1)


def _polygon(u, v, points: int, notch: float):
    """Distance to a regular polygon whose sides are bent inwards to the radius `notch`, such as a star."""
    sector = math.pi / points
    angle = np.abs((np.arctan2(v, u) + sector) % (2 * sector) - sector)
    radius = np.hypot(u, v)
    side_x, side_y = notch * math.cos(sector) - 1, notch * math.sin(sector)
    return ((radius * np.cos(angle) - 1) * side_y - radius * np.sin(angle) * side_x) / math.hypot(side_x, side_y)


# Contour and paint of each shape, functions of u and v, the position relative to the figure's center in radii. A
# contour is the distance in radii, negative inside; a paint is the weight of the lighter color.
MARKED = {
    "disc": (lambda u, v: np.hypot(u, v) - 0.95, lambda u, v: _sharpen(np.sin(8 * u), 2.5)),
    "star": (lambda u, v: _polygon(u, v, 5, 0.5), lambda u, v: _sharpen(0.42 - np.hypot(u, v), 6)),
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
