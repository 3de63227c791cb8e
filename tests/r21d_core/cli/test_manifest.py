from pathlib import Path

from r21d_core.cli import main, manifest
from r21d_core.data.dataset_cards import load_published_dataset
from r21d_core.data.manifest import load_manifest
from tests.listings import touch, ucf


def test_several_splits_give_a_manifest_each(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "UCF-101", *ucf(*load_published_dataset("ucf101").subsets["7a"], clips=3))
    assert main(["manifest", "ucf101", "UCF-101", "--split", "1,2,3", "--subset", "7a"]) == 0
    stdout = capsys.readouterr().out
    assert stdout.count("listed 889, on disk 525, missing 364\n") == 3
    for split in (1, 2, 3):
        path = Path("data") / f"ucf101-7a-split{split}.csv"
        assert f"{path}: 525 videos of 7 classes (378 train, 147 test); next: r21d check {path}" in stdout
        test_groups = {video.group[-2:] for video in load_manifest(path).split("test")}
        assert test_groups == {f"{group:02d}" for group in range(7 * split - 6, 7 * split + 1)}


def test_one_video_of_one_class_is_in_the_singular(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "one", "a/1.mp4")
    assert main(["manifest", "folder", "one"]) == 0
    assert "one.csv: 1 video of 1 class (1 train); next" in capsys.readouterr().out


def test_row_without_a_reader_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(manifest.OFFICIAL, "mine", ("Mine", "", 0))
    assert main(["manifest", "mine", str(tmp_path)]) == 1
    assert "official_readers.py: no from_mine" in capsys.readouterr().err


def test_few_test_recordings_are_warned_of(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path / "few", *(f"{label}/{n}.mp4" for label in "abcd" for n in range(4)), "a/4.mp4")
    assert main(["manifest", "folder", "few"]) == 0
    first, line, warning = capsys.readouterr().out.splitlines()
    assert first.startswith("data/few.csv: 17 videos")
    assert line == "recordings: 13 train (3 or more of each class), 4 test (1 or more of each class)"
    assert warning.startswith("Warning: with 4 test recordings, accuracies are uncertain by tens of points")
    touch(tmp_path / "more", *ucf("a", "b", groups=20))
    assert main(["manifest", "folder", "more", "--out", "more.csv"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "recordings: 30 train (15 or more of each class), 10 test (5 or more of each class)"
    ]
