"""Runs that differ only in their seed, taken together: the rows of every table and the points of every figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r21d_analysis.statistics.inference import bootstrap_ci, correct_by_seed
from r21d_core.models.cost import Cost, spec_cost
from r21d_core.runs.metrics import clip_at_1, video_at
from r21d_core.runs.run import Run
from r21d_core.runs.scores import Scores
from r21d_core.study.spec import Spec

NOT_RUN = "not run"  # stands for the seeds of a network of which no run is finished


@dataclass(frozen=True)
class SeedGroup:
    """One network under one recipe: its finished runs, a seed each, and their scores. Accuracies are in per cent."""

    spec: Spec  # of the first seed
    runs: tuple[Run, ...]
    scores: tuple[Scores, ...]
    asked: int = 0  # the runs asked for, finished or not, where that is known

    @property
    def clip_at_1(self) -> float:
        return 100 * float(np.mean([clip_at_1(scores) for scores in self.scores]))

    def video_at(self, k: int) -> float:
        return 100 * float(np.mean([video_at(scores, k) for scores in self.scores]))

    @property
    def interval(self) -> tuple[float, float]:
        """Of video@1: 95 %, by a bootstrap over the test videos and the seeds."""
        low, high = bootstrap_ci(correct_by_seed(self.scores))
        return 100 * low, 100 * high

    @property
    def seeds(self) -> str:
        """How many are finished, such as "2", or "2 of 3" where more were asked for."""
        done = len(self.runs)
        return f"{done} of {self.asked}" if self.asked > done else str(done)

    @property
    def seed_range(self) -> tuple[float, float]:
        """The lowest and the highest video@1 of a seed."""
        each = [100 * video_at(scores, 1) for scores in self.scores]
        return min(each), max(each)

    def mean(self, key: str) -> float:
        """The mean over the runs of a number in their summaries; NaN where one has none."""
        return float(np.mean([run.summary[key] if run.summary[key] is not None else np.nan for run in self.runs]))


def group_by_seed(runs: Sequence[Run]) -> list[SeedGroup]:
    """The finished runs among `runs`, seeds together, in the order in which their networks come first."""
    return [one for _, one in group_all(runs) if one]


def group_all(runs: Sequence[Run]) -> list[tuple[Spec, SeedGroup | None]]:
    """Every network among `runs`, in the order in which they come first, and what was measured of it.

    That is None where none of its runs is finished; where no run of any network is, the list is empty.
    """
    groups: dict[Spec, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.spec.replace(seed=0), []).append(run)
    found = []
    for spec, members in groups.items():
        done = tuple(run for run in members if run.is_complete)
        scores = tuple(run.scores for run in done)
        found.append((spec, SeedGroup(done[0].spec, done, scores, len(members)) if done else None))
    return found if any(one for _, one in found) else []


def cost_here(spec: Spec, networks: Sequence[tuple[Spec, SeedGroup | None]]) -> Cost:
    """By arithmetic, of a network that was not run, with the classes of one of the `networks` that was."""
    return spec_cost(spec, next(len(one.scores[0].classes) for _, one in networks if one))
