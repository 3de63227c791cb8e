"""Turns per-video outcomes of seeds into estimates with 95 % intervals and p-values; no other module does.

`Outcomes` is the common input. A cluster of each video, such as its recording, would be one more field of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from r21d_core import R21DError
from r21d_core.runs.metrics import video_correct
from r21d_core.runs.scores import Scores

RESAMPLES = 9_999
CONFIDENCE = 0.95
TAILS = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
Z = float(stats.norm.ppf(TAILS[1]))


class Outcomes(NamedTuple):
    """How often each seed of a network is right on each video, or a difference or mean of such values."""

    values: np.ndarray  # (seeds, videos), fractions
    videos: np.ndarray  # (videos,) names, sorted


class Estimate(NamedTuple):
    """A mean or a difference of means in per cent, with its 95 % interval; NaN where it is not defined."""

    value: float
    low: float
    high: float
    videos: int = 0  # a video tested in several splits counts in each
    p: float = np.nan  # two-sided

    @property
    def error_bar(self) -> list[list[float]]:
        """The distances to `low` and `high`, as `Axes.errorbar` takes them."""
        return [[self.value - self.low], [self.high - self.value]]


def format_interval(low: float, high: float, spec: str = ".1f") -> str:
    """The text of an interval such as `1.2 to 3.4`, or a dash for NaN."""
    return "–" if np.isnan(low) else f"{low:{spec}} to {high:{spec}}"


def mean_per_video(values: np.ndarray, videos: np.ndarray) -> np.ndarray:
    """The mean of `values` (items,) over the items of each video, in the order of the videos' names.

    The items of one video, such as a clip at four playback rates, are not independent.
    """
    _, index = np.unique(videos, return_inverse=True)
    return np.bincount(index, values) / np.bincount(index)


def correct_by_seed(seeds: Sequence[Scores], correct: Callable[[Scores], np.ndarray] = video_correct) -> Outcomes:
    """The Outcomes of one network's seeds; `correct` gives a value for each item, (items,).

    Raises R21DError if the seeds were not evaluated on the same items.
    """
    for scores in seeds[1:]:
        check_same_items(seeds[0], scores)
    values = np.array([mean_per_video(correct(scores), scores.videos) for scores in seeds])
    return Outcomes(values, np.unique(seeds[0].videos))


def estimate_mean(splits: Sequence[Outcomes]) -> Estimate:
    """The mean over splits of one network's mean, by a bootstrap over videos and seeds."""
    values = [split.values for split in splits]
    low, high = bootstrap_ci(values)
    return _percent(float(np.mean([split.mean() for split in values])), low, high, splits)


def estimate_difference(
    splits: Sequence[Outcomes], baselines: Sequence[Outcomes], *, same_seeds: bool = False, test: bool = False
) -> Estimate:
    """The mean over splits of `splits` minus `baselines` on the same videos, by a paired bootstrap.

    `same_seeds`: both sides are made of the same trained networks, seed by seed, so one draw of seeds serves both.
    `test` adds p, two-sided over videos: McNemar's exact test where a video is right or wrong, else random swaps of
    the two networks' outcomes on a video. p averages over seeds, so it speaks of these networks alone.
    """
    values, less = ([split.values for split in side] for side in (splits, baselines))
    low, high = (
        bootstrap_ci([a - b for a, b in zip(values, less, strict=True)]) if same_seeds else bootstrap_ci(values, less)
    )
    differences = [a.mean(axis=0) - b.mean(axis=0) for a, b in zip(values, less, strict=True)]
    p = np.nan
    if test:
        # Weights make splits count alike; a video that several splits test is swapped in all of them together.
        count = sum(map(len, differences))
        weighted = np.concatenate([count / (len(splits) * len(split)) * split for split in differences])
        _, index = np.unique(np.concatenate([split.videos for split in splits]), return_inverse=True)
        p = _permutation_p(np.bincount(index, weighted))
    return _percent(float(np.mean([split.mean() for split in differences])), low, high, splits, p)


def compare_splits(
    splits: Sequence[tuple[Sequence[Scores], Sequence[Scores]]], *, same_seeds: bool = False
) -> Estimate:
    """`estimate_difference` in video@1 with p, of the scores of two networks' seeds in each split.

    Raises R21DError if the two networks were not evaluated on the same items.
    """
    for network, baseline in splits:
        check_same_items(network[0], baseline[0])
    sides = ([correct_by_seed(seeds) for seeds in side] for side in zip(*splits, strict=True))
    return estimate_difference(*sides, same_seeds=same_seeds, test=True)


def compare(network: Sequence[Scores], baseline: Sequence[Scores]) -> Estimate:
    """`compare_splits` for a single split."""
    return compare_splits([(network, baseline)])


def estimate_correlation(networks: Sequence[Outcomes], others: Sequence[Outcomes], resamples: int = 999) -> Estimate:
    """Spearman's rank correlation of two rows of networks' accuracies, by a bootstrap over the videos; not in per cent.

    All Outcomes are of the same videos; seeds are averaged.
    """
    rows = [np.array([network.values.mean(axis=0) for network in row]) for row in (networks, others)]
    count = rows[0].shape[1]
    drawn = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=resamples)
    low, high = np.nanquantile([spearman(*(row @ weights for row in rows)) for weights in drawn], TAILS)
    return Estimate(spearman(*(row.mean(axis=1) for row in rows)), float(low), float(high), count)


def estimate_sum_of_means(samples: Sequence[tuple[float, np.ndarray]]) -> Estimate:
    """Welch's interval of the weighted sum of the means of `samples`, (weight, values of the seeds); in their unit.

    It is for numbers of a run that its videos do not have, such as its training error. `videos` counts runs.
    """
    count = sum(len(values) for _, values in samples)
    value = float(sum(weight * values.mean() for weight, values in samples))
    if min(len(values) for _, values in samples) < 2 or np.isnan(value):
        return Estimate(value, np.nan, np.nan, count)
    variances = np.array([weight**2 * values.var(ddof=1) / len(values) for weight, values in samples])
    if not variances.sum():
        return Estimate(value, value, value, count)
    freedom = variances.sum() ** 2 / (variances**2 / [len(values) - 1 for _, values in samples]).sum()
    half = float(stats.t.ppf(TAILS[1], freedom) * np.sqrt(variances.sum()))
    return Estimate(value, value - half, value + half, count)


def bootstrap_ci(values: Sequence[np.ndarray], less: Sequence[np.ndarray] | None = None) -> tuple[float, float]:
    """The 95 % percentile interval of the mean over splits of `values`, minus that of `less` on the same videos.

    Each split is (seeds, videos). Videos and seeds are drawn within each split; a video drawn is drawn for all seeds
    and for both networks. The interval of one seed ignores the variance over seeds; two or three understate it. A
    video that several splits test is drawn in each by itself, which makes the interval a little narrow.
    """
    random = np.random.default_rng(0)
    if min(split.shape[1] for split in values) < 2:
        return np.nan, np.nan
    means = np.zeros(RESAMPLES)
    for split, baseline in zip(values, less or [None] * len(values), strict=True):
        count = split.shape[1]
        for draw in range(RESAMPLES):
            weights = np.bincount(random.integers(count, size=count), minlength=count).astype(float)
            means[draw] += _resample_mean(split, weights, random)
            means[draw] -= 0 if baseline is None else _resample_mean(baseline, weights, random)
    low, high = np.quantile(means / len(values), TAILS)
    return float(low), float(high)


def bootstrap_ci_one_seed(values: np.ndarray) -> tuple[float, float]:
    """`bootstrap_ci` of one seed's `values` (videos,), in milliseconds for tens of thousands of videos.

    The values are few different ones, and how often each is drawn is multinomial.
    """
    if len(values) < 2:
        return np.nan, np.nan
    levels, counts = np.unique(values, return_counts=True)
    drawn = np.random.default_rng(0).multinomial(len(values), counts / len(values), size=RESAMPLES)
    low, high = np.quantile(drawn @ levels / len(values), TAILS)
    return float(low), float(high)


def wilson_ci(correct: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95 % interval of the fraction correct / n, which is sound for few videos, where a bootstrap is not."""
    from statsmodels.stats.proportion import proportion_confint  # slow to import

    low, high = proportion_confint(correct, n, 1 - CONFIDENCE, method="wilson")
    return np.asarray(low), np.asarray(high)


def bonett_price_ci(better: np.ndarray, worse: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bonett and Price's 95 % interval (2012) of the paired difference (better - worse) / n, sound for few videos."""
    up, down = (better + 1) / (n + 2), (worse + 1) / (n + 2)
    half = Z * np.sqrt((up + down - (up - down) ** 2) / (n + 2))
    return np.maximum(up - down - half, -1), np.minimum(up - down + half, 1)


def mcnemar_p(better: np.ndarray, worse: np.ndarray) -> np.ndarray:
    """The two-sided p of McNemar's exact test, from the counts of videos that one network alone has right."""
    return np.minimum(1, 2 * stats.binom.cdf(np.minimum(better, worse), better + worse, 0.5))


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """`p` values corrected for their number by Holm's method."""
    # Not by statsmodels, which collects the garbage of the whole process each time: too slow for a widget.
    p, corrected = np.asarray(p, float), np.empty(len(p))
    order = np.argsort(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected


def required_sample_size(network: Sequence[Scores], baseline: Sequence[Scores], power: float = 0.8) -> float:
    """How many test videos would show the observed difference at 5 % with `power`; inf for no difference.

    By the power of the paired t-test on the seeds' means; the variance over seeds is left out.
    """
    from statsmodels.stats.power import TTestPower  # slow to import

    values, less = (correct_by_seed(seeds).values.mean(axis=0) for seeds in (network, baseline))
    difference = values - less
    if not difference.mean():
        return np.inf
    if not difference.std():
        return 2.0
    effect = abs(difference.mean()) / difference.std(ddof=1)
    asymptotic = ((Z + stats.norm.ppf(power)) / effect) ** 2
    if asymptotic > 10_000:  # where t is normal, and statsmodels' search does not always converge
        return float(np.ceil(asymptotic))
    return float(np.ceil(TTestPower().solve_power(effect, alpha=1 - CONFIDENCE, power=power)))


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """The rank correlation of two rows of numbers; NaN where either is constant."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.nan
    return float(np.corrcoef(stats.rankdata(a), stats.rankdata(b))[0, 1])


def check_same_items(a: Scores, b: Scores) -> None:
    """Raise R21DError if two runs were not evaluated on the same items and classes."""
    same = np.array_equal(a.videos, b.videos) and np.array_equal(a.labels, b.labels)
    if not same or a.classes != b.classes:
        raise R21DError(
            f"two runs were evaluated on different videos ({len(a.videos)} items of {a.protocol.get('data')}, "
            f"{len(b.videos)} of {b.protocol.get('data')}); compare runs of one manifest, split and task"
        )


def _percent(mean: float, low: float, high: float, splits: Sequence[Outcomes], p: float = np.nan) -> Estimate:
    return Estimate(100 * mean, 100 * low, 100 * high, sum(len(split.videos) for split in splits), p)


def _resample_mean(values: np.ndarray, weights: np.ndarray, random: np.random.Generator) -> float:
    """The mean of `values` (seeds, videos) over as many seeds, drawn at random, and over videos with `weights`."""
    seeds = random.integers(len(values), size=len(values))
    return (values @ weights)[seeds].sum() / values.size


def _permutation_p(difference: np.ndarray) -> float:
    better, worse = (difference > 0).sum(), (difference < 0).sum()
    if better + worse == 0:
        return 1.0
    if np.isin(difference, (-1, 0, 1)).all():
        return float(mcnemar_p(better, worse))
    swapped = stats.permutation_test(
        (difference, np.zeros_like(difference)),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=1000,
        rng=0,
    )
    return float(swapped.pvalue)
