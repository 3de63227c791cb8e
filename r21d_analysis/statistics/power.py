"""The power of a test: which difference it finds, and how many recordings it needs for one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.special import nctdtrinc, stdtrit

from r21d_analysis.statistics.inference import UPPER, Estimate

POWER = 0.8  # of the tests in `detectable_difference` and `required_recordings`
COUNTS = np.unique(np.geomspace(2, 1e12, 2000).astype(np.int64))  # of recordings that `required_recordings` tries first
BLOCK = 50  # of COUNTS tried at once: a power takes some 20 µs, and most tests need few recordings


def detectable_difference(estimate: Estimate, tests: int = 1) -> float:
    """The smallest true difference that a test like this one, one of a family of `tests`, finds with the power POWER.

    It is found at 5 % after Bonferroni's correction, so by Holm's method too, whatever the others are. The variance is
    the estimate's, as if it were known.
    """
    return float(_standard_errors(estimate.df, tests) * np.sqrt(estimate.recording_variance + estimate.seed_part))


def family_power(estimates: Sequence[Estimate]) -> list[float]:
    """`detectable_difference` of each estimate in the family of those that are tested.

    NaN for the others, and for those without an interval, such as of equal results.
    """
    tests = sum(estimate.tested for estimate in estimates)
    return [detectable_difference(e, tests) if e.tested and not np.isnan(e.low) else np.nan for e in estimates]


def describe_power(points: Iterable[float]) -> str:
    """The range of the differences that tests detect, NaN for none, such as `2.6 to 4.2 points`; empty without one.

    No difference of accuracies is over 100 points, so there the largest is not named.
    """
    found = sorted(value for value in points if not np.isnan(value))
    ends = [f"{value:.1f}" if value <= 100 else "over 100" for value in found[:: len(found) - 1 or 1]]
    return f"{' to '.join(dict.fromkeys(ends))} points" if found else ""


def required_recordings(estimate: Estimate, tests: int = 1) -> float:
    """The fewest recordings that show a difference as large as the estimate, with as many seeds.

    The estimate is of one stratum. inf where no number does, as with many recordings the few degrees of freedom are
    those of the seeds alone, or where nothing varies.
    """
    clustered, seed_part, recordings = estimate.recording_variance, estimate.seed_part, estimate.recordings
    if clustered + seed_part <= 0:
        return np.inf
    # The part of the seeds in the denominator of Satterthwaite's degrees of freedom.
    seeds = max(0.0, (clustered + seed_part) ** 2 / estimate.df - clustered**2 / (recordings - 1)) if seed_part else 0.0

    def shows(count: int | np.ndarray) -> np.ndarray:
        of_recordings = clustered * recordings / count
        variance = of_recordings + seed_part
        df = np.maximum(1, variance**2 / (of_recordings**2 / (count - 1) + seeds))
        return np.asarray(_standard_errors(df, tests) * np.sqrt(variance) <= abs(estimate.value))

    for start in range(0, len(COUNTS), BLOCK):
        if (enough := shows(COUNTS[start : start + BLOCK])).any():
            first = start + int(enough.argmax())
            between = range(int(COUNTS[max(first - 1, 0)]), int(COUNTS[first]))
            return float(between.start + bisect_left(between, True, key=shows))
    return np.inf


def _standard_errors(df: float | np.ndarray, tests: int) -> np.ndarray:
    """The standard errors in the smallest difference that one of a family of `tests` finds with the power POWER."""
    return nctdtrinc(df, 1 - POWER, stdtrit(df, 1 - (1 - UPPER) / tests))  # of the noncentral t
