"""Videos play, own ones are classified by the given weights; their files, names and errors do no harm."""

import asyncio
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from r21d_analysis.explorer import classify_widget
from r21d_analysis.explorer.classify_widget import ClassifyWidget
from r21d_analysis.explorer.media import PREVIEW_HEIGHT, find_tile, preview_video, thumbnails_html, video_html
from r21d_analysis.explorer.widget import Explorer
from r21d_core import R21DError
from r21d_core.data.decode import iter_timed_frames, read_all
from r21d_core.data.encode import encode_h264
from r21d_core.data.manifest import load_manifest
from r21d_core.engine.classify import Predictor
from r21d_core.study.experiments import variant_comparison
from tests.r21d_analysis.explorer.test_predictions import ODD
from tests.r21d_analysis.explorer.test_widget import select_item, text_of, write_run
from tests.r21d_core.models.test_load import small


@pytest.fixture
def own(tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(small("R3D", num_classes=7).state_dict(), tmp_path / "r3d.pth")
    widget = ClassifyWidget([])
    widget.weights.value, widget.clips.value = str(tmp_path / "r3d.pth"), 3
    return widget


def test_folder_is_classified_and_errors_listed(own, tiny_manifest, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("r21d_analysis.explorer.classify_widget.figure_html", lambda *a: figures.append(a[0]) or a[1])
    root = tmp_path / "mine"
    (root / "deep").mkdir(parents=True)
    good = sorted(Path(tiny_manifest.parent, "videos", "dark").glob("*.mp4"))[-1].read_bytes()
    (root / "deep" / f"{ODD[1]} <b>é.mp4").write_bytes(good)
    for name in ("a.mp4", "deep/a.mp4"):
        (root / name).write_bytes(good)
    (root / "broken.mp4").write_bytes(good[:300])
    own.path.value = str(root)
    asyncio.run(own.classify())
    assert own.videos.df["video"].tolist() == ["a.mp4", "deep/a.mp4", f"deep/{ODD[1]} <b>é.mp4"]
    assert "broken.mp4" in text_of(own.errors) and own.errors.value.count("<p") == 1
    own.videos.selected_rows = [2]
    answer, axes = own.results[2][1], figures[-1].axes[0]
    np.testing.assert_allclose(np.transpose([one.get_ydata() for one in axes.lines]), 100 * answer.clip_probs)
    np.testing.assert_allclose(axes.lines[0].get_xdata(), answer.center_frames / answer.fps)
    assert "<b>é" not in own.player.value and "&lt;b&gt;é" in own.player.value
    own.path.value = str(root / "deep" / "a.mp4")
    asyncio.run(own.classify())
    (label, probability), *_ = own.results[0][1].top
    assert own.videos.df.to_numpy().tolist() == [["a.mp4", label, round(100 * probability, 1)]]


@pytest.mark.parametrize("by", ["button", "its cell"])
def test_classification_takes_no_second_click_and_stops(own, tiny_manifest, monkeypatch, by):
    """It is stopped while the first video is computed, which is the only one shown.

    Other explorers, of other cells and of its own run of its cell, do not stop it.
    """
    own.cell, own.cell_run = "a", "1"

    def stop():
        for made in (("b", "2"), ("a", "1"), ("", "3"), *[("a", "4")] * (by == "its cell")):
            assert not own.stop.disabled
            monkeypatch.setattr(classify_widget, "running_cell", lambda made=made: made)
            ClassifyWidget([])
        if by == "button":
            own.stop.click()

    n_started, iter_predictions = [], Predictor.iter_predictions

    def iter_and_stop(*args, **options):
        n_started.append(1)
        for prediction in iter_predictions(*args, **options):
            own.task.get_loop().call_soon_threadsafe(stop)
            for _ in range(1000):
                time.sleep(0.01 * (not own.stop.disabled))
            yield prediction

    async def click():
        own.start.click()
        own.start.click()
        assert own.start.disabled
        await own.task

    monkeypatch.setattr(Predictor, "iter_predictions", iter_and_stop)
    own.path.value = str(tiny_manifest.parent / "videos")
    asyncio.run(click())
    assert len(n_started) == len(own.results) == len(own.videos.df) == 1
    assert "stopped after 1 of 12 videos" in text_of(own.errors) and own.videos.selected_rows == [0]
    assert (own.start.disabled, own.stop.disabled) == (False, True) and not ClassifyWidget.running


@pytest.mark.parametrize("error", [R21DError, MemoryError])
def test_error_that_ends_the_loop_joins_the_others(own, tiny_manifest, monkeypatch, error):
    def iter_predictions(*_, **options):
        yield R21DError("a.mp4: broken")
        raise error("a worker process died")

    monkeypatch.setattr(Predictor, "iter_predictions", iter_predictions)
    own.path.value = str(tiny_manifest.parent / "videos")
    asyncio.run(own.classify())
    assert "a.mp4: broken" in (said := text_of(own.errors)) and "a worker process died" in said
    assert ("Traceback" in said) == (error is MemoryError) and not own.start.disabled and own.stop.disabled


def test_uploads_stay_in_their_folder(own, tiny_manifest):
    good = next(Path(tiny_manifest.parent, "videos", "dark").glob("*.mp4")).read_bytes()
    names = ["../../../evil.mp4", "..\\also.mp4", "..", "same.mp4", "same.mp4"]
    file = {"type": "video/mp4", "size": len(good), "content": memoryview(good), "last_modified": datetime.now()}
    own.upload.value = tuple({"name": name, **file} for name in names)
    paths = own.input_paths()
    root = Path(own._uploads.name).resolve()
    assert all(root in path.resolve().parents and path.read_bytes() == good for path in paths) and len(set(paths)) == 5
    own.upload.value = ()
    own.path.value = "there"
    assert own.input_paths() == [Path("there")] and not root.exists()
    assert [path.name for path in paths] == ["evil.mp4", "also.mp4", "video", "same.mp4", "same.mp4"]


@pytest.mark.parametrize(("path", "weights", "says"), [
    ("", "w.pth", "no video: enter the path"), ("gone.mp4", "", "weights: none given"),
    ("empty", "w.pth", "no videos in this folder"), ("gone.mp4", "w.pth", "gone.mp4"), ("a\0b", "w.pth", ""),
])  # fmt: skip
def test_invalid_input_is_reported(own, tmp_path, path, weights, says, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    own.path.value, own.weights.value = path, weights and own.weights.value
    asyncio.run(own.classify())
    assert says in text_of(own.errors) and 'role="alert"' in own.errors.value and own.videos.df.empty


def test_previews_play_as_the_file(tmp_path, tiny_manifest):
    plain = next(Path(tiny_manifest.parent, "videos", "dark").glob("*.mp4"))
    frames = np.zeros((12, 48, 64, 3), np.uint8)
    frames[6:] = 200
    odd = tmp_path / "<odd>.avi"  # a container and a codec that no browser plays
    timed = ((number, 1, frame) for number, frame in enumerate(frames))
    odd.write_bytes(encode_h264(timed, (48, 64), {}, codec="mpeg4", rate=4))
    data, kind = preview_video(odd)
    (preview := tmp_path / "preview.mp4").write_bytes(data)
    assert (kind, read_all(preview, None).shape) == ("mp4", (12, PREVIEW_HEIGHT, 320, 3))
    times, pixels = zip(*list(iter_timed_frames(preview, (8, 8)))[:-1], strict=True)
    np.testing.assert_allclose(np.array(times, float), np.arange(12) / 4, atol=1e-3)
    assert np.array(pixels).mean(axis=(1, 2, 3)) == pytest.approx([0] * 6 + [200] * 6, abs=4)
    assert preview_video(plain) == (plain.read_bytes(), "mp4")
    assert "<odd>" not in video_html(odd) and 'aria-label="&lt;odd&gt;.avi"' in video_html(odd)
    (tmp_path / "no.mp4").write_bytes(b"no")
    assert "cannot be played" in (damaged := video_html(tmp_path / "no.mp4")) and "write its" not in damaged
    assert "write its folder as &quot;root&quot; into the manifest" in video_html(tmp_path / "missing.mp4")
    with pytest.raises(R21DError):
        preview_video(tmp_path / "no.mp4")


def test_thumbnails_are_tiles_of_a_grid(tmp_path, tiny_manifest):
    plain = next(Path(tiny_manifest.parent, "videos", "dark").glob("*.mp4"))
    grid = thumbnails_html([("one", plain, 0), ("<b>", tmp_path / "gone.mp4", 0)])
    assert grid.count("data:image/webp") == 1 and "cannot be decoded" in grid and "<b>" not in grid
    assert [find_tile(x, 120, 128 * 3 + 20) for x in (0, 127, 129, 400)] == [3, 3, 4, 5]


def test_video_has_its_times_and_plays_when_live(tiny_manifest, tmp_path):
    manifest = load_manifest(tiny_manifest)
    videos, classes = manifest.split("test"), manifest.card.classes
    on = {"classes": classes, "videos": [video.video for video in videos]}
    on["labels"] = np.array([classes.index(video.label) for video in videos])
    options = {"variants": ("R3D", "R(2+1)D"), "eval_clips": 5, "frames": 4, "frame_stride": 1}
    for number, spec in enumerate(variant_comparison("small", "tiny", **options)):
        write_run(spec, tmp_path / "runs", number, **on)
    shown = Explorer(str(tmp_path / "runs"), str(tiny_manifest.parent))
    shown.tabs.selected_index, shown.items.value = 2, "all"
    select_item(shown, 1)
    middles = [i * (videos[1].frames - 4) // 4 + 2 for i in range(5)]
    np.testing.assert_allclose(shown.views["Videos"].figure.axes[0].lines[0].get_xdata(), np.array(middles) / 25)
    assert shown.player.value == shown.thumbnails.value == "", "an executed notebook does not hold the videos"
    shown.is_live, shown.side.value = True, "B"
    assert shown.player.value.count("<video") == 1 and shown.thumbnails.value.count("<img") == len(videos)
    before = shown.row
    shown.use_thumbnails({"relativeX": 130, "relativeY": 5, "boundingRectWidth": 700})
    assert shown.row == shown.rows[1] != before


def test_records_without_their_videos_have_no_grid(tiny_manifest, tmp_path):
    (folder := tmp_path / "manifests").mkdir()
    for suffix in (".csv", ".json"):
        (folder / f"tiny{suffix}").write_bytes(tiny_manifest.with_suffix(suffix).read_bytes())
    videos = load_manifest(folder / "tiny.csv").split("test")
    write_run(variant_comparison("small", "tiny", eval_clips=5)[0], tmp_path / "runs", videos=[v.video for v in videos])
    shown = Explorer(str(tmp_path / "runs"), str(folder))
    shown.is_live = True
    shown.tabs.selected_index = 2
    assert shown.thumbnails.value == "" and "no such file" in text_of(shown.player)
    videos[-1].path.parent.mkdir(parents=True)
    videos[-1].path.write_bytes(b"no")
    shown.items.value = "A wrong"
    shown.items.value = "all"
    assert shown.thumbnails.value.count("cannot be decoded") == min(12, len(videos))
