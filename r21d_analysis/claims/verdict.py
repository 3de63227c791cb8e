"""The verdict on a claim, and how an interval decides it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.special import stdtrit

from r21d_analysis.artifacts.confirmatory import CLOSE, is_close
from r21d_analysis.statistics.inference import UPPER, Estimate
from r21d_analysis.style import QUESTIONS
from r21d_core.study.experiments import SPLIT

SUPPORTED, DIRECTION, REFUTED, INCONCLUSIVE = "supported", "direction only", "refuted", "inconclusive"
UNTESTED = "not tested"  # a claim without the runs that it needs
ACTION = "action"  # the task of all claims, where they do not say otherwise
# Where the interval of the advantage that a claim gives a reason for does not lie above zero.
NOTHING = "no clear advantage over R3D to explain"

Region = tuple[float, float]  # the open interval of effects that a claim states
ABOVE: Region = (0, np.inf)
ABOUT: Region = (-1, 1)  # "similar", "almost as good": within a point
NOT_BELOW: Region = (-1, np.inf)  # "match", said of networks with fewer parameters: no worse by more than a point


@dataclass(frozen=True)
class Verdict:
    """The answer; the effect in `unit` with its 95 % interval; what was compared, and the reason.

    DIRECTION: the effect has the stated sign, but the stated size lies outside the interval. CLOSE: the interval holds
    zero, lies within 3 points of it, and excludes the paper's effect.
    """

    answer: str
    effect: float = np.nan
    low: float = np.nan
    high: float = np.nan
    n: int = 0  # recordings, or what else groups are; runs where the effect is a number of a run
    why: str = ""
    unit: str = "points"
    protocol: dict[str, str] = field(default_factory=dict)  # of the networks, as of `describe_protocol`
    compared: str = ""  # of several comparisons that must all hold the one whose effect it is
    paper_size: str = ""  # whether the interval excludes the size that the paper states, as of `describe_size`
    premise: str = ""  # of a claim that gives a reason: that what it explains was not found, as NOTHING has it
    of: str = ""  # what `n` counts
    status: str = ""  # of a verdict by runs: confirmatory or exploratory, and whether seeds were seen before
    evidence: tuple[Verdict, ...] = ()  # of the first setting of each `source`, this one's without its `evidence`
    other_settings: str = ""  # what other complete settings in the records answer

    @property
    def data_set(self) -> str:
        """The data set without its splits; "" without a protocol."""
        return SPLIT.sub("", self.protocol.get("data", "").partition(",")[0])

    @property
    def source(self) -> str:
        """The data set with the task, where that is not to recognize actions, such as `ucf101-14, playback rate`."""
        return self.data_set + self.question

    @property
    def question(self) -> str:
        """The task in words after a comma; "" for actions and without a protocol."""
        task = self.protocol.get("task", ACTION)
        return f", {QUESTIONS[task]}" if task != ACTION else ""


def decide(low: float, high: float, region: Region) -> str:
    """SUPPORTED if the interval lies within `region`, REFUTED if wholly outside, else, or if NaN, INCONCLUSIVE."""
    if region[0] < low and high < region[1]:
        return SUPPORTED
    return REFUTED if high < region[0] or low > region[1] else INCONCLUSIVE


def decide_bonferroni(estimate: Estimate, region: Region, comparisons: int) -> str:
    """`decide` for one of several comparisons that must all hold; to refute one, its interval is widened.

    INCONCLUSIVE for one seed, whose interval does not show the variance over seeds.
    """
    if estimate.seeds < 2:
        return INCONCLUSIVE
    answer = decide(estimate.low, estimate.high, region)
    if answer != REFUTED or comparisons == 1:
        return answer
    factor = stdtrit(estimate.df, 1 - (1 - UPPER) / comparisons) / stdtrit(estimate.df, UPPER)
    half = float(factor) * (estimate.high - estimate.value)
    return REFUTED if decide(estimate.value - half, estimate.value + half, region) == REFUTED else INCONCLUSIVE


def decide_size(answer: str, low: float, high: float, size: float | None) -> str:
    """DIRECTION instead of SUPPORTED where the paper's size lies outside the interval."""
    misses = size is not None and not low <= size <= high
    return DIRECTION if answer == SUPPORTED and misses else answer


def decide_close(answer: str, low: float, high: float, effect: float | None) -> str:
    """CLOSE instead of INCONCLUSIVE where `is_close` and the interval lacks the paper's `effect`, if it prints one.

    An interval that holds the paper's effect too says nothing against the claim.
    """
    holds = effect is not None and low <= effect <= high
    return CLOSE if answer == INCONCLUSIVE and is_close(low, high) and not holds else answer


def describe_size(low: float, high: float, size: float | None) -> str:
    """Whether the interval excludes the paper's size, such as `3.8 excluded`; "" without a size or an interval."""
    if size is None or np.isnan(low):
        return ""
    return f"{size:.1f} {'not excluded' if low <= size <= high else 'excluded'}"
