"""How sure one can be: intervals over videos, and two networks compared on the same videos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from r21d_core import R21DError
from r21d_core.runs.metrics import video_correct
from r21d_core.runs.scores import Scores

RESAMPLES = 9_999
CONFIDENCE = 0.95


def per_video(correct: np.ndarray, videos: np.ndarray) -> np.ndarray:
    """The mean of `correct` (items,) over each video's items, in the order of the videos' names.

    Items of one video, such as a clip at four speeds, are no independent witnesses; videos are.
    """
    _, number = np.unique(videos, return_inverse=True)
    return np.bincount(number, correct) / np.bincount(number)


def correct_by_seed(seeds: Sequence[Scores]) -> np.ndarray:
    """How often each seed of one network was right on each video, (seeds, videos).

    Raises R21DError if the seeds were not evaluated on the same items.
    """
    for scores in seeds[1:]:
        expect_same_items(seeds[0], scores)
    return np.array([per_video(video_correct(scores), scores.videos) for scores in seeds])


def bootstrap_ci(values: np.ndarray, less: np.ndarray | None = None) -> tuple[float, float]:
    """The 95 % interval of the mean of `values` (seeds, videos), less that of `less` on the same videos if given.

    By a bootstrap over videos and over seeds, percentiles of RESAMPLES: a video drawn is drawn for all seeds and both
    networks. With one seed it knows nothing of the luck of the seed, and with two or three it says too little of it.
    """
    return bootstrap_ci_splits([(values, less)])


def bootstrap_ci_splits(splits: Sequence[tuple[np.ndarray, np.ndarray | None]]) -> tuple[float, float]:
    """The 95 % interval of the mean over splits of what `interval` says of each, given as `values` and `less`.

    Videos and seeds are drawn within each split, whose networks are trained for themselves. A video that is tested in
    several splits, as some of HMDB51's are, is drawn in each for itself, which makes the interval a little narrow.
    """
    random = np.random.default_rng(0)
    if min(values.shape[1] for values, _ in splits) < 2:
        return np.nan, np.nan
    means = np.zeros(RESAMPLES)
    for values, less in splits:
        videos = values.shape[1]
        for number in range(RESAMPLES):
            drawn = np.bincount(random.integers(videos, size=videos), minlength=videos).astype(float)
            means[number] += _mean(values, drawn, random) - (0 if less is None else _mean(less, drawn, random))
    low, high = np.quantile(means / len(splits), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def compare(one: Sequence[Scores], other: Sequence[Scores]) -> dict[str, float]:
    """`one` against `other`, each the scores of one network's seeds, video by video on the same items.

    Gives `difference` in video@1, its paired interval `low`, `high`, the number of `videos`, and `p`, two-sided over
    videos: McNemar's exact test where a video is right or wrong, else its generalisation, random swaps of the two
    networks' results on a video. Seeds are averaged for p, so it speaks of these networks, not of others trained alike.
    """
    return compare_splits([(one, other)])


def compare_splits(
    splits: Sequence[tuple[Sequence[Scores], Sequence[Scores]]], *, same_weights: bool = False
) -> dict[str, float]:
    """`compare` over several splits, a pair each: differences are means over splits, each of which counts alike.

    `same_weights` says that the first of a pair is made of the other's very networks, seed by seed, as two streams are
    of each: then a seed drawn is drawn for both. `videos` are counted in every split that tests them.
    """
    pairs = []
    for one, other in splits:
        expect_same_items(one[0], other[0])
        pairs.append((correct_by_seed(one), correct_by_seed(other)))
    low, high = bootstrap_ci_splits([(values - less, None) for values, less in pairs] if same_weights else pairs)
    differences = [values.mean(axis=0) - less.mean(axis=0) for values, less in pairs]
    count = sum(map(len, differences))
    # Over all videos at once, each weighted so that splits count alike; what several splits test is swapped together.
    weighted = np.concatenate([count / (len(splits) * len(one)) * one for one in differences])
    names = np.concatenate([np.unique(one[0].videos) for one, _ in splits])
    _, number = np.unique(names, return_inverse=True)
    return {
        "difference": float(np.mean([one.mean() for one in differences])),
        "low": low,
        "high": high,
        "p": _p_of(np.bincount(number, weighted)),
        "videos": count,
    }


def required_sample_size(one: Sequence[Scores], other: Sequence[Scores], power: float = 0.8) -> float:
    """How many test videos would show a difference as large as was found, at 5 % and with `power`; inf if it is none.

    By the paired t-test's power, from how much the difference varies over videos; more seeds are another matter.
    """
    from statsmodels.stats.power import TTestPower  # slow to import

    difference = correct_by_seed(one).mean(axis=0) - correct_by_seed(other).mean(axis=0)
    if not difference.mean():
        return np.inf
    if not difference.std():
        return 2.0
    effect = abs(difference.mean()) / difference.std(ddof=1)
    many = ((stats.norm.ppf(1 - (1 - CONFIDENCE) / 2) + stats.norm.ppf(power)) / effect) ** 2
    if many > 10_000:  # where t is normal, and statsmodels' search does not always converge
        return float(np.ceil(many))
    return float(np.ceil(TTestPower().solve_power(effect, alpha=1 - CONFIDENCE, power=power)))


def holm(p: Sequence[float]) -> np.ndarray:
    """`p` values corrected for their number by Holm's method."""
    # Not by statsmodels, which collects the garbage of the whole process each time: too slow for a widget.
    p, corrected = np.asarray(p, float), np.empty(len(p))
    order = np.argsort(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """The rank correlation of two rows of numbers; NaN where either is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return np.nan
    return float(np.corrcoef(stats.rankdata(one), stats.rankdata(other))[0, 1])


def _p_of(difference: np.ndarray) -> float:
    better, worse = (difference > 0).sum(), (difference < 0).sum()
    if better + worse == 0:
        return 1.0
    if np.isin(difference, (-1, 0, 1)).all():
        return float(stats.binomtest(int(better), int(better + worse)).pvalue)
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


def _mean(values: np.ndarray, drawn: np.ndarray, random: np.random.Generator) -> float:
    """The mean over as many seeds as there are, at random, each video as often as `drawn` says."""
    seeds = random.integers(len(values), size=len(values))
    return (values @ drawn)[seeds].sum() / values.size


def expect_same_items(one: Scores, other: Scores) -> None:
    """Raise R21DError if two runs were not evaluated on the same items and classes."""
    same = np.array_equal(one.videos, other.videos) and np.array_equal(one.labels, other.labels)
    if not same or one.classes != other.classes:
        raise R21DError(
            f"two runs were evaluated on different videos ({len(one.videos)} items of {one.protocol.get('data')}, "
            f"{len(other.videos)} of {other.protocol.get('data')}); compare runs of one manifest, split and task"
        )
