"""Which frames make a clip: the same in memory and in a stream, in the first run and in a resumed one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from r21d_core import R21DError
from r21d_core.data.manifest import Video
from r21d_core.study.spec import Spec

SPEEDS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Clips:
    """Clips asked for, a row each; indexing with a slice or an array gives those rows."""

    video: np.ndarray  # (n,) row of the video in its side of the manifest
    frames: np.ndarray  # (n, T) frame numbers
    label: np.ndarray  # (n,)
    draws: np.ndarray  # (n, 6) float32, uniform in [0, 1): what the transform turns into crop, flip and brightness

    def __getitem__(self, rows) -> Clips:
        return Clips(*(getattr(self, field.name)[rows] for field in fields(self)))

    def __len__(self) -> int:
        return len(self.video)


def task_classes(spec: Spec, classes: tuple[str, ...]) -> tuple[str, ...]:
    """The names of what is to be told: the manifest's classes, or the task's own labels."""
    if spec.task == "speed":
        return tuple(f"{speed}×" for speed in SPEEDS)
    return ("forward", "reversed") if spec.task == "arrow" else classes


def clip_span(spec: Spec, label: np.ndarray) -> np.ndarray:
    """How many frames of the video a clip reaches over, first and last included, for each label."""
    return (spec.frames - 1) * _step(spec, label) + 1


def sample_epoch(spec: Spec, epoch: int, videos: tuple[Video, ...], classes: tuple[str, ...]) -> Clips:
    """The training clips of one epoch, in order; row i is a function of (seed, epoch, i) and nothing else.

    "Temporal jittering" (Section 4.1): every video comes equally often, to within one, and each time its clip
    begins at a frame drawn uniformly from those at which it fits. A video shorter than the clip begins at its
    first frame and is repeated from there until the clip is full: the one rule for short videos, here and in
    evaluation. For the tasks `speed` and `arrow` the label is drawn too.
    """
    order, chance = (np.random.default_rng([spec.seed, epoch, purpose]) for purpose in range(2))
    rounds = -(-spec.clips_per_epoch // len(videos))
    video = np.concatenate([order.permutation(len(videos)) for _ in range(rounds)])[: spec.clips_per_epoch]
    draws = chance.random((spec.clips_per_epoch, 8), np.float32)
    length = frame_counts(videos)[video]
    if spec.task == "action":
        label = _labels(videos, classes)[video]
    else:
        label = (draws[:, 0] * len(task_classes(spec, classes))).astype(int)
    room = np.maximum(length - clip_span(spec, label), 0)
    start = (draws[:, 1] * (room + 1)).astype(int)
    return Clips(video, _frame_numbers(spec, start, label, length), label, draws[:, 2:])


def evaluation_clips(spec: Spec, count: int, videos: tuple[Video, ...], classes: tuple[str, ...]) -> Clips:
    """`count` clips of each test item, item by item: rows [i·count, (i+1)·count) are item i.

    Clip i of n begins at floor(i·(N−span)/(n−1)), both ends included; a single clip lies in the middle. An item
    is a video, or for `speed` and `arrow` a video under each label, all labels of a video in succession.
    """
    labels = len(task_classes(spec, classes))
    if spec.task == "action":
        video, label = np.arange(len(videos)), _labels(videos, classes)
    else:
        video, label = np.repeat(np.arange(len(videos)), labels), np.tile(np.arange(labels), len(videos))
    length = frame_counts(videos)[video]
    room = np.maximum(length - clip_span(spec, label), 0)
    start = np.arange(count) * room[:, None] // (count - 1) if count > 1 else room[:, None] // 2
    video, label, length = (np.repeat(column, count) for column in (video, label, length))
    frames = _frame_numbers(spec, start.reshape(-1), label, length)
    return Clips(video, frames, label, np.zeros((len(video), 6), np.float32))


def batches_by_video(clips: Clips, at_least: int) -> Iterator[Clips]:
    """`clips` cut where the video changes, into batches of `at_least` or more, so that each is decoded once."""
    ends = np.flatnonzero(np.diff(clips.video, append=-1)) + 1
    begin = 0
    for end in ends:
        if end - begin >= at_least or end == len(clips):
            yield clips[begin:end]
            begin = end


def frame_counts(videos: tuple[Video, ...]) -> np.ndarray:
    """Frames of each video, (n,); raises R21DError where the manifest has not been checked."""
    for video in videos:
        if not video.frames:
            raise R21DError(f"{video.video}: its number of frames is not known; run `r21d check` on the manifest first")
    return np.array([video.frames for video in videos])


def _labels(videos: tuple[Video, ...], classes: tuple[str, ...]) -> np.ndarray:
    index = {name: number for number, name in enumerate(classes)}
    return np.array([index[video.label] for video in videos])


def _step(spec: Spec, label: np.ndarray) -> np.ndarray:
    return (
        spec.frame_stride * np.array(SPEEDS)[label] if spec.task == "speed" else np.full(len(label), spec.frame_stride)
    )


def _frame_numbers(spec: Spec, start, label, length) -> np.ndarray:
    order = np.arange(spec.frames)
    if spec.task == "arrow":
        order = np.where(label[:, None] == 1, order[::-1], order)
    return (start[:, None] + order * _step(spec, label)[:, None]) % length[:, None]
