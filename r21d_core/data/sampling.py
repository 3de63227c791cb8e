"""Sampling of clips: which frames of which video, as a function of the seed, the epoch and the row alone."""

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
    """A batch of clips, one row each; a slice or an index array selects rows."""

    video: np.ndarray  # (n,) row of the video in its split of the manifest
    frames: np.ndarray  # (n, T) frame numbers
    label: np.ndarray  # (n,)
    draws: np.ndarray  # (n, 8) float32, uniform in [0, 1), from which `augment` takes crop, flip and colors

    def __getitem__(self, rows) -> Clips:
        return Clips(*(getattr(self, field.name)[rows] for field in fields(self)))

    def __len__(self) -> int:
        return len(self.video)


def task_classes(spec: Spec, classes: tuple[str, ...]) -> tuple[str, ...]:
    """The class names of the task: the manifest's for `action`, else the task's own labels."""
    if spec.task == "speed":
        return tuple(f"{speed}×" for speed in SPEEDS)
    return ("forward", "reversed") if spec.task == "arrow" else classes


def sample_epoch(spec: Spec, epoch: int, videos: tuple[Video, ...], classes: tuple[str, ...]) -> Clips:
    """The training clips of one epoch, in order; row i depends on (seed, epoch, i) alone.
    Temporal jittering (Section 4.1): every video is drawn equally often, to within one. Its clip starts at a frame
    drawn uniformly from those at which the clip fits. A video shorter than the clip starts at frame 0 and is repeated
    until the clip is full, here and in evaluation. The tasks `speed` and `arrow` draw the label too.
    """
    # A seed beyond 32 bits fills two words of the generator's seed; with the high one last, no two seeds share it.
    high, low = divmod(spec.seed, 2**32)
    order, generator, later = (np.random.default_rng([low, epoch, stream, high]) for stream in range(3))
    rounds = -(-spec.clips_per_epoch // len(videos))
    video = np.concatenate([order.permutation(len(videos)) for _ in range(rounds)])[: spec.clips_per_epoch]
    draws = generator.random((spec.clips_per_epoch, 8), np.float32)
    more_draws = later.random((spec.clips_per_epoch, 3), np.float32)
    length = frame_counts(videos)[video]
    if spec.task == "action":
        label = _labels(videos, classes)[video]
    else:
        label = (draws[:, 0] * len(task_classes(spec, classes))).astype(int)
    stride = _frame_stride(spec, label)
    if spec.frame_stride_max:
        stride += (more_draws[:, 0] * (spec.frame_stride_max - spec.frame_stride + 1)).astype(int)
    room = np.maximum(length - _span(spec, stride), 0)
    start = (draws[:, 1] * (room + 1)).astype(int)
    frames = _frame_numbers(spec, start, stride, label, length)
    return Clips(video, frames, label, np.hstack([draws[:, 2:], more_draws[:, 1:]]))


def evaluation_clips(spec: Spec, count: int, videos: tuple[Video, ...], classes: tuple[str, ...]) -> Clips:
    """`count` evenly spaced clips of each test item; rows [i·count, (i+1)·count) are item i.
    Clip i of n starts at floor(i·(N−span)/(n−1)) in a video of N frames; a single clip lies in the middle. An item is a
    video, or, for `speed` and `arrow`, a video under one label, with all labels of a video in succession.
    """
    labels = len(task_classes(spec, classes))
    if spec.task == "action":
        video, label = np.arange(len(videos)), _labels(videos, classes)
    else:
        video, label = np.repeat(np.arange(len(videos)), labels), np.tile(np.arange(labels), len(videos))
    length = frame_counts(videos)[video]
    stride = _frame_stride(spec, label)
    room = np.maximum(length - _span(spec, stride), 0)
    start = np.arange(count) * room[:, None] // (count - 1) if count > 1 else room[:, None] // 2
    video, label, length, stride = (np.repeat(column, count) for column in (video, label, length, stride))
    frames = _frame_numbers(spec, start.reshape(-1), stride, label, length)
    return Clips(video, frames, label, np.zeros((len(video), 8), np.float32))


def batches_by_video(clips: Clips, min_size: int) -> Iterator[Clips]:
    """Split `clips` into batches of `min_size` or more that end where the video changes: each is decoded once."""
    start = 0
    for end in np.flatnonzero(np.diff(clips.video, append=-1)) + 1:
        if end - start >= min_size or end == len(clips):
            yield clips[start:end]
            start = end


def frame_counts(videos: tuple[Video, ...]) -> np.ndarray:
    """The number of frames of each video, (n,); raises R21DError if the manifest has not been checked."""
    for video in videos:
        if not video.frames:
            raise R21DError(f"{video.video}: the manifest has no frame count; run `r21d check` on the manifest first")
    return np.array([video.frames for video in videos])


def _labels(videos: tuple[Video, ...], classes: tuple[str, ...]) -> np.ndarray:
    index = {name: number for number, name in enumerate(classes)}
    return np.array([index[video.label] for video in videos])


def _frame_stride(spec: Spec, label: np.ndarray) -> np.ndarray:
    speed = np.array(SPEEDS)[label] if spec.task == "speed" else np.ones(len(label), int)
    return spec.frame_stride * speed


def _span(spec: Spec, stride: np.ndarray) -> np.ndarray:
    return (spec.frames - 1) * stride + 1


def _frame_numbers(
    spec: Spec, start: np.ndarray, stride: np.ndarray, label: np.ndarray, length: np.ndarray
) -> np.ndarray:
    order = np.arange(spec.frames)
    if spec.task == "arrow":
        order = np.where(label[:, None] == 1, order[::-1], order)
    return (start[:, None] + order * stride[:, None]) % length[:, None]
