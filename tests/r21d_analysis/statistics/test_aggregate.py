"""Groups of seeds: the runs of two networks that are compared with each other."""

from pathlib import Path

import numpy as np
import pytest

from r21d_analysis.statistics.aggregate import SeedGroup, on_shared_seeds
from r21d_core.runs.run import Run
from tests.networks import TINY
from tests.runs import random_scores


def group_of(*seeds):
    runs = tuple(Run(TINY.replace(seed=seed), Path(f"seed-{seed}")) for seed in seeds)
    scores = tuple(random_scores(seed, list("abcd"), ("x", "y"), {}) for seed in seeds)
    return SeedGroup(runs[0].spec, runs, scores, peers=[object()])


@pytest.mark.parametrize(("ours", "theirs", "shared"), [((2, 0, 1), (3, 1, 2), [1, 2]), ((0,), (1,), [])])
def test_shared_seeds_are_paired_in_order_with_their_own_scores(ours, theirs, shared):
    pair = group_of(*ours), group_of(*theirs)
    for before, after in zip(pair, on_shared_seeds(*pair), strict=True):
        assert [run.spec.seed for run in after.runs] == shared and after.peers == []
        for run, scores in zip(after.runs, after.scores, strict=True):
            np.testing.assert_array_equal(scores.logits, before.scores[before.runs.index(run)].logits)
