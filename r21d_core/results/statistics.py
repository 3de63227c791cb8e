"""How sure one can be: intervals over videos, and two networks compared on the same videos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from r21d_core import R21DError
from r21d_core.records.scores import Scores
from r21d_core.results.metrics import video_correct

RESAMPLES = 9_999
CONFIDENCE = 0.95


def per_video(correct: np.ndarray, videos: np.ndarray) -> np.ndarray:
    """The mean of `correct` (items,) over each video's items, in the order of the videos' names.

    Items of one video (a clip at four speeds, a network of three seeds) are no independent witnesses; videos are.
    """
    _, number = np.unique(videos, return_inverse=True)
    return np.bincount(number, correct) / np.bincount(number)


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % bootstrap interval, by percentiles, of the mean of `values` (n,), one a video."""
    if len(values) < 2:
        return (np.nan, np.nan)
    result = stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile", batch=1000, rng=0
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def seed_mean(seeds: Sequence[Scores]) -> tuple[np.ndarray, np.ndarray]:
    """How often each video was right over its items and over the seeds of one network, and the videos' names.

    Raises R21DError if the seeds were not evaluated on the same items.
    """
    for scores in seeds[1:]:
        _expect_same_items(seeds[0], scores)
    correct = np.mean([video_correct(scores) for scores in seeds], axis=0)
    return per_video(correct, seeds[0].videos), np.unique(seeds[0].videos)


def compare(one: Sequence[Scores], other: Sequence[Scores]) -> dict[str, float]:
    """`one` against `other`, each the scores of one network's seeds, video by video on the same items.

    Gives `difference` in video@1, its 95 % paired bootstrap interval `low`, `high`, the number of videos `n` and `p`,
    two-sided: McNemar's exact test where a video is right or wrong, else its generalisation, random swaps of the two
    networks' results on a video. Seeds are averaged first, so p speaks of these networks, not of others like them.
    """
    _expect_same_items(one[0], other[0])
    difference = seed_mean(one)[0] - seed_mean(other)[0]
    low, high = interval(difference)
    return {
        "difference": float(difference.mean()),
        "low": low,
        "high": high,
        "p": _p_of(difference),
        "n": len(difference),
    }


def holm(p: Sequence[float]) -> np.ndarray:
    """`p` values corrected for their number by Holm's method."""
    from statsmodels.stats.multitest import multipletests  # slow to import

    return multipletests(p, method="holm")[1] if len(p) else np.array([])


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


def _expect_same_items(one: Scores, other: Scores) -> None:
    same = np.array_equal(one.videos, other.videos) and np.array_equal(one.labels, other.labels)
    if not same or one.classes != other.classes:
        raise R21DError(
            f"two runs were evaluated on different videos ({len(one.videos)} items of {one.protocol.get('data')}, "
            f"{len(other.videos)} of {other.protocol.get('data')}); compare runs of one manifest, split and task"
        )
