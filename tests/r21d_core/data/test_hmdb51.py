"""HMDB51 comes out as its official lists have it; clips of a title and a class stay together."""

import re
from collections import Counter

import pytest

from r21d_core import R21DError
from r21d_core.data.dataset_cards import FOLDER
from r21d_core.data.official_readers import from_hmdb51
from tests.listings import checked, official, sides, touch, write

LEAKS = {  # titles on both sides, clips to test of these; the same of titles without the number at their end
    1: (133, 457, 79),
    2: (149, 527, 104),
    3: (144, 529, 114),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with all of HMDB51, by name."""
    files = sorted(official("hmdb51_splits").glob("*_test_split1.txt"))
    names = [
        f"{file.name.removesuffix('_test_split1.txt')}/{line.split()[0]}"
        for file in files
        for line in file.read_text().splitlines()
    ]
    assert len(files) == 51 and len(names) == 6766
    return touch(tmp_path_factory.mktemp("whole") / "hmdb51", *names)


@pytest.mark.parametrize("split", LEAKS)
def test_official_lists(whole, tmp_path, split):
    lists = official("hmdb51_splits")
    listing = from_hmdb51(whole, split=split, annotations=lists)
    wanted = {}
    for file in lists.glob(f"*_test_split{split}.txt"):
        for line in file.read_text().split("\n"):
            name, *flag = line.split() or [""]
            if flag and flag != ["0"]:
                wanted[f"{file.name.split('_test_split')[0]}/{name}"] = {"1": "train", "2": "test"}[flag[0]]
    assert sides(listing) == wanted
    card = listing.card
    assert (card.name, len(card.classes), card.expected) == (f"hmdb51-split{split}", 51, {"train": 3570, "test": 1530})
    assert set(Counter((v.label, v.split) for v in listing.videos).values()) == {70, 30}
    assert str(listing) == "listed 5,100, on disk 5,100", "the 1,666 of no side are listed, and nothing is left out"
    checked(tmp_path, listing)


@pytest.mark.parametrize("split", LEAKS)
def test_coarser_groups_would_leak_as_the_readme_says(whole, split):
    videos = from_hmdb51(whole, split=split, annotations=official("hmdb51_splits")).videos
    for video in videos:
        assert video.path.name.startswith(f"{video.group}_") and video.group.endswith(f"_{video.label}")
    titles = [video.group.removesuffix(f"_{video.label}") for video in videos]
    parts = [(re.sub(r"[_-]?\d+$", "", title), video.label) for title, video in zip(titles, videos, strict=True)]
    of_titles, of_parts = (on_both_sides(groups, videos) for groups in (titles, parts))
    assert (*of_titles, of_parts[1]) == LEAKS[split]
    readme = " ".join((FOLDER / "README.md").read_text().split())
    for numbers in zip(*LEAKS.values(), strict=True):
        assert "{}, {} and {}".format(*numbers) in readme


def on_both_sides(groups, videos):
    """How many groups are, and how many videos to test that makes."""
    trained = {group for group, video in zip(groups, videos, strict=True) if video.split == "train"}
    found = [g for g, video in zip(groups, videos, strict=True) if video.split == "test" and g in trained]
    return len(set(found)), len(found)


CLIPS = ["Crash_kick_f_cm_np1_ba_med_0", "Crash_kick_f_cm_np12_ba_med_1", "a_kick_b!_[x]_kick_u_nm_np2_fr_goo_0"]
BALL = ["Crash_kick_ball_l_cm_np1_ri_bad_0", "Goal_kick_ball_t_cm_np1_le_bad_1"]


@pytest.fixture
def small(tmp_path):
    """Lists and videos of two classes, one whose name begins as the other's."""
    write(tmp_path / "splits" / "kick_test_split1.txt", *(f"{n}.avi {f} " for n, f in zip(CLIPS, "112", strict=True)))
    write(tmp_path / "splits" / "kick_ball_test_split1.txt", *(f"{n}.avi {f}" for n, f in zip(BALL, "10", strict=True)))
    write(tmp_path / "two.txt", "kick", "kick_ball")
    return touch(tmp_path / "videos", *(f"kick/{n}.avi" for n in CLIPS), *(f"kick_ball/{n}.mp4" for n in BALL))


def test_group_is_title_and_class_and_unused_clips_are_left_out(small, tmp_path):
    listing = from_hmdb51(small, subset=tmp_path / "two.txt")
    checked(tmp_path, listing)
    assert {video.path.stem: (video.label, video.split, video.group) for video in listing.videos} == {
        CLIPS[0]: ("kick", "train", "Crash_kick"),
        CLIPS[1]: ("kick", "train", "Crash_kick"),
        CLIPS[2]: ("kick", "test", "a_kick_b!_[x]_kick"),
        BALL[0]: ("kick_ball", "train", "Crash_kick_ball"),
    }
    assert not listing.extra and not listing.missing


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", " \r\n\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_any_line_end_and_mark(small, tmp_path, end, mark):
    before = from_hmdb51(small, subset=tmp_path / "two.txt")
    for file in (tmp_path / "splits").iterdir():
        write(file, *file.read_text().splitlines(), end=end, mark=mark)
    assert from_hmdb51(small, subset=tmp_path / "two.txt") == before


@pytest.mark.parametrize("line", ["Crash_hit_f_cm_np1_ba_med_0.avi 1", f"{CLIPS[0]}.avi 3", f"{CLIPS[0]}.avi", "1"])
def test_lines_that_hmdb51_would_not_have_are_told(small, tmp_path, line):
    write(tmp_path / "splits" / "kick_test_split1.txt", f"{CLIPS[0]}.avi 1", line)
    with pytest.raises(R21DError, match=r"kick_test_split1\.txt, line 2: '.*', expected TITLE_kick_u_.*0, 1 or 2"):
        from_hmdb51(small)


def test_lists_and_splits_that_are_none_are_told(small, tmp_path):
    with pytest.raises(R21DError, match="split is 0; HMDB51 has the splits 1, 2 and 3"):
        from_hmdb51(small, split=0)
    with pytest.raises(
        R21DError,
        match=r"videos: no \*_test_split2\.txt in or beside it; name the folder of the official .* by --annotations",
    ):
        from_hmdb51(small, split=2)
