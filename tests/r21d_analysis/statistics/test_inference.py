"""Intervals and tests against SciPy's, against enumeration, and by how often they are right."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from r21d_analysis.statistics.inference import (
    bootstrap_ci,
    compare,
    correct_by_seed,
    holm,
    per_video,
    required_sample_size,
)
from r21d_core import R21DError
from r21d_core.runs.scores import Scores


def scores(right, videos=None):
    """Scores of one clip an item that are right where `right` says so."""
    right = np.asarray(right, bool)
    logits = np.stack([right, ~right], axis=1)[:, None, :].astype(np.float32)
    names = np.array([f"v{n:03d}" for n in range(len(right))]) if videos is None else np.array(videos)
    return Scores(logits, np.zeros(len(right), int), names, ("a", "b"), {"data": "set"})


def test_items_of_a_video_are_averaged():
    np.testing.assert_allclose(per_video(np.array([1, 0, 1, 1]), np.array(["b", "b", "a", "b"])), [1, 2 / 3])


def test_interval_of_one_seed_is_the_bootstrap_over_videos():
    values = np.random.default_rng(1).random(300) < 0.6
    low, high = bootstrap_ci(values[None].astype(float))
    wanted = stats.bootstrap((values,), np.mean, method="percentile", rng=2).confidence_interval
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=0.005)


def test_interval_of_seeds_that_disagree_is_wider():
    random = np.random.default_rng(0)
    seeds = np.stack([random.random(400) < share for share in (0.5, 0.7)]).astype(float)
    one, both = bootstrap_ci(seeds.mean(0, keepdims=True)), bootstrap_ci(seeds)
    assert both[0] < one[0] - 0.03 and both[1] > one[1] + 0.03


@pytest.mark.slow
def test_intervals_hold_the_truth_about_as_often_as_they_say():
    random = np.random.default_rng(0)
    held = 0
    for _ in range(100):
        low, high = bootstrap_ci((random.random(200) < 0.55)[None].astype(float))
        held += low <= 0.55 <= high
    assert 88 <= held <= 100  # 95 expected; fewer than 88 has a chance of 0.2 %


def test_a_single_video_has_no_interval():
    assert np.isnan(bootstrap_ci(np.ones((1, 1)))).all()


def test_comparison_of_two_runs_is_mcnemars():
    random = np.random.default_rng(0)
    one, other = random.random(60) < 0.7, random.random(60) < 0.5
    result = compare([scores(one)], [scores(other)])
    better, worse = (one & ~other).sum(), (~one & other).sum()
    assert result["p"] == pytest.approx(stats.binomtest(int(better), int(better + worse)).pvalue)
    assert result["difference"] == pytest.approx(one.mean() - other.mean())
    assert result["low"] < result["difference"] < result["high"] and result["videos"] == 60


def test_comparison_of_several_seeds_swaps_networks_at_random():
    """Against every one of the 2^10 swaps."""
    random = np.random.default_rng(5)
    one, other = random.random((2, 10)) < 0.9, random.random((2, 10)) < 0.4
    result = compare([scores(seed) for seed in one], [scores(seed) for seed in other])
    difference = one.mean(0) - other.mean(0)
    swaps = np.array([np.mean(difference * signs) for signs in product((1, -1), repeat=10)])
    exact = (np.abs(swaps) >= abs(difference.mean()) - 1e-12).mean()
    assert result["p"] == pytest.approx(exact, abs=1e-9)


def test_a_network_against_itself():
    same = [scores(np.arange(40) % 3 == 0)]
    assert compare(same, same) == {"difference": 0, "low": 0, "high": 0, "p": 1, "videos": 40}


def test_runs_on_different_videos_are_not_compared():
    with pytest.raises(R21DError, match="different videos"):
        compare([scores([1, 0])], [scores([1, 0, 1])])
    with pytest.raises(R21DError, match="different videos"):
        correct_by_seed([scores([1, 0]), scores([1, 0], ["x", "y"])])


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    assert len(holm([])) == 0


def test_videos_needed_show_the_difference_four_times_in_five():
    """By simulation: that many videos drawn anew from those that were seen, and a paired t-test on them."""
    random = np.random.default_rng(3)
    one, other = random.random(400) < 0.62, random.random(400) < 0.5
    needed = required_sample_size([scores(one)], [scores(other)])
    difference = one.astype(float) - other
    drawn = random.choice(difference, (2000, int(needed)))
    assert (stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.03)
    assert required_sample_size([scores(one)], [scores(one)]) == np.inf


@pytest.mark.parametrize("share", [1e-1, 2e-2, 1e-3, 1e-5])
def test_videos_needed_of_a_difference_that_is_hardly_any(share):
    """Two hundred thousand videos of which so many tell the networks apart, by the normal distribution's power."""
    one, other = np.zeros(200_000, bool), np.zeros(200_000, bool)
    one[: round(share * 200_000)] = True
    needed = required_sample_size([scores(one)], [scores(other)])
    assert needed == pytest.approx((1.95996 + 0.84162) ** 2 * (1 - share) / share, rel=1e-3, abs=3)
