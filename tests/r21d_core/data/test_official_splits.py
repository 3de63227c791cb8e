"""Lists against a disk: what is kept, gone and not listed adds up, and no recording is on two sides."""

import io
import json
import re
import string
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tqdm import tqdm

from r21d_core import R21DError
from r21d_core.data import dataset_cards, official_splits
from r21d_core.data.dataset_cards import FOLDER, PublishedDataset, class_noun, group_noun, load_published_dataset
from r21d_core.data.official_splits import Row, files_below, match_listing
from tests.bad_videos import blocks, write_video
from tests.listings import checked, touch, write

ABOUT = PublishedDataset("set", "made up", "none", "25 fps", 2, "a letter", {}, {"one": ["a"]})
ROWS = [
    Row("1", "a", "train", "g1"),
    Row("2", "b", "train", "g2"),
    Row("3", "a", "test", "g3"),
    Row("4", "a", None, ""),
]


def test_what_is_kept_gone_and_not_listed(tmp_path):
    root = touch(tmp_path / "set", "x/y/1.MP4", "2.mp4", "4.mp4", "5.mp4", "3.txt", "._3.mp4", ".cache/3.mp4")
    (root / "3.mp4").mkdir()
    listing = match_listing(root, ABOUT, ROWS)
    checked(tmp_path, listing)
    assert [video.video for video in listing.videos] == ["x/y/1.MP4", "2.mp4"]
    assert listing.missing == ("a/3",) and listing.extra == ("5.mp4",)
    assert listing.card.expected == {"train": 2, "test": 1}
    assert str(listing) == "listed 3, on disk 2, missing 1 (a/3), not listed 1 (5.mp4)"


def test_folders_elsewhere_are_followed(tmp_path):
    touch(tmp_path / "disk", "1.mp4", "2.mp4")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train").symlink_to(tmp_path / "disk")
    assert [video.video for video in match_listing(tmp_path / "set", ABOUT, ROWS).videos] == [
        "train/1.mp4",
        "train/2.mp4",
    ]


def test_links_to_a_folder_above_are_not_followed(tmp_path):
    root = touch(tmp_path / "set", "a/1.mp4", "b/2.mp4")
    links = {"a/up": "..", "a/here": ".", "a/out": tmp_path, "a/b": "../b", "b/a": "../a"}
    for name, target in links.items():
        (root / name).symlink_to(target)
    found = {str(file) for file in files_below(root)}
    assert found == {"a/1.mp4", "b/2.mp4", "a/b/2.mp4", "b/a/1.mp4"}


def test_video_that_is_there_twice_is_told(tmp_path):
    with pytest.raises(R21DError, match=r"a/1\.mp4: also present as b/1\.mkv\nkeep one of each"):
        match_listing(touch(tmp_path / "set", "a/1.mp4", "b/1.mkv", "2.mp4"), ABOUT, ROWS)


def test_class_without_training_videos_is_an_error(tmp_path):
    said = r"no training video of 1 of the 2 classes \(b\); download them, .* --subset, which takes one or a file"
    with pytest.raises(R21DError, match=said):
        match_listing(touch(tmp_path / "set", "1.mp4", "3.mp4"), ABOUT, ROWS)
    with pytest.raises(R21DError, match=r"none: holds none of the 3 videos listed \(1, 2, 3\)"):
        match_listing(touch(tmp_path / "none", "9.mp4"), ABOUT, ROWS)


def test_set_that_is_tested_alone_keeps_all_classes(tmp_path):
    listing = match_listing(touch(tmp_path / "set", "3.mp4"), ABOUT, ROWS)
    assert listing.card.classes == ("a", "b") and [video.split for video in listing.videos] == ["test"]


def test_subsets_by_name_and_by_file(tmp_path):
    root = touch(tmp_path / "set", "1.mp4", "2.mp4", "3.mp4")
    one = match_listing(root, ABOUT, ROWS, subset="one", suffix="split1")
    assert (one.card.name, one.card.classes, one.extra) == ("set-one-split1", ("a",), ())
    mine = write(tmp_path / "mine.txt", " b", "", "a ", end="\r\n", mark="\ufeff")
    assert match_listing(root, ABOUT, ROWS, subset=mine, labels=("b", "a")).card.classes == ("b", "a")
    for text, said in {"c": "no video of 'c' is listed in set", "": "names no class"}.items():
        with pytest.raises(R21DError, match=said):
            match_listing(root, ABOUT, ROWS, subset=write(mine, text))
    with pytest.raises(R21DError, match=r"one\.txt: names other classes than the subset 'one' of set; rename"):
        match_listing(root, ABOUT, ROWS, subset=write(tmp_path / "one.txt", "b"))
    with pytest.raises(
        R21DError, match="subset 'two' is not a subset of set; name classes by --subset, which takes one or a"
    ):
        match_listing(root, ABOUT, ROWS, subset="two")


names = st.text(string.digits, min_size=1, max_size=2)
rows = st.lists(
    st.builds(Row, names, st.sampled_from("ab"), st.sampled_from(["train", "test", None]), st.sampled_from("ghijkl"))
)


@given(rows, st.sets(names))
def test_nothing_is_lost_and_nothing_leaks(rows, there):
    # One video to train on of each class, so that there is a Listing.
    rows = [Row("a", "a", "train", "1"), Row("b", "b", "train", "2"), *rows]
    with tempfile.TemporaryDirectory() as folder:
        root = touch(Path(folder) / "set", "a.mp4", "b.mp4", *(f"{name}.mp4" for name in there))
        listing = match_listing(root, ABOUT, rows)
        checked(Path(folder), listing)
    kept, gone = {video.path.stem for video in listing.videos}, {name.split("/")[1] for name in listing.missing}
    extra = {Path(name).stem for name in listing.extra}
    assert len(kept) == len(listing.videos) and len(gone) == len(listing.missing)
    assert sum(listing.card.expected.values()) == len(kept) + len(gone) and not kept & gone
    assert extra == there - {row.name for row in rows}
    tested = {row.group for row in rows if row.split == "test"}
    assert kept | gone == {r.name for r in rows if r.split == "test" or (r.split == "train" and r.group not in tested)}
    for video in listing.videos:
        assert Row(video.path.stem, video.label, video.split, video.group) in rows
        assert video.split == "test" or video.group not in tested


def test_recording_on_both_sides_is_tested_and_told(tmp_path):
    rows = [*ROWS, Row("5", "b", "train", "g3"), Row("6", "b", "test", "g6"), Row("6", "a", "test", "g6")]
    listing = match_listing(touch(tmp_path / "set", "1.mp4", "2.mp4", "3.mp4", "5.mp4", "6.mp4"), ABOUT, rows)
    assert {video.path.stem: video.label for video in listing.videos} == {"1": "a", "2": "b", "3": "a", "6": "b"}
    assert listing.card.expected == {"train": 2, "test": 2} and not listing.extra
    assert listing.notes == (
        "listed in train and left out, as the recording is also in test: 1 (5)",
        "listed again with another label; the first one is used: 1 (6)",
    )


@pytest.mark.parametrize("name", sorted(p.stem for p in FOLDER.glob("*.json") if not p.with_suffix(".csv").exists()))
def test_cards_say_what_a_user_must_know(name):
    card = load_published_dataset(name)
    assert card.name == name and card.source and card.licence and card.frame_rate and card.groups
    assert all(split in ("train", "test") for counts in card.expected.values() for split in counts)
    assert all(manifest.startswith(name) for manifest in card.expected)
    assert all(Counter(classes).most_common(1)[0][1] == 1 for classes in card.subsets.values())
    said = " ".join((FOLDER / "README.md").read_text().split())
    for counts in card.expected.values():
        assert f"{counts['train']:,}/{counts['test']:,}" in said, f"README.md says nothing of {counts}"
    assert card.licence in said and re.split(", videos|, from|, a corpus", card.source)[0] in said


@pytest.mark.parametrize(
    ("data", "noun"),
    [("miracl-vc1", "speaker"), ("miracl-vc1-split2", "speaker"), ("miracl-vc10", "recording"), ("set", "recording"),
     ("ucf101-14-split1", "recording")],
)  # fmt: skip
def test_group_of_a_data_set_has_the_noun_of_its_card(data, noun):
    assert group_noun(data) == noun


@pytest.mark.parametrize(
    ("data", "noun"),
    [("miracl-vc1-split2", "speech"), ("ucf101-14", "actions"), ("kinetics-400", "actions"), ("set", "classes")],
)
def test_classes_of_a_data_set_have_the_noun_of_its_card(data, noun):
    assert class_noun(data) == noun


@pytest.mark.parametrize(
    ("changes", "says"), [({"groups": ...}, "the card has no 'groups'"), ({"fps": 25}, "unknown key 'fps'")]
)
def test_wrong_card_is_named_with_the_key(tmp_path, monkeypatch, changes, says):
    monkeypatch.setattr(dataset_cards, "FOLDER", tmp_path)
    values = json.loads((FOLDER / "sports1m.json").read_text()) | changes
    write(tmp_path / "mine.json", json.dumps({key: value for key, value in values.items() if value is not ...}))
    with pytest.raises(R21DError, match=rf"mine\.json: {says}; known: name, source"):
        load_published_dataset("mine")


def test_replacement_that_decodes_is_taken(tmp_path):
    """As the folder replacement_for_corrupted_k400 of Kinetics holds them."""
    root = touch(
        tmp_path / "set", *(f"{folder}/{name}.mp4" for folder in ("train", "replacement_for_x") for name in "12")
    )
    for name in ("train/2", "replacement_for_x/1", "replacement_for_x/2"):
        write_video(root / f"{name}.mp4", blocks(3))
    rows = [Row(name, label, "train", name) for name, label in zip("12", "ab", strict=True)]
    listing = match_listing(root, ABOUT, rows)
    assert [video.video for video in listing.videos] == ["replacement_for_x/1.mp4", "train/2.mp4"]
    assert listing.notes[-1] == "with a replacement; the first one that decodes is used: 2 (1, 2)"


def test_slow_listing_shows_progress(tmp_path, monkeypatch):
    touch(tmp_path / "set", "a/1.mp4", "b/1.mp4")
    drawn = []
    for seconds in (0, 0.6):
        file = io.StringIO()
        monkeypatch.setattr(official_splits, "tqdm", partial(tqdm, disable=False, file=file, mininterval=0))
        for _ in files_below(tmp_path / "set"):
            time.sleep(seconds)
        drawn.append(file.getvalue())
    assert not drawn[0] and f"listing {tmp_path / 'set'}: 2 files" in drawn[1]
