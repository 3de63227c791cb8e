"""What the evidence says to a claim: a verdict, and how an interval decides it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

SUPPORTED, REFUTED, INCONCLUSIVE = "holds", "does not hold", "too little evidence"

Region = tuple[float, float]
ABOVE: Region = (0, np.inf)
ABOUT: Region = (-1, 1)  # "similar", "almost as good": within a point either way
NOT_BELOW: Region = (-1, np.inf)


@dataclass(frozen=True)
class Verdict:
    """What the evidence says: one of HOLDS, FAILS, OPEN; the effect in `unit` with its 95 % interval, and why."""

    answer: str
    effect: float = np.nan
    low: float = np.nan
    high: float = np.nan
    n: int = 0
    why: str = ""
    unit: str = "points"


def decide(low: float, high: float, region: Region) -> str:
    """HOLDS if the interval lies within the region claimed, FAILS if wholly outside, else OPEN; NaN is OPEN."""
    if region[0] < low and high < region[1]:
        return SUPPORTED
    return REFUTED if high < region[0] or low > region[1] else INCONCLUSIVE


def decide_bonferroni(effect: float, low: float, high: float, region: Region, comparisons: int) -> str:
    """`decide` for one of so many comparisons that all have to hold; for one that fails the interval is stretched."""
    stretch = stats.norm.ppf(1 - 0.025 / comparisons) / stats.norm.ppf(0.975)
    wide = effect - stretch * (effect - low), effect + stretch * (high - effect)
    if decide(low, high, region) == SUPPORTED:
        return SUPPORTED
    return REFUTED if decide(*wide, region) == REFUTED else INCONCLUSIVE
