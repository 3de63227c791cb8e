"""Memory and stream give the same frames, and a video that fails is named or replaced, never dropped."""

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch

from r21d_core import R21DError
from r21d_core.data import sources
from r21d_core.data.decode import read_all, read_frames
from r21d_core.data.manifest import Video, load_manifest
from r21d_core.data.sampling import batches_by_video, evaluation_clips, sample_epoch
from r21d_core.data.sources import InMemorySource, StreamingSource, _load_frames, open_clips
from r21d_core.engine.plan import data_size
from r21d_core.study.spec import Spec

CPU = torch.device("cpu")
SIZE = (18, 24)
SPEC = Spec(frames=4, frame_height=18, frame_width=24, crop=16, clips_per_epoch=20, eval_clips=3)


@pytest.fixture(scope="module")
def manifest(tiny_manifest):
    return load_manifest(tiny_manifest)


@pytest.fixture(scope="module")
def batches(manifest):
    """Clips of eight videos: a batch of each at most once, and one of each twice."""
    clips = sample_epoch(SPEC.replace(task="arrow"), 0, manifest.split("train"), manifest.card.classes)
    return [clips[:4], clips[4:]]


def read(source, batches):
    return [(clips.label.tolist(), frames) for clips, frames in source.iter_batches(batches)]


def test_memory_holds_what_the_decoder_gives(manifest, batches):
    videos = manifest.split("train")
    source = open_clips(videos, SIZE, CPU)
    assert isinstance(source, InMemorySource)
    for clips, frames in source.iter_batches(batches):
        for video, numbers, pixels in zip(clips.video, clips.frames, frames, strict=True):
            np.testing.assert_array_equal(pixels, read_frames(videos[video].path, numbers, SIZE))


def test_half_of_the_memory_of_all_processes_has_to_suffice(manifest, monkeypatch):
    need = sum(video.frames for video in manifest.videos) * 18 * 24 * 3
    for available, processes, kind in (
        (2 * need + 2, 1, InMemorySource), (2 * need, 1, StreamingSource), (2 * need + 2, 2, StreamingSource)
    ):  # fmt: skip
        _load_frames.cache_clear()
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        monkeypatch.setattr("psutil.virtual_memory", lambda available=available: SimpleNamespace(available=available))
        assert isinstance(open_clips(manifest.videos, SIZE, CPU), kind)


@pytest.mark.parametrize(("workers", "order"), [(0, 1), (1, -1), (2, 1)])
def test_stream_gives_the_clips_of_memory(manifest, batches, workers, order):
    """Of more batches than workers share memory for; in the first order later ones are larger than the first."""
    videos, batches = manifest.split("train"), batches[::order] * 6
    held = read(open_clips(videos, SIZE, CPU, "host"), batches)
    streamed = read(open_clips(videos, SIZE, CPU, "stream", workers), batches)
    for (labels, frames), (other_labels, other_frames) in zip(held, streamed, strict=True):
        assert labels == other_labels and frames.dtype == torch.uint8
        assert torch.equal(frames, other_frames)


@pytest.mark.parametrize("workers", [1, 2])
def test_slot_is_not_written_before_it_is_copied(manifest, monkeypatch, workers):
    """However slow the thread that copies is; all frames pass through the same memory."""
    videos, copy, copied = manifest.split("train"), sources._copy, []

    def copy_slowly(frames, device):
        time.sleep(0.03)
        copied.append(frames.untyped_storage().data_ptr())
        return copy(frames, device)

    clips = sample_epoch(SPEC.replace(clips_per_epoch=80), 0, videos, manifest.card.classes)
    batches = [clips[:2], *(clips[begin : begin + 4] for begin in range(2, 78, 4))]  # the first is the end of an epoch
    wanted = read(StreamingSource(videos, SIZE, CPU, 0), batches)
    monkeypatch.setattr(sources, "_copy", copy_slowly)
    for (_, frames), (_, others) in zip(
        read(StreamingSource(videos, SIZE, CPU, workers), iter(batches)), wanted, strict=True
    ):
        assert torch.equal(frames, others)
    assert len(copied) == 20 and len(set(copied)) == 1


def test_error_while_copying_ends_the_workers(manifest, batches, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(sources, "_copy", fail)
    with pytest.raises(MemoryError) as error:
        read(StreamingSource(manifest.split("train"), SIZE, CPU, 1), batches)
    workers = [process for server in psutil.Process().children() for process in server.children()]
    assert not workers
    assert error.traceback, "which keeps the generator"


def test_too_little_shared_memory_is_an_error(manifest, batches, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=12_000))
    with pytest.raises(R21DError, match=r"3 decoding workers share 0\.0 GB of memory, more than .* fewer --workers"):
        read(StreamingSource(manifest.split("train"), SIZE, CPU, 3), batches)


def test_streaming_makes_no_path_of_a_video_before_it_is_read(manifest, batches, monkeypatch):
    """Nor does the plan: of 240,000 videos these are seconds, and in every process of every run."""
    made = []
    path = Video.path.fget
    monkeypatch.setattr(Video, "path", property(lambda video: made.append(video.video) or path(video)))
    source = open_clips(manifest.split("train"), SIZE, CPU, "stream", 0, pool=manifest.videos)
    assert not data_size(manifest).missing and made == [manifest.videos[len(manifest.videos) // 2].video]
    made.clear()
    assert len(read(source, batches[:1])) == 1 and len(made) == len({*batches[0].video})


@pytest.mark.parametrize("file", [None, Path("flow/a.mp4")])
def test_path_as_text_is_the_path(file):
    video = Video("a/ü b.mp4", Path("/videos"), "a", "train", "g", file=file)
    assert video.path_text == str(video.path)


def test_a_video_is_decoded_once_for_all_its_clips(manifest, monkeypatch):
    opened = []
    monkeypatch.setattr(sources, "read_frames", lambda path, *how: opened.append(path) or read_frames(path, *how))
    videos = manifest.split("test")
    clips = evaluation_clips(SPEC.replace(task="speed"), 10, videos, manifest.card.classes)
    read(StreamingSource(videos, SIZE, CPU, 0), batches_by_video(clips, 8))
    assert opened == [video.path for video in videos], "forty clips each, opened once"


@pytest.fixture
def spoilt(manifest, tmp_path):
    """The training videos, the third of which is no longer there."""
    videos = list(manifest.split("train"))
    videos[2] = replace(videos[2], file=tmp_path / "gone.mp4")
    return tuple(videos)


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_video_in_training_is_replaced_and_told(spoilt, batches, workers):
    told = {}
    source = StreamingSource(spoilt, SIZE, CPU, workers, on_bad=told.__setitem__)
    for asked, (clips, frames) in zip(batches, source.iter_batches(batches), strict=True):
        assert len(clips) == len(frames) == len(asked)
        assert 2 not in clips.video
        for video, numbers, pixels in zip(clips.video, clips.frames, frames, strict=True):
            np.testing.assert_array_equal(pixels, read_frames(spoilt[video].path, numbers, SIZE))
    assert list(told) == [spoilt[2].video] and "gone.mp4" in told[spoilt[2].video]


def test_bad_video_in_evaluation_is_an_error(spoilt, batches):
    with pytest.raises(R21DError, match=r"gone\.mp4"):
        read(StreamingSource(spoilt, SIZE, CPU, 0), batches)


def test_bad_video_is_named_before_it_is_held(spoilt):
    with pytest.raises(R21DError, match=r"gone\.mp4"):
        open_clips(spoilt, SIZE, CPU, "host")


def test_workers_decode_what_is_held(manifest, monkeypatch):
    started = []
    monkeypatch.setattr(sources, "FEW_PIXELS", 0)
    monkeypatch.setattr(
        sources, "map_in_processes", lambda function, items, workers, _: started.append(workers) or map(function, items)
    )
    for workers in (0, 3):
        open_clips(manifest.videos[: workers + 1], SIZE, CPU, "host", workers)
    assert started == [0, 3], "what the advice of a dead worker names"
    with pytest.raises(R21DError, match="workers is -1"):
        open_clips(manifest.videos, SIZE, CPU, "stream", -1)


@pytest.mark.parametrize("count", [9, 99])
def test_manifest_that_counts_other_frames_is_refused(manifest, count):
    videos = (replace(manifest.videos[0], frames=count), *manifest.videos[1:3])
    with pytest.raises(R21DError, match=f"15 frames, {count} in the manifest"):
        open_clips(videos, SIZE, CPU, "host")


def test_sides_and_splits_of_the_same_videos_share_what_is_held(manifest):
    turned = tuple(replace(video, split="train" if video.split == "test" else "test") for video in manifest.videos)
    unseen = tuple(video for video in turned if video.split == "train")  # what was tested is trained on
    held = open_clips(manifest.split("train"), SIZE, CPU, "host", pool=manifest.videos)
    again = open_clips(unseen, SIZE, CPU, "host", pool=turned)
    assert held.frames is again.frames
    for source, videos in ((held, manifest.split("train")), (again, unseen)):
        for place, video in enumerate(videos):
            first = source.first[place]
            np.testing.assert_array_equal(source.frames[first : first + video.frames], read_all(video.path, SIZE))
