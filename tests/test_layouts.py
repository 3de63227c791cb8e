"""Folders become manifests whose sides share no recording; UCF101 comes out as its official lists have it."""

from collections import Counter
from pathlib import Path

import pytest

from r21d_core import R21DError
from r21d_core.data.layouts import from_folder, from_ucf101
from r21d_core.data.manifest import load_manifest, refuse_leaks, write_manifest

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def ucf(*labels, groups=25, clips=2, ending=".avi"):
    """The videos' names as UCF101 has them."""
    return [
        f"{label}/v_{label}_g{group:02d}_c{clip:02d}{ending}"
        for label in labels
        for group in range(1, groups + 1)
        for clip in range(1, clips + 1)
    ]


def sides(videos):
    return {video.video: video.split for video in videos}


def checked(tmp_path, card, videos):
    """The manifest of these, written and loaded."""
    path = tmp_path / "manifests" / f"{card.name}.csv"
    write_manifest(path, card, videos)
    manifest = load_manifest(path)
    refuse_leaks(manifest)
    assert [video.path for video in manifest.videos] == sorted((video.path for video in videos), key=str)
    return manifest


def test_groups_of_a_class_stay_together(tmp_path):
    card, videos = from_folder(touch(tmp_path / "My Videos", *ucf("A", "B", groups=8, clips=3)))
    manifest = checked(tmp_path, card, videos)
    assert (card.name, card.classes, card.expected) == ("my-videos", ("A", "B"), {"train": 36, "test": 12})
    assert manifest.videos[0].video == "A/v_A_g01_c01.avi"
    assert {video.group for video in videos} == {f"{label}_g{number:02d}" for label in "AB" for number in range(1, 9)}
    assert Counter((video.label, video.split) for video in videos)["A", "test"] == 6


def test_videos_without_groups_are_divided_one_by_one(tmp_path):
    root = touch(tmp_path / "set", *(f"{label}/{number}.mp4" for label in "ab" for number in range(20)))
    card, videos = from_folder(root, test_share=0.4)
    checked(tmp_path, card, videos)
    assert card.expected == {"train": 24, "test": 16}
    assert {video.group for video in videos} == {video.video.removesuffix(".mp4") for video in videos}


def test_seed_and_nothing_else_decides(tmp_path):
    names = [f"a/{number}.mp4" for number in range(20)]
    one = sides(from_folder(touch(tmp_path / "one", *names))[1])
    assert sides(from_folder(touch(tmp_path / "two", *reversed(names)))[1]) == one
    assert sides(from_folder(tmp_path / "one", seed=1)[1]) != one
    with_more = sides(from_folder(touch(tmp_path / "two", "b/1.mp4", "b/2.mp4"))[1])
    assert one.items() <= with_more.items(), "another class changes nothing for this one"


@pytest.mark.parametrize("share", [0, 0.25, 0.99])
def test_every_class_keeps_something_to_train_on(tmp_path, share):
    names = [*ucf("one_group", groups=1, clips=5), "one/1.mp4", "two/1.mp4", "two/2.mp4", *ucf("many", groups=9)]
    card, videos = from_folder(touch(tmp_path / "set", *names), test_share=share)
    checked(tmp_path, card, videos)
    assert {video.label for video in videos if video.split == "train"} == set(card.classes)
    assert share or "test" not in card.expected


def test_given_sides_are_kept(tmp_path):
    root = touch(tmp_path / "set", "train/a/1.mp4", "train/b/v_b_g01_c01.mp4", "val/a/1.mp4", "test/b/v_b_g02_c01.mp4")
    card, videos = from_folder(root)
    checked(tmp_path, card, videos)
    assert card.classes == ("a", "b") and card.expected == {"train": 2, "val": 1, "test": 1}
    assert {video.video: video.group for video in videos} == {
        "train/a/1.mp4": "train/a/1",
        "val/a/1.mp4": "val/a/1",
        "train/b/v_b_g01_c01.mp4": "b_g01",
        "test/b/v_b_g02_c01.mp4": "b_g02",
    }


def test_given_sides_that_share_a_recording_are_told(tmp_path):
    root = touch(tmp_path / "set", "train/a/v_a_g01_c01.mp4", "test/a/v_a_g01_c02.mp4")
    with pytest.raises(R21DError, match=r"group 'a_g01' is in test .* and in train"):
        checked(tmp_path, *from_folder(root))


def test_class_to_be_tested_only_is_told(tmp_path):
    card, videos = from_folder(touch(tmp_path / "set", "train/a/1.mp4", "test/a/2.mp4", "test/b/3.mp4"))
    with pytest.raises(R21DError, match="class 'b' is in test, and no video of it is in train"):
        checked(tmp_path, card, videos)


def test_classes_named_as_sides_are_classes(tmp_path):
    card, _ = from_folder(touch(tmp_path / "set", "train/1.mp4", "plane/1.mp4"))
    assert card.classes == ("plane", "train")


def test_other_files_are_passed_over(tmp_path):
    root = touch(
        tmp_path / "set", "a/1.MP4", "a/1.txt", "a/._1.mp4", ".cache/1.mp4", "list.csv", "0.mp4", "empty/x.jpg"
    )
    (root / "a" / "folder.mp4").mkdir()
    card, videos = from_folder(root)
    assert card.classes == ("a",) and list(sides(videos)) == ["a/1.MP4"]


def test_odd_names_survive(tmp_path):
    card, videos = from_folder(touch(tmp_path / "Ünser “Set”, v.2", 'a, "b"/ü 体.mp4'))
    assert card.name == "ünser-set-v-2"
    assert checked(tmp_path, card, videos).videos[0].video == 'a, "b"/ü 体.mp4'


@pytest.mark.parametrize("read", [from_folder, from_ucf101])
def test_folders_that_hold_nothing_are_told(tmp_path, read):
    with pytest.raises(R21DError, match="gone: no such folder"):
        read(tmp_path / "gone")
    with pytest.raises(R21DError, match="file: not a folder"):
        read(touch(tmp_path, "file") / "file")
    with pytest.raises(R21DError, match=r"set: (no videos|holds no video of UCF101); expected set/"):
        read(touch(tmp_path, "set/a/readme.txt") / "set")


def test_two_layouts_at_once_are_told(tmp_path):
    with pytest.raises(R21DError, match=r"'a'.*'train'.*keep one"):
        from_folder(touch(tmp_path / "set", "a/1.mp4", "train/b/1.mp4"))


@pytest.mark.parametrize("share", [-0.1, 1, 25, float("nan")])
def test_share_outside_is_told(tmp_path, share):
    with pytest.raises(R21DError, match=f"test_share is {share}"):
        from_folder(touch(tmp_path / "set", "a/1.mp4"), test_share=share)


@pytest.mark.parametrize("split", [1, 2, 3])
def test_rule_of_groups_is_that_of_the_official_lists(tmp_path, split):
    lists = DATA / "lists" / "ucf101"
    if not lists.is_dir():
        pytest.skip("the official lists are not here")
    listed = {
        line.split()[0]: side
        for side in ("train", "test")
        for line in (lists / f"{side}list0{split}.txt").read_text().splitlines()
    }
    assert len(listed) == 13320
    root = touch(tmp_path / "videos", *listed)
    card, by_rule = from_ucf101(root, split=split)
    card_by_lists, by_lists = from_ucf101(root, split=split, lists=lists)
    assert sides(by_rule) == sides(by_lists) == listed
    assert sorted(by_rule, key=str) == sorted(by_lists, key=str) and card == card_by_lists
    assert card.name == f"ucf101-split{split}" and len(card.classes) == 101
    assert card.expected == dict(Counter(listed.values()))
    checked(tmp_path, card, by_rule)


@pytest.mark.parametrize("split, counts", [(1, (1272, 499)), (2, (1274, 497)), (3, (1278, 493))])
def test_part_of_ucf101_with_its_lists_beside_it(split, counts):
    root = DATA / "ucf101-14" / "videos"
    if not root.is_dir():
        pytest.skip("the videos are not here")
    card, videos = from_ucf101(root, split=split)
    assert card.name == f"ucf101-14-split{split}" and len(card.classes) == 14
    assert card.expected == dict(zip(("train", "test"), counts, strict=True))
    assert all(video.path.is_file() for video in videos)
    assert "CRCV-TR-12-01" in card.source and card.licence == "for research"


def write_lists(folder, names, tested):
    """Lists of split 1 as they are published, with Windows line ends."""
    folder.mkdir(parents=True)
    train = "".join(f"{name} 1\r\n" for name in names if not any(part in name for part in tested))
    test = "".join(f"{name}\r\n" for name in names if any(part in name for part in tested))
    (folder / "trainlist01.txt").write_bytes(train.encode())
    (folder / "testlist01.txt").write_bytes(test.encode())
    return folder


@pytest.mark.parametrize("place", ["videos", "splits", "videos/ucfTrainTestlist", "ucfTrainTestlist"])
def test_lists_are_found_and_go_before_the_rule(tmp_path, place):
    touch(tmp_path / "videos", *ucf("B", "A", groups=4, ending=".mp4"))
    if place == "videos":
        for file in write_lists(tmp_path / "new", ucf("A", "B", "C", groups=4), ["_g04_"]).iterdir():
            file.rename(tmp_path / "videos" / file.name)
    else:
        write_lists(tmp_path / place, ucf("A", "B", "C", groups=4), ["_g04_"])
    card, videos = from_ucf101(tmp_path / "videos")
    checked(tmp_path, card, videos)
    assert (card.name, card.classes, card.expected) == ("ucf101-2-split1", ("A", "B"), {"train": 12, "test": 4})
    assert {video.group for video in videos if video.split == "test"} == {"A_g04", "B_g04"}


def test_listed_videos_that_are_not_there_are_told(tmp_path):
    names = ucf("A", "B", groups=9)
    lists = write_lists(tmp_path / "lists", names, ["_g01_"])
    root = touch(tmp_path / "videos", *(name for name in names if "B_g09" not in name))
    with pytest.raises(R21DError, match=r"2 of the 32 videos that .*trainlist01\.txt .*B/v_B_g09_c01, B/v_B_g09_c02"):
        from_ucf101(root, lists=lists)


def test_faults_of_lists_are_told(tmp_path):
    root = touch(tmp_path / "videos", *ucf("A"))
    with pytest.raises(R21DError, match=r"trainlist01\.txt: expected a list"):
        from_ucf101(root, lists=tmp_path / "nowhere")
    lists = write_lists(tmp_path / "lists", ucf("A"), ["_g01_"])
    (lists / "testlist01.txt").write_text("A/v_A_g01_c01.avi\nv_A_g01_c02.avi\n")
    with pytest.raises(R21DError, match=r"testlist01\.txt, line 2: 'v_A_g01_c02.avi', expected CLASS/VIDEO"):
        from_ucf101(root, lists=lists)


@pytest.mark.parametrize("split", [0, 4, -1])
def test_split_that_is_none_is_told(tmp_path, split):
    with pytest.raises(R21DError, match=f"split {split} was asked for; UCF101 has 1, 2 and 3"):
        from_ucf101(touch(tmp_path / "videos", *ucf("A")), split=split)


def test_videos_that_ucf101_would_not_have_are_told(tmp_path):
    with pytest.raises(R21DError, match=r"holiday\.avi: no group in the name"):
        from_ucf101(touch(tmp_path / "videos", *ucf("A"), "A/holiday.avi"))
    with pytest.raises(R21DError, match=r"c01\.mp4: is there as v_B_g01_c01\.avi too"):
        from_ucf101(touch(tmp_path / "twice", "B/v_B_g01_c01.avi", "B/v_B_g01_c01.mp4"))
