"""Estimates against statsmodels and SciPy, and how often intervals and tests are right in simulations."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from r21d_analysis.statistics import inference
from r21d_analysis.statistics.bartlett import bartlett_p
from r21d_analysis.statistics.inference import (
    Outcomes,
    SeedVariance,
    df_of_same_runs,
    estimate_contrast,
    estimate_difference,
    estimate_mean,
    fold_variance,
    holm,
    seed_variance,
)
from r21d_core import R21DError
from r21d_core.runs.run import load_runs
from r21d_core.runs.scores import Scores

ROOT = Path(__file__).parents[3]
# The variance components that were fitted to the committed records, in points².
NETWORK_RECORDING, NETWORK_VIDEO, SEED_RECORDING, SEED_VIDEO = 77, 59, 292, 319
GROUPS = np.repeat(np.arange(98), np.tile([4, 5, 5, 5, 5, 6, 6], 14))


def simulate(random, networks, seeds, seed=0.0):
    """Networks that are equal on average, (networks, seeds, 504), with a variance `seed` of the runs' means."""

    def effect(variance, *shape):
        return random.normal(0, np.sqrt(variance), shape)

    items = len(GROUPS)
    fixed = effect(NETWORK_RECORDING, networks, 1, 98)[..., GROUPS] + effect(NETWORK_VIDEO, networks, 1, items)
    runs = effect(SEED_RECORDING, networks, seeds, 98)[..., GROUPS] + effect(SEED_VIDEO, networks, seeds, items)
    return fixed + runs + effect(seed, networks, seeds, 1)


def scores(correct, videos=None):
    """Scores of one clip per item that are correct where `correct` says so; two items are of one recording."""
    correct = np.asarray(correct, bool)
    logits = np.stack([correct, ~correct], axis=1)[:, None, :].astype(np.float32)
    names = np.array([f"v{n:03d}" for n in range(len(correct))]) if videos is None else np.array(videos)
    groups = np.array([f"g{n // 2}" for n in range(len(correct))])
    return Scores(logits, np.zeros(len(correct), int), names, groups, ("a", "b"), {"data": "set"})


@pytest.mark.parametrize("correlation", [-1.0, -0.7, 0.0])
def test_degrees_of_freedom_of_two_numbers_of_a_run(correlation):
    """Those of the χ² distribution with the mean and the variance that the pooled mean square has in simulations."""
    random, cholesky = np.random.default_rng(0), np.array([[1, 0], [correlation, np.sqrt(1 - correlation**2)]])
    means = cholesky @ random.normal(size=(4000, 25, 2, 5))  # simulations, networks, numbers, seeds
    squares = means.var(axis=3, ddof=1).mean(axis=(1, 2))
    expected = 2 * squares.mean() ** 2 / squares.var()
    assert expected == pytest.approx(2 * 100 / (1 + correlation**2), rel=0.06)
    found = np.array([df_of_same_runs([*networks]) for networks in means[:500]])
    assert found.mean() == pytest.approx(expected, rel=0.06) and found.min() >= 100 - 1e-9


def test_two_seeds_of_a_network_do_not_tell_dependence():
    random = np.random.default_rng(0)
    assert df_of_same_runs([random.normal(size=(2, 2))]) == pytest.approx(1)
    assert df_of_same_runs([random.normal(size=(1, 4))] * 3) == pytest.approx(9), "a number alone has them all"
    assert df_of_same_runs([np.ones((2, 3))]) == 2, "where nothing varies"


@pytest.mark.parametrize(("seeds", "variance"), [(3, 40.0), (5, 400.0)])
def test_intervals_of_a_fusion_cover(seeds, variance):
    """Of both streams' mean less one; its variance is pooled with that of the mean less the other."""
    random, covered, too_rarely = np.random.default_rng(0), [], []
    for _ in range(1000):
        rgb, flow = simulate(random, 2, seeds, variance)
        pair = [Outcomes((rgb + flow) / 2 - stream, GROUPS) for stream in (rgb, flow)]
        pooled = seed_variance(pair)
        df = df_of_same_runs([np.array([outcomes.values.mean(axis=1) for outcomes in pair])])
        for hits, estimated in ((covered, replace(pooled, df=df)), (too_rarely, pooled)):
            estimate = estimate_mean(pair[:1], estimated)
            hits.append(estimate.low <= 0 <= estimate.high)
    assert np.mean(covered) > 0.93 and np.mean(too_rarely) < 0.92, "with all differences counted it is too narrow"


@pytest.mark.parametrize("seed", [0.0, 4.0])
@pytest.mark.parametrize("seeds", [2, 5])
def test_intervals_cover_and_tests_reject_at_their_rate(seeds, seed):
    random, covered, p = np.random.default_rng(0), [], []
    for _ in range(600):
        values = simulate(random, 4, seeds, seed)
        pooled = seed_variance(Outcomes(network, GROUPS) for network in values)
        estimate = estimate_contrast([([(1, values[0]), (-1, values[1])], GROUPS)], pooled)
        covered.append(estimate.low <= 0 <= estimate.high)
        p.append(estimate.p)
    assert 0.93 <= np.mean(covered) <= 0.97 and 0.03 <= np.mean(np.array(p) < 0.05) <= 0.07
    assert ((np.array(p) >= 0.05) == covered).all(), "interval and p are of one model"


@pytest.mark.parametrize(("seeds", "coverage", "rejected"), [(3, 0.87, 0.14), (5, 0.90, 0.09)])
def test_intervals_cover_less_where_one_baseline_varies_more(seeds, coverage, rejected):
    """Bartlett's test misses it in most of the tables; the docstring of `inference` has these numbers."""
    random, covered, families, missed = np.random.default_rng(0), [], [], []
    for _ in range(400):
        values = simulate(random, 12, seeds)
        values[0] += random.normal(0, 4, (seeds, 1))
        baseline, *others = (Outcomes(network, GROUPS) for network in values)
        pooled = seed_variance([baseline, *others])
        estimates = [estimate_difference([network], [baseline], pooled) for network in others]
        covered += [estimate.low <= 0 <= estimate.high for estimate in estimates]
        families.append(holm([estimate.p for estimate in estimates]).min() < 0.05)
        missed.append(pooled.equal)
    assert np.mean(covered) == pytest.approx(coverage, abs=0.01)
    assert np.mean(families) == pytest.approx(rejected, abs=0.01) and np.mean(missed) > 0.6


@pytest.mark.parametrize("sides", [1, 2])
def test_recording_part_is_statsmodels_cluster_robust(sides):
    random = np.random.default_rng(1)
    groups, values = random.integers(0, 20, 100), random.random((sides, 1, 100))
    arms = list(zip((1, -1), values, strict=False))
    estimate = estimate_contrast([(arms, groups)])
    outcome = values[0, 0] - values[1, 0] if sides == 2 else values[0, 0]
    fit = sm.OLS(outcome, np.ones(100)).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    expected = fit.params[0], *fit.conf_int()[0], fit.pvalues[0]
    np.testing.assert_allclose((estimate.value, estimate.low, estimate.high, estimate.p), expected)
    assert (estimate.recordings, estimate.items, estimate.seeds, estimate.df) == (20, 100, 1, 19)


def test_seed_variance_is_estimated_without_bias():
    random = np.random.default_rng(0)
    found = [seed_variance(Outcomes(v, GROUPS) for v in simulate(random, 12, 3, 9.0)) for _ in range(60)]
    assert np.mean([pooled.value for pooled in found]) == pytest.approx(9, abs=1.2) and found[0].df == 24
    assert seed_variance([Outcomes(np.ones((1, 9)), np.arange(9))]) == SeedVariance()


def test_unequal_seed_variances_are_not_pooled():
    random = np.random.default_rng(0)
    values = simulate(random, 12, 3)
    values[2] += np.array([[-30.0], [0.0], [30.0]])  # runs that sometimes fail
    members = [Outcomes(network, GROUPS) for network in values]
    equal, pooled = seed_variance(members[:2] + members[3:]), seed_variance(members)
    assert (equal.equal, pooled.equal) == (True, False)
    apart = [estimate_difference(members[n : n + 1], members[:1], pooled) for n in (1, 2)]
    assert apart == [estimate_difference(members[n : n + 1], members[:1]) for n in (1, 2)]
    assert apart[0].seed_part < 10 < pooled.value < 100 < apart[1].seed_part
    alone = Outcomes(values[1][:1], GROUPS), Outcomes(values[0][:1], GROUPS)
    assert estimate_difference(alone[:1], alone[1:], pooled).seed_part == pytest.approx(2 * pooled.value)


def test_unequal_seed_variances_count_by_their_weights():
    """Where all videos move with the seed alone, the interval is Welch's; with the variances' mean it is narrower."""
    shifts = [[-30.0, 30.0], [-1.0, 1.0], [-1.0, 0.0, 1.0], [0.0, 1.0, 2.0]]
    arms = [(w, np.array(s)[:, None] + np.zeros(98)) for w, s in zip((0.5, 0.5, -0.5, -0.5), shifts, strict=True)]
    pooled = seed_variance(Outcomes(values, np.arange(98)) for _, values in arms)
    welch = inference.estimate_sum_of_means([(weight, values.mean(axis=1)) for weight, values in arms])
    estimate = estimate_contrast([(arms, np.arange(98))], pooled)
    assert not pooled.equal and (estimate.value, estimate.low) == pytest.approx((welch.value, welch.low))
    assert estimate_contrast([(arms, np.arange(98))], replace(pooled, equal=True)).low > estimate.low + 50
    pair = [(1, arms[0][1]), (-1, arms[2][1])]  # of two networks it is Welch's where their numbers of seeds differ
    welch = inference.estimate_sum_of_means([(weight, values.mean(axis=1)) for weight, values in pair])
    assert estimate_contrast([(pair, np.arange(98))], pooled).low == pytest.approx(welch.low)
    halves = [(arms, np.arange(98)), (arms, np.arange(98, 196))]  # a second split, with the same runs
    assert estimate_contrast(halves, pooled).seed_part == pytest.approx(estimate.seed_part / 2)
    single = [*arms[1:], (0.5, arms[0][1][:1])]
    assert estimate_contrast([(single, np.arange(98))], pooled).seed_part < 2, "a network with one seed has no own"
    constant = 10 * np.outer([1, -1], np.resize([1, -1], 98))  # its runs have one mean, by items that cancel out
    mixed = [*arms[:1], *((weight, constant) for weight in (-0.25, -0.25))]
    less = 0.25**2 / 2 * -2 * 10**2 / 97  # its variance by recordings, which is all that its seeds show, below zero
    part = estimate_contrast([(mixed, np.arange(98))], replace(pooled, equal=False)).seed_part
    assert part == pytest.approx(0.5**2 / 2 * 1800 + 2 * less), "no part is cut off at zero, only their sum"


@pytest.mark.parametrize("run", [0.0, 9.0])
def test_folds_with_one_seed_show_the_variance_of_runs(run):
    """Twelve equal networks on five folds of three speakers, one run each."""
    random, speakers, p, naive, found = np.random.default_rng(0), np.repeat(np.arange(3), 20), [], [], []
    for _ in range(500):
        networks = [[] for _ in range(12)]
        for fold in range(5):
            values = random.normal(0, 5, (12, 1, 3))[..., speakers] + random.normal(0, 20, (12, 1, 60))
            values += random.normal(0, np.sqrt(run), (12, 1, 1))
            for network, row in zip(networks, values, strict=True):
                network.append(Outcomes(row, speakers + 3 * fold))
        found.append(fold_variance(networks))
        estimate = estimate_difference(networks[0], networks[1], found[-1])
        unknown = estimate_difference(networks[0], networks[1])
        assert estimate.tested and not unknown.tested
        p.append(estimate.p)
        naive.append(unknown.p)
    assert found[0].df == 44 and 0.02 <= np.mean(np.array(p) < 0.05) <= 0.07
    assert (np.mean(np.array(naive) < 0.05) > 0.1) == (run > 0), "as if there were no variance of runs"
    assert run - 0.5 < np.mean([variance.value for variance in found]) < run + 2
    assert fold_variance([]) == SeedVariance()
    assert fold_variance([networks[0]]) == fold_variance([network[:1] for network in networks]) == SeedVariance()


def test_seed_variance_widens_the_interval():
    values, pooled = np.eye(20)[None] * 100, SeedVariance(9.0, 12.0, 24)
    alone, widened = (estimate_mean([Outcomes(values[0, :1], np.arange(20))], seeds) for seeds in (None, pooled))
    assert widened.seed_part == 9 and widened.high - widened.low > alone.high - alone.low
    assert widened.recording_variance == alone.recording_variance
    uncertain = SeedVariance(1.0, 10.0, 1)  # most of the mean square is of interactions
    assert estimate_mean([Outcomes(np.ones((1, 20)), np.arange(20))], uncertain).df == 1, "never less"


def test_seed_variance_counts_by_the_squares_of_weights():
    pooled, ones = SeedVariance(9.0, 12.0, 24), np.ones((4, 20))
    arms = [(0.5, ones[:1]), (0.5, ones[:2]), (-1, ones)]
    split = arms, np.arange(20)
    part = 9 * (0.5**2 / 1 + 0.5**2 / 2 + 1 / 4)
    assert estimate_contrast([split], pooled).seed_part == pytest.approx(part)
    assert estimate_contrast([split, split, split], pooled).seed_part == pytest.approx(part / 3), "runs of each split"


def test_splits_count_alike_whatever_their_size():
    groups = [np.array([f"{split}{n // 2}" for n in range(count)]) for split, count in (("a", 10), ("b", 30))]
    ones, zeros = ([Outcomes(np.full((1, len(g)), value), g) for g in groups] for value in (100.0, 0.0))
    assert estimate_difference(ones, [zeros[0], ones[1]]).value == 50
    twice = [Outcomes(np.random.default_rng(0).random((1, 30)), groups[1])] * 2
    once, both = estimate_mean(twice[:1]), estimate_mean(twice)
    assert both.recordings == once.recordings == 15 and both.items == 60, "a recording in two splits is one cluster"
    assert both.high - both.low == pytest.approx(once.high - once.low, rel=0.1)


def test_same_weights_are_compared_seed_by_seed():
    values = np.stack([np.full(50, 100.0), np.zeros(50)])
    a = Outcomes(values, np.arange(50))
    paired = estimate_mean([a - a])
    assert (paired.value, paired.low, paired.high, paired.p) == (0, 0, 0, 1)
    apart = estimate_difference([a], [a])
    assert (apart.value, apart.low, apart.high) == (0, -100, 100), "no more than is possible"


@given(st.integers(1, 5), st.integers(1, 3), st.sampled_from([0, 0.5, 1]), st.integers(0, 99))
def test_edge_cases_have_sound_estimates(recordings, seeds, share, draw):
    values = 100.0 * (np.random.default_rng(draw).random((seeds, 12)) < share)
    outcomes = Outcomes(values, np.arange(12) % recordings)
    estimate = inference.estimate_accuracy([outcomes])
    assert estimate.value == pytest.approx(values.mean()) and estimate.seeds == seeds
    if recordings == 1 or share in (0, 1):
        assert np.isnan([estimate.low, estimate.high]).all()
        assert inference.format_interval(estimate.low, estimate.high) == "–"
    elif not np.isnan(estimate.low):
        assert 0 <= estimate.low <= estimate.value <= estimate.high <= 100
    difference = estimate_difference([outcomes], [outcomes])
    assert difference.value == 0 and (difference.p == 1 or np.isnan(difference.p))
    assert np.isnan(difference.low) or difference.low < 0 < difference.high
    no_p = seeds == 1 or np.isnan([difference.p, estimate.p]).all()
    assert np.isnan(inference.family_p([difference, estimate])).all() == no_p


def test_rounding_is_no_variance():
    a_third = Outcomes(np.array([[100.0] * 499, [0.0] * 499, [0.0] * 499]), np.arange(499) % 5)
    none = Outcomes(np.zeros((3, 499)), a_third.groups)
    difference = estimate_difference([a_third], [none], SeedVariance())
    assert (
        difference.value == pytest.approx(100 / 3) and np.isnan([difference.low, difference.high, difference.p]).all()
    )
    right = np.random.default_rng(0).permuted(np.tile([100.0, 0, 0, 0], (37, 1)), axis=1)  # one of four for each video
    estimate = inference.estimate_accuracy([Outcomes(right.reshape(1, -1), np.arange(37).repeat(4) % 7)])
    assert estimate.value == 25 and np.isnan([estimate.low, estimate.high, estimate.p]).all()


def test_holm_is_statsmodels():
    p = np.random.default_rng(0).random(20) ** 3
    np.testing.assert_allclose(inference.holm(p), multipletests(p, method="holm")[1])
    np.testing.assert_allclose(inference.holm([np.nan, 0.01, np.nan, 0.04]), [np.nan, 0.02, np.nan, 0.04])
    assert len(inference.holm([])) == 0


def test_correlation_is_spearmans_with_the_luck_of_seeds():
    random = np.random.default_rng(0)
    values = [100.0 * (random.random((3, 200)) < share) for share in np.arange(1, 9) / 9]
    networks = [Outcomes(value, np.arange(200) // 4) for value in values]
    same = inference.estimate_correlation(networks, networks, SeedVariance())
    assert (same.value, same.low, same.high, same.recordings) == (1, 1, 1, 50) and np.isnan(same.p)
    noisy = inference.estimate_correlation(networks, networks[::-1], SeedVariance(900.0, 900.0, 9))
    assert noisy.value == pytest.approx(stats.spearmanr(np.arange(8), -np.arange(8)).statistic) and noisy.high > -0.8
    assert np.isnan(inference.spearman(np.ones(3), np.arange(3)))
    assert np.isnan(inference.spearman(np.array([1, 2, np.nan]), np.arange(3)))
    rows = random.integers(0, 6, (2, 20, 12))  # with ties
    expected = [stats.spearmanr(a, b).statistic for a, b in zip(*rows, strict=True)]
    np.testing.assert_allclose(inference.spearman(*rows), expected, rtol=1e-12)


def test_sum_of_means_is_welchs():
    a, b = np.array([3.0, 4.0, 6.0]), np.array([1.0, 1.5])
    estimate = inference.estimate_sum_of_means([(1, a), (-1, b)])
    expected = stats.ttest_ind(a, b, equal_var=False)
    assert estimate.value == pytest.approx(a.mean() - b.mean()) and estimate.items == 5
    assert (estimate.low, estimate.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert np.isnan(inference.estimate_sum_of_means([(1, a), (-1, b[:1])]).low)
    constant = inference.estimate_sum_of_means([(1, np.full(3, 0.7)), (-1, np.zeros(2))])
    assert constant.value == pytest.approx(0.7) and np.isnan([constant.low, constant.high]).all()
    pooled = inference.estimate_sum_of_means([(1, a), (-1, b)], [a, b, b[:1]])
    expected = stats.ttest_ind(a, b).confidence_interval()
    assert (pooled.low, pooled.high) == pytest.approx((expected.low, expected.high))
    assert inference.estimate_sum_of_means([(1, a), (-1, b)], [a, b, 100 * a]) == estimate, "their variances differ"


def test_outcomes_are_of_equal_items():
    outcomes = inference.correct_by_seed([scores([1, 0, 1, 1]), scores([1, 1, 0, 1])])
    assert outcomes.values.tolist() == [[100, 0, 100, 100], [100, 100, 0, 100]]
    assert outcomes.groups.tolist() == ["g0", "g0", "g1", "g1"]
    for others in (scores([1, 0, 1]), scores([1, 0], ["x", "y"])):
        with pytest.raises(R21DError, match="different videos"):
            inference.correct_by_seed([scores([1, 0]), others])


def test_committed_records_name_the_recordings_of_the_manifests():
    table = {}
    for path in (ROOT / "data_manifests").glob("*.csv"):
        with path.open(encoding="utf-8-sig", newline="") as file:
            table[path.stem] = {row["video"]: row["group"] for row in csv.DictReader(file)}
    for pack in (ROOT / "results").glob("*.zip"):
        seen = {}
        for run in load_runs(pack):
            seen.setdefault((run.spec.data, run.spec.task), run)
        for (data, _), run in seen.items():
            record = run.scores
            wanted = [table[data][v] if data in table else f"scene {Path(v).stem[1:]}" for v in record.videos]
            assert record.groups.tolist() == wanted
            if data == "ucf101-14-split1":
                assert (len(set(record.groups)), len(set(record.videos))) == (98, 499)


@given(st.lists(st.integers(2, 5), min_size=2, max_size=12), st.integers(0, 99))
def test_equal_variances_are_tested_as_scipy_does(sizes, draw):
    samples = [np.random.default_rng([draw, n]).normal(0, 1 + draw * n / 99, size) for n, size in enumerate(sizes)]
    assert bartlett_p(samples) == pytest.approx(stats.bartlett(*samples).pvalue, rel=1e-9)
