"""A folder becomes a manifest whose sides share no recording."""

from collections import Counter

import pytest

from r21d_core import R21DError
from r21d_core.cli import main
from r21d_core.data.folder import from_folder, recording_names
from r21d_core.data.manifest import load_manifest
from tests.listings import checked, sides, touch, ucf


def test_groups_of_a_class_stay_together(tmp_path):
    listing = from_folder(touch(tmp_path / "My Videos", *ucf("A", "B", groups=8, clips=3)))
    manifest = checked(tmp_path, listing)
    assert listing.card.name == "my-videos" and listing.card.classes == ("A", "B")
    assert listing.card.expected == {"train": 36, "test": 12}
    assert manifest.videos[0].video == "A/v_A_g01_c01.avi"
    assert {video.group for video in listing.videos} == {f"{label}_g0{n}" for label in "AB" for n in range(1, 9)}
    assert Counter((video.label, video.split) for video in listing.videos)["A", "test"] == 6


def test_videos_without_groups_are_divided_one_by_one(tmp_path):
    root = touch(tmp_path / "set", *(f"{label}/{number}.mp4" for label in "ab" for number in range(20)))
    listing = from_folder(root, test_fraction=0.4)
    checked(tmp_path, listing)
    assert listing.card.expected == {"train": 24, "test": 16}
    assert {video.group for video in listing.videos} == {video.video.removesuffix(".mp4") for video in listing.videos}


def test_seed_and_nothing_else_decides(tmp_path):
    names = [f"a/{number}.mp4" for number in range(20)]
    one = sides(from_folder(touch(tmp_path / "one", *names)))
    assert sides(from_folder(touch(tmp_path / "two", *reversed(names)))) == one
    assert sides(from_folder(tmp_path / "one", seed=1)) != one
    with_more = sides(from_folder(touch(tmp_path / "two", "b/1.mp4", "b/2.mp4")))
    assert one.items() <= with_more.items(), "another class changes nothing for this one"


@pytest.mark.parametrize("share", [0.25, 0.99])
def test_every_class_keeps_something_to_train_on(tmp_path, share):
    names = [*ucf("one_group", groups=1, clips=5), "one/1.mp4", "two/1.mp4", "two/2.mp4", *ucf("many", groups=9)]
    listing = from_folder(touch(tmp_path / "set", *names), test_fraction=share)
    checked(tmp_path, listing)
    assert {video.label for video in listing.videos if video.split == "train"} == set(listing.card.classes)
    assert sum(video.split == "test" for video in listing.videos if video.label == "two") == 1, "as near as none"


@pytest.mark.parametrize("share", [0.01, 0.25])
def test_every_class_of_two_recordings_is_tested(tmp_path, share):
    """On the smallest one, if each is more than the share."""
    sizes = {"two": (1, 1), "long": (7, 2, 8), "equal": (4, 4), "one": (5,)}
    names = [
        f"{label}/v_{label}_g{group:02d}_c{clip:02d}.avi"
        for label, clips in sizes.items()
        for group, count in enumerate(clips)
        for clip in range(count)
    ]
    listing = from_folder(touch(tmp_path / "set", *names), test_fraction=share)
    checked(tmp_path, listing)
    tested = Counter(video.label for video in listing.videos if video.split == "test")
    assert tested == {"two": 1, "long": 2, "equal": 4}
    assert len({video.group for video in listing.videos if video.split == "test"}) == 3
    assert listing.notes == ("without a test video, as they have one recording: 1 (one)",)


def test_given_sides_are_kept(tmp_path):
    root = touch(tmp_path / "set", "train/a/1.mp4", "train/b/v_b_g01_c01.mp4", "val/a/1.mp4", "test/b/v_b_g02_c01.mp4")
    listing = from_folder(root)
    checked(tmp_path, listing)
    assert listing.card.classes == ("a", "b") and listing.card.expected == {"train": 2, "val": 1, "test": 1}
    assert {video.video: video.group for video in listing.videos} == {
        "train/a/1.mp4": "train/a/1",
        "val/a/1.mp4": "val/a/1",
        "train/b/v_b_g01_c01.mp4": "b_g01",
        "test/b/v_b_g02_c01.mp4": "b_g02",
    }


def test_classes_named_as_sides_are_classes(tmp_path):
    listing = from_folder(touch(tmp_path / "set", "train/1.mp4", "plane/1.mp4"))
    assert listing.card.classes == ("plane", "train")


def test_odd_names_survive(tmp_path):
    listing = from_folder(touch(tmp_path / "Ünser “Set”, v.2", 'a, "b"/ü 体.mp4'))
    assert listing.card.name == "ünser-set-v-2"
    assert checked(tmp_path, listing).videos[0].video == 'a, "b"/ü 体.mp4'


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("gone", [], "gone: no such folder"),
        ("set/a.txt", ["a.txt"], "a.txt: not a folder"),
        ("set", ["a/readme.txt"], "set: no videos; expected set/CLASS/VIDEO"),
        ("set", ["a/1.mp4", "train/b/1.mp4"], "'a'.*'train'.*keep one"),
        ("set", ["1.mp4", "2.mp4"], "set: 2 videos in no class folder; expected set/CLASS/VIDEO"),
        ("set", ["train/a/1.mp4"], "has train and no test split"),
    ],
)
def test_folder_without_one_clear_layout_is_an_error(tmp_path, name, files, message):
    touch(tmp_path / "set", *files)
    with pytest.raises(R21DError, match=message):
        from_folder(tmp_path / name)


@pytest.mark.parametrize("share", [-0.1, 0, 1, 25, float("nan")])
def test_share_outside_is_told(tmp_path, share):
    with pytest.raises(R21DError, match=f"test_fraction is {share}, expected a share of the videos above 0 and"):
        from_folder(touch(tmp_path / "set", "a/1.mp4"), test_fraction=share)


def test_any_extension_and_depth_of_a_class_is_taken(tmp_path):
    names = ["a/1.mp4", "a/2.MTS", "a/3.m2ts", "a/4.gif", "run/run/1.mp4", "run/more/2.M2TS"]
    listing = from_folder(touch(tmp_path / "set", *names))
    assert listing.card.classes == ("a", "run") and sorted(sides(listing)) == sorted(names) and not listing.notes
    checked(tmp_path, listing)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val"])
def test_validation_without_test_is_the_test_split(tmp_path, name):
    listing = from_folder(touch(tmp_path / "set", "train/a/1.mp4", f"{name}/a/2.mp4"))
    assert listing.card.expected == {"train": 1, "test": 1} and "val is used as the test split" in listing.notes[0]


def test_splits_are_known_by_their_usual_names(tmp_path):
    listing = from_folder(touch(tmp_path / "set", "Train/a/1.mp4", "valid/a/2.mp4", "Test/a/3.mp4"))
    assert sides(listing) == {"Train/a/1.mp4": "train", "valid/a/2.mp4": "val", "Test/a/3.mp4": "test"}
    with pytest.raises(R21DError, match=r"two folders stand for one split \(Val, valid\)"):
        from_folder(touch(tmp_path / "set", "Val/a/4.mp4"))


def test_what_is_skipped_is_counted_and_named(tmp_path):
    names = ["a/1.MP4", "a/1.txt", "a/deep/2.txt", "b/pictures/1.jpg", "0.mp4", "list.csv", ".cache/1.mp4"]
    names += ["a/._1.mp4", "a/..dots..mp4.mov", "a/.hidden.txt", "a/.mp4"]
    root = touch(tmp_path / "set", *names)
    (root / "a" / "folder.mp4").mkdir()
    listing = from_folder(root)
    assert listing.card.classes == ("a",) and list(sides(listing)) == ["a/1.MP4"]
    assert listing.notes == (
        "class folders without a video in set: 1 (b)",
        "skipped, as they are in no class folder: 1 (0.mp4)",
        "skipped, as they are no video files: 2 .txt, 1 .jpg (a/1.txt, a/deep/2.txt, b/pictures/1.jpg)",
        "skipped, as they are hidden, their names begin with a dot: 2 (a/..dots..mp4.mov, a/._1.mp4)",
        "without a test video, as they have one recording: 1 (a)",
    )
    with pytest.raises(R21DError, match=r"no videos, 1 hidden \(a/\.1\.mp4\); expected"):
        from_folder(touch(tmp_path / "none", "a/.1.mp4"))


def test_manifest_of_the_same_name_is_not_overwritten(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    one, two = touch(tmp_path / "1" / "videos", "a/1.mp4"), touch(tmp_path / "2" / "videos", "a/1.mp4")
    path = tmp_path / "data" / "videos.csv"
    assert main(["manifest", "folder", str(one)]) == main(["manifest", "folder", str(one)]) == 0
    before = path.read_text(), path.with_suffix(".json").read_text()
    assert main(["manifest", "folder", str(two)]) == 1
    assert f"data/videos.csv: exists, and lists the videos of {one}; delete it" in capsys.readouterr().err
    touch(one, "a/2.mp4")
    assert main(["manifest", "folder", str(one)]) == 1
    assert "has been checked or edited, or other videos were there" in capsys.readouterr().err
    assert (path.read_text(), path.with_suffix(".json").read_text()) == before
    path.unlink()
    path.with_suffix(".quarantine.csv").write_text("video,label,split,group,reason\n")
    assert main(["manifest", "folder", str(two)]) == 1
    assert "holds the bad videos of another manifest" in capsys.readouterr().err
    assert main(["manifest", "folder", str(two), "--out", "x/a.csv"]) == 0
    assert load_manifest("x/a.csv").card.name == "a"


def test_file_beside_a_manifest_is_not_overwritten(tmp_path, monkeypatch, capsys):
    """NAME.json, which the card would replace, may be anything; a card that lost its rows may be replaced."""
    monkeypatch.chdir(tmp_path)
    root, package = touch(tmp_path / "videos", "a/1.mp4"), tmp_path / "package.json"
    package.write_text('{"name": "mine", "version": 1}')
    assert main(["manifest", "folder", str(root), "--out", "package.csv"]) == 1
    assert "package.json: exists and is no card of a manifest (" in capsys.readouterr().err
    assert package.read_text() == '{"name": "mine", "version": 1}' and not package.with_suffix(".csv").exists()
    for _ in range(2):
        assert main(["manifest", "folder", str(root), "--out", "a.csv"]) == 0
        (tmp_path / "a.csv").unlink()


def test_recordings_are_known_by_the_names_of_their_files(tmp_path):
    root = touch(tmp_path / "set", "train/a/1.mp4", "train/b/deep/v_g02_c1.mp4", "test/a/2.mp4", "test/b/v_g03_c1.mp4")
    groups = {video.video: video.group for video in from_folder(root).videos}
    for video, group in groups.items():
        assert {group} == recording_names(root / video) & set(groups.values())
