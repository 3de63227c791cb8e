"""Groups runs that differ in their seed alone: the rows of every table and the points of every figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from r21d_analysis.statistics.bootstrap import Estimate, correct_by_seed, estimate_mean
from r21d_core.models.cost import Cost, spec_cost
from r21d_core.runs.metrics import clip_at_1, video_at
from r21d_core.runs.run import Run
from r21d_core.runs.scores import Scores
from r21d_core.study.spec import Spec

NOT_RUN = "not run"  # in the column `seeds`


@dataclass(frozen=True)
class SeedGroup:
    """The finished runs of one Spec, one for each seed, and their scores. Accuracies are in per cent."""

    spec: Spec  # of the first seed
    runs: tuple[Run, ...]
    scores: tuple[Scores, ...]
    requested: int = 0  # the runs that were asked for, finished or not; 0 where that is not known

    @property
    def clip_at_1(self) -> float:
        """clip@1, the mean over seeds."""
        return 100 * float(np.mean([clip_at_1(scores) for scores in self.scores]))

    def video_at(self, k: int) -> float:
        """video@k, the mean over seeds."""
        return 100 * float(np.mean([video_at(scores, k) for scores in self.scores]))

    @cached_property
    def accuracy(self) -> Estimate:
        """video@1 with its 95 % interval."""
        return estimate_mean([correct_by_seed(self.scores)])

    @property
    def seeds(self) -> str:
        """How many seeds are finished, such as "2", or "2 of 3" where more were requested."""
        count = len(self.runs)
        return f"{count} of {self.requested}" if self.requested > count else str(count)

    @property
    def seed_range(self) -> tuple[float, float]:
        """The lowest and the highest video@1 of a seed."""
        accuracies = [100 * video_at(scores, 1) for scores in self.scores]
        return min(accuracies), max(accuracies)

    def mean(self, key: str) -> float:
        """The mean over the runs of a number in their summaries; NaN where a run has none."""
        values = [run.summary[key] for run in self.runs]
        return float(np.mean([np.nan if value is None else value for value in values]))


def group_by_seed(runs: Sequence[Run]) -> list[SeedGroup]:
    """The finished runs among `runs`, grouped over seeds, in order of first appearance."""
    return [group for _, group in group_all(runs) if group]


def group_all(runs: Sequence[Run]) -> list[tuple[Spec, SeedGroup | None]]:
    """Every Spec among `runs`, in order of first appearance, with its SeedGroup.

    That is None where none of its runs is finished. The list is empty where no run at all is finished.
    """
    members: dict[Spec, list[Run]] = {}
    for run in runs:
        members.setdefault(run.spec.replace(seed=0), []).append(run)
    groups = []
    for spec, requested in members.items():
        done = tuple(run for run in requested if run.is_complete)
        scores = tuple(run.scores for run in done)
        groups.append((spec, SeedGroup(done[0].spec, done, scores, len(requested)) if done else None))
    return groups if any(group for _, group in groups) else []


def cost_like(spec: Spec, groups: Sequence[tuple[Spec, SeedGroup | None]]) -> Cost:
    """The Cost of a network that was not run, with the number of classes of those in `groups` that were."""
    return spec_cost(spec, next(len(group.scores[0].classes) for _, group in groups if group))
