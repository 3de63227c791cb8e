"""UCF101 comes out as its official lists have it, with lists or without."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from r21d_core import R21DError
from r21d_core.data.dataset_cards import load_published_dataset
from r21d_core.data.manifest import load_manifest, write_manifest
from r21d_core.data.official_readers import from_ucf101
from tests.listings import DATA, checked, official, sides, touch, ucf, write

COMMITTED = Path(__file__).parents[3] / "data_manifests" / "ucf101-14-split1.csv"
COUNTS = {1: (9537, 3783), 2: (9586, 3734), 3: (9624, 3696)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with all of UCF101, by name."""
    lists = official("ucf101")
    names = [
        line.split()[0] for side in ("train", "test") for line in (lists / f"{side}list01.txt").read_text().splitlines()
    ]
    assert len(names) == 13320
    return touch(tmp_path_factory.mktemp("whole") / "UCF-101", *names)


@pytest.fixture
def few(tmp_path):
    """A file with two classes a line."""
    return write(tmp_path / "few.txt", "B", "A")


@pytest.mark.parametrize("split", COUNTS)
def test_rule_of_groups_is_that_of_the_official_lists(whole, tmp_path, split):
    lists = official("ucf101")
    listed = {
        line.split()[0]: side
        for side in ("train", "test")
        for line in (lists / f"{side}list0{split}.txt").read_text().splitlines()
    }
    by_rule, by_lists = from_ucf101(whole, split=split), from_ucf101(whole, split=split, annotations=lists)
    assert sides(by_rule) == sides(by_lists) == listed
    assert sorted(by_rule.videos, key=str) == sorted(by_lists.videos, key=str) and by_rule.card == by_lists.card
    card = by_lists.card
    assert card.name == f"ucf101-split{split}" and len(card.classes) == 101
    assert tuple(card.expected.values()) == COUNTS[split] == tuple(Counter(listed.values()).values())
    assert str(by_lists) == "listed 13,320, on disk 13,320"
    checked(tmp_path, by_rule)


@pytest.mark.parametrize("part", load_published_dataset("ucf101").subsets)
@pytest.mark.parametrize("split", COUNTS)
def test_subset_of_the_whole_is_as_its_card_says(whole, tmp_path, split, part):
    about = load_published_dataset("ucf101")
    listing = from_ucf101(whole, split=split, annotations=official("ucf101"), subset=part)
    checked(tmp_path, listing)
    assert listing.card.name == f"ucf101-{part}-split{split}" and not (listing.notes or listing.missing)
    assert listing.card.classes == tuple(about.subsets[part])
    assert Counter(video.split for video in listing.videos) == listing.card.expected
    assert listing.card.expected == about.expected[listing.card.name]
    assert not listing.extra, "the other classes are listed too"


def test_subset_14_is_the_committed_manifest_to_the_fingerprint(tmp_path):
    root = DATA / "ucf101-14" / "videos"
    if not root.is_dir():
        pytest.skip("the videos are not here")
    committed = load_manifest(COMMITTED)
    frames = {video.video: video.frames for video in committed.videos}
    listing = from_ucf101(root, subset="14")
    assert listing.card == replace(committed.card, root=str(root.resolve()))
    write_manifest(tmp_path / "new.csv", listing.card, [replace(v, frames=frames[v.video]) for v in listing.videos])
    assert load_manifest(tmp_path / "new.csv").fingerprint == committed.fingerprint
    assert all(video.path.is_file() for video in listing.videos)


def test_halves_are_every_other_class_of_the_fourteen():
    subsets = load_published_dataset("ucf101").subsets
    assert tuple(subsets["14"]) == load_manifest(COMMITTED).card.classes == tuple(sorted(subsets["14"]))
    assert subsets["7a"] == subsets["14"][::2] and subsets["7b"] == subsets["14"][1::2]


def write_lists(folder, names, tested):
    """Lists of split 1 as they are published, with Windows line ends."""
    of = {"test": [name for name in names if tested in name], "train": [name for name in names if tested not in name]}
    write(folder / "trainlist01.txt", *(f"{name} 1" for name in of["train"]), end="\r\n")
    write(folder / "testlist01.txt", *of["test"], end="\r\n")
    return folder


@pytest.mark.parametrize("place", ["videos", ".", "splits", "videos/ucfTrainTestlist", "ucfTrainTestlist"])
def test_lists_are_found_and_go_before_the_rule(tmp_path, few, place):
    touch(tmp_path / "videos", *ucf("B", "A", groups=4, ending=".mp4"))
    write_lists(tmp_path / place, ucf("A", "B", "C", groups=4), "_g04_")
    listing = from_ucf101(tmp_path / "videos", subset=few)
    checked(tmp_path, listing)
    card = listing.card
    assert (card.name, card.classes, card.expected) == ("ucf101-few-split1", ("A", "B"), {"train": 12, "test": 4})
    assert {video.group for video in listing.videos if video.split == "test"} == {"A_g04", "B_g04"}


def test_missing_and_unlisted_videos_are_reported(tmp_path, few):
    names = ucf("A", "B", groups=9)
    lists = write_lists(tmp_path / "lists", names, "_g01_")
    root = touch(tmp_path / "videos", *(name for name in names if "B_g09" not in name), "A/holiday.avi", "A/list.txt")
    listing = from_ucf101(root, annotations=lists, subset=few)
    assert len(checked(tmp_path, listing).videos) == 34
    assert listing.card.expected == {"train": 32, "test": 4}
    assert listing.missing == ("B/v_B_g09_c01", "B/v_B_g09_c02") and listing.extra == ("A/holiday.avi",)
    assert str(listing) == (
        "listed 36, on disk 34, missing 2 (B/v_B_g09_c01, B/v_B_g09_c02), not listed 1 (A/holiday.avi)"
    )


def test_without_lists_what_is_missing_is_counted_all_the_same(tmp_path):
    names = ucf(*load_published_dataset("ucf101").subsets["14"], clips=2)
    listing = from_ucf101(touch(tmp_path / "videos", *names), subset="14")
    assert listing.card.expected == {"train": 1272, "test": 499} and len(listing.videos) == 700
    assert str(listing).startswith("listed 1,771, on disk 700, missing 1,071\nsplit by group number")


@pytest.mark.parametrize("by_lists", [True, False])
def test_part_of_the_classes_must_be_said_to_be_one(tmp_path, by_lists):
    if by_lists:
        write_lists(tmp_path / "splits", ucf("A", "B", groups=4), "_g04_")
    root = touch(tmp_path / "videos", *ucf("A", "B", groups=4))
    with pytest.raises(R21DError, match=r"2 of the 101 classes of ucf101 .* --subset, which takes 14 or 7a or 7b or"):
        from_ucf101(root)


def test_faults_of_lists_are_told(tmp_path, few):
    root = touch(tmp_path / "videos", *ucf("A"))
    with pytest.raises(R21DError, match=r"nowhere: holds no trainlist01\.txt"):
        from_ucf101(root, annotations=tmp_path / "nowhere")
    lists = write_lists(tmp_path / "lists", ucf("A"), "_g01_")
    write(lists / "testlist01.txt", "A/v_A_g01_c01.avi", "v_A_g01.avi")
    with pytest.raises(R21DError, match=r"testlist01\.txt, line 2: 'v_A_g01.avi', expected CLASS/v_CLASS_g01_c01"):
        from_ucf101(root, annotations=lists)
    (lists / "testlist01.txt").unlink()
    with pytest.raises(R21DError, match=r"testlist01\.txt: expected a list of UCF101TrainTestSplits"):
        from_ucf101(root, annotations=lists)


@pytest.mark.parametrize("split", [0, 4, -1])
def test_split_that_is_none_is_told(tmp_path, split):
    with pytest.raises(R21DError, match=f"split is {split}; UCF101 has the splits 1, 2 and 3"):
        from_ucf101(touch(tmp_path / "videos", *ucf("A")), split=split)


def test_folder_of_something_else_is_told(tmp_path):
    with pytest.raises(R21DError, match="set: no video of UCF101; expected set/Archery"):
        from_ucf101(touch(tmp_path / "set", "A/holiday.avi"))
