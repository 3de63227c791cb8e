"""Kinetics comes out as its annotations have it, whatever the folders of its videos; its validation set is tested."""

import csv
from collections import Counter

import pytest

from r21d_core import R21DError
from r21d_core.data.official_readers import from_kinetics
from tests.listings import checked, official, sides, touch, write

HEADER = "label,youtube_id,time_start,time_end,split,is_cc"


def key(number):
    return f"_-Id{number:07d}"


def rows(split, first, classes=400):
    """One clip a class."""
    return [f'"class, {n}",{key(first + n)},{n},{n + 10},{split},0' for n in range(classes)]


@pytest.fixture
def lists(tmp_path):
    """Annotations of 400 classes, one video on each side and some that are not labelled."""
    write(tmp_path / "annotations" / "train.csv", HEADER, *rows("train", 0))
    write(tmp_path / "annotations" / "validate.csv", HEADER, *rows("val", 1000))
    write(tmp_path / "annotations" / "test.csv", "youtube_id,time_start,time_end,split", f"{key(5000)},1,11,test")
    return tmp_path / "annotations"


def names(first, folder="{}"):
    return [f"{folder.format(n)}/{key(first + n)}_{n:06d}_{n + 10:06d}.mp4" for n in range(400)]


def test_official_validation_set_is_matched_whole(tmp_path):
    file = official("kinetics") / "kinetics-400_val.csv"
    with open(file, newline="") as text:
        wanted = {
            f"{row['label'].replace(' ', '_')}/{row['youtube_id']}_{int(row['time_start']):06d}_"
            f"{int(row['time_end']):06d}.mp4": row
            for row in csv.DictReader(text)
        }
    listing = from_kinetics(touch(tmp_path / "val", *wanted), annotations=file)
    assert len(listing.videos) == len(wanted) == 19906 and str(listing) == "listed 19,906, on disk 19,906"
    assert all(video.label == wanted[video.video]["label"] for video in listing.videos)
    assert {video.split for video in listing.videos} == {"test"} and listing.card.expected == {"test": 19906}
    assert listing.card.name == "kinetics-400"
    assert list(listing.card.classes) == (official("kinetics") / "label_map_k400.txt").read_text().splitlines()
    checked(tmp_path, listing)


def test_official_annotations_as_they_are(tmp_path):
    folder = tmp_path / "lists"
    for ours, theirs in {"train": "tiny_train", "val": "tiny_val", "test": "kinetics-400_test"}.items():
        write(folder / f"{ours}.csv", *(official("kinetics") / f"{theirs}.csv").read_text().splitlines())
    ids = [line.split(",")[-5] for line in (folder / "train.csv").read_text().splitlines()[1:]]
    tested = (folder / "test.csv").read_text().splitlines()[1].split(",")[0]
    listing = from_kinetics(touch(tmp_path / "videos", *(f"{i}.mp4" for i in [*ids, tested])), annotations=folder)
    assert Counter(video.split for video in listing.videos) == {"train": 400} and not listing.extra
    assert len(listing.missing) == 400
    assert "the lists name 400 train, 400 test, where 246,534 train, 19,906 test are published" in str(listing)


@pytest.mark.parametrize("edition", [400, 600, 700])
def test_edition_is_told_by_the_number_of_classes(tmp_path, edition):
    file = write(tmp_path / "validate.csv", HEADER, *rows("val", 0, edition))
    card = from_kinetics(touch(tmp_path / "videos", f"{key(0)}.mp4"), annotations=file).card
    assert card.name == f"kinetics-{edition}" and len(card.classes) == edition and card.licence == "CC BY 4.0"


@pytest.mark.parametrize("layout", ["train/class, {}", "class,_{}", "."])
def test_folders_of_any_name(lists, tmp_path, layout):
    listing = from_kinetics(touch(tmp_path / "videos", *names(0, layout), *names(1000, layout)))
    checked(tmp_path, listing)
    assert Counter(sides(listing).values()) == {"train": 400, "test": 400}
    assert {video.label for video in listing.videos} == {f"class, {n}" for n in range(400)} == {*listing.card.classes}
    assert {video.group for video in listing.videos if video.split == "train"} == {key(n) for n in range(400)}


def test_ids_alone_and_clips_that_are_gone_or_not_listed(lists, tmp_path):
    found = [*(f"{key(n)}.webm" for n in range(400)), f"{key(1000)}_000000_000010.mp4"]
    root = touch(tmp_path / "videos", *found, f"{key(5000)}.mp4", f"{key(1001)}_000002_000012.mp4", "notes.mp4")
    listing = from_kinetics(root)
    assert Counter(sides(listing).values()) == {"train": 400, "test": 1}
    assert listing.extra == (f"{key(1001)}_000002_000012.mp4", "notes.mp4"), "other seconds are another clip"
    assert len(listing.missing) == 399 and listing.missing[0] == f"class, 1/{key(1001)}_000001_000011"
    assert listing.card.expected == {"train": 246534, "test": 19906}


def test_id_with_two_clips_does_not_say_which(lists, tmp_path):
    write(lists / "validate.csv", HEADER, *rows("val", 1000), f'"class, 1",{key(1000)},50,60,val,0')
    root = touch(tmp_path / "videos", *names(0), f"{key(1000)}.mp4")
    assert from_kinetics(root).extra == (f"{key(1000)}.mp4",)
    touch(root, f"{key(1000)}_000000_000010.mp4", f"{key(1000)}_000050_000060.mp4")
    listing = from_kinetics(root)
    assert [(v.label, v.group) for v in listing.videos if v.split == "test"] == [
        ("class, 0", key(1000)),
        ("class, 1", key(1000)),
    ]


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_any_line_end_mark_and_order_of_columns(lists, tmp_path, end):
    root = touch(tmp_path / "videos", *names(0), *names(1000))
    before = from_kinetics(root)
    for file, split in (("train", "train"), ("validate", "validate")):
        swapped = [f'{split} ,{n}.0, {n + 10},"class, {n}",{key(n + 1000 * (file != "train"))}' for n in range(400)]
        write(
            lists / f"{file}.csv", "split,time_start, time_end,label,youtube_id", *swapped, "", end=end, mark="\ufeff"
        )
    assert from_kinetics(root) == before


FAULTS = {
    "no column": (["label,youtube_id,time_start,split"], "no column 'time_end'; expected label, youtube_id"),
    "no time": ([HEADER, "a,b,x,10,val,0"], "line 2: .*expected a label"),
    "no label": ([HEADER, ",b,0,10,val,0", "a,b"], "line 3: .*expected a label"),
    "other split": ([HEADER, "a,b,0,10,holdout,0"], "line 2: .*one of train, val, validate"),
    "empty": ([], "no column 'youtube_id'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_annotations_are_told(tmp_path, fault):
    lines, said = FAULTS[fault]
    file = write(tmp_path / "val.csv", *lines)
    with pytest.raises(R21DError, match=rf"val\.csv.*{said}"):
        from_kinetics(touch(tmp_path / "videos", "a.mp4"), annotations=file)


def test_annotations_of_a_part_are_an_error(tmp_path):
    root = touch(tmp_path / "videos", "a.mp4")
    write(tmp_path / "val.csv", HEADER, *rows("val", 0, 399))
    with pytest.raises(R21DError, match="the annotations name 399 classes, expected 400, 600 or 700"):
        from_kinetics(root)


def test_own_manifest_is_not_taken_for_annotations(lists, tmp_path):
    root = touch(tmp_path / "videos", *names(0), *names(1000))
    before = from_kinetics(root)
    write(lists / "kinetics-400.csv", "video,label,split,group", "a.mp4,a,train,a")
    assert from_kinetics(root) == before
