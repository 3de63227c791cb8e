"""Accuracies against loops that spell out their definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from r21d_core.runs.metrics import clip_at_1, family_correct, video_at, video_correct, video_probabilities
from r21d_core.runs.scores import Scores


def make(seed, items=12, clips=3, classes=6, families=None):
    random = np.random.default_rng(seed)
    return Scores(
        logits=random.normal(0, 3, (items, clips, classes)).astype(np.float32),
        labels=random.integers(0, classes, items),
        videos=np.array([f"v{number:02d}" for number in range(items)]),
        groups=np.array([f"g{number // 2}" for number in range(items)]),
        classes=tuple("abcdefghij"[:classes]),
        protocol={"families": families or {}},
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 15), st.integers(1, 4), st.integers(2, 8))
def test_accuracies_equal_plain_loops(seed, items, clips, classes):
    scores = make(seed, items, clips, classes)
    rows = torch.from_numpy(scores.logits).double().softmax(2).mean(1).numpy()
    np.testing.assert_allclose(video_probabilities(scores), rows, rtol=1e-4)
    for k in (1, 2, 5):
        likeliest = [sorted(range(classes), key=lambda c, row=row: -row[c])[:k] for row in rows]
        right = [label in found for label, found in zip(scores.labels, likeliest, strict=True)]
        assert video_correct(scores, k).tolist() == right
        assert video_at(scores, k) == pytest.approx(np.mean(right))
    clips_right = [np.argmax(row) == label for item, label in enumerate(scores.labels) for row in scores.logits[item]]
    assert clip_at_1(scores) == pytest.approx(np.mean(clips_right))


def test_video_is_right_by_mean_of_softmax_not_of_logits():
    """One loud clip must not outvote two that are sure: the logits' mean says class 1, the softmax's says class 0."""
    logits = np.array([[[4, 0], [4, 0], [0, 60]]], np.float32)
    scores = Scores(logits, np.array([0]), np.array(["v"]), np.array(["g"]), ("a", "b"), {})
    assert logits.mean(1).argmax() == 1 and video_correct(scores).tolist() == [True]


def test_only_ranks_of_unchangeable_scores_are_kept():
    scores = make(0)
    scores.logits.flags.writeable = False
    before = video_correct(scores)
    scores.labels[:] = (scores.labels + 1) % 6
    after = video_correct(scores)
    assert (before != after).any()
    scores.labels.flags.writeable = False
    assert video_correct(scores).tolist() == after.tolist()
    assert [video_at(scores, k) for k in (2, 6)] == [video_correct(scores, 2).mean(), 1]


def test_tie_goes_to_the_earlier_class():
    ones, labels = np.random.default_rng(0).integers(0, 2, 20), np.arange(20)
    logits, names = np.tile(ones.astype(np.float32), (20, 1, 1)), labels.astype(str)
    scores = Scores(logits, labels, names, names, tuple(names), {})
    assert np.flatnonzero(video_correct(scores, 5)).tolist() == np.flatnonzero(ones)[:5].tolist()


def test_family_is_a_choice_among_its_own_classes():
    logits = np.zeros((3, 1, 4), np.float32)
    logits[0, 0] = [1, 2, 9, 0]  # of a and b, b; c does not count
    logits[1, 0] = [3, 2, 9, 0]
    logits[2, 0] = [9, 9, 1, 2]  # of c and d, d
    scores = Scores(
        logits, np.array([1, 1, 3]), np.array(["u", "v", "w"]), np.array(["g", "g", "h"]), tuple("abcd"),
        {"families": {"one": ["a", "b"], "two": ["c", "d"], "in part of this data": ["a", "z"]}},
    )  # fmt: skip
    found = family_correct(scores)
    assert [*found] == ["one", "two"]
    assert found["one"].tolist() == [True, False] and found["two"].tolist() == [True]
    assert video_correct(scores).tolist() == [False, False, False]
