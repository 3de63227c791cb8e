"""Readers against the official lists, where they are there, and small lists of the same form."""

import re
from collections import Counter
from dataclasses import replace

import pytest

from r21d_core import R21DError
from r21d_core.data.dataset_cards import FOLDER, load_published_dataset
from r21d_core.data.manifest import load_manifest, write_manifest
from r21d_core.data.official_readers import (
    MIRACL_FOLDS,
    from_hmdb51,
    from_kinetics,
    from_miracl,
    from_sports1m,
    from_ucf101,
)  # fmt: skip
from r21d_core.study.recipes import get_recipe
from tests.listings import DATA, checked, official, sides, touch, ucf, write

UCF_14 = FOLDER / "ucf101-14-split1.csv"
UCF_COUNTS = {1: (9537, 3783), 2: (9586, 3734), 3: (9624, 3696)}
# Of HMDB51: titles in both splits, test clips of these; the same of titles without the number at their end.
HMDB_LEAKS = {1: (133, 457, 79), 2: (149, 527, 104), 3: (144, 529, 114)}


def rows_of(listing):
    return {video.path.stem: (video.label, video.split, video.group) for video in listing.videos}


@pytest.mark.parametrize(
    ("read", "split", "message"),
    [
        *((from_ucf101, split, f"split is {split}; UCF101 has the splits 1, 2 and 3") for split in (0, 4, -1)),
        (from_hmdb51, 0, "split is 0; HMDB51 has the splits 1, 2 and 3"),
        (from_miracl, 6, "split is 6; MIRACL-VC1 has the folds 1 to 5"),
    ],
)
def test_unknown_split_is_an_error(tmp_path, read, split, message):
    with pytest.raises(R21DError, match=message):
        read(touch(tmp_path / "set", "a/a.mp4"), split=split)


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (from_ucf101, "no video of this data set; expected set/Archery/v_Archery_g01_c01.avi"),
        (from_miracl, "no video of this data set; expected set/word01_begin"),
        (from_hmdb51, r"no \*_test_split1\.txt in or beside it; name the folder of the official .* by --annotations"),
        (from_kinetics, r"no validate\.csv in or beside it; name the folder of the official .* by --annotations"),
        (from_sports1m, r"no train_partition\.txt in or beside it; name the folder .* by --annotations"),
    ],
)
def test_folder_without_videos_or_lists_is_an_error(tmp_path, read, message):
    with pytest.raises(R21DError, match=f"set: {message}"):
        read(touch(tmp_path / "set", "A/holiday.avi"))


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*-split?.csv")))
def test_reader_splits_as_the_committed_manifest(tmp_path, name):
    """A video of each class and recording, without the official lists."""
    committed, split = load_manifest(FOLDER / f"{name}.csv"), int(name[-1])
    videos = {(video.label, video.group): video for video in committed.videos}.values()
    root = touch(tmp_path, *(video.video for video in videos))
    if name.startswith("miracl"):
        listing = from_miracl(root, split=split)
    else:
        listing = from_ucf101(root, split=split, subset=name.split("-")[1])
    expected = {video.video: (video.label, video.split, video.group) for video in videos}
    assert {video.video: (video.label, video.split, video.group) for video in listing.videos} == expected
    assert (listing.card.name, listing.card.classes) == (name, committed.card.classes)


# UCF101


@pytest.fixture(scope="module")
def whole_ucf(tmp_path_factory):
    """A folder with all of UCF101, by name, and the split of each video in the official lists."""
    splits = {split: {} for split in UCF_COUNTS}
    for split, listed in splits.items():
        for part in ("train", "test"):
            lines = (official("ucf101") / f"{part}list0{split}.txt").read_text().splitlines()
            listed |= {line.split()[0]: part for line in lines}
    assert len(splits[1]) == 13320
    return touch(tmp_path_factory.mktemp("whole") / "UCF-101", *splits[1]), splits


@pytest.mark.parametrize("split", UCF_COUNTS)
def test_ucf101_groups_split_as_the_official_lists(whole_ucf, tmp_path, split):
    root, listed = whole_ucf[0], whole_ucf[1][split]
    by_rule, by_lists = from_ucf101(root, split=split), from_ucf101(root, split=split, annotations=official("ucf101"))
    assert sides(by_rule) == sides(by_lists) == listed
    assert sorted(by_rule.videos, key=str) == sorted(by_lists.videos, key=str) and by_rule.card == by_lists.card
    card = by_lists.card
    assert card.name == f"ucf101-split{split}" and len(card.classes) == 101
    assert tuple(card.expected.values()) == UCF_COUNTS[split] == tuple(Counter(listed.values()).values())
    assert str(by_lists) == "listed 13,320, on disk 13,320"
    checked(tmp_path, by_rule)


@pytest.mark.parametrize("part", load_published_dataset("ucf101").subsets)
@pytest.mark.parametrize("split", UCF_COUNTS)
def test_ucf101_subset_is_as_the_card_says(whole_ucf, tmp_path, split, part):
    dataset = load_published_dataset("ucf101")
    listing = from_ucf101(whole_ucf[0], split=split, annotations=official("ucf101"), subset=part)
    checked(tmp_path, listing)
    card = listing.card
    assert card.name == f"ucf101-{part}-split{split}" and card.classes == tuple(dataset.subsets[part])
    assert Counter(video.split for video in listing.videos) == card.expected == dataset.expected[card.name]
    assert not (listing.notes or listing.missing or listing.extra), "the other classes are listed too"


@pytest.mark.parametrize("split", UCF_COUNTS)
def test_ucf101_subset_14_is_the_committed_manifest(tmp_path, split):
    root = DATA / "ucf101-14" / "videos"
    if not root.is_dir():
        pytest.skip("the videos are not here")
    committed = load_manifest(FOLDER / f"ucf101-14-split{split}.csv")
    listing = from_ucf101(root, split=split, subset="14")
    frames = {video.video: video.frames for video in committed.videos}
    assert listing.card == replace(committed.card, root=str(root.resolve()))
    write_manifest(tmp_path / "new.csv", listing.card, [replace(v, frames=frames[v.video]) for v in listing.videos])
    assert load_manifest(tmp_path / "new.csv").fingerprint == committed.fingerprint
    assert all(video.path.is_file() for video in listing.videos)


def test_three_splits_pool_what_the_protocol_counts():
    tested = [load_manifest(FOLDER / f"ucf101-14-split{split}.csv").split("test") for split in UCF_COUNTS]
    groups = [{video.group for video in videos} for videos in tested]
    assert len(set.union(*groups)) == sum(map(len, groups)) == 294 and sum(map(len, tested)) == 1489


def test_ucf101_halves_are_every_other_class_of_14():
    subsets = load_published_dataset("ucf101").subsets
    assert tuple(subsets["14"]) == load_manifest(UCF_14).card.classes == tuple(sorted(subsets["14"]))
    assert subsets["7a"] == subsets["14"][::2] and subsets["7b"] == subsets["14"][1::2]


@pytest.fixture
def two_classes(tmp_path):
    return write(tmp_path / "few.txt", "B", "A")


def write_ucf_lists(folder, names, tested):
    """Lists of split 1 as they are published, with Windows line ends."""
    write(folder / "trainlist01.txt", *(f"{name} 1" for name in names if tested not in name), end="\r\n")
    write(folder / "testlist01.txt", *(name for name in names if tested in name), end="\r\n")
    return folder


@pytest.mark.parametrize("place", ["videos", ".", "splits", "videos/ucfTrainTestlist", "ucfTrainTestlist"])
def test_ucf101_lists_take_precedence_over_groups(tmp_path, two_classes, place):
    touch(tmp_path / "videos", *ucf("B", "A", groups=4, ending=".mp4"))
    write_ucf_lists(tmp_path / place, ucf("A", "B", "C", groups=4), "_g04_")
    listing = from_ucf101(tmp_path / "videos", subset=two_classes)
    checked(tmp_path, listing)
    card = listing.card
    assert (card.name, card.classes, card.expected) == ("ucf101-few-split1", ("A", "B"), {"train": 12, "test": 4})
    assert {video.group for video in listing.videos if video.split == "test"} == {"A_g04", "B_g04"}


@pytest.mark.parametrize("by_lists", [True, False])
def test_ucf101_part_of_the_classes_needs_a_subset(tmp_path, by_lists):
    if by_lists:
        write_ucf_lists(tmp_path / "splits", ucf("A", "B", groups=4), "_g04_")
    root = touch(tmp_path / "videos", *ucf("A", "B", groups=4))
    with pytest.raises(R21DError, match=r"2 of the 101 classes of ucf101 .* --subset, which takes 14 or 7a or 7b or"):
        from_ucf101(root)


def test_ucf101_faults_of_lists_are_errors(tmp_path):
    root = touch(tmp_path / "videos", *ucf("A"))
    with pytest.raises(R21DError, match=r"nowhere: holds no trainlist01\.txt"):
        from_ucf101(root, annotations=tmp_path / "nowhere")
    lists = write_ucf_lists(tmp_path / "lists", ucf("A"), "_g01_")
    write(lists / "testlist01.txt", "A/v_A_g01_c01.avi", "v_A_g01.avi")
    with pytest.raises(R21DError, match=r"testlist01\.txt, line 2: 'v_A_g01.avi', expected CLASS/v_CLASS_g01_c01"):
        from_ucf101(root, annotations=lists)
    (lists / "testlist01.txt").unlink()
    with pytest.raises(R21DError, match=r"testlist01\.txt: expected a list of UCF101TrainTestSplits"):
        from_ucf101(root, annotations=lists)


# HMDB51


@pytest.fixture(scope="module")
def whole_hmdb(tmp_path_factory):
    """A folder with all of HMDB51, by name."""
    files = sorted(official("hmdb51_splits").glob("*_test_split1.txt"))
    lines = [
        (file.name.removesuffix("_test_split1.txt"), line) for file in files for line in file.read_text().splitlines()
    ]
    assert len(files) == 51 and len(lines) == 6766
    return touch(tmp_path_factory.mktemp("whole") / "hmdb51", *(f"{label}/{line.split()[0]}" for label, line in lines))


@pytest.mark.parametrize("split", HMDB_LEAKS)
def test_hmdb51_splits_are_the_official_ones(whole_hmdb, tmp_path, split):
    lists, expected = official("hmdb51_splits"), {}
    for file in lists.glob(f"*_test_split{split}.txt"):
        for name, flag in (line.split() for line in file.read_text().split("\n") if line.strip()):
            if flag != "0":
                expected[f"{file.name.split('_test_split')[0]}/{name}"] = {"1": "train", "2": "test"}[flag]
    listing = from_hmdb51(whole_hmdb, split=split, annotations=lists)
    assert sides(listing) == expected
    card = listing.card
    assert (card.name, len(card.classes), card.expected) == (f"hmdb51-split{split}", 51, {"train": 3570, "test": 1530})
    assert set(Counter((v.label, v.split) for v in listing.videos).values()) == {70, 30}
    assert str(listing) == "listed 5,100, on disk 5,100", "the 1,666 of no split are listed, and nothing is left out"
    checked(tmp_path, listing)


def leaks(groups, videos):
    """How many groups are in both splits, and how many test videos these have."""
    pairs = list(zip(groups, videos, strict=True))
    trained = {group for group, video in pairs if video.split == "train"}
    leaked = [group for group, video in pairs if video.split == "test" and group in trained]
    return len(set(leaked)), len(leaked)


@pytest.mark.parametrize("split", HMDB_LEAKS)
def test_hmdb51_coarser_groups_leak_as_the_readme_says(whole_hmdb, split):
    videos = from_hmdb51(whole_hmdb, split=split, annotations=official("hmdb51_splits")).videos
    for video in videos:
        assert video.path.name.startswith(f"{video.group}_") and video.group.endswith(f"_{video.label}")
    titles = [video.group.removesuffix(f"_{video.label}") for video in videos]
    parts = [(re.sub(r"[_-]?\d+$", "", title), video.label) for title, video in zip(titles, videos, strict=True)]
    assert (*leaks(titles, videos), leaks(parts, videos)[1]) == HMDB_LEAKS[split]
    readme = " ".join((FOLDER / "README.md").read_text().split())
    for numbers in zip(*HMDB_LEAKS.values(), strict=True):
        assert "{}, {} and {}".format(*numbers) in readme


KICK = ["Crash_kick_f_cm_np1_ba_med_0", "Crash_kick_f_cm_np12_ba_med_1", "a_kick_b!_[x]_kick_u_nm_np2_fr_goo_0"]
BALL = ["Crash_kick_ball_l_cm_np1_ri_bad_0", "Goal_kick_ball_t_cm_np1_le_bad_1"]


@pytest.fixture
def small_hmdb(tmp_path):
    """Lists and videos of two classes, one whose name begins as the other's."""
    write(tmp_path / "splits" / "kick_test_split1.txt", *(f"{n}.avi {f} " for n, f in zip(KICK, "112", strict=True)))
    write(tmp_path / "splits" / "kick_ball_test_split1.txt", *(f"{n}.avi {f}" for n, f in zip(BALL, "10", strict=True)))
    write(tmp_path / "two.txt", "kick", "kick_ball")
    return touch(tmp_path / "videos", *(f"kick/{n}.avi" for n in KICK), *(f"kick_ball/{n}.mp4" for n in BALL))


def test_hmdb51_group_is_title_and_class(small_hmdb, tmp_path):
    listing = from_hmdb51(small_hmdb, subset=tmp_path / "two.txt")
    checked(tmp_path, listing)
    assert rows_of(listing) == {
        KICK[0]: ("kick", "train", "Crash_kick"),
        KICK[1]: ("kick", "train", "Crash_kick"),
        KICK[2]: ("kick", "test", "a_kick_b!_[x]_kick"),
        BALL[0]: ("kick_ball", "train", "Crash_kick_ball"),
    }
    assert not listing.extra and not listing.missing, "unused clips are left out"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", " \r\n\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_hmdb51_any_line_end_and_mark_is_read(small_hmdb, tmp_path, end, mark):
    before = from_hmdb51(small_hmdb, subset=tmp_path / "two.txt")
    for file in (tmp_path / "splits").iterdir():
        write(file, *file.read_text().splitlines(), end=end, mark=mark)
    assert from_hmdb51(small_hmdb, subset=tmp_path / "two.txt") == before


@pytest.mark.parametrize("line", ["Crash_hit_f_cm_np1_ba_med_0.avi 1", f"{KICK[0]}.avi 3", f"{KICK[0]}.avi", "1"])
def test_hmdb51_malformed_line_is_an_error(small_hmdb, tmp_path, line):
    write(tmp_path / "splits" / "kick_test_split1.txt", f"{KICK[0]}.avi 1", line)
    with pytest.raises(R21DError, match=r"kick_test_split1\.txt, line 2: '.*', expected TITLE_kick_u_.*0, 1 or 2"):
        from_hmdb51(small_hmdb)


# MIRACL-VC1


@pytest.fixture
def miracl(tmp_path):
    """One repetition of every class by every speaker."""
    dataset, speakers = load_published_dataset("miracl-vc1"), sum(MIRACL_FOLDS, ())
    labels = [*dataset.subsets["words"], *dataset.subsets["phrases"]]
    return touch(tmp_path, *(f"{label}/{name}_{label.split('_')[0]}_c01.mp4" for label in labels for name in speakers))


def test_miracl_folds_test_every_speaker_once(miracl):
    tested = []
    for fold in range(1, 6):
        listing = from_miracl(miracl, split=fold)
        groups = {part: {v.group for v in listing.videos if v.split == part} for part in ("train", "test")}
        assert not groups["test"] & groups["train"]
        assert len(listing.videos) == 300 and listing.card.name == f"miracl-vc1-split{fold}"
        tested += groups["test"]
    assert sorted(tested) == sorted(sum(MIRACL_FOLDS, ())) and len(tested) == 15


def test_miracl_words_are_ten_classes(miracl):
    card = from_miracl(miracl, subset="words").card
    assert len(card.classes) == 10 and all(label.startswith("word") for label in card.classes)
    assert card.name == "miracl-vc1-words-split1"


def test_miracl_recipe_never_flips():
    assert not get_recipe("small", data="miracl-vc1-split1").flip and get_recipe("small", data="ucf101-split1").flip
