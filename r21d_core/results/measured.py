"""Runs that differ only in their seed, taken together: the rows of every table and the points of every figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r21d_core.records.run import Run
from r21d_core.records.scores import Scores
from r21d_core.results.metrics import clip_at_1, video_at
from r21d_core.results.statistics import by_seed, interval
from r21d_core.study.spec import Spec


@dataclass(frozen=True)
class Measured:
    """One network under one recipe: its finished runs, a seed each, and their scores. Accuracies are in per cent."""

    spec: Spec  # of the first seed
    runs: tuple[Run, ...]
    scores: tuple[Scores, ...]

    @property
    def clip_at_1(self) -> float:
        return 100 * float(np.mean([clip_at_1(scores) for scores in self.scores]))

    def video_at(self, k: int) -> float:
        return 100 * float(np.mean([video_at(scores, k) for scores in self.scores]))

    @property
    def interval(self) -> tuple[float, float]:
        """Of video@1: 95 %, by a bootstrap over the test videos and the seeds."""
        low, high = interval(by_seed(self.scores))
        return 100 * low, 100 * high

    @property
    def seed_range(self) -> tuple[float, float]:
        """The lowest and the highest video@1 of a seed."""
        each = [100 * video_at(scores, 1) for scores in self.scores]
        return min(each), max(each)

    def mean(self, key: str) -> float:
        """The mean over the runs of a number in their summaries; NaN where one has none."""
        return float(np.mean([run.summary[key] if run.summary[key] is not None else np.nan for run in self.runs]))


def measured(runs: Sequence[Run]) -> list[Measured]:
    """The finished runs among `runs`, seeds together, in the order in which their networks come first."""
    groups: dict[Spec, list[Run]] = {}
    for run in runs:
        if run.done:
            groups.setdefault(run.spec.but(seed=0), []).append(run)
    return [Measured(found[0].spec, tuple(found), tuple(run.scores for run in found)) for found in groups.values()]
