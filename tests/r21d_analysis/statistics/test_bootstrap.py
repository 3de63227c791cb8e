"""Estimates, intervals and tests against SciPy's, against enumeration, and by how often they are right."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from r21d_analysis.statistics import bootstrap as inference
from r21d_analysis.statistics.bootstrap import (
    Outcomes,
    bootstrap_ci,
    compare,
    compare_splits,
    correct_by_seed,
    estimate_correlation,
    estimate_difference,
    estimate_mean,
    estimate_sum_of_means,
    format_interval,
    holm,
    mean_per_video,
    required_sample_size,
)
from r21d_core import R21DError
from r21d_core.runs.scores import Scores


def scores(correct, videos=None):
    """Scores of one clip per item that are correct where `correct` says so."""
    correct = np.asarray(correct, bool)
    logits = np.stack([correct, ~correct], axis=1)[:, None, :].astype(np.float32)
    names = np.array([f"v{n:03d}" for n in range(len(correct))]) if videos is None else np.array(videos)
    return Scores(logits, np.zeros(len(correct), int), names, names, ("a", "b"), {"data": "set"})


def outcomes(values):
    return Outcomes(np.asarray(values, float), np.array([f"v{n:03d}" for n in range(np.shape(values)[1])]))


def test_items_of_a_video_are_averaged():
    np.testing.assert_allclose(mean_per_video(np.array([1, 0, 1, 1]), np.array(["b", "b", "a", "b"])), [1, 2 / 3])


def test_interval_of_one_seed_is_a_bootstrap_over_videos():
    values = np.random.default_rng(1).random(300) < 0.6
    estimate = estimate_mean([outcomes(values[None])])
    expected = stats.bootstrap((values,), np.mean, method="percentile", rng=2).confidence_interval
    assert estimate.value == pytest.approx(100 * values.mean()) and estimate.videos == 300
    assert estimate[1:3] == pytest.approx((100 * expected.low, 100 * expected.high), abs=0.5)
    assert np.isnan(estimate.p)


def test_interval_of_seeds_that_disagree_is_wider():
    random = np.random.default_rng(0)
    seeds = np.stack([random.random(400) < fraction for fraction in (0.5, 0.7)]).astype(float)
    one, both = bootstrap_ci([seeds.mean(0, keepdims=True)]), bootstrap_ci([seeds])
    assert both[0] < one[0] - 0.03 and both[1] > one[1] + 0.03


@pytest.mark.slow
def test_intervals_cover_the_truth_at_their_rate():
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        low, high = bootstrap_ci([(random.random(200) < 0.55)[None].astype(float)])
        covered += low <= 0.55 <= high
    assert 88 <= covered <= 100  # 95 expected; fewer than 88 has a probability of 0.2 %


def test_single_video_has_no_interval():
    assert np.isnan(bootstrap_ci([np.ones((1, 1))])).all()
    assert np.isnan(bootstrap_ci([np.ones((1, 9)), np.ones((1, 1))])).all()
    assert format_interval(np.nan, np.nan) == "–" and format_interval(-1, 2.04, "+.1f") == "-1.0 to +2.0"


def test_interval_over_splits_is_a_bootstrap_within_each(monkeypatch):
    monkeypatch.setattr(inference, "RESAMPLES", 4000)
    random = np.random.default_rng(1)
    splits = [random.random((1, n)) < fraction for n, fraction in ((40, 0.5), (90, 0.8), (300, 0.3))]
    drawn = np.mean([random.choice(split[0], (4000, split.shape[1])).mean(axis=1) for split in splits], axis=0)
    assert bootstrap_ci(splits) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.012)
    assert bootstrap_ci([np.ones((2, 9)), np.zeros((1, 5))]) == (0.5, 0.5)


def test_interval_over_splits_includes_the_variance_over_seeds():
    values = np.stack([np.ones(50), np.zeros(50)])
    # both draws give the same seed of the first split, whatever is drawn in the other
    assert bootstrap_ci([values, np.ones((2, 50))]) == (0.5, 1.0)


def test_same_seeds_on_both_sides_cancel():
    values = np.stack([np.ones(50), np.zeros(50)])
    assert estimate_difference([outcomes(values)], [outcomes(values)], same_seeds=True)[:3] == (0, 0, 0)
    apart = estimate_difference([outcomes(values)], [outcomes(values)])
    assert apart[:3] == (0, -100, 100)


def test_comparison_of_two_runs_is_mcnemars():
    random = np.random.default_rng(0)
    a, b = random.random(60) < 0.7, random.random(60) < 0.5
    estimate = compare([scores(a)], [scores(b)])
    better, worse = (a & ~b).sum(), (~a & b).sum()
    assert estimate.p == pytest.approx(stats.binomtest(int(better), int(better + worse)).pvalue)
    assert estimate.value == pytest.approx(100 * (a.mean() - b.mean()))
    assert estimate.low < estimate.value < estimate.high and estimate.videos == 60


def test_comparison_of_several_seeds_swaps_networks_at_random():
    """Against all of the 2^10 swaps."""
    random = np.random.default_rng(5)
    a, b = random.random((2, 10)) < 0.9, random.random((2, 10)) < 0.4
    estimate = compare([scores(seed) for seed in a], [scores(seed) for seed in b])
    difference = a.mean(0) - b.mean(0)
    swaps = np.array([np.mean(difference * signs) for signs in product((1, -1), repeat=10)])
    exact = (np.abs(swaps) >= abs(difference.mean()) - 1e-12).mean()
    assert estimate.p == pytest.approx(exact, abs=1e-9)


def test_network_does_not_differ_from_itself():
    same = [scores(np.arange(40) % 3 == 0)]
    assert compare(same, same) == (0, 0, 0, 40, 1)


def test_p_over_equal_splits_is_mcnemars(monkeypatch):
    monkeypatch.setattr(inference, "RESAMPLES", 199)
    random = np.random.default_rng(2)
    a, b = random.random((2, 2, 40)) < [[[0.8]], [[0.5]]]
    names = [[f"{split}-{n:02d}" for n in range(40)] for split in range(2)]
    pairs = [([scores(a[s], names[s])], [scores(b[s], names[s])]) for s in range(2)]
    estimate = compare_splits(pairs)
    better, worse = (a & ~b).sum(), (b & ~a).sum()
    assert estimate.p == pytest.approx(stats.binomtest(int(better), int(better + worse)).pvalue)
    assert estimate.value == pytest.approx(100 * (better - worse) / 80) and estimate.videos == 80
    assert estimate.low < estimate.value < estimate.high
    # the same videos tested in both splits are swapped together, so p is that of one split
    twice, alone = compare_splits([pairs[0], pairs[0]]), compare(*pairs[0])
    assert twice.value == alone.value and twice.p == pytest.approx(alone.p, abs=0.02)


def test_splits_count_alike_whatever_their_size():
    names = [f"a{n}" for n in range(10)], [f"b{n:02d}" for n in range(30)]
    first = [scores([1] * 10, names[0])], [scores([0] * 10, names[0])]
    second = [scores([1] * 30, names[1])], [scores([1] * 30, names[1])]
    assert compare_splits([first, second]).value == 50


def test_runs_on_different_videos_are_not_compared():
    with pytest.raises(R21DError, match="different videos"):
        compare([scores([1, 0])], [scores([1, 0, 1])])
    with pytest.raises(R21DError, match="different videos"):
        correct_by_seed([scores([1, 0]), scores([1, 0], ["x", "y"])])


def test_sum_of_means_is_welchs():
    a, b = np.array([3.0, 4.0, 6.0]), np.array([1.0, 1.5])
    estimate = estimate_sum_of_means([(1, a), (-1, b)])
    expected = stats.ttest_ind(a, b, equal_var=False)
    assert estimate.value == pytest.approx(a.mean() - b.mean()) and estimate.videos == 5
    assert estimate[1:3] == pytest.approx(tuple(expected.confidence_interval()))
    assert np.isnan(estimate_sum_of_means([(1, a), (-1, b[:1])]).low)
    assert estimate_sum_of_means([(1, np.ones(2)), (-1, np.zeros(2))])[:3] == (1, 1, 1)


def test_correlation_of_equal_orders_is_one():
    rows = [outcomes([np.arange(40) < n]) for n in (8, 18, 30)]
    estimate = estimate_correlation(rows, rows, resamples=99)
    assert estimate[:4] == (1, 1, 1, 40)
    assert estimate_correlation(rows, rows[::-1], resamples=99).value == -1


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    assert len(holm([])) == 0


def test_required_sample_size_has_its_power():
    """By simulation: a paired t-test on that many videos drawn from the observed ones."""
    random = np.random.default_rng(3)
    a, b = random.random(400) < 0.62, random.random(400) < 0.5
    needed = required_sample_size([scores(a)], [scores(b)])
    drawn = random.choice(a.astype(float) - b, (2000, int(needed)))
    assert (stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.03)
    assert required_sample_size([scores(a)], [scores(a)]) == np.inf


@pytest.mark.parametrize("fraction", [1e-1, 2e-2, 1e-3, 1e-5])
def test_required_sample_size_of_a_tiny_difference(fraction):
    """Of 200,000 videos a fraction differs between the networks; the expected size is the normal distribution's."""
    a, b = np.zeros(200_000, bool), np.zeros(200_000, bool)
    a[: round(fraction * 200_000)] = True
    needed = required_sample_size([scores(a)], [scores(b)])
    assert needed == pytest.approx((1.95996 + 0.84162) ** 2 * (1 - fraction) / fraction, rel=1e-3, abs=3)
