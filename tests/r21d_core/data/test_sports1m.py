"""Sports-1M comes out as its partitions have it: classes by number, the first of several labels."""

import pytest

from r21d_core import R21DError
from r21d_core.data.official_readers import from_sports1m
from tests.listings import checked, official, touch, write

URL = "https://www.youtube.com/watch?v="
TRAIN = ["UDqivjS-lpI", "-_trains__1", "tr_in_____2"]
TEST = ["te-t_____01", "te-t_____02"]


@pytest.fixture
def lists(tmp_path):
    """487 labels, the last of which is spelt with a letter of its own, and some videos of the first three."""
    write(tmp_path / "labels.txt", *(f"sport {486 - n}" for n in range(486)), "kyūdō")
    partition = tmp_path / "original" / "train_partition.txt"
    write(partition, f"{URL}{TRAIN[0]} 2,0", f"{URL}{TRAIN[1]} 486", f"http://www.youtube.com/watch?v={TRAIN[2]} 0 ")
    write(tmp_path / "original" / "test_partition.txt", f"{URL}{TEST[0]} 486,1,2", f"{URL}{TEST[1]} 0")
    write(tmp_path / "three.txt", "sport 486", "kyūdō", "sport 484")
    return tmp_path / "original"


def videos(tmp_path, *ids):
    return touch(tmp_path / "videos", *(f"{one[:2]}/{one}.mp4" for one in ids))


def test_first_label_of_several_and_order_of_the_labels(lists, tmp_path):
    listing = from_sports1m(videos(tmp_path, *TRAIN, *TEST), subset=tmp_path / "three.txt")
    checked(tmp_path, listing)
    assert {video.path.stem: (video.label, video.split, video.group) for video in listing.videos} == {
        TRAIN[0]: ("sport 484", "train", TRAIN[0]),
        TRAIN[1]: ("kyūdō", "train", TRAIN[1]),
        TRAIN[2]: ("sport 486", "train", TRAIN[2]),
        TEST[0]: ("kyūdō", "test", TEST[0]),
        TEST[1]: ("sport 486", "test", TEST[1]),
    }
    assert listing.card.name == "sports1m-three" and listing.card.classes == ("sport 486", "sport 484", "kyūdō")
    assert str(listing) == "listed 5, on disk 5\nwith several labels; the first one is used: 2"


def test_official_labels_and_a_set_to_be_tested_alone(lists, tmp_path):
    (lists.parent / "labels.txt").write_bytes((official("sports1m") / "labels.txt").read_bytes())
    (lists / "train_partition.txt").unlink()
    listing = from_sports1m(videos(tmp_path, TEST[1], "not_listed_"), annotations=lists)
    checked(tmp_path, listing)
    classes = listing.card.classes
    assert len(classes) == 487 and (classes[0], classes[-1]) == ("boomerang", "model aircraft") and "kyūdō" in classes
    assert listing.missing == (f"{classes[486]}/{TEST[0]}",) and listing.extra == ("no/not_listed_.mp4",)
    assert listing.card.name == "sports1m" and listing.card.licence == "CC BY 3.0"


def test_most_classes_without_a_video_to_train_on_are_told(lists, tmp_path):
    with pytest.raises(R21DError, match=r"no training video of 484 of the 487 classes \(such as sport 485, "):
        from_sports1m(videos(tmp_path, *TRAIN, *TEST))


@pytest.mark.parametrize("line", [f"{URL}UDqivjS-lpI 487", f"{URL}UDqivjS-lpI", f"{URL}short 1", "UDqivjS-lpI 1"])
def test_lines_that_sports1m_would_not_have_are_told(lists, tmp_path, line):
    write(lists / "test_partition.txt", f"{URL}{TEST[0]} 1", line)
    with pytest.raises(R21DError, match=r"test_partition\.txt, line 2: '.*', expected .*numbers below 487"):
        from_sports1m(videos(tmp_path, *TRAIN))


def test_missing_labels_are_an_error(lists, tmp_path):
    root = videos(tmp_path, *TRAIN)
    (lists.parent / "labels.txt").unlink()
    with pytest.raises(R21DError, match=r"original: no labels\.txt in or above it"):
        from_sports1m(root)
