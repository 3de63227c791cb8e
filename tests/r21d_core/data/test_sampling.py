"""Which frames a clip holds, against counting by hand and by brute force."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r21d_core import R21DError
from r21d_core.data.manifest import Video
from r21d_core.data.sampling import batches_by_video, evaluation_clips, frame_counts, sample_epoch, task_classes
from r21d_core.study.spec import Spec

CLASSES = ("b", "a")


def frames_by_hand(spec, length, start, label):
    """The frame numbers of the clip that begins at `start`, counted one at a time."""
    stride = spec.frame_stride * (2**label if spec.task == "speed" else 1)
    frames = [(start + number * stride) % length for number in range(spec.frames)]
    return frames[::-1] if spec.task == "arrow" and label == 1 else frames


def room_by_hand(spec, length, label):
    return max(length - 1 - (spec.frames - 1) * spec.frame_stride * (2**label if spec.task == "speed" else 1), 0)


def videos(*lengths):
    return tuple(
        Video(f"{i}.mp4", Path(), CLASSES[i % 2], "train", f"g{i}", length, 25.0, 48, 36)
        for i, length in enumerate(lengths)
    )


SPECS = st.builds(
    Spec,
    frames=st.integers(1, 16),
    frame_stride=st.integers(1, 4),
    task=st.sampled_from(["action", "speed", "arrow"]),
    seed=st.integers(0, 99),
    clips_per_epoch=st.integers(1, 60),
    eval_clips=st.integers(1, 12),
)
LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=8)


@given(SPECS, LENGTHS, st.integers(0, 5))
def test_row_is_a_function_of_seed_epoch_and_index(spec, lengths, epoch):
    some = sample_epoch(spec, epoch, videos(*lengths), CLASSES)
    more = sample_epoch(replace(spec, clips_per_epoch=spec.clips_per_epoch + 17), epoch, videos(*lengths), CLASSES)
    for name in ("video", "frames", "label", "draws"):
        np.testing.assert_array_equal(getattr(some, name), getattr(more, name)[: spec.clips_per_epoch])


def test_no_seed_or_epoch_repeats_anothers_clips():
    seeds = [0, 1, 2**32, 2**32 + 1, 2**33, 2**64 - 1]
    epochs = [
        sample_epoch(Spec(seed=s, clips_per_epoch=40), e, videos(*[9] * 40), CLASSES) for s in seeds for e in (0, 1, 2)
    ]
    assert len({epoch.video.tobytes() for epoch in epochs}) == len({epoch.draws.tobytes() for epoch in epochs}) == 18


def test_small_seeds_keep_the_clips_of_committed_runs():
    order, generator = (np.random.default_rng([7, 2, stream]) for stream in range(2))
    clips = sample_epoch(Spec(seed=7, clips_per_epoch=9), 2, videos(*[9] * 9), CLASSES)
    np.testing.assert_array_equal(clips.video, order.permutation(9))
    np.testing.assert_array_equal(clips.draws[:, :6], generator.random((9, 8), np.float32)[:, 2:])


@given(SPECS, LENGTHS)
def test_every_video_comes_equally_often_to_within_one(spec, lengths):
    counts = np.bincount(sample_epoch(spec, 0, videos(*lengths), CLASSES).video, minlength=len(lengths))
    assert counts.max() - counts.min() <= 1 and counts.sum() == spec.clips_per_epoch


@given(SPECS, LENGTHS)
def test_training_clip_wraps_around_only_in_a_short_video(spec, lengths):
    clips = sample_epoch(spec, 3, videos(*lengths), CLASSES)
    for video, frames, label in zip(clips.video, clips.frames, clips.label, strict=True):
        assert spec.task != "action" or label == video % 2
        start = frames[-1] if spec.task == "arrow" and label == 1 else frames[0]
        assert start <= room_by_hand(spec, lengths[video], label), "a video that is too short begins at its first frame"
        assert frames.tolist() == frames_by_hand(spec, lengths[video], start, label)


@given(SPECS, LENGTHS)
def test_evaluation_clips_by_the_formula_one_at_a_time(spec, lengths):
    clips = evaluation_clips(spec, spec.eval_clips, videos(*lengths), CLASSES)
    labels = {"action": None, "speed": range(4), "arrow": range(2)}[spec.task]
    row = 0
    for number, length in enumerate(lengths):
        for label in labels if labels is not None else [number % 2]:
            room = room_by_hand(spec, length, label)
            for i in range(spec.eval_clips):
                start = room // 2 if spec.eval_clips == 1 else i * room // (spec.eval_clips - 1)
                assert clips.frames[row].tolist() == frames_by_hand(spec, length, start, label)
                assert (clips.video[row], clips.label[row]) == (number, label)
                row += 1
    assert row == len(clips)


def test_starts_cover_every_place_a_clip_fits():
    spec = Spec(frames=8, clips_per_epoch=2000)
    starts = sample_epoch(spec, 0, videos(12), CLASSES).frames[:, 0]
    assert set(starts) == {0, 1, 2, 3, 4}
    assert np.bincount(starts).min() > 300


def test_clips_of_a_spec_are_those_of_earlier_runs():
    """Runs with one hash have one result, so what is drawn from a seed and an epoch never changes."""
    spec = Spec(frames=3, frame_stride_max=4, clips_per_epoch=5, seed=1)
    clips, other_epoch, other_seed, speeds = (
        sample_epoch(s, epoch, videos(90, 80, 70), CLASSES)
        for s, epoch in (
            (spec, 2),
            (spec, 1),
            (spec.replace(seed=0), 2),
            (spec.replace(task="speed", frame_stride_max=0), 2),
        )
    )
    assert clips.video.tolist() == [0, 1, 2, 2, 1]
    assert clips.frames.tolist() == [[75, 79, 83], [31, 33, 35], [45, 46, 47], [28, 29, 30], [60, 62, 64]]
    assert clips.draws[-1].tolist() == pytest.approx(
        [0.0304, 0.3477, 0.5884, 0.8521, 0.4374, 0.5974, 0.6949, 0.1301], abs=1e-4
    )
    assert (speeds.label.tolist(), speeds.frames[-1].tolist()) == ([2, 1, 0, 0, 2], [57, 61, 65])
    assert (clips.frames != other_epoch.frames).any() and (clips.frames != other_seed.frames).any()


def test_speed_labels_are_drawn_evenly_and_step_as_they_say():
    clips = sample_epoch(Spec(task="speed", clips_per_epoch=4000), 0, videos(120, 120), CLASSES)
    assert np.bincount(clips.label).min() > 900
    np.testing.assert_array_equal(clips.frames[:, 1] - clips.frames[:, 0], 2**clips.label)


def test_names_of_what_is_told():
    assert task_classes(Spec(), CLASSES) == CLASSES
    assert task_classes(Spec(task="speed"), CLASSES) == ("1×", "2×", "4×", "8×")
    assert task_classes(Spec(task="arrow"), CLASSES) == ("forward", "reversed")


@given(SPECS, LENGTHS, st.integers(1, 40))
def test_batches_of_whole_videos_lose_and_split_nothing(spec, lengths, min_size):
    clips = evaluation_clips(spec, spec.eval_clips, videos(*lengths), CLASSES)
    batches = list(batches_by_video(clips, min_size))
    np.testing.assert_array_equal(np.concatenate([b.frames for b in batches]), clips.frames)
    homes = [set(batch.video) for batch in batches]
    assert sum(map(len, homes)) == len(set.union(*homes)), "no video in two batches"
    assert all(len(batch) >= min_size for batch in batches[:-1])
    assert all((batch.video != batch.video[-1]).sum() < min_size for batch in batches), "none is larger than it must be"


def test_unchecked_manifest_is_named():
    with pytest.raises(R21DError, match=r"0\.mp4.*r21d check"):
        frame_counts(videos(None))


def test_strides_are_drawn_between_the_least_and_the_most():
    spec = Spec(frames=4, frame_stride=2, frame_stride_max=4, clips_per_epoch=600)
    clips, one_stride = (sample_epoch(s, 0, videos(40, 9), CLASSES) for s in (spec, spec.replace(frame_stride_max=0)))
    strides = (clips.frames[:, 1] - clips.frames[:, 0]) % np.array([40, 9])[clips.video]
    assert set(strides) == {2, 3, 4} and np.bincount(strides)[2:].min() > 150
    assert (clips.frames[clips.video == 0][:, -1] < 40).all() and clips.frames[clips.video == 0][:, -1].max() == 39
    np.testing.assert_array_equal(clips.video, one_stride.video)
    np.testing.assert_array_equal(clips.draws, one_stride.draws)
