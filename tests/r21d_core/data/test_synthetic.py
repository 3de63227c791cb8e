"""The built-in videos are drawn alike everywhere, and tell what a network can see."""

import errno
import threading
from dataclasses import replace

import numpy as np
import pytest

from r21d_core import R21DError
from r21d_core.data import synthetic
from r21d_core.data.decode import read_all
from r21d_core.data.manifest import check_no_leaks, load_manifest
from r21d_core.data.sampling import evaluation_clips
from r21d_core.data.synthetic import CLASSES, FAMILIES, FRAMES, REVERSED, SCENES, make_builtin, make_example, render
from r21d_core.data.verify import verify_videos
from r21d_core.engine.train import train
from r21d_core.runs.metrics import family_correct
from r21d_core.study.experiments import variant_comparison
from r21d_core.study.recipes import RECIPES


@pytest.fixture(scope="module")
def builtin(tmp_path_factory):
    """The manifest of fewer test scenes than a person gets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "SCENES", {"train": 40, "test": 10})
        return make_builtin(tmp_path_factory.mktemp("builtin"))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Of all scenes, without their files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "_write_videos", lambda videos, title: None)
        return load_manifest(make_builtin(tmp_path_factory.mktemp("whole")))


def test_every_class_is_filmed_once_in_every_scene(manifest, builtin):
    assert manifest.card.classes == CLASSES and len(manifest.videos) == len(CLASSES) * sum(SCENES.values())
    check_no_leaks(manifest)
    for split, count in SCENES.items():
        groups = {video.group for video in manifest.split(split)}
        assert len(groups) == count and len(manifest.split(split)) == count * len(CLASSES)
    rendered = load_manifest(builtin).videos
    assert [*builtin.parent.rglob("*.mp4")] and {*builtin.parent.rglob("*.mp4")} == {video.path for video in rendered}
    size = sum(path.stat().st_size for path in builtin.parent.rglob("*") if path.is_file())
    assert size < 20e6 / len(manifest.videos) * len(rendered)


def test_videos_are_sound_and_the_manifest_knows_them(builtin):
    rendered = load_manifest(builtin)
    report = verify_videos(builtin, workers=0)
    assert not report.bad and not report.notes and not report.duplicates
    assert load_manifest(builtin) == rendered, "the verify_videos found what was written, to the frame"


def test_same_pictures_every_time_and_others_in_another_scene():
    assert np.array_equal(render("star", 3), render("star", 3))
    assert not np.array_equal(render("star", 3), render("star", 4))
    assert render("star", 3).shape == (FRAMES, 64, 86, 3)


def test_made_once_and_whole_also_by_two_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("r21d_core.data.synthetic.SCENES", {"train": 2, "test": 1})
    found = []
    both = [threading.Thread(target=lambda: found.append(make_builtin(tmp_path))) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert found[0] == found[1] and len(load_manifest(found[0]).videos) == 30
    assert [path.name for path in tmp_path.iterdir()] == [found[0].parent.name], "no draft is left"
    before = found[0].stat().st_mtime_ns
    assert make_builtin(tmp_path).stat().st_mtime_ns == before


@pytest.mark.parametrize("size", [None, (36, 48)])
def test_reversed_pairs_hold_the_same_frames_to_the_last_bit(builtin, size):
    for backward, forward in REVERSED.items():
        for scene in (0, 41):
            one, other = (
                read_all(builtin.parent / "videos" / label / f"s{scene:02d}.mp4", size) for label in (backward, forward)
            )
            assert np.array_equal(one, other[::-1]) and not np.array_equal(one, other)


def test_folder_that_lacks_the_manifest_is_named(tmp_path):
    (tmp_path / "builtin-2" / "videos").mkdir(parents=True)
    with pytest.raises(R21DError, match=r"builtin\.csv: missing from a folder .*; delete .*builtin-2$"):
        make_builtin(tmp_path)


def test_full_disk_leaves_nothing_and_is_told(tmp_path, monkeypatch):
    def no_space(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(synthetic, "_write_videos", no_space)
    with pytest.raises(R21DError, match=r"builtin-\d.*No space left.*run the same command again"):
        make_builtin(tmp_path / "data")
    assert not [*(tmp_path / "data").iterdir()]
    monkeypatch.setattr(synthetic.tempfile, "mkdtemp", no_space)
    with pytest.raises(R21DError, match="No space left"):
        make_example(tmp_path / "data")
    (tmp_path / "file").touch()
    with pytest.raises(R21DError, match="file: no folder can be made here"):
        make_builtin(tmp_path / "file")


def test_evaluation_clips_of_reversed_pairs_are_reversed(manifest):
    """So that a network blind to order is right in exactly half of them."""
    videos = manifest.split("test")
    clips = evaluation_clips(RECIPES["demo"], RECIPES["demo"].eval_clips, videos, CLASSES)
    row = {video.video: number for number, video in enumerate(videos)}
    for backward, forward in REVERSED.items():
        one, other = (clips.frames[clips.video == row[f"{label}/s50.mp4"]] for label in (backward, forward))
        reversed_clips = {tuple(frames) for frames in (FRAMES - 1 - other)[:, ::-1].tolist()}
        assert {tuple(frames) for frames in one.tolist()} == reversed_clips


@pytest.mark.parametrize(("profile", "right"), [("demo", 20), ("small", 31)])
def test_height_tells_rise_where_clips_start_unevenly(manifest, profile, right):
    """As the notebook `temporal_probe` says: by the mean of one number of each frame, whatever their order.

    Ten clips of 8 of 20 frames start 0.6 frames earlier than in the reversed video, seen from its end.
    """
    recipe = RECIPES[profile].replace(frames=8, frame_stride=1)
    videos = [video for video in manifest.split("test") if video.label in FAMILIES["rise or fall"]]
    clips = evaluation_clips(recipe, recipe.eval_clips, tuple(videos), CLASSES)
    correct = 0
    for row, video in enumerate(videos):
        scene = int(video.video.rpartition("/s")[2].removesuffix(".mp4"))
        height = synthetic._path("rise", np.random.default_rng([0, scene, CLASSES.index("rise")]))[:, 1]
        height = height[::-1] if video.label == "fall" else height
        low = height[clips.frames[clips.video == row]].mean() > synthetic.RANGES[1].mean()
        correct += low == (video.label == "rise")
    assert len(videos) == 40 and correct == right


@pytest.mark.slow
def test_order_is_told_by_r2plus1d_and_not_by_frames_one_by_one(builtin, tmp_path):
    right, ordered, manifest = {}, ("rise or fall", "approach or recede"), load_manifest(builtin)
    # Less than in the demonstration, of the classes that are asked about; it suffices.
    for variant, names, epochs, decay in (("f-R2D", ("appearance", *ordered), 8, 5), ("R(2+1)D", ordered, 5, 3)):
        families = {name: FAMILIES[name] for name in names}
        classes = sum(families.values(), ())
        some = replace(
            manifest, card=replace(manifest.card, classes=classes, families=families),
            videos=tuple(video for video in manifest.videos if video.label in classes),
        )  # fmt: skip
        settings = {"epochs": epochs, "lr_decay_epochs": decay, "clips_per_epoch": 40 * len(classes), "eval_clips": 2}
        (spec,) = variant_comparison("demo", variants=(variant,), **settings)
        right[variant] = family_correct(train(spec, some, tmp_path, device="cpu").scores)
    for family in ordered:
        assert len(FAMILIES[family]) == 2
        assert right["f-R2D"][family].mean() == 0.5, "chance, and exactly so, as it answers both of a pair alike"
        assert right["R(2+1)D"][family].mean() > 0.8
    assert right["f-R2D"]["appearance"].mean() > 0.8, "it did learn what frames show"
