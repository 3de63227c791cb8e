"""The verdict on a claim, and how an interval decides it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from r21d_analysis.statistics.bootstrap import Estimate, Z

SUPPORTED, REFUTED, INCONCLUSIVE = "supported", "refuted", "inconclusive"

Region = tuple[float, float]  # the open interval of effects that a claim states
ABOVE: Region = (0, np.inf)
ABOUT: Region = (-1, 1)  # "similar", "almost as good": within a point
NOT_BELOW: Region = (-1, np.inf)


@dataclass(frozen=True)
class Verdict:
    """SUPPORTED, REFUTED or INCONCLUSIVE; the effect in `unit` with its 95 % interval, and the reason."""

    answer: str
    effect: float = np.nan
    low: float = np.nan
    high: float = np.nan
    n: int = 0  # videos, or runs where the effect is a number of a run
    why: str = ""
    unit: str = "points"


def decide(low: float, high: float, region: Region) -> str:
    """SUPPORTED if the interval lies within `region`, REFUTED if wholly outside, else, or if NaN, INCONCLUSIVE."""
    if region[0] < low and high < region[1]:
        return SUPPORTED
    return REFUTED if high < region[0] or low > region[1] else INCONCLUSIVE


def decide_bonferroni(estimate: Estimate, region: Region, comparisons: int) -> str:
    """`decide` for one of several comparisons that must all hold; to refute one, its interval is widened."""
    value, low, high = estimate[:3]
    if decide(low, high, region) == SUPPORTED:
        return SUPPORTED
    factor = float(stats.norm.ppf(1 - 0.025 / comparisons)) / Z
    wide = value - factor * (value - low), value + factor * (high - value)
    return REFUTED if decide(*wide, region) == REFUTED else INCONCLUSIVE
