"""PrepareReport videos show what the first ones show, and nothing that is done is done twice or lost."""

import json
import math
import shutil
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from hypothesis import given, settings
from hypothesis import strategies as st

from r21d_core import R21DError
from r21d_core.cli import main
from r21d_core.data import encode as module
from r21d_core.data import transcode
from r21d_core.data.decode import iter_timed_frames, probe, read_all, read_frames
from r21d_core.data.encode import EncodeJob, encode_video
from r21d_core.data.manifest import DatasetCard, Video, load_manifest, write_manifest
from r21d_core.data.transcode import EncodeOptions, prepare
from r21d_core.data.verify import verify_videos
from tests.bad_videos import blocks, cut_off, write_garbage, write_video

SMALL = EncodeOptions(48, 64)


def numbered(count, height=48, width=64):
    """Frames that tell their number in eight bright or dark columns."""
    bits = (np.arange(count)[:, None] >> np.arange(8)) & 1
    grey = np.repeat(np.where(bits, 200, 40), width // 8, axis=1).astype(np.uint8)
    return np.broadcast_to(grey[:, None, :, None], (count, height, width, 3)).copy()


def numbers(frames):
    columns = frames.reshape(len(frames), frames.shape[1], 8, -1, 3).mean((1, 3, 4)) > 120
    return (columns << np.arange(8)).sum(1).tolist()


def code(source, target, options=SMALL):
    return encode_video(EncodeJob(source.name, source, target, options))


def psnr(one, other):
    return 10 * np.log10(255**2 / ((one.astype(float) - other) ** 2).mean())


@pytest.fixture
def path(tmp_path):
    """A manifest of six sound videos and two bad ones."""
    rows = []
    for number in range(6):
        name = f"{'ab'[number % 2]}/{number}.avi"
        write_video(tmp_path / "videos" / name, numbered(20 + number), "mpeg4")
        rows.append(Video(name, None, "ab"[number % 2], "test" if number > 3 else "train", f"group {number}"))
    write_garbage(tmp_path / "videos" / "a" / "bad.avi")
    cut_off(write_video(tmp_path / "videos" / "b" / "cut.mp4", blocks(40)))
    rows += [Video("a/bad.avi", None, "a", "train", "bad"), Video("b/cut.mp4", None, "b", "test", "cut")]
    card = DatasetCard(
        "set", ("b", "a"), "made", "none", {"train": 5, "test": 3}, "videos", {"letters": ("a", "b")}, "25 fps"
    )
    write_manifest(tmp_path / "set.csv", card, rows)
    return tmp_path / "set.csv"


def test_manifest_says_what_check_would_find_and_keeps_the_rest(path):
    made = prepare(path, options=SMALL)
    first, new = load_manifest(path), load_manifest(made.path)
    assert made.path == path.with_name("set-48x64.csv") and made.videos == made.encoded == 6
    kept = [video for video in first.videos if video.video not in ("a/bad.avi", "b/cut.mp4")]
    for old, video in zip(kept, new.videos, strict=True):
        assert (video.label, video.split, video.group) == (old.label, old.split, old.group)
        assert video.video == old.video.replace(".avi", ".mp4")
        found = probe(video.path)
        assert (video.frames, video.fps, video.width, video.height) == (found.frames, found.fps, 64, 48)
        assert video.frames == probe(old.path).frames
    assert new.card == replace(first.card, name="set-48x64", root="set-48x64", source=new.card.source)
    assert "set" in new.card.source and "H.264, 48×64, every frame, GOP 12, CRF 20" in new.card.source
    sizes = [sum(video.path.stat().st_size for video in videos) for videos in (kept, new.videos)]
    assert [made.bytes_before, made.bytes_after] == sizes
    before = made.path.read_bytes()
    shutil.copy(made.path, path.with_name("other.csv"))
    shutil.copy(made.path.with_suffix(".json"), path.with_name("other.json"))
    verify_videos(path.with_name("other.csv"))
    assert path.with_name("other.csv").read_bytes() == before


@given(st.integers(-9, 9), st.lists(st.integers(1, 9), min_size=1, max_size=9), st.integers(1, 60))
def test_frame_k_is_the_one_shown_k_intervals_after_the_first(start, waits, fps):
    """In tenths of a second; a clock may start anywhere."""
    times = [Fraction(start + sum(waits[:number]), 10) for number in range(len(waits) + 1)]
    shown = [*zip(times, [*range(len(waits)), None], strict=True)]
    found = list(transcode._resample(iter(shown), Fraction(fps)))
    count = math.ceil((times[-1] - times[0]) * fps)
    at = [times[0] + Fraction(k, fps) for k in range(count)]
    assert found == [(k, 1, max(n for n, time in enumerate(times) if time <= when)) for k, when in enumerate(at)]
    ticks = [round((time - times[0]) * 90_000) for time in times]
    every = [(begin, end - begin, n) for n, (begin, end) in enumerate(pairwise(ticks))]
    assert list(transcode._resample(iter(shown), None)) == every


def test_bad_videos_are_quarantined_with_the_reason(path):
    made = prepare(path, options=SMALL)
    assert set(made.bad) == {"a/bad.avi", "b/cut.mp4"}
    assert "damaged or not a video" in made.bad["a/bad.avi"] and "cut off" in made.bad["b/cut.mp4"]
    lines = (path.parent / "set-48x64.quarantine.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["a/bad.avi", "b/cut.mp4"]
    assert "a/bad.avi" in str(made)
    write_video(path.parent / "videos" / "a" / "bad.avi", numbered(9), "mpeg4")  # fetched again
    again = prepare(path, options=SMALL)
    assert (again.encoded, again.videos, set(again.bad)) == (1, 7, {"b/cut.mp4"})


def test_clock_jumps_are_named_at_each_call(path):
    """And the video has the frames that it shows, not those of the gaps; after the second each is shown for two."""
    times = [*range(20), *range(1_000, 1_010), *range(3_000, 3_020, 2)]
    write_video(path.parent / "videos" / "a" / "0.avi", numbered(40), times=times, format="mpegts", bf="0")
    for _ in range(2):
        made = prepare(path, options=replace(SMALL, fps=Fraction(25)))
        assert made.notes == {"a/0.avi": "its clock jumps at frame 20, 30, where time goes on at the mean rate"}
        assert "kept, but odd (1):\n  a/0.avi: its clock jumps at frame 20, 30" in str(made)
    assert made.encoded == 0 and load_manifest(made.path).videos[0].frames == 30 + 2 * 9 + 1
    frames_out_of_order = write_video(path.with_name("b.ts"), numbered(40), format="mpegts", bf="2")
    assert not probe(frames_out_of_order).notes


@pytest.mark.parametrize("workers", [0, 2])
def test_stopped_in_the_middle_it_goes_on(path, monkeypatch, workers):
    coded = []
    if not workers:

        def stops(encoder, source, tag, encode=EncodeOptions.encode):
            coded.append(source)
            if len(coded) == 3:
                raise KeyboardInterrupt
            return encode(encoder, source, tag)

        monkeypatch.setattr(EncodeOptions, "encode", stops)
        with pytest.raises(KeyboardInterrupt):
            prepare(path, options=SMALL, workers=0)
        monkeypatch.undo()
        left = sorted((path.parent / "set-48x64").rglob("*.*"))
        assert len(left) == 2 and not path.with_name("set-48x64.csv").exists(), "the third was stopped"
        assert [probe(file).frames for file in left] == [20, 22]
    made = prepare(path, options=SMALL, workers=workers)
    assert made.encoded == (6 if workers else 4)
    times = {file: file.stat().st_mtime_ns for file in (path.parent / "set-48x64").rglob("*.mp4")}
    assert prepare(path, options=SMALL, workers=workers).encoded == 0
    assert {file: file.stat().st_mtime_ns for file in times} == times


def test_another_coding_or_source_is_done_anew(tmp_path):
    source, target = write_video(tmp_path / "a.mp4", blocks(9)), tmp_path / "out" / "a.mp4"
    assert [code(source, target)[-1] for _ in range(2)] == [True, False]
    assert code(source, target, replace(SMALL, crf=30))[-1]
    write_video(source, blocks(12))
    found, _, made = code(source, target, replace(SMALL, crf=30))
    assert made and found["frames"] == 12
    target.write_bytes(target.read_bytes()[:500])  # as no call of ours leaves it
    assert code(source, target, replace(SMALL, crf=30))[-1]


@pytest.mark.parametrize(("height", "width", "rotation"), [(48, 64, 0), (240, 320, 0), (33, 47, 0), (60, 40, 90)])
def test_pictures_are_those_of_a_reader_of_the_first_file(tmp_path, height, width, rotation):
    y, x, t = np.mgrid[0:height, 0:width, 0:14].transpose(0, 3, 1, 2)
    smooth = np.stack([128 + 100 * np.sin(x / width * 6 + t / 5), 255 * y / height, 90 + 6 * t + 0 * x], -1)
    codec, pix_fmt = ("libx264", "yuv420p") if rotation else ("ffv1", "yuv444p")
    source = tmp_path / f"a.{'mp4' if rotation else 'mkv'}"
    write_video(source, smooth.astype(np.uint8), codec, pix_fmt=pix_fmt, rotation=rotation)
    assert code(source, tmp_path / "b.mp4")[0] == {"frames": 14, "fps": 25.0, "width": 64, "height": 48}
    assert psnr(read_all(tmp_path / "b.mp4", None), read_all(source, (48, 64))) > 36


def test_coding_is_as_was_asked(tmp_path):
    source = write_video(tmp_path / "a.mp4", blocks(30), bf="2")
    code(source, tmp_path / "b.mp4", replace(SMALL, gop=5))
    with av.open(tmp_path / "b.mp4") as container:
        kinds = [PictureType(frame.pict_type).name for frame in container.decode(video=0)]
        keys = [place for place, entry in enumerate(container.streams.video[0].index_entries) if entry.is_keyframe]
    assert set(kinds) == {"I", "P"} and len(kinds) == 30
    assert keys[0] == 0 and max(np.diff([*keys, 30])) <= 5, "a cut begins a new group before"
    np.testing.assert_array_equal(
        read_frames(tmp_path / "b.mp4", [13, 7], None), read_all(tmp_path / "b.mp4", None)[[13, 7]]
    )


def shown(times, fps):
    """Brute force: the number of the frame that stands at each k/fps seconds, the last one a 25th of a second."""
    seconds = [Fraction(time, 25) for time in times] + [Fraction(times[-1] + 1, 25)]
    picked, k = [], 0
    while Fraction(k) / fps < seconds[-1] - seconds[0]:
        picked.append(max(n for n in range(len(times)) if seconds[n] - seconds[0] <= Fraction(k) / fps))
        k += 1
    return picked


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=30),
    st.sampled_from([Fraction(15), Fraction(25), Fraction(5), Fraction(50), Fraction(30000, 1001)]),
)
def test_frames_are_picked_by_their_times(tmp_path_factory, gaps, fps):
    folder = tmp_path_factory.mktemp("rate")
    times = np.cumsum([0, *gaps]).tolist()
    source = write_video(folder / "a.mkv", numbered(len(times)), "ffv1", times=times, pix_fmt="yuv444p")
    found, *_ = code(source, folder / "b.mp4", replace(SMALL, fps=fps))
    # Matroska rounds times to the millisecond: a frame due within one may be its neighbour.
    frames, expected = numbers(read_all(folder / "b.mp4", None)), shown(times, fps)
    assert abs(len(frames) - len(expected)) <= 1 and found["frames"] == len(frames)
    assert all(abs(one - other) <= 1 for one, other in zip(frames, expected, strict=False))
    assert found["fps"] == pytest.approx(float(fps), abs=0.001) == pytest.approx(probe(folder / "b.mp4").fps, abs=0.001)


def test_even_rates_pick_exactly(tmp_path):
    source = write_video(tmp_path / "a.mp4", numbered(30))
    for fps, picked in {15: [0, 1, 3, 5, 6, 8, 10, 11, 13], 25: range(9), 50: [n // 2 for n in range(9)]}.items():
        code(source, tmp_path / "b.mp4", replace(SMALL, fps=Fraction(fps)))
        frames = numbers(read_all(tmp_path / "b.mp4", None))
        assert frames[:9] == list(picked) and len(frames) == 30 * fps // 25


def test_uneven_times_are_kept_with_every_frame(tmp_path):
    times = [0, 1, 2, 9, 10, 11, 30, 31, 32, 33, 60, 61]
    source = write_video(tmp_path / "a.mp4", numbered(12), times=times)
    assert code(source, tmp_path / "b.mp4")[0]["fps"] == round(12 / (62 / 25), 3)
    assert numbers(read_all(tmp_path / "b.mp4", None)) == list(range(12))
    with av.open(tmp_path / "b.mp4") as container:
        kept = [float(frame.time) for frame in container.decode(video=0)]
    np.testing.assert_allclose(np.subtract(kept, kept[0]), np.array(times) / 25, atol=1e-4)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_text(path.read_text().replace("a/0.avi", "../0.avi")), "'../0.avi' lies outside"),
        (lambda path: path.write_text(path.read_text().replace("group 5", "group 1")), "accuracy would be too high"),
        (lambda path: [file.unlink() for file in path.parent.rglob("b/*.*")], "no training video of class 'b'"),
    ],
)
def test_what_cannot_be_is_refused(path, spoil, said):
    spoil(path)
    with pytest.raises(R21DError, match=said):
        prepare(path, options=SMALL)
    assert not path.with_name("set-48x64.csv").exists()


def test_disk_too_small_is_told_beforehand(path, monkeypatch):
    monkeypatch.setattr(module, "COST_SAMPLE", 2)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: SimpleNamespace(free=9))
    with pytest.raises(R21DError, match="MB free and needs about"):
        prepare(path, options=SMALL)


@pytest.mark.parametrize("wrong", [{"width": 171}, {"height": 0}, {"gop": 0}, {"crf": 60}, {"fps": Fraction(0)}])
def test_impossible_codings_are_refused(wrong):
    with pytest.raises(R21DError, match="expected"):
        EncodeOptions(**wrong)


def test_command_says_what_it_wrote_and_refuses_odd_widths(path, capsys):
    assert main(["prepare", str(path), "--height", "48", "--width", "64", "--fps", "12.5", "--workers", "0"]) == 0
    said = capsys.readouterr().out
    assert "set-48x64-12.5fps.csv: 6 videos" in said and "MB before" in said
    assert "--set frame_height=48 --set frame_width=64 skips" in said
    assert json.loads(path.with_name("set-48x64-12.5fps.json").read_text())["frame_rate"] == "12.5 fps"
    assert main(["prepare", str(path), "--width", "171"]) == 1
    assert "even number" in capsys.readouterr().err


@pytest.mark.parametrize("fps", ["14.985014985014985", "15000/1001"])
def test_command_takes_frame_rates_of_many_digits(path, fps, capsys):
    assert main(["prepare", str(path), "--fps", fps, "--workers", "0"]) == 0
    (video, *_) = load_manifest(path.with_name("set-128x172-14.985fps.csv")).videos
    with av.open(video.path) as container:
        assert container.streams.video[0].average_rate == Fraction(15000, 1001)


@pytest.mark.parametrize("rate", [10, 240])
def test_last_frame_lasts_as_long_as_before(tmp_path, rate):
    write_video(tmp_path / "a.mp4", numbered(10), rate=rate)
    columns, _, _ = code(tmp_path / "a.mp4", tmp_path / "b.mp4")
    assert (columns["frames"], columns["fps"]) == (10, rate)
    seconds = [[time for time, _ in iter_timed_frames(tmp_path / name, (48, 64))] for name in ("a.mp4", "b.mp4")]
    assert seconds[0] == seconds[1] and seconds[1][-1] == Fraction(10, rate)


@pytest.mark.parametrize("names", [("a.avi", "a.mkv", "a.avi.webm"), ("a.avi", "a.avi.webm"), ("a", "a.avi")])
def test_each_video_has_a_file_of_its_own(tmp_path, names):
    rows = [Video(name, tmp_path, "a", "train", name) for name in names]
    write_manifest(tmp_path / "set.csv", DatasetCard("set", ("a",)), rows)
    jobs = module.encode_jobs(load_manifest(tmp_path / "set.csv"), tmp_path / "out", SMALL)
    assert len({job.target for job in jobs}) == len(names)


def test_names_stay_apart_and_short_enough(tmp_path):
    long = "長い題名" * 20
    names = ["a/1.mp4", "a/1.avi", "a/2.v1.mp4", f"{long}a.mp4", f"{long}b.mp4"]
    for name in names:
        write_video(tmp_path / name, numbered(9), "mpeg4")
    rows = [Video(name, tmp_path, "a", "train", name) for name in names]
    write_manifest(tmp_path / "set.csv", DatasetCard("set", ("a",)), rows)
    made = prepare(tmp_path / "set.csv", tmp_path / "out", SMALL)
    videos = load_manifest(made.path).videos
    assert made.path.parent == tmp_path / "out" and all(video.path.is_file() for video in videos)
    assert [video.video for video in videos[:3]] == ["a/1.avi.mp4", "a/1.mp4.mp4", "a/2.v1.mp4"]
    assert (
        len({video.video for video in videos}) == 5
        and prepare(tmp_path / "set.csv", tmp_path / "out", SMALL).encoded == 0
    )
