"""MIRACL-VC1: folds by speaker, subsets of words and of phrases."""

import pytest

from r21d_core import R21DError
from r21d_core.data.dataset_cards import load_published_dataset
from r21d_core.data.official_readers import MIRACL_FOLDS, from_miracl
from r21d_core.study.recipes import get_recipe
from tests.listings import touch


@pytest.fixture
def root(tmp_path):
    """One repetition of every class by every speaker."""
    dataset = load_published_dataset("miracl-vc1")
    labels = [*dataset.subsets["words"], *dataset.subsets["phrases"]]
    speakers = sum(MIRACL_FOLDS, ())
    return touch(tmp_path, *(f"{label}/{name}_{label.split('_')[0]}_c01.mp4" for label in labels for name in speakers))


def test_folds_test_every_speaker_once(root):
    listings = [from_miracl(root, split=fold) for fold in range(1, 6)]
    tested = [{video.group for video in listing.videos if video.split == "test"} for listing in listings]
    speakers = sorted(sum(MIRACL_FOLDS, ()))
    assert sorted(name for names in tested for name in names) == speakers and len(speakers) == 15
    for listing, names in zip(listings, tested, strict=True):
        assert not names & {video.group for video in listing.videos if video.split == "train"}
        assert len(listing.videos) == 300 and listing.card.name == f"miracl-vc1-split{listings.index(listing) + 1}"


def test_subset_words_keeps_ten_classes(root):
    card = from_miracl(root, subset="words").card
    assert len(card.classes) == 10 and all(label.startswith("word") for label in card.classes)
    assert card.name == "miracl-vc1-words-split1"


def test_unknown_fold_and_empty_folder_are_refused(root, tmp_path):
    with pytest.raises(R21DError, match="has the folds 1 to 5"):
        from_miracl(root, split=6)
    (tmp_path / "none").mkdir()
    with pytest.raises(R21DError, match="no video of MIRACL-VC1"):
        from_miracl(tmp_path / "none")


def test_recipe_of_lips_never_flips():
    assert not get_recipe("small", data="miracl-vc1-split1").flip and get_recipe("small", data="ucf101-split1").flip
